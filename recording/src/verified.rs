//! What the player may draw, and what it may draw only under a name that says so (FORMAT.md section 8).

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use crate::event::{ChannelAccount, Direction, Event, Timed};
use crate::fault::{Fault, Why};
use crate::head::Head;
use crate::keys::sha256;
use crate::leaf::LedgerLeaf;
use crate::limits::ACCOUNTS_CHANNELS_MAX;
use crate::proof::Ledger;
use crate::ratchet::ContentKey;
use crate::reader::{Chunk, ChunkInfo, Events, Reading};
use crate::redaction::Redaction;
use crate::scan::{Stop, scan};
use crate::seal::{SealKind, Sealed, open_leaf};
use crate::verify::Verdict;

/// A recording whose every byte was verified against trusted keys. Made by [`crate::verify()`] and
/// [`crate::verify_spool`] only.
pub struct Verified<R> {
    reading: Reading<R>,
    verdict: Verdict,
    ledger: Ledger,
    sealed: Option<Sealed>,
}

impl<R> std::fmt::Debug for Verified<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("verdict", &self.verdict)
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}

impl<R: Read + Seek> Verified<R> {
    pub(crate) fn new(reading: Reading<R>, verdict: Verdict, ledger: Ledger, sealed: Option<Sealed>) -> Verified<R> {
        Verified {
            reading,
            verdict,
            ledger,
            sealed,
        }
    }

    /// The same recording through another reader of its bytes, to read at two places at once. Nothing is taken on trust:
    /// a chunk whose bytes are not those that were verified is a fault when it is read (FORMAT.md section 8.3).
    pub fn with_reader<S: Read + Seek>(&self, reader: S) -> Verified<S> {
        Verified {
            reading: self.reading.with_reader(reader),
            verdict: self.verdict.clone(),
            ledger: self.ledger.clone(),
            sealed: self.sealed.clone(),
        }
    }

    /// Where its bytes come from.
    pub fn reader(&self) -> &R {
        self.reading.reader()
    }

    /// What was found.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// What a redactor says about it, if it is a redacted copy.
    pub fn redaction(&self) -> Option<&Redaction> {
        self.reading.redaction.as_deref()
    }

    pub(crate) fn reading_mut(&mut self) -> &mut Reading<R> {
        &mut self.reading
    }

    /// Its place in the ledger, as far as the proof shows. Of a redacted copy that of the original.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What the ledger takes; `None` for a spool that is not sealed. Of a redacted copy what it took of the original.
    pub fn sealed(&self) -> Option<&Sealed> {
        self.sealed.as_ref()
    }

    /// Who, where, under which grant.
    pub fn head(&self) -> &Head {
        &self.reading.head
    }

    /// The ledger leaf of its opening; its salt is `head().salt`.
    pub fn open_leaf(&self) -> LedgerLeaf {
        open_leaf(&self.reading.head, self.reading.h0, self.reading.head_frame_len)
    }

    /// Whether its content is encrypted and no key was given: reading it gives [`Why::Locked`].
    pub fn is_locked(&self) -> bool {
        self.reading.is_locked()
    }

    /// Lets content be read. The key is what the envelope holds that [`Head::names_envelope`]; another key shows when
    /// something is read ([`Why::DoesNotOpen`]). Does nothing to a clear recording.
    pub fn unlock(&mut self, key: ContentKey) {
        self.reading.unlock(key);
    }

    /// Its chunks in order, tails last.
    pub fn chunks(&self) -> &[ChunkInfo] {
        &self.reading.chunks
    }

    /// Time of the last event.
    pub fn last_ms(&self) -> u64 {
        self.reading.chunks.last().map_or(0, |info| info.last_ms)
    }

    /// Position in [`Verified::chunks`] of the last chunk that begins at or before a time; 0 if none does.
    pub fn chunk_at(&self, at_ms: u64) -> usize {
        self.reading
            .chunks
            .partition_point(|info| info.first_ms <= at_ms)
            .saturating_sub(1)
    }

    /// The same, but one that drawing can start from: it begins with a keyframe, or is the first.
    pub fn keyframe_at(&self, at_ms: u64) -> usize {
        let last = self.chunk_at(at_ms);
        self.reading
            .chunks
            .iter()
            .take(last + 1)
            .rposition(|info| info.keyframe && info.first_ms <= at_ms)
            .unwrap_or(0)
    }

    /// Reads one chunk, by position in [`Verified::chunks`].
    pub fn chunk(&mut self, at: usize) -> Result<Chunk, Fault> {
        self.reading.chunk(at)
    }

    /// All events.
    pub fn events(&mut self) -> Events<'_, R> {
        self.reading.events(0)
    }

    /// Events from a chunk on.
    pub fn events_from(&mut self, chunk: usize) -> Events<'_, R> {
        self.reading.events(chunk)
    }

    /// Decodes everything: that every chunk holds what its leaf says, and that the last accounts are the sealed ones.
    pub fn check_content(&mut self) -> Result<Checked, Fault> {
        let mut checked = Checked::default();
        let mut accounts = [0; 32];
        for at in 0..self.reading.chunks.len() {
            let chunk = self.reading.chunk(at)?;
            for timed in chunk.events()? {
                let Timed { channel, event, .. } = timed?;
                checked.events += 1;
                checked.note(channel, &event);
                if let Event::Accounts(_) = &event {
                    let payload = event.payload().map_err(|e| chunk.info().fault(e.into()))?;
                    accounts = sha256(&payload);
                }
            }
        }
        match (&self.verdict, &self.sealed) {
            (Verdict::Sealed { .. } | Verdict::Redacted { .. }, Some(sealed))
                if sealed.seal().kind == SealKind::Sealed && sealed.seal().accounts_sha256 != accounts =>
            {
                Err(Fault::at(
                    0,
                    Why::Content("the accounts are not those that were sealed"),
                ))
            }
            _ => Ok(checked),
        }
    }

    /// The last byte accounts, one for each channel; empty where none were written, as in a session that still runs.
    pub fn accounts(&mut self) -> Result<Vec<ChannelAccount>, Fault> {
        for at in (0..self.reading.chunks.len()).rev() {
            let chunk = self.reading.chunk(at)?;
            let mut last = None;
            for timed in chunk.events()? {
                if let Event::Accounts(list) = timed?.event {
                    last = Some(list);
                }
            }
            if let Some(list) = last {
                return Ok(list);
            }
        }
        Ok(Vec::new())
    }
}

/// What was in the content of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// Events, those that are skipped left out.
    pub events: u64,
    /// By channel the bytes of which only digests were kept: from the client, and from the target. Of as many channels as
    /// accounts hold.
    pub digested: BTreeMap<u32, [u64; 2]>,
}

impl Checked {
    fn note(&mut self, channel: u32, event: &Event<'_>) {
        let Event::Digest { direction, bytes, .. } = event else {
            return;
        };
        if self.digested.len() >= ACCOUNTS_CHANNELS_MAX && !self.digested.contains_key(&channel) {
            return;
        }
        let [up, down] = self.digested.entry(channel).or_default();
        let sum = match direction {
            Direction::ToTarget => up,
            Direction::ToClient | Direction::ToClientErr => down,
        };
        *sum = sum.saturating_add(*bytes);
    }
}

/// A recording read without any trust: nothing in it may be believed, and whoever shows it must say so. Made only by
/// [`Unverified::open`], which stops at the first fault and lets what came before be read.
pub struct Unverified<R> {
    reading: Reading<R>,
    fault: Option<Fault>,
}

impl<R: Read + Seek> Unverified<R> {
    /// Reads as far as the frames are sound.
    pub fn open(mut reader: R) -> Result<Unverified<R>, Fault> {
        let scan = scan(&mut reader, None)?;
        let fault = match &scan.stop {
            Stop::Sealed { .. } => None,
            Stop::Open { fault, .. } => Some(fault.clone()),
        };
        Ok(Unverified {
            reading: Reading::new(reader, scan, Vec::new()),
            fault,
        })
    }

    /// The same through another reader; see [`Verified::with_reader`].
    pub fn unverified_with_reader<S: Read + Seek>(&self, reader: S) -> Unverified<S> {
        Unverified {
            reading: self.reading.with_reader(reader),
            fault: self.fault.clone(),
        }
    }

    /// Where its bytes come from.
    pub fn unverified_reader(&self) -> &R {
        self.reading.reader()
    }

    /// Where reading stopped, if not at the end of a whole recording.
    pub fn unverified_fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// What somebody says to have redacted.
    pub fn unverified_redaction(&self) -> Option<&Redaction> {
        self.reading.redaction.as_deref()
    }

    /// The head, which may be anybody's.
    pub fn unverified_head(&self) -> &Head {
        &self.reading.head
    }

    /// Lets content be read; see [`Verified::unlock`].
    pub fn unverified_unlock(&mut self, key: ContentKey) {
        self.reading.unlock(key);
    }

    /// The chunks.
    pub fn unverified_chunks(&self) -> &[ChunkInfo] {
        &self.reading.chunks
    }

    /// One chunk.
    pub fn unverified_chunk(&mut self, at: usize) -> Result<Chunk, Fault> {
        self.reading.chunk(at)
    }

    /// All events.
    pub fn unverified_events(&mut self) -> Events<'_, R> {
        self.reading.events(0)
    }
}
