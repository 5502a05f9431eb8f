//! The v1 scheduler API: events from the master, calls from a framework.
//!
//! Source: `include/mesos/v1/scheduler/scheduler.proto` of Mesos 1.11. The stream's first answer carries the header
//! `Mesos-Stream-Id`, which every later call must repeat.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::common::{
    AgentId, Blob, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, KillPolicy, OfferId, Resource,
    TaskId, TaskInfo, TaskStatus, parse,
};

/// What a master sends.
#[derive(Debug)]
pub enum Event {
    /// The master took the subscription.
    Subscribed(FrameworkId),
    /// Resources to use or decline.
    Offers(Vec<Offer>),
    /// Offers that hold no longer.
    Rescind(OfferId),
    /// A task's state.
    Update(Box<TaskStatus>),
    /// An executor or an agent is gone.
    Failure(Failure),
    /// The master's complaint; the framework is out.
    Error(String),
    /// A sign of life.
    Heartbeat,
    /// Any other kind.
    Unknown(String),
}

/// Resources of one agent, offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The offer.
    pub id: OfferId,
    /// The agent.
    pub agent_id: AgentId,
    /// Its host's name.
    pub hostname: String,
    /// What is offered.
    #[serde(default)]
    pub resources: Vec<Resource>,
}

/// An executor (when it is named) or an agent is gone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Failure {
    /// The agent.
    pub agent_id: Option<AgentId>,
    /// The executor.
    pub executor_id: Option<ExecutorId>,
    /// How the executor exited.
    pub status: Option<i32>,
}

#[derive(Deserialize)]
struct RawEvent {
    #[serde(rename = "type")]
    kind: Option<String>,
    subscribed: Option<RawSubscribed>,
    offers: Option<RawOffers>,
    rescind: Option<RawRescind>,
    update: Option<RawUpdate>,
    failure: Option<Failure>,
    error: Option<RawError>,
}

#[derive(Deserialize)]
struct RawSubscribed {
    framework_id: FrameworkId,
}

#[derive(Deserialize)]
struct RawOffers {
    #[serde(default)]
    offers: Vec<Offer>,
}

#[derive(Deserialize)]
struct RawRescind {
    offer_id: OfferId,
}

#[derive(Deserialize)]
struct RawUpdate {
    status: Box<TaskStatus>,
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
        let kind = raw.kind.unwrap_or_default();
        let missing = |field: &str| format!("{field}: missing in an event of type {kind}");
        Ok(match kind.as_str() {
            "SUBSCRIBED" => {
                Self::Subscribed(raw.subscribed.ok_or_else(|| missing("subscribed"))?.framework_id)
            }
            "OFFERS" => Self::Offers(raw.offers.ok_or_else(|| missing("offers"))?.offers),
            "RESCIND" => Self::Rescind(raw.rescind.ok_or_else(|| missing("rescind"))?.offer_id),
            "UPDATE" => Self::Update(raw.update.ok_or_else(|| missing("update"))?.status),
            "FAILURE" => Self::Failure(raw.failure.ok_or_else(|| missing("failure"))?),
            "ERROR" => Self::Error(raw.error.ok_or_else(|| missing("error"))?.message),
            "HEARTBEAT" => Self::Heartbeat,
            _ => Self::Unknown(kind),
        })
    }
}

/// What a framework asks of the master.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, Serialize)]
pub struct Call {
    /// The kind; the field of that kind must be there.
    #[serde(rename = "type")]
    pub kind: CallType,
    /// Who calls; in every call but a first SUBSCRIBE.
    pub framework_id: Option<FrameworkId>,
    /// Of a SUBSCRIBE.
    pub subscribe: Option<Subscribe>,
    /// Of an ACCEPT.
    pub accept: Option<Accept>,
    /// Of a DECLINE.
    pub decline: Option<Decline>,
    /// Of a KILL.
    pub kill: Option<Kill>,
    /// Of a SHUTDOWN.
    pub shutdown: Option<Shutdown>,
    /// Of an ACKNOWLEDGE.
    pub acknowledge: Option<Acknowledge>,
    /// Of a MESSAGE.
    pub message: Option<Message>,
}

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CallType {
    /// Opens the stream of events.
    #[default]
    Subscribe,
    /// Uses offers.
    Accept,
    /// Gives offers back.
    Decline,
    /// Ends a task.
    Kill,
    /// Ends an executor.
    Shutdown,
    /// Says that an update was handled.
    Acknowledge,
    /// Sends bytes to an executor.
    Message,
    /// Asks for offers again.
    Revive,
    /// Ends the framework and all it runs.
    Teardown,
}

/// The body of a SUBSCRIBE.
#[derive(Debug, Clone, Serialize)]
pub struct Subscribe {
    /// The framework.
    pub framework_info: FrameworkInfo,
}

/// The body of an ACCEPT.
#[derive(Debug, Clone, Serialize)]
pub struct Accept {
    /// Offers of one agent.
    pub offer_ids: Vec<OfferId>,
    /// What to do with them.
    pub operations: Vec<Operation>,
    /// For how long not to offer what is left.
    pub filters: Filters,
}

/// For how long resources are not offered again.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Filters {
    /// Seconds.
    pub refuse_seconds: f64,
}

/// What to do with an offer: LAUNCH or LAUNCH_GROUP.
#[skip_serializing_none]
#[derive(Debug, Clone, Default, Serialize)]
pub struct Operation {
    /// `LAUNCH` or `LAUNCH_GROUP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of a LAUNCH.
    pub launch: Option<Launch>,
    /// Of a LAUNCH_GROUP.
    pub launch_group: Option<LaunchGroup>,
}

/// The body of a LAUNCH.
#[derive(Debug, Clone, Serialize)]
pub struct Launch {
    /// The tasks, each with its executor and without a command.
    pub task_infos: Vec<TaskInfo>,
}

/// The body of a LAUNCH_GROUP.
#[derive(Debug, Clone, Serialize)]
pub struct LaunchGroup {
    /// The executor.
    pub executor: ExecutorInfo,
    /// Its tasks.
    pub task_group: TaskGroup,
}

/// Tasks that are delivered together or not at all.
#[derive(Debug, Clone, Serialize)]
pub struct TaskGroup {
    /// The tasks.
    pub tasks: Vec<TaskInfo>,
}

/// The body of a DECLINE.
#[derive(Debug, Clone, Serialize)]
pub struct Decline {
    /// The offers.
    pub offer_ids: Vec<OfferId>,
    /// For how long not to offer them again.
    pub filters: Filters,
}

/// The body of a KILL.
#[skip_serializing_none]
#[derive(Debug, Clone, Serialize)]
pub struct Kill {
    /// The task.
    pub task_id: TaskId,
    /// Its agent.
    pub agent_id: Option<AgentId>,
    /// How.
    pub kill_policy: Option<KillPolicy>,
}

/// The body of a SHUTDOWN.
#[derive(Debug, Clone, Serialize)]
pub struct Shutdown {
    /// The executor.
    pub executor_id: ExecutorId,
    /// Its agent.
    pub agent_id: AgentId,
}

/// The body of an ACKNOWLEDGE.
#[derive(Debug, Clone, Serialize)]
pub struct Acknowledge {
    /// The agent.
    pub agent_id: AgentId,
    /// The task.
    pub task_id: TaskId,
    /// The update.
    pub uuid: Blob,
}

/// The body of a MESSAGE.
#[derive(Debug, Clone, Serialize)]
pub struct Message {
    /// The agent.
    pub agent_id: AgentId,
    /// The executor.
    pub executor_id: ExecutorId,
    /// The bytes.
    pub data: Blob,
}
