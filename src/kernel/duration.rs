//! Durations as people type them: at the command line and in policies.

/// Longest duration that is read, in seconds (one year).
const SECS_MAX: u64 = 366 * 86_400;

/// Reads `90s`, `30m`, `2h`, `1h30m`, `1d`; answers in ms.
///
/// # Errors
/// What would have been right.
pub fn ms(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a duration such as 90s, 30m, 2h, 1h30m or 1d");
    let mut total = 0u64;
    let mut rest = text;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let mut tail = tail.chars();
        let unit = match tail.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(bad()),
        };
        // Each unit once, the larger first: `5m1h` is more likely a slip.
        if unit >= smallest {
            return Err(bad());
        }
        smallest = unit;
        total = number
            .checked_mul(unit)
            .and_then(|secs| total.checked_add(secs))
            .ok_or_else(bad)?;
        rest = tail.as_str();
    }
    if total == 0 || total > SECS_MAX {
        return Err(bad());
    }
    Ok(total.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, secs) in [
            ("90s", 90),
            ("30m", 1800),
            ("2h", 7200),
            ("1h30m", 5400),
            ("1d", 86_400),
            ("5s", 5),
        ] {
            assert_eq!(ms(text).unwrap(), secs * 1000, "{text}");
        }
        for bad in [
            "",
            "30",
            "m",
            "0s",
            "5m1h",
            "1h1h",
            "-5m",
            "1.5h",
            "1 h",
            "400d",
            "99999999999999999999s",
            "1w",
            "5µ",
        ] {
            assert!(ms(bad).is_err(), "{bad}");
        }
    }
}
