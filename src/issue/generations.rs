//! The generations of an authority's key: how a new one comes in while the
//! old one still holds.
//!
//! A key is *announced* (others may begin to trust it, it signs nothing),
//! then *active* (it signs), then *retiring* (it signs nothing any more and is
//! still trusted), then *retired* (named, so that it can be told as revoked).
//! One key of each of the first three at most. File names say which is which:
//!
//! | file | holds |
//! |---|---|
//! | `NAME.next`, `NAME.next.pub` | the announced key |
//! | `NAME`, `NAME.pub` | the active one |
//! | `NAME.old.pub` | the retiring one; its private half is gone |
//! | `NAME.retired.pub` | those retired, a line each |
//!
//! The comment of a public half says since when. Each step can be cut short
//! anywhere and asked again.

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::{LineEnding, PrivateKey, PublicKey};

use super::keys::{self, KEY_FILE_BYTES_MAX, KeyName, KeysError, PRIVATE_MODE, PUBLIC_MODE, unusable};
use super::secret::Secret;
use crate::durable::{self, DurableError};
use crate::kernel::grant::WallMs;

/// The three certificate authorities.
pub const AUTHORITIES: [KeyName; 3] = [KeyName::AdmissionCa, KeyName::TargetCa, KeyName::HostCa];
/// What a comment writes before the time.
const SINCE: &str = " since ";

/// How far a key has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    Announced,
    Active,
    Retiring,
    Retired,
}

impl Stage {
    /// As `keys list` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Announced => "announced",
            Stage::Active => "active",
            Stage::Retiring => "retiring",
            Stage::Retired => "retired",
        }
    }

    /// Whether others are to trust what it signs, or will sign.
    pub const fn is_trusted(self) -> bool {
        match self {
            Stage::Announced | Stage::Active | Stage::Retiring => true,
            Stage::Retired => false,
        }
    }

    /// What its file name ends with, before `.pub`.
    const fn suffix(self) -> &'static str {
        match self {
            Stage::Announced => ".next",
            Stage::Active => "",
            Stage::Retiring => ".old",
            Stage::Retired => ".retired",
        }
    }
}

/// The public half of one key of an authority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generation {
    pub name: KeyName,
    pub stage: Stage,
    pub public: PublicKey,
    /// Since when it is at that stage; keys of `init` do not say.
    pub since_ms: Option<WallMs>,
}

/// Every generation of the three authorities: by authority, then by stage.
///
/// # Errors
/// When a public half is missing or cannot be read.
pub fn all(dir: &Path) -> Result<Vec<Generation>, KeysError> {
    let mut found = Vec::new();
    for name in AUTHORITIES {
        found.extend(of(dir, name)?);
    }
    Ok(found)
}

/// The generations of one authority, by stage.
///
/// # Errors
/// As [`all`].
pub fn of(dir: &Path, name: KeyName) -> Result<Vec<Generation>, KeysError> {
    let mut found: Vec<Generation> = Vec::new();
    let active = keys::read_public(dir, name)?;
    for stage in [Stage::Announced, Stage::Active, Stage::Retiring, Stage::Retired] {
        for public in read(dir, name, stage)? {
            // A change that was cut short leaves one key at two stages.
            let is_active = public.key_data() == active.key_data();
            if is_active && stage != Stage::Active {
                continue;
            }
            found.push(Generation {
                name,
                stage,
                since_ms: since(&public),
                public,
            });
        }
    }
    Ok(found)
}

/// Announces a new key that is made here, as a file under `passphrase` if
/// there is one.
///
/// # Errors
/// When one is announced already, or it cannot be written.
pub fn announce_new(
    dir: &Path,
    name: KeyName,
    passphrase: Option<&Secret>,
    now: WallMs,
) -> Result<PublicKey, KeysError> {
    let _lock = keys::lock(dir)?;
    refuse_announced(dir, name)?;
    let path = private_path(dir, name, Stage::Announced);
    let key = keys::new_key(&path, name)?;
    store_private(&path, &key, passphrase)?;
    store_public(dir, name, Stage::Announced, key.public_key(), now)?;
    Ok(key.public_key().clone())
}

/// Announces a new key that somebody else holds: an agent, a token.
///
/// # Errors
/// When one is announced already, it is the active one, or it cannot be written.
pub fn announce_held(dir: &Path, name: KeyName, public: &PublicKey, now: WallMs) -> Result<(), KeysError> {
    let _lock = keys::lock(dir)?;
    refuse_announced(dir, name)?;
    if keys::read_public(dir, name)?.key_data() == public.key_data() {
        return Err(KeysError::Same(name));
    }
    // What an announcement that was cut short left behind is another key's.
    remove(&private_path(dir, name, Stage::Announced))?;
    store_public(dir, name, Stage::Announced, public, now)
}

/// Takes an announcement back: the key is gone.
///
/// # Errors
/// When nothing is announced, or it cannot be removed.
pub fn withdraw(dir: &Path, name: KeyName) -> Result<PublicKey, KeysError> {
    let _lock = keys::lock(dir)?;
    let public = announced(dir, name)?;
    remove(&private_path(dir, name, Stage::Announced))?;
    remove(&public_path(dir, name, Stage::Announced))?;
    Ok(public)
}

/// The announced key.
///
/// # Errors
/// [`KeysError::NotAnnounced`].
pub fn announced(dir: &Path, name: KeyName) -> Result<PublicKey, KeysError> {
    let mut found = read(dir, name, Stage::Announced)?;
    found.pop().ok_or(KeysError::NotAnnounced(name))
}

/// Puts the announced key in the place of the active one, which is retiring
/// from now on. Its private half, if it was a file, is gone: what is trusted
/// only to let others catch up needs none.
///
/// # Errors
/// When none is announced, the one before is not retired yet, or a file
/// cannot be written.
pub fn activate(dir: &Path, name: KeyName, now: WallMs) -> Result<PublicKey, KeysError> {
    let _lock = keys::lock(dir)?;
    let new = announced(dir, name)?;
    let old = keys::read_public(dir, name)?;
    let is_new = |public: &PublicKey| public.key_data() == new.key_data();
    if !is_new(&old) {
        // Only this very step may have left one there.
        let retiring = read(dir, name, Stage::Retiring)?;
        if retiring.iter().any(|it| it.key_data() != old.key_data()) {
            return Err(KeysError::Retiring(name));
        }
        store_public(dir, name, Stage::Retiring, &old, now)?;
    }
    let (next, private) = (private_path(dir, name, Stage::Announced), dir.join(name.file()));
    if next.symlink_metadata().is_ok() {
        std::fs::rename(&next, &private).map_err(DurableError::at("rename into place", &private))?;
        durable::sync_dir(dir)?;
    } else if !holds(&private, &new)? {
        remove(&private)?;
    }
    store_public(dir, name, Stage::Active, &new, now)?;
    remove(&public_path(dir, name, Stage::Announced))?;
    Ok(new)
}

/// Trusts the retiring key no more.
///
/// # Errors
/// When none is retiring, or a file cannot be written.
pub fn retire(dir: &Path, name: KeyName, now: WallMs) -> Result<PublicKey, KeysError> {
    let _lock = keys::lock(dir)?;
    let mut retiring = read(dir, name, Stage::Retiring)?;
    let old = retiring.pop().ok_or(KeysError::NothingToRetire(name))?;
    let mut retired = read(dir, name, Stage::Retired)?;
    if !retired.iter().any(|it| it.key_data() == old.key_data()) {
        retired.push(dated(name, &old, now));
    }
    let path = public_path(dir, name, Stage::Retired);
    let mut text = String::new();
    for public in &retired {
        text.push_str(public.to_openssh().map_err(unusable(&path))?.trim());
        text.push('\n');
    }
    durable::replace(&path, text.as_bytes(), PUBLIC_MODE, &path.with_extension("new"))?;
    remove(&public_path(dir, name, Stage::Retiring))?;
    Ok(old)
}

/// Encrypts the key files of an authority under a passphrase (OpenSSH's own
/// format: bcrypt-kdf, aes256-ctr), and says how many it encrypted: those
/// that are under it already stay as they are. What a file held before is not
/// wiped from the disk.
///
/// # Errors
/// When a file is under another passphrase, or cannot be written.
pub fn encrypt(dir: &Path, name: KeyName, passphrase: &Secret) -> Result<usize, KeysError> {
    let _lock = keys::lock(dir)?;
    let mut done = 0;
    for stage in [Stage::Active, Stage::Announced] {
        let path = private_path(dir, name, stage);
        if path.symlink_metadata().is_err() {
            continue;
        }
        match keys::read_key_file(&path, None) {
            Ok(key) => {
                store_private(&path, &key, Some(passphrase))?;
                done += 1;
            }
            Err(KeysError::Passphrase(_)) => drop(keys::read_key_file(&path, Some(passphrase))?),
            Err(other) => return Err(other),
        }
    }
    Ok(done)
}

fn refuse_announced(dir: &Path, name: KeyName) -> Result<(), KeysError> {
    match read(dir, name, Stage::Announced)?.is_empty() {
        true => Ok(()),
        false => Err(KeysError::Announced(name)),
    }
}

/// Whether the file at `path` is the private half of `public`. Its passphrase
/// is not needed: the public half stands in it in clear.
fn holds(path: &Path, public: &PublicKey) -> Result<bool, KeysError> {
    if path.symlink_metadata().is_err() {
        return Ok(false);
    }
    let key = PrivateKey::from_openssh(&*super::secret::private_file(path)?).map_err(unusable(path))?;
    Ok(key.public_key().key_data() == public.key_data())
}

/// Where the private half at `stage` is, if it is a file.
pub(super) fn private_path(dir: &Path, name: KeyName, stage: Stage) -> PathBuf {
    dir.join(format!("{name}{}", stage.suffix()))
}

fn public_path(dir: &Path, name: KeyName, stage: Stage) -> PathBuf {
    dir.join(format!("{name}{}.pub", stage.suffix()))
}

fn store_private(path: &Path, key: &PrivateKey, passphrase: Option<&Secret>) -> Result<(), KeysError> {
    let text = match passphrase {
        None => key.to_openssh(LineEnding::LF),
        Some(secret) => key
            .encrypt(&mut rand::rng(), secret.bytes())
            .and_then(|key| key.to_openssh(LineEnding::LF)),
    };
    let text = text.map_err(unusable(path))?;
    durable::replace(path, text.as_bytes(), PRIVATE_MODE, &path.with_extension("new"))?;
    Ok(())
}

fn store_public(dir: &Path, name: KeyName, stage: Stage, key: &PublicKey, now: WallMs) -> Result<(), KeysError> {
    let path = public_path(dir, name, stage);
    let line = dated(name, key, now).to_openssh().map_err(unusable(&path))?;
    let staging = path.with_extension("new");
    durable::replace(&path, format!("{}\n", line.trim()).as_bytes(), PUBLIC_MODE, &staging)?;
    Ok(())
}

/// The key with a comment that says since when.
fn dated(name: KeyName, key: &PublicKey, now: WallMs) -> PublicKey {
    let time = i64::try_from(now / 1000)
        .ok()
        .and_then(|secs| jiff::Timestamp::from_second(secs).ok());
    let comment = match time {
        Some(time) => format!("portcullis {name}{SINCE}{time}"),
        None => format!("portcullis {name}"),
    };
    PublicKey::new(key.key_data().clone(), comment)
}

fn since(key: &PublicKey) -> Option<WallMs> {
    let comment = String::from_utf8_lossy(key.comment().as_bytes()).into_owned();
    let (_, time) = comment.rsplit_once(SINCE)?;
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// The public halves at one stage; none if there is no such file.
fn read(dir: &Path, name: KeyName, stage: Stage) -> Result<Vec<PublicKey>, KeysError> {
    let path = public_path(dir, name, stage);
    let bytes = match durable::read_bounded(&path, KEY_FILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(why) if why.is_missing() => return Ok(Vec::new()),
        Err(why) => return Err(why.into()),
    };
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| PublicKey::from_openssh(line.trim()).map_err(unusable(&path)))
        .collect()
}

fn remove(path: &Path) -> Result<(), KeysError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(durable::sync_dir(durable::parent(path))?),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(DurableError::at("remove", path)(why).into()),
    }
}

#[cfg(test)]
#[path = "generations_tests.rs"]
mod tests;
