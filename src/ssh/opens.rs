//! Opening a channel inside a session, whoever asked for it: a place, a number,
//! policy, the other side, the pumps.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_recording::Event;
use russh::server::{ChannelOpenHandle, Handle};
use russh::{ChannelId, ChannelOpenFailure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::channel::{Carries, Channel};
use super::channels::Channels;
use super::forward::Direct;
use super::gated::Kill;
use super::leg::{Legged, Link};
use super::local;
use super::opening::{self, Opening};
use super::pump::{self, ClientEnd};
use super::requests::CLOSED_WAIT;
use super::session::Live;
use super::target_channel::Dialled;
use super::target_end::TargetEnd;
use crate::kernel::inventory::Reach;
use crate::kernel::policy::Kept;
use crate::kernel::request::Request;

/// How long a channel open waits for another to end: a closed one ends by
/// itself within `CLOSED_WAIT`.
const PLACE_WAIT: Duration = CLOSED_WAIT.saturating_add(Duration::from_secs(1));
/// What the recording of a channel says first of which it keeps digests only.
const AS_DIGEST: &str = "recorded as digests: how many bytes cross, and their SHA-256";
/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254 section 5.1).
const PROHIBITED: u32 = 1;
/// SSH_OPEN_CONNECT_FAILED.
const CONNECT_FAILED: u32 = 2;

/// Not opened, and no other try would do better.
pub fn prohibited(reason: String) -> ChannelOpenFailure {
    let code = PROHIBITED;
    ChannelOpenFailure::Other { code, reason }
}

/// Not opened, in words.
pub fn refused(reason: String) -> ChannelOpenFailure {
    let code = CONNECT_FAILED;
    ChannelOpenFailure::Other { code, reason }
}

/// The client's connection, as far as opening channels goes. Cheap to clone.
#[derive(Clone)]
pub struct ClientSide {
    pub handle: Handle,
    pub channels: Channels,
    /// Channels that may be open at once; each takes one until its pumps end.
    pub places: Arc<Semaphore>,
    /// Cuts the client's stream.
    pub kill: Kill,
}

/// What a client asks to have opened.
pub enum Wanted {
    Program,
    Direct(Direct),
}

impl ClientSide {
    /// Opens what a client asked for and answers it.
    pub async fn answer(
        self,
        mut opening: Opening,
        wanted: Wanted,
        id: ChannelId,
        end: ClientEnd,
        reply: ChannelOpenHandle,
    ) {
        // One that was just closed may still be clearing up.
        let place = tokio::time::timeout(PLACE_WAIT, self.places.clone().acquire_owned());
        let place = match self.kill.guard(place).await {
            Some(Ok(Ok(place))) => place,
            Some(Ok(Err(_)) | Err(_)) => return reply.reject(ChannelOpenFailure::ResourceShortage).await,
            None => return,
        };
        let opened = self.kill.guard(async {
            let live = opening::opened(&mut opening).await.map_err(refused)?;
            live.client.get_or_init(|| self.clone());
            let (channel, target) = match wanted {
                Wanted::Program => live.open_channel().await?,
                Wanted::Direct(direct) => {
                    let (channel, target) = live.open_direct(direct).await?;
                    (channel, TargetEnd::Ssh(target))
                }
            };
            self.channels.insert(id, channel.clone(), end.clone());
            Ok((live, channel, target))
        });
        let (live, channel, target) = match opened.await {
            Some(Ok(opened)) => opened,
            Some(Err(failure)) => return reply.reject(failure).await,
            None => return,
        };
        reply.accept().await;
        // What a target says first is not sent before, nor that it hung up: russh
        // drops what comes for a channel that is not confirmed.
        if live.join(&channel, end, target, place).is_err() {
            channel.stop.fire();
        }
    }
}

impl Live {
    /// Numbers a channel and writes down that it was asked for.
    ///
    /// # Errors
    /// When the session has ended or has had as many as there may be.
    pub(super) fn number(&self, kind: &str, detail: &str) -> Result<u32, ChannelOpenFailure> {
        if self.control.stop.fired() {
            return Err(refused(self.reason().sentence()));
        }
        let number = self.next_channel.fetch_add(1, Ordering::SeqCst);
        if number as usize > self.gate.settings().opens_max {
            return Err(ChannelOpenFailure::ResourceShortage);
        }
        self.record(
            number,
            Event::ChannelOpen {
                kind: kind.into(),
                detail: detail.into(),
            },
        );
        Ok(number)
    }

    /// A channel that was permitted. The recording says now what it will not keep of it.
    pub(super) fn enrol(&self, number: u32, carries: Carries, kept: Kept) -> Arc<Channel> {
        let waiting = match carries {
            Carries::Program => &self.waiting,
            Carries::Forward => &self.waiting_forwards,
        };
        if kept == Kept::Digest {
            self.record(number, Event::Marker { text: AS_DIGEST.into() });
        }
        let channel = Arc::new(Channel::new(
            number,
            (carries, kept),
            self.gate.recorders.spool_folder(),
            waiting.clone(),
            self.control.stop.child(),
        ));
        self.channels().insert(number, (channel.clone(), None));
        channel
    }

    /// Both ends are there: bytes may move.
    ///
    /// # Errors
    /// When the session has ended meanwhile.
    pub(super) fn join(
        self: &Arc<Self>,
        channel: &Arc<Channel>,
        client: ClientEnd,
        end: TargetEnd,
        place: OwnedSemaphorePermit,
    ) -> Result<(), ChannelOpenFailure> {
        if self.control.stop.fired() {
            return Err(refused(self.reason().sentence()));
        }
        let entry = (channel.clone(), Some(client.clone()));
        self.channels().insert(channel.number, entry);
        pump::start(self.clone(), channel.clone(), client, end, place);
        Ok(())
    }

    /// Opens one session channel: policy, and the target's side.
    ///
    /// # Errors
    /// What the client is answered.
    pub async fn open_channel(self: &Arc<Self>) -> Result<(Arc<Channel>, TargetEnd), ChannelOpenFailure> {
        let number = self.number("session", "")?;
        let _permit = self
            .decide(number, Request::Channel, b"", "")
            .map_err(|denial| refused(denial.sentence))?;
        let channel = self.enrol(number, Carries::Program, Kept::Full);
        let opened = self.open_program(&channel).await;
        let end = opened.inspect_err(|_| {
            channel.stop.fire();
            self.retire(&channel);
        })?;
        Ok((channel, end))
    }

    async fn open_program(self: &Arc<Self>, channel: &Arc<Channel>) -> Result<TargetEnd, ChannelOpenFailure> {
        Ok(match &self.target.reach {
            Reach::Local { command, run_as } => TargetEnd::Local(local::LocalEnd::new(
                local::Program {
                    command: command.clone(),
                    run_as: run_as.clone(),
                },
                self.clone(),
                channel.clone(),
            )),
            Reach::Ssh { .. } => {
                let dialled = self.dialled(channel.number, "a further channel").await?;
                let link = Link::new(channel.clone(), self.control.clone(), Legged::Alone);
                TargetEnd::Ssh(dialled.open_program(link).await?)
            }
        })
    }

    /// The target's side of `channel` once more: what ran there did not start.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn again(self: &Arc<Self>, channel: &Arc<Channel>) -> Result<TargetEnd, ChannelOpenFailure> {
        let dialled = self.dialled(channel.number, "the same channel again").await?;
        let link = Link::new(channel.clone(), self.control.clone(), Legged::Alone);
        Ok(TargetEnd::Ssh(dialled.open_program(link).await?))
    }

    /// A target connection for `channel`: the one that is ready, or a fresh one
    /// under a permit of its own.
    ///
    /// # Errors
    /// What the client is answered.
    pub(super) async fn dialled(self: &Arc<Self>, channel: u32, what: &str) -> Result<Dialled, ChannelOpenFailure> {
        let dialled = match self.spare.take() {
            Some(spare) => spare,
            None => {
                let permit = self
                    .decide(channel, Request::Connect, b"", what)
                    .map_err(|denial| refused(denial.sentence))?;
                self.dial(&permit)
                    .await
                    .map_err(|reason| refused(reason.sentence()))?
                    .ok_or_else(|| refused("the target cannot be dialled".to_owned()))?
            }
        };
        dialled.doors.belong_to(self);
        self.refill(channel);
        Ok(dialled)
    }
}
