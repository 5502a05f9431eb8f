//! Pods and namespaces as Kubernetes objects (`core/v1`): pure.

use jiff::Timestamp;
use mesos::common::TaskState;
use serde_json::{Map, Value, json};
use task::control::{LastEnd, Task};

use super::view::{View, container_name};

/// The phase of a pod, by its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has run yet.
    Pending,
    /// Something runs, or will again.
    Running,
    /// All has ended well.
    Succeeded,
    /// All has ended, not all well.
    Failed,
}

impl Phase {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// The state of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// It has no process now, and will have one.
    Waiting {
        /// Why, in one word.
        reason: &'static str,
        /// Why, for people.
        message: Option<String>,
    },
    /// It has a process.
    Running {
        /// When that started, milliseconds since 1970.
        started_at: Option<u64>,
    },
    /// Its last process has ended, and there will be no other.
    Terminated(Terminated),
}

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// The exit code: 128 and the signal's number for one that died of a signal.
    pub code: i32,
    /// The signal it died of.
    pub signal: Option<i32>,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, for people.
    pub message: Option<String>,
    /// When it had started, milliseconds since 1970.
    pub started_at: Option<u64>,
    /// When it ended, milliseconds since 1970.
    pub finished_at: Option<u64>,
}

/// The state of a task as a container's.
pub fn state_of(task: &Task) -> ContainerState {
    let known = task.state.known();
    if known.is_some_and(TaskState::is_terminal) {
        return ContainerState::Terminated(ended(task, known == Some(TaskState::Finished)));
    }
    match (task.pid, task.last_end) {
        (Some(_), _) => ContainerState::Running { started_at: task.started_at },
        (None, Some(_)) => {
            ContainerState::Waiting { reason: "CrashLoopBackOff", message: task.message.clone() }
        }
        (None, None) => {
            ContainerState::Waiting { reason: "ContainerCreating", message: task.message.clone() }
        }
    }
}

/// How the process before the present one ended.
pub fn last_state_of(task: &Task) -> Option<Terminated> {
    let ended = task.state.known().is_some_and(TaskState::is_terminal);
    task.last_end.filter(|_| !ended).map(|last| terminated(&last, None))
}

/// Whether a task can be used.
pub fn is_ready(task: &Task) -> bool {
    matches!(state_of(task), ContainerState::Running { .. })
        && task.ready.unwrap_or(true)
        && task.healthy.unwrap_or(true)
}

/// The phase of a pod.
pub fn phase_of(view: &View) -> Phase {
    let (mut begun, mut going, mut well) = (false, false, true);
    for task in view.tasks() {
        match state_of(task) {
            ContainerState::Terminated(end) => {
                begun = true;
                well &= end.code == 0;
            }
            ContainerState::Running { .. } => (begun, going) = (true, true),
            ContainerState::Waiting { .. } => {
                going = true;
                begun |= task.last_end.is_some() || task.started_at.is_some();
            }
        }
    }
    match (going, begun) {
        (true, true) => Phase::Running,
        (true, false) => Phase::Pending,
        (false, _) if well => Phase::Succeeded,
        (false, _) => Phase::Failed,
    }
}

/// Since when all of it is being ended, if it is; milliseconds since 1970.
pub fn ending_since(view: &View) -> Option<u64> {
    let mut left =
        view.tasks().filter(|task| !task.state.known().is_some_and(TaskState::is_terminal)).peekable();
    left.peek()?;
    let since = |task: &Task| (task.state.known() == Some(TaskState::Killing)).then_some(task.since);
    left.map(since).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The labels of a pod.
pub fn label<'a>(view: &'a View, key: &str) -> Option<&'a str> {
    labels(view).into_iter().find(|(own, _)| *own == key).map(|(_, value)| value)
}

/// The fields of a pod that selectors may ask for.
pub const FIELDS: [&str; 4] = ["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"];

/// One of [`FIELDS`].
pub fn field<'a>(view: &'a View, name: &str) -> Option<&'a str> {
    let pod = &view.pod.pod;
    Some(match name {
        "metadata.name" => &pod.name,
        "metadata.namespace" => &pod.framework,
        "spec.nodeName" => &pod.hostname,
        "status.phase" => phase_of(view).name(),
        _ => return None,
    })
}

/// The metadata of a pod. The revision is the pod's own, unless it is known to be later.
pub fn metadata(view: &View, revision: Option<u64>) -> Value {
    let pod = &view.pod.pod;
    let labels: Map<String, Value> =
        labels(view).into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
    let mut metadata = json!({
        "name": pod.name,
        "namespace": pod.framework,
        "uid": pod.container_id,
        "resourceVersion": revision.unwrap_or(view.pod.revision).to_string(),
        "creationTimestamp": time(pod.started_at),
        "labels": labels,
        "annotations": { "sandbox": pod.sandbox },
    });
    if let Some(since) = ending_since(view) {
        metadata["deletionTimestamp"] = time(since).into();
    }
    metadata
}

/// A pod as an object.
pub fn pod(view: &View, revision: Option<u64>) -> Value {
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata(view, revision),
        "spec": spec(view),
        "status": status(view),
    })
}

/// A list of objects.
pub fn list(kind: &str, version: &str, revision: u64, items: Vec<Value>) -> Value {
    json!({
        "kind": kind,
        "apiVersion": version,
        "metadata": { "resourceVersion": revision.to_string() },
        "items": items,
    })
}

/// A namespace: a framework's name.
pub fn namespace(name: &str, created: u64, revision: u64) -> Value {
    json!({
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "resourceVersion": revision.to_string(),
            "creationTimestamp": time(created),
            "labels": { "kubernetes.io/metadata.name": name },
        },
        "spec": { "finalizers": ["kubernetes"] },
        "status": { "phase": "Active" },
    })
}

/// RFC 3339 in whole seconds, of milliseconds since 1970.
pub fn time(milliseconds: u64) -> String {
    let seconds = i64::try_from(milliseconds / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
}

fn labels(view: &View) -> [(&'static str, &str); 2] {
    let pod = &view.pod.pod;
    [("executor", &pod.executor_id), ("framework", &pod.framework)]
}

fn ended(task: &Task, finished: bool) -> Terminated {
    if let Some(last) = task.last_end {
        return terminated(&last, task.message.clone());
    }
    let (code, reason) = if finished { (0, "Completed") } else { (128, "ContainerCannotRun") };
    Terminated {
        code,
        signal: None,
        reason,
        message: task.message.clone(),
        started_at: task.started_at,
        finished_at: Some(task.since),
    }
}

fn terminated(last: &LastEnd, message: Option<String>) -> Terminated {
    let code = last.end.map_or(137, task::control::End::shell_code);
    let signal = match last.end {
        Some(task::control::End::Signal(number)) => Some(number),
        _ => None,
    };
    let reason = match (last.out_of_memory, last.end, code) {
        (true, ..) => "OOMKilled",
        (false, None, _) => "ContainerStatusUnknown",
        (false, _, 0) => "Completed",
        _ => "Error",
    };
    Terminated { code, signal, reason, message, started_at: last.started_at, finished_at: Some(last.at) }
}

fn spec(view: &View) -> Value {
    let pod = &view.pod.pod;
    let containers: Vec<Value> = view.tasks().map(|task| container(&pod.name, task)).collect();
    json!({
        "containers": containers,
        "nodeName": pod.hostname,
        "hostNetwork": !pod.own_network,
        "restartPolicy": "Always",
    })
}

fn container(pod: &str, task: &Task) -> Value {
    let resources = resources(task);
    json!({
        "name": container_name(pod, &task.name),
        "image": "",
        "command": task.command,
        "workingDir": task.sandbox,
        "resources": { "limits": resources, "requests": resources },
        "stdin": task.terminal,
        "tty": task.terminal,
    })
}

/// Quantities: processors in thousandths, the others (in MB, which Mesos means as MiB) in MiB.
fn resources(task: &Task) -> Value {
    let mut all = Map::new();
    for resource in &task.resources {
        let Some(amount) = resource.scalar.as_ref().map(|scalar| scalar.value) else { continue };
        let (name, quantity) = match resource.name.as_str() {
            "cpus" => ("cpu", format!("{}m", (amount * 1000.0).round())),
            "mem" => ("memory", format!("{}Mi", amount.round())),
            "disk" => ("ephemeral-storage", format!("{}Mi", amount.round())),
            _ => continue,
        };
        all.insert(name.to_owned(), quantity.into());
    }
    all.into()
}

fn status(view: &View) -> Value {
    let pod = &view.pod.pod;
    let phase = phase_of(view);
    let ready = view.tasks().all(is_ready);
    let since = view.tasks().map(|task| task.since).max().unwrap_or(pod.started_at);
    let condition = |kind: &str, holds: bool, since: u64| {
        let mut condition = json!({
            "type": kind,
            "status": if holds { "True" } else { "False" },
            "lastTransitionTime": time(since),
        });
        if !holds {
            let reason = if phase == Phase::Succeeded { "PodCompleted" } else { "ContainersNotReady" };
            condition["reason"] = reason.into();
        }
        condition
    };
    let statuses: Vec<Value> = view.tasks().map(|task| container_status(&pod.name, task)).collect();
    let address = pod.address.to_string();
    let mut status = json!({
        "phase": phase.name(),
        "conditions": [
            condition("PodScheduled", true, pod.started_at),
            condition("Initialized", true, pod.started_at),
            condition("ContainersReady", ready, since),
            condition("Ready", ready, since),
        ],
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "startTime": time(pod.started_at),
        "containerStatuses": statuses,
    });
    if !pod.own_network {
        status["hostIP"] = address.clone().into();
        status["hostIPs"] = json!([{ "ip": address }]);
    }
    status
}

fn container_status(pod: &str, task: &Task) -> Value {
    let state = state_of(task);
    let state_object = match &state {
        ContainerState::Waiting { reason, message } => {
            json!({ "waiting": with_message(json!({ "reason": reason }), message.as_ref()) })
        }
        ContainerState::Running { started_at } => {
            json!({ "running": started_at.map_or(json!({}), |at| json!({ "startedAt": time(at) })) })
        }
        ContainerState::Terminated(end) => json!({ "terminated": terminated_object(task, end) }),
    };
    let last =
        last_state_of(task).map_or(json!({}), |end| json!({ "terminated": terminated_object(task, &end) }));
    json!({
        "name": container_name(pod, &task.name),
        "image": "",
        "imageID": "",
        "containerID": format!("mesos://{}", task.id),
        "ready": is_ready(task),
        "started": matches!(state, ContainerState::Running { .. }),
        "restartCount": task.restarts,
        "state": state_object,
        "lastState": last,
    })
}

fn terminated_object(task: &Task, end: &Terminated) -> Value {
    let mut object = with_message(
        json!({ "exitCode": end.code, "reason": end.reason, "containerID": format!("mesos://{}", task.id) }),
        end.message.as_ref(),
    );
    if let Some(signal) = end.signal {
        object["signal"] = signal.into();
    }
    for (name, at) in [("startedAt", end.started_at), ("finishedAt", end.finished_at)] {
        if let Some(at) = at {
            object[name] = time(at).into();
        }
    }
    object
}

fn with_message(mut object: Value, message: Option<&String>) -> Value {
    if let Some(message) = message {
        object["message"] = message.clone().into();
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::kubernetes::fixtures::{START, inventory, pod as a_pod, task};
    use crate::protocol::kubernetes::view::visible;
    use mesos::common::Open;
    use task::control::End;

    fn view(tasks: Vec<Task>) -> View {
        visible(&inventory(9, vec![a_pod("etcd-0", tasks)]), |_, _| true).into_values().next().unwrap()
    }

    fn with_state(state: TaskState, end: Option<End>) -> Task {
        let last_end = end.map(|end| LastEnd {
            end: Some(end),
            at: START + 5000,
            started_at: Some(START + 2000),
            out_of_memory: false,
        });
        Task { state: Open::Known(state), pid: None, last_end, ..task("etcd-0-peer") }
    }

    #[test]
    fn a_running_pod_has_all_that_kubectl_shows() {
        let pod = pod(&view(vec![Task { terminal: true, ..task("etcd-0-peer") }]), None);
        assert_eq!(pod["metadata"]["resourceVersion"], "9");
        assert_eq!(pod["metadata"]["creationTimestamp"], "2023-11-14T22:13:20Z");
        assert_eq!(pod["metadata"]["labels"], json!({ "executor": "etcd-0.e", "framework": "kube" }));
        let container = &pod["spec"]["containers"][0];
        assert_eq!(
            (&container["name"], &container["tty"], &container["stdin"]),
            (&json!("peer"), &json!(true), &json!(true))
        );
        assert_eq!(container["resources"]["limits"], json!({ "cpu": "500m", "memory": "256Mi" }));
        let status = &pod["status"]["containerStatuses"][0];
        assert_eq!(status["state"]["running"]["startedAt"], "2023-11-14T22:13:22Z");
        assert_eq!(
            (&pod["status"]["phase"], &status["ready"], &status["lastState"]),
            (&json!("Running"), &json!(true), &json!({}))
        );
        assert_eq!(pod["status"]["conditions"][3]["status"], "True");
    }

    #[test]
    fn the_phase_is_that_of_all_tasks_together() {
        let finished = || with_state(TaskState::Finished, Some(End::Code(0)));
        let failed = || with_state(TaskState::Failed, Some(End::Code(1)));
        let starting = || Task { started_at: None, ..with_state(TaskState::Starting, None) };
        let cases = [
            (vec![task("a")], Phase::Running),
            (vec![starting()], Phase::Pending),
            (vec![starting(), task("a")], Phase::Running),
            (vec![finished(), finished()], Phase::Succeeded),
            (vec![finished(), failed()], Phase::Failed),
            (vec![failed(), task("a")], Phase::Running),
            (vec![with_state(TaskState::Killed, Some(End::Signal(15)))], Phase::Failed),
            (vec![with_state(TaskState::Running, Some(End::Code(1)))], Phase::Running),
        ];
        for (tasks, phase) in cases {
            assert_eq!(phase_of(&view(tasks.clone())), phase, "{tasks:?}");
        }
    }

    #[test]
    fn an_end_says_how_and_a_restarted_container_has_a_last_state() {
        let killed = state_of(&with_state(TaskState::Failed, Some(End::Signal(9))));
        let ContainerState::Terminated(end) = killed else { panic!("{killed:?}") };
        assert_eq!((end.code, end.signal, end.reason), (137, Some(9), "Error"));
        let waiting = with_state(TaskState::Running, Some(End::Code(3)));
        assert_eq!(state_of(&waiting), ContainerState::Waiting { reason: "CrashLoopBackOff", message: None });
        assert_eq!(last_state_of(&waiting).unwrap().code, 3);
        let mut starved = with_state(TaskState::Failed, Some(End::Signal(9)));
        starved.last_end.as_mut().unwrap().out_of_memory = true;
        assert!(matches!(
            state_of(&starved),
            ContainerState::Terminated(Terminated { reason: "OOMKilled", .. })
        ));
        let never = with_state(TaskState::Error, None);
        assert!(matches!(state_of(&never), ContainerState::Terminated(Terminated { code: 128, .. })));
    }

    #[test]
    fn a_pod_is_ending_when_all_that_is_left_of_it_is_being_killed() {
        let killing = || Task { state: Open::Known(TaskState::Killing), since: START + 9000, ..task("a") };
        assert_eq!(
            ending_since(&view(vec![killing(), with_state(TaskState::Finished, None)])),
            Some(START + 9000)
        );
        assert_eq!(ending_since(&view(vec![killing(), task("b")])), None);
        assert_eq!(ending_since(&view(vec![with_state(TaskState::Finished, None)])), None);
    }
}
