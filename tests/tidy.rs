//! The rules of the house, as tests. Each failure says what to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a check that cannot go on has failed"
)]

use std::collections::{BTreeMap, BTreeSet};

#[path = "tidy/advisories.rs"]
mod advisories;
#[path = "tidy/dependencies.rs"]
mod dependencies;
#[path = "tidy/licences.rs"]
mod licences;
#[path = "tidy/source.rs"]
mod source;

use dependencies::dependencies;
use source::{File, files, line_of, module_path, names_after, product, root};

/// Longest file of Rust, in lines; from [`LINES_LISTED`] on it is named.
const LINES_MAX: usize = 620;
const LINES_LISTED: usize = 600;

/// Who may import whom within `src/`. What is not here is refused: a new edge
/// is a decision, made in this table. `main`, `cli`, `serve` and `demo` put
/// things together and see all.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    (
        "api",
        &[
            "anomaly",
            "break_glass",
            "clock",
            "credentials",
            "durable",
            "issue",
            "keeper",
            "kernel",
            "layout",
            "ledger",
            "notify",
            "policies",
            "retention",
            "search",
            "store",
            "telemetry",
        ],
    ),
    ("anomaly", &["kernel", "store"]),
    ("archive", &["durable"]),
    ("break_glass", &["durable", "issue", "kernel"]),
    ("client", &["api", "durable", "issue", "kernel"]),
    ("clock", &["kernel"]),
    (
        "config",
        &[
            "break_glass",
            "credentials",
            "issue",
            "kernel",
            "layout",
            "recorder",
            "store",
            "witness",
        ],
    ),
    ("credentials", &["issue", "kernel"]),
    ("durable", &[]),
    ("entropy", &[]),
    ("issue", &["clock", "durable", "keeper", "kernel"]),
    ("keeper", &["kernel"]),
    ("kernel", &[]),
    ("layout", &[]),
    (
        "ledger",
        &["archive", "clock", "durable", "keeper", "kernel", "witness"],
    ),
    ("local_helper", &["clock"]),
    ("notify", &["clock", "kernel"]),
    ("policies", &["clock", "kernel"]),
    ("recorder", &["clock", "durable", "entropy", "keeper", "kernel"]),
    ("registry", &["clock", "kernel", "store"]),
    (
        "retention",
        &["archive", "clock", "kernel", "ledger", "search", "store"],
    ),
    ("search", &["clock", "kernel", "layout", "store"]),
    (
        "ssh",
        &[
            "anomaly",
            "archive",
            "break_glass",
            "clock",
            "credentials",
            "durable",
            "entropy",
            "keeper",
            "kernel",
            "ledger",
            "local_helper",
            "notify",
            "policies",
            "recorder",
            "registry",
            "search",
            "store",
            "telemetry",
        ],
    ),
    ("store", &["kernel"]),
    ("telemetry", &["config"]),
    ("witness", &["clock", "durable", "entropy", "kernel"]),
];
const SEES_ALL: &[&str] = &["main", "lib", "cli", "serve", "demo"];

/// What the pure parts must not name.
const IMPURE: &[&str] = &[
    "std::time",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::io::stdin",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os",
    "tokio::",
    "rand::",
    "rustix::",
    "nix::",
    "getrandom::",
    "reqwest::",
    "sqlx::",
    "russh::",
];

/// Fails with every finding, each on its line.
fn none(findings: Vec<String>, rule: &str) {
    assert!(findings.is_empty(), "{rule}\n  {}", findings.join("\n  "));
}

fn at(file: &File, offset: usize) -> String {
    format!("{}:{}", file.path, line_of(&file.text, offset))
}

/// Modules of this crate that a file of `src/` names, by `crate::` or `super::`.
fn imports(file: &File) -> Vec<(usize, String)> {
    let own = module_path(&file.path);
    let mut found: Vec<(usize, String)> = names_after(&file.text, "crate::")
        .into_iter()
        .map(|(at, name)| (at, name.to_owned()))
        .collect();
    // As many `super::` as the module is deep lead to the root.
    let to_root = "super::".repeat(own.len());
    found.extend(
        names_after(&file.text, &to_root)
            .into_iter()
            .map(|(at, name)| (at, name.to_owned())),
    );
    found
}

#[test]
fn modules_import_only_what_they_may() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut findings = Vec::new();
    for file in product().iter().filter(|file| file.path.starts_with("src/")) {
        let own = &module_path(&file.path)[0];
        if SEES_ALL.contains(&own.as_str()) {
            continue;
        }
        let Some(may) = table.get(own.as_str()) else {
            findings.push(format!("{}: `{own}` is not in the table", file.path));
            continue;
        };
        for (offset, name) in imports(file) {
            let known = table.contains_key(name.as_str()) || SEES_ALL.contains(&name.as_str());
            if known && name != *own && !may.contains(&name.as_str()) {
                findings.push(format!("{}: {own} must not import {name}", at(file, offset)));
            }
        }
    }
    none(
        findings,
        "who may import whom is design.md section 4 and MAY_IMPORT here",
    );
}

#[test]
fn the_table_holds_no_edge_that_nobody_uses() {
    let product = product();
    let mut unused = Vec::new();
    for (module, may) in MAY_IMPORT {
        let used: BTreeSet<String> = product
            .iter()
            .filter(|file| file.path.starts_with("src/") && module_path(&file.path)[0] == *module)
            .flat_map(imports)
            .map(|(_, name)| name)
            .collect();
        let left = may.iter().filter(|name| !used.contains(**name));
        unused.extend(left.map(|name| format!("{module} -> {name}")));
    }
    none(
        unused,
        "remove these from MAY_IMPORT: an edge that is not there is one to keep out",
    );
}

#[test]
fn what_decides_is_pure() {
    let mut findings = Vec::new();
    for file in &product() {
        let kernel = file.path.starts_with("src/kernel/");
        if !kernel && !file.path.starts_with("recording/src/") {
            continue;
        }
        for impure in IMPURE {
            for (offset, _) in file.text.match_indices(impure) {
                findings.push(format!("{}: {impure}", at(file, offset)));
            }
        }
        // Of the recording crate the kernel knows the vocabulary only.
        for (offset, name) in names_after(&file.text, "portcullis_recording::") {
            if kernel && !["event", "Event", "Timed"].contains(&name) {
                findings.push(format!("{}: portcullis_recording::{name}", at(file, offset)));
            }
        }
        for (offset, name) in names_after(&file.text, "std::net::") {
            if !["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr"].contains(&name) {
                findings.push(format!("{}: std::net::{name}", at(file, offset)));
            }
        }
    }
    none(findings, "kernel and recording take bytes and times and give values");
}

#[test]
fn crates_depend_on_each_other_in_one_direction() {
    let ours = |manifest: &str| -> BTreeSet<String> {
        dependencies(manifest)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("portcullis"))
            .collect()
    };
    assert_eq!(ours("recording/Cargo.toml"), BTreeSet::new());
    assert_eq!(
        ours("player/Cargo.toml"),
        BTreeSet::from(["portcullis-recording".to_owned()])
    );
    for file in product().iter().filter(|file| file.path.starts_with("player/src/")) {
        assert!(
            !file.text.contains("portcullis::"),
            "{} names the server's crate",
            file.path
        );
    }
    let heavy = [
        "tokio",
        "russh",
        "sqlx",
        "axum",
        "hyper",
        "reqwest",
        "rand",
        "serde_json",
    ];
    for (name, _) in dependencies("recording/Cargo.toml") {
        assert!(!heavy.contains(&name.as_str()), "recording must stay auditable: {name}");
    }
}

#[test]
fn russh_carries_bytes_only_in_ssh() {
    let mut findings = Vec::new();
    for file in &product() {
        if file.path.starts_with("src/ssh/") {
            continue;
        }
        for (offset, name) in names_after(&file.text, "russh::") {
            // Names of terminal opcodes (RFC 4254 section 8) carry no bytes.
            let opcodes = name == "Pty" && file.path == "src/local_helper/terminal.rs";
            if name != "keys" && !opcodes {
                findings.push(format!("{}: russh::{name}", at(file, offset)));
            }
        }
    }
    none(findings, "outside src/ssh only russh::keys");
    let server = product()
        .into_iter()
        .find(|file| file.path == "src/ssh/server.rs")
        .expect("server.rs");
    assert!(
        server.text.contains("clippy::missing_trait_methods"),
        "law 4: every russh callback is written out, and clippy watches over it"
    );
}

#[test]
fn clocks_are_read_in_one_place() {
    let readers = [
        "Instant::now",
        "SystemTime::now",
        "clock_gettime",
        "Timestamp::now",
        "Zoned::now",
        "Utc::now",
        "Local::now",
        ".elapsed()",
        "gettimeofday",
    ];
    let mut findings = Vec::new();
    for file in &product() {
        // The player draws in real time and decides nothing by it.
        // A redactor signs when.
        let rims = ["src/clock.rs", "player/src/screen.rs", "player/src/cli/redact.rs"];
        if rims.contains(&file.path.as_str()) {
            continue;
        }
        for reader in readers {
            for (offset, _) in file.text.match_indices(reader) {
                findings.push(format!("{}: {reader}", at(file, offset)));
            }
        }
    }
    none(findings, "ask crate::clock::Clock, or take the time as an argument");
}

#[test]
fn randomness_comes_from_the_system() {
    let mut findings = Vec::new();
    for file in &product() {
        for weak in ["thread_rng", "SmallRng", "StdRng", "seed_from_u64", "RandomState::"] {
            for (offset, _) in file.text.match_indices(weak) {
                findings.push(format!("{}: {weak}", at(file, offset)));
            }
        }
    }
    none(findings, "keys, nonces and ids come from crate::entropy or rand::rng()");
}

#[test]
fn files_are_short() {
    let mut long = Vec::new();
    for file in files().iter().filter(|file| file.path.ends_with(".rs")) {
        let lines = file.text.lines().count();
        if lines > LINES_LISTED {
            println!("{} has {lines} lines: which noun is hiding in it?", file.path);
        }
        if lines > LINES_MAX {
            long.push(format!("{}: {lines} lines", file.path));
        }
    }
    none(
        long,
        "a file of more than 800 lines hides a noun: give it a file of its own",
    );
}

#[test]
fn every_file_is_part_of_its_crate() {
    let all: Vec<File> = files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs") && file.path.contains("src/"))
        .collect();
    let product: BTreeMap<String, String> = all
        .iter()
        .map(|file| (file.path.clone(), source::code(&file.text)))
        .collect();
    let mut declared: BTreeSet<String> = product
        .iter()
        .flat_map(|(path, code)| {
            let folder = source::module_folder(path);
            names_after(code, "mod ").into_iter().flat_map(move |(_, name)| {
                let file = folder.join(format!("{name}.rs"));
                let nested = folder.join(name).join("mod.rs");
                [file, nested].map(|path| path.to_string_lossy().into_owned())
            })
        })
        .collect();
    declared.extend(all.iter().flat_map(source::by_path_attribute));
    let root_file = |path: &str| path.ends_with("src/lib.rs") || path.ends_with("src/main.rs");
    let dead = product
        .keys()
        .filter(|path| !root_file(path) && !declared.contains(*path));
    none(
        dead.cloned().collect(),
        "no module names these files: they are never compiled",
    );
}

#[test]
fn nothing_unfinished_is_left() {
    // Written in two parts, so that this file does not hold them.
    let words = [
        ("to", "do!"),
        ("unimple", "mented!"),
        ("db", "g!"),
        ("FIX", "ME"),
        ("TO", "DO"),
        ("XX", "X"),
        ("PLACE", "HOLDER"),
    ]
    .map(|(a, b)| format!("{a}{b}"));
    let mut findings = Vec::new();
    for file in files().iter().filter(|file| file.path.ends_with(".rs")) {
        for word in &words {
            for (offset, _) in file.text.match_indices(word.as_str()) {
                findings.push(format!("{}: {word}", at(file, offset)));
            }
        }
    }
    none(findings, "finish it, or say in an issue what is missing");
}

#[test]
fn exceptions_say_why() {
    let mut findings = Vec::new();
    for file in &product() {
        for (offset, _) in file.text.match_indices("#[allow(") {
            findings.push(format!("{}: use #[expect(…, reason = \"…\")]", at(file, offset)));
        }
    }
    for file in files().iter().filter(|file| file.path.ends_with(".rs")) {
        let code = source::code(&file.text);
        for (offset, _) in code.match_indices("#[expect(") {
            let end = code[offset..].find(")]").map_or(code.len(), |end| offset + end);
            if !code[offset..end].contains("reason") {
                findings.push(format!("{}: an exception without a reason", at(file, offset)));
            }
        }
        let (ignored, skipped) = (["#[ign", "ore"].concat(), ["#![ign", "ore"].concat());
        for (offset, _) in code.match_indices(&ignored).chain(code.match_indices(&skipped)) {
            findings.push(format!("{}: a test that is not run proves nothing", at(file, offset)));
        }
    }
    none(findings, "exceptions");
}

#[test]
fn no_crate_holds_unsafe_code() {
    for path in [
        "src/lib.rs",
        "src/main.rs",
        "recording/src/lib.rs",
        "player/src/lib.rs",
        "player/src/main.rs",
    ] {
        let text = std::fs::read_to_string(root().join(path)).expect(path);
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{path} does not forbid unsafe code"
        );
    }
}

#[test]
fn tracked_files_know_no_machine() {
    // In parts for the same reason as above.
    let words = [
        ("/wo", "rk/"),
        ("/ro", "ot/"),
        ("/home/", "user"),
        ("static.crates", ".io"),
        ("index.crates", ".io"),
        ("py", "pi.org"),
        ("pythonhos", "ted.org"),
        ("registry.npm", "js"),
        ("proxy.go", "lang"),
        ("deb.deb", "ian.org"),
        ("clau", "de"),
        ("anthro", "pic"),
        ("chat", "gpt"),
        ("open", "ai"),
        ("copi", "lot"),
        ("gem", "ini"),
        ("code", "ium"),
        ("language ", "model"),
    ]
    .map(|(a, b)| format!("{a}{b}"));
    let mut findings = Vec::new();
    for file in files() {
        let lower = file.text.to_lowercase();
        let path = file.path.to_lowercase();
        for word in &words {
            if path.contains(word.as_str()) {
                findings.push(format!("{}: its name", file.path));
            }
            for (offset, _) in lower.match_indices(word.as_str()) {
                // Part of a longer word, as in a name.
                let before = lower[..offset].chars().next_back();
                if before.is_some_and(char::is_alphanumeric) {
                    continue;
                }
                findings.push(format!("{}:{}: {word}", file.path, line_of(&lower, offset)));
            }
        }
    }
    none(
        findings,
        "paths and names of somebody's machine or tools have no place here",
    );
}

#[test]
fn cited_sections_of_the_format_exist() {
    let format = std::fs::read_to_string(root().join("recording/FORMAT.md")).expect("FORMAT.md");
    // `## 2. Frames`, and `**2.3 Bounds.**` at the beginning of a paragraph.
    let sections: BTreeSet<&str> = format
        .lines()
        .filter(|line| line.starts_with("## ") || line.starts_with("**"))
        .map(|line| line.trim_start_matches(['#', '*', ' ']))
        .map(|line| &line[..number_len(line)])
        .map(|number| number.trim_end_matches('.'))
        .filter(|number| !number.is_empty())
        .collect();
    assert!(sections.len() > 30, "{sections:?}");
    let mut findings = Vec::new();
    let mut cited = 0;
    for file in files()
        .iter()
        .filter(|file| file.path.ends_with(".rs") || file.path.ends_with(".md"))
    {
        for mark in ["FORMAT.md section ", "FORMAT.md sections ", "FORMAT.md §"] {
            for (offset, _) in file.text.match_indices(mark) {
                let rest = &file.text[offset + mark.len()..];
                let number = rest[..number_len(rest)].trim_end_matches('.');
                cited += 1;
                if !number.is_empty() && !sections.contains(number) {
                    findings.push(format!("{}: section {number}", at(file, offset)));
                }
            }
        }
    }
    assert!(cited > 20, "only {cited} citations found");
    none(findings, "recording/FORMAT.md has no such section");
}

/// Bytes of the section number at the beginning.
fn number_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len())
}

#[test]
fn rules_see_what_they_look_for() {
    let text = "use crate::{a, b::{c, d}, e};\n// crate::f\nlet x = \"crate::g\";\ncrate::h::i();\n\
                #[cfg(test)]\nmod tests {\n use crate::j;\n}\nlet r = r#\"crate::k \"# ; let c = '\"'; super::super::l::m();";
    let file = File {
        path: "src/one/two.rs".to_owned(),
        text: source::without_test_modules(&source::code(text)),
    };
    let names: Vec<String> = imports(&file).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["a", "b", "e", "h", "l"]);
    assert_eq!(file.text.lines().count(), text.lines().count());
}
