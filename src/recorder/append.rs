//! What is appended to the main file: all of it or nothing, and never behind
//! something that a sync refused.

use std::fs::File;
use std::io::{IoSlice, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use portcullis_recording::{Around, Piece, Timed};

use super::RecorderError;
use super::job::{Job, lock};
use super::reserve::Room;
use super::spool::failed;

/// Slices given to one writev (IOV_MAX is 1024).
const SLICES_MAX: usize = 512;

/// Re-encodes one segment into the main file and drops its tail.
///
/// Order: chunk and leaf appended, synced, and only then the tail removed.
/// What a sync refused is cut off again: the tail still has it.
pub fn encode(job: Job, room: Room<'_>) -> Result<(), RecorderError> {
    let (main, path) = (job.main.clone(), job.path.clone());
    let before = append_chunk(job, room)?;
    let main = lock(&main);
    if let Err(error) = main.file.sync_data() {
        cut(&main.file, before);
        return Err(RecorderError::unsynced(&error));
    }
    drop(main);
    std::fs::remove_file(path).map_err(failed("tail cannot be removed"))
}

/// Appends a segment's chunk and leaf; answers with the length before.
pub fn append_chunk(job: Job, room: Room<'_>) -> Result<u64, RecorderError> {
    let bytes = std::fs::read(&job.path).map_err(failed("cannot be read back"))?;
    let text = job.segment.read(&bytes)?;
    let mut guard = lock(&job.main);
    let main = &mut *guard;
    let keyframes = main.screens.keyframes();
    let events: Vec<Timed<'_>> = job.before.into_iter().chain(text.events()?).collect();
    let (screens, commands) = (&mut main.screens, &mut main.commands);
    commands.note(&events);
    // What is drawn comes from the target: an emulator or a reader that panics
    // over it costs keyframes and commands, not the recording.
    let read = catch_unwind(AssertUnwindSafe(|| {
        commands.read(&events, &job.entered, screens);
        commands.keep(&job.terminals);
    }));
    if read.is_err() {
        tracing::error!(
            segment = job.segment.index(),
            "the terminal emulator failed; no more keyframes, and no commands of terminals"
        );
        screens.stop();
        commands.stop();
    }
    screens.keep(&job.terminals);
    if job.last {
        commands.finish(events.last().map_or(0, |timed| timed.at_ms));
    }
    let around = Around {
        keyframes: &keyframes,
        behind: &commands.take(job.last),
    };
    let before = main.file.metadata().map_err(failed("cannot be measured"))?.len();
    let chunk = job.segment.encode_read(&text, around, job.level, &mut main.main)?;
    append(&main.file, &chunk, room).map_err(failed("cannot be appended to"))?;
    Ok(before)
}

/// Appends and syncs. What a sync refused is never trusted again, not even
/// when the next one succeeds: it is cut off.
pub fn append_synced(
    file: &File,
    bytes: &[u8],
    room: Room<'_>,
    sync: impl FnOnce(&File) -> std::io::Result<()>,
) -> Result<(), RecorderError> {
    let before = file.metadata().map_err(failed("cannot be measured"))?.len();
    append(file, bytes, room).map_err(failed("found no room for the seal"))?;
    sync(file).map_err(|error| {
        cut(file, before);
        RecorderError::unsynced(&error)
    })
}

pub fn cut(file: &File, len: u64) {
    if let Err(error) = file.set_len(len) {
        tracing::error!(%error, "what could not be synced could not be cut off either");
    }
}

/// Appends all or nothing.
pub fn append(file: &File, bytes: &[u8], room: Room<'_>) -> std::io::Result<()> {
    whole(file, room, |mut writing| writing.write_all(bytes))
}

/// The same for what was just taken. Where nothing is given up for it, a torn
/// end is left to recovery, which cuts it: nobody writes behind it.
pub fn append_taken(file: &File, bytes: &[u8], room: Room<'_>) -> std::io::Result<()> {
    taken(file, room, |mut writing| writing.write_all(bytes))
}

/// The same in pieces.
pub fn append_pieces(file: &File, pieces: &[Piece<'_>], room: Room<'_>) -> std::io::Result<()> {
    taken(file, room, |writing| write_pieces(writing, pieces))
}

fn taken(file: &File, room: Room<'_>, write: impl Fn(&File) -> std::io::Result<()>) -> std::io::Result<()> {
    match room.is_none() {
        true => write(file),
        false => whole(file, room, write),
    }
}

fn whole(file: &File, room: Room<'_>, write: impl Fn(&File) -> std::io::Result<()>) -> std::io::Result<()> {
    let before = file.metadata()?.len();
    room.make(|| {
        write(file).inspect_err(|_| {
            // Half a chunk is none; if this fails as well, recovery cuts it.
            cut(file, before);
        })
    })
}

fn write_pieces(file: &File, pieces: &[Piece<'_>]) -> std::io::Result<()> {
    let slices: Vec<IoSlice<'_>> = pieces
        .iter()
        .flat_map(|piece| [piece.lead(), piece.payload()])
        .filter(|bytes| !bytes.is_empty())
        .map(IoSlice::new)
        .collect();
    let mut writing: &File = file;
    for slices in slices.chunks(SLICES_MAX) {
        let mut slices = slices.to_vec();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            match writing.write_vectored(rest) {
                Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
                Ok(written) => IoSlice::advance_slices(&mut rest, written),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
