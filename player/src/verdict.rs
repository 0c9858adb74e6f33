//! What a recording is worth: from files to a verdict, an exit code, and words for both.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portcullis_recording::event::ChannelAccount;
use portcullis_recording::seal::SealKind;
use portcullis_recording::trust::NodeKey;
use portcullis_recording::{
    Fault, Head, Ledger, Trust, Unverified, Verdict, Verified, Why, spool, verify, verify_spool,
};

use crate::envelope::{self, Encryption};
use crate::failure::{Exit, Failure};
use crate::files::{buffered, open, read_proof, read_tails, read_trust};
use crate::import::{self, Imported};
use crate::keyring::Keyring;
use crate::package::{Package, RECORDING};
use crate::plain;
use crate::report::{Account, Content, Cosignature, Position, Redacted, Report, Session, Signer};
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
    /// What opens encrypted content.
    pub keyring: Arc<Keyring>,
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
    let package = match meta.is_file() {
        true => Package::open(&ask.file)?,
        false => None,
    };
    let place = Place {
        ask,
        folder: meta.is_dir(),
        package: package.as_ref(),
    };
    let proof = match (&package, &ask.proof) {
        (Some(package), None) => package.proof().map_err(|e| Failure::io(&shown, &e))?,
        (Some(_), Some(_)) | (None, _) => read_proof(&ask.file, ask.proof.as_deref())?,
    };
    let found = if meta.is_dir() {
        let tails = read_tails(&ask.file)?;
        let main = open(&ask.file.join(spool::MAIN_FILE))
            .map_err(|f| f.hint("a folder must be the spool of one session, with main.pcr in it"))?;
        verify_spool(main, tails, trust.as_ref().unwrap_or(&Trust::default()))
    } else if meta.is_file() {
        verify(
            place.open()?,
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
        Ok(verified) => good(verified, trust.as_ref(), &place)?,
        Err(fault) => bad(&place, fault, trust.is_some())?,
    };
    if let (Some(package), Some(trust), Some(head)) = (&package, &trust, &examined.head)
        && examined.report.word != "INVALID"
    {
        match package.check(head, trust) {
            Ok(contents) => examined.report.package = Some(contents),
            Err(why) => {
                examined.report.word = "INVALID";
                examined.report.verdict = format!("INVALID: {why}");
                examined.report.exit = Exit::Invalid.code();
                examined.source = None;
            }
        }
    }
    examined.report.schema = SCHEMA;
    examined.report.file = plain::line(&shown);
    examined.proof = proof;
    Ok(examined)
}

/// Where the recording lies.
struct Place<'a> {
    ask: &'a Ask,
    folder: bool,
    package: Option<&'a Package>,
}

impl Place<'_> {
    /// The recording's bytes, of a spool folder those of its main file.
    fn open(&self) -> Result<Bytes, Failure> {
        let file = &self.ask.file;
        let Some(package) = self.package else {
            return match self.folder {
                true => open(&file.join(spool::MAIN_FILE)),
                false => open(file),
            };
        };
        let shown = file.display().to_string();
        let section = package.section(RECORDING).map_err(|e| Failure::io(&shown, &e))?;
        let section = section.ok_or_else(|| {
            Failure::new(Exit::Invalid, format!("INVALID: {shown} holds no {RECORDING}"))
                .hint("get it again: portcullis evidence SESSION -o FILE")
        })?;
        Ok(buffered(section))
    }
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

fn good(mut verified: Verified<Bytes>, trust: Option<&Trust>, place: &Place<'_>) -> Result<Examined, Failure> {
    let ask = place.ask;
    let mut report = Report::default();
    let head = verified.head().clone();
    let (encryption, key) = envelope::open(&ask.file, place.package, &head, &ask.keyring).unzip();
    if let Some(key) = key.flatten() {
        verified.unlock(key);
    }
    report.encryption = encryption.clone();
    if ask.content && !verified.is_locked() {
        let checked = verified.check_content();
        match checked.and_then(|checked| Ok((checked, verified.accounts()?))) {
            Ok((checked, accounts)) => {
                let account = |account: ChannelAccount| {
                    let digested = checked.digested.get(&account.channel).copied().unwrap_or_default();
                    Account::new(account, digested)
                };
                report.accounts = accounts.into_iter().map(account).collect();
            }
            Err(fault) => {
                report = invalid(fault)?;
                report.encryption = encryption;
                report.session = Some(session(&head, None));
                return Ok(Examined {
                    report,
                    source: None,
                    proof: None,
                    head: Some(head),
                });
            }
        }
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
    if let Some(Encryption { locked: Some(why), .. }) = &report.encryption
        && (ask.content || !ask.keyring.is_empty())
    {
        report.missing.push(format!("the content, which was to be read: {why}"));
        exit = if exit == Exit::Ok { Exit::Unproved } else { exit };
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
fn bad(place: &Place<'_>, fault: Fault, trusted: bool) -> Result<Examined, Failure> {
    let (ask, folder) = (place.ask, place.folder);
    let readable = Unverified::open(place.open()?);
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
    let Ok(mut unverified) = readable else {
        return Ok(Examined {
            report,
            source: None,
            proof: None,
            head: None,
        });
    };
    let head = unverified.unverified_head().clone();
    let (encryption, key) = envelope::open(&ask.file, place.package, &head, &ask.keyring).unzip();
    if let Some(key) = key.flatten() {
        unverified.unverified_unlock(key);
    }
    report.encryption = encryption;
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
