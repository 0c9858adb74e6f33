//! What the certificate tests share: certificates signed by the bastion's own
//! CA, grants written straight into its store, and a real sshd that trusts
//! the same CA as the judge of what OpenSSH would take.

use std::path::PathBuf;
use std::process::Command;

use ed25519_dalek::SigningKey;
use portcullis::kernel::grant::{Capability, Grant};
use portcullis::kernel::id::GrantId;
use portcullis::store::Store;
use portcullis::store::sqlite::SqliteStore;
use sha2::{Digest, Sha256};

use crate::hostile::{served, signing_key};
use crate::raw::auth::{Answer, ED25519_CERT};
use crate::raw::certs::{Cert, blob_of, line};
use crate::raw::{Hello, Peer};
use crate::support::bastion::wall_ms;
use crate::support::{Bastion, Pass, Setup, Sshd, Variant, World, run, secs};

pub const USER: &str = "root@db1";

/// A bastion, its target, and the judge.
pub struct Yard {
    pub world: World,
    pub judge: Sshd,
    store: SqliteStore,
    runtime: tokio::runtime::Runtime,
}

impl Yard {
    pub fn new() -> Yard {
        Yard::with(Setup::new())
    }

    pub fn with(setup: Setup) -> Yard {
        let world = World::with(setup, Variant::default());
        let bastion = &world.bastion;
        bastion.admin(&["identity", "add", "alice"]).ok();
        let principals = bastion.dir().join("principals");
        std::fs::write(&principals, format!("{USER}\n")).unwrap();
        let variant = Variant::default()
            .line(&format!("AuthorizedPrincipalsFile {}", principals.display()))
            .line("StrictModes no")
            .line("MaxStartups 100");
        let judge = Sshd::trusting(&bastion.state().join("keys/admission_ca.pub"), variant);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let store = runtime
            .block_on(SqliteStore::open(&bastion.state().join("store.db")))
            .unwrap();
        Yard {
            world,
            judge,
            store,
            runtime,
        }
    }

    pub fn bastion(&self) -> &Bastion {
        &self.world.bastion
    }

    /// One of the keys that only the bastion has.
    pub fn key(&self, name: &str) -> SigningKey {
        signing_key(&self.key_file(name))
    }

    pub fn key_file(&self, name: &str) -> PathBuf {
        self.bastion().state().join("keys").join(name)
    }

    /// A sound certificate of the admission CA's, ten minutes long.
    pub fn cert(&self, key: &SigningKey) -> Cert {
        let now = wall_ms() / 1000;
        Cert::new(key, USER, rand::random::<u32>().into(), now - 30, now + 600)
    }

    /// Enters a grant for this very blob, past everything that issuing checks.
    pub fn grant(&self, blob: &[u8], change: impl FnOnce(&mut Grant)) -> GrantId {
        let mut grant = sound_grant(blob);
        change(&mut grant);
        self.runtime.block_on(self.store.add_grant(&grant)).unwrap();
        grant.id
    }

    /// The same, unless the change takes the grant away; whether there is one.
    pub fn grant_if(&self, blob: &[u8], change: impl FnOnce(&mut Option<Grant>)) -> bool {
        let mut grant = Some(sound_grant(blob));
        change(&mut grant);
        if let Some(grant) = &grant {
            self.runtime.block_on(self.store.add_grant(grant)).unwrap();
        }
        grant.is_some()
    }

    /// What the bastion answers to a certificate.
    pub fn ours(&self, user: &str, blob: &[u8], key: &SigningKey) -> Answer {
        let mut peer = served(self.bastion());
        peer.certificate(user, blob, key).unwrap()
    }

    /// Whether a real sshd that trusts the same CA lets it in.
    pub fn judged(&self, blob: &[u8], key: &SigningKey) -> bool {
        let mut peer = Peer::keyed(self.judge.addr(), Hello::default()).unwrap();
        peer.service().unwrap();
        matches!(peer.certificate("root", blob, key), Ok(Answer::Success))
    }

    /// A grant for the blob, both servers' answers, and the law between them:
    /// what a real sshd refuses is not let in here.
    #[track_caller]
    pub fn check(&self, name: &str, admits: bool, blob: &[u8], key: &SigningKey) {
        self.grant(blob, |_| {});
        let ours = self.ours(USER, blob, key);
        let judged = self.judged(blob, key);
        assert_eq!(
            ours == Answer::Success,
            admits,
            "{name}: {ours:?}; sshd admits: {judged}"
        );
        assert!(judged || !admits, "{name}: sshd refuses what is let in here");
        let bare = matches!(ours, Answer::Success | Answer::Failure { .. } | Answer::Closed);
        assert!(bare, "{name}: {ours:?}");
    }

    /// A fresh key file, and its certificate by `ssh-keygen` with these arguments.
    #[track_caller]
    pub fn keygen(&self, ca: &str, arguments: &[&str]) -> Pass {
        let key = self.bastion().fresh("id", "");
        let mut make = Command::new("ssh-keygen");
        make.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(&key);
        run(&mut make, secs(20)).ok();
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-s"])
            .arg(self.key_file(ca))
            .args(["-I", "test"])
            .args(arguments);
        run(sign.arg(key.with_extension("pub")), secs(20)).ok();
        let name = format!("{}-cert.pub", key.file_name().unwrap().to_str().unwrap());
        Pass {
            certificate: key.with_file_name(name),
            key,
            destination: USER.into(),
            grant: String::new(),
            until_ms: wall_ms() + 600_000,
        }
    }

    /// The same with a grant for it.
    #[track_caller]
    pub fn granted(&self, ca: &str, arguments: &[&str]) -> Pass {
        let mut pass = self.keygen(ca, arguments);
        pass.grant = self.grant(&blob(&pass), |_| {}).to_string();
        pass
    }

    /// Writes a crafted certificate where OpenSSH's client finds it.
    pub fn pass_of(&self, key: PathBuf, blob: &[u8]) -> Pass {
        let certificate = self.bastion().fresh("crafted", "-cert.pub");
        std::fs::write(&certificate, line(ED25519_CERT, blob)).unwrap();
        Pass {
            key,
            certificate,
            destination: USER.into(),
            grant: String::new(),
            until_ms: wall_ms() + 600_000,
        }
    }
}

/// A grant for this very blob, live for ten minutes.
fn sound_grant(blob: &[u8]) -> Grant {
    let now = wall_ms();
    Grant {
        id: GrantId(rand::random()),
        identity: "alice".parse().unwrap(),
        destination: USER.parse().unwrap(),
        from_ms: now - 1000,
        until_ms: now + 600_000,
        sources: Vec::new(),
        capabilities: [Capability::Shell, Capability::Exec, Capability::Sftp].into(),
        reason: "a test".into(),
        ticket: None,
        request: None,
        issued_by: "a test".into(),
        policy_digest: [0; 32],
        certificate_sha256: Sha256::digest(blob).into(),
        certificate_serial: rand::random::<u32>().into(),
        single_use: false,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    }
}

pub fn blob(pass: &Pass) -> Vec<u8> {
    blob_of(&std::fs::read_to_string(&pass.certificate).unwrap()).unwrap()
}

/// A key that is nobody's in particular.
pub fn fresh_key() -> SigningKey {
    SigningKey::from_bytes(&rand::random())
}
