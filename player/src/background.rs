//! What only a server knows of sessions, as a file: `portcullis recordings background` writes it, and whoever holds the
//! keys to encrypted recordings adds it to their summaries. Nobody signs it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::{Exit, Failure};
use crate::files::read_bounded;
use crate::plain;
use crate::summary::Known;
use crate::verdict::SCHEMA;

/// Largest file, in bytes.
const BYTES_MAX: usize = 16 << 20;

/// What is known of each session, by its id in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// Shape of this object.
    pub schema: u32,
    /// Of each session.
    pub sessions: BTreeMap<String, Known>,
}

impl Background {
    /// Of these sessions.
    pub fn new(sessions: BTreeMap<String, Known>) -> Background {
        Background {
            schema: SCHEMA,
            sessions,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, is too long, or is none.
    pub fn read(path: &Path) -> Result<Background, Failure> {
        let shown = plain::line(&path.display().to_string());
        let bytes = read_bounded(path, BYTES_MAX).map_err(|e| Failure::io(&format!("background {shown}"), &e))?;
        let refused = |why: String| {
            Failure::new(Exit::Failed, format!("{shown}: {why}"))
                .hint("get it again from the server: portcullis recordings background --grant ID > background.json")
        };
        if bytes.len() > BYTES_MAX {
            return Err(refused(format!("more than {} MiB", BYTES_MAX >> 20)));
        }
        let read: Background = serde_json::from_slice(&bytes).map_err(|e| refused(format!("no background: {e}")))?;
        if read.schema != SCHEMA {
            return Err(refused(format!("schema {}, and this reads {SCHEMA}", read.schema)));
        }
        Ok(read)
    }

    /// What it says of a session, in words that are safe to show.
    pub fn of(&self, session: &str) -> Option<Known> {
        let all = |texts: &[String]| texts.iter().map(|text| plain::line(text)).collect();
        let known = self.sessions.get(session)?;
        let facts = known.facts.iter();
        Some(Known {
            facts: facts
                .map(|(name, value)| (plain::line(name), plain::line(value)))
                .collect(),
            unusual: all(&known.unusual),
            first_labels: all(&known.first_labels),
            first_programs: all(&known.first_programs),
            ..known.clone()
        })
    }
}
