//! Requests to an endpoint to the byte, and WebSockets frame by frame: what no well-behaved client sends.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, rustls};

use super::client::Client;
use crate::pki::Pair;

/// How long an endpoint may take for what it has to say.
const PATIENCE: Duration = Duration::from_secs(20);
/// The example of RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A TLS connection that speaks what it is told to.
#[derive(Debug)]
pub struct Raw {
    stream: TlsStream<TcpStream>,
    unread: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub code: u16,
    /// Its head, whole.
    pub head: String,
    /// Its body, as far as its content-length says.
    pub body: String,
}

/// A WebSocket.
#[derive(Debug)]
pub struct Socket {
    raw: Raw,
}

/// How a session ended, and what it showed before.
#[derive(Debug, Default)]
pub struct Ended {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Error output.
    pub stderr: Vec<u8>,
    /// The status; none if the connection ended without.
    pub status: Option<Value>,
    /// The close frame's code and reason.
    pub close: Option<(u16, String)>,
}

impl Ended {
    /// The status's reason, or `Success`.
    ///
    /// # Panics
    /// There is no status.
    pub fn reason(&self) -> &str {
        let status = self.status.as_ref().unwrap_or_else(|| panic!("no status: {self:?}"));
        if status["status"] == "Success" { "Success" } else { status["reason"].as_str().unwrap_or("?") }
    }
}

impl Client {
    /// A connection with this certificate, or none, to this address instead of the endpoint's own.
    ///
    /// # Errors
    /// What the network or TLS says.
    pub async fn raw_to(&self, address: &str, pair: Option<&Pair>) -> std::io::Result<Raw> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(self.tls(pair))).connect(name, stream).await?;
        Ok(Raw { stream, unread: Vec::new() })
    }

    /// A connection with its own certificate.
    ///
    /// # Errors
    /// What the network or TLS says.
    pub async fn raw(&self) -> std::io::Result<Raw> {
        self.raw_to(self.address(), Some(self.pair())).await
    }

    /// The answer to a request on a connection of its own.
    ///
    /// # Panics
    /// There is none.
    pub async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answered {
        let mut raw = self.raw().await.expect("connect to the endpoint");
        raw.ask(method, path, headers).await
    }

    /// A session, or the refusal.
    ///
    /// # Errors
    /// The answer that is no 101.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn open(&self, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Answered> {
        self.raw().await.expect("connect to the endpoint").open(path, headers).await
    }

    fn tls(&self, pair: Option<&Pair>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_file_iter(self.trusted()).expect("an authority") {
            roots.add(root.expect("a certificate")).expect("a root");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .expect("versions of TLS")
            .with_root_certificates(roots);
        let Some(pair) = pair else { return config.with_no_client_auth() };
        let chain = CertificateDer::pem_file_iter(&pair.certificate).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&pair.key).expect("a key");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("a chain");
        config.with_client_auth_cert(chain, key).expect("a pair")
    }
}

impl Raw {
    /// Sends bytes.
    ///
    /// # Errors
    /// The endpoint has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The answer to a request without a body.
    ///
    /// # Panics
    /// There is none.
    pub async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answered {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n{lines}\r\n");
        self.send(text.as_bytes()).await.expect("send a request");
        self.answered().await.unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// The answer to a POST of JSON.
    ///
    /// # Panics
    /// There is none.
    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], json: &Value) -> Answered {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let body = json.to_string();
        let length = body.len();
        let kind = "application/json";
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\naccept: {kind}\r\n\
             content-length: {length}\r\n{lines}\r\n{body}"
        );
        self.send(text.as_bytes()).await.expect("send a request");
        self.answered().await.unwrap_or_else(|| panic!("no answer to POST {path}"))
    }

    /// The answer to bytes; `None` when the endpoint closes instead.
    pub async fn say(&mut self, bytes: &[u8]) -> Option<Answered> {
        // What is sent after the endpoint has closed is lost; what it said before may still be read.
        let _ = self.send(bytes).await;
        self.answered().await
    }

    /// The endpoint's certificate.
    pub fn server_certificate(&self) -> Option<CertificateDer<'static>> {
        self.stream.get_ref().1.peer_certificates()?.first().map(|one| one.clone().into_owned())
    }

    /// The next answer; `None` when the endpoint closes instead.
    ///
    /// # Panics
    /// It is not HTTP/1.1, or does not come in time.
    pub async fn answered(&mut self) -> Option<Answered> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.more().await {
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let head = String::from_utf8(head).expect("a head of text").to_ascii_lowercase();
        let code = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
        let chunked = head.contains("transfer-encoding: chunked");
        loop {
            let whole =
                if chunked { self.unread.ends_with(b"0\r\n\r\n") } else { self.unread.len() >= length };
            if whole || !self.more().await {
                break;
            }
        }
        let length = if chunked { self.unread.len() } else { length.min(self.unread.len()) };
        let body: Vec<u8> = self.unread.drain(..length).collect();
        Some(Answered { code, head, body: String::from_utf8_lossy(&body).into_owned() })
    }

    /// Whether the endpoint closes within this time, whatever it says before.
    pub async fn closes_within(&mut self, time: Duration) -> bool {
        let mut buffer = [0; 4096];
        let closing = async { while let Ok(1..) = self.stream.read(&mut buffer).await {} };
        tokio::time::timeout(time, closing).await.is_ok()
    }

    /// Makes it a WebSocket.
    ///
    /// # Errors
    /// The answer that is no 101.
    ///
    /// # Panics
    /// There is no answer.
    pub async fn open(mut self, path: &str, headers: &[(&str, &str)]) -> Result<Socket, Answered> {
        let mut all = vec![
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ];
        if !headers.iter().any(|(name, _)| *name == "sec-websocket-protocol") {
            all.push(("sec-websocket-protocol", "v5.channel.k8s.io"));
        }
        all.extend(headers);
        let lines: String = all.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let text = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n");
        self.send(text.as_bytes()).await.expect("ask for a session");
        let answered = self.answered().await.unwrap_or_else(|| panic!("no answer to GET {path}"));
        if answered.code == 101 { Ok(Socket { raw: self }) } else { Err(answered) }
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 64 << 10];
        let reading = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer)).await;
        match reading.expect("the endpoint to say something in time") {
            Ok(read @ 1..) => {
                self.unread.extend_from_slice(&buffer[..read]);
                true
            }
            _ => false,
        }
    }
}

/// A frame as clients send them: masked, with this first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let length = payload.len();
    match length {
        0..=125 => bytes.push(0x80 | u8::try_from(length).expect("short")),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(length).expect("middling").to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

impl Socket {
    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The endpoint has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.raw.send(bytes).await
    }

    /// Sends input.
    ///
    /// # Errors
    /// The endpoint has closed.
    pub async fn input(&mut self, text: &[u8]) -> std::io::Result<()> {
        self.send(&frame(0x82, &[&[0], text].concat())).await
    }

    /// The next frame from the endpoint: its first byte and its payload; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((used, frame)) = cut(&self.raw.unread) {
                self.raw.unread.drain(..used);
                return Some(frame);
            }
            if !self.raw.more().await {
                return None;
            }
        }
    }

    /// Reads on until so much output has come.
    ///
    /// # Panics
    /// The session ends first.
    pub async fn wait_for(&mut self, text: &str) {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(text) {
            match self.next().await {
                Some((0x82, payload)) if matches!(payload.first(), Some(1 | 2)) => {
                    all.extend_from_slice(&payload[1..]);
                }
                Some((0x89 | 0x8a, _)) => {}
                other => panic!("waiting for {text:?} after {:?}: {other:?}", String::from_utf8_lossy(&all)),
            }
        }
    }

    /// Everything up to the end of the connection; a close is answered.
    pub async fn end(&mut self) -> Ended {
        let mut ended = Ended::default();
        while let Some((first, payload)) = self.next().await {
            match (first, payload.split_first()) {
                (0x82, Some((1, rest))) => ended.stdout.extend_from_slice(rest),
                (0x82, Some((2, rest))) => ended.stderr.extend_from_slice(rest),
                (0x82, Some((3, rest))) => ended.status = serde_json::from_slice(rest).ok(),
                (0x88, _) => {
                    let code = payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                    let reason = String::from_utf8_lossy(payload.get(2..).unwrap_or_default()).into_owned();
                    ended.close = Some((code, reason));
                    drop(self.send(&frame(0x88, &1000_u16.to_be_bytes())).await);
                }
                _ => {}
            }
        }
        ended
    }
}

fn cut(bytes: &[u8]) -> Option<(usize, (u8, Vec<u8>))> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (header, length) = match second & 0x7f {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    Some((header + length, (first, bytes.get(header..header + length)?.to_vec())))
}
