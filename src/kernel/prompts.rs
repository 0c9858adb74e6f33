//! What a target's keyboard-interactive prompts are answered with (RFC 4256).
//!
//! Only what is known for sure is answered: a login where one is asked for, a
//! secret where nothing is echoed, each secret once. Anything else, above all
//! a target that wants another password, is for a person.

/// Most rounds of prompts in one login.
pub const ROUNDS_MAX: usize = 8;
/// Most secrets of one login: a password and what comes after it.
pub const ANSWERS_MAX: usize = 4;

/// One prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prompt<'a> {
    pub text: &'a str,
    /// Whether what is typed is shown.
    pub echo: bool,
}

/// What a prompt is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The login at the target.
    Login,
    /// The secret with this number, from 0.
    Secret(usize),
}

/// Why prompts were not answered. Texts hold the target's words as they came.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unanswered {
    #[error("it wants the password changed (`{0}`): change it by hand, and in the credential source")]
    Change(String),
    #[error("it asks `{0}`, and we know no answer to that")]
    Unknown(String),
    #[error("it asks `{0}` once more than there are secrets: are they right?")]
    NoMore(String),
    #[error("it asks and asks: more than {ROUNDS_MAX} rounds")]
    TooManyRounds,
}

impl Unanswered {
    /// The same with the target's words put as `told` puts them.
    pub fn with(self, told: impl FnOnce(&str) -> String) -> Unanswered {
        match self {
            Unanswered::Change(text) => Unanswered::Change(told(&text)),
            Unanswered::Unknown(text) => Unanswered::Unknown(told(&text)),
            Unanswered::NoMore(text) => Unanswered::NoMore(told(&text)),
            Unanswered::TooManyRounds => Unanswered::TooManyRounds,
        }
    }
}

/// The prompts of one login, round by round.
#[derive(Debug)]
pub struct Prompts {
    secrets: usize,
    used: usize,
    rounds: usize,
}

/// Words of a prompt or a notice that is about another password, not this one.
const CHANGE: &[&str] = &[
    "new", "change", "changed", "changing", "expired", "retype", "reenter", "repeat", "again", "confirm", "current",
    "old",
];
/// What prompts for a login are called.
const LOGIN: &[&str] = &[
    "user",
    "username",
    "user name",
    "login",
    "login name",
    "login as",
    "account",
    "name",
];

impl Prompts {
    /// For a login with so many secrets.
    pub fn new(secrets: usize) -> Prompts {
        Prompts {
            secrets,
            used: 0,
            rounds: 0,
        }
    }

    /// The answers to one round, in its order.
    ///
    /// # Errors
    /// [`Unanswered`]: nothing of this round may be answered.
    pub fn round(&mut self, name: &str, instructions: &str, prompts: &[Prompt<'_>]) -> Result<Vec<Answer>, Unanswered> {
        self.rounds = self.rounds.saturating_add(1);
        if self.rounds > ROUNDS_MAX {
            return Err(Unanswered::TooManyRounds);
        }
        let around = [name, instructions].into_iter();
        if let Some(text) = around
            .chain(prompts.iter().map(|prompt| prompt.text))
            .find(|text| is_about_a_change(text))
        {
            return Err(Unanswered::Change(text.to_owned()));
        }
        prompts.iter().map(|prompt| self.answer(*prompt)).collect()
    }

    fn answer(&mut self, prompt: Prompt<'_>) -> Result<Answer, Unanswered> {
        if prompt.echo {
            return match LOGIN.contains(&words(prompt.text).as_str()) {
                true => Ok(Answer::Login),
                false => Err(Unanswered::Unknown(prompt.text.to_owned())),
            };
        }
        // A password that was wrong is asked for again: the same one is no
        // better, and the account might be locked for it.
        if self.used >= self.secrets {
            return Err(Unanswered::NoMore(prompt.text.to_owned()));
        }
        let number = self.used;
        self.used = number.saturating_add(1);
        Ok(Answer::Secret(number))
    }
}

/// Its words in small letters, without what is around them.
fn words(text: &str) -> String {
    let parts = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|part| !part.is_empty());
    parts.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

fn is_about_a_change(text: &str) -> bool {
    let spaced = format!(" {} ", words(text));
    CHANGE.iter().any(|word| spaced.contains(&format!(" {word} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, echo: bool) -> Prompt<'_> {
        Prompt { text, echo }
    }

    #[test]
    fn the_usual_prompts_are_answered() {
        for text in [
            "Password: ",
            "password:",
            "root@db1's password: ",
            "Enter PASSCODE:",
            "(root@newyork) Password:",
            "",
        ] {
            let round = Prompts::new(1).round("", "", &[asked(text, false)]);
            assert_eq!(round, Ok(vec![Answer::Secret(0)]), "{text}");
        }
        for text in ["login: ", "Username:", "User Name:", "user:", "Login as >"] {
            let round = Prompts::new(1).round("", "", &[asked(text, true), asked("Password:", false)]);
            assert_eq!(round, Ok(vec![Answer::Login, Answer::Secret(0)]), "{text}");
        }
    }

    #[test]
    fn secrets_are_used_in_order_and_once() {
        let mut two = Prompts::new(2);
        assert_eq!(two.round("", "", &[]), Ok(vec![]));
        assert_eq!(
            two.round("", "", &[asked("Password:", false)]),
            Ok(vec![Answer::Secret(0)])
        );
        assert_eq!(
            two.round("", "", &[asked("Token:", false)]),
            Ok(vec![Answer::Secret(1)])
        );
        assert_eq!(
            two.round("", "", &[asked("Password:", false)]),
            Err(Unanswered::NoMore("Password:".to_owned()))
        );
    }

    #[test]
    fn another_password_is_for_a_person() {
        for (name, instructions, prompt) in [
            ("", "", "New password: "),
            ("", "", "Retype new password:"),
            ("", "", "(current) UNIX password: "),
            ("", "", "Enter old password:"),
            ("Password expired", "", "Password:"),
            ("", "You are required to change your password immediately.", "Password:"),
            ("", "", "Confirm password"),
            ("", "Your password has EXPIRED", "Password:"),
        ] {
            let round = Prompts::new(3).round(name, instructions, &[asked(prompt, false)]);
            assert!(
                matches!(round, Err(Unanswered::Change(_))),
                "{name} {instructions} {prompt}"
            );
        }
        // One of them is enough, wherever it stands in a round.
        let both = [asked("Password:", false), asked("New password:", false)];
        assert!(matches!(
            Prompts::new(3).round("", "", &both),
            Err(Unanswered::Change(_))
        ));
        // Nothing but a warning.
        let warned = Prompts::new(1).round("", "Your password will expire in 5 days.", &[asked("Password:", false)]);
        assert_eq!(warned, Ok(vec![Answer::Secret(0)]));
    }

    #[test]
    fn what_is_not_known_is_not_answered() {
        for text in [
            "Favourite colour?",
            "Password: ",
            "",
            "Press Enter to go on",
            "username or email or domain",
        ] {
            let round = Prompts::new(1).round("", "", &[asked(text, true)]);
            assert_eq!(round, Err(Unanswered::Unknown(text.to_owned())), "{text}");
        }
        let mut endless = Prompts::new(1);
        for _ in 0..ROUNDS_MAX {
            assert!(endless.round("", "", &[]).is_ok());
        }
        assert_eq!(endless.round("", "", &[]), Err(Unanswered::TooManyRounds));
    }
}
