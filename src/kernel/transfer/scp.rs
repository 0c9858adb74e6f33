//! Follows the old scp protocol over exec, as OpenSSH's scp.c speaks it: one
//! side sends records (`T` times, `C` file, `D` folder, `E` its end) and
//! bytes, the other answers each with a 0, or with 1 or 2 and a line.

use std::collections::VecDeque;

use super::flow::Flow;
use super::pool::Pool;
use super::{Content, Deed, Outcome, PATH_BYTES_MAX, Told, Unknown, Way, What, clipped, words};

/// Longest record or line of an answer, in bytes: a mode, a size and a path.
const LINE_BYTES_MAX: usize = PATH_BYTES_MAX + 64;
/// Folders within folders.
const FOLDERS_MAX: usize = 256;
/// Answers that a sender may be ahead of.
const AHEAD_MAX: usize = 16;

/// What the receiving side is to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Awaited {
    /// It is there.
    Ready,
    /// Times, a folder's end.
    Record,
    Folder,
    /// A file's record: its bytes follow a yes.
    File,
    /// A file's bytes.
    Content,
}

/// A file between its record and the last answer to it.
#[derive(Debug)]
struct Moving {
    name: Vec<u8>,
    size: u64,
    flow: Flow,
    began_ms: u64,
    /// What the sender said behind the bytes, if it was no 0.
    sender: Option<String>,
}

#[derive(Debug, Default)]
enum Sender {
    /// Within a record.
    #[default]
    Record,
    /// Its record waits for a yes.
    Asking,
    Bytes {
        left: u64,
    },
    /// The 0 behind the bytes.
    Mark,
    /// The line behind a 1 in its place.
    Line,
}

/// One scp channel.
#[derive(Debug)]
pub struct Scp {
    /// Which way the files go.
    way: Way,
    path: Vec<u8>,
    sender: Sender,
    record: Vec<u8>,
    folders: Vec<Vec<u8>>,
    moving: Option<Moving>,
    /// Folders that are being made.
    making: VecDeque<Deed>,
    awaited: VecDeque<Awaited>,
    answer: Vec<u8>,
    lost: bool,
    pub(super) pool: Pool,
}

type Lost = &'static str;

impl Scp {
    /// Files go this way, to or from that path.
    pub fn new(way: Way, path: Vec<u8>) -> Scp {
        Scp {
            way,
            path,
            sender: Sender::Record,
            record: Vec::new(),
            folders: Vec::new(),
            moving: None,
            making: VecDeque::new(),
            awaited: VecDeque::from([Awaited::Ready]),
            answer: Vec::new(),
            lost: false,
            pool: Pool::default(),
        }
    }

    /// Takes bytes of one direction.
    pub fn saw(&mut self, at_ms: u64, way: Way, mut bytes: &[u8], told: &mut Vec<Told>) {
        while !self.lost && !bytes.is_empty() {
            let done = match way == self.way {
                true => self.sent(at_ms, &mut bytes, told),
                false => self.answered(&mut bytes, told),
            };
            if let Err(why) = done {
                self.lose(why, told);
            }
        }
    }

    /// It is not followed from here on.
    pub fn lose(&mut self, why: Lost, told: &mut Vec<Told>) {
        self.lost = true;
        self.give_up(Unknown::Lost, told);
        told.push(Told::Lost(why));
    }

    /// Whether it is not followed any more.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// The channel's end.
    pub fn end(&mut self, told: &mut Vec<Told>) {
        self.give_up(Unknown::LeftOpen, told);
    }

    fn give_up(&mut self, why: Unknown, told: &mut Vec<Told>) {
        let made = self.making.drain(..).filter(|_| self.way == Way::Up);
        told.extend(made.map(Told::Deed));
        if let Some(moving) = self.moving.take() {
            told.push(self.told(moving, Outcome::Unfinished, Some(why)));
        }
    }

    /// Reads what the sending side sends.
    fn sent(&mut self, at_ms: u64, bytes: &mut &[u8], told: &mut Vec<Told>) -> Result<(), Lost> {
        match &mut self.sender {
            Sender::Record => {
                if let Some(line) = line(bytes, &mut self.record)? {
                    self.recorded(at_ms, &line, told)?;
                }
            }
            // Some send before they have the yes; if a no comes, nobody can
            // tell what the other side takes the bytes for.
            Sender::Asking => self.begin_bytes(),
            Sender::Bytes { left } => {
                let most = usize::try_from(*left).unwrap_or(usize::MAX);
                let (first, rest) = bytes.split_at_checked(most).unwrap_or((bytes, &[]));
                *bytes = rest;
                *left = left.saturating_sub(first.len() as u64);
                if *left == 0 {
                    self.sender = Sender::Mark;
                }
                if let Some(moving) = &mut self.moving {
                    let at = moving.flow.end();
                    moving.flow.take(at, first, &mut self.pool);
                }
            }
            Sender::Mark => {
                let Some((&mark, rest)) = bytes.split_first() else {
                    return Ok(());
                };
                *bytes = rest;
                self.sender = match mark {
                    0 => self.ended(None)?,
                    1 | 2 => Sender::Line,
                    _ => return Err("bytes behind a file that are no end of it"),
                };
            }
            Sender::Line => {
                if let Some(line) = line(bytes, &mut self.record)? {
                    self.sender = self.ended(Some(words(&line)))?;
                }
            }
        }
        Ok(())
    }

    fn begin_bytes(&mut self) {
        self.sender = match self.moving.as_ref().map_or(0, |moving| moving.size) {
            0 => Sender::Mark,
            left => Sender::Bytes { left },
        };
    }

    /// All of a file was sent.
    fn ended(&mut self, sender: Option<String>) -> Result<Sender, Lost> {
        if let Some(moving) = &mut self.moving {
            moving.sender = sender;
        }
        self.wait_for(Awaited::Content)?;
        Ok(Sender::Record)
    }

    fn wait_for(&mut self, awaited: Awaited) -> Result<(), Lost> {
        if self.awaited.len() >= AHEAD_MAX {
            return Err("a sender that waits for no answer");
        }
        self.awaited.push_back(awaited);
        Ok(())
    }

    /// Takes one record of the sender.
    fn recorded(&mut self, at_ms: u64, record: &[u8], told: &mut Vec<Told>) -> Result<(), Lost> {
        let Some((&kind, rest)) = record.split_first() else {
            return Err("an empty record");
        };
        match kind {
            b'T' if rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ') => self.wait_for(Awaited::Record),
            b'T' => Err("times that cannot be read"),
            b'C' => {
                if self.moving.is_some() {
                    return Err("a file before the one before it is answered");
                }
                let (size, name) = sized(rest).ok_or("a file's record that cannot be read")?;
                self.moving = Some(Moving {
                    name: self.below(name)?,
                    size,
                    flow: Flow::default(),
                    began_ms: at_ms,
                    sender: None,
                });
                self.sender = Sender::Asking;
                self.wait_for(Awaited::File)
            }
            b'D' => {
                let (_, name) = sized(rest).ok_or("a folder's record that cannot be read")?;
                if self.folders.len() >= FOLDERS_MAX {
                    return Err("more folders within folders than are followed");
                }
                self.below(name)?;
                self.folders.push(name.to_vec());
                self.wait_for(Awaited::Folder)?;
                self.making.push_back(Deed {
                    what: What::MakeDir,
                    path: self.path.clone(),
                    other: self.below(b"")?,
                    outcome: Outcome::Unfinished,
                    began_ms: at_ms,
                    content: None,
                });
                Ok(())
            }
            b'E' if rest.is_empty() => {
                self.folders.pop();
                self.wait_for(Awaited::Record)
            }
            // What it could not read or find; nothing is answered.
            1 | 2 => {
                told.push(Told::Deed(Deed {
                    what: self.what(),
                    path: self.path.clone(),
                    other: self.below(b"")?,
                    outcome: Outcome::Failed(words(rest)),
                    began_ms: at_ms,
                    content: Some(Content::none(Unknown::NotOpened)),
                }));
                Ok(())
            }
            _ => Err("a record of no known kind"),
        }
    }

    /// Reads what the receiving side answers.
    fn answered(&mut self, bytes: &mut &[u8], told: &mut Vec<Told>) -> Result<(), Lost> {
        let refused = match (self.answer.first(), bytes.split_first()) {
            (None, Some((0, rest))) => {
                *bytes = rest;
                None
            }
            (Some(1 | 2), _) | (None, Some((1 | 2, _))) => match line(bytes, &mut self.answer)? {
                Some(line) => Some(words(line.get(1..).unwrap_or_default())),
                None => return Ok(()),
            },
            _ => return Err("an answer of no known kind"),
        };
        match (self.awaited.pop_front(), refused) {
            (Some(Awaited::File), None) => {
                if let Sender::Asking = self.sender {
                    self.begin_bytes();
                }
            }
            (Some(Awaited::File), Some(why)) => {
                let Sender::Asking = self.sender else {
                    return Err("bytes of a file that was refused");
                };
                self.sender = Sender::Record;
                if let Some(moving) = self.moving.take() {
                    told.push(self.told(moving, Outcome::Failed(why), Some(Unknown::NotOpened)));
                }
            }
            (Some(Awaited::Content), refused) => {
                if let Some(moving) = self.moving.take() {
                    let failed = refused.or_else(|| moving.sender.clone());
                    let why = failed.is_some().then_some(Unknown::PartFailed);
                    let outcome = failed.map_or(Outcome::Done, Outcome::Failed);
                    told.push(self.told(moving, outcome, why));
                }
            }
            (Some(Awaited::Folder), refused) => {
                // Of a download the folder is made on the client's machine.
                let made = self.making.pop_front().filter(|_| self.way == Way::Up);
                if refused.is_some() {
                    // What would have gone into it is passed over.
                    self.folders.pop();
                }
                told.extend(made.map(|deed| {
                    Told::Deed(Deed {
                        outcome: refused.map_or(Outcome::Done, Outcome::Failed),
                        ..deed
                    })
                }));
            }
            (Some(Awaited::Ready | Awaited::Record), _) => {}
            // A receiver that gives up says so unasked.
            (None, Some(_)) => {}
            (None, None) => return Err("an answer that nobody waits for"),
        }
        Ok(())
    }

    fn what(&self) -> What {
        self.way.what()
    }

    /// A name within the folders that were entered. Whether the path is a folder
    /// that it goes into, or its new name, shows nowhere.
    fn below(&self, name: &[u8]) -> Result<Vec<u8>, Lost> {
        let mut all = self.folders.join(&b'/');
        if !all.is_empty() && !name.is_empty() {
            all.push(b'/');
        }
        all.extend_from_slice(name);
        match all.len() <= PATH_BYTES_MAX {
            true => Ok(all),
            false => Err("a path longer than any"),
        }
    }

    fn told(&mut self, mut moving: Moving, outcome: Outcome, why: Option<Unknown>) -> Told {
        let bytes = moving.flow.bytes();
        let finished = moving.flow.finish(&mut self.pool);
        let whole = match why {
            Some(why) => Err(why),
            None => finished.of_first(moving.size).ok_or(Unknown::PartFailed),
        };
        Told::Deed(Deed {
            what: self.what(),
            path: clipped(&self.path),
            other: moving.name,
            outcome,
            began_ms: moving.began_ms,
            content: Some(Content {
                bytes,
                ranges: if whole.is_ok() { Vec::new() } else { finished.ranges },
                whole,
            }),
        })
    }
}

/// Reads up to the end of a line; the line without it once it is there.
fn line(bytes: &mut &[u8], held: &mut Vec<u8>) -> Result<Option<Vec<u8>>, Lost> {
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let most = end.map_or(bytes.len(), |end| end.saturating_add(1));
    if held.len().saturating_add(most) > LINE_BYTES_MAX {
        return Err("a line longer than any");
    }
    let (first, rest) = bytes.split_at_checked(most).unwrap_or((bytes, &[]));
    held.extend_from_slice(first);
    *bytes = rest;
    Ok(end.map(|_| {
        held.pop();
        std::mem::take(held)
    }))
}

/// `MODE SIZE NAME` of a record.
fn sized(rest: &[u8]) -> Option<(u64, &[u8])> {
    let mut parts = rest.splitn(3, |byte| *byte == b' ');
    let mode = parts.next()?;
    if mode.is_empty() || !mode.iter().all(|byte| (b'0'..=b'7').contains(byte)) {
        return None;
    }
    let size = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
    // The receiving side takes a NUL for the name's end.
    let name = parts.next().filter(|name| !name.is_empty() && !name.contains(&0))?;
    Some((size, name))
}

#[cfg(test)]
#[path = "scp_tests.rs"]
mod tests;
