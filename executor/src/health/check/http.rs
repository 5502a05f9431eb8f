//! HTTP and HTTPS: a GET on a connection of its own, redirects not followed, proxies never used.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::describe::{quoted, socket_address};
use super::tls::{self, TlsCache};
use super::{Miss, QUOTED, USER_AGENT, tcp};
use crate::health::Observed;
use crate::pod::sockets::PodSockets;
use crate::spec::HttpProbe;
use crate::text::chain;

/// How long the body of a bad answer is waited for, at most: the verdict is known without it.
const BODY_PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn check(
    probe: &HttpProbe,
    sockets: &PodSockets,
    deadline: Option<Instant>,
    tls: &mut TlsCache,
) -> Result<Observed, Miss> {
    let request = request(probe).map_err(Miss::failure)?;
    match &probe.tls {
        None => exchange(probe, request, tcp::open(probe.address, sockets).await?, deadline).await,
        Some(of_probe) => {
            let config = tls.config(of_probe, &[b"http/1.1"]).map_err(Miss::failure)?;
            let stream = tcp::open(probe.address, sockets).await?;
            let stream =
                tls::connect(config, of_probe, probe.address.ip, stream).await.map_err(Miss::failure)?;
            exchange(probe, request, stream, deadline).await
        }
    }
}

fn request(probe: &HttpProbe) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = probe.path.parse::<Uri>().map_err(|error| format!("path: {error}"))?;

    let headers = request.headers_mut();
    headers.insert(header::HOST, host(probe));
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in &probe.headers {
        let name = HeaderName::try_from(name).map_err(|error| format!("header {name:?}: {error}"))?;
        let value = HeaderValue::try_from(value).map_err(|error| format!("header {name}: {error}"))?;
        headers.insert(name, value);
    }
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

fn host(probe: &HttpProbe) -> HeaderValue {
    let address = socket_address(probe.address).to_string();
    let usual = if probe.tls.is_some() { ":443" } else { ":80" };
    let host = if matches!(probe.address.port, 80 | 443) {
        address.strip_suffix(usual).unwrap_or(&address)
    } else {
        &address
    };
    HeaderValue::from_str(host).expect("an address is ASCII")
}

async fn exchange<S>(
    probe: &HttpProbe,
    request: Request<Empty<Bytes>>,
    stream: S,
    deadline: Option<Instant>,
) -> Result<Observed, Miss>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| Miss::failure(chain(&error)))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        if is_success(probe, status) {
            return Ok(Ok(Observed::StatusCode(status)));
        }
        let body = quoted(&beginning(response.into_body(), deadline).await);
        let text =
            if body.is_empty() { format!("status {status}") } else { format!("status {status}: {body}") };
        Ok(Err(Miss::Failure { text, observed: Observed::StatusCode(status) }))
    };
    match alongside(connection, answer).await {
        (Ok(answered), _) => answered,
        (Err(error), connection) => Err(Miss::failure(no_answer(&error, connection))),
    }
}

fn is_success(probe: &HttpProbe, status: u16) -> bool {
    if probe.statuses.is_empty() { (200..=399).contains(&status) } else { probe.statuses.contains(&status) }
}

/// As much of a body as is quoted, or as came in time: the status counts all the same.
async fn beginning(mut body: Incoming, deadline: Option<Instant>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = async {
        while bytes.len() <= QUOTED
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                bytes.extend_from_slice(&data);
            }
        }
    };
    // Half of what is left, so that the check's own timeout does not take the status away.
    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()) / 2);
    let patience = left.unwrap_or(BODY_PATIENCE).min(BODY_PATIENCE);
    // Running out of patience is as good as the body's end.
    let _ = tokio::time::timeout(patience, read).await;
    bytes
}

/// Polls a connection for as long as `work` on it goes on, in the same task; its own end is returned too, if it came.
pub(super) async fn alongside<C: Future, W: Future>(
    connection: C,
    work: W,
) -> (W::Output, Option<C::Output>) {
    let mut connection = pin!(connection);
    let mut work = pin!(work);
    let mut ended = None;
    let output = std::future::poll_fn(|context| {
        if ended.is_none()
            && let Poll::Ready(end) = connection.as_mut().poll(context)
        {
            ended = Some(end);
        }
        work.as_mut().poll(context)
    })
    .await;
    (output, ended)
}

/// A request's error as text; where it only says that the connection is gone, the connection's own.
pub(super) fn no_answer(error: &hyper::Error, connection: Option<hyper::Result<()>>) -> String {
    match connection {
        Some(Err(why)) if error.is_canceled() || error.is_closed() => chain(&why),
        _ => chain(error),
    }
}
