//! What may happen once: claims, and calls that carry an idempotency key.

use super::super::{Remembered, StoreError, WallMs};
use super::link::{Link, values};

/// The latest time that the databases can keep, in ms.
const FOREVER: WallMs = i64::MAX as u64;

pub(super) async fn claim(
    link: &mut Link,
    kind: &str,
    id: &str,
    now: WallMs,
    until: WallMs,
) -> Result<bool, StoreError> {
    link.run(
        "DELETE FROM claim WHERE until_ms <= $1 AND until_ms < $2",
        values![now, FOREVER],
    )
    .await?;
    let taken = link
        .run(
            "INSERT INTO claim (kind, id, until_ms) VALUES ($1, $2, $3) ON CONFLICT (kind, id) DO NOTHING",
            values![kind, id, until.min(FOREVER)],
        )
        .await?;
    Ok(taken == 1)
}

pub(super) async fn remember(
    link: &mut Link,
    key: [u8; 32],
    call: [u8; 32],
    now: WallMs,
    until: WallMs,
) -> Result<Remembered, StoreError> {
    link.run("DELETE FROM idempotency WHERE until_ms <= $1", values![now])
        .await?;
    let known = link
        .row("SELECT * FROM idempotency WHERE key_sha256 = $1", values![key])
        .await?;
    let Some(row) = known else {
        link.run(
            "INSERT INTO idempotency (key_sha256, call_sha256, until_ms) VALUES ($1, $2, $3)",
            values![key, call, until],
        )
        .await?;
        return Ok(Remembered::New);
    };
    if row.bytes32("call_sha256")? != call {
        return Ok(Remembered::Other);
    }
    Ok(match row.maybe_bytes("body")? {
        Some(body) => Remembered::Answered(row.small("status")?, body),
        None => Remembered::Running,
    })
}

pub(super) async fn keep_answer(
    link: &mut Link,
    key: [u8; 32],
    answer: Option<(u16, &[u8])>,
) -> Result<(), StoreError> {
    match answer {
        None => {
            link.run(
                "DELETE FROM idempotency WHERE key_sha256 = $1 AND status IS NULL",
                values![key],
            )
            .await?;
        }
        Some((status, body)) => {
            let kept = link
                .run(
                    "UPDATE idempotency SET status = coalesce(status, $2), body = coalesce(body, $3)
                     WHERE key_sha256 = $1",
                    values![key, status, body],
                )
                .await?;
            if kept == 0 {
                return Err(StoreError::NotFound("the idempotency key of the call".into()));
            }
        }
    }
    Ok(())
}
