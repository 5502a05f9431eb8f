//! The v1 operator API of an agent: calls, responses, and the pieces of a process's input and output.
//!
//! Source: `include/mesos/v1/agent/agent.proto` of Mesos 1.11. Only the calls that concern containers, tasks and state are here;
//! the same types serve JSON and, through [`crate::protobuf`], protobuf.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use crate::common::{
    AgentId, Blob, CommandInfo, ContainerId, ContainerInfo, ContainerStatus, DurationInfo, ExecutorId,
    FrameworkId, FrameworkInfo, Open, Resource, TaskId, TaskState, TaskStatus, TtyInfo, named,
};

named!(
    /// The calls (`Call.Type`), those that this project does not serve included.
    CallType {
        /// No call.
        Unknown = "UNKNOWN",
        /// Whether the agent is healthy.
        GetHealth = "GET_HEALTH",
        /// Its flags.
        GetFlags = "GET_FLAGS",
        /// Its version.
        GetVersion = "GET_VERSION",
        /// Its metrics.
        GetMetrics = "GET_METRICS",
        /// How much it logs.
        GetLoggingLevel = "GET_LOGGING_LEVEL",
        /// Sets how much it logs.
        SetLoggingLevel = "SET_LOGGING_LEVEL",
        /// A folder's files.
        ListFiles = "LIST_FILES",
        /// A part of a file.
        ReadFile = "READ_FILE",
        /// Tasks, executors and frameworks.
        GetState = "GET_STATE",
        /// Containers.
        GetContainers = "GET_CONTAINERS",
        /// Frameworks.
        GetFrameworks = "GET_FRAMEWORKS",
        /// Executors.
        GetExecutors = "GET_EXECUTORS",
        /// Operations.
        GetOperations = "GET_OPERATIONS",
        /// Tasks.
        GetTasks = "GET_TASKS",
        /// The agent itself.
        GetAgent = "GET_AGENT",
        /// Resource providers.
        GetResourceProviders = "GET_RESOURCE_PROVIDERS",
        /// Starts a nested container.
        LaunchNestedContainer = "LAUNCH_NESTED_CONTAINER",
        /// Waits for a nested container's end.
        WaitNestedContainer = "WAIT_NESTED_CONTAINER",
        /// Signals a nested container.
        KillNestedContainer = "KILL_NESTED_CONTAINER",
        /// Forgets a nested container.
        RemoveNestedContainer = "REMOVE_NESTED_CONTAINER",
        /// Starts a nested container that ends with the connection, and streams its output.
        LaunchNestedContainerSession = "LAUNCH_NESTED_CONTAINER_SESSION",
        /// Streams a container's input.
        AttachContainerInput = "ATTACH_CONTAINER_INPUT",
        /// Streams a container's output.
        AttachContainerOutput = "ATTACH_CONTAINER_OUTPUT",
        /// Starts a container.
        LaunchContainer = "LAUNCH_CONTAINER",
        /// Waits for a container's end.
        WaitContainer = "WAIT_CONTAINER",
        /// Signals a container.
        KillContainer = "KILL_CONTAINER",
        /// Forgets a container.
        RemoveContainer = "REMOVE_CONTAINER",
        /// Adds a resource provider.
        AddResourceProviderConfig = "ADD_RESOURCE_PROVIDER_CONFIG",
        /// Changes a resource provider.
        UpdateResourceProviderConfig = "UPDATE_RESOURCE_PROVIDER_CONFIG",
        /// Removes a resource provider.
        RemoveResourceProviderConfig = "REMOVE_RESOURCE_PROVIDER_CONFIG",
        /// Gives a resource provider up.
        MarkResourceProviderGone = "MARK_RESOURCE_PROVIDER_GONE",
        /// Deletes images.
        PruneImages = "PRUNE_IMAGES",
    }
);

named!(
    /// The kinds of responses (`Response.Type`).
    ResponseType {
        /// To GET_HEALTH.
        GetHealth = "GET_HEALTH",
        /// To GET_VERSION.
        GetVersion = "GET_VERSION",
        /// To GET_STATE.
        GetState = "GET_STATE",
        /// To GET_CONTAINERS.
        GetContainers = "GET_CONTAINERS",
        /// To GET_TASKS.
        GetTasks = "GET_TASKS",
        /// To WAIT_NESTED_CONTAINER.
        WaitNestedContainer = "WAIT_NESTED_CONTAINER",
        /// To WAIT_CONTAINER.
        WaitContainer = "WAIT_CONTAINER",
    }
);

named!(
    /// What a record of input is (`Call.AttachContainerInput.Type`).
    InputType {
        /// Nothing.
        Unknown = "UNKNOWN",
        /// The container that the following is for.
        ContainerId = "CONTAINER_ID",
        /// A piece of input.
        ProcessIo = "PROCESS_IO",
    }
);

named!(
    /// What a piece is (`ProcessIO.Type`).
    PieceType {
        /// Nothing.
        Unknown = "UNKNOWN",
        /// Bytes.
        Data = "DATA",
        /// Something about the stream.
        Control = "CONTROL",
    }
);

named!(
    /// The stream of some bytes (`ProcessIO.Data.Type`).
    StreamType {
        /// None.
        Unknown = "UNKNOWN",
        /// Standard input.
        Stdin = "STDIN",
        /// Standard output, and all output of a terminal.
        Stdout = "STDOUT",
        /// Standard error.
        Stderr = "STDERR",
    }
);

named!(
    /// What is said about a stream (`ProcessIO.Control.Type`).
    ControlType {
        /// Nothing.
        Unknown = "UNKNOWN",
        /// The terminal's size.
        TtyInfo = "TTY_INFO",
        /// A sign of life.
        Heartbeat = "HEARTBEAT",
    }
);

/// What is asked of an agent. The body of its kind must be there, which is for the reader to check.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Call {
    /// Which call; a name that Mesos does not know reads as if it were not there.
    #[serde(rename = "type")]
    pub kind: Option<Open<CallType>>,
    /// Of GET_CONTAINERS; may be absent.
    pub get_containers: Option<GetContainers>,
    /// Of LAUNCH_NESTED_CONTAINER_SESSION.
    pub launch_nested_container_session: Option<LaunchSession>,
    /// Of ATTACH_CONTAINER_INPUT.
    pub attach_container_input: Option<AttachInput>,
    /// Of ATTACH_CONTAINER_OUTPUT.
    pub attach_container_output: Option<OfContainer>,
    /// Of WAIT_CONTAINER.
    pub wait_container: Option<OfContainer>,
    /// Of WAIT_NESTED_CONTAINER.
    pub wait_nested_container: Option<OfContainer>,
    /// Of KILL_CONTAINER.
    pub kill_container: Option<KillContainer>,
    /// Of KILL_NESTED_CONTAINER.
    pub kill_nested_container: Option<KillContainer>,
    /// Of REMOVE_CONTAINER.
    pub remove_container: Option<OfContainer>,
    /// Of REMOVE_NESTED_CONTAINER.
    pub remove_nested_container: Option<OfContainer>,
}

/// Which containers are wanted.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GetContainers {
    /// Nested ones too.
    pub show_nested: Option<bool>,
    /// Those without a framework too.
    pub show_standalone: Option<bool>,
}

/// A process to be started below a container.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchSession {
    /// Its id: the caller's own, below the container it is started in.
    pub container_id: ContainerId,
    /// What to run.
    pub command: Option<CommandInfo>,
    /// What it asks for: a terminal.
    pub container: Option<ContainerInfo>,
}

/// One record of a container's input.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct AttachInput {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Option<Open<InputType>>,
    /// Of the first record.
    pub container_id: Option<ContainerId>,
    /// Of the others.
    pub process_io: Option<ProcessIo>,
}

/// A call that only names a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfContainer {
    /// Which.
    pub container_id: ContainerId,
}

/// A signal to a container's first process.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillContainer {
    /// Which.
    pub container_id: ContainerId,
    /// The signal's number; 9 when unset.
    pub signal: Option<i32>,
}

/// A piece of a process's input or output, or something about it.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ProcessIo {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Option<Open<PieceType>>,
    /// Bytes.
    pub data: Option<Data>,
    /// Something about the stream.
    pub control: Option<Control>,
}

impl ProcessIo {
    /// Bytes of a stream.
    pub fn data(stream: StreamType, bytes: &[u8]) -> Self {
        let data = Data { kind: Some(stream.into()), data: Some(Blob(bytes.to_vec())) };
        Self { kind: Some(PieceType::Data.into()), data: Some(data), control: None }
    }

    /// A sign of life, of which there is one in so many nanoseconds.
    pub fn heartbeat(nanoseconds: i64) -> Self {
        let heartbeat = Heartbeat { interval: Some(DurationInfo { nanoseconds }) };
        let control =
            Control { kind: Some(ControlType::Heartbeat.into()), tty_info: None, heartbeat: Some(heartbeat) };
        Self { kind: Some(PieceType::Control.into()), data: None, control: Some(control) }
    }
}

/// Bytes of a stream; of standard input no bytes are its end.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Data {
    /// Which stream.
    #[serde(rename = "type")]
    pub kind: Option<Open<StreamType>>,
    /// The bytes.
    pub data: Option<Blob>,
}

/// Something about a stream.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Control {
    /// What.
    #[serde(rename = "type")]
    pub kind: Option<Open<ControlType>>,
    /// The terminal's size.
    pub tty_info: Option<TtyInfo>,
    /// A sign of life.
    pub heartbeat: Option<Heartbeat>,
}

/// A sign of life.
#[skip_serializing_none]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Heartbeat {
    /// How often there is one.
    pub interval: Option<DurationInfo>,
}

/// What an agent answers.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// To which call.
    #[serde(rename = "type")]
    pub kind: Open<ResponseType>,
    /// To GET_HEALTH.
    pub get_health: Option<Health>,
    /// To GET_VERSION.
    pub get_version: Option<Version>,
    /// To GET_STATE.
    pub get_state: Option<State>,
    /// To GET_CONTAINERS.
    pub get_containers: Option<Containers>,
    /// To GET_TASKS.
    pub get_tasks: Option<Tasks>,
    /// To WAIT_NESTED_CONTAINER.
    pub wait_nested_container: Option<Waited>,
    /// To WAIT_CONTAINER.
    pub wait_container: Option<Waited>,
}

impl Response {
    /// A response without its body.
    pub fn new(kind: ResponseType) -> Self {
        Self {
            kind: kind.into(),
            get_health: None,
            get_version: None,
            get_state: None,
            get_containers: None,
            get_tasks: None,
            wait_nested_container: None,
            wait_container: None,
        }
    }
}

/// Whether the agent is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// It is.
    pub healthy: bool,
}

/// The agent's version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// It.
    pub version_info: VersionInfo,
}

/// A version.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionInfo {
    /// Three numbers.
    pub version: String,
}

/// Tasks, executors and frameworks.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct State {
    /// Tasks.
    pub get_tasks: Option<Tasks>,
    /// Executors.
    pub get_executors: Option<Executors>,
    /// Frameworks.
    pub get_frameworks: Option<Frameworks>,
}

/// Tasks, by how far they are.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Tasks {
    /// Not yet for an executor.
    pub pending_tasks: Vec<Task>,
    /// For an executor that has not yet subscribed.
    pub queued_tasks: Vec<Task>,
    /// Given to their executor.
    pub launched_tasks: Vec<Task>,
    /// Ended, which is not yet acknowledged.
    pub terminated_tasks: Vec<Task>,
    /// Ended.
    pub completed_tasks: Vec<Task>,
}

/// A task.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// Its id.
    pub task_id: TaskId,
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Its executor.
    pub executor_id: Option<ExecutorId>,
    /// Its agent.
    pub agent_id: AgentId,
    /// Its state.
    pub state: Open<TaskState>,
    /// What it was given.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Its statuses, the last one of each state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<TaskStatus>,
    /// The state of the last status that was forwarded.
    pub status_update_state: Option<Open<TaskState>>,
    /// What it asked of its container.
    pub container: Option<ContainerInfo>,
    /// Whom it runs as.
    pub user: Option<String>,
}

/// Executors.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Executors {
    /// Those that run.
    pub executors: Vec<Executor>,
    /// Those that ended.
    pub completed_executors: Vec<Executor>,
}

/// An executor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// It.
    pub executor_info: ExecutorSummary,
}

/// What is told of an executor.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutorSummary {
    /// `CUSTOM` or `DEFAULT`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its id.
    pub executor_id: ExecutorId,
    /// Its framework.
    pub framework_id: Option<FrameworkId>,
    /// What it was given.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Its name.
    pub name: Option<String>,
}

/// Frameworks.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Frameworks {
    /// Those that have something here.
    pub frameworks: Vec<Framework>,
    /// Those that ended.
    pub completed_frameworks: Vec<Framework>,
}

/// A framework.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Framework {
    /// It.
    pub framework_info: FrameworkInfo,
}

/// Containers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Containers {
    /// Each of them.
    pub containers: Vec<Container>,
}

/// A container.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Container {
    /// Its framework.
    pub framework_id: Option<FrameworkId>,
    /// Its executor.
    pub executor_id: Option<ExecutorId>,
    /// The executor's name.
    pub executor_name: Option<String>,
    /// Its id.
    pub container_id: ContainerId,
    /// Its state.
    pub container_status: Option<ContainerStatus>,
}

/// How a container ended.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Waited {
    /// As of `wait(2)`.
    pub exit_status: Option<i32>,
    /// Of a task whose end is more than that of its process.
    pub state: Option<Open<TaskState>>,
    /// Why it ended from outside.
    pub reason: Option<String>,
    /// For people.
    pub message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::Named as _;
    use crate::protobuf::{decode, encode, schema};

    #[test]
    fn a_session_as_clients_ask_for_it_is_one_call_in_json_and_protobuf() {
        let json = serde_json::json!({
            "type": "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_session": {
                "container_id": {"value": "u", "parent": {"value": "T", "parent": {"value": "E"}}},
                "command": {"value": "bash", "arguments": ["bash", "-l"], "shell": false, "user": "nobody",
                    "environment": {"variables": [{"name": "TERM", "type": "VALUE", "value": "xterm"}]}},
                "container": {"type": "MESOS", "tty_info": {"window_size": {"rows": 24, "columns": 80}}}}});
        let call: Call = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&call).unwrap(), json);
        let bytes = encode(&schema::CALL, &json).unwrap();
        assert_eq!(serde_json::from_value::<Call>(decode(&schema::CALL, &bytes).unwrap()).unwrap(), call);
        let session = call.launch_nested_container_session.unwrap();
        assert_eq!(session.container_id.parent.unwrap().parent.unwrap().value, "E");
    }

    #[test]
    fn a_heartbeat_is_written_as_mesos_does() {
        let heartbeat = serde_json::to_value(ProcessIo::heartbeat(30_000_000_000)).unwrap();
        let expected = serde_json::json!({"type": "CONTROL", "control": {"type": "HEARTBEAT",
            "heartbeat": {"interval": {"nanoseconds": 30_000_000_000_i64}}}});
        assert_eq!(heartbeat, expected);
    }

    #[test]
    fn every_call_has_its_number() {
        for (_, name) in CallType::NAMES {
            let call = serde_json::json!({"type": name});
            assert_eq!(decode(&schema::CALL, &encode(&schema::CALL, &call).unwrap()).unwrap(), call);
        }
    }
}
