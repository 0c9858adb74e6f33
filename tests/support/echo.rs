//! A TCP or socket server on this machine, for what is forwarded to it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::wait::secs;

/// Serves each connection in a thread of its own; ends with the test's process.
pub struct Served {
    addr: Option<SocketAddr>,
    connections: Arc<AtomicUsize>,
}

impl Served {
    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr.unwrap()
    }

    pub fn port(&self) -> u16 {
        self.addr().port()
    }
}

/// Serves TCP on a free port of loopback.
pub fn tcp(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, serve) = (connections.clone(), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    Served {
        addr: Some(addr),
        connections,
    }
}

/// Serves the socket `path`.
pub fn unix(path: &Path, serve: impl Fn(UnixStream) + Send + Sync + 'static) -> Served {
    let listener = UnixListener::bind(path).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, serve) = (connections.clone(), Arc::new(serve));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    Served {
        addr: None,
        connections,
    }
}

/// Sends back what comes, and its end behind it.
pub fn echo(mut stream: TcpStream) {
    let mut writer = stream.try_clone().unwrap();
    std::io::copy(&mut stream, &mut writer).ok();
    writer.shutdown(Shutdown::Write).ok();
}

/// The same on a socket.
pub fn echo_unix(mut stream: UnixStream) {
    let mut writer = stream.try_clone().unwrap();
    std::io::copy(&mut stream, &mut writer).ok();
    writer.shutdown(Shutdown::Write).ok();
}

/// Writes `bytes`, ends that way, and reads until the other way ends.
#[track_caller]
pub fn exchange(stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    stream.set_read_timeout(Some(secs(30))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let sent = bytes.to_vec();
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).ok();
        writer.shutdown(Shutdown::Write).ok();
    });
    let mut got = Vec::new();
    let mut stream = stream;
    if let Err(error) = stream.read_to_end(&mut got) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    writing.join().unwrap();
    got
}

/// The same on a socket.
#[track_caller]
pub fn exchange_unix(path: &Path, bytes: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(secs(30))).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    got
}

/// A port of loopback that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
