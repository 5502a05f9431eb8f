//! Kubernetes' remotecommand over WebSocket: exec and attach; and signals, which it lacks.
//!
//! ```text
//!  request -> query, upgrade: what is wanted (400)     pure
//!          -> gate: may they? (403)  -> limits (429)  -> 101
//!          -> session: control socket <-> client, to the status frame
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`query`] | what a request's query asks for: pure |
//! | [`upgrade`] | whether it may become a WebSocket: pure |
//! | [`frame`], [`inbound`] | what a client says: pure |
//! | [`outbound`] | what goes to the client |
//! | [`running`] | what runs behind a session |
//! | [`session`] | a session from its opening to its end |
//! | [`status`] | how it ended, for the client and the audit: pure |
//! | [`signal`] | a signal to a task or a session |

pub mod frame;
pub mod inbound;
pub mod outbound;
pub mod query;
pub mod running;
pub mod session;
pub mod signal;
pub mod status;
#[cfg(test)]
pub(crate) mod tests;
pub mod upgrade;

use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use task::control::{Exec, Task};

use self::query::{ExecQuery, QueryError, Streams};
use self::session::{Held, Opening, Session};
use self::upgrade::Upgrade;
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::Asked;
use crate::inventory::PodView;
use crate::policy::{Target, Verb};
use crate::protocol::kubernetes::status::failure;
use crate::session::ledger::Ledger;
use crate::session::registry::Owner;

/// The protocol's name in the audit.
const PROTOCOL: &str = "remotecommand";
/// How long a client may take from the answer to its first byte as a WebSocket's.
const UPGRADE: Duration = Duration::from_secs(10);

/// What is wanted of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subresource {
    /// A process in it.
    Exec,
    /// Its streams.
    Attach,
    /// A signal to it, or to a session in it.
    Signal,
}

/// Answers a request for a subresource of a task, which the caller may know of.
pub async fn handle(
    endpoint: Arc<Endpoint>,
    caller: Caller,
    pod: Arc<PodView>,
    task: Task,
    subresource: Subresource,
    request: Request<Incoming>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let wanted = match subresource {
        Subresource::Signal => return signal::handle(&endpoint, &caller, &pod, &task, &request).await,
        Subresource::Exec => query::exec(query).map(|query| Wanted::exec(&pod, &task, query)),
        Subresource::Attach => query::attach(query).map(|streams| Wanted::attach(&pod, &task, streams)),
    };
    match wanted {
        Ok(wanted) => open(&endpoint, &caller, &pod, &task, wanted, request),
        Err(error) => wrong(&error),
    }
}

/// Tells the audit of an attempt on a task that the caller may not even know of. The answer is the one for a task that is not there.
pub(super) fn attempt(
    endpoint: &Endpoint,
    caller: &Caller,
    pod: &PodView,
    task: &Task,
    subresource: Subresource,
    query: &str,
) {
    let wanted = match subresource {
        Subresource::Exec => query::exec(query).map(|query| Wanted::exec(pod, task, query)).ok(),
        Subresource::Attach => query::attach(query).map(|streams| Wanted::attach(pod, task, streams)).ok(),
        Subresource::Signal => None,
    };
    let verb = match subresource {
        Subresource::Exec => Verb::Exec,
        Subresource::Attach => Verb::Attach,
        Subresource::Signal => Verb::Signal,
    };
    let (verbs, command) =
        wanted.map_or_else(|| (vec![verb], Vec::new()), |wanted| (wanted.verbs, wanted.command));
    let (target, who) = (Some(target(pod, task)), &caller.who);
    let asked = Asked { who, peer: caller.peer, verbs, target, protocol: PROTOCOL, command: &command };
    // Whatever the verdict is: nothing is done.
    drop(endpoint.gate.ask(&asked));
}

/// A session that is wanted.
#[derive(Debug)]
struct Wanted {
    streams: Streams,
    verbs: Vec<Verb>,
    command: Vec<String>,
    opening: Opening,
}

impl Wanted {
    fn exec(pod: &PodView, task: &Task, query: ExecQuery) -> Self {
        let ExecQuery { streams, command, user, environment, folder, size } = query;
        let mut verbs = vec![Verb::Exec];
        verbs.extend(streams.tty.then_some(Verb::Tty));
        verbs.extend(user.clone().map(Verb::RunAs));
        // A terminal's kind is the client's to tell.
        let asked = environment.iter().filter(|(name, _)| name != "TERM");
        verbs.extend(asked.map(|(name, _)| Verb::Environment(name.clone())));
        let exec = Exec {
            task: task.id.clone(),
            command: command.clone(),
            user,
            environment,
            folder,
            stdin: streams.stdin,
            terminal: size,
        };
        Self { streams, verbs, command, opening: Opening::Exec { socket: pod.socket.clone(), exec } }
    }

    fn attach(pod: &PodView, task: &Task, streams: Streams) -> Self {
        let mut verbs = vec![Verb::Attach];
        verbs.extend(streams.tty.then_some(Verb::Tty));
        let opening = Opening::Attach { socket: pod.socket.clone(), task: task.id.clone() };
        Self { streams, verbs, command: Vec::new(), opening }
    }
}

/// Opens a session: everything that can be refused is refused before the upgrade is answered.
fn open(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    pod: &PodView,
    task: &Task,
    wanted: Wanted,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let upgrade = match upgrade::read(request.method(), request.version(), request.headers()) {
        Ok(upgrade) => upgrade,
        Err(error) => {
            let (code, reason) = error.status();
            return failure(code, reason, error.to_string());
        }
    };
    let Wanted { streams, verbs, command, opening } = wanted;
    let asked = Asked {
        who: &caller.who,
        peer: caller.peer,
        verbs,
        target: Some(target(pod, task)),
        protocol: PROTOCOL,
        command: &command,
    };
    let ledger = match endpoint.gate.ask(&asked) {
        Ok(granted) => Ledger::new(granted),
        Err(denied) => return failure(StatusCode::FORBIDDEN, "Forbidden", denied.to_string()),
    };
    let Upgrade::WebSocket { version, accept } = upgrade else {
        ledger.end("SPDY: told to use WebSocket");
        let message = "SPDY is not spoken here: use WebSocket (kubectl 1.31 and later do)";
        return failure(StatusCode::BAD_REQUEST, "BadRequest", message);
    };
    let permit = match endpoint.sessions.permit(PROTOCOL, &caller.who.user, &task.id.value) {
        Ok(permit) => permit,
        Err(error) => {
            ledger.end(error.to_string());
            return failure(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", error.to_string());
        }
    };
    let owner = Owner { user: caller.who.user.clone(), task: task.id.clone() };
    let mut registration = match endpoint.registry.register(owner) {
        Ok(registration) => registration,
        Err(error) => {
            ledger.end(error.to_string());
            return failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", error.to_string());
        }
    };
    if matches!(opening, Opening::Attach { .. }) {
        registration.signals.close();
    }
    let response = upgrade::accepted(version, &accept, &registration.id);
    let upgraded = hyper::upgrade::on(&mut request);
    let (timing, metrics) = (endpoint.timing, Arc::clone(&endpoint.metrics));
    // The session's task: its registration tells when it is over.
    tokio::spawn(async move {
        match tokio::time::timeout(UPGRADE, upgraded).await {
            Ok(Ok(upgraded)) => {
                let held = Held { ledger, permit, registration, metrics };
                Session::new(TokioIo::new(upgraded), version, streams, timing, held).run(opening).await;
            }
            _ => ledger.end("the client went away before the session began"),
        }
    });
    response
}

fn target<'a>(pod: &'a PodView, task: &'a Task) -> Target<'a> {
    Target { framework: &pod.pod.framework, pod: &pod.pod.name, task: &task.name }
}

fn wrong(error: &QueryError) -> Response<Body> {
    failure(StatusCode::BAD_REQUEST, "BadRequest", error.to_string())
}
