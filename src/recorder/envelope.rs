//! Whom recordings are encrypted to. The content key of each is made here,
//! put into an age file for the investigators, and handed to the writer; this
//! house cannot open it again (recording/FORMAT.md section 7).

use std::fmt;
use std::io::Write;

use portcullis_recording::{ContentKey, limits};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::RecorderError;

/// Fewest recipients: the loss of one key must not be the loss of everything.
pub const RECIPIENTS_MIN: usize = 2;
/// Most recipients; each adds about 100 bytes to every recording.
pub const RECIPIENTS_MAX: usize = 32;

/// Investigators' public keys (age X25519, `age1…`).
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Recipients(Vec<age::x25519::Recipient>);

impl fmt::Debug for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl Recipients {
    /// Reads them; none means that nothing is encrypted.
    ///
    /// # Errors
    /// In words: which one is no key, or that there are too few or too many.
    pub fn parse(said: &[String]) -> Result<Recipients, String> {
        let mut all: Vec<age::x25519::Recipient> = Vec::with_capacity(said.len().min(RECIPIENTS_MAX));
        if said.len() > RECIPIENTS_MAX {
            return Err(format!("more than {RECIPIENTS_MAX}"));
        }
        for text in said {
            let one = text
                .parse()
                .map_err(|why| format!("`{}`: {why}", text.escape_debug()))?;
            if all.contains(&one) {
                return Err(format!("`{text}` is there twice"));
            }
            all.push(one);
        }
        match all.len() {
            1 => Err(format!(
                "at least {RECIPIENTS_MIN}: with one alone its loss is the loss of every recording"
            )),
            _ => Ok(Recipients(all)),
        }
    }

    /// As they are written.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether recordings stay in clear.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells those who can open what is sealed to these from others.
    pub fn id(&self) -> [u8; 8] {
        let mut names = self.names();
        names.sort_unstable();
        let hash: [u8; 32] = Sha256::digest(names.join("\n")).into();
        let mut id = [0; 8];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        id
    }

    /// A fresh content key and the age file that holds it.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub(super) fn seal(&self) -> Result<(ContentKey, Vec<u8>), RecorderError> {
        let mut key = Zeroizing::new([0; 32]);
        crate::entropy::fill(key.as_mut_slice());
        Ok((ContentKey::new(*key), self.wrap(&key)?))
    }

    /// The age file that holds this key.
    ///
    /// # Errors
    /// When it cannot be encrypted.
    pub(super) fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>, RecorderError> {
        let failed = |why: String| RecorderError::Key(format!("a key is not wrapped: {why}"));
        let recipients = self.0.iter().map(|one| one as &dyn age::Recipient);
        let to = age::Encryptor::with_recipients(recipients).map_err(|why| failed(why.to_string()))?;
        let mut file = Vec::new();
        let mut writing = to.wrap_output(&mut file).map_err(|why| failed(why.to_string()))?;
        writing.write_all(key).map_err(|why| failed(why.to_string()))?;
        writing.finish().map_err(|why| failed(why.to_string()))?;
        match file.len() > limits::ENVELOPE_BYTES_MAX {
            true => Err(failed("too many recipients".to_owned())),
            false => Ok(file),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn every_recipient_opens_and_nobody_else() {
        let all: Vec<age::x25519::Identity> = (0..3).map(|_| age::x25519::Identity::generate()).collect();
        let said: Vec<String> = all.iter().take(2).map(|it| it.to_public().to_string()).collect();
        let (_, file) = Recipients::parse(&said).unwrap().seal().unwrap();
        let opens = |identity: &age::x25519::Identity| {
            let from = age::Decryptor::new(&file[..]).unwrap();
            let mut plain = Vec::new();
            let mut reading = from.decrypt(std::iter::once(identity as &dyn age::Identity)).ok()?;
            reading.read_to_end(&mut plain).unwrap();
            Some(plain)
        };
        let plain = opens(&all[0]).unwrap();
        assert_eq!(plain.len(), 32);
        assert_eq!(opens(&all[1]).unwrap(), plain);
        assert_eq!(opens(&all[2]), None);
        let (_, other) = Recipients::parse(&said).unwrap().seal().unwrap();
        assert_ne!(other, file);
    }

    #[test]
    fn one_is_too_few_and_what_is_no_key_is_named() {
        let one = age::x25519::Identity::generate().to_public().to_string();
        assert!(Recipients::parse(&[]).unwrap().is_empty());
        for (said, why) in [
            (vec![one.clone()], "at least 2"),
            (vec![one.clone(), one.clone()], "twice"),
            (vec![one, "age1nonsense".to_owned()], "age1nonsense"),
        ] {
            let error = Recipients::parse(&said).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
