//! What a stranger with `trust.toml` finds: the demo's recordings verified
//! from their files, and the ledger held against them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use portcullis_recording::trust::Trust;
use portcullis_recording::{Event, Ledger, Verdict, verify};

use super::Demo;
use crate::api::wire::{RecordingView, Recordings, SessionView, Sessions};
use crate::archive::files::Files;
use crate::issue::trust;
use crate::ledger::fsck::{Input, fsck};

/// How long an ended session may take to be sealed and filed.
const SEAL_WAIT: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One verified recording.
pub struct Checked {
    pub file: PathBuf,
    pub bytes: u64,
    /// The verdict in one line.
    pub line: String,
    /// The seal's reason code; empty without a seal.
    pub code: String,
    /// When the last output of the target was recorded, wall ms.
    pub last_output_wall_ms: u64,
    /// The beginning of what the target printed, both streams.
    pub output: Vec<u8>,
    verdict: Option<Verdict>,
    in_ledger: bool,
}

/// Bytes of output kept for comparison.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

impl Checked {
    /// Complete, sealed by the session itself, and in the ledger.
    pub fn sealed(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Sealed { .. })) && self.in_ledger
    }

    fn of(file: PathBuf, trust: &Trust) -> anyhow::Result<Checked> {
        let bytes = std::fs::metadata(&file)?.len();
        let mut proof = file.clone().into_os_string();
        proof.push(".proof");
        let proof = std::fs::read_to_string(&proof).ok();
        let reader = BufReader::new(File::open(&file)?);
        let mut checked = Checked {
            bytes,
            line: String::new(),
            code: String::new(),
            last_output_wall_ms: 0,
            output: Vec::new(),
            verdict: None,
            in_ledger: false,
            file,
        };
        let found = verify(reader, trust, proof.as_deref()).and_then(|mut verified| {
            verified.check_content()?;
            let opened = verified.head().opened_wall_ms;
            for timed in verified.events() {
                let timed = timed?;
                if let Event::Output(bytes) | Event::Stderr(bytes) = &timed.event {
                    checked.last_output_wall_ms = opened.saturating_add(timed.at_ms);
                    let room = OUTPUT_BYTES_MAX.saturating_sub(checked.output.len());
                    checked.output.extend(bytes.iter().take(room));
                }
            }
            Ok(verified)
        });
        match found {
            Err(fault) => checked.line = format!("INVALID: {fault}"),
            Ok(verified) => {
                let place = match verified.ledger() {
                    Ledger::Proven(proven) => {
                        checked.in_ledger = true;
                        format!("leaf {} of the ledger", proven.index)
                    }
                    Ledger::NoProof => "no proof beside it".to_owned(),
                    Ledger::Refused(why) => format!("its proof proves nothing: {why}"),
                };
                checked.line = format!("{}, {place}", verified.verdict());
                if let Some(sealed) = verified.sealed() {
                    checked.code = sealed.seal().code.clone();
                    checked.line.push_str(&format!(", ended by `{}`", checked.code));
                }
                checked.verdict = Some(verified.verdict().clone());
            }
        }
        Ok(checked)
    }
}

/// What the ledger's check says.
pub struct LedgerSaid {
    pub good: bool,
    pub text: String,
}

impl Demo {
    /// The sessions, newest first, once all of them have ended and are filed.
    pub(super) async fn ended(&self) -> anyhow::Result<Vec<SessionView>> {
        let filed = async {
            loop {
                let sessions: Sessions = self.api.get("/v1/sessions").await?;
                let recordings: Recordings = self.api.get("/v1/recordings").await?;
                let has = |of: &SessionView| recordings.recordings.iter().any(|it| it.session == of.id);
                if sessions.sessions.iter().all(|it| !it.live && has(it)) {
                    return anyhow::Ok(sessions.sessions);
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(SEAL_WAIT, filed).await {
            Ok(sessions) => sessions,
            Err(_) => bail!("a session was not sealed and filed within {} s", SEAL_WAIT.as_secs()),
        }
    }

    /// Verifies a session's recording from its file.
    pub(super) async fn check(&self, session: &SessionView) -> anyhow::Result<Checked> {
        let recordings: Recordings = self.api.get("/v1/recordings").await?;
        let found = recordings.recordings.iter().find(|it| it.session == session.id);
        let RecordingView { path, .. } = found.context("a session without a recording")?;
        self.check_file(path.into()).await
    }

    async fn check_file(&self, file: PathBuf) -> anyhow::Result<Checked> {
        let trust = trust::read(&self.house.layout().trust())?;
        tokio::task::spawn_blocking(move || Checked::of(file, &trust)).await?
    }

    /// Every recording of the archive, verified; works without the server.
    pub(super) async fn recordings(&self) -> anyhow::Result<Vec<Checked>> {
        let mut files = Vec::new();
        walk(&self.house.layout().archive(), &mut files)?;
        let mut all = Vec::new();
        for file in files {
            all.push(self.check_file(file).await?);
        }
        Ok(all)
    }

    /// Ledger, checkpoint, tiles and archive against each other.
    pub(super) async fn fsck(&self) -> anyhow::Result<LedgerSaid> {
        let layout = self.house.layout();
        let archive = Files::open(&layout.archive())?;
        let trusted = trust::read(&layout.trust())?;
        let report = fsck(Input {
            ledger: &layout.ledger(),
            archive: &archive,
            trust: &trusted,
            spool: None,
            live: &BTreeSet::new(),
            anchors: &[],
        })
        .await?;
        let findings: Vec<String> = report
            .findings
            .iter()
            .map(|it| format!("{}: {}", it.about, it.text))
            .collect();
        let text = format!("{} leaves, {} recordings verified", report.leaves, report.recordings);
        Ok(match findings.is_empty() {
            true => LedgerSaid {
                good: true,
                text: format!("{text}: everything fits"),
            },
            false => LedgerSaid {
                good: false,
                text: format!("{text}; {}", findings.join("; ")),
            },
        })
    }
}

/// Recordings below a folder: what is not a sidecar.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path
            .extension()
            .is_none_or(|kind| kind != "proof" && kind != "sig" && kind != "age")
        {
            files.push(path);
        }
    }
    Ok(())
}
