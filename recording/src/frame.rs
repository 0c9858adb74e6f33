//! Frames: skippable ones around statements, and the strict walk over a chunk's zstd frame (FORMAT.md section 2).

use std::io::{BufRead, BufReader, Read};

use sha2::{Digest, Sha256};

use crate::fault::Why;
use crate::limits::{
    BLOCK_BYTES_MAX, CHUNK_RAW_BYTES_MAX, CHUNK_STORED_BYTES_MAX, CHUNKS_MAX, HEAD_BYTES_MAX, REPLACED_BYTES_MAX,
    STATEMENT_BYTES_MAX, TAIL_BYTES_MAX, WINDOW_LOG_MAX,
};

/// Magic of a zstd frame (RFC 8878 section 3.1.1).
pub(crate) const ZSTD_MAGIC: u32 = 0xFD2F_B528;
/// Magic in the footer of the seek table (zstd seekable format).
pub(crate) const SEEKABLE_MAGIC: u32 = 0x8F92_EAB1;
/// Bytes of a skippable frame's magic and length.
pub(crate) const SKIP_HEADER_BYTES: usize = 8;
const SEEK_ENTRY_BYTES: usize = 8;
const SEEK_FOOTER_BYTES: usize = 9;

/// The skippable frames of FORMAT.md section 2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    Head,
    Leaf,
    Tail,
    Index,
    Seal,
    Redaction,
    SeekTable,
    /// A chunk of an encrypted recording (section 10).
    Encrypted,
}

impl Skip {
    pub(crate) fn magic(self) -> u32 {
        match self {
            Skip::Head => 0x184D_2A50,
            Skip::Leaf => 0x184D_2A51,
            Skip::Tail => 0x184D_2A52,
            Skip::Index => 0x184D_2A53,
            Skip::Seal => 0x184D_2A54,
            Skip::Redaction => 0x184D_2A55,
            Skip::SeekTable => 0x184D_2A5E,
            Skip::Encrypted => 0x184D_2A5F,
        }
    }

    pub(crate) fn from_magic(magic: u32) -> Result<Skip, Why> {
        [
            Skip::Head,
            Skip::Leaf,
            Skip::Tail,
            Skip::Index,
            Skip::Seal,
            Skip::Redaction,
            Skip::SeekTable,
            Skip::Encrypted,
        ]
        .into_iter()
        .find(|skip| skip.magic() == magic)
        .ok_or(Why::UnknownFrame(magic))
    }

    /// The longest content such a frame may have.
    pub(crate) fn content_bytes_max(self) -> usize {
        match self {
            Skip::Head => HEAD_BYTES_MAX,
            Skip::Leaf | Skip::Seal => STATEMENT_BYTES_MAX,
            Skip::Tail => TAIL_BYTES_MAX + CHUNK_STORED_BYTES_MAX,
            Skip::Index => CHUNKS_MAX as usize * 21,
            Skip::Redaction => CHUNKS_MAX as usize * REPLACED_BYTES_MAX + STATEMENT_BYTES_MAX,
            Skip::Encrypted => CHUNK_STORED_BYTES_MAX - SKIP_HEADER_BYTES,
            Skip::SeekTable => CHUNKS_MAX as usize * 2 * SEEK_ENTRY_BYTES + (1 << 12),
        }
    }

    /// The whole frame around `content`.
    pub(crate) fn frame(self, content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(SKIP_HEADER_BYTES + content.len());
        frame.extend_from_slice(&self.magic().to_le_bytes());
        frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
        frame.extend_from_slice(content);
        frame
    }
}

/// The content of the seek table frame for frames of these (stored, raw) sizes (FORMAT.md section 3.7).
pub(crate) fn seek_table(frames: &[(u32, u32)]) -> Vec<u8> {
    let mut table = Vec::with_capacity(frames.len() * SEEK_ENTRY_BYTES + SEEK_FOOTER_BYTES);
    for (stored, raw) in frames {
        table.extend_from_slice(&stored.to_le_bytes());
        table.extend_from_slice(&raw.to_le_bytes());
    }
    table.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    table.push(0);
    table.extend_from_slice(&SEEKABLE_MAGIC.to_le_bytes());
    table
}

/// A forward reader that knows where it is.
pub(crate) struct Source<R> {
    inner: BufReader<R>,
    offset: u64,
}

impl<R: Read> Source<R> {
    pub(crate) fn new(inner: R) -> Source<R> {
        Source {
            inner: BufReader::with_capacity(1 << 16, inner),
            offset: 0,
        }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn at_end(&mut self) -> Result<bool, Why> {
        Ok(self.inner.fill_buf()?.is_empty())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.offset += N as u64;
        Ok(bytes)
    }

    pub(crate) fn u32_le(&mut self) -> Result<u32, Why> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// `n` bytes; memory grows with what is really there, not with what a header claims.
    pub(crate) fn vec(&mut self, n: usize) -> Result<Vec<u8>, Why> {
        let mut bytes = Vec::with_capacity(n.min(1 << 16));
        let read = (&mut self.inner).take(n as u64).read_to_end(&mut bytes)?;
        self.offset += read as u64;
        if read == n { Ok(bytes) } else { Err(Why::Truncated) }
    }

    /// Feeds `n` bytes to `hash` without keeping them.
    fn hash(&mut self, mut n: usize, hash: &mut Sha256) -> Result<(), Why> {
        while n > 0 {
            let ready = self.inner.fill_buf()?;
            let some = ready.get(..n.min(ready.len())).unwrap_or_default();
            if some.is_empty() {
                return Err(Why::Truncated);
            }
            let len = some.len();
            hash.update(some);
            self.inner.consume(len);
            self.offset += len as u64;
            n -= len;
        }
        Ok(())
    }

    /// The content of a skippable frame whose magic was read.
    pub(crate) fn skip_content(&mut self, skip: Skip) -> Result<Vec<u8>, Why> {
        let n = self.u32_le()? as usize;
        if n > skip.content_bytes_max() {
            return Err(Why::FrameTooLarge);
        }
        self.vec(n)
    }

    /// Walks one encrypted chunk whose magic was read: its hash and length.
    pub(crate) fn walk_encrypted(&mut self) -> Result<Walked, Why> {
        let len = self.u32_le()?;
        if len as usize > Skip::Encrypted.content_bytes_max() {
            return Err(Why::FrameTooLarge);
        }
        let mut hash = Sha256::new();
        hash.update(Skip::Encrypted.magic().to_le_bytes());
        hash.update(len.to_le_bytes());
        self.hash(len as usize, &mut hash)?;
        Ok(Walked {
            stored_len: SKIP_HEADER_BYTES as u64 + u64::from(len),
            sha256: hash.finalize().into(),
            content_size: None,
            stored_raw_len: None,
        })
    }

    /// Walks one zstd frame whose magic was read, without decompressing: its hash and length.
    pub(crate) fn walk_chunk(&mut self) -> Result<Walked, Why> {
        let start = self.offset - 4;
        let mut hash = Sha256::new();
        hash.update(ZSTD_MAGIC.to_le_bytes());
        let [descriptor] = self.array::<1>()?;
        let extra = FrameHeader::extra_bytes(descriptor)?;
        let rest = self.vec(extra)?;
        hash.update([descriptor]);
        hash.update(&rest);
        let header = FrameHeader::parse(descriptor, &rest)?;
        let [.., stored_descriptor, stored_window] = STORED_HEADER;
        let stored = descriptor == stored_descriptor && rest == [stored_window];
        if !stored && header.content_size.is_none() {
            return Err(Why::ZstdFrame("no content size"));
        }
        let mut raw_known = 0u64;
        loop {
            let head = self.array::<3>()?;
            hash.update(head);
            let block = Block::parse(head)?;
            if self.offset - start + block.stored as u64 > CHUNK_STORED_BYTES_MAX as u64 {
                return Err(Why::FrameTooLarge);
            }
            if stored && !block.may_be_stored() {
                return Err(Why::ZstdFrame(
                    "a stored chunk is raw blocks and an empty one at the end",
                ));
            }
            raw_known += block.raw_known as u64;
            if raw_known > header.content_size.unwrap_or(CHUNK_RAW_BYTES_MAX as u64) {
                return Err(Why::ZstdFrame("it expands over its bound"));
            }
            self.hash(block.stored, &mut hash)?;
            if block.last {
                break;
            }
        }
        Ok(Walked {
            stored_len: self.offset - start,
            sha256: hash.finalize().into(),
            content_size: header.content_size,
            stored_raw_len: stored.then_some(raw_known),
        })
    }
}

/// What the walk over a chunk's frame found.
pub(crate) struct Walked {
    pub(crate) stored_len: u64,
    pub(crate) sha256: [u8; 32],
    /// Content size as the frame states it, if it does.
    pub(crate) content_size: Option<u64>,
    /// Raw length, if it is a stored chunk: the one header, and raw blocks only.
    pub(crate) stored_raw_len: Option<u64>,
}

/// Refuses anything but one compressed frame that states `raw_len`, whole and alone (FORMAT.md section 3.2): what was
/// encrypted has not been walked yet.
pub(crate) fn walk_decrypted(frame: &[u8], raw_len: u64) -> Result<(), Why> {
    let cut_off = |why: Why| match why {
        Why::Truncated => Why::ZstdFrame("it is cut off"),
        other => other,
    };
    let mut source = Source::new(frame);
    if source.u32_le().map_err(cut_off)? != ZSTD_MAGIC {
        return Err(Why::ZstdFrame("not a zstd frame"));
    }
    let walked = source.walk_chunk().map_err(cut_off)?;
    if !source.at_end()? {
        return Err(Why::ZstdFrame("bytes after the frame"));
    }
    if walked.content_size != Some(raw_len) {
        return Err(Why::ZstdFrame("the content is not as long as its leaf says"));
    }
    Ok(())
}

/// What FORMAT.md section 3.2 allows in a frame header (RFC 8878 section 3.1.1.1).
struct FrameHeader {
    content_size: Option<u64>,
}

impl FrameHeader {
    /// Bytes after the descriptor; refuses what chunks may not use.
    fn extra_bytes(descriptor: u8) -> Result<usize, Why> {
        if descriptor & 0b11 != 0 {
            return Err(Why::ZstdFrame("dictionary"));
        }
        if descriptor & 0b100 != 0 {
            return Err(Why::ZstdFrame("checksum"));
        }
        if descriptor & 0b1_1000 != 0 {
            return Err(Why::ZstdFrame("reserved or unused bit"));
        }
        let single = descriptor & 0b10_0000 != 0;
        let size = match descriptor >> 6 {
            0 => usize::from(single),
            1 => 2,
            2 => 4,
            _ => return Err(Why::ZstdFrame("64-bit content size")),
        };
        Ok(size + usize::from(!single))
    }

    fn parse(descriptor: u8, rest: &[u8]) -> Result<FrameHeader, Why> {
        let mut size = rest;
        if descriptor & 0b10_0000 == 0 {
            let (window, after) = rest.split_first().ok_or(Why::Truncated)?;
            let base = 1u64 << (10 + u32::from(window >> 3));
            if base + base / 8 * u64::from(window & 7) > 1 << WINDOW_LOG_MAX {
                return Err(Why::ZstdFrame("window over its bound"));
            }
            size = after;
        }
        let content_size = match *size {
            [] => None,
            [a] => Some(u64::from(a)),
            [a, b] => Some(u64::from(u16::from_le_bytes([a, b])) + 256),
            [a, b, c, d] => Some(u64::from(u32::from_le_bytes([a, b, c, d]))),
            _ => return Err(Why::ZstdFrame("content size")),
        };
        if content_size.is_some_and(|n| n > CHUNK_RAW_BYTES_MAX as u64) {
            return Err(Why::ZstdFrame("content size over its bound"));
        }
        Ok(FrameHeader { content_size })
    }
}

/// One block header (RFC 8878 section 3.1.1.2).
struct Block {
    last: bool,
    kind: u32,
    stored: usize,
    /// Bytes it expands to, where the header tells: not for compressed ones.
    raw_known: usize,
}

const RAW: u32 = 0;
const RLE: u32 = 1;
const RESERVED: u32 = 3;

impl Block {
    fn parse([a, b, c]: [u8; 3]) -> Result<Block, Why> {
        let n = u32::from_le_bytes([a, b, c, 0]);
        let size = (n >> 3) as usize;
        if size > BLOCK_BYTES_MAX {
            return Err(Why::ZstdFrame("block over its bound"));
        }
        let kind = (n >> 1) & 3;
        let (stored, raw_known) = match kind {
            RAW => (size, size),
            RLE => (1, size),
            RESERVED => return Err(Why::ZstdFrame("reserved block type")),
            _ => (size, 0),
        };
        Ok(Block {
            last: n & 1 == 1,
            kind,
            stored,
            raw_known,
        })
    }

    /// Whether a stored chunk may have it: raw, and empty exactly if it is the last one (FORMAT.md section 3.2).
    fn may_be_stored(&self) -> bool {
        self.kind == RAW && self.last == (self.stored == 0)
    }
}

/// Frame header of a stored chunk: no content size, a window of one block (FORMAT.md section 3.2).
pub(crate) const STORED_HEADER: [u8; 6] = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0x38];
/// The empty last block that ends a stored chunk.
pub(crate) const STORED_END: [u8; 3] = [0x01, 0x00, 0x00];

/// Header of a raw block that is not the last one.
pub(crate) fn raw_block(len: usize) -> [u8; 3] {
    let [a, b, c, _] = ((len as u32) << 3).to_le_bytes();
    [a, b, c]
}

/// The content, of at most `raw_max` bytes, of the complete raw blocks of a torn stored chunk, and how many stored
/// bytes they span (FORMAT.md section 3.5). `None` if the bytes are not the start of a stored chunk.
pub(crate) fn torn_stored_content(bytes: &[u8], raw_max: usize) -> Option<(Vec<u8>, usize)> {
    let bytes = bytes.get(..CHUNK_STORED_BYTES_MAX).unwrap_or(bytes);
    let mut rest = bytes.strip_prefix(&STORED_HEADER)?;
    let mut content = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<3>() {
        let Ok(block) = Block::parse(*head) else {
            break;
        };
        let Some((raw, after)) = after.split_at_checked(block.stored) else {
            break;
        };
        if !block.may_be_stored() || content.len() + raw.len() > raw_max {
            break;
        }
        content.extend_from_slice(raw);
        rest = after;
        if block.last {
            break;
        }
    }
    Some((content, bytes.len() - rest.len()))
}

/// One zstd frame around `raw` at `level`, with its size in the header.
pub(crate) fn compress(raw: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(raw, level)
}

/// Decompresses a frame that was walked and hashed before; never gives more than `raw_len` bytes.
pub(crate) fn decompress(stored: &[u8], raw_len: usize) -> Result<Vec<u8>, Why> {
    if raw_len > CHUNK_RAW_BYTES_MAX {
        return Err(Why::FrameTooLarge);
    }
    let raw = zstd::bulk::decompress(stored, raw_len).map_err(|_| Why::Content("it does not decompress"))?;
    if raw.len() == raw_len {
        Ok(raw)
    } else {
        Err(Why::Content("it decompresses to another length"))
    }
}
