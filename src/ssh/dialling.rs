//! A session's way to its target: the bastions before it and whose login it
//! takes, as the inventory has them.

use std::sync::atomic::Ordering;

use portcullis_recording::Event;

use super::Gate;
use super::broken::Broken;
use super::opening::{NotOpened, bounded};
use super::session::Live;
use super::target::{self, Dial, Host, House};
use super::target_channel::Dialled;
use crate::kernel::id::TargetName;
use crate::kernel::inventory::Target;
use crate::kernel::policy::Permit;
use crate::kernel::route::{NoRoute, Route};
use crate::kernel::session::EndReason;

/// Stable code of a target that no way leads to.
const NO_ROUTE: &str = "no_route";

impl From<NoRoute> for NotOpened {
    fn from(why: NoRoute) -> NotOpened {
        NotOpened {
            code: NO_ROUTE,
            sentence: why.to_string(),
        }
    }
}

impl Gate {
    /// The way to `target` as the store has it now.
    ///
    /// # Errors
    /// There is none, or the store does not answer.
    pub async fn route(&self, target: Target) -> Result<Route, NotOpened> {
        let mut route = Route::to(target);
        while let Some(name) = route.wants().cloned() {
            let found = bounded(self.store.target(&name)).await;
            route.put(found.map_err(|error| NotOpened {
                code: "store_unavailable",
                sentence: error.to_string(),
            })?)?;
        }
        route.open()?;
        Ok(route)
    }
}

impl Live {
    /// A logged-in target connection, or nothing for a local target.
    ///
    /// # Errors
    /// Why there is none, in words for the user.
    pub async fn dial(&self, permit: &Permit) -> Result<Option<Dialled>, EndReason> {
        let lost = |why: String| EndReason::TargetLost(why);
        let Some(host) = Host::of(&self.target, &self.admitted.destination().login) else {
            return Ok(None);
        };
        let permit = permit.to_connect();
        let permit = permit.ok_or_else(|| lost("this permit is not for connecting".into()))?;
        let hops: Option<Vec<Host>> = self.hops.iter().map(Host::of_hop).collect();
        let settings = self.gate.settings();
        let dial = Dial {
            hops: hops.ok_or_else(|| lost("a bastion before it has no login".into()))?,
            target: host,
            banner: self.banner.clone(),
            broken: Broken::default(),
            key_id: format!(
                "{} grant={} session={}",
                self.admitted.identity(),
                self.admitted.grant(),
                self.id
            ),
            extensions: self.extensions(),
            until_ms: self.admitted.until_ms(),
            kex: settings.kex,
            timeout: settings.target_timeout,
            sources: settings.target_sources.clone(),
        };
        let house = House {
            permit,
            keeper: &*self.gate.keeper,
            sources: &self.gate.credentials,
            now_ms: self.gate.clock.now().wall_ms,
        };
        let dialled = target::dial(&dial, house, &self.kill).await;
        // Also of a target that did not let us in.
        if let Some(said) = self.banner.note() {
            let text = format!("the target says before the login: {said}");
            self.record(0, Event::Marker { text: text.into() });
        }
        dialled.map(Some).map_err(|error| {
            if let Some(bastion) = dial.broken.bastion() {
                self.bastion_broke(bastion, &error.to_string());
            }
            lost(error.to_string())
        })
    }

    /// A bastion on the way to the target failed: said in the log, and once a
    /// session in the ledger.
    pub fn bastion_broke(&self, bastion: &TargetName, why: &str) {
        tracing::warn!(session = %self.id, %bastion, target = %self.target.name, why, "a bastion on the way to a target failed");
        if self.bastion_noted.swap(true, Ordering::SeqCst) {
            return;
        }
        let body = serde_json::json!({
            "session": self.id, "bastion": bastion, "target": self.target.name, "why": why,
        });
        let gate = self.gate.clone();
        tokio::spawn(async move {
            if let Err(error) = gate.ledger.append_event("bastion-broke", body).await {
                tracing::error!(%error, "a bastion that failed is not in the ledger");
            }
        });
    }
}
