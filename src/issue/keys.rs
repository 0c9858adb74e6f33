//! The keys folder: made once, whole, and read back only if nobody else can.
//!
//! Trust: whoever reads `keys/` can admit himself (`admission_ca`), log in at
//! every target (`target_ca`), pose as this bastion (`host_ca`,
//! `ssh_host_ed25519_key`) and sign recordings and log checkpoints from now
//! on (`node_key`, `ledger_key`). What was cosigned before stays provable.
//! Losing it costs new trust files at every target and client, no evidence.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{Algorithm, Certificate, LineEnding, PrivateKey, PublicKey};

use super::secret::{Secret, check_private, private_file};
use crate::durable::{self, DurableError};

/// Longest key or certificate file that is read, in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;
/// Mode of the folder: nobody else may even list it.
const FOLDER_MODE: u32 = 0o700;
/// Mode of private files in it.
pub(super) const PRIVATE_MODE: u32 = 0o600;
/// Mode of public halves, for `cp` into an sshd's configuration.
pub(super) const PUBLIC_MODE: u32 = 0o644;

/// Every private key there is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum KeyName {
    /// Signs users' certificates towards us.
    AdmissionCa,
    /// Signs our certificates towards targets.
    TargetCa,
    /// Signs our own host certificates.
    HostCa,
    /// The bastion's SSH host key.
    SshHost,
    /// Signs recordings.
    Node,
    /// Signs checkpoints of the ledger.
    Ledger,
}

impl KeyName {
    /// All of them, in the order of their files' making.
    pub const ALL: [KeyName; 6] = [
        KeyName::AdmissionCa,
        KeyName::TargetCa,
        KeyName::HostCa,
        KeyName::SshHost,
        KeyName::Node,
        KeyName::Ledger,
    ];

    /// Name of its file in the keys folder, and in messages.
    pub const fn file(self) -> &'static str {
        match self {
            KeyName::AdmissionCa => "admission_ca",
            KeyName::TargetCa => "target_ca",
            KeyName::HostCa => "host_ca",
            KeyName::SshHost => "ssh_host_ed25519_key",
            KeyName::Node => "node_key",
            KeyName::Ledger => "ledger_key",
        }
    }

    /// Whether it is one of the three certificate authorities.
    pub const fn is_ca(self) -> bool {
        matches!(self, KeyName::AdmissionCa | KeyName::TargetCa | KeyName::HostCa)
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.file())
    }
}

/// Why keys were not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(
        "{} is there already: nothing was changed; choose another state folder, or remove it by hand if its keys are to be lost",
        .0.display()
    )]
    Exists(PathBuf),
    #[error("{} is missing: restore it from the backup, or run `portcullis init` with a new state folder", .0.display())]
    Missing(PathBuf),
    #[error(
        "{} may be read by others (mode {mode:04o}): run `chmod {fix} {}`, and replace the keys if others had access",
        path.display(), path.display()
    )]
    OpenToOthers {
        path: PathBuf,
        mode: u32,
        fix: &'static str,
    },
    #[error(
        "{} belongs to uid {owner}, this process is uid {me}: run `chown {me} {}` or start the server as its owner",
        path.display(), path.display()
    )]
    ForeignOwner { path: PathBuf, owner: u32, me: u32 },
    #[error("{} is not a regular file: keys are taken only from files of the keys folder itself", .0.display())]
    NotAFile(PathBuf),
    #[error("{} is protected by a passphrase, and none was given: name a file that holds it (`[keys] passphrase_file`), or load the systemd credential `passphrase`", .0.display())]
    Passphrase(PathBuf),
    #[error("the passphrase that was given does not open {}: `ssh-keygen -y -f` tells whether it is the right one", .0.display())]
    WrongPassphrase(PathBuf),
    #[error("{} holds no usable secret: {why}; write it there as one line", path.display())]
    BadSecret { path: PathBuf, why: &'static str },
    #[error(
        "there is a new {0} already, announced and not in use: `portcullis keys activate` it, or `keys retire --announced` it"
    )]
    Announced(KeyName),
    #[error("no new {0} is announced: `portcullis keys rotate` makes one")]
    NotAnnounced(KeyName),
    #[error("the {0} before the last change is trusted still: `portcullis keys retire` it first")]
    Retiring(KeyName),
    #[error("there is no older {0} to retire")]
    NothingToRetire(KeyName),
    #[error("the new {0} is the one in use: make another key")]
    Same(KeyName),
    #[error("{name} is in {place}, and {missing}: say it in the configuration's section [keys]")]
    NoPlace {
        name: KeyName,
        place: &'static str,
        missing: &'static str,
    },
    #[error(
        "the announced {0} is in no file of the keys folder: say in the configuration's section [keys] where it is"
    )]
    NotHere(KeyName),
    #[error("another command changes these keys now: try again once it is through")]
    Busy,
    #[error("{} is not a usable key: {why}; restore it from the backup", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{a} and {b} are the same key: authorities are never mixed; make a new {b} with `ssh-keygen -t ed25519`")]
    SameKey { a: KeyName, b: KeyName },
    #[error(transparent)]
    File(#[from] DurableError),
}

/// Where the three CA keys are made to live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaHome<'a> {
    /// In files of the keys folder.
    Files,
    /// In somebody else's hands (an ssh-agent, a token): the folder holds
    /// only these public halves, to know them by.
    Elsewhere {
        admission: &'a PublicKey,
        target: &'a PublicKey,
        host: &'a PublicKey,
    },
}

/// The node's own keys, which are always files. Private halves are wiped when
/// this is dropped.
pub struct Keys {
    pub ssh_host: PrivateKey,
    pub node: PrivateKey,
    pub ledger: PrivateKey,
}

impl fmt::Debug for Keys {
    /// Names no key material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}

/// Makes the keys folder, all of it or nothing.
///
/// The files are written and synced in a folder beside it, which is then
/// renamed. A crash before the rename leaves `keys.new`, which holds keys
/// that nobody trusts yet; the next call removes it.
///
/// # Errors
/// [`KeysError::Exists`] when the folder is there: keys are never overwritten.
pub fn create(dir: &Path, ca: CaHome<'_>) -> Result<(), KeysError> {
    if dir.symlink_metadata().is_ok() {
        return Err(KeysError::Exists(dir.to_owned()));
    }
    let staging = dir.with_extension("new");
    if staging.is_dir() {
        std::fs::remove_dir_all(&staging).map_err(DurableError::at("remove the leftover", &staging))?;
    }
    DirBuilder::new()
        .mode(FOLDER_MODE)
        .create(&staging)
        .map_err(DurableError::at("create the folder", &staging))?;
    for name in KeyName::ALL {
        match held_elsewhere(ca, name) {
            Some(public) => write_public(&staging, name, public)?,
            None => write_pair(&staging, name)?,
        }
    }
    durable::rename_new(&staging, dir).map_err(|why| match why.is_exists() {
        true => KeysError::Exists(dir.to_owned()),
        false => KeysError::File(why),
    })?;
    durable::sync_dir(durable::parent(dir))?;
    Ok(())
}

/// Makes a new key in the place of an old one, whose private half is gone
/// then. A crash between the halves leaves the new private one with the old
/// public one: asked again, it makes both anew.
///
/// # Errors
/// When the old one is not a key of the folder, or the new one cannot be written.
pub fn rotate(dir: &Path, name: KeyName) -> Result<PublicKey, KeysError> {
    let _lock = lock(dir)?;
    read_private(dir, name)?;
    let (private, public) = (dir.join(name.file()), dir.join(format!("{name}.pub")));
    let key = new_key(&private, name)?;
    let text = key.to_openssh(LineEnding::LF).map_err(unusable(&private))?;
    let staging = |path: &Path| path.with_extension("new");
    durable::replace(&private, text.as_bytes(), PRIVATE_MODE, &staging(&private))?;
    let line = key.public_key().to_openssh().map_err(unusable(&public))?;
    durable::replace(&public, format!("{line}\n").as_bytes(), PUBLIC_MODE, &staging(&public))?;
    Ok(key.public_key().clone())
}

pub(super) fn unusable(path: &Path) -> impl Fn(russh::keys::ssh_key::Error) -> KeysError {
    let path = path.to_owned();
    move |why| KeysError::Unreadable {
        path: path.clone(),
        why: why.to_string(),
    }
}

pub(super) fn new_key(path: &Path, name: KeyName) -> Result<PrivateKey, KeysError> {
    let mut key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(unusable(path))?;
    key.set_comment(format!("portcullis {name}"));
    Ok(key)
}

fn held_elsewhere(ca: CaHome<'_>, name: KeyName) -> Option<&PublicKey> {
    match (ca, name) {
        (CaHome::Elsewhere { admission, .. }, KeyName::AdmissionCa) => Some(admission),
        (CaHome::Elsewhere { target, .. }, KeyName::TargetCa) => Some(target),
        (CaHome::Elsewhere { host, .. }, KeyName::HostCa) => Some(host),
        (CaHome::Elsewhere { .. }, KeyName::SshHost | KeyName::Node | KeyName::Ledger) | (CaHome::Files, _) => None,
    }
}

fn write_pair(dir: &Path, name: KeyName) -> Result<(), KeysError> {
    let path = dir.join(name.file());
    let key = new_key(&path, name)?;
    let text = key.to_openssh(LineEnding::LF).map_err(unusable(&path))?;
    durable::write_new(&path, text.as_bytes(), PRIVATE_MODE)?;
    write_public(dir, name, key.public_key())
}

fn write_public(dir: &Path, name: KeyName, key: &PublicKey) -> Result<(), KeysError> {
    let path = dir.join(format!("{name}.pub"));
    let line = key.to_openssh().map_err(|why| KeysError::Unreadable {
        path: path.clone(),
        why: why.to_string(),
    })?;
    durable::write_new(&path, format!("{line}\n").as_bytes(), PUBLIC_MODE)?;
    Ok(())
}

/// Reads the node's own keys, after checking that nobody else could.
///
/// # Errors
/// A file is missing, readable by group or world, owned by another user, a
/// symbolic link, protected by a passphrase, or not ed25519.
pub fn load(dir: &Path) -> Result<Keys, KeysError> {
    check_folder(dir)?;
    Ok(Keys {
        ssh_host: read_private(dir, KeyName::SshHost)?,
        node: read_private(dir, KeyName::Node)?,
        ledger: read_private(dir, KeyName::Ledger)?,
    })
}

/// Reads the SSH host key alone: the one that the listener itself works with.
///
/// # Errors
/// As [`load`].
pub fn load_ssh_host(dir: &Path) -> Result<PrivateKey, KeysError> {
    check_folder(dir)?;
    read_private(dir, KeyName::SshHost)
}

/// The host certificate beside the SSH host key, if one was written.
///
/// # Errors
/// When it is there but cannot be read.
pub fn load_host_certificate(dir: &Path) -> Result<Option<Certificate>, KeysError> {
    let path = host_certificate_path(dir);
    let bytes = match durable::read_bounded(&path, KEY_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(why) if why.is_missing() => return Ok(None),
        Err(why) => return Err(why.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    Certificate::from_openssh(text.trim())
        .map(Some)
        .map_err(unusable(&path))
}

/// Writes the host certificate beside the SSH host key, replacing an older
/// one: a certificate is public and can be made again at any time.
///
/// # Errors
/// When it cannot be written durably.
pub fn store_host_certificate(dir: &Path, certificate: &Certificate) -> Result<(), KeysError> {
    let path = host_certificate_path(dir);
    let line = certificate.to_openssh().map_err(|why| KeysError::Unreadable {
        path: path.clone(),
        why: why.to_string(),
    })?;
    let staging = dir.join(".host-certificate.new");
    durable::replace(&path, format!("{line}\n").as_bytes(), PUBLIC_MODE, &staging)?;
    Ok(())
}

fn host_certificate_path(dir: &Path) -> PathBuf {
    dir.join(format!("{}-cert.pub", KeyName::SshHost))
}

/// Reads the public half of one key, which is no secret.
///
/// # Errors
/// When it is missing or not a public key.
pub fn read_public(dir: &Path, name: KeyName) -> Result<PublicKey, KeysError> {
    let path = dir.join(format!("{name}.pub"));
    let bytes = durable::read_bounded(&path, KEY_FILE_BYTES_MAX).map_err(|why| match why.is_missing() {
        true => KeysError::Missing(path.clone()),
        false => KeysError::File(why),
    })?;
    let text = String::from_utf8_lossy(&bytes);
    PublicKey::from_openssh(text.trim()).map_err(unusable(&path))
}

/// Whether the folder is there, and nobody else's.
pub(super) fn check_folder(dir: &Path) -> Result<(), KeysError> {
    let meta = match dir.metadata() {
        Ok(meta) => meta,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Err(KeysError::Missing(dir.to_owned()));
        }
        Err(why) => return Err(DurableError::at("look at", dir)(why).into()),
    };
    check_private(dir, &meta, "700")
}

/// Keeps a second command from changing the same keys, for as long as what it
/// answers with lives.
pub(super) fn lock(dir: &Path) -> Result<std::fs::File, KeysError> {
    check_folder(dir)?;
    let folder = std::fs::File::open(dir).map_err(DurableError::at("open", dir))?;
    match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(folder),
        Err(_) => Err(KeysError::Busy),
    }
}

fn read_private(dir: &Path, name: KeyName) -> Result<PrivateKey, KeysError> {
    read_key_file(&dir.join(name.file()), None)
}

/// A private key's file, opened with the passphrase if it has one.
///
/// # Errors
/// As [`load`]; a passphrase that is missing or wrong.
pub(super) fn read_key_file(path: &Path, passphrase: Option<&Secret>) -> Result<PrivateKey, KeysError> {
    let key = PrivateKey::from_openssh(&*private_file(path)?).map_err(unusable(path))?;
    let key = match (key.is_encrypted(), passphrase) {
        (false, _) => key,
        (true, None) => return Err(KeysError::Passphrase(path.to_owned())),
        (true, Some(secret)) => key
            .decrypt(secret.bytes())
            .map_err(|_| KeysError::WrongPassphrase(path.to_owned()))?,
    };
    match key.algorithm() == Algorithm::Ed25519 {
        true => Ok(key),
        false => Err(KeysError::Unreadable {
            path: path.to_owned(),
            why: format!("it is {}, where ssh-ed25519 is expected", key.algorithm()),
        }),
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
