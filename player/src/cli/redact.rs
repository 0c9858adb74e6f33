//! `redact`: a copy without what others must not see.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;
use serde::Serialize;

use super::{finish, put, put_json, say, stdout};
use crate::failure::{Exit, Failure};
use crate::moment;
use crate::plain;
use crate::redact::choice::{Choice, Region};
use crate::redact::copy::{Copied, Order, copy};
use crate::redact::key::RedactorKey;
use crate::times;
use crate::verdict::{Ask, SCHEMA, examine};

/// `redact FILE -o OUT --key KEY --reason TEXT ...`.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Redact {
    /// The recording (.pcr), or a redacted copy of one
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the copy goes; it must not exist
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Node, redactor, ledger and witness keys to trust (portcullis trust export)
    #[arg(long, value_name = "FILE")]
    trust: PathBuf,
    /// The redactor's private key (ssh-keygen -t ed25519, no passphrase)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Why, for everybody who reads the copy
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// What the redactor is called; otherwise as in the trust file
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// This text, wherever it is
    #[arg(long, value_name = "STRING")]
    text: Vec<String>,
    /// What this pattern matches (the regex crate's syntax)
    #[arg(long, value_name = "PATTERN")]
    regex: Vec<String>,
    /// All that was typed and printed from this time on: 90, 1:30, 1:02:03.5, 50% or 14:05:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// ... before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// ... on this channel
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// ... only what was typed
    #[arg(long)]
    input: bool,
}

const AFTER_HELP: &str = "\
--from, --to, --channel and --input narrow one region, from which everything goes; --text and
--regex go everywhere else as well, and may be given several times. The original is not touched.
Text is found as it came, also over several events, and as it stood on a screen; what the session
encoded (base64, an editor's swap file) is not. Read the copy before you give it away.";

/// What was done, as `--json` prints it.
#[derive(Serialize)]
struct Done<'d> {
    schema: u32,
    file: String,
    copy: String,
    verdict: &'d str,
    chunks: &'d [Copied],
}

impl Redact {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let examined = examine(&Ask {
            file: self.file.clone(),
            trust: Some(self.trust.clone()),
            ..Ask::default()
        })?;
        let key = RedactorKey::read(&self.key)?;
        let opened_wall_ms = examined.head.as_ref().map_or(0, |head| head.opened_wall_ms);
        let length_ms = examined.report.session.as_ref().map_or(0, |session| session.length_ms);
        let choice = self.choice(length_ms, opened_wall_ms)?;
        let made = copy(
            examined,
            &Order {
                file: &self.file,
                out: &self.output,
                trust: &self.trust,
                key: &key,
                at_wall_ms: now_wall_ms(),
                reason: &self.reason,
                name: self.name.as_deref(),
            },
            &choice,
        )?;
        let mut out = stdout();
        if json {
            let shown = |path: &Path| plain::line(&path.display().to_string());
            let done = Done {
                schema: SCHEMA,
                file: shown(&self.file),
                copy: shown(&self.output),
                verdict: &made.verdict,
                chunks: &made.chunks,
            };
            put_json(&mut out, &done)?;
        } else {
            put(&mut out, &made.verdict)?;
            for chunk in &made.chunks {
                put(&mut out, &words(chunk))?;
            }
        }
        finish(out)?;
        for warning in &made.warnings {
            say(warning);
        }
        Ok(Exit::Ok)
    }

    fn choice(&self, length_ms: u64, opened_wall_ms: u64) -> Result<Choice, Failure> {
        let refused = |why: String| Failure::new(Exit::Usage, why);
        let mut choice = Choice::default();
        self.text
            .iter()
            .try_for_each(|text| choice.text(text))
            .map_err(refused)?;
        self.regex
            .iter()
            .try_for_each(|pattern| choice.pattern(pattern))
            .map_err(refused)?;
        let time = |text: &Option<String>| -> Result<Option<u64>, Failure> {
            let parse = |text: &String| moment::parse(text, 0, length_ms, opened_wall_ms).map_err(refused);
            text.as_ref().map(parse).transpose()
        };
        let region = Region {
            from_ms: time(&self.from)?,
            to_ms: time(&self.to)?,
            channel: self.channel,
            input: self.input,
        };
        if region != Region::default() {
            choice.region = Some(region);
        }
        if choice.region.is_none() && choice.patterns.is_empty() {
            return Err(refused("nothing to redact was named".to_owned())
                .hint("--text, --regex, --from, --to, --channel or --input says what"));
        }
        Ok(choice)
    }
}

/// What the redactor signs as the time.
pub(super) fn now_wall_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn words(chunk: &Copied) -> String {
    let (from, to) = (times::exact(chunk.first_ms), times::exact(chunk.last_ms));
    let mut text = format!(
        "  chunk {} ({from} to {to}): {} events changed",
        chunk.index, chunk.places
    );
    if chunk.screens > 0 {
        text += &format!(", {} screens at its start drawn anew", chunk.screens);
    }
    text
}
