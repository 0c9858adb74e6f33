//! Connections that have not logged in yet: so many, and fairly shared.
//!
//! A full room turns nobody away. The oldest connection of the source that has
//! most of them makes way, so that silent connections, however many and from
//! wherever, hold up only each other; a login takes milliseconds and is gone
//! before it is the oldest.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::gated::Kill;
use super::penalties::network;

/// How many a source has, its oldest, and which it is. The last makes way first.
type Rank = (usize, Reverse<u64>, IpAddr);

#[derive(Default)]
struct State {
    /// Oldest first.
    sources: HashMap<IpAddr, BTreeMap<u64, Kill>>,
    /// The same by how many they have; among equals by who has waited longest.
    busiest: BTreeSet<Rank>,
    inside: usize,
    next: u64,
}

/// Those who are at the door. Cheap to clone.
#[derive(Clone)]
pub struct Anteroom {
    state: Arc<Mutex<State>>,
    places: usize,
}

/// A place in it, until it is dropped.
pub struct Place {
    room: Anteroom,
    source: IpAddr,
    id: u64,
}

impl Anteroom {
    /// A room with so many places; at least one.
    pub fn new(places: usize) -> Anteroom {
        Anteroom {
            state: Arc::default(),
            places: places.max(1),
        }
    }

    /// Lets a connection in; who makes way for it, if somebody must: his
    /// switch is fired.
    pub fn enter(&self, source: IpAddr, kill: Kill) -> (Place, Option<IpAddr>) {
        let source = network(source);
        let mut state = self.lock();
        let out = if state.inside >= self.places {
            state.oldest_of_the_busiest()
        } else {
            None
        };
        let gone = out.and_then(|(busiest, id)| {
            let kill = state.remove(busiest, id)?;
            Some((busiest, kill))
        });
        let id = state.next;
        state.next = state.next.wrapping_add(1);
        state.insert(source, id, kill);
        drop(state);
        let gone = gone.map(|(busiest, kill)| {
            kill.fire();
            busiest
        });
        let room = self.clone();
        (Place { room, source, id }, gone)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Whether it did not have to make way.
    pub fn holds(&self) -> bool {
        let state = self.room.lock();
        let theirs = state.sources.get(&self.source);
        theirs.is_some_and(|theirs| theirs.contains_key(&self.id))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Who had to make way is out already.
        self.room.lock().remove(self.source, self.id);
    }
}

impl State {
    fn oldest_of_the_busiest(&self) -> Option<(IpAddr, u64)> {
        let (_, Reverse(oldest), source) = self.busiest.last()?;
        Some((*source, *oldest))
    }

    fn rank(&self, source: IpAddr) -> Option<Rank> {
        let theirs = self.sources.get(&source)?;
        let (oldest, _) = theirs.first_key_value()?;
        Some((theirs.len(), Reverse(*oldest), source))
    }

    /// Changes what a source has, and its rank with it.
    fn change<T>(&mut self, source: IpAddr, change: impl FnOnce(&mut BTreeMap<u64, Kill>) -> T) -> T {
        if let Some(before) = self.rank(source) {
            self.busiest.remove(&before);
        }
        let answer = change(self.sources.entry(source).or_default());
        match self.rank(source) {
            Some(now) => drop(self.busiest.insert(now)),
            None => drop(self.sources.remove(&source)),
        }
        answer
    }

    fn insert(&mut self, source: IpAddr, id: u64, kill: Kill) {
        self.change(source, |theirs| theirs.insert(id, kill));
        self.inside = self.inside.saturating_add(1);
    }

    fn remove(&mut self, source: IpAddr, id: u64) -> Option<Kill> {
        let kill = self.change(source, |theirs| theirs.remove(&id))?;
        self.inside = self.inside.saturating_sub(1);
        Some(kill)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_oldest_of_the_busiest_makes_way() {
        let room = Anteroom::new(4);
        let kills: Vec<Kill> = (0..6).map(|_| Kill::new()).collect();
        let mut places = Vec::new();
        for (at, from) in [(0, 1), (1, 2), (2, 2), (3, 2)] {
            let (place, gone) = room.enter(source(from), kills[at].clone());
            assert_eq!(gone, None);
            places.push(place);
        }
        let (_fourth, gone) = room.enter(source(3), kills[4].clone());
        assert_eq!(gone, Some(source(2)));
        assert!(kills[1].fired(), "its oldest");
        assert!(!places[1].holds() && places[2].holds());
        assert!([0, 2, 3, 4].iter().all(|at| !kills[*at].fired()));
        // Who leaves makes room; the place of one that was thrown out does not count twice.
        drop(places);
        let state = room.lock();
        assert_eq!((state.inside, state.sources.len(), state.busiest.len()), (1, 1, 1));
    }

    #[test]
    fn one_source_alone_displaces_itself() {
        let room = Anteroom::new(2);
        let kills: Vec<Kill> = (0..100).map(|_| Kill::new()).collect();
        let places: Vec<Place> = kills.iter().map(|kill| room.enter(source(1), kill.clone()).0).collect();
        assert_eq!(kills.iter().filter(|kill| !kill.fired()).count(), 2);
        assert!(!kills[98].fired() && !kills[99].fired());
        drop(places);
        let state = room.lock();
        assert_eq!((state.inside, state.sources.len(), state.busiest.len()), (0, 0, 0));
    }

    #[test]
    fn among_equals_the_oldest_makes_way_whatever_its_address() {
        let room = Anteroom::new(3);
        let mut places = Vec::new();
        let mut gone = Vec::new();
        for last in [9, 1, 5, 2, 8, 3] {
            let (place, out) = room.enter(source(last), Kill::new());
            places.push(place);
            gone.extend(out);
        }
        assert_eq!(gone, [source(9), source(1), source(5)]);
    }

    #[test]
    fn networks_of_ipv6_count_as_one() {
        let room = Anteroom::new(2);
        let (old, young, other) = (Kill::new(), Kill::new(), Kill::new());
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let _first = room.enter(at("2001:db8::1"), old.clone());
        let _second = room.enter(at("2001:db8::2"), young.clone());
        let (_third, gone) = room.enter(source(1), other.clone());
        assert_eq!(gone, Some(at("2001:db8::")));
        assert!(old.fired() && !young.fired() && !other.fired());
    }
}
