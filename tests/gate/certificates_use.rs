//! What a certificate's options and its grant allow, with certificates that
//! ssh-keygen made and stock clients that present them.

use std::process::Command;

use crate::certificates::{USER, Yard, blob, fresh_key};
use crate::hostile::{login, served, signing_key};
use crate::raw::auth::Answer;
use crate::raw::channels::Outcome;
use crate::raw::{Hello, Peer};
use crate::support::process::Running;
use crate::support::{Bastion, Pass, Setup, World, finish, run, secs, wait_until};

const LIFE: [&str; 4] = ["-n", USER, "-V", "-1m:+10m"];

fn with<'a>(more: &[&'a str]) -> Vec<&'a str> {
    LIFE.iter().chain(more).copied().collect()
}

#[test]
fn d08_a_forced_command_replaces_everything() {
    let yard = Yard::new();
    let pass = yard.granted("admission_ca", &with(&["-O", "force-command=echo forced"]));
    let client = yard.bastion().client(&pass);
    let done = run(&mut client.exec("echo mine"), secs(20));
    assert_eq!((done.code(), done.out()), (0, "forced\n".into()), "{}", done.err());
    let done = finish(&mut client.shell(), b"echo mine\n", secs(20));
    assert_eq!((done.code(), done.out()), (0, "forced\n".into()), "{}", done.err());
    let mut tty = client.ssh();
    let done = run(tty.args(["-tt", "gate"]), secs(20));
    assert_eq!(done.out().trim_end(), "forced", "{}", done.err());
    let mut subsystem = client.ssh();
    let done = run(subsystem.args(["-s", "gate", "sftp"]), secs(20));
    assert_eq!((done.code(), done.out()), (0, "forced\n".into()), "{}", done.err());
    // One connection, several channels: each is forced.
    let mut peer = login(yard.bastion(), &pass);
    for _ in 0..3 {
        let channel = peer.session().unwrap().unwrap();
        peer.exec(&channel, "id").unwrap();
        assert_eq!(peer.outcome(&channel, secs(10)).unwrap().out, b"forced\n");
    }
    // What was asked and what ran are both in the recording.
    drop(peer);
    let records = yard.bastion().records(5);
    assert!(records[0].requests(1).contains(&("exec".into(), b"echo mine".to_vec())));
}

#[test]
fn d08_a_forced_command_waits_for_its_yes_whatever_is_asked_for() {
    let yard = Yard::new();
    let made = yard.bastion().state().join("made");
    let forced = format!("touch {}", made.display());
    let rule = r#"@id("two") @approvals("1") permit (principal, action == Action::"exec", resource);"#;
    std::fs::write(yard.bastion().state().join("policies/two.cedar"), rule).unwrap();
    yard.bastion().signal(nix::sys::signal::Signal::SIGHUP);
    wait_until("the reload", secs(10), || {
        yard.bastion().log().contains("reloaded: in force")
    });
    let option = format!("force-command={forced}");
    let pass = yard.granted("admission_ca", &with(&["-O", &option]));
    let client = yard.bastion().client(&pass);
    for asked in [&["-T", "gate"][..], &["-s", "gate", "sftp"], &["gate", "true"]] {
        let ssh = Running::with_input(client.ssh().args(asked));
        ssh.await_err("waiting for approval", secs(20));
        assert!(!made.exists(), "{asked:?}");
        let listed = yard.bastion().json(&["requests"]);
        let waits = &listed["requests"][0];
        assert_eq!(
            (&waits["state"], &waits["runs"]),
            (&"pending".into(), &forced.as_str().into())
        );
        yard.bastion()
            .admin(&["deny", waits["id"].as_str().unwrap(), "--reason", "no"])
            .ok();
        ssh.finish(secs(20));
        assert!(!made.exists(), "{asked:?}");
    }
}

/// One address list, and whether a client from 127.0.0.1 may come.
const SOURCES: &[(&str, bool)] = &[
    ("127.0.0.0/8", true),
    ("127.0.0.1", true),
    ("10.0.0.0/8,127.0.0.1/32", true),
    ("::1,127.0.0.0/8", true),
    ("10.0.0.0/8", false),
    ("127.0.0.2", false),
    ("::1", false),
    ("::/0", false),
    ("::ffff:127.0.0.0/104", false),
    ("::ffff:127.0.0.1/128", false),
];

fn sourced(yard: &Yard, list: &str) -> Pass {
    yard.granted("admission_ca", &with(&["-O", &format!("source-address={list}")]))
}

#[test]
fn d08_source_addresses_of_a_v4_client() {
    let yard = Yard::new();
    for (list, admits) in SOURCES {
        let pass = sourced(&yard, list);
        let key = signing_key(&pass.key);
        let ours = yard.ours(USER, &blob(&pass), &key);
        assert_eq!(ours == Answer::Success, *admits, "{list}: {ours:?}");
        assert!(!admits || yard.judged(&blob(&pass), &key), "{list}: sshd refuses");
    }
    // It is the connection's address that counts.
    let pass = sourced(&yard, "127.0.0.7");
    for (from, admits) in [("127.0.0.7", true), ("127.0.0.1", false)] {
        let hello = Hello {
            from: Some(from.parse().unwrap()),
            ..Hello::default()
        };
        let mut peer = Peer::keyed(yard.bastion().addr(), hello).unwrap();
        peer.service().unwrap();
        let answer = peer.certificate(USER, &blob(&pass), &signing_key(&pass.key)).unwrap();
        assert_eq!(answer == Answer::Success, admits, "from {from}: {answer:?}");
    }
    // Exec, shell and subsystem are all behind the same door.
    let client = yard.bastion().client(&sourced(&yard, "10.0.0.0/8"));
    assert_eq!(run(&mut client.exec("id"), secs(20)).code(), 255);
    assert_eq!(finish(&mut client.shell(), b"id\n", secs(20)).code(), 255);
    let mut sftp = client.ssh();
    assert_eq!(run(sftp.args(["-s", "gate", "sftp"]), secs(20)).code(), 255);
}

#[test]
fn d08_source_addresses_of_v6_and_mapped_clients() {
    for (listen, rows) in [
        (
            "[::1]:0",
            &[
                ("::1", true),
                ("::1/128,10.0.0.0/8", true),
                ("::/64", true),
                ("127.0.0.0/8", false),
                ("0.0.0.0/0", false),
                ("2001:db8::/32", false),
            ][..],
        ),
        (
            "[::ffff:127.0.0.1]:0",
            &[
                ("127.0.0.0/8", true),
                ("127.0.0.1", true),
                ("::ffff:127.0.0.1", false),
                ("::/0", false),
                ("10.0.0.0/8", false),
            ][..],
        ),
    ] {
        let setup = Setup::new()
            .set("ssh.listen", &format!("\"{listen}\""))
            .set("ssh.exempt_networks", "[\"127.0.0.0/8\", \"::1\"]");
        let yard = Yard::with(setup);
        for (list, admits) in rows {
            let pass = sourced(&yard, list);
            let ours = yard.ours(USER, &blob(&pass), &signing_key(&pass.key));
            assert_eq!(ours == Answer::Success, *admits, "{listen}, {list}: {ours:?}");
        }
    }
}

#[test]
fn d08_missing_extensions_refuse_their_requests() {
    let yard = Yard::new();
    // The grant allows all of it; the certificate does not.
    let bare = yard.granted("admission_ca", &with(&["-O", "clear"]));
    let client = yard.bastion().client(&bare);
    let mut tty = client.ssh();
    let done = run(tty.args(["-tt", "gate", "tty"]), secs(20));
    assert!(!done.out().contains("/dev/pts"), "{}", done.out());
    let done = run(&mut client.exec("echo still"), secs(20));
    assert_eq!(done.out(), "still\n");
    let pty = yard.granted("admission_ca", &with(&["-O", "clear", "-O", "permit-pty"]));
    let mut tty = yard.bastion().client(&pty).ssh();
    let done = run(tty.args(["-tt", "gate", "tty"]), secs(20));
    assert!(done.out().contains("/dev/pts"), "{} {}", done.out(), done.err());
}

/// The stock client's view of a refusal, with its reason or without.
#[track_caller]
fn refused(bastion: &Bastion, pass: &Pass, code: Option<&str>) {
    let key = signing_key(&pass.key);
    let mut peer = served(bastion);
    let answer = peer.certificate(&pass.destination, &blob(pass), &key).unwrap();
    let methods = match code {
        Some(_) => "publickey,keyboard-interactive",
        None => "publickey",
    };
    assert_eq!(
        answer,
        Answer::Failure {
            methods: methods.into(),
            partial: false
        },
        "wanted {code:?}"
    );
    let mut ssh = bastion.client(pass).ssh();
    // The command line comes before the configuration's BatchMode.
    let done = run(
        ssh.args(["-o", "BatchMode=no", "-o", "NumberOfPasswordPrompts=1", "gate", "id"]),
        secs(20),
    );
    assert_eq!(done.code(), 255, "{}", done.out());
    match code {
        Some(code) => assert!(done.err().contains(code), "{code} is not in: {}", done.err()),
        None => assert!(!done.err().contains("portcullis: refused"), "{}", done.err()),
    }
}

#[test]
fn d12_the_grant_is_what_admits() {
    let yard = Yard::new();
    let bastion = yard.bastion();
    bastion
        .admin(
            &[
                "target",
                "add",
                "db2",
                "--addr",
                &yard.judge.addr().to_string(),
                "--login",
                "root",
                "--login",
                "admin",
            ]
            .into_iter()
            .chain(["--host-key", yard.judge.host_key_pub().to_str().unwrap()])
            .collect::<Vec<_>>(),
        )
        .ok();
    // The right CA, and no row at all.
    refused(bastion, &yard.keygen("admission_ca", &LIFE), Some("no_grant"));
    // A row for a certificate that differs in one byte.
    let sibling = yard.granted("admission_ca", &LIFE);
    let resigned = yard.pass_of(
        sibling.key.clone(),
        &yard.cert(&signing_key(&sibling.key)).sign(&yard.key("admission_ca")),
    );
    refused(bastion, &resigned, Some("no_grant"));

    let pass = bastion.pass(USER).issue();
    // Another target, another login: not what the certificate names.
    // A user name without a target is the outer connection of a jump.
    for destination in ["root@db2", "admin@db2", "admin@db1", "root@db3", "root@", "Root@db1"] {
        let other = Pass {
            destination: destination.into(),
            ..pass.clone()
        };
        refused(bastion, &other, None);
    }
    // The certificate names it, the grant does not.
    for other in ["root@db2", "admin@db2"] {
        let wide = yard.keygen("admission_ca", &["-n", "root@db1,root@db2,admin@db2", "-V", "-1m:+10m"]);
        yard.grant(&blob(&wide), |grant| grant.destination = other.parse().unwrap());
        refused(bastion, &wide, Some("grant_other_destination"));
    }
    let done = run(&mut bastion.client(&pass).exec("echo in"), secs(20));
    assert_eq!(done.out(), "in\n", "{}", done.err());
    bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "over"])
        .ok();
    refused(bastion, &pass, Some("grant_revoked"));

    let once = bastion.pass(USER).arg("--single-use").issue();
    let done = run(&mut bastion.client(&once).exec("echo once"), secs(20));
    assert_eq!(done.out(), "once\n", "{}", done.err());
    refused(bastion, &once, Some("grant_used"));

    let early = yard.keygen("admission_ca", &LIFE);
    yard.grant(&blob(&early), |grant| grant.from_ms = grant.until_ms - 1000);
    refused(bastion, &early, Some("grant_not_yet"));
    let late = yard.keygen("admission_ca", &LIFE);
    yard.grant(&blob(&late), |grant| grant.until_ms = grant.from_ms + 10);
    refused(bastion, &late, Some("grant_expired"));
    let elsewhere = yard.keygen("admission_ca", &LIFE);
    yard.grant(&blob(&elsewhere), |grant| {
        grant.sources = vec!["10.0.0.0/8".parse().unwrap()]
    });
    refused(bastion, &elsewhere, Some("grant_source"));
}

#[test]
fn d12_single_use_is_used_once_however_many_come() {
    let yard = Yard::new();
    let once = yard.bastion().pass(USER).arg("--single-use").issue();
    let opened: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut peer = served(yard.bastion());
                    let answer = peer.certificate(USER, &blob(&once), &signing_key(&once.key)).unwrap();
                    // At login it may still be unused; the channel is what counts.
                    answer == Answer::Success && matches!(peer.session(), Ok(Ok(_)))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| usize::from(thread.join().unwrap()))
            .sum()
    });
    assert_eq!(opened, 1);
    assert_eq!(yard.bastion().sessions().len(), 1);
}

#[test]
fn d12_oversized_certificates() {
    let yard = Yard::new();
    let ca = yard.key("admission_ca");
    let key = fresh_key();
    for (bytes, admits) in [(15_000, true), (17_000, false), (100_000, false), (200_000, false)] {
        let mut cert = yard.cert(&key);
        cert.extensions
            .insert(0, (b"comment@example.com".to_vec(), vec![b'x'; bytes]));
        // The data of an extension is a string, too.
        cert.extensions[0].1 = crate::raw::wire::Put::default().string("x".repeat(bytes)).done();
        let blob = cert.sign(&ca);
        yard.grant(&blob, |_| {});
        let ours = yard.ours(USER, &blob, &key);
        assert_eq!(ours == Answer::Success, admits, "{bytes}: {ours:?}");
    }
    crate::hostile::assert_unharmed(&yard.world, yard.bastion().pid());
}

/// The two directions' certificates are worthless on each other's side.
#[test]
fn d12_the_two_certificates_are_never_mixed() {
    let yard = Yard::new();
    let bastion = yard.bastion();
    // Towards a target, as the bastion makes them, shown to the bastion.
    for principals in ["root", USER, "root,root@db1"] {
        let pass = yard.granted("target_ca", &["-n", principals, "-V", "-1m:+10m"]);
        refused(bastion, &pass, None);
        let root = Pass {
            destination: "root".into(),
            ..pass
        };
        refused(bastion, &root, None);
    }
    // A user's, shown to the target.
    let pass = bastion.pass(USER).issue();
    for user in ["root", USER] {
        let mut peer = Peer::keyed(yard.world.sshd.addr(), Hello::default()).unwrap();
        peer.service().unwrap();
        let answer = peer.certificate(user, &blob(&pass), &signing_key(&pass.key));
        assert!(!matches!(answer, Ok(Answer::Success)), "{user}");
    }
    // And the target does take what its CA signed.
    let target = yard.keygen("target_ca", &["-n", "root", "-V", "-1m:+10m"]);
    let mut peer = Peer::keyed(yard.world.sshd.addr(), Hello::default()).unwrap();
    peer.service().unwrap();
    assert_eq!(
        peer.certificate("root", &blob(&target), &signing_key(&target.key))
            .unwrap(),
        Answer::Success
    );
}

/// A real ssh-agent; killed by its id.
struct Agent {
    _running: Running,
    socket: std::path::PathBuf,
}

impl Agent {
    fn start(bastion: &Bastion) -> Agent {
        let socket = bastion.fresh("agent", ".sock");
        let mut agent = Command::new("ssh-agent");
        let running = Running::start(agent.arg("-D").arg("-a").arg(&socket));
        // It is bound a moment before it listens.
        wait_until("the agent", secs(10), || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Agent {
            _running: running,
            socket,
        }
    }

    fn add(&self, pass: &Pass) {
        let mut add = Command::new("ssh-add");
        run(
            add.arg("-q").arg(&pass.key).env("SSH_AUTH_SOCK", &self.socket),
            secs(10),
        )
        .ok();
    }
}

#[test]
fn d12_an_agent_with_ten_certificates_reaches_the_right_one() {
    let world = World::new();
    let bastion = &world.bastion;
    let passes: Vec<Pass> = (0..10)
        .map(|number| {
            let name = format!("box{number}");
            bastion.add_host(&name, &world.sshd);
            bastion.pass(&format!("root@{name}")).issue()
        })
        .collect();
    let agent = Agent::start(bastion);
    passes.iter().for_each(|pass| agent.add(pass));
    for number in [0, 5, 9] {
        let destination = format!("root@box{number}");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes"])
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", bastion.known_hosts().display()))
            .arg("-o")
            .arg(format!("IdentityAgent={}", agent.socket.display()))
            .args([
                "-p",
                &bastion.addr().port().to_string(),
                "-l",
                &destination,
                "127.0.0.1",
                "echo reached",
            ]);
        let done = run(&mut ssh, secs(20));
        assert_eq!(
            (done.code(), done.out()),
            (0, "reached\n".into()),
            "{destination}: {}",
            done.err()
        );
        let sessions = bastion.sessions();
        assert!(
            sessions
                .iter()
                .any(|session| session["destination"] == destination.as_str()),
            "{sessions:?}"
        );
    }
}

/// Another program on the same channel is not a way around the permits.
#[test]
fn capabilities_of_the_grant_hold() {
    let world = World::new();
    let rows: [(&str, [bool; 3]); 4] = [
        ("shell", [true, false, false]),
        ("exec", [false, true, false]),
        ("sftp", [false, false, true]),
        ("shell,exec,sftp", [true, true, true]),
    ];
    for (allow, wanted) in rows {
        let pass = world.bastion.pass(USER).allow(allow).issue();
        let mut peer = login(&world.bastion, &pass);
        let mut got = [false; 3];
        for (number, got) in got.iter_mut().enumerate() {
            let channel = peer.session().unwrap().unwrap();
            match number {
                0 => peer.ask(&channel, "shell", true, &[]).unwrap(),
                1 => peer.exec(&channel, "true").unwrap(),
                _ => peer.subsystem(&channel, "sftp").unwrap(),
            }
            let mut outcome = Outcome::default();
            let answered = |outcome: &Outcome| outcome.successes + outcome.failures > 0;
            peer.collect(&channel, &mut outcome, secs(10), answered).unwrap();
            *got = outcome.successes == 1;
            peer.close(channel.theirs).unwrap();
        }
        assert_eq!(got, wanted, "{allow}");
    }
}
