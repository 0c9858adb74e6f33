//! A shell that says what it runs, because a rule asks for it: real login
//! shells, what their user is shown and what is recorded.

use portcullis_recording::Event;
use portcullis_recording::event::Direction;

use crate::support::bytes::find;
use crate::support::{Record, Setup, Sshd, Terminal, Variant, World, secs};

const RULE: &str = r#"
    @id("say-what-runs") @hook
    permit (principal, action == Action::"shell", resource == Target::"db1");
"#;

/// A target whose root has this login shell.
fn world(variant: Variant) -> World {
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/hook.cedar"), RULE).unwrap();
    bastion.serve();
    let sshd = Sshd::start(&bastion, variant);
    bastion.add_host("db1", &sshd);
    World { bastion, sshd }
}

/// Types lines at the shell of a session and leaves with `exit 7`; what the terminal was sent.
fn typed(world: &World, lines: &[(&str, &str)]) -> Vec<u8> {
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 120, 30);
    for (line, shows) in lines {
        terminal.line(line);
        terminal.expect(shows, secs(20));
    }
    terminal.line("exit 7");
    let (status, _) = terminal.finish(secs(20));
    assert_eq!(status.exit_code(), 7);
    terminal.shown_bytes()
}

/// The marks of a recording's first channel, without their nonce.
fn marks(record: &Record) -> Vec<String> {
    let nonce = nonce(record);
    let output = String::from_utf8_lossy(&record.output(1)).into_owned();
    output
        .split("\x1b]633;")
        .skip(1)
        .filter_map(|mark| mark.split('\x07').next()?.strip_suffix(&nonce))
        .map(str::to_owned)
        .collect()
}

fn nonce(record: &Record) -> String {
    let markers = record.markers();
    let said = markers
        .iter()
        .find_map(|text| text.strip_prefix("the shell is started with the hook of nonce "));
    format!(";{}", said.expect("no hook in the recording"))
}

fn withheld(record: &Record) -> u64 {
    record.events.iter().fold(0, |sum, timed| match &timed.event {
        Event::Withheld { direction, bytes, why } => {
            assert_eq!((*direction, why.as_ref()), (Direction::ToClient, "shell hook"));
            sum + bytes
        }
        _ => sum,
    })
}

fn each_line_is_told(shell: &str, name: &str) {
    let world = world(Variant::default().account("root", shell));
    let shown = typed(
        &world,
        &[
            ("cd /usr; printf 'one-%s\\n' two", "one-two"),
            ("printf 'a;%s\\n' b", "a;b"),
            ("false", "false"),
            ("echo is-it; cd /", "is-it"),
        ],
    );
    assert!(find(&shown, b"]633;").is_none(), "{}", String::from_utf8_lossy(&shown));
    let record = world.bastion.only_record();
    let marks = marks(&record);
    let told = |mark: &str| {
        marks
            .iter()
            .position(|said| said == mark)
            .unwrap_or_else(|| panic!("{mark:?} is not in {marks:?}"))
    };
    assert_eq!(told("P;Launch"), 0);
    assert_eq!(told(&format!("P;Shell={name}")), 1);
    let first = told("E;cd /usr\\x3b printf 'one-%s\\\\n' two");
    assert!(first < told("P;Cwd=/usr"));
    assert!(first < told("E;printf 'a\\x3b%s\\\\n' b"));
    assert!(told("E;false") < told("D;1"));
    told("E;exit 7");
    // What a user's terminal was not sent is recorded as that, and the accounts add up.
    let account = record.accounts()[0];
    assert!(account.withheld > 0);
    assert_eq!(account.withheld, withheld(&record));
    assert_eq!(account.from_target_out, account.to_client_out + account.withheld);
    let asked: Vec<String> = record.requests(1).into_iter().map(|(kind, _)| kind).collect();
    assert!(asked.contains(&"shell".to_owned()) && !asked.contains(&"exec".to_owned()));
}

#[test]
fn bash_says_what_it_runs() {
    each_line_is_told("/bin/bash", "bash");
}

#[test]
fn zsh_says_what_it_runs() {
    each_line_is_told("/usr/bin/zsh", "zsh");
}

#[test]
fn fish_says_what_it_runs() {
    each_line_is_told("/usr/bin/fish", "fish");
}

#[test]
fn a_shell_that_cannot_be_hooked_is_a_login_shell_as_ever() {
    let world = world(Variant::default().account("root", "/bin/dash"));
    typed(&world, &[("echo it-is-$((40 + 2))", "it-is-42")]);
    let record = world.bastion.only_record();
    assert_eq!(marks(&record), ["P;Launch"]);
}

/// rbash refuses to start anything by `exec`: the plain shell is asked for instead.
#[test]
fn a_login_shell_that_starts_nothing_else_is_asked_plainly() {
    let world = world(Variant::default().account("root", "/bin/rbash"));
    let shown = typed(
        &world,
        &[
            ("echo it-is-$((40 + 2))", "it-is-42"),
            ("stty size", "30 120"),
            ("echo $TERM", "xterm"),
        ],
    );
    assert!(find(&shown, b"restricted: cannot").is_none() && find(&shown, b"exec: restricted").is_none());
    let record = world.bastion.only_record();
    let told = record.markers();
    assert!(
        told.iter().any(|text| text.contains("the hook did not start")),
        "{told:?}"
    );
    assert!(withheld(&record) > 0);
    // The failed start was none of the channel's.
    let closes = |timed: &&portcullis_recording::Timed<'_>| matches!(timed.event, Event::ChannelClose { .. });
    assert_eq!(record.events.iter().filter(closes).count(), 1);
    assert_eq!(record.exit_status(1), [7]);
}

/// What comes from the target is shown and what is typed goes there, though no shell ever runs.
#[test]
fn a_targets_own_command_takes_what_is_typed() {
    let world = world(Variant::default().line("ForceCommand head -n 1"));
    let mut ssh = world.client().ssh();
    ssh.args(["-tt", "gate"]);
    let mut terminal = Terminal::start(&ssh, 120, 30);
    terminal.line("typed-line");
    terminal.expect("typed-line\r\ntyped-line", secs(20));
    let (status, _) = terminal.finish(secs(20));
    assert!(status.success());
    world.bastion.only_record();
}

/// A notice of the target's stands before its shell, hooked or not.
#[test]
fn the_targets_banner_is_shown() {
    let banner = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(banner.path(), "for authorised people only\n").unwrap();
    let world = world(Variant::default().line(&format!("Banner {}", banner.path().display())));
    let shown = typed(&world, &[("echo it-is-$((40 + 2))", "it-is-42")]);
    assert!(find(&shown, b"for authorised people only").is_some());
    world.bastion.only_record();
}

/// Rc files that are strict with themselves: nothing of ours ends the shell or is seen.
#[test]
fn strict_shells_go_on_as_they_were() {
    let world = world(Variant::default().account("root", "/bin/bash"));
    let shown = typed(
        &world,
        &[
            // Without what this machine's own profile runs at a prompt, which may not bear it.
            (
                "PS1='$ '; PROMPT_COMMAND=(\"${PROMPT_COMMAND[0]}\"); set -euT; echo strict-$((40 + 1))",
                "strict-41",
            ),
            ("! true", "! true"),
            ("echo still-$((40 + 2))", "still-42"),
            ("set +e; set -x; echo traced-$((40 + 3))", "traced-43"),
            ("set +xu", "set +xu"),
        ],
    );
    assert!(find(&shown, b"unbound").is_none() && find(&shown, b"__portcullis_said").is_none());
    let record = world.bastion.only_record();
    let nonce = nonce(&record);
    assert!(find(&shown, nonce.trim_start_matches(';').as_bytes()).is_none());
    assert!(marks(&record).contains(&"E;echo still-$((40 + 2))".to_owned()));
}

/// What is no terminal, no shell or forced is left as it is.
#[test]
fn only_a_shell_at_a_terminal_is_hooked() {
    let world = world(Variant::default());
    let client = world.client();
    for mut ssh in [client.exec("echo exec"), client.shell()] {
        let done = crate::support::finish(&mut ssh, b"exit 0\n", secs(20));
        assert_eq!(done.code(), 0);
    }
    for record in world.bastion.records(2) {
        assert!(!record.markers().iter().any(|text| text.contains("hook")));
        assert_eq!(withheld(&record), 0);
    }
}

/// A login shell, the files of its own that it may read as it begins and ends, each of which writes its name down, and what
/// it reads for any command: the one that starts it with the hook too.
const LOGIN_FILES: &[(&str, &[&str], &str)] = &[
    (
        "/bin/bash",
        &[".bash_profile", ".profile", ".bash_login", ".bash_logout"],
        "",
    ),
    (
        "/usr/bin/zsh",
        &[".zshenv", ".zprofile", ".zshrc", ".zlogin", ".zlogout"],
        ".zshenv\n",
    ),
    (
        "/usr/bin/fish",
        &[".config/fish/config.fish", ".config/fish/conf.d/own.fish"],
        ".config/fish/conf.d/own.fish\n.config/fish/config.fish\n",
    ),
];

/// A session of a login shell with files of its own: what was read, in its order, and what is left in
/// its home and among temporary files afterwards.
fn read_at_login(shell: &str, files: &[&str], rule: &str) -> (String, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let temporary = home.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    for file in files {
        let path = home.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("echo {file} >> {}/seen\n", home.path().display())).unwrap();
    }
    let mut bastion = Setup::new().make();
    std::fs::write(bastion.state().join("policies/hook.cedar"), rule).unwrap();
    bastion.serve();
    let told = home.path().display();
    let variant = Variant::default()
        .account("root", shell)
        .line(&format!("SetEnv HOME={told} TMPDIR={told}/tmp"));
    let sshd = Sshd::start(&bastion, variant);
    bastion.add_host("db1", &sshd);
    let world = World { bastion, sshd };
    typed(&world, &[("printf 'it-is-%s\\n' 42", "it-is-42")]);
    world.bastion.only_record();
    let seen = std::fs::read_to_string(home.path().join("seen")).unwrap();
    (seen, below(home.path(), home.path()))
}

/// All files below a folder, by their names from `root`.
fn below(folder: &std::path::Path, root: &std::path::Path) -> Vec<String> {
    let mut found: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .flat_map(|entry| match entry.path().is_dir() {
            true => below(&entry.path(), root),
            false => vec![entry.path().strip_prefix(root).unwrap().display().to_string()],
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_hooked_shell_reads_its_login_files_and_leaves_nothing_behind() {
    for (shell, files, for_any) in LOGIN_FILES {
        let (seen, left) = read_at_login(shell, files, "");
        assert!(!seen.is_empty());
        assert_eq!(
            read_at_login(shell, files, RULE),
            (format!("{for_any}{seen}"), left),
            "{shell}"
        );
    }
}
