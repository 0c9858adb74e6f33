//! The API's description (OpenAPI 3.1), made from the routes and from the
//! shapes themselves, so that it cannot say anything else than they do.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Map, Value, json};
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use super::problem::Code;
use super::routes::{May, Route};
use super::{BODY_BYTES_MAX, idempotency};
use crate::kernel::grant::{Capability, Cidr};
use crate::kernel::id::{
    Destination, GrantId, GroupName, IdentityName, Login, NodeName, RequestId, ReviewId, SessionId, SourceName,
    TargetName,
};

/// One shape and those that it is made of.
#[derive(Clone)]
pub struct Shape {
    name: String,
    own: fn() -> RefOr<Schema>,
    others: fn(&mut Vec<(String, RefOr<Schema>)>),
}

impl Shape {
    /// Of a type.
    pub fn of<T: ToSchema>() -> Shape {
        Shape {
            name: T::name().into_owned(),
            own: T::schema,
            others: T::schemas,
        }
    }
}

/// A text of ours: what it may look like.
macro_rules! text {
    ($($kind:ty: $pattern:expr, $example:expr;)*) => {$(
        impl PartialSchema for $kind {
            fn schema() -> RefOr<Schema> {
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .pattern(Some($pattern))
                    .examples([json!($example)])
                    .into()
            }
        }
        impl ToSchema for $kind {}
    )*};
}

const NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$";
const ID: &str = "^[0-9a-f]{32}$";

text! {
    IdentityName: NAME, "alice";
    TargetName: NAME, "db1";
    Login: NAME, "root";
    SourceName: NAME, "devices";
    NodeName: NAME, "gate1";
    GroupName: NAME, "dba";
    GrantId: ID, "00112233445566778899aabbccddeeff";
    SessionId: ID, "00112233445566778899aabbccddeeff";
    RequestId: ID, "00112233445566778899aabbccddeeff";
    ReviewId: ID, "00112233445566778899aabbccddeeff";
    Destination: "^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}[@+][A-Za-z0-9_][A-Za-z0-9._-]{0,127}$", "root@db1";
    Cidr: "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$", "10.0.0.0/8";
    Capability: "^(shell|exec|sftp|forward|agent|x11)$", "shell";
}

/// RFC 9457.
fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.into_iter().map(Code::as_str).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer", "minimum": 400, "maximum": 599 },
            "code": { "type": "string", "enum": codes },
            "detail": { "type": "string" },
            "rules": { "type": "array", "items": { "type": "string" } },
            "hint": { "type": "string" },
        },
    })
}

fn value(schema: &RefOr<Schema>) -> Value {
    serde_json::to_value(schema).unwrap_or(Value::Bool(true))
}

/// Names in braces.
fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|piece| piece.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            let (meaning, pattern) = match name {
                "id" => ("Its id, or enough of its start", "^[0-9a-f]{4,32}$"),
                _ => ("Its name", "^[A-Za-z0-9._-]{1,128}$"),
            };
            json!({
                "name": name, "in": "path", "required": true, "description": meaning,
                "schema": { "type": "string", "pattern": pattern },
            })
        })
        .collect()
}

fn operation(route: &Route) -> Value {
    let mut parameters = path_parameters(route.path);
    for (name, meaning) in route.query {
        let schema = match *name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": crate::store::PAGE_ROWS_MAX }),
            "live" | "mine" | "open" => json!({ "type": "boolean" }),
            _ => json!({ "type": "string", "maxLength": 256 }),
        };
        parameters.push(json!({ "name": name, "in": "query", "description": meaning, "schema": schema }));
    }
    let mut responses = Map::new();
    let success = match &route.gives {
        Some(shape) => json!({
            "description": "Done",
            "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{}", shape.name) } } },
        }),
        None => json!({ "description": "Done", "content": { "*/*": {} } }),
    };
    responses.insert("200".to_owned(), success);
    for status in [
        "400", "401", "403", "404", "405", "409", "413", "422", "429", "500", "503",
    ] {
        responses.insert(status.to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "responses": responses,
    });
    if let Some(map) = operation.as_object_mut() {
        if route.method == Method::POST && route.may != May::Anybody {
            parameters.push(json!({
                "name": idempotency::HEADER, "in": "header", "required": false,
                "description": "The same call with the same key has its effect once",
                "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" },
            }));
        }
        if !parameters.is_empty() {
            map.insert("parameters".to_owned(), Value::Array(parameters));
        }
        if let Some(shape) = &route.takes {
            map.insert(
                "requestBody".to_owned(),
                json!({
                    "required": true,
                    "content": { "application/json": { "schema": { "$ref": format!("#/components/schemas/{}", shape.name) } } },
                }),
            );
        }
        match route.may {
            May::Anybody => map.insert("security".to_owned(), json!([])),
            May::Anyone => map.insert(
                "description".to_owned(),
                json!("For anybody who has proved an identity."),
            ),
            May::Roles(roles) => {
                let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                map.insert(
                    "description".to_owned(),
                    json!(format!("For the roles {}.", names.join(", "))),
                )
            }
        };
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let words = route
        .path
        .split(['/', '{', '}'])
        .filter(|word| !word.is_empty() && *word != "v1");
    let mut id = route.method.as_str().to_lowercase();
    for word in words {
        id.push('-');
        id.extend(word.chars().filter(|c| c.is_ascii_alphanumeric()));
    }
    id
}

/// The whole document.
pub fn document(routes: &[Route]) -> Value {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    for shape in routes.iter().flat_map(|route| route.takes.iter().chain(&route.gives)) {
        let mut others = Vec::new();
        (shape.others)(&mut others);
        for (name, schema) in others {
            schemas.entry(name).or_insert_with(|| value(&schema));
        }
        schemas
            .entry(shape.name.clone())
            .or_insert_with(|| value(&(shape.own)()));
    }
    schemas.insert("Problem".to_owned(), problem());
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        paths
            .entry(route.path)
            .or_default()
            .insert(route.method.as_str().to_lowercase(), operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portcullis",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("Requests, grants, sessions and recordings of a Portcullis server. Bodies have at most {BODY_BYTES_MAX} bytes."),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "It was not done, and why (RFC 9457)",
                    "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
                },
            },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "From POST /v1/login" },
            },
        },
    })
}
