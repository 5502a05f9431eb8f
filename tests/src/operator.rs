//! Requests to the byte, to a real agent and to an exec endpoint, and what of their answers differs.
//!
//! ```text
//!  Server::send -> Answered            a body at once, an answer as a whole
//!  Server::start -> Output             a body at once, an answer that streams
//!  Server::hold -> Input -> Answered   a body that goes on until it is said to end
//! ```
//! Each request has a connection of its own, which is closed when what it returns is dropped.

mod answer;

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::endpoint::{Client, Endpoint};

pub use answer::{Answered, differences, flat, records};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Who answers.
#[derive(Clone)]
pub struct Server {
    name: &'static str,
    address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at {}", self.name, self.address)
    }
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// `POST` mostly.
    pub method: &'a str,
    /// The path and query.
    pub path: &'a str,
    /// All headers but Host, and the length or that there is none.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body, or what is known of it.
    pub body: &'a [u8],
}

impl Server {
    /// An agent, over plain HTTP.
    pub fn agent(address: SocketAddr) -> Self {
        Self { name: "the agent", address, tls: None }
    }

    /// An endpoint, over HTTPS with this client's certificate.
    ///
    /// # Errors
    /// A file of the client's cannot be used.
    pub fn endpoint(endpoint: &Endpoint, client: &Client) -> anyhow::Result<Self> {
        let mut trusted = RootCertStore::empty();
        trusted.add(CertificateDer::from_pem_file(client.trusted()).context("read the authority")?)?;
        let pair = client.pair();
        let certificate = CertificateDer::from_pem_file(&pair.certificate).context("read a certificate")?;
        let key = PrivateKeyDer::from_pem_file(&pair.key).context("read a key")?;
        let config = ClientConfig::builder()
            .with_root_certificates(trusted)
            .with_client_auth_cert(vec![certificate], key)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, endpoint.files().port()));
        Ok(Self { name: "the endpoint", address, tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// No connection, or no head of an answer, or no end of it in time. A body that was cut is none.
    pub async fn send(&self, asked: &Asked<'_>) -> anyhow::Result<Answered> {
        let answering = async {
            let output =
                self.ask(asked, Full::new(Bytes::copy_from_slice(asked.body)).boxed_unsync()).await?;
            Ok::<_, anyhow::Error>(output.rest().await)
        };
        self.in_time(asked, answering).await
    }

    /// Asks, and waits for the head of an answer only.
    ///
    /// # Errors
    /// As [`Server::send`].
    pub async fn start(&self, asked: &Asked<'_>) -> anyhow::Result<Output> {
        let body = Full::new(Bytes::copy_from_slice(asked.body)).boxed_unsync();
        self.in_time(asked, self.ask(asked, body)).await
    }

    /// Begins to ask; the body goes on.
    ///
    /// # Errors
    /// No connection.
    pub async fn hold(&self, asked: &Asked<'_>) -> anyhow::Result<Input> {
        let (input, pieces) = mpsc::channel::<Bytes>(16);
        input.send(Bytes::copy_from_slice(asked.body)).await?;
        let frames = unfold(pieces, async |mut pieces| {
            let piece = pieces.recv().await?;
            Some((Ok(Frame::data(piece)), pieces))
        });
        let body = StreamBody::new(frames).boxed_unsync();
        let (mut connection, request) = (self.connect().await?, request(asked, body)?);
        let answer = tokio::spawn(async move {
            let response = connection.sender.send_request(request).await.context("wait for an answer")?;
            Ok(Output::new(response, connection).rest().await)
        });
        Ok(Input { input: Some(input), answer })
    }

    async fn in_time<T>(
        &self,
        asked: &Asked<'_>,
        answering: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<T> {
        let what = || format!("{self:?}: {} {}", asked.method, String::from_utf8_lossy(asked.body));
        match timeout(PATIENCE, answering).await {
            Ok(answered) => answered.with_context(what),
            Err(_) => bail!("{}: no answer within {PATIENCE:?}", what()),
        }
    }

    async fn ask(&self, asked: &Asked<'_>, body: Body) -> anyhow::Result<Output> {
        let (mut connection, request) = (self.connect().await?, request(asked, body)?);
        let response = connection.sender.send_request(request).await?;
        Ok(Output::new(response, connection))
    }

    async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => Connection::over(stream).await,
            Some(tls) => {
                Connection::over(tls.connect(ServerName::try_from("127.0.0.1")?, stream).await?).await
            }
        }
    }
}

fn request(asked: &Asked<'_>, body: Body) -> anyhow::Result<Request<Body>> {
    let method = Method::from_bytes(asked.method.as_bytes())?;
    let mut request = Request::builder().method(method).uri(asked.path).header("Host", "127.0.0.1");
    for (name, value) in asked.headers {
        request = request.header(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
    }
    Ok(request.body(body)?)
}

/// A connection; dropped, it is closed at once.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Body>,
    task: AbortHandle,
}

impl Connection {
    async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> anyhow::Result<Self> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, task: tokio::spawn(connection).abort_handle() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An answer that streams.
#[derive(Debug)]
pub struct Output {
    head: Parts,
    body: Incoming,
    come: Vec<u8>,
    cut: bool,
    _connection: Connection,
}

impl Output {
    fn new(response: Response<Incoming>, connection: Connection) -> Self {
        let (head, body) = response.into_parts();
        Self { head, body, come: Vec::new(), cut: false, _connection: connection }
    }

    /// Waits until `text` is in the output of all that came, or nothing more comes.
    ///
    /// # Errors
    /// It did not come in time.
    pub async fn until(&mut self, text: &str) -> anyhow::Result<()> {
        let waiting = async {
            while !self.so_far().decoded().to_string().contains(text) {
                if !self.more().await {
                    bail!("the output ended: {}", self.so_far().decoded());
                }
            }
            Ok(())
        };
        timeout(PATIENCE, waiting).await.with_context(|| format!("wait for {text:?}"))?
    }

    /// All of the answer.
    pub async fn rest(mut self) -> Answered {
        while self.more().await {}
        self.so_far()
    }

    fn so_far(&self) -> Answered {
        let (status, headers) = (self.head.status, self.head.headers.clone());
        Answered { status, headers, body: Bytes::copy_from_slice(&self.come), cut: self.cut }
    }

    async fn more(&mut self) -> bool {
        match self.body.frame().await {
            None => false,
            Some(Err(_)) => {
                self.cut = true;
                false
            }
            Some(Ok(frame)) => {
                self.come.extend(frame.data_ref().into_iter().flatten());
                true
            }
        }
    }
}

/// A request whose body goes on.
#[derive(Debug)]
pub struct Input {
    input: Option<mpsc::Sender<Bytes>>,
    answer: JoinHandle<anyhow::Result<Answered>>,
}

impl Input {
    /// More of the body.
    ///
    /// # Errors
    /// The request is over.
    pub async fn send(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let input = self.input.as_ref().context("a body that goes on")?;
        Ok(input.send(Bytes::copy_from_slice(bytes)).await?)
    }

    /// Ends the body, and waits for the answer.
    ///
    /// # Errors
    /// As [`Server::send`].
    pub async fn finish(mut self) -> anyhow::Result<Answered> {
        self.input = None;
        self.answered().await
    }

    /// Waits for an answer while the body goes on.
    ///
    /// # Errors
    /// As [`Server::send`].
    pub async fn answered(mut self) -> anyhow::Result<Answered> {
        timeout(PATIENCE, &mut self.answer).await.context("wait for an answer")??
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        self.answer.abort();
    }
}
