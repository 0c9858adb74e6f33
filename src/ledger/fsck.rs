//! Holds journal, checkpoint, tiles and archive against each other and names
//! everything that does not fit. Reads only; a running server does not mind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis_recording::leaf::{LeafKind, LedgerLeaf};
use portcullis_recording::merkle::Hash;
use portcullis_recording::note::{Checkpoint, Note, VerifierKey};
use portcullis_recording::proof::Proof;
use portcullis_recording::trust::Trust;
use portcullis_recording::{Ledger as Place, Sealed, spool};

use crate::archive::{Archive, ArchiveError, ArchiveName, Sidecar};
use crate::durable;
use crate::kernel::id::SessionId;

use super::LedgerError;
use super::body::Body;
use super::checkpoint::NOTE_BYTES_MAX;
use super::journal::Reader;
use super::replay::is_on_disk;
use super::report::{Code, Report};
use super::tiles::{CHECKPOINT_FILE, Edge, Tile};

/// What is compared.
pub struct Input<'a> {
    /// The ledger's folder.
    pub ledger: &'a Path,
    pub archive: &'a dyn Archive,
    pub trust: &'a Trust,
    /// Sessions that run now, or whose recording still lies in the spool:
    /// for them a missing seal or file is no finding.
    pub live: &'a BTreeSet<SessionId>,
    /// Checkpoints kept elsewhere, as signed notes, with where they are from.
    pub anchors: &'a [super::Anchor],
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum FsckError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// A recording as its file tells.
struct Held {
    name: ArchiveName,
    sealed: Sealed,
    open: LedgerLeaf,
}

/// A size and root to be met while the journal is read.
struct Expected {
    size: u64,
    root: Hash,
    source: String,
}

/// A session as the leaves tell.
struct Logged {
    open: u64,
    leaf: LedgerLeaf,
    /// The last check leaf, and the bytes that the recording had by then.
    check: Option<(u64, u64)>,
    seal: Option<(u64, LedgerLeaf)>,
}

/// Compares everything.
///
/// # Errors
/// Only when the journal or the archive cannot be opened at all; what is
/// wrong inside them is in the report.
pub async fn fsck(input: Input<'_>) -> Result<Report, FsckError> {
    let mut report = Report::default();
    let mut expected = Vec::new();
    let standing = standing(&input, &mut expected, &mut report);
    for anchor in input.anchors {
        match Note::parse(&anchor.note).map(|note| known(&note, input.trust)) {
            Ok(Some(said)) => expected.push(expect(said, &anchor.source)),
            Ok(None) | Err(_) => report.add(
                Code::CheckpointBad,
                &anchor.source,
                "it is no checkpoint that a trusted ledger key has signed",
            ),
        }
    }
    let (held, broken) = recordings(&input, &mut expected, &mut report).await?;
    // Gigabytes, perhaps: not on a thread that serves others.
    let dir = input.ledger.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let sessions = journal(&dir, standing, expected, &mut report)?;
        Ok::<_, FsckError>((sessions, report))
    });
    let (sessions, mut report) = read.await.map_err(|why| LedgerError::Stopped(why.to_string()))??;
    compare(&input, &sessions, &held, &broken, &mut report);
    Ok(report)
}

/// The checkpoint that stands; it is among what is expected.
fn standing(input: &Input<'_>, expected: &mut Vec<Expected>, report: &mut Report) -> Option<u64> {
    let path = input.ledger.join(CHECKPOINT_FILE);
    let text = match durable::read_bounded(&path, NOTE_BYTES_MAX) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(why) => {
            report.add(Code::CheckpointBad, CHECKPOINT_FILE, why.to_string());
            return None;
        }
    };
    let note = match Note::parse(&text) {
        Ok(note) => note,
        Err(why) => {
            report.add(Code::CheckpointBad, CHECKPOINT_FILE, why.to_string());
            return None;
        }
    };
    let Some(said) = known(&note, input.trust) else {
        report.add(
            Code::CheckpointBad,
            CHECKPOINT_FILE,
            "no ledger key of the trust file has signed it",
        );
        return None;
    };
    report.checkpoint = Some(said.size);
    let cosigned = |key: &&VerifierKey| matches!(note.verify(key), Ok(Some(_)));
    let witnesses = input.trust.witnesses.iter().filter(cosigned).count();
    if u64::try_from(witnesses).unwrap_or(u64::MAX) < input.trust.quorum {
        report.notes.push(format!(
            "the checkpoint that stands is cosigned by {witnesses} witnesses, {} are demanded",
            input.trust.quorum
        ));
    }
    let size = said.size;
    expected.push(expect(said, CHECKPOINT_FILE));
    Some(size)
}

fn expect(said: Checkpoint, source: &str) -> Expected {
    Expected {
        size: said.size,
        root: said.root,
        source: source.to_owned(),
    }
}

/// The checkpoint of a note, if a trusted key of its own log has signed it.
fn known(note: &Note, trust: &Trust) -> Option<Checkpoint> {
    let said = Checkpoint::of(note).ok()?;
    let keys = trust.ledgers.iter().filter(|it| it.origin == said.origin);
    let mut signed = false;
    for ledger in keys {
        signed = signed || matches!(note.verify(&ledger.key), Ok(Some(_)));
    }
    signed.then_some(said)
}

/// Verifies every recording of the archive. The second part are sessions
/// whose file is there and broken: they are not reported as deleted as well.
async fn recordings(
    input: &Input<'_>,
    expected: &mut Vec<Expected>,
    report: &mut Report,
) -> Result<(Vec<Held>, BTreeSet<SessionId>), FsckError> {
    let (mut held, mut broken) = (Vec::new(), BTreeSet::new());
    let mut after: Option<ArchiveName> = None;
    let extension = format!(".{}", spool::EXTENSION);
    loop {
        let page = input.archive.list(after.as_ref()).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        for listed in page {
            if !listed.name.as_str().ends_with(&extension) {
                continue;
            }
            let name = listed.name;
            report.recordings = report.recordings.saturating_add(1);
            let proof = input.archive.sidecar(&name, Sidecar::Proof).await?;
            let proof = proof.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            note_proof(&name, proof.as_deref(), input.trust, expected, report);
            let file = input.archive.open(&name).await?;
            let trust = input.trust.clone();
            let verified = tokio::task::spawn_blocking(move || verify(file, &trust, proof.as_deref())).await;
            match verified {
                Ok(Ok((sealed, open, place))) => {
                    if let Some(why) = place {
                        report.add(Code::ProofBad, &name, why);
                    }
                    held.push(Held { name, sealed, open });
                }
                Ok(Err(why)) => {
                    broken.extend(session_of(&name));
                    report.add(Code::RecordingInvalid, &name, why);
                }
                Err(why) => {
                    broken.extend(session_of(&name));
                    report.add(Code::RecordingInvalid, &name, why.to_string());
                }
            }
        }
    }
    Ok((held, broken))
}

/// A proof was given out with a checkpoint: the journal must still hold to it.
fn note_proof(
    name: &ArchiveName,
    proof: Option<&str>,
    trust: &Trust,
    expected: &mut Vec<Expected>,
    report: &mut Report,
) {
    let Some(proof) = proof else {
        report.add(
            Code::ProofBad,
            name,
            "there is no proof beside it: `portcullis-player prove` cannot show that it was logged",
        );
        return;
    };
    if let Some(said) = Proof::parse(proof)
        .ok()
        .and_then(|proof| known(&proof.checkpoint, trust))
    {
        expected.push(expect(said, &format!("the proof of {name}")));
    }
}

type Facts = (Sealed, LedgerLeaf, Option<String>);

fn verify(file: std::fs::File, trust: &Trust, proof: Option<&str>) -> Result<Facts, String> {
    let file = std::io::BufReader::new(file);
    let verified = portcullis_recording::verify(file, trust, proof).map_err(|fault| fault.to_string())?;
    let place = match verified.ledger() {
        Place::Proven(_) | Place::NoProof => None,
        Place::Refused(why) => Some(why.to_string()),
    };
    let sealed = verified.sealed().ok_or_else(|| "it is not sealed".to_owned())?;
    Ok((sealed.clone(), verified.open_leaf(), place))
}

fn session_of(name: &ArchiveName) -> Option<SessionId> {
    let file = name.as_str().rsplit('/').next()?;
    let stem = file.strip_suffix(&format!(".{}", spool::EXTENSION))?;
    spool::parse_session_name(stem).map(SessionId)
}

/// Reads the journal through: tree, tiles, checkpoints, sessions.
fn journal(
    dir: &Path,
    standing: Option<u64>,
    mut expected: Vec<Expected>,
    report: &mut Report,
) -> Result<BTreeMap<SessionId, Logged>, FsckError> {
    expected.sort_by_key(|it| it.size);
    let largest = expected.last().map_or(0, |it| it.size);
    let mut expected = expected.into_iter().peekable();
    let mut sessions = BTreeMap::new();
    let mut edge = Edge::default();
    let mut from = Reader::open(dir).map_err(LedgerError::from)?;
    loop {
        while let Some(said) = expected.next_if(|it| it.size == edge.size()) {
            if edge.root() != said.root {
                report.add(
                    Code::CheckpointMismatch,
                    &said.source,
                    format!(
                        "it states another root over the first {} leaves than the journal has",
                        said.size
                    ),
                );
            }
        }
        if Some(edge.size()) == standing {
            partial_tiles(dir, &edge, report);
        }
        let frame = match from.frame().map_err(LedgerError::from)? {
            Ok(Some(frame)) => frame,
            Ok(None) => break,
            Err(broken) if broken.index < largest => {
                report.add(
                    Code::JournalDamaged,
                    format!("leaf {}", broken.index),
                    format!("at byte {}: {}", broken.offset, broken.why),
                );
                break;
            }
            Err(broken) => {
                report.notes.push(format!(
                    "the journal ends in a torn or unfinished frame at byte {}, which no checkpoint covers ({})",
                    broken.offset, broken.why
                ));
                break;
            }
        };
        let mut full = Vec::new();
        edge.append(&frame.entry, |tile| full.push(tile));
        // Tiles behind the checkpoint may be on their way.
        if standing.is_some_and(|size| edge.size() <= size) {
            for tile in full.iter().filter(|tile| !is_on_disk(dir, tile)) {
                tile_broken(dir, tile, report);
            }
        }
        match Body::decode(&frame.body) {
            Ok(Body::Recording(leaf)) => note_leaf(&mut sessions, frame.index, leaf, report),
            Ok(Body::Event { .. }) => {}
            Err(why) => report.add(
                Code::LeafUnreadable,
                format!("leaf {}", frame.index),
                format!("{why}: a newer version may have written it"),
            ),
        }
    }
    report.leaves = edge.size();
    if let Some(missing) = largest.checked_sub(edge.size()).filter(|it| *it > 0) {
        let last = largest.saturating_sub(1);
        let sources: Vec<String> = expected.take(3).map(|it| it.source).collect();
        let range = match missing {
            1 => format!("leaf {last}"),
            _ => format!("leaves {} to {last}", edge.size()),
        };
        report.add(
            Code::LeafMissing,
            range,
            format!(
                "{missing} gone from the journal; signed checkpoints cover them ({}): the ledger was cut or rolled back",
                sources.join(", ")
            ),
        );
    }
    Ok(sessions)
}

/// A partial tile may have grown full under a newer checkpoint meanwhile.
fn partial_tiles(dir: &Path, edge: &Edge, report: &mut Report) {
    for tile in edge.partials() {
        let mut full = tile.id;
        full.width = super::tiles::TILE_WIDTH;
        if !is_on_disk(dir, &tile) && !dir.join(full.path()).is_file() {
            tile_broken(dir, &tile, report);
        }
    }
}

fn tile_broken(dir: &Path, tile: &Tile, report: &mut Report) {
    let path = tile.id.path();
    let what = match dir.join(&path).is_file() {
        true => "its bytes are not those that the journal gives",
        false => "it is missing",
    };
    report.add(
        Code::TileBroken,
        path,
        format!("{what}; a restart of the server makes it again"),
    );
}

fn note_leaf(sessions: &mut BTreeMap<SessionId, Logged>, index: u64, leaf: LedgerLeaf, report: &mut Report) {
    let id = SessionId(leaf.session_id);
    let contradicts = match (leaf.kind, sessions.get_mut(&id)) {
        (LeafKind::Open, None) => {
            let logged = Logged {
                open: index,
                leaf,
                check: None,
                seal: None,
            };
            sessions.insert(id, logged);
            return;
        }
        (LeafKind::Open, Some(_)) => "it opens a session a second time",
        (LeafKind::Check | LeafKind::Seal, None) => "it is about a session that was never opened",
        (LeafKind::Check | LeafKind::Seal, Some(logged)) if logged.leaf.h0 != leaf.h0 => {
            "it names another head than the session's opening"
        }
        (LeafKind::Check | LeafKind::Seal, Some(logged)) if logged.seal.is_some() => "it follows the session's seal",
        (LeafKind::Seal, Some(logged)) => {
            logged.seal = Some((index, leaf));
            return;
        }
        (LeafKind::Check, Some(logged)) => {
            logged.check = Some((index, leaf.size));
            return;
        }
    };
    report.add(
        Code::LeafContradicts,
        format!("leaf {index}"),
        format!("session {id}: {contradicts}"),
    );
}

/// Leaves against files, both ways.
fn compare(
    input: &Input<'_>,
    sessions: &BTreeMap<SessionId, Logged>,
    held: &[Held],
    broken: &BTreeSet<SessionId>,
    report: &mut Report,
) {
    let mut present: BTreeSet<SessionId> = BTreeSet::new();
    for Held { name, sealed, open } in held {
        let id = SessionId(open.session_id);
        if !present.insert(id) {
            let text = format!("session {id} has another file in the archive as well");
            report.add(Code::RecordingMismatch, name, text);
        }
        let Some(logged) = sessions.get(&id) else {
            let text = format!(
                "session {id} has no leaf in this ledger: it was recorded elsewhere, or the ledger was rolled back"
            );
            report.add(Code::RecordingUnlogged, name, text);
            continue;
        };
        if logged.leaf != *open {
            let text = format!("its head is not the one that leaf {} opened", logged.open);
            report.add(Code::RecordingMismatch, name, text);
        }
        if let Some((index, bytes)) = logged.check.filter(|(_, bytes)| sealed.file_bytes() < *bytes) {
            let text = format!("leaf {index} says that it had {bytes} bytes already: its end was dropped");
            report.add(Code::RecordingMismatch, name, text);
        }
        match &logged.seal {
            None if input.live.contains(&id) => {}
            None => {
                let text = format!("session {id} has a recording and no seal leaf");
                report.add(Code::RecordingUnlogged, name, text);
            }
            Some((index, leaf)) if *leaf != sealed.leaf() => {
                let text = format!(
                    "it is not the recording of leaf {index}: {}",
                    difference(leaf, &sealed.leaf())
                );
                report.add(Code::RecordingMismatch, name, text);
            }
            Some(_) => {}
        }
    }
    for (id, logged) in sessions {
        if input.live.contains(id) {
            continue;
        }
        match &logged.seal {
            Some((index, leaf)) if !present.contains(id) && !broken.contains(id) => {
                let text = format!(
                    "sealed by leaf {index} at {} with {} bytes ({}), and not in the archive: deleted or moved away",
                    wall(leaf.at_wall_ms),
                    leaf.size,
                    leaf.reason
                );
                report.add(Code::RecordingDeleted, format!("session {id}"), text);
            }
            Some(_) => {}
            None => {
                let text = format!(
                    "opened by leaf {} at {}, never sealed, and it does not run",
                    logged.open,
                    wall(logged.leaf.at_wall_ms)
                );
                report.add(Code::NeverSealed, format!("session {id}"), text);
            }
        }
    }
}

fn difference(logged: &LedgerLeaf, file: &LedgerLeaf) -> String {
    let mut parts = Vec::new();
    for (differs, part) in [
        (logged.h0 != file.h0, "head"),
        (logged.root != file.root, "content"),
        (logged.size != file.size, "length"),
        (logged.reason != file.reason, "reason"),
        (logged.at_wall_ms != file.at_wall_ms, "time"),
    ] {
        if differs {
            parts.push(part);
        }
    }
    format!("{} differ", parts.join(", "))
}

fn wall(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{ms} ms"), |at| at.to_string())
}

#[cfg(test)]
#[path = "fsck_tests.rs"]
mod tests;
