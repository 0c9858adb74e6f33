//! The REDACTION: what a redactor signs about a copy in which chunks are replaced (FORMAT.md section 3.8).

use crate::cbor::{Malformed, Reader, Writer};
use crate::chunk::{ChunkLeaf, FLAG_KEYFRAME, FLAG_LINE_KEYS};
use crate::fault::Why;
use crate::frame::{Skip, Walked};
use crate::keys::{Domain, SIGNATURE_BYTES, signed_by, split_signature};
use crate::limits::{CHUNK_RAW_BYTES_MAX, CHUNK_STORED_BYTES_MAX, CHUNKS_MAX, HEAD_TEXT_BYTES_MAX};
use crate::reader::{ChunkInfo, ChunkKind};

/// What a marker begins with that a redactor leaves where something was (FORMAT.md section 3.8).
pub const MARK: &str = "redacted: ";

const VERSION: u64 = 1;
const FLAGS_KNOWN: u64 = FLAG_KEYFRAME | FLAG_LINE_KEYS;
/// Fields of the statement.
const FIELDS: u64 = 8;
/// Items of one replaced chunk.
const ITEMS: u64 = 7;

/// Who made a redacted copy, when and why, and which chunks are not the session's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redaction {
    pub(crate) h0: [u8; 32],
    pub(crate) seal_sha256: [u8; 32],
    pub(crate) key: [u8; 32],
    pub(crate) name: String,
    pub(crate) at_wall_ms: u64,
    pub(crate) reason: String,
    /// In order of their indices.
    pub(crate) replaced: Vec<Replaced>,
}

/// A chunk that stands in the place of the one that its leaf names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) index: u64,
    pub(crate) sha256: [u8; 32],
    pub(crate) raw_len: u64,
    pub(crate) stored_len: u64,
    pub(crate) events: u64,
    pub(crate) flags: u64,
    pub(crate) marks: u64,
}

impl Redaction {
    /// The redactor's Ed25519 key.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// What the redactor calls itself; the trust file may know better.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When, in wall ms, as the redactor says.
    pub fn at_wall_ms(&self) -> u64 {
        self.at_wall_ms
    }

    /// Why, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Indices of the replaced chunks, in order; at least one.
    pub fn chunks(&self) -> impl Iterator<Item = u64> + '_ {
        self.replaced.iter().map(|replaced| replaced.index)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.map(FIELDS);
        w.key(0).uint(VERSION);
        w.key(1).bytes(&self.h0);
        w.key(2).bytes(&self.seal_sha256);
        w.key(3).bytes(&self.key);
        w.key(4).text(&self.name);
        w.key(5).uint(self.at_wall_ms);
        w.key(6).text(&self.reason);
        w.key(7).array(self.replaced.len() as u64);
        for replaced in &self.replaced {
            w.array(ITEMS).uint(replaced.index).bytes(&replaced.sha256);
            for n in [
                replaced.raw_len,
                replaced.stored_len,
                replaced.events,
                replaced.flags,
                replaced.marks,
            ] {
                w.uint(n);
            }
        }
        w.into_bytes()
    }

    pub(crate) fn decode(statement: &[u8]) -> Result<Redaction, Malformed> {
        let mut r = Reader::new(statement);
        r.map(FIELDS)?;
        if r.key(0)?.uint()? != VERSION {
            return Err(Malformed("redaction of an unknown version"));
        }
        let mut redaction = Redaction {
            h0: r.key(1)?.array_of()?,
            seal_sha256: r.key(2)?.array_of()?,
            key: r.key(3)?.array_of()?,
            name: r.key(4)?.text(HEAD_TEXT_BYTES_MAX)?.to_owned(),
            at_wall_ms: r.key(5)?.time()?,
            reason: r.key(6)?.text(HEAD_TEXT_BYTES_MAX)?.to_owned(),
            replaced: Vec::new(),
        };
        for _ in 0..r.key(7)?.array_up_to(CHUNKS_MAX as usize)? {
            let replaced = Replaced::decode(&mut r)?;
            if redaction
                .replaced
                .last()
                .is_some_and(|last| last.index >= replaced.index)
            {
                return Err(Malformed("replaced chunks not in order"));
            }
            redaction.replaced.push(replaced);
        }
        r.end()?;
        if redaction.replaced.is_empty() {
            return Err(Malformed("a redaction that replaces nothing"));
        }
        Ok(redaction)
    }

    /// Reads the frame's content and checks what can be checked before the chunks are read.
    pub(crate) fn read(content: &[u8], h0: &[u8; 32]) -> Result<Redaction, Why> {
        let (statement, signature) = split_signature(content).ok_or(Why::Malformed("no room for a signature"))?;
        let redaction = Redaction::decode(statement)?;
        if redaction.h0 != *h0 {
            return Err(Why::Redaction("it is of another session"));
        }
        if !redaction.signed(signature) {
            return Err(Why::Redaction("its signature does not verify"));
        }
        Ok(redaction)
    }

    /// Whether this is the redactor's signature.
    pub(crate) fn signed(&self, signature: &[u8; SIGNATURE_BYTES]) -> bool {
        signed_by(&self.key, Domain::Redaction, &self.encode(), signature)
    }

    /// What is said about a chunk, if it is replaced.
    pub(crate) fn of(&self, index: u64) -> Option<&Replaced> {
        let at = self.replaced.binary_search_by_key(&index, |replaced| replaced.index);
        at.ok().and_then(|at| self.replaced.get(at))
    }

    /// Checks the end of the copy: the seal that stands there, and that no more was said to be replaced than was there.
    pub(crate) fn check_end(&self, chunks: u64, seal_sha256: &[u8; 32]) -> Result<(), Why> {
        if self.seal_sha256 != *seal_sha256 {
            return Err(Why::Redaction("it is of another seal"));
        }
        if self.replaced.last().is_none_or(|last| last.index >= chunks) {
            return Err(Why::Redaction("it replaces a chunk that is not there"));
        }
        Ok(())
    }

    /// The frames of the copy, as its seek table lists them, made of those of the original.
    pub(crate) fn frames(&self, original: &[(u32, u32)], redaction_frame_len: u64) -> Vec<(u32, u32)> {
        let mut frames = original.to_vec();
        for replaced in &self.replaced {
            // HEAD, then a chunk and its leaf for each index.
            if let Some(frame) = frames.get_mut(1 + 2 * replaced.index as usize) {
                *frame = (replaced.stored_len as u32, replaced.raw_len as u32);
            }
        }
        frames.insert(1.min(frames.len()), (redaction_frame_len as u32, 0));
        frames
    }
}

impl Replaced {
    fn decode(r: &mut Reader<'_>) -> Result<Replaced, Malformed> {
        r.array(ITEMS)?;
        let replaced = Replaced {
            index: r.uint()?,
            sha256: r.array_of()?,
            raw_len: r.uint()?,
            stored_len: r.uint()?,
            events: r.uint()?,
            flags: r.uint()?,
            marks: r.uint()?,
        };
        if replaced.index >= CHUNKS_MAX {
            return Err(Malformed("more chunks than the format holds"));
        }
        if replaced.raw_len > CHUNK_RAW_BYTES_MAX as u64 || replaced.stored_len > CHUNK_STORED_BYTES_MAX as u64 {
            return Err(Malformed("chunk over its bound"));
        }
        if replaced.marks == 0 || replaced.marks > replaced.events || replaced.events > replaced.raw_len {
            return Err(Malformed("impossible number of events"));
        }
        if replaced.flags & !FLAGS_KNOWN != 0 {
            return Err(Malformed("unknown flags"));
        }
        Ok(replaced)
    }

    /// Checks the frame that stands before the leaf.
    pub(crate) fn expect(&self, walked: &Walked, leaf: &ChunkLeaf) -> Result<(), Why> {
        if walked.stored_len != self.stored_len || walked.sha256 != self.sha256 {
            return Err(Why::Redaction("the replaced chunk is not the one it names"));
        }
        if walked.sha256 == leaf.sha256 {
            return Err(Why::Redaction("it names a chunk that was not replaced"));
        }
        if walked.content_size != Some(self.raw_len) {
            return Err(Why::ZstdFrame("the content is not as long as its leaf says"));
        }
        Ok(())
    }

    /// What there is to know of the chunk, where the leaf says it of the one that it stands for.
    pub(crate) fn applied(&self, info: ChunkInfo) -> ChunkInfo {
        ChunkInfo {
            kind: ChunkKind::Compressed,
            raw_len: self.raw_len,
            stored_len: self.stored_len,
            events: self.events,
            keyframe: self.flags & FLAG_KEYFRAME != 0,
            line_keys: self.flags & FLAG_LINE_KEYS != 0,
            sha256: self.sha256,
            vouched: false,
            marks: self.marks,
            ..info
        }
    }
}

/// The frame around a signed statement.
pub(crate) fn frame(statement: Vec<u8>, signature: &[u8; SIGNATURE_BYTES]) -> Vec<u8> {
    Skip::Redaction.frame(&[statement.as_slice(), signature].concat())
}
