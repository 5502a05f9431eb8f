//! Statuses of tasks, and what belongs to them.

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::check::CheckStatusInfo;
use super::id::{AgentId, ContainerId, ExecutorId, TaskId};
use super::named::{NetworkProtocol, Open, Reason, Source, TaskState};
use super::value::Blob;

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
