//! What a row of the screen says of the lines that were sent.

use std::collections::VecDeque;

use avt::Terminal;

use super::grid::{self, Logical};
use super::keys::Typed;
use super::prompt::{self, Prompt, Prompts};

/// Sent lines that one row of the screen is held against.
pub const ABREAST_MAX: usize = 16;
/// Characters that may have been echoed before their prompt came.
const TORN_MAX: usize = 32;
/// Shortest prompt that is looked for within a row, in bytes: a shorter one may be part of a command.
const INNER_PROMPT_BYTES_MIN: usize = 4;
/// Rows above the cursor that are searched for the start of a line of many rows.
const ROWS_UP_MAX: usize = 200;

/// A line that was sent.
#[derive(Debug)]
pub struct Sent {
    pub at_ms: u64,
    pub prompt: Option<Prompt>,
    pub typed: Typed,
    /// Rows that its editing moved on by.
    pub rows: u64,
    /// Row of the cursor when its Enter was typed, from 0, and pieces of output before that.
    pub row: usize,
    pub shown: u64,
    /// Nothing stood behind its prompt when its Enter was typed: what stands there later is output.
    pub bare: bool,
    /// Its text stood on a row without a prompt.
    pub echoed: bool,
    /// It was typed while the hooked shell ran another.
    pub inside: bool,
    pub looks: u32,
}

/// A line found on the screen.
pub struct Found {
    pub at: usize,
    pub prompt: Prompt,
    pub text: String,
    /// It goes on with the command above it.
    pub goes_on: bool,
    pub line: String,
    /// Its first row on the screen.
    pub top: usize,
}

/// A line that was left and may be drawn further, as far as its keys do not tell it.
#[derive(Debug)]
pub struct Growing {
    pub prompt: Prompt,
    pub text: String,
    /// Where it begins in the text of its command, in bytes.
    pub from: usize,
    /// Its first row on the screen.
    pub top: usize,
}

impl Growing {
    pub fn of(sent: &Sent, prompt: &Prompt, text: &str, from: usize, top: usize) -> Option<Growing> {
        sent.typed.text().is_none().then(|| Growing {
            prompt: prompt.clone(),
            text: text.to_owned(),
            from,
            top,
        })
    }

    /// Rows moved up by so many; nothing once it has left the screen.
    pub fn scrolled(self, rows: usize) -> Option<Growing> {
        let top = self.top.checked_sub(rows)?;
        Some(Growing { top, ..self })
    }
}

/// A command that may go on.
#[derive(Clone, Copy, Debug)]
pub struct Above<'a> {
    pub prompt: &'a str,
    /// The last of its lines, as it stood on the screen.
    pub line: &'a str,
}

/// A look at one line of the screen, at the moment the cursor leaves it.
pub struct Look<'a> {
    pub prompts: &'a Prompts,
    pub open: Option<Above<'a>>,
    pub line: &'a Logical,
    pub terminal: &'a Terminal,
    pub alternate: bool,
}

impl Look<'_> {
    /// Which of the sent lines this is.
    pub fn find(&self, sent: &VecDeque<Sent>) -> Option<Found> {
        let abreast = sent.iter().take(ABREAST_MAX).enumerate();
        let clear = abreast.into_iter().find_map(|(at, sent)| {
            let torn = self.torn(sent);
            let own = torn.or_else(|| self.at_own_prompt(sent));
            Some((at, own.or_else(|| self.as_typed(sent))?))
        });
        let (at, (prompt, text)) = clear.or_else(|| Some((0, self.at_known_prompt(sent.front()?)?)))?;
        Some(Found {
            at,
            goes_on: self.goes_on(&prompt.text),
            prompt,
            text,
            line: self.line.text.clone(),
            top: self.line.top,
        })
    }

    /// Whether a line at this prompt goes on with the open command: it stands
    /// right below it.
    pub fn goes_on(&self, prompt: &str) -> bool {
        let Some(open) = self.open else { return false };
        if !prompt::goes_on(prompt, open.prompt) {
            return false;
        }
        match self.line.top.checked_sub(1) {
            // A suggestion behind it may have come or gone since.
            Some(above) => {
                let above = grid::at_row(self.terminal, above);
                // Or its first rows have left the screen.
                let cut = above.top == 0 && open.line.ends_with(&above.text);
                let either = above.text.starts_with(open.line) || open.line.starts_with(&above.text) || cut;
                !above.text.is_empty() && !open.line.is_empty() && either
            }
            // It has left the screen.
            None => true,
        }
    }

    /// At the prompt that stood there when its first key was typed.
    fn at_own_prompt(&self, sent: &Sent) -> Option<(Prompt, String)> {
        let line = self.line;
        let prompt = &self.prompts.with_right(sent.prompt.as_ref()?);
        let known = self.prompts.is_established(&prompt.text);
        if self.alternate && !(known || prompt::looks_like_one(&prompt.text) || self.goes_on(&prompt.text)) {
            return None;
        }
        let hidden = sent.typed.hidden() > 0;
        if prompt.text.is_empty() {
            let silent = hidden && line.text.is_empty();
            let bare = !self.alternate && self.prompts.accept_nothing();
            return (silent || bare).then(|| (prompt.clone(), line.text.clone()));
        }
        let blank = prompt.text.trim().is_empty();
        let text = match behind(prompt, line) {
            Some(text) => text,
            // fish draws the indentation, and changes it.
            None if blank && line.text.starts_with(' ') => line.text.trim_start().to_owned(),
            None if sent.rows > 0 || sent.typed.was_pasted() => self.many_rows(prompt)?,
            None => return None,
        };
        let text = self.settled(&prompt.text, sent.typed.text(), text);
        let there = (line.top..=line.bottom).contains(&sent.row);
        // An answer that was not echoed as it was typed: stars, perhaps.
        let goes_on = blank && self.goes_on(&prompt.text);
        if hidden && !known && !prompt::looks_like_one(&prompt.text) && !goes_on {
            return (there || !blank).then(|| (prompt.clone(), String::new()));
        }
        let own = match sent.typed.text() {
            // The editor may pass other rows on its way.
            None => there,
            Some(typed) => {
                let (typed, text) = (fold(&typed), fold(&text));
                // Output came between: the line will be drawn again. And where rows
                // are drawn again as a whole, an earlier line is not this one.
                let unread = typed.starts_with(&text) || sent.typed.has_passed(&text);
                typed == text || !(self.alternate || blank || unread)
            }
        };
        own.then(|| (prompt.clone(), text))
    }

    /// What was read, by the keys where they only differ in what is not the
    /// line's: what stands behind the cursor was there before, and where rows
    /// end is not where lines do.
    fn settled(&self, prompt: &str, typed: Option<String>, text: String) -> String {
        match typed {
            Some(typed) if text.starts_with(&typed) && self.line.before_cursor.ends_with(&typed) => typed,
            Some(typed) if squeezed(&typed) == squeezed(&text) => typed,
            // An editor whose prompt does not begin its row wraps elsewhere than the terminal does.
            Some(typed)
                if self.line.top != self.line.bottom && self.prompts.at_end(prompt).is_some_and(|at| at > 0) =>
            {
                typed
            }
            Some(_) | None => text,
        }
    }

    /// A line that was edited over many rows: from the row with the prompt to here.
    pub fn many_rows(&self, prompt: &Prompt) -> Option<String> {
        let line = self.line;
        let mut below = line.text.clone();
        let mut top = line.top;
        while top > 0 && line.top - top < ROWS_UP_MAX {
            let above = grid::at_row(self.terminal, top - 1);
            top = above.top;
            let own = behind(prompt, &above);
            let text = own.as_ref().unwrap_or(&above.text);
            below = match above.full {
                true => format!("{text}{below}"),
                false => format!("{text}\n{below}"),
            };
            if own.is_some() {
                return Some(below);
            }
        }
        None
    }

    /// The keys tell the text, and the row ends with it behind a prompt.
    fn as_typed(&self, sent: &Sent) -> Option<(Prompt, String)> {
        let line = self.line;
        let typed = sent.typed.text()?;
        let typed = typed.trim_end();
        if typed.trim().is_empty() {
            return None;
        }
        let last = typed.rsplit('\n').next().unwrap_or(typed);
        let many = typed.contains('\n');
        let own = sent
            .prompt
            .as_ref()
            .filter(|prompt| self.prompts.is_established(&prompt.text));
        let right = own.or_else(|| self.prompts.at_start(&line.text).map(|(_, prompt)| prompt));
        let row = right.and_then(|prompt| without_right(prompt, line));
        let row = row.as_deref().unwrap_or(&line.text);
        let before = row.strip_suffix(last)?;
        if many && before.is_empty() {
            // Its first row has left the screen.
            return Some((own?.clone(), typed.to_owned()));
        }
        if before.is_empty() || !(self.prompts.knows(before) || self.goes_on(before)) {
            return None;
        }
        let prompt = Prompt {
            text: before.to_owned(),
            right: right.and_then(|prompt| prompt.right.clone()),
        };
        Some((prompt, typed.to_owned()))
    }

    /// The prompt came while it was typed, and the terminal had echoed a part:
    /// `tr% ue`.
    fn torn(&self, sent: &Sent) -> Option<(Prompt, String)> {
        let typed = sent.typed.text()?;
        let typed = typed.trim_end();
        typed.char_indices().skip(1).take(TORN_MAX).find_map(|(at, _)| {
            let (echoed, rest) = typed.split_at(at);
            let before = self.line.text.strip_suffix(rest)?;
            let (ahead, prompt) = before.split_at(self.prompts.at_end(before)?);
            ahead.ends_with(echoed).then(|| {
                let prompt = Prompt {
                    text: prompt.to_owned(),
                    right: None,
                };
                (prompt, typed.to_owned())
            })
        })
    }

    /// At a prompt that was seen before. Only for lines that the keys do not tell.
    fn at_known_prompt(&self, sent: &Sent) -> Option<(Prompt, String)> {
        let line = self.line;
        let inner = |prompt: &Prompt| prompt.text.len() > 1 && prompt.text.trim().is_empty();
        if sent.prompt.as_ref().is_some_and(inner) {
            return None;
        }
        let shown = sent.typed.text();
        // Where whole screens are drawn, earlier lines pass by as well.
        let earlier = self.open.is_some_and(|open| open.line == line.text) || line.bottom + 1 < sent.row;
        // What is typed into an editor is at no prompt, and its end brings them all back.
        let elsewhere = |prompt: &Prompt| !self.prompts.is_established(&prompt.text);
        if self.alternate && shown.is_none() && (earlier || sent.prompt.as_ref().is_some_and(elsewhere)) {
            return None;
        }
        let padded = format!("{} ", line.text);
        if let Some((prompt, text)) = self.further(&padded)
            && shown.as_ref().is_none_or(|typed| fold(typed) == fold(text))
        {
            let prompt = Prompt {
                text: prompt.to_owned(),
                right: None,
            };
            return Some((prompt, text.trim_end().to_owned()));
        }
        let (from, len, known) = self.behind_echo(sent, &padded)?;
        let prompt = Prompt {
            text: padded.get(from..from + len)?.to_owned(),
            right: known.right.clone(),
        };
        let text = match from {
            0 => behind(&prompt, line)?,
            _ => {
                let whole = without_right(&prompt, line);
                let whole = whole.as_deref().unwrap_or(&line.text);
                whole.get(from + len..).unwrap_or_default().trim_end().to_owned()
            }
        };
        let text = self.settled(&prompt.text, shown.clone(), text);
        match shown {
            Some(typed) if fold(&typed) != fold(&text) => None,
            Some(_) | None => Some((prompt, text)),
        }
    }

    /// Place and length of the known prompt of a row. Before it may stand what
    /// the terminal echoed of a line that was typed ahead: `troot@db1:~# true`.
    fn behind_echo(&self, sent: &Sent, row: &str) -> Option<(usize, usize, &Prompt)> {
        if let Some((len, known)) = self.prompts.at_start(row) {
            return Some((0, len, known));
        }
        if sent.prompt.as_ref().is_some_and(|prompt| !prompt.text.is_empty()) {
            return None;
        }
        (1..=TORN_MAX).find_map(|from| {
            let (len, known) = self.prompts.at_start(row.get(from..)?)?;
            (len >= INNER_PROMPT_BYTES_MIN).then_some((from, len, known))
        })
    }

    /// A prompt that asks for more, and what stands behind it.
    fn further<'l>(&self, line: &'l str) -> Option<(&'l str, &'l str)> {
        let ends = ["> ", "... ", "# "]
            .iter()
            .filter_map(|end| Some(line.find(end)? + end.len()));
        let (prompt, text) = line.split_at_checked(ends.min()?)?;
        self.goes_on(prompt).then_some((prompt, text))
    }

    /// What the line has grown to that was left before all of it was drawn.
    pub fn grown(&self, growing: &Growing) -> Option<String> {
        let near = self.line.top == growing.top || self.line.top + 1 == growing.top;
        let now = behind(&growing.prompt, self.line).filter(|_| near && !growing.prompt.text.is_empty())?;
        (now.len() > growing.text.len() && now.starts_with(&growing.text)).then_some(now)
    }
}

/// What stands behind a prompt, without what is at the right edge.
pub fn behind(prompt: &Prompt, line: &Logical) -> Option<String> {
    let text = without_right(prompt, line).unwrap_or_else(|| line.text.clone());
    match text.strip_prefix(prompt.text.as_str()) {
        Some(rest) => Some(rest.to_owned()),
        // Nothing is offered for nothing: then it is the line itself, and it is dim.
        None if text == prompt.text.trim_end() => {
            let whole = line.whole.as_deref().unwrap_or_default();
            Some(whole.strip_prefix(prompt.text.as_str()).unwrap_or_default().to_owned())
        }
        None => None,
    }
}

/// The line without the text at the right edge, if one is there.
fn without_right(prompt: &Prompt, line: &Logical) -> Option<String> {
    let right = prompt.right.as_ref()?;
    // Only a line of one row has anything there. Output that did not end its
    // row may stand in those above.
    let one = line.top == line.bottom;
    if !one && (prompt.text.is_empty() || !prompt.text.starts_with(&line.first_row)) {
        return None;
    }
    if let Some(kept) = line.text.strip_suffix(right.text.as_str())
        && kept.ends_with(' ')
    {
        return Some(kept.trim_end().to_owned());
    }
    let behind = line.text.strip_prefix(line.before_cursor.as_str()).unwrap_or_default();
    let edge = right.column + right.text.chars().count();
    if one && !behind.is_empty() && right.text.ends_with(behind) && line.text.chars().count() == edge {
        // The line has grown into it.
        return Some(line.before_cursor.clone());
    }
    // It changes, as a clock does: then it is known by its place.
    let place = match (one, &line.right) {
        (_, Some(now)) => line.text.strip_suffix(now.text.as_str())?.len(),
        (true, None) => line.text.char_indices().nth(right.column)?.0,
        (false, None) => return None,
    };
    let (kept, now) = line.text.split_at(place);
    (kept.ends_with("  ") && is_alike(now, &right.text)).then(|| kept.trim_end().to_owned())
}

/// The same but for digits.
fn is_alike(one: &str, other: &str) -> bool {
    let alike = |(a, b): (char, char)| a == b || a.is_ascii_digit() && b.is_ascii_digit();
    one.chars().count() == other.chars().count() && one.chars().zip(other.chars()).all(alike)
}

/// The same wherever blanks are.
pub fn squeezed(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The same for every run of blanks: a screen does not tell them apart.
pub fn fold(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
