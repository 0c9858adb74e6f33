//! Has witnesses cosign each checkpoint before it is published, so that the
//! proofs beside recordings carry their word; and once a minute the one that
//! stands, so that a silence is noticed also while nothing happens.
//!
//! A witness that cannot be reached delays nothing but proofs, and those for
//! a bounded time: sessions never wait for it. One that knows a larger tree
//! than ours, or another one, is a dispute: at a start the ledger stays shut,
//! unless enough others cosign this very tree.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portcullis_recording::merkle::{self, Hash, Range};
use portcullis_recording::note::{Note, VerifierKey};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::witness::address::Address;
use crate::witness::client::{Answer, ask};
use crate::witness::wire::{self, Submission};

use super::LedgerError;
use super::prove::full_tile;
use super::tiles::Edge;

/// Longest wait for enough cosignatures, in ms.
const ENOUGH_MS_MAX: u64 = 3_500;
/// Longest wait for the others after that, in ms.
const REST_MS_MAX: u64 = 1_000;
/// How often the checkpoint that stands is cosigned anew, in ms.
const ANEW_MS: u64 = 60_000;
/// How soon a witness that failed is asked again, in ms.
const RETRY_MS: u64 = 10_000;
/// How far a cosignature's time may be from this clock, in s.
const AGE_SECS_MAX: u64 = 600;
/// How long too few cosignatures are no alarm, in ms (design.md section 7).
pub const SILENCE_MS_MAX: u64 = 5 * 60_000;
/// Most questions to one witness about one checkpoint: its first answer may
/// tell its size, and another log's process may have been quicker.
const QUESTIONS_MAX: usize = 3;

/// A witness that is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WitnessAt {
    pub address: Address,
    pub key: VerifierKey,
}

impl WitnessAt {
    /// For messages.
    fn name(&self) -> String {
        format!("the witness {} ({})", self.key.name(), self.address)
    }
}

/// Who is asked, and how many have to cosign.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Witnesses {
    pub all: Vec<WitnessAt>,
    /// What verifiers demand; 0: nothing, though one is missed here.
    pub quorum: usize,
}

/// The tree that a checkpoint is about.
pub(super) struct Tree {
    pub dir: PathBuf,
    pub edge: Edge,
}

/// How a checkpoint is cosigned.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Cosigned {
    /// Witnesses whose cosignature it carries.
    pub count: usize,
    /// Whether those are as many as are demanded; true without witnesses.
    pub enough: bool,
    /// Whether too few witnesses have answered for [`SILENCE_MS_MAX`].
    pub alarm: bool,
    /// Witnesses whose last answer was that they know another or a larger tree.
    pub disputed: usize,
}

struct Cosigner {
    at: WitnessAt,
    /// Size of the tree that it has cosigned last, as far as is known.
    size: u64,
    /// Its last cosignature, on the note that it belongs to.
    line: Option<Note>,
    /// Not asked before, by the boot clock, in ms.
    due_ms: u64,
    failing: bool,
    disputed: bool,
}

enum Outcome {
    Cosigned(Note),
    /// It knows a tree of this size, larger than ours.
    Ahead(u64),
    /// It knows another tree of this size.
    Other(u64),
    Failed(String),
}

/// Every witness of a ledger.
pub(super) struct Cosigners {
    all: Vec<Cosigner>,
    wanted: usize,
    clock: Clock,
    /// When enough have answered last, by the boot clock, in ms.
    enough_ms: u64,
    told_ms: Option<u64>,
}

impl Cosigners {
    /// `standing` is the note that was published last: its cosignatures count.
    pub fn new(witnesses: &Witnesses, standing: Option<&Note>, clock: Clock) -> Cosigners {
        let cosigner = |at: &WitnessAt| Cosigner {
            at: at.clone(),
            size: 0,
            line: standing.and_then(|note| wire::only(note, &at.key)),
            due_ms: 0,
            failing: false,
            disputed: false,
        };
        Cosigners {
            all: witnesses.all.iter().map(cosigner).collect(),
            wanted: witnesses.quorum.max(1),
            enough_ms: clock.now().boot_ms,
            told_ms: None,
            clock,
        }
    }

    /// When the checkpoint that stands wants to be cosigned again; `None` without witnesses.
    pub fn again(&self, now: Cosigned) -> Option<Duration> {
        let wait = match now.enough {
            true => ANEW_MS,
            false => RETRY_MS,
        };
        (!self.all.is_empty()).then_some(Duration::from_millis(wait))
    }

    /// Asks every witness that is due about a checkpoint with the ledger's
    /// signature alone.
    ///
    /// # Errors
    /// The first dispute, unless as many as are demanded cosigned this very
    /// tree now: a refusal is signed by nobody, and who sits on the way to one
    /// witness cannot keep the ledger shut. All were asked in any case.
    pub async fn ask(&mut self, signed: &Note, tree: Tree) -> Result<(), LedgerError> {
        let (tree, began) = (Arc::new(tree), self.clock.now().boot_ms);
        let mut asked = JoinSet::new();
        for (index, it) in self.all.iter().enumerate().filter(|(_, it)| it.due_ms <= began) {
            let (at, size, signed, tree) = (it.at.clone(), it.size, signed.clone(), tree.clone());
            asked.spawn(async move { (index, question(&at, size, &signed, &tree).await) });
        }
        let outcomes = gather(asked, self.wanted).await;
        let crate::clock::Now { boot_ms: now, wall_ms } = self.clock.now();
        let outcomes: Vec<_> = outcomes
            .into_iter()
            .map(|(index, outcome)| match self.all.get(index) {
                Some(it) => (index, fresh(outcome, &it.at.key, wall_ms)),
                None => (index, outcome),
            })
            .collect();
        let vouched = enough(&outcomes, self.wanted);
        if vouched {
            self.enough_ms = now;
        }
        // Who is late would make the next checkpoint wait for nothing as well.
        for (index, it) in self.all.iter_mut().enumerate().filter(|(_, it)| it.due_ms <= began) {
            if outcomes.iter().all(|(answered, _)| *answered != index) {
                it.fail("it did not answer in time", now);
            }
        }
        let size = tree.edge.size();
        let mut dispute = None;
        for (index, outcome) in outcomes {
            let said = self.all.get_mut(index).and_then(|it| it.note(outcome, size, now));
            dispute = dispute.or(said);
        }
        self.watch(now);
        dispute.filter(|_| !vouched).map_or(Ok(()), Err)
    }

    fn watch(&mut self, now: u64) {
        let silent_ms = now.saturating_sub(self.enough_ms);
        if self.all.is_empty() || silent_ms <= SILENCE_MS_MAX {
            self.told_ms = None;
            return;
        }
        if self
            .told_ms
            .is_none_or(|told| now.saturating_sub(told) >= SILENCE_MS_MAX)
        {
            self.told_ms = Some(now);
            tracing::error!(
                silent_secs = silent_ms / 1000,
                wanted = self.wanted,
                "too few witnesses have cosigned the ledger for five minutes: look at the witnesses and the way to them"
            );
        }
    }

    /// The note with the ledger's signature and every cosignature of it.
    pub fn cosigned(&self, signed: &Note) -> (Note, Cosigned) {
        let mut note = signed.clone();
        let lines = self.all.iter().filter_map(|it| it.line.as_ref());
        let count = lines
            .filter(|line| line.text() == signed.text() && note.merge(line))
            .count();
        let silent_ms = self.clock.now().boot_ms.saturating_sub(self.enough_ms);
        let none = self.all.is_empty();
        let cosigned = Cosigned {
            count,
            enough: none || count >= self.wanted,
            alarm: !none && silent_ms > SILENCE_MS_MAX,
            disputed: self.all.iter().filter(|it| it.disputed).count(),
        };
        (note, cosigned)
    }
}

impl Cosigner {
    /// Takes note of an answer about a tree of `size` leaves.
    fn note(&mut self, outcome: Outcome, size: u64, now: u64) -> Option<LedgerError> {
        let source_name = self.at.name();
        match outcome {
            Outcome::Cosigned(_) => self.disputed = false,
            Outcome::Ahead(_) | Outcome::Other(_) => self.disputed = true,
            Outcome::Failed(_) => {}
        }
        match outcome {
            Outcome::Cosigned(line) => {
                if self.failing {
                    tracing::info!(witness = source_name, "it cosigns again");
                }
                (self.size, self.line, self.failing) = (size, Some(line), false);
                None
            }
            Outcome::Failed(why) => {
                self.fail(&why, now);
                None
            }
            Outcome::Ahead(known) => {
                self.due_ms = now.saturating_add(ANEW_MS);
                tracing::error!(
                    witness = source_name,
                    size,
                    known,
                    "it has cosigned a larger tree of this ledger"
                );
                Some(LedgerError::RolledBack {
                    found: size,
                    known,
                    source_name,
                })
            }
            Outcome::Other(size) => {
                self.due_ms = now.saturating_add(ANEW_MS);
                tracing::error!(
                    witness = source_name,
                    size,
                    "it has cosigned another tree of this ledger"
                );
                Some(LedgerError::Forked { size, source_name })
            }
        }
    }

    fn fail(&mut self, why: &str, now: u64) {
        self.due_ms = now.saturating_add(RETRY_MS);
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(witness = self.at.name(), why, "it does not cosign");
        }
    }
}

/// Answers until enough have cosigned, and for a little longer.
async fn gather(mut asked: JoinSet<(usize, Outcome)>, wanted: usize) -> Vec<(usize, Outcome)> {
    let mut outcomes = Vec::new();
    let first = async {
        while !enough(&outcomes, wanted) {
            let Some(one) = asked.join_next().await else { break };
            outcomes.extend(one);
        }
    };
    if timeout(Duration::from_millis(ENOUGH_MS_MAX), first).await.is_ok() {
        let rest = async {
            while let Some(one) = asked.join_next().await {
                outcomes.extend(one);
            }
        };
        // The rest is welcome, not waited for.
        timeout(Duration::from_millis(REST_MS_MAX), rest).await.ok();
    }
    outcomes
}

/// A cosignature that was given now: one that somebody kept would hide that
/// the witness is silent.
fn fresh(outcome: Outcome, key: &VerifierKey, wall_ms: u64) -> Outcome {
    let Outcome::Cosigned(line) = outcome else {
        return outcome;
    };
    let given = line.verify(key).ok().flatten().and_then(|at| at.unix_secs);
    match given {
        Some(secs) if (wall_ms / 1000).abs_diff(secs) <= AGE_SECS_MAX => Outcome::Cosigned(line),
        Some(secs) => Outcome::Failed(format!(
            "its cosignature is {} s away from this clock: an old one was replayed, or one of the clocks is wrong",
            (wall_ms / 1000).abs_diff(secs)
        )),
        None => Outcome::Failed("its cosignature has no time".to_owned()),
    }
}

fn enough(outcomes: &[(usize, Outcome)], wanted: usize) -> bool {
    let cosigned = outcomes.iter().filter(|(_, it)| matches!(it, Outcome::Cosigned(_)));
    cosigned.count() >= wanted
}

/// Submits to one witness, which may know another size than is believed.
async fn question(at: &WitnessAt, known: u64, signed: &Note, tree: &Arc<Tree>) -> Outcome {
    let size = tree.edge.size();
    let mut old = known.min(size);
    for _ in 0..QUESTIONS_MAX {
        let from = tree.clone();
        let proof = match tokio::task::spawn_blocking(move || consistency(&from, old)).await {
            Ok(Ok(proof)) => proof,
            Ok(Err(why)) => return Outcome::Failed(why.to_string()),
            Err(why) => return Outcome::Failed(why.to_string()),
        };
        let note = signed.clone();
        match ask(&at.address, &Submission { old, proof, note }).await {
            Err(why) => return Outcome::Failed(why.to_string()),
            Ok(Answer::Cosigned(lines)) => {
                let line = wire::signed_by(signed.text(), &lines, &at.key);
                return line.map_or_else(
                    || Outcome::Failed("its answer is not signed by the key in `ledger.witnesses`".to_owned()),
                    Outcome::Cosigned,
                );
            }
            Ok(Answer::Known(known)) if known > size => return Outcome::Ahead(known),
            Ok(Answer::Known(known)) if known == size && known == old => return Outcome::Other(size),
            Ok(Answer::Known(known)) => old = known,
            // The proof leads from our tree of that size: it knows another.
            Ok(Answer::Inconsistent) => return Outcome::Other(old),
        }
    }
    Outcome::Failed("it names another size at every question".to_owned())
}

/// The proof from a tree of `old` leaves to this one, checked.
fn consistency(tree: &Tree, old: u64) -> Result<Vec<Hash>, LedgerError> {
    let size = tree.edge.size();
    let hash = |level, index| tree.edge.subtree(level, index, |id| full_tile(&tree.dir, id));
    let bad = || LedgerError::BadTiles { index: old };
    let from = Range::resume(old, hash).map_err(|_| bad())?.root();
    let proof = merkle::consistency_proof(old, size, hash)
        .map_err(|_| bad())?
        .ok_or_else(bad)?;
    match merkle::verify_consistency(old, size, &from, &tree.edge.root(), &proof) {
        true => Ok(proof),
        false => Err(bad()),
    }
}

#[cfg(test)]
#[path = "cosign_tests.rs"]
mod tests;
