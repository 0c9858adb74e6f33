//! `recordings search`: where something was run, moved or shown, and the
//! player at that moment. `recordings index`: what searches go by.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::exit::{CliError, Exit};
use super::{Common, Session, output, recordings};
use crate::api::wire::search::{CheckedView, Found, HitView, IndexRequest, IndexView, SearchRequest};

/// Characters of a hit's words in a line.
const TEXT_CHARS_MAX: usize = 400;
/// Characters of a name in it.
const NAME_CHARS_MAX: usize = 128;
/// Between two looks at an index that is made anew.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// `recordings search …`
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct SearchArgs {
    /// What to look for, see below
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// Most hits, at most 200
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// The next page: what the one before named
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Why; stays in the ledger, with the words
    #[arg(long, value_name = "TEXT", default_value = "search")]
    reason: String,
    /// Open the player at hit N
    #[arg(long, value_name = "N")]
    play: Option<usize>,
}

const AFTER_HELP: &str = "\
Words in any case (restart* also its longer forms), \"phrases\", /patterns/ without blanks, and
user:NAME target:NAME label:NAME kind:command|file|screen|session status:N status:failed
after:TIME before:TIME, with TIME as 2026-01-31, 2026-01-31T12:00:00Z, 12h or 7d (ago). All of them have to hold.
A phrase keeps its quotes through the shell: '\"restart nginx\"'.
An encrypted recording is found by its session and its labels (`label:` finds the session);
`portcullis-player search` reads it with its key.";

impl SearchArgs {
    /// Whether the player is to be opened.
    pub fn plays(&self) -> bool {
        self.play.is_some()
    }
}

async fn ask(session: &Session, args: &SearchArgs) -> Result<Found, CliError> {
    let request = SearchRequest {
        query: args.words.join(" "),
        reason: args.reason.clone(),
        limit: Some(args.limit),
        after: args.after.clone(),
    };
    Ok(session.client.post("/v1/recordings/search", &request).await?)
}

pub async fn run(session: &Session, args: &SearchArgs) -> Result<Exit, CliError> {
    let found = ask(session, args).await?;
    session.output.data(&found, || {
        let numbered = found.hits.iter().zip(1..);
        numbered.map(|(hit, number)| line(session, number, hit)).collect()
    })?;
    say_more(session, args, &found);
    Ok(match found.hits.is_empty() {
        true => Exit::Failed,
        false => Exit::Ok,
    })
}

/// Number, time, session, who, where, what kind, and the words: a line, as its words are long.
fn line(session: &Session, number: usize, hit: &HitView) -> String {
    let mut text = match hit.checked {
        CheckedView::Recording => String::new(),
        CheckedView::Index => "(index) ".to_owned(),
        CheckedView::Differs => "(NOT IN THE RECORDING) ".to_owned(),
    };
    text += &hit.text;
    text = output::clean(&text, TEXT_CHARS_MAX);
    if let Some(status) = hit.status.filter(|_| hit.kind == "command") {
        text += &format!("  status {status}");
    }
    if !hit.labels.is_empty() {
        text += &format!("  [{}]", output::clean(&hit.labels.join(" "), TEXT_CHARS_MAX));
    }
    format!(
        "{number:<4} {}  {}  {}  {}  {:<7}  {text}\n",
        session.output.time(&hit.at),
        hit.session.to_string().chars().take(8).collect::<String>(),
        output::clean(&hit.identity, NAME_CHARS_MAX),
        output::clean(&hit.destination, NAME_CHARS_MAX),
        hit.kind,
    )
}

/// What no search of this server finds, as it is not in the index.
fn unsearched(found: &Found) -> Option<String> {
    let kinds = [
        (found.part, "in part, as they are long"),
        (
            found.locked,
            "by their labels, as they are encrypted (`portcullis-player search` beside the key)",
        ),
        (
            found.unread,
            "not at all, as they do not verify (`portcullis ledger fsck`)",
        ),
    ];
    let said = kinds.iter().filter(|(count, _)| *count > 0);
    let said: Vec<_> = said.map(|(count, how)| format!("{count} {how}")).collect();
    (!said.is_empty()).then(|| {
        format!(
            "Of all recordings, these are searched less than whole: {}.",
            said.join("; ")
        )
    })
}

fn say_more(session: &Session, args: &SearchArgs, found: &Found) {
    if found.hits.is_empty() {
        session.output.say("Nothing found.");
    }
    if found.hits.iter().any(|hit| hit.checked == CheckedView::Index) {
        session
            .output
            .say("(index): only the index says so; the recording was not read, or is encrypted.");
    }
    if found.hits.iter().any(|hit| hit.checked == CheckedView::Differs) {
        session
            .output
            .say("NOT IN THE RECORDING: the index is wrong, or the recording was changed: verify it, then `portcullis recordings index --rebuild`.");
    }
    if !found.complete {
        session
            .output
            .say("Not all was looked at: there was no time for it, or recordings wait for the index (`portcullis recordings index`).");
    }
    if let Some(more) = unsearched(found) {
        session.output.say(more);
    }
    if let Some(next) = &found.next {
        session.output.say(format!("More: the same with --after {next}"));
    }
    if let Some(hit) = found.hits.first() {
        let channel = match hit.channel {
            0 => String::new(),
            channel => format!(" --channel {channel}"),
        };
        session.output.say(format!(
            "Next: portcullis recordings play {} --at {}{channel}, or the same with --play 1 (searched again: newer hits come first)",
            hit.session.to_string().chars().take(8).collect::<String>(),
            moment(hit)
        ));
    }
    if args.reason == "search" && !found.hits.is_empty() {
        session
            .output
            .say("The ledger has the words and the sessions; --reason says why.");
    }
}

/// As the player takes it.
fn moment(hit: &HitView) -> String {
    let (secs, ms) = (hit.at_ms / 1000, hit.at_ms % 1000);
    format!("{}:{:02}:{:02}.{ms:03}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// Searches, and opens the player at a hit.
pub fn play(common: &Common, args: &SearchArgs) -> Result<ExitCode, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    let found = runtime.block_on(async {
        let session = Session::new(common)?;
        ask(&session, args).await
    })?;
    drop(runtime);
    let number = args.play.unwrap_or(1);
    let hit = number.checked_sub(1).and_then(|at| found.hits.get(at)).ok_or_else(|| {
        CliError::new(
            Exit::NotFound,
            format!("there are {} hits, no number {number}", found.hits.len()),
        )
        .hint("the same without --play lists them; --limit asks for more")
    })?;
    let mut options = vec!["--at".into(), moment(hit).into()];
    if hit.channel > 0 {
        options.extend(["--channel".into(), hit.channel.to_string().into()]);
    }
    recordings::play(common, &hit.session.to_string(), &args.reason, &options)
}

/// How the index stands; made anew first if that is wanted.
pub async fn index(session: &Session, rebuild: bool) -> Result<Exit, CliError> {
    let mut view: IndexView = match rebuild {
        false => session.client.get("/v1/recordings/index").await?,
        true => {
            let request = IndexRequest { rebuild };
            session.client.post("/v1/recordings/index", &request).await?
        }
    };
    while rebuild && view.waiting > 0 {
        tokio::time::sleep(LOOK_EVERY).await;
        view = session.client.get("/v1/recordings/index").await?;
    }
    session.output.data(&view, || {
        let lines = [
            ("recordings", view.whole),
            ("in part", view.part),
            ("encrypted", view.locked),
            ("unread", view.unread),
            ("deleted", view.gone),
            ("entries", view.entries),
            ("waiting", view.waiting),
        ];
        lines
            .iter()
            .map(|(name, count)| format!("{name:<12} {count}\n"))
            .collect()
    })?;
    if view.unread > 0 {
        session.output.say(
            "Unread ones do not verify, or cannot be read: the server's log and `portcullis ledger fsck` say why.",
        );
    }
    Ok(Exit::Ok)
}
