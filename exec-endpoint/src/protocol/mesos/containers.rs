//! What a container's id means: a pod, a task in it, or a session in a task. Nobody learns of what they may not list.

use std::sync::Arc;

use mesos::common::ContainerId;
use task::control::Task;

use super::answer::Refused;
use super::registry::Registry;
use super::session::Session;
use crate::endpoint::{Caller, Endpoint};
use crate::gate::{Asked, Granted};
use crate::inventory::PodView;
use crate::policy::{Target, Verb};

/// As the audit and the metrics name it.
pub(super) const PROTOCOL: &str = "mesos";

/// A task and its pod, kept while a request lasts.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) pod: Arc<PodView>,
    pub(super) task: Task,
}

impl Place {
    /// For the gate.
    pub(super) fn target(&self) -> Target<'_> {
        target(&self.pod, &self.task)
    }
}

/// What a container is.
#[derive(Debug, Clone)]
pub(super) enum Container {
    /// A pod instance: an executor.
    Pod(Arc<PodView>),
    /// A task.
    Task(Place),
    /// A process that was started in a task.
    Session(Place, Arc<Session>),
}

/// The container's id of a task: nested in its pod's.
pub(super) fn task_container(pod: &PodView, task: &Task) -> ContainerId {
    ContainerId::new(&pod.pod.container_id).nested(task.id.as_str())
}

pub(super) fn target<'a>(pod: &'a PodView, task: &'a Task) -> Target<'a> {
    Target { framework: &pod.pod.framework, pod: &pod.pod.name, task: &task.name }
}

/// An id as an agent writes it: from the outermost container to the innermost.
pub(super) fn text(container: &ContainerId) -> String {
    match &container.parent {
        Some(parent) => format!("{}.{}", text(parent), container.value),
        None => container.value.clone(),
    }
}

/// What a container is, if the caller may see it.
pub(super) fn find(
    endpoint: &Endpoint,
    registry: &Registry,
    caller: &Caller,
    container: &ContainerId,
) -> Option<Container> {
    if let Some(pod) = pod(endpoint, caller, container) {
        return Some(Container::Pod(pod));
    }
    if let Some(place) = exact_task(endpoint, caller, container) {
        return Some(Container::Task(place));
    }
    let place = task(endpoint, caller, container.parent.as_deref()?)?;
    let session = registry.find(container)?;
    Some(Container::Session(place, session))
}

/// What a container is that somebody wants to attach to. An agent knows not what has no executor here, and else fails.
pub(super) fn find_to_attach(
    endpoint: &Endpoint,
    caller: &Caller,
    container: &ContainerId,
) -> Result<Container, Refused> {
    find(endpoint, &endpoint.mesos, caller, container).ok_or_else(|| {
        if pod(endpoint, caller, outermost(container)).is_some() {
            unknown(container)
        } else {
            Refused::not_found(format!("Container {} cannot be found", text(container)))
        }
    })
}

/// What an agent says of a container that is not, or no longer, below an executor that it knows.
pub(super) fn unknown(container: &ContainerId) -> Refused {
    Refused::failed(format!("Unknown container {}", text(container)))
}

fn outermost(container: &ContainerId) -> &ContainerId {
    container.parent.as_deref().map_or(container, outermost)
}

/// The task that a session's parent means: itself, or the only one of its pod, for clients that know no deeper id.
pub(super) fn task(endpoint: &Endpoint, caller: &Caller, container: &ContainerId) -> Option<Place> {
    exact_task(endpoint, caller, container).or_else(|| {
        let pod = pod(endpoint, caller, container)?;
        match pod.pod.tasks.as_slice() {
            [only] => Some(Place { task: only.clone(), pod: pod.clone() }),
            _ => None,
        }
    })
}

fn exact_task(endpoint: &Endpoint, caller: &Caller, container: &ContainerId) -> Option<Place> {
    let pod = pod(endpoint, caller, container.parent.as_deref()?)?;
    let task = pod.pod.tasks.iter().find(|task| task.id.as_str() == container.value)?.clone();
    let place = Place { pod, task };
    endpoint.gate.allows(&caller.who, &Verb::List, Some(place.target())).then_some(place)
}

fn pod(endpoint: &Endpoint, caller: &Caller, container: &ContainerId) -> Option<Arc<PodView>> {
    if container.parent.is_some() {
        return None;
    }
    let inventory = endpoint.inventory.borrow().clone();
    let pod = inventory.pods.values().find(|pod| pod.pod.container_id == container.value)?;
    sees_pod(endpoint, caller, pod).then(|| pod.clone())
}

/// Whether the caller may see any of a pod's tasks.
pub(super) fn sees_pod(endpoint: &Endpoint, caller: &Caller, pod: &PodView) -> bool {
    pod.pod.tasks.iter().any(|task| endpoint.gate.allows(&caller.who, &Verb::List, Some(target(pod, task))))
}

/// Asks the gate.
pub(super) fn ask(
    endpoint: &Endpoint,
    caller: &Caller,
    place: &Place,
    verbs: Vec<Verb>,
    command: &[String],
) -> Result<Granted, Refused> {
    let asked = Asked {
        who: &caller.who,
        peer: caller.peer,
        verbs,
        target: Some(place.target()),
        protocol: PROTOCOL,
        command,
    };
    endpoint.gate.ask(&asked).map_err(|denied| Refused::forbidden(denied.to_string()))
}

/// Whether the caller may touch a session: their own, or any with the right to exec in its task.
pub(super) fn may_touch(
    endpoint: &Endpoint,
    caller: &Caller,
    place: &Place,
    session: &Session,
) -> Result<(), Refused> {
    if session.user == caller.who.user || endpoint.gate.allows(&caller.who, &Verb::Exec, Some(place.target()))
    {
        return Ok(());
    }
    Err(Refused::forbidden(format!("{} belongs to another user", text(&session.container))))
}
