//! The link: the subscription, from the first attempt to the last.

use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use mesos::common::KillPolicy;
use mesos::executor::{Call, CallType, Event};
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use super::{Countdown, Worker, encode};
use crate::agent::outbox::Snapshot;
use crate::agent::reconnect::{Break, Plan, Situation, plan};
use crate::agent::subscription::{Limits, Opening, Stream, StreamEnd, SubscribeError, subscribe};
use crate::agent::{AgentEvent, Delivered, ShutdownCause, Text};
use crate::spec::identify;
use crate::text::chain;

type Subscription = (Box<Stream>, Opening);
type Attempt = Pin<Box<dyn Future<Output = Result<Subscription, SubscribeError>> + Send>>;

/// How it stands with the subscription.
pub(super) enum Link {
    Idle,
    Waiting(Instant),
    Subscribing { attempt: Attempt, snapshot: Snapshot },
    Live { stream: Box<Stream>, since: Instant },
}

/// What has happened to it.
pub(super) enum Advance {
    Due,
    Answered(Result<Subscription, SubscribeError>),
    Heard(Result<(Event, Text), StreamEnd>),
}

impl Worker {
    pub(super) fn subscribe(&mut self) {
        let (body, snapshot) = self.outbox.subscribe_body();
        let call = encode(&Call { subscribe: Some(body), ..self.empty_call(CallType::Subscribe) });
        let limits = self.config.limits;
        let limits = Limits {
            opening: if self.subscribed_before { limits.resubscribe } else { limits.subscribe },
            silence: limits.silence,
            record: limits.record,
        };
        let attempt = Box::pin(subscribe(self.address.clone(), call, limits));
        self.link = Link::Subscribing { attempt, snapshot };
    }

    pub(super) fn answered(&mut self, answer: Result<Subscription, SubscribeError>) {
        let Link::Subscribing { snapshot, .. } = std::mem::replace(&mut self.link, Link::Idle) else {
            return;
        };
        match answer {
            Ok((stream, opening)) => {
                let since = Instant::now();
                self.link = Link::Live { stream, since };
                match opening {
                    Opening::Subscribed(subscribed) => {
                        info!(agent = subscribed.agent_info.hostname, "subscribed");
                        self.subscribed(snapshot);
                        self.tell(AgentEvent::Subscribed(subscribed));
                    }
                    Opening::Shutdown => self.heard(Event::Shutdown, Text::AsSent),
                }
            }
            Err(error) => {
                let complaint = chain(&error);
                if complaint == self.last_complaint {
                    debug!(complaint, "not subscribed");
                } else {
                    warn!(complaint, "not subscribed");
                    self.last_complaint = complaint;
                }
                self.count(|counters| counters.failed_attempts += 1);
                self.reconnect(Break::Attempt);
            }
        }
    }

    fn subscribed(&mut self, snapshot: Snapshot) {
        self.subscribed_before = true;
        self.countdown = None;
        self.last_complaint.clear();
        self.heartbeat_at = Instant::now() + self.config.limits.heartbeat;
        self.outbox.resubscribed(snapshot);
        self.count(|counters| counters.subscriptions += 1);
        self.renew_connection();
    }

    pub(super) fn lost(&mut self, end: &StreamEnd) {
        let Link::Live { since, .. } = std::mem::replace(&mut self.link, Link::Idle) else {
            return;
        };
        let lived = since.elapsed();
        warn!(reason = chain(end), ?lived, "subscription lost");
        if self.ending.is_none() {
            self.countdown = Some(Countdown::start(self.config.recovery_timeout));
        }
        self.reconnect(if end.by_agent() { Break::ByAgent { lived } } else { Break::ByUs { lived } });
    }

    fn reconnect(&mut self, what: Break) {
        let situation = Situation {
            checkpoint: self.config.checkpoint,
            subscribed_before: self.subscribed_before,
            ending: self.ending,
            backoff_max: self.config.backoff_max,
        };
        self.link = match plan(situation, what) {
            Plan::Subscribe { least, most } => Link::Waiting(Instant::now() + between(least, most)),
            Plan::StayAway => Link::Idle,
            Plan::End(cause) => {
                self.end(cause);
                Link::Idle
            }
        };
    }

    pub(super) fn end(&mut self, cause: ShutdownCause) {
        self.countdown = None;
        if self.ending.is_none() {
            warn!(?cause, "everything is to end");
            self.ending = Some(cause);
            self.tell(AgentEvent::Shutdown(cause));
        }
    }

    pub(super) fn heard(&mut self, event: Event, text: Text) {
        match event {
            Event::Subscribed(_) => warn!("second SUBSCRIBED on one stream ignored"),
            Event::Launch(task) => self.launch(vec![task], text),
            Event::LaunchGroup(tasks) => self.launch(tasks, text),
            Event::Kill { task_id, kill_policy } => {
                self.tell(AgentEvent::Kill { task_id, grace_period: grace_period(kill_policy) });
            }
            Event::Acknowledged { task_id, uuid } => {
                if self.outbox.acknowledged(&task_id, &uuid) {
                    let outstanding = self.outbox.awaited();
                    self.tell(AgentEvent::Acknowledged { task_id, outstanding });
                }
            }
            Event::Message(data) => info!(bytes = data.0.len(), "message from the framework ignored"),
            Event::Shutdown => self.end(ShutdownCause::Agent),
            Event::Error(message) => error!(message, "error from the agent"),
            Event::Heartbeat => {}
            Event::Unknown(kind) => warn!(kind, "event of an unknown kind ignored"),
        }
    }

    fn launch(&mut self, mut tasks: Vec<Box<RawValue>>, text: Text) {
        tasks.retain(|task| self.take_in(task, text));
        if !tasks.is_empty() {
            let tasks = tasks.into_iter().map(|raw| Delivered { raw, text }).collect();
            self.tell(AgentEvent::Launch(tasks));
        }
    }

    /// Records a task; `false` when it cannot be reported about or is not new. What is recorded here the driver can
    /// report about, whatever else is wrong with it.
    fn take_in(&mut self, task: &RawValue, text: Text) -> bool {
        let task_id = match identify(task.get()) {
            Ok((task_id, _)) => task_id,
            Err(error) => {
                error!(%error, "launch ignored: the task has no id to report by");
                return false;
            }
        };
        if text == Text::Repaired && task_id.value.contains(char::REPLACEMENT_CHARACTER) {
            error!(task = %task_id, "launch ignored: the task's id is not UTF-8, no update can carry it");
            return false;
        }
        let new = self.known.learn(&task_id);
        if new {
            self.outbox.received(task_id, task.to_owned());
        } else {
            warn!(task = %task_id, "launch ignored: the task was received before");
        }
        new
    }
}

impl Link {
    /// Waits until something happens to it.
    pub(super) async fn advance(&mut self) -> Advance {
        match self {
            Self::Idle => pending().await,
            Self::Waiting(until) => {
                sleep_until(*until).await;
                Advance::Due
            }
            Self::Subscribing { attempt, .. } => Advance::Answered(attempt.await),
            Self::Live { stream, .. } => Advance::Heard(stream.next().await),
        }
    }
}

/// Negative grace periods are possible on the wire; they mean none.
fn grace_period(kill_policy: Option<KillPolicy>) -> Option<Duration> {
    let nanoseconds = kill_policy?.grace_period?.nanoseconds;
    Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0)))
}

fn between(least: Duration, most: Duration) -> Duration {
    least + most.saturating_sub(least).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::common::DurationInfo;

    #[test]
    fn a_negative_grace_period_is_none_at_all() {
        let policy = |nanoseconds| Some(KillPolicy { grace_period: Some(DurationInfo { nanoseconds }) });
        assert_eq!(grace_period(policy(-1)), Some(Duration::ZERO));
        assert_eq!(grace_period(policy(1_500_000_000)), Some(Duration::from_millis(1500)));
        assert_eq!(grace_period(Some(KillPolicy { grace_period: None })), None);
        assert_eq!(grace_period(None), None);
    }

    #[test]
    fn pauses_stay_in_their_range() {
        let (least, most) = (Duration::from_millis(10), Duration::from_millis(500));
        assert!((0..1000).map(|_| between(least, most)).all(|pause| (least..=most).contains(&pause)));
    }
}
