//! Identities in, grants and certificates out.

pub mod ca;
pub mod keys;
