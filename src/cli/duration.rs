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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_end_with_their_day() {
        assert_eq!(date("1970-01-01").unwrap(), 86_400_000);
        for bad in ["", "tomorrow", "2027-02-30", "2027-1-1", "1960-01-01"] {
            assert!(date(bad).is_err(), "{bad}");
        }
    }
}
