//! What a recording is worth: from files to a verdict, an exit code, and words for both.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_recording::seal::SealKind;
use portcullis_recording::trust::NodeKey;
use portcullis_recording::verify::Ranges;
use portcullis_recording::{
    Fault, Head, Ledger, Trust, Unverified, Verdict, Verified, Why, spool, verify, verify_spool,
};
use serde::Serialize;

use crate::failure::{Exit, Failure};
use crate::files::{open, read_proof, read_tails, read_trust};
use crate::import::{self, Imported};
use crate::plain;
use crate::source::{Bytes, Source};
use crate::times;

/// What `--json` output calls its shape.
pub const SCHEMA: u32 = 1;

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// The recording, or a spool folder.
    pub file: PathBuf,
    /// Keys that are trusted.
    pub trust: Option<PathBuf>,
    /// The proof, if it is not beside the file.
    pub proof: Option<PathBuf>,
    /// Also unpack everything and compare it with what was signed.
    pub content: bool,
}

/// The verdict, in values that are safe to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Shape of this object.
    pub schema: u32,
    /// What was looked at.
    pub file: String,
    /// `SEALED`, `RECOVERED`, `REDACTED`, `PREFIX`, `INVALID` or `UNVERIFIED`.
    pub word: &'static str,
    /// The same with how far or where, and whether it is in the ledger.
    pub verdict: String,
    /// The exit code it gives.
    pub exit: u8,
    /// What is missing for a better verdict, and what to do about it.
    pub missing: Vec<String>,
    /// Who signed.
    pub signers: Vec<Signer>,
    /// The session, as the signer says. Without a trusted signer these are anybody's words.
    pub session: Option<Session>,
    /// How much it is.
    pub content: Option<Content>,
    /// Where it is in the ledger; of a redacted copy where its original is.
    pub ledger: Option<Position>,
    /// Who replaced what in it, if it is a redacted copy.
    pub redaction: Option<Redacted>,
}

/// What a redacted copy does not show as it was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redacted {
    /// The redactor; without a trusted one what somebody calls themselves.
    pub by: String,
    /// When, as the redactor says.
    pub at: String,
    /// Why.
    pub reason: String,
    /// Indices of the replaced chunks.
    pub chunks: Vec<u64>,
    /// Marks in them.
    pub marks: u64,
}

/// A node key and what the trust file says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// What it signed.
    pub signed: &'static str,
    /// Name in the trust file.
    pub node: String,
    /// Key in base64.
    pub key: String,
    /// First moment at which it holds.
    pub from: String,
    /// First moment at which it no longer does.
    pub until: Option<String>,
    /// Since when somebody else may have it.
    pub revoked: Option<String>,
}

/// Who, where, when, why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Id in hexadecimal.
    pub id: String,
    /// What the recording calls its node.
    pub node: String,
    /// Who.
    pub identity: String,
    /// Login on the target.
    pub login: String,
    /// The target.
    pub target: String,
    /// The client's address.
    pub source: String,
    /// The grant.
    pub grant: String,
    /// When the grant ends.
    pub grant_until: String,
    /// Key id of the certificate.
    pub certificate: String,
    /// When it opened.
    pub opened: String,
    /// When it closed; for a spool the time of the last event.
    pub closed: String,
    /// How long it was.
    pub length_ms: u64,
    /// Code of the reason why it ended.
    pub reason_code: Option<String>,
    /// The reason.
    pub reason: Option<String>,
}

impl Report {
    /// Verdict, signer and place in the ledger in the few words of a status line; what is bad stands first.
    pub fn badge(&self) -> String {
        if self.word == "UNVERIFIED" || self.word == "INVALID" {
            return "UNVERIFIED".to_owned();
        }
        // Whether it is in the ledger follows below, with the place.
        let verdict = self.verdict.split(", ").next().unwrap_or(self.word);
        let signer = self.signers.first().map_or("nobody", |s| s.node.as_str());
        let ledger = match &self.ledger {
            Some(at) => {
                let witnesses = match at.cosignatures.len() {
                    1 => "1 witness".to_owned(),
                    n => format!("{n} witnesses"),
                };
                format!("ledger leaf {} of {}, {witnesses}", at.index, at.tree_size)
            }
            None => "no ledger proof".to_owned(),
        };
        match &self.redaction {
            Some(redaction) => {
                let chunks = Ranges(&redaction.chunks);
                format!("{verdict}, {chunks}, recorded by {signer}, {ledger}")
            }
            None => format!("{verdict} by {signer}, {ledger}"),
        }
    }
}

/// Sizes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Content {
    /// Finished chunks and tails.
    pub chunks: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of events.
    pub raw_bytes: u64,
    /// Bytes of the chunks and tails as stored.
    pub stored_bytes: u64,
}

/// A proved place in a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The ledger.
    pub origin: String,
    /// The leaf, from 0.
    pub index: u64,
    /// Leaves when it was proved.
    pub tree_size: u64,
    /// Witnesses that cosigned, and when.
    pub cosignatures: Vec<Cosignature>,
}

/// A witness's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cosignature {
    /// Who.
    pub witness: String,
    /// When.
    pub at: String,
}

/// What came of it.
pub struct Examined {
    /// The verdict.
    pub report: Report,
    /// What may be shown of it: verified, or, if nothing trusted vouches for it, unverified as far as it is readable.
    pub source: Option<Source>,
    /// The text of the proof, whatever it is worth.
    pub proof: Option<String>,
    /// The session id, for file names and lookups.
    pub head: Option<Head>,
}

/// Looks at a recording. An error means that nothing can be said about it; a bad recording is a [`Report`].
pub fn examine(ask: &Ask) -> Result<Examined, Failure> {
    let shown = ask.file.display().to_string();
    let meta = fs::metadata(&ask.file).map_err(|e| Failure::io(&shown, &e))?;
    let trust = match &ask.trust {
        Some(path) => Some(read_trust(path)?),
        None => None,
    };
    if meta.is_file()
        && let Some(imported) = import::read(&ask.file)?
    {
        return Ok(foreign(imported, plain::line(&shown)));
    }
    let proof = read_proof(&ask.file, ask.proof.as_deref())?;
    let found = if meta.is_dir() {
        let tails = read_tails(&ask.file)?;
        let main = open(&ask.file.join(spool::MAIN_FILE))
            .map_err(|f| f.hint("a folder must be the spool of one session, with main.pcr in it"))?;
        verify_spool(main, tails, trust.as_ref().unwrap_or(&Trust::default()))
    } else if meta.is_file() {
        verify(
            open(&ask.file)?,
            trust.as_ref().unwrap_or(&Trust::default()),
            proof.as_deref(),
        )
    } else {
        return Err(
            Failure::new(Exit::Usage, format!("{shown}: neither a file nor a folder"))
                .hint("give a recording (.pcr) or the spool folder of a session"),
        );
    };
    let mut examined = match found {
        Ok(verified) => good(verified, trust.as_ref(), ask.content)?,
        Err(fault) => bad(ask, meta.is_dir(), fault, trust.is_some())?,
    };
    examined.report.schema = SCHEMA;
    examined.report.file = plain::line(&shown);
    examined.proof = proof;
    Ok(examined)
}

/// Another tool's file: there is nothing in it that could be verified.
fn foreign(imported: Imported, file: String) -> Examined {
    let what = imported.format.name();
    let report = Report {
        schema: SCHEMA,
        file,
        word: "UNVERIFIED",
        verdict: format!("UNVERIFIED: {what}, which nobody has signed"),
        exit: Exit::Unproved.code(),
        missing: vec!["a signature: only recordings of Portcullis (.pcr) can be verified".to_owned()],
        ..Report::default()
    };
    Examined {
        report,
        source: Some(Source::UnverifiedImport(Arc::new(imported))),
        proof: None,
        head: None,
    }
}

fn good(mut verified: Verified<Bytes>, trust: Option<&Trust>, content: bool) -> Result<Examined, Failure> {
    let mut report = Report::default();
    let head = verified.head().clone();
    if content && let Err(fault) = verified.check_content() {
        report = invalid(fault)?;
        report.session = Some(session(&head, None));
        return Ok(Examined {
            report,
            source: None,
            proof: None,
            head: Some(head),
        });
    }
    report.word = verified.verdict().word();
    report.verdict = plain::line(&verified.verdict().to_string());
    let mut of = "";
    let (mut exit, mut verdict) = (None, verified.verdict());
    if let Verdict::Redacted {
        by,
        at_wall_ms,
        reason,
        chunks,
        original,
    } = verdict
    {
        report.redaction = Some(Redacted {
            by: plain::line(by),
            at: times::utc(*at_wall_ms),
            reason: plain::line(reason),
            chunks: chunks.clone(),
            marks: verified.chunks().iter().map(|info| info.marks).sum(),
        });
        report
            .missing
            .push("what was redacted: the original has it, this copy does not".to_owned());
        (exit, verdict, of) = (Some(Exit::Redacted), original, "the original ");
    }
    let (own_exit, reason, closed_ms) = match verdict {
        Verdict::Sealed { closed_ms, code, text } => (Exit::Ok, Some((code.clone(), text.clone())), *closed_ms),
        Verdict::Recovered {
            closed_ms, code, text, ..
        } => {
            report.missing.push(
                "the session's own seal: the node put this together after a crash, and vouches for what follows that time"
                    .to_owned(),
            );
            (Exit::Recovered, Some((code.clone(), text.clone())), *closed_ms)
        }
        // Nobody makes a copy of a spool, or a copy that has a copy as its original.
        Verdict::Redacted { .. } => (Exit::Redacted, None, verified.last_ms()),
        Verdict::Prefix { .. } => {
            report.missing.push(
                "a seal: the session still runs or has crashed; the server seals it when it ends or starts again"
                    .to_owned(),
            );
            (Exit::Prefix, None, verified.last_ms())
        }
    };
    let mut exit = exit.take().unwrap_or(own_exit);
    match verified.ledger() {
        Ledger::Proven(proven) => {
            report.verdict += &format!(", {of}in the ledger");
            report.ledger = Some(Position {
                origin: plain::line(&proven.origin),
                index: proven.index,
                tree_size: proven.size,
                cosignatures: proven
                    .witnesses
                    .iter()
                    .map(|(witness, secs)| Cosignature {
                        witness: plain::line(witness),
                        at: times::utc(secs.saturating_mul(1000)),
                    })
                    .collect(),
            });
        }
        // A spool is not in the ledger yet; its verdict says so already.
        Ledger::NoProof if exit == Exit::Prefix => {}
        Ledger::NoProof => {
            report.verdict += &format!(", {of}not proved to be in the ledger");
            report.missing.push(
                "a proof: put FILE.proof beside the file or give --proof; the archive keeps it with the recording"
                    .to_owned(),
            );
        }
        Ledger::Refused(why) => {
            report.verdict += &format!(", {of}not proved to be in the ledger");
            report
                .missing
                .push(format!("a proof that holds: this one was refused, {why}"));
        }
    }
    if exit == Exit::Ok && report.ledger.is_none() {
        exit = Exit::Unproved;
    }
    report.exit = exit.code();
    report.session = Some(session(&head, Some((closed_ms, reason))));
    report.content = Some(sizes(verified.chunks()));
    if let Some(trust) = trust {
        report
            .signers
            .extend(signer(&trust.nodes, "the opening", &head.node_key, head.opened_wall_ms));
        if let Some(SealKind::Recovered { node_key, .. }) = verified.sealed().map(|s| &s.seal().kind) {
            let at = head.opened_wall_ms.saturating_add(closed_ms);
            report
                .signers
                .extend(signer(&trust.nodes, "the recovery", node_key, at));
        }
        if let Some(redaction) = verified.redaction() {
            let (key, at) = (redaction.key(), redaction.at_wall_ms());
            report
                .signers
                .extend(signer(&trust.redactors, "the redaction", key, at));
        }
    }
    if let Some(first) = report.signers.first()
        && first.node != plain::line(&head.node)
    {
        report.missing.push(format!(
            "agreement on the node's name: the trust file has its key as {}, the recording says {}",
            first.node,
            plain::line(&head.node)
        ));
    }
    let source = Some(Source::Verified(Box::new(verified)));
    Ok(Examined {
        report,
        source,
        proof: None,
        head: Some(head),
    })
}

/// Not verified. If only trust is lacking, the file's own consistency decides between UNVERIFIED and INVALID.
fn bad(ask: &Ask, folder: bool, fault: Fault, trusted: bool) -> Result<Examined, Failure> {
    let file = if folder {
        ask.file.join(spool::MAIN_FILE)
    } else {
        ask.file.clone()
    };
    let readable = Unverified::open(open(&file)?);
    let unknown = matches!(fault.why, Why::UnknownNodeKey | Why::UnknownRedactor);
    let own_fault = match &readable {
        Ok(unverified) => unverified.unverified_fault().cloned(),
        Err(fault) => Some(fault.clone()),
    };
    // A spool's main file has no end, and that is no fault.
    let own_fault = own_fault.filter(|f| !(folder && matches!(f.why, Why::NotSealed | Why::Truncated)));
    let mut report = match own_fault {
        Some(own) if unknown => invalid(own)?,
        None if unknown => {
            let missing = if fault.why == Why::UnknownRedactor {
                "the redactor's key: the trust file has no [[redactor]] with it; get it from whoever answers for the copy"
            } else if trusted {
                "its key: the trust file does not have the node key that signed it; get the trust file of that node"
            } else {
                "--trust FILE: without trusted keys nothing verifies (portcullis trust export makes one)"
            };
            Report {
                word: "UNVERIFIED",
                verdict: "UNVERIFIED: nothing in it contradicts itself, but nobody trusted vouches for it".to_owned(),
                exit: Exit::Unproved.code(),
                missing: vec![missing.to_owned()],
                ..Report::default()
            }
        }
        _ => invalid(fault.clone())?,
    };
    if !folder && fault.why == Why::NotSealed && ask.file.file_name().is_some_and(|n| n == spool::MAIN_FILE) {
        report
            .missing
            .push("the tails: to look at a running session give its folder, not main.pcr".to_owned());
    }
    let Ok(unverified) = readable else {
        return Ok(Examined {
            report,
            source: None,
            proof: None,
            head: None,
        });
    };
    let head = unverified.unverified_head().clone();
    report.session = Some(session(&head, None));
    report.content = Some(sizes(unverified.unverified_chunks()));
    report.redaction = unverified.unverified_redaction().map(|redaction| Redacted {
        by: plain::line(redaction.name()),
        at: times::utc(redaction.at_wall_ms()),
        reason: plain::line(redaction.reason()),
        chunks: redaction.chunks().collect(),
        marks: unverified.unverified_chunks().iter().map(|info| info.marks).sum(),
    });
    let source = Some(Source::Unverified(Box::new(unverified)));
    Ok(Examined {
        report,
        source,
        proof: None,
        head: Some(head),
    })
}

/// A disk that fails says nothing about the recording, so that is an error and no verdict.
fn invalid(fault: Fault) -> Result<Report, Failure> {
    if matches!(fault.why, Why::Io(_)) {
        return Err(fault.into());
    }
    Ok(Report {
        word: "INVALID",
        verdict: plain::line(&fault.to_string()),
        exit: Exit::Invalid.code(),
        ..Report::default()
    })
}

fn session(head: &Head, end: Option<(u64, Option<(String, String)>)>) -> Session {
    let (length_ms, reason) = end.unwrap_or_default();
    let (reason_code, reason) = reason.unzip();
    Session {
        id: spool::session_name(&head.session_id),
        node: plain::line(&head.node),
        identity: plain::line(&head.identity),
        login: plain::line(&head.login),
        target: plain::line(&head.target),
        source: plain::line(&head.source),
        grant: plain::line(&head.grant_id),
        grant_until: times::utc(head.grant_until_wall_ms),
        certificate: plain::line(&head.cert_key_id),
        opened: times::utc(head.opened_wall_ms),
        closed: times::utc(head.opened_wall_ms.saturating_add(length_ms)),
        length_ms,
        reason_code: reason_code.map(|t| plain::line(&t)),
        reason: reason.map(|t| plain::line(&t)),
    }
}

fn sizes(chunks: &[portcullis_recording::ChunkInfo]) -> Content {
    Content {
        chunks: chunks.len() as u64,
        events: chunks.iter().map(|c| c.events).sum(),
        raw_bytes: chunks.iter().map(|c| c.raw_len).sum(),
        stored_bytes: chunks.iter().map(|c| c.stored_len).sum(),
    }
}

fn signer(keys: &[NodeKey], signed: &'static str, key: &[u8; 32], at_wall_ms: u64) -> Option<Signer> {
    let held = |n: &&NodeKey| {
        n.key == *key && n.from_wall_ms <= at_wall_ms && n.until_wall_ms.is_none_or(|until| at_wall_ms < until)
    };
    let node = keys.iter().find(held)?;
    let revoked = keys
        .iter()
        .filter(|n| n.key == *key)
        .filter_map(|n| n.revoked_wall_ms)
        .min();
    Some(Signer {
        signed,
        node: plain::line(&node.name),
        key: BASE64.encode(node.key),
        from: times::utc(node.from_wall_ms),
        until: node.until_wall_ms.map(times::utc),
        revoked: revoked.map(times::utc),
    })
}
