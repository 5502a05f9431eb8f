//! Which processes of tasks run now, and the sessions from outside that are in them.
//!
//! ```text
//!  Run: open --> (sessions join, and leave when their cgroup is gone) --> last_words: nobody joins --> cut --> forget
//! ```
//! A session holds a [`Seat`]: it says when the session is to end, and its drop says that it has.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesos::common::TaskId;
use tokio::sync::watch;

use super::workplace::Place;
use crate::cgroup::{CgroupName, SESSION};
use crate::spec::TaskSpec;
use crate::supervisor::Instance;

/// A task's process that runs.
#[derive(Debug, Clone)]
pub struct Living {
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// Which of its processes.
    pub instance: Instance,
    /// Its folders and its account.
    pub place: Place,
    /// Its first process, for signals.
    pub pidfd: Arc<OwnedFd>,
}

/// Why sessions are ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Their task ended.
    TaskEnded,
    /// The pod ends with all its tasks.
    PodEnded,
}

/// The tasks whose process runs, and the sessions in them.
#[derive(Debug, Default)]
pub struct Sessions {
    hosts: Mutex<HashMap<TaskId, Host>>,
    count: AtomicU64,
    pod_ends: AtomicBool,
}

#[derive(Debug)]
struct Host {
    living: Living,
    /// As many receivers as there are sessions.
    phase: Arc<watch::Sender<Phase>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    LastWords,
    Cut(Cut),
}

/// A session's place in a task.
#[derive(Debug)]
pub struct Seat {
    phase: watch::Receiver<Phase>,
    /// The session's cgroup: no two ever share one, however long the clearing of one takes.
    pub cgroup: CgroupName,
}

impl Sessions {
    /// A process of a task runs: sessions may join it.
    pub fn open(&self, living: Living) {
        let id = living.spec.id.clone();
        let phase = Arc::new(watch::Sender::new(Phase::Open));
        self.hosts().insert(id, Host { living, phase });
    }

    /// The running process of a task.
    pub fn living(&self, id: &TaskId) -> Option<Living> {
        let hosts = self.hosts();
        let host = hosts.get(id)?;
        (*host.phase.borrow() == Phase::Open).then(|| host.living.clone())
    }

    /// A place for a session in a task whose process runs.
    pub fn join(&self, id: &TaskId) -> Option<(Living, Seat)> {
        let hosts = self.hosts();
        let host = hosts.get(id)?;
        if *host.phase.borrow() != Phase::Open {
            return None;
        }
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let cgroup = CgroupName::task(id).child(&format!("{SESSION}{number}"));
        Some((host.living.clone(), Seat { phase: host.phase.subscribe(), cgroup }))
    }

    /// The task's process has ended: nobody joins any longer.
    pub fn last_words(&self, id: &TaskId) {
        self.advance(id, Phase::LastWords);
    }

    /// Ends the sessions in a task.
    pub fn cut(&self, id: &TaskId) {
        self.advance(id, Phase::Cut(self.why()));
    }

    /// From now on, tasks end because the pod does.
    pub fn pod_ends(&self) {
        self.pod_ends.store(true, Ordering::Relaxed);
    }

    /// Ends all sessions, and lets nobody join: the pod is over.
    pub fn cut_all(&self) {
        self.pod_ends();
        for host in self.hosts().values() {
            host.advance(Phase::Cut(self.why()));
        }
    }

    fn why(&self) -> Cut {
        if self.pod_ends.load(Ordering::Relaxed) { Cut::PodEnded } else { Cut::TaskEnded }
    }

    /// Whether there are sessions in a task.
    pub fn are_under_way(&self, id: &TaskId) -> bool {
        self.hosts().get(id).is_some_and(|host| host.phase.receiver_count() > 0)
    }

    /// Waits until no session is in the task.
    pub async fn ended(&self, id: &TaskId) {
        let phase = self.hosts().get(id).map(|host| host.phase.clone());
        if let Some(phase) = phase {
            phase.closed().await;
        }
    }

    /// The task has ended for good.
    pub fn forget(&self, id: &TaskId) {
        self.hosts().remove(id);
    }

    fn advance(&self, id: &TaskId, phase: Phase) {
        if let Some(host) = self.hosts().get(id) {
            host.advance(phase);
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<TaskId, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host {
    /// Only forward: what was cut is not let speak again.
    fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let forward = matches!((*now, phase), (Phase::Open, _) | (Phase::LastWords, Phase::Cut(_)));
            if forward {
                *now = phase;
            }
            forward
        });
    }
}

impl Seat {
    /// Waits until the session is to end.
    pub async fn cut(&mut self) -> Cut {
        loop {
            if let Phase::Cut(why) = *self.phase.borrow_and_update() {
                return why;
            }
            if self.phase.changed().await.is_err() {
                // The task is forgotten, or its next process runs already.
                return Cut::TaskEnded;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::table::a_task;

    fn living() -> Living {
        Living {
            spec: Arc::new(a_task("a", "a")),
            instance: Instance(1),
            place: Place { sandbox: "/".into(), person: None },
            pidfd: Arc::new(std::fs::File::open("/dev/null").unwrap().into()),
        }
    }

    #[tokio::test]
    async fn nobody_joins_a_task_whose_process_has_ended_and_who_is_in_it_is_waited_for() {
        let (sessions, id) = (Sessions::default(), TaskId::new("a"));
        assert!(sessions.join(&id).is_none());
        sessions.open(living());
        let (_, mut seat) = sessions.join(&id).unwrap();
        let (_, other) = sessions.join(&id).unwrap();
        assert_ne!(seat.cgroup, other.cgroup);
        drop(other);
        sessions.last_words(&id);
        assert!(sessions.join(&id).is_none() && sessions.living(&id).is_none());
        assert!(sessions.are_under_way(&id));
        sessions.cut(&id);
        sessions.cut_all();
        assert_eq!(seat.cut().await, Cut::TaskEnded);
        drop(seat);
        assert!(!sessions.are_under_way(&id));
        sessions.ended(&id).await;
    }

    #[tokio::test]
    async fn the_next_process_of_a_task_ends_the_sessions_of_the_one_before() {
        let (sessions, id) = (Sessions::default(), TaskId::new("a"));
        sessions.open(living());
        let (_, mut seat) = sessions.join(&id).unwrap();
        sessions.open(living());
        assert_eq!(seat.cut().await, Cut::TaskEnded);
        assert!(!sessions.are_under_way(&id));
    }
}
