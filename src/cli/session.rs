//! Which server a command means, and the way to it: the server's own socket,
//! or TLS as the person who logged in.

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::HashAlg;

use super::exit::{CliError, Exit};
use super::output::Output;
use super::{CONFIG_DEFAULT, Common};
use crate::api::challenge;
use crate::api::client::{ApiClient, ClientError};
use crate::api::problem::Code;
use crate::api::wire::access::{
    Challenge, ChallengeFor, ChallengeRequest, LoggedIn, LoginRequest, SignedChallenge, WhoAmI,
};
use crate::client::agent::AgentError;
use crate::client::config::{PersonError, Places, Remembered, Token};
use crate::client::includes::IncludeError;
use crate::client::prover::{Prover, ProverError, Which};
use crate::client::ssh_config::SshConfigError;
use crate::config::Config;
use crate::kernel::id::IdentityName;

/// Where the server is.
enum Place {
    /// On this machine, with its state folder.
    Here(Box<Config>),
    /// Behind TLS.
    There(Box<Person>),
}

/// Somebody who logged in from this machine.
pub(super) struct Person {
    pub places: Places,
    pub remembered: Remembered,
}

/// What a command that talks to the server works with.
pub(super) struct Session {
    place: Place,
    pub client: ApiClient,
    pub output: Output,
}

impl Session {
    /// The server that is meant, and who asks. Over TLS somebody must have logged in.
    pub fn new(common: &Common) -> Result<Session, CliError> {
        let output = common.output();
        let place = place(common)?;
        let client = match &place {
            Place::Here(config) => ApiClient::new(config.layout.api_socket()),
            Place::There(person) => match Token::load(&person.places, &person.remembered, output.now)? {
                Some(token) => person.client()?.with_token(token.secret()),
                None => return Err(not_logged_in(&person.remembered)),
            },
        };
        Ok(Session { place, client, output })
    }

    /// The same, and logs in again by itself if that takes nobody's hand.
    pub async fn logged_in(common: &Common) -> Result<Session, CliError> {
        match (Session::new(common), place(common)?) {
            (Err(_), Place::There(person)) => {
                let provers = Prover::candidates(&person.remembered.which()).await?;
                if provers.iter().any(Prover::needs_a_hand) {
                    return Err(not_logged_in(&person.remembered));
                }
                log_in(&person.places, person.remembered, provers, 0).await?;
                Session::new(common)
            }
            (session, _) => session,
        }
    }

    /// The configuration of the server on this machine.
    ///
    /// # Errors
    /// The server is elsewhere.
    pub fn config(&self) -> Result<&Config, CliError> {
        match &self.place {
            Place::Here(config) => Ok(config),
            Place::There(_) => Err(CliError::usage("this needs the server's own files")
                .hint("run it on the server's machine, with --state DIR")),
        }
    }

    /// Who logged in, if the server is elsewhere.
    pub fn person(&self) -> Option<&Person> {
        match &self.place {
            Place::Here(_) => None,
            Place::There(person) => Some(person),
        }
    }

    /// Where this person's own files are.
    pub fn places(&self) -> Result<Places, CliError> {
        match self.person() {
            Some(person) => Ok(person.places.clone()),
            None => Ok(Places::from_env()?),
        }
    }

    /// Which key proves who asks.
    fn which(&self) -> Which {
        self.person().map_or(Which::Any, |person| person.remembered.which())
    }

    /// Makes a call; again, with a fresh proof that names `purpose`, if the
    /// rule that allows it wants one.
    pub async fn proving<T>(
        &self,
        purpose: ChallengeFor,
        call: impl AsyncFn(Option<SignedChallenge>) -> Result<T, ClientError>,
    ) -> Result<T, CliError> {
        match call(None).await {
            Err(ClientError::Refused(problem)) if problem.code == Code::StepUp => {}
            other => return Ok(other?),
        }
        let who: WhoAmI = self.client.get("/v1/whoami").await?;
        let identity: IdentityName = who
            .identity
            .parse()
            .map_err(|error| CliError::failed(format!("{error}")))?;
        let provers = Prover::candidates(&self.which()).await?;
        let mut refused = CliError::failed("there is no key to prove with");
        for prover in provers {
            self.output.say(match prover.needs_a_hand() {
                true => format!("A fresh proof is asked for: touch {}.", prover.name()),
                false => format!("A fresh proof is asked for: signing by {}.", prover.name()),
            });
            let proof = signed(&self.client, &identity, &purpose, &prover).await?;
            match call(Some(proof)).await {
                Err(ClientError::Refused(problem)) if problem.code == Code::Unauthenticated => {
                    refused = (*problem).into();
                }
                other => return Ok(other?),
            }
        }
        Err(refused)
    }
}

impl Person {
    /// The way to the server, without a token.
    fn client(&self) -> Result<ApiClient, CliError> {
        Ok(ApiClient::remote(self.remembered.remote()?))
    }
}

fn not_logged_in(remembered: &Remembered) -> CliError {
    CliError::new(Exit::Denied, format!("you are not logged in at {}", remembered.server)).hint("portcullis login")
}

/// What was typed wins over the environment, that over the last login, that
/// over the configuration of a server on this machine.
fn place(common: &Common) -> Result<Place, CliError> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let typed = common.state.is_some() || common.config.is_some();
    let here = typed || set("PORTCULLIS_STATE") || set("PORTCULLIS_CONFIG");
    if common.server.is_none() && here {
        return Ok(Place::Here(Box::new(common.load()?)));
    }
    let places = Places::from_env();
    let known = match &places {
        Ok(places) => Remembered::load(places)?,
        Err(_) => None,
    };
    match (known, &common.server, places) {
        (Some(remembered), Some(url), _) if !same_server(&remembered.server, url) => Err(elsewhere(url)),
        (Some(remembered), _, Ok(places)) => Ok(Place::There(Box::new(Person { places, remembered }))),
        (_, Some(url), _) => Err(elsewhere(url)),
        (_, None, _) if Path::new(CONFIG_DEFAULT).exists() => Ok(Place::Here(Box::new(common.load()?))),
        (_, None, _) => Err(CliError::usage("which server is meant was not said").hint(
            "log in: portcullis login --server URL --identity NAME; on the server's own machine add --state DIR (or set PORTCULLIS_STATE)",
        )),
    }
}

fn elsewhere(url: &str) -> CliError {
    CliError::new(Exit::Denied, format!("you are not logged in at {url}"))
        .hint(format!("portcullis login --server {url} --identity NAME"))
}

/// Whether two addresses mean the same server.
pub(super) fn same_server(a: &str, b: &str) -> bool {
    let read = |text: &str| text.parse::<crate::api::client::tls::ServerUrl>();
    matches!((read(a), read(b)), (Ok(a), Ok(b)) if a == b)
}

/// A challenge for `purpose`, signed.
async fn signed(
    client: &ApiClient,
    identity: &IdentityName,
    purpose: &ChallengeFor,
    prover: &Prover,
) -> Result<SignedChallenge, CliError> {
    let wanted = ChallengeRequest {
        identity: identity.clone(),
        purpose: purpose.clone(),
    };
    let given: Challenge = client.post("/v1/login/challenge", &wanted).await?;
    // Only what was asked for, and only for the server that is spoken to:
    // another one could pass on a challenge of a third.
    if !challenge::means(&given.challenge, identity, purpose, &client.shown_at().await?) {
        return Err(CliError::new(
            Exit::Denied,
            format!(
                "{} sent a challenge that is not its own: nothing was signed",
                client.server()
            ),
        )
        .hint("is there something between you and the server that ends TLS? it has to reach the server itself"));
    }
    Ok(prover.sign(given.challenge).await?)
}

/// Logs in by the first of `provers` that the server takes, for `for_secs` (0:
/// as long as it allows), and remembers which one, and what the server says
/// of its gate.
pub(super) async fn log_in(
    places: &Places,
    remembered: Remembered,
    provers: Vec<Prover>,
    for_secs: u64,
) -> Result<(Remembered, WhoAmI), CliError> {
    let client = ApiClient::remote(remembered.remote()?);
    let mut refused = CliError::failed("there is no key to log in with");
    let mut tried: Vec<String> = Vec::new();
    for prover in provers {
        let proof = match signed(&client, &remembered.identity, &ChallengeFor::Login, &prover).await {
            Ok(proof) => proof,
            // The agent's next key may do it; a server that does not answer will not.
            Err(error) if error.exit == Exit::Failed => {
                refused = error;
                continue;
            }
            Err(error) => return Err(error),
        };
        let request = LoginRequest {
            proof,
            roles: Vec::new(),
            for_secs,
        };
        let given: LoggedIn = match client.post("/v1/login", &request).await {
            Ok(given) => given,
            Err(ClientError::Refused(problem)) if problem.code == Code::Unauthenticated => {
                tried.push(prover.name());
                refused = CliError::from(*problem).hint(format!(
                    "enroll one of these keys at the server (portcullis identity), or name another with --key FILE: {}",
                    tried.join(", ")
                ));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let expires = given
            .expires
            .parse::<jiff::Timestamp>()
            .map_err(|error| CliError::failed(format!("the server's answer cannot be read: {error}")))?;
        let expires_ms = u64::try_from(expires.as_millisecond()).unwrap_or(0);
        let mut remembered = remembered.with_key(&prover.which());
        let token = Token::new(&remembered, given.token, expires_ms);
        let client = client.with_token(token.secret());
        let who: WhoAmI = client.get("/v1/whoami").await?;
        remembered.gate = Some(who.server.clone());
        remembered.save(places)?;
        token.save(places)?;
        return Ok((remembered, who));
    }
    Err(refused)
}

/// What a file on this machine is called wherever the command is run next.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, CliError> {
    path.canonicalize()
        .map_err(|error| CliError::new(Exit::NotFound, format!("cannot use {}: {error}", path.display())))
}

/// A key as people compare it.
pub(super) fn fingerprint(line: &str) -> String {
    match russh::keys::ssh_key::PublicKey::from_openssh(line) {
        Ok(key) => key.fingerprint(HashAlg::Sha256).to_string(),
        Err(_) => "a key that cannot be read".to_owned(),
    }
}

/// Each of these says by itself what to do.
macro_rules! failed {
    ($($error:ty),*) => {
        $(impl From<$error> for CliError {
            fn from(error: $error) -> CliError {
                CliError::failed(error.to_string())
            }
        })*
    };
}

failed!(AgentError, PersonError, ProverError, IncludeError, SshConfigError);
