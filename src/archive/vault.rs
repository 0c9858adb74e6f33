//! The content vault: what was in the files that moved, once each, under the
//! SHA-256 of it (recording/FORMAT.md section 12).
//!
//! A list beside each recording names its blobs and keeps them: a blob goes
//! with the last list that names it. Nothing of a blob is looked at here, and
//! whoever can write to the archive can replace one: who takes it out compares.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_recording::{spool, vault};
use sha2::{Digest, Sha256};
use tokio::sync::RwLock;

use super::{Archive, ArchiveError, ArchiveName, Sidecar};
use crate::durable::{self, DurableError};

/// Bytes of a blob read at a time.
const READ_BYTES: usize = 128 * 1024;

/// The vault of one archive.
pub struct Vault {
    archive: Arc<dyn Archive>,
    /// Filing shares it; who lets go has it alone, so that nothing is filed
    /// anew that is about to be deleted.
    turn: RwLock<()>,
}

/// A blob in a spool folder, and the name it will have in the vault.
struct Found {
    path: PathBuf,
    name: String,
}

impl Vault {
    /// That of this archive.
    pub fn new(archive: Arc<dyn Archive>) -> Vault {
        Vault {
            archive,
            turn: RwLock::default(),
        }
    }

    /// The archive that it is in.
    pub fn archive(&self) -> Arc<dyn Archive> {
        self.archive.clone()
    }

    /// Files what lies in a session's spool folder; how many blobs that is. The
    /// list is there before the first of them. Asked again it goes on.
    ///
    /// # Errors
    /// The step that failed; what is not filed is still in the folder.
    pub async fn file(&self, recording: &ArchiveName, folder: &Path) -> Result<usize, ArchiveError> {
        let folder = folder.to_owned();
        let found = tokio::task::spawn_blocking(move || look(&folder)).await;
        let found = found.map_err(|why| ArchiveError::Worker(why.to_string()))??;
        if found.is_empty() {
            return Ok(0);
        }
        let _turn = self.turn.read().await;
        let mut names = self.list(recording).await?;
        names.extend(found.iter().map(|blob| blob.name.clone()));
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        self.archive
            .put_sidecar(recording, Sidecar::Contents, list.as_bytes())
            .await?;
        for blob in &found {
            let name = in_archive(&blob.name)?;
            let there = match self.archive.exists(&name).await? {
                Some(_) => true,
                None => match self.archive.put(&name, &blob.path).await {
                    Ok(_) => false,
                    // Somebody else filed it, sealed under another key.
                    Err(ArchiveError::Taken(_)) => true,
                    Err(error) => return Err(error),
                },
            };
            if there {
                std::fs::remove_file(&blob.path).map_err(DurableError::at("remove", &blob.path))?;
            }
        }
        Ok(found.len())
    }

    /// Deletes the blobs that no recording but this one names, and its list. Asked again it goes on.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn let_go(&self, recording: &ArchiveName) -> Result<(), ArchiveError> {
        let _turn = self.turn.write().await;
        let mut only = self.list(recording).await?;
        let (mut after, ours) = (None, recording.sidecar(Sidecar::Contents)?);
        let ending = format!(".{}.{}", spool::EXTENSION, Sidecar::Contents.extension());
        while !only.is_empty() {
            let page = self.archive.list(after.as_ref()).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for listed in page.into_iter().filter(|listed| listed.name != ours) {
                if let Some(stem) = listed.name.as_str().strip_suffix(&ending) {
                    let other: ArchiveName = format!("{stem}.{}", spool::EXTENSION).parse()?;
                    let named = self.list(&other).await?;
                    only.retain(|name| !named.contains(name));
                }
            }
        }
        for name in &only {
            self.archive.remove(&in_archive(name)?).await?;
        }
        self.archive.remove_sidecar(recording, Sidecar::Contents).await
    }

    async fn list(&self, recording: &ArchiveName) -> Result<BTreeSet<String>, ArchiveError> {
        let held = self.archive.sidecar(recording, Sidecar::Contents).await?;
        let held = held.unwrap_or_default();
        let text = String::from_utf8_lossy(&held);
        Ok(text
            .lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect())
    }
}

fn in_archive(name: &str) -> Result<ArchiveName, ArchiveError> {
    format!("{}/{name}", vault::FOLDER).parse()
}

/// The blobs in a spool folder. What has not the hash that its name says is
/// called after what is there.
fn look(folder: &Path) -> Result<Vec<Found>, ArchiveError> {
    let failed = |why| DurableError::at("list", folder)(why);
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        let name = if let Some(said) = file.strip_prefix(vault::KEPT_PREFIX) {
            kept(&path, said)?
        } else if let Some(said) = file.strip_prefix(vault::OPEN_PREFIX) {
            let name = torn(said.ends_with(vault::SEALED_SUFFIX), &hash(&path)?);
            tracing::warn!(file = %path.display(), name, "content that did not end is filed as far as it came");
            name
        } else {
            continue;
        };
        found.push(Found { path, name });
    }
    Ok(found)
}

/// The name of a run that has ended, if all of it is there.
fn kept(path: &Path, said: &str) -> Result<String, ArchiveError> {
    let (name, sum) = said.split_once('-').unwrap_or((said, said));
    let is = hash(path)?;
    let sealed = name != sum;
    let folder = name.get(..2).unwrap_or_default();
    if sum == hex(&is) {
        return Ok(format!("{folder}/{name}"));
    }
    let torn = torn(sealed, &is);
    tracing::error!(file = %path.display(), said = name, name = torn, "content was torn; it is filed as what is there");
    Ok(torn)
}

fn torn(sealed: bool, is: &[u8; 32]) -> String {
    match sealed {
        true => vault::part_name(is),
        false => vault::blob_name(is, None),
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(path: &Path) -> Result<[u8; 32], DurableError> {
    let failed = |why| DurableError::at("read", path)(why);
    let (mut file, mut hash) = (durable::open_regular(path)?, Sha256::new());
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let read = File::read(&mut file, &mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..read).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::Files;
    use super::*;

    struct Bench {
        dir: tempfile::TempDir,
        vault: Vault,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("spool")).unwrap();
        let files = Files::create(&dir.path().join("archive")).unwrap();
        Bench {
            vault: Vault::new(Arc::new(files)),
            dir,
        }
    }

    fn name(session: u8) -> ArchiveName {
        spool::recording_file(&[session; 16]).parse().unwrap()
    }

    fn sum(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(bytes).into()
    }

    impl Bench {
        fn spool(&self, file: &str, bytes: &[u8]) {
            std::fs::write(self.dir.path().join("spool").join(file), bytes).unwrap();
        }

        async fn file(&self, session: u8) -> usize {
            let folder = self.dir.path().join("spool");
            let filed = self.vault.file(&name(session), &folder).await.unwrap();
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
            filed
        }

        fn blob(&self, name: &str) -> Option<Vec<u8>> {
            std::fs::read(self.dir.path().join("archive/vault").join(name)).ok()
        }
    }

    fn clear(bytes: &[u8]) -> String {
        vault::blob_name(&sum(bytes), None)
    }

    #[tokio::test]
    async fn a_blob_goes_with_the_last_recording_that_names_it() {
        let bench = bench();
        for (session, contents) in [(1, [b"one", b"two"]), (2, [b"two", b"six"])] {
            for bytes in contents {
                bench.spool(&format!("kept-{}", hex(&sum(bytes))), bytes);
            }
            assert_eq!(bench.file(session).await, 2);
        }
        assert_eq!(bench.file(3).await, 0);
        bench.vault.let_go(&name(1)).await.unwrap();
        assert_eq!(bench.blob(&clear(b"one")), None);
        assert_eq!(bench.blob(&clear(b"two")), Some(b"two".to_vec()));
        bench.vault.let_go(&name(1)).await.unwrap();
        bench.vault.let_go(&name(2)).await.unwrap();
        for bytes in [b"one", b"two", b"six"] {
            assert_eq!(bench.blob(&clear(bytes)), None);
        }
    }

    #[tokio::test]
    async fn what_was_torn_is_never_taken_for_the_whole() {
        let bench = bench();
        let whole = sum(b"the whole");
        bench.spool(&format!("kept-{}", hex(&whole)), b"the wh");
        bench.spool("blob-7", b"the w");
        bench.spool("blob-8.sealed", b"PCVAULT1 and no more");
        let sealed = vault::blob_name(&whole, Some(&[1; 8]));
        let sealed = sealed.split_once('/').unwrap().1;
        bench.spool(&format!("kept-{sealed}-{}", hex(&sum(b"sealed whole"))), b"sealed wh");
        assert_eq!(bench.file(1).await, 4);
        assert_eq!(bench.blob(&vault::blob_name(&whole, None)), None);
        assert_eq!(bench.blob(&vault::blob_name(&whole, Some(&[1; 8]))), None);
        for bytes in [b"the wh".as_slice(), b"the w"] {
            assert_eq!(bench.blob(&clear(bytes)), Some(bytes.to_vec()));
        }
        for bytes in [b"PCVAULT1 and no more".as_slice(), b"sealed wh"] {
            assert_eq!(bench.blob(&vault::part_name(&sum(bytes))), Some(bytes.to_vec()));
        }
        // What a crash between list and blobs leaves: both are done again.
        bench.spool("kept-x", b"odd");
        bench.spool(
            &format!("kept-{sealed}-{}", hex(&sum(b"sealed whole"))),
            b"sealed whole",
        );
        assert_eq!(bench.file(1).await, 2);
        assert!(bench.blob(&vault::blob_name(&whole, Some(&[1; 8]))).is_some());
        bench.vault.let_go(&name(1)).await.unwrap();
        assert_eq!(bench.blob(&clear(b"odd")), None);
    }
}
