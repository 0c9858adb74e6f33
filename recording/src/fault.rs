//! What is wrong with a recording, and where (FORMAT.md section 8).

use std::fmt;

use crate::cbor::Malformed;
use crate::event::PayloadError;

/// The first thing found wrong. Its display begins with `INVALID`, or with `LOCKED` if a key is all that is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// What it is.
    pub why: Why,
    /// Byte offset of the frame it was found in.
    pub offset: u64,
    /// The chunk it concerns, if one.
    pub chunk: Option<u64>,
    /// The time range of that chunk: first and last ms of its leaf if that verifies, else from the last verified event on.
    pub span_ms: Option<(u64, Option<u64>)>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.why == Why::Locked {
            return write!(f, "LOCKED: {}", self.why);
        }
        write!(f, "INVALID at byte {}", self.offset)?;
        if let Some(chunk) = self.chunk {
            write!(f, ", chunk {chunk}")?;
        }
        match self.span_ms {
            Some((from, Some(to))) => write!(f, ", {from} ms to {to} ms")?,
            Some((from, None)) => write!(f, ", from {from} ms on")?,
            None => {}
        }
        write!(f, ": {}", self.why)
    }
}

impl Fault {
    pub(crate) fn at(offset: u64, why: impl Into<Why>) -> Fault {
        Fault {
            why: why.into(),
            offset,
            chunk: None,
            span_ms: None,
        }
    }

    pub(crate) fn in_chunk(mut self, chunk: u64) -> Fault {
        self.chunk = Some(chunk);
        self
    }

    pub(crate) fn spanning(mut self, from_ms: u64, to_ms: Option<u64>) -> Fault {
        self.span_ms = Some((from_ms, to_ms));
        self
    }
}

/// What can be wrong, by the rule of FORMAT.md section 8 that it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The reader failed; says nothing about the recording.
    #[error("cannot read: {0}")]
    Io(String),
    /// Does not begin with a HEAD frame.
    #[error("not a recording")]
    NotARecording,
    /// Ends within a frame.
    #[error("the file ends within a frame")]
    Truncated,
    /// Ends before a SEAL; only a spool may.
    #[error("there is no seal")]
    NotSealed,
    /// A frame this version does not know.
    #[error("unknown frame {0:#010x}")]
    UnknownFrame(u32),
    /// A known frame where it may not be.
    #[error("a frame where it may not be")]
    FrameOutOfPlace,
    /// A frame longer than its bound.
    #[error("a frame over its bound")]
    FrameTooLarge,
    /// Bytes that are not in the one form the format allows.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// The zstd frame uses something chunks may not use.
    #[error("zstd frame refused: {0}")]
    ZstdFrame(&'static str),
    /// The node's signature over the HEAD does not verify.
    #[error("the node's signature over the head does not verify")]
    HeadSignature,
    /// The node key is not in the trust file.
    #[error("the node key is not trusted")]
    UnknownNodeKey,
    /// The node key was not valid when the session opened.
    #[error("the node key was not valid then")]
    NodeKeyNotValidThen,
    /// The node key is revoked, and no cosigned ledger proof shows that the recording is older.
    #[error("the node key is revoked and no cosigned proof is older than that")]
    NodeKeyRevoked,
    /// Stored bytes do not have the hash the leaf states.
    #[error("the chunk's bytes are not those that were signed")]
    ChunkHash,
    /// Stored length differs from the leaf's.
    #[error("the chunk's length is not the one that was signed")]
    ChunkLength,
    /// A leaf's signature does not verify under the key of its own epoch.
    #[error("the leaf is not signed by the key of its epoch")]
    LeafSignature,
    /// A leaf has another index than its place.
    #[error("the leaf has index {found}, not {expected}")]
    LeafIndex {
        /// Index by place.
        expected: u64,
        /// Index stated.
        found: u64,
    },
    /// A leaf does not name the leaf before it.
    #[error("the leaf does not follow the one before it")]
    LeafPrevious,
    /// A leaf hands over to the key that signed it.
    #[error("the leaf hands over to its own key")]
    LeafKeyReused,
    /// Times run backwards.
    #[error("times run backwards")]
    TimesBackwards,
    /// A tail is not opened by the key it follows.
    #[error("the tail is not opened by the key before it")]
    TailSignature,
    /// The opening of a tail is cut off: in a spool it is still being written.
    #[error("the tail's opening is cut off")]
    TailUnopened,
    /// A tail is not the one that must come next.
    #[error("the tail is not the next one")]
    TailOrder,
    /// A tail goes on with the key that opened it.
    #[error("the tail goes on with the key that opened it")]
    TailKeyReused,
    /// A check's signature or count is wrong.
    #[error("a check in the tail does not verify")]
    TailCheck,
    /// The INDEX is not the one recomputed from the leaves.
    #[error("the index is not the one the chunks give")]
    Index,
    /// The SEAL is of another session.
    #[error("the seal belongs to another session")]
    SealHead,
    /// The SEAL's counts differ from what is there.
    #[error("the seal counts {0} differently")]
    SealCount(&'static str),
    /// The SEAL's Merkle root differs.
    #[error("the seal's root is not that of the chunks")]
    SealRoot,
    /// The SEAL's signature does not verify.
    #[error("the seal's signature does not verify")]
    SealSignature,
    /// The REDACTION does not fit the file it is in.
    #[error("the redaction does not hold: {0}")]
    Redaction(&'static str),
    /// The redactor's key is not in the trust file.
    #[error("the redactor's key is not trusted")]
    UnknownRedactor,
    /// The redactor's key was not valid when the copy was made, or is revoked.
    #[error("the redactor's key was not valid then, or is revoked")]
    RedactorNotValidThen,
    /// The seek table is not the one recomputed.
    #[error("the seek table is not the one the frames give")]
    SeekTable,
    /// Bytes after the seek table.
    #[error("bytes after the end")]
    TrailingBytes,
    /// A chunk does not decompress to what the leaf states.
    #[error("the chunk's content is not what its leaf states: {0}")]
    Content(&'static str),
    /// An event that breaks its own rules.
    #[error("event: {0}")]
    Event(PayloadError),
    /// The content is encrypted and nobody gave its key; says nothing about the recording.
    #[error("the content is encrypted; the age file beside the recording (FILE.age) opens it for its recipients")]
    Locked,
    /// The content key given does not open what the session's keys have signed.
    #[error("the content key does not open it")]
    DoesNotOpen,
    /// No such chunk.
    #[error("there is no such chunk")]
    NoSuchChunk,
}

impl From<Malformed> for Why {
    fn from(Malformed(what): Malformed) -> Why {
        Why::Malformed(what)
    }
}

impl From<PayloadError> for Why {
    fn from(e: PayloadError) -> Why {
        Why::Event(e)
    }
}

impl From<std::io::Error> for Why {
    fn from(e: std::io::Error) -> Why {
        if e.kind() == std::io::ErrorKind::UnexpectedEof {
            Why::Truncated
        } else {
            Why::Io(e.to_string())
        }
    }
}
