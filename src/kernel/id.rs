//! Names and numbers of things, each its own type, each parsed once.

use std::fmt;
use std::str::FromStr;

/// Longest name of an identity, target, login or node, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// Why a name or id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("{what} is empty")]
    Empty { what: &'static str },
    #[error("{what} is longer than {max} bytes")]
    TooLong { what: &'static str, max: usize },
    #[error("{what} `{name}` holds `{bad}`: letters, digits and `._-` only, starting with a letter or digit")]
    BadCharacter {
        what: &'static str,
        name: String,
        bad: char,
    },
    #[error("`{text}` is not an id: 32 lower-case hexadecimal digits expected")]
    BadId { text: String },
}

macro_rules! id16 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let bad = || IdError::BadId { text: text.chars().take(64).collect() };
                if text.len() != 32 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(bad());
                }
                let mut bytes = [0u8; 16];
                for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
                    let digits = std::str::from_utf8(pair).map_err(|_| bad())?;
                    *slot = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
                }
                Ok($name(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id16! {
    /// One session: one client connection to one target under one grant.
    SessionId
}
id16! {
    /// One grant.
    GrantId
}
id16! {
    /// One request for access.
    RequestId
}
id16! {
    /// One look back at what was done.
    ReviewId
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check_name($what, text)?;
                Ok($name(text.to_owned()))
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A person, vendor, machine or agent in the inventory.
    IdentityName, "identity name"
}
name! {
    /// A host or local command in the inventory.
    TargetName, "target name"
}
name! {
    /// The account at the target.
    Login, "login"
}
name! {
    /// Some identities together, for policy.
    GroupName, "group name"
}
name! {
    /// Where secrets for targets come from, by its name in the configuration.
    SourceName, "credential source name"
}
name! {
    /// One server process's name among several.
    NodeName, "node name"
}

/// The alphabet is narrow on purpose: these names stand in certificates,
/// user names, file names and log lines, where `@`, `,`, `/`, spaces and
/// controls would each mean something else.
fn check_name(what: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty { what });
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(IdError::TooLong {
            what,
            max: NAME_BYTES_MAX,
        });
    }
    let bad = text.char_indices().find(|(at, c)| {
        let inner = matches!(c, '.' | '_' | '-');
        !(c.is_ascii_alphanumeric() || (inner && *at > 0) || (*c == '_' && *at == 0))
    });
    match bad {
        Some((_, bad)) => Err(IdError::BadCharacter {
            what,
            name: text.to_owned(),
            bad,
        }),
        None => Ok(()),
    }
}

/// `login@target`: what a principal names, what a user asks for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Destination {
    pub login: Login,
    pub target: TargetName,
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.login, self.target)
    }
}

impl FromStr for Destination {
    type Err = IdError;

    /// Reads `login@target`, or `login+target` for programs that would split
    /// a user name at `@`.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (login, target) = text
            .split_once('@')
            .or_else(|| text.split_once('+'))
            .ok_or(IdError::Empty {
                what: "target name in `login@target`",
            })?;
        Ok(Destination {
            login: login.parse()?,
            target: target.parse()?,
        })
    }
}

impl serde::Serialize for Destination {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Destination {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_refuse_what_means_something_elsewhere() {
        for bad in [
            "", "a,b", "a b", "a@b", "a/b", "-a", ".a", "a\0", "a\n", "é", "a+b", "*",
        ] {
            assert!(bad.parse::<TargetName>().is_err(), "{bad:?}");
        }
        for good in ["db1", "db-1.prod", "_svc", "A9"] {
            assert!(good.parse::<TargetName>().is_ok(), "{good:?}");
        }
        assert!("x".repeat(NAME_BYTES_MAX + 1).parse::<Login>().is_err());
    }

    #[test]
    fn destination_reads_both_forms() {
        let at: Destination = "root@db1".parse().unwrap();
        let plus: Destination = "root+db1".parse().unwrap();
        assert_eq!(at, plus);
        assert!("root".parse::<Destination>().is_err());
        assert!("root@db1@x".parse::<Destination>().is_err());
    }

    #[test]
    fn ids_round_trip_and_refuse_the_rest() {
        let id = SessionId([0xab; 16]);
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert!("AB".repeat(16).parse::<SessionId>().is_err());
        assert!("ab".parse::<SessionId>().is_err());
    }
}
