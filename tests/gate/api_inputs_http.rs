//! Hostile inputs below JSON: paths, queries, heads, and what is no HTTP.

use serde_json::json;

use crate::api_inputs::{Input, Wants, raw};
use crate::support::api::request;

/// Paths and queries.
pub fn places() -> Vec<Input> {
    let ids = [
        "..",
        "%2e%2e%2f%2e%2e%2fetc",
        "%00",
        "%ff",
        "%0d%0aX-A:%20b",
        "'%20OR%201=1--",
        "(a+)+$",
        "*",
        "%25%30%30",
        "0011223344556677889900112233445566",
        "0",
        "-1",
        "zzzz",
        "AAAA",
        "%F0%9F%94%91",
        "%E2%80%AE0011",
        "00112233;x=y",
        "..%5c..%5cwindows",
        "$%7Bx%7D",
        "%c0%ae%c0%ae",
    ];
    let long = "0".repeat(8000);
    let mut all = Vec::new();
    for path in ["/v1/requests/{}", "/v1/sessions/{}", "/v1/sessions/{}/statements"] {
        for id in ids.iter().copied().chain([long.as_str()]) {
            let path = path.replace("{}", id);
            all.push(raw(
                &format!("{path:.60}"),
                Wants::Refused,
                request("GET", &path, "TOKEN", None),
            ));
        }
    }
    for path in [
        "/v1/requests/{}/withdraw",
        "/v1/recordings/{}/hold",
        "/v1/reviews/{}/close",
        "/v1/grants/{}/revoke",
    ] {
        for id in ids {
            let path = path.replace("{}", id);
            let body = json!({ "reason": "x" });
            let body = if path.ends_with("close") {
                json!({ "note": "x" })
            } else {
                body
            };
            all.push(raw(
                &format!("{path:.60}"),
                Wants::Refused,
                request("POST", &path, "TOKEN", Some(&body)),
            ));
        }
    }
    let queries = [
        "requests?limit=-1",
        "requests?limit=0",
        "requests?limit=99999",
        "requests?limit=4294967296",
        "requests?limit=1e3",
        "requests?limit=NaN",
        "requests?limit=",
        "requests?limit=1&limit=2",
        "requests?state=everything",
        "requests?state=%00",
        "requests?state=pending'--",
        "requests?identity=../x",
        "requests?identity=",
        "requests?identity=%ff",
        "requests?after=zz",
        "requests?after=00112233445566778899aabbccddeeff",
        "requests?mine=maybe",
        "requests?admin=true",
        "requests?mine=true&mine=false",
        "grants?live=1",
        "grants?after='",
        "grants?limit=-5",
        "grants?x",
        "sessions?live=TRUE",
        "sessions?live=%ff",
        "sessions?since=1",
        "decisions?since=-1",
        "decisions?since=18446744073709551616",
        "decisions?since=x",
        "decisions?since=1.5",
        "reviews?open=yes",
        "reviews?open=true&x=y",
    ];
    for query in queries {
        all.push(raw(
            query,
            Wants::Refused,
            request("GET", &format!("/v1/{query}"), "TOKEN", None),
        ));
    }
    for path in [
        "/v1/nothing",
        "/admin",
        "/.git/config",
        "/v1/requests//",
        "/v1/whoami%00",
        "/%2e%2e/etc/passwd",
        "//evil.example/v1/whoami",
        "/v1/whoami;x=y",
    ] {
        all.push(raw(path, Wants::Refused, request("GET", path, "TOKEN", None)));
    }
    for method in ["DELETE", "PUT", "PATCH", "TRACE", "OPTIONS", "PROPFIND", "XYZZY", "get"] {
        all.push(raw(
            &format!("{method} /v1/whoami"),
            Wants::Refused,
            request(method, "/v1/whoami", "TOKEN", None),
        ));
    }
    all
}

/// Heads: what HTTP allows and is a trick all the same, and what it does not.
pub fn heads() -> Vec<Input> {
    let get = |more: &str| format!("GET /v1/whoami HTTP/1.1\r\nHost: gate1\r\nConnection: close\r\n{more}\r\n");
    let post = |more: &str, body: &str| {
        format!(
            "POST /v1/requests HTTP/1.1\r\nHost: gate1\r\nConnection: close\r\nAuthorization: Bearer TOKEN\r\n{more}\r\n{body}"
        )
    };
    let long = "a".repeat(20_000);
    let unproved = [
        ("two tokens", get("Authorization: Bearer TOKEN\r\nAuthorization: Bearer pct_x\r\n")),
        ("no token", get("Authorization: Bearer\r\n")),
        ("an empty token", get("Authorization: Bearer \r\n")),
        ("Basic", get("Authorization: Basic cm9vdDpyb290\r\n")),
        ("a token and more", get("Authorization: Bearer TOKEN, Bearer pct_x\r\n")),
        ("a long token", get(&format!("Authorization: Bearer pct_{long}\r\n"))),
        ("a token in the query", get("").replace("/v1/whoami", "/v1/whoami?access_token=TOKEN")),
        ("a token in a cookie", get("Cookie: token=TOKEN\r\n")),
        ("a token of SQL", get("Authorization: Bearer pct_' OR 1=1 --\r\n")),
        ("who the proxy says", get("X-Forwarded-For: 127.0.0.1\r\nX-Remote-User: root\r\nX-Forwarded-User: root\r\n")),
        ("another method in a header", get("X-HTTP-Method-Override: POST\r\n")),
        ("another path in a header", get("X-Original-URL: /v1/inventory\r\nX-Rewrite-URL: /v1/inventory\r\n")),
        ("another host", get("").replace("Host: gate1", "Host: evil.example")),
        ("an absolute address", get("").replace(" /v1/whoami", " http://evil.example/v1/whoami")),
        ("Upgrade to HTTP/2", get("Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n")),
        ("Upgrade to WebSocket", get("Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n")),
        ("HTTP/1.0", get("").replace("HTTP/1.1", "HTTP/1.0")),
        ("a range", get("Range: bytes=0-1,0-1,0-1,0-1\r\n")),
        ("a webhook without headers", post("Content-Length: 2\r\n", "{}").replace("/v1/requests", "/v1/hooks/pager")),
        (
            "a webhook with another's signature",
            post("webhook-id: a\r\nwebhook-timestamp: 99999999999999999999\r\nwebhook-signature: v1,AAAA\r\nContent-Length: 2\r\n", "{}")
                .replace("/v1/requests", "/v1/hooks/pager"),
        ),
        (
            "a webhook with a thousand signatures",
            post(&format!("webhook-id: a\r\nwebhook-timestamp: 1\r\nwebhook-signature: {}\r\nContent-Length: 2\r\n", "v1,AAAA ".repeat(1000)), "{}")
                .replace("/v1/requests", "/v1/hooks/pager"),
        ),
        ("ninety headers", get(&"X-A: b\r\n".repeat(90))),
    ];
    let refused = [
        ("an empty key", post("Idempotency-Key: \r\nContent-Length: 2\r\n", "{}")),
        (
            "a long key",
            post(&format!("Idempotency-Key: {long}\r\nContent-Length: 2\r\n"), "{}"),
        ),
        (
            "two keys",
            post(
                "Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 2\r\n",
                "{}",
            ),
        ),
        (
            "a key that is no text",
            post("Idempotency-Key: \u{e9}\r\nContent-Length: 2\r\n", "{}"),
        ),
        ("Expect", post("Expect: 100-continue\r\nContent-Length: 2\r\n", "{}")),
        (
            "Expect something else",
            post("Expect: the unexpected\r\nContent-Length: 2\r\n", "{}"),
        ),
        ("chunks", post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        (
            "many small chunks",
            post(
                "Transfer-Encoding: chunked\r\n",
                &format!("{}0\r\n\r\n", "1\r\n[\r\n".repeat(70_000)),
            ),
        ),
        (
            "chunks with trailers",
            post(
                "Transfer-Encoding: chunked\r\n",
                "2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
            ),
        ),
    ];
    let broken = [
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 3\r\n", "{} ")),
        (
            "a length and chunks",
            post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ),
        (
            "chunks and a length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 100\r\n", "0\r\n\r\n"),
        ),
        ("a negative length", post("Content-Length: -2\r\n", "{}")),
        ("a length that is none", post("Content-Length: two\r\n", "{}")),
        ("a length with a sign", post("Content-Length: +2\r\n", "{}")),
        ("a huge length", post("Content-Length: 99999999999999999999\r\n", "{}")),
        (
            "chunks twice",
            post("Transfer-Encoding: chunked, chunked\r\n", "Z\r\n\r\n"),
        ),
        (
            "chunks, then identity",
            post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
        ),
        (
            "something like chunks",
            post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ),
        (
            "a chunk of no size",
            post("Transfer-Encoding: chunked\r\n", "Z\r\n{}\r\n0\r\n\r\n"),
        ),
        (
            "a negative chunk",
            post("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"),
        ),
        (
            "a huge chunk",
            post("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
        ),
        (
            "a chunk with a long extension",
            post(
                "Transfer-Encoding: chunked\r\n",
                &format!("2;{long}\r\n{{}}\r\n0\r\n\r\n"),
            ),
        ),
        ("a folded header", get("X-A: b\r\n  c\r\n")),
        ("a header with a space", get("X A: b\r\n")),
        ("a space before the colon", get("Authorization : Bearer TOKEN\r\n")),
        ("a header without a colon", get("Authorization\r\n")),
        ("a header without a name", get(": x\r\n")),
        ("NUL in a header", get("X-A: b\0c\r\n")),
        ("CR in a header", get("X-A: b\rX-B: c\r\n")),
        ("ten thousand headers", get(&"X-A: b\r\n".repeat(10_000))),
        ("a long header", get(&format!("X-A: {}\r\n", "a".repeat(200_000)))),
        ("a long path", get("").replace("whoami", &"a".repeat(200_000))),
        ("a path with spaces", get("").replace("whoami", "who ami")),
        ("a path with NUL", get("").replace("whoami", "who\0ami")),
        ("a path that is none", get("").replace(" /v1", " v1")),
        ("HTTP/0.9", "GET /v1/whoami\r\n\r\n".to_owned()),
        ("HTTP/3.0", get("").replace("HTTP/1.1", "HTTP/3.0")),
        ("HTTP/1.10", get("").replace("HTTP/1.1", "HTTP/1.10")),
        (
            "HTTP/2",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(),
        ),
        ("a method that is none", get("").replace("GET", "G(T")),
        (
            "CONNECT",
            "CONNECT evil.example:22 HTTP/1.1\r\nHost: evil.example:22\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        (
            "OPTIONS of everything",
            "OPTIONS * HTTP/1.1\r\nHost: gate1\r\nConnection: close\r\n\r\n".to_owned(),
        ),
        ("SSH", "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned()),
        ("noise", "\u{1}\u{2}\u{3}\u{4}\r\n\r\n".to_owned()),
    ];
    let all = |wants, rows: Vec<(&'static str, String)>| {
        rows.into_iter()
            .map(move |(name, text)| raw(&format!("head: {name}"), wants, text))
    };
    all(Wants::Unproved, unproved.into())
        .chain(all(Wants::Refused, refused.into()))
        .chain(all(Wants::Broken, broken.into()))
        .collect()
}
