//! Encrypted recordings, made with the format's own writer, and their envelopes, made with `age`.

use std::io::Write;

use age::Encryptor;
use age::secrecy::ExposeSecret;
use age::x25519::{Identity, Recipient};
use ed25519_dalek::Signer;
use portcullis_recording::{Batch, ContentKey, Main, Sealed, Writer};

use super::{Desk, Row, entropy, head, node, proof};

pub const CONTENT_KEY: [u8; 32] = [0xC0; 32];

/// The age file that holds these bytes for these recipients.
pub fn envelope(plain: &[u8], recipients: &[Recipient]) -> Vec<u8> {
    let all = recipients.iter().map(|recipient| recipient as &dyn age::Recipient);
    let mut out = Vec::new();
    let mut writer = Encryptor::with_recipients(all).unwrap().wrap_output(&mut out).unwrap();
    writer.write_all(plain).unwrap();
    writer.finish().unwrap();
    out
}

pub fn open(session: u8, envelope: &[u8]) -> (Writer, Main, Vec<u8>) {
    let key = ContentKey::new(CONTENT_KEY);
    let unopened = Writer::prepare_encrypted(head(session), entropy(session), key, envelope).unwrap();
    let signature = node().sign(&unopened.statement()).to_bytes();
    unopened.open(&signature).unwrap()
}

/// A sealed recording of these chunks.
pub fn sealed(session: u8, chunks: &[Vec<Row>], envelope: &[u8]) -> (Vec<u8>, Sealed) {
    let (mut w, mut main, mut file) = open(session, envelope);
    let mut last = 0;
    for rows in chunks {
        let mut batch = Batch::new();
        for (at_ms, channel, event) in rows {
            batch.push(*at_ms, *channel, event).unwrap();
            last = *at_ms;
        }
        file.extend(w.put_batch(batch, 3, &mut main).unwrap());
    }
    let (bytes, sealed) = w.finish(&mut main, last + 100, "exit", "the program ended").unwrap();
    file.extend(bytes);
    (file, sealed)
}

impl Desk {
    /// An encrypted recording with its proof and the envelope beside it.
    pub fn locked(&self, name: &str, chunks: &[Vec<Row>], envelope: &[u8]) {
        let (file, seal) = sealed(7, chunks, envelope);
        self.put(&format!("{name}.proof"), proof(&seal).as_bytes());
        self.put(&format!("{name}.age"), envelope);
        self.put(name, &file);
    }

    /// A new identity, in a file of that name.
    pub fn identity(&self, name: &str) -> Identity {
        let identity = Identity::generate();
        let text = format!("# {}\n{}\n", identity.to_public(), identity.to_string().expose_secret());
        self.put(name, text.as_bytes());
        identity
    }
}
