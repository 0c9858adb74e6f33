//! Grants and the serials of their certificates.

use super::super::{Grant, GrantId, IdentityName, Page, StoreError, WallMs};
use super::link::{Link, Row, history, json, page_rows, values};
use crate::kernel::grant::NotLive;

/// The reason code of a grant that admits nobody.
pub(super) fn not_live(why: NotLive) -> StoreError {
    StoreError::GrantNotLive(match why {
        NotLive::NotYet => "not-yet",
        NotLive::Expired => "expired",
        NotLive::Revoked => "revoked",
        NotLive::Used => "used",
    })
}

fn grant(row: &Row) -> Result<Grant, StoreError> {
    Ok(Grant {
        id: row.parsed("id")?,
        identity: row.parsed("identity")?,
        destination: row.destination()?,
        from_ms: row.number("from_ms")?,
        until_ms: row.number("until_ms")?,
        sources: row.json("sources")?,
        capabilities: row.json("capabilities")?,
        reason: row.text("reason")?,
        ticket: row.maybe_text("ticket")?,
        request: row.maybe_parsed("request")?,
        issued_by: row.text("issued_by")?,
        policy_digest: row.bytes32("policy_digest")?,
        certificate_sha256: row.bytes32("certificate_sha256")?,
        certificate_serial: row.number("certificate_serial")?,
        single_use: row.flag("single_use")?,
        used_at_ms: row.maybe_number("used_at_ms")?,
        revoked_at_ms: row.maybe_number("revoked_at_ms")?,
        revoked_why: row.maybe_text("revoked_why")?,
    })
}

pub(super) async fn next_serial(link: &mut Link) -> Result<u64, StoreError> {
    let row = link
        .row(
            "UPDATE counter SET value = value + 1 WHERE name = 'certificate_serial' RETURNING value",
            values![],
        )
        .await?;
    row.ok_or_else(|| StoreError::Corrupt("the counter of certificate serials is gone".into()))?
        .number("value")
}

pub(super) async fn add(link: &mut Link, grant: &Grant) -> Result<(), StoreError> {
    let values = values![
        grant.id.to_string(),
        grant.identity.as_str(),
        grant.destination.login.as_str(),
        grant.destination.target.as_str(),
        grant.from_ms,
        grant.until_ms,
        json(&grant.sources)?,
        json(&grant.capabilities)?,
        &grant.reason,
        grant.ticket.as_deref(),
        grant.request.map(|id| id.to_string()),
        &grant.issued_by,
        grant.policy_digest,
        grant.certificate_sha256,
        grant.certificate_serial,
        grant.single_use,
        grant.used_at_ms,
        grant.revoked_at_ms,
        grant.revoked_why.as_deref(),
    ];
    link.insert(
        "INSERT INTO access_grant (id, identity, login, target, from_ms, until_ms, sources, capabilities, reason,
            ticket, request, issued_by, policy_digest, certificate_sha256, certificate_serial, single_use,
            used_at_ms, revoked_at_ms, revoked_why)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)",
        values,
        || format!("grant {}", grant.id),
    )
    .await
}

/// Gives the row of a grant another certificate, and what that one allows.
pub(super) async fn renew(link: &mut Link, grant: &Grant) -> Result<(), StoreError> {
    let values = values![
        grant.id.to_string(),
        grant.from_ms,
        grant.until_ms,
        json(&grant.sources)?,
        json(&grant.capabilities)?,
        grant.policy_digest,
        grant.certificate_sha256,
        grant.certificate_serial,
    ];
    link.insert(
        "UPDATE access_grant SET from_ms = $2, until_ms = $3, sources = $4, capabilities = $5, policy_digest = $6,
            certificate_sha256 = $7, certificate_serial = $8
         WHERE id = $1",
        values,
        || format!("the certificate of grant {}", grant.id),
    )
    .await
}

pub(super) async fn find(link: &mut Link, id: GrantId) -> Result<Option<Grant>, StoreError> {
    let row = link
        .row("SELECT * FROM access_grant WHERE id = $1", values![id.to_string()])
        .await?;
    row.as_ref().map(grant).transpose()
}

pub(super) async fn by_certificate(link: &mut Link, sha256: [u8; 32]) -> Result<Option<Grant>, StoreError> {
    let row = link
        .row(
            "SELECT * FROM access_grant WHERE certificate_sha256 = $1",
            values![sha256],
        )
        .await?;
    row.as_ref().map(grant).transpose()
}

pub(super) async fn all(link: &mut Link, live_at: Option<WallMs>) -> Result<Vec<Grant>, StoreError> {
    let rows = match live_at {
        Some(now) => {
            link.rows(
                "SELECT * FROM access_grant
                 WHERE revoked_at_ms IS NULL AND until_ms > $1 AND from_ms <= $1
                   AND (single_use = 0 OR used_at_ms IS NULL)
                 ORDER BY certificate_serial DESC",
                values![now],
            )
            .await?
        }
        None => {
            link.rows(
                "SELECT * FROM access_grant ORDER BY certificate_serial DESC LIMIT $1",
                values![history()],
            )
            .await?
        }
    };
    rows.iter().map(grant).collect()
}

pub(super) async fn page(link: &mut Link, live_at: Option<WallMs>, page: &Page) -> Result<Vec<Grant>, StoreError> {
    let before = match &page.after {
        None => None,
        Some(after) => {
            let row = link
                .row(
                    "SELECT certificate_serial FROM access_grant WHERE id = $1",
                    values![after],
                )
                .await?;
            let row = row.ok_or_else(|| StoreError::NotFound(format!("grant {after}")))?;
            Some(row.number("certificate_serial")?)
        }
    };
    let rows = link
        .rows(
            "SELECT * FROM access_grant
             WHERE ($1 IS NULL OR certificate_serial < $1)
               AND ($2 IS NULL OR (revoked_at_ms IS NULL AND until_ms > $2 AND from_ms <= $2
                 AND (single_use = 0 OR used_at_ms IS NULL)))
             ORDER BY certificate_serial DESC LIMIT $3",
            values![before, live_at, page_rows(page.limit)],
        )
        .await?;
    rows.iter().map(grant).collect()
}

pub(super) async fn of(link: &mut Link, identity: &IdentityName, since: WallMs) -> Result<Vec<Grant>, StoreError> {
    let rows = link
        .rows(
            "SELECT * FROM access_grant WHERE identity = $1 AND until_ms > $2
             ORDER BY certificate_serial DESC LIMIT $3",
            values![identity.as_str(), since, history()],
        )
        .await?;
    rows.iter().map(grant).collect()
}
