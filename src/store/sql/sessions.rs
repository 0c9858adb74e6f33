//! Sessions: who is in, and who was.

use super::super::{Page, SessionId, SessionRow, StoreError, WallMs};
use super::grants::{self, not_live};
use super::link::{Link, Row, history, page_rows, values};

pub(super) fn session(row: &Row) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: row.parsed("id")?,
        node: row.parsed("node")?,
        grant: row.parsed("grant_id")?,
        identity: row.parsed("identity")?,
        destination: row.destination()?,
        source: row.text("source")?,
        started_ms: row.number("started_ms")?,
        until_ms: row.number("until_ms")?,
        ended_ms: row.maybe_number("ended_ms")?,
        end_code: row.maybe_text("end_code")?,
    })
}

pub(super) async fn open(
    link: &mut Link,
    session: &SessionRow,
    certificate: [u8; 32],
    now: WallMs,
) -> Result<(), StoreError> {
    let grant = grants::find(link, session.grant).await?;
    let grant = grant.ok_or_else(|| StoreError::NotFound(format!("grant {}", session.grant)))?;
    grant.live(now).map_err(not_live)?;
    if grant.identity != session.identity || grant.destination != session.destination {
        return Err(StoreError::GrantNotLive("other-purpose"));
    }
    // Admitted with a certificate that another one has replaced since.
    if grant.certificate_sha256 != certificate {
        return Err(StoreError::GrantNotLive("replaced"));
    }
    if grant.single_use {
        let values = values![grant.id.to_string(), now];
        link.run("UPDATE access_grant SET used_at_ms = $2 WHERE id = $1", values)
            .await?;
    }
    let values = values![
        session.id.to_string(),
        session.node.as_str(),
        session.grant.to_string(),
        session.identity.as_str(),
        session.destination.login.as_str(),
        session.destination.target.as_str(),
        &session.source,
        session.started_ms,
        session.until_ms,
        session.ended_ms,
        session.end_code.as_deref(),
    ];
    link.insert(
        "INSERT INTO session (id, node, grant_id, identity, login, target, source, started_ms, until_ms, ended_ms,
            end_code)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        values,
        || format!("session {}", session.id),
    )
    .await
}

pub(super) async fn close(link: &mut Link, id: SessionId, ended: WallMs, end_code: &str) -> Result<(), StoreError> {
    // The first end is the true one; closing again changes nothing.
    let touched = link
        .run(
            "UPDATE session SET ended_ms = coalesce(ended_ms, $2), end_code = coalesce(end_code, $3) WHERE id = $1",
            values![id.to_string(), ended, end_code],
        )
        .await?;
    match touched {
        0 => Err(StoreError::NotFound(format!("session {id}"))),
        _ => Ok(()),
    }
}

pub(super) async fn all(link: &mut Link, live_only: bool) -> Result<Vec<SessionRow>, StoreError> {
    let rows = match live_only {
        true => {
            link.rows(
                "SELECT * FROM session WHERE ended_ms IS NULL ORDER BY started_ms DESC, id",
                values![],
            )
            .await?
        }
        false => {
            link.rows(
                "SELECT * FROM session ORDER BY started_ms DESC, id LIMIT $1",
                values![history()],
            )
            .await?
        }
    };
    rows.iter().map(session).collect()
}

pub(super) async fn page(link: &mut Link, live_only: bool, page: &Page) -> Result<Vec<SessionRow>, StoreError> {
    let before = match &page.after {
        None => None,
        Some(after) => {
            let row = link
                .row("SELECT started_ms FROM session WHERE id = $1", values![after])
                .await?;
            let row = row.ok_or_else(|| StoreError::NotFound(format!("session {after}")))?;
            Some(row.number("started_ms")?)
        }
    };
    let rows = link
        .rows(
            "SELECT * FROM session
             WHERE ($1 = 0 OR ended_ms IS NULL)
               AND ($2 IS NULL OR started_ms < $2 OR (started_ms = $2 AND id > $3))
             ORDER BY started_ms DESC, id LIMIT $4",
            values![live_only, before, page.after.as_deref(), page_rows(page.limit)],
        )
        .await?;
    rows.iter().map(session).collect()
}

pub(super) async fn find(link: &mut Link, id: SessionId) -> Result<Option<SessionRow>, StoreError> {
    let row = link
        .row("SELECT * FROM session WHERE id = $1", values![id.to_string()])
        .await?;
    row.as_ref().map(session).transpose()
}
