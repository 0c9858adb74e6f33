//! Names in a spool folder, as pure functions (FORMAT.md section 7.4): one folder a session, one main file, tails.

/// Extension of a recording.
pub const EXTENSION: &str = "pcr";
/// The main file of a running session, within its folder.
pub const MAIN_FILE: &str = "main.pcr";
/// What is added to a recording's whole name to name its envelope.
pub const ENVELOPE_EXTENSION: &str = "age";
/// The envelope of a running encrypted session, within its folder.
pub const ENVELOPE_FILE: &str = "main.pcr.age";
/// What recovery writes before it renames it over nothing: never read, removed when found.
pub const RECOVERING_FILE: &str = "recovering.tmp";

/// Name of a session's spool folder, and stem of its recording.
pub fn session_name(session_id: &[u8; 16]) -> String {
    session_id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Name of a sealed recording.
pub fn recording_file(session_id: &[u8; 16]) -> String {
    format!("{}.{EXTENSION}", session_name(session_id))
}

/// Name of the envelope that lies beside an encrypted recording of that name.
pub fn envelope_file(recording: &str) -> String {
    format!("{recording}.{ENVELOPE_EXTENSION}")
}

/// Session of a folder name; `None` if it is not one.
pub fn parse_session_name(name: &str) -> Option<[u8; 16]> {
    if name.len() != 32 || !name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut id = [0; 16];
    for (to, pair) in id.iter_mut().zip(name.as_bytes().chunks_exact(2)) {
        *to = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(id)
}

/// Name of the tail file of segment `index`.
pub fn tail_file(index: u64) -> String {
    format!("tail-{index:06}")
}

/// Segment of a tail file's name; `None` if it is not one.
pub fn parse_tail_file(name: &str) -> Option<u64> {
    let index = name.strip_prefix("tail-")?.parse().ok()?;
    (tail_file(index) == name).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_spelling() {
        let id = [0xAB; 16];
        assert_eq!(parse_session_name(&session_name(&id)), Some(id));
        assert_eq!(parse_session_name(&session_name(&id).to_uppercase()), None);
        assert_eq!(envelope_file(MAIN_FILE), ENVELOPE_FILE);
        assert_eq!(tail_file(7), "tail-000007");
        assert_eq!(parse_tail_file("tail-000007"), Some(7));
        assert_eq!(parse_tail_file("tail-1000000"), Some(1_000_000));
        for bad in ["tail-7", "tail-+00007", "tail-", "tail-000007.tmp"] {
            assert_eq!(parse_tail_file(bad), None, "{bad}");
        }
    }
}
