//! The API over TLS as bytes: what the command line would never send, and
//! tokens got by `ssh-keygen -Y sign` instead of our own signer.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::{Value, json};

use super::bastion::Bastion;
use super::process::run;
use super::wait::secs;

/// How long one answer may take.
const ANSWER: Duration = secs(30);

/// A server's API, and the way to it.
#[derive(Clone)]
pub struct Wire {
    config: Arc<ClientConfig>,
    pub addr: SocketAddr,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Its JSON; null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Whether it is a refusal as RFC 9457 has it, with a reason.
    pub fn is_problem(&self) -> bool {
        let told = self.json();
        self.header("content-type") == Some("application/problem+json")
            && told["status"] == self.status
            && told["detail"].as_str().is_some_and(|detail| !detail.is_empty())
    }
}

/// One TLS connection.
pub struct Tls {
    tls: ClientConnection,
    socket: TcpStream,
}

/// A connection from `from`, an address of the loopback network: to the
/// server's limits each is somebody else.
pub fn tcp(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).unwrap();
    socket.connect_timeout(&to.into(), ANSWER).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.set_write_timeout(Some(ANSWER)).unwrap();
    stream
}

impl Wire {
    #[track_caller]
    pub fn of(bastion: &Bastion) -> Wire {
        let addr = bastion.https().strip_prefix("https://").unwrap().parse().unwrap();
        let mut roots = RootCertStore::empty();
        let own = CertificateDer::from_pem_file(bastion.state().join("keys/api.crt")).unwrap();
        roots.add(own).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Wire {
            config: Arc::new(config),
            addr,
        }
    }

    /// A connection; none if the server closes it before it is one.
    pub fn connect(&self, from: Ipv4Addr) -> Option<Tls> {
        let name = ServerName::try_from("gate1").unwrap();
        let mut tls = ClientConnection::new(self.config.clone(), name).unwrap();
        let mut socket = tcp(from, self.addr);
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).ok()?;
        }
        Some(Tls { tls, socket })
    }

    /// Sends `bytes` as they are on a connection of their own; none if the
    /// server closes it without an answer.
    pub fn send(&self, from: Ipv4Addr, bytes: &[u8]) -> Option<Answer> {
        let mut tls = self.connect(from)?;
        tls.write(bytes);
        tls.answer()
    }

    /// One ordinary call.
    #[track_caller]
    pub fn call(&self, from: Ipv4Addr, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let bytes = request(method, path, token, body);
        self.send(from, &bytes)
            .unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// A token of `key`'s owner for these roles; an empty list: all of its own.
    #[track_caller]
    pub fn login(&self, from: Ipv4Addr, name: &str, key: &Enrolled, roles: &[&str], secs: u64) -> String {
        let wanted = json!({ "identity": name, "for": { "action": "login" } });
        let given = self.call(from, "", "POST", "/v1/login/challenge", Some(&wanted));
        let challenge = given.json()["challenge"].as_str().expect("a challenge").to_owned();
        let proof = json!({ "challenge": challenge, "signature": key.sign(&challenge) });
        let asked = json!({ "proof": proof, "roles": roles, "for_secs": secs });
        let had = self.call(from, "", "POST", "/v1/login", Some(&asked));
        let token = had.json()["token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no token for {name}: {}", had.text()))
    }
}

/// An ordinary request as bytes; an empty token is none.
pub fn request(method: &str, path: &str, token: &str, body: Option<&Value>) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gate1\r\nConnection: close\r\n");
    if !token.is_empty() {
        head += &format!("Authorization: Bearer {token}\r\n");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        head += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    } else if method == "POST" {
        head += "Content-Length: 0\r\n";
    }
    format!("{head}\r\n{body}").into_bytes()
}

impl Tls {
    /// As much as the server takes: it may answer and close before the end.
    pub fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(16 * 1024) {
            if self.tls.writer().write_all(piece).is_err() {
                return;
            }
            while self.tls.wants_write() {
                if self.tls.write_tls(&mut self.socket).is_err() {
                    return;
                }
            }
        }
    }

    /// The next answer; none if the connection ends before it is whole.
    pub fn answer(&mut self) -> Option<Answer> {
        let mut had = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(answer) = parsed(&had) {
                return Some(answer);
            }
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return None,
                Ok(got) => had.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if self.tls.read_tls(&mut self.socket).ok()? == 0 {
                        return None;
                    }
                    self.tls.process_new_packets().ok()?;
                }
                Err(_) => return None,
            }
        }
    }

    /// Everything until the server closes it.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut had = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.tls.reader().read(&mut buffer) {
                Ok(0) => return had,
                Ok(got) => had.extend_from_slice(&buffer[..got]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    if !matches!(self.tls.read_tls(&mut self.socket), Ok(1..))
                        || self.tls.process_new_packets().is_err()
                    {
                        return had;
                    }
                }
                Err(_) => return had,
            }
        }
    }
}

/// A whole answer at the start of `bytes`; `100 Continue` is none.
fn parsed(bytes: &[u8]) -> Option<Answer> {
    let end = super::bytes::find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let rest = &bytes[end + 4..];
    let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return parsed(rest);
    }
    let mut answer = Answer {
        status,
        head,
        body: rest.to_vec(),
    };
    if answer.header("transfer-encoding").is_some() {
        let whole = rest.ends_with(b"0\r\n\r\n");
        return whole.then_some(answer);
    }
    let length: usize = answer
        .header("content-length")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    if rest.len() < length {
        return None;
    }
    answer.body.truncate(length);
    Some(answer)
}

/// A key in a file, as an enrolled one.
pub struct Enrolled {
    folder: tempfile::TempDir,
}

impl Enrolled {
    #[track_caller]
    pub fn new() -> Enrolled {
        let folder = tempfile::Builder::new().prefix("pc-key.").tempdir().unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "enrolled", "-f"])
            .arg(folder.path().join("id"));
        run(&mut keygen, secs(20)).ok();
        Enrolled { folder }
    }

    pub fn public(&self) -> PathBuf {
        self.folder.path().join("id.pub")
    }

    /// Its public line.
    pub fn line(&self) -> String {
        std::fs::read_to_string(self.public()).unwrap().trim().to_owned()
    }

    /// Signs a challenge the way any OpenSSH does.
    #[track_caller]
    pub fn sign(&self, challenge: &str) -> String {
        let text = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        std::fs::write(text.path(), challenge).unwrap();
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", "challenge@portcullis", "-f"])
            .arg(self.folder.path().join("id"))
            .arg(text.path());
        run(&mut sign, secs(20)).ok();
        let made = text.path().with_extension(match text.path().extension() {
            Some(known) => format!("{}.sig", known.to_string_lossy()),
            None => "sig".to_owned(),
        });
        std::fs::read_to_string(made).unwrap()
    }
}
