//! `inventory`: each identity with what it may reach and what it used;
//! `apply`: makes the inventory say what a file says; `import`: makes such a
//! file of what is there already.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::duration::date;
use super::exit::{CliError, Exit};
use super::session::Session;
use super::{Common, output, read_text};
use crate::api::wire::IdentityRequest;
use crate::api::wire::inventory::{Applied, Apply, Declared, Inventory, InventoryRow, What};
use crate::kernel::inventory::{HostProof, IdentityKind, Reach, Role, Target};

/// Largest file of an inventory, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// `apply`'s arguments.
#[derive(Args, Debug)]
pub struct ApplyArgs {
    /// A file with [[target]] and [[identity]] entries
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    file: PathBuf,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What an inventory file declares.
#[derive(Serialize, Deserialize, Default, Debug)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "target", skip_serializing_if = "Vec::is_empty")]
    targets: Vec<TargetEntry>,
    #[serde(default, rename = "identity", skip_serializing_if = "Vec::is_empty")]
    identities: Vec<IdentityEntry>,
}

/// `[[target]]`.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct TargetEntry {
    name: String,
    logins: Vec<String>,
    /// `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    addr: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host_ca: Option<String>,
    /// `SOURCE:KIND`; none: a certificate of the target CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
    /// The target that it is dialled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run_as: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

/// `[[identity]]`.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
#[serde(deny_unknown_fields)]
struct IdentityEntry {
    name: String,
    #[serde(default = "person")]
    kind: IdentityKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purpose: Option<String>,
    /// `YYYY-MM-DD`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    review_by: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<Role>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
}

fn person() -> IdentityKind {
    IdentityKind::Person
}

fn bad(path: &Path, what: &str, error: impl std::fmt::Display) -> CliError {
    CliError::usage(format!("{}: {what}: {error}", path.display()))
}

fn target(path: &Path, entry: TargetEntry) -> Result<Target, CliError> {
    let named = format!("target {}", entry.name);
    let wrong = |why: &str| Err(bad(path, &named, why));
    let ssh = |addr, proof| -> Result<Reach, CliError> {
        let credential = entry.credential.as_deref().map(str::parse).transpose();
        let via = entry.via.as_deref().map(str::parse).transpose();
        Ok(Reach::Ssh {
            addr,
            proof,
            credential: credential
                .map_err(|why: String| bad(path, &named, why))?
                .unwrap_or_default(),
            via: via.map_err(|why: crate::kernel::id::IdError| bad(path, &named, why))?,
        })
    };
    let reach = match (entry.addr, entry.host_key, entry.host_ca, entry.run_as) {
        (Some(addr), Some(key), None, None) => ssh(addr, HostProof::HostKey(key))?,
        (Some(addr), None, Some(ca), None) => ssh(addr, HostProof::HostCa(ca))?,
        (None, None, None, Some(_)) if entry.credential.is_some() || entry.via.is_some() => {
            return wrong("a command on this machine has neither credential nor via");
        }
        (None, None, None, Some(run_as)) => Reach::Local {
            command: entry.command,
            run_as,
        },
        (Some(_), None, None, None) => return wrong("name its host_key or host_ca"),
        _ => return wrong("it has addr and one of host_key and host_ca, or run_as alone"),
    };
    let parsed = |error: crate::kernel::id::IdError| bad(path, &named, error);
    Ok(Target {
        name: entry.name.parse().map_err(parsed)?,
        logins: entry
            .logins
            .iter()
            .map(|login| login.parse())
            .collect::<Result<_, _>>()
            .map_err(parsed)?,
        reach,
        labels: entry.labels,
        disabled: entry.disabled,
    })
}

fn identity(path: &Path, entry: IdentityEntry) -> Result<Declared, CliError> {
    let named = format!("identity {}", entry.name);
    let parsed = |error: crate::kernel::id::IdError| bad(path, &named, error);
    let review_by_ms = entry.review_by.as_deref().map(date).transpose();
    Ok(Declared {
        disabled: entry.disabled,
        review_given: entry.review_by.is_some(),
        identity: IdentityRequest {
            name: entry.name.parse().map_err(parsed)?,
            kind: entry.kind,
            owner: entry.owner,
            purpose: entry.purpose,
            review_by_ms: review_by_ms.map_err(|error| bad(path, &named, error))?,
            keys: entry.keys,
            roles: entry.roles.into_iter().collect(),
            groups: entry
                .groups
                .iter()
                .map(|group| group.parse())
                .collect::<Result<_, _>>()
                .map_err(parsed)?,
        },
    })
}

/// `apply -f FILE`.
pub async fn apply(common: &Common, args: &ApplyArgs) -> Result<Exit, CliError> {
    let path = &args.file;
    let text = read_text(path, FILE_BYTES_MAX)?;
    let file: File = toml::from_str(&text)
        .map_err(|error| CliError::usage(format!("{}: {}", path.display(), error.to_string().trim_end())))?;
    let whole = Apply {
        dry_run: args.dry_run,
        targets: file
            .targets
            .into_iter()
            .map(|entry| target(path, entry))
            .collect::<Result<_, _>>()?,
        identities: file
            .identities
            .into_iter()
            .map(|entry| identity(path, entry))
            .collect::<Result<_, _>>()?,
    };
    let session = Session::new(common)?;
    let applied: Applied = session.client.post("/v1/inventory", &whole).await?;
    session.output.data(&applied, || diff(&applied))?;
    let count = applied.changes.len();
    session.output.say(match (count, applied.dry_run) {
        (0, _) => "Nothing to change.".to_owned(),
        (_, true) => format!("{count} would change; nothing was changed."),
        (_, false) => format!("{count} changed."),
    });
    Ok(Exit::Ok)
}

fn diff(applied: &Applied) -> String {
    let mut text = String::new();
    for change in &applied.changes {
        let what = match change.what {
            What::Target => "target",
            What::Identity => "identity",
        };
        text.push_str(&format!(
            "{} {what} {}\n",
            if change.new { "+" } else { "~" },
            output::clean(&change.name, 128)
        ));
        for (key, [before, after]) in &change.keys {
            if change.new && (after.is_null() || after.as_array().is_some_and(Vec::is_empty)) {
                continue;
            }
            let show = |value: &serde_json::Value| output::clean(&value.to_string(), 200);
            match change.new {
                true => text.push_str(&format!("    {key} = {}\n", show(after))),
                false => text.push_str(&format!("    {key}: {} -> {}\n", show(before), show(after))),
            }
        }
    }
    text
}

/// `inventory`: what needs attention first.
pub async fn list(common: &Common) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let answer: Inventory = session.client.get("/v1/inventory").await?;
    session.output.data(&answer, || {
        let some = |names: Vec<String>| match names.len() {
            0 => "-".to_owned(),
            1..=4 => names.join(","),
            n => format!("{n}"),
        };
        let names = |all: &[crate::kernel::id::TargetName]| some(all.iter().map(ToString::to_string).collect());
        let row = |row: &InventoryRow| {
            vec![
                row.identity.name.to_string(),
                row.identity.kind.as_str().to_owned(),
                row.identity.owner.clone().unwrap_or_else(|| "-".to_owned()),
                names(&row.may_reach),
                some(row.used_targets.clone()),
                names(&row.never_targets),
                some(row.never_capabilities.clone()),
                row.last_used
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), |last| session.output.ago(last)),
                some(row.attention.clone()),
            ]
        };
        let rows: Vec<Vec<String>> = answer.identities.iter().map(row).collect();
        output::table(
            &[
                "IDENTITY",
                "KIND",
                "OWNER",
                "MAY REACH",
                "USED",
                "NEVER USED",
                "NEVER",
                "LAST",
                "ATTENTION",
            ],
            &rows,
        )
    })?;
    if answer.identities.is_empty() {
        session.output.say("No identities yet: portcullis identity add NAME");
    }
    Ok(Exit::Ok)
}

/// `import …`
#[derive(Subcommand, Debug)]
pub enum ImportCommand {
    /// From an OpenSSH client configuration and its known_hosts
    Openssh(OpensshArgs),
    /// From an Ansible inventory (INI form, or JSON of `ansible-inventory --list`)
    Ansible(AnsibleArgs),
}

/// `import openssh`'s arguments.
#[derive(Args, Debug)]
pub struct OpensshArgs {
    /// An ssh_config file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the hosts' keys are
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

/// `import ansible`'s arguments.
#[derive(Args, Debug)]
pub struct AnsibleArgs {
    /// An inventory file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where the hosts' keys are
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

/// Prints an inventory file for `apply -f`; hosts whose key is not known are
/// told, and left out.
pub fn import(common: &Common, command: &ImportCommand) -> Result<Exit, CliError> {
    let (file, known, hosts) = match command {
        ImportCommand::Openssh(args) => (
            &args.file,
            &args.known_hosts,
            super::import::openssh as fn(&str) -> Result<Vec<super::import::Host>, String>,
        ),
        ImportCommand::Ansible(args) => (&args.file, &args.known_hosts, super::import::ansible as _),
    };
    let text = read_text(file, FILE_BYTES_MAX)?;
    let found = hosts(&text).map_err(|why| bad(file, "cannot be read", why))?;
    let keys = match known {
        Some(path) => super::import::known_hosts(&read_text(path, FILE_BYTES_MAX)?),
        None => Vec::new(),
    };
    let output = common.output();
    let mut entries = Vec::new();
    for host in found {
        let Some(key) = super::import::key_of(&keys, &host) else {
            output.say(format!(
                "{}: no key of {}:{} is known: left out (ssh-keyscan it, compare it, and give it with --known-hosts)",
                host.name, host.addr, host.port
            ));
            continue;
        };
        entries.push(TargetEntry {
            name: host.name,
            logins: host.logins,
            addr: Some(match host.addr.contains(':') {
                true => format!("[{}]:{}", host.addr, host.port),
                false => format!("{}:{}", host.addr, host.port),
            }),
            host_key: Some(key),
            host_ca: None,
            credential: None,
            via: None,
            command: Vec::new(),
            run_as: None,
            labels: host.labels,
            disabled: false,
        });
    }
    let count = entries.len();
    let file = File {
        targets: entries,
        identities: Vec::new(),
    };
    let text = toml::to_string(&file).map_err(|error| CliError::failed(error.to_string()))?;
    output.data(&file, || text)?;
    output.say(format!(
        "{count} targets. Look at them, then: portcullis apply -f FILE --dry-run"
    ));
    Ok(Exit::Ok)
}
