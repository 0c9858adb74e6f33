//! From bytes and trusted keys to [`Verified`], or to the first [`Fault`] (FORMAT.md section 8).

use std::fmt;
use std::io::{Read, Seek};

use crate::fault::{Fault, Why};
use crate::limits::TAILS_MAX;
use crate::merkle;
use crate::proof::{Ledger, Proof};
use crate::reader::Reading;
use crate::redaction::Redaction;
use crate::scan::{Scan, Stop, scan};
use crate::seal::{Seal, SealKind, Sealed};
use crate::trust::{Standing, Trust};
use crate::verified::Verified;

/// What verification found, if it found no fault. `INVALID` is [`Fault`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Complete, sealed by the session itself.
    Sealed {
        /// When it closed.
        closed_ms: u64,
        /// Stable reason code.
        code: String,
        /// The reason in words.
        text: String,
    },
    /// Put together by a node after a crash.
    Recovered {
        /// The session's own keys vouch for what happened up to here.
        vouched_ms: u64,
        /// Time of the last thing in it.
        closed_ms: u64,
        /// Chunks the session's keys vouch for.
        vouched_chunks: u64,
        /// Bytes of tails they vouch for.
        vouched_tail_bytes: u64,
        /// Stable reason code.
        code: String,
        /// The reason in words.
        text: String,
    },
    /// A copy in which a trusted redactor has replaced chunks. All leaves and the seal are the original's, and verify.
    Redacted {
        /// The redactor, as the trust file calls it.
        by: String,
        /// When, wall ms, as the redactor says.
        at_wall_ms: u64,
        /// Why, in words.
        reason: String,
        /// Indices of the replaced chunks, in order.
        chunks: Vec<u64>,
        /// What the original is: `Sealed` or `Recovered`.
        original: Box<Verdict>,
    },
    /// A spool: a session that still runs or has crashed. Something may be missing behind it.
    Prefix {
        /// The session's own keys vouch for what happened up to here.
        vouched_ms: u64,
        /// Finished chunks.
        chunks: u64,
        /// Bytes of tails they vouch for.
        vouched_tail_bytes: u64,
    },
}

impl Verdict {
    /// `SEALED`, `RECOVERED`, `REDACTED` or `PREFIX`.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Sealed { .. } => "SEALED",
            Verdict::Recovered { .. } => "RECOVERED",
            Verdict::Redacted { .. } => "REDACTED",
            Verdict::Prefix { .. } => "PREFIX",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Sealed { .. } => f.write_str(self.word()),
            Verdict::Redacted {
                by, chunks, original, ..
            } => {
                write!(f, "REDACTED by {by}, {}", Ranges(chunks))?;
                match original.as_ref() {
                    Verdict::Sealed { .. } => Ok(()),
                    recovered => write!(f, ", the original {recovered}"),
                }
            }
            Verdict::Recovered { vouched_ms, .. } | Verdict::Prefix { vouched_ms, .. } => {
                write!(
                    f,
                    "{} up to {}.{:03} s",
                    self.word(),
                    vouched_ms / 1000,
                    vouched_ms % 1000
                )
            }
        }
    }
}

/// Indices of chunks in few words: `chunk 3`, `chunks 2-4, 7`.
pub struct Ranges<'c>(pub &'c [u64]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.len() == 1 { "chunk" } else { "chunks" })?;
        let mut comma = "";
        for run in self.0.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [first, .., last] => write!(f, "{comma} {first}-{last}")?,
                _ => run.iter().try_for_each(|one| write!(f, "{comma} {one}"))?,
            }
            comma = ",";
        }
        Ok(())
    }
}

/// Verifies a finished recording: every byte of it is under a signature or recomputed from what is. Nothing is
/// decompressed. Memory is one chunk's leaf at a time plus about 100 bytes a chunk.
///
/// `proof` is the text of the `.proof` sidecar. A proof that proves nothing is told by [`Verified::ledger`].
pub fn verify<R: Read + Seek>(mut reader: R, trust: &Trust, proof: Option<&str>) -> Result<Verified<R>, Fault> {
    let scan = scan(&mut reader, Some(trust))?;
    let (seal, file_bytes) = match scan.stop {
        Stop::Sealed { ref seal, file_bytes } => (Seal::clone(seal), file_bytes),
        Stop::Open { ref fault, .. } => return Err(fault.clone()),
    };
    let sealed = Sealed::new(scan.head.clone(), seal.clone(), file_bytes);
    let ledger = match proof.map(Proof::parse) {
        None => Ledger::NoProof,
        Some(parsed) => {
            let leaf = merkle::leaf_hash(&sealed.entry());
            match parsed.and_then(|p| p.verify(&leaf, &scan.head.ledger_origin, trust)) {
                Ok(proven) => Ledger::Proven(proven),
                Err(e) => Ledger::Refused(e),
            }
        }
    };
    check_revocations(&scan, Some(&seal), trust, &ledger)?;
    let verdict = match &scan.redaction {
        None => verdict(seal),
        Some(redaction) => redacted(redaction, verdict(seal), trust)?,
    };
    Ok(Verified::new(
        Reading::new(reader, scan, Vec::new()),
        verdict,
        ledger,
        Some(sealed),
    ))
}

/// Verifies the spool of a session that still runs or has crashed: its main file and its tails with their indices
/// (FORMAT.md section 7.5). What is torn at the end of either is left out, and so is whatever lies behind a missing
/// tail; anything else that is wrong is a fault.
///
/// Of a running session read the tails first and the main file after them: a tail goes once its chunk is in the main
/// file, and tails of chunks that are there already are passed over.
pub fn verify_spool<R: Read + Seek>(
    mut main: R,
    mut tails: Vec<(u64, Vec<u8>)>,
    trust: &Trust,
) -> Result<Verified<R>, Fault> {
    let mut scan = scan(&mut main, Some(trust))?;
    if scan.redaction.is_some() {
        // Copies are made of finished recordings only.
        return Err(Fault::at(scan.main.head_frame_len(), Why::FrameOutOfPlace));
    }
    let good = match &scan.stop {
        Stop::Open { fault, .. } if !matches!(fault.why, Why::Truncated | Why::NotSealed) => {
            return Err(fault.clone());
        }
        Stop::Open { good, .. } => *good,
        Stop::Sealed { seal, file_bytes } => {
            let (seal, file_bytes) = (Seal::clone(seal), *file_bytes);
            check_revocations(&scan, Some(&seal), trust, &Ledger::NoProof)?;
            let sealed = Sealed::new(scan.head.clone(), seal.clone(), file_bytes);
            return Ok(Verified::new(
                Reading::new(main, scan, Vec::new()),
                verdict(seal),
                Ledger::NoProof,
                Some(sealed),
            ));
        }
    };
    check_revocations(&scan, None, trust, &Ledger::NoProof)?;
    let chunks = scan.main.chunks();
    tails.retain(|(index, _)| *index >= chunks);
    tails.sort_by_key(|(index, _)| *index);
    let mut kept = Vec::new();
    let mut chain = scan.tail_chain();
    if tails.first().is_none_or(|(index, _)| *index != chunks) {
        let torn = chain.take_main_end(&mut main, good);
        let torn = torn.map_err(|e| Fault::at(good, Why::from(e)))?;
        scan.chunks.extend(torn.map(|(info, _)| info));
    }
    for (index, mut bytes) in tails {
        // Behind a missing tail nothing follows; one whose opening is still being written is missing yet.
        if index != chain.index() || chain.taken() == TAILS_MAX {
            break;
        }
        let last_ms = chain.last_ms();
        let info = match chain.take_tail(&bytes) {
            Ok(info) => info,
            Err(Why::TailUnopened) => break,
            Err(why) => return Err(Fault::at(good, why).in_chunk(index).spanning(last_ms, None)),
        };
        bytes.truncate(info.stored_len as usize);
        scan.chunks.push(info.with_source(kept.len()));
        kept.push(bytes);
    }
    let verdict = Verdict::Prefix {
        vouched_ms: chain.vouched_ms(),
        chunks,
        vouched_tail_bytes: chain.vouched_bytes(),
    };
    Ok(Verified::new(
        Reading::new(main, scan, kept),
        verdict,
        Ledger::NoProof,
        None,
    ))
}

/// The redactor must be a trusted one; what the original is worth has been found already.
fn redacted(redaction: &Redaction, original: Verdict, trust: &Trust) -> Result<Verdict, Fault> {
    let by = trust.redactor(&redaction.key, redaction.at_wall_ms);
    Ok(Verdict::Redacted {
        by: by.map_err(|why| Fault::at(0, why))?.to_owned(),
        at_wall_ms: redaction.at_wall_ms,
        reason: redaction.reason.clone(),
        chunks: redaction.chunks().collect(),
        original: Box::new(original),
    })
}

fn verdict(seal: Seal) -> Verdict {
    match seal.kind {
        SealKind::Sealed => Verdict::Sealed {
            closed_ms: seal.closed_ms,
            code: seal.code,
            text: seal.text,
        },
        SealKind::Recovered {
            vouched_chunks,
            vouched_tail_bytes,
            vouched_ms,
            ..
        } => Verdict::Recovered {
            vouched_ms,
            closed_ms: seal.closed_ms,
            vouched_chunks,
            vouched_tail_bytes,
            code: seal.code,
            text: seal.text,
        },
    }
}

/// A revoked key may have signed anything at any stated time. Only a cosigned ledger proof older than the revocation
/// shows that this recording is older too (FORMAT.md section 9.4).
fn check_revocations(scan: &Scan, seal: Option<&Seal>, trust: &Trust, ledger: &Ledger) -> Result<(), Fault> {
    let opened = scan.head.opened_wall_ms;
    let mut standings = vec![trust.standing(&scan.head.node_key, opened)];
    if let Some(Seal {
        kind: SealKind::Recovered { node_key, .. },
        closed_ms,
        ..
    }) = seal
    {
        standings.push(trust.standing(node_key, opened.saturating_add(*closed_ms)));
    }
    for standing in standings {
        let revoked_wall_ms = match standing.map_err(|why| Fault::at(0, why))? {
            Standing::Good => continue,
            Standing::RevokedAt(ms) => ms,
        };
        let older = match ledger {
            Ledger::Proven(proven) => proven
                .witnesses
                .iter()
                .filter(|(_, secs)| secs.saturating_mul(1000) < revoked_wall_ms)
                .count() as u64,
            Ledger::NoProof | Ledger::Refused(_) => 0,
        };
        if older < trust.quorum.max(1) {
            return Err(Fault::at(0, Why::NodeKeyRevoked));
        }
    }
    Ok(())
}
