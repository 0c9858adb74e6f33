//! `hidden`: lines that were typed and not echoed, and for whom their keys were wrapped what they said.

use std::io::Read;

use clap::Args;
use portcullis_recording::LineCipher;
use portcullis_recording::event::Event;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{Shown, finish, put, put_json, say, stdout};
use crate::failure::{Exit, Failure};
use crate::keyring::Keyring;
use crate::{plain, times};

/// Characters of a line that are printed.
const TEXT_CHARS_MAX: usize = 16 * 1024;
/// Characters of a prompt that are printed.
const PROMPT_CHARS_MAX: usize = 256;
/// Bytes read of what an envelope holds: one more than a key has.
const KEY_BYTES_MAX: usize = 33;

/// `hidden FILE [--identity KEY]`.
#[derive(Args, Debug)]
pub struct HiddenArgs {
    #[command(flatten)]
    shown: Shown,
}

/// One hidden line.
#[derive(Debug, Serialize)]
struct Line {
    /// When it was clear that it was not echoed, in milliseconds since the session opened.
    at_ms: u64,
    at: String,
    channel: u32,
    /// It has at most so many bytes.
    bytes_max: u64,
    /// What stood before it.
    prompt: String,
    /// Its key was wrapped to somebody.
    wrapped: bool,
    /// What it says, for whoever holds that key.
    text: Option<String>,
}

/// What stands before a HiddenInput about it.
struct Wrapped {
    line: u64,
    prompt: String,
    envelope: Vec<u8>,
}

impl HiddenArgs {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events are not about hidden lines"
    )]
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let mut opened = self.shown.open()?;
        let keyring = self.shown.keys.keyring()?;
        let mut out = stdout();
        let mut last: Option<Wrapped> = None;
        let (mut locked, mut lines) = (0u64, 0u64);
        while let Some(timed) = opened.cursor.next_event()? {
            match &timed.event {
                Event::HiddenLine { line, prompt, envelope } => {
                    last = Some(Wrapped {
                        line: *line,
                        prompt: plain::bytes(prompt.as_bytes(), PROMPT_CHARS_MAX),
                        envelope: envelope.to_vec(),
                    });
                }
                Event::HiddenInput { line, len_class, blob } => {
                    let about = last.take().filter(|about| about.line == *line);
                    let wrapped = about.as_ref().is_some_and(|about| !about.envelope.is_empty());
                    let text = about
                        .as_ref()
                        .filter(|_| wrapped && !keyring.is_empty())
                        .and_then(|about| open(&about.envelope, &keyring))
                        .and_then(|key| LineCipher::open_hidden(&key, *line, blob))
                        .map(Zeroizing::new);
                    lines += 1;
                    locked += u64::from(wrapped && text.is_none());
                    let line = Line {
                        at_ms: timed.at_ms,
                        at: times::utc(opened.opened_wall_ms.saturating_add(timed.at_ms)),
                        channel: timed.channel,
                        bytes_max: 1u64 << (*len_class).min(63),
                        prompt: about.map(|about| about.prompt).unwrap_or_default(),
                        wrapped,
                        text: text.map(|text| plain::bytes(text.trim_ascii_end(), TEXT_CHARS_MAX)),
                    };
                    match json {
                        true => put_json(&mut out, &line)?,
                        false => put(&mut out, &words(&line))?,
                    }
                }
                _ => {}
            }
        }
        finish(out)?;
        match (lines, locked) {
            (0, _) => say("no line was hidden"),
            (_, 0) => {}
            (_, locked) => say(&format!(
                "{locked} of {lines} lines are locked: give --identity FILE of whom hidden lines were wrapped to"
            )),
        }
        Ok(Exit::Ok)
    }
}

fn words(line: &Line) -> String {
    let told = match (&line.text, line.wrapped) {
        (Some(text), _) => format!("`{text}`"),
        (None, true) => "locked".to_owned(),
        (None, false) => "wiped".to_owned(),
    };
    let behind = match line.prompt.is_empty() {
        true => String::new(),
        false => format!("  behind `{}`", line.prompt),
    };
    format!(
        "{}  [{}]  at most {} bytes{behind}  {told}",
        line.at, line.channel, line.bytes_max
    )
}

/// The key that an envelope holds, if one of the identities opens it.
fn open(envelope: &[u8], keyring: &Keyring) -> Option<Zeroizing<[u8; 32]>> {
    let reader = age::Decryptor::new(envelope).ok()?.decrypt(keyring.identities()).ok()?;
    let mut plain = Zeroizing::new(Vec::with_capacity(KEY_BYTES_MAX));
    reader.take(KEY_BYTES_MAX as u64).read_to_end(&mut plain).ok()?;
    <[u8; 32]>::try_from(plain.as_slice()).ok().map(Zeroizing::new)
}
