//! Payload bytes of each event kind (FORMAT.md section 5.1).

use std::borrow::Cow;

use crate::cbor::{Malformed, Reader, Writer};
use crate::command::Command;
use crate::event::{ChannelAccount, Direction, Event, NoticeHow, Party, kind, since};
use crate::head::Version;
use crate::limits::{
    ACCOUNTS_CHANNELS_MAX, DIGEST_BYTES_MAX, EVENT_PAYLOAD_BYTES_MAX, EVENT_TEXT_BYTES_MAX, HIDDEN_CLASS_MAX,
    HIDDEN_CLASS_MIN, HIDDEN_ENVELOPE_BYTES_MAX, HIDDEN_PROMPT_BYTES_MAX, KEYFRAME_DUMP_BYTES_MAX, LINE_SEALS_MAX,
};
use crate::line;
use crate::moved::Moved;

/// Why a payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// A kind that the recording's version does not have, and nobody may skip.
    #[error("unknown kind {0:#04x}")]
    UnknownKind(u8),
    /// Not the one encoding of a value.
    #[error("malformed payload of kind {kind:#04x}: {what}")]
    Malformed {
        /// The kind.
        kind: u8,
        /// What is wrong.
        what: &'static str,
    },
    /// Longer than the format holds.
    #[error("payload of kind {0:#04x} is over its bound")]
    TooLarge(u8),
}

const T: usize = EVENT_TEXT_BYTES_MAX;
const B: usize = EVENT_PAYLOAD_BYTES_MAX;

impl<'a> Event<'a> {
    /// The payload bytes. Fails only for values the format cannot hold.
    pub(crate) fn payload(&self) -> Result<Cow<'_, [u8]>, PayloadError> {
        if let Event::Output(b) | Event::Input(b) | Event::Stderr(b) = self {
            return if b.len() <= B {
                Ok(Cow::Borrowed(b))
            } else {
                Err(PayloadError::TooLarge(self.kind()))
            };
        }
        let payload = self.structured();
        // What cannot be read back must not be written: one rule, kept by the reader itself.
        match Event::decode(Version::LATEST, self.kind(), &payload) {
            Ok(Some(_)) => Ok(Cow::Owned(payload)),
            Ok(None) => Err(PayloadError::UnknownKind(self.kind())),
            Err(e) => Err(e),
        }
    }

    fn structured(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Event::Output(b) | Event::Input(b) | Event::Stderr(b) => return b.to_vec(),
            Event::Resize {
                cols,
                rows,
                px_width,
                px_height,
            } => {
                w.array(4);
                for n in [cols, rows, px_width, px_height] {
                    w.uint(u64::from(*n));
                }
            }
            Event::SealedInput {
                line,
                counter,
                ciphertext,
            } => {
                w.array(3).uint(*line).uint(u64::from(*counter)).bytes(ciphertext);
            }
            Event::LineKey { line, key } => {
                w.array(2).uint(*line).bytes(key);
            }
            Event::HiddenInput { line, len_class, blob } => {
                w.array(3).uint(*line).uint(u64::from(*len_class)).bytes(blob);
            }
            Event::HiddenLine { line, prompt, envelope } => {
                w.array(3).uint(*line).text(prompt).bytes(envelope);
            }
            Event::ChannelOpen { kind, detail } => {
                w.array(2).text(kind).text(detail);
            }
            Event::Request { kind, detail, want } => {
                w.array(3).text(kind).bytes(detail).text(want);
            }
            Event::Decision {
                action,
                allowed,
                rule,
                code,
            } => {
                w.array(4).text(action).bool(*allowed).text(rule).text(code);
            }
            Event::Notice { bytes, how } => {
                w.array(2).bytes(bytes).uint(how.code());
            }
            Event::Withheld { direction, bytes, why } => {
                w.array(3).uint(direction.code()).uint(*bytes).text(why);
            }
            Event::Undelivered { direction, bytes } => {
                w.array(2).uint(direction.code()).uint(*bytes);
            }
            Event::Eof { direction } => {
                w.array(1).uint(direction.code());
            }
            Event::ExitStatus(status) => {
                w.array(1).uint(u64::from(*status));
            }
            Event::ExitSignal { name, core, message } => {
                w.array(3).text(name).bool(*core).text(message);
            }
            Event::ChannelClose { by } => {
                w.array(1).uint(by.code());
            }
            Event::Keyframe { cols, rows, dump } => {
                w.array(3).uint(u64::from(*cols)).uint(u64::from(*rows)).text(dump);
            }
            Event::ClockStep {
                wall_before_ms,
                wall_after_ms,
            } => {
                w.array(2).uint(*wall_before_ms).uint(*wall_after_ms);
            }
            Event::Marker { text } => {
                w.array(1).text(text);
            }
            Event::Accounts(list) => {
                w.array(list.len() as u64);
                for a in list {
                    w.array(11).uint(u64::from(a.channel));
                    for n in counts(a) {
                        w.uint(n);
                    }
                }
            }
            Event::End { code, text } => {
                w.array(2).text(code).text(text);
            }
            Event::Digest {
                direction,
                bytes,
                sha256,
            } => {
                w.array(3).uint(direction.code()).uint(*bytes).bytes(sha256);
            }
            Event::File(moved) => moved.encode(&mut w),
            Event::Command(command) => command.encode(&mut w),
        }
        w.into_bytes()
    }

    /// Reads a payload in a recording of this version. `None` for the ignorable kinds (FORMAT.md section 5.3).
    pub(crate) fn decode(version: Version, kind: u8, payload: &'a [u8]) -> Result<Option<Event<'a>>, PayloadError> {
        if since(kind) > version {
            return Err(PayloadError::UnknownKind(kind));
        }
        if payload.len() > B {
            return Err(PayloadError::TooLarge(kind));
        }
        match kind {
            kind::OUTPUT => return Ok(Some(Event::Output(payload.into()))),
            kind::INPUT => return Ok(Some(Event::Input(payload.into()))),
            kind::STDERR => return Ok(Some(Event::Stderr(payload.into()))),
            kind::IGNORABLE_FIRST..=u8::MAX => return Ok(None),
            _ => {}
        }
        let mut r = Reader::new(payload);
        match structured(version, kind, &mut r) {
            Ok(Some(event)) => match r.end() {
                Ok(()) => Ok(Some(event)),
                Err(Malformed(what)) => Err(PayloadError::Malformed { kind, what }),
            },
            Ok(None) => Err(PayloadError::UnknownKind(kind)),
            Err(Malformed(what)) => Err(PayloadError::Malformed { kind, what }),
        }
    }
}

fn structured<'a>(version: Version, kind: u8, r: &mut Reader<'a>) -> Result<Option<Event<'a>>, Malformed> {
    Ok(Some(match kind {
        kind::RESIZE => {
            r.array(4)?;
            Event::Resize {
                cols: r.u32()?,
                rows: r.u32()?,
                px_width: r.u32()?,
                px_height: r.u32()?,
            }
        }
        kind::SEALED_INPUT => {
            r.array(3)?;
            let (line, counter, ciphertext) = (r.uint()?, r.u32()?, r.bytes(line::SEALED_BYTES_MAX)?);
            if counter >= LINE_SEALS_MAX || !line::is_sealed_len(ciphertext.len()) {
                return Err(Malformed("sealed input of an impossible length or count"));
            }
            Event::SealedInput {
                line,
                counter,
                ciphertext: ciphertext.into(),
            }
        }
        kind::LINE_KEY => {
            r.array(2)?;
            Event::LineKey {
                line: r.uint()?,
                key: r.array_of()?,
            }
        }
        kind::HIDDEN_INPUT => {
            r.array(3)?;
            let (line, class, blob) = (r.uint()?, r.uint()?, r.bytes(line::SEALED_BYTES_MAX)?);
            let len_class = u8::try_from(class).map_err(|_| Malformed("hidden input of an unknown class"))?;
            if !(HIDDEN_CLASS_MIN..=HIDDEN_CLASS_MAX).contains(&len_class) || blob.len() != line::hidden_len(len_class)
            {
                return Err(Malformed("hidden input not padded to its class"));
            }
            Event::HiddenInput {
                line,
                len_class,
                blob: blob.into(),
            }
        }
        kind::HIDDEN_LINE => {
            r.array(3)?;
            Event::HiddenLine {
                line: r.uint()?,
                prompt: r.text(HIDDEN_PROMPT_BYTES_MAX)?.into(),
                envelope: r.bytes(HIDDEN_ENVELOPE_BYTES_MAX)?.into(),
            }
        }
        kind::CHANNEL_OPEN => {
            r.array(2)?;
            Event::ChannelOpen {
                kind: r.text(T)?.into(),
                detail: r.text(T)?.into(),
            }
        }
        kind::REQUEST => {
            r.array(3)?;
            Event::Request {
                kind: r.text(T)?.into(),
                detail: r.bytes(B)?.into(),
                want: r.text(T)?.into(),
            }
        }
        kind::DECISION => {
            r.array(4)?;
            let (action, allowed) = (r.text(T)?.into(), r.bool()?);
            Event::Decision {
                action,
                allowed,
                rule: r.text(T)?.into(),
                code: r.text(T)?.into(),
            }
        }
        kind::NOTICE => {
            r.array(2)?;
            Event::Notice {
                bytes: r.bytes(B)?.into(),
                how: NoticeHow::from_code(version, r.uint()?)?,
            }
        }
        kind::WITHHELD => {
            r.array(3)?;
            Event::Withheld {
                direction: Direction::from_code(r.uint()?)?,
                bytes: r.uint()?,
                why: r.text(T)?.into(),
            }
        }
        kind::UNDELIVERED => {
            r.array(2)?;
            Event::Undelivered {
                direction: Direction::from_code(r.uint()?)?,
                bytes: r.uint()?,
            }
        }
        kind::EOF => {
            r.array(1)?;
            Event::Eof {
                direction: Direction::from_code(r.uint()?)?,
            }
        }
        kind::EXIT_STATUS => {
            r.array(1)?;
            Event::ExitStatus(r.u32()?)
        }
        kind::EXIT_SIGNAL => {
            r.array(3)?;
            Event::ExitSignal {
                name: r.text(T)?.into(),
                core: r.bool()?,
                message: r.text(T)?.into(),
            }
        }
        kind::CHANNEL_CLOSE => {
            r.array(1)?;
            Event::ChannelClose {
                by: Party::from_code(r.uint()?)?,
            }
        }
        kind::KEYFRAME => {
            r.array(3)?;
            Event::Keyframe {
                cols: r.u32()?,
                rows: r.u32()?,
                dump: r.text(KEYFRAME_DUMP_BYTES_MAX)?.into(),
            }
        }
        kind::CLOCK_STEP => {
            r.array(2)?;
            Event::ClockStep {
                wall_before_ms: r.time()?,
                wall_after_ms: r.time()?,
            }
        }
        kind::MARKER => {
            r.array(1)?;
            Event::Marker {
                text: r.text(T)?.into(),
            }
        }
        kind::ACCOUNTS => {
            let n = r.array_up_to(ACCOUNTS_CHANNELS_MAX)?;
            let mut list = Vec::new();
            for _ in 0..n {
                list.push(account(r)?);
            }
            Event::Accounts(list)
        }
        kind::END => {
            r.array(2)?;
            Event::End {
                code: r.text(T)?.into(),
                text: r.text(T)?.into(),
            }
        }
        kind::DIGEST => {
            r.array(3)?;
            let (direction, bytes) = (Direction::from_code(r.uint()?)?, r.uint()?);
            if !(1..=DIGEST_BYTES_MAX).contains(&bytes) {
                return Err(Malformed("digest of no bytes, or of too many"));
            }
            Event::Digest {
                direction,
                bytes,
                sha256: r.array_of()?,
            }
        }
        kind::FILE => Event::File(Box::new(Moved::decode(r)?)),
        kind::COMMAND => Event::Command(Box::new(Command::decode(r)?)),
        _ => return Ok(None),
    }))
}

fn account(r: &mut Reader<'_>) -> Result<ChannelAccount, Malformed> {
    r.array(11)?;
    Ok(ChannelAccount {
        channel: r.u32()?,
        from_client: r.uint()?,
        to_target: r.uint()?,
        from_target_out: r.uint()?,
        to_client_out: r.uint()?,
        from_target_err: r.uint()?,
        to_client_err: r.uint()?,
        injected: r.uint()?,
        withheld: r.uint()?,
        undelivered_up: r.uint()?,
        undelivered_down: r.uint()?,
    })
}

fn counts(a: &ChannelAccount) -> [u64; 10] {
    [
        a.from_client,
        a.to_target,
        a.from_target_out,
        a.to_client_out,
        a.from_target_err,
        a.to_client_err,
        a.injected,
        a.withheld,
        a.undelivered_up,
        a.undelivered_down,
    ]
}

impl Direction {
    fn code(self) -> u64 {
        match self {
            Direction::ToTarget => 0,
            Direction::ToClient => 1,
            Direction::ToClientErr => 2,
        }
    }

    fn from_code(code: u64) -> Result<Direction, Malformed> {
        match code {
            0 => Ok(Direction::ToTarget),
            1 => Ok(Direction::ToClient),
            2 => Ok(Direction::ToClientErr),
            _ => Err(Malformed("unknown direction")),
        }
    }
}

impl Party {
    fn code(self) -> u64 {
        match self {
            Party::Client => 0,
            Party::Target => 1,
            Party::Gate => 2,
        }
    }

    fn from_code(code: u64) -> Result<Party, Malformed> {
        match code {
            0 => Ok(Party::Client),
            1 => Ok(Party::Target),
            2 => Ok(Party::Gate),
            _ => Err(Malformed("unknown party")),
        }
    }
}

impl NoticeHow {
    fn code(self) -> u64 {
        match self {
            NoticeHow::Stderr => 0,
            NoticeHow::Title => 1,
            NoticeHow::Disconnect => 2,
            NoticeHow::Reply => 3,
            NoticeHow::Keys => 4,
        }
    }

    fn from_code(version: Version, code: u64) -> Result<NoticeHow, Malformed> {
        match code {
            0 => Ok(NoticeHow::Stderr),
            1 => Ok(NoticeHow::Title),
            2 => Ok(NoticeHow::Disconnect),
            3 if version >= Version::Three => Ok(NoticeHow::Reply),
            4 if version >= Version::Three => Ok(NoticeHow::Keys),
            _ => Err(Malformed("unknown way of a notice")),
        }
    }
}
