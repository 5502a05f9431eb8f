//! What an agent has received.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use hyper::HeaderMap;
use mesos::common::TaskStatus;
use mesos::executor::{Call, CallType, Subscribe};
use uuid::Uuid;

/// How a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// By TCP.
    Tcp,
    /// By the Unix socket.
    Unix,
    /// By TLS.
    Tls,
}

/// A call as it came.
#[derive(Debug, Clone)]
pub struct Received {
    /// When all of it was there.
    pub at: Instant,
    /// How it came.
    pub via: Via,
    /// The number of its connection, counted over all.
    pub connection: u64,
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// The call, if it could be read.
    pub call: Option<Arc<Call>>,
    /// What it was answered with; 0 for nothing.
    pub status: u16,
    /// The words of a refusal.
    pub text: String,
}

impl Received {
    /// The kind of the call, if it could be read.
    pub fn kind(&self) -> Option<CallType> {
        self.call.as_ref().map(|call| call.kind)
    }

    /// What it says if it is a SUBSCRIBE.
    pub fn subscribe(&self) -> Option<&Subscribe> {
        self.call.as_ref()?.subscribe.as_ref()
    }

    /// The status if it is an UPDATE.
    pub fn update(&self) -> Option<&TaskStatus> {
        Some(&self.call.as_ref()?.update.as_ref()?.status)
    }
}

/// Everything that was received.
#[derive(Debug, Clone, Default)]
pub struct Log {
    /// All calls, in order.
    pub calls: Vec<Received>,
    /// All updates that the agent took, by UPDATE or with a SUBSCRIBE, each uuid once, in order of arrival.
    pub statuses: Vec<TaskStatus>,
    /// How many SUBSCRIBEs were answered with SUBSCRIBED.
    pub subscriptions: usize,
    /// Whether there is a stream of events now.
    pub streaming: bool,
    /// TLS handshakes that failed.
    pub failed_handshakes: Vec<String>,
    /// What would have crashed a real agent.
    pub fatal: Vec<String>,
}

impl Log {
    /// The updates of one task.
    pub fn statuses_of(&self, task_id: &str) -> Vec<TaskStatus> {
        self.statuses.iter().filter(|status| status.task_id.as_str() == task_id).cloned().collect()
    }

    /// The calls of one kind.
    pub fn calls_of(&self, kind: CallType) -> impl DoubleEndedIterator<Item = &Received> {
        self.calls.iter().filter(move |received| received.kind() == Some(kind))
    }
}

/// One line for each call.
impl fmt::Display for Log {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = self.calls.first().map(|first| first.at);
        for received in &self.calls {
            let after = start.map(|start| received.at - start).unwrap_or_default();
            write!(out, "  {after:>12.3?} {:?} {} {} ", received.via, received.connection, received.path)?;
            match (received.kind(), received.update(), received.subscribe()) {
                (None, ..) => write!(out, "(unreadable)")?,
                (Some(kind), Some(status), _) => {
                    let (task, state) = (&status.task_id, status.state.name());
                    write!(out, "{kind:?} {task} {state} {}", uuid(status).unwrap_or_default())?;
                }
                (Some(kind), _, Some(body)) => {
                    let (tasks, updates) =
                        (body.unacknowledged_tasks.len(), body.unacknowledged_updates.len());
                    write!(out, "{kind:?} with {tasks} tasks and {updates} updates")?;
                }
                (Some(kind), ..) => write!(out, "{kind:?}")?,
            }
            writeln!(out, " -> {} {}", received.status, received.text)?;
        }
        writeln!(out, "  {} subscriptions, streaming: {}", self.subscriptions, self.streaming)?;
        self.failed_handshakes.iter().try_for_each(|error| writeln!(out, "  tls handshake failed: {error}"))
    }
}

/// The identity of an update.
pub(super) fn uuid(status: &TaskStatus) -> Option<Uuid> {
    Uuid::from_slice(&status.uuid.as_ref()?.0).ok()
}
