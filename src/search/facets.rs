//! Who, where and what of an entry as words of the index, so that they are
//! found as fast as words are. Each is a letter and hexadecimal digits: no
//! name can be taken for another, or for a piece of the query language.

use portcullis_player::asked::REFUSED;
use portcullis_player::entry::{Entry, HIDDEN, Kind, program_of};
use portcullis_player::query::{Query, Status};

use super::Recorded;

/// Any exit status but 0.
const FAILED: &str = "sfailed";

fn coded(letter: char, name: &str) -> String {
    let digits = name.bytes().map(|byte| format!("{byte:02x}"));
    std::iter::once(letter.to_string()).chain(digits).collect()
}

/// Who.
pub fn user(name: &str) -> String {
    coded('u', name)
}

/// A label.
pub fn label(name: &str) -> String {
    coded('l', name)
}

/// A program that was run.
pub fn program(name: &str) -> String {
    coded('p', name)
}

/// What a label or program was, of its facet.
pub fn name(facet: &str) -> Option<(char, String)> {
    let mut chars = facet.chars();
    let letter = chars.next()?;
    let digits = chars.as_str();
    let bytes: Option<Vec<u8>> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(digits.get(at..at.saturating_add(2))?, 16).ok())
        .collect();
    Some((letter, String::from_utf8(bytes?).ok()?))
}

/// All of an entry's.
pub fn of(recorded: &Recorded, entry: &Entry) -> String {
    let mut all = vec![
        user(&recorded.identity),
        coded('t', &recorded.target),
        format!("k{}", entry.kind.word()),
    ];
    all.extend(entry.labels.iter().map(|name| label(name)));
    if let Some(status) = entry.status {
        all.push(format!("s{status}"));
        if status != 0 {
            all.push(FAILED.to_owned());
        }
    }
    let ran = entry.text != HIDDEN && !entry.labels.iter().any(|label| label == REFUSED);
    if entry.kind == Kind::Command && ran {
        all.extend(program_of(&entry.text).map(program));
    }
    all.join(" ")
}

/// Those that a query asks for.
pub fn asked(query: &Query) -> Vec<String> {
    let mut all: Vec<String> = query.labels().iter().map(|name| label(name)).collect();
    all.extend(query.user().map(user));
    all.extend(query.target().map(|name| coded('t', name)));
    all.extend(query.kind().map(|kind| format!("k{}", kind.word())));
    all.extend(query.status().map(|status| match status {
        Status::Is(status) => format!("s{status}"),
        Status::Failed => FAILED.to_owned(),
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        for text in ["alice", "O'Brien\"*", "größe", ""] {
            assert_eq!(name(&label(text)), Some(('l', text.to_owned())));
        }
        assert_eq!(name("kcommand"), None);
    }
}
