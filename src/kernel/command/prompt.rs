//! Prompts: what they look like, which are known, and who shows them.

use super::Context;
use super::grid::Right;

/// Prompts that are remembered in one terminal.
const KNOWN_MAX: usize = 32;
/// Longest prompt that is known again, in bytes: of a longer line its end.
const PROMPT_BYTES_MAX: usize = 512;
/// Characters at the beginning that make two prompts of the same end one shell's.
const HEAD_ALIKE_MIN: usize = 3;
/// Longest part of a prompt that may change between two commands, in bytes.
const CHANGING_BYTES_MAX: usize = 160;

/// What prompts of shells and their kin end with. The last four are Powerline's separators.
const ENDS: &[char] = &[
    '$', '#', '%', '>', '❯', '➜', '»', 'λ', '→', '▶', '⟩', '⟫', '›', '\u{e0b0}', '\u{e0b1}', '\u{e0b4}', '\u{e0bc}',
];

/// What zsh calls the states of its parser: `%_` in PS2 (zshmisc, prompt expansion).
const ZSH_STATES: &[&str] = &[
    "for",
    "while",
    "repeat",
    "select",
    "until",
    "if",
    "then",
    "else",
    "elif",
    "math",
    "cond",
    "cmdor",
    "cmdand",
    "pipe",
    "errpipe",
    "foreach",
    "case",
    "function",
    "subsh",
    "cursh",
    "array",
    "quote",
    "dquote",
    "bquote",
    "cmdsubst",
    "mathsubst",
    "elif-then",
    "heredoc",
    "heredocd",
    "brace",
    "braceparam",
    "always",
];
const SHELLS: &[&str] = &[
    "bash", "sh", "zsh", "fish", "dash", "ash", "ksh", "mksh", "busybox", "tcsh", "csh",
];
const REMOTE: &[&str] = &[
    "ssh",
    "mosh",
    "telnet",
    "docker",
    "podman",
    "kubectl",
    "nsenter",
    "chroot",
    "lxc",
    "machinectl",
];
const ELEVATING: &[&str] = &["sudo", "su", "doas", "pkexec"];

/// The parts of a prompt that stay when directory, branch or number change.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Form {
    head: String,
    tail: String,
    /// Whether anything stands between the two.
    changes: bool,
}

impl Form {
    fn of(text: &str) -> Form {
        let shown = text.trim_end();
        let stays = |c: char| !c.is_alphanumeric() && !c.is_whitespace() && !matches!(c, '~' | '/' | '.' | '-' | '_');
        let start = shown.trim_end_matches(stays).len();
        let (front, tail) = text.split_at(start);
        let stop = front
            .char_indices()
            .find(|(at, c)| *at > 0 && matches!(c, ':' | ' ' | '('))
            .map(|(at, c)| at + c.len_utf8());
        let changes = stop.is_some() || front.starts_with(['~', '/']);
        let head = match stop {
            Some(_) | None if front.starts_with(['~', '/']) => "",
            Some(stop) => front.get(..stop).unwrap_or(front),
            None => front,
        };
        Form {
            head: head.to_owned(),
            tail: tail.to_owned(),
            changes,
        }
    }

    /// Begins and ends in the same way.
    fn is_like(&self, other: &Form) -> bool {
        let alike = |(a, b): &(char, char)| a == b;
        let begun = self.head.chars().zip(other.head.chars()).take_while(alike).count();
        self.tail == other.tail && begun >= HEAD_ALIKE_MIN
    }

    /// Length of the prompt of this form that the line begins with.
    fn at_start(&self, line: &str) -> Option<usize> {
        if !self.changes || self.tail.trim_end().is_empty() {
            return None;
        }
        let rest = line.strip_prefix(self.head.as_str())?;
        let rest = rest.get(..rest.floor_char_boundary(CHANGING_BYTES_MAX + self.tail.len()))?;
        let changing = rest.split_once(self.tail.as_str())?.0;
        let plausible = match self.head.is_empty() {
            true => changing.starts_with(['~', '/']) && !changing.trim_end().contains(' '),
            false => !changing.contains("  "),
        };
        (plausible && changing.len() <= CHANGING_BYTES_MAX)
            .then_some(self.head.len() + changing.len() + self.tail.len())
    }

    /// Where the prompt of this form begins that the line ends with. Looks at
    /// the end of the line only, and once: any other program may fill it.
    fn at_end(&self, line: &str) -> Option<usize> {
        if self.head.is_empty() {
            return self.at_start(line).filter(|len| *len == line.len()).map(|_| 0);
        }
        if !self.changes || self.tail.trim_end().is_empty() {
            return None;
        }
        let most = self.head.len() + CHANGING_BYTES_MAX + self.tail.len();
        let before = line.floor_char_boundary(line.len().saturating_sub(most));
        let near = line.get(before..)?;
        let front = near.strip_suffix(self.tail.as_str())?;
        // What changes holds neither two blanks nor what ends a prompt.
        let (last, _) = near.char_indices().next_back()?;
        let ended = near.get(..last)?.rfind(self.tail.as_str());
        let from = front.rfind("  ").max(ended).map_or(0, |at| at + 1);
        let from = from.max(front.len().saturating_sub(CHANGING_BYTES_MAX));
        let begins = |(at, head): &(usize, &str)| at + head.len() >= from;
        let (at, _) = front.match_indices(self.head.as_str()).find(begins)?;
        Some(before + at)
    }
}

/// A prompt as it stood on the screen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prompt {
    /// Its last line up to the cursor, blanks included.
    pub text: String,
    pub right: Option<Right>,
}

impl Prompt {
    /// Its end, if it is too long to be one.
    fn cut(mut self) -> Prompt {
        let least = self.text.len().saturating_sub(PROMPT_BYTES_MAX);
        let from = self.text.ceil_char_boundary(least);
        self.text.drain(..from);
        self
    }
}

/// Number of the first prompt.
const FIRST: u64 = 1;

#[derive(Debug)]
struct Known {
    id: u64,
    prompt: Prompt,
    form: Form,
    /// It came back for the next line.
    repeated: bool,
    /// It stood on the alternate screen.
    alternate: bool,
    context: Context,
}

impl Known {
    /// Length of this prompt at the start of the line.
    fn at_start(&self, line: &str) -> Option<usize> {
        match line.starts_with(self.prompt.text.as_str()) {
            true => Some(self.prompt.text.len()),
            false => self.form.at_start(line),
        }
    }

    /// Where this prompt begins, if the line ends with it.
    fn at_end(&self, line: &str) -> Option<usize> {
        if line.ends_with(self.prompt.text.as_str()) {
            return Some(line.len() - self.prompt.text.len());
        }
        self.form.at_end(line)
    }
}

/// The prompts of one terminal, the last used at the back.
#[derive(Debug, Default)]
pub struct Prompts {
    known: Vec<Known>,
    next: u64,
    /// Number of the prompt of the last line.
    last: Option<u64>,
    /// The shell shows no prompt.
    bare: bool,
}

impl Prompts {
    /// No prompt with any text is known, or the shell shows none: a line may stand without one.
    pub fn accept_nothing(&self) -> bool {
        self.bare || self.known.iter().all(|known| known.prompt.text.is_empty())
    }

    /// A text that stands before a line: of a shell that shows no prompt, it is
    /// output that did not end its row.
    pub fn own(&self, prompt: &Prompt) -> Prompt {
        match self.bare && !looks_like_one(&prompt.text) {
            true => Prompt::default(),
            false => prompt.clone(),
        }
    }

    /// What stands before the cursor is a known prompt and nothing else, save
    /// output that did not end its line.
    pub fn is_fresh(&self, before_cursor: &str) -> bool {
        self.known
            .iter()
            .any(|known| !known.prompt.text.is_empty() && known.at_end(before_cursor).is_some())
    }

    /// Where the known prompt begins that the line ends with.
    pub fn at_end(&self, line: &str) -> Option<usize> {
        let mut named = self.known.iter().rev().filter(|known| !known.prompt.text.is_empty());
        named.find_map(|known| known.at_end(line))
    }

    /// Length of the known prompt that the line begins with, and that prompt.
    pub fn at_start(&self, line: &str) -> Option<(usize, &Prompt)> {
        let found = self.known.iter().rev().filter(|known| !known.prompt.text.is_empty());
        found
            .filter_map(|known| Some((known.at_start(line)?, &known.prompt)))
            .next()
    }

    /// The shortest prompt at which lines are read and that this one begins
    /// with: whoever prints a longer one takes nothing away from a line by it.
    pub fn shortest(&self, line: &str) -> Option<(usize, &Prompt)> {
        let settled = self
            .known
            .iter()
            .filter(|known| !known.prompt.text.is_empty() && known.settled());
        settled
            .filter_map(|known| Some((known.at_start(line)?, &known.prompt)))
            .min_by_key(|(len, _)| *len)
    }

    /// Whether a prompt with this text is known.
    pub fn knows(&self, text: &str) -> bool {
        self.find(text).is_some()
    }

    /// Whether it is a shell's or a program's that came back. Nothing at all is
    /// none, once a prompt was seen.
    pub fn is_established(&self, text: &str) -> bool {
        (!text.is_empty() || self.accept_nothing()) && self.find(text).is_some_and(Known::settled)
    }

    /// A prompt with what is known to stand at the right edge beside it, where
    /// that was not drawn yet.
    pub fn with_right(&self, prompt: &Prompt) -> Prompt {
        let known = || self.find(&prompt.text)?.prompt.right.clone();
        Prompt {
            text: prompt.text.clone(),
            right: prompt.right.clone().or_else(known),
        }
    }

    /// Who shows the prompt with this text.
    pub fn place(&self, text: &str) -> Context {
        self.find(text).map_or(Context::Program, |known| known.context.clone())
    }

    fn find(&self, text: &str) -> Option<&Known> {
        let exact = self.known.iter().find(|known| known.prompt.text == text);
        exact.or_else(|| {
            let mut named = self.known.iter().rev().filter(|known| !known.prompt.text.is_empty());
            named.find(|known| known.at_end(text).is_some())
        })
    }

    /// Books a line read at this prompt; answers with the prompt's number.
    /// `after` is the command before it, `alternate` whether it stands on the alternate screen.
    pub fn note(&mut self, prompt: &Prompt, after: Option<&str>, alternate: bool) -> u64 {
        let prompt = &self.own(prompt).cut();
        let id = self.find(&prompt.text).map(|known| known.id);
        let at = self.known.iter().position(|known| Some(known.id) == id);
        let mut known = match at {
            Some(at) => self.known.remove(at),
            None => {
                self.next = self.next.saturating_add(1);
                Known {
                    id: self.next,
                    prompt: prompt.clone(),
                    form: Form::of(&prompt.text),
                    repeated: false,
                    alternate,
                    context: self.context_of(prompt, after, alternate),
                }
            }
        };
        known.repeated |= self.last == Some(known.id);
        self.last = Some(known.id);
        // The first that was shown, and it came back.
        self.bare |= known.id == FIRST && known.repeated && known.prompt.text.is_empty() && self.known.is_empty();
        // With output before it on its line it is the same prompt, not another text of it.
        if known.at_end(&prompt.text) == Some(0) || known.prompt.text.is_empty() {
            let right = prompt.right.clone().or_else(|| known.prompt.right.take());
            known.prompt = Prompt {
                right,
                ..prompt.clone()
            };
        }
        let id = known.id;
        self.known.push(known);
        if self.known.len() > KNOWN_MAX {
            self.known.remove(0);
        }
        id
    }

    /// Who shows the prompt with this number, as far as is known by now.
    pub fn context(&self, id: u64) -> Context {
        match self.known.iter().find(|known| known.id == id) {
            Some(known) if known.settled() => known.context.clone(),
            Some(_) | None => Context::Program,
        }
    }

    fn context_of(&self, prompt: &Prompt, after: Option<&str>, alternate: bool) -> Context {
        let shown = prompt.text.trim();
        // On each of the two screens the first is the shell's that runs there.
        let here = |known: &&Known| known.alternate == alternate;
        let last = match self
            .known
            .iter()
            .filter(here)
            .rfind(|known| !known.prompt.text.is_empty())
        {
            Some(last) => last,
            None if alternate => return Context::Pane,
            None if self.bare && after.and_then(brings).is_none() && !shown.is_empty() => {
                return Context::Repl(shown.to_owned());
            }
            None => return Context::Shell,
        };
        match after.and_then(brings) {
            Some(context) => context,
            // A shell whose prompt was changed.
            None if after.is_some_and(changes_prompt) || Form::of(&prompt.text).is_like(&last.form) => {
                last.context.clone()
            }
            None => Context::Repl(shown.to_owned()),
        }
    }
}

impl Known {
    /// It is no question asked once.
    fn settled(&self) -> bool {
        match self.context {
            Context::Shell => true,
            Context::Nested | Context::Elevated => self.repeated || looks_like_one(&self.prompt.text),
            Context::Pane => looks_like_one(&self.prompt.text) || self.repeated && !self.prompt.text.trim().is_empty(),
            // Nothing at all is no prompt that comes back.
            Context::Repl(_) | Context::Program => self.repeated && !self.prompt.text.trim().is_empty(),
        }
    }
}

/// Whether a text is shaped like a prompt for commands.
pub fn looks_like_one(text: &str) -> bool {
    let shown = text.trim();
    let word = shown.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    text.len() <= PROMPT_BYTES_MAX
        && (shown.ends_with(ENDS)
            || word.is_some_and(|word| !word.is_empty() && word.chars().all(char::is_alphanumeric)))
}

/// Whether a prompt asks for more of the line that was read at `main`.
pub fn goes_on(text: &str, main: &str) -> bool {
    let shown = text.trim();
    if text == main || text.len() > PROMPT_BYTES_MAX {
        return false;
    }
    // fish draws nothing but the indentation.
    if shown.is_empty() {
        return text.len() > 1;
    }
    // Python, node.
    if shown.chars().all(|c| c == '.') && shown.len() >= 2 {
        return true;
    }
    // sqlite: `   ...> `, and with what is open before it: `(x1...> `, `'  ...> `.
    if let Some(open) = shown.strip_suffix("...>") {
        return open.len() <= 6 && !open.contains(' ') || open.chars().all(|c| c.is_ascii_punctuation() || c == ' ');
    }
    if let Some(open) = shown.strip_suffix('>') {
        // Shells: `> `; mysql: `    -> `, `    '> `, `   /*> `.
        if open.trim().chars().all(|c| "-'\"`/*".contains(c)) {
            return true;
        }
        // zsh: `for dquote> `.
        if open.split_whitespace().all(|word| ZSH_STATES.contains(&word)) {
            return true;
        }
    }
    // psql: the last `=` of the prompt becomes one of these (psql, PROMPT2).
    let changed: Vec<(char, char)> = text.chars().zip(main.chars()).filter(|(new, old)| new != old).collect();
    text.chars().count() == main.chars().count()
        && matches!(changed.as_slice(), [(new, '=')] if "-('\"*!^$".contains(*new))
}

/// Whether a command may give a shell another prompt.
fn changes_prompt(command: &str) -> bool {
    let command = command.trim_start();
    [
        "PS1=",
        "PROMPT=",
        "export PS1=",
        "source ",
        ". ",
        "prompt ",
        "function fish_prompt",
    ]
    .iter()
    .any(|start| command.starts_with(start))
}

/// Who shows a new prompt after this command; nothing if the command does not tell.
fn brings(command: &str) -> Option<Context> {
    let mut words = command.split_whitespace().filter(|word| !word.contains('='));
    let mut context = None;
    while let Some(word) = words.next() {
        let name = word.rsplit('/').next().unwrap_or(word);
        if ELEVATING.contains(&name) {
            context = Some(Context::Elevated);
            continue;
        }
        if REMOTE.contains(&name) {
            return Some(Context::Nested);
        }
        if SHELLS.contains(&name) {
            return context.or(Some(Context::Shell));
        }
        // Options of sudo and its kin, and `-u NAME`.
        if context.is_some() && word.starts_with('-') {
            if matches!(word, "-u" | "-g") {
                words.next();
            }
            continue;
        }
        // `su - NAME`, `sudo PROGRAM`: a program other than a shell shows its own.
        return match context {
            Some(_) if command.contains("su ") && !command.contains("sudo ") => context,
            Some(_) | None => None,
        };
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_known_again_elsewhere() {
        let cases = [
            (
                "root@db1:~# ",
                "root@db1:/var/log# ls",
                Some("root@db1:/var/log# ".len()),
            ),
            (
                "[root@db1 ~]# ",
                "[root@db1 log]# ls -l",
                Some("[root@db1 log]# ".len()),
            ),
            ("~/src ❯ ", "/tmp ❯ ls", Some("/tmp ❯ ".len())),
            ("me@db1 ~> ", "me@db1 /tmp> ls > x", Some("me@db1 /tmp> ".len())),
            ("$ ", "echo $ x", None),
            (">>> ", ">>> x", Some(4)),
            ("root@db1:~# ", "root@db2:~# ls", None),
        ];
        for (prompt, line, expected) in cases {
            let mut prompts = Prompts::default();
            let prompt = Prompt {
                text: prompt.to_owned(),
                right: None,
            };
            prompts.note(&prompt, None, false);
            assert_eq!(prompts.at_start(line).map(|(len, _)| len), expected, "{line}");
        }
    }

    #[test]
    fn a_prompt_behind_output_is_known_again() {
        let cases = [
            ("root@db1:~# ", "x: root@db1:/srv# ", Some(3)),
            ("root@db1:~# ", "root@db1:/srv# root@db1:/tmp# ", Some(15)),
            ("root@db1:~# ", "root@db1:a  b# ", None),
            ("root@db1:~# ", "root@db1:/srv# x", None),
            ("a:b# ", "a:a:c# ", Some(0)),
            ("~/src ❯ ", "x~/src ❯", None),
            ("~/src ❯ ", "/tmp ❯ ", Some(0)),
        ];
        for (prompt, line, expected) in cases {
            let mut prompts = Prompts::default();
            let text = prompt.to_owned();
            prompts.note(&Prompt { text, right: None }, None, false);
            assert_eq!(prompts.at_end(line), expected, "{line}");
        }
    }

    /// Quadratic, this takes minutes.
    #[test]
    fn a_line_full_of_what_begins_a_prompt_is_looked_at_once() {
        let mut prompts = Prompts::default();
        let text = "a:b# ".to_owned();
        prompts.note(&Prompt { text, right: None }, None, false);
        let long = "a:".repeat(1 << 20);
        assert!(!prompts.is_fresh(&long));
        assert_eq!(prompts.at_end(&(long.clone() + "c# ")), Some(long.len() - 160));
        // A line that is no prompt is not kept whole.
        prompts.note(
            &Prompt {
                text: long,
                right: None,
            },
            None,
            false,
        );
        assert!(
            prompts
                .known
                .iter()
                .all(|known| known.prompt.text.len() <= PROMPT_BYTES_MAX)
        );
    }

    #[test]
    fn lines_that_go_on() {
        for (text, main) in [
            ("> ", "root@db1:~# "),
            ("for> ", "% "),
            ("cmdand quote> ", "% "),
            ("... ", ">>> "),
            ("   ...> ", "sqlite> "),
            ("    -> ", "mysql> "),
            ("    '> ", "MariaDB [(none)]> "),
            ("postgres-# ", "postgres=# "),
            ("postgres(# ", "postgres=# "),
            ("      ", "me@db1 ~> "),
        ] {
            assert!(goes_on(text, main), "{text:?}");
        }
        for (text, main) in [
            ("127.0.0.1:6379> ", "root@db1:~# "),
            ("mysql> ", "root@db1:~# "),
            ("sqlite> ", "$ "),
            (">>> ", "$ "),
            ("", "$ "),
            ("root@db1:~# ", "root@db1:~# "),
            ("Name: ", "$ "),
            ("> ", "> "),
        ] {
            assert!(!goes_on(text, main), "{text:?}");
        }
    }

    #[test]
    fn who_shows_a_prompt() {
        assert_eq!(brings("sudo -i"), Some(Context::Elevated));
        assert_eq!(brings("sudo -u postgres bash"), Some(Context::Elevated));
        assert_eq!(brings("su - postgres"), Some(Context::Elevated));
        assert_eq!(brings("ssh -p 22 db2"), Some(Context::Nested));
        assert_eq!(brings("FOO=1 /bin/bash"), Some(Context::Shell));
        assert_eq!(brings("python3"), None);
        assert_eq!(brings("sudo -u postgres psql"), None);
    }
}
