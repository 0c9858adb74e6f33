//! Room kept back on the spool's disk: one part so that the seals of running
//! sessions still fit when it is full, one part for break-glass sessions alone.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::RecorderError;

const SEALS_FILE: &str = ".reserve";
const BREAK_GLASS_FILE: &str = ".reserve-break-glass";
const MIB: u64 = 1 << 20;
/// Most that is kept for break-glass sessions, in bytes (256 MiB).
pub const BREAK_GLASS_BYTES_MAX: u64 = 256 * MIB;
/// A break-glass session that finds less than this, in bytes, gets its part at
/// once: its journal, its leaf and its head come before its first write.
const OPENING_BYTES_MIN: u64 = 4 * MIB;
/// A break-glass session in its part takes nothing more when less than this is
/// free, in bytes: its accounts still have to be written.
const SPENT_BYTES: u64 = MIB;
/// Zeros written at a time where the file system cannot preallocate.
const ZEROS_BYTES: usize = 1 << 20;

/// How much is kept for whom, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    pub seals: u64,
    /// 0: there are no break-glass sessions here.
    pub break_glass: u64,
}

impl Kept {
    /// Of `bytes` in all. Break-glass sessions get half, and no more than
    /// `BREAK_GLASS_BYTES_MAX`.
    pub fn of(bytes: u64, break_glass: bool) -> Kept {
        let theirs = match break_glass {
            true => (bytes / 2).min(BREAK_GLASS_BYTES_MAX),
            false => 0,
        };
        Kept {
            seals: bytes.saturating_sub(theirs),
            break_glass: theirs,
        }
    }
}

/// Whether it says that the disk, or the quota, is full.
pub fn is_full(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::NOSPC, Errno::DQUOT]
        .iter()
        .any(|full| error.raw_os_error() == Some(full.raw_os_error()))
}

/// A preallocated file.
struct Part {
    path: PathBuf,
    bytes: u64,
    given_up: AtomicBool,
}

impl Part {
    fn new(path: PathBuf, bytes: u64) -> Part {
        Part {
            path,
            bytes,
            given_up: AtomicBool::new(false),
        }
    }

    fn held(&self) -> bool {
        self.bytes == 0 || std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= self.bytes)
    }

    /// Takes it back, if it is not held; all of it or nothing.
    fn hold(&self) -> std::io::Result<()> {
        if !self.held() {
            self.allocate()?;
        }
        self.given_up.store(false, Ordering::SeqCst);
        Ok(())
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

    /// An earlier run may have kept more, or for somebody whom there is no more.
    fn shrink(&self) -> std::io::Result<()> {
        match std::fs::metadata(&self.path) {
            Ok(_) if self.bytes == 0 => std::fs::remove_file(&self.path),
            Ok(meta) if meta.len() > self.bytes => File::options().write(true).open(&self.path)?.set_len(self.bytes),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
        if let Err(error) = File::options().write(true).truncate(true).open(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::error!(%error, "the spool's reserve could not be given up");
        }
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }
}

/// Both parts.
pub struct Reserve {
    folder: PathBuf,
    seals: Part,
    break_glass: Part,
    /// Break-glass sessions that are in.
    inside: AtomicUsize,
}

impl Reserve {
    fn at(folder: &Path, kept: Kept) -> Reserve {
        Reserve {
            folder: folder.to_owned(),
            seals: Part::new(folder.join(SEALS_FILE), kept.seals),
            break_glass: Part::new(folder.join(BREAK_GLASS_FILE), kept.break_glass),
            inside: AtomicUsize::new(0),
        }
    }

    /// Preallocates the reserve; on a disk too full for it new sessions are
    /// refused until there is room again.
    pub fn hold(folder: &Path, kept: Kept) -> Reserve {
        let reserve = Reserve::at(folder, kept);
        for part in [&reserve.seals, &reserve.break_glass] {
            let set_aside = match part.bytes {
                0 => part.shrink(),
                _ => part.shrink().and_then(|()| part.allocate()),
            };
            if let Err(error) = set_aside {
                tracing::warn!(%error, path = %part.path.display(), "the spool's reserve could not be set aside");
            }
        }
        reserve
    }

    /// The reserve that an earlier run has left in `folder`, to be given up
    /// when its spools need the room.
    pub fn left(folder: &Path) -> Reserve {
        Reserve::at(
            folder,
            Kept {
                seals: 0,
                break_glass: 0,
            },
        )
    }

    /// Does it; once more with the seals' part given up if there was no room.
    ///
    /// # Errors
    /// The last try's.
    pub fn with_room<T>(&self, work: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
        Room {
            reserve: self,
            ways: &[Way::Seals],
        }
        .make(work)
    }

    /// Whether a new ordinary session may begin: both parts are held.
    ///
    /// # Errors
    /// [`RecorderError::NoRoom`], or that the folder is gone or read-only.
    pub fn check(&self) -> Result<(), RecorderError> {
        // Taking a part back would take the room that such a session lives in.
        if self.break_glass.is_given_up() && self.inside.load(Ordering::SeqCst) > 0 {
            return Err(self.no_room());
        }
        for part in [&self.seals, &self.break_glass] {
            part.hold().map_err(|error| match is_full(&error) {
                true => self.no_room(),
                false => RecorderError::Spool {
                    what: "cannot be written",
                    why: error.to_string(),
                },
            })?;
        }
        Ok(())
    }

    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.folder).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize))
    }

    fn no_room(&self) -> RecorderError {
        RecorderError::NoRoom {
            free: self.free() / MIB,
            floor: self.seals.bytes.saturating_add(self.break_glass.bytes) / MIB,
        }
    }

    /// Before a break-glass session: gives its part up if it could not even begin.
    pub fn make_way(&self) {
        // Not out of the part that is for this session.
        if self.seals.is_given_up()
            && let Err(error) = self.seals.hold()
        {
            tracing::error!(%error, "no room is kept for seals; what a seal finds none for waits in the spool for the next start");
            self.seals.given_up.store(false, Ordering::SeqCst);
        }
        if self.free() < OPENING_BYTES_MIN {
            self.break_in();
        }
    }

    fn break_in(&self) {
        if self.break_glass.bytes > 0 && !self.break_glass.is_given_up() {
            tracing::error!(
                "the disk is full: what was kept for break-glass sessions is theirs now, and nobody else's"
            );
            self.break_glass.give_up();
        }
    }

    /// Gives the seals' part up for a seal that found no room.
    pub fn release(&self) {
        self.seals.give_up();
    }
}

/// What of the reserve a piece of work may have.
#[derive(Clone, Copy)]
enum Way {
    BreakGlass,
    Seals,
}

/// Room for one piece of work: on a full disk one part after the other is
/// given up for it.
#[derive(Clone, Copy)]
pub struct Room<'a> {
    reserve: &'a Reserve,
    ways: &'static [Way],
}

impl Room<'_> {
    /// Whether nothing is ever given up for it.
    pub fn is_none(&self) -> bool {
        self.ways.is_empty()
    }

    /// Does it; again after each part that was given up, if there was no room.
    ///
    /// # Errors
    /// The last try's.
    pub fn make<T>(&self, work: impl Fn() -> std::io::Result<T>) -> std::io::Result<T> {
        let mut done = work();
        for way in self.ways {
            match &done {
                Err(error) if is_full(error) => {}
                Ok(_) | Err(_) => break,
            }
            match way {
                Way::BreakGlass => self.reserve.break_in(),
                Way::Seals => self.reserve.release(),
            }
            done = work();
        }
        done
    }
}

/// One session's share in the reserve.
pub struct Share {
    reserve: Arc<Reserve>,
    break_glass: bool,
}

impl Share {
    /// Of an ordinary session, or of a break-glass one.
    pub fn new(reserve: Arc<Reserve>, break_glass: bool) -> Arc<Share> {
        if break_glass {
            reserve.inside.fetch_add(1, Ordering::SeqCst);
        }
        Arc::new(Share { reserve, break_glass })
    }

    /// Whether the session may take anything more.
    ///
    /// # Errors
    /// The disk is full: what is left is for others, or for the seal.
    pub fn check(&self) -> Result<(), RecorderError> {
        let over = |why: &str| {
            Err(RecorderError::Full {
                what: "takes nothing more",
                why: why.to_owned(),
            })
        };
        if !self.reserve.break_glass.is_given_up() {
            return Ok(());
        }
        match self.break_glass {
            false => over("the disk is full, and what is left is kept for break-glass sessions"),
            true if self.reserve.seals.is_given_up() || self.reserve.free() < SPENT_BYTES => {
                over("the disk is full and the reserve is spent")
            }
            true => Ok(()),
        }
    }

    /// Room for what the session takes.
    pub fn taking(&self) -> Room<'_> {
        Room {
            reserve: &self.reserve,
            ways: match self.break_glass {
                true => &[Way::BreakGlass],
                false => &[],
            },
        }
    }

    /// Room for what finishes it.
    pub fn sealing(&self) -> Room<'_> {
        Room {
            reserve: &self.reserve,
            ways: match self.break_glass {
                true => &[Way::BreakGlass, Way::Seals],
                false => &[Way::Seals],
            },
        }
    }

    /// The whole reserve, for the node's seal of what failed.
    pub fn reserve(&self) -> &Reserve {
        &self.reserve
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if self.break_glass {
            self.reserve.inside.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_kept_for_break_glass_and_no_more_than_its_bound() {
        let kept = |bytes, glass| {
            let kept = Kept::of(bytes, glass);
            (kept.seals, kept.break_glass)
        };
        assert_eq!(kept(512 * MIB, false), (512 * MIB, 0));
        assert_eq!(kept(512 * MIB, true), (256 * MIB, 256 * MIB));
        assert_eq!(kept(16 * MIB, true), (8 * MIB, 8 * MIB));
        assert_eq!(kept(2048 * MIB, true), (1792 * MIB, 256 * MIB));
    }

    #[test]
    fn what_is_given_up_for_break_glass_is_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let len = |name: &str| std::fs::metadata(folder.path().join(name)).map_or(0, |meta| meta.len());
        let reserve = Arc::new(Reserve::hold(folder.path(), Kept::of(64 * 1024, true)));
        assert_eq!((len(SEALS_FILE), len(BREAK_GLASS_FILE)), (32 * 1024, 32 * 1024));
        let ordinary = Share::new(reserve.clone(), false);
        let glass = Share::new(reserve.clone(), true);
        let full = || -> std::io::Result<()> { Err(rustix::io::Errno::NOSPC.into()) };

        // An ordinary session's data gives nothing up; a break-glass one's its own part only.
        assert!(ordinary.taking().make(full).is_err());
        assert_eq!((len(SEALS_FILE), len(BREAK_GLASS_FILE)), (32 * 1024, 32 * 1024));
        reserve.check().unwrap();
        assert!(glass.taking().make(full).is_err());
        assert_eq!((len(SEALS_FILE), len(BREAK_GLASS_FILE)), (32 * 1024, 0));
        glass.check().unwrap();
        assert!(ordinary.check().is_err(), "it would eat what was kept for the other");
        assert!(reserve.check().is_err(), "nobody new beside it");
        assert_eq!(len(BREAK_GLASS_FILE), 0, "nor is it taken back meanwhile");

        // Its chunks may have the seals' part; then it takes nothing more.
        assert!(glass.sealing().make(full).is_err());
        assert_eq!(len(SEALS_FILE), 0);
        assert!(glass.check().is_err());
        drop(glass);
        reserve.check().unwrap();
        ordinary.check().unwrap();
        assert_eq!((len(SEALS_FILE), len(BREAK_GLASS_FILE)), (32 * 1024, 32 * 1024));

        // Without break-glass its part is not kept at all.
        drop(Reserve::hold(folder.path(), Kept::of(16 * 1024, false)));
        assert_eq!(len(SEALS_FILE), 16 * 1024);
        assert!(!folder.path().join(BREAK_GLASS_FILE).exists());
    }
}
