//! `report`: several sessions on one page, as a vendor's visit, for whoever holds the keys to their recordings.

use std::path::PathBuf;

use clap::Args;

use super::among::Among;
use super::summary::{add, page};
use super::{finish, opened, put_json, say, stdout};
use crate::background::Background;
use crate::failure::{Exit, Failure, write_failed};
use crate::files::find_recordings;
use crate::plain;
use crate::summary::Summary;
use crate::visit::{self, Whole};

/// Sessions of one page.
const SESSIONS_MAX: usize = 200;

/// `report FILE...`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    among: Among,
    /// What only the server knows of them (portcullis recordings background); nobody signs it
    #[arg(long, value_name = "FILE")]
    background: Option<PathBuf>,
    /// Write it as a page of its own; refuses to overwrite
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
}

impl ReportArgs {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let keyring = self.among.keys.keyring()?;
        let background = self.background.as_deref().map(Background::read).transpose()?;
        let (files, _) = find_recordings(&self.among.files)?;
        if files.len() > SESSIONS_MAX {
            let message = format!("{} recordings, and a report holds {SESSIONS_MAX}", files.len());
            return Err(Failure::new(Exit::Usage, message).hint("name those of one visit"));
        }
        let (mut summaries, mut missing, mut worst) = (Vec::new(), Vec::new(), Exit::Ok);
        for file in &files {
            let name = plain::line(&file.display().to_string());
            let read = self.among.examine(file, &keyring).and_then(|examined| {
                let report = examined.report.clone();
                let mut opened = opened(examined, self.among.unverified)?;
                let summary = Summary::read(&report, &opened.standing, &mut opened.cursor)?;
                Ok((opened.opened_wall_ms, summary))
            });
            match read {
                Ok((at_ms, summary)) => summaries.push((at_ms, add(summary, background.as_ref()))),
                // The others are worth having all the same.
                Err(failure) => {
                    say(&format!("{name}: {}", failure.message));
                    missing.push(format!("{name}: {}", failure.message));
                    if worst != Exit::Invalid {
                        worst = failure.exit;
                    }
                }
            }
        }
        summaries.sort_by_key(|(at_ms, _)| *at_ms);
        let summaries: Vec<Summary> = summaries.into_iter().map(|(_, summary)| summary).collect();
        let whole = Whole::of(&summaries, files.len(), &missing);
        let title = "Sessions and what was done in them";
        if let Some(path) = &self.html {
            page(path, title, &whole.facts, &summaries)?;
            return Ok(worst);
        }
        let mut out = stdout();
        match json {
            true => put_json(&mut out, &whole)?,
            false => {
                std::io::Write::write_all(&mut out, visit::words(title, &whole).as_bytes()).map_err(write_failed)?
            }
        }
        finish(out)?;
        Ok(worst)
    }
}
