//! The journal of break-glass uses: one line each, on the disk before anything
//! is dialled, so that one use stays one use whatever happens afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::BreakGlassError;
use crate::durable;
use crate::kernel::grant::{Grant, WallMs};
use crate::kernel::id::{GrantId, SessionId};

/// Longest journal that is read, in bytes: some ten thousand uses.
const JOURNAL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Room that the file keeps beyond its end, in bytes, so that a use fits on a
/// full disk.
const ROOM_BYTES: u64 = 64 * 1024;

/// One use of one grant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Use {
    pub session: SessionId,
    pub grant: Grant,
    /// Where it was used from.
    pub source: String,
    pub at_ms: WallMs,
    /// When the session is cut at the latest.
    pub until_ms: WallMs,
}

/// How a session under a use ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    pub session: SessionId,
    pub at_ms: WallMs,
    /// See `kernel::session::EndReason::code`.
    pub code: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Used(Box<Use>),
    Ended(Ended),
}

#[derive(Default)]
struct State {
    uses: BTreeMap<GrantId, Use>,
    ended: BTreeMap<SessionId, Ended>,
    /// Uses that the store knows as far as they have gone.
    settled: BTreeSet<GrantId>,
    /// What is on the disk is not known any more.
    broken: bool,
}

/// The journal; one process has it open.
pub struct Journal {
    path: PathBuf,
    state: Mutex<State>,
}

impl Journal {
    /// Reads what is there. A line that a crash cut off was never acknowledged,
    /// so nothing was dialled after it: it is taken away.
    ///
    /// # Errors
    /// It cannot be read, or a whole line in it is none of ours: then it is not
    /// known what was used.
    pub fn open(path: PathBuf) -> Result<Journal, BreakGlassError> {
        let bytes = match durable::read_bounded(&path, JOURNAL_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.is_missing() => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            tracing::warn!(path = %path.display(), bytes = bytes.len() - whole, "the last line was cut off by a crash");
            cut(&path, whole as u64)?;
        }
        let text = bytes.get(..whole).unwrap_or_default();
        let mut state = State::default();
        for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(line).map_err(|error| BreakGlassError::Journal {
                path: path.clone(),
                line: number + 1,
                why: error.to_string(),
            })?;
            match line {
                Line::Used(used) => drop(state.uses.insert(used.grant.id, *used)),
                Line::Ended(ended) => drop(state.ended.insert(ended.session, ended)),
            }
        }
        Ok(Journal {
            path,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The use of a grant, if there was one.
    pub fn use_of(&self, grant: GrantId) -> Option<Use> {
        self.lock().uses.get(&grant).cloned()
    }

    /// Writes a use down; it is on the disk when this answers. Blocks.
    ///
    /// # Errors
    /// The grant was used before, or the line is not known to be on the disk.
    pub fn spend(&self, used: Use) -> Result<(), BreakGlassError> {
        let mut state = self.lock();
        if state.broken {
            return Err(BreakGlassError::Broken);
        }
        if state.uses.contains_key(&used.grant.id) {
            return Err(BreakGlassError::Used(used.grant.id));
        }
        let line = Line::Used(Box::new(used.clone()));
        let written = append(&self.path, &line);
        match &written {
            Ok(()) => drop(state.uses.insert(used.grant.id, used)),
            Err(Failed::Nothing(_)) => {}
            // It may be there after a crash: then it counts, so it counts now.
            Err(Failed::Unknown(_)) => {
                state.broken = true;
                state.uses.insert(used.grant.id, used);
            }
        }
        written.map_err(Failed::into)
    }

    /// Writes the end of a session down. Blocks.
    ///
    /// # Errors
    /// The line is not known to be on the disk; the end counts all the same.
    pub fn ended(&self, ended: Ended) -> Result<(), BreakGlassError> {
        let mut state = self.lock();
        let written = match state.broken {
            true => Err(Failed::Nothing(BreakGlassError::Broken)),
            false => append(&self.path, &Line::Ended(ended.clone())),
        };
        state.broken |= matches!(written, Err(Failed::Unknown(_)));
        let grant = state.uses.values().find(|used| used.session == ended.session);
        if let Some(grant) = grant.map(|used| used.grant.id) {
            state.settled.remove(&grant);
        }
        state.ended.insert(ended.session, ended);
        written.map_err(Failed::into)
    }

    /// Uses that the store has not taken up yet, as far as they have gone.
    pub fn unsettled(&self) -> Vec<(Use, Option<Ended>)> {
        let state = self.lock();
        let open = state
            .uses
            .values()
            .filter(|used| !state.settled.contains(&used.grant.id));
        open.map(|used| (used.clone(), state.ended.get(&used.session).cloned()))
            .collect()
    }

    /// The store has taken it up, with this end or before any.
    pub fn settled(&self, used: &Use, ended: Option<&Ended>) {
        let mut state = self.lock();
        if state.ended.get(&used.session) == ended {
            state.settled.insert(used.grant.id);
        }
    }
}

/// What a failed append leaves behind.
enum Failed {
    /// Nothing of it.
    Nothing(BreakGlassError),
    /// Nobody knows.
    Unknown(BreakGlassError),
}

impl From<Failed> for BreakGlassError {
    fn from(failed: Failed) -> BreakGlassError {
        match failed {
            Failed::Nothing(error) | Failed::Unknown(error) => error,
        }
    }
}

fn append(path: &Path, line: &Line) -> Result<(), Failed> {
    let at = |doing: &'static str| durable::DurableError::at(doing, path);
    let nothing = |error: durable::DurableError| Failed::Nothing(error.into());
    let unknown = |error: durable::DurableError| Failed::Unknown(error.into());
    let mut bytes = serde_json::to_vec(line).map_err(|error| nothing(at("write")(error.into())))?;
    bytes.push(b'\n');
    let new = !path.exists();
    let mut file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| nothing(at("open")(error)))?;
    let before = file.metadata().map_err(|error| nothing(at("look at")(error)))?.len();
    if let Err(error) = file.write_all(&bytes) {
        let error = at("write")(error);
        return match file.set_len(before).and_then(|()| file.sync_all()) {
            Ok(()) => Err(nothing(error)),
            Err(_) => Err(unknown(error)),
        };
    }
    file.sync_all().map_err(|error| unknown(at("sync")(error)))?;
    if new {
        durable::sync_dir(durable::parent(path)).map_err(unknown)?;
    }
    keep_room(&file, before.saturating_add(bytes.len() as u64));
    Ok(())
}

/// Sets blocks aside behind the end of the journal, so that the next use fits
/// on a full disk. Where the file system cannot, it is as it was.
fn keep_room(file: &File, len: u64) {
    let flags = rustix::fs::FallocateFlags::KEEP_SIZE;
    if let Err(error) = rustix::fs::fallocate(file, flags, len, ROOM_BYTES) {
        tracing::debug!(%error, "no room is set aside for the journal of break-glass uses");
    }
}

/// Sets room aside before the first use.
pub fn prepare(path: &Path) -> Result<(), BreakGlassError> {
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .map_err(durable::DurableError::at("open", path))?;
    let len = file
        .metadata()
        .map_err(durable::DurableError::at("look at", path))?
        .len();
    keep_room(&file, len);
    file.sync_all().map_err(durable::DurableError::at("sync", path))?;
    Ok(durable::sync_dir(durable::parent(path))?)
}

fn cut(path: &Path, len: u64) -> Result<(), BreakGlassError> {
    let file = File::options()
        .write(true)
        .open(path)
        .map_err(durable::DurableError::at("open", path))?;
    file.set_len(len)
        .and_then(|()| file.sync_all())
        .map_err(durable::DurableError::at("cut", path))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(grant: u8) -> Use {
        Use {
            session: SessionId([grant; 16]),
            grant: Grant {
                id: GrantId([grant; 16]),
                identity: "alice".parse().unwrap(),
                destination: "root@db1".parse().unwrap(),
                from_ms: 1,
                until_ms: 9,
                sources: Vec::new(),
                capabilities: Default::default(),
                reason: "fire".to_owned(),
                ticket: None,
                request: None,
                issued_by: "break-glass".to_owned(),
                policy_digest: [0; 32],
                certificate_sha256: [grant; 32],
                certificate_serial: 7,
                single_use: true,
                used_at_ms: None,
                revoked_at_ms: None,
                revoked_why: None,
            },
            source: "192.0.2.7".to_owned(),
            at_ms: 5,
            until_ms: 8,
        }
    }

    #[test]
    fn one_use_is_one_use_also_after_a_crash_right_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = Journal::open(path.clone()).unwrap();
        journal.spend(used(1)).unwrap();
        assert!(matches!(journal.spend(used(1)), Err(BreakGlassError::Used(_))));
        // No shutdown of any kind: another process reads what is there.
        let again = Journal::open(path.clone()).unwrap();
        assert!(matches!(again.spend(used(1)), Err(BreakGlassError::Used(_))));
        assert_eq!(again.use_of(GrantId([1; 16])), Some(used(1)));
        again.spend(used(2)).unwrap();

        // A crash within the third line: it was never acknowledged.
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..40 {
            std::fs::write(&path, [&whole[..], &whole[..cut]].concat()).unwrap();
            let torn = Journal::open(path.clone()).unwrap();
            assert!(torn.use_of(GrantId([2; 16])).is_some());
            assert_eq!(std::fs::read(&path).unwrap(), whole);
        }
        // A whole line that cannot be read is no crash.
        std::fs::write(&path, [&whole[..], b"{}\n"].concat()).unwrap();
        assert!(matches!(
            Journal::open(path),
            Err(BreakGlassError::Journal { line: 3, .. })
        ));
    }

    #[test]
    fn what_the_store_took_up_is_taken_up_again_once_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path().join("journal")).unwrap();
        journal.spend(used(1)).unwrap();
        let (first, ended) = journal.unsettled().remove(0);
        assert_eq!(ended, None);
        journal.settled(&first, None);
        assert!(journal.unsettled().is_empty());
        let end = Ended {
            session: SessionId([1; 16]),
            at_ms: 7,
            code: "exit".to_owned(),
        };
        journal.ended(end.clone()).unwrap();
        assert_eq!(journal.unsettled(), [(used(1), Some(end.clone()))]);
        // An answer about how it was before does not count for how it is now.
        journal.settled(&first, None);
        assert_eq!(journal.unsettled().len(), 1);
        journal.settled(&first, Some(&end));
        assert!(journal.unsettled().is_empty());
    }

    #[test]
    fn a_disk_that_takes_nothing_spends_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path().join("gone").join("journal")).unwrap();
        assert!(journal.spend(used(1)).is_err());
        assert_eq!(journal.use_of(GrantId([1; 16])), None);
        std::fs::create_dir(dir.path().join("gone")).unwrap();
        journal.spend(used(1)).unwrap();
    }
}
