//! The gate end to end: stock OpenSSH programs, a real server, a real target,
//! and the recording crate as the judge of every session.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm
)]

#[path = "../support/mod.rs"]
mod support;

mod api_hostile;
mod api_inputs;
mod api_inputs_http;
mod api_openapi;
mod api_reach;
mod api_roles;
mod approval;
mod authorities;
mod break_glass;
mod channels;
mod commands;
mod consent;
mod copies;
mod crash;
mod credentials;
mod ends;
mod enters;
mod evidence;
mod faults;
mod files;
mod files_kept;
mod files_policy;
mod flow;
mod flow_long;
mod forwards;
mod forwards_back;
mod forwards_digest;
mod hook;
mod hooks;
mod jump;
mod ledger;
mod ledger_witness;
mod local;
mod person;
mod proof;
mod rotation;
mod search;
mod sessions;
mod signals;
mod strangers;
mod terminals;
mod vault;
mod via;

// Hostile peers and certificates, over a raw SSH peer of our own.
#[path = "../support/raw/mod.rs"]
mod raw;

mod certificates;
mod certificates_sampled;
mod certificates_shape;
mod certificates_table;
mod certificates_time;
mod certificates_use;
mod hostile;
mod hostile_audit;
mod hostile_auth;
mod hostile_channels;
mod hostile_first;
mod hostile_forwards;
mod hostile_limits;
mod hostile_order;
mod hostile_sources;
mod hostile_target;
mod hostile_target_door;
mod hostile_target_order;
mod regress_cases;
