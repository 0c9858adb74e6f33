//! What an SFTP packet says: draft-ietf-secsh-filexfer-02 sections 4 to 8, with
//! the extensions of OpenSSH's PROTOCOL section 4.

/// Kinds of packets (section 3).
pub mod kind {
    pub const INIT: u8 = 1;
    pub const VERSION: u8 = 2;
    pub const OPEN: u8 = 3;
    pub const CLOSE: u8 = 4;
    pub const READ: u8 = 5;
    pub const WRITE: u8 = 6;
    pub const LSTAT: u8 = 7;
    pub const FSTAT: u8 = 8;
    pub const SETSTAT: u8 = 9;
    pub const FSETSTAT: u8 = 10;
    pub const OPENDIR: u8 = 11;
    pub const READDIR: u8 = 12;
    pub const REMOVE: u8 = 13;
    pub const MKDIR: u8 = 14;
    pub const RMDIR: u8 = 15;
    pub const REALPATH: u8 = 16;
    pub const STAT: u8 = 17;
    pub const RENAME: u8 = 18;
    pub const READLINK: u8 = 19;
    pub const SYMLINK: u8 = 20;
    pub const STATUS: u8 = 101;
    pub const HANDLE: u8 = 102;
    pub const DATA: u8 = 103;
    pub const NAME: u8 = 104;
    pub const ATTRS: u8 = 105;
    pub const EXTENDED: u8 = 200;
    pub const EXTENDED_REPLY: u8 = 201;
    /// First kind that only a server sends.
    pub const ANSWERS: u8 = 101;
}

/// Flags of an OPEN (section 6.3).
pub mod flag {
    pub const READ: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const APPEND: u32 = 4;
    pub const CREATE: u32 = 8;
    pub const TRUNCATE: u32 = 16;
    pub const EXCLUSIVE: u32 = 32;
}

/// Codes of a STATUS (section 7).
pub mod status {
    pub const OK: u32 = 0;
    pub const EOF: u32 = 1;
}

const ATTR_SIZE: u32 = 1;
const ATTR_OWNER: u32 = 2;
const ATTR_MODE: u32 = 4;
const ATTR_TIMES: u32 = 8;
/// File type bits of a mode.
const MODE_TYPE: u32 = 0o170_000;

/// Attributes of a file (section 5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    pub size: Option<u64>,
    pub owner: Option<(u32, u32)>,
    pub mode: Option<u32>,
    /// Access and modification, in seconds since 1970.
    pub times: Option<(u32, u32)>,
}

impl Attributes {
    /// Whether anything is set beside the length.
    pub fn sets_more(&self) -> bool {
        self.owner.is_some() || self.mode.is_some() || self.times.is_some()
    }

    /// In words, as they are told.
    pub fn in_words(&self) -> String {
        let said = [
            self.size.map(|size| format!("size {size}")),
            self.owner.map(|(user, group)| format!("owner {user}:{group}")),
            self.mode.map(|mode| format!("mode {:04o}", mode & !MODE_TYPE)),
            self.times.map(|(access, change)| format!("times {access} {change}")),
        ];
        let said: Vec<String> = said.into_iter().flatten().collect();
        said.join(", ")
    }
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    Open {
        path: &'a [u8],
        flags: u32,
        /// A length among its attributes.
        size: Option<u64>,
    },
    Close {
        handle: &'a [u8],
    },
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    /// Its bytes follow.
    Write {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    /// STAT and LSTAT.
    Stat {
        path: &'a [u8],
    },
    FStat {
        handle: &'a [u8],
    },
    SetStat {
        path: &'a [u8],
        attributes: Attributes,
    },
    FSetStat {
        handle: &'a [u8],
        attributes: Attributes,
    },
    OpenDir {
        path: &'a [u8],
    },
    Remove {
        path: &'a [u8],
    },
    MakeDir {
        path: &'a [u8],
    },
    RemoveDir {
        path: &'a [u8],
    },
    Rename {
        from: &'a [u8],
        to: &'a [u8],
    },
    Symlink {
        link: &'a [u8],
        says: &'a [u8],
    },
    Hardlink {
        from: &'a [u8],
        to: &'a [u8],
    },
    Copy {
        from: &'a [u8],
        to: &'a [u8],
    },
    /// Changes no file and moves none.
    Other,
    /// Asks for another version of the protocol (draft-ietf-secsh-filexfer-13 section 5.5).
    Version,
    /// A kind or an extension of which nobody here knows what it does.
    Unknown,
}

/// What a server answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    Status(u32),
    Handle(&'a [u8]),
    /// Its bytes follow.
    Data {
        length: u32,
    },
    Attributes(Attributes),
    /// Names, or what answers an extension.
    Other,
}

/// Reads values off the front.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.first_chunk().copied().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    /// Pairs that are an extension's own are left unread: they are last.
    fn attributes(&mut self) -> Option<Attributes> {
        let flags = self.u32()?;
        let has = |flag| flags & flag != 0;
        let mut read = Attributes::default();
        if has(ATTR_SIZE) {
            read.size = Some(self.u64()?);
        }
        if has(ATTR_OWNER) {
            read.owner = Some((self.u32()?, self.u32()?));
        }
        if has(ATTR_MODE) {
            read.mode = Some(self.u32()?);
        }
        if has(ATTR_TIMES) {
            read.times = Some((self.u32()?, self.u32()?));
        }
        Some(read)
    }
}

/// The version that an INIT or a VERSION names, if the packet is of that kind.
pub fn version(packet: &[u8], expected: u8) -> Option<u32> {
    let mut cursor = Cursor(packet);
    (cursor.byte()? == expected).then(|| cursor.u32())?
}

/// A request and its number; None if it cannot be read, or is none of version 3.
pub fn request(packet: &[u8]) -> Option<(u32, Request<'_>)> {
    let mut cursor = Cursor(packet);
    let kind = cursor.byte()?;
    let id = cursor.u32()?;
    let request = match kind {
        kind::OPEN => Request::Open {
            path: cursor.string()?,
            flags: cursor.u32()?,
            size: cursor.attributes().and_then(|attributes| attributes.size),
        },
        kind::CLOSE => Request::Close {
            handle: cursor.string()?,
        },
        kind::READ => Request::Read {
            handle: cursor.string()?,
            offset: cursor.u64()?,
            length: cursor.u32()?,
        },
        kind::WRITE => Request::Write {
            handle: cursor.string()?,
            offset: cursor.u64()?,
            length: cursor.u32()?,
        },
        kind::STAT | kind::LSTAT => Request::Stat { path: cursor.string()? },
        kind::FSTAT => Request::FStat {
            handle: cursor.string()?,
        },
        kind::SETSTAT => Request::SetStat {
            path: cursor.string()?,
            attributes: cursor.attributes()?,
        },
        kind::FSETSTAT => Request::FSetStat {
            handle: cursor.string()?,
            attributes: cursor.attributes()?,
        },
        kind::OPENDIR => Request::OpenDir { path: cursor.string()? },
        kind::REMOVE => Request::Remove { path: cursor.string()? },
        kind::MKDIR => Request::MakeDir { path: cursor.string()? },
        kind::RMDIR => Request::RemoveDir { path: cursor.string()? },
        kind::RENAME => Request::Rename {
            from: cursor.string()?,
            to: cursor.string()?,
        },
        // What the link says comes first, as OpenSSH has it (PROTOCOL section
        // 4.1) and everybody after it; the draft has it the other way round.
        kind::SYMLINK => {
            let says = cursor.string()?;
            Request::Symlink {
                link: cursor.string()?,
                says,
            }
        }
        kind::EXTENDED => extended(&mut cursor)?,
        kind::INIT | kind::VERSION | kind::ANSWERS.. => return None,
        kind::READDIR | kind::REALPATH | kind::READLINK => Request::Other,
        _ => Request::Unknown,
    };
    Some((id, request))
}

/// Extensions that only ask, or only flush: OpenSSH's PROTOCOL section 4, and
/// draft-ietf-secsh-filexfer-extensions-00 (home-directory).
const QUESTIONS: &[&[u8]] = &[
    b"statvfs@openssh.com",
    b"fstatvfs@openssh.com",
    b"fsync@openssh.com",
    b"limits@openssh.com",
    b"expand-path@openssh.com",
    b"users-groups-by-id@openssh.com",
    b"home-directory",
];

/// OpenSSH's extensions that change a file, and those that only ask.
fn extended<'a>(cursor: &mut Cursor<'a>) -> Option<Request<'a>> {
    Some(match cursor.string()? {
        b"posix-rename@openssh.com" => Request::Rename {
            from: cursor.string()?,
            to: cursor.string()?,
        },
        b"hardlink@openssh.com" => Request::Hardlink {
            from: cursor.string()?,
            to: cursor.string()?,
        },
        b"lsetstat@openssh.com" => Request::SetStat {
            path: cursor.string()?,
            attributes: cursor.attributes()?,
        },
        b"copy-data" => {
            let from = cursor.string()?;
            cursor.u64()?;
            cursor.u64()?;
            Request::Copy {
                from,
                to: cursor.string()?,
            }
        }
        b"version-select" => Request::Version,
        name if QUESTIONS.contains(&name) => Request::Other,
        _ => Request::Unknown,
    })
}

/// An answer and the number of its request; None if it cannot be read.
pub fn answer(packet: &[u8]) -> Option<(u32, Answer<'_>)> {
    let mut cursor = Cursor(packet);
    let kind = cursor.byte()?;
    let id = cursor.u32()?;
    let answer = match kind {
        kind::STATUS => Answer::Status(cursor.u32()?),
        kind::HANDLE => Answer::Handle(cursor.string()?),
        kind::DATA => Answer::Data { length: cursor.u32()? },
        kind::ATTRS => Answer::Attributes(cursor.attributes()?),
        kind::NAME | kind::EXTENDED_REPLY => Answer::Other,
        _ => return None,
    };
    Some((id, answer))
}

/// A status in words, as it is told.
pub fn status_words(code: u32) -> String {
    match code {
        1 => "end of file".to_owned(),
        2 => "no such file".to_owned(),
        3 => "permission denied".to_owned(),
        4 => "failure".to_owned(),
        5 => "bad message".to_owned(),
        6 => "no connection".to_owned(),
        7 => "connection lost".to_owned(),
        8 => "operation unsupported".to_owned(),
        other => format!("status {other}"),
    }
}
