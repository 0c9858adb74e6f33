//! Hostile vectors, one file one sin: `testdata/*.pcr`, with what must come of each in `testdata/MANIFEST`.
//!
//! `PORTCULLIS_BLESS=1` writes them anew. Without it the files as committed must give what the manifest says, and so
//! must the ones built here, which may differ from them in how zstd compressed.

mod support;

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::PathBuf;

use ed25519_dalek::{Signer, SigningKey};
use portcullis_recording::note::{Checkpoint, KeyKind, VerifierKey};
use portcullis_recording::proof::Proof;
use portcullis_recording::trust::LedgerKey;
use portcullis_recording::{Ledger, Trust, Verified, merkle, recover, verify};
use support::*;

/// A file, which trust and proof to verify it with, and what must come of it.
struct Vector {
    name: &'static str,
    file: Vec<u8>,
    trust: &'static str,
    proof: Option<String>,
    expect: &'static str,
}

const PLAIN: &str = "trust.toml";

/// Everything a reader of a recording would do with it, as one line.
fn outcome(file: &[u8], trust: &Trust, proof: Option<&str>) -> String {
    match verify(Cursor::new(file), trust, proof) {
        Err(fault) => format!("INVALID: {}", fault.why),
        Ok(mut verified) => match verified.check_content() {
            Err(fault) => format!("INVALID content: {}", fault.why),
            Ok(_) => format!("{}{}", verified.verdict(), ledger(&verified)),
        },
    }
}

fn ledger(verified: &Verified<Cursor<&[u8]>>) -> String {
    match verified.ledger() {
        Ledger::NoProof => String::new(),
        Ledger::Proven(p) => format!(", in the ledger at {} of {}", p.index, p.size),
        Ledger::Refused(e) => format!(", not in the ledger: {e}"),
    }
}

fn log_key() -> SigningKey {
    SigningKey::from_bytes(&[0x22; 32])
}

fn witness_key() -> SigningKey {
    SigningKey::from_bytes(&[0x33; 32])
}

fn trusts() -> Vec<(&'static str, Trust)> {
    let key = |name: &str, kind, key: SigningKey| VerifierKey::new(name, kind, key.verifying_key().to_bytes()).unwrap();
    let origin = "bastion-1.example/ledger";
    let mut plain = trust();
    plain.quorum = 1;
    plain.ledgers = vec![LedgerKey {
        origin: origin.into(),
        key: key(origin, KeyKind::Note, log_key()),
    }];
    plain.witnesses = vec![key("witness.example/w1", KeyKind::Cosignature, witness_key())];
    let (mut revoked, mut nobody, mut later) = (plain.clone(), plain.clone(), plain.clone());
    revoked.nodes[0].revoked_wall_ms = Some(OPENED + 1_000_000);
    nobody.nodes.clear();
    later.nodes[0].from_wall_ms = OPENED + 1;
    vec![
        (PLAIN, plain),
        ("trust_revoked.toml", revoked),
        ("trust_nobody.toml", nobody),
        ("trust_later.toml", later),
    ]
}

/// A proof for a recording in a ledger of five leaves; the witness signs at `secs`, unless it does not.
fn proof(file: &[u8], secs: Option<u64>) -> String {
    let (_, trust) = trusts().remove(0);
    let entry = verify(Cursor::new(file), &trust, None)
        .unwrap()
        .sealed()
        .unwrap()
        .entry();
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
        origin: trust.ledgers[0].origin.clone(),
        size: 5,
        root: range.root(),
    };
    let mut note = checkpoint.to_note().unwrap();
    let signature = log_key().sign(note.text().as_bytes()).to_bytes();
    note.add_signature(&trust.ledgers[0].key, &signature);
    if let Some(secs) = secs {
        let signature = witness_key().sign(&note.cosigned_message(secs)).to_bytes();
        note.add_cosignature(&trust.witnesses[0], secs, &signature);
    }
    let hashes = merkle::inclusion_proof(3, 5, read).unwrap().unwrap();
    Proof {
        extra: None,
        index: 3,
        hashes,
        checkpoint: note,
    }
    .to_string()
}

fn hello() -> Vec<u8> {
    rows(&[(0x01, b"hello")])
}

fn cut(file: &[u8], frame: usize) -> Vec<u8> {
    let f = &frames(file)[frame];
    [&file[..f.start], &file[f.end..]].concat()
}

fn flip(file: &[u8], at: usize) -> Vec<u8> {
    let mut bad = file.to_vec();
    bad[at] ^= 1;
    bad
}

/// The HEAD frame with its statement changed and signed again by `key`.
fn resigned_head(change: impl Fn(&mut Vec<u8>), key: &SigningKey) -> Vec<u8> {
    let frame = Forger::new(1).head_frame;
    let mut statement = frame[8..frame.len() - 64].to_vec();
    change(&mut statement);
    skip(0x184D_2A50, &sign(key, "head", &statement))
}

fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
}

/// A chunk whose frame is made by hand.
fn framed(frame: Vec<u8>, raw_len: u64) -> Vec<u8> {
    Forger::new(1).chunk(frame, raw_len, 1, 0).build()
}

fn with_content(raw: &[u8]) -> Vec<u8> {
    Forger::new(1).content(raw, 1).build()
}

fn forged(change: impl Fn(&mut Forger)) -> Vec<u8> {
    let mut forger = Forger::new(1)
        .content(&hello(), 1)
        .content(&hello(), 1)
        .content(&hello(), 1);
    change(&mut forger);
    forger.build()
}

/// A crash with one finished chunk and a live tail, and the tail frame's content changed before the node signs.
fn recovered(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let (mut w, mut state, mut main) = open(1);
    let (mut first, mut tail) = (Vec::new(), Vec::new());
    w.open_tail(&mut first).unwrap();
    w.push(1, 1, &out(b"one"), &mut first).unwrap();
    main.extend(w.close_tail().unwrap().encode(&first, &[], 3, &mut state).unwrap());
    w.open_tail(&mut tail).unwrap();
    w.push(1200, 1, &out(b"two"), &mut tail).unwrap();
    w.check(1300, &mut tail).unwrap();
    w.push(1400, 1, &out(b"three"), &mut tail).unwrap();
    let key = node().verifying_key().to_bytes();
    let unsigned = recover(Cursor::new(&main), vec![(1, tail)], key, "crash_recovered", "").unwrap();
    let signature = node().sign(&unsigned.statement()).to_bytes();
    let done = unsigned.sign(&signature).unwrap();
    let mut file = [&main[..done.keep_bytes as usize], &done.append].concat();
    // The node signs what the change made of it: a node that lies, or a bug of ours.
    let all = frames(&file);
    let tail_frame = all.iter().find(|f| f.magic == 0x184D_2A52).unwrap().clone();
    let seal = all.iter().find(|f| f.magic == 0x184D_2A54).unwrap().clone();
    let old = file[tail_frame.start..tail_frame.end].to_vec();
    let mut content = old[8..].to_vec();
    change(&mut content);
    if content == old[8..] {
        return file;
    }
    let new = skip(0x184D_2A52, &content);
    let mut statement = file[seal.start + 8..seal.end - 64].to_vec();
    replace(&mut statement, &sha256(&old), &sha256(&new));
    let mut sizes: Vec<(usize, usize)> = Vec::new();
    for f in &all[..all.len() - 1] {
        let raw = if f.magic == 0xFD2F_B528 {
            zstd::stream::decode_all(&file[f.start..f.end]).unwrap().len()
        } else {
            0
        };
        sizes.push((
            if f.start == tail_frame.start {
                new.len()
            } else {
                f.end - f.start
            },
            raw,
        ));
    }
    let mut rebuilt = file[..tail_frame.start].to_vec();
    rebuilt.extend(new);
    rebuilt.extend_from_slice(&file[tail_frame.end..seal.start]);
    rebuilt.extend(skip(0x184D_2A54, &sign(&node(), "seal", &statement)));
    rebuilt.extend(seek_table(&sizes));
    file.clear();
    rebuilt
}

#[rustfmt::skip]
fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, file: Vec<u8>, expect| all.push(Vector { name, file, trust: PLAIN, proof: None, expect });
    let (good, other) = (small(1).file, small(2).file);
    let f = frames(&good);
    let g = frames(&other);
    let part = |i: usize| &good[f[i].start..f[i].end];
    let seal = f.len() - 2;

    // Sound ones.
    add("sealed", good.clone(), "SEALED");
    add("sealed_without_events", Forger::new(1).build(), "SEALED");
    add("sealed_by_the_second_writer", forged(|_| {}), "SEALED");
    add("ignorable_event", Forger::new(1).content(&rows(&[(0x01, b"a"), (0x9C, b"?")]), 2).build(), "SEALED");
    add("recovered", recovered(|_| {}), "RECOVERED up to 1.300 s");

    // Cut, added, moved.
    add("empty", Vec::new(), "INVALID: not a recording");
    add("cut_before_the_index", good[..f[seal - 1].start].to_vec(), "INVALID: there is no seal");
    add("cut_before_the_seal", good[..f[seal].start].to_vec(), "INVALID: the file ends within a frame");
    add("cut_before_the_seek_table", good[..f[seal].end].to_vec(), "INVALID: the file ends within a frame");
    add("cut_within_a_chunk", good[..f[3].start + 100].to_vec(), "INVALID: the file ends within a frame");
    add("trailing_byte", [good.as_slice(), &[0]].concat(), "INVALID: bytes after the end");
    add("trailing_recording", [good.as_slice(), &other].concat(), "INVALID: bytes after the end");
    add("chunk_bit_flipped", flip(&good, f[3].start + 500), "INVALID: the chunk's bytes are not those that were signed");
    add("chunk_dropped", [&good[..f[3].start], &good[f[4].end..]].concat(), "INVALID: the leaf has index 2, not 1");
    add("chunk_doubled", [&good[..f[4].end], part(3), part(4), &good[f[4].end..]].concat(), "INVALID: the leaf has index 1, not 2");
    add("chunks_swapped", [&good[..f[1].start], part(3), part(4), part(1), part(2), &good[f[5].start..]].concat(), "INVALID: the leaf has index 1, not 0");
    add("chunk_of_another_session", [&good[..f[3].start], &other[g[3].start..g[4].end], &good[f[4].end..]].concat(), "INVALID: the leaf does not follow the one before it");
    add("head_of_another_session", [&other[..g[0].end], &good[f[0].end..]].concat(), "INVALID: the leaf does not follow the one before it");
    add("seal_of_another_session", [&good[..f[seal].start], &other[g[seal].start..g[seal].end], part(seal + 1)].concat(), "INVALID: the seal belongs to another session");
    add("leaf_without_its_chunk", cut(&good, 3), "INVALID: a frame where it may not be");
    add("chunk_without_its_leaf", cut(&good, 4), "INVALID: unknown frame 0xfd2fb528");
    add("head_twice", [part(0), &good].concat(), "INVALID: a frame where it may not be");
    add("unknown_skippable_frame", [&good[..f[3].start], &skip(0x184D_2A55, b"hi"), &good[f[3].start..]].concat(), "INVALID: unknown frame 0x184d2a55");
    add("encrypted_chunk_of_a_later_version", [&good[..f[3].start], &skip(0x184D_2A5F, b"hi"), &good[f[3].start..]].concat(), "INVALID: unknown frame 0x184d2a5f");
    add("frame_length_beyond_all_bounds", [&good[..f[0].start + 4], &[0xFF; 4], &good[8..]].concat(), "INVALID: a frame over its bound");
    add("seek_table_with_another_entry", flip(&good, f[seal + 1].start + 8), "INVALID: the seek table is not the one the frames give");
    add("seek_table_says_checksums", { let mut b = good.clone(); let n = b.len(); b[n - 5] = 0x80; b }, "INVALID: the seek table is not the one the frames give");

    // Keys.
    add("head_signed_by_a_stranger", { let mut x = Forger::new(1); x.head_frame = resigned_head(|_| {}, &epoch_key(9, 9)); x.build() }, "INVALID: the node's signature over the head does not verify");
    add("head_of_version_2", { let mut x = Forger::new(1); x.head_frame = resigned_head(|s| s[2] = 2, &node()); x.build() }, "INVALID: malformed: head version is not 1");
    add("head_of_an_unknown_form", { let mut x = Forger::new(1); x.head_frame = resigned_head(|s| replace(s, b"direct", b"Direct"), &node()); x.build() }, "INVALID: malformed: head form is neither direct nor jump");
    add("leaf_signed_by_the_next_key", forged(|x| x.leaf_key = Box::new(|i| if i == 1 { 2 } else { i })), "INVALID: the leaf is not signed by the key of its epoch");
    add("leaf_signed_by_the_last_key", forged(|x| x.leaf_key = Box::new(|i| if i == 0 { 3 } else { i })), "INVALID: the leaf is not signed by the key of its epoch");
    add("all_leaves_signed_by_the_first_key", forged(|x| x.leaf_key = Box::new(|_| 0)), "INVALID: the leaf is not signed by the key of its epoch");
    add("leaf_hands_over_to_its_own_key", forged(|x| x.leaf = Box::new(|l| if l.index == 0 { l.next = epoch_key(1, 0).verifying_key().to_bytes() })), "INVALID: the leaf hands over to its own key");
    add("leaf_signed_in_the_domain_of_the_seal", forged(|x| x.leaf_domain = "seal"), "INVALID: the leaf is not signed by the key of its epoch");
    add("leaf_under_a_small_order_key", small_order(), "INVALID: the leaf is not signed by the key of its epoch");
    add("seal_signed_by_the_key_before", forged(|x| x.seal_key = Some(epoch_key(1, 2))), "INVALID: the seal's signature does not verify");
    add("seal_signed_by_the_node", forged(|x| x.seal_key = Some(node())), "INVALID: the seal's signature does not verify");
    add("seal_signed_in_the_domain_of_a_leaf", forged(|x| x.seal_domain = "leaf"), "INVALID: the seal's signature does not verify");
    add("seal_with_another_root", forged(|x| x.root = Box::new(|r| r[0] ^= 1)), "INVALID: the seal's root is not that of the chunks");
    add("index_with_another_flag", forged(|x| x.index = Box::new(|i| *i.last_mut().unwrap() = 1)), "INVALID: the index is not the one the chunks give");

    // Leaves that lie although they are signed.
    add("times_run_backwards", forged(|x| x.leaf = Box::new(|l| if l.index == 1 { l.first_ms = 3 })), "INVALID: times run backwards");
    add("chunk_ends_before_it_begins", forged(|x| x.leaf = Box::new(|l| if l.index == 1 { l.last_ms = 4 })), "INVALID: times run backwards");
    add("leaf_with_an_unknown_flag", forged(|x| x.leaf = Box::new(|l| l.flags = 8)), "INVALID: malformed: unknown flags");
    add("leaf_number_not_shortest", forged(|x| x.leaf_statement = Box::new(|s| { s.splice(2..3, [0x18, s[2]]); })), "INVALID: malformed: CBOR number not in its shortest form");
    add("leaf_of_indefinite_length", forged(|x| x.leaf_statement = Box::new(|s| { s[0] = 0xBF; s.push(0xFF); })), "INVALID: malformed: CBOR indefinite or reserved length");
    add("leaf_with_keys_out_of_order", forged(|x| x.leaf_statement = Box::new(|s| { s[1] = 1; s[3] = 0; })), "INVALID: malformed: CBOR map with another key");
    add("leaf_counts_more_events", forged(|x| x.leaf = Box::new(|l| l.events = 2)), "INVALID content: the chunk's content is not what its leaf states: another number of events");
    add("leaf_claims_a_keyframe", forged(|x| x.leaf = Box::new(|l| l.flags = 1)), "INVALID content: the chunk's content is not what its leaf states: the keyframe flag is wrong");
    add("leaf_states_other_times", forged(|x| x.leaf = Box::new(|l| l.last_ms = if l.index == 2 { 9 } else { l.last_ms })), "INVALID content: the chunk's content is not what its leaf states: other times");
    add("leaf_states_another_length", forged(|x| x.leaf = Box::new(|l| l.raw_len += 1)), "INVALID: zstd frame refused: the content is not as long as its leaf says");

    // zstd.
    let hello = hello();
    let len = hello.len() as u64;
    let plain = zstd_frame(len as u32, &last_raw(&hello));
    let patched = |descriptor: u8| { let mut x = plain.clone(); x[4] = descriptor; x };
    add("zstd_dictionary_id", framed(patched(0xA1), len), "INVALID: zstd frame refused: dictionary");
    add("zstd_checksum", framed([patched(0xA4), vec![0; 4]].concat(), len), "INVALID: zstd frame refused: checksum");
    add("zstd_reserved_bit", framed(patched(0xA8), len), "INVALID: zstd frame refused: reserved or unused bit");
    add("zstd_size_of_64_bits", framed([&[0x28, 0xB5, 0x2F, 0xFD, 0xE0][..], &len.to_le_bytes(), &last_raw(&hello)].concat(), len), "INVALID: zstd frame refused: 64-bit content size");
    add("zstd_huge_window", framed([&[0x28, 0xB5, 0x2F, 0xFD, 0x80, 0xA8][..], &(len as u32).to_le_bytes(), &last_raw(&hello)].concat(), len), "INVALID: zstd frame refused: window over its bound");
    add("zstd_reserved_block", framed(zstd_frame(len as u32, &[0x07, 0, 0]), len), "INVALID: zstd frame refused: reserved block type");
    add("zstd_block_over_its_bound", framed(zstd_frame(1 << 20, &[0x03, 0, 0x20, 0]), 1 << 20), "INVALID: zstd frame refused: block over its bound");
    let rle: Vec<u8> = std::iter::repeat_n([0x02, 0, 0x10, 0], 2000).flatten().collect();
    add("zstd_bomb_of_runs", framed(zstd_frame(1000, &rle), 1000), "INVALID: zstd frame refused: it expands over its bound");
    let mut bomb = zstd::bulk::compress(&(0..16_000u64).flat_map(|n| draw(1, n % 40)).cycle().take(1 << 20).collect::<Vec<_>>(), 3).unwrap();
    let size_at = bomb.windows(4).position(|w| w == (1u32 << 20).to_le_bytes()).unwrap();
    bomb[size_at..size_at + 4].copy_from_slice(&1000u32.to_le_bytes());
    add("zstd_bomb_behind_a_small_size", framed(bomb, 1000), "INVALID content: the chunk's content is not what its leaf states: it does not decompress");
    add("zstd_size_over_the_chunk_bound", framed(zstd_frame(100 << 20, &last_raw(&hello)), len), "INVALID: zstd frame refused: content size over its bound");
    add("zstd_two_frames_in_one_chunk", framed([plain.clone(), plain.clone()].concat(), len), "INVALID: unknown frame 0xfd2fb528");
    add("stored_chunk_that_is_compressed", Forger::new(1).chunk(plain, len, 1, 2).build(), "INVALID: zstd frame refused: the content is not as long as its leaf says");

    // Content.
    add("unknown_event_kind", with_content(&rows(&[(0x42, b"")])), "INVALID content: event: unknown kind 0x42");
    add("check_among_events", with_content(&rows(&[(0x7F, b"")])), "INVALID content: the chunk's content is not what its leaf states: a check outside a tail");
    add("unknown_layout", with_content(&[9, 5, 0, 1, 1, 0]), "INVALID content: malformed: unknown layout");
    add("event_cut_off", with_content(&[0, 5, 0, 1, 1, 9, b'x']), "INVALID content: malformed: ends too early");
    add("varint_not_shortest", with_content(&[0, 5, 0x80, 0, 1, 1, 0]), "INVALID content: malformed: varint not in its shortest form");
    add("columns_of_different_lengths", with_content(&[1, 5, 1, 2, 1, 1, 0, 0, 1, 1, 0]), "INVALID content: malformed: columns of different lengths");
    add("column_longer_than_the_chunk", with_content(&[1, 5, 1, 0xFF, 0x7F, 1, 1, 0]), "INVALID content: malformed: ends too early");
    add("text_not_utf8", with_content(&rows(&[(0x32, &[0x81, 0x61, 0xFF])])), "INVALID content: event: malformed payload of kind 0x32: text is not UTF-8");
    add("hidden_input_that_tells_its_length", with_content(&rows(&[(0x13, &[0x83, 1, 4, 0x41, 0])])), "INVALID content: event: malformed payload of kind 0x13: hidden input not padded to its class");
    add("sealed_input_that_tells_its_length", with_content(&rows(&[(0x11, &[0x83, 1, 0, 0x41, 0])])), "INVALID content: event: malformed payload of kind 0x11: sealed input of an impossible length or count");
    add("resize_over_32_bits", with_content(&rows(&[(0x10, &[0x84, 0x1B, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])])), "INVALID content: event: malformed payload of kind 0x10: number over 32 bits");

    // Recovered ones.
    add("recovered_with_a_torn_record", recovered(|t| t.push(0)), "INVALID: malformed: a torn record in a recovered tail");
    add("recovered_with_a_check_altered", recovered(|t| { let n = t.len(); t[n - 20] ^= 1 }), "INVALID: malformed: a torn record in a recovered tail");
    add("recovered_with_an_event_altered", recovered(|t| replace(t, b"two", b"six")), "INVALID: malformed: a torn record in a recovered tail");
    add("recovered_with_a_tail_of_unknown_kind", recovered(|t| t[0] = 2), "INVALID: malformed: unknown kind of tail");
    add("recovered_tail_not_opened_by_the_session", recovered(|t| t[40] ^= 1), "INVALID: the tail is not opened by the key before it");
    add("recovered_that_overstates_the_vouching", recovered(|t| { let at = t.windows(3).position(|w| w == b"two").unwrap(); t.truncate(at + 3) }), "INVALID: the seal counts vouched tail bytes differently");

    // Trust and proofs.
    let mut with = |name, trust, proof: Option<String>, expect| all.push(Vector { name, file: good.clone(), trust, proof, expect });
    let before = OPENED / 1000 + 60;
    with("node_key_unknown", "trust_nobody.toml", None, "INVALID: the node key is not trusted");
    with("node_key_not_valid_yet", "trust_later.toml", None, "INVALID: the node key was not valid then");
    with("node_key_revoked", "trust_revoked.toml", None, "INVALID: the node key is revoked and no cosigned proof is older than that");
    with("node_key_revoked_after_the_proof", "trust_revoked.toml", Some(proof(&good, Some(before))), "SEALED, in the ledger at 3 of 5");
    with("node_key_revoked_before_the_proof", "trust_revoked.toml", Some(proof(&good, Some(before + 1000))), "INVALID: the node key is revoked and no cosigned proof is older than that");
    with("proof", PLAIN, Some(proof(&good, Some(before))), "SEALED, in the ledger at 3 of 5");
    with("proof_of_another_recording", PLAIN, Some(proof(&other, Some(before))), "SEALED, not in the ledger: the seal is not in the ledger's tree");
    with("proof_without_witness", PLAIN, Some(proof(&good, None)), "SEALED, not in the ledger: 0 of 1 witnesses have cosigned");
    with("proof_with_another_index", PLAIN, Some(proof(&good, Some(before)).replace("index 3", "index 2")), "SEALED, not in the ledger: the seal is not in the ledger's tree");
    with("proof_of_another_ledger", PLAIN, Some(proof(&good, Some(before)).replace("bastion-1.example/ledger\n5", "bastion-2.example/ledger\n5")), "SEALED, not in the ledger: the ledger is not trusted for this recording");
    all
}

/// A head that names the neutral element as first key, under which anything is signed for a careless verifier.
fn small_order() -> Vec<u8> {
    let k0 = epoch_key(1, 0).verifying_key().to_bytes();
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut forger = Forger::new(1).content(&hello(), 1);
    forger.head_frame = resigned_head(|s| replace(s, &k0, &neutral), &node());
    let mut file = forger.build();
    let leaf = frames(&file)[2].clone();
    let signature = &mut file[leaf.end - 64..leaf.end];
    signature.fill(0);
    signature[0] = 1;
    file
}

/// Asked at run time: a cached build may come from another clone.
fn testdata() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("testdata")
}

#[test]
fn vectors_as_built_here() {
    let trusts = trusts();
    let mut wrong = String::new();
    for v in vectors() {
        let trust = &trusts.iter().find(|(name, _)| *name == v.trust).unwrap().1;
        let got = outcome(&v.file, trust, v.proof.as_deref());
        if got != v.expect {
            writeln!(wrong, "{}\n  wanted {}\n  got    {got}", v.name, v.expect).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn vectors_as_committed() {
    let folder = testdata();
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        bless(&folder);
    }
    let manifest = std::fs::read_to_string(folder.join("MANIFEST")).unwrap();
    let mut names = Vec::new();
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let [name, trust, proof, expect] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let file = std::fs::read(folder.join(format!("{name}.pcr"))).unwrap();
        let trust = Trust::parse(&std::fs::read_to_string(folder.join(trust)).unwrap()).unwrap();
        let proof = (proof != "-").then(|| std::fs::read_to_string(folder.join(proof)).unwrap());
        assert_eq!(outcome(&file, &trust, proof.as_deref()), expect, "{name}");
        names.push(name.to_owned());
    }
    assert_eq!(
        names,
        vectors().iter().map(|v| v.name).collect::<Vec<_>>(),
        "testdata is out of date"
    );
}

fn bless(folder: &std::path::Path) {
    let mut manifest = String::from("# name\ttrust\tproof\twhat must come of it\n");
    for (name, trust) in trusts() {
        std::fs::write(folder.join(name), trust.to_text().unwrap()).unwrap();
    }
    for v in vectors() {
        std::fs::write(folder.join(format!("{}.pcr", v.name)), &v.file).unwrap();
        let proof = v.proof.as_ref().map(|_| format!("{}.proof", v.name));
        if let (Some(name), Some(text)) = (&proof, &v.proof) {
            std::fs::write(folder.join(name), text).unwrap();
        }
        writeln!(
            manifest,
            "{}\t{}\t{}\t{}",
            v.name,
            v.trust,
            proof.as_deref().unwrap_or("-"),
            v.expect
        )
        .unwrap();
    }
    std::fs::write(folder.join("MANIFEST"), manifest).unwrap();
}
