//! Policy: asked for every request, with the context of that moment.
//!
//! The rules here are the grant's destination and capabilities. A policy
//! engine replaces the body of [`decide`], not its callers.

pub mod annotations;
pub mod engine;
pub mod facts;
pub mod load;
pub mod obligations;
mod question;

use super::admit::Admitted;
use super::grant::{Capability, WallMs};
use super::request::{ENV_NAME_BYTES_MAX, ENV_VALUE_BYTES_MAX, Request};

/// A yes to one request. Only [`decide`] makes one.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    request: Request,
    rule: &'static str,
}

impl Permit {
    pub fn request(&self) -> &Request {
        &self.request
    }
    /// Id of the rule that said yes.
    pub fn rule(&self) -> &'static str {
        self.rule
    }
}

/// A no to one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Denial {
    /// Id of the rule that said no.
    pub rule: &'static str,
    /// Stable code.
    pub code: &'static str,
    /// One sentence for the user.
    pub sentence: String,
}

/// What a decision may look at beside the request.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub now: WallMs,
    /// Environment variables that pass: exact names or `PREFIX*`.
    pub env_allowed: &'a [String],
    /// A lease or a store failure forbids new things while it lasts.
    pub store_alive: bool,
}

/// Decides one request of an admitted holder.
///
/// # Errors
/// A [`Denial`] with the rule that made it.
pub fn decide(admitted: &Admitted, request: Request, context: &Context<'_>) -> Result<Permit, Denial> {
    let deny = |rule, code, sentence: String| Err(Denial { rule, code, sentence });
    if context.now >= admitted.until_ms() {
        return deny("grant.window", "grant_expired", "the grant has ended".into());
    }
    if !context.store_alive {
        return deny(
            "gate.lease",
            "store_unavailable",
            "grants cannot be checked right now; try again".into(),
        );
    }
    let has = |capability| admitted.capabilities().contains(&capability);
    let lacks = |capability: Capability| Denial {
        rule: "grant.capabilities",
        code: "capability_missing",
        sentence: format!("the grant does not allow {capability}; ask for one with --allow {capability}"),
    };
    let rule = match &request {
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
        Request::Subsystem { .. } => {
            return deny(
                "gate.subsystems",
                "subsystem_not_allowed",
                "only the sftp subsystem is carried".into(),
            );
        }
        // A session is recorded whole or refused: kinds of channel that are
        // not carried yet are refused here, whatever the grant says.
        Request::DirectTcpip { .. }
        | Request::TcpipForward { .. }
        | Request::DirectStreamlocal { .. }
        | Request::StreamlocalForward { .. } => {
            return deny(
                "gate.forward",
                "forward_not_carried",
                "forwarding is not carried by this gate".into(),
            );
        }
        Request::Agent => {
            return deny("gate.agent", "agent_not_carried", "agent forwarding is off".into());
        }
        Request::X11 => {
            return deny("gate.x11", "x11_not_carried", "X11 forwarding is off".into());
        }
        Request::Unknown { kind } => {
            let kind: String = kind.chars().take(64).filter(|c| !c.is_control()).collect();
            return deny("gate.unknown", "request_unknown", format!("`{kind}` is not carried"));
        }
    };
    Ok(Permit { request, rule })
}

/// Whether a name can be a variable's: a pattern with `*` lets nothing else in.
fn is_env_name(name: &str) -> bool {
    (1..=ENV_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn env_matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}
