//! Portcullis: a privileged session recorder and SSH jump host.
#![forbid(unsafe_code)]

pub mod archive;
pub mod clock;
pub mod durable;
pub mod issue;
pub mod keeper;
pub mod kernel;
pub mod ledger;
pub mod store;
