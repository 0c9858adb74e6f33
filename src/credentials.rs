//! Secrets for targets that take no certificate: where they come from.
//!
//! The configuration names the sources; a target of the inventory names one of
//! them. So whoever may write the inventory can choose a source, and can have
//! no file of this machine read and no command run in it.
//!
//! A secret is asked for under a permit to connect, for one login at one
//! target, right before it is shown there. It is wiped when it is dropped, and
//! is in no argument, log line, error, recording or answer.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::kernel::id::{Login, SourceName, TargetName};
use crate::kernel::policy::MayConnect;
use crate::kernel::prompts::ANSWERS_MAX;

mod command;
mod file;

/// Longest secret, in bytes: room for the private key of a large RSA key.
pub const SECRET_BYTES_MAX: usize = 16 * 1024;
/// Most sources of one server.
pub const SOURCES_MAX: usize = 64;
/// Most arguments of a command.
pub const COMMAND_ARGS_MAX: usize = 64;

/// A source as the configuration has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub name: SourceName,
    pub kind: Kind,
    /// Where passphrases of encrypted private keys come from.
    pub passphrase: Option<SourceName>,
}

/// What a source is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One file each, `LOGIN@TARGET`, in this folder.
    File { folder: PathBuf },
    /// The standard output of a program, which is told target and login.
    Command {
        /// The program, an absolute path, and its first arguments.
        command: Vec<String>,
        timeout: Duration,
    },
}

/// Whose secret is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    pub target: TargetName,
    pub login: Login,
}

impl fmt::Display for Wanted {
    /// `login@target`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.login, self.target)
    }
}

/// Why there is no secret. Texts are for the user: no path, no output.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Why {
    #[error("it is not in this server's configuration")]
    NotConfigured,
    #[error("it has no file for that")]
    NoFile,
    #[error("its file is not safe to take, as the server's log says")]
    Unsafe,
    #[error("its file cannot be read, as the server's log says")]
    Unreadable,
    #[error("its command cannot be started: {0}")]
    NotStarted(String),
    #[error("its command ended with {0}")]
    Failed(String),
    #[error("its command gave no answer within {0} s")]
    Timeout(u64),
    #[error("it gives more than {SECRET_BYTES_MAX} bytes")]
    TooLong,
    #[error("it gives nothing")]
    Empty,
    #[error("what it gives is not text")]
    NotText,
    #[error("it gives {0} lines, and a password or passphrase is one")]
    NotOneLine(usize),
    #[error("it gives {0} lines, and a login takes at most {ANSWERS_MAX}")]
    TooManyLines(usize),
    #[error("what it gives is no OpenSSH private key that can be used")]
    NotAKey,
    #[error("its key is encrypted, and the source names no `passphrase`")]
    NoPassphrase,
    #[error("the passphrase does not open its key")]
    WrongPassphrase,
}

/// A source that gave nothing of use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the credential source {source_name} has nothing for {wanted}: {why}")]
pub struct NoSecret {
    pub source_name: SourceName,
    pub wanted: Wanted,
    pub why: Why,
}

/// A secret. Wiped when dropped, and not shown.
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").finish_non_exhaustive()
    }
}

impl Secret {
    /// What a source gave, without the end of its last line.
    ///
    /// # Errors
    /// When it is empty, too long or not text.
    pub fn new(mut bytes: Zeroizing<Vec<u8>>) -> Result<Secret, Why> {
        for end in [b'\n', b'\r'] {
            if bytes.last() == Some(&end) {
                bytes.pop();
            }
        }
        match bytes.len() {
            0 => Err(Why::Empty),
            1..=SECRET_BYTES_MAX if std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0) => Ok(Secret(bytes)),
            1..=SECRET_BYTES_MAX => Err(Why::NotText),
            _ => Err(Why::TooLong),
        }
    }

    /// All of it.
    pub fn text(&self) -> &str {
        // Looked at when it was made.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Its one line.
    ///
    /// # Errors
    /// When it has more.
    pub fn line(&self) -> Result<&str, Why> {
        match self.text().lines().count() {
            0 | 1 => Ok(self.text()),
            more => Err(Why::NotOneLine(more)),
        }
    }

    /// Its lines.
    ///
    /// # Errors
    /// When there are more than a login takes.
    pub fn lines(&self) -> Result<Vec<&str>, Why> {
        match self.text().lines().count() {
            0..=ANSWERS_MAX => Ok(self.text().lines().collect()),
            more => Err(Why::TooManyLines(more)),
        }
    }
}

/// What a source answers with.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Secret, Why>> + Send + 'a>>;

/// Gives secrets. Slow and fallible: it may be somebody else's machine.
pub trait CredentialSource: Send + Sync + 'static {
    /// The secret of `wanted`, under a permit to connect. Dropping the future
    /// ends whatever it began.
    fn fetch<'a>(&'a self, permit: MayConnect<'a>, wanted: &'a Wanted) -> Answer<'a>;

    /// Whether it can be asked at all; no secret is fetched.
    ///
    /// # Errors
    /// What is wrong with it, for whoever runs the server.
    fn look(&self) -> Result<(), String>;
}

/// One source and where the passphrases of its keys come from.
struct Source {
    source: Arc<dyn CredentialSource>,
    passphrase: Option<SourceName>,
}

type Named = BTreeMap<SourceName, Source>;

/// Every source of this server, by name. Swapped whole by a reload.
pub struct Sources(RwLock<Arc<Named>>);

fn named(settings: &[Setting]) -> Arc<Named> {
    let source = |setting: &Setting| Source {
        source: match &setting.kind {
            Kind::File { folder } => Arc::new(file::Folder::new(folder.clone())),
            Kind::Command { command, timeout } => Arc::new(command::Program::new(command.clone(), *timeout)),
        },
        passphrase: setting.passphrase.clone(),
    };
    let each = settings.iter().map(|setting| (setting.name.clone(), source(setting)));
    Arc::new(each.collect())
}

impl Sources {
    /// Those of the configuration.
    pub fn new(settings: &[Setting]) -> Sources {
        Sources(RwLock::new(named(settings)))
    }

    /// Puts others in force; who is asked already answers still.
    pub fn put(&self, settings: &[Setting]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = named(settings);
    }

    fn now(&self) -> Arc<Named> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &SourceName) -> bool {
        self.now().contains_key(name)
    }

    /// Whether the source can be asked; no secret is fetched.
    ///
    /// # Errors
    /// What is wrong with it, for whoever runs the server.
    pub fn look(&self, name: &SourceName) -> Result<(), String> {
        let known = self.now();
        let source = known.get(name).ok_or_else(|| Why::NotConfigured.to_string())?;
        source.source.look()
    }

    /// The secret of `wanted` from `name`.
    ///
    /// # Errors
    /// [`NoSecret`].
    pub async fn fetch(&self, permit: MayConnect<'_>, name: &SourceName, wanted: &Wanted) -> Result<Secret, NoSecret> {
        tracing::info!(source = %name, %wanted, rule = permit.rule(), "a credential is fetched");
        let known = self.now();
        let fetched = match known.get(name) {
            Some(source) => source.source.fetch(permit, wanted).await,
            None => Err(Why::NotConfigured),
        };
        fetched.map_err(|why| no_secret(name, wanted, why))
    }

    /// The passphrase of the key that `name` gave, if it says where that is.
    ///
    /// # Errors
    /// [`NoSecret`].
    pub async fn passphrase(
        &self,
        permit: MayConnect<'_>,
        name: &SourceName,
        wanted: &Wanted,
    ) -> Result<Secret, NoSecret> {
        let from = self.now().get(name).and_then(|source| source.passphrase.clone());
        let from = from.ok_or_else(|| no_secret(name, wanted, Why::NoPassphrase))?;
        self.fetch(permit, &from, wanted).await
    }
}

/// What went wrong with a source, in one.
pub fn no_secret(name: &SourceName, wanted: &Wanted, why: Why) -> NoSecret {
    NoSecret {
        source_name: name.clone(),
        wanted: wanted.clone(),
        why,
    }
}

#[cfg(test)]
#[path = "credentials/tests.rs"]
mod tests;
