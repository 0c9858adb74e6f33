//! Policies: check them, try them on cases, see them, and hold past decisions
//! against new ones. All but `backtest` need no server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use super::duration::duration;
use super::exit::{CliError, Exit};
use super::output::{self, clean};
use super::{Common, Session, read_text};
use crate::api::wire::SCHEMA;
use crate::kernel::grant::hex32;
use crate::kernel::policy::backtest::{Change, Past, backtest};
use crate::kernel::policy::cases;
use crate::kernel::policy::engine::{Policies, Told, Verdict};
use crate::kernel::policy::obligations::Obligations;
use crate::policies::{self, Files, Unusable};

/// `policy`'s commands.
#[derive(Subcommand, Debug)]
pub enum PolicyCommand {
    /// Read and validate policies, and change nothing
    Check(Folder),
    /// Run cases (TOML) on policies; each case says what has to come out
    Test {
        /// Files of cases
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        #[command(flatten)]
        folder: Folder,
    },
    /// List policies, or print their text
    Show {
        /// Print the files as they are
        #[arg(long)]
        text: bool,
        /// The default policies
        #[arg(long, conflicts_with = "policies")]
        default: bool,
        #[command(flatten)]
        folder: Folder,
    },
    /// What past decisions would have been under new policies
    Backtest {
        /// Folder of the new policies
        #[arg(long, value_name = "DIR")]
        policies: PathBuf,
        /// How far back, such as 30d
        #[arg(long, value_name = "TIME", default_value = "30d", value_parser = duration)]
        since: Duration,
    },
}

/// Which policies.
#[derive(Args, Debug)]
pub struct Folder {
    /// Folder of policies (*.cedar); default: the configuration's
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

impl Folder {
    /// Its files, and what to call it.
    fn files(&self, common: &Common) -> Result<(String, Files), CliError> {
        if let Some(dir) = &self.policies {
            return Ok((dir.display().to_string(), policies::read(dir)?));
        }
        let policy = common
            .load()
            .map_err(|error| match &error.hint {
                Some(hint) => error
                    .clone()
                    .hint(format!("{hint}; or name a folder with --policies DIR")),
                None => error,
            })?
            .policy;
        match policy.dir_named || policy.dir.exists() {
            true => Ok((policy.dir.display().to_string(), policies::read(&policy.dir)?)),
            false => Ok(("the default policies".to_owned(), policies::default_files())),
        }
    }

    fn load(&self, common: &Common) -> Result<(String, Policies), CliError> {
        let (name, files) = self.files(common)?;
        let policies = valid(Path::new(&name), &files)?;
        Ok((name, policies))
    }
}

fn valid(dir: &Path, files: &Files) -> Result<Policies, CliError> {
    let wrong = |errors| Unusable::Wrong {
        dir: dir.to_owned(),
        errors,
    };
    Policies::load(files).map_err(|errors| wrong(errors).into())
}

impl From<Unusable> for CliError {
    fn from(error: Unusable) -> CliError {
        let missing = matches!(&error, Unusable::Read { error, .. }
            if error.kind() == std::io::ErrorKind::NotFound);
        let exit = if missing { Exit::NotFound } else { Exit::Failed };
        CliError::new(exit, error.to_string())
    }
}

pub async fn run(common: &Common, command: &PolicyCommand) -> Result<Exit, CliError> {
    match command {
        PolicyCommand::Check(folder) => check(common, folder),
        PolicyCommand::Test { files, folder } => test(common, files, folder),
        PolicyCommand::Show { text, default, folder } => show(common, *text, *default, folder),
        PolicyCommand::Backtest { policies, since } => past(common, policies, *since).await,
    }
}

#[derive(Serialize)]
struct Checked {
    schema: u32,
    ok: bool,
    policies: usize,
    digest: String,
}

fn check(common: &Common, folder: &Folder) -> Result<Exit, CliError> {
    let (name, policies) = folder.load(common)?;
    let checked = Checked {
        schema: SCHEMA,
        ok: true,
        policies: policies.count(),
        digest: hex32::encode(&policies.digest()),
    };
    common.output().data(&checked, || {
        format!("ok   {name}: {} policies, {}\n", checked.policies, checked.digest)
    })?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct Tested {
    schema: u32,
    ok: bool,
    cases: Vec<Case>,
}

#[derive(Serialize)]
struct Case {
    file: String,
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
}

fn test(common: &Common, files: &[PathBuf], folder: &Folder) -> Result<Exit, CliError> {
    let (_, policies) = folder.load(common)?;
    let mut all = Vec::new();
    for path in files {
        let text = read_text(path, cases::FILE_BYTES_MAX as u64)?;
        let file = path.display().to_string();
        let outcomes = cases::run(&policies, &text).map_err(|why| CliError::failed(format!("{file}: {why}")))?;
        all.extend(outcomes.into_iter().map(|outcome| Case {
            file: file.clone(),
            name: outcome.name,
            ok: outcome.failure.is_none(),
            failure: outcome.failure,
        }));
    }
    let tested = Tested {
        schema: SCHEMA,
        ok: all.iter().all(|case| case.ok),
        cases: all,
    };
    let output = common.output();
    output.data(&tested, || {
        let line = |case: &Case| match &case.failure {
            None => format!("ok   {}\n", clean(&case.name, usize::MAX)),
            Some(failure) => format!(
                "BAD  {}: {}\n",
                clean(&case.name, usize::MAX),
                clean(failure, usize::MAX)
            ),
        };
        tested.cases.iter().map(line).collect()
    })?;
    let failed = tested.cases.iter().filter(|case| !case.ok).count();
    output.say(match failed {
        0 => format!("{} cases, each as expected.", tested.cases.len()),
        failed => format!("{failed} of {} cases came out otherwise.", tested.cases.len()),
    });
    Ok(if tested.ok { Exit::Ok } else { Exit::Failed })
}

#[derive(Serialize)]
struct Shown {
    schema: u32,
    digest: String,
    rules: Vec<Rule>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File>,
}

#[derive(Serialize)]
struct Rule {
    id: String,
    effect: &'static str,
    file: String,
    note: Option<String>,
}

#[derive(Serialize)]
struct File {
    name: String,
    text: String,
}

impl From<Told> for Rule {
    fn from(told: Told) -> Rule {
        Rule {
            id: told.id,
            effect: if told.permits { "permit" } else { "forbid" },
            file: told.file,
            note: told.note,
        }
    }
}

fn show(common: &Common, text: bool, default: bool, folder: &Folder) -> Result<Exit, CliError> {
    let (name, files) = match default {
        true => ("the default policies".to_owned(), policies::default_files()),
        false => folder.files(common)?,
    };
    let policies = valid(Path::new(&name), &files)?;
    let files = files.into_iter().map(|(name, text)| File { name, text });
    let shown = Shown {
        schema: SCHEMA,
        digest: hex32::encode(&policies.digest()),
        rules: policies.rules().into_iter().map(Rule::from).collect(),
        files: files.filter(|_| text).collect(),
    };
    let output = common.output();
    output.data(&shown, || match text {
        true => shown.files.iter().map(|file| file.text.as_str()).collect(),
        false => {
            let row = |rule: &Rule| {
                let note = rule.note.clone().unwrap_or_default();
                vec![rule.id.clone(), rule.effect.to_owned(), rule.file.clone(), note]
            };
            let rows: Vec<Vec<String>> = shown.rules.iter().map(row).collect();
            output::table(&["RULE", "EFFECT", "FILE", "NOTE"], &rows)
        }
    })?;
    output.say(format!("{name}: digest {}", shown.digest));
    Ok(Exit::Ok)
}

/// `GET /v1/decisions`.
#[derive(Deserialize)]
struct Decisions {
    decisions: Vec<Past>,
}

#[derive(Serialize)]
struct Backtested {
    schema: u32,
    old_digest: String,
    new_digest: String,
    decisions: usize,
    differences: Vec<Differs>,
}

#[derive(Serialize)]
struct Differs {
    at: String,
    identity: String,
    action: &'static str,
    target: Option<String>,
    change: Change,
    before: Answer,
    after: Answer,
    sentence: String,
}

#[derive(Serialize)]
struct Answer {
    allowed: bool,
    rules: Vec<String>,
    obligations: Obligations,
}

impl From<Verdict> for Answer {
    fn from(verdict: Verdict) -> Answer {
        Answer {
            allowed: verdict.allowed,
            rules: verdict.rules,
            obligations: verdict.obligations,
        }
    }
}

async fn past(common: &Common, dir: &Path, since: Duration) -> Result<Exit, CliError> {
    let new = policies::load(dir, true)?;
    let session = Session::new(common)?;
    let policy = &session.config()?.policy;
    let old = policies::load(&policy.dir, policy.dir_named)?;
    let ago = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let from = session.output.now.saturating_sub(ago);
    let kept: Decisions = session.client.get(&format!("/v1/decisions?since={from}")).await?;
    let differences = backtest(&old, &new, &kept.decisions);
    let told = differences.into_iter().filter_map(|difference| {
        let past = kept.decisions.get(difference.index)?;
        Some(Differs {
            at: past.at.clone(),
            identity: past.facts.who.name.to_string(),
            action: past.facts.action.as_str(),
            target: past.facts.target.as_ref().map(|target| target.name.to_string()),
            change: difference.change,
            before: difference.before.into(),
            after: difference.after.into(),
            sentence: difference.sentence,
        })
    });
    let tested = Backtested {
        schema: SCHEMA,
        old_digest: hex32::encode(&old.digest()),
        new_digest: hex32::encode(&new.digest()),
        decisions: kept.decisions.len(),
        differences: told.collect(),
    };
    session.output.data(&tested, || {
        let row = |differs: &Differs| {
            vec![
                session.output.ago(&differs.at),
                differs.identity.clone(),
                differs.action.to_owned(),
                differs.target.clone().unwrap_or_default(),
                in_words(differs),
            ]
        };
        let rows: Vec<Vec<String>> = tested.differences.iter().map(row).collect();
        output::table(&["WHEN", "IDENTITY", "ACTION", "TARGET", "WOULD BE"], &rows)
    })?;
    session.output.say(format!(
        "{} of {} decisions would have come out otherwise.",
        tested.differences.len(),
        tested.decisions
    ));
    Ok(Exit::Ok)
}

/// What would have been otherwise.
fn in_words(differs: &Differs) -> String {
    match differs.change {
        Change::Refused | Change::Allowed => differs.sentence.clone(),
        Change::Bound => {
            let (before, after) = (&differs.before.obligations, &differs.after.obligations);
            let changed = fields(before)
                .into_iter()
                .zip(fields(after))
                .filter(|((_, before), (_, after))| before != after)
                .map(|((name, before), (_, after))| format!("{name} {before} -> {after}"));
            format!("yes, with {}", changed.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Each obligation by its name, as JSON has it.
fn fields(obligations: &Obligations) -> Vec<(String, String)> {
    match serde_json::to_value(obligations) {
        Ok(serde_json::Value::Object(fields)) => fields
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect(),
        Ok(_) | Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::policy::engine::{DEFAULT, DEFAULT_FILE};

    fn folder(extra: &str) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(DEFAULT_FILE), DEFAULT).unwrap();
        std::fs::write(dir.path().join("own.cedar"), extra).unwrap();
        let policies = Some(dir.path().to_owned());
        (dir, Folder { policies })
    }

    fn exit(result: Result<Exit, CliError>) -> Exit {
        result.unwrap_or_else(|error| error.exit)
    }

    #[test]
    fn checking_and_trying_tell_by_their_exit() {
        let common = Common::default();
        let (dir, good) = folder(
            "@id(\"no-root\") forbid (principal, action == Action::\"connect\", resource) when { context.login == \"root\" };",
        );
        assert_eq!(exit(check(&common, &good)), Exit::Ok);
        assert_eq!(exit(show(&common, false, false, &good)), Exit::Ok);
        let cases = dir.path().join("cases.toml");
        let case = |expect: &str| {
            format!("[[case]]\nname = 'root'\naction = 'connect'\nexpect = '{expect}'\nrule = 'no-root'\n")
        };
        std::fs::write(&cases, case("forbid")).unwrap();
        assert_eq!(exit(test(&common, std::slice::from_ref(&cases), &good)), Exit::Ok);
        std::fs::write(&cases, case("permit")).unwrap();
        assert_eq!(exit(test(&common, std::slice::from_ref(&cases), &good)), Exit::Failed);
        std::fs::write(&cases, "[[case]]\n").unwrap();
        assert!(test(&common, &[cases], &good).is_err());

        let (_dir, bad) = folder("@id(\"x\") permit (principal, action, resource) when { context.tiket == \"\" };");
        let error = check(&common, &bad).unwrap_err();
        assert!(
            error.exit == Exit::Failed && error.message.contains("own.cedar:1:"),
            "{error}"
        );
        let none = Folder {
            policies: Some("/nowhere/policies".into()),
        };
        assert_eq!(exit(check(&common, &none)), Exit::NotFound);
    }
}
