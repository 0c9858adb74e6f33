//! From files to policies: parsed, named, annotated, validated, each thing
//! wrong told with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint, ResourceConstraint, Schema,
    ValidationMode, Validator,
};
use miette::Diagnostic;

use super::annotations::{self, Annotated};
use super::facts::Action;
use super::obligations::Obligations;
use super::question::Names;

/// Most files of policies.
pub const FILES_MAX: usize = 256;
/// Largest file of policies, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Largest sum of the files, in bytes.
pub const BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most policies, all files together.
pub const POLICIES_MAX: usize = 10_000;
/// Deepest nesting of brackets and of `if` in one policy: the engine reads
/// each level on the stack.
pub const NESTING_MAX: usize = 64;
/// Most operators of one policy, for the same reason.
pub const OPERATORS_MAX: usize = 400;
/// Most errors that one load tells.
const ERRORS_MAX: usize = 50;

/// The schema, in Cedar's own syntax.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// What is wrong with a policy, where, and what to do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub struct PolicyError {
    pub file: String,
    /// From 1; 0: the file as a whole.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl PolicyError {
    /// About a file as a whole.
    pub(super) fn whole(file: &str, message: String) -> PolicyError {
        PolicyError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            hint: None,
        }
    }
}

/// One policy, ready to be asked.
pub struct Rule {
    pub policy: Policy,
    pub id: String,
    pub file: String,
    pub permits: bool,
    pub note: Option<String>,
    pub obligations: Obligations,
    pub actions: BTreeSet<Action>,
    /// Its scope names this identity, kind, group or role; none: any.
    pub principal: Option<EntityUid>,
    /// Its scope names this target or label; none: any.
    pub resource: Option<EntityUid>,
}

/// Reads every file.
///
/// # Errors
/// Each thing wrong, by file and line.
pub fn rules(files: &[(String, String)], names: &Names) -> Result<Vec<Rule>, Vec<PolicyError>> {
    let whole = PolicyError::whole;
    if files.len() > FILES_MAX {
        return Err(vec![whole(
            "policies",
            format!("more than {FILES_MAX} files; put some together"),
        )]);
    }
    if let Some((file, _)) = files.iter().find(|(_, text)| text.len() > FILE_BYTES_MAX) {
        return Err(vec![whole(
            file,
            format!("larger than {FILE_BYTES_MAX} bytes; split it"),
        )]);
    }
    if files.iter().map(|(_, text)| text.len()).sum::<usize>() > BYTES_MAX {
        return Err(vec![whole(
            "policies",
            format!("together larger than {BYTES_MAX} bytes"),
        )]);
    }
    let mut errors = Vec::new();
    let mut rules: Vec<Rule> = Vec::new();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for (file, text) in files {
        let source = Source { file, text };
        for (offset, read) in source.read(names) {
            match read {
                Err(found) => errors.extend(found),
                Ok(rule) => match seen.insert(rule.id.clone(), file.clone()) {
                    Some(other) => {
                        let message = format!("another policy is called `{}` already, in {other}", rule.id);
                        errors.push(source.error(offset, message, Some("give this one another @id".to_owned())));
                    }
                    None => rules.push(rule),
                },
            }
        }
    }
    if rules.len() > POLICIES_MAX {
        errors.push(whole("policies", format!("more than {POLICIES_MAX} policies")));
    }
    if errors.is_empty() {
        errors = validate(&rules, files);
    }
    match errors.is_empty() {
        true => Ok(rules),
        false => {
            errors.sort();
            errors.dedup();
            errors.truncate(ERRORS_MAX);
            Err(errors)
        }
    }
}

/// One file.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, offset: usize, message: String, hint: Option<String>) -> PolicyError {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at.saturating_add(1));
        let in_line = before.get(line_start..).unwrap_or("");
        PolicyError {
            file: self.file.to_owned(),
            line: before.matches('\n').count().saturating_add(1),
            column: in_line.chars().count().saturating_add(1),
            message,
            hint,
        }
    }

    fn diagnosed(&self, diagnostic: &(impl Diagnostic + ?Sized)) -> PolicyError {
        let label = diagnostic.labels().and_then(|mut labels| labels.next());
        let offset = label.as_ref().map_or(0, miette::LabeledSpan::offset);
        let message = diagnostic.to_string().replace('\n', ", ");
        let expected = label.as_ref().and_then(|label| label.label().map(str::to_owned));
        let hint = diagnostic.help().map(|help| help.to_string()).or(expected);
        self.error(offset, message, hint.map(|hint| hint.replace('\n', ", ")))
    }

    /// Each policy of the file with its place, in their order.
    fn read(&self, names: &Names) -> Vec<(usize, Result<Rule, Vec<PolicyError>>)> {
        if let Some((offset, message)) = too_deep(self.text) {
            return vec![(offset, Err(vec![self.error(offset, message, None)]))];
        }
        let set: PolicySet = match self.text.parse() {
            Ok(set) => set,
            Err(errors) => {
                let errors: &cedar_policy::ParseErrors = &errors;
                return vec![(0, Err(errors.iter().map(|error| self.diagnosed(error)).collect()))];
            }
        };
        if let Some(template) = set.templates().next() {
            let offset = self.text.find(&template.to_cedar()).unwrap_or(0);
            let message = "a template is not a policy: write what ?principal and ?resource stand for".to_owned();
            return vec![(0, Err(vec![self.error(offset, message, None)]))];
        }
        let mut placed: Vec<(usize, &Policy)> = Vec::new();
        let mut policies: Vec<&Policy> = set.policies().collect();
        policies.sort_by_key(|policy| ordinal(policy.id()));
        let mut from = 0;
        for policy in policies {
            // The engine keeps a policy's own text; in their order each is found once.
            let text = policy.to_cedar().unwrap_or_default();
            let rest = self.text.get(from..).unwrap_or("");
            let at = rest.find(&text).map_or(from, |at| from.saturating_add(at));
            placed.push((at, policy));
            from = at.saturating_add(text.len());
        }
        placed
            .into_iter()
            .map(|(at, policy)| (at, self.rule(at, policy, names)))
            .collect()
    }

    fn rule(&self, at: usize, policy: &Policy, names: &Names) -> Result<Rule, Vec<PolicyError>> {
        let permits = matches!(policy.effect(), Effect::Permit);
        let actions: BTreeSet<Action> = match policy.action_constraint() {
            ActionConstraint::Any => Action::ALL.into_iter().collect(),
            ActionConstraint::Eq(uid) => names.action(&uid).into_iter().collect(),
            ActionConstraint::In(uids) => uids.iter().filter_map(|uid| names.action(uid)).collect(),
        };
        let Annotated { id, note, obligations } =
            annotations::read(policy.annotations(), permits, &actions).map_err(|wrong| {
                let told = wrong.into_iter().map(|message| self.error(at, message, None));
                told.collect::<Vec<_>>()
            })?;
        Ok(Rule {
            // A duplicate is told by the caller, before the engine would see it.
            policy: policy.new_id(PolicyId::new(&id)),
            id,
            file: self.file.to_owned(),
            permits,
            note,
            obligations,
            actions,
            principal: match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
                PrincipalConstraint::In(uid) | PrincipalConstraint::Eq(uid) | PrincipalConstraint::IsIn(_, uid) => {
                    Some(uid)
                }
            },
            resource: match policy.resource_constraint() {
                ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
                ResourceConstraint::In(uid) | ResourceConstraint::Eq(uid) | ResourceConstraint::IsIn(_, uid) => {
                    Some(uid)
                }
            },
        })
    }
}

/// Where a policy goes deeper than the engine's stack may be asked to, and why
/// that is refused. Text in quotes and comments does not count.
fn too_deep(text: &str) -> Option<(usize, String)> {
    let mut bytes = text.bytes().enumerate().peekable();
    let (mut open, mut ifs, mut operators) = (0usize, 0usize, 0usize);
    let mut word = String::new();
    while let Some((at, byte)) = bytes.next() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            word.push(char::from(byte));
            continue;
        }
        ifs = ifs.saturating_add(usize::from(word == "if"));
        word.clear();
        match byte {
            b'"' => {
                while let Some((_, inside)) = bytes.next() {
                    match inside {
                        b'\\' => drop(bytes.next()),
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek().is_some_and(|(_, next)| *next == b'/') => {
                while bytes.next().is_some_and(|(_, inside)| inside != b'\n') {}
            }
            b'(' | b'[' | b'{' => open = open.saturating_add(1),
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b';' => (open, ifs, operators) = (0, 0, 0),
            b'&' | b'|' | b'+' | b'-' | b'*' | b'.' | b'!' => operators = operators.saturating_add(1),
            _ => {}
        }
        if open.saturating_add(ifs) > NESTING_MAX {
            return Some((
                at,
                format!("nested deeper than {NESTING_MAX}; write it flatter, or as several policies"),
            ));
        }
        if operators > OPERATORS_MAX {
            return Some((
                at,
                format!("more than {OPERATORS_MAX} operators in one policy; split it"),
            ));
        }
    }
    None
}

/// The engine numbers the policies of a text: `policy0`, `policy1`, …
fn ordinal(id: &PolicyId) -> usize {
    let id: &str = id.as_ref();
    id.trim_start_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap_or(usize::MAX)
}

/// Holds the policies against the schema. What the engine only warns of (a
/// condition that is never true, look-alike letters) is an error too.
fn validate(rules: &[Rule], files: &[(String, String)]) -> Vec<PolicyError> {
    let schema = match Schema::from_cedarschema_str(SCHEMA) {
        Ok((schema, _)) => schema,
        Err(error) => {
            let source = Source {
                file: "schema.cedarschema",
                text: SCHEMA,
            };
            return vec![source.diagnosed(&error)];
        }
    };
    let of = |id: &PolicyId| -> Source<'_> {
        let name: &str = id.as_ref();
        let rule = rules.iter().find(|rule| rule.id == name);
        let found = rule.and_then(|rule| files.iter().find(|(file, _)| *file == rule.file));
        match found {
            Some((file, text)) => Source { file, text },
            None => Source {
                file: "policies",
                text: "",
            },
        }
    };
    let set = match PolicySet::from_policies(rules.iter().map(|rule| rule.policy.clone())) {
        Ok(set) => set,
        Err(error) => {
            let source = Source {
                file: "policies",
                text: "",
            };
            return vec![source.diagnosed(&error)];
        }
    };
    let result = Validator::new(schema).validate(&set, ValidationMode::Strict);
    let errors: Vec<PolicyError> = result
        .validation_errors()
        .map(|error| of(error.policy_id()).diagnosed(error))
        .collect();
    if !errors.is_empty() {
        // A name that is unknown also makes its policy one that never matches.
        return errors;
    }
    result
        .validation_warnings()
        .map(|warning| of(warning.policy_id()).diagnosed(warning))
        .collect()
}
