//! `identity`: people, vendors, machines and agents.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::duration::date;
use super::exit::{CliError, Exit};
use super::{Common, Session, output, read_text};
use crate::api::wire::{Identities, IdentityAdded, IdentityRequest, IdentityView};
use crate::kernel::id::{GroupName, IdentityName};
use crate::kernel::inventory::{IdentityKind, Role};

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// `identity …`
#[derive(Subcommand, Debug)]
pub enum IdentityCommand {
    /// Add an identity
    Add(AddArgs),
    /// List identities
    List,
}

/// Kinds as typed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    Person,
    Vendor,
    Machine,
    Agent,
}

impl From<Kind> for IdentityKind {
    fn from(kind: Kind) -> IdentityKind {
        match kind {
            Kind::Person => IdentityKind::Person,
            Kind::Vendor => IdentityKind::Vendor,
            Kind::Machine => IdentityKind::Machine,
            Kind::Agent => IdentityKind::Agent,
        }
    }
}

/// `identity add`'s arguments.
#[derive(Args, Debug)]
pub struct AddArgs {
    /// Its name here
    name: IdentityName,
    /// What it is
    #[arg(long, value_enum, default_value = "person")]
    kind: Kind,
    /// Who answers for it; machines and agents always have one
    #[arg(long, value_name = "IDENTITY", required_if_eq_any = [("kind", "machine"), ("kind", "agent")])]
    owner: Option<IdentityName>,
    /// What it is for; machines and agents always have one
    #[arg(long, value_name = "TEXT", required_if_eq_any = [("kind", "machine"), ("kind", "agent")])]
    purpose: Option<String>,
    /// Last day on which it gets anything without a review; default for machines and agents: in 90 days
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    review_by: Option<u64>,
    /// An OpenSSH public key that it proves itself with; may be given several times
    #[arg(long = "key", value_name = "FILE.pub")]
    keys: Vec<PathBuf>,
    /// What it may do to the bastion: admin, approver, investigator, auditor, sponsor
    #[arg(long = "role", value_name = "LIST", value_delimiter = ',')]
    roles: Vec<Role>,
    /// A group of it, for policy; may be given several times
    #[arg(long = "group", value_name = "LIST", value_delimiter = ',')]
    groups: Vec<GroupName>,
}

pub async fn run(common: &Common, command: IdentityCommand) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    match command {
        IdentityCommand::Add(args) => add(&session, args).await,
        IdentityCommand::List => list(&session).await,
    }
}

async fn add(session: &Session, args: AddArgs) -> Result<Exit, CliError> {
    let mut keys = Vec::new();
    for path in &args.keys {
        keys.push(read_text(path, KEY_FILE_BYTES_MAX)?.trim().to_owned());
    }
    let request = IdentityRequest {
        name: args.name,
        kind: args.kind.into(),
        owner: args.owner.map(|owner| owner.to_string()),
        purpose: args.purpose,
        review_by_ms: args.review_by,
        keys,
        roles: args.roles.into_iter().collect(),
        groups: args.groups.into_iter().collect(),
    };
    let added: IdentityAdded = session.client.post("/v1/identities", &request).await?;
    session.output.data(&added, || format!("{}\n", added.identity.name))?;
    if let Some(review) = &added.identity.review_by {
        session
            .output
            .say(format!("To be reviewed by {}.", session.output.time(review)));
    }
    session.output.say(format!(
        "Next: portcullis grant issue --identity {} --for 30m --reason TEXT --public-key FILE.pub LOGIN@TARGET",
        added.identity.name
    ));
    Ok(Exit::Ok)
}

async fn list(session: &Session) -> Result<Exit, CliError> {
    let answer: Identities = session.client.get("/v1/identities").await?;
    session.output.data(&answer, || {
        let row = |identity: &IdentityView| {
            let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            vec![
                identity.name.to_string(),
                kind(identity.kind).to_owned(),
                dash(&identity.owner),
                identity
                    .review_by
                    .as_deref()
                    .map_or("-".to_owned(), |review| session.output.ago(review)),
                identity.keys.len().to_string(),
                dash(&identity.purpose),
            ]
        };
        let rows: Vec<Vec<String>> = answer.identities.iter().map(row).collect();
        output::table(&["NAME", "KIND", "OWNER", "REVIEW", "KEYS", "PURPOSE"], &rows)
    })?;
    if answer.identities.is_empty() {
        session.output.say("No identities yet: portcullis identity add NAME");
    }
    Ok(Exit::Ok)
}

fn kind(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Person => "person",
        IdentityKind::Vendor => "vendor",
        IdentityKind::Machine => "machine",
        IdentityKind::Agent => "agent",
    }
}
