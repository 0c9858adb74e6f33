//! What the gate's tests stand on: a real `portcullis serve`, a real sshd, the
//! stock OpenSSH programs between them, and the recording crate as the judge.
//!
//! Loopback only, nothing installed, every wait bounded, every process ended by
//! its id. Needs root, for the target's sshd and for other accounts.

// Each test file uses its own part of this.
#![allow(dead_code, unused_imports)]

pub mod api;
pub mod bastion;
pub mod bytes;
pub mod case;
pub mod client;
pub mod device;
pub mod echo;
pub mod fault;
pub mod pass;
pub mod person;
pub mod postgres;
pub mod process;
pub mod recording;
pub mod rogue;
pub mod russh_client;
pub mod sshd;
pub mod tap;
pub mod terminal;
pub mod wait;

pub use api::{Answer, Enrolled, Wire};
pub use bastion::{Bastion, Setup};
pub use case::{Case, whole};
pub use client::Client;
pub use pass::Pass;
pub use person::Person;
pub use postgres::Postgres;
pub use process::{Done, Running, finish, run};
pub use recording::Record;
pub use sshd::{Sshd, Variant};
pub use tap::Tap;
pub use terminal::Terminal;
pub use wait::{secs, wait_for, wait_until};

/// A bastion with one sshd behind it as `db1`, login `root`.
pub struct World {
    // Ended in this order: the server first, then what it dialled.
    pub bastion: Bastion,
    pub sshd: Sshd,
}

impl World {
    pub fn new() -> World {
        World::with(Setup::new(), Variant::default())
    }

    pub fn with(setup: Setup, variant: Variant) -> World {
        let bastion = setup.start();
        let sshd = Sshd::start(&bastion, variant);
        bastion.add_host("db1", &sshd);
        World { bastion, sshd }
    }

    /// A pass for `root@db1` that allows what most tests do, for ten minutes.
    pub fn pass(&self) -> Pass {
        self.bastion.pass("root@db1").issue()
    }

    /// The stock client with such a pass.
    pub fn client(&self) -> Client {
        self.bastion.client(&self.pass())
    }
}
