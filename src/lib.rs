//! Portcullis: a privileged session recorder and SSH jump host.
#![forbid(unsafe_code)]

pub mod anomaly;
pub mod api;
pub mod archive;
pub mod break_glass;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod durable;
pub mod entropy;
pub mod issue;
pub mod keeper;
pub mod kernel;
pub mod layout;
pub mod ledger;
pub mod local_helper;
pub mod notify;
pub mod policies;
pub mod recorder;
pub mod registry;
pub mod retention;
pub mod search;
pub mod serve;
pub mod ssh;
pub mod store;
pub mod telemetry;
pub mod witness;
