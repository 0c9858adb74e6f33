//! Times as people read them.

use jiff::Timestamp;

/// Milliseconds since 1970 as `2026-01-02T03:04:05.678Z`.
pub fn utc(wall_ms: u64) -> String {
    let time = i64::try_from(wall_ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => format!("{time:.3}"),
        None => format!("{wall_ms} ms after 1970"),
    }
}

/// A length of time as `1:02:03` or `2:03`.
pub fn clock(ms: u64) -> String {
    let secs = ms / 1000;
    let (hours, minutes, secs) = (secs / 3600, secs / 60 % 60, secs % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{secs:02}")
    } else {
        format!("{minutes}:{secs:02}")
    }
}

/// A moment in a recording as `0:02:03.456`.
pub fn exact(ms: u64) -> String {
    let secs = ms / 1000;
    format!(
        "{}:{:02}:{:02}.{:03}",
        secs / 3600,
        secs / 60 % 60,
        secs % 60,
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_well() {
        assert_eq!(utc(1_790_000_000_000), "2026-09-21T14:13:20.000Z");
        assert_eq!(utc(u64::MAX), format!("{} ms after 1970", u64::MAX));
        assert_eq!(clock(123_000), "2:03");
        assert_eq!(clock(3_723_999), "1:02:03");
        assert_eq!(exact(3_723_004), "1:02:03.004");
    }
}
