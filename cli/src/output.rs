//! Writing to stdout and stderr.
//!
//! A session writes by a thread of its own ([`Writer`]): writes to a pipe or terminal that nobody reads block, and pings must be
//! answered meanwhile.

use std::io::{self, IsTerminal as _, Write as _};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::failure::Failure;

/// How much a batch holds. Large, since each one costs a wake-up of two threads.
pub(crate) const BATCH: usize = 256 * 1024;
/// One is filled while another is written, and one lies between.
const BATCHES: usize = 3;

/// Says something on stderr. If nobody hears it, so be it.
pub(crate) fn say(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes all of it to stdout.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    io::stdout().lock().flush().and_then(|()| write_all(io::stdout().as_fd(), text)).map_err(Failure::Output)
}

/// Whether stdout is for eyes that like color.
pub(crate) fn colored() -> bool {
    let unset = |name| std::env::var_os(name).is_none_or(|value| value.is_empty());
    io::stdout().is_terminal()
        && unset("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Where output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Bytes, and which of them go where.
#[derive(Debug)]
pub(crate) struct Batch {
    /// The bytes, always [`BATCH`] of them.
    pub(crate) bytes: Vec<u8>,
    /// What is to be written, in order.
    pub(crate) parts: Vec<(Stream, Range<usize>)>,
}

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    full: Option<std::sync::mpsc::Sender<Batch>>,
    empty: mpsc::UnboundedReceiver<io::Result<Batch>>,
    unborn: usize,
}

impl Writer {
    /// None yet: it starts with the first batch.
    pub(crate) fn new() -> Self {
        Self { full: None, empty: mpsc::unbounded_channel().1, unborn: BATCHES }
    }

    /// A batch to be filled; waits while all are being written.
    ///
    /// # Errors
    /// [`Failure::Output`]: an earlier one could not be written.
    pub(crate) async fn batch(&mut self) -> Result<Batch, Failure> {
        if let Ok(batch) = self.empty.try_recv() {
            return batch.map_err(Failure::Output);
        }
        if self.unborn > 0 {
            self.unborn -= 1;
            return Ok(Batch { bytes: vec![0; BATCH], parts: Vec::new() });
        }
        self.next().await
    }

    /// Has it written.
    ///
    /// # Errors
    /// [`Failure::Local`]: there can be no thread.
    pub(crate) fn write(&mut self, batch: Batch) -> Result<(), Failure> {
        if self.full.is_none() {
            let (full, batches) = std::sync::mpsc::channel();
            let (done, empty) = mpsc::unbounded_channel();
            self.empty = empty;
            std::thread::Builder::new()
                .name("output".to_owned())
                .spawn(move || write_batches(&batches, &done))
                .map_err(|source| Failure::Local { verb: "start a thread", source })?;
            self.full = Some(full);
        }
        if let Some(full) = &self.full {
            // A thread that ended has said why in the other direction.
            let _ = full.send(batch);
        }
        Ok(())
    }

    /// Waits until all is written, `held` batches not being on their way.
    ///
    /// # Errors
    /// [`Failure::Output`].
    pub(crate) async fn finish(&mut self, held: usize) -> Result<(), Failure> {
        let mut outstanding = BATCHES - self.unborn - held;
        while outstanding > 0 {
            self.next().await?;
            outstanding -= 1;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Batch, Failure> {
        let gone = || Failure::Output(io::ErrorKind::BrokenPipe.into());
        self.empty.recv().await.ok_or_else(gone)?.map_err(Failure::Output)
    }
}

fn write_batches(
    batches: &std::sync::mpsc::Receiver<Batch>,
    done: &mpsc::UnboundedSender<io::Result<Batch>>,
) {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let mut grown = false;
    while let Ok(mut batch) = batches.recv() {
        for (stream, range) in batch.parts.drain(..) {
            let target = match stream {
                Stream::Stdout => stdout.as_fd(),
                Stream::Stderr => stderr.as_fd(),
            };
            if !grown && range.len() > 32 * 1024 {
                grown = true;
                grow_pipe(target);
            }
            if let Err(error) = write_all(target, &batch.bytes[range]) {
                let _ = done.send(Err(error));
                return;
            }
        }
        if done.send(Ok(batch)).is_err() {
            return;
        }
    }
}

/// Makes a pipe as large as anybody may have: fewer wake-ups. What is no pipe, or may not grow, stays as it is.
pub(crate) fn grow_pipe(pipe: BorrowedFd<'_>) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

fn write_all(target: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(target, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Somebody who shares the descriptor made it non-blocking.
            Err(Errno::AGAIN) => wait_for(target, PollFlags::OUT)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until a descriptor can be used.
pub(crate) fn wait_for(descriptor: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(descriptor, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
