//! After a crash: the finished chunks and the left-over tails become a recording sealed by the node (FORMAT.md section
//! 3.5). The session's keys are gone; the seal says how far they vouch.

use std::io::{Read, Seek, SeekFrom};

use sha2::{Digest, Sha256};

use crate::fault::{Fault, Why};
use crate::frame::Skip;
use crate::head::Head;
use crate::keys::{Domain, signed_by};
use crate::limits::{HEAD_TEXT_BYTES_MAX, TAILS_MAX};
use crate::main_file::Main;
use crate::scan::{Stop, scan};
use crate::seal::{Seal, SealKind, Sealed};
use crate::tail::{TAIL_FILE, TORN_STORED};
use crate::tail_chain::TailChain;

/// Why there is nothing to recover.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Not even the HEAD is whole.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It is a finished recording: only the move to the archive is missing.
    #[error("the recording is sealed already")]
    AlreadySealed(Box<Sealed>),
    /// Reason code or text too long.
    #[error("the reason does not fit the format")]
    Reason,
    /// The signature does not verify under the node key given.
    #[error("the node's signature over the seal does not verify")]
    NodeSignature,
}

/// Something of the spool that the recording will not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The tail it was in; `None` for the end of the main file.
    pub tail: Option<u64>,
    /// How many bytes; for the main file everything behind the last finished chunk.
    pub bytes: u64,
    /// Why, unless it was merely torn.
    pub why: Why,
}

/// A recovered recording that the node has not signed yet.
#[derive(Debug)]
pub struct Unsigned {
    head: Head,
    main: Main,
    keep_bytes: u64,
    append: Vec<u8>,
    seal: Seal,
    node_key: [u8; 32],
    left_out: Vec<LeftOut>,
}

/// A recovered recording: the first `keep_bytes` of the main file and then `append`.
///
/// Write it to another file and rename that one: `append` holds what is cut off the main file, so a crash between
/// cutting and appending would lose it.
#[derive(Debug)]
pub struct Recovery {
    /// Bytes of the main file that stay.
    pub keep_bytes: u64,
    /// What follows them.
    pub append: Vec<u8>,
    /// What the ledger takes.
    pub sealed: Sealed,
}

/// Puts together what a crashed session has left: its main file and its tails with their indices. `node_key` will
/// sign, at any time after the crash and on any node that has the spool.
pub fn recover<R: Read + Seek>(
    mut main: R,
    mut tails: Vec<(u64, Vec<u8>)>,
    node_key: [u8; 32],
    code: &str,
    text: &str,
) -> Result<Unsigned, RecoverError> {
    if code.len() > HEAD_TEXT_BYTES_MAX || text.len() > HEAD_TEXT_BYTES_MAX {
        return Err(RecoverError::Reason);
    }
    let scan = scan(&mut main, None)?;
    if scan.redaction.is_some() {
        // No session has written that; what it wrote is in the original.
        return Err(Fault::at(scan.main.head_frame_len(), Why::FrameOutOfPlace).into());
    }
    let (keep_bytes, fault) = match &scan.stop {
        Stop::Open { good, fault } => (*good, fault.clone()),
        Stop::Sealed { seal, file_bytes } => {
            let sealed = Sealed::new(scan.head.clone(), Seal::clone(seal), *file_bytes);
            return Err(RecoverError::AlreadySealed(Box::new(sealed)));
        }
    };
    let mut chain = scan.tail_chain();
    let mut parts = Parts {
        append: Vec::new(),
        frames: Vec::new(),
        hash: Sha256::new(),
        left_out: Vec::new(),
    };
    let first = scan.main.chunks();
    tails.retain(|(index, _)| *index >= first);
    tails.sort_by_key(|(index, _)| *index);
    parts.main_end(
        &mut main,
        keep_bytes,
        fault,
        &mut chain,
        tails.first().map(|(index, _)| *index) == Some(first),
    );
    for (index, bytes) in &tails {
        parts.tail(*index, bytes, &mut chain);
    }

    let mut state = scan.main;
    for frame_len in &parts.frames {
        state.took_frame(*frame_len, 0);
    }
    let kind = SealKind::Recovered {
        vouched_chunks: state.chunks(),
        vouched_tail_bytes: chain.vouched_bytes(),
        vouched_ms: chain.vouched_ms(),
        tails_sha256: parts.hash.finalize().into(),
        node_key,
    };
    let seal = state.seal(chain.last_ms(), (code, text), [0; 32], kind);
    parts.append.extend(state.index_frame());
    let (append, left_out) = (parts.append, parts.left_out);
    Ok(Unsigned {
        head: scan.head,
        main: state,
        keep_bytes,
        append,
        seal,
        node_key,
        left_out,
    })
}

struct Parts {
    append: Vec<u8>,
    /// Lengths of the TAIL frames in it.
    frames: Vec<u64>,
    hash: Sha256,
    left_out: Vec<LeftOut>,
}

impl Parts {
    /// What the main file holds behind its last finished chunk: kept if it is a torn stored chunk, which has no tail.
    fn main_end<R: Read + Seek>(
        &mut self,
        main: &mut R,
        keep_bytes: u64,
        fault: Fault,
        chain: &mut TailChain,
        has_tail: bool,
    ) {
        let mut kept = 0;
        if !has_tail && let Ok(Some((info, blocks))) = chain.take_main_end(main, keep_bytes) {
            kept = info.stored_len;
            self.frame(TORN_STORED, &blocks);
        }
        let left = main
            .seek(SeekFrom::End(0))
            .map_or(0, |len| len.saturating_sub(keep_bytes + kept));
        if left > 0 {
            self.left_out.push(LeftOut {
                tail: None,
                bytes: left,
                why: fault.why,
            });
        }
    }

    fn tail(&mut self, index: u64, bytes: &[u8], chain: &mut TailChain) {
        let taken = if chain.taken() < TAILS_MAX {
            chain.take_tail(bytes)
        } else {
            Err(Why::FrameTooLarge)
        };
        let (kept, why) = match taken {
            Ok(info) => (info.stored_len, Why::Truncated),
            Err(why) => (0, why),
        };
        if kept > 0 {
            self.frame(TAIL_FILE, bytes.get(..kept as usize).unwrap_or_default());
        }
        let left = bytes.len() as u64 - kept;
        if left > 0 {
            self.left_out.push(LeftOut {
                tail: Some(index),
                bytes: left,
                why,
            });
        }
    }

    fn frame(&mut self, kind: u8, bytes: &[u8]) {
        let frame = Skip::Tail.frame(&[&[kind], bytes].concat());
        self.hash.update(&frame);
        self.frames.push(frame.len() as u64);
        self.append.extend(frame);
    }
}

impl Unsigned {
    /// What the node's key must sign.
    pub fn statement(&self) -> Vec<u8> {
        Domain::Seal.message(&self.seal.encode())
    }

    /// The head of the session.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What the recording will not hold, to be logged.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Finishes it with the node's signature over the statement.
    pub fn sign(mut self, signature: &[u8; 64]) -> Result<Recovery, RecoverError> {
        let statement = self.seal.encode();
        if !signed_by(&self.node_key, Domain::Seal, &statement, signature) {
            return Err(RecoverError::NodeSignature);
        }
        let signed = [statement.as_slice(), signature].concat();
        self.append.extend(self.main.end_frames(&signed));
        let sealed = Sealed::new(self.head, self.seal, self.main.offset());
        Ok(Recovery {
            keep_bytes: self.keep_bytes,
            append: self.append,
            sealed,
        })
    }
}
