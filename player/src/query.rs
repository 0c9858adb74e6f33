//! What a search asks for: words, phrases and patterns, and who, where, when and what. The server's index and the player
//! mean the same by it.
//!
//! | written | means |
//! |---|---|
//! | `systemctl` | the word, in any case; `restart*` also its longer forms |
//! | `/etc/passwd` | what is written, from the edge of a word to the edge of a word |
//! | `"restart nginx"` | the same with blanks in it |
//! | `/rm\s+-[rf]+/` | a pattern of the `regex` crate; it has no blanks |
//! | `user:alice` | who; `target:db1` where; `label:destructive`; `kind:command`, `file`, `screen` or `session` |
//! | `status:1` | the exit status; `status:failed` any but 0 |
//! | `after:2026-01-31` | from then on; `before:` until then; also `2026-01-31T12:00:00Z`, or `7d` ago |
//!
//! All of them have to hold.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use regex::{Regex, RegexBuilder};

use crate::entry::{Entry, Kind};

/// Bytes of a query.
pub const QUERY_BYTES_MAX: usize = 4096;
/// Words, phrases, patterns and filters of one query.
pub const ITEMS_MAX: usize = 32;
/// Bytes that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Milliseconds of an hour.
const HOUR_MS: u64 = 60 * 60 * 1000;

/// One word or phrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// In small letters, runs of blanks as one.
    text: String,
    /// Whether its last word may go on.
    open: bool,
}

/// A search, understood.
#[derive(Debug, Clone, Default)]
pub struct Query {
    terms: Vec<Term>,
    patterns: Vec<Regex>,
    user: Option<String>,
    target: Option<String>,
    labels: Vec<String>,
    kind: Option<Kind>,
    status: Option<Status>,
    after_ms: Option<u64>,
    before_ms: Option<u64>,
}

/// An exit status that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Is(u32),
    /// Any but 0.
    Failed,
}

/// Whose recording it is.
#[derive(Debug, Clone, Copy)]
pub struct Whose<'w> {
    /// The identity.
    pub user: &'w str,
    /// The target.
    pub target: &'w str,
    /// When it opened, in ms since 1970.
    pub opened_wall_ms: u64,
}

/// Whether a character is part of a word.
fn is_word(c: char) -> bool {
    c.is_alphanumeric()
}

/// In small letters, with runs of blanks as one.
fn folded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !out.is_empty() {
            out.push(' ');
        }
        out.extend(word.chars().flat_map(char::to_lowercase));
    }
    out
}

impl Term {
    /// The words in it, and whether the last may go on.
    pub fn words(&self) -> (Vec<&str>, bool) {
        let words: Vec<&str> = self
            .text
            .split(|c| !is_word(c))
            .filter(|word| !word.is_empty())
            .collect();
        (words, self.open)
    }

    /// Whether it stands in a folded text, its ends at edges of words.
    fn is_in(&self, text: &str) -> bool {
        let begins = self.text.starts_with(is_word);
        let ends = !self.open && self.text.ends_with(is_word);
        text.match_indices(&self.text).any(|(at, found)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + found.len()..).and_then(|text| text.chars().next());
            !(begins && before.is_some_and(is_word) || ends && after.is_some_and(is_word))
        })
    }
}

impl Query {
    /// Reads a query; `now_ms` is what times such as `7d` count back from, in ms since 1970.
    ///
    /// # Errors
    /// What is wrong with it, in one sentence.
    pub fn parse(text: &str, now_ms: u64) -> Result<Query, String> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(format!("longer than {QUERY_BYTES_MAX} bytes"));
        }
        let mut query = Query::default();
        let mut rest = text.trim_start();
        let mut items = 0;
        while !rest.is_empty() {
            items += 1;
            if items > ITEMS_MAX {
                return Err(format!("more than {ITEMS_MAX} words and filters"));
            }
            let (item, behind) = item(rest)?;
            query.take(item, now_ms)?;
            rest = behind.trim_start();
        }
        match items {
            0 => Err("nothing to look for".to_owned()),
            _ => Ok(query),
        }
    }

    fn take(&mut self, item: Item<'_>, now_ms: u64) -> Result<(), String> {
        match item {
            Item::Phrase(text) => self.term(text),
            Item::Pattern(source) => {
                let pattern = RegexBuilder::new(source).size_limit(PATTERN_BYTES_MAX).build();
                self.patterns
                    .push(pattern.map_err(|why| format!("the pattern /{source}/: {why}"))?);
            }
            Item::Filter(key, value) => return self.filter(key, value, now_ms),
        }
        Ok(())
    }

    fn term(&mut self, text: &str) {
        let (text, open) = match text.strip_suffix('*') {
            Some(stem) if stem.ends_with(is_word) => (stem, true),
            Some(_) | None => (text, false),
        };
        let text = folded(text);
        if !text.is_empty() {
            self.terms.push(Term { text, open });
        }
    }

    fn filter(&mut self, key: Key, value: &str, now_ms: u64) -> Result<(), String> {
        if value.is_empty() {
            return Err(format!("{}: says nothing", key.word()));
        }
        let taken = match key {
            Key::User => self.user.replace(value.to_owned()).is_some(),
            Key::Target => self.target.replace(value.to_owned()).is_some(),
            Key::Label => {
                self.labels.push(value.to_owned());
                false
            }
            Key::Kind => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.word() == value);
                let kind = kind.ok_or_else(|| format!("kind:{value} is none of command, file, screen and session"))?;
                self.kind.replace(kind).is_some()
            }
            Key::Status => {
                let status = match value {
                    "failed" => Status::Failed,
                    number => Status::Is(
                        number
                            .parse()
                            .map_err(|_| format!("status:{value} is neither a number nor `failed`"))?,
                    ),
                };
                self.status.replace(status).is_some()
            }
            Key::After => self.after_ms.replace(moment(value, now_ms)?).is_some(),
            Key::Before => self.before_ms.replace(moment(value, now_ms)?).is_some(),
        };
        match taken {
            true => Err(format!("{}: stands there twice", key.word())),
            false => Ok(()),
        }
    }

    /// The words and phrases.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Who.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// Where.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// Labels, all of which are wanted.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Of what kind.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// The exit status.
    pub fn status(&self) -> Option<Status> {
        self.status
    }

    /// When, as ms since 1970: `[from, until)`.
    pub fn window(&self) -> (Option<u64>, Option<u64>) {
        (self.after_ms, self.before_ms)
    }

    /// Whether lines of screens can match.
    pub fn wants_screens(&self) -> bool {
        let others = self.status.is_some() || !self.labels.is_empty();
        self.kind.is_none_or(|kind| kind == Kind::Screen) && !others
    }

    /// Whether anything of a recording can match.
    pub fn fits(&self, whose: &Whose<'_>) -> bool {
        self.user.as_deref().is_none_or(|user| user == whose.user)
            && self.target.as_deref().is_none_or(|target| target == whose.target)
            && self.before_ms.is_none_or(|before| whose.opened_wall_ms < before)
    }

    /// Whether something found in that recording is what was asked for.
    pub fn matches(&self, whose: &Whose<'_>, entry: &Entry) -> bool {
        if !self.fits(whose) || self.kind.is_some_and(|kind| kind != entry.kind) {
            return false;
        }
        let at_ms = whose.opened_wall_ms.saturating_add(entry.at_ms);
        if self.after_ms.is_some_and(|after| at_ms < after) || self.before_ms.is_some_and(|before| at_ms >= before) {
            return false;
        }
        let status = match self.status {
            None => true,
            Some(Status::Is(wanted)) => entry.status == Some(wanted),
            Some(Status::Failed) => entry.status.is_some_and(|status| status != 0),
        };
        if !status || !self.labels.iter().all(|label| entry.labels.contains(label)) {
            return false;
        }
        if !self.patterns.iter().all(|pattern| pattern.is_match(&entry.text)) {
            return false;
        }
        if self.terms.is_empty() {
            return true;
        }
        let text = folded(&entry.text);
        self.terms.iter().all(|term| term.is_in(&text))
    }
}

/// Filters by name.
#[derive(Clone, Copy)]
enum Key {
    User,
    Target,
    Label,
    Kind,
    Status,
    After,
    Before,
}

impl Key {
    const ALL: [Key; 7] = [
        Key::User,
        Key::Target,
        Key::Label,
        Key::Kind,
        Key::Status,
        Key::After,
        Key::Before,
    ];

    fn word(self) -> &'static str {
        match self {
            Key::User => "user",
            Key::Target => "target",
            Key::Label => "label",
            Key::Kind => "kind",
            Key::Status => "status",
            Key::After => "after",
            Key::Before => "before",
        }
    }
}

enum Item<'q> {
    Phrase(&'q str),
    Pattern(&'q str),
    Filter(Key, &'q str),
}

/// The first item of a text that begins with one, and what is behind it.
fn item(text: &str) -> Result<(Item<'_>, &str), String> {
    if let Some(rest) = text.strip_prefix('"') {
        let (phrase, behind) = rest.split_once('"').ok_or("a \" has no other one")?;
        return Ok((Item::Phrase(phrase), behind));
    }
    let filter = Key::ALL.into_iter().find_map(|key| {
        let rest = text.strip_prefix(key.word())?.strip_prefix(':')?;
        Some((key, rest))
    });
    if let Some((key, rest)) = filter {
        let (value, behind) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a \" has no other one")?,
            None => word(rest),
        };
        return Ok((Item::Filter(key, value), behind));
    }
    let (word, behind) = word(text);
    let pattern = word.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
    match pattern.filter(|pattern| !pattern.is_empty()) {
        Some(pattern) => Ok((Item::Pattern(pattern), behind)),
        None => Ok((Item::Phrase(word), behind)),
    }
}

fn word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

/// A day, a time, or how long ago, as ms since 1970.
fn moment(text: &str, now_ms: u64) -> Result<u64, String> {
    let refused = || format!("no time: {text:?}. Try 2026-01-31, 2026-01-31T12:00:00Z, 12h or 7d");
    if let Ok(day) = text.parse::<Date>() {
        let midnight = day.to_zoned(TimeZone::UTC).map_err(|_| refused())?;
        return u64::try_from(midnight.timestamp().as_millisecond()).map_err(|_| refused());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return u64::try_from(time.as_millisecond()).map_err(|_| refused());
    }
    let (count, unit_ms) = match (text.strip_suffix('d'), text.strip_suffix('h')) {
        (Some(days), _) => (days, 24 * HOUR_MS),
        (None, Some(hours)) => (hours, HOUR_MS),
        (None, None) => return Err(refused()),
    };
    let count: u64 = count.parse().map_err(|_| refused())?;
    Ok(now_ms.saturating_sub(count.saturating_mul(unit_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_790_000_000_000;

    fn whose(user: &'static str) -> Whose<'static> {
        Whose {
            user,
            target: "db1",
            opened_wall_ms: NOW_MS - 10 * HOUR_MS,
        }
    }

    fn command(text: &str) -> Entry {
        Entry {
            status: Some(1),
            labels: vec!["service".to_owned()],
            ..Entry::new(Kind::Command, 60_000, 1, text)
        }
    }

    #[test]
    fn words_phrases_patterns_and_filters() {
        let run = command("sudo  systemctl restart nginx.service --now && cat /etc/passwd");
        for (text, found) in [
            ("systemctl restart", true),
            ("restart systemctl", true),
            ("SystemCtl", true),
            ("system", false),
            ("system*", true),
            ("\"systemctl restart\"", true),
            ("\"sudo systemctl\"", true),
            ("\"restart systemctl\"", false),
            ("/etc/passwd", true),
            ("/etc/pass", false),
            ("/etc/pass*", true),
            ("--now", true),
            ("&&", true),
            ("||", false),
            ("nginx", true),
            ("/restart\\s+ng/", true),
            ("/RESTART/", false),
            ("/(?i)RESTART/ sudo", true),
            ("user:alice", true),
            ("user:bob", false),
            ("user:ali", false),
            ("target:db1 kind:command restart", true),
            ("kind:screen restart", false),
            ("status:1", true),
            ("status:0", false),
            ("status:failed label:service", true),
            ("label:destructive", false),
            ("after:1d", true),
            ("after:9h", false),
            ("before:9h", true),
            ("before:2026-09-21", false),
            ("before:2026-09-22 after:2026-09-21", true),
            ("after:2026-09-21T04:14:20Z", true),
            ("after:2026-09-21T04:14:20.001Z", false),
            ("\"label:service\"", false),
        ] {
            let query = Query::parse(text, NOW_MS).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(query.matches(&whose("alice"), &run), found, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        for (text, why) in [
            ("  ", "nothing"),
            ("\"open", "no other one"),
            ("kind:all", "none of"),
            ("status:x", "neither"),
            ("after:soon", "no time"),
            ("user: x", "says nothing"),
            ("user:a user:b", "twice"),
            ("/(/", "pattern"),
            ("/(a{1000}){1000}/", "pattern"),
        ] {
            let told = Query::parse(text, NOW_MS).unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
        assert!(Query::parse(&"a ".repeat(ITEMS_MAX + 1), NOW_MS).is_err());
        assert!(Query::parse(&"a".repeat(QUERY_BYTES_MAX + 1), NOW_MS).is_err());
    }

    #[test]
    fn edges_of_words_in_any_script() {
        for (text, wanted, found) in [
            ("größe ÄNDERN", "ändern", true),
            ("größer", "größe", false),
            ("日本語", "本", false),
            ("日本語", "日本*", true),
            ("a\u{FFFD}b", "b", true),
        ] {
            let query = Query::parse(wanted, NOW_MS).unwrap();
            assert_eq!(query.matches(&whose("a"), &command(text)), found, "{wanted} in {text}");
        }
    }
}
