//! What somebody did for the first time in a session, as far as the index
//! remembers: labels and programs of commands that no earlier recording of the
//! same identity has.

use std::collections::BTreeSet;

use portcullis_player::asked::REFUSED;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::ask::STEPS_BETWEEN;
use super::{Index, SearchError, Standing, facets};
use crate::kernel::id::SessionId;

/// Different labels and programs of one session that are looked at.
const FACETS_MAX: usize = 1_000;

/// What was done for the first time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Firsts {
    /// How many earlier recordings of the identity the index holds: with few
    /// of them nearly everything is a first.
    pub earlier: u64,
    /// Of these, those of which the index does not hold all, such as encrypted ones: what was done in them may
    /// seem new.
    pub unread: u64,
    /// Whether all of this session was looked at: it is in the index as a whole, and there was time.
    pub complete: bool,
    pub labels: Vec<String>,
    pub programs: Vec<String>,
}

impl Index {
    /// What a session did for the first time, as far as it is found until a
    /// moment ([`Index::until`]); nothing if it is not in the index.
    ///
    /// # Errors
    /// The file's.
    pub async fn firsts(&self, session: SessionId, until_boot_ms: u64) -> Result<Firsts, SearchError> {
        let mut reader = self.reader.acquire().await?;
        let clock = self.clock.clone();
        reader
            .lock_handle()
            .await?
            .set_progress_handler(STEPS_BETWEEN, move || clock.now().boot_ms < until_boot_ms);
        let mut firsts = Firsts::default();
        let found = firsts.find(&mut reader, session).await;
        reader.lock_handle().await?.remove_progress_handler();
        // Unless its search came to its end, what it has is not all.
        firsts.complete &= found.is_ok();
        match found {
            // Stopped by the clock.
            Err(_) if self.clock.now().boot_ms >= until_boot_ms => Ok(firsts),
            Err(error) => Err(error),
            Ok(()) => Ok(firsts),
        }
    }
}

impl Firsts {
    async fn find(&mut self, on: &mut SqliteConnection, session: SessionId) -> Result<(), SearchError> {
        let found = sqlx::query("SELECT identity, opened_ms, first, last, standing FROM recording WHERE session = $1")
            .bind(session.to_string())
            .fetch_optional(&mut *on)
            .await?;
        let Some(found) = found else {
            return Ok(());
        };
        let (identity, opened_ms): (String, i64) = (found.try_get(0)?, found.try_get(1)?);
        let (first, last): (i64, i64) = (found.try_get(2)?, found.try_get(3)?);
        let standing: String = found.try_get(4)?;
        let before = sqlx::query(
            "SELECT count(*), coalesce(sum(standing <> $3), 0) FROM recording WHERE identity = $1 AND opened_ms < $2",
        )
        .bind(&identity)
        .bind(opened_ms)
        .bind(Standing::Whole.as_str())
        .fetch_one(&mut *on)
        .await?;
        let (earlier, unread): (i64, i64) = (before.try_get(0)?, before.try_get(1)?);
        let rows = sqlx::query("SELECT DISTINCT facets FROM entry WHERE id >= $1 AND id < $2 AND kind <> 'screen'")
            .bind(first)
            .bind(last)
            .fetch_all(&mut *on)
            .await?;
        // What was refused was not done.
        let refused = facets::label(REFUSED);
        let mut used = BTreeSet::new();
        for row in &rows {
            let facets: &str = row.try_get(0)?;
            let some = facets
                .split(' ')
                .filter(|facet| facet.starts_with(['l', 'p']) && *facet != refused);
            used.extend(some.map(str::to_owned));
        }
        self.earlier = u64::try_from(earlier).unwrap_or(0);
        self.unread = u64::try_from(unread).unwrap_or(0);
        self.complete = standing == Standing::Whole.as_str() && used.len() <= FACETS_MAX;
        for facet in used.into_iter().take(FACETS_MAX) {
            let before = sqlx::query(
                "SELECT 1 FROM words CROSS JOIN entry e ON e.id = words.rowid CROSS JOIN recording r ON r.id = e.recording
                 WHERE words MATCH $1 AND r.opened_ms < $2 ORDER BY words.rowid LIMIT 1",
            )
            .bind(format!("facets : (\"{}\" AND \"{facet}\")", facets::user(&identity)))
            .bind(opened_ms)
            .fetch_optional(&mut *on)
            .await?;
            match (before, facets::name(&facet)) {
                (None, Some(('l', name))) => self.labels.push(name),
                (None, Some((_, name))) => self.programs.push(name),
                (None, None) | (Some(_), _) => {}
            }
        }
        Ok(())
    }
}
