//! What a command is about, as far as its text shows: labels that policies,
//! anomalies and searches go by. The data is `labels.toml`; a folder of
//! policies may bring its own.

use std::collections::BTreeSet;

use regex::bytes::{RegexSet, RegexSetBuilder};
use serde::Deserialize;

/// The labels of a folder of policies that brings none.
pub const BUILTIN: &str = include_str!("labels.toml");
/// Largest file of labels, in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Most patterns, all labels together.
pub const PATTERNS_MAX: usize = 1000;
/// Largest compiled form of all patterns, in bytes.
const COMPILED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest beginning of a command that is looked at, in bytes.
pub const COMMAND_BYTES_MAX: usize = super::request::EXEC_BYTES_MAX;
/// Longest name of a label, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What a leading `^` of a pattern stands for: the beginning of the line or of
/// a further command in it, behind what runs other commands, and a path.
const COMMAND_BEGINS: &str = r#"(?:^|[;&|`({\n"']|\b(?:sudo|doas|env|nohup|setsid|time|timeout|xargs|exec|command|then|do|else)\s(?:[^;&|]*\s)?)\s*(?:[^\s;&|]*/)?"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    label: Vec<Said>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    name: String,
    why: String,
    patterns: Vec<String>,
    #[serde(default)]
    hits: Vec<String>,
    #[serde(default)]
    misses: Vec<String>,
}

/// Compiled labels.
#[derive(Clone, Debug)]
pub struct Labels {
    set: RegexSet,
    /// Of each pattern, its label.
    names: Vec<String>,
    /// Each label once, with why it is one.
    known: Vec<(String, String)>,
}

impl Labels {
    /// Reads a file of labels. Its own examples must come out as it says.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn load(text: &str) -> Result<Labels, String> {
        if text.len() > FILE_BYTES_MAX {
            return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
        }
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().replace('\n', " "))?;
        let mut patterns = Vec::new();
        let mut names = Vec::new();
        let mut known: Vec<(String, String)> = Vec::new();
        for said in &file.label {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if said.name.is_empty() || said.name.len() > NAME_BYTES_MAX || !said.name.chars().all(plain) {
                return Err(format!("`{}` is no label: small letters, digits and - only", said.name));
            }
            if known.iter().any(|(name, _)| *name == said.name) {
                return Err(format!("the label `{}` stands there twice", said.name));
            }
            known.push((said.name.clone(), said.why.clone()));
            for pattern in &said.patterns {
                patterns.push(match pattern.strip_prefix('^') {
                    // Alternatives keep together behind it.
                    Some(rest) => format!(
                        "{COMMAND_BEGINS}(?:{})",
                        rest.replace("|^", &format!("|{COMMAND_BEGINS}"))
                    ),
                    None => pattern.clone(),
                });
                names.push(said.name.clone());
            }
        }
        if patterns.len() > PATTERNS_MAX {
            return Err(format!("more than {PATTERNS_MAX} patterns"));
        }
        let set = RegexSetBuilder::new(&patterns)
            .unicode(false)
            .size_limit(COMPILED_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string().replace('\n', " "))?;
        let labels = Labels { set, names, known };
        for said in &file.label {
            if let Some(missed) = said.hits.iter().find(|text| !labels.of(text).contains(&said.name)) {
                return Err(format!(
                    "`{missed}` does not get the label `{}`, as its hits say",
                    said.name
                ));
            }
            if let Some(hit) = said.misses.iter().find(|text| labels.of(text).contains(&said.name)) {
                return Err(format!("`{hit}` gets the label `{}`, which its misses deny", said.name));
            }
        }
        Ok(labels)
    }

    /// Labels of a command, by its first [`COMMAND_BYTES_MAX`] bytes.
    pub fn of(&self, command: &str) -> BTreeSet<String> {
        let most = command.floor_char_boundary(COMMAND_BYTES_MAX);
        let looked_at = command.get(..most).unwrap_or(command);
        let hits = self.set.matches(looked_at.as_bytes());
        hits.iter().filter_map(|at| self.names.get(at).cloned()).collect()
    }

    /// Each label, with why it is one.
    pub fn known(&self) -> &[(String, String)] {
        &self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_labels_hold_their_own_examples() {
        let labels = Labels::load(BUILTIN).unwrap_or_else(|why| panic!("{why}"));
        assert!(labels.known().len() >= 10);
        let file: File = toml::from_str(BUILTIN).unwrap();
        for said in &file.label {
            assert!(
                said.hits.len() >= 4 && said.misses.len() >= 3,
                "{} is not shown",
                said.name
            );
        }
    }

    #[test]
    fn ordinary_work_has_no_label() {
        let labels = Labels::load(BUILTIN).unwrap();
        for command in [
            "uptime",
            "ls -la /srv",
            "git status",
            "tail -f /var/log/syslog",
            "df -h",
            "echo 'she said: the drop was fine'",
            "ansible -m ping all",
            "rsync --server -e.LsfxCIvu . /srv/www/",
            "sftp-server",
            "",
        ] {
            assert!(labels.of(command).is_empty(), "{command}: {:?}", labels.of(command));
        }
    }

    #[test]
    fn a_command_can_have_several_and_a_long_one_is_looked_at_in_part() {
        let labels = Labels::load(BUILTIN).unwrap();
        let of = |command: &str| labels.of(command).into_iter().collect::<Vec<_>>();
        assert_eq!(of("sudo rm -rf /var/log/app"), ["cover-up", "destructive", "privilege"]);
        let late = format!("{}; reboot", " ".repeat(COMMAND_BYTES_MAX));
        assert!(of(&late).is_empty());
        // A character that the bound would cut.
        let cut = format!("reboot {}€", "x".repeat(COMMAND_BYTES_MAX - 8));
        assert_eq!(of(&cut), ["availability"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let label = |name: &str, rest: &str| format!("[[label]]\nname = \"{name}\"\nwhy = \"x\"\n{rest}\n");
        for (text, said) in [
            (label("A", "patterns = []"), "no label"),
            (label("a", "patterns = ['(']"), "regex"),
            (label("a", "pattern = []"), "pattern"),
            (label("a", "patterns = ['^x']\nhits = ['y']"), "as its hits say"),
            (label("a", "patterns = ['^x']\nmisses = ['x']"), "which its misses deny"),
            (label("a", "patterns = []") + &label("a", "patterns = []"), "twice"),
            (label("a", "patterns = ['(?:a{1000}){1000}']"), "limit"),
        ] {
            let why = Labels::load(&text).unwrap_err();
            assert!(why.contains(said), "{text}\n{why}");
        }
    }
}
