//! What verifiers and clients are given to trust: `trust.toml` and the
//! OpenSSH lines, all of it public.
//!
//! `trust.toml` only ever grows: a node key that was replaced stays, with the
//! time from which it no longer holds, or old recordings would stop verifying.

use std::path::Path;

use portcullis_recording::limits::TRUST_BYTES_MAX;
use portcullis_recording::note::{KeyKind, NoteError, VerifierKey};
use portcullis_recording::trust::{LedgerKey, NodeKey, Trust, TrustError};
use russh::keys::ssh_key::PublicKey;

use crate::durable::{self, DurableError};
use crate::keeper::Keeper;
use crate::kernel::grant::WallMs;
use crate::kernel::id::NodeName;

/// Name within the state folder.
pub const TRUST_FILE: &str = "trust.toml";
/// Anybody may read it.
const TRUST_MODE: u32 = 0o644;

/// Why the trust file is not made.
#[derive(Debug, thiserror::Error)]
pub enum TrustFileError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("{path}: {why}; restore it from the backup, or remove it to make a new one")]
    Unreadable { path: String, why: TrustError },
    #[error("`{origin}` cannot name a ledger key: {why}")]
    Origin { origin: String, why: NoteError },
    #[error("the trust file cannot be written: {0}")]
    Unwritable(TrustError),
}

/// Who signs now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Signers {
    pub node: NodeName,
    pub node_key: [u8; 32],
    /// The ledger's origin line.
    pub origin: String,
    pub ledger_key: [u8; 32],
}

impl Signers {
    /// A node with its keeper's keys.
    pub fn of(node: &NodeName, origin: &str, keeper: &dyn Keeper) -> Signers {
        Signers {
            node: node.clone(),
            node_key: keeper.node_key(),
            origin: origin.to_owned(),
            ledger_key: keeper.ledger_key(),
        }
    }
}

/// `trust` with these signers in it from `now` on. What they replace ends
/// at `now`; nothing is removed. Asked again it changes nothing.
///
/// # Errors
/// When the origin cannot be a key's name.
pub fn with_signers(mut trust: Trust, signers: &Signers, now: WallMs) -> Result<Trust, TrustFileError> {
    let name = signers.node.as_str();
    let mut holds = false;
    for node in trust.nodes.iter_mut().filter(|node| node.name == name) {
        match node.until_wall_ms {
            None if node.key == signers.node_key => holds = true,
            None => node.until_wall_ms = Some(now),
            Some(_) => {}
        }
    }
    if !holds {
        trust.nodes.push(NodeKey {
            name: name.to_owned(),
            key: signers.node_key,
            from_wall_ms: now,
            until_wall_ms: None,
            revoked_wall_ms: None,
        });
    }
    let key =
        VerifierKey::new(&signers.origin, KeyKind::Note, signers.ledger_key).map_err(|why| TrustFileError::Origin {
            origin: signers.origin.clone(),
            why,
        })?;
    let ledger = LedgerKey {
        origin: signers.origin.clone(),
        key,
    };
    if !trust.ledgers.contains(&ledger) {
        trust.ledgers.push(ledger);
    }
    Ok(trust)
}

/// `trust` with these witnesses in it, and with the quorum that is demanded
/// of them if that is more than before. Nothing is removed or lowered: what
/// was cosigned stays cosigned, and who can write the configuration cannot
/// make verifiers ask for less. Lowering it is an edit of the file itself.
pub fn with_witnesses(mut trust: Trust, witnesses: &[VerifierKey], quorum: u64) -> Trust {
    for key in witnesses {
        if !trust.witnesses.contains(key) {
            trust.witnesses.push(key.clone());
        }
    }
    if !witnesses.is_empty() {
        trust.quorum = trust.quorum.max(quorum);
    }
    trust
}

/// Reads a trust file; an absent one trusts nothing.
///
/// # Errors
/// When it is there but cannot be read or parsed.
pub fn read(path: &Path) -> Result<Trust, TrustFileError> {
    let most = u64::try_from(TRUST_BYTES_MAX).unwrap_or(u64::MAX);
    let bytes = match durable::read_bounded(path, most) {
        Ok(bytes) => bytes,
        Err(why) if why.is_missing() => return Ok(Trust::default()),
        Err(why) => return Err(why.into()),
    };
    Trust::parse(&String::from_utf8_lossy(&bytes)).map_err(|why| TrustFileError::Unreadable {
        path: path.display().to_string(),
        why,
    })
}

/// Brings `trust.toml` up to date with the keys and witnesses in use; gives
/// what it says now. Called at `init` and at every start: cheap when nothing
/// changed.
///
/// # Errors
/// When the file there cannot be read, or the new one not be written.
pub fn update(
    path: &Path,
    signers: &Signers,
    witnesses: (&[VerifierKey], u64),
    now: WallMs,
) -> Result<Trust, TrustFileError> {
    let old = read(path)?;
    let new = with_signers(old.clone(), signers, now)?;
    let new = with_witnesses(new, witnesses.0, witnesses.1);
    if new != old {
        let text = new.to_text().map_err(TrustFileError::Unwritable)?;
        let staging = path.with_extension("toml.new");
        durable::replace(path, text.as_bytes(), TRUST_MODE, &staging)?;
    }
    Ok(new)
}

/// The line for a client's `known_hosts`, for hosts that match `pattern`.
///
/// # Errors
/// When the key cannot be written as a line.
pub fn known_hosts_line(pattern: &str, host_ca: &PublicKey) -> Result<String, russh::keys::ssh_key::Error> {
    // Without the comment, which could hold anything.
    let key = PublicKey::from(host_ca.key_data().clone()).to_openssh()?;
    Ok(format!("@cert-authority {pattern} {}", key.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: (&[VerifierKey], u64) = (&[], 0);

    fn signers(key: u8) -> Signers {
        Signers {
            node: "bastion-1".parse().unwrap(),
            node_key: [key; 32],
            origin: "bastion.example/log".into(),
            ledger_key: [key + 1; 32],
        }
    }

    #[test]
    fn a_file_is_made_kept_and_grown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRUST_FILE);
        let first = update(&path, &signers(1), NONE, 1_000).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(Trust::parse(&text).unwrap(), first);
        // Again, later: not one byte changes.
        update(&path, &signers(1), NONE, 2_000).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

        let grown = update(&path, &signers(5), NONE, 3_000).unwrap();
        assert_eq!(read(&path).unwrap(), grown);
        let times: Vec<_> = grown
            .nodes
            .iter()
            .map(|it| (it.key[0], it.from_wall_ms, it.until_wall_ms))
            .collect();
        assert_eq!(times, [(1, 1_000, Some(3_000)), (5, 3_000, None)]);
        assert_eq!(grown.ledgers.len(), 2);
    }

    #[test]
    fn other_nodes_witnesses_and_revocations_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRUST_FILE);
        let mut trust = with_signers(Trust::default(), &signers(1), 1_000).unwrap();
        trust.quorum = 1;
        let key = VerifierKey::new("w.example", KeyKind::Cosignature, [9; 32]).unwrap();
        trust.witnesses.push(key);
        trust.nodes[0].revoked_wall_ms = Some(1_500);
        trust.nodes.push(NodeKey {
            name: "bastion-2".into(),
            ..trust.nodes[0].clone()
        });
        std::fs::write(&path, trust.to_text().unwrap()).unwrap();
        let now = update(&path, &signers(3), NONE, 2_000).unwrap();
        assert_eq!((now.quorum, now.witnesses.len()), (1, 1));
        assert_eq!(now.nodes[0].revoked_wall_ms, Some(1_500));
        assert_eq!(now.nodes[1].until_wall_ms, None, "another node's key");
    }

    #[test]
    fn witnesses_come_and_stay_and_the_quorum_only_rises() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRUST_FILE);
        let key = |byte| VerifierKey::new("w.example", KeyKind::Cosignature, [byte; 32]).unwrap();
        update(&path, &signers(1), (&[key(1), key(2)], 2), 1).unwrap();
        let now = update(&path, &signers(1), (&[key(2), key(3)], 1), 2).unwrap();
        assert_eq!((now.quorum, &now.witnesses), (2, &vec![key(1), key(2), key(3)]));
        let now = update(&path, &signers(1), (&[key(1)], 3), 3).unwrap();
        assert_eq!((now.quorum, now.witnesses.len()), (3, 3));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TRUST_FILE);
        std::fs::write(&path, "colour = 1\n").unwrap();
        let said = update(&path, &signers(1), NONE, 1).unwrap_err().to_string();
        assert!(said.contains("line 1"), "{said}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "colour = 1\n");
    }
}
