//! When the next event is due: speed, pauses, idle cap. Pure; it is told the time.

/// Speeds one can switch between, in hundredths of real time.
const SPEEDS_PERCENT: [u32; 9] = [25, 50, 75, 100, 150, 200, 400, 800, 1600];
/// Slowest and fastest speed that `--speed` takes, in hundredths.
pub const SPEED_PERCENT_MIN: u32 = 10;
/// See [`SPEED_PERCENT_MIN`].
pub const SPEED_PERCENT_MAX: u32 = 10_000;
/// A gap between two ticks counts for at most this long: a suspended laptop does not skip an hour.
const TICK_MS_MAX: u64 = 250;

/// The playhead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// Time of the event shown last, or where a seek went.
    last_ms: u64,
    /// Playing time gone since then, in recording microseconds.
    spare_us: u64,
    /// Where the playhead stands still at most: the next event, or where its idle time is cut.
    cap_us: u64,
    speed_percent: u32,
    idle_limit_ms: Option<u64>,
    paused: bool,
    ticked_us: Option<u64>,
}

impl Timeline {
    /// At the start, playing. `speed_percent` is kept within its bounds.
    pub fn new(speed_percent: u32, idle_limit_ms: Option<u64>) -> Timeline {
        Timeline {
            last_ms: 0,
            spare_us: 0,
            cap_us: u64::MAX,
            speed_percent: speed_percent.clamp(SPEED_PERCENT_MIN, SPEED_PERCENT_MAX),
            idle_limit_ms,
            paused: false,
            ticked_us: None,
        }
    }

    /// The viewer's clock is at `now_us`. Only differences count.
    pub fn tick(&mut self, now_us: u64) {
        let since_us = self.ticked_us.map_or(0, |then| now_us.saturating_sub(then));
        self.ticked_us = Some(now_us);
        if !self.paused {
            let played_us = since_us.min(TICK_MS_MAX * 1000) * u64::from(self.speed_percent) / 100;
            self.spare_us = self.spare_us.saturating_add(played_us);
        }
    }

    /// Whether what happens at `at_ms` has come; if so, the playhead is there. To be asked for each event in turn.
    pub fn due(&mut self, at_ms: u64) -> bool {
        let gap_ms = at_ms.saturating_sub(self.last_ms);
        let wait_ms = self.idle_limit_ms.map_or(gap_ms, |limit| gap_ms.min(limit));
        let wait_us = wait_ms.saturating_mul(1000);
        if self.spare_us < wait_us || (self.paused && wait_us > 0) {
            self.cap_us = wait_us;
            return false;
        }
        self.spare_us -= wait_us;
        self.last_ms = self.last_ms.max(at_ms);
        true
    }

    /// Where the playhead is.
    pub fn position_ms(&self) -> u64 {
        self.last_ms.saturating_add(self.spare_us.min(self.cap_us) / 1000)
    }

    /// Goes somewhere else; what was played towards the next event is forgotten.
    pub fn seek(&mut self, to_ms: u64) {
        self.last_ms = to_ms;
        self.spare_us = 0;
        self.cap_us = u64::MAX;
    }

    /// Nothing follows: time stands still.
    pub fn rest(&mut self) {
        self.spare_us = 0;
    }

    /// Plays if paused and the other way round.
    pub fn toggle(&mut self) {
        self.paused = !self.paused;
    }

    /// Goes on.
    pub fn play(&mut self) {
        self.paused = false;
    }

    /// To what pauses are shortened.
    pub fn idle_limit_ms(&self) -> Option<u64> {
        self.idle_limit_ms
    }

    /// Shortens pauses, or lets them be. Times stay those of the recording either way.
    pub fn limit_idle(&mut self, limit_ms: Option<u64>) {
        self.idle_limit_ms = limit_ms;
    }

    /// Stops.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether it stands still.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The next higher speed of the list.
    pub fn faster(&mut self) {
        let next = SPEEDS_PERCENT.iter().find(|s| **s > self.speed_percent);
        self.speed_percent = next.copied().unwrap_or(self.speed_percent);
    }

    /// The next lower one.
    pub fn slower(&mut self) {
        let next = SPEEDS_PERCENT.iter().rfind(|s| **s < self.speed_percent);
        self.speed_percent = next.copied().unwrap_or(self.speed_percent);
    }

    /// In hundredths of real time.
    pub fn speed_percent(&self) -> u32 {
        self.speed_percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events at these times; gives the viewer's ms at which each was shown.
    fn shown(mut line: Timeline, events_ms: &[u64]) -> Vec<u64> {
        let (mut at, mut seen) = (0, Vec::new());
        line.tick(0);
        while seen.len() < events_ms.len() && at < 100_000 {
            while seen.len() < events_ms.len() && line.due(events_ms[seen.len()]) {
                seen.push(at);
            }
            at += 10;
            line.tick(at * 1000);
        }
        seen
    }

    /// Speed, idle limit, times of events, times at which they are shown.
    type Row<'r> = (u32, Option<u64>, &'r [u64], &'r [u64]);

    #[test]
    fn speed_and_idle_limit() {
        let table: &[Row<'_>] = &[
            (100, None, &[0, 100, 250, 5000], &[0, 100, 250, 5000]),
            (200, None, &[0, 100, 1000], &[0, 50, 500]),
            (50, None, &[100, 1000], &[200, 2000]),
            (
                100,
                Some(500),
                &[0, 100, 60_100, 60_200, 3_600_000],
                &[0, 100, 600, 700, 1200],
            ),
            (200, Some(1000), &[10_000, 20_000], &[500, 1000]),
            (100, Some(0), &[10, 20_000, 30_000], &[0, 0, 0]),
            (100, None, &[50, 50, 50], &[50, 50, 50]),
            (0, None, &[10], &[100]),
        ];
        for (speed, idle, events, expected) in table {
            assert_eq!(
                &shown(Timeline::new(*speed, *idle), events),
                expected,
                "{speed} {idle:?} {events:?}"
            );
        }
    }

    #[test]
    fn a_pause_stops_time_and_a_seek_moves_it() {
        let mut line = Timeline::new(100, None);
        line.tick(0);
        line.tick(100_000);
        assert!(!line.due(1000));
        assert_eq!(line.position_ms(), 100);
        line.toggle();
        line.tick(5_000_000);
        assert!(!line.due(1000));
        assert_eq!(line.position_ms(), 100);
        line.seek(900);
        assert_eq!(line.position_ms(), 900);
        assert!(!line.due(1000));
        line.toggle();
        line.tick(5_100_000);
        assert!(line.due(1000));
        assert_eq!(line.position_ms(), 1000);
    }

    #[test]
    fn the_playhead_waits_at_what_it_waits_for() {
        let mut line = Timeline::new(100, Some(200));
        line.tick(0);
        assert!(!line.due(10_000));
        line.tick(150_000);
        assert!(!line.due(10_000));
        assert_eq!(line.position_ms(), 150);
        line.tick(210_000);
        assert_eq!(line.position_ms(), 200);
        assert!(line.due(10_000));
        assert_eq!(line.position_ms(), 10_010);
    }

    #[test]
    fn a_suspended_viewer_and_a_clock_that_goes_back_do_no_harm() {
        let mut line = Timeline::new(100, None);
        line.tick(1_000_000);
        line.tick(3_600_000_000);
        assert_eq!(line.position_ms(), TICK_MS_MAX);
        line.tick(5);
        assert_eq!(line.position_ms(), TICK_MS_MAX);
        let mut far = Timeline::new(SPEED_PERCENT_MAX, None);
        far.seek(u64::MAX);
        far.tick(0);
        far.tick(u64::MAX);
        assert!(far.due(u64::MAX));
        assert_eq!(far.position_ms(), u64::MAX);
    }

    #[test]
    fn speeds_go_through_the_list() {
        let mut line = Timeline::new(100, None);
        line.faster();
        assert_eq!(line.speed_percent(), 150);
        (0..20).for_each(|_| line.faster());
        assert_eq!(line.speed_percent(), 1600);
        (0..20).for_each(|_| line.slower());
        assert_eq!(line.speed_percent(), 25);
        line = Timeline::new(130, None);
        line.slower();
        assert_eq!(line.speed_percent(), 100);
    }
}
