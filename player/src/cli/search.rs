//! `search`: the words of the server's search over files, for whoever holds the keys to them.

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::among::Among;
use super::play::Play;
use super::redact::now_wall_ms;
use super::{finish, opened, put, put_json, say, stdout};
use crate::entry::{Entries, Entry};
use crate::failure::{Exit, Failure};
use crate::files::find_recordings;
use crate::keyring::Keyring;
use crate::plain;
use crate::query::{Query, Whose};
use crate::times;
use crate::verdict::SCHEMA;

/// Hits told of one recording; beyond that it is said that there are more.
const HITS_MAX: usize = 10_000;

/// `search QUERY FILE...`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Search {
    /// What to look for, see below
    query: String,
    #[command(flatten)]
    among: Among,
    /// Replay the Nth hit in this terminal, where it was found, instead of listing them
    #[arg(long, value_name = "N")]
    play: Option<NonZeroUsize>,
}

const AFTER_HELP: &str = "\
A query is words (in any case; restart* also its longer forms), \"phrases\", /patterns/ without blanks, and
user:NAME target:NAME label:NAME kind:command|file|screen|session status:N status:failed
after:TIME before:TIME, with TIME as 2026-01-31, 2026-01-31T12:00:00Z, 12h or 7d (ago). All of them have to hold.
`grep` takes one pattern and more of the recording. Exit codes are those of `grep`.";

/// A hit as `--json` prints it.
#[derive(Serialize)]
struct Row<'r> {
    schema: u32,
    file: &'r str,
    session: &'r str,
    verdict: &'r str,
    identity: &'r str,
    destination: &'r str,
    at: String,
    #[serde(flatten)]
    entry: &'r Entry,
}

/// What came of one file.
struct Searched {
    verdict: String,
    session: String,
    identity: String,
    destination: String,
    opened_wall_ms: u64,
    hits: Vec<Entry>,
    more: bool,
    fault: Option<Failure>,
}

impl Search {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let query = Query::parse(&self.query, now_wall_ms()).map_err(|why| {
            Failure::new(Exit::Usage, format!("the query: {why}"))
                .hint("words, \"phrases\", /patterns/, user:NAME, after:2026-01-31: see `search --help`")
        })?;
        let keyring = self.among.keys.keyring()?;
        let (files, _) = find_recordings(&self.among.files)?;
        let mut out = stdout();
        let (mut found, mut worst) = (false, None);
        // Hits before the one that is to be played.
        let mut before = self.play.map(|number| number.get() - 1);
        for file in &files {
            let name = plain::line(&file.display().to_string());
            let mut fail = |failure: &Failure| {
                say(&format!("{name}: {}", failure.message));
                if !failure.hint.is_empty() {
                    say(&format!("  {}", failure.hint));
                }
                worst = Some(match worst {
                    Some(Exit::Invalid) => Exit::Invalid,
                    Some(_) | None => failure.exit,
                });
            };
            match self.search(file, &query, &keyring) {
                Err(failure) => fail(&failure),
                Ok(searched) => {
                    found |= !searched.hits.is_empty();
                    if let Some(left) = &mut before {
                        if let Some(hit) = searched.hits.get(*left) {
                            return Play::from(self.among.one(file), hit.channel, hit.at_ms).run(json);
                        }
                        *left -= searched.hits.len();
                    } else {
                        print(&mut out, json, &name, &searched)?;
                    }
                    if let Some(failure) = &searched.fault {
                        fail(failure);
                    }
                }
            }
        }
        finish(out)?;
        if let (Some(number), true, None) = (self.play, found, worst) {
            return Err(Failure::new(Exit::Usage, format!("there is no hit {number}"))
                .hint("without --play they are listed in their order"));
        }
        Ok(match worst {
            Some(exit) => exit,
            None if found => Exit::Ok,
            None => Exit::Failed,
        })
    }

    fn search(&self, file: &Path, query: &Query, keyring: &Arc<Keyring>) -> Result<Searched, Failure> {
        let examined = self.among.examine(file, keyring)?;
        let head = examined.head.clone().unwrap_or_default();
        let mut opened = opened(examined, self.among.unverified)?;
        let whose = Whose::of(&head);
        let mut searched = Searched {
            verdict: opened.standing,
            session: opened.session_id,
            identity: plain::line(&head.identity),
            destination: plain::line(&format!("{}@{}", head.login, head.target)),
            opened_wall_ms: opened.opened_wall_ms,
            hits: Vec::new(),
            more: false,
            fault: None,
        };
        if !query.fits(&whose) {
            return Ok(searched);
        }
        let (hits, more) = (&mut searched.hits, &mut searched.more);
        let mut keep = |entry: Entry| match query.matches(&whose, &entry) {
            true if hits.len() < HITS_MAX => hits.push(entry),
            true => *more = true,
            false => {}
        };
        let mut entries = Entries::new(query.wants_screens());
        loop {
            match opened.cursor.next_event() {
                Ok(Some(timed)) => entries.take(&timed, &mut keep),
                Ok(None) => break,
                Err(fault) => {
                    searched.fault = Some(fault.into());
                    break;
                }
            }
        }
        entries.finish(&head, "", &mut keep);
        searched.hits.sort_by_key(|hit| hit.at_ms);
        Ok(searched)
    }
}

fn print(out: &mut dyn Write, json: bool, name: &str, searched: &Searched) -> Result<(), Failure> {
    if searched.verdict.starts_with("UNVERIFIED") && !searched.hits.is_empty() {
        say(&format!("{name}: {}", searched.verdict));
    }
    for entry in &searched.hits {
        let at = times::utc(searched.opened_wall_ms.saturating_add(entry.at_ms));
        if json {
            let row = Row {
                schema: SCHEMA,
                file: name,
                session: &searched.session,
                verdict: &searched.verdict,
                identity: &searched.identity,
                destination: &searched.destination,
                at,
                entry,
            };
            put_json(out, &row)?;
            continue;
        }
        put(
            out,
            &format!(
                "{name}:{} {at} {} {} {}: {}",
                times::exact(entry.at_ms),
                searched.identity,
                searched.destination,
                entry.kind.word(),
                entry.text
            ),
        )?;
    }
    if searched.more {
        say(&format!("{name}: more than {HITS_MAX} hits; the rest is not shown"));
    }
    Ok(())
}
