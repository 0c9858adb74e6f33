//! Window changes at a bearable rate: a window that is being dragged sends
//! hundreds, a hostile client a hundred thousand a second, and only the last
//! one counts. What is left out neither crosses nor is recorded.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::Sleep;

use super::channel::Up;
use super::lane::Entry;
use crate::clock::tick;

/// At most one window change in this time, when nothing but data comes between.
const EVERY: Duration = Duration::from_millis(20);

/// Thins the window changes of one channel.
pub struct Resizes {
    every: Duration,
    /// Runs since the last one that was passed on.
    rest: Option<Pin<Box<Sleep>>>,
    held: Option<Entry<Up>>,
}

fn is_resize(entry: &Entry<Up>) -> bool {
    matches!(entry, Entry::Control(Up::WindowChange { .. }))
}

impl Default for Resizes {
    fn default() -> Resizes {
        Resizes::every(EVERY)
    }
}

impl Resizes {
    fn every(every: Duration) -> Resizes {
        Resizes {
            every,
            rest: None,
            held: None,
        }
    }

    /// Leaves the last of each run of window changes in `batch`, and holds it
    /// back if it comes too soon. Data between two of them ends no run, and
    /// passes one that is held; what else comes passes none.
    pub fn thin(&mut self, batch: &mut Vec<Entry<Up>>) {
        if self.held.is_none() && !batch.iter().any(is_resize) {
            return;
        }
        let mut kept: Vec<Entry<Up>> = Vec::with_capacity(batch.len());
        let now = tick();
        let mut soon = self.rest.as_ref().is_some_and(|rest| rest.deadline() > now);
        for entry in batch.drain(..) {
            match &entry {
                Entry::Control(Up::WindowChange { .. }) => {
                    self.held = Some(entry);
                    continue;
                }
                Entry::Data { .. } if soon => {}
                Entry::Data { .. } => {
                    soon = self.held.is_some();
                    kept.extend(self.held.take());
                }
                Entry::Control(_) => kept.extend(self.held.take()),
            }
            kept.push(entry);
        }
        if !soon {
            kept.extend(self.held.take());
        }
        if kept.iter().any(is_resize) {
            self.rest = Some(Box::pin(tokio::time::sleep(self.every)));
        }
        *batch = kept;
    }

    /// Resolves when a held one is due; never without one.
    pub async fn due(&mut self) {
        match (&self.held, &mut self.rest) {
            (Some(_), Some(rest)) => rest.await,
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
            rows: 1,
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
            Entry::Data { .. } | Entry::Control(_) => None,
        };
        batch.iter().map(one).collect()
    }

    #[tokio::test]
    async fn the_last_of_a_run_passes_and_order_is_kept() {
        let mut resizes = Resizes::every(Duration::from_secs(1));
        let mut batch = vec![resize(1), resize(2), Entry::Control(Up::Eof), resize(3), resize(4)];
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(2), None, Some(4)]);
        // Too soon: held until it is due, replaced by a later one.
        for number in 5..100 {
            batch = vec![resize(number)];
            resizes.thin(&mut batch);
            assert!(batch.is_empty());
        }
        resizes.due().await;
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(99)]);
        // What is typed passes it.
        batch = vec![resize(100), typed(), resize(101), typed()];
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [None, None]);
        batch.clear();
        resizes.due().await;
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(101)]);
        // Before what else comes after it, however soon.
        batch = vec![resize(100)];
        resizes.thin(&mut batch);
        batch = vec![Entry::Control(Up::Eof)];
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(100), None]);
    }

    #[tokio::test]
    async fn order_with_data_is_kept_where_there_is_time() {
        let mut resizes = Resizes::every(Duration::from_secs(1));
        let mut batch = vec![resize(1), resize(2), typed(), resize(3)];
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(2), None]);
        batch.clear();
        resizes.due().await;
        resizes.thin(&mut batch);
        assert_eq!(cols(&batch), [Some(3)]);
    }
}
