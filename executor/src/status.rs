//! The one door by which task state leaves: towards the agent as a `TaskStatus`, towards readers here as a watched board.
//!
//! ```text
//!  driver --Status--> Publisher --TaskStatus (uuid, time, container)--> agent::session
//!                              \--Board (watch)--> metrics, the control socket
//! ```

mod endpoints;
mod shown;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesos::common::{
    AgentId, Blob, CheckStatusInfo, CheckType, CommandCheckStatus, ContainerId, ContainerStatus, ExecutorId,
    HttpCheckStatus, IpAddress, Label, Labels, NetworkInfo, NetworkProtocol, Source, TaskId, TaskState,
    TaskStatus, TcpCheckStatus,
};
use tokio::sync::watch;

use crate::health::Observed;
use crate::spec::TaskSpec;
use crate::supervisor::{Exit, Status};

pub use endpoints::{Connected, Endpoints};
pub use shown::{Shown, end_of, now};

/// The label that says whether a task can be used.
pub const READY: &str = "ready";
/// The label that says how often a task was restarted in place.
pub const RESTARTS: &str = "restarts";

/// The label that says where the exec endpoint serves the task.
pub const EXEC_ENDPOINT: &str = "exec-endpoint";

/// The latest status of every task, and how many there were of each state.
#[derive(Debug, Default)]
pub struct Board {
    /// The latest status of each task that is living or not yet acknowledged.
    pub tasks: BTreeMap<TaskId, Status>,
    /// How many statuses of each state were published in all.
    pub published: BTreeMap<TaskState, u64>,
    /// How many restarts in place there were in all.
    pub restarts: u64,
    /// What the control socket shows: the tasks above, and those that ended lately.
    pub shown: Shown,
}

/// What all statuses of this executor have in common.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The agent.
    pub agent_id: AgentId,
    /// The executor.
    pub executor_id: ExecutorId,
    /// The executor's container; each task's is nested in it.
    pub container_id: ContainerId,
    /// The pod instance's address: its own, or the host's.
    pub address: std::net::IpAddr,
    /// The executor's sandbox.
    pub sandbox: PathBuf,
}

/// Publishes statuses.
#[derive(Debug)]
pub struct Publisher {
    origin: Origin,
    board: watch::Sender<Board>,
    endpoints: Arc<Endpoints>,
}

impl Publisher {
    /// A publisher whose board is empty.
    pub fn new(origin: Origin) -> Self {
        Self { origin, board: watch::Sender::new(Board::default()), endpoints: Arc::default() }
    }

    /// Who serves this executor's tasks to the outside.
    pub fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.clone()
    }

    /// The board, to be read and watched.
    pub fn board(&self) -> watch::Receiver<Board> {
        self.board.subscribe()
    }

    /// Puts a status on the board; returns what the agent is to be told. A task that could not be run has no `spec`.
    pub fn publish(&self, status: &Status, spec: Option<&TaskSpec>) -> TaskStatus {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.board.send_modify(|board| {
            *board.published.entry(status.state).or_default() += 1;
            let before =
                board.tasks.insert(status.id.clone(), status.clone()).map_or(0, |before| before.restarts);
            board.restarts += u64::from(status.restarts.saturating_sub(before));
            board.shown.publish(status, spec, &self.origin.sandbox, shown::milliseconds(now));
        });
        self.wire(status, now, uuid::Uuid::new_v4())
    }

    /// Takes a task off the board: it has ended, and the agent knows.
    pub fn forget(&self, id: &TaskId) {
        self.board.send_modify(|board| {
            board.tasks.remove(id);
            board.shown.forget(id);
        });
    }

    /// A process of a task runs; `pid` is its id on the host, unless it has ended already.
    pub fn started(&self, id: &TaskId, pid: Option<i32>) {
        self.board.send_modify(|board| board.shown.started(id, pid, shown::now()));
    }

    /// The process of a task ended.
    pub fn exited(&self, id: &TaskId, exit: &Exit) {
        self.board.send_modify(|board| board.shown.exited(id, exit, shown::now()));
    }

    fn wire(&self, status: &Status, now: Duration, uuid: uuid::Uuid) -> TaskStatus {
        let origin = &self.origin;
        TaskStatus {
            task_id: status.id.clone(),
            state: status.state.into(),
            message: status.message.clone(),
            source: Some(Source::Executor.into()),
            reason: status.reason.map(Into::into),
            agent_id: Some(origin.agent_id.clone()),
            executor_id: Some(origin.executor_id.clone()),
            timestamp: Some(now.as_secs_f64()),
            uuid: Some(Blob(uuid.as_bytes().to_vec())),
            healthy: status.healthy,
            check_status: status.reported.map(|(kind, observed)| check_status(kind, observed)),
            labels: labels(status, self.endpoints.latest()),
            container_status: Some(ContainerStatus {
                container_id: Some(origin.container_id.nested(status.id.value.clone())),
                network_infos: vec![network_info(origin.address)],
                executor_pid: None,
            }),
        }
    }
}

fn labels(status: &Status, endpoint: Option<String>) -> Option<Labels> {
    let label = |key: &str, value: String| Label { key: key.to_owned(), value: Some(value) };
    let ready = status.ready.map(|ready| label(READY, ready.to_string()));
    let restarts = (status.restarts > 0).then(|| label(RESTARTS, status.restarts.to_string()));
    let endpoint = endpoint.map(|url| label(EXEC_ENDPOINT, url));
    let labels: Vec<Label> = ready.into_iter().chain(restarts).chain(endpoint).collect();
    (!labels.is_empty()).then_some(Labels { labels })
}

fn network_info(address: std::net::IpAddr) -> NetworkInfo {
    let protocol = if address.is_ipv4() { NetworkProtocol::Ipv4 } else { NetworkProtocol::Ipv6 };
    let ip_address = IpAddress { protocol: Some(protocol.into()), ip_address: Some(address.to_string()) };
    NetworkInfo { ip_addresses: vec![ip_address] }
}

/// The field of the check's kind is there from the beginning: an agent refuses a `check_status` without it.
fn check_status(kind: CheckType, observed: Observed) -> CheckStatusInfo {
    let empty = CheckStatusInfo { kind: kind.into(), command: None, http: None, tcp: None };
    match kind {
        CheckType::Command => {
            let exit_code = if let Observed::ExitCode(code) = observed { Some(code) } else { None };
            CheckStatusInfo { command: Some(CommandCheckStatus { exit_code }), ..empty }
        }
        CheckType::Http => {
            let status_code =
                if let Observed::StatusCode(code) = observed { Some(u32::from(code)) } else { None };
            CheckStatusInfo { http: Some(HttpCheckStatus { status_code }), ..empty }
        }
        CheckType::Tcp => {
            let succeeded =
                if let Observed::Connected(connected) = observed { Some(connected) } else { None };
            CheckStatusInfo { tcp: Some(TcpCheckStatus { succeeded }), ..empty }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: TaskState) -> Status {
        Status {
            id: TaskId::new("etcd-0-peer__1"),
            state,
            reason: None,
            message: None,
            healthy: None,
            reported: Some((CheckType::Command, Observed::Nothing)),
            ready: Some(false),
            restarts: 2,
        }
    }

    fn publisher() -> Publisher {
        Publisher::new(Origin {
            agent_id: AgentId::new("agent"),
            executor_id: ExecutorId::new("etcd-0__1"),
            container_id: ContainerId::new("container"),
            address: [10, 88, 0, 10].into(),
            sandbox: "/sandbox".into(),
        })
    }

    #[test]
    fn every_status_carries_the_nested_container_the_address_and_an_empty_check_status() {
        let wire = serde_json::to_value(publisher().publish(&status(TaskState::Running), None)).unwrap();
        assert_eq!(wire["container_status"]["container_id"]["parent"]["value"], "container");
        assert_eq!(
            wire["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"],
            "10.88.0.10"
        );
        assert_eq!(wire["check_status"], serde_json::json!({"type": "COMMAND", "command": {}}));
        assert_eq!(wire["source"], "SOURCE_EXECUTOR");
    }

    #[test]
    fn no_two_statuses_have_one_uuid() {
        let publisher = publisher();
        assert_ne!(
            publisher.publish(&status(TaskState::Running), None).uuid,
            publisher.publish(&status(TaskState::Running), None).uuid
        );
    }

    #[test]
    fn statuses_carry_the_endpoint_that_connected_last_while_it_is_connected() {
        let publisher = publisher();
        let value = || {
            let labels = publisher.publish(&status(TaskState::Running), None).labels.unwrap().labels;
            labels.into_iter().find(|label| label.key == EXEC_ENDPOINT).and_then(|label| label.value)
        };
        assert_eq!(value(), None);
        let first = publisher.endpoints().connect("https://a:1".to_owned());
        let second = publisher.endpoints().connect("https://b:2".to_owned());
        assert_eq!(value().as_deref(), Some("https://b:2"));
        drop(second);
        assert_eq!(value().as_deref(), Some("https://a:1"));
        drop(first);
        assert_eq!(value(), None);
    }

    #[test]
    fn restarts_are_counted_once_each() {
        let publisher = publisher();
        for _ in 0..3 {
            publisher.publish(&status(TaskState::Running), None);
        }
        assert_eq!(publisher.board().borrow().restarts, 2);
        assert_eq!(publisher.board().borrow().published[&TaskState::Running], 3);
    }
}
