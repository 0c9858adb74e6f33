//! `content`: what was in a file, out of the content vault.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Keys, finish, put_json, say, stdout};
use crate::failure::{Exit, Failure};
use crate::vault::take_out;

/// `content SHA256 --vault DIR --out FILE`.
#[derive(Args, Debug)]
pub struct Content {
    /// Its SHA-256 in 64 hexadecimal digits, of a whole file or of a range, as `files` tells it
    #[arg(value_name = "SHA256", value_parser = hash)]
    sha256: [u8; 32],
    /// The folder `vault` of the archive, or a copy of it
    #[arg(long, value_name = "DIR")]
    vault: PathBuf,
    /// The file to write it to; one that is there is not overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Debug, Serialize)]
struct Said {
    bytes: u64,
    /// Its beginning only, up to where a crash came.
    part: bool,
}

fn hash(text: &str) -> Result<[u8; 32], String> {
    let bad = || "not a SHA-256 in 64 hexadecimal digits".to_owned();
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(bad());
    }
    for (to, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = str::from_utf8(pair).map_err(|_| bad())?;
        *to = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
    }
    Ok(hash)
}

impl Content {
    pub fn run(&self, json: bool) -> Result<Exit, Failure> {
        let keyring = self.keys.keyring()?;
        let taken = take_out(&self.vault, &self.sha256, &keyring, &self.out)?;
        let (bytes, part) = (taken.bytes, taken.is_part);
        if json {
            let mut out = stdout();
            put_json(&mut out, &Said { bytes, part })?;
            finish(out)?;
        }
        say(&match part {
            false => format!("{bytes} bytes, with the SHA-256 that was asked for"),
            true => format!("{bytes} bytes, the beginning of a content: a crash came before its end"),
        });
        Ok(Exit::Ok)
    }
}
