//! Terminal input under one fresh key per line (FORMAT.md section 6): released by the echo, or wiped.

use std::borrow::Cow;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use zeroize::Zeroizing;

use crate::event::Event;
use crate::limits::{HIDDEN_CLASS_MAX, HIDDEN_CLASS_MIN, LINE_BYTES_MAX, LINE_PAD_BYTES, LINE_SEALS_MAX};

const LENGTH_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
const FIRST_CAPACITY_BYTES: usize = 256;
/// Longest ciphertext of one SealedInput or blob of one HiddenInput.
pub(crate) const SEALED_BYTES_MAX: usize = LENGTH_BYTES + LINE_BYTES_MAX + LINE_PAD_BYTES + TAG_BYTES;
/// The nonce counter of the blob of a hidden line: no SealedInput may have it.
const HIDDEN_COUNTER: u32 = u32::MAX;
const AAD: &[u8] = b"portcullis-recording/v1 line\0";

/// Whether a SealedInput can have a ciphertext of this length.
pub(crate) fn is_sealed_len(len: usize) -> bool {
    len > TAG_BYTES && len <= SEALED_BYTES_MAX && (len - TAG_BYTES).is_multiple_of(LINE_PAD_BYTES)
}

/// The length of a hidden line's blob: of its class alone.
pub(crate) fn hidden_len(class: u8) -> usize {
    LENGTH_BYTES + (1usize << class.min(HIDDEN_CLASS_MAX)) + TAG_BYTES
}

/// The line is full: start the next one under the next key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line holds no more than {LINE_BYTES_MAX} bytes in {LINE_SEALS_MAX} pieces")]
pub struct LineFull;

/// One line of terminal input while it is undecided. Its key and bytes live in memory only and are wiped on drop.
///
/// `seal` each piece as it comes; then either [`LineCipher::reveal`] when the target has echoed it, or
/// [`LineCipher::hide`] when it has not. Dropping it hides it as well, without the padded copy.
pub struct LineCipher {
    line: u64,
    key: Zeroizing<[u8; 32]>,
    counter: u32,
    plain: Zeroizing<Vec<u8>>,
}

impl LineCipher {
    /// A line under `key`, which must be fresh and is used for nothing else.
    pub fn new(line: u64, key: [u8; 32]) -> LineCipher {
        LineCipher {
            line,
            key: Zeroizing::new(key),
            counter: 0,
            plain: Zeroizing::new(Vec::new()),
        }
    }

    /// Number of the line.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Its key, for whoever wraps it to a recipient before it is wiped.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Bytes sealed so far.
    pub fn len(&self) -> usize {
        self.plain.len()
    }

    /// Whether nothing was sealed yet.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Seals the next piece of the line.
    pub fn seal(&mut self, bytes: &[u8]) -> Result<Event<'static>, LineFull> {
        if self.plain.len() + bytes.len() > LINE_BYTES_MAX || self.counter >= LINE_SEALS_MAX {
            return Err(LineFull);
        }
        let padded = (LENGTH_BYTES + bytes.len()).next_multiple_of(LINE_PAD_BYTES);
        let ciphertext = encrypt(&self.key, self.line, self.counter, &pad(bytes, padded)).ok_or(LineFull)?;
        let event = Event::SealedInput {
            line: self.line,
            counter: self.counter,
            ciphertext: Cow::Owned(ciphertext),
        };
        self.counter += 1;
        self.keep(bytes);
        Ok(event)
    }

    /// Grows by hand: a plain `Vec` would leave copies behind that nobody wipes.
    fn keep(&mut self, bytes: &[u8]) {
        let needed = self.plain.len() + bytes.len();
        if needed > self.plain.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(needed.next_power_of_two().max(FIRST_CAPACITY_BYTES)));
            larger.extend_from_slice(&self.plain);
            self.plain = larger;
        }
        self.plain.extend_from_slice(bytes);
    }

    /// The echo was seen: the event that releases the key into the recording.
    pub fn reveal(self) -> Event<'static> {
        Event::LineKey {
            line: self.line,
            key: *self.key,
        }
    }

    /// There was no echo: the event that holds the whole line as one blob whose length tells only its class. The key
    /// is wiped with `self`.
    pub fn hide(self) -> Event<'static> {
        let len_class = class_of(self.plain.len());
        let padded = pad(&self.plain, LENGTH_BYTES + (1usize << len_class));
        // Encryption of a bounded buffer cannot fail; an empty blob would be refused by the writer.
        let blob = encrypt(&self.key, self.line, HIDDEN_COUNTER, &padded).unwrap_or_default();
        Event::HiddenInput {
            line: self.line,
            len_class,
            blob: Cow::Owned(blob),
        }
    }

    /// Opens one piece with a released key. `None` if key, line, counter or ciphertext do not belong together.
    pub fn open(key: &[u8; 32], line: u64, counter: u32, ciphertext: &[u8]) -> Option<Vec<u8>> {
        if counter == HIDDEN_COUNTER || !is_sealed_len(ciphertext.len()) {
            return None;
        }
        decrypt(key, line, counter, ciphertext)
    }

    /// Opens a hidden line's blob, for whoever was given its key by another way (break-glass).
    pub fn open_hidden(key: &[u8; 32], line: u64, blob: &[u8]) -> Option<Vec<u8>> {
        decrypt(key, line, HIDDEN_COUNTER, blob)
    }
}

/// The smallest class that holds `len` bytes.
fn class_of(len: usize) -> u8 {
    (HIDDEN_CLASS_MIN..HIDDEN_CLASS_MAX)
        .find(|class| len <= 1usize << class)
        .unwrap_or(HIDDEN_CLASS_MAX)
}

fn pad(bytes: &[u8], padded: usize) -> Zeroizing<Vec<u8>> {
    let mut plain = Zeroizing::new(Vec::with_capacity(padded));
    plain.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    plain.extend_from_slice(bytes);
    plain.resize(padded, 0);
    plain
}

fn nonce(counter: u32) -> Nonce {
    let mut nonce = Nonce::default();
    for (n, c) in nonce.iter_mut().skip(8).zip(counter.to_be_bytes()) {
        *n = c;
    }
    nonce
}

fn aad(line: u64) -> Vec<u8> {
    [AAD, &line.to_be_bytes()].concat()
}

fn encrypt(key: &[u8; 32], line: u64, counter: u32, plain: &[u8]) -> Option<Vec<u8>> {
    let cipher = ChaCha20Poly1305::new(&Key::from(*key));
    cipher
        .encrypt(
            &nonce(counter),
            Payload {
                msg: plain,
                aad: &aad(line),
            },
        )
        .ok()
}

fn decrypt(key: &[u8; 32], line: u64, counter: u32, ciphertext: &[u8]) -> Option<Vec<u8>> {
    let cipher = ChaCha20Poly1305::new(&Key::from(*key));
    let plain = cipher
        .decrypt(
            &nonce(counter),
            Payload {
                msg: ciphertext,
                aad: &aad(line),
            },
        )
        .ok()?;
    let (length, rest) = plain.split_first_chunk::<LENGTH_BYTES>()?;
    let (bytes, padding) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    padding.iter().all(|b| *b == 0).then(|| bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revealed_line_opens_and_nothing_else_does() {
        let mut line = LineCipher::new(9, [3; 32]);
        let Event::SealedInput {
            counter, ciphertext, ..
        } = line.seal(b"l").unwrap()
        else {
            panic!()
        };
        let Event::SealedInput {
            counter: second,
            ciphertext: other,
            ..
        } = line.seal(&[b's'; 31]).unwrap()
        else {
            panic!()
        };
        assert_eq!((counter, ciphertext.len()), (0, 48));
        assert_eq!((second, other.len()), (1, 80));
        let Event::LineKey { key, .. } = line.reveal() else {
            panic!()
        };
        assert_eq!(LineCipher::open(&key, 9, 0, &ciphertext).unwrap(), b"l");
        assert_eq!(LineCipher::open(&key, 9, 1, &other).unwrap(), [b's'; 31]);
        assert_eq!(LineCipher::open(&key, 9, 1, &ciphertext), None);
        assert_eq!(LineCipher::open(&key, 8, 0, &ciphertext), None);
        assert_eq!(LineCipher::open(&[4; 32], 9, 0, &ciphertext), None);
    }

    #[test]
    fn a_hidden_line_shows_its_class_only() {
        let blob_of = |pieces: &[&[u8]]| {
            let mut line = LineCipher::new(1, [5; 32]);
            for p in pieces {
                line.seal(p).unwrap();
            }
            match line.hide() {
                Event::HiddenInput { len_class, blob, .. } => (len_class, blob.into_owned()),
                other => panic!("{other:?}"),
            }
        };
        let (class, short) = blob_of(&[b"a"]);
        let (_, long) = blob_of(&[b"correct ", b"horse b"]);
        assert_eq!((class, short.len(), long.len()), (4, 34, 34));
        assert_eq!(LineCipher::open_hidden(&[5; 32], 1, &long).unwrap(), b"correct horse b");
        assert_eq!(blob_of(&[&[0; 17]]).0, 5);
        assert_eq!(blob_of(&[&[0; LINE_BYTES_MAX]]).0, HIDDEN_CLASS_MAX);
    }

    #[test]
    fn a_line_is_bounded() {
        let mut line = LineCipher::new(1, [5; 32]);
        line.seal(&[0; LINE_BYTES_MAX]).unwrap();
        assert!(line.seal(b"x").is_err());
    }
}
