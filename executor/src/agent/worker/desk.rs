//! The desk: where all calls but SUBSCRIBE are sent from, one after the other.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use mesos::executor::{CallType, Update};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, warn};
use uuid::Uuid;

use super::link::Link;
use super::{Worker, encode};
use crate::agent::connection::Connection;
use crate::agent::courier::{CallError, deliver, warm};
use crate::agent::outbox::{Failure, Fate};
use crate::text::chain;

type Errand = Pin<Box<dyn Future<Output = Result<Connection, CallError>> + Send>>;

/// What the desk does.
pub(super) enum Desk {
    Free(Option<Connection>),
    Busy { job: Job, errand: Errand },
    Resting(Instant),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    Update(Uuid),
    Heartbeat,
    Warm,
}

/// What the desk has done.
pub(super) enum Returned {
    Rested,
    Answered(Result<Connection, CallError>),
}

impl Worker {
    /// Sends the next call if it is time to. Without a subscription nothing is sent, as the agent would refuse it and the
    /// next SUBSCRIBE carries all; when everything is to end there may be no next one.
    pub(super) fn start_errand(&mut self) {
        let live = matches!(self.link, Link::Live { .. });
        let Desk::Free(connection) = &mut self.desk else {
            return;
        };
        if !live && self.ending.is_none() {
            return;
        }
        let kept = connection.take();
        let mut call = self.empty_call(CallType::Heartbeat);
        let job = if let Some((uuid, status)) = self.outbox.next() {
            debug!(task = %status.task_id, state = status.state.name(), %uuid, "update");
            call.kind = CallType::Update;
            call.update = Some(Update { status: status.clone() });
            Job::Update(uuid)
        } else if live && self.heartbeat_at <= Instant::now() {
            self.heartbeat_at = Instant::now() + self.config.limits.heartbeat;
            Job::Heartbeat
        } else {
            self.desk = Desk::Free(kept);
            return;
        };
        let errand = Box::pin(deliver(self.address.clone(), kept, encode(&call), self.config.limits.call));
        self.desk = Desk::Busy { job, errand };
    }

    pub(super) fn returned(&mut self, returned: Returned) {
        let desk = std::mem::replace(&mut self.desk, Desk::Free(None));
        let (Desk::Busy { job, .. }, Returned::Answered(answer)) = (desk, returned) else {
            return;
        };
        match answer {
            Ok(connection) => {
                self.retry_pause = self.config.limits.retry_least;
                self.desk = Desk::Free(Some(connection));
                if let Job::Update(uuid) = job {
                    self.outbox.delivered(uuid);
                    self.count(|counters| counters.updates_sent += 1);
                }
            }
            Err(error) => {
                let pause = self.failed(job, &error);
                if !pause.is_zero() {
                    self.desk = Desk::Resting(Instant::now() + pause);
                }
            }
        }
    }

    /// Takes a new connection and gives up what is under way on the old one, which may lead to an agent that is gone
    /// without a word.
    pub(super) fn renew_connection(&mut self) {
        self.retry_pause = self.config.limits.retry_least;
        let errand = Box::pin(warm(self.address.clone(), self.config.limits.call));
        let old = std::mem::replace(&mut self.desk, Desk::Busy { job: Job::Warm, errand });
        if let Desk::Busy { job: Job::Update(uuid), .. } = old {
            self.outbox.failed(uuid, Failure::Retry);
        }
    }

    /// Records a failed call and says how long to rest.
    fn failed(&mut self, job: Job, error: &CallError) -> Duration {
        let reason = chain(error);
        let Job::Update(uuid) = job else {
            debug!(?job, reason, "call failed");
            return Duration::ZERO;
        };
        let task_id = self.outbox.task_of(uuid);
        let fate = self.outbox.failed(uuid, error.failure());
        if let (Fate::KeptBack | Fate::Dropped, Some(task_id)) = (fate, task_id) {
            self.not_accepted(task_id);
        }
        match fate {
            Fate::Again => {
                warn!(%uuid, reason, pause = ?self.retry_pause, "update not taken, it will be sent again");
                self.count(|counters| counters.updates_retried += 1);
                let pause = self.retry_pause;
                self.retry_pause = (pause * 2).min(self.config.limits.retry_most);
                pause
            }
            Fate::KeptBack => {
                error!(%uuid, reason, "update refused, it is kept back until the next subscription");
                Duration::ZERO
            }
            Fate::Dropped => {
                error!(%uuid, reason, "update refused and dropped");
                self.count(|counters| counters.updates_dropped += 1);
                Duration::ZERO
            }
            Fate::Settled => Duration::ZERO,
        }
    }
}

impl Desk {
    /// Waits until something is done.
    pub(super) async fn advance(&mut self) -> Returned {
        match self {
            Self::Free(_) => pending().await,
            Self::Busy { errand, .. } => Returned::Answered(errand.await),
            Self::Resting(until) => {
                sleep_until(*until).await;
                Returned::Rested
            }
        }
    }
}
