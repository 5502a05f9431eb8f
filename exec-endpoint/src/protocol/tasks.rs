//! kubex's own paths: tasks by their names alone.
//!
//! ```text
//!  GET /kubex/v1/tasks                                     -> [task::control::Pod], with what the tasks use
//!      /kubex/v1/tasks/{name}/{exec,attach,signal,log}     -> as Kubernetes' paths; the header kubex-task names the task
//! ```
//!
//! A name is a task's name, its id, or a unique prefix of either. Tasks that the caller has no right to at all are as if they did not exist.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use task::control::{self, Answer, Pod, Task};

use crate::control::Control;
use crate::endpoint::{Body, Caller, Endpoint};
use crate::inventory::{Found, PodView};
use crate::policy::{Target, Verb};
use crate::protocol::kubernetes::{log, status::failure};
use crate::protocol::query;
use crate::protocol::remotecommand::{self, Subresource};

/// The header of an answer that names the task.
pub const TASK: HeaderName = HeaderName::from_static("kubex-task");

const ROOT: &str = "/kubex/v1/tasks";
/// How long an executor may take to tell what its tasks use.
const USAGE: Duration = Duration::from_secs(2);
/// How many names a message lists.
const MOST_NAMES: usize = 10;
/// What a header's value cannot hold.
const HEADER: &AsciiSet = &CONTROLS.add(b'%');

/// Answers a request below `/kubex/`.
pub async fn handle(endpoint: Arc<Endpoint>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let below = path.strip_prefix(ROOT).unwrap_or("-");
    let parts: Vec<&str> = below.trim_end_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] if request.method() == Method::GET => list(&endpoint, &caller).await,
        [""] => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "tasks are listed with GET"),
        ["", name, what] => match What::parse(what) {
            Some(what) => one(endpoint, caller, name, what, request).await,
            None => unknown(&path),
        },
        _ => unknown(&path),
    }
}

fn unknown(path: &str) -> Response<Body> {
    let message = format!("there is no {path}: see {ROOT} and {ROOT}/NAME/exec, attach, signal and log");
    failure(StatusCode::NOT_FOUND, "NotFound", message)
}

/// What is wanted of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Remote(Subresource),
    Log,
}

impl What {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "exec" => Some(Self::Remote(Subresource::Exec)),
            "attach" => Some(Self::Remote(Subresource::Attach)),
            "signal" => Some(Self::Remote(Subresource::Signal)),
            "log" => Some(Self::Log),
            _ => None,
        }
    }
}

/// Why a name means no task.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// No task has it, or none that the caller may know of.
    #[error("there is no task {0:?}: see the list of tasks")]
    Unknown(String),
    /// Several have it: these, each as something that means it alone.
    #[error("{name:?} could be {}: give more of the name, or the id", names.join(", "))]
    Ambiguous {
        /// What was given.
        name: String,
        /// Names, or ids where names are the same.
        names: Vec<String>,
    },
}

/// The task that a name means: a whole id, then a whole name, then a prefix. Where one framework has several of one name, the one that
/// started last.
///
/// # Errors
/// [`Unresolved`].
pub fn resolve<'a>(name: &str, tasks: impl Iterator<Item = Found<'a>>) -> Result<Found<'a>, Unresolved> {
    let tasks: Vec<Found<'_>> = tasks.collect();
    let unknown = || Unresolved::Unknown(name.to_owned());
    if name.is_empty() {
        return Err(unknown());
    }
    if let Some(found) = tasks.iter().find(|found| found.task.id.value == name) {
        return Ok(*found);
    }
    let whole: Vec<_> = tasks.iter().copied().filter(|found| found.task.name == name).collect();
    let starts =
        |found: &Found<'_>| found.task.name.starts_with(name) || found.task.id.value.starts_with(name);
    let candidates = if whole.is_empty() { tasks.iter().copied().filter(starts).collect() } else { whole };
    let key = |found: &Found<'a>| (&found.pod.pod.framework, &found.task.name);
    let last = candidates
        .iter()
        .copied()
        .max_by_key(|found| (found.pod.pod.started_at, found.task.launched_at))
        .ok_or_else(unknown)?;
    if candidates.iter().all(|found| key(found) == key(&last)) {
        return Ok(last);
    }
    let same_name = candidates.iter().all(|found| found.task.name == last.task.name);
    let mut names: Vec<String> = candidates
        .iter()
        .map(|found| if same_name { found.task.id.value.clone() } else { found.task.name.clone() })
        .collect();
    names.sort();
    names.dedup();
    if names.len() > MOST_NAMES {
        let more = names.len() - MOST_NAMES;
        names.truncate(MOST_NAMES);
        names.push(format!("{more} more"));
    }
    Err(Unresolved::Ambiguous { name: name.to_owned(), names })
}

async fn one(
    endpoint: Arc<Endpoint>,
    caller: Caller,
    name: &str,
    what: What,
    request: Request<Incoming>,
) -> Response<Body> {
    let name = match query::decode("the task's name", name) {
        Ok(name) => name,
        Err(error) => return failure(StatusCode::BAD_REQUEST, "BadRequest", error.to_string()),
    };
    let inventory = endpoint.inventory.borrow().clone();
    let sees = |found: &Found<'_>| {
        let pod = &found.pod.pod;
        let target = Target { framework: &pod.framework, pod: &pod.name, task: &found.task.name };
        endpoint.gate.sees(&caller.who, target)
    };
    let (pod, task) = match resolve(&name, inventory.tasks().filter(sees)) {
        Ok(Found { pod, task }) => (pod.clone(), task.clone()),
        Err(error @ Unresolved::Unknown(_)) => {
            let whole = |found: &Found<'_>| found.task.id.value == name || found.task.name == name;
            if let Some(Found { pod, task }) = inventory.tasks().find(whole) {
                let query = request.uri().query().unwrap_or_default();
                match what {
                    What::Remote(subresource) => {
                        remotecommand::attempt(&endpoint, &caller, pod, task, subresource, query);
                    }
                    What::Log => drop(log::ask(&endpoint, &caller, pod, task)),
                }
            }
            return failure(StatusCode::NOT_FOUND, "NotFound", error.to_string());
        }
        Err(error @ Unresolved::Ambiguous { .. }) => {
            return failure(StatusCode::CONFLICT, "Conflict", error.to_string());
        }
    };
    let named = HeaderValue::from_str(&utf8_percent_encode(&task.name, HEADER).to_string());
    let mut response = match what {
        What::Remote(subresource) => {
            remotecommand::handle(endpoint, caller, pod, task, subresource, request).await
        }
        What::Log if request.method() == Method::GET => {
            let query = request.uri().query().unwrap_or_default();
            log::log(endpoint, caller, pod, task, query).await
        }
        What::Log => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "a log is read with GET"),
    };
    if let Ok(named) = named {
        response.headers_mut().insert(TASK, named);
    }
    response
}

/// All tasks that the caller may list; what they use, where the caller may know and the executor tells in time.
async fn list(endpoint: &Endpoint, caller: &Caller) -> Response<Body> {
    let inventory = endpoint.inventory.borrow().clone();
    let seen = |pod: &Arc<PodView>| {
        pod.pod.tasks.iter().any(|task| may(endpoint, caller, &Verb::List, &pod.pod, task))
    };
    let pods = inventory.pods.values().filter(|pod| seen(pod)).map(|pod| async {
        let mut pod = fresh(pod).await;
        let mut tasks = std::mem::take(&mut pod.tasks);
        tasks.retain_mut(|task| {
            if !may(endpoint, caller, &Verb::Metrics, &pod, task) {
                task.usage = None;
            }
            may(endpoint, caller, &Verb::List, &pod, task)
        });
        pod.tasks = tasks;
        pod
    });
    let pods = join_all(pods).await;
    let json = match serde_json::to_vec(&pods) {
        Ok(json) => json,
        Err(error) => {
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string());
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(json)).map_err(|never| match never {}).boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The pod as its executor tells it now, or as it told last.
async fn fresh(view: &PodView) -> Pod {
    let asking = Control::ask(&view.socket, &control::Request::List);
    match tokio::time::timeout(USAGE, asking).await {
        Ok(Ok((_, Answer::Pod(pod), _))) => *pod,
        other => {
            tracing::debug!(socket = %view.socket.display(), ?other, "no answer to a list");
            view.pod.clone()
        }
    }
}

fn may(endpoint: &Endpoint, caller: &Caller, verb: &Verb, pod: &Pod, task: &Task) -> bool {
    let target = Target { framework: &pod.framework, pod: &pod.name, task: &task.name };
    endpoint.gate.allows(&caller.who, verb, Some(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod: its framework, when it started, its tasks (name, id).
    type Short<'a> = (&'a str, u64, &'a [(&'a str, &'a str)]);

    fn pods(all: &[Short<'_>], template: &Pod) -> Vec<Arc<PodView>> {
        let view = |(framework, started_at, tasks): &Short<'_>| {
            let task = |&(name, id): &(&str, &str)| Task {
                name: name.to_owned(),
                id: mesos::common::TaskId::new(id),
                ..template.tasks[0].clone()
            };
            let tasks = tasks.iter().map(task).collect();
            let pod = Pod {
                framework: (*framework).to_owned(),
                started_at: *started_at,
                tasks,
                ..template.clone()
            };
            Arc::new(PodView { socket: "s".into(), pod, revision: 0 })
        };
        all.iter().map(view).collect()
    }

    #[test]
    fn a_name_is_an_id_then_a_name_then_a_prefix_and_never_a_guess() {
        let template = remotecommand::tests::pod(&["t"]);
        let all = pods(
            &[
                ("kube", 1, &[("etcd-0-peer", "id-old"), ("web", "web-1-x")]),
                ("kube", 2, &[("etcd-0-peer", "id-new"), ("etcd-0-peer-log", "log-1")]),
                ("blue", 3, &[("web", "blue-9")]),
            ],
            &template,
        );
        let found = |name: &str| {
            let tasks = all.iter().flat_map(|pod| pod.pod.tasks.iter().map(move |task| Found { pod, task }));
            resolve(name, tasks).map(|found| found.task.id.value.clone())
        };
        assert_eq!(found("id-old").as_deref(), Ok("id-old"), "a whole id");
        assert_eq!(found("etcd-0-peer").as_deref(), Ok("id-new"), "a whole name, the one that started last");
        assert_eq!(found("etcd-0-peer-").as_deref(), Ok("log-1"), "a prefix of one name");
        assert_eq!(found("blue").as_deref(), Ok("blue-9"), "a prefix of an id");
        let ambiguous = |name: &str| found(name).unwrap_err().to_string();
        assert!(ambiguous("etcd").contains("etcd-0-peer, etcd-0-peer-log"));
        assert!(ambiguous("web").contains("blue-9, web-1-x"), "one name in two frameworks");
        for unknown in ["", "nobody", "ETCD-0-PEER", "*"] {
            assert_eq!(found(unknown), Err(Unresolved::Unknown(unknown.to_owned())));
        }
    }
}
