//! `ledger`: the transparency log.

use std::collections::BTreeSet;

use clap::Subcommand;
use serde::Serialize;

use super::Common;
use super::exit::{CliError, Exit};
use super::output::{Output, clean};
use crate::api::client::ApiClient;
use crate::api::wire::{SCHEMA, Sessions};
use crate::archive::files::Files;
use crate::config::{Config, ledger_origin};
use crate::issue::trust;
use crate::kernel::id::SessionId;
use crate::ledger::Anchor;
use crate::ledger::fsck::{Input, fsck};
use crate::ledger::report::Report;
use crate::serve::STORE_SOURCE;
use crate::store::{self, StoreError};

/// `ledger …`
#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Hold log, checkpoint, tiles and archive against each other; changes nothing
    Fsck,
}

#[derive(Serialize)]
struct Checked<'a> {
    schema: u32,
    #[serde(flatten)]
    report: &'a Report,
}

pub async fn run(common: &Common, command: &LedgerCommand) -> Result<Exit, CliError> {
    let LedgerCommand::Fsck = command;
    let config = common.load()?;
    let layout = &config.layout;
    let failed = |error: &dyn std::fmt::Display| CliError::failed(error.to_string());
    let archive = Files::open(&layout.archive()).map_err(|error| failed(&error))?;
    let trusted = trust::read(&layout.trust()).map_err(|error| failed(&error))?;
    let live = live(&config).await;
    // Asked before the journal is read: a running server's is never behind it.
    let (anchors, unknown): (Vec<Anchor>, _) = match anchor(&config).await {
        Ok(Some(anchor)) => (vec![anchor], None),
        Ok(None) => (Vec::new(), Some("it keeps none: was the store made anew?".to_owned())),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let mut report = fsck(Input {
        ledger: &layout.ledger(),
        archive: &archive,
        trust: &trusted,
        spool: Some(&layout.spool()),
        live: &live,
        anchors: &anchors,
    })
    .await
    .map_err(|error| failed(&error))?;
    if let Some(error) = unknown.filter(|_| report.checkpoint.is_some_and(|size| size > 0)) {
        report
            .notes
            .push(format!("the store's copy of the checkpoint was not compared: {error}"));
    }
    print(&common.output(), &report)
}

/// The checkpoint that the store keeps, if it keeps one.
async fn anchor(config: &Config) -> Result<Option<Anchor>, StoreError> {
    let store = store::look(&config.store).await?;
    let kept = store.anchor(&ledger_origin(&config.node)).await?;
    Ok(kept.map(|row| Anchor {
        source: STORE_SOURCE.to_owned(),
        note: row.note,
    }))
}

/// Sessions that the server says are running, if it answers.
async fn live(config: &Config) -> BTreeSet<SessionId> {
    let client = ApiClient::new(config.layout.api_socket());
    let running = client.get::<Sessions>("/v1/sessions?live=true").await;
    let running = running.map(|answer| answer.sessions).unwrap_or_default();
    running.into_iter().map(|session| session.id).collect()
}

fn print(output: &Output, report: &Report) -> Result<Exit, CliError> {
    output.data(&Checked { schema: SCHEMA, report }, || {
        let lines = report.findings.iter().map(|finding| {
            let code = serde_json::to_value(finding.code).unwrap_or_default();
            let text = format!(
                "{} {}: {}",
                code.as_str().unwrap_or("finding"),
                finding.about,
                finding.text
            );
            format!("{}\n", clean(&text, 1024))
        });
        lines.collect()
    })?;
    for note in &report.notes {
        output.say(note);
    }
    if report.more > 0 {
        output.say(format!("{} more findings are not listed.", report.more));
    }
    output.say(format!(
        "{} leaves, checkpoint at {}, {} recordings verified{}: {}.",
        report.leaves,
        report.checkpoint.map_or("none".to_owned(), |size| size.to_string()),
        report.recordings,
        match report.expired {
            0 => String::new(),
            expired => format!(", {expired} deleted by rule"),
        },
        match report.findings.len() {
            0 => "everything fits".to_owned(),
            count => format!("{count} findings"),
        }
    ));
    Ok(if report.findings.is_empty() {
        Exit::Ok
    } else {
        Exit::Invalid
    })
}
