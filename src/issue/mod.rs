//! Identities in, grants and certificates out.

pub mod agent;
pub mod ca;
pub mod file_keeper;
pub mod generations;
pub mod init;
pub mod keys;
pub mod krl;
pub mod places;
pub mod secret;
pub mod signer;
pub mod sshsig;
#[cfg(feature = "pkcs11")]
pub mod token;
pub mod trust;
