//! What there is, as Mesos tells it: the operator API's GET_* calls, and the state of a master and of an agent as the dcos CLI
//! reads it. Pure but for the rights: a task that the caller may not list is nowhere.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use mesos::agent::{
    Container, Containers, Executor, ExecutorSummary, Executors, Framework, Frameworks, GetContainers,
    Health, Response, ResponseType, State, Tasks, Version, VersionInfo,
};
use mesos::common::{
    AgentId, ContainerId, ContainerInfo, ContainerStatus, ExecutorId, FrameworkId, FrameworkInfo, IpAddress,
    Label, Labels, NetworkInfo, NetworkProtocol, Open, Reason, Resource, Source, TaskStatus, TtyInfo,
};
use serde_json::{Map, Value, json};
use task::control::Task;

use super::containers::{self, target};
use super::ending::has_ended;
use super::route::Agent;
use super::session::Session;
use crate::endpoint::{Caller, Endpoint};
use crate::inventory::PodView;
use crate::policy::Verb;

/// The version of Mesos whose API this is.
const VERSION: &str = "1.11.0";

/// A pod and those of its tasks that the caller may see.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) pod: Arc<PodView>,
    pub(super) tasks: Vec<Task>,
}

/// All that the caller may see of an agent, or of all agents of this host.
pub(super) fn seen(endpoint: &Endpoint, caller: &Caller, agent: &Agent) -> Vec<Seen> {
    all(endpoint, agent, |pod, task| endpoint.gate.allows(&caller.who, &Verb::List, Some(target(pod, task))))
}

/// All of an agent, or of all agents of this host, that is admitted.
pub(super) fn all(endpoint: &Endpoint, agent: &Agent, admits: impl Fn(&PodView, &Task) -> bool) -> Vec<Seen> {
    let inventory = endpoint.inventory.borrow().clone();
    let pods = inventory.pods.values().filter(|pod| match agent {
        Agent::Here => true,
        Agent::Named(id) => pod.pod.agent_id == *id,
    });
    pods.filter_map(|pod| {
        let tasks: Vec<Task> = pod.pod.tasks.iter().filter(|task| admits(pod, task)).cloned().collect();
        (!tasks.is_empty()).then(|| Seen { pod: pod.clone(), tasks })
    })
    .collect()
}

/// GET_HEALTH.
pub(super) fn health() -> Response {
    Response { get_health: Some(Health { healthy: true }), ..Response::new(ResponseType::GetHealth) }
}

/// GET_VERSION: of the API, which is what its readers compare.
pub(super) fn version() -> Response {
    let version = Version { version_info: VersionInfo { version: VERSION.to_owned() } };
    Response { get_version: Some(version), ..Response::new(ResponseType::GetVersion) }
}

/// GET_TASKS.
pub(super) fn tasks(seen: &[Seen]) -> Response {
    Response { get_tasks: Some(all_tasks(seen)), ..Response::new(ResponseType::GetTasks) }
}

/// GET_STATE.
pub(super) fn state(seen: &[Seen]) -> Response {
    let executors = seen.iter().map(|one| Executor { executor_info: executor_info(&one.pod) }).collect();
    let frameworks =
        frameworks(seen).into_values().map(|pods| Framework { framework_info: framework_info(pods[0]) });
    let state = State {
        get_tasks: Some(all_tasks(seen)),
        get_executors: Some(Executors { executors, completed_executors: Vec::new() }),
        get_frameworks: Some(Frameworks {
            frameworks: frameworks.collect(),
            completed_frameworks: Vec::new(),
        }),
    };
    Response { get_state: Some(state), ..Response::new(ResponseType::GetState) }
}

/// GET_CONTAINERS: executors; if wanted, what is nested in them.
pub(super) fn containers(seen: &[Seen], wanted: GetContainers, sessions: &[Arc<Session>]) -> Response {
    let mut all = Vec::new();
    for Seen { pod, tasks } in seen {
        let of = |id: ContainerId, pid: Option<u32>| Container {
            framework_id: Some(FrameworkId::new(&pod.pod.framework_id)),
            executor_id: Some(ExecutorId::new(&pod.pod.executor_id)),
            executor_name: Some(String::new()),
            container_id: id.clone(),
            container_status: Some(ContainerStatus {
                container_id: Some(id),
                network_infos: Vec::new(),
                executor_pid: pid,
            }),
        };
        all.push(of(ContainerId::new(&pod.pod.container_id), None));
        if !wanted.show_nested.unwrap_or(false) {
            continue;
        }
        for task in tasks.iter().filter(|task| !has_ended(task)) {
            let container = containers::task_container(pod, task);
            let below =
                sessions.iter().filter(|session| session.container.parent.as_deref() == Some(&container));
            all.extend(below.map(|session| of(session.container.clone(), None)));
            all.push(of(container, task.pid));
        }
    }
    Response {
        get_containers: Some(Containers { containers: all }),
        ..Response::new(ResponseType::GetContainers)
    }
}

fn all_tasks(seen: &[Seen]) -> Tasks {
    let mut tasks = Tasks::default();
    for Seen { pod, tasks: theirs } in seen {
        for task in theirs {
            let list = if has_ended(task) { &mut tasks.completed_tasks } else { &mut tasks.launched_tasks };
            list.push(api_task(pod, task));
        }
    }
    tasks
}

fn api_task(pod: &PodView, task: &Task) -> mesos::agent::Task {
    mesos::agent::Task {
        name: task.name.clone(),
        task_id: task.id.clone(),
        framework_id: FrameworkId::new(&pod.pod.framework_id),
        executor_id: Some(ExecutorId::new(&pod.pod.executor_id)),
        agent_id: AgentId::new(&pod.pod.agent_id),
        state: task.state.clone(),
        resources: task.resources.clone(),
        statuses: vec![status(pod, task)],
        status_update_state: Some(task.state.clone()),
        container: task.terminal.then(|| ContainerInfo {
            kind: Some("MESOS".to_owned()),
            tty_info: Some(TtyInfo::default()),
            ..ContainerInfo::default()
        }),
        user: task.user.clone(),
    }
}

fn status(pod: &PodView, task: &Task) -> TaskStatus {
    TaskStatus {
        task_id: task.id.clone(),
        state: task.state.clone(),
        message: task.message.clone(),
        source: Some(Source::Executor.into()),
        reason: task.reason.clone().map(reason),
        agent_id: Some(AgentId::new(&pod.pod.agent_id)),
        executor_id: Some(ExecutorId::new(&pod.pod.executor_id)),
        timestamp: Some(seconds(task.since)),
        uuid: None,
        healthy: task.healthy,
        check_status: None,
        labels: labels(task),
        container_status: Some(ContainerStatus {
            container_id: Some(containers::task_container(pod, task)),
            network_infos: vec![NetworkInfo { ip_addresses: vec![address(pod.pod.address)] }],
            executor_pid: None,
        }),
    }
}

fn address(address: IpAddr) -> IpAddress {
    let protocol = if address.is_ipv4() { NetworkProtocol::Ipv4 } else { NetworkProtocol::Ipv6 };
    IpAddress { protocol: Some(protocol.into()), ip_address: Some(address.to_string()) }
}

fn reason(name: String) -> Open<Reason> {
    serde_json::from_value(Value::String(name.clone())).unwrap_or(Open::Unknown(name))
}

/// As the executor's own statuses have them.
fn labels(task: &Task) -> Option<Labels> {
    let label = |key: &str, value: String| Label { key: key.to_owned(), value: Some(value) };
    let ready = task.ready.map(|ready| label("ready", ready.to_string()));
    let restarts = (task.restarts > 0).then(|| label("restarts", task.restarts.to_string()));
    let labels: Vec<Label> = ready.into_iter().chain(restarts).collect();
    (!labels.is_empty()).then_some(Labels { labels })
}

fn executor_info(pod: &PodView) -> ExecutorSummary {
    ExecutorSummary {
        kind: Some("CUSTOM".to_owned()),
        executor_id: ExecutorId::new(&pod.pod.executor_id),
        framework_id: Some(FrameworkId::new(&pod.pod.framework_id)),
        resources: Vec::new(),
        // What the framework called it is not known here.
        name: None,
    }
}

fn framework_info(pod: &PodView) -> FrameworkInfo {
    FrameworkInfo {
        // Executors run as root, the control socket proves it.
        user: "root".to_owned(),
        name: pod.pod.framework.clone(),
        id: Some(FrameworkId::new(&pod.pod.framework_id)),
        roles: Vec::new(),
        failover_timeout: None,
        checkpoint: None,
        capabilities: Vec::new(),
    }
}

fn frameworks(seen: &[Seen]) -> BTreeMap<&str, Vec<&PodView>> {
    let mut frameworks: BTreeMap<&str, Vec<&PodView>> = BTreeMap::new();
    for one in seen {
        frameworks.entry(&one.pod.pod.framework_id).or_default().push(&one.pod);
    }
    frameworks
}

/// `/master/state`: the agents of this host, and their tasks by framework.
pub(super) fn master(seen: &[Seen]) -> Value {
    let mut all = Vec::new();
    for (id, pods) in frameworks(seen) {
        let of = |ended: bool| -> Vec<Value> {
            let theirs = seen.iter().filter(|one| one.pod.pod.framework_id == id);
            let tasks = theirs.flat_map(|one| one.tasks.iter().map(|task| (&one.pod, task)));
            tasks
                .filter(|(_, task)| has_ended(task) == ended)
                .map(|(pod, task)| legacy_task(pod, task))
                .collect()
        };
        let executors: Vec<Value> = pods
            .iter()
            .map(|pod| {
                json!({"executor_id": pod.pod.executor_id, "name": pod.pod.name, "framework_id": id,
                "type": "CUSTOM", "slave_id": pod.pod.agent_id})
            })
            .collect();
        all.push(json!({
            "id": id, "name": pods[0].pod.framework, "user": "root", "active": true, "connected": true,
            "recovered": false, "hostname": pods[0].pod.hostname, "roles": [], "tasks": of(false),
            "unreachable_tasks": [], "completed_tasks": of(true), "offers": [], "executors": executors,
        }));
    }
    let slaves = slaves(seen);
    json!({
        "version": VERSION, "hostname": hostname(seen), "activated_slaves": slaves.len(), "slaves": slaves,
        "recovered_slaves": [], "frameworks": all, "completed_frameworks": [], "orphan_tasks": [],
        "unregistered_frameworks": [],
    })
}

/// `/master/state-summary`: the same without tasks.
pub(super) fn summary(seen: &[Seen]) -> Value {
    let frameworks: Vec<Value> = frameworks(seen)
        .into_iter()
        .map(|(id, pods)| json!({"id": id, "name": pods[0].pod.framework, "active": true, "connected": true}))
        .collect();
    json!({"hostname": hostname(seen), "slaves": slaves(seen), "frameworks": frameworks})
}

/// `/master/slaves`.
pub(super) fn agents(seen: &[Seen]) -> Value {
    json!({"slaves": slaves(seen), "recovered_slaves": []})
}

fn hostname(seen: &[Seen]) -> &str {
    seen.first().map_or("", |one| one.pod.pod.hostname.as_str())
}

fn slaves(seen: &[Seen]) -> Vec<Value> {
    let agents: BTreeMap<&str, &str> =
        seen.iter().map(|one| (one.pod.pod.agent_id.as_str(), one.pod.pod.hostname.as_str())).collect();
    let slave = |(id, hostname): (&str, &str)| {
        json!({"id": id, "hostname": hostname, "pid": pid(hostname), "active": true, "version": VERSION,
            "attributes": {}, "resources": {}})
    };
    agents.into_iter().map(slave).collect()
}

/// An agent's process id; its own port is not known here, and nobody is to call it: the default one.
fn pid(hostname: &str) -> String {
    format!("slave(1)@{hostname}:5051")
}

/// An agent's state. A pod's executor is told as one of type DEFAULT: clients then look for a task's files where they are,
/// in `<executor's folder>/tasks/<task id>`.
pub(super) fn agent(seen: &[Seen], agent: &Agent) -> Value {
    let all: Vec<Value> = frameworks(seen)
        .into_iter()
        .map(|(id, pods)| {
            let theirs = seen.iter().filter(|one| one.pod.pod.framework_id == id);
            json!({"id": id, "name": pods[0].pod.framework, "user": "root", "completed_executors": [],
                "executors": theirs.map(legacy_executor).collect::<Vec<_>>()})
        })
        .collect();
    let id = match agent {
        Agent::Named(id) => id.as_str(),
        Agent::Here => seen.first().map_or("", |one| one.pod.pod.agent_id.as_str()),
    };
    json!({"version": VERSION, "id": id, "pid": pid(hostname(seen)), "hostname": hostname(seen), "flags": {},
        "frameworks": all, "completed_frameworks": []})
}

fn legacy_executor(seen: &Seen) -> Value {
    let Seen { pod, tasks } = seen;
    let of = |ended: bool| -> Vec<Value> {
        tasks.iter().filter(|task| has_ended(task) == ended).map(|task| legacy_task(pod, task)).collect()
    };
    json!({"id": pod.pod.executor_id, "name": pod.pod.name, "source": "", "container": pod.pod.container_id,
        "directory": pod.pod.sandbox, "type": "DEFAULT", "tasks": of(false), "queued_tasks": [],
        "completed_tasks": of(true)})
}

fn legacy_task(pod: &PodView, task: &Task) -> Value {
    let status = json!({
        "state": task.state, "timestamp": seconds(task.since), "healthy": task.healthy,
        "labels": labels(task).map(|labels| labels.labels),
        "container_status": {"container_id": containers::task_container(pod, task), "executor_pid": task.pid},
    });
    json!({
        "id": task.id.as_str(), "name": task.name, "framework_id": pod.pod.framework_id,
        "executor_id": pod.pod.executor_id, "slave_id": pod.pod.agent_id, "state": task.state,
        "user": task.user, "resources": amounts(&task.resources), "statuses": [without_nulls(status)],
        "labels": labels(task).unwrap_or_default().labels,
    })
}

fn without_nulls(mut value: Value) -> Value {
    if let Value::Object(object) = &mut value {
        object.retain(|_, value| !value.is_null());
    }
    value
}

/// Scalar resources by name, the usual ones always.
fn amounts(resources: &[Resource]) -> Value {
    let mut amounts: BTreeMap<&str, f64> = ["cpus", "mem", "disk", "gpus"].map(|name| (name, 0.0)).into();
    for resource in resources {
        if let Some(scalar) = resource.scalar {
            *amounts.entry(&resource.name).or_default() += scalar.value;
        }
    }
    let amounts: Map<String, Value> =
        amounts.into_iter().map(|(name, amount)| (name.to_owned(), json!(amount))).collect();
    Value::Object(amounts)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into 53 bits for a long time")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

/// Whether an id is that of an agent of this host.
pub(super) fn knows_agent(endpoint: &Endpoint, agent: &Agent) -> bool {
    match agent {
        Agent::Here => true,
        Agent::Named(id) => endpoint.inventory.borrow().pods.values().any(|pod| pod.pod.agent_id == *id),
    }
}
