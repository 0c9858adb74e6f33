//! The line being typed.

use crate::kernel::command::{PasteEnd, Typed};

/// The usual VSTOP: nothing more is shown before VSTART (POSIX, General Terminal Interface).
pub const STOP: u8 = 0x13;
/// The usual VSTART.
pub const START: u8 = 0x11;
/// The usual VINTR.
pub const INTERRUPT: u8 = 0x03;
/// The usual key before a key that is text (VLNEXT, `quoted-insert`).
pub const LITERAL: u8 = 0x16;
/// What a terminal writes before a paste (xterm, bracketed paste).
pub const PASTE_BEGINS: &[u8] = b"\x1b[200~";

/// The line being typed.
#[derive(Default)]
pub struct Typing {
    pub keys: Vec<u8>,
    pub typed: Typed,
    /// Where a bracketed paste began in the keys, and which program was told of it.
    pub paste: usize,
    pub paste_to: Option<u64>,
    /// Pieces of output before the last Enter that went into a paste, or into what may be one.
    pub entered: Option<u64>,
    /// Signs that an echo would show.
    pub signs: usize,
    pub too_long: bool,
    /// When its first key went on, in session ms, and pieces of output before.
    pub began: Option<(u64, u64)>,
    /// Pieces of output before its last key went on, and when that was, in session ms.
    pub last: u64,
    pub last_ms: u64,
    /// Its program may have begun it by itself.
    pub brought: bool,
    /// That, and by what was put there before: ^O.
    pub next: bool,
    /// What was sent before may be another row of the same line.
    pub joined: bool,
}

impl Typing {
    /// The keys of another line were taken back, or should be: what they left
    /// may stand in this one. `shown`: pieces of output so far.
    pub fn behind_another(shown: u64) -> Typing {
        let mut typing = Typing {
            last: shown,
            brought: true,
            ..Typing::default()
        };
        typing.typed.spoil();
        typing
    }

    /// Whether each key adds the sign that it shows: nothing that stood there on the way looks like the whole.
    pub fn only_adds(&self) -> bool {
        // A key that says how to take the next one is none yet.
        let begins_another = |byte: &u8| matches!(*byte, 0x1b | LITERAL);
        let mut keys = match self.keys.split_last() {
            Some((last, before)) if begins_another(last) => before,
            Some(_) | None => self.keys.as_slice(),
        };
        while let Some((first, rest)) = keys.split_first() {
            keys = match (behind_report(keys), first) {
                (Some(behind), _) => behind,
                (None, b' '..=b'~' | 0x0c) => rest,
                (None, _) => return false,
            };
        }
        !self.too_long
    }

    /// Whether the cursor may be in another row of the line than its last: a key other than text, and those that
    /// rub out, complete or go to the end, may have moved it there. What is not ASCII may be keys with Meta.
    pub fn may_be_above(&self) -> bool {
        let mut keys = self.keys.as_slice();
        while let Some((first, rest)) = keys.split_first() {
            let marker = [PASTE_BEGINS, PasteEnd::ENDS]
                .into_iter()
                .find_map(|marker| keys.strip_prefix(marker));
            keys = match (marker.or_else(|| behind_report(keys)), first) {
                (Some(behind), _) => behind,
                (None, b' '..=b'~' | b'\t' | b'\r' | b'\n' | 0x05 | 0x08 | 0x0c | 0x15 | 0x17 | 0x7f) => rest,
                (None, _) => return true,
            };
        }
        self.too_long || self.brought
    }

    /// Whether a key of it may do something else than add its sign, to the line or to the output.
    pub fn edits(&self) -> bool {
        let edits = |key: &u8| !matches!(*key, b' '..=b'~' | START | STOP);
        self.too_long || self.keys.iter().any(edits)
    }

    /// Whether the last of these keys that stops or starts output has stopped it.
    pub fn is_stopped(&self) -> bool {
        let last = self.keys.iter().rfind(|key| matches!(**key, START | STOP));
        last == Some(&STOP)
    }

    /// The key that is typed now puts a line aside: so many may come back, with the `stashed` ones. Behind an argument
    /// nobody counts them; what runs something about the line (ESC h, ESC ?) brings it back at once.
    pub fn puts_aside(&self, key: u8, stashed: u8) -> u8 {
        let before = self.keys.strip_suffix(b"\x1b").unwrap_or(&self.keys);
        let argument = matches!(before, [.., 0x1b, b'0'..=b'9' | b'-']);
        match key {
            b'h' | b'H' | b'?' => stashed.max(2),
            _ if argument || self.too_long => u8::MAX,
            _ => stashed.max(1).saturating_add(1),
        }
    }

    /// Whether a paste may not be what it seems: a key in it or before it may have ended it.
    pub fn is_doubtful(&self) -> bool {
        // What begins one is as long as what ends it.
        let before = self
            .keys
            .get(..self.paste.saturating_sub(PasteEnd::BYTES))
            .unwrap_or_default();
        let within = self.keys.get(self.paste..).unwrap_or_default();
        let edits = |byte: &u8| byte.is_ascii_control() && !matches!(byte, 0x7f | 0x08);
        let control = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\r' | b'\n');
        // The eighth bit of what is no character may be a key's.
        let keys = [before, within].map(std::str::from_utf8).iter().any(Result::is_err);
        self.too_long || keys || before.iter().any(edits) || within.iter().any(control)
    }
}

/// What follows a report of the terminal itself, where one stands: focus, cursor, attributes (xterm).
fn behind_report(keys: &[u8]) -> Option<&[u8]> {
    let within = keys.strip_prefix(b"\x1b[")?;
    let end = within.iter().position(|byte| !matches!(byte, 0x20..=0x3f))?;
    let (report, behind) = within.split_at_checked(end.saturating_add(1))?;
    report
        .last()
        .filter(|last| matches!(last, b'I' | b'O' | b'R' | b'c'))
        .map(|_| behind)
}
