//! The only place that decides what happens to tasks.
//!
//! ```text
//!  Event --> state::Supervisor::handle(event, now) --> Effects --> driver runs them --> Event ...
//!                 (pure: no clock, no I/O)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`state`] | all tasks of the executor: launches, dependencies, groups, shutdown, idleness |
//! | [`task`] | one task: its states and what each event does to it |
//! | `checks` | the checks of a task: what their verdicts come to |
//! | [`kill`] | the ending of a task: why, how far, how long |
//! | [`policy`] | the numbers: restart delays, grace periods, what an exit means |
//! | [`admission`] | tasks as they were delivered, checked or refused |
//! | [`driver`] | the only loop: it selects over events, calls the state machine, runs the effects |

pub mod admission;
mod checks;
pub mod driver;
pub mod kill;
pub mod policy;
pub mod state;
pub mod task;

#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod table;

use std::fmt;
use std::time::Duration;

use mesos::common::{Reason, TaskId, TaskState};

use crate::health;
use crate::spec::{SpecError, TaskName, TaskSpec};

/// A moment, counted from the executor's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(pub Duration);

impl Moment {
    /// The moment `later` after this one.
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }

    /// The time from `earlier` to this moment; zero if it is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The number of a task's process: 1 for the first, one more at each restart in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instance(pub u32);

/// One task of a launch, checked or refused.
#[derive(Debug)]
pub enum Launched {
    /// It can be run.
    Valid(Box<TaskSpec>),
    /// It cannot.
    Invalid {
        /// Its id.
        id: TaskId,
        /// Its name, so that dependencies on it are not unknown.
        name: TaskName,
        /// Why.
        error: SpecError,
    },
}

impl Launched {
    /// The task's id.
    pub fn id(&self) -> &TaskId {
        match self {
            Self::Valid(spec) => &spec.id,
            Self::Invalid { id, .. } => id,
        }
    }
}

/// What can happen.
#[derive(Debug)]
pub enum Event {
    /// The agent delivered the tasks of one group.
    Launch(Vec<Launched>),
    /// The agent wants a task ended.
    Kill {
        /// Which.
        id: TaskId,
        /// The grace period that goes before all others.
        grace: Option<Duration>,
    },
    /// Everything is to end within this time.
    Shutdown {
        /// How long that may take.
        within: Duration,
    },
    /// How many updates the agent has not acknowledged.
    Outstanding(usize),
    /// Something happened to the process of a task.
    Process {
        /// The task.
        id: TaskId,
        /// Which of its processes; events of an earlier one are ignored.
        instance: Instance,
        /// What happened.
        event: ProcessEvent,
    },
    /// A deadline may have passed.
    Tick,
}

/// What can happen to the process of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessEvent {
    /// Its execve is done.
    Started,
    /// It could not be started; nothing of it is left.
    StartFailed(String),
    /// It ended; its output has been written.
    Exited(Exit),
    /// The kernel killed one of the task's processes for lack of memory; the first one still runs.
    OutOfMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// A check has a new verdict.
    Checked(health::Report),
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// What it left.
    pub status: ExitStatus,
    /// The limit in bytes, if the kernel killed processes of the task for lack of memory.
    pub out_of_memory: Option<u64>,
}

/// What an ended process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// An exit code.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// Which.
        number: i32,
        /// Whether a core was dumped.
        core: bool,
    },
    /// Nothing: the pod's init ended with all its processes.
    PodEnded,
}

impl ExitStatus {
    /// Whether it is exit code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(out, "exited with status {code}"),
            Self::Signal { number, core } => {
                let dumped = if *core { " (core dumped)" } else { "" };
                write!(out, "terminated with signal {}{dumped}", policy::signal_text(*number))
            }
            Self::PodEnded => out.write_str("ended with its pod's init"),
        }
    }
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make ready and start the process.
    Start {
        /// Of this task.
        id: TaskId,
        /// As this one.
        instance: Instance,
    },
    /// Give a start up, if it has not got as far as a process; the answer is an event all the same.
    Cancel {
        /// The task.
        id: TaskId,
    },
    /// Ask the task to end: SIGTERM.
    Terminate {
        /// The task.
        id: TaskId,
    },
    /// End the task by force: SIGKILL, as its kill mode says.
    Kill {
        /// The task.
        id: TaskId,
    },
    /// Start checks.
    StartChecks {
        /// The task.
        id: TaskId,
        /// Which of its checks, by index.
        checks: Vec<usize>,
    },
    /// Stop all checks of the task.
    StopChecks {
        /// The task.
        id: TaskId,
    },
    /// Report a task's state upstream.
    Publish(Status),
    /// Log that a task went from one state to another.
    Moved(Transition),
    /// The task has ended for good: remove what was made for it.
    Release {
        /// The task.
        id: TaskId,
    },
    /// End the executor, once everything is acknowledged or that takes too long.
    Exit(ExitCause),
}

/// A step of the state machine of one task: [`task::State`]s by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The task.
    pub id: TaskId,
    /// The state before; `None` for a task that has just been launched.
    pub from: Option<&'static str>,
    /// The state now.
    pub to: &'static str,
    /// Why, for people, where there is more to say than the states do.
    pub cause: Option<String>,
}

/// Why the executor ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCause {
    /// It had no task for as long as its idle timeout.
    Idle,
    /// It was told to.
    Shutdown,
}

/// A task's state as it is reported upstream.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The task.
    pub id: TaskId,
    /// Its state.
    pub state: TaskState,
    /// Why, for programs.
    pub reason: Option<Reason>,
    /// What happened, for people.
    pub message: Option<String>,
    /// What its liveness checks say, once they have said something.
    pub healthy: Option<bool>,
    /// What its reported check saw, if it has such a check.
    pub reported: Option<(mesos::common::CheckType, health::Observed)>,
    /// Whether it can be used; in the states RUNNING and KILLING.
    pub ready: Option<bool>,
    /// How often it was restarted in place.
    pub restarts: u32,
}
