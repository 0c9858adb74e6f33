//! How we prove ourselves to a target, as the inventory says it: the kind of
//! proof and the name of the source that it comes from, never the proof.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::id::SourceName;

/// What a target takes from us.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "source")]
pub enum Credential {
    /// A certificate of the target CA, made for each session.
    #[default]
    Certificate,
    /// A private key.
    Key(SourceName),
    /// A password, also where the target asks for it as keyboard-interactive.
    Password(SourceName),
    /// Answers to the target's prompts (RFC 4256).
    KeyboardInteractive(SourceName),
}

impl Credential {
    /// Whether no secret is needed. Takes a reference for serde's sake.
    pub fn is_certificate(&self) -> bool {
        *self == Credential::Certificate
    }

    /// As in JSON and in files.
    pub fn kind(&self) -> &'static str {
        match self {
            Credential::Certificate => "certificate",
            Credential::Key(_) => "key",
            Credential::Password(_) => "password",
            Credential::KeyboardInteractive(_) => "keyboard-interactive",
        }
    }

    /// The source of the secret, if there is one.
    pub fn source(&self) -> Option<&SourceName> {
        match self {
            Credential::Certificate => None,
            Credential::Key(source) | Credential::Password(source) | Credential::KeyboardInteractive(source) => {
                Some(source)
            }
        }
    }
}

impl fmt::Display for Credential {
    /// `SOURCE:KIND`, or `certificate`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source() {
            Some(source) => write!(f, "{source}:{}", self.kind()),
            None => f.write_str(self.kind()),
        }
    }
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "certificate" {
            return Ok(Credential::Certificate);
        }
        let (source, kind) = text
            .split_once(':')
            .ok_or_else(|| format!("`{text}` is neither `certificate` nor SOURCE:KIND, such as devices:password"))?;
        let source = source.parse::<SourceName>().map_err(|error| error.to_string())?;
        match kind {
            "key" => Ok(Credential::Key(source)),
            "password" => Ok(Credential::Password(source)),
            "keyboard-interactive" => Ok(Credential::KeyboardInteractive(source)),
            other => Err(format!(
                "`{other}` is no kind of credential: key, password, keyboard-interactive"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_in_both_forms() {
        for text in [
            "certificate",
            "vault:key",
            "devices:password",
            "devices:keyboard-interactive",
        ] {
            let credential: Credential = text.parse().unwrap();
            assert_eq!(credential.to_string(), text);
            let json = serde_json::to_string(&credential).unwrap();
            assert_eq!(serde_json::from_str::<Credential>(&json).unwrap(), credential, "{json}");
        }
        assert_eq!(
            serde_json::to_string(&"devices:password".parse::<Credential>().unwrap()).unwrap(),
            r#"{"kind":"password","source":"devices"}"#
        );
    }

    #[test]
    fn refuses_what_names_no_source() {
        for bad in [
            "",
            "password",
            ":password",
            "a/b:key",
            "../x:key",
            "vault:",
            "vault:otp",
            "certificate:x",
        ] {
            assert!(bad.parse::<Credential>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Credential>(r#"{"kind":"password"}"#).is_err());
        assert!(serde_json::from_str::<Credential>(r#"{"kind":"password","source":"../x"}"#).is_err());
    }
}
