//! What the agent has not acknowledged yet. Pure: no clock, no I/O.
//!
//! ```text
//!  push -> Unsent -> next -> InFlight -> delivered -> Sent -> acknowledged -> gone
//!            ^                  |  |
//!            +---- Retry -------+  +-- Refusal -> Refused -- resubscribed -> Unsent, once; the second refusal drops it
//! ```
//! Order is kept per task whatever happens: one update is in flight at a time, a failed one is the next again, and a
//! refused one is dropped rather than sent behind a later one of its task.

use std::collections::{BTreeMap, VecDeque};

use mesos::common::{Blob, TaskId, TaskStatus};
use mesos::executor::{Subscribe, Update};
use serde_json::value::RawValue;
use uuid::Uuid;

/// With more updates than this, those that a later one of the same task has made stale are dropped before they are sent.
const MANY: usize = 4096;

/// Received tasks and pushed updates until they are acknowledged.
#[derive(Debug, Default)]
pub struct Outbox {
    tasks: BTreeMap<TaskId, Box<RawValue>>,
    updates: VecDeque<Entry>,
    pushed: u64,
}

#[derive(Debug)]
struct Entry {
    uuid: Uuid,
    /// Its place in the order of all updates ever pushed.
    number: u64,
    status: TaskStatus,
    state: State,
    refusals: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsent,
    InFlight,
    Sent,
    Refused,
}

/// What a SUBSCRIBE told the agent of.
#[derive(Debug, Clone, Copy)]
pub struct Snapshot {
    below: u64,
}

/// Why an update was not taken in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PushError {
    /// The agent would refuse it, and older agents crash.
    #[error("queue update of task {task_id}: its uuid is not 16 bytes of version 4")]
    Uuid {
        /// Its task.
        task_id: TaskId,
    },
    /// An update with this identity is queued already.
    #[error("queue update of task {task_id}: uuid {uuid} is queued already")]
    Duplicate {
        /// Its task.
        task_id: TaskId,
        /// Its identity.
        uuid: Uuid,
    },
}

/// How an update in flight failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It may be taken when it is sent again.
    Retry,
    /// The agent says that it is wrong.
    Refusal,
}

/// What became of an update that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is the next to be sent.
    Again,
    /// It is kept back until the next subscription.
    KeptBack,
    /// It is dropped.
    Dropped,
    /// It was no longer in flight: acknowledged, or part of a subscription meanwhile.
    Settled,
}

impl Outbox {
    /// Takes in a task; it goes into every SUBSCRIBE until an update of it is acknowledged.
    pub fn received(&mut self, task_id: TaskId, task: Box<RawValue>) {
        self.tasks.insert(task_id, task);
    }

    /// What a SUBSCRIBE carries now, in order.
    ///
    /// Refused updates are left out: the agent does not check what comes with a SUBSCRIBE as it does an UPDATE, and may
    /// crash on it.
    pub fn subscribe_body(&self) -> (Subscribe, Snapshot) {
        let offered = self.updates.iter().filter(|entry| entry.state != State::Refused);
        let body = Subscribe {
            unacknowledged_tasks: self.tasks.values().cloned().collect(),
            unacknowledged_updates: offered.map(|entry| Update { status: entry.status.clone() }).collect(),
        };
        (body, Snapshot { below: self.pushed })
    }

    /// Takes in an update. Returns those that are dropped because of it: stale ones when there are many, and a refused
    /// one of the same task.
    ///
    /// # Errors
    /// [`PushError`]; the update is not taken in.
    pub fn push(&mut self, status: TaskStatus) -> Result<Vec<Uuid>, PushError> {
        let uuid = status
            .uuid
            .as_ref()
            .and_then(identity)
            .ok_or_else(|| PushError::Uuid { task_id: status.task_id.clone() })?;
        if self.updates.iter().any(|entry| entry.uuid == uuid) {
            return Err(PushError::Duplicate { task_id: status.task_id, uuid });
        }
        let many = self.updates.len() >= MANY;
        let mut dropped = Vec::new();
        self.updates.retain(|entry| {
            let same = entry.status.task_id == status.task_id;
            let stale = many && entry.state == State::Unsent && !is_terminal(&entry.status);
            let drop = same && (stale || entry.state == State::Refused);
            dropped.extend(drop.then_some(entry.uuid));
            !drop
        });
        self.updates.push_back(Entry {
            uuid,
            number: self.pushed,
            status,
            state: State::Unsent,
            refusals: 0,
        });
        self.pushed += 1;
        Ok(dropped)
    }

    /// The update to send now, in flight from here on. `None` when there is none or one is in flight.
    #[expect(clippy::should_implement_trait, reason = "not an iterator: None means not now")]
    pub fn next(&mut self) -> Option<(Uuid, &TaskStatus)> {
        if self.updates.iter().any(|entry| entry.state == State::InFlight) {
            return None;
        }
        let entry = self.updates.iter_mut().find(|entry| entry.state == State::Unsent)?;
        entry.state = State::InFlight;
        Some((entry.uuid, &entry.status))
    }

    /// The agent took the update; its acknowledgement is still to come.
    pub fn delivered(&mut self, uuid: Uuid) {
        if let Some(entry) = self.in_flight(uuid) {
            entry.state = State::Sent;
        }
    }

    /// The update in flight did not arrive, or was refused.
    pub fn failed(&mut self, uuid: Uuid, failure: Failure) -> Fate {
        let Some(entry) = self.in_flight(uuid) else {
            return Fate::Settled;
        };
        if failure == Failure::Retry {
            entry.state = State::Unsent;
            return Fate::Again;
        }
        entry.state = State::Refused;
        entry.refusals += 1;
        let (number, refusals, task_id) = (entry.number, entry.refusals, entry.status.task_id.clone());
        let overtaken =
            self.updates.iter().any(|entry| entry.number > number && entry.status.task_id == task_id);
        if refusals > 1 || overtaken {
            self.updates.retain(|entry| entry.uuid != uuid);
            return Fate::Dropped;
        }
        Fate::KeptBack
    }

    /// An acknowledgement came. Returns whether it was that of a queued update; a repeated one is none.
    pub fn acknowledged(&mut self, task_id: &TaskId, uuid: &Blob) -> bool {
        self.tasks.remove(task_id);
        let before = self.updates.len();
        if let Some(uuid) = identity(uuid) {
            self.updates.retain(|entry| entry.uuid != uuid);
        }
        self.updates.len() < before
    }

    /// The agent took the subscription of `snapshot`, and with it all updates therein. Refused ones get their second chance.
    pub fn resubscribed(&mut self, snapshot: Snapshot) {
        for entry in &mut self.updates {
            entry.state = match entry.state {
                State::Refused => State::Unsent,
                State::Unsent | State::InFlight if entry.number < snapshot.below => State::Sent,
                unchanged => unchanged,
            };
        }
    }

    /// How many updates are not acknowledged.
    pub fn outstanding(&self) -> usize {
        self.updates.len()
    }

    /// How many of these the agent may still acknowledge before the next subscription: all but the refused ones.
    pub fn awaited(&self) -> usize {
        self.updates.iter().filter(|entry| entry.state != State::Refused).count()
    }

    /// The task of a queued update.
    pub fn task_of(&self, uuid: Uuid) -> Option<TaskId> {
        let entry = self.updates.iter().find(|entry| entry.uuid == uuid);
        entry.map(|entry| entry.status.task_id.clone())
    }

    fn in_flight(&mut self, uuid: Uuid) -> Option<&mut Entry> {
        self.updates.iter_mut().find(|entry| entry.uuid == uuid && entry.state == State::InFlight)
    }
}

fn identity(blob: &Blob) -> Option<Uuid> {
    Uuid::from_slice(&blob.0).ok().filter(|uuid| uuid.get_version_num() == 4)
}

fn is_terminal(status: &TaskStatus) -> bool {
    status.state.known().is_some_and(mesos::common::TaskState::is_terminal)
}

#[cfg(test)]
mod tests;
