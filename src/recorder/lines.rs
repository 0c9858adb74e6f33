//! Terminal input: a fresh key per line, released or wiped by the echo.

use std::collections::HashMap;

use portcullis_recording::{Event, LineCipher};

use super::RecorderError;
use crate::kernel::echo::{EchoGate, Piece, Verdict};

/// Line numbers of one channel start here times its number, so that two
/// terminals of one recording never share one.
const LINES_PER_CHANNEL: u64 = 1 << 40;

/// The undecided lines of one terminal channel.
pub struct Lines {
    gate: EchoGate,
    ciphers: HashMap<u64, LineCipher>,
    hidden_bytes: u64,
}

impl Lines {
    pub fn new(channel: u32) -> Lines {
        Lines {
            gate: EchoGate::starting_at(u64::from(channel).saturating_mul(LINES_PER_CHANNEL)),
            ciphers: HashMap::new(),
            hidden_bytes: 0,
        }
    }

    /// Bytes of lines that were not echoed.
    pub fn hidden_bytes(&self) -> u64 {
        self.hidden_bytes
    }

    /// Turns typed bytes into sealed pieces, with the releases they decide.
    pub fn typed(&mut self, at_ms: u64, input: &[u8], events: &mut Vec<Event<'static>>) -> Result<(), RecorderError> {
        let (pieces, verdicts) = self.gate.typed(at_ms, input);
        let mut rest = input;
        for Piece { line, bytes, .. } in pieces {
            let (piece, after) = rest.split_at_checked(bytes).unwrap_or((rest, &[]));
            rest = after;
            let cipher = self.ciphers.entry(line).or_insert_with(|| {
                let mut key = [0u8; 32];
                crate::entropy::fill(&mut key);
                LineCipher::new(line, key)
            });
            let sealed = cipher.seal(piece).map_err(|full| RecorderError::Failed(full.to_string()))?;
            events.push(sealed);
        }
        self.settle(verdicts, events);
        Ok(())
    }

    /// Looks at output for the echo.
    pub fn shown(&mut self, output: &[u8], events: &mut Vec<Event<'static>>) {
        let verdicts = self.gate.shown(output);
        self.settle(verdicts, events);
    }

    /// Hides what waits too long, or everything at the end.
    pub fn expire(&mut self, at_ms: u64, all: bool, events: &mut Vec<Event<'static>>) {
        let verdicts = self.gate.expire(at_ms, all);
        self.settle(verdicts, events);
    }

    fn settle(&mut self, verdicts: Vec<Verdict>, events: &mut Vec<Event<'static>>) {
        for verdict in verdicts {
            match verdict {
                Verdict::Echoed { line } => {
                    if let Some(cipher) = self.ciphers.remove(&line) {
                        events.push(cipher.reveal());
                    }
                }
                Verdict::Hidden { line } => {
                    if let Some(cipher) = self.ciphers.remove(&line) {
                        self.hidden_bytes = self.hidden_bytes.saturating_add(cipher.len() as u64);
                        events.push(cipher.hide());
                    }
                }
            }
        }
    }
}
