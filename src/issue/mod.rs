//! Identities in, grants and certificates out.

pub mod agent;
pub mod ca;
pub mod file_keeper;
pub mod init;
pub mod keys;
pub mod sshsig;
pub mod trust;
