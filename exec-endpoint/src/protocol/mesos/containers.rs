//! What a container's id means: a pod, a task in it, or a session in a task. Nobody learns of what they have no right to.

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

/// What a container is, if the caller has any right to it. If not, the attempt to do what needs this right is told, and the
/// answer is to be the one for a container that is not there.
pub(super) fn find(
    endpoint: &Endpoint,
    registry: &Registry,
    caller: &Caller,
    container: &ContainerId,
    verb: Verb,
) -> Option<Container> {
    let place = place(endpoint, container).or_else(|| place(endpoint, container.parent.as_deref()?));
    if let Some(place) = place.filter(|place| !sees(endpoint, caller, &place.pod, &place.task)) {
        drop(ask(endpoint, caller, &place, vec![verb], &[]));
        return None;
    }
    if let Some(pod) = pod(endpoint, container) {
        return sees_pod(endpoint, caller, &pod).then_some(Container::Pod(pod));
    }
    if let Some(place) = exact_task(endpoint, container) {
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
    find(endpoint, &endpoint.mesos, caller, container, Verb::Attach).ok_or_else(|| {
        if pod(endpoint, outermost(container)).is_some_and(|pod| sees_pod(endpoint, caller, &pod)) {
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

/// The task that a session's parent means, if the caller has any right to it.
pub(super) fn task(endpoint: &Endpoint, caller: &Caller, container: &ContainerId) -> Option<Place> {
    place(endpoint, container).filter(|place| sees(endpoint, caller, &place.pod, &place.task))
}

/// The task that a session's parent means, whoever may know of it: itself, or the only one of its pod, for clients that know no
/// deeper id.
pub(super) fn place(endpoint: &Endpoint, container: &ContainerId) -> Option<Place> {
    exact_task(endpoint, container).or_else(|| {
        let pod = pod(endpoint, container)?;
        match pod.pod.tasks.as_slice() {
            [only] => Some(Place { task: only.clone(), pod: pod.clone() }),
            _ => None,
        }
    })
}

/// Whether a container is a task that the caller has any right to.
pub(super) fn is_seen_task(endpoint: &Endpoint, caller: &Caller, container: &ContainerId) -> bool {
    exact_task(endpoint, container).is_some_and(|place| sees(endpoint, caller, &place.pod, &place.task))
}

fn exact_task(endpoint: &Endpoint, container: &ContainerId) -> Option<Place> {
    let pod = pod(endpoint, container.parent.as_deref()?)?;
    let task = pod.pod.tasks.iter().find(|task| task.id.as_str() == container.value)?.clone();
    Some(Place { pod, task })
}

fn pod(endpoint: &Endpoint, container: &ContainerId) -> Option<Arc<PodView>> {
    if container.parent.is_some() {
        return None;
    }
    let inventory = endpoint.inventory.borrow().clone();
    inventory.pods.values().find(|pod| pod.pod.container_id == container.value).cloned()
}

fn sees(endpoint: &Endpoint, caller: &Caller, pod: &PodView, task: &Task) -> bool {
    endpoint.gate.sees(&caller.who, target(pod, task))
}

/// Whether the caller has any right to any of a pod's tasks.
fn sees_pod(endpoint: &Endpoint, caller: &Caller, pod: &PodView) -> bool {
    pod.pod.tasks.iter().any(|task| sees(endpoint, caller, pod, task))
}

/// Whether the caller may know how a task is.
pub(super) fn may_list(endpoint: &Endpoint, caller: &Caller, place: &Place) -> Result<(), Refused> {
    if endpoint.gate.allows(&caller.who, &Verb::List, Some(place.target())) {
        return Ok(());
    }
    Err(Refused::forbidden(format!("{} may not list {}", caller.who.user, place.task.name)))
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
