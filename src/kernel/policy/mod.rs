//! Policy: asked for every request, with the context of that moment.
//!
//! First the gate's own rules: the grant's window, destination and
//! capabilities, what the certificate permits, what is carried at all. What
//! they let pass, and is an action of the policies, is put before the
//! [`engine::Policies`] in force; both must say yes.

pub mod annotations;
pub mod backtest;
pub mod cases;
pub mod engine;
pub mod facts;
pub mod load;
pub mod obligations;
pub mod place;
mod question;
pub mod recheck;

use super::admit::Admitted;
use super::grant::{Capability, WallMs};
use super::habit::{History, Unusual};
use super::request::{
    ENV_NAME_BYTES_MAX, ENV_VALUE_BYTES_MAX, FORWARD_HOST_BYTES_MAX, FORWARD_PATH_BYTES_MAX, PORT_MAX, Request,
};
use engine::{Policies, Verdict};
use facts::{Action, Facts, ForwardTo, TransferOf};
pub use obligations::Kept;
use obligations::Obligations;

/// A yes to one request. Only [`decide`] makes one.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    request: Request,
    rule: String,
    rules: Vec<String>,
    obligations: Obligations,
    used: Option<(Facts, Unusual)>,
    kept: Kept,
}

impl Kept {
    /// A digest is for connections to somewhere else and for programs that move files, and only where policy says so.
    /// Whoever broke the glass, or has somebody's agent or display, is recorded in full.
    fn of(admitted: &Admitted, request: &Request, obligations: &Obligations) -> Kept {
        let least = match request {
            Request::DirectTcpip { .. }
            | Request::TcpipForward { .. }
            | Request::DirectStreamlocal { .. }
            | Request::StreamlocalForward { .. } => match obligations.kept {
                Some(Kept::Digest) => Kept::Digest,
                // It has no files.
                Some(Kept::Vault | Kept::Full) | None => Kept::Full,
            },
            Request::Exec { .. } | Request::Subsystem { .. } => obligations.kept.unwrap_or_default(),
            Request::Connect
            | Request::Channel
            | Request::Pty
            | Request::Env { .. }
            | Request::Shell
            | Request::WindowChange
            | Request::Signal { .. }
            | Request::Agent
            | Request::X11
            | Request::Transfer(_)
            | Request::Command(_)
            | Request::Unknown { .. } => Kept::Full,
        };
        match admitted.break_glass() {
            None => least,
            Some(_) => Kept::Full,
        }
    }
}

impl Permit {
    pub fn request(&self) -> &Request {
        &self.request
    }
    /// Id of the rule that said yes: a policy's where policies were asked,
    /// else the gate's own.
    pub fn rule(&self) -> &str {
        &self.rule
    }
    /// Ids of all policies that said yes.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }
    /// What it was decided on and what was unusual about it, if policies were
    /// asked.
    pub fn used(&self) -> Option<&(Facts, Unusual)> {
        self.used.as_ref()
    }
    /// What is recorded of what it lets through; of a program, while it moves files and is followed.
    pub fn kept(&self) -> Kept {
        self.kept
    }
    /// What they demand.
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }
}

/// A permit for `connect`, which alone dials a target and has its secret
/// released. Only [`Permit::to_connect`] makes one.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct MayConnect<'a>(&'a Permit);

impl Permit {
    /// This permit as one to connect, if that is what was asked.
    pub fn to_connect(&self) -> Option<MayConnect<'_>> {
        (self.request == Request::Connect).then_some(MayConnect(self))
    }
}

impl MayConnect<'_> {
    /// Id of the rule that said yes.
    pub fn rule(&self) -> &str {
        self.0.rule()
    }
}

/// Permits for tests of what takes one.
#[cfg(test)]
pub mod testing {
    use super::{Obligations, Permit, Request};

    /// A yes to `connect` that nobody was asked for.
    pub fn connect_permit() -> Permit {
        Permit {
            request: Request::Connect,
            rule: "test".to_owned(),
            rules: Vec::new(),
            obligations: Obligations::default(),
            used: None,
            kept: super::Kept::Full,
        }
    }
}

/// A no to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Id of the rule that said no.
    pub rule: String,
    /// Stable code.
    pub code: &'static str,
    /// One sentence for the user.
    pub sentence: String,
    /// To be told as an alarm: the rule carries `@notify`.
    pub notify: bool,
    /// The session ends: the rule carries `@end`.
    pub end: bool,
}

/// What a decision may look at beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub now: WallMs,
    /// Environment variables that pass: exact names or `PREFIX*`.
    pub env_allowed: &'a [String],
    /// Subsystems beside sftp that are carried: exact names.
    pub subsystems: &'a [String],
    /// A lease or a store failure forbids new things while it lasts.
    pub store_alive: bool,
    /// The policies in force.
    pub policies: &'a Policies,
    /// What is known of the session; action and request are filled in here.
    pub facts: &'a Facts,
    /// What its holder has done before.
    pub history: &'a History,
}

/// Decides one request of an admitted holder.
///
/// # Errors
/// A [`Denial`] with the rule that made it.
pub fn decide(admitted: &Admitted, request: Request, context: &Context<'_>) -> Result<Permit, Denial> {
    let gate = gate_rule(admitted, &request, context)?;
    let Some(mut facts) = facts_of(admitted, &request, context) else {
        return Ok(Permit {
            request,
            rule: gate.to_owned(),
            rules: Vec::new(),
            obligations: Obligations::default(),
            used: None,
            kept: Kept::Full,
        });
    };
    if let Some(command) = &facts.command {
        facts.labels = context.policies.labels().of(command);
    }
    let unusual = context.history.judge(&facts);
    facts.risk = unusual.risk();
    facts.anomalies = unusual.names();
    let told = context.policies.decide(&facts);
    match told.allowed {
        true => Ok(Permit {
            kept: Kept::of(admitted, &request, &told.obligations),
            request,
            rule: told.rules.first().cloned().unwrap_or_else(|| gate.to_owned()),
            rules: told.rules,
            obligations: told.obligations,
            used: Some((facts, unusual)),
        }),
        false => Err(denial(context.policies, &facts, told)),
    }
}

/// Code of a no that the policies said.
pub const POLICY_DENIED: &str = "policy_denied";
/// Code of a yes whose demand was not met: a reason, or somebody else's yes.
pub const DEMAND_NOT_MET: &str = "demand_not_met";
/// Rule of a no that no policy made: nothing permits it.
pub const NOTHING_PERMITS: &str = "policy.none";

fn denial(policies: &Policies, facts: &Facts, verdict: Verdict) -> Denial {
    let explained = policies.tell(facts, verdict);
    let notes: Vec<String> = explained.rules.iter().filter_map(|rule| rule.note.clone()).collect();
    let verdict = explained.verdict;
    Denial {
        notify: verdict.obligations.notify,
        end: verdict.obligations.end,
        sentence: match (verdict.rules.is_empty(), notes.is_empty()) {
            // What to do stands in it.
            (true, _) => explained.sentence,
            (false, true) => format!("the policies do not allow {}", facts.action.as_str()),
            (false, false) => notes.join("; "),
        },
        rule: verdict
            .rules
            .into_iter()
            .next()
            .unwrap_or_else(|| NOTHING_PERMITS.to_owned()),
        code: POLICY_DENIED,
    }
}

/// The facts of one request, if it is an action of the policies.
fn facts_of(admitted: &Admitted, request: &Request, context: &Context<'_>) -> Option<Facts> {
    let forward = |direction: &str, host: &str, port| ForwardTo {
        direction: direction.to_owned(),
        host: host.to_owned(),
        port,
    };
    let mut facts = Facts {
        now_ms: context.now,
        ..context.facts.clone()
    };
    let command = |facts: &mut Facts, command: String| {
        facts.action = Action::Exec;
        facts.command = Some(command);
    };
    match request {
        Request::Connect => facts.action = Action::Connect,
        // What runs is what policy is asked about.
        Request::Shell | Request::Exec { .. } | Request::Subsystem { .. } if admitted.force_command().is_some() => {
            command(&mut facts, admitted.force_command().unwrap_or_default().to_owned());
        }
        Request::Shell => facts.action = Action::Shell,
        Request::Exec { command: bytes } => command(&mut facts, String::from_utf8_lossy(bytes).into_owned()),
        Request::Subsystem { name } => {
            facts.action = Action::Subsystem;
            facts.subsystem = Some(name.clone());
        }
        Request::Command(line) => {
            facts.action = Action::Command;
            facts.command = Some(line.text.clone());
            facts.place = line.place.to_owned();
            facts.undecided = line.undecided;
        }
        Request::Transfer(transfer) => {
            facts.action = Action::Transfer;
            facts.transfer = Some(TransferOf {
                direction: transfer.direction.to_owned(),
                what: transfer.what.to_owned(),
                path: transfer.path.clone(),
                other: transfer.other.clone(),
                plain: transfer.plain,
            });
        }
        Request::DirectTcpip { host, port } => facts.forward = Some(forward("local", host, *port)),
        Request::TcpipForward { host, port } => facts.forward = Some(forward("remote", host, *port)),
        Request::DirectStreamlocal { path } => facts.forward = Some(forward("local", path, 0)),
        Request::StreamlocalForward { path } => facts.forward = Some(forward("remote", path, 0)),
        Request::Agent => facts.forward = Some(forward("agent", "", 0)),
        Request::X11 => facts.forward = Some(forward("x11", "", 0)),
        // Part of what was permitted already: a channel without a program, a
        // terminal for it, its size, its variables, signals to it.
        Request::Channel
        | Request::Pty
        | Request::Env { .. }
        | Request::WindowChange
        | Request::Signal { .. }
        | Request::Unknown { .. } => return None,
    }
    if facts.forward.is_some() {
        facts.action = Action::Forward;
    }
    Some(facts)
}

/// The gate's own rules.
fn gate_rule(admitted: &Admitted, request: &Request, context: &Context<'_>) -> Result<&'static str, Denial> {
    let deny = |rule: &str, code, sentence: String| {
        Err(Denial {
            rule: rule.to_owned(),
            code,
            sentence,
            notify: false,
            end: false,
        })
    };
    if context.now >= admitted.until_ms() {
        return deny("grant.window", "grant_expired", "the grant has ended".into());
    }
    // A break-glass session lives by what was signed, whether the store answers or not.
    if !context.store_alive && admitted.break_glass().is_none() {
        return deny(
            "gate.lease",
            "store_unavailable",
            "grants cannot be checked right now; try again".into(),
        );
    }
    let has = |capability| admitted.capabilities().contains(&capability);
    let lacks = |capability: Capability| Denial {
        rule: "grant.capabilities".to_owned(),
        code: "capability_missing",
        sentence: format!("the grant does not allow {capability}; ask for one with --allow {capability}"),
        notify: false,
        end: false,
    };
    let rule = match request {
        Request::Connect => "grant.destination",
        Request::Channel | Request::WindowChange | Request::Signal { .. } => "grant.session",
        Request::Env { name, value_bytes } => {
            let named = context.env_allowed.iter().any(|pattern| env_matches(pattern, name));
            if named && is_env_name(name) && *value_bytes <= ENV_VALUE_BYTES_MAX {
                "gate.env"
            } else {
                let name: String = name
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(ENV_NAME_BYTES_MAX)
                    .collect();
                return deny(
                    "gate.env",
                    "env_not_allowed",
                    format!("the variable {name} is not passed on"),
                );
            }
        }
        Request::Pty => {
            if admitted.permits_pty() {
                "certificate.permit-pty"
            } else {
                return deny(
                    "certificate.permit-pty",
                    "pty_not_permitted",
                    "the certificate does not allow a terminal".into(),
                );
            }
        }
        // A forced command runs whatever was asked for, so asking for a shell
        // or a subsystem needs no more than what the command itself does.
        Request::Shell | Request::Exec { .. } | Request::Subsystem { .. } if admitted.force_command().is_some() => {
            "certificate.force-command"
        }
        Request::Shell => has(Capability::Shell)
            .then_some("grant.shell")
            .ok_or_else(|| lacks(Capability::Shell))?,
        Request::Exec { .. } => has(Capability::Exec)
            .then_some("grant.exec")
            .ok_or_else(|| lacks(Capability::Exec))?,
        Request::Subsystem { name } if name == "sftp" => has(Capability::Sftp)
            .then_some("grant.sftp")
            .ok_or_else(|| lacks(Capability::Sftp))?,
        // Another one is a program like any other, by a shorter name.
        Request::Subsystem { name } if context.subsystems.contains(name) => has(Capability::Exec)
            .then_some("grant.exec")
            .ok_or_else(|| lacks(Capability::Exec))?,
        Request::Subsystem { .. } => {
            return deny(
                "gate.subsystems",
                "subsystem_not_allowed",
                "this subsystem is not carried: an admin names it in ssh.subsystems".into(),
            );
        }
        // The program that moves it was permitted.
        Request::Transfer(_) => "gate.transfer",
        // So was the terminal's.
        Request::Command(_) => "gate.command",
        Request::DirectTcpip { host, port } | Request::TcpipForward { host, port } => {
            if !is_host(host) || *port > PORT_MAX {
                return deny(
                    "gate.forward",
                    "forward_malformed",
                    "no host and port are written like that".into(),
                );
            }
            has(Capability::Forward)
                .then_some("grant.forward")
                .ok_or_else(|| lacks(Capability::Forward))?
        }
        Request::DirectStreamlocal { path } | Request::StreamlocalForward { path } => {
            if !is_socket_path(path) {
                return deny(
                    "gate.forward",
                    "forward_malformed",
                    "no socket's path is written like that".into(),
                );
            }
            has(Capability::Forward)
                .then_some("grant.forward")
                .ok_or_else(|| lacks(Capability::Forward))?
        }
        Request::Agent => has(Capability::Agent)
            .then_some("grant.agent")
            .ok_or_else(|| lacks(Capability::Agent))?,
        Request::X11 => has(Capability::X11)
            .then_some("grant.x11")
            .ok_or_else(|| lacks(Capability::X11))?,
        Request::Unknown { kind } => {
            let kind: String = kind.chars().take(64).filter(|c| !c.is_control()).collect();
            return deny("gate.unknown", "request_unknown", format!("`{kind}` is not carried"));
        }
    };
    Ok(rule)
}

/// Whether a name can be a variable's: a pattern with `*` lets nothing else in.
fn is_env_name(name: &str) -> bool {
    (1..=ENV_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether the text can be a host's name or address. Empty: every address, to listen on.
fn is_host(host: &str) -> bool {
    host.len() <= FORWARD_HOST_BYTES_MAX && host.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether the text can be a socket's path.
fn is_socket_path(path: &str) -> bool {
    (1..=FORWARD_PATH_BYTES_MAX).contains(&path.len()) && !path.chars().any(char::is_control)
}

fn env_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
