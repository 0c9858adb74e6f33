//! Refusals before login, counted: one leaf a source and minute, however hard
//! somebody knocks.
//!
//! Pure: told the time. Refusals inside a session are in its recording.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::kernel::grant::WallMs;

/// Length of one count, in ms.
pub const WINDOW_MS: u64 = 60_000;
/// Most sources counted apart within one window; the rest are one line.
pub const SOURCES_MAX: usize = 512;
/// Most refusal codes counted apart for one source.
pub const CODES_MAX: usize = 16;
/// Kind of the event that carries a count.
pub const EVENT_KIND: &str = "refused";

/// The counts of the current minute.
#[derive(Default, Debug)]
pub struct Refusals {
    window: u64,
    sources: BTreeMap<IpAddr, BTreeMap<&'static str, u64>>,
    others: u64,
}

impl Refusals {
    /// Counts one refusal. When it opens a new minute, answers with the
    /// bodies of the events of the one before.
    #[must_use]
    pub fn note(&mut self, source: IpAddr, code: &'static str, now: WallMs) -> Vec<serde_json::Value> {
        let done = self.due(now);
        let room = self.sources.len() < SOURCES_MAX;
        let source = source.to_canonical();
        if !room && !self.sources.contains_key(&source) {
            self.others = self.others.saturating_add(1);
            return done;
        }
        let codes = self.sources.entry(source).or_default();
        let code = match codes.len() < CODES_MAX || codes.contains_key(code) {
            true => code,
            false => "other",
        };
        let count = codes.entry(code).or_default();
        *count = count.saturating_add(1);
        done
    }

    /// The bodies of a minute that is over; nothing before that. To be asked
    /// now and then, since the last knock of a source is followed by none.
    #[must_use]
    pub fn due(&mut self, now: WallMs) -> Vec<serde_json::Value> {
        let window = now / WINDOW_MS;
        if window == self.window {
            return Vec::new();
        }
        let done = self.drain();
        self.window = window;
        done
    }

    /// What is counted so far, at a stop.
    #[must_use]
    pub fn drain(&mut self) -> Vec<serde_json::Value> {
        let from_ms = self.window.saturating_mul(WINDOW_MS);
        let body = |source: String, codes: serde_json::Value| {
            serde_json::json!({
                "source": source, "codes": codes, "from_ms": from_ms, "window_ms": WINDOW_MS,
            })
        };
        let mut bodies: Vec<serde_json::Value> = std::mem::take(&mut self.sources)
            .into_iter()
            .map(|(source, codes)| body(source.to_string(), serde_json::json!(codes)))
            .collect();
        match std::mem::take(&mut self.others) {
            0 => {}
            more => bodies.push(body("others".to_owned(), serde_json::json!({"other": more}))),
        }
        bodies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_body_a_source_and_minute_and_nobody_is_lost() {
        let mut refusals = Refusals::default();
        let knock = |it: &mut Refusals, last: u8, code, now| it.note(IpAddr::from([192, 0, 2, last]), code, now);
        assert!(knock(&mut refusals, 1, "no-grant", 60_000).is_empty());
        assert!(knock(&mut refusals, 1, "no-grant", 60_001).is_empty());
        assert!(knock(&mut refusals, 1, "expired", 119_999).is_empty());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert!(refusals.note(mapped, "expired", 119_999).is_empty());
        let done = knock(&mut refusals, 2, "no-grant", 120_000);
        assert_eq!(
            done,
            [serde_json::json!({
                "source": "192.0.2.1", "codes": {"expired": 2, "no-grant": 2},
                "from_ms": 60_000, "window_ms": 60_000,
            })]
        );
        assert!(refusals.due(120_500).is_empty());
        assert_eq!(refusals.due(180_000).len(), 1);
        assert!(refusals.drain().is_empty());
    }

    #[test]
    fn a_crowd_costs_a_bounded_amount() {
        let mut refusals = Refusals::default();
        for number in 0..10_000u32 {
            let source = IpAddr::from(number.to_be_bytes());
            assert!(refusals.note(source, "no-grant", 1).is_empty());
        }
        let done = refusals.drain();
        assert_eq!(done.len(), SOURCES_MAX + 1);
        let last = done.last().unwrap();
        assert_eq!(last["codes"]["other"], 10_000 - SOURCES_MAX);
    }
}
