//! A process that was started in a task by LAUNCH_NESTED_CONTAINER_SESSION: one worker owns it.
//!
//! ```text
//!  process -stdout, stderr-> worker -Piece-> first client (waited for: back-pressure), further ones (too slow: cut off)
//!  KILL, further outputs --Order--> worker      input: taken by one ATTACH_CONTAINER_INPUT at a time
//!  first client gone -> process killed          ended -> Phase::Ended(status) -> WAIT
//! ```

use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use mesos::agent::StreamType;
use mesos::common::ContainerId;
use rustix::io::Errno;
use task::control::{EndReason, Wish};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::input::Input;
use crate::endpoint::Endpoint;
use crate::gate::{Closing, Granted};
use crate::metrics::Metrics;
use crate::session::limits::Permit;
use crate::session::process::{Ended, Ending, Process, Stdio};
use crate::session::registry::Registration;

/// How often an output client gets a sign of life.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(30);
/// The most output in one record.
const LONGEST_PIECE: usize = 64 << 10;
/// Records on their way to a client.
pub(super) const QUEUE: usize = 16;
/// How long a process may live without outputs, and outputs without the process and without a byte.
const LINGER: Duration = Duration::from_secs(1);
/// What a process that was cut off ended by: SIGKILL, as `wait(2)` tells it.
const KILLED: i32 = 9;

/// What a client of outputs gets.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    /// Output.
    Data(StreamType, Bytes),
    /// A sign of life.
    Heartbeat,
    /// All output was told. Without it a stream that ends is cut.
    End,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The process runs.
    Running,
    /// Its outputs have ended.
    Silent,
    /// It ended; with the status of `wait(2)`, if that is known.
    Ended(Option<i32>),
}

/// What is asked of a session's worker.
#[derive(Debug)]
pub(super) enum Order {
    /// A signal to the process.
    Signal(i32),
    /// Another client of its outputs.
    Output(mpsc::Sender<Piece>),
}

/// A session, as requests see it.
#[derive(Debug)]
pub(super) struct Session {
    /// Its container.
    pub(super) container: ContainerId,
    /// Who started it.
    pub(super) user: String,
    orders: mpsc::Sender<Order>,
    phase: watch::Receiver<Phase>,
    input: Mutex<Slot>,
    received: AtomicU64,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
enum Slot {
    Free(Input),
    Taken,
    Closed,
}

/// Why the input cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoInput {
    /// Another connection has it.
    Taken,
    /// It is closed.
    Closed,
}

/// A session's input while one connection has it; given back when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    session: Arc<Session>,
    pub(super) input: Option<Input>,
}

impl Taken {
    /// So many bytes came.
    pub(super) fn count(&self, bytes: usize) {
        self.session.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.session.metrics.bytes_in.inc_by(bytes as u64);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let slot = if self.session.has_ended() { None } else { self.input.take() };
        self.session.set_input(slot.map_or(Slot::Closed, Slot::Free));
    }
}

impl Session {
    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Ended(_))
    }

    /// How far it is.
    pub(super) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Asks the worker; false when the session has ended.
    pub(super) async fn order(&self, order: Order) -> bool {
        self.orders.send(order).await.is_ok()
    }

    /// Takes the input for one connection.
    pub(super) fn take_input(self: &Arc<Self>) -> Result<Taken, NoInput> {
        let mut slot = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *slot, Slot::Taken) {
            Slot::Free(input) => Ok(Taken { session: self.clone(), input: Some(input) }),
            Slot::Taken => Err(NoInput::Taken),
            Slot::Closed => {
                *slot = Slot::Closed;
                Err(NoInput::Closed)
            }
        }
    }

    fn set_input(&self, new: Slot) {
        *self.input.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }

    /// The worker's end of it: a free input is closed, a taken one closes when it is given back.
    fn close_input(&self) {
        let mut slot = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*slot, Slot::Free(_)) {
            *slot = Slot::Closed;
        }
    }

    #[cfg(test)]
    pub(super) fn with_phase(container: ContainerId, phase: Phase) -> Self {
        let (orders, _) = mpsc::channel(1);
        let (_, phase) = watch::channel(phase);
        let (user, input) = ("user".to_owned(), Mutex::new(Slot::Closed));
        let (received, metrics) = (AtomicU64::new(0), Arc::default());
        Self { container, user, orders, phase, input, received, metrics }
    }
}

/// Starts the worker of a process. What it tells goes to the receiver; that one dropped, the process is killed.
pub(super) fn start(
    endpoint: &Endpoint,
    container: ContainerId,
    user: String,
    process: Process,
    granted: Granted,
    permit: Permit,
) -> (Arc<Session>, mpsc::Receiver<Piece>) {
    let (orders, asked) = mpsc::channel(QUEUE);
    let (phase_sender, phase) = watch::channel(Phase::Running);
    let (first, pieces) = mpsc::channel(QUEUE);
    let (input, outputs) = match process.stdio {
        Stdio::Pipes { stdin, stdout, stderr } => {
            (stdin.map(Input::Pipe), Outputs::new(Some(stdout), Some(stderr)))
        }
        Stdio::Terminal(terminal) => {
            let input = Input::Terminal { input: terminal.input, size: terminal.size };
            (Some(input), Outputs::new(Some(terminal.output), None))
        }
    };
    let input = Mutex::new(input.map_or(Slot::Closed, Slot::Free));
    let (received, metrics) = (AtomicU64::new(0), Arc::clone(&endpoint.metrics));
    let session = Arc::new(Session { container, user, orders, phase, input, received, metrics });
    let worker = Worker {
        session: session.clone(),
        outputs,
        ending: process.ending,
        wishes: process.wishes,
        asked,
        phase: phase_sender,
        first,
        others: Vec::new(),
        sent: 0,
        draining: endpoint.draining.clone(),
    };
    tokio::spawn(async move {
        let closing = worker.run().await;
        granted.close(&closing);
        drop(permit);
    });
    (session, pieces)
}

/// Why a command did not become a process, as its launcher says it at an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotStarted {
    /// There is nothing to execute.
    #[error("{0}")]
    Lacking(&'static str),
    /// The file could not be executed.
    #[error("Failed to {0}")]
    NotExecuted(String),
}

impl NotStarted {
    /// What the launcher ends by, as WAIT tells it (measured).
    fn status(&self) -> i32 {
        match self {
            Self::Lacking(_) => 1 << 8,
            Self::NotExecuted(_) => 1001 << 8,
        }
    }
}

/// A session whose process could not be started: it has ended already, and its only output is why. As an agent has it, whose
/// launcher is a process before it is the command.
pub(super) fn not_started(
    endpoint: &Endpoint,
    container: ContainerId,
    user: String,
    not_started: &NotStarted,
    granted: Granted,
    permit: Permit,
) -> (Arc<Session>, mpsc::Receiver<Piece>) {
    let (orders, _) = mpsc::channel(1);
    let (_, phase) = watch::channel(Phase::Ended(Some(not_started.status())));
    let (sender, pieces) = mpsc::channel(2);
    let why = Bytes::from(format!("{not_started}\n"));
    let bytes_out = why.len() as u64;
    for piece in [Piece::Data(StreamType::Stderr, why), Piece::End] {
        // Both fit.
        drop(sender.try_send(piece));
    }
    granted.close(&Closing { bytes_out, reason: "not started".to_owned(), ..Closing::default() });
    drop(permit);
    let input = Mutex::new(Slot::Closed);
    let (received, metrics) = (AtomicU64::new(0), Arc::clone(&endpoint.metrics));
    metrics.bytes_out.inc_by(bytes_out);
    let session = Session { container, user, orders, phase, input, received, metrics };
    (Arc::new(session), pieces)
}

#[derive(Debug)]
struct Worker {
    session: Arc<Session>,
    outputs: Outputs,
    ending: Ending,
    wishes: crate::control::Wishes,
    asked: mpsc::Receiver<Order>,
    phase: watch::Sender<Phase>,
    first: mpsc::Sender<Piece>,
    others: Vec<mpsc::Sender<Piece>>,
    sent: u64,
    draining: watch::Receiver<bool>,
}

/// Why the worker stops.
#[derive(Debug)]
enum Stop {
    /// The process and its outputs have ended.
    Over(Ended),
    /// The outputs have ended, and the process would not.
    Silent,
    /// The first client is gone.
    Left,
    /// The endpoint ends.
    Draining,
}

impl Worker {
    async fn run(mut self) -> Closing {
        let stop = self.relay().await;
        let (status, code, reason) = match &stop {
            Stop::Over(Ended::Exited(end)) => (Some(end.wait_status()), Some(end.shell_code()), "exited"),
            Stop::Over(Ended::Cut(EndReason::TaskEnded)) => (Some(KILLED), None, "task ended"),
            Stop::Over(Ended::Cut(EndReason::PodEnded)) => (Some(KILLED), None, "pod ended"),
            Stop::Over(Ended::Lost(error)) => {
                tracing::warn!(%error, "lost a session");
                (None, None, "lost")
            }
            Stop::Silent => (Some(KILLED), None, "outputs closed"),
            Stop::Left => (Some(KILLED), None, "client went away"),
            Stop::Draining => (Some(KILLED), None, "the endpoint is stopping"),
        };
        let Self { session, ending, wishes, phase, first, others, sent, .. } = self;
        // The executor kills what is left of it when the connection closes.
        drop((ending, wishes));
        // In this order: an input that is given back in between is not kept.
        phase.send_replace(Phase::Ended(status));
        session.close_input();
        if !matches!(stop, Stop::Over(Ended::Lost(_)) | Stop::Draining) {
            for other in others {
                drop(other.try_send(Piece::End));
            }
            drop(first.send(Piece::End).await);
        }
        let bytes_in = session.received.load(Ordering::Relaxed);
        Closing { code, bytes_in, bytes_out: sent, reason: reason.to_owned() }
    }

    async fn relay(&mut self) -> Stop {
        let Self { session, outputs, ending, wishes, asked, phase, first, others, sent, draining } = self;
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ended = None;
        let mut waiting: Option<Piece> = None;
        let mut until = None;
        loop {
            if waiting.is_none() && outputs.are_over() {
                match ended.take() {
                    Some(ended) => return Stop::Over(ended),
                    None => {
                        phase.send_replace(Phase::Silent);
                        until.get_or_insert_with(|| Instant::now() + LINGER);
                    }
                }
            }
            tokio::select! {
                permit = first.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                    (Ok(permit), Some(piece)) => permit.send(piece),
                    _ => return Stop::Left,
                },
                () = first.closed() => return Stop::Left,
                () = Registration::drained(draining) => return Stop::Draining,
                (stream, bytes) = outputs.next(), if waiting.is_none() => {
                    if let Some(bytes) = bytes {
                        *sent += bytes.len() as u64;
                        session.metrics.bytes_out.inc_by(bytes.len() as u64);
                        let piece = Piece::Data(stream, bytes);
                        tell(others, &piece);
                        waiting = Some(piece);
                        until = ended.is_some().then(|| Instant::now() + LINGER);
                    }
                }
                end = ending.wait(), if ended.is_none() => {
                    ended = Some(end);
                    until = Some(Instant::now() + LINGER);
                }
                order = asked.recv() => match order {
                    Some(Order::Signal(number)) => {
                        if let Err(error) = wishes.tell(Wish::Signal(number)).await {
                            tracing::debug!(%error, "a signal came too late");
                        }
                    }
                    Some(Order::Output(client)) => others.push(client),
                    None => {}
                },
                _ = heartbeat.tick() => {
                    drop(first.try_send(Piece::Heartbeat));
                    tell(others, &Piece::Heartbeat);
                }
                () = at(until), if waiting.is_none() => {
                    return ended.map_or(Stop::Silent, Stop::Over);
                }
            }
        }
    }
}

/// A client that does not keep up is cut off: its stream ends without an end.
fn tell(others: &mut Vec<mpsc::Sender<Piece>>, piece: &Piece) {
    others.retain(|other| other.try_send(piece.clone()).is_ok());
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

/// The outputs of a process, each until its end.
#[derive(Debug)]
struct Outputs {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    buffers: [Vec<u8>; 2],
}

impl Outputs {
    fn new(stdout: Option<pipe::Receiver>, stderr: Option<pipe::Receiver>) -> Self {
        Self { stdout, stderr, buffers: [vec![0; LONGEST_PIECE], vec![0; LONGEST_PIECE]] }
    }

    fn are_over(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none()
    }

    /// The next bytes, or none at a stream's end. May be given up and called again; never returns when both are over.
    async fn next(&mut self) -> (StreamType, Option<Bytes>) {
        let [first, second] = &mut self.buffers;
        let (stream, slot, bytes) = tokio::select! {
            bytes = some(self.stdout.as_mut(), first) => (StreamType::Stdout, &mut self.stdout, bytes),
            bytes = some(self.stderr.as_mut(), second) => (StreamType::Stderr, &mut self.stderr, bytes),
        };
        if bytes.is_none() {
            *slot = None;
        }
        (stream, bytes)
    }
}

/// Bytes of a stream; none at its end, which a terminal tells by an error.
async fn some(stream: Option<&mut pipe::Receiver>, buffer: &mut [u8]) -> Option<Bytes> {
    let Some(stream) = stream else { return pending().await };
    match read(stream, buffer).await {
        Ok(0) => None,
        Ok(count) => Some(Bytes::copy_from_slice(&buffer[..count])),
        Err(error) => {
            if error.raw_os_error() != Some(Errno::IO.raw_os_error()) {
                tracing::warn!(%error, "read an output");
            }
            None
        }
    }
}

/// Reads what is there, at least a byte unless it is the end.
pub(super) async fn read(stream: &mut pipe::Receiver, buffer: &mut [u8]) -> io::Result<usize> {
    stream.read(buffer).await
}
