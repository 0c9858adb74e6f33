//! At start: every spool that a crash left behind is sealed by the node.
//!
//! The steps are a redo log. `recovering.tmp` is written and synced first: how
//! much of the main file stays and what follows. Then the main file is cut and
//! appended to, synced, and the tails and the log are removed. A crash between
//! any two of them finds either no log (start over) or a whole one (do it again).

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use portcullis_recording::recover::RecoverError;
use portcullis_recording::spool::{MAIN_FILE, RECOVERING_FILE, parse_session_name, parse_tail_file};
use portcullis_recording::{Sealed, recover};
use sha2::{Digest, Sha256};

use super::Finished;
use super::reserve::Reserve;
use crate::keeper::Keeper;

/// Largest redo log, in bytes: tails and one torn chunk.
const REDO_BYTES_MAX: u64 = 512 * 1024 * 1024;
const DIGEST_BYTES: usize = 32;
const KEEP_BYTES: usize = 8;

/// One spool found at start.
pub enum Recovered {
    /// It is sealed now, by the session itself before the crash or by the node.
    Finished(Finished),
    /// It is sealed and in the archive; what follows the archive is still to be done.
    Moved { folder: PathBuf, session: [u8; 16] },
    /// Nothing can be made of it; it stays where it is and is named.
    Unreadable { folder: PathBuf, why: String },
}

/// Seals every spool in `spools`. `code` is the reason in the seals.
///
/// # Errors
/// Only when the folder itself cannot be read.
pub async fn recover_all(spools: &Path, keeper: &dyn Keeper) -> std::io::Result<Vec<Recovered>> {
    let mut found = Vec::new();
    if !spools.exists() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(spools)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(session) = name.to_str().and_then(parse_session_name) else {
            continue;
        };
        let folder = entry.path();
        // The main file leaves its folder for the archive in one rename, and
        // nothing before that takes it away.
        if !folder.join(MAIN_FILE).exists() {
            found.push(Recovered::Moved { folder, session });
            continue;
        }
        let mut recovered = recover_one(&folder, keeper, "crash_recovered").await;
        if let (Recovered::Unreadable { .. }, Some(reserve)) = (&recovered, Reserve::left_in(spools)) {
            // The disk may be full: this is what the reserve is for.
            reserve.release();
            recovered = recover_one(&folder, keeper, "crash_recovered").await;
        }
        found.push(recovered);
    }
    Ok(found)
}

/// Seals one spool.
pub async fn recover_one(folder: &Path, keeper: &dyn Keeper, code: &str) -> Recovered {
    match try_recover(folder, keeper, code).await {
        Ok(finished) => Recovered::Finished(finished),
        Err(why) => Recovered::Unreadable {
            folder: folder.to_owned(),
            why,
        },
    }
}

async fn try_recover(folder: &Path, keeper: &dyn Keeper, code: &str) -> Result<Finished, String> {
    let text = |error: std::io::Error| error.to_string();
    let main_path = folder.join(MAIN_FILE);
    let redo_path = folder.join(RECOVERING_FILE);
    if let Some((keep, append)) = read_redo(&redo_path) {
        apply(&main_path, keep, &append).map_err(text)?;
    }
    let main = File::open(&main_path).map_err(text)?;
    let mut tails = Vec::new();
    let mut tail_paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(text)? {
        let entry = entry.map_err(text)?;
        if let Some(index) = entry.file_name().to_str().and_then(parse_tail_file) {
            tails.push((index, std::fs::read(entry.path()).map_err(text)?));
            tail_paths.push(entry.path());
        }
    }
    let sealed = match recover(main, tails, keeper.node_key(), code, "the recorder did not end the session itself") {
        Ok(unsigned) => {
            for left in unsigned.left_out() {
                tracing::warn!(folder = %folder.display(), tail = ?left.tail, bytes = left.bytes, why = ?left.why, "left out of a recovered recording");
            }
            let signature = keeper
                .sign_recording(&unsigned.statement())
                .await
                .map_err(|error| error.to_string())?;
            let recovery = unsigned.sign(&signature).map_err(|error| error.to_string())?;
            write_redo(&redo_path, recovery.keep_bytes, &recovery.append).map_err(text)?;
            apply(&main_path, recovery.keep_bytes, &recovery.append).map_err(text)?;
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

fn finished(folder: &Path, path: PathBuf, sealed: Sealed) -> Result<Finished, String> {
    let bytes = sealed.file_bytes();
    Ok(Finished {
        path,
        folder: folder.to_owned(),
        sealed,
        bytes,
    })
}

fn apply(main: &Path, keep: u64, append: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(main)?;
    file.set_len(keep)?;
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(keep))?;
    file.write_all(append)?;
    file.sync_all()
}

fn write_redo(path: &Path, keep: u64, append: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
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
