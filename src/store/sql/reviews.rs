//! Reviews: looks back at sessions by somebody else.

use super::super::{ReviewId, ReviewRow, StoreError, WallMs};
use super::link::{Link, Row, history, values};
use crate::kernel::access::AnswerRefused;

fn review(row: &Row) -> Result<ReviewRow, StoreError> {
    Ok(ReviewRow {
        id: row.parsed("id")?,
        session: row.maybe_parsed("session")?,
        identity: row.parsed("identity")?,
        destination: row.destination()?,
        kind: row.text("kind")?,
        why: row.text("why")?,
        opened_ms: row.number("opened_ms")?,
        closed_ms: row.maybe_number("closed_ms")?,
        closed_by: row.maybe_text("closed_by")?,
        note: row.maybe_text("note")?,
    })
}

pub(super) async fn open(link: &mut Link, review: &ReviewRow) -> Result<(), StoreError> {
    let values = values![
        review.id.to_string(),
        review.session.map(|id| id.to_string()),
        review.identity.as_str(),
        review.destination.login.as_str(),
        review.destination.target.as_str(),
        &review.kind,
        &review.why,
        review.opened_ms,
        review.closed_ms,
        review.closed_by.as_deref(),
        review.note.as_deref(),
    ];
    link.insert(
        "INSERT INTO review (id, session, identity, login, target, kind, why, opened_ms, closed_ms, closed_by, note)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        values,
        || format!("review {}", review.id),
    )
    .await
}

pub(super) async fn all(link: &mut Link, open_only: bool) -> Result<Vec<ReviewRow>, StoreError> {
    let rows = match open_only {
        true => {
            link.rows(
                "SELECT * FROM review WHERE closed_ms IS NULL ORDER BY opened_ms DESC, id DESC",
                values![],
            )
            .await?
        }
        false => {
            link.rows(
                "SELECT * FROM review ORDER BY opened_ms DESC, id DESC LIMIT $1",
                values![history()],
            )
            .await?
        }
    };
    rows.iter().map(review).collect()
}

pub(super) async fn close(
    link: &mut Link,
    id: ReviewId,
    by: &str,
    note: &str,
    now: WallMs,
) -> Result<ReviewRow, StoreError> {
    let row = link
        .row("SELECT * FROM review WHERE id = $1", values![id.to_string()])
        .await?;
    let row = row.as_ref().map(review).transpose()?;
    let mut row = row.ok_or_else(|| StoreError::NotFound(format!("review {id}")))?;
    if row.closed_ms.is_some() {
        return Err(StoreError::Exists(format!("an end of review {id}")));
    }
    if row.identity.as_str() == by {
        return Err(AnswerRefused::OwnRequest.into());
    }
    link.run(
        "UPDATE review SET closed_ms = $2, closed_by = $3, note = $4 WHERE id = $1",
        values![id.to_string(), now, by, note],
    )
    .await?;
    row.closed_ms = Some(now);
    row.closed_by = Some(by.to_owned());
    row.note = Some(note.to_owned());
    Ok(row)
}
