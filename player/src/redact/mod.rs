//! Redacted copies: what is to go, where it is, and the copy without it.
//!
//! ```text
//!  recording --search--> Edits --rebuild--> Replacements --copy--> file --search, compare--> delivered, or not
//!    choice says what to look for;  tape: text as it came;  trace: text as it stood on a screen
//! ```

pub mod check;
pub mod choice;
pub mod copy;
pub mod edits;
pub mod key;
pub mod rebuild;
pub mod search;
mod tape;
mod trace;
