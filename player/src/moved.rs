//! What was done to files, in words that are safe to show.

use portcullis_recording::moved::{Act, Moved, Outcome};
use serde::Serialize;

use crate::plain;

/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 4096;

/// One event about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was done: `upload`, `rename` and so on.
    pub act: &'static str,
    /// To which file.
    pub path: String,
    /// The new name, what a link says, the attributes; of an scp the name below `path`.
    pub other: String,
    /// `done`, `failed`, `unfinished` or `refused`.
    pub outcome: &'static str,
    /// Why, where it was not done.
    pub words: String,
    /// When it was asked for, in ms since the session opened.
    pub began_ms: u64,
    /// Bytes that crossed.
    pub bytes: u64,
    /// SHA-256 of the whole file, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Why the whole is not known: a stable code.
    pub unknown: Option<String>,
    /// What crossed in runs, where the whole is not known or came in several.
    pub ranges: Vec<Range>,
}

/// Bytes `[offset, offset + length)`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Where they begin in the file.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// Their SHA-256 in hexadecimal digits.
    pub sha256: String,
}

impl From<&Moved<'_>> for Row {
    fn from(moved: &Moved<'_>) -> Row {
        Row {
            act: moved.act.as_str(),
            path: plain::bytes(&moved.path, PATH_CHARS_MAX),
            other: plain::bytes(&moved.other, PATH_CHARS_MAX),
            outcome: moved.outcome.as_str(),
            words: plain::line(&moved.words),
            began_ms: moved.began_ms,
            bytes: moved.bytes,
            sha256: moved.whole.as_ref().map(|hash| plain::hex(hash)),
            unknown: (!moved.unknown.is_empty()).then(|| plain::line(&moved.unknown)),
            ranges: moved
                .ranges
                .iter()
                .map(|range| Range {
                    offset: range.offset,
                    length: range.length,
                    sha256: plain::hex(&range.sha256),
                })
                .collect(),
        }
    }
}

/// A path among other words: in quotes if it could pass for some of them.
fn quoted(path: &str) -> String {
    match path.contains([',', ':', '>', '"', '\\']) {
        true => format!("{path:?}"),
        false => path.to_owned(),
    }
}

/// The same in one line.
pub fn words(moved: &Moved<'_>) -> String {
    let row = Row::from(moved);
    if moved.act == Act::Lost {
        return format!("files are not followed from here on: {}", row.words);
    }
    let mut said = format!("{} {}", row.act, quoted(&row.path));
    if !row.other.is_empty() {
        said += match moved.act {
            Act::Rename | Act::Hardlink | Act::Copy | Act::Symlink => " -> ",
            Act::Download
            | Act::Upload
            | Act::List
            | Act::Remove
            | Act::MakeDir
            | Act::RemoveDir
            | Act::SetAttributes
            | Act::Lost => ": ",
        };
        said += &match moved.act {
            // In words of the server's own.
            Act::SetAttributes => row.other,
            Act::Download
            | Act::Upload
            | Act::List
            | Act::Rename
            | Act::Remove
            | Act::MakeDir
            | Act::RemoveDir
            | Act::Symlink
            | Act::Hardlink
            | Act::Copy
            | Act::Lost => quoted(&row.other),
        };
    }
    if moved.act.is_transfer() {
        said += &format!(", {} bytes", row.bytes);
        match (&row.sha256, &row.unknown) {
            (Some(hash), _) => said += &format!(", SHA-256 {hash}"),
            (None, Some(why)) => said += &format!(", whole unknown ({why})"),
            (None, None) => {}
        }
    }
    match moved.outcome {
        Outcome::Done => {}
        Outcome::Unfinished => said += ", unfinished",
        Outcome::Failed | Outcome::Refused => said += &format!(", {}: {}", row.outcome, row.words),
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_pass_for_what_stands_behind_it() {
        let of = |path: &str| words(&Moved::plain(Act::Download, path.as_bytes().to_vec().into()));
        assert!(of("/srv/a b").starts_with("download /srv/a b, 0 bytes"));
        let said = of("/x, 10 bytes, SHA-256 \"ab");
        assert!(
            said.starts_with(r#"download "/x, 10 bytes, SHA-256 \"ab", 0 bytes"#),
            "{said}"
        );
    }
}
