//! `check`: looks at configuration and state, changes nothing.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;

use super::Common;
use super::exit::{CliError, Exit};
use crate::api::wire::SCHEMA;
use crate::clock::Clock;
use crate::config::Config;
use crate::credentials::{Setting, Sources};
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::places::Places;
use crate::layout::{Layout, SOCKET_PATH_BYTES_MAX};
use crate::store::{self, Place};

#[derive(Serialize)]
struct Checked {
    schema: u32,
    ok: bool,
    findings: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    what: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Finding {
    fn of(what: impl Into<String>, outcome: Result<(), String>) -> Finding {
        Finding {
            what: what.into(),
            ok: outcome.is_ok(),
            detail: outcome.err(),
        }
    }
}

pub async fn run(common: &Common) -> Result<Exit, CliError> {
    let path = common.config_path()?;
    let findings = match Config::load(&path) {
        Err(error) => {
            let detail = match error.hint() {
                Some(hint) => format!("{error}; {hint}"),
                None => error.to_string(),
            };
            // The detail begins with the path, and perhaps the line.
            vec![Finding::of("configuration", Err(detail))]
        }
        Ok(config) => {
            let mut findings = vec![Finding::of(path.display().to_string(), Ok(()))];
            findings.extend(state(&config.layout, &config.keys).await);
            findings.push(Finding::of(config.store.to_string(), stored(&config.store).await));
            findings.extend(credentials(&config.credentials));
            findings
        }
    };
    let checked = Checked {
        schema: SCHEMA,
        ok: findings.iter().all(|finding| finding.ok),
        findings,
    };
    let output = common.output();
    output.data(&checked, || {
        let line = |finding: &Finding| match &finding.detail {
            None => format!("ok   {}\n", finding.what),
            Some(detail) => format!("BAD  {}: {}\n", finding.what, super::output::clean(detail, usize::MAX)),
        };
        checked.findings.iter().map(line).collect()
    })?;
    Ok(if checked.ok { Exit::Ok } else { Exit::Failed })
}

/// Everything in the state folder.
async fn state(layout: &Layout, places: &Places) -> Vec<Finding> {
    let mut findings = Vec::new();
    for folder in layout.folders() {
        findings.push(Finding::of(folder.display().to_string(), private(&folder, 0o700)));
    }
    findings.push(Finding::of("private keys", keys(layout, places).await));
    findings.push(Finding::of(
        layout.trust().display().to_string(),
        super::trust::check(layout),
    ));
    findings.push(Finding::of(layout.api_socket().display().to_string(), socket(layout)));
    findings
}

/// Every source of secrets for targets can be asked. No secret is.
fn credentials(settings: &[Setting]) -> Vec<Finding> {
    let sources = Sources::new(settings);
    let look = |setting: &Setting| {
        let name = format!("credential source {}", setting.name);
        Finding::of(name, sources.look(&setting.name))
    };
    settings.iter().map(look).collect()
}

/// Every key can be used from where it is.
async fn keys(layout: &Layout, places: &Places) -> Result<(), String> {
    let keeper = FileKeeper::load_from(&layout.keys(), places, Rules::default(), Clock::system());
    let keeper = keeper.map_err(|error| error.to_string())?;
    keeper.authorities().check().await.map_err(|error| error.to_string())
}

/// Ours, and nobody else's to look into.
fn private(path: &Path, mode_max: u32) -> Result<(), String> {
    let meta = std::fs::symlink_metadata(path).map_err(|error| error.to_string())?;
    if meta.file_type().is_symlink() {
        return Err("is a symbolic link".to_owned());
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & !mode_max != 0 {
        return Err(format!(
            "others may use it (mode {mode:03o}): run `chmod {mode_max:o} {}`",
            path.display()
        ));
    }
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && me != 0 {
        return Err(format!("belongs to uid {}, not to uid {me} who checks", meta.uid()));
    }
    Ok(())
}

/// Whether the store can be opened.
async fn stored(place: &Place) -> Result<(), String> {
    match place {
        Place::File(path) => private(path, 0o600).and_then(|()| database(path)),
        Place::UrlFile(_) | Place::Url(_) => {
            let looked = store::look(place).await;
            looked.map(drop).map_err(|error| error.to_string())
        }
    }
}

/// The first bytes of every SQLite file, https://sqlite.org/fileformat.html.
/// Not opened: that would write to it beside a running server.
fn database(path: &Path) -> Result<(), String> {
    let mut head = [0u8; 16];
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.read_exact(&mut head).map_err(|error| error.to_string())?;
    match &head {
        b"SQLite format 3\0" => Ok(()),
        _ => Err("is not a SQLite database: restore it from the backup".to_owned()),
    }
}

fn socket(layout: &Layout) -> Result<(), String> {
    let bytes = layout.api_socket().as_os_str().len();
    if bytes.saturating_add(4) > SOCKET_PATH_BYTES_MAX {
        return Err(format!(
            "the path is too long for a Unix socket ({bytes} bytes): choose a shorter state folder"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bad(layout: &Layout) -> Vec<String> {
        let place = Place::File(layout.store());
        let store = Finding::of(place.to_string(), stored(&place).await);
        let findings = state(layout, &Places::default()).await.into_iter().chain([store]);
        findings
            .filter(|finding| !finding.ok)
            .map(|finding| finding.what)
            .collect()
    }

    #[tokio::test]
    async fn finds_what_was_spoiled() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().join("s"));
        let new = super::super::init::new_for_tests();
        super::super::init::create(&layout, &new, &crate::clock::Clock::system())
            .await
            .unwrap();
        assert_eq!(bad(&layout).await, Vec::<String>::new());

        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&layout.store(), 0o644);
        assert_eq!(bad(&layout).await, [layout.store().display().to_string()]);
        mode(&layout.store(), 0o600);
        mode(&layout.keys().join("node_key"), 0o640);
        assert_eq!(bad(&layout).await, ["private keys"]);
        mode(&layout.keys().join("node_key"), 0o600);
        std::fs::write(layout.store(), "x".repeat(100)).unwrap();
        std::fs::write(layout.trust(), "nonsense").unwrap();
        std::fs::remove_dir(layout.spool()).unwrap();
        let want = [layout.spool(), layout.trust(), layout.store()].map(|path| path.display().to_string());
        assert_eq!(bad(&layout).await, want);
    }
}
