//! A ledger, keys and recordings in a box, for the tests of this folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_recording::leaf::{LeafKind, LedgerLeaf};
use portcullis_recording::trust::Trust;
use portcullis_recording::{Head, Sealed, Writer};

use super::cosign::Witnesses;
use super::{Anchor, Hook, Ledger, LedgerError, Options};
use crate::clock::{Clock, Now};
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::keys::{self, CaHome};
use crate::issue::trust::{Signers, with_signers};
use crate::keeper::Keeper;

pub const ORIGIN: &str = "bastion.example/log";
const NOW: u64 = 1_800_000_000_000;

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub ledger: PathBuf,
    pub clock: Clock,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        keys::create(&dir.path().join("keys"), CaHome::Files).unwrap();
        let ledger = dir.path().join("ledger");
        Ledger::create(&ledger, ORIGIN).unwrap();
        Bench {
            dir,
            ledger,
            clock: Clock::manual(Now {
                wall_ms: NOW,
                boot_ms: 1,
            }),
        }
    }

    /// A keeper fresh from its files: it remembers no checkpoint, like after
    /// a restart.
    pub fn keeper(&self) -> FileKeeper {
        let dir = self.dir.path().join("keys");
        FileKeeper::load(&dir, Rules::default(), self.clock.clone()).unwrap()
    }

    pub fn trust(&self) -> Trust {
        let node = "bastion-1".parse().unwrap();
        let signers = Signers::of(&node, ORIGIN, &self.keeper());
        with_signers(Trust::default(), &signers, NOW).unwrap()
    }

    pub async fn open(&self) -> Result<Ledger, LedgerError> {
        self.open_with(None, vec![]).await
    }

    pub async fn open_with(&self, hook: Option<Hook>, anchors: Vec<Anchor>) -> Result<Ledger, LedgerError> {
        self.open_at(&self.ledger, hook, anchors).await
    }

    pub async fn open_at(&self, dir: &Path, hook: Option<Hook>, anchors: Vec<Anchor>) -> Result<Ledger, LedgerError> {
        let options = Options {
            origin: ORIGIN.into(),
            anchors,
            hook,
            ..Options::default()
        };
        Ledger::open(dir, options, Arc::new(self.keeper()), self.clock.clone()).await
    }

    /// Opened with witnesses.
    pub async fn watched(&self, witnesses: &Witnesses) -> Result<Ledger, LedgerError> {
        self.watched_at(&self.ledger, witnesses).await
    }

    pub async fn watched_at(&self, dir: &Path, witnesses: &Witnesses) -> Result<Ledger, LedgerError> {
        let options = Options {
            origin: ORIGIN.into(),
            witnesses: witnesses.clone(),
            ..Options::default()
        };
        Ledger::open(dir, options, Arc::new(self.keeper()), self.clock.clone()).await
    }
}

pub fn leaf(kind: LeafKind, session: u8) -> LedgerLeaf {
    LedgerLeaf {
        kind,
        session_id: [session; 16],
        h0: [session; 32],
        root: [0; 32],
        size: 100,
        reason: String::new(),
        at_wall_ms: NOW,
    }
}

/// A real, empty recording.
pub struct Made {
    pub bytes: Vec<u8>,
    pub open: LedgerLeaf,
    pub salt: [u8; 32],
    pub sealed: Sealed,
}

pub async fn recording(keeper: &FileKeeper, session: [u8; 16]) -> Made {
    recording_ended(keeper, session, "exit").await
}

/// The same head each time, and the seal says `code`.
pub async fn recording_ended(keeper: &FileKeeper, session: [u8; 16], code: &str) -> Made {
    let head = Head {
        session_id: session,
        node: "bastion-1".into(),
        opened_wall_ms: NOW + 1_000,
        ledger_origin: ORIGIN.into(),
        node_key: keeper.node_key(),
        ..Head::default()
    };
    let mut next = session[0];
    let unopened = Writer::prepare(
        head,
        Box::new(move |bytes| {
            next = next.wrapping_add(1);
            *bytes = [next; 32];
        }),
    )
    .unwrap();
    let signature = keeper.sign_recording(&unopened.statement()).await.unwrap();
    let (writer, mut main, mut bytes) = unopened.open(&signature).unwrap();
    let open = writer.open_leaf().clone();
    let salt = writer.head().salt;
    let (end, sealed) = writer.finish(&mut main, 5_000, code, "done").unwrap();
    bytes.extend(end);
    Made {
        bytes,
        open,
        salt,
        sealed,
    }
}

pub fn copy_tree(from: &Path, to: &Path) {
    // What the publisher no longer needs may go while it is looked at.
    let entries = match std::fs::read_dir(from) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        entries => entries.unwrap(),
    };
    std::fs::create_dir_all(to).unwrap();
    for entry in entries {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => copy_tree(&entry.path(), &target),
            Ok(_) => drop(std::fs::copy(entry.path(), target)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}
