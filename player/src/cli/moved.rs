//! `files`: which files crossed, and what was done to others.

use clap::Args;
use portcullis_recording::event::Event;
use serde::Serialize;

use super::{Shown, finish, put, put_json, stdout};
use crate::failure::{Exit, Failure};
use crate::moved::{Row, words};
use crate::{plain, times};

/// `files FILE`.
#[derive(Args, Debug)]
pub struct Files {
    #[command(flatten)]
    shown: Shown,
}

/// One event about a file, with when and where.
#[derive(Debug, Serialize)]
struct Line {
    at_ms: u64,
    at: String,
    channel: u32,
    #[serde(flatten)]
    row: Row,
}

impl Files {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let mut out = stdout();
        while let Some(timed) = opened.cursor.next_event()? {
            let Event::File(moved) = &timed.event else { continue };
            let at = times::utc(opened.opened_wall_ms.saturating_add(timed.at_ms));
            if json {
                let line = Line {
                    at_ms: timed.at_ms,
                    at,
                    channel: timed.channel,
                    row: Row::from(&**moved),
                };
                put_json(&mut out, &line)?;
                continue;
            }
            put(&mut out, &format!("{at}  [{}]  {}", timed.channel, words(moved)))?;
            for range in &moved.ranges {
                let hash = plain::hex(&range.sha256);
                let (from, to) = (range.offset, range.offset.saturating_add(range.length));
                put(&mut out, &format!("    bytes [{from}, {to})  SHA-256 {hash}"))?;
            }
        }
        finish(out)?;
        Ok(Exit::Ok)
    }
}
