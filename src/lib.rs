//! Portcullis: a privileged session recorder and SSH jump host.
#![forbid(unsafe_code)]

pub mod clock;
pub mod durable;
pub mod issue;
pub mod keeper;
pub mod kernel;
pub mod store;
