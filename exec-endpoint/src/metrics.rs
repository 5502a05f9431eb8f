//! What is counted, for `/metrics` in OpenMetrics' text form.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// All of it. Whoever does something counts it here.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections there are now, upgraded ones included.
    pub connections: Gauge,
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once, since there were too many.
    pub turned_away: Counter,
    /// Handshakes that failed.
    pub handshake_failures: Family<Kind, Counter>,
    /// Requests answered.
    pub requests: Family<Requests, Counter>,
    /// Sessions.
    pub sessions: SessionCounters,
    /// Bytes of input that clients sent in sessions.
    pub bytes_in: Counter,
    /// Bytes of output that clients were sent in sessions.
    pub bytes_out: Counter,
    /// Pods that can be reached now.
    pub pods: Gauge,
    /// Their tasks.
    pub tasks: Gauge,
    /// How often files were loaded, the first time included.
    pub loads: Family<File, Counter>,
    /// How often they could not be, since something was wrong with them, and the old ones stayed in use.
    pub load_failures: Family<File, Counter>,
    /// 1 while what is in use is not what the files say.
    pub stale: Family<File, Gauge>,
    /// When the certificate expires, seconds since 1970.
    pub certificate_expiry: Gauge,
    /// Audit lines that could not be written.
    pub audit_failures: Counter,
}

/// Sessions by protocol.
#[derive(Debug, Clone, Default)]
pub struct SessionCounters {
    living: Family<Protocol, Gauge>,
    opened: Family<Protocol, Counter>,
    refused: Family<Protocol, Counter>,
}

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Requests {
    /// Which part answered: `health`, `kubex`, `kubernetes`, `mesos`, `none`.
    pub route: &'static str,
    /// The HTTP status.
    pub code: u16,
}

/// The kind of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    /// In one or two words.
    pub kind: &'static str,
}

/// Which file it is about (`tls`, `tokens`, `policy`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct File {
    /// Its purpose.
    pub file: &'static str,
}

/// A session's protocol.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Protocol {
    protocol: &'static str,
}

impl SessionCounters {
    /// A session was asked for.
    pub fn asked(&self, protocol: &'static str, admitted: bool) {
        let protocol = Protocol { protocol };
        if admitted {
            self.living.get_or_create(&protocol).inc();
            self.opened.get_or_create(&protocol).inc();
        } else {
            self.refused.get_or_create(&protocol).inc();
        }
    }

    /// One ended.
    pub fn ended(&self, protocol: &'static str) {
        self.living.get_or_create(&Protocol { protocol }).dec();
    }
}

impl Metrics {
    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes all that is written to it.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("exec_endpoint"),
            connections: Gauge::default(),
            accepted: Counter::default(),
            turned_away: Counter::default(),
            handshake_failures: Family::default(),
            requests: Family::default(),
            sessions: SessionCounters::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            pods: Gauge::default(),
            tasks: Gauge::default(),
            loads: Family::default(),
            load_failures: Family::default(),
            stale: Family::default(),
            certificate_expiry: Gauge::default(),
            audit_failures: Counter::default(),
        };
        this.register();
        this
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("connections", "Connections now", self.connections.clone());
        registry.register("connections_accepted", "Connections accepted", self.accepted.clone());
        registry.register(
            "connections_turned_away",
            "Connections closed at once, being too many",
            self.turned_away.clone(),
        );
        registry.register(
            "handshake_failures",
            "TLS handshakes that failed",
            self.handshake_failures.clone(),
        );
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register("sessions", "Sessions now", self.sessions.living.clone());
        registry.register("sessions_opened", "Sessions opened", self.sessions.opened.clone());
        registry.register(
            "sessions_refused",
            "Sessions refused, being too many",
            self.sessions.refused.clone(),
        );
        let bytes = |registry: &mut Registry, name, help, counter: &Counter| {
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
        };
        bytes(registry, "session_input", "Input that clients sent", &self.bytes_in);
        bytes(registry, "session_output", "Output that clients were sent", &self.bytes_out);
        registry.register("pods", "Pods that can be reached", self.pods.clone());
        registry.register("tasks", "Their tasks", self.tasks.clone());
        registry.register("file_loads", "How often files were loaded", self.loads.clone());
        registry.register(
            "file_load_failures",
            "How often changed files could not be loaded",
            self.load_failures.clone(),
        );
        registry.register("file_stale", "1: not what the file says is in use", self.stale.clone());
        registry.register_with_unit(
            "certificate_expiry",
            "When the certificate expires, since 1970",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        registry.register("audit_failures", "Audit lines not written", self.audit_failures.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = Metrics::default();
        metrics.bytes_in.inc_by(7);
        metrics.requests.get_or_create(&Requests { route: "mesos", code: 403 }).inc();
        metrics.sessions.asked("kubernetes", true);
        metrics.sessions.asked("kubernetes", false);
        metrics.load_failures.get_or_create(&File { file: "policy" }).inc();
        let text = metrics.text();
        for line in [
            "exec_endpoint_session_input_bytes_total 7",
            "exec_endpoint_requests_total{route=\"mesos\",code=\"403\"} 1",
            "exec_endpoint_sessions{protocol=\"kubernetes\"} 1",
            "exec_endpoint_sessions_refused_total{protocol=\"kubernetes\"} 1",
            "exec_endpoint_file_load_failures_total{file=\"policy\"} 1",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
