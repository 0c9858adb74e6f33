//! The keys folder: made once, whole, and read back only if nobody else can.
//!
//! Trust: whoever reads `keys/` can admit himself (`admission_ca`), log in at
//! every target (`target_ca`), pose as this bastion (`host_ca`,
//! `ssh_host_ed25519_key`) and sign recordings and log checkpoints from now
//! on (`node_key`, `ledger_key`). What was cosigned before stays provable.
//! Losing it costs new trust files at every target and client, no evidence.

use std::fmt;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{Algorithm, Certificate, LineEnding, PrivateKey, PublicKey};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::durable::{self, DurableError};

/// Longest key or certificate file that is read, in bytes.
pub const KEY_FILE_BYTES_MAX: u64 = 16 * 1024;
/// Mode of the folder: nobody else may even list it.
const FOLDER_MODE: u32 = 0o700;
/// Mode of private files in it.
const PRIVATE_MODE: u32 = 0o600;
/// Mode of public halves, for `cp` into an sshd's configuration.
const PUBLIC_MODE: u32 = 0o644;
/// The bits of a mode that let group or world in.
const OTHERS: u32 = 0o077;

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
    #[error("{} is protected by a passphrase, which a server cannot type: hold the key in ssh-agent (`ca = \"agent\"`), or remove the passphrase with `ssh-keygen -p`", .0.display())]
    Passphrase(PathBuf),
    #[error("{} is not a usable key: {why}; restore it from the backup", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{a} and {b} are the same key: authorities are never mixed; make a new {b} with `ssh-keygen -t ed25519`")]
    SameKey { a: KeyName, b: KeyName },
    #[error(transparent)]
    File(#[from] DurableError),
}

/// Where the three CA keys live.
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

/// A private key, or the public half of one that is held elsewhere.
pub enum CaKey {
    Here(Box<PrivateKey>),
    Elsewhere(PublicKey),
}

impl CaKey {
    /// The public half.
    pub fn public(&self) -> &PublicKey {
        match self {
            CaKey::Here(key) => key.public_key(),
            CaKey::Elsewhere(key) => key,
        }
    }
}

/// What the keys folder holds. Private halves are wiped when it is dropped.
pub struct Keys {
    pub admission_ca: CaKey,
    pub target_ca: CaKey,
    pub host_ca: CaKey,
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
    check_folder(dir)?;
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

fn unusable(path: &Path) -> impl Fn(russh::keys::ssh_key::Error) -> KeysError {
    let path = path.to_owned();
    move |why| KeysError::Unreadable {
        path: path.clone(),
        why: why.to_string(),
    }
}

fn new_key(path: &Path, name: KeyName) -> Result<PrivateKey, KeysError> {
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

/// Reads every key of the folder, after checking that nobody else could.
///
/// # Errors
/// A file is missing, readable by group or world, owned by another user, a
/// symbolic link, protected by a passphrase, not ed25519, or the same key as
/// another one.
pub fn load(dir: &Path, ca: CaSource) -> Result<Keys, KeysError> {
    check_folder(dir)?;
    let authority = |name| match ca {
        CaSource::Files => read_private(dir, name).map(Box::new).map(CaKey::Here),
        CaSource::Elsewhere => read_public(dir, name).map(CaKey::Elsewhere),
    };
    let keys = Keys {
        admission_ca: authority(KeyName::AdmissionCa)?,
        target_ca: authority(KeyName::TargetCa)?,
        host_ca: authority(KeyName::HostCa)?,
        ssh_host: read_private(dir, KeyName::SshHost)?,
        node: read_private(dir, KeyName::Node)?,
        ledger: read_private(dir, KeyName::Ledger)?,
    };
    refuse_same_keys(&keys)?;
    Ok(keys)
}

/// Reads the SSH host key alone: the one that the listener itself works with.
///
/// # Errors
/// As [`load`].
pub fn load_ssh_host(dir: &Path) -> Result<PrivateKey, KeysError> {
    check_folder(dir)?;
    read_private(dir, KeyName::SshHost)
}

/// Where [`load`] looks for the CA keys; what config calls `ca`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CaSource {
    /// Private keys in the folder.
    Files,
    /// Only the public halves are in the folder.
    Elsewhere,
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
        .map_err(|why| KeysError::Unreadable {
            path,
            why: why.to_string(),
        })
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
    PublicKey::from_openssh(text.trim()).map_err(|why| KeysError::Unreadable {
        path,
        why: why.to_string(),
    })
}

fn check_folder(dir: &Path) -> Result<(), KeysError> {
    let meta = match dir.metadata() {
        Ok(meta) => meta,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Err(KeysError::Missing(dir.to_owned()));
        }
        Err(why) => return Err(DurableError::at("look at", dir)(why).into()),
    };
    check_private(dir, &meta, "700")
}

fn check_private(path: &Path, meta: &std::fs::Metadata, fix: &'static str) -> Result<(), KeysError> {
    let mode = meta.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeysError::OpenToOthers {
            path: path.to_owned(),
            mode,
            fix,
        });
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return Err(KeysError::ForeignOwner {
            path: path.to_owned(),
            owner: meta.uid(),
            me,
        });
    }
    Ok(())
}

fn read_private(dir: &Path, name: KeyName) -> Result<PrivateKey, KeysError> {
    let path = dir.join(name.file());
    // The mode is looked at through the open file, so that what is checked
    // is what is read.
    // NONBLOCK: a pipe put in its place must not hold the start up.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
    let no_follow = i32::try_from(flags.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(no_follow).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(KeysError::Missing(path)),
        Err(_) if path.is_symlink() => return Err(KeysError::NotAFile(path)),
        Err(why) => return Err(DurableError::at("open", &path)(why).into()),
    };
    let meta = file.metadata().map_err(DurableError::at("look at", &path))?;
    if !meta.is_file() {
        return Err(KeysError::NotAFile(path));
    }
    check_private(&path, &meta, "600")?;
    // Room for all of it at once: a buffer that grew would leave pieces of
    // the key behind in freed memory.
    let room = usize::try_from(KEY_FILE_BYTES_MAX.saturating_add(1)).unwrap_or(usize::MAX);
    let mut text = Zeroizing::new(Vec::with_capacity(room));
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(DurableError::at("read", &path))?;
    let key = PrivateKey::from_openssh(&*text).map_err(|why| KeysError::Unreadable {
        path: path.clone(),
        why: why.to_string(),
    })?;
    if key.is_encrypted() {
        return Err(KeysError::Passphrase(path));
    }
    match key.algorithm() == Algorithm::Ed25519 {
        true => Ok(key),
        false => Err(KeysError::Unreadable {
            path,
            why: format!("it is {}, where ssh-ed25519 is expected", key.algorithm()),
        }),
    }
}

/// One key in two roles would let a statement of one be shown as the other's.
fn refuse_same_keys(keys: &Keys) -> Result<(), KeysError> {
    let all = [
        (KeyName::AdmissionCa, keys.admission_ca.public()),
        (KeyName::TargetCa, keys.target_ca.public()),
        (KeyName::HostCa, keys.host_ca.public()),
        (KeyName::SshHost, keys.ssh_host.public_key()),
        (KeyName::Node, keys.node.public_key()),
        (KeyName::Ledger, keys.ledger.public_key()),
    ];
    for (at, (a, key)) in all.iter().enumerate() {
        for (b, other) in all.iter().skip(at.saturating_add(1)) {
            if key.key_data() == other.key_data() {
                return Err(KeysError::SameKey { a: *a, b: *b });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
