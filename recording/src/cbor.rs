//! Deterministic CBOR (RFC 8949 section 4.2) as FORMAT.md section 1.2 uses it: the reader accepts only what the writer
//! could have written, so every statement has exactly one encoding.

use crate::bytes::Cursor;
use crate::limits::TIME_MS_MAX;

/// Why bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

const UINT: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const FALSE: u8 = 0xF4;
const TRUE: u8 = 0xF5;

/// Writes the five shapes the format knows.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    fn head(&mut self, major: u8, n: u64) -> &mut Self {
        let m = major << 5;
        if n < 24 {
            self.0.push(m | n as u8);
        } else if let Ok(n) = u8::try_from(n) {
            self.0.extend_from_slice(&[m | 24, n]);
        } else if let Ok(n) = u16::try_from(n) {
            self.0.push(m | 25);
            self.0.extend_from_slice(&n.to_be_bytes());
        } else if let Ok(n) = u32::try_from(n) {
            self.0.push(m | 26);
            self.0.extend_from_slice(&n.to_be_bytes());
        } else {
            self.0.push(m | 27);
            self.0.extend_from_slice(&n.to_be_bytes());
        }
        self
    }

    pub(crate) fn map(&mut self, pairs: u64) -> &mut Self {
        self.head(MAP, pairs)
    }

    pub(crate) fn array(&mut self, items: u64) -> &mut Self {
        self.head(ARRAY, items)
    }

    /// A map key; keys are written in ascending order.
    pub(crate) fn key(&mut self, key: u64) -> &mut Self {
        self.head(UINT, key)
    }

    pub(crate) fn uint(&mut self, n: u64) -> &mut Self {
        self.head(UINT, n)
    }

    pub(crate) fn bytes(&mut self, b: &[u8]) -> &mut Self {
        self.head(BYTES, b.len() as u64);
        self.0.extend_from_slice(b);
        self
    }

    pub(crate) fn text(&mut self, t: &str) -> &mut Self {
        self.head(TEXT, t.len() as u64);
        self.0.extend_from_slice(t.as_bytes());
        self
    }

    pub(crate) fn bool(&mut self, b: bool) -> &mut Self {
        self.0.push(if b { TRUE } else { FALSE });
        self
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Reads them back, strictly.
pub(crate) struct Reader<'a>(Cursor<'a>);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(Cursor::new(bytes))
    }

    fn head(&mut self, major: u8) -> Result<u64, Malformed> {
        let b = self.0.u8()?;
        if b >> 5 != major {
            return Err(Malformed("CBOR item of another type"));
        }
        let (n, least) = match b & 0x1F {
            n @ 0..24 => return Ok(u64::from(n)),
            24 => (u64::from(self.0.u8()?), 24),
            25 => (u64::from(u16::from_be_bytes(self.0.array()?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.0.array()?)), 1 << 16),
            27 => (u64::from_be_bytes(self.0.array()?), 1 << 32),
            _ => return Err(Malformed("CBOR indefinite or reserved length")),
        };
        if n < least {
            return Err(Malformed("CBOR number not in its shortest form"));
        }
        Ok(n)
    }

    fn sized(&mut self, major: u8, max: usize) -> Result<&'a [u8], Malformed> {
        let n = self.head(major)?;
        match usize::try_from(n) {
            Ok(n) if n <= max => self.0.take(n),
            _ => Err(Malformed("CBOR string over its bound")),
        }
    }

    pub(crate) fn map(&mut self, pairs: u64) -> Result<(), Malformed> {
        if self.head(MAP)? == pairs {
            Ok(())
        } else {
            Err(Malformed("CBOR map of another size"))
        }
    }

    /// An array of exactly `items` items.
    pub(crate) fn array(&mut self, items: u64) -> Result<(), Malformed> {
        if self.head(ARRAY)? == items {
            Ok(())
        } else {
            Err(Malformed("CBOR array of another size"))
        }
    }

    /// An array of at most `max` items; gives how many.
    pub(crate) fn array_up_to(&mut self, max: usize) -> Result<usize, Malformed> {
        match usize::try_from(self.head(ARRAY)?) {
            Ok(n) if n <= max => Ok(n),
            _ => Err(Malformed("CBOR array over its bound")),
        }
    }

    /// The key that must come now.
    pub(crate) fn key(&mut self, key: u64) -> Result<&mut Self, Malformed> {
        if self.head(UINT)? == key {
            Ok(self)
        } else {
            Err(Malformed("CBOR map with another key"))
        }
    }

    pub(crate) fn uint(&mut self) -> Result<u64, Malformed> {
        self.head(UINT)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.head(UINT)?).map_err(|_| Malformed("number over 32 bits"))
    }

    /// A number that stands for the thing at that place.
    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> Result<T, Malformed> {
        let at = usize::try_from(self.head(UINT)?).ok();
        at.and_then(|at| all.get(at))
            .copied()
            .ok_or(Malformed("number that names nothing"))
    }

    /// A time in milliseconds, bounded.
    pub(crate) fn time(&mut self) -> Result<u64, Malformed> {
        let ms = self.head(UINT)?;
        if ms <= TIME_MS_MAX {
            Ok(ms)
        } else {
            Err(Malformed("time over its bound"))
        }
    }

    pub(crate) fn bytes(&mut self, max: usize) -> Result<&'a [u8], Malformed> {
        self.sized(BYTES, max)
    }

    pub(crate) fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        <[u8; N]>::try_from(self.sized(BYTES, N)?).map_err(|_| Malformed("byte string of another length"))
    }

    pub(crate) fn text(&mut self, max: usize) -> Result<&'a str, Malformed> {
        str::from_utf8(self.sized(TEXT, max)?).map_err(|_| Malformed("text is not UTF-8"))
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        match self.0.u8()? {
            FALSE => Ok(false),
            TRUE => Ok(true),
            _ => Err(Malformed("neither true nor false")),
        }
    }

    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed("bytes after the last CBOR item"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_agrees() {
        let mut w = Writer::default();
        w.array(6)
            .uint(23)
            .uint(24)
            .uint(70_000)
            .bytes(&[1; 300])
            .text("é")
            .bool(true);
        let bytes = w.into_bytes();
        let mut d = minicbor::Decoder::new(&bytes);
        assert_eq!(d.array().unwrap(), Some(6));
        assert_eq!((d.u64().unwrap(), d.u64().unwrap(), d.u64().unwrap()), (23, 24, 70_000));
        assert_eq!(d.bytes().unwrap(), &[1; 300]);
        assert_eq!(d.str().unwrap(), "é");
        assert!(d.bool().unwrap());
        let mut r = Reader::new(&bytes);
        r.array(6).unwrap();
        assert_eq!(
            (r.uint().unwrap(), r.uint().unwrap(), r.uint().unwrap()),
            (23, 24, 70_000)
        );
        assert_eq!(r.bytes(300).unwrap(), &[1; 300]);
        assert_eq!(r.text(2).unwrap(), "é");
        assert!(r.bool().unwrap());
        r.end().unwrap();
    }

    #[test]
    fn only_the_shortest_form_is_read() {
        for bad in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1A, 0, 0, 255, 255],
            &[0x1B, 0, 0, 0, 0, 255, 255, 255, 255],
            &[0x1F],
        ] {
            assert!(Reader::new(bad).uint().is_err(), "{bad:x?}");
        }
        assert!(Reader::new(&[0x5F, 0x41, 0, 0xFF]).bytes(9).is_err());
        assert!(Reader::new(&[0x44, 0, 0]).bytes(9).is_err());
        assert!(Reader::new(&[0x42, 0, 0]).bytes(1).is_err());
        assert!(Reader::new(&[0x61, 0xFF]).text(9).is_err());
    }
}
