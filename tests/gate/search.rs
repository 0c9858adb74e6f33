//! Search over recordings of real sessions: found by what was run, moved and
//! shown, shown from the recording, by those who may read it; and sessions on
//! one page.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::api::{Enrolled, Wire};
use crate::support::bytes::find;
use crate::support::{Bastion, Setup, Sshd, Terminal, Variant, World, run, secs, wait_for};

/// What stands in an encrypted recording and nowhere else.
const CANARY: &str = "canary-9Kd3";

/// Waits until as many recordings are in the index, however they stand.
#[track_caller]
fn indexed(bastion: &Bastion, count: u64) -> Value {
    let is_in = || {
        let view = bastion.json(&["recordings", "index"]);
        let held: u64 = ["whole", "part", "locked", "unread"]
            .iter()
            .map(|name| view[name].as_u64().unwrap())
            .sum();
        (held == count && view["waiting"] == 0).then_some(view)
    };
    wait_for("the index", secs(30), is_in)
}

fn found(bastion: &Bastion, query: &str) -> Vec<Value> {
    let done = run(
        bastion.command(&["recordings", "search", query]).arg("--json"),
        secs(30),
    );
    let answer: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", done.err()));
    assert_eq!(
        (&answer["schema"], &answer["complete"]),
        (&json!(1), &json!(true)),
        "{query}"
    );
    let hits = answer["hits"].as_array().unwrap().clone();
    assert_eq!(done.code(), i32::from(hits.is_empty()), "{query}");
    hits
}

/// Whether any file below `folder` holds these bytes.
fn holds(folder: &Path, word: &[u8]) -> bool {
    std::fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        match path.is_dir() {
            true => holds(&path, word),
            false => std::fs::read(&path).is_ok_and(|bytes| find(&bytes, word).is_some()),
        }
    })
}

fn session_of(hit: &Value) -> String {
    hit["session"].as_str().unwrap().to_owned()
}

/// One exec that fails, one that is labelled, a shell, and a file.
fn worked() -> World {
    let world = World::new();
    let client = world.client();
    run(client.ssh().args(["gate", "echo needle-4711; exit 3"]), secs(20));
    run(client.ssh().args(["gate", "rm -rf /nowhere/at-all"]), secs(20)).ok();
    let file = world.bastion.dir().join("tool-0815.bin");
    std::fs::write(&file, b"12345").unwrap();
    let there = format!("gate:{}/", world.sshd.folder().display());
    run(client.scp().args(["-q", file.to_str().unwrap(), &there]), secs(20)).ok();
    let mut ssh = client.ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 80, 24);
    terminal.line("echo shown-$((4000 + 711))");
    terminal.expect("shown-4711", secs(20));
    terminal.line("exit 0");
    terminal.finish(secs(20));
    world.bastion.await_records(4, secs(30));
    world
}

#[test]
fn what_was_run_moved_and_shown_is_found_and_shown_from_the_recording() {
    let mut world = worked();
    let bastion = &world.bastion;
    indexed(bastion, 4);
    let [hit] = &found(bastion, "needle-4711 kind:command")[..] else {
        panic!("{:?}", found(bastion, "needle-4711"));
    };
    assert_eq!(hit["text"], "echo needle-4711; exit 3");
    assert_eq!((&hit["status"], &hit["checked"]), (&json!(3), &json!("recording")));
    assert_eq!(
        (&hit["identity"], &hit["destination"]),
        (&json!("alice"), &json!("root@db1"))
    );
    assert_eq!(
        found(bastion, "kind:command status:3 user:alice target:db1 after:1h").len(),
        1
    );
    for (query, kind) in [
        ("needle-4711 kind:screen", "screen"),
        ("\"shown-4711\" kind:screen", "screen"),
        ("tool-0815.bin kind:file", "file"),
        ("label:destructive kind:command", "command"),
        ("/rm.+at-all$/", "command"),
    ] {
        let hits = found(bastion, query);
        assert!(!hits.is_empty(), "{query}");
        for hit in &hits {
            assert_eq!(
                (&hit["kind"], &hit["checked"]),
                (&json!(kind), &json!("recording")),
                "{query}: {hit}"
            );
        }
    }
    for query in [
        "needle-4711 user:bob",
        "needle-4711 before:1h",
        "eedle-4711",
        "kind:file label:destructive",
    ] {
        assert_eq!(found(bastion, query), Vec::<Value>::new(), "{query}");
    }
    // Each search and what it showed is in the ledger, by the session's id.
    assert!(holds(&bastion.state().join("ledger"), b"needle-4711 kind:command"));
    assert!(holds(&bastion.state().join("ledger"), session_of(hit).as_bytes()));
    bastion.assert_ledger_clean();
    // In words, with the way to the player.
    let said = bastion
        .admin(&["recordings", "search", "needle-4711", "kind:command"])
        .ok();
    assert!(
        said.out()
            .contains("  alice  root@db1  command  echo needle-4711; exit 3  status 3"),
        "{}",
        said.out()
    );
    let next = format!("portcullis recordings play {} --at 0:00:00.", &session_of(hit)[..8]);
    assert!(said.err().contains(&next), "{}", said.err());
    assert!(said.err().contains(" --channel "), "{}", said.err());
    // No terminal here, so the player prints the session as text, from there on.
    let played = bastion
        .admin(&["recordings", "search", "needle-4711 kind:command", "--play", "1"])
        .ok();
    assert!(played.out().contains("needle-4711"), "{}", played.out());
    let many = bastion.admin(&["recordings", "search", "needle-4711", "--play", "99"]);
    assert_eq!(many.code(), 6, "{}", many.err());
    for bad in ["kind:nothing", "\"open", "/(/"] {
        assert_eq!(bastion.admin(&["recordings", "search", bad]).code(), 2, "{bad}");
    }
    // Thrown away, it is made again of the recordings; so it is on request.
    world.bastion.stop(secs(30));
    for name in ["search.db", "search.db-wal", "search.db-shm"] {
        std::fs::remove_file(world.bastion.state().join(name)).ok();
    }
    world.bastion.serve();
    let before = indexed(&world.bastion, 4);
    assert_eq!(found(&world.bastion, "needle-4711 kind:command").len(), 1);
    assert_eq!(world.bastion.json(&["recordings", "index", "--rebuild"]), before);
    assert_eq!(found(&world.bastion, "needle-4711 kind:command").len(), 1);
    // A recording that was changed since is told from what the index says.
    let session = session_of(&found(&world.bastion, "needle-4711 kind:command")[0]);
    let archived = world.bastion.archived();
    let file = archived
        .iter()
        .find(|file| file.to_string_lossy().contains(&session))
        .expect("the file");
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(
        found(&world.bastion, "needle-4711 kind:command")[0]["checked"],
        "differs"
    );
    let said = world
        .bastion
        .admin(&["recordings", "search", "needle-4711", "kind:command"])
        .ok();
    assert!(said.out().contains("(NOT IN THE RECORDING)"), "{}", said.out());
}

#[test]
fn who_may_not_read_a_recording_finds_nothing_of_it() {
    const RULES: &str = r#"
@id("not-db2") forbid (principal, action == Action::"replay", resource == Target::"db2");
"#;
    let mut bastion = Setup::new().set("api.listen", "\"127.0.0.1:0\"").make();
    std::fs::write(bastion.state().join("policies/read.cedar"), RULES).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    for name in ["db1", "db2"] {
        bastion.add_host(name, &sshd);
        let pass = bastion.pass(&format!("root@{name}")).issue();
        let said = format!("echo needle-4711 at {name}");
        run(bastion.client(&pass).ssh().args(["gate", &said]), secs(20)).ok();
    }
    bastion.await_records(2, secs(30));
    indexed(&bastion, 2);
    let wire = Wire::of(&bastion);
    let key = Enrolled::new();
    let public = key.public();
    let add = [
        "identity",
        "add",
        "ina",
        "--key",
        public.to_str().unwrap(),
        "--role",
        "investigator",
        "--role",
        "auditor",
    ];
    bastion.admin(&add).ok();
    let from = std::net::Ipv4Addr::LOCALHOST;
    let token = |role: &str| wire.login(from, "ina", &key, &[role], 600);
    let ask = |token: &str, query: &str| {
        let body = json!({ "query": query, "reason": "case 7" });
        wire.call(from, token, "POST", "/v1/recordings/search", Some(&body))
    };
    let investigator = token("investigator");
    let answer = ask(&investigator, "needle-4711");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer.text().contains("at db1") && !answer.text().contains("db2"),
        "{}",
        answer.text()
    );
    for query in ["target:db2", "\"at db2\"", "kind:session db2", "/db2/"] {
        let answer = ask(&investigator, query);
        assert_eq!(
            (answer.status, answer.json()["hits"].clone()),
            (200, json!([])),
            "{query}: {}",
            answer.text()
        );
    }
    // An auditor sees that there are recordings, and reads none.
    assert_eq!(ask(&token("auditor"), "needle-4711").status, 403);
    for (body, status) in [
        (json!({ "query": "needle-4711", "reason": "" }), 422),
        (json!({ "query": "needle-4711", "reason": "x", "limit": 0 }), 422),
        (json!({ "query": "needle-4711", "reason": "x", "after": "y" }), 422),
        (json!({ "query": "x".repeat(5000), "reason": "x" }), 422),
    ] {
        let answer = wire.call(from, &investigator, "POST", "/v1/recordings/search", Some(&body));
        assert!(
            answer.status == status && answer.is_problem(),
            "{}: {}",
            answer.status,
            answer.text()
        );
    }
    let row = bastion
        .sessions()
        .into_iter()
        .find(|row| row["destination"] == "root@db2")
        .unwrap();
    let path = format!("/v1/sessions/{}/background", row["id"].as_str().unwrap());
    assert_eq!(wire.call(from, &investigator, "GET", &path, None).status, 403);
}

#[test]
fn of_an_encrypted_recording_the_server_finds_its_labels_and_the_key_the_rest() {
    let identity = age::x25519::Identity::generate();
    let spare = age::x25519::Identity::generate();
    let recipients = format!("[\"{}\", \"{}\"]", identity.to_public(), spare.to_public());
    let setup = Setup::new().set("recording.recipients", &recipients);
    let world = World::with(setup, Variant::default());
    let bastion = &world.bastion;
    let key = bastion.dir().join("key.txt");
    let secret = age::secrecy::ExposeSecret::expose_secret(&identity.to_string()).to_owned();
    std::fs::write(&key, format!("{secret}\n")).unwrap();
    let said = format!("echo {CANARY}; rm -rf /nowhere/at-all");
    run(world.client().ssh().args(["gate", &said]), secs(20)).ok();
    bastion.await_records(1, secs(30));
    assert_eq!(indexed(bastion, 1)["locked"], 1);
    assert!(!holds(bastion.state(), CANARY.as_bytes()));
    // From here on the ledger has it: somebody looked for it.
    assert_eq!(found(bastion, CANARY), Vec::<Value>::new());
    let [hit] = &found(bastion, "label:destructive user:alice")[..] else {
        panic!("no session of that label");
    };
    assert_eq!(
        (&hit["kind"], &hit["labels"]),
        (&json!("session"), &json!(["destructive"]))
    );
    // The investigator's side: the same words, with the key.
    let trust = bastion.state().join("trust.toml");
    let mut search = Command::new(player());
    search
        .args(["--json", "search", CANARY])
        .arg(bastion.archive())
        .arg("--trust")
        .arg(&trust);
    assert_eq!(run(&mut search, secs(30)).code(), 12);
    let opened = run(search.arg("--identity").arg(&key), secs(30)).ok();
    assert!(opened.out().contains("\"kind\":\"command\""), "{}", opened.out());
    let session = session_of(hit);
    let locked = bastion.admin(&["recordings", "summary", &session]);
    assert_eq!(locked.code(), 12, "{}", locked.err());
    let page = bastion
        .admin(&["recordings", "summary", &session, "--identity", key.to_str().unwrap()])
        .ok();
    assert!(page.out().contains(CANARY), "{}", page.out());
    // And without the key near the server: what only that knows is taken to where the key is.
    let known = bastion.admin(&["recordings", "background", &session]).ok().out();
    assert!(!known.contains(CANARY), "{known}");
    let background = bastion.dir().join("background.json");
    std::fs::write(&background, known).unwrap();
    for (verb, of) in [("summary", record_of(bastion, &session)), ("report", bastion.archive())] {
        let mut elsewhere = Command::new(player());
        elsewhere.arg(verb).arg(of).arg("--trust").arg(&trust);
        elsewhere
            .arg("--identity")
            .arg(&key)
            .arg("--background")
            .arg(&background);
        let page = run(&mut elsewhere, secs(30)).ok();
        for part in [
            CANARY,
            "why  ",
            "granted",
            "destructive, perhaps more: the server could not read all",
        ] {
            assert!(page.out().contains(part), "{verb}, {part}: {}", page.out());
        }
    }
    // The ledger has that summary's reader; the session's key is destroyed: nothing of it is found.
    bastion
        .admin(&["recordings", "shred", &session, "--reason", "over"])
        .ok();
    assert_eq!(found(bastion, "label:destructive"), Vec::<Value>::new());
    assert_eq!(bastion.json(&["recordings", "index", "--rebuild"])["gone"], 1);
    assert_eq!(found(bastion, "user:alice"), Vec::<Value>::new());
}

#[test]
fn a_session_and_a_visit_on_one_page() {
    let world = worked();
    let bastion = &world.bastion;
    indexed(bastion, 4);
    let later = world.bastion.pass("root@db1").issue();
    run(bastion.client(&later).ssh().args(["gate", "shred --version"]), secs(20)).ok();
    bastion.await_records(5, secs(30));
    indexed(bastion, 5);
    let session = session_of(&found(bastion, "shred kind:command")[0]);
    let summary = bastion.json(&["recordings", "summary", &session]);
    assert_eq!(summary["session"]["identity"], "alice");
    assert_eq!(
        (&summary["commands"]["total"], &summary["known"]["earlier"]),
        (&json!(1), &json!(4))
    );
    // Never run before, as rm was.
    let first = &summary["known"]["first_programs"];
    assert_eq!(
        (first, &summary["commands"]["list"][0]["first"]),
        (&json!(["shred"]), &json!(true))
    );
    let text = bastion.admin(&["recordings", "summary", &session]).ok().out();
    assert!(
        text.contains("FIRST TIME") && text.contains("why  ") && text.contains("granted"),
        "{text}"
    );
    // All that was done under the first grant.
    let rm = found(bastion, "at-all kind:command");
    let row = bastion.json(&["sessions", rm[0]["session"].as_str().unwrap()]);
    let grant = row["session"]["grant"].as_str().unwrap();
    let visit = bastion.json(&["recordings", "report", "--grant", grant]);
    assert_eq!(visit["summaries"].as_array().unwrap().len(), 4, "{visit}");
    let fact = |name: &str| {
        let facts = visit["facts"].as_array().unwrap();
        facts
            .iter()
            .find(|fact| fact[0] == name)
            .map(|fact| fact[1].as_str().unwrap().to_owned())
    };
    assert_eq!(fact("sessions").unwrap(), "4, of 4");
    assert!(fact("labels").unwrap().contains("destructive 1"), "{visit}");
    assert!(fact("files").unwrap().starts_with("1 up (5 bytes)"), "{visit}");
    let page = bastion.dir().join("visit.html");
    bastion
        .admin(&[
            "recordings",
            "report",
            "--grant",
            grant,
            "--html",
            page.to_str().unwrap(),
        ])
        .ok();
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("default-src 'none'") && page.contains("tool-0815.bin") && !page.contains("<script"));
    assert_eq!(
        bastion.admin(&["recordings", "report", "--grant", "ffffffff"]).code(),
        6
    );
    bastion.assert_ledger_clean();
}

fn record_of(bastion: &Bastion, session: &str) -> PathBuf {
    bastion.archive().join(format!("{session}.pcr"))
}

/// The player of this workspace, built with it.
fn player() -> PathBuf {
    let file = crate::support::bastion::portcullis().with_file_name("portcullis-player");
    assert!(file.is_file(), "{} is missing: build the workspace", file.display());
    file
}
