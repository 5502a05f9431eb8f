//! The rules of the outbox, by example and for any order of happenings.

use std::collections::BTreeSet;

use mesos::common::{Source, TaskState};
use proptest::prelude::*;

use super::*;

fn status(task: &str, state: TaskState) -> TaskStatus {
    let mut status: TaskStatus =
        mesos::common::parse(br#"{"task_id":{"value":""},"state":"TASK_RUNNING"}"#).unwrap();
    status.task_id = TaskId::new(task);
    status.state = state.into();
    status.source = Some(Source::Executor.into());
    status.uuid = Some(Blob(Uuid::new_v4().as_bytes().to_vec()));
    status
}

fn pushed(outbox: &mut Outbox, task: &str, state: TaskState) -> Uuid {
    let status = status(task, state);
    let uuid = identity(status.uuid.as_ref().unwrap()).unwrap();
    outbox.push(status).unwrap();
    uuid
}

fn blob(uuid: Uuid) -> Blob {
    Blob(uuid.as_bytes().to_vec())
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn next(outbox: &mut Outbox) -> Option<Uuid> {
    outbox.next().map(|(uuid, _)| uuid)
}

fn offered(outbox: &Outbox) -> Vec<Uuid> {
    let updates = outbox.subscribe_body().0.unacknowledged_updates;
    updates.iter().map(|update| identity(update.status.uuid.as_ref().unwrap()).unwrap()).collect()
}

#[test]
fn a_task_is_offered_until_any_update_of_it_is_acknowledged() {
    let mut outbox = Outbox::default();
    outbox.received(TaskId::new("a"), raw(r#"{"x":1}"#));
    outbox.received(TaskId::new("b"), raw("{}"));
    let uuid = pushed(&mut outbox, "a", TaskState::Starting);
    assert_eq!(outbox.subscribe_body().0.unacknowledged_tasks.len(), 2);
    assert!(outbox.acknowledged(&TaskId::new("a"), &blob(uuid)));
    let tasks = outbox.subscribe_body().0.unacknowledged_tasks;
    assert_eq!(tasks.iter().map(|task| task.get()).collect::<Vec<_>>(), ["{}"]);
    assert!(!outbox.acknowledged(&TaskId::new("a"), &blob(uuid)));
    assert!(!outbox.acknowledged(&TaskId::new("never"), &Blob(vec![1, 2])));
}

#[test]
fn an_update_without_a_usable_uuid_is_not_taken_in() {
    let mut outbox = Outbox::default();
    let mut nil = status("a", TaskState::Running);
    nil.uuid = Some(Blob(vec![0; 16]));
    let mut short = status("a", TaskState::Running);
    short.uuid = Some(Blob(vec![1; 15]));
    let mut none = status("a", TaskState::Running);
    none.uuid = None;
    for bad in [nil, short, none] {
        assert_eq!(outbox.push(bad), Err(PushError::Uuid { task_id: TaskId::new("a") }));
    }
    let good = status("a", TaskState::Running);
    outbox.push(good.clone()).unwrap();
    assert!(matches!(outbox.push(good), Err(PushError::Duplicate { .. })));
    assert_eq!(outbox.outstanding(), 1);
}

#[test]
fn a_failed_update_is_sent_before_all_that_follow() {
    let mut outbox = Outbox::default();
    let first = pushed(&mut outbox, "a", TaskState::Starting);
    let second = pushed(&mut outbox, "a", TaskState::Running);
    assert_eq!(next(&mut outbox), Some(first));
    assert_eq!(next(&mut outbox), None);
    assert_eq!(outbox.failed(first, Failure::Retry), Fate::Again);
    assert_eq!(next(&mut outbox), Some(first));
    outbox.delivered(first);
    assert_eq!(next(&mut outbox), Some(second));
}

#[test]
fn an_acknowledgement_may_come_before_the_answer() {
    let mut outbox = Outbox::default();
    let uuid = pushed(&mut outbox, "a", TaskState::Running);
    next(&mut outbox);
    assert!(outbox.acknowledged(&TaskId::new("a"), &blob(uuid)));
    assert_eq!(outbox.failed(uuid, Failure::Retry), Fate::Settled);
    outbox.delivered(uuid);
    assert_eq!((outbox.outstanding(), next(&mut outbox)), (0, None));
}

#[test]
fn an_update_pushed_after_the_snapshot_is_still_to_be_sent() {
    let mut outbox = Outbox::default();
    pushed(&mut outbox, "a", TaskState::Starting);
    let (_, snapshot) = outbox.subscribe_body();
    let later = pushed(&mut outbox, "a", TaskState::Running);
    outbox.resubscribed(snapshot);
    assert_eq!(next(&mut outbox), Some(later));
}

#[test]
fn a_refused_update_lets_others_pass_and_is_dropped_at_its_second_refusal() {
    let mut outbox = Outbox::default();
    let refused = pushed(&mut outbox, "a", TaskState::Finished);
    let other = pushed(&mut outbox, "b", TaskState::Running);
    next(&mut outbox);
    assert_eq!(outbox.failed(refused, Failure::Refusal), Fate::KeptBack);
    assert_eq!(next(&mut outbox), Some(other));
    outbox.delivered(other);
    assert_eq!(offered(&outbox), [other]);
    let (_, snapshot) = outbox.subscribe_body();
    outbox.resubscribed(snapshot);
    assert_eq!(next(&mut outbox), Some(refused));
    assert_eq!(outbox.failed(refused, Failure::Refusal), Fate::Dropped);
    assert_eq!(outbox.outstanding(), 1);
}

#[test]
fn a_refused_update_is_never_sent_behind_a_later_one_of_its_task() {
    let mut outbox = Outbox::default();
    let refused = pushed(&mut outbox, "a", TaskState::Running);
    next(&mut outbox);
    outbox.failed(refused, Failure::Refusal);
    assert_eq!(outbox.push(status("a", TaskState::Finished)).unwrap(), [refused]);

    let mut outbox = Outbox::default();
    let refused = pushed(&mut outbox, "a", TaskState::Running);
    pushed(&mut outbox, "a", TaskState::Finished);
    next(&mut outbox);
    assert_eq!(outbox.failed(refused, Failure::Refusal), Fate::Dropped);
}

#[test]
fn with_very_many_updates_only_stale_ones_of_the_same_task_go() {
    let mut outbox = Outbox::default();
    let terminal = pushed(&mut outbox, "ended", TaskState::Failed);
    for _ in 1..MANY {
        pushed(&mut outbox, "flapping", TaskState::Running);
    }
    let dropped = outbox.push(status("flapping", TaskState::Running)).unwrap();
    assert_eq!(dropped.len(), MANY - 1);
    assert_eq!(outbox.outstanding(), 2);
    assert_eq!(next(&mut outbox), Some(terminal));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Push(usize),
    Next,
    Delivered,
    Failed(Failure),
    Acknowledged(usize),
    Offer,
    Taken,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize).prop_map(Step::Push),
        4 => Just(Step::Next),
        3 => Just(Step::Delivered),
        2 => Just(Step::Failed(Failure::Retry)),
        1 => Just(Step::Failed(Failure::Refusal)),
        3 => any::<usize>().prop_map(Step::Acknowledged),
        1 => Just(Step::Offer),
        1 => Just(Step::Taken),
    ]
}

/// What the agent and the driver would have seen.
#[derive(Default)]
struct Model {
    pushed: Vec<(Uuid, TaskStatus)>,
    flying: Option<Uuid>,
    arrived: BTreeSet<Uuid>,
    acknowledged: BTreeSet<Uuid>,
    dropped: BTreeSet<Uuid>,
    offer: Option<(Vec<Uuid>, Snapshot)>,
}

impl Model {
    fn place(&self, uuid: Uuid) -> usize {
        self.pushed.iter().position(|(one, _)| *one == uuid).unwrap()
    }

    fn task(&self, uuid: Uuid) -> TaskId {
        self.pushed[self.place(uuid)].1.task_id.clone()
    }

    /// All updates of the same task before this one are settled for the agent.
    fn in_turn(&self, uuid: Uuid) -> bool {
        let place = self.place(uuid);
        let earlier =
            self.pushed[..place].iter().filter(|(_, status)| status.task_id == self.pushed[place].1.task_id);
        earlier.map(|(uuid, _)| uuid).all(|uuid| self.arrived.contains(uuid) || self.dropped.contains(uuid))
    }

    fn apply(&mut self, outbox: &mut Outbox, step: Step) {
        match step {
            Step::Push(task) => {
                let status = status(["a", "b", "c"][task], TaskState::Running);
                let uuid = identity(status.uuid.as_ref().unwrap()).unwrap();
                self.pushed.push((uuid, status.clone()));
                self.dropped.extend(outbox.push(status).unwrap());
            }
            // The desk has one call at a time. It asks for no other while that of an update is under way which a SUBSCRIBE
            // told as well, so that its acknowledgement came first.
            Step::Next if self.flying.is_some_and(|uuid| self.acknowledged.contains(&uuid)) => {}
            Step::Next => {
                let Some((uuid, status)) = outbox.next() else {
                    return;
                };
                assert!(self.flying.is_none(), "two in flight");
                assert!(!self.acknowledged.contains(&uuid), "sent after its acknowledgement");
                assert_eq!(*status, self.pushed[self.place(uuid)].1, "another transition under this uuid");
                assert!(self.in_turn(uuid), "overtook an earlier update of its task");
                self.flying = Some(uuid);
            }
            Step::Delivered => {
                let Some(uuid) = self.flying.take() else { return };
                outbox.delivered(uuid);
                self.arrived.insert(uuid);
            }
            Step::Failed(failure) => {
                let Some(uuid) = self.flying.take() else { return };
                if outbox.failed(uuid, failure) == Fate::Dropped {
                    self.dropped.insert(uuid);
                }
            }
            Step::Acknowledged(which) => {
                let Some(&uuid) = self.arrived.iter().nth(which % self.arrived.len().max(1)) else {
                    return;
                };
                let first = outbox.acknowledged(&self.task(uuid), &blob(uuid));
                assert_eq!(first, self.acknowledged.insert(uuid) && !self.dropped.contains(&uuid));
            }
            Step::Offer => {
                let offered = offered(outbox);
                let places: Vec<_> = offered.iter().map(|&uuid| self.place(uuid)).collect();
                assert!(places.is_sorted(), "offered out of order");
                assert!(
                    offered.iter().all(|uuid| !self.acknowledged.contains(uuid)),
                    "offered after its acknowledgement"
                );
                self.offer = Some((offered, outbox.subscribe_body().1));
            }
            Step::Taken => {
                let Some((offered, snapshot)) = self.offer.take() else {
                    return;
                };
                outbox.resubscribed(snapshot);
                self.arrived.extend(offered);
                // The session gives up what was in flight on the old connection.
                if let Some(uuid) = self.flying.take() {
                    outbox.failed(uuid, Failure::Retry);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn order_is_kept_and_nothing_is_lost_or_sent_again(steps in proptest::collection::vec(step(), 0..120)) {
        let mut outbox = Outbox::default();
        let mut model = Model::default();
        for step in steps {
            model.apply(&mut outbox, step);
            let gone: BTreeSet<_> = model.acknowledged.union(&model.dropped).collect();
            prop_assert_eq!(outbox.outstanding(), model.pushed.len() - gone.len());
        }
        // From any state, a subscription and a patient agent empty it.
        for step in [Step::Failed(Failure::Retry), Step::Offer, Step::Taken] {
            model.apply(&mut outbox, step);
        }
        for _ in 0..model.pushed.len() {
            model.apply(&mut outbox, Step::Next);
            model.apply(&mut outbox, Step::Delivered);
        }
        for (uuid, status) in &model.pushed {
            outbox.acknowledged(&status.task_id, &blob(*uuid));
        }
        prop_assert_eq!(outbox.outstanding(), 0);
        prop_assert!(model.pushed.iter().all(|(uuid, _)| model.arrived.contains(uuid) || model.dropped.contains(uuid)));
    }
}
