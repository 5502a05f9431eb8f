//! What goes to the client: one frame at a time, read into the very buffer that is written.
//!
//! ```text
//!  [ reserved: header 10, channel 1 | payload, read here from the pipe ]
//!              ^ the frame starts here
//! ```
//!
//! What is not yet written is kept: a flush may be given up and called again.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::Instant;

use super::frame::{MOST_CONTROL, MOST_HEADER, Opcode, put_header};

/// Where a payload starts in the buffer.
const FRONT: usize = MOST_HEADER + 1;
/// How much is read at once: little at first, more when more is there.
const LEAST: usize = 4 << 10;
const MOST: usize = 256 << 10;

/// A channel to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// How it ended.
    Status = 3,
}

/// What goes to the client.
#[derive(Debug)]
pub struct Outbound<W> {
    writer: W,
    buffer: Vec<u8>,
    /// What of the buffer is to be written.
    start: usize,
    end: usize,
    flushed: bool,
    pong: Option<Vec<u8>>,
    ping: bool,
    progress: Instant,
    filled: bool,
    bytes: u64,
}

impl<W: AsyncWrite + Unpin> Outbound<W> {
    /// To this client.
    pub fn new(writer: W) -> Self {
        Self {
            writer,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            flushed: true,
            pong: None,
            ping: false,
            progress: Instant::now(),
            filled: false,
            bytes: 0,
        }
    }

    /// Whether there is something to flush. No frame may be added then.
    pub fn pending(&self) -> bool {
        self.start < self.end || !self.flushed || self.ping || self.pong.is_some()
    }

    /// When something was last written, or began to wait for it.
    pub fn progress(&self) -> Instant {
        self.progress
    }

    /// Bytes of output so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where a payload is read to, before [`Self::frame`].
    pub fn space(&mut self) -> &mut [u8] {
        let payload = self.buffer.len().saturating_sub(FRONT);
        if payload < LEAST || std::mem::take(&mut self.filled) {
            self.buffer = vec![0; FRONT + (payload * 4).clamp(LEAST, MOST)];
        }
        &mut self.buffer[FRONT..]
    }

    /// So much of the space is a message on this channel. If that is all of it, there is more space the next time.
    pub fn frame(&mut self, channel: Channel, length: usize) {
        debug_assert!(self.start == self.end, "a frame is not yet written");
        self.begin();
        self.bytes += length as u64;
        self.buffer[FRONT - 1] = channel as u8;
        self.start = put_header(&mut self.buffer, FRONT - 1, Opcode::Binary, length + 1);
        self.end = FRONT + length;
        self.filled = self.end == self.buffer.len() && length < MOST;
    }

    /// Gives memory back that is not in use.
    pub fn shrink(&mut self) {
        if self.start == self.end {
            self.buffer = Vec::new();
        }
    }

    /// A message on this channel that is not output.
    pub fn message(&mut self, channel: Channel, payload: &[u8]) {
        self.begin();
        if self.buffer.len() < FRONT + payload.len() {
            self.buffer = vec![0; FRONT + payload.len()];
        }
        self.buffer[FRONT..FRONT + payload.len()].copy_from_slice(payload);
        self.frame(channel, payload.len());
        self.bytes -= payload.len() as u64;
    }

    /// The client is to answer.
    pub fn ping(&mut self) {
        self.begin();
        self.ping = true;
    }

    /// Answers a ping; the latest one is enough (RFC 6455, 5.5.3).
    pub fn pong(&mut self, payload: Vec<u8>) {
        self.begin();
        self.pong = Some(payload);
    }

    /// A close frame.
    pub fn close(&mut self, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        let mut end = reason.len().min(MOST_CONTROL - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(&reason.as_bytes()[..end]);
        self.begin();
        self.control(Opcode::Close, &payload);
    }

    /// Writes all that is pending. May be given up and called again.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn flush(&mut self) -> io::Result<()> {
        loop {
            while self.start < self.end {
                let written = self.writer.write(&self.buffer[self.start..self.end]).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.start += written;
                self.flushed = false;
                self.progress = Instant::now();
            }
            if let Some(payload) = self.pong.take() {
                self.control(Opcode::Pong, &payload);
            } else if std::mem::take(&mut self.ping) {
                self.control(Opcode::Ping, &[]);
            } else {
                self.writer.flush().await?;
                self.flushed = true;
                return Ok(());
            }
        }
    }

    /// Ends the connection.
    ///
    /// # Errors
    /// It has ended already.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.writer.shutdown().await
    }

    fn begin(&mut self) {
        if !self.pending() {
            self.progress = Instant::now();
        }
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        debug_assert!(self.start == self.end, "a frame is not yet written");
        if self.buffer.len() < FRONT + payload.len() {
            self.buffer = vec![0; FRONT + MOST_CONTROL];
        }
        self.start = put_header(&mut self.buffer, FRONT, opcode, payload.len());
        self.end = FRONT + payload.len();
        self.buffer[FRONT..self.end].copy_from_slice(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn frames_come_whole_and_in_order_though_flushing_is_given_up() {
        let (ours, mut theirs) = tokio::io::duplex(16);
        let mut outbound = Outbound::new(ours);
        outbound.space()[..100].fill(7);
        outbound.frame(Channel::Stdout, 100);
        let reading = async {
            let mut all = vec![];
            for _ in 0..10 {
                let mut some = [0; 16];
                let read = theirs.read(&mut some).await.unwrap();
                all.extend_from_slice(&some[..read]);
                if all.len() >= 106 {
                    break;
                }
            }
            all
        };
        tokio::pin!(reading);
        let mut all = None;
        while all.is_none() {
            tokio::select! {
                biased;
                came = &mut reading => all = Some(came),
                _ = outbound.flush(), if outbound.pending() => outbound.ping(),
                () = tokio::task::yield_now() => {}
            }
        }
        let all = all.unwrap();
        assert_eq!(all[..3], [0x82, 101, 1]);
        assert!(all[3..103].iter().all(|&byte| byte == 7));
        assert_eq!((&all[103..105], outbound.bytes()), (&[0x89, 0][..], 100));
    }

    #[tokio::test]
    async fn a_close_reason_is_cut_at_a_character() {
        let (ours, mut theirs) = tokio::io::duplex(1024);
        let mut outbound = Outbound::new(ours);
        outbound.close(1000, &"ä".repeat(100));
        outbound.flush().await.unwrap();
        drop(outbound);
        let mut all = vec![];
        theirs.read_to_end(&mut all).await.unwrap();
        assert_eq!(all[..4], [0x88, 124, 3, 0xe8]);
        assert_eq!(String::from_utf8(all[4..].to_vec()).unwrap(), "ä".repeat(61));
    }
}
