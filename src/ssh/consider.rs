//! What a connection is decided on: who comes, where to, on which grant, and
//! what the policies in force say to that.

use std::net::IpAddr;
use std::sync::Arc;

use super::Gate;
use super::opening::{NotOpened, bounded};
use crate::anomaly;
use crate::clock::Now;
use crate::kernel::admit::Admitted;
use crate::kernel::break_glass::Signed;
use crate::kernel::grant::{Grant, WallMs};
use crate::kernel::habit::History;
use crate::kernel::inventory::Target;
use crate::kernel::policy::engine::Policies;
use crate::kernel::policy::facts::{Action, Facts, Proof, Whereto, Who};
use crate::kernel::policy::obligations::Obligations;
use crate::kernel::policy::{self, Context, Permit};
use crate::kernel::request::Request;
use crate::kernel::route::Route;
use crate::store::StoreError;

/// How strong a certificate proves who shows it: a key, see [`Proof`].
const PROOF_BY_KEY: u8 = 2;
/// What is decided on, and that it may be.
pub struct Considered {
    pub(super) now: Now,
    pub(super) target: Target,
    /// The bastions before it, in the order in which they are dialled.
    pub(super) hops: Vec<Target>,
    pub(super) facts: Facts,
    pub(super) history: History,
    pub(super) asked: Asked,
    pub policies: Arc<Policies>,
    pub permit: Permit,
    /// To be told when it is acted upon: a rule carries `@notify`.
    pub alarm: Option<serde_json::Value>,
}

/// A connection that may not be.
pub struct Refused {
    pub why: NotOpened,
    /// As for [`Considered`].
    pub alarm: Option<serde_json::Value>,
}

impl From<NotOpened> for Refused {
    fn from(why: NotOpened) -> Refused {
        Refused { why, alarm: None }
    }
}

impl Considered {
    /// Whether somebody has to say yes first. What was signed beforehand has
    /// been.
    pub fn asks(&self) -> bool {
        !self.asked.beforehand && self.permit.obligations().asks()
    }

    /// Who asked for the grant, if somebody did.
    pub fn sponsor(&self) -> Option<&str> {
        self.asked.by.as_deref().filter(|_| self.asked.requested)
    }

    /// What is known of who comes, and of where to.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

/// Puts a connection before the policies in force. Tells nobody: it may be
/// asked more than once for one connection.
///
/// # Errors
/// They refuse it, or the store does not say what they have to know.
pub async fn consider(gate: &Arc<Gate>, admitted: &Admitted, peer: IpAddr) -> Result<Considered, Refused> {
    let now = gate.clock.now();
    let Basis {
        target,
        hops,
        who,
        grant,
        history,
        asked,
    } = match admitted.break_glass() {
        Some(signed) => Basis::signed(signed, admitted)?,
        None => Basis::stored(gate, admitted, now.wall_ms).await?,
    };
    let (policies, settings) = (gate.policies(), gate.settings());
    let facts = Facts {
        requested_by: asked.by.clone(),
        ..facts(gate, admitted, &who, &target, &grant, peer, now.wall_ms)
    };
    let permit = policy::decide(
        admitted,
        Request::Connect,
        &Context {
            now: now.wall_ms,
            env_allowed: &settings.env_allow,
            subsystems: &settings.subsystems,
            store_alive: gate.registry.store_alive(),
            policies: &policies,
            facts: &facts,
            history: &history,
        },
    );
    let (allowed, rule, notify) = match &permit {
        Ok(permit) => (true, permit.rule(), permit.obligations().notify),
        Err(denial) => (false, denial.rule.as_str(), denial.notify),
    };
    let alarm = notify.then(|| {
        serde_json::json!({
            "identity": admitted.identity(), "destination": admitted.destination(), "source": peer,
            "action": "connect", "allowed": allowed, "rule": rule,
        })
    });
    let permit = match permit {
        Ok(permit) => permit,
        Err(denial) => {
            let why = NotOpened {
                code: denial.code,
                sentence: format!("refused by rule {}: {}", denial.rule, denial.sentence),
            };
            return Err(Refused { why, alarm });
        }
    };
    Ok(Considered {
        alarm,
        now,
        target,
        hops,
        facts,
        history,
        asked,
        policies,
        permit,
    })
}

/// What a session is opened on.
struct Basis {
    target: Target,
    /// The bastions before it, in the order in which they are dialled.
    hops: Vec<Target>,
    who: Who,
    grant: Grant,
    history: History,
    asked: Asked,
}

/// Who asked for the grant, and what the rules that let it be asked demand.
#[derive(Default)]
pub(super) struct Asked {
    by: Option<String>,
    pub(super) obligations: Obligations,
    /// By a request that others answered, not by an admin's own word.
    requested: bool,
    /// Enough people have signed it before it was needed.
    beforehand: bool,
}

impl Basis {
    /// What was signed beforehand: nobody is asked.
    fn signed(signed: &Signed, admitted: &Admitted) -> Result<Basis, NotOpened> {
        let door = signed.statement().door(admitted.certificate_sha256());
        let door = door.ok_or_else(|| NotOpened {
            code: "no_grant",
            sentence: "the grant does not name this certificate".into(),
        })?;
        let route = Route::find(door.target.clone(), |name| door.hop(name).cloned())?;
        Ok(Basis {
            hops: route.hops().cloned().collect(),
            target: door.target.clone(),
            who: signed.statement().who.clone(),
            grant: signed.grant(door),
            history: History::default(),
            asked: Asked {
                beforehand: true,
                ..Asked::default()
            },
        })
    }

    /// What the store says now.
    async fn stored(gate: &Gate, admitted: &Admitted, now: WallMs) -> Result<Basis, NotOpened> {
        let refused = |code, sentence: String| NotOpened { code, sentence };
        let unavailable = |error: StoreError| refused("store_unavailable", error.to_string());
        let (target, identity, grant, history) = tokio::join!(
            bounded(gate.store.target(&admitted.destination().target)),
            bounded(gate.store.identity(admitted.identity())),
            bounded(gate.store.grant(admitted.grant())),
            bounded(anomaly::history(&*gate.store, admitted.identity())),
        );
        let gone = |what: &str| format!("the {what} is not in the inventory any more");
        let target = target
            .map_err(unavailable)?
            .filter(|target| !target.disabled)
            .ok_or_else(|| refused("target_unknown", gone("target")))?;
        let identity = identity
            .map_err(unavailable)?
            .ok_or_else(|| refused("identity_unknown", gone("identity")))?;
        identity
            .may_hold(now)
            .map_err(|why| refused("identity_refused", why.to_string()))?;
        let grant = grant
            .map_err(unavailable)?
            .ok_or_else(|| refused("grant_unknown", "the grant is not in the store any more".into()))?;
        let asked = match grant.request {
            None => Asked {
                by: Some(grant.issued_by.clone()),
                ..Asked::default()
            },
            Some(id) => {
                let row = bounded(gate.store.request(id)).await.map_err(unavailable)?;
                let row = row.ok_or_else(|| refused("request_unknown", gone("request")))?;
                Asked {
                    by: Some(row.request.requested_by),
                    obligations: row.request.obligations,
                    requested: true,
                    beforehand: false,
                }
            }
        };
        let route = gate.route(target).await?;
        Ok(Basis {
            hops: route.hops().cloned().collect(),
            target: route.target().clone(),
            who: Who::from(&identity),
            grant,
            history: history.map_err(unavailable)?,
            asked,
        })
    }
}

/// What policy knows of a session, whatever is asked in it.
fn facts(
    gate: &Gate,
    admitted: &Admitted,
    who: &Who,
    target: &Target,
    grant: &Grant,
    peer: IpAddr,
    now: WallMs,
) -> Facts {
    let source = peer.to_canonical();
    Facts {
        login: admitted.destination().login.to_string(),
        reason: grant.reason.clone(),
        ticket: grant.ticket.clone(),
        proof: Proof {
            method: "certificate".to_owned(),
            strength: PROOF_BY_KEY,
            age_ms: now.saturating_sub(grant.from_ms),
        },
        capabilities: admitted.capabilities().clone(),
        single_use: grant.single_use,
        ..gate
            .policies
            .facts(Action::Connect, who.clone(), Some(Whereto::from(target)), Some(source))
    }
}
