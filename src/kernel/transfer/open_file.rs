//! One open file of an SFTP session: what crossed of it each way, and whether
//! that is the whole of it.

use super::flow::{Finished, Flow};
use super::limit::Limit;
use super::packet::{flag, status_words};
use super::pool::Pool;
use super::waiting::Asked;
use super::{Content, Deed, Outcome, RANGES_MAX, Range, Unknown, What};

/// Every server answers a read of a plain file up to this length in full, but
/// at the file's end (draft-ietf-secsh-filexfer-02 section 6.4), in bytes.
pub const FULL_READ_BYTES: u32 = 32 * 1024;

/// A file from the yes to its OPEN until its CLOSE is answered.
#[derive(Debug)]
pub struct OpenFile {
    path: Vec<u8>,
    flags: u32,
    began_ms: u64,
    down: Flow,
    up: Flow,
    /// Requests about it without an answer.
    waiting: u32,
    /// The answer to its CLOSE: a status.
    closed: Option<u32>,
    /// How long it is at the target, as far as that is certain.
    length: Option<u64>,
    /// Requests to cut or stretch it, and the last that was done.
    resizes: u32,
    resized: u32,
    /// Where a read found no more.
    end_seen: Option<u64>,
    /// A read that got less than it could have.
    end_short: Option<u64>,
    /// What the target last said of its length, and how many changes of
    /// whatever file were asked for before it was asked.
    stated: Option<(u64, u64)>,
    /// Why what is written cannot be the whole.
    spoiled: Option<Unknown>,
    read_failed: Option<u32>,
    write_failed: Option<u32>,
    /// How much of it may cross.
    limit: Option<Limit>,
    /// Bytes asked for by reads without an answer.
    reading: u64,
    /// The rule that a part of it was refused by.
    refused: Option<String>,
}

impl OpenFile {
    pub fn new(asked: Asked) -> OpenFile {
        let flags = asked.flags;
        let fresh =
            flags & flag::TRUNCATE != 0 || flags & (flag::CREATE | flag::EXCLUSIVE) == flag::CREATE | flag::EXCLUSIVE;
        // Without WRITE some servers empty it and some do not.
        let fresh = fresh && flags & flag::WRITE != 0;
        OpenFile {
            path: asked.path,
            flags,
            began_ms: asked.at_ms,
            down: Flow::default(),
            up: Flow::default(),
            waiting: 0,
            closed: None,
            // If the target makes it so long, and if not, no shorter upload is the whole.
            length: fresh.then_some(asked.size.unwrap_or_default()),
            resizes: 0,
            resized: 0,
            end_seen: None,
            end_short: None,
            stated: None,
            spoiled: (flags & flag::APPEND != 0).then_some(Unknown::Appended),
            read_failed: None,
            write_failed: None,
            limit: None,
            reading: 0,
            refused: None,
        }
    }

    /// No more of it may cross than this.
    pub fn limit(&mut self, limit: Limit) {
        self.limit = Some(limit);
    }

    /// What may cross of it.
    pub fn limited(&self) -> Option<&Limit> {
        self.limit.as_ref()
    }

    /// A read of `[offset, offset + length)` is asked for; whether more than may would cross by it.
    pub fn reads_over(&mut self, offset: u64, length: u32) -> bool {
        self.reading = self.reading.saturating_add(length.into());
        let (crossed, coming) = (self.down.bytes(), self.reading);
        self.limit
            .as_ref()
            .is_some_and(|limit| limit.ends_reads(crossed, coming, offset.saturating_add(length.into())))
    }

    /// Such a read was answered, or refused.
    pub fn read_over(&mut self, length: u32) {
        self.reading = self.reading.saturating_sub(length.into());
    }

    /// Whether more than may would cross by a write of `[offset, offset + length)`.
    pub fn writes_over(&self, offset: u64, length: u32) -> bool {
        let crossed = self.up.bytes();
        self.limit
            .as_ref()
            .is_some_and(|limit| limit.ends_writes(crossed, offset, length))
    }

    /// A read or a write of it did not go on.
    pub fn refused(&mut self, rule: &str) {
        self.refused.get_or_insert_with(|| rule.to_owned());
    }

    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether its being open may change it: some flags do without WRITE.
    pub fn writes(&self) -> bool {
        self.flags & !flag::READ != 0
    }

    /// Something is asked about it but its CLOSE.
    pub fn asked(&mut self) {
        self.waiting = self.waiting.saturating_add(1);
    }

    /// That was answered.
    pub fn answered(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Bytes of it that go to the client.
    pub fn read(&mut self, offset: u64, bytes: &[u8], pool: &mut Pool) {
        let after = offset.saturating_add(bytes.len() as u64);
        // It has grown since.
        self.end_seen = self.end_seen.filter(|end| after <= *end);
        self.end_short = self.end_short.filter(|end| after <= *end);
        self.down.take(offset, bytes, pool);
    }

    /// Bytes for it that go to the target.
    pub fn write(&mut self, offset: u64, bytes: &[u8], pool: &mut Pool) {
        self.up.take(offset, bytes, pool);
        self.length = self.length.map(|length| length.max(self.up.end()));
    }

    /// A read was answered in full or in part. `full`: the longest read that
    /// this target is known to answer in full, in bytes.
    pub fn got(&mut self, offset: u64, asked: u32, got: u32, full: u32) {
        if got < asked && asked <= full.max(FULL_READ_BYTES) {
            let end = offset.saturating_add(got.into());
            self.end_short = Some(self.end_short.map_or(end, |before| before.min(end)));
        }
    }

    /// A read at `offset` found the end of the file.
    pub fn ended(&mut self, offset: u64) {
        self.end_seen = Some(self.end_seen.map_or(offset, |before| before.min(offset)));
    }

    pub fn read_failed(&mut self, status: u32) {
        self.read_failed = Some(status);
    }

    pub fn write_failed(&mut self, status: u32) {
        self.write_failed = Some(status);
    }

    /// The target said how long the file of this handle is, asked after so many changes.
    pub fn measured(&mut self, length: u64, since: u64) {
        self.stated = Some((length, since));
        self.length = self.length.or(Some(length.max(self.up.end())));
    }

    /// It is to be cut or stretched to a length. The number of this request.
    pub fn resizing(&mut self, length: u64) -> u32 {
        if length < self.up.end() {
            self.spoil(Unknown::CutOff);
        }
        self.resizes = self.resizes.saturating_add(1);
        self.resizes
    }

    /// It was, by the request of this number: of answers that overtake each
    /// other the last request's counts.
    pub fn resized(&mut self, length: u64, number: u32) {
        if number > self.resized {
            self.resized = number;
            self.length = Some(length.max(self.up.end()));
        }
    }

    /// What is written is not the whole, whatever follows. The first reason counts.
    pub fn spoil(&mut self, why: Unknown) {
        self.spoiled.get_or_insert(why);
    }

    /// Its handle was used before it was given: who knows for what.
    pub fn guessed(&mut self) {
        self.spoiled = Some(Unknown::Guessed);
    }

    pub fn closed(&mut self, status: u32) {
        self.closed = Some(status);
    }

    /// Whether nothing more is to come of it.
    pub fn is_over(&self) -> bool {
        self.closed.is_some() && self.waiting == 0
    }

    /// Ranges that are told before it ends, lest they pile up.
    pub fn overfull(&mut self, what: What) -> Vec<Deed> {
        let flow = match what == What::Upload {
            true => &mut self.up,
            false => &mut self.down,
        };
        let mut ranges = flow.overfull();
        let mut deeds = self.continued(what, &mut ranges);
        if !ranges.is_empty() {
            deeds.push(self.part(what, ranges));
        }
        deeds
    }

    /// Takes off what is more than one deed tells.
    fn continued(&self, what: What, ranges: &mut Vec<Range>) -> Vec<Deed> {
        let mut parts: Vec<Vec<Range>> = ranges.chunks(RANGES_MAX).map(<[Range]>::to_vec).collect();
        *ranges = parts.pop().unwrap_or_default();
        parts.into_iter().map(|part| self.part(what, part)).collect()
    }

    fn part(&self, what: What, ranges: Vec<Range>) -> Deed {
        let content = Content {
            bytes: ranges
                .iter()
                .fold(0, |sum: u64, range| sum.saturating_add(range.length)),
            whole: Err(Unknown::Continued),
            ranges,
        };
        self.deed(what, Outcome::Unfinished, content)
    }

    /// All that is told of it. `why_not`: what became of the protocol, where
    /// it is not this file that ended. `changes`: how many were asked for in all.
    pub fn finish(mut self, pool: &mut Pool, why_not: Option<Unknown>, changes: u64) -> Vec<Deed> {
        self.stated = self.stated.filter(|(_, since)| *since == changes);
        let (read, written) = (self.down.bytes(), self.up.bytes());
        let (down, up) = (self.down.finish(pool), self.up.finish(pool));
        let cut_short = why_not.or_else(|| (!self.is_over()).then_some(Unknown::LeftOpen));
        let mut deeds = Vec::new();
        if read > 0 || !self.writes() {
            let whole = self.whole_read(&down, cut_short, written > 0);
            self.side(What::Download, self.read_failed, read, down, whole, &mut deeds);
        }
        if self.writes() {
            let whole = self.whole_written(&up, cut_short);
            self.side(What::Upload, self.write_failed, written, up, whole, &mut deeds);
        }
        deeds
    }

    fn whole_read(&self, down: &Finished, cut_short: Option<Unknown>, written: bool) -> Result<[u8; 32], Unknown> {
        // A read that found the end says more than a length that was stated;
        // an empty file is one only if somebody looked.
        let end = self.end_seen.or(self.end_short);
        let stated = self.stated.map(|(length, _)| length).filter(|length| *length > 0);
        match end.or(stated).and_then(|end| down.of_first(end)) {
            _ if self.read_failed.is_some() || self.refused.is_some() => Err(Unknown::PartFailed),
            _ if self.spoiled == Some(Unknown::Guessed) => Err(Unknown::Guessed),
            _ if written || self.resizes > 0 => Err(Unknown::ChangedMeanwhile),
            Some(whole) if cut_short != Some(Unknown::Lost) => Ok(whole),
            Some(_) | None => Err(cut_short.unwrap_or(match (down.runs, down.starts()) {
                (0, _) => Unknown::NotMoved,
                (_, false) => Unknown::NotFromStart,
                (1, true) => Unknown::EndNotSeen,
                (_, true) => Unknown::InPieces,
            })),
        }
    }

    fn whole_written(&self, up: &Finished, cut_short: Option<Unknown>) -> Result<[u8; 32], Unknown> {
        let closed_well = self.closed.is_none_or(|status| status == 0);
        if self.write_failed.is_some() || self.refused.is_some() || !closed_well {
            return Err(Unknown::PartFailed);
        }
        if let Some(why) = cut_short.or(self.spoiled) {
            return Err(why);
        }
        if up.runs > 1 {
            return Err(Unknown::InPieces);
        }
        if up.runs == 1 && !up.starts() {
            return Err(Unknown::NotFromStart);
        }
        match self.length {
            Some(length) if length == up.end => up.of_first(length).ok_or(Unknown::NotFromStart),
            Some(_) => Err(Unknown::OlderBytes),
            None if up.runs == 0 => Err(Unknown::NotMoved),
            None => Err(Unknown::OlderBytes),
        }
    }

    fn side(
        &self,
        what: What,
        failed: Option<u32>,
        bytes: u64,
        mut finished: Finished,
        whole: Result<[u8; 32], Unknown>,
        deeds: &mut Vec<Deed>,
    ) {
        let close_failed = self.closed.filter(|status| *status != 0);
        let outcome = match (failed.or(close_failed), self.is_over()) {
            _ if self.refused.is_some() => Outcome::Refused(self.refused.clone().unwrap_or_default()),
            (Some(status), _) => Outcome::Failed(status_words(status)),
            (None, true) => Outcome::Done,
            (None, false) => Outcome::Unfinished,
        };
        if whole.is_ok() && finished.runs <= 1 {
            // It says the same.
            finished.ranges.clear();
        }
        deeds.extend(self.continued(what, &mut finished.ranges));
        let content = Content {
            bytes,
            whole,
            ranges: finished.ranges,
        };
        deeds.push(self.deed(what, outcome, content));
    }

    fn deed(&self, what: What, outcome: Outcome, content: Content) -> Deed {
        Deed {
            what,
            path: self.path.clone(),
            other: Vec::new(),
            outcome,
            began_ms: self.began_ms,
            content: Some(content),
        }
    }
}
