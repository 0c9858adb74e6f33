//! A session's opening, step by step.
//!
//! The order is the order of law 8: permit, registry, store row, recording
//! (its head durable), ledger leaf (durable), and only then the target is dialled. A crash after
//! any step leaves a row without a seal, a spool that recovery seals, or an
//! open leaf that `ledger fsck` names; never a silent session. Under a
//! break-glass grant the journal of uses stands where the store row stands.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "store errors other than a dead grant all mean that the store does not answer"
)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_recording::{Event, Head, head};
use tokio::sync::watch;

use super::Gate;
use super::approval::{self, Approved, Waiting};
use super::authentication::Door;
use super::consider::{Considered, consider};
use super::control::Control;
use super::gated::Kill;
use super::session::{Live, Opened};
use crate::clock::Now;
use crate::kernel::admit::Admitted;
use crate::kernel::id::{ReviewId, SessionId};
use crate::kernel::inventory::{Reach, Target};
use crate::kernel::policy::Permit;
use crate::kernel::policy::obligations::{Obligations, RecordMode};
use crate::kernel::session::{EndReason, Until};
use crate::recorder::{Recorder, RecorderError};
use crate::registry::{Closed, Entry};
use crate::store::{ReviewRow, SessionRow, StoreError};

/// How long the store may take in the path of an opening or an end.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// How long a connection lives whose session did not open.
const UNOPENED_WAIT: Duration = Duration::from_secs(2);
/// How long a channel open waits for the session behind it.
const OPEN_WAIT: Duration = Duration::from_secs(30);

/// How often, and how long apart, a row is looked after whose writing got no
/// answer. The first wait is longer than the store may take for one.
const TAKE_BACK_TRIES: u32 = 30;
const TAKE_BACK_WAIT: Duration = Duration::from_secs(10);

/// Why a session did not open. The text is for the user.
#[derive(Debug, Clone)]
pub struct NotOpened {
    pub code: &'static str,
    pub sentence: String,
}

/// How far a session's opening is.
pub enum Progress {
    Begun,
    /// Somebody has to say yes first.
    Waits,
    Over(Result<Arc<Live>, NotOpened>),
}

impl Progress {
    /// The session, once it is open.
    pub fn live(&self) -> Option<Arc<Live>> {
        match self {
            Progress::Over(Ok(live)) => Some(live.clone()),
            Progress::Over(Err(_)) | Progress::Begun | Progress::Waits => None,
        }
    }

    /// The session, or why there is none, for the user.
    fn session(&self) -> Result<Arc<Live>, String> {
        match self {
            Progress::Over(Ok(live)) => Ok(live.clone()),
            Progress::Over(Err(refused)) => Err(refused.sentence.clone()),
            Progress::Waits => Err("the connection still waits for somebody's approval".to_owned()),
            Progress::Begun => Err(late()),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Progress::Over(_))
    }
}

/// A session that is being opened, or why it was not.
pub type Opening = watch::Receiver<Progress>;

/// Where a client came from, and how.
pub struct Came {
    peer: IpAddr,
    /// What its program calls itself (RFC 4253 section 4.2).
    client_id: String,
    form: head::Form,
}

impl Came {
    pub fn new(peer: IpAddr, client_id: &[u8], door: &Door) -> Came {
        let client_id = String::from_utf8_lossy(client_id);
        Came {
            peer,
            client_id: client_id.chars().filter(|c| !c.is_control()).collect(),
            form: match door {
                Door::Gate(_) => head::Form::Direct,
                Door::Jump(_) => head::Form::Jump,
            },
        }
    }
}

/// Begins to open a session. One that does not open ends its connection.
pub fn begin(
    gate: Arc<Gate>,
    (admitted, approved): (Admitted, Option<Approved>),
    came: Came,
    client: russh::server::Handle,
    kill: Kill,
) -> Opening {
    let (send, receive) = watch::channel(Progress::Begun);
    tokio::spawn(async move {
        let opened = open(gate, admitted, came, approved, client, kill.clone(), &send).await;
        let live = opened.as_ref().ok().cloned();
        if let Err(refused) = &opened {
            tracing::info!(code = refused.code, sentence = refused.sentence, "session not opened");
        }
        let failed = opened.is_err();
        send.send_replace(Progress::Over(opened));
        if failed {
            // Time for a channel open to be answered in words; then a
            // connection without a session has no business here.
            kill.guard(tokio::time::sleep(UNOPENED_WAIT)).await;
            kill.fire();
        }
        // The client may have left before the session was there to be told.
        if kill.fired()
            && let Some(live) = live
        {
            live.client_gone();
        }
    });
    receive
}

fn late() -> String {
    "the session did not open in time".to_owned()
}

/// Waits for the session behind a channel.
///
/// # Errors
/// Why there is none, for the user.
pub async fn opened(opening: &mut Opening) -> Result<Arc<Live>, String> {
    begun(opening).await?;
    let limit = Duration::from_millis(approval::WAIT_MS_MAX).saturating_add(OPEN_WAIT);
    let waited = tokio::time::timeout(limit, opening.wait_for(Progress::is_over)).await;
    let state = waited.map_err(|_| late())?.map_err(|_| late())?;
    state.session()
}

/// The same for what holds up the whole connection meanwhile: it does not wait
/// for somebody's yes.
///
/// # Errors
/// As [`opened`].
pub async fn opened_by_now(opening: &mut Opening) -> Result<Arc<Live>, String> {
    begun(opening).await?;
    opening.borrow().session()
}

/// Waits until it is open, was refused, or waits for somebody.
async fn begun(opening: &mut Opening) -> Result<(), String> {
    let moved = |progress: &Progress| !matches!(progress, Progress::Begun);
    let waited = tokio::time::timeout(OPEN_WAIT, opening.wait_for(moved)).await;
    waited.map_err(|_| late())?.map_err(|_| late())?;
    Ok(())
}

/// Opens a session for an admitted client.
///
/// # Errors
/// [`NotOpened`]; whatever was begun is ended and sealed.
async fn open(
    gate: Arc<Gate>,
    admitted: Admitted,
    came: Came,
    approved: Option<Approved>,
    client: russh::server::Handle,
    kill: Kill,
    progress: &watch::Sender<Progress>,
) -> Result<Arc<Live>, NotOpened> {
    let refused = |code, sentence: String| NotOpened { code, sentence };
    let peer = came.peer;
    let mut approved = approved;
    let considered = loop {
        let considered = match consider(&gate, &admitted, peer).await {
            Ok(considered) => considered,
            Err(denied) => {
                denied.alarm.into_iter().for_each(|alarm| gate.notify(alarm));
                return Err(denied.why);
            }
        };
        if !considered.asks() {
            break considered;
        }
        match &approved {
            Some(approved) if approved.covers(considered.permit.obligations()) => break considered,
            // Asked again from the start: it may have taken minutes.
            Some(_) | None => {
                progress.send_replace(Progress::Waits);
                let waiting = Waiting::ask(&gate, &admitted, (&considered).into()).await?;
                let answer = kill.guard(waiting.wait()).await;
                approved = Some(answer.unwrap_or_else(|| Err(refused("client_lost", "the client left".into())))?);
            }
        }
    };
    let sponsor = considered.sponsor().map(str::to_owned);
    let Considered {
        now,
        target,
        hops,
        facts,
        history,
        asked,
        policies,
        permit,
        alarm,
    } = considered;
    alarm.into_iter().for_each(|alarm| gate.notify(alarm));
    // What the request was let through for holds in its sessions as well.
    let mut held_to = permit.obligations().meet(&asked.obligations);
    // With what was unusual about it: a change of policies asks again.
    let facts = permit.used().map_or(facts, |(asked, _)| asked.clone());
    if admitted.break_glass().is_some() {
        held_to.record = held_to.record.max(RecordMode::Durable);
    }
    if held_to.record == RecordMode::Encrypted && !gate.recorders.encrypts() {
        return Err(refused(
            "recording_not_encrypted",
            format!(
                "rule {} asks for an encrypted recording, and this server has nobody to encrypt to: \
                 its admin names investigators in recording.recipients",
                permit.rule()
            ),
        ));
    }
    if !target.logins.contains(&admitted.destination().login) {
        return Err(refused(
            "login_unknown",
            "the login is not one of the target's any more".into(),
        ));
    }

    let id = SessionId(crate::entropy::id());
    let control = Control::new(gate.clock.clone());
    let settings = gate.settings();
    let entry = Entry {
        id,
        grant: admitted.grant(),
        identity: admitted.identity().clone(),
        destination: admitted.destination().clone(),
        hops: hops.iter().map(|hop| hop.name.clone()).collect(),
        until: Until::new(admitted.until_ms(), now.wall_ms, now.boot_ms),
        oldest_boot_ms: now.boot_ms.saturating_add(settings.session_ms_max),
        facts: facts.clone(),
        held_to: held_to.clone(),
        held: control.clone(),
        leased: admitted.break_glass().is_none(),
    };
    let ticket = gate
        .registry
        .enter(entry, settings.sessions_per_identity)
        .map_err(|closed| match closed {
            Closed::Draining => refused("drain", EndReason::Drain.sentence()),
            Closed::LeaseLost => refused("store_unavailable", EndReason::LeaseLost.sentence()),
            Closed::Full(most) => refused(
                "sessions_too_many",
                format!(
                    "you are in {most} sessions, and nobody may be in more at once: end one of them first \
                     (ssh.sessions_per_identity is the admin's to set)"
                ),
            ),
        })?;

    // Who is in the registry is asked again by a change; who enters while it
    // happens would be asked by nobody.
    if !Arc::ptr_eq(&policies, &gate.policies()) {
        return Err(refused(
            "policy_changed",
            "the policies changed at this moment; connect again".into(),
        ));
    }

    let row = SessionRow {
        id,
        node: gate.node.clone(),
        grant: admitted.grant(),
        identity: admitted.identity().clone(),
        destination: admitted.destination().clone(),
        source: peer.to_string(),
        started_ms: now.wall_ms,
        until_ms: admitted.until_ms(),
        ended_ms: None,
        end_code: None,
    };
    match admitted.break_glass() {
        Some(_) => {
            // Room first: on a full disk neither journal nor ledger has any.
            gate.recorders.make_way();
            gate.break_glass(&row, &admitted).await?;
        }
        None => enter(&gate, &row, &admitted, &permit, &held_to).await?,
    }
    let recorder = match record(&gate, &admitted, &target, id, came, now, &control).await {
        Ok(recorder) => recorder,
        Err(error) => {
            let code = "recorder_failed";
            gate.session_ended(&admitted, id, gate.clock.now().wall_ms, code).await;
            return Err(refused(code, format!("the session cannot be recorded: {error}")));
        }
    };

    let opened = Opened {
        id,
        admitted,
        target,
        hops,
        facts,
        sponsor,
        held_to,
        history,
    };
    let live = Live::new(opened, gate, control, recorder, kill);
    tracing::info!(session = %live.id, identity = %live.admitted.identity(),
        destination = %live.admitted.destination(), source = %peer, "session opened");
    live.note_use(&permit);
    if let Some(approved) = &approved {
        let text = approved.sentence("connect");
        live.record(0, Event::Marker { text: text.into() });
    }
    live.gate.metrics.sessions.inc();
    live.gate.metrics.sessions_active.inc();
    // Its own task first: an end order that comes while the target is being
    // dialled is served at once.
    tokio::spawn(live.clone().run(ticket, client));
    let begun = match live.control.stop.guard(live.begin(&permit)).await {
        Some(begun) => begun,
        None => Err(live.reason()),
    };
    match begun {
        Ok(()) => {
            tokio::spawn(live.clone().check_each_minute());
            Ok(live)
        }
        Err(reason) => {
            let sentence = reason.sentence();
            let code = reason.code();
            live.control.end_now(reason);
            Err(refused(code, sentence))
        }
    }
}

/// The session's row, which consumes a single-use grant, and the review that
/// its rules ask for.
async fn enter(
    gate: &Arc<Gate>,
    row: &SessionRow,
    admitted: &Admitted,
    permit: &Permit,
    held_to: &Obligations,
) -> Result<(), NotOpened> {
    let refused = |code, sentence: String| NotOpened { code, sentence };
    let (id, now) = (row.id, row.started_ms);
    let opened = bounded(gate.store.open_session(row, admitted.certificate_sha256(), now)).await;
    opened.map_err(|error| match error {
        StoreError::GrantNotLive(why) => refused(why, format!("the grant is not live any more ({why})")),
        other => {
            // It may have happened all the same.
            take_back(gate, id);
            refused("store_unavailable", other.to_string())
        }
    })?;
    if !held_to.review {
        return Ok(());
    }
    let review = ReviewRow {
        // One for each session, however often it is written.
        id: ReviewId(id.0),
        session: Some(id),
        identity: row.identity.clone(),
        destination: row.destination.clone(),
        kind: "policy".to_owned(),
        why: format!("rule {}", permit.rule()),
        opened_ms: now,
        closed_ms: None,
        closed_by: None,
        note: None,
    };
    if let Err(error) = bounded(gate.store.open_review(&review)).await {
        let code = "review_not_opened";
        gate.session_ended(admitted, id, gate.clock.now().wall_ms, code).await;
        return Err(refused(code, error.to_string()));
    }
    Ok(())
}

/// Ends a row that may have been written by a call whose answer got lost, once
/// the store answers: nobody is in.
fn take_back(gate: &Arc<Gate>, id: SessionId) {
    let gate = gate.clone();
    tokio::spawn(async move {
        for _ in 0..TAKE_BACK_TRIES {
            tokio::time::sleep(TAKE_BACK_WAIT).await;
            let now = gate.clock.now().wall_ms;
            match bounded(gate.store.close_session(id, now, "not_opened")).await {
                Ok(()) | Err(StoreError::NotFound(_)) => return,
                Err(error) => tracing::warn!(session = %id, %error, "a row that may be there is not ended yet"),
            }
        }
    });
}

async fn record(
    gate: &Arc<Gate>,
    admitted: &Admitted,
    target: &Target,
    id: SessionId,
    came: Came,
    now: Now,
    control: &Arc<Control>,
) -> Result<Recorder, RecorderError> {
    let head = Head {
        session_id: id.0,
        node: gate.node.to_string(),
        opened_wall_ms: now.wall_ms,
        target: target.name.to_string(),
        login: admitted.destination().login.to_string(),
        identity: admitted.identity().to_string(),
        grant_id: admitted.grant().to_string(),
        grant_until_wall_ms: admitted.until_ms(),
        cert_sha256: admitted.certificate_sha256(),
        cert_serial: admitted.certificate_serial(),
        cert_key_id: admitted.certificate_key_id().to_owned(),
        source: came.peer.to_string(),
        policy_digest: admitted.policy_digest(),
        client_id: came.client_id,
        form: came.form,
        kind: match target.reach {
            Reach::Ssh { .. } => head::TargetKind::Ssh,
            Reach::Local { .. } => head::TargetKind::Local,
        },
        // A proof counts only for the ledger that the recording names.
        ledger_origin: gate.ledger.origin().to_owned(),
        ..Head::default()
    };
    let failed = control.clone();
    let broken = Box::new(move |why| failed.end_now(EndReason::RecorderFailed(why)));
    let labels = gate.policies().labels().clone();
    match admitted.break_glass() {
        Some(_) => gate.recorders.open_break_glass(head, labels, broken).await,
        None => gate.recorders.open(head, labels, broken).await,
    }
}

/// A store call that does not hang an opening.
pub async fn bounded<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(STORE_WAIT, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unavailable(format!(
            "no answer within {} s",
            STORE_WAIT.as_secs()
        ))),
    }
}
