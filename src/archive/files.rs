//! The archive in a folder.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::durable::{self, DurableError};

use super::{Answer, Archive, ArchiveError, ArchiveName, LIST_NAMES_MAX, Listed, Put, SIDECAR_BYTES_MAX, Sidecar};

/// Mode of recordings: nobody writes to one again, its owner included.
const FILE_MODE: u32 = 0o400;
/// Mode of sidecars.
const SIDECAR_MODE: u32 = 0o600;
/// Mode of folders.
const FOLDER_MODE: u32 = 0o700;
/// Prefix of files on their way in; no name of the archive begins so.
const INCOMING: &str = ".incoming-";
/// Bytes compared at a time.
const COMPARE_BYTES: usize = 128 * 1024;

/// Recordings as files below one folder. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Makes the folder; `init` does this, a start never.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(root: &Path) -> Result<Files, ArchiveError> {
        durable::create_dir_all(root, FOLDER_MODE)?;
        Files::open(root)
    }

    /// The archive in a folder that is there: one that is not is more likely
    /// a disk that was not mounted than a new archive.
    ///
    /// # Errors
    /// When the folder is missing.
    pub fn open(root: &Path) -> Result<Files, ArchiveError> {
        std::fs::read_dir(root).map_err(DurableError::at("open the archive", root))?;
        Ok(Files { root: root.to_owned() })
    }

    fn path(&self, name: &ArchiveName) -> PathBuf {
        self.root.join(name.as_str())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, ArchiveError> + Send + 'static,
    ) -> Result<T, ArchiveError> {
        let files = self.clone();
        tokio::task::spawn_blocking(move || work(&files))
            .await
            .map_err(|why| ArchiveError::Worker(why.to_string()))?
    }

    /// A crash before the rename leaves the local file (and perhaps an
    /// incoming copy, which the next try overwrites); after it, the archived
    /// one; the local copy of a cross-device move may outlive it, and the
    /// next try finds the same bytes and removes it.
    fn take(&self, name: &ArchiveName, local: &Path) -> Result<Put, ArchiveError> {
        let place = self.path(name);
        let folder = durable::parent(&place);
        durable::create_dir_all(folder, FOLDER_MODE)?;
        if place.exists() {
            return self.resolve(name, &place, local);
        }
        let from = File::open(local).map_err(DurableError::at("open", local))?;
        if durable::same_file_system(local, folder)? {
            from.set_permissions(Permissions::from_mode(FILE_MODE))
                .and_then(|()| from.sync_all())
                .map_err(DurableError::at("sync", local))?;
            match durable::rename_new(local, &place) {
                Ok(()) => {}
                Err(why) if why.is_exists() => return self.resolve(name, &place, local),
                Err(why) => return Err(why.into()),
            }
            durable::sync_dir(folder)?;
            durable::sync_dir(durable::parent(local))?;
            return Ok(Put::New);
        }
        let incoming = incoming(&place);
        copy_new(from, local, &incoming)?;
        match durable::rename_new(&incoming, &place) {
            Ok(()) => {}
            Err(why) if why.is_exists() => return self.resolve(name, &place, local),
            Err(why) => return Err(why.into()),
        }
        durable::sync_dir(folder)?;
        remove(local)?;
        Ok(Put::New)
    }

    fn resolve(&self, name: &ArchiveName, place: &Path, local: &Path) -> Result<Put, ArchiveError> {
        match same_bytes(place, local)? {
            // The hard-link way of renaming leaves one file under two names.
            true => {
                durable::sync_dir(durable::parent(place))?;
                remove(local)?;
                Ok(Put::Already)
            }
            false => Err(ArchiveError::Taken(name.clone())),
        }
    }

    /// A walk in order, of which only the folders on the way are in memory.
    fn list_after(&self, after: Option<&ArchiveName>) -> Result<Vec<Listed>, ArchiveError> {
        let mut found = Vec::new();
        self.walk(&self.root, "", after.map(ArchiveName::as_str), &mut found)?;
        Ok(found)
    }

    fn walk(
        &self,
        folder: &Path,
        prefix: &str,
        after: Option<&str>,
        found: &mut Vec<Listed>,
    ) -> Result<(), ArchiveError> {
        // Folders sort as their names with the slash, so that the walk's
        // order is the order of whole names.
        let mut entries = BTreeMap::new();
        let look = |why| DurableError::at("list", folder)(why);
        for entry in std::fs::read_dir(folder).map_err(look)? {
            let entry = entry.map_err(look)?;
            let meta = entry.metadata().map_err(look)?;
            let Some(part) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let (name, bytes) = match meta.is_dir() {
                true => (format!("{prefix}{part}/"), None),
                false => (format!("{prefix}{part}"), Some(meta.len())),
            };
            if part.starts_with('.') || after.is_some_and(|after| is_behind(&name, after)) {
                continue;
            }
            entries.insert(name, (entry.path(), bytes));
        }
        for (name, (path, bytes)) in entries {
            if found.len() >= LIST_NAMES_MAX {
                return Ok(());
            }
            match bytes {
                None => self.walk(&path, &name, after, found)?,
                Some(bytes) => {
                    if let Ok(name) = name.parse() {
                        found.push(Listed { name, bytes });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether everything under `name` (a folder ends in a slash) lies at or
/// before `after`.
fn is_behind(name: &str, after: &str) -> bool {
    match name.ends_with('/') {
        true => name < after && !after.starts_with(name),
        false => name <= after,
    }
}

fn incoming(place: &Path) -> PathBuf {
    let name = place.file_name().and_then(|name| name.to_str());
    place.with_file_name(format!("{INCOMING}{}", name.unwrap_or_default()))
}

fn remove(path: &Path) -> Result<(), DurableError> {
    std::fs::remove_file(path).map_err(DurableError::at("remove", path))?;
    durable::sync_dir(durable::parent(path))
}

fn remove_if_there(path: &Path) -> Result<(), DurableError> {
    match remove(path) {
        Err(why) if why.is_missing() => Ok(()),
        done => done,
    }
}

fn copy_new(mut from: File, local: &Path, incoming: &Path) -> Result<(), DurableError> {
    // A leftover is read-only once whole.
    match std::fs::remove_file(incoming) {
        Ok(()) => {}
        Err(why) if why.kind() == io::ErrorKind::NotFound => {}
        Err(why) => return Err(DurableError::at("remove", incoming)(why)),
    }
    let mut to = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(incoming)
        .map_err(DurableError::at("create", incoming))?;
    io::copy(&mut from, &mut to).map_err(DurableError::at("copy", local))?;
    to.sync_all().map_err(DurableError::at("sync", incoming))
}

fn same_bytes(a: &Path, b: &Path) -> Result<bool, DurableError> {
    let open = |path: &Path| {
        let file = File::open(path).map_err(DurableError::at("open", path))?;
        let bytes = file.metadata().map_err(DurableError::at("look at", path))?;
        Ok::<_, DurableError>((bytes.len(), BufReader::with_capacity(COMPARE_BYTES, file)))
    };
    let ((a_bytes, mut from_a), (b_bytes, mut from_b)) = (open(a)?, open(b)?);
    if a_bytes != b_bytes {
        return Ok(false);
    }
    let (mut chunk_a, mut chunk_b) = (vec![0; COMPARE_BYTES], vec![0; COMPARE_BYTES]);
    let mut left = a_bytes;
    while left > 0 {
        let size = usize::try_from(left).map_or(COMPARE_BYTES, |left| left.min(COMPARE_BYTES));
        let (Some(part_a), Some(part_b)) = (chunk_a.get_mut(..size), chunk_b.get_mut(..size)) else {
            return Ok(false);
        };
        from_a.read_exact(part_a).map_err(DurableError::at("read", a))?;
        from_b.read_exact(part_b).map_err(DurableError::at("read", b))?;
        if part_a != part_b {
            return Ok(false);
        }
        left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
    }
    Ok(true)
}

impl Archive for Files {
    fn put<'a>(&'a self, name: &'a ArchiveName, local: &'a Path) -> Answer<'a, Put> {
        let (name, local) = (name.clone(), local.to_owned());
        Box::pin(self.blocking(move |files| files.take(&name, &local)))
    }

    fn put_sidecar<'a>(&'a self, of: &'a ArchiveName, kind: Sidecar, bytes: &'a [u8]) -> Answer<'a, ()> {
        let (of, bytes) = (of.clone(), bytes.to_vec());
        Box::pin(self.blocking(move |files| {
            let name = of.sidecar(kind)?;
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if length > SIDECAR_BYTES_MAX {
                return Err(ArchiveError::TooLong { name, bytes: length });
            }
            let place = files.path(&name);
            durable::create_dir_all(durable::parent(&place), FOLDER_MODE)?;
            durable::replace(&place, &bytes, SIDECAR_MODE, &incoming(&place))?;
            Ok(())
        }))
    }

    fn open<'a>(&'a self, name: &'a ArchiveName) -> Answer<'a, File> {
        let name = name.clone();
        Box::pin(self.blocking(move |files| {
            let place = files.path(&name);
            let opened = durable::open_regular(&place);
            opened.map_err(|why| match why.is_missing() {
                true => ArchiveError::NotFound(name),
                false => why.into(),
            })
        }))
    }

    fn sidecar<'a>(&'a self, of: &'a ArchiveName, kind: Sidecar) -> Answer<'a, Option<Vec<u8>>> {
        let of = of.clone();
        Box::pin(self.blocking(move |files| {
            let place = files.path(&of.sidecar(kind)?);
            match durable::read_bounded(&place, SIDECAR_BYTES_MAX) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(why) if why.is_missing() => Ok(None),
                Err(why) => Err(why.into()),
            }
        }))
    }

    fn remove<'a>(&'a self, name: &'a ArchiveName) -> Answer<'a, ()> {
        let name = name.clone();
        Box::pin(self.blocking(move |files| {
            // The key first: what a crash leaves behind cannot be read.
            for kind in [Sidecar::Key, Sidecar::Signature, Sidecar::Tally] {
                remove_if_there(&files.path(&name.sidecar(kind)?))?;
            }
            Ok(remove_if_there(&files.path(&name))?)
        }))
    }

    fn remove_sidecar<'a>(&'a self, of: &'a ArchiveName, kind: Sidecar) -> Answer<'a, ()> {
        let of = of.clone();
        Box::pin(self.blocking(move |files| Ok(remove_if_there(&files.path(&of.sidecar(kind)?))?)))
    }

    fn exists<'a>(&'a self, name: &'a ArchiveName) -> Answer<'a, Option<u64>> {
        let name = name.clone();
        Box::pin(self.blocking(move |files| {
            let place = files.path(&name);
            match place.metadata() {
                Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
                Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(why) => Err(DurableError::at("look at", &place)(why).into()),
            }
        }))
    }

    fn list<'a>(&'a self, after: Option<&'a ArchiveName>) -> Answer<'a, Vec<Listed>> {
        let after = after.cloned();
        Box::pin(self.blocking(move |files| files.list_after(after.as_ref())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ArchiveName {
        text.parse().unwrap()
    }

    struct Bench {
        dir: tempfile::TempDir,
        files: Files,
    }

    impl Bench {
        fn new() -> Bench {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::create(&dir.path().join("archive")).unwrap();
            Bench { dir, files }
        }

        fn local(&self, bytes: &[u8]) -> PathBuf {
            let path = self.dir.path().join("spool-file");
            std::fs::write(&path, bytes).unwrap();
            path
        }
    }

    #[test]
    fn names_stay_inside() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/..", ".a", "a b", "a\0", "é"] {
            assert!(bad.parse::<ArchiveName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(201).parse::<ArchiveName>().is_err());
        assert!("a/b/c/d/e/f/g".parse::<ArchiveName>().is_err());
        assert!("2026/11/ab.pcr".parse::<ArchiveName>().is_ok());
    }

    #[tokio::test]
    async fn a_file_is_taken_once_and_never_changed() {
        let bench = Bench::new();
        let it = name("2026/a.pcr");
        let local = bench.local(b"evidence");
        assert_eq!(bench.files.put(&it, &local).await.unwrap(), Put::New);
        assert!(!local.exists());
        assert_eq!(bench.files.exists(&it).await.unwrap(), Some(8));
        let mode = bench.files.path(&it).metadata().unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o400);
        let mut bytes = Vec::new();
        let mut file = bench.files.open(&it).await.unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"evidence");

        let again = bench.local(b"evidence");
        assert_eq!(bench.files.put(&it, &again).await.unwrap(), Put::Already);
        assert!(!again.exists(), "the second copy is cleared away");
        let other = bench.local(b"Evidence");
        assert!(matches!(
            bench.files.put(&it, &other).await,
            Err(ArchiveError::Taken(_))
        ));
        assert!(other.exists(), "what was refused stays where it was");
        assert_eq!(std::fs::read(bench.files.path(&it)).unwrap(), b"evidence");
    }

    #[tokio::test]
    async fn a_copy_across_file_systems_survives_its_own_leftover() {
        let bench = Bench::new();
        let place = bench.files.path(&name("b.pcr"));
        let incoming = incoming(&place);
        std::fs::write(&incoming, b"half of an earlier tr").unwrap();
        std::fs::set_permissions(&incoming, Permissions::from_mode(0o400)).unwrap();
        let local = bench.local(b"whole");
        copy_new(File::open(&local).unwrap(), &local, &incoming).unwrap();
        durable::rename_new(&incoming, &place).unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"whole");
        // Killed before the local copy was removed: the next try ends well.
        assert_eq!(bench.files.put(&name("b.pcr"), &local).await.unwrap(), Put::Already);
    }

    #[tokio::test]
    async fn what_is_missing_is_told() {
        let bench = Bench::new();
        let it = name("none.pcr");
        assert_eq!(bench.files.exists(&it).await.unwrap(), None);
        assert!(matches!(bench.files.open(&it).await, Err(ArchiveError::NotFound(_))));
        assert!(matches!(
            bench.files.put(&it, &bench.dir.path().join("no")).await,
            Err(ArchiveError::File(why)) if why.is_missing()
        ));
        assert!(Files::open(&bench.dir.path().join("unmounted")).is_err());
    }

    #[tokio::test]
    async fn sidecars_are_replaced_and_bounded() {
        let bench = Bench::new();
        let it = name("a.pcr");
        let proof = Sidecar::Proof;
        assert_eq!(bench.files.sidecar(&it, proof).await.unwrap(), None);
        for text in [&b"one"[..], b"two"] {
            bench.files.put_sidecar(&it, proof, text).await.unwrap();
            let read = bench.files.sidecar(&it, proof).await.unwrap();
            assert_eq!(read.as_deref(), Some(text));
        }
        let huge = vec![0; 1024 * 1024 + 1];
        assert!(matches!(
            bench.files.put_sidecar(&it, proof, &huge).await,
            Err(ArchiveError::TooLong { .. })
        ));
    }

    #[tokio::test]
    async fn a_listing_comes_in_pages_and_in_order() {
        let bench = Bench::new();
        let mut wanted = Vec::new();
        for number in 0..1_203u32 {
            let text = match number % 3 {
                0 => format!("a/{number:05}.pcr"),
                1 => format!("a-{number:05}.pcr"),
                _ => format!("b/c/{number:05}.pcr"),
            };
            let path = bench.files.path(&name(&text));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
            wanted.push(text);
        }
        wanted.sort();
        std::fs::write(bench.files.root.join(".incoming-x"), b"").unwrap();
        let mut got: Vec<ArchiveName> = Vec::new();
        loop {
            let page = bench.files.list(got.last()).await.unwrap();
            assert!(page.len() <= LIST_NAMES_MAX);
            if page.is_empty() {
                break;
            }
            got.extend(page.into_iter().map(|listed| listed.name));
        }
        let got: Vec<&str> = got.iter().map(ArchiveName::as_str).collect();
        assert_eq!(got, wanted);
    }
}
