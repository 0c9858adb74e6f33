//! Log lines and metrics.
//!
//! Levels, in words:
//! - `error`: an operator has to act; something that was promised does not hold.
//! - `warn`: something was refused or failed that an operator may want to know
//!   in the morning.
//! - `info`: what happened, one line each: started, admitted, issued, revoked,
//!   opened, sealed, stopped.
//! - `debug`: why it happened, for one who looks for a fault.
//! - `trace`: every step; never bytes of a session, never secrets.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Log, LogFormat};

/// Sends log lines to standard error as `log` says; `color` for a terminal
/// that wants it.
///
/// # Errors
/// A filter that does not parse, or a second call.
pub fn init(log: &Log, color: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| format!("log.filter `{}`: {error}", log.filter))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(color);
    let set = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    set.map_err(|error| error.to_string())
}

/// Labels of a decision: few and fixed, never users or targets.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct DecisionLabels {
    action: &'static str,
    decision: &'static str,
}

/// What is counted. Names are part of the contract.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// `portcullis_sessions_active`.
    pub sessions_active: Gauge,
    /// `portcullis_sessions_total`.
    pub sessions: Counter,
    /// `portcullis_certificates_issued_total`.
    pub certificates_issued: Counter,
    /// `portcullis_recording_bytes_total`: bytes written to spools.
    pub recording_bytes: Counter,
    /// `portcullis_ledger_leaves`: those that the standing checkpoint covers.
    pub ledger_leaves: Gauge,
    /// `portcullis_ledger_cosignatures`: witnesses that have cosigned it.
    pub ledger_cosignatures: Gauge,
    /// `portcullis_ledger_uncosigned`: 1 once too few have for five minutes.
    pub ledger_uncosigned: Gauge,
    /// `portcullis_ledger_disputed`: witnesses that know another or a larger tree.
    pub ledger_disputed: Gauge,
    /// `portcullis_sessions_unsealed`: opened before this start, neither running nor sealed.
    pub sessions_unsealed: Gauge,
    /// `portcullis_policy_alarms_total`: decisions by rules with `@notify`.
    pub policy_alarms: Counter,
    /// `portcullis_break_glass_total`: break-glass grants that were used.
    pub break_glass: Counter,
    /// `portcullis_tasks`: those of the runtime that reads it.
    tasks: Gauge,
    decisions: Family<DecisionLabels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("portcullis");
        let sessions_active = Gauge::default();
        let sessions = Counter::default();
        let certificates_issued = Counter::default();
        let recording_bytes = Counter::default();
        let ledger_leaves = Gauge::default();
        let ledger_cosignatures = Gauge::default();
        let ledger_uncosigned = Gauge::default();
        let ledger_disputed = Gauge::default();
        let sessions_unsealed = Gauge::default();
        let policy_alarms = Counter::default();
        let break_glass = Counter::default();
        let tasks = Gauge::default();
        let decisions = Family::<DecisionLabels, Counter>::default();
        registry.register("sessions_active", "Sessions running now", sessions_active.clone());
        registry.register("sessions", "Sessions opened", sessions.clone());
        registry.register(
            "certificates_issued",
            "Certificates issued under a grant",
            certificates_issued.clone(),
        );
        registry.register(
            "recording_bytes",
            "Bytes written to recordings",
            recording_bytes.clone(),
        );
        registry.register(
            "ledger_leaves",
            "Leaves that the ledger's checkpoint covers",
            ledger_leaves.clone(),
        );
        registry.register(
            "ledger_cosignatures",
            "Witnesses that have cosigned the ledger's checkpoint",
            ledger_cosignatures.clone(),
        );
        registry.register(
            "ledger_uncosigned",
            "1 once too few witnesses have cosigned the ledger for five minutes",
            ledger_uncosigned.clone(),
        );
        registry.register(
            "ledger_disputed",
            "Witnesses that know another or a larger tree of the ledger",
            ledger_disputed.clone(),
        );
        registry.register(
            "sessions_unsealed",
            "Sessions that were opened, do not run and were never sealed, as of the last start",
            sessions_unsealed.clone(),
        );
        registry.register("tasks", "Tasks of the server that have not ended", tasks.clone());
        registry.register("decisions", "Policy decisions", decisions.clone());
        registry.register(
            "policy_alarms",
            "Decisions by rules that carry @notify",
            policy_alarms.clone(),
        );
        registry.register("break_glass", "Break-glass grants that were used", break_glass.clone());
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running program", build);
        Metrics {
            registry,
            sessions_active,
            sessions,
            certificates_issued,
            recording_bytes,
            ledger_leaves,
            ledger_cosignatures,
            ledger_uncosigned,
            ledger_disputed,
            sessions_unsealed,
            policy_alarms,
            break_glass,
            tasks,
            decisions,
        }
    }

    /// Counts one decision (`portcullis_decisions_total{action,decision}`).
    pub fn decision(&self, action: &'static str, allowed: bool) {
        let decision = if allowed { "allow" } else { "deny" };
        self.decisions.get_or_create(&DecisionLabels { action, decision }).inc();
    }

    /// In the OpenMetrics text format.
    pub fn text(&self) -> String {
        if let Ok(runtime) = Handle::try_current() {
            self.tasks
                .set(i64::try_from(runtime.metrics().num_alive_tasks()).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Writing to a String does not fail; half a page would only lack its end mark.
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(std::fmt::Error) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tasks_that_go_on_are_counted() {
        let metrics = Metrics::new();
        assert!(metrics.text().contains("portcullis_tasks 0"));
        let goes_on = tokio::spawn(std::future::pending::<()>());
        assert!(metrics.text().contains("portcullis_tasks 1"));
        goes_on.abort();
        goes_on.await.unwrap_err();
        assert!(metrics.text().contains("portcullis_tasks 0"));
    }

    #[test]
    fn metrics_are_named_as_documented() {
        let metrics = Metrics::new();
        metrics.sessions_active.set(3);
        metrics.sessions.inc();
        metrics.certificates_issued.inc();
        metrics.recording_bytes.inc_by(7);
        metrics.ledger_leaves.set(9);
        metrics.ledger_cosignatures.set(2);
        metrics.ledger_uncosigned.set(1);
        metrics.ledger_disputed.set(1);
        metrics.sessions_unsealed.set(4);
        metrics.break_glass.inc();
        metrics.decision("connect", true);
        metrics.decision("exec", false);
        let text = metrics.text();
        for line in [
            "portcullis_sessions_active 3",
            "portcullis_sessions_total 1",
            "portcullis_certificates_issued_total 1",
            "portcullis_recording_bytes_total 7",
            "portcullis_ledger_leaves 9",
            "portcullis_ledger_cosignatures 2",
            "portcullis_ledger_uncosigned 1",
            "portcullis_ledger_disputed 1",
            "portcullis_sessions_unsealed 4",
            "portcullis_break_glass_total 1",
            "portcullis_decisions_total{action=\"connect\",decision=\"allow\"} 1",
            "portcullis_decisions_total{action=\"exec\",decision=\"deny\"} 1",
            "portcullis_build_info{version=",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
