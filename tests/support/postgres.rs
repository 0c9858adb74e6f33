//! A PostgreSQL server of one test, gone with it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const SCRIPT: &str = include_str!("postgres.sh");

pub struct Postgres {
    socket: String,
    child: Child,
}

impl Postgres {
    #[track_caller]
    pub fn start() -> Postgres {
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("PORTCULLIS_POSTGRES", SCRIPT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut socket = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut socket)
            .unwrap();
        let socket = socket.trim().to_owned();
        assert!(!socket.is_empty(), "no PostgreSQL server; what is missing stands above");
        Postgres { socket, child }
    }

    /// An address of an empty database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.socket.replace('/', "%2F"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It stops by itself when its input ends.
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}
