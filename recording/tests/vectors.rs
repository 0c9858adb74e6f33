//! Hostile vectors, one file one sin: `testdata/*.pcr` and `testdata/*.spool/`, with what must come of each in
//! `testdata/MANIFEST`.
//!
//! `PORTCULLIS_BLESS=1` writes them anew. Without it the files as committed must give what the manifest says, and so
//! must the ones built here, which may differ from them in how zstd compressed.

mod support;

#[path = "vectors/commands.rs"]
mod commands;
#[path = "vectors/crashed.rs"]
mod crashed;
#[path = "vectors/digests.rs"]
mod digests;
#[path = "vectors/encrypted.rs"]
mod encrypted;
#[path = "vectors/files.rs"]
mod files;
#[path = "vectors/finished.rs"]
mod finished;
#[path = "vectors/hidden.rs"]
mod hidden;
#[path = "vectors/redacted.rs"]
mod redacted;
#[path = "vectors/trusted.rs"]
mod trusted;

use std::fmt::Write as _;
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use portcullis_recording::spool::{MAIN_FILE, parse_tail_file, tail_file};
use portcullis_recording::{Ledger, Trust, Unverified, Verified, Why, verify, verify_spool};
use support::sealed::{ENVELOPE, content_key};

/// What opens the envelope of all encrypted vectors, `envelope.age`.
const CONTENT_KEY_FILE: &str = "content.key";
/// The trust file of most vectors.
const PLAIN: &str = "trust.toml";

/// What is to be verified, with which trust and proof, and what must come of it.
struct Vector {
    name: &'static str,
    what: What,
    trust: &'static str,
    proof: Option<String>,
    /// Whether the reader has the envelope and what is in it.
    opened: bool,
    expect: &'static str,
}

/// A file, or a folder with a main file and tails.
#[derive(PartialEq)]
enum What {
    File(Vec<u8>),
    Spool(Vec<u8>, Vec<(u64, Vec<u8>)>),
}

impl Vector {
    fn file(
        name: &'static str,
        file: Vec<u8>,
        trust: &'static str,
        proof: Option<String>,
        expect: &'static str,
    ) -> Vector {
        let what = What::File(file);
        Vector {
            name,
            what,
            trust,
            proof,
            opened: false,
            expect,
        }
    }
}

fn vectors() -> Vec<Vector> {
    [
        finished::vectors(),
        crashed::vectors(),
        trusted::vectors(),
        encrypted::vectors(),
        redacted::vectors(),
        digests::vectors(),
        files::vectors(),
        commands::vectors(),
        hidden::vectors(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Everything a reader of a recording would do with it, as one line.
fn outcome(what: &What, trust: &Trust, proof: Option<&str>, opened: bool) -> String {
    let (main, found) = match what {
        What::File(file) => (file, verify(Cursor::new(file.as_slice()), trust, proof)),
        What::Spool(main, tails) => (main, verify_spool(Cursor::new(main.as_slice()), tails.clone(), trust)),
    };
    match found {
        Err(fault) if matches!(fault.why, Why::UnknownNodeKey | Why::UnknownRedactor) => {
            unverified(main, matches!(what, What::Spool(..)), opened)
        }
        Err(fault) => format!("INVALID: {}", fault.why),
        Ok(mut verified) => {
            let lock = match opened {
                true if !verified.head().names_envelope(ENVELOPE) => ", locked: another envelope",
                true => {
                    verified.unlock(content_key());
                    ""
                }
                false => ", locked",
            };
            match verified.check_content() {
                Err(fault) if fault.why == Why::Locked => format!("{}{lock}{}", verified.verdict(), ledger(&verified)),
                Err(fault) => format!("INVALID content: {}", fault.why),
                Ok(_) => format!("{}{}", verified.verdict(), ledger(&verified)),
            }
        }
    }
}

/// What is said of a file whose node key is not trusted (FORMAT.md section 8.1); a spool's may end early.
fn unverified(file: &[u8], spool: bool, opened: bool) -> String {
    let mut unverified = match Unverified::open(Cursor::new(file)) {
        Ok(unverified) => unverified,
        Err(fault) => return format!("INVALID: {}", fault.why),
    };
    match unverified.unverified_fault() {
        Some(fault) if !(spool && matches!(fault.why, Why::NotSealed | Why::Truncated)) => {
            return format!("INVALID: {}", fault.why);
        }
        Some(_) | None => {}
    }
    if opened && unverified.unverified_head().names_envelope(ENVELOPE) {
        unverified.unverified_unlock(content_key());
    }
    match unverified.unverified_events().find_map(Result::err) {
        Some(fault) if fault.why == Why::Locked => "UNVERIFIED, locked".to_owned(),
        Some(fault) => format!("INVALID content: {}", fault.why),
        None => "UNVERIFIED".to_owned(),
    }
}

fn ledger(verified: &Verified<Cursor<&[u8]>>) -> String {
    match verified.ledger() {
        Ledger::NoProof => String::new(),
        Ledger::Proven(p) => format!(", in the ledger at {} of {}", p.index, p.size),
        Ledger::Refused(e) => format!(", not in the ledger: {e}"),
    }
}

/// Asked at run time: a cached build may come from another clone.
fn testdata() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("testdata")
}

#[test]
fn vectors_as_built_here() {
    let trusts = trusted::trusts();
    let mut wrong = String::new();
    for v in vectors() {
        let trust = Trust::parse(&trusts.iter().find(|(name, _)| *name == v.trust).unwrap().1).unwrap();
        let got = outcome(&v.what, &trust, v.proof.as_deref(), v.opened);
        if got != v.expect {
            writeln!(wrong, "{}\n  wanted {}\n  got    {got}", v.name, v.expect).unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn vectors_as_committed() {
    let folder = testdata();
    if std::env::var_os("PORTCULLIS_BLESS").is_some() {
        bless(&folder);
    }
    let manifest = fs::read_to_string(folder.join("MANIFEST")).unwrap();
    let mut names = Vec::new();
    for line in manifest.lines().filter(|line| !line.starts_with('#')) {
        let [name, trust, proof, key, expect] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let trust = Trust::parse(&fs::read_to_string(folder.join(trust)).unwrap()).unwrap();
        let proof = (proof != "-").then(|| fs::read_to_string(folder.join(proof)).unwrap());
        assert_eq!(
            outcome(&read(&folder, name), &trust, proof.as_deref(), key != "-"),
            expect,
            "{name}"
        );
        names.push(name.to_owned());
    }
    assert_eq!(
        names,
        vectors().iter().map(|v| v.name).collect::<Vec<_>>(),
        "testdata is out of date"
    );
}

/// A vector as committed.
fn read(folder: &Path, name: &str) -> What {
    let spool = folder.join(format!("{name}.spool"));
    if !spool.is_dir() {
        return What::File(fs::read(folder.join(format!("{name}.pcr"))).unwrap());
    }
    let mut tails = Vec::new();
    for entry in fs::read_dir(&spool).unwrap() {
        let path = entry.unwrap().path();
        if let Some(index) = path.file_name().unwrap().to_str().and_then(parse_tail_file) {
            tails.push((index, fs::read(path).unwrap()));
        }
    }
    What::Spool(fs::read(spool.join(MAIN_FILE)).unwrap(), tails)
}

fn bless(folder: &Path) {
    let mut manifest = String::from("# name\ttrust\tproof\tcontent key\twhat must come of it\n");
    for (name, text) in trusted::trusts() {
        fs::write(folder.join(name), text).unwrap();
    }
    for v in vectors() {
        match &v.what {
            What::File(file) => fs::write(folder.join(format!("{}.pcr", v.name)), file).unwrap(),
            What::Spool(main, tails) => {
                let spool = folder.join(format!("{}.spool", v.name));
                fs::create_dir_all(&spool).unwrap();
                fs::write(spool.join(MAIN_FILE), main).unwrap();
                for (index, tail) in tails {
                    fs::write(spool.join(tail_file(*index)), tail).unwrap();
                }
            }
        }
        let proof = v.proof.as_ref().map(|_| format!("{}.proof", v.name));
        if let (Some(name), Some(text)) = (&proof, &v.proof) {
            fs::write(folder.join(name), text).unwrap();
        }
        writeln!(
            manifest,
            "{}\t{}\t{}\t{}\t{}",
            v.name,
            v.trust,
            proof.as_deref().unwrap_or("-"),
            if v.opened { CONTENT_KEY_FILE } else { "-" },
            v.expect
        )
        .unwrap();
    }
    fs::write(folder.join("MANIFEST"), manifest).unwrap();
}
