//! SFTP packets out of a stream that is cut anywhere
//! (draft-ietf-secsh-filexfer-02 section 3).
//!
//! A packet is held until it is whole, but for those that carry a file's
//! bytes or a folder's names: of these only the head is held, and the bytes
//! pass by.

use super::packet::kind;

/// Longest packet, in bytes: OpenSSH's SFTP_MAX_MSG_LENGTH.
const PACKET_BYTES_MAX: usize = 256 * 1024;
/// Longest packet with a file's bytes: asyncssh agrees with itself on this.
const DATA_PACKET_BYTES_MAX: usize = 4 * 1024 * 1024 + 1024;
/// Longest handle of a file, in bytes (section 6.2).
pub const HANDLE_BYTES_MAX: usize = 256;
/// Memory that is kept between packets, in bytes.
const KEPT_BYTES: usize = 4 * 1024;
/// The length in front of a packet, in bytes.
const LENGTH_BYTES: usize = 4;
/// The same with the kind and the request's number.
const HEAD_BYTES: usize = LENGTH_BYTES + 1 + 4;
/// An offset in a file and the length of the bytes for it.
const OFFSET_BYTES: usize = 8;
const COUNT_BYTES: usize = 4;

/// What the stream gives next.
#[derive(Debug)]
pub enum Step<'i> {
    /// All of it is read; more is to come.
    Hungry,
    /// A packet, or the head of one whose bytes follow: see [`Frames::packet`].
    Packet,
    /// Bytes of the file.
    Data(&'i [u8]),
    /// The end of such bytes, also where there were none.
    DataEnd,
    /// What stands behind them in the packet, and says nothing.
    Passed(&'i [u8]),
}

/// Why it is no SFTP.
pub type Malformed = &'static str;

#[derive(Clone, Copy, Debug, Default)]
enum Rest {
    #[default]
    Head,
    /// The packet in the buffer was given.
    Given,
    Data {
        left: usize,
        skip: usize,
    },
    Skip {
        left: usize,
    },
}

enum Wanted {
    /// So many bytes of the packet, its length included.
    Bytes(usize),
    Whole,
    /// It is a head before `data` bytes of a file and `skip` others.
    Head {
        data: usize,
        skip: usize,
    },
}

/// One direction of one channel.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    rest: Rest,
}

impl Frames {
    /// The packet that the last step gave, from its kind on.
    pub fn packet(&self) -> &[u8] {
        self.buffer.get(LENGTH_BYTES..).unwrap_or_default()
    }

    /// The same from its length on, as it came.
    pub fn raw(&self) -> &[u8] {
        &self.buffer
    }

    /// Bytes of a packet that is not whole and was not given.
    pub fn held(&self) -> usize {
        match self.rest {
            Rest::Head => self.buffer.len(),
            Rest::Given | Rest::Data { .. } | Rest::Skip { .. } => 0,
        }
    }

    /// Reads on; `input` is what is left of the bytes that came.
    ///
    /// # Errors
    /// Once it cannot be SFTP; nothing is to be read after that.
    pub fn step<'i>(&mut self, input: &mut &'i [u8]) -> Result<Step<'i>, Malformed> {
        loop {
            match self.rest {
                Rest::Given => {
                    self.buffer.clear();
                    self.buffer.shrink_to(KEPT_BYTES);
                    self.rest = Rest::Head;
                }
                Rest::Data { left: 0, skip } => {
                    self.rest = Rest::Skip { left: skip };
                    return Ok(Step::DataEnd);
                }
                Rest::Data { left, skip } => {
                    let data = cut(input, left);
                    if data.is_empty() {
                        return Ok(Step::Hungry);
                    }
                    self.rest = Rest::Data {
                        left: left - data.len(),
                        skip,
                    };
                    return Ok(Step::Data(data));
                }
                Rest::Skip { left: 0 } => self.rest = Rest::Given,
                Rest::Skip { left } => {
                    let skipped = cut(input, left);
                    if skipped.is_empty() {
                        return Ok(Step::Hungry);
                    }
                    self.rest = Rest::Skip {
                        left: left - skipped.len(),
                    };
                    return Ok(Step::Passed(skipped));
                }
                Rest::Head => match wanted(&self.buffer)? {
                    Wanted::Bytes(bytes) => {
                        let some = cut(input, bytes.saturating_sub(self.buffer.len()));
                        if some.is_empty() {
                            return Ok(Step::Hungry);
                        }
                        self.buffer.extend_from_slice(some);
                    }
                    Wanted::Whole => {
                        self.rest = Rest::Given;
                        return Ok(Step::Packet);
                    }
                    Wanted::Head { data, skip } => {
                        self.rest = Rest::Data { left: data, skip };
                        return Ok(Step::Packet);
                    }
                },
            }
        }
    }
}

/// The first bytes of `input`, at most so many; they are taken off it.
fn cut<'i>(input: &mut &'i [u8], most: usize) -> &'i [u8] {
    let (first, rest) = input.split_at_checked(most).unwrap_or((input, &[]));
    *input = rest;
    first
}

/// What is missing of the packet whose beginning this is.
fn wanted(packet: &[u8]) -> Result<Wanted, Malformed> {
    let Some(length) = number(packet, 0) else {
        return Ok(Wanted::Bytes(LENGTH_BYTES));
    };
    let Some(&kind) = packet.get(LENGTH_BYTES) else {
        return match length {
            0 => Err("a packet without a kind"),
            _ => Ok(Wanted::Bytes(LENGTH_BYTES + 1)),
        };
    };
    let whole = LENGTH_BYTES.saturating_add(length);
    let carries = [kind::WRITE, kind::DATA, kind::NAME].contains(&kind);
    let most = match carries {
        true => DATA_PACKET_BYTES_MAX,
        false => PACKET_BYTES_MAX,
    };
    if length > most {
        return Err("a packet longer than any");
    }
    if !carries {
        return Ok(match packet.len() < whole {
            true => Wanted::Bytes(whole),
            false => Wanted::Whole,
        });
    }
    let more = |head: usize| match head <= whole {
        true => Ok(Wanted::Bytes(head)),
        false => Err("a packet that ends too early"),
    };
    let mut head = HEAD_BYTES;
    if kind == kind::WRITE {
        let Some(handle) = number(packet, HEAD_BYTES) else {
            return more(HEAD_BYTES + COUNT_BYTES);
        };
        if handle > HANDLE_BYTES_MAX {
            return Err("a handle longer than any");
        }
        head = HEAD_BYTES + COUNT_BYTES + handle + OFFSET_BYTES;
    }
    let data = match kind == kind::NAME {
        true => 0,
        false => {
            let Some(data) = number(packet, head) else {
                return more(head + COUNT_BYTES);
            };
            head += COUNT_BYTES;
            data
        }
    };
    if packet.len() < head {
        return more(head);
    }
    match whole.checked_sub(head).and_then(|rest| rest.checked_sub(data)) {
        Some(skip) => Ok(Wanted::Head { data, skip }),
        None => Err("a packet that ends too early"),
    }
}

/// The big-endian number at an offset, if it is there.
fn number(packet: &[u8], at: usize) -> Option<usize> {
    let bytes = packet.get(at..)?.first_chunk::<4>()?;
    usize::try_from(u32::from_be_bytes(*bytes)).ok()
}
