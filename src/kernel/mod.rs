//! The pure middle: what decides takes bytes and time and returns values.
//!
//! Nothing in this folder reads a clock, a socket, a file or randomness, and
//! nothing here is async. It may import only the event vocabulary of
//! `portcullis_recording`, the policy engine and one terminal emulator;
//! `tests/tidy.rs` checks that.

pub mod access;
pub mod admit;
pub mod amount;
pub mod break_glass;
mod coded;
pub mod command;
pub mod credential;
pub mod duration;
pub mod echo;
pub mod enter;
pub mod grant;
pub mod habit;
pub mod hook;
pub mod id;
pub mod inventory;
pub mod jump;
pub mod labels;
pub mod nearest;
pub mod policy;
pub mod prompts;
pub mod remark;
pub mod request;
pub mod route;
pub mod screen_state;
pub mod session;
pub mod transfer;
mod work;
