//! Window changes at a bearable rate: a window that is being dragged sends
//! hundreds, a hostile client a hundred thousand a second, and only the last
//! one counts. What is left out neither crosses nor is recorded.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

use super::channel::Up;
use super::enters_queue::data_bytes;
use super::lane::Entry;
use crate::clock::tick;

/// At most one window change in this time.
const EVERY: Duration = Duration::from_millis(20);
/// Bytes and entries that wait behind one that came too soon; more wait in the lane.
const HELD_BYTES_MAX: usize = 64 * 1024;
const HELD_ENTRIES_MAX: usize = 1024;
/// Window changes that wait, and hold back what was typed behind them: so many times [`EVERY`].
const HELD_CHANGES_MAX: usize = 8;

/// Thins the window changes of one channel.
#[derive(Default)]
pub struct Resizes {
    rest: Option<Pin<Box<Sleep>>>,
    /// A window change that came too soon, and what follows it.
    held: VecDeque<Entry<Up>>,
}

fn is_resize(entry: &Entry<Up>) -> bool {
    matches!(entry, Entry::Control(Up::WindowChange { .. }))
}

impl Resizes {
    /// Bytes that have not gone on.
    pub fn held(&self) -> usize {
        self.held.iter().map(data_bytes).sum()
    }

    /// Whether more may be taken out of the lane.
    pub fn has_room(&self) -> bool {
        self.held.len() < HELD_ENTRIES_MAX && self.held() < HELD_BYTES_MAX
    }

    /// Leaves the last of each run of window changes in `batch`, and what comes
    /// before one that is too soon: that waits, and all behind it with it, as a
    /// program asks for the size when it reads what was typed then.
    pub fn thin(&mut self, batch: &mut Vec<Entry<Up>>) {
        if self.held.is_empty() && !batch.iter().any(is_resize) {
            return;
        }
        for entry in batch.drain(..) {
            if is_resize(&entry) && self.held.back().is_some_and(is_resize) {
                self.held.pop_back();
            }
            self.held.push_back(entry);
        }
        let mut too_many = self.held.iter().filter(|entry| is_resize(entry)).count();
        // A newer size is behind them.
        self.held.retain(|entry| {
            let goes = too_many > HELD_CHANGES_MAX && is_resize(entry);
            too_many -= usize::from(goes);
            !goes
        });
        let now = tick();
        while let Some(entry) = self.held.pop_front() {
            if is_resize(&entry) {
                if self.rest.as_ref().is_some_and(|rest| rest.deadline() > now) {
                    self.held.push_front(entry);
                    break;
                }
                self.rest = Some(Box::pin(tokio::time::sleep(EVERY)));
            }
            batch.push(entry);
        }
    }

    /// Resolves when what is held is due; never without any.
    pub async fn due(&mut self) {
        match (self.held.is_empty(), &mut self.rest) {
            (false, Some(rest)) => rest.await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::lane::Stream;
    use super::*;

    fn resize(cols: u32) -> Entry<Up> {
        Entry::Control(Up::WindowChange {
            cols,
            rows: 24,
            px_width: 0,
            px_height: 0,
        })
    }

    fn typed() -> Entry<Up> {
        Entry::Data {
            stream: Stream::Main,
            bytes: Bytes::from_static(b"x"),
        }
    }

    fn cols(batch: &[Entry<Up>]) -> Vec<Option<u32>> {
        let one = |entry: &Entry<Up>| match entry {
            Entry::Control(Up::WindowChange { cols, .. }) => Some(*cols),
            Entry::Control(_) | Entry::Data { .. } => None,
        };
        batch.iter().map(one).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_of_a_run_goes_and_the_next_waits_with_what_follows_it() {
        let mut resizes = Resizes::default();
        let mut batch = vec![Entry::Control(Up::Eof), resize(1), resize(2)];
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [None, Some(2)]);
        // A flood of them is one that waits.
        batch = (0..100).map(resize).collect();
        resizes.thin(&mut batch);
        assert!(batch.is_empty());
        // What is typed behind it stays behind it.
        batch = vec![typed(), resize(100), typed()];
        resizes.thin(&mut batch);
        assert_eq!((batch.len(), resizes.held()), (0, 2));
        resizes.due().await;
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(99), None]);
        batch.clear();
        resizes.due().await;
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(100), None]);
        // Nothing is held: what is typed goes at once.
        batch = vec![typed()];
        resizes.thin(&mut batch);
        assert_eq!((batch.len(), resizes.held()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_types_while_the_window_is_dragged_is_not_left_behind() {
        let mut resizes = Resizes::default();
        let began = tick();
        let mut batch: Vec<_> = (0..500).flat_map(|cols| [resize(cols), typed()]).collect();
        resizes.thin(&mut batch);
        let mut went = std::mem::take(&mut batch);
        while resizes.held() > 0 {
            resizes.due().await;
            resizes.thin(&mut batch);
            went.append(&mut batch);
        }
        assert!(tick() - began <= EVERY * (HELD_CHANGES_MAX as u32 + 1));
        let sizes: Vec<_> = cols(&went).into_iter().flatten().collect();
        assert_eq!((sizes.last(), went.len() - sizes.len()), (Some(&499), 500));
        assert!(sizes.is_sorted());
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_bounded() {
        let mut resizes = Resizes::default();
        let mut batch = vec![resize(1), typed(), resize(2)];
        batch.extend((0..2000).map(|_| typed()));
        resizes.thin(&mut batch);
        assert!(!resizes.has_room());
    }
}
