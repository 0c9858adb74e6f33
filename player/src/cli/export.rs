//! `export`: asciicast v2 and v3, text, and a page.

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Opened, Shown, finish, put, say, stdout, text};
use crate::asciicast::{self, Told, Version};
use crate::channels::survey;
use crate::failure::{Exit, Failure};
use crate::frames::{self, Part};
use crate::html::{self, About};
use crate::moment;
use crate::plain;
use crate::text::Choice;

/// Formats that can be written.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Times from the start; what most players read
    #[value(name = "asciicast-v2")]
    AsciicastV2,
    /// Times from the event before, exit status
    #[value(name = "asciicast-v3")]
    AsciicastV3,
    /// What `text` prints
    #[value(name = "text")]
    Text,
    /// One page that plays in a browser, without a network
    #[value(name = "html")]
    Html,
}

/// `export FILE`.
#[derive(Args, Debug)]
pub struct Export {
    #[command(flatten)]
    shown: Shown,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// Where to; standard output otherwise. A file that exists is not overwritten
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The channel; the first terminal otherwise
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// What was typed as well, where it was echoed
    #[arg(long)]
    input: bool,
    /// For html: where to begin, as 90, 1:30, 50% or 14:05:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// For html: where to end
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

impl Export {
    pub fn run(&self) -> Result<Exit, Failure> {
        if self.format != Format::Html && (self.from.is_some() || self.until.is_some()) {
            return Err(Failure::new(Exit::Usage, "--from and --until are for --format html"));
        }
        let mut opened = self.shown.open()?;
        let channels = survey(&mut opened.cursor)?;
        let channel = self.channel.or_else(|| channels.first()).unwrap_or(1);
        let others: Vec<String> = channels
            .numbers()
            .filter(|n| *n != channel)
            .map(|n| n.to_string())
            .collect();
        if self.channel.is_none() && !others.is_empty() && self.format != Format::Text {
            say(&format!(
                "channel {channel} is written; --channel takes another: {}",
                others.join(", ")
            ));
        }
        match &self.output {
            None => {
                let mut out = stdout();
                self.write(opened, channel, &mut out)?;
                finish(out)?;
            }
            Some(path) => {
                let failed = |e: std::io::Error| {
                    Failure::io(&format!("cannot write {}", path.display()), &e).hint("choose another name with -o")
                };
                let file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .open(path)
                    .map_err(failed)?;
                let mut out = BufWriter::new(file);
                let written = self.write(opened, channel, &mut out);
                if let Err(failure) = written.and_then(|()| out.flush().map_err(failed)) {
                    // Half an export is none, and this name is to be free for the next try.
                    fs::remove_file(path).ok();
                    return Err(failure);
                }
            }
        }
        Ok(Exit::Ok)
    }

    fn write(&self, mut opened: Opened, channel: u32, out: &mut dyn Write) -> Result<(), Failure> {
        let version = match self.format {
            Format::AsciicastV2 => Version::V2,
            Format::AsciicastV3 => Version::V3,
            Format::Text => {
                let choice = Choice {
                    channel: self.channel,
                    input: self.input,
                    from_ms: 0,
                };
                put(out, &format!("-- {}", plain::line(&opened.standing)))?;
                return text::write(&mut opened.cursor, choice, false, out);
            }
            Format::Html => return self.html(opened, channel, out),
        };
        let export = asciicast::Export {
            version,
            channel,
            input: self.input,
            verdict: opened.standing.clone(),
            session: opened.session_id.clone(),
            title: opened.title.clone(),
            opened_secs: opened.opened_wall_ms / 1000,
        };
        tell(&asciicast::write(&mut opened.cursor, &export, out)?);
        Ok(())
    }

    fn html(&self, mut opened: Opened, channel: u32, out: &mut dyn Write) -> Result<(), Failure> {
        let length_ms = opened.cursor.source().last_ms();
        let moment = |text: &Option<String>, otherwise: u64| match text {
            None => Ok(otherwise),
            Some(text) => {
                moment::parse(text, 0, length_ms, opened.opened_wall_ms).map_err(|why| Failure::new(Exit::Usage, why))
            }
        };
        let part = Part {
            channel,
            from_ms: moment(&self.from, 0)?,
            until_ms: moment(&self.until, length_ms)?,
        };
        if part.from_ms > part.until_ms {
            return Err(Failure::new(Exit::Usage, "--from is later than --until"));
        }
        let frames = frames::draw(&mut opened.cursor, part)?;
        let about = About {
            title: opened.title,
            verdict: plain::line(&opened.standing),
            lines: opened.about,
            opened: opened.opened_wall_ms.saturating_add(part.from_ms),
            from: part.from_ms,
        };
        html::write(&about, &frames, out)?;
        say("a page proves nothing: keep the recording");
        Ok(())
    }
}

fn tell(told: &Told) {
    say(&format!(
        "{} lines; an asciicast proves nothing: keep the recording",
        told.events
    ));
    if told.stderr_merged {
        say("standard error is among the output: asciicast has no place for it");
    }
    if told.size_clamped {
        say("sizes over 500x200 or of zero were changed to what players take");
    }
}
