//! `play`: replay in this terminal.

use std::io::IsTerminal;

use clap::Args;

use super::{Shown, say, text};
use crate::channels::{Runs, survey};
use crate::failure::{Exit, Failure};
use crate::moment;
use crate::playback::Playback;
use crate::screen;
use crate::text::Choice;
use crate::timeline::{SPEED_PERCENT_MAX, SPEED_PERCENT_MIN, Timeline};
use crate::times;
use crate::viewer::{Viewer, Words};

/// Longest idle limit.
const IDLE_SECS_MAX: f64 = 1e9;

/// `play FILE`.
#[derive(Args, Debug)]
pub struct Play {
    #[command(flatten)]
    shown: Shown,
    /// Times real time, 0.1 to 100
    #[arg(long, value_name = "N", default_value = "1", value_parser = speed)]
    speed: u32,
    /// Shorten every pause to this many seconds
    #[arg(long, value_name = "SECS", value_parser = idle)]
    idle_limit: Option<u64>,
    /// The channel; the first terminal otherwise
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// Where to begin: 90, 1:30, 1:02:03.5, 50% or 14:05:00Z
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
}

/// In hundredths.
fn speed(text: &str) -> Result<u32, String> {
    let percent = text
        .trim_end_matches('x')
        .parse::<f64>()
        .map_err(|_| "not a number".to_owned())?
        * 100.0;
    let (min, max) = (f64::from(SPEED_PERCENT_MIN), f64::from(SPEED_PERCENT_MAX));
    if (min..=max).contains(&percent) {
        Ok(percent.round() as u32)
    } else {
        Err("not from 0.1 to 100".to_owned())
    }
}

/// In milliseconds.
fn idle(text: &str) -> Result<u64, String> {
    let secs = text
        .trim_end_matches('s')
        .parse::<f64>()
        .map_err(|_| "not a number of seconds".to_owned())?;
    if (0.0..=IDLE_SECS_MAX).contains(&secs) {
        Ok((secs * 1000.0).round() as u64)
    } else {
        Err("not a number of seconds".to_owned())
    }
}

impl Play {
    /// One channel of a recording, from so many ms on; channel 0 is the first terminal.
    pub(super) fn from(shown: Shown, channel: u32, at_ms: u64) -> Play {
        Play {
            shown,
            speed: 100,
            idle_limit: None,
            channel: (channel > 0).then_some(channel),
            at: Some(times::exact(at_ms)),
        }
    }

    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let channels = survey(&mut opened.cursor)?;
        let length_ms = opened.cursor.source().last_ms();
        let at_ms = match &self.at {
            Some(at) => {
                moment::parse(at, 0, length_ms, opened.opened_wall_ms).map_err(|why| Failure::new(Exit::Usage, why))?
            }
            None => 0,
        };
        let choice = Choice {
            channel: self.channel,
            input: false,
            from_ms: at_ms,
        };
        let Some(number) = self.channel.or_else(|| channels.first()) else {
            say("nothing ran in this session; this is what happened:");
            return text::print(opened, choice, json);
        };
        let channel = channels.get(number);
        if json || !std::io::stdout().is_terminal() {
            say("standard output is no terminal: this is the session as text");
            return text::print(opened, choice, json);
        }
        // A channel not seen at the beginning may yet become a terminal; one that was seen to be none will not.
        if channel.is_some_and(|c| !c.terminal && c.runs != Runs::Unknown) {
            say(&format!(
                "channel {number} had no terminal: this is what it printed, as text"
            ));
            return text::print(
                opened,
                Choice {
                    channel: Some(number),
                    ..choice
                },
                json,
            );
        }
        let timeline = Timeline::new(self.speed, self.idle_limit);
        let mut playback = Playback::new(opened.cursor, channels, number, timeline).titled(&opened.title);
        if at_ms > 0 {
            playback.seek(at_ms);
        }
        let words = Words {
            badge: opened.badge,
            about: opened.about,
            opened_wall_ms: opened.opened_wall_ms,
        };
        let mut viewer = Viewer::new(playback, words);
        screen::play(&mut viewer)?;
        match viewer.playback.fault() {
            Some(fault) => Err(fault.clone().into()),
            None => Ok(Exit::Ok),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(speed("1.5"), Ok(150));
        assert_eq!(speed("2x"), Ok(200));
        for bad in ["0", "-1", "NaN", "inf", "101", "x", ""] {
            assert!(speed(bad).is_err(), "{bad}");
        }
        assert_eq!(idle("2"), Ok(2000));
        assert_eq!(idle("0.5s"), Ok(500));
        for bad in ["-1", "NaN", "inf", "1e10"] {
            assert!(idle(bad).is_err(), "{bad}");
        }
    }
}
