//! Amounts of bytes as people type them in policies.

/// Units, by their names (IEC 80000-13).
const UNITS: [(&str, u64); 5] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("B", 1),
];

/// Reads `4096B`, `64KiB`, `100MiB`, `2GiB`, `1TiB`; answers in bytes.
///
/// # Errors
/// What would have been right.
pub fn bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is not an amount such as 4096B, 64KiB, 100MiB or 2GiB");
    let unit = UNITS
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)));
    let (number, unit) = unit.ok_or_else(bad)?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.then(|| number.parse().ok()).flatten().ok_or_else(bad)?;
    number.checked_mul(*unit).filter(|bytes| *bytes > 0).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, amount) in [
            ("1B", 1),
            ("64KiB", 65_536),
            ("100MiB", 104_857_600),
            ("2GiB", 2 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(amount), "{text}");
        }
        for bad in [
            "",
            "B",
            "5",
            "5M",
            "5MB",
            "-5MiB",
            "+5MiB",
            "5 MiB",
            "0B",
            "0GiB",
            "99999999TiB",
            "5MiBB",
            "5mib",
        ] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
