//! Secrets in files: one for each login at each target, in one folder.
//!
//! A file's name says whose secret it is, so a target that somebody adds has
//! none until whoever runs the server puts one there.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Answer, CredentialSource, SECRET_BYTES_MAX, Secret, Wanted, Why};
use crate::issue::keys::KeysError;
use crate::issue::secret::private_file;
use crate::kernel::policy::MayConnect;

/// The bits of a mode that let group or world put something in.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A folder of secrets.
pub struct Folder(PathBuf);

impl Folder {
    /// At this path; nothing is looked at yet.
    pub fn new(path: PathBuf) -> Folder {
        Folder(path)
    }
}

impl CredentialSource for Folder {
    fn fetch<'a>(&'a self, _permit: MayConnect<'a>, wanted: &'a Wanted) -> Answer<'a> {
        let folder = self.0.clone();
        // Names hold letters, digits and `._-` only, and begin with none of these.
        let path = folder.join(wanted.to_string());
        Box::pin(async move {
            let read = tokio::task::spawn_blocking(move || read(&folder, &path));
            read.await.unwrap_or(Err(Why::Unreadable))
        })
    }

    fn look(&self) -> Result<(), String> {
        safe(&self.0)
    }
}

/// Whether nobody else can put a file into the folder.
fn safe(folder: &Path) -> Result<(), String> {
    let looked = std::fs::metadata(folder);
    let meta: Metadata = looked.map_err(|error| format!("{}: {error}", folder.display()))?;
    if !meta.is_dir() {
        return Err(format!("{} is not a folder", folder.display()));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        return Err(format!(
            "{} belongs to uid {}, not to uid {me}",
            folder.display(),
            meta.uid()
        ));
    }
    if meta.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "{0} can be written by others: run `chmod 700 {0}`",
            folder.display()
        ));
    }
    Ok(())
}

fn read(folder: &Path, path: &Path) -> Result<Secret, Why> {
    let log = |error: &dyn std::fmt::Display| tracing::error!(%error, "a credential is not taken");
    safe(folder).map_err(|error| {
        log(&error);
        Why::Unsafe
    })?;
    let bytes = private_file(path).map_err(|error| {
        log(&error);
        if let KeysError::Missing(_) = error {
            return Why::NoFile;
        }
        let open = matches!(
            error,
            KeysError::OpenToOthers { .. } | KeysError::ForeignOwner { .. } | KeysError::NotAFile(_)
        );
        if open { Why::Unsafe } else { Why::Unreadable }
    })?;
    match bytes.len() > SECRET_BYTES_MAX {
        true => Err(Why::TooLong),
        false => Secret::new(bytes),
    }
}
