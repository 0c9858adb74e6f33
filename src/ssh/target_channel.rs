//! A logged-in target connection, and the channels on it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{Handle, Msg};
use russh::{Channel as RusshChannel, ChannelOpenFailure, ChannelWriteHalf, Sig};
use tokio::sync::oneshot;

use super::answer::Answer;
use super::channel::{Down, Start, Terminal};
use super::doors::Doors;
use super::forward::Direct;
use super::gated::Kill;
use super::leg::{Expected, Leg, Legged, Link, Refusals};
use super::opens::refused;
use super::routes::Routes;

/// How long a target may take to answer a channel open: it may be dialling.
const OPEN_WAIT: Duration = Duration::from_secs(60);

/// Why a channel did not open, or ended.
const BROKE: &str = "the connection to the target broke";

/// A logged-in connection.
pub struct Dialled {
    handle: Handle<Leg>,
    links: Routes<Link>,
    /// What the target may open on it.
    pub doors: Doors,
    refusals: Refusals,
    kill: Kill,
    /// `host:port`.
    name: String,
}

/// What is opened at a target.
#[derive(Clone, Debug)]
pub enum Opens {
    Program,
    /// The target dials.
    Direct(Direct),
}

/// An open channel at a target.
pub struct TargetChannel {
    write: ChannelWriteHalf<Msg>,
    expected: Arc<Mutex<VecDeque<Expected>>>,
    tie: Tie,
}

/// What becomes of the connection when the channel ends.
enum Tie {
    /// It ends too.
    Alone(Arc<Dialled>),
    /// Others go on.
    Shared(Routes<Link>),
}

impl Dialled {
    /// What [`super::target`] has logged in to.
    pub fn new(
        handle: Handle<Leg>,
        links: Routes<Link>,
        doors: Doors,
        refusals: Refusals,
        kill: Kill,
        name: String,
    ) -> Dialled {
        Dialled {
            handle,
            links,
            doors,
            refusals,
            kill,
            name,
        }
    }

    /// Whether the connection still stands.
    pub fn alive(&self) -> bool {
        !self.handle.is_closed() && !self.kill.fired()
    }

    pub fn handle(&self) -> &Handle<Leg> {
        &self.handle
    }

    pub fn kill(&self) -> &Kill {
        &self.kill
    }

    /// Opens the one program channel of a connection and ties the connection to it.
    ///
    /// # Errors
    /// What the client is answered.
    pub async fn open_program(self, link: Link) -> Result<TargetChannel, ChannelOpenFailure> {
        let this = Arc::new(self);
        match this.open(Opens::Program, link).await {
            Ok(channel) => Ok(channel),
            Err(failure) => {
                this.kill.fire();
                let why = failure.description();
                Err(refused(format!("the target {} refused a channel: {why}", this.name)))
            }
        }
    }

    /// Opens a channel and leads what arrives on it to `link`.
    ///
    /// # Errors
    /// The target's own reason.
    pub async fn open(self: &Arc<Self>, what: Opens, link: Link) -> Result<TargetChannel, ChannelOpenFailure> {
        let (give, opened) = oneshot::channel();
        let this = self.clone();
        let legged = link.legged;
        let expected = link.expected.clone();
        tokio::spawn(async move {
            let opening = this.links.opening();
            let done = this.ask(what).await.and_then(|channel| {
                // Without its read half russh delivers to the handler alone and
                // never parks on a full channel queue.
                let (_, write) = channel.split();
                match opening.named(write.id(), link) {
                    Ok(()) => Ok(write),
                    // Who confirms and hangs up at once.
                    Err(_) => Err(refused(BROKE.into())),
                }
            });
            if let Err(Ok(write)) = give.send(done) {
                // Nobody waits any more: it must not stay open behind our back.
                this.links.remove(write.id());
                write.close().await.ok();
            }
        });
        let waited = self.kill.guard(tokio::time::timeout(OPEN_WAIT, opened)).await;
        match waited {
            Some(Ok(Ok(Ok(write)))) => Ok(TargetChannel {
                write,
                expected,
                tie: match legged {
                    Legged::Alone => Tie::Alone(self.clone()),
                    Legged::Shared => Tie::Shared(self.links.clone()),
                },
            }),
            Some(Ok(Ok(Err(failure)))) => Err(failure),
            Some(Err(_)) => Err(refused(format!("no answer within {} s", OPEN_WAIT.as_secs()))),
            Some(Ok(Err(_))) | None => Err(refused(BROKE.into())),
        }
    }

    async fn ask(&self, what: Opens) -> Result<RusshChannel<Msg>, ChannelOpenFailure> {
        let asked = match what {
            Opens::Program => self.handle.channel_open_session().await,
            Opens::Direct(Direct::Tcp {
                host,
                port,
                origin: (from, from_port),
            }) => self.handle.channel_open_direct_tcpip(host, port, from, from_port).await,
            Opens::Direct(Direct::Unix { path }) => self.handle.channel_open_direct_streamlocal(path).await,
        };
        match asked {
            Ok(channel) => Ok(channel),
            Err(russh::Error::ChannelOpenFailure(reason)) => Err(self.refusals.in_words(reason).await),
            Err(error) => Err(refused(super::leg::clean(&error.to_string()))),
        }
    }
}

impl TargetChannel {
    /// One that the target opened itself, on a connection that others use too.
    pub fn came(write: ChannelWriteHalf<Msg>, link: Link, links: Routes<Link>) -> TargetChannel {
        let expected = link.expected.clone();
        if let Err(link) = links.insert(write.id(), link) {
            link.tell(Down::Lost(BROKE.into()));
            link.tell(Down::Close);
        }
        TargetChannel {
            write,
            expected,
            tie: Tie::Shared(links),
        }
    }

    /// Writes bytes of the client.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn data(&self, bytes: bytes::Bytes) -> Result<(), russh::Error> {
        self.write.data_bytes(bytes).await
    }

    pub async fn pty(&self, terminal: &Terminal, answer: Arc<Answer>) -> Result<(), russh::Error> {
        self.expect(Expected::Pty(answer));
        self.write
            .request_pty(
                true,
                &terminal.term,
                terminal.cols,
                terminal.rows,
                terminal.px_width,
                terminal.px_height,
                &terminal.modes,
            )
            .await
    }

    pub async fn env(&self, name: &str, value: &str) -> Result<(), russh::Error> {
        self.write.set_env(false, name, value).await
    }

    pub async fn start(&self, start: Start) -> Result<(), russh::Error> {
        self.expect(Expected::Start);
        match start {
            Start::Shell => self.write.request_shell(true).await,
            Start::Exec(command) => self.write.exec(true, command).await,
            Start::Subsystem(name) => self.write.request_subsystem(true, name).await,
        }
    }

    /// Asks for agent forwarding; the target's yes lets it open such channels.
    pub async fn agent(&self, answer: Arc<Answer>) -> Result<(), russh::Error> {
        self.expect(Expected::Agent(answer));
        self.write.agent_forward(true).await
    }

    /// Asks for X11 forwarding, as [`TargetChannel::agent`] does.
    pub async fn x11(&self, display: super::channel::Display, answer: Arc<Answer>) -> Result<(), russh::Error> {
        self.expect(Expected::X11(answer, display.single));
        self.write
            .request_x11(true, display.single, display.protocol, display.cookie, display.screen)
            .await
    }

    pub async fn window_change(&self, cols: u32, rows: u32, px_width: u32, px_height: u32) -> Result<(), russh::Error> {
        self.write.window_change(cols, rows, px_width, px_height).await
    }

    pub async fn signal(&self, signal: Sig) -> Result<(), russh::Error> {
        self.write.signal(signal).await
    }

    pub async fn eof(&self) -> Result<(), russh::Error> {
        self.write.eof().await
    }

    pub async fn close(&self) -> Result<(), russh::Error> {
        self.write.close().await
    }

    /// Says goodbye and drops the connection, or its part of it. `cut`: the
    /// gate ends it, so a program is told to terminate first.
    pub async fn leave(&self, cut: bool, wait: Duration) {
        match &self.tie {
            Tie::Alone(connection) => {
                if cut {
                    tokio::time::timeout(wait, self.signal(Sig::TERM)).await.ok();
                }
                let goodbye = connection
                    .handle
                    .disconnect(russh::Disconnect::ByApplication, "closed by the gate", "");
                tokio::time::timeout(wait, connection.kill.guard(goodbye)).await.ok();
                connection.kill.fire();
            }
            Tie::Shared(_) => {
                tokio::time::timeout(wait, self.close()).await.ok();
            }
        }
    }

    fn expect(&self, what: Expected) {
        self.expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(what);
    }
}

impl Drop for TargetChannel {
    fn drop(&mut self) {
        // Whatever way a pump ends, the target's side must not live on.
        match &self.tie {
            Tie::Alone(connection) => connection.kill.fire(),
            Tie::Shared(links) => {
                links.remove(self.write.id());
            }
        }
    }
}
