//! [`Facts`] in the words of the policy engine: who, where to, and the context.

use std::collections::BTreeMap;
use std::str::FromStr;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression as Value,
};

use super::facts::{Action, Facts, TransferOf};
use crate::kernel::labels::Labels;

/// Names of the entity types, each parsed once.
#[derive(Clone, Debug)]
pub struct Names {
    identity: EntityTypeName,
    kind: EntityTypeName,
    group: EntityTypeName,
    role: EntityTypeName,
    target: EntityTypeName,
    label: EntityTypeName,
    actions: BTreeMap<Action, EntityUid>,
}

/// A question put to the engine.
pub struct Question {
    pub request: Request,
    pub entities: Entities,
    /// Whom a policy's scope can name: the identity, its kind, groups, roles.
    pub principals: Vec<EntityUid>,
    /// What a policy's scope can name: the target and its labels.
    pub resources: Vec<EntityUid>,
}

impl Names {
    /// The names of the schema.
    ///
    /// # Errors
    /// A name that is none; never, as the tests show.
    pub fn new() -> Result<Names, String> {
        let name = |text| EntityTypeName::from_str(text).map_err(|error| error.to_string());
        let action = name("Action")?;
        Ok(Names {
            identity: name("Identity")?,
            kind: name("Kind")?,
            group: name("Group")?,
            role: name("Role")?,
            target: name("Target")?,
            label: name("Label")?,
            actions: Action::ALL
                .into_iter()
                .map(|each| (each, uid(&action, each.as_str())))
                .collect(),
        })
    }

    /// The action that an entity of a policy's scope is.
    pub fn action(&self, uid: &EntityUid) -> Option<Action> {
        let found = self.actions.iter().find(|(_, known)| *known == uid);
        found.map(|(action, _)| *action)
    }

    /// Puts the facts as a question, a command with what is `known` of it.
    ///
    /// # Errors
    /// What of them the engine cannot hold, such as a time past the year 9999.
    pub fn question(&self, facts: &Facts, known: &Labels) -> Result<Question, String> {
        let who = &facts.who;
        let identity = uid(&self.identity, who.name.as_str());
        let mut groups = vec![uid(&self.kind, who.kind.as_str())];
        groups.extend(who.groups.iter().map(|group| uid(&self.group, group.as_str())));
        groups.extend(who.roles.iter().map(|role| uid(&self.role, role.as_str())));
        let mut attributes = vec![
            ("name".to_owned(), text(who.name.as_str())),
            ("kind".to_owned(), text(who.kind.as_str())),
        ];
        attributes.extend(who.owner.iter().map(|owner| ("owner".to_owned(), text(owner))));
        attributes.extend(who.purpose.iter().map(|purpose| ("purpose".to_owned(), text(purpose))));

        let name = facts.target.as_ref().map_or("", |target| target.name.as_str());
        let labels: &[String] = facts.target.as_ref().map_or(&[], |target| &target.labels);
        let target = uid(&self.target, name);
        let in_labels: Vec<EntityUid> = labels.iter().map(|label| uid(&self.label, label)).collect();
        let mut tags = BTreeMap::new();
        for label in labels {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            // A key that stands there twice: the first counts as tag, both as labels.
            tags.entry(key.to_owned()).or_insert_with(|| text(value));
        }

        let failed = |error: &dyn std::fmt::Display| error.to_string();
        let entities = [
            Entity::new(
                identity.clone(),
                attributes.into_iter().collect(),
                groups.iter().cloned().collect(),
            )
            .map_err(|error| failed(&error))?,
            Entity::new_with_tags(
                target.clone(),
                [("name".to_owned(), text(name))],
                in_labels.clone(),
                tags,
            )
            .map_err(|error| failed(&error))?,
        ];
        let action = self.actions.get(&facts.action).ok_or("the action has no name")?;
        let context = Context::from_pairs(context(facts, known)?).map_err(|error| failed(&error))?;
        let request = Request::new(identity.clone(), action.clone(), target.clone(), context, None);
        let mut principals = vec![identity];
        principals.append(&mut groups);
        let mut resources = vec![target];
        resources.extend(in_labels);
        Ok(Question {
            request: request.map_err(|error| failed(&error))?,
            entities: Entities::from_entities(entities, None).map_err(|error| failed(&error))?,
            principals,
            resources,
        })
    }
}

fn uid(kind: &EntityTypeName, name: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(name))
}

fn text(value: &str) -> Value {
    Value::new_string(value.to_owned())
}

fn texts<'a>(values: impl Iterator<Item = &'a str>) -> Value {
    Value::new_set(values.map(text))
}

fn number(value: u64) -> Value {
    Value::new_long(i64::try_from(value).unwrap_or(i64::MAX))
}

fn duration(ms: u64) -> Value {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    Value::new_duration(format!("{ms}ms"))
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Result<Value, String> {
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Value::new_record(fields).map_err(|error| error.to_string())
}

/// The context of the facts' action, as the schema has it.
fn context(facts: &Facts, known: &Labels) -> Result<Vec<(String, Value)>, String> {
    let now = i64::try_from(facts.now_ms)
        .ok()
        .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok())
        .ok_or("the time is past the year 9999")?;
    let capabilities: Vec<String> = facts.capabilities.iter().map(ToString::to_string).collect();
    let mut fields = vec![
        ("login", text(&facts.login)),
        (
            "now",
            Value::new_datetime(now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()),
        ),
        (
            "local",
            record([
                ("weekday", number(facts.local.weekday.into())),
                ("minute", number(facts.local.minute.into())),
            ])?,
        ),
        ("zones", texts(facts.zones.iter().map(String::as_str))),
        ("reason", text(&facts.reason)),
        (
            "proof",
            record([
                ("method", text(&facts.proof.method)),
                ("strength", number(facts.proof.strength.into())),
                ("age", duration(facts.proof.age_ms)),
            ])?,
        ),
        ("risk", number(facts.risk.into())),
        ("anomalies", texts(facts.anomalies.iter().map(String::as_str))),
        ("capabilities", texts(capabilities.iter().map(String::as_str))),
    ];
    let optional = |name, value: &Option<String>| value.as_deref().map(|value| (name, text(value)));
    fields.extend(
        facts
            .source
            .map(|source| ("source", Value::new_ip(source.to_canonical().to_string()))),
    );
    fields.extend(optional("device", &facts.device));
    fields.extend(optional("location", &facts.location));
    fields.extend(optional("ticket", &facts.ticket));
    fields.extend(optional("requested_by", &facts.requested_by));
    let window = [
        ("for", duration(facts.for_ms)),
        ("begins_in", duration(facts.begins_in_ms)),
    ];
    let single_use = ("single_use", Value::new_bool(facts.single_use));
    let terminal = ("terminal", Value::new_bool(facts.terminal));
    match facts.action {
        Action::Request | Action::Issue => {
            fields.extend(window);
            fields.push(single_use);
            fields.extend(optional("holder", &facts.holder));
        }
        Action::Connect | Action::Shell => fields.extend([single_use, terminal]),
        Action::Exec | Action::Command => {
            fields.extend([single_use, terminal]);
            let command = facts.command.as_deref().unwrap_or_default();
            let labels = &facts.labels | &known.of(command);
            fields.push(("command", text(command)));
            fields.push(("labels", texts(labels.iter().map(String::as_str))));
            if facts.action == Action::Command {
                fields.push(("place", text(&facts.place)));
                fields.push(("undecided", Value::new_bool(facts.undecided)));
            }
        }
        Action::Subsystem => {
            fields.extend([single_use, terminal]);
            fields.push(("subsystem", text(facts.subsystem.as_deref().unwrap_or_default())));
        }
        Action::Transfer => {
            fields.extend([single_use, terminal]);
            let transfer = facts.transfer.as_ref();
            let of = |of: fn(&TransferOf) -> &String| known.of(transfer.map_or("", |transfer| of(transfer)));
            let labels = &of(|transfer| &transfer.path) | &of(|transfer| &transfer.other);
            let said = |of: fn(&TransferOf) -> &String| text(transfer.map_or("", |transfer| of(transfer)));
            let transfer = record([
                ("direction", said(|transfer| &transfer.direction)),
                ("what", said(|transfer| &transfer.what)),
                ("path", said(|transfer| &transfer.path)),
                ("other", said(|transfer| &transfer.other)),
                ("labels", texts(labels.iter().map(String::as_str))),
                (
                    "plain",
                    Value::new_bool(transfer.is_some_and(|transfer| transfer.plain)),
                ),
            ])?;
            fields.push(("transfer", transfer));
        }
        Action::Forward => {
            fields.extend([single_use, terminal]);
            let to = facts.forward.as_ref();
            let to = record([
                ("direction", text(to.map_or("", |to| &to.direction))),
                ("host", text(to.map_or("", |to| &to.host))),
                ("port", number(to.map_or(0, |to| to.port.into()))),
            ])?;
            fields.push(("forward", to));
        }
        Action::Replay | Action::Approve | Action::Revoke => {
            fields.extend(window);
            fields.extend(optional("holder", &facts.holder));
        }
    }
    Ok(fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect())
}
