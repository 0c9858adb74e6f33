//! The API over its real socket, with the real store.

use std::sync::Mutex;

use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::ssh_key::{Certificate, PrivateKey, PublicKey};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::{ApiClient, ClientError};
use super::wire::*;
use super::*;
use crate::clock::Now;
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::keys::{self, CaHome};
use crate::kernel::credential::Credential;
use crate::kernel::grant::{Capability, hex32};
use crate::kernel::inventory::{HostProof, IdentityKind, Reach, Target};
use crate::kernel::policy::engine::Policies;
use crate::ledger::{Ledger, Options};
use crate::notify::Teller;
use crate::policies::Place;
use crate::store::SessionRow;
use crate::store::sqlite::SqliteStore;

const NOW: u64 = 1_800_000_000_000;

#[derive(Default)]
struct Entries {
    taken: Mutex<Vec<(&'static str, serde_json::Value)>>,
    full: std::sync::atomic::AtomicBool,
}

impl Journal for Entries {
    fn append<'a>(&'a self, kind: &'static str, body: serde_json::Value) -> Answer<'a, Result<u64, JournalError>> {
        Box::pin(async move {
            if self.full.load(std::sync::atomic::Ordering::SeqCst) {
                return Err(JournalError("no space".to_owned()));
            }
            let mut taken = self.taken.lock().unwrap();
            taken.push((kind, body));
            Ok(taken.len() as u64 - 1)
        })
    }
}

impl Entries {
    fn kinds(&self) -> Vec<&'static str> {
        self.taken.lock().unwrap().iter().map(|(kind, _)| *kind).collect()
    }
}

/// Knows of one session that does not fall.
struct Stubborn(Option<SessionId>);

impl Cutter for Stubborn {
    fn wait_cut<'a>(&'a self, sessions: &'a [SessionId], _: Duration) -> Answer<'a, Vec<SessionId>> {
        Box::pin(async move { sessions.iter().copied().filter(|id| Some(*id) == self.0).collect() })
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    journal: Arc<Entries>,
    client: ApiClient,
    clock: Clock,
    user: PublicKey,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<()>,
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

async fn world_with(stubborn: Option<SessionId>) -> World {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let store = Arc::new(SqliteStore::create(&layout.store()).await.unwrap());
    let journal = Arc::new(Entries::default());
    let clock = Clock::manual(Now {
        wall_ms: NOW,
        boot_ms: 0,
    });
    keys::create(&layout.keys(), CaHome::Files).unwrap();
    let keeper = FileKeeper::load(
        &layout.keys(),
        Rules {
            grant_ms_max: 3_600_000 + rules::BACKDATE_MS,
        },
        clock.clone(),
    )
    .unwrap();
    let keeper = Arc::new(keeper);
    let archive = Arc::new(crate::archive::files::Files::create(&layout.archive()).unwrap());
    Ledger::create(&layout.ledger(), "node1/log").unwrap();
    let options = Options {
        origin: "node1/log".to_owned(),
        ..Options::default()
    };
    let opened = Ledger::open(&layout.ledger(), options, keeper.clone(), clock.clone()).await;
    let ledger = Arc::new(opened.unwrap());
    let index = Arc::new(
        crate::search::Index::open(&layout.search(), clock.clone())
            .await
            .unwrap(),
    );
    let places = crate::search::Places::of(&layout);
    let api = Api {
        store: store.clone(),
        keeper,
        journal: journal.clone(),
        cutter: Arc::new(Stubborn(stubborn)),
        retention: Arc::new(Retention::new(
            store.clone(),
            ledger,
            Arc::new(crate::archive::vault::Vault::new(archive)),
            index.clone(),
            clock.clone(),
            None,
        )),
        search: crate::search::Keeper::start(index, store.clone(), places),
        clock: clock.clone(),
        metrics: Arc::new(Metrics::new()),
        layout: layout.clone(),
        node: "node1".parse().unwrap(),
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
            crate::break_glass::BreakGlass::open(&layout.break_glass(), "node1".parse().unwrap(), None).unwrap(),
        ),
        url: None,
        grant_ms_max: 3_600_000,
        local_as_self: false,
    };
    let listener = bind(&layout.api_socket()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(api.serve(vec![Door::Socket(listener)], async {
        stopped.await.ok();
    }));
    let client = ApiClient::new(layout.api_socket());
    World {
        dir,
        store,
        journal,
        client,
        clock,
        user: key(2).public_key().clone(),
        stop: Some(stop),
        served,
    }
}

async fn world() -> World {
    world_with(None).await
}

fn target(user: &PublicKey) -> Target {
    Target {
        name: "db1".parse().unwrap(),
        logins: vec!["root".parse().unwrap()],
        reach: Reach::Ssh {
            addr: "db1:22".to_owned(),
            proof: HostProof::HostKey(user.to_openssh().unwrap()),
            credential: Credential::Certificate,
            via: None,
        },
        labels: Vec::new(),
        disabled: false,
    }
}

fn alice() -> IdentityRequest {
    IdentityRequest {
        name: "alice".parse().unwrap(),
        kind: IdentityKind::Person,
        owner: None,
        purpose: None,
        review_by_ms: None,
        keys: Vec::new(),
        roles: Default::default(),
        groups: Default::default(),
    }
}

impl World {
    async fn stock(&self) {
        let _: TargetAdded = self.client.post("/v1/targets", &target(&self.user)).await.unwrap();
        let _: IdentityAdded = self.client.post("/v1/identities", &alice()).await.unwrap();
    }

    fn asks(&self) -> IssueRequest {
        IssueRequest {
            identity: "alice".parse().unwrap(),
            destination: "root@db1".parse().unwrap(),
            for_secs: 600,
            reason: "ticket 7".to_owned(),
            public_key: self.user.to_openssh().unwrap(),
            allow: vec![Capability::Shell, Capability::Exec],
            sources: vec!["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()],
            single_use: true,
        }
    }

    async fn issue(&self) -> Issued {
        self.client.post("/v1/grants", &self.asks()).await.unwrap()
    }

    async fn open(&self, number: u8, grant: &GrantView) -> SessionRow {
        let row = SessionRow {
            id: SessionId([number; 16]),
            node: "node1".parse().unwrap(),
            grant: grant.id,
            identity: grant.identity.clone(),
            destination: grant.destination.clone(),
            source: "10.0.0.9:1".to_owned(),
            started_ms: NOW,
            until_ms: NOW + 600_000,
            ended_ms: None,
            end_code: None,
        };
        let certificate = self.store.grant(grant.id).await.unwrap().unwrap().certificate_sha256;
        self.store.open_session(&row, certificate, NOW).await.unwrap();
        row
    }

    async fn refused<B: serde::Serialize>(&self, path: &str, body: &B) -> Problem {
        match self.client.post::<B, serde_json::Value>(path, body).await {
            Err(ClientError::Refused(problem)) => *problem,
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_grant_is_issued_for_one_purpose() {
    let world = world().await;
    world.stock().await;
    let issued = world.issue().await;
    let certificate = Certificate::from_openssh(&issued.certificate).unwrap();
    assert_eq!(certificate.valid_principals(), ["root@db1"]);
    assert_eq!(certificate.key_id(), format!("alice grant={}", issued.grant.id));
    assert_eq!(certificate.valid_after(), NOW / 1000 - 60, "a minute for slow clocks");
    assert_eq!(certificate.valid_before(), NOW / 1000 + 600);
    let extensions: Vec<_> = certificate.extensions().keys().map(String::as_str).collect();
    assert_eq!(extensions, ["permit-pty"]);
    let sources = certificate.critical_options().get("source-address").unwrap();
    assert_eq!(sources, "10.0.0.0/8,::1/128");

    let sha256: [u8; 32] = Sha256::digest(certificate.to_bytes().unwrap()).into();
    let row = world.store.grant_by_certificate(sha256).await.unwrap().unwrap();
    assert_eq!(
        (row.id, row.certificate_serial),
        (issued.grant.id, certificate.serial())
    );
    assert_eq!(
        (row.from_ms, row.until_ms),
        (NOW, NOW + 600_000),
        "the grant is not back-dated"
    );
    assert_eq!(
        (row.single_use, row.policy_digest),
        (true, Policies::builtin().unwrap().digest())
    );
    assert_eq!(row.issued_by, peer::account(peer::own().uid));
    assert_eq!(issued.grant.state, GrantState::Live);
    assert_eq!(world.journal.kinds(), ["target", "identity", "grant"]);
    let entry = world.journal.taken.lock().unwrap()[2].1.clone();
    assert_eq!(entry["certificate_sha256"], hex32::encode(&sha256));

    let longest = IssueRequest {
        for_secs: 3600,
        ..world.asks()
    };
    let second: Issued = world.client.post("/v1/grants", &longest).await.unwrap();
    assert!(second.grant.certificate_serial > issued.grant.certificate_serial);
    world.clock.advance(3_600_000);
    let all: Grants = world.client.get("/v1/grants").await.unwrap();
    assert_eq!(
        all.grants.iter().map(|grant| grant.state).collect::<Vec<_>>(),
        [GrantState::Expired; 2]
    );
    let live: Grants = world.client.get("/v1/grants?live=true").await.unwrap();
    assert_eq!(live.grants, []);
}

#[tokio::test]
async fn what_breaks_a_rule_changes_nothing() {
    let world = world().await;
    let problem = world.refused("/v1/grants", &world.asks()).await;
    assert_eq!(problem.code, Code::NotFound);
    assert!(problem.hint.unwrap().contains("identity add alice"));
    world.stock().await;
    let self_made = IdentityRequest {
        name: peer::account(peer::own().uid).parse().unwrap(),
        ..alice()
    };
    let _: IdentityAdded = world.client.post("/v1/identities", &self_made).await.unwrap();
    let to_self = IssueRequest {
        identity: self_made.name,
        ..world.asks()
    };
    assert_eq!(world.refused("/v1/grants", &to_self).await.code, Code::Denied);
    let long = IssueRequest {
        for_secs: 3601,
        ..world.asks()
    };
    assert_eq!(world.refused("/v1/grants", &long).await.code, Code::Denied);
    assert_eq!(
        world.refused("/v1/targets", &target(&world.user)).await.code,
        Code::Exists
    );
    assert_eq!(world.refused("/v1/identities", &alice()).await.code, Code::Exists);
    let orphan = IdentityRequest {
        name: "ci".parse().unwrap(),
        kind: IdentityKind::Machine,
        owner: Some("nobody".to_owned()),
        purpose: Some("x".to_owned()),
        ..alice()
    };
    assert_eq!(world.refused("/v1/identities", &orphan).await.code, Code::NotFound);
    let own = Reach::Local {
        command: vec![],
        run_as: peer::account(peer::own().uid),
    };
    let own = Target {
        name: "self".parse().unwrap(),
        reach: own,
        ..target(&world.user)
    };
    assert_eq!(world.refused("/v1/targets", &own).await.code, Code::Denied);
    let ghost = Reach::Local {
        command: vec![],
        run_as: "no-such-account".to_owned(),
    };
    let ghost = Target {
        name: "ghost".parse().unwrap(),
        reach: ghost,
        ..target(&world.user)
    };
    assert_eq!(world.refused("/v1/targets", &ghost).await.code, Code::Invalid);

    assert_eq!(world.journal.kinds(), ["target", "identity", "identity"]);
    assert_eq!(world.store.grants(None).await.unwrap(), []);
    assert_eq!(world.store.targets().await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_an_entry_in_the_ledger_nothing_is_granted_but_much_is_revoked() {
    let world = world().await;
    world.stock().await;
    let issued = world.issue().await;
    world.journal.full.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(world.refused("/v1/grants", &world.asks()).await.code, Code::Unavailable);
    assert_eq!(world.store.grants(None).await.unwrap().len(), 1);
    let path = format!("/v1/grants/{}/revoke", issued.grant.id);
    let revoked: Revoked = world
        .client
        .post(
            &path,
            &ReasonRequest {
                reason: "lost laptop".to_owned(),
            },
        )
        .await
        .unwrap();
    assert_eq!(revoked.warnings.len(), 1);
    assert_eq!(world.store.grants(Some(NOW)).await.unwrap(), []);
}

#[tokio::test]
async fn a_revocation_names_what_fell_and_what_did_not() {
    let world = world_with(Some(SessionId([0xbb; 16]))).await;
    world.stock().await;
    let (first, second) = (world.issue().await, world.issue().await);
    let falls = world.open(0xaa, &first.grant).await;
    let stays = world.open(0xbb, &second.grant).await;
    let one: OneSession = world.client.get("/v1/sessions/aaaa").await.unwrap();
    assert_eq!((one.session.id, one.grant.unwrap().id), (falls.id, first.grant.id));

    let request = RevokeRequest {
        what: What::Identity,
        id: Some("alice".to_owned()),
        reason: "left".to_owned(),
    };
    let revoked: Revoked = world.client.post("/v1/revoke", &request).await.unwrap();
    assert_eq!((revoked.seq, revoked.cut), (1, vec![falls.id]));
    assert_eq!(revoked.lease_bound.len(), 1);
    assert_eq!(revoked.lease_bound[0].id, stays.id);
    assert_eq!(world.journal.kinds().last(), Some(&"revocation"));

    let cases = [
        (What::Session, Some("cccc"), Code::NotFound),
        (What::Session, Some("xyz!"), Code::Invalid),
        (What::Grant, None, Code::Invalid),
        (What::All, Some("x"), Code::Invalid),
        (What::Identity, Some("bob"), Code::NotFound),
        (What::Target, Some("a b"), Code::Invalid),
    ];
    for (what, id, code) in cases {
        let request = RevokeRequest {
            what,
            id: id.map(str::to_owned),
            reason: "x".to_owned(),
        };
        assert_eq!(
            world.refused("/v1/revoke", &request).await.code,
            code,
            "{what:?} {id:?}"
        );
    }
    let mute = RevokeRequest {
        what: What::All,
        id: None,
        reason: " ".to_owned(),
    };
    assert_eq!(world.refused("/v1/revoke", &mute).await.code, Code::Invalid);
}

#[tokio::test]
async fn bad_requests_are_problems() {
    let world = world().await;
    let problem = world.refused("/v1/nothing", &()).await;
    assert_eq!((problem.status, problem.code), (404, Code::NotFound));
    assert_eq!(world.refused("/v1/sessions", &()).await.code, Code::MethodNotAllowed);
    assert_eq!(world.refused("/v1/grants", &"x").await.code, Code::Invalid);
    let huge = "x".repeat(BODY_BYTES_MAX);
    assert_eq!(world.refused("/v1/grants", &huge).await.code, Code::TooLarge);
    let query = world.client.get::<Grants>("/v1/grants?alive=1").await;
    assert!(matches!(query, Err(ClientError::Refused(problem)) if problem.code == Code::Invalid));

    let socket = world.client.socket().unwrap();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        &[b'A'; 100_000],
    ] {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // The server may hang up while we still send: that is an answer too.
        stream.write_all(bytes).await.ok();
        stream.shutdown().await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert!(
            !answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let health: Health = world.client.get("/v1/health").await.unwrap();
    assert_eq!(health.status, "ok");
}

#[tokio::test]
async fn state_and_metrics_can_be_read() {
    let world = world().await;
    world.stock().await;
    world.issue().await;
    assert_eq!(world.client.text("/healthz").await.unwrap(), "ok\n");
    let metrics = world.client.text("/metrics").await.unwrap();
    assert!(metrics.contains("portcullis_certificates_issued_total 1"), "{metrics}");
    assert!(world.client.text("/v1/trust").await.is_err(), "none is there yet");
    std::fs::write(world.dir.path().join("trust.toml"), "x = 1\n").unwrap();
    assert_eq!(world.client.text("/v1/trust").await.unwrap(), "x = 1\n");
    let recordings: Recordings = world.client.get("/v1/recordings").await.unwrap();
    assert_eq!(recordings, Recordings::new(Vec::new()));
    let sessions: Sessions = world.client.get("/v1/sessions?live=true").await.unwrap();
    assert_eq!(sessions.sessions, []);
}

/// A child of the server's process speaks to the socket: what a local target
/// run by a malicious user would do. The child is this test program itself.
#[tokio::test]
async fn a_process_that_the_server_started_gets_nothing() {
    const SOCKET: &str = "PORTCULLIS_TEST_SOCKET";
    const OWN_NAME: &str = "api::tests::a_process_that_the_server_started_gets_nothing";
    if let Ok(socket) = std::env::var(SOCKET) {
        match ApiClient::new(socket).get::<Health>("/v1/health").await {
            Err(ClientError::Refused(problem)) => assert_eq!(problem.code, Code::PeerRefused),
            other => panic!("{other:?}"),
        }
        return;
    }
    let world = world().await;
    let output = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", OWN_NAME])
        .env(SOCKET, world.client.socket().unwrap())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
async fn the_socket_is_private_and_has_one_server() {
    let mut world = world().await;
    let socket = world.client.socket().unwrap().to_owned();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(bind(&socket).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    world.stop.take().unwrap().send(()).unwrap();
    world.served.await.unwrap();
    let gone = world.client.get::<Health>("/v1/health").await;
    assert!(matches!(gone, Err(ClientError::Unreachable { .. })), "{gone:?}");
    drop(bind(&socket).unwrap());

    let file = world.dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert_eq!(bind(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let long = world.dir.path().join("x".repeat(SOCKET_PATH_BYTES_MAX));
    assert_eq!(bind(&long).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
