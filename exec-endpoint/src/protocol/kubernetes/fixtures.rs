//! Pods for tests.

use std::sync::Arc;

use mesos::common::{Open, Resource, TaskId, TaskState};
use task::control::{Pod, Task};

use crate::inventory::{Inventory, PodView};

/// The time at which everything begins.
pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) fn task(name: &str) -> Task {
    Task {
        id: TaskId::new(format!("{name}__1")),
        name: name.into(),
        state: Open::Known(TaskState::Running),
        since: START + 2000,
        launched_at: START + 1000,
        started_at: Some(START + 2000),
        last_end: None,
        healthy: None,
        ready: None,
        restarts: 0,
        reason: None,
        message: None,
        pid: Some(42),
        user: None,
        command: vec!["etcd".into(), "--name=a".into()],
        terminal: false,
        resources: vec![Resource::scalar("cpus", 0.5), Resource::scalar("mem", 256.0)],
        sandbox: "/sandbox".into(),
        usage: None,
    }
}

pub(crate) fn pod(name: &str, tasks: Vec<Task>) -> Pod {
    Pod {
        name: name.into(),
        framework_id: "f-1".into(),
        framework: "kube".into(),
        agent_id: "a-1".into(),
        hostname: "host-1".into(),
        executor_id: format!("{name}.e"),
        container_id: format!("c-{name}"),
        address: [10, 0, 0, 7].into(),
        own_network: true,
        started_at: START,
        sandbox: "/sandbox".into(),
        tasks,
    }
}

/// An inventory of this revision, of pods that all changed last then.
pub(crate) fn inventory(revision: u64, pods: Vec<Pod>) -> Inventory {
    let view = |pod: Pod| {
        let key = (pod.framework_id.clone(), pod.container_id.clone());
        (key, Arc::new(PodView { socket: "/nowhere/x.sock".into(), pod, revision }))
    };
    Inventory { pods: pods.into_iter().map(view).collect(), revision }
}
