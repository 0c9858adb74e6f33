//! The store in one SQLite file: trusted, local, one server at a time.
//!
//! One connection writes, so that writers queue in our process, where waiting
//! is bounded, and not in the file's lock. Every write is one IMMEDIATE
//! transaction with `synchronous = FULL`: what was answered is on the disk.

use super::{
    AnchorRow, Answer, Grant, GrantId, Identity, IdentityName, Mark, NodeName, RecordingRow, Revocation,
    RevocationScope, SessionId, SessionRow, Store, StoreError, Target, TargetName, WallMs,
};
use crate::kernel::grant::NotLive;

mod open;
mod rows;

pub use open::{SqliteStore, Waits};
use open::{failed, insert_failed};
use rows::{int, uint};

/// Most rows of history that one listing answers with; live ones are never cut off.
pub const HISTORY_ROWS_MAX: i64 = 10_000;

fn json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn not_live(why: NotLive) -> &'static str {
    match why {
        NotLive::NotYet => "not-yet",
        NotLive::Expired => "expired",
        NotLive::Revoked => "revoked",
        NotLive::Used => "used",
    }
}

impl Store for SqliteStore {
    fn add_target<'a>(&'a self, target: &'a Target) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query("INSERT INTO target (name, body) VALUES (?, ?)")
                .bind(target.name.as_str())
                .bind(json(target)?)
                .execute(&mut *tx)
                .await
                .map_err(insert_failed(|| format!("target {}", target.name)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn targets(&self) -> Answer<'_, Vec<Target>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT body FROM target ORDER BY name")
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::body).collect()
        })
    }

    fn target<'a>(&'a self, name: &'a TargetName) -> Answer<'a, Option<Target>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT body FROM target WHERE name = ?")
                .bind(name.as_str())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::body).transpose()
        })
    }

    fn add_identity<'a>(&'a self, identity: &'a Identity) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query("INSERT INTO identity (name, body) VALUES (?, ?)")
                .bind(identity.name.as_str())
                .bind(json(identity)?)
                .execute(&mut *tx)
                .await
                .map_err(insert_failed(|| format!("identity {}", identity.name)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn identities(&self) -> Answer<'_, Vec<Identity>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT body FROM identity ORDER BY name")
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::body).collect()
        })
    }

    fn identity<'a>(&'a self, name: &'a IdentityName) -> Answer<'a, Option<Identity>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT body FROM identity WHERE name = ?")
                .bind(name.as_str())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::body).transpose()
        })
    }

    fn next_serial(&self) -> Answer<'_, u64> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            let value: i64 = sqlx::query_scalar(
                "UPDATE counter SET value = value + 1 WHERE name = 'certificate_serial' RETURNING value",
            )
            .fetch_one(&mut *tx)
            .await
            .map_err(failed)?;
            // Committed before it is told: a crash loses a number, never gives it twice.
            tx.commit().await.map_err(failed)?;
            uint(value)
        })
    }

    fn add_grant<'a>(&'a self, grant: &'a Grant) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            rows::insert_grant(&mut tx, grant)
                .await?
                .map_err(insert_failed(|| format!("grant {}", grant.id)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn grant(&self, id: GrantId) -> Answer<'_, Option<Grant>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM access_grant WHERE id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::grant).transpose()
        })
    }

    fn grant_by_certificate(&self, sha256: [u8; 32]) -> Answer<'_, Option<Grant>> {
        self.bounded(async move {
            // This answer admits people: not from a file that was moved away.
            self.same_file()?;
            let row = sqlx::query("SELECT * FROM access_grant WHERE certificate_sha256 = ?")
                .bind(sha256.to_vec())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::grant).transpose()
        })
    }

    fn grants(&self, live_at: Option<WallMs>) -> Answer<'_, Vec<Grant>> {
        self.bounded(async move {
            let rows = match live_at {
                Some(now) => {
                    self.same_file()?;
                    sqlx::query(
                        "SELECT * FROM access_grant
                         WHERE revoked_at_ms IS NULL AND until_ms > ?1 AND from_ms <= ?1
                           AND (single_use = 0 OR used_at_ms IS NULL)
                         ORDER BY certificate_serial DESC",
                    )
                    .bind(int(now)?)
                }
                None => sqlx::query("SELECT * FROM access_grant ORDER BY certificate_serial DESC LIMIT ?")
                    .bind(HISTORY_ROWS_MAX),
            }
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
            rows.iter().map(rows::grant).collect()
        })
    }

    fn open_session<'a>(&'a self, session: &'a SessionRow, now: WallMs) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            let grant = rows::grant_in(&mut tx, session.grant)
                .await?
                .ok_or_else(|| StoreError::NotFound(format!("grant {}", session.grant)))?;
            grant.live(now).map_err(|why| StoreError::GrantNotLive(not_live(why)))?;
            if grant.identity != session.identity || grant.destination != session.destination {
                return Err(StoreError::GrantNotLive("other-purpose"));
            }
            if grant.single_use {
                sqlx::query("UPDATE access_grant SET used_at_ms = ? WHERE id = ?")
                    .bind(int(now)?)
                    .bind(grant.id.to_string())
                    .execute(&mut *tx)
                    .await
                    .map_err(failed)?;
            }
            rows::insert_session(&mut tx, session)
                .await?
                .map_err(insert_failed(|| format!("session {}", session.id)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn close_session<'a>(&'a self, id: SessionId, ended: WallMs, end_code: &'a str) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            // The first end is the true one; closing again changes nothing.
            let known: Option<i64> = sqlx::query_scalar(
                "UPDATE session SET ended_ms = coalesce(ended_ms, ?), end_code = coalesce(end_code, ?)
                 WHERE id = ? RETURNING ended_ms",
            )
            .bind(int(ended)?)
            .bind(end_code)
            .bind(id.to_string())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            match known {
                Some(_) => Ok(()),
                None => Err(StoreError::NotFound(format!("session {id}"))),
            }
        })
    }

    fn sessions(&self, live_only: bool) -> Answer<'_, Vec<SessionRow>> {
        self.bounded(async move {
            let rows = if live_only {
                sqlx::query("SELECT * FROM session WHERE ended_ms IS NULL ORDER BY started_ms DESC, id")
            } else {
                sqlx::query("SELECT * FROM session ORDER BY started_ms DESC, id LIMIT ?").bind(HISTORY_ROWS_MAX)
            }
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
            rows.iter().map(rows::session).collect()
        })
    }

    fn session(&self, id: SessionId) -> Answer<'_, Option<SessionRow>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM session WHERE id = ?")
                .bind(id.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::session).transpose()
        })
    }

    fn add_recording<'a>(&'a self, recording: &'a RecordingRow) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            rows::insert_recording(&mut tx, recording)
                .await?
                .map_err(insert_failed(|| format!("recording of session {}", recording.session)))?;
            tx.commit().await.map_err(failed)
        })
    }

    fn recordings(&self) -> Answer<'_, Vec<RecordingRow>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT * FROM recording ORDER BY sealed_ms DESC, session LIMIT ?")
                .bind(HISTORY_ROWS_MAX)
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::recording).collect()
        })
    }

    fn recordings_before(&self, sealed_ms: WallMs) -> Answer<'_, Vec<RecordingRow>> {
        self.bounded(async move {
            let rows = sqlx::query(
                "SELECT * FROM recording WHERE sealed_ms < ? AND hold IS NULL AND expired_ms IS NULL
                 ORDER BY sealed_ms, session LIMIT ?",
            )
            .bind(int(sealed_ms)?)
            .bind(HISTORY_ROWS_MAX)
            .fetch_all(&self.reader)
            .await
            .map_err(failed)?;
            rows.iter().map(rows::recording).collect()
        })
    }

    fn mark_recording<'a>(&'a self, session: SessionId, mark: &'a Mark) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            let row = sqlx::query("SELECT * FROM recording WHERE session = ?")
                .bind(session.to_string())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed)?;
            let row = row.as_ref().map(rows::recording).transpose()?;
            let row = row.ok_or_else(|| StoreError::NotFound(format!("a recording of session {session}")))?;
            let query = match (mark, row.hold) {
                (Mark::Expired(_) | Mark::Shredded(_), Some(why)) => return Err(StoreError::Held(why)),
                (Mark::Hold(why), _) => {
                    sqlx::query("UPDATE recording SET hold = ? WHERE session = ?").bind(why.as_deref())
                }
                (Mark::Expired(at), None) => {
                    sqlx::query("UPDATE recording SET expired_ms = ? WHERE session = ?").bind(int(*at)?)
                }
                (Mark::Shredded(at), None) => {
                    sqlx::query("UPDATE recording SET shredded_ms = ? WHERE session = ?").bind(int(*at)?)
                }
            };
            query
                .bind(session.to_string())
                .execute(&mut *tx)
                .await
                .map_err(failed)?;
            tx.commit().await.map_err(failed)
        })
    }

    fn recording(&self, session: SessionId) -> Answer<'_, Option<RecordingRow>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM recording WHERE session = ?")
                .bind(session.to_string())
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::recording).transpose()
        })
    }

    fn revoke<'a>(
        &'a self,
        scope: &'a RevocationScope,
        by: &'a str,
        why: &'a str,
        now: WallMs,
    ) -> Answer<'a, (Revocation, Vec<SessionRow>)> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            rows::known(&mut tx, scope).await?;
            let ended = rows::revoke(&mut tx, scope, why, now).await?;
            let seq = rows::insert_revocation(&mut tx, scope, by, why, now).await?;
            tx.commit().await.map_err(failed)?;
            let revocation = Revocation {
                seq,
                scope: scope.clone(),
                by: by.to_owned(),
                why: why.to_owned(),
                at_ms: now,
            };
            Ok((revocation, ended))
        })
    }

    fn revocations_after(&self, seq: u64, limit: u32) -> Answer<'_, Vec<Revocation>> {
        self.bounded(async move {
            let rows = sqlx::query("SELECT * FROM revocation WHERE seq > ? ORDER BY seq LIMIT ?")
                .bind(int(seq)?)
                .bind(i64::from(limit))
                .fetch_all(&self.reader)
                .await
                .map_err(failed)?;
            rows.iter().map(rows::revocation).collect()
        })
    }

    fn renew_lease<'a>(&'a self, node: &'a NodeName, now: WallMs, until: WallMs) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            sqlx::query(
                "INSERT INTO lease (node, renewed_ms, until_ms) VALUES (?, ?, ?)
                 ON CONFLICT (node) DO UPDATE SET renewed_ms = excluded.renewed_ms, until_ms = excluded.until_ms",
            )
            .bind(node.as_str())
            .bind(int(now)?)
            .bind(int(until)?)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            // Again after the commit: what we just wrote must be where others look.
            self.same_file()
        })
    }

    fn keep_anchor<'a>(&'a self, anchor: &'a AnchorRow) -> Answer<'a, ()> {
        self.bounded(async move {
            let mut tx = self.write().await?;
            let kept = sqlx::query(
                "INSERT INTO anchor (origin, size, root, note, kept_ms) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (origin) DO UPDATE
                 SET size = excluded.size, root = excluded.root, note = excluded.note, kept_ms = excluded.kept_ms
                 WHERE excluded.size > size OR (excluded.size = size AND excluded.root = root)",
            )
            .bind(&anchor.origin)
            .bind(int(anchor.size)?)
            .bind(anchor.root.to_vec())
            .bind(&anchor.note)
            .bind(int(anchor.kept_ms)?)
            .execute(&mut *tx)
            .await
            .map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            match kept.rows_affected() {
                0 => Err(StoreError::Exists(format!(
                    "a checkpoint of the ledger {} that one of {} leaves would take back",
                    anchor.origin, anchor.size
                ))),
                _ => Ok(()),
            }
        })
    }

    fn anchor<'a>(&'a self, origin: &'a str) -> Answer<'a, Option<AnchorRow>> {
        self.bounded(async move {
            let row = sqlx::query("SELECT * FROM anchor WHERE origin = ?")
                .bind(origin)
                .fetch_optional(&self.reader)
                .await
                .map_err(failed)?;
            row.as_ref().map(rows::anchor).transpose()
        })
    }
}
