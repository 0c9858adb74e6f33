//! What is to be said of a recording, in values that are safe to show and that `--json` prints.

use portcullis_recording::event::ChannelAccount;
use portcullis_recording::verify::Ranges;
use serde::Serialize;

use crate::envelope::Encryption;
use crate::package::Contents;

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
    /// What crossed each channel, as the signer counted it; empty unless the content was unpacked.
    pub accounts: Vec<Account>,
    /// Where it is in the ledger; of a redacted copy where its original is.
    pub ledger: Option<Position>,
    /// Who replaced what in it, if it is a redacted copy.
    pub redaction: Option<Redacted>,
    /// How its content is locked, if it is encrypted.
    pub encryption: Option<Encryption>,
    /// What else is in the evidence package that it lies in.
    pub package: Option<Contents>,
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
        let lock = match &self.encryption {
            Some(encryption) => format!(", {}", encryption.words()),
            None => String::new(),
        };
        match &self.redaction {
            Some(redaction) => {
                let chunks = Ranges(&redaction.chunks);
                format!("{verdict}, {chunks}, recorded by {signer}, {ledger}{lock}")
            }
            None => format!("{verdict} by {signer}, {ledger}{lock}"),
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

/// The byte accounts of one channel (FORMAT.md section 5). Input that cannot be read is left out, or rounded up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The channel.
    pub channel: u32,
    /// Bytes read from the client.
    pub from_client: u64,
    /// Of these, written to the target.
    pub to_target: u64,
    /// Standard output bytes read from the target.
    pub from_target_out: u64,
    /// Of these, written to the client.
    pub to_client_out: u64,
    /// Standard error bytes read from the target.
    pub from_target_err: u64,
    /// Of these, written to the client.
    pub to_client_err: u64,
    /// Bytes of the gate's own, written to the client.
    pub injected: u64,
    /// Bytes kept back by policy, both ways.
    pub withheld: u64,
    /// Bytes from the client that the target never got.
    pub undelivered_up: u64,
    /// Bytes from the target that the client never got.
    pub undelivered_down: u64,
    /// Bytes of which only digests were kept: from the client, and from the target.
    pub digested: [u64; 2],
}

impl Account {
    /// Of what was sealed, and what the content holds.
    pub fn new(account: ChannelAccount, digested: [u64; 2]) -> Account {
        let ChannelAccount {
            channel,
            from_client,
            to_target,
            from_target_out,
            to_client_out,
            from_target_err,
            to_client_err,
            injected,
            withheld,
            undelivered_up,
            undelivered_down,
        } = account;
        Account {
            channel,
            from_client,
            to_target,
            from_target_out,
            to_client_out,
            from_target_err,
            to_client_err,
            injected,
            withheld,
            undelivered_up,
            undelivered_down,
            digested,
        }
    }
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
