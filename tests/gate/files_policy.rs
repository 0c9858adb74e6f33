//! Rules about files: what is refused stays here, is answered as the target
//! would have answered, and the accounts reconcile.

use std::path::Path;
use std::process::Command;

use portcullis_recording::Event;
use portcullis_recording::moved::{Act, Moved, Outcome};

use crate::support::bytes::Pattern;
use crate::support::{Record, Setup, Sshd, Variant, World, finish, run, secs};

/// Nothing that is called secret, by whatever name, and nothing down from the vault.
const RULES: &str = r#"
@id("files") permit (principal, action == Action::"transfer", resource);
@id("no-secrets") @note("secrets stay secret") forbid (principal, action == Action::"transfer", resource)
when { context.transfer.path like "*secret*" || context.transfer.other like "*secret*" };
@id("vault") forbid (principal, action == Action::"transfer", resource)
when { context.transfer.direction == "download" && context.transfer.path like "*/vault/*" };
"#;

fn world() -> World {
    world_of(RULES)
}

fn world_of(rules: &str) -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/files.cedar"), rules).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, Variant::default());
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

fn moved(record: &Record) -> Vec<Moved<'static>> {
    let files = record.events.iter().filter_map(|timed| match &timed.event {
        Event::File(moved) => Some(moved.as_ref().clone()),
        _ => None,
    });
    files.collect()
}

/// What was refused, by the last part of its path.
fn refused(record: &Record) -> Vec<(Act, String)> {
    let deeds = moved(record);
    let refused = deeds.iter().filter(|moved| moved.outcome == Outcome::Refused);
    let mut named: Vec<(Act, String)> = refused
        .map(|moved| {
            let path = String::from_utf8_lossy(&moved.path).into_owned();
            (moved.act, path.rsplit('/').next().unwrap().to_owned())
        })
        .collect();
    named.sort();
    named
}

/// The rules by which files were permitted, or refused, in order.
fn decided(record: &Record, permitted: bool) -> Vec<String> {
    let decisions = record.events.iter().filter_map(|timed| match &timed.event {
        Event::Decision {
            action, allowed, rule, ..
        } if action == "transfer" && *allowed == permitted => Some(rule.to_string()),
        _ => None,
    });
    decisions.collect()
}

fn write(path: &Path, seed: u64) -> Vec<u8> {
    let bytes = Pattern::new(seed).bytes(700_000);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn what_would_become_of_a_file_is_explained_beforehand() {
    let world = world();
    let bastion = &world.bastion;
    bastion.admin(&["identity", "add", "vera"]).ok();
    let explain = |args: &[&str]| {
        let asked = [
            "explain",
            "--identity",
            "vera",
            "--request",
            "transfer",
            "--target",
            "db1",
        ];
        bastion.admin(&[&asked, args].concat())
    };
    let no = explain(&["--what", "rename", "--path", "/srv/a", "--other", "/srv/secret"]);
    assert!(
        no.code() == 3 && no.out().contains("no-secrets"),
        "{}{}",
        no.out(),
        no.err()
    );
    let no = explain(&["--what", "download", "--path", "/vault/a"]);
    assert!(no.code() == 3 && no.out().contains("vault"), "{}{}", no.out(), no.err());
    let yes = explain(&["--path", "/vault/a"]);
    assert!(
        yes.code() == 0 && yes.out().contains("files"),
        "{}{}",
        yes.out(),
        yes.err()
    );
    // Without a file, or with what nobody does to one, there is nothing to be explained.
    for (args, part) in [
        (&[][..], "--path"),
        (&["--what", "fold", "--path", "/a"], "upload, rename"),
    ] {
        let bad = explain(args);
        assert!(
            bad.code() == 2 && bad.err().contains(part),
            "{}{}",
            bad.out(),
            bad.err()
        );
    }
}

#[test]
fn a_refused_file_is_denied_and_its_neighbours_pass() {
    let world = world();
    let (here, there, back) = (
        world.bastion.dir().join("here"),
        world.sshd.folder().join("there"),
        world.bastion.dir().join("back"),
    );
    let first = write(&there.join("a first"), 1);
    write(&there.join("b secret"), 2);
    let last = write(&there.join("c last"), 3);
    let kept = write(&there.join("vault/kept"), 4);
    let up = write(&here.join("up"), 5);
    let batch = format!(
        "-get -r {there} {back}\nput {up_from} {there}/up\n-put {up_from} {there}/vault/kept.secret\n\
         -rename {there}/up {there}/secret.2\n-rm \"{there}/b secret\"\nput {up_from} {there}/vault/new\n",
        there = there.display(),
        back = back.display(),
        up_from = here.join("up").display(),
    );
    let mut sftp = world.client().sftp();
    let done = finish(sftp.args(["-b", "-", "gate"]), batch.as_bytes(), secs(60)).ok();
    assert!(done.err().contains("Permission denied"), "{}", done.err());
    assert!(std::fs::read(back.join("a first")).unwrap() == first);
    assert!(std::fs::read(back.join("c last")).unwrap() == last);
    assert!(!back.join("vault/kept").metadata().is_ok_and(|kept| kept.len() > 0));
    assert!(std::fs::read(there.join("up")).unwrap() == up && std::fs::read(there.join("vault/new")).unwrap() == up);
    assert!(there.join("b secret").exists() && !there.join("vault/kept.secret").exists());
    assert!(std::fs::read(there.join("vault/kept")).unwrap() == kept && !there.join("secret.2").exists());
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(
        refused(&record),
        [
            (Act::Download, "b secret".into()),
            (Act::Download, "kept".into()),
            (Act::Upload, "kept.secret".into()),
            (Act::Rename, "up".into()),
            (Act::Remove, "b secret".into()),
        ]
    );
    let account = record.accounts()[0];
    assert!(account.withheld > 0 && account.injected > 0, "{account:?}");
    let refusals = |rule: &str| moved(&record).iter().filter(|moved| moved.words == rule).count();
    assert_eq!((refusals("no-secrets"), refusals("vault")), (4, 1));
    let mut by = decided(&record, false);
    by.sort();
    assert_eq!(by, ["no-secrets", "no-secrets", "no-secrets", "no-secrets", "vault"]);
    assert_eq!(decided(&record, true), ["files"; 4]);
}

#[test]
fn scp_of_a_refused_file_is_denied_by_either_protocol() {
    for (protocol, says) in [
        ("-s", "ermission denied"),
        ("-O", "refused by rule no-secrets: secrets stay secret"),
    ] {
        let world = world();
        let secret = world.sshd.folder().join("secret");
        write(&secret, 1);
        let back = world.bastion.dir().join("back");
        let remote = format!("gate:{}", secret.display());
        let mut scp = world.client().scp();
        let done = run(scp.args([protocol, "-q", &remote, back.to_str().unwrap()]), secs(30));
        assert_ne!(done.code(), 0);
        assert!(done.err().contains(says), "{protocol}: {}", done.err());
        assert!(!back.exists());
        let record = world.bastion.only_record();
        record.assert_sealed();
        record.assert_balanced();
        assert_eq!(decided(&record, false), ["no-secrets"]);
    }
}

#[test]
fn a_mirror_goes_around_what_is_refused() {
    let world = world();
    let there = world.sshd.folder().join("there");
    let names = ["one", "secret", "two", "three"];
    let bytes: Vec<Vec<u8>> = names
        .iter()
        .zip(0..)
        .map(|(name, seed)| write(&there.join(name), seed))
        .collect();
    let back = world.bastion.dir().join("back");
    let script = format!(
        "set sftp:connect-program \"ssh -a -x -F {}\"; set net:max-retries 1; open sftp://gate; mirror {there:?} {back:?}; bye",
        world.client().config().display()
    );
    run(Command::new("lftp").args(["--norc", "-c", &script]), secs(60));
    for (name, bytes) in names.iter().zip(&bytes) {
        let got = std::fs::read(back.join(name)).ok();
        assert!(got.as_ref() == Some(bytes).filter(|_| *name != "secret"), "{name}");
    }
    let records = world.bastion.records(1);
    records[0].assert_balanced();
    assert!(!refused(&records[0]).is_empty());
}

#[test]
fn what_hides_its_files_ends_where_a_rule_is_about_files() {
    let world = world();
    let mut ssh = world.client().ssh();
    let done = finish(ssh.args(["-s", "gate", "sftp"]), b"this is no packet at all", secs(20));
    assert_ne!(done.code(), 0);
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(record.accounts()[0].to_target, 0);
    assert!(record.end().1.contains("a rule is about files"), "{:?}", record.end());
}

/// How much of one file may cross in the tests of it, in bytes.
const MAX_BYTES: usize = 64 * 1024;

fn bounded() -> World {
    world_of(
        r#"@id("small") @max_file("64KiB") permit (principal, action == Action::"transfer", resource);
        @id("no-credentials") forbid (principal, action == Action::"transfer", resource)
        when { context.transfer.labels.contains("credential") };"#,
    )
}

#[test]
fn what_goes_past_the_bound_of_a_file_is_refused() {
    let world = bounded();
    let (here, there) = (world.bastion.dir().join("here"), world.sshd.folder().join("there"));
    std::fs::create_dir_all(&here).unwrap();
    std::fs::create_dir_all(&there).unwrap();
    let bytes = Pattern::new(1).bytes(9_000_000);
    for (name, length) in [("most", MAX_BYTES), ("more", MAX_BYTES + 1), ("large", bytes.len())] {
        std::fs::write(here.join(name), &bytes[..length]).unwrap();
        std::fs::write(there.join(name), &bytes[..length]).unwrap();
    }
    let (here, there) = (here.display(), there.display());
    let batch = format!(
        "put {here}/most {there}/up.most\n-put {here}/more {there}/up.more\n-put {here}/large {there}/up.large\n\
         get {there}/most {here}/down.most\n-get {there}/large {here}/down.large\n"
    );
    let mut sftp = world.client().sftp();
    let done = finish(sftp.args(["-b", "-", "gate"]), batch.as_bytes(), secs(60)).ok();
    assert_eq!(done.err().matches("ermission denied").count(), 3, "{}", done.err());
    let length = |path: String| std::fs::metadata(path).map_or(0, |file| file.len() as usize);
    assert!(std::fs::read(format!("{there}/up.most")).unwrap() == bytes[..MAX_BYTES]);
    assert!(std::fs::read(format!("{here}/down.most")).unwrap() == bytes[..MAX_BYTES]);
    assert!(length(format!("{there}/up.more")) <= MAX_BYTES && length(format!("{there}/up.large")) <= MAX_BYTES);
    assert!(length(format!("{here}/down.large")) < bytes.len());
    let record = world.bastion.only_record();
    record.assert_sealed();
    record.assert_balanced();
    assert_eq!(
        refused(&record),
        [
            (Act::Download, "large".into()),
            (Act::Upload, "up.large".into()),
            (Act::Upload, "up.more".into())
        ]
    );
    for deed in moved(&record).iter().filter(|moved| moved.outcome == Outcome::Refused) {
        assert_eq!((deed.words.as_ref(), deed.whole), ("small", None));
    }
}

#[test]
fn a_protocol_that_cannot_keep_a_bound_is_refused_under_one() {
    let world = bounded();
    let small = world.sshd.folder().join("small");
    std::fs::write(&small, b"small").unwrap();
    let back = world.bastion.dir().join("back");
    let remote = format!("gate:{}", small.display());
    let mut scp = world.client().scp();
    let done = run(scp.args(["-O", "-q", &remote, back.to_str().unwrap()]), secs(30));
    assert_ne!(done.code(), 0);
    assert!(done.err().contains("only SFTP can keep"), "{}", done.err());
    let mut scp = world.client().scp();
    run(scp.args(["-s", "-q", &remote, back.to_str().unwrap()]), secs(30)).ok();
    assert_eq!(std::fs::read(back).unwrap(), b"small");
    for record in world.bastion.records(2) {
        record.assert_sealed();
        record.assert_balanced();
    }
}

#[test]
fn rules_read_the_labels_of_a_path() {
    let world = bounded();
    let shadow = world.sshd.folder().join("etc/shadow");
    std::fs::create_dir_all(shadow.parent().unwrap()).unwrap();
    std::fs::write(&shadow, b"root:*").unwrap();
    let back = world.bastion.dir().join("back");
    let remote = format!("gate:{}", shadow.display());
    let mut scp = world.client().scp();
    let done = run(scp.args(["-s", "-q", &remote, back.to_str().unwrap()]), secs(30));
    assert!(done.err().contains("ermission denied"), "{}", done.err());
    assert!(!back.exists());
    assert_eq!(decided(&world.bastion.only_record(), false), ["no-credentials"]);
}

#[test]
fn files_do_not_move_over_a_terminal() {
    // Nor where no rule is about files: nobody would follow them.
    for (rules, request, refused) in [
        (None, &["-s", "gate", "sftp"][..], true),
        (Some(RULES), &["-s", "gate", "sftp"], true),
        (Some(RULES), &["gate", "scp -f /etc/hostname"], true),
        (Some(RULES), &["gate", "echo no file"], false),
    ] {
        let world = rules.map_or_else(World::new, world_of);
        let mut ssh = world.client().ssh();
        let done = finish(ssh.args(["-tt", "-e", "none"]).args(request), b"", secs(20));
        let said = format!("{}{}", done.out(), done.err());
        assert_eq!(said.contains("gate.transfer"), refused, "{request:?}: {said}");
        let record = world.bastion.only_record();
        record.assert_sealed();
        record.assert_balanced();
        if refused {
            assert_eq!(decided(&record, false), ["gate.transfer"]);
        }
    }
}

#[test]
fn a_command_that_does_not_say_which_files_it_moves_is_refused_by_rules_over_paths() {
    let world = world_of(
        r#"@id("here") permit (principal, action == Action::"transfer", resource)
        when { context.transfer.plain && context.transfer.path like "/*" };"#,
    );
    for (line, refused) in [
        ("rsync --server --sender -se.LsfxCIvu", true),
        ("rsync --server -e.LsfxCIvu .", true),
        ("scp -l 9 -f /etc/hostname", true),
        ("sh -c 'exec scp -f /etc/hostname'", true),
        ("echo no file", false),
    ] {
        let done = run(world.client().ssh().args(["gate", line]), secs(20));
        assert_eq!(
            done.err().contains("refused by rule"),
            refused,
            "{line}: {}",
            done.err()
        );
    }
}
