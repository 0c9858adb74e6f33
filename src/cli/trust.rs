//! `trust`: what a verifier needs, public.

use std::path::PathBuf;

use base64ct::{Base64, Encoding};
use clap::Subcommand;
use sha2::{Digest, Sha256};

use super::exit::{CliError, Exit};
use super::{Common, output, read_text};
use crate::issue::keys::{self, KeyName};
use crate::kernel::grant::WallMs;
use crate::kernel::id::NodeName;
use crate::layout::Layout;

/// Largest trust file, in bytes.
const TRUST_BYTES_MAX: u64 = 1024 * 1024;

/// `trust …`
#[derive(Subcommand, Debug)]
pub enum TrustCommand {
    /// Print the trust file, for `portcullis-player verify --trust`
    Export {
        /// Write it here instead
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}
