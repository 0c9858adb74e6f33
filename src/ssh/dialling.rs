//! A session's way to its target: the bastions before it and whose login it
//! takes, as the inventory has them.

use super::Gate;
use super::opening::{NotOpened, bounded};
use super::session::Live;
use super::target::{self, Dial, Host, House};
use super::target_channel::Dialled;
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
        dialled.map(Some).map_err(|error| lost(error.to_string()))
    }
}
