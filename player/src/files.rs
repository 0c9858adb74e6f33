//! The files a verdict is made of: recording, spool, trust file, sidecar. Small ones are read up to their bound.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use portcullis_recording::limits::{NOTE_BYTES_MAX, TAIL_BYTES_MAX, TAILS_MAX, TRUST_BYTES_MAX};
use portcullis_recording::{Trust, spool};

use crate::failure::{Exit, Failure};
use crate::section::Section;
use crate::source::Bytes;

/// Bytes read from a recording at a time.
const READ_BYTES: usize = 1 << 18;

/// Folders within folders.
const FOLDERS_DEEP_MAX: usize = 64;
/// Files that one search looks at.
const FILES_MAX: usize = 1 << 20;
/// What recordings are called in a folder.
const RECORDING_EXTENSIONS: [&str; 3] = ["pcr", "cast", "ttyrec"];

/// Opens a recording.
pub fn open(path: &Path) -> Result<Bytes, Failure> {
    let file = File::open(path).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    let whole = Section::whole(file).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    Ok(buffered(whole))
}

/// Reads a recording in large steps.
pub fn buffered(section: Section) -> Bytes {
    BufReader::with_capacity(READ_BYTES, section)
}

/// Reads a small file; one over its bound is cut one byte behind it, which whoever parses it refuses.
pub fn read_bounded(path: &Path, bytes_max: usize) -> std::io::Result<Vec<u8>> {
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

/// A name with something added to the whole of it, such as `FILE.proof`.
pub fn with_extension(file: &Path, extension: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

/// The sidecar's name: `FILE.proof`.
pub fn sidecar(file: &Path) -> PathBuf {
    with_extension(file, "proof")
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

/// The recordings among these files and below these folders, in order of their names, and whether each was named itself.
/// A spool folder counts as one.
pub fn find_recordings(named: &[PathBuf]) -> Result<(Vec<PathBuf>, bool), Failure> {
    let mut found = Vec::new();
    let mut all_named = true;
    for path in named {
        let meta = fs::metadata(path).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
        if meta.is_dir() && !path.join(spool::MAIN_FILE).is_file() {
            all_named = false;
            walk(path, FOLDERS_DEEP_MAX, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    Ok((found, all_named))
}

fn walk(folder: &Path, deep: usize, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let shown = folder.display().to_string();
    let failed = |e: std::io::Error| Failure::io(&shown, &e);
    let too_much = |what: String| Failure::new(Exit::Failed, format!("{shown}: {what}")).hint("name a smaller folder");
    let Some(deep) = deep.checked_sub(1) else {
        return Err(too_much(format!("more than {FOLDERS_DEEP_MAX} folders deep")));
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        paths.push((entry.path(), entry.file_type().map_err(failed)?));
        if found.len() + paths.len() > FILES_MAX {
            return Err(too_much(format!("more than {FILES_MAX} files")));
        }
    }
    paths.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in paths {
        // Links to folders are not followed: they may lead back here.
        if kind.is_dir() && path.join(spool::MAIN_FILE).is_file() {
            found.push(path);
        } else if kind.is_dir() {
            walk(&path, deep, found)?;
        } else if path
            .extension()
            .is_some_and(|e| RECORDING_EXTENSIONS.iter().any(|known| e == *known))
        {
            found.push(path);
        }
    }
    Ok(())
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
