//! A person at a terminal: the stock client in a pseudo-terminal of ours.

use std::io::{Read, Write};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};

use super::bytes::find;
use super::process::kill_tree;
use super::wait::wait_for;

/// A program in a terminal. Killed when dropped.
pub struct Terminal {
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    shown: Arc<Mutex<Vec<u8>>>,
    over: std::thread::JoinHandle<()>,
}

impl Terminal {
    /// Runs `command` in a terminal of this size.
    #[track_caller]
    pub fn start(command: &Command, cols: u16, rows: u16) -> Terminal {
        let pair = native_pty_system().openpty(size(cols, rows)).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        builder.env("TERM", "xterm-256color");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => builder.env(name, value),
                None => builder.env_remove(name),
            }
        }
        let child = pair.slave.spawn_command(builder).unwrap();
        drop(pair.slave);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let into = shown.clone();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let over = std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(got @ 1..) = reader.read(&mut buffer) {
                into.lock().unwrap().extend_from_slice(&buffer[..got]);
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Terminal {
            master: pair.master,
            writer,
            child,
            shown,
            over,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Presses these keys.
    #[track_caller]
    pub fn keys(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    /// Types a line and Enter.
    #[track_caller]
    pub fn line(&mut self, line: &str) {
        self.keys(&format!("{line}\r"));
    }

    pub fn resize(&self, cols: u16, rows: u16) {
        self.master.resize(size(cols, rows)).unwrap();
    }

    /// Everything shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    pub fn shown_bytes(&self) -> Vec<u8> {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until `text` has been shown.
    #[track_caller]
    pub fn expect(&self, text: &str, limit: Duration) {
        let began = Instant::now();
        while find(&self.shown.lock().unwrap(), text.as_bytes()).is_none() {
            assert!(
                began.elapsed() < limit,
                "`{text}` is not shown after {limit:?}: {:?}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the program's end; its exit code and all that was shown.
    #[track_caller]
    pub fn finish(&mut self, limit: Duration) -> (ExitStatus, String) {
        let status = wait_for("the end of the program in the terminal", limit, || {
            self.child.try_wait().unwrap()
        });
        wait_for("the end of what it shows", limit, || {
            self.over.is_finished().then_some(())
        });
        (status, self.shown())
    }
}

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize {
        cols,
        rows,
        pixel_width: 0,
        pixel_height: 0,
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            kill_tree(self.pid());
            self.child.wait().ok();
        }
    }
}
