//! What all of Mesos's APIs share: ids, tasks, statuses, resources, commands, checks.
//!
//! Source: `include/mesos/v1/mesos.proto` of Mesos 1.11. Only the fields that this project reads or writes are here;
//! whoever must pass a message on unchanged keeps its JSON ([`crate::executor::Event`] does so with tasks).

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_with::skip_serializing_none;

/// Defines an id message: `{"value": "..."}` on the wire.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            /// The id as text.
            pub value: String,
        }

        impl $name {
            /// The id with this text.
            pub fn new(value: impl Into<String>) -> Self {
                Self { value: value.into() }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.value
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.value)
            }
        }
    };
}

id!(
    /// The id of a task, unique in its framework for all time.
    TaskId
);
id!(
    /// The id of a framework, given by the master.
    FrameworkId
);
id!(
    /// The id of an executor, given by the framework.
    ExecutorId
);
id!(
    /// The id of an agent, given by the master.
    AgentId
);
id!(
    /// The id of an offer, given by the master.
    OfferId
);

/// The id of a container, nested below its parent's if it has one.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ContainerId {
    /// The id as text.
    pub value: String,
    /// The container this one is nested in.
    pub parent: Option<Box<ContainerId>>,
}

impl ContainerId {
    /// The id of a top-level container.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), parent: None }
    }

    /// The id `value` nested below this one.
    pub fn nested(&self, value: impl Into<String>) -> Self {
        Self { value: value.into(), parent: Some(Box::new(self.clone())) }
    }
}

/// A type whose values are names on the wire.
pub trait Named: Copy + Sized + 'static {
    /// Every value with its name.
    const NAMES: &'static [(Self, &'static str)];
}

/// The value of an enum, or a name that this version does not know (which is never an error by itself).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Open<E> {
    /// A value that is known.
    Known(E),
    /// Any other name.
    Unknown(String),
}

impl<E: Named + PartialEq> Open<E> {
    /// The value, if it is a known one.
    pub fn known(&self) -> Option<E> {
        match self {
            Self::Known(value) => Some(*value),
            Self::Unknown(_) => None,
        }
    }

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Known(value) => name_of(*value),
            Self::Unknown(name) => name,
        }
    }
}

impl<E> From<E> for Open<E> {
    fn from(value: E) -> Self {
        Self::Known(value)
    }
}

impl<E: Named + PartialEq> Serialize for Open<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de, E: Named> Deserialize<'de> for Open<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let known = E::NAMES.iter().find(|(_, known)| *known == name);
        Ok(known.map_or_else(|| Self::Unknown(name), |(value, _)| Self::Known(*value)))
    }
}

fn name_of<E: Named + PartialEq>(value: E) -> &'static str {
    E::NAMES.iter().find(|(known, _)| *known == value).map_or("UNKNOWN", |(_, name)| name)
}

/// Defines an enum with its names on the wire.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Named for $name {
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$variant, $text),)*];
        }

        impl $name {
            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                name_of(self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}

named!(
    /// The states of a task (`TaskState`).
    TaskState {
        /// Known to the master, not yet to the executor.
        Staging = "TASK_STAGING",
        /// The executor has it, its process is not yet running.
        Starting = "TASK_STARTING",
        /// Its process runs.
        Running = "TASK_RUNNING",
        /// It is being ended.
        Killing = "TASK_KILLING",
        /// Ended with exit status 0.
        Finished = "TASK_FINISHED",
        /// Ended otherwise.
        Failed = "TASK_FAILED",
        /// Ended because it was asked to.
        Killed = "TASK_KILLED",
        /// Its description is wrong.
        Error = "TASK_ERROR",
        /// Lost, in the words of frameworks that are not partition-aware.
        Lost = "TASK_LOST",
        /// Never delivered.
        Dropped = "TASK_DROPPED",
        /// Its agent cannot be reached.
        Unreachable = "TASK_UNREACHABLE",
        /// Gone with its agent or executor.
        Gone = "TASK_GONE",
        /// Gone by an operator's word.
        GoneByOperator = "TASK_GONE_BY_OPERATOR",
        /// The master does not know it.
        UnknownTask = "TASK_UNKNOWN",
    }
);

impl TaskState {
    /// Whether a task in this state has ended for good.
    pub fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Finished
                | Self::Failed
                | Self::Killed
                | Self::Error
                | Self::Lost
                | Self::Dropped
                | Self::Gone
                | Self::GoneByOperator
        )
    }
}

named!(
    /// The reasons that an executor gives, and those that an agent gives for an executor's tasks (`TaskStatus.Reason`).
    Reason {
        /// The value of a generalized check changed.
        TaskCheckStatusUpdated = "REASON_TASK_CHECK_STATUS_UPDATED",
        /// The health of a task changed.
        TaskHealthCheckStatusUpdated = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
        /// The task ran longer than its `max_completion_time`.
        MaxCompletionTimeReached = "REASON_MAX_COMPLETION_TIME_REACHED",
        /// The task ran out of its memory limit.
        ContainerLimitationMemory = "REASON_CONTAINER_LIMITATION_MEMORY",
        /// The task's description is wrong.
        TaskInvalid = "REASON_TASK_INVALID",
        /// The executor ended under its tasks.
        ExecutorTerminated = "REASON_EXECUTOR_TERMINATED",
        /// The group's description is wrong.
        TaskGroupInvalid = "REASON_TASK_GROUP_INVALID",
    }
);

named!(
    /// Who made a status (`TaskStatus.Source`).
    Source {
        /// The master.
        Master = "SOURCE_MASTER",
        /// The agent.
        Agent = "SOURCE_AGENT",
        /// The executor.
        Executor = "SOURCE_EXECUTOR",
    }
);

named!(
    /// The kind of a health check or check.
    CheckType {
        /// A command whose exit status counts.
        Command = "COMMAND",
        /// An HTTP request whose status counts.
        Http = "HTTP",
        /// A TCP connection.
        Tcp = "TCP",
    }
);

named!(
    /// The address family of a health check.
    NetworkProtocol {
        /// IPv4, the default.
        Ipv4 = "IPv4",
        /// IPv6.
        Ipv6 = "IPv6",
    }
);

named!(
    /// What a framework can handle (`FrameworkInfo.Capability.Type`).
    Capability {
        /// It understands `TASK_KILLING`.
        TaskKillingState = "TASK_KILLING_STATE",
        /// It understands the states of partitions.
        PartitionAware = "PARTITION_AWARE",
        /// It takes offers of several roles.
        MultiRole = "MULTI_ROLE",
    }
);

/// Bytes: standard base64 on the wire.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(&text).map(Self).map_err(|error| D::Error::custom(format!("not base64: {error}")))
    }
}

/// A number that may also come as text: digits, or `Infinity`.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct Number;
    impl Visitor<'_> for Number {
        type Value = f64;
        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a number")
        }
        fn visit_f64<E>(self, value: f64) -> Result<f64, E> {
            Ok(value)
        }
        #[expect(clippy::cast_precision_loss, reason = "a protobuf double holds no more")]
        fn visit_i64<E>(self, value: i64) -> Result<f64, E> {
            Ok(value as f64)
        }
        #[expect(clippy::cast_precision_loss, reason = "a protobuf double holds no more")]
        fn visit_u64<E>(self, value: u64) -> Result<f64, E> {
            Ok(value as f64)
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<f64, E> {
            match text {
                "Infinity" => Ok(f64::INFINITY),
                "-Infinity" => Ok(f64::NEG_INFINITY),
                _ => text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self)),
            }
        }
    }
    deserializer.deserialize_any(Number)
}

/// Infinity is text on the wire, all else a number.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn write_number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_infinite() {
        serializer.serialize_str(if *value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        serializer.serialize_f64(*value)
    }
}

/// A signed 64-bit integer that may also come as text.
fn integer<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    struct Integer;
    impl Visitor<'_> for Integer {
        type Value = i64;
        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a 64-bit integer")
        }
        fn visit_i64<E>(self, value: i64) -> Result<i64, E> {
            Ok(value)
        }
        fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<i64, E> {
            i64::try_from(value).map_err(|_| E::invalid_value(serde::de::Unexpected::Unsigned(value), &self))
        }
        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<i64, E> {
            text.parse().map_err(|_| E::invalid_value(serde::de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Integer)
}

/// A length of time in nanoseconds (`DurationInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurationInfo {
    /// Nanoseconds; negative values are possible on the wire.
    #[serde(deserialize_with = "integer")]
    pub nanoseconds: i64,
}

/// A number wrapped in a message (`Value.Scalar`).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Scalar {
    /// The number; infinite in `limits` where there is no limit.
    #[serde(deserialize_with = "number", serialize_with = "write_number")]
    pub value: f64,
}

/// Part of an agent's resources.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// `cpus`, `mem` (MB), `disk` (MB), `ports`, ...
    pub name: String,
    /// `SCALAR`, `RANGES` or `SET`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The amount, of a scalar resource.
    pub scalar: Option<Scalar>,
    /// For whom it was allocated.
    pub allocation_info: Option<AllocationInfo>,
}

impl Resource {
    /// A scalar resource.
    pub fn scalar(name: &str, value: f64) -> Self {
        Self {
            name: name.to_owned(),
            kind: "SCALAR".to_owned(),
            scalar: Some(Scalar { value }),
            allocation_info: None,
        }
    }
}

/// The role that a resource was allocated to.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationInfo {
    /// The role's name.
    pub role: Option<String>,
}

/// One variable of an environment.
#[skip_serializing_none]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// `VALUE` (also when unset) or `SECRET`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its value, unless it is a secret.
    pub value: Option<String>,
}

/// Values of an environment may be secrets: only names are shown.
impl fmt::Debug for Variable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}=...", self.name)
    }
}

/// The environment of a command.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Environment {
    /// The variables in order; of two with one name the later counts.
    #[serde(default)]
    pub variables: Vec<Variable>,
}

/// A file to fetch into the sandbox before the command starts (`CommandInfo.URI`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uri {
    /// Where from: a path, `file:`, `http:` or `https:`.
    pub value: String,
    /// Make it executable (then it is not extracted).
    pub executable: Option<bool>,
    /// Extract it if it is an archive; true when unset.
    pub extract: Option<bool>,
    /// Keep it in the agent's cache.
    pub cache: Option<bool>,
    /// Its name in the sandbox; the last part of the path when unset.
    pub output_file: Option<String>,
}

/// A command to run (`CommandInfo`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandInfo {
    /// Files to fetch first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Uri>,
    /// Its environment.
    pub environment: Option<Environment>,
    /// True when unset: `value` is for `/bin/sh -c`. False: `value` is the file and `arguments` all of argv.
    pub shell: Option<bool>,
    /// The shell's text, or the file to execute.
    pub value: Option<String>,
    /// The whole argv, the zeroth included, when not `shell`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Whom to run as.
    pub user: Option<String>,
}

/// How a task is to be killed.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KillPolicy {
    /// The time between the first signal and SIGKILL.
    pub grace_period: Option<DurationInfo>,
}

/// The HTTP part of a health check or check.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheckInfo {
    /// `http` (also when unset) or `https`; health checks only.
    pub scheme: Option<String>,
    /// The address family; health checks only.
    pub protocol: Option<Open<NetworkProtocol>>,
    /// The port inside the task's network.
    pub port: u32,
    /// The path, `/` when unset.
    pub path: Option<String>,
    /// Status codes that count as healthy; 200 to 399 when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<u32>,
}

/// The TCP part of a health check or check.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCheckInfo {
    /// The address family; health checks only.
    pub protocol: Option<Open<NetworkProtocol>>,
    /// The port inside the task's network.
    pub port: u32,
}

/// A health check: failures in a row end the task (`HealthCheck`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// The kind; the field of that kind must be there.
    #[serde(rename = "type")]
    pub kind: Option<Open<CheckType>>,
    /// Seconds before the first check; 15 when unset.
    pub delay_seconds: Option<f64>,
    /// Seconds from the end of a check to the next; 10 when unset.
    pub interval_seconds: Option<f64>,
    /// Seconds a check may take; 20 when unset, 0 for no limit.
    pub timeout_seconds: Option<f64>,
    /// Failures in a row that end the task; 3 when unset.
    pub consecutive_failures: Option<u32>,
    /// Seconds from the start in which failures do not count; 10 when unset.
    pub grace_period_seconds: Option<f64>,
    /// The command of a COMMAND check.
    pub command: Option<CommandInfo>,
    /// The request of an HTTP check.
    pub http: Option<HttpCheckInfo>,
    /// The connection of a TCP check.
    pub tcp: Option<TcpCheckInfo>,
}

/// The command of a generalized check, nested twice on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckCommand {
    /// The command.
    pub command: CommandInfo,
}

/// A generalized check: its value is reported and ends nothing (`CheckInfo`).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckInfo {
    /// The kind; the field of that kind must be there.
    #[serde(rename = "type")]
    pub kind: Option<Open<CheckType>>,
    /// Seconds before the first check; 15 when unset.
    pub delay_seconds: Option<f64>,
    /// Seconds from the end of a check to the next; 10 when unset.
    pub interval_seconds: Option<f64>,
    /// Seconds a check may take; 20 when unset, 0 for no limit.
    pub timeout_seconds: Option<f64>,
    /// The command of a COMMAND check.
    pub command: Option<CheckCommand>,
    /// The request of an HTTP check.
    pub http: Option<HttpCheckInfo>,
    /// The connection of a TCP check.
    pub tcp: Option<TcpCheckInfo>,
}

/// The last result of a generalized check. The field of its kind is there from the beginning, empty until a result is.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckStatusInfo {
    /// The kind of the check.
    #[serde(rename = "type")]
    pub kind: Open<CheckType>,
    /// Of a COMMAND check.
    pub command: Option<CommandCheckStatus>,
    /// Of an HTTP check.
    pub http: Option<HttpCheckStatus>,
    /// Of a TCP check.
    pub tcp: Option<TcpCheckStatus>,
}

/// The last result of a COMMAND check.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CommandCheckStatus {
    /// The exit code.
    pub exit_code: Option<i32>,
}

/// The last result of an HTTP check.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HttpCheckStatus {
    /// The status code.
    pub status_code: Option<u32>,
}

/// The last result of a TCP check.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TcpCheckStatus {
    /// Whether the connection was made.
    pub succeeded: Option<bool>,
}

/// One resource limit of a container (`RLimitInfo.RLimit`): both values or neither (then unlimited).
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RLimit {
    /// `RLMT_NOFILE` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// The hard limit.
    pub hard: Option<u64>,
    /// The soft limit.
    pub soft: Option<u64>,
}

/// The resource limits of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RLimitInfo {
    /// Each limit.
    #[serde(default)]
    pub rlimits: Vec<RLimit>,
}

/// The terminal a container asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TtyInfo {
    /// Its size at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_size: Option<WindowSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u32,
    /// Characters in a line.
    pub columns: u32,
}

/// What a task asks of its container; images and volumes are not read.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// `MESOS` or `DOCKER`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Resource limits.
    pub rlimit_info: Option<RLimitInfo>,
    /// A terminal.
    pub tty_info: Option<TtyInfo>,
}

/// A task as a framework describes it.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its name, not unique.
    pub name: String,
    /// Its id.
    pub task_id: TaskId,
    /// The agent it goes to.
    pub agent_id: AgentId,
    /// What it is given.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Upper limits by resource name (`cpus`, `mem`), which may be infinite.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Scalar>,
    /// The executor that runs it; set in a plain LAUNCH only.
    pub executor: Option<ExecutorInfo>,
    /// The command; a plain LAUNCH with a custom executor may not carry one.
    pub command: Option<CommandInfo>,
    /// What it asks of its container.
    pub container: Option<ContainerInfo>,
    /// The health check.
    pub health_check: Option<HealthCheck>,
    /// The generalized check.
    pub check: Option<CheckInfo>,
    /// How it is to be killed.
    pub kill_policy: Option<KillPolicy>,
    /// Bytes for the executor; here the JSON of `TaskSettings`.
    pub data: Option<Blob>,
    /// How long it may run in all.
    pub max_completion_time: Option<DurationInfo>,
    /// Labels.
    pub labels: Option<Labels>,
}

/// An executor as a framework describes it. It must stay equal to the byte for as long as that executor lives.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutorInfo {
    /// `CUSTOM` here.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its id.
    pub executor_id: ExecutorId,
    /// Its framework.
    pub framework_id: Option<FrameworkId>,
    /// The command that starts it.
    pub command: Option<CommandInfo>,
    /// What it is given besides its tasks' resources; cpus, mem and disk must be there.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Bytes for the executor; here the JSON of `PodSettings`.
    pub data: Option<Blob>,
    /// How long its tasks may take to end on SHUTDOWN.
    pub shutdown_grace_period: Option<DurationInfo>,
}

/// A framework as it describes itself.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameworkInfo {
    /// The user that its executors run as.
    pub user: String,
    /// Its name.
    pub name: String,
    /// Its id, once it has one.
    pub id: Option<FrameworkId>,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Seconds that its tasks outlive it.
    pub failover_timeout: Option<f64>,
    /// Whether its executors outlive the agent.
    pub checkpoint: Option<bool>,
    /// What it can handle.
    #[serde(default)]
    pub capabilities: Vec<FrameworkCapability>,
}

impl FrameworkInfo {
    /// Whether it can handle `capability`.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.iter().any(|one| one.kind.known() == Some(capability))
    }
}

/// One thing a framework can handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkCapability {
    /// Which.
    #[serde(rename = "type")]
    pub kind: Open<Capability>,
}

/// An agent as it describes itself.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its host's name.
    pub hostname: String,
    /// Its id.
    pub id: Option<AgentId>,
    /// Its port.
    pub port: Option<u32>,
}

/// A label: a key and a value of the user's.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Option<String>,
}

/// Labels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Labels {
    /// Each label.
    #[serde(default)]
    pub labels: Vec<Label>,
}

/// The addresses of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Each address.
    #[serde(default)]
    pub ip_addresses: Vec<IpAddress>,
}

/// One address.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpAddress {
    /// `IPv4` or `IPv6`.
    pub protocol: Option<Open<NetworkProtocol>>,
    /// The address as text.
    pub ip_address: Option<String>,
}

/// What a status says of its task's container.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The container.
    pub container_id: Option<ContainerId>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network_infos: Vec<NetworkInfo>,
    /// The process that an operator would look for.
    pub executor_pid: Option<u32>,
}

/// The state of a task at one moment.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The task.
    pub task_id: TaskId,
    /// Its state.
    pub state: Open<TaskState>,
    /// A sentence for people.
    pub message: Option<String>,
    /// Who says so.
    pub source: Option<Open<Source>>,
    /// Why, for programs.
    pub reason: Option<Open<Reason>>,
    /// The agent.
    pub agent_id: Option<AgentId>,
    /// The executor.
    pub executor_id: Option<ExecutorId>,
    /// Seconds since 1970.
    pub timestamp: Option<f64>,
    /// 16 bytes, version 4: the identity of this update.
    pub uuid: Option<Blob>,
    /// What the health check says; absent until it has said something.
    pub healthy: Option<bool>,
    /// What the generalized check says; in every status of a task that has one.
    pub check_status: Option<CheckStatusInfo>,
    /// Labels of ours: `ready`, `restarts`.
    pub labels: Option<Labels>,
    /// The task's container.
    pub container_status: Option<ContainerStatus>,
}

impl TaskStatus {
    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = &self.labels.as_ref()?.labels;
        labels.iter().find(|label| label.key == key)?.value.as_deref()
    }
}

/// Parses JSON with the path of the field in what an error says.
///
/// # Errors
/// A sentence: path of the field, what was found, what is allowed.
pub fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if path == "." { inner.to_string() } else { format!("{path}: {inner}") }
    })
}
