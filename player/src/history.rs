//! What has scrolled off a terminal's screen, found again when somebody scrolls back.

use std::collections::VecDeque;

use avt::{Line, Observation, Observer};
use portcullis_recording::event::Event;

use crate::failure::Failure;
use crate::grid::{Grid, SIZE_DEFAULT, Stream};
use crate::source::{Cursor, Source};

/// Cells kept: 20,000 rows of 100 columns, some 40 MB.
const CELLS_MAX: usize = 2_000_000;
/// Stretches between keyframes that are gone back at most: each is about 1 MiB of output.
const STRETCHES_MAX: usize = 8;

/// Rows above the screen, oldest first.
#[derive(Default)]
pub struct History {
    rows: VecDeque<Line>,
    /// Whether nothing older can be had.
    complete: bool,
    /// How many stretches it took.
    stretches: usize,
}

/// Keeps what leaves the screen.
struct Keep<'k>(&'k mut VecDeque<Line>);

impl Observer for Keep<'_> {
    type Output = ();

    fn evicted(&mut self, _: &mut Observation<'_>, line: &Line) {
        if self.0.len() >= CELLS_MAX / line.len().max(1) {
            self.0.pop_front();
        }
        self.0.push_back(line.clone());
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}

impl History {
    /// Finds what was above the screen of a channel at a moment: `rows` or more of it, if there are as many within
    /// reach. Each time that is not enough it goes back twice as far.
    pub fn reach(&mut self, source: &Source, channel: u32, until: Until, rows: usize) -> Result<(), Failure> {
        while self.rows.len() < rows && !self.complete {
            self.stretches = (self.stretches * 2).max(1);
            let mut start = source.start_before(until.at_ms);
            for _ in 1..self.stretches {
                let Some(before) = (0..start).rev().find(|chunk| source.is_start(*chunk)) else {
                    break;
                };
                start = before;
            }
            self.complete = start == 0 || self.stretches >= STRETCHES_MAX;
            self.rows = replay(Cursor::new(source.again()?), start, channel, until)?;
        }
        Ok(())
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing has scrolled off, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// A row, 0 being the oldest.
    pub fn row(&self, at: usize) -> Option<&Line> {
        self.rows.get(at)
    }
}

/// A moment: events of one millisecond may have been shown in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Until {
    /// Nothing later than this.
    pub at_ms: u64,
    /// Nothing at or behind this event of this chunk.
    pub next: (usize, usize),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the other events draw nothing")]
fn replay(mut cursor: Cursor, start: usize, channel: u32, until: Until) -> Result<VecDeque<Line>, Failure> {
    let mut rows = VecDeque::new();
    let mut grid: Option<Grid> = None;
    cursor.rewind_to(start);
    while cursor.peek()?.is_some() {
        if cursor.place() >= until.next {
            break;
        }
        let Some(timed) = cursor.next_event()? else {
            break;
        };
        if timed.channel != channel {
            continue;
        }
        match &timed.event {
            Event::Output(bytes) | Event::Stderr(bytes) => {
                let stream = if matches!(timed.event, Event::Output(_)) {
                    Stream::Out
                } else {
                    Stream::Err
                };
                grid.get_or_insert_with(|| Grid::new(SIZE_DEFAULT.0, SIZE_DEFAULT.1))
                    .feed_with(stream, bytes, Keep(&mut rows));
            }
            Event::Resize { cols, rows: high, .. } => match &mut grid {
                Some(grid) => grid.resize_with(*cols, *high, Keep(&mut rows)),
                None => grid = Some(Grid::new(*cols, *high)),
            },
            Event::Keyframe { cols, rows: high, dump } if grid.is_none() => {
                grid = Some(Grid::from_keyframe(*cols, *high, dump));
            }
            _ => {}
        }
    }
    Ok(rows)
}
