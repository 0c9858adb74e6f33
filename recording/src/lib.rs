//! The Portcullis recording format: write it, verify it, read it.
//!
//! `FORMAT.md` beside this crate is normative; the section numbers in these docs point into it.
//!
//! The crate is pure: bytes, times and entropy go in, bytes and values come out. It opens no file, reads no clock, draws
//! no randomness and knows no terminal emulator, so an investigator can build and audit it alone.
//!
//! ```text
//!  Head --Writer::prepare--> Unopened --open(node_sig)--> (Writer, Main, head frame)
//!                                                            |
//!     live, small:   open_tail, push, check ... close_tail --+--> Segment --encode(&mut Main)--> chunk + leaf bytes
//!     live, bulk:    into_flood(Main) -> Flood: push ... finish ------------------------------> leaf bytes, Writer back
//!     live, batched: put_batch(Batch, &mut Main) ---------------------------------------------> chunk + leaf bytes
//!                                                            |
//!     the end:       finish(Main) --> (bytes, Sealed)   or, after a crash:   recover(main, tails) --> Recovery
//!
//!  Verified + replaced chunks --redact--> Unsigned --write--> redacted copy
//!
//!  bytes + Trust (+ proof) --verify--> Verified --chunk(i), events()--> Timed<Event>       or the first Fault
//! ```
//!
//! An encrypted recording begins with `Writer::prepare_encrypted` and is read after `Verified::unlock`; what lies between
//! needs no key.
//!
//! Times are `u64` milliseconds since the session opened unless a name says `wall`, which is milliseconds since the epoch.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(
    any(test, fuzzing),
    allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod bytes;
mod cbor;
mod chunk;
mod columns;
mod fault;
mod frame;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod keys;
mod payload;
mod ratchet;
mod rows;
mod scan;
mod tail;
mod tail_chain;

pub mod batch;
pub mod command;
pub mod event;
pub mod flood;
pub mod head;
pub mod leaf;
pub mod limits;
pub mod line;
pub mod main_file;
pub mod merkle;
pub mod moved;
pub mod note;
pub mod proof;
pub mod reader;
pub mod recover;
pub mod redact;
pub mod redaction;
pub mod seal;
pub mod segment;
pub mod spool;
pub mod sshsig;
pub mod statement;
pub mod trust;
pub mod vault;
pub mod verified;
pub mod verify;
pub mod writer;

pub use batch::Batch;
pub use event::{Event, Timed};
pub use fault::{Fault, Why};
pub use flood::{Flood, Piece};
pub use head::{Head, Version};
pub use keys::Entropy;
pub use leaf::LedgerLeaf;
pub use line::LineCipher;
pub use main_file::Main;
pub use proof::Ledger;
pub use ratchet::ContentKey;
pub use reader::{Chunk, ChunkInfo, ChunkKind};
pub use recover::{Recovery, recover};
pub use redact::{Redactor, Replacement};
pub use redaction::Redaction;
pub use seal::{Seal, SealKind, Sealed};
pub use segment::{Around, Segment, TailText};
pub use trust::Trust;
pub use verified::{Unverified, Verified};
pub use verify::{Verdict, verify, verify_spool};
pub use writer::{Unopened, WriteError, Writer};
