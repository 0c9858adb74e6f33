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

/// Whether the reason is there that a permit of a command asks for; it is recorded which rule did.
///
/// # Errors
/// It is not, and nobody can be asked any more.
pub fn given(live: &Live, channel: &Channel, permit: &Permit) -> Result<(), Denial> {
    let Some(asked) = permit.obligations().reason.first() else {
        return Ok(());
    };
    let policies = live.gate.policies();
    let rule = policies.demanding(permit.rules()).unwrap_or(permit.rule());
    let reason = channel.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some(reason) = reason {
        let text = format!("reason for the command, asked for by rule {rule}: {reason}");
        live.record(channel.number, Event::Marker { text: text.into() });
        return Ok(());
    }
    Err(Denial {
        rule: rule.to_owned(),
        code: DEMAND_NOT_MET,
        sentence: format!("it asks: {asked} Say it with {VARIABLE}='…' ssh -o SendEnv={VARIABLE} …"),
        notify: false,
        end: false,
    })
}
