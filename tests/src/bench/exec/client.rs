//! A client of the endpoint in this process: a connection by TLS, and a session over a WebSocket on it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::endpoint::Client;

/// The channel of input and output, and of how it ended (Kubernetes' remotecommand).
pub const STDIN: u8 = 0;
/// See there.
pub const STDOUT: u8 = 1;
/// See there.
pub const STATUS: u8 = 3;

/// An encrypted connection.
pub type Connection = TlsStream<TcpStream>;

/// Knows an endpoint and who we are there.
#[derive(Clone)]
pub struct Tls {
    address: SocketAddr,
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Tls").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Tls {
    /// The endpoint on this port of 127.0.0.1, with a client's certificate.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(client: &Client, port: u16) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(client.trusted()).context("read the authority")?)?;
        let pair = client.pair();
        let chain = vec![CertificateDer::from_pem_file(&pair.certificate).context("read a certificate")?];
        let key = PrivateKeyDer::from_pem_file(&pair.key).context("read a key")?;
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { address, connector: Arc::new(config).into() })
    }

    /// A new connection.
    ///
    /// # Errors
    /// There is none.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(self.address).await.context("connect to the endpoint")?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        self.connector.connect(name, stream).await.context("shake hands with the endpoint")
    }

    /// A session on a new connection.
    ///
    /// # Errors
    /// As [`Session::on`].
    pub async fn session(&self, path: &str) -> anyhow::Result<Session> {
        Session::on(self.connect().await?, path).await
    }
}

/// A session.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    unread: BytesMut,
}

impl Session {
    /// On this connection.
    ///
    /// # Errors
    /// It was refused.
    pub async fn on(connection: Connection, path: &str) -> anyhow::Result<Self> {
        let mut this = Self { connection, unread: BytesMut::new() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
             Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n"
        );
        this.connection.write_all(request.as_bytes()).await?;
        loop {
            if let Some(end) = this.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = this.unread.split_to(end + 4);
                if !head.starts_with(b"HTTP/1.1 101 ") {
                    bail!("no session: {}", String::from_utf8_lossy(&head));
                }
                return Ok(this);
            }
            this.read().await?;
        }
    }

    /// The next message: its channel, and what it says. Pings are answered.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn next(&mut self) -> anyhow::Result<(u8, Bytes)> {
        loop {
            match self.frame() {
                Some((2, mut payload)) if !payload.is_empty() => return Ok((payload.get_u8(), payload)),
                Some((8, payload)) => bail!("the endpoint closed: {payload:?}"),
                Some((9, payload)) => self.write(10, &payload).await?,
                Some(_) => {}
                None => self.read().await?,
            }
        }
    }

    /// Waits for the status; what came on stdout is counted.
    ///
    /// # Errors
    /// As [`Session::next`]; or the status is no success.
    pub async fn end(mut self) -> anyhow::Result<usize> {
        let mut bytes = 0;
        loop {
            match self.next().await? {
                (STDOUT, payload) => bytes += payload.len(),
                (STATUS, status) if status.windows(9).any(|nine| nine == b"\"Success\"") => return Ok(bytes),
                (STATUS, status) => bail!("it failed: {}", String::from_utf8_lossy(&status)),
                _ => {}
            }
        }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn send(&mut self, channel: u8, payload: &[u8]) -> anyhow::Result<()> {
        self.write(2, &[&[channel], payload].concat()).await
    }

    /// A frame, masked by nothing: for these lengths only.
    async fn write(&mut self, opcode: u8, payload: &[u8]) -> anyhow::Result<()> {
        let length =
            u8::try_from(payload.len()).ok().filter(|&length| length < 126).context("a short payload")?;
        let frame = [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat();
        Ok(self.connection.write_all(&frame).await?)
    }

    /// A whole frame, if one has come; the endpoint's are never in fragments.
    fn frame(&mut self) -> Option<(u8, Bytes)> {
        let short = usize::from(*self.unread.get(1)? & 0x7f);
        let width = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let long =
            self.unread.get(2..2 + width)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        let (length, head) = (if width == 0 { short } else { long }, 2 + width);
        if self.unread.len() < head + length {
            return None;
        }
        let opcode = self.unread[0] & 0xf;
        self.unread.advance(head);
        Some((opcode, self.unread.split_to(length).freeze()))
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        self.unread.reserve(1024);
        match self.connection.read_buf(&mut self.unread).await? {
            0 => bail!("the endpoint closed the connection"),
            _ => Ok(()),
        }
    }
}
