//! The way to a target: the bastions that are dialled before it, in order.

use super::id::TargetName;
use super::inventory::{Reach, Target};

/// Most bastions before a target.
pub const HOPS_MAX: usize = 3;

/// Why there is no way.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRoute {
    #[error("{of} is reached via {hop}, which is not in the inventory")]
    Unknown { of: TargetName, hop: TargetName },
    #[error("{of} is reached via {hop}, which is disabled")]
    Disabled { of: TargetName, hop: TargetName },
    #[error("{of} is reached via {hop}, which is a command on this machine: only an SSH server leads further")]
    NotSsh { of: TargetName, hop: TargetName },
    #[error("the way to {of} leads in a circle: {hop} stands in it twice")]
    Circle { of: TargetName, hop: TargetName },
    #[error("the way to {0} leads over more than {HOPS_MAX} bastions")]
    TooLong(TargetName),
}

/// A way in the making or whole. Looked up one by one, because where targets
/// are found is not the same for everybody who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    target: Target,
    /// From the target outwards: the last one is dialled first.
    hops: Vec<Target>,
}

impl Route {
    /// The way to `target`, without what is before it.
    pub fn to(target: Target) -> Route {
        Route {
            target,
            hops: Vec::new(),
        }
    }

    /// The next bastion to be looked up; nothing once the way is whole.
    pub fn wants(&self) -> Option<&TargetName> {
        match &self.hops.last().unwrap_or(&self.target).reach {
            Reach::Ssh { via, .. } => via.as_ref(),
            Reach::Local { .. } => None,
        }
    }

    /// Puts what was found under the name that [`Route::wants`] before the rest.
    ///
    /// # Errors
    /// [`NoRoute`]; a disabled bastion is none.
    pub fn put(&mut self, found: Option<Target>) -> Result<(), NoRoute> {
        let Some(hop) = self.wants().cloned() else {
            return Ok(());
        };
        let of = self.target.name.clone();
        let found = match found.filter(|found| found.name == hop) {
            Some(found) => found,
            None => return Err(NoRoute::Unknown { of, hop }),
        };
        if of == hop || self.hops.iter().any(|known| known.name == hop) {
            return Err(NoRoute::Circle { of, hop });
        }
        if self.hops.len() >= HOPS_MAX {
            return Err(NoRoute::TooLong(of));
        }
        match found.reach {
            Reach::Local { .. } => Err(NoRoute::NotSsh { of, hop }),
            Reach::Ssh { .. } => {
                self.hops.push(found);
                Ok(())
            }
        }
    }

    /// The whole way to `target` by what `known` finds, whoever of it is disabled.
    ///
    /// # Errors
    /// [`NoRoute`].
    pub fn find(target: Target, known: impl Fn(&TargetName) -> Option<Target>) -> Result<Route, NoRoute> {
        let mut route = Route::to(target);
        while let Some(name) = route.wants().cloned() {
            route.put(known(&name))?;
        }
        Ok(route)
    }

    /// Whether every bastion may be used.
    ///
    /// # Errors
    /// The first one that is disabled.
    pub fn open(&self) -> Result<(), NoRoute> {
        match self.hops().find(|hop| hop.disabled) {
            None => Ok(()),
            Some(hop) => Err(NoRoute::Disabled {
                of: self.target.name.clone(),
                hop: hop.name.clone(),
            }),
        }
    }

    /// Where it leads.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The bastions in the order in which they are dialled.
    pub fn hops(&self) -> impl Iterator<Item = &Target> {
        self.hops.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::kernel::inventory::HostProof;

    fn host(name: &str, via: Option<&str>) -> Target {
        Target {
            name: name.parse().unwrap(),
            logins: vec!["root".parse().unwrap()],
            reach: Reach::Ssh {
                addr: format!("{name}:22"),
                proof: HostProof::HostKey("ssh-ed25519 AAAA".to_owned()),
                credential: Default::default(),
                via: via.map(|via| via.parse().unwrap()),
            },
            labels: Vec::new(),
            disabled: false,
        }
    }

    fn local(name: &str) -> Target {
        Target {
            reach: Reach::Local {
                command: Vec::new(),
                run_as: "nobody".to_owned(),
            },
            ..host(name, None)
        }
    }

    fn way(all: &[Target], to: &str) -> Result<Vec<String>, NoRoute> {
        let known: BTreeMap<_, _> = all.iter().map(|one| (one.name.clone(), one.clone())).collect();
        let target = known.get(&to.parse().unwrap()).unwrap().clone();
        let route = Route::find(target, |name| known.get(name).cloned())?;
        route.open()?;
        Ok(route.hops().map(|hop| hop.name.to_string()).collect())
    }

    #[test]
    fn outermost_first() {
        let all = [
            host("db", Some("inner")),
            host("inner", Some("outer")),
            host("outer", None),
            local("sh"),
        ];
        assert_eq!(way(&all, "db").unwrap(), ["outer", "inner"]);
        assert_eq!(way(&all, "outer").unwrap(), Vec::<String>::new());
        assert_eq!(way(&all, "sh").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn no_way_is_told_by_its_cause() {
        let said = |all: &[Target], to| way(all, to).unwrap_err().to_string();
        let circle = [host("a", Some("b")), host("b", Some("c")), host("c", Some("b"))];
        assert!(said(&circle, "a").contains("circle: b"), "{}", said(&circle, "a"));
        let itself = [host("a", Some("a"))];
        assert!(said(&itself, "a").contains("circle"), "{}", said(&itself, "a"));
        let back = [host("a", Some("b")), host("b", Some("a"))];
        assert!(said(&back, "a").contains("circle: a"), "{}", said(&back, "a"));
        assert!(said(&[host("a", Some("b"))], "a").contains("not in the inventory"));
        assert!(said(&[host("a", Some("b")), local("b")], "a").contains("only an SSH server"));
        let off = Target {
            disabled: true,
            ..host("b", None)
        };
        assert!(said(&[host("a", Some("b")), off], "a").contains("disabled"));
    }

    #[test]
    fn a_way_is_bounded() {
        let chain: Vec<Target> = (0..6)
            .map(|at| match at {
                0 => host("h0", None),
                at => host(&format!("h{at}"), Some(&format!("h{}", at - 1))),
            })
            .collect();
        assert_eq!(way(&chain, "h3").unwrap().len(), HOPS_MAX);
        assert_eq!(way(&chain, "h4").unwrap_err(), NoRoute::TooLong("h4".parse().unwrap()));
    }
}
