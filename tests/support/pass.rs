//! A key, its grant and its certificate.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::bastion::{ADMIN, Bastion, wall_ms};
use super::process::run;

/// A key and its certificate under one grant.
#[derive(Clone, Debug)]
pub struct Pass {
    pub key: PathBuf,
    pub certificate: PathBuf,
    pub destination: String,
    /// The grant's id.
    pub grant: String,
    /// When it ends, ms since the epoch.
    pub until_ms: u64,
}

/// A pass in the making.
pub struct PassBuilder<'a> {
    bastion: &'a Bastion,
    destination: String,
    identity: String,
    allow: String,
    secs: u64,
    more: Vec<String>,
}

impl<'a> PassBuilder<'a> {
    /// Alice's, for ten minutes, for what most tests do.
    pub(super) fn new(bastion: &'a Bastion, destination: &str) -> PassBuilder<'a> {
        PassBuilder {
            bastion,
            destination: destination.to_owned(),
            identity: "alice".to_owned(),
            allow: "shell,exec,sftp".to_owned(),
            secs: 600,
            more: Vec::new(),
        }
    }

    /// Whose it is; `alice` otherwise. Made known if it is not.
    pub fn identity(mut self, name: &str) -> Self {
        self.identity = name.to_owned();
        self
    }

    /// `shell,exec,sftp` otherwise.
    pub fn allow(mut self, list: &str) -> Self {
        self.allow = list.to_owned();
        self
    }

    /// How long; ten minutes otherwise.
    pub fn secs(mut self, secs: u64) -> Self {
        self.secs = secs;
        self
    }

    /// A further argument of `grant issue`.
    pub fn arg(mut self, arg: &str) -> Self {
        self.more.push(arg.to_owned());
        self
    }

    /// Makes the key, the grant and the certificate.
    #[track_caller]
    pub fn issue(self) -> Pass {
        let bastion = self.bastion;
        // Known already is as good.
        let added = bastion.admin(&["identity", "add", &self.identity]);
        let key = bastion.fresh("id", "");
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"])
            .arg(&key);
        run(&mut keygen, ADMIN).ok();
        let public = key.with_extension("pub");
        let length = format!("{}s", self.secs);
        let mut args = vec!["grant", "issue", "--identity", &self.identity, "--for", &length];
        args.extend(["--reason", "a test", "--public-key", public.to_str().unwrap()]);
        args.extend(["--allow", &self.allow]);
        args.extend(self.more.iter().map(String::as_str));
        args.push(&self.destination);
        let done = run(bastion.command(&args).arg("--json"), ADMIN);
        assert_eq!(done.code(), 0, "{}; identity add: {}", done.err(), added.err());
        let issued: Value = serde_json::from_slice(&done.stdout).unwrap();
        let until = issued["grant"]["until"].as_str().unwrap();
        let until: jiff::Timestamp = until.parse().unwrap();
        Pass {
            certificate: key.with_file_name(format!("{}-cert.pub", key.file_name().unwrap().to_str().unwrap())),
            key,
            destination: self.destination,
            grant: issued["grant"]["id"].as_str().unwrap().to_owned(),
            until_ms: until.as_millisecond() as u64,
        }
    }
}

impl Pass {
    /// Milliseconds left of it, by the wall clock.
    pub fn left_ms(&self) -> i64 {
        self.until_ms as i64 - wall_ms() as i64
    }
}
