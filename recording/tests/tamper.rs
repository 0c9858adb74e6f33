//! The campaign of `examples/tamper.rs` over a small recording: every change to it is noticed.

mod support;

use portcullis_recording::verify;
use support::tamper::{campaign, recording, redacted, redacting};
use support::{STEP, trust};

#[test]
fn nothing_that_is_done_to_six_chunks_verifies() {
    for encrypted in [false, true] {
        let (file, other) = (recording(1, 1 << 11, encrypted), recording(2, 1 << 11, encrypted));
        assert!(verify(std::io::Cursor::new(&file), &trust(), None).is_ok());
        for count in campaign(&trust(), &file, &other, STEP) {
            assert!(count.tried > 0, "{count:?}");
            assert_eq!(count.verified, 0, "{count:?}, encrypted: {encrypted}");
        }
    }
}

#[test]
fn nothing_that_is_done_to_a_redacted_copy_verifies() {
    let [copy, other] = [1, 2].map(|session| redacted(&recording(session, 1 << 10, false)));
    assert!(verify(std::io::Cursor::new(&copy), &redacting(), None).is_ok());
    for count in campaign(&redacting(), &copy, &other, STEP) {
        assert!(count.tried > 0, "{count:?}");
        assert_eq!(count.verified, 0, "{count:?}");
    }
}
