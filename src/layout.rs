//! Where things lie in the state folder: the only place that knows file names.

use std::path::{Path, PathBuf};

/// Longest path of a Unix socket, in bytes (`sun_path` less its end mark).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The state folder and everything in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the state folder `root`.
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    /// The state folder itself, mode 0700.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// Private keys, mode 0700, files 0600. Trusted and secret.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// What a verifier needs. Public.
    pub fn trust(&self) -> PathBuf {
        self.root.join("trust.toml")
    }

    /// Relational state, mode 0600. Trusted: who can write it can admit himself.
    pub fn store(&self) -> PathBuf {
        self.root.join("store.db")
    }

    /// The index over recordings, mode 0600. Neither trusted nor missed: it is made of them.
    pub fn search(&self) -> PathBuf {
        self.root.join("search.db")
    }

    /// Live sessions' append-only files.
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }

    /// Sealed recordings. Untrusted: changing one is seen, losing one is not repaired.
    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// The transparency log. Untrusted once witnesses have cosigned.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// Policies in Cedar. Trusted: who can write them decides who gets in.
    pub fn policies(&self) -> PathBuf {
        self.root.join("policies")
    }

    /// Break-glass grants and the journal of their use. Trusted for which of them
    /// were used; what admits is their signatures.
    pub fn break_glass(&self) -> PathBuf {
        self.root.join("break-glass")
    }

    /// The API's Unix socket, mode 0600.
    pub fn api_socket(&self) -> PathBuf {
        self.root.join("api.sock")
    }

    /// Every folder that `init` makes, the state folder first; all mode 0700.
    pub fn folders(&self) -> [PathBuf; 5] {
        [
            self.root.clone(),
            self.keys(),
            self.spool(),
            self.archive(),
            self.ledger(),
        ]
    }
}
