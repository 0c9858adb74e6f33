//! Finished files: sound ones, and those in which something was cut, added, moved, forged or overstated.

use ed25519_dalek::SigningKey;

use crate::support::*;
use crate::{PLAIN, Vector};

/// What is wrong with the blocks of a stored chunk.
const STORED_BLOCKS: &str = "INVALID: zstd frame refused: a stored chunk is raw blocks and an empty one at the end";

pub fn hello() -> Vec<u8> {
    rows(&[(0x01, b"hello")])
}

fn cut(file: &[u8], frame: usize) -> Vec<u8> {
    let f = &frames(file)[frame];
    [&file[..f.start], &file[f.end..]].concat()
}

pub fn flip(file: &[u8], at: usize) -> Vec<u8> {
    let mut bad = file.to_vec();
    bad[at] ^= 1;
    bad
}

/// The HEAD frame with its statement changed and signed again by `key`.
pub fn resigned_head(change: impl Fn(&mut Vec<u8>), key: &SigningKey) -> Vec<u8> {
    let frame = Forger::new(1).head_frame;
    let mut statement = frame[8..frame.len() - 64].to_vec();
    change(&mut statement);
    skip(0x184D_2A50, &sign(key, "head", &statement))
}

pub fn replace(bytes: &mut [u8], from: &[u8], to: &[u8]) {
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

pub fn forged(change: impl Fn(&mut Forger)) -> Vec<u8> {
    let mut forger = Forger::new(1)
        .content(&hello(), 1)
        .content(&hello(), 1)
        .content(&hello(), 1);
    change(&mut forger);
    forger.build()
}

#[rustfmt::skip]
pub fn vectors() -> Vec<Vector> {
    let mut all = Vec::new();
    let mut add = |name, file: Vec<u8>, expect| all.push(Vector::file(name, file, PLAIN, None, expect));
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
    add("unknown_skippable_frame", [&good[..f[3].start], &skip(0x184D_2A56, b"hi"), &good[f[3].start..]].concat(), "INVALID: unknown frame 0x184d2a56");
    add("encrypted_frame_among_clear_ones", [&good[..f[3].start], &skip(0x184D_2A5F, b"hi"), &good[f[3].start..]].concat(), "INVALID: a frame where it may not be");
    add("frame_length_beyond_all_bounds", [&good[..f[0].start + 4], &[0xFF; 4], &good[8..]].concat(), "INVALID: a frame over its bound");
    add("seek_table_with_another_entry", flip(&good, f[seal + 1].start + 8), "INVALID: the seek table is not the one the frames give");
    add("seek_table_says_checksums", { let mut b = good.clone(); let n = b.len(); b[n - 5] = 0x80; b }, "INVALID: the seek table is not the one the frames give");

    // Keys.
    add("head_signed_by_a_stranger", { let mut x = Forger::new(1); x.head_frame = resigned_head(|_| {}, &epoch_key(9, 9)); x.build() }, "INVALID: the node's signature over the head does not verify");
    add("head_of_version_4", { let mut x = Forger::new(1); x.head_frame = resigned_head(|s| s[2] = 4, &node()); x.build() }, "INVALID: malformed: head version is none of 1, 2 and 3");
    add("head_of_version_2_without_an_envelope", { let mut x = Forger::new(1); x.head_frame = resigned_head(|s| s[2] = 2, &node()); x.build() }, "INVALID: malformed: head of version 2 without an envelope");
    add("head_of_version_1_with_an_envelope", { let mut x = Forger::new(1); x.head_frame = resigned_head(|s| { s[0] += 1; s.extend([0x15, 0x58, 32]); s.extend([7; 32]); }, &node()); x.build() }, "INVALID: malformed: head of version 1 with an envelope");
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

    // Stored chunks.
    let stored = |frame: Vec<u8>| Forger::new(1).chunk(frame, len, 1, 2).build();
    let (front, back) = hello.split_at(4);
    add("stored_chunk", stored([stored_frame(&[front, back]), STORED_END.to_vec()].concat()), "SEALED");
    add("stored_chunk_whose_last_block_is_not_empty", stored([stored_frame(&[front]), last_raw(back)].concat()), STORED_BLOCKS);
    add("stored_chunk_with_an_empty_block_before_the_last", stored([stored_frame(&[front, b"", back]), STORED_END.to_vec()].concat()), STORED_BLOCKS);
    add("stored_chunk_with_a_run", stored([stored_frame(&[front]), vec![0x0A, 0, 0, b'x'], STORED_END.to_vec()].concat()), STORED_BLOCKS);
    add("stored_chunk_without_its_flag", framed([stored_frame(&[&hello]), STORED_END.to_vec()].concat(), len), "INVALID: zstd frame refused: the content is not as long as its leaf says");
    add("zstd_without_content_size", framed([&[0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x40][..], &last_raw(&hello)].concat(), len), "INVALID: zstd frame refused: no content size");

    // Flags and counts that are signed and wrong.
    let key = [&[0x82, 1, 0x58, 32][..], &[7; 32]].concat();
    let line_key = |flags| { let raw = rows(&[(0x12, &key)]); Forger::new(1).chunk(zstd_frame(raw.len() as u32, &last_raw(&raw)), raw.len() as u64, 1, flags).build() };
    add("line_key_with_its_flag", line_key(4), "SEALED");
    add("line_key_without_its_flag", line_key(0), "INVALID content: the chunk's content is not what its leaf states: the line key flag is wrong");
    add("leaf_claims_a_line_key", forged(|x| x.leaf = Box::new(|l| l.flags = 4)), "INVALID content: the chunk's content is not what its leaf states: the line key flag is wrong");
    add("leaf_counts_no_events", forged(|x| x.leaf = Box::new(|l| l.events = 0)), "INVALID: malformed: impossible number of events");
    add("leaf_counts_more_events_than_bytes", forged(|x| x.leaf = Box::new(|l| l.events = l.raw_len + 1)), "INVALID: malformed: impossible number of events");
    add("leaf_hands_over_to_a_small_order_key", small_order_seal(), "INVALID: the seal's signature does not verify");
    let accounts = rows(&[(0x33, &[0x80])]);
    add("accounts", { let mut x = Forger::new(1).content(&accounts, 1); x.accounts = sha256(&[0x80]); x.build() }, "SEALED");
    add("seal_of_other_accounts", Forger::new(1).content(&accounts, 1).build(), "INVALID content: the chunk's content is not what its leaf states: the accounts are not those that were sealed");
    add("keyframe_among_events", Forger::new(1).content(&rows(&[(0x01, b"a"), (0x30, &[0x83, 1, 1, 0x60])]), 2).build(), "SEALED");
    add("first_event_after_the_first_time", with_content(&[0, 4, 1, 1, 1, 0]), "INVALID content: malformed: the first event is not at the first time");
    add("first_event_after_the_first_time_in_columns", with_content(&[1, 4, 1, 1, 1, 1, 1, 1, 1, 0]), "INVALID content: malformed: the first event is not at the first time");
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

/// A last leaf that hands over to the neutral element, and a seal under it.
fn small_order_seal() -> Vec<u8> {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut forger = Forger::new(1).content(&hello(), 1);
    forger.leaf = Box::new(move |leaf| leaf.next = neutral);
    let mut file = forger.build();
    let seal = frames(&file)[4].clone();
    let signature = &mut file[seal.end - 64..seal.end];
    signature.fill(0);
    signature[0] = 1;
    file
}
