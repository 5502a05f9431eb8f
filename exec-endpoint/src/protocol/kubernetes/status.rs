//! Answers: `Status` objects, other JSON, streams (`meta/v1` of the Kubernetes API).

use std::io;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::selector::SelectorError;
use crate::control::ControlError;
use crate::endpoint::Body;
use crate::protocol::query::QueryError;

/// JSON without anything special.
pub const JSON: &str = "application/json";

/// A `Status` that says what is wrong: `reason` for programs (`NotFound`, `Forbidden`, `BadRequest`, ...), `message` for people.
pub fn failure(code: StatusCode, reason: &str, message: impl Into<String>) -> Response<Body> {
    json(code, JSON, &object(code, reason, &message.into()))
}

/// What is wrong with a request, or with answering it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    code: StatusCode,
    reason: &'static str,
    message: String,
}

impl Failure {
    /// As of [`failure`].
    pub fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason, message: message.into() }
    }

    /// Nothing of that kind and name is here, in the words of an API server.
    pub fn not_found(resource: &str, name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", format!("{resource} \"{name}\" not found"))
    }

    /// A request that makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Somebody may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    /// It is not to be read, or not like that.
    pub fn not_allowed(message: &str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// There are too many already.
    pub fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    }

    /// It as a `Status`.
    pub fn object(&self) -> Value {
        object(self.code, self.reason, &self.message)
    }

    /// It as a response.
    pub fn response(&self) -> Response<Body> {
        json(self.code, JSON, &self.object())
    }
}

impl From<&ControlError> for Failure {
    /// An executor gave no answer of use.
    fn from(error: &ControlError) -> Self {
        use task::control::RefusalKind::{Failed, Forbidden, Invalid, NotRunning, UnknownTask};
        let (code, reason) = match error {
            ControlError::Refused(refusal) => match refusal.kind {
                UnknownTask => (StatusCode::NOT_FOUND, "NotFound"),
                NotRunning | Invalid => (StatusCode::BAD_REQUEST, "BadRequest"),
                Forbidden => (StatusCode::FORBIDDEN, "Forbidden"),
                Failed => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            },
            _ => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        Self::new(code, reason, error.to_string())
    }
}

impl From<QueryError> for Failure {
    fn from(error: QueryError) -> Self {
        Self::bad_request(error.to_string())
    }
}

impl From<SelectorError> for Failure {
    fn from(error: SelectorError) -> Self {
        Self::bad_request(error.to_string())
    }
}

fn object(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code.as_u16(),
    })
}

/// JSON of this content type.
pub fn json(code: StatusCode, content_type: &'static str, value: &Value) -> Response<Body> {
    response(
        code,
        content_type,
        Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed(),
    )
}

/// A response with a body.
pub fn response(code: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A body that is made while it is sent; no more than two pieces wait in it. An error sent cuts the connection.
pub fn stream() -> (mpsc::Sender<io::Result<Bytes>>, Body) {
    let (sender, mut receiver) = mpsc::channel::<io::Result<Bytes>>(2);
    let pieces = poll_fn(move |context| {
        receiver.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    });
    (sender, BodyExt::boxed(StreamBody::new(pieces)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_a_status_object_with_its_code() {
        let response = failure(StatusCode::GONE, "Expired", "too old");
        assert_eq!(
            (response.status(), &response.headers()[CONTENT_TYPE]),
            (StatusCode::GONE, &HeaderValue::from_static(JSON))
        );
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&value["kind"], &value["code"], &value["reason"]),
            (&json!("Status"), &json!(410), &json!("Expired"))
        );
    }

    #[tokio::test]
    async fn a_stream_that_ends_by_an_error_gives_what_came_before_and_the_error() {
        let (sender, mut body) = stream();
        sender.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
        sender.send(Err(io::Error::other("cut"))).await.unwrap();
        drop(sender);
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "a");
        assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "cut");
        assert!(body.frame().await.is_none());
    }
}
