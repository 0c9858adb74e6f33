//! Exit codes (part of the contract) and errors that know theirs.

use std::fmt;

use crate::api::client::{ClientError, Server};
use crate::api::problem::{Code, Problem};
use crate::config::ConfigError;
use crate::store::StoreError;

/// What a run ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Ok,
    Failed,
    Usage,
    /// Denied by policy.
    Denied,
    /// Waiting for an approval.
    Pending,
    /// A recording that does not verify.
    Invalid,
    NotFound,
    Unreachable,
    Recovered,
    Prefix,
    /// Not in the ledger, or a key is unknown.
    Unknown,
    Redacted,
    /// Nothing happened; the same again may work.
    TryAgain,
}

impl Exit {
    /// The process's exit status.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Denied => 3,
            Exit::Pending => 4,
            Exit::Invalid => 5,
            Exit::NotFound => 6,
            Exit::Unreachable => 7,
            Exit::Recovered => 10,
            Exit::Prefix => 11,
            Exit::Unknown => 12,
            Exit::Redacted => 13,
            Exit::TryAgain => 75,
        }
    }
}

/// Why a command did not do what it was told: cause and object, the next
/// thing to do, the exit code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CliError {
    pub exit: Exit,
    pub message: String,
    pub hint: Option<String>,
}

impl CliError {
    /// An error without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> CliError {
        CliError {
            exit,
            message: message.into(),
            hint: None,
        }
    }

    /// [`Exit::Failed`].
    pub fn failed(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Failed, message)
    }

    /// [`Exit::Usage`].
    pub fn usage(message: impl Into<String>) -> CliError {
        CliError::new(Exit::Usage, message)
    }

    /// The same with the next thing to do.
    pub fn hint(self, hint: impl Into<String>) -> CliError {
        CliError {
            hint: Some(hint.into()),
            ..self
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> CliError {
        let hint = error.hint();
        let missing = matches!(&error, ConfigError::Read { error, .. }
            if error.kind() == std::io::ErrorKind::NotFound);
        let exit = if missing { Exit::NotFound } else { Exit::Failed };
        CliError {
            exit,
            message: error.to_string(),
            hint,
        }
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> CliError {
        let exit = match &error {
            StoreError::Unavailable(_) => Exit::TryAgain,
            StoreError::NotFound(_) => Exit::NotFound,
            StoreError::Held(_) | StoreError::Answer(_) | StoreError::NotOpen(_) => Exit::Denied,
            StoreError::Corrupt(_) | StoreError::Exists(_) | StoreError::GrantNotLive(_) => Exit::Failed,
        };
        CliError::new(exit, error.to_string())
    }
}

/// The exit code of a refusal by the server.
fn exit_of(code: Code) -> Exit {
    match code {
        Code::Invalid | Code::TooLarge | Code::Ambiguous => Exit::Usage,
        Code::Denied | Code::StepUp | Code::ReviewOpen => Exit::Denied,
        Code::NotFound => Exit::NotFound,
        Code::Unavailable | Code::RateLimited => Exit::TryAgain,
        Code::PeerRefused
        | Code::Unauthenticated
        | Code::Conflict
        | Code::MethodNotAllowed
        | Code::Exists
        | Code::Broken => Exit::Failed,
    }
}

impl From<Problem> for CliError {
    /// Says which rule decided, if policy did and its words do not already.
    fn from(problem: Problem) -> CliError {
        let named = problem.rules.iter().all(|rule| problem.detail.contains(rule.as_str()));
        let message = match named {
            true => problem.detail,
            false => format!("{} (rule {})", problem.detail, problem.rules.join(", ")),
        };
        CliError {
            exit: exit_of(problem.code),
            message,
            hint: problem.hint,
        }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> CliError {
        let message = error.to_string();
        match error {
            ClientError::Refused(problem) => (*problem).into(),
            ClientError::Unreachable { server, error } => {
                CliError::new(Exit::Unreachable, message).hint(unreachable_hint(&server, &error))
            }
            ClientError::Late => CliError::new(Exit::TryAgain, message),
            ClientError::Unreadable(_) => {
                CliError::failed(message).hint("use the portcullis program of the running server's version")
            }
        }
    }
}

/// What to do when nobody answers, or the wrong one.
fn unreachable_hint(server: &Server, error: &std::io::Error) -> String {
    match server {
        Server::Socket(socket) => format!(
            "start the server: portcullis serve --config {}",
            socket.with_file_name("config.toml").display()
        ),
        // How rustls tells that it does not trust the other end.
        Server::Url(url) if error.kind() == std::io::ErrorKind::InvalidData => format!(
            "say whom to trust, as the server's admin tells it: portcullis login --server {url} --ca FILE, or --pin sha256:…"
        ),
        Server::Url(_) => "check the name, the port and the network".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let all = [
            (Exit::Ok, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Denied, 3),
            (Exit::Pending, 4),
            (Exit::Invalid, 5),
            (Exit::NotFound, 6),
            (Exit::Unreachable, 7),
            (Exit::Recovered, 10),
            (Exit::Prefix, 11),
            (Exit::Unknown, 12),
            (Exit::Redacted, 13),
            (Exit::TryAgain, 75),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code);
        }
    }

    #[test]
    fn refusals_keep_their_meaning() {
        let cases = [
            (Code::Denied, Exit::Denied),
            (Code::NotFound, Exit::NotFound),
            (Code::Unavailable, Exit::TryAgain),
            (Code::Exists, Exit::Failed),
            (Code::Invalid, Exit::Usage),
        ];
        for (code, exit) in cases {
            let error: CliError = ClientError::Refused(Box::new(Problem::new(code, "x").hint("y"))).into();
            assert_eq!(error, CliError::new(exit, "x").hint("y"));
        }
        let ruled = |detail: &str| {
            let mut problem = Problem::new(Code::Denied, detail);
            problem.rules = ["office-hours".to_owned()].into();
            CliError::from(problem).message
        };
        assert_eq!(ruled("not now"), "not now (rule office-hours)");
        assert_eq!(ruled("refused by office-hours"), "refused by office-hours");
        let socket = std::path::PathBuf::from("/srv/gate/api.sock");
        let error: CliError = ClientError::Unreachable {
            server: Server::Socket(socket),
            error: std::io::ErrorKind::NotFound.into(),
        }
        .into();
        assert_eq!(error.exit, Exit::Unreachable);
        assert!(
            error
                .hint
                .unwrap()
                .ends_with("portcullis serve --config /srv/gate/config.toml")
        );
    }
}
