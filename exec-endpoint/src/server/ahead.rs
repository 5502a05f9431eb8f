//! Reads ahead while much comes: TLS takes 4 KiB at a time, each of which would be a system call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A reading that brings this much, all that was asked for, is probably followed by more.
const MUCH: usize = 4 << 10;
/// How much is read at once then.
const AHEAD: usize = 128 << 10;

/// A stream that is read ahead of, once that is worth its memory.
#[derive(Debug)]
pub struct Ahead<S> {
    stream: S,
    /// Empty while little comes.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<S> Ahead<S> {
    /// What it reads from.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// Nothing is read yet.
    pub fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, end: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.start == this.end {
            if this.buffer.is_empty() {
                let wanted = out.remaining();
                ready!(Pin::new(&mut this.stream).poll_read(cx, out))?;
                if wanted >= MUCH && out.remaining() == 0 {
                    this.buffer = vec![0; AHEAD];
                }
                return Poll::Ready(Ok(()));
            }
            let mut some = ReadBuf::new(&mut this.buffer);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut some))?;
            (this.start, this.end) = (0, some.filled().len());
        }
        let some = (this.end - this.start).min(out.remaining());
        out.put_slice(&this.buffer[this.start..this.start + some]);
        this.start += some;
        // Little came: the memory is given back.
        if this.start == this.end && this.end < MUCH {
            (this.buffer, this.start, this.end) = (Vec::new(), 0, 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn all_comes_in_order_however_it_is_asked_for_and_memory_is_given_back() {
        let (mut sender, receiver) = tokio::io::duplex(1 << 20);
        let mut ahead = Ahead::new(receiver);
        let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let sending = data.clone();
        let sender = tokio::spawn(async move {
            sender.write_all(&sending).await.unwrap();
            sender
        });
        let (mut all, mut some) = (Vec::new(), [0; MUCH]);
        while all.len() < data.len() {
            let read = ahead.read(&mut some).await.unwrap();
            all.extend_from_slice(&some[..read]);
        }
        assert!(all == data);
        let mut sender = sender.await.unwrap();
        for _ in 0..2 {
            sender.write_all(b"little").await.unwrap();
            assert_eq!(ahead.read(&mut some).await.unwrap(), 6);
        }
        assert!(ahead.buffer.is_empty());
        drop(sender);
        assert_eq!(ahead.read(&mut some).await.unwrap(), 0);
    }
}
