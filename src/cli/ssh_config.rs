//! `ssh-config`: plain `ssh TARGET` through the gate.

use clap::Args;

use super::Common;
use super::exit::{CliError, Exit};
use super::output;
use super::session::{Person, Session};
use crate::api::wire::Targets;
use crate::api::wire::access::WhoAmI;
use crate::client::config::{self, Places};
use crate::client::includes;
use crate::client::ssh_config::{Parts, Reachable, Way, known_hosts, text};
use crate::durable;

/// Mode of what we write for ssh.
const PRIVATE_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;
const FOLDER_MODE: u32 = 0o700;

/// `ssh-config`'s arguments.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("do").required(true).args(["install", "print", "remove"]))]
pub struct SshConfigArgs {
    /// Write ~/.ssh/portcullis.conf, and one line into ~/.ssh/config that includes it
    #[arg(long)]
    install: bool,
    /// Only show what would be in it
    #[arg(long)]
    print: bool,
    /// Through the gate as a jump: targets under their own names, one more connection each
    #[arg(long, conflicts_with = "remove")]
    jump: bool,
    /// Take both away again
    #[arg(long)]
    remove: bool,
}

pub async fn run(common: &Common, args: &SshConfigArgs) -> Result<Exit, CliError> {
    if args.remove {
        return remove(common);
    }
    let session = Session::logged_in(common).await?;
    let Some(person) = session.person() else {
        return Err(CliError::usage("this is for the machine that people log in from")
            .hint("log in there: portcullis login --server URL --identity NAME"));
    };
    let who: WhoAmI = session.client.get("/v1/whoami").await?;
    let targets: Targets = session.client.get("/v1/targets").await?;
    let way = match args.jump {
        true => Way::Jump,
        false => Way::Direct,
    };
    let reachable = reachable(targets);
    let text = made(person, &who, way, &reachable)?;
    if args.print {
        output::write(&text)?;
        return Ok(Exit::Ok);
    }
    let places = &person.places;
    config::write(&places.known_hosts(), known_hosts(&who.server)?.as_bytes(), PUBLIC_MODE)?;
    durable::create_dir_all(&places.control(), FOLDER_MODE).map_err(|error| CliError::failed(error.to_string()))?;
    // The file before the line that includes it.
    config::write(&places.ssh_include(), text.as_bytes(), PRIVATE_MODE)?;
    let added = includes::install(&places.ssh_config())?;
    session.output.say(format!(
        "Wrote {}; {} {}. Run this again when you may reach other targets.",
        places.ssh_include().display(),
        match added {
            true => "included it in",
            false => "it is included already in",
        },
        places.ssh_config().display()
    ));
    Ok(Exit::Ok)
}

fn reachable(targets: Targets) -> Vec<Reachable> {
    let enabled = targets.targets.into_iter().filter(|target| !target.disabled);
    enabled
        .map(|target| Reachable {
            target: target.name,
            logins: target.logins,
        })
        .collect()
}

fn made(person: &Person, who: &WhoAmI, way: Way, reachable: &[Reachable]) -> Result<String, CliError> {
    let program = std::env::current_exe()
        .map_err(|error| CliError::failed(format!("where this program is cannot be told: {error}")))?;
    let account = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let account = account.ok().flatten().map(|user| user.name).unwrap_or_default();
    let parts = Parts {
        way,
        gate: &who.server,
        places: &person.places,
        program: &program,
        account: &account,
        reachable,
    };
    Ok(text(&parts)?)
}

fn remove(common: &Common) -> Result<Exit, CliError> {
    let places = Places::from_env()?;
    // The line before the file that it includes.
    let changed = includes::uninstall(&places.ssh_config())?;
    let gone = match std::fs::remove_file(places.ssh_include()) {
        Ok(()) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            let path = places.ssh_include();
            return Err(CliError::failed(format!("cannot remove {}: {error}", path.display())));
        }
    };
    common.output().say(match changed || gone {
        true => "Removed.",
        false => "Nothing of ours is there.",
    });
    Ok(Exit::Ok)
}
