//! The ending of a task: why, how far, how long.

use std::time::Duration;

use mesos::common::TaskState;

use super::Moment;
use crate::spec::TaskName;

/// How a task is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Killing {
    /// Why.
    pub cause: KillCause,
    /// Since when; from SIGTERM on, since then.
    pub since: Moment,
    /// From SIGTERM to SIGKILL.
    pub grace: Duration,
    /// How far it is.
    pub stage: Stage,
}

/// How far the ending of a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Tasks that depend on it are being ended too, and end first.
    Waiting,
    /// It has no process yet, and its start was called off.
    Starting,
    /// SIGTERM was sent; SIGKILL follows at the deadline.
    Asked {
        /// When.
        deadline: Moment,
    },
    /// SIGKILL was sent.
    Forced,
}

/// Why a task is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KillCause {
    /// The framework asked for it.
    Requested,
    /// The executor was told to shut down.
    Shutdown,
    /// Another task of its group ended.
    Sibling {
        /// Which.
        name: TaskName,
        /// In which state.
        state: TaskState,
    },
    /// It ran as long as it may.
    MaxCompletion,
    /// A liveness or startup check failed too often.
    Unhealthy {
        /// What the check said.
        message: String,
    },
    /// It ran out of memory.
    OutOfMemory {
        /// The limit in bytes.
        limit: u64,
    },
}

impl KillCause {
    /// Whether somebody outside of the task asked for it: such a kill wins over every other outcome.
    pub(super) fn is_asked(&self) -> bool {
        matches!(self, Self::Requested | Self::Shutdown | Self::Sibling { .. })
    }

    /// The words for people; nothing where the framework asked and so knows.
    pub(super) fn text(&self) -> Option<String> {
        match self {
            Self::Requested => None,
            Self::Shutdown => Some("the executor shuts down".to_owned()),
            Self::Sibling { name, state } => Some(format!("task {name} of its group ended with {state}")),
            Self::MaxCompletion => Some("it ran as long as its max_completion_time".to_owned()),
            Self::Unhealthy { message } => Some(message.clone()),
            Self::OutOfMemory { limit } => Some(format!("out of memory: its limit is {limit} bytes")),
        }
    }
}

/// When a kill begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At once.
    Now,
    /// When [`super::task::Task::release_kill`] is called: tasks that depend on it and are being ended too end first.
    AfterDependents,
}
