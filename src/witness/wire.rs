//! The one request of a witness, and its answers (c2sp.org/tlog-witness,
//! add-checkpoint). Pure: text in, values out, and back.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_recording::limits::PROOF_HASHES_MAX;
use portcullis_recording::merkle::Hash;
use portcullis_recording::note::{Note, VerifierKey};

/// Where a checkpoint is sent, below the witness's address.
pub const PATH: &str = "/add-checkpoint";
/// Longest request or answer, in bytes: a note with 64 signatures is 10 kB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// What a conflict's answer says it is.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// A checkpoint with the proof that it continues an older one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// Size of the tree that the witness has cosigned last, as the log believes.
    pub old: u64,
    /// From `old` to the checkpoint's size (RFC 6962 section 2.1.2).
    pub proof: Vec<Hash>,
    pub note: Note,
}

impl Submission {
    /// Reads a request's body.
    ///
    /// # Errors
    /// In words, when it is none.
    pub fn parse(body: &str) -> Result<Submission, &'static str> {
        let (front, note) = body
            .split_once("\n\n")
            .ok_or("there is no empty line before the checkpoint")?;
        let mut lines = front.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old "));
        let old = old.and_then(size).ok_or("it does not begin with `old` and a size")?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == PROOF_HASHES_MAX {
                return Err("the proof has more than 63 lines");
            }
            let hash = BASE64.decode(line).ok().and_then(|hash| Hash::try_from(hash).ok());
            proof.push(hash.ok_or("a line of the proof is not a hash")?);
        }
        let note = Note::parse(note).map_err(|_| "the checkpoint is not a signed note")?;
        Ok(Submission { old, proof, note })
    }
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        for hash in &self.proof {
            writeln!(f, "{}", BASE64.encode(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// A decimal number without sign or leading zeros.
pub fn size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}

/// The signature lines of a note.
pub fn lines(note: &Note) -> String {
    let text = note.to_string();
    text.rsplit_once("\n\n").map_or("", |(_, lines)| lines).to_owned()
}

/// The note with nothing but `key`'s signature on it, the last if there are
/// several; `None` if it has none that holds.
pub fn only(note: &Note, key: &VerifierKey) -> Option<Note> {
    signed_by(note.text(), &lines(note), key)
}

/// `text` with the last of `lines` that is a good signature by `key`; others
/// are of no interest, whatever they are.
pub fn signed_by(text: &str, lines: &str, key: &VerifierKey) -> Option<Note> {
    let notes = lines
        .lines()
        .rev()
        .filter_map(|line| Note::parse(&format!("{text}\n{line}\n")).ok());
    let mut signed = notes.filter(|note| matches!(note.verify(key), Ok(Some(_))));
    signed.next()
}

#[cfg(test)]
mod tests {
    use portcullis_recording::note::{Checkpoint, KeyKind};

    use super::*;

    /// The example of c2sp.org/tlog-witness.
    const EXAMPLE: &str = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        \u{2014} example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        \u{2014} example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";

    #[test]
    fn the_example_of_the_specification_round_trips() {
        let submission = Submission::parse(EXAMPLE).unwrap();
        assert_eq!((submission.old, submission.proof.len()), (20_852_014, 4));
        let checkpoint = Checkpoint::of(&submission.note).unwrap();
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(submission.to_string(), EXAMPLE);
        assert_eq!(lines(&submission.note).lines().count(), 2);
    }

    #[test]
    fn nothing_else_is_a_submission() {
        let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        for (from, to) in [
            ("old 20852014", "old 020852014"),
            ("old 20852014", "old +20852014"),
            ("old 20852014", "old -1"),
            ("old 20852014", "old 18446744073709551616"),
            ("old 20852014", "Old 20852014"),
            ("old 20852014", "old  20852014"),
            (hash, "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkQ==\n"),
            (hash, "not base64\n"),
            (hash, &hash.repeat(61)),
            ("\u{2014}", "-"),
        ] {
            let bad = EXAMPLE.replacen(from, to, 1);
            assert_ne!(bad, EXAMPLE);
            assert!(Submission::parse(&bad).is_err(), "{to:?}");
        }
        for cut in (0..EXAMPLE.len()).filter(|at| EXAMPLE.is_char_boundary(*at)) {
            // Half of the signatures is a whole note still.
            let whole = EXAMPLE[..cut].ends_with("OAYQ8=\n");
            assert_eq!(Submission::parse(&EXAMPLE[..cut]).is_ok(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn one_good_signature_is_found_among_bad_ones() {
        use ed25519_dalek::{Signer, SigningKey};
        let private = SigningKey::from_bytes(&[2; 32]);
        let key = VerifierKey::new("w.example", KeyKind::Cosignature, private.verifying_key().to_bytes()).unwrap();
        let note = Note::new("l.example/log\n0\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n").unwrap();
        let sign = |secs| private.sign(&note.cosigned_message(secs)).to_bytes();
        let mut many = note.clone();
        many.add_cosignature(&key, 1, &sign(1));
        many.add_cosignature(&key, 2, &sign(2));
        many.add_cosignature(&key, 3, &[7; 64]);
        many.add_signature(&key, &[7; 64]);
        let found = only(&many, &key).unwrap();
        assert_eq!(found.verify(&key).unwrap().unwrap().unix_secs, Some(2));
        assert_eq!(lines(&found).lines().count(), 1);
        assert!(signed_by(note.text(), "rubbish\n\n", &key).is_none());
        assert!(only(&note, &key).is_none());
    }
}
