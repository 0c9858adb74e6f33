//! `revoke`: ends grants and their sessions.

use clap::Args;

use super::exit::{CliError, Exit};
use super::{Common, Session};
use crate::api::wire::{RevokeRequest, Revoked, What};

/// `revoke`'s arguments.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["grant", "session", "identity", "target", "source", "purpose", "all"]))]
pub struct RevokeArgs {
    /// One grant and its sessions
    #[arg(long, value_name = "ID")]
    grant: Option<String>,
    /// One session; its grant stays
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Every grant of an identity
    #[arg(long, value_name = "NAME")]
    identity: Option<String>,
    /// Every grant for a target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Whatever comes from this address or network
    #[arg(long, value_name = "CIDR")]
    source: Option<String>,
    /// Whatever was granted for this ticket, or for this very reason
    #[arg(long, value_name = "TEXT")]
    purpose: Option<String>,
    /// Every grant there is
    #[arg(long)]
    all: bool,
    /// Why; stays in the ledger, and the people who are cut read it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

impl RevokeArgs {
    fn request(&self) -> Result<RevokeRequest, CliError> {
        let named = [
            (What::Grant, &self.grant),
            (What::Session, &self.session),
            (What::Identity, &self.identity),
            (What::Target, &self.target),
            (What::Source, &self.source),
            (What::Purpose, &self.purpose),
        ];
        let (what, id) = match named.into_iter().find(|(_, id)| id.is_some()) {
            Some((what, id)) => (what, id.clone()),
            None if self.all => (What::All, None),
            None => return Err(CliError::usage("what to revoke was not said")),
        };
        Ok(RevokeRequest {
            what,
            id,
            reason: self.reason.clone(),
        })
    }
}

pub async fn run(common: &Common, args: &RevokeArgs) -> Result<Exit, CliError> {
    let request = args.request()?;
    let session = Session::new(common)?;
    let revoked: Revoked = session.client.post("/v1/revoke", &request).await?;
    session.output.data(&revoked, || {
        let cut = revoked.cut.iter().map(|id| format!("{id} cut\n"));
        let bound = revoked
            .lease_bound
            .iter()
            .map(|row| format!("{} ends with the lease of {}\n", row.id, row.node));
        cut.chain(bound).collect()
    })?;
    session.output.say(format!(
        "Revoked (number {}); {} running {} cut.",
        revoked.seq,
        revoked.cut.len(),
        if revoked.cut.len() == 1 {
            "session was"
        } else {
            "sessions were"
        }
    ));
    if !revoked.lease_bound.is_empty() {
        session.output.say(format!(
            "{} more did not confirm: they end with their node's lease, within 10 s.",
            revoked.lease_bound.len()
        ));
    }
    for warning in &revoked.warnings {
        session.output.say(format!("warning: {warning}"));
    }
    Ok(Exit::Ok)
}
