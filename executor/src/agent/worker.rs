//! What a session does. One task owns all of it:
//!
//! ```text
//!            +-- Link:  Idle | Waiting | Subscribing | Live(stream of events)     -> AgentEvent -> backlog -> driver
//!  Worker ---+-- Desk:  Free | Busy(one call) | Resting                           <- Outbox <- TaskStatus <- driver
//!            +-- Outbox, KnownTasks, the recovery countdown
//! ```
//! It never waits for the driver: while events pile up it stops reading the stream, not the updates, so the two cannot
//! block each other.

mod desk;
mod link;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesos::common::{TaskId, TaskState, TaskStatus};
use mesos::executor::{Call, CallType};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use self::desk::{Desk, Returned};
use self::link::{Advance, Link};
use super::connection::AgentAddress;
use super::known::KnownTasks;
use super::outbox::Outbox;
use super::session::{Counters, SessionConfig, Wish};
use super::{AgentEvent, ShutdownCause};

/// With so many events that the driver has not taken, the stream is not read further.
const BACKLOG: usize = 64;
/// The recovery countdown is logged so often, or four times in all.
const COUNTDOWN: Duration = Duration::from_secs(60);

/// The state of a session.
pub(super) struct Worker {
    config: SessionConfig,
    address: Arc<AgentAddress>,
    outbox: Outbox,
    known: KnownTasks,
    link: Link,
    desk: Desk,
    retry_pause: Duration,
    heartbeat_at: Instant,
    countdown: Option<Countdown>,
    subscribed_before: bool,
    ending: Option<ShutdownCause>,
    last_complaint: String,
    backlog: VecDeque<AgentEvent>,
    audience: Audience,
    counters: watch::Sender<Counters>,
}

struct Countdown {
    end: Instant,
    next_log: Instant,
}

#[derive(PartialEq, Eq)]
enum Audience {
    Listening,
    Gone,
}

#[expect(clippy::large_enum_variant, reason = "it lives for one turn of the loop")]
enum Happening {
    Wish(Wish),
    Status(Option<TaskStatus>),
    Told,
    AudienceLeft,
    Link(Advance),
    Desk(Returned),
    Alarm,
}

impl Worker {
    /// A session that has not begun; its recovery countdown has.
    pub(super) fn new(config: SessionConfig, counters: watch::Sender<Counters>) -> Self {
        let now = Instant::now();
        Self {
            address: Arc::new(config.address.clone()),
            outbox: Outbox::default(),
            known: KnownTasks::default(),
            link: Link::Waiting(now),
            desk: Desk::Free(None),
            retry_pause: config.limits.retry_least,
            heartbeat_at: now + config.limits.heartbeat,
            countdown: Some(Countdown::start(config.recovery_timeout)),
            subscribed_before: false,
            ending: None,
            last_complaint: String::new(),
            backlog: VecDeque::new(),
            audience: Audience::Listening,
            counters,
            config,
        }
    }

    /// Runs it until it is drained or told to stop. Returns how many updates are not acknowledged.
    pub(super) async fn run(
        mut self,
        mut updates: mpsc::Receiver<TaskStatus>,
        events: mpsc::Sender<AgentEvent>,
        mut wish: watch::Receiver<Wish>,
    ) -> usize {
        let mut updates_open = true;
        loop {
            self.start_errand();
            let outstanding = self.outbox.outstanding();
            self.count(|counters| counters.outstanding = outstanding);
            // Subscribed, what the agent refused has no further chance that one could wait for.
            let awaited = if self.is_live() { self.outbox.awaited() } else { outstanding };
            if !updates_open && awaited == 0 {
                return outstanding;
            }
            let alarm = self.alarm();
            let happening = tokio::select! {
                changed = wish.changed() => {
                    Happening::Wish(if changed.is_ok() { *wish.borrow_and_update() } else { Wish::Stop })
                }
                status = updates.recv(), if updates_open => Happening::Status(status),
                room = events.reserve(), if !self.backlog.is_empty() => match (room, self.backlog.pop_front()) {
                    (Ok(room), Some(event)) => {
                        room.send(event);
                        Happening::Told
                    }
                    _ => Happening::AudienceLeft,
                },
                advance = self.link.advance(), if self.backlog.len() < BACKLOG => Happening::Link(advance),
                returned = self.desk.advance() => Happening::Desk(returned),
                () = sleep_until(alarm) => Happening::Alarm,
            };
            match happening {
                Happening::Wish(Wish::Serve) | Happening::Told => {}
                Happening::Wish(Wish::Drain) => {
                    updates.close();
                    self.audience_left();
                }
                Happening::Wish(Wish::Stop) => return outstanding,
                Happening::AudienceLeft => self.audience_left(),
                Happening::Status(Some(status)) => self.push(status),
                Happening::Status(None) => updates_open = false,
                Happening::Link(Advance::Due) => self.subscribe(),
                Happening::Link(Advance::Answered(answer)) => self.answered(answer),
                Happening::Link(Advance::Heard(Ok((event, text)))) => self.heard(event, text),
                Happening::Link(Advance::Heard(Err(end))) => self.lost(&end),
                Happening::Desk(returned) => self.returned(returned),
                Happening::Alarm => self.alarmed(),
            }
        }
    }

    fn audience_left(&mut self) {
        self.audience = Audience::Gone;
        self.backlog.clear();
    }

    fn tell(&mut self, event: AgentEvent) {
        if self.audience == Audience::Listening {
            self.backlog.push_back(event);
        }
    }

    /// Tells the driver that an update is not waited for any longer.
    fn not_accepted(&mut self, task_id: TaskId) {
        let outstanding = self.outbox.awaited();
        self.tell(AgentEvent::NotAccepted { task_id, outstanding });
    }

    fn is_live(&self) -> bool {
        matches!(self.link, Link::Live { .. })
    }

    fn count(&self, change: impl FnOnce(&mut Counters)) {
        self.counters.send_if_modified(|counters| {
            let before = *counters;
            change(counters);
            *counters != before
        });
    }

    fn push(&mut self, status: TaskStatus) {
        let (task_id, state) = (status.task_id.clone(), status.state.clone());
        if !self.known.knows(&task_id) {
            error!(task = %task_id, state = state.name(), "update dropped: the task was never received");
            self.count(|counters| counters.updates_dropped += 1);
            self.not_accepted(task_id);
            return;
        }
        match self.outbox.push(status) {
            Err(error) => {
                error!(task = %task_id, state = state.name(), %error, "update dropped");
                self.count(|counters| counters.updates_dropped += 1);
                self.not_accepted(task_id);
            }
            Ok(dropped) => {
                for uuid in &dropped {
                    error!(task = %task_id, %uuid, "update dropped for a later one: it was refused, or one of too many");
                }
                self.count(|counters| counters.updates_dropped += dropped.len() as u64);
                if state.known().is_some_and(TaskState::is_terminal) {
                    self.known.ended(task_id);
                }
            }
        }
    }

    fn empty_call(&self, kind: CallType) -> Call {
        Call {
            kind,
            executor_id: self.config.executor_id.clone(),
            framework_id: self.config.framework_id.clone(),
            subscribe: None,
            update: None,
            message: None,
        }
    }

    fn alarm(&self) -> Instant {
        match (&self.countdown, &self.link, &self.desk) {
            (Some(countdown), ..) => countdown.next_log.min(countdown.end),
            (None, Link::Live { .. }, Desk::Free(_)) => self.heartbeat_at,
            (None, ..) => Instant::now() + COUNTDOWN,
        }
    }

    fn alarmed(&mut self) {
        let now = Instant::now();
        let Some(countdown) = &mut self.countdown else {
            return;
        };
        if now >= countdown.end {
            self.end(ShutdownCause::RecoveryTimeout);
        } else if now >= countdown.next_log {
            warn!(left = ?(countdown.end - now), "without a subscription; everything ends when that time is up");
            countdown.next_log = now + countdown_step(self.config.recovery_timeout);
        }
    }
}

impl Countdown {
    fn start(recovery_timeout: Duration) -> Self {
        let now = Instant::now();
        info!(?recovery_timeout, "waiting for a subscription");
        Self { end: now + recovery_timeout, next_log: now + countdown_step(recovery_timeout) }
    }
}

fn countdown_step(recovery_timeout: Duration) -> Duration {
    COUNTDOWN.min(recovery_timeout / 4).max(Duration::from_millis(1))
}

fn encode(call: &Call) -> Bytes {
    // Strings, numbers and JSON that was parsed before: there is nothing that could fail.
    serde_json::to_vec(call).map(Bytes::from).unwrap_or_default()
}
