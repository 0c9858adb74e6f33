//! Room kept back on the spool's disk, so that the seals of running sessions
//! still fit when it is full.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::RecorderError;

const RESERVE_FILE: &str = ".reserve";
const MIB: u64 = 1 << 20;
/// Zeros written at a time where the file system cannot preallocate.
const ZEROS_BYTES: usize = 1 << 20;

/// Whether it says that the disk, or the quota, is full.
pub fn is_full(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NOSPC, Errno::DQUOT]
        .iter()
        .any(|full| error.raw_os_error() == Some(full.raw_os_error()))
}

/// A preallocated file that is given up when a seal finds no room.
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// Preallocates the reserve; on a disk too full for it new sessions are
    /// refused until there is room again.
    pub fn hold(folder: &Path, bytes: u64) -> Reserve {
        let reserve = Reserve {
            path: folder.join(RESERVE_FILE),
            bytes,
        };
        if let Err(error) = reserve.allocate() {
            tracing::warn!(%error, "the spool's reserve could not be set aside");
        }
        reserve
    }

    /// The reserve that an earlier run has left in `folder`, to be given up
    /// when its spools need the room.
    pub fn left(folder: &Path) -> Reserve {
        Reserve {
            path: folder.join(RESERVE_FILE),
            bytes: 0,
        }
    }

    /// Does it; once more with the reserve given up if there was no room.
    ///
    /// # Errors
    /// The last try's.
    pub fn with_room<T>(&self, work: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
        match work() {
            Err(error) if is_full(&error) => {
                self.release();
                work()
            }
            done => done,
        }
    }

    fn allocate(&self) -> std::io::Result<()> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        use rustix::io::Errno;
        let allocated = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes.max(1)) {
            Err(Errno::OPNOTSUPP | Errno::INVAL) => self.fill(&file),
            Err(error) => Err(error.into()),
            Ok(()) => Ok(()),
        };
        if let Err(error) = allocated {
            // Half a reserve is none: give it back.
            file.set_len(0)?;
            return Err(error);
        }
        Ok(())
    }

    /// Zeros, synced: blocks that are really there.
    fn fill(&self, mut file: &File) -> std::io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        file.set_len(0)?;
        let mut left = self.bytes.max(1);
        while left > 0 {
            let now = left.min(ZEROS_BYTES as u64);
            file.write_all(
                zeros
                    .get(..usize::try_from(now).unwrap_or(ZEROS_BYTES))
                    .unwrap_or(&zeros),
            )?;
            left -= now;
        }
        file.sync_all()
    }

    fn held(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= self.bytes)
    }

    /// Whether a new session may begin.
    ///
    /// # Errors
    /// [`RecorderError::NoRoom`], or that the folder is gone or read-only.
    pub fn check(&self, folder: &Path) -> Result<(), RecorderError> {
        if self.held() {
            return Ok(());
        }
        match self.allocate() {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => {
                let free = rustix::fs::statvfs(folder).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
                Err(RecorderError::NoRoom {
                    free: free / MIB,
                    floor: self.bytes / MIB,
                })
            }
            Err(error) => Err(RecorderError::Spool {
                what: "cannot be written",
                why: error.to_string(),
            }),
        }
    }

    /// Gives the reserve up for a seal that found no room.
    pub fn release(&self) {
        if let Err(error) = File::options().write(true).truncate(true).open(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(%error, "the spool's reserve could not be given up");
        }
    }
}
