//! Our own raw SSH-2 peer, client and server: every byte sendable by hand,
//! nothing checked that a hostile one would not check. Blocking sockets with
//! deadlines.
//!
//! `peer` moves packets, `keys` exchanges keys, `auth` proves keys and
//! certificates, `certs` writes certificate blobs field by field, `channels`
//! speaks the connection protocol, `target` is the server's side of it all.

#![allow(dead_code)]

pub mod auth;
pub mod certs;
pub mod channels;
pub mod keys;
pub mod peer;
pub mod target;
pub mod wire;

pub use peer::{Fault, Hello, Peer};
pub use target::Target;
