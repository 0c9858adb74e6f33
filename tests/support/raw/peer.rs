//! Packets: version exchange and what goes through the cipher, by hand where wanted.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::Aad;
use ed25519_dalek::SigningKey;

use super::keys::Cipher;
use super::wire::{Put, msg};

/// How long anything may take unless said otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Longest packet that is taken from the server.
const PACKET_MAX: usize = 300 * 1024;
/// Length field, and authentication tag, of AES-GCM packets (RFC 5647).
const LENGTH: usize = 4;
const TAG: usize = 16;
/// Seed of the generator behind nothing: a cookie need not be random.
const COOKIE: [u8; 16] = [0x5a; 16];

/// Why nothing came, or nothing could be sent.
#[derive(Debug)]
pub enum Fault {
    /// The other side closed or reset the connection.
    Closed,
    /// The deadline passed with the connection open.
    Silent,
    /// What came is not SSH as this peer speaks it.
    Bad(String),
}

impl Fault {
    pub fn is_closed(&self) -> bool {
        matches!(self, Fault::Closed)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Fault::Silent,
            _ => Fault::Closed,
        }
    }
}

/// Everything that is said before encryption.
#[derive(Clone, Debug)]
pub struct Hello {
    pub version: Vec<u8>,
    pub kex: String,
    pub host_key: String,
    pub cipher: String,
    pub mac: String,
    pub compression: String,
    pub first_follows: bool,
    /// Local address to come from.
    pub from: Option<IpAddr>,
}

impl Hello {
    /// What a server says.
    pub fn server() -> Hello {
        Hello {
            kex: "curve25519-sha256,kex-strict-s-v00@openssh.com".into(),
            ..Hello::default()
        }
    }
}

impl Default for Hello {
    fn default() -> Hello {
        Hello {
            version: b"SSH-2.0-raw\r\n".to_vec(),
            kex: "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com".into(),
            host_key: "ssh-ed25519".into(),
            cipher: "aes256-gcm@openssh.com".into(),
            mac: "hmac-sha2-256-etm@openssh.com".into(),
            compression: "none".into(),
            first_follows: false,
            from: None,
        }
    }
}

/// One connection to the program under test.
pub struct Peer {
    pub stream: TcpStream,
    pub hello: Hello,
    /// The version line of the other side, without its end.
    pub their_version: Vec<u8>,
    pub session_id: Vec<u8>,
    /// Blob of the host key that signed the last exchange.
    pub host_key: Vec<u8>,
    inbox: Vec<u8>,
    pub(super) seal: Option<Cipher>,
    pub(super) open: Option<Cipher>,
    /// The host key, if this side is the server.
    pub(super) host: Option<SigningKey>,
    /// Channel numbers of our own.
    pub(super) channels: u32,
}

impl Peer {
    /// A TCP connection, nothing said yet.
    pub fn dial(addr: SocketAddr, hello: Hello) -> Result<Peer, Fault> {
        let domain = if addr.is_ipv4() {
            socket2::Domain::IPV4
        } else {
            socket2::Domain::IPV6
        };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        if let Some(from) = hello.from {
            socket.bind(&SocketAddr::new(from, 0).into())?;
        }
        socket.connect_timeout(&addr.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Peer::over(stream, hello, None))
    }

    /// The server's side of a connection that was accepted.
    pub fn accepted(stream: TcpStream, hello: Hello, host: SigningKey) -> Result<Peer, Fault> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Peer::over(stream, hello, Some(host)))
    }

    fn over(stream: TcpStream, hello: Hello, host: Option<SigningKey>) -> Peer {
        Peer {
            stream,
            hello,
            their_version: Vec::new(),
            session_id: Vec::new(),
            host_key: Vec::new(),
            inbox: Vec::new(),
            seal: None,
            open: None,
            host,
            channels: 0,
        }
    }

    /// As far as NEWKEYS, ready for a service request.
    pub fn keyed(addr: SocketAddr, hello: Hello) -> Result<Peer, Fault> {
        let mut peer = Peer::dial(addr, hello)?;
        peer.versions()?;
        peer.exchange()?;
        Ok(peer)
    }

    /// Says our version and takes theirs.
    pub fn versions(&mut self) -> Result<(), Fault> {
        let ours = self.hello.version.clone();
        self.send_bytes(&ours)?;
        self.their_version = self.line(Instant::now() + PATIENCE)?;
        Ok(())
    }

    fn line(&mut self, until: Instant) -> Result<Vec<u8>, Fault> {
        let mut have = 0;
        loop {
            if let Some(end) = self.inbox.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.inbox.drain(..=end).collect();
                return Ok(line.trim_ascii_end().to_vec());
            }
            have += 1;
            if have > 4096 {
                return Err(Fault::Bad("endless version line".into()));
            }
            let more = self.inbox.len() + 1;
            self.fill(more, until)?;
        }
    }

    /// Our KEXINIT as it would be sent.
    pub fn kexinit(&self) -> Vec<u8> {
        let hello = &self.hello;
        Put::message(msg::KEXINIT)
            .raw(&COOKIE)
            .string(&hello.kex)
            .string(&hello.host_key)
            .string(&hello.cipher)
            .string(&hello.cipher)
            .string(&hello.mac)
            .string(&hello.mac)
            .string(&hello.compression)
            .string(&hello.compression)
            .string("")
            .string("")
            .bool(hello.first_follows)
            .u32(0)
            .done()
    }

    /// A packet as it would go over the wire, encrypted if keys are there.
    pub fn packet(&mut self, payload: &[u8]) -> Vec<u8> {
        let (block, counted) = match self.seal {
            Some(_) => (16, 0),
            None => (8, LENGTH),
        };
        let bare = counted + 1 + payload.len();
        let mut padding = block - bare % block;
        if padding < 4 {
            padding += block;
        }
        let length = u32::try_from(1 + payload.len() + padding).expect("fits").to_be_bytes();
        let mut body = vec![u8::try_from(padding).expect("small")];
        body.extend_from_slice(payload);
        body.resize(body.len() + padding, 0);
        if let Some(seal) = &mut self.seal {
            let nonce = seal.next();
            seal.key
                .seal_in_place_append_tag(nonce, Aad::from(length), &mut body)
                .expect("sealing works");
        }
        [length.as_slice(), &body].concat()
    }

    pub fn send(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let packet = self.packet(payload);
        self.send_bytes(&packet)
    }

    /// A packet changed after it was encrypted: bad tags, lengths, halves.
    pub fn send_spoilt(&mut self, payload: &[u8], spoil: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fault> {
        let mut packet = self.packet(payload);
        spoil(&mut packet);
        self.send_bytes(&packet)
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.stream.write_all(bytes).map_err(Fault::from)
    }

    fn fill(&mut self, count: usize, until: Instant) -> Result<(), Fault> {
        let mut chunk = [0u8; 16 * 1024];
        while self.inbox.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::Silent);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Fault::Closed),
                Ok(got) => self.inbox.extend_from_slice(&chunk[..got]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The next packet's payload, whatever it is.
    pub fn receive(&mut self, within: Duration) -> Result<Vec<u8>, Fault> {
        let until = Instant::now() + within;
        self.fill(LENGTH, until)?;
        let length: [u8; LENGTH] = self.inbox[..LENGTH].try_into().expect("four bytes");
        let body = u32::from_be_bytes(length) as usize;
        if body > PACKET_MAX {
            return Err(Fault::Bad(format!("packet of {body} bytes")));
        }
        let tag = if self.open.is_some() { TAG } else { 0 };
        self.fill(LENGTH + body + tag, until)?;
        let mut packet: Vec<u8> = self.inbox.drain(..LENGTH + body + tag).skip(LENGTH).collect();
        if let Some(open) = &mut self.open {
            let nonce = open.next();
            open.key
                .open_in_place(nonce, Aad::from(length), &mut packet)
                .map_err(|_| Fault::Bad("the other side's tag is wrong".into()))?;
            packet.truncate(body);
        }
        let padding = usize::from(*packet.first().unwrap_or(&0));
        let end = packet.len().checked_sub(padding).filter(|end| *end > 0);
        let end = end.ok_or_else(|| Fault::Bad("padding".into()))?;
        Ok(packet[1..end].to_vec())
    }

    /// The next packet with one of these numbers; housekeeping is skipped, a
    /// disconnect is `Closed`, anything else is a fault.
    pub fn expect(&mut self, numbers: &[u8]) -> Result<Vec<u8>, Fault> {
        self.expect_within(numbers, PATIENCE)
    }

    pub fn expect_within(&mut self, numbers: &[u8], within: Duration) -> Result<Vec<u8>, Fault> {
        let until = Instant::now() + within;
        loop {
            let packet = self.receive(until.saturating_duration_since(Instant::now()))?;
            match packet.first() {
                Some(number) if numbers.contains(number) => return Ok(packet),
                Some(
                    &(msg::IGNORE | msg::DEBUG | msg::EXT_INFO | msg::GLOBAL_REQUEST | msg::CHANNEL_WINDOW_ADJUST),
                ) => {}
                Some(&msg::DISCONNECT) => return Err(Fault::Closed),
                other => return Err(Fault::Bad(format!("message {other:?}, wanted {numbers:?}"))),
            }
        }
    }

    /// Reads to the end of the connection; everything that came before it.
    ///
    /// # Errors
    /// [`Fault::Silent`] if the connection is still open at the deadline.
    pub fn drained(&mut self, within: Duration) -> Result<Vec<Vec<u8>>, Fault> {
        let until = Instant::now() + within;
        let mut packets = Vec::new();
        loop {
            match self.receive(until.saturating_duration_since(Instant::now())) {
                Ok(packet) if packet.first() == Some(&msg::DISCONNECT) => {
                    packets.push(packet);
                    return Ok(packets);
                }
                Ok(packet) => packets.push(packet),
                Err(Fault::Closed) => return Ok(packets),
                Err(fault) => return Err(fault),
            }
        }
    }
}
