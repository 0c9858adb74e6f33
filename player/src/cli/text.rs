//! `text`: the session as plain text.

use std::io::Write;

use clap::Args;

use super::{Opened, Shown, finish, put, put_json, stdout};
use crate::failure::{Exit, Failure};
use crate::source::Cursor;
use crate::text::{Choice, Piece, pieces};
use crate::times;

/// `text FILE`.
#[derive(Args, Debug)]
pub struct Text {
    #[command(flatten)]
    shown: Shown,
    /// Only this channel
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// What was typed as well, where it was echoed
    #[arg(long)]
    input: bool,
}

impl Text {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let opened = self.shown.open()?;
        let choice = Choice {
            channel: self.channel,
            input: self.input,
            from_ms: 0,
        };
        print(opened, choice, json)
    }
}

/// Prints a recording that may be shown.
pub fn print(mut opened: Opened, choice: Choice, json: bool) -> Result<Exit, Failure> {
    let mut out = stdout();
    write(&mut opened.cursor, choice, json, &mut out)?;
    finish(out)?;
    Ok(Exit::Ok)
}

/// Writes it somewhere.
pub fn write(cursor: &mut Cursor, choice: Choice, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut page = Page { out, channel: None };
    pieces(cursor, choice, &mut |piece| {
        if json {
            put_json(page.out, &piece)
        } else {
            page.piece(&piece)
        }
    })
}

struct Page<'o> {
    out: &'o mut dyn Write,
    /// Whose text was printed last.
    channel: Option<u32>,
}

impl Page<'_> {
    fn piece(&mut self, piece: &Piece) -> Result<(), Failure> {
        match piece {
            Piece::Line { channel, text } => {
                self.turn(*channel)?;
                put(self.out, text)
            }
            Piece::ErrorLine { channel, text } => {
                self.turn(*channel)?;
                put(self.out, &format!("2> {text}"))
            }
            Piece::Screen { channel, rows } => {
                self.turn(*channel)?;
                put(self.out, "-- the last screen of a full-screen program:")?;
                rows.iter().try_for_each(|row| put(self.out, &format!("   | {row}")))
            }
            Piece::Remark { channel, remark } => {
                let at = times::exact(remark.at_ms);
                let whose = if *channel == 0 {
                    String::new()
                } else {
                    format!(" [{channel}]")
                };
                put(self.out, &format!("-- {at}{whose} {}: {}", remark.kind, remark.text))
            }
        }
    }

    fn turn(&mut self, channel: u32) -> Result<(), Failure> {
        if self.channel.replace(channel).is_some_and(|before| before != channel) {
            put(self.out, &format!("-- channel {channel}:"))?;
        }
        Ok(())
    }
}
