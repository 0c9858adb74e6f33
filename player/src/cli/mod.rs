//! The command line: one file per verb. Data goes to standard output, talk to standard error.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::failure::{Exit, Failure, write_failed};
use crate::keyring::Keyring;
use crate::plain;
use crate::source::{Cursor, Source};
use crate::verdict::{Ask, Examined, examine};

mod among;
mod commands;
mod content;
mod export;
mod grep;
mod hidden;
mod key;
mod moved;
mod play;
mod prove;
mod redact;
mod report;
mod search;
mod summary;
mod text;
mod verify;

/// Play, verify, read and export Portcullis recordings, from the file and trusted keys alone.
#[derive(Parser, Debug)]
#[command(name = "portcullis-player", version, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    /// Print data as JSON, with `"schema": 1`; lists one object a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const AFTER_HELP: &str = "\
Exit codes: 0 ok (verify: SEALED and in the ledger), 1 failed or (grep) nothing found, 2 usage,
5 INVALID, 6 no such file, 10 RECOVERED, 11 PREFIX, 12 not in the ledger, or a key is unknown
or missing, 13 REDACTED.
RECOVERED, PREFIX and REDACTED stand before 12: read the verdict.";

#[derive(Subcommand, Debug)]
enum Verb {
    /// Say what a recording is worth, who signed it, and where it is in the ledger
    Verify(verify::Verify),
    /// Replay in this terminal
    Play(play::Play),
    /// Print the session as plain text
    Text(text::Text),
    /// Search screens, input and events of recordings, in files and folders
    Grep(grep::Grep),
    /// Search commands, files, screens and sessions by words, phrases, patterns, who, where and when
    Search(search::Search),
    /// One session on one page: who, where, what was run, moved, refused and hidden
    Summary(summary::SummaryArgs),
    /// Several sessions on one page, as a vendor's visit, with their sums
    Report(report::ReportArgs),
    /// Write an asciicast, text, or a page that plays in a browser
    Export(export::Export),
    /// List the commands that were run, as the protocol, the shell or the screen told them
    Commands(commands::Commands),
    /// List the lines that were typed and not echoed; with the key of whom they were wrapped to, what they said
    Hidden(hidden::HiddenArgs),
    /// List the files that crossed, with their hashes, and what was done to others
    Files(moved::Files),
    /// Take what was in a file out of the content vault, by its SHA-256 as `files` tells it
    Content(content::Content),
    /// Print the ledger proof and what it proves
    Prove(prove::Prove),
    /// Write a copy without what others must not see, signed by the redactor
    Redact(redact::Redact),
    /// Make, split and join the identities that open encrypted recordings
    Key(key::Key),
}

/// The recording and what to trust.
#[derive(Args, Debug)]
struct Target {
    /// The recording (.pcr), or the spool folder of a running session
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Node, ledger and witness keys to trust (portcullis trust export)
    #[arg(long, value_name = "FILE")]
    trust: Option<PathBuf>,
    /// The ledger proof, if it is not beside the recording as FILE.proof
    #[arg(long, value_name = "FILE")]
    proof: Option<PathBuf>,
}

impl Target {
    fn examine(&self, content: bool, keys: &Keys) -> Result<Examined, Failure> {
        examine(&Ask {
            file: self.file.clone(),
            trust: self.trust.clone(),
            proof: self.proof.clone(),
            content,
            keyring: keys.keyring()?,
        })
    }
}

/// What opens the content of an encrypted recording, whose envelope lies beside it as FILE.age.
#[derive(Args, Clone, Debug, Default)]
struct Keys {
    /// An age identity file that opens encrypted content (age-keygen, key new); may be repeated
    #[arg(long = "identity", value_name = "FILE")]
    identities: Vec<PathBuf>,
    /// A share of an identity (key split); once for each
    #[arg(long = "share", value_name = "FILE")]
    shares: Vec<PathBuf>,
}

impl Keys {
    fn keyring(&self) -> Result<Arc<Keyring>, Failure> {
        Keyring::read(&self.identities, &self.shares).map(Arc::new)
    }
}

/// For verbs that show content.
#[derive(Args, Debug)]
struct Shown {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    keys: Keys,
    /// Show it although nobody trusted vouches for it, or as far as it is readable
    #[arg(long)]
    unverified: bool,
}

/// A recording that may be shown. Its words are safe to show.
struct Opened {
    cursor: Cursor,
    /// The verdict in words, beginning with UNVERIFIED where that is so.
    standing: String,
    /// The same in few words, with signer and place in the ledger.
    badge: String,
    /// What `verify` says about it, line by line.
    about: Vec<String>,
    /// Who was where, or what another tool's file calls itself.
    title: String,
    /// The session's id; empty for another tool's file.
    session_id: String,
    opened_wall_ms: u64,
}

impl Shown {
    /// Gives the events only if they are verified or the viewer said that they need not be. Who names no trusted keys
    /// and gives another tool's file expects no verdict; who names some is not shown anything else.
    fn open(&self) -> Result<Opened, Failure> {
        let examined = self.target.examine(false, &self.keys)?;
        let foreign = matches!(examined.source, Some(Source::UnverifiedImport(_)));
        let expected = self.target.trust.is_some() || self.target.proof.is_some();
        let opened = opened(examined, self.unverified || (foreign && !expected))?;
        say(&opened.standing);
        Ok(opened)
    }
}

fn opened(examined: Examined, unverified: bool) -> Result<Opened, Failure> {
    let report = examined.report;
    let verified = examined.source.as_ref().is_some_and(Source::is_verified);
    let exit = if report.word == "INVALID" {
        Exit::Invalid
    } else {
        Exit::Unproved
    };
    if !verified && !unverified {
        let missing = report.missing.join("; ");
        let missing = if missing.is_empty() {
            missing
        } else {
            format!("missing: {missing}. ")
        };
        return Err(Failure::new(exit, report.verdict)
            .hint(format!("{missing}--unverified shows it nevertheless, as nobody's word")));
    }
    if let Some(encryption) = report.encryption.as_ref().filter(|e| !e.opened) {
        let message = format!("{}; not read: its content is {}", report.verdict, encryption.words());
        return Err(Failure::new(exit, message).hint(encryption.locked.clone().unwrap_or_default()));
    }
    let (badge, about) = (
        report.badge(),
        verify::words(&report).lines().map(str::to_owned).collect(),
    );
    let (title, session_id, opened_wall_ms) = match (&examined.source, &report.session, &examined.head) {
        (Some(Source::UnverifiedImport(file)), ..) => (file.title.clone(), String::new(), file.opened_wall_ms),
        (_, Some(s), Some(head)) => (
            format!("{}@{}, {}", s.login, s.target, s.identity),
            s.id.clone(),
            head.opened_wall_ms,
        ),
        _ => (String::new(), String::new(), 0),
    };
    let Some(source) = examined.source else {
        return Err(Failure::new(exit, report.verdict).hint("nothing in it can be read"));
    };
    let standing = match (verified, report.word) {
        (true, _) | (false, "UNVERIFIED") => report.verdict,
        (false, _) => format!("UNVERIFIED, {}", report.verdict),
    };
    Ok(Opened {
        cursor: Cursor::new(source),
        standing,
        badge,
        about,
        title,
        session_id,
        opened_wall_ms,
    })
}

/// Runs the player with arguments as a program gets them, its own name first. Everything it has to say is said when it
/// returns.
pub fn run<I>(args: I) -> ExitCode
where
    I: IntoIterator<Item = OsString>,
{
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Nobody to tell if that fails; help is no error.
            e.print().ok();
            return if e.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Ok.into()
            };
        }
    };
    let json = cli.json;
    let done = match cli.verb {
        Verb::Verify(verb) => verb.run(json),
        Verb::Play(verb) => verb.run(json),
        Verb::Text(verb) => verb.run(json),
        Verb::Grep(verb) => verb.run(json),
        Verb::Search(verb) => verb.run(json),
        Verb::Summary(verb) => verb.run(json),
        Verb::Report(verb) => verb.run(json),
        Verb::Export(verb) => verb.run(),
        Verb::Commands(verb) => verb.run(json),
        Verb::Hidden(verb) => verb.run(json),
        Verb::Files(verb) => verb.run(json),
        Verb::Content(verb) => verb.run(json),
        Verb::Prove(verb) => verb.run(json),
        Verb::Redact(verb) => verb.run(json),
        Verb::Key(verb) => verb.run(json),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                writeln!(std::io::stderr(), "{failure}").ok();
            }
            failure.exit.into()
        }
    }
}

/// Says something to the person.
fn say(text: &str) {
    writeln!(std::io::stderr(), "{}", plain::line(text)).ok();
}

/// Writes data that is safe to show already.
fn put(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    writeln!(out, "{text}").map_err(write_failed)
}

/// Writes a value as one line of JSON.
fn put_json<T: Serialize>(out: &mut dyn Write, value: &T) -> Result<(), Failure> {
    let text =
        serde_json::to_string(value).map_err(|e| Failure::new(Exit::Failed, format!("cannot write JSON: {e}")))?;
    put(out, &plain::json(&text))
}

/// Standard output, flushed by [`finish`].
fn stdout() -> std::io::BufWriter<std::io::StdoutLock<'static>> {
    std::io::BufWriter::new(std::io::stdout().lock())
}

fn finish(mut out: impl Write) -> Result<(), Failure> {
    out.flush().map_err(write_failed)
}
