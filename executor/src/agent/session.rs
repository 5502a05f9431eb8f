//! The session with the agent: subscribed for as long as the executor lives, every update delivered in order.

use std::time::Duration;

use mesos::common::{ExecutorId, FrameworkId, TaskStatus};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::AgentEvent;
use super::connection::AgentAddress;
use super::environment::{AgentEnvironment, Checkpoint};
use super::worker::Worker;
use crate::tls::TlsError;

/// The capacity of the channels to and from the driver.
const CHANNEL: usize = 256;

/// What a session needs to know.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// Who calls.
    pub executor_id: ExecutorId,
    /// Its framework.
    pub framework_id: FrameworkId,
    /// Whom it calls.
    pub address: AgentAddress,
    /// Whether a lost subscription is made again.
    pub checkpoint: Checkpoint,
    /// How long the agent may leave the executor without a subscription.
    pub recovery_timeout: Duration,
    /// The agent's limit for the pause between attempts; shorter ones are made anyway.
    pub backoff_max: Duration,
    /// Everything else that takes time or space.
    pub limits: SessionLimits,
}

/// Times and sizes; the default is what production uses.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// From the start of an attempt to SUBSCRIBED.
    pub subscribe: Duration,
    /// The same once there was a subscription: an agent that came back gives its executors 2 s, attempts must be closer.
    pub resubscribe: Duration,
    /// From the start of any other call to its answer.
    pub call: Duration,
    /// Between our own HEARTBEATs.
    pub heartbeat: Duration,
    /// Without a byte from the agent, whose heartbeats come every 30 minutes.
    pub silence: Duration,
    /// The pause after a failed call, doubled with each further failure...
    pub retry_least: Duration,
    /// ...up to this.
    pub retry_most: Duration,
    /// The bytes of one event.
    pub record: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            subscribe: Duration::from_secs(5),
            resubscribe: Duration::from_millis(1400),
            call: Duration::from_secs(5),
            heartbeat: Duration::from_secs(30 * 60),
            silence: Duration::from_secs(75 * 60),
            retry_least: Duration::from_millis(50),
            retry_most: Duration::from_secs(1),
            record: 64 * 1024 * 1024,
        }
    }
}

impl SessionConfig {
    /// The configuration of an executor in this environment.
    ///
    /// # Errors
    /// TLS is asked for and its files cannot be used.
    pub fn new(environment: &AgentEnvironment) -> Result<Self, TlsError> {
        Ok(Self {
            executor_id: environment.executor_id.clone(),
            framework_id: environment.framework_id.clone(),
            address: AgentAddress::new(environment)?,
            checkpoint: environment.checkpoint,
            recovery_timeout: environment.recovery_timeout,
            backoff_max: environment.subscription_backoff_max,
            limits: SessionLimits::default(),
        })
    }
}

/// What the session has done, and what is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Subscriptions that the agent took.
    pub subscriptions: u64,
    /// Attempts to subscribe that failed.
    pub failed_attempts: u64,
    /// Updates that the agent took by an UPDATE.
    pub updates_sent: u64,
    /// Updates that had to be sent again.
    pub updates_retried: u64,
    /// Updates that were dropped: refused by the agent, stale, or for a task that was never received.
    pub updates_dropped: u64,
    /// Updates that are not acknowledged.
    pub outstanding: usize,
}

/// A running session. Dropped, it ends at once.
#[derive(Debug)]
pub struct Session {
    updates: mpsc::Sender<TaskStatus>,
    wish: watch::Sender<Wish>,
    counters: watch::Receiver<Counters>,
    task: JoinHandle<usize>,
}

/// What the driver wants of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Serve,
    Drain,
    Stop,
}

impl Session {
    /// Starts a session. What the agent says comes by the channel; the driver reads it until it drains the session.
    pub fn start(config: SessionConfig) -> (Self, mpsc::Receiver<AgentEvent>) {
        let (updates, updates_in) = mpsc::channel(CHANNEL);
        let (events_out, events) = mpsc::channel(CHANNEL);
        let (wish, wish_in) = watch::channel(Wish::Serve);
        let (counters_out, counters) = watch::channel(Counters::default());
        let worker = Worker::new(config, counters_out);
        let task = tokio::spawn(worker.run(updates_in, events_out, wish_in));
        (Self { updates, wish, counters, task }, events)
    }

    /// Where statuses go: each with a uuid of its own (version 4), source, executor id and timestamp, for a task that was
    /// received. Others are logged and dropped: the agent would refuse them, or crash.
    pub fn updates(&self) -> &mpsc::Sender<TaskStatus> {
        &self.updates
    }

    /// What the session has done so far.
    pub fn counters(&self) -> watch::Receiver<Counters> {
        self.counters.clone()
    }

    /// Takes no more updates and no more events, delivers what is left for at most `limit`, and ends. Returns how many
    /// updates the agent has not acknowledged.
    pub async fn drain(mut self, limit: Duration) -> usize {
        self.wish.send_replace(Wish::Drain);
        if let Ok(ended) = timeout(limit, &mut self.task).await {
            return ended.unwrap_or_default();
        }
        self.wish.send_replace(Wish::Stop);
        (&mut self.task).await.unwrap_or_default()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::reconnect::LONGEST_PAUSE;

    #[test]
    fn the_next_attempt_begins_within_the_agents_two_seconds_even_after_one_that_hung() {
        let apart = SessionLimits::default().resubscribe + LONGEST_PAUSE;
        assert!(apart <= Duration::from_millis(1750), "{apart:?}");
    }
}
