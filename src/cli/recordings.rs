//! `recordings`: what is in the archive, as the store knows it.

use super::exit::{CliError, Exit};
use super::{Common, Session, output};
use crate::api::wire::{RecordingView, Recordings};

pub async fn run(common: &Common) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let answer: Recordings = session.client.get("/v1/recordings").await?;
    session.output.data(&answer, || {
        let row = |row: &RecordingView| {
            let dash = || "-".to_owned();
            vec![
                row.session.to_string().chars().take(8).collect(),
                row.identity.as_ref().map_or_else(dash, ToString::to_string),
                row.destination.as_ref().map_or_else(dash, ToString::to_string),
                row.kind.clone(),
                session.output.ago(&row.sealed),
                output::bytes(row.bytes),
                row.path.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = answer.recordings.iter().map(row).collect();
        output::table(
            &["SESSION", "IDENTITY", "DESTINATION", "KIND", "SEALED", "SIZE", "FILE"],
            &rows,
        )
    })?;
    match answer.recordings.first() {
        None => session.output.say("No recordings."),
        Some(row) => session.output.say(format!(
            "Next: portcullis verify {} --trust {}",
            row.path,
            session.config.layout.trust().display()
        )),
    }
    Ok(Exit::Ok)
}
