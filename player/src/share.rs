//! Shares of an age identity: any M of N together are the identity, fewer are nothing (Shamir over GF(256)).

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::TryRng;
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use crate::plain::hex;

/// Bytes of a share file.
pub const SHARE_BYTES_MAX: usize = 4 << 10;
/// Fewest shares that may open: one would be no sharing.
pub const THRESHOLD_MIN: u8 = 2;
/// Bytes that tell one splitting from another.
const SPLIT_BYTES: usize = 8;
/// Bytes of the checksum that are written.
const CHECKSUM_BYTES: usize = 4;
const VERSION: &str = "1";

/// One share. What is secret in it is wiped when it is dropped.
pub struct Share {
    /// Chosen anew with each splitting: shares of two splittings do not go together, even of one identity.
    split: [u8; SPLIT_BYTES],
    /// Whom the identity is, publicly: `age1...`.
    recipient: String,
    threshold: u8,
    of: u8,
    /// Its number, from 1, and a byte for each of the identity's.
    bytes: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Share {} of {} for {}", self.index(), self.of, self.recipient)
    }
}

/// Why there is no share, or no identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareError {
    /// Not the text of a share; says what is wrong.
    NoShare(&'static str),
    /// The checksum is that of another text.
    Checksum,
    /// They are of different splittings, or of different identities.
    Mixed,
    /// The same one twice.
    Twice(u8),
    /// Not enough of them.
    TooFew {
        /// How many there are.
        have: usize,
        /// How many open.
        need: u8,
    },
    /// They go together by what they say, and give no identity or another one.
    Wrong,
    /// Impossible numbers.
    Numbers,
    /// The operating system gives no randomness.
    Random,
}

impl std::fmt::Display for ShareError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ShareError::NoShare(what) => write!(f, "no share of an identity: {what}"),
            ShareError::Checksum => f.write_str("the share was changed or mistyped: its checksum does not match"),
            ShareError::Mixed => f.write_str("the shares are not of one splitting: they do not go together"),
            ShareError::Twice(index) => write!(f, "share {index} was given twice"),
            ShareError::TooFew { have, need } => write!(f, "{have} shares, and {need} are needed to open"),
            ShareError::Wrong => f.write_str("the shares do not give the identity they are of: one of them is forged"),
            ShareError::Numbers => write!(
                f,
                "at least {THRESHOLD_MIN} shares must be needed to open, and no more than there are"
            ),
            ShareError::Random => f.write_str("the operating system gives no randomness"),
        }
    }
}

impl std::error::Error for ShareError {}

/// Splits an identity into `of` shares, any `threshold` of which are it.
pub fn split(identity: &Identity, threshold: u8, of: u8) -> Result<Vec<Share>, ShareError> {
    if threshold < THRESHOLD_MIN || threshold > of {
        return Err(ShareError::Numbers);
    }
    let mut id = [0; SPLIT_BYTES];
    SysRng.try_fill_bytes(&mut id).map_err(|_| ShareError::Random)?;
    let secret = identity.to_string();
    let shares = Gf256::split_bytes(
        usize::from(threshold),
        usize::from(of),
        secret.expose_secret(),
        UnwrapErr(SysRng),
    );
    let recipient = identity.to_public().to_string();
    Ok(shares
        .map_err(|_| ShareError::Numbers)?
        .into_iter()
        .map(|bytes| Share {
            split: id,
            recipient: recipient.clone(),
            threshold,
            of,
            bytes: Zeroizing::new(bytes),
        })
        .collect())
}

/// Puts an identity together, in memory only.
pub fn join(shares: &[Share]) -> Result<Identity, ShareError> {
    let first = shares.first().ok_or(ShareError::TooFew {
        have: 0,
        need: THRESHOLD_MIN,
    })?;
    for (n, share) in shares.iter().enumerate() {
        if share.set() != first.set() {
            return Err(ShareError::Mixed);
        }
        if shares.iter().take(n).any(|before| before.index() == share.index()) {
            return Err(ShareError::Twice(share.index()));
        }
    }
    if shares.len() < usize::from(first.threshold) {
        return Err(ShareError::TooFew {
            have: shares.len(),
            need: first.threshold,
        });
    }
    let parts = Zeroizing::new(shares.iter().map(|share| share.bytes.to_vec()).collect::<Vec<_>>());
    let secret = Zeroizing::new(Gf256::combine_bytes(&*parts).map_err(|_| ShareError::Wrong)?);
    let identity: Identity = str::from_utf8(&secret)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ShareError::Wrong)?;
    if identity.to_public().to_string() == first.recipient {
        Ok(identity)
    } else {
        Err(ShareError::Wrong)
    }
}

impl Share {
    /// Its number among the shares of its splitting, from 1.
    pub fn index(&self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }

    /// The public name of the identity it is of.
    pub fn recipient(&self) -> &str {
        &self.recipient
    }

    /// What shares that go together have in common.
    fn set(&self) -> (&[u8], &str, u8, u8) {
        (&self.split, &self.recipient, self.threshold, self.of)
    }

    /// The text of its file.
    pub fn to_text(&self) -> Zeroizing<String> {
        let body = self.body(self.index());
        Zeroizing::new(format!(
            "# Share {} of {} of an age identity: any {} of them open what is encrypted to it, fewer open nothing.\n\
             # Keep it secret, and apart from the others.\n\
             {}checksum = {}\n",
            self.index(),
            self.of,
            self.threshold,
            *body,
            checksum(&body)
        ))
    }

    /// What the checksum is over; `index` as it is written.
    fn body(&self, index: u8) -> Zeroizing<String> {
        Zeroizing::new(format!(
            "portcullis-share = {VERSION}\nrecipient = {}\nsplit = {}\nthreshold = {}\nof = {}\nindex = {}\nshare = {}\n",
            self.recipient,
            hex(&self.split),
            self.threshold,
            self.of,
            index,
            *Zeroizing::new(BASE64.encode(&*self.bytes))
        ))
    }

    /// Reads the text of a share file.
    pub fn parse(text: &str) -> Result<Share, ShareError> {
        let mut fields = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once('=').map(|(word, value)| (word.trim(), value.trim())));
        let mut field = |wanted: &str| match fields.next().flatten() {
            Some((word, value)) if word == wanted => Ok(value),
            _ => Err(ShareError::NoShare("a line is missing or out of place")),
        };
        if field("portcullis-share")? != VERSION {
            return Err(ShareError::NoShare("it is of another version"));
        }
        let recipient = field("recipient")?.to_owned();
        let split = unhex(field("split")?).ok_or(ShareError::NoShare("its splitting has no number"))?;
        let number = |text: &str| text.parse::<u8>().map_err(|_| ShareError::NoShare("a number is none"));
        let (threshold, of) = (number(field("threshold")?)?, number(field("of")?)?);
        let index = number(field("index")?)?;
        let bytes = BASE64
            .decode(field("share")?)
            .map_err(|_| ShareError::NoShare("its value is no base64"))?;
        let stated = field("checksum")?.to_owned();
        let share = Share {
            split,
            recipient,
            threshold,
            of,
            bytes: Zeroizing::new(bytes),
        };
        if stated != checksum(&share.body(index)) {
            return Err(ShareError::Checksum);
        }
        let sound = share.index() == index && index > 0 && index <= of && (THRESHOLD_MIN..=of).contains(&threshold);
        if sound && fields.next().is_none() {
            Ok(share)
        } else {
            Err(ShareError::NoShare("it contradicts itself"))
        }
    }
}

fn checksum(body: &str) -> String {
    let digest = Sha256::digest(body);
    hex(digest.get(..CHECKSUM_BYTES).unwrap_or_default())
}

fn unhex(text: &str) -> Option<[u8; SPLIT_BYTES]> {
    let mut out = [0; SPLIT_BYTES];
    if text.len() != 2 * SPLIT_BYTES {
        return None;
    }
    for (to, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *to = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(identity: &Identity) -> String {
        identity.to_string().expose_secret().to_owned()
    }

    fn again(share: &Share) -> Share {
        Share::parse(&share.to_text()).unwrap()
    }

    #[test]
    fn any_three_of_five_open_and_no_two_do() {
        let identity = Identity::generate();
        let shares = split(&identity, 3, 5).unwrap();
        for kept in 0u32..1 << 5 {
            let some: Vec<Share> = (0..5)
                .filter(|i| kept >> i & 1 == 1)
                .map(|i| again(&shares[i]))
                .collect();
            match join(&some) {
                Ok(joined) => {
                    assert!(some.len() >= 3);
                    assert_eq!(secret(&joined), secret(&identity));
                }
                Err(e) => {
                    let have = some.len();
                    let need = if have == 0 { THRESHOLD_MIN } else { 3 };
                    assert_eq!(e, ShareError::TooFew { have, need });
                }
            }
        }
    }

    #[test]
    fn two_shares_that_claim_to_be_enough_are_not() {
        let shares = split(&Identity::generate(), 3, 3).unwrap();
        let mut two: Vec<Share> = shares.iter().take(2).map(again).collect();
        two.iter_mut().for_each(|share| share.threshold = 2);
        assert_eq!(join(&two).err(), Some(ShareError::Wrong));
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let identity = Identity::generate();
        let (one, other) = (split(&identity, 2, 3).unwrap(), split(&identity, 2, 3).unwrap());
        let foreign = split(&Identity::generate(), 2, 3).unwrap();
        let joined = |shares: &[&Share]| join(&shares.iter().map(|s| again(s)).collect::<Vec<_>>()).err();
        assert_eq!(joined(&[&one[0], &other[1]]), Some(ShareError::Mixed));
        assert_eq!(joined(&[&one[0], &foreign[1]]), Some(ShareError::Mixed));
        assert_eq!(joined(&[&one[0], &one[1], &one[0]]), Some(ShareError::Twice(1)));
        assert_eq!(joined(&[&one[2], &one[0]]), None);
        for (threshold, of) in [(1, 3), (0, 0), (4, 3)] {
            assert_eq!(split(&identity, threshold, of).err(), Some(ShareError::Numbers));
        }
        assert_eq!(split(&identity, 255, 255).unwrap().len(), 255);
    }

    #[test]
    fn a_changed_text_is_no_share() {
        let text = split(&Identity::generate(), 2, 3).unwrap()[0].to_text();
        assert!(text.len() < SHARE_BYTES_MAX);
        // What a typist may do is told; comments and spaces are nobody's matter.
        assert!(Share::parse(&format!("  \n# more\n{}", text.replace(" = ", "="))).is_ok());
        let mut refused = 0;
        let body_at = text.find("portcullis-share").unwrap();
        for at in body_at..text.len() {
            for change in [1, 0x20] {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= change;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                match Share::parse(&changed) {
                    Err(_) => refused += 1,
                    // A line's end or a space that became another space.
                    Ok(share) => assert_eq!(*share.to_text(), *text, "byte {at}"),
                }
            }
        }
        assert!(refused > 300, "{refused}");
        for cut in body_at..text.len() - 1 {
            assert!(Share::parse(&text[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Share::parse(&format!("{}more = 1\n", *text)).is_err());
        assert!(matches!(
            Share::parse("AGE-SECRET-KEY-1QQ").err(),
            Some(ShareError::NoShare(_))
        ));
    }
}
