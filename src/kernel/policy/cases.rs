//! Cases as data: what policies have to answer, in a file beside them.
//!
//! ```toml
//! [default]                       # for every case that does not say otherwise
//! target = "db1"
//! labels = ["env=prod"]
//!
//! [[case]]
//! name = "production needs two"
//! action = "request"
//! ticket = "INC-42"
//! expect = "permit"
//! rule = "production-two"
//! obligations = { approvals = "2", max = "1h", review = "" }   # as annotations, all of them
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use serde::Deserialize;
use toml::{Table, Value};

use super::NOTHING_PERMITS;
use super::annotations;
use super::engine::Policies;
use super::facts::{Action, Facts, ForwardTo, LocalTime, Proof, TransferOf, Whereto, Who};
use crate::kernel::duration;
use crate::kernel::grant::Capability;
use crate::kernel::id::{GroupName, IdError, IdentityName, TargetName};
use crate::kernel::inventory::{IdentityKind, Role};

/// Largest file of cases, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most cases of one file.
pub const CASES_MAX: usize = 10_000;

/// How one case came out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub name: String,
    /// What was expected and what came instead; none: as expected.
    pub failure: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    default: Table,
    case: Vec<Table>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Permit,
    Forbid,
}

/// How who asks has proved who it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidProof {
    method: String,
    strength: u8,
    /// A duration; none: just now.
    age: Option<String>,
}

/// One case, as it is said. What is left out is ordinary: alice, a person, at
/// db1 as root, on a Friday at ten.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    name: String,
    action: Action,
    expect: Expected,
    /// A rule that has to be among those that decided; `policy.none`: there is none.
    rule: Option<String>,
    obligations: Option<Table>,
    identity: Option<IdentityName>,
    #[serde(default = "person")]
    kind: IdentityKind,
    /// Beside those of its kind.
    #[serde(default)]
    roles: BTreeSet<Role>,
    #[serde(default)]
    groups: BTreeSet<GroupName>,
    owner: Option<String>,
    purpose: Option<String>,
    target: Option<TargetName>,
    /// Of the target.
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default = "root")]
    login: String,
    /// RFC 3339; the local time is the one that is written.
    #[serde(default = "friday")]
    at: String,
    source: Option<IpAddr>,
    #[serde(default)]
    zones: BTreeSet<String>,
    device: Option<String>,
    location: Option<String>,
    #[serde(default)]
    reason: String,
    ticket: Option<String>,
    proof: Option<SaidProof>,
    #[serde(default)]
    risk: u8,
    #[serde(default)]
    anomalies: BTreeSet<String>,
    /// Capabilities.
    #[serde(default)]
    allow: BTreeSet<Capability>,
    #[serde(rename = "for")]
    length: Option<String>,
    begins_in: Option<String>,
    #[serde(default)]
    single_use: bool,
    requested_by: Option<String>,
    holder: Option<String>,
    command: Option<String>,
    /// Beside those that its text has.
    #[serde(default)]
    command_labels: BTreeSet<String>,
    #[serde(default = "shell")]
    place: String,
    #[serde(default)]
    undecided: bool,
    subsystem: Option<String>,
    forward: Option<ForwardTo>,
    transfer: Option<TransferOf>,
    #[serde(default)]
    terminal: bool,
}

fn person() -> IdentityKind {
    IdentityKind::Person
}

fn shell() -> String {
    "shell".to_owned()
}

fn root() -> String {
    "root".to_owned()
}

fn friday() -> String {
    "2026-11-20T10:00:00Z".to_owned()
}

fn named<N: FromStr<Err = IdError>>(said: Option<N>, usual: &str) -> Result<N, String> {
    said.map_or_else(|| usual.parse().map_err(|error: IdError| error.to_string()), Ok)
}

/// Runs each case of a file.
///
/// # Errors
/// What of the file is no case, in one sentence.
pub fn run(policies: &Policies, text: &str) -> Result<Vec<Outcome>, String> {
    if text.len() > FILE_BYTES_MAX {
        return Err(format!("larger than {FILE_BYTES_MAX} bytes"));
    }
    let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    if file.case.len() > CASES_MAX {
        return Err(format!("more than {CASES_MAX} cases"));
    }
    file.case
        .into_iter()
        .enumerate()
        .map(|(at, case)| {
            let named = match case.get("name") {
                Some(Value::String(name)) => format!("case `{name}`"),
                _ => format!("case {}", at.saturating_add(1)),
            };
            let mut whole = file.default.clone();
            whole.extend(case);
            let said: Said = whole
                .try_into()
                .map_err(|error: toml::de::Error| format!("{named}: {}", error.message()))?;
            one(policies, said).map_err(|why| format!("{named}: {why}"))
        })
        .collect()
}

fn one(policies: &Policies, said: Said) -> Result<Outcome, String> {
    let expected = (said.expect, said.rule.clone(), said.obligations.clone());
    let name = said.name.clone();
    let facts = facts(said)?;
    let explained = policies.explain(&facts);
    let verdict = &explained.verdict;
    let (expect, rule, obligations) = expected;
    let mut wrong = Vec::new();
    if verdict.allowed != (expect == Expected::Permit) {
        let wanted = if expect == Expected::Permit { "a yes" } else { "a no" };
        wrong.push(format!("expected {wanted}, got {}", explained.sentence));
    } else if let Some(rule) = rule {
        let told = match rule == NOTHING_PERMITS {
            true => verdict.rules.is_empty(),
            false => verdict.rules.contains(&rule),
        };
        if !told {
            wrong.push(format!("expected rule {rule}, got {}", explained.sentence));
        }
    }
    if let Some(said) = obligations {
        let wanted = said.iter().map(|(name, value)| {
            let value = value
                .as_str()
                .ok_or_else(|| format!("obligations.{name} is no text, as an annotation is"));
            value.map(|value| (name.as_str(), value))
        });
        let wanted = annotations::obligations(wanted.collect::<Result<Vec<_>, _>>()?)?;
        if wanted != verdict.obligations {
            wrong.push(format!("expected {wanted:?}, got {:?}", verdict.obligations));
        }
    }
    wrong.extend(verdict.errors.iter().cloned());
    Ok(Outcome {
        name,
        failure: (!wrong.is_empty()).then(|| wrong.join("; ")),
    })
}

fn facts(said: Said) -> Result<Facts, String> {
    let at: Timestamp = said.at.parse().map_err(|error| format!("at: {error}"))?;
    let written = Pieces::parse(&said.at).map_err(|error| format!("at: {error}"))?;
    let time = written.time().unwrap_or_default();
    let weekday = written.date().weekday().to_monday_one_offset();
    let minute = i32::from(time.hour())
        .saturating_mul(60)
        .saturating_add(time.minute().into());
    let ms = |name: &str, said: &Option<String>| match said {
        Some(text) => duration::ms(text).map_err(|why| format!("{name}: {why}")),
        None => Ok(0),
    };
    let own = match said.kind {
        IdentityKind::Person | IdentityKind::Vendor => Role::User,
        IdentityKind::Machine | IdentityKind::Agent => Role::Machine,
    };
    let who = Who {
        name: named(said.identity, "alice")?,
        kind: said.kind,
        roles: said.roles.into_iter().chain([own]).collect(),
        groups: said.groups,
        owner: said.owner,
        purpose: said.purpose,
    };
    let target = Whereto {
        name: named(said.target, "db1")?,
        labels: said.labels,
    };
    let now = u64::try_from(at.as_millisecond()).map_err(|_| "at: before 1970".to_owned())?;
    let proof = match said.proof {
        Some(proof) => Proof {
            age_ms: ms("proof.age", &proof.age)?,
            method: proof.method,
            strength: proof.strength,
        },
        None => Proof::default(),
    };
    Ok(Facts {
        login: said.login,
        local: LocalTime {
            weekday: u8::try_from(weekday).unwrap_or(0),
            minute: u16::try_from(minute).unwrap_or(0),
        },
        source: said.source,
        zones: said.zones,
        device: said.device,
        location: said.location,
        reason: said.reason,
        ticket: said.ticket,
        proof,
        risk: said.risk,
        anomalies: said.anomalies,
        capabilities: said.allow,
        for_ms: ms("for", &said.length)?,
        begins_in_ms: ms("begins_in", &said.begins_in)?,
        single_use: said.single_use,
        requested_by: said.requested_by,
        holder: said.holder,
        command: said.command,
        labels: said.command_labels,
        place: said.place,
        undecided: said.undecided,
        subsystem: said.subsystem,
        forward: said.forward,
        transfer: said.transfer,
        terminal: said.terminal,
        ..Facts::new(said.action, who, Some(target), now)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::policy::engine::{DEFAULT, DEFAULT_FILE};

    fn examples() -> Vec<(String, String, String)> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/examples");
        let mut found = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(stem) = name.strip_suffix(".cedar") {
                let cases = path.with_file_name(format!("{stem}.cases.toml"));
                let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
                found.push((name, read(&path), read(&cases)));
            }
        }
        found
    }

    fn load(files: &[(String, String)]) -> Policies {
        Policies::load(files).unwrap_or_else(|errors| panic!("{errors:#?}"))
    }

    #[test]
    fn each_example_does_beside_the_default_what_its_cases_say() {
        let default = (DEFAULT_FILE.to_owned(), DEFAULT.to_owned());
        let examples = examples();
        assert!(examples.len() >= 9, "{}", examples.len());
        for (name, text, cases) in &examples {
            let policies = load(&[default.clone(), (name.clone(), text.clone())]);
            let outcomes = run(&policies, cases).unwrap_or_else(|why| panic!("{name}: {why}"));
            let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.failure.is_some()).collect();
            assert!(failed.is_empty(), "{name}: {failed:#?}");
            // Each rule of an example is shown at work.
            for rule in policies.rules().iter().filter(|rule| rule.file == *name) {
                assert!(
                    cases.contains(&format!("rule = \"{}\"", rule.id)),
                    "{name}: no case shows {}",
                    rule.id
                );
            }
            assert!(
                cases.contains("\"permit\"") && cases.contains("\"forbid\""),
                "{name} shows one side only"
            );
        }
        let all: Vec<(String, String)> = examples
            .into_iter()
            .map(|(name, text, _)| (name, text))
            .chain([default])
            .collect();
        load(&all);
    }

    #[test]
    fn a_case_that_comes_out_otherwise_fails_and_says_how() {
        let policies = load(&[(
            "a.cedar".into(),
            "@id(\"yes\") @approvals(\"1\") permit (principal, action == Action::\"request\", resource);".into(),
        )]);
        let text = "
            [default]
            action = 'request'
            [[case]]
            name = 'right'
            expect = 'permit'
            rule = 'yes'
            obligations = { approvals = '1' }
            [[case]]
            name = 'wrong verdict'
            expect = 'forbid'
            [[case]]
            name = 'wrong rule'
            expect = 'permit'
            rule = 'other'
            [[case]]
            name = 'wrong obligations'
            expect = 'permit'
            obligations = { approvals = '1', review = '' }
            [[case]]
            name = 'nothing permits'
            action = 'shell'
            expect = 'forbid'
            rule = 'policy.none'";
        let outcomes = run(&policies, text).unwrap();
        let failed: Vec<&str> = outcomes
            .iter()
            .filter(|outcome| outcome.failure.is_some())
            .map(|outcome| outcome.name.as_str())
            .collect();
        assert_eq!(failed, ["wrong verdict", "wrong rule", "wrong obligations"]);
        assert!(outcomes[1].failure.as_ref().unwrap().contains("yes: alice may request"));
    }

    #[test]
    fn what_is_no_case_is_told() {
        let policies = load(&[]);
        let case = |rest: &str| format!("[[case]]\nname = 'x'\naction = 'exec'\nexpect = 'permit'\n{rest}");
        for (text, said) in [
            ("[[cases]]\n".to_owned(), "cases"),
            (case("comand = 'ls'"), "case `x`: unknown field `comand`"),
            (case("for = 'soon'"), "for: `soon`"),
            (case("at = 'noon'"), "at: "),
            (case("obligations = { approvals = 1 }"), "no text"),
            (case("obligations = { aprovals = '1' }"), "aprovals"),
            (
                "[[case]]\nname = 'x'\naction = 'fly'\nexpect = 'permit'".to_owned(),
                "fly",
            ),
        ] {
            let why = run(&policies, &text).unwrap_err();
            assert!(why.contains(said), "{text}\n{why}");
        }
    }

    #[test]
    fn the_local_time_is_the_one_that_is_written() {
        let case = "name = 'x'\naction = 'exec'\nexpect = 'permit'\nat = '2026-11-20T23:30:00-05:00'";
        let facts = facts(toml::from_str(case).unwrap()).unwrap();
        assert_eq!(
            facts.local,
            LocalTime {
                weekday: 5,
                minute: 23 * 60 + 30
            }
        );
        assert_eq!(facts.now_ms, 1_795_235_400_000);
    }
}
