//! Contents of files out of the vault beside recordings (FORMAT.md section 12): by their SHA-256, which is compared before
//! a byte of them is written. A vault is hostile input.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use portcullis_recording::limits::ENVELOPE_BYTES_MAX;
use portcullis_recording::vault::{FRAME_HEAD_BYTES, Frames, MAGIC, PART_EXTENSION, blob_name, frame_head, part_name};
use sha2::{Digest, Sha256};

use crate::envelope::content_key;
use crate::failure::{Exit, Failure};
use crate::keyring::Keyring;

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 18;
/// Blobs of one content that are looked at: one for each set of recipients.
const SEALED_MAX: usize = 1024;

/// What was taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// How long it is.
    pub bytes: u64,
    /// Whether it is the beginning of a content only, up to where a crash came.
    pub is_part: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Clear,
    Sealed,
    /// Sealed, without an end; the hash is that of the sealed bytes.
    Part,
}

/// Writes the content with this SHA-256 into a new file.
///
/// # Errors
/// When it is not there, cannot be opened or is another content, and when the file is there or cannot be written. Nothing
/// is left of it then.
pub fn take_out(vault: &Path, sha256: &[u8; 32], keyring: &Keyring, to: &Path) -> Result<Taken, Failure> {
    let mut refused = None;
    for (path, kind) in places(vault, sha256)? {
        // All of it once without writing: what is not that content is never written.
        match copy(&path, kind, sha256, keyring, &mut io::sink()) {
            Ok(_) => return write(&path, kind, sha256, keyring, to),
            Err(why) => refused = Some(why),
        }
    }
    let empty: [u8; 32] = Sha256::digest(b"").into();
    match refused {
        Some(why) => Err(why),
        None if *sha256 == empty => {
            new_file(to)?;
            Ok(Taken {
                bytes: 0,
                is_part: false,
            })
        }
        None => Err(Failure::new(
            Exit::NotFound,
            format!("{}: no content with this SHA-256", vault.display()),
        )
        .hint("the vault is the folder `vault` of the archive; it has what rules with @record(\"vault\") were about")),
    }
}

/// Where it may be.
fn places(vault: &Path, sha256: &[u8; 32]) -> Result<Vec<(PathBuf, Kind)>, Failure> {
    let clear = vault.join(blob_name(sha256, None));
    let part = vault.join(part_name(sha256));
    let mut places = vec![(clear.clone(), Kind::Clear), (part, Kind::Part)];
    places.retain(|(path, _)| path.is_file());
    let (Some(folder), Some(name)) = (clear.parent(), clear.file_name().and_then(|name| name.to_str())) else {
        return Ok(places);
    };
    let failed = |e: &io::Error| Failure::io(&folder.display().to_string(), e);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound && vault.is_dir() => return Ok(places),
        Err(e) => return Err(failed(&e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| failed(&e))?.path();
        let recipients = path
            .file_name()
            .and_then(|file| file.to_str()?.strip_prefix(name)?.strip_prefix('.'));
        if recipients.is_some_and(|said| said != PART_EXTENSION) && path.is_file() && places.len() < SEALED_MAX {
            places.push((path, Kind::Sealed));
        }
    }
    Ok(places)
}

fn new_file(to: &Path) -> Result<File, Failure> {
    let made = File::options().write(true).create_new(true).mode(0o600).open(to);
    made.map_err(|e| Failure::io(&to.display().to_string(), &e).hint("name a file that is not there yet"))
}

fn write(path: &Path, kind: Kind, sha256: &[u8; 32], keyring: &Keyring, to: &Path) -> Result<Taken, Failure> {
    let mut file = new_file(to)?;
    let done = copy(path, kind, sha256, keyring, &mut file).and_then(|bytes| {
        file.sync_all()
            .map_err(|e| Failure::io(&to.display().to_string(), &e))?;
        Ok(bytes)
    });
    let bytes = done.inspect_err(|_| {
        fs::remove_file(to).ok();
    })?;
    Ok(Taken {
        bytes,
        is_part: kind == Kind::Part,
    })
}

/// Copies it, and compares; how long it is.
fn copy(path: &Path, kind: Kind, sha256: &[u8; 32], keyring: &Keyring, to: &mut dyn Write) -> Result<u64, Failure> {
    let shown = path.display().to_string();
    let file = File::open(path).map_err(|e| Failure::io(&shown, &e))?;
    let mut from = Hashed {
        from: BufReader::with_capacity(READ_BYTES, file),
        hash: Sha256::new(),
    };
    let mut counted = Counted {
        to,
        hash: Sha256::new(),
        bytes: 0,
    };
    match kind {
        Kind::Clear => io::copy(&mut from, &mut counted).map(|_| true),
        Kind::Sealed | Kind::Part => unseal(&mut from, keyring, &shown, &mut counted)?,
    }
    .map_err(|e| Failure::io(&shown, &e))
    .and_then(|ended| {
        let is: [u8; 32] = match kind {
            Kind::Clear | Kind::Sealed => counted.hash.finalize().into(),
            Kind::Part => from.hash.finalize().into(),
        };
        match is == *sha256 && (ended || kind == Kind::Part) {
            true => Ok(counted.bytes),
            false => Err(Failure::new(
                Exit::Invalid,
                format!("{shown}: what is there is not the content that its name says"),
            )
            .hint("nothing was written; the archive was damaged or tampered with: look for a copy of it")),
        }
    })
}

/// Opens frame after frame; whether the last one was there, and nothing behind it.
fn unseal(
    from: &mut impl Read,
    keyring: &Keyring,
    shown: &str,
    to: &mut impl Write,
) -> Result<io::Result<bool>, Failure> {
    let broken = || Failure::new(Exit::Invalid, format!("{shown}: it is no sealed content"));
    let failed = |e: io::Error| Failure::io(shown, &e);
    let mut start = [0; MAGIC.len() + 4];
    from.read_exact(&mut start).map_err(|_| broken())?;
    let (magic, length) = start.split_at(MAGIC.len());
    let length = length.try_into().map_or(u32::MAX, u32::from_be_bytes);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if magic != MAGIC || length > ENVELOPE_BYTES_MAX {
        return Err(broken());
    }
    let mut envelope = vec![0; length];
    from.read_exact(&mut envelope).map_err(|_| broken())?;
    let locked = |why: String| {
        Failure::new(Exit::Unproved, format!("{shown}: it does not open: {why}"))
            .hint("give --identity FILE of a recipient, or --share FILE for each of enough shares")
    };
    let key = match content_key(&envelope, keyring) {
        Ok(Some(key)) => key,
        Ok(None) => return Err(broken()),
        Err(e) => return Err(locked(e.to_string())),
    };
    let mut frames = Frames::new(&key);
    let mut sealed = Vec::new();
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        if fill(from, &mut head).map_err(failed)? < head.len() {
            return Ok(Ok(false));
        }
        let (last, length) = frame_head(&head).ok_or_else(broken)?;
        sealed.resize(length, 0);
        if fill(from, &mut sealed).map_err(failed)? < length {
            return Ok(Ok(false));
        }
        let content = frames.open(&head, &sealed).ok_or_else(broken)?;
        if let Err(e) = to.write_all(&content) {
            return Ok(Err(e));
        }
        if last {
            return Ok(fill(from, &mut [0]).map(|more| more == 0));
        }
    }
}

/// Reads until it is full or there is no more.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

/// Hashes what is read.
struct Hashed<R> {
    from: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// Hashes and counts what is written.
struct Counted<'w> {
    to: &'w mut dyn Write,
    hash: Sha256,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
