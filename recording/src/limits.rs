//! Every bound of the format, with its unit last (FORMAT.md section 2).

/// Raw (decompressed) bytes of one chunk: 4 MiB of events plus slack for the last event and the keyframes.
pub const CHUNK_RAW_BYTES_MAX: usize = 6 << 20;
/// Stored bytes of one chunk: raw bytes that did not shrink, with block headers.
pub const CHUNK_STORED_BYTES_MAX: usize = CHUNK_RAW_BYTES_MAX + (1 << 20);
/// A flood chunk should be finished once it holds this many raw bytes.
pub const FLOOD_RAW_BYTES_TARGET: usize = 4 << 20;
/// A tail should be closed once it holds this many bytes.
pub const SEGMENT_BYTES_TARGET: usize = 1 << 20;
/// Bytes of one tail file, events and checks together.
pub const TAIL_BYTES_MAX: usize = 5 << 20;
/// Payload bytes of one event.
pub const EVENT_PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes that one digest may stand for: as many as one event could have held.
pub const DIGEST_BYTES_MAX: u64 = EVENT_PAYLOAD_BYTES_MAX as u64;
/// Bytes of keyframes put at the start of one chunk; those beyond it are left out.
pub const KEYFRAMES_BYTES_MAX: usize = 768 << 10;
/// Bytes of a sealed row's payload: kind, channel, payload and tag of the event in it.
pub const SEALED_ROW_BYTES_MAX: usize = 1 + 5 + EVENT_PAYLOAD_BYTES_MAX + 16;
/// Chunks in one recording.
pub const CHUNKS_MAX: u64 = 1 << 20;
/// Tail frames in one recovered recording.
pub const TAILS_MAX: usize = 64;
/// Bytes of the HEAD frame's content.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes of a LEAF, TAIL-OPEN, CHECK or SEAL statement with its signature.
pub const STATEMENT_BYTES_MAX: usize = 4 << 10;
/// Bytes of an encrypted recording's envelope, the age file beside it.
pub const ENVELOPE_BYTES_MAX: usize = 64 << 10;
/// Bytes of one text in the HEAD.
pub const HEAD_TEXT_BYTES_MAX: usize = 1024;
/// Bytes of one text in an event (a keyframe's dump and a request's detail have their own bounds).
pub const EVENT_TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of one path in a file's event.
pub const FILE_PATH_BYTES_MAX: usize = 4096;
/// Bytes of the words in a file's event.
pub const FILE_WORDS_BYTES_MAX: usize = 1024;
/// Bytes of the code in a file's event.
pub const FILE_CODE_BYTES_MAX: usize = 64;
/// Ranges in a file's event.
pub const FILE_RANGES_MAX: usize = 64;
/// No file has more bytes.
pub const FILE_BYTES_MAX: u64 = i64::MAX as u64;
/// Bytes of the text of a command, and of what was read instead.
pub const COMMAND_TEXT_BYTES_MAX: usize = 16 << 10;
/// Bytes of what a command's context is called.
pub const COMMAND_CONTEXT_BYTES_MAX: usize = 256;
/// Bytes of a command's working directory.
pub const COMMAND_DIRECTORY_BYTES_MAX: usize = 4096;
/// Labels of a command.
pub const COMMAND_LABELS_MAX: usize = 32;
/// Bytes of a command's label.
pub const COMMAND_LABEL_BYTES_MAX: usize = 64;
/// Bytes of what stood before a hidden line.
pub const HIDDEN_PROMPT_BYTES_MAX: usize = 256;
/// Bytes of the age file with a hidden line's key.
pub const HIDDEN_ENVELOPE_BYTES_MAX: usize = 8192;
/// Bytes of a keyframe's terminal dump.
pub const KEYFRAME_DUMP_BYTES_MAX: usize = 512 << 10;
/// Channels listed in one Accounts event.
pub const ACCOUNTS_CHANNELS_MAX: usize = 4096;
/// Bytes of terminal input under one line key; a longer line goes on under the next key.
pub const LINE_BYTES_MAX: usize = 32 << 10;
/// SealedInput events under one line key.
pub const LINE_SEALS_MAX: u32 = 1 << 16;
/// Sealed input is padded to a multiple of this many bytes.
pub const LINE_PAD_BYTES: usize = 32;
/// Smallest class of a hidden line: its blob holds at least `1 << 4` bytes.
pub const HIDDEN_CLASS_MIN: u8 = 4;
/// Largest class of a hidden line: `1 << 15` is `LINE_BYTES_MAX`.
pub const HIDDEN_CLASS_MAX: u8 = 15;
/// Line keys one reader keeps.
pub const LINE_KEYS_MAX: usize = 1 << 20;
/// Log2 of the largest zstd window a chunk may ask for: 8 MiB.
pub const WINDOW_LOG_MAX: u32 = 23;
/// Bytes of one zstd block (RFC 8878 section 3.1.1.2).
pub const BLOCK_BYTES_MAX: usize = 128 << 10;
/// Milliseconds: larger times are refused, so that sums cannot overflow (about 8,900 years).
pub const TIME_MS_MAX: u64 = 1 << 48;
/// Random bytes in the salt that ends a chunk.
pub const SALT_BYTES: usize = 16;
/// Raw bytes of the salt's event in either layout: dt, kind, channel, length and the salt.
pub const SALT_EVENT_BYTES: usize = 4 + SALT_BYTES;
/// Bytes of one replaced chunk in a REDACTION.
pub const REPLACED_BYTES_MAX: usize = 64;
/// Bytes of a trust file.
pub const TRUST_BYTES_MAX: usize = 1 << 20;
/// Bytes of a signed note or a proof file.
pub const NOTE_BYTES_MAX: usize = 1 << 20;
/// Signature lines in one note.
pub const NOTE_SIGNATURES_MAX: usize = 64;
/// Hashes in one Merkle proof.
pub const PROOF_HASHES_MAX: usize = 63;
/// Longest body of an event's leaf in a ledger, in bytes.
pub const EVENT_BODY_BYTES_MAX: usize = 64 << 10;
/// Longest name of an event's kind, in bytes.
pub const EVENT_KIND_BYTES_MAX: usize = 64;
