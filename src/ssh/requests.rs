//! What a client asks on an open channel: each request is bounded, put before
//! policy, recorded, and passed on in order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_recording::Event;
use russh::{Pty, Sig};

use super::answer::Answer;
use super::channel::{Carries, Channel, Display, Down, Start, Terminal, Up};
use super::consent::Consent;
use super::guard;
use super::leg::signal_name;
use super::reasons;
use super::session::Live;
use super::sieving;
use crate::clock::tick;
use crate::kernel::hook::{self, Nonce};
use crate::kernel::policy::{Denial, POLICY_DENIED};
use crate::kernel::remark::Remark;
use crate::kernel::request::{ENV_COUNT_MAX, ENV_VALUE_BYTES_MAX, EXEC_BYTES_MAX, Request, clamp_terminal};
use crate::kernel::session::EndReason;
use crate::kernel::transfer::{Observer, exec};

/// Refused requests on one channel before it counts as an attack.
const DENIALS_MAX: u32 = 32;
/// Variables on one channel, refused ones included, before it counts as an attack.
const ENV_TRIES_MAX: usize = ENV_COUNT_MAX * 4;
/// Longest signal name, in bytes.
const SIGNAL_BYTES_MAX: usize = 32;
/// How long a closed channel may move nothing before it is ended.
pub const CLOSED_WAIT: Duration = Duration::from_secs(2);
/// Longest modes list of a terminal request that is passed on.
const PTY_MODES_MAX: usize = 64;
/// The value of a key that there is none for (RFC 4254 section 8).
const DISABLED: u32 = 255;
/// Longest terminal name, in bytes.
const TERM_BYTES_MAX: usize = 128;

/// Longest name of an X11 protocol and longest cookie, in bytes.
const X11_TEXT_BYTES_MAX: usize = 256;

/// A forward runs nothing: what is asked around a program has no place on it.
fn misplaced(live: &Live, channel: &Channel, request: &Request, detail: &[u8]) -> bool {
    let forward = channel.carries == Carries::Forward;
    if forward {
        live.refuse(channel.number, request, detail, "");
    }
    forward
}

/// A command of this machine gets at nothing of the client's.
fn kept_from_local(live: &Live, channel: &Channel, request: &Request) -> bool {
    let local = live.is_local();
    if local {
        live.refuse(channel.number, request, b"", "a local target");
    }
    local
}

/// A terminal's size, in cells and in pixels.
#[derive(Clone, Copy)]
pub struct Size {
    pub cols: u32,
    pub rows: u32,
    pub px_width: u32,
    pub px_height: u32,
}

/// Asks policy for a program and passes it on. The target's own answer, or
/// nothing when the answer comes through the channel's lane.
pub async fn start(live: &Live, channel: &Channel, start: Start) -> Option<bool> {
    channel.start_asked.store(channel.ask(), Ordering::SeqCst);
    let (request, detail): (Request, Vec<u8>) = match &start {
        Start::Exec(command) if command.len() > EXEC_BYTES_MAX => {
            let kind = format!("exec of {} bytes", command.len());
            live.decide(channel.number, Request::Unknown { kind }, b"", "").ok();
            return Some(false);
        }
        Start::Shell => (Request::Shell, Vec::new()),
        Start::Exec(command) => (
            Request::Exec {
                command: command.clone(),
            },
            command.clone(),
        ),
        Start::Subsystem(name) => (Request::Subsystem { name: name.clone() }, name.clone().into_bytes()),
    };
    if misplaced(live, channel, &request, &detail) {
        return Some(false);
    }
    if channel.started.swap(true, Ordering::SeqCst) {
        // One program a channel (RFC 4254 section 6.5).
        live.refuse(channel.number, &request, &detail, "");
        refuse_in_words(live, channel, "this channel runs a program already".into());
        return None;
    }
    let permit = match live.decide(channel.number, request, &detail, "") {
        Ok(permit) => permit,
        Err(denial) => {
            // What did not start does not count.
            channel.started.store(false, Ordering::SeqCst);
            let said = format!("refused by rule {}: {}", denial.rule, denial.sentence);
            match denial.end {
                true => live.control.end_now(EndReason::Command(said)),
                false => refuse_in_words(live, channel, said),
            }
            return None;
        }
    };
    // What is forced was decided as an exec, whatever was asked for.
    let exec = matches!(start, Start::Exec(_)) || live.admitted.force_command().is_some();
    let shell = matches!(start, Start::Shell) && live.admitted.force_command().is_none();
    let start = match (live.admitted.force_command(), start) {
        (Some(command), _) => {
            let text = Remark::Forced { command }.to_string();
            live.record(channel.number, Event::Marker { text: text.into() });
            Start::Exec(command.as_bytes().to_vec())
        }
        (None, Start::Shell) if permit.obligations().hook && channel.is_terminal() && !live.is_local() => {
            hooked(live, channel)
        }
        (None, start) => start,
    };
    let reason = match exec.then(|| reasons::given(live, channel, &permit)).transpose() {
        Ok(reason) => reason,
        Err(denial) => return not_given(live, channel, &denial),
    };
    if let Err(denial) = transfers_of(live, channel, &start) {
        take_back(live, channel, &denial.rule, &denial.sentence);
        return None;
    }
    if shell
        && channel.is_terminal()
        && let Some(lines) = live.banner.show()
        && channel.down.control(Down::Banner(lines)).is_err()
    {
        live.control.end_now(EndReason::Backlog);
    }
    channel.transfers.permit(permit.kept());
    let up = match exec {
        true => {
            for notice in &permit.obligations().notice {
                guard::tell(live, channel, Down::Told(format!("portcullis: {notice}\r\n")));
            }
            Consent::before(start, live, &permit)
        }
        false => Up::Start(start),
    };
    if matches!(up, Up::Start(_)) {
        if let Some(reason) = reason {
            reason.note(live, channel);
        }
        guard::begin(live, channel, &permit);
    } else {
        // Nobody says yes within a moment: the answer comes behind words, and the connection's other channels go on.
        channel.answer.in_words();
    }
    enqueue(live, channel, up);
    let yes = answered(live, channel, &channel.answer).await?;
    if !yes {
        not_started(live, channel, "the target said no");
    }
    if let Some(mut hooked) = channel.hooked() {
        hooked.answered(yes, tick());
        // The pump towards the client waits for another moment now.
        channel.hook_set.notify_one();
    }
    Some(yes)
}

/// What a rule wants to be told was not told.
fn not_given(live: &Live, channel: &Channel, denial: &Denial) -> Option<bool> {
    let decision = Event::Decision {
        action: "exec".into(),
        allowed: false,
        rule: denial.rule.as_str().into(),
        code: denial.code.into(),
    };
    live.record(channel.number, decision);
    take_back(live, channel, &denial.rule, &denial.sentence);
    None
}

/// What was permitted does not run after all, for the sake of a rule: its client is told.
pub fn take_back(live: &Live, channel: &Channel, rule: &str, why: &str) {
    channel.started.store(false, Ordering::SeqCst);
    let said = format!("refused by rule {rule}: {why}");
    not_started(live, channel, &said);
    refuse_in_words(live, channel, said);
}

/// What was permitted does not run after all.
pub fn not_started(live: &Live, channel: &Channel, why: &str) {
    let text = Remark::NotStarted { why }.to_string();
    live.record(channel.number, Event::Marker { text: text.into() });
}

/// The login shell, told to say what it runs.
fn hooked(live: &Live, channel: &Channel) -> Start {
    let nonce = Nonce::new(crate::entropy::id());
    let said = nonce.to_string();
    let text = Remark::Hooked { nonce: &said }.to_string();
    live.record(channel.number, Event::Marker { text: text.into() });
    channel.hook(nonce);
    Start::Exec(hook::launch(nonce))
}

/// Whether a start moves files that would be followed if it had no terminal. On one it is not: what a terminal shows and
/// takes is no protocol. Of scp, rsync and git (`git pull` over `ssh -t`) that matters only where policy asks.
fn on_terminal(start: &Start, asks: bool) -> bool {
    match start {
        Start::Shell => false,
        Start::Subsystem(name) => Observer::of_subsystem(name).is_some(),
        Start::Exec(command) => match exec::read(command) {
            Some(exec::Program::Sftp) => true,
            Some(exec::Program::Scp { .. } | exec::Program::Stream { .. }) => asks,
            None => asks && !exec::wishes(command).is_empty(),
        },
    }
}

fn refuse_on_terminal(live: &Live, channel: &Channel) -> Denial {
    let decision = Event::Decision {
        action: "transfer".into(),
        allowed: false,
        rule: sieving::GATE_RULE.into(),
        code: POLICY_DENIED.into(),
    };
    live.record(channel.number, decision);
    Denial {
        rule: sieving::GATE_RULE.to_owned(),
        code: POLICY_DENIED,
        sentence: "files do not move over a terminal, where nobody can follow them: ask for none (ssh -T)".to_owned(),
        notify: false,
        end: false,
    }
}

/// Asks policy about the files that a command moves as far as its line says,
/// once a rule is about files.
pub fn transfers_of(live: &Live, channel: &Channel, start: &Start) -> Result<(), Denial> {
    let asks = live.gate.policies().ask_about_files();
    if channel.is_terminal() && on_terminal(start, asks) {
        return Err(refuse_on_terminal(live, channel));
    }
    let Start::Exec(command) = start else {
        return Ok(());
    };
    if !asks {
        return Ok(());
    }
    for wish in exec::wishes(command) {
        let plain = wish.is_plain() && !exec::may_expand(&wish.path);
        let permit = sieving::ask(live, channel, &wish, plain)?;
        if let Some(limit) = sieving::limit_of(&permit) {
            let sentence = format!(
                "it bounds each file at {} bytes, which only SFTP can keep: use sftp, or scp without -O",
                limit.bytes
            );
            let decision = Event::Decision {
                action: "transfer".into(),
                allowed: false,
                rule: limit.rule.clone().into(),
                code: POLICY_DENIED.into(),
            };
            live.record(channel.number, decision);
            return Err(Denial {
                rule: limit.rule,
                code: POLICY_DENIED,
                sentence,
                notify: false,
                end: false,
            });
        }
    }
    Ok(())
}

/// A terminal; whether it is given. The target's own answer, or a yes if that
/// takes too long.
pub async fn pty(live: &Live, channel: &Channel, term: &str, size: Size, modes: &[(Pty, u32)]) -> bool {
    channel.ask();
    let (cols, rows) = clamp_terminal(size.cols, size.rows);
    let term: String = term.chars().filter(|c| !c.is_control()).take(TERM_BYTES_MAX).collect();
    if misplaced(live, channel, &Request::Pty, term.as_bytes()) {
        return false;
    }
    let again = channel.is_terminal() || channel.started.load(Ordering::SeqCst);
    // Modes reach the target, so they are recorded: opcode=value, as sent.
    let asked: Vec<String> = modes
        .iter()
        .map(|(mode, value)| format!("{}={value}", *mode as u8))
        .collect();
    let asked = asked.join(" ");
    if again {
        live.refuse(channel.number, &Request::Pty, term.as_bytes(), &asked);
        return false;
    }
    if live
        .decide(channel.number, Request::Pty, term.as_bytes(), &asked)
        .is_err()
    {
        return false;
    }
    let (px_width, px_height) = (size.px_width, size.px_height);
    live.record(
        channel.number,
        Event::Resize {
            cols,
            rows,
            px_width,
            px_height,
        },
    );
    // The recorder first: not one key may be taken for ordinary input.
    live.recorder.terminal(channel.number, cols, rows);
    channel.terminal.store(true, Ordering::Release);
    channel.resize(cols, rows);
    // russh leaves a hole for each mode it does not know; encoded again,
    // TTY_OP_END would end the list there.
    let asks = live.asks_about_commands();
    let modes = modes
        .iter()
        .filter(|(mode, value)| *mode != Pty::TTY_OP_END && !(asks && disguises(*mode, *value)))
        .take(PTY_MODES_MAX)
        .copied()
        .collect();
    let terminal = Terminal {
        term,
        cols,
        rows,
        px_width,
        px_height,
        modes,
    };
    let answer = Arc::new(Answer::default());
    enqueue(live, channel, Up::Pty(terminal, answer.clone()));
    answered(live, channel, &answer).await.unwrap_or(true)
}

/// Waits for the target's answer to what has just been queued, and notes how long that took.
async fn answered(live: &Live, channel: &Channel, answer: &Answer) -> Option<bool> {
    let asked_ms = live.recorder.at_ms();
    let yes = answer.wait(&channel.stop).await?;
    let took_ms = live.recorder.at_ms().saturating_sub(asked_ms);
    channel.trip_ms.fetch_min(took_ms, Ordering::SeqCst);
    Some(yes)
}

/// Whether a terminal of this mode takes other keys for an Enter, for the end
/// of its output or for a key before text than policy is asked with, or keeps a
/// line that its keys give up (RFC 4254 section 8).
fn disguises(mode: Pty, value: u32) -> bool {
    let strips = value != 0 && matches!(mode, Pty::ISTRIP | Pty::IUCLC | Pty::OLCUC | Pty::XCASE);
    let keeps = value == DISABLED && matches!(mode, Pty::VINTR | Pty::VKILL);
    let sends = value != DISABLED && matches!(mode, Pty::VEOL | Pty::VEOL2);
    // What is rubbed out stays on the screen.
    let leaves = value == 0 && matches!(mode, Pty::ECHOE | Pty::ECHOK | Pty::ECHOKE);
    // A line goes to who reads it, output stops, and a key is text, by no other keys than usual.
    let usual = [
        (Pty::VEOF, 0x04),
        (Pty::VSTOP, 0x13),
        (Pty::VSTART, 0x11),
        (Pty::VLNEXT, 0x16),
    ];
    let other = |(key, usual): (Pty, u32)| key == mode && usual != value;
    let moved = value != DISABLED && usual.into_iter().any(other);
    // Text is text, and no key.
    let text = (0x20..0x7f).contains(&value)
        && matches!(
            mode,
            Pty::VINTR
                | Pty::VQUIT
                | Pty::VERASE
                | Pty::VKILL
                | Pty::VEOF
                | Pty::VSTART
                | Pty::VSTOP
                | Pty::VSUSP
                | Pty::VDSUSP
                | Pty::VREPRINT
                | Pty::VWERASE
                | Pty::VLNEXT
                | Pty::VFLUSH
                | Pty::VDISCARD
        );
    strips || keeps || sends || leaves || moved || text
}

/// Agent forwarding; whether the target takes it.
pub async fn agent(live: &Live, channel: &Channel) -> bool {
    channel.ask();
    let asked = Request::Agent;
    if misplaced(live, channel, &asked, b"") || kept_from_local(live, channel, &asked) {
        return false;
    }
    if live.decide(channel.number, asked, b"", "").is_err() {
        return false;
    }
    let answer = Arc::new(Answer::default());
    enqueue(live, channel, Up::Agent(answer.clone()));
    answer.wait(&channel.stop).await.unwrap_or(false)
}

/// X11 forwarding; whether the target takes it.
pub async fn x11(live: &Live, channel: &Channel, display: Display) -> bool {
    channel.ask();
    let asked = Request::X11;
    let detail = format!("screen {}", display.screen);
    if misplaced(live, channel, &asked, detail.as_bytes()) || kept_from_local(live, channel, &asked) {
        return false;
    }
    let long = display.protocol.len().max(display.cookie.len()) > X11_TEXT_BYTES_MAX;
    if long {
        live.refuse(channel.number, &asked, detail.as_bytes(), "");
        return false;
    }
    if live.decide(channel.number, asked, detail.as_bytes(), "").is_err() {
        return false;
    }
    let answer = Arc::new(Answer::default());
    enqueue(live, channel, Up::X11(display, answer.clone()));
    answer.wait(&channel.stop).await.unwrap_or(false)
}

/// A variable; whether it is passed on.
pub fn env(live: &Live, channel: &Channel, name: &str, value: &str) -> bool {
    channel.ask();
    let count = channel.env_count.fetch_add(1, Ordering::SeqCst) as usize;
    if count >= ENV_TRIES_MAX {
        live.control.end_now(EndReason::Protocol("too many variables".into()));
        return false;
    }
    let request = Request::Env {
        name: name.to_owned(),
        value_bytes: value.len(),
    };
    if misplaced(live, channel, &request, name.as_bytes()) {
        return false;
    }
    if name == reasons::VARIABLE && !channel.started.load(Ordering::SeqCst) {
        let told = reasons::told(live, channel, value);
        if !told {
            live.refuse(channel.number, &request, name.as_bytes(), "a reason, in one line");
        }
        return told;
    }
    // What passes is recorded whole: policy lets nothing longer pass.
    let detail: Vec<u8> = format!("{name}={value}")
        .bytes()
        .take(2 * ENV_VALUE_BYTES_MAX)
        .collect();
    if count >= ENV_COUNT_MAX || channel.started.load(Ordering::SeqCst) {
        live.refuse(channel.number, &request, &detail, "");
        return false;
    }
    let allowed = live.decide(channel.number, request, &detail, "").is_ok();
    if allowed {
        let (name, value) = (name.to_owned(), value.to_owned());
        enqueue(live, channel, Up::Env { name, value });
    }
    allowed
}

/// A new size of the terminal.
pub fn window_change(live: &Live, channel: &Channel, size: Size) {
    channel.ask();
    if !channel.is_terminal() {
        return;
    }
    let (cols, rows) = clamp_terminal(size.cols, size.rows);
    channel.resize(cols, rows);
    let change = Up::WindowChange {
        cols,
        rows,
        px_width: size.px_width,
        px_height: size.px_height,
    };
    enqueue(live, channel, change);
}

/// A signal for the program.
pub fn signal(live: &Live, channel: &Channel, signal: Sig) {
    channel.ask();
    let name = signal_name(&signal);
    if !is_signal_name(&name) {
        let kind = "a signal without a name".to_owned();
        live.decide(channel.number, Request::Unknown { kind }, b"", "").ok();
        return;
    }
    let request = Request::Signal { name: name.clone() };
    if misplaced(live, channel, &request, name.as_bytes()) {
        return;
    }
    if live.decide(channel.number, request, name.as_bytes(), "").is_ok() {
        enqueue(live, channel, Up::Signal(signal));
    }
}

/// Whether a signal's name is one (RFC 4254 section 6.10, or `name@domain`).
fn is_signal_name(name: &str) -> bool {
    (1..=SIGNAL_BYTES_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"@.-".contains(&byte))
}

/// The client's CLOSE. A channel whose target takes no more input must still
/// end: it does once nothing has moved for a while. One whose command waits for
/// somebody's yes ends at once: that yes would come too late.
pub fn close(live: &Live, channel: Arc<Channel>) {
    channel.client_closed.store(true, Ordering::SeqCst);
    if channel.asks.load(Ordering::SeqCst) {
        channel.stop.fire();
    }
    enqueue(live, &channel, Up::Close);
    tokio::spawn(async move {
        loop {
            let before = channel.account.to_target.load(Ordering::Relaxed);
            if tokio::time::timeout(CLOSED_WAIT, channel.stop.wait()).await.is_ok() {
                return;
            }
            if channel.account.to_target.load(Ordering::Relaxed) == before {
                channel.stop.fire();
                return;
            }
        }
    });
}

/// Refuses a request with words on the channel's standard error, through the
/// pump, so that the client's window counts. Who asks on and on is cut off.
fn refuse_in_words(live: &Live, channel: &Channel, said: String) {
    if channel.denials.fetch_add(1, Ordering::SeqCst) >= DENIALS_MAX {
        live.control
            .end_now(EndReason::Protocol("too many refused requests".into()));
        return;
    }
    if channel.down.control(Down::Refused(said)).is_err() {
        live.control.end_now(EndReason::Backlog);
    }
}

/// Puts a request behind what the client has sent before.
pub fn enqueue(live: &Live, channel: &Channel, up: Up) {
    if channel.up.control(up).is_err() {
        channel.overran(&live.control);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_disguise_an_enter_are_known() {
        for (mode, value) in [
            (Pty::ISTRIP, 1),
            (Pty::VINTR, 255),
            (Pty::VKILL, 255),
            (Pty::VEOL, 120),
            (Pty::VEOL2, 59),
            (Pty::IUCLC, 1),
            (Pty::ECHOKE, 0),
            (Pty::VQUIT, 113),
            (Pty::VERASE, 64),
            (Pty::VEOF, 11),
            (Pty::VSTOP, 11),
        ] {
            assert!(disguises(mode, value), "{mode:?}");
        }
        for (mode, value) in [
            (Pty::ISTRIP, 0),
            (Pty::VINTR, 3),
            (Pty::VKILL, 21),
            (Pty::VEOL, 255),
            (Pty::ICRNL, 1),
            (Pty::ECHOE, 1),
            (Pty::VERASE, 127),
            (Pty::VSTOP, 19),
            (Pty::VSTART, 255),
        ] {
            assert!(!disguises(mode, value), "{mode:?}");
        }
    }
}
