//! The files a verdict is made of: recording, spool, trust file, sidecar. Small ones are read up to their bound.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use portcullis_recording::limits::{NOTE_BYTES_MAX, TAIL_BYTES_MAX, TAILS_MAX, TRUST_BYTES_MAX};
use portcullis_recording::{Trust, spool};

use crate::failure::{Exit, Failure};
use crate::source::Bytes;

/// Bytes read from a recording at a time.
const READ_BYTES: usize = 1 << 18;

/// Opens a recording.
pub fn open(path: &Path) -> Result<Bytes, Failure> {
    let file = File::open(path).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    Ok(BufReader::with_capacity(READ_BYTES, file))
}

/// Reads a small file; one over its bound is cut one byte behind it, which whoever parses it refuses.
fn read_bounded(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads trusted keys.
pub fn read_trust(path: &Path) -> Result<Trust, Failure> {
    let shown = path.display().to_string();
    let bytes = read_bounded(path, TRUST_BYTES_MAX).map_err(|e| Failure::io(&format!("trust file {shown}"), &e))?;
    let refused = |why: String| {
        Failure::new(Exit::Failed, format!("{shown}: {why}"))
            .hint("get it again from the server: portcullis trust export > trust.toml")
    };
    let text = String::from_utf8(bytes).map_err(|_| refused("not UTF-8 text".to_owned()))?;
    Trust::parse(&text).map_err(|e| refused(e.to_string()))
}

/// The sidecar's name: `FILE.proof`.
pub fn sidecar(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".proof");
    PathBuf::from(name)
}

/// The proof somebody named, or the one beside the recording if there is one.
pub fn read_proof(file: &Path, named: Option<&Path>) -> Result<Option<String>, Failure> {
    let beside = sidecar(file);
    let path = named.unwrap_or(&beside);
    match read_bounded(path, NOTE_BYTES_MAX) {
        // What is no text is no proof either, and is refused as one.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::io(&format!("proof {}", path.display()), &e)),
    }
}

/// The tails of a spool. They are read before the main file: a tail goes once its chunk is there.
pub fn read_tails(folder: &Path) -> Result<Vec<(u64, Vec<u8>)>, Failure> {
    let failed = |e: &std::io::Error| Failure::io(&format!("spool folder {}", folder.display()), e);
    let mut tails = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let Some(index) = entry.file_name().to_str().and_then(spool::parse_tail_file) else {
            continue;
        };
        if tails.len() == TAILS_MAX {
            return Err(Failure::new(
                Exit::Failed,
                format!("spool folder {}: more than {TAILS_MAX} tails", folder.display()),
            ));
        }
        match read_bounded(&entry.path(), TAIL_BYTES_MAX) {
            Ok(bytes) => tails.push((index, bytes)),
            // It has become a chunk of the main file meanwhile.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&e)),
        }
    }
    Ok(tails)
}
