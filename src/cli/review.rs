//! `review`: looks back at what was done. `anomalies`: what was unusual.

use clap::{Args, Subcommand};

use super::exit::{CliError, Exit};
use super::session::Session;
use super::sessions::path_piece;
use super::{Common, output};
use crate::api::wire::access::{Anomalies, AnomalyView, CloseReview, OneReview, ReviewView, Reviews};

/// `review …`
#[derive(Subcommand, Debug)]
pub enum ReviewCommand {
    /// List reviews: open ones, or all
    List(ListArgs),
    /// Close one: somebody else than who is reviewed
    Close(CloseArgs),
}

/// `review list`'s arguments.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Closed ones as well
    #[arg(long)]
    all: bool,
}

/// `review close`'s arguments.
#[derive(Args, Debug)]
pub struct CloseArgs {
    /// Its id, or enough of its start
    #[arg(value_name = "ID")]
    id: String,
    /// What was found; stays in the ledger
    #[arg(long, value_name = "TEXT")]
    note: String,
}

pub async fn run(common: &Common, command: ReviewCommand) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    match command {
        ReviewCommand::List(args) => list(&session, args.all).await,
        ReviewCommand::Close(args) => close(&session, args).await,
    }
}

async fn list(session: &Session, all: bool) -> Result<Exit, CliError> {
    let path = if all { "/v1/reviews" } else { "/v1/reviews?open=true" };
    let answer: Reviews = session.client.get(path).await?;
    session.output.data(&answer, || {
        let row = |row: &ReviewView| {
            let end = match (&row.closed, &row.closed_by) {
                (Some(closed), by) => format!(
                    "closed {} by {}",
                    session.output.ago(closed),
                    by.as_deref().unwrap_or("somebody")
                ),
                (None, _) => "open".to_owned(),
            };
            vec![
                row.id.to_string().chars().take(8).collect(),
                row.identity.to_string(),
                row.destination.to_string(),
                row.kind.clone(),
                row.session
                    .map_or_else(|| "-".to_owned(), |id| id.to_string().chars().take(8).collect()),
                session.output.ago(&row.opened),
                end,
                row.why.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = answer.reviews.iter().map(row).collect();
        output::table(
            &[
                "REVIEW",
                "IDENTITY",
                "DESTINATION",
                "KIND",
                "SESSION",
                "OPENED",
                "STATE",
                "WHY",
            ],
            &rows,
        )
    })?;
    if answer.reviews.is_empty() {
        session.output.say("Nothing to review.");
    }
    Ok(Exit::Ok)
}

async fn close(session: &Session, args: CloseArgs) -> Result<Exit, CliError> {
    let path = format!("/v1/reviews/{}/close", path_piece(&args.id)?);
    let closed: OneReview = session.client.post(&path, &CloseReview { note: args.note }).await?;
    session.output.data(&closed, || format!("{}\n", closed.review.id))?;
    session
        .output
        .say(format!("Closed; {} may ask again.", closed.review.identity));
    Ok(Exit::Ok)
}

/// `anomalies`: newest first, with the reason.
pub async fn anomalies(common: &Common) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let answer: Anomalies = session.client.get("/v1/anomalies").await?;
    session.output.data(&answer, || {
        let row = |row: &AnomalyView| {
            vec![
                session.output.ago(&row.at),
                row.identity.to_string(),
                row.kind.clone(),
                row.risk.to_string(),
                row.session
                    .map_or_else(|| "-".to_owned(), |id| id.to_string().chars().take(8).collect()),
                row.detail.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = answer.anomalies.iter().map(row).collect();
        output::table(&["WHEN", "IDENTITY", "KIND", "RISK", "SESSION", "WHY"], &rows)
    })?;
    if answer.anomalies.is_empty() {
        session.output.say("Nothing unusual in 30 days.");
    }
    Ok(Exit::Ok)
}
