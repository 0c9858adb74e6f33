//! A TCP relay on loopback that notes when bytes pass.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::bastion::wall_ms;

/// Which way, seen from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    Up,
    Down,
}

/// Bytes that passed, or the end of that way.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub at: Instant,
    pub wall_ms: u64,
    pub way: Way,
    /// 0: this way ended.
    pub bytes: usize,
}

/// A relay to one address. It reads as fast as it can be read from and holds
/// nothing back, except that a reader who stops stops it too, unless [`Tap::greedy`].
pub struct Tap {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Tap {
    pub fn to(server: SocketAddr) -> Tap {
        Tap::start(server, false)
    }

    /// One that goes on reading from the server when the client does not:
    /// what it cannot hand on at once it keeps, and notes when it came.
    pub fn greedy(server: SocketAddr) -> Tap {
        Tap::start(server, true)
    }

    fn start(server: SocketAddr, greedy: bool) -> Tap {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let into = seen.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else {
                    continue;
                };
                client.set_nodelay(true).ok();
                server.set_nodelay(true).ok();
                let (client2, server2) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (up, down) = (into.clone(), into.clone());
                std::thread::spawn(move || relay(client2, server2, Way::Up, &up, false));
                std::thread::spawn(move || relay(server, client, Way::Down, &down, greedy));
            }
        });
        Tap { addr, seen }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything that passed, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Bytes that came from the server after `wall_ms`.
    pub fn down_after(&self, wall_ms: u64) -> usize {
        self.seen()
            .iter()
            .filter(|seen| seen.way == Way::Down && seen.wall_ms > wall_ms)
            .map(|seen| seen.bytes)
            .sum()
    }

    /// Bytes that came from the server so far.
    pub fn down(&self) -> usize {
        self.down_after(0)
    }

    /// When the server closed its side.
    pub fn closed(&self) -> Option<Seen> {
        self.seen()
            .iter()
            .rev()
            .find(|seen| seen.way == Way::Down && seen.bytes == 0)
            .copied()
    }
}

fn relay(mut from: TcpStream, to: TcpStream, way: Way, seen: &Mutex<Vec<Seen>>, greedy: bool) {
    let note = |bytes| {
        let at = Instant::now();
        let wall_ms = wall_ms();
        seen.lock().unwrap().push(Seen {
            at,
            wall_ms,
            way,
            bytes,
        });
    };
    let (queue, waiting) = std::sync::mpsc::channel::<Vec<u8>>();
    let mut direct = Some(to);
    let mut writer = None;
    if greedy && let Some(to) = direct.take() {
        writer = Some(std::thread::spawn(move || {
            let mut to = to;
            for bytes in waiting {
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            to.shutdown(Shutdown::Write).ok();
        }));
    }
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let got = from.read(&mut buffer).unwrap_or(0);
        note(got);
        if got == 0 {
            break;
        }
        let passed = match &mut direct {
            Some(to) => to.write_all(&buffer[..got]).is_ok(),
            None => queue.send(buffer[..got].to_vec()).is_ok(),
        };
        if !passed {
            break;
        }
    }
    drop(queue);
    if let Some(to) = direct {
        to.shutdown(Shutdown::Write).ok();
    }
    if let Some(writer) = writer {
        writer.join().ok();
    }
}
