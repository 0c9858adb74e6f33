//! Which sessions the ledger has opened and sealed: what makes a seal happen
//! exactly once.
//!
//! Pure. A sealed session costs about 40 bytes of memory for as long as the
//! process lives, a running one about 80.

use std::collections::{BTreeMap, HashMap};

use portcullis_recording::leaf::{LeafKind, LedgerLeaf};
use portcullis_recording::merkle::Hash;

/// A session that was opened and not sealed yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Live {
    /// Index of its open leaf.
    pub open: u64,
    /// SHA-256 of its recording's head frame.
    pub h0: Hash,
    /// Wall ms of the opening.
    pub at_ms: u64,
}

/// What became of every session.
#[derive(Default, Debug)]
pub struct Sessions {
    live: BTreeMap<[u8; 16], Live>,
    /// Index of the seal leaf and the first half of its entry, to tell a
    /// repetition from a contradiction.
    sealed: HashMap<[u8; 16], (u64, [u8; 16])>,
}

/// What to do with a leaf about a recording.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Append it.
    New,
    /// It is there already, at that index.
    Already(u64),
    /// It contradicts what the ledger says: why.
    Refused(&'static str),
}

impl Sessions {
    /// Judges a leaf whose entry would be `entry`.
    pub fn judge(&self, leaf: &LedgerLeaf, entry: &Hash) -> Judgement {
        let live = self.live.get(&leaf.session_id);
        let sealed = self.sealed.get(&leaf.session_id);
        match (leaf.kind, live, sealed) {
            (LeafKind::Open, None, None) => Judgement::New,
            (LeafKind::Open, Some(live), _) if live.h0 == leaf.h0 => Judgement::Already(live.open),
            (LeafKind::Open, Some(_), _) => Judgement::Refused("it was opened with another head already"),
            (LeafKind::Check | LeafKind::Seal, Some(live), _) if live.h0 == leaf.h0 => Judgement::New,
            (LeafKind::Check | LeafKind::Seal, Some(_), _) => Judgement::Refused("it was opened with another head"),
            (LeafKind::Seal, None, Some((index, half))) if entry.starts_with(half) => Judgement::Already(*index),
            (LeafKind::Seal, None, Some(_)) => Judgement::Refused("it was sealed as another recording already"),
            (LeafKind::Open | LeafKind::Check, None, Some(_)) => Judgement::Refused("it was sealed already"),
            (LeafKind::Check | LeafKind::Seal, None, None) => Judgement::Refused("it was never opened in this ledger"),
        }
    }

    /// Takes note of a leaf that stands at `index`.
    pub fn note(&mut self, leaf: &LedgerLeaf, index: u64, entry: &Hash) {
        match leaf.kind {
            LeafKind::Open => {
                let live = Live {
                    open: index,
                    h0: leaf.h0,
                    at_ms: leaf.at_wall_ms,
                };
                self.live.insert(leaf.session_id, live);
            }
            LeafKind::Seal => {
                self.live.remove(&leaf.session_id);
                let half = entry.first_chunk().copied().unwrap_or_default();
                self.sealed.insert(leaf.session_id, (index, half));
            }
            LeafKind::Check => {}
        }
    }

    /// Whether a session was ever opened, sealed since or not.
    pub fn knows(&self, session: &[u8; 16]) -> bool {
        self.live.contains_key(session) || self.sealed.contains_key(session)
    }

    /// Sessions that were opened and never sealed.
    pub fn live(&self) -> Vec<([u8; 16], Live)> {
        self.live.iter().map(|(id, live)| (*id, *live)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(kind: LeafKind, session: u8, head: u8) -> LedgerLeaf {
        LedgerLeaf {
            kind,
            session_id: [session; 16],
            h0: [head; 32],
            root: [0; 32],
            size: 1,
            reason: String::new(),
            at_wall_ms: 1,
        }
    }

    #[test]
    fn every_order_of_leaves() {
        use Judgement::{Already, New, Refused};
        use LeafKind::{Check, Open, Seal};
        let mut sessions = Sessions::default();
        let judge = |it: &Sessions, kind, head, entry| it.judge(&leaf(kind, 1, head), &[entry; 32]);
        assert!(matches!(judge(&sessions, Check, 1, 0), Refused(_)));
        assert!(matches!(judge(&sessions, Seal, 1, 0), Refused(_)));
        assert_eq!(judge(&sessions, Open, 1, 0), New);
        sessions.note(&leaf(Open, 1, 1), 10, &[0; 32]);
        assert_eq!(judge(&sessions, Open, 1, 0), Already(10));
        assert!(matches!(judge(&sessions, Open, 2, 0), Refused(_)));
        assert_eq!(judge(&sessions, Check, 1, 0), New);
        assert!(matches!(judge(&sessions, Check, 2, 0), Refused(_)));
        assert!(matches!(judge(&sessions, Seal, 2, 0), Refused(_)));
        assert_eq!(judge(&sessions, Seal, 1, 7), New);
        assert_eq!(sessions.live().len(), 1);
        sessions.note(&leaf(Seal, 1, 1), 11, &[7; 32]);
        assert_eq!(judge(&sessions, Seal, 1, 7), Already(11));
        assert!(matches!(judge(&sessions, Seal, 1, 8), Refused(_)));
        assert!(matches!(judge(&sessions, Check, 1, 0), Refused(_)));
        assert!(matches!(judge(&sessions, Open, 1, 0), Refused(_)));
        assert!(sessions.live().is_empty());
    }
}
