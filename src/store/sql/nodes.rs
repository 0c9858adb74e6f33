//! What each node keeps here for itself: its lease and its ledger's checkpoint.

use super::super::{AnchorRow, NodeName, StoreError, WallMs};
use super::link::{Link, values};

pub(super) async fn renew_lease(
    link: &mut Link,
    node: &NodeName,
    now: WallMs,
    until: WallMs,
) -> Result<(), StoreError> {
    link.run(
        "INSERT INTO lease (node, renewed_ms, until_ms) VALUES ($1, $2, $3)
         ON CONFLICT (node) DO UPDATE SET renewed_ms = excluded.renewed_ms, until_ms = excluded.until_ms",
        values![node.as_str(), now, until],
    )
    .await
    .map(drop)
}

pub(super) async fn keep_anchor(link: &mut Link, anchor: &AnchorRow) -> Result<(), StoreError> {
    let kept = link
        .run(
            "INSERT INTO anchor (origin, size, root, note, kept_ms) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (origin) DO UPDATE
             SET size = excluded.size, root = excluded.root, note = excluded.note, kept_ms = excluded.kept_ms
             WHERE excluded.size > anchor.size OR (excluded.size = anchor.size AND excluded.root = anchor.root)",
            values![&anchor.origin, anchor.size, anchor.root, &anchor.note, anchor.kept_ms],
        )
        .await?;
    match kept {
        0 => Err(StoreError::Exists(format!(
            "a checkpoint of the ledger {} that one of {} leaves would take back",
            anchor.origin, anchor.size
        ))),
        _ => Ok(()),
    }
}

pub(super) async fn anchor(link: &mut Link, origin: &str) -> Result<Option<AnchorRow>, StoreError> {
    let row = link
        .row("SELECT * FROM anchor WHERE origin = $1", values![origin])
        .await?;
    row.map(|row| {
        Ok(AnchorRow {
            origin: row.text("origin")?,
            size: row.number("size")?,
            root: row.bytes32("root")?,
            note: row.text("note")?,
            kept_ms: row.number("kept_ms")?,
        })
    })
    .transpose()
}
