//! Where the store is: an SQLite file, or a PostgreSQL database whose address
//! is a secret and comes from a file or the environment, never from argv.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::postgres::PostgresStore;
use super::sqlite::SqliteStore;
use super::{Store, StoreError};

/// The environment variable that names a PostgreSQL database; it wins over
/// the configuration.
pub const STORE_URL_VARIABLE: &str = "PORTCULLIS_STORE_URL";
/// Longest file with an address, in bytes.
const URL_FILE_BYTES_MAX: u64 = 4096;

/// A `postgres://` address, perhaps with a password in it.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl(Zeroizing<String>);

impl StoreUrl {
    pub fn new(url: String) -> StoreUrl {
        StoreUrl(Zeroizing::new(url))
    }

    /// Reads the one line of a file that nobody else may read.
    ///
    /// # Errors
    /// It is not there, others may read it, or it holds no such line.
    pub fn read(path: &Path) -> Result<StoreUrl, StoreError> {
        let unread = |error: std::io::Error| match error.kind() == ErrorKind::NotFound {
            true => StoreError::NotFound(format!("{}, which names the database", path.display())),
            false => StoreError::Unavailable(format!("cannot read {}: {error}", path.display())),
        };
        let file = std::fs::File::open(path).map_err(unread)?;
        let mode = file.metadata().map_err(unread)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::Corrupt(format!(
                "{0} may hold a password and others may read it (mode {mode:03o}): run `chmod 600 {0}`",
                path.display()
            )));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(URL_FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(unread)?;
        let line = text.trim();
        if !line.starts_with("postgres://") && !line.starts_with("postgresql://") || line.contains('\n') {
            return Err(StoreError::Corrupt(format!(
                "{} holds no line such as postgres://USER:PASSWORD@HOST/DATABASE",
                path.display()
            )));
        }
        Ok(StoreUrl::new(line.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreUrl(not told)")
    }
}

/// Where the store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// An SQLite file.
    File(PathBuf),
    /// A PostgreSQL database, named by a file.
    UrlFile(PathBuf),
    /// A PostgreSQL database, named by [`STORE_URL_VARIABLE`].
    Url(StoreUrl),
}

impl Place {
    /// What the environment says, if it says anything.
    pub fn of_environment() -> Option<Place> {
        let url = std::env::var(STORE_URL_VARIABLE).ok()?;
        Some(Place::Url(StoreUrl::new(url)))
    }

    /// Whether the address can be read, before anything is made.
    ///
    /// # Errors
    /// As for [`StoreUrl::read`].
    pub fn check(&self) -> Result<(), StoreError> {
        self.location().map(drop)
    }

    fn location(&self) -> Result<Location<'_>, StoreError> {
        Ok(match self {
            Place::File(path) => Location::File(path),
            Place::UrlFile(path) => Location::Url(StoreUrl::read(path)?),
            Place::Url(url) => Location::Url(url.clone()),
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => write!(f, "{}", path.display()),
            Place::UrlFile(path) => write!(f, "the PostgreSQL database named by {}", path.display()),
            Place::Url(_) => write!(f, "the PostgreSQL database named by {STORE_URL_VARIABLE}"),
        }
    }
}

enum Location<'a> {
    File(&'a Path),
    Url(StoreUrl),
}

/// Makes a new store.
///
/// # Errors
/// [`StoreError::Exists`] if one is there already.
pub async fn create(place: &Place) -> Result<(), StoreError> {
    match place.location()? {
        Location::File(path) => SqliteStore::create(path).await?.close().await,
        Location::Url(url) => PostgresStore::create(&url).await?.close().await,
    }
    Ok(())
}

/// Opens the store and brings its tables up to date.
///
/// # Errors
/// [`StoreError::NotFound`] if none is there.
pub async fn open(place: &Place) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match place.location()? {
        Location::File(path) => Arc::new(SqliteStore::open(path).await?),
        Location::Url(url) => Arc::new(PostgresStore::open(&url).await?),
    })
}

/// Opens the store beside a running server, to read only.
///
/// # Errors
/// As for [`open`].
pub async fn look(place: &Place) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match place.location()? {
        Location::File(path) => Arc::new(SqliteStore::look(path).await?),
        Location::Url(url) => Arc::new(PostgresStore::look(&url).await?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_from_a_private_file_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("url");
        assert!(matches!(StoreUrl::read(&path), Err(StoreError::NotFound(_))));
        std::fs::write(&path, "postgres://gate:hunter2@localhost/p\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for open in [0o640, 0o604, 0o660] {
            mode(open);
            let error = StoreUrl::read(&path).unwrap_err().to_string();
            assert!(error.contains("chmod 600") && !error.contains("hunter2"), "{error}");
        }
        mode(0o600);
        let url = StoreUrl::read(&path).unwrap();
        assert_eq!(url.as_str(), "postgres://gate:hunter2@localhost/p");
        for none in ["", "mysql://x", "postgres://a\npostgres://b", "\npassword"] {
            std::fs::write(&path, none).unwrap();
            assert!(matches!(StoreUrl::read(&path), Err(StoreError::Corrupt(_))), "{none:?}");
        }
    }
}
