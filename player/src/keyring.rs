//! The identities a viewer has: from age identity files, or put together from shares. They are in memory only.

use std::path::{Path, PathBuf};

use age::x25519::Identity;
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};
use crate::files::read_bounded;
use crate::share::{SHARE_BYTES_MAX, Share, ShareError, join};

/// Bytes of an identity file.
const IDENTITY_BYTES_MAX: usize = 64 << 10;
/// Identities of one viewer.
const IDENTITIES_MAX: usize = 256;

/// What opens envelopes.
#[derive(Clone, Default)]
pub struct Keyring {
    identities: Vec<Identity>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keyring of {}", self.identities.len())
    }
}

impl Keyring {
    /// Reads identity files, and puts the identity together that the shares are of.
    pub fn read(identity_files: &[PathBuf], share_files: &[PathBuf]) -> Result<Keyring, Failure> {
        let mut identities = Vec::new();
        for path in identity_files {
            identities.extend(read_identities(path)?);
        }
        if !share_files.is_empty() {
            identities.push(read_shares(share_files)?);
        }
        if identities.len() > IDENTITIES_MAX {
            return Err(Failure::new(
                Exit::Usage,
                format!("more than {IDENTITIES_MAX} identities"),
            ));
        }
        Ok(Keyring { identities })
    }

    /// Whether nobody gave any.
    pub fn is_empty(&self) -> bool {
        self.identities.is_empty()
    }

    /// As the age crate takes them.
    pub fn identities(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.identities.iter().map(|identity| identity as &dyn age::Identity)
    }
}

fn read_secret(path: &Path, what: &str, bytes_max: usize) -> Result<Zeroizing<String>, Failure> {
    let shown = format!("{what} {}", path.display());
    let bytes = Zeroizing::new(read_bounded(path, bytes_max).map_err(|e| Failure::io(&shown, &e))?);
    let refused = |why: &str| Failure::new(Exit::Failed, format!("{shown}: {why}"));
    if bytes.len() > bytes_max {
        return Err(refused("too long to be one"));
    }
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(refused("not a text")),
    }
}

/// The identities of a file as `age-keygen` writes them: one a line, comments behind `#`.
pub fn read_identities(path: &Path) -> Result<Vec<Identity>, Failure> {
    let text = read_secret(path, "identity file", IDENTITY_BYTES_MAX)?;
    let refused = |why: String, hint: &str| {
        Failure::new(Exit::Failed, format!("identity file {}: {why}", path.display())).hint(hint)
    };
    if text.starts_with("age-encryption.org/") || text.starts_with("-----BEGIN AGE") {
        return Err(refused(
            "it is itself encrypted".to_owned(),
            "open it first: age -d FILE > IDENTITY",
        ));
    }
    let mut identities = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // What the line says is a secret, or somebody's mistake with one: it is not repeated.
        identities.push(line.parse().map_err(|_| {
            refused(
                format!("line {} is no X25519 identity (AGE-SECRET-KEY-1...)", n + 1),
                "age-keygen or portcullis-player key new make one; shares go with --share",
            )
        })?);
    }
    if identities.is_empty() {
        return Err(refused("no identity in it".to_owned(), "give what age-keygen -o wrote"));
    }
    Ok(identities)
}

/// The identity that these share files are of.
pub fn read_shares(paths: &[PathBuf]) -> Result<Identity, Failure> {
    let mut shares = Vec::new();
    for path in paths {
        let text = read_secret(path, "share", SHARE_BYTES_MAX)?;
        shares.push(
            Share::parse(&text).map_err(|e| Failure::new(Exit::Failed, format!("share {}: {e}", path.display())))?,
        );
    }
    join(&shares).map_err(|e| {
        let hint = match e {
            ShareError::TooFew { .. } => "give each with a --share of its own",
            ShareError::Twice(_) => "give different ones",
            ShareError::Mixed => "give those only whose `split` lines are the same",
            ShareError::NoShare(_) | ShareError::Checksum | ShareError::Wrong => "get sound copies from their holders",
            ShareError::Numbers | ShareError::Random => "",
        };
        Failure::new(Exit::Failed, e.to_string()).hint(hint)
    })
}
