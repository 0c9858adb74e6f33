//! Hits held against their recordings: what is shown is what the verified
//! recording says, as far as time allows.

use std::collections::BTreeMap;

use portcullis_player::entry::{Entries, Entry, Kind};
use portcullis_recording::Head;

use super::Hit;
use super::read::{Opened, Places, open};
use crate::clock::Clock;
use crate::kernel::id::SessionId;

/// Longest that the hits of one answer are held against recordings, in ms.
const CONFIRM_MS_MAX: u64 = 1_500;
/// Largest recording that is read for it, in bytes: a larger one takes longer
/// than that.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Events between two looks at the clock.
const EVENTS_BETWEEN: u32 = 1_024;

/// What stands behind a hit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checked {
    /// The verified recording says the same.
    Recording,
    /// Only the index: there was no time, or the recording cannot be read here.
    Index,
    /// The recording does not verify, or does not say that.
    Differs,
}

/// Looks each hit up in its recording; in the order of the hits. Works on
/// files: not within the server's own tasks.
pub fn confirm(hits: &[Hit], places: &Places, clock: &Clock) -> Vec<Checked> {
    let until = clock.now().boot_ms.saturating_add(CONFIRM_MS_MAX);
    let mut by_session: BTreeMap<SessionId, Vec<usize>> = BTreeMap::new();
    for (at, hit) in hits.iter().enumerate() {
        by_session.entry(hit.session).or_default().push(at);
    }
    let mut checked = vec![Checked::Index; hits.len()];
    for (session, some) in by_session {
        let wanted: Vec<&Hit> = some.iter().filter_map(|at| hits.get(*at)).collect();
        let found = one(session, &wanted, places, &|| clock.now().boot_ms >= until);
        for (at, found) in some.into_iter().zip(found) {
            if let Some(place) = checked.get_mut(at) {
                *place = found;
            }
        }
    }
    checked
}

/// Those of one recording.
fn one(session: SessionId, wanted: &[&Hit], places: &Places, late: &dyn Fn() -> bool) -> Vec<Checked> {
    let none = || vec![Checked::Index; wanted.len()];
    let file = places
        .archive
        .join(portcullis_recording::spool::recording_file(&session.0));
    match std::fs::metadata(&file) {
        Ok(meta) if meta.len() <= FILE_BYTES_MAX && !late() => {}
        Ok(_) | Err(_) => return none(),
    }
    match open(&file, &places.trust) {
        Ok(opened) if opened.head.session_id == session.0 => read_again(opened, wanted, late),
        Ok(_) => vec![Checked::Differs; wanted.len()],
        Err(super::read::Unread::Locked(_)) => none(),
        Err(super::read::Unread::Bad(_)) => vec![Checked::Differs; wanted.len()],
    }
}

/// Who, where and when, as the head of the recording has it.
fn is_of(hit: &Hit, head: &Head) -> bool {
    let said = (&hit.identity, &hit.login, &hit.target, hit.opened_ms);
    said == (&head.identity, &head.login, &head.target, head.opened_wall_ms)
}

fn read_again(mut opened: Opened, wanted: &[&Hit], late: &dyn Fn() -> bool) -> Vec<Checked> {
    let screens = wanted.iter().any(|hit| hit.entry.kind == Kind::Screen);
    let mut checked: Vec<Checked> = wanted
        .iter()
        .map(|hit| match hit.entry.kind {
            // A session's own words hold what the store knows as well.
            Kind::Session if is_of(hit, &opened.head) => Checked::Index,
            Kind::Session | Kind::Command | Kind::File | Kind::Screen => Checked::Differs,
        })
        .collect();
    let others: Vec<bool> = wanted.iter().map(|hit| !is_of(hit, &opened.head)).collect();
    let mut mark = |entry: Entry| {
        for ((wanted, other), checked) in wanted.iter().zip(&others).zip(checked.iter_mut()) {
            if wanted.entry == entry && !other && entry.kind != Kind::Session {
                *checked = Checked::Recording;
            }
        }
    };
    let mut reading = Entries::new(screens);
    let mut events = 0u32;
    let ended = loop {
        events = events.wrapping_add(1);
        if events.is_multiple_of(EVENTS_BETWEEN) && late() {
            break false;
        }
        match opened.cursor.next_event() {
            Ok(Some(timed)) => reading.take(&timed, &mut mark),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    if ended {
        reading.finish(&opened.head, "", &mut mark);
        return checked;
    }
    // What was not come to is not known to differ.
    let unknown = |(checked, other): (Checked, bool)| match checked {
        Checked::Differs if !other => Checked::Index,
        Checked::Differs | Checked::Recording | Checked::Index => checked,
    };
    checked.into_iter().zip(others).map(unknown).collect()
}
