//! A command that was run (FORMAT.md section 5.7), as the protocol, the shell or the screen told it: an index, not evidence.

use std::borrow::Cow;

use crate::cbor::{Malformed, Reader, Writer};
use crate::limits::{
    COMMAND_CONTEXT_BYTES_MAX, COMMAND_DIRECTORY_BYTES_MAX, COMMAND_LABEL_BYTES_MAX, COMMAND_LABELS_MAX,
    COMMAND_TEXT_BYTES_MAX,
};

/// Who told the text of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The SSH request itself.
    Protocol,
    /// The shell, through the hook of this session.
    Hook,
    /// The line as it stood on the screen.
    Screen,
    /// The keys, all of which were echoed.
    Keys,
    /// Nobody: lines were run that the terminal did not show.
    Hidden,
}

impl Source {
    /// Each of them, in the order of their codes.
    pub const ALL: [Source; 5] = [
        Source::Protocol,
        Source::Hook,
        Source::Screen,
        Source::Keys,
        Source::Hidden,
    ];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Protocol => "protocol",
            Source::Hook => "hook",
            Source::Screen => "screen",
            Source::Keys => "keys",
            Source::Hidden => "hidden",
        }
    }
}

/// How far the text can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    /// One estimator, and one that guesses.
    Medium,
    /// The screen at a prompt that is known, or the hook alone.
    High,
    /// The protocol, or screen and hook agree.
    Exact,
}

impl Confidence {
    /// Each of them, in the order of their codes.
    pub const ALL: [Confidence; 3] = [Confidence::Medium, Confidence::High, Confidence::Exact];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Medium => "medium",
            Confidence::High => "high",
            Confidence::Exact => "exact",
        }
    }
}

/// One command. Every text in it is the client's or the target's, and hostile; only labels are ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command<'a> {
    /// Who told its text.
    pub source: Source,
    /// How far that can be relied on.
    pub confidence: Confidence,
    /// When it was asked for, or its Enter was typed, in milliseconds since the session opened.
    pub began_ms: u64,
    /// When the last of its output came before what was next, never before it began.
    pub ended_ms: u64,
    /// The command; lines of one command are joined by `\n`. Nothing of a hidden one.
    pub text: Cow<'a, str>,
    /// What another estimator read where it differs, or nothing.
    pub other: Cow<'a, str>,
    /// What read it: `shell`, `exec`, `subsystem`, `repl:` and its prompt, and so on.
    pub context: Cow<'a, str>,
    /// Working directory; nothing where it is not known.
    pub directory: Cow<'a, str>,
    /// Exit status, where it is known.
    pub status: Option<u32>,
    /// What it is about, as the policies in force when the session opened say.
    pub labels: Vec<Cow<'a, str>>,
}

impl<'a> Command<'a> {
    /// The same, owning its texts.
    pub fn into_owned(self) -> Command<'static> {
        fn text(t: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(t.into_owned())
        }
        Command {
            source: self.source,
            confidence: self.confidence,
            began_ms: self.began_ms,
            ended_ms: self.ended_ms,
            text: text(self.text),
            other: text(self.other),
            context: text(self.context),
            directory: text(self.directory),
            status: self.status,
            labels: self.labels.into_iter().map(text).collect(),
        }
    }

    pub(crate) fn encode(&self, w: &mut Writer) {
        let code = |at: Option<usize>| at.unwrap_or_default() as u64;
        w.array(10);
        w.uint(code(Source::ALL.iter().position(|source| *source == self.source)));
        w.uint(code(Confidence::ALL.iter().position(|sure| *sure == self.confidence)));
        w.uint(self.began_ms).uint(self.ended_ms);
        w.text(&self.text).text(&self.other);
        w.text(&self.context).text(&self.directory);
        w.array(u64::from(self.status.is_some()));
        if let Some(status) = self.status {
            w.uint(u64::from(status));
        }
        w.array(self.labels.len() as u64);
        for label in &self.labels {
            w.text(label);
        }
    }

    pub(crate) fn decode(r: &mut Reader<'a>) -> Result<Command<'a>, Malformed> {
        r.array(10)?;
        let mut command = Command {
            source: r.one_of(&Source::ALL)?,
            confidence: r.one_of(&Confidence::ALL)?,
            began_ms: r.time()?,
            ended_ms: r.time()?,
            text: r.text(COMMAND_TEXT_BYTES_MAX)?.into(),
            other: r.text(COMMAND_TEXT_BYTES_MAX)?.into(),
            context: r.text(COMMAND_CONTEXT_BYTES_MAX)?.into(),
            directory: r.text(COMMAND_DIRECTORY_BYTES_MAX)?.into(),
            status: None,
            labels: Vec::new(),
        };
        if r.array_up_to(1)? == 1 {
            command.status = Some(r.u32()?);
        }
        for _ in 0..r.array_up_to(COMMAND_LABELS_MAX)? {
            command.labels.push(r.text(COMMAND_LABEL_BYTES_MAX)?.into());
        }
        let told = !(command.text.is_empty() && command.other.is_empty());
        if command.ended_ms < command.began_ms || command.source == Source::Hidden && told {
            return Err(Malformed("command that ends before it begins, or is hidden and told"));
        }
        Ok(command)
    }
}
