//! Times as people type them when they want to go somewhere.

/// Where to go, in ms from the start: `90`, `1:30`, `1:02:03.5`, `50%`, `+30`, `-10`, or a UTC time as `14:05:00Z` or
/// `2026-01-02T14:05:00Z`. The error says what would be understood.
pub fn parse(text: &str, now_ms: u64, length_ms: u64, opened_wall_ms: u64) -> Result<u64, String> {
    let text = text.trim();
    let refused = || format!("no time: {text:?}. Try 90, 1:30, 1:02:03, 50%, +30, -10 or 14:05:00Z");
    if let Some(percent) = text.strip_suffix('%') {
        let percent: u64 = percent.trim().parse().map_err(|_| refused())?;
        return Ok((u128::from(length_ms) * u128::from(percent.min(100)) / 100) as u64);
    }
    if text.ends_with(['Z', 'z']) {
        return wall(text, opened_wall_ms).ok_or_else(refused);
    }
    if let Some(by) = text.strip_prefix('+') {
        return Ok(now_ms.saturating_add(offset(by).ok_or_else(refused)?));
    }
    if let Some(by) = text.strip_prefix('-') {
        return Ok(now_ms.saturating_sub(offset(by).ok_or_else(refused)?));
    }
    offset(text).ok_or_else(refused)
}

/// `[[h:]m:]s[.fraction]`, with an `s` behind it or not.
fn offset(text: &str) -> Option<u64> {
    let text = text.trim_end_matches('s');
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let mut secs = 0u64;
    let parts: Vec<&str> = whole.split(':').collect();
    if parts.len() > 3 {
        return None;
    }
    for part in parts {
        let n: u64 = if digits(part) { part.parse().ok()? } else { return None };
        secs = secs.checked_mul(60)?.checked_add(n)?;
    }
    let ms: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    secs.checked_mul(1000)?.checked_add(ms)
}

/// A wall clock time; one without a date is the first such after the opening.
fn wall(text: &str, opened_wall_ms: u64) -> Option<u64> {
    const DAY_MS: u64 = 24 * 3600 * 1000;
    if let Ok(time) = text.to_ascii_uppercase().parse::<jiff::Timestamp>() {
        let wall_ms = u64::try_from(time.as_millisecond()).ok()?;
        return Some(wall_ms.saturating_sub(opened_wall_ms));
    }
    let clock = text.trim_end_matches(['Z', 'z']);
    let of_day = offset(clock).filter(|ms| clock.contains(':') && *ms < DAY_MS)?;
    Some((of_day + DAY_MS - opened_wall_ms % DAY_MS) % DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_understood() {
        // 2026-09-21T14:13:20Z.
        let opened = 1_790_000_000_000;
        for (text, ms) in [
            ("90", 90_000),
            ("1:30", 90_000),
            ("1:02:03.5", 3_723_500),
            ("0.25s", 250),
            ("50%", 500_000),
            ("200%", 1_000_000),
            ("+30", 40_000),
            ("-30", 0),
            ("-4", 6000),
            ("14:14:00Z", 40_000),
            ("14:00:00z", 85_600_000),
            ("2026-09-21T14:13:30Z", 10_000),
            ("2020-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(parse(text, 10_000, 1_000_000, opened), Ok(ms), "{text}");
        }
        for text in [
            "",
            "x",
            "1:2:3:4",
            "1e3",
            "--1",
            "+",
            "Z",
            "5Z",
            "%",
            "1.-5",
            "99999999999999999",
        ] {
            assert!(parse(text, 0, 1000, opened).is_err(), "{text}");
        }
    }
}
