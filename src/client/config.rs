//! What the person's side remembers: which server, who, by which key
//! (`$XDG_CONFIG_HOME/portcullis/client.toml`), and the token of the last
//! login (`$XDG_STATE_HOME/portcullis/token`, mode 0600).

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use russh::keys::ssh_key::Fingerprint;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::prover::Which;
use crate::api::client::tls::{Anchor, Pin, Remote, RemoteError, ServerUrl};
use crate::api::wire::access::ServerView;
use crate::durable::{self, DurableError};
use crate::kernel::id::{Destination, IdentityName};

/// Longest file of ours that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Mode of our folders: what somebody reaches is nobody else's business.
const FOLDER_MODE: u32 = 0o700;
const PRIVATE_MODE: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// Why the person's own files cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PersonError {
    #[error("where your files are is not known: HOME is not set")]
    NoHome,
    #[error("{}: {why}; log in again: portcullis login --server URL --identity NAME", path.display())]
    Unreadable { path: PathBuf, why: String },
    #[error("{} may be read by others or belongs to somebody else: remove it and log in again: portcullis login", .0.display())]
    OpenToOthers(PathBuf),
    #[error(transparent)]
    File(#[from] DurableError),
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// Where the person's files are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    config: PathBuf,
    state: PathBuf,
    home: PathBuf,
}

impl Places {
    /// As the XDG base directory specification says; relative paths in its
    /// variables count for nothing.
    ///
    /// # Errors
    /// [`PersonError::NoHome`].
    pub fn from_env() -> Result<Places, PersonError> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let home = absolute("HOME").ok_or(PersonError::NoHome)?;
        let config = absolute("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let state = absolute("XDG_STATE_HOME").unwrap_or_else(|| home.join(".local/state"));
        Ok(Places {
            config: config.join("portcullis"),
            state: state.join("portcullis"),
            home,
        })
    }

    /// All below one folder, as after `HOME=root`.
    pub fn below(home: impl Into<PathBuf>) -> Places {
        let home = home.into();
        Places {
            config: home.join(".config/portcullis"),
            state: home.join(".local/state/portcullis"),
            home,
        }
    }

    /// What is remembered.
    pub fn client(&self) -> PathBuf {
        self.config.join("client.toml")
    }

    /// The token of the last login.
    pub fn token(&self) -> PathBuf {
        self.state.join("token")
    }

    /// Public halves and certificates, for ssh.
    pub fn certificates(&self) -> PathBuf {
        self.state.join("certs")
    }

    /// Sockets of ssh's ControlMaster, if the person uses it.
    pub fn control(&self) -> PathBuf {
        self.state.join("mux")
    }

    /// Whom ssh believes that it is the gate.
    pub fn known_hosts(&self) -> PathBuf {
        self.state.join("known_hosts")
    }

    /// The public half of the key for `destination`.
    pub fn public_key(&self, destination: &Destination) -> PathBuf {
        self.certificates().join(format!("{destination}.pub"))
    }

    /// The certificate for `destination`.
    pub fn certificate(&self, destination: &Destination) -> PathBuf {
        self.certificates().join(format!("{destination}-cert.pub"))
    }

    /// ssh's own configuration.
    pub fn ssh_config(&self) -> PathBuf {
        self.home.join(".ssh/config")
    }

    /// Ours, which it includes.
    pub fn ssh_include(&self) -> PathBuf {
        self.home.join(".ssh/portcullis.conf")
    }
}

/// `client.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// `https://HOST:PORT`.
    pub server: String,
    pub identity: IdentityName,
    /// Authorities that name the server (PEM).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The server's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<String>,
    /// The agent's key that proves who calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The same in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The gate, as it named itself at the last login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<ServerView>,
}

impl Remembered {
    /// What was remembered; nothing if nobody has logged in.
    ///
    /// # Errors
    /// A file that cannot be read or understood.
    pub fn load(places: &Places) -> Result<Option<Remembered>, PersonError> {
        let path = places.client();
        match read_text(&path)? {
            None => Ok(None),
            Some(text) => toml::from_str(&text)
                .map(Some)
                .map_err(|error| unreadable(&path, error.message())),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, places: &Places) -> Result<(), PersonError> {
        let path = places.client();
        let text = toml::to_string(self).map_err(|error| unreadable(&path, error))?;
        write(&path, text.as_bytes(), PRIVATE_MODE)
    }

    /// Which key proves who calls.
    pub fn which(&self) -> Which {
        match (
            &self.key_file,
            self.key.as_ref().and_then(|text| text.parse::<Fingerprint>().ok()),
        ) {
            (Some(path), _) => Which::File(path.clone()),
            (None, Some(fingerprint)) => Which::Held(fingerprint),
            (None, None) => Which::Any,
        }
    }

    /// The same with another key.
    #[must_use]
    pub fn with_key(self, which: &Which) -> Remembered {
        let (key, key_file) = match which {
            Which::Any => (None, None),
            Which::Held(fingerprint) => (Some(fingerprint.to_string()), None),
            Which::File(path) => (None, Some(path.clone())),
        };
        Remembered { key, key_file, ..self }
    }

    /// The way to the server.
    ///
    /// # Errors
    /// An address, pin or file that is of no use.
    pub fn remote(&self) -> Result<Remote, PersonError> {
        let url: ServerUrl = self.server.parse()?;
        let anchor = match (&self.pin, &self.ca) {
            (Some(pin), _) => Anchor::Pin(pin.parse::<Pin>()?),
            (None, Some(path)) => Anchor::Ca(std::fs::read(path).map_err(|error| unreadable(path, error))?),
            (None, None) => Anchor::System,
        };
        Ok(Remote::new(url, &anchor)?)
    }
}

/// A token, and for whom it is good.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The server that gave it: no other one sees it.
    pub server: String,
    pub identity: IdentityName,
    token: String,
    /// The first ms at which it is good no more.
    expires_ms: u64,
}

impl Drop for Token {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

impl fmt::Debug for Token {
    /// Shows no token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// As the server gave it.
    pub fn new(remembered: &Remembered, token: String, expires_ms: u64) -> Token {
        Token {
            server: remembered.server.clone(),
            identity: remembered.identity.clone(),
            token,
            expires_ms,
        }
    }

    /// What goes over TLS.
    pub fn secret(&self) -> Zeroizing<String> {
        Zeroizing::new(self.token.clone())
    }

    /// The token for what is remembered, if there is one that `now_ms` finds alive.
    ///
    /// # Errors
    /// A file that others may read, or that cannot be understood.
    pub fn load(places: &Places, remembered: &Remembered, now_ms: u64) -> Result<Option<Token>, PersonError> {
        let path = places.token();
        let Some(text) = read_text(&path)? else { return Ok(None) };
        let meta = std::fs::metadata(&path).map_err(|error| unreadable(&path, error))?;
        if meta.mode() & OTHERS != 0 || meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(PersonError::OpenToOthers(path));
        }
        // A message of the reader could show the token.
        let token: Token = toml::from_str(&text).map_err(|_| unreadable(&path, "it is not a token of ours"))?;
        let ours = token.server == remembered.server && token.identity == remembered.identity;
        Ok((ours && now_ms < token.expires_ms).then_some(token))
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, places: &Places) -> Result<(), PersonError> {
        let path = places.token();
        let text = Zeroizing::new(toml::to_string(self).map_err(|_| unreadable(&path, "it cannot be written"))?);
        write(&path, text.as_bytes(), PRIVATE_MODE)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// When the file is there and stays.
    pub fn forget(places: &Places) -> Result<(), PersonError> {
        let path = places.token();
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unreadable(&path, error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn unreadable(path: &Path, why: impl ToString) -> PersonError {
    PersonError::Unreadable {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// A file of ours as text; nothing if it is not there.
fn read_text(path: &Path) -> Result<Option<Zeroizing<String>>, PersonError> {
    match durable::read_bounded(path, FILE_BYTES_MAX) {
        Ok(bytes) => String::from_utf8(bytes)
            .map(|text| Some(Zeroizing::new(text)))
            .map_err(|_| unreadable(path, "it is not text")),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Puts a file of ours in place, with the folders above it.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PersonError> {
    durable::create_dir_all(durable::parent(path), FOLDER_MODE)?;
    let mut staging = path.as_os_str().to_owned();
    staging.push(format!(".{}.new", std::process::id()));
    durable::replace(path, bytes, mode, Path::new(&staging))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn remembered() -> Remembered {
        Remembered {
            server: "https://gate.example:8443".into(),
            identity: "alice".parse().unwrap(),
            ca: None,
            pin: Some(format!("sha256:{}", "0f".repeat(32))),
            key: None,
            key_file: None,
            gate: Some(ServerView {
                node: "gate1".parse().unwrap(),
                ssh_hosts: vec!["gate.example".into()],
                ssh_port: 2222,
                known_hosts: vec!["@cert-authority * ssh-ed25519 AAAA".into()],
            }),
        }
    }

    fn token(expires_ms: u64) -> Token {
        Token::new(&remembered(), "pct_secret".to_owned(), expires_ms)
    }

    #[test]
    fn what_is_remembered_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        assert_eq!(Remembered::load(&places).unwrap(), None);
        for which in [Which::Any, Which::File("/k".into())] {
            let it = remembered().with_key(&which);
            it.save(&places).unwrap();
            let back = Remembered::load(&places).unwrap().unwrap();
            assert_eq!(back, it);
            assert_eq!(back.which(), which);
            back.remote().unwrap();
        }
        std::fs::write(places.client(), "colour = 1").unwrap();
        assert!(Remembered::load(&places).unwrap_err().to_string().contains("colour"));
    }

    #[test]
    fn a_token_is_for_one_server_one_identity_and_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        let load = |remembered: &Remembered, now| Token::load(&places, remembered, now).unwrap();
        assert!(load(&remembered(), 0).is_none());
        token(10_000).save(&places).unwrap();
        assert_eq!(load(&remembered(), 9_999).unwrap().secret().as_str(), "pct_secret");
        assert!(load(&remembered(), 10_000).is_none(), "half-open");
        let mut other = remembered();
        other.server = "https://other.example:8443".into();
        assert!(load(&other, 0).is_none());
        let mut other = remembered();
        other.identity = "bob".parse().unwrap();
        assert!(load(&other, 0).is_none());
        Token::forget(&places).unwrap();
        Token::forget(&places).unwrap();
        assert!(load(&remembered(), 0).is_none());
    }

    #[test]
    fn a_token_that_others_may_read_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places::below(dir.path());
        token(u64::from(u32::MAX)).save(&places).unwrap();
        let mode = std::fs::metadata(places.token()).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o600);
        std::fs::set_permissions(places.token(), PermissionsExt::from_mode(0o640)).unwrap();
        let refused = Token::load(&places, &remembered(), 0).unwrap_err();
        assert!(matches!(refused, PersonError::OpenToOthers(_)), "{refused}");
        std::fs::set_permissions(places.token(), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::write(places.token(), "token = \"pct_secret\" nonsense").unwrap();
        let refused = Token::load(&places, &remembered(), 0).unwrap_err().to_string();
        assert!(!refused.contains("pct_secret"), "{refused}");
        assert!(!format!("{:?}", token(u64::from(u32::MAX))).contains("pct_secret"));
    }
}
