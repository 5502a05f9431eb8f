//! Signals to a task's first process.

use mesos::common::TaskId;
use task::control::{Refusal, RefusalKind};

use super::{Source, rights};
use crate::process::signal;

/// Sends a signal to a task's first process. It does not end the task as a kill of the framework's does: there is no grace
/// period, and the task's restart policy decides what follows.
///
/// # Errors
/// There is no such process, it may not be, or the kernel refuses.
pub fn send(source: &Source, task: &TaskId, number: i32) -> Result<(), Refusal> {
    let living = source.living(task)?;
    let wanted = rights::may_signal(&living.spec.exec, number)?;
    tracing::info!(task = %task, signal = number, "signal from outside");
    signal::send(&living.pidfd, wanted).map_err(|message| Refusal { kind: RefusalKind::Failed, message })
}
