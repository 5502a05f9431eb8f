//! The client's side of an exec endpoint: TCP, TLS, HTTP/1.1, and the upgrade to a WebSocket.

mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{
    AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use task::control::Pod;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::config::{Server, Target, Token};
use crate::failure::{Failure, tls_cause};
use crate::percent::encode;

/// How long connecting may take, and TLS.
const CONNECTED: Duration = Duration::from_secs(10);
/// How long an answer may take: an executor has 20 s for starting a process.
const ANSWERED: Duration = Duration::from_secs(30);
/// rustls reads 4 KiB at a time; this makes few system calls of them.
const READ_BUFFER: usize = 256 * 1024;
/// What of a refusal is read.
const LONGEST_REFUSAL: usize = 64 * 1024;
/// The longest list of tasks.
const LONGEST_LIST: usize = 64 << 20;

/// The encrypted stream.
pub(crate) type Wire = TlsStream<BufReader<TcpStream>>;

/// What sessions speak over a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Without a half-close.
    V4,
    /// With one.
    V5,
}

/// A session that the server agreed to.
pub(crate) struct Upgraded {
    /// The stream.
    pub(crate) wire: Wire,
    /// What of it was read already.
    pub(crate) early: Bytes,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// Its id, for signals.
    pub(crate) session: Option<String>,
    /// The whole name of its task.
    pub(crate) task: Option<String>,
}

/// Knows a server and who we are there.
pub(crate) struct Client {
    server: Server,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Client").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the certificates and the token.
    ///
    /// # Errors
    /// They cannot be read or used.
    pub(crate) fn new(target: &Target) -> Result<Self, Failure> {
        let Target { server, trust, identity, token } = target;
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| Failure::Usage(format!("server {server}: {:?} is no host name", server.host)))?;
        let tls = Arc::new(tls::config(trust, identity.as_ref())?);
        Ok(Self { server: server.clone(), name, tls, authorization: authorization(token)? })
    }

    /// The server, for people.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// A new connection.
    ///
    /// # Errors
    /// The server cannot be reached or is not trusted.
    pub(crate) async fn connect(&self) -> Result<Connection<'_>, Failure> {
        let unreachable = |source| Failure::Unreachable { server: self.server.to_string(), source };
        let late = |_| self.late(CONNECTED);
        let stream =
            tokio::time::timeout(CONNECTED, self.dial()).await.map_err(late)?.map_err(unreachable)?;
        let stream = BufReader::with_capacity(READ_BUFFER, stream);
        let connecting = TlsConnector::from(self.tls.clone()).connect(self.name.clone(), stream);
        let wire =
            tokio::time::timeout(CONNECTED, connecting).await.map_err(late)?.map_err(
                |source| match tls_cause(&source) {
                    Some(tls) => Failure::Tls { server: self.server.to_string(), source: tls.clone() },
                    None => unreachable(source),
                },
            )?;
        let (sender, connection) =
            handshake(TokioIo::new(wire)).await.map_err(|error| self.unanswered(error))?;
        // Its errors come out at the request that is under way, too.
        tokio::spawn(connection.with_upgrades());
        Ok(Connection { client: self, sender })
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let stream = match self.server.host.parse::<IpAddr>() {
            Ok(address) => TcpStream::connect(SocketAddr::new(address, self.server.port)).await?,
            Err(_) => TcpStream::connect((self.server.host.as_str(), self.server.port)).await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn late(&self, after: Duration) -> Failure {
        let source = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {after:?}"));
        Failure::Unreachable { server: self.server.to_string(), source }
    }

    fn unanswered(&self, source: hyper::Error) -> Failure {
        match tls_cause(&source) {
            Some(tls) => Failure::Tls { server: self.server.to_string(), source: tls.clone() },
            None => Failure::Unanswered { server: self.server.to_string(), source },
        }
    }

    fn strange(&self, what: impl Into<String>) -> Failure {
        Failure::Strange { server: self.server.to_string(), what: what.into() }
    }
}

/// A connection, for one request after the other.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    client: &'a Client,
    sender: SendRequest<Empty<Bytes>>,
}

/// The path of a task's subresource.
pub(crate) fn task_path(task: &str, subresource: &str, query: &str) -> String {
    format!("/kubex/v1/tasks/{}/{subresource}{query}", encode(task))
}

impl Connection<'_> {
    /// Asks; an answer that is no success is an error.
    ///
    /// # Errors
    /// [`Failure::Refused`] with the server's sentence, or that there was no answer.
    pub(crate) async fn ask(&mut self, method: Method, path: &str) -> Result<Response<Incoming>, Failure> {
        let response = self.send(method, path, HeaderMap::new()).await?;
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response).await) }
    }

    /// The list of tasks as the server gives it.
    ///
    /// # Errors
    /// As of [`Self::ask`].
    pub(crate) async fn tasks(&mut self) -> Result<Bytes, Failure> {
        let response = self.ask(Method::GET, "/kubex/v1/tasks").await?;
        let body = Limited::new(response.into_body(), LONGEST_LIST).collect();
        let body = tokio::time::timeout(ANSWERED, body)
            .await
            .map_err(|_| Failure::Broken("the list of tasks stalled".into()))?;
        Ok(body.map_err(|error| Failure::Broken(format!("read the list of tasks: {error}")))?.to_bytes())
    }

    /// The pods and their tasks.
    ///
    /// # Errors
    /// As of [`Self::ask`], or a list that is none.
    pub(crate) async fn pods(&mut self) -> Result<Vec<Pod>, Failure> {
        let bytes = self.tasks().await?;
        self.client.pods(&bytes)
    }

    /// Makes a WebSocket of the connection.
    ///
    /// # Errors
    /// As of [`Self::ask`]; or the server does not speak WebSocket.
    pub(crate) async fn upgrade(mut self, path: &str) -> Result<Upgraded, Failure> {
        let key = generate_key();
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers
            .insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v5.channel.k8s.io, v4.channel.k8s.io"));
        headers.insert(
            SEC_WEBSOCKET_KEY,
            HeaderValue::from_str(&key).map_err(|_| self.client.strange("no key"))?,
        );
        let response = self.send(Method::GET, path, headers).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(if response.status().is_success() {
                self.client.strange(format!("{} instead of a WebSocket", response.status()))
            } else {
                self.refusal(response).await
            });
        }
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        if text(SEC_WEBSOCKET_ACCEPT.as_str()).as_deref() != Some(derive_accept_key(key.as_bytes()).as_str())
        {
            return Err(self.client.strange("a WebSocket that is not for this request"));
        }
        let protocol = match text(SEC_WEBSOCKET_PROTOCOL.as_str()).as_deref() {
            Some("v5.channel.k8s.io") => Protocol::V5,
            Some("v4.channel.k8s.io") => Protocol::V4,
            other => return Err(self.client.strange(format!("the subprotocol {other:?}"))),
        };
        let (session, task) = (text("kubex-session"), text("kubex-task"));
        let upgraded = hyper::upgrade::on(response).await.map_err(|error| self.client.unanswered(error))?;
        let parts = upgraded
            .downcast::<TokioIo<Wire>>()
            .map_err(|_| self.client.strange("an upgrade of another connection"))?;
        Ok(Upgraded { wire: parts.io.into_inner(), early: parts.read_buf, protocol, session, task })
    }

    async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: HeaderMap,
    ) -> Result<Response<Incoming>, Failure> {
        let Client { server, authorization, .. } = self.client;
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", server.prefix)
            .parse()
            .map_err(|error| Failure::Usage(format!("ask for {path:.100}: {error}")))?;
        *request.headers_mut() = headers;
        let host = HeaderValue::from_str(&server.authority)
            .map_err(|error| Failure::Usage(format!("server {server}: {error}")))?;
        request.headers_mut().insert(HOST, host);
        request
            .headers_mut()
            .insert(USER_AGENT, HeaderValue::from_static(concat!("kubex/", env!("CARGO_PKG_VERSION"))));
        if let Some(authorization) = authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        match tokio::time::timeout(ANSWERED, self.sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| self.client.unanswered(error)),
            Err(_) => Err(self.client.late(ANSWERED)),
        }
    }

    async fn refusal(&self, response: Response<Incoming>) -> Failure {
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_REFUSAL).collect();
        let body = match tokio::time::timeout(ANSWERED, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => Bytes::new(),
        };
        let message = sentence(&body).unwrap_or_else(|| format!("{} answered {status}", self.client.server));
        Failure::Refused { status, message, near: Vec::new() }
    }
}

impl Client {
    /// A list of tasks, read.
    ///
    /// # Errors
    /// [`Failure::Strange`].
    pub(crate) fn pods(&self, list: &[u8]) -> Result<Vec<Pod>, Failure> {
        serde_json::from_slice(list)
            .map_err(|error| self.strange(format!("a list of tasks that is none ({error})")))
    }
}

/// The sentence of a Kubernetes Status, or of a plain text.
fn sentence(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let sentence = match serde_json::from_slice::<Status>(body) {
        Ok(Status { message }) => message,
        Err(_) => String::from_utf8_lossy(body).lines().next().unwrap_or_default().trim().to_owned(),
    };
    (!sentence.is_empty()).then_some(sentence)
}

fn authorization(token: &Token) -> Result<Option<HeaderValue>, Failure> {
    let token = match token {
        Token::None => return Ok(None),
        Token::Known(token) => token.clone(),
        Token::File(path) => std::fs::read_to_string(path).map_err(|source| Failure::File {
            verb: "read the token",
            path: path.clone(),
            source,
        })?,
    };
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
        .map_err(|_| Failure::Usage("the token has characters that a header cannot have".to_owned()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_of_a_refusal_is_its_statuss_message_or_its_first_line() {
        assert_eq!(sentence(br#"{"kind":"Status","message":"no"}"#).as_deref(), Some("no"));
        assert_eq!(sentence(b"go away\nnow").as_deref(), Some("go away"));
        assert_eq!(sentence(b""), None);
    }

    #[test]
    fn a_task_name_cannot_leave_its_segment() {
        assert_eq!(task_path("../a?b", "exec", "?x=y"), "/kubex/v1/tasks/..%2Fa%3Fb/exec?x=y");
    }

    #[test]
    fn a_token_is_one_line_of_a_header_and_never_shown() {
        assert!(authorization(&Token::Known("a\nb".into())).is_err());
        let value = authorization(&Token::Known("abc\n".into())).unwrap().unwrap();
        assert_eq!((value.to_str().unwrap(), format!("{value:?}").as_str()), ("Bearer abc", "Sensitive"));
    }
}
