//! Tokens that speak for identities towards the API, by their hash.

use super::super::{IdentityName, StoreError, TokenRow};
use super::link::{Link, json, values};

pub(super) async fn add(link: &mut Link, token: &TokenRow) -> Result<(), StoreError> {
    link.run("DELETE FROM token WHERE expires_ms <= $1", values![token.made_ms])
        .await?;
    let values = values![
        token.sha256,
        token.identity.as_str(),
        json(&token.roles)?,
        &token.method,
        token.strength,
        token.made_ms,
        token.expires_ms,
    ];
    link.insert(
        "INSERT INTO token (sha256, identity, roles, method, strength, made_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        values,
        || format!("a token of {}", token.identity),
    )
    .await
}

pub(super) async fn find(link: &mut Link, sha256: [u8; 32]) -> Result<Option<TokenRow>, StoreError> {
    let row = link
        .row("SELECT * FROM token WHERE sha256 = $1", values![sha256])
        .await?;
    row.map(|row| {
        Ok(TokenRow {
            sha256: row.bytes32("sha256")?,
            identity: row.parsed("identity")?,
            roles: row.json("roles")?,
            method: row.text("method")?,
            strength: row.small("strength")?,
            made_ms: row.number("made_ms")?,
            expires_ms: row.number("expires_ms")?,
        })
    })
    .transpose()
}

pub(super) async fn forget(link: &mut Link, sha256: [u8; 32]) -> Result<(), StoreError> {
    link.run("DELETE FROM token WHERE sha256 = $1", values![sha256])
        .await
        .map(drop)
}

pub(super) async fn forget_of(link: &mut Link, identity: &IdentityName) -> Result<u64, StoreError> {
    link.run("DELETE FROM token WHERE identity = $1", values![identity.as_str()])
        .await
}
