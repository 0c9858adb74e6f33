//! The index by itself: what goes in is found, what is taken out is gone.

use super::*;

struct House {
    dir: tempfile::TempDir,
    index: Index,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn recorded(session: u8, identity: &str, target: &str, opened_ms: u64) -> Recorded {
    Recorded {
        session: SessionId([session; 16]),
        identity: identity.to_owned(),
        login: "root".to_owned(),
        target: target.to_owned(),
        opened_ms,
        closed_ms: opened_ms + 600_000,
        standing: Standing::Whole,
        why: String::new(),
    }
}

fn command(at_ms: u64, text: &str, status: Option<u32>, labels: &[&str]) -> Entry {
    Entry {
        status,
        labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..Entry::new(Kind::Command, at_ms, 1, text)
    }
}

impl House {
    async fn new() -> House {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(&dir.path().join("search.db"), Clock::system())
            .await
            .unwrap();
        let house = House { dir, index };
        let days = [
            (1, "alice", "db1", "systemctl restart nginx"),
            (2, "bob", "db1", "rm -rf /srv/old"),
            (3, "alice", "web1", "systemctl status nginx"),
        ];
        for (n, who, target, text) in days {
            let of = recorded(n, who, target, u64::from(n) * DAY_MS);
            let status = if n == 2 { Some(1) } else { Some(0) };
            let labels: &[&str] = if n == 2 { &["destructive"] } else { &["service"] };
            let entries = vec![
                command(5_000, text, status, labels),
                Entry::new(Kind::Screen, 4_000, 1, &format!("$ {text}")),
                Entry::new(Kind::File, 6_000, 2, "upload /tmp/x\" OR *, 5 bytes"),
                Entry::new(Kind::Session, 0, 0, &format!("{who} as root@{target}; reason: INC-{n}")),
            ];
            house.index.put(&of, entries).await.unwrap();
        }
        house
    }

    async fn found(&self, query: &str) -> Vec<(u8, u64, Kind)> {
        let query = Query::parse(query, 4 * DAY_MS).unwrap();
        let page = self.index.page(&query, None, 100, self.index.until()).await.unwrap();
        assert!(page.next.is_none() && !page.cut);
        let hits = page.hits.into_iter();
        hits.map(|hit| (hit.session.0[0], hit.entry.at_ms, hit.entry.kind))
            .collect()
    }

    /// Whether the bytes are in any file of the index.
    fn on_disk(&self, text: &str) -> bool {
        let files = std::fs::read_dir(self.dir.path()).unwrap();
        files.flatten().any(|file| {
            let bytes = std::fs::read(file.path()).unwrap();
            bytes.windows(text.len()).any(|window| window == text.as_bytes())
        })
    }
}

#[tokio::test]
async fn what_goes_in_is_found_newest_first() {
    use Kind::{Command, File, Screen, Session};
    let house = House::new().await;
    let run = |n| (n, 5_000, Command);
    let shown = |n| (n, 4_000, Screen);
    for (query, found) in [
        ("systemctl nginx", vec![run(3), shown(3), run(1), shown(1)]),
        ("kind:command systemctl", vec![run(3), run(1)]),
        ("\"systemctl restart\" kind:command", vec![run(1)]),
        ("system* kind:command user:alice target:web1", vec![run(3)]),
        ("label:destructive", vec![run(2)]),
        ("status:failed", vec![run(2)]),
        ("status:0 kind:command", vec![run(3), run(1)]),
        ("/srv/old", vec![run(2), shown(2)]),
        ("/rm\\s+-rf/ kind:command", vec![run(2)]),
        ("/-rf./", vec![run(2), shown(2)]),
        ("before:2d kind:command", vec![run(1)]),
        ("after:2d before:1d kind:command", vec![run(2)]),
        ("inc-2", vec![(2, 0, Session)]),
        (
            "\"x\" OR kind:file",
            vec![(3, 6_000, File), (2, 6_000, File), (1, 6_000, File)],
        ),
        (
            "* kind:file",
            vec![(3, 6_000, File), (2, 6_000, File), (1, 6_000, File)],
        ),
        ("user:nobody", vec![]),
        ("destructive", vec![]),
        ("u616c696365", vec![]),
    ] {
        assert_eq!(house.found(query).await, found, "{query}");
    }
}

#[tokio::test]
async fn pages_go_on_where_the_last_one_ended() {
    let house = House::new().await;
    let query = Query::parse("kind:command", 0).unwrap();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let page = house.index.page(&query, before, 1, house.index.until()).await.unwrap();
        seen.extend(page.hits.iter().map(|hit| hit.session.0[0]));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(seen, [3, 2, 1]);
}

#[tokio::test]
async fn what_is_taken_out_is_gone_from_the_disk_and_stays_away() {
    let house = House::new().await;
    assert!(house.on_disk("/srv/old"));
    let gone = SessionId([2; 16]);
    house.index.forget(gone).await.unwrap();
    assert_eq!(house.found("user:bob").await, []);
    assert!(!house.on_disk("/srv/old"), "its text is still in a file");
    assert!(!house.on_disk("destructive"));
    // The reader was on its way when it was deleted.
    let late = recorded(2, "bob", "db1", 2 * DAY_MS);
    house
        .index
        .put(&late, vec![command(1, "rm late", None, &[])])
        .await
        .unwrap();
    house.index.clear().await.unwrap();
    house
        .index
        .put(&late, vec![command(1, "rm late", None, &[])])
        .await
        .unwrap();
    assert_eq!(house.found("late").await, []);
    assert_eq!(house.index.counts().await.unwrap().gone, 1);
    // Never heard of: gone all the same.
    house.index.forget(SessionId([9; 16])).await.unwrap();
    assert!(house.index.knows(SessionId([9; 16])).await.unwrap());
}

#[tokio::test]
async fn what_still_stands_in_the_log_is_not_said_to_be_gone() {
    let house = House::new().await;
    sqlx::query("PRAGMA busy_timeout = 0")
        .execute(&house.index.writer)
        .await
        .unwrap();
    let mut reading = house.index.reader.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM entry")
        .fetch_one(&mut *reading)
        .await
        .unwrap();
    let gone = SessionId([2; 16]);
    let told = house.index.forget(gone).await;
    assert!(matches!(told, Err(SearchError::Busy)), "{told:?}");
    reading.rollback().await.unwrap();
    house.index.forget(gone).await.unwrap();
    assert!(!house.on_disk("/srv/old"));
}

#[tokio::test]
async fn read_again_it_replaces_what_was_there() {
    let house = House::new().await;
    let of = recorded(1, "alice", "db1", DAY_MS);
    house
        .index
        .put(&of, vec![command(1, "uptime", Some(0), &[])])
        .await
        .unwrap();
    assert_eq!(
        house.found("user:alice kind:command before:2d").await,
        [(1, 1, Kind::Command)]
    );
    let counts = house.index.counts().await.unwrap();
    assert_eq!((counts.whole, counts.entries), (3, 9));
}

#[tokio::test]
async fn a_file_that_is_none_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("search.db");
    std::fs::write(&path, b"this is no database, and longer than its head is").unwrap();
    let index = Index::open(&path, Clock::system()).await.unwrap();
    assert_eq!(index.counts().await.unwrap(), Counts::default());
    index.close().await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn the_first_time_is_told_from_the_second() {
    let house = House::new().await;
    let first = house
        .index
        .firsts(SessionId([1; 16]), house.index.until())
        .await
        .unwrap();
    assert_eq!(
        (first.earlier, first.labels, first.programs),
        (0, vec!["service".to_owned()], vec!["systemctl".to_owned()])
    );
    let of = recorded(4, "alice", "db1", 4 * DAY_MS);
    let entries = vec![
        command(1, "systemctl stop x", None, &["service"]),
        command(2, "sudo shred /dev/sda", None, &["destructive"]),
    ];
    house.index.put(&of, entries).await.unwrap();
    let now = house
        .index
        .firsts(SessionId([4; 16]), house.index.until())
        .await
        .unwrap();
    assert_eq!(now.earlier, 2);
    assert_eq!(
        (now.labels, now.programs),
        (vec!["destructive".to_owned()], vec!["shred".to_owned()])
    );
    // Bob did it before; that is no matter.
    assert_eq!(
        house
            .index
            .firsts(SessionId([8; 16]), house.index.until())
            .await
            .unwrap(),
        Firsts::default()
    );
}

#[tokio::test]
async fn a_search_without_time_says_that_it_was_cut() {
    let house = House::new().await;
    let of = recorded(5, "carol", "db1", 5 * DAY_MS);
    let many = (0..20_000).map(|n| command(n, &format!("echo {n} abc"), None, &[]));
    house.index.put(&of, many.collect()).await.unwrap();
    let query = Query::parse("/zzz$/ echo", 0).unwrap();
    let page = house.index.page(&query, None, 10, 0).await.unwrap();
    assert!(page.cut && page.hits.is_empty());
    // And the connection is as good as before.
    assert_eq!(house.found("\"echo 19999 abc\"").await, [(5, 19_999, Kind::Command)]);
}

#[tokio::test]
async fn what_was_first_is_looked_for_only_so_long() {
    let house = House::new().await;
    let many = (0..20_000).map(|n| command(n, &format!("program{n} abc"), None, &["service"]));
    house
        .index
        .put(&recorded(5, "carol", "db1", 5 * DAY_MS), many.collect())
        .await
        .unwrap();
    let session = SessionId([5; 16]);
    assert_eq!(house.index.firsts(session, 0).await.unwrap(), Firsts::default());
    // And the connection is as good as before.
    let found = house.index.firsts(session, u64::MAX).await.unwrap();
    assert!(!found.programs.is_empty());
}

#[tokio::test]
async fn an_index_of_another_form_is_made_anew_and_one_of_this_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("search.db");
    let open = async || Index::open(&path, Clock::system()).await.unwrap();
    let index = open().await;
    let of = recorded(1, "alice", "db1", DAY_MS);
    index.put(&of, vec![command(1, "uptime", None, &[])]).await.unwrap();
    index.close().await;
    let index = open().await;
    assert_eq!(index.counts().await.unwrap().whole, 1);
    sqlx::raw_sql("PRAGMA user_version = 1")
        .execute(&index.writer)
        .await
        .unwrap();
    index.close().await;
    assert_eq!(open().await.counts().await.unwrap(), Counts::default());
}
