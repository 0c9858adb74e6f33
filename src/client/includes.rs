//! The one line of ours in a person's ssh configuration. Everything else in
//! that file stays, byte for byte.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::durable::{self, DurableError};

/// The line. `~` is the home that ssh knows; the file stands beside its own.
pub const LINE: &[u8] = b"Include ~/.ssh/portcullis.conf";
/// Longest configuration that is edited, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;
/// Mode of a configuration that we make, and of `~/.ssh`.
const NEW_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;

/// Why the configuration was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum IncludeError {
    #[error("{} belongs to uid {owner}: run this as its owner", path.display())]
    ForeignOwner { path: PathBuf, owner: u32 },
    #[error("{} leads nowhere: {why}", path.display())]
    Broken { path: PathBuf, why: io::Error },
    #[error(transparent)]
    File(#[from] DurableError),
}

/// `config` with the line at its top, where it counts for every host; nothing
/// if it is there already.
pub fn added(config: &[u8]) -> Option<Vec<u8>> {
    if lines(config).take_while(|line| !opens_block(line)).any(is_ours) {
        return None;
    }
    // As the file ends its own lines.
    let end: &[u8] = match lines(config).next() {
        Some(first) if first.ends_with(b"\r\n") => b"\r\n",
        Some(_) | None => b"\n",
    };
    Some([LINE, end, config].concat())
}

/// `config` without the line that [`added`] put there; nothing if there is none.
pub fn removed(config: &[u8]) -> Option<Vec<u8>> {
    let mut at = 0usize;
    for line in lines(config) {
        let after = at.saturating_add(line.len());
        if line
            .strip_prefix(LINE)
            .is_some_and(|end| matches!(end, b"" | b"\n" | b"\r\n"))
        {
            let before = config.get(..at).unwrap_or_default();
            return Some([before, config.get(after..).unwrap_or_default()].concat());
        }
        at = after;
    }
    None
}

/// Lines with their ends.
fn lines(config: &[u8]) -> impl Iterator<Item = &[u8]> {
    config.split_inclusive(|byte| *byte == b'\n')
}

/// Keyword and arguments, as ssh_config(5) parts them.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| byte.is_ascii_whitespace() || *byte == b'=')
        .map(|word| word.strip_prefix(b"\"").unwrap_or(word))
        .map(|word| word.strip_suffix(b"\"").unwrap_or(word))
        .filter(|word| !word.is_empty())
}

/// From here on lines count for some hosts only.
fn opens_block(line: &[u8]) -> bool {
    let first = words(line).next().unwrap_or_default();
    first.eq_ignore_ascii_case(b"host") || first.eq_ignore_ascii_case(b"match")
}

/// Written by us, or by the person in other words.
fn is_ours(line: &[u8]) -> bool {
    let mut words = words(line);
    let include = words.next().is_some_and(|word| word.eq_ignore_ascii_case(b"include"));
    include && words.any(|file| file == b"~/.ssh/portcullis.conf" || file == b"portcullis.conf")
}

/// Puts the line into the configuration at `path`, or makes one of just that
/// line. Whether anything was changed.
///
/// # Errors
/// Why nothing was.
pub fn install(path: &Path) -> Result<bool, IncludeError> {
    if path.symlink_metadata().is_err() {
        durable::create_dir_all(durable::parent(path), FOLDER_MODE)?;
        durable::write_new(path, &[LINE, b"\n"].concat(), NEW_MODE)?;
        return Ok(true);
    }
    edit(path, added)
}

/// Takes the line out again. Whether anything was changed.
///
/// # Errors
/// Why nothing was.
pub fn uninstall(path: &Path) -> Result<bool, IncludeError> {
    match path.symlink_metadata() {
        Ok(_) => edit(path, removed),
        Err(_) => Ok(false),
    }
}

fn edit(path: &Path, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<bool, IncludeError> {
    // A link stays one: what it leads to is edited, beside itself.
    let file = path.canonicalize().map_err(|why| IncludeError::Broken {
        path: path.to_owned(),
        why,
    })?;
    let meta = file.metadata().map_err(DurableError::at("look at", &file))?;
    if meta.uid() != rustix::process::geteuid().as_raw() {
        return Err(IncludeError::ForeignOwner {
            path: file,
            owner: meta.uid(),
        });
    }
    let Some(new) = change(&durable::read_bounded(&file, CONFIG_BYTES_MAX)?) else {
        return Ok(false);
    };
    let mut staging = file.as_os_str().to_owned();
    staging.push(format!(".{}.new", std::process::id()));
    durable::replace(&file, &new, NEW_MODE, Path::new(&staging))?;
    let mode = std::fs::Permissions::from_mode(meta.mode() & 0o7777);
    std::fs::set_permissions(&file, mode).map_err(DurableError::at("restore the mode of", &file))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(config: &[u8]) -> Vec<u8> {
        let with = added(config).unwrap();
        assert_eq!(added(&with), None, "twice is once");
        assert_eq!(removed(&with).unwrap(), config, "every byte comes back");
        with
    }

    #[test]
    fn every_byte_of_the_rest_stays() {
        let unix = b"Host *\n  User x\n";
        assert_eq!(both(unix), [LINE, b"\n", unix.as_slice()].concat());
        let windows = b"Host *\r\n  User x\r\n";
        assert_eq!(both(windows), [LINE, b"\r\n", windows.as_slice()].concat());
        for config in [
            b"".as_slice(),
            b"\n",
            b"Host *",
            b"# no end",
            b"\r\n\r\n",
            b"\xef\xbb\xbfHost a\n\xff\xfe\0\n\tPort=22\n\n\n",
            b"Include other.conf\nInclude ~/.ssh/portcullis.conf.bak\n",
            b"# Include ~/.ssh/portcullis.conf\n",
        ] {
            both(config);
        }
    }

    #[test]
    fn one_that_is_there_in_other_words_is_enough() {
        for config in [
            b"include \"~/.ssh/portcullis.conf\"\nHost *\n".as_slice(),
            b"# mine\n\n  INCLUDE a.conf portcullis.conf\r\n",
            b"Include=~/.ssh/portcullis.conf",
        ] {
            assert_eq!(added(config), None);
        }
        // Below a block it counts for some hosts only.
        let late = b"Host db*\n  Include ~/.ssh/portcullis.conf\n";
        assert!(both(late).starts_with(LINE));
        let late = b"Match all\ninclude portcullis.conf\n";
        both(late);
    }

    #[test]
    fn only_our_own_words_are_removed() {
        for config in [
            b"".as_slice(),
            b"include ~/.ssh/portcullis.conf\n",
            b"  Include ~/.ssh/portcullis.conf\n",
            b"Include ~/.ssh/portcullis.conf other\n",
        ] {
            assert_eq!(removed(config), None);
        }
        let edited = b"# put above\nInclude ~/.ssh/portcullis.conf\nHost *\n";
        assert_eq!(removed(edited).unwrap(), b"# put above\nHost *\n");
    }

    #[test]
    fn modes_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, link) = (dir.path().join("dotfiles"), dir.path().join("config"));
        std::fs::write(&kept, b"Host *\r\n").unwrap();
        std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("dotfiles", &link).unwrap();
        assert!(install(&link).unwrap());
        assert!(!install(&link).unwrap());
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(kept.metadata().unwrap().mode() & 0o7777, 0o644);
        assert_eq!(std::fs::read(&kept).unwrap(), [LINE, b"\r\nHost *\r\n"].concat());
        assert!(uninstall(&link).unwrap());
        assert!(!uninstall(&link).unwrap());
        assert_eq!(std::fs::read(&kept).unwrap(), b"Host *\r\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_missing_one_is_made_and_a_broken_link_told() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join(".ssh/config");
        assert!(!uninstall(&config).unwrap());
        assert!(install(&config).unwrap());
        assert_eq!(config.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(config.parent().unwrap().metadata().unwrap().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::read(&config).unwrap(), [LINE, b"\n"].concat());

        let link = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        assert!(matches!(install(&link), Err(IncludeError::Broken { .. })));
        assert!(matches!(uninstall(&link), Err(IncludeError::Broken { .. })));
        let folder = dir.path().join("folder");
        std::fs::create_dir(&folder).unwrap();
        assert!(matches!(install(&folder), Err(IncludeError::File(_))));
    }
}
