//! The line being typed.

use crate::kernel::command::{PasteEnd, Typed};

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
    /// Pieces of output before its last key went on.
    pub last: u64,
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
