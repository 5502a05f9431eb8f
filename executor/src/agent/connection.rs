//! Connections to the agent: where it is, how it is reached, what a request looks like.
//!
//! ```text
//!  AgentEnvironment -> AgentAddress -- connect --> Connection -- post --> response
//!                                  Unix socket | TCP | TLS
//! ```
//! Nothing here has a time limit; callers put one around what they await.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tracing::debug;

use super::environment::{AgentEnvironment, Token};
use crate::tls::{TlsClient, TlsError};

/// The only content type that is sent and asked for. The agent compares it to the byte.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The longest path that fits into a socket address.
const LONGEST_SOCKET_PATH: usize = 107;

/// How much of an error's text is read.
const LONGEST_COMPLAINT: usize = 8 * 1024;

/// A TCP connection that has heard nothing for so long is asked whether it is alive...
const KEEPALIVE_IDLE: u32 = 30;
/// ...then again and again after so many seconds...
const KEEPALIVE_INTERVAL: u32 = 10;
/// ...and is dead after so many questions without an answer.
const KEEPALIVE_COUNT: u32 = 3;

/// Where the agent is.
#[derive(Debug, Clone)]
pub struct AgentAddress {
    domain_socket: Option<PathBuf>,
    endpoint: SocketAddr,
    tls: Option<TlsClient>,
    path: String,
    host: HeaderValue,
    token: Option<Token>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The Unix socket cannot be connected to; one that is missing is no error, TCP is taken instead.
    #[error("connect to {}", path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The endpoint cannot be connected to.
    #[error("connect to {endpoint}")]
    Tcp {
        /// The endpoint.
        endpoint: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("agree on tls with {endpoint}")]
    Tls {
        /// The endpoint.
        endpoint: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection broke at once.
    #[error("open an http connection")]
    Http {
        /// Why.
        source: hyper::Error,
    },
}

/// Whether a request says which answer it wants: a SUBSCRIBE does, no other call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// A stream of events in JSON.
    Events,
    /// A status only.
    Nothing,
}

/// An open connection; dropped, it is closed.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    worker: JoinHandle<()>,
    path: String,
    host: HeaderValue,
    token: Option<Token>,
}

impl AgentAddress {
    /// The address of the agent that set this environment.
    ///
    /// # Errors
    /// TLS is asked for and its files cannot be used.
    pub fn new(environment: &AgentEnvironment) -> Result<Self, TlsError> {
        let endpoint = environment.endpoint;
        let tls = environment.tls.as_ref().map(|tls| super::tls::client(tls, endpoint.ip())).transpose()?;
        // A socket address has no character that a header cannot hold.
        let host = HeaderValue::from_str(&endpoint.to_string()).unwrap_or(HeaderValue::from_static("agent"));
        Ok(Self {
            domain_socket: environment.domain_socket.clone(),
            endpoint,
            tls,
            path: format!("/{}/api/v1/executor", environment.process_id),
            host,
            token: environment.token.clone(),
        })
    }

    /// Connects: by the Unix socket when there is one now, by TCP or TLS otherwise.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        if let Some(path) = &self.domain_socket {
            match connect_unix(path).await {
                Ok(stream) => return self.handshake(stream).await,
                // A restarting agent makes its socket anew, and an executor with a root of its own may not see it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    debug!(path = %path.display(), "no socket, taking tcp");
                }
                Err(source) => {
                    return Err(ConnectError::Unix { path: path.clone(), source });
                }
            }
        }
        let endpoint = self.endpoint;
        let stream = connect_tcp(endpoint).await.map_err(|source| ConnectError::Tcp { endpoint, source })?;
        match &self.tls {
            None => self.handshake(stream).await,
            Some(tls) => {
                let stream =
                    tls.connect(stream).await.map_err(|source| ConnectError::Tls { endpoint, source })?;
                self.handshake(stream).await
            }
        }
    }

    async fn handshake<S>(&self, stream: S) -> Result<Connection, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, worker) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| ConnectError::Http { source })?;
        // What ends the worker is seen by whoever waits for an answer.
        let worker = tokio::spawn(async move { drop(worker.await) });
        Ok(Connection {
            sender,
            worker,
            path: self.path.clone(),
            host: self.host.clone(),
            token: self.token.clone(),
        })
    }
}

async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    if path.as_os_str().len() <= LONGEST_SOCKET_PATH {
        return UnixStream::connect(path).await;
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    UnixStream::connect(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)).await
}

async fn connect_tcp(endpoint: SocketAddr) -> io::Result<TcpStream> {
    let socket = if endpoint.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    setsockopt(&socket, sockopt::KeepAlive, &true)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(&socket, sockopt::TcpKeepCount, &KEEPALIVE_COUNT)?;
    socket.set_nodelay(true)?;
    socket.connect(endpoint).await
}

impl Connection {
    /// Posts a call and returns the answer's head; its body is still to be read.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn post(&mut self, call: Bytes, wants: Wants) -> Result<Response<Incoming>, hyper::Error> {
        self.sender.ready().await?;
        self.sender.send_request(self.request(call, wants)).await
    }

    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    fn request(&self, call: Bytes, wants: Wants) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call));
        *request.method_mut() = Method::POST;
        // The path's characters were checked when the environment was read.
        *request.uri_mut() = self.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, JSON);
        if wants == Wants::Events {
            headers.insert(ACCEPT, JSON);
        }
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.authorization().clone());
        }
        request
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// An answer other than the one hoped for: its status and the agent's words.
#[derive(Debug, thiserror::Error)]
#[error("agent answered {status}: {text:?}")]
pub struct Complaint {
    /// The status.
    pub status: StatusCode,
    /// The beginning of the body.
    pub text: String,
}

impl Complaint {
    /// Reads the body of such an answer.
    pub async fn read(response: Response<Incoming>) -> Self {
        let status = response.status();
        let text = match Limited::new(response.into_body(), LONGEST_COMPLAINT).collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
            Err(_) => "(not readable, or too long)".to_owned(),
        };
        Self { status, text }
    }
}
