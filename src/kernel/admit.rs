//! Admission: the pure decision over a presented certificate.
//!
//! The one path in. What russh has checked before this is asked: the holder
//! signed with the certificate's key, and the CA key inside the certificate
//! made its signature. Everything else is checked here (OpenSSH
//! PROTOCOL.certkeys; `sshkey_cert_check_authority` is the model), with the
//! time as an argument and a stable code for each refusal.

use std::net::IpAddr;
use std::sync::Arc;

use super::break_glass::{Condition, Signed, Standing, WINDOW_MS_MAX};
use super::grant::{Capabilities, Capability, Cidr, Grant, NotLive, WallMs};
use super::id::{Destination, GrantId, IdentityName};

/// Longest certificate that is looked at, in bytes of its blob.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;
/// Most principals in a certificate.
pub const PRINCIPALS_MAX: usize = 16;
/// Smallest RSA modulus, in bits.
pub const RSA_BITS_MIN: u32 = 3072;
/// How far `valid after` may lie before the grant (the issuer's back-dating), in seconds.
pub const BACKDATE_SECS_MAX: u64 = 60;

/// Longest key id that is passed on, in characters.
const KEY_ID_CHARS_MAX: usize = 256;
/// Extensions that are flags: present or not, never with data (PROTOCOL.certkeys).
const FLAGS: [&str; 6] = [
    "no-touch-required",
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
];

/// User (1) or host (2) certificate (PROTOCOL.certkeys).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertificateType {
    User,
    Host,
}

/// A presented certificate in plain fields, as decoded by the rim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Presented {
    /// SHA-256 of the decoded blob.
    pub sha256: [u8; 32],
    /// Length of the blob in bytes.
    pub blob_bytes: usize,
    /// Plain algorithm name of the subject key, such as `ssh-ed25519`.
    pub key_algorithm: String,
    /// Modulus size if the subject key is RSA.
    pub rsa_bits: Option<u32>,
    pub certificate_type: CertificateType,
    pub serial: u64,
    /// As it stands in the certificate.
    pub key_id: String,
    pub principals: Vec<String>,
    /// Seconds since the epoch, half-open `[valid_after, valid_before)`.
    pub valid_after: u64,
    pub valid_before: u64,
    pub critical_options: Vec<(String, String)>,
    pub extensions: Vec<(String, String)>,
    /// Public key blob of the CA that signed it.
    pub ca_key: Vec<u8>,
    /// Algorithm of the CA's signature, such as `ssh-ed25519` or `rsa-sha2-512`.
    pub ca_signature_algorithm: String,
    /// Modulus size if the CA key is RSA.
    pub ca_rsa_bits: Option<u32>,
    /// The subject or CA key is itself a certificate (CVE-2025-49825).
    pub nested: bool,
}

/// What admission trusts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AdmissionTrust {
    /// Public key blobs of the admission CAs; two while one is rotated out.
    pub ca_keys: Vec<Vec<u8>>,
    /// Longest `valid_before - valid_after`, in seconds.
    pub lifetime_secs_max: u64,
}

/// Why a certificate does not admit. Codes are stable and public.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    Oversized,
    Nested,
    Malformed,
    WrongType,
    UnknownCa,
    SignatureAlgorithm(String),
    KeyAlgorithm(String),
    NoPrincipals,
    BadPrincipal,
    WrongPrincipal,
    BadValidity,
    LifetimeTooLong,
    NotYetValid,
    Expired,
    CriticalOption(String),
    BadSourceAddress,
    SourceAddress,
    NoGrant,
    OtherGrant,
    GrantNotYet,
    GrantExpired,
    GrantRevoked,
    GrantUsed,
    GrantSource,
    StoreUnavailable,
    StoreAnswers,
    OtherIdentity,
}

impl Refusal {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Oversized => "cert_oversized",
            Refusal::Nested => "cert_nested",
            Refusal::Malformed => "cert_malformed",
            Refusal::WrongType => "cert_type",
            Refusal::UnknownCa => "cert_unknown_ca",
            Refusal::SignatureAlgorithm(_) => "cert_signature_algorithm",
            Refusal::KeyAlgorithm(_) => "cert_key_algorithm",
            Refusal::NoPrincipals => "cert_no_principals",
            Refusal::BadPrincipal => "cert_bad_principal",
            Refusal::WrongPrincipal => "cert_wrong_principal",
            Refusal::BadValidity => "cert_bad_validity",
            Refusal::LifetimeTooLong => "cert_lifetime_too_long",
            Refusal::NotYetValid => "cert_not_yet_valid",
            Refusal::Expired => "cert_expired",
            Refusal::CriticalOption(_) => "cert_critical_option",
            Refusal::BadSourceAddress => "cert_bad_source_address",
            Refusal::SourceAddress => "cert_source_address",
            Refusal::NoGrant => "no_grant",
            Refusal::OtherGrant => "grant_other_destination",
            Refusal::GrantNotYet => "grant_not_yet",
            Refusal::GrantExpired => "grant_expired",
            Refusal::GrantRevoked => "grant_revoked",
            Refusal::GrantUsed => "grant_used",
            Refusal::GrantSource => "grant_source",
            Refusal::StoreUnavailable => "store_unavailable",
            Refusal::StoreAnswers => "break_glass_not_now",
            Refusal::OtherIdentity => "jump_other_identity",
        }
    }

    /// One sentence for the holder of a certificate from our CA.
    pub fn sentence(&self) -> String {
        match self {
            Refusal::Oversized => "the certificate is too large".into(),
            Refusal::Nested => "the certificate holds another certificate".into(),
            Refusal::Malformed => "a field of the certificate holds what OpenSSH would not take".into(),
            Refusal::WrongType => "this is a host certificate, not a user's".into(),
            Refusal::UnknownCa => "the certificate is not from our admission CA".into(),
            Refusal::SignatureAlgorithm(name) => {
                format!("the CA's signature algorithm {name} is not accepted")
            }
            Refusal::KeyAlgorithm(name) => format!("keys of type {name} are not accepted"),
            Refusal::NoPrincipals => "the certificate names no principal".into(),
            Refusal::BadPrincipal => "a principal of the certificate is not login@target".into(),
            Refusal::WrongPrincipal => "the certificate is for another destination".into(),
            Refusal::BadValidity => "the certificate's validity is empty or endless".into(),
            Refusal::LifetimeTooLong => "the certificate lives longer than this gate allows".into(),
            Refusal::NotYetValid => "the certificate is not valid yet".into(),
            Refusal::Expired => "the certificate has expired".into(),
            Refusal::CriticalOption(name) => {
                format!("the certificate demands `{name}`, which this gate cannot enforce")
            }
            Refusal::BadSourceAddress => "the certificate's source-address cannot be read".into(),
            Refusal::SourceAddress => "the certificate may not be used from this address".into(),
            Refusal::NoGrant => "no grant was issued for this certificate".into(),
            Refusal::OtherGrant => "the grant of this certificate is for another destination".into(),
            Refusal::GrantNotYet => "the grant has not begun".into(),
            Refusal::GrantExpired => "the grant has ended".into(),
            Refusal::GrantRevoked => "the grant was revoked".into(),
            Refusal::GrantUsed => "the grant was for one connection and has been used".into(),
            Refusal::GrantSource => "the grant may not be used from this address".into(),
            Refusal::StoreUnavailable => "grants cannot be checked right now; try again".into(),
            Refusal::StoreAnswers => {
                "this break-glass grant is for when the store does not answer, and it does; ask for a grant".into()
            }
            Refusal::OtherIdentity => {
                "this jump was opened by somebody else; jump with a certificate of your own".into()
            }
        }
    }

    /// Whether the refused holder has proved a certificate from our CA that
    /// names this destination, so that the reason may be shown to it.
    pub fn may_be_shown(&self) -> bool {
        match self {
            Refusal::Oversized
            | Refusal::Nested
            | Refusal::Malformed
            | Refusal::WrongType
            | Refusal::UnknownCa
            | Refusal::SignatureAlgorithm(_)
            | Refusal::KeyAlgorithm(_)
            | Refusal::NoPrincipals
            | Refusal::BadPrincipal
            | Refusal::WrongPrincipal => false,
            Refusal::BadValidity
            | Refusal::LifetimeTooLong
            | Refusal::NotYetValid
            | Refusal::Expired
            | Refusal::CriticalOption(_)
            | Refusal::BadSourceAddress
            | Refusal::SourceAddress
            | Refusal::NoGrant
            | Refusal::OtherGrant
            | Refusal::GrantNotYet
            | Refusal::GrantExpired
            | Refusal::GrantRevoked
            | Refusal::GrantUsed
            | Refusal::GrantSource
            | Refusal::StoreUnavailable
            | Refusal::StoreAnswers
            | Refusal::OtherIdentity => true,
        }
    }
}

/// A certificate that admits. Only [`admit`] and [`admit_break_glass`] make one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    identity: IdentityName,
    grant: GrantId,
    destination: Destination,
    until_ms: WallMs,
    capabilities: Capabilities,
    permits_pty: bool,
    force_command: Option<String>,
    certificate_sha256: [u8; 32],
    certificate_serial: u64,
    certificate_key_id: String,
    policy_digest: [u8; 32],
    reason: String,
    ticket: Option<String>,
    break_glass: Option<Arc<Signed>>,
}

impl Admitted {
    pub fn identity(&self) -> &IdentityName {
        &self.identity
    }
    pub fn grant(&self) -> GrantId {
        self.grant
    }
    pub fn destination(&self) -> &Destination {
        &self.destination
    }
    /// End of both the certificate and the grant, wall clock, exclusive; of the
    /// one session, where it is a break-glass grant's.
    pub fn until_ms(&self) -> WallMs {
        self.until_ms
    }
    /// What both the certificate and the grant allow.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }
    /// Whether the certificate carries `permit-pty`.
    pub fn permits_pty(&self) -> bool {
        self.permits_pty
    }
    /// Replaces shell, exec and subsystem if set.
    pub fn force_command(&self) -> Option<&str> {
        self.force_command.as_deref()
    }
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.certificate_sha256
    }
    pub fn certificate_serial(&self) -> u64 {
        self.certificate_serial
    }
    pub fn certificate_key_id(&self) -> &str {
        &self.certificate_key_id
    }
    pub fn policy_digest(&self) -> [u8; 32] {
        self.policy_digest
    }
    /// What it was granted for.
    pub fn reason(&self) -> &str {
        &self.reason
    }
    /// Its ticket, if one was named.
    pub fn ticket(&self) -> Option<&str> {
        self.ticket.as_deref()
    }
    /// What was signed beforehand, if no row of the store is behind it.
    pub fn break_glass(&self) -> Option<&Arc<Signed>> {
        self.break_glass.as_ref()
    }
}

/// An outer connection that may be: it reaches nothing, and carries
/// connections that are admitted by themselves.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Passage {
    identity: IdentityName,
    until_ms: WallMs,
    certificate_sha256: [u8; 32],
    break_glass: Option<Arc<Signed>>,
}

impl Passage {
    /// Who holds the certificate. Only its own certificates are admitted inside.
    pub fn identity(&self) -> &IdentityName {
        &self.identity
    }
    /// End of the grant that it was opened with, wall clock, exclusive.
    pub fn until_ms(&self) -> WallMs {
        self.until_ms
    }
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.certificate_sha256
    }
    /// What was signed beforehand, if no row of the store is behind it.
    pub fn break_glass(&self) -> Option<&Arc<Signed>> {
        self.break_glass.as_ref()
    }
}

impl From<Admitted> for Passage {
    /// Whoever could open a session may open an outer connection.
    fn from(admitted: Admitted) -> Passage {
        Passage {
            identity: admitted.identity,
            until_ms: admitted.until_ms,
            certificate_sha256: admitted.certificate_sha256,
            break_glass: admitted.break_glass,
        }
    }
}

impl Admitted {
    /// The same, on a connection inside an outer one.
    ///
    /// # Errors
    /// [`Refusal::OtherIdentity`] if the outer one is another identity's.
    pub fn inside(self, outer: &IdentityName) -> Result<Admitted, Refusal> {
        match self.identity == *outer {
            true => Ok(self),
            false => Err(Refusal::OtherIdentity),
        }
    }
}

/// Decides over a presented certificate. `grant` is the store's row that
/// carries the SHA-256 of this very certificate, if there is one.
///
/// # Errors
/// The first [`Refusal`] in the order: shape, CA, algorithms, principal,
/// validity, critical options, grant.
pub fn admit(
    presented: &Presented,
    trust: &AdmissionTrust,
    wanted: &Destination,
    peer: IpAddr,
    now: WallMs,
    grant: Option<&Grant>,
) -> Result<Admitted, Refusal> {
    check_shape(presented, trust)?;
    check_principals(presented, wanted)?;
    check_validity(presented, trust.lifetime_secs_max, now)?;
    let force_command = check_critical_options(presented, peer)?;

    let grant = grant.ok_or(Refusal::NoGrant)?;
    if grant.certificate_sha256 != presented.sha256 {
        return Err(Refusal::NoGrant);
    }
    if grant.destination != *wanted {
        return Err(Refusal::OtherGrant);
    }
    grant.live(now).map_err(|why| match why {
        NotLive::NotYet => Refusal::GrantNotYet,
        NotLive::Expired => Refusal::GrantExpired,
        NotLive::Revoked => Refusal::GrantRevoked,
        NotLive::Used => Refusal::GrantUsed,
    })?;
    if !grant.admits_from(peer) {
        return Err(Refusal::GrantSource);
    }
    Ok(admitted(presented, grant, force_command, None))
}

/// Decides over a certificate that a break-glass grant names: by what was
/// signed and by how things stand, and nothing else is asked. Such a
/// certificate may live as long as its grant's window.
///
/// # Errors
/// As [`admit`]; [`Refusal::StoreAnswers`] when its condition does not hold.
pub fn admit_break_glass(
    presented: &Presented,
    trust: &AdmissionTrust,
    wanted: &Destination,
    (peer, now): (IpAddr, WallMs),
    signed: &Arc<Signed>,
    standing: Standing,
) -> Result<Admitted, Refusal> {
    check_shape(presented, trust)?;
    check_principals(presented, wanted)?;
    check_validity(presented, WINDOW_MS_MAX / 1000, now)?;
    let force_command = check_critical_options(presented, peer)?;

    let statement = signed.statement();
    let door = statement.door(presented.sha256).ok_or(Refusal::NoGrant)?;
    if door.destination() != *wanted {
        return Err(Refusal::OtherGrant);
    }
    if standing.revoked {
        return Err(Refusal::GrantRevoked);
    }
    if now < statement.from_ms {
        return Err(Refusal::GrantNotYet);
    }
    if now >= statement.until_ms {
        return Err(Refusal::GrantExpired);
    }
    if standing.used {
        return Err(Refusal::GrantUsed);
    }
    if !statement.admits_from(peer) {
        return Err(Refusal::GrantSource);
    }
    match statement.condition {
        Condition::StoreDown if standing.store_alive => return Err(Refusal::StoreAnswers),
        Condition::StoreDown | Condition::Always => {}
    }
    let grant = Grant {
        until_ms: statement.session_until(now),
        ..signed.grant(door)
    };
    Ok(admitted(presented, &grant, force_command, Some(signed.clone())))
}

fn admitted(
    presented: &Presented,
    grant: &Grant,
    force_command: Option<String>,
    break_glass: Option<Arc<Signed>>,
) -> Admitted {
    let permits = |extension: &str| presented.extensions.iter().any(|(name, _)| name == extension);
    let capabilities = grant
        .capabilities
        .iter()
        .copied()
        .filter(|capability| match capability {
            Capability::Forward => permits("permit-port-forwarding"),
            Capability::Agent => permits("permit-agent-forwarding"),
            Capability::X11 => permits("permit-X11-forwarding"),
            Capability::Shell | Capability::Exec | Capability::Sftp => true,
        })
        .collect();
    Admitted {
        identity: grant.identity.clone(),
        grant: grant.id,
        destination: grant.destination.clone(),
        until_ms: grant.until_ms.min(presented.valid_before.saturating_mul(1000)),
        capabilities,
        permits_pty: permits("permit-pty"),
        force_command,
        certificate_sha256: presented.sha256,
        certificate_serial: presented.serial,
        certificate_key_id: presented
            .key_id
            .chars()
            .filter(|c| !c.is_control())
            .take(KEY_ID_CHARS_MAX)
            .collect(),
        policy_digest: grant.policy_digest,
        reason: grant.reason.clone(),
        ticket: grant.ticket.clone(),
        break_glass,
    }
}

fn check_shape(presented: &Presented, trust: &AdmissionTrust) -> Result<(), Refusal> {
    if presented.blob_bytes > CERTIFICATE_BYTES_MAX {
        return Err(Refusal::Oversized);
    }
    if presented.nested {
        return Err(Refusal::Nested);
    }
    if !trust.ca_keys.contains(&presented.ca_key) {
        return Err(Refusal::UnknownCa);
    }
    if presented.certificate_type != CertificateType::User {
        return Err(Refusal::WrongType);
    }
    // OpenSSH refuses the whole certificate for each of these.
    let flag_with_data = |(name, data): &(String, String)| FLAGS.contains(&name.as_str()) && !data.is_empty();
    if presented.key_id.contains('\0') || presented.extensions.iter().any(flag_with_data) {
        return Err(Refusal::Malformed);
    }
    let rsa_ok = |bits: Option<u32>| bits.is_some_and(|bits| bits >= RSA_BITS_MIN);
    match presented.ca_signature_algorithm.as_str() {
        "ssh-ed25519" | "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" => {}
        "rsa-sha2-256" | "rsa-sha2-512" if rsa_ok(presented.ca_rsa_bits) => {}
        other => return Err(Refusal::SignatureAlgorithm(other.to_owned())),
    }
    match presented.key_algorithm.as_str() {
        "ssh-ed25519"
        | "ecdsa-sha2-nistp256"
        | "ecdsa-sha2-nistp384"
        | "sk-ssh-ed25519@openssh.com"
        | "sk-ecdsa-sha2-nistp256@openssh.com" => Ok(()),
        "ssh-rsa" if rsa_ok(presented.rsa_bits) => Ok(()),
        other => Err(Refusal::KeyAlgorithm(other.to_owned())),
    }
}

fn check_principals(presented: &Presented, wanted: &Destination) -> Result<(), Refusal> {
    if presented.principals.is_empty() {
        return Err(Refusal::NoPrincipals);
    }
    if presented.principals.len() > PRINCIPALS_MAX {
        return Err(Refusal::BadPrincipal);
    }
    // One principal outside the alphabet refuses the certificate: it was not
    // made by our issuer (a comma or a star means something to other servers).
    let mut names = Vec::with_capacity(presented.principals.len());
    for principal in &presented.principals {
        let name: Destination = principal.parse().map_err(|_| Refusal::BadPrincipal)?;
        if name.to_string() != *principal {
            return Err(Refusal::BadPrincipal);
        }
        names.push(name);
    }
    if names.contains(wanted) {
        Ok(())
    } else {
        Err(Refusal::WrongPrincipal)
    }
}

fn check_validity(presented: &Presented, lifetime_secs_max: u64, now: WallMs) -> Result<(), Refusal> {
    let lifetime = presented
        .valid_before
        .checked_sub(presented.valid_after)
        .filter(|secs| *secs > 0 && presented.valid_before < u64::MAX / 1000)
        .ok_or(Refusal::BadValidity)?;
    if lifetime > lifetime_secs_max.saturating_add(BACKDATE_SECS_MAX) {
        return Err(Refusal::LifetimeTooLong);
    }
    if now < presented.valid_after.saturating_mul(1000) {
        return Err(Refusal::NotYetValid);
    }
    if now >= presented.valid_before.saturating_mul(1000) {
        return Err(Refusal::Expired);
    }
    Ok(())
}

/// Enforces what can be enforced; answers with the forced command, if any.
fn check_critical_options(presented: &Presented, peer: IpAddr) -> Result<Option<String>, Refusal> {
    let mut force_command = None;
    for (name, value) in &presented.critical_options {
        match name.as_str() {
            "source-address" => {
                let blocks: Vec<Cidr> = value
                    .split(',')
                    .map(|block| {
                        block
                            .parse()
                            .ok()
                            .filter(Cidr::is_exact)
                            .ok_or(Refusal::BadSourceAddress)
                    })
                    .collect::<Result<_, _>>()?;
                if !blocks.iter().any(|block| block.contains(peer)) {
                    return Err(Refusal::SourceAddress);
                }
            }
            "force-command" if !value.contains('\0') => force_command = Some(value.clone()),
            // russh does not show the flags of a FIDO signature, so user
            // verification cannot be enforced (reference: russh.md section 1).
            other => return Err(Refusal::CriticalOption(other.chars().take(64).collect())),
        }
    }
    Ok(force_command)
}

#[cfg(test)]
#[path = "admit_tests.rs"]
pub(super) mod tests;
