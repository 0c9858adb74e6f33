//! What each key signs and what it refuses, and the real `ssh-agent`.

use std::process::{Child, Command, Stdio};

use ed25519_dalek::{Signature as RawSignature, VerifyingKey};
use russh::keys::ssh_key::{Algorithm, HashAlg, PrivateKey};

use super::*;
use crate::clock::Now;
use crate::issue::keys::CaHome;
use crate::issue::places::Place;
use crate::kernel::grant::WallMs;

const NOW: WallMs = 1_800_000_000_500;
const MINUTE: u64 = 60_000;

struct Bench {
    _state: tempfile::TempDir,
    dir: std::path::PathBuf,
    keeper: FileKeeper,
    clock: Clock,
}

fn bench() -> Bench {
    let state = tempfile::tempdir().unwrap();
    let dir = state.path().join("keys");
    keys::create(&dir, CaHome::Files).unwrap();
    let clock = Clock::manual(Now {
        wall_ms: NOW,
        boot_ms: 1,
    });
    let keeper = FileKeeper::load(&dir, Rules::default(), clock.clone()).unwrap();
    Bench {
        _state: state,
        dir,
        keeper,
        clock,
    }
}

fn fresh() -> PublicKey {
    PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519)
        .unwrap()
        .public_key()
        .clone()
}

fn admission() -> AdmissionCertificate {
    AdmissionCertificate {
        public_key: fresh(),
        serial: 1,
        key_id: "alice".into(),
        principal: "root@db1".into(),
        valid_after_ms: NOW,
        valid_before_ms: NOW + 10 * MINUTE,
        source_address: None,
        extensions: vec!["permit-pty"],
    }
}

fn target() -> TargetCertificate {
    TargetCertificate {
        public_key: fresh(),
        key_id: "alice".into(),
        principal: "root".into(),
        valid_after_ms: NOW - TARGET_BACKDATE_MS_MAX,
        valid_before_ms: NOW + TARGET_MS_MAX,
        source_address: None,
        extensions: vec![],
    }
}

fn host() -> HostCertificate {
    HostCertificate {
        public_key: fresh(),
        key_id: "bastion".into(),
        principals: vec!["bastion".into()],
        valid_after_ms: NOW,
        valid_before_ms: NOW + HOST_MS_MAX,
    }
}

fn refused<T>(answer: Result<T, KeeperError>) -> bool {
    matches!(answer, Err(KeeperError::Refused { .. }))
}

#[tokio::test]
async fn each_authority_signs_its_own_kind() {
    let Bench { keeper, _state, .. } = bench();
    let at = NOW / 1000;
    for (made, ca) in [
        (
            keeper.issue_admission(admission()).await.unwrap(),
            keeper.admission_ca(),
        ),
        (keeper.issue_target(target()).await.unwrap(), keeper.target_ca()),
        (keeper.issue_host(host()).await.unwrap(), keeper.host_ca()),
    ] {
        made.validate_at(at, &[ca.fingerprint(HashAlg::Sha256)]).unwrap();
    }
}

#[tokio::test]
async fn certificates_that_break_a_rule_are_refused() {
    let Bench {
        keeper, dir, _state, ..
    } = bench();
    let asked = |change: &dyn Fn(&mut AdmissionCertificate)| {
        let mut it = admission();
        change(&mut it);
        it
    };
    let node = keys::read_public(&dir, KeyName::Node).unwrap();
    let ssh_host = keys::read_public(&dir, KeyName::SshHost).unwrap();
    for bad in [
        asked(&|it| it.valid_before_ms = NOW + GRANT_MS_MAX + 1),
        asked(&|it| {
            it.valid_after_ms = NOW - 2 * MINUTE;
            it.valid_before_ms = NOW - MINUTE;
        }),
        asked(&|it| {
            it.valid_after_ms = NOW + GRANT_AHEAD_MS_MAX + 1;
            it.valid_before_ms = it.valid_after_ms + MINUTE;
        }),
        asked(&|it| it.principal = String::new()),
        asked(&|it| it.public_key = node.clone()),
        asked(&|it| it.public_key = ssh_host.clone()),
    ] {
        let shown = format!("{bad:?}");
        assert!(refused(keeper.issue_admission(bad).await), "{shown}");
    }
    for (after, before) in [
        (NOW, NOW + TARGET_MS_MAX + 1),
        (NOW - TARGET_BACKDATE_MS_MAX - 1, NOW + MINUTE),
        (NOW - 30_000, NOW),
        // For later, though short: it could be kept until then.
        (NOW + TARGET_MS_MAX, NOW + TARGET_MS_MAX + MINUTE),
    ] {
        let bad = TargetCertificate {
            valid_after_ms: after,
            valid_before_ms: before,
            ..target()
        };
        assert!(refused(keeper.issue_target(bad).await), "{after} {before}");
    }
    for bad in [
        HostCertificate {
            valid_before_ms: NOW + HOST_MS_MAX + 1,
            ..host()
        },
        HostCertificate {
            principals: vec![],
            ..host()
        },
        HostCertificate {
            public_key: node,
            ..host()
        },
    ] {
        assert!(refused(keeper.issue_host(bad).await));
    }
    let own = HostCertificate {
        public_key: ssh_host,
        ..host()
    };
    keeper.issue_host(own).await.unwrap();
}

#[tokio::test]
async fn config_may_shorten_grants() {
    let Bench { dir, clock, _state, .. } = bench();
    let rules = Rules {
        grant_ms_max: 5 * MINUTE,
    };
    let keeper = FileKeeper::load(&dir, rules, clock).unwrap();
    assert!(refused(keeper.issue_admission(admission()).await));
}

#[tokio::test]
async fn the_node_key_signs_recordings_only() {
    let Bench { keeper, _state, .. } = bench();
    let statement = b"portcullis-recording/v1 head\0\xa1";
    let signature = keeper.sign_recording(statement).await.unwrap();
    VerifyingKey::from_bytes(&keeper.node_key())
        .unwrap()
        .verify_strict(statement, &RawSignature::from_bytes(&signature))
        .unwrap();
    let long = [RECORDING_DOMAINS[0], &vec![0; STATEMENT_BYTES_MAX]].concat();
    for bad in [&b""[..], b"portcullis-recording/v1 leaf\0", b"x", &long] {
        assert!(refused(keeper.sign_recording(bad).await));
    }
}

#[tokio::test]
async fn the_ledger_key_never_goes_back() {
    let Bench { keeper, _state, .. } = bench();
    let body = |origin: &str, size: &str, root: char| {
        let root: String = std::iter::repeat_n(root, 43).chain(['=']).collect();
        format!("{origin}\n{size}\n{root}\n").into_bytes()
    };
    let sign = async |body: Vec<u8>| keeper.sign_checkpoint(&body).await;
    sign(body("log", "5", 'A')).await.unwrap();
    sign(body("log", "5", 'A')).await.unwrap();
    sign(body("log", "9", 'B')).await.unwrap();
    for bad in [
        body("log", "8", 'C'),
        body("log", "9", 'C'),
        body("other", "10", 'D'),
        body("log", "010", 'D'),
        body("log", "+10", 'D'),
        body("log", "10", '*'),
        b"log\n10\nAAAA\n".to_vec(),
        [body("log", "10", 'D'), b"extension\n".to_vec()].concat(),
        body("log", "10", 'D').split_last().unwrap().1.to_vec(),
    ] {
        assert!(refused(sign(bad.clone()).await), "{}", String::from_utf8_lossy(&bad));
    }
    sign(body("log", "10", 'D')).await.unwrap();
}

/// A real ssh-agent in the foreground; ended by its own process when dropped.
struct RealAgent {
    child: Child,
    socket: std::path::PathBuf,
}

impl RealAgent {
    fn start(dir: &Path) -> RealAgent {
        use std::io::BufRead;
        let socket = dir.join("agent");
        let mut child = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints its environment once it listens.
        let out = child.stdout.take().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(out).read_line(&mut line).unwrap();
        assert!(line.contains("SSH_AUTH_SOCK"), "{line}");
        RealAgent { child, socket }
    }

    fn add(&self, key: &Path) {
        let done = Command::new("ssh-add")
            .env("SSH_AUTH_SOCK", &self.socket)
            .arg(key)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn authorities_in_a_real_agent() {
    let Bench { dir, clock, _state, .. } = bench();
    let place = tempfile::tempdir().unwrap();
    let agent = RealAgent::start(place.path());
    for name in [KeyName::AdmissionCa, KeyName::TargetCa] {
        agent.add(&dir.join(name.file()));
        std::fs::remove_file(dir.join(name.file())).unwrap();
    }
    let places = Places {
        admission_ca: Place::Agent,
        target_ca: Place::Agent,
        host_ca: Place::Agent,
        agent: Some(agent.socket.clone()),
        ..Places::default()
    };
    let keeper = FileKeeper::load_from(&dir, &places, Rules::default(), clock.clone()).unwrap();

    let made = keeper.issue_admission(admission()).await.unwrap();
    made.validate_at(NOW / 1000, &[keeper.admission_ca().fingerprint(HashAlg::Sha256)])
        .unwrap();
    keeper.issue_target(target()).await.unwrap();

    // The host CA was not given to it.
    let missing = keeper.issue_host(host()).await.unwrap_err().to_string();
    assert!(missing.contains("host_ca"), "{missing}");
    let missing = keeper.authorities().check().await.unwrap_err().to_string();
    assert!(missing.contains("ssh-add") && missing.contains("host_ca"), "{missing}");
    agent.add(&dir.join("host_ca"));
    keeper.authorities().check().await.unwrap();
    keeper.issue_host(host()).await.unwrap();

    // One of them in the agent, the others in files.
    let mixed = Places {
        host_ca: Place::File,
        ..places
    };
    let keeper = FileKeeper::load_from(&dir, &mixed, Rules::default(), clock.clone()).unwrap();
    keeper.authorities().check().await.unwrap();
    keeper.issue_host(host()).await.unwrap();
    let nowhere = Places { agent: None, ..mixed };
    let said = FileKeeper::load_from(&dir, &nowhere, Rules::default(), clock).unwrap_err();
    assert!(said.to_string().contains("no `agent` is named"), "{said}");

    drop(agent);
    assert!(matches!(
        keeper.issue_admission(admission()).await,
        Err(KeeperError::Unavailable { .. })
    ));
}
