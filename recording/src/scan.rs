//! The one walk over a recording's frames, front to back (FORMAT.md sections 2, 3 and 8).

use std::io::Read;

use sha2::{Digest, Sha256};

use crate::chunk::{ChunkLeaf, FLAG_KEYFRAME, FLAG_LINE_KEYS, FLAG_STORED};
use crate::fault::{Fault, Why};
use crate::frame::{SKIP_HEADER_BYTES, Skip, Source, ZSTD_MAGIC, seek_table};
use crate::head::Head;
use crate::keys::{Domain, SIGNATURE_BYTES, sha256, signed_by, split_signature};
use crate::limits::TAILS_MAX;
use crate::main_file::Main;
use crate::reader::{ChunkInfo, ChunkKind, Place};
use crate::redaction::Redaction;
use crate::seal::{Seal, SealKind};
use crate::tail::{TAIL_FILE, TORN_STORED};
use crate::tail_chain::TailChain;
use crate::trust::Trust;

/// What the walk found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) head: Head,
    pub(crate) main: Main,
    pub(crate) chunks: Vec<ChunkInfo>,
    /// What a redactor says, if it is a redacted copy. `main` is what the original is all the same.
    pub(crate) redaction: Option<Redaction>,
    /// Of a finished one.
    pub(crate) layout: Option<Layout>,
    /// Key that the next leaf must be signed by.
    key: [u8; 32],
    /// Key of the last leaf; the first key if there is none.
    previous_key: [u8; 32],
    pub(crate) stop: Stop,
}

/// How a finished recording lies in its file: what a copy of it is made from.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Stored and raw bytes of every frame of the original but the seek table.
    pub(crate) frames: Vec<(u32, u32)>,
    /// SHA-256 of the SEAL frame.
    pub(crate) seal_sha256: [u8; 32],
    /// Where the seek table begins.
    pub(crate) seek_table_at: u64,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// At the end of a finished recording. `file_bytes` are those of the original.
    Sealed { seal: Box<Seal>, file_bytes: u64 },
    /// Before that: the finished chunks end at `good`, and this is what came after.
    Open { good: u64, fault: Fault },
}

impl Scan {
    /// What tails after the finished chunks must be like.
    pub(crate) fn tail_chain(&self) -> TailChain {
        TailChain::new(&self.main, self.previous_key, self.key)
    }
}

/// Walks the frames. Without `trust` the node key is not asked about; everything else is checked all the same. A fault
/// in the HEAD is an error; one after it is where the walk stopped.
pub(crate) fn scan<R: Read>(reader: R, trust: Option<&Trust>) -> Result<Scan, Fault> {
    let mut source = Source::new(reader);
    let (head, main) = read_head(&mut source, trust).map_err(|why| Fault::at(0, why))?;
    let key = head.k0_pub;
    let open = Stop::Open {
        good: main.offset(),
        fault: Fault::at(main.offset(), Why::NotSealed),
    };
    let mut scan = Scan {
        head,
        main,
        chunks: Vec::new(),
        redaction: None,
        layout: None,
        key,
        previous_key: key,
        stop: open,
    };
    let mut walk = Walk {
        scan: &mut scan,
        source: &mut source,
        tails: None,
    };
    let stop = match walk.frames() {
        Ok((seal, file_bytes)) => Stop::Sealed {
            seal: Box::new(seal),
            file_bytes,
        },
        Err(fault) => {
            scan.chunks.retain(|info| info.kind.is_finished());
            Stop::Open {
                good: scan.main.rewind(),
                fault,
            }
        }
    };
    scan.stop = stop;
    Ok(scan)
}

fn read_head<R: Read>(source: &mut Source<R>, trust: Option<&Trust>) -> Result<(Head, Main), Why> {
    if source.u32_le().map_err(|_| Why::NotARecording)? != Skip::Head.magic() {
        return Err(Why::NotARecording);
    }
    let content = source.skip_content(Skip::Head)?;
    let (statement, signature) = split_signature(&content).ok_or(Why::Malformed("no room for a signature"))?;
    let head = Head::decode(statement)?;
    if !signed_by(&head.node_key, Domain::Head, statement, signature) {
        return Err(Why::HeadSignature);
    }
    if let Some(trust) = trust {
        trust.standing(&head.node_key, head.opened_wall_ms)?;
    }
    let main = Main::new(&head, &Skip::Head.frame(&content));
    Ok((head, main))
}

struct Walk<'s, R> {
    scan: &'s mut Scan,
    source: &'s mut Source<R>,
    tails: Option<(TailChain, Sha256)>,
}

impl<R: Read> Walk<'_, R> {
    fn frames(&mut self) -> Result<(Seal, u64), Fault> {
        loop {
            let offset = self.source.offset();
            let fault = |why: Why| Fault::at(offset, why);
            if self.source.at_end().map_err(fault)? {
                return Err(fault(Why::NotSealed));
            }
            let magic = self.source.u32_le().map_err(fault)?;
            let encrypted = self.scan.main.is_encrypted();
            if magic == ZSTD_MAGIC {
                if self.tails.is_some() || encrypted {
                    return Err(fault(Why::FrameOutOfPlace));
                }
                self.chunk(offset)?;
                continue;
            }
            match Skip::from_magic(magic).map_err(fault)? {
                Skip::Tail => {
                    let (index, last_ms) = self.tails_so_far();
                    self.tail(offset)
                        .map_err(|why| fault(why).in_chunk(index).spanning(last_ms, None))?;
                }
                Skip::Encrypted if encrypted && self.tails.is_none() => self.chunk(offset)?,
                Skip::Index => return self.end(offset),
                Skip::Redaction => self.redaction().map_err(fault)?,
                Skip::Head | Skip::Leaf | Skip::Seal | Skip::SeekTable | Skip::Encrypted => {
                    return Err(fault(Why::FrameOutOfPlace));
                }
            }
        }
    }

    /// The REDACTION of a copy, right behind the HEAD, whose magic was read.
    fn redaction(&mut self) -> Result<(), Why> {
        let first = self.scan.main.chunks() == 0 && self.tails.is_none();
        if !first || self.scan.redaction.is_some() {
            return Err(Why::FrameOutOfPlace);
        }
        let content = self.source.skip_content(Skip::Redaction)?;
        if self.scan.main.is_encrypted() {
            return Err(Why::Redaction("an encrypted recording has none"));
        }
        self.scan.redaction = Some(Redaction::read(&content, &self.scan.main.h0())?);
        Ok(())
    }

    /// Index of the tail that comes next, and the last time before it.
    fn tails_so_far(&self) -> (u64, u64) {
        let main = &self.scan.main;
        self.tails
            .as_ref()
            .map_or((main.chunks(), main.last_ms()), |(chain, _)| {
                (chain.index(), chain.last_ms())
            })
    }

    /// A chunk, whose magic was read, and its leaf.
    fn chunk(&mut self, offset: u64) -> Result<(), Fault> {
        let index = self.scan.main.chunks();
        let last_ms = self.scan.main.last_ms();
        let here = |why: Why| Fault::at(offset, why).in_chunk(index).spanning(last_ms, None);
        let encrypted = self.scan.main.is_encrypted();
        let walked = match encrypted {
            true => self.source.walk_encrypted(),
            false => self.source.walk_chunk(),
        };
        let walked = walked.map_err(here)?;
        let leaf_offset = self.source.offset();
        let there = |why: Why| Fault::at(leaf_offset, why).in_chunk(index).spanning(last_ms, None);
        if self.source.at_end().map_err(there)? {
            return Err(there(Why::Truncated));
        }
        match Skip::from_magic(self.source.u32_le().map_err(there)?).map_err(there)? {
            Skip::Leaf => {}
            _ => return Err(there(Why::FrameOutOfPlace)),
        }
        let content = self.source.skip_content(Skip::Leaf).map_err(there)?;
        let (statement, signature) =
            split_signature(&content).ok_or(there(Why::Malformed("no room for a signature")))?;
        let leaf = ChunkLeaf::decode(statement).map_err(|e| there(e.into()))?;
        let signed = signed_by(&self.scan.key, Domain::Leaf, statement, signature);
        // The times of a leaf that nobody has signed are nobody's word.
        let spanning = |why: Why| match signed {
            true => there(why).spanning(leaf.first_ms, Some(leaf.last_ms)),
            false => there(why),
        };
        let replaced = self.scan.redaction.as_ref().and_then(|r| r.of(index)).copied();
        let (stored_len, sha256) = match replaced {
            Some(_) => (leaf.stored_len, leaf.sha256),
            None => (walked.stored_len, walked.sha256),
        };
        self.scan.main.expect(&leaf, stored_len, &sha256).map_err(spanning)?;
        if !signed {
            return Err(spanning(Why::LeafSignature));
        }
        if leaf.next_key == self.scan.key {
            return Err(spanning(Why::LeafKeyReused));
        }
        let stored = leaf.flags & FLAG_STORED != 0;
        if let Some(replaced) = &replaced {
            replaced.expect(&walked, &leaf).map_err(spanning)?;
        } else {
            let raw_len = match (encrypted, stored) {
                (true, true) => return Err(spanning(Why::Malformed("a stored chunk in an encrypted recording"))),
                // What was encrypted is looked at when it is read.
                (true, false) => Some(leaf.raw_len),
                (false, true) => walked.stored_raw_len,
                (false, false) => walked.content_size,
            };
            if raw_len != Some(leaf.raw_len) {
                return Err(spanning(Why::ZstdFrame("the content is not as long as its leaf says")));
            }
        }
        let leaf_frame_len = (SKIP_HEADER_BYTES + content.len()) as u64;
        let info = ChunkInfo {
            kind: match (encrypted, stored) {
                (true, _) => ChunkKind::Encrypted,
                (false, true) => ChunkKind::Stored,
                (false, false) => ChunkKind::Compressed,
            },
            index,
            first_ms: leaf.first_ms,
            last_ms: leaf.last_ms,
            raw_len: leaf.raw_len,
            stored_len: leaf.stored_len,
            events: leaf.event_count,
            keyframe: leaf.flags & FLAG_KEYFRAME != 0,
            vouched: true,
            offset,
            leaf_frame_len,
            line_keys: leaf.flags & FLAG_LINE_KEYS != 0,
            sha256: leaf.sha256,
            place: Place::File,
            marks: 0,
        };
        let info = replaced.map_or(info.clone(), |replaced| replaced.applied(info));
        self.scan.chunks.push(info);
        self.scan.main.took_chunk(&leaf, statement, leaf_frame_len);
        self.scan.previous_key = std::mem::replace(&mut self.scan.key, leaf.next_key);
        Ok(())
    }

    /// A TAIL frame of a recovered file, whose magic was read.
    fn tail(&mut self, offset: u64) -> Result<(), Why> {
        let content = self.source.skip_content(Skip::Tail)?;
        let fresh = || (self.scan.tail_chain(), Sha256::new());
        let (chain, hash) = match &mut self.tails {
            Some(tails) => tails,
            none => none.insert(fresh()),
        };
        if chain.taken() >= TAILS_MAX {
            return Err(Why::FrameTooLarge);
        }
        let (kind, bytes) = content.split_first().ok_or(Why::Malformed("empty tail"))?;
        let info = match *kind {
            TAIL_FILE => chain.take_tail(bytes)?,
            TORN_STORED => chain.take_torn(bytes)?,
            _ => return Err(Why::Malformed("unknown kind of tail")),
        };
        if info.stored_len != bytes.len() as u64 {
            return Err(Why::Malformed("a torn record in a recovered tail"));
        }
        hash.update(Skip::Tail.frame(&content));
        self.scan.main.took_frame((SKIP_HEADER_BYTES + content.len()) as u64, 0);
        self.scan
            .chunks
            .push(info.at_offset(offset + SKIP_HEADER_BYTES as u64 + 1));
        Ok(())
    }

    /// INDEX, whose magic was read, SEAL and seek table.
    fn end(&mut self, offset: u64) -> Result<(Seal, u64), Fault> {
        let here = |why: Why| Fault::at(offset, why);
        let index = self.source.skip_content(Skip::Index).map_err(here)?;
        if index != self.scan.main.index_content() {
            return Err(here(Why::Index));
        }
        self.scan.main.took_frame((SKIP_HEADER_BYTES + index.len()) as u64, 0);

        let offset = self.source.offset();
        let here = |why: Why| Fault::at(offset, why);
        let content = self.expected(Skip::Seal).map_err(here)?;
        let seal = self.seal(&content).map_err(here)?;
        self.scan.main.took_frame((SKIP_HEADER_BYTES + content.len()) as u64, 0);

        let offset = self.source.offset();
        let here = |why: Why| Fault::at(offset, why);
        let seal_sha256 = sha256(&Skip::Seal.frame(&content));
        let original = self.scan.main.frames().to_vec();
        let frames = match &self.scan.redaction {
            None => original.clone(),
            Some(redaction) => {
                redaction
                    .check_end(self.scan.main.chunks(), &seal_sha256)
                    .map_err(here)?;
                let redaction_frame_len = SKIP_HEADER_BYTES + redaction.encode().len() + SIGNATURE_BYTES;
                redaction.frames(&original, redaction_frame_len as u64)
            }
        };
        let table = self.expected(Skip::SeekTable).map_err(here)?;
        if table != seek_table(&frames) {
            return Err(here(Why::SeekTable));
        }
        let end = self.source.offset();
        if !self.source.at_end().map_err(here)? {
            return Err(Fault::at(end, Why::TrailingBytes));
        }
        let original_bytes = self.scan.main.offset() + (SKIP_HEADER_BYTES + seek_table(&original).len()) as u64;
        self.scan.layout = Some(Layout {
            frames: original,
            seal_sha256,
            seek_table_at: offset,
        });
        Ok((seal, original_bytes))
    }

    fn expected(&mut self, skip: Skip) -> Result<Vec<u8>, Why> {
        if self.source.at_end()? {
            return Err(Why::Truncated);
        }
        let magic = self.source.u32_le()?;
        if Skip::from_magic(magic)? != skip {
            return Err(Why::FrameOutOfPlace);
        }
        self.source.skip_content(skip)
    }

    fn seal(&mut self, content: &[u8]) -> Result<Seal, Why> {
        let (statement, signature) = split_signature(content).ok_or(Why::Malformed("no room for a signature"))?;
        let seal = Seal::decode(statement)?;
        let main = &self.scan.main;
        if seal.h0 != main.h0() {
            return Err(Why::SealHead);
        }
        let (key, last_ms) = match &seal.kind {
            SealKind::Sealed => {
                if self.tails.is_some() {
                    return Err(Why::FrameOutOfPlace);
                }
                (self.scan.key, main.last_ms())
            }
            SealKind::Recovered {
                vouched_chunks,
                vouched_tail_bytes,
                vouched_ms,
                tails_sha256,
                node_key,
            } => {
                let (chain, hash) = self
                    .tails
                    .take()
                    .unwrap_or_else(|| (self.scan.tail_chain(), Sha256::new()));
                if *vouched_chunks != main.chunks() {
                    return Err(Why::SealCount("vouched chunks"));
                }
                if *vouched_tail_bytes != chain.vouched_bytes() || *vouched_ms != chain.vouched_ms() {
                    return Err(Why::SealCount("vouched tail bytes"));
                }
                if *tails_sha256 != <[u8; 32]>::from(hash.finalize()) {
                    return Err(Why::SealCount("tails"));
                }
                if seal.accounts_sha256 != [0; 32] {
                    return Err(Why::SealCount("accounts"));
                }
                (*node_key, chain.last_ms())
            }
        };
        if !signed_by(&key, Domain::Seal, statement, signature) {
            return Err(Why::SealSignature);
        }
        if seal.closed_ms < last_ms {
            return Err(Why::TimesBackwards);
        }
        let recomputed = main.seal(
            seal.closed_ms,
            (&seal.code, &seal.text),
            seal.accounts_sha256,
            seal.kind.clone(),
        );
        if seal.chunks != recomputed.chunks {
            return Err(Why::SealCount("chunks"));
        }
        if seal.raw_bytes != recomputed.raw_bytes {
            return Err(Why::SealCount("raw bytes"));
        }
        if seal.events != recomputed.events {
            return Err(Why::SealCount("events"));
        }
        if seal.root != recomputed.root {
            return Err(Why::SealRoot);
        }
        if seal != recomputed {
            return Err(Why::Index);
        }
        Ok(seal)
    }
}
