//! What identities do, and what was unusual about it.

use super::super::{AnomalyRow, IdentityName, SessionId, StoreError, Use, UseRow, WallMs};
use super::link::{Link, Row, history, values};

/// The greatest sum that the databases can keep.
const SUM_MAX: u64 = i64::MAX as u64;

fn habit(row: &Row) -> Result<UseRow, StoreError> {
    Ok(UseRow {
        identity: row.parsed("identity")?,
        facet: row.text("facet")?,
        value: row.text("value")?,
        first_ms: row.number("first_ms")?,
        last_ms: row.number("last_ms")?,
        count: row.number("times")?,
        sum: row.number("amount")?,
        most: row.number("most")?,
    })
}

pub(super) async fn note(link: &mut Link, uses: &[Use]) -> Result<(), StoreError> {
    for one in uses {
        note_one(link, one).await?;
    }
    Ok(())
}

async fn note_one(link: &mut Link, one: &Use) -> Result<(), StoreError> {
    let (identity, facet, value) = (one.identity.as_str(), one.facet, one.value.as_str());
    let row = link
        .row(
            "SELECT * FROM habit WHERE identity = $1 AND facet = $2 AND value = $3",
            values![identity, facet, value],
        )
        .await?;
    let amount = one.amount.min(SUM_MAX);
    match row.as_ref().map(habit).transpose()? {
        None => {
            link.run(
                "INSERT INTO habit (identity, facet, value, first_ms, last_ms, times, amount, most)
                 VALUES ($1, $2, $3, $4, $4, 1, $5, $5)",
                values![identity, facet, value, one.at_ms, amount],
            )
            .await
        }
        Some(known) => {
            link.run(
                "UPDATE habit SET last_ms = $4, times = $5, amount = $6, most = $7
                 WHERE identity = $1 AND facet = $2 AND value = $3",
                values![
                    identity,
                    facet,
                    value,
                    known.last_ms.max(one.at_ms),
                    known.count.saturating_add(1),
                    known.sum.saturating_add(amount).min(SUM_MAX),
                    known.most.max(amount),
                ],
            )
            .await
        }
    }
    .map(drop)
}

pub(super) async fn all(link: &mut Link, identity: Option<&IdentityName>) -> Result<Vec<UseRow>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM habit WHERE $1 IS NULL OR identity = $1
             ORDER BY last_ms DESC, identity, facet, value LIMIT $2",
            values![identity.map(|name| name.as_str()), history()],
        )
        .await?;
    rows.iter().map(habit).collect()
}

pub(super) async fn add_anomaly(link: &mut Link, anomaly: &AnomalyRow) -> Result<(), StoreError> {
    link.run(
        "INSERT INTO anomaly (at_ms, identity, session, kind, detail, risk) VALUES ($1, $2, $3, $4, $5, $6)",
        values![
            anomaly.at_ms,
            anomaly.identity.as_str(),
            anomaly.session.map(|id| id.to_string()),
            &anomaly.kind,
            &anomaly.detail,
            anomaly.risk,
        ],
    )
    .await
    .map(drop)
}

pub(super) async fn anomalies(
    link: &mut Link,
    since: WallMs,
    session: Option<SessionId>,
    limit: u32,
) -> Result<Vec<AnomalyRow>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM anomaly WHERE at_ms >= $1 AND ($2 IS NULL OR session = $2)
             ORDER BY at_ms DESC, id DESC LIMIT $3",
            values![
                since,
                session.map(|session| session.to_string()),
                u64::from(limit).min(history())
            ],
        )
        .await?;
    let anomaly = |row: &Row| {
        Ok(AnomalyRow {
            at_ms: row.number("at_ms")?,
            identity: row.parsed("identity")?,
            session: row.maybe_parsed("session")?,
            kind: row.text("kind")?,
            detail: row.text("detail")?,
            risk: row.small("risk")?,
        })
    };
    rows.iter().map(anomaly).collect()
}
