//! A part of a file as a file of its own: a whole recording, or one within an evidence package.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

/// Bytes `start .. start + len` of a file. Reads by position: clones share no offset.
#[derive(Debug)]
pub struct Section {
    file: File,
    start: u64,
    len: u64,
    at: u64,
}

impl Section {
    /// The whole of a file, as long as it is now.
    pub fn whole(file: File) -> io::Result<Section> {
        let len = file.metadata()?.len();
        Ok(Section::of(file, 0, len))
    }

    /// A part of it.
    pub fn of(file: File, start: u64, len: u64) -> Section {
        Section {
            file,
            start,
            len,
            at: 0,
        }
    }

    /// The same once more, at its beginning.
    pub fn try_clone(&self) -> io::Result<Section> {
        Ok(Section::of(self.file.try_clone()?, self.start, self.len))
    }
}

impl Read for Section {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = to.len().min(left);
        let Some(to) = to.get_mut(..wanted) else { return Ok(0) };
        let read = self.file.read_at(to, self.start.saturating_add(self.at))?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
