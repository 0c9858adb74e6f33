//! Recordings, and what became of them.

use super::super::{Mark, Page, RecordingRow, SessionId, StoreError, WallMs};
use super::link::{Link, Row, history, page_rows, values};

fn recording(row: &Row) -> Result<RecordingRow, StoreError> {
    Ok(RecordingRow {
        session: row.parsed("session")?,
        file: row.text("file")?,
        bytes: row.number("bytes")?,
        kind: row.text("kind")?,
        end_code: row.text("end_code")?,
        sealed_ms: row.number("sealed_ms")?,
        leaf: row.number("leaf")?,
        hold: row.maybe_text("hold")?,
        expired_ms: row.maybe_number("expired_ms")?,
        shredded_ms: row.maybe_number("shredded_ms")?,
    })
}

pub(super) async fn add(link: &mut Link, recording: &RecordingRow) -> Result<(), StoreError> {
    let values = values![
        recording.session.to_string(),
        &recording.file,
        recording.bytes,
        &recording.kind,
        &recording.end_code,
        recording.sealed_ms,
        recording.leaf,
    ];
    link.insert(
        "INSERT INTO recording (session, file, bytes, kind, end_code, sealed_ms, leaf)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        values,
        || format!("recording of session {}", recording.session),
    )
    .await
}

pub(super) async fn all(link: &mut Link) -> Result<Vec<RecordingRow>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM recording ORDER BY sealed_ms DESC, session LIMIT $1",
            values![history()],
        )
        .await?;
    rows.iter().map(recording).collect()
}

pub(super) async fn page(link: &mut Link, page: &Page) -> Result<Vec<RecordingRow>, StoreError> {
    let before = match &page.after {
        None => None,
        Some(after) => {
            let row = link
                .row("SELECT sealed_ms FROM recording WHERE session = $1", values![after])
                .await?;
            let row = row.ok_or_else(|| StoreError::NotFound(format!("a recording of session {after}")))?;
            Some(row.number("sealed_ms")?)
        }
    };
    let rows = link
        .rows(
            "SELECT * FROM recording
             WHERE $1 IS NULL OR sealed_ms < $1 OR (sealed_ms = $1 AND session > $2)
             ORDER BY sealed_ms DESC, session LIMIT $3",
            values![before, page.after.as_deref(), page_rows(page.limit)],
        )
        .await?;
    rows.iter().map(recording).collect()
}

pub(super) async fn find(link: &mut Link, session: SessionId) -> Result<Option<RecordingRow>, StoreError> {
    let row = link
        .row(
            "SELECT * FROM recording WHERE session = $1",
            values![session.to_string()],
        )
        .await?;
    row.as_ref().map(recording).transpose()
}

pub(super) async fn before(link: &mut Link, sealed_ms: WallMs) -> Result<Vec<RecordingRow>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM recording WHERE sealed_ms < $1 AND hold IS NULL AND expired_ms IS NULL
             ORDER BY sealed_ms, session LIMIT $2",
            values![sealed_ms, history()],
        )
        .await?;
    rows.iter().map(recording).collect()
}

pub(super) async fn mark(link: &mut Link, session: SessionId, mark: &Mark) -> Result<(), StoreError> {
    let row = find(link, session).await?;
    let row = row.ok_or_else(|| StoreError::NotFound(format!("a recording of session {session}")))?;
    let id = session.to_string();
    let (sql, values) = match (mark, row.hold) {
        (Mark::Expired(_) | Mark::Shredded(_), Some(why)) => return Err(StoreError::Held(why)),
        (Mark::Hold(why), _) => (
            "UPDATE recording SET hold = $2 WHERE session = $1",
            values![id, why.as_deref()],
        ),
        (Mark::Expired(at), None) => (
            "UPDATE recording SET expired_ms = $2 WHERE session = $1",
            values![id, *at],
        ),
        (Mark::Shredded(at), None) => (
            "UPDATE recording SET shredded_ms = $2 WHERE session = $1",
            values![id, *at],
        ),
    };
    link.run(sql, values).await.map(drop)
}
