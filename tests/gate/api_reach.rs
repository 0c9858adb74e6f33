//! How far roles, proofs and approvals reach over the API: not further.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::support::api::{Answer, Enrolled, Wire};
use crate::support::{Bastion, Setup};

struct House {
    bastion: Bastion,
    wire: Wire,
    key: Enrolled,
}

const FROM: Ipv4Addr = Ipv4Addr::new(127, 13, 0, 1);

impl House {
    fn new(policies: &[(&str, &str)]) -> House {
        let mut bastion = Setup::new().set("api.listen", "\"127.0.0.1:0\"").make();
        for (name, text) in policies {
            std::fs::write(bastion.state().join("policies").join(name), text).unwrap();
        }
        bastion.serve();
        bastion.add_local("db1", &[]);
        House {
            wire: Wire::of(&bastion),
            bastion,
            key: Enrolled::new(),
        }
    }

    /// Enrolled with the key that all of them share.
    #[track_caller]
    fn enrol(&self, name: &str, more: &[&str]) {
        let public = self.key.public();
        let mut add = vec!["identity", "add", name, "--key", public.to_str().unwrap()];
        add.extend(more);
        self.bastion.admin(&add).ok();
    }

    #[track_caller]
    fn token(&self, name: &str) -> String {
        self.wire.login(FROM, name, &self.key, &[], 600)
    }

    #[track_caller]
    fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.wire.call(FROM, token, "POST", path, Some(body))
    }

    /// A signed challenge for `purpose`.
    #[track_caller]
    fn proof(&self, name: &str, purpose: &Value) -> Value {
        let wanted = json!({ "identity": name, "for": purpose });
        let given = self.post("", "/v1/login/challenge", &wanted).json();
        let challenge = given["challenge"].as_str().expect("a challenge");
        json!({ "challenge": challenge, "signature": self.key.sign(challenge) })
    }
}

#[test]
fn a_sponsor_comes_in_as_nobody_but_vendors() {
    let house = House::new(&[]);
    house.enrol("sam", &["--role", "sponsor"]);
    house.enrol("carol", &["--role", "admin"]);
    house.enrol("acme", &["--kind", "vendor"]);
    let sam = house.token("sam");
    let asks = |name: &str| {
        let asked = json!({ "identity": name, "destination": "op@db1", "for_secs": 60, "reason": "x",
            "public_key": house.key.line() });
        house.post(&sam, "/v1/requests", &asked)
    };
    assert_eq!(asks("acme").status, 200);
    let (carol, nobody) = (asks("carol"), asks("nobody"));
    assert_eq!(carol.status, 403, "{}", carol.text());
    assert_eq!(carol.text().replace("carol", "N"), nobody.text().replace("nobody", "N"));
}

#[test]
fn a_login_ends_with_the_key_that_proved_it() {
    let house = House::new(&[]);
    house.enrol("adm", &["--role", "admin"]);
    house.enrol("alice", &[]);
    let (adm, alice) = (house.token("adm"), house.token("alice"));
    let declares = |key: &str| {
        let identity = json!({ "name": "alice", "kind": "person", "keys": [key] });
        let done = house.post(
            &adm,
            "/v1/inventory",
            &json!({ "identities": [{ "identity": identity }] }),
        );
        assert_eq!(done.status, 200, "{}", done.text());
    };
    let stands = || house.wire.call(FROM, &alice, "GET", "/v1/whoami", None).status;
    declares(&house.key.line());
    assert_eq!(stands(), 200, "nothing changed");
    declares(&Enrolled::new().line());
    assert_eq!(stands(), 401);
}

const NO_ISSUE: &str = r#"
@id("no-certificates-today") @note("a freeze")
forbid (principal, action == Action::"issue", resource == Target::"db1");
"#;

#[test]
fn an_approval_is_no_way_around_a_rule_on_issuing() {
    let house = House::new(&[("freeze.cedar", NO_ISSUE)]);
    house.enrol("alice", &[]);
    house.enrol("bob", &["--role", "approver"]);
    let (alice, bob) = (house.token("alice"), house.token("bob"));
    let asked = json!({ "destination": "op@db1", "for_secs": 60, "reason": "x", "public_key": house.key.line() });
    let made = house.post(&alice, "/v1/requests", &asked).json();
    let path = format!("/v1/requests/{}", made["request"]["id"].as_str().unwrap());
    let seen = json!({ "request_sha256": made["request"]["sha256"] });
    let yes = house.post(&bob, &format!("{path}/approve"), &seen);
    assert_eq!(yes.status, 200, "{}", yes.text());
    let refused = house.post(&alice, &format!("{path}/collect"), &json!({}));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("no-certificates-today"), "{}", refused.text());
}

#[test]
fn a_proof_is_good_once_for_one_purpose_and_one_identity() {
    let house = House::new(&[]);
    house.enrol("alice", &[]);
    house.enrol("bob", &["--role", "approver"]);
    let login = json!({ "action": "login" });
    let logs_in = |proof: &Value| house.post("", "/v1/login", &json!({ "proof": proof })).status;
    let once = house.proof("alice", &login);
    assert_eq!((logs_in(&once), logs_in(&once)), (200, 401), "taken once");
    for purpose in [
        json!({ "action": "answer", "about": "00112233445566778899aabbccddeeff" }),
        json!({ "action": "collect", "about": "00112233445566778899aabbccddeeff" }),
        json!({ "action": "request", "about": "00".repeat(32) }),
    ] {
        assert_eq!(logs_in(&house.proof("alice", &purpose)), 401, "{purpose}");
    }
    // Another's name in it, another key under it, another text above it.
    let proof = house.proof("alice", &login);
    let spoilt = |field: &str, text: String| {
        let mut spoilt = proof.clone();
        spoilt[field] = text.into();
        logs_in(&spoilt)
    };
    let challenge = proof["challenge"].as_str().unwrap();
    assert_eq!(spoilt("challenge", challenge.replace("alice", "bob")), 401);
    assert_eq!(spoilt("challenge", format!("{challenge}\n")), 401);
    assert_eq!(spoilt("signature", Enrolled::new().sign(challenge)), 401);
    // Another server knows nothing of it, whatever it is called.
    let other = House::new(&[]);
    let public = house.key.public();
    other
        .bastion
        .admin(&["identity", "add", "alice", "--key", public.to_str().unwrap()])
        .ok();
    assert_eq!(other.post("", "/v1/login", &json!({ "proof": proof })).status, 401);
    // None of this used it up.
    assert_eq!(logs_in(&proof), 200);
}
