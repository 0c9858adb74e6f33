//! Room kept back on the spool's disk, so that the seals of running sessions
//! still fit when it is full.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::RecorderError;

const RESERVE_FILE: &str = ".reserve";
const MIB: u64 = 1 << 20;

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

    fn allocate(&self) -> std::io::Result<()> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&self.path)?;
        let allocated = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.bytes.max(1));
        if let Err(error) = allocated {
            // Half a reserve is none: give it back.
            file.set_len(0)?;
            return Err(error.into());
        }
        Ok(())
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
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error()) => {
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

    /// The reserve of an earlier run, for recovery to take its room from.
    pub fn left_in(folder: &Path) -> Option<Reserve> {
        let path = folder.join(RESERVE_FILE);
        path.exists().then_some(Reserve { path, bytes: 0 })
    }

    /// Gives the reserve up for a seal that found no room.
    pub fn release(&self) {
        if let Err(error) = File::options().write(true).truncate(true).open(&self.path) {
            tracing::error!(%error, "the spool's reserve could not be given up");
        }
    }
}
