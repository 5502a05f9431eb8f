//! What a task is, checked once: downstream of [`mod@parse`] nothing looks at a `TaskInfo` again.
//!
//! ```text
//!  TaskInfo (JSON of the agent) + TaskSettings (JSON in its data) -> parse -> TaskSpec | SpecError
//! ```

pub mod exec;
pub mod field;
pub mod group;
pub mod parse;
pub mod pod;

pub use group::check_group;
pub use parse::{identify, parse};

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesos::common::{CheckType, Resource, TaskId};

use crate::cgroup::Limits;

/// The name of a task, by which others depend on it. Not unique over time: a relaunch has the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskName(pub String);

impl fmt::Display for TaskName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A task, ready to be run.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskSpec {
    /// Its id.
    pub id: TaskId,
    /// Its name.
    pub name: TaskName,
    /// What is executed.
    pub command: Command,
    /// The task's own variables, in order, later ones winning; what Mesos tasks expect is added when it is spawned.
    pub environment: Vec<(String, String)>,
    /// The role its resources were allocated to.
    pub role: Option<String>,
    /// As whom and with which rights it runs.
    pub identity: Identity,
    /// Resource limits of its processes.
    pub rlimits: Vec<Rlimit>,
    /// The file mode creation mask.
    pub umask: u32,
    /// How willing the kernel is to kill it; unchanged when `None`.
    pub oom_score_adj: Option<i16>,
    /// The limits of its cgroup.
    pub limits: Limits,
    /// A terminal of this size instead of pipes.
    pub terminal: Option<TerminalSize>,
    /// How much of its output is kept.
    pub log: LogLimits,
    /// What is fetched before it starts, in order.
    pub fetches: Vec<Fetch>,
    /// Its checks; at most one has [`CheckRole::Reported`].
    pub checks: Vec<CheckSpec>,
    /// The time between SIGTERM and SIGKILL.
    pub grace_period: Duration,
    /// What SIGKILL reaches.
    pub kill_mode: KillMode,
    /// How long it may run.
    pub max_completion: Option<Duration>,
    /// Whether it is started again in place.
    pub restart: RestartPolicy,
    /// What must be ready before it starts.
    pub depends_on: Vec<TaskName>,
    /// How long it waits for a dependency that has ended.
    pub depends_on_timeout: Duration,
    /// What its failure means for its group.
    pub essential: Essential,
    /// What may be done in it from outside.
    pub exec: exec::ExecRights,
    /// The resources that it was launched with, for those who look on.
    pub resources: Vec<Resource>,
}

/// What is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The file: with a slash it is relative to the sandbox or absolute; without, it is looked up in the sandbox, then in PATH.
    pub file: String,
    /// The whole argv, the zeroth included; never empty.
    pub arguments: Vec<String>,
}

impl Command {
    /// The command that `/bin/sh` makes of `text`.
    pub fn shell(text: &str) -> Self {
        Self { file: "/bin/sh".to_owned(), arguments: ["sh", "-c", text].map(str::to_owned).to_vec() }
    }
}

/// As whom and with which rights a task runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The account by name or number; the executor's own when `None`.
    pub user: Option<String>,
    /// Groups by name or number, besides those of the account.
    pub groups: Vec<String>,
    /// The capabilities left to it; unchanged when `None`.
    pub capabilities: Option<CapabilitySets>,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
}

/// Capabilities, as the `caps` crate names them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CapabilitySets {
    /// What it can ever have; the permitted and effective sets of a root task too.
    pub bounding: Vec<caps::Capability>,
    /// What it has although it is not root; part of `bounding`.
    pub ambient: Vec<caps::Capability>,
}

/// A resource limit of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rlimit {
    /// Which.
    pub resource: nix::sys::resource::Resource,
    /// In force; `u64::MAX` is unlimited.
    pub soft: u64,
    /// How far it may be raised; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// The account that files are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// How much of each of stdout and stderr is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes at which a file is rotated.
    pub bytes: u64,
    /// Files in all, the one written to included.
    pub files: NonZeroU32,
}

/// Something to fetch into the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Where from.
    pub source: FetchSource,
    /// The SHA-256 that must arrive, where it is known; only then is the file cached.
    pub sha256: Option<[u8; 32]>,
    /// Where to, relative to the sandbox, without `..`. Of a tar archive: the folder it is extracted in, empty for the
    /// sandbox itself. Of [`ArchiveKind::Gzip`]: the file that comes out.
    pub target: PathBuf,
    /// What becomes of it.
    pub form: FetchForm,
}

/// Where a file is fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchSource {
    /// A file of the host.
    File(PathBuf),
    /// `http:` or `https:`, with the host's CA certificates.
    Http(String),
}

/// What becomes of a fetched file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchForm {
    /// It stays as it is.
    Plain,
    /// It is made executable.
    Executable,
    /// It is an archive and is extracted.
    Archive(ArchiveKind),
}

/// The kinds of archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// `.tar`
    Tar,
    /// `.tar.gz`, `.tgz`
    TarGzip,
    /// `.gz`: one file, without its ending.
    Gzip,
}

/// A check of a task.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckSpec {
    /// What its verdict means.
    pub role: CheckRole,
    /// What is done.
    pub probe: Probe,
    /// From the start of the process to the first check.
    pub delay: Duration,
    /// From the end of a check to the next one's start.
    pub interval: Duration,
    /// How long one may take; `None` for no limit.
    pub timeout: Option<Duration>,
    /// How long after the start failures do not count, until the first success.
    pub grace: Duration,
    /// Failures in a row that change the verdict.
    pub failures: NonZeroU32,
    /// Successes in a row that change the verdict back.
    pub successes: NonZeroU32,
}

impl CheckSpec {
    /// This check with the relative paths of its files below the task's sandbox.
    #[must_use]
    pub fn in_sandbox(mut self, sandbox: &Path) -> Self {
        let tls = match &mut self.probe {
            Probe::Http(probe) => probe.tls.as_mut(),
            Probe::Grpc(probe) => probe.tls.as_mut(),
            Probe::Tcp(_) | Probe::Command { .. } => None,
        };
        if let Some(ProbeTls { trust, client }) = tls {
            if let ProbeTrust::Authority { file, .. } = trust {
                *file = sandbox.join(&file);
            }
            if let Some((certificate, key)) = client {
                (*certificate, *key) = (sandbox.join(&certificate), sandbox.join(&key));
            }
        }
        self
    }
}

/// What the verdict of a check means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckRole {
    /// Holds all other checks up until it has passed once; too many failures end the task.
    Startup,
    /// Whether the task can be used, by those that depend on it too.
    Readiness,
    /// Too many failures end the task. A Mesos `HealthCheck` is one.
    Liveness,
    /// A Mesos `CheckInfo`: its value is reported in every status, and a success is part of being ready.
    Reported(CheckType),
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP request.
    Http(HttpProbe),
    /// A TCP connection.
    Tcp(Address),
    /// A call of the gRPC health protocol.
    Grpc(GrpcProbe),
    /// A command in the task's user, cgroup, namespaces and folder.
    Command {
        /// What is executed.
        command: Command,
        /// Variables besides the task's own.
        environment: Vec<(String, String)>,
    },
}

/// An address in the task's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The host; names are not looked up.
    pub ip: IpAddr,
    /// The port.
    pub port: u16,
}

/// An HTTP request: GET, redirects not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Where to.
    pub address: Address,
    /// The path with its query, beginning with a slash.
    pub path: String,
    /// Headers to send.
    pub headers: BTreeMap<String, String>,
    /// Status codes that are a success; 200 to 399 when empty.
    pub statuses: Vec<u16>,
    /// HTTPS.
    pub tls: Option<ProbeTls>,
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcProbe {
    /// Where to.
    pub address: Address,
    /// The service asked for; empty for the server as a whole.
    pub service: String,
    /// TLS.
    pub tls: Option<ProbeTls>,
}

/// The TLS of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeTls {
    /// Whom to trust.
    pub trust: ProbeTrust,
    /// The certificate and key files with which the check shows who it is.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Whom a check trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeTrust {
    /// Anybody: what Mesos's own HTTPS health checks do, or asked for.
    Anybody,
    /// Whom the CA certificates in this file vouch for, under this name (the address when `None`).
    Authority {
        /// The file (PEM).
        file: PathBuf,
        /// The name.
        name: Option<String>,
    },
}

/// What SIGKILL reaches when a task is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillMode {
    /// Every process of the task's cgroup.
    Cgroup,
    /// The first process only; what it started lives on until the pod instance ends.
    Process,
}

/// Whether a task is started again in place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RestartPolicy {
    /// It is not.
    Never,
    /// When it failed.
    OnFailure(Backoff),
    /// Whenever it ended.
    Always(Backoff),
}

/// How restarts are spaced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    /// The first wait.
    pub delay: Duration,
    /// The longest wait.
    pub max_delay: Duration,
    /// A run this long begins the count anew.
    pub stable: Duration,
    /// Restarts in a row after which it has failed; `None` for no limit.
    pub limit: Option<u32>,
}

/// What a task's failure means for its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Essential {
    /// The other tasks of the group are ended.
    Yes,
    /// They go on.
    No,
}

/// Why a task cannot be run as described. Its text is the message of the TASK_ERROR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value}: {allowed}")]
pub struct SpecError {
    /// The path of the field, `data.` in front for one of `TaskSettings`.
    pub field: String,
    /// The value found, shortened where it is long.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}
