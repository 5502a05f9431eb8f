//! The executor API, from the executor's side.
//!
//! ```text
//!  agent --stream of events--> session --AgentEvent--> driver
//!  agent <--UPDATE, one at a time-- session <--TaskStatus-- driver        outbox: what is not acknowledged, in order
//! ```
//! One task, that of a [`session::Session`], owns the outbox and both connections.

pub mod connection;
mod courier;
pub mod environment;
mod known;
pub mod outbox;
mod reconnect;
pub mod session;
mod subscription;
pub mod tls;
mod worker;

use std::time::Duration;

use mesos::common::TaskId;
use mesos::executor::Subscribed;
use serde_json::value::RawValue;

/// What the session tells the driver.
#[derive(Debug)]
pub enum AgentEvent {
    /// The agent took the subscription, the first or a further one.
    Subscribed(Box<Subscribed>),
    /// Tasks to run: those of a LAUNCH_GROUP, or the one of a LAUNCH. Already recorded as unacknowledged.
    Launch(Vec<Delivered>),
    /// A task to end, with the grace period that goes before all others.
    Kill {
        /// Which.
        task_id: TaskId,
        /// The event's own grace period.
        grace_period: Option<Duration>,
    },
    /// Everything is to end.
    Shutdown(ShutdownCause),
    /// An update was acknowledged.
    Acknowledged {
        /// The update's task.
        task_id: TaskId,
        /// How many updates of all tasks still wait for an acknowledgement.
        outstanding: usize,
    },
    /// An update will not be acknowledged: the agent refused it, or it was dropped.
    NotAccepted {
        /// The update's task.
        task_id: TaskId,
        /// How many updates of all tasks still wait for an acknowledgement.
        outstanding: usize,
    },
}

/// A task as the agent delivered it.
#[derive(Debug)]
pub struct Delivered {
    /// Its `TaskInfo`.
    pub raw: Box<RawValue>,
    /// What became of the bytes.
    pub text: Text,
}

/// What became of the bytes of an event before they were read as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// They are as they came.
    AsSent,
    /// Not all were UTF-8: the others are [`char::REPLACEMENT_CHARACTER`].
    Repaired,
}

/// Why everything is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShutdownCause {
    /// The agent said so.
    Agent,
    /// The agent did not take a subscription for as long as the recovery timeout.
    RecoveryTimeout,
    /// The connection broke and the framework does not checkpoint: there will be no reconnection.
    NotCheckpointing,
}
