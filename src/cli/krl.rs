//! `trust krl`: what is revoked, as OpenSSH reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::Args;
use russh::keys::ssh_key::PublicKey;

use super::exit::{CliError, Exit};
use super::{Common, Session};
use crate::api::wire::{GrantView, Grants, SCHEMA};
use crate::clock::Clock;
use crate::durable;
use crate::issue::generations::{self, Stage};
use crate::issue::keys::KeyName;
use crate::issue::krl::Krl;

/// `trust krl`'s arguments.
#[derive(Args, Debug)]
pub struct KrlArgs {
    /// For targets: the target authority's keys that were retired
    #[arg(long)]
    targets: bool,
    /// Where it goes, in the place of the list before
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

pub async fn run(common: &Common, args: &KrlArgs) -> Result<Exit, CliError> {
    let config = common.load()?;
    let failed = |error: &dyn std::fmt::Display| CliError::failed(error.to_string());
    let name = match args.targets {
        true => KeyName::TargetCa,
        false => KeyName::AdmissionCa,
    };
    let known = generations::of(&config.layout.keys(), name).map_err(|error| failed(&error))?;
    let now = Clock::system().now().wall_ms;
    let mut krl = Krl {
        version: now,
        made_ms: now,
        comment: format!("portcullis {} {name}", config.node),
        ..Krl::default()
    };
    let serials = match args.targets {
        // Ours live for minutes: nobody revokes one of them.
        true => BTreeSet::new(),
        false => revoked(common, now).await?,
    };
    let mut certificates = BTreeMap::new();
    for key in &known {
        let blob = PublicKey::from(key.public.key_data().clone())
            .to_bytes()
            .map_err(|error| failed(&error))?;
        match key.stage {
            Stage::Retired => drop(krl.keys.insert(blob)),
            // Serials are never given twice, whichever key signed.
            Stage::Announced | Stage::Active | Stage::Retiring => drop(certificates.insert(blob, serials.clone())),
        }
    }
    krl.certificates = certificates;
    let staging = args.out.with_extension("new");
    durable::replace(&args.out, &krl.encode(), 0o644, &staging).map_err(|error| failed(&error))?;
    let output = common.output();
    let counts = serde_json::json!({
        "schema": SCHEMA,
        "file": args.out.display().to_string(),
        "certificates": serials.len(),
        "keys": krl.keys.len(),
    });
    output.data(&counts, || format!("{}\n", args.out.display()))?;
    output.say(format!(
        "{} certificates and {} keys of {name} are revoked in it. `RevokedKeys` in sshd_config names such a file; give it out again when something was revoked.",
        serials.len(),
        krl.keys.len()
    ));
    Ok(Exit::Ok)
}

/// Serials of certificates that would still be taken elsewhere, had nobody
/// heard of their revocation.
async fn revoked(common: &Common, now: u64) -> Result<BTreeSet<u64>, CliError> {
    let session = Session::new(common)?;
    let all: Grants = session.client.get("/v1/grants").await?;
    let ahead = |grant: &GrantView| {
        let until: Option<jiff::Timestamp> = grant.until.parse().ok();
        until.is_none_or(|until| u64::try_from(until.as_millisecond()).is_ok_and(|until| until > now))
    };
    let revoked = |grant: &&GrantView| grant.revoked_at.is_some() && ahead(grant);
    Ok(all
        .grants
        .iter()
        .filter(revoked)
        .map(|grant| grant.certificate_serial)
        .collect())
}
