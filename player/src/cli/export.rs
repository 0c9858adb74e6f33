//! `export`: asciicast v2 and v3.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Shown, finish, say, stdout};
use crate::asciicast::{self, Told, Version};
use crate::channels::survey;
use crate::failure::{Exit, Failure};

/// Formats that can be written.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// Times from the start; what most players read
    #[value(name = "asciicast-v2")]
    AsciicastV2,
    /// Times from the event before, exit status
    #[value(name = "asciicast-v3")]
    AsciicastV3,
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
}

impl Export {
    pub fn run(&self) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let channels = survey(&mut opened.cursor)?;
        let channel = self.channel.or_else(|| channels.first()).unwrap_or(1);
        let others: Vec<String> = channels
            .numbers()
            .filter(|n| *n != channel)
            .map(|n| n.to_string())
            .collect();
        if self.channel.is_none() && !others.is_empty() {
            say(&format!(
                "channel {channel} is written; --channel takes another: {}",
                others.join(", ")
            ));
        }
        let export = asciicast::Export {
            version: match self.format {
                Format::AsciicastV2 => Version::V2,
                Format::AsciicastV3 => Version::V3,
            },
            channel,
            input: self.input,
            verdict: opened.standing.clone(),
            session: opened.session_id.clone(),
            title: opened.title.clone(),
            opened_secs: opened.opened_wall_ms / 1000,
        };
        let told = match &self.output {
            None => {
                let mut out = stdout();
                let told = asciicast::write(&mut opened.cursor, &export, &mut out)?;
                finish(out)?;
                told
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
                let told = asciicast::write(&mut opened.cursor, &export, &mut out)?;
                out.flush().map_err(failed)?;
                told
            }
        };
        tell(&told);
        Ok(Exit::Ok)
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
