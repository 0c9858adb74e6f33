//! Who gets through to which route: every route of the server's own
//! description × every role and every kind of token, over TLS. And what a
//! person learns of others: nothing.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::support::api::{Answer, Enrolled, Wire};
use crate::support::bastion::wall_ms;
use crate::support::{Bastion, Setup, run, secs, wait_for, wait_until};

/// Everybody, no token at all included.
const ANYBODY: &str = "anybody";
/// Everybody whose token counts.
const PROVED: &str = "admin approver investigator auditor sponsor user machine";
const OVERSEES: &str = "admin approver investigator auditor";

/// Every route and who gets through to it. What is done there is the business
/// of policy and of other tests.
const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/healthz", ANYBODY),
    ("GET", "/metrics", OVERSEES),
    ("GET", "/openapi.json", ANYBODY),
    ("GET", "/v1/anomalies", OVERSEES),
    ("GET", "/v1/decisions", OVERSEES),
    ("GET", "/v1/break-glass", OVERSEES),
    ("POST", "/v1/break-glass", "admin"),
    ("POST", "/v1/break-glass/prepare", "admin"),
    ("POST", "/v1/explain", PROVED),
    ("GET", "/v1/grants", PROVED),
    ("POST", "/v1/grants", "admin"),
    ("POST", "/v1/grants/{id}/revoke", PROVED),
    ("GET", "/v1/health", PROVED),
    ("POST", "/v1/hooks/{name}", ANYBODY),
    ("GET", "/v1/identities", OVERSEES),
    ("POST", "/v1/identities", "admin"),
    ("GET", "/v1/inventory", OVERSEES),
    ("POST", "/v1/inventory", "admin"),
    ("POST", "/v1/login", ANYBODY),
    ("POST", "/v1/login/challenge", ANYBODY),
    ("POST", "/v1/logout", PROVED),
    ("GET", "/v1/policies", OVERSEES),
    ("GET", "/v1/recordings", OVERSEES),
    ("POST", "/v1/recordings/expire", "admin"),
    ("GET", "/v1/recordings/index", OVERSEES),
    ("POST", "/v1/recordings/index", "admin"),
    ("POST", "/v1/recordings/search", "admin investigator"),
    ("POST", "/v1/recordings/{id}/hold", "admin investigator"),
    ("POST", "/v1/recordings/{id}/read", "admin investigator"),
    ("POST", "/v1/recordings/{id}/release", "admin investigator"),
    ("POST", "/v1/recordings/{id}/shred", "admin"),
    ("GET", "/v1/requests", PROVED),
    ("POST", "/v1/requests", "admin sponsor user machine"),
    ("GET", "/v1/requests/{id}", PROVED),
    ("POST", "/v1/requests/{id}/approve", "admin approver"),
    ("POST", "/v1/requests/{id}/collect", PROVED),
    ("POST", "/v1/requests/{id}/confirm", PROVED),
    ("POST", "/v1/requests/{id}/deny", "admin approver"),
    ("POST", "/v1/requests/{id}/withdraw", PROVED),
    ("GET", "/v1/reviews", PROVED),
    ("POST", "/v1/reviews/{id}/close", "admin approver"),
    ("POST", "/v1/revoke", PROVED),
    ("GET", "/v1/sessions", PROVED),
    ("GET", "/v1/sessions/{id}", PROVED),
    ("GET", "/v1/sessions/{id}/background", "admin investigator"),
    ("GET", "/v1/sessions/{id}/statements", OVERSEES),
    ("GET", "/v1/targets", PROVED),
    ("POST", "/v1/targets", "admin"),
    ("GET", "/v1/trust", PROVED),
    ("GET", "/v1/whoami", PROVED),
];

/// Who comes with which token. `gone-…` are tokens that count no more.
struct Cast {
    wire: Wire,
    callers: Vec<(&'static str, String)>,
}

fn house() -> Bastion {
    Setup::new().set("api.listen", "\"127.0.0.1:0\"").start()
}

/// An address for each caller, so that nobody uses up another's calls.
fn from(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 7, 0, u8::try_from(number + 1).unwrap())
}

impl Cast {
    fn new(bastion: &Bastion) -> Cast {
        let wire = Wire::of(bastion);
        let key = Enrolled::new();
        let public = key.public();
        let public = public.to_str().unwrap();
        // One person with every role: a token narrows them to one.
        let mut add = vec!["identity", "add", "root1", "--key", public];
        for role in ["admin", "approver", "investigator", "auditor", "sponsor"] {
            add.extend(["--role", role]);
        }
        bastion.admin(&add).ok();
        bastion
            .admin(&[
                "identity",
                "add",
                "job",
                "--kind",
                "machine",
                "--owner",
                "root1",
                "--purpose",
                "backups",
                "--key",
                public,
            ])
            .ok();
        let mut callers: Vec<(&'static str, String)> = Vec::new();
        for role in ["admin", "approver", "investigator", "auditor", "sponsor", "user"] {
            callers.push((role, wire.login(from(callers.len()), "root1", &key, &[role], 600)));
        }
        callers.push(("machine", wire.login(from(callers.len()), "job", &key, &[], 600)));
        let admin = callers[0].1.clone();
        callers.push(("gone-none", String::new()));
        callers.push(("gone-forged", format!("pct_{}", "A".repeat(43))));

        let expired = wire.login(from(callers.len()), "root1", &key, &[], 1);
        callers.push(("gone-expired", expired));
        let dropped = wire.login(from(callers.len()), "root1", &key, &[], 600);
        let out = wire.call(from(callers.len()), &dropped, "POST", "/v1/logout", None);
        assert_eq!(out.status, 200, "{}", out.text());
        callers.push(("gone-dropped", dropped));

        bastion
            .admin(&["identity", "add", "left", "--key", public, "--role", "admin"])
            .ok();
        let left = wire.login(from(callers.len()), "left", &key, &[], 600);
        let disable = json!({ "identities": [{ "disabled": true, "identity": {
            "name": "left", "kind": "person", "keys": [key.line()], "roles": ["admin"],
        } }] });
        let done = wire.call(from(0), &admin, "POST", "/v1/inventory", Some(&disable));
        assert_eq!(done.status, 200, "{}", done.text());
        callers.push(("gone-disabled", left));

        let due = json!({
            "name": "late", "kind": "machine", "owner": "root1", "purpose": "backups", "keys": [key.line()],
            "roles": ["admin"], "review_by_ms": wall_ms() + 4000,
        });
        let done = wire.call(from(0), &admin, "POST", "/v1/identities", Some(&due));
        assert_eq!(done.status, 200, "{}", done.text());
        let late = wire.login(from(callers.len()), "late", &key, &[], 600);
        callers.push(("gone-overdue", late));

        let cast = Cast { wire, callers };
        wait_until("tokens that have ended", secs(20), || {
            cast.callers.iter().enumerate().all(|(number, (who, token))| {
                !who.starts_with("gone-")
                    || token.is_empty()
                    || *who == "gone-forged"
                    || cast
                        .wire
                        .call(from(100 + number), token, "GET", "/v1/whoami", None)
                        .status
                        != 200
            })
        });
        cast
    }
}

/// Whether the guard let the call through to its handler.
fn through(answer: &Answer) -> bool {
    let closed = answer.status == 403 && answer.text().contains("none of the roles that may do this");
    let gone = answer.status == 403 && (answer.text().contains("is disabled") || answer.text().contains("overdue"));
    let webhook = answer.text().contains("the webhook was not accepted");
    let proof = answer.text().contains("the proof was not accepted");
    !(closed || gone || (answer.status == 401 && !webhook && !proof))
}

#[test]
fn every_route_lets_through_whom_its_row_names() {
    let bastion = house();
    let cast = Cast::new(&bastion);
    let document = cast.wire.call(from(90), "", "GET", "/openapi.json", None).json();
    let described = described(&document);
    let listed: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|(method, path, _)| (method.to_string(), path.to_string()))
        .collect();
    assert_eq!(listed, described, "a route without a row, or a row without a route");

    let mut wrong = Vec::new();
    for (number, (who, token)) in cast.callers.iter().enumerate() {
        // Last, because it ends the token.
        let (last, first): (Vec<_>, Vec<_>) = ROUTES.iter().copied().partition(|(_, path, _)| *path == "/v1/logout");
        for (method, path, roles) in first.into_iter().chain(last) {
            let wanted = roles == ANYBODY || roles.split(' ').any(|role| role == *who);
            // Each call of those who prove nothing comes from elsewhere: how
            // often they may knock is another test's business.
            let source = match who.starts_with("gone-") || roles == ANYBODY {
                true => Ipv4Addr::new(127, 8, u8::try_from(number).unwrap(), rand::random_range(1..=254)),
                false => from(number),
            };
            let filled = path.replace("{id}", "0123").replace("{name}", "pager");
            let body = (method == "POST").then(|| json!({}));
            // Who asks this much is put off now and then: another test's business.
            let answer = wait_for("an answer of its own", secs(30), || {
                let answer = cast.wire.call(source, token, method, &filled, body.as_ref());
                (answer.status != 429).then_some(answer)
            });
            if through(&answer) != wanted || answer.status >= 500 {
                wrong.push(format!("{who} {method} {path}: {} {}", answer.status, answer.text()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
}

fn described(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[test]
fn no_route_has_a_verb_that_is_not_described() {
    let bastion = house();
    let wire = Wire::of(&bastion);
    let key = Enrolled::new();
    bastion
        .admin(&[
            "identity",
            "add",
            "adm",
            "--role",
            "admin",
            "--key",
            key.public().to_str().unwrap(),
        ])
        .ok();
    let token = wire.login(from(0), "adm", &key, &[], 600);
    let known = described(&wire.call(from(1), "", "GET", "/openapi.json", None).json());
    let paths: BTreeSet<&str> = known.iter().map(|(_, path)| path.as_str()).collect();
    for (number, path) in paths.into_iter().enumerate() {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            if known.contains(&(method.to_owned(), path.to_owned())) {
                continue;
            }
            let filled = path.replace("{id}", "0123").replace("{name}", "pager");
            let answer = wire.call(from(10 + number), &token, method, &filled, None);
            assert_eq!(answer.status, 405, "{method} {path}: {}", answer.text());
            assert!(answer.is_problem(), "{method} {path}: {}", answer.head);
            let allowed = answer.header("allow").unwrap_or_default();
            let real = known.iter().filter(|(_, known)| known == path);
            for (verb, _) in real {
                assert!(allowed.contains(verb.as_str()), "{method} {path} allows `{allowed}`");
            }
        }
    }
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/whoami/",
        "/v2/whoami",
        "//v1/whoami",
        "/v1/../v1/whoami",
        "/v1/%77hoami",
        "/V1/whoami",
    ] {
        let answer = wire.call(from(2), &token, "GET", path, None);
        assert_eq!(
            (answer.status, answer.is_problem()),
            (404, true),
            "{path}: {}",
            answer.text()
        );
    }
}

/// What alice must never read, whatever she asks.
struct Secrets {
    words: Vec<String>,
}

impl Secrets {
    fn in_none(&self, what: &str, answer: &Answer) {
        let text = answer.text();
        for word in &self.words {
            assert!(!text.contains(word.as_str()), "{what} tells `{word}`: {text}");
        }
    }
}

const NOT_THE_VAULT: &str = r#"
@id("not-the-vault") @note("for carol alone")
forbid (principal == Identity::"alice", action == Action::"request", resource == Target::"vault-of-carol");
"#;

#[test]
fn a_person_learns_nothing_of_others() {
    let mut bastion = Setup::new().set("api.listen", "\"127.0.0.1:0\"").make();
    std::fs::write(bastion.state().join("policies/vault.cedar"), NOT_THE_VAULT).unwrap();
    bastion.serve();
    let wire = Wire::of(&bastion);
    bastion.add_local("db1", &["/bin/true"]);
    bastion.add_local("vault-of-carol", &[]);
    let keys: Vec<Enrolled> = (0..3).map(|_| Enrolled::new()).collect();
    let people = [("alice", "user"), ("carol", "user"), ("bob", "approver")];
    for ((name, role), key) in people.iter().zip(&keys) {
        let public = key.public();
        let mut add = vec!["identity", "add", name, "--key", public.to_str().unwrap()];
        if *role != "user" {
            add.extend(["--role", role]);
        }
        bastion.admin(&add).ok();
    }
    let token = |at: usize| wire.login(from(at), people[at].0, &keys[at], &[], 600);
    let (alice, carol, bob) = (token(0), token(1), token(2));

    // Carol has it all: a request that waits, one with a grant, a session.
    let wants = |reason: &str| {
        json!({ "destination": "op@vault-of-carol", "for_secs": 600, "reason": reason,
            "public_key": keys[1].line() })
    };
    let ask = |token: &str, at: usize, body: &Value| wire.call(from(at), token, "POST", "/v1/requests", Some(body));
    let pending = ask(&carol, 1, &wants("carols plan")).json();
    let granted = ask(&carol, 1, &wants("carols other plan")).json();
    let id = |of: &Value| of["request"]["id"].as_str().expect("an id").to_owned();
    let seen = json!({ "request_sha256": granted["request"]["sha256"] });
    let path = format!("/v1/requests/{}/approve", id(&granted));
    let yes = wire.call(from(2), &bob, "POST", &path, Some(&seen));
    assert_eq!(yes.status, 200, "{}", yes.text());
    let path = format!("/v1/requests/{}/collect", id(&granted));
    let had = wire.call(from(1), &carol, "POST", &path, Some(&json!({})));
    assert_eq!(had.status, 200, "{}", had.text());
    let grant = had.json()["grant"]["id"].as_str().unwrap().to_owned();
    let pass = bastion.pass("op@vault-of-carol").identity("carol").issue();
    // The account has no shell that works; the session is one all the same.
    run(&mut bastion.client(&pass).exec("true"), secs(30));
    let session = wait_for("carol's session", secs(20), || {
        bastion
            .sessions()
            .first()
            .map(|row| row["id"].as_str().unwrap().to_owned())
    });
    // And alice something of her own, so that her lists are not empty by chance.
    let own = json!({ "destination": "op@db1", "for_secs": 600, "reason": "mine" });
    let own = id(&ask(&alice, 0, &own).json());

    let secrets = Secrets {
        words: vec![
            "carol".to_owned(),
            id(&pending),
            id(&granted),
            grant.clone(),
            pass.grant.clone(),
            session.clone(),
        ],
    };
    let get = |path: &str| wire.call(from(0), &alice, "GET", path, None);
    for (method, path, roles) in ROUTES.iter().copied() {
        if method == "GET" && !path.contains('{') && (roles == ANYBODY || roles == PROVED) {
            let answer = get(path);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            secrets.in_none(path, &answer);
        }
    }
    assert!(get("/v1/requests").text().contains(&own));
    for query in ["?identity=carol", "?state=pending&limit=100", "?mine=true"] {
        let answer = get(&format!("/v1/requests{query}"));
        assert!(!answer.text().contains("carols"), "{query}: {}", answer.text());
    }

    // What is another's, and what is not there: the same answer, word for word.
    let nobodys = "00112233445566778899aabbccddeeff";
    let same = |what: &str, theirs: &str, call: &dyn Fn(&str) -> Answer| {
        let (other, none) = (call(theirs), call(nobodys));
        let plain = |answer: &Answer, id: &str| (answer.status, answer.text().replace(id, "ID"));
        assert!(other.status >= 400, "{what}: {}", other.text());
        assert_eq!(plain(&other, theirs), plain(&none, nobodys), "{what}");
    };
    let post = |path: String, body: Value| wire.call(from(0), &alice, "POST", &path, Some(&body));
    same("a request", &id(&pending), &|id| get(&format!("/v1/requests/{id}")));
    same("a session", &session, &|id| get(&format!("/v1/sessions/{id}")));
    same("withdraw", &id(&pending), &|id| {
        post(format!("/v1/requests/{id}/withdraw"), json!({}))
    });
    same("confirm", &id(&pending), &|id| {
        post(
            format!("/v1/requests/{id}/confirm"),
            json!({ "request_sha256": "0".repeat(64) }),
        )
    });
    same("collect", &id(&granted), &|id| {
        post(
            format!("/v1/requests/{id}/collect"),
            json!({ "public_key": keys[0].line() }),
        )
    });
    for theirs in [&grant, &pass.grant] {
        same("end a grant", theirs, &|id| {
            post(format!("/v1/grants/{id}/revoke"), json!({ "reason": "x" }))
        });
    }
    for (what, theirs) in [("grant", &grant), ("session", &session)] {
        same(what, theirs, &|id| {
            post(
                "/v1/revoke".to_owned(),
                json!({ "what": what, "id": id, "reason": "x" }),
            )
        });
        let prefix = &theirs[..8];
        let answer = post(
            "/v1/revoke".to_owned(),
            json!({ "what": what, "id": prefix, "reason": "x" }),
        );
        assert_eq!(answer.status, 404, "{}", answer.text());
        secrets.in_none("a prefix", &answer);
    }
    for (what, theirs, none) in [
        ("identity", "carol", "nobody"),
        ("target", "vault-of-carol", "no-such-target"),
    ] {
        let by_name = |name: &str| {
            let answer = post(
                "/v1/revoke".to_owned(),
                json!({ "what": what, "id": name, "reason": "x" }),
            );
            (answer.status, answer.text().replace(name, "NAME"))
        };
        assert_eq!(by_name(theirs), by_name(none), "revoke a {what}");
    }
    let by_name = |name: &str| {
        let asked = json!({ "identity": name, "action": "request", "destination": "op@db1" });
        let explained = post("/v1/explain".to_owned(), asked);
        let asked = json!({ "identity": name, "destination": "op@db1", "for_secs": 60, "reason": "x" });
        let requested = post("/v1/requests".to_owned(), asked);
        assert!(explained.status == 403 && requested.status == 403);
        (
            explained.text().replace(name, "NAME"),
            requested.text().replace(name, "NAME"),
        )
    };
    assert_eq!(by_name("carol"), by_name("nemo"), "whether somebody is known");
    // Nor does anybody learn it before logging in.
    let challenged = |name: &str| {
        let wanted = json!({ "identity": name, "for": { "action": "login" } });
        let answer = wire.call(from(3), "", "POST", "/v1/login/challenge", Some(&wanted));
        let challenge = answer.json()["challenge"].as_str().unwrap().to_owned();
        let proof = json!({ "challenge": challenge, "signature": keys[0].sign(&challenge) });
        let refused = wire.call(from(3), "", "POST", "/v1/login", Some(&json!({ "proof": proof })));
        (refused.status, refused.text())
    };
    assert_eq!(challenged("carol"), challenged("nobody"));
}
