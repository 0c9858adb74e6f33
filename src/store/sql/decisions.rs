//! Decisions: what was asked, what policy said, and by which rules.

use super::super::{DecisionRow, StoreError, WallMs};
use super::link::{Link, Row, history, json, values};

/// How long a decision is kept, in ms (90 days): what `policy backtest` looks at.
pub const KEPT_MS: WallMs = 90 * 24 * 60 * 60 * 1000;

pub(super) async fn note(link: &mut Link, decision: &DecisionRow) -> Result<(), StoreError> {
    let since = decision.at_ms.saturating_sub(KEPT_MS);
    link.run("DELETE FROM decision WHERE at_ms < $1", values![since])
        .await?;
    link.run(
        "INSERT INTO decision (at_ms, facts, allowed, rules, policy_digest) VALUES ($1, $2, $3, $4, $5)",
        values![
            decision.at_ms,
            json(&decision.facts)?,
            decision.allowed,
            json(&decision.rules)?,
            &decision.policy_digest,
        ],
    )
    .await
    .map(drop)
}

pub(super) async fn all(link: &mut Link, since: WallMs, limit: u32) -> Result<Vec<DecisionRow>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM decision WHERE at_ms >= $1 ORDER BY at_ms DESC, id DESC LIMIT $2",
            values![since, u64::from(limit).min(history())],
        )
        .await?;
    let decision = |row: &Row| {
        Ok(DecisionRow {
            at_ms: row.number("at_ms")?,
            facts: row.json("facts")?,
            allowed: row.flag("allowed")?,
            rules: row.json("rules")?,
            policy_digest: row.text("policy_digest")?,
        })
    };
    rows.iter().map(decision).collect()
}
