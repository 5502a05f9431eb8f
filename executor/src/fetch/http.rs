//! Downloads by HTTP/1.1, with and without TLS.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, CONNECTION, HOST, LOCATION, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;

use super::{Failure, Options, blocking, location};
use crate::tls::{ClientTls, TlsClient, Trust};

const REDIRECTS: usize = 5;
/// Chunks on their way to the file; the network waits for the disk.
const QUEUE: usize = 16;

/// Writes what `url` holds to `file` (named `path` in messages), and returns its SHA-256.
pub(super) async fn download(
    url: &str,
    options: &Options,
    file: File,
    path: &Path,
) -> Result<[u8; 32], Failure> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let writing = Writing { file, path: path.to_owned(), hash: Sha256::new(), left: options.max_bytes };
    match tokio::join!(read(url, options, sender), write(receiver, writing, options.max_bytes)) {
        (Ok(()), written) => written,
        // A failed writer takes no more, which the reader cannot explain.
        (Err(_), Err(failure)) if !matches!(failure, Failure::Aborted) => Err(failure),
        (Err(failure), _) => Err(failure),
    }
}

/// A part of a body, or the news that nothing is missing.
enum Chunk {
    Data(Bytes),
    End,
}

/// A file that grows.
struct Writing {
    file: File,
    path: PathBuf,
    hash: Sha256,
    /// How many bytes more it may have.
    left: u64,
}

impl Writing {
    fn add(&mut self, data: &[u8], max_bytes: u64) -> Result<(), Failure> {
        self.left = self.left.checked_sub(data.len() as u64).ok_or(Failure::TooLarge(max_bytes))?;
        self.hash.update(data);
        self.file.write_all(data).map_err(Failure::io("write", &self.path))
    }
}

/// Holds a thread for what has arrived only, never while it waits for the network.
async fn write(
    mut chunks: mpsc::Receiver<Chunk>,
    mut writing: Writing,
    max_bytes: u64,
) -> Result<[u8; 32], Failure> {
    loop {
        let mut arrived = Vec::new();
        if chunks.recv_many(&mut arrived, QUEUE).await == 0 {
            return Err(Failure::Aborted);
        }
        let ended = matches!(arrived.last(), Some(Chunk::End));
        writing = blocking(move || {
            for chunk in &arrived {
                if let Chunk::Data(data) = chunk {
                    writing.add(data, max_bytes)?;
                }
            }
            Ok(writing)
        })
        .await?;
        if ended {
            return Ok(writing.hash.finalize().into());
        }
    }
}

async fn read(url: &str, options: &Options, chunks: mpsc::Sender<Chunk>) -> Result<(), Failure> {
    let unusable = |url: &str, reason: &str| Failure::Url { url: url.to_owned(), reason: reason.to_owned() };
    let mut uri: Uri = url.parse().map_err(|error| unusable(url, &format!("{error}")))?;
    for _ in 0..=REDIRECTS {
        let mut exchange = request(&uri, options).await?;
        let status = exchange.response.status();
        match status.as_u16() {
            200 => return body(&mut exchange.response, &uri, options, &chunks).await,
            301 | 302 | 303 | 307 | 308 => {
                let to = exchange.response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                let to = to.ok_or_else(|| unusable(&uri.to_string(), "it redirects to nowhere"))?;
                let next = location::resolve(&uri, to)
                    .ok_or_else(|| unusable(to, "it was redirected to, and is no http: or https: URL"))?;
                if uri.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
                    return Err(unusable(&next.to_string(), "https: redirects to it, and it is not safe"));
                }
                uri = next;
            }
            status => {
                return Err(Failure::Status { url: uri.to_string(), status });
            }
        }
    }
    Err(unusable(url, &format!("it is redirected more than {REDIRECTS} times")))
}

/// A response with the connection that its body comes over.
struct Exchange {
    response: Response<Incoming>,
    _connection: Connection,
}

/// The task that drives a connection; it ends with this value.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn request(uri: &Uri, options: &Options) -> Result<Exchange, Failure> {
    let url = uri.to_string();
    let of = |verb| {
        let url = url.clone();
        move |source| Failure::Http { verb, url, source }
    };
    let stream = connect(uri, options).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(of("request"))?;
    let connection = Connection(tokio::spawn(async move {
        // Its error comes out of the request or the body.
        let _ = connection.await;
    }));
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(USER_AGENT, concat!("kube-executor/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "*/*")
        .header(ACCEPT_ENCODING, "identity")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let request = request.map_err(|error| Failure::Url { url: url.clone(), reason: error.to_string() })?;
    let response = within(options.stall_timeout, "request", &url, sender.send_request(request)).await?;
    Ok(Exchange { response: response.map_err(of("request"))?, _connection: connection })
}

async fn body(
    response: &mut Response<Incoming>,
    uri: &Uri,
    options: &Options,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), Failure> {
    let url = uri.to_string();
    let body = response.body_mut();
    if hyper::body::Body::size_hint(body).lower() > options.max_bytes {
        return Err(Failure::TooLarge(options.max_bytes));
    }
    while let Some(frame) = within(options.stall_timeout, "read", &url, body.frame()).await? {
        let frame = frame.map_err(|source| Failure::Http { verb: "read", url: url.clone(), source })?;
        if let Ok(data) = frame.into_data() {
            chunks.send(Chunk::Data(data)).await.map_err(|_| Failure::Aborted)?;
        }
    }
    chunks.send(Chunk::End).await.map_err(|_| Failure::Aborted)
}

/// What a connection is made of, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

async fn connect(uri: &Uri, options: &Options) -> Result<Box<dyn Stream>, Failure> {
    let https = uri.scheme_str() == Some("https");
    let host = uri.host().unwrap_or_default();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host).to_owned();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let to = format!("{host}:{port}");
    let failed = |source: io::Error| Failure::Connect { to: to.clone(), source };
    let config = if https { Some(client_config(options.authorities.clone()).await?) } else { None };
    let connected = async {
        let stream = TcpStream::connect(&*addresses(host.clone(), port).await?).await?;
        stream.set_nodelay(true)?;
        let Some(config) = config else {
            return Ok(Box::new(stream) as Box<dyn Stream>);
        };
        let name = ServerName::try_from(host.clone()).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Box::new(TlsClient::new(config, name).connect(stream).await?) as Box<dyn Stream>)
    };
    within(options.connect_timeout, "connect to", &to, connected).await?.map_err(failed)
}

/// The addresses of a host. A lookup may hold its thread for long, and goes on when it is no longer waited for.
async fn addresses(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = blocking(move || Ok((host.as_str(), port).to_socket_addrs().map(Iterator::collect)));
    found.await.unwrap_or_else(|failure| Err(io::Error::other(failure.to_string())))
}

/// What connections are made with, trusting the authorities that are there now.
async fn client_config(files: Vec<PathBuf>) -> Result<Arc<ClientConfig>, Failure> {
    blocking(move || Ok(ClientTls::new(Trust::first(&files)?).build())).await
}

async fn within<T>(
    limit: Duration,
    verb: &'static str,
    of: &str,
    work: impl Future<Output = T>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, work).await.map_err(|_| Failure::Timeout {
        verb,
        of: of.to_owned(),
        after: limit,
    })
}
