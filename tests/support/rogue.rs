//! A target of our own that opens channels towards its client which nobody
//! asked for, and says what became of them. It lets every certificate in.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::keys::{Certificate, PrivateKey, load_secret_key};
use russh::server::{self, Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Session};
use russh::{Channel, ChannelId};

use super::process::run;
use super::wait::secs;

/// Listens until the test's process ends.
pub struct Rogue {
    addr: SocketAddr,
    key: PathBuf,
}

struct Conduct;

impl Rogue {
    /// One whose host key lies in `folder`.
    pub fn start(folder: &Path) -> Rogue {
        let key = folder.join("rogue_key");
        let mut keygen = std::process::Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "host", "-f"])
            .arg(&key);
        run(&mut keygen, secs(20)).ok();
        let host: PrivateKey = load_secret_key(&key, None).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let config = Arc::new(server::Config {
                    keys: vec![host],
                    auth_rejection_time_initial: Some(std::time::Duration::ZERO),
                    ..server::Config::default()
                });
                while let Ok((stream, _)) = listener.accept().await {
                    let config = config.clone();
                    tokio::spawn(async move {
                        if let Ok(session) = server::run_stream(config, stream, Conduct).await {
                            session.await.ok();
                        }
                    });
                }
            });
        });
        Rogue { addr, key }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn host_key_pub(&self) -> PathBuf {
        self.key.with_extension("pub")
    }
}

/// Opens what `command` names, as often as it says, and tells the outcome.
async fn misbehave(command: &str, handle: &Handle) -> String {
    let mut words = command.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let times: usize = words.next().and_then(|count| count.parse().ok()).unwrap_or(1);
    let mut said = String::new();
    for _ in 0..times {
        let opened = match kind {
            "agent" => handle.channel_open_agent().await,
            "x11" => handle.channel_open_x11("127.0.0.1", 6000).await,
            "tcpip" => {
                handle
                    .channel_open_forwarded_tcpip("localhost", 80, "127.0.0.1", 1)
                    .await
            }
            "streamlocal" => handle.channel_open_forwarded_streamlocal("/tmp/x").await,
            "session" => handle.channel_open_session().await,
            _ => handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await,
        };
        said.push_str(match opened {
            Ok(_) => "opened\n",
            Err(_) => "refused\n",
        });
    }
    said
}

impl server::Handler for Conduct {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, _: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_openssh_certificate(&mut self, _: &str, _: &Certificate) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(id)?;
        let (handle, command) = (session.handle(), String::from_utf8_lossy(command).into_owned());
        tokio::spawn(async move {
            let said = misbehave(&command, &handle).await;
            handle.data(id, said).await.ok();
            handle.exit_status_request(id, 0).await.ok();
            handle.eof(id).await.ok();
            handle.close(id).await.ok();
        });
        Ok(())
    }
}
