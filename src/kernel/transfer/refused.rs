//! Requests of SFTP that do not go on to the target, and why reads and writes may not.

use super::limit::{Limit, Over};
use super::packet::flag;
use super::sftp::Sftp;
use super::waiting::{Waiting, not_open};
use super::{Deed, Outcome, Told, What, Wish};

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
            Waiting::Open(open) => told.push(Told::Deed(not_open(open, outcome))),
            Waiting::Resize { file, deed, .. } => {
                told.extend(deed.map(|deed| Told::Deed(Deed { outcome, ..deed })));
                self.answered(file, told);
            }
            Waiting::Stranger { deed } => told.extend(deed.map(|deed| Told::Deed(Deed { outcome, ..deed }))),
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
            | Waiting::OpenDir { .. }
            | Waiting::Version
            | Waiting::Nothing => {}
        }
    }

    /// Of the file that this request opens no more may cross than this. Whether
    /// that can be held: where what is appended goes nobody here knows.
    pub fn limit(&mut self, id: u32, limit: Limit) -> bool {
        if let Some(Waiting::Open(open)) = self.waiting.get(&id) {
            if open.flags & flag::APPEND != 0 {
                return false;
            }
            self.limits.insert(id, limit);
        }
        true
    }

    /// Why something by a handle may not go on, if it may not.
    pub fn over(&self, id: u32) -> Option<Over> {
        match self.waiting.get(&id)? {
            Waiting::Read { file, over: true, .. } | Waiting::Write { file, over: true } => {
                let limit = self.files.get(file)?.limited()?;
                Some(Over::Limit(limit.clone()))
            }
            Waiting::Stranger { .. } => Some(Over::Stranger),
            Waiting::Deed(deed) | Waiting::Resize { deed: Some(deed), .. }
                if matches!(deed.what, What::SetAttributes | What::Copy) =>
            {
                Some(Over::Asks(Wish {
                    what: deed.what,
                    path: deed.path.clone(),
                    other: deed.other.clone(),
                }))
            }
            Waiting::Read { .. }
            | Waiting::Write { .. }
            | Waiting::Close { .. }
            | Waiting::FStat { .. }
            | Waiting::Resize { .. }
            | Waiting::Open(_)
            | Waiting::OpenDir { .. }
            | Waiting::Deed(_)
            | Waiting::Version
            | Waiting::Nothing => None,
        }
    }
}
