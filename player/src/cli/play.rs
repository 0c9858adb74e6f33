//! `play`: replay in this terminal.

use std::io::IsTerminal;

use clap::Args;

use super::{Shown, say, text};
use crate::channels::{Runs, survey};
use crate::failure::{Exit, Failure};
use crate::playback::Playback;
use crate::screen;
use crate::text::Choice;
use crate::timeline::{SPEED_PERCENT_MAX, SPEED_PERCENT_MIN, Timeline};

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
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let choice = Choice {
            channel: self.channel,
            input: false,
        };
        let channels = survey(&mut opened.cursor)?;
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
        let session = &opened.session;
        let who = format!("{}@{} {}", session.login, session.target, session.identity);
        let mut playback = Playback::new(opened.cursor, channels, number, timeline).titled(&who);
        screen::play(&mut playback, &opened.standing)?;
        match playback.fault() {
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
