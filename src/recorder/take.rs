//! What crosses, gathered for one write.

use bytes::Bytes;
use portcullis_recording::Event;

use super::{Recorder, RecorderError, bulk};
use crate::kernel::transfer::Piece;

/// What is taken in one write. Nothing is taken before [`Take::done`].
pub struct Take<'r, 'e> {
    recorder: &'r Recorder,
    channel: u32,
    parts: Vec<Part<'e>>,
}

/// One thing to record.
pub(crate) enum Part<'e> {
    Event(Event<'e>),
    /// Input of a terminal: under its line's key.
    Typed(&'e [u8]),
    /// Output of a terminal: what the echo rule looks at.
    Shown(&'e [u8]),
    /// Content of a file, for the vault.
    Content(Piece),
}

impl Part<'_> {
    fn is_payload(&self) -> bool {
        match self {
            // A digest stands for payload that moves on as soon as it is taken.
            Part::Event(event) => bulk::data_len(event) > 0 || matches!(event, Event::Digest { .. }),
            Part::Typed(_) | Part::Shown(_) | Part::Content(_) => true,
        }
    }
}

impl<'r, 'e> Take<'r, 'e> {
    pub(super) fn new(recorder: &'r Recorder, channel: u32) -> Take<'r, 'e> {
        Take {
            recorder,
            channel,
            parts: Vec::new(),
        }
    }

    /// Input that is no terminal's.
    pub fn input(&mut self, bytes: &'e Bytes) {
        self.parts.push(Part::Event(Event::Input(bytes.as_ref().into())));
    }

    /// Input of a terminal.
    pub fn typed(&mut self, bytes: &'e Bytes) {
        self.parts.push(Part::Typed(bytes));
    }

    /// Output.
    pub fn output(&mut self, bytes: &'e Bytes, terminal: bool) {
        self.parts.push(match terminal {
            true => Part::Shown(bytes),
            false => Part::Event(Event::Output(bytes.as_ref().into())),
        });
    }

    /// Standard error.
    pub fn stderr(&mut self, bytes: &'e Bytes) {
        self.parts.push(Part::Event(Event::Stderr(bytes.as_ref().into())));
    }

    /// Content of a file, for the vault.
    pub fn content(&mut self, piece: Piece) {
        self.parts.push(Part::Content(piece));
    }

    /// Anything else.
    pub fn event(&mut self, event: Event<'e>) {
        self.parts.push(Part::Event(event));
    }

    /// Takes all of it.
    ///
    /// # Errors
    /// When it could not be appended; none of it may move on then.
    pub fn done(self) -> Result<(), RecorderError> {
        if self.parts.is_empty() {
            return Ok(());
        }
        let (channel, parts) = (self.channel, self.parts);
        let inner = &self.recorder.0;
        // What was taken before still gets its accounts and its seal.
        if parts.iter().any(Part::is_payload)
            && let Err(error) = inner.share.check()
        {
            (inner.on_failure)(error.to_string());
            return Err(error);
        }
        inner.with(|spool, at_ms| spool.take(at_ms, channel, &parts))
    }
}
