//! Whom to trust, and what ledger and witnesses say: keys that begin, end or are revoked, quorums, proofs that prove nothing.

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::note::{Checkpoint, KeyKind, Note, VerifierKey};
use portcullis_recording::proof::Proof;
use portcullis_recording::trust::{LedgerKey, NodeKey};
use portcullis_recording::{Trust, merkle, verify};

use crate::finished::{forged, hello};
use crate::support::redaction::redactor;
use crate::support::*;
use crate::{PLAIN, Vector, What};

const ORIGIN: &str = "bastion-1.example/ledger";
pub const W1: &str = "witness.example/w1";
const W2: &str = "witness.example/w2";
/// When the key is revoked in `trust_revoked.toml`.
const REVOKED: u64 = OPENED + 1_000_000;
/// When witnesses sign, unless said otherwise.
pub const SEEN_SECS: u64 = OPENED / 1000 + 60;

fn log_key() -> SigningKey {
    SigningKey::from_bytes(&[0x22; 32])
}

fn witness_key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[0x32 + n; 32])
}

/// Another node, which recovers what the first one left behind.
pub fn other_node() -> SigningKey {
    SigningKey::from_bytes(&[0x12; 32])
}

/// The redactor, whose own word for itself is another.
fn privacy_office() -> NodeKey {
    NodeKey {
        name: "privacy office".into(),
        key: redactor().verifying_key().to_bytes(),
        from_wall_ms: OPENED,
        until_wall_ms: None,
        revoked_wall_ms: None,
    }
}

fn verifier(name: &str, kind: KeyKind, key: &SigningKey) -> VerifierKey {
    VerifierKey::new(name, kind, key.verifying_key().to_bytes()).unwrap()
}

fn witness(name: &str, n: u8) -> VerifierKey {
    verifier(name, KeyKind::Cosignature, &witness_key(n))
}

fn plain() -> Trust {
    let mut plain = trust();
    plain.quorum = 1;
    plain.ledgers = vec![LedgerKey {
        origin: ORIGIN.into(),
        key: verifier(ORIGIN, KeyKind::Note, &log_key()),
    }];
    plain.witnesses = vec![witness(W1, 1)];
    plain
}

/// Every trust file: name and text.
pub fn trusts() -> Vec<(&'static str, String)> {
    let with = |change: &dyn Fn(&mut Trust)| {
        let mut trust = plain();
        change(&mut trust);
        trust.to_text().unwrap()
    };
    let second = |until_wall_ms| NodeKey {
        name: "bastion-2".into(),
        key: other_node().verifying_key().to_bytes(),
        from_wall_ms: OPENED,
        until_wall_ms,
        revoked_wall_ms: None,
    };
    // The default is said by saying nothing.
    let without_quorum = with(&|t| t.quorum = 0).replace("quorum = 0\n\n", "");
    vec![
        (PLAIN, with(&|_| {})),
        (
            "trust_revoked.toml",
            with(&|t| t.nodes[0].revoked_wall_ms = Some(REVOKED)),
        ),
        (
            "trust_revoked_at_the_opening.toml",
            with(&|t| t.nodes[0].revoked_wall_ms = Some(OPENED)),
        ),
        (
            "trust_revoked_elsewhere.toml",
            with(&|t| {
                let mut again = t.nodes[0].clone();
                (again.from_wall_ms, again.revoked_wall_ms) = (OPENED + 9_000_000, Some(REVOKED));
                t.nodes.push(again);
            }),
        ),
        ("trust_nobody.toml", with(&|t| t.nodes.clear())),
        ("trust_later.toml", with(&|t| t.nodes[0].from_wall_ms = OPENED + 1)),
        ("trust_retired.toml", with(&|t| t.nodes[0].until_wall_ms = Some(OPENED))),
        (
            "trust_retired_since.toml",
            with(&|t| t.nodes[0].until_wall_ms = Some(OPENED + 1)),
        ),
        (
            "trust_renewed.toml",
            with(&|t| {
                let mut again = t.nodes[0].clone();
                t.nodes[0].until_wall_ms = Some(OPENED);
                again.from_wall_ms = OPENED;
                t.nodes.push(again);
            }),
        ),
        ("trust_two_nodes.toml", with(&|t| t.nodes.push(second(None)))),
        (
            "trust_second_node_retired.toml",
            with(&|t| t.nodes.push(second(Some(OPENED + 1000)))),
        ),
        (
            "trust_two_witnesses.toml",
            with(&|t| {
                t.quorum = 2;
                t.witnesses.push(witness(W2, 2))
            }),
        ),
        (
            "trust_one_witness_twice.toml",
            with(&|t| {
                t.quorum = 2;
                t.witnesses.push(witness(W2, 1))
            }),
        ),
        ("trust_without_quorum.toml", without_quorum),
        ("trust_redactor.toml", with(&|t| t.redactors.push(privacy_office()))),
        (
            "trust_redactor_only.toml",
            with(&|t| {
                t.nodes.clear();
                t.redactors.push(privacy_office())
            }),
        ),
        (
            "trust_redactor_later.toml",
            with(&|t| {
                let from_wall_ms = OPENED + 5_000_001;
                t.redactors.push(NodeKey {
                    from_wall_ms,
                    ..privacy_office()
                })
            }),
        ),
        (
            "trust_redactor_retired.toml",
            with(&|t| {
                let until_wall_ms = Some(OPENED + 5_000_000);
                t.redactors.push(NodeKey {
                    until_wall_ms,
                    ..privacy_office()
                })
            }),
        ),
        (
            "trust_redactor_revoked.toml",
            with(&|t| {
                let revoked_wall_ms = Some(OPENED + 9_000_000);
                t.redactors.push(NodeKey {
                    revoked_wall_ms,
                    ..privacy_office()
                })
            }),
        ),
        (
            "trust_redactor_node_revoked.toml",
            with(&|t| {
                t.nodes[0].revoked_wall_ms = Some(REVOKED);
                t.redactors.push(privacy_office())
            }),
        ),
    ]
}

/// The checkpoint of a ledger of five leaves that holds the seal at 3, signed by its log, and the path to that leaf.
fn checkpoint(file: &[u8]) -> (Note, Vec<merkle::Hash>) {
    let trust = plain();
    let verified = verify(std::io::Cursor::new(file), &trust, None).unwrap();
    let entry = verified.sealed().unwrap().entry();
    let mut range = merkle::Range::default();
    let mut nodes = std::collections::HashMap::new();
    for n in 0..5u8 {
        let leaf = if n == 3 {
            merkle::leaf_hash(&entry)
        } else {
            merkle::leaf_hash(&[n])
        };
        range.append(leaf, |level, index, hash| {
            nodes.insert((level, index), hash);
        });
    }
    let read = |level, index| Ok::<_, std::convert::Infallible>(nodes[&(level, index)]);
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size: 5,
        root: range.root(),
    };
    let mut note = checkpoint.to_note().unwrap();
    let signature = log_key().sign(note.text().as_bytes()).to_bytes();
    note.add_signature(&trust.ledgers[0].key, &signature);
    (note, merkle::inclusion_proof(3, 5, read).unwrap().unwrap())
}

/// A proof, cosigned by witnesses under these names at these times.
pub fn proof(file: &[u8], cosigned: &[(&str, u8, u64)]) -> String {
    let (mut note, hashes) = checkpoint(file);
    for (name, n, secs) in cosigned {
        let signature = witness_key(*n).sign(&note.cosigned_message(*secs)).to_bytes();
        note.add_cosignature(&witness(name, *n), *secs, &signature);
    }
    finish(note, hashes)
}

fn finish(checkpoint: Note, hashes: Vec<merkle::Hash>) -> String {
    let extra = None;
    Proof {
        extra,
        index: 3,
        hashes,
        checkpoint,
    }
    .to_string()
}

/// A proof whose witness signed another time than it states.
fn proof_with_a_wrong_cosignature(file: &[u8]) -> String {
    let (mut note, hashes) = checkpoint(file);
    let signature = witness_key(1).sign(&note.cosigned_message(SEEN_SECS + 1)).to_bytes();
    note.add_cosignature(&witness(W1, 1), SEEN_SECS, &signature);
    finish(note, hashes)
}

/// A proof that something else than the log signed under the log's name.
fn proof_with_a_wrong_signature(file: &[u8]) -> String {
    let (mut note, hashes) = checkpoint(file);
    note.add_signature(&plain().ledgers[0].key, &[7; 64]);
    finish(note, hashes)
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    let (good, other) = (small(1).file, small(2).file);
    let mut all = Vec::new();
    let mut with = |name, trust, proof: Option<String>, expect| all.push(Vector::file(name, good.clone(), trust, proof, expect));
    let seen = |secs| Some(proof(&good, &[(W1, 1, secs)]));
    let revoked = "INVALID: the node key is revoked and no cosigned proof is older than that";
    let wrong = "SEALED, not in the ledger: a known key's signature does not verify";

    // Node keys.
    with("node_key_unknown", "trust_nobody.toml", None, "UNVERIFIED");
    with("node_key_not_valid_yet", "trust_later.toml", None, "INVALID: the node key was not valid then");
    with("node_key_not_valid_any_more", "trust_retired.toml", None, "INVALID: the node key was not valid then");
    with("node_key_retired_since", "trust_retired_since.toml", None, "SEALED");
    with("node_key_in_two_entries", "trust_renewed.toml", None, "SEALED");
    with("node_key_revoked", "trust_revoked.toml", None, revoked);
    with("node_key_revoked_by_another_entry", "trust_revoked_elsewhere.toml", None, revoked);
    with("node_key_revoked_after_the_proof", "trust_revoked.toml", seen(SEEN_SECS), "SEALED, in the ledger at 3 of 5");
    with("node_key_revoked_before_the_proof", "trust_revoked.toml", seen(SEEN_SECS + 1000), revoked);
    with("node_key_revoked_in_the_second_of_the_proof", "trust_revoked.toml", seen(REVOKED / 1000), revoked);
    with("node_key_revoked_between_two_cosignatures", "trust_revoked.toml", Some(proof(&good, &[(W1, 1, SEEN_SECS), (W1, 1, SEEN_SECS + 1000)])), "SEALED, in the ledger at 3 of 5");
    with("node_key_revoked_at_the_opening", "trust_revoked_at_the_opening.toml", seen(OPENED / 1000 - 1), revoked);

    // Proofs.
    with("proof", PLAIN, seen(SEEN_SECS), "SEALED, in the ledger at 3 of 5");
    with("proof_of_another_recording", PLAIN, Some(proof(&other, &[(W1, 1, SEEN_SECS)])), "SEALED, not in the ledger: the seal is not in the ledger's tree");
    with("proof_without_witness", PLAIN, Some(proof(&good, &[])), "SEALED, not in the ledger: 0 of 1 witnesses have cosigned");
    with("proof_without_witness_or_quorum", "trust_without_quorum.toml", Some(proof(&good, &[])), "SEALED, in the ledger at 3 of 5");
    with("proof_of_two_witnesses", "trust_two_witnesses.toml", Some(proof(&good, &[(W1, 1, SEEN_SECS), (W2, 2, SEEN_SECS + 9)])), "SEALED, in the ledger at 3 of 5");
    with("proof_of_one_of_two_witnesses", "trust_two_witnesses.toml", seen(SEEN_SECS), "SEALED, not in the ledger: 1 of 2 witnesses have cosigned");
    with("proof_of_one_witness_under_two_names", "trust_one_witness_twice.toml", Some(proof(&good, &[(W1, 1, SEEN_SECS), (W2, 1, SEEN_SECS)])), "SEALED, not in the ledger: 1 of 2 witnesses have cosigned");
    with("proof_of_an_unknown_witness", PLAIN, Some(proof(&good, &[(W2, 2, SEEN_SECS)])), "SEALED, not in the ledger: 0 of 1 witnesses have cosigned");
    with("proof_cosigned_at_the_end_of_time", PLAIN, seen((1 << 63) - 1), "SEALED, in the ledger at 3 of 5");
    with("proof_cosigned_beyond_the_end_of_time", PLAIN, seen(1 << 63), wrong);
    with("proof_with_a_wrong_cosignature", PLAIN, Some(proof_with_a_wrong_cosignature(&good)), wrong);
    with("proof_with_a_wrong_signature", PLAIN, Some(proof_with_a_wrong_signature(&good)), wrong);
    with("proof_with_another_index", PLAIN, Some(proof(&good, &[(W1, 1, SEEN_SECS)]).replace("index 3", "index 2")), "SEALED, not in the ledger: the seal is not in the ledger's tree");
    with("proof_of_another_ledger", PLAIN, Some(proof(&good, &[(W1, 1, SEEN_SECS)]).replace("bastion-1.example/ledger\n5", "bastion-2.example/ledger\n5")), "SEALED, not in the ledger: the ledger is not trusted for this recording");
    with("proof_that_is_none", PLAIN, Some("c2sp.org/tlog-proof@v1\nindex 3\n".to_owned()), "SEALED, not in the ledger: not a proof file: no blank line");

    // Without trust, what contradicts itself is INVALID all the same.
    let mut flipped = good.clone();
    flipped[frames(&good)[3].start + 500] ^= 1;
    let mut bare = |name, what, trust, expect| all.push(Vector { name, what, trust, proof: None, opened: false, expect });
    bare("unverified_with_a_bit_flipped", What::File(flipped), "trust_nobody.toml", "INVALID: the chunk's bytes are not those that were signed");
    bare("unverified_with_an_unknown_event", What::File(Forger::new(1).content(&rows(&[(0x42, b"")]), 1).build()), "trust_nobody.toml", "INVALID content: event: unknown kind 0x42");

    // Recovered by another node than the one that opened it.
    let by = |key: SigningKey| What::File(forged(|x| {
        x.closed_ms = 1000;
        x.recovery = Some(Recovery { vouched_bytes: 0, vouched_ms: PLAIN_MS, key: key.clone() });
    }));
    bare("recovered_by_another_node", by(other_node()), "trust_two_nodes.toml", "RECOVERED up to 0.005 s");
    bare("recovered_by_an_unknown_node", by(other_node()), PLAIN, "UNVERIFIED");
    bare("recovered_by_a_node_retired_by_then", by(other_node()), "trust_second_node_retired.toml", "INVALID: the node key was not valid then");
    bare("recovered_by_an_unknown_node_after_the_revocation", by(other_node()), "trust_revoked.toml", revoked);

    // Spools have no proof.
    let (main, tail) = (Forger::new(1).content(&hello(), 1).main(), tails::Opening::new(1, 1, [0; 32], PLAIN_MS));
    let spool = || What::Spool(main.file.clone(), vec![]);
    bare("spool_under_an_unknown_key", What::Spool(main.file.clone(), vec![(1, tail.begin().bytes)]), "trust_nobody.toml", "UNVERIFIED");
    bare("spool_under_a_revoked_key", spool(), "trust_revoked.toml", revoked);
    bare("spool_under_a_key_not_valid_yet", spool(), "trust_later.toml", "INVALID: the node key was not valid then");
    all
}
