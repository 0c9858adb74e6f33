//! Proves ourselves to a target: certificate, key, password or answers to its
//! prompts. The target has proved itself before; nothing is shown to another.

use std::sync::Arc;

use russh::client::{AuthResult, Handle, Handler, KeyboardInteractiveAuthResponse, Prompt as Asked};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey};
use russh::{MethodKind, MethodSet};

use super::banner::Banner;
use super::leg::clean;
use crate::credentials::{Secret, Why};
use crate::keeper::{Keeper, KeeperError, TargetCertificate};
use crate::kernel::prompts::{Answer, Prompt, Prompts, Unanswered};

/// Why a target did not let us in. Texts are for the user; they follow the
/// target's name.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("refused the login {0}: does it trust the target CA, and does the account exist?")]
    Certificate(String),
    #[error("refused the {1} of {0}: is it the right one, and does the account exist?")]
    Secret(String, &'static str),
    #[error("does not take a {0} from us: it offers {1}")]
    NotOffered(&'static str, String),
    #[error("wants more than the {0}: {1} as well")]
    More(&'static str, String),
    #[error("was not logged in to: {0}")]
    Prompt(Unanswered),
    #[error("takes RSA keys with SHA-1 only, which we do not sign with: give it an ed25519 key")]
    Sha1,
    #[error("broke the login off: {0}")]
    Broken(String),
    #[error("gets no certificate: {0}")]
    Keeper(#[from] KeeperError),
}

impl From<russh::Error> for Refused {
    fn from(error: russh::Error) -> Refused {
        Refused::Broken(clean(&error.to_string()))
    }
}

/// What we show.
pub enum Shown {
    Certificate(Box<(PrivateKey, Certificate)>),
    Key(Box<PrivateKey>),
    Password(Secret),
    Answers(Secret),
}

impl Shown {
    /// A fresh key with a certificate of the target CA.
    ///
    /// # Errors
    /// When it is not signed.
    pub async fn certificate(
        keeper: &dyn Keeper,
        certificate: impl FnOnce(PublicKey) -> TargetCertificate,
    ) -> Result<Shown, Refused> {
        let mut seed = [0u8; 32];
        crate::entropy::fill(&mut seed);
        let made = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed)), "");
        zeroize::Zeroize::zeroize(&mut seed);
        let key = made.map_err(|error| Refused::Broken(error.to_string()))?;
        let public = PublicKey::new(key.public_key().key_data().clone(), "");
        let certificate = keeper.issue_target(certificate(public)).await?;
        Ok(Shown::Certificate(Box::new((key, certificate))))
    }

    /// The private key that a source gave; `passphrase` opens an encrypted one.
    ///
    /// # Errors
    /// When it is none, or is not opened. Nothing of it is told.
    pub fn key(secret: &Secret, passphrase: Option<&Secret>) -> Result<Shown, Why> {
        let key = PrivateKey::from_openssh(secret.text()).map_err(|_| Why::NotAKey)?;
        let key = match (key.is_encrypted(), passphrase) {
            (false, _) => key,
            (true, None) => return Err(Why::NoPassphrase),
            (true, Some(passphrase)) => key.decrypt(passphrase.line()?).map_err(|_| Why::WrongPassphrase)?,
        };
        Ok(Shown::Key(Box::new(key)))
    }
}

/// Whether the text of a private key has to be opened first.
///
/// # Errors
/// When it is none.
pub fn is_encrypted(secret: &Secret) -> Result<bool, Why> {
    PrivateKey::from_openssh(secret.text())
        .map(|key| key.is_encrypted())
        .map_err(|_| Why::NotAKey)
}

/// Logs in.
///
/// # Errors
/// [`Refused`].
pub async fn log_in<H: Handler>(
    handle: &mut Handle<H>,
    login: &str,
    shown: Shown,
    banner: &Banner,
) -> Result<(), Refused> {
    match shown {
        Shown::Certificate(both) => {
            let (key, certificate) = *both;
            let answer = handle
                .authenticate_openssh_cert(login, Arc::new(key), certificate)
                .await?;
            match answer.success() {
                true => Ok(()),
                false => Err(Refused::Certificate(login.to_owned())),
            }
        }
        Shown::Key(key) => with_key(handle, login, *key).await,
        Shown::Password(secret) => with_password(handle, login, &secret, banner).await,
        Shown::Answers(secret) => {
            let answers = secret.text().lines().collect();
            let method = Some(MethodKind::KeyboardInteractive);
            with_answers(handle, login, "answer", answers, method, banner).await
        }
    }
}

async fn with_key<H: Handler>(handle: &mut Handle<H>, login: &str, key: PrivateKey) -> Result<(), Refused> {
    const WHAT: &str = "key";
    let hash = match key.algorithm().is_rsa() {
        false => None,
        true => match handle.best_supported_rsa_hash().await? {
            Some(Some(hash)) => Some(hash),
            Some(None) => return Err(Refused::Sha1),
            // It does not say (RFC 8308 is not for everybody): RFC 8332's first.
            None => Some(HashAlg::Sha256),
        },
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = handle.authenticate_publickey(login, key).await?;
    judge(answer, login, WHAT, Some(MethodKind::PublicKey))
}

fn judge(answer: AuthResult, login: &str, what: &'static str, method: Option<MethodKind>) -> Result<(), Refused> {
    match answer {
        AuthResult::Success => Ok(()),
        AuthResult::Failure {
            remaining_methods,
            partial_success,
        } => Err(failed(&remaining_methods, partial_success, login, what, method)),
    }
}

/// Why a login failed. `method` is none where the target offered it before: many
/// offer what has failed no more, and would be taken to never have done so.
fn failed(offered: &MethodSet, partial: bool, login: &str, what: &'static str, method: Option<MethodKind>) -> Refused {
    let names: Vec<&str> = offered.iter().map(<&'static str>::from).collect();
    match partial {
        true => Refused::More(what, names.join(", ")),
        false if method.is_some_and(|method| !names.is_empty() && !offered.contains(&method)) => {
            Refused::NotOffered(what, names.join(", "))
        }
        false => Refused::Secret(login.to_owned(), what),
    }
}

async fn with_password<H: Handler>(
    handle: &mut Handle<H>,
    login: &str,
    secret: &Secret,
    banner: &Banner,
) -> Result<(), Refused> {
    const WHAT: &str = "password";
    // What it takes is asked first: a password that is shown in the wrong way
    // counts as a failed one, and accounts are locked for these.
    let offered = match handle.authenticate_none(login).await? {
        AuthResult::Success => return Ok(()),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if !offered.contains(&MethodKind::Password) && offered.contains(&MethodKind::KeyboardInteractive) {
        return with_answers(handle, login, WHAT, vec![secret.text()], None, banner).await;
    }
    if !offered.contains(&MethodKind::Password) {
        return Err(failed(&offered, false, login, WHAT, Some(MethodKind::Password)));
    }
    banner.close();
    let answer = handle.authenticate_password(login, secret.text()).await?;
    judge(answer, login, WHAT, None)
}

async fn with_answers<H: Handler>(
    handle: &mut Handle<H>,
    login: &str,
    what: &'static str,
    secrets: Vec<&str>,
    method: Option<MethodKind>,
    banner: &Banner,
) -> Result<(), Refused> {
    let mut prompts = Prompts::new(secrets.len());
    let mut answer = handle.authenticate_keyboard_interactive_start(login, None).await?;
    loop {
        let (name, instructions, asked) = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(()),
            KeyboardInteractiveAuthResponse::Failure {
                remaining_methods,
                partial_success,
            } => {
                return Err(failed(&remaining_methods, partial_success, login, what, method));
            }
            KeyboardInteractiveAuthResponse::InfoRequest {
                name,
                instructions,
                prompts,
            } => (name, instructions, prompts),
        };
        let known: Vec<Prompt<'_>> = asked.iter().map(prompt).collect();
        let round = prompts
            .round(&name, &instructions, &known)
            .map_err(|why| Refused::Prompt(why.with(|text| repeatable(text, &secrets))))?;
        let responses = round
            .into_iter()
            .map(|answer| match answer {
                Answer::Login => login.to_owned(),
                Answer::Secret(number) => secrets.get(number).copied().unwrap_or_default().to_owned(),
            })
            .collect();
        banner.close();
        answer = handle.authenticate_keyboard_interactive_respond(responses).await?;
    }
}

fn prompt(asked: &Asked) -> Prompt<'_> {
    Prompt {
        text: &asked.prompt,
        echo: asked.echo,
    }
}

/// A target's words as they may be told: one that has seen a secret can say it.
fn repeatable(text: &str, secrets: &[&str]) -> String {
    match secrets.iter().any(|secret| text.contains(secret)) {
        true => "(a text with the secret in it)".to_owned(),
        false => clean(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_words_are_told_without_the_secret() {
        assert_eq!(repeatable("Token\x1b[2J?", &["hunter2"]), "Token[2J?");
        assert!(!repeatable("hunter2 is wrong:", &["hunter2"]).contains("hunter2"));
    }
}
