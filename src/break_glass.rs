//! Grants made ready for the day on which nothing else works: files that
//! several people signed, and the journal of their use.
//!
//! `kernel/break_glass.rs` says what a statement means and how many signatures
//! it takes; here they are verified. Nothing here asks the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::ssh_key::{Certificate, PublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::durable::{self, DurableError};
use crate::issue::sshsig;
use crate::kernel::break_glass::{NAMESPACE, SIGNERS_MAX, Signed, Statement, Unfit};
use crate::kernel::id::{GrantId, IdentityName, NodeName};

mod journal;

pub use journal::{Ended, Journal, Use};

/// Largest file of a grant, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Most files in the folder.
pub const FILES_MAX: usize = 256;
/// Most signatures that are looked at.
const SIGNATURES_MAX: usize = SIGNERS_MAX;
/// Longest line with a certificate, in bytes.
const CERTIFICATE_LINE_BYTES_MAX: usize = 24 * 1024;
const JOURNAL_FILE: &str = "journal";
const ENDING: &str = "json";

/// Why break-glass cannot do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum BreakGlassError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("{path} is no prepared grant: {why}", path = path.display())]
    NotOne { path: PathBuf, why: String },
    #[error(
        "the journal of uses {path} cannot be read at line {line} ({why}): nobody knows what was used, so nothing is \
         admitted; put the file right, or move it away together with every grant beside it",
        path = path.display()
    )]
    Journal { path: PathBuf, line: usize, why: String },
    #[error("what is on the disk of the journal of uses is not known any more: start the server again")]
    Broken,
    #[error("grant {0} has been used")]
    Used(GrantId),
    #[error("grant {0} is installed already")]
    Installed(GrantId),
    #[error("more than {FILES_MAX} grants are installed: take away those that are over")]
    TooMany,
    #[error(
        "more than {TAKEN_BACK_MAX} revocations since the server started: restart it before installing another one"
    )]
    TooManyRevocations,
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Who may sign, and how many of them have to.
#[derive(Clone, PartialEq, Debug)]
pub struct Signers {
    keys: Vec<(IdentityName, PublicKey)>,
    threshold: usize,
}

impl Signers {
    /// From lines such as `ssh-ed25519 AAAA… name`, each another person's.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(lines: &[String], threshold: u64) -> Result<Signers, String> {
        let mut keys: Vec<(IdentityName, PublicKey)> = Vec::with_capacity(lines.len());
        if lines.len() > SIGNERS_MAX {
            return Err(format!("more than {SIGNERS_MAX}"));
        }
        for line in lines {
            let key = PublicKey::from_openssh(line.trim())
                .map_err(|error| format!("`{line}` is no public key with a name behind it: {error}"))?;
            let name: IdentityName = key
                .comment()
                .to_string()
                .parse()
                .map_err(|error| format!("the name behind a key: {error}"))?;
            // One person with two keys would be a quorum of one.
            if keys.iter().any(|(known, _)| *known == name) {
                return Err(format!("`{name}` is there twice"));
            }
            if keys.iter().any(|(_, known)| known.key_data() == key.key_data()) {
                return Err(format!("the key of `{name}` is another one's too"));
            }
            keys.push((name, key));
        }
        let threshold = usize::try_from(threshold).unwrap_or(usize::MAX);
        match (1..=keys.len()).contains(&threshold) {
            true => Ok(Signers { keys, threshold }),
            false => Err(format!("{threshold} of {} can never sign", keys.len())),
        }
    }

    /// How many have to sign.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// Whose key it is.
    pub fn name_of(&self, key: &KeyData) -> Option<&IdentityName> {
        let found = self.keys.iter().find(|(_, known)| known.key_data() == key);
        found.map(|(name, _)| name)
    }
}

/// A prepared grant as its file has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Prepared {
    /// The exact text that is signed.
    pub statement: String,
    /// One OpenSSH line for each destination of the statement, in its order.
    pub certificates: Vec<String>,
    /// Armored SSHSIGs over the statement, namespace `break-glass@portcullis`.
    #[serde(default)]
    pub signatures: Vec<String>,
}

impl Prepared {
    /// Reads a file.
    ///
    /// # Errors
    /// It is missing, too large, or no prepared grant.
    pub fn load(path: &Path) -> Result<Prepared, BreakGlassError> {
        let bytes = durable::read_bounded(path, FILE_BYTES_MAX)?;
        serde_json::from_slice(&bytes).map_err(|error| BreakGlassError::NotOne {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    /// As a file has it.
    pub fn to_json(&self) -> String {
        // Texts alone: they always have a JSON form.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The keys whose signatures over the statement hold, whoever's they are.
    pub fn signed_by(&self) -> Vec<PublicKey> {
        let signatures = self.signatures.iter().take(SIGNATURES_MAX);
        signatures
            .filter_map(|armored| sshsig::verify(armored, NAMESPACE, self.statement.as_bytes()).ok())
            .map(|signer| signer.key)
            .collect()
    }

    /// Holds it against who has to have signed it.
    ///
    /// # Errors
    /// Why it counts for nothing at `node`.
    pub fn check(&self, node: &NodeName, signers: Option<&Signers>) -> Result<Signed, Unfit> {
        let signers = signers.ok_or(Unfit::NoSigners)?;
        let statement = Statement::read(&self.statement)?;
        let mut names: BTreeMap<IdentityName, KeyData> = BTreeMap::new();
        for key in self.signed_by() {
            if let Some(name) = signers.name_of(key.key_data()) {
                names.insert(name.clone(), key.key_data().clone());
            }
        }
        // Before a certificate is even read: from here on what is said of them
        // is what the signers said.
        Signed::new(
            statement.clone(),
            node,
            names.keys().cloned().collect(),
            signers.threshold,
        )?;
        let held = self.certified(&statement)?;
        // A holder who signs under another name is still the holder.
        names.retain(|_, key| *key != held);
        Signed::new(statement, node, names.into_keys().collect(), signers.threshold)
    }

    /// The one key that all certificates are for.
    fn certified(&self, statement: &Statement) -> Result<KeyData, Unfit> {
        let unfit = |why: &str| Unfit::Certificates(why.to_owned());
        if self.certificates.len() != statement.doors.len() {
            return Err(unfit("there are more or fewer"));
        }
        let mut held: Option<KeyData> = None;
        for (line, door) in self.certificates.iter().zip(&statement.doors) {
            if line.len() > CERTIFICATE_LINE_BYTES_MAX {
                return Err(unfit("one is too long"));
            }
            let blob = line.split_ascii_whitespace().nth(1).unwrap_or_default();
            let blob = STANDARD.decode(blob).map_err(|_| unfit("one is not base64"))?;
            let sha256: [u8; 32] = Sha256::digest(&blob).into();
            if sha256 != door.certificate_sha256 {
                return Err(unfit("one has another SHA-256"));
            }
            let read = Certificate::from_openssh(line.trim()).map_err(|_| unfit("one cannot be read"))?;
            if read.valid_principals() != [door.destination().to_string()] {
                return Err(unfit("one is for another destination"));
            }
            match &held {
                Some(key) if key != read.public_key() => return Err(unfit("they are for different keys")),
                Some(_) => {}
                None => held = Some(read.public_key().clone()),
            }
        }
        held.ok_or_else(|| unfit("there is none"))
    }
}

/// How an installed grant stands.
#[derive(Clone, PartialEq, Debug)]
pub struct Installed {
    pub signed: Arc<Signed>,
    pub used: Option<Use>,
    pub revoked: bool,
}

#[derive(Default)]
struct State {
    signers: Option<Signers>,
    installed: BTreeMap<GrantId, Arc<Signed>>,
    /// Files that count for nothing: name and why.
    refused: Vec<(String, String)>,
    revoked: BTreeSet<GrantId>,
    /// What was taken back since this start, each with its time: a grant that
    /// is installed later may have been signed before.
    taken_back: Vec<TakenBack>,
}

/// One revocation, as a question about a statement.
type TakenBack = Arc<dyn Fn(&Statement) -> bool + Send + Sync>;

/// Most revocations that are held against later installations; beyond them
/// nothing is installed until a restart has read the journal again.
const TAKEN_BACK_MAX: usize = 10_000;

impl State {
    /// Marks what an earlier revocation hits.
    fn look_back(&mut self) {
        let hit: Vec<GrantId> = self
            .installed
            .values()
            .filter(|signed| self.taken_back.iter().any(|hit| hit(signed.statement())))
            .map(|signed| signed.statement().id)
            .collect();
        self.revoked.extend(hit);
    }
}

/// The folder of prepared grants and the journal of their use.
pub struct BreakGlass {
    node: NodeName,
    folder: PathBuf,
    journal: Journal,
    state: RwLock<State>,
    /// One at a time brings the store up to date.
    pub settling: tokio::sync::Mutex<()>,
}

impl BreakGlass {
    /// Reads the folder. A file that counts for nothing is named in the log.
    ///
    /// # Errors
    /// The folder or the journal cannot be read.
    pub fn open(folder: &Path, node: NodeName, signers: Option<Signers>) -> Result<BreakGlass, BreakGlassError> {
        let path = folder.join(JOURNAL_FILE);
        let here = BreakGlass {
            node,
            folder: folder.to_owned(),
            journal: Journal::open(path.clone())?,
            state: RwLock::default(),
            settling: tokio::sync::Mutex::default(),
        };
        if signers.is_some() && folder.is_dir() {
            journal::prepare(&path)?;
        }
        here.reload(signers)?;
        Ok(here)
    }

    /// Reads the folder again, with these signers.
    ///
    /// # Errors
    /// It cannot be read; what was known stays.
    pub fn reload(&self, signers: Option<Signers>) -> Result<(), BreakGlassError> {
        let mut state = State {
            signers,
            ..State::default()
        };
        for path in self.files()? {
            let name = path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let checked = Prepared::load(&path).and_then(|file| Ok(file.check(&self.node, state.signers.as_ref())?));
            match checked {
                Ok(signed) => drop(state.installed.insert(signed.statement().id, Arc::new(signed))),
                Err(why) => {
                    tracing::error!(file = name, %why, "a break-glass grant counts for nothing");
                    state.refused.push((name, why.to_string()));
                }
            }
        }
        let mut now = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The journal of revocations is read once; what it said stays.
        state.revoked = std::mem::take(&mut now.revoked);
        state.taken_back = std::mem::take(&mut now.taken_back);
        state.look_back();
        *now = state;
        Ok(())
    }

    fn files(&self) -> Result<Vec<PathBuf>, BreakGlassError> {
        let unread = DurableError::at("read the folder", &self.folder);
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unread(error).into()),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = match entry {
                Ok(entry) => entry.path(),
                Err(error) => return Err(unread(error).into()),
            };
            if path.extension().is_some_and(|ending| ending == ENDING) {
                files.push(path);
            }
            if files.len() > FILES_MAX {
                return Err(BreakGlassError::TooMany);
            }
        }
        files.sort();
        Ok(files)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The installed grant that names this certificate.
    pub fn of_certificate(&self, sha256: [u8; 32]) -> Option<Installed> {
        let signed = {
            let state = self.read();
            let found = state
                .installed
                .values()
                .find(|signed| signed.statement().door(sha256).is_some());
            found.cloned()?
        };
        Some(self.standing(signed))
    }

    fn standing(&self, signed: Arc<Signed>) -> Installed {
        let id = signed.statement().id;
        Installed {
            used: self.journal.use_of(id),
            revoked: self.read().revoked.contains(&id),
            signed,
        }
    }

    /// Every installed grant, and the files that count for nothing with why.
    pub fn list(&self) -> (Vec<Installed>, Vec<(String, String)>) {
        let (signed, refused): (Vec<Arc<Signed>>, _) = {
            let state = self.read();
            (state.installed.values().cloned().collect(), state.refused.clone())
        };
        (
            signed.into_iter().map(|signed| self.standing(signed)).collect(),
            refused,
        )
    }

    /// Whether a prepared grant may be installed here.
    ///
    /// # Errors
    /// It counts for nothing, is there already, or was used before.
    pub fn check(&self, prepared: &Prepared) -> Result<Signed, BreakGlassError> {
        let state = self.read();
        let signed = prepared.check(&self.node, state.signers.as_ref())?;
        let id = signed.statement().id;
        if state.installed.contains_key(&id) {
            return Err(BreakGlassError::Installed(id));
        }
        if state.taken_back.len() >= TAKEN_BACK_MAX {
            return Err(BreakGlassError::TooManyRevocations);
        }
        match self.journal.use_of(id) {
            Some(_) => Err(BreakGlassError::Used(id)),
            None if state.installed.len() >= FILES_MAX => Err(BreakGlassError::TooMany),
            None => Ok(signed),
        }
    }

    /// Puts a prepared grant into the folder, durably, and in force. Blocks.
    ///
    /// # Errors
    /// As [`BreakGlass::check`], or it cannot be written.
    pub fn install(&self, prepared: &Prepared) -> Result<Installed, BreakGlassError> {
        let signed = Arc::new(self.check(prepared)?);
        let id = signed.statement().id;
        durable::create_dir_all(&self.folder, 0o700)?;
        journal::prepare(&self.folder.join(JOURNAL_FILE))?;
        let path = self.folder.join(format!("{id}.{ENDING}"));
        let staging = self.folder.join(format!("{id}.new"));
        durable::replace(&path, prepared.to_json().as_bytes(), 0o600, &staging)?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.installed.insert(id, signed.clone());
        state.look_back();
        drop(state);
        Ok(self.standing(signed))
    }

    /// Every installed grant of which this holds admits nobody any more.
    pub fn revoke(&self, hit: impl Fn(&Statement) -> bool + Send + Sync + 'static) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.taken_back.len() < TAKEN_BACK_MAX {
            state.taken_back.push(Arc::new(hit));
            state.look_back();
            return;
        }
        // Nothing is installed any more until a restart, see `check`.
        let ids = state.installed.values().filter(|signed| hit(signed.statement()));
        let ids: Vec<GrantId> = ids.map(|signed| signed.statement().id).collect();
        state.revoked.extend(ids);
    }

    /// What was used.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

#[cfg(test)]
mod tests;
