//! Search over all recordings. Whoever may not read a recording finds nothing
//! of it, and each search is told to the ledger with the sessions it showed.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;

use super::caller::Caller;
use super::problem::{Code, Problem};
use super::request::{Body, Id, Json};
use super::wire::access::{AnomalyView, RequestView};
use super::wire::search::{
    Background, CheckedView, FirstsView, Found, HitView, IndexRequest, IndexView, SearchRequest,
};
use super::wire::{GrantView, rfc3339};
use super::{Api, rules};
use crate::kernel::id::{IdentityName, SessionId, TargetName};
use crate::kernel::policy::facts::{Action, Facts};
use crate::search::{Checked, Hit, Query, SearchError, confirm};
use crate::store::SessionRow;

/// Hits of one answer when nothing is said, and at most.
const HITS_DEFAULT: u32 = 50;
const HITS_MAX: u32 = 200;
/// Hits that are asked of the index at once.
const HITS_AT_ONCE: usize = 256;
/// How far before a session's start what was unusual about it may be, in ms.
const ANOMALIES_BEFORE_MS: u64 = 60_000;
/// Most of what was unusual about one session that is told.
const ANOMALIES_MAX: u32 = 1_000;

impl From<SearchError> for Problem {
    fn from(error: SearchError) -> Problem {
        Problem::new(Code::Unavailable, error.to_string())
            .hint("the recordings are not touched by it; `portcullis recordings index --rebuild` makes it anew")
    }
}

/// Whose recordings a caller may read: asked once for each holder and target.
struct Readable<'a> {
    api: &'a Api,
    caller: &'a Caller,
    reason: &'a str,
    sessions: BTreeMap<SessionId, bool>,
    answers: BTreeMap<(Option<IdentityName>, Option<TargetName>), bool>,
    rules: Vec<String>,
    /// A yes that wants a fresh login first.
    stale: Option<Problem>,
}

impl Readable<'_> {
    async fn may(&mut self, session: SessionId) -> Result<bool, Problem> {
        if let Some(known) = self.sessions.get(&session) {
            return Ok(*known);
        }
        // Whose it is says the store: the index is believed in nothing.
        let row = self.api.store.session(session).await?;
        let key = (
            row.as_ref().map(|row| row.identity.clone()),
            row.as_ref().map(|row| row.destination.target.clone()),
        );
        let may = match self.answers.get(&key) {
            Some(known) => *known,
            None => {
                let may = self.ask(row.as_ref()).await?;
                self.answers.insert(key, may);
                may
            }
        };
        self.sessions.insert(session, may);
        Ok(may)
    }

    async fn ask(&mut self, row: Option<&SessionRow>) -> Result<bool, Problem> {
        let facts = self.api.replay_facts(self.caller, row, self.reason).await?;
        let yes = match self.api.ask(facts).await {
            Ok(yes) => yes,
            Err(problem) if problem.code == Code::Denied => return Ok(false),
            Err(problem) => return Err(problem),
        };
        if let Err(problem) = Api::fresh_login(&yes, self.caller) {
            self.stale = Some(problem);
            return Ok(false);
        }
        for rule in yes.rules() {
            if !self.rules.contains(rule) {
                self.rules.push(rule.clone());
            }
        }
        Ok(true)
    }
}

impl Api {
    /// What policy is asked before somebody reads the recording of a session.
    pub(super) async fn replay_facts(
        &self,
        caller: &Caller,
        session: Option<&SessionRow>,
        reason: &str,
    ) -> Result<Facts, Problem> {
        let target = match session {
            Some(session) => self.store.target(&session.destination.target).await?,
            None => None,
        };
        Ok(Facts {
            reason: reason.to_owned(),
            holder: session.map(|session| session.identity.to_string()),
            ..self.facts(caller, Action::Replay, target.as_ref()).await?
        })
    }

    /// Hits that the caller may see, newest first, where the next page begins,
    /// and whether all was looked through. What he may not read shows in none of
    /// the three, save that it takes time.
    async fn hits(
        &self,
        query: &Query,
        before: Option<i64>,
        most: usize,
        readable: &mut Readable<'_>,
    ) -> Result<(Vec<Hit>, Option<i64>, bool), Problem> {
        let index = self.search.index();
        let until = index.until();
        let (mut shown, mut before): (Vec<Hit>, _) = (Vec::new(), before);
        loop {
            let page = index.page(query, before, HITS_AT_ONCE, until).await?;
            for hit in page.hits {
                if readable.may(hit.session).await? {
                    shown.push(hit);
                }
                if shown.len() >= most {
                    let next = shown.last().map(|last| last.id);
                    return Ok((shown, next, true));
                }
            }
            before = page.next;
            if before.is_none() && !page.cut {
                return Ok((shown, None, true));
            }
            if page.cut || self.clock.now().boot_ms >= until {
                return Ok((shown, before, false));
            }
        }
    }

    async fn index_view(&self) -> Result<IndexView, Problem> {
        let (counts, waiting) = self.search.counts().await?;
        Ok(IndexView::new(
            counts.whole,
            counts.part,
            counts.locked,
            counts.unread,
            counts.gone,
            counts.entries,
            waiting,
        ))
    }
}

fn view(hit: Hit, checked: Checked) -> HitView {
    HitView {
        session: hit.session,
        identity: hit.identity,
        destination: format!("{}@{}", hit.login, hit.target),
        at: rfc3339(hit.opened_ms.saturating_add(hit.entry.at_ms)),
        at_ms: hit.entry.at_ms,
        channel: hit.entry.channel,
        kind: hit.entry.kind.word().to_owned(),
        text: hit.entry.text,
        status: hit.entry.status,
        labels: hit.entry.labels,
        checked: match checked {
            Checked::Recording => CheckedView::Recording,
            Checked::Index => CheckedView::Index,
            Checked::Differs => CheckedView::Differs,
        },
    }
}

/// `POST /v1/recordings/search`.
pub async fn search(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<SearchRequest>,
) -> Result<Json<Found>, Problem> {
    rules::reason(&request.reason)?;
    let most = match request.limit {
        None => HITS_DEFAULT,
        Some(limit) if (1..=HITS_MAX).contains(&limit) => limit,
        Some(limit) => return Err(Problem::invalid(format!("limit is 1 to {HITS_MAX}, not {limit}"))),
    };
    let before = match request.after.as_deref().map(str::parse::<i64>) {
        None => None,
        Some(Ok(before)) => Some(before),
        Some(Err(_)) => return Err(Problem::invalid("after is not what `next` said")),
    };
    let query = Query::parse(&request.query, api.clock.now().wall_ms).map_err(|why| {
        Problem::invalid(format!("the query: {why}"))
            .hint("words, \"phrases\", /patterns/, user:NAME, target:NAME, after:2026-01-31")
    })?;
    let mut readable = Readable {
        api: &api,
        caller: &caller,
        reason: &request.reason,
        sessions: BTreeMap::new(),
        answers: BTreeMap::new(),
        rules: Vec::new(),
        stale: None,
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (hits, next, complete) = api.hits(&query, before, most, &mut readable).await?;
    if let (true, Some(problem)) = (hits.is_empty(), readable.stale.take()) {
        return Err(problem);
    }
    let mut sessions: Vec<SessionId> = hits.iter().map(|hit| hit.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    // Entry before effect, as for a replay.
    let body = serde_json::json!({
        "by": caller.name(),
        "query": request.query,
        "reason": request.reason,
        "rules": readable.rules,
        "sessions": sessions,
    });
    api.note("search", &body).await?;
    let (places, clock) = (api.search.places().clone(), api.clock.clone());
    let confirming = tokio::task::spawn_blocking(move || {
        let checked = confirm(&hits, &places, &clock);
        hits.into_iter()
            .zip(checked)
            .map(|(hit, checked)| view(hit, checked))
            .collect()
    });
    let views: Vec<HitView> = confirming
        .await
        .map_err(|error| Problem::new(Code::Broken, error.to_string()))?;
    let (counts, waiting) = api.search.counts().await?;
    let next = next.map(|next| next.to_string());
    Ok(Json(Found::new(
        views,
        next,
        complete && waiting == 0,
        counts.part,
        counts.locked,
        counts.unread,
    )))
}

/// `GET /v1/recordings/index`.
pub async fn index(State(api): State<Arc<Api>>) -> Result<Json<IndexView>, Problem> {
    Ok(Json(api.index_view().await?))
}

/// `POST /v1/recordings/index`: made anew, in the background.
pub async fn rebuild(
    State(api): State<Arc<Api>>,
    Body(request): Body<IndexRequest>,
) -> Result<Json<IndexView>, Problem> {
    if request.rebuild {
        api.search.rebuild();
    }
    Ok(Json(api.index_view().await?))
}

/// `GET /v1/sessions/{id}/background`: what only the server knows of it.
pub async fn background(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Id(id): Id,
) -> Result<Json<Background>, Problem> {
    let id = api.session_id(&id).await?;
    let row = api.store.session(id).await?;
    let row = row.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no session {id}")))?;
    // What was run for the first time is what is in the recording.
    let yes = api.ask(api.replay_facts(&caller, Some(&row), "summary").await?).await?;
    Api::fresh_login(&yes, &caller)?;
    let now = api.clock.now().wall_ms;
    let grant = api.store.grant(row.grant).await?;
    let request = match grant.as_ref().and_then(|grant| grant.request) {
        Some(request) => api.store.request(request).await?,
        None => None,
    };
    let since = row.started_ms.saturating_sub(ANOMALIES_BEFORE_MS);
    let anomalies = api.store.anomalies(since, Some(id), ANOMALIES_MAX).await?.into_iter();
    let index = api.search.index();
    let firsts = index.firsts(id, index.until()).await?;
    Ok(Json(Background::new(
        row.into(),
        grant.map(|grant| GrantView::at(&grant, now)),
        request.map(|request| RequestView::at(&request, now)),
        anomalies.map(AnomalyView::from).collect(),
        FirstsView {
            earlier: firsts.earlier,
            unread: firsts.unread,
            complete: firsts.complete,
            labels: firsts.labels,
            programs: firsts.programs,
        },
    )))
}
