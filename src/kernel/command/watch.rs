//! The cursor leaving the line that is waited for.

use avt::parser::Function;
use avt::{Observation, Observer, Operation, ScreenKind};

use super::grid::{self, Logical};
use super::reader::Reader;

/// Watches the cursor leave the line that is waited for.
pub struct Watch<'r> {
    pub reader: &'r mut Reader,
    /// The row of the cursor before this operation, and its line.
    pub left: Option<(usize, Logical)>,
    /// The row of the cursor before it was fed.
    pub fed: Option<usize>,
}

impl Observer for Watch<'_> {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        self.left = None;
        self.fed = None;
        let Operation::Function(function) = operation else {
            self.reader.returned = None;
            return;
        };
        let terminal = context.terminal();
        let cursor = grid::cursor(terminal);
        // A line is left by way of its beginning: its editor's cursor is where it was before.
        if matches!(function, Function::Cr) {
            let again = self.reader.returned.is_some_and(|from| from.row == cursor.row) && cursor.column == 0;
            if !again {
                self.reader.returned = Some(cursor);
            }
            return;
        }
        if matches!(function, Function::Sgr(_) | Function::Decset(_) | Function::Decrst(_)) {
            return;
        }
        let returned = self.reader.returned.take().filter(|from| from.row == cursor.row);
        let feeds = matches!(function, Function::Lf | Function::Nel);
        let alternate = terminal.active_screen_kind() == ScreenKind::Alternate;
        // tmux leaves a row by its margins, and scrolls it away.
        let leaves =
            feeds || alternate && matches!(function, Function::Decstbm(..) | Function::Su(_) | Function::Sd(_));
        let moves = match alternate {
            true => matches!(
                function,
                Function::Cup(..)
                    | Function::Vpa(_)
                    | Function::Vpr(_)
                    | Function::Cud(_)
                    | Function::Cnl(_)
                    | Function::Cuu(_)
                    | Function::Cpl(_)
                    | Function::Ri
            ),
            false => matches!(
                function,
                Function::Cup(..) | Function::Vpa(_) | Function::Vpr(_) | Function::Cud(_) | Function::Cnl(_)
            ),
        };
        if (leaves || moves) && self.reader.waits() {
            self.reader.look_at_screen(terminal);
            let line = grid::at(terminal, cursor.row, returned.unwrap_or(cursor));
            match (self.reader.affords(&line, terminal), leaves) {
                (true, true) => self.reader.left(&line, terminal),
                (true, false) => self.left = Some((cursor.row, line)),
                (false, _) => {}
            }
        }
        if let Function::Su(rows) = function {
            self.reader.scrolled(usize::from(*rows).max(1));
        }
        if feeds {
            self.reader.fed();
            self.fed = Some(cursor.row);
        }
    }

    fn after(&mut self, context: &mut Observation<'_>, _: &Operation) {
        let terminal = context.terminal();
        // At the bottom a feed moves the rows, not the cursor.
        if self.fed.take() == Some(terminal.cursor().row) {
            self.reader.scrolled(1);
        }
        let Some((row, line)) = self.left.take() else { return };
        let now = terminal.cursor().row;
        let gone = match terminal.active_screen_kind() {
            ScreenKind::Primary => now > row,
            ScreenKind::Alternate => now != row,
        };
        if gone && self.reader.waits() {
            self.reader.left(&line, terminal);
        }
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}
