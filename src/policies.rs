//! The folder of policies, and the policies in force. `kernel/policy/` says
//! what they mean.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use jiff::tz::TimeZone;

use crate::clock::{self, Clock};
use crate::kernel::grant::WallMs;
pub use crate::kernel::policy::engine::Policies;
use crate::kernel::policy::engine::{DEFAULT, DEFAULT_FILE, LABELS_FILE};
use crate::kernel::policy::facts::{Action, Facts, Whereto, Who};
use crate::kernel::policy::load::{FILE_BYTES_MAX, FILES_MAX, PolicyError};
use crate::kernel::policy::place::{Zone, zones_of};

/// How the name of a file of policies ends.
const ENDING: &str = ".cedar";

/// Why a folder of policies cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("cannot read {path}: {error}", path = path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{path} is no plain file of at most {FILE_BYTES_MAX} bytes", path = path.display())]
    NotAFile { path: PathBuf },
    #[error("{dir} holds no file that ends in .cedar, and without policies nobody gets in; `portcullis policy show --default --text` prints the default ones", dir = dir.display())]
    Empty { dir: PathBuf },
    #[error("{dir} holds more than {FILES_MAX} files of policies; put some together", dir = dir.display())]
    TooMany { dir: PathBuf },
    #[error("the policies of {dir} are refused:\n  {}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "), dir = dir.display())]
    Wrong { dir: PathBuf, errors: Vec<PolicyError> },
}

/// Files of policies: name and text of each, by name.
pub type Files = Vec<(String, String)>;

/// The default policies as files.
pub fn default_files() -> Files {
    vec![(DEFAULT_FILE.to_owned(), DEFAULT.to_owned())]
}

/// Reads the files of a folder, none of the folders in it.
///
/// # Errors
/// The first thing that cannot be read.
pub fn read(dir: &Path) -> Result<Files, Unusable> {
    let unread = |path: &Path, error| Unusable::Read {
        path: path.to_owned(),
        error,
    };
    let mut files = Files::new();
    for entry in std::fs::read_dir(dir).map_err(|error| unread(dir, error))? {
        let path = entry.map_err(|error| unread(dir, error))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some(name) = name.filter(|name| !name.starts_with('.') && (name.ends_with(ENDING) || name == LABELS_FILE))
        else {
            continue;
        };
        if files.len() > FILES_MAX {
            return Err(Unusable::TooMany { dir: dir.to_owned() });
        }
        let meta = std::fs::metadata(&path).map_err(|error| unread(&path, error))?;
        if !meta.is_file() || meta.len() > FILE_BYTES_MAX as u64 {
            return Err(Unusable::NotAFile { path });
        }
        let text = std::fs::read_to_string(&path).map_err(|error| unread(&path, error))?;
        files.push((name, text));
    }
    if !files.iter().any(|(name, _)| name.ends_with(ENDING)) {
        return Err(Unusable::Empty { dir: dir.to_owned() });
    }
    files.sort();
    Ok(files)
}

/// Reads and validates a folder. A folder that is not there, and that nobody
/// named, stands for the default policies.
///
/// # Errors
/// Why they cannot be put in force.
pub fn load(dir: &Path, named: bool) -> Result<Policies, Unusable> {
    let there = dir.try_exists().map_err(|error| Unusable::Read {
        path: dir.to_owned(),
        error,
    })?;
    let files = match named || there {
        true => read(dir)?,
        false => default_files(),
    };
    Policies::load(&files).map_err(|errors| Unusable::Wrong {
        dir: dir.to_owned(),
        errors,
    })
}

/// Where and when the policies mean.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// Networks by name.
    pub zones: Vec<Zone>,
    /// Where the time of day is told.
    pub time_zone: TimeZone,
}

/// The policies in force and their place, each swapped whole. A decision
/// works to its end with those that it began with.
pub struct InForce {
    clock: Clock,
    policies: RwLock<Arc<Policies>>,
    place: RwLock<Arc<Place>>,
}

impl InForce {
    /// Begins with these.
    pub fn new(policies: Policies, place: Place, clock: Clock) -> Arc<InForce> {
        Arc::new(InForce {
            clock,
            policies: RwLock::new(Arc::new(policies)),
            place: RwLock::new(Arc::new(place)),
        })
    }

    /// Those in force now.
    pub fn now(&self) -> Arc<Policies> {
        self.policies.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in force.
    pub fn put(&self, policies: Policies) {
        *self.policies.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policies);
    }

    /// Puts them into another place.
    pub fn put_place(&self, place: Place) {
        *self.place.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(place);
    }

    /// What is known wherever a decision is asked for: who, where to, from
    /// where, and the time.
    pub fn facts(&self, action: Action, who: Who, target: Option<Whereto>, source: Option<IpAddr>) -> Facts {
        let now_ms = self.clock.now().wall_ms;
        self.at(now_ms, Facts::new(action, who, target, now_ms).from(source))
    }

    /// The same facts at another time, and from where they are in this place.
    pub fn at(&self, now_ms: WallMs, facts: Facts) -> Facts {
        let place = self.place.read().unwrap_or_else(PoisonError::into_inner).clone();
        Facts {
            now_ms,
            local: clock::local(now_ms, &place.time_zone),
            zones: facts
                .source
                .map(|source| zones_of(source, &place.zones))
                .unwrap_or_default(),
            ..facts
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_or_told_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let default = Policies::builtin().unwrap().digest();
        assert_eq!(load(&gone, false).unwrap().digest(), default);
        assert!(matches!(load(&gone, true), Err(Unusable::Read { .. })));
        assert!(matches!(load(dir.path(), false), Err(Unusable::Empty { .. })));

        std::fs::write(dir.path().join(DEFAULT_FILE), DEFAULT).unwrap();
        std::fs::write(dir.path().join("README"), "not a policy").unwrap();
        std::fs::write(dir.path().join(".x.cedar"), "an editor's own").unwrap();
        assert_eq!(load(dir.path(), true).unwrap().digest(), default);

        std::fs::write(dir.path().join("more.cedar"), "permit (principal, action, resource);").unwrap();
        let why = load(dir.path(), true).unwrap_err().to_string();
        assert!(why.contains("more.cedar:1:1") && why.contains("@id"), "{why}");
        std::fs::remove_file(dir.path().join("more.cedar")).unwrap();

        let labels = "[[label]]\nname = \"odd\"\nwhy = \"x\"\npatterns = ['^odd']\n";
        std::fs::write(dir.path().join(LABELS_FILE), labels).unwrap();
        let own = load(dir.path(), true).unwrap();
        assert_ne!(own.digest(), default, "labels decide too");
        assert_eq!(own.labels().of("odd one").len(), 1);
        assert!(own.labels().of("rm -rf /").is_empty());

        std::fs::create_dir(dir.path().join("x.cedar")).unwrap();
        assert!(matches!(load(dir.path(), true), Err(Unusable::NotAFile { .. })));
    }
}
