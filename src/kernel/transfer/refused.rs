//! Requests of SFTP that do not go on to the target, and why reads and writes may not.

use super::limit::{Limit, Over};
use super::sftp::Sftp;
use super::waiting::{Waiting, not_open};
use super::{Deed, Outcome, Told};

impl Sftp {
    /// A request that did not go on to the target: what it would have done.
    pub fn refused(&mut self, id: u32, rule: &str, told: &mut Vec<Told>) {
        let Some(waiting) = self.waiting.remove(&id) else {
            return;
        };
        if waiting.is_named() {
            self.waiting_named = self.waiting_named.saturating_sub(1);
        }
        let outcome = Outcome::Refused(rule.to_owned());
        match waiting {
            Waiting::Open { path, flags, at_ms } => told.push(Told::Deed(not_open(path, flags, at_ms, outcome))),
            Waiting::Deed(deed) => told.push(Told::Deed(Deed { outcome, ..deed })),
            Waiting::Read { file, length, .. } => {
                if let Some(open) = self.files.get_mut(&file) {
                    open.read_over(length);
                    open.refused(rule);
                }
                self.answered(file, told);
            }
            Waiting::Write { file, .. } => {
                if let Some(open) = self.files.get_mut(&file) {
                    open.refused(rule);
                }
                self.answered(file, told);
            }
            Waiting::Close { .. }
            | Waiting::FStat { .. }
            | Waiting::Resize { .. }
            | Waiting::Stat { .. }
            | Waiting::OpenDir { .. }
            | Waiting::Stranger
            | Waiting::Nothing => {}
        }
    }

    /// Of the file that this request opens no more may cross than this.
    pub fn limit(&mut self, id: u32, limit: Limit) {
        if let Some(Waiting::Open { .. }) = self.waiting.get(&id) {
            self.limits.insert(id, limit);
        }
    }

    /// Why a read or a write may not go on, if it may not.
    pub fn over(&self, id: u32) -> Option<Over> {
        match self.waiting.get(&id)? {
            Waiting::Read { file, over: true, .. } | Waiting::Write { file, over: true } => {
                let limit = self.files.get(file)?.limited()?;
                Some(Over::Limit(limit.clone()))
            }
            Waiting::Stranger => Some(Over::Stranger),
            Waiting::Read { .. }
            | Waiting::Write { .. }
            | Waiting::Close { .. }
            | Waiting::FStat { .. }
            | Waiting::Resize { .. }
            | Waiting::Stat { .. }
            | Waiting::Open { .. }
            | Waiting::OpenDir { .. }
            | Waiting::Deed(_)
            | Waiting::Nothing => None,
        }
    }
}
