//! Tasks, executors, frameworks and agents as they are described.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_with::skip_serializing_none;

use super::check::{CheckInfo, HealthCheck};
use super::command::{CommandInfo, KillPolicy};
use super::container::ContainerInfo;
use super::id::{AgentId, ExecutorId, FrameworkId, TaskId};
use super::named::{Capability, Open};
use super::status::Labels;
use super::value::{Blob, DurationInfo, Resource, Scalar};

/// A task as a framework describes it.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskInfo {
    /// Its name, not unique.
    pub name: String,
    /// Its id.
    pub task_id: TaskId,
    /// The agent it goes to.
    pub agent_id: AgentId,
    /// What it is given.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Upper limits by resource name (`cpus`, `mem`), which may be infinite.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Scalar>,
    /// The executor that runs it; set in a plain LAUNCH only.
    pub executor: Option<ExecutorInfo>,
    /// The command; a plain LAUNCH with a custom executor may not carry one.
    pub command: Option<CommandInfo>,
    /// What it asks of its container.
    pub container: Option<ContainerInfo>,
    /// The health check.
    pub health_check: Option<HealthCheck>,
    /// The generalized check.
    pub check: Option<CheckInfo>,
    /// How it is to be killed.
    pub kill_policy: Option<KillPolicy>,
    /// Bytes for the executor; here the JSON of `TaskSettings`.
    pub data: Option<Blob>,
    /// How long it may run in all.
    pub max_completion_time: Option<DurationInfo>,
    /// Labels.
    pub labels: Option<Labels>,
}

/// An executor as a framework describes it. It must stay equal to the byte for as long as that executor lives.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutorInfo {
    /// `CUSTOM` here.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Its id.
    pub executor_id: ExecutorId,
    /// Its framework.
    pub framework_id: Option<FrameworkId>,
    /// The command that starts it.
    pub command: Option<CommandInfo>,
    /// What it is given besides its tasks' resources; cpus, mem and disk must be there.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Bytes for the executor; here the JSON of `PodSettings`.
    pub data: Option<Blob>,
    /// How long its tasks may take to end on SHUTDOWN.
    pub shutdown_grace_period: Option<DurationInfo>,
}

/// A framework as it describes itself.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameworkInfo {
    /// The user that its executors run as.
    pub user: String,
    /// Its name.
    pub name: String,
    /// Its id, once it has one.
    pub id: Option<FrameworkId>,
    /// Its roles.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Seconds that its tasks outlive it.
    pub failover_timeout: Option<f64>,
    /// Whether its executors outlive the agent.
    pub checkpoint: Option<bool>,
    /// What it can handle.
    #[serde(default)]
    pub capabilities: Vec<FrameworkCapability>,
}

impl FrameworkInfo {
    /// Whether it can handle `capability`.
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.iter().any(|one| one.kind.known() == Some(capability))
    }
}

/// One thing a framework can handle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkCapability {
    /// Which.
    #[serde(rename = "type")]
    pub kind: Open<Capability>,
}

/// An agent as it describes itself.
#[skip_serializing_none]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Its host's name.
    pub hostname: String,
    /// Its id.
    pub id: Option<AgentId>,
    /// Its port.
    pub port: Option<u32>,
}
