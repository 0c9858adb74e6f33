//! `prove`: the ledger proof, and what it proves.

use clap::Args;
use serde::Serialize;

use super::{Keys, Target, finish, put, put_json, stdout};
use crate::failure::{Exit, Failure};
use crate::plain;
use crate::report::Position;
use crate::verdict::SCHEMA;

/// `prove FILE`.
#[derive(Args, Debug)]
pub struct Prove {
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Serialize)]
struct Proof {
    schema: u32,
    verdict: String,
    proved: bool,
    statement: String,
    ledger: Option<Position>,
    /// The sidecar, for a second verifier.
    proof: Option<String>,
}

impl Prove {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let examined = self.target.examine(false, &Keys::default())?;
        let report = examined.report;
        let file = match report.redaction {
            Some(_) => "the original of this redacted copy",
            None => "in this file",
        };
        let statement = match (&report.ledger, &report.session) {
            (Some(at), Some(session)) => format!(
                "The ledger {} holds, as leaf {} of {}, that session {} of {} on {}@{}, opened {}, was sealed as {file}. \
                 {} witnesses have signed that they saw that ledger.",
                at.origin,
                at.index,
                at.tree_size,
                session.id,
                session.identity,
                session.login,
                session.target,
                session.opened,
                at.cosignatures.len()
            ),
            _ => format!("Nothing is proved. Missing: {}", or_none(&report.missing.join("; "))),
        };
        let proof = Proof {
            schema: SCHEMA,
            verdict: report.verdict.clone(),
            proved: report.ledger.is_some(),
            statement,
            ledger: report.ledger,
            proof: examined.proof,
        };
        let mut out = stdout();
        if json {
            put_json(&mut out, &proof)?;
        } else {
            put(&mut out, &proof.verdict)?;
            put(&mut out, &proof.statement)?;
            for c in proof.ledger.iter().flat_map(|at| &at.cosignatures) {
                put(&mut out, &format!("  cosigned by {} at {}", c.witness, c.at))?;
            }
            if let Some(text) = &proof.proof {
                put(&mut out, "")?;
                text.lines().try_for_each(|line| put(&mut out, &plain::line(line)))?;
            }
        }
        finish(out)?;
        Ok(match (proof.proved, report.exit) {
            (true, _) => Exit::Ok,
            (false, code) if code == Exit::Invalid.code() => Exit::Invalid,
            (false, _) => Exit::Unproved,
        })
    }
}

fn or_none(text: &str) -> &str {
    if text.is_empty() {
        "a recording that holds"
    } else {
        text
    }
}
