//! OpenSSH key revocation lists, for those who trust our authorities and do
//! not ask us: other servers, targets.
//!
//! Pure: values in, bytes out. The form is OpenSSH's PROTOCOL.krl; it is not
//! signed there either, so it has to come over a way that is trusted.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernel::grant::WallMs;

/// `SSHKRL\n\0`.
const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT_VERSION: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_EXPLICIT_KEY: u8 = 2;
const CERTIFICATES_BY_SERIAL: u8 = 0x20;

/// What is revoked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Krl {
    /// Grows with each list; readers do not look at it.
    pub version: u64,
    pub made_ms: WallMs,
    /// For people.
    pub comment: String,
    /// By the public key blob of their authority: the serials of certificates.
    pub certificates: BTreeMap<Vec<u8>, BTreeSet<u64>>,
    /// Public key blobs. An authority's key here revokes all that it signed.
    pub keys: BTreeSet<Vec<u8>>,
}

impl Krl {
    /// The bytes of the file. An authority without serials gets no section,
    /// and serial 0, which OpenSSH takes for "none", is left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&FORMAT_VERSION.to_be_bytes());
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&(self.made_ms / 1000).to_be_bytes());
        // Flags, of which there are none, and a reserved string.
        out.extend_from_slice(&0u64.to_be_bytes());
        string(&mut out, b"");
        string(&mut out, self.comment.as_bytes());
        for (authority, serials) in &self.certificates {
            let serials: Vec<u8> = serials
                .iter()
                .filter(|serial| **serial != 0)
                .flat_map(|serial| serial.to_be_bytes())
                .collect();
            if serials.is_empty() {
                continue;
            }
            let mut section = Vec::new();
            string(&mut section, authority);
            string(&mut section, b"");
            section.push(CERTIFICATES_BY_SERIAL);
            string(&mut section, &serials);
            out.push(SECTION_CERTIFICATES);
            string(&mut out, &section);
        }
        if !self.keys.is_empty() {
            let mut section = Vec::new();
            for key in &self.keys {
                string(&mut section, key);
            }
            out.push(SECTION_EXPLICIT_KEY);
            string(&mut out, &section);
        }
        out
    }
}

/// RFC 4251 section 5: a length of four bytes, then the bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::*;

    fn keygen(dir: &Path, args: &[&str]) {
        let done = Command::new("ssh-keygen").current_dir(dir).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {done:?}");
    }

    fn key(dir: &Path, name: &str) -> PathBuf {
        keygen(dir, &["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", name]);
        dir.join(name)
    }

    fn blob(path: &Path) -> Vec<u8> {
        let line = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        russh::keys::PublicKey::from_openssh(&line).unwrap().to_bytes().unwrap()
    }

    fn certificate(dir: &Path, ca: &str, name: &str, serial: u64) -> PathBuf {
        key(dir, name);
        let (serial, file) = (serial.to_string(), format!("{name}.pub"));
        keygen(dir, &["-q", "-s", ca, "-I", name, "-n", "root", "-z", &serial, &file]);
        dir.join(format!("{name}-cert.pub"))
    }

    /// Whether stock OpenSSH finds it revoked.
    fn revoked(list: &Path, what: &Path) -> bool {
        let said = Command::new("ssh-keygen")
            .arg("-Q")
            .arg("-f")
            .arg(list)
            .arg(what)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        match said.status.code() {
            Some(0) => assert!(text.trim_end().ends_with(": ok"), "{text}"),
            Some(1) => assert!(text.trim_end().ends_with(": REVOKED"), "{said:?}"),
            other => panic!("{other:?} {said:?}"),
        }
        said.status.code() == Some(1)
    }

    #[test]
    fn stock_ssh_keygen_reads_what_is_revoked_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let (ca, other, retired) = (key(dir, "ca"), key(dir, "other"), key(dir, "retired"));
        let gone = certificate(dir, "ca", "gone", 7);
        let far = certificate(dir, "ca", "far", u64::MAX);
        let sound = certificate(dir, "ca", "sound", 8);
        let same_serial = certificate(dir, "other", "same", 7);
        let of_retired = certificate(dir, "retired", "late", 99);
        let krl = Krl {
            version: 5,
            made_ms: 1_800_000_000_000,
            comment: "a test".into(),
            certificates: [(blob(&ca), [0, 7, u64::MAX].into()), (blob(&other), [0].into())].into(),
            keys: [blob(&retired)].into(),
        };
        let list = dir.join("list");
        std::fs::write(&list, krl.encode()).unwrap();
        for (what, is) in [
            (&gone, true),
            (&far, true),
            (&sound, false),
            (&same_serial, false),
            (&of_retired, true),
            (&retired.with_extension("pub"), true),
            (&ca.with_extension("pub"), false),
        ] {
            assert_eq!(revoked(&list, what), is, "{}", what.display());
        }
        // Printed whole: ssh-keygen's own reading of it.
        let said = Command::new("ssh-keygen")
            .args(["-Q", "-l", "-f"])
            .arg(&list)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("KRL version 5") && text.contains("serial: 7"), "{text}");
    }

    #[test]
    fn an_empty_list_revokes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let ca = key(folder.path(), "ca");
        let list = folder.path().join("list");
        std::fs::write(&list, Krl::default().encode()).unwrap();
        assert!(!revoked(&list, &ca.with_extension("pub")));
    }
}
