//! Rows to values and back: the only place that knows column names.
//!
//! A row that does not parse is [`StoreError::Corrupt`], never a guess: what
//! stands in the file may have been written by somebody else.

use std::str::FromStr;

use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{
    AnchorRow, Grant, GrantId, RecordingRow, Revocation, RevocationScope, SessionRow, StoreError, WallMs, failed, json,
};
use crate::kernel::id::Destination;

/// The outer answer is about our values, the inner one the database's.
type Inserted = Result<Result<(), sqlx::Error>, StoreError>;

/// SQLite's integers are signed.
pub(super) fn int(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Corrupt(format!("{value} does not fit the store's integers")))
}

pub(super) fn uint(value: i64) -> Result<u64, StoreError> {
    u64::try_from(value).map_err(|_| StoreError::Corrupt(format!("{value} where a count belongs")))
}

fn text(row: &SqliteRow, column: &'static str) -> Result<String, StoreError> {
    row.try_get(column).map_err(failed)
}

fn parsed<T>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text(row, column)?
        .parse()
        .map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

fn from_json<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(&text(row, column)?).map_err(|error| StoreError::Corrupt(format!("column {column}: {error}")))
}

fn number(row: &SqliteRow, column: &'static str) -> Result<u64, StoreError> {
    uint(row.try_get(column).map_err(failed)?)
}

fn maybe_number(row: &SqliteRow, column: &'static str) -> Result<Option<u64>, StoreError> {
    let value: Option<i64> = row.try_get(column).map_err(failed)?;
    value.map(uint).transpose()
}

fn bytes32(row: &SqliteRow, column: &'static str) -> Result<[u8; 32], StoreError> {
    let bytes: Vec<u8> = row.try_get(column).map_err(failed)?;
    bytes
        .try_into()
        .map_err(|_| StoreError::Corrupt(format!("column {column}: 32 bytes expected")))
}

fn destination(row: &SqliteRow) -> Result<Destination, StoreError> {
    Ok(Destination {
        login: parsed(row, "login")?,
        target: parsed(row, "target")?,
    })
}

/// The `body` column as JSON: targets and identities.
pub(super) fn body<T: serde::de::DeserializeOwned>(row: &SqliteRow) -> Result<T, StoreError> {
    from_json(row, "body")
}

pub(super) fn grant(row: &SqliteRow) -> Result<Grant, StoreError> {
    Ok(Grant {
        id: parsed(row, "id")?,
        identity: parsed(row, "identity")?,
        destination: destination(row)?,
        from_ms: number(row, "from_ms")?,
        until_ms: number(row, "until_ms")?,
        sources: from_json(row, "sources")?,
        capabilities: from_json(row, "capabilities")?,
        reason: text(row, "reason")?,
        issued_by: text(row, "issued_by")?,
        policy_digest: bytes32(row, "policy_digest")?,
        certificate_sha256: bytes32(row, "certificate_sha256")?,
        certificate_serial: number(row, "certificate_serial")?,
        single_use: number(row, "single_use")? != 0,
        used_at_ms: maybe_number(row, "used_at_ms")?,
        revoked_at_ms: maybe_number(row, "revoked_at_ms")?,
        revoked_why: row.try_get("revoked_why").map_err(failed)?,
    })
}

pub(super) fn session(row: &SqliteRow) -> Result<SessionRow, StoreError> {
    Ok(SessionRow {
        id: parsed(row, "id")?,
        node: parsed(row, "node")?,
        grant: parsed(row, "grant_id")?,
        identity: parsed(row, "identity")?,
        destination: destination(row)?,
        source: text(row, "source")?,
        started_ms: number(row, "started_ms")?,
        until_ms: number(row, "until_ms")?,
        ended_ms: maybe_number(row, "ended_ms")?,
        end_code: row.try_get("end_code").map_err(failed)?,
    })
}

pub(super) fn recording(row: &SqliteRow) -> Result<RecordingRow, StoreError> {
    Ok(RecordingRow {
        session: parsed(row, "session")?,
        file: text(row, "file")?,
        bytes: number(row, "bytes")?,
        kind: text(row, "kind")?,
        end_code: text(row, "end_code")?,
        sealed_ms: number(row, "sealed_ms")?,
        leaf: number(row, "leaf")?,
        hold: row.try_get("hold").map_err(failed)?,
        expired_ms: maybe_number(row, "expired_ms")?,
        shredded_ms: maybe_number(row, "shredded_ms")?,
    })
}

pub(super) fn revocation(row: &SqliteRow) -> Result<Revocation, StoreError> {
    let what = text(row, "what")?;
    let scope = match what.as_str() {
        "grant" => RevocationScope::Grant(parsed(row, "id")?),
        "session" => RevocationScope::Session(parsed(row, "id")?),
        "identity" => RevocationScope::Identity(parsed(row, "id")?),
        "target" => RevocationScope::Target(parsed(row, "id")?),
        "all" => RevocationScope::All,
        _ => return Err(StoreError::Corrupt(format!("a revocation of `{what}`"))),
    };
    Ok(Revocation {
        seq: number(row, "seq")?,
        scope,
        by: text(row, "by")?,
        why: text(row, "why")?,
        at_ms: number(row, "at_ms")?,
    })
}

pub(super) fn anchor(row: &SqliteRow) -> Result<AnchorRow, StoreError> {
    Ok(AnchorRow {
        origin: text(row, "origin")?,
        size: number(row, "size")?,
        root: bytes32(row, "root")?,
        note: text(row, "note")?,
        kept_ms: number(row, "kept_ms")?,
    })
}

pub(super) async fn grant_in(connection: &mut SqliteConnection, id: GrantId) -> Result<Option<Grant>, StoreError> {
    let row = sqlx::query("SELECT * FROM access_grant WHERE id = ?")
        .bind(id.to_string())
        .fetch_optional(connection)
        .await
        .map_err(failed)?;
    row.as_ref().map(grant).transpose()
}

pub(super) async fn insert_grant(connection: &mut SqliteConnection, grant: &Grant) -> Inserted {
    let query = sqlx::query(
        "INSERT INTO access_grant (id, identity, login, target, from_ms, until_ms, sources,
            capabilities, reason, issued_by, policy_digest, certificate_sha256,
            certificate_serial, single_use, used_at_ms, revoked_at_ms, revoked_why)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(grant.id.to_string())
    .bind(grant.identity.as_str())
    .bind(grant.destination.login.as_str())
    .bind(grant.destination.target.as_str())
    .bind(int(grant.from_ms)?)
    .bind(int(grant.until_ms)?)
    .bind(json(&grant.sources)?)
    .bind(json(&grant.capabilities)?)
    .bind(grant.reason.as_str())
    .bind(grant.issued_by.as_str())
    .bind(grant.policy_digest.to_vec())
    .bind(grant.certificate_sha256.to_vec())
    .bind(int(grant.certificate_serial)?)
    .bind(grant.single_use)
    .bind(grant.used_at_ms.map(int).transpose()?)
    .bind(grant.revoked_at_ms.map(int).transpose()?)
    .bind(grant.revoked_why.as_deref());
    Ok(query.execute(connection).await.map(drop))
}

pub(super) async fn insert_session(connection: &mut SqliteConnection, session: &SessionRow) -> Inserted {
    let query = sqlx::query(
        "INSERT INTO session (id, node, grant_id, identity, login, target, source,
            started_ms, until_ms, ended_ms, end_code)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(session.id.to_string())
    .bind(session.node.as_str())
    .bind(session.grant.to_string())
    .bind(session.identity.as_str())
    .bind(session.destination.login.as_str())
    .bind(session.destination.target.as_str())
    .bind(session.source.as_str())
    .bind(int(session.started_ms)?)
    .bind(int(session.until_ms)?)
    .bind(session.ended_ms.map(int).transpose()?)
    .bind(session.end_code.as_deref());
    Ok(query.execute(connection).await.map(drop))
}

pub(super) async fn insert_recording(connection: &mut SqliteConnection, recording: &RecordingRow) -> Inserted {
    let query = sqlx::query(
        "INSERT INTO recording (session, file, bytes, kind, end_code, sealed_ms, leaf)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(recording.session.to_string())
    .bind(recording.file.as_str())
    .bind(int(recording.bytes)?)
    .bind(recording.kind.as_str())
    .bind(recording.end_code.as_str())
    .bind(int(recording.sealed_ms)?)
    .bind(int(recording.leaf)?);
    Ok(query.execute(connection).await.map(drop))
}

/// A revocation's scope as its two columns.
fn columns(scope: &RevocationScope) -> (&'static str, Option<String>) {
    match scope {
        RevocationScope::Grant(id) => ("grant", Some(id.to_string())),
        RevocationScope::Session(id) => ("session", Some(id.to_string())),
        RevocationScope::Identity(name) => ("identity", Some(name.to_string())),
        RevocationScope::Target(name) => ("target", Some(name.to_string())),
        RevocationScope::All => ("all", None),
    }
}

/// Refuses a scope that names nothing: a mistyped name in an emergency must
/// not look like a revocation that worked.
pub(super) async fn known(connection: &mut SqliteConnection, scope: &RevocationScope) -> Result<(), StoreError> {
    let query = match scope {
        RevocationScope::Grant(_) => "SELECT count(*) FROM access_grant WHERE id = ?",
        RevocationScope::Session(_) => "SELECT count(*) FROM session WHERE id = ?",
        RevocationScope::Identity(_) => "SELECT count(*) FROM identity WHERE name = ?",
        RevocationScope::Target(_) => "SELECT count(*) FROM target WHERE name = ?",
        RevocationScope::All => return Ok(()),
    };
    let (what, id) = columns(scope);
    let id = id.unwrap_or_default();
    let count: i64 = sqlx::query_scalar(query)
        .bind(&id)
        .fetch_one(connection)
        .await
        .map_err(failed)?;
    if count == 0 {
        return Err(StoreError::NotFound(format!("{what} {id}")));
    }
    Ok(())
}

/// Marks the grants that `scope` hits, expired ones too, since a clock set
/// back would bring those to life; answers with the live sessions it ends.
pub(super) async fn revoke(
    connection: &mut SqliteConnection,
    scope: &RevocationScope,
    why: &str,
    now: WallMs,
) -> Result<Vec<SessionRow>, StoreError> {
    let (mark, select) = match scope {
        RevocationScope::Grant(_) => (
            Some(
                "UPDATE access_grant SET revoked_at_ms = ?1, revoked_why = ?2 WHERE revoked_at_ms IS NULL AND id = ?3",
            ),
            "SELECT * FROM session WHERE ended_ms IS NULL AND grant_id = ?1 ORDER BY started_ms DESC, id",
        ),
        RevocationScope::Session(_) => (None, "SELECT * FROM session WHERE ended_ms IS NULL AND id = ?1"),
        RevocationScope::Identity(_) => (
            Some(
                "UPDATE access_grant SET revoked_at_ms = ?1, revoked_why = ?2 WHERE revoked_at_ms IS NULL AND identity = ?3",
            ),
            "SELECT * FROM session WHERE ended_ms IS NULL AND identity = ?1 ORDER BY started_ms DESC, id",
        ),
        RevocationScope::Target(_) => (
            Some(
                "UPDATE access_grant SET revoked_at_ms = ?1, revoked_why = ?2 WHERE revoked_at_ms IS NULL AND target = ?3",
            ),
            "SELECT * FROM session WHERE ended_ms IS NULL AND target = ?1 ORDER BY started_ms DESC, id",
        ),
        RevocationScope::All => (
            Some(
                "UPDATE access_grant SET revoked_at_ms = ?1, revoked_why = ?2 WHERE revoked_at_ms IS NULL AND ?3 IS NULL",
            ),
            "SELECT * FROM session WHERE ended_ms IS NULL AND ?1 IS NULL ORDER BY started_ms DESC, id",
        ),
    };
    let (_, id) = columns(scope);
    if let Some(mark) = mark {
        sqlx::query(mark)
            .bind(int(now)?)
            .bind(why)
            .bind(id.as_deref())
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    let rows = sqlx::query(select)
        .bind(id.as_deref())
        .fetch_all(connection)
        .await
        .map_err(failed)?;
    rows.iter().map(session).collect()
}

pub(super) async fn insert_revocation(
    connection: &mut SqliteConnection,
    scope: &RevocationScope,
    by: &str,
    why: &str,
    now: WallMs,
) -> Result<u64, StoreError> {
    let (what, id) = columns(scope);
    let seq: i64 = sqlx::query_scalar(
        "INSERT INTO revocation (seq, what, id, by, why, at_ms)
         SELECT coalesce(max(seq), 0) + 1, ?, ?, ?, ?, ? FROM revocation RETURNING seq",
    )
    .bind(what)
    .bind(id)
    .bind(by)
    .bind(why)
    .bind(int(now)?)
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    uint(seq)
}
