//! Commands that the protocol itself tells: what was asked for, permitted and
//! run by exec and subsystem requests.

use std::collections::BTreeMap;

use portcullis_recording::Timed;
use portcullis_recording::command::{Command, Confidence, Source};
use portcullis_recording::event::Event;
use portcullis_recording::limits::COMMAND_TEXT_BYTES_MAX;

use crate::kernel::remark::Remark;

/// What a channel runs, or is asked to.
#[derive(Debug)]
struct Program {
    /// The word of its request.
    context: &'static str,
    text: String,
    began_ms: u64,
    runs: bool,
    status: Option<u32>,
}

/// The programs of one session's channels.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<u32, Program>);

impl Programs {
    /// Takes the next event; what has ended with it.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other events tell nothing of programs"
    )]
    pub fn take(&mut self, timed: &Timed<'_>) -> Option<Command<'static>> {
        let channel = timed.channel;
        match &timed.event {
            Event::Request { kind, detail, .. } => {
                let context = match kind.as_ref() {
                    "exec" => "exec",
                    "subsystem" => "subsystem",
                    // A forced command may run in its place.
                    "shell" => "shell",
                    _ => return None,
                };
                // A second one is refused, and the first goes on.
                if self.0.get(&channel).is_none_or(|program| !program.runs) {
                    self.0.insert(channel, Program::new(context, detail, timed.at_ms));
                }
            }
            Event::Decision { action, allowed, .. } => {
                let asked = self.0.get_mut(&channel).filter(|program| !program.runs)?;
                if asked.context == action {
                    match allowed {
                        true => asked.runs = true,
                        false => drop(self.0.remove(&channel)),
                    }
                }
            }
            Event::Marker { text } => match Remark::read(text)? {
                Remark::Forced { command } => {
                    let program = self.0.get_mut(&channel)?;
                    *program = Program {
                        runs: true,
                        ..Program::new("exec", command.as_bytes(), program.began_ms)
                    };
                }
                Remark::NotStarted { .. } => drop(self.0.remove(&channel)),
                Remark::Hooked { .. } => {}
            },
            Event::ExitStatus(status) => self.0.get_mut(&channel)?.status = Some(*status),
            Event::ChannelClose { .. } => return self.0.remove(&channel)?.ended(timed.at_ms),
            _ => {}
        }
        None
    }

    /// The session ends with those that still run.
    pub fn finish(&mut self, at_ms: u64) -> Vec<(u32, Command<'static>)> {
        let running = std::mem::take(&mut self.0).into_iter();
        running
            .filter_map(|(channel, program)| Some((channel, program.ended(at_ms)?)))
            .collect()
    }
}

impl Program {
    fn new(context: &'static str, detail: &[u8], began_ms: u64) -> Program {
        let mut text = String::from_utf8_lossy(detail).into_owned();
        text.truncate(text.floor_char_boundary(COMMAND_TEXT_BYTES_MAX));
        Program {
            context,
            text,
            began_ms,
            runs: false,
            status: None,
        }
    }

    /// As a command; a shell is none, it reads them.
    fn ended(self, at_ms: u64) -> Option<Command<'static>> {
        (self.runs && self.context != "shell").then(|| Command {
            source: Source::Protocol,
            confidence: Confidence::Exact,
            began_ms: self.began_ms,
            ended_ms: at_ms.max(self.began_ms),
            text: self.text.into(),
            other: "".into(),
            context: self.context.into(),
            directory: "".into(),
            status: self.status,
            labels: Vec::new(),
        })
    }
}

#[cfg(test)]
#[expect(clippy::wildcard_enum_match_arm, reason = "tests look at the event they mean")]
mod tests {
    use portcullis_recording::event::Party;

    use super::*;

    /// Text, context, status, and when it began and ended.
    type Told = (String, String, Option<u32>, (u64, u64));

    fn request(kind: &'static str, detail: &'static [u8]) -> Event<'static> {
        Event::Request {
            kind: kind.into(),
            detail: detail.into(),
            want: "".into(),
        }
    }

    fn decision(action: &'static str, allowed: bool) -> Event<'static> {
        Event::Decision {
            action: action.into(),
            allowed,
            rule: "r".into(),
            code: "c".into(),
        }
    }

    fn remark(remark: Remark<'_>) -> Event<'static> {
        let text = remark.to_string().into();
        Event::Marker { text }
    }

    /// What is told of these events on one channel, 10 ms apart: text, context, status, times.
    fn told(events: Vec<Event<'static>>) -> Vec<Told> {
        let mut programs = Programs::default();
        let mut told = Vec::new();
        let mut at_ms = 0;
        for event in events {
            at_ms += 10;
            let channel = 1;
            told.extend(programs.take(&Timed { at_ms, channel, event }));
        }
        told.extend(programs.finish(at_ms).into_iter().map(|(_, command)| command));
        told.into_iter()
            .map(|command| {
                assert_eq!(
                    (command.source, command.confidence),
                    (Source::Protocol, Confidence::Exact)
                );
                let times = (command.began_ms, command.ended_ms);
                (command.text.into(), command.context.into(), command.status, times)
            })
            .collect()
    }

    const CLOSED: Event<'static> = Event::ChannelClose { by: Party::Target };

    fn ran(text: &str, context: &str, status: Option<u32>, times: (u64, u64)) -> Told {
        (text.to_owned(), context.to_owned(), status, times)
    }

    #[test]
    fn what_runs_is_told_once_it_has_ended() {
        let exec = request("exec", b"uptime \xff");
        let events = vec![exec, decision("exec", true), Event::ExitStatus(3), CLOSED, CLOSED];
        assert_eq!(told(events), [ran("uptime \u{fffd}", "exec", Some(3), (10, 40))]);
        let events = vec![request("subsystem", b"sftp"), decision("subsystem", true)];
        assert_eq!(told(events), [ran("sftp", "subsystem", None, (10, 20))]);
    }

    #[test]
    fn what_does_not_run_is_no_command() {
        let refused = vec![request("exec", b"reboot"), decision("exec", false), CLOSED];
        assert_eq!(told(refused), []);
        let undecided = vec![request("exec", b"reboot"), decision("env", true), CLOSED];
        assert_eq!(told(undecided), []);
        let not = remark(Remark::NotStarted {
            why: "the target said no",
        });
        let stopped = vec![request("exec", b"scp -t x"), decision("exec", true), not, CLOSED];
        assert_eq!(told(stopped), []);
        let shell = vec![request("shell", b""), decision("shell", true), CLOSED];
        assert_eq!(told(shell), []);
    }

    #[test]
    fn a_second_request_hides_nothing() {
        let again = |allowed| {
            let (exec, second) = (request("exec", b"id"), request("exec", b"true"));
            let (yes, then) = (decision("exec", true), decision("exec", allowed));
            vec![
                exec,
                yes,
                second,
                then,
                request("env", b"A=b"),
                decision("env", false),
                CLOSED,
            ]
        };
        assert_eq!(told(again(false)), [ran("id", "exec", None, (10, 70))]);
        // One that was refused first leaves room for another.
        let (no, yes) = (decision("exec", false), decision("exec", true));
        let events = vec![request("exec", b"reboot"), no, request("exec", b"id"), yes, CLOSED];
        assert_eq!(told(events), [ran("id", "exec", None, (30, 50))]);
    }

    #[test]
    fn a_forced_command_is_what_runs() {
        for asked in [request("shell", b""), request("exec", b"id")] {
            let kind = match &asked {
                Event::Request { kind, .. } if kind == "shell" => "shell",
                _ => "exec",
            };
            let forced = remark(Remark::Forced { command: "backup" });
            let events = vec![asked, decision(kind, true), forced, Event::ExitStatus(0), CLOSED];
            assert_eq!(told(events), [ran("backup", "exec", Some(0), (10, 50))]);
        }
    }
}
