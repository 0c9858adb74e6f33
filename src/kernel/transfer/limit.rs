//! How much of one file may cross, where a rule says so (`@max_file`).

use super::Wish;

/// Bytes that reads may ask for past the bound before the bound itself has
/// crossed: clients ask ahead, also past the end of a file (OpenSSH 2 MiB,
/// asyncssh and sshfs less than this).
pub const READ_AHEAD_BYTES: u64 = 8 * 1024 * 1024;

/// The bound on one file, and the rule that says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Bytes each way.
    pub bytes: u64,
    pub rule: String,
}

/// Why something by a handle does not go on as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Over {
    /// More of the file would cross than this.
    Limit(Limit),
    /// It names a handle that no answered request has given, or one too many to follow.
    Stranger,
    /// It changes more than the bytes of a file that was opened to be written: policy is to be asked.
    Asks(Wish),
}

impl Limit {
    /// Whether no further read may go on: more than the bound has crossed, or
    /// is certain to be asked for, or this one ends at `end`, so far behind the
    /// bound that no reading ahead does it: a file that is opened again counts
    /// from its beginning. What ends at the bound is read in full, and the
    /// reads that find its end go on too.
    pub fn ends_reads(&self, crossed: u64, coming: u64, end: u64) -> bool {
        let most = self.bytes.saturating_add(READ_AHEAD_BYTES);
        crossed > self.bytes || crossed.saturating_add(coming) > most || end > most
    }

    /// Whether a write of `[offset, offset + length)` may not go on after so
    /// many bytes: bytes that are written twice crossed twice.
    pub fn ends_writes(&self, crossed: u64, offset: u64, length: u32) -> bool {
        let length = u64::from(length);
        crossed.saturating_add(length) > self.bytes || offset.saturating_add(length) > self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_itself_may_cross_and_nothing_behind_it() {
        let limit = Limit {
            bytes: 100,
            rule: "r".to_owned(),
        };
        assert!(!limit.ends_writes(0, 0, 100) && !limit.ends_writes(99, 99, 1));
        assert!(limit.ends_writes(0, 0, 101) && limit.ends_writes(0, 100, 1) && limit.ends_writes(100, 0, 1));
        assert!(limit.ends_writes(u64::MAX, u64::MAX, u32::MAX));
        // Reads that look for the end.
        assert!(!limit.ends_reads(100, 32_768, 32_868));
        assert!(limit.ends_reads(101, 1, 102));
        assert!(limit.ends_reads(0, READ_AHEAD_BYTES + 101, 0) && limit.ends_reads(u64::MAX, u64::MAX, 0));
        // Opened again.
        assert!(!limit.ends_reads(0, 1, READ_AHEAD_BYTES + 100) && limit.ends_reads(0, 1, READ_AHEAD_BYTES + 101));
    }
}
