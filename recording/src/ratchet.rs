//! Keys of encrypted content (FORMAT.md section 10): one key opens all of it, and a ratchet that only goes forward gives
//! each chunk and tail its own.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// Bytes that encryption adds (RFC 8439 section 2.8).
pub(crate) const TAG_BYTES: usize = 16;
const NEXT: &[u8] = b"portcullis-recording/v2 next";
const CHUNK: &[u8] = b"portcullis-recording/v2 chunk";
const TAIL: &[u8] = b"portcullis-recording/v2 tail";

/// What the age envelope of an encrypted recording holds: `c_0`, from which every chunk's key follows. Wiped when
/// dropped.
#[derive(Clone)]
pub struct ContentKey(Zeroizing<[u8; KEY_BYTES]>);

impl ContentKey {
    /// A key; to write with it, it must be fresh from a cryptographic random generator and used for one recording only.
    pub fn new(bytes: [u8; KEY_BYTES]) -> ContentKey {
        ContentKey(Zeroizing::new(bytes))
    }

    /// The plaintext of an envelope; `None` if it is not a content key.
    pub fn from_envelope(plaintext: &[u8]) -> Option<ContentKey> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if plaintext.len() != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(plaintext);
        Some(ContentKey(key))
    }

    pub(crate) fn expand(&self, info: &[u8]) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut out = Zeroizing::new([0; KEY_BYTES]);
        // Neither can fail: the key is as long as the hash, and so is what is asked for.
        let expanded = Hkdf::<Sha256>::from_prk(self.0.as_slice()).map(|hkdf| hkdf.expand(info, out.as_mut_slice()));
        debug_assert!(matches!(expanded, Ok(Ok(()))), "HKDF of one block");
        out
    }
}

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ContentKey")
    }
}

/// The keys of one chunk and of its tail, wiped when dropped.
pub(crate) struct ChunkKeys {
    chunk: Zeroizing<[u8; KEY_BYTES]>,
    tail: Zeroizing<[u8; KEY_BYTES]>,
    /// `H0 || u64 be i`.
    place: Vec<u8>,
}

impl ChunkKeys {
    /// What stands for a chunk's zstd frame in the file. `None` only if it is over every bound.
    pub(crate) fn seal_chunk(&self, zstd_frame: &[u8]) -> Option<Vec<u8>> {
        cipher(&self.chunk)
            .encrypt(&Nonce::default(), self.payload(zstd_frame))
            .ok()
    }

    /// The zstd frame; `None` under another key.
    pub(crate) fn open_chunk(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        cipher(&self.chunk)
            .decrypt(&Nonce::default(), self.payload(sealed))
            .ok()
    }

    /// Row `number` of the tail.
    pub(crate) fn seal_row(&self, number: u64, row: &[u8]) -> Option<Vec<u8>> {
        cipher(&self.tail).encrypt(&nonce(number), self.payload(row)).ok()
    }

    /// The row; `None` under another key or in another place.
    pub(crate) fn open_row(&self, number: u64, sealed: &[u8]) -> Option<Vec<u8>> {
        cipher(&self.tail).decrypt(&nonce(number), self.payload(sealed)).ok()
    }

    fn payload<'p>(&'p self, msg: &'p [u8]) -> Payload<'p, 'p> {
        Payload { msg, aad: &self.place }
    }
}

fn cipher(key: &[u8; KEY_BYTES]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(&Key::from(*key))
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = Nonce::default();
    for (n, b) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
        *n = b;
    }
    nonce
}

/// Walks from `c_0` to the keys of each chunk in order; what lies behind is wiped.
pub(crate) struct Ratchet {
    h0: [u8; 32],
    index: u64,
    /// `c_index`.
    key: ContentKey,
}

impl Ratchet {
    pub(crate) fn new(key: ContentKey, h0: [u8; 32]) -> Ratchet {
        Ratchet { h0, index: 0, key }
    }

    /// Index of the chunk whose keys come next.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// The keys of that chunk, and on to the next.
    pub(crate) fn turn(&mut self) -> ChunkKeys {
        let keys = ChunkKeys {
            chunk: self.key.expand(CHUNK),
            tail: self.key.expand(TAIL),
            place: [self.h0.as_slice(), &self.index.to_be_bytes()].concat(),
        };
        self.skip();
        keys
    }

    /// On to the next without the keys of this one.
    pub(crate) fn skip(&mut self) {
        self.key = ContentKey(self.key.expand(NEXT));
        self.index += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_chunk_has_its_own_keys_and_place() {
        let mut ratchet = Ratchet::new(ContentKey::new([1; 32]), [2; 32]);
        let (zero, one) = (ratchet.turn(), ratchet.turn());
        assert_eq!(ratchet.index(), 2);
        let sealed = zero.seal_chunk(b"frame").unwrap();
        assert_eq!(sealed.len(), 5 + TAG_BYTES);
        assert_eq!(zero.open_chunk(&sealed).unwrap(), b"frame");
        assert_eq!(one.open_chunk(&sealed), None);
        let row = zero.seal_row(7, b"row").unwrap();
        assert_eq!(zero.open_row(7, &row).unwrap(), b"row");
        assert_eq!((zero.open_row(8, &row), one.open_row(7, &row)), (None, None));
        assert_eq!(zero.open_chunk(&row), None);
        let mut elsewhere = Ratchet::new(ContentKey::new([1; 32]), [3; 32]);
        assert_eq!(elsewhere.turn().open_chunk(&sealed), None);
        // What is skipped is not needed for what follows.
        let mut again = Ratchet::new(ContentKey::new([1; 32]), [2; 32]);
        again.skip();
        assert_eq!(again.turn().seal_chunk(b"frame"), one.seal_chunk(b"frame"));
    }

    #[test]
    fn only_32_bytes_are_a_content_key() {
        assert!(ContentKey::from_envelope(&[1; 32]).is_some());
        assert!(ContentKey::from_envelope(&[1; 31]).is_none() && ContentKey::from_envelope(&[1; 33]).is_none());
    }
}
