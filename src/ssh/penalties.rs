//! Sources that behave badly are refused for a while, longer each time.
//!
//! As OpenSSH's `PerSourcePenalties`: what a connection did before login costs
//! its source seconds, and who owes enough of them is not served until they
//! have passed. Pure: told the time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::kernel::grant::Cidr;

/// What a source may owe before it is refused, in ms.
const OWED_MS_MAX: u64 = 15_000;
/// How long the first refusal lasts, in ms; each further one twice as long.
const REFUSED_MS_FIRST: u64 = 15_000;
/// How long a refusal lasts at most, in ms.
const REFUSED_MS_MAX: u64 = 600_000;
/// How long after its last refusal a source begins anew, in ms.
const FORGOTTEN_MS: u64 = 600_000;
/// Sources remembered. Past it whoever is new is not: the table cannot be
/// filled with strangers in order to lock others out, or to let others go.
const SOURCES_MAX: usize = 65_536;
/// How often a full table is looked through, in ms.
const SWEEP_MS: u64 = 1_000;

/// What a connection that did not log in has done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offence {
    /// It left before it tried to prove anything, or speaks nothing of ours.
    NoProof,
    /// A certificate of ours was refused: somebody known, and his script.
    KnownRefused,
    /// Everything it showed was refused.
    Refused,
    /// It held its place until the login grace was over.
    Grace,
    /// It broke the protocol behind the key exchange, where nobody does by mistake.
    Protocol,
}

impl Offence {
    /// What it costs its source, in ms. OpenSSH's defaults, but for a broken
    /// protocol: there it is a crashed process and costs 90 s.
    fn cost_ms(self) -> u64 {
        match self {
            Offence::NoProof | Offence::KnownRefused => 1_000,
            Offence::Refused => 5_000,
            Offence::Grace => 10_000,
            Offence::Protocol => 30_000,
        }
    }

    /// Its name in the log.
    pub fn code(self) -> &'static str {
        match self {
            Offence::NoProof => "no_proof",
            Offence::KnownRefused => "known_refused",
            Offence::Refused => "refused",
            Offence::Grace => "grace",
            Offence::Protocol => "protocol",
        }
    }
}

/// What a connection has shown of itself so far: written by its handler, read
/// at its end. The worst counts.
#[derive(Default, Debug)]
pub struct Conduct(AtomicU8);

impl Conduct {
    const KNOWN: u8 = 1;
    const REFUSED: u8 = 2;

    /// Something it showed was refused; `known`: a certificate of ours.
    pub fn refused(&self, known: bool) {
        let seen = if known { Conduct::KNOWN } else { Conduct::REFUSED };
        self.0.fetch_or(seen, Ordering::Relaxed);
    }

    /// What it did until it left by itself. A certificate of ours speaks for
    /// the agent's other keys, which were tried before it.
    pub fn at_leaving(&self) -> Offence {
        let seen = self.0.load(Ordering::Relaxed);
        if seen & Conduct::KNOWN != 0 {
            Offence::KnownRefused
        } else if seen & Conduct::REFUSED != 0 {
            Offence::Refused
        } else {
            Offence::NoProof
        }
    }
}

/// What one source owes.
#[derive(Clone, Copy, Default, Debug)]
struct Debt {
    /// When everything is paid, ms since boot.
    paid_ms: u64,
    /// Until when it is refused, exclusive, ms since boot.
    refused_ms: u64,
    /// Refusals so far.
    times: u32,
}

impl Debt {
    fn stale(&self, now_ms: u64) -> bool {
        let remembered = if self.times == 0 { 0 } else { FORGOTTEN_MS };
        now_ms >= self.paid_ms.saturating_add(remembered)
    }
}

/// What each source owes. IPv6 counts by /64.
#[derive(Debug)]
pub struct Penalties {
    sources: HashMap<IpAddr, Debt>,
    exempt: Vec<Cidr>,
    swept_ms: u64,
}

/// The part of an address that one customer holds: IPv6 by /64.
pub fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

impl Penalties {
    /// Nobody owes anything; `exempt` never will.
    pub fn new(exempt: Vec<Cidr>) -> Penalties {
        Penalties {
            sources: HashMap::new(),
            exempt,
            swept_ms: 0,
        }
    }

    /// Whether `source` is refused at `now_ms` since boot.
    pub fn refuses(&self, source: IpAddr, now_ms: u64) -> bool {
        let debt = self.sources.get(&network(source));
        debt.is_some_and(|debt| now_ms < debt.refused_ms)
    }

    /// Books an offence; for how long, in ms, the source is refused from now
    /// on if this was the one too many. What was begun before a refusal and
    /// ends in it adds nothing.
    pub fn note(&mut self, source: IpAddr, offence: Offence, now_ms: u64) -> Option<u64> {
        if self.exempt.iter().any(|block| block.contains(source)) {
            return None;
        }
        let source = network(source);
        if !self.sources.contains_key(&source) && !self.room(now_ms) {
            return None;
        }
        let debt = self.sources.entry(source).or_default();
        if now_ms < debt.refused_ms {
            return None;
        }
        if debt.stale(now_ms) {
            *debt = Debt::default();
        }
        debt.paid_ms = debt.paid_ms.max(now_ms).saturating_add(offence.cost_ms());
        if debt.paid_ms.saturating_sub(now_ms) < OWED_MS_MAX {
            return None;
        }
        let doubled = REFUSED_MS_FIRST.checked_shl(debt.times).unwrap_or(REFUSED_MS_MAX);
        let length = doubled.max(offence.cost_ms()).min(REFUSED_MS_MAX);
        // Far below where the shift would lose bits, and past the longest.
        debt.times = debt.times.saturating_add(1).min(u8::BITS);
        debt.refused_ms = now_ms.saturating_add(length);
        debt.paid_ms = debt.refused_ms;
        Some(length)
    }

    fn room(&mut self, now_ms: u64) -> bool {
        let full = |it: &Penalties| it.sources.len() >= SOURCES_MAX;
        if full(self) && now_ms.saturating_sub(self.swept_ms) >= SWEEP_MS {
            self.swept_ms = now_ms;
            self.sources.retain(|_, debt| !debt.stale(now_ms));
            if full(self) {
                // Who was refused before and is served again makes way.
                self.sources.retain(|_, debt| now_ms < debt.paid_ms);
            }
        }
        !full(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn who_is_refused_three_times_in_a_row_waits_and_longer_each_time() {
        let mut table = Penalties::new(Vec::new());
        let mut now = 1_000;
        for length in [15_000, 30_000, 60_000, 120_000, 240_000, 480_000, 600_000, 600_000] {
            for _ in 0..2 {
                assert_eq!(table.note(source(1), Offence::Refused, now), None);
                assert!(!table.refuses(source(1), now));
            }
            assert_eq!(table.note(source(1), Offence::Refused, now), Some(length));
            assert!(table.refuses(source(1), now + length - 1));
            assert!(!table.refuses(source(2), now), "nobody else");
            assert_eq!(
                table.note(source(1), Offence::Protocol, now + 1),
                None,
                "it is refused already"
            );
            now += length;
            assert!(!table.refuses(source(1), now));
        }
        // A good while later it begins anew.
        now += FORGOTTEN_MS;
        assert_eq!(table.note(source(1), Offence::Protocol, now), Some(30_000));
    }

    #[test]
    fn what_is_paid_is_paid() {
        let mut table = Penalties::new(Vec::new());
        // A monitor that looks in every second, for a day.
        for second in 0..86_400 {
            assert_eq!(table.note(source(1), Offence::NoProof, second * 1_000), None);
        }
        // A script that waits for its approval, once a second.
        for second in 0..86_400 {
            assert_eq!(table.note(source(2), Offence::KnownRefused, second * 1_000), None);
        }
        for half_minute in 0..1_000 {
            assert_eq!(table.note(source(3), Offence::Grace, half_minute * 30_000), None);
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_an_exempt_one_is_none() {
        let mut table = Penalties::new(vec!["198.51.100.0/24".parse().unwrap()]);
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(table.note(at("2001:db8::1"), Offence::Protocol, 0).is_some());
        assert!(table.refuses(at("2001:db8::ffff:2"), 1));
        assert!(!table.refuses(at("2001:db8:0:1::1"), 1));
        for _ in 0..100 {
            assert_eq!(table.note(at("198.51.100.7"), Offence::Protocol, 0), None);
        }
        assert!(!table.refuses(at("198.51.100.7"), 1));
    }

    #[test]
    fn the_table_is_bounded_and_a_crowd_frees_nobody() {
        let mut table = Penalties::new(Vec::new());
        assert!(table.note(source(1), Offence::Protocol, 0).is_some());
        for number in 0..200_000u32 {
            table.note(IpAddr::from((1 << 24 | number).to_be_bytes()), Offence::NoProof, 1);
        }
        assert_eq!(table.sources.len(), SOURCES_MAX);
        assert!(table.refuses(source(1), 2));
        // Its debts paid, the crowd makes way.
        assert!(table.note(source(2), Offence::Protocol, 5_000).is_some());
        assert!(table.refuses(source(1), 5_000));
    }

    #[test]
    fn a_certificate_of_ours_speaks_for_the_agents_other_keys() {
        let conduct = Conduct::default();
        assert_eq!(conduct.at_leaving(), Offence::NoProof);
        conduct.refused(false);
        assert_eq!(conduct.at_leaving(), Offence::Refused);
        conduct.refused(true);
        assert_eq!(conduct.at_leaving(), Offence::KnownRefused);
    }
}
