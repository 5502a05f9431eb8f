//! Sockets and HTTP. Nothing is decided here.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::PATIENCE;
use super::log::Via;
use super::state::{Answer, Shared};

/// Open sockets and the connections made to them; dropped, all are closed.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) endpoint: SocketAddr,
    tasks: JoinSet<()>,
}

impl Listeners {
    pub(super) async fn open(
        endpoint: SocketAddr,
        socket: Option<&Path>,
        tls: Option<TlsAcceptor>,
        shared: &Arc<Shared>,
    ) -> Self {
        let tcp = bind(endpoint).await;
        let endpoint = tcp.local_addr().expect("the port");
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_tcp(tcp, tls, shared.clone()));
        if let Some(path) = socket {
            // As an agent does: what its predecessor left is removed.
            drop(std::fs::remove_file(path));
            let unix = UnixListener::bind(path).expect("listen on a socket");
            tasks.spawn(accept_unix(unix, shared.clone()));
        }
        Self { endpoint, tasks }
    }

    /// Closes all and waits until nothing listens.
    pub(super) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

/// While nothing listens on a port, an outgoing connection of any program may have it for a moment.
async fn bind(endpoint: SocketAddr) -> TcpListener {
    let bound = async {
        loop {
            match TcpListener::bind(endpoint).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    sleep(Duration::from_millis(10)).await
                }
                bound => return bound,
            }
        }
    };
    let bound = timeout(PATIENCE, bound).await.unwrap_or_else(|_| panic!("{endpoint} stays in use"));
    bound.expect("listen on a port of 127.0.0.1")
}

async fn accept_tcp(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), shared.clone());
        drop(stream.set_nodelay(true));
        connections.spawn(async move {
            match tls {
                None => serve(stream, Via::Tcp, shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => serve(stream, Via::Tls, shared).await,
                    Err(error) => shared.change(|state| state.log.failed_handshakes.push(error.to_string())),
                },
            }
        });
    }
}

async fn accept_unix(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Via::Unix, shared.clone()));
    }
}

async fn serve<S>(stream: S, via: Via, shared: Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = shared.next_connection();
    let service = service_fn(|request| handle(request, via, connection, shared.clone()));
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

async fn handle(
    request: Request<Incoming>,
    via: Via,
    connection: u64,
    shared: Arc<Shared>,
) -> io::Result<Response<Either<Full<Bytes>, Events>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    match shared.receive(via, connection, head, body) {
        Answer::Status(status, text) => {
            let response = Response::builder().status(status);
            Ok(response.body(Either::Left(Full::new(text.into()))).map_err(io::Error::other)?)
        }
        Answer::Stream(events) => {
            let response = Response::builder().header(CONTENT_TYPE, "application/json");
            Ok(response.body(Either::Right(Events(events))).map_err(io::Error::other)?)
        }
        Answer::Reset => Err(io::ErrorKind::ConnectionReset.into()),
        Answer::Silence => pending().await,
    }
}

/// The body of a stream of events.
pub(super) struct Events(mpsc::UnboundedReceiver<Bytes>);

impl Body for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
