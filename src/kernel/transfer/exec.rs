//! Which commands move files, by their command line: what OpenSSH's scp, sftp
//! servers, rsync and git run at the target.

use super::{Content, Deed, Outcome, Told, Unknown, Way, Wish, clipped};

/// Words of a command line that are looked at.
const WORDS_MAX: usize = 1024;
/// Programs that only change how the one behind them runs, with those of their short options that take a value.
const WRAPPERS: [(&[u8], &[u8]); 7] = [
    (b"sudo", b"ugpChrtTUDRac"),
    (b"doas", b"uCa"),
    (b"env", b"uC"),
    (b"exec", b"a"),
    (b"nice", b"n"),
    (b"ionice", b"cnpPu"),
    (b"command", b""),
];
/// What moves files, wherever it stands in a line that is not understood.
const MOVERS: [&[u8]; 9] = [
    b"scp",
    b"sftp-server",
    b"rsync",
    b"git-upload-pack",
    b"git-upload-archive",
    b"git-receive-pack",
    b"upload-pack",
    b"upload-archive",
    b"receive-pack",
];
/// Short options of the far half of an scp.
const SCP_FLAGS: &[u8] = b"vrpdtf";
/// Short options of rsync's server half that take no value and name no file (rsync's options.c, `server_options`).
const RSYNC_FLAGS: &[u8] = b"vqcrlptgoaDdHAXESnWxuUNOJmzRyhkKLbiI";
/// Its long ones.
const RSYNC_WORDS: [&[u8]; 38] = [
    b"--server",
    b"--sender",
    b"--append",
    b"--delay-updates",
    b"--delete",
    b"--delete-after",
    b"--delete-before",
    b"--delete-delay",
    b"--delete-during",
    b"--delete-excluded",
    b"--delete-missing-args",
    b"--devices",
    b"--existing",
    b"--fake-super",
    b"--force",
    b"--fuzzy",
    b"--ignore-errors",
    b"--ignore-existing",
    b"--ignore-missing-args",
    b"--inplace",
    b"--list-only",
    b"--mkpath",
    b"--munge-links",
    b"--new-compress",
    b"--no-devices",
    b"--no-implied-dirs",
    b"--no-r",
    b"--no-relative",
    b"--no-specials",
    b"--numeric-ids",
    b"--old-compress",
    b"--partial",
    b"--preallocate",
    b"--remove-source-files",
    b"--safe-links",
    b"--size-only",
    b"--specials",
    b"--stats",
];
/// Those with a value, behind a `=` or in the next word, that names no file.
const RSYNC_VALUES: [&[u8]; 16] = [
    b"--block-size",
    b"--bwlimit",
    b"--checksum-choice",
    b"--checksum-seed",
    b"--compress-choice",
    b"--compress-level",
    b"--groupmap",
    b"--iconv",
    b"--log-format",
    b"--max-alloc",
    b"--max-delete",
    b"--max-size",
    b"--min-size",
    b"--modify-window",
    b"--timeout",
    b"--usermap",
];
/// Options of git's far halves.
const GIT_WORDS: [&[u8]; 4] = [b"--strict", b"--no-strict", b"--quiet", b"-q"];

/// A program that moves files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Program {
    /// An SFTP server by its own name.
    Sftp,
    /// The old scp protocol.
    Scp { way: Way, paths: Vec<Vec<u8>> },
    /// rsync or git, whose protocol is not followed.
    Stream { way: Way, paths: Vec<Vec<u8>> },
}

/// What a command line says.
#[derive(Debug)]
enum Reading {
    /// `clear`: each of its words is understood.
    Moves { program: Program, clear: bool },
    /// A command that moves no file over its channel.
    Nothing,
    /// It cannot be told.
    Unclear,
}

/// What a command will do to files, as far as its line says: of an SFTP server
/// nothing, for each of its requests says it. Where a program that moves files
/// is in it and the line does not say which, a wish has an empty path, which
/// no rule over paths allows.
pub fn wishes(command: &[u8]) -> Vec<Wish> {
    let wish = |way: Way, path: &[u8]| Wish {
        what: way.what(),
        path: path.to_vec(),
        other: Vec::new(),
    };
    let unclear = || vec![wish(Way::Down, b""), wish(Way::Up, b"")];
    let line = split(command);
    let fishy = line.as_ref().is_some_and(|line| line.fishy);
    match line.map_or(Reading::Unclear, |line| understand(&line.words)) {
        Reading::Moves {
            program: Program::Sftp, ..
        }
        | Reading::Nothing => Vec::new(),
        Reading::Moves {
            program: Program::Scp { way, paths } | Program::Stream { way, paths },
            clear: true,
        } if !fishy => match paths.is_empty() {
            true => vec![wish(way, b"")],
            false => paths.iter().map(|path| wish(way, path)).collect(),
        },
        Reading::Moves { .. } => unclear(),
        Reading::Unclear if names_mover(command) => unclear(),
        Reading::Unclear => Vec::new(),
    }
}

/// Whether a program that moves files is anywhere in a line.
fn names_mover(command: &[u8]) -> bool {
    let quotes = |byte: &u8| !b"'\"\\".contains(byte);
    let bare: Vec<u8> = command.iter().copied().filter(quotes).collect();
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    bare.split(|byte| !of_name(byte)).any(|word| MOVERS.contains(&word))
}

/// Operands as they are told: with blanks between.
pub fn joined(paths: &[Vec<u8>]) -> Vec<u8> {
    clipped(&paths.join(&b' '))
}

/// Whether a word has anything in it that a shell may have replaced.
pub fn may_expand(word: &[u8]) -> bool {
    word.iter().any(|byte| b"$*?[]{}~!".contains(byte))
}

/// Whether a command line runs the system's program of its name, as far as the line says it: by its bare name or from
/// below `/usr`, and with nothing in it that a shell replaces by what another command says.
pub fn runs_what_it_says(command: &[u8]) -> bool {
    let Some(first) = command.split(|byte| *byte == b' ').next() else {
        return false;
    };
    let bare = !first.contains(&b'/');
    let of_the_system = first.starts_with(b"/usr/") && !first.windows(2).any(|two| two == b"..");
    let name = first.rsplit(|byte| *byte == b'/').next().unwrap_or(first);
    (bare || of_the_system) && matches!(name, b"scp" | b"sftp-server") && !command.contains(&b'$')
}

/// What a command line runs, if it moves files. None: it does not, or it is
/// more than one plain command.
pub fn read(command: &[u8]) -> Option<Program> {
    match understand(&split(command)?.words) {
        Reading::Moves { program, .. } => Some(program),
        Reading::Nothing | Reading::Unclear => None,
    }
}

fn understand(words: &[Vec<u8>]) -> Reading {
    let mut words = words.iter().map(Vec::as_slice).peekable();
    let name = loop {
        let Some(word) = words.next() else {
            return Reading::Unclear;
        };
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or(word);
        if let Some((_, valued)) = WRAPPERS.iter().find(|(wrapper, _)| *wrapper == name) {
            while let Some(option) = words.next_if(|next| next.first() == Some(&b'-')) {
                match option {
                    b"--" => break,
                    [b'-', b'-', long @ ..] if long.contains(&b'=') => {}
                    [b'-', b'-', ..] => return Reading::Unclear,
                    // Of env: a whole line in one word.
                    [b'-', short @ ..] if name == b"env" && short.contains(&b'S') => return Reading::Unclear,
                    [_, short @ ..] => {
                        if let Some(at) = short.iter().position(|letter| valued.contains(letter))
                            && at.saturating_add(1) == short.len()
                        {
                            words.next();
                        }
                    }
                    [] => {}
                }
            }
        } else if !is_variable(word) {
            break name;
        }
    };
    match name {
        b"sftp-server" => Reading::Moves {
            program: Program::Sftp,
            clear: true,
        },
        b"scp" => scp(words),
        b"rsync" => rsync(words),
        b"git-upload-pack" | b"git-upload-archive" => git(Way::Down, words),
        b"git-receive-pack" => git(Way::Up, words),
        b"git" => loop {
            match words.next() {
                Some(b"-c") => {
                    words.next();
                }
                Some(b"upload-pack" | b"upload-archive") => break git(Way::Down, words),
                Some(b"receive-pack") => break git(Way::Up, words),
                // Where it runs, or with which programs.
                Some([b'-', ..]) | None => break Reading::Unclear,
                Some(_) => break Reading::Nothing,
            }
        },
        _ => Reading::Unclear,
    }
}

/// `NAME=value` before a command.
fn is_variable(word: &[u8]) -> bool {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < word.len() && !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// `scp [-v -r -p -d] (-t | -f) [--] PATH…`: the far half of an scp. With both it sends.
fn scp<'a>(words: impl Iterator<Item = &'a [u8]>) -> Reading {
    let (mut receives, mut sends, mut options, mut clear) = (false, false, true, true);
    let mut paths: Vec<Vec<u8>> = Vec::new();
    for word in words {
        match word {
            b"--" if options => options = false,
            [b'-', flags @ ..] if options && paths.is_empty() && !flags.is_empty() => {
                receives |= flags.contains(&b't');
                sends |= flags.contains(&b'f');
                clear &= flags.iter().all(|flag| SCP_FLAGS.contains(flag));
            }
            path => {
                // Some read options behind operands too, where no `--` ends them.
                clear &= !options || path.first() != Some(&b'-');
                paths.push(path.to_vec());
            }
        }
    }
    match (sends, receives) {
        (true, _) => Reading::Moves {
            program: Program::Scp { way: Way::Down, paths },
            clear,
        },
        (false, true) => Reading::Moves {
            program: Program::Scp { way: Way::Up, paths },
            clear,
        },
        (false, false) if clear => Reading::Nothing,
        (false, false) => Reading::Unclear,
    }
}

/// `rsync --server [--sender] OPTIONS . PATH…`. Paths may come over its stream
/// instead, and files be named by its options: that is not clear.
fn rsync<'a>(words: impl Iterator<Item = &'a [u8]>) -> Reading {
    let words: Vec<&[u8]> = words.collect();
    if !words.iter().any(|word| matches!(*word, b"--server" | b"--daemon")) {
        return Reading::Nothing;
    }
    let mut words = words.into_iter();
    let (mut server, mut way, mut clear, mut options) = (false, Way::Up, true, true);
    let mut operands: Vec<Vec<u8>> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            b"--" if options => options = false,
            [b'-', b'-', ..] if options => {
                let name = word.split(|byte| *byte == b'=').next().unwrap_or(word);
                match word {
                    b"--server" => server = true,
                    b"--sender" => way = Way::Down,
                    _ if RSYNC_VALUES.contains(&name) => {
                        if name == word {
                            words.next();
                        }
                    }
                    _ => clear &= RSYNC_WORDS.contains(&word),
                }
            }
            [b'-', flags @ ..] if options => {
                // Behind `e` stands what the client can do.
                let flags = flags.split(|flag| *flag == b'e').next().unwrap_or(flags);
                clear &= flags.iter().all(|flag| RSYNC_FLAGS.contains(flag));
            }
            operand => operands.push(operand.to_vec()),
        }
    }
    // The first operand is the client's own side.
    match operands.first().is_some_and(|first| first == b".") {
        true => drop(operands.remove(0)),
        false => clear = false,
    }
    match server {
        true => Reading::Moves {
            program: Program::Stream { way, paths: operands },
            clear,
        },
        false => Reading::Unclear,
    }
}

/// `git-upload-pack [--strict] [--timeout=N] PATH`
fn git<'a>(way: Way, words: impl Iterator<Item = &'a [u8]>) -> Reading {
    let (options, paths): (Vec<&[u8]>, Vec<&[u8]>) = words.partition(|word| word.first() == Some(&b'-'));
    let known = |option: &&[u8]| GIT_WORDS.contains(option) || option.starts_with(b"--timeout=");
    let clear = paths.len() == 1 && options.iter().all(known);
    let Some(path) = paths.last() else {
        return Reading::Unclear;
    };
    Reading::Moves {
        program: Program::Stream {
            way,
            paths: vec![path.to_vec()],
        },
        clear,
    }
}

/// A command as a shell would split it.
struct Line {
    words: Vec<Vec<u8>>,
    /// fish reads it otherwise than the shells of POSIX: a `\` before a letter
    /// or within single quotes.
    fishy: bool,
}

/// The words of a command as a shell would split them; None if it would run
/// more than one command, or send its output elsewhere.
fn split(command: &[u8]) -> Option<Line> {
    let (mut words, mut fishy) = (Vec::new(), false);
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = command.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_with(Vec::new);
                loop {
                    match bytes.next()? {
                        b'\'' => break,
                        byte => {
                            fishy |= byte == b'\\';
                            word.push(byte);
                        }
                    }
                }
            }
            b'"' => {
                let word = word.get_or_insert_with(Vec::new);
                loop {
                    match bytes.next()? {
                        b'"' => break,
                        b'`' => return None,
                        b'\\' => match bytes.next()? {
                            escaped @ (b'"' | b'\\' | b'$' | b'`') => word.push(escaped),
                            b'\n' => {}
                            other => word.extend([b'\\', other]),
                        },
                        byte => word.push(byte),
                    }
                }
            }
            b'\\' => match bytes.next()? {
                // The shell joins the lines.
                b'\n' => {}
                escaped => {
                    fishy |= escaped.is_ascii_alphanumeric();
                    word.get_or_insert_with(Vec::new).push(escaped);
                }
            },
            b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`' | b'\n' | b'\r' => return None,
            byte => word.get_or_insert_with(Vec::new).push(byte),
        }
        if words.len() > WORDS_MAX {
            return None;
        }
    }
    words.extend(word);
    Some(Line { words, fishy })
}

/// A transfer of which only the command line is read.
#[derive(Debug)]
pub struct Stream {
    way: Way,
    path: Vec<u8>,
    began_ms: u64,
    bytes: u64,
    told: bool,
    /// What it exited with.
    exited: Option<u32>,
}

impl Stream {
    pub fn new(began_ms: u64, way: Way, path: Vec<u8>) -> Stream {
        Stream {
            way,
            path,
            began_ms,
            bytes: 0,
            told: false,
            exited: None,
        }
    }

    /// Counts what goes its way.
    pub fn saw(&mut self, way: Way, bytes: &[u8]) {
        if way == self.way {
            self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        }
    }

    /// The program ended with this status.
    pub fn exited(&mut self, status: u32) {
        self.exited = Some(status);
    }

    /// The channel's end.
    pub fn end(&mut self, told: &mut Vec<Told>) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        told.push(Told::Deed(Deed {
            what: self.way.what(),
            path: std::mem::take(&mut self.path),
            other: Vec::new(),
            outcome: match self.exited {
                Some(0) => Outcome::Done,
                Some(status) => Outcome::Failed(format!("exit status {status}")),
                // Refused, killed, or cut off.
                None => Outcome::Unfinished,
            },
            began_ms: self.began_ms,
            content: Some(Content {
                bytes: self.bytes,
                whole: Err(Unknown::NotParsed),
                ranges: Vec::new(),
            }),
        }));
    }
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
