//! The content vault beside recordings (FORMAT.md section 12): names of blobs, and how one is sealed.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Key, KeyInit, Nonce};

use crate::limits::ENVELOPE_BYTES_MAX;
use crate::ratchet::ContentKey;

/// Folder of the vault within an archive.
pub const FOLDER: &str = "vault";
/// What is added to the name of sealed bytes that are not all of a run.
pub const PART_EXTENSION: &str = "part";
/// How the file of a run that has not ended begins, in a spool folder: a number follows.
pub const OPEN_PREFIX: &str = "blob-";
/// What follows that number if it is sealed.
pub const SEALED_SUFFIX: &str = ".sealed";
/// How the file of one that has ended begins: its name in the vault follows, without the folder, and of a sealed one `-`
/// and the SHA-256 of its bytes.
pub const KEPT_PREFIX: &str = "kept-";
/// What a sealed blob begins with.
pub const MAGIC: [u8; 8] = *b"PCVAULT1";
/// Bytes of content in one frame, at most.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// What stands before a frame: whether it is the last, and its length.
pub const FRAME_HEAD_BYTES: usize = 5;
/// What a frame is longer than its content.
const TAG_BYTES: usize = 16;
const KEY_INFO: &[u8] = b"portcullis-vault/v1 blob";

/// Name of the blob with this content in the vault: `aa/SHA256`, with `.RECIPIENTS` behind it if it is sealed.
/// `recipients` tells those who can open it from others.
pub fn blob_name(sha256: &[u8; 32], recipients: Option<&[u8; 8]>) -> String {
    let name = hex(sha256);
    let folder = name.get(..2).unwrap_or_default();
    match recipients {
        None => format!("{folder}/{name}"),
        Some(recipients) => format!("{folder}/{name}.{}", hex(recipients)),
    }
}

/// Name of sealed bytes with this SHA-256 that are a run's beginning only.
pub fn part_name(sha256: &[u8; 32]) -> String {
    format!("{}.{PART_EXTENSION}", blob_name(sha256, None))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a sealed blob begins; `None` if the envelope is longer than any.
pub fn opening(envelope: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(envelope.len()).ok()?;
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return None;
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(envelope);
    Some(out)
}

/// Seals or opens the frames of one blob, in order.
pub struct Frames {
    cipher: ChaCha20Poly1305,
    number: u64,
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Frames")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Frames {
    /// Under a key that is used for this blob alone.
    pub fn new(key: &ContentKey) -> Frames {
        let key = key.expand(KEY_INFO);
        Frames {
            cipher: ChaCha20Poly1305::new(&Key::from(*key)),
            number: 0,
        }
    }

    /// Appends the next frames to `out`; after the last one nothing may follow. `None` if it cannot be sealed.
    pub fn seal(&mut self, content: &[u8], last: bool, out: &mut Vec<u8>) -> Option<()> {
        for part in content.chunks(FRAME_BYTES_MAX) {
            self.frame(part, false, out)?;
        }
        if last {
            self.frame(b"", true, out)?;
        }
        Some(())
    }

    fn frame(&mut self, content: &[u8], last: bool, out: &mut Vec<u8>) -> Option<()> {
        let length = u32::try_from(content.len().checked_add(TAG_BYTES)?).ok()?;
        let mut head = [u8::from(last); FRAME_HEAD_BYTES];
        head.get_mut(1..)?.copy_from_slice(&length.to_be_bytes());
        let payload = Payload {
            msg: content,
            aad: &head,
        };
        let nonce = self.nonce()?;
        let sealed = self.cipher.encrypt(&nonce, payload).ok()?;
        out.extend_from_slice(&head);
        out.extend_from_slice(&sealed);
        Some(())
    }

    /// The content of the next frame; `None` if it is not this blob's next.
    pub fn open(&mut self, head: &[u8; FRAME_HEAD_BYTES], sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce()?;
        let payload = Payload { msg: sealed, aad: head };
        self.cipher.decrypt(&nonce, payload).ok()
    }

    fn nonce(&mut self) -> Option<Nonce> {
        let mut nonce = Nonce::default();
        nonce.get_mut(4..)?.copy_from_slice(&self.number.to_be_bytes());
        self.number = self.number.checked_add(1)?;
        Some(nonce)
    }
}

/// Whether the frame is the last, and how many bytes of it follow its head; `None` if it is none.
pub fn frame_head(head: &[u8; FRAME_HEAD_BYTES]) -> Option<(bool, usize)> {
    let (last, length) = head.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    let content = length.checked_sub(TAG_BYTES)?;
    match (last, content) {
        (0, 1..=FRAME_BYTES_MAX) => Some((false, length)),
        (1, 0) => Some((true, length)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames::new(&ContentKey::new([7; 32]))
    }

    fn split(mut bytes: &[u8]) -> Vec<([u8; FRAME_HEAD_BYTES], Vec<u8>)> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(FRAME_HEAD_BYTES);
            let head: [u8; FRAME_HEAD_BYTES] = head.try_into().unwrap();
            let (_, length) = frame_head(&head).unwrap();
            all.push((head, rest[..length].to_vec()));
            bytes = &rest[length..];
        }
        all
    }

    #[test]
    fn what_is_sealed_opens_in_its_order_and_in_no_other() {
        let (mut out, mut sealing) = (Vec::new(), frames());
        let long = vec![3; FRAME_BYTES_MAX + 1];
        sealing.seal(b"one", false, &mut out).unwrap();
        sealing.seal(&long, true, &mut out).unwrap();
        let sealed = split(&out);
        assert_eq!(sealed.len(), 4);
        let (mut opening, mut content) = (frames(), Vec::new());
        for (head, sealed) in &sealed {
            content.extend(opening.open(head, sealed).unwrap());
        }
        assert_eq!(content, [b"one".as_slice(), &long].concat());
        assert_eq!(frames().open(&sealed[1].0, &sealed[1].1), None, "another place");
        let mut last = sealed[0].0;
        last[0] = 1;
        assert_eq!(frames().open(&last, &sealed[0].1), None, "it was not the last");
        let mut other = Frames::new(&ContentKey::new([8; 32]));
        assert_eq!(other.open(&sealed[0].0, &sealed[0].1), None, "another key");
    }

    #[test]
    fn heads_have_one_form() {
        for bad in [
            [0, 0, 0, 0, 16],
            [1, 0, 0, 0, 17],
            [2, 0, 0, 0, 17],
            [0, 0, 0, 0, 15],
            [0, 0, 0x10, 0, 17],
        ] {
            assert_eq!(frame_head(&bad), None, "{bad:?}");
        }
        assert_eq!(frame_head(&[0, 0, 0x10, 0, 16]), Some((false, FRAME_BYTES_MAX + 16)));
        assert_eq!(
            blob_name(&[0xab; 32], Some(&[1; 8])),
            format!("ab/{}.{}", "ab".repeat(32), "01".repeat(8))
        );
    }
}
