//! Annotations of a policy, checked and turned into [`Obligations`]: an
//! annotation that would do nothing is an error.

use std::collections::BTreeSet;

use super::facts::Action;
use super::obligations::{Kept, Obligations, OnHidden, RecordMode};
use crate::kernel::access::ANSWERS_MAX;
use crate::kernel::amount;
use crate::kernel::duration;
use crate::kernel::id::GroupName;
use crate::kernel::nearest::nearest;

/// Longest id of a policy, in bytes.
pub const ID_BYTES_MAX: usize = 128;
/// Longest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 512;
/// Most warnings that one policy asks for, and most groups of approvers.
const LIST_MAX: usize = 8;

/// Where an annotation means something.
struct Known {
    name: &'static str,
    on: On,
    /// For these actions; none: for all.
    actions: &'static [Action],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    Permit,
    Forbid,
    Both,
}

const ENTRY: &[Action] = &[Action::Request, Action::Issue];
const PROVEN: &[Action] = &[
    Action::Request,
    Action::Issue,
    Action::Approve,
    Action::Replay,
    Action::Revoke,
    Action::Exec,
    Action::Command,
];
const APPROVED: &[Action] = &[Action::Request, Action::Connect, Action::Exec, Action::Command];
const STARTED: &[Action] = &[Action::Shell, Action::Exec];
const RUN: &[Action] = &[Action::Exec, Action::Command];
const SESSION: &[Action] = &[Action::Request, Action::Connect];
const DIGESTED: &[Action] = &[Action::Forward, Action::Exec, Action::Subsystem];
const VAULTED: &[Action] = &[Action::Exec, Action::Subsystem];
const RECORDED: &[Action] = &[
    Action::Request,
    Action::Connect,
    Action::Forward,
    Action::Exec,
    Action::Subsystem,
];

const KNOWN: &[Known] = &[
    known("id", On::Both, &[]),
    known("note", On::Both, &[]),
    known("approvals", On::Permit, APPROVED),
    known("approvers", On::Permit, APPROVED),
    known("answer_within", On::Permit, APPROVED),
    known("max", On::Permit, ENTRY),
    known("single_use", On::Permit, ENTRY),
    known("step_up", On::Permit, PROVEN),
    known("review", On::Permit, SESSION),
    known("record", On::Permit, RECORDED),
    known("warn", On::Permit, SESSION),
    known("end_on_change", On::Both, &[Action::Connect]),
    known("grace", On::Both, &[Action::Connect]),
    known("notify", On::Both, &[]),
    known("hook", On::Permit, &[Action::Shell]),
    known("max_file", On::Permit, &[Action::Transfer]),
    known("hidden_command", On::Permit, STARTED),
    known("notice", On::Permit, RUN),
    known("reason", On::Permit, RUN),
    known("end", On::Forbid, RUN),
];

const fn known(name: &'static str, on: On, actions: &'static [Action]) -> Known {
    Known { name, on, actions }
}

/// What the annotations of one policy say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Annotated {
    pub id: String,
    pub note: Option<String>,
    pub obligations: Obligations,
}

/// Reads the annotations of one policy that is about `actions`.
///
/// # Errors
/// Each thing wrong with them, as sentences.
pub fn read<'a>(
    given: impl Iterator<Item = (&'a str, &'a str)>,
    permits: bool,
    actions: &BTreeSet<Action>,
) -> Result<Annotated, Vec<String>> {
    let mut wrong = Vec::new();
    let mut id = None;
    let mut note = None;
    let mut obligations = Obligations::default();
    for (name, value) in given {
        let read = fits(name, permits, actions).and_then(|()| match name {
            "id" => {
                id = Some(identifier(value)?);
                Ok(())
            }
            "note" => {
                note = Some(text(value)?);
                Ok(())
            }
            "record" => oblige(&mut obligations, name, value).and_then(|()| recorded(value, actions)),
            _ => oblige(&mut obligations, name, value),
        });
        if let Err(why) = read {
            wrong.push(format!("@{name}: {why}"));
        }
    }
    if obligations.grace_ms.is_some() && !obligations.end_on_change {
        wrong.push("@grace: without @end_on_change it does nothing; add that".to_owned());
    }
    if id.is_none() && wrong.is_empty() {
        wrong.push("the policy has no name; begin it with @id(\"…\"): decisions are told by it".to_owned());
    }
    match id {
        Some(id) if wrong.is_empty() => Ok(Annotated { id, note, obligations }),
        _ => Err(wrong),
    }
}

/// What these annotations demand, whatever they stand on.
///
/// # Errors
/// The first that is none, or has a value that is none.
pub fn obligations<'a>(given: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Obligations, String> {
    let mut obligations = Obligations::default();
    for (name, value) in given {
        oblige(&mut obligations, name, value).map_err(|why| format!("@{name}: {why}"))?;
    }
    Ok(obligations)
}

/// Whether the annotation means something where it stands.
fn fits(name: &str, permits: bool, actions: &BTreeSet<Action>) -> Result<(), String> {
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
        let names = || KNOWN.iter().map(|known| known.name);
        return Err(match nearest(name, names()) {
            Some(near) => format!("there is no such annotation; did you mean @{near}?"),
            None => format!(
                "there is no such annotation: {}",
                names().collect::<Vec<_>>().join(", ")
            ),
        });
    };
    match known.on {
        On::Permit if !permits => {
            return Err("on a forbid it does nothing; put it on the permit that it is to bind".to_owned());
        }
        On::Forbid if permits => {
            return Err("on a permit it does nothing; put it on the forbid that it is to sharpen".to_owned());
        }
        On::Permit | On::Forbid | On::Both => {}
    }
    if !known.actions.is_empty() && !known.actions.iter().any(|action| actions.contains(action)) {
        let names: Vec<&str> = known.actions.iter().map(|action| action.as_str()).collect();
        return Err(format!(
            "it does nothing for these actions, only for {}",
            names.join(", ")
        ));
    }
    Ok(())
}

/// Whether something the policy is about can be recorded in this way.
fn recorded(value: &str, actions: &BTreeSet<Action>) -> Result<(), String> {
    let of = match value {
        "digest" => DIGESTED,
        "vault" => VAULTED,
        "full" => RECORDED,
        _ => SESSION,
    };
    match of.iter().any(|action| actions.contains(action)) {
        true => Ok(()),
        false => {
            let names: Vec<&str> = of.iter().map(|action| action.as_str()).collect();
            Err(format!(
                "`{value}` does nothing for these actions, only for {}",
                names.join(", ")
            ))
        }
    }
}

fn oblige(to: &mut Obligations, name: &str, value: &str) -> Result<(), String> {
    match name {
        "approvals" => {
            let most = u32::try_from(ANSWERS_MAX).unwrap_or(u32::MAX);
            let count: u32 = value
                .parse()
                .map_err(|_| format!("`{value}` is not a number of people"))?;
            if count > most {
                return Err(format!("{count} is more than {most}"));
            }
            to.approvals = count;
        }
        "approvers" => {
            to.approvers = list(value, |name| {
                name.parse::<GroupName>().map_err(|error| error.to_string())
            })?;
        }
        "answer_within" => to.answer_ms = Some(duration::ms(value)?),
        "max" => to.max_ms = Some(duration::ms(value)?),
        "step_up" => to.step_up_ms = Some(duration::ms(value)?),
        "grace" => to.grace_ms = Some(duration::ms(value)?),
        "warn" => to.warn_ms = list(value, duration::ms)?,
        "record" => {
            // Who demands more of the session demands all of what it carries.
            (to.record, to.kept) = match value {
                "digest" => (RecordMode::Full, Some(Kept::Digest)),
                "vault" => (RecordMode::Full, Some(Kept::Vault)),
                "full" => (RecordMode::Full, Some(Kept::Full)),
                "durable" => (RecordMode::Durable, Some(Kept::Full)),
                "encrypted" => (RecordMode::Encrypted, Some(Kept::Full)),
                _ => {
                    return Err(format!(
                        "`{value}` is no way to record: digest, vault, full, durable or encrypted"
                    ));
                }
            };
        }
        "review" => to.review = switch(value)?,
        "single_use" => to.single_use = switch(value)?,
        "end_on_change" => to.end_on_change = switch(value)?,
        "notify" => to.notify = switch(value)?,
        "hook" => to.hook = switch(value)?,
        "max_file" => to.max_file_bytes = Some(amount::bytes(value)?),
        "hidden_command" => {
            to.hidden_command = Some(match value {
                "notice" => OnHidden::Notice,
                "end" => OnHidden::End,
                _ => return Err(format!("`{value}` is not what can come of it: notice or end")),
            });
        }
        "notice" => to.notice = [line(value)?].into(),
        "reason" => to.reason = [line(value)?].into(),
        "end" => to.end = switch(value)?,
        _ => return Err("it demands nothing".to_owned()),
    }
    Ok(())
}

/// An annotation that is there or not.
fn switch(value: &str) -> Result<bool, String> {
    match value {
        "" => Ok(true),
        _ => Err(format!(
            "it takes no value, and `{value}` is one; leave the policy without it to switch it off"
        )),
    }
}

fn list<T: Ord>(value: &str, item: impl Fn(&str) -> Result<T, String>) -> Result<BTreeSet<T>, String> {
    let items = value
        .split(',')
        .map(|text| item(text.trim()))
        .collect::<Result<BTreeSet<T>, String>>()?;
    match items.len() > LIST_MAX {
        true => Err(format!("more than {LIST_MAX}")),
        false => Ok(items),
    }
}

fn identifier(value: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    match !value.is_empty() && value.len() <= ID_BYTES_MAX && value.chars().all(plain) {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "letters, digits and -_./ only, 1 to {ID_BYTES_MAX} of them: it stands in log lines and recordings"
        )),
    }
}

/// A text that is shown to somebody at a terminal.
fn line(value: &str) -> Result<String, String> {
    match value.is_empty() {
        true => Err("it says nothing; write in the brackets what is to be shown".to_owned()),
        false => text(value),
    }
}

fn text(value: &str) -> Result<String, String> {
    match value.len() <= NOTE_BYTES_MAX && !value.chars().any(char::is_control) {
        true => Ok(value.to_owned()),
        false => Err(format!(
            "one line of at most {NOTE_BYTES_MAX} bytes, shown to who is refused"
        )),
    }
}
