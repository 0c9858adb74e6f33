//! Shapes of the inventory as a whole: declared, and as it is used.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{IdentityRequest, IdentityView, SCHEMA};
use crate::kernel::id::TargetName;
use crate::kernel::inventory::Target;

envelope! { /// `POST /v1/inventory`. With `dry_run`, `changes` are those that would be made.
Applied { dry_run: bool, changes: Vec<Change> } }
envelope! { /// `GET /v1/inventory`: what needs attention first.
Inventory { identities: Vec<InventoryRow> } }

/// `POST /v1/inventory`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub targets: Vec<Target>,
    #[serde(default)]
    pub identities: Vec<Declared>,
}

/// An identity as a file declares it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    pub identity: IdentityRequest,
    #[serde(default)]
    pub disabled: bool,
    /// Whether the file names the review date.
    #[serde(default)]
    pub review_given: bool,
}

/// What a change is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    Target,
    Identity,
}

/// One thing that becomes different.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub what: What,
    pub name: String,
    /// Not there before.
    pub new: bool,
    /// Each key that changes: before and after.
    pub keys: BTreeMap<String, [serde_json::Value; 2]>,
}

/// One identity, what it may do and what it does.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, ToSchema)]
pub struct InventoryRow {
    pub identity: IdentityView,
    /// Targets that it may ask for.
    pub may_reach: Vec<TargetName>,
    /// In the last 90 days.
    pub used_targets: Vec<String>,
    pub used_capabilities: Vec<String>,
    /// May be reached, and was not in 90 days.
    pub never_targets: Vec<TargetName>,
    pub never_capabilities: Vec<String>,
    pub last_used: Option<String>,
    /// Why somebody should look at it; empty: nothing.
    pub attention: Vec<String>,
}
