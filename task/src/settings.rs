//! Settings of a task and of a pod instance, as JSON in `TaskInfo.data` and `ExecutorInfo.data`.
//!
//! These are the raw forms: names and shapes, no meaning checked. A field that is not listed here is an error, so that
//! a misspelt one is never silently without effect. Times are seconds, as in Mesos's own health checks.

use std::collections::BTreeMap;

use mesos::common::CommandInfo;
use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

/// What a task asks beyond its `TaskInfo`. Every field may be left out.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskSettings {
    /// The command, for a plain LAUNCH (whose `TaskInfo` may not carry one for a custom executor).
    pub command: Option<CommandInfo>,
    /// Groups by name or number, besides those that the user's account has.
    pub groups: Vec<String>,
    /// The capabilities that are left to the task; all that the executor has when unset.
    pub capabilities: Option<Capabilities>,
    /// Set `no_new_privs`: no set-user-id program gains anything.
    pub no_new_privileges: bool,
    /// Resource limits by name (`nofile`, `core`, ...).
    pub rlimits: BTreeMap<String, ResourceLimit>,
    /// The file mode creation mask in octal digits; `022` when unset.
    pub umask: Option<String>,
    /// How willing the kernel is to kill it, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The most processes and threads it may have.
    pub pids: Option<u64>,
    /// Whether it is started again in place when it ends.
    pub restart: Option<Restart>,
    /// Names of tasks that must be ready before it starts.
    pub depends_on: Vec<String>,
    /// How long to wait for a dependency that has ended to come back; 300 when unset.
    pub depends_on_timeout_seconds: Option<f64>,
    /// Whether its failure ends the other tasks of its group; true when unset.
    pub essential: Option<bool>,
    /// Whether ending it ends all its processes (`cgroup`, the default) or the first one only (`process`).
    pub kill_mode: Option<String>,
    /// How much of its output is kept.
    pub log: Option<Log>,
    /// Checks besides the one in `TaskInfo`.
    pub checks: Vec<Check>,
    /// Files to fetch, verified by hash.
    pub artifacts: Vec<Artifact>,
    /// What may be done in it from outside: exec, attach, signals.
    pub exec: Exec,
}

/// What may be done in a task from outside, whatever the exec endpoint's own policy allows.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exec {
    /// Whether processes may be started in it, and its input be attached to; true when unset.
    pub allowed: Option<bool>,
    /// Users by name or number, besides its own, as whom processes may be started; `*` for any.
    pub users: Vec<String>,
    /// Whether such a process may have a terminal; true when unset.
    pub terminal: Option<bool>,
    /// Variables that the caller may set besides `TERM`; `LC_*` for all that begin so, `*` for any.
    pub environment: Vec<String>,
    /// Signals by name (`SIGHUP`) that may be sent to it and to such processes; any when unset.
    pub signals: Option<Vec<String>>,
}

/// Capabilities by name (`CAP_NET_BIND_SERVICE`; `ALL` for all).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// What it can ever have.
    pub bounding: Vec<String>,
    /// What it has although it is not root.
    pub ambient: Vec<String>,
}

/// A resource limit; an unset value is unlimited.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResourceLimit {
    /// The limit in force.
    pub soft: Option<u64>,
    /// How far the task may raise it.
    pub hard: Option<u64>,
}

/// Restarts in place. They are for tasks that nobody above restarts.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// `never` (also when unset), `on-failure` or `always`.
    pub policy: Option<String>,
    /// The wait before the first restart; doubled at each further one; 1 when unset, 0 for none.
    pub delay_seconds: Option<f64>,
    /// The longest wait; 60 when unset.
    pub max_delay_seconds: Option<f64>,
    /// How long it must run for the count and the wait to begin anew; 600 when unset.
    pub stable_seconds: Option<f64>,
    /// How many restarts in a row make it FAILED; no limit when unset.
    pub limit: Option<u32>,
}

/// How much of a task's output is kept, for each of stdout and stderr.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The size in bytes at which a file is rotated; 10 MiB when unset.
    pub bytes: Option<u64>,
    /// How many files there are, the one written to included; 3 when unset.
    pub files: Option<u32>,
}

/// A check: exactly one of `http`, `tcp`, `grpc` and `command` is set.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Check {
    /// `startup`, `readiness` or `liveness`.
    pub role: String,
    /// An HTTP or HTTPS request.
    pub http: Option<HttpCheck>,
    /// A TCP connection.
    pub tcp: Option<TcpCheck>,
    /// A call of the gRPC health protocol.
    pub grpc: Option<GrpcCheck>,
    /// A command in the task's user, cgroup and namespaces; exit status 0 is success.
    pub command: Option<CommandInfo>,
    /// Before the first check, from the start of the process; 0 when unset.
    pub delay_seconds: Option<f64>,
    /// From the end of a check to the next; 10 when unset.
    pub interval_seconds: Option<f64>,
    /// How long one may take; 1 when unset, 0 for no limit.
    pub timeout_seconds: Option<f64>,
    /// Liveness only: failures do not count for this long, or until the first success; 0 when unset.
    pub grace_period_seconds: Option<f64>,
    /// Failures in a row that change the verdict; 3 when unset.
    pub failures: Option<u32>,
    /// Successes in a row that change the verdict back; 1 when unset, and always 1 but for readiness.
    pub successes: Option<u32>,
}

/// An HTTP check.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpCheck {
    /// The address in the task's network; `127.0.0.1` when unset.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// The path with its query; `/` when unset.
    pub path: Option<String>,
    /// Headers to send.
    pub headers: BTreeMap<String, String>,
    /// Status codes that are a success; 200 to 399 when empty.
    pub statuses: Vec<u16>,
    /// Makes it HTTPS.
    pub tls: Option<CheckTls>,
}

/// The TLS of a check: `ca` or `unverified` must be given.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckTls {
    /// A file of CA certificates (PEM).
    pub ca: Option<String>,
    /// Take any certificate.
    pub unverified: bool,
    /// The name the certificate must be for; the check's host when unset.
    pub server_name: Option<String>,
    /// A file with the client's certificates (PEM).
    pub certificate: Option<String>,
    /// A file with the client's key (PEM).
    pub key: Option<String>,
}

/// A TCP check.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TcpCheck {
    /// The address in the task's network; `127.0.0.1` when unset.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
}

/// A check by the gRPC health protocol (`grpc.health.v1.Health/Check`).
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcCheck {
    /// The address in the task's network; `127.0.0.1` when unset.
    pub host: Option<String>,
    /// The port.
    pub port: u16,
    /// The service to ask for; the server as a whole when unset.
    pub service: Option<String>,
    /// Makes it TLS.
    pub tls: Option<CheckTls>,
}

/// A file to fetch.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Artifact {
    /// Where from: `file:`, `http:` or `https:`.
    pub url: String,
    /// The SHA-256 of what must arrive, 64 hexadecimal digits.
    pub sha256: String,
    /// Where to in the sandbox; the last part of the URL's path when unset.
    pub path: Option<String>,
    /// Make it executable.
    pub executable: bool,
    /// Extract it (`.tar`, `.tar.gz`, `.tgz`) into the folder `path`, the sandbox itself when unset.
    pub extract: bool,
}

/// What a pod instance is, as JSON in `ExecutorInfo.data`. It never changes while its executor lives.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PodSettings {
    /// Its name (`etcd-0`); the executor id up to its first `__` when unset.
    pub name: Option<String>,
    /// Its network.
    pub network: PodNetwork,
}

/// The network of a pod instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodNetwork {
    /// The host's own.
    #[default]
    Host,
    /// A network namespace of its own, on the bridge of its cluster.
    Bridge(Bridge),
}

/// A pod instance's place on its cluster's bridge.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bridge {
    /// The cluster: all pod instances of one share a bridge, which lives in the network namespace `kx-<cluster>`.
    pub cluster: String,
    /// The pod instance's address with the length of the network's prefix (`10.88.0.10/16`).
    pub address: String,
    /// The bridge's own address, the pod instance's default route (`10.88.0.1`).
    pub gateway: String,
    /// More routes: network to the address of the next hop.
    #[serde(default)]
    pub routes: BTreeMap<String, String>,
}
