//! Play, verify, read and export Portcullis recordings, from the file and trusted keys alone.
//!
//! A recording is hostile input (design law 9). What reaches the viewer's terminal is cells of a grid, or text whose
//! every character was looked at by [`plain`]; never a byte of the recording.
//!
//! ```text
//!  file, sidecar, trust --verdict--> Verified | Unverified --source--> events
//!  another tool's file  --import--------------> Unverified                |
//!  envelope, identity or shares --envelope--> content key, for encrypted recordings
//!        play:    timeline (pure: when) + playback --> grid (avt) --> viewer, view --> screen
//!                 hunt, history: the same events once more, for searches and for what scrolled by
//!        grep:    find --> watch (grid), skim (where output only scrolls) --> hits
//!        search:  query + entry (what can be found, out of events) --> hits; the server's index is made of the same
//!        summary: summary (who, where, what was run, moved, refused) --> text, JSON, sheet (a page)
//!        text:    text     --> lines and remarks
//!        export:  asciicast --> NDJSON      frames (grid) --> html --> one page
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(
    any(test, fuzzing),
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

pub mod asciicast;
pub mod asked;
pub mod background;
pub mod channels;
mod cli;
pub mod commands;
pub mod entry;
pub mod envelope;
pub mod failure;
pub mod files;
pub mod find;
pub mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod grid;
pub mod haste;
pub mod history;
pub mod html;
pub mod hunt;
pub mod import;
pub mod keyring;
pub mod keys;
pub mod lines;
pub mod moment;
pub mod moved;
pub mod package;
pub mod plain;
pub mod playback;
pub mod prompt;
pub mod query;
pub mod redact;
pub mod report;
pub mod screen;
pub mod screens;
pub mod section;
pub mod share;
pub mod sheet;
pub mod skim;
pub mod source;
pub mod summary;
pub mod text;
pub mod timeline;
pub mod times;
pub mod transcript;
pub mod vault;
pub mod verdict;
pub mod view;
pub mod viewer;
pub mod visit;
pub mod watch;

pub use cli::run;
pub use failure::{Exit, Failure};
