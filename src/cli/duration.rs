//! Durations and dates as people type them.

use std::time::Duration;

use crate::kernel;

/// Reads `90s`, `30m`, `2h`, `1h30m`, `1d`.
///
/// # Errors
/// What would have been right.
pub fn duration(text: &str) -> Result<Duration, String> {
    kernel::duration::ms(text).map(Duration::from_millis)
}

/// Reads `2027-01-31` as the end of that day in UTC, in ms since the epoch.
///
/// # Errors
/// What would have been right.
pub fn date(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not a date such as 2027-01-31");
    let date: jiff::civil::Date = text.parse().map_err(|_| bad())?;
    let next = date.tomorrow().map_err(|_| bad())?;
    let time = next.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| bad())?.timestamp();
    u64::try_from(time.as_millisecond()).map_err(|_| bad())
}

/// Reads `2027-01-31T06:00:00Z`, or `2027-01-31` as the beginning of that day
/// in UTC, in ms since the epoch.
///
/// # Errors
/// What would have been right.
pub fn moment(text: &str) -> Result<u64, String> {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    instant(text).or_else(|_| Ok(date(text).map_err(|_| no_time(text))?.saturating_sub(DAY_MS)))
}

/// The same, a date as the end of that day.
///
/// # Errors
/// What would have been right.
pub fn end(text: &str) -> Result<u64, String> {
    instant(text).or_else(|_| date(text).map_err(|_| no_time(text)))
}

fn instant(text: &str) -> Result<u64, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| no_time(text))?;
    u64::try_from(time.as_millisecond()).map_err(|_| no_time(text))
}

fn no_time(text: &str) -> String {
    format!("`{text}` is neither a date such as 2027-01-31 nor a time such as 2027-01-31T06:00:00Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_whole_day() {
        assert_eq!(moment("1970-01-02").unwrap(), 86_400_000);
        assert_eq!(end("1970-01-02").unwrap(), 2 * 86_400_000);
        for exact in [moment, end] {
            assert_eq!(exact("1970-01-01T00:00:01Z").unwrap(), 1000);
            assert!(exact("soon").is_err() && exact("1960-01-01T00:00:00Z").is_err());
        }
    }

    #[test]
    fn dates_end_with_their_day() {
        assert_eq!(date("1970-01-01").unwrap(), 86_400_000);
        for bad in ["", "tomorrow", "2027-02-30", "2027-1-1", "1960-01-01"] {
            assert!(date(bad).is_err(), "{bad}");
        }
    }
}
