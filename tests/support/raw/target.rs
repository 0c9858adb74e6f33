//! A target by hand: a server that trusts everybody and misbehaves as told.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ed25519_dalek::SigningKey;

use super::auth::{ED25519, public_blob};
use super::certs::line;
use super::channels::{Channel, PACKET};
use super::peer::{Fault, Hello, Peer};
use super::wire::{Get, Put, msg};

/// The number this side gives its channel.
const NUMBER: u32 = 7;
/// What it lets the other side send, in bytes.
const WINDOW: u32 = 1 << 20;

/// Listens on loopback and runs one script for each connection, until the
/// test's process ends.
pub struct Target {
    addr: SocketAddr,
    dialled: Arc<AtomicUsize>,
}

impl Target {
    /// Its host key, always the same.
    pub fn host_key() -> SigningKey {
        SigningKey::from_bytes(&[11; 32])
    }

    /// `script` gets each connection before anything was said on it.
    pub fn start(script: impl Fn(&mut Peer) -> Result<(), Fault> + Send + Sync + 'static) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let dialled = Arc::new(AtomicUsize::new(0));
        let (count, script) = (dialled.clone(), Arc::new(script));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let script = script.clone();
                std::thread::spawn(move || {
                    if let Ok(mut peer) = Peer::accepted(stream, Hello::server(), Target::host_key()) {
                        // Being hung up on is how most of them end.
                        script(&mut peer).ok();
                    }
                });
            }
        });
        Target { addr, dialled }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections so far.
    pub fn dialled(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }

    /// Writes its public host key where an administrator would have it.
    pub fn write_host_key(file: &Path) {
        std::fs::write(file, line(ED25519, &public_blob(&Target::host_key()))).unwrap();
    }
}

/// The server's side, step by step.
impl Peer {
    /// Versions and keys.
    pub fn greet(&mut self) -> Result<(), Fault> {
        self.versions()?;
        self.exchange()
    }

    /// Accepts the request for user authentication.
    pub fn serve_auth(&mut self) -> Result<(), Fault> {
        self.expect(&[msg::SERVICE_REQUEST])?;
        self.send(&Put::message(msg::SERVICE_ACCEPT).string("ssh-userauth").done())
    }

    /// The next request to log in, as far as its method.
    pub fn login_asked(&mut self) -> Result<Vec<u8>, Fault> {
        loop {
            let request = self.expect(&[msg::USERAUTH_REQUEST])?;
            let mut fields = Get(&request[1..]);
            let (_user, _service) = (fields.string(), fields.string());
            match (fields.text().as_deref(), fields.u8()) {
                (Some("publickey"), Some(1)) => return Ok(request),
                (Some("publickey"), _) => {
                    let (algorithm, blob) = (fields.string().unwrap_or(b""), fields.string().unwrap_or(b""));
                    let ok = Put::message(msg::USERAUTH_PK_OK).string(algorithm).string(blob);
                    self.send(&ok.done())?;
                }
                _ => self.send(
                    &Put::message(msg::USERAUTH_FAILURE)
                        .string("publickey")
                        .bool(false)
                        .done(),
                )?,
            }
        }
    }

    /// Lets in whoever asks.
    pub fn let_in(&mut self) -> Result<(), Fault> {
        self.serve_auth()?;
        self.login_asked()?;
        self.send(&[msg::USERAUTH_SUCCESS])
    }

    /// The next channel open: the other side's number and window.
    pub fn channel_asked(&mut self) -> Result<Channel, Fault> {
        let open = self.expect(&[msg::CHANNEL_OPEN])?;
        let mut fields = Get(&open[1..]);
        fields.string();
        let short = || Fault::Bad("short channel open".into());
        Ok(Channel {
            ours: NUMBER,
            theirs: fields.u32().ok_or_else(short)?,
            window: fields.u32().ok_or_else(short)?,
        })
    }

    pub fn confirm(&mut self, channel: &Channel) -> Result<(), Fault> {
        self.confirm_with(channel, WINDOW, PACKET)
    }

    pub fn confirm_with(&mut self, channel: &Channel, window: u32, packet: u32) -> Result<(), Fault> {
        let confirmation = Put::message(msg::CHANNEL_OPEN_CONFIRMATION)
            .u32(channel.theirs)
            .u32(channel.ours)
            .u32(window)
            .u32(packet);
        self.send(&confirmation.done())
    }

    /// Answers requests with success until a program is started.
    pub fn started(&mut self, channel: &Channel) -> Result<(), Fault> {
        loop {
            let request = self.expect(&[msg::CHANNEL_REQUEST])?;
            let mut fields = Get(&request[1..]);
            fields.u32();
            let kind = fields.text().unwrap_or_default();
            if fields.u8() == Some(1) {
                self.send(&Put::message(msg::CHANNEL_SUCCESS).u32(channel.theirs).done())?;
            }
            if ["exec", "shell", "subsystem"].contains(&kind.as_str()) {
                return Ok(());
            }
        }
    }

    /// Everything as far as a program that runs.
    pub fn program(&mut self) -> Result<Channel, Fault> {
        self.greet()?;
        self.let_in()?;
        let channel = self.channel_asked()?;
        self.confirm(&channel)?;
        self.started(&channel)?;
        Ok(channel)
    }

    pub fn exit_status(&mut self, channel: &Channel, status: u32) -> Result<(), Fault> {
        self.ask(channel, "exit-status", false, &Put::default().u32(status).done())
    }

    /// Output, status and end of a program that does well.
    pub fn ends_well(&mut self, channel: &Channel, output: &[u8]) -> Result<(), Fault> {
        self.data(channel.theirs, output)?;
        self.exit_status(channel, 0)?;
        self.eof(channel.theirs)?;
        self.close(channel.theirs)
    }
}
