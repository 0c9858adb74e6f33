//! The outer connection of a jump (ssh(1), `-J`): it carries connections to
//! targets, each with an SSH server of ours at its end, and reaches nothing.
//!
//! What a client names in a `direct-tcpip` channel is only ever looked up in
//! the inventory. Nothing is dialled for an outer connection, and no byte of it
//! goes anywhere but into an inner server.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use russh::server::{ChannelOpenHandle, Handle, Msg};
use russh::{Channel as RusshChannel, ChannelId, ChannelOpenFailure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Gate;
use super::authentication::Door;
use super::channels::{SHARED_BYTES, TRICKLE_BYTES};
use super::gated::Kill;
use super::inlet::Carried;
use super::listen::{self, Served};
use super::opening::bounded;
use super::pipe::{Pipe, WINDOW_BYTES};
use crate::kernel::admit::Passage;
use crate::kernel::grant::{Grant, WallMs};
use crate::kernel::id::{IdentityName, TargetName};
use crate::kernel::jump::Asked;

/// A refused `direct-tcpip` is refused by what it names (RFC 4254 section 5.1,
/// `SSH_OPEN_ADMINISTRATIVELY_PROHIBITED`).
const PROHIBITED: u32 = 1;
/// How long a channel open waits for another to end.
const PLACE_WAIT: Duration = Duration::from_secs(3);
/// How often an outer connection looks at the clock and at the lease.
const LOOK_EACH: Duration = Duration::from_secs(10);
/// How long the sessions inside have to say why they end, before the outer
/// connection that carries them does.
const FALL_WAIT: Duration = Duration::from_millis(500);
/// How long the reason may take to be sent.
const GOODBYE: Duration = Duration::from_millis(50);

/// What a connection inside knows of the outer one.
#[derive(Clone)]
pub struct Through {
    /// Where it leads, whatever it asks for.
    pub target: TargetName,
    /// Whose outer connection it is.
    pub identity: IdentityName,
    outer: Kill,
}

impl Through {
    /// A session inside was cut: so is what carries it. What is on its way
    /// would arrive otherwise, whenever the client reads again; others that the
    /// same outer connection carries have to come again.
    pub fn cut(&self) {
        self.outer.fire();
    }
}

/// The connections inside, by the channel that carries them.
#[derive(Clone, Default)]
struct Pipes(Arc<Mutex<HashMap<ChannelId, (Pipe, Kill)>>>);

impl Pipes {
    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, (Pipe, Kill)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, id: ChannelId) -> Option<(Pipe, Kill)> {
        self.lock().get(&id).cloned()
    }

    /// The window target, asked when `id` has used up half of its own. As for
    /// channels of a session, one that is stalled slows its siblings, and no
    /// more than that.
    fn window(&self, id: ChannelId) -> u32 {
        let pipes = self.lock();
        if !pipes.values().any(|(pipe, _)| pipe.stalled()) {
            return WINDOW_BYTES;
        }
        let this = pipes.get(&id).is_some_and(|(pipe, _)| pipe.stalled());
        match this {
            true if pipes.len() == 1 => TRICKLE_BYTES,
            true | false => SHARED_BYTES,
        }
    }
}

/// One outer connection.
pub struct Outer {
    gate: Arc<Gate>,
    peer: IpAddr,
    kill: Kill,
    base: Served,
    passage: Passage,
    client: Handle,
    pipes: Pipes,
    /// Channels on which something was started.
    started: Mutex<HashSet<ChannelId>>,
}

impl Outer {
    /// An outer connection that falls by itself when its holder has no live
    /// grant any more.
    pub fn open(
        gate: Arc<Gate>,
        peer: IpAddr,
        kill: Kill,
        base: Served,
        passage: Passage,
        client: Handle,
    ) -> Arc<Outer> {
        let outer = Arc::new(Outer {
            gate,
            peer,
            kill,
            base,
            passage,
            client,
            pipes: Pipes::default(),
            started: Mutex::default(),
        });
        tokio::spawn(outer.clone().watch());
        tokio::spawn(outer.clone().note());
        outer
    }

    /// Who holds it.
    pub fn passage(&self) -> &Passage {
        &self.passage
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub fn kill(&self) -> &Kill {
        &self.kill
    }

    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Its own leaf: it has no recording.
    async fn note(self: Arc<Self>) {
        let body = serde_json::json!({
            "identity": self.passage.identity(), "source": self.peer,
            "certificate_sha256": crate::kernel::grant::hex32::encode(&self.passage.certificate_sha256()),
            "until_ms": self.passage.until_ms(),
        });
        if let Err(error) = self.gate.ledger.append_event("jump", body).await {
            tracing::error!(%error, "an outer connection is not in the ledger");
        }
    }

    /// Whether nothing was started on this channel before (RFC 4254 section 6.5).
    pub fn starts(&self, id: ChannelId) -> bool {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        started.insert(id)
    }

    /// A channel to `host`: an inner server answers it, or a refusal in words.
    pub fn jump(
        self: &Arc<Self>,
        channel: RusshChannel<Msg>,
        (host, port): (String, u32),
        places: Arc<Semaphore>,
        reply: ChannelOpenHandle,
    ) {
        let outer = self.clone();
        tokio::spawn(async move {
            let kill = outer.kill.clone();
            kill.guard(outer.serve(channel, (host, port), places, reply)).await;
        });
    }

    async fn serve(
        self: Arc<Self>,
        channel: RusshChannel<Msg>,
        (host, port): (String, u32),
        places: Arc<Semaphore>,
        reply: ChannelOpenHandle,
    ) {
        let Ok(Ok(place)) = tokio::time::timeout(PLACE_WAIT, places.acquire_owned()).await else {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return;
        };
        let found = match Asked::parse(&host, port) {
            Some(asked) => self.find(&asked).await.map(|()| asked),
            None => Err(unreachable(&host)),
        };
        let served = match found {
            Ok(asked) => match self.gate.inner_hosts.get(&self.gate, &self.base, &asked).await {
                Ok(served) => Ok((asked, served)),
                Err(error) => Err(format!("no host certificate for {}: {error}", asked.target())),
            },
            Err(sentence) => Err(sentence),
        };
        let (asked, served) = match served {
            Ok(found) => found,
            Err(reason) => {
                tracing::info!(peer = %self.peer, identity = %self.passage.identity(), reason, "jump refused");
                self.gate.metrics.decision("jump", false);
                self.gate.refused(self.peer, "jump_refused");
                let code = PROHIBITED;
                reply.reject(ChannelOpenFailure::Other { code, reason }).await;
                return;
            }
        };
        self.gate.metrics.decision("jump", true);
        let id = channel.id();
        // Without the read half russh delivers to the handler alone and never
        // parks on a full channel queue.
        let (_, write) = channel.split();
        let (pipe, kill) = (Pipe::default(), self.kill.child());
        self.pipes.lock().insert(id, (pipe.clone(), kill.clone()));
        reply.accept().await;
        let through = Through {
            target: asked.target().clone(),
            identity: self.passage.identity().clone(),
            outer: self.kill.clone(),
        };
        let stream = pipe.stream(write.make_writer());
        inner(self.gate.clone(), served, stream, self.peer, through, kill, place).await;
        self.pipes.lock().remove(&id);
        self.client.close(id).await.ok();
    }

    /// Whether the holder has a live grant there. One answer for a target that
    /// does not exist and for one that is not his.
    async fn find(&self, asked: &Asked) -> Result<(), String> {
        let name = asked.target();
        let now = self.gate.clock.now().wall_ms;
        let target = match self.passage.break_glass() {
            Some(signed) => {
                let mut doors = signed.statement().doors.iter();
                doors
                    .find(|door| door.target.name == *name)
                    .map(|door| door.target.clone())
            }
            None => {
                let away = |_| "grants cannot be checked right now; try again".to_owned();
                let grants = bounded(self.gate.store.grants_of(self.passage.identity(), now))
                    .await
                    .map_err(away)?;
                let usable = |grant: &Grant| {
                    grant.destination.target == *name && grant.live(now).is_ok() && grant.admits_from(self.peer)
                };
                match grants.iter().any(usable) {
                    true => bounded(self.gate.store.target(name)).await.map_err(away)?,
                    false => None,
                }
            }
        };
        match target {
            Some(target) if target.disabled => Err(format!("{name} is disabled")),
            Some(target) if !asked.port_fits(&target) => Err(format!(
                "{name} is not reached at port {}: leave the port out",
                asked.port()
            )),
            Some(_) => Ok(()),
            None => Err(unreachable(name.as_str())),
        }
    }

    /// Bytes of the client for a connection inside.
    pub fn data(&self, id: ChannelId, bytes: &[u8]) {
        let Some((pipe, kill)) = self.pipes.get(id) else {
            return;
        };
        if let Err(error) = pipe.push(bytes) {
            tracing::info!(peer = %self.peer, identity = %self.passage.identity(), %error, "jump closed");
            self.gate.refused(self.peer, error.code());
            kill.fire();
        }
    }

    /// Whether a packet of `length` bytes is a trickle, behind which its
    /// callback may rest.
    pub fn trickles(&self, id: ChannelId, length: usize) -> bool {
        length <= TRICKLE_BYTES as usize && self.pipes.get(id).is_some_and(|(pipe, _)| pipe.stalled())
    }

    /// The client sends no more on this channel.
    pub fn end(&self, id: ChannelId) {
        if let Some((pipe, _)) = self.pipes.get(id) {
            pipe.end();
        }
    }

    /// The client closed this channel.
    pub fn close(&self, id: ChannelId) {
        if let Some((pipe, kill)) = self.pipes.get(id) {
            pipe.end();
            kill.fire();
        }
    }

    /// What [`Pipes::window`] says.
    pub fn window(&self, id: ChannelId) -> u32 {
        self.pipes.window(id)
    }

    /// Falls once the holder has no grant that counts any more.
    async fn watch(self: Arc<Self>) {
        let standing = self.kill.guard(self.stands());
        if standing.await.is_none() {
            return;
        }
        // Those inside are told by themselves, and before.
        self.kill.guard(tokio::time::sleep(FALL_WAIT)).await;
        let reason = "you hold no live grant any more".to_owned();
        let message = self
            .client
            .disconnect(russh::Disconnect::ByApplication, reason, String::new());
        tokio::time::timeout(GOODBYE, message).await.ok();
        tokio::time::sleep(GOODBYE).await;
        self.kill.fire();
    }

    /// Waits for as long as it may stand.
    async fn stands(&self) {
        let mut changes = self.gate.registry.changes();
        loop {
            changes.mark_unchanged();
            let until = self.until().await;
            // Asked again at the end of what holds now, at a change, and before
            // long: a clock that is set is noticed by looking.
            loop {
                let now = self.gate.clock.now().wall_ms;
                let left = Duration::from_millis(until.unwrap_or(0).saturating_sub(now));
                if left.is_zero() {
                    return;
                }
                let wait = tokio::time::timeout(left.min(LOOK_EACH), changes.changed());
                if wait.await.is_ok() || !self.leased() {
                    break;
                }
            }
        }
    }

    /// Whether the store's word, if it stands on that, still holds.
    fn leased(&self) -> bool {
        self.passage.break_glass().is_some() || self.gate.registry.store_alive()
    }

    /// End of the last grant that counts; none if there is none.
    async fn until(&self) -> Option<WallMs> {
        let now = self.gate.clock.now().wall_ms;
        if let Some(signed) = self.passage.break_glass() {
            let installed = self
                .gate
                .break_glass
                .of_certificate(self.passage.certificate_sha256())?;
            let revoked = self.gate.standing(&installed).revoked;
            return (!revoked).then_some(signed.statement().until_ms);
        }
        if !self.leased() {
            return None;
        }
        let who = self.passage.identity();
        let (identity, grants) = tokio::join!(
            bounded(self.gate.store.identity(who)),
            bounded(self.gate.store.grants_of(who, now)),
        );
        let (Ok(identity), Ok(grants)) = (identity, grants) else {
            // The lease says how long that may go on.
            return Some(now.saturating_add(1000));
        };
        identity.filter(|identity| identity.may_hold(now).is_ok())?;
        // A single-use grant that was used still carries its session.
        let counts = |grant: &&Grant| grant.revoked_at_ms.is_none() && grant.from_ms <= now && now < grant.until_ms;
        grants.iter().filter(counts).map(|grant| grant.until_ms).max()
    }
}

fn unreachable(host: &str) -> String {
    let host: String = host.chars().filter(|c| !c.is_control()).take(64).collect();
    format!("you hold no live grant for {host}: ask with `portcullis request LOGIN@{host} --for 30m --reason WHY`")
}

/// Runs an inner server to its end.
///
/// Boxed, because a connection's own future would contain itself otherwise.
fn inner(
    gate: Arc<Gate>,
    served: Served,
    stream: Carried<()>,
    peer: IpAddr,
    through: Through,
    kill: Kill,
    place: OwnedSemaphorePermit,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        listen::serve(&gate, served, stream, peer, Door::Jump(through), None, kill).await;
        drop(place);
    })
}
