//! Whatever is done to a recording's bytes, it is never SEALED again and nothing panics.

mod support;

use std::io::Cursor;

use portcullis_recording::{Why, verify};
use support::{STEP, epoch_key, frames, open, out, small, trust};

const LEAF: u32 = 0x184D_2A51;
const ZSTD: u32 = 0xFD2F_B528;

fn why(file: &[u8]) -> Option<Why> {
    verify(Cursor::new(file), &trust(), None).err().map(|fault| fault.why)
}

#[test]
fn d25_every_byte_counts() {
    let file = small(1).file;
    let mut bad = file.clone();
    for at in (0..file.len()).step_by(STEP) {
        for change in [0x01, 0x80, 0xFF] {
            bad[at] = file[at] ^ change;
            assert!(why(&bad).is_some(), "byte {at} ^ {change:#x}");
        }
        bad[at] = file[at];
    }
    assert_eq!(why(&bad), None);
}

#[test]
fn d25_every_truncation_and_every_addition_counts() {
    let file = small(1).file;
    for end in (0..file.len()).step_by(STEP) {
        assert!(why(&file[..end]).is_some(), "cut at {end}");
    }
    for extra in [&[0][..], &[0; 100], b"\x50\x2A\x4D\x18\0\0\0\0", &file] {
        assert_eq!(why(&[&file, extra].concat()), Some(Why::TrailingBytes));
    }
}

#[test]
fn d25_every_frame_dropped_doubled_or_swapped_counts() {
    let file = small(1).file;
    let all = frames(&file);
    let bytes = |i: usize| &file[all[i].start..all[i].end];
    for i in 0..all.len() {
        let dropped = [&file[..all[i].start], &file[all[i].end..]].concat();
        assert!(why(&dropped).is_some(), "frame {i} dropped");
        let doubled = [&file[..all[i].end], bytes(i), &file[all[i].end..]].concat();
        assert!(why(&doubled).is_some(), "frame {i} doubled");
        for j in i + 1..all.len() {
            let swapped = [
                &file[..all[i].start],
                bytes(j),
                &file[all[i].end..all[j].start],
                bytes(i),
                &file[all[j].end..],
            ]
            .concat();
            assert!(why(&swapped).is_some(), "frames {i} and {j} swapped");
        }
    }
}

#[test]
fn d25_every_frame_of_another_session_counts() {
    let (one, two) = (small(1).file, small(2).file);
    let (a, b) = (frames(&one), frames(&two));
    for i in 0..a.len() {
        // Every run of frames of the other session in place of ours.
        for j in i..a.len() {
            let spliced = [&one[..a[i].start], &two[b[i].start..b[j].end], &one[a[j].end..]].concat();
            let whole = i == 0 && j == a.len() - 1;
            // The seek table is the same for both: nothing in it names a session.
            let same = spliced == one || spliced == two;
            assert_eq!(why(&spliced).is_none(), whole || same, "frames {i}..={j}");
        }
    }
}

#[test]
fn a_fault_names_its_place() {
    let mut file = small(1).file;
    let chunk = frames(&file).into_iter().filter(|f| f.magic == ZSTD).nth(1).unwrap();
    file[chunk.start + 700] ^= 4;
    let fault = verify(Cursor::new(&file), &trust(), None).unwrap_err();
    assert_eq!(
        (fault.why, fault.chunk, fault.span_ms),
        (Why::ChunkHash, Some(1), Some((400, Some(402))))
    );
    assert_eq!(fault.offset as usize, chunk.end);
}

#[test]
fn a_later_key_cannot_sign_an_earlier_chunk() {
    let file = small(1).file;
    let leaves: Vec<_> = frames(&file).into_iter().filter(|f| f.magic == LEAF).collect();
    for i in 0..leaves.len() {
        for other in (0..=leaves.len()).filter(|k| *k != i) {
            let mut bad = file.clone();
            let (start, end) = (leaves[i].start + 8, leaves[i].end);
            let statement = bad[start..end - 64].to_vec();
            let signed = support::sign(&epoch_key(1, other as u64), "leaf", &statement);
            bad[start..end].copy_from_slice(&signed);
            assert_eq!(why(&bad), Some(Why::LeafSignature), "leaf {i}, key {other}");
        }
    }
}

#[test]
fn trust_is_asked_for_the_time_of_the_opening() {
    let file = small(1).file;
    let verdict = |change: &dyn Fn(&mut portcullis_recording::Trust)| {
        let mut t = trust();
        change(&mut t);
        verify(Cursor::new(&file), &t, None).err().map(|fault| fault.why)
    };
    assert_eq!(verdict(&|_| {}), None);
    assert_eq!(verdict(&|t| t.nodes.clear()), Some(Why::UnknownNodeKey));
    assert_eq!(verdict(&|t| t.nodes[0].key[0] ^= 1), Some(Why::UnknownNodeKey));
    assert_eq!(
        verdict(&|t| t.nodes[0].from_wall_ms = support::OPENED + 1),
        Some(Why::NodeKeyNotValidThen)
    );
    assert_eq!(
        verdict(&|t| t.nodes[0].until_wall_ms = Some(support::OPENED)),
        Some(Why::NodeKeyNotValidThen)
    );
    assert_eq!(verdict(&|t| t.nodes[0].until_wall_ms = Some(support::OPENED + 1)), None);
    for revoked in [support::OPENED - 5, support::OPENED + 5, support::OPENED + 1_000_000] {
        assert_eq!(
            verdict(&|t| t.nodes[0].revoked_wall_ms = Some(revoked)),
            Some(Why::NodeKeyRevoked)
        );
    }
}

#[test]
fn every_byte_of_a_live_tail_counts() {
    let (mut w, _, head) = open(1);
    let mut tail = Vec::new();
    w.open_tail(&mut tail).unwrap();
    for n in 0..5 {
        w.push(n, 1, &out(b"some output"), &mut tail).unwrap();
        w.check(n, &mut tail).unwrap();
    }
    let whole = tail.len() as u64;
    for at in (0..tail.len()).step_by(STEP) {
        let mut bad = tail.clone();
        bad[at] ^= 1;
        let Ok(v) = portcullis_recording::verify_spool(Cursor::new(&head), vec![(0, bad)], &trust()) else {
            continue;
        };
        let portcullis_recording::Verdict::Prefix { vouched_tail_bytes, .. } = v.verdict() else {
            panic!()
        };
        assert!(*vouched_tail_bytes < whole, "byte {at}");
        assert!(*vouched_tail_bytes <= at as u64, "byte {at} is vouched for");
    }
}
