//! `summary`: a session on one page.

use std::fs::OpenOptions;
use std::io::BufWriter;
use std::path::PathBuf;

use clap::Args;

use super::{Shown, finish, opened, put_json, say, stdout};
use crate::failure::{Exit, Failure, write_failed};
use crate::sheet;
use crate::source::Source;
use crate::summary::{self, Summary};

/// `summary FILE`.
#[derive(Args, Debug)]
pub struct SummaryArgs {
    #[command(flatten)]
    shown: Shown,
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
        match &self.html {
            Some(path) => {
                let shown = path.display().to_string();
                let file = OpenOptions::new().write(true).create_new(true).open(path);
                let mut out = BufWriter::new(file.map_err(|e| Failure::io(&shown, &e))?);
                sheet::write(&opened.title, &[], &[summary], &mut out)?;
                finish(out)?;
            }
            None if json => {
                let mut out = stdout();
                put_json(&mut out, &summary)?;
                finish(out)?;
            }
            None => {
                let mut out = stdout();
                std::io::Write::write_all(&mut out, summary::text(&summary).as_bytes()).map_err(write_failed)?;
                finish(out)?;
            }
        }
        Ok(Exit::Ok)
    }
}
