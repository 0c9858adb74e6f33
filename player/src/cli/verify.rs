//! `verify`: the verdict, first and in one word.

use std::fmt::Write as _;

use clap::Args;
use portcullis_recording::verify::Ranges;

use super::{Keys, Target, finish, put, put_json, stdout};
use crate::channels::not_kept;
use crate::failure::{Exit, Failure};
use crate::report::{Report, Session};

/// `verify FILE`.
#[derive(Args, Debug)]
pub struct Verify {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    keys: Keys,
    /// Also unpack everything and compare counts, times and byte accounts with what was signed
    #[arg(long)]
    content: bool,
}

impl Verify {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let report = self.target.examine(self.content, &self.keys)?.report;
        let mut out = stdout();
        if json {
            put_json(&mut out, &report)?;
        } else {
            put(&mut out, words(&report).trim_end())?;
        }
        finish(out)?;
        Ok(exit_of(&report))
    }
}

/// The exit code of a report.
pub fn exit_of(report: &Report) -> Exit {
    [
        Exit::Ok,
        Exit::Invalid,
        Exit::Recovered,
        Exit::Prefix,
        Exit::Redacted,
        Exit::Unproved,
    ]
    .into_iter()
    .find(|exit| exit.code() == report.exit)
    .unwrap_or(Exit::Failed)
}

/// The report in words.
pub fn words(report: &Report) -> String {
    let mut out = format!("{}\n", report.verdict);
    let mut row = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        writeln!(out, "  {name:<10} {value}").ok();
    };
    for missing in &report.missing {
        row("missing", missing);
    }
    for signer in &report.signers {
        let until = signer.until.as_deref().unwrap_or("further notice");
        row(
            "signed by",
            &format!("{} ({}), key {}", signer.node, signer.signed, signer.key),
        );
        row("", &format!("valid from {} until {until}", signer.from));
        if let Some(revoked) = &signer.revoked {
            row(
                "",
                &format!("revoked since {revoked}; the ledger proof shows that this is older"),
            );
        }
    }
    if report.signers.is_empty() && report.session.is_some() {
        row(
            "signed by",
            "nobody who is trusted; what follows is the file's own word",
        );
    }
    if let Some(redaction) = &report.redaction {
        let (at, chunks, marks) = (&redaction.at, Ranges(&redaction.chunks), redaction.marks);
        row(
            "redacted",
            &format!("by {} at {at}, {chunks}, {marks} marks", redaction.by),
        );
        row("", &redaction.reason);
    }
    if let Some(session) = &report.session {
        session_rows(session, report.word, &mut row);
    }
    if let Some(c) = &report.content {
        let (chunks, events) = (c.chunks, c.events);
        row(
            "content",
            &format!(
                "{chunks} chunks, {events} events, {} bytes, {} stored",
                c.raw_bytes, c.stored_bytes
            ),
        );
    }
    for a in &report.accounts {
        row(
            "",
            &format!(
                "channel {}: {} bytes to the target, {} and {} (stderr) to the client",
                a.channel, a.to_target, a.to_client_out, a.to_client_err
            ),
        );
        if let [up, down] = a.digested
            && up.saturating_add(down) > 0
        {
            row("", &not_kept(up, down));
        }
    }
    if let Some(e) = &report.encryption {
        row("", &e.words());
        if let Some(why) = &e.locked {
            row("", why);
        }
    }
    if let Some(package) = &report.package {
        row(
            "package",
            &format!(
                "{} files, as exported by {} at {} (leaf {})",
                package.files, package.by, package.exported, package.leaf
            ),
        );
        row("", &format!("because: {}", package.reason));
        let certificate = match package.certificate {
            true => "the certificate is the one that the recording names",
            false => "without the certificate",
        };
        row("", certificate);
        for leaf in &package.leaves {
            row(
                "",
                &format!("leaf {} at {}, {}: {}", leaf.index, leaf.at, leaf.kind, leaf.text),
            );
        }
    }
    if let Some(p) = &report.ledger {
        row("ledger", &format!("{}, leaf {} of {}", p.origin, p.index, p.tree_size));
        for c in &p.cosignatures {
            row("", &format!("cosigned by {} at {}", c.witness, c.at));
        }
        if p.cosignatures.is_empty() {
            row("", "cosigned by nobody");
        }
    }
    out
}

fn session_rows(session: &Session, word: &str, row: &mut impl FnMut(&str, &str)) {
    row("session", &session.id);
    row("node", &session.node);
    row("identity", &format!("{} from {}", session.identity, session.source));
    row("target", &format!("{}@{}", session.login, session.target));
    row("grant", &format!("{} until {}", session.grant, session.grant_until));
    row("opened", &session.opened);
    if matches!(word, "SEALED" | "RECOVERED" | "REDACTED" | "PREFIX") {
        let (name, secs) = if word == "PREFIX" {
            ("last event", "so far")
        } else {
            ("closed", "long")
        };
        let length = crate::times::exact(session.length_ms);
        row(name, &format!("{} ({length} {secs})", session.closed));
    }
    if let (Some(code), Some(reason)) = (&session.reason_code, &session.reason) {
        row("reason", format!("{code}: {reason}").trim_end_matches([':', ' ']));
    }
}
