//! Keys that a terminal writes as control sequences of their own: xterm's
//! modifyOtherKeys (`CSI 27 ; modifiers ; code ~`), the keyboard protocol of
//! kitty (`CSI code:shifted:base ; modifiers:event ; text u`), and the
//! win32-input-mode of Windows' terminals (`CSI Vk ; Sc ; Uc ; Kd ; Cs ; Rc _`).

/// Longest parameters of a control sequence that are looked at, in bytes.
pub const PARAMETERS_BYTES_MAX: usize = 32;
/// Bits of modifiers (kitty's; xterm's are the first four of them).
pub const SHIFT: u32 = 1;
pub const CTRL: u32 = 4;
/// Alt, super, hyper and meta: with one of them a key gives no letter.
pub const OTHERS: u32 = 2 | 8 | 16 | 32;
const CAPS_LOCK: u32 = 64;
/// kitty's event of a key that is let go.
const RELEASED: u32 = 3;
/// Codes of keys that have no letter (kitty, functional key definitions): the keypad's digits and signs among them.
const FUNCTIONAL: std::ops::RangeInclusive<u32> = 57344..=63743;
const KEYPAD: std::ops::RangeInclusive<u32> = 57399..=57416;
/// What the keypad's keys stand for, in the order of their codes.
const ON_KEYPAD: &[u8; 18] = b"0123456789./*-+\r=,";
/// Keys that do nothing by themselves: shift, control and their kin.
const MODIFYING: std::ops::RangeInclusive<u32> = 57441..=57454;
/// Virtual keys of Windows: Enter, and Alt, whose release gives a letter that was typed by its number.
const ENTER: u32 = 13;
const ALT: u32 = 18;
/// Virtual keys of Windows that do nothing by themselves: Shift, Ctrl, Alt, Caps Lock, Windows, Num Lock and Scroll Lock.
const MODIFYING_VIRTUAL: &[u32] = &[16, 17, 18, 20, 91, 92, 144, 145];

/// Numbers of one field, and fields, that are looked at.
const CODES: usize = 3;
const FIELDS: usize = 6;

/// One key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CodedKey {
    /// Its Unicode code; then the same with shift and on a standard layout, where they are told, else 0.
    pub codes: [u32; CODES],
    /// Modifiers, as bits.
    pub modifiers: u32,
    /// The letter it gives, by itself or with shift; a control character, where it stands for one.
    pub letter: Option<char>,
    /// It is let go, or does nothing by itself.
    pub is_idle: bool,
}

/// What a control sequence is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sequence {
    Key(CodedKey),
    /// It looks like a key and cannot be read.
    Unreadable,
    /// Another one.
    Other,
}

/// Reads a sequence by its parameters, and the byte that ends it.
pub fn read(parameters: &[u8], last: u8) -> Sequence {
    if !matches!(last, b'u' | b'~' | b'_') || matches!(parameters.first(), Some(b'<'..=b'?')) {
        return Sequence::Other;
    }
    if parameters.len() >= PARAMETERS_BYTES_MAX {
        return Sequence::Unreadable;
    }
    let Some(fields) = fields(parameters) else {
        return Sequence::Unreadable;
    };
    let [codes, [modifiers, event, _], [third, more, _], ..] = fields;
    let modifiers = modifiers.saturating_sub(1);
    match (last, codes[0]) {
        // Several letters at once.
        (b'u', _) if more > 0 || fields[2][2] > 0 => Sequence::Unreadable,
        (b'_', key) => windows([key, third, fields[3][0], fields[5][0]]),
        (b'u', code) => Sequence::Key(CodedKey {
            codes,
            // With its letter told, the modifiers are spent on that.
            modifiers: match third > 0 && modifiers & OTHERS > 0 {
                // AltGr is Ctrl and Alt to some terminals.
                true => modifiers & !(OTHERS | CTRL),
                false => modifiers,
            },
            letter: letter(codes, modifiers, third),
            is_idle: event == RELEASED || MODIFYING.contains(&code),
        }),
        (_, 27) => Sequence::Key(CodedKey {
            codes: fields[2],
            modifiers,
            // With shift already.
            letter: char::from_u32(third),
            is_idle: false,
        }),
        (_, _) => Sequence::Other,
    }
}

/// The letter of a key of kitty's. `text`: what it says that it gives.
fn letter([code, shifted, _]: [u32; CODES], modifiers: u32, text: u32) -> Option<char> {
    if KEYPAD.contains(&code) {
        let at = usize::try_from(code - KEYPAD.start()).ok()?;
        return ON_KEYPAD.get(at).copied().map(char::from);
    }
    if FUNCTIONAL.contains(&code) {
        return None;
    }
    let with_shift = modifiers & SHIFT > 0;
    let upper = with_shift != (modifiers & CAPS_LOCK > 0);
    let plain = char::from_u32(code)?;
    match (text, with_shift) {
        (1.., _) => char::from_u32(text),
        (0, true) if shifted > 0 => char::from_u32(shifted),
        (0, _) if plain.is_alphabetic() && upper => plain.to_uppercase().next(),
        (0, _) if plain.is_alphabetic() || !with_shift || plain <= ' ' => Some(plain),
        // Which one it is, the keyboard knows.
        (0, _) => None,
    }
}

/// A key of Windows' terminals: its virtual key, its UTF-16 unit, whether it is down, and how often.
fn windows([key, unit, down, times]: [u32; 4]) -> Sequence {
    // Half of a letter, or several of it, stand for none.
    let released = down == 0 && !(key == ALT && unit > 0);
    let letter = char::from_u32(unit).filter(|_| unit > 0 && times <= 1 && !released);
    let codes = match letter {
        _ if released => [0; CODES],
        // The Enter of another layout is one all the same.
        _ if key == ENTER => [unit, key, 0],
        Some(_) => [unit, 0, 0],
        None if unit > 0 => [char::REPLACEMENT_CHARACTER.into(), unit, 0],
        None => [0; CODES],
    };
    Sequence::Key(CodedKey {
        codes,
        modifiers: 0,
        letter,
        is_idle: released || (unit == 0 && MODIFYING_VIRTUAL.contains(&key)),
    })
}

/// Numbers with `:` between them in fields with `;` between them, 0 for none; nothing if they are no numbers, or too many.
fn fields(parameters: &[u8]) -> Option<[[u32; CODES]; FIELDS]> {
    let mut fields = [[0; CODES]; FIELDS];
    for (at, field) in parameters.split(|byte| *byte == b';').enumerate() {
        for (number, digits) in field.split(|byte| *byte == b':').enumerate() {
            let place = fields.get_mut(at)?.get_mut(number)?;
            *place = match digits {
                [] => 0,
                _ if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits).ok()?.parse().ok()?,
                _ => return None,
            };
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_keys() {
        let letter = |sequence: &str| match sequence.as_bytes().split_last() {
            Some((last, parameters)) => match read(parameters, *last) {
                Sequence::Key(key) if !key.is_idle => Ok(key.letter),
                Sequence::Key(_) => Err("idle"),
                Sequence::Unreadable => Err("unreadable"),
                Sequence::Other => Err("other"),
            },
            None => Err("empty"),
        };
        for (sequence, expected) in [
            ("115u", Ok(Some('s'))),
            ("115;2u", Ok(Some('S'))),
            ("115;65u", Ok(Some('S'))),
            ("51:35;2u", Ok(Some('#'))),
            ("51;2u", Ok(None)),
            ("51;2;35u", Ok(Some('#'))),
            ("57400u", Ok(Some('1'))),
            ("57414u", Ok(Some('\r'))),
            ("57352u", Ok(None)),
            ("57441;2u", Err("idle")),
            ("115;1:3u", Err("idle")),
            ("115;1:2u", Ok(Some('s'))),
            ("27;2;83~", Ok(Some('S'))),
            ("200~", Err("other")),
            ("3~", Err("other")),
            ("?1u", Err("other")),
            ("83;31;115;1;0;1_", Ok(Some('s'))),
            ("83;31;115;0;0;1_", Err("idle")),
            ("16;42;0;1;16;1_", Err("idle")),
            ("37;75;0;1;256;1_", Ok(None)),
            ("0;0;55357;1;0;1_", Ok(None)),
            ("83;31;115;1;0;2_", Ok(None)),
            ("18;56;233;0;0;1_", Ok(Some('é'))),
            ("113;3;64u", Ok(Some('@'))),
            ("0;;115:116u", Err("unreadable")),
            ("115;;115::116u", Err("unreadable")),
            ("1\x003u", Err("unreadable")),
            ("A", Err("other")),
        ] {
            assert_eq!(letter(sequence), expected, "{sequence:?}");
        }
    }
}
