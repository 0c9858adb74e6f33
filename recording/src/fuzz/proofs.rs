//! What lies around a file: notes, keys, checkpoints, proofs, trees, the trust file (FORMAT.md section 9).

use std::sync::OnceLock;

use ed25519_dalek::{Signer, SigningKey};

use super::tape::Tape;
use crate::merkle::{Hash, Range, consistency_proof, inclusion_proof, leaf_hash, verify_consistency, verify_inclusion};
use crate::note::{Checkpoint, KeyKind, Note, VerifierKey};
use crate::proof::Proof;
use crate::trust::{LedgerKey, Trust};

const ORIGIN: &str = "ledger.example/log";
/// Leaves of the trees that are played with.
const LEAVES_MAX: u64 = 70;

/// A note, a verifier key and a checkpoint: what is read has that one form. Nobody has signed it.
pub(super) fn note(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(key) = VerifierKey::parse(text) {
        assert_eq!(VerifierKey::parse(&key.to_string()).as_ref(), Ok(&key));
        assert_eq!(key.to_string(), text, "a verifier key has two forms");
    }
    let Ok(note) = Note::parse(text) else { return };
    assert_eq!(note.to_string(), text, "a note has two forms");
    let Ledger { log, witness, .. } = ledger();
    for key in [log, witness] {
        if let Ok(Some(_)) = note.verify(key) {
            assert!(text.contains(SIGNED), "a note nobody signed verifies");
        }
    }
    if let Ok(checkpoint) = Checkpoint::of(&note) {
        let again = checkpoint.to_note().expect("a checkpoint that was read can be written");
        assert!(note.text().starts_with(again.text()), "a checkpoint has two forms");
    }
}

/// What the one note that was really signed says.
const SIGNED: &str = "ledger.example/log\n7\n";

/// A proof: as text, and with the ledger's own signature on a checkpoint of somebody's choice.
pub(super) fn proof(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(proof) = Proof::parse(text)
    {
        assert_eq!(proof.to_string(), text, "a proof has two forms");
        assert!(
            proof.verify(&[9; 32], ORIGIN, &ledger().trust).is_err(),
            "a proof of nothing"
        );
    }
    let mut tape = Tape::new(bytes);
    let size = u64::from(tape.u8()) % LEAVES_MAX + 1;
    let (tree, root) = tree_of(size);
    let index = u64::from(tape.u8()) % size;
    let honest = inclusion_proof(index, size, |level, at| tree.hash(level, at))
        .unwrap()
        .unwrap();
    let lie = tape.u8();
    let mut hashes = honest.clone();
    edit(&mut hashes, &mut tape, lie & 1 == 1);
    let stated = tape.about(index, lie & 2 == 2);
    let Ledger {
        log,
        witness,
        keys,
        trust,
    } = ledger();
    let checkpoint = Checkpoint {
        origin: ORIGIN.to_owned(),
        size: tape.about(size, lie & 4 == 4),
        root,
    };
    let mut signed = checkpoint.to_note().unwrap();
    signed.add_signature(
        log,
        &keys[usize::from(lie & 8 == 8)]
            .sign(signed.text().as_bytes())
            .to_bytes(),
    );
    let message = signed.cosigned_message(5);
    signed.add_cosignature(witness, 5, &keys[usize::from(lie & 16 == 0)].sign(&message).to_bytes());
    let made = Proof {
        extra: (lie & 32 == 32).then(|| tape.blob().to_vec()),
        index: stated,
        hashes,
        checkpoint: signed,
    };
    let read = Proof::parse(&made.to_string()).expect("what was written reads");
    assert_eq!(read, made);
    let leaf = tree.leaf(index);
    let holds = read.verify(&leaf, ORIGIN, trust).is_ok();
    let sound = read.hashes == honest && stated == index && lie & 24 == 0;
    // A proof may hold in trees of other sizes too; which size it is stands under the ledger's signature.
    if checkpoint.size == size {
        assert_eq!(holds, sound, "lie {lie}");
    } else {
        assert!(!holds || lie & 24 == 0, "lie {lie}");
    }
}

/// RFC 6962 proofs: only the one proof holds.
pub(super) fn tree(bytes: &[u8]) {
    let mut tape = Tape::new(bytes);
    let size = u64::from(tape.u8()) % LEAVES_MAX + 1;
    let (tree, root) = tree_of(size);
    let index = u64::from(tape.u8()) % size;
    let honest = inclusion_proof(index, size, |level, at| tree.hash(level, at))
        .unwrap()
        .unwrap();
    let mut hashes = honest.clone();
    let lie = tape.u8();
    edit(&mut hashes, &mut tape, lie & 1 == 1);
    let (at, of) = (tape.about(index, lie & 2 == 2), tape.about(size, lie & 4 == 4));
    let holds = verify_inclusion(&tree.leaf(index), at, of, &root, &hashes);
    // With another size stated it may hold: the size stands under the ledger's signature.
    if of == size {
        assert_eq!(holds, hashes == honest && at == index);
    }

    let old = u64::from(tape.u8()) % (size + 1);
    let (_, old_root) = tree_of(old);
    let honest = consistency_proof(old, size, |level, at| tree.hash(level, at))
        .unwrap()
        .unwrap();
    let mut hashes = honest.clone();
    edit(&mut hashes, &mut tape, lie & 8 == 8);
    let from = tape.about(old, lie & 16 == 16);
    let holds = verify_consistency(from, size, &old_root, &root, &hashes);
    if lie & 16 == 0 {
        assert_eq!(holds, hashes == honest);
    } else if from > size {
        assert!(!holds, "a tree that shrank");
    }
}

fn edit(hashes: &mut Vec<Hash>, tape: &mut Tape<'_>, lie: bool) {
    if !lie {
        return;
    }
    let at = usize::from(tape.u8());
    match tape.u8() & 3 {
        0 => hashes.truncate(at),
        1 => hashes.insert(at.min(hashes.len()), [tape.u8(); 32]),
        2 => hashes.reverse(),
        _ => {
            if let Some(hash) = hashes.get_mut(at) {
                hash[0] ^= tape.u8();
            }
        }
    }
}

struct Tree(Vec<Hash>);

impl Tree {
    fn leaf(&self, index: u64) -> Hash {
        self.0[index as usize]
    }

    /// The hash of a full subtree.
    fn hash(&self, level: u32, at: u64) -> Result<Hash, std::convert::Infallible> {
        let mut range = Range::default();
        let width = 1u64 << level;
        for leaf in at * width..(at + 1) * width {
            range.append(self.leaf(leaf), |_, _, _| {});
        }
        Ok(range.root())
    }
}

fn tree_of(size: u64) -> (Tree, Hash) {
    let mut range = Range::default();
    let leaves: Vec<Hash> = (0..size).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    for leaf in &leaves {
        range.append(*leaf, |_, _, _| {});
    }
    (Tree(leaves), range.root())
}

struct Ledger {
    log: VerifierKey,
    witness: VerifierKey,
    /// The ledger's and the witness's.
    keys: [SigningKey; 2],
    trust: Trust,
}

fn ledger() -> &'static Ledger {
    static LEDGER: OnceLock<Ledger> = OnceLock::new();
    LEDGER.get_or_init(|| {
        let keys = [SigningKey::from_bytes(&[0x21; 32]), SigningKey::from_bytes(&[0x22; 32])];
        let public = |at: usize| keys[at].verifying_key().to_bytes();
        let log = VerifierKey::new(ORIGIN, KeyKind::Note, public(0)).unwrap();
        let witness = VerifierKey::new("witness.example", KeyKind::Cosignature, public(1)).unwrap();
        let trust = Trust {
            quorum: 1,
            ledgers: vec![LedgerKey {
                origin: ORIGIN.to_owned(),
                key: log.clone(),
            }],
            witnesses: vec![witness.clone()],
            ..Trust::default()
        };
        Ledger {
            log,
            witness,
            keys,
            trust,
        }
    })
}

/// A trust file: what was read is written, and reads as the same.
pub(super) fn trust(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(trust) = Trust::parse(text) {
        let again = trust.to_text().expect("what was read can be written");
        assert_eq!(Trust::parse(&again), Ok(trust));
    }
}
