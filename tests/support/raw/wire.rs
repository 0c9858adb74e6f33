//! The SSH data types (RFC 4251 section 5).

/// Writes fields one after the other.
#[derive(Clone, Default, Debug)]
pub struct Put(pub Vec<u8>);

impl Put {
    pub fn message(number: u8) -> Put {
        Put(vec![number])
    }
    pub fn u8(mut self, value: u8) -> Put {
        self.0.push(value);
        self
    }
    pub fn bool(self, value: bool) -> Put {
        self.u8(u8::from(value))
    }
    pub fn u32(mut self, value: u32) -> Put {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    pub fn u64(mut self, value: u64) -> Put {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }
    pub fn raw(mut self, bytes: &[u8]) -> Put {
        self.0.extend_from_slice(bytes);
        self
    }
    pub fn string(self, bytes: impl AsRef<[u8]>) -> Put {
        let bytes = bytes.as_ref();
        self.u32(u32::try_from(bytes.len()).expect("a string fits in 32 bits"))
            .raw(bytes)
    }
    /// A positive number from its big-endian bytes.
    pub fn mpint(self, bytes: &[u8]) -> Put {
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
        let digits = &bytes[start..];
        match digits.first() {
            Some(first) if first & 0x80 != 0 => self.string([&[0], digits].concat()),
            _ => self.string(digits),
        }
    }
    pub fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Reads fields one after the other.
#[derive(Clone, Debug)]
pub struct Get<'a>(pub &'a [u8]);

impl<'a> Get<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }
    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)
            .map(|bytes| u32::from_be_bytes(bytes.try_into().expect("four bytes")))
    }
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let count = self.u32()?;
        self.take(usize::try_from(count).ok()?)
    }
    pub fn text(&mut self) -> Option<String> {
        self.string().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Numbers of messages (RFC 4250 section 4.1).
pub mod msg {
    pub const DISCONNECT: u8 = 1;
    pub const IGNORE: u8 = 2;
    pub const UNIMPLEMENTED: u8 = 3;
    pub const DEBUG: u8 = 4;
    pub const SERVICE_REQUEST: u8 = 5;
    pub const SERVICE_ACCEPT: u8 = 6;
    pub const EXT_INFO: u8 = 7;
    pub const KEXINIT: u8 = 20;
    pub const NEWKEYS: u8 = 21;
    pub const ECDH_INIT: u8 = 30;
    pub const ECDH_REPLY: u8 = 31;
    pub const USERAUTH_REQUEST: u8 = 50;
    pub const USERAUTH_FAILURE: u8 = 51;
    pub const USERAUTH_SUCCESS: u8 = 52;
    pub const USERAUTH_PK_OK: u8 = 60;
    pub const GLOBAL_REQUEST: u8 = 80;
    pub const REQUEST_FAILURE: u8 = 82;
    pub const CHANNEL_OPEN: u8 = 90;
    pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
    pub const CHANNEL_OPEN_FAILURE: u8 = 92;
    pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
    pub const CHANNEL_DATA: u8 = 94;
    pub const CHANNEL_EXTENDED_DATA: u8 = 95;
    pub const CHANNEL_EOF: u8 = 96;
    pub const CHANNEL_CLOSE: u8 = 97;
    pub const CHANNEL_REQUEST: u8 = 98;
    pub const CHANNEL_SUCCESS: u8 = 99;
    pub const CHANNEL_FAILURE: u8 = 100;
    /// `ping@openssh.com`.
    pub const PING: u8 = 192;
    pub const PONG: u8 = 193;
}
