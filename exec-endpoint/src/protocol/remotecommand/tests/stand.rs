//! An endpoint on 127.0.0.1, and a client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::executor::{Executor, pod};
use crate::endpoint::{Caller, Endpoint};
use crate::identity::Who;
use crate::inventory::{Inventory, PodView};
use crate::protocol::tasks;
use crate::session::timing::Timing;

pub(super) const V5: &str = "v5.channel.k8s.io";
pub(super) const V4: &str = "v4.channel.k8s.io";

/// An endpoint with one executor with one task, `etcd-0-peer`.
pub(super) struct Stand {
    pub(super) address: SocketAddr,
    pub(super) executor: Executor,
    pub(super) endpoint: Arc<Endpoint>,
    _drain: watch::Sender<bool>,
}

pub(super) type Stream = WebSocketStream<TcpStream>;

pub(super) fn caller(peer: SocketAddr) -> Caller {
    Caller { who: Who { user: "ann".into(), groups: vec![] }, peer }
}

impl Stand {
    pub(super) async fn new() -> Self {
        Self::with(Timing::default()).await
    }

    pub(super) async fn with(timing: Timing) -> Self {
        let executor = Executor::start();
        let view = PodView { socket: executor.socket.clone(), pod: pod(&["etcd-0-peer"]), revision: 1 };
        let pods = BTreeMap::from([(("f".into(), "c".into()), Arc::new(view))]);
        let inventory = watch::channel(Arc::new(Inventory { pods, revision: 1 })).1;
        let (endpoint, drain) = Endpoint::allowing_everything(inventory);
        let endpoint = Arc::new(Endpoint { timing, ..endpoint });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let shared = shared.clone();
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    let answer = tasks::handle(shared.clone(), caller(peer), request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                tokio::spawn(connection);
            }
        });
        Self { address, executor, endpoint, _drain: drain }
    }

    /// A session.
    pub(super) async fn open(&self, path: &str, version: &str) -> Client {
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", version.parse().unwrap());
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (stream, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], version);
        assert_eq!(response.headers()["kubex-task"], "etcd-0-peer");
        Client { stream, session: response.headers()["kubex-session"].to_str().unwrap().to_owned() }
    }

    /// An exec with stdout and stderr and what else the query says.
    pub(super) async fn exec(&self, command: &[&str], query: &str) -> Client {
        self.open(&exec_path(command, query), V5).await
    }

    /// A request as it is written: the status and the body.
    pub(super) async fn raw(&self, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// A plain request.
    pub(super) async fn plain(&self, method: &str, path: &str, headers: &str) -> (u16, Value) {
        let close = if headers.is_empty() { "connection: close\r\n" } else { "" };
        self.raw(&format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{close}{headers}\r\n")).await
    }

    /// Waits until no session is left.
    pub(super) async fn empty(&self) {
        let mut rounds = 0;
        while self.endpoint.registry.living() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
            rounds += 1;
            assert!(rounds < 4000, "sessions are left");
        }
    }
}

pub(super) fn exec_path(command: &[&str], query: &str) -> String {
    let encode = |text: &&str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let command: Vec<String> = command.iter().map(|one| format!("command={}", encode(one))).collect();
    format!("/kubex/v1/tasks/etcd-0-peer/exec?stdout=true&stderr=true&{query}&{}", command.join("&"))
}

/// A client.
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) session: String,
}

/// What a client saw.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) status: Option<Value>,
    pub(super) close: Option<(u16, String)>,
}

impl Outcome {
    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The exit code as kubectl reads it.
    pub(super) fn code(&self) -> Option<i32> {
        let status = self.status.as_ref()?;
        if status["status"] == "Success" {
            return Some(0);
        }
        (status["reason"] == "NonZeroExitCode")
            .then(|| status["details"]["causes"][0]["message"].as_str().unwrap().parse().unwrap())
    }

    pub(super) fn reason(&self) -> &str {
        self.status.as_ref().and_then(|status| status["reason"].as_str()).unwrap_or_default()
    }
}

impl Client {
    pub(super) async fn send(&mut self, channel: u8, payload: &[u8]) {
        let message = [&[channel], payload].concat();
        self.stream.send(Message::binary(message)).await.unwrap();
    }

    /// The next output.
    pub(super) async fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Message::Binary(bytes) = self.stream.next().await.unwrap().unwrap() {
                return (bytes[0], bytes[1..].to_vec());
            }
        }
    }

    /// All to the end: the status is the last message, and then comes the close frame.
    pub(super) async fn outcome(self) -> Outcome {
        let mut outcome = Outcome::default();
        let mut stream = self.stream;
        while let Some(Ok(message)) = stream.next().await {
            match message {
                Message::Binary(bytes) => {
                    assert!(outcome.status.is_none(), "the status is last: {bytes:?}");
                    match bytes[0] {
                        1 => outcome.stdout.extend_from_slice(&bytes[1..]),
                        2 => outcome.stderr.extend_from_slice(&bytes[1..]),
                        3 => outcome.status = Some(serde_json::from_slice(&bytes[1..]).unwrap()),
                        other => panic!("channel {other}"),
                    }
                }
                Message::Close(frame) => {
                    let frame = frame.unwrap();
                    outcome.close = Some((frame.code.into(), frame.reason.to_string()));
                }
                _ => {}
            }
        }
        outcome
    }
}
