//! WAIT, KILL and REMOVE of containers.

use hyper::Response;
use mesos::agent::{self, CallType, ResponseType, Waited};
use mesos::common::ContainerId;
use mesos::protobuf::schema;
use task::control::{Answer, End, RefusalKind, Request, Task};

use super::answer::{self, Refused};
use super::containers::{self, Container, Place};
use super::negotiate::Format;
use super::session::{Order, Phase};
use crate::control::{Control, ControlError};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::Closing;
use crate::policy::Verb;

/// WAIT_CONTAINER and WAIT_NESTED_CONTAINER.
pub(super) async fn wait(
    endpoint: &Endpoint,
    caller: &Caller,
    container: &ContainerId,
    call: CallType,
    format: Format,
) -> Result<Response<Body>, Refused> {
    let unknown = || Refused::not_found(format!("Container {} cannot be found", containers::text(container)));
    let found = containers::find(endpoint, &endpoint.mesos, caller, container, Verb::List);
    let waited = match found.ok_or_else(unknown)? {
        Container::Session(place, session) => {
            containers::may_touch(endpoint, caller, &place, &session)?;
            let mut phase = session.phase();
            let ended = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))).await;
            let ended = ended.map_err(|_| unknown())?;
            let Phase::Ended(exit_status) = *ended else { return Err(unknown()) };
            Waited { exit_status, ..Waited::default() }
        }
        Container::Task(place) => {
            containers::may_list(endpoint, caller, &place)?;
            wait_for_task(endpoint, place).await
        }
        Container::Pod(pod) => {
            let mut inventory = endpoint.inventory.clone();
            let gone = inventory.wait_for(|inventory| {
                !inventory.pods.values().any(|one| one.pod.container_id == pod.pod.container_id)
            });
            gone.await.map(drop).map_err(|_| unknown())?;
            Waited::default()
        }
    };
    let mut response;
    if call == CallType::WaitNestedContainer {
        response = agent::Response::new(ResponseType::WaitNestedContainer);
        response.wait_nested_container = Some(waited);
    } else {
        response = agent::Response::new(ResponseType::WaitContainer);
        response.wait_container = Some(waited);
    }
    Ok(answer::message(&schema::RESPONSE, &response, format))
}

/// Waits until a task has ended or is forgotten; what was last known of it counts.
async fn wait_for_task(endpoint: &Endpoint, mut place: Place) -> Waited {
    let mut inventory = endpoint.inventory.clone();
    while !has_ended(&place.task) {
        let key = (place.pod.pod.framework_id.clone(), place.pod.pod.container_id.clone());
        let current = inventory
            .borrow_and_update()
            .pods
            .get(&key)
            .and_then(|pod| pod.pod.tasks.iter().find(|task| task.id == place.task.id).cloned());
        match current {
            Some(task) => place.task = task,
            None => break,
        }
        if !has_ended(&place.task) && inventory.changed().await.is_err() {
            break;
        }
    }
    waited(place.task)
}

/// As an agent tells it: the state only of a task that did not end by itself.
fn waited(task: Task) -> Waited {
    let end = task.last_end.and_then(|last| last.end);
    let limited =
        task.reason.as_ref().is_some_and(|reason| reason.starts_with("REASON_CONTAINER_LIMITATION"));
    let waited = Waited { exit_status: end.map(End::wait_status), ..Waited::default() };
    if end.is_some() && !limited {
        return waited;
    }
    let state = has_ended(&task).then_some(task.state);
    Waited { state, reason: task.reason, message: task.message, ..waited }
}

pub(super) fn has_ended(task: &Task) -> bool {
    task.state.known().is_some_and(mesos::common::TaskState::is_terminal)
}

/// KILL_CONTAINER and KILL_NESTED_CONTAINER: a signal, to the first process.
pub(super) async fn kill(
    endpoint: &Endpoint,
    caller: &Caller,
    container: &ContainerId,
    signal: i32,
) -> Result<Response<Body>, Refused> {
    let unknown = || {
        let id = containers::text(container);
        Refused::not_found(format!("Container '{id}' cannot be found (or is already killed)"))
    };
    if !(0..=64).contains(&signal) {
        return Err(Refused::bad(format!("There is no signal {signal}")));
    }
    let found = containers::find(endpoint, &endpoint.mesos, caller, container, Verb::Signal);
    match found.ok_or_else(unknown)? {
        Container::Pod(_) => {
            Err(Refused::forbidden("Only tasks and sessions can be signalled, not an executor"))
        }
        Container::Session(_, session) if session.has_ended() => Err(unknown()),
        Container::Session(place, session) => {
            containers::may_touch(endpoint, caller, &place, &session)?;
            let granted = containers::ask(endpoint, caller, &place, vec![Verb::Signal], &[])?;
            // One that ends just now needs none.
            session.order(Order::Signal(signal)).await;
            granted.close(&Closing { reason: "signalled".to_owned(), ..Closing::default() });
            Ok(answer::done())
        }
        Container::Task(place) => {
            let granted = containers::ask(endpoint, caller, &place, vec![Verb::Signal], &[])?;
            let request = Request::Signal { task: place.task.id.clone(), signal };
            let asked = Control::ask(&place.pod.socket, &request).await;
            let reason = if asked.is_ok() { "signalled" } else { "not signalled" };
            granted.close(&Closing { reason: reason.to_owned(), ..Closing::default() });
            match asked {
                Ok((_, Answer::Done, _)) => Ok(answer::done()),
                Ok((control, other, _)) => Err(Refused::failed(control.unexpected(&other).to_string())),
                Err(ControlError::Refused(refusal)) => Err(match refusal.kind {
                    RefusalKind::UnknownTask | RefusalKind::NotRunning => unknown(),
                    RefusalKind::Forbidden => Refused::forbidden(refusal.message),
                    RefusalKind::Invalid | RefusalKind::Failed => Refused::bad(refusal.message),
                }),
                Err(error) => Err(Refused::failed(error.to_string())),
            }
        }
    }
}

/// REMOVE_CONTAINER and REMOVE_NESTED_CONTAINER. What nobody knows is removed.
pub(super) fn remove(
    endpoint: &Endpoint,
    caller: &Caller,
    container: &ContainerId,
) -> Result<Response<Body>, Refused> {
    let running = || Refused::failed("Nested container has not terminated yet");
    match containers::find(endpoint, &endpoint.mesos, caller, container, Verb::Signal) {
        None => Ok(answer::done()),
        Some(Container::Pod(_)) => Err(running()),
        Some(Container::Task(place)) => {
            if has_ended(&place.task) {
                Ok(answer::done())
            } else {
                Err(running())
            }
        }
        Some(Container::Session(place, session)) => {
            containers::may_touch(endpoint, caller, &place, &session)?;
            if !session.has_ended() {
                return Err(running());
            }
            endpoint.mesos.remove(container);
            Ok(answer::done())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::kubernetes::fixtures::task;
    use mesos::common::TaskState;
    use task::control::LastEnd;

    #[test]
    fn only_the_end_of_a_task_that_did_not_end_by_itself_has_a_state_and_a_reason() {
        let ended = |end: Option<End>, reason: &str| {
            let last = LastEnd { end, at: 2, started_at: Some(1), out_of_memory: false };
            let (state, message) = (TaskState::Failed.into(), Some("text".to_owned()));
            waited(Task {
                last_end: Some(last),
                reason: Some(reason.to_owned()),
                message,
                state,
                ..task("a")
            })
        };
        let by_itself = ended(Some(End::Code(7)), "REASON_COMMAND_EXECUTOR_FAILED");
        assert_eq!(by_itself, Waited { exit_status: Some(7 << 8), ..Waited::default() });
        let limited = ended(Some(End::Signal(9)), "REASON_CONTAINER_LIMITATION_MEMORY");
        assert_eq!((limited.exit_status, limited.message.as_deref()), (Some(9), Some("text")));
        assert_eq!(limited.reason.as_deref(), Some("REASON_CONTAINER_LIMITATION_MEMORY"));
        let lost = ended(None, "REASON_EXECUTOR_TERMINATED");
        assert_eq!((lost.exit_status, lost.state), (None, Some(TaskState::Failed.into())));
    }
}
