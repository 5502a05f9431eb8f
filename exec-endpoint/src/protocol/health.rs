//! `/healthz`, `/livez`, `/readyz` for anybody; `/metrics` for those who have the right.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::kubernetes::status;
use crate::endpoint::{Body, Caller, Endpoint, whole};
use crate::inventory::FolderState;
use crate::policy::Verb;

const TEXT: &str = "text/plain; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether it lives (`/healthz`, `/livez`: it answers, so it does), or can do its work (`/readyz`). TLS and policy are there whenever
/// it answers: it does not start without.
pub fn probe(endpoint: &Endpoint, method: &Method, path: &str) -> Response<Body> {
    if !is_read(method) {
        return not_read();
    }
    let reasons = if path == "/readyz" { unready(endpoint) } else { Vec::new() };
    if reasons.is_empty() {
        return text(StatusCode::OK, TEXT, "ok\n".to_owned());
    }
    text(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{}\n", reasons.join("\n")))
}

/// `/metrics`.
pub async fn handle(endpoint: Arc<Endpoint>, caller: Caller, request: Request<Incoming>) -> Response<Body> {
    if !is_read(request.method()) {
        return not_read();
    }
    if !endpoint.gate.allows(&caller.who, &Verb::Metrics, None) {
        let message =
            format!("{} may not read the endpoint's metrics: the policy does not say so", caller.who.user);
        return status::failure(StatusCode::FORBIDDEN, "Forbidden", message);
    }
    let metrics = &endpoint.metrics;
    {
        let inventory = endpoint.inventory.borrow();
        metrics.pods.set(gauge(inventory.pods.len()));
        metrics.tasks.set(gauge(inventory.tasks().count()));
    }
    text(StatusCode::OK, OPEN_METRICS, metrics.text())
}

fn unready(endpoint: &Endpoint) -> Vec<String> {
    let folder = match &*endpoint.folder.borrow() {
        FolderState::Readable => None,
        FolderState::Unknown => Some("the folder of control sockets has not been read yet".to_owned()),
        FolderState::Unreadable(error) => Some(format!("no executors can be found: {error}")),
    };
    let draining = endpoint.draining.borrow().then(|| "the endpoint is ending".to_owned());
    folder.into_iter().chain(draining).collect()
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn not_read() -> Response<Body> {
    let message = "this path can only be read: use GET";
    let mut response = status::failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn text(code: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(whole(text));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
