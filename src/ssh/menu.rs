//! What somebody sees who opens a shell on an outer connection: where he may
//! go, and the line that takes him there.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use russh::ChannelId;
use russh::server::{Handle, Session};

use super::channel::Start;
use super::jump::Outer;
use super::opening::bounded;
use crate::kernel::grant::{Grant, WallMs};
use crate::kernel::id::Destination;

/// Where an error message goes (RFC 4254 section 5.2).
const STDERR: u32 = 1;
/// OpenSSH drops what it has not shown when its request fails.
const SHOWN: Duration = Duration::from_millis(30);
/// How long a client may take to read it.
const TELL: Duration = Duration::from_secs(10);
/// Grants that are listed.
const LINES_MAX: usize = 64;

/// What is said, and how it ends.
struct Said {
    text: String,
    ok: bool,
}

/// Something is started on a channel of an outer connection; whether it is.
/// A shell shows the way, and nothing else starts there.
pub fn start(outer: &Arc<Outer>, id: ChannelId, start: &Start, session: &mut Session) -> Option<bool> {
    if !outer.starts(id) {
        return Some(false);
    }
    let (outer, client) = (outer.clone(), session.handle());
    match start {
        Start::Shell => {
            tokio::spawn(show(outer, id, client));
            Some(true)
        }
        Start::Exec(_) | Start::Subsystem(_) => {
            tokio::spawn(refuse(outer, id, client));
            None
        }
    }
}

/// Says where the holder may go, then ends the channel.
async fn show(outer: Arc<Outer>, id: ChannelId, client: Handle) {
    let said = where_to(&outer).await;
    let text = said.text.replace('\n', "\r\n").into_bytes();
    let status = if said.ok { 0 } else { 1 };
    let saying = async {
        client.data(id, text).await.ok();
        client.exit_status_request(id, status).await.ok();
        client.eof(id).await.ok();
        client.close(id).await.ok();
    };
    outer.kill().guard(tokio::time::timeout(TELL, saying)).await;
}

/// Says why nothing starts, then that it does not.
async fn refuse(outer: Arc<Outer>, id: ChannelId, client: Handle) {
    let host = &outer.gate().settings().jump_host;
    let text = format!("portcullis: nothing runs on the bastion itself: ssh -J {host} LOGIN@TARGET\n");
    let saying = async {
        client.extended_data(id, STDERR, text.into_bytes()).await.ok();
        tokio::time::sleep(SHOWN).await;
        client.channel_failure(id).await.ok();
        client.close(id).await.ok();
    };
    outer.kill().guard(tokio::time::timeout(TELL, saying)).await;
}

async fn where_to(outer: &Outer) -> Said {
    let gate = outer.gate();
    let now = gate.clock.now().wall_ms;
    let who = outer.passage().identity();
    let mut until: BTreeMap<Destination, WallMs> = BTreeMap::new();
    match outer.passage().break_glass() {
        Some(signed) => {
            let statement = signed.statement();
            until.extend(
                statement
                    .doors
                    .iter()
                    .map(|door| (door.destination(), statement.until_ms)),
            );
        }
        None => {
            let Ok(grants) = bounded(gate.store.grants_of(who, now)).await else {
                return Said {
                    text: "portcullis: grants cannot be looked up right now; try again\n".into(),
                    ok: false,
                };
            };
            let usable = |grant: &&Grant| grant.live(now).is_ok() && grant.admits_from(outer.peer());
            for grant in grants.iter().filter(usable) {
                let end = until.entry(grant.destination.clone()).or_insert(grant.until_ms);
                *end = grant.until_ms.max(*end);
            }
        }
    }
    Said {
        text: listing(who.as_str(), &gate.settings().jump_host, &until, now),
        ok: true,
    }
}

fn listing(who: &str, host: &str, until: &BTreeMap<Destination, WallMs>, now: WallMs) -> String {
    let mut text = format!("portcullis: {who}, this is a bastion; it carries you to:\n");
    for (destination, end) in until.iter().take(LINES_MAX) {
        let minutes = end.saturating_sub(now).div_ceil(60_000);
        writeln!(text, "  ssh -J {host} {destination}    for {minutes} more min").ok();
    }
    if until.len() > LINES_MAX {
        writeln!(text, "  and {} more: portcullis grants", until.len() - LINES_MAX).ok();
    }
    if until.is_empty() {
        writeln!(text, "  nothing right now").ok();
    }
    text.push_str("for more: portcullis request LOGIN@TARGET --for 30m --reason WHY\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_has_its_line() {
        let until = BTreeMap::from([("root@db1".parse().unwrap(), 90_000)]);
        assert_eq!(
            listing("alice", "bastion", &until, 0),
            "portcullis: alice, this is a bastion; it carries you to:\n  \
             ssh -J bastion root@db1    for 2 more min\n\
             for more: portcullis request LOGIN@TARGET --for 30m --reason WHY\n"
        );
        assert!(listing("alice", "bastion", &BTreeMap::new(), 0).contains("nothing right now"));
        let many: BTreeMap<Destination, u64> = (0..LINES_MAX + 2)
            .map(|n| (format!("root@db{n}").parse().unwrap(), 1))
            .collect();
        assert!(listing("alice", "bastion", &many, 0).contains("and 2 more"));
    }
}
