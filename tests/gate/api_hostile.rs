//! The API under callers that mean harm: every input is a row, every row is
//! refused with a reason, nobody else notices, and memory stays where it was.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api_inputs::{Input, Wants, inputs, unspoilt};
use crate::support::api::{Enrolled, Wire, request, tcp};
use crate::support::process::status_kb;
use crate::support::{Bastion, Setup, secs};

/// What hostile callers may cost, in KiB (64 MiB).
const RSS_KIB_MAX: u64 = 64 * 1024;
/// The longest that somebody else may wait meanwhile.
const OTHERS_WAIT: Duration = secs(3);
/// Inputs by one admin: fewer than it may make at once.
const BATCH: usize = 120;

struct House {
    bastion: Bastion,
    wire: Wire,
    key: Enrolled,
    rss_kib: u64,
}

impl House {
    fn new() -> House {
        let bastion = Setup::new().set("api.listen", "\"127.0.0.1:0\"").start();
        bastion.add_local("db1", &["/bin/true"]);
        let wire = Wire::of(&bastion);
        let house = House {
            key: Enrolled::new(),
            wire,
            rss_kib: 0,
            bastion,
        };
        // Once, so that what a first call sets up does not count.
        let token = house.admin("first", Ipv4Addr::new(127, 9, 0, 1));
        house.whoami(&token);
        // The high-water mark starts anew (proc_pid_clear_refs(5)).
        std::fs::write(format!("/proc/{}/clear_refs", house.bastion.pid()), "5").unwrap();
        House {
            rss_kib: status_kb(house.bastion.pid(), "VmRSS"),
            ..house
        }
    }

    fn admin(&self, name: &str, from: Ipv4Addr) -> String {
        let public = self.key.public();
        self.bastion
            .admin(&[
                "identity",
                "add",
                name,
                "--role",
                "admin",
                "--key",
                public.to_str().unwrap(),
            ])
            .ok();
        self.wire.login(from, name, &self.key, &[], 3600)
    }

    /// One call by somebody from elsewhere; how long it took.
    #[track_caller]
    fn whoami(&self, token: &str) -> Duration {
        let began = Instant::now();
        let answer = self
            .wire
            .call(Ipv4Addr::new(127, 9, 9, 9), token, "GET", "/v1/whoami", None);
        assert_eq!(answer.status, 200, "{}", answer.text());
        began.elapsed()
    }

    /// Runs `attack` while somebody else calls all the time.
    #[track_caller]
    fn beside<T: Send>(&self, attack: impl FnOnce() -> T + Send) -> T {
        let token = self.admin("other", Ipv4Addr::new(127, 9, 0, 2));
        let over = AtomicBool::new(false);
        let served = AtomicU32::new(0);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !over.load(Ordering::SeqCst) {
                    longest = longest.max(self.whoami(&token));
                    served.fetch_add(1, Ordering::SeqCst);
                    crate::support::wait::let_pass(Duration::from_millis(50));
                }
                longest
            });
            let done = scope.spawn(attack).join();
            over.store(true, Ordering::SeqCst);
            let longest = other.join().expect("the other caller was served");
            assert!(longest < OTHERS_WAIT, "somebody else waited {longest:?}");
            assert!(served.load(Ordering::SeqCst) > 0);
            done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    #[track_caller]
    fn memory_stayed(&self) {
        let most = status_kb(self.bastion.pid(), "VmHWM");
        let grown = most.saturating_sub(self.rss_kib);
        println!("server: {} KiB before, {most} KiB at most", self.rss_kib);
        assert!(grown < RSS_KIB_MAX, "it grew by {grown} KiB");
    }
}

#[test]
fn every_hostile_input_is_refused_with_a_reason() {
    let house = House::new();
    let all = inputs(&house.key.line());
    assert!(all.len() >= 200, "{}", all.len());
    println!("{} hostile inputs", all.len());
    let wrong = house.beside(|| {
        let mut wrong = Vec::new();
        for (number, batch) in all.chunks(BATCH).enumerate() {
            let number = u8::try_from(number).unwrap();
            let token = house.admin(&format!("adm{number}"), Ipv4Addr::new(127, 10, number, 1));
            for (at, input) in batch.iter().enumerate() {
                // Anybody's routes count by address.
                let from = Ipv4Addr::new(127, 10, number, u8::try_from(at / 10 + 2).unwrap());
                wrong.extend(judged(&house.wire, input, &token, from));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    house.memory_stayed();
    // It was the trick that was refused, and not what it was played with.
    let token = house.admin("good", Ipv4Addr::new(127, 10, 99, 1));
    for (path, body) in unspoilt(&house.key.line()) {
        let from = Ipv4Addr::new(127, 10, 99, 2);
        let answer = house.wire.call(from, &token, "POST", path, Some(&body));
        let wanted = match path {
            "/v1/revoke" | "/v1/reviews/00112233/close" => 404,
            "/v1/login" => 401,
            _ => 200,
        };
        assert_eq!(answer.status, wanted, "{path}: {}", answer.text());
    }
    assert!(!house.bastion.log().contains("panicked"), "{}", house.bastion.log());
    house.bastion.assert_ledger_clean();
}

/// What is wrong with the answer to an input, if anything is.
fn judged(wire: &Wire, input: &Input, token: &str, from: Ipv4Addr) -> Option<String> {
    let answer = wire.send(from, &input.bytes(token));
    let fits = match (&input.wants, &answer) {
        // Not for something else: for no token, or for too many calls.
        (Wants::Refused, Some(answer)) => {
            (400..500).contains(&answer.status) && ![401, 429].contains(&answer.status) && answer.is_problem()
        }
        (Wants::Unproved, Some(answer)) => answer.status == 401 && answer.is_problem(),
        (Wants::Refused | Wants::Unproved, None) => false,
        // HTTP itself is broken: there is nobody to explain anything to.
        (Wants::Broken, Some(answer)) => (400..500).contains(&answer.status),
        (Wants::Broken, None) => true,
    };
    let told = answer.map_or("closed".to_owned(), |answer| {
        format!("{} {}", answer.status, answer.text())
    });
    (!fits).then(|| format!("{}: {told}", input.name))
}

#[test]
fn words_are_kept_as_words() {
    let house = House::new();
    let token = house.admin("adm", Ipv4Addr::new(127, 10, 0, 1));
    for text in [
        "'; DROP TABLE identity; --",
        "(a+)+$ (x*)*y \\1 .*",
        "../../../etc/shadow",
        "${jndi:ldap://x} {{7*7}} %s%n $(id) `id`",
        "<script>alert(1)</script>",
        "\u{5317}\u{4eac} \u{1f511} \u{e9}\u{301}",
        "NULL",
        "\" , \"admin\": true",
    ] {
        let wants =
            json!({ "identity": "adm", "destination": "op@db1", "for_secs": 60, "reason": text, "ticket": text });
        let from = Ipv4Addr::new(127, 10, 0, 2);
        let made = house.wire.call(from, &token, "POST", "/v1/requests", Some(&wants));
        assert_eq!(made.status, 200, "{text}: {}", made.text());
        let path = format!("/v1/requests/{}", made.json()["request"]["id"].as_str().unwrap());
        let kept = house.wire.call(from, &token, "GET", &path, None).json();
        assert_eq!(
            (&kept["request"]["reason"], &kept["request"]["ticket"]),
            (&text.into(), &text.into())
        );
    }
    let known = house
        .wire
        .call(Ipv4Addr::new(127, 10, 0, 3), &token, "GET", "/v1/identities", None);
    assert!(known.json()["identities"].as_array().is_some_and(|all| all.len() >= 2));
}

#[test]
fn calls_that_come_at_once_or_never_end_keep_nobody_waiting() {
    let house = House::new();
    let token = house.admin("adm", Ipv4Addr::new(127, 10, 0, 1));
    house.beside(|| {
        // Fifty calls in one write, answered one after the other.
        let from = Ipv4Addr::new(127, 10, 1, 1);
        let mut tls = house.wire.connect(from).unwrap();
        let one = format!("GET /v1/whoami HTTP/1.1\r\nHost: gate1\r\nAuthorization: Bearer {token}\r\n\r\n");
        let last = request("GET", "/v1/whoami", &token, None);
        tls.write(&[one.repeat(49).as_bytes(), &last].concat());
        let answered = String::from_utf8_lossy(&tls.rest()).matches("HTTP/1.1 200").count();
        assert_eq!(answered, 50);

        // Bodies that never come, wherever one is read.
        let slow = |path: &'static str, token: &str, more: &str, from: Ipv4Addr| {
            let mut tls = house.wire.connect(from).unwrap();
            let mut head = format!("POST {path} HTTP/1.1\r\nHost: gate1\r\nContent-Length: 4000\r\n{more}");
            if !token.is_empty() {
                head += &format!("Authorization: Bearer {token}\r\n");
            }
            tls.write(format!("{head}\r\n{{\"").as_bytes());
            tls.answer()
        };
        let signed = "webhook-id: a\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,a\r\n";
        let cases = [
            ("/v1/login", "", ""),
            ("/v1/login/challenge", "", ""),
            ("/v1/login", "", "Expect: 100-continue\r\n"),
            ("/v1/hooks/pager", "", signed),
            ("/v1/requests", token.as_str(), ""),
            ("/v1/requests", token.as_str(), "Idempotency-Key: slow\r\n"),
            ("/v1/inventory", token.as_str(), ""),
        ];
        std::thread::scope(|scope| {
            let slow = &slow;
            let running: Vec<_> = (0u8..28)
                .map(|number| {
                    let (path, token, more) = cases[usize::from(number) % cases.len()];
                    let more = more.replace("slow", &format!("slow{number}"));
                    let from = Ipv4Addr::new(127, 10, 2, number % 7 + 1);
                    scope.spawn(move || (path, slow(path, token, &more, from)))
                })
                .collect();
            for one in running {
                let (path, answer) = one.join().unwrap();
                let answer = answer.unwrap_or_else(|| panic!("{path}: closed without a word"));
                assert!(answer.is_problem() && answer.status == 422, "{path}: {}", answer.text());
            }
        });
    });
    house.memory_stayed();
}

#[test]
fn five_hundred_idle_connections_keep_nobody_out() {
    let house = House::new();
    let idle = house.beside(|| {
        let attacker = Ipv4Addr::new(127, 11, 0, 1);
        let mut plain = Vec::new();
        let mut shaken = Vec::new();
        for number in 0u16..500 {
            // A few addresses, as somebody has who means it.
            let from = Ipv4Addr::new(127, 11, 0, u8::try_from(number % 5 + 1).unwrap());
            match number % 4 {
                // Nothing at all.
                0 => plain.push(tcp(from, house.wire.addr)),
                // The start of a handshake (RFC 8446 section 5.1: a record of 512 bytes), and no more.
                1 => {
                    let socket = tcp(from, house.wire.addr);
                    let sent = std::io::Write::write(&mut &socket, &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]);
                    assert!(sent.is_ok());
                    plain.push(socket);
                }
                // No TLS.
                2 => {
                    let socket = tcp(from, house.wire.addr);
                    std::io::Write::write(&mut &socket, b"GET / HTTP/1.1\r\n\r\n").ok();
                    plain.push(socket);
                }
                // A whole handshake, then silence, or half a head.
                _ => {
                    if let Some(mut tls) = house.wire.connect(from) {
                        tls.write(b"GET /v1/whoami HTTP/1.1\r\nHost:");
                        shaken.push(tls);
                    }
                }
            }
        }
        // Who comes from the same address as all that is served as well.
        let answer = house.wire.call(attacker, "", "GET", "/healthz", None);
        assert_eq!(answer.status, 200);
        (plain, shaken)
    });
    assert!(idle.1.len() > 20, "{} handshakes", idle.1.len());
    house.memory_stayed();
    drop(idle);
    let token = house.admin("after", Ipv4Addr::new(127, 9, 0, 3));
    house.whoami(&token);
}

#[test]
fn who_hangs_up_does_not_stop_what_it_asked_for() {
    let house = House::new();
    let token = house.admin("adm", Ipv4Addr::new(127, 10, 0, 1));
    let from = Ipv4Addr::new(127, 10, 0, 2);
    let wants = json!({ "name": "new1", "kind": "person" });
    let call = |body: &Value| {
        let text = String::from_utf8(request("POST", "/v1/identities", &token, Some(body))).unwrap();
        text.replacen("Host:", "Idempotency-Key: once\r\nHost:", 1).into_bytes()
    };
    let mut tls = house.wire.connect(from).unwrap();
    tls.write(&call(&wants));
    drop(tls);
    // The same call again has the answer of the first one, and its effect once.
    let again = crate::support::wait_for("the answer of the call before", secs(20), || {
        let answer = house.wire.send(from, &call(&wants))?;
        (answer.status != 409).then_some(answer)
    });
    assert_eq!(again.status, 200, "{}", again.text());
    let other = house
        .wire
        .send(from, &call(&json!({ "name": "new2", "kind": "person" })))
        .unwrap();
    assert_eq!((other.status, other.is_problem()), (409, true), "{}", other.text());
    // Another caller's key of the same text is another key.
    let second = house.admin("second", Ipv4Addr::new(127, 10, 0, 3));
    let bytes = String::from_utf8(call(&json!({ "name": "new3", "kind": "person" }))).unwrap();
    let own = house
        .wire
        .send(from, bytes.replace(&token, &second).as_bytes())
        .unwrap();
    assert_eq!(own.status, 200, "{}", own.text());
    assert!(own.text().contains("new3"));
}
