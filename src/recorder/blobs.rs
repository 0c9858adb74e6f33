//! Contents of files on their way into the vault: each run of bytes is a file
//! of its own in the session's folder, sealed where the recording is.
//!
//! `blob-N` is a run that has not ended; its end renames it to `kept-NAME`,
//! NAME being the one it will have in the vault, and of a sealed one behind a
//! `-` the SHA-256 of its own bytes. Whoever files it hashes it again: what a
//! crash tore is never taken for the whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use portcullis_recording::vault::{self, Frames};
use sha2::{Digest, Sha256};

use super::append::append_taken;
use super::dirty::Unsynced;
use super::envelope::Recipients;
use super::reserve::Share;
use super::spool::failed;
use super::{Recorder, RecorderError};
use crate::kernel::grant::hex32;
use crate::kernel::transfer::Piece;

/// Runs of bytes of files that one session may have kept in the vault.
pub const BLOBS_MAX: u64 = 8_192;
/// Files that are synced one by one; of more their file system is.
const DIRTY_MAX: usize = 16;

/// One run that has not ended.
struct Blob {
    path: PathBuf,
    sealing: Option<Sealing>,
}

struct Sealing {
    frames: Frames,
    /// Over the sealed bytes.
    hash: Sha256,
}

/// One session's.
pub struct Blobs {
    folder: PathBuf,
    /// Whom it is sealed to; to nobody: it is in clear.
    recipients: Recipients,
    open: BTreeMap<(u32, u64), Blob>,
    made: u64,
    dirty: BTreeMap<(u32, u64), Arc<File>>,
    crowded: bool,
}

impl Blobs {
    /// None yet.
    pub fn new(folder: PathBuf) -> Blobs {
        Blobs {
            folder,
            recipients: Recipients::default(),
            open: BTreeMap::new(),
            made: 0,
            dirty: BTreeMap::new(),
            crowded: false,
        }
    }

    /// From here on they are sealed to these, if there are any.
    pub fn seal_to(&mut self, recipients: Recipients) {
        self.recipients = recipients;
    }

    /// Takes what is to be kept of a channel's files.
    pub fn take(&mut self, channel: u32, piece: &Piece, share: &Share) -> Result<(), RecorderError> {
        let (run, bytes) = match piece {
            Piece::Bytes { run, bytes } => (*run, bytes.as_slice()),
            Piece::End { run, sha256 } => return self.end((channel, *run), sha256, share),
        };
        let key = (channel, run);
        if !self.open.contains_key(&key) {
            let blob = self.begin(share)?;
            self.open.insert(key, blob);
        }
        self.append(key, bytes, false, share)
    }

    fn begin(&mut self, share: &Share) -> Result<Blob, RecorderError> {
        let number = self.made;
        self.made = self.made.saturating_add(1);
        let mut sealing = None;
        let mut first = Vec::new();
        if !self.recipients.is_empty() {
            let (key, envelope) = self.recipients.seal()?;
            first = vault::opening(&envelope).ok_or_else(|| RecorderError::Key("too many recipients".to_owned()))?;
            let mut hash = Sha256::new();
            hash.update(&first);
            let frames = Frames::new(&key);
            sealing = Some(Sealing { frames, hash });
        }
        let suffix = if sealing.is_some() { vault::SEALED_SUFFIX } else { "" };
        let path = self.folder.join(format!("{}{number}{suffix}", vault::OPEN_PREFIX));
        let mut new = File::options();
        new.append(true).create_new(true).mode(0o600);
        let made = share.taking().make(|| new.open(&path));
        let file = made.map_err(failed("blob cannot be made"))?;
        append_taken(&file, &first, share.taking()).map_err(failed("blob cannot be written"))?;
        Ok(Blob { path, sealing })
    }

    fn append(&mut self, key: (u32, u64), bytes: &[u8], last: bool, share: &Share) -> Result<(), RecorderError> {
        let Some(blob) = self.open.get_mut(&key) else {
            return Ok(());
        };
        let file = File::options().append(true).open(&blob.path);
        let file = file.map_err(failed("blob cannot be opened"))?;
        let mut sealed = Vec::new();
        let bytes = match &mut blob.sealing {
            None => bytes,
            Some(sealing) => {
                let done = sealing.frames.seal(bytes, last, &mut sealed);
                done.ok_or_else(|| RecorderError::Key("a blob cannot be sealed".to_owned()))?;
                sealing.hash.update(&sealed);
                &sealed
            }
        };
        append_taken(&file, bytes, share.taking()).map_err(failed("blob cannot be written"))?;
        if self.dirty.len() < DIRTY_MAX || self.dirty.contains_key(&key) {
            self.dirty.insert(key, Arc::new(file));
        } else {
            self.crowded = true;
        }
        Ok(())
    }

    fn end(&mut self, key: (u32, u64), sha256: &[u8; 32], share: &Share) -> Result<(), RecorderError> {
        self.append(key, b"", true, share)?;
        let Some(blob) = self.open.remove(&key) else {
            return Ok(());
        };
        let name = match blob.sealing {
            None => hex32::encode(sha256),
            Some(sealing) => {
                let name = vault::blob_name(sha256, Some(&self.recipients.id()));
                let name = name.split_once('/').map_or(name.as_str(), |(_, name)| name);
                format!("{name}-{}", hex32::encode(&sealing.hash.finalize().into()))
            }
        };
        let kept = self.folder.join(format!("{}{name}", vault::KEPT_PREFIX));
        match kept.exists() {
            // The same content once more; the older is on the disk already.
            true => std::fs::remove_file(&blob.path),
            false => std::fs::rename(&blob.path, kept),
        }
        .map_err(failed("blob cannot be named"))
    }

    /// Nothing more is taken: the keys go.
    pub fn forget(&mut self) {
        self.open.clear();
    }

    /// Adds what has unsynced bytes; it counts as synced from here on.
    pub fn take_unsynced(&mut self, to: &mut Unsynced) {
        if self.dirty.is_empty() {
            return;
        }
        to.files.extend(std::mem::take(&mut self.dirty).into_values());
        to.folders.push(self.folder.clone());
        to.system = std::mem::take(&mut self.crowded).then(|| self.folder.clone());
    }
}

impl Recorder {
    /// Lends some of the runs that may still be kept in the vault, at most so many.
    pub fn lend_blobs(&self, most: u64) -> u64 {
        let left = &self.0.blobs_left;
        let before = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| {
            Some(left.saturating_sub(most))
        });
        before.unwrap_or_default().min(most)
    }

    /// Takes back those that did not begin.
    pub fn take_back_blobs(&self, runs: u64) {
        self.0.blobs_left.fetch_add(runs, Ordering::AcqRel);
    }
}
