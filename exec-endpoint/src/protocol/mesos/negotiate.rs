//! Which format a request has and which its answer gets: pure.
//!
//! Source: what the agent of Mesos 1.11 answers (`src/slave/http.cpp`); the texts are its own.

use hyper::StatusCode;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use mesos::agent::CallType;

use super::answer::Refused;

/// A stream of records.
pub(super) const RECORDIO: &str = "application/recordio";
const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
/// The format of the records in a request.
const MESSAGE_CONTENT_TYPE: &str = "message-content-type";
/// The format of the records in an answer.
pub(super) const MESSAGE_ACCEPT: &str = "message-accept";

/// How one message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Protobuf,
}

impl Format {
    /// Its media type.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Protobuf => PROTOBUF,
        }
    }
}

/// What a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// One message.
    Single(Format),
    /// Records, each one message.
    Stream(Format),
}

impl Shape {
    /// The format of its messages.
    pub(super) fn format(self) -> Format {
        match self {
            Self::Single(format) | Self::Stream(format) => format,
        }
    }
}

/// What the request's body is, and what the answer's is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shapes {
    pub(super) request: Shape,
    pub(super) answer: Shape,
}

/// Both shapes, as the headers ask for them.
pub(super) fn shapes(headers: &HeaderMap) -> Result<Shapes, Refused> {
    Ok(Shapes { request: request(headers)?, answer: answer(headers)? })
}

fn request(headers: &HeaderMap) -> Result<Shape, Refused> {
    let given = headers.get(MESSAGE_CONTENT_TYPE);
    let Some(content) = headers.get(CONTENT_TYPE) else {
        return Err(Refused::bad("Expecting 'Content-Type' to be present"));
    };
    if content == RECORDIO {
        let Some(message) = given else {
            return Err(Refused::bad("Expecting 'Message-Content-Type' to be set for streaming requests"));
        };
        let format = exact(message.as_bytes()).ok_or_else(|| {
            let text = format!("Expecting 'Message-Content-Type' of {JSON} or {PROTOBUF}");
            Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
        })?;
        return Ok(Shape::Stream(format));
    }
    let format = exact(content.as_bytes()).ok_or_else(|| {
        let text = format!("Expecting 'Content-Type' of {JSON} or {PROTOBUF} or {RECORDIO}");
        Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    })?;
    if given.is_some() {
        let text = "Expecting 'Message-Content-Type' to be not set for non-streaming requests";
        return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(Shape::Single(format))
}

/// Mesos takes media types to the letter, without parameters.
fn exact(media_type: &[u8]) -> Option<Format> {
    [Format::Json, Format::Protobuf].into_iter().find(|one| one.media_type().as_bytes() == media_type)
}

fn answer(headers: &HeaderMap) -> Result<Shape, Refused> {
    let formats = [Format::Json, Format::Protobuf].into_iter();
    let refused = |text: String| Refused::new(StatusCode::NOT_ACCEPTABLE, text);
    if let Some(format) = formats.clone().find(|one| accepts(headers, ACCEPT.as_str(), one.media_type())) {
        return if headers.contains_key(MESSAGE_ACCEPT) {
            Err(refused("Expecting 'Message-Accept' to be not set for non-streaming responses".to_owned()))
        } else {
            Ok(Shape::Single(format))
        };
    }
    if !accepts(headers, ACCEPT.as_str(), RECORDIO) {
        return Err(refused(format!("Expecting 'Accept' to allow {JSON} or {PROTOBUF} or {RECORDIO}")));
    }
    let format = formats.clone().find(|one| accepts(headers, MESSAGE_ACCEPT, one.media_type()));
    let format =
        format.ok_or_else(|| refused(format!("Expecting 'Message-Accept' to allow {JSON} or {PROTOBUF}")))?;
    Ok(Shape::Stream(format))
}

/// Whether a list of media types allows one; an absent list allows all.
fn accepts(headers: &HeaderMap, name: &str, media_type: &str) -> bool {
    let Some(list) = headers.get(name) else { return true };
    let list = list.to_str().unwrap_or_default();
    list.split(',').any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let refused = parts.any(|part| {
            part.strip_prefix("q=")
                .and_then(|weight| weight.parse::<f32>().ok())
                .is_some_and(|weight| weight <= 0.0)
        });
        !refused && [media_type, "*/*", "application/*"].iter().any(|one| range.eq_ignore_ascii_case(one))
    })
}

/// Whether this call may come and be answered in these shapes.
pub(super) fn fits(call: CallType, shapes: Shapes) -> Result<(), Refused> {
    let streams_input = call == CallType::AttachContainerInput;
    let streams_output =
        matches!(call, CallType::AttachContainerOutput | CallType::LaunchNestedContainerSession);
    match shapes.request {
        Shape::Stream(_) if !streams_input => Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Streaming 'Content-Type' {RECORDIO} is not supported for {call} call"),
        )),
        Shape::Single(_) if streams_input => Err(Refused::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("Expecting 'Content-Type' to be {RECORDIO} for {call} call"),
        )),
        _ if matches!(shapes.answer, Shape::Stream(_)) && !streams_output => Err(Refused::new(
            StatusCode::NOT_ACCEPTABLE,
            format!("Streaming response is not supported for {call} call"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{HeaderName, HeaderValue};

    fn shapes_of(given: &[(&str, &str)]) -> Result<(Shape, Shape), u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        shapes(&headers).map(|one| (one.request, one.answer)).map_err(|refused| refused.status().as_u16())
    }

    type Row<'a> = (&'a [(&'a str, &'a str)], Result<(Shape, Shape), u16>);

    #[test]
    fn headers_give_the_shapes_that_an_agent_gives_them() {
        use Format::{Json, Protobuf};
        use Shape::{Single, Stream};
        let (content, accept) = ("content-type", "accept");
        let (r, j, p) = (RECORDIO, JSON, PROTOBUF);
        let table: &[Row<'_>] = &[
            (&[], Err(400)),
            (&[(content, "text/plain")], Err(415)),
            (&[(content, "application/json; charset=utf-8")], Err(415)),
            (&[(content, "APPLICATION/JSON")], Err(415)),
            (&[(content, j)], Ok((Single(Json), Single(Json)))),
            (&[(content, j), (accept, "*/*")], Ok((Single(Json), Single(Json)))),
            (&[(content, j), (accept, "text/html")], Err(406)),
            (&[(content, j), (accept, "APPLICATION/JSON")], Ok((Single(Json), Single(Json)))),
            (
                &[(content, j), (accept, "application/json;q=0, application/x-protobuf")],
                Ok((Single(Json), Single(Protobuf))),
            ),
            (&[(content, p), (accept, p)], Ok((Single(Protobuf), Single(Protobuf)))),
            (
                &[(content, j), (accept, "application/x-protobuf, application/json")],
                Ok((Single(Json), Single(Json))),
            ),
            (&[(content, j), (accept, r)], Ok((Single(Json), Stream(Json)))),
            (&[(content, j), (accept, r), (MESSAGE_ACCEPT, p)], Ok((Single(Json), Stream(Protobuf)))),
            (&[(content, j), (accept, r), (MESSAGE_ACCEPT, "text/x")], Err(406)),
            (&[(content, j), (accept, j), (MESSAGE_ACCEPT, j)], Err(406)),
            (
                &[(content, j), (accept, "application/json, application/recordio"), (MESSAGE_ACCEPT, j)],
                Err(406),
            ),
            (&[(content, j), (MESSAGE_CONTENT_TYPE, j)], Err(415)),
            (&[(content, r)], Err(400)),
            (&[(content, r), (MESSAGE_CONTENT_TYPE, "text/x")], Err(415)),
            (&[(content, r), (MESSAGE_CONTENT_TYPE, p), (accept, j)], Ok((Stream(Protobuf), Single(Json)))),
        ];
        for (given, expected) in table {
            assert_eq!(shapes_of(given), *expected, "{given:?}");
        }
    }

    #[test]
    fn only_streaming_calls_stream() {
        let single = Shape::Single(Format::Json);
        let stream = Shape::Stream(Format::Json);
        let status = |call, request, answer| {
            fits(call, Shapes { request, answer }).map_err(|refused| refused.status().as_u16())
        };
        assert_eq!(status(CallType::GetHealth, stream, single), Err(415));
        assert_eq!(status(CallType::AttachContainerInput, single, single), Err(415));
        assert_eq!(status(CallType::AttachContainerInput, stream, stream), Err(406));
        assert_eq!(status(CallType::WaitContainer, single, stream), Err(406));
        assert_eq!(status(CallType::LaunchNestedContainerSession, single, stream), Ok(()));
        assert_eq!(status(CallType::LaunchNestedContainerSession, single, single), Ok(()));
    }
}
