//! What a client does to files beside their own reads and writes, so that no
//! hash is told of what may have become another.

use super::packet::Attributes;
use super::sftp::Sftp;
use super::waiting::{Waiting, may_be_one, plain};
use super::{Deed, Outcome, Unknown, What};

/// How often a channel asked for what may change a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// For anything that may change the contents or the length of some file.
    pub contents: u64,
    /// For another length by a path, or for what nobody knows.
    pub resizes: u64,
    /// For something by a handle that no answer has given: servers number
    /// theirs so that they can be guessed.
    pub guesses: u64,
}

impl Changes {
    pub fn contents(&mut self) {
        self.contents = self.contents.saturating_add(1);
    }

    pub fn resize(&mut self) {
        self.contents();
        self.resizes = self.resizes.saturating_add(1);
    }

    pub fn guess(&mut self) {
        self.contents();
        self.guesses = self.guesses.saturating_add(1);
    }
}

impl Sftp {
    /// A request by a handle that no answer has given: it may be that of a file
    /// whose opening is not answered.
    pub(super) fn stranger(&mut self, deed: Option<Deed>) -> Waiting {
        self.changes.guess();
        Waiting::Stranger { deed }
    }

    /// Attributes are set by a handle. scp ends an upload by its length alone.
    pub(super) fn set_by_handle(&mut self, at_ms: u64, handle: &[u8], attributes: Attributes) -> Waiting {
        let words = attributes.in_words();
        let deed = |path: &[u8]| {
            let other = words.as_bytes();
            plain(What::SetAttributes, path, other, at_ms, Outcome::Unfinished)
        };
        let Some((number, file)) = self.file(handle) else {
            return self.stranger(Some(deed(b"")));
        };
        let Some(length) = attributes.size else {
            return Waiting::Deed(deed(file.path()));
        };
        file.asked();
        let asked = Waiting::Resize {
            file: number,
            length,
            number: file.resizing(length),
            deed: (attributes.sets_more() || !file.writes()).then(|| deed(file.path())),
        };
        self.changes.contents();
        asked
    }

    /// Bytes are copied within the target.
    pub(super) fn copy(&mut self, at_ms: u64, from: &[u8], to: &[u8]) -> Waiting {
        self.changes.contents();
        let source = self.file(from).map(|(_, file)| file.path().to_vec());
        let goal = self.file(to).map(|(_, file)| {
            file.spoil(Unknown::CopiedInto);
            file.path().to_vec()
        });
        let known = source.is_some() && goal.is_some();
        let (source, goal) = (source.unwrap_or_default(), goal.unwrap_or_default());
        let deed = plain(What::Copy, &source, &goal, at_ms, Outcome::Unfinished);
        match known {
            true => Waiting::Deed(deed),
            false => self.stranger(Some(deed)),
        }
    }

    /// Somebody changes a file by its path that is being written by its handle.
    pub(super) fn spoil_writers(&mut self, path: &[u8]) -> bool {
        let mut any = false;
        for file in self.files.values_mut() {
            if file.writes() && may_be_one(file.path(), path) {
                file.spoil(Unknown::ChangedMeanwhile);
                any = true;
            }
        }
        any
    }

    /// Nobody knows what a request does: any file may be another now.
    pub(super) fn spoil_all(&mut self) {
        self.changes.resize();
        for file in self.files.values_mut() {
            file.spoil(Unknown::ChangedMeanwhile);
        }
    }
}
