//! Commands, from what crosses a session to what its recording tells.
#![expect(clippy::wildcard_enum_match_arm, reason = "tests look at the event they mean")]

use std::fs::File;

use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::event::{NoticeHow, Party};
use portcullis_recording::{Timed, Unverified};

use super::tests::Bench;
use super::*;
use crate::kernel::remark::Remark;

const PROMPT: &str = "root@db1:~# ";

impl Bench {
    fn pass(&self, ms: u64) {
        self.recorder.0.clock.advance(ms);
    }

    fn says(&self, channel: u32, event: Event<'_>) {
        self.recorder.event(channel, event).unwrap();
    }

    /// A terminal on channel 1.
    fn terminal(&self) {
        let (cols, rows, px_width, px_height) = (80, 24, 0, 0);
        self.says(
            1,
            Event::Resize {
                cols,
                rows,
                px_width,
                px_height,
            },
        );
        self.recorder.terminal(1, cols, rows);
        self.shown(PROMPT.as_bytes());
    }

    fn types(&self, keys: &str, echoed: bool) {
        for key in keys.chars() {
            self.pass(40);
            self.typed(key.to_string().as_bytes());
            if echoed {
                self.pass(1);
                self.shown(key.to_string().as_bytes());
            }
        }
    }

    /// Types a line that is echoed; then comes this.
    fn runs(&self, line: &str, then: &str) {
        self.types(line, true);
        self.pass(40);
        self.typed(b"\r");
        self.pass(1);
        self.shown(format!("\r\n{then}").as_bytes());
    }

    /// The segment is old.
    fn next_segment(&self) {
        self.pass(SEGMENT_MS_MAX);
        self.recorder.0.with(|spool, at_ms| spool.tick(at_ms)).unwrap();
    }

    fn asks(&self, channel: u32, kind: &'static str, detail: &'static str, allowed: bool) {
        self.says(
            channel,
            Event::Request {
                kind: kind.into(),
                detail: detail.as_bytes().into(),
                want: "".into(),
            },
        );
        self.says(
            channel,
            Event::Decision {
                action: kind.into(),
                allowed,
                rule: "r".into(),
                code: "c".into(),
            },
        );
    }

    fn closes(&self, channel: u32, status: u32) {
        self.says(channel, Event::ExitStatus(status));
        self.says(channel, Event::ChannelClose { by: Party::Target });
    }

    /// The sealed recording's events, and what was counted.
    async fn ends(&self) -> (Vec<Timed<'static>>, Tally) {
        let finished = self.recorder.finish(|_| Vec::new(), "exit", "done").await.unwrap();
        assert_eq!(self.failures(), 0);
        let mut unverified = Unverified::open(File::open(&finished.path).unwrap()).unwrap();
        let events = unverified.unverified_events().map(|timed| timed.unwrap()).collect();
        (events, finished.tally.unwrap())
    }
}

fn commands(events: &[Timed<'static>]) -> Vec<(u32, Command<'static>)> {
    let commands = events.iter().filter_map(|timed| match &timed.event {
        Event::Command(command) => Some((timed.channel, (**command).clone())),
        _ => None,
    });
    commands.collect()
}

fn texts(events: &[Timed<'static>]) -> Vec<String> {
    let commands = commands(events).into_iter();
    commands.map(|(_, command)| command.text.into_owned()).collect()
}

#[tokio::test]
async fn what_is_typed_at_a_prompt_is_told_and_a_password_is_not() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.runs("rm -rf /srv", PROMPT);
    bench.runs("read -s x", "");
    bench.types("hunter2", false);
    bench.typed(b"\r");
    bench.pass(1);
    bench.shown(PROMPT.as_bytes());
    bench.runs("exit", "logout\r\n");
    bench.closes(1, 0);
    let (events, tally) = bench.ends().await;
    assert_eq!(texts(&events), ["rm -rf /srv", "read -s x", "exit"]);
    let found = commands(&events);
    let (channel, remove) = &found[0];
    assert_eq!(
        (*channel, remove.source, remove.confidence),
        (1, Source::Screen, Confidence::High)
    );
    assert_eq!(
        (remove.context.as_ref(), remove.labels.as_slice()),
        ("shell", &["destructive".into()][..])
    );
    assert!(remove.began_ms < remove.ended_ms, "{remove:?}");
    assert_eq!(
        (tally.commands, tally.labels.get("destructive"), tally.hidden_lines),
        (3, Some(&1), 1)
    );
    // Behind the other events, and nothing of what was hidden in any.
    let first = events.iter().position(|timed| matches!(timed.event, Event::Command(_)));
    let end = events.iter().position(|timed| matches!(timed.event, Event::End { .. }));
    assert!(first > end, "{events:?}");
    assert!(!format!("{events:?}").contains("hunter2"));
}

#[tokio::test]
async fn a_line_that_crosses_a_border_is_one() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.runs("id", &format!("uid=0\r\n{PROMPT}"));
    bench.types("echo hel", true);
    bench.next_segment();
    bench.types("lo", true);
    bench.typed(b"\r");
    bench.next_segment();
    bench.shown(format!("\r\nhello\r\n{PROMPT}").as_bytes());
    bench.runs("pwd", &format!("/root\r\n{PROMPT}"));
    let (events, _) = bench.ends().await;
    assert_eq!(texts(&events), ["id", "echo hello", "pwd"]);
    let keyframes = events
        .iter()
        .filter(|timed| matches!(timed.event, Event::Keyframe { .. }));
    assert_eq!(keyframes.count(), 2);
}

#[tokio::test]
async fn lines_that_a_shell_does_not_show_are_a_finding() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.runs("stty -echo", PROMPT);
    bench.types("reboot", false);
    bench.typed(b"\r");
    bench.pass(1);
    bench.shown(format!("\r\n{PROMPT}").as_bytes());
    let (events, tally) = bench.ends().await;
    let found = commands(&events);
    let hidden: Vec<_> = found
        .iter()
        .filter(|(_, found)| found.source == Source::Hidden)
        .collect();
    assert_eq!((hidden.len(), tally.hidden_commands, tally.commands), (1, 1, 1));
    assert_eq!(texts(&events), ["stty -echo", ""]);
}

#[tokio::test]
async fn a_terminal_that_is_not_read_is_told() {
    let bench = Bench::new().await;
    let (cols, rows, px_width, px_height) = (80, 24, 0, 0);
    for channel in 1..=18 {
        for _ in 0..2 {
            bench.says(
                channel,
                Event::Resize {
                    cols,
                    rows,
                    px_width,
                    px_height,
                },
            );
        }
        bench.recorder.terminal(channel, cols, rows);
    }
    let (events, tally) = bench.ends().await;
    assert_eq!(tally.unread_terminals, 2);
    let told = events.iter().filter(|timed| match &timed.event {
        Event::Marker { text } => text.contains("more terminals are open"),
        _ => false,
    });
    assert_eq!(told.count(), 1);
}

#[tokio::test]
async fn a_line_whose_enter_was_kept_back_is_no_command() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.runs("id", PROMPT);
    bench.types("reboot", true);
    bench.typed(b"\r");
    bench.asks(1, "command", "reboot", false);
    let withheld = |bytes| Event::Withheld {
        direction: portcullis_recording::event::Direction::ToTarget,
        bytes,
        why: "no-reboot".into(),
    };
    bench.says(1, withheld(1));
    // Our own ^U.
    bench.shown(&[b"\x08 \x08".repeat(6), b"\r".to_vec(), PROMPT.into()].concat());
    bench.runs("pwd", PROMPT);
    // A permit that asks for a reason, which is typed to us.
    bench.types("halt", true);
    bench.typed(b"\r");
    bench.asks(1, "command", "halt", true);
    for key in ["w", "h", "y", "\r"] {
        bench.typed(key.as_bytes());
        bench.says(1, withheld(1));
    }
    bench.shown(format!("\r\n{PROMPT}").as_bytes());
    bench.runs("exit", "logout\r\n");
    let (events, tally) = bench.ends().await;
    assert_eq!(texts(&events), ["id", "pwd", "halt", "exit"]);
    assert_eq!((tally.commands, tally.denials), (4, 1));
}

#[tokio::test]
async fn what_the_protocol_asks_for_is_exact() {
    let bench = Bench::new().await;
    bench.asks(2, "exec", "systemctl restart nginx", true);
    bench.asks(3, "exec", "reboot", false);
    bench.asks(4, "subsystem", "sftp", true);
    bench.asks(5, "exec", "scp -t /etc", true);
    let why = "refused by rule files";
    let text = Remark::NotStarted { why }.to_string();
    bench.says(5, Event::Marker { text: text.into() });
    bench.pass(5);
    bench.closes(2, 3);
    let (events, tally) = bench.ends().await;
    let found = commands(&events);
    let [(2, restart), (4, sftp)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (restart.source, restart.confidence),
        (Source::Protocol, Confidence::Exact)
    );
    assert_eq!((restart.status, restart.ended_ms - restart.began_ms), (Some(3), 5));
    assert_eq!(
        (sftp.text.as_ref(), sftp.context.as_ref(), sftp.status),
        ("sftp", "subsystem", None)
    );
    assert_eq!((tally.commands, tally.denials), (2, 1));
}

/// Bytes that do not shrink.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..64 * 1024)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

#[tokio::test]
async fn what_happens_beside_bulk_is_told_as_well() {
    let bench = Bench::new().await;
    bench.asks(2, "exec", "cat /dev/urandom", true);
    for seed in 0..20 {
        bench.says(2, Event::Output(noise(seed).into()));
        if seed == 10 {
            bench.asks(3, "exec", "uptime", true);
            bench.closes(3, 1);
        }
    }
    bench.closes(2, 0);
    let (events, _) = bench.ends().await;
    let found = commands(&events);
    let mut told: Vec<_> = found
        .iter()
        .map(|(_, found)| (found.text.as_ref(), found.status))
        .collect();
    // Which of them is in the first chunk is up to the sealer.
    told.sort();
    assert_eq!(told, [("cat /dev/urandom", Some(0)), ("uptime", Some(1))]);
}

#[tokio::test]
async fn a_terminal_beside_bulk_is_read_from_its_first_byte() {
    let bench = Bench::new().await;
    bench.says(2, Event::Output(noise(1).into()));
    bench.terminal();
    bench.runs("id", PROMPT);
    bench.says(2, Event::Output(noise(2).into()));
    bench.runs("pwd", PROMPT);
    let (events, _) = bench.ends().await;
    assert_eq!(texts(&events), ["id", "pwd"]);
}

#[tokio::test]
async fn a_hooked_shell_tells_text_status_and_folder() {
    let bench = Bench::new().await;
    let text = Remark::Hooked { nonce: "00ff" }.to_string();
    let (cols, rows, px_width, px_height) = (80, 24, 0, 0);
    let size = Event::Resize {
        cols,
        rows,
        px_width,
        px_height,
    };
    bench.says(1, size);
    bench.recorder.terminal(1, cols, rows);
    bench.says(1, Event::Marker { text: text.into() });
    bench.shown(b"\x1b]633;P;Launch;00ff\x07\x1b]633;P;Shell=bash;00ff\x07\x1b]633;P;Cwd=/srv;00ff\x07");
    bench.shown(PROMPT.as_bytes());
    bench.runs(
        "false",
        "\x1b]633;E;false;00ff\x07\x1b]633;P;Cwd=/srv;00ff\x07\x1b]633;D;1;00ff\x07",
    );
    bench.shown(PROMPT.as_bytes());
    let (events, _) = bench.ends().await;
    let found = commands(&events);
    let [(1, command)] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((command.source, command.confidence), (Source::Hook, Confidence::Exact));
    assert_eq!((command.text.as_ref(), command.directory.as_ref()), ("false", "/srv"));
    assert_eq!(command.status, Some(1));
}

#[tokio::test]
async fn a_flood_is_passed_over_and_what_follows_is_read() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.types("cat log", true);
    bench.typed(b"\r");
    let flood: String = (0..40_000).map(|line| format!("\r\nline {line}")).collect();
    bench.shown(flood.as_bytes());
    bench.shown(format!("\r\n{PROMPT}").as_bytes());
    bench.next_segment();
    bench.runs("id", PROMPT);
    let (events, _) = bench.ends().await;
    assert_eq!(texts(&events), ["cat log", "id"]);
    let screen = events.iter().rev().find_map(|timed| match &timed.event {
        Event::Keyframe { dump, .. } => Some(dump.to_string()),
        _ => None,
    });
    let mut terminal = avt::Terminal::new(80, 24).unwrap();
    terminal.feed(screen.unwrap().as_str());
    let rows = terminal.screen().text();
    assert_eq!((rows[21].trim_end(), rows[22].trim_end()), ("line 39998", "line 39999"));
}

#[tokio::test]
async fn a_reader_that_fails_costs_no_recording_and_says_so() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.asks(2, "exec", "uptime", true);
    bench.closes(2, 0);
    {
        let main = bench.recorder.0.lock().main();
        job::lock(&main).commands.stop();
    }
    bench.runs("id", PROMPT);
    let (events, _) = bench.ends().await;
    assert_eq!(texts(&events), ["uptime"]);
    let said = events.iter().filter_map(|timed| match &timed.event {
        Event::Marker { text } => Some(text.to_string()),
        _ => None,
    });
    assert_eq!(said.count(), 1);
}

/// A line that policy refused: its Enter did not cross, and the gate took it back.
#[tokio::test]
async fn a_line_that_was_taken_back_was_not_run() {
    let bench = Bench::new().await;
    bench.terminal();
    bench.runs("id", PROMPT);
    bench.types("reboot", true);
    bench.says(
        1,
        Event::Notice {
            bytes: b"\x15".into(),
            how: NoticeHow::Keys,
        },
    );
    bench.shown("\x08 \x08".repeat(6).as_bytes());
    bench.runs("uptime", PROMPT);
    let (events, _) = bench.ends().await;
    let told: Vec<(String, String)> = commands(&events)
        .into_iter()
        .map(|(_, command)| (command.text.into_owned(), command.other.into_owned()))
        .collect();
    let plain = |text: &str| (text.to_owned(), String::new());
    assert_eq!(told, [plain("id"), plain("uptime")]);
}
