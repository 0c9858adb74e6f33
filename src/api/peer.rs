//! Who is at the other end of the Unix socket.
//!
//! The socket's mode lets in the server's user and root. That is not enough:
//! a `local` target may be a process of ours that a session's user steers, and
//! in a demo even one of the same user. So no descendant of the server may
//! speak to it, whatever its user.

use std::io;

/// Most generations that are walked from a peer up to init.
const GENERATIONS_MAX: usize = 256;

/// Credentials of a peer, as the kernel noted them when it connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    pub uid: u32,
    /// None or 0 when it lives in another pid namespace.
    pub pid: Option<u32>,
}

/// A peer that may use the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub uid: u32,
    /// Its Unix account; `uid:N` when it has none.
    pub name: String,
}

/// Why a peer may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("uid {0} is neither the server's user nor root")]
    User(u32),
    #[error("processes that the server started (local targets) may not use the API")]
    Descendant,
    #[error("the process at the other end cannot be identified")]
    Unknown,
}

/// Decides over a peer; `parent` tells a process's parent, 0 above the first one.
///
/// # Errors
/// Why it may not use the API. What cannot be seen is refused.
pub fn judge(peer: Credentials, own: Credentials, parent: impl Fn(u32) -> Option<u32>) -> Result<(), Refused> {
    if peer.uid != own.uid && peer.uid != 0 {
        return Err(Refused::User(peer.uid));
    }
    let (Some(peer), Some(own)) = (peer.pid, own.pid) else {
        return Err(Refused::Unknown);
    };
    if peer == own {
        return Ok(());
    }
    let mut pid = peer;
    for _ in 0..GENERATIONS_MAX {
        if pid == own {
            return Err(Refused::Descendant);
        }
        // The peer itself is never 0 or 1 unless it is out of our sight or
        // init; its ancestors end there.
        match pid {
            0 if peer == 0 => return Err(Refused::Unknown),
            0 | 1 => return Ok(()),
            _ => pid = parent(pid).ok_or(Refused::Unknown)?,
        }
    }
    Err(Refused::Unknown)
}

/// A process's parent from `/proc/PID/stat`.
pub fn parent_of(pid: u32) -> Option<u32> {
    parse_stat(&std::fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state ppid …`, proc_pid_stat(5). The name is the process's
/// own choice and may hold spaces and parentheses, so its end is the last one.
fn parse_stat(stat: &[u8]) -> Option<u32> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end.checked_add(1)?..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// This process.
pub fn own() -> Credentials {
    Credentials {
        uid: rustix::process::geteuid().as_raw(),
        pid: Some(std::process::id()),
    }
}

/// The Unix account of `uid`.
pub fn account(uid: u32) -> String {
    match nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("uid:{uid}"),
    }
}

/// Identifies and judges the peer of an accepted connection. Reads `/proc`
/// and the account database: not for the async threads.
///
/// # Errors
/// Why it may not use the API.
pub fn admit(credentials: io::Result<Credentials>) -> Result<Peer, Refused> {
    let credentials = credentials.map_err(|_| Refused::Unknown)?;
    judge(credentials, own(), parent_of)?;
    Ok(Peer {
        uid: credentials.uid,
        name: account(credentials.uid),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judges_by_user_and_descent() {
        // 1 -> 50 (sshd) -> 60 (shell) -> 70; 1 -> 100 (server) -> 110 -> 120.
        let parent = |pid| match pid {
            50 | 100 => Some(1),
            60 => Some(50),
            70 => Some(60),
            110 => Some(100),
            120 => Some(110),
            200 => Some(201),
            201 => Some(200),
            300 => Some(0),
            _ => None,
        };
        let own = Credentials {
            uid: 990,
            pid: Some(100),
        };
        let cases = [
            (990, Some(70), Ok(())),
            (0, Some(70), Ok(())),
            (990, Some(100), Ok(())),
            (990, Some(300), Ok(())),
            (990, Some(1), Ok(())),
            (1000, Some(70), Err(Refused::User(1000))),
            (990, Some(110), Err(Refused::Descendant)),
            (0, Some(120), Err(Refused::Descendant)),
            (990, Some(999), Err(Refused::Unknown)),
            (990, Some(200), Err(Refused::Unknown)),
            (990, Some(0), Err(Refused::Unknown)),
            (990, None, Err(Refused::Unknown)),
        ];
        for (uid, pid, want) in cases {
            assert_eq!(judge(Credentials { uid, pid }, own, parent), want, "{uid} {pid:?}");
        }
    }

    #[test]
    fn reads_stat_whatever_the_name() {
        let cases: [(&[u8], Option<u32>); 6] = [
            (b"7 (sh) S 3 7 7 0", Some(3)),
            (b"7 (a b) S 1 2) R 4 7", Some(4)),
            (b"7 (\xff)) S 5 7", Some(5)),
            (b"7 (sh) S", None),
            (b"7 sh S 3", None),
            (b"", None),
        ];
        for (stat, want) in cases {
            assert_eq!(parse_stat(stat), want, "{stat:?}");
        }
        assert!(parent_of(std::process::id()).is_some());
    }
}
