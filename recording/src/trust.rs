//! What a verifier believes in, given from outside (FORMAT.md section 9.4): node, ledger and witness keys.
//!
//! The text form is a small, strict part of TOML; what this crate does not know it refuses, with the line's number.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::fault::Why;
use crate::limits::TRUST_BYTES_MAX;
use crate::note::{KeyKind, VerifierKey, parse_decimal};

/// Keys a verifier trusts. An empty one trusts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// How many different witnesses must have cosigned a checkpoint.
    pub quorum: u64,
    /// Identity keys of nodes.
    pub nodes: Vec<NodeKey>,
    /// Keys of those who may make redacted copies.
    pub redactors: Vec<NodeKey>,
    /// Ledgers.
    pub ledgers: Vec<LedgerKey>,
    /// Witnesses.
    pub witnesses: Vec<VerifierKey>,
}

/// A node's identity key, or a redactor's, and when it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeKey {
    /// The node, or the redactor.
    pub name: String,
    /// Its Ed25519 key.
    pub key: [u8; 32],
    /// First wall ms at which it holds.
    pub from_wall_ms: u64,
    /// First wall ms at which it no longer holds; retired, but what it signed stays good.
    pub until_wall_ms: Option<u64>,
    /// Somebody else may have had it since then. Recordings under it need a cosigned ledger proof older than this.
    pub revoked_wall_ms: Option<u64>,
}

/// A ledger's origin line and the key that signs its checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerKey {
    /// Origin line.
    pub origin: String,
    /// Key.
    pub key: VerifierKey,
}

/// A trust file that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trust file, line {line}: {what}")]
pub struct TrustError {
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// What the trust file says about a node key at a time.
pub(crate) enum Standing {
    Good,
    /// Good only with a cosigned proof older than this.
    RevokedAt(u64),
}

impl Trust {
    pub(crate) fn standing(&self, key: &[u8; 32], wall_ms: u64) -> Result<Standing, Why> {
        let mut known = self.nodes.iter().filter(|node| node.key == *key).peekable();
        if known.peek().is_none() {
            return Err(Why::UnknownNodeKey);
        }
        let node = known
            .find(|node| node.from_wall_ms <= wall_ms && node.until_wall_ms.is_none_or(|until| wall_ms < until))
            .ok_or(Why::NodeKeyNotValidThen)?;
        // A revocation of the key anywhere in the file counts.
        match self
            .nodes
            .iter()
            .filter(|n| n.key == *key)
            .filter_map(|n| n.revoked_wall_ms)
            .min()
        {
            None => Ok(Standing::Good),
            Some(revoked) if node.from_wall_ms <= wall_ms && wall_ms < revoked => Ok(Standing::RevokedAt(revoked)),
            Some(_) => Err(Why::NodeKeyRevoked),
        }
    }

    /// The name of a redactor whose key holds at a time. A revoked one proves nothing: no ledger says when a copy was made.
    pub(crate) fn redactor(&self, key: &[u8; 32], wall_ms: u64) -> Result<&str, Why> {
        let known = || self.redactors.iter().filter(|redactor| redactor.key == *key);
        if known().next().is_none() {
            return Err(Why::UnknownRedactor);
        }
        let holds = |r: &&NodeKey| r.from_wall_ms <= wall_ms && r.until_wall_ms.is_none_or(|until| wall_ms < until);
        match known().find(holds) {
            Some(redactor) if known().all(|r| r.revoked_wall_ms.is_none()) => Ok(&redactor.name),
            Some(_) | None => Err(Why::RedactorNotValidThen),
        }
    }

    /// The text form.
    pub fn to_text(&self) -> Result<String, TrustError> {
        let mut out = format!("quorum = {}\n", self.quorum);
        let failed = |_| TrustError {
            line: 0,
            what: "cannot be written",
        };
        let nodes = self.nodes.iter().map(|n| ("node", n));
        for (table, n) in nodes.chain(self.redactors.iter().map(|r| ("redactor", r))) {
            let key = BASE64.encode(n.key);
            write!(
                out,
                "\n[[{table}]]\nname = \"{}\"\nkey = \"{key}\"\nfrom = {}\n",
                n.name, n.from_wall_ms
            )
            .map_err(failed)?;
            for (name, ms) in [("until", n.until_wall_ms), ("revoked", n.revoked_wall_ms)] {
                if let Some(ms) = ms {
                    writeln!(out, "{name} = {ms}").map_err(failed)?;
                }
            }
        }
        for l in &self.ledgers {
            write!(out, "\n[[ledger]]\norigin = \"{}\"\nkey = \"{}\"\n", l.origin, l.key).map_err(failed)?;
        }
        for w in &self.witnesses {
            write!(out, "\n[[witness]]\nkey = \"{w}\"\n").map_err(failed)?;
        }
        // A name with a quote or a newline in it would read back as something else.
        if Trust::parse(&out)? == *self {
            Ok(out)
        } else {
            Err(TrustError {
                line: 0,
                what: "cannot be written",
            })
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Result<Trust, TrustError> {
        if text.len() > TRUST_BYTES_MAX {
            return Err(TrustError {
                line: 0,
                what: "the file is over its bound",
            });
        }
        let mut trust = Trust::default();
        let mut table = Table {
            line: 1,
            kind: "",
            fields: Vec::new(),
        };
        for (i, line) in text.lines().enumerate() {
            let (number, line) = (i + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with('[') {
                table.finish(&mut trust)?;
                let kind = ["node", "redactor", "ledger", "witness"]
                    .into_iter()
                    .find(|k| line == format!("[[{k}]]"));
                let kind = kind.ok_or(TrustError {
                    line: number,
                    what: "unknown table",
                })?;
                table = Table {
                    line: number,
                    kind,
                    fields: Vec::new(),
                };
                continue;
            }
            let (name, value) = line.split_once('=').ok_or(TrustError {
                line: number,
                what: "not a key and a value",
            })?;
            let value = Value::parse(value.trim()).ok_or(TrustError {
                line: number,
                what: "not a value",
            })?;
            table.fields.push(Field {
                line: number,
                name: name.trim().to_owned(),
                value,
            });
        }
        table.finish(&mut trust)?;
        Ok(trust)
    }
}

struct Table {
    line: usize,
    kind: &'static str,
    fields: Vec<Field>,
}

struct Field {
    line: usize,
    name: String,
    value: Value,
}

enum Value {
    Text(String),
    Number(u64),
}

impl Value {
    fn parse(text: &str) -> Option<Value> {
        match text.strip_prefix('"') {
            Some(rest) => {
                let inner = rest.strip_suffix('"')?;
                let plain = !inner.contains(|c: char| c == '"' || c == '\\' || c.is_control());
                plain.then(|| Value::Text(inner.to_owned()))
            }
            None => parse_decimal(text).map(Value::Number),
        }
    }
}

impl Table {
    fn error(&self, what: &'static str) -> TrustError {
        TrustError { line: self.line, what }
    }

    fn take(&mut self, name: &str) -> Result<Option<Field>, TrustError> {
        let Some(at) = self.fields.iter().position(|f| f.name == name) else {
            return Ok(None);
        };
        let field = self.fields.remove(at);
        match self.fields.iter().find(|f| f.name == name) {
            Some(again) => Err(TrustError {
                line: again.line,
                what: "given twice",
            }),
            None => Ok(Some(field)),
        }
    }

    fn text(&mut self, name: &str) -> Result<(usize, String), TrustError> {
        match self.take(name)? {
            Some(Field {
                line,
                value: Value::Text(text),
                ..
            }) => Ok((line, text)),
            Some(Field { line, .. }) => Err(TrustError {
                line,
                what: "not a text",
            }),
            None => Err(self.error("a key is missing in this table")),
        }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, TrustError> {
        match self.take(name)? {
            Some(Field {
                value: Value::Number(n),
                ..
            }) => Ok(Some(n)),
            Some(Field { line, .. }) => Err(TrustError {
                line,
                what: "not a number",
            }),
            None => Ok(None),
        }
    }

    fn verifier(&mut self, kind: KeyKind) -> Result<VerifierKey, TrustError> {
        let (line, text) = self.text("key")?;
        match VerifierKey::parse(&text) {
            Ok(key) if key.kind() == kind => Ok(key),
            _ => Err(TrustError {
                line,
                what: "not a verifier key of this kind",
            }),
        }
    }

    fn finish(&mut self, trust: &mut Trust) -> Result<(), TrustError> {
        match self.kind {
            kind @ ("node" | "redactor") => {
                let (_, name) = self.text("name")?;
                let (line, key) = self.text("key")?;
                let key = BASE64.decode(key).ok().and_then(|k| k.try_into().ok());
                let node = NodeKey {
                    name,
                    key: key.ok_or(TrustError {
                        line,
                        what: "not a base64 key of 32 bytes",
                    })?,
                    from_wall_ms: self.number("from")?.ok_or(self.error("from is missing"))?,
                    until_wall_ms: self.number("until")?,
                    revoked_wall_ms: self.number("revoked")?,
                };
                match kind {
                    "node" => trust.nodes.push(node),
                    _ => trust.redactors.push(node),
                }
            }
            "ledger" => {
                let (_, origin) = self.text("origin")?;
                trust.ledgers.push(LedgerKey {
                    origin,
                    key: self.verifier(KeyKind::Note)?,
                });
            }
            "witness" => trust.witnesses.push(self.verifier(KeyKind::Cosignature)?),
            _ => trust.quorum = self.number("quorum")?.unwrap_or(0),
        }
        match self.fields.first() {
            Some(unknown) => Err(TrustError {
                line: unknown.line,
                what: "unknown key",
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trust_file_round_trips_and_unknown_keys_are_refused() {
        let key = |name, kind| VerifierKey::new(name, kind, [7; 32]).unwrap();
        let trust = Trust {
            quorum: 1,
            nodes: vec![NodeKey {
                name: "bastion 1".into(),
                key: [3; 32],
                from_wall_ms: 5,
                until_wall_ms: Some(9),
                revoked_wall_ms: None,
            }],
            redactors: vec![NodeKey {
                name: "privacy office".into(),
                key: [4; 32],
                from_wall_ms: 0,
                until_wall_ms: None,
                revoked_wall_ms: Some(7),
            }],
            ledgers: vec![LedgerKey {
                origin: "b.example/ledger".into(),
                key: key("b.example/ledger", KeyKind::Note),
            }],
            witnesses: vec![key("w.example", KeyKind::Cosignature)],
        };
        let text = trust.to_text().unwrap();
        assert_eq!(Trust::parse(&text), Ok(trust.clone()));
        assert_eq!(
            Trust::parse(&format!("# remark\n{text}\ncolour = 1\n"))
                .unwrap_err()
                .what,
            "unknown key"
        );
        assert_eq!(
            Trust::parse("quorum = 1\nquorum = 2\n").unwrap_err(),
            TrustError {
                line: 2,
                what: "given twice"
            }
        );
        assert_eq!(Trust::parse("[[nodes]]\n").unwrap_err().line, 1);
        assert_eq!(
            Trust::parse("\n[[node]]\nname = \"x\"\nkey = \"AA==\"\nfrom = 1\n")
                .unwrap_err()
                .line,
            4
        );
        let mut odd = trust;
        odd.nodes[0].name = "a\"\nfrom = 0".into();
        assert!(odd.to_text().is_err());
    }
}
