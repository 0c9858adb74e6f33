//! `grep`: what matches in recordings, and when.

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use clap::Args;
use serde::Serialize;

use super::among::Among;
use super::{finish, opened, put, put_json, say, stdout};
use crate::channels::Channels;
use crate::failure::{Exit, Failure};
use crate::files::find_recordings;
use crate::find::{Finder, Hit, Place, Query, Reading, Wanted};
use crate::keyring::Keyring;
use crate::plain;
use crate::source::{Cursor, Source};
use crate::times;
use crate::verdict::SCHEMA;

/// Threads at most.
const THREADS_MAX: usize = 16;
/// Hits told of one recording; beyond that it is said that there are more.
const HITS_MAX: usize = 100_000;
/// Files whose hits wait for those before them.
const WAITING_FILES_MAX: usize = 64;

/// `grep PATTERN FILE...`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Grep {
    /// A pattern as in grep -E (the regex crate's syntax)
    pattern: String,
    #[command(flatten)]
    among: Among,
    /// Upper and lower case are the same
    #[arg(short, long)]
    ignore_case: bool,
    /// The pattern is the text itself
    #[arg(short = 'F', long)]
    fixed_strings: bool,
    /// Only what terminals showed and commands printed
    #[arg(long, conflicts_with_all = ["input", "events", "raw"])]
    output: bool,
    /// Only what was typed, where it was echoed
    #[arg(long)]
    input: bool,
    /// Only what happened: requests, commands, decisions, notices, markers, ends
    #[arg(long)]
    events: bool,
    /// Only the bytes that came out, escape sequences and all, line by line
    #[arg(long, conflicts_with_all = ["input", "events"])]
    raw: bool,
    /// Only this channel
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// Stop after so many hits in a recording
    #[arg(short, long, value_name = "N")]
    max_count: Option<NonZero<usize>>,
    /// Print only the names of recordings with a hit
    #[arg(short = 'l', long)]
    files_with_matches: bool,
}

const AFTER_HELP: &str = "\
Screens are searched as they were drawn: each line is told once, with the time when it came up.
Exit codes: 0 found, 1 not found; if any of the files could not be searched, its code instead:
5 INVALID, 12 nobody trusted vouches for it or it is encrypted and locked, 6 no such file. RECOVERED, REDACTED
and PREFIX are searched like SEALED; `verify` tells.";

/// A hit as `--json` prints it.
#[derive(Serialize)]
struct Row<'r> {
    schema: u32,
    file: &'r str,
    session: &'r str,
    verdict: &'r str,
    at: String,
    #[serde(flatten)]
    hit: &'r Hit,
}

/// What came of one file.
struct Searched {
    verdict: String,
    session: String,
    opened_wall_ms: u64,
    hits: Vec<Hit>,
    more: bool,
    fault: Option<Failure>,
}

/// Takes what came of one file.
type Each<'e> = dyn FnMut(&Path, Result<Searched, Failure>) -> Result<(), Failure> + 'e;

impl Grep {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let query = self.query()?;
        let keyring = self.among.keys.keyring()?;
        let (files, named) = find_recordings(&self.among.files)?;
        let mut out = stdout();
        let mut tally = Tally {
            grep: self,
            json,
            many: files.len() > 1 || !named,
            found: false,
            worst: None,
        };
        self.search_all(&files, &query, &keyring, &mut |file, searched| {
            tally.print(&mut out, file, searched)
        })?;
        finish(out)?;
        Ok(match tally.worst {
            Some(exit) => exit,
            None if tally.found => Exit::Ok,
            None => Exit::Failed,
        })
    }

    fn query(&self) -> Result<Query, Failure> {
        let how = Reading {
            ignore_case: self.ignore_case,
            literal: self.fixed_strings,
        };
        let refused = |why: String| {
            Failure::new(Exit::Usage, why).hint("-F takes the pattern as it is, without special characters")
        };
        let mut query = Query::new(&self.pattern, how).map_err(refused)?;
        if self.raw {
            query = query.raw(&self.pattern, how).map_err(refused)?;
        }
        let all = !(self.output || self.input || self.events || self.raw);
        query.output = all || self.output || self.raw;
        query.input = all || self.input;
        query.events = all || self.events;
        query.channel = self.channel;
        Ok(query)
    }

    /// Searches all files on a few threads, and gives what was found file by file, in order.
    fn search_all(
        &self,
        files: &[PathBuf],
        query: &Query,
        keyring: &Arc<Keyring>,
        each: &mut Each<'_>,
    ) -> Result<(), Failure> {
        let threads = thread::available_parallelism()
            .map_or(1, NonZero::get)
            .min(THREADS_MAX)
            .min(files.len());
        let next = AtomicUsize::new(0);
        let (send, receive) = sync_channel(WAITING_FILES_MAX);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (send, next) = (send.clone(), &next);
                // A pattern's scratch space is per copy, so each thread has its own.
                let query = query.clone();
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(file) = files.get(at) else { return };
                        // Nobody receives any more: printing has failed.
                        if send.send((at, self.search(file, &query, keyring))).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(send);
            let mut waiting = BTreeMap::new();
            let mut told = 0;
            while let Ok((at, searched)) = receive.recv() {
                waiting.insert(at, searched);
                while let (Some(searched), Some(file)) = (waiting.remove(&told), files.get(told)) {
                    each(file, searched)?;
                    told += 1;
                }
            }
            Ok(())
        })
    }

    fn search(&self, file: &Path, query: &Query, keyring: &Arc<Keyring>) -> Result<Searched, Failure> {
        let examined = self.among.examine(file, keyring)?;
        let foreign = matches!(examined.source, Some(Source::UnverifiedImport(_)));
        let opened = opened(
            examined,
            self.among.unverified || (foreign && self.among.trust.is_none()),
        )?;
        let mut searched = Searched {
            verdict: opened.standing,
            session: opened.session_id,
            opened_wall_ms: opened.opened_wall_ms,
            hits: Vec::new(),
            more: false,
            fault: None,
        };
        let wanted = Wanted::Text(Box::new(query.clone()));
        let hits_max = match (self.files_with_matches, self.max_count) {
            (true, _) => 1,
            (false, Some(n)) => n.get(),
            (false, None) => HITS_MAX,
        };
        searched.fault = self.go_through(opened.cursor, wanted, hits_max, &mut searched).err();
        Ok(searched)
    }

    fn go_through(
        &self,
        mut cursor: Cursor,
        wanted: Wanted,
        hits_max: usize,
        searched: &mut Searched,
    ) -> Result<(), Failure> {
        let mut finder = Finder::new(wanted, Channels::default());
        let (hits, more) = (&mut searched.hits, &mut searched.more);
        let mut keep = |hit: Hit| {
            if hits.len() < hits_max {
                hits.push(hit);
            } else {
                *more = true;
            }
        };
        while let Some(timed) = cursor.next_event()? {
            finder.take(&timed, &mut keep);
            if finder.found() >= hits_max as u64 {
                return Ok(());
            }
        }
        finder.finish(&mut keep);
        Ok(())
    }
}

/// Prints, and keeps account of the exit code.
struct Tally<'t> {
    grep: &'t Grep,
    json: bool,
    /// Whether hits are told with their file.
    many: bool,
    found: bool,
    worst: Option<Exit>,
}

impl Tally<'_> {
    fn print(&mut self, out: &mut dyn Write, file: &Path, searched: Result<Searched, Failure>) -> Result<(), Failure> {
        let name = plain::line(&file.display().to_string());
        let searched = match searched {
            Ok(searched) => searched,
            Err(failure) => {
                self.fail(&name, &failure);
                return Ok(());
            }
        };
        self.found |= !searched.hits.is_empty();
        if searched.verdict.starts_with("UNVERIFIED") && !searched.hits.is_empty() {
            say(&format!("{name}: {}", searched.verdict));
        }
        if self.grep.files_with_matches && !searched.hits.is_empty() && !self.json {
            put(out, &name)?;
        } else {
            for hit in &searched.hits {
                self.hit(out, &name, &searched, hit)?;
            }
        }
        if searched.more && self.grep.max_count.is_none() && !self.grep.files_with_matches {
            say(&format!("{name}: more than {HITS_MAX} hits; the rest is not shown"));
        }
        if let Some(failure) = &searched.fault {
            self.fail(&name, failure);
        }
        Ok(())
    }

    fn hit(&self, out: &mut dyn Write, name: &str, searched: &Searched, hit: &Hit) -> Result<(), Failure> {
        if self.json {
            let row = Row {
                schema: SCHEMA,
                file: name,
                session: &searched.session,
                verdict: &searched.verdict,
                at: times::utc(searched.opened_wall_ms.saturating_add(hit.at_ms)),
                hit,
            };
            return put_json(out, &row);
        }
        let file = if self.many { format!("{name}:") } else { String::new() };
        let place = match hit.place {
            Place::Output | Place::Raw => String::new(),
            Place::Input | Place::Event => format!("{}: ", hit.place.word()),
        };
        let (at, channel) = (times::exact(hit.at_ms), hit.channel);
        put(out, &format!("{file}{at} [{channel}] {place}{}", hit.text))
    }

    fn fail(&mut self, name: &str, failure: &Failure) {
        say(&format!("{name}: {}", failure.message));
        if !failure.hint.is_empty() {
            say(&format!("  {}", failure.hint));
        }
        // What is wrong stands before what is only unknown.
        let rank = |exit: Exit| match exit {
            Exit::Invalid => 3,
            Exit::Unproved => 2,
            Exit::Ok
            | Exit::Failed
            | Exit::Usage
            | Exit::NotFound
            | Exit::Recovered
            | Exit::Prefix
            | Exit::Redacted => 1,
        };
        if self.worst.is_none_or(|worst| rank(failure.exit) > rank(worst)) {
            self.worst = Some(failure.exit);
        }
    }
}
