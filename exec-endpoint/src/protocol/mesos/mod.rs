//! Mesos's side: the agent's operator API v1, and what the dcos CLI reads beside it.
//!
//! ```text
//!  path -> route -> Api: negotiate (headers) -> call (body, checked) -> state | output | input | ending
//!               '-> state of a master or an agent, files
//!  LAUNCH_NESTED_CONTAINER_SESSION -> session (its worker owns the process) <- registry <- ATTACH_*, WAIT_*, KILL_*, REMOVE_*
//! ```
//! A pod's container is its executor's, a task's is nested in it by the task's id, a session's in that by its client's own id.
//!
//! | module | what it does |
//! |---|---|
//! | `route` | what a path means |
//! | `negotiate` | which formats a request and its answer have |
//! | `call` | a call, read and checked |
//! | `containers` | what a container's id means, for whom |
//! | `registry`, `session` | the processes that were started by this protocol |
//! | `output`, `input`, `ending` | the calls about containers |
//! | `state`, `files` | what there is, and the logs |
//! | `answer` | answers as Mesos gives them |

mod answer;
mod call;
mod containers;
mod ending;
mod files;
mod input;
mod negotiate;
mod output;
mod registry;
mod route;
mod session;
mod state;

use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use mesos::protobuf::schema;
use serde_json::Value;

use answer::Refused;
use call::Wanted;
use input::Records;
use negotiate::Shape;
pub use registry::Registry;
use route::{Agent, Route};

use crate::endpoint::{Body, Caller, Endpoint};

/// The longest call outside a stream.
const LONGEST_CALL: usize = 1 << 20;

/// Answers a request under one of Mesos's paths.
pub async fn handle(endpoint: Arc<Endpoint>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    let done = answer(&endpoint, &caller, request).await;
    done.unwrap_or_else(Response::from)
}

async fn answer(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let not_found = || Refused::not_found("404 Not Found.");
    let route = route::route(request.uri().path()).ok_or_else(not_found)?;
    let agent = match &route {
        Route::Api(agent) | Route::AgentState(agent) | Route::Files(agent, _) => agent.clone(),
        Route::MasterState | Route::MasterSummary | Route::MasterSlaves => Agent::Here,
    };
    if !state::knows_agent(endpoint, &agent) {
        return Err(not_found());
    }
    let method = request.method().clone();
    let read = |value: fn(&[state::Seen]) -> Value| {
        let body = value(&state::seen(endpoint, caller, &agent)).to_string();
        answer::whole(StatusCode::OK, "application/json", body)
    };
    match route {
        Route::Api(_) if method != Method::POST => Ok(answer::method_not_allowed("POST", &method)),
        Route::Api(_) => api(endpoint, caller, &agent, request).await,
        _ if method != Method::GET && method != Method::HEAD => {
            Ok(answer::method_not_allowed("GET", &method))
        }
        Route::MasterState => Ok(read(state::master)),
        Route::MasterSummary => Ok(read(state::summary)),
        Route::MasterSlaves => Ok(read(state::agents)),
        Route::AgentState(_) => {
            let body = state::agent(&state::seen(endpoint, caller, &agent), &agent).to_string();
            Ok(answer::whole(StatusCode::OK, "application/json", body))
        }
        Route::Files(_, file) => {
            let query = request.uri().query().unwrap_or_default();
            files::answer(endpoint, caller, &agent, file, query).await
        }
    }
}

async fn api(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    agent: &Agent,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refused> {
    let shapes = negotiate::shapes(request.headers())?;
    let format = shapes.request.format();
    let body = request.into_body();
    let (bytes, records) = match shapes.request {
        Shape::Single(_) => {
            let too_long =
                |error| Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("read the call: {error}"));
            (Limited::new(body, LONGEST_CALL).collect().await.map_err(too_long)?.to_bytes(), None)
        }
        Shape::Stream(_) => {
            let mut records = Records::new(body);
            let first = records.next().await?;
            let first = first.ok_or_else(|| Refused::bad("Received EOF while reading request body"))?;
            (first, Some(records))
        }
    };
    let (kind, wanted) = call::check(call::read(&bytes, format).map_err(Refused::bad)?)?;
    negotiate::fits(kind, shapes)?;
    let answer_format = shapes.answer.format();
    let respond = |response| Ok(answer::message(&schema::RESPONSE, &response, answer_format));
    let seen = || state::seen(endpoint, caller, agent);
    match wanted {
        Wanted::Health => respond(state::health()),
        Wanted::Version => respond(state::version()),
        Wanted::State => respond(state::state(&seen())),
        Wanted::Tasks => respond(state::tasks(&seen())),
        Wanted::Containers(wanted) => respond(state::containers(&seen(), wanted, &endpoint.mesos.running())),
        Wanted::Session(launch) => output::launch(endpoint, caller, *launch, shapes.answer).await,
        Wanted::Output(container) => output::attach(endpoint, caller, &container, shapes.answer).await,
        Wanted::Input(first) => {
            let records = records.ok_or_else(|| Refused::bad("Expecting a stream of records"))?;
            input::attach(endpoint, caller, *first, records, format).await
        }
        Wanted::Wait { container, call } => {
            ending::wait(endpoint, caller, &container, call, answer_format).await
        }
        Wanted::Kill { container, signal } => ending::kill(endpoint, caller, &container, signal).await,
        Wanted::Remove(container) => ending::remove(endpoint, caller, &container),
    }
}
