//! Stdin, read by a thread of its own: a read of it may last for ever.

use std::io;
use std::os::fd::AsFd as _;

use rustix::event::PollFlags;
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::output::{grow_pipe, wait_for};
use crate::session::channel::STDIN;
use crate::websocket::HEADER;

/// What stands before the input in a buffer: room for the frame's header, and the channel.
pub(crate) const ROOM: usize = HEADER + 1;
/// A frame's payload is 256 KiB at most, the channel included.
const BUFFER: usize = HEADER + 256 * 1024;
/// How many chunks may wait. What comes then stays where it is: that is the back-pressure.
const WAITING: usize = 2;

/// A piece of the input.
#[derive(Debug)]
pub(crate) enum Chunk {
    /// A buffer, and how much of it is used, [`ROOM`] included.
    Bytes(Vec<u8>, usize),
    /// There is no more.
    End,
    /// It cannot be read.
    Failed(io::Error),
}

/// The input as it comes.
#[derive(Debug)]
pub(crate) struct Input {
    chunks: mpsc::Receiver<Chunk>,
    used: std::sync::mpsc::Sender<Vec<u8>>,
}

impl Input {
    /// Begins to read stdin.
    ///
    /// # Errors
    /// There can be no thread.
    pub(crate) fn start() -> Result<Self, Failure> {
        let (chunks, receiver) = mpsc::channel(WAITING);
        let (used, buffers) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("input".to_owned())
            .spawn(move || read(&chunks, &buffers))
            .map_err(|source| Failure::Local { verb: "start a thread", source })?;
        Ok(Self { chunks: receiver, used })
    }

    /// The next piece. May be given up and called again.
    pub(crate) async fn next(&mut self) -> Chunk {
        self.chunks.recv().await.unwrap_or(Chunk::End)
    }

    /// Gives a buffer back.
    pub(crate) fn reuse(&self, buffer: Vec<u8>) {
        // A thread that has ended needs none.
        let _ = self.used.send(buffer);
    }
}

fn read(chunks: &mpsc::Sender<Chunk>, buffers: &std::sync::mpsc::Receiver<Vec<u8>>) {
    let stdin = io::stdin();
    let mut grown = false;
    loop {
        let mut buffer = buffers.try_recv().unwrap_or_else(|_| vec![0; BUFFER]);
        buffer[HEADER] = STDIN;
        let chunk = match rustix::io::read(&stdin, &mut buffer[ROOM..]) {
            Ok(0) => Chunk::End,
            Ok(count) => {
                if !grown && count >= 32 * 1024 {
                    grown = true;
                    grow_pipe(stdin.as_fd());
                }
                Chunk::Bytes(buffer, ROOM + count)
            }
            Err(Errno::INTR) => continue,
            // Somebody who shares the descriptor made it non-blocking.
            Err(Errno::AGAIN) => match wait_for(stdin.as_fd(), PollFlags::IN) {
                Ok(()) => continue,
                Err(error) => Chunk::Failed(error),
            },
            // A terminal that is gone, or is another job's.
            Err(Errno::IO) => Chunk::End,
            Err(error) => Chunk::Failed(error.into()),
        };
        let more = matches!(chunk, Chunk::Bytes(..));
        if chunks.blocking_send(chunk).is_err() || !more {
            return;
        }
    }
}
