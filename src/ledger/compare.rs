//! Sessions as the leaves tell of them, held against the files that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis_recording::leaf::{LeafKind, LedgerLeaf};
use portcullis_recording::merkle::Hash;
use portcullis_recording::{Sealed, limits, spool};
use sha2::{Digest, Sha256};

use crate::archive::ArchiveName;
use crate::durable;
use crate::kernel::id::SessionId;

use super::erasure::{Erasure, ErasureKind};
use super::fsck::Input;
use super::report::{Code, Report};

/// A skippable frame's magic and length (RFC 8878 section 3.1.2), in bytes.
const FRAME_HEADER_BYTES: usize = 8;

/// A recording as its file tells.
pub(super) struct Held {
    pub name: ArchiveName,
    pub sealed: Sealed,
    pub open: LedgerLeaf,
    /// Whether the key to an encrypted one is beside it.
    pub envelope: bool,
}

/// A session whose recording was not found where its leaves say.
pub(super) struct Lost {
    pub session: SessionId,
    pub index: u64,
    /// Its seal; its opening if it has none.
    pub leaf: LedgerLeaf,
}

/// A session as the leaves tell.
struct Logged {
    open: u64,
    leaf: LedgerLeaf,
    /// The last check leaf, and the bytes that the recording had by then.
    check: Option<(u64, u64)>,
    seal: Option<(u64, LedgerLeaf)>,
    /// The leaf of the hold that stands.
    hold: Option<u64>,
    /// The leaf by which the file was deleted, by rule.
    expired: Option<u64>,
    /// The leaf by which the key to its content was destroyed.
    shredded: Option<u64>,
}

/// Every session that the journal tells of.
#[derive(Default)]
pub(super) struct Sessions(BTreeMap<SessionId, Logged>);

impl Sessions {
    /// Takes in a leaf about a recording.
    pub fn note_leaf(&mut self, index: u64, leaf: LedgerLeaf, report: &mut Report) {
        let id = SessionId(leaf.session_id);
        let contradicts = match (leaf.kind, self.0.get_mut(&id)) {
            (LeafKind::Open, None) => {
                let logged = Logged {
                    open: index,
                    leaf,
                    check: None,
                    seal: None,
                    hold: None,
                    expired: None,
                    shredded: None,
                };
                self.0.insert(id, logged);
                return;
            }
            (LeafKind::Open, Some(_)) => "it opens a session a second time",
            (LeafKind::Check | LeafKind::Seal, None) => "it is about a session that was never opened",
            (LeafKind::Check | LeafKind::Seal, Some(logged)) if logged.leaf.h0 != leaf.h0 => {
                "it names another head than the session's opening"
            }
            (LeafKind::Check | LeafKind::Seal, Some(logged)) if logged.seal.is_some() => {
                "it follows the session's seal"
            }
            (LeafKind::Seal, Some(logged)) => {
                logged.seal = Some((index, leaf));
                return;
            }
            (LeafKind::Check, Some(logged)) => {
                logged.check = Some((index, leaf.size));
                return;
            }
        };
        contradiction(index, &id, contradicts, report);
    }

    /// Takes in any other leaf: of holds and deletions.
    pub fn note_event(&mut self, index: u64, kind: &str, json: &str, report: &mut Report) {
        let Some(kind) = ErasureKind::of(kind) else { return };
        let Some(Erasure { session, .. }) = Erasure::parse(json) else {
            let text = format!("a `{}` that names no session", kind.as_str());
            report.add(Code::LeafUnreadable, format!("leaf {index}"), text);
            return;
        };
        let Some(logged) = self.0.get_mut(&session) else {
            contradiction(index, &session, "it is about a session that was never opened", report);
            return;
        };
        match kind {
            ErasureKind::Hold => logged.hold = Some(index),
            ErasureKind::Release => logged.hold = None,
            ErasureKind::Expired | ErasureKind::Shredded => {
                if let Some(hold) = logged.hold {
                    let text = format!("session {session} was {} although leaf {hold} holds it", kind.as_str());
                    report.add(Code::HoldBroken, format!("leaf {index}"), text);
                }
                match kind {
                    ErasureKind::Expired => logged.expired = Some(index),
                    ErasureKind::Shredded => logged.shredded = Some(index),
                    ErasureKind::Hold | ErasureKind::Release => {}
                }
            }
        }
    }

    /// Leaves against files, both ways. Answers with what is to be looked for again.
    pub fn compare(
        &self,
        input: &Input<'_>,
        held: &[Held],
        broken: &BTreeSet<SessionId>,
        report: &mut Report,
    ) -> Vec<Lost> {
        let present = self.files(input, held, report);
        let mut lost = Vec::new();
        for (id, logged) in &self.0 {
            let there = present.contains(id) || broken.contains(id);
            match (&logged.seal, logged.expired) {
                (Some(_), Some(index)) if there => report.notes.push(format!(
                    "session {id} is still in the archive although leaf {index} says that it was deleted: the server does so at its next round"
                )),
                (Some(_), Some(_)) => report.expired = report.expired.saturating_add(1),
                (Some((index, leaf)), None) if !there => lost.push(Lost {
                    session: *id,
                    index: *index,
                    leaf: leaf.clone(),
                }),
                (Some(_), None) => {}
                (None, _) if there => {}
                (None, _) if is_spooled(input, id, logged) => {
                    if !input.live.contains(id) {
                        report.notes.push(format!(
                            "session {id} has no seal yet; its recording lies in the spool"
                        ));
                    }
                }
                (None, _) => lost.push(Lost {
                    session: *id,
                    index: logged.open,
                    leaf: logged.leaf.clone(),
                }),
            }
        }
        lost
    }

    /// Each file against its leaves; the sessions that have one.
    fn files(&self, input: &Input<'_>, held: &[Held], report: &mut Report) -> BTreeSet<SessionId> {
        let mut present: BTreeSet<SessionId> = BTreeSet::new();
        for Held {
            name,
            sealed,
            open,
            envelope,
        } in held
        {
            let id = SessionId(open.session_id);
            if !present.insert(id) {
                let text = format!("session {id} has another file in the archive as well");
                report.add(Code::RecordingMismatch, name, text);
            }
            let Some(logged) = self.0.get(&id) else {
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
            if sealed.head().is_encrypted() && !envelope && logged.shredded.is_none() {
                let text = format!(
                    "session {id}: the key to its content is gone or another's, and no leaf says that it was destroyed"
                );
                report.add(Code::EnvelopeMissing, name, text);
            }
            if let (Some(index), true) = (logged.shredded, envelope) {
                report.notes.push(format!(
                    "session {id}: the key to its content is still there although leaf {index} says that it was destroyed; shred it again"
                ));
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
        present
    }
}

/// Whether the spool holds what that leaf opened. A folder of its name is none.
/// Nor is one that is shorter than a check leaf says it was.
fn is_spooled(input: &Input<'_>, id: &SessionId, logged: &Logged) -> bool {
    let folder = input.spool.map(|spool| spool.join(id.to_string()));
    let bytes = logged.check.map_or(0, |(_, bytes)| bytes);
    folder.is_some_and(|folder| opening_of(&folder, bytes) == Some(logged.leaf.h0))
}

/// SHA-256 of the HEAD frame in a spool folder (FORMAT.md sections 3.1, 7.4):
/// the very one that the open leaf names, or nothing to go by.
fn opening_of(folder: &Path, bytes_min: u64) -> Option<Hash> {
    use std::io::Read;
    let file = durable::open_regular(&folder.join(spool::MAIN_FILE)).ok()?;
    if file.metadata().ok()?.len() < bytes_min {
        return None;
    }
    let most = limits::HEAD_BYTES_MAX.saturating_add(FRAME_HEADER_BYTES);
    let mut bytes = Vec::new();
    file.take(u64::try_from(most).ok()?).read_to_end(&mut bytes).ok()?;
    let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let end = usize::try_from(length).ok()?.checked_add(FRAME_HEADER_BYTES)?;
    Some(Sha256::digest(bytes.get(..end)?).into())
}

fn contradiction(index: u64, id: &SessionId, why: &str, report: &mut Report) {
    report.add(
        Code::LeafContradicts,
        format!("leaf {index}"),
        format!("session {id}: {why}"),
    );
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

/// A wall time for people.
pub(super) fn wall(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .map_or_else(|| format!("{ms} ms"), |at| at.to_string())
}
