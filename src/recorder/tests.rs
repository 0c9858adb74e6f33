//! A recorder with a clock in hand and no session around it.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use portcullis_recording::SealKind;
use portcullis_recording::event::Party;

use super::*;
use crate::clock::Now;
use crate::issue::file_keeper::{FileKeeper, Rules};
use crate::issue::keys::{self, CaHome};
use crate::kernel::echo::ECHO_WAIT_MS;

pub(super) struct Bench {
    pub(super) folder: tempfile::TempDir,
    keeper: Arc<FileKeeper>,
    recorders: Arc<Recorders>,
    pub(super) recorder: Recorder,
    failures: Arc<AtomicUsize>,
}

fn labels() -> Arc<Labels> {
    Arc::new(Labels::load(crate::kernel::labels::BUILTIN).unwrap())
}

impl Bench {
    pub(super) async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let keys_folder = folder.path().join("keys");
        keys::create(&keys_folder, CaHome::Files).unwrap();
        let clock = Clock::manual(Now {
            wall_ms: 1_800_000_000_000,
            boot_ms: 1,
        });
        let keeper = Arc::new(FileKeeper::load(&keys_folder, Rules::default(), clock.clone()).unwrap());
        let recorders = Recorders::start(
            &folder.path().join("spool"),
            keeper.clone(),
            clock,
            Kept::of(4096, false),
        )
        .unwrap();
        let failures = Arc::new(AtomicUsize::new(0));
        let count = failures.clone();
        let head = Head {
            session_id: [7; 16],
            node: "bastion-1".into(),
            ..Head::default()
        };
        let on_failure = Box::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        let recorder = recorders.open(head, labels(), on_failure).await.unwrap();
        Bench {
            folder,
            keeper,
            recorders,
            recorder,
            failures,
        }
    }

    pub(super) fn failures(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    fn spool(&self) -> PathBuf {
        self.recorder.0.lock().folder().to_owned()
    }

    fn output(&self, bytes: &'static [u8]) -> Result<(), RecorderError> {
        self.recorder.event(1, Event::Output(bytes.into()))
    }

    pub(super) fn typed(&self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut take = self.recorder.take(1);
        take.typed(&bytes);
        take.done().unwrap();
    }

    pub(super) fn shown(&self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let mut take = self.recorder.take(1);
        take.output(&bytes, true);
        take.done().unwrap();
    }

    fn hidden(&self) -> u64 {
        self.recorder.hidden_bytes(1)
    }

    /// Everything in the spool folder.
    fn bytes(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.spool()).unwrap();
        files
            .flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }
}

fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn nothing_follows_a_failed_append() {
    let bench = Bench::new().await;
    bench.output(b"before").unwrap();
    let failed = bench
        .recorder
        .0
        .with(|_, _| Err::<(), _>(RecorderError::Failed("injected".into())));
    assert!(failed.is_err());
    let before = bench.bytes();
    assert!(bench.recorder.0.lock().is_gone());
    assert!(bench.output(b"after").is_err());
    assert!(bench.recorder.sync().await.is_err());
    assert_eq!(bench.bytes(), before);
    assert_eq!(bench.failures(), 1);
    let Recovered::Finished(finished) = bench.recorder.salvage(&*bench.keeper, "recorder_failed").await else {
        panic!("not salvaged");
    };
    assert!(matches!(finished.sealed.seal().kind, SealKind::Recovered { .. }));
    assert!(finished.sealed.seal().text.contains("injected"));
}

#[tokio::test]
async fn a_check_that_the_disk_does_not_confirm_ends_the_recorder() {
    let bench = Bench::new().await;
    bench.output(b"before").unwrap();
    bench.recorder.check_leaf().unwrap();
    let failed = bench
        .recorder
        .check_leaf_by(|_| Err(std::io::Error::from_raw_os_error(5)));
    assert!(matches!(failed, Err(RecorderError::Spool { .. })), "{failed:?}");
    // The next sync of the file would succeed: nobody may rely on it.
    assert!(bench.output(b"after").is_err());
    assert_eq!(bench.failures(), 1);
}

#[tokio::test]
async fn a_late_event_does_not_spoil_the_seal() {
    let bench = Bench::new().await;
    bench.recorder.terminal(1, 80, 24);
    bench.typed(b"secret\r");
    let accounts = |recorder: &Recorder| {
        assert_eq!(recorder.hidden_bytes(1), 7);
        Vec::new()
    };
    bench.recorder.end(accounts, "exit", "done").unwrap();
    assert!(matches!(bench.output(b"late"), Err(RecorderError::Ended)));
    let finished = bench.recorder.seal("exit", "done").await.unwrap();
    assert_eq!(finished.sealed.seal().kind, SealKind::Sealed);
    assert!(bench.output(b"later").is_err());
    assert_eq!(bench.failures(), 0);
}

#[tokio::test]
async fn nothing_is_taken_while_the_sealer_is_too_far_behind() {
    let bench = Bench::new().await;
    bench
        .recorder
        .0
        .lock()
        .behind(portcullis_recording::limits::TAILS_MAX - 9);
    bench.output(b"x").unwrap();
    bench
        .recorder
        .0
        .lock()
        .behind(portcullis_recording::limits::TAILS_MAX - 8);
    assert!(bench.output(b"x").is_err());
    assert_eq!(bench.failures(), 1);
}

#[tokio::test]
async fn an_echo_that_comes_too_late_releases_nothing() {
    let bench = Bench::new().await;
    bench.recorder.terminal(1, 80, 24);
    bench.typed(b"secret\r");
    bench.recorder.0.with(|spool, _| spool.tick(ECHO_WAIT_MS - 1)).unwrap();
    assert_eq!(bench.hidden(), 0);
    bench.recorder.0.clock.advance(ECHO_WAIT_MS);
    bench.shown(b"secret\r\n");
    assert_eq!(bench.hidden(), 7);
    // The clerk's tick alone does it as well.
    bench.typed(b"other\r");
    bench
        .recorder
        .0
        .with(|spool, at_ms| spool.tick(at_ms + ECHO_WAIT_MS))
        .unwrap();
    assert_eq!(bench.hidden(), 13);
}

#[tokio::test]
async fn a_closed_channel_keeps_its_count_and_no_key() {
    let bench = Bench::new().await;
    bench.recorder.terminal(1, 80, 24);
    bench.typed(b"secr");
    bench
        .recorder
        .event(1, Event::ChannelClose { by: Party::Client })
        .unwrap();
    assert_eq!((bench.recorder.0.lock().terminals(), bench.hidden()), (0, 4));
    bench.typed(b"more\r");
    let finished = bench.recorder.finish(|_| Vec::new(), "exit", "done").await.unwrap();
    assert_eq!(bench.hidden(), 9);
    assert_eq!(finished.sealed.seal().kind, SealKind::Sealed);
}

#[tokio::test]
async fn terminal_input_is_never_clear() {
    let bench = Bench::new().await;
    bench.typed(b"hunter2-unannounced\r");
    bench.output(b"visible").unwrap();
    let bytes = bench.bytes();
    assert!(holds(&bytes, b"visible"));
    assert!(!holds(&bytes, b"hunter2"));
}

#[tokio::test]
async fn what_recovery_cannot_use_is_kept() {
    let bench = Bench::new().await;
    bench.output(b"first").unwrap();
    bench.recorder.0.fail(RecorderError::Failed("injected".into()));
    // A tail that does not follow.
    std::fs::write(bench.spool().join("tail-000009"), b"not a tail of this chain").unwrap();
    let spools = bench.recorders.spool_folder();
    let found = recover_all(&spools, &*bench.keeper).await.unwrap();
    assert!(matches!(
        found.as_slice(),
        [LeftOver::Recovered(Recovered::Finished(_))]
    ));
    let kept = spools.join(".damaged").join(format!("{}-1", "07".repeat(16)));
    assert_eq!(
        std::fs::read(kept.join("tail-000009")).unwrap(),
        b"not a tail of this chain"
    );
    assert!(holds(&std::fs::read(kept.join("tail-000000")).unwrap(), b"first"));
}

#[tokio::test]
async fn a_folder_whose_file_was_moved_is_told_apart() {
    let bench = Bench::new().await;
    let finished = bench.recorder.finish(|_| Vec::new(), "exit", "done").await.unwrap();
    assert_eq!(finished.sealed.open_leaf(), *bench.recorder.open_leaf());
    let archived = bench.folder.path().join("archived.pcr");
    std::fs::rename(&finished.path, archived).unwrap();
    let found = recover_all(&bench.recorders.spool_folder(), &*bench.keeper)
        .await
        .unwrap();
    assert!(matches!(found.as_slice(), [LeftOver::Moved { session, .. }] if *session == [7; 16]));
}

/// Text of several channels at once, each from a thread of its own, as pumps take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn segments_are_sealed_in_the_order_in_which_they_were_closed() {
    const CHANNELS: u32 = 8;
    const BATCHES: usize = 64;
    let bench = Bench::new().await;
    let line = Bytes::from_static(&[b'x'; 256 * 1024]);
    let pumps: Vec<_> = (1..=CHANNELS)
        .map(|channel| {
            let (recorder, line) = (bench.recorder.clone(), line.clone());
            tokio::spawn(async move {
                for _ in 0..BATCHES {
                    recorder.room().await;
                    let mut take = recorder.take(channel);
                    take.output(&line, false);
                    take.done()?;
                }
                Ok::<(), RecorderError>(())
            })
        })
        .collect();
    for pump in pumps {
        pump.await.unwrap().unwrap();
    }
    bench.recorder.finish(|_| Vec::new(), "exit", "").await.unwrap();
    assert_eq!(bench.failures(), 0);
}
