//! Several sessions on one page, as a vendor's visit: what is said of all of them, and each.

use serde::Serialize;

use crate::plain;
use crate::summary::{Summary, text};
use crate::verdict::SCHEMA;

/// Several sessions on one page.
#[derive(Debug, Serialize)]
pub struct Whole<'s> {
    /// Shape of this object.
    pub schema: u32,
    /// What is said of all of them, name and value.
    pub facts: Vec<(String, String)>,
    /// Each, in their order.
    pub summaries: &'s [Summary],
}

impl<'s> Whole<'s> {
    /// Of these, of so many that there were; `missing` says of each other one why it is not here.
    pub fn of(summaries: &'s [Summary], there_are: usize, missing: &[String]) -> Whole<'s> {
        let count = format!("{}, of {there_are}", summaries.len());
        let mut facts = vec![("sessions".to_owned(), count)];
        facts.extend(totals(summaries));
        // What is known of one grant is said of all of them only if it is theirs.
        let mut grants = summaries
            .iter()
            .map(|one| one.session.as_ref().map(|session| &session.grant));
        let first = grants.next();
        let known = summaries.iter().find_map(|summary| summary.known.as_ref());
        if let Some(known) = known.filter(|_| grants.all(|grant| Some(grant) == first)) {
            facts.extend(known.facts.iter().cloned());
        }
        facts.extend(missing.iter().map(|why| ("not here".to_owned(), why.clone())));
        Whole {
            schema: SCHEMA,
            facts,
            summaries,
        }
    }
}

/// Sums over all sessions.
fn totals(summaries: &[Summary]) -> Vec<(String, String)> {
    let sum = |of: &dyn Fn(&Summary) -> u64| summaries.iter().map(of).fold(0u64, u64::saturating_add);
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let mut labels = std::collections::BTreeMap::new();
    for (label, n) in summaries.iter().flat_map(|summary| &summary.commands.labels) {
        let total: &mut u64 = labels.entry(label.as_str()).or_default();
        *total = total.saturating_add(*n);
    }
    let labels: Vec<String> = labels.iter().map(|(label, n)| format!("{label} {n}")).collect();
    let files = format!(
        "{} up ({} bytes), {} down ({} bytes), {} changed, {} refused",
        sum(&|one| one.files.uploads),
        sum(&|one| one.files.upload_bytes),
        sum(&|one| one.files.downloads),
        sum(&|one| one.files.download_bytes),
        sum(&|one| one.files.changes),
        sum(&|one| one.files.refused)
    );
    let hidden = format!(
        "{} lines not shown, {} times run unseen",
        sum(&|one| one.hidden.lines),
        sum(&|one| one.hidden.commands)
    );
    let named = [
        ("commands", sum(&|one| one.commands.total).to_string()),
        ("labels", labels.join(", ")),
        ("files", files),
        (
            "denials",
            sum(&|one| count(one.denials.len()).saturating_add(one.denials_more)).to_string(),
        ),
        ("hidden input", hidden),
    ];
    named
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The same as plain text.
pub fn words(heading: &str, whole: &Whole<'_>) -> String {
    let mut said = format!("{}\n\n", plain::line(heading));
    for (name, value) in &whole.facts {
        said += &format!("{name:<13} {}\n", plain::line(value));
    }
    for summary in whole.summaries {
        said += &format!("\n== {}\n{}", plain::line(&summary.title()), text(summary));
    }
    said
}
