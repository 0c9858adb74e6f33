//! Requests for access, the answers to them, and the collecting of what was
//! approved.

use super::super::{Approval, Grant, Page, RequestFilter, RequestId, RequestRow, RequestState, StoreError, WallMs};
use super::link::{Link, Row, json, page_rows, values};
use super::{grants, grants::not_live};
use crate::kernel::grant::NotLive;

/// An approved request whose window has passed.
const OVER: &str = "over";

fn request(row: &Row) -> Result<RequestRow, StoreError> {
    let window = match (row.maybe_number("from_ms")?, row.maybe_number("until_ms")?) {
        (Some(from), Some(until)) => Some((from, until)),
        (None, _) | (_, None) => None,
    };
    Ok(RequestRow {
        request: row.json("body")?,
        facts: row.json("facts")?,
        state: row.parsed("state")?,
        answers: row.json("answers")?,
        window,
        grant: row.maybe_parsed("grant_id")?,
        closed_ms: row.maybe_number("closed_ms")?,
    })
}

pub(super) async fn add(link: &mut Link, row: &RequestRow) -> Result<(), StoreError> {
    let asked = &row.request;
    let values = values![
        asked.id.to_string(),
        asked.identity.as_str(),
        &asked.requested_by,
        asked.destination.target.as_str(),
        json(&asked.sources)?,
        &asked.reason,
        asked.ticket.as_deref(),
        asked.made_ms,
        json(asked)?,
        json(&row.facts)?,
        json(&row.answers)?,
        row.state.as_str(),
        row.window.map(|(from, _)| from),
        row.window.map(|(_, until)| until),
        row.grant.map(|id| id.to_string()),
        row.closed_ms,
    ];
    link.insert(
        "INSERT INTO request (id, identity, requested_by, target, sources, reason, ticket, made_ms, body, facts,
            answers, state, from_ms, until_ms, grant_id, closed_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        values,
        || format!("request {}", asked.id),
    )
    .await
}

pub(super) async fn find(link: &mut Link, id: RequestId) -> Result<Option<RequestRow>, StoreError> {
    let row = link
        .row("SELECT * FROM request WHERE id = $1", values![id.to_string()])
        .await?;
    row.as_ref().map(request).transpose()
}

async fn known(link: &mut Link, id: RequestId) -> Result<RequestRow, StoreError> {
    let row = find(link, id).await?;
    row.ok_or_else(|| StoreError::NotFound(format!("request {id}")))
}

pub(super) async fn page(link: &mut Link, filter: &RequestFilter, page: &Page) -> Result<Vec<RequestRow>, StoreError> {
    let before = match &page.after {
        None => None,
        Some(after) => {
            let row = link
                .row("SELECT made_ms FROM request WHERE id = $1", values![after])
                .await?;
            let row = row.ok_or_else(|| StoreError::NotFound(format!("request {after}")))?;
            Some(row.number("made_ms")?)
        }
    };
    let rows = link
        .rows(
            "SELECT * FROM request
             WHERE ($1 IS NULL OR state = $1) AND ($2 IS NULL OR identity = $2) AND ($3 IS NULL OR requested_by = $3)
               AND ($4 IS NULL OR made_ms < $4 OR (made_ms = $4 AND id < $5))
             ORDER BY made_ms DESC, id DESC LIMIT $6",
            values![
                filter.state.map(RequestState::as_str),
                filter.identity.as_ref().map(|name| name.as_str()),
                filter.requested_by.as_deref(),
                before,
                page.after.as_deref(),
                page_rows(page.limit),
            ],
        )
        .await?;
    rows.iter().map(request).collect()
}

/// What answers and withdrawals change.
async fn keep(link: &mut Link, row: &RequestRow) -> Result<(), StoreError> {
    let values = values![
        row.request.id.to_string(),
        json(&row.answers)?,
        row.state.as_str(),
        row.window.map(|(from, _)| from),
        row.window.map(|(_, until)| until),
        row.closed_ms,
    ];
    link.run(
        "UPDATE request SET answers = $2, state = $3, from_ms = $4, until_ms = $5, closed_ms = $6 WHERE id = $1",
        values,
    )
    .await
    .map(drop)
}

pub(super) async fn answer(link: &mut Link, id: RequestId, answer: &Approval) -> Result<RequestRow, StoreError> {
    let mut row = known(link, id).await?;
    row.answer(answer.clone())?;
    keep(link, &row).await?;
    Ok(row)
}

pub(super) async fn withdraw(link: &mut Link, id: RequestId, now: WallMs) -> Result<RequestRow, StoreError> {
    let mut row = known(link, id).await?;
    row.withdraw(now)?;
    keep(link, &row).await?;
    Ok(row)
}

/// Whether `grant` is what was approved, or less, for `[from, until)`.
fn fits(row: &RequestRow, grant: &Grant, (from, until): (WallMs, WallMs)) -> bool {
    let asked = &row.request;
    let once = asked.single_use || asked.obligations.single_use;
    let narrowed = |block| asked.sources.iter().any(|given| given.covers(block));
    grant.request == Some(asked.id)
        && grant.identity == asked.identity
        && grant.destination == asked.destination
        && grant.reason == asked.reason
        && grant.ticket == asked.ticket
        && from <= grant.from_ms
        && grant.from_ms < grant.until_ms
        && grant.until_ms <= until
        && grant.capabilities.is_subset(&asked.capabilities)
        // Bound to no sources means good from everywhere.
        && (asked.sources.is_empty() || (!grant.sources.is_empty() && grant.sources.iter().all(narrowed)))
        && (grant.single_use || !once)
        && grant.used_at_ms.is_none()
        && grant.revoked_at_ms.is_none()
}

/// The one way from a yes to a certificate that admits. A revocation before it
/// closed the request; one after it finds the grant.
pub(super) async fn collect(link: &mut Link, id: RequestId, grant: &Grant, now: WallMs) -> Result<Grant, StoreError> {
    let row = known(link, id).await?;
    let window = row.collectable(now).ok_or_else(|| {
        let state = row.state_at(now);
        StoreError::NotOpen(match state == RequestState::Approved {
            true => OVER,
            false => state.as_str(),
        })
    })?;
    if !fits(&row, grant, window) {
        return Err(StoreError::GrantNotLive("other-purpose"));
    }
    let Some(linked) = row.grant else {
        grants::add(link, grant).await?;
        let values = values![id.to_string(), grant.id.to_string()];
        link.run("UPDATE request SET grant_id = $2 WHERE id = $1", values)
            .await?;
        return Ok(grant.clone());
    };
    if linked != grant.id {
        return Err(StoreError::Exists(format!("grant {linked} of request {id}")));
    }
    let before = grants::find(link, linked).await?;
    let before = before.ok_or_else(|| StoreError::Corrupt(format!("request {id} has a grant that is not there")))?;
    match before.live(now) {
        Ok(()) | Err(NotLive::NotYet) => {}
        Err(why @ (NotLive::Expired | NotLive::Revoked | NotLive::Used)) => return Err(not_live(why)),
    }
    // A call that was on its way for long must not bring back what was replaced.
    if grant.certificate_serial < before.certificate_serial {
        return Err(StoreError::Exists(format!("a newer certificate of grant {linked}")));
    }
    grants::renew(link, grant).await?;
    let after = grants::find(link, linked).await?;
    after.ok_or_else(|| StoreError::Corrupt(format!("grant {linked} is gone")))
}
