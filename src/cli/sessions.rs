//! `sessions`: who is in, who was.

use clap::Args;

use super::exit::{CliError, Exit};
use super::{Common, Session, output};
use crate::api::wire::{OneSession, SessionView, Sessions};

/// `sessions`' arguments.
#[derive(Args, Debug)]
pub struct SessionsArgs {
    /// Only those that run now
    #[arg(long, conflicts_with = "id")]
    live: bool,
    /// Show this one: its id, or enough of its start
    #[arg(value_name = "ID")]
    id: Option<String>,
}

pub async fn run(common: &Common, args: &SessionsArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    match &args.id {
        Some(id) => one(&session, id).await,
        None => list(&session, args.live).await,
    }
}

/// The ids that may stand in a path; the server says what is wrong with others.
pub fn path_piece(id: &str) -> Result<&str, CliError> {
    match !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric()) {
        true => Ok(id),
        false => Err(CliError::usage(format!(
            "`{id}` is not an id: 4 to 32 hexadecimal digits"
        ))),
    }
}

async fn list(session: &Session, live: bool) -> Result<Exit, CliError> {
    let path = if live { "/v1/sessions?live=true" } else { "/v1/sessions" };
    let answer: Sessions = session.client.get(path).await?;
    session.output.data(&answer, || {
        let row = |row: &SessionView| {
            let end = match (&row.ended, &row.end_code) {
                (None, _) => format!("live, until {}", session.output.ago(&row.until)),
                (Some(ended), code) => {
                    format!("{} {}", code.as_deref().unwrap_or("ended"), session.output.ago(ended))
                }
            };
            vec![
                row.id.to_string().chars().take(8).collect(),
                row.identity.to_string(),
                row.destination.to_string(),
                row.source.clone(),
                session.output.ago(&row.started),
                end,
            ]
        };
        let rows: Vec<Vec<String>> = answer.sessions.iter().map(row).collect();
        output::table(&["SESSION", "IDENTITY", "DESTINATION", "FROM", "STARTED", "END"], &rows)
    })?;
    if answer.sessions.is_empty() {
        session.output.say("No sessions.");
    }
    Ok(Exit::Ok)
}

async fn one(session: &Session, id: &str) -> Result<Exit, CliError> {
    let answer: OneSession = session.client.get(&format!("/v1/sessions/{}", path_piece(id)?)).await?;
    session.output.data(&answer, || {
        let row = &answer.session;
        let time = |text: &String| session.output.time(text);
        let none = || "-".to_owned();
        let grant = answer.grant.as_ref();
        let recording = answer.recording.as_ref();
        let lines = [
            ("session", row.id.to_string()),
            ("identity", row.identity.to_string()),
            ("destination", row.destination.to_string()),
            ("from", row.source.clone()),
            ("node", row.node.to_string()),
            ("started", time(&row.started)),
            ("until", time(&row.until)),
            ("ended", row.ended.as_ref().map_or_else(none, time)),
            ("end", row.end_code.clone().unwrap_or_else(none)),
            ("grant", row.grant.to_string()),
            ("reason", grant.map_or_else(none, |grant| grant.reason.clone())),
            ("issued by", grant.map_or_else(none, |grant| grant.issued_by.clone())),
            (
                "recording",
                recording.map_or_else(none, |recording| recording.path.clone()),
            ),
        ];
        lines
            .iter()
            .map(|(name, value)| format!("{name:<12} {}\n", output::clean(value, 1024)))
            .collect()
    })?;
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_one_piece_of_a_path() {
        for bad in ["", "../x", "a b", "a?live=true", "a%2e", &"a".repeat(65)] {
            assert!(path_piece(bad).is_err(), "{bad}");
        }
        assert_eq!(path_piece("abcd").unwrap(), "abcd");
    }
}
