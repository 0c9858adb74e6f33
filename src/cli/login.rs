//! `login`, `logout`, `whoami`: who this person is to the server.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::duration::duration;
use super::exit::{CliError, Exit};
use super::session::{Session, absolute, log_in, same_server};
use super::{Common, output};
use crate::api::client::tls::Pin;
use crate::api::wire::access::WhoAmI;
use crate::client::config::{self, Places, Remembered, Token};
use crate::client::prover::{Prover, Which};
use crate::client::ssh_config;
use crate::kernel::id::IdentityName;

/// Mode of our known_hosts.
const PUBLIC_MODE: u32 = 0o644;

/// `login`'s arguments.
#[derive(Args, Debug)]
pub struct LoginArgs {
    /// Who you are in the server's inventory
    #[arg(long, value_name = "NAME")]
    identity: Option<IdentityName>,
    /// Authorities that name the server (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    ca: Option<PathBuf>,
    /// The server's own key, as its admin tells it: sha256:…
    #[arg(long, value_name = "SHA256")]
    pin: Option<Pin>,
    /// The key to prove with: a private key, or a public one that ssh-agent holds; default: any that the agent holds
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// For how long at most
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    length: Option<Duration>,
}

/// What is meant, from what was typed and what was remembered.
fn meant(args: &LoginArgs, server: Option<&str>, known: Option<Remembered>) -> Result<Remembered, CliError> {
    let missing = || {
        CliError::usage("which server, or who you are there, was not said")
            .hint("portcullis login --server https://HOST:PORT --identity NAME")
    };
    let url = server
        .map(str::to_owned)
        .or_else(|| known.as_ref().map(|known| known.server.clone()));
    let url = url.ok_or_else(missing)?;
    // What was remembered of another server says nothing of this one.
    let known = known.filter(|known| same_server(&known.server, &url));
    let identity = args
        .identity
        .clone()
        .or_else(|| known.as_ref().map(|known| known.identity.clone()));
    let mut meant = known.unwrap_or(Remembered {
        server: url,
        identity: identity.clone().ok_or_else(missing)?,
        ca: None,
        pin: None,
        key: None,
        key_file: None,
        gate: None,
    });
    if let Some(identity) = identity.filter(|identity| *identity != meant.identity) {
        meant.identity = identity;
        meant = meant.with_key(&Which::Any);
    }
    match (&args.ca, &args.pin) {
        (Some(ca), _) => (meant.ca, meant.pin) = (Some(absolute(ca)?), None),
        (None, Some(pin)) => (meant.ca, meant.pin) = (None, Some(pin.to_string())),
        (None, None) => {}
    }
    match &args.key {
        Some(key) => Ok(meant.with_key(&Which::File(absolute(key)?))),
        None => Ok(meant),
    }
}

pub async fn run(common: &Common, args: &LoginArgs) -> Result<Exit, CliError> {
    let places = Places::from_env()?;
    let meant = meant(args, common.server.as_deref(), Remembered::load(&places)?)?;
    // A wrong address or file is told before a key is asked for anything.
    meant.remote()?;
    let output = common.output();
    let provers = Prover::candidates(&meant.which()).await?;
    if provers.first().is_some_and(Prover::needs_a_hand) {
        output.say("Touch your key when it blinks.");
    }
    let for_secs = args.length.map_or(0, |length| length.as_secs());
    let (remembered, who) = log_in(&places, meant, provers, for_secs).await?;
    let hosts = ssh_config::known_hosts(&who.server)?;
    config::write(&places.known_hosts(), hosts.as_bytes(), PUBLIC_MODE)?;
    show(&output, &remembered.server, &who)
}

pub async fn whoami(common: &Common) -> Result<Exit, CliError> {
    let session = Session::new(common)?;
    let who: WhoAmI = session.client.get("/v1/whoami").await?;
    show(&session.output, &session.client.server().to_string(), &who)
}

fn show(output: &output::Output, server: &str, who: &WhoAmI) -> Result<Exit, CliError> {
    output.data(who, || {
        let roles: Vec<String> = who.roles.iter().map(|role| role.as_str().to_owned()).collect();
        let until = match &who.expires {
            Some(expires) => format!(", until {}", output.time(expires)),
            None => String::new(),
        };
        let roles = match roles.is_empty() {
            true => "no roles".to_owned(),
            false => roles.join(", "),
        };
        let text = format!("{} at {server} by {} ({roles}){until}", who.identity, who.method);
        format!("{}\n", output::clean(&text, usize::MAX))
    })?;
    Ok(Exit::Ok)
}

pub async fn logout(common: &Common) -> Result<Exit, CliError> {
    let places = Places::from_env()?;
    let session = Session::new(common);
    // Here first: whatever the server says, nobody uses it from here again.
    Token::forget(&places)?;
    let session = session?;
    let _ended: serde_json::Value = session.client.post("/v1/logout", &serde_json::json!({})).await?;
    session
        .output
        .say(format!("Logged out at {}.", session.client.server()));
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> LoginArgs {
        LoginArgs {
            identity: None,
            ca: None,
            pin: None,
            key: None,
            length: None,
        }
    }

    fn known() -> Remembered {
        Remembered {
            server: "https://gate:1".into(),
            identity: "alice".parse().unwrap(),
            ca: None,
            pin: Some(format!("sha256:{}", "0f".repeat(32))),
            key: Some("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU".into()),
            key_file: None,
            gate: None,
        }
    }

    #[test]
    fn the_last_login_is_meant_unless_said_otherwise() {
        assert_eq!(meant(&args(), None, None).unwrap_err().exit, Exit::Usage);
        assert_eq!(
            meant(&args(), Some("https://gate:1"), None).unwrap_err().exit,
            Exit::Usage
        );
        assert_eq!(meant(&args(), None, Some(known())).unwrap(), known());
        assert_eq!(meant(&args(), Some("https://gate:1/"), Some(known())).unwrap(), known());
    }

    #[test]
    fn nothing_of_one_server_is_believed_of_another() {
        let bob = LoginArgs {
            identity: Some("bob".parse().unwrap()),
            ..args()
        };
        let other = meant(&bob, Some("https://other:1"), Some(known())).unwrap();
        assert_eq!(
            (other.server.as_str(), other.pin, other.key),
            ("https://other:1", None, None)
        );
        let refused = meant(&args(), Some("https://other:1"), Some(known()));
        assert_eq!(refused.unwrap_err().exit, Exit::Usage);
        let same = meant(&bob, None, Some(known())).unwrap();
        assert_eq!((same.pin, same.key), (known().pin, None), "another person's key");
    }
}
