//! `key`: identities that open encrypted recordings, whole or in shares.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::{finish, put, put_json, say, stdout};
use crate::failure::{Exit, Failure};
use crate::files::with_extension;
use crate::keyring::{read_identities, read_shares};
use crate::plain;
use crate::share::{self, ShareError};
use crate::verdict::SCHEMA;

/// `key ...`.
#[derive(Args, Debug)]
pub struct Key {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Make an identity, or only its shares, and print the recipient to encrypt to
    New(New),
    /// Split an identity into shares, of which some open together
    Split(Split),
    /// Put an identity together from its shares, for use with age
    Join(Join),
}

#[derive(Args, Debug)]
struct New {
    /// Where to; with --shares to FILE.share1, FILE.share2 and so on, and the identity itself nowhere
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How many shares there are
    #[arg(long, value_name = "N", requires = "threshold")]
    shares: Option<u8>,
    /// How many of them open
    #[arg(long, value_name = "M", requires = "shares")]
    threshold: Option<u8>,
}

#[derive(Args, Debug)]
struct Split {
    /// An age identity file with one identity in it
    #[arg(value_name = "IDENTITY")]
    identity: PathBuf,
    /// Where to: FILE.share1, FILE.share2 and so on; beside the identity otherwise
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many shares there are
    #[arg(long, value_name = "N")]
    shares: u8,
    /// How many of them open
    #[arg(long, value_name = "M")]
    threshold: u8,
}

#[derive(Args, Debug)]
struct Join {
    /// A share; once for each
    #[arg(long = "share", value_name = "FILE", required = true)]
    shares: Vec<PathBuf>,
    /// Where to write the identity
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// What was made.
#[derive(Serialize)]
struct Made {
    schema: u32,
    recipient: String,
    files: Vec<String>,
}

impl Key {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let (identity, files) = match &self.what {
            What::New(new) => {
                let identity = Identity::generate();
                let files = match new.shares.zip(new.threshold) {
                    None => write_identity(&identity, &new.output)?,
                    Some(numbers) => write_shares(&identity, numbers, &new.output)?,
                };
                (identity, files)
            }
            What::Split(split) => {
                let mut identities = read_identities(&split.identity)?;
                let (Some(identity), true) = (identities.pop(), identities.is_empty()) else {
                    return Err(Failure::new(
                        Exit::Usage,
                        format!("{}: more than one identity", split.identity.display()),
                    )
                    .hint("put the one to be split into a file of its own"));
                };
                let output = split.output.as_deref().unwrap_or(&split.identity);
                let files = write_shares(&identity, (split.shares, split.threshold), output)?;
                say(&format!(
                    "{} still opens everything alone: destroy it once the shares are with their holders",
                    split.identity.display()
                ));
                (identity, files)
            }
            What::Join(join) => {
                let identity = read_shares(&join.shares)?;
                let files = write_identity(&identity, &join.output)?;
                say("this file opens everything alone: destroy it when you are done");
                (identity, files)
            }
        };
        let made = Made {
            schema: SCHEMA,
            recipient: identity.to_public().to_string(),
            files: files
                .iter()
                .map(|path| plain::line(&path.display().to_string()))
                .collect(),
        };
        let mut out = stdout();
        if json {
            put_json(&mut out, &made)?;
        } else {
            made.files.iter().for_each(|file| say(&format!("written: {file}")));
            put(&mut out, &made.recipient)?;
        }
        finish(out)?;
        Ok(Exit::Ok)
    }
}

fn write_identity(identity: &Identity, path: &Path) -> Result<Vec<PathBuf>, Failure> {
    // As age-keygen writes it.
    let text = Zeroizing::new(format!(
        "# public key: {}\n{}\n",
        identity.to_public(),
        identity.to_string().expose_secret()
    ));
    write_all(vec![(path.to_owned(), text)])
}

fn write_shares(identity: &Identity, (of, threshold): (u8, u8), path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let shares = share::split(identity, threshold, of).map_err(|e| {
        let exit = if e == ShareError::Numbers {
            Exit::Usage
        } else {
            Exit::Failed
        };
        Failure::new(exit, e.to_string()).hint("such as --shares 5 --threshold 3")
    })?;
    write_all(
        shares
            .iter()
            .map(|share| {
                (
                    with_extension(path, &format!("share{}", share.index())),
                    share.to_text(),
                )
            })
            .collect(),
    )
}

/// Writes them all, durable and for the owner only, or none; nothing that exists is overwritten.
fn write_all(files: Vec<(PathBuf, Zeroizing<String>)>) -> Result<Vec<PathBuf>, Failure> {
    let mut written = Vec::new();
    for (path, text) in files {
        if let Err(e) = write_new(&path, &text, &mut written) {
            written.iter().for_each(|path| drop(fs::remove_file(path)));
            return Err(
                Failure::io(&format!("cannot write {}", path.display()), &e).hint("choose another name with -o")
            );
        }
    }
    Ok(written)
}

fn write_new(path: &Path, text: &str, written: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    written.push(path.to_owned());
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
