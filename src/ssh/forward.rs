//! Forwards: channels that carry somebody's connection instead of a program.
//!
//! What a client asks for is relayed to the target, which dials or listens.
//! All forwards of a session share one target connection beside those of its
//! programs; agent and X11 channels come on the connection of the program that
//! they were asked for with. Each is a channel of the session: numbered, put
//! before policy, recorded, stopped with it.

use std::sync::Arc;
use std::time::Duration;

use portcullis_recording::Event;
use russh::client::{self, Msg};
use russh::{Channel as RusshChannel, ChannelOpenFailure, ChannelWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::channel::Carries;
use super::channel::Channel;
use super::doors::{Asked, Asking, Came, Doors};
use super::gated::Kill;
use super::leg::{Legged, Link, clean};
use super::opening::{self, Opening};
use super::opens::{ClientSide, prohibited, refused};
use super::pump::ClientEnd;
use super::routes::Routes;
use super::session::Live;
use super::target_channel::{Dialled, Opens, TargetChannel};
use super::target_end::TargetEnd;
use crate::kernel::inventory::Reach;
use crate::kernel::policy::Denial;
use crate::kernel::request::Request;
use crate::kernel::session::EndReason;

/// How long a client may take to answer a channel open of ours.
const CLIENT_WAIT: Duration = Duration::from_secs(30);
/// How long a global request waits for its answer.
const GLOBAL_WAIT: Duration = Duration::from_secs(10);
/// Channels that a target opens unasked before it counts as an attack.
const UNASKED_MAX: u32 = 32;

/// A session's target connection for forwards, dialled with the first of them.
#[derive(Default)]
pub struct Forwards(tokio::sync::Mutex<Option<Arc<Dialled>>>);

/// What a client asks the target to connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Direct {
    /// `direct-tcpip` (RFC 4254 section 7.2). `origin` is the client's word.
    Tcp {
        host: String,
        port: u32,
        origin: (String, u32),
    },
    /// `direct-streamlocal@openssh.com` (OpenSSH PROTOCOL section 2.4).
    Unix { path: String },
}

impl Direct {
    fn kind(&self) -> &'static str {
        match self {
            Direct::Tcp { .. } => "direct-tcpip",
            Direct::Unix { .. } => "direct-streamlocal@openssh.com",
        }
    }

    fn detail(&self) -> String {
        match self {
            Direct::Tcp { host, port, .. } => format!("{host}:{port}"),
            Direct::Unix { path } => path.clone(),
        }
    }

    fn request(&self) -> Request {
        match self {
            Direct::Tcp { host, port, .. } => Request::DirectTcpip {
                host: host.clone(),
                port: *port,
            },
            Direct::Unix { path } => Request::DirectStreamlocal { path: path.clone() },
        }
    }
}

/// A channel that the target opened, not answered yet.
pub struct Arrival {
    pub came: Came,
    pub write: ChannelWriteHalf<Msg>,
    pub links: Routes<Link>,
    pub doors: Doors,
    /// Ends the connection that it came on.
    pub kill: Kill,
}

fn said(denial: &Denial) -> ChannelOpenFailure {
    prohibited(format!("refused by rule {}: {}", denial.rule, denial.sentence))
}

impl Live {
    /// Whether the target is a command of this machine, which has nothing of the client's to reach.
    pub fn is_local(&self) -> bool {
        matches!(self.target.reach, Reach::Local { .. })
    }

    /// The connection for forwards.
    async fn forwards(self: &Arc<Self>, channel: u32) -> Result<Arc<Dialled>, ChannelOpenFailure> {
        if self.is_local() {
            return Err(prohibited("a local target forwards nothing".into()));
        }
        let mut held = self.forwards.0.lock().await;
        if let Some(standing) = held.as_ref().filter(|standing| standing.alive()) {
            return Ok(standing.clone());
        }
        let fresh = Arc::new(self.dialled(channel, "the connection for forwards").await?);
        *held = Some(fresh.clone());
        Ok(fresh)
    }

    /// Lets the target connect to something for the client. Nothing moves yet.
    ///
    /// # Errors
    /// What the client is answered: policy's words, or the target's own.
    pub async fn open_direct(
        self: &Arc<Self>,
        direct: Direct,
    ) -> Result<(Arc<Channel>, TargetChannel), ChannelOpenFailure> {
        let detail = direct.detail();
        let number = self.number(direct.kind(), &clean(&detail))?;
        let permit = self
            .decide(number, direct.request(), detail.as_bytes(), "")
            .map_err(|denial| said(&denial))?;
        let channel = self.enrol(number, Carries::Forward, permit.kept());
        let opened = async {
            let connection = self.forwards(number).await?;
            let link = Link::new(channel.clone(), self.control.clone(), Legged::Shared);
            connection.open(Opens::Direct(direct), link).await
        };
        match opened.await {
            Ok(target) => Ok((channel, target)),
            Err(failure) => {
                self.not_opened(&channel, "target", &failure);
                Err(failure)
            }
        }
    }

    fn not_opened(&self, channel: &Channel, who: &str, failure: &ChannelOpenFailure) {
        channel.stop.fire();
        let text = format!("the {who} did not open it: {}", clean(failure.description()));
        self.record(channel.number, Event::Marker { text: text.into() });
        self.retire(channel);
    }

    /// Lets the target listen for the client. Answers with the port that it
    /// listens to (0 for a socket), once channels of it are let in.
    ///
    /// # Errors
    /// When policy, the target or a bound says no.
    pub async fn listen(self: &Arc<Self>, asked: Asked) -> Result<u32, ChannelOpenFailure> {
        let detail = asked.detail();
        let _permit = self
            .decide(0, asked.request(), detail.as_bytes(), "")
            .map_err(|denial| said(&denial))?;
        let connection = self.forwards(0).await?;
        let asking = connection
            .doors
            .ask()
            .ok_or_else(|| refused("the target listens to too much for this session already".into()))?;
        let (give, answer) = oneshot::channel();
        let live = self.clone();
        // A task of its own: a target that answers after the client was told
        // no must not go on listening.
        tokio::spawn(async move {
            let heard = ask_to_listen(&connection, asked, asking).await;
            let listens = match &heard {
                Ok(listens) => listens.clone(),
                Err(_) => {
                    give.send(heard).ok();
                    return;
                }
            };
            let text = format!("the target listens on {}", clean(&listens.detail()));
            live.record(0, Event::Marker { text: text.into() });
            if give.send(heard).is_err() {
                live.stop_listening(&listens).await;
            }
        });
        match answer.await {
            Ok(Ok(Asked::Tcp { port, .. })) => Ok(port),
            Ok(Ok(Asked::Unix { .. } | Asked::Agent | Asked::X11 { .. })) => Ok(0),
            Ok(Err(error)) => Err(refused(clean(&error.to_string()))),
            Err(_) => Err(refused("the connection to the target broke".into())),
        }
    }

    /// Ends a listening; whether there was one and the target agreed.
    pub async fn stop_listening(self: &Arc<Self>, asked: &Asked) -> bool {
        let standing = self.forwards.0.lock().await.clone();
        let Some(connection) = standing.filter(|standing| standing.doors.close(asked)) else {
            return false;
        };
        let text = format!("no more connections to {}", clean(&asked.detail()));
        self.record(0, Event::Marker { text: text.into() });
        let handle = connection.handle();
        let done = match asked {
            Asked::Tcp { host, port, .. } => handle.cancel_tcpip_forward(host.as_str(), *port).await,
            Asked::Unix { path } => handle.cancel_streamlocal_forward(path.as_str()).await,
            Asked::Agent | Asked::X11 { .. } => return false,
        };
        done.is_ok()
    }

    /// Writes down what a target tried that nobody asked for; who goes on
    /// trying is an attacker.
    pub fn unasked(&self, doors: &Doors, request: &Request, detail: &str) {
        self.refuse(0, request, detail.as_bytes(), "the target opened a channel");
        if doors.count_refused() > UNASKED_MAX {
            let why = "the target opens channels that nobody asked for".to_owned();
            self.control.end_now(EndReason::Protocol(why));
        }
    }

    /// A channel that the target opened. It goes to the client if it answers
    /// something that was asked for.
    pub async fn come_in(self: &Arc<Self>, arrival: Arrival, reply: client::ChannelOpenHandle) {
        let (request, detail) = (arrival.came.request(), arrival.came.detail());
        let Some(client) = self.client.get().cloned() else {
            return self.unasked(&arrival.doors, &request, &detail);
        };
        let Ok(place) = client.places.clone().try_acquire_owned() else {
            self.refuse(0, &request, detail.as_bytes(), "more channels than may be open");
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        };
        let live = self.clone();
        tokio::spawn(async move {
            let stop = live.control.stop.clone();
            match stop.guard(live.let_in(arrival, client, place)).await {
                Some(Ok((channel, end, target, place))) => {
                    reply.accept().await;
                    if live.join(&channel, end, TargetEnd::Ssh(target), place).is_err() {
                        channel.stop.fire();
                    }
                }
                Some(Err(failure)) => reply.reject(failure).await,
                None => {}
            }
        });
    }

    async fn let_in(
        self: &Arc<Self>,
        arrival: Arrival,
        client: ClientSide,
        place: OwnedSemaphorePermit,
    ) -> Result<(Arc<Channel>, ClientEnd, TargetChannel, OwnedSemaphorePermit), ChannelOpenFailure> {
        let came = arrival.came;
        let Some(asked) = arrival.doors.find(&came, &arrival.kill).await else {
            self.unasked(&arrival.doors, &came.request(), &came.detail());
            return Err(ChannelOpenFailure::AdministrativelyProhibited);
        };
        let number = self.number(came.kind(), &came.detail())?;
        // Asked again: what was permitted then may not be now.
        let permit = self
            .decide(
                number,
                asked.request(),
                asked.detail().as_bytes(),
                "a connection that came in",
            )
            .map_err(|denial| said(&denial))?;
        let channel = self.enrol(number, Carries::Forward, permit.kept());
        match client.open_back(&channel, &asked, came).await {
            Ok(end) => {
                let link = Link::new(channel.clone(), self.control.clone(), Legged::Shared);
                let target = TargetChannel::came(arrival.write, link, arrival.links);
                Ok((channel, end, target, place))
            }
            Err(failure) => {
                self.not_opened(&channel, "client", &failure);
                Err(failure)
            }
        }
    }
}

/// Asks the target to listen; what it listens to then.
async fn ask_to_listen(connection: &Dialled, asked: Asked, asking: Asking) -> Result<Asked, russh::Error> {
    let handle = connection.handle();
    let listens = match asked {
        Asked::Tcp { host, wanted, .. } => {
            let given = handle.tcpip_forward(host.as_str(), wanted).await?;
            let port = if wanted == 0 { given } else { wanted };
            Asked::Tcp { host, wanted, port }
        }
        Asked::Unix { path } => {
            handle.streamlocal_forward(path.as_str()).await?;
            Asked::Unix { path }
        }
        Asked::Agent | Asked::X11 { .. } => return Err(russh::Error::RequestDenied),
    };
    asking.answered(listens.clone());
    Ok(listens)
}

impl ClientSide {
    /// Answers a client that wants the target to listen: the port, or nothing
    /// for no. Bounded, since russh serves nothing else of the connection meanwhile.
    pub async fn listen(self, opening: Option<Opening>, asked: Asked) -> Option<u32> {
        let kill = self.kill.clone();
        let work = async { self.attached(opening?).await?.listen(asked).await.ok() };
        kill.guard(tokio::time::timeout(GLOBAL_WAIT, work)).await?.ok()?
    }

    /// Answers a client that wants that no more; whether it was so.
    pub async fn stop_listening(self, opening: Option<Opening>, asked: Asked) -> bool {
        let kill = self.kill.clone();
        let work = async { Some(self.attached(opening?).await?.stop_listening(&asked).await) };
        let done = kill.guard(tokio::time::timeout(GLOBAL_WAIT, work)).await;
        matches!(done, Some(Ok(Some(true))))
    }

    /// The session, which knows from now on where channels towards the client go.
    /// A client that cannot be told in words asks for this before anything else, and
    /// russh serves none of its channels meanwhile: it is told no while somebody's yes is
    /// waited for.
    async fn attached(self, mut opening: Opening) -> Option<Arc<Live>> {
        let opened = opening::opened_by_now(&mut opening).await;
        let opened = opened.inspect_err(|why| tracing::info!(why, "no listening at the target"));
        let live = opened.ok()?;
        live.client.get_or_init(|| self);
        Some(live)
    }

    /// Opens a channel towards the client, named as the client asked for it.
    async fn open_back(
        &self,
        channel: &Arc<Channel>,
        asked: &Asked,
        came: Came,
    ) -> Result<ClientEnd, ChannelOpenFailure> {
        let (give, opened) = oneshot::channel();
        let (this, channel, asked) = (self.clone(), channel.clone(), asked.clone());
        tokio::spawn(async move {
            let opening = this.channels.opening();
            let done = this.ask_back(&asked, came).await.map(|open| {
                let (_, write) = open.split();
                let id = write.id();
                let end = ClientEnd::new(write, this.handle.clone());
                opening.named(id, (channel, end.clone())).ok();
                end
            });
            if let Err(Ok(end)) = give.send(done) {
                end.close().await;
            }
        });
        let waited = self.kill.guard(tokio::time::timeout(CLIENT_WAIT, opened)).await;
        match waited {
            Some(Ok(Ok(Ok(end)))) => Ok(end),
            Some(Ok(Ok(Err(russh::Error::ChannelOpenFailure(reason))))) => Err(reason),
            Some(Ok(_) | Err(_)) | None => Err(refused("the client does not answer".into())),
        }
    }

    async fn ask_back(&self, asked: &Asked, came: Came) -> Result<RusshChannel<russh::server::Msg>, russh::Error> {
        match (asked, came) {
            (
                Asked::Tcp { host, port, .. },
                Came::Tcp {
                    origin: (from, from_port),
                    ..
                },
            ) => {
                let from = clean(&from);
                self.handle
                    .channel_open_forwarded_tcpip(host.as_str(), *port, from, from_port)
                    .await
            }
            (_, Came::Unix { path }) => self.handle.channel_open_forwarded_streamlocal(path).await,
            (_, Came::Agent) => self.handle.channel_open_agent().await,
            (
                _,
                Came::X11 {
                    origin: (from, from_port),
                },
            ) => self.handle.channel_open_x11(clean(&from), from_port).await,
            (Asked::Unix { .. } | Asked::Agent | Asked::X11 { .. }, Came::Tcp { .. }) => {
                Err(russh::Error::RequestDenied)
            }
        }
    }
}
