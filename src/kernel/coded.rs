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
/// Virtual keys of Windows that do nothing by themselves: Shift, Ctrl, Alt, Caps Lock, Windows, Num Lock and Scroll Lock.
const MODIFYING_VIRTUAL: &[u32] = &[16, 17, 18, 20, 91, 92, 144, 145];

/// One key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CodedKey {
    /// Its Unicode code; then the same with shift and on a standard layout, where they are told.
    pub codes: Vec<u32>,
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
    let fields: Option<Vec<Vec<u32>>> = parameters.split(|byte| *byte == b';').map(numbers).collect();
    let Some(fields) = fields else {
        return Sequence::Unreadable;
    };
    let field = |at: usize| fields.get(at).map(Vec::as_slice).unwrap_or_default();
    let first = |at: usize| field(at).first().copied().unwrap_or_default();
    let modifiers = first(1).saturating_sub(1);
    match (last, field(0)) {
        // Several letters at once.
        (b'u', _) if field(2).len() > 1 => Sequence::Unreadable,
        (b'_', _) => windows([first(0), first(2), first(3), first(5)]),
        (b'u', codes) => Sequence::Key(CodedKey {
            codes: codes.to_vec(),
            modifiers,
            letter: letter(codes, modifiers, first(2)),
            is_idle: field(1).get(1) == Some(&RELEASED) || codes.first().is_some_and(|code| MODIFYING.contains(code)),
        }),
        (_, [27]) => Sequence::Key(CodedKey {
            codes: field(2).to_vec(),
            modifiers,
            // With shift already.
            letter: char::from_u32(first(2)),
            is_idle: false,
        }),
        (_, _) => Sequence::Other,
    }
}

/// The letter of a key of kitty's. `text`: what it says that it gives.
fn letter(codes: &[u32], modifiers: u32, text: u32) -> Option<char> {
    let code = codes.first().copied()?;
    if KEYPAD.contains(&code) {
        let at = usize::try_from(code - KEYPAD.start()).ok()?;
        return ON_KEYPAD.get(at).copied().map(char::from);
    }
    if FUNCTIONAL.contains(&code) {
        return None;
    }
    let shifted = codes.get(1).copied().filter(|code| *code > 0);
    let with_shift = modifiers & SHIFT > 0;
    let upper = with_shift != (modifiers & CAPS_LOCK > 0);
    let plain = char::from_u32(code)?;
    match (text, with_shift) {
        (1.., _) => char::from_u32(text),
        (0, true) if shifted.is_some() => shifted.and_then(char::from_u32),
        (0, _) if plain.is_alphabetic() && upper => plain.to_uppercase().next(),
        (0, _) if plain.is_alphabetic() || !with_shift || plain <= ' ' => Some(plain),
        // Which one it is, the keyboard knows.
        (0, _) => None,
    }
}

/// A key of Windows' terminals: its virtual key, its UTF-16 unit, whether it is down, and how often.
fn windows([key, unit, down, times]: [u32; 4]) -> Sequence {
    let letter = char::from_u32(unit).filter(|_| unit > 0);
    // Half of a letter, or several.
    if (unit > 0 && letter.is_none()) || times > 1 {
        return Sequence::Unreadable;
    }
    // The Enter of another layout is one all the same.
    let codes = if key == 13 { vec![unit, key] } else { vec![unit] };
    Sequence::Key(CodedKey {
        codes,
        modifiers: 0,
        letter,
        is_idle: down == 0 || (unit == 0 && MODIFYING_VIRTUAL.contains(&key)),
    })
}

/// Numbers with `:` between them, 0 for none; nothing if they are no numbers.
fn numbers(field: &[u8]) -> Option<Vec<u32>> {
    let number = |digits: &[u8]| match digits {
        [] => Some(0),
        _ if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    };
    field.split(|byte| *byte == b':').map(number).collect()
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
            ("0;0;55357;1;0;1_", Err("unreadable")),
            ("83;31;115;1;0;2_", Err("unreadable")),
            ("0;;115:116u", Err("unreadable")),
            ("1\x003u", Err("unreadable")),
            ("A", Err("other")),
        ] {
            assert_eq!(letter(sequence), expected, "{sequence:?}");
        }
    }
}
