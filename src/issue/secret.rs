//! Secrets that are read from files: private keys, passphrases, PINs.
//!
//! Never from an argument or a variable, which other processes may see. What
//! is checked is the open file itself, so that nothing else is read than what
//! was looked at. Every secret is wiped when it is dropped, and is not shown.

use std::fmt;
use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use super::keys::{KEY_FILE_BYTES_MAX, KeysError};
use crate::durable::DurableError;

/// Longest passphrase or PIN, in bytes.
pub const SECRET_BYTES_MAX: usize = 1024;
/// Where a service manager puts credentials (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// The bits of a mode that let group or world in.
const OTHERS: u32 = 0o077;

/// A passphrase or a PIN: one line of a file, without its end.
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    /// Shows nothing of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// The secret in the file at `path`, which nobody else may read.
    ///
    /// # Errors
    /// When the file is missing, open to others, empty or too long.
    pub fn read(path: &Path) -> Result<Secret, KeysError> {
        Secret::of(path, private_file(path)?)
    }

    /// The credential `name` of a service manager, if there is one.
    ///
    /// Its mode is not looked at: systemd lets the service in by an access
    /// list, which shows as a group's right, and its folder is this service's own.
    ///
    /// # Errors
    /// As [`Secret::read`].
    pub fn credential(name: &str) -> Result<Option<Secret>, KeysError> {
        let Some(folder) = std::env::var_os(CREDENTIALS).filter(|folder| !folder.is_empty()) else {
            return Ok(None);
        };
        let path = PathBuf::from(folder).join(name);
        match path.symlink_metadata() {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
            Ok(_) | Err(_) => Secret::of(&path, bounded(&path, |_| Ok(()))?).map(Some),
        }
    }

    fn of(path: &Path, mut bytes: Zeroizing<Vec<u8>>) -> Result<Secret, KeysError> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let why = match bytes.len() {
            0 => "it is empty",
            1..=SECRET_BYTES_MAX => return Ok(Secret(bytes)),
            _ => "it is longer than 1024 bytes",
        };
        Err(KeysError::BadSecret {
            path: path.to_owned(),
            why,
        })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A whole file of ours that nobody else may read, at most a key file long.
///
/// # Errors
/// When it is missing, a symbolic link, no regular file, open to group or
/// world, or somebody else's.
pub fn private_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    bounded(path, |meta| check_private(path, meta, "600"))
}

fn bounded(path: &Path, check: impl Fn(&Metadata) -> Result<(), KeysError>) -> Result<Zeroizing<Vec<u8>>, KeysError> {
    // NONBLOCK: a pipe put in its place must not hold the start up.
    let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
    let no_follow = i32::try_from(flags.bits()).unwrap_or(0);
    let opened = OpenOptions::new().read(true).custom_flags(no_follow).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Err(KeysError::Missing(path.to_owned())),
        Err(_) if path.is_symlink() => return Err(KeysError::NotAFile(path.to_owned())),
        Err(why) => return Err(DurableError::at("open", path)(why).into()),
    };
    let meta = file.metadata().map_err(DurableError::at("look at", path))?;
    if !meta.is_file() {
        return Err(KeysError::NotAFile(path.to_owned()));
    }
    check(&meta)?;
    // Room for all of it at once: a buffer that grew would leave pieces of
    // the secret behind in freed memory.
    let room = usize::try_from(KEY_FILE_BYTES_MAX.saturating_add(1)).unwrap_or(usize::MAX);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(KEY_FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(DurableError::at("read", path))?;
    Ok(bytes)
}

/// Whether what `meta` is about is ours, and nobody else's to look into;
/// `fix` is the mode that it should have.
///
/// # Errors
/// When it is open to others, or somebody else's.
pub fn check_private(path: &Path, meta: &Metadata, fix: &'static str) -> Result<(), KeysError> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_one_line_that_nobody_else_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passphrase");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("open sesame\n", 0o400);
        let secret = Secret::read(&path).unwrap();
        assert_eq!(secret.bytes(), b"open sesame");
        assert!(!format!("{secret:?}").contains("sesame"));
        write("open sesame\n", 0o640);
        let said = Secret::read(&path).unwrap_err().to_string();
        assert!(said.contains("chmod 600"), "{said}");
        write("\n", 0o600);
        assert!(matches!(Secret::read(&path), Err(KeysError::BadSecret { .. })));
        write(&"x".repeat(SECRET_BYTES_MAX + 1), 0o600);
        assert!(matches!(Secret::read(&path), Err(KeysError::BadSecret { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Secret::read(&path), Err(KeysError::Missing(_))));
    }
}
