//! One connection, from the handshake to its end.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;
use tokio_rustls::server::TlsStream;

use super::ahead::Ahead;
use super::clock::{Clock, Times, UnderWay};
use super::wire::{Permit, Wire};
use crate::config::ConnectionLimits;
use crate::endpoint::{Body, Endpoint};
use crate::metrics::Kind;
use crate::protocol::{self, Peer};
use crate::tls::Tls;

/// Between requests.
const IDLE: Duration = Duration::from_secs(120);
/// Bytes of a request's header.
const HEADER_BYTES: usize = 64 << 10;
/// The same for h2, as RFC 9113, 6.5.2 counts it.
const HEADER_LIST: u32 = 64 << 10;
/// Lines of a request's header.
pub(crate) const HEADER_LINES: usize = 100;
/// Requests at once in one h2 connection.
const STREAMS: u32 = 64;
/// Bytes of responses that wait in one h2 connection's stream.
const SEND_BUFFER: usize = 64 << 10;
/// How TLS begins (RFC 8446, 5.1: a handshake record).
const TLS_BEGINS: u8 = 0x16;
/// For a client that does not speak TLS.
const NOT_TLS: &str = "this port speaks HTTPS, not HTTP: use https:// in the URL\n";

/// What all connections share.
#[derive(Debug)]
pub struct Shared {
    /// What answers.
    pub endpoint: Arc<Endpoint>,
    /// Certificates.
    pub tls: Arc<Tls>,
    /// Bounds.
    pub limits: ConnectionLimits,
    /// Changes when the files of TLS do: whoever was let in by the old ones has to connect again.
    pub renewed: watch::Receiver<()>,
}

/// Serves one connection to its end, or to its upgrade.
pub async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, permit: Permit) {
    let mut renewed = shared.renewed.clone();
    // Before the handshake: what changes after may be newer than what it used.
    renewed.mark_unchanged();
    let tls = match timeout(shared.limits.handshake, handshake(&shared, stream)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(failure)) => return failed(&shared, peer, &failure),
        Err(_) => return failed(&shared, peer, &HandshakeFailure::Timeout),
    };
    let session = tls.get_ref().1;
    let h2 = session.alpn_protocol() == Some(b"h2");
    let certificate =
        session.peer_certificates().and_then(|chain| chain.first()).map(|it| it.clone().into_owned());
    let who = Arc::new(Peer { address: peer, certificate });
    let clock = Clock::start(Times { header: shared.limits.header, idle: IDLE });
    let dead_after = shared.limits.dead_after;
    let wire = TokioIo::new(Wire::new(tls, (!h2).then(|| clock.clone()), dead_after, permit));
    let service = {
        let (shared, clock) = (shared.clone(), clock.clone());
        service_fn(move |request: Request<Incoming>| {
            let (endpoint, who, under_way) = (shared.endpoint.clone(), who.clone(), clock.begin());
            let clock = clock.clone();
            async move {
                let response = protocol::answer(endpoint, who, request).await;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    clock.upgrade();
                }
                Ok::<_, Infallible>(response.map(|body| Tracked { body, _under_way: under_way }))
            }
        })
    };
    let ended = if h2 {
        let connection = h2_builder(&shared).serve_connection(wire, service);
        drive(pin!(connection), http2::Connection::graceful_shutdown, &clock, &shared, renewed).await
    } else {
        let connection = h1_builder().serve_connection(wire, service).with_upgrades();
        drive(pin!(connection), http1::UpgradeableConnection::graceful_shutdown, &clock, &shared, renewed)
            .await
    };
    match ended {
        Ended::ByItself(Ok(())) => {}
        Ended::ByItself(Err(error)) => tracing::debug!(%peer, %error, "a connection ended"),
        Ended::Late => tracing::debug!(%peer, "a connection ended: no request in time"),
    }
}

fn h1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_headers(HEADER_LINES)
        .max_header_size(HEADER_BYTES)
        .max_buf_size(HEADER_BYTES);
    builder
}

fn h2_builder(shared: &Shared) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(shared.endpoint.timing.ping_interval)
        .keep_alive_timeout(shared.limits.dead_after.saturating_sub(shared.endpoint.timing.ping_interval));
    builder
}

/// How a connection ended.
enum Ended {
    ByItself(hyper::Result<()>),
    Late,
}

/// Runs a connection; lets it finish what is under way, and no more, once it has to end.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    finish: impl Fn(Pin<&mut C>),
    clock: &Clock,
    shared: &Shared,
    mut renewed: watch::Receiver<()>,
) -> Ended {
    let has_to_end = async {
        tokio::select! {
            () = shared.endpoint.drained() => {}
            // An error: the server ends.
            _ = renewed.changed() => {}
        }
    };
    let mut has_to_end = pin!(has_to_end);
    let mut finishing = false;
    let mut late = pin!(sleep_until(Instant::now()));
    poll_fn(|cx| {
        if !finishing && has_to_end.as_mut().poll(cx).is_ready() {
            finishing = true;
            finish(connection.as_mut());
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(Ended::ByItself(ended));
        }
        let Some(deadline) = clock.deadline() else {
            return Poll::Pending;
        };
        if late.deadline() != deadline {
            late.as_mut().reset(deadline);
        }
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Ended::Late)
    })
    .await
}

async fn handshake(
    shared: &Shared,
    stream: TcpStream,
) -> Result<TlsStream<Ahead<TcpStream>>, HandshakeFailure> {
    prepare(&stream, shared.limits.dead_after).map_err(HandshakeFailure::of)?;
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) => return Err(HandshakeFailure::Closed),
        Ok(_) if first[0] != TLS_BEGINS => {
            refuse_plain(stream, first[0]).await;
            return Err(HandshakeFailure::NotTls);
        }
        Ok(_) => {}
        Err(error) => return Err(HandshakeFailure::of(error)),
    }
    TlsAcceptor::from(shared.tls.current()).accept(Ahead::new(stream)).await.map_err(HandshakeFailure::of)
}

/// What is written goes out at once; a client that vanished is noticed by the kernel where nobody pings.
fn prepare(stream: &TcpStream, dead_after: Duration) -> io::Result<()> {
    // tcp(7): the idle time, then two probes; in whole seconds, at least one.
    let third = Duration::from_secs((dead_after / 3).as_secs().max(1));
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, third)?;
    sockopt::set_tcp_keepintvl(stream, third)?;
    Ok(sockopt::set_tcp_keepcnt(stream, 2)?)
}

/// Tells somebody who speaks HTTP what is wrong.
async fn refuse_plain(mut stream: TcpStream, first: u8) {
    if !first.is_ascii_uppercase() {
        return;
    }
    // Unread bytes would make the kernel reset the connection before the answer is read.
    let mut unread = [0; 4096];
    let _ = stream.try_read(&mut unread);
    let length = NOT_TLS.len();
    let answer = format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{NOT_TLS}"
    );
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn failed(shared: &Shared, peer: SocketAddr, failure: &HandshakeFailure) {
    shared.endpoint.metrics.handshake_failures.get_or_create(&Kind { kind: failure.kind() }).inc();
    tracing::debug!(%peer, error = %failure, "a handshake failed");
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
enum HandshakeFailure {
    #[error("it was not done in time")]
    Timeout,
    #[error("the client closed")]
    Closed,
    #[error("the client does not speak TLS")]
    NotTls,
    #[error("the client's certificate is no good: {0}")]
    Certificate(#[source] rustls::Error),
    #[error("the client has no certificate")]
    NoCertificate,
    #[error("{0}")]
    Protocol(#[source] rustls::Error),
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl HandshakeFailure {
    fn of(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match error.downcast::<rustls::Error>() {
            Ok(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Ok(error @ rustls::Error::InvalidCertificate(_)) => Self::Certificate(error),
            Ok(error) => Self::Protocol(error),
            Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
                Self::Closed
            }
            Err(error) => Self::Io(error),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not TLS",
            Self::Certificate(_) => "certificate",
            Self::NoCertificate => "no certificate",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "network",
        }
    }
}

/// A response's body; until hyper has taken it all, its request is under way.
struct Tracked {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
