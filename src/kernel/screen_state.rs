//! Whether a terminal's output stream can be written into right now.
//!
//! A warning put in the middle of an escape sequence or of a UTF-8 character
//! would wreck the screen. This tracks just enough of ECMA-48 and xterm's
//! private modes: ground or not, alternate screen or not.

/// Longest control string that is waited for, in bytes; past it the string is
/// taken for unterminated and ground is assumed again.
const STRING_BYTES_MAX: usize = 4096;
/// Longest CSI that is looked at, in bytes.
const CSI_BYTES_MAX: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Ground,
    Utf8 {
        more: u8,
    },
    Escape,
    EscapeIntermediate,
    Csi,
    /// OSC, DCS, APC, PM or SOS, until ST or BEL.
    Text {
        bytes: usize,
        escape: bool,
    },
}

/// Follows one terminal's output.
#[derive(Clone, Debug)]
pub struct ScreenState {
    state: State,
    csi: Vec<u8>,
    alternate: bool,
    pastes: bool,
    /// How often it was told of pastes, or told that it is not.
    told: u64,
}

impl Default for ScreenState {
    fn default() -> Self {
        ScreenState {
            state: State::Ground,
            csi: Vec::new(),
            alternate: false,
            pastes: false,
            told: 0,
        }
    }
}

impl ScreenState {
    /// Takes what was delivered to the client.
    pub fn advance(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.step(byte);
        }
    }

    /// No sequence is open: bytes of our own would be read as themselves.
    pub fn is_ground(&self) -> bool {
        self.state == State::Ground
    }

    /// A full-screen program has the alternate screen.
    pub fn is_alternate(&self) -> bool {
        self.alternate
    }

    /// Whether the program wants to be told where a paste begins and ends (DECSET
    /// 2004), and which one that is: each says so anew when it begins to read.
    pub fn told_of_pastes(&self) -> Option<u64> {
        self.pastes.then_some(self.told)
    }

    /// How often programs said that they want to be told, or that they do not.
    pub fn times_told(&self) -> u64 {
        self.told
    }

    fn step(&mut self, byte: u8) {
        self.state = match (self.state, byte) {
            (State::Text { bytes, escape }, _) => match (byte, escape) {
                (0x07, _) | (0x9c, _) | (b'\\', true) => State::Ground,
                (0x18 | 0x1a, _) => State::Ground,
                _ if bytes >= STRING_BYTES_MAX => State::Ground,
                _ => State::Text {
                    bytes: bytes + 1,
                    escape: byte == 0x1b,
                },
            },
            (_, 0x1b) => State::Escape,
            (_, 0x18 | 0x1a) => State::Ground,
            (State::Utf8 { more }, 0x80..=0xbf) => match more {
                0 | 1 => State::Ground,
                _ => State::Utf8 { more: more - 1 },
            },
            (State::Ground | State::Utf8 { .. }, 0xc2..=0xdf) => State::Utf8 { more: 1 },
            (State::Ground | State::Utf8 { .. }, 0xe0..=0xef) => State::Utf8 { more: 2 },
            (State::Ground | State::Utf8 { .. }, 0xf0..=0xf4) => State::Utf8 { more: 3 },
            (State::Ground | State::Utf8 { .. }, _) => State::Ground,
            (State::Escape, b'[') => {
                self.csi.clear();
                State::Csi
            }
            (State::Escape, b']' | b'P' | b'_' | b'^' | b'X') => State::Text {
                bytes: 0,
                escape: false,
            },
            (State::Escape, 0x20..=0x2f) => State::EscapeIntermediate,
            (State::Escape, b'c') => {
                (self.alternate, self.pastes) = (false, false);
                self.told = self.told.saturating_add(1);
                State::Ground
            }
            (State::Escape, _) => State::Ground,
            (State::EscapeIntermediate, 0x20..=0x2f) => State::EscapeIntermediate,
            (State::EscapeIntermediate, _) => State::Ground,
            (State::Csi, 0x40..=0x7e) => {
                self.finish_csi(byte);
                State::Ground
            }
            (State::Csi, _) => {
                if self.csi.len() < CSI_BYTES_MAX {
                    self.csi.push(byte);
                }
                State::Csi
            }
        };
    }

    /// DECSET/DECRST 47, 1047 and 1049 switch to and from the alternate screen, 2004 brackets around pastes on and off.
    fn finish_csi(&mut self, last: u8) {
        let Some(modes) = self.csi.strip_prefix(b"?") else {
            return;
        };
        let pastes = modes.split(|byte| *byte == b';').any(|mode| mode == b"2004");
        if pastes && matches!(last, b'h' | b'l') {
            self.pastes = last == b'h';
            self.told = self.told.saturating_add(1);
        }
        let switches = modes
            .split(|byte| *byte == b';')
            .any(|mode| matches!(mode, b"47" | b"1047" | b"1049"));
        match last {
            b'h' if switches => self.alternate = true,
            b'l' if switches => self.alternate = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(bytes: &[u8]) -> ScreenState {
        let mut state = ScreenState::default();
        state.advance(bytes);
        state
    }

    #[test]
    fn ground_is_only_between_sequences() {
        let cases: [(&[u8], bool); 10] = [
            (b"hello", true),
            (b"\x1b", false),
            (b"\x1b[31", false),
            (b"\x1b[31m", true),
            (b"\x1b]0;title", false),
            (b"\x1b]0;title\x07", true),
            (b"\x1bPq\x1b\\", true),
            ("\u{e9}".as_bytes(), true),
            (&[0xe2, 0x82], false),
            (b"\x1b(", false),
        ];
        for (bytes, ground) in cases {
            assert_eq!(after(bytes).is_ground(), ground, "{bytes:?}");
        }
    }

    #[test]
    fn an_unterminated_string_does_not_hold_for_ever() {
        let mut state = after(b"\x1b]52;c;");
        state.advance(&[b'A'; STRING_BYTES_MAX + 2]);
        assert!(state.is_ground());
    }

    #[test]
    fn alternate_screen_is_followed() {
        assert!(after(b"\x1b[?1049h").is_alternate());
        assert!(after(b"\x1b[?25;1049h").is_alternate());
        assert!(!after(b"\x1b[?1049h\x1b[?1049l").is_alternate());
        assert!(!after(b"\x1b[?1049h\x1bc").is_alternate());
    }
}
