//! The envelope beside an encrypted recording: an age file with the key to its content (FORMAT.md section 10.1).

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use portcullis_recording::limits::ENVELOPE_BYTES_MAX;
use portcullis_recording::{ContentKey, Head, spool};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::files::{read_bounded, with_extension};
use crate::keyring::Keyring;
use crate::package::{Package, RECORDING};

/// Bytes read of what an envelope holds: one more than a content key has.
const PLAIN_BYTES_MAX: usize = 33;
/// How a stanza of an age header begins.
const STANZA: &str = "-> ";
/// What ends an age header.
const HEADER_END: &str = "---";
/// Stanzas for nobody, with which writers keep readers tolerant, end so.
const GREASE: &str = "-grease";

/// How the content of an encrypted recording is locked, in words that are safe to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Encryption {
    /// How many can open it; unknown if the envelope is missing or is none.
    pub recipients: Option<usize>,
    /// Whether this viewer did.
    pub opened: bool,
    /// Why not, and what to do about it.
    pub locked: Option<String>,
}

impl Encryption {
    /// In a few words.
    pub fn words(&self) -> String {
        let whom = match self.recipients {
            None => "encrypted".to_owned(),
            Some(1) => "encrypted to 1 recipient".to_owned(),
            Some(n) => format!("encrypted to {n} recipients"),
        };
        match self.opened {
            true => format!("{whom}, opened"),
            false => format!("{whom}, locked"),
        }
    }
}

/// The envelope's name: `FILE.age`; in a spool folder that of its main file.
pub fn beside(file: &Path) -> PathBuf {
    if file.is_dir() {
        file.join(spool::ENVELOPE_FILE)
    } else {
        with_extension(file, spool::ENVELOPE_EXTENSION)
    }
}

/// Looks for the envelope of a recording and opens it if one of the identities can; `None` for a clear recording.
pub fn open(
    file: &Path,
    package: Option<&Package>,
    head: &Head,
    keyring: &Keyring,
) -> Option<(Encryption, Option<ContentKey>)> {
    if !head.is_encrypted() {
        return None;
    }
    let path = beside(file);
    let shown = path.display();
    let held = match package {
        None => read_bounded(&path, ENVELOPE_BYTES_MAX),
        Some(package) => package
            .read(
                &format!("{RECORDING}.{}", spool::ENVELOPE_EXTENSION),
                ENVELOPE_BYTES_MAX,
            )
            .and_then(|held| held.ok_or(ErrorKind::NotFound.into())),
    };
    let locked = |recipients, why: String| {
        let encryption = Encryption {
            recipients,
            opened: false,
            locked: Some(crate::plain::line(&why)),
        };
        Some((encryption, None))
    };
    let envelope = match held {
        Ok(envelope) => envelope,
        Err(e) if e.kind() == ErrorKind::NotFound => {
            return locked(
                None,
                format!("{shown} is missing: put it beside the recording; without it nobody can read the content"),
            );
        }
        Err(e) => return locked(None, format!("{shown} cannot be read: {e}")),
    };
    // Nothing of a stranger's file is looked at.
    if !head.names_envelope(&envelope) {
        return locked(
            None,
            format!("{shown} is not the envelope this recording was signed with: get the one of this recording"),
        );
    }
    let recipients = recipients(&envelope);
    if keyring.is_empty() {
        return locked(
            recipients,
            "give --identity FILE of a recipient, or --share FILE for each of enough shares".to_owned(),
        );
    }
    match content_key(&envelope, keyring) {
        Ok(Some(key)) => {
            let encryption = Encryption {
                recipients,
                opened: true,
                locked: None,
            };
            Some((encryption, Some(key)))
        }
        Ok(None) => locked(recipients, format!("{shown} holds no content key")),
        Err(DecryptError::NoMatchingKeys) => locked(
            recipients,
            "it is encrypted to others than the identities given: give that of a recipient".to_owned(),
        ),
        Err(e) => locked(recipients, format!("{shown} does not open: {e}")),
    }
}

/// What the envelope holds; `None` if that is no content key.
pub(crate) fn content_key(envelope: &[u8], keyring: &Keyring) -> Result<Option<ContentKey>, DecryptError> {
    let reader = Decryptor::new(ArmoredReader::new(envelope))?.decrypt(keyring.identities())?;
    // As large as it may get: growing would leave copies behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(PLAIN_BYTES_MAX));
    reader.take(PLAIN_BYTES_MAX as u64).read_to_end(&mut plain)?;
    Ok(ContentKey::from_envelope(&plain))
}

/// How many recipients its header has stanzas for (age-encryption.org/v1).
pub(crate) fn recipients(envelope: &[u8]) -> Option<usize> {
    let mut bytes = Vec::new();
    ArmoredReader::new(envelope)
        .take(ENVELOPE_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    let mut count = 0;
    for line in bytes.split(|b| *b == b'\n').map(String::from_utf8_lossy) {
        if line.starts_with(HEADER_END) {
            return Some(count);
        }
        let tag = line.strip_prefix(STANZA).and_then(|rest| rest.split(' ').next());
        count += usize::from(tag.is_some_and(|tag| !tag.ends_with(GREASE)));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_counted_without_opening() {
        let header = |stanzas: &str| format!("age-encryption.org/v1\n{stanzas}--- mac\n\0-> not this\n");
        let two = "-> X25519 abc\nbody\n-> X25519 def\nbody\n";
        assert_eq!(recipients(header(two).as_bytes()), Some(2));
        assert_eq!(
            recipients(header(&format!("{two}-> %x-grease 1\nbody\n")).as_bytes()),
            Some(2)
        );
        assert_eq!(recipients(b"age-encryption.org/v1\n-> X25519 abc\n"), None);
        assert_eq!(recipients(b""), None);
    }
}
