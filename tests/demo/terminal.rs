//! A program in a terminal, driven by what it shows.

use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// Longest wait for anything; generous, since a build may be before it.
const WAIT: Duration = Duration::from_secs(600);

/// A running program and all it has printed.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    writer: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    shown: Vec<u8>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    /// Starts it.
    pub fn run(command: CommandBuilder) -> Terminal {
        let size = PtySize {
            rows: 30,
            cols: 120,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).expect("a terminal");
        let child = pair.slave.spawn_command(command).expect("a program that can be run");
        let mut reader = pair.master.try_clone_reader().expect("its output");
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n) = reader.read(&mut buffer) {
                if n == 0 || sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal {
            child,
            writer: pair.master.take_writer().expect("its input"),
            output,
            shown: Vec::new(),
            _master: pair.master,
        }
    }

    /// Everything it has printed so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Reads until it has printed `text`.
    pub fn see(&mut self, text: &str) {
        let end = Instant::now() + WAIT;
        while !self.text().contains(text) {
            match self.output.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without {text:?}:\n{}", self.text())
                }
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < end, "no {text:?} in:\n{}", self.text());
                }
            }
        }
    }

    /// Reads until it has been silent for a moment after its last word.
    pub fn quiet(&mut self) {
        let end = Instant::now() + WAIT;
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(400)) {
            self.shown.extend(bytes);
            assert!(Instant::now() < end, "it does not stop:\n{}", self.text());
        }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).expect("a program that reads");
        self.writer.flush().expect("a program that reads");
    }

    /// Waits for its end; everything it printed, and its exit status.
    pub fn end(mut self) -> (String, u32) {
        let end = Instant::now() + WAIT;
        loop {
            match self.output.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) => self.shown.extend(bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    assert!(Instant::now() < end, "it does not end:\n{}", self.text());
                    if self.child.try_wait().expect("its status").is_some() {
                        self.quiet();
                        break;
                    }
                }
            }
        }
        let status = self.child.wait().expect("its status");
        (self.text(), status.exit_code())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // After `end` it is gone already.
        self.child.kill().ok();
    }
}
