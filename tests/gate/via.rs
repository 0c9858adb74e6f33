//! Targets behind other bastions: each is dialled through the one before it,
//! with its own proof and its own login, and the session is recorded as ever.

use std::net::SocketAddr;

use nix::sys::signal::Signal;

use crate::ledger::events;
use crate::support::bytes::Pattern;
use crate::support::process::send;
use crate::support::{Bastion, Done, Running, Setup, Sshd, Variant, World, finish, run, secs, wait_until};

/// Adds `sshd` as `name`, reached via `via`.
fn try_add(bastion: &Bastion, name: &str, addr: SocketAddr, sshd: &Sshd, via: &str) -> Done {
    let (addr, key) = (addr.to_string(), sshd.host_key_pub());
    let key = key.to_str().unwrap();
    bastion.admin(&[
        "target",
        "add",
        name,
        "--addr",
        &addr,
        "--login",
        "root",
        "--host-key",
        key,
        "--via",
        via,
    ])
}

fn add(bastion: &Bastion, name: &str, sshd: &Sshd, via: &str) {
    try_add(bastion, name, sshd.addr(), sshd, via).ok();
}

/// A bastion, and `db1` behind `inner` behind `outer`.
struct Chain {
    bastion: Bastion,
    outer: Sshd,
    inner: Sshd,
    target: Sshd,
}

impl Chain {
    fn new() -> Chain {
        let bastion = Setup::new().start();
        // A bastion of somebody else's: it forwards, and does nothing else for us.
        let hop = || {
            Variant::default()
                .line("ForceCommand false")
                .line("AllowTcpForwarding local")
        };
        let (outer, inner) = (Sshd::start(&bastion, hop()), Sshd::start(&bastion, hop()));
        let target = Sshd::start(&bastion, Variant::default());
        bastion.add_host("outer", &outer);
        add(&bastion, "inner", &inner, "outer");
        add(&bastion, "db1", &target, "inner");
        Chain {
            bastion,
            outer,
            inner,
            target,
        }
    }

    fn client(&self) -> crate::support::Client {
        let pass = self.bastion.pass("root@db1").issue();
        self.bastion.client(&pass)
    }

    fn whole(&self) -> [&Sshd; 3] {
        [&self.outer, &self.inner, &self.target]
    }

    #[track_caller]
    fn assert_left(&self) {
        wait_until("no connection left at any of them", secs(20), || {
            self.whole().iter().all(|sshd| sshd.sessions().is_empty())
        });
    }
}

#[test]
fn a_target_behind_two_bastions_is_reached_and_recorded() {
    let chain = Chain::new();
    let bytes = Pattern::new(5).bytes(5_000_003);
    let done = finish(&mut chain.client().exec("tee /dev/stderr; exit 9"), &bytes, secs(60));
    assert_eq!(
        done.code(),
        9,
        "{}",
        String::from_utf8_lossy(&done.stderr[..200.min(done.stderr.len())])
    );
    assert!(done.stdout == bytes && done.stderr == bytes);
    let record = chain.bastion.only_record();
    assert!(record.input(1) == bytes && record.output(1) == bytes);
    assert_eq!(record.head.target, "db1");
    for sshd in chain.whole() {
        // The certificate names the session everywhere, and a bastion's lets through only.
        let log = sshd.log();
        assert!(log.contains("Accepted certificate ID \"alice grant="), "{log}");
    }
    chain.assert_left();
    chain.bastion.assert_ledger_clean();
}

#[test]
fn a_flood_that_nobody_reads_does_not_stop_the_way_back() {
    let chain = Chain::new();
    // All of the input first, all of the output afterwards.
    let bytes = Pattern::new(6).bytes(20_000_000);
    let command = "head -c 30000000 /dev/zero; sha256sum >&2";
    let done = finish(&mut chain.client().exec(command), &bytes, secs(120)).ok();
    assert_eq!(done.stdout.len(), 30_000_000);
    let mut sha = std::process::Command::new("sha256sum");
    let wanted = finish(&mut sha, &bytes, secs(30)).ok().out();
    assert_eq!(done.err(), wanted);
    chain.bastion.only_record();
}

/// The ledger and the log name the bastion that failed, once each.
#[track_caller]
fn assert_named(bastion: &Bastion, name: &str) {
    let told = events(bastion, "bastion-broke");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["bastion"], &told[0]["target"]),
        (&name.into(), &"db1".into()),
        "{told:?}"
    );
    let log = bastion.log();
    assert!(log.contains("a bastion on the way to a target failed"), "{log}");
}

#[test]
fn a_bastion_that_is_not_there_is_named() {
    let chain = Chain::new();
    send(chain.outer.pid(), Signal::SIGKILL);
    let done = run(&mut chain.client().exec("true"), secs(20));
    assert_eq!(done.code(), 255);
    let said = done.err();
    assert!(
        said.contains("the bastion outer (") && said.contains("does not answer"),
        "{said}"
    );
    assert_named(&chain.bastion, "outer");
    assert_eq!(chain.bastion.only_record().code(), "target_lost");
}

#[test]
fn a_bastion_that_dies_ends_the_session_in_words() {
    let chain = Chain::new();
    let mut client = Running::with_input(&mut chain.client().exec("echo up; cat"));
    client.await_out("up", secs(20));
    client.say("there\n");
    client.await_out("there", secs(20));
    for pid in chain.inner.sessions() {
        send(pid, Signal::SIGKILL);
    }
    let done = client.finish_open(secs(20));
    assert_ne!(done.code(), 0);
    assert!(
        done.err()
            .contains("portcullis: the connection to the bastion inner, on the way to the target, broke"),
        "{}",
        done.err()
    );
    let record = chain.bastion.only_record();
    assert_eq!(record.output(1), b"up\nthere\n");
    assert_named(&chain.bastion, "inner");
    chain.assert_left();
}

#[test]
fn a_cut_leaves_nothing_on_the_way() {
    let chain = Chain::new();
    let pass = chain.bastion.pass("root@db1").issue();
    let client = Running::start(&mut chain.bastion.client(&pass).exec("echo up; cat /dev/zero"));
    client.await_out("up", secs(20));
    chain
        .bastion
        .admin(&["revoke", "--grant", &pass.grant, "--reason", "a test"])
        .ok();
    client.finish(secs(20));
    chain.assert_left();
    assert_eq!(chain.bastion.records(1).remove(0).code(), "revoked");
}

/// What the user reads when the way is not there.
fn refused(chain: &Chain) -> String {
    let done = run(&mut chain.client().exec("true"), secs(30));
    assert_ne!(done.code(), 0);
    done.err()
}

#[test]
fn a_way_that_is_not_there_is_told() {
    let chain = Chain::new();
    let file = chain.bastion.fresh("inventory", ".toml");
    let entry = |name: &str, sshd: &Sshd, more: &str| {
        let key = std::fs::read_to_string(sshd.host_key_pub()).unwrap();
        format!(
            "[[target]]\nname = \"{name}\"\nlogins = [\"root\"]\naddr = \"{}\"\nhost_key = \"{}\"\n{more}\n",
            sshd.addr(),
            key.trim()
        )
    };
    let apply = |text: String| {
        std::fs::write(&file, text).unwrap();
        chain.bastion.admin(&["apply", "-f", file.to_str().unwrap()])
    };
    // Another machine at the bastion's address: nothing is shown to it.
    apply(entry("outer", &chain.inner, "")).ok();
    let moved =
        entry("outer", &chain.inner, "").replace(&chain.inner.addr().to_string(), &chain.outer.addr().to_string());
    apply(moved).ok();
    let said = refused(&chain);
    assert!(said.contains("another host key"), "{said}");
    // One that leads nowhere.
    let nowhere =
        entry("db1", &chain.target, "via = \"inner\"").replace(&chain.target.addr().to_string(), "127.0.0.1:1");
    apply(entry("outer", &chain.outer, "") + &nowhere).ok();
    let said = refused(&chain);
    assert!(
        said.contains("the bastion inner does not lead on to 127.0.0.1:1"),
        "{said}"
    );
    // One that is disabled.
    apply(
        entry("db1", &chain.target, "via = \"inner\"")
            + &entry("inner", &chain.inner, "via = \"outer\"\ndisabled = true"),
    )
    .ok();
    let said = refused(&chain);
    assert!(said.contains("via inner, which is disabled"), "{said}");
    let told = chain.bastion.json(&[
        "explain",
        "--identity",
        "alice",
        "--target",
        "root@db1",
        "--reason",
        "a look",
    ]);
    assert!(told["warnings"][0].as_str().unwrap().contains("disabled"), "{told}");
    // And what would lead in a circle does not get in, by either door.
    let done = apply(entry("outer", &chain.outer, "via = \"db1\""));
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("circle"), "{}", done.err());
    let done = try_add(&chain.bastion, "lost", chain.target.addr(), &chain.target, "nobody");
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("not in the inventory"), "{}", done.err());
    add(&chain.bastion, "db2", &chain.target, "db1");
    let done = try_add(&chain.bastion, "db3", chain.target.addr(), &chain.target, "db2");
    assert!(done.err().contains("more than 3 bastions"), "{}", done.err());
}

/// A session over a bastion that is disabled meanwhile ends.
#[test]
fn disabling_a_bastion_ends_what_goes_through_it() {
    let chain = Chain::new();
    let client = Running::with_input(&mut chain.client().exec("echo up; cat"));
    client.await_out("up", secs(20));
    chain
        .bastion
        .admin(&["revoke", "--target", "outer", "--reason", "a test"])
        .ok();
    let done = client.finish_open(secs(20));
    assert_ne!(done.code(), 0);
    assert_eq!(chain.bastion.records(1).remove(0).code(), "revoked");
    chain.assert_left();
}

/// Without one, everything is as it was.
#[test]
fn the_listing_shows_the_way() {
    let world = World::new();
    add(&world.bastion, "db2", &world.sshd, "db1");
    let listed = world.bastion.admin(&["target", "list"]).ok().out();
    assert!(listed.contains("via db1") && listed.contains("certificate"), "{listed}");
}
