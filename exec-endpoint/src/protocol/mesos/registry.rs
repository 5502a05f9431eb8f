//! The sessions of this protocol, found by their containers' ids: those that run, and the last that ended, for WAIT.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use mesos::common::ContainerId;

use super::session::Session;

/// How many ended sessions are remembered.
const REMEMBERED: usize = 1024;

/// All sessions.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<ContainerId, Entry>,
    /// The tasks whose input a connection has.
    inputs: HashSet<ContainerId>,
    /// Grows with every entry: the smallest is the oldest.
    next: u64,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// None while it starts.
    session: Option<Arc<Session>>,
}

impl Entry {
    fn has_ended(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.has_ended())
    }
}

/// An id that is kept for a session that starts. Dropped without one, the id is free again.
#[derive(Debug)]
pub(super) struct Reserved<'a> {
    registry: &'a Registry,
    container: Option<ContainerId>,
}

/// A task's input, kept for one connection. Dropped, it is free again.
#[derive(Debug)]
pub(super) struct InputTaken<'a> {
    registry: &'a Registry,
    container: ContainerId,
}

impl Drop for InputTaken<'_> {
    fn drop(&mut self) {
        self.registry.with(|inner| inner.inputs.remove(&self.container));
    }
}

impl Registry {
    /// Keeps a task's input for one connection; none if another has it.
    pub(super) fn take_input(&self, container: &ContainerId) -> Option<InputTaken<'_>> {
        let free = self.with(|inner| inner.inputs.insert(container.clone()));
        free.then(|| InputTaken { registry: self, container: container.clone() })
    }

    /// Keeps an id; none if a session has it that has not ended. What an ended one was is forgotten.
    pub(super) fn reserve(&self, container: &ContainerId) -> Option<Reserved<'_>> {
        self.with(|inner| {
            if inner.entries.get(container).is_some_and(|entry| !entry.has_ended()) {
                return None;
            }
            inner.forget_oldest();
            let number = inner.next;
            inner.next += 1;
            inner.entries.insert(container.clone(), Entry { number, session: None });
            Some(Reserved { registry: self, container: Some(container.clone()) })
        })
    }

    /// A session that was started.
    pub(super) fn find(&self, container: &ContainerId) -> Option<Arc<Session>> {
        self.with(|inner| inner.entries.get(container)?.session.clone())
    }

    /// Forgets a session that has ended.
    pub(super) fn remove(&self, container: &ContainerId) {
        self.with(|inner| {
            if inner.entries.get(container).is_some_and(Entry::has_ended) {
                inner.entries.remove(container);
            }
        });
    }

    /// Forgets ended sessions whose parents are gone.
    pub(super) fn retain(&self, lives: impl Fn(&Session) -> bool) {
        self.with(|inner| {
            inner.entries.retain(|_, entry| {
                !entry.has_ended() || entry.session.as_ref().is_some_and(|session| lives(session))
            });
        });
    }

    /// Sessions that run.
    pub(super) fn running(&self) -> Vec<Arc<Session>> {
        self.with(|inner| {
            let sessions = inner.entries.values().filter_map(|entry| entry.session.clone());
            sessions.filter(|session| !session.has_ended()).collect()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        act(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn forget_oldest(&mut self) {
        if self.entries.len() < REMEMBERED {
            return;
        }
        let ended = self.entries.iter().filter(|(_, entry)| entry.has_ended());
        let mut ended: Vec<_> = ended.map(|(container, entry)| (entry.number, container.clone())).collect();
        ended.sort_by_key(|(number, _)| *number);
        let surplus = (ended.len() + 1).saturating_sub(REMEMBERED);
        for (_, container) in ended.into_iter().take(surplus) {
            self.entries.remove(&container);
        }
    }
}

impl Reserved<'_> {
    /// It was started.
    pub(super) fn fill(mut self, session: Arc<Session>) {
        let Some(container) = self.container.take() else { return };
        self.registry.with(|inner| {
            if let Some(entry) = inner.entries.get_mut(&container) {
                entry.session = Some(session);
            }
        });
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            self.registry.with(|inner| inner.entries.remove(&container));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::session::{Phase, Session};
    use super::*;

    fn id(number: usize) -> ContainerId {
        ContainerId::new("pod").nested("task").nested(number.to_string())
    }

    fn add(registry: &Registry, number: usize, phase: Phase) -> Arc<Session> {
        let session = Arc::new(Session::with_phase(id(number), phase));
        registry.reserve(&id(number)).unwrap().fill(session.clone());
        session
    }

    #[test]
    fn an_id_is_taken_while_its_session_starts_or_runs_and_free_when_it_failed_or_ended() {
        let registry = Registry::default();
        let first = registry.reserve(&id(1)).unwrap();
        assert!(registry.reserve(&id(1)).is_none() && registry.find(&id(1)).is_none());
        drop(first);
        add(&registry, 1, Phase::Running);
        assert!(registry.reserve(&id(1)).is_none());
        registry.remove(&id(1));
        assert!(registry.find(&id(1)).is_some(), "one that runs is not forgotten");
        add(&registry, 2, Phase::Ended(Some(0)));
        assert!(registry.reserve(&id(2)).is_some());
    }

    #[test]
    fn a_tasks_input_has_one_connection_at_a_time() {
        let registry = Registry::default();
        let first = registry.take_input(&id(1)).unwrap();
        assert!(registry.take_input(&id(1)).is_none() && registry.take_input(&id(2)).is_some());
        drop(first);
        assert!(registry.take_input(&id(1)).is_some());
    }

    #[test]
    fn so_many_ended_sessions_are_remembered_and_the_oldest_are_forgotten_first() {
        let registry = Registry::default();
        add(&registry, 0, Phase::Running);
        for number in 1..=REMEMBERED + 5 {
            add(&registry, number, Phase::Ended(Some(0)));
        }
        assert!(registry.find(&id(0)).is_some() && registry.find(&id(1)).is_none());
        assert!(registry.find(&id(REMEMBERED + 5)).is_some());
        assert!(registry.with(|inner| inner.entries.len()) <= REMEMBERED + 1);
    }

    #[test]
    fn an_ended_session_is_forgotten_when_removed_or_when_its_parent_is_gone() {
        let registry = Registry::default();
        add(&registry, 1, Phase::Ended(None));
        add(&registry, 2, Phase::Ended(None));
        add(&registry, 3, Phase::Running);
        registry.remove(&id(1));
        assert!(registry.find(&id(1)).is_none());
        registry.retain(|_| false);
        assert!(registry.find(&id(2)).is_none() && registry.find(&id(3)).is_some());
        assert_eq!(registry.running().len(), 1);
    }
}
