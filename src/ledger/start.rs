//! Everything of a start that reads and repairs files.

use std::path::Path;

use portcullis_recording::note::{Note, VerifierKey};
use sha2::{Digest, Sha256};

use crate::durable;
use crate::kernel::grant::hex32;
use crate::witness::wire;

use super::publish::{self, Published};
use super::replay::{self, Known, Replayed};
use super::{ANCHORS_MAX, LedgerError, Options, checkpoint, journal, tiles};

/// What a start needs and did.
pub(super) struct Prepared {
    pub replayed: Replayed,
    pub appender: journal::Appender,
    pub standing: Published,
    pub partials: Vec<tiles::TileId>,
    /// What was cut off the journal, as an event's body.
    pub cut: Option<serde_json::Value>,
}

/// Everything of a start that reads and writes files.
pub(super) fn prepare(dir: &Path, options: &Options, key: &VerifierKey) -> Result<Prepared, LedgerError> {
    let appender = journal::Appender::open(dir)?;
    let found = journal::Reader::open(dir)?.origin().to_owned();
    if found != options.origin {
        return Err(journal::JournalError::OtherOrigin {
            path: dir.join(journal::JOURNAL_FILE),
            found,
            wanted: options.origin.clone(),
        }
        .into());
    }
    let note = read_checkpoint(dir)?;
    let mut known = Vec::new();
    let path = dir.join(tiles::CHECKPOINT_FILE);
    if let Some(note) = &note {
        known.push(vouched(&path.display().to_string(), note, key)?);
    }
    for anchor in options.anchors.iter().take(ANCHORS_MAX) {
        known.push(vouched(&anchor.source, &anchor.note, key)?);
    }
    let size = note.as_ref().and(known.first()).map(|it| it.size);
    let replayed = replay::replay(dir, known)?;
    let leaves = replayed.log.edge.size();
    // The first start publishes a checkpoint before it takes a leaf.
    if note.is_none() && leaves > 0 {
        return Err(LedgerError::NoCheckpoint { path, leaves });
    }
    let mut cut = None;
    if let Some(broken) = &replayed.torn {
        let (aside, bytes) = appender.cut(broken.offset)?;
        let sha256: [u8; 32] = Sha256::digest(read_all(&aside)?).into();
        tracing::warn!(file = %aside.display(), bytes, why = broken.why, "a torn tail was cut off the journal");
        cut = Some(serde_json::json!({
            "offset": broken.offset, "bytes": bytes, "why": broken.why, "sha256": hex32::encode(&sha256),
        }));
    }
    if replayed.stale_tiles {
        let tiles = replay::repair_tiles(dir, leaves)?;
        tracing::warn!(tiles, "tiles were made again from the journal");
    }
    let edge = replayed.log.edge.clone();
    let partials = match size == Some(leaves) {
        true => publish::repair_partials(dir, &edge)?,
        false => Vec::new(),
    };
    let note = note.and_then(|note| Note::parse(&note).ok());
    let standing = Published {
        // A size that is not the tree's makes the first publication happen.
        size: size.unwrap_or(u64::MAX),
        root: edge.root(),
        signed: note.as_ref().and_then(|note| wire::only(note, key)),
        note,
        edge,
    };
    Ok(Prepared {
        replayed,
        appender,
        standing,
        partials,
        cut,
    })
}

/// Largest torn tail that is hashed for its event, in bytes; a batch is smaller.
const TORN_BYTES_MAX: u64 = 64 * 1024 * 1024;

fn read_all(path: &Path) -> Result<Vec<u8>, LedgerError> {
    Ok(durable::read_bounded(path, TORN_BYTES_MAX)?)
}

fn read_checkpoint(dir: &Path) -> Result<Option<String>, LedgerError> {
    let path = dir.join(tiles::CHECKPOINT_FILE);
    match durable::read_bounded(&path, checkpoint::NOTE_BYTES_MAX) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(why) if why.is_missing() => Ok(None),
        Err(why) => Err(why.into()),
    }
}

fn vouched(source: &str, note: &str, key: &VerifierKey) -> Result<Known, LedgerError> {
    let said = checkpoint::open(note, key).map_err(|why| LedgerError::BadCheckpoint {
        source_name: source.to_owned(),
        why,
    })?;
    Ok(Known {
        size: said.size,
        root: said.root,
        source: source.to_owned(),
    })
}
