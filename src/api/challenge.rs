//! Challenges: text that the server made, an enrolled key signs, and that is
//! good once, for one identity and one purpose, for a short while.
//!
//! The server keeps nothing until a challenge comes back: an HMAC (RFC 2104)
//! under a key of this process says that it is ours.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::wire::access::ChallengeFor;
use crate::kernel::grant::WallMs;
use crate::kernel::id::{IdentityName, NodeName};

/// How long a challenge may wait for its signature, in ms: a person may have
/// to touch a key.
pub const CHALLENGE_MS: u64 = 120_000;
/// Longest challenge that is read, in bytes.
pub const CHALLENGE_BYTES_MAX: usize = 2048;
/// Random bytes of each.
pub const NONCE_BYTES: usize = 16;

const TITLE: &str = "portcullis challenge v1";

/// What a challenge says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub node: NodeName,
    /// The key that the server shows over TLS, as clients pin it (or a dash):
    /// whoever passes a challenge on to somebody else shows another one.
    pub at: String,
    pub identity: IdentityName,
    pub purpose: ChallengeFor,
    /// Hexadecimal; taken once.
    pub nonce: String,
    pub expires_ms: WallMs,
}

impl Said {
    /// How old it is at `now`, in ms: when it was signed nobody knows.
    pub fn age_ms(&self, now: WallMs) -> u64 {
        now.saturating_sub(self.expires_ms.saturating_sub(CHALLENGE_MS))
    }
}

/// Why a challenge is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotOurs {
    #[error("the challenge is not one of this server's")]
    Forged,
    #[error("the challenge has ended: ask for another one")]
    Expired,
}

fn purpose(of: &ChallengeFor) -> String {
    match of {
        ChallengeFor::Login => "login".to_owned(),
        ChallengeFor::Request(sha256) => format!("request {sha256}"),
        ChallengeFor::Collect(id) => format!("collect {id}"),
        ChallengeFor::Answer(id) => format!("answer {id}"),
        ChallengeFor::Confirm(id) => format!("confirm {id}"),
    }
}

fn body(said: &Said) -> String {
    format!(
        "{TITLE}\nserver: {}\nat: {}\nidentity: {}\nfor: {}\nnonce: {}\nexpires: {}\n",
        said.node,
        said.at,
        said.identity,
        purpose(&said.purpose),
        said.nonce,
        said.expires_ms
    )
}

fn tag(key: &[u8; 32], body: &str) -> Option<Hmac<Sha256>> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).ok()?;
    Some(mac.chain_update(body.as_bytes()))
}

/// The text to be signed.
pub fn make(key: &[u8; 32], said: &Said) -> Option<String> {
    let body = body(said);
    let tag = tag(key, &body)?.finalize().into_bytes();
    let hex: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{body}mac: {hex}\n"))
}

/// Reads a challenge that came back.
///
/// # Errors
/// It is not ours, or it has ended at `now`.
pub fn read(key: &[u8; 32], text: &str, now: WallMs) -> Result<Said, NotOurs> {
    let said = parse(text).ok_or(NotOurs::Forged)?;
    // Made again from its meaning: one text for each, nothing beside it.
    let again = body(&said);
    let hex = text
        .strip_prefix(again.as_str())
        .and_then(|rest| rest.strip_prefix("mac: "))
        .and_then(|rest| rest.strip_suffix('\n'))
        .ok_or(NotOurs::Forged)?;
    let given = crate::kernel::grant::hex32::decode(hex).ok_or(NotOurs::Forged)?;
    let mac = tag(key, &again).ok_or(NotOurs::Forged)?;
    mac.verify_slice(&given).map_err(|_| NotOurs::Forged)?;
    if now >= said.expires_ms {
        return Err(NotOurs::Expired);
    }
    Ok(said)
}

/// Whether a challenge says what who is about to sign it means: for this
/// identity, this purpose, and the server that shows the key `at`.
pub fn means(text: &str, identity: &IdentityName, of: &ChallengeFor, at: &str) -> bool {
    parse(text).is_some_and(|said| said.identity == *identity && said.purpose == *of && said.at == at)
}

fn parse(text: &str) -> Option<Said> {
    if text.len() > CHALLENGE_BYTES_MAX {
        return None;
    }
    let mut lines = text.lines();
    let mut field = |name: &str| lines.next()?.strip_prefix(name);
    if !field(TITLE)?.is_empty() {
        return None;
    }
    let node = field("server: ")?.parse().ok()?;
    let at = field("at: ")?.to_owned();
    let identity = field("identity: ")?.parse().ok()?;
    let purpose = match field("for: ")?.split_once(' ') {
        None => ChallengeFor::Login,
        Some(("request", sha256)) => ChallengeFor::Request(sha256.to_owned()),
        Some(("collect", id)) => ChallengeFor::Collect(id.parse().ok()?),
        Some(("answer", id)) => ChallengeFor::Answer(id.parse().ok()?),
        Some(("confirm", id)) => ChallengeFor::Confirm(id.parse().ok()?),
        Some(_) => return None,
    };
    Some(Said {
        node,
        at,
        identity,
        purpose,
        nonce: field("nonce: ")?.to_owned(),
        expires_ms: field("expires: ")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn said(purpose: ChallengeFor) -> Said {
        Said {
            node: "gate1".parse().unwrap(),
            at: "sha256:ab".to_owned(),
            identity: "alice".parse().unwrap(),
            purpose,
            nonce: "00ff".to_owned(),
            expires_ms: 2_000,
        }
    }

    #[test]
    fn ages_from_the_moment_that_it_was_made() {
        let said = Said {
            expires_ms: 1_000_000 + CHALLENGE_MS,
            ..said(ChallengeFor::Login)
        };
        assert_eq!(said.age_ms(1_000_000), 0);
        assert_eq!(said.age_ms(1_090_000), 90_000);
        assert_eq!(said.age_ms(0), 0, "a clock set back");
    }

    #[test]
    fn comes_back_as_it_was_made_and_in_no_other_way() {
        for purpose in [
            ChallengeFor::Login,
            ChallengeFor::Request("ab".repeat(32)),
            ChallengeFor::Answer(crate::kernel::id::RequestId([1; 16])),
            ChallengeFor::Collect(crate::kernel::id::RequestId([2; 16])),
            ChallengeFor::Confirm(crate::kernel::id::RequestId([1; 16])),
        ] {
            let said = said(purpose);
            let text = make(&KEY, &said).unwrap();
            assert_eq!(read(&KEY, &text, 1_999), Ok(said));
            assert_eq!(read(&KEY, &text, 2_000), Err(NotOurs::Expired));
            assert_eq!(read(&[8; 32], &text, 0), Err(NotOurs::Forged));
            for at in 0..text.len() {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1;
                if let Ok(changed) = String::from_utf8(bytes) {
                    assert!(read(&KEY, &changed, 0).is_err(), "byte {at}");
                }
            }
            assert!(read(&KEY, &format!("{text}\n"), 0).is_err());
            assert!(read(&KEY, &text.to_uppercase(), 0).is_err());
        }
    }
}
