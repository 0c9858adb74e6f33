//! How many connections a door has at a time, and which one gives way when
//! somebody comes and all places are taken: one on which nothing is asked, of
//! whoever has most of them. So nobody keeps others out by holding connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id};

/// Connections of one door at the same time; more wait in its backlog.
pub const SEATS_MAX: usize = 128;
/// Of these, most for one network: one address, or an IPv6 network of 64 bits.
pub const NETWORK_SEATS_MAX: usize = 32;

/// The connections of one door, oldest first.
#[derive(Default)]
pub struct Room {
    seats: Vec<Seat>,
    freed: Arc<Notify>,
}

struct Seat {
    task: Id,
    /// None at the server's own socket, where callers are trusted.
    network: Option<IpAddr>,
    desk: Desk,
    abort: AbortHandle,
}

/// Whether a connection has a call that is being answered.
#[derive(Clone)]
pub struct Desk {
    busy: Arc<AtomicBool>,
    freed: Arc<Notify>,
}

/// Held while a call is answered.
pub struct Working(Desk);

impl Desk {
    /// HTTP/1 answers one call of a connection after the other.
    pub fn work(&self) -> Working {
        self.busy.store(true, Ordering::SeqCst);
        Working(self.clone())
    }

    fn idle(&self) -> bool {
        !self.busy.load(Ordering::SeqCst)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::SeqCst);
        self.0.freed.notify_one();
    }
}

impl Room {
    /// For a connection that is about to sit down.
    pub fn desk(&self) -> Desk {
        Desk {
            busy: Arc::default(),
            freed: self.freed.clone(),
        }
    }

    /// Whether nobody could sit down now, whoever it is.
    pub fn is_packed(&self) -> bool {
        self.seats.len() >= SEATS_MAX && !self.seats.iter().any(|seat| seat.desk.idle())
    }

    /// Resolves when a call was answered.
    pub fn freed(&self) -> impl Future<Output = ()> + Send + 'static {
        let freed = self.freed.clone();
        async move { freed.notified().await }
    }

    /// Makes a place for somebody from `network`; false: there is none.
    pub fn make_place(&mut self, network: Option<IpAddr>) -> bool {
        let own = self.seats.iter().filter(|seat| seat.network == network).count();
        let whose = if network.is_some() && own >= NETWORK_SEATS_MAX {
            Some(network)
        } else if self.seats.len() >= SEATS_MAX {
            self.most_idle()
        } else {
            return true;
        };
        let gives_way = |seat: &Seat| Some(seat.network) == whose && seat.desk.idle();
        match self.seats.iter().position(gives_way) {
            None => false,
            Some(at) => {
                self.seats.remove(at).abort.abort();
                true
            }
        }
    }

    fn most_idle(&self) -> Option<Option<IpAddr>> {
        let mut idle: BTreeMap<Option<IpAddr>, usize> = BTreeMap::new();
        for seat in self.seats.iter().filter(|seat| seat.desk.idle()) {
            let count = idle.entry(seat.network).or_default();
            *count = count.saturating_add(1);
        }
        idle.into_iter()
            .max_by_key(|(_, count)| *count)
            .map(|(network, _)| network)
    }

    /// It sits down; [`Room::make_place`] said that it may.
    pub fn sit(&mut self, network: Option<IpAddr>, desk: Desk, abort: AbortHandle) {
        let task = abort.id();
        self.seats.push(Seat {
            task,
            network,
            desk,
            abort,
        });
    }

    /// It has ended; one that gave way is gone already.
    pub fn leave(&mut self, task: Id) {
        self.seats.retain(|seat| seat.task != task);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sit(room: &mut Room, network: &str) -> (Desk, AbortHandle) {
        let network = Some(network.parse().unwrap());
        assert!(room.make_place(network));
        let desk = room.desk();
        let abort = tokio::spawn(std::future::pending::<()>()).abort_handle();
        room.sit(network, desk.clone(), abort.clone());
        (desk, abort)
    }

    #[tokio::test]
    async fn one_network_pushes_out_itself_alone() {
        let mut room = Room::default();
        let (_, other) = sit(&mut room, "192.0.2.9");
        let many: Vec<_> = (0..3 * NETWORK_SEATS_MAX)
            .map(|_| sit(&mut room, "192.0.2.1"))
            .collect();
        assert_eq!(room.seats.len(), NETWORK_SEATS_MAX + 1);
        tokio::task::yield_now().await;
        assert!(!other.is_finished());
        assert!(many.first().unwrap().1.is_finished(), "the oldest one gave way");
        assert!(!many.last().unwrap().1.is_finished());
    }

    #[tokio::test]
    async fn who_is_at_work_keeps_its_place() {
        let mut room = Room::default();
        let network = Some("192.0.2.1".parse().unwrap());
        let all: Vec<_> = (0..NETWORK_SEATS_MAX).map(|_| sit(&mut room, "192.0.2.1").0).collect();
        let mut working: Vec<Working> = all.iter().map(Desk::work).collect();
        assert!(!room.make_place(network));
        assert!(room.make_place(Some("192.0.2.2".parse().unwrap())));
        working.pop();
        assert!(room.make_place(network));
    }

    #[tokio::test]
    async fn a_full_room_takes_from_who_has_most() {
        let mut room = Room::default();
        let (_, single) = sit(&mut room, "192.0.2.200");
        for number in 0..SEATS_MAX - 1 {
            sit(&mut room, &format!("198.51.100.{}", number / NETWORK_SEATS_MAX));
        }
        assert_eq!(room.seats.len(), SEATS_MAX);
        assert!(room.make_place(Some("203.0.113.1".parse().unwrap())));
        assert_eq!(room.seats.len(), SEATS_MAX - 1);
        tokio::task::yield_now().await;
        assert!(!single.is_finished());
        assert!(!room.is_packed());
    }
}
