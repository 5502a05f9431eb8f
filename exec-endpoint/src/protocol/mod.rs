//! What stock clients speak, and who answers which path.
//!
//! | module | what it answers |
//! |---|---|
//! | [`health`] | `/healthz`, `/livez`, `/readyz`, `/metrics` |
//! | [`tasks`] | `/kubex/v1/...`: kubex's own paths |
//! | [`kubernetes`] | `/version`, `/api...`, `/apis...`, `/openapi/...` |
//! | [`remotecommand`] | exec, attach and signal of both, over a WebSocket |
//! | [`query`] | nothing: queries and percent-encoding, for all of them |
//! | [`mesos`] | POST `/api/v1`, `/slave...`, `/agent/...`, `/mesos/...`, `/master/...`, `/files/...`, `/system/...` |

pub mod health;
pub mod kubernetes;
pub mod mesos;
pub mod query;
pub mod remotecommand;
mod route;
pub mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode, Version};
use rustls_pki_types::CertificateDer;

use self::kubernetes::status;
use self::route::{Route, route};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::identity::Unidentified;
use crate::metrics::Requests;
use crate::server::connection::HEADER_LINES;

/// The other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    /// The certificate that it has proved to have the key of.
    pub certificate: Option<CertificateDer<'static>>,
}

/// Answers a request. Never fails: what is wrong with a request is its answer.
pub async fn answer(endpoint: Arc<Endpoint>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Body> {
    let metrics = endpoint.metrics.clone();
    let route = well_formed(&request).and_then(|()| route(request.method(), request.uri().path()));
    let name = route.as_ref().map_or("none", |route| route.name());
    let response = match route {
        Ok(route) => to(route, endpoint, &peer, request).await,
        Err(wrong) => wrong.response(),
    };
    metrics.requests.get_or_create(&Requests { route: name, code: response.status().as_u16() }).inc();
    response
}

async fn to(
    route: Route,
    endpoint: Arc<Endpoint>,
    peer: &Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    if route == Route::Probe {
        return health::probe(&endpoint, request.method(), request.uri().path());
    }
    let authorization = request.headers().get(AUTHORIZATION);
    let who = match endpoint.authenticator.identify(peer.certificate.as_ref(), authorization) {
        Ok(who) => who,
        Err(error) => return unauthorized(&error),
    };
    let caller = Caller { who, peer: peer.address };
    match route {
        Route::Probe | Route::Metrics => health::handle(endpoint, caller, request).await,
        Route::Kubex => tasks::handle(endpoint, caller, request).await,
        Route::Kubernetes => kubernetes::handle(endpoint, caller, request).await,
        Route::Mesos => mesos::handle(endpoint, caller, request).await,
    }
}

fn unauthorized(error: &Unidentified) -> Response<Body> {
    let mut response = status::failure(StatusCode::UNAUTHORIZED, "Unauthorized", error.to_string());
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// A request that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Wrong {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    fn response(self) -> Response<Body> {
        status::failure(self.code, self.reason, self.message)
    }
}

/// What hyper lets pass.
fn well_formed<T>(request: &Request<T>) -> Result<(), Wrong> {
    let headers = request.headers();
    if headers.len() > HEADER_LINES {
        let code = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        let message = format!("the request has more than {HEADER_LINES} header lines");
        return Err(Wrong::new(code, "RequestHeaderFieldsTooLarge", message));
    }
    // RFC 9112, 3.2; two Authorization headers could be read as the one or the other.
    if request.version() == Version::HTTP_11 && headers.get_all(HOST).iter().count() != 1 {
        return Err(Wrong::new(StatusCode::BAD_REQUEST, "BadRequest", "the request needs one Host header"));
    }
    if headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return Err(Wrong::new(
            StatusCode::BAD_REQUEST,
            "BadRequest",
            "the request has more than one Authorization header",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_needs_one_host_and_at_most_one_authorization() {
        let request = |headers: &[(&str, &str)]| {
            let mut request = Request::builder().uri("/");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            well_formed(&request.body(()).unwrap()).map_err(|wrong| wrong.code.as_u16())
        };
        assert_eq!(request(&[("host", "a")]), Ok(()));
        assert_eq!(request(&[]), Err(400));
        assert_eq!(request(&[("host", "a"), ("host", "b")]), Err(400));
        assert_eq!(request(&[("host", "a"), ("authorization", "x"), ("authorization", "y")]), Err(400));
        let many: Vec<(String, &str)> = (0..HEADER_LINES).map(|n| (format!("x-{n}"), "")).collect();
        let many = many.iter().map(|(name, value)| (name.as_str(), *value)).chain([("host", "a")]);
        assert_eq!(request(&many.collect::<Vec<_>>()), Err(431));
    }
}
