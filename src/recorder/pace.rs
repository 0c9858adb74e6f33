//! How far the sealer may fall behind, and what is done about it: tails grow
//! larger, are compressed less, and in the end a session waits.

use portcullis_recording::limits::{SEGMENT_BYTES_TARGET, TAILS_MAX};

/// Tails that may wait for the sealer before nothing more is taken: recovery
/// puts at most [`TAILS_MAX`] into a recording.
pub const HELD_MAX: usize = TAILS_MAX - 8;
/// The same within one batch.
pub const HELD_HARD_MAX: usize = TAILS_MAX - 2;

/// Closed segments of one session that may wait for their re-encoding, come
/// what may.
const WAITING_ALWAYS: usize = 4;
/// The same while the sealer has little else to do: a burst of text is not
/// slowed down to the speed of its re-encoding. What the pumps of a session
/// hold at once comes on top, and stays under what recovery takes.
const WAITING_MAX: usize = 24;
/// Closed segments of all sessions from which on each keeps to its own few:
/// what the sealer does in a fraction of [`super::SEAL_WAIT`].
const HOUSE_WAITING_MAX: usize = 48;
/// Sessions with more output than this are re-encoded at the faster level, in bytes.
const VOLUME_BYTES: u64 = 8 * 1024 * 1024;
/// zstd levels for small and for large sessions, and when the sealer is behind.
const LEVEL_SMALL: i32 = 9;
const LEVEL_LARGE: i32 = 3;
const LEVEL_BEHIND: i32 = 1;

/// Whether a session may take more with so many segments waiting, its own and
/// those of all sessions.
pub fn has_room(waiting: usize, house: usize) -> bool {
    let most = match house < HOUSE_WAITING_MAX {
        true => WAITING_MAX,
        false => WAITING_ALWAYS,
    };
    waiting < most
}

/// The size at which a tail is closed, in bytes. Signatures come as often as ever.
pub fn tail_bytes(waiting: usize) -> u64 {
    let target = SEGMENT_BYTES_TARGET as u64;
    match waiting < WAITING_ALWAYS {
        true => target,
        false => 2 * target,
    }
}

/// The zstd level for the next segment of a session with so much output, in bytes.
pub fn level(waiting: usize, volume: u64) -> i32 {
    match (waiting < WAITING_ALWAYS, volume > VOLUME_BYTES) {
        (false, _) => LEVEL_BEHIND,
        (true, true) => LEVEL_LARGE,
        (true, false) => LEVEL_SMALL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_runs_ahead_and_a_full_house_does_not() {
        assert!(has_room(WAITING_MAX - 1, 0));
        assert!(!has_room(WAITING_MAX, 0));
        assert!(has_room(WAITING_ALWAYS - 1, HOUSE_WAITING_MAX));
        assert!(!has_room(WAITING_ALWAYS, HOUSE_WAITING_MAX));
    }

    #[test]
    fn tails_are_larger_and_compressed_less_behind() {
        let target = SEGMENT_BYTES_TARGET as u64;
        assert_eq!((tail_bytes(0), level(0, 0)), (target, LEVEL_SMALL));
        assert_eq!(level(0, VOLUME_BYTES + 1), LEVEL_LARGE);
        let behind = (tail_bytes(WAITING_ALWAYS), level(WAITING_ALWAYS, 0));
        assert_eq!(behind, (2 * target, LEVEL_BEHIND));
    }
}
