//! What a client sends over SFTP, cut into what passes and what is asked about
//! first: requests that open a file or change one by its path. Whoever reads or
//! writes an open file was asked when it was opened; how much of it may cross
//! can have a bound.

use super::packet::{self, Request, flag, kind};
use super::wire::{Frames, Malformed, Step};
use super::{What, Wish};

/// SSH_FX_PERMISSION_DENIED (draft-ietf-secsh-filexfer-02 section 7).
pub const PERMISSION_DENIED: u32 = 3;
/// SSH_FX_OP_UNSUPPORTED.
pub const OP_UNSUPPORTED: u32 = 8;
/// Longest sentence of an answer, in bytes.
const SENTENCE_BYTES_MAX: usize = 512;

/// A piece of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'i> {
    Pass(Vec<u8>),
    /// A whole request, and what it would do.
    Ask {
        id: u32,
        packet: Vec<u8>,
        wishes: Vec<Wish>,
    },
    /// A request about an open file, or the head of a write to one.
    Use {
        id: u32,
        head: Vec<u8>,
    },
    /// A request of which nobody knows what it does to files.
    Unknown {
        id: u32,
        packet: Vec<u8>,
    },
    /// What follows the head that came last.
    Body(&'i [u8]),
}

/// The client's side of one channel.
#[derive(Debug, Default)]
pub struct Sieve {
    frames: Frames,
    begun: bool,
}

impl Sieve {
    /// Cuts what came next. What passes is all that came, in order, but for what is held.
    ///
    /// # Errors
    /// Once it cannot be followed: nothing may pass any more then.
    pub fn cut<'i>(&mut self, mut input: &'i [u8]) -> Result<Vec<Cut<'i>>, Malformed> {
        let mut cuts: Vec<Cut<'i>> = Vec::new();
        loop {
            match self.frames.step(&mut input)? {
                Step::Hungry => return Ok(cuts),
                Step::Packet => self.packet(&mut cuts)?,
                Step::Data(bytes) | Step::Passed(bytes) => cuts.push(Cut::Body(bytes)),
                Step::DataEnd => {}
            }
        }
    }

    /// Bytes of a request that is not whole yet: they came and did not pass.
    pub fn held(&self) -> usize {
        self.frames.held()
    }

    fn packet(&mut self, cuts: &mut Vec<Cut<'_>>) -> Result<(), Malformed> {
        let raw = self.frames.raw();
        if !self.begun {
            packet::version(self.frames.packet(), kind::INIT).ok_or("a first packet that is no INIT")?;
            self.begun = true;
            cuts.push(Cut::Pass(raw.to_vec()));
            return Ok(());
        }
        let (id, request) = packet::request(self.frames.packet()).ok_or("a request that cannot be read")?;
        if let Request::Read { .. } | Request::Write { .. } | Request::FSetStat { .. } | Request::Copy { .. } = request
        {
            let head = raw.to_vec();
            cuts.push(Cut::Use { id, head });
            return Ok(());
        }
        if let Request::Unknown | Request::Version = request {
            let packet = raw.to_vec();
            cuts.push(Cut::Unknown { id, packet });
            return Ok(());
        }
        let wishes = wishes(request);
        if !wishes.is_empty() {
            let packet = raw.to_vec();
            cuts.push(Cut::Ask { id, packet, wishes });
            return Ok(());
        }
        match cuts.last_mut() {
            // Small requests go on together.
            Some(Cut::Pass(before)) => before.extend_from_slice(raw),
            Some(Cut::Ask { .. } | Cut::Use { .. } | Cut::Unknown { .. } | Cut::Body(_)) | None => {
                cuts.push(Cut::Pass(raw.to_vec()))
            }
        }
        Ok(())
    }
}

/// What a request would do to files.
fn wishes(request: Request<'_>) -> Vec<Wish> {
    let wish = |what, path: &[u8], other: &[u8]| Wish {
        what,
        path: path.to_vec(),
        other: other.to_vec(),
    };
    match request {
        Request::Open { path, flags, .. } => {
            let writes = flags & !flag::READ != 0;
            let reads = flags & flag::READ != 0 || !writes;
            let both = [(reads, What::Download), (writes, What::Upload)];
            let asked = both.into_iter().filter(|(asked, _)| *asked);
            asked.map(|(_, what)| wish(what, path, b"")).collect()
        }
        Request::SetStat { path, attributes } => {
            vec![wish(What::SetAttributes, path, attributes.in_words().as_bytes())]
        }
        Request::Remove { path } => vec![wish(What::Remove, path, b"")],
        Request::MakeDir { path } => vec![wish(What::MakeDir, path, b"")],
        Request::RemoveDir { path } => vec![wish(What::RemoveDir, path, b"")],
        Request::Rename { from, to } => vec![wish(What::Rename, from, to)],
        Request::Symlink { link, says } => vec![wish(What::Symlink, link, says)],
        Request::Hardlink { from, to } => vec![wish(What::Hardlink, from, to)],
        Request::OpenDir { .. }
        | Request::Close { .. }
        | Request::Read { .. }
        | Request::Write { .. }
        | Request::Stat { .. }
        | Request::FStat { .. }
        | Request::FSetStat { .. }
        | Request::Copy { .. }
        | Request::Other
        | Request::Version
        | Request::Unknown => Vec::new(),
    }
}

/// The answer to a request that is refused: a STATUS of this code with the sentence in it.
pub fn refusal(id: u32, code: u32, sentence: &str) -> Vec<u8> {
    let most = sentence.floor_char_boundary(SENTENCE_BYTES_MAX);
    let said = sentence.get(..most).unwrap_or_default().as_bytes();
    let mut packet = vec![kind::STATUS];
    packet.extend(id.to_be_bytes());
    packet.extend(code.to_be_bytes());
    for text in [said, b"en"] {
        packet.extend(u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
        packet.extend(text);
    }
    let mut whole = u32::try_from(packet.len()).unwrap_or_default().to_be_bytes().to_vec();
    whole.extend(packet);
    whole
}

#[cfg(test)]
mod tests {
    use super::super::model::Packet;
    use super::*;

    /// All that passed, and the ids of what was asked about, in order.
    fn sieved(stream: &[u8], cut: usize) -> (Vec<u8>, Vec<u32>) {
        let (mut sieve, mut passed, mut asked) = (Sieve::default(), Vec::new(), Vec::new());
        for part in stream.chunks(cut) {
            for piece in sieve.cut(part).unwrap() {
                match piece {
                    Cut::Pass(bytes) => passed.extend_from_slice(&bytes),
                    Cut::Ask { id, packet, wishes } => {
                        assert!(!wishes.is_empty());
                        asked.push(id);
                        passed.extend(packet);
                    }
                    Cut::Use { head, .. } => passed.extend(head),
                    Cut::Unknown { id, .. } => panic!("{id} is known"),
                    Cut::Body(bytes) => passed.extend_from_slice(bytes),
                }
            }
        }
        assert_eq!(sieve.held(), 0);
        (passed, asked)
    }

    #[test]
    fn all_passes_in_order_and_what_opens_or_changes_is_asked() {
        let write = |id| Packet::of(kind::WRITE, id).string(b"h").u64(0).string(&[7; 3000]);
        let stream = [
            vec![0, 0, 0, 5, kind::INIT, 0, 0, 0, 3],
            Packet::of(kind::OPEN, 1).string(b"/x").u32(flag::WRITE).u32(0).bytes(),
            write(2).bytes(),
            write(3).u32(99).bytes(),
            Packet::of(kind::READ, 4).string(b"h").u64(0).u32(5).bytes(),
            Packet::of(kind::CLOSE, 5).string(b"h").bytes(),
            Packet::of(kind::RENAME, 6).string(b"/x").string(b"/y").bytes(),
            Packet::of(kind::STAT, 7).string(b"/x").bytes(),
            Packet::of(kind::EXTENDED, 8)
                .string(b"hardlink@openssh.com")
                .string(b"/x")
                .string(b"/z")
                .bytes(),
        ]
        .concat();
        for cut in [1, 2, 7, 100, 5000, stream.len()] {
            let (passed, asked) = sieved(&stream, cut);
            assert!(passed == stream, "cut {cut}");
            assert_eq!(asked, [1, 6, 8]);
        }
    }

    #[test]
    fn a_request_that_nobody_knows_is_told_apart() {
        let extended = |id, name: &[u8]| Packet::of(kind::EXTENDED, id).string(name).string(b"/x").bytes();
        let init = vec![0, 0, 0, 5, kind::INIT, 0, 0, 0, 3];
        // LINK of version 6, and an extension of mod_sftp.
        let link = Packet::of(21, 2).string(b"/x").string(b"/y").bytes();
        let stream = [
            init,
            extended(1, b"copy-file"),
            link,
            extended(3, b"statvfs@openssh.com"),
        ]
        .concat();
        let mut sieve = Sieve::default();
        let cuts = sieve.cut(&stream).unwrap();
        let unknown = cuts.iter().filter_map(|cut| match cut {
            Cut::Unknown { id, .. } => Some(*id),
            Cut::Pass(_) | Cut::Ask { .. } | Cut::Use { .. } | Cut::Body(_) => None,
        });
        assert_eq!(unknown.collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn an_open_is_asked_for_each_way_it_may_go() {
        let open = |flags| {
            let (path, size) = (b"/x", None);
            wishes(Request::Open { path, flags, size })
                .iter()
                .map(|wish| wish.what)
                .collect::<Vec<_>>()
        };
        assert_eq!(open(flag::READ), [What::Download]);
        assert_eq!(open(flag::WRITE), [What::Upload]);
        assert_eq!(open(flag::READ | flag::WRITE), [What::Download, What::Upload]);
        assert_eq!(open(flag::READ | flag::TRUNCATE), [What::Download, What::Upload]);
        assert_eq!(open(0), [What::Download]);
    }

    #[test]
    fn only_a_path_that_goes_down_from_the_root_is_plain() {
        let plain = |path: &[u8], other: &[u8]| {
            let (path, other) = (path.to_vec(), other.to_vec());
            Wish {
                what: What::Rename,
                path,
                other,
            }
            .is_plain()
        };
        assert!(plain(b"/srv/a", b"/b"));
        for path in [
            &b"srv/a"[..],
            b"/srv/../a",
            b"/srv/./a",
            b"//srv",
            b"/srv/",
            b"/\xff",
            b"",
            b"/srv\\..\\a",
            b"/srv/a\0b",
            b"/srv/a\nb",
        ] {
            assert!(!plain(path, b"/b") && !plain(b"/b", path), "{path:?}");
        }
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let refusal = refusal(7, PERMISSION_DENIED, "refused by rule r: not here");
        assert_eq!(packet::answer(&refusal[4..]), Some((7, packet::Answer::Status(3))));
    }

    #[test]
    fn what_cannot_be_read_stops_the_stream() {
        let mut sieve = Sieve::default();
        assert!(sieve.cut(b"\0\0\0\x05\x07\0\0\0\x03").is_err());
    }
}
