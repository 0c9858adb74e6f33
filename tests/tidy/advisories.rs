//! The ledger of advisories and the list of attack cases name tests that exist.

use std::collections::BTreeSet;
use std::path::Path;

use super::none;
use super::source::root;

/// How many advisories the ledger holds at least.
const ADVISORIES_MIN: usize = 80;
/// How many cases `tests/hostile/cases` maps: D01 to this.
const CASES: u8 = 30;

/// Whether `file::function` is a test in the source.
fn exists(test: &str) -> bool {
    let Some((file, function)) = test.split_once("::") else {
        return false;
    };
    let named = format!("fn {function}()");
    let text = std::fs::read_to_string(root().join(Path::new(file))).unwrap_or_default();
    text.split("#[test]").skip(1).any(|after| {
        let mut lines = after.lines().map(str::trim).filter(|line| !line.is_empty());
        lines
            .find(|line| !line.starts_with("#[") && !line.starts_with("//"))
            .is_some_and(|line| line.starts_with(&named))
    })
}

fn ledger() -> toml::Table {
    let text = std::fs::read_to_string(root().join("tests/advisories.toml")).expect("tests/advisories.toml");
    text.parse().expect("it is TOML")
}

#[test]
fn each_advisory_has_its_test_or_a_reason() {
    let ledger = ledger();
    let entries = ledger["advisory"].as_array().expect("a list");
    let mut findings = Vec::new();
    let mut ids = BTreeSet::new();
    for entry in entries {
        let word = |key: &str| entry.get(key).and_then(toml::Value::as_str).unwrap_or("");
        let id = word("id");
        if id.is_empty() || !ids.insert(id.to_owned()) {
            findings.push(format!("{id:?} is missing, or there twice"));
        }
        if word("project").is_empty() || word("wrong").is_empty() {
            findings.push(format!("{id} does not say where, or what went wrong"));
        }
        match (word("test"), word("cannot")) {
            ("", "") => findings.push(format!("{id} has neither a test nor a reason")),
            ("", _) => {}
            (test, "") if exists(test) => {}
            (test, "") => findings.push(format!("{id}: there is no test {test}")),
            (_, _) => findings.push(format!("{id} has both a test and a reason against one")),
        }
    }
    none(findings, "tests/advisories.toml");
    assert!(entries.len() >= ADVISORIES_MIN, "{} advisories", entries.len());
}

#[test]
fn the_advisories_were_read_for_this_russh() {
    let ledger = ledger();
    let reviewed = ledger["reviewed"].as_str().expect("a string");
    let lock: toml::Table = std::fs::read_to_string(root().join("Cargo.lock"))
        .expect("Cargo.lock")
        .parse()
        .expect("it is TOML");
    let built: Vec<String> = lock["package"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|package| package["name"].as_str() == Some("russh"))
        .map(|package| format!("russh {}", package["version"].as_str().unwrap_or("?")))
        .collect();
    assert_eq!(
        built,
        [reviewed],
        "read the advisories of what came between, add their lines, then change `reviewed`"
    );
}

#[test]
fn each_attack_case_names_tests_that_exist() {
    let text = std::fs::read_to_string(root().join("tests/hostile/cases")).expect("tests/hostile/cases");
    let mut findings = Vec::new();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        let id = words.next().unwrap_or("");
        seen.insert(id.to_owned());
        match words.next() {
            Some(test) if exists(test) && words.next().is_none() => {}
            _ => findings.push(format!("{id}: not one test that exists: {line}")),
        }
    }
    for number in 1..=CASES {
        let id = format!("D{number:02}");
        if !seen.contains(&id) {
            findings.push(format!("{id} has no test"));
        }
    }
    none(findings, "tests/hostile/cases");
}
