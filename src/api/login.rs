//! Logging in: a challenge, its signature by an enrolled key, a token.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Api;
use super::caller::{Caller, TOKEN_BYTES, TOKEN_PREFIX, token_sha256};
use super::challenge::{self, CHALLENGE_BYTES_MAX, CHALLENGE_MS, NONCE_BYTES};
use super::problem::{Code, Problem};
use super::request::{Body, Json};
use super::wire::access::{
    CHALLENGE_NAMESPACE, Challenge, ChallengeFor, ChallengeRequest, LoggedIn, LoginRequest, SignedChallenge, WhoAmI,
};
use super::wire::{Nothing, rfc3339};
use crate::issue::sshsig;
use crate::kernel::grant::hex32;
use crate::kernel::id::IdentityName;
use crate::kernel::inventory::{Identity, Role};
use crate::kernel::policy::facts::Proof;
use crate::store::TokenRow;

/// Largest signature that is read, in bytes.
const SIGNATURE_BYTES_MAX: usize = 16 * 1024;

/// `POST /v1/login/challenge`. Anybody gets one for any name: whether there is
/// such an identity shows only to who holds its key.
pub async fn challenge(
    State(api): State<Arc<Api>>,
    Body(request): Body<ChallengeRequest>,
) -> Result<Json<Challenge>, Problem> {
    if let ChallengeFor::Request(sha256) = &request.purpose
        && hex32::decode(sha256).is_none()
    {
        return Err(Problem::invalid("a request is named by 64 hexadecimal digits"));
    }
    let expires_ms = api.clock.now().wall_ms.saturating_add(CHALLENGE_MS);
    let nonce: [u8; NONCE_BYTES] = rand::random();
    let said = challenge::Said {
        node: api.node.clone(),
        at: api.shown_at.clone(),
        identity: request.identity,
        purpose: request.purpose,
        nonce: nonce.iter().map(|byte| format!("{byte:02x}")).collect(),
        expires_ms,
    };
    let text = challenge::make(&api.challenge_key, &said)
        .ok_or_else(|| Problem::new(Code::Broken, "a challenge cannot be made"))?;
    Ok(Json(Challenge::new(text, rfc3339(expires_ms))))
}

/// Said for every way in which a proof can be wrong: which one it was is
/// nobody's business but ours.
fn not_accepted() -> Problem {
    Problem::new(Code::Unauthenticated, "the proof was not accepted")
        .hint("is your key enrolled (portcullis identity add --key), and is it the one that your agent signed with?")
}

impl Api {
    /// Checks a signed challenge: ours, for this purpose, not taken before,
    /// signed by a key of the identity that it names.
    ///
    /// # Errors
    /// One and the same refusal, whatever was wrong.
    pub(super) async fn prove(
        &self,
        signed: &SignedChallenge,
        purpose: &ChallengeFor,
        whose: Option<&IdentityName>,
    ) -> Result<(Identity, Proof), Problem> {
        let refused = |why: &str| {
            tracing::info!(why, "a proof was not accepted");
            not_accepted()
        };
        if signed.challenge.len() > CHALLENGE_BYTES_MAX || signed.signature.len() > SIGNATURE_BYTES_MAX {
            return Err(refused("too large"));
        }
        let now = self.clock.now().wall_ms;
        let said =
            challenge::read(&self.challenge_key, &signed.challenge, now).map_err(|why| refused(&why.to_string()))?;
        if said.node != self.node
            || said.at != self.shown_at
            || said.purpose != *purpose
            || whose.is_some_and(|name| *name != said.identity)
        {
            return Err(refused("a challenge for something else"));
        }
        let signer = sshsig::verify(&signed.signature, CHALLENGE_NAMESPACE, signed.challenge.as_bytes())
            .map_err(|error| refused(&error.to_string()))?;
        let identity = self.store.identity(&said.identity).await?;
        let identity = identity.ok_or_else(|| refused("no such identity"))?;
        let enrolled = identity.keys.iter().any(|line| {
            russh::keys::ssh_key::PublicKey::from_openssh(line).is_ok_and(|key| key.key_data() == signer.key.key_data())
        });
        if !enrolled {
            return Err(refused("a key that is not enrolled"));
        }
        identity.may_hold(now).map_err(|why| Problem::denied(why.to_string()))?;
        // Taken last, so that nobody else can use a challenge up.
        let first = self.store.claim("challenge", &said.nonce, now, said.expires_ms).await?;
        if !first {
            return Err(refused("taken before"));
        }
        let (method, strength) = match signer.presence {
            sshsig::Presence::Unknown => ("ssh-key", 2),
            sshsig::Presence::Touched | sshsig::Presence::Verified => ("hardware-key", 3),
        };
        Ok((
            identity,
            Proof {
                method: method.to_owned(),
                strength,
                age_ms: said.age_ms(now),
            },
        ))
    }
}

/// `POST /v1/login`.
pub async fn login(State(api): State<Arc<Api>>, Body(request): Body<LoginRequest>) -> Result<Json<LoggedIn>, Problem> {
    let (identity, proof) = api.prove(&request.proof, &ChallengeFor::Login, None).await?;
    let theirs = identity.all_roles();
    if let Some(role) = request.roles.iter().find(|role| !theirs.contains(role)) {
        return Err(Problem::denied(format!(
            "{} does not have the role {role}",
            identity.name
        )));
    }
    let roles: Vec<Role> = match request.roles.is_empty() {
        true => theirs.into_iter().collect(),
        false => request.roles,
    };
    let now = api.clock.now().wall_ms;
    let asked = request.for_secs.saturating_mul(1000);
    let life = match asked {
        0 => api.token_ms_max,
        asked => asked.min(api.token_ms_max),
    };
    let secret: [u8; TOKEN_BYTES] = rand::random();
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let row = TokenRow {
        sha256: token_sha256(&token),
        identity: identity.name.clone(),
        roles: roles.clone(),
        method: proof.method.clone(),
        strength: proof.strength,
        made_ms: now,
        expires_ms: now.saturating_add(life),
    };
    let body = serde_json::json!({
        "identity": identity.name, "roles": roles, "method": proof.method, "until_ms": row.expires_ms,
    });
    api.note("login", &body).await?;
    api.store.add_token(&row).await?;
    Ok(Json(LoggedIn::new(
        token,
        identity.name,
        roles,
        proof.method,
        rfc3339(row.expires_ms),
    )))
}

/// `POST /v1/logout`: the token that was sent ends.
pub async fn logout(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Nothing>, Problem> {
    if let Some((sha256, _)) = caller.token() {
        api.store.drop_token(sha256).await?;
    }
    Ok(Json(Nothing::default()))
}

/// `GET /v1/whoami`.
pub async fn whoami(State(api): State<Arc<Api>>, Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    Json(WhoAmI::new(
        caller.name().to_owned(),
        caller.identity().map(|identity| identity.kind),
        caller.roles().iter().copied().collect(),
        caller.proof().method.clone(),
        caller.token().map(|(_, expires_ms)| rfc3339(expires_ms)),
        api.server.clone(),
    ))
}
