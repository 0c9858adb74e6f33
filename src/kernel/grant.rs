//! What was granted: to whom, for which destination, until when.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::id::{Destination, GrantId, IdentityName, RequestId};

/// Milliseconds of the wall clock since 1970-01-01T00:00:00Z.
pub type WallMs = u64;

/// Longest life of a grant when nothing shorter is configured, in ms (12 h).
pub const GRANT_MS_MAX: u64 = 12 * 60 * 60 * 1000;

/// What a grant lets its holder do at the destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// An interactive login shell.
    Shell,
    /// A command.
    Exec,
    /// File transfer by the sftp subsystem.
    Sftp,
    /// Port and socket forwarding, both directions.
    Forward,
    /// Agent forwarding: off unless named.
    Agent,
    /// X11 forwarding: off unless named.
    X11,
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "shell" => Capability::Shell,
            "exec" => Capability::Exec,
            "sftp" => Capability::Sftp,
            "forward" => Capability::Forward,
            "agent" => Capability::Agent,
            "x11" => Capability::X11,
            _ => {
                return Err(format!(
                    "no capability is called `{text}`: shell, exec, sftp, forward, agent or x11"
                ));
            }
        })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Capability::Shell => "shell",
            Capability::Exec => "exec",
            Capability::Sftp => "sftp",
            Capability::Forward => "forward",
            Capability::Agent => "agent",
            Capability::X11 => "x11",
        })
    }
}

/// A set of capabilities; the empty set allows nothing.
pub type Capabilities = BTreeSet<Capability>;

/// A block of addresses, `ADDR/PREFIX` (RFC 4632, RFC 4291). An IPv4-mapped
/// IPv6 address counts as the IPv4 address in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cidr {
    addr: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Whether `addr` lies in the block.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(addr)) => {
                let shift = 32u32.saturating_sub(u32::from(self.prefix));
                let mask = u32::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == addr.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(addr)) => {
                let shift = 128u32.saturating_sub(u32::from(self.prefix));
                let mask = u128::MAX.checked_shl(shift).unwrap_or(0);
                net.to_bits() & mask == addr.to_bits() & mask
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl Cidr {
    /// Whether every address of `other` lies in this block.
    pub fn covers(&self, other: &Cidr) -> bool {
        // A block of mapped addresses counts its prefix in other bits.
        self.addr.is_ipv4() == other.addr.is_ipv4() && self.prefix <= other.prefix && self.contains(other.addr)
    }

    /// Whether no bit is set beyond the prefix; OpenSSH refuses a certificate
    /// whose `source-address` has one.
    pub fn is_exact(&self) -> bool {
        let (bits, width) = match self.addr {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32u32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let beyond = 1u128
            .checked_shl(width.saturating_sub(u32::from(self.prefix)))
            .map_or(u128::MAX, |bit| bit.wrapping_sub(1));
        bits & beyond == 0
    }
}

impl FromStr for Cidr {
    type Err = String;

    /// Reads `ADDR/PREFIX`, or a bare address as the block of just that one.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not an address block such as 10.0.0.0/8 or 2001:db8::/32");
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => (addr, Some(prefix)),
            None => (text, None),
        };
        let addr: IpAddr = addr.parse().map_err(|_| bad())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| bad())?
            }
            Some(_) => return Err(bad()),
        };
        if prefix > most {
            return Err(bad());
        }
        Ok(Cidr { addr, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One grant: the row in the store is what makes it live.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Grant {
    pub id: GrantId,
    pub identity: IdentityName,
    pub destination: Destination,
    /// Start of `[from, until)`, wall clock.
    pub from_ms: WallMs,
    /// End of `[from, until)`, wall clock: from this very ms on it admits nobody.
    pub until_ms: WallMs,
    /// Addresses it may be used from; empty means any.
    pub sources: Vec<Cidr>,
    pub capabilities: Capabilities,
    pub reason: String,
    #[serde(default)]
    pub ticket: Option<String>,
    /// The request that it was collected from; none: an admin issued it.
    #[serde(default)]
    pub request: Option<RequestId>,
    /// Who issued it.
    pub issued_by: String,
    /// SHA-256 of the policies that allowed it.
    #[serde(with = "hex32")]
    pub policy_digest: [u8; 32],
    /// SHA-256 of the one certificate issued under it (the decoded blob).
    #[serde(with = "hex32")]
    pub certificate_sha256: [u8; 32],
    pub certificate_serial: u64,
    /// One `connect` only: consumed in the transaction that permits it.
    pub single_use: bool,
    /// Set once it was consumed.
    pub used_at_ms: Option<WallMs>,
    pub revoked_at_ms: Option<WallMs>,
    pub revoked_why: Option<String>,
}

/// Why a grant is not live.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotLive {
    NotYet,
    Expired,
    Revoked,
    Used,
}

impl Grant {
    /// Whether it admits at `now`.
    ///
    /// # Errors
    /// The reason why it does not. What is over for good is told before what
    /// the clock says: a clock set back must not hide it, and the holder cannot
    /// see it in the certificate.
    pub fn live(&self, now: WallMs) -> Result<(), NotLive> {
        if self.revoked_at_ms.is_some() {
            return Err(NotLive::Revoked);
        }
        if self.single_use && self.used_at_ms.is_some() {
            return Err(NotLive::Used);
        }
        if now < self.from_ms {
            return Err(NotLive::NotYet);
        }
        if now >= self.until_ms {
            return Err(NotLive::Expired);
        }
        Ok(())
    }

    /// Whether `peer` is one of its sources.
    pub fn admits_from(&self, peer: IpAddr) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|block| block.contains(peer))
    }
}

/// 32 bytes as 64 hexadecimal digits in JSON.
pub mod hex32 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn encode(bytes: &[u8; 32]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn decode(text: &str) -> Option<[u8; 32]> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0u8; 32];
        for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }

    pub fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        decode(&text).ok_or_else(|| serde::de::Error::custom("64 hexadecimal digits expected"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_contain_what_they_say() {
        let cases = [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::1", "::1", true),
        ];
        for (block, addr, inside) in cases {
            let block: Cidr = block.parse().unwrap();
            assert_eq!(block.contains(addr.parse().unwrap()), inside, "{block} {addr}");
        }
        let cases = [
            ("10.0.0.0/8", "10.1.0.0/16", true),
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", false),
            ("10.0.0.0/8", "11.0.0.0/16", false),
            ("0.0.0.0/0", "::1/128", false),
            ("::/0", "10.0.0.0/8", false),
            ("10.0.0.0/8", "::ffff:10.0.0.0/97", false),
            ("2001:db8::/32", "2001:db8:1::/48", true),
        ];
        for (outer, inner, covers) in cases {
            let [outer, inner]: [Cidr; 2] = [outer, inner].map(|block| block.parse().unwrap());
            assert_eq!(outer.covers(&inner), covers, "{outer} {inner}");
        }
        for bad in ["10.0.0.0/33", "10.0.0/8", "::/129", "x", "10.0.0.0/", "10.0.0.0/+8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
