//! Bulk chunks of a spool: data that does not compress goes straight into the main file.

use portcullis_recording::{Event, Piece, Timed};

use super::{BULK_BYTES_MIN, Mode, Spool, failed};
use crate::recorder::RecorderError;
use crate::recorder::append::{append_chunk, append_pieces, append_taken};
use crate::recorder::bulk::is_of_commands;
use crate::recorder::job::lock;

/// A tail up to this size is re-encoded in place when bulk begins, in bytes.
const SMALL_TAIL_BYTES: u64 = 64 * 1024;
/// Raw bytes of one bulk chunk: what may be unsigned at once.
const BULK_CHUNK_BYTES: u64 = 1024 * 1024 - 256 * 1024;
/// zstd level of the few kilobytes re-encoded in the session's path.
const LEVEL_INLINE: i32 = 1;
/// Tails re-encoded in place whose chunks are not synced yet.
const INLINE_TAILS_MAX: usize = 4;
/// Events in bulk chunks that wait for a tail.
const ASIDE_MAX: usize = 1024;

impl Spool {
    /// Turns to writing straight into the main file, if nothing must come before.
    pub(super) fn begin_bulk(&mut self, at_ms: u64) -> Result<(), RecorderError> {
        let Mode::Tail(writer) = &self.mode else {
            return Ok(());
        };
        // An encrypted chunk is one piece: it goes by the tail, whatever its size.
        if self.waiting > 0 || writer.is_encrypted() {
            return Ok(());
        }
        if writer.tail_is_open() {
            // A terminal's is read as well, which takes longer.
            let small = writer.tail_len() <= SMALL_TAIL_BYTES && self.encoded.len() < INLINE_TAILS_MAX && !self.shows;
            self.close_tail(at_ms)?;
            if !small {
                return Ok(());
            }
            // A few kilobytes are re-encoded faster than handed over. Their
            // tails stay until the main file is synced.
            for mut job in std::mem::take(&mut self.jobs) {
                self.waiting = self.waiting.saturating_sub(1);
                job.level = LEVEL_INLINE;
                let path = job.path.clone();
                append_chunk(job, self.share.taking())?;
                self.encoded.push(path);
            }
        }
        if let Mode::Tail(writer) = std::mem::replace(&mut self.mode, Mode::Gone) {
            let flood = writer.into_flood(&lock(&self.main).main)?;
            self.mode = Mode::Bulk(Box::new(flood));
        }
        Ok(())
    }

    pub(super) fn write_bulk(
        &mut self,
        at_ms: u64,
        channel: u32,
        events: &[Event<'_>],
        data: usize,
    ) -> Result<(), RecorderError> {
        let full = match &self.mode {
            Mode::Bulk(flood) => flood.raw_len() >= BULK_CHUNK_BYTES || self.aside.len() >= ASIDE_MAX,
            Mode::Tail(_) | Mode::Gone => false,
        };
        if full {
            self.end_bulk()?;
            if data < BULK_BYTES_MIN {
                return self.write_tail(at_ms, channel, events);
            }
            self.begin_bulk(at_ms)?;
        }
        let Mode::Bulk(flood) = &mut self.mode else {
            return self.write_tail(at_ms, channel, events);
        };
        let mut pieces: Vec<Piece<'_>> = Vec::with_capacity(events.len() * 2);
        for event in events {
            flood.push(at_ms, channel, event, &mut pieces)?;
            if is_of_commands(event) {
                let event = event.clone().into_owned();
                self.aside.push(Timed { at_ms, channel, event });
            }
        }
        append_pieces(&self.main_file, &pieces, self.share.taking()).map_err(failed("cannot be appended to"))?;
        self.unsigned_since.get_or_insert(at_ms);
        Ok(())
    }

    /// Finishes the bulk chunk and signs it.
    pub(super) fn end_bulk(&mut self) -> Result<(), RecorderError> {
        match std::mem::replace(&mut self.mode, Mode::Gone) {
            Mode::Bulk(flood) => {
                let mut main = lock(&self.main);
                let (writer, bytes) = flood.finish(&mut main.main)?;
                append_taken(&main.file, &bytes, self.share.taking()).map_err(failed("cannot be appended to"))?;
                drop(main);
                self.mode = Mode::Tail(writer);
                self.unsigned_since = None;
            }
            other @ (Mode::Tail(_) | Mode::Gone) => self.mode = other,
        }
        Ok(())
    }
}
