//! SPDX expressions against an allow-list, and what `cargo metadata` knows.

use std::collections::BTreeSet;
use std::process::Command;

use super::source::root;

/// One package of the build.
pub struct Package {
    pub name: String,
    pub version: String,
    pub licence: String,
    /// None: part of this repository.
    pub source: Option<String>,
}

/// Every package that is built on this kind of machine, tests included.
pub fn packages() -> Vec<Package> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let version = Command::new(&cargo).arg("-vV").output().expect("cargo");
    let version = String::from_utf8(version.stdout).expect("UTF-8");
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .expect("cargo's host");
    let asked = Command::new(&cargo)
        .args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--offline",
            "--all-features",
        ])
        .args(["--filter-platform", host])
        .current_dir(root())
        .output()
        .expect("cargo metadata");
    assert!(
        asked.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&asked.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&asked.stdout).expect("JSON");
    let built: BTreeSet<&str> = metadata["resolve"]["nodes"]
        .as_array()
        .expect("nodes")
        .iter()
        .filter_map(|node| node["id"].as_str())
        .collect();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    metadata["packages"]
        .as_array()
        .expect("packages")
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| built.contains(id)))
        .map(|package| Package {
            name: text(&package["name"]),
            version: text(&package["version"]),
            licence: text(&package["license"]),
            source: package["source"].as_str().map(str::to_owned),
        })
        .collect()
}

/// Whether an expression can be met with licences of the list alone.
pub fn allowed(expression: &str, list: &BTreeSet<String>) -> bool {
    // The old way of writing OR.
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = expression.split_whitespace().collect();
    let mut parser = Parser {
        tokens: &tokens,
        at: 0,
        list,
    };
    let good = parser.either();
    good && parser.at == tokens.len() && !tokens.is_empty()
}

struct Parser<'a> {
    tokens: &'a [&'a str],
    at: usize,
    list: &'a BTreeSet<String>,
}

impl Parser<'_> {
    fn next_is(&mut self, word: &str) -> bool {
        let is = self.tokens.get(self.at).is_some_and(|token| *token == word);
        self.at += usize::from(is);
        is
    }

    fn either(&mut self) -> bool {
        let mut good = self.both();
        while self.next_is("OR") {
            good |= self.both();
        }
        good
    }

    fn both(&mut self) -> bool {
        let mut good = self.one();
        while self.next_is("AND") {
            good &= self.one();
        }
        good
    }

    fn one(&mut self) -> bool {
        if self.next_is("(") {
            let good = self.either();
            return self.next_is(")") && good;
        }
        let Some(name) = self.tokens.get(self.at) else {
            return false;
        };
        self.at += 1;
        if !self.next_is("WITH") {
            return self.list.contains(*name);
        }
        let exception = self.tokens.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        self.list.contains(&format!("{name} WITH {exception}"))
    }
}

#[test]
fn expressions_are_read_as_they_are_meant() {
    let list: BTreeSet<String> = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
        .map(str::to_owned)
        .into();
    for (expression, good) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT OR GPL-3.0", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Apache-2.0", true),
        ("MIT OR GPL-3.0 AND GPL-2.0", true),
        ("(MIT OR GPL-3.0) AND GPL-2.0", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("MIT WITH LLVM-exception", false),
        ("", false),
        ("MIT)", false),
    ] {
        assert_eq!(allowed(expression, &list), good, "{expression}");
    }
}
