//! The line at the cursor as it stands now, for who has to decide about it
//! before it is sent.

use avt::{ScreenKind, Terminal};

use super::estimate::{Above, Look, behind, squeezed};
use super::grid::{self, Logical};
use super::prompt::{self, Prompt, Prompts};
use super::reader::{Open, Reader};
use super::{COMMAND_BYTES_MAX, Context, text};

/// The line at the cursor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// What stands behind its prompt, and before it the lines that it goes on with.
    pub text: String,
    /// What stands before that on the row.
    pub prompt: String,
    /// Who reads it, as far as the prompt tells.
    pub place: Context,
    /// It stands at the prompt of a shell or its kin: a known one, or one that looks like it.
    pub at_prompt: bool,
    /// That prompt came back before.
    pub known: bool,
    /// The keys alone tell the line, and it is they that stand before the cursor, and nothing behind it.
    pub as_typed: bool,
    /// It could not be read, or not whole: too much was looked at for too little output, or its beginning is
    /// above the screen.
    pub unread: bool,
}

impl Line {
    /// Too much was looked at for too little output.
    fn unread() -> Line {
        Line {
            text: String::new(),
            prompt: String::new(),
            place: Context::Program,
            at_prompt: false,
            known: false,
            as_typed: false,
            unread: true,
        }
    }
}

/// What a reader knows that a line is read by.
struct Standing<'r> {
    prompts: &'r Prompts,
    /// The command that may go on, its text and who reads it.
    open: Option<(Above<'r>, &'r str, Context)>,
    /// What stood before the cursor at the line's first key.
    first: Option<&'r Prompt>,
}

impl Reader {
    /// The line at the cursor as it stands now; `typed` is what the keys alone make of it.
    pub fn line(&mut self, terminal: &Terminal, typed: Option<&str>) -> Line {
        if !self.live.spend(grid::cells_at_cursor(terminal)) {
            return Line::unread();
        }
        let row = grid::at_cursor(terminal);
        let (cols, _) = terminal.size();
        // And those above it that it may have begun in.
        let above = match self.prompts.shortest(&row.before_cursor) {
            Some(_) => 0,
            None => row.top,
        };
        if above > 0 && !self.live.spend(cols.saturating_mul(above)) {
            return Line::unread();
        }
        let standing = Standing {
            prompts: &self.prompts,
            open: self.open.as_ref().map(|open| {
                let Open {
                    command, prompt, line, ..
                } = open;
                let place = self.prompts.context(open.prompt_id);
                (Above { prompt, line }, command.text.as_str(), place)
            }),
            first: self.typing.as_ref().and_then(|typing| typing.prompt.as_ref()),
        };
        standing.line(terminal, &row, typed)
    }
}

impl Reader {
    /// Whether something stands below the line at the cursor that may be of it: another row of what an editor holds, or
    /// a list that it shows. What a search of zsh shows there is not, as long as it has been found.
    pub fn goes_below(&mut self, terminal: &Terminal, text: &str) -> bool {
        let (cols, rows) = terminal.size();
        let row = grid::cursor(terminal).row;
        if !self.live.spend(cols.saturating_mul(rows.saturating_sub(row))) {
            return true;
        }
        let below = grid::below(terminal, grid::last_row(terminal));
        let search = ["bck-i-search: ", "fwd-i-search: "]
            .into_iter()
            .find_map(|words| below.strip_prefix(words));
        let found = search.and_then(|what| what.strip_suffix('_'));
        !below.is_empty() && !found.is_some_and(|what| text.contains(what.trim_end()))
    }
}

impl Standing<'_> {
    /// Reads the line; `typed` is what the keys alone make of it.
    fn line(&self, terminal: &Terminal, line: &Logical, typed: Option<&str>) -> Line {
        let look = Look {
            prompts: self.prompts,
            open: self.open.as_ref().map(|(above, ..)| *above),
            line,
            terminal,
            alternate: terminal.active_screen_kind() == ScreenKind::Alternate,
        };
        if let Some((text, sure)) = searched(&line.text) {
            return Line {
                text: text.to_owned(),
                prompt: String::new(),
                place: Context::Shell,
                at_prompt: true,
                known: false,
                as_typed: false,
                unread: !sure,
            };
        }
        let last = typed.map(|typed| typed.rsplit('\n').next().unwrap_or(typed));
        let Some((prompt, end, known)) = self.prompt(line, last) else {
            let many = || self.first.and_then(|first| Some((first, look.many_rows(first)?)));
            let at_end = line.text.trim_end().len() <= line.before_cursor.len();
            let as_typed = at_end && last.is_some_and(|last| ends_alike(&line.before_cursor, last));
            // The keys of what nobody is shown are for nobody to read.
            let told = typed.filter(|typed| as_typed && stands(typed, line, terminal));
            let (from, whole) = match told {
                Some(told) => (None, Some(told.to_owned())),
                None => many().unzip(),
            };
            // Its beginning is above the screen.
            let unread = whole.is_none() && !as_typed && !look.alternate && line.top == 0 && line.bottom > 0;
            let text = whole.unwrap_or_else(|| line.text.clone());
            // Typed ahead, before any prompt was known: what the line was put behind may be one.
            let before = before(line, last);
            let typed_ahead = before.filter(|before| prompt::looks_like_one(before));
            let known = from.is_some_and(|from| self.prompts.is_established(&from.text));
            let began_at = from.filter(|from| known || prompt::looks_like_one(&from.text));
            let prompt = began_at.map(|from| from.text.as_str()).or(typed_ahead);
            return self.bounded(Line {
                text,
                at_prompt: prompt.is_some(),
                prompt: prompt.unwrap_or_default().to_owned(),
                place: began_at.map_or(Context::Program, |from| self.place(from, known)),
                known: false,
                as_typed,
                unread,
            });
        };
        let (own, before) = line.before_cursor.split_at_checked(end).unwrap_or_default();
        let own = Prompt {
            text: own.to_owned(),
            right: prompt.right.clone(),
        };
        // What stands behind the cursor is sent as well; what is only offered there is not in it.
        let shown = behind(&own, line).unwrap_or_else(|| line.text.clone());
        let at_end = shown.trim_end() == before.trim_end();
        let as_typed = at_end && last.is_some_and(|last| alike(before, last));
        let goes_on = look.goes_on(&prompt.text);
        let (text, place) = match &self.open {
            Some((_, above, place)) if goes_on => (format!("{above}\n{shown}"), place.clone()),
            Some(_) | None => {
                match typed.filter(|typed| as_typed && typed.contains('\n') && stands(typed, line, terminal)) {
                    Some(typed) => (typed.to_owned(), self.place(&prompt, known)),
                    None => (shown, self.place(&prompt, known)),
                }
            }
        };
        self.bounded(Line {
            text,
            at_prompt: known || goes_on || prompt::looks_like_one(&prompt.text),
            prompt: prompt.text,
            place,
            known,
            as_typed,
            unread: false,
        })
    }

    /// The prompt that the line stands at, where it ends, and whether it is a
    /// known one. A known one goes before what stood there at the first key: a
    /// shell may have filled its line by itself.
    fn prompt(&self, line: &Logical, last: Option<&str>) -> Option<(Prompt, usize, bool)> {
        if let Some((len, known)) = self.prompts.shortest(&line.before_cursor) {
            let text = line.before_cursor.get(..len).unwrap_or_default().to_owned();
            // What this one shows at the right may be another than before.
            let own = self.first.filter(|first| first.text == text);
            let right = own.and_then(|own| own.right.clone()).or_else(|| known.right.clone());
            return Some((Prompt { text, right }, len, true));
        }
        let before = before(line, last);
        // The terminal had echoed what was typed ahead, and the prompt came behind it.
        if let Some(before) = before
            && let Some(at) = self.prompts.at_end(before)
            && let Some(text) = before.get(at..)
            && self.prompts.is_established(text)
        {
            let (text, right) = (text.to_owned(), None);
            return Some((Prompt { text, right }, before.len(), true));
        }
        let first = self.first.filter(|first| line.before_cursor.starts_with(&first.text))?;
        let bare = first.text.is_empty() && before.is_some_and(|before| !before.is_empty());
        // A known one may stand behind output that did not end its row.
        let known = || {
            let own = first.text.get(self.prompts.at_end(&first.text)?..)?;
            Some(!own.is_empty() && self.prompts.is_established(own))
        };
        (!bare).then(|| (first.clone(), first.text.len(), known().unwrap_or_default()))
    }

    fn place(&self, prompt: &Prompt, known: bool) -> Context {
        match known {
            true => self.prompts.place(&prompt.text),
            // Nothing has been read yet: it is what the session began with.
            false if self.prompts.accept_nothing() && prompt::looks_like_one(&prompt.text) => Context::Shell,
            false => Context::Program,
        }
    }

    /// Of what is longer than can be kept, nobody knows the end.
    fn bounded(&self, mut line: Line) -> Line {
        line.unread |= text::is_full(&line.text);
        line.text.truncate(line.text.floor_char_boundary(COMMAND_BYTES_MAX));
        line
    }
}

/// What stands before the keys, if it is they that stand before the cursor.
fn before<'l>(line: &'l Logical, last: Option<&str>) -> Option<&'l str> {
    let last = last.filter(|last| !last.is_empty())?;
    line.before_cursor.strip_suffix(last)
}

/// The line that a search of bash's history has found, and whether that is
/// sure: what is shown in a prompt's place is ``(reverse-i-search)`what': line``
/// (readline, `reverse-search-history`).
fn searched(row: &str) -> Option<(&str, bool)> {
    let (words, rest) = row.strip_prefix('(')?.split_once(')')?;
    let plain = |sign: char| sign.is_ascii_alphabetic() || matches!(sign, '-' | ' ');
    if !words.ends_with("-search") || !words.chars().all(plain) {
        return None;
    }
    let (_, found) = rest.trim_start().strip_prefix('`')?.split_once("': ")?;
    Some((found, !found.contains("': ")))
}

/// The same as far as a screen shows keys for certain: signs of ASCII.
fn alike(shown: &str, typed: &str) -> bool {
    let told = signs(typed).next().is_some();
    shown.trim_end() == typed.trim_end() || told && signs(shown).eq(signs(typed))
}

/// Of what has no such sign, nothing is known.
fn ends_alike(shown: &str, typed: &str) -> bool {
    let typed_signs: Vec<char> = signs(typed).collect();
    let shown_signs: Vec<char> = signs(shown).collect();
    match typed_signs.is_empty() {
        true => typed.ends_with(|last: char| !last.is_ascii()) && shown.ends_with(typed),
        false => shown_signs.ends_with(&typed_signs),
    }
}

/// Whether the typed lines stand above each other, the last of them right
/// before the cursor, but for blanks and for what has left the screen.
fn stands(typed: &str, line: &Logical, terminal: &Terminal) -> bool {
    let (mut top, mut seen) = (line.top, false);
    let mut row = squeezed(&line.before_cursor);
    for typed in typed.rsplit('\n') {
        let typed = squeezed(typed);
        if !row.ends_with(&typed) {
            return false;
        }
        seen |= !typed.is_empty();
        let Some(above) = top.checked_sub(1) else { break };
        let above = grid::at_row(terminal, above);
        (top, row) = (above.top, squeezed(&above.text));
    }
    seen
}

fn signs(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter(char::is_ascii_graphic)
}
