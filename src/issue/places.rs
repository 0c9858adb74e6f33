//! Where the three authorities' private keys are.

use std::path::PathBuf;

use serde::Deserialize;

use super::keys::{KeyName, KeysError};
use super::secret::Secret;

/// The passphrase's name among a service manager's credentials.
pub const PASSPHRASE_CREDENTIAL: &str = "passphrase";

/// Where one private key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a file of the keys folder, in clear or under a passphrase.
    #[default]
    File,
    /// In an ssh-agent.
    Agent,
    /// In a PKCS#11 token.
    Pkcs11,
}

impl Place {
    /// As the configuration and `keys list` write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Place::File => "file",
            Place::Agent => "agent",
            Place::Pkcs11 => "pkcs11",
        }
    }
}

/// A token, and how to get into it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pkcs11 {
    /// The token's library.
    pub module: PathBuf,
    /// The token's label.
    pub token: String,
    /// File with the user's PIN, mode 0600.
    pub pin_file: PathBuf,
}

/// Where each authority is, and what it takes to use it there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    pub admission_ca: Place,
    pub target_ca: Place,
    pub host_ca: Place,
    /// What opens encrypted key files; none: the credential
    /// [`PASSPHRASE_CREDENTIAL`], if there is one.
    pub passphrase_file: Option<PathBuf>,
    /// The agent's socket.
    pub agent: Option<PathBuf>,
    pub pkcs11: Option<Pkcs11>,
}

impl Places {
    /// Where `name` is. What is no authority is always a file.
    pub const fn of(&self, name: KeyName) -> Place {
        match name {
            KeyName::AdmissionCa => self.admission_ca,
            KeyName::TargetCa => self.target_ca,
            KeyName::HostCa => self.host_ca,
            KeyName::SshHost | KeyName::Node | KeyName::Ledger => Place::File,
        }
    }

    /// What opens encrypted key files, if it was given.
    ///
    /// # Errors
    /// When it was given and cannot be read.
    pub fn passphrase(&self) -> Result<Option<Secret>, KeysError> {
        match &self.passphrase_file {
            Some(path) => Secret::read(path).map(Some),
            None => Secret::credential(PASSPHRASE_CREDENTIAL),
        }
    }
}
