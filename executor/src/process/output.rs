//! The output of a task: from its pipe or terminal into a rotated file.
//!
//! ```text
//!  pipe --readable--> one 64 KiB buffer per thread --> TaskOutputs: RotatedFile, and who is attached
//!        flush: drain what is there now      finish: until everybody has closed it, for so long at most
//! ```
//! Idle outputs hold no buffer. Reading and writing are one short step: flush and the pump never interleave inside it.

mod followers;
mod numbered;
mod outputs;
mod readers;
pub mod rotated;
mod times;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use task::control::Stream;
use tokio::net::unix::pipe::Receiver;
use tokio::task::JoinHandle;

pub use followers::{Followed, Follower, OpenFile};
pub use outputs::{Attachment, Kind, Outputs, TaskOutputs};
pub use readers::Lost;
pub use rotated::{Counts, RotatedFile};

/// As much as a pipe holds unless told otherwise.
const BUFFER: usize = 64 << 10;
/// More than a terminal ever holds.
const TERMINAL: usize = 128 << 10;

thread_local! {
    /// The buffer of all outputs of a thread, made by the first byte.
    static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Everybody has closed the other end: nothing can follow.
    Closed,
    /// Somebody still holds it, a grandchild perhaps; what comes later is lost to it.
    StillOpen,
}

/// What became of the bytes of all outputs of an executor.
#[derive(Debug, Default)]
pub struct Totals {
    written: AtomicU64,
    dropped: AtomicU64,
}

impl Totals {
    /// What became of them so far.
    pub fn counts(&self) -> Counts {
        Counts {
            written: self.written.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn add(&self, before: Counts, after: Counts) {
        self.written.fetch_add(after.written - before.written, Ordering::Relaxed);
        self.dropped.fetch_add(after.dropped - before.dropped, Ordering::Relaxed);
    }
}

/// A process's stdout or stderr, written to its task's log in the background. Dropped, it stops reading at once.
#[derive(Debug)]
pub struct Output {
    inner: Arc<Inner>,
    pump: JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    /// A pipe's reading end or a terminal's master: of both, tokio's type needs no more than that they can be waited for.
    source: Receiver,
    /// The most bytes that can be in `source` at one moment.
    capacity: usize,
    outputs: Arc<TaskOutputs>,
    stream: Stream,
    /// Changed under the lock of `outputs` only.
    ended: AtomicBool,
    totals: Arc<Totals>,
}

/// What one step of reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Moved(usize),
    Empty,
    Ended,
}

impl Output {
    /// Begins to write what comes out of `pipe` (a pipe's reading end or a terminal's master) to the log of `stream`,
    /// which has been [begun](TaskOutputs::begin). The descriptor is made non-blocking.
    ///
    /// # Errors
    /// When the descriptor cannot be waited for.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(
        pipe: OwnedFd,
        outputs: Arc<TaskOutputs>,
        stream: Stream,
        totals: Arc<Totals>,
    ) -> io::Result<Self> {
        fcntl_setfl(&pipe, fcntl_getfl(&pipe)? | OFlags::NONBLOCK)?;
        let capacity = rustix::pipe::fcntl_getpipe_size(&pipe).unwrap_or(TERMINAL);
        let input = (outputs.kind() == Kind::Terminal).then(|| pipe.try_clone()).transpose()?;
        let source = Receiver::from_owned_fd_unchecked(pipe)?;
        if let Some(input) = input {
            outputs.connect(input);
        }
        let inner =
            Arc::new(Inner { source, capacity, outputs, stream, ended: AtomicBool::new(false), totals });
        Ok(Self { pump: tokio::spawn(pump(Arc::clone(&inner))), inner })
    }

    /// Resolves once everything that was in the pipe at the call has been written.
    pub async fn flush(&self) {
        let mut moved = 0;
        while moved < self.inner.capacity {
            let source = &self.inner.source;
            match self.inner.step(|buffer| Ok(rustix::io::read(source, buffer)?)) {
                Step::Moved(count) => moved += count,
                Step::Empty | Step::Ended => return,
            }
            if moved >= BUFFER {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Reads until everybody has closed the other end, or for `within`.
    pub async fn finish(mut self, within: Duration) -> Finish {
        self.flush().await;
        if !self.inner.has_ended() {
            let _ = tokio::time::timeout(within, &mut self.pump).await;
            self.flush().await;
        }
        // The mark of a gap at the very end.
        self.inner.outputs.lock().write(self.inner.stream, &[], now(), &self.inner.totals);
        if self.inner.has_ended() { Finish::Closed } else { Finish::StillOpen }
    }

    /// What became of all bytes so far.
    pub fn stats(&self) -> Counts {
        self.inner.outputs.lock().counts(self.inner.stream)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.pump.abort();
        self.inner.outputs.hang_up();
    }
}

async fn pump(inner: Arc<Inner>) {
    while inner.source.readable().await.is_ok() {
        // This read, unlike that of a flush, takes the readiness back when there is nothing.
        match inner.step(|buffer| inner.source.try_read(buffer)) {
            // One loud task must not keep the executor from the others.
            Step::Moved(_) => tokio::task::yield_now().await,
            Step::Empty => {}
            Step::Ended => return,
        }
    }
}

impl Inner {
    /// Moves at most one buffer, without waiting.
    fn step(&self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> Step {
        let mut outputs = self.outputs.lock();
        if self.has_ended() {
            return Step::Ended;
        }
        let step = SHARED.with_borrow_mut(|buffer| {
            buffer.resize(BUFFER, 0);
            let step = outcome(read(buffer));
            if let Step::Moved(count) = step {
                outputs.write(self.stream, &buffer[..count], now(), &self.totals);
            }
            step
        });
        if step == Step::Ended {
            self.ended.store(true, Ordering::Relaxed);
        }
        step
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn outcome(read: io::Result<usize>) -> Step {
    match read {
        Ok(0) => Step::Ended,
        Ok(count) => Step::Moved(count),
        Err(error) if error.kind() == ErrorKind::Interrupted => Step::Moved(0),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Step::Empty,
        Err(error) => {
            // EIO is a terminal whose last process is gone.
            if error.raw_os_error() != Some(nix::libc::EIO) {
                tracing::warn!(%error, "read the output of a task");
            }
            Step::Ended
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::num::NonZeroU32;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;
    use crate::spec::{LogLimits, Owner};
    use crate::supervisor::Instance;

    struct Fixture {
        folder: tempfile::TempDir,
        output: Output,
    }

    impl Fixture {
        fn new(source: OwnedFd, bytes: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let limits = LogLimits { bytes, files: NonZeroU32::new(3).unwrap() };
            let outputs = TaskOutputs::new(folder.path(), limits, Owner { uid: 0, gid: 0 }, Kind::Pipes);
            outputs.begin(Instance(1)).unwrap();
            let output = Output::start(source, Arc::new(outputs), Stream::Stdout, Arc::default()).unwrap();
            Self { folder, output }
        }

        fn path(&self) -> PathBuf {
            self.folder.path().join("stdout")
        }
    }

    fn pipe() -> (OwnedFd, std::fs::File) {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        (reader, writer.into())
    }

    async fn wait_until_closed(mut writer: std::fs::File) {
        while writer.write_all(b"x").is_ok() {
            tokio::task::yield_now().await;
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn half_a_million_bytes_one_by_one_are_all_there() {
        let (reader, mut writer) = pipe();
        let Fixture { folder, output } = Fixture::new(reader, 1 << 30);
        let byte = |number: usize| u8::try_from(number % 251).unwrap();
        let written = std::thread::spawn(move || {
            for number in 0..500_000 {
                writer.write_all(&[byte(number)]).unwrap();
            }
        });
        assert_eq!(output.finish(LONG).await, Finish::Closed);
        written.join().unwrap();
        let expected: Vec<u8> = (0..500_000).map(byte).collect();
        assert!(std::fs::read(folder.path().join("stdout")).unwrap() == expected);
    }

    #[tokio::test]
    async fn flush_writes_everything_that_was_there_and_waits_for_nothing_else() {
        let (reader, mut writer) = pipe();
        let fixture = Fixture::new(reader, 1 << 30);
        for round in 1..=20_usize {
            writer.write_all(&vec![b'x'; 60_000]).unwrap();
            fixture.output.flush().await;
            assert_eq!(std::fs::metadata(fixture.path()).unwrap().len(), 60_000 * round as u64);
        }
        assert_eq!(fixture.output.stats(), Counts { written: 1_200_000, dropped: 0 });
    }

    #[tokio::test]
    async fn flush_empties_a_large_pipe_too() {
        let (reader, mut writer) = pipe();
        rustix::pipe::fcntl_setpipe_size(&reader, 512 << 10).unwrap();
        let fixture = Fixture::new(reader, 1 << 30);
        writer.write_all(&vec![b'x'; 500_000]).unwrap();
        fixture.output.flush().await;
        assert_eq!(std::fs::metadata(fixture.path()).unwrap().len(), 500_000);
    }

    #[tokio::test]
    async fn flush_ends_although_somebody_writes_on_and_on() {
        let (reader, writer) = pipe();
        let fixture = Fixture::new(reader, 1 << 30);
        let mut endless = std::process::Command::new("yes").stdout(writer).spawn().unwrap();
        for _ in 0..10 {
            fixture.output.flush().await;
        }
        let finish = fixture.output.finish(Duration::from_millis(1)).await;
        endless.kill().unwrap();
        endless.wait().unwrap();
        assert_eq!(finish, Finish::StillOpen);
    }

    #[tokio::test]
    async fn an_empty_flush_takes_microseconds() {
        let (reader, _writer) = pipe();
        let fixture = Fixture::new(reader, 1 << 30);
        let mut best = Duration::MAX;
        for _ in 0..100 {
            let start = Instant::now();
            fixture.output.flush().await;
            best = best.min(start.elapsed());
        }
        assert!(best < Duration::from_micros(200), "{best:?}");
    }

    #[tokio::test]
    async fn a_grandchild_that_keeps_the_pipe_is_not_waited_for_beyond_the_limit() {
        let (reader, mut writer) = pipe();
        let Fixture { folder, output } = Fixture::new(reader, 1 << 30);
        writer.write_all(b"last words").unwrap();
        assert_eq!(output.finish(Duration::from_millis(20)).await, Finish::StillOpen);
        assert_eq!(std::fs::read(folder.path().join("stdout")).unwrap(), b"last words");
        wait_until_closed(writer).await;
    }

    #[tokio::test]
    async fn a_terminals_end_is_no_error_and_loses_nothing() {
        let terminal = nix::pty::openpty(None, None).unwrap();
        let Fixture { folder, output } = Fixture::new(terminal.master, 1 << 30);
        let mut slave = std::fs::File::from(terminal.slave);
        for _ in 0..200 {
            slave.write_all(b"hello\n").unwrap();
        }
        output.flush().await;
        assert_eq!(std::fs::metadata(folder.path().join("stdout")).unwrap().len(), 1400);
        slave.write_all(b"bye\n").unwrap();
        drop(slave);
        assert_eq!(output.finish(LONG).await, Finish::Closed);
        let text = std::fs::read_to_string(folder.path().join("stdout")).unwrap();
        assert_eq!(text, "hello\r\n".repeat(200) + "bye\r\n");
    }

    #[tokio::test]
    async fn a_dropped_output_stops_reading() {
        let (reader, writer) = pipe();
        drop(Fixture::new(reader, 1 << 30));
        wait_until_closed(writer).await;
    }

    #[tokio::test]
    async fn a_thousand_idle_outputs_need_no_thousand_buffers() {
        let mut kept = Vec::new();
        for _ in 0..300 {
            let (reader, writer) = pipe();
            kept.push((Fixture::new(reader, 4096), writer));
        }
        for (_, writer) in &mut kept {
            writer.write_all(b"one\n").unwrap();
        }
        for (fixture, _) in &kept {
            fixture.output.flush().await;
            assert_eq!(std::fs::read(fixture.path()).unwrap(), b"one\n");
        }
        assert!(SHARED.with_borrow(Vec::len) == BUFFER);
    }

    #[test]
    fn the_pump_can_be_sent() {
        fn sent<T: Send>(_: &T) {}
        let check = |inner: Arc<Inner>| sent(&pump(inner));
        let _ = check;
    }
}
