//! A client of our own, for what no OpenSSH program sends, signals and breaks,
//! and for key exchanges that older ones do not know.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::{Certificate, PrivateKey, load_openssh_certificate, load_secret_key};
use russh::{ChannelMsg, Disconnect};

use super::Bastion;
use super::Pass;

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        // Host keys are another test's; loopback only.
        Ok(true)
    }
}

/// Logs in as `user`.
async fn logged_in(addr: SocketAddr, pass: &Pass, user: &str) -> Handle<Trusting> {
    let key: PrivateKey = load_secret_key(&pass.key, None).unwrap();
    let certificate: Certificate = load_openssh_certificate(&pass.certificate).unwrap();
    let config = Arc::new(client::Config::default());
    let mut handle = client::connect(config, addr, Trusting).await.unwrap();
    let answer = handle
        .authenticate_openssh_cert(user, Arc::new(key), certificate)
        .await
        .unwrap();
    assert!(answer.success(), "not admitted");
    handle
}

async fn leave(handle: Handle<Trusting>) {
    handle.disconnect(Disconnect::ByApplication, "", "").await.ok();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Opens one session channel, within `limit`: whether there is a target behind it.
pub fn opens_a_channel(bastion: &Bastion, pass: &Pass, limit: Duration) -> bool {
    let work = async {
        let handle = logged_in(bastion.addr(), pass, &pass.destination).await;
        let opened = handle.channel_open_session().await.is_ok();
        leave(handle).await;
        opened
    };
    runtime()
        .block_on(async { tokio::time::timeout(limit, work).await })
        .expect("in time")
}

/// A port behind which each connection is carried through a jump to port 22 of
/// `name`, until the test's process ends.
pub fn jump_port(bastion: &Bastion, pass: &Pass, name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let (port, addr, pass) = (listener.local_addr().unwrap(), bastion.addr(), pass.clone());
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((mut stream, from)) = listener.accept().await {
                let pass = pass.clone();
                tokio::spawn(async move {
                    let handle = logged_in(addr, &pass, "somebody").await;
                    let channel = handle
                        .channel_open_direct_tcpip(name, 22, "127.0.0.1", u32::from(from.port()))
                        .await
                        .unwrap();
                    let mut channel = channel.into_stream();
                    // Either side may go as it likes.
                    tokio::io::copy_bidirectional(&mut stream, &mut channel).await.ok();
                    leave(handle).await;
                });
            }
        });
    });
    port
}

/// Runs `command`, sends `signal` once it has printed `when`, and answers with
/// what it printed and how it ended, all within `limit`.
pub fn exec_and_signal(
    bastion: &Bastion,
    pass: &Pass,
    command: &str,
    when: &str,
    signal: russh::Sig,
    limit: Duration,
) -> (String, Option<u32>, Option<String>) {
    let work = async {
        let handle = logged_in(bastion.addr(), pass, &pass.destination).await;
        let mut channel = handle.channel_open_session().await.unwrap();
        channel.exec(true, command).await.unwrap();
        let (mut out, mut status, mut by) = (Vec::new(), None, None);
        let mut signal = Some(signal);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => out.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                ChannelMsg::ExitSignal { signal_name, .. } => by = Some(format!("{signal_name:?}")),
                ChannelMsg::Close => break,
                _ => {}
            }
            if super::bytes::find(&out, when.as_bytes()).is_some()
                && let Some(signal) = signal.take()
            {
                channel.signal(signal).await.unwrap();
            }
        }
        leave(handle).await;
        (String::from_utf8_lossy(&out).into_owned(), status, by)
    };
    runtime()
        .block_on(async { tokio::time::timeout(limit, work).await })
        .expect("in time")
}
