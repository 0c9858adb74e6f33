//! Which batches are bulk: data that goes straight into a stored chunk.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "only the kinds that carry data are looked at here"
)]

use portcullis_recording::Event;

/// Bytes of a bulk sample that tell whether it compresses.
const SAMPLE_BYTES: usize = 4096;

pub fn data_len(event: &Event<'_>) -> usize {
    match event {
        Event::Output(bytes) | Event::Input(bytes) | Event::Stderr(bytes) => bytes.len(),
        _ => 0,
    }
}

/// Whether an event says what a channel runs, or how its terminal is.
pub fn is_of_commands(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::Request { .. }
            | Event::Decision { .. }
            | Event::Marker { .. }
            | Event::ExitStatus(_)
            | Event::ChannelClose { .. }
            | Event::Resize { .. }
    )
}

/// The same event without copying its bytes.
pub fn borrow<'a>(event: &'a Event<'_>) -> Event<'a> {
    match event {
        Event::Output(bytes) => Event::Output(bytes.as_ref().into()),
        Event::Input(bytes) => Event::Input(bytes.as_ref().into()),
        Event::Stderr(bytes) => Event::Stderr(bytes.as_ref().into()),
        other => other.clone().into_owned(),
    }
}

/// Whether the largest data event looks like it will not shrink: close to all
/// byte values appear in a sample. Text that compresses goes by the tail and
/// is re-encoded off the session's path.
pub fn incompressible(events: &[Event<'_>]) -> bool {
    let largest = events
        .iter()
        .filter_map(|event| match event {
            Event::Output(bytes) | Event::Input(bytes) | Event::Stderr(bytes) => Some(bytes.as_ref()),
            _ => None,
        })
        .max_by_key(|bytes| bytes.len())
        .unwrap_or_default();
    let sample = largest.get(..SAMPLE_BYTES.min(largest.len())).unwrap_or_default();
    let mut counts = [0u32; 256];
    for byte in sample {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    // Sum of squares (the collision count): 1/256 for noise, several times
    // that for anything zstd can win much on.
    let squares: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(*count)).sum();
    let length = sample.len() as u64;
    length >= 1024 && squares.saturating_mul(256) < length.saturating_mul(length).saturating_mul(3) / 2
}
