//! What a line looks like, and output as text.

use crate::kernel::command::Context;

/// One sign for each key, or for each of its bytes, as some programs show for a password.
pub fn is_stars_for(text: &str, typed: &str) -> bool {
    let shown = text.trim_end();
    let signs = shown.chars().count();
    let as_many = signs == typed.chars().count() || signs == typed.len();
    as_many && signs > 0 && shown.chars().all(|sign| matches!(sign, '*' | '•' | '●'))
}

/// Whether a shell puts another line in this one's place before it runs it:
/// `!!`, `!$`, `^old^new` (bash, HISTORY EXPANSION; zsh's is the same).
pub fn names_another(text: &str) -> bool {
    // A quote that a comment seems to open does not hide the next line's.
    text.lines().any(|line| line.starts_with('^') || brings_another(line)) || brings_another(text)
}

fn brings_another(text: &str) -> bool {
    let mut signs = text.chars().peekable();
    let (mut quote, mut before) = (Quote::None, [' ', ' ']);
    while let Some(sign) = signs.next() {
        match (quote, sign) {
            (Quote::None | Quote::Double | Quote::Escapes, '\\') => drop(signs.next()),
            (Quote::None, '\'') if before[1] == '$' => quote = Quote::Escapes,
            (Quote::None, '\'') => quote = Quote::Single,
            (Quote::None, '"') => quote = Quote::Double,
            (Quote::Single | Quote::Escapes, '\'') | (Quote::Double, '"') => quote = Quote::None,
            // `$!` and `${!` are parameters.
            (Quote::None | Quote::Double, '!') if before[1] != '$' && before != ['$', '{'] => {
                let plain = |next: &char| next.is_whitespace() || matches!(next, '=' | '(' | '"' | ';' | '&' | '|');
                if signs.peek().is_some_and(|next| !plain(next)) {
                    return true;
                }
            }
            _ => {}
        }
        before = [before[1], sign];
    }
    false
}

/// Whether a prompt ends as those of shells do; `=#` and the like are psql's.
pub fn is_shells(prompt: &str) -> bool {
    let prompt = prompt.trim_end();
    let root = prompt.strip_suffix('#');
    prompt.ends_with(['$', '%']) || root.is_some_and(|rest| !rest.ends_with(['=', '-', '(', '\'', '"', '*', '$']))
}

/// Who reads a line, as policy is told.
pub fn place(context: &Context) -> &'static str {
    match context {
        Context::Shell => "shell",
        Context::Nested => "nested",
        Context::Elevated => "elevated",
        Context::Repl(_) => "repl",
        Context::Pane => "pane",
        Context::Program => "program",
    }
}

/// What quotes the signs of a shell's line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
    /// `$'…'`.
    Escapes,
}

/// UTF-8 with replacement characters; a character torn between two pieces is put together again.
pub fn decode(torn: &mut Vec<u8>, bytes: &[u8]) -> String {
    let mut all = std::mem::take(torn);
    all.extend_from_slice(bytes);
    let mut text = String::with_capacity(all.len());
    let mut chunks = all.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let unfinished = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        match chunks.peek().is_none() && unfinished {
            true => torn.extend_from_slice(invalid),
            false if invalid.is_empty() => {}
            false => text.push('\u{fffd}'),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_of_shells_are_told_from_those_of_psql() {
        assert!(["bash-5.2# ", "$ ", "host% "].into_iter().all(is_shells));
        assert!(
            !["postgres=# ", "db-# ", "db(# ", ">>> ", "mysql> ", ""]
                .into_iter()
                .any(is_shells)
        );
    }

    #[test]
    fn lines_that_name_another_are_known() {
        for text in [
            "!!",
            "sudo !$",
            "^x^y",
            "echo \"'\" ; !reb",
            "{!-2,} x",
            "cat <<E\n^x^y",
            "echo $'\\'' !reb",
            "\"!reb\"",
            "\\$!reb x",
            "{ # it's\n!reb",
        ] {
            assert!(names_another(text), "{text}");
        }
        for text in [
            "echo hi!",
            "kill $!",
            "echo ${!name}",
            "echo '!!'",
            "echo \\!x",
            "[ a != b ]",
            "! true",
        ] {
            assert!(!names_another(text), "{text}");
        }
    }
}
