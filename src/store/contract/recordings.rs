//! Recordings.

use super::*;

pub(super) async fn keeps_recordings_and_what_became_of_them(bench: impl Bench) {
    let store = bench.store();
    let row = recording;
    store.add_recording(&row(1)).await.unwrap();
    store.add_recording(&row(2)).await.unwrap();
    assert!(matches!(store.add_recording(&row(2)).await, Err(StoreError::Exists(_))));
    assert_eq!(store.recordings().await.unwrap(), [row(2), row(1)]);
    assert_eq!(store.recording(SessionId([1; 16])).await.unwrap(), Some(row(1)));
    assert_eq!(store.recording(SessionId([3; 16])).await.unwrap(), None);

    let ids = |rows: Vec<RecordingRow>| rows.iter().map(|row| row.session.0[0]).collect::<Vec<u8>>();
    let [one, two] = [1, 2].map(|number| SessionId([number; 16]));
    assert_eq!(ids(store.recordings_before(NOW + 3).await.unwrap()), [1, 2]);
    assert_eq!(ids(store.recordings_before(NOW + 2).await.unwrap()), [1]);
    let held = Mark::Hold(Some("case 7".to_owned()));
    store.mark_recording(one, &held).await.unwrap();
    for mark in [Mark::Expired(NOW), Mark::Shredded(NOW)] {
        let marked = store.mark_recording(one, &mark).await;
        assert!(
            matches!(marked, Err(StoreError::Held(ref why)) if why == "case 7"),
            "{marked:?}"
        );
    }
    store.mark_recording(two, &Mark::Shredded(NOW + 8)).await.unwrap();
    assert_eq!(ids(store.recordings_before(NOW + 3).await.unwrap()), [2]);
    store.mark_recording(two, &Mark::Expired(NOW + 9)).await.unwrap();
    assert_eq!(store.recordings_before(NOW + 3).await.unwrap(), []);
    store.mark_recording(one, &Mark::Hold(None)).await.unwrap();
    assert_eq!(store.recording(one).await.unwrap(), Some(row(1)));
    let kept = store.recording(two).await.unwrap().unwrap();
    assert_eq!((kept.shredded_ms, kept.expired_ms), (Some(NOW + 8), Some(NOW + 9)));
    let nobody = store.mark_recording(SessionId([3; 16]), &held).await;
    assert!(matches!(nobody, Err(StoreError::NotFound(_))));
}

pub(super) async fn pages_through_recordings(bench: impl Bench) {
    let store = bench.store();
    for number in 1..=5 {
        // Two of a kind in time.
        let sealed_ms = NOW + u64::from(number / 2);
        store
            .add_recording(&RecordingRow {
                sealed_ms,
                ..recording(number)
            })
            .await
            .unwrap();
    }
    let whole = store.recordings().await.unwrap();
    let mut seen = Vec::new();
    loop {
        let after = seen.last().map(|row: &RecordingRow| row.session.to_string());
        let rows = store.recordings_page(&page(after, 2)).await.unwrap();
        if rows.is_empty() {
            break;
        }
        assert!(rows.len() <= 2);
        seen.extend(rows);
    }
    assert_eq!(seen, whole);
    let unknown = store.recordings_page(&page(Some("x".to_owned()), 2)).await;
    assert!(matches!(unknown, Err(StoreError::NotFound(_))));
}
