//! `grant issue` and `grants`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::duration::duration;
use super::exit::{CliError, Exit};
use super::{Common, Session, output, read_text};
use crate::api::wire::access::{RequestView, Requests, WhoAmI};
use crate::api::wire::{GrantView, Grants, IssueRequest, Issued, SCHEMA};
use crate::client::ssh_config;
use crate::durable;
use crate::kernel::grant::{Capability, Cidr, WallMs};
use crate::kernel::id::{Destination, IdentityName};

/// Largest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;

/// `grant …`
#[derive(Subcommand, Debug)]
pub enum GrantCommand {
    /// Issue a grant and its certificate for one public key
    Issue(Box<IssueArgs>),
}

/// `grant issue`'s arguments.
#[derive(Args, Debug)]
pub struct IssueArgs {
    /// Who gets it
    #[arg(long, value_name = "NAME")]
    identity: IdentityName,
    /// How long, such as 30m, 2h, 1h30m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Duration,
    /// Why; stays in the ledger
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The holder's public key
    #[arg(long, value_name = "FILE.pub")]
    public_key: PathBuf,
    /// Where the certificate goes; default: beside the key, as ssh looks for it (FILE-cert.pub)
    #[arg(long, value_name = "FILE-cert.pub")]
    out: Option<PathBuf>,
    /// What it allows: shell, exec, sftp, forward, agent, x11
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "shell,exec,sftp")]
    allow: Vec<Capability>,
    /// Only from this address or network; may be given several times
    #[arg(long = "source", value_name = "CIDR", value_delimiter = ',')]
    sources: Vec<Cidr>,
    /// For one session only
    #[arg(long)]
    single_use: bool,
    /// What it leads to
    #[arg(value_name = "LOGIN@TARGET")]
    destination: Destination,
}

/// `grants`' arguments.
#[derive(Args, Debug)]
pub struct GrantsArgs {
    /// Only those that admit now
    #[arg(long)]
    live: bool,
    /// Only your own, and what was approved and not collected yet
    #[arg(long)]
    mine: bool,
}

#[derive(Serialize)]
struct Given {
    schema: u32,
    grant: GrantView,
    certificate: String,
    certificate_file: String,
    /// The command that uses it, one argument each.
    ssh: Vec<String>,
}

pub async fn run(common: &Common, command: GrantCommand) -> Result<Exit, CliError> {
    let GrantCommand::Issue(args) = command;
    let session = Session::new(common)?;
    // Before the grant is made: a grant whose certificate cannot be written is of no use.
    let out = match &args.out {
        Some(out) => out.clone(),
        None => beside(&args.public_key)?,
    };
    replaceable(&out)?;
    let public_key = read_text(&args.public_key, KEY_FILE_BYTES_MAX)?.trim().to_owned();
    let request = IssueRequest {
        identity: args.identity,
        destination: args.destination,
        for_secs: args.length.as_secs(),
        reason: args.reason,
        public_key,
        allow: args.allow,
        sources: args.sources,
        single_use: args.single_use,
    };
    let issued: Issued = session.client.post("/v1/grants", &request).await?;
    save(&out, &issued.certificate)?;
    let (host, port) = gate(&session).await?;
    let ssh = ssh_command(&issued.grant.destination, &args.public_key, &out, &host, port);
    let given = Given {
        schema: SCHEMA,
        certificate_file: out.display().to_string(),
        certificate: issued.certificate,
        ssh,
        grant: issued.grant,
    };
    session.output.data(&given, || {
        let line: Vec<String> = given.ssh.iter().map(|word| output::quoted(word)).collect();
        format!("{}\n", line.join(" "))
    })?;
    session.output.say(format!(
        "Grant {} for {} to {} until {}; certificate in {}.",
        given.grant.id,
        given.grant.identity,
        given.grant.destination,
        session.output.time(&given.grant.until),
        given.certificate_file
    ));
    Ok(Exit::Ok)
}

/// Where ssh finds the gate: as the configuration here says, or as the server
/// told.
pub(super) async fn gate(session: &Session) -> Result<(String, u16), CliError> {
    if session.person().is_some() {
        let who: WhoAmI = session.client.get("/v1/whoami").await?;
        return Ok((ssh_config::host(&who.server)?.to_owned(), who.server.ssh_port));
    }
    let listen = session.config()?.ssh.listen;
    let host = match listen.ip() {
        ip if !ip.is_unspecified() => ip.to_canonical().to_string(),
        IpAddr::V4(_) | IpAddr::V6(_) => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    Ok((host, listen.port()))
}

/// Where ssh looks for the certificate of `FILE`: `FILE-cert.pub`.
pub(super) fn beside(public_key: &Path) -> Result<PathBuf, CliError> {
    let text = public_key.to_str();
    match text.and_then(|text| text.strip_suffix(".pub")) {
        Some(private) if !private.ends_with("-cert") => Ok(format!("{private}-cert.pub").into()),
        _ => Err(CliError::usage(format!("{} is not a FILE.pub", public_key.display()))
            .hint("give the public key that ssh-keygen wrote, or say where to write with --out FILE-cert.pub")),
    }
}

/// A certificate of before may be replaced, any other file not.
pub(super) fn replaceable(out: &Path) -> Result<(), CliError> {
    if out.symlink_metadata().is_err() {
        return Ok(());
    }
    let old = read_text(out, KEY_FILE_BYTES_MAX)?;
    let kind = old.split_ascii_whitespace().next().unwrap_or("");
    if !kind.contains("-cert-v01@openssh.com") {
        return Err(CliError::failed(format!(
            "{} is there and is not a certificate: nothing was done",
            out.display()
        ))
        .hint("name another file with --out"));
    }
    Ok(())
}

pub(super) fn save(out: &Path, certificate: &str) -> Result<(), CliError> {
    let mut staging = out.as_os_str().to_owned();
    staging.push(format!(".{}.new", std::process::id()));
    durable::replace(
        out,
        format!("{}\n", certificate.trim_end()).as_bytes(),
        0o644,
        Path::new(&staging),
    )
    .map_err(|error| {
        CliError::failed(format!(
            "the grant was made, but its certificate could not be saved: {error}"
        ))
        .hint(format!("put this line into a file yourself: {certificate}"))
    })
}

/// The stock ssh command that uses the certificate.
pub(super) fn ssh_command(
    destination: &Destination,
    public_key: &Path,
    certificate: &Path,
    host: &str,
    port: u16,
) -> Vec<String> {
    let mut words = vec!["ssh".to_owned()];
    if port != 22 {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    let private = public_key.with_extension("");
    words.extend(["-i".to_owned(), private.display().to_string()]);
    // ssh finds FILE-cert.pub beside FILE by itself.
    if beside(public_key).ok().as_deref() != Some(certificate) {
        words.extend(["-o".to_owned(), format!("CertificateFile={}", certificate.display())]);
    }
    words.extend(["-o".to_owned(), "IdentitiesOnly=yes".to_owned()]);
    words.push(format!("{destination}@{host}"));
    words
}

pub async fn list(common: &Common, args: &GrantsArgs) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let path = match (args.live, args.mine) {
        (false, false) => "/v1/grants",
        (true, false) => "/v1/grants?live=true",
        (false, true) => "/v1/grants?mine=true",
        (true, true) => "/v1/grants?live=true&mine=true",
    };
    let answer: Grants = session.client.get(path).await?;
    session.output.data(&answer, || {
        let row = |grant: &GrantView| {
            let allowed: Vec<String> = grant.capabilities.iter().map(Capability::to_string).collect();
            vec![
                grant.id.to_string().chars().take(8).collect(),
                grant.state.as_str().to_owned(),
                grant.identity.to_string(),
                grant.destination.to_string(),
                session.output.ago(&grant.until),
                allowed.join(","),
                grant.issued_by.clone(),
                grant.reason.clone(),
            ]
        };
        let rows: Vec<Vec<String>> = answer.grants.iter().map(row).collect();
        output::table(
            &[
                "GRANT",
                "STATE",
                "IDENTITY",
                "DESTINATION",
                "UNTIL",
                "ALLOWS",
                "BY",
                "REASON",
            ],
            &rows,
        )
    })?;
    if answer.grants.is_empty() {
        session.output.say("No grants.");
    }
    if args.mine {
        let approved: Requests = session.client.get("/v1/requests?mine=true&state=approved").await?;
        for request in approved
            .requests
            .iter()
            .filter(|request| is_waiting(request, session.output.now))
        {
            session.output.say(format!(
                "{} was approved, until {}: portcullis collect {}",
                request.destination,
                session.output.time(request.until.as_deref().unwrap_or("?")),
                request.id
            ));
        }
    }
    Ok(Exit::Ok)
}

/// Approved, not collected, and its window not over at `now`.
fn is_waiting(request: &RequestView, now: WallMs) -> bool {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let until = request
        .until
        .as_ref()
        .and_then(|until| until.parse::<jiff::Timestamp>().ok());
    request.grant.is_none() && until.is_some_and(|until| now < until.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_lie_where_ssh_looks() {
        assert_eq!(beside(Path::new("k/id.pub")).unwrap(), Path::new("k/id-cert.pub"));
        for bad in ["id", "id-cert.pub", "id.key", ""] {
            assert_eq!(beside(Path::new(bad)).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn the_ssh_line_is_exact() {
        let destination = "root@db1".parse().unwrap();
        let line = |key: &str, certificate: &str, host: &str, port: u16| {
            ssh_command(&destination, Path::new(key), Path::new(certificate), host, port).join(" ")
        };
        assert_eq!(
            line("k/id.pub", "k/id-cert.pub", "127.0.0.1", 2222),
            "ssh -p 2222 -i k/id -o IdentitiesOnly=yes root@db1@127.0.0.1"
        );
        assert_eq!(
            line("k/id.pub", "x-cert.pub", "gate1", 22),
            "ssh -i k/id -o CertificateFile=x-cert.pub -o IdentitiesOnly=yes root@db1@gate1"
        );
    }

    #[test]
    fn only_certificates_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id-cert.pub");
        replaceable(&path).unwrap();
        std::fs::write(&path, "ssh-ed25519-cert-v01@openssh.com AAAA x").unwrap();
        replaceable(&path).unwrap();
        save(&path, "new line").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new line\n");
        assert!(replaceable(&path).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
