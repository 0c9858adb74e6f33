//! The keeper whose keys lie in the keys folder; each of the three authorities
//! may be in an ssh-agent or in a token instead.
//!
//! It signs statements, not bytes: each key has rules of its own, so that a
//! bug elsewhere (or a caller who may only ask) cannot get a certificate that
//! outlives its purpose, a log that goes back, or a signature that means
//! something else elsewhere.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::sshsig;
use rand::RngExt;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Certificate, PrivateKey, PublicKey};

use crate::clock::Clock;
use crate::keeper::{AdmissionCertificate, Answer, HostCertificate, Keeper, KeeperError, TargetCertificate};
use crate::kernel::break_glass;
use crate::kernel::grant::GRANT_MS_MAX;

use super::ca::{Draft, NONCE_BYTES};
use super::keys::{self, KeyName, KeysError};
use super::places::Places;
use super::signer::{Authorities, Authority, Holders};

/// Longest life of a certificate towards a target, in ms (15 min).
pub const TARGET_MS_MAX: u64 = 15 * 60 * 1000;
/// How far a certificate towards a target may begin in the past, in ms, for
/// targets whose clock runs behind ours (1 min); it adds to its life.
pub const TARGET_BACKDATE_MS_MAX: u64 = 60 * 1000;
/// How far a grant may begin in the future, in ms (31 days).
pub const GRANT_AHEAD_MS_MAX: u64 = 31 * 24 * 60 * 60 * 1000;
/// Longest life of a certificate under a break-glass grant, in ms: its window
/// and the minute that it begins before. It ends no later than this from now.
pub const BREAK_GLASS_MS_MAX: u64 = break_glass::WINDOW_MS_MAX + TARGET_BACKDATE_MS_MAX;
/// Longest life of a host certificate of ours, in ms (366 days).
pub const HOST_MS_MAX: u64 = 366 * 24 * 60 * 60 * 1000;
/// Longest statement about a recording, in bytes.
pub const STATEMENT_BYTES_MAX: usize = 32 * 1024;
/// Longest checkpoint body, in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 1024;

/// What the node's identity key signs: the heads and the seals of recordings
/// (recording/FORMAT.md section 4.1). Beside them it signs whole files, by a
/// statement that [`sshsig`] makes.
const RECORDING_DOMAINS: [&[u8]; 2] = [b"portcullis-recording/v1 head\0", b"portcullis-recording/v1 seal\0"];

/// Rules that config may tighten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Longest life of a grant, in ms.
    pub grant_ms_max: u64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            grant_ms_max: GRANT_MS_MAX,
        }
    }
}

/// Signs with keys held in this process, and with authorities held elsewhere.
pub struct FileKeeper {
    /// Swapped whole when keys were changed.
    authorities: RwLock<Arc<Authorities>>,
    holders: Holders,
    node: SigningKey,
    ledger: SigningKey,
    /// Public halves of the node's own keys, the SSH host key last.
    own: [(KeyName, KeyData); 3],
    rules: Rules,
    clock: Clock,
    /// The largest checkpoint signed so far.
    last: Mutex<Option<Signed>>,
}

impl fmt::Debug for FileKeeper {
    /// Names no key material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileKeeper").finish_non_exhaustive()
    }
}

struct Signed {
    origin: Vec<u8>,
    size: u64,
    root: Vec<u8>,
}

impl FileKeeper {
    /// Loads every key from the keys folder.
    ///
    /// # Errors
    /// See [`FileKeeper::load_from`].
    pub fn load(dir: &Path, rules: Rules, clock: Clock) -> Result<FileKeeper, KeysError> {
        FileKeeper::load_from(dir, &Places::default(), rules, clock)
    }

    /// Loads the node's and the ledger's keys from the folder, and each
    /// authority from where `places` says it is. Those that somebody else
    /// holds have their public halves in the folder, to know them by; whether
    /// he holds them is found out by [`Authorities::check`], or at the first
    /// signature.
    ///
    /// # Errors
    /// See [`keys::load`] and [`Authorities::load`].
    pub fn load_from(dir: &Path, places: &Places, rules: Rules, clock: Clock) -> Result<FileKeeper, KeysError> {
        let keys = keys::load(dir)?;
        let own = [
            (KeyName::Node, keys.node.public_key().key_data().clone()),
            (KeyName::Ledger, keys.ledger.public_key().key_data().clone()),
            (KeyName::SshHost, keys.ssh_host.public_key().key_data().clone()),
        ];
        let holders = Holders::of(places)?;
        let authorities = Authorities::load(dir, places, &holders, &own)?;
        Ok(FileKeeper {
            authorities: RwLock::new(Arc::new(authorities)),
            holders,
            node: plain_ed25519(dir, KeyName::Node, &keys.node)?,
            ledger: plain_ed25519(dir, KeyName::Ledger, &keys.ledger)?,
            own,
            rules,
            clock,
            last: Mutex::new(None),
        })
    }

    /// The authorities as they stand in the folder now; they are not in force
    /// before [`FileKeeper::put`].
    ///
    /// # Errors
    /// See [`Authorities::load`].
    pub fn read(&self, dir: &Path, places: &Places) -> Result<Authorities, KeysError> {
        Authorities::load(dir, places, &self.holders, &self.own)
    }

    /// Puts others in force, for every signature from now on; answers with
    /// those before.
    pub fn put(&self, authorities: Arc<Authorities>) -> Arc<Authorities> {
        let mut held = self.authorities.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut held, authorities)
    }

    /// Those in force.
    pub fn authorities(&self) -> Arc<Authorities> {
        self.authorities.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Nobody outside gets a certificate for a key that is one of ours: it
    /// would tie two roles to one private key.
    fn refuse_own(
        &self,
        held: &Authorities,
        authority: &Authority,
        subject: &PublicKey,
        but: Option<KeyName>,
    ) -> Result<(), KeeperError> {
        let key = subject.key_data();
        let own = self.own.iter().any(|(name, own)| own == key && Some(*name) != but);
        match own || held.has(key) {
            true => Err(authority.refuse("the key to certify is one of the bastion's own")),
            false => Ok(()),
        }
    }

    fn admission_draft(&self, held: &Authorities, asked: AdmissionCertificate) -> Result<Draft, KeeperError> {
        let authority = &held.admission_ca;
        self.refuse_own(held, authority, &asked.public_key, None)?;
        let now = self.clock.now().wall_ms;
        let life = asked.valid_before_ms.saturating_sub(asked.valid_after_ms);
        if life > self.rules.grant_ms_max {
            return Err(authority.refuse(format!(
                "it would live {life} ms, a grant at most {} ms",
                self.rules.grant_ms_max
            )));
        }
        authority.refuse_past(now, asked.valid_before_ms)?;
        if asked.valid_after_ms > now.saturating_add(GRANT_AHEAD_MS_MAX) {
            return Err(authority.refuse("it would begin more than 31 days from now"));
        }
        Draft::admission(&authority.public, nonce(), asked).map_err(|why| authority.refuse(why))
    }

    fn break_glass_draft(&self, held: &Authorities, asked: AdmissionCertificate) -> Result<Draft, KeeperError> {
        let authority = &held.admission_ca;
        self.refuse_own(held, authority, &asked.public_key, None)?;
        let now = self.clock.now().wall_ms;
        let life = asked.valid_before_ms.saturating_sub(asked.valid_after_ms);
        if life > BREAK_GLASS_MS_MAX || asked.valid_before_ms > now.saturating_add(BREAK_GLASS_MS_MAX) {
            return Err(authority.refuse("it would end more than 366 days from now"));
        }
        authority.refuse_past(now, asked.valid_before_ms)?;
        Draft::admission(&authority.public, nonce(), asked).map_err(|why| authority.refuse(why))
    }

    fn target_draft(&self, held: &Authorities, asked: TargetCertificate) -> Result<Draft, KeeperError> {
        let authority = &held.target_ca;
        self.refuse_own(held, authority, &asked.public_key, None)?;
        let now = self.clock.now().wall_ms;
        authority.refuse_past(now, asked.valid_before_ms)?;
        // Both ends are bound to now: a certificate for later could be kept.
        if asked.valid_before_ms > now.saturating_add(TARGET_MS_MAX) {
            return Err(authority.refuse("it would live longer than 15 minutes from now"));
        }
        if asked.valid_after_ms < now.saturating_sub(TARGET_BACKDATE_MS_MAX) {
            return Err(authority.refuse("it would begin more than a minute ago"));
        }
        Draft::target(&authority.public, nonce(), rand::rng().random(), asked).map_err(|why| authority.refuse(why))
    }

    fn host_draft(&self, held: &Authorities, asked: HostCertificate) -> Result<Draft, KeeperError> {
        let authority = &held.host_ca;
        self.refuse_own(held, authority, &asked.public_key, Some(KeyName::SshHost))?;
        let now = self.clock.now().wall_ms;
        authority.refuse_past(now, asked.valid_before_ms)?;
        let life = asked.valid_before_ms.saturating_sub(asked.valid_after_ms);
        if life > HOST_MS_MAX || asked.valid_before_ms > now.saturating_add(HOST_MS_MAX) {
            return Err(authority.refuse("it would live longer than 366 days"));
        }
        Draft::host(&authority.public, nonce(), rand::rng().random(), asked).map_err(|why| authority.refuse(why))
    }

    fn checkpoint(&self, body: &[u8]) -> Result<[u8; 64], KeeperError> {
        let refuse = |why: &str| KeeperError::Refused {
            key: KeyName::Ledger.file(),
            why: why.to_owned(),
        };
        let signed = parse_checkpoint(body)
            .ok_or_else(|| refuse("it is not a checkpoint of three lines (origin, size, root)"))?;
        // Held across the signature, so that two callers cannot cross.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.as_ref() {
            if last.origin != signed.origin {
                return Err(refuse("it names another log than the one signed before"));
            }
            if signed.size < last.size {
                return Err(refuse("it is smaller than the one signed before"));
            }
            if signed.size == last.size && signed.root != last.root {
                return Err(refuse("it shows another history of the same size"));
            }
        }
        let signature = self.ledger.sign(body).to_bytes();
        *last = Some(signed);
        Ok(signature)
    }
}

fn nonce() -> [u8; NONCE_BYTES] {
    rand::rng().random()
}

fn plain_ed25519(dir: &Path, name: KeyName, key: &PrivateKey) -> Result<SigningKey, KeysError> {
    let unreadable = |why: String| KeysError::Unreadable {
        path: dir.join(name.file()),
        why,
    };
    let pair = key
        .key_data()
        .ed25519()
        .ok_or_else(|| unreadable("it is not ed25519".to_owned()))?;
    SigningKey::try_from(pair).map_err(|why| unreadable(why.to_string()))
}

/// The three lines of a checkpoint (c2sp.org/tlog-checkpoint), no extension.
fn parse_checkpoint(body: &[u8]) -> Option<Signed> {
    if body.len() > CHECKPOINT_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    // One spelling of each number: no sign, no leading zero.
    let number: u64 = size.parse().ok()?;
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    let formed = lines.next().is_none()
        && !origin.is_empty()
        && number.to_string() == size
        && root.len() == 44
        && root.bytes().all(base64);
    formed.then(|| Signed {
        origin: origin.as_bytes().to_vec(),
        size: number,
        root: root.as_bytes().to_vec(),
    })
}

impl Keeper for FileKeeper {
    fn node_key(&self) -> [u8; 32] {
        self.node.verifying_key().to_bytes()
    }

    fn ledger_key(&self) -> [u8; 32] {
        self.ledger.verifying_key().to_bytes()
    }

    fn admission_ca(&self) -> PublicKey {
        self.authorities().admission_ca.public.clone()
    }

    fn target_ca(&self) -> PublicKey {
        self.authorities().target_ca.public.clone()
    }

    fn host_ca(&self) -> PublicKey {
        self.authorities().host_ca.public.clone()
    }

    fn sign_recording<'a>(&'a self, statement: &'a [u8]) -> Answer<'a, [u8; 64]> {
        Box::pin(async move {
            let ours = RECORDING_DOMAINS.iter().any(|domain| statement.starts_with(domain));
            if !ours || statement.len() > STATEMENT_BYTES_MAX {
                return Err(KeeperError::Refused {
                    key: KeyName::Node.file(),
                    why: "it is neither the head nor the seal of a recording".to_owned(),
                });
            }
            Ok(self.node.sign(statement).to_bytes())
        })
    }

    fn sign_file<'a>(&'a self, sha256: &'a [u8; 32]) -> Answer<'a, [u8; 64]> {
        // The statement is made here, so that nothing else can be in it.
        Box::pin(async move { Ok(self.node.sign(&sshsig::statement(sha256)).to_bytes()) })
    }

    fn sign_checkpoint<'a>(&'a self, body: &'a [u8]) -> Answer<'a, [u8; 64]> {
        Box::pin(async move { self.checkpoint(body) })
    }

    fn issue_admission(&self, certificate: AdmissionCertificate) -> Answer<'_, Certificate> {
        Box::pin(async move {
            let held = self.authorities();
            let draft = self.admission_draft(&held, certificate)?;
            held.admission_ca.sign(draft).await
        })
    }

    fn issue_break_glass(&self, certificate: AdmissionCertificate) -> Answer<'_, Certificate> {
        Box::pin(async move {
            let held = self.authorities();
            let draft = self.break_glass_draft(&held, certificate)?;
            held.admission_ca.sign(draft).await
        })
    }

    fn issue_target(&self, certificate: TargetCertificate) -> Answer<'_, Certificate> {
        Box::pin(async move {
            let held = self.authorities();
            let draft = self.target_draft(&held, certificate)?;
            held.target_ca.sign(draft).await
        })
    }

    fn issue_host(&self, certificate: HostCertificate) -> Answer<'_, Certificate> {
        Box::pin(async move {
            let held = self.authorities();
            let draft = self.host_draft(&held, certificate)?;
            held.host_ca.sign(draft).await
        })
    }
}

#[cfg(test)]
#[path = "file_keeper_tests.rs"]
mod tests;
