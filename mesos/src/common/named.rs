//! Enums by their names on the wire.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

pub(crate) fn name_of<E: Named + PartialEq>(value: E) -> &'static str {
    E::NAMES.iter().find(|(known, _)| *known == value).map_or("UNKNOWN", |(_, name)| name)
}

/// Defines an enum with its names on the wire.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $crate::common::Named for $name {
            const NAMES: &'static [(Self, &'static str)] = &[$((Self::$variant, $text),)*];
        }

        impl $name {
            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                $crate::common::name_of(self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

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
