//! A grid that is being wound on: what only scrolls by on the way is not drawn.

use crate::grid::{Grid, Stream};
use crate::skim::{Lines, Skim};

/// Nobody reads the lines.
impl Lines for () {
    fn ended(&mut self, _: &str) {}
}

/// A grid, and what it has not seen yet.
pub struct Haste {
    grid: Grid,
    skim: Option<Skim>,
}

impl Haste {
    /// Of a grid that is up to date.
    pub fn new(grid: Grid) -> Haste {
        Haste { grid, skim: None }
    }

    /// Takes a stream's next bytes, and draws of them what may stay on the screen.
    pub fn wind(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Err {
            self.grid_mut().feed(stream, bytes);
            return;
        }
        let skim = match &mut self.skim {
            Some(skim) => Some(skim),
            // Whether a line began above the screen matters to those who read it.
            none => {
                *none = Skim::begin(&self.grid, "");
                none.as_mut()
            }
        };
        let taken = skim.map_or(0, |skim| skim.take(bytes, &mut ()));
        let rest = bytes.get(taken..).unwrap_or_default();
        if !rest.is_empty() {
            self.grid_mut().feed(stream, rest);
        }
    }

    /// The grid, up to date.
    pub fn grid_mut(&mut self) -> &mut Grid {
        if let Some(skim) = self.skim.take() {
            let (gone, bytes) = skim.catch_up();
            self.grid.pass_over(gone);
            self.grid.feed(Stream::Out, &bytes);
        }
        &mut self.grid
    }

    /// The grid as it was when [`Haste::grid_mut`] was asked for last.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }
}
