//! A proxy between an executor and its agent that passes everything on and keeps what both say, to the byte.
//!
//! ```text
//!  executor --call--> Tap --call--> agent
//!  executor <-events- Tap <-events- agent      Taped: Call(body, status, text), Event(record), in order
//! ```
//! On request it refuses updates as an agent that is not ready does, or cuts the streams of events.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mesos::recordio::Decoder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// How long anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// An event is never longer.
const LONGEST_EVENT: usize = 64 << 20;

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taped {
    /// By the executor, with the agent's answer.
    Call(Exchange),
    /// By the agent: one record.
    Event(Vec<u8>),
}

/// A call and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// The path.
    pub path: String,
    /// `Content-Type`, if there was one.
    pub content_type: Option<String>,
    /// `Accept`, if there was one.
    pub accept: Option<String>,
    /// The body.
    pub body: Vec<u8>,
    /// The answer's status.
    pub status: u16,
    /// The answer's text; empty when it is a stream of events.
    pub text: String,
}

/// What becomes of updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Updates {
    /// They are passed on.
    #[default]
    Pass,
    /// They are answered with 503 and not kept.
    Refuse,
}

/// The proxy; dropped, it closes everything.
#[derive(Debug)]
pub struct Tap {
    endpoint: SocketAddr,
    shared: Arc<Shared>,
    listener: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    agent: SocketAddr,
    tape: watch::Sender<Vec<Taped>>,
    updates: Mutex<Updates>,
    cuts: watch::Sender<u64>,
}

impl Tap {
    /// A proxy on a free port for the agent at this address.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn start(agent: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let endpoint = listener.local_addr().expect("the port");
        let shared = Arc::new(Shared {
            agent,
            tape: watch::Sender::default(),
            updates: Mutex::default(),
            cuts: watch::Sender::default(),
        });
        let listener = tokio::spawn(accept(listener, shared.clone())).abort_handle();
        Self { endpoint, shared, listener }
    }

    /// Where it listens: the executor's `MESOS_AGENT_ENDPOINT`.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Everything said so far.
    pub fn tape(&self) -> Vec<Taped> {
        self.shared.tape.borrow().clone()
    }

    /// From now on updates are treated so.
    pub fn updates(&self, how: Updates) {
        *self.shared.updates() = how;
    }

    /// Ends all streams of events.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until `find` finds something on the tape.
    ///
    /// # Panics
    /// It does not in 30 s.
    pub async fn wait_for<T>(&self, what: &str, mut find: impl FnMut(&[Taped]) -> Option<T>) -> T {
        let mut tape = self.shared.tape.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = find(&tape.borrow_and_update()) {
                    return found;
                }
                // The sender is held by this.
                drop(tape.changed().await);
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("waited {PATIENCE:?} for {what} on the tape"),
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl Shared {
    fn updates(&self) -> MutexGuard<'_, Updates> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, taped: Taped) {
        self.tape.send_modify(|tape| tape.push(taped));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(|request| handle(request, shared.clone()));
            // It ends when either side ends it.
            drop(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

type Answer = Response<Either<Full<Bytes>, Events>>;

async fn handle(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let refuse = *shared.updates() == Updates::Refuse;
    let passed = async {
        let body = body.collect().await?.to_bytes();
        if refuse && is_update(&body) {
            return anyhow::Ok(answer(StatusCode::SERVICE_UNAVAILABLE, "refused by the tap"));
        }
        let response = post(shared.agent, head.uri.path(), &head.headers, body.clone()).await?;
        pass_back(response, &head, body, shared).await
    };
    let passed = passed.await;
    Ok(passed.unwrap_or_else(|error| answer(StatusCode::BAD_GATEWAY, &format!("{error:#}"))))
}

async fn pass_back(
    response: Response<Incoming>,
    head: &hyper::http::request::Parts,
    body: Bytes,
    shared: Arc<Shared>,
) -> anyhow::Result<Answer> {
    let header =
        |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut exchange = Exchange {
        path: head.uri.path().to_owned(),
        content_type: header(CONTENT_TYPE),
        accept: header(ACCEPT),
        body: body.into(),
        status: response.status().as_u16(),
        text: String::new(),
    };
    let (parts, body) = response.into_parts();
    if parts.status == StatusCode::OK {
        shared.keep(Taped::Call(exchange));
        let mut cuts = shared.cuts.subscribe();
        let cut = Box::pin(async move { drop(cuts.changed().await) });
        let events = Events { body, cut, decoder: Decoder::new(LONGEST_EVENT), shared };
        let mut answer = Response::new(Either::Right(events));
        answer
            .headers_mut()
            .extend(parts.headers.get(CONTENT_TYPE).map(|value| (CONTENT_TYPE, value.clone())));
        return Ok(answer);
    }
    let text = body.collect().await?.to_bytes();
    exchange.text = String::from_utf8_lossy(&text).into_owned();
    let answer = answer(parts.status, &exchange.text);
    shared.keep(Taped::Call(exchange));
    Ok(answer)
}

/// One request on a connection of its own, with these headers and no others.
///
/// # Errors
/// No connection, or it ended before the head of an answer.
pub async fn post(
    agent: SocketAddr,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> anyhow::Result<Response<Incoming>> {
    let stream = TcpStream::connect(agent).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer's body.
    tokio::spawn(connection);
    let mut request = Request::post(path).body(Full::new(body))?;
    *request.headers_mut() = headers.clone();
    Ok(sender.send_request(request).await?)
}

fn answer(status: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(Bytes::copy_from_slice(text.as_bytes()))));
    *answer.status_mut() = status;
    answer
}

fn is_update(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|call| call["type"] == "UPDATE")
}

/// A stream of events on its way to the executor, each record kept as it is complete.
struct Events {
    body: Incoming,
    cut: Pin<Box<dyn Future<Output = ()> + Send>>,
    decoder: Decoder,
    shared: Arc<Shared>,
}

impl Body for Events {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(bytes) = frame.data_ref()
        {
            self.decoder.extend(bytes);
            while let Ok(Some(record)) = self.decoder.next() {
                self.shared.keep(Taped::Event(record.to_vec()));
            }
        }
        frame
    }
}
