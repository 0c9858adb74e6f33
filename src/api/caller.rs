//! Who calls: a Unix account at the server's own socket, or an identity with a
//! token over TLS. Every route but a few is closed to anybody else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::Api;
use super::peer::Peer;
use super::problem::{Code, Problem};
use crate::kernel::grant::WallMs;
use crate::kernel::id::IdentityName;
use crate::kernel::inventory::{Identity, IdentityKind, Role};
use crate::kernel::policy::facts::{Proof, Who};

/// What tokens begin with, so that scanners for leaked secrets know them.
pub const TOKEN_PREFIX: &str = "pct_";
/// Random bytes of a token.
pub const TOKEN_BYTES: usize = 32;
/// Longest token that is looked up, in bytes.
const TOKEN_TEXT_MAX: usize = 128;

/// The address at the other end of a TLS connection.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub IpAddr);

/// Who calls, proved. Only [`Api::caller`] makes one.
#[derive(Clone, Debug)]
pub struct Caller {
    name: String,
    identity: Option<Identity>,
    roles: BTreeSet<Role>,
    proof: Proof,
    source: Option<IpAddr>,
    token: Option<([u8; 32], WallMs)>,
}

impl Caller {
    /// The identity's name, or the Unix account at the socket.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As it stands in the inventory, if it does.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    pub fn roles(&self) -> &BTreeSet<Role> {
        &self.roles
    }

    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Whether it sees what others do: requests, grants, sessions.
    pub fn oversees(&self) -> bool {
        [Role::Admin, Role::Approver, Role::Auditor, Role::Investigator]
            .iter()
            .any(|role| self.has(*role))
    }

    /// How it proved itself.
    pub fn proof(&self) -> &Proof {
        &self.proof
    }

    /// None at the server's own socket.
    pub fn source(&self) -> Option<IpAddr> {
        self.source
    }

    /// Hash and end of its token, if it has one.
    pub fn token(&self) -> Option<([u8; 32], WallMs)> {
        self.token
    }

    /// As policy sees it.
    ///
    /// # Errors
    /// A Unix account whose name cannot be an identity's.
    pub fn who(&self) -> Result<Who, Problem> {
        match &self.identity {
            Some(identity) => Ok(Who {
                roles: self.roles.clone(),
                ..Who::from(identity)
            }),
            None => Ok(Who {
                name: self.name.parse().map_err(|_| {
                    Problem::denied(format!("the account `{}` has no name that policy could use", self.name))
                })?,
                kind: IdentityKind::Person,
                roles: self.roles.clone(),
                groups: BTreeSet::new(),
                owner: None,
                purpose: None,
            }),
        }
    }
}

/// What of a token is kept.
pub fn token_sha256(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The token in `Authorization: Bearer …` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?;
    if values.next().is_some() {
        // Two of them: which one was meant nobody knows.
        return None;
    }
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let good =
        scheme.eq_ignore_ascii_case("bearer") && token.len() <= TOKEN_TEXT_MAX && token.starts_with(TOKEN_PREFIX);
    good.then_some(token)
}

impl Api {
    /// Who calls.
    ///
    /// # Errors
    /// [`Code::Unauthenticated`] unless the connection is the server's own
    /// socket or carries a live token of an identity that may hold something.
    pub async fn caller(
        &self,
        peer: Option<&Peer>,
        remote: Option<Remote>,
        headers: &HeaderMap,
    ) -> Result<Caller, Problem> {
        if let Some(peer) = peer {
            return self.at_socket(peer).await;
        }
        let nobody = |why: &str| {
            Problem::new(Code::Unauthenticated, why).hint("log in: portcullis login --server URL --identity NAME")
        };
        let token = bearer(headers).ok_or_else(|| nobody("no token was sent"))?;
        let sha256 = token_sha256(token);
        let now = self.clock.now().wall_ms;
        let row = self.store.token(sha256).await?.filter(|row| now < row.expires_ms);
        let row = row.ok_or_else(|| nobody("the token is not known, or has ended"))?;
        let identity = self.store.identity(&row.identity).await?;
        let identity = identity.ok_or_else(|| nobody("the token's identity is not in the inventory any more"))?;
        identity.may_hold(now).map_err(|why| Problem::denied(why.to_string()))?;
        let theirs = identity.all_roles();
        Ok(Caller {
            name: identity.name.to_string(),
            roles: row.roles.iter().copied().filter(|role| theirs.contains(role)).collect(),
            identity: Some(identity),
            proof: Proof {
                method: row.method,
                strength: row.strength,
                age_ms: now.saturating_sub(row.made_ms),
            },
            source: remote.map(|remote| remote.0.to_canonical()),
            token: Some((sha256, row.expires_ms)),
        })
    }

    /// An approver whom a hook vouches for: weaker than a token, so that a rule
    /// can ask for more.
    pub(super) async fn vouched(
        &self,
        name: &IdentityName,
        hook: &str,
        remote: Option<Remote>,
    ) -> Result<Caller, Problem> {
        let identity = self.store.identity(name).await?;
        let identity = identity.ok_or_else(|| Problem::denied(format!("{name} is not an identity")))?;
        identity
            .may_hold(self.clock.now().wall_ms)
            .map_err(|why| Problem::denied(why.to_string()))?;
        let roles = identity.all_roles();
        if !roles.contains(&Role::Approver) && !roles.contains(&Role::Admin) {
            return Err(Problem::denied(format!("{name} does not have the role approver")));
        }
        Ok(Caller {
            name: name.to_string(),
            // Nothing else of what it may do is vouched for.
            roles: [Role::Approver].into(),
            identity: Some(identity),
            proof: Proof {
                method: format!("hook:{hook}"),
                strength: 1,
                age_ms: 0,
            },
            source: remote.map(|remote| remote.0.to_canonical()),
            token: None,
        })
    }

    /// The server's user and root can change the store anyway: they have every
    /// role, under their own name.
    async fn at_socket(&self, peer: &Peer) -> Result<Caller, Problem> {
        let identity = match peer.name.parse() {
            Ok(name) => self.store.identity(&name).await?,
            Err(_) => None,
        };
        Ok(Caller {
            name: peer.name.clone(),
            identity,
            roles: Role::ALL.into(),
            proof: Proof {
                method: "socket".to_owned(),
                strength: 2,
                age_ms: 0,
            },
            source: None,
            token: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn only_one_well_formed_token_is_one() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
            }
            bearer(&headers).map(str::to_owned)
        };
        assert_eq!(with(&["Bearer pct_abc"]), Some("pct_abc".to_owned()));
        assert_eq!(with(&["bearer pct_abc"]), Some("pct_abc".to_owned()));
        for bad in [
            &[][..],
            &["pct_abc"],
            &["Basic pct_abc"],
            &["Bearer abc"],
            &["Bearer pct_a", "Bearer pct_b"],
        ] {
            assert_eq!(with(bad), None, "{bad:?}");
        }
        assert_eq!(with(&[&format!("Bearer pct_{}", "a".repeat(TOKEN_TEXT_MAX))]), None);
    }
}
