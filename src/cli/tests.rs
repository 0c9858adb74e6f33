//! Parsing, and the commands against a real server in this process.

use std::sync::Arc;
use std::time::Duration;

use clap::CommandFactory;

use super::*;
use crate::api::wire::access::ServerView;
use crate::api::{Answer, Api, Cutter, Door, bind};
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::kernel::id::SessionId;
use crate::kernel::policy::engine::Policies;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::notify::Teller;
use crate::policies::{InForce, Place};
use crate::retention::Retention;
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
use crate::telemetry::Metrics;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("portcullis").chain(line.split_whitespace()))
}

#[test]
fn clap_finds_no_fault() {
    Cli::command().debug_assert();
}

#[test]
fn the_documented_lines_parse() {
    for line in [
        "demo",
        "demo --unattended --state d",
        "init --state d",
        "init --state d --node gate1 --listen [::1]:2222",
        "serve --config f",
        "check --state d",
        "target add db1 --addr db1:22 --login root --host-key f",
        "target add db1 --addr db1:22 --login root --login postgres --host-ca f --label env=prod",
        "target add db1 --addr db1:22 --login root --scan",
        "target add db1 --addr db1:22 --login root --scan --fingerprint SHA256:x --yes",
        "target add sh --local --run-as nobody --login op -- psql -h x --yes",
        "target list --json",
        "identity add alice",
        "identity add alice --key a.pub --key b.pub",
        "identity add ci --kind machine --owner alice --purpose deploys --review-by 2027-01-31",
        "identity list",
        "grant issue --identity alice --for 30m --reason x --public-key k.pub root@db1",
        "grant issue --identity alice --for 30m --reason x --public-key k.pub --allow shell,exec,sftp,forward --source 10.0.0.0/8 --single-use root+db1",
        "grants --live --state d --json",
        "grants --mine --server https://gate.example:8443",
        "login --server https://gate.example:8443 --identity alice --ca f",
        "login --identity alice --pin sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f --key k --for 1h",
        "logout",
        "whoami --json",
        "request root@db1 --for 30m --reason INC-42",
        "request root@db1 --for 2h --reason x --ticket T-1 --allow shell,exec --source 192.0.2.0/24 --begin 2027-01-31T08:00:00Z --identity acme --public-key k.pub --out k-cert.pub --single-use --no-wait",
        "request root@db1 --for 30m --reason x --extend abcd --timeout 10m --confirm",
        "collect abcd",
        "collect abcd --public-key k.pub --out k-cert.pub",
        "requests --only pending --mine --state d",
        "requests abcd",
        "approve abcd --reason x --yes",
        "deny abcd --reason x",
        "confirm abcd --yes",
        "withdraw abcd",
        "ssh-config --install",
        "ssh-config --print",
        "ssh-config --install --jump",
        "ssh-config --remove",
        "fetch --check root@db1",
        "revoke --grant abcd --reason x",
        "revoke --all --reason x",
        "sessions",
        "sessions --live",
        "sessions abcd",
        "recordings",
        "trust export",
        "trust export --out f --state d",
        "ledger fsck --state d",
        "witness --listen [::1]:0 --state d --name w.example/1 --log PeterNeumann=PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "play f --speed 2",
        "verify f --trust t --json",
    ] {
        let parsed = parse(line);
        assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
    }
}

#[test]
fn what_contradicts_itself_does_not_parse() {
    for line in [
        "",
        "nonsense",
        "witness --listen [::1]:0 --state d",
        "witness --listen [::1]:0 --state d --log Other=PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "witness --listen [::1]:0 --state d --log PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "check --state d --config f",
        "target add db1 --login root",
        "target add db1 --addr db1:22",
        "target add db1 --addr db1:22 --login root --scan --host-key f",
        "target add db1 --addr db1:22 --login root --scan --yes",
        "target add db1 --addr db1:22 --login root --fingerprint SHA256:x",
        "target add db1 --addr db1:22 --login root --host-key f -- ls",
        "target add sh --local --login op",
        "target add sh --local --run-as nobody --addr db1:22 --login op",
        "target add a/b --addr db1:22 --login root --scan",
        "identity add ci --kind machine --owner alice",
        "identity add ci --kind robot",
        "grant issue --identity alice --for 30 --reason x --public-key k.pub root@db1",
        "grant issue --identity alice --for 30m --public-key k.pub root@db1",
        "grant issue --identity alice --for 30m --reason x --public-key k.pub db1",
        "grant issue --identity alice --for 30m --reason x --public-key k.pub --allow everything root@db1",
        "grant issue --identity alice --for 30m --reason x --public-key k.pub --source 10/8 root@db1",
        "revoke --reason x",
        "revoke --all --grant abcd --reason x",
        "revoke --grant abcd",
        "sessions --live abcd",
        "grants --server https://gate --state d",
        "login --ca f --pin sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
        "login --pin 0f0f",
        "request root@db1 --for 30m",
        "request db1 --for 30m --reason x",
        "request root@db1 --for 30m --reason x --out c",
        "request root@db1 --for 30m --reason x --public-key k.pub --confirm",
        "request root@db1 --for 30m --reason x --no-wait --timeout 1h",
        "request root@db1 --for 30m --reason x --begin tomorrow",
        "requests --only lost",
        "requests abcd --mine",
        "deny abcd",
        "ssh-config",
        "ssh-config --install --remove",
        "ssh-config --remove --jump",
        "fetch db1",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

/// No session ever runs here.
struct Nothing;

impl Cutter for Nothing {
    fn wait_cut<'a>(&'a self, _: &'a [SessionId], _: Duration) -> Answer<'a, Vec<SessionId>> {
        Box::pin(async { Vec::new() })
    }
}

async fn command(state: &Path, line: &str) -> Result<Exit, CliError> {
    let cli = parse(line).unwrap();
    let common = Common {
        state: Some(state.to_owned()),
        ..cli.common
    };
    super::dispatch(&common, cli.command).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_empty_folder_to_a_certificate_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("s");
    let key = dir.path().join("id.pub");
    let user = russh::keys::ssh_key::private::Ed25519Keypair::from_seed(&[2; 32]);
    let user = russh::keys::PrivateKey::from(user).public_key().to_openssh().unwrap();
    std::fs::write(&key, user + "\n").unwrap();
    let key = key.display();

    assert_eq!(
        command(&state, "check").await.unwrap(),
        Exit::Failed,
        "nothing is there"
    );
    assert_eq!(command(&state, "grants").await.unwrap_err().exit, Exit::NotFound);
    assert_eq!(
        command(&state, "init --node gate1 --listen 127.0.0.1:2222")
            .await
            .unwrap(),
        Exit::Ok
    );
    assert_eq!(
        command(&state, "init").await.unwrap_err().exit,
        Exit::Failed,
        "never overwrites"
    );
    assert_eq!(command(&state, "check --json").await.unwrap(), Exit::Ok);
    assert_eq!(command(&state, "trust export").await.unwrap(), Exit::Ok);
    // A start publishes the first checkpoint; before it the log is not whole.
    let clock = Clock::system();
    let layout = Layout::new(&state);
    let keeper = FileKeeper::load(&layout.keys(), Rules::default(), clock.clone()).unwrap();
    let keeper: Arc<FileKeeper> = Arc::new(keeper);
    let options = crate::ledger::Options {
        origin: crate::config::ledger_origin(&"gate1".parse().unwrap()),
        ..Default::default()
    };
    let ledger = Ledger::open(&layout.ledger(), options, keeper.clone(), clock.clone())
        .await
        .unwrap();
    assert_eq!(command(&state, "ledger fsck").await.unwrap(), Exit::Ok);
    let down = command(&state, "grants").await.unwrap_err();
    assert_eq!(down.exit, Exit::Unreachable);
    let config = state.join("config.toml");
    assert!(
        down.hint
            .unwrap()
            .ends_with(&format!("serve --config {}", config.display()))
    );

    let store = Arc::new(SqliteStore::open(&layout.store()).await.unwrap());
    let ledger = Arc::new(ledger);
    let archive = Arc::new(crate::archive::files::Files::open(&layout.archive()).unwrap());
    let index = Arc::new(
        crate::search::Index::open(&layout.search(), clock.clone())
            .await
            .unwrap(),
    );
    let places = crate::search::Places::of(&layout);
    let api = Api {
        store: store.clone(),
        keeper,
        journal: ledger.clone(),
        cutter: Arc::new(Nothing),
        retention: Arc::new(Retention::new(
            store.clone(),
            ledger.clone(),
            Arc::new(crate::archive::vault::Vault::new(archive)),
            index.clone(),
            clock.clone(),
            None,
        )),
        search: crate::search::Keeper::start(index, store.clone(), places),
        clock: clock.clone(),
        metrics: Arc::new(Metrics::new()),
        layout: layout.clone(),
        node: "gate1".parse().unwrap(),
        policies: InForce::new(
            Policies::builtin().unwrap(),
            Place {
                zones: Vec::new(),
                time_zone: jiff::tz::TimeZone::UTC,
            },
            clock.clone(),
        ),
        notes: crate::anomaly::Notes::start(store.clone()),
        challenge_key: [3; 32],
        shown_at: "-".to_owned(),
        token_ms_max: 3_600_000,
        server: ServerView {
            node: "node1".parse().unwrap(),
            ssh_hosts: vec!["gate1".to_owned()],
            ssh_port: 2222,
            known_hosts: Vec::new(),
        },
        limits: Arc::default(),
        hooks: Arc::new([]),
        teller: Teller::mute(clock.clone()),
        credentials: Arc::new(crate::credentials::Sources::new(&[])),
        break_glass: Arc::new(
            crate::break_glass::BreakGlass::open(&layout.break_glass(), "gate1".parse().unwrap(), None).unwrap(),
        ),
        url: None,
        grant_ms_max: 3_600_000,
        local_as_self: false,
    };
    let listener = bind(&layout.api_socket()).unwrap();
    let server = tokio::spawn(api.serve(vec![Door::Socket(listener)], std::future::pending()));

    let issue = format!("grant issue --identity alice --for 30m --reason x --public-key {key} root@db1");
    assert_eq!(
        command(&state, &issue).await.unwrap_err().exit,
        Exit::NotFound,
        "no inventory"
    );
    let add = format!("target add db1 --addr 127.0.0.1:22 --login root --host-key {key}");
    assert_eq!(command(&state, &add).await.unwrap(), Exit::Ok);
    assert_eq!(command(&state, &add).await.unwrap_err().exit, Exit::Failed, "exists");
    let identity = format!("identity add alice --key {key}");
    assert_eq!(command(&state, &identity).await.unwrap(), Exit::Ok);
    let machine = "identity add ci --kind machine --owner alice --purpose deploys";
    assert_eq!(command(&state, machine).await.unwrap(), Exit::Ok);
    assert_eq!(command(&state, &issue).await.unwrap(), Exit::Ok);
    assert_eq!(
        command(&state, &format!("{issue} --json")).await.unwrap(),
        Exit::Ok,
        "replaces the old one"
    );
    let long = issue.replace("30m", "61m");
    assert_eq!(command(&state, &long).await.unwrap_err().exit, Exit::Denied);
    let certificate = std::fs::read_to_string(dir.path().join("id-cert.pub")).unwrap();
    let certificate = russh::keys::Certificate::from_openssh(certificate.trim()).unwrap();
    assert_eq!(certificate.valid_principals(), ["root@db1"]);

    for line in [
        "target list",
        "identity list",
        "grants",
        "grants --live --json",
        "sessions",
        "recordings",
    ] {
        assert_eq!(command(&state, line).await.unwrap(), Exit::Ok, "{line}");
    }
    assert_eq!(command(&state, "sessions abcd").await.unwrap_err().exit, Exit::NotFound);
    let grants = store.grants(None).await.unwrap();
    let prefix: String = grants[0].id.to_string().chars().take(12).collect();
    assert_eq!(
        command(&state, &format!("revoke --grant {prefix} --reason done"))
            .await
            .unwrap(),
        Exit::Ok
    );
    assert!(
        store
            .grant(grants[0].id)
            .await
            .unwrap()
            .unwrap()
            .revoked_at_ms
            .is_some()
    );
    assert!(
        store
            .grant(grants[1].id)
            .await
            .unwrap()
            .unwrap()
            .revoked_at_ms
            .is_none()
    );
    assert_eq!(ledger.size(), 6, "target, two identities, two grants, one revocation");
    assert_eq!(command(&state, "ledger fsck --json").await.unwrap(), Exit::Ok);
    server.abort();
}
