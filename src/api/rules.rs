//! What may enter the inventory and what may be granted: pure functions over
//! values and the time, with one table of tests each.

use russh::keys::ssh_key::PublicKey;

use super::problem::{Code, Problem};
use super::wire::{IdentityRequest, IssueRequest};
use crate::kernel::grant::{Capability, Cidr, WallMs};
use crate::kernel::id::IdentityName;
use crate::kernel::inventory::{HostProof, Identity, IdentityKind, Reach, Target};

/// Longest reason or purpose, in bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Longest public key line, in bytes.
pub const KEY_BYTES_MAX: usize = 16 * 1024;
/// Most keys of one identity.
pub const KEYS_MAX: usize = 16;
/// Most logins or labels of one target.
pub const TARGET_LIST_MAX: usize = 64;
/// Most arguments of a local command.
pub const COMMAND_ARGS_MAX: usize = 64;
/// Longest argument of a local command, in bytes.
pub const COMMAND_ARG_BYTES_MAX: usize = 4096;
/// Most source blocks of a grant.
pub const SOURCES_MAX: usize = 64;
/// Shortest prefix of an id that is looked up, in digits.
pub const PREFIX_DIGITS_MIN: usize = 4;
/// A certificate is valid from this long before its grant, in ms, so that a
/// client whose clock is behind can use it at once. The grant itself is not
/// earlier by it.
pub const BACKDATE_MS: u64 = 60_000;
/// The last ms that has a date (RFC 3339): the end of the year 9999.
const WALL_MS_MAX: u64 = 253_402_300_799_999;
/// Time until a machine's or agent's first review when none is named, in ms (90 days).
pub const REVIEW_MS: u64 = 90 * 24 * 60 * 60 * 1000;

/// A sentence of somebody's own words: present, bounded, one line, nothing
/// that a terminal would act on.
///
/// # Errors
/// What is wrong with it.
pub fn words(what: &str, text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Problem::invalid(format!("the {what} is empty")));
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem::invalid(format!(
            "the {what} is longer than {TEXT_BYTES_MAX} bytes"
        )));
    }
    if text.chars().any(misleads) {
        return Err(Problem::invalid(format!("the {what} holds control characters")));
    }
    Ok(())
}

/// Controls, line ends and what turns the direction of the text around it
/// (Unicode TR 36 section 3.4): who answers has to see what was written.
fn misleads(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Checks the address blocks of a grant.
///
/// # Errors
/// Too many, or one with bits beyond its prefix: no certificate may hold it.
pub fn sources(blocks: &[Cidr]) -> Result<(), Problem> {
    if blocks.len() > SOURCES_MAX {
        return Err(Problem::invalid(format!("more than {SOURCES_MAX} sources")));
    }
    match blocks.iter().find(|block| !block.is_exact()) {
        None => Ok(()),
        Some(block) => Err(Problem::invalid(format!(
            "the source {block} has bits beyond its prefix"
        ))),
    }
}

/// Checks a reason.
///
/// # Errors
/// What is wrong with it.
pub fn reason(text: &str) -> Result<(), Problem> {
    words("reason", text)
}

/// Reads one OpenSSH public key line.
///
/// # Errors
/// When it is none.
pub fn public_key(line: &str) -> Result<PublicKey, Problem> {
    let bad = |why: &str| {
        Err(Problem::invalid(format!("not an OpenSSH public key: {why}"))
            .hint("give the .pub file that ssh-keygen wrote"))
    };
    let line = line.trim();
    if line.len() > KEY_BYTES_MAX {
        return bad("too long");
    }
    if line.lines().count() != 1 {
        return bad("one line expected");
    }
    PublicKey::from_openssh(line).or_else(|error| bad(&error.to_string()))
}

/// Checks a new identity and fills in what has a default.
///
/// # Errors
/// What is missing or wrong.
pub fn identity(request: IdentityRequest, now: WallMs) -> Result<Identity, Problem> {
    let accountable = matches!(request.kind, IdentityKind::Machine | IdentityKind::Agent);
    if accountable && (request.owner.is_none() || request.purpose.is_none()) {
        return Err(Problem::invalid(format!(
            "{} needs an owner and a purpose: machines and agents always have both",
            request.name
        ))
        .hint("add --owner NAME --purpose TEXT"));
    }
    if let Some(purpose) = &request.purpose {
        words("purpose", purpose)?;
    }
    if let Some(owner) = &request.owner {
        let owner: IdentityName = owner
            .parse()
            .map_err(|error| Problem::invalid(format!("owner: {error}")))?;
        if owner == request.name {
            return Err(Problem::invalid(format!("{owner} cannot answer for itself")));
        }
    }
    let review_by_ms = match request.review_by_ms {
        Some(review) if review <= now => {
            return Err(Problem::invalid("the review date has passed already"));
        }
        Some(review) if review > WALL_MS_MAX => {
            return Err(Problem::invalid("the review date is after the year 9999"));
        }
        None if accountable => Some(now.saturating_add(REVIEW_MS)),
        given => given,
    };
    if request.keys.len() > KEYS_MAX {
        return Err(Problem::invalid(format!("more than {KEYS_MAX} keys")));
    }
    let keys = request
        .keys
        .iter()
        .map(|line| public_key(line).map(|_| line.trim().to_owned()))
        .collect::<Result<_, _>>()?;
    Ok(Identity {
        name: request.name,
        kind: request.kind,
        owner: request.owner,
        purpose: request.purpose,
        review_by_ms,
        keys,
        roles: request.roles,
        groups: request.groups,
        disabled: false,
    })
}

/// `HOST:PORT`, with an IPv6 address in brackets.
///
/// # Errors
/// When it is not that.
pub fn address(text: &str) -> Result<(), Problem> {
    let bad = || {
        Problem::invalid(format!("`{}` is not HOST:PORT", text.escape_debug()))
            .hint("such as db1.example.org:22 or [2001:db8::1]:22")
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if !digits || port.parse::<u16>().unwrap_or(0) == 0 || host.len() > 255 {
        return Err(bad());
    }
    let good = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && !host.starts_with('-')
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    good.then_some(()).ok_or_else(bad)
}

/// Checks a new target.
///
/// # Errors
/// What is missing or wrong.
pub fn target(target: &Target) -> Result<(), Problem> {
    if target.logins.is_empty() {
        return Err(Problem::invalid("a target needs at least one login").hint("add --login NAME"));
    }
    if target.logins.len() > TARGET_LIST_MAX || target.labels.len() > TARGET_LIST_MAX {
        return Err(Problem::invalid(format!(
            "more than {TARGET_LIST_MAX} logins or labels"
        )));
    }
    for label in &target.labels {
        let good = label.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        if !good || label.len() > TEXT_BYTES_MAX || label.chars().any(misleads) {
            return Err(Problem::invalid(format!(
                "label `{}` is not KEY=VALUE",
                label.escape_debug()
            )));
        }
    }
    match &target.reach {
        Reach::Ssh {
            addr,
            proof,
            credential: _,
            via: _,
        } => {
            address(addr)?;
            let (HostProof::HostKey(line) | HostProof::HostCa(line)) = proof;
            public_key(line).map(drop)
        }
        Reach::Local { command, run_as } => {
            if run_as.is_empty() || run_as.len() > 32 || run_as.contains([':', '/', '\0']) {
                return Err(Problem::invalid(format!(
                    "`{}` is not an account name",
                    run_as.escape_debug()
                )));
            }
            if command.len() > COMMAND_ARGS_MAX
                || command
                    .iter()
                    .any(|arg| arg.len() > COMMAND_ARG_BYTES_MAX || arg.contains('\0'))
            {
                return Err(Problem::invalid(format!(
                    "a command has at most {COMMAND_ARGS_MAX} arguments of {COMMAND_ARG_BYTES_MAX} bytes, without NUL"
                )));
            }
            if command.first().is_some_and(String::is_empty) {
                return Err(Problem::invalid("the command's program is an empty name"));
            }
            Ok(())
        }
    }
}

/// What a grant may be issued for: `issuer` is the Unix account that asks.
pub struct Issuing<'a> {
    pub request: &'a IssueRequest,
    pub identity: Option<&'a Identity>,
    pub target: Option<&'a Target>,
    pub now: WallMs,
    pub grant_ms_max: u64,
}

/// `[from, until)` of a grant that may be issued.
///
/// # Errors
/// The first rule that it breaks.
pub fn issue(of: &Issuing<'_>) -> Result<(WallMs, WallMs), Problem> {
    let request = of.request;
    reason(&request.reason)?;
    let identity = of.identity.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no identity `{}`", request.identity))
            .hint(format!("add it with `portcullis identity add {}`", request.identity))
    })?;
    let wanted = &request.destination;
    let target = of.target.ok_or_else(|| {
        Problem::new(Code::NotFound, format!("there is no target `{}`", wanted.target)).hint(format!(
            "add it with `portcullis target add {}`, or see `portcullis target list`",
            wanted.target
        ))
    })?;
    if !target.logins.contains(&wanted.login) {
        let logins: Vec<&str> = target.logins.iter().map(|login| login.as_str()).collect();
        return Err(Problem::denied(format!(
            "`{}` is not a login of {}: it has {}",
            wanted.login,
            target.name,
            logins.join(", ")
        )));
    }
    if target.disabled {
        return Err(Problem::denied(format!("target {} is disabled", target.name)));
    }
    holder(identity, of.now)?;
    if request.allow.is_empty() {
        return Err(Problem::invalid("a grant that allows nothing is of no use").hint("add --allow shell,exec,sftp"));
    }
    sources(&request.sources)?;
    window(request.for_secs, of.now, of.grant_ms_max)
}

/// Whether `identity` may hold a grant at `now`.
fn holder(identity: &Identity, now: WallMs) -> Result<(), Problem> {
    identity.may_hold(now).map_err(|why| Problem::denied(why.to_string()))
}

/// `[now, until)`. Certificates speak whole seconds, so `until` is one: the
/// next one, unless that is past the maximum.
fn window(for_secs: u64, now: WallMs, grant_ms_max: u64) -> Result<(WallMs, WallMs), Problem> {
    let length = for_secs
        .checked_mul(1000)
        .filter(|length| *length > 0 && *length <= grant_ms_max);
    let Some(length) = length else {
        return Err(Problem::denied(format!(
            "a grant lasts from 1 s to {} min here, not {for_secs} s",
            grant_ms_max / 60_000
        ))
        .hint("ask for less with --for, or raise session.grant_max_mins"));
    };
    let second = |ms: u64| ms - ms % 1000;
    let asked = second(now.saturating_add(length).saturating_add(999));
    let most = second(now).saturating_add(grant_ms_max);
    Ok((now, asked.min(most)))
}

/// The certificate extensions that `allow` needs: what is missing here, the
/// gate refuses later whatever the grant says.
pub fn extensions(allow: &[Capability]) -> Vec<&'static str> {
    let pairs = [
        (Capability::X11, "permit-X11-forwarding"),
        (Capability::Agent, "permit-agent-forwarding"),
        (Capability::Forward, "permit-port-forwarding"),
        (Capability::Shell, "permit-pty"),
    ];
    pairs
        .into_iter()
        .filter(|(capability, _)| allow.contains(capability))
        .map(|(_, extension)| extension)
        .collect()
}

/// The one of `ids` that starts with `prefix`.
///
/// # Errors
/// None or several do, or it is not the start of an id.
pub fn by_prefix<T: Copy + std::fmt::Display>(
    what: &str,
    prefix: &str,
    ids: impl Iterator<Item = T>,
) -> Result<T, Problem> {
    let digits = prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !digits || !(PREFIX_DIGITS_MIN..=32).contains(&prefix.len()) {
        return Err(Problem::invalid(format!(
            "`{}` is not the id of a {what}: {PREFIX_DIGITS_MIN} to 32 lower-case hexadecimal digits",
            prefix.escape_debug()
        )));
    }
    let mut fitting = ids.filter(|id| id.to_string().starts_with(prefix));
    let first = fitting
        .next()
        .ok_or_else(|| Problem::new(Code::NotFound, format!("there is no {what} {prefix}")))?;
    match fitting.next() {
        None => Ok(first),
        Some(second) => Err(Problem::new(
            Code::Ambiguous,
            format!("several {what}s start with {prefix}: {first}, {second}, …"),
        )
        .hint("give more digits")),
    }
}

#[cfg(test)]
mod tests;
