//! Answers as Mesos gives them: texts, messages, streams of records.

use std::io;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Response, StatusCode};
use mesos::protobuf::{self, Message};
use serde::Serialize;

use super::negotiate::Format;
use crate::endpoint::Body;

/// A request that is not done: a status and one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    status: StatusCode,
    text: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    /// 400.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 403.
    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, text)
    }

    /// 500, which Mesos answers where a container cannot be attached to.
    pub(super) fn failed(text: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    }

    #[cfg(test)]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl From<Refused> for Response<Body> {
    fn from(Refused { status, text }: Refused) -> Self {
        whole(status, "text/plain; charset=utf-8", text)
    }
}

/// Another method than the only one.
pub(super) fn method_not_allowed(allowed: &'static str, method: &Method) -> Response<Body> {
    let text =
        format!("405 Method Not Allowed. Expecting one of {{ '{allowed}' }}, but received '{method}'.");
    let mut response: Response<Body> = Refused::new(StatusCode::METHOD_NOT_ALLOWED, text).into();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// 200 and nothing more.
pub(super) fn done() -> Response<Body> {
    Response::new(full(Bytes::new()))
}

/// A body that is there as a whole.
pub(super) fn whole(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// 200 with a message.
pub(super) fn message(schema: &Message, message: &impl Serialize, format: Format) -> Response<Body> {
    match encode(schema, message, format) {
        Ok(bytes) => whole(StatusCode::OK, format.media_type(), bytes),
        Err(error) => Refused::failed(format!("write the answer: {error}")).into(),
    }
}

/// A message as bytes.
pub(super) fn encode(schema: &Message, message: &impl Serialize, format: Format) -> io::Result<Vec<u8>> {
    match format {
        Format::Json => Ok(serde_json::to_vec(message)?),
        Format::Protobuf => {
            let value = serde_json::to_value(message)?;
            protobuf::encode(schema, &value).map_err(io::Error::other)
        }
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}
