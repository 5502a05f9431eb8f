//! gRPC: `grpc.health.v1.Health/Check` over HTTP/2, with the two messages it needs encoded by hand.
//!
//! ```text
//!  frame    = 1 byte compressed (0) + 4 bytes length, big endian + message
//!  request  = field 1: service (string)
//!  response = field 1: status (enum: 0 unknown, 1 serving, 2 not serving, 3 service unknown)
//! ```

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::describe::{quoted, socket_address};
use super::http::{alongside, no_answer};
use super::tls::{self, TlsCache};
use super::{Miss, USER_AGENT, tcp};
use crate::health::Observed;
use crate::pod::sockets::PodSockets;
use crate::spec::GrpcProbe;
use crate::text::chain;

/// A health answer is 7 bytes; what is far longer is something else.
const LONGEST_ANSWER: usize = 4096;

pub(super) async fn check(
    probe: &GrpcProbe,
    sockets: &PodSockets,
    tls: &mut TlsCache,
) -> Result<Observed, Miss> {
    match &probe.tls {
        None => exchange(probe, tcp::open(probe.address, sockets).await?).await,
        Some(of_probe) => {
            let config = tls.config(of_probe, &[b"h2"]).map_err(Miss::failure)?;
            let stream = tcp::open(probe.address, sockets).await?;
            let stream =
                tls::connect(config, of_probe, probe.address.ip, stream).await.map_err(Miss::failure)?;
            exchange(probe, stream).await
        }
    }
}

async fn exchange<S>(probe: &GrpcProbe, stream: S) -> Result<Observed, Miss>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = request(probe).map_err(Miss::failure)?;
    let helpers = Helpers::default();
    let (mut sender, connection) = http2::Builder::new(helpers.executor())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Miss::failure(chain(&error)))?;
    let answer = async {
        sender.ready().await?;
        Answer::receive(sender.send_request(request).await?).await
    };
    match alongside(connection, answer).await {
        (Ok(answer), _) => answer.judge(),
        (Err(error), connection) => {
            Err(Miss::failure(format!("no gRPC answer: {}", no_answer(&error, connection))))
        }
    }
}

fn request(probe: &GrpcProbe) -> Result<Request<Full<Bytes>>, String> {
    let scheme = if probe.tls.is_some() { "https" } else { "http" };
    let uri = format!("{scheme}://{}/grpc.health.v1.Health/Check", socket_address(probe.address));
    let mut request = Request::new(Full::new(encode_request(&probe.service)?));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.parse::<Uri>().map_err(|error| format!("make the URL {uri}: {error}"))?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    Ok(request)
}

fn encode_request(service: &str) -> Result<Bytes, String> {
    let mut message = Vec::with_capacity(service.len() + 6);
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).map_err(|_| "the service's name is too long".to_owned())?;
    let mut frame = Vec::with_capacity(message.len() + 5);
    frame.push(0);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.append(&mut message);
    Ok(Bytes::from(frame))
}

/// What came back.
#[derive(Debug)]
struct Answer {
    http_status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

impl Answer {
    /// Reads the whole of it, but of a body no more than can be a health answer.
    async fn receive(response: Response<hyper::body::Incoming>) -> Result<Self, hyper::Error> {
        let (parts, mut body) = response.into_parts();
        let mut answer = Self {
            http_status: parts.status,
            headers: parts.headers,
            body: Vec::new(),
            trailers: HeaderMap::new(),
        };
        while answer.body.len() <= LONGEST_ANSWER
            && let Some(frame) = body.frame().await
        {
            match frame?.into_data() {
                Ok(data) => answer.body.extend_from_slice(&data),
                Err(other) => answer.trailers = other.into_trailers().unwrap_or_default(),
            }
        }
        Ok(answer)
    }

    fn judge(&self) -> Result<Observed, Miss> {
        if self.http_status != StatusCode::OK {
            return Err(Miss::failure(format!(
                "HTTP status {}: not a gRPC server",
                self.http_status.as_u16()
            )));
        }
        let kind = self.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !kind.starts_with(b"application/grpc") {
            return Err(Miss::failure(format!("content type {:?}: not a gRPC server", quoted(kind))));
        }
        if self.body.len() > LONGEST_ANSWER {
            return Err(Miss::failure("the answer is too long for a health answer"));
        }
        // An answer without a body has its status in the headers.
        let status =
            self.field("grpc-status").ok_or_else(|| Miss::failure("the answer has no grpc-status"))?;
        if status != "0" {
            return Err(Miss::failure(self.refusal(&status)));
        }
        match decode_response(&self.body) {
            Ok(1) => Ok(Observed::Nothing),
            Ok(0) => Err(Miss::failure("unknown (the server does not know how it is)")),
            Ok(2) => Err(Miss::failure("not serving")),
            Ok(3) => Err(Miss::failure("service unknown")),
            Ok(other) => Err(Miss::failure(format!("health status {other}, which is none of the protocol"))),
            Err(what) => Err(Miss::failure(format!("the answer cannot be read: {what}"))),
        }
    }

    fn field(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.trailers.get(name).or_else(|| self.headers.get(name))?;
        Some(String::from_utf8_lossy(value.as_bytes()))
    }

    fn refusal(&self, status: &str) -> String {
        let name = match status {
            "1" => "cancelled",
            "2" => "unknown",
            "3" => "invalid argument",
            "4" => "deadline exceeded",
            "5" => "not found: the server does not know the service",
            "7" => "permission denied",
            "8" => "resource exhausted",
            "12" => "unimplemented: the server does not have the gRPC health protocol",
            "13" => "internal",
            "14" => "unavailable",
            "16" => "unauthenticated",
            _ => "an error",
        };
        let message = self.field("grpc-message").map(|text| quoted(&percent_decoded(text.as_bytes())));
        match message.filter(|text| !text.is_empty()) {
            Some(message) => format!("gRPC status {} ({name}): {message}", quoted(status.as_bytes())),
            None => format!("gRPC status {} ({name})", quoted(status.as_bytes())),
        }
    }
}

/// The status in a response frame.
fn decode_response(frame: &[u8]) -> Result<u64, &'static str> {
    let (head, message) = frame.split_first_chunk::<5>().ok_or("no message in it")?;
    let [compressed, length @ ..] = *head;
    if compressed != 0 {
        return Err("it is compressed, which was not asked for");
    }
    if usize::try_from(u32::from_be_bytes(length)) != Ok(message.len()) {
        return Err("its length is wrong");
    }
    let mut rest = message;
    let mut status = 0;
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        match (tag >> 3, tag & 7) {
            (1, 0) => status = varint(&mut rest)?,
            (_, 0) => {
                varint(&mut rest)?;
            }
            (_, 1) => skip(&mut rest, 8)?,
            (_, 2) => {
                let length = varint(&mut rest)?;
                skip(&mut rest, length)?;
            }
            (_, 5) => skip(&mut rest, 4)?,
            _ => return Err("it is not protobuf"),
        }
    }
    Ok(status)
}

fn varint(rest: &mut &[u8]) -> Result<u64, &'static str> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or("it ends too early")?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("it is not protobuf")
}

fn skip(rest: &mut &[u8], length: u64) -> Result<(), &'static str> {
    let after = usize::try_from(length).ok().and_then(|length| rest.get(length..));
    *rest = after.ok_or("it ends too early")?;
    Ok(())
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let hex = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match after {
            [high, low, behind @ ..]
                if *first == b'%'
                    && let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                decoded.push(high << 4 | low);
                rest = behind;
            }
            _ => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

/// The tasks that hyper's HTTP/2 client starts; dropped with the check, so that none outlives it.
#[derive(Debug, Default)]
struct Helpers(Arc<Mutex<JoinSet<()>>>);

impl Helpers {
    fn executor(&self) -> Spawner {
        Spawner(Arc::clone(&self.0))
    }
}

impl Drop for Helpers {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}

#[derive(Debug, Clone)]
struct Spawner(Arc<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let task = async move {
            future.await;
        };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_a_frame_with_the_service_s_name() {
        assert_eq!(encode_request("").expect("short").as_ref(), [0; 5]);
        assert_eq!(encode_request("ab").expect("short").as_ref(), b"\0\0\0\0\x04\x0a\x02ab");
        let long = encode_request(&"x".repeat(300)).expect("short");
        assert_eq!(&long[..8], b"\0\0\0\x01\x2f\x0a\xac\x02");
        assert_eq!(long.len(), 5 + 303);
    }

    #[test]
    fn a_response_may_be_empty_or_have_other_fields() {
        assert_eq!(decode_response(b"\0\0\0\0\0"), Ok(0));
        assert_eq!(decode_response(b"\0\0\0\0\x02\x08\x01"), Ok(1));
        assert_eq!(decode_response(b"\0\0\0\0\x06\x12\x02hi\x08\x02"), Ok(2));
    }

    #[test]
    fn a_bad_response_is_told_apart() {
        assert_eq!(decode_response(b""), Err("no message in it"));
        assert_eq!(decode_response(b"\x01\0\0\0\0"), Err("it is compressed, which was not asked for"));
        assert_eq!(decode_response(b"\0\0\0\0\x03\x08\x01"), Err("its length is wrong"));
        assert_eq!(decode_response(b"\0\0\0\0\x02\x12\x09"), Err("it ends too early"));
        assert_eq!(decode_response(b"\0\0\0\0\x01\x0f"), Err("it is not protobuf"));
    }

    #[test]
    fn a_message_is_percent_decoded() {
        assert_eq!(percent_decoded(b"a%20b%C3%A4%zz%4"), "a bä%zz%4".as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut frame = vec![0];
            frame.extend_from_slice(&u32::try_from(bytes.len()).expect("short").to_be_bytes());
            frame.extend_from_slice(&bytes);
            let _ = decode_response(&frame);
            let _ = decode_response(&bytes);
            let _ = percent_decoded(&bytes);
        }
    }
}
