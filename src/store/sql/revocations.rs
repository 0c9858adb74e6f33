//! Revocations: the journal, and what each of them marks.

use std::net::{IpAddr, SocketAddr};

use super::super::{Revocation, RevocationScope, SessionRow, StoreError, WallMs};
use super::link::{Link, Row, values};
use super::sessions::session;
use crate::kernel::grant::Cidr;

fn revocation(row: &Row) -> Result<Revocation, StoreError> {
    let what = row.text("what")?;
    let scope = match what.as_str() {
        "grant" => RevocationScope::Grant(row.parsed("id")?),
        "session" => RevocationScope::Session(row.parsed("id")?),
        "identity" => RevocationScope::Identity(row.parsed("id")?),
        "target" => RevocationScope::Target(row.parsed("id")?),
        "source" => RevocationScope::Source(row.parsed("id")?),
        "purpose" => RevocationScope::Purpose(row.text("id")?),
        "all" => RevocationScope::All,
        _ => return Err(StoreError::Corrupt(format!("a revocation of `{what}`"))),
    };
    Ok(Revocation {
        seq: row.number("seq")?,
        scope,
        by: row.text("by")?,
        why: row.text("why")?,
        at_ms: row.number("at_ms")?,
    })
}

/// A revocation's scope as its two columns.
fn columns(scope: &RevocationScope) -> (&'static str, Option<String>) {
    match scope {
        RevocationScope::Grant(id) => ("grant", Some(id.to_string())),
        RevocationScope::Session(id) => ("session", Some(id.to_string())),
        RevocationScope::Identity(name) => ("identity", Some(name.to_string())),
        RevocationScope::Target(name) => ("target", Some(name.to_string())),
        RevocationScope::Source(block) => ("source", Some(block.to_string())),
        RevocationScope::Purpose(text) => ("purpose", Some(text.clone())),
        RevocationScope::All => ("all", None),
    }
}

/// Refuses a scope that names nothing: a mistyped name in an emergency must
/// not look like a revocation that worked.
async fn known(link: &mut Link, scope: &RevocationScope) -> Result<(), StoreError> {
    let query = match scope {
        RevocationScope::Grant(_) => "SELECT id FROM access_grant WHERE id = $1",
        RevocationScope::Session(_) => "SELECT id FROM session WHERE id = $1",
        RevocationScope::Identity(_) => "SELECT name FROM identity WHERE name = $1",
        RevocationScope::Target(_) => "SELECT name FROM target WHERE name = $1",
        RevocationScope::Purpose(_) => {
            "SELECT id FROM access_grant WHERE ticket = $1 OR reason = $1
             UNION ALL SELECT id FROM request WHERE ticket = $1 OR reason = $1 LIMIT 1"
        }
        // A block of addresses is one, whoever comes from it.
        RevocationScope::Source(_) | RevocationScope::All => return Ok(()),
    };
    let (what, id) = columns(scope);
    let id = id.unwrap_or_default();
    match link.row(query, values![&id]).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::NotFound(format!("{what} {id}"))),
    }
}

/// What one kind of scope does, as three statements.
struct Hit {
    grants: &'static str,
    requests: &'static str,
    sessions: &'static str,
}

/// Expired grants are marked too, since a clock set back would bring those to
/// life; requests, since a certificate could be collected from one.
macro_rules! hit {
    (grants $grants:literal, requests $requests:literal, sessions $sessions:literal) => {
        Hit {
            grants: concat!(
                "UPDATE access_grant SET revoked_at_ms = $1, revoked_why = $2 WHERE revoked_at_ms IS NULL AND ",
                $grants
            ),
            requests: concat!(
                "UPDATE request SET state = 'revoked', closed_ms = coalesce(closed_ms, $1)
                 WHERE state IN ('pending', 'approved') AND ",
                $requests
            ),
            sessions: concat!(
                "SELECT * FROM session WHERE ended_ms IS NULL AND ",
                $sessions,
                " ORDER BY started_ms DESC, id"
            ),
        }
    };
}

const GRANT: Hit = hit!(grants "id = $3", requests "grant_id = $2", sessions "grant_id = $1");
const IDENTITY: Hit = hit!(grants "identity = $3", requests "identity = $2", sessions "identity = $1");
const TARGET: Hit = hit!(grants "target = $3", requests "target = $2", sessions "target = $1");
const PURPOSE: Hit = hit!(
    grants "(ticket = $3 OR reason = $3)",
    requests "(ticket = $2 OR reason = $2)",
    sessions "grant_id IN (SELECT id FROM access_grant WHERE ticket = $1 OR reason = $1)"
);
const ALL: Hit = hit!(grants "$3 IS NULL", requests "$2 IS NULL", sessions "$1 IS NULL");

/// Marks what `scope` hits; answers with the live sessions that it ends.
async fn mark(link: &mut Link, scope: &RevocationScope, why: &str, now: WallMs) -> Result<Vec<SessionRow>, StoreError> {
    let hit = match scope {
        RevocationScope::Grant(_) => GRANT,
        RevocationScope::Identity(_) => IDENTITY,
        RevocationScope::Target(_) => TARGET,
        RevocationScope::Purpose(_) => PURPOSE,
        RevocationScope::All => ALL,
        RevocationScope::Source(block) => return mark_source(link, block, why, now).await,
        RevocationScope::Session(id) => {
            let one = "SELECT * FROM session WHERE ended_ms IS NULL AND id = $1";
            let rows = link.rows(one, values![id.to_string()]).await?;
            return rows.iter().map(session).collect();
        }
    };
    let (_, id) = columns(scope);
    link.run(hit.grants, values![now, why, id.as_deref()]).await?;
    link.run(hit.requests, values![now, id.as_deref()]).await?;
    let rows = link.rows(hit.sessions, values![id]).await?;
    rows.iter().map(session).collect()
}

/// The same for a block of addresses, which no database compares alike.
async fn mark_source(link: &mut Link, block: &Cidr, why: &str, now: WallMs) -> Result<Vec<SessionRow>, StoreError> {
    let bound = |row: &Row| -> Result<Option<String>, StoreError> {
        let sources: Vec<Cidr> = row.json("sources")?;
        let inside = !sources.is_empty() && sources.iter().all(|source| block.covers(source));
        inside.then(|| row.text("id")).transpose()
    };
    let rows = link
        .rows(
            "SELECT id, sources FROM access_grant WHERE revoked_at_ms IS NULL AND sources <> '[]'",
            values![],
        )
        .await?;
    for row in &rows {
        if let Some(id) = bound(row)? {
            link.run(GRANT.grants, values![now, why, id.as_str()]).await?;
            link.run(GRANT.requests, values![now, id]).await?;
        }
    }
    let rows = link
        .rows(
            "SELECT id, sources FROM request WHERE state IN ('pending', 'approved') AND sources <> '[]'",
            values![],
        )
        .await?;
    for row in &rows {
        if let Some(id) = bound(row)? {
            link.run(
                "UPDATE request SET state = 'revoked', closed_ms = coalesce(closed_ms, $1) WHERE id = $2",
                values![now, id],
            )
            .await?;
        }
    }
    let rows = link.rows(ALL.sessions, values![None::<&str>]).await?;
    let live: Result<Vec<SessionRow>, StoreError> = rows.iter().map(session).collect();
    Ok(live?.into_iter().filter(|row| comes_from(row, block)).collect())
}

/// Whether a session's client is in `block`. An address that cannot be read
/// could be any.
fn comes_from(row: &SessionRow, block: &Cidr) -> bool {
    let with_port = || row.source.parse::<SocketAddr>().map(|at| at.ip());
    let addr = row.source.parse::<IpAddr>().or_else(|_| with_port());
    addr.map_or(true, |addr| block.contains(addr))
}

pub(super) async fn revoke(
    link: &mut Link,
    scope: &RevocationScope,
    by: &str,
    why: &str,
    now: WallMs,
) -> Result<(Revocation, Vec<SessionRow>), StoreError> {
    known(link, scope).await?;
    let ended = mark(link, scope, why, now).await?;
    let (what, id) = columns(scope);
    // No gap and no twin: nobody else writes between this and the commit.
    let row = link
        .row(
            "INSERT INTO revocation (seq, what, id, by, why, at_ms)
             SELECT coalesce(max(seq), 0) + 1, $1, $2, $3, $4, $5 FROM revocation RETURNING seq",
            values![what, id, by, why, now],
        )
        .await?;
    let row = row.ok_or_else(|| StoreError::Corrupt("the revocation journal took no row".into()))?;
    let revocation = Revocation {
        seq: row.number("seq")?,
        scope: scope.clone(),
        by: by.to_owned(),
        why: why.to_owned(),
        at_ms: now,
    };
    Ok((revocation, ended))
}

pub(super) async fn after(link: &mut Link, seq: u64, limit: u32) -> Result<Vec<Revocation>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM revocation WHERE seq > $1 ORDER BY seq LIMIT $2",
            values![seq, limit],
        )
        .await?;
    rows.iter().map(revocation).collect()
}
