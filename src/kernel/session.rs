//! The life of a session as values: when it must end, why it ended, when to
//! warn, and whether the terminal can be written into right now.

use super::grant::WallMs;

/// Why a session ended. Codes are stable and stand in the seal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EndReason {
    /// The client closed it.
    Exit,
    /// The client's connection broke.
    ClientLost,
    /// The target could not be reached, or its connection broke.
    TargetLost(String),
    /// The moment `until` came.
    GrantExpired,
    /// A revocation named it.
    Revoked(String),
    /// Nothing was typed or printed for too long.
    Idle,
    /// Older than a session may be.
    MaxDuration,
    /// The server is stopping.
    Drain,
    /// The recorder could not take what came.
    RecorderFailed(String),
    /// The store could not be asked for longer than the lease.
    LeaseLost,
    /// More was waiting for a stalled reader than is kept.
    Backlog,
    /// The peer broke the protocol or a bound.
    Protocol(String),
    /// A command was refused, and how: by a rule that ends the session then, or where its line cannot be taken back.
    Command(String),
    /// Lines were run that the terminal did not show, and this rule ends the session then.
    HiddenCommand(String),
    /// Policies changed, and this rule of theirs refuses what runs.
    Policy(String),
}

impl EndReason {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            EndReason::Exit => "exit",
            EndReason::ClientLost => "client_lost",
            EndReason::TargetLost(_) => "target_lost",
            EndReason::GrantExpired => "grant_expired",
            EndReason::Revoked(_) => "revoked",
            EndReason::Idle => "idle",
            EndReason::MaxDuration => "max_duration",
            EndReason::Drain => "drain",
            EndReason::RecorderFailed(_) => "recorder_failed",
            EndReason::LeaseLost => "lease_lost",
            EndReason::Backlog => "backlog",
            EndReason::Protocol(_) => "protocol",
            EndReason::Command(_) => "command_refused",
            EndReason::HiddenCommand(_) => "hidden_command",
            EndReason::Policy(_) => "policy_changed",
        }
    }

    /// One sentence for the user's last line.
    pub fn sentence(&self) -> String {
        match self {
            EndReason::Exit => "the session ended".into(),
            EndReason::ClientLost => "the client's connection broke".into(),
            EndReason::TargetLost(why) => format!("the target is gone: {why}"),
            EndReason::GrantExpired => "your grant has ended; ask for a new one".into(),
            EndReason::Revoked(why) if why.is_empty() => "access was revoked".into(),
            EndReason::Revoked(why) => format!("access was revoked: {why}"),
            EndReason::Idle => "the session was idle for too long".into(),
            EndReason::MaxDuration => "the session reached the longest time allowed".into(),
            EndReason::Drain => "the gate is being stopped; connect again in a moment".into(),
            EndReason::RecorderFailed(why) => {
                format!("the session cannot be recorded any more: {why}")
            }
            EndReason::LeaseLost => "the gate cannot check grants any more".into(),
            EndReason::Backlog => "too much output was waiting for a reader that stopped".into(),
            EndReason::Protocol(why) => format!("protocol error: {why}"),
            EndReason::Command(how) => how.clone(),
            EndReason::HiddenCommand(rule) => {
                format!("lines were run that the terminal did not show, and rule {rule} ends the session then")
            }
            EndReason::Policy(rule) => format!("the policies changed, and rule {rule} does not allow this session"),
        }
    }

    /// Whether the gate cut it, so that nothing but the notice may follow.
    pub fn is_cut(&self) -> bool {
        match self {
            EndReason::Exit | EndReason::ClientLost | EndReason::TargetLost(_) => false,
            EndReason::GrantExpired
            | EndReason::Revoked(_)
            | EndReason::Idle
            | EndReason::MaxDuration
            | EndReason::Drain
            | EndReason::RecorderFailed(_)
            | EndReason::LeaseLost
            | EndReason::Backlog
            | EndReason::Protocol(_)
            | EndReason::Command(_)
            | EndReason::HiddenCommand(_)
            | EndReason::Policy(_) => true,
        }
    }
}

/// The end of a session on both clocks; the earlier one wins, so that a step
/// of the wall clock in either direction cannot lengthen it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Until {
    wall_ms: WallMs,
    boot_ms: u64,
}

impl Until {
    /// Fixes the boot-time deadline at admission.
    pub fn new(until_wall_ms: WallMs, now_wall_ms: WallMs, now_boot_ms: u64) -> Until {
        Until {
            wall_ms: until_wall_ms,
            boot_ms: now_boot_ms.saturating_add(until_wall_ms.saturating_sub(now_wall_ms)),
        }
    }

    /// Milliseconds left on the clock that has fewer, 0 from the very end on.
    pub fn left_ms(&self, now_wall_ms: WallMs, now_boot_ms: u64) -> u64 {
        self.wall_ms
            .saturating_sub(now_wall_ms)
            .min(self.boot_ms.saturating_sub(now_boot_ms))
    }

    /// The wall-clock end.
    pub fn wall_ms(&self) -> WallMs {
        self.wall_ms
    }
}

/// Which warnings were given. Each is given once, and none that was due
/// before the session began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warnings {
    /// ms before the end, descending, still to be given.
    ahead: Vec<u64>,
}

impl Warnings {
    /// Warnings at each of `before_ms` before the end, `left_ms` from now.
    pub fn new(before_ms: &[u64], left_ms: u64) -> Warnings {
        let mut ahead: Vec<u64> = before_ms.iter().copied().filter(|before| *before < left_ms).collect();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        Warnings { ahead }
    }

    /// The warning to give now, as its ms before the end, if one is due.
    pub fn due(&mut self, left_ms: u64) -> Option<u64> {
        let mut given = None;
        while let Some(before) = self.ahead.first().copied() {
            if left_ms > before {
                break;
            }
            self.ahead.remove(0);
            given = Some(before);
        }
        given
    }

    /// Milliseconds until the next one is due, given what is left.
    pub fn next_in_ms(&self, left_ms: u64) -> Option<u64> {
        self.ahead.first().map(|before| left_ms.saturating_sub(*before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earlier_clock_wins() {
        let until = Until::new(10_000, 4_000, 100);
        assert_eq!(until.left_ms(4_000, 100), 6_000);
        // Wall clock set back an hour: boot time holds.
        assert_eq!(until.left_ms(0, 6_099), 1);
        assert_eq!(until.left_ms(0, 6_100), 0);
        // Wall clock set forward: over at once.
        assert_eq!(until.left_ms(10_000, 101), 0);
    }

    #[test]
    fn warnings_come_once_and_only_ahead() {
        let mut warnings = Warnings::new(&[60_000, 300_000], 10 * 60_000);
        assert_eq!(warnings.due(6 * 60_000), None);
        assert_eq!(warnings.due(5 * 60_000), Some(300_000));
        assert_eq!(warnings.due(5 * 60_000), None);
        assert_eq!(warnings.next_in_ms(5 * 60_000), Some(4 * 60_000));
        assert_eq!(warnings.due(59_000), Some(60_000));
        assert_eq!(warnings.due(0), None);
        let mut short = Warnings::new(&[60_000], 30_000);
        assert_eq!(short.due(10_000), None);
    }
}
