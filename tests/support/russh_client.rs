//! A client of our own, for what no OpenSSH program sends: signals and breaks.

use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Certificate, PrivateKey, load_openssh_certificate, load_secret_key};
use russh::{ChannelMsg, client};

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
    let key: PrivateKey = load_secret_key(&pass.key, None).unwrap();
    let certificate: Certificate = load_openssh_certificate(&pass.certificate).unwrap();
    let work = async {
        let config = Arc::new(client::Config::default());
        let mut handle = client::connect(config, bastion.addr(), Trusting).await.unwrap();
        let user = pass.destination.clone();
        let answer = handle
            .authenticate_openssh_cert(user, Arc::new(key), certificate)
            .await
            .unwrap();
        assert!(answer.success(), "not admitted");
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
        handle.disconnect(russh::Disconnect::ByApplication, "", "").await.ok();
        (String::from_utf8_lossy(&out).into_owned(), status, by)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(limit, work).await })
        .expect("in time")
}
