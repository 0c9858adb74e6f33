//! Terminal input: a fresh key per line, released or wiped by the echo.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use portcullis_recording::{Event, LineCipher};
use zeroize::Zeroizing;

use super::spool::Hidden;
use super::{Recipients, RecorderError};
use crate::kernel::echo::{ECHO_WAIT_MS, EchoGate, Piece, Verdict};

/// Line numbers of one channel start here times its number, so that two
/// terminals of one recording never share one.
const LINES_PER_CHANNEL: u64 = 1 << 40;

/// And this much further for each terminal the channel has had before.
const LINES_PER_TERMINAL: u64 = 1 << 28;

/// Hidden lines of one terminal whose keys are wrapped: each costs the session's path some 0.1 ms a recipient. The keys of
/// those behind are wiped.
const WRAPPED_MAX: u32 = 1024;

/// The undecided lines of one terminal channel.
pub struct Lines {
    channel: u32,
    gate: EchoGate,
    ciphers: HashMap<u64, Undecided>,
    hidden: Hidden,
    /// To whom keys of hidden lines are wrapped; to nobody: they are wiped.
    wrap_to: Arc<Recipients>,
    wrapped: u32,
}

struct Undecided {
    cipher: LineCipher,
    /// What stood before its first key.
    prompt: String,
    /// When its Enter was typed, in session ms.
    ended_ms: Option<u64>,
}

impl Lines {
    /// `earlier` terminals have ended on this channel.
    pub fn new(channel: u32, earlier: u32, hidden: Hidden, wrap_to: Arc<Recipients>) -> Lines {
        let first = u64::from(channel)
            .saturating_mul(LINES_PER_CHANNEL)
            .saturating_add(u64::from(earlier).saturating_mul(LINES_PER_TERMINAL));
        Lines {
            channel,
            gate: EchoGate::starting_at(first),
            ciphers: HashMap::new(),
            hidden,
            wrap_to,
            wrapped: 0,
        }
    }

    /// The terminal's size, in columns and rows.
    pub fn sized(&mut self, columns: u32, rows: u32) {
        self.gate.sized(columns, rows);
    }

    /// When the first finished line will have waited too long, in session ms.
    pub fn due_ms(&self) -> Option<u64> {
        let ended = self.ciphers.values().filter_map(|line| line.ended_ms).min()?;
        Some(ended.saturating_add(ECHO_WAIT_MS))
    }

    /// Lines whose Enter is typed, and which are not decided.
    pub fn entered(&self) -> impl Iterator<Item = u64> {
        let ended = self.ciphers.iter().filter(|(_, line)| line.ended_ms.is_some());
        ended.map(|(line, _)| *line)
    }

    /// Turns typed bytes into sealed pieces, with the releases they decide.
    pub fn typed(&mut self, at_ms: u64, input: &[u8], events: &mut Vec<Event<'_>>) -> Result<(), RecorderError> {
        let (pieces, verdicts) = self.gate.typed(at_ms, input);
        let prompt = self.gate.prompt();
        let mut rest = input;
        for Piece { line, bytes, ends } in pieces {
            let (piece, after) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            rest = after;
            let undecided = self.ciphers.entry(line).or_insert_with(|| {
                let mut key = Zeroizing::new([0u8; 32]);
                crate::entropy::fill(key.as_mut_slice());
                Undecided {
                    cipher: LineCipher::new(line, *key),
                    prompt: prompt.clone(),
                    ended_ms: None,
                }
            });
            if ends {
                undecided.ended_ms = Some(at_ms);
            }
            let sealed = undecided
                .cipher
                .seal(piece)
                .map_err(|full| RecorderError::Failed(full.to_string()))?;
            events.push(sealed);
        }
        self.settle(verdicts, events);
        Ok(())
    }

    /// Looks at output for the echo.
    pub fn shown(&mut self, output: &[u8], events: &mut Vec<Event<'_>>) {
        let verdicts = self.gate.shown(output);
        self.settle(verdicts, events);
    }

    /// Hides what waits too long, or everything at the end.
    pub fn expire(&mut self, at_ms: u64, all: bool, events: &mut Vec<Event<'_>>) {
        let verdicts = self.gate.expire(at_ms, all);
        self.settle(verdicts, events);
    }

    /// The envelope of a line that is hidden now; empty if its key is to be wiped.
    fn wrapped(&mut self, cipher: &LineCipher, events: &mut Vec<Event<'_>>) -> Vec<u8> {
        if self.wrap_to.is_empty() || self.wrapped > WRAPPED_MAX {
            return Vec::new();
        }
        self.wrapped += 1;
        if self.wrapped > WRAPPED_MAX {
            let text =
                format!("{WRAPPED_MAX} hidden lines of this terminal were wrapped: keys of further ones are wiped");
            events.push(Event::Marker { text: text.into() });
            return Vec::new();
        }
        let wrapped = self.wrap_to.wrap(cipher.key());
        wrapped.unwrap_or_else(|error| {
            tracing::error!(%error, "the key of a hidden line is wiped and not wrapped");
            Vec::new()
        })
    }

    fn settle(&mut self, verdicts: Vec<Verdict>, events: &mut Vec<Event<'_>>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Echoed { line } => {
                    if let Some(Undecided { cipher, .. }) = self.ciphers.remove(&line) {
                        events.push(cipher.reveal());
                    }
                }
                Verdict::Hidden { line } => {
                    if let Some(Undecided { cipher, prompt, .. }) = self.ciphers.remove(&line) {
                        let envelope = self.wrapped(&cipher, events);
                        if !envelope.is_empty() || !prompt.is_empty() {
                            events.push(Event::HiddenLine {
                                line,
                                prompt: prompt.into(),
                                envelope: envelope.into(),
                            });
                        }
                        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
                        let bytes = hidden.entry(self.channel).or_default();
                        *bytes = bytes.saturating_add(cipher.len() as u64);
                        events.push(cipher.hide());
                    }
                }
            }
        }
    }
}
