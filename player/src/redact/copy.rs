//! From a verified recording to the file of its redacted copy. What still holds something is not delivered.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_recording::event::Timed;
use portcullis_recording::limits::{HEAD_TEXT_BYTES_MAX, SALT_BYTES};
use portcullis_recording::redact::RedactError;
use portcullis_recording::trust::NodeKey;
use portcullis_recording::verify::Ranges;
use portcullis_recording::{Chunk, Fault, Head, Redactor, Replacement, Trust, Verdict, Verified, verify};
use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::files::{open, read_trust, sidecar};
use crate::plain;
use crate::redact::check::{Check, holds};
use crate::redact::choice::Choice;
use crate::redact::edits::{Edits, Spot};
use crate::redact::key::RedactorKey;
use crate::redact::rebuild::Rebuild;
use crate::redact::search::Search;
use crate::source::{Bytes, Source};
use crate::verdict::Examined;

/// zstd level of replaced chunks, as the recorder's.
const LEVEL: i32 = 9;
/// Bytes of all replaced chunks, as stored.
const REPLACED_BYTES_MAX: u64 = 1 << 30;

/// What a copy is made with.
pub struct Order<'o> {
    /// The original.
    pub file: &'o Path,
    /// Where the copy goes.
    pub out: &'o Path,
    /// The trust file.
    pub trust: &'o Path,
    /// The redactor's key.
    pub key: &'o RedactorKey,
    /// When, in wall ms.
    pub at_wall_ms: u64,
    /// Why.
    pub reason: &'o str,
    /// What the redactor is called, if not as in the trust file.
    pub name: Option<&'o str>,
}

/// What was made.
pub struct Made {
    /// What is to be said of the copy.
    pub verdict: String,
    /// The chunks that were replaced.
    pub chunks: Vec<Copied>,
    /// What the redactor must know.
    pub warnings: Vec<String>,
}

/// A chunk that was replaced.
#[derive(Debug, Clone, Serialize)]
pub struct Copied {
    /// Its index.
    pub index: u64,
    /// When it begins.
    pub first_ms: u64,
    /// When it ends.
    pub last_ms: u64,
    /// Events that were changed or taken away.
    pub places: u64,
    /// Screens at its beginning that were drawn anew.
    pub screens: u64,
    /// Whether who guesses what is gone can tell that the guess is right: the original has no salt.
    pub guessable: bool,
}

/// Makes the copy, searches it, and only then gives it its name.
pub fn copy(examined: Examined, order: &Order<'_>, choice: &Choice) -> Result<Made, Failure> {
    let proof = examined.proof.clone();
    let mut verified = finished(examined)?;
    if fs::symlink_metadata(order.out).is_ok() {
        return Err(
            Failure::new(Exit::Failed, format!("{} exists", order.out.display())).hint("choose another name with -o")
        );
    }
    fixed_words(&verified, order, choice)?;
    let mut trust = read_trust(order.trust)?;
    let by = redactor(&verified, order, &trust)?;
    let (edits, left_out) = searched(&mut verified, choice)?;
    if left_out && !choice.patterns.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            "there are more channels or terminals at a time than can be searched",
        )
        .hint("--channel, --from and --to take away without searching"));
    }
    let (replacements, chunks) = rebuilt(&mut verified, choice, &edits)?;
    if replacements.is_empty() {
        return Err(Failure::new(
            Exit::Failed,
            "nothing of that is in the recording; no copy was made",
        ));
    }
    let mut warnings = Vec::new();
    if let Some(table) = make_known(&mut trust, &by) {
        warnings.push(format!("who reads the copy needs this in the trust file: {table}"));
    }
    let guessable: Vec<u64> = chunks.iter().filter(|c| c.guessable).map(|c| c.index).collect();
    if !guessable.is_empty() {
        warnings.push(format!(
            "recorded without a salt: {}. Who guesses all that is gone from one of them, a short password for one, can tell \
             from its hash that the guess is right; --from and --to take more away",
            Ranges(&guessable)
        ));
    }
    let (part, file) = Part::create(order.out)?;
    written(&mut verified, by, replacements, order.key, file)?;
    let verdict = checked(&part.0, &trust, proof.as_deref(), choice)?;
    part.deliver(order.out)?;
    if let Some(proof) = proof {
        // It proves the original, whose frames are all there; where a proof lies already it stays.
        let beside = OpenOptions::new().write(true).create_new(true).open(sidecar(order.out));
        beside.and_then(|mut file| file.write_all(proof.as_bytes())).ok();
    }
    Ok(Made {
        verdict,
        chunks,
        warnings,
    })
}

/// Only what is finished and verified has a seal that a copy can name.
fn finished(examined: Examined) -> Result<Box<Verified<Bytes>>, Failure> {
    let report = examined.report;
    let verified = match examined.source {
        Some(Source::Verified(verified)) => verified,
        Some(Source::Unverified(_) | Source::UnverifiedImport(_)) | None => {
            let exit = if report.exit == Exit::Invalid.code() {
                Exit::Invalid
            } else {
                Exit::Unproved
            };
            return Err(Failure::new(exit, report.verdict).hint(format!(
                "only what is verified can be redacted. Missing: {}",
                report.missing.join("; ")
            )));
        }
    };
    if verified.head().is_encrypted() {
        return Err(refused(&RedactError::Encrypted));
    }
    match verified.verdict() {
        Verdict::Sealed { .. } | Verdict::Recovered { .. } | Verdict::Redacted { .. } => Ok(verified),
        Verdict::Prefix { .. } => Err(Failure::new(Exit::Prefix, report.verdict)
            .hint("a session that still runs cannot be redacted; wait for its seal")),
    }
}

/// Words that every copy keeps must not hold what is to go.
fn fixed_words(verified: &Verified<Bytes>, order: &Order<'_>, choice: &Choice) -> Result<(), Failure> {
    let Head {
        node,
        target,
        login,
        identity,
        grant_id,
        cert_key_id,
        source,
        client_id,
        ledger_origin,
        ..
    } = verified.head();
    let head = [
        node,
        target,
        login,
        identity,
        grant_id,
        cert_key_id,
        source,
        client_id,
        ledger_origin,
    ];
    if head.iter().any(|text| choice.without(text).is_some()) {
        return Err(Failure::new(
            Exit::Failed,
            "what is to go is in the HEAD, which every copy keeps as it was signed",
        )
        .hint("give nothing away, or a transcript (export) that you have read"));
    }
    let seal = verified.sealed().map(|sealed| sealed.seal());
    if seal.is_some_and(|seal| {
        [&seal.code, &seal.text]
            .iter()
            .any(|text| choice.without(text).is_some())
    }) {
        return Err(Failure::new(
            Exit::Failed,
            "what is to go is in the SEAL, which every copy keeps as it was signed",
        ));
    }
    if [order.reason, order.name.unwrap_or_default()]
        .iter()
        .any(|text| choice.without(text).is_some())
    {
        return Err(Failure::new(
            Exit::Usage,
            "what is to go is in the reason or the name, which the copy shows",
        ));
    }
    Ok(())
}

/// Who redacts, when and why. A copy of a copy tells of the earlier one as well.
fn redactor(verified: &Verified<Bytes>, order: &Order<'_>, trust: &Trust) -> Result<Redactor, Failure> {
    let key = order.key.public();
    let known = trust.redactors.iter().find(|redactor| redactor.key == key);
    let name = order.name.or(known.map(|redactor| redactor.name.as_str()));
    let name = name.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            "the trust file does not know this redactor, and no --name says who it is",
        )
        .hint(format!("key {}", BASE64.encode(key)))
    })?;
    let mut reason = order.reason.to_owned();
    if let Verdict::Redacted {
        by, reason: earlier, ..
    } = verified.verdict()
    {
        reason += &format!("; before that by {by}: {earlier}");
        reason.truncate(reason.floor_char_boundary(HEAD_TEXT_BYTES_MAX));
    }
    if name.len() > HEAD_TEXT_BYTES_MAX || order.reason.len() > HEAD_TEXT_BYTES_MAX || order.reason.trim().is_empty() {
        let words = format!("name and reason must be there, and of {HEAD_TEXT_BYTES_MAX} bytes at most");
        return Err(Failure::new(Exit::Usage, words));
    }
    Ok(Redactor {
        key,
        name: name.to_owned(),
        at_wall_ms: order.at_wall_ms,
        reason,
    })
}

/// Has the redactor trusted for the check of the copy. What the trust file lacks for it, if it does.
fn make_known(trust: &mut Trust, by: &Redactor) -> Option<String> {
    if trust.redactors.iter().any(|redactor| redactor.key == by.key) {
        return None;
    }
    trust.redactors.push(NodeKey {
        name: by.name.clone(),
        key: by.key,
        from_wall_ms: by.at_wall_ms,
        until_wall_ms: None,
        revoked_wall_ms: None,
    });
    let (name, key) = (plain::line(&by.name), BASE64.encode(by.key));
    Some(format!(
        "[[redactor]] name = \"{name}\" key = \"{key}\" from = {}",
        by.at_wall_ms
    ))
}

fn events(chunk: &Chunk) -> Result<Vec<Timed<'static>>, Fault> {
    chunk.events()?.map(|item| item.map(Timed::into_owned)).collect()
}

fn searched(verified: &mut Verified<Bytes>, choice: &Choice) -> Result<(Edits, bool), Failure> {
    let mut search = Search::new(choice);
    for chunk in 0..verified.chunks().len() {
        for (event, timed) in verified.chunk(chunk)?.events()?.enumerate() {
            search.take(Spot { chunk, event }, &timed?);
        }
    }
    Ok(search.finish())
}

fn rebuilt(
    verified: &mut Verified<Bytes>,
    choice: &Choice,
    edits: &Edits,
) -> Result<(Vec<Replacement>, Vec<Copied>), Failure> {
    let (mut replacements, mut copied, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut rebuild = Rebuild::new(choice, edits);
    for at in 0..verified.chunks().len() {
        let chunk = verified.chunk(at)?;
        let Some(rebuilt) = rebuild.chunk(at, events(&chunk)?) else {
            continue;
        };
        let info = chunk.info();
        let (index, first_ms, last_ms) = (info.index, info.first_ms, info.last_ms);
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|e| Failure::new(Exit::Failed, format!("no randomness: {e}")))?;
        let replacement = Replacement::new(info, &rebuilt.events, &salt, LEVEL).map_err(|e| refused(&e))?;
        bytes += replacement.stored_len();
        if bytes > REPLACED_BYTES_MAX {
            return Err(Failure::new(Exit::Failed, "too much is to be redacted at once")
                .hint("redact a part, and then the copy"));
        }
        replacements.push(replacement);
        copied.push(Copied {
            index,
            first_ms,
            last_ms,
            places: rebuilt.places,
            screens: rebuilt.screens,
            guessable: !info.is_redacted() && !chunk.is_salted(),
        });
    }
    Ok((replacements, copied))
}

fn refused(error: &RedactError) -> Failure {
    match error {
        RedactError::NotAChunk(index) => Failure::new(
            Exit::Failed,
            format!("what is to go is in tail {index}, the torn end of a recovered recording"),
        )
        .hint("the node has signed that as a whole, and no part of it can be replaced: give nothing of it away"),
        RedactError::Chunk(_) => Failure::new(Exit::Failed, format!("a chunk cannot be made anew: {error}"))
            .hint("take away more with less: --from and --to leave no blocks in the place of text"),
        RedactError::Encrypted => Failure::new(Exit::Failed, error.to_string()).hint(
            "give a transcript of it (export) that you have read, or the envelope to those alone who may see all of it",
        ),
        RedactError::Nothing
        | RedactError::NotFinished
        | RedactError::Times { .. }
        | RedactError::Unmarked
        | RedactError::Event(_)
        | RedactError::Words
        | RedactError::Signature
        | RedactError::Original(_)
        | RedactError::Write(_) => Failure::new(Exit::Failed, format!("the copy cannot be made: {error}")),
    }
}

fn written(
    verified: &mut Verified<Bytes>,
    by: Redactor,
    replacements: Vec<Replacement>,
    key: &RedactorKey,
    file: File,
) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::io("the copy cannot be written", &e);
    let unsigned = verified.redact(by, replacements).map_err(|e| refused(&e))?;
    let signature = key.sign(&unsigned.statement());
    let mut out = BufWriter::new(file);
    unsigned.write(&signature, &mut out).map_err(|e| refused(&e))?;
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)
}

/// Verifies the copy and searches it; what to say of it.
fn checked(path: &Path, trust: &Trust, proof: Option<&str>, choice: &Choice) -> Result<String, Failure> {
    let mut copy = verify(open(path)?, trust, proof)?;
    copy.check_content()?;
    let mut check = Check::new(choice).map_err(|why| Failure::new(Exit::Failed, why))?;
    for chunk in 0..copy.chunks().len() {
        for (event, timed) in copy.chunk(chunk)?.events()?.enumerate() {
            check.take(Spot { chunk, event }, &timed?);
        }
    }
    let left = |place: &str| {
        Failure::new(
            Exit::Failed,
            format!("the copy would still hold it, in {place}; it was not delivered"),
        )
        .hint("take away more: --from and --to around that time, or a pattern that covers how it was written there")
    };
    if let Some(found) = check.finish() {
        return Err(left(&format!(
            "{} at {}",
            found.place,
            crate::times::exact(found.at_ms)
        )));
    }
    let held = holds(path, &choice.literals).map_err(|e| Failure::io(&path.display().to_string(), &e))?;
    if held {
        return Err(left("its bytes"));
    }
    Ok(plain::line(&copy.verdict().to_string()))
}

/// The copy before it has its name; gone if it never gets one.
struct Part(PathBuf);

impl Part {
    /// Begins it beside the place where it goes.
    fn create(out: &Path) -> Result<(Part, File), Failure> {
        let mut name = out.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|e| Failure::io(&format!("cannot write {}", path.display()), &e))?;
        Ok((Part(path), file))
    }

    /// Gives it its name, if nothing else has that by now.
    fn deliver(self, out: &Path) -> Result<(), Failure> {
        fs::hard_link(&self.0, out).map_err(|e| Failure::io(&format!("cannot write {}", out.display()), &e))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}
