//! How long a terminal is looked at for the lines that it was sent.
//!
//! Output that makes each look long and asks for many would cost the time of
//! everybody's sessions: it costs its own lines instead. Those that are waited
//! for on the screen are told by their keys then; those that wait for an echo
//! are hidden.

/// Cells that are looked at for each byte of output.
const CELLS_PER_BYTE: u64 = 128;
/// Cells that may be looked at at once, after much output without a look.
const CELLS_SAVED_MAX: u64 = 8 << 20;

/// What is left to be looked at.
#[derive(Debug)]
pub struct Work {
    cells: u64,
}

impl Default for Work {
    fn default() -> Work {
        Work { cells: CELLS_SAVED_MAX }
    }
}

impl Work {
    /// So many bytes of output came.
    pub fn earn(&mut self, bytes: usize) {
        let more = CELLS_PER_BYTE.saturating_mul(bytes as u64);
        self.cells = self.cells.saturating_add(more).min(CELLS_SAVED_MAX);
    }

    /// Nothing is left of it.
    pub fn is_spent(&self) -> bool {
        self.cells == 0
    }

    /// Looks at so many cells; whether that may go on.
    pub fn spend(&mut self, cells: usize) -> bool {
        let left = self.cells.checked_sub(cells as u64);
        self.cells = left.unwrap_or(0);
        left.is_some()
    }
}
