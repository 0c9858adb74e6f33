//! The live end of a recording: keys, tails and the seal (FORMAT.md sections 4 and 7). Bytes out; the caller does the IO.

use crate::batch::Batch;
use crate::event::{Event, PayloadError, since};
use crate::flood::Flood;
use crate::frame::Skip;
use crate::head::Head;
use crate::keys::{Domain, Entropy, EpochKey, sha256, signed_by};
use crate::leaf::LedgerLeaf;
use crate::limits::{ENVELOPE_BYTES_MAX, HEAD_BYTES_MAX, HEAD_TEXT_BYTES_MAX, TIME_MS_MAX};
use crate::main_file::Main;
use crate::ratchet::{ChunkKeys, ContentKey, Ratchet};
use crate::seal::{SealKind, Sealed, open_leaf};
use crate::segment::Segment;
use crate::tail::{TailOpen, TailState};

/// Why the writer refused. Each of them ends the session: a writer that has refused is not used again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A field of the head is longer than the format holds; see [`Head::clamp`].
    #[error("the head does not fit the format")]
    Head,
    /// The node's signature over the head does not verify under the head's node key.
    #[error("the node's signature over the head does not verify")]
    NodeSignature,
    /// An event the format cannot hold.
    #[error(transparent)]
    Event(#[from] PayloadError),
    /// A time over the format's bound.
    #[error("a time over the format's bound")]
    Time,
    /// The tail is full: it should have been closed at `SEGMENT_BYTES_TARGET`.
    #[error("the tail is full")]
    TailFull,
    /// The chunk is full: it should have been finished at its target.
    #[error("the chunk is full")]
    ChunkFull,
    /// No tail is open.
    #[error("no tail is open")]
    TailClosed,
    /// A tail is open that must be closed first.
    #[error("a tail is still open")]
    TailOpen,
    /// There is nothing in it to make a chunk of.
    #[error("a chunk without events")]
    Empty,
    /// Segments before this one are not in the main file yet.
    #[error("chunk {index} comes now, not {wanted}")]
    OutOfOrder {
        /// The chunk the main file waits for.
        index: u64,
        /// The one that was offered.
        wanted: u64,
    },
    /// The main file belongs to another session.
    #[error("the main file belongs to another session")]
    OtherSession,
    /// The tail's bytes as read back are not those that were written.
    #[error("the tail's bytes are not those that were written")]
    TailDiffers,
    /// The envelope is empty or over [`ENVELOPE_BYTES_MAX`].
    #[error("the envelope has no bytes, or more than {ENVELOPE_BYTES_MAX}")]
    Envelope,
    /// The recording is encrypted: it has no stored chunks, and its tails must be read with [`Segment::read`].
    #[error("an encrypted recording holds no stored chunks and gives nothing in clear")]
    Encrypted,
    /// The format holds no more chunks.
    #[error("the format holds no more chunks")]
    TooManyChunks,
    /// Compression failed.
    #[error("compression failed: {0}")]
    Compress(String),
    /// Reason code or text too long.
    #[error("the reason does not fit the format")]
    Reason,
}

/// A recording whose head is not signed yet.
pub struct Unopened {
    head: Head,
    key: EpochKey,
    content: Option<ContentKey>,
    entropy: Entropy,
}

impl Unopened {
    /// The head, with `k0_pub` and `salt` in it.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What the node's key must sign.
    pub fn statement(&self) -> Vec<u8> {
        self.head.statement()
    }

    /// Opens the recording: the last value is the HEAD frame, the first bytes of the main file.
    pub fn open(self, node_signature: &[u8; 64]) -> Result<(Writer, Main, Vec<u8>), WriteError> {
        let statement = self.head.encode();
        if !signed_by(&self.head.node_key, Domain::Head, &statement, node_signature) {
            return Err(WriteError::NodeSignature);
        }
        let frame = Skip::Head.frame(&[statement.as_slice(), node_signature].concat());
        let main = Main::new(&self.head, &frame);
        let open = TailOpen {
            index: 0,
            key: self.key.public(),
            previous: main.h0(),
            base_ms: 0,
        };
        let cipher = self.content.map(|key| {
            let mut ratchet = Ratchet::new(key, main.h0());
            let keys = ratchet.turn();
            Cipher { ratchet, keys }
        });
        let writer = Writer {
            opening: open.frame(&self.key),
            open_leaf: open_leaf(&self.head, main.h0(), frame.len() as u64),
            h0: main.h0(),
            head: self.head,
            entropy: self.entropy,
            index: 0,
            key: self.key,
            cipher,
            tail: None,
            last_ms: 0,
            accounts_sha256: [0; 32],
        };
        Ok((writer, main, frame))
    }
}

/// Content keys of an encrypted recording: those of the current epoch, and the ratchet to the next.
struct Cipher {
    ratchet: Ratchet,
    keys: ChunkKeys,
}

/// Writes one recording. It holds the key of the current epoch and nothing of the past.
///
/// A time earlier than the last one is raised to it: the order of taking is the order of the recording.
pub struct Writer {
    head: Head,
    h0: [u8; 32],
    open_leaf: LedgerLeaf,
    entropy: Entropy,
    index: u64,
    key: EpochKey,
    cipher: Option<Cipher>,
    /// The frame that opens the tail of chunk `index`, signed when the chunk before was closed.
    opening: Vec<u8>,
    tail: Option<TailState>,
    last_ms: u64,
    accounts_sha256: [u8; 32],
}

impl Writer {
    /// Makes the first key and the salt. `head.k0_pub` and `head.salt` are replaced.
    pub fn prepare(head: Head, entropy: Entropy) -> Result<Unopened, WriteError> {
        Writer::prepare_as(head, entropy, None)
    }

    /// The same for an encrypted recording (FORMAT.md section 10). `key` must be fresh; `envelope` are the bytes of an age
    /// file that holds it for those who may read, to be kept beside the recording: nobody else ever can, the writer
    /// included. `head.envelope_sha256` is replaced.
    pub fn prepare_encrypted(
        mut head: Head,
        entropy: Entropy,
        key: ContentKey,
        envelope: &[u8],
    ) -> Result<Unopened, WriteError> {
        if envelope.is_empty() || envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(WriteError::Envelope);
        }
        head.envelope_sha256 = Some(sha256(envelope));
        Writer::prepare_as(head, entropy, Some(key))
    }

    fn prepare_as(mut head: Head, mut entropy: Entropy, content: Option<ContentKey>) -> Result<Unopened, WriteError> {
        if head.is_encrypted() != content.is_some() {
            return Err(WriteError::Head);
        }
        let key = EpochKey::generate(&mut entropy);
        head.k0_pub = key.public();
        entropy(&mut head.salt);
        let encoded = head.encode();
        if encoded.len() + 64 > HEAD_BYTES_MAX || Head::decode(&encoded).as_ref() != Ok(&head) {
            return Err(WriteError::Head);
        }
        Ok(Unopened {
            head,
            key,
            content,
            entropy,
        })
    }

    /// The head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether the recording is encrypted: everything goes over tails and batches then, and [`Writer::into_flood`] refuses.
    pub fn is_encrypted(&self) -> bool {
        self.cipher.is_some()
    }

    /// The ledger leaf to append before the target is dialled; its salt is `head().salt`.
    pub fn open_leaf(&self) -> &LedgerLeaf {
        &self.open_leaf
    }

    /// Index of the chunk that comes next; names its tail file.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Begins the tail of the next chunk: `out` gets the first bytes of the tail file.
    pub fn open_tail(&mut self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        if self.tail.is_some() {
            return Err(WriteError::TailOpen);
        }
        self.tail = Some(TailState::open(&self.opening, out));
        Ok(())
    }

    /// Appends an event to the tail: `out` gets the bytes, sealed if the recording is encrypted.
    pub fn push(&mut self, at_ms: u64, channel: u32, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), WriteError> {
        self.may_say(event.kind())?;
        let payload = event.payload()?;
        let at_ms = self.time(at_ms)?;
        let tail = self.tail.as_mut().ok_or(WriteError::TailClosed)?;
        let keys = self.cipher.as_ref().map(|cipher| &cipher.keys);
        if !tail.push(at_ms - self.last_ms, (event.kind(), channel, &payload), keys, out) {
            return Err(WriteError::TailFull);
        }
        self.last_ms = at_ms;
        self.note_accounts(event, &payload);
        Ok(())
    }

    /// Bytes in the tail that no CHECK covers yet.
    pub fn dirty(&self) -> u64 {
        self.tail.as_ref().map_or(0, TailState::dirty)
    }

    /// Bytes of the open tail; 0 if none is open.
    pub fn tail_len(&self) -> u64 {
        self.tail.as_ref().map_or(0, TailState::len)
    }

    /// Whether a tail is open.
    pub fn tail_is_open(&self) -> bool {
        self.tail.is_some()
    }

    /// Appends a CHECK if the tail is dirty.
    pub fn check(&mut self, at_ms: u64, out: &mut Vec<u8>) -> Result<(), WriteError> {
        let at_ms = self.time(at_ms)?;
        let tail = self.tail.as_mut().ok_or(WriteError::TailClosed)?;
        if tail.dirty() > 0 {
            tail.check(at_ms - self.last_ms, at_ms, &self.key, out);
            self.last_ms = at_ms;
        }
        Ok(())
    }

    /// Ends the tail. The segment takes the epoch's key with it, so that it can be re-encoded on another thread while
    /// the writer goes on under the next key.
    pub fn close_tail(&mut self) -> Result<Segment, WriteError> {
        let tail = self.tail.take_if(|tail| tail.events > 0).ok_or(match self.tail {
            Some(_) => WriteError::Empty,
            None => WriteError::TailClosed,
        })?;
        let (sha256, len) = tail.finish();
        let next = EpochKey::generate(&mut self.entropy);
        let (index, next_key) = (self.index, next.public());
        let (key, keys) = self.turn(next, sha256);
        Ok(Segment {
            h0: self.h0,
            version: self.head.version,
            index,
            key,
            keys,
            next_key,
            sha256,
            len,
        })
    }

    /// Goes over to writing bulk data straight into the main file. Every segment must be in it, and no tail open. Not in
    /// an encrypted recording: ask [`Writer::is_encrypted`] before.
    pub fn into_flood(self, main: &Main) -> Result<Flood, WriteError> {
        if self.is_encrypted() {
            return Err(WriteError::Encrypted);
        }
        self.may_write(main)?;
        Ok(Flood::new(self))
    }

    /// Puts a batch of events into the main file as one compressed chunk, without a tail: the bytes to append to it.
    /// The batch is taken once they are written.
    pub fn put_batch(&mut self, batch: Batch, level: i32, main: &mut Main) -> Result<Vec<u8>, WriteError> {
        self.may_write(main)?;
        batch.kinds().try_for_each(|kind| self.may_say(kind))?;
        let keys = self.cipher.as_ref().map(|cipher| &cipher.keys);
        let (frame, facts, accounts) = batch.encode(self.last_ms, level, keys, &self.key.salt())?;
        let next = EpochKey::generate(&mut self.entropy);
        let (leaf, hash) = main
            .append(&facts, &self.key, next.public())
            .ok_or(WriteError::TooManyChunks)?;
        self.last_ms = facts.last_ms;
        self.accounts_sha256 = accounts.unwrap_or(self.accounts_sha256);
        drop(self.turn(next, hash));
        Ok([frame, leaf].concat())
    }

    /// Ends the recording: INDEX, SEAL and seek table to append to the main file. Nothing can follow.
    pub fn finish(self, main: &mut Main, at_ms: u64, code: &str, text: &str) -> Result<(Vec<u8>, Sealed), WriteError> {
        self.may_write(main)?;
        if code.len() > HEAD_TEXT_BYTES_MAX || text.len() > HEAD_TEXT_BYTES_MAX {
            return Err(WriteError::Reason);
        }
        let closed_ms = self.time(at_ms)?;
        let seal = main.seal(closed_ms, (code, text), self.accounts_sha256, SealKind::Sealed);
        let mut out = main.index_frame();
        out.extend(main.end_frames(&self.key.signed(Domain::Seal, seal.encode())));
        Ok((out, Sealed::new(self.head, seal, main.offset())))
    }

    /// An older version has fewer kinds of events.
    pub(crate) fn may_say(&self, kind: u8) -> Result<(), PayloadError> {
        match since(kind) > self.head.version {
            true => Err(PayloadError::UnknownKind(kind)),
            false => Ok(()),
        }
    }

    pub(crate) fn may_write(&self, main: &Main) -> Result<(), WriteError> {
        if self.tail.is_some() {
            return Err(WriteError::TailOpen);
        }
        if main.h0() != self.h0 {
            return Err(WriteError::OtherSession);
        }
        if main.chunks() != self.index {
            return Err(WriteError::OutOfOrder {
                index: main.chunks(),
                wanted: self.index,
            });
        }
        Ok(())
    }

    /// The next keys take over and the old one opens the next tail: `previous` is the digest of what came before. Gives
    /// the old ones, to be wiped with their chunk.
    pub(crate) fn turn(&mut self, next: EpochKey, previous: [u8; 32]) -> (EpochKey, Option<ChunkKeys>) {
        self.index += 1;
        let open = TailOpen {
            index: self.index,
            key: next.public(),
            previous,
            base_ms: self.last_ms,
        };
        self.opening = open.frame(&self.key);
        let keys = self.cipher.as_mut().map(|cipher| {
            let next = cipher.ratchet.turn();
            std::mem::replace(&mut cipher.keys, next)
        });
        (std::mem::replace(&mut self.key, next), keys)
    }

    pub(crate) fn next_key(&mut self) -> EpochKey {
        EpochKey::generate(&mut self.entropy)
    }

    pub(crate) fn key(&self) -> &EpochKey {
        &self.key
    }

    pub(crate) fn time(&self, at_ms: u64) -> Result<u64, WriteError> {
        if at_ms > TIME_MS_MAX {
            Err(WriteError::Time)
        } else {
            Ok(at_ms.max(self.last_ms))
        }
    }

    pub(crate) fn last_ms(&self) -> u64 {
        self.last_ms
    }

    pub(crate) fn set_last_ms(&mut self, at_ms: u64) {
        self.last_ms = at_ms;
    }

    pub(crate) fn note_accounts(&mut self, event: &Event<'_>, payload: &[u8]) {
        if let Event::Accounts(_) = event {
            self.accounts_sha256 = sha256(payload);
        }
    }
}
