//! Which commands move files, by their command line: what OpenSSH's scp, sftp
//! servers, rsync and git run at the target.

use super::{Content, Deed, Outcome, Told, Unknown, Way, Wish, clipped};

/// Words of a command line that are looked at.
const WORDS_MAX: usize = 1024;
/// Options of rsync's server half that take the next word.
const RSYNC_TAKES_WORD: [&[u8]; 8] = [
    b"--log-format",
    b"--max-size",
    b"--min-size",
    b"--timeout",
    b"--partial-dir",
    b"--temp-dir",
    b"--suffix",
    b"--backup-dir",
];

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

impl Program {
    /// What it will do to files, as far as its command line says: of an SFTP
    /// server nothing, for each of its requests says it.
    pub fn wishes(&self) -> Vec<Wish> {
        let (way, paths) = match self {
            Program::Sftp => return Vec::new(),
            Program::Scp { way, paths } | Program::Stream { way, paths } => (*way, paths),
        };
        let wish = |path: &Vec<u8>| Wish {
            what: way.what(),
            path: path.clone(),
            other: Vec::new(),
        };
        paths.iter().map(wish).collect()
    }
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
    let words = split(command)?;
    let mut words = words.iter().map(Vec::as_slice).peekable();
    // What only changes how the program behind it runs.
    let name = loop {
        let word = words.next()?;
        let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or(word);
        match name {
            b"sudo" | b"doas" | b"env" | b"exec" | b"nice" | b"ionice" | b"command" => {
                while words.next_if(|next| next.first() == Some(&b'-')).is_some() {}
            }
            _ if is_variable(word) => {}
            _ => break name,
        }
    };
    match name {
        b"sftp-server" => Some(Program::Sftp),
        b"scp" => scp(words),
        b"rsync" => rsync(words),
        b"git-upload-pack" | b"git-upload-archive" => git(Way::Down, words),
        b"git-receive-pack" => git(Way::Up, words),
        b"git" => match words.next()? {
            b"upload-pack" | b"upload-archive" => git(Way::Down, words),
            b"receive-pack" => git(Way::Up, words),
            _ => None,
        },
        _ => None,
    }
}

/// `NAME=value` before a command.
fn is_variable(word: &[u8]) -> bool {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < word.len() && !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// `scp [-v -r -p -d] (-t | -f) [--] PATH…`: the far half of an scp.
fn scp<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<Program> {
    let (mut way, mut options) = (None, true);
    let mut paths: Vec<&[u8]> = Vec::new();
    for word in words {
        match word {
            b"--" if options => options = false,
            [b'-', flags @ ..] if options && !flags.is_empty() => {
                for flag in flags {
                    match flag {
                        b't' => way = Some(Way::Up),
                        b'f' => way = Some(Way::Down),
                        _ => {}
                    }
                }
            }
            path => {
                options = false;
                paths.push(path);
            }
        }
    }
    Some(Program::Scp {
        way: way?,
        paths: paths.iter().map(|path| path.to_vec()).collect(),
    })
}

/// `rsync --server [--sender] OPTIONS . PATH…`
fn rsync<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Program> {
    let (mut server, mut way) = (false, Way::Up);
    let mut paths: Vec<&[u8]> = Vec::new();
    while let Some(word) = words.next() {
        match word {
            b"--server" => server = true,
            b"--sender" => way = Way::Down,
            word if RSYNC_TAKES_WORD.contains(&word) => {
                words.next();
            }
            [b'-', ..] => {}
            // The client's own side.
            b"." if paths.is_empty() => {}
            path => paths.push(path),
        }
    }
    server.then(|| Program::Stream {
        way,
        paths: paths.iter().map(|path| path.to_vec()).collect(),
    })
}

/// `git-upload-pack [--strict] [--timeout=N] PATH`
fn git<'a>(way: Way, words: impl Iterator<Item = &'a [u8]>) -> Option<Program> {
    let path = words.filter(|word| word.first() != Some(&b'-')).last()?;
    Some(Program::Stream {
        way,
        paths: vec![path.to_vec()],
    })
}

/// The words of a command as a shell would split them; None if it would run
/// more than one command, or send its output elsewhere.
fn split(command: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
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
                        byte => word.push(byte),
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
                            other => word.extend([b'\\', other]),
                        },
                        byte => word.push(byte),
                    }
                }
            }
            b'\\' => word.get_or_insert_with(Vec::new).push(bytes.next()?),
            b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' | b'`' | b'\n' | b'\r' => return None,
            byte => word.get_or_insert_with(Vec::new).push(byte),
        }
        if words.len() > WORDS_MAX {
            return None;
        }
    }
    words.extend(word);
    Some(words)
}

/// A transfer of which only the command line is read.
#[derive(Debug)]
pub struct Stream {
    way: Way,
    path: Vec<u8>,
    began_ms: u64,
    bytes: u64,
    told: bool,
}

impl Stream {
    pub fn new(began_ms: u64, way: Way, path: Vec<u8>) -> Stream {
        Stream {
            way,
            path,
            began_ms,
            bytes: 0,
            told: false,
        }
    }

    /// Counts what goes its way.
    pub fn saw(&mut self, way: Way, bytes: &[u8]) {
        if way == self.way {
            self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        }
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
            outcome: Outcome::Done,
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
mod tests {
    use super::*;

    #[test]
    fn only_the_systems_own_programs_run_what_they_say() {
        for (command, says) in [
            ("scp -t /tmp/x", true),
            ("scp -f *.log", true),
            ("/usr/bin/scp -t .", true),
            ("/usr/lib/openssh/sftp-server", true),
            ("/usr/../tmp/scp -t .", false),
            ("/tmp/scp -t .", false),
            ("./scp -t .", false),
            ("sudo scp -t .", false),
            ("PATH=/tmp scp -t .", false),
            ("scp -t \"$(sh)\"", false),
            ("rsync --server . /srv", false),
            ("", false),
        ] {
            assert_eq!(runs_what_it_says(command.as_bytes()), says, "{command}");
        }
    }

    #[test]
    fn command_lines_say_what_moves_files() {
        let scp = |way, path: &str| {
            Some(Program::Scp {
                way,
                paths: path.split('|').map(|path| path.as_bytes().to_vec()).collect(),
            })
        };
        let stream = |way, path: &str| {
            Some(Program::Stream {
                way,
                paths: path.split('|').map(|path| path.as_bytes().to_vec()).collect(),
            })
        };
        let cases: &[(&str, Option<Program>)] = &[
            ("scp -t /tmp/x", scp(Way::Up, "/tmp/x")),
            ("scp -r -p -d -t -- /tmp/x", scp(Way::Up, "/tmp/x")),
            ("/usr/bin/scp -rpf 'a b' c", scp(Way::Down, "a b|c")),
            ("scp -v -f *.log", scp(Way::Down, "*.log")),
            ("scp -t -- -t", scp(Way::Up, "-t")),
            ("sudo -n scp -f /etc/shadow", scp(Way::Down, "/etc/shadow")),
            ("LANG=C scp -f a\\ b", scp(Way::Down, "a b")),
            ("scp a host:b", None),
            ("scp -t /tmp; id", None),
            ("scp -f `id`", None),
            ("scp -f \"`id`\"", None),
            ("echo scp -f x", None),
            ("/usr/lib/openssh/sftp-server -R", Some(Program::Sftp)),
            ("sudo /usr/lib/openssh/sftp-server", Some(Program::Sftp)),
            (
                "rsync --server -logDtpre.iLsfxCIvu . /srv/www/",
                stream(Way::Up, "/srv/www/"),
            ),
            (
                "rsync --server --sender -vlogDtpre.iLsfxC --timeout 5 . /etc '/var/a b'",
                stream(Way::Down, "/etc|/var/a b"),
            ),
            ("rsync -a /a /b", None),
            ("git-upload-pack '/srv/a.git'", stream(Way::Down, "/srv/a.git")),
            ("git receive-pack '/srv/a.git'", stream(Way::Up, "/srv/a.git")),
            ("git-upload-archive '/srv/a.git'", stream(Way::Down, "/srv/a.git")),
            ("git status", None),
            ("", None),
            ("'unclosed", None),
        ];
        for (line, expected) in cases {
            assert_eq!(read(line.as_bytes()), *expected, "{line}");
        }
    }
}
