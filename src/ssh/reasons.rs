//! Why a command by itself is run: told before it, in a variable, as a script cannot be asked.

use std::sync::PoisonError;

use portcullis_recording::Event;

use super::channel::Channel;
use super::session::Live;
use crate::kernel::enter::REASON_BYTES_MAX;
use crate::kernel::policy::{DEMAND_NOT_MET, Denial, Permit};

/// The variable (RFC 4254 section 6.4). It goes to no target.
pub const VARIABLE: &str = "PORTCULLIS_REASON";

/// Takes its value; whether that can be a reason: one line of at most [`REASON_BYTES_MAX`].
pub fn told(live: &Live, channel: &Channel, value: &str) -> bool {
    let text = value.trim();
    let fits = !text.is_empty() && text.len() <= REASON_BYTES_MAX && !text.chars().any(char::is_control);
    if fits {
        let said = format!("reason for what follows, told before it: {text}");
        live.record(channel.number, Event::Marker { text: said.into() });
        *channel.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }
    fits
}

/// A reason that a rule asks for, if one does.
pub struct Given(Option<String>);

impl Given {
    /// The command goes on: what it is run for is recorded.
    pub fn note(self, live: &Live, channel: &Channel) {
        if let Some(text) = self.0 {
            live.record(channel.number, Event::Marker { text: text.into() });
        }
    }
}

/// The reason that a permit of a command asks for.
///
/// # Errors
/// There is none, and nobody can be asked any more.
pub fn given(live: &Live, channel: &Channel, permit: &Permit) -> Result<Given, Denial> {
    let asked = &permit.obligations().reason;
    if asked.is_empty() {
        return Ok(Given(None));
    }
    let policies = live.gate.policies();
    let rule = policies.demanding(permit.rules()).unwrap_or(permit.rule());
    let reason = channel.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(reason) = reason {
        return Ok(Given(Some(format!(
            "reason for the command, asked for by rule {rule}: {reason}"
        ))));
    }
    let asked = asked.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    Err(Denial {
        rule: rule.to_owned(),
        code: DEMAND_NOT_MET,
        sentence: format!("it asks: {asked} Say it with {VARIABLE}='…' ssh -o SendEnv={VARIABLE} …"),
        notify: false,
        end: false,
    })
}
