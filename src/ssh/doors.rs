//! What a target may open towards the client on one connection: what the client
//! asked for, policy permitted and the target agreed to. Everything else is
//! refused and recorded (a target that opens X11 or agent channels unasked is
//! how such clients were attacked).

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use super::gated::Kill;
use super::session::Live;
use crate::kernel::request::Request;

/// How long a channel waits for the answer that allows it, which may have come
/// right before it.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Things that one connection may be asked to listen to.
const ASKED_MAX: usize = 64;

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asked {
    /// To listen there.
    Tcp {
        host: String,
        /// The port that was asked for, perhaps 0: what policy is asked about.
        wanted: u32,
        /// The one that it listens to.
        port: u32,
    },
    Unix {
        path: String,
    },
    Agent,
    /// `single`: one connection only.
    X11 {
        single: bool,
    },
}

/// What a target opens. Texts are the target's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Came {
    Tcp {
        host: String,
        port: u32,
        origin: (String, u32),
    },
    Unix {
        path: String,
    },
    Agent,
    X11 {
        origin: (String, u32),
    },
}

impl Came {
    /// The channel's type on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Came::Tcp { .. } => "forwarded-tcpip",
            Came::Unix { .. } => "forwarded-streamlocal@openssh.com",
            Came::Agent => "auth-agent@openssh.com",
            Came::X11 { .. } => "x11",
        }
    }

    /// Where it came in and from where, for the recording.
    pub fn detail(&self) -> String {
        let text = match self {
            Came::Tcp { host, port, origin } => format!("{host}:{port} from {}:{}", origin.0, origin.1),
            Came::Unix { path } => path.clone(),
            Came::Agent => String::new(),
            Came::X11 { origin } => format!("from {}:{}", origin.0, origin.1),
        };
        super::leg::clean(&text)
    }

    /// What policy is asked.
    pub fn request(&self) -> Request {
        match self {
            Came::Tcp { host, port, .. } => Request::TcpipForward {
                host: host.clone(),
                port: *port,
            },
            Came::Unix { path } => Request::StreamlocalForward { path: path.clone() },
            Came::Agent => Request::Agent,
            Came::X11 { .. } => Request::X11,
        }
    }
}

impl Asked {
    /// As a client writes it.
    pub fn tcp(host: &str, port: u32) -> Asked {
        Asked::Tcp {
            host: host.to_owned(),
            wanted: port,
            port,
        }
    }

    /// The same.
    pub fn unix(path: &str) -> Asked {
        Asked::Unix { path: path.to_owned() }
    }

    /// The same for what was asked.
    pub fn request(&self) -> Request {
        match self {
            Asked::Tcp { host, wanted, .. } => Request::TcpipForward {
                host: host.clone(),
                port: *wanted,
            },
            Asked::Unix { path } => Request::StreamlocalForward { path: path.clone() },
            Asked::Agent => Request::Agent,
            Asked::X11 { .. } => Request::X11,
        }
    }

    /// `host:port`, or the path.
    pub fn detail(&self) -> String {
        match self {
            Asked::Tcp { host, port, .. } => format!("{host}:{port}"),
            Asked::Unix { path } => path.clone(),
            Asked::Agent | Asked::X11 { .. } => String::new(),
        }
    }

    fn exactly(&self, came: &Came) -> bool {
        match (self, came) {
            (Asked::Tcp { host, port, .. }, Came::Tcp { host: at, port: on, .. }) => host == at && port == on,
            (Asked::Unix { path }, Came::Unix { path: at }) => path == at,
            (Asked::Agent, Came::Agent) | (Asked::X11 { .. }, Came::X11 { .. }) => true,
            (Asked::Tcp { .. } | Asked::Unix { .. } | Asked::Agent | Asked::X11 { .. }, _) => false,
        }
    }

    /// Listens in the same place: what a cancel names.
    fn same_place(&self, other: &Asked) -> bool {
        match (self, other) {
            (
                Asked::Tcp { host, port, .. },
                Asked::Tcp {
                    host: there, port: on, ..
                },
            ) => host == there && port == on,
            (Asked::Tcp { .. } | Asked::Unix { .. } | Asked::Agent | Asked::X11 { .. }, _) => self == other,
        }
    }

    /// The same port, whatever the target calls the address: RFC 4254 section
    /// 7.2 lets it name the one that was connected to.
    fn nearly(&self, came: &Came) -> bool {
        matches!((self, came), (Asked::Tcp { port, .. }, Came::Tcp { port: on, .. }) if port == on)
    }
}

/// The doors of one target connection. Cheap to clone.
#[derive(Clone, Default)]
pub struct Doors(Arc<Inner>);

#[derive(Default)]
struct Inner {
    live: OnceLock<Weak<Live>>,
    state: Mutex<State>,
    answered: Notify,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    asking: usize,
    refused: u32,
}

/// A question whose answer is on its way.
pub struct Asking(Doors);

impl Doors {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that the connection belongs to; the first one counts.
    pub fn belong_to(&self, live: &Arc<Live>) {
        self.0.live.get_or_init(|| Arc::downgrade(live));
    }

    pub fn live(&self) -> Option<Arc<Live>> {
        self.0.live.get()?.upgrade()
    }

    /// Announces a question; nothing when there are too many.
    pub fn ask(&self) -> Option<Asking> {
        let mut state = self.lock();
        if state.asked.len().saturating_add(state.asking) >= ASKED_MAX {
            return None;
        }
        state.asking += 1;
        Some(Asking(self.clone()))
    }

    /// The target agreed to something.
    pub fn open(&self, asked: Asked) {
        let mut state = self.lock();
        if state.asked.len() < ASKED_MAX && !state.asked.contains(&asked) {
            state.asked.push(asked);
        }
        drop(state);
        self.0.answered.notify_waiters();
    }

    /// Nobody wants it any more; whether somebody did.
    pub fn close(&self, asked: &Asked) -> bool {
        let mut state = self.lock();
        let before = state.asked.len();
        state.asked.retain(|one| !one.same_place(asked));
        state.asked.len() < before
    }

    /// What was asked for that `came` answers. A single X11 connection is
    /// answered once.
    pub async fn find(&self, came: &Came, kill: &Kill) -> Option<Asked> {
        let search = async {
            loop {
                let answered = self.0.answered.notified();
                tokio::pin!(answered);
                answered.as_mut().enable();
                {
                    let mut state = self.lock();
                    let asked = &mut state.asked;
                    let found = asked.iter().position(|one| one.exactly(came)).or_else(|| {
                        let near: Vec<usize> = (0..asked.len())
                            .filter(|at| asked.get(*at).is_some_and(|one| one.nearly(came)))
                            .collect();
                        match near.as_slice() {
                            [only] => Some(*only),
                            _ => None,
                        }
                    });
                    if let Some(found) = found.and_then(|at| asked.get(at)).cloned() {
                        if found == (Asked::X11 { single: true }) {
                            asked.retain(|one| *one != found);
                        }
                        return Some(found);
                    }
                    if state.asking == 0 {
                        return None;
                    }
                }
                answered.await;
            }
        };
        kill.guard(tokio::time::timeout(ANSWER_WAIT, search)).await?.ok()?
    }

    /// Counts a channel that nobody asked for; how many there were.
    pub fn count_refused(&self) -> u32 {
        let mut state = self.lock();
        state.refused = state.refused.saturating_add(1);
        state.refused
    }
}

impl Asking {
    /// The target said yes.
    pub fn answered(self, asked: Asked) {
        self.0.open(asked);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.asking = state.asking.saturating_sub(1);
        drop(state);
        self.0.0.answered.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u32) -> Came {
        Came::Tcp {
            host: host.into(),
            port,
            origin: ("10.0.0.1".into(), 1),
        }
    }

    fn at(host: &str, port: u32) -> Asked {
        Asked::Tcp {
            host: host.into(),
            wanted: 0,
            port,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_asked_for_comes_in() {
        let (doors, kill) = (Doors::default(), Kill::new());
        let x11 = Came::X11 {
            origin: (String::new(), 0),
        };
        for came in [tcp("localhost", 80), Came::Agent, x11.clone()] {
            assert_eq!(doors.find(&came, &kill).await, None);
        }
        doors.open(at("localhost", 80));
        doors.open(Asked::X11 { single: true });
        assert_eq!(
            doors.find(&tcp("localhost", 80), &kill).await,
            Some(at("localhost", 80))
        );
        // Told by its address instead of the name.
        assert_eq!(
            doors.find(&tcp("127.0.0.1", 80), &kill).await,
            Some(at("localhost", 80))
        );
        assert_eq!(doors.find(&tcp("localhost", 81), &kill).await, None);
        assert_eq!(doors.find(&Came::Agent, &kill).await, None);
        doors.open(at("10.0.0.9", 80));
        assert_eq!(
            doors.find(&tcp("127.0.0.1", 80), &kill).await,
            None,
            "which of the two?"
        );
        assert_eq!(doors.find(&tcp("10.0.0.9", 80), &kill).await, Some(at("10.0.0.9", 80)));

        assert!(doors.find(&x11, &kill).await.is_some());
        assert_eq!(doors.find(&x11, &kill).await, None, "one connection only");
        assert!(doors.close(&at("localhost", 80)));
        assert!(!doors.close(&at("localhost", 80)));
        assert!(doors.close(&at("10.0.0.9", 80)));
        assert_eq!(doors.find(&tcp("localhost", 80), &kill).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_right_behind_the_answer_waits_for_it() {
        let (doors, kill) = (Doors::default(), Kill::new());
        let asking = doors.ask().unwrap();
        let came = tcp("", 4711);
        let (found, ()) = tokio::join!(doors.find(&came, &kill), async {
            tokio::task::yield_now().await;
            asking.answered(at("", 4711));
        });
        assert_eq!(found, Some(at("", 4711)));
        let asking = doors.ask().unwrap();
        let came = tcp("", 4712);
        let (found, ()) = tokio::join!(doors.find(&came, &kill), async {
            tokio::task::yield_now().await;
            drop(asking);
        });
        assert_eq!(found, None);
    }

    #[test]
    fn questions_are_bounded() {
        let doors = Doors::default();
        for port in 0..ASKED_MAX as u32 - 1 {
            doors.open(at("", port));
        }
        let one = doors.ask();
        assert!(one.is_some());
        assert!(doors.ask().is_none());
        drop(one);
        assert!(doors.ask().is_some());
    }
}
