//! A session: one task of tokio, to which everything of it is tied.
//!
//! ```text
//!  client -> Inbound -> stdin pipe                    (nothing is read while the pipe is full)
//!  client <- Outbound <- stdout, stderr               (nothing is read while a frame is not written)
//!  control socket -> how it ended -> what is left of the outputs -> status -> close
//!  clocks: ping, dead, idle, age, a client that does not read
//! ```

use std::ops::Range;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use task::control::{Exec, WindowSize, Wish};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadHalf, WriteHalf};
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::inbound::{Inbound, Said};
use super::outbound::{Channel, Outbound};
use super::query::Streams;
use super::running::Running;
use super::status::{Cause, Kind};
use super::upgrade::Version;
use crate::metrics::Metrics;
use crate::session::attachment::{self, Happened};
use crate::session::ledger::Ledger;
use crate::session::limits::Permit;
use crate::session::process;
use crate::session::registry::Registration;
use crate::session::timing::Timing;

/// How long kubectl's first resize is awaited, so that the command never sees a terminal of another size.
const FIRST_SIZE: Duration = Duration::from_millis(100);
/// The size of a terminal that nobody told one.
const NO_SIZE: WindowSize = WindowSize { rows: 24, columns: 80 };
/// How long a write may make no progress.
const STALLED: Duration = Duration::from_secs(30);
/// How long outputs may stay open once the process has ended, the time not counted in which the client does not read.
const LEFTOVER: Duration = Duration::from_secs(2);
/// How much may come then: more than pipes hold.
const MOST_LEFTOVER: u64 = 4 << 20;
/// How long the client's close frame is awaited.
const LAST_FRAME: Duration = Duration::from_secs(5);
/// How long an executor may take to take a wish.
const WISH: Duration = Duration::from_secs(5);
/// How much is read from the client at once: little at first, more when more is there.
const LEAST_READ: usize = 2 << 10;
const MOST_READ: usize = 128 << 10;

/// What a session is opened for.
#[derive(Debug)]
pub enum Opening {
    /// A process. A terminal's size is awaited if it is not yet told.
    Exec {
        /// The executor's control socket.
        socket: PathBuf,
        /// What to start; `terminal` is set from the streams and the size.
        exec: Exec,
    },
    /// A task's streams.
    Attach {
        /// The executor's control socket.
        socket: PathBuf,
        /// Which task.
        task: mesos::common::TaskId,
    },
}

/// What a session holds until its end.
#[derive(Debug)]
pub struct Held {
    /// Its audit line.
    pub ledger: Ledger,
    /// The right to be one.
    pub permit: Permit,
    /// Where others find it.
    pub registration: Registration,
    /// Where its bytes are counted.
    pub metrics: Arc<Metrics>,
}

/// A session.
#[derive(Debug)]
pub struct Session<S> {
    kind: Kind,
    streams: Streams,
    timing: Timing,
    held: Held,
    reader: ReadHalf<S>,
    outbound: Outbound<WriteHalf<S>>,
    inbound: Inbound,
    buffer: Vec<u8>,
    /// What of the buffer is not yet understood.
    unread: Range<usize>,
    /// What of the buffer is input that the pipe did not yet take.
    typed: Range<usize>,
    /// There is no more input behind what is typed.
    stdin_end: bool,
    /// Whether the last byte of the input ended a line.
    line_ended: bool,
    /// A size that is not yet set.
    size: Option<WindowSize>,
    /// How much output did not fit into an attachment's pipe.
    lost: u64,
    heard: Instant,
    used: Instant,
    started: Instant,
    next_ping: Instant,
}

impl<S: AsyncRead + AsyncWrite> Session<S> {
    /// With a client that speaks `version` on `stream`.
    pub fn new(stream: S, version: Version, streams: Streams, timing: Timing, held: Held) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = Instant::now();
        Self {
            kind: Kind::Exec,
            streams,
            timing,
            held,
            reader,
            outbound: Outbound::new(writer),
            inbound: Inbound::new(version),
            buffer: vec![0; LEAST_READ],
            unread: 0..0,
            typed: 0..0,
            stdin_end: false,
            line_ended: true,
            size: None,
            lost: 0,
            heard: now,
            used: now,
            started: now,
            next_ping: now + timing.ping_interval,
        }
    }

    /// Lives it to its end.
    pub async fn run(mut self, opening: Opening) {
        let cause = match self.live(opening).await {
            Ok(never) => match never {},
            Err(cause) => cause,
        };
        self.finish(&cause).await;
    }

    /// What runs is dropped with this: nothing of it is left when the client is told.
    async fn live(&mut self, opening: Opening) -> Result<std::convert::Infallible, Cause> {
        let mut running = self.open(opening).await?;
        let pumped = self.pump(&mut running).await;
        self.lost = running.lost;
        pumped
    }

    async fn open(&mut self, opening: Opening) -> Result<Running, Cause> {
        match opening {
            Opening::Exec { socket, mut exec } => {
                if self.streams.tty {
                    if exec.terminal.is_none() {
                        let first = timeout(FIRST_SIZE, self.listen(Option::is_some)).await;
                        first.unwrap_or(Ok(()))?;
                    }
                    exec.terminal = Some(self.size.take().or(exec.terminal).unwrap_or(NO_SIZE));
                }
                tokio::select! {
                    started = process::start(&socket, exec) => started.map(Running::process).map_err(Cause::NotStarted),
                    heard = self.listen(|_| false) => Err(heard.err().unwrap_or(Cause::ClientGone)),
                }
            }
            Opening::Attach { socket, task } => {
                self.kind = Kind::Attach;
                let stdin = self.streams.stdin;
                tokio::select! {
                    attached = attachment::attach(&socket, task, stdin) => {
                        attached.map(Running::attachment).map_err(Cause::NotStarted)
                    }
                    heard = self.listen(|_| false) => Err(heard.err().unwrap_or(Cause::ClientGone)),
                }
            }
        }
    }

    /// Listens while nothing runs yet, until a size of use is told. Input is kept, and then nothing is read.
    async fn listen(&mut self, enough: impl Fn(&Option<WindowSize>) -> bool) -> Result<(), Cause> {
        loop {
            self.understand()?;
            if enough(&self.size) {
                return Ok(());
            }
            if self.typed.is_empty() {
                let read = self.reader.read(&mut self.buffer).await;
                self.heard(read)?;
            } else {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn pump(&mut self, running: &mut Running) -> Result<std::convert::Infallible, Cause> {
        let mut timer = pin!(sleep_until(self.next_ping));
        let mut draining = self.held.registration.draining();
        loop {
            self.forward(running)?;
            self.resize(running).await;
            if let Some(ended) = self.ended(running) {
                return Err(Cause::Ended(ended));
            }
            self.tell_losses(running);
            let (writing, waiting) = (self.outbound.pending(), self.waiting());
            let before = running.ended.as_ref().map(|_| Instant::now());
            tokio::select! {
                flushed = self.outbound.flush(), if writing => flushed.map_err(|_| Cause::ClientGone)?,
                () = readable(running.stdout.as_ref()), if !writing => self.output(running, Channel::Stdout, From::Ready),
                () = readable(running.stderr.as_ref()), if !writing => self.output(running, Channel::Stderr, From::Ready),
                read = self.reader.read(&mut self.buffer), if !waiting => self.heard(read)?,
                () = writable(running.stdin.as_ref()), if waiting => {}
                happened = running.source.next(), if running.ended.is_none() => match happened {
                    Happened::Lost(bytes) => running.lost = bytes,
                    Happened::Ended(ended) => {
                        running.ended = Some(ended);
                        running.leftover_until = Instant::now() + LEFTOVER;
                        timer.as_mut().reset(running.leftover_until);
                    }
                },
                Some(signal) = self.held.registration.signals.recv() => wish(running, Wish::Signal(signal)).await,
                () = Registration::drained(&mut draining) => return Err(Cause::Draining),
                () = &mut timer => timer.as_mut().reset(self.clocks(running)?),
            }
            if let Some(before) = before
                && writing
            {
                running.leftover_until += before.elapsed();
            }
        }
    }

    /// Whether input, or its end, waits for the process: nothing is read from the client then.
    fn waiting(&self) -> bool {
        !self.typed.is_empty() || self.stdin_end
    }

    /// Takes what was read from the client.
    fn heard(&mut self, read: std::io::Result<usize>) -> Result<(), Cause> {
        let read = read.ok().filter(|&read| read > 0).ok_or(Cause::ClientGone)?;
        self.heard = Instant::now();
        self.unread = 0..read;
        Ok(())
    }

    /// Understands what was read, up to the next input.
    fn understand(&mut self) -> Result<(), Cause> {
        while self.typed.is_empty() && !self.stdin_end {
            let from = self.unread.start;
            let (used, said) =
                self.inbound.next(&mut self.buffer[self.unread.clone()]).map_err(Cause::Violation)?;
            self.unread.start += used;
            match said {
                None => {
                    // Filled by one reading: there is probably more than this.
                    if self.unread.end == self.buffer.len() && self.buffer.len() < MOST_READ {
                        self.buffer = vec![0; self.buffer.len() * 4];
                    }
                    self.unread = 0..0;
                    return Ok(());
                }
                Some(Said::Stdin(range)) if self.streams.stdin => {
                    self.typed = from + range.start..from + range.end;
                }
                Some(Said::Stdin(_)) => self.inbound.ignore(),
                Some(Said::StdinEnd) => self.stdin_end = self.streams.stdin,
                Some(Said::Size(size)) => self.size = Some(size),
                Some(Said::Ping(payload)) => self.outbound.pong(payload),
                Some(Said::Close(_)) => return Err(Cause::ClientClosed),
            }
        }
        Ok(())
    }

    /// Hands input over, as much as the pipe takes.
    fn forward(&mut self, running: &mut Running) -> Result<(), Cause> {
        loop {
            self.understand()?;
            if self.typed.is_empty() && !self.stdin_end {
                return Ok(());
            }
            let Some(stdin) = &running.stdin else {
                self.inbound.ignore();
                (self.typed, self.streams.stdin, self.stdin_end) = (0..0, false, false);
                continue;
            };
            if self.typed.is_empty() {
                // Half a line is handed over by the first such character, and the input's end told by the second.
                let character = running.size.as_ref().and_then(|size| size.end_of_input());
                let all = character.map(|one| [one; 2]).unwrap_or_default();
                let some = if character.is_none() { 0 } else { 2 - usize::from(self.line_ended) };
                let blocked = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
                if some > 0 && stdin.try_write(&all[..some]).is_err_and(blocked) {
                    return Ok(());
                }
                (running.stdin, self.stdin_end, self.streams.stdin) = (None, false, false);
                self.heard = Instant::now();
                continue;
            }
            let typed = &self.buffer[self.typed.clone()];
            match stdin.try_write(typed) {
                Ok(written) => {
                    self.line_ended = typed[..written].last().is_none_or(|&byte| byte == b'\n');
                    self.typed.start += written;
                    self.held.ledger.closing.bytes_in += written as u64;
                    self.held.metrics.bytes_in.inc_by(written as u64);
                    self.heard = Instant::now();
                    self.used = self.heard;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    running.widen_stdin(typed.len());
                    return Ok(());
                }
                // The process reads no more.
                Err(_) => running.stdin = None,
            }
        }
    }

    /// Reads once from an output into a frame. Its end, or EIO of a terminal, closes it here.
    fn output(&mut self, running: &mut Running, channel: Channel, from: From) {
        let (receiver, wanted) = match channel {
            Channel::Stderr => (&mut running.stderr, self.streams.stderr),
            _ => (&mut running.stdout, self.streams.stdout),
        };
        let Some(open) = receiver else { return };
        let space = self.outbound.space();
        let read = match from {
            From::Ready => open.try_read(space),
            From::Direct => rustix::io::read(&*open, space).map_err(Into::into),
        };
        match read {
            Ok(0) => *receiver = None,
            Ok(read) => {
                self.used = Instant::now();
                running.after_end += if running.ended.is_some() { read as u64 } else { 0 };
                if wanted {
                    self.outbound.frame(channel, read);
                    self.held.ledger.closing.bytes_out = self.outbound.bytes();
                    self.held.metrics.bytes_out.inc_by(read as u64);
                }
                running.widen_outputs(read);
            }
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                ) => {}
            Err(_) => *receiver = None,
        }
    }

    /// Once the process has ended: what is left of its outputs is read, and then how it ended is told.
    fn ended(&mut self, running: &mut Running) -> Option<process::Ended> {
        running.ended.as_ref()?;
        for channel in [Channel::Stdout, Channel::Stderr] {
            if !self.outbound.pending() {
                // Readiness may be told later than the end: the descriptors themselves know.
                self.output(running, channel, From::Direct);
            }
        }
        if self.outbound.pending() {
            return None;
        }
        let closed = running.stdout.is_none() && running.stderr.is_none();
        let enough = Instant::now() >= running.leftover_until || running.after_end > MOST_LEFTOVER;
        if closed || enough { running.ended.take() } else { None }
    }

    /// What did not fit into an attachment's pipe is told where people look.
    fn tell_losses(&mut self, running: &mut Running) {
        let lost = running.lost - running.lost_told;
        if lost > 0 && !self.outbound.pending() {
            running.lost_told = running.lost;
            if self.streams.stderr && !running.size_by_wish {
                let line = format!("[{lost} bytes of output were lost]\n");
                self.outbound.message(Channel::Stderr, line.as_bytes());
            }
        }
    }

    async fn resize(&mut self, running: &mut Running) {
        let Some(size) = self.size.take() else { return };
        if let Some(terminal) = &running.size {
            if let Err(error) = terminal.set(size) {
                tracing::debug!(%error, "a size was not set");
            }
        } else if running.size_by_wish {
            wish(running, Wish::Resize(size)).await;
        } else {
            self.inbound.ignore();
        }
    }

    /// When to look again; or the clock that has run out.
    fn clocks(&mut self, running: &Running) -> Result<Instant, Cause> {
        let now = Instant::now();
        let Timing { ping_interval, dead_after, idle, age } = self.timing;
        // While input waits for the process nothing is read, so that nothing can be heard either.
        let dead = (!self.waiting()).then(|| (self.heard + dead_after, Cause::Dead(dead_after)));
        let stalled =
            self.outbound.pending().then(|| (self.outbound.progress() + STALLED, Cause::NotReading(STALLED)));
        let idle = idle.map(|idle| (self.used + idle, Cause::Idle(idle)));
        let age = age.map(|age| (self.started + age, Cause::Age(age)));
        if now >= self.next_ping {
            self.outbound.ping();
            self.next_ping = now + ping_interval;
            if !self.waiting() {
                self.buffer = vec![0; LEAST_READ];
            }
            self.outbound.shrink();
        }
        let leftover =
            running.ended.as_ref().map(|_| running.leftover_until.max(now + Duration::from_millis(1)));
        let mut next = leftover.map_or(self.next_ping, |leftover| leftover.min(self.next_ping));
        for (at, cause) in [stalled, dead, idle, age].into_iter().flatten() {
            if now >= at {
                return Err(cause);
            }
            next = next.min(at);
        }
        Ok(next)
    }

    /// Tells the client how it ended, and waits a little for it to have heard.
    async fn finish(mut self, cause: &Cause) {
        let told = cause.told(self.kind);
        let closing = &mut self.held.ledger.closing;
        (closing.code, closing.reason) = (told.code, told.reason.clone());
        if self.lost > 0 {
            closing.reason.push_str(&format!("; {} bytes of output were lost", self.lost));
        }
        tracing::debug!(reason = told.reason, ignored = self.inbound.ignored(), "a session ends");
        if matches!(cause, Cause::ClientGone) {
            return;
        }
        let patience = match cause {
            Cause::NotReading(_) | Cause::Dead(_) => Duration::from_secs(1),
            Cause::Draining => LAST_FRAME,
            _ => STALLED,
        };
        if self.last_words(told.status.as_ref(), told.close, &told.reason, patience).await.is_err() {
            self.held.ledger.closing.reason.push_str("; the client did not hear of it");
            return;
        }
        let Self { held, mut reader, mut outbound, mut inbound, mut buffer, .. } = self;
        drop(held.ledger);
        let closed = async {
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                let mut unread = 0..read;
                loop {
                    match inbound.next(&mut buffer[unread.clone()]) {
                        Ok((_, Some(Said::Close(_)))) => return,
                        Ok((used, Some(_))) => unread.start += used,
                        Ok((_, None)) | Err(_) => break,
                    }
                }
            }
        };
        if !matches!(cause, Cause::ClientClosed) {
            let _ = timeout(LAST_FRAME, closed).await;
        }
        let _ = timeout(Duration::from_secs(1), outbound.shutdown()).await;
    }

    async fn last_words(
        &mut self,
        status: Option<&serde_json::Value>,
        close: u16,
        reason: &str,
        patience: Duration,
    ) -> std::io::Result<()> {
        self.flush_within(patience).await?;
        if let Some(status) = status {
            self.outbound.message(Channel::Status, status.to_string().as_bytes());
            self.flush_within(patience).await?;
        }
        self.outbound.close(close, reason);
        self.flush_within(patience).await
    }

    /// Flushes while that makes progress within this time.
    async fn flush_within(&mut self, patience: Duration) -> std::io::Result<()> {
        loop {
            let progress = self.outbound.progress();
            let until = progress.max(Instant::now() - patience) + patience;
            match timeout_at(until, self.outbound.flush()).await {
                Ok(flushed) => return flushed,
                Err(_) if self.outbound.progress() > progress => {}
                Err(_) => return Err(std::io::ErrorKind::TimedOut.into()),
            }
        }
    }
}

/// How an output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// Told to be ready.
    Ready,
    /// Whatever is there.
    Direct,
}

async fn wish(running: &mut Running, wish: Wish) {
    match timeout(WISH, running.wishes.tell(wish)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, ?wish, "a wish was not told"),
        Err(_) => tracing::warn!(?wish, "the executor does not take a wish"),
    }
}

async fn readable(receiver: Option<&pipe::Receiver>) {
    match receiver {
        Some(receiver) => {
            if receiver.readable().await.is_err() {
                sleep(LEFTOVER).await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn writable(sender: Option<&pipe::Sender>) {
    match sender {
        Some(sender) => {
            if sender.writable().await.is_err() {
                sleep(LEFTOVER).await;
            }
        }
        None => std::future::pending().await,
    }
}
