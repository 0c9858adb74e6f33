//! The person's side: what runs on the machine of somebody who asks for
//! access. No private key that we make is ever on its disk: keys live in
//! ssh-agent, with the lifetime of their grant.

pub mod agent;
pub mod config;
pub mod includes;
pub mod issued;
pub mod prover;
pub mod ssh_config;
