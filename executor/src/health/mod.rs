//! Checks of tasks, in three layers, each testable without the next.
//!
//! ```text
//!  check      does one check, once                         -> Outcome
//!  threshold  counts outcomes; pure                        -> Verdict, on change only
//!  worker     delay, interval, timeout; never two at once  -> Report to the supervisor
//! ```
//! Which checks run when (startup holds up the others) is the supervisor's decision, not made here.

pub mod check;
pub mod threshold;
pub mod worker;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::pod::sockets::PodSockets;
use crate::spec::Command;

/// The outcome of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Success(Observed),
    /// It did not, or ran out of time.
    Failure {
        /// What happened, with the output (at most 10 KiB) where there is some.
        message: String,
        /// What was seen all the same.
        observed: Observed,
    },
    /// It could not be done at all (a process could not be started): it counts for nothing.
    Unknown {
        /// Why.
        message: String,
    },
}

/// What a check saw, as a Mesos `CheckStatusInfo` reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Observed {
    /// Nothing: it timed out or failed before.
    #[default]
    Nothing,
    /// A command's exit code; 128 + n after signal n.
    ExitCode(i32),
    /// An HTTP status.
    StatusCode(u16),
    /// Whether a TCP connection was made.
    Connected(bool),
}

/// What a check's outcomes add up to. Sent on change only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It fails, not yet for as often as counts as final; a liveness check says so at its first failure outside of the grace period.
    Fail {
        /// What happened.
        message: String,
    },
    /// It has failed as often in a row as is allowed: a task whose liveness or startup check this is must end.
    Fatal {
        /// What happened.
        message: String,
        /// How many failures in a row.
        failures: u32,
    },
    /// The value of a check with `CheckRole::Reported` has changed.
    Observed(Observed),
}

/// A verdict on its way to the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The index of the check in `TaskSpec::checks`.
    pub check: usize,
    /// The verdict.
    pub verdict: Verdict,
}

/// What a finished check command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandResult {
    /// Its exit code; 128 + n after signal n.
    pub code: i32,
    /// Its output, stdout and stderr as they came, at most 10 KiB.
    pub output: Vec<u8>,
}

/// A check command that runs; dropped, it is killed with all its children.
pub type RunningCommand = Pin<Box<dyn Future<Output = Result<CommandResult, String>> + Send>>;

/// Runs check commands in a task's user, namespaces, folder and a child of its cgroup.
pub trait RunCommand: std::fmt::Debug + Send + Sync {
    /// Starts one. An error is a check that could not be done.
    fn run(&self, command: &Command, environment: &[(String, String)]) -> RunningCommand;
}

/// What the checks of a task need.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Opens sockets in the task's network namespace.
    pub sockets: PodSockets,
    /// Runs check commands.
    pub commands: Arc<dyn RunCommand>,
}
