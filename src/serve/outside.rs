//! What the server shows to those who are not on its machine: the API's TLS
//! listener, where SSH is, webhooks both ways.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::api::client::post::{Poster, in_clear_to_others};
use crate::api::wire::access::ServerView;
use crate::api::{Door, Hook, tls};
use crate::clock::Clock;
use crate::config::{self, Config, HookMay, HookSaid};
use crate::issue::trust;
use crate::keeper::Keeper;
use crate::notify::{Notify, Secret, Teller};

/// Largest file with a secret, in bytes.
const SECRET_BYTES_MAX: u64 = 4096;

/// The key that the API shows over TLS, as clients pin it; a dash where it is
/// not offered. Makes the API's certificate if none was given.
pub fn shown_at(config: &Config, clock: &Clock) -> anyhow::Result<String> {
    let api = &config.api;
    if api.listen.is_none() {
        return Ok("-".to_owned());
    }
    if !api.given {
        let mut names = config.ssh.host_names.clone();
        names.push("localhost".to_owned());
        tls::make_own(&api.certificate, &api.key, &names, clock.now().wall_ms).context("the API's certificate")?;
    }
    Ok(tls::pin_of(&api.certificate)
        .context("the API's certificate")?
        .to_string())
}

/// Binds the API's TLS listener.
pub async fn tls_door(config: &Config, at: SocketAddr) -> anyhow::Result<(Door, SocketAddr)> {
    let api = &config.api;
    let acceptor = tls::acceptor(&api.certificate, &api.key).context("the API's TLS")?;
    let listener = TcpListener::bind(at)
        .await
        .with_context(|| format!("cannot listen at {at} (api.listen)"))?;
    let bound = listener.local_addr()?;
    if !api.given {
        let pin = tls::pin_of(&api.certificate)?;
        tracing::info!(%bound, %pin, "clients log in with: portcullis login --server https://HOST:PORT --pin PIN");
    }
    Ok((Door::Tls(listener, acceptor), bound))
}

/// Where SSH is and by what keys it is known.
pub fn server_view(config: &Config, ssh_port: u16, keeper: &dyn Keeper) -> anyhow::Result<ServerView> {
    let names = &config.ssh.host_names;
    let pattern: Vec<String> = names
        .iter()
        .map(|name| match ssh_port {
            22 => name.clone(),
            port => format!("[{name}]:{port}"),
        })
        .collect();
    Ok(ServerView {
        node: config.node.clone(),
        ssh_hosts: names.clone(),
        ssh_port,
        known_hosts: vec![trust::known_hosts_line(&pattern.join(","), &keeper.host_ca())?],
    })
}

/// Reads a secret that nobody else can.
fn secret(path: &Path) -> anyhow::Result<Secret> {
    let named = || format!("the secret {}", path.display());
    let meta = std::fs::metadata(path).with_context(named)?;
    anyhow::ensure!(
        meta.permissions().mode() & 0o077 == 0,
        "the secret {} can be read by others: chmod 600 it",
        path.display()
    );
    anyhow::ensure!(
        meta.len() <= SECRET_BYTES_MAX,
        "the secret {} is too large",
        path.display()
    );
    let text = std::fs::read_to_string(path).with_context(named)?;
    Secret::parse(&text).map_err(|why| anyhow::anyhow!("the secret {}: {why}", path.display()))
}

/// Systems that may call by signed webhooks.
pub fn hooks(said: &[HookSaid]) -> anyhow::Result<Vec<Hook>> {
    said.iter()
        .map(|hook| {
            Ok(Hook {
                name: hook.name.clone(),
                secret: secret(&hook.secret_file)?,
                may_revoke: hook.may.contains(&HookMay::Revoke),
                may_answer: hook.may.contains(&HookMay::Answer),
            })
        })
        .collect()
}

/// Who tells others about requests.
pub fn teller(api: &config::Api, clock: &Clock) -> anyhow::Result<Teller> {
    let Some(to) = &api.notify else {
        return Ok(Teller::mute(clock.clone()));
    };
    anyhow::ensure!(
        !in_clear_to_others(&to.url),
        "api.notify_url: messages leave this machine only over https"
    );
    let to = Notify {
        url: to.url.clone(),
        secret: secret(&to.secret_file)?,
    };
    Ok(Teller::start(to, Arc::new(Poster), clock.clone()))
}
