//! Whether a checkpoint is cosigned. Pure: what was seen before, what came,
//! and the verdict, in the order that c2sp.org/tlog-witness gives.

use portcullis_recording::merkle::{Hash, empty_root, verify_consistency};
use portcullis_recording::note::{Checkpoint, VerifierKey};

use super::wire::Submission;

/// The newest tree of a log that was cosigned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub size: u64,
    pub root: Hash,
}

impl Default for Seen {
    /// Of a log that was never seen.
    fn default() -> Seen {
        Seen {
            size: 0,
            root: empty_root(),
        }
    }
}

/// Why a checkpoint is not cosigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The request is none.
    Malformed(&'static str),
    /// No log of that name is watched over.
    UnknownLog,
    /// None of the log's keys has signed it.
    NotSigned,
    /// The submitter believes in another size than this, the one cosigned last.
    Conflict(u64),
    /// A second history of the same size.
    Forked(u64),
    /// It does not continue what was cosigned last.
    Inconsistent,
}

impl Refusal {
    /// The HTTP status that says so.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Malformed(_) => 400,
            Refusal::NotSigned => 403,
            Refusal::UnknownLog => 404,
            Refusal::Conflict(_) | Refusal::Forked(_) => 409,
            Refusal::Inconsistent => 422,
        }
    }
}

/// Judges a submission about a log with these keys; the key that signed it
/// comes with the verdict.
///
/// # Errors
/// The first thing that speaks against cosigning it.
pub fn judge<'a>(
    seen: &Seen,
    keys: &'a [VerifierKey],
    submission: &Submission,
    checkpoint: &Checkpoint,
) -> Result<&'a VerifierKey, Refusal> {
    let signed = |key: &&VerifierKey| matches!(submission.note.verify(key), Ok(Some(_)));
    let key = keys.iter().find(signed).ok_or(Refusal::NotSigned)?;
    if submission.old > checkpoint.size {
        return Err(Refusal::Malformed("the old size is larger than the checkpoint's"));
    }
    if submission.old != seen.size {
        return Err(Refusal::Conflict(seen.size));
    }
    if seen.size == checkpoint.size && seen.root != checkpoint.root {
        return Err(Refusal::Forked(seen.size));
    }
    let continues = verify_consistency(
        seen.size,
        checkpoint.size,
        &seen.root,
        &checkpoint.root,
        &submission.proof,
    );
    match continues {
        true => Ok(key),
        false => Err(Refusal::Inconsistent),
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};
    use portcullis_recording::merkle::{Range, consistency_proof, leaf_hash};
    use portcullis_recording::note::{KeyKind, Note};
    use std::collections::HashMap;

    use super::*;

    const ORIGIN: &str = "l.example/log";

    fn private() -> SigningKey {
        SigningKey::from_bytes(&[3; 32])
    }

    fn key() -> VerifierKey {
        VerifierKey::new(ORIGIN, KeyKind::Note, private().verifying_key().to_bytes()).unwrap()
    }

    /// Roots of all sizes up to ten, and every proof between two of them.
    struct Log {
        roots: Vec<Hash>,
        nodes: HashMap<(u32, u64), Hash>,
    }

    fn log(mark: u8) -> Log {
        let (mut range, mut nodes) = (Range::default(), HashMap::new());
        let mut roots = vec![range.root()];
        for number in 0..10u8 {
            range.append(leaf_hash(&[mark, number]), |level, index, hash| {
                nodes.insert((level, index), hash);
            });
            roots.push(range.root());
        }
        Log { roots, nodes }
    }

    impl Log {
        fn seen(&self, size: u64) -> Seen {
            let root = self.roots[size as usize];
            Seen { size, root }
        }

        fn submission(&self, old: u64, new: u64) -> (Submission, Checkpoint) {
            let read = |level, index| Ok::<_, ()>(self.nodes[&(level, index)]);
            let proof = consistency_proof(old.min(new), new, read).unwrap().unwrap();
            let checkpoint = Checkpoint {
                origin: ORIGIN.into(),
                size: new,
                root: self.roots[new as usize],
            };
            let mut note = checkpoint.to_note().unwrap();
            let signature = private().sign(note.text().as_bytes()).to_bytes();
            note.add_signature(&key(), &signature);
            (Submission { old, proof, note }, checkpoint)
        }
    }

    #[test]
    fn every_step_forward_is_cosigned_and_no_other() {
        let (log, other) = (log(0), log(1));
        let keys = [key()];
        for known in 0..=10 {
            for old in 0..=10 {
                for new in 0..=10 {
                    let (asked, checkpoint) = log.submission(old, new);
                    let verdict = judge(&log.seen(known), &keys, &asked, &checkpoint).map(drop);
                    let expected = match () {
                        () if old > new => Err(400),
                        () if old != known => Err(409),
                        () => Ok(()),
                    };
                    assert_eq!(verdict.map_err(Refusal::status), expected, "{known} {old} {new}");
                }
            }
        }
        // Another history: of the same size, and grown from another past.
        let (asked, checkpoint) = other.submission(7, 7);
        let verdict = judge(&log.seen(7), &keys, &asked, &checkpoint);
        assert_eq!(verdict, Err(Refusal::Forked(7)));
        let (asked, checkpoint) = other.submission(7, 9);
        let verdict = judge(&log.seen(7), &keys, &asked, &checkpoint);
        assert_eq!(verdict, Err(Refusal::Inconsistent));
    }

    #[test]
    fn a_proof_is_exactly_what_is_needed() {
        let log = log(0);
        let keys = [key()];
        for (old, new) in [(0, 5), (5, 5), (3, 7)] {
            let (mut asked, checkpoint) = log.submission(old, new);
            asked.proof.push([0; 32]);
            let verdict = judge(&log.seen(old), &keys, &asked, &checkpoint);
            assert_eq!(verdict, Err(Refusal::Inconsistent), "{old} {new}");
        }
    }

    #[test]
    fn only_the_logs_own_keys_count() {
        let log = log(0);
        let (mut asked, checkpoint) = log.submission(0, 3);
        let stranger = VerifierKey::new(ORIGIN, KeyKind::Note, [9; 32]).unwrap();
        let verdict = judge(&log.seen(0), std::slice::from_ref(&stranger), &asked, &checkpoint);
        assert_eq!(verdict, Err(Refusal::NotSigned));
        assert_eq!(judge(&log.seen(0), &[], &asked, &checkpoint), Err(Refusal::NotSigned));
        let both = [stranger, key()];
        assert_eq!(judge(&log.seen(0), &both, &asked, &checkpoint), Ok(&key()));
        asked.note = Note::new(asked.note.text()).unwrap();
        assert_eq!(judge(&log.seen(0), &both, &asked, &checkpoint), Err(Refusal::NotSigned));
    }
}
