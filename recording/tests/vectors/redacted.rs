//! Redacted copies: sound ones, and those in which something was replaced that nobody answers for.

use ed25519_dalek::SigningKey;

use crate::crashed::recovered;
use crate::finished::flip;
use crate::support::redaction::{Censor, Replaced, mark};
use crate::support::sealed::small_encrypted;
use crate::support::*;
use crate::trusted::{SEEN_SECS, W1, proof};
use crate::{PLAIN, Vector, What};

/// The trust file that knows a redactor.
const TRUST: &str = "trust_redactor.toml";
const SOUND: &str = "REDACTED by privacy office, chunk 1";
const CHUNK: &str = "INVALID: the redaction does not hold: the replaced chunk is not the one it names";

/// The second chunk of `small`, withheld.
fn second() -> Replaced {
    Replaced::withheld(1, 400, 402)
}

/// The first one.
fn first() -> Replaced {
    Replaced::withheld(0, 0, 310)
}

/// A copy of `small` without its second chunk, after a lie.
fn copy(lie: impl Fn(&mut Censor)) -> Vec<u8> {
    let file = small(1).file;
    let mut censor = Censor::of(&file, vec![second()]);
    lie(&mut censor);
    censor.build(&file)
}

/// The same with another word about that chunk.
fn said(lie: impl Fn(&mut Replaced)) -> Vec<u8> {
    copy(|c| c.replaced.iter_mut().for_each(&lie))
}

/// The same with other events in it.
fn holding(events: &[(u64, u8, &[u8])]) -> Vec<u8> {
    copy(|c| c.replaced = vec![Replaced::new(1, events)])
}

/// A chunk that is stored, whose hash and sizes are right.
fn stored() -> Replaced {
    let mut r = second();
    let raw = zstd::stream::decode_all(r.frame.as_slice()).unwrap();
    r.frame = [stored_frame(&[&raw]), STORED_END.to_vec()].concat();
    (r.sha256, r.stored_len) = (sha256(&r.frame), r.frame.len() as u64);
    r
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    let good = small(1).file;
    let mut all = Vec::new();
    let node_key = node().verifying_key().to_bytes();
    let stranger = SigningKey::from_bytes(&[0x45; 32]);
    {
    let mut with = |name, file: Vec<u8>, trust, proof, expect| all.push(Vector::file(name, file, trust, proof, expect));

    // Sound ones.
    with("salted", good.clone(), PLAIN, None, "SEALED");
    with("redacted", copy(|_| {}), TRUST, None, SOUND);
    with("redacted_two_chunks", copy(|c| c.replaced = vec![first(), second()]), TRUST, None, "REDACTED by privacy office, chunks 0-1");
    with("redacted_in_the_ledger", copy(|_| {}), TRUST, Some(proof(&good, &[(W1, 1, SEEN_SECS)])), "REDACTED by privacy office, chunk 1, in the ledger at 3 of 5");
    with("redacted_recovered", { let file = recovered(|_| {}); Censor::of(&file, vec![Replaced::withheld(0, 1, 1)]).build(&file) }, TRUST, None, "REDACTED by privacy office, chunk 0, the original RECOVERED up to 1.300 s");
    with("redacted_without_a_salt", holding(&[(400, 0x32, &mark()), (402, 0x01, b"x")]), TRUST, None, SOUND);

    // Who redacts.
    with("redactor_unknown", copy(|_| {}), PLAIN, None, "UNVERIFIED");
    with("redacted_by_the_node", copy(|c| (c.key, c.signer) = (node_key, node())), TRUST, None, "UNVERIFIED");
    with("redacted_from_an_unknown_node", copy(|_| {}), "trust_redactor_only.toml", None, "UNVERIFIED");
    with("redactor_not_valid_yet", copy(|_| {}), "trust_redactor_later.toml", None, "INVALID: the redactor's key was not valid then, or is revoked");
    with("redactor_not_valid_any_more", copy(|_| {}), "trust_redactor_retired.toml", None, "INVALID: the redactor's key was not valid then, or is revoked");
    with("redactor_revoked", copy(|_| {}), "trust_redactor_revoked.toml", Some(proof(&good, &[(W1, 1, SEEN_SECS)])), "INVALID: the redactor's key was not valid then, or is revoked");
    let node_revoked = "INVALID: the node key is revoked and no cosigned proof is older than that";
    with("redacted_from_a_revoked_node", copy(|_| {}), "trust_redactor_node_revoked.toml", None, node_revoked);
    with("redacted_from_a_node_revoked_since", copy(|_| {}), "trust_redactor_node_revoked.toml", Some(proof(&good, &[(W1, 1, SEEN_SECS)])), "REDACTED by privacy office, chunk 1, in the ledger at 3 of 5");
    }
    let mut add = |name, file: Vec<u8>, expect| all.push(Vector::file(name, file, TRUST, None, expect));

    // Signatures.
    let unsigned = "INVALID: the redaction does not hold: its signature does not verify";
    add("redaction_signed_by_the_node", copy(|c| c.signer = node()), unsigned);
    add("redaction_signed_by_a_stranger", copy(|c| c.signer = stranger.clone()), unsigned);
    add("redaction_signed_by_the_last_key", copy(|c| c.signer = epoch_key(1, 3)), unsigned);
    add("redaction_signed_in_the_domain_of_the_seal", copy(|c| c.domain = "seal"), unsigned);
    add("redaction_with_a_byte_changed", { let file = copy(|_| {}); let at = frames(&file)[1].start; flip(&file, at + 60) }, unsigned);

    // Another recording.
    add("redaction_of_another_session", copy(|c| c.h0[0] ^= 1), "INVALID: the redaction does not hold: it is of another session");
    add("redaction_of_another_seal", copy(|c| c.seal_sha256[0] ^= 1), "INVALID: the redaction does not hold: it is of another seal");
    add("redaction_moved_to_another_copy", { let other = small(2).file; let own = Censor::of(&other, vec![second()]); copy(|c| (c.h0, c.seal_sha256) = (own.h0, own.seal_sha256)) }, "INVALID: the redaction does not hold: it is of another session");

    add("redaction_of_an_encrypted_recording", { let file = small_encrypted(1).file; Censor::of(&file, vec![second()]).build(&file) }, "INVALID: the redaction does not hold: an encrypted recording has none");

    // Where it stands.
    add("redaction_missing", copy(|c| c.times = 0), "INVALID: the chunk's length is not the one that was signed");
    add("redaction_twice", copy(|c| c.times = 2), "INVALID: a frame where it may not be");
    add("redaction_behind_a_chunk", copy(|c| c.place = 3), "INVALID: a frame where it may not be");
    add("redaction_before_the_head", copy(|c| c.place = 0), "INVALID: not a recording");
    add("redaction_behind_the_seal", copy(|c| (c.place, c.put) = (9, Some(Vec::new()))), "INVALID: a frame where it may not be");
    add("redacted_without_the_seal", copy(|c| c.keep = Box::new(|parts| drop(parts.pop()))), "INVALID: a frame where it may not be");
    add("redacted_without_a_leaf", copy(|c| c.keep = Box::new(|parts| drop(parts.remove(4)))), "INVALID: unknown frame 0xfd2fb528");
    add("redacted_chunk_left_out", copy(|c| c.keep = Box::new(|parts| drop(parts.remove(3)))), "INVALID: a frame where it may not be");

    // What it lists.
    add("redacted_chunk_that_is_not_listed", copy(|c| c.put = Some(vec![first(), second()])), "INVALID: the chunk's length is not the one that was signed");
    add("redaction_lists_a_chunk_that_stayed", copy(|c| c.put = Some(Vec::new())), CHUNK);
    add("redaction_lists_the_original", copy(|c| { let file = small(1).file; let f = &frames(&file)[1]; let frame = file[f.start..f.end].to_vec(); let mut r = first(); (r.sha256, r.stored_len, r.raw_len) = (sha256(&frame), frame.len() as u64, zstd::stream::decode_all(frame.as_slice()).unwrap().len() as u64); r.frame = frame; c.replaced = vec![r]; }), "INVALID: the redaction does not hold: it names a chunk that was not replaced");
    add("redaction_lists_a_chunk_that_is_not_there", copy(|c| c.replaced = vec![second(), Replaced::withheld(3, 600, 600)]), "INVALID: the redaction does not hold: it replaces a chunk that is not there");
    add("redaction_lists_nothing", copy(|c| c.replaced = Vec::new()), "INVALID: malformed: a redaction that replaces nothing");
    add("redaction_lists_a_chunk_twice", copy(|c| c.replaced = vec![second(), second()]), "INVALID: malformed: replaced chunks not in order");
    add("redaction_lists_chunks_out_of_order", copy(|c| c.replaced = vec![second(), first()]), "INVALID: malformed: replaced chunks not in order");
    add("redaction_with_another_hash", said(|r| r.sha256[0] ^= 1), CHUNK);
    add("redaction_with_another_stored_length", said(|r| r.stored_len += 1), CHUNK);
    add("redaction_with_another_length", said(|r| r.raw_len += 1), "INVALID: zstd frame refused: the content is not as long as its leaf says");
    add("redaction_without_marks", said(|r| r.marks = 0), "INVALID: malformed: impossible number of events");
    add("redaction_counts_more_marks_than_events", said(|r| r.marks = 3), "INVALID: malformed: impossible number of events");
    add("redaction_says_stored", said(|r| r.flags = 2), "INVALID: malformed: unknown flags");
    add("redacted_chunk_stored", copy(|c| c.replaced = vec![stored()]), "INVALID: zstd frame refused: the content is not as long as its leaf says");

    // What the chunks hold.
    add("redacted_chunk_without_a_mark", holding(&[(400, 0x01, b"x"), (402, 0x80, &[7; 16])]), "INVALID content: the chunk's content is not what its leaf states: another number of marks");
    add("redaction_counts_more_marks", said(|r| r.marks = 2), "INVALID content: the chunk's content is not what its leaf states: another number of marks");
    add("redaction_counts_more_events", said(|r| r.events = 3), "INVALID content: the chunk's content is not what its leaf states: another number of events");
    add("redaction_claims_a_keyframe", said(|r| r.flags = 1), "INVALID content: the chunk's content is not what its leaf states: the keyframe flag is wrong");
    add("redaction_claims_a_line_key", said(|r| r.flags = 4), "INVALID content: the chunk's content is not what its leaf states: the line key flag is wrong");
    let times = "INVALID content: the chunk's content is not what its leaf states: other times";
    add("redacted_chunk_begins_later", copy(|c| c.replaced = vec![Replaced::withheld(1, 401, 402)]), times);
    add("redacted_chunk_ends_earlier", copy(|c| c.replaced = vec![Replaced::withheld(1, 400, 401)]), times);
    add("redacted_chunk_ends_later", copy(|c| c.replaced = vec![Replaced::withheld(1, 400, 403)]), times);
    add("redacted_accounts", copy(|c| c.replaced = vec![Replaced::withheld(2, 500, 508)]), "INVALID content: the chunk's content is not what its leaf states: the accounts are not those that were sealed");

    // What must stay.
    add("redacted_with_the_leaf_changed", { let file = copy(|_| {}); let at = frames(&file)[5].end; flip(&file, at - 1) }, "INVALID: the leaf is not signed by the key of its epoch");
    add("redacted_with_an_index_of_its_own", copy(|c| c.keep = Box::new(|parts| { let index = parts.len() - 2; let end = parts[index].len(); parts[index][end - 5] ^= 1; })), "INVALID: the index is not the one the chunks give");
    add("redacted_with_the_seek_table_of_the_original", { let sealed = small(1).file; let f = frames(&sealed); let file = copy(|_| {}); let g = frames(&file); [&file[..g[g.len() - 1].start], &sealed[f[f.len() - 1].start..]].concat() }, "INVALID: the seek table is not the one the frames give");
    add("redacted_with_the_seek_table_of_another", copy(|c| c.seek = Box::new(|sizes| sizes[3].1 += 1)), "INVALID: the seek table is not the one the frames give");
    add("redacted_with_a_trailing_byte", [copy(|_| {}), vec![0]].concat(), "INVALID: bytes after the end");
    let spool = What::Spool(copy(|_| {}), Vec::new());
    all.push(Vector { name: "redacted_spool", what: spool, trust: TRUST, proof: None, opened: false, expect: "INVALID: a frame where it may not be" });
    let cut = copy(|_| {});
    let spool = What::Spool(cut[..frames(&cut)[4].end].to_vec(), Vec::new());
    all.push(Vector { name: "redacted_spool_that_goes_on", what: spool, trust: TRUST, proof: None, opened: false, expect: "INVALID: a frame where it may not be" });
    all
}
