//! A leaf of a ledger that is no recording's, with the proof that it is there: what was granted, revoked, held, deleted,
//! replayed or exported, for somebody who has neither ledger nor server (FORMAT.md section 9.6).

use crate::cbor::{Malformed, Reader};
use crate::leaf;
use crate::limits::{EVENT_BODY_BYTES_MAX, EVENT_KIND_BYTES_MAX};
use crate::merkle;
use crate::note::Checkpoint;
use crate::proof::{Proof, ProofError, Proven};
use crate::trust::Trust;

/// What a ledger's leaf says, once a proof has shown that the ledger said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What kind of event: `grant`, `revocation`, `hold`, `expired`, `export` and the like.
    pub kind: String,
    /// When, in wall milliseconds by the node's clock.
    pub at_wall_ms: u64,
    /// A JSON object.
    pub json: String,
    /// Where it stands, and who has seen it there.
    pub proven: Proven,
}

const SALT_BYTES: usize = 32;

/// The bytes of the `extra` line: the leaf's salt and body.
pub fn extra(salt: &[u8; SALT_BYTES], body: &[u8]) -> Vec<u8> {
    [&salt[..], body].concat()
}

/// Reads a proof whose `extra` line carries the leaf itself, and verifies it. Times and witnesses are in the answer.
///
/// # Errors
/// When it is no such proof, or proves nothing to `trust`.
pub fn verify(text: &str, trust: &Trust) -> Result<Statement, ProofError> {
    let malformed = ProofError::Malformed;
    let proof = Proof::parse(text)?;
    let carried = proof.extra.as_deref().ok_or(malformed("it carries no leaf"))?;
    let (salt, body) = carried
        .split_first_chunk::<SALT_BYTES>()
        .ok_or(malformed("its leaf is cut off"))?;
    let (kind, at_wall_ms, json) = read(body).map_err(|Malformed(why)| malformed(why))?;
    let origin = Checkpoint::of(&proof.checkpoint)?.origin;
    let hash = merkle::leaf_hash(&leaf::entry(salt, body));
    let proven = proof.verify(&hash, &origin, trust)?;
    Ok(Statement {
        kind,
        at_wall_ms,
        json,
        proven,
    })
}

fn read(body: &[u8]) -> Result<(String, u64, String), Malformed> {
    let mut from = Reader::new(body);
    from.map(4)?;
    if from.key(0)?.text(EVENT_KIND_BYTES_MAX)? != "event" {
        return Err(Malformed("its leaf is a recording's"));
    }
    let kind = from.key(1)?.text(EVENT_KIND_BYTES_MAX)?.to_owned();
    let at = from.key(2)?.uint()?;
    let json = from.key(3)?.text(EVENT_BODY_BYTES_MAX)?.to_owned();
    from.end()?;
    Ok((kind, at, json))
}
