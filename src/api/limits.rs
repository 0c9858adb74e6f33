//! How often somebody may call: per source before anybody has proved who
//! calls, per name after.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::{Code, Problem};

/// Calls without a proof that one source may make at once, then per second.
const STRANGER_BURST: u32 = 30;
const STRANGER_PER_SEC: u32 = 5;
/// Calls that one name may make at once, then per second.
const CALLER_BURST: u32 = 200;
const CALLER_PER_SEC: u32 = 50;
/// Keys remembered before stale ones are dropped.
const KEYS_SWEEP: usize = 4096;

/// Both limits.
pub struct Limits {
    strangers: DefaultKeyedRateLimiter<IpAddr>,
    callers: DefaultKeyedRateLimiter<String>,
}

impl Default for Limits {
    fn default() -> Limits {
        let quota = |burst: u32, per_sec: u32| {
            let one = NonZeroU32::MIN;
            Quota::per_second(NonZeroU32::new(per_sec).unwrap_or(one))
                .allow_burst(NonZeroU32::new(burst).unwrap_or(one))
        };
        Limits {
            strangers: RateLimiter::keyed(quota(STRANGER_BURST, STRANGER_PER_SEC)),
            callers: RateLimiter::keyed(quota(CALLER_BURST, CALLER_PER_SEC)),
        }
    }
}

/// What counts as one source. Who has one IPv6 address has 2^64 of them
/// (RFC 4291 section 2.5.4).
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

impl Limits {
    /// One call from `source` without a proof.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn stranger(&self, source: IpAddr) -> Result<(), Problem> {
        if self.strangers.len() > KEYS_SWEEP {
            self.strangers.retain_recent();
        }
        self.strangers.check_key(&network(source)).map_err(|_| too_many())
    }

    /// One call by `name`.
    ///
    /// # Errors
    /// [`Code::RateLimited`].
    pub fn caller(&self, name: &str) -> Result<(), Problem> {
        if self.callers.len() > KEYS_SWEEP {
            self.callers.retain_recent();
        }
        self.callers.check_key(&name.to_owned()).map_err(|_| too_many())
    }
}

fn too_many() -> Problem {
    Problem::new(Code::RateLimited, "too many calls in a short time").hint("wait a few seconds and try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_does_not() {
        let limits = Limits::default();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::ffff:1".parse().unwrap();
        for _ in 0..STRANGER_BURST {
            limits.stranger(one).unwrap();
        }
        // A second may have passed on a busy machine: as many again never do.
        let refused = (0..2 * STRANGER_BURST).any(|_| limits.stranger(neighbour).is_err());
        assert!(refused, "the same network");
        limits.stranger("2001:db8:0:1::1".parse().unwrap()).unwrap();
    }
}
