//! What is asked of a screen: does a text stand there, and where does it begin?

use super::{FILLER, Place, Row, Screen};
use crate::kernel::work::Work;

/// How ^C is shown.
const INTERRUPT: [char; 2] = ['^', 'C'];
/// Where a text begins that stands left of the cursor.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    pub place: Place,
    /// A row begins with it, or no letter or digit stands before it.
    pub apart: bool,
}

impl Screen {
    /// Where the text begins that stands left of the cursor, or of a `^C` there
    /// if there may be one; `None` if something else does, or there is no work left.
    pub fn behind(&self, text: &[char], interrupted: bool, work: &mut Work) -> Option<Begin> {
        let mut row = self.here()?;
        let mut column = self.column;
        if interrupted
            && let Some(left) = column.checked_sub(INTERRUPT.len())
            && row.cells.get(left..column) == Some(&INTERRUPT)
        {
            column = left;
        }
        for letter in text.iter().rev() {
            loop {
                if !work.spend(1) {
                    return None;
                }
                if column == 0 {
                    row = self.above(row)?;
                    column = row.cells.len();
                }
                column = column.checked_sub(1)?;
                match row.cells.get(column).copied().unwrap_or(' ') {
                    FILLER => {}
                    cell if cell == *letter => break,
                    _ => return None,
                }
            }
        }
        let before = match column.checked_sub(1) {
            Some(left) => row.cells.get(left).copied(),
            None => self.above(row).and_then(|row| row.cells.last().copied()),
        };
        Some(Begin {
            place: Place { row: row.id, column },
            apart: before.is_none_or(|letter| !letter.is_alphanumeric()),
        })
    }

    /// What stands between the place and the cursor, if these are so many letters and there is work left for them.
    pub fn since(&self, place: Place, count: usize, work: &mut Work) -> Option<Vec<char>> {
        let (mut row, mut column) = (self.here()?, self.column);
        let mut letters = Vec::with_capacity(count);
        while letters.len() < count || place != (Place { row: row.id, column }) {
            if !work.spend(1) {
                return None;
            }
            if column == 0 {
                row = self.above(row)?;
                column = row.cells.len();
            }
            column = column.checked_sub(1)?;
            match row.cells.get(column).copied().unwrap_or(' ') {
                FILLER => {}
                _ if letters.len() >= count => return None,
                cell => letters.push(cell),
            }
        }
        letters.reverse();
        Some(letters)
    }

    /// Whether the cursor is in the row of the place, or in one that goes on with it.
    pub fn is_in_row_of(&self, place: Place) -> bool {
        let mut row = self.here();
        while let Some(found) = row {
            if found.id == place.row {
                return true;
            }
            row = self.above(found);
        }
        false
    }

    /// Whether the text stands left of the cursor in its row, or in the one that goes on in it, as far as there is work left.
    pub fn holds_here(&self, text: &[char], work: &mut Work) -> bool {
        let Some(here) = self.here() else { return false };
        let above = self.above(here).map_or(&[][..], |row| row.cells.as_slice());
        let left = here.cells.get(..self.column).unwrap_or(&here.cells);
        if !work.spend(above.len() + left.len()) {
            return false;
        }
        let cells: Vec<char> = [above, left].concat();
        is_among(text, &cells, work)
    }

    /// What stands left of the cursor in its row: a prompt, if it waits for a line. At most so many characters of its end.
    pub fn before(&self, most: usize) -> String {
        let cells = self.here().map_or(&[][..], |row| row.cells.as_slice());
        let left = cells.get(..self.column).unwrap_or(cells);
        let from = left.len().saturating_sub(most);
        let letters = left.iter().skip(from).copied().filter(|cell| *cell != FILLER);
        letters.collect::<String>().trim().to_owned()
    }

    /// Whether the text stands somewhere in a row that is remembered, as far as there is work left.
    pub fn holds(&self, text: &[char], work: &mut Work) -> bool {
        self.kept
            .iter()
            .any(|row| work.spend(row.cells.len()) && is_among(text, &row.cells, work))
    }

    fn above(&self, row: &Row) -> Option<&Row> {
        let number = row.number.checked_sub(1).filter(|_| row.continued)?;
        self.kept.iter().find(|row| row.number == number)
    }
}

/// Whether the text stands among cells.
fn is_among(text: &[char], cells: &[char], work: &mut Work) -> bool {
    let letters: Vec<char> = cells.iter().copied().filter(|cell| *cell != FILLER).collect();
    let mut begins = |window: &[char]| {
        let alike = window.iter().zip(text).take_while(|(cell, letter)| cell == letter);
        let alike = alike.count();
        work.spend(alike + 1) && alike == text.len()
    };
    !text.is_empty() && letters.windows(text.len()).any(&mut begins)
}
