//! What is built in: each with a reason, used, pinned, and under a licence of
//! the list.

use std::collections::{BTreeMap, BTreeSet};

use super::licences;
use super::none;
use super::source::{self, File, files, root};

/// Dependencies of a manifest with their lines, tests' included.
pub fn dependencies(manifest: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join(manifest)).expect(manifest);
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).to_owned();
        } else if section.ends_with("dependencies")
            && let Some((name, rest)) = line.split_once('=')
            && !line.starts_with('#')
        {
            found.push((name.trim().to_owned(), rest.trim().to_owned()));
        }
    }
    assert!(!found.is_empty(), "{manifest} has no dependencies");
    found
}

const MANIFESTS: [&str; 3] = ["Cargo.toml", "recording/Cargo.toml", "player/Cargo.toml"];

#[test]
fn each_dependency_says_why_it_is_there() {
    let mut findings = Vec::new();
    for manifest in MANIFESTS {
        let text = std::fs::read_to_string(root().join(manifest)).expect(manifest);
        let lines: Vec<&str> = text.lines().collect();
        for (name, _) in dependencies(manifest) {
            let here = lines
                .iter()
                .position(|line| line.starts_with(&format!("{name} =")))
                .expect("found before");
            // Two that belong together may share a reason.
            let commented = lines[here.saturating_sub(2)..here]
                .iter()
                .rev()
                .find(|line| !line.contains(" = "));
            if commented.is_none_or(|line| !line.starts_with("# ")) {
                findings.push(format!("{manifest}: {name}"));
            }
        }
    }
    none(findings, "write above the line why it is there");
}

#[test]
fn each_dependency_is_used_and_pinned() {
    let code: Vec<File> = files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs"))
        .map(|file| File {
            text: source::code(&file.text),
            path: file.path,
        })
        .collect();
    let mut findings = Vec::new();
    for manifest in MANIFESTS {
        let folder = manifest.trim_end_matches("Cargo.toml");
        for (name, rest) in dependencies(manifest) {
            let crate_name = name.replace('-', "_");
            let ours = |file: &&File| match folder {
                "" => file.path.starts_with("src/") || file.path.starts_with("tests/"),
                folder => file.path.starts_with(folder),
            };
            let names_it = |file: &File| {
                file.text.contains(&format!("{crate_name}::")) || file.text.contains(&format!("use {crate_name} "))
            };
            if !code.iter().filter(ours).any(names_it) {
                findings.push(format!("{manifest}: nothing uses {name}"));
            }
            if rest.contains("git =") || rest.contains("\"*\"") {
                findings.push(format!("{manifest}: {name} is not a version of the registry"));
            }
            if name == "russh" && !rest.contains("\"=") {
                findings.push(format!("{manifest}: russh is pinned exactly"));
            }
        }
    }
    none(findings, "dependencies");
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    assert!(
        lock.contains("name = \"russh\"\nversion = \"0.65.1\""),
        "russh is not the version we built on"
    );
}

#[test]
fn licences_are_on_the_list() {
    let text = std::fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let deny: toml::Table = text.parse().expect("deny.toml");
    let licences = deny["licenses"].as_table().expect("[licenses]");
    let strings = |value: &toml::Value| -> BTreeSet<String> {
        let list = value.as_array().expect("a list");
        list.iter()
            .map(|it| it.as_str().expect("a string").to_owned())
            .collect()
    };
    let list = strings(&licences["allow"]);
    for family in ["GPL", "LGPL", "AGPL", "BUSL", "SSPL"] {
        assert!(
            !list.iter().any(|name| name.starts_with(family)),
            "{family} is not for the product"
        );
    }
    let mut by_name: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for exception in licences["exceptions"].as_array().expect("exceptions") {
        let name = exception["name"].as_str().expect("name").to_owned();
        by_name.insert(name, strings(&exception["allow"]));
    }
    let packages = licences::packages();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    let mut findings = Vec::new();
    for package in &packages {
        let mut list = list.clone();
        list.extend(by_name.get(&package.name).into_iter().flatten().cloned());
        if !licences::allowed(&package.licence, &list) {
            findings.push(format!("{} {}: {}", package.name, package.version, package.licence));
        }
        let registry = "registry+https://github.com/rust-lang/crates.io-index";
        if package.source.as_deref().is_some_and(|source| source != registry) {
            findings.push(format!("{} comes from {:?}", package.name, package.source));
        }
    }
    none(
        findings,
        "not on the list in deny.toml: choose another crate, or decide and write it there",
    );
}
