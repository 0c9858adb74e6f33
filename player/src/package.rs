//! An evidence package: one session's recording with everything that is known about it, in one tar file (FORMAT.md
//! section 9.7). Nothing in it is believed but what the ledger's leaf about the export names by its hash.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_recording::limits::{NOTE_BYTES_MAX, TRUST_BYTES_MAX};
use portcullis_recording::statement::{self, Statement};
use portcullis_recording::{Head, Trust, spool};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::failure::{Exit, Failure};
use crate::plain::{self, hex};
use crate::section::Section;
use crate::times;

/// What every package begins with: the name of its first file.
const FIRST: &[u8] = b"manifest.json\0";
/// Names every other file and its SHA-256.
const MANIFEST: &str = "manifest.json";
/// The ledger's leaf that names the manifest's SHA-256.
const EXPORT: &str = "export.leaf";
/// The recording.
pub const RECORDING: &str = "recording.pcr";
/// The certificate that the session was admitted with.
const CERTIFICATE: &str = "certificate.pub";
/// What the store says; proves nothing.
const SESSION: &str = "session.json";
/// Folder of the ledger's leaves.
const LEAVES: &str = "leaves/";
/// Files in a package.
const MEMBERS_MAX: usize = 4096;
/// Characters of a leaf's text that are shown.
const SHOWN_CHARS_MAX: usize = 240;

/// What a package holds beside the recording, in values that are safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// Files, the manifest included.
    pub files: usize,
    /// When it was exported, by the node's clock.
    pub exported: String,
    /// Who exported it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The leaf that says so.
    pub leaf: u64,
    /// What the ledger says about session and grant, oldest first.
    pub leaves: Vec<Leaf>,
    /// Whether the certificate is there, and is the one that the recording names.
    pub certificate: bool,
}

/// One leaf of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Leaf {
    /// Its place.
    pub index: u64,
    /// When, by the node's clock.
    pub at: String,
    /// `grant`, `revocation` and the like.
    pub kind: String,
    /// What it says, cut to a line.
    pub text: String,
}

/// A package, opened and indexed.
#[derive(Debug)]
pub struct Package {
    file: File,
    members: BTreeMap<String, (u64, u64)>,
}

#[derive(Deserialize)]
struct Manifest {
    schema: u32,
    session: String,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

#[derive(Deserialize)]
struct Exported {
    session: String,
    by: String,
    reason: String,
    manifest_sha256: Option<String>,
}

impl Package {
    /// Opens a package; `None` if the file is none.
    ///
    /// # Errors
    /// When it cannot be read, or begins like a package and is no tar file of plain files.
    pub fn open(path: &Path) -> Result<Option<Package>, Failure> {
        let shown = path.display().to_string();
        let failed = |e: &std::io::Error| Failure::io(&shown, e);
        let mut file = File::open(path).map_err(|e| failed(&e))?;
        let mut first = [0; FIRST.len()];
        if file.read_exact(&mut first).is_err() || first != FIRST {
            return Ok(None);
        }
        let bad = |why: &str| {
            Failure::new(Exit::Invalid, format!("INVALID: {shown} is no evidence package: {why}"))
                .hint("get it again: portcullis evidence SESSION -o FILE")
        };
        let whole = Section::whole(file.try_clone().map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
        let mut tar = tar::Archive::new(whole);
        let mut members = BTreeMap::new();
        // Raw: a header that names or measures another entry for some tools and not for others is no file here.
        for entry in tar.entries_with_seek().map_err(|e| bad(&e.to_string()))?.raw(true) {
            let entry = entry.map_err(|e| bad(&e.to_string()))?;
            let name = entry.path_bytes();
            let name = std::str::from_utf8(&name)
                .map_err(|_| bad("a name is no text"))?
                .to_owned();
            if !entry.header().entry_type().is_file() || entry.header().as_ustar().is_none() {
                return Err(bad("it holds something else than plain files"));
            }
            if !is_known(&name) {
                return Err(bad("it holds a file that no package has"));
            }
            let place = (entry.raw_file_position(), entry.size());
            if members.len() == MEMBERS_MAX || members.insert(name, place).is_some() {
                return Err(bad("too many files, or one name twice"));
            }
        }
        Ok(Some(Package { file, members }))
    }

    /// A file of it, to be read in place.
    pub fn section(&self, name: &str) -> std::io::Result<Option<Section>> {
        let Some((start, len)) = self.members.get(name) else {
            return Ok(None);
        };
        Ok(Some(Section::of(self.file.try_clone()?, *start, *len)))
    }

    /// A small file of it; one over its bound is cut one byte behind it, which whoever parses it refuses.
    pub fn read(&self, name: &str, bytes_max: usize) -> std::io::Result<Option<Vec<u8>>> {
        let Some(section) = self.section(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        section.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The proof that lies beside the recording in there.
    pub fn proof(&self) -> std::io::Result<Option<String>> {
        let bytes = self.read(&format!("{RECORDING}.proof"), NOTE_BYTES_MAX)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Holds everything in it against the ledger's leaf about the export, and that against the recording.
    ///
    /// # Errors
    /// In words, what does not fit.
    pub fn check(&self, head: &Head, trust: &Trust) -> Result<Contents, String> {
        let missing = |name: &str| format!("{name} is missing in the package");
        let io = |e: std::io::Error| e.to_string();
        let manifest = self.read(MANIFEST, TRUST_BYTES_MAX).map_err(io)?;
        let manifest = manifest.ok_or_else(|| missing(MANIFEST))?;
        // Its leaves are of the ledger that the recording names, and of no other that is trusted as well.
        let leaf = |bytes: &[u8]| {
            let stated = leaf(bytes, trust)?;
            match stated.proven.origin == head.ledger_origin {
                true => Ok(stated),
                false => Err("it is another ledger's".to_owned()),
            }
        };
        let export = self
            .read(EXPORT, NOTE_BYTES_MAX)
            .map_err(io)?
            .ok_or_else(|| missing(EXPORT))?;
        let stated = leaf(&export).map_err(|why| format!("{EXPORT}: {why}"))?;
        let said: Exported = serde_json::from_str(&stated.json).map_err(|e| format!("{EXPORT}: {e}"))?;
        let sha256 = hex(&Sha256::digest(&manifest));
        if stated.kind != "export" || said.manifest_sha256.as_deref() != Some(&sha256) {
            return Err(format!("{EXPORT} is about another package than {MANIFEST} tells"));
        }
        let listed: Manifest = serde_json::from_slice(&manifest).map_err(|e| format!("{MANIFEST}: {e}"))?;
        let session = spool::session_name(&head.session_id);
        if listed.schema != 1 || listed.session != session || said.session != session {
            return Err("the package is about another session than its recording".to_owned());
        }
        self.check_files(&listed)?;
        let mut leaves = Vec::new();
        for name in self.members.keys().filter(|name| name.starts_with(LEAVES)) {
            let bytes = self.read(name, NOTE_BYTES_MAX).map_err(io)?.unwrap_or_default();
            let stated = leaf(&bytes).map_err(|why| format!("{}: {why}", plain::line(name)))?;
            if !is_about(&stated.json, &[&session, &head.grant_id]) {
                return Err(format!("{} is about something else", plain::line(name)));
            }
            leaves.push(Leaf {
                index: stated.proven.index,
                at: times::utc(stated.at_wall_ms),
                kind: plain::line(&stated.kind),
                text: plain::line(&stated.json).chars().take(SHOWN_CHARS_MAX).collect(),
            });
        }
        leaves.sort_by_key(|leaf| leaf.index);
        Ok(Contents {
            files: self.members.len(),
            exported: times::utc(stated.at_wall_ms),
            by: plain::line(&said.by),
            reason: plain::line(&said.reason),
            leaf: stated.proven.index,
            leaves,
            certificate: self.check_certificate(head)?,
        })
    }

    /// Every file that is listed, and no other.
    fn check_files(&self, listed: &Manifest) -> Result<(), String> {
        // Each once: the two that are not listed are the manifest and the export's leaf.
        if listed.files.len().saturating_add(2) != self.members.len() {
            return Err("the manifest lists a file twice, or not all of them".to_owned());
        }
        for entry in &listed.files {
            let name = plain::line(&entry.name);
            let section = self.section(&entry.name).map_err(|e| e.to_string())?;
            let section = section.ok_or_else(|| format!("{name} is missing in the package"))?;
            let (bytes, sha256) = digest(section).map_err(|e| format!("{name}: {e}"))?;
            if bytes != entry.bytes || hex(&sha256) != entry.sha256 {
                return Err(format!("{name} is not the file that was exported"));
            }
        }
        for name in self
            .members
            .keys()
            .filter(|name| !matches!(name.as_str(), MANIFEST | EXPORT))
        {
            if !listed.files.iter().any(|entry| entry.name == *name) {
                return Err(format!("{} was put into the package afterwards", plain::line(name)));
            }
        }
        Ok(())
    }

    fn check_certificate(&self, head: &Head) -> Result<bool, String> {
        let Some(line) = self.read(CERTIFICATE, NOTE_BYTES_MAX).map_err(|e| e.to_string())? else {
            return Ok(false);
        };
        let line = String::from_utf8_lossy(&line);
        let blob = line.split(' ').nth(1).and_then(|blob| BASE64.decode(blob.trim()).ok());
        match blob.map(|blob| <[u8; 32]>::from(Sha256::digest(blob))) {
            Some(sha256) if sha256 == head.cert_sha256 => Ok(true),
            Some(_) | None => Err(format!("{CERTIFICATE} is not the certificate that the recording names")),
        }
    }
}

/// Names that a package has: no other could be taken for one of them by another tool.
fn is_known(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    match name.strip_prefix(LEAVES) {
        Some(rest) => rest.ends_with(".leaf") && rest.bytes().all(plain) && !rest.starts_with('.'),
        None => {
            let beside = name.strip_prefix(RECORDING);
            matches!(name, MANIFEST | EXPORT | CERTIFICATE | SESSION)
                || matches!(beside, Some("" | ".proof" | ".sig" | ".age"))
        }
    }
}

/// Whether one of the values of a leaf's body, or of a list in it, is one of `ids`: not whether somebody's words contain it.
fn is_about(json: &str, ids: &[&str]) -> bool {
    let Ok(Value::Object(body)) = serde_json::from_str(json) else {
        return false;
    };
    let is_one = |text: &str| ids.contains(&text);
    let any = |value: &Value| value.as_str().is_some_and(is_one);
    body.iter().any(|(key, value)| match value {
        Value::Array(all) => all.iter().any(any),
        Value::Object(inner) => inner.values().any(any),
        Value::String(text) => key != "reason" && is_one(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    })
}

fn leaf(bytes: &[u8], trust: &Trust) -> Result<Statement, String> {
    statement::verify(&String::from_utf8_lossy(bytes), trust).map_err(|e| e.to_string())
}

fn digest(section: Section) -> std::io::Result<(u64, [u8; 32])> {
    let (mut digest, mut bytes) = (Sha256::new(), 0u64);
    let mut from = BufReader::with_capacity(1 << 18, section);
    loop {
        let part = std::io::BufRead::fill_buf(&mut from)?;
        if part.is_empty() {
            return Ok((bytes, digest.finalize().into()));
        }
        digest.update(part);
        let read = part.len();
        bytes = bytes.saturating_add(read as u64);
        std::io::BufRead::consume(&mut from, read);
    }
}
