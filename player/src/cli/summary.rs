//! `summary`: a session on one page.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Shown, finish, opened, put_json, say, stdout};
use crate::background::Background;
use crate::failure::{Exit, Failure, write_failed};
use crate::sheet;
use crate::source::Source;
use crate::summary::{self, Summary};

/// `summary FILE`.
#[derive(Args, Debug)]
pub struct SummaryArgs {
    #[command(flatten)]
    shown: Shown,
    /// What only the server knows of it (portcullis recordings background); nobody signs it
    #[arg(long, value_name = "FILE")]
    background: Option<PathBuf>,
    /// Write it as a page of its own; refuses to overwrite
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
}

impl SummaryArgs {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let examined = self.shown.target.examine(false, &self.shown.keys)?;
        let report = examined.report.clone();
        let foreign = matches!(examined.source, Some(Source::UnverifiedImport(_)));
        let mut opened = opened(
            examined,
            self.shown.unverified || (foreign && self.shown.target.trust.is_none()),
        )?;
        say(&opened.standing);
        let summary = Summary::read(&report, &opened.standing, &mut opened.cursor)?;
        let background = self.background.as_deref().map(Background::read).transpose()?;
        let summary = add(summary, background.as_ref());
        if background.is_some() && summary.known.is_none() {
            say("what was given as background says nothing of this session");
        }
        if let Some(path) = &self.html {
            page(path, &opened.title, &[], &[summary])?;
            return Ok(Exit::Ok);
        }
        let mut out = stdout();
        match json {
            true => put_json(&mut out, &summary)?,
            false => {
                std::io::Write::write_all(&mut out, summary::text(&summary).as_bytes()).map_err(write_failed)?;
            }
        }
        finish(out)?;
        Ok(Exit::Ok)
    }
}

/// With what the server knows of it, where it was given.
pub fn add(summary: Summary, background: Option<&Background>) -> Summary {
    let id = summary.session.as_ref().map(|session| session.id.as_str());
    match id.zip(background).and_then(|(id, background)| background.of(id)) {
        Some(known) => summary.with(known),
        None => summary,
    }
}

/// Writes a page; not over a file that is there.
pub fn page(path: &Path, title: &str, head: &[(String, String)], summaries: &[Summary]) -> Result<(), Failure> {
    let shown = path.display().to_string();
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut out = BufWriter::new(file.map_err(|e| Failure::io(&shown, &e))?);
    sheet::write(title, head, summaries, &mut out)?;
    finish(out)
}
