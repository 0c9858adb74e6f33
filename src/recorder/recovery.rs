//! At start: every spool that a crash left behind is sealed by the node.
//!
//! The steps are a redo log. `recovering.tmp` is written and synced first: how
//! much of the main file stays and what follows. Then the main file is cut and
//! appended to, synced, and the tails and the log are removed. A crash between
//! any two of them finds either no log (start over) or a whole one (do it again).

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use portcullis_recording::limits::HEAD_TEXT_BYTES_MAX;
use portcullis_recording::recover::LeftOut;
use portcullis_recording::recover::RecoverError;
use portcullis_recording::spool::{ENVELOPE_FILE, MAIN_FILE, RECOVERING_FILE, parse_session_name, parse_tail_file};
use portcullis_recording::{Sealed, Why, recover, vault};
use sha2::{Digest, Sha256};

use super::Finished;
use super::reserve::Reserve;
use crate::durable;
use crate::keeper::Keeper;
use crate::kernel::grant::hex32;

/// Largest redo log, in bytes: tails and one torn chunk.
const REDO_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Longest tail that is read, in bytes: one within its bound (FORMAT.md section
/// 2.3), and what a write that crossed it left behind.
const TAIL_FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most tails that are read; those of finished chunks that were not synced are
/// among them.
const TAILS_READ_MAX: usize = 256;
const DIGEST_BYTES: usize = 32;
/// Longest file that a power cut can have left without its content, in bytes:
/// more is synced before anything else happens.
const BLANK_BYTES_MAX: u64 = 64 * 1024;
const KEEP_BYTES: usize = 8;

/// Where originals go before anything of them is left out.
const DAMAGED_FOLDER: &str = ".damaged";
const DAMAGED_MAX: u32 = 10_000;
/// Bytes read at a time.
const COPY_BYTES: usize = 128 * 1024;
/// What a seal says of a session that a crash ended.
pub const NOT_ENDED: &str = "the recorder did not end the session itself";

/// What was found at start.
#[expect(clippy::large_enum_variant, reason = "few at a time, and moved once")]
pub enum LeftOver {
    Recovered(Recovered),
    /// A folder without a recording in it: either it is in the archive already
    /// and the last steps are missing, or nothing was ever taken.
    Moved {
        session: [u8; 16],
        folder: PathBuf,
    },
}

/// One spool that was to be sealed.
#[expect(clippy::large_enum_variant, reason = "few at a time, and moved once")]
pub enum Recovered {
    /// It is sealed now, by the session itself before the crash or by the node.
    Finished(Finished),
    /// Nothing can be made of it; it stays where it is and is named.
    Unreadable { folder: PathBuf, why: String },
}

/// Seals every spool in `folder`. `code` is the reason in the seals.
///
/// # Errors
/// Only when the folder itself cannot be read.
pub async fn recover_all(folder: &Path, keeper: &dyn Keeper) -> std::io::Result<Vec<LeftOver>> {
    let mut found = Vec::new();
    if !folder.exists() {
        return Ok(found);
    }
    let reserve = Reserve::left(folder);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(session) = name.to_str().and_then(parse_session_name) else {
            continue;
        };
        let folder = entry.path();
        if holds_nothing(&folder) {
            found.push(LeftOver::Moved { session, folder });
            continue;
        }
        let recovered = recover_one(&folder, keeper, "crash_recovered", NOT_ENDED, &reserve).await;
        found.push(LeftOver::Recovered(recovered));
    }
    Ok(found)
}

/// No entry at all, or files that are empty or zeros (what a power cut leaves of
/// a folder that was not synced yet) and an envelope that no head names. What
/// cannot be looked at holds something.
fn holds_nothing(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let mut all = true;
    for entry in entries {
        all &= entry.is_ok_and(|entry| {
            let name = entry.file_name();
            let known = name == MAIN_FILE || name.to_str().and_then(parse_tail_file).is_some();
            name == ENVELOPE_FILE || (known && is_blank(&entry.path()).unwrap_or(false))
        });
    }
    all
}

/// Whether a file has no byte but zeros, and few of them.
fn is_blank(path: &Path) -> std::io::Result<bool> {
    let meta = std::fs::symlink_metadata(path)?;
    if !meta.is_file() || meta.len() > BLANK_BYTES_MAX {
        return Ok(false);
    }
    Ok(std::fs::read(path)?.iter().all(|byte| *byte == 0))
}

/// Seals one spool.
pub async fn recover_one(folder: &Path, keeper: &dyn Keeper, code: &str, text: &str, reserve: &Reserve) -> Recovered {
    match try_recover(folder, keeper, code, text, reserve).await {
        Ok(finished) => Recovered::Finished(finished),
        Err(why) => Recovered::Unreadable {
            folder: folder.to_owned(),
            why,
        },
    }
}

async fn try_recover(
    folder: &Path,
    keeper: &dyn Keeper,
    code: &str,
    reason: &str,
    reserve: &Reserve,
) -> Result<Finished, String> {
    let fits = (0..=HEAD_TEXT_BYTES_MAX)
        .rev()
        .find_map(|end| reason.get(..end.min(reason.len())));
    let reason = fits.unwrap_or(NOT_ENDED);
    let text = |error: std::io::Error| error.to_string();
    let main_path = folder.join(MAIN_FILE);
    let redo_path = folder.join(RECOVERING_FILE);
    if let Some((keep, append)) = read_redo(&redo_path) {
        reserve.with_room(|| apply(&main_path, keep, &append)).map_err(text)?;
    }
    let main = durable::open_regular(&main_path).map_err(|error| error.to_string())?;
    let mut tails = Vec::new();
    let mut tail_paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(text)? {
        let entry = entry.map_err(text)?;
        if let Some(index) = entry.file_name().to_str().and_then(parse_tail_file) {
            if tails.len() >= TAILS_READ_MAX {
                return Err("more tails than a spool has".to_owned());
            }
            let bytes = durable::read_bounded(&entry.path(), TAIL_FILE_BYTES_MAX).map_err(|error| error.to_string())?;
            tails.push((index, bytes));
            tail_paths.push(entry.path());
        }
    }
    let sealed = match recover(main, tails, keeper.node_key(), code, reason) {
        Ok(unsigned) => {
            for left in unsigned.left_out() {
                tracing::warn!(folder = %folder.display(), tail = ?left.tail, bytes = left.bytes, why = ?left.why, "left out of a recovered recording");
            }
            if !unsigned.left_out().iter().all(merely_torn) {
                reserve.with_room(|| keep_originals(folder)).map_err(text)?;
            }
            let signature = keeper
                .sign_recording(&unsigned.statement())
                .await
                .map_err(|error| error.to_string())?;
            let recovery = unsigned.sign(&signature).map_err(|error| error.to_string())?;
            let (keep, append) = (recovery.keep_bytes, &recovery.append);
            reserve
                .with_room(|| write_redo(&redo_path, keep, append))
                .map_err(text)?;
            reserve.with_room(|| apply(&main_path, keep, append)).map_err(text)?;
            recovery.sealed
        }
        Err(RecoverError::AlreadySealed(sealed)) => *sealed,
        Err(error) => return Err(error.to_string()),
    };
    for path in tail_paths.iter().chain([&redo_path]) {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(text(error)),
            Ok(()) | Err(_) => {}
        }
    }
    finished(folder, main_path, sealed)
}

/// The end that a crash within a write leaves behind.
fn merely_torn(left: &LeftOut) -> bool {
    matches!(left.why, Why::Truncated | Why::NotSealed)
}

/// Copies the whole spool to `.damaged/<session>-N/` and logs what it was.
fn keep_originals(folder: &Path) -> std::io::Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let damaged = folder.parent().unwrap_or(folder).join(DAMAGED_FOLDER);
    let mut builder = std::fs::DirBuilder::new();
    builder.mode(0o700).recursive(true).create(&damaged)?;
    let mut place = None;
    for number in 1..=DAMAGED_MAX {
        let candidate = damaged.join(format!("{name}-{number}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&candidate) {
            Ok(()) => {
                place = Some(candidate);
                break;
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let place = place.ok_or_else(|| std::io::Error::other("too many damaged copies"))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // The key to the content has one place, so that it can be destroyed; so have the contents of files.
        let name = entry.file_name();
        let content = |name: &str| {
            [vault::OPEN_PREFIX, vault::KEPT_PREFIX]
                .iter()
                .any(|is| name.starts_with(is))
        };
        if name == ENVELOPE_FILE || name.to_str().is_some_and(content) {
            continue;
        }
        let copy = place.join(entry.file_name());
        let mut digest = Sha256::new();
        let mut from = File::open(entry.path())?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = from.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            digest.update(buffer.get(..read).unwrap_or_default());
        }
        std::fs::copy(entry.path(), &copy)?;
        File::open(&copy)?.sync_all()?;
        let sha256 = hex32::encode(&digest.finalize().into());
        tracing::error!(file = %copy.display(), sha256, "the original of a damaged spool was kept");
    }
    for folder in [&place, &damaged] {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn finished(folder: &Path, path: PathBuf, sealed: Sealed) -> Result<Finished, String> {
    let bytes = sealed.file_bytes();
    Ok(Finished {
        tally: None,
        path,
        folder: folder.to_owned(),
        sealed,
        bytes,
    })
}

fn apply(main: &Path, keep: u64, append: &[u8]) -> std::io::Result<()> {
    let flags = rustix::fs::OFlags::NOFOLLOW;
    let mut file = File::options()
        .write(true)
        .custom_flags(i32::from_ne_bytes(flags.bits().to_ne_bytes()))
        .open(main)?;
    if keep > file.metadata()?.len() {
        return Err(std::io::Error::other("the redo log is of another file"));
    }
    file.set_len(keep)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(keep))?;
    file.write_all(append)?;
    file.sync_all()
}

fn write_redo(path: &Path, keep: u64, append: &[u8]) -> std::io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut digest = Sha256::new();
    digest.update(keep.to_be_bytes());
    digest.update(append);
    file.write_all(&digest.finalize())?;
    file.write_all(&keep.to_be_bytes())?;
    file.write_all(append)?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A whole redo log, or nothing: a torn one is written anew.
fn read_redo(path: &Path) -> Option<(u64, Vec<u8>)> {
    if std::fs::metadata(path).ok()?.len() > REDO_BYTES_MAX {
        return None;
    }
    let bytes = std::fs::read(path).ok()?;
    let (digest, rest) = bytes.split_at_checked(DIGEST_BYTES)?;
    let (keep, append) = rest.split_at_checked(KEEP_BYTES)?;
    if Sha256::digest(rest).as_slice() != digest {
        return None;
    }
    Some((u64::from_be_bytes(keep.try_into().ok()?), append.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn originals_are_kept_beside_the_spools() {
        let spools = tempfile::tempdir().unwrap();
        let folder = spools.path().join("ab".repeat(16));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(MAIN_FILE), b"main").unwrap();
        std::fs::write(folder.join("tail-000003"), b"tail").unwrap();
        keep_originals(&folder).unwrap();
        keep_originals(&folder).unwrap();
        for number in [1, 2] {
            let kept = spools
                .path()
                .join(DAMAGED_FOLDER)
                .join(format!("{}-{number}", "ab".repeat(16)));
            assert_eq!(std::fs::read(kept.join(MAIN_FILE)).unwrap(), b"main");
            assert_eq!(std::fs::read(kept.join("tail-000003")).unwrap(), b"tail");
        }
    }

    #[test]
    fn only_a_folder_without_content_holds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(holds_nothing(folder.path()));
        std::fs::write(folder.path().join(ENVELOPE_FILE), b"age").unwrap();
        std::fs::write(folder.path().join(MAIN_FILE), b"").unwrap();
        assert!(holds_nothing(folder.path()));
        std::fs::write(folder.path().join("tail-000000"), b"").unwrap();
        assert!(holds_nothing(folder.path()));
        std::fs::write(folder.path().join(MAIN_FILE), [0; 475]).unwrap();
        assert!(holds_nothing(folder.path()));
        std::fs::write(folder.path().join("tail-000001"), b"x").unwrap();
        assert!(!holds_nothing(folder.path()));
        assert!(!holds_nothing(&folder.path().join("missing")));
    }
}
