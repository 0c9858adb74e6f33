//! From a certificate on the wire to the kernel's decision.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "key kinds of a non-exhaustive enum: what is not named is refused by the kernel"
)]

use std::net::IpAddr;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, Certificate};
use sha2::{Digest, Sha256};

use super::Gate;
use super::opening::bounded;
use crate::kernel::admit::{self, Admitted, CertificateType, Passage, Presented, Refusal};
use crate::kernel::id::Destination;

/// The one way in.
///
/// The certificate is judged by itself first: whoever has none of ours costs
/// the store nothing and learns nothing about it. One that a break-glass grant
/// names never meets the store.
///
/// # Errors
/// The refusal.
pub async fn admit(
    gate: &Gate,
    peer: IpAddr,
    wanted: &Destination,
    certificate: &Certificate,
) -> Result<Admitted, Refusal> {
    let presented = present(certificate).ok_or(Refusal::Oversized)?;
    decide(gate, peer, wanted, &presented).await
}

/// The way onto an outer connection: a certificate that would admit to what it
/// names, whatever the user name says.
///
/// # Errors
/// The refusal.
pub async fn admit_outer(gate: &Gate, peer: IpAddr, certificate: &Certificate) -> Result<Passage, Refusal> {
    let presented = present(certificate).ok_or(Refusal::Oversized)?;
    let named = presented.principals.first().ok_or(Refusal::NoPrincipals)?;
    let wanted: Destination = named.parse().map_err(|_| Refusal::BadPrincipal)?;
    decide(gate, peer, &wanted, &presented).await.map(Passage::from)
}

async fn decide(gate: &Gate, peer: IpAddr, wanted: &Destination, presented: &Presented) -> Result<Admitted, Refusal> {
    let now = || gate.clock.now().wall_ms;
    if let Some(installed) = gate.break_glass.of_certificate(presented.sha256) {
        let standing = gate.standing(&installed);
        let here = (peer, now());
        return admit::admit_break_glass(presented, &gate.trust(), wanted, here, &installed.signed, standing);
    }
    match admit::admit(presented, &gate.trust(), wanted, peer, now(), None) {
        Err(Refusal::NoGrant) => {}
        other => return other,
    }
    let grant = bounded(gate.store.grant_by_certificate(presented.sha256)).await;
    let grant = match (grant, gate.registry.store_alive()) {
        (Ok(grant), true) => grant,
        (Ok(_) | Err(_), _) => return Err(Refusal::StoreUnavailable),
    };
    admit::admit(presented, &gate.trust(), wanted, peer, now(), grant.as_ref())
}

/// A certificate in plain fields; nothing if its blob cannot be made again.
fn present(certificate: &Certificate) -> Option<Presented> {
    let blob = certificate.to_bytes().ok()?;
    let rsa_bits = |key: &KeyData| match key {
        KeyData::Rsa(rsa) => rsa
            .n()
            .as_positive_bytes()
            .map(|n| u32::try_from(n.len() * 8).unwrap_or(u32::MAX)),
        _ => None,
    };
    let plain = |key: &KeyData| match key.algorithm() {
        Algorithm::Rsa { .. } => "ssh-rsa".to_owned(),
        other => other.as_str().to_owned(),
    };
    let ca = certificate.signature_key();
    Some(Presented {
        sha256: Sha256::digest(&blob).into(),
        blob_bytes: blob.len(),
        key_algorithm: plain(certificate.public_key()),
        rsa_bits: rsa_bits(certificate.public_key()),
        certificate_type: match certificate.cert_type() {
            CertType::User => CertificateType::User,
            CertType::Host => CertificateType::Host,
        },
        serial: certificate.serial(),
        key_id: certificate.key_id().to_owned(),
        principals: certificate.valid_principals().to_vec(),
        valid_after: certificate.valid_after(),
        valid_before: certificate.valid_before(),
        critical_options: certificate
            .critical_options()
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        extensions: certificate
            .extensions()
            .iter()
            .map(|(name, data)| (name.clone(), data.clone()))
            .collect(),
        ca_key: russh::keys::PublicKey::new(ca.clone(), "").to_bytes().ok()?,
        ca_signature_algorithm: certificate.signature().algorithm().as_str().to_owned(),
        ca_rsa_bits: rsa_bits(ca),
        nested: [certificate.public_key(), ca]
            .iter()
            .any(|key| matches!(key, KeyData::Certificate(_))),
    })
}
