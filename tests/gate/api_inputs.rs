//! Hostile inputs for the API, as data: each a request's bytes and what has to
//! become of it.

use serde_json::{Value, json};

use crate::api_inputs_http;
use crate::support::api::request;
use crate::support::bastion::wall_ms;

/// What has to become of an input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// 4xx as RFC 9457 has it, with a reason, of somebody who is known.
    Refused,
    /// 401 in the same way: nobody is proved by it.
    Unproved,
    /// Not HTTP: any 4xx, or the connection is closed.
    Broken,
}

/// One input. `TOKEN` in its bytes stands for the caller's token.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub wants: Wants,
    bytes: Vec<u8>,
}

impl Input {
    /// As sent by who has `token`.
    pub fn bytes(&self, token: &str) -> Vec<u8> {
        let Some(at) = crate::support::bytes::find(&self.bytes, b"TOKEN") else {
            return self.bytes.clone();
        };
        [&self.bytes[..at], token.as_bytes(), &self.bytes[at + 5..]].concat()
    }
}

/// What a name, an id or a word of a list is never.
fn no_names() -> Vec<Value> {
    let mut bad: Vec<Value> = [
        "",
        " ",
        "a b",
        "-rf",
        "../../etc/passwd",
        "'; DROP TABLE identity; --",
        "(a+)+$",
        "%00",
        "a\u{0}b",
        "\u{1b}[2Jx",
        "\u{202e}nimda",
        "\u{430}lice",
        "${jndi:ldap://x}",
        "a\r\nb",
    ]
    .into_iter()
    .map(Value::from)
    .collect();
    bad.extend([
        json!("x".repeat(5000)),
        json!(7),
        json!(-1),
        json!([]),
        json!({}),
        json!(true),
    ]);
    bad
}

/// What a sentence is never.
fn no_words() -> Vec<Value> {
    vec![
        json!(""),
        json!(" \t"),
        json!("a\u{0}b"),
        json!("\u{1b}]0;x\u{7}"),
        json!("two\nlines"),
        json!("\u{9b}2J"),
        json!("paid \u{202e}eslaf"),
        json!("a\u{2028}b"),
        json!("x".repeat(5000)),
        json!(7),
        json!(["x"]),
        json!({ "x": "y" }),
    ]
}

/// What a number of ours is never.
fn no_numbers() -> Vec<Value> {
    vec![
        json!(-1),
        json!(i64::MIN),
        json!(1.5),
        json!(1e300),
        json!("60"),
        json!([60]),
        json!({}),
        json!(false),
    ]
}

/// What a list of names is never.
fn no_lists() -> Vec<Value> {
    let mut bad = vec![
        json!("exec"),
        json!(7),
        json!({}),
        json!([[]]),
        json!([7]),
        json!([null]),
    ];
    bad.extend(
        no_names()
            .into_iter()
            .filter(Value::is_string)
            .take(8)
            .map(|name| json!([name])),
    );
    bad
}

struct Target {
    path: &'static str,
    good: Value,
    names: &'static [&'static str],
    words: &'static [&'static str],
    numbers: &'static [&'static str],
    lists: &'static [&'static str],
}

fn targets(key: &str) -> Vec<Target> {
    let row = |path, good, names, words, numbers, lists| Target {
        path,
        good,
        names,
        words,
        numbers,
        lists,
    };
    vec![
        row(
            "/v1/requests",
            json!({ "destination": "op@db1", "for_secs": 60, "reason": "x" }),
            &["identity", "destination", "extends", "public_key"],
            &["reason", "ticket", "device", "location"],
            &["for_secs", "begins_ms"],
            &["allow", "sources"],
        ),
        row(
            "/v1/grants",
            json!({ "identity": "adm0", "destination": "op@db1", "for_secs": 60, "reason": "x", "public_key": key,
                "allow": ["exec"] }),
            &["identity", "destination", "public_key"],
            &["reason"],
            &["for_secs"],
            &["allow", "sources"],
        ),
        row(
            "/v1/break-glass/prepare",
            json!({ "identity": "adm0", "destinations": ["op@db1"], "public_key": key, "until_ms": wall_ms() + 3_600_000,
                "session_secs": 600, "condition": "always", "reason": "x", "allow": ["exec"] }),
            &["identity", "public_key", "condition"],
            &["reason"],
            &["from_ms", "until_ms", "session_secs"],
            &["destinations", "allow", "sources"],
        ),
        row(
            "/v1/identities",
            json!({ "name": "zoe", "kind": "person" }),
            &["name", "kind", "owner"],
            &["purpose"],
            &["review_by_ms"],
            &["keys", "roles", "groups"],
        ),
        row(
            "/v1/targets",
            json!({ "name": "db9", "logins": ["op"], "reach": { "kind": "local", "command": [], "run_as": "nobody" } }),
            &["name", "reach"],
            &[],
            &[],
            &["logins", "labels"],
        ),
        row(
            "/v1/revoke",
            json!({ "what": "grant", "id": "00112233", "reason": "x" }),
            &["what", "id"],
            &["reason"],
            &[],
            &[],
        ),
        row(
            "/v1/explain",
            json!({ "identity": "adm0", "action": "request", "destination": "op@db1" }),
            &["identity", "action", "destination", "source"],
            &[],
            &["at_ms", "for_secs", "risk"],
            &["allow"],
        ),
        row(
            "/v1/login/challenge",
            json!({ "identity": "adm0", "for": { "action": "login" } }),
            &["identity", "for"],
            &[],
            &[],
            &[],
        ),
        row(
            "/v1/login",
            json!({ "proof": { "challenge": "x", "signature": "y" } }),
            &["proof"],
            &[],
            &["for_secs"],
            &["roles"],
        ),
        row(
            "/v1/reviews/00112233/close",
            json!({ "note": "x" }),
            &[],
            &["note"],
            &[],
            &[],
        ),
    ]
}

/// What is spoilt in one place by most inputs, as it is: a path, and a body
/// that passes every check of its form.
pub fn unspoilt(key: &str) -> Vec<(&'static str, Value)> {
    targets(key).into_iter().map(|row| (row.path, row.good)).collect()
}

/// Every input; `key` is a public key's line.
pub fn inputs(key: &str) -> Vec<Input> {
    let mut all = Vec::new();
    for target in targets(key) {
        let kinds = [
            (target.names, no_names()),
            (target.words, no_words()),
            (target.numbers, no_numbers()),
            (target.lists, no_lists()),
        ];
        for (fields, bad) in kinds {
            for field in fields {
                for (number, value) in bad.iter().enumerate() {
                    let mut body = target.good.clone();
                    body[*field] = value.clone();
                    all.push(Input {
                        name: format!("{} {field} {number}: {:.60}", target.path, value.to_string()),
                        wants: Wants::Refused,
                        bytes: request("POST", target.path, "TOKEN", Some(&body)),
                    });
                }
            }
        }
    }
    all.extend(bodies());
    all.extend(api_inputs_http::places());
    all.extend(api_inputs_http::heads());
    all
}

pub fn raw(name: &str, wants: Wants, bytes: impl Into<Vec<u8>>) -> Input {
    Input {
        name: name.to_owned(),
        wants,
        bytes: bytes.into(),
    }
}

/// `body` as it is, to a route that takes JSON.
fn posted(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: gate1\r\nConnection: close\r\nAuthorization: Bearer TOKEN\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Bodies that are no JSON of ours.
fn bodies() -> Vec<Input> {
    let good = r#""destination":"op@db1","for_secs":60,"reason":"x""#;
    let texts: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("null", b"null".to_vec()),
        ("a list", b"[]".to_vec()),
        ("a text", b"\"x\"".to_vec()),
        ("NaN", b"NaN".to_vec()),
        ("half", b"{\"reason\":".to_vec()),
        ("two", format!("{{{good}}}{{{good}}}").into_bytes()),
        ("a comment", format!("{{{good}}} // x").into_bytes()),
        ("a trailing comma", format!("{{{good},}}").into_bytes()),
        ("single quotes", b"{'reason':'x'}".to_vec()),
        ("a key twice", format!("{{{good},\"reason\":\"y\"}}").into_bytes()),
        (
            "the destination twice",
            format!("{{{good},\"destination\":\"root@db1\"}}").into_bytes(),
        ),
        (
            "a key twice, escaped",
            format!("{{{good},\"re\\u0061son\":\"y\"}}").into_bytes(),
        ),
        ("an unknown key", format!("{{{good},\"admin\":true}}").into_bytes()),
        ("__proto__", format!("{{{good},\"__proto__\":{{}}}}").into_bytes()),
        ("a byte-order mark", format!("\u{feff}{{{good}}}").into_bytes()),
        (
            "UTF-16",
            format!("{{{good}}}")
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect(),
        ),
        (
            "broken UTF-8",
            [b"{\"reason\":\"".as_slice(), &[0xc3, 0x28, 0xff], b"\"}"].concat(),
        ),
        (
            "half a surrogate",
            format!("{{{good},\"ticket\":\"\\ud800\"}}").into_bytes(),
        ),
        ("not a number", good.replace("60", "NaN").into_bytes()),
        (
            "NaN for a length",
            format!("{{{}}}", good.replace("60", "NaN")).into_bytes(),
        ),
        (
            "Infinity for a length",
            format!("{{{}}}", good.replace("60", "Infinity")).into_bytes(),
        ),
        (
            "beyond 64 bits",
            format!("{{{}}}", good.replace("60", "18446744073709551616")).into_bytes(),
        ),
        (
            "all of 64 bits",
            format!("{{{}}}", good.replace("60", "18446744073709551615")).into_bytes(),
        ),
        (
            "beyond floats",
            format!("{{{}}}", good.replace("60", "1e999")).into_bytes(),
        ),
        (
            "hexadecimal",
            format!("{{{}}}", good.replace("60", "0x3c")).into_bytes(),
        ),
        (
            "an octal number",
            format!("{{{}}}", good.replace("60", "060")).into_bytes(),
        ),
        (
            "many digits",
            format!("{{{}}}", good.replace("60", &"9".repeat(60_000))).into_bytes(),
        ),
        (
            "many decimals",
            format!("{{{}}}", good.replace("60", &format!("1.{}", "1".repeat(60_000)))).into_bytes(),
        ),
        ("deep lists", "[".repeat(60_000).into_bytes()),
        ("deep objects", "{\"a\":".repeat(12_000).into_bytes()),
        (
            "deep in a field",
            format!("{{{good},\"allow\":{}", "[".repeat(60_000)).into_bytes(),
        ),
        (
            "many keys",
            format!(
                "{{{}}}",
                (0..6000).map(|n| format!("\"k{n}\":1")).collect::<Vec<_>>().join(",")
            )
            .into_bytes(),
        ),
        (
            "many elements",
            format!("{{{good},\"allow\":[{}]}}", vec!["1"; 30_000].join(",")).into_bytes(),
        ),
        (
            "many sources",
            format!("{{{good},\"sources\":[{}]}}", vec!["\"10.0.0.0/8\""; 4000].join(",")).into_bytes(),
        ),
        (
            "a long text",
            format!("{{{good},\"ticket\":\"{}\"}}", "x".repeat(60_000)).into_bytes(),
        ),
        (
            "a long text of escapes",
            format!("{{{good},\"ticket\":\"{}\"}}", "\\u0041".repeat(10_000)).into_bytes(),
        ),
        ("one byte too many", vec![b' '; 64 * 1024 + 1]),
        ("a mebibyte", vec![b'['; 1024 * 1024]),
        ("ten mebibytes", vec![b' '; 10 * 1024 * 1024]),
        ("a form", b"destination=op%40db1&for_secs=60&reason=x".to_vec()),
        (
            "XML",
            b"<!DOCTYPE x [<!ENTITY y SYSTEM \"file:///etc/passwd\">]><x>&y;</x>".to_vec(),
        ),
        ("zeros", vec![0; 1000]),
        (
            "gzip",
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ),
    ];
    let mut all: Vec<Input> = texts
        .iter()
        .map(|(name, body)| raw(&format!("body: {name}"), Wants::Refused, posted("/v1/requests", body)))
        .collect();
    // The same where nobody has to prove anything, as far as it is about size and depth.
    for (name, body) in texts
        .iter()
        .filter(|(name, _)| name.contains("deep") || name.contains("bytes"))
    {
        for (path, wants) in [("/v1/login", Wants::Refused), ("/v1/hooks/pager", Wants::Unproved)] {
            all.push(raw(&format!("body at {path}: {name}"), wants, posted(path, body)));
        }
    }
    let source = |block: &str| {
        let body = format!("{{{good},\"sources\":[\"{block}\"]}}");
        raw(
            &format!("a source {block}"),
            Wants::Refused,
            posted("/v1/requests", body.as_bytes()),
        )
    };
    all.extend(
        [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "::/129",
            "0x0a.0.0.0",
            "010.0.0.0/8",
            "10.0.0.0/8,0.0.0.0/0",
            "!10.0.0.0/8",
            "fe80::1%eth0",
            "10.0.0.0/8/8",
        ]
        .map(source),
    );
    let late = |ms: &str| {
        let body = format!(
            "{{\"name\":\"late{}\",\"kind\":\"person\",\"review_by_ms\":{ms}}}",
            ms.len()
        );
        raw(
            &format!("a review at {ms}"),
            Wants::Refused,
            posted("/v1/identities", body.as_bytes()),
        )
    };
    all.extend(
        [
            "0",
            "1",
            "253402300800000",
            "9223372036854775808",
            "18446744073709551615",
        ]
        .map(late),
    );
    let digest = |text: &str| {
        let body = format!("{{\"purpose\":\"export\",\"reason\":\"x\",\"manifest_sha256\":\"{text}\"}}");
        raw(
            &format!("a digest `{text:.20}`"),
            Wants::Refused,
            posted("/v1/recordings/00112233/read", body.as_bytes()),
        )
    };
    all.extend(["", "zz", &"G".repeat(64), &"a".repeat(63), &"a".repeat(60_000)].map(digest));
    all
}
