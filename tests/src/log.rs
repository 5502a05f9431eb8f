//! What a framework has heard, in order: a test waits until it says what the test needs.

use std::fmt;

use mesos::common::{ExecutorId, TaskId, TaskState, TaskStatus};
use mesos::scheduler::Failure;
use tokio::time::Instant;

/// Everything a framework has heard since it subscribed, offers and heartbeats aside.
#[derive(Debug, Clone)]
pub struct Log {
    began: Instant,
    entries: Vec<Entry>,
}

/// One thing heard.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// What.
    pub heard: Heard,
}

/// What can be heard.
#[derive(Debug, Clone)]
pub enum Heard {
    /// The master took the subscription, for the first time or again.
    Subscribed,
    /// The stream of events ended; the framework subscribes again.
    Lost(String),
    /// A task's state; a redelivered one is another entry with the same uuid.
    Status(Box<TaskStatus>),
    /// An executor or an agent is gone.
    Failure(Failure),
    /// The master's complaint: the framework is out and does not come back.
    Error(String),
}

impl Default for Log {
    fn default() -> Self {
        Self { began: Instant::now(), entries: Vec::new() }
    }
}

impl Log {
    /// Everything, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// All statuses of a task, in order.
    pub fn statuses<'log>(&'log self, task: &TaskId) -> impl DoubleEndedIterator<Item = &'log TaskStatus> {
        self.all_statuses().filter(move |status| status.task_id == *task)
    }

    /// The last status of a task.
    pub fn last(&self, task: &TaskId) -> Option<&TaskStatus> {
        self.statuses(task).next_back()
    }

    /// The first status of a task with this state.
    pub fn first(&self, task: &TaskId, state: TaskState) -> Option<&TaskStatus> {
        self.statuses(task).find(|status| status.state.known() == Some(state))
    }

    /// The states of a task in order, each redelivered status once.
    pub fn states(&self, task: &TaskId) -> Vec<TaskState> {
        let mut seen = Vec::new();
        let fresh = self.statuses(task).filter(|status| match &status.uuid {
            Some(uuid) if seen.contains(&uuid) => false,
            Some(uuid) => {
                seen.push(uuid);
                true
            }
            None => true,
        });
        fresh.filter_map(|status| status.state.known()).collect()
    }

    /// The status with which a task ended.
    pub fn end(&self, task: &TaskId) -> Option<&TaskStatus> {
        self.statuses(task).find(|status| status.state.known().is_some_and(TaskState::is_terminal))
    }

    /// The end of an executor, as the master told it.
    pub fn failure(&self, executor: &ExecutorId) -> Option<&Failure> {
        self.entries.iter().find_map(|entry| match &entry.heard {
            Heard::Failure(failure) if failure.executor_id.as_ref() == Some(executor) => Some(failure),
            _ => None,
        })
    }

    /// How often the master took the subscription.
    pub fn subscriptions(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.heard, Heard::Subscribed)).count()
    }

    pub(crate) fn push(&mut self, heard: Heard) {
        self.entries.push(Entry { at: Instant::now(), heard });
    }

    pub(crate) fn all_statuses(&self) -> impl DoubleEndedIterator<Item = &TaskStatus> {
        self.entries.iter().filter_map(|entry| match &entry.heard {
            Heard::Status(status) => Some(&**status),
            _ => None,
        })
    }
}

/// One line for each entry, with the seconds since the beginning.
impl fmt::Display for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return out.write_str("nothing was heard");
        }
        out.write_str("heard so far:")?;
        for Entry { at, heard } in &self.entries {
            write!(out, "\n{:9.3} s  {heard}", at.duration_since(self.began).as_secs_f64())?;
        }
        Ok(())
    }
}

impl fmt::Display for Heard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscribed => out.write_str("subscribed"),
            Self::Lost(why) => write!(out, "lost the master: {why}"),
            Self::Status(status) => write_status(out, status),
            Self::Failure(Failure { executor_id: Some(executor), status, .. }) => {
                write!(out, "executor {executor} is gone, status {status:?}")
            }
            Self::Failure(failure) => write!(out, "agent {:?} is gone", failure.agent_id),
            Self::Error(message) => write!(out, "the master's complaint: {message}"),
        }
    }
}

fn write_status(out: &mut fmt::Formatter<'_>, status: &TaskStatus) -> fmt::Result {
    write!(out, "{} {}", status.task_id, status.state.name())?;
    if let Some(healthy) = status.healthy {
        write!(out, " healthy={healthy}")?;
    }
    for label in status.labels.iter().flat_map(|labels| &labels.labels) {
        write!(out, " {}={}", label.key, label.value.as_deref().unwrap_or_default())?;
    }
    if let Some(reason) = &status.reason {
        write!(out, " {}", reason.name())?;
    }
    if let Some(source) = &status.source {
        write!(out, " {}", source.name())?;
    }
    match &status.message {
        Some(message) => write!(out, ": {message}"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::common::Blob;

    fn heard(log: &mut Log, state: TaskState, uuid: Option<u8>) {
        let mut status: TaskStatus =
            serde_json::from_value(serde_json::json!({"task_id": {"value": "a"}, "state": "TASK_STAGING"}))
                .unwrap();
        status.state = state.into();
        status.uuid = uuid.map(|byte| Blob(vec![byte; 16]));
        log.push(Heard::Status(Box::new(status)));
    }

    #[test]
    fn a_redelivered_status_counts_once_among_the_states() {
        let mut log = Log::default();
        heard(&mut log, TaskState::Running, Some(1));
        heard(&mut log, TaskState::Running, Some(1));
        heard(&mut log, TaskState::Running, Some(2));
        heard(&mut log, TaskState::Killed, Some(3));
        heard(&mut log, TaskState::Killed, Some(3));
        let task = TaskId::new("a");
        assert_eq!(log.states(&task), [TaskState::Running, TaskState::Running, TaskState::Killed]);
        assert_eq!(log.statuses(&task).count(), 5);
        assert_eq!(log.end(&task).unwrap().state.known(), Some(TaskState::Killed));
        assert!(log.to_string().contains("a TASK_KILLED"), "{log}");
    }
}
