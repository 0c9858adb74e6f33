//! A network device as target: it takes a password, or asks for it in prompts
//! of its own, and knows no certificates. Run by our own SSH library, for no
//! OpenSSH server asks such things without PAM.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::server::{self, Auth, Msg, Response, Session};
use russh::{Channel, ChannelId, MethodKind, MethodSet};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// One round of prompts: what is said around them, each with its echo and the
/// answer that it wants.
#[derive(Clone, Debug, Default)]
pub struct Round {
    pub instructions: String,
    pub prompts: Vec<(String, bool, String)>,
}

impl Round {
    /// A round with this further prompt.
    pub fn ask(mut self, prompt: &str, echo: bool, wants: &str) -> Round {
        self.prompts.push((prompt.to_owned(), echo, wants.to_owned()));
        self
    }
}

/// What a device takes.
#[derive(Clone, Debug)]
pub enum Takes {
    Password(String),
    Prompts(Vec<Round>),
}

/// A running device. Its server ends with it.
pub struct Device {
    dir: TempDir,
    addr: SocketAddr,
    told: Arc<Mutex<Vec<String>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Device {
    #[track_caller]
    pub fn start(takes: Takes) -> Device {
        let dir = tempfile::Builder::new().prefix("pc-device.").tempdir().unwrap();
        let key = dir.path().join("host_key");
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        super::run(&mut keygen, super::secs(20)).ok();
        let host: PrivateKey = russh::keys::load_secret_key(&key, None).unwrap();
        assert!(host.to_openssh(LineEnding::LF).is_ok());
        let methods: &[MethodKind] = match takes {
            Takes::Password(_) => &[MethodKind::Password],
            Takes::Prompts(_) => &[MethodKind::KeyboardInteractive],
        };
        let config = Arc::new(server::Config {
            keys: vec![host],
            methods: MethodSet::from(methods),
            auth_rejection_time: std::time::Duration::from_millis(1),
            ..server::Config::default()
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let peer = Peer {
            takes,
            told: told.clone(),
            user: String::new(),
            round: 0,
        };
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (config, peer) = (config.clone(), peer.clone());
                tokio::spawn(async move {
                    if let Ok(session) = server::run_stream(config, stream, peer).await {
                        session.await.ok();
                    }
                });
            }
        });
        Device {
            dir,
            addr,
            told,
            _runtime: runtime,
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn host_key_pub(&self) -> PathBuf {
        self.dir.path().join("host_key.pub")
    }

    /// Everything that it was told as a password or an answer, in order.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// One connection to it.
#[derive(Clone)]
struct Peer {
    takes: Takes,
    told: Arc<Mutex<Vec<String>>>,
    user: String,
    round: usize,
}

impl Peer {
    fn hear(&self, what: &str) {
        self.told.lock().unwrap().push(what.to_owned());
    }

    fn ask(&self, round: &Round) -> Auth {
        let each = round.prompts.iter();
        Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Owned(round.instructions.clone()),
            prompts: Cow::Owned(each.map(|(text, echo, _)| (Cow::Owned(text.clone()), *echo)).collect()),
        }
    }
}

impl server::Handler for Peer {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.hear(password);
        self.user = user.to_owned();
        Ok(match &self.takes {
            Takes::Password(right) if right == password => Auth::Accept,
            _ => Auth::reject(),
        })
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        response: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        let Takes::Prompts(rounds) = self.takes.clone() else {
            return Ok(Auth::reject());
        };
        self.user = user.to_owned();
        let Some(response) = response else {
            self.round = 0;
            return Ok(self.ask(&rounds[0]));
        };
        let answers: Vec<String> = response.map(|one| String::from_utf8_lossy(&one).into_owned()).collect();
        answers.iter().for_each(|answer| self.hear(answer));
        let wanted: Vec<&String> = rounds[self.round].prompts.iter().map(|(_, _, wants)| wants).collect();
        if answers.iter().collect::<Vec<_>>() != wanted {
            return Ok(Auth::reject());
        }
        self.round += 1;
        Ok(match rounds.get(self.round) {
            Some(next) => self.ask(next),
            None => Auth::Accept,
        })
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: server::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, channel: ChannelId, _: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(channel)?;
        session.data(channel, format!("you are {}\n", self.user).into_bytes())?;
        session.exit_status_request(channel, 0)?;
        session.eof(channel)?;
        session.close(channel)?;
        Ok(())
    }
}
