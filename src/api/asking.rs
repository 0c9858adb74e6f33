//! Asking policy on behalf of a caller, and keeping what was asked.

use super::Api;
use super::caller::Caller;
use super::problem::{Code, Problem};
use super::wire::access::{ChallengeFor, SignedChallenge};
use crate::kernel::grant::hex32;
use crate::kernel::id::Destination;
use crate::kernel::inventory::{Identity, Target};
use crate::kernel::policy::facts::{Action, Facts, Proof, Whereto, Who};
use crate::kernel::policy::obligations::Obligations;
use crate::store::DecisionRow;

/// Policy's yes to one thing. Only [`Api::ask`] makes one.
#[derive(Debug)]
#[must_use]
pub struct Yes {
    facts: Facts,
    rules: Vec<String>,
    obligations: Obligations,
    policy_digest: [u8; 32],
}

impl Yes {
    /// Both, for what takes two.
    pub fn and(self, other: Yes) -> Yes {
        let mut rules = self.rules;
        rules.extend(other.rules);
        rules.dedup();
        Yes {
            facts: self.facts,
            rules,
            obligations: self.obligations.meet(&other.obligations),
            policy_digest: other.policy_digest,
        }
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }
    /// Ids of the rules that said it.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }
    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }
    pub fn policy_digest(&self) -> [u8; 32] {
        self.policy_digest
    }
}

impl Api {
    /// What is known of something that `caller` asks for itself.
    pub(super) async fn facts(
        &self,
        caller: &Caller,
        action: Action,
        target: Option<&Target>,
    ) -> Result<Facts, Problem> {
        let who = caller.who()?;
        self.facts_of(caller, action, who, target).await
    }

    /// The same for somebody else, for whom `caller` asks.
    pub(super) async fn facts_of(
        &self,
        caller: &Caller,
        action: Action,
        who: Who,
        target: Option<&Target>,
    ) -> Result<Facts, Problem> {
        let mut facts = self
            .policies
            .facts(action, who, target.map(Whereto::from), caller.source());
        facts.proof = caller.proof().clone();
        Ok(facts)
    }

    /// Asks the policies in force; the decision is kept.
    ///
    /// # Errors
    /// [`Code::Denied`] with the rules that said no, and what to do.
    pub(super) async fn ask(&self, mut facts: Facts) -> Result<Yes, Problem> {
        let unusual = crate::anomaly::look(&*self.store, &facts).await?;
        facts.risk = unusual.risk();
        facts.anomalies = unusual.names();
        let policies = self.policies.now();
        let explained = policies.explain(&facts);
        let verdict = explained.verdict;
        self.metrics.decision(facts.action.as_str(), verdict.allowed);
        let policy_digest = policies.digest();
        let row = DecisionRow {
            at_ms: facts.now_ms,
            facts: facts.clone(),
            allowed: verdict.allowed,
            rules: verdict.rules.clone(),
            policy_digest: hex32::encode(&policy_digest),
        };
        self.notes.decided(row);
        if !verdict.allowed {
            let mut problem = Problem::denied(explained.sentence);
            problem.rules = verdict.rules.into();
            return Err(problem);
        }
        Ok(Yes {
            facts,
            rules: verdict.rules,
            obligations: verdict.obligations,
            policy_digest,
        })
    }

    /// Holds a yes against its step-up: a fresh proof that names the action.
    ///
    /// # Errors
    /// [`Code::StepUp`] when there is none.
    pub(super) async fn step_up(
        &self,
        yes: &Yes,
        whose: &Identity,
        purpose: &ChallengeFor,
        signed: Option<&SignedChallenge>,
    ) -> Result<(), Problem> {
        let Some(within_ms) = yes.obligations.step_up_ms else {
            return Ok(());
        };
        let by = format!("rule {}", yes.rules.join(", "));
        let proven = self.proven(&by, within_ms, (whose, purpose, signed)).await;
        proven.map(drop).map_err(|mut problem| {
            problem.rules = yes.rules.clone().into();
            problem
        })
    }

    /// A proof of somebody for one purpose, not older than that, which `by`
    /// asks for.
    ///
    /// # Errors
    /// [`Code::StepUp`] when there is none, or it is too old.
    pub(super) async fn proven(
        &self,
        by: &str,
        within_ms: u64,
        (whose, purpose, signed): (&Identity, &ChallengeFor, Option<&SignedChallenge>),
    ) -> Result<Proof, Problem> {
        let Some(signed) = signed else {
            let detail = format!("{by} wants a fresh proof of {} for this", whose.name);
            return Err(Problem::new(Code::StepUp, detail)
                .hint("sign a challenge that names the action (the command line does it by itself)"));
        };
        let (_, proof) = self.prove(signed, purpose, Some(&whose.name)).await?;
        match proof.age_ms <= within_ms {
            true => Ok(proof),
            false => Err(Problem::new(Code::StepUp, "the proof is too old")),
        }
    }

    /// The same for a call that carries no proof of its own: the login has to
    /// be young enough.
    ///
    /// # Errors
    /// [`Code::StepUp`] when it is not.
    pub(super) fn fresh_login(yes: &Yes, caller: &Caller) -> Result<(), Problem> {
        match yes.obligations.step_up_ms {
            Some(within_ms) if caller.proof().age_ms > within_ms => {
                let mut problem = Problem::new(
                    Code::StepUp,
                    format!(
                        "rule {} wants a fresh proof of {} for this",
                        yes.rules.join(", "),
                        caller.name()
                    ),
                )
                .hint("log in again: portcullis login");
                problem.rules = yes.rules.clone().into();
                Err(problem)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A target that can be asked for. Who does not oversee the inventory
    /// learns nothing about what is in it.
    pub(super) async fn target_for(&self, caller: &Caller, wanted: &Destination) -> Result<Target, Problem> {
        let name = &wanted.target;
        let found = self.store.target(name).await?;
        match found {
            Some(target) if !target.disabled => Ok(target),
            Some(_) if caller.oversees() => Err(Problem::denied(format!("target {name} is disabled"))),
            None if caller.oversees() => Err(Problem::new(Code::NotFound, format!("there is no target `{name}`"))
                .hint(format!(
                    "add it with `portcullis target add {name}`, or see `portcullis target list`"
                ))),
            Some(_) | None => Err(Problem::denied(format!(
                "no rule lets {} ask for {wanted}",
                caller.name()
            ))),
        }
    }
}
