//! Targets and identities.

use super::super::{Identity, IdentityName, StoreError, Target, TargetName};
use super::link::{Link, json, values};

pub(super) async fn add_target(link: &mut Link, target: &Target) -> Result<(), StoreError> {
    let values = values![target.name.as_str(), json(target)?];
    link.insert("INSERT INTO target (name, body) VALUES ($1, $2)", values, || {
        format!("target {}", target.name)
    })
    .await
}

pub(super) async fn targets(link: &mut Link) -> Result<Vec<Target>, StoreError> {
    let rows = link.rows("SELECT body FROM target ORDER BY name", values![]).await?;
    rows.iter().map(|row| row.json("body")).collect()
}

pub(super) async fn target(link: &mut Link, name: &TargetName) -> Result<Option<Target>, StoreError> {
    let row = link
        .row("SELECT body FROM target WHERE name = $1", values![name.as_str()])
        .await?;
    row.map(|row| row.json("body")).transpose()
}

pub(super) async fn add_identity(link: &mut Link, identity: &Identity) -> Result<(), StoreError> {
    let values = values![identity.name.as_str(), json(identity)?];
    link.insert("INSERT INTO identity (name, body) VALUES ($1, $2)", values, || {
        format!("identity {}", identity.name)
    })
    .await
}

pub(super) async fn identities(link: &mut Link) -> Result<Vec<Identity>, StoreError> {
    let rows = link.rows("SELECT body FROM identity ORDER BY name", values![]).await?;
    rows.iter().map(|row| row.json("body")).collect()
}

pub(super) async fn identity(link: &mut Link, name: &IdentityName) -> Result<Option<Identity>, StoreError> {
    let row = link
        .row("SELECT body FROM identity WHERE name = $1", values![name.as_str()])
        .await?;
    row.map(|row| row.json("body")).transpose()
}

pub(super) async fn put(link: &mut Link, targets: &[Target], identities: &[Identity]) -> Result<(), StoreError> {
    for target in targets {
        link.run(
            "INSERT INTO target (name, body) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET body = excluded.body",
            values![target.name.as_str(), json(target)?],
        )
        .await?;
    }
    for identity in identities {
        link.run(
            "INSERT INTO identity (name, body) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET body = excluded.body",
            values![identity.name.as_str(), json(identity)?],
        )
        .await?;
    }
    Ok(())
}
