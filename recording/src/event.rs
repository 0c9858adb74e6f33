//! The closed vocabulary of what a recording can say (FORMAT.md section 5).

use std::borrow::Cow;

use crate::command::Command;
use crate::head::Version;
use crate::moved::Moved;
pub use crate::payload::PayloadError;

/// One event with its time and channel. Channel 0 is the connection itself, 1 and up are session channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed<'a> {
    /// Milliseconds since the session opened.
    pub at_ms: u64,
    /// 0 = the connection, 1.. = session channels in the order they were opened.
    pub channel: u32,
    /// What happened.
    pub event: Event<'a>,
}

/// Which way bytes were going.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client towards the target.
    ToTarget,
    /// From the target's standard output towards the client.
    ToClient,
    /// From the target's standard error towards the client.
    ToClientErr,
}

/// Who did something to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Party {
    /// The SSH client.
    Client,
    /// The target.
    Target,
    /// Portcullis itself.
    Gate,
}

/// How a notice reached the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NoticeHow {
    /// As bytes on the channel's standard error (or into its terminal).
    Stderr,
    /// As a terminal title sequence.
    Title,
    /// As the text of the SSH disconnect message.
    Disconnect,
    /// As bytes on the channel's standard output, between two packets of the protocol on it: an answer in the target's place.
    Reply,
    /// As keys typed at the target in the client's place: a line is taken back. In none of the accounts.
    Keys,
}

/// Byte accounts of one channel (design law 5): `from_client = to_target + withheld + undelivered_up`, and per stream
/// `from_target = to_client + withheld + undelivered_down`, with `injected` counted apart. Input hidden from the
/// reader is left out of them, or rounded up to its class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChannelAccount {
    /// The channel these are about.
    pub channel: u32,
    /// Bytes read from the client.
    pub from_client: u64,
    /// Bytes of the client's written to the target.
    pub to_target: u64,
    /// Standard output bytes read from the target.
    pub from_target_out: u64,
    /// Standard output bytes written to the client, without injected ones.
    pub to_client_out: u64,
    /// Standard error bytes read from the target.
    pub from_target_err: u64,
    /// Standard error bytes written to the client, without injected ones.
    pub to_client_err: u64,
    /// Bytes of our own written to the client.
    pub injected: u64,
    /// Bytes kept back by policy, both ways.
    pub withheld: u64,
    /// Bytes from the client never written to the target.
    pub undelivered_up: u64,
    /// Bytes from the target never written to the client.
    pub undelivered_down: u64,
}

/// What a recording can say. Matched without a wildcard: a new kind is a new format version, apart from the ignorable
/// kinds 0x80..=0xFF, which readers skip without showing them (FORMAT.md section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes from the target's standard output.
    Output(Cow<'a, [u8]>),
    /// Bytes from the client, in clear: not a terminal, or echoed.
    Input(Cow<'a, [u8]>),
    /// Bytes from the target's standard error.
    Stderr(Cow<'a, [u8]>),
    /// The terminal's size, first or changed.
    Resize {
        /// Columns.
        cols: u32,
        /// Rows.
        rows: u32,
        /// Width in pixels, 0 if unknown.
        px_width: u32,
        /// Height in pixels, 0 if unknown.
        px_height: u32,
    },
    /// Terminal input under a line key (FORMAT.md section 6). Readers turn it into `Input` where the key was released.
    SealedInput {
        /// Number of the line, unique in the recording.
        line: u64,
        /// Which piece of the line this is, from 0; the nonce.
        counter: u32,
        /// ChaCha20-Poly1305 ciphertext.
        ciphertext: Cow<'a, [u8]>,
    },
    /// The key of a line, released because the target echoed it.
    LineKey {
        /// Number of the line.
        line: u64,
        /// Its key.
        key: [u8; 32],
    },
    /// A line that was not echoed: the whole of it again as one blob, padded to its class, under its wiped key.
    HiddenInput {
        /// Number of the line.
        line: u64,
        /// The line was at most `1 << len_class` bytes long.
        len_class: u8,
        /// The blob; its length follows from the class.
        blob: Cow<'a, [u8]>,
    },
    /// A channel was opened.
    ChannelOpen {
        /// `session`, `direct-tcpip`, ...
        kind: Cow<'a, str>,
        /// Host and port of a forward, or empty.
        detail: Cow<'a, str>,
    },
    /// A channel or global request.
    Request {
        /// `pty-req`, `env`, `shell`, `exec`, `subsystem`, `signal`, ...
        kind: Cow<'a, str>,
        /// What it carried: the command of an exec, the name of a subsystem, ...
        detail: Cow<'a, [u8]>,
        /// What was asked for in words, as policy saw it.
        want: Cow<'a, str>,
    },
    /// What policy said.
    Decision {
        /// The action that was decided.
        action: Cow<'a, str>,
        /// Whether it was permitted.
        allowed: bool,
        /// Id of the rule that decided.
        rule: Cow<'a, str>,
        /// Stable code.
        code: Cow<'a, str>,
    },
    /// Bytes Portcullis itself sent: to the client, or as keys to the target.
    Notice {
        /// The very bytes.
        bytes: Cow<'a, [u8]>,
        /// How they went.
        how: NoticeHow,
    },
    /// Bytes that policy kept back.
    Withheld {
        /// Which way they were going.
        direction: Direction,
        /// How many.
        bytes: u64,
        /// Why.
        why: Cow<'a, str>,
    },
    /// Bytes that were recorded but never delivered, because the session ended.
    Undelivered {
        /// Which way they were going.
        direction: Direction,
        /// How many.
        bytes: u64,
    },
    /// End of one direction of a channel.
    Eof {
        /// Which direction.
        direction: Direction,
    },
    /// The program's exit status.
    ExitStatus(u32),
    /// The program died of a signal.
    ExitSignal {
        /// Signal name without SIG.
        name: Cow<'a, str>,
        /// Whether it dumped core.
        core: bool,
        /// The target's words.
        message: Cow<'a, str>,
    },
    /// A channel was closed.
    ChannelClose {
        /// By whom.
        by: Party,
    },
    /// The screen at the start of a chunk: bytes that draw it on an empty terminal of this size.
    Keyframe {
        /// Columns of the emulator (its grid is clamped; `Resize` has the true size).
        cols: u32,
        /// Rows of the emulator.
        rows: u32,
        /// What to feed to an empty emulator.
        dump: Cow<'a, str>,
    },
    /// The wall clock was stepped.
    ClockStep {
        /// Wall clock expected.
        wall_before_ms: u64,
        /// Wall clock seen.
        wall_after_ms: u64,
    },
    /// A remark.
    Marker {
        /// Its text.
        text: Cow<'a, str>,
    },
    /// Byte accounts of every channel; the last one is named in the seal.
    Accounts(Vec<ChannelAccount>),
    /// Why the session ended.
    End {
        /// Stable code.
        code: Cow<'a, str>,
        /// One sentence.
        text: Cow<'a, str>,
    },
    /// Bytes that crossed and were not kept: who has them from elsewhere can hold them against this.
    Digest {
        /// Which way they were going.
        direction: Direction,
        /// How many: at least 1, at most [`crate::limits::DIGEST_BYTES_MAX`].
        bytes: u64,
        /// SHA-256 of exactly these.
        sha256: [u8; 32],
    },
    /// What was done to a file, as its protocol says.
    File(Box<Moved<'a>>),
    /// A command that was run, as it was read: an index, not evidence.
    Command(Box<Command<'a>>),
    /// More about a line that was not echoed, right before its HiddenInput.
    HiddenLine {
        /// Number of the line.
        line: u64,
        /// What stood before its first key on the screen; hostile.
        prompt: Cow<'a, str>,
        /// An age file with the line's key; empty: the key was wiped.
        envelope: Cow<'a, [u8]>,
    },
}

/// Kind bytes (FORMAT.md section 5.1).
pub mod kind {
    /// Output.
    pub const OUTPUT: u8 = 0x01;
    /// Input.
    pub const INPUT: u8 = 0x02;
    /// Stderr.
    pub const STDERR: u8 = 0x03;
    /// Resize.
    pub const RESIZE: u8 = 0x10;
    /// SealedInput.
    pub const SEALED_INPUT: u8 = 0x11;
    /// LineKey.
    pub const LINE_KEY: u8 = 0x12;
    /// HiddenInput.
    pub const HIDDEN_INPUT: u8 = 0x13;
    /// ChannelOpen.
    pub const CHANNEL_OPEN: u8 = 0x20;
    /// Request.
    pub const REQUEST: u8 = 0x21;
    /// Decision.
    pub const DECISION: u8 = 0x22;
    /// Notice.
    pub const NOTICE: u8 = 0x23;
    /// Withheld.
    pub const WITHHELD: u8 = 0x24;
    /// Undelivered.
    pub const UNDELIVERED: u8 = 0x25;
    /// Eof.
    pub const EOF: u8 = 0x26;
    /// ExitStatus.
    pub const EXIT_STATUS: u8 = 0x27;
    /// ExitSignal.
    pub const EXIT_SIGNAL: u8 = 0x28;
    /// ChannelClose.
    pub const CHANNEL_CLOSE: u8 = 0x29;
    /// Keyframe.
    pub const KEYFRAME: u8 = 0x30;
    /// ClockStep.
    pub const CLOCK_STEP: u8 = 0x31;
    /// Marker.
    pub const MARKER: u8 = 0x32;
    /// Accounts.
    pub const ACCOUNTS: u8 = 0x33;
    /// End.
    pub const END: u8 = 0x34;
    /// Digest.
    pub const DIGEST: u8 = 0x35;
    /// File.
    pub const FILE: u8 = 0x36;
    /// Command.
    pub const COMMAND: u8 = 0x37;
    /// HiddenLine.
    pub const HIDDEN_LINE: u8 = 0x38;
    /// Sealed row: only in tail files of encrypted recordings, never an event.
    pub const SEALED_ROW: u8 = 0x7E;
    /// CHECK record: only in tail files, never an event.
    pub const CHECK: u8 = 0x7F;
    /// Salt: ends a chunk, so that its hash tells nothing about it (FORMAT.md section 5.4).
    pub const SALT: u8 = 0x80;
    /// First ignorable kind: readers skip 0x80..=0xFF.
    pub const IGNORABLE_FIRST: u8 = 0x80;
}

/// The version that brought a kind of event.
pub(crate) fn since(kind: u8) -> Version {
    match kind {
        kind::DIGEST | kind::FILE | kind::COMMAND | kind::HIDDEN_LINE => Version::Three,
        _ => Version::One,
    }
}

impl Event<'_> {
    /// The kind byte (FORMAT.md section 5.1).
    pub fn kind(&self) -> u8 {
        match self {
            Event::Output(_) => kind::OUTPUT,
            Event::Input(_) => kind::INPUT,
            Event::Stderr(_) => kind::STDERR,
            Event::Resize { .. } => kind::RESIZE,
            Event::SealedInput { .. } => kind::SEALED_INPUT,
            Event::LineKey { .. } => kind::LINE_KEY,
            Event::HiddenInput { .. } => kind::HIDDEN_INPUT,
            Event::ChannelOpen { .. } => kind::CHANNEL_OPEN,
            Event::Request { .. } => kind::REQUEST,
            Event::Decision { .. } => kind::DECISION,
            Event::Notice { .. } => kind::NOTICE,
            Event::Withheld { .. } => kind::WITHHELD,
            Event::Undelivered { .. } => kind::UNDELIVERED,
            Event::Eof { .. } => kind::EOF,
            Event::ExitStatus(_) => kind::EXIT_STATUS,
            Event::ExitSignal { .. } => kind::EXIT_SIGNAL,
            Event::ChannelClose { .. } => kind::CHANNEL_CLOSE,
            Event::Keyframe { .. } => kind::KEYFRAME,
            Event::ClockStep { .. } => kind::CLOCK_STEP,
            Event::Marker { .. } => kind::MARKER,
            Event::Accounts(_) => kind::ACCOUNTS,
            Event::End { .. } => kind::END,
            Event::Digest { .. } => kind::DIGEST,
            Event::File(_) => kind::FILE,
            Event::Command(_) => kind::COMMAND,
            Event::HiddenLine { .. } => kind::HIDDEN_LINE,
        }
    }

    /// The same event, owning its bytes.
    pub fn into_owned(self) -> Event<'static> {
        fn text(t: Cow<'_, str>) -> Cow<'static, str> {
            Cow::Owned(t.into_owned())
        }
        fn blob(b: Cow<'_, [u8]>) -> Cow<'static, [u8]> {
            Cow::Owned(b.into_owned())
        }
        match self {
            Event::Output(b) => Event::Output(blob(b)),
            Event::Input(b) => Event::Input(blob(b)),
            Event::Stderr(b) => Event::Stderr(blob(b)),
            Event::Resize {
                cols,
                rows,
                px_width,
                px_height,
            } => Event::Resize {
                cols,
                rows,
                px_width,
                px_height,
            },
            Event::SealedInput {
                line,
                counter,
                ciphertext,
            } => Event::SealedInput {
                line,
                counter,
                ciphertext: blob(ciphertext),
            },
            Event::LineKey { line, key } => Event::LineKey { line, key },
            Event::HiddenLine { line, prompt, envelope } => Event::HiddenLine {
                line,
                prompt: text(prompt),
                envelope: blob(envelope),
            },
            Event::HiddenInput {
                line,
                len_class,
                blob: b,
            } => Event::HiddenInput {
                line,
                len_class,
                blob: blob(b),
            },
            Event::ChannelOpen { kind, detail } => Event::ChannelOpen {
                kind: text(kind),
                detail: text(detail),
            },
            Event::Request { kind, detail, want } => Event::Request {
                kind: text(kind),
                detail: blob(detail),
                want: text(want),
            },
            Event::Decision {
                action,
                allowed,
                rule,
                code,
            } => Event::Decision {
                action: text(action),
                allowed,
                rule: text(rule),
                code: text(code),
            },
            Event::Notice { bytes, how } => Event::Notice {
                bytes: blob(bytes),
                how,
            },
            Event::Withheld { direction, bytes, why } => Event::Withheld {
                direction,
                bytes,
                why: text(why),
            },
            Event::Undelivered { direction, bytes } => Event::Undelivered { direction, bytes },
            Event::Eof { direction } => Event::Eof { direction },
            Event::ExitStatus(s) => Event::ExitStatus(s),
            Event::ExitSignal { name, core, message } => Event::ExitSignal {
                name: text(name),
                core,
                message: text(message),
            },
            Event::ChannelClose { by } => Event::ChannelClose { by },
            Event::Keyframe { cols, rows, dump } => Event::Keyframe {
                cols,
                rows,
                dump: text(dump),
            },
            Event::ClockStep {
                wall_before_ms,
                wall_after_ms,
            } => Event::ClockStep {
                wall_before_ms,
                wall_after_ms,
            },
            Event::Marker { text: t } => Event::Marker { text: text(t) },
            Event::Accounts(list) => Event::Accounts(list),
            Event::End { code, text: t } => Event::End {
                code: text(code),
                text: text(t),
            },
            Event::Digest {
                direction,
                bytes,
                sha256,
            } => Event::Digest {
                direction,
                bytes,
                sha256,
            },
            Event::File(moved) => Event::File(Box::new(moved.into_owned())),
            Event::Command(command) => Event::Command(Box::new(command.into_owned())),
        }
    }
}

impl Timed<'_> {
    /// The same, owning its bytes.
    pub fn into_owned(self) -> Timed<'static> {
        Timed {
            at_ms: self.at_ms,
            channel: self.channel,
            event: self.event.into_owned(),
        }
    }
}
