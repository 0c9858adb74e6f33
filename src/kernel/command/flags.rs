//! Lines that were hidden where nobody asks for a secret.

/// Hidden lines with output, in a row, from which on it is a finding.
const LINES_MIN: u32 = 2;

#[derive(Debug)]
struct Waiting {
    at_ms: u64,
    /// Rows that the terminal had been moved on by when it was typed.
    rows: u64,
}

/// Follows the hidden lines of one terminal that no text asked for. A program
/// that wants a password says so; a shell behind `stty -echo` does not.
#[derive(Debug, Default)]
pub struct Hidden {
    waiting: Option<Waiting>,
    with_output: u32,
}

impl Hidden {
    /// Such a line was sent.
    pub fn sent(&mut self, at_ms: u64, rows: u64) {
        self.waiting = Some(Waiting { at_ms, rows });
    }

    /// A line was shown: the row of hidden ones is over.
    pub fn shown(&mut self) {
        *self = Hidden::default();
    }

    /// Looks at what came of the last one; answers with its time if it makes a finding.
    pub fn settle(&mut self, rows: u64) -> Option<u64> {
        let waiting = self.waiting.take()?;
        // Its own Enter moves on by one.
        if rows <= waiting.rows.saturating_add(1) {
            return None;
        }
        self.with_output = self.with_output.saturating_add(1);
        (self.with_output == LINES_MIN).then_some(waiting.at_ms)
    }
}
