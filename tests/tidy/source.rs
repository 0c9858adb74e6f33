//! The repository as text: which files there are, and Rust code without its
//! comments, strings and tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clone; asked at run time, for a cached build may come from another one.
pub fn root() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

/// One file: its path below the clone, with `/`, and its text.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Every text file that git tracks or would track.
pub fn files() -> Vec<File> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .expect("git");
    assert!(listed.status.success(), "git ls-files: {listed:?}");
    let names = String::from_utf8(listed.stdout).expect("names in UTF-8");
    let mut files = Vec::new();
    for path in names.split('\0').filter(|path| !path.is_empty()) {
        // A file that was removed is still listed until that is committed.
        let Ok(bytes) = std::fs::read(root().join(path)) else {
            continue;
        };
        if let Ok(text) = String::from_utf8(bytes) {
            files.push(File {
                path: path.to_owned(),
                text,
            });
        }
    }
    assert!(files.len() > 100, "only {} files", files.len());
    files
}

/// Rust code of the product, by file: no comments, no string contents, no
/// `#[cfg(test)]` modules, no files that only such modules name.
pub fn product() -> Vec<File> {
    let files: Vec<File> = files()
        .into_iter()
        .filter(|file| file.path.ends_with(".rs") && is_product(&file.path))
        .collect();
    // In the product only tests lie elsewhere than where their module is.
    let mut test_files: BTreeSet<PathBuf> = files.iter().flat_map(by_path_attribute).map(PathBuf::from).collect();
    let all: Vec<File> = files
        .into_iter()
        .map(|file| File {
            text: code(&file.text),
            path: file.path,
        })
        .collect();
    for file in &all {
        for name in test_modules(&file.text) {
            let folder = module_folder(&file.path);
            test_files.insert(folder.join(format!("{name}.rs")));
            test_files.insert(folder.join(name).join("mod.rs"));
        }
    }
    let is_test = |path: &str| {
        let path = Path::new(path);
        // Also what lies in the folder of a test module.
        test_files.contains(path)
            || path
                .ancestors()
                .any(|above| test_files.contains(&above.with_extension("rs")) && above != path)
    };
    all.into_iter()
        .filter(|file| !is_test(&file.path))
        .map(|file| File {
            text: without_test_modules(&file.text),
            path: file.path,
        })
        .collect()
}

/// Files that a file names with `#[path = "…"]`, from the top of the clone.
pub fn by_path_attribute(file: &File) -> Vec<String> {
    let folder = Path::new(&file.path).parent().unwrap_or(Path::new(""));
    let named = file.text.split("#[path = \"").skip(1);
    named
        .filter_map(|rest| rest.split('"').next())
        .map(|name| folder.join(name).to_string_lossy().into_owned())
        .collect()
}

fn is_product(path: &str) -> bool {
    ["src/", "recording/src/", "player/src/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Where the modules of a file lie.
pub fn module_folder(path: &str) -> PathBuf {
    let path = Path::new(path);
    let stem = path.file_stem().unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    if ["mod", "lib", "main"].iter().any(|name| stem == *name) {
        folder.to_owned()
    } else {
        folder.join(stem)
    }
}

/// The module that a file of `src/` is, as names below the crate.
pub fn module_path(path: &str) -> Vec<String> {
    let below = path
        .strip_prefix("src/")
        .unwrap_or(path)
        .trim_end_matches(".rs")
        .trim_end_matches("/mod");
    below.split('/').map(str::to_owned).collect()
}

/// Names of `#[cfg(test)] mod name;`.
fn test_modules(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("#[cfg(test)]") {
        let rest = after_attributes(&code[at..]);
        let rest = rest.strip_prefix("pub ").unwrap_or(rest);
        let rest = rest.strip_prefix("pub(crate) ").unwrap_or(rest);
        if let Some((name, _)) = rest.strip_prefix("mod ").and_then(|rest| rest.split_once(';'))
            && !name.contains('{')
        {
            names.push(name.trim().to_owned());
        }
    }
    names
}

/// What follows the attributes at the beginning.
fn after_attributes(mut code: &str) -> &str {
    loop {
        code = code.trim_start();
        if !code.starts_with("#[") {
            return code;
        }
        match code.find(']') {
            Some(end) => code = &code[end + 1..],
            None => return code,
        }
    }
}

/// Blanks out every item behind `#[cfg(test)]`; line numbers stay.
pub fn without_test_modules(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(at) = out.find("#[cfg(test)]") {
        let item = &out[at..];
        let open = item.find('{');
        let semicolon = item.find(';');
        let end = match (open, semicolon) {
            (Some(open), semicolon) if semicolon.is_none_or(|it| open < it) => {
                let mut depth = 0usize;
                let mut end = item.len();
                for (offset, c) in item[open..].char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    if depth == 0 {
                        end = open + offset + 1;
                        break;
                    }
                }
                end
            }
            (_, Some(semicolon)) => semicolon + 1,
            (_, None) => item.len(),
        };
        let blank = blanked(&item[..end]);
        out.replace_range(at..at + end, &blank);
    }
    out
}

fn blanked(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

/// Rust code with comments and the contents of strings and characters blanked
/// out; line numbers stay.
pub fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    // Blanks from `i` up to `end`.
    let blank = |out: &mut String, from: usize, to: usize| {
        for c in chars.iter().take(to).skip(from) {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
    };
    while i < chars.len() {
        let word_before = i > 0 && (at(i - 1).is_alphanumeric() || at(i - 1) == '_');
        let end = match (at(i), at(i + 1)) {
            ('/', '/') => (i..chars.len()).find(|j| at(*j) == '\n').unwrap_or(chars.len()),
            ('/', '*') => block_comment(&chars, i),
            ('r', '"' | '#') if !word_before => match raw_string(&chars, i) {
                Some(end) => end,
                None => i,
            },
            ('"', _) => string(&chars, i),
            ('\'', '\\') => (i + 3..chars.len())
                .find(|j| at(*j) == '\'')
                .map_or(chars.len(), |j| j + 1),
            ('\'', _) if at(i + 2) == '\'' => i + 3,
            _ => i,
        };
        if end > i {
            blank(&mut out, i, end);
            i = end;
        } else {
            out.push(at(i));
            i += 1;
        }
    }
    out
}

fn block_comment(chars: &[char], from: usize) -> usize {
    let mut depth = 0usize;
    let mut i = from;
    while i < chars.len() {
        match (chars.get(i), chars.get(i + 1)) {
            (Some('/'), Some('*')) => {
                depth += 1;
                i += 2;
            }
            (Some('*'), Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

fn string(chars: &[char], from: usize) -> usize {
    let mut i = from + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

fn raw_string(chars: &[char], from: usize) -> Option<usize> {
    let hashes = chars[from + 1..].iter().take_while(|c| **c == '#').count();
    if chars.get(from + 1 + hashes) != Some(&'"') {
        return None;
    }
    let mut i = from + 2 + hashes;
    while i < chars.len() {
        let closes = chars[i] == '"' && chars[i + 1..].iter().take_while(|c| **c == '#').count() >= hashes;
        if closes {
            return Some(i + 1 + hashes);
        }
        i += 1;
    }
    Some(chars.len())
}

/// Number of the line at a byte offset, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Names that follow `prefix` in code, with their offset; `prefix{a, b}` gives both.
pub fn names_after<'a>(code: &'a str, prefix: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.trim_start().strip_prefix('{') {
            found.extend(group_heads(group).into_iter().map(|name| (at, name)));
        } else {
            found.push((at, identifier(rest)));
        }
    }
    found
}

/// First names of the members of a `{…}` group whose opening brace is behind us.
fn group_heads(group: &str) -> Vec<&str> {
    let mut heads = Vec::new();
    let mut depth = 0usize;
    let mut expect = true;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return heads,
            '}' => depth -= 1,
            ',' if depth == 0 => expect = true,
            c if expect && (c.is_alphabetic() || c == '_') => {
                heads.push(identifier(&group[at..]));
                expect = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> &str {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    &text[..end]
}
