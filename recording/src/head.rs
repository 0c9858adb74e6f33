//! The HEAD: who, where, under which grant, and the first key of the session (FORMAT.md section 3.1).

use crate::cbor::{self, Malformed};
use crate::keys::{Domain, sha256};
use crate::limits::HEAD_TEXT_BYTES_MAX;

/// What the file says about itself in its first frame, certified by the node's key (FORMAT.md section 3.1).
///
/// Fill it in for [`crate::Writer::prepare`]; `k0_pub` and `salt` are made there and whatever they hold is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// The version of the format that all of the file is in.
    pub version: Version,
    /// Random id of the session.
    pub session_id: [u8; 16],
    /// Name of the node that recorded.
    pub node: String,
    /// Wall clock at the opening, ms since the epoch; every other time counts from here.
    pub opened_wall_ms: u64,
    /// Name of the target in the inventory.
    pub target: String,
    /// Login on the target.
    pub login: String,
    /// The identity that was admitted.
    pub identity: String,
    /// The grant it was admitted under.
    pub grant_id: String,
    /// When that grant ends, wall ms.
    pub grant_until_wall_ms: u64,
    /// SHA-256 of the presented certificate.
    pub cert_sha256: [u8; 32],
    /// Its serial.
    pub cert_serial: u64,
    /// Its key id.
    pub cert_key_id: String,
    /// IP address of the client.
    pub source: String,
    /// SHA-256 of the policy in force.
    pub policy_digest: [u8; 32],
    /// The client's SSH identification string.
    pub client_id: String,
    /// How the client came: `Direct` or `Jump`.
    pub form: Form,
    /// What the target is: `Ssh` or `Local`.
    pub kind: TargetKind,
    /// Public part of the first epoch key. Made by `Writer::prepare`.
    pub k0_pub: [u8; 32],
    /// Origin line of the node's ledger.
    pub ledger_origin: String,
    /// Blinds this session's ledger leaves. Made by `Writer::prepare`.
    pub salt: [u8; 32],
    /// The node's identity key, which signs this head.
    pub node_key: [u8; 32],
    /// SHA-256 of the envelope, the age file that holds the content key: the recording is encrypted. `None` for a clear
    /// one. Set by `Writer::prepare_encrypted` (FORMAT.md section 10).
    pub envelope_sha256: Option<[u8; 32]>,
}

/// A version of the format. Each has the kinds of events of those before it (FORMAT.md section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// Clear recordings.
    One,
    /// Encrypted ones.
    Two,
    /// Both: it is encrypted if the HEAD names an envelope.
    #[default]
    Three,
}

impl Version {
    /// What is written today.
    pub const LATEST: Version = Version::Three;

    fn number(self) -> u64 {
        match self {
            Version::One => 1,
            Version::Two => 2,
            Version::Three => 3,
        }
    }

    fn of(number: u64, encrypted: bool) -> Result<Version, Malformed> {
        match (number, encrypted) {
            (1, false) => Ok(Version::One),
            (2, true) => Ok(Version::Two),
            (3, _) => Ok(Version::Three),
            (1, true) => Err(Malformed("head of version 1 with an envelope")),
            (2, false) => Err(Malformed("head of version 2 without an envelope")),
            _ => Err(Malformed("head version is none of 1, 2 and 3")),
        }
    }
}

/// How the client reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// `ssh login@target@bastion`.
    #[default]
    Direct,
    /// `ssh -J bastion login@target`.
    Jump,
}

/// What kind of target it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TargetKind {
    /// A host reached over SSH.
    #[default]
    Ssh,
    /// A command on the node itself.
    Local,
}

impl Form {
    /// `direct` or `jump`.
    pub fn as_str(self) -> &'static str {
        match self {
            Form::Direct => "direct",
            Form::Jump => "jump",
        }
    }
}

impl TargetKind {
    /// `ssh` or `local`.
    pub fn as_str(self) -> &'static str {
        match self {
            TargetKind::Ssh => "ssh",
            TargetKind::Local => "local",
        }
    }
}

/// Fields of a clear recording's head.
const FIELDS_CLEAR: u64 = 21;
/// Fields of an encrypted recording's head.
const FIELDS_ENCRYPTED: u64 = 22;

impl Head {
    /// Deterministic CBOR of every field: what the HEAD frame holds before the signature.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = cbor::Writer::default();
        w.map(match self.envelope_sha256 {
            None => FIELDS_CLEAR,
            Some(_) => FIELDS_ENCRYPTED,
        });
        w.key(0).uint(self.version.number());
        w.key(1).bytes(&self.session_id);
        w.key(2).text(&self.node);
        w.key(3).uint(self.opened_wall_ms);
        w.key(4).text(&self.target);
        w.key(5).text(&self.login);
        w.key(6).text(&self.identity);
        w.key(7).text(&self.grant_id);
        w.key(8).uint(self.grant_until_wall_ms);
        w.key(9).bytes(&self.cert_sha256);
        w.key(10).uint(self.cert_serial);
        w.key(11).text(&self.cert_key_id);
        w.key(12).text(&self.source);
        w.key(13).bytes(&self.policy_digest);
        w.key(14).text(&self.client_id);
        w.key(15).text(self.form.as_str());
        w.key(16).text(self.kind.as_str());
        w.key(17).bytes(&self.k0_pub);
        w.key(18).text(&self.ledger_origin);
        w.key(19).bytes(&self.salt);
        w.key(20).bytes(&self.node_key);
        if let Some(envelope) = &self.envelope_sha256 {
            w.key(21).bytes(envelope);
        }
        w.into_bytes()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Head, Malformed> {
        const T: usize = HEAD_TEXT_BYTES_MAX;
        let mut r = cbor::Reader::new(bytes);
        // The first byte tells how many fields there are, and versions 1 and 2 must agree with it.
        let encrypted = bytes.first() == Some(&(0xA0 | FIELDS_ENCRYPTED as u8));
        r.map(if encrypted { FIELDS_ENCRYPTED } else { FIELDS_CLEAR })?;
        let mut head = Head {
            version: Version::of(r.key(0)?.uint()?, encrypted)?,
            session_id: r.key(1)?.array_of()?,
            node: r.key(2)?.text(T)?.to_owned(),
            opened_wall_ms: r.key(3)?.time()?,
            target: r.key(4)?.text(T)?.to_owned(),
            login: r.key(5)?.text(T)?.to_owned(),
            identity: r.key(6)?.text(T)?.to_owned(),
            grant_id: r.key(7)?.text(T)?.to_owned(),
            grant_until_wall_ms: r.key(8)?.time()?,
            cert_sha256: r.key(9)?.array_of()?,
            cert_serial: r.key(10)?.uint()?,
            cert_key_id: r.key(11)?.text(T)?.to_owned(),
            source: r.key(12)?.text(T)?.to_owned(),
            policy_digest: r.key(13)?.array_of()?,
            client_id: r.key(14)?.text(T)?.to_owned(),
            form: match r.key(15)?.text(T)? {
                "direct" => Form::Direct,
                "jump" => Form::Jump,
                _ => return Err(Malformed("head form is neither direct nor jump")),
            },
            kind: match r.key(16)?.text(T)? {
                "ssh" => TargetKind::Ssh,
                "local" => TargetKind::Local,
                _ => return Err(Malformed("head kind is neither ssh nor local")),
            },
            k0_pub: r.key(17)?.array_of()?,
            ledger_origin: r.key(18)?.text(T)?.to_owned(),
            salt: r.key(19)?.array_of()?,
            node_key: r.key(20)?.array_of()?,
            envelope_sha256: None,
        };
        if encrypted {
            head.envelope_sha256 = Some(r.key(21)?.array_of()?);
        }
        r.end()?;
        Ok(head)
    }

    /// Whether the content of this recording is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.envelope_sha256.is_some()
    }

    /// Whether these bytes are the envelope this head names: to be asked before an envelope is opened.
    pub fn names_envelope(&self, envelope: &[u8]) -> bool {
        self.envelope_sha256 == Some(sha256(envelope))
    }

    /// The bytes the node's key signs: the domain string and the CBOR (FORMAT.md section 4.1).
    pub fn statement(&self) -> Vec<u8> {
        Domain::Head.message(&self.encode())
    }

    /// Cuts texts that come from outside (a client's identification, a key id) to what the format holds, at a
    /// character boundary, so that no client can make its own session unrecordable.
    pub fn clamp(&mut self) {
        for text in [
            &mut self.node,
            &mut self.target,
            &mut self.login,
            &mut self.identity,
            &mut self.grant_id,
            &mut self.cert_key_id,
            &mut self.source,
            &mut self.client_id,
            &mut self.ledger_origin,
        ] {
            let mut end = HEAD_TEXT_BYTES_MAX.min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
    }
}
