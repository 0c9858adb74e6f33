//! Keys in a PKCS#11 token (feature `pkcs11`): a smart card, an HSM, SoftHSM.
//!
//! A token's library blocks, and may block for ever: one thread speaks to it,
//! and whoever asks waits for a bounded time in a bounded queue. Keys are
//! ECDSA P-256, the one kind that tokens have and OpenSSH takes as an
//! authority; they are known by their public halves, not by labels.
//!
//! A session that fails is opened anew once, from the library's start on: a
//! token that was taken out is found again when it is back. A PIN that was
//! refused is never tried again: three tries lock most tokens.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11 as Library};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use russh::keys::ssh_key::public::{EcdsaPublicKey, KeyData};
use russh::keys::ssh_key::{Algorithm, EcdsaCurve, PublicKey, Signature};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::keys::KeysError;
use super::places::Pkcs11;
use super::secret::Secret;
use crate::keeper::KeeperError;

/// Longest wait for an answer of the token, queueing included, in ms.
pub const TOKEN_MS_MAX: u64 = 5_000;
/// Most questions that wait for the token at one time.
pub const TOKEN_QUEUE_MAX: usize = 16;
/// Bytes of a P-256 field element: a signature is two of them (PKCS #11, CKM_ECDSA).
const FIELD_BYTES: usize = 32;
/// Tag and length of the DER OCTET STRING that a token wraps a point in.
const OCTET_STRING: u8 = 0x04;

/// What is asked of the thread.
struct Question {
    point: Vec<u8>,
    /// SHA-256 of what is to be signed; none: whether the key is there.
    digest: Option<[u8; 32]>,
    reply: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// One token. Cheap to clone.
#[derive(Clone)]
pub struct Token {
    label: String,
    questions: SyncSender<Question>,
}

impl Token {
    /// Starts the thread that speaks to it; nothing is opened yet.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(place: &Pkcs11) -> Result<Token, KeysError> {
        let (questions, asked) = sync_channel(TOKEN_QUEUE_MAX);
        let speaker = Speaker {
            place: place.clone(),
            open: None,
            pin_refused: false,
        };
        std::thread::Builder::new()
            .name("pkcs11".to_owned())
            .spawn(move || speaker.answer(&asked))
            .map_err(|why| KeysError::Unreadable {
                path: place.module.clone(),
                why: format!("no thread for it: {why}"),
            })?;
        Ok(Token {
            label: place.token.clone(),
            questions,
        })
    }

    /// Whether it holds the private half of `key`.
    ///
    /// # Errors
    /// [`KeeperError::Unavailable`] when it does not, or does not answer.
    pub async fn holds(&self, name: &'static str, key: &PublicKey) -> Result<(), KeeperError> {
        self.ask(name, key, None).await.map(drop)
    }

    /// Lets the token sign `bytes` by the private half of `key`.
    ///
    /// # Errors
    /// [`KeeperError::Unavailable`] with the token's reason.
    pub async fn sign(&self, name: &'static str, key: &PublicKey, bytes: &[u8]) -> Result<Signature, KeeperError> {
        let raw = self.ask(name, key, Some(Sha256::digest(bytes).into())).await?;
        signature(&raw).ok_or_else(|| self.lost(name, "what it gave is no P-256 signature".to_owned()))
    }

    async fn ask(&self, name: &'static str, key: &PublicKey, digest: Option<[u8; 32]>) -> Result<Vec<u8>, KeeperError> {
        let point = point(key).ok_or_else(|| {
            self.lost(
                name,
                format!("{} is kept in no token: use ecdsa-sha2-nistp256", key.algorithm()),
            )
        })?;
        let (reply, answer) = oneshot::channel();
        let question = Question { point, digest, reply };
        self.questions
            .try_send(question)
            .map_err(|_| self.lost(name, format!("{TOKEN_QUEUE_MAX} questions wait for it already")))?;
        match timeout(Duration::from_millis(TOKEN_MS_MAX), answer).await {
            Ok(Ok(Ok(bytes))) => Ok(bytes),
            Ok(Ok(Err(why))) => Err(self.lost(name, why)),
            Ok(Err(_)) => Err(self.lost(name, "its thread is gone: restart the server".to_owned())),
            Err(_) => Err(self.lost(name, format!("no answer within {TOKEN_MS_MAX} ms"))),
        }
    }

    fn lost(&self, key: &'static str, why: String) -> KeeperError {
        KeeperError::Unavailable {
            key,
            why: format!("PKCS#11 token `{}`: {why}", self.label),
        }
    }
}

/// The uncompressed point of a P-256 key (SEC 1 section 2.3.3).
fn point(key: &PublicKey) -> Option<Vec<u8>> {
    match key.key_data() {
        KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => Some(point.as_bytes().to_vec()),
        KeyData::Ecdsa(_)
        | KeyData::Ed25519(_)
        | KeyData::Rsa(_)
        | KeyData::Dsa(_)
        | KeyData::SkEd25519(_)
        | KeyData::SkEcdsaSha2NistP256(_)
        | KeyData::Certificate(_)
        | KeyData::Other(_)
        | _ => None,
    }
}

/// `r || s` as OpenSSH writes it: two mpints (RFC 5656 section 3.1.2).
fn signature(raw: &[u8]) -> Option<Signature> {
    if raw.len() != 2 * FIELD_BYTES {
        return None;
    }
    let (r, s) = raw.split_at_checked(FIELD_BYTES)?;
    let mut data = Vec::with_capacity(raw.len().saturating_add(10));
    for number in [r, s] {
        let digits = number.iter().skip_while(|byte| **byte == 0).copied();
        let mut digits: Vec<u8> = digits.collect();
        // A leading bit that is set would mean a negative number.
        if digits.first().is_some_and(|byte| byte & 0x80 != 0) {
            digits.insert(0, 0);
        }
        data.extend_from_slice(&u32::try_from(digits.len()).ok()?.to_be_bytes());
        data.extend_from_slice(&digits);
    }
    let algorithm = Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    };
    Signature::new(algorithm, data).ok()
}

/// The one who speaks to the library, on a thread of its own.
struct Speaker {
    place: Pkcs11,
    open: Option<Open>,
    /// Never again: the next wrong PIN may lock the token.
    pin_refused: bool,
}

/// A library that is loaded, and a session that is logged in.
struct Open {
    session: Session,
    library: Library,
}

impl Speaker {
    fn answer(mut self, questions: &Receiver<Question>) {
        while let Ok(question) = questions.recv() {
            // Who gave up waiting must not have a signature made in his name.
            if !question.reply.is_closed() {
                let answer = self.one(&question);
                // He may have given up meanwhile.
                question.reply.send(answer).ok();
            }
        }
        self.close();
    }

    fn one(&mut self, question: &Question) -> Result<Vec<u8>, String> {
        let was_open = self.open.is_some();
        match self.attempt(question) {
            // Taken out and put back, restarted, logged out by another: all
            // the same, and only the next try can tell.
            Err(_) if was_open => {
                self.close();
                self.attempt(question)
            }
            answer => answer,
        }
        .inspect_err(|_| self.close())
    }

    fn attempt(&mut self, question: &Question) -> Result<Vec<u8>, String> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let session = &self.open.insert(open).session;
        let key = private_key(session, &question.point)?;
        match question.digest {
            None => Ok(Vec::new()),
            Some(digest) => session.sign(&Mechanism::Ecdsa, key, &digest).map_err(said),
        }
    }

    fn open(&mut self) -> Result<Open, String> {
        if self.pin_refused {
            return Err(
                "it refused the PIN, which is not tried again lest it lock: correct `pin_file` and restart".to_owned(),
            );
        }
        let library = load(&self.place.module)?;
        match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(TokenError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(why) => return Err(said(why)),
        }
        let session = self.session(&library)?;
        Ok(Open { session, library })
    }

    fn session(&mut self, library: &Library) -> Result<Session, String> {
        let mut slot = None;
        for known in library.get_slots_with_token().map_err(said)? {
            // One that cannot be read is not the one that is meant.
            let Ok(info) = library.get_token_info(known) else {
                continue;
            };
            if info.label().trim_end() == self.place.token {
                slot = Some(known);
            }
        }
        let slot = slot.ok_or("there is no token of that label: is it plugged in?")?;
        let session = library.open_ro_session(slot).map_err(said)?;
        let pin = Secret::read(&self.place.pin_file).map_err(|why| why.to_string())?;
        let text = std::str::from_utf8(pin.bytes()).map_err(|_| "its PIN is no text")?;
        match session.login(UserType::User, Some(&AuthPin::from(text.to_owned()))) {
            Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(TokenError::Pkcs11(
                RvError::PinIncorrect | RvError::PinLocked | RvError::PinExpired | RvError::PinLenRange,
                _,
            )) => {
                self.pin_refused = true;
                Err("it refused the PIN: correct `pin_file` and restart".to_owned())
            }
            Err(why) => Err(said(why)),
        }
    }

    /// Leaves the library as it was before, so that it looks for tokens anew.
    fn close(&mut self) {
        if let Some(Open { session, library }) = self.open.take() {
            drop(session);
            if let Err(why) = library.finalize() {
                tracing::debug!(%why, "the PKCS#11 library was not closed");
            }
        }
    }
}

fn load(module: &Path) -> Result<Library, String> {
    Library::new(module).map_err(|why| format!("{} cannot be loaded: {why}", module.display()))
}

/// The private key whose public half is this point: public and private
/// halves share their CKA_ID.
fn private_key(session: &Session, point: &[u8]) -> Result<ObjectHandle, String> {
    let length = u8::try_from(point.len()).map_err(|_| "that is no P-256 point")?;
    let wrapped = [&[OCTET_STRING, length], point].concat();
    // Most tokens wrap the point as the standard says; some give it bare.
    for encoded in [wrapped, point.to_vec()] {
        let known = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::EcPoint(encoded)];
        for public in session.find_objects(&known).map_err(said)? {
            let attributes = session.get_attributes(public, &[AttributeType::Id]).map_err(said)?;
            for attribute in attributes {
                let mine = [Attribute::Class(ObjectClass::PRIVATE_KEY), attribute];
                if let Some(key) = session.find_objects(&mine).map_err(said)?.first() {
                    return Ok(*key);
                }
            }
        }
    }
    Err("it does not hold that key, or not both of its halves under one CKA_ID".to_owned())
}

fn said(why: TokenError) -> String {
    why.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_written_as_openssh_reads_them() {
        // Leading zeros go, and a leading bit that is set gets one.
        let mut raw = [0x80u8; 2 * FIELD_BYTES];
        raw[..2].fill(0);
        raw[2] = 0x01;
        let data = signature(&raw).unwrap().as_bytes().to_vec();
        assert_eq!(data[..5], [0, 0, 0, 30, 1]);
        assert_eq!(data[34..40], [0, 0, 0, 33, 0, 0x80]);
        assert!(signature(&raw[1..]).is_none());
    }
}
