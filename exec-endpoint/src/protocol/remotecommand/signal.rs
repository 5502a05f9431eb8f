//! A signal to a task's first process, or to the process of a session in it.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use task::control::{self, Answer, RefusalKind, Task};

use super::query::{self, SignalQuery};
use super::{PROTOCOL, status, target, wrong};
use crate::control::{Control, ControlError};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::Asked;
use crate::inventory::PodView;
use crate::policy::Verb;
use crate::protocol::kubernetes::status::failure;
use crate::session::ledger::Ledger;
use crate::session::registry::NoSignal;

/// Answers `POST .../signal?signal=TERM[&session=id]`.
pub(super) async fn handle(
    endpoint: &Endpoint,
    caller: &Caller,
    pod: &PodView,
    task: &Task,
    request: &Request<Incoming>,
) -> Response<Body> {
    if request.method() != Method::POST {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "a signal is sent with POST");
    }
    let SignalQuery { signal, session } = match query::signal(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(error) => return wrong(&error),
    };
    // Whoever may exec in the task may signal what they have started there themselves.
    let owner = session.as_deref().and_then(|id| endpoint.registry.owner(id));
    let owner = owner.filter(|owner| owner.task == task.id);
    let own = owner.as_ref().is_some_and(|owner| owner.user == caller.who.user);
    let asked = Asked {
        who: &caller.who,
        peer: caller.peer,
        verbs: vec![if own { Verb::Exec } else { Verb::Signal }],
        target: Some(target(pod, task)),
        protocol: PROTOCOL,
        command: &[],
    };
    let ledger = match endpoint.gate.ask(&asked) {
        Ok(granted) => Ledger::new(granted),
        Err(denied) => return failure(StatusCode::FORBIDDEN, "Forbidden", denied.to_string()),
    };
    let sent = match session {
        Some(id) => {
            match owner.ok_or(NoSignal::Unknown).and_then(|_| endpoint.registry.signal(&id, signal)) {
                Ok(()) => Ok(()),
                Err(error @ NoSignal::Unknown) => Err((StatusCode::NOT_FOUND, "NotFound", error.to_string())),
                Err(error @ NoSignal::Busy) => Err((StatusCode::CONFLICT, "Conflict", error.to_string())),
            }
        }
        None => send(pod, task, signal)
            .await
            .map_err(|error| (code(&error), status::refusal(&error), error.to_string())),
    };
    match sent {
        Ok(()) => {
            ledger.end(format!("signal {signal} sent"));
            success()
        }
        Err((code, reason, message)) => {
            ledger.end(format!("signal {signal} not sent: {message}"));
            failure(code, reason, message)
        }
    }
}

async fn send(pod: &PodView, task: &Task, signal: i32) -> Result<(), ControlError> {
    let request = control::Request::Signal { task: task.id.clone(), signal };
    match Control::ask(&pod.socket, &request).await? {
        (_, Answer::Done, _) => Ok(()),
        (control, other, _) => Err(control.unexpected(&other)),
    }
}

fn code(error: &ControlError) -> StatusCode {
    match error {
        ControlError::Refused(refusal) => match refusal.kind {
            RefusalKind::UnknownTask => StatusCode::NOT_FOUND,
            RefusalKind::NotRunning => StatusCode::CONFLICT,
            RefusalKind::Forbidden => StatusCode::FORBIDDEN,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        },
        _ => StatusCode::BAD_GATEWAY,
    }
}

fn success() -> Response<Body> {
    const STATUS: &[u8] = br#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#;
    let mut response =
        Response::new(Full::new(Bytes::from_static(STATUS)).map_err(|never| match never {}).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
