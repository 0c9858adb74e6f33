//! Our own raw SSH-2 client: every byte sendable by hand, nothing checked
//! that a hostile client would not check. Blocking sockets with deadlines.
//!
//! `peer` moves packets (version, key exchange, cipher), `auth` proves keys
//! and certificates, `certs` writes certificate blobs field by field,
//! `channels` speaks the connection protocol.

#![allow(dead_code)]

pub mod auth;
pub mod certs;
pub mod channels;
pub mod peer;
pub mod wire;

pub use peer::{Fault, Hello, Peer};
