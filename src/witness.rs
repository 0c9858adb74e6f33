//! A witness: somebody else's machine that cosigns checkpoints of ledgers
//! (c2sp.org/tlog-witness), and the asking of one.
//!
//! It holds the size and root of the newest tree that it has cosigned of each
//! log, and cosigns only what is shown to continue it. So a log that was
//! rolled back, or that shows two histories, finds no signature for the
//! second. It reads no leaf, and needs no secret of the log.
//!
//! Trust: its folder (a key, and one file a log) makes it a witness; who can
//! write it can cosign anything from then on. What it says is public.

use std::path::{Path, PathBuf};

use portcullis_recording::note::VerifierKey;

use crate::clock::Clock;
use crate::durable::{self, DurableError};

pub mod address;
pub mod book;
pub mod client;
pub mod judge;
pub mod key;
pub mod server;
pub mod wire;

use book::{Book, BookError, Unsigned};
use judge::Refusal;
use key::{KeyError, WitnessKey};
use wire::Submission;

/// Mode of the witness's folder.
const FOLDER_MODE: u32 = 0o700;

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    #[error(transparent)]
    Folder(#[from] DurableError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Book(#[from] BookError),
}

/// What a witness is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its folder; made if it is not there.
    pub dir: PathBuf,
    /// The name of its key; without one the default, or the one it has.
    pub name: Option<String>,
    pub name_default: String,
    /// Keys of the logs that it watches over; their names are the origins.
    pub logs: Vec<VerifierKey>,
}

/// A witness with its key and its book.
pub struct Witness {
    key: WitnessKey,
    book: Book,
    clock: Clock,
}

impl Witness {
    /// Opens the witness in its folder; the first start makes its key.
    ///
    /// # Errors
    /// When the folder is in use, or not what this witness wrote.
    pub fn open(settings: Settings, clock: Clock) -> Result<Witness, WitnessError> {
        let dir: &Path = &settings.dir;
        durable::create_dir_all(dir, FOLDER_MODE)?;
        let key = WitnessKey::open(dir, settings.name.as_deref(), &settings.name_default)?;
        let book = Book::open(dir, settings.logs, key.public())?;
        Ok(Witness { key, book, clock })
    }

    /// What verifiers and logs are given.
    pub fn key(&self) -> &VerifierKey {
        self.key.public()
    }

    /// Answers one submission with signature lines. Blocks on the disk.
    ///
    /// # Errors
    /// Why it is not cosigned.
    pub fn add_checkpoint(&self, body: &str) -> Result<String, Unsigned> {
        let submission = Submission::parse(body).map_err(Refusal::Malformed)?;
        let unix_secs = self.clock.now().wall_ms / 1000;
        let kept = self.book.cosign(&submission, &self.key, unix_secs)?;
        // Never `None`: it has just been signed.
        let ours = wire::only(&kept, self.key());
        Ok(ours.as_ref().map(wire::lines).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
