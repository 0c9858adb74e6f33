//! `witness`: cosigns checkpoints of other machines' ledgers.

use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use portcullis_recording::note::{KeyKind, VerifierKey};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::Common;
use super::exit::{CliError, Exit};
use super::output::color;
use crate::clock::Clock;
use crate::config::{Log, LogFormat};
use crate::telemetry;
use crate::witness::{Settings, Witness, server};

/// `witness`'s arguments; its folder is `--state`.
#[derive(Args, Debug)]
pub struct WitnessArgs {
    /// Address and port to listen at (HTTP; what is said there is signed and public)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: SocketAddr,
    /// A ledger to watch over, as ORIGIN=KEY: both stand under [[ledger]] in its `trust export`.
    /// May be given several times
    #[arg(long = "log", value_name = "ORIGIN=KEY", required = true, value_parser = log_key)]
    logs: Vec<VerifierKey>,
    /// Name of a new witness's key, such as witness.example.org/1. Default: the machine's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// A ledger's key, named by the ledger's origin.
fn log_key(text: &str) -> Result<VerifierKey, String> {
    // A key may end in `=`, an origin holds none.
    let (origin, key) = text.split_once('=').ok_or("ORIGIN=KEY is expected")?;
    let key = VerifierKey::parse(key).map_err(|error| error.to_string())?;
    match key.kind() {
        KeyKind::Note if key.name() == origin => Ok(key),
        KeyKind::Note => Err(format!("that is the key of `{}`", key.name())),
        KeyKind::Cosignature => Err("that is the key of a witness, not of a ledger".to_owned()),
    }
}

pub async fn run(common: &Common, args: &WitnessArgs) -> Result<Exit, CliError> {
    let Some(dir) = common.state() else {
        return Err(CliError::usage("where the witness keeps its key was not said").hint("add --state DIR"));
    };
    let log = Log {
        format: LogFormat::Text,
        filter: "info".to_owned(),
    };
    telemetry::init(&log, color()).map_err(CliError::failed)?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let settings = Settings {
        dir,
        name: args.name.clone(),
        name_default: format!("{machine}/witness"),
        logs: args.logs.clone(),
    };
    let failed = |error: &dyn std::fmt::Display| CliError::failed(error.to_string());
    let witness = Witness::open(settings, Clock::system()).map_err(|error| failed(&error))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| CliError::failed(format!("cannot listen at {}: {error}", args.listen)))?;
    let at = listener.local_addr().map_err(|error| failed(&error))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| failed(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| failed(&error))?;
    println!("ready witness={at} key={}", witness.key());
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    server::serve(Arc::new(witness), listener, told).await;
    Ok(Exit::Ok)
}
