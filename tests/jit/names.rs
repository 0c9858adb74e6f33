//! The plain numbers of the model in the product's words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portcullis::kernel::access::AccessRequest;
use portcullis::kernel::admit::{CertificateType, Presented};
use portcullis::kernel::grant::{Capabilities, Capability, Cidr, Grant};
use portcullis::kernel::id::{Destination, GrantId, GroupName, IdentityName, RequestId, SessionId};
use portcullis::kernel::inventory::IdentityKind;
use portcullis::kernel::policy::facts::{Action, Facts, Whereto, Who};
use portcullis::kernel::policy::obligations::Obligations;
use portcullis::store::RevocationScope;
use sha2::{Digest, Sha256};

use crate::model::{Ask, Parcel, Scope, groups_of};

pub const PEOPLE: u8 = 8;
/// Those above only answer.
pub const HOLDERS: u8 = 5;
pub const TARGETS: u8 = 3;
pub const WORDS: u8 = 4;
pub const NETS: u8 = 4;
pub const CA: &[u8] = b"the admission CA";
/// A certificate is valid from this long before its grant, in seconds.
const BACKDATE_SECS: u64 = 60;

pub fn person(number: u8) -> String {
    format!("p{number}")
}

pub fn target(number: u8) -> String {
    format!("t{number}")
}

fn word(number: u8) -> String {
    format!("INC-{number}")
}

pub fn identity(number: u8) -> IdentityName {
    person(number).parse().unwrap()
}

pub fn destination(number: u8) -> Destination {
    format!("root@{}", target(number)).parse().unwrap()
}

pub fn groups(numbers: &BTreeSet<u8>) -> BTreeSet<GroupName> {
    let name = |number: &u8| format!("g{number}").parse().unwrap();
    numbers.iter().map(name).collect()
}

pub fn address(net: u8) -> IpAddr {
    IpAddr::from([10, 0, net, 9])
}

fn nets(bits: u8) -> Vec<Cidr> {
    let block = |net: u8| format!("10.0.{net}.0/24").parse().unwrap();
    (0..NETS).filter(|net| bits & (1 << net) != 0).map(block).collect()
}

fn powers(bits: u8) -> Capabilities {
    let all = [Capability::Shell, Capability::Exec, Capability::Sftp];
    let mut set = Capabilities::new();
    for (bit, capability) in all.into_iter().enumerate() {
        if bits & (1 << bit) != 0 {
            set.insert(capability);
        }
    }
    set
}

fn id(kind: u8, number: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[0] = kind;
    id[8..].copy_from_slice(&number.to_be_bytes());
    id
}

pub fn request_id(ask: usize) -> RequestId {
    RequestId(id(1, u64::try_from(ask).unwrap()))
}

pub fn grant_id(number: u64) -> GrantId {
    GrantId(id(2, number))
}

pub fn session_id(number: u64) -> SessionId {
    SessionId(id(3, number))
}

pub fn number_of(session: SessionId) -> u64 {
    u64::from_be_bytes(session.0[8..].try_into().unwrap())
}

pub fn sha256(serial: u64) -> [u8; 32] {
    Sha256::digest(serial.to_be_bytes()).into()
}

fn who(number: u8) -> Who {
    Who {
        name: identity(number),
        kind: IdentityKind::Person,
        roles: BTreeSet::new(),
        groups: groups(&groups_of(number)),
        owner: None,
        purpose: None,
    }
}

pub fn facts(ask: &Ask, action: Action, now: u64) -> Facts {
    let whereto = Whereto {
        name: target(ask.target).parse().unwrap(),
        labels: Vec::new(),
    };
    Facts {
        reason: word(ask.purpose),
        ticket: ask.ticket.map(word),
        ..Facts::new(action, who(ask.holder), Some(whereto), now)
    }
}

pub fn request(number: usize, ask: &Ask) -> AccessRequest {
    AccessRequest {
        id: request_id(number),
        identity: identity(ask.holder),
        requested_by: person(ask.asker),
        destination: destination(ask.target),
        capabilities: powers(ask.powers),
        sources: nets(ask.nets),
        begins_ms: ask.begins,
        for_ms: ask.length,
        reason: word(ask.purpose),
        ticket: ask.ticket.map(word),
        public_key: None,
        single_use: ask.once,
        extends: None,
        connects: None,
        runs: None,
        undecided: false,
        made_ms: ask.made,
        answer_by_ms: ask.answer_by,
        policy_digest: [0; 32],
        obligations: Obligations {
            approvals: u32::try_from(ask.people).unwrap(),
            approvers: groups(&ask.groups),
            ..Obligations::default()
        },
    }
}

pub fn grant(parcel: &Parcel, ask: &Ask) -> Grant {
    Grant {
        id: grant_id(parcel.grant),
        identity: identity(parcel.holder),
        destination: destination(parcel.target),
        from_ms: parcel.from,
        until_ms: parcel.until,
        sources: nets(parcel.nets),
        capabilities: powers(parcel.powers),
        reason: word(ask.purpose),
        ticket: ask.ticket.map(word),
        request: Some(request_id(parcel.ask)),
        issued_by: "sim".to_owned(),
        policy_digest: [0; 32],
        certificate_sha256: sha256(parcel.serial),
        certificate_serial: parcel.serial,
        single_use: parcel.once,
        used_at_ms: None,
        revoked_at_ms: None,
        revoked_why: None,
    }
}

/// The certificate that was signed for a parcel, as a client shows it.
pub fn presented(parcel: &Parcel) -> Presented {
    let sources: Vec<String> = nets(parcel.nets).iter().map(Cidr::to_string).collect();
    let mut critical_options = Vec::new();
    if !sources.is_empty() {
        critical_options.push(("source-address".to_owned(), sources.join(",")));
    }
    Presented {
        sha256: sha256(parcel.serial),
        blob_bytes: 500,
        key_algorithm: "ssh-ed25519".to_owned(),
        rsa_bits: None,
        certificate_type: CertificateType::User,
        serial: parcel.serial,
        key_id: person(parcel.holder),
        principals: vec![destination(parcel.target).to_string()],
        valid_after: (parcel.from / 1000).saturating_sub(BACKDATE_SECS),
        valid_before: parcel.until / 1000,
        critical_options,
        extensions: Vec::new(),
        ca_key: CA.to_vec(),
        ca_signature_algorithm: "ssh-ed25519".to_owned(),
        ca_rsa_bits: None,
        nested: false,
    }
}

/// A block of addresses for networks that lie in one: one, the first two, or all.
pub fn scope(scope: Scope, grant: Option<u64>) -> RevocationScope {
    match scope {
        Scope::Grant(_) => RevocationScope::Grant(grant_id(grant.unwrap())),
        Scope::Session(number) => RevocationScope::Session(session_id(number)),
        Scope::Holder(number) => RevocationScope::Identity(identity(number)),
        Scope::Target(number) => RevocationScope::Target(target(number).parse().unwrap()),
        Scope::Nets(0b0011) => RevocationScope::Source("10.0.0.0/23".parse().unwrap()),
        Scope::Nets(0b1111) => RevocationScope::Source("10.0.0.0/22".parse().unwrap()),
        Scope::Nets(bits) => RevocationScope::Source(nets(bits)[0]),
        Scope::Purpose(number) => RevocationScope::Purpose(word(number)),
        Scope::All => RevocationScope::All,
    }
}
