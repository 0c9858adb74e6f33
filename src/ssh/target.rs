//! The target leg: our client role towards an SSH target.
//!
//! A dial takes a [`Permit`] for `connect`. Per dial: a fresh ed25519 key, a
//! certificate from the target CA valid for minutes, the target's host key
//! pinned or certified by the pinned host CA. One connection per program, so
//! that a braked leg hurts nobody else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PublicKey};
use tokio::net::TcpStream;

use super::algorithms;
use super::doors::Doors;
use super::gated::{Gated, Kill, tune};
use super::host_check::HostCheck;
use super::leg::{Leg, Refusals, clean};
use super::routes::Routes;
use super::target_channel::Dialled;
use crate::keeper::{Keeper, TargetCertificate};
use crate::kernel::grant::Cidr;
use crate::kernel::inventory::HostProof;
use crate::kernel::policy::Permit;
use crate::kernel::request::Request;

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
    #[error("this permit is not for connecting")]
    WrongPermit,
    #[error("the target {0} does not answer: {1}")]
    Connect(String, String),
    #[error("the target {0} did not answer within {1} s")]
    Timeout(String, u64),
    #[error("the target {0} shows another host key than the pinned one ({1})")]
    HostKey(String, String),
    #[error("the target's pinned host key cannot be read: {0}")]
    BadPin(String),
    #[error("the target {0} refused the login {1}: does it trust the target CA, and does the account exist?")]
    Login(String, String),
    #[error("no certificate for the target: {0}")]
    Certificate(#[from] crate::keeper::KeeperError),
}

/// Where to dial and as whom.
#[derive(Clone)]
pub struct Dial {
    /// `host:port`.
    pub addr: String,
    pub proof: HostProof,
    pub login: String,
    /// Names person, grant and session in the target's log.
    pub key_id: String,
    /// What the certificate is to carry.
    pub extensions: Vec<&'static str>,
    pub until_ms: u64,
    pub timeout: Duration,
    /// What the target sees us come from; none: the address that is dialled from.
    pub sources: Vec<Cidr>,
}

/// Connects and logs in; falls with `kill`, the session's.
///
/// # Errors
/// [`DialError`], with a sentence for the user.
pub async fn dial(
    permit: &Permit,
    dial: &Dial,
    keeper: &dyn Keeper,
    now_ms: u64,
    kill: &Kill,
) -> Result<Dialled, DialError> {
    if *permit.request() != Request::Connect {
        return Err(DialError::WrongPermit);
    }
    let name = dial.addr.clone();
    // The leg fires its own switch when russh gives up; its reason must still
    // be heard here, so this waits on the session's.
    let leg = kill.child();
    let work = connect(dial, keeper, now_ms, leg.clone());
    match tokio::time::timeout(dial.timeout, kill.guard(work)).await {
        Ok(Some(Ok(dialled))) => Ok(dialled),
        Ok(Some(Err(error))) => {
            leg.fire();
            Err(error)
        }
        Ok(None) => Err(DialError::Connect(name, "the session ended".into())),
        Err(_) => {
            leg.fire();
            Err(DialError::Timeout(name, dial.timeout.as_secs()))
        }
    }
}

async fn connect(dial: &Dial, keeper: &dyn Keeper, now_ms: u64, kill: Kill) -> Result<Dialled, DialError> {
    let unreachable = |why: &dyn std::fmt::Display| DialError::Connect(dial.addr.clone(), clean(&why.to_string()));
    let host = dial.addr.rsplit_once(':').map_or(dial.addr.as_str(), |(host, _)| host);
    let check = HostCheck::new(&dial.proof, host.trim_matches(['[', ']']), now_ms)?;
    let stream = TcpStream::connect(dial.addr.as_str())
        .await
        .map_err(|e| unreachable(&e))?;
    tune(&stream).map_err(|e| unreachable(&e))?;
    let source_address = source_address(&dial.sources, stream.local_addr().map_err(|e| unreachable(&e))?);

    let (links, doors, refusals) = (Routes::default(), Doors::default(), Refusals::default());
    let shown = Arc::new(Mutex::new(None));
    let config = client::Config {
        client_id: russh::SshId::Standard("SSH-2.0-Portcullis".into()),
        window_size: WINDOW_BYTES,
        preferred: algorithms::client(check.pinned_algorithm()),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVES_MISSED_MAX,
        channel_buffer_size: 1,
        ..client::Config::default()
    };
    let leg = Leg::new(
        check,
        shown.clone(),
        links.clone(),
        doors.clone(),
        refusals.clone(),
        kill.clone(),
    );
    let connected = client::connect_stream(Arc::new(config), Gated::new(stream, kill.clone()), leg).await;
    let mut handle = connected.map_err(
        |error| match shown.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(fingerprint) => DialError::HostKey(dial.addr.clone(), fingerprint),
            None => unreachable(&error),
        },
    )?;

    let mut seed = [0u8; 32];
    crate::entropy::fill(&mut seed);
    let key =
        PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "").map_err(|e| unreachable(&e))?;
    zeroize::Zeroize::zeroize(&mut seed);
    let certificate = keeper
        .issue_target(TargetCertificate {
            public_key: PublicKey::new(key.public_key().key_data().clone(), ""),
            key_id: dial.key_id.clone(),
            principal: dial.login.clone(),
            valid_after_ms: now_ms.saturating_sub(BACKDATE_MS),
            valid_before_ms: now_ms
                .saturating_add(CERTIFICATE_MS)
                .min(dial.until_ms.saturating_add(1_000)),
            source_address: Some(source_address),
            extensions: dial.extensions.clone(),
        })
        .await?;
    let answer = handle
        .authenticate_openssh_cert(dial.login.clone(), Arc::new(key), certificate)
        .await
        .map_err(|e| unreachable(&e))?;
    if !answer.success() {
        return Err(DialError::Login(dial.addr.clone(), dial.login.clone()));
    }
    Ok(Dialled::new(handle, links, doors, refusals, kill, dial.addr.clone()))
}

/// What a target is to see the certificate come from: whoever else gets hold
/// of one has no use for it elsewhere.
fn source_address(configured: &[Cidr], ours: SocketAddr) -> String {
    match configured {
        [] => ours.ip().to_canonical().to_string(),
        blocks => blocks.iter().map(Cidr::to_string).collect::<Vec<_>>().join(","),
    }
}
