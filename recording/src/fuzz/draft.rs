//! A session made up from decisions, signed by its own keys wherever the decisions do not say otherwise.

use std::sync::OnceLock;

use ed25519_dalek::{Signer, SigningKey};

use super::tape::Tape;
use crate::bytes::Cursor;
use crate::cbor;
use crate::chunk::{ChunkLeaf, FLAG_KEYFRAME, FLAG_LINE_KEYS, FLAG_STORED};
use crate::columns::Content;
use crate::event::{Event, kind};
use crate::frame::{STORED_END, STORED_HEADER, Skip, Source, compress, decompress, raw_block};
use crate::head::{Head, Version};
use crate::keys::{Domain, EpochKey, sha256};
use crate::main_file::Main;
use crate::merkle;
use crate::rows::{put_row, take_row};
use crate::tail::TailOpen;
use crate::trust::{NodeKey, Trust};

/// More chunks or tails than these teach a fuzzer nothing new.
const PIECES_MAX: usize = 4;
const OPENED_WALL_MS: u64 = 1_790_000_000_000;

/// Everything that is the same in each draft, and slow to make.
pub(super) struct Cast {
    pub(super) node: SigningKey,
    pub(super) trust: Trust,
    pub(super) head: Head,
    pub(super) head_frame: Vec<u8>,
    /// Epoch keys of the session, and one of a stranger.
    keys: Vec<EpochKey>,
    publics: Vec<[u8; 32]>,
}

pub(super) fn cast() -> &'static Cast {
    static CAST: OnceLock<Cast> = OnceLock::new();
    CAST.get_or_init(|| {
        let node = SigningKey::from_bytes(&[0x11; 32]);
        let node_key = node.verifying_key().to_bytes();
        let mut drawn = 0;
        let mut entropy: crate::Entropy = Box::new(move |out: &mut [u8; 32]| {
            drawn += 1;
            *out = [drawn; 32];
        });
        let keys: Vec<EpochKey> = (0..2 * PIECES_MAX + 2)
            .map(|_| EpochKey::generate(&mut entropy))
            .collect();
        let publics: Vec<[u8; 32]> = keys.iter().map(EpochKey::public).collect();
        let head = Head {
            session_id: [7; 16],
            node: "node".into(),
            opened_wall_ms: OPENED_WALL_MS,
            k0_pub: publics[0],
            node_key,
            ..Head::default()
        };
        let signature = node.sign(&head.statement()).to_bytes();
        let trust = Trust {
            nodes: vec![NodeKey {
                name: "node".into(),
                key: node_key,
                from_wall_ms: 0,
                until_wall_ms: None,
                revoked_wall_ms: None,
            }],
            ..Trust::default()
        };
        Cast {
            head_frame: Skip::Head.frame(&[head.encode().as_slice(), &signature].concat()),
            node,
            trust,
            head,
            keys,
            publics,
        }
    })
}

/// The main file and the tails of a session, as far as it came.
pub(super) struct Draft {
    pub(super) main: Vec<u8>,
    /// What an honest writer would know of that file.
    pub(super) state: Main,
    pub(super) tails: Vec<(u64, Vec<u8>)>,
    /// Nothing was signed that is not so, and every chunk holds sound events.
    pub(super) honest: bool,
    /// SHA-256 of the last Accounts payload, or zeros.
    pub(super) accounts: [u8; 32],
    /// Leaf hash of the last leaf, or H0.
    previous: [u8; 32],
    /// Index of the epoch key that comes next.
    epoch: usize,
}

impl Draft {
    pub(super) fn new() -> Draft {
        let cast = cast();
        let state = Main::new(&cast.head, &cast.head_frame);
        Draft {
            main: cast.head_frame.clone(),
            tails: Vec::new(),
            honest: true,
            accounts: [0; 32],
            previous: state.h0(),
            state,
            epoch: 0,
        }
    }

    /// The key that must sign next.
    pub(super) fn next_key(&self) -> &'static EpochKey {
        &cast().keys[self.epoch]
    }

    /// Adds chunks while the tape says so.
    pub(super) fn chunks(&mut self, tape: &mut Tape<'_>) {
        for _ in 0..PIECES_MAX {
            if tape.u8() & 1 == 0 {
                break;
            }
            self.chunk(tape);
        }
    }

    fn chunk(&mut self, tape: &mut Tape<'_>) {
        let (form, lie) = (tape.u8(), tape.u8());
        let content = tape.blob();
        let frame = match form & 3 {
            0 => compress(content, 1).unwrap_or_default(),
            1 => stored_frame(content, form),
            // Anybody's blocks behind our header, or anybody's frame.
            2 => {
                let size = (content.len() as u32).to_le_bytes();
                [&[0x28, 0xB5, 0x2F, 0xFD, 0xA0], size.as_slice(), content].concat()
            }
            _ => content.to_vec(),
        };
        let raw = match form & 3 {
            0 | 1 => content.to_vec(),
            _ => unpacked(&frame).unwrap_or_default(),
        };
        let mut facts = Facts::of(&raw, self.state.last_ms());
        if frame.starts_with(&STORED_HEADER) {
            facts.flags |= FLAG_STORED;
        }
        if let Some(accounts) = facts.accounts {
            self.accounts = accounts;
        }
        self.honest &= facts.sound && form & 3 < 2 && !(1..=10).contains(&lie);
        let cast = cast();
        let mut leaf = ChunkLeaf {
            index: tape.about(self.state.chunks(), lie == 1),
            first_ms: tape.about(facts.first_ms, lie == 2),
            last_ms: tape.about(facts.last_ms, lie == 3),
            raw_len: tape.about(raw.len() as u64, lie == 4),
            stored_len: tape.about(frame.len() as u64, lie == 5),
            event_count: tape.about(facts.events, lie == 6),
            flags: tape.about(facts.flags, lie == 7),
            sha256: sha256(&frame),
            previous: self.previous,
            next_key: cast.publics[self.epoch + 1],
        };
        let mut signer = &cast.keys[self.epoch];
        match lie {
            8 => leaf.previous[0] ^= tape.u8() | 1,
            9 => leaf.next_key = cast.publics[usize::from(tape.u8()) % cast.publics.len()],
            10 => signer = &cast.keys[usize::from(tape.u8()) % cast.keys.len()],
            _ => {}
        }
        let statement = leaf.encode();
        let leaf_frame = Skip::Leaf.frame(&signer.signed(Domain::Leaf, statement.clone()));
        self.main.extend_from_slice(&frame);
        self.main.extend_from_slice(&leaf_frame);
        // A writer's state takes no chunk that breaks its rules; the file is refused for it.
        let sound = ChunkLeaf::decode(&statement).is_ok();
        if sound && self.state.expect(&leaf, frame.len() as u64, &sha256(&frame)).is_ok() {
            self.state.took_chunk(&leaf, &statement, leaf_frame.len() as u64);
            self.previous = merkle::leaf_hash(&statement);
        }
        self.epoch += 1;
    }

    /// Adds the beginning of a stored chunk without its leaf, if the tape says so.
    pub(super) fn torn(&mut self, tape: &mut Tape<'_>) {
        let form = tape.u8();
        if form & 1 == 1 {
            let frame = stored_frame(tape.blob(), form);
            let cut = usize::from(tape.u8());
            self.main.extend_from_slice(&frame[..frame.len().saturating_sub(cut)]);
        }
    }

    /// Adds tails while the tape says so.
    pub(super) fn tails(&mut self, tape: &mut Tape<'_>) {
        let mut base_ms = self.state.last_ms();
        let mut previous = self.previous;
        for _ in 0..PIECES_MAX {
            let more = tape.u8();
            if more & 1 == 0 {
                break;
            }
            // One that is missing.
            self.epoch += usize::from(more == 3);
            (base_ms, previous) = self.tail(tape, base_ms, previous);
            self.epoch += 1;
        }
    }

    fn tail(&mut self, tape: &mut Tape<'_>, base_ms: u64, previous: [u8; 32]) -> (u64, [u8; 32]) {
        let (cast, lie) = (cast(), tape.u8());
        let at = self.epoch.min(cast.keys.len() - 1);
        let mut open = TailOpen {
            index: tape.about(at as u64, lie == 1),
            key: cast.publics[at],
            previous,
            base_ms: tape.about(base_ms, lie == 2),
        };
        let mut signer = &cast.keys[at.saturating_sub(1)];
        match lie {
            3 => open.key = cast.publics[usize::from(tape.u8()) % cast.publics.len()],
            4 => open.previous[0] ^= tape.u8() | 1,
            5 => signer = &cast.keys[usize::from(tape.u8()) % cast.keys.len()],
            _ => {}
        }
        let mut bytes = open.frame(signer);
        let mut last_ms = open.base_ms;
        for seq in 0..3 {
            let rows = tape.blob();
            last_ms = last_kept_ms(rows, last_ms);
            bytes.extend_from_slice(rows);
            let check = tape.u8();
            if check & 1 == 0 {
                break;
            }
            let mut w = cbor::Writer::default();
            w.map(4).key(0).uint(tape.about(seq, check == 3));
            w.key(1).uint(tape.about(last_ms, check == 5));
            w.key(2).uint(tape.about(bytes.len() as u64, check == 7));
            w.key(3).bytes(&sha256(&bytes));
            put_row(
                &mut bytes,
                0,
                kind::CHECK,
                0,
                &cast.keys[at].signed(Domain::Check, w.into_bytes()),
            );
        }
        let cut = usize::from(tape.u8());
        bytes.truncate(bytes.len().saturating_sub(cut));
        let hash = sha256(&bytes);
        self.tails.push((at as u64, bytes));
        (last_ms, hash)
    }
}

/// What a writer knows of a chunk's content.
struct Facts {
    sound: bool,
    first_ms: u64,
    last_ms: u64,
    events: u64,
    flags: u64,
    accounts: Option<[u8; 32]>,
}

impl Facts {
    fn of(content: &[u8], not_before_ms: u64) -> Facts {
        let mut facts = Facts {
            sound: true,
            first_ms: not_before_ms,
            last_ms: not_before_ms,
            events: 0,
            flags: 0,
            accounts: None,
        };
        for event in Content::new(content).into_iter().flatten() {
            let Ok(event) = event else {
                facts.sound = false;
                break;
            };
            facts.sound &=
                event.kind != kind::CHECK && Event::decode(Version::LATEST, event.kind, event.payload).is_ok();
            if facts.events == 0 {
                facts.sound &= event.at_ms >= not_before_ms;
                facts.first_ms = event.at_ms;
                facts.flags |= if event.kind == kind::KEYFRAME { FLAG_KEYFRAME } else { 0 };
            }
            match event.kind {
                kind::LINE_KEY => facts.flags |= FLAG_LINE_KEYS,
                kind::ACCOUNTS => facts.accounts = Some(sha256(event.payload)),
                _ => {}
            }
            facts.events += 1;
            facts.last_ms = event.at_ms;
        }
        facts.sound &= facts.events > 0;
        facts.events = facts.events.max(1);
        facts
    }
}

/// Time of the last row that a reader keeps.
fn last_kept_ms(rows: &[u8], mut last_ms: u64) -> u64 {
    let mut cursor = Cursor::new(rows);
    while let Ok(row) = take_row(&mut cursor, last_ms) {
        if row.kind == kind::CHECK || Event::decode(Version::LATEST, row.kind, row.payload).is_err() {
            break;
        }
        last_ms = row.at_ms;
    }
    last_ms
}

/// A stored chunk in blocks of some size.
fn stored_frame(content: &[u8], form: u8) -> Vec<u8> {
    let mut frame = STORED_HEADER.to_vec();
    for block in content.chunks(16 * (usize::from(form >> 2) + 1)) {
        frame.extend_from_slice(&raw_block(block.len()));
        frame.extend_from_slice(block);
    }
    frame.extend_from_slice(&STORED_END);
    frame
}

/// The content of a frame that may be anything.
fn unpacked(frame: &[u8]) -> Option<Vec<u8>> {
    let mut source = Source::new(frame);
    source.u32_le().ok()?;
    let walked = source.walk_chunk().ok()?;
    let raw_len = walked.stored_raw_len.or(walked.content_size)?;
    decompress(frame.get(..walked.stored_len as usize)?, raw_len as usize).ok()
}
