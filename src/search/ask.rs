//! Asking the index: its words give candidates, the query itself decides.

use std::str::FromStr;

use futures_util::TryStreamExt as _;
use portcullis_player::entry::Entry;
use portcullis_player::query::{Query, Term, Whose};
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{Index, SearchError, facets, kind};
use crate::kernel::grant::WallMs;
use crate::kernel::id::SessionId;

/// Candidates that one search looks at; of a pattern alone these are the
/// newest entries.
pub const CANDIDATES_MAX: u32 = 200_000;
/// Longest that one search works, in ms.
pub const SEARCH_MS_MAX: u64 = 3_000;
/// Steps of SQLite's machine between two looks at the clock.
pub(super) const STEPS_BETWEEN: i32 = 10_000;

/// One hit, as the index has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// Its place: what comes before it is older.
    pub id: i64,
    pub session: SessionId,
    pub identity: String,
    pub login: String,
    pub target: String,
    pub opened_ms: WallMs,
    pub entry: Entry,
}

/// Some hits, newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    pub hits: Vec<Hit>,
    /// Where the next page begins; none: there is nothing more.
    pub next: Option<i64>,
    /// It was cut short: by time, or by how much one search looks at.
    pub cut: bool,
}

/// One text of FTS5's query language: nothing in it is read as more than text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\"").replace('\0', " "))
}

fn term(term: &Term) -> Option<String> {
    let (words, open) = term.words();
    if words.is_empty() {
        return None;
    }
    let star = if open { " *" } else { "" };
    Some(format!("{}{star}", quoted(&words.join(" "))))
}

/// What the index looks up; none: there is nothing in the query that it has words for.
fn expression(query: &Query) -> Option<String> {
    let texts: Vec<String> = query.terms().iter().filter_map(term).collect();
    let facets: Vec<String> = facets::asked(query).iter().map(|facet| quoted(facet)).collect();
    let part = |column: &str, all: Vec<String>| match all.is_empty() {
        true => None,
        false => Some(format!("({column} : ({}))", all.join(" AND "))),
    };
    let both: Vec<String> = [part("text", texts), part("facets", facets)]
        .into_iter()
        .flatten()
        .collect();
    (!both.is_empty()).then(|| both.join(" AND "))
}

fn hit(row: &SqliteRow) -> Result<Hit, SearchError> {
    let ms = |at: usize| -> Result<u64, SearchError> {
        let value: i64 = row.try_get(at)?;
        u64::try_from(value).map_err(|_| SearchError::Broken("a time before 1970".to_owned()))
    };
    let session: &str = row.try_get(7)?;
    let labels: &str = row.try_get(5)?;
    let channel: i64 = row.try_get(2)?;
    let status: Option<i64> = row.try_get(4)?;
    Ok(Hit {
        id: row.try_get(0)?,
        session: SessionId::from_str(session).map_err(|_| SearchError::Broken(format!("a session {session}")))?,
        identity: row.try_get(8)?,
        login: row.try_get(9)?,
        target: row.try_get(10)?,
        opened_ms: ms(11)?,
        entry: Entry {
            kind: kind(row.try_get(3)?)?,
            at_ms: ms(1)?,
            channel: u32::try_from(channel).unwrap_or(0),
            text: row.try_get(6)?,
            status: status.and_then(|status| u32::try_from(status).ok()),
            labels: labels.split_whitespace().map(str::to_owned).collect(),
        },
    })
}

const BY_WORDS: &str = "SELECT e.id, e.at_ms, e.channel, e.kind, e.status, e.labels, e.text, r.session, r.identity, \
     r.login, r.target, r.opened_ms \
     FROM words CROSS JOIN entry e ON e.id = words.rowid CROSS JOIN recording r ON r.id = e.recording \
     WHERE words MATCH $1 AND words.rowid >= $2 AND words.rowid < $3 ORDER BY words.rowid DESC LIMIT $4";
const ALL: &str = "SELECT e.id, e.at_ms, e.channel, e.kind, e.status, e.labels, e.text, r.session, r.identity, \
     r.login, r.target, r.opened_ms \
     FROM entry e CROSS JOIN recording r ON r.id = e.recording \
     WHERE $1 IS NULL AND e.id >= $2 AND e.id < $3 ORDER BY e.id DESC LIMIT $4";

impl Index {
    /// The moment at which a search that begins now has to be through, in ms since boot.
    pub fn until(&self) -> u64 {
        self.clock.now().boot_ms.saturating_add(SEARCH_MS_MAX)
    }

    /// At most `most` hits before a place ([`Page::next`]; none: the newest),
    /// looked for until a moment ([`Index::until`]).
    ///
    /// # Errors
    /// The file's.
    pub async fn page(
        &self,
        query: &Query,
        before: Option<i64>,
        most: usize,
        until_boot_ms: u64,
    ) -> Result<Page, SearchError> {
        let mut reader = self.reader.acquire().await?;
        let (first, last) = bounds(&mut reader, query).await?;
        let last = before.map_or(last, |before| last.min(before));
        let clock = self.clock.clone();
        reader
            .lock_handle()
            .await?
            .set_progress_handler(STEPS_BETWEEN, move || clock.now().boot_ms < until_boot_ms);
        let found = candidates(&mut reader, query, (first, last), most, || {
            self.clock.now().boot_ms >= until_boot_ms
        })
        .await;
        reader.lock_handle().await?.remove_progress_handler();
        found
    }
}

/// Which entries may be of the time that is asked for: `[first, last)`.
async fn bounds(on: &mut SqliteConnection, query: &Query) -> Result<(i64, i64), SearchError> {
    let (after, before) = query.window();
    if after.is_none() && before.is_none() {
        return Ok((0, i64::MAX));
    }
    let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let row = sqlx::query(
        "SELECT coalesce(min(first), 0), coalesce(max(last), 0) FROM recording
         WHERE opened_ms < $1 AND closed_ms >= $2 AND last > first",
    )
    .bind(before.map_or(i64::MAX, ms))
    .bind(after.map_or(0, ms))
    .fetch_one(on)
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn candidates(
    on: &mut SqliteConnection,
    query: &Query,
    (first, last): (i64, i64),
    most: usize,
    late: impl Fn() -> bool,
) -> Result<Page, SearchError> {
    let expression = expression(query);
    let sql = if expression.is_some() { BY_WORDS } else { ALL };
    let mut rows = sqlx::query(sql)
        .bind(expression)
        .bind(first)
        .bind(last)
        .bind(CANDIDATES_MAX)
        .fetch(on);
    let mut page = Page::default();
    let mut seen = 0u32;
    loop {
        let row = match rows.try_next().await {
            Ok(Some(row)) => row,
            Ok(None) => break,
            // Stopped by the clock.
            Err(_) if late() => {
                page.cut = true;
                return Ok(page);
            }
            Err(error) => return Err(error.into()),
        };
        let hit = hit(&row)?;
        seen = seen.saturating_add(1);
        page.next = Some(hit.id);
        let whose = Whose {
            user: &hit.identity,
            target: &hit.target,
            opened_wall_ms: hit.opened_ms,
        };
        if query.matches(&whose, &hit.entry) {
            page.hits.push(hit);
            if page.hits.len() >= most {
                return Ok(page);
            }
        }
    }
    page.cut = seen >= CANDIDATES_MAX;
    if !page.cut {
        page.next = None;
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        for (text, made) in [
            ("a", Some("(text : (\"a\"))")),
            ("rm*", Some("(text : (\"rm\" *))")),
            ("a OR b", Some("(text : (\"a\" AND \"or\" AND \"b\"))")),
            ("x\" OR facets:y", Some("(text : (\"x\" AND \"or\" AND \"facets y\"))")),
            ("(NEAR(a", Some("(text : (\"near a\"))")),
            ("-- /x/", None),
            ("/x/", None),
            ("user:\"a b\"", Some("(facets : (\"u612062\"))")),
        ] {
            let query = Query::parse(text, 0).unwrap();
            assert_eq!(expression(&query).as_deref(), made, "{text}");
        }
    }
}
