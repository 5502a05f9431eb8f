//! A connection's bytes. A session that has taken a connection over has this, and so the connection counts until that ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;

use super::ahead::Ahead;
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
    tls: TlsStream<Ahead<TcpStream>>,
    /// Told of bytes where they begin a header: with HTTP/1.1.
    clock: Option<Clock>,
    /// As long as the kernel may wait for a session's client to take what was sent; until it is told.
    dead_after: Option<Duration>,
    _permit: Permit,
}

impl Wire {
    /// After the handshake.
    pub fn new(
        tls: TlsStream<Ahead<TcpStream>>,
        clock: Option<Clock>,
        dead_after: Duration,
        permit: Permit,
    ) -> Self {
        Self { tls, clock, dead_after: Some(dead_after), _permit: permit }
    }

    /// A session that reads nothing, since its process takes no input, hears no pong either: then the kernel has to notice that the
    /// client is dead, by a ping that nobody acknowledges. Other connections are not cut for reading slowly.
    fn guard(&mut self) {
        if self.dead_after.is_some() && self.clock.as_ref().is_some_and(Clock::is_upgraded) {
            let time = self.dead_after.take().and_then(|time| u32::try_from(time.as_millis()).ok());
            if let Err(error) =
                sockopt::set_tcp_user_timeout(self.tls.get_ref().0.get_ref(), time.unwrap_or(u32::MAX))
            {
                tracing::debug!(%error, "set the user timeout of a session's connection");
            }
        }
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
        self.guard();
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
        self.guard();
        Pin::new(&mut self.tls).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
