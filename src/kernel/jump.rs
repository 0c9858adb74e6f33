//! Where a jump may lead: the name in a `direct-tcpip` channel of an outer
//! connection (RFC 4254 section 7.2; ssh(1), `-J`), brought to one form.

use super::id::TargetName;
use super::inventory::{Reach, Target};

/// Longest host name that is looked at, in bytes (RFC 1035 section 2.3.4).
pub const HOST_BYTES_MAX: usize = 255;
/// The port of SSH, which a client names when told no other.
pub const SSH_PORT: u32 = 22;

/// A host that a client wants to jump to. Nothing is resolved and nothing is
/// dialled by it: it is only ever looked up in the inventory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    target: TargetName,
    verified: Vec<String>,
    port: u32,
}

impl Asked {
    /// Lower case, no trailing dot, international names as in the DNS (UTS 46);
    /// nothing if that is no name that the inventory could hold.
    pub fn parse(host: &str, port: u32) -> Option<Asked> {
        if host.len() > HOST_BYTES_MAX {
            return None;
        }
        let bare = host.strip_suffix('.').unwrap_or(host);
        let ascii = idna::domain_to_ascii(bare).ok()?;
        let target: TargetName = ascii.parse().ok()?;
        let mut verified = vec![target.to_string()];
        // What the client holds the host certificate against is the name as it
        // was typed. A pattern there would certify other names too.
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"*?,!\"".contains(c);
        if host != target.as_str() && host.chars().all(plain) {
            verified.push(host.to_owned());
        }
        Some(Asked { target, verified, port })
    }

    /// The inventory's name of it.
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// What the client may hold the host certificate against.
    pub fn verified(&self) -> &[String] {
        &self.verified
    }

    /// Whether the port is the target's: SSH's, or the one where it is dialled.
    pub fn port_fits(&self, target: &Target) -> bool {
        let own = match &target.reach {
            Reach::Ssh { addr, .. } => addr.rsplit_once(':').and_then(|(_, port)| port.parse::<u32>().ok()),
            Reach::Local { .. } => None,
        };
        self.port == SSH_PORT || own == Some(self.port)
    }

    /// The port that was asked for.
    pub fn port(&self) -> u32 {
        self.port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> Option<String> {
        Asked::parse(host, 22).map(|asked| asked.target().to_string())
    }

    #[test]
    fn every_way_to_write_a_name_is_one_name() {
        for host in ["db1.prod", "DB1.Prod", "db1.prod.", "db1。prod", "ｄｂ１.prod"] {
            assert_eq!(name(host).as_deref(), Some("db1.prod"), "{host}");
        }
        assert_eq!(name("Müller").as_deref(), Some("xn--mller-kva"));
        assert_eq!(name("xn--mller-kva").as_deref(), Some("xn--mller-kva"));
    }

    #[test]
    fn what_no_inventory_holds_is_no_name() {
        let long = "a".repeat(HOST_BYTES_MAX + 1);
        for host in [
            "",
            ".",
            "..",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "db1@x",
            "db1/x",
            "db1 x",
            "*",
            "db?",
            "a,b",
            "-x",
            "db1\0",
            &long,
        ] {
            assert_eq!(name(host), None, "{host:?}");
        }
    }

    #[test]
    fn a_certificate_names_what_was_typed_and_no_pattern() {
        let asked = Asked::parse("DB1.", 22).unwrap();
        assert_eq!(asked.verified(), ["db1", "DB1."]);
        assert_eq!(Asked::parse("db1", 22).unwrap().verified(), ["db1"]);
    }
}
