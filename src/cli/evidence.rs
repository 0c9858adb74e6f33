//! `evidence`: everything about one session in one file, for somebody who has
//! neither this server nor its ledger.
//!
//! The package is a tar file: `manifest.json` first, which names every other
//! file with its SHA-256; the recording and what lies beside it; each leaf of
//! the ledger that names the session or its grant, with its proof; the
//! certificate. `export.leaf` is the ledger's leaf that names the manifest's
//! SHA-256: nothing in the package can be changed, and giving it out is on
//! record. (player: `package.rs`, recording/FORMAT.md section 9.7)

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use portcullis_recording::statement;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::exit::{CliError, Exit};
use super::recordings::{beside, find, tell};
use super::{Common, Session};
use crate::api::wire::{OneSession, Purpose, SCHEMA, Statements};
use crate::archive::{SIDECAR_BYTES_MAX, Sidecar};
use crate::durable;
use crate::issue::trust;
use crate::kernel::grant::hex32;

/// Mode of what is given out: the asker's alone.
const FILE_MODE: u32 = 0o600;
/// What the recording is called in there.
const RECORDING: &str = "recording.pcr";

/// The certificate.
const CERTIFICATE: &str = "certificate.pub";

/// `evidence`'s arguments.
#[derive(Args, Debug)]
pub struct EvidenceArgs {
    /// The session's id, or enough of its start
    #[arg(value_name = "SESSION")]
    id: String,
    /// The package to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Why; stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Serialize)]
struct Manifest {
    schema: u32,
    session: String,
    files: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
    /// For people.
    what: String,
}

/// A small file of the package.
struct Member {
    name: String,
    bytes: Vec<u8>,
    what: String,
}

pub async fn run(common: &Common, args: &EvidenceArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let row = find(&session, &args.id).await?;
    let one: OneSession = session.client.get(&format!("/v1/sessions/{}", row.session)).await?;
    let path = format!("/v1/sessions/{}/statements", row.session);
    let stated: Statements = session.client.get(&path).await?;
    let trusted =
        trust::read(&session.config()?.layout.trust()).map_err(|error| CliError::failed(error.to_string()))?;

    let file = PathBuf::from(&row.path);
    let mut members = sidecars(&file)?;
    for (number, text) in stated.statements.into_iter().enumerate() {
        let leaf = statement::verify(&text, &trusted)
            .map_err(|error| CliError::failed(format!("a leaf that the server gave does not verify: {error}")))?;
        if members.iter().all(|member| member.name != CERTIFICATE) {
            members.extend(certificate(&leaf, &one));
        }
        members.push(Member {
            name: format!("leaves/{number:04}-{}.leaf", leaf.kind),
            what: format!("what the ledger says under `{}`, with its proof", leaf.kind),
            bytes: text.into_bytes(),
        });
    }
    members.push(Member {
        name: "session.json".to_owned(),
        what: "what the server's store says of session and grant; proves nothing by itself".to_owned(),
        bytes: json(&one)?,
    });
    let recording = durable::open_regular(&file).map_err(|error| CliError::failed(error.to_string()))?;
    let (bytes, sha256) = digest(&recording).map_err(|error| CliError::failed(format!("{}: {error}", row.path)))?;
    let manifest = manifest(&row.session.to_string(), (bytes, sha256), &members)?;
    let sha256: [u8; 32] = Sha256::digest(&manifest).into();
    let export = tell(
        &session,
        &row,
        Purpose::Export,
        &args.reason,
        Some(hex32::encode(&sha256)),
    )
    .await?;
    let first = [("manifest.json", manifest), ("export.leaf", export.into_bytes())];
    write(&args.out, &first, (&recording, bytes), &members)
        .map_err(|error| CliError::failed(format!("{}: {error}", args.out.display())))?;
    let answer =
        serde_json::json!({ "schema": SCHEMA, "file": args.out.display().to_string(), "session": row.session });
    session.output.data(&answer, || format!("{}\n", args.out.display()))?;
    session.output.say(format!(
        "Next: portcullis-player verify {} --trust {}",
        args.out.display(),
        session.config()?.layout.trust().display()
    ));
    Ok(Exit::Ok)
}

/// Proof, signature and key, as far as they are there.
fn sidecars(file: &Path) -> Result<Vec<Member>, CliError> {
    let mut members = Vec::new();
    for (kind, what) in [
        (Sidecar::Proof, "its place in the ledger (c2sp.org/tlog-proof)"),
        (Sidecar::Signature, "for `ssh-keygen -Y verify -n portcullis-recording`"),
        (Sidecar::Key, "the key to its content, for `age -d -i IDENTITY`"),
    ] {
        let path = beside(file, Some(kind.extension()));
        match durable::read_bounded(&path, SIDECAR_BYTES_MAX) {
            Ok(bytes) => members.push(Member {
                name: format!("{RECORDING}.{}", kind.extension()),
                what: what.to_owned(),
                bytes,
            }),
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(CliError::failed(error.to_string())),
        }
    }
    Ok(members)
}

/// The certificate that the grant's leaf carries.
fn certificate(leaf: &statement::Statement, one: &OneSession) -> Option<Member> {
    let said: serde_json::Value = (leaf.kind == "grant").then(|| serde_json::from_str(&leaf.json).ok())??;
    if said.get("id")?.as_str()? != one.session.grant.to_string() {
        return None;
    }
    let line = said.get("certificate")?.as_str()?;
    Some(Member {
        name: CERTIFICATE.to_owned(),
        what: "the certificate that the grant was issued as (`ssh-keygen -Lf`)".to_owned(),
        bytes: format!("{line}\n").into_bytes(),
    })
}

fn manifest(session: &str, (bytes, sha256): (u64, [u8; 32]), members: &[Member]) -> Result<Vec<u8>, CliError> {
    let mut files = vec![Entry {
        name: RECORDING.to_owned(),
        bytes,
        sha256: hex32::encode(&sha256),
        what: "the recording".to_owned(),
    }];
    files.extend(members.iter().map(|member| Entry {
        name: member.name.clone(),
        bytes: u64::try_from(member.bytes.len()).unwrap_or(u64::MAX),
        sha256: hex32::encode(&Sha256::digest(&member.bytes).into()),
        what: member.what.clone(),
    }));
    json(&Manifest {
        schema: SCHEMA,
        session: session.to_owned(),
        files,
    })
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, CliError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| CliError::failed(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn digest(file: &File) -> io::Result<(u64, [u8; 32])> {
    let (mut file, mut digest) = (file, Sha256::new());
    io::Seek::rewind(&mut file)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut bytes = 0u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((bytes, digest.finalize().into()));
        }
        digest.update(buffer.get(..read).unwrap_or_default());
        bytes = bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
}

/// Writes the package; what was begun and failed is removed again.
fn write(out: &Path, first: &[(&str, Vec<u8>)], recording: (&File, u64), members: &[Member]) -> io::Result<()> {
    let to = create_new(out)?;
    let written = fill(to, first, recording, members);
    if written.is_err() {
        std::fs::remove_file(out)?;
    }
    written
}

fn fill(
    to: File,
    first: &[(&str, Vec<u8>)],
    (mut recording, bytes): (&File, u64),
    members: &[Member],
) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(to));
    for (name, bytes) in first {
        append(&mut tar, name, bytes.len() as u64, &bytes[..])?;
    }
    io::Seek::rewind(&mut recording)?;
    append(&mut tar, RECORDING, bytes, recording.take(bytes))?;
    for member in members {
        append(&mut tar, &member.name, member.bytes.len() as u64, &member.bytes[..])?;
    }
    let mut to = tar.into_inner()?;
    to.flush()?;
    to.get_ref().sync_all()
}

fn append(tar: &mut tar::Builder<impl Write>, name: &str, bytes: u64, from: impl Read) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, from)
}

fn create_new(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Copies a file to a name that is free, durably.
pub fn copy_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = durable::open_regular(from).map_err(|error| error.why)?;
    let mut file = create_new(to)?;
    io::copy(&mut from, &mut file)?;
    file.sync_all()
}

/// Writes a file whose name is free, durably.
pub fn write_new(to: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = create_new(to)?;
    file.write_all(bytes)?;
    file.sync_all()
}
