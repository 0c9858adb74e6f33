//! The policies in force, and the decision that they make over [`Facts`].
//!
//! Policies are sorted by action and by what their scope names, so that a
//! decision reads the few that can match. A forbid beats every permit; what
//! nothing permits is refused; a forbid that cannot be evaluated refuses.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use cedar_policy::{AuthorizationError, Authorizer, Decision, EntityUid, PolicySet};
use sha2::{Digest, Sha256};

use super::facts::{Action, Facts};
use super::load::{self, PolicyError, Rule};
use super::obligations::Obligations;
use super::question::{Names, Question};
use crate::kernel::labels::{self, Labels};

/// Name of the file that a new state folder begins with.
pub const DEFAULT_FILE: &str = "default.cedar";
/// The policies of a new state folder, and of one that has none.
pub const DEFAULT: &str = include_str!("default.cedar");
/// File beside the policies that says what commands are about.
pub const LABELS_FILE: &str = "labels.toml";
/// Most permits that an explanation names as near.
pub const NEAREST_MAX: usize = 5;
/// What the digest of policies begins with, so that it is no other hash.
const DIGEST_DOMAIN: &[u8] = b"portcullis policies v1\n";

/// What was decided, and by which policies.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Verdict {
    pub allowed: bool,
    /// Ids of the policies that made it, sorted: every permit of a yes, every
    /// forbid of a no. Empty: nothing permits it.
    pub rules: Vec<String>,
    /// All that they demand.
    pub obligations: Obligations,
    /// Policies that could not be evaluated, as sentences.
    pub errors: Vec<String>,
}

/// One policy as an explanation tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    pub id: String,
    pub permits: bool,
    pub file: String,
    /// What its `@note` says.
    pub note: Option<String>,
}

/// A verdict in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    pub verdict: Verdict,
    /// The policies that made it.
    pub rules: Vec<Told>,
    /// For a no that nothing permits: permits of this action that did not
    /// match, those whose scope fits first, at most [`NEAREST_MAX`].
    pub nearest: Vec<Told>,
    /// One sentence: yes or no, who, what, which rule, and what to do.
    pub sentence: String,
}

/// The policies whose scope names the same principal and the same resource.
type ByResource = HashMap<Option<EntityUid>, PolicySet>;

/// Policies, validated and sorted.
pub struct Policies {
    names: Names,
    labels: Arc<Labels>,
    authorizer: Authorizer,
    rules: HashMap<String, Rule>,
    sorted: BTreeMap<Action, HashMap<Option<EntityUid>, ByResource>>,
    digest: [u8; 32],
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Policies({} rules)", self.rules.len())
    }
}

impl Policies {
    /// Whether a rule over `connect` may ask for somebody's yes.
    pub fn approve_connections(&self) -> bool {
        let asks = |rule: &Rule| rule.actions.contains(&Action::Connect) && rule.obligations.asks();
        self.rules.values().any(asks)
    }

    /// Whether a rule names the action `transfer`: then each file is asked about.
    pub fn ask_about_files(&self) -> bool {
        let names = |rule: &Rule| rule.actions.contains(&Action::Transfer) && rule.actions.len() < Action::ALL.len();
        self.rules.values().any(names)
    }

    /// The first of these rules that demands something at an Enter.
    pub fn demanding<'a>(&self, rules: &'a [String]) -> Option<&'a str> {
        let demands = |id: &&String| self.rules.get(*id).is_some_and(|rule| rule.obligations.at_enter());
        rules.iter().find(demands).map(String::as_str)
    }

    /// Whether a rule that names the action `command` could say anything but
    /// a plain yes to whom these facts are of: then each Enter is asked about.
    pub fn ask_about_commands(&self, facts: &Facts) -> bool {
        let facts = Facts {
            action: Action::Command,
            ..facts.clone()
        };
        let Ok(question) = self.names.question(&facts, &self.labels) else {
            return true;
        };
        let candidates = self.candidates(Action::Command, &question);
        let fitting = candidates.into_iter().flat_map(PolicySet::policies);
        let rules = fitting.filter_map(|policy| self.rules.get::<str>(policy.id().as_ref()));
        let naming: Vec<&Rule> = rules.filter(|rule| rule.actions.len() < Action::ALL.len()).collect();
        let plain =
            |rule: &&Rule| rule.permits && !rule.policy.has_non_scope_constraint() && !rule.obligations.at_enter();
        let says_more = |rule: &&Rule| !rule.permits || rule.obligations.at_enter();
        let named = self
            .rules
            .values()
            .any(|rule| rule.actions.contains(&Action::Command) && rule.actions.len() < Action::ALL.len());
        // Where nothing permits for certain, what nothing permits is refused.
        naming.iter().any(says_more) || (named && !naming.iter().any(plain))
    }

    /// Reads, validates and sorts the policies of these files (name, text). A
    /// file called [`LABELS_FILE`] replaces the built-in labels of commands.
    ///
    /// # Errors
    /// Each thing wrong, by file and line.
    pub fn load(files: &[(String, String)]) -> Result<Policies, Vec<PolicyError>> {
        let broken = |message: String| vec![PolicyError::whole("policies", message)];
        let names = Names::new().map_err(broken)?;
        let (own, cedar): (Vec<_>, Vec<_>) = files.iter().cloned().partition(|(name, _)| name == LABELS_FILE);
        let labels = own.first().map_or(labels::BUILTIN, |(_, text)| text);
        let labels = Labels::load(labels).map_err(|why| vec![PolicyError::whole(LABELS_FILE, why)])?;
        let rules = load::rules(&cedar, &names)?;
        let mut sorted: BTreeMap<Action, HashMap<Option<EntityUid>, ByResource>> = BTreeMap::new();
        for rule in &rules {
            for action in &rule.actions {
                let by_resource = sorted
                    .entry(*action)
                    .or_default()
                    .entry(rule.principal.clone())
                    .or_default();
                let set = by_resource.entry(rule.resource.clone()).or_default();
                set.add(rule.policy.clone())
                    .map_err(|error| broken(error.to_string()))?;
            }
        }
        Ok(Policies {
            names,
            labels: Arc::new(labels),
            authorizer: Authorizer::new(),
            rules: rules.into_iter().map(|rule| (rule.id.clone(), rule)).collect(),
            sorted,
            digest: digest(files),
        })
    }

    /// The policies of a state folder that has none.
    ///
    /// # Errors
    /// As [`Policies::load`]; never, as the tests show.
    pub fn builtin() -> Result<Policies, Vec<PolicyError>> {
        Policies::load(&[(DEFAULT_FILE.to_owned(), DEFAULT.to_owned())])
    }

    /// SHA-256 over the files' names and texts, whatever their order.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.rules.len()
    }

    /// Every policy, by id.
    pub fn rules(&self) -> Vec<Told> {
        let mut rules: Vec<Told> = self.rules.values().map(told).collect();
        rules.sort_by(|one, other| one.id.cmp(&other.id));
        rules
    }

    /// What is known of commands. A decision adds these labels by itself.
    pub fn labels(&self) -> &Arc<Labels> {
        &self.labels
    }

    /// Decides.
    pub fn decide(&self, facts: &Facts) -> Verdict {
        match self.names.question(facts, &self.labels) {
            Ok(question) => self.answer(facts.action, &question),
            Err(why) => Verdict {
                allowed: false,
                rules: Vec::new(),
                obligations: Obligations::default(),
                errors: vec![format!("the request cannot be put before the policies: {why}")],
            },
        }
    }

    fn answer(&self, action: Action, question: &Question) -> Verdict {
        let mut permits = BTreeSet::new();
        let mut forbids = BTreeSet::new();
        let mut errors = Vec::new();
        for set in self.candidates(action, question) {
            let response = self
                .authorizer
                .is_authorized(&question.request, set, &question.entities);
            let reasons = response.diagnostics().reason().map(|id| id.to_string());
            match response.decision() {
                Decision::Allow => permits.extend(reasons),
                Decision::Deny => forbids.extend(reasons),
            }
            for AuthorizationError::PolicyEvaluationError(error) in response.diagnostics().errors() {
                let id = error.policy_id().to_string();
                errors.push(format!("policy {id} cannot be evaluated: {}", error.inner()));
                // Nobody knows what a broken forbid would have said.
                if self.rules.get(&id).is_none_or(|rule| !rule.permits) {
                    forbids.insert(id);
                }
            }
        }
        errors.sort();
        let allowed = forbids.is_empty() && !permits.is_empty();
        let rules: Vec<String> = match forbids.is_empty() {
            true => permits.into_iter().collect(),
            false => forbids.into_iter().collect(),
        };
        let demanded = rules.iter().filter_map(|id| self.rules.get(id));
        Verdict {
            allowed,
            obligations: demanded.fold(Obligations::default(), |all, rule| all.meet(&rule.obligations)),
            rules,
            errors,
        }
    }

    /// The sets that hold every policy whose scope fits the question.
    fn candidates<'a>(&'a self, action: Action, question: &Question) -> Vec<&'a PolicySet> {
        let Some(by_principal) = self.sorted.get(&action) else {
            return Vec::new();
        };
        let principals = std::iter::once(None).chain(question.principals.iter().cloned().map(Some));
        let resources: Vec<Option<EntityUid>> = std::iter::once(None)
            .chain(question.resources.iter().cloned().map(Some))
            .collect();
        principals
            .filter_map(|principal| by_principal.get(&principal))
            .flat_map(|by_resource| resources.iter().filter_map(|resource| by_resource.get(resource)))
            .collect()
    }

    /// Decides, and says why.
    pub fn explain(&self, facts: &Facts) -> Explanation {
        self.tell(facts, self.decide(facts))
    }

    /// Says why a verdict over these facts came out as it did.
    pub fn tell(&self, facts: &Facts, verdict: Verdict) -> Explanation {
        let rules: Vec<Told> = verdict
            .rules
            .iter()
            .filter_map(|id| self.rules.get(id))
            .map(told)
            .collect();
        let nearest = match verdict.allowed || !rules.is_empty() {
            true => Vec::new(),
            false => self.nearest(facts),
        };
        let sentence = sentence(facts, &verdict, &rules);
        Explanation {
            verdict,
            rules,
            nearest,
            sentence,
        }
    }

    /// Permits of the action, those whose scope fits first.
    fn nearest(&self, facts: &Facts) -> Vec<Told> {
        let (principals, resources) = match self.names.question(facts, &self.labels) {
            Ok(question) => (question.principals, question.resources),
            Err(_) => (Vec::new(), Vec::new()),
        };
        let fits = |scope: &Option<EntityUid>, among: &[EntityUid]| match scope {
            Some(uid) => among.contains(uid),
            None => true,
        };
        let mut permits: Vec<(usize, &Rule)> = self
            .rules
            .values()
            .filter(|rule| rule.permits && rule.actions.contains(&facts.action))
            .map(|rule| {
                let misses = [fits(&rule.principal, &principals), fits(&rule.resource, &resources)];
                (misses.iter().filter(|fit| !**fit).count(), rule)
            })
            .collect();
        permits.sort_by(|(misses, rule), (more, other)| misses.cmp(more).then_with(|| rule.id.cmp(&other.id)));
        permits
            .into_iter()
            .take(NEAREST_MAX)
            .map(|(_, rule)| told(rule))
            .collect()
    }
}

fn told(rule: &Rule) -> Told {
    Told {
        id: rule.id.clone(),
        permits: rule.permits,
        file: rule.file.clone(),
        note: rule.note.clone(),
    }
}

/// Yes or no, who, what, which rule, and what to do.
fn sentence(facts: &Facts, verdict: &Verdict, rules: &[Told]) -> String {
    let (who, action) = (&facts.who.name, facts.action.as_str());
    let place = place(facts);
    let named = |rule: &Told| match &rule.note {
        Some(note) => format!("{} ({note})", rule.id),
        None => rule.id.clone(),
    };
    let by: Vec<String> = rules.iter().map(named).collect();
    let by = by.join(" and ");
    match (verdict.allowed, verdict.rules.is_empty()) {
        (true, _) => format!("yes: {who} may {action}{place}, says rule {by}"),
        (false, false) => format!("no: {who} may not {action}{place}, says rule {by}"),
        (false, true) => {
            let ask = match (&facts.target, facts.action) {
                (
                    Some(target),
                    Action::Connect | Action::Shell | Action::Exec | Action::Subsystem | Action::Forward,
                ) => {
                    let login = if facts.login.is_empty() { "LOGIN" } else { &facts.login };
                    format!(
                        "; ask for access: portcullis request {login}@{} --for 30m --reason TEXT",
                        target.name
                    )
                }
                _ => String::new(),
            };
            format!("no: no rule lets {who} {action}{place}{ask}")
        }
    }
}

/// ` at root@db1`, as far as it is known.
fn place(facts: &Facts) -> String {
    match (&facts.target, facts.login.is_empty()) {
        (Some(target), false) => format!(" at {}@{}", facts.login, target.name),
        (Some(target), true) => format!(" at {}", target.name),
        (None, _) => String::new(),
    }
}

fn digest(files: &[(String, String)]) -> [u8; 32] {
    let mut files: Vec<&(String, String)> = files.iter().collect();
    files.sort();
    let mut hash = Sha256::new().chain_update(DIGEST_DOMAIN);
    for (name, text) in files {
        // Lengths keep one file's end from passing for another's beginning.
        for part in [name, text] {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            hash.update(length.to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().into()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
