//! Where a lane goes on when memory is full: an unlinked file, encrypted under
//! a key that is held only in memory.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce};

use super::lane::LaneError;

/// One lane's file.
pub struct Overflow {
    file: File,
    cipher: ChaCha20Poly1305,
    end: u64,
    next_nonce: u64,
    slots: usize,
}

/// Where bytes lie in it.
pub struct Kept {
    offset: u64,
    length: usize,
    nonce: u64,
}

impl Overflow {
    /// An empty file in `folder`, without a name.
    ///
    /// # Errors
    /// When the folder's file system cannot make one.
    pub fn create(folder: &Path) -> io::Result<Overflow> {
        use rustix::fs::{Mode, OFlags};
        let file = rustix::fs::open(
            folder,
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )?;
        let mut key = [0u8; 32];
        crate::entropy::fill(&mut key);
        Ok(Overflow {
            file: File::from(file),
            cipher: ChaCha20Poly1305::new(&Key::from(key)),
            end: 0,
            next_nonce: 0,
            slots: 0,
        })
    }

    fn nonce(number: u64) -> Nonce {
        let mut nonce = [0u8; 12];
        nonce[4..].copy_from_slice(&number.to_be_bytes());
        Nonce::from(nonce)
    }

    /// Whether everything was read back.
    pub fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// Writes bytes behind the others.
    ///
    /// # Errors
    /// When the disk takes no more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<Kept, LaneError> {
        let mut sealed = bytes.to_vec();
        let nonce = self.next_nonce;
        self.cipher
            .encrypt_in_place(&Self::nonce(nonce), b"", &mut sealed)
            .map_err(|_| LaneError::Tampered)?;
        self.file.write_all_at(&sealed, self.end)?;
        let kept = Kept {
            offset: self.end,
            length: sealed.len(),
            nonce,
        };
        self.end += sealed.len() as u64;
        self.next_nonce += 1;
        self.slots += 1;
        Ok(kept)
    }

    /// Reads back what was written, once.
    ///
    /// # Errors
    /// When the disk fails, or holds something else.
    pub fn read(&mut self, kept: &Kept) -> Result<Bytes, LaneError> {
        let mut sealed = vec![0u8; kept.length];
        self.file.read_exact_at(&mut sealed, kept.offset)?;
        self.cipher
            .decrypt_in_place(&Self::nonce(kept.nonce), b"", &mut sealed)
            .map_err(|_| LaneError::Tampered)?;
        self.slots = self.slots.saturating_sub(1);
        // What was read back gives its space back: the file's size is what
        // waits, not what went through. A file system without holes keeps it.
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(&self.file, flags, kept.offset, kept.length as u64).ok();
        Ok(Bytes::from(sealed))
    }
}
