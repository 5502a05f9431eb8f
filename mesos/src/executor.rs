//! The v1 executor API: events from the agent, calls from the executor.
//!
//! Source: `include/mesos/v1/executor/executor.proto` of Mesos 1.11.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_with::skip_serializing_none;

use crate::common::{
    AgentInfo, Blob, ContainerId, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, KillPolicy, TaskId,
    TaskStatus, parse,
};

/// What an agent sends. Tasks stay raw: they are resent to the byte, and their own errors are theirs alone.
#[derive(Debug)]
pub enum Event {
    /// The agent took the subscription.
    Subscribed(Box<Subscribed>),
    /// Run one task.
    Launch(Box<RawValue>),
    /// Run these tasks as one group.
    LaunchGroup(Vec<Box<RawValue>>),
    /// End a task.
    Kill {
        /// Which task.
        task_id: TaskId,
        /// How, before all other policies.
        kill_policy: Option<KillPolicy>,
    },
    /// The agent has handled (and checkpointed) an update.
    Acknowledged {
        /// The update's task.
        task_id: TaskId,
        /// The update's identity.
        uuid: Blob,
    },
    /// Bytes from the framework.
    Message(Blob),
    /// End all tasks, then the executor.
    Shutdown,
    /// The agent's complaint.
    Error(String),
    /// A sign of life, every 30 minutes.
    Heartbeat,
    /// A kind of event that this version does not know.
    Unknown(String),
}

/// The answer to SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct Subscribed {
    /// The executor as its framework described it.
    pub executor_info: ExecutorInfo,
    /// The framework.
    pub framework_info: FrameworkInfo,
    /// The agent.
    pub agent_info: AgentInfo,
    /// The executor's container; the agent always sends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<ContainerId>,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: Option<String>,
    subscribed: Option<Box<Subscribed>>,
    launch: Option<RawLaunch>,
    launch_group: Option<RawLaunchGroup>,
    kill: Option<RawKill>,
    acknowledged: Option<RawAcknowledged>,
    message: Option<RawMessage>,
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawLaunch {
    task: Box<RawValue>,
}

#[derive(Deserialize)]
struct RawLaunchGroup {
    task_group: RawTaskGroup,
}

#[derive(Deserialize)]
struct RawTaskGroup {
    #[serde(default)]
    tasks: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct RawKill {
    task_id: TaskId,
    kill_policy: Option<KillPolicy>,
}

#[derive(Deserialize)]
struct RawAcknowledged {
    task_id: TaskId,
    uuid: Blob,
}

#[derive(Deserialize)]
struct RawMessage {
    data: Blob,
}

#[derive(Deserialize)]
struct RawError {
    message: String,
}

impl Event {
    /// Reads one record.
    ///
    /// # Errors
    /// A sentence that names the field, when the record is not JSON or lacks what its kind must have.
    pub fn parse(record: &[u8]) -> Result<Self, String> {
        let raw: RawEvent = parse(record)?;
        let Some(kind) = raw.kind else {
            return Ok(Self::Unknown(String::new()));
        };
        let missing = |field: &str| format!("{field}: missing in an event of type {kind}");
        Ok(match kind.as_str() {
            "SUBSCRIBED" => Self::Subscribed(raw.subscribed.ok_or_else(|| missing("subscribed"))?),
            "LAUNCH" => Self::Launch(raw.launch.ok_or_else(|| missing("launch"))?.task),
            "LAUNCH_GROUP" => {
                Self::LaunchGroup(raw.launch_group.ok_or_else(|| missing("launch_group"))?.task_group.tasks)
            }
            "KILL" => {
                let RawKill { task_id, kill_policy } = raw.kill.ok_or_else(|| missing("kill"))?;
                Self::Kill { task_id, kill_policy }
            }
            "ACKNOWLEDGED" => {
                let RawAcknowledged { task_id, uuid } =
                    raw.acknowledged.ok_or_else(|| missing("acknowledged"))?;
                Self::Acknowledged { task_id, uuid }
            }
            "MESSAGE" => Self::Message(raw.message.ok_or_else(|| missing("message"))?.data),
            "SHUTDOWN" => Self::Shutdown,
            "ERROR" => Self::Error(raw.error.ok_or_else(|| missing("error"))?.message),
            "HEARTBEAT" => Self::Heartbeat,
            _ => Self::Unknown(kind),
        })
    }
}

/// What an executor asks of its agent.
#[skip_serializing_none]
#[derive(Debug, Serialize, Deserialize)]
pub struct Call {
    /// `SUBSCRIBE`, `UPDATE`, `MESSAGE` or `HEARTBEAT`.
    #[serde(rename = "type")]
    pub kind: CallType,
    /// Who calls.
    pub executor_id: ExecutorId,
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Of a SUBSCRIBE; must be there even when empty.
    pub subscribe: Option<Subscribe>,
    /// Of an UPDATE.
    pub update: Option<Update>,
    /// Of a MESSAGE.
    pub message: Option<Message>,
}

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CallType {
    /// Opens the stream of events.
    Subscribe,
    /// Reports a status.
    Update,
    /// Sends bytes to the framework.
    Message,
    /// A sign of life.
    Heartbeat,
}

/// What the agent must know again after a break.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Subscribe {
    /// Every task received for which no update has been acknowledged.
    pub unacknowledged_tasks: Vec<Box<RawValue>>,
    /// Every update not acknowledged, oldest first.
    pub unacknowledged_updates: Vec<Update>,
}

/// A status on its way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The status.
    pub status: TaskStatus,
}

/// Bytes to the framework.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The bytes.
    pub data: Blob,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_later_version_is_unknown_and_no_error() {
        let event = Event::parse(br#"{"type":"DRAIN","drain":{"x":1},"y":null}"#).unwrap();
        assert!(matches!(event, Event::Unknown(kind) if kind == "DRAIN"));
        assert!(matches!(Event::parse(b"{}").unwrap(), Event::Unknown(_)));
    }

    #[test]
    fn a_task_is_kept_to_the_byte() {
        let event =
            Event::parse(br#"{"type":"LAUNCH","launch":{"task":{"later":[1, 2],"name":3}}}"#).unwrap();
        assert!(matches!(event, Event::Launch(task) if task.get() == r#"{"later":[1, 2],"name":3}"#));
    }

    #[test]
    fn an_event_without_its_body_names_the_field() {
        let error = Event::parse(br#"{"type":"KILL"}"#).unwrap_err();
        assert_eq!(error, "kill: missing in an event of type KILL");
    }
}
