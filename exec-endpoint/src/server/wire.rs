//! A connection's bytes. A session that has taken a connection over has this, and so the connection counts until that ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use super::clock::Clock;

/// The right to one connection. Dropped when it is closed, on every path.
#[derive(Debug)]
pub struct Permit {
    _held: OwnedSemaphorePermit,
    living: Gauge,
}

impl Permit {
    /// Counts it.
    pub fn new(held: OwnedSemaphorePermit, living: Gauge) -> Self {
        living.inc();
        Self { _held: held, living }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.living.dec();
    }
}

/// What hyper, and after an upgrade a session, reads and writes.
#[derive(Debug)]
pub struct Wire {
    tls: TlsStream<TcpStream>,
    /// Told of bytes where they begin a header: with HTTP/1.1.
    clock: Option<Clock>,
    _permit: Permit,
}

impl Wire {
    /// After the handshake.
    pub fn new(tls: TlsStream<TcpStream>, clock: Option<Clock>, permit: Permit) -> Self {
        Self { tls, clock, _permit: permit }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.tls).poll_read(cx, buffer));
        if buffer.filled().len() > before
            && let Some(clock) = &self.clock
        {
            clock.heard();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
