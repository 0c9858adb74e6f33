//! `FILE.sig`: an SSHSIG over the whole file (FORMAT.md section 9.5), so that
//! `ssh-keygen -Y verify` proves a recording where none of our programs is.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// The namespace of the signature (OpenSSH PROTOCOL.sshsig).
pub const NAMESPACE: &str = "portcullis-recording";
const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
/// Processors have instructions for it, which makes it the cheaper of the two that SSHSIG knows.
const HASH: &str = "sha256";
const KEY_TYPE: &str = "ssh-ed25519";
/// Characters a line of the armor.
const LINE_CHARS: usize = 70;
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    // Names, keys and signatures: far below 4 GiB.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// SHA-256 of everything that `file` has left.
///
/// # Errors
/// The reader's.
pub fn digest(mut file: impl std::io::Read) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hash.finalize().into()),
            Ok(length) => hash.update(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What is signed: never mistaken for a statement of section 4.1.
pub fn statement(digest: &[u8; 32]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    string(&mut out, NAMESPACE.as_bytes());
    string(&mut out, b"");
    string(&mut out, HASH.as_bytes());
    string(&mut out, digest);
    out
}

fn public_key(key: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, KEY_TYPE.as_bytes());
    string(&mut out, key);
    out
}

/// The sidecar's text.
pub fn armored(key: &[u8; 32], signature: &[u8; 64]) -> String {
    let mut blob = MAGIC.to_vec();
    blob.extend_from_slice(&VERSION.to_be_bytes());
    string(&mut blob, &public_key(key));
    string(&mut blob, NAMESPACE.as_bytes());
    string(&mut blob, b"");
    string(&mut blob, HASH.as_bytes());
    let mut signed = Vec::new();
    string(&mut signed, KEY_TYPE.as_bytes());
    string(&mut signed, signature);
    string(&mut blob, &signed);
    let mut text = "-----BEGIN SSH SIGNATURE-----\n".to_owned();
    for (number, letter) in STANDARD.encode(blob).chars().enumerate() {
        if number > 0 && number % LINE_CHARS == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text.push_str("\n-----END SSH SIGNATURE-----\n");
    text
}

/// A line of an allowed signers file (ssh-keygen(1), ALLOWED SIGNERS): the
/// node may sign recordings and nothing else. Nothing for a name that is no
/// principal there, or might stand for several.
pub fn allowed_signer(node: &str, key: &[u8; 32]) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let named = !node.is_empty() && node.chars().all(plain);
    named.then(|| {
        format!(
            "{node} namespaces=\"{NAMESPACE}\" {KEY_TYPE} {}",
            STANDARD.encode(public_key(key))
        )
    })
}
