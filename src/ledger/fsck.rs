//! Holds journal, checkpoint, tiles and archive against each other and names
//! everything that does not fit. Reads only; a running server does not mind.

use std::collections::BTreeSet;
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
use super::compare::{Held, Lost, Sessions, wall};
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
    /// The spool folder: a session whose recording lies there is not lost.
    /// What is there must be what the leaves say, not merely have its name.
    pub spool: Option<&'a Path>,
    /// Sessions that run now: their seals are still to come.
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

/// A size and root to be met while the journal is read.
struct Expected {
    size: u64,
    root: Hash,
    source: String,
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
    let lost = sessions.compare(&input, &held, &broken, &mut report);
    for lost in lost {
        look_again(&input, &lost, &mut report).await;
    }
    Ok(report)
}

/// A recording that was not where its leaves say: filed since, on its way
/// there, or gone.
async fn look_again(input: &Input<'_>, lost: &Lost, report: &mut Report) {
    let name = spool::recording_file(&lost.session.0).parse::<ArchiveName>();
    if let Ok(name) = name
        && let Ok(file) = input.archive.open(&name).await
        && is_recording_of(file, &lost.leaf, input.trust).await
    {
        return;
    }
    let main = input
        .spool
        .map(|spool| spool.join(lost.session.to_string()).join(spool::MAIN_FILE));
    if let Some(Ok(file)) = main.as_deref().map(durable::open_regular)
        && is_recording_of(file, &lost.leaf, input.trust).await
    {
        report.notes.push(format!(
            "session {} is sealed and still lies in the spool: a start of the server files it",
            lost.session
        ));
        return;
    }
    let (index, at) = (lost.index, wall(lost.leaf.at_wall_ms));
    let (code, text) = match lost.leaf.kind {
        LeafKind::Open | LeafKind::Check => (
            Code::NeverSealed,
            format!("opened by leaf {index} at {at}, never sealed, and its recording is not in the spool"),
        ),
        LeafKind::Seal => (
            Code::RecordingDeleted,
            format!(
                "sealed by leaf {index} at {at} with {} bytes ({}), and not in the archive: deleted or moved away",
                lost.leaf.size, lost.leaf.reason
            ),
        ),
    };
    report.add(code, format!("session {}", lost.session), text);
}

async fn is_recording_of(file: std::fs::File, leaf: &LedgerLeaf, trust: &Trust) -> bool {
    let trust = trust.clone();
    let verified = tokio::task::spawn_blocking(move || verify(file, &trust, None)).await;
    let Ok(Ok((sealed, open, _))) = verified else {
        return false;
    };
    match leaf.kind {
        LeafKind::Open | LeafKind::Check => open == *leaf,
        LeafKind::Seal => sealed.leaf() == *leaf,
    }
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
            // What cannot be read is a finding, and no reason to stop here.
            let proof = match input.archive.sidecar(&name, Sidecar::Proof).await {
                Ok(proof) => proof.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
                Err(why) => {
                    report.add(Code::ProofBad, &name, why.to_string());
                    None
                }
            };
            note_proof(&name, proof.as_deref(), input.trust, expected, report);
            let file = match input.archive.open(&name).await {
                Ok(file) => file,
                Err(why) => {
                    broken.extend(session_of(&name));
                    report.add(Code::RecordingInvalid, &name, why.to_string());
                    continue;
                }
            };
            let trust = input.trust.clone();
            let verified = tokio::task::spawn_blocking(move || verify(file, &trust, proof.as_deref())).await;
            match verified {
                Ok(Ok((sealed, open, place))) => {
                    if let Some(why) = place {
                        report.add(Code::ProofBad, &name, why);
                    }
                    let envelope = envelope(input, &name, &sealed).await;
                    held.push(Held {
                        name,
                        sealed,
                        open,
                        envelope,
                    });
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

/// Whether the envelope beside a recording is the one that its head names.
async fn envelope(input: &Input<'_>, name: &ArchiveName, sealed: &Sealed) -> bool {
    let held = input.archive.sidecar(name, Sidecar::Key).await;
    matches!(held, Ok(Some(bytes)) if sealed.head().names_envelope(&bytes))
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
    // Its seal is that of the original, which it does not hold.
    if verified.redaction().is_some() {
        return Err("a redacted copy lies in the place of the recording: put the recording back".to_owned());
    }
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
) -> Result<Sessions, FsckError> {
    expected.sort_by_key(|it| it.size);
    let largest = expected.last().map_or(0, |it| it.size);
    let mut expected = expected.into_iter().peekable();
    let mut sessions = Sessions::default();
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
            Ok(Body::Recording(leaf)) => sessions.note_leaf(frame.index, leaf, report),
            Ok(Body::Event { kind, json, .. }) => sessions.note_event(frame.index, &kind, &json, report),
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

#[cfg(test)]
#[path = "fsck_tests.rs"]
mod tests;
