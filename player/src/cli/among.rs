//! The recordings that a verb is about, and with which trust and keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::{Keys, Shown, Target};
use crate::failure::Failure;
use crate::keyring::Keyring;
use crate::verdict::{Ask, Examined, examine};

#[derive(Args, Debug)]
pub(super) struct Among {
    /// Recordings, or folders with recordings in them
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Node, ledger and witness keys to trust (portcullis trust export)
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    #[command(flatten)]
    pub keys: Keys,
    /// Also take what nobody trusted vouches for, as far as it is readable
    #[arg(long)]
    pub unverified: bool,
}

impl Among {
    /// One of them, as verbs about a single recording name it.
    pub fn one(&self, file: &Path) -> Shown {
        Shown {
            target: Target {
                file: file.to_owned(),
                trust: self.trust.clone(),
                proof: None,
            },
            keys: self.keys.clone(),
            unverified: self.unverified,
        }
    }

    /// Looks at one of them.
    ///
    /// # Errors
    /// It cannot be read, or what it is read with cannot.
    pub fn examine(&self, file: &Path, keyring: &Arc<Keyring>) -> Result<Examined, Failure> {
        examine(&Ask {
            file: file.to_owned(),
            trust: self.trust.clone(),
            keyring: Arc::clone(keyring),
            ..Ask::default()
        })
    }
}
