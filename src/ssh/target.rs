//! The target leg: our client role towards an SSH target.
//!
//! A dial takes a permit to connect. Per dial: the target's host key pinned or
//! certified by the pinned host CA, then a fresh ed25519 key with a certificate
//! from the target CA valid for minutes, or what the target's credential source
//! gives. Bastions before it are dialled the same way, one through the other.
//! One connection per program, so that a braked leg hurts nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::AlgorithmKind;
use russh::client::{self, Handle, Handler};
use tokio::net::TcpStream;

use super::algorithms::{self, KeyExchange};
use super::banner::Banner;
use super::broken::Broken;
use super::doors::Doors;
use super::gated::{Gated, Kill, Transport, tune};
use super::host_check::{HostCheck, Seen};
use super::leg::{Leg, Refusals, clean};
use super::login::{self, Refused, Shown, log_in};
use super::routes::Routes;
use super::target_channel::Dialled;
use super::tunnel::{Hop, Tunnel};
use crate::clock::tick;
use crate::credentials::{NoSecret, Secret, Sources, Wanted, Why, no_secret};
use crate::keeper::{Keeper, TargetCertificate};
use crate::kernel::credential::Credential;
use crate::kernel::grant::{Cidr, WallMs};
use crate::kernel::id::{Login, SourceName, TargetName};
use crate::kernel::inventory::{HostProof, Reach, Target};
use crate::kernel::policy::MayConnect;

/// Longest life of a certificate towards a target, in ms.
const CERTIFICATE_MS: u64 = 5 * 60_000;
/// How far a certificate towards a target is back-dated, for clocks that differ, in ms.
const BACKDATE_MS: u64 = 30_000;
/// Window that we give a target per channel, in bytes.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Keepalive towards the target.
const KEEPALIVE: Duration = Duration::from_secs(15);
const KEEPALIVES_MISSED_MAX: usize = 3;

/// Why a target was not reached. The texts are for the user.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    #[error("{0} does not answer: {1}")]
    Connect(String, String),
    #[error("{0} did not answer within {1} s")]
    Timeout(String, u64),
    #[error("{0} shows another host key than the pinned one ({1})")]
    HostKey(String, String),
    #[error("{0} offers no key exchange that ssh.kex allows, but {1}")]
    KeyExchange(String, String),
    #[error("the target's pinned host key cannot be read: {0}")]
    BadPin(String),
    #[error("{0} {1}")]
    Login(String, Refused),
    #[error(transparent)]
    Secret(#[from] NoSecret),
    #[error("the bastion {0} does not lead on to {1}: {2}")]
    Hop(TargetName, String, String),
}

/// A host that is dialled: where it is, how it proves itself, and how we do.
#[derive(Clone)]
pub struct Host {
    pub name: TargetName,
    /// `host:port`.
    pub addr: String,
    pub proof: HostProof,
    pub login: Login,
    pub credential: Credential,
}

impl Host {
    /// The host of a target; none if it is a command on this machine.
    pub fn of(target: &Target, login: &Login) -> Option<Host> {
        match &target.reach {
            Reach::Local { .. } => None,
            Reach::Ssh {
                addr,
                proof,
                credential,
                via: _,
            } => Some(Host {
                name: target.name.clone(),
                addr: addr.clone(),
                proof: proof.clone(),
                login: login.clone(),
                credential: credential.clone(),
            }),
        }
    }

    /// A bastion, with the login that its entry names first.
    pub fn of_hop(target: &Target) -> Option<Host> {
        Host::of(target, target.logins.first()?)
    }

    /// Its address in two.
    fn place(&self) -> (&str, u16) {
        let (host, port) = self.addr.rsplit_once(':').unwrap_or((&self.addr, ""));
        (host.trim_matches(['[', ']']), port.parse().unwrap_or(22))
    }
}

/// Where to dial and as whom.
#[derive(Clone)]
pub struct Dial {
    /// The bastions before the target, in the order in which they are dialled.
    pub hops: Vec<Host>,
    pub target: Host,
    /// Takes what the target says before it lets us in.
    pub banner: Banner,
    /// Takes which of them fails first.
    pub broken: Broken,
    /// Names person, grant and session in the target's log.
    pub key_id: String,
    /// What the certificate is to carry.
    pub extensions: Vec<&'static str>,
    pub until_ms: u64,
    pub kex: KeyExchange,
    /// For each host; what a credential source takes comes on top.
    pub timeout: Duration,
    /// What the first host sees us come from; none: the address that is dialled from.
    pub sources: Vec<Cidr>,
}

/// What a dial needs of the house.
#[derive(Clone, Copy)]
pub struct House<'a> {
    pub permit: MayConnect<'a>,
    pub keeper: &'a dyn Keeper,
    pub sources: &'a Sources,
    pub now_ms: WallMs,
}

/// Connects and logs in; falls with `kill`, the session's.
///
/// # Errors
/// [`DialError`], with a sentence for the user.
pub async fn dial(dial: &Dial, house: House<'_>, kill: &Kill) -> Result<Dialled, DialError> {
    // The leg fires its own switch when russh gives up; its reason must still
    // be heard here, so this waits on the session's.
    let leg = kill.child();
    match kill.guard(connect(dial, house, leg.clone())).await {
        Some(Ok(dialled)) => Ok(dialled),
        Some(Err(error)) => {
            leg.fire();
            Err(error)
        }
        None => {
            let target = Step::target(&dial.target.addr);
            Err(DialError::Connect(target, "the session ended".into()))
        }
    }
}

async fn connect(dial: &Dial, house: House<'_>, first: Kill) -> Result<Dialled, DialError> {
    let (mut kill, mut way) = (first, None);
    let nexts = dial.hops.iter().skip(1).chain([&dial.target]);
    for (hop, next) in dial.hops.iter().zip(nexts) {
        let step = Step::new(dial, hop, house, kill.clone());
        let seen = Seen::default();
        let (name, broken) = (hop.name.clone(), dial.broken.clone());
        let handler = Hop::new(name, broken, step.check()?, seen.clone(), kill.clone());
        let opening = handler.opening();
        let (handle, left) = step
            .reach(way.take(), handler, &seen, &["permit-port-forwarding"])
            .await
            .inspect_err(|_| dial.broken.by_bastion(&hop.name))?;
        let behind = (!std::ptr::eq(next, &dial.target)).then(|| next.name.clone());
        let opened = opening.connect(handle, behind, next.place());
        let opened = tokio::time::timeout(left, opened).await;
        // It may well be what is behind it that fails.
        let refused = |why: String| DialError::Hop(hop.name.clone(), next.addr.clone(), why);
        let tunnel = opened
            .map_err(|_| refused(format!("no answer within {} s", dial.timeout.as_secs())))?
            .map_err(|error| refused(clean(&error.to_string())))?;
        way = Some(tunnel);
        kill = kill.child();
    }
    let step = Step::new(dial, &dial.target, house, kill.clone());
    let seen = Seen::default();
    let (links, doors, refusals) = (Routes::default(), Doors::default(), Refusals::default());
    let leg = Leg::new(
        step.check()?,
        seen.clone(),
        links.clone(),
        doors.clone(),
        refusals.clone(),
        (dial.banner.clone(), dial.broken.clone()),
        kill.clone(),
    );
    let (handle, _) = step.reach(way, leg, &seen, &dial.extensions).await?;
    Ok(Dialled::new(
        handle,
        links,
        doors,
        refusals,
        kill,
        dial.target.addr.clone(),
    ))
}

/// One host of a dial.
struct Step<'a> {
    dial: &'a Dial,
    host: &'a Host,
    house: House<'a>,
    kill: Kill,
}

impl<'a> Step<'a> {
    fn new(dial: &'a Dial, host: &'a Host, house: House<'a>, kill: Kill) -> Step<'a> {
        Step {
            dial,
            host,
            house,
            kill,
        }
    }

    fn check(&self) -> Result<HostCheck, DialError> {
        HostCheck::new(&self.host.proof, self.host.place().0, self.house.now_ms)
    }

    /// How the target is called in errors.
    fn target(addr: &str) -> String {
        format!("the target {addr}")
    }

    fn is_target(&self) -> bool {
        std::ptr::eq(self.host, &self.dial.target)
    }

    /// How this host is called in errors; the first of a way that fails is
    /// named in the errors of those behind it.
    fn called(&self) -> String {
        let own = match self.is_target() {
            true => Step::target(&self.host.addr),
            false => format!("the bastion {} ({})", self.host.name, self.host.addr),
        };
        match self.dial.broken.bastion().filter(|name| **name != self.host.name) {
            Some(name) => format!("the bastion {name} broke, and behind it {own}"),
            None => own,
        }
    }

    fn unreachable(&self, why: &dyn std::fmt::Display) -> DialError {
        DialError::Connect(self.called(), clean(&why.to_string()))
    }

    fn late(&self) -> DialError {
        DialError::Timeout(self.called(), self.dial.timeout.as_secs())
    }

    /// Connects, on the way that there is, and logs in. Answers with the time
    /// that is left for this host.
    async fn reach<H: Handler<Error = russh::Error> + Send + 'static>(
        &self,
        way: Option<Tunnel>,
        handler: H,
        seen: &Seen,
        extensions: &[&'static str],
    ) -> Result<(Handle<H>, Duration), DialError> {
        let began = tick();
        let greeted = tokio::time::timeout(self.dial.timeout, self.greet(way, handler, seen)).await;
        let (mut handle, from) = greeted.map_err(|_| self.late())??;
        let left = self.dial.timeout.saturating_sub(tick().duration_since(began));
        // Only now, and never before the host has proved itself.
        let shown = self.shown(from, extensions).await?;
        let began = tick();
        let banner = match self.is_target() {
            true => self.dial.banner.clone(),
            false => Banner::default(),
        };
        let logged_in = log_in(&mut handle, self.host.login.as_str(), shown, &banner);
        let logged_in = tokio::time::timeout(left, logged_in).await.map_err(|_| self.late())?;
        logged_in.map_err(|why| DialError::Login(self.called(), why))?;
        Ok((handle, left.saturating_sub(tick().duration_since(began))))
    }

    /// The connection, the host's key checked, and where the host sees it come
    /// from, if we know that.
    async fn greet<H: Handler<Error = russh::Error> + Send + 'static>(
        &self,
        way: Option<Tunnel>,
        handler: H,
        seen: &Seen,
    ) -> Result<(Handle<H>, Option<String>), DialError> {
        match way {
            // A bastion's address, as what is behind it sees it, is its own affair.
            Some(tunnel) => Ok((self.exchange(tunnel, handler, seen).await?, None)),
            None => {
                let stream = TcpStream::connect(self.host.addr.as_str())
                    .await
                    .map_err(|e| self.unreachable(&e))?;
                tune(&stream).map_err(|e| self.unreachable(&e))?;
                let ours = stream.local_addr().map_err(|e| self.unreachable(&e))?;
                let from = source_address(&self.dial.sources, ours);
                Ok((self.exchange(stream, handler, seen).await?, Some(from)))
            }
        }
    }

    async fn exchange<S: Transport, H: Handler<Error = russh::Error> + Send + 'static>(
        &self,
        stream: S,
        handler: H,
        seen: &Seen,
    ) -> Result<Handle<H>, DialError> {
        let config = client::Config {
            client_id: russh::SshId::Standard("SSH-2.0-Portcullis".into()),
            window_size: WINDOW_BYTES,
            preferred: algorithms::client(self.dial.kex, self.check()?.pinned_algorithm()),
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: KEEPALIVES_MISSED_MAX,
            channel_buffer_size: 1,
            ..client::Config::default()
        };
        let stream = Gated::new(stream, self.kill.clone());
        let connected = client::connect_stream(Arc::new(config), stream, handler).await;
        connected.map_err(|error| match (seen.take(), error) {
            (Some(fingerprint), _) => DialError::HostKey(self.called(), fingerprint),
            (
                None,
                russh::Error::NoCommonAlgo {
                    kind: AlgorithmKind::Kex,
                    theirs,
                    ..
                },
            ) => DialError::KeyExchange(self.called(), clean(&theirs.join(", "))),
            (None, error) => self.unreachable(&error),
        })
    }

    /// What the host is shown.
    async fn shown(&self, from: Option<String>, extensions: &[&'static str]) -> Result<Shown, DialError> {
        let bad = |source: &SourceName| {
            let (source, wanted) = (source.clone(), self.wanted());
            move |why: Why| no_secret(&source, &wanted, why)
        };
        match &self.host.credential {
            Credential::Certificate => Shown::certificate(self.house.keeper, |public_key| TargetCertificate {
                public_key,
                key_id: self.dial.key_id.clone(),
                principal: self.host.login.to_string(),
                valid_after_ms: self.house.now_ms.saturating_sub(BACKDATE_MS),
                valid_before_ms: self
                    .house
                    .now_ms
                    .saturating_add(CERTIFICATE_MS)
                    .min(self.dial.until_ms.saturating_add(1_000)),
                source_address: from,
                extensions: extensions.to_vec(),
            })
            .await
            .map_err(|why| DialError::Login(self.called(), why)),
            Credential::Key(source) => {
                let key = self.fetch(source).await?;
                let passphrase = match login::is_encrypted(&key).map_err(bad(source))? {
                    false => None,
                    true => {
                        let sources = self.house.sources;
                        Some(sources.passphrase(self.house.permit, source, &self.wanted()).await?)
                    }
                };
                // Opening one takes a while, on purpose.
                let opened = tokio::task::spawn_blocking(move || Shown::key(&key, passphrase.as_ref())).await;
                Ok(opened.unwrap_or(Err(Why::NotAKey)).map_err(bad(source))?)
            }
            Credential::Password(source) => {
                let secret = self.fetch(source).await?;
                secret.line().map_err(bad(source))?;
                Ok(Shown::Password(secret))
            }
            Credential::KeyboardInteractive(source) => {
                let secret = self.fetch(source).await?;
                secret.lines().map_err(bad(source))?;
                Ok(Shown::Answers(secret))
            }
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            target: self.host.name.clone(),
            login: self.host.login.clone(),
        }
    }

    async fn fetch(&self, source: &SourceName) -> Result<Secret, NoSecret> {
        self.house
            .sources
            .fetch(self.house.permit, source, &self.wanted())
            .await
    }
}

/// What a target is to see the certificate come from: whoever else gets hold
/// of one has no use for it elsewhere.
fn source_address(configured: &[Cidr], ours: SocketAddr) -> String {
    match configured {
        [] => ours.ip().to_canonical().to_string(),
        blocks => blocks.iter().map(Cidr::to_string).collect::<Vec<_>>().join(","),
    }
}
