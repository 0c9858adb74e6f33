//! Files that are there, whole, after a power cut.
//!
//! A file is durable once its bytes and the directory entry that names it
//! have both been synced. Every function here but
//! [`show`] ends with both, or says which half failed. None retries an `fsync`: after one fails, the kernel may have
//! dropped the dirty pages, and a second call that succeeds proves nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

/// A file operation that did not happen, or happened but is not durable.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {why}", path.display())]
pub struct DurableError {
    /// What was being done, as a verb.
    pub doing: &'static str,
    pub path: PathBuf,
    #[source]
    pub why: io::Error,
}

impl DurableError {
    pub(crate) fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableError {
        let path = path.to_owned();
        move |why| DurableError { doing, path, why }
    }

    /// Whether the name was taken already.
    pub fn is_exists(&self) -> bool {
        self.why.kind() == io::ErrorKind::AlreadyExists
    }

    /// Whether the name was not there.
    pub fn is_missing(&self) -> bool {
        self.why.kind() == io::ErrorKind::NotFound
    }
}

/// Syncs a directory, so that renames and creations in it last.
///
/// # Errors
/// When it cannot be opened or synced.
pub fn sync_dir(dir: &Path) -> Result<(), DurableError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(DurableError::at("sync the folder", dir))
}

/// The folder that holds `path`; the working directory for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    }
}

/// Creates a folder and those above it that miss, each with `mode`, each
/// made durable in the one above it. A folder that is there stays as it is.
///
/// # Errors
/// When one cannot be created, or something else has its name.
pub fn create_dir_all(dir: &Path, mode: u32) -> Result<(), DurableError> {
    if dir.is_dir() {
        return Ok(());
    }
    let above = parent(dir);
    if above != dir {
        create_dir_all(above, mode)?;
    }
    match DirBuilder::new().mode(mode).create(dir) {
        Ok(()) => sync_dir(above),
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(why) => Err(DurableError::at("create the folder", dir)(why)),
    }
}

/// Creates a file that must not be there yet, with its bytes, durably.
///
/// A crash may leave a shorter file under that name: use it inside a folder
/// that is renamed into place afterwards, or [`replace`] otherwise.
///
/// # Errors
/// When the name is taken, or the bytes cannot be written or synced.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(DurableError::at("create", path))?;
    file.write_all(bytes).map_err(DurableError::at("write", path))?;
    file.sync_all().map_err(DurableError::at("sync", path))?;
    sync_dir(parent(path))
}

/// Puts `bytes` at `path` so that a reader, and a crash at any point, sees
/// either what was there before or all of the new bytes.
///
/// `staging` is a name on the same file system that only this caller uses; a
/// leftover of an earlier crash there is overwritten.
///
/// # Errors
/// When a step fails; `path` then still holds what it held before, except
/// when the last step (the folder's sync) failed: then it may hold either.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, staging: &Path) -> Result<(), DurableError> {
    let file = stage(bytes, mode, staging)?;
    file.sync_all().map_err(DurableError::at("sync", staging))?;
    std::fs::rename(staging, path).map_err(DurableError::at("rename into place", path))?;
    sync_dir(parent(path))
}

/// Puts `bytes` at `path` so that a reader sees either what was there before
/// or all of them. Not durable: a power cut may leave anything under that
/// name. For what a start can make again.
///
/// # Errors
/// When a step fails; `path` then still holds what it held before.
pub fn show(path: &Path, bytes: &[u8], mode: u32, staging: &Path) -> Result<(), DurableError> {
    stage(bytes, mode, staging)?;
    std::fs::rename(staging, path).map_err(DurableError::at("rename into place", path))
}

fn stage(bytes: &[u8], mode: u32, staging: &Path) -> Result<File, DurableError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(staging)
        .map_err(DurableError::at("create", staging))?;
    file.write_all(bytes).map_err(DurableError::at("write", staging))?;
    Ok(file)
}

/// Renames without ever overwriting, on one file system. The caller syncs
/// the folders.
///
/// # Errors
/// [`DurableError::is_exists`] when the new name is taken; otherwise what the
/// file system says, `EXDEV` among it.
pub fn rename_new(from: &Path, to: &Path) -> Result<(), DurableError> {
    let renamed = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
    let why = match renamed {
        Ok(()) => return Ok(()),
        Err(why) => why,
    };
    // NFS and some FUSE file systems know no flags. A hard link refuses a
    // taken name just as well; a crash between the two calls leaves the same
    // file under both names, which the caller's retry resolves.
    let flags_unknown = why == rustix::io::Errno::INVAL || why == rustix::io::Errno::NOSYS;
    if flags_unknown && from.is_file() {
        std::fs::hard_link(from, to).map_err(DurableError::at("rename into place", to))?;
        return std::fs::remove_file(from).map_err(DurableError::at("remove", from));
    }
    Err(DurableError::at("rename into place", to)(why.into()))
}

/// Opens a file to read: no pipe that would keep the reader waiting, no device,
/// nothing that lies elsewhere behind a symbolic link of that name.
///
/// # Errors
/// When it is missing, unreadable or something else than a regular file.
pub fn open_regular(path: &Path) -> Result<File, DurableError> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(i32::from_ne_bytes(flags.bits().to_ne_bytes()))
        .open(path)
        .map_err(DurableError::at("open", path))?;
    let is_file = file.metadata().map_err(DurableError::at("look at", path))?.is_file();
    match is_file {
        true => Ok(file),
        false => Err(DurableError::at("open", path)(io::Error::other(
            "it is not a regular file",
        ))),
    }
}

/// Reads a whole regular file of at most `bytes_max` bytes.
///
/// # Errors
/// As [`open_regular`], and when it is longer than that.
pub fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, DurableError> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(DurableError::at("read", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > bytes_max {
        let why = io::Error::other(format!("longer than {bytes_max} bytes"));
        return Err(DurableError::at("read", path)(why));
    }
    Ok(bytes)
}

/// Whether two paths lie on the same file system.
///
/// # Errors
/// When one cannot be looked at.
pub fn same_file_system(a: &Path, b: &Path) -> Result<bool, DurableError> {
    let device = |path: &Path| {
        std::fs::metadata(path)
            .map(|meta| meta.dev())
            .map_err(DurableError::at("look at", path))
    };
    Ok(device(a)? == device(b)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rename_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        write_new(&a, b"new", 0o600).unwrap();
        write_new(&b, b"old", 0o600).unwrap();
        assert!(rename_new(&a, &b).unwrap_err().is_exists());
        assert_eq!(read_bounded(&b, 10).unwrap(), b"old");
        std::fs::remove_file(&b).unwrap();
        rename_new(&a, &b).unwrap();
        assert_eq!(read_bounded(&b, 10).unwrap(), b"new");
        assert!(!a.exists());
    }

    #[test]
    fn replace_leaves_nothing_behind_and_survives_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let (file, staging) = (dir.path().join("f"), dir.path().join(".tmp"));
        std::fs::write(&staging, b"a much longer leftover of a crash").unwrap();
        replace(&file, b"one", 0o600, &staging).unwrap();
        replace(&file, b"two", 0o600, &staging).unwrap();
        assert_eq!(read_bounded(&file, 3).unwrap(), b"two");
        assert!(!staging.exists());
        assert!(read_bounded(&file, 2).is_err(), "longer than the bound");
    }

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, link, file) = (dir.path().join("p"), dir.path().join("l"), dir.path().join("f"));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&file, b"x").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read_bounded(&pipe, 9).is_err(), "and it does not wait for a writer");
        assert!(read_bounded(&link, 9).is_err());
        assert!(read_bounded(dir.path(), 9).is_err());
        assert_eq!(read_bounded(&file, 9).unwrap(), b"x");
    }

    #[test]
    fn a_file_in_the_way_of_a_folder_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        std::fs::write(&taken, b"").unwrap();
        assert!(create_dir_all(&taken.join("below"), 0o700).is_err());
        create_dir_all(&dir.path().join("x/y/z"), 0o700).unwrap();
        assert!(dir.path().join("x/y/z").is_dir());
    }
}
