//! The sessions under way, by id: for signals, and for their end when the endpoint stops.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesos::common::TaskId;
use tokio::sync::{mpsc, watch};

/// How many signals may wait for a session to take them.
const MOST_SIGNALS: usize = 16;

/// The sessions under way.
#[derive(Debug, Clone)]
pub struct Registry {
    sessions: Arc<Mutex<HashMap<String, Living>>>,
    living: watch::Sender<usize>,
    draining: watch::Sender<bool>,
}

#[derive(Debug)]
struct Living {
    owner: Owner,
    signals: mpsc::Sender<i32>,
}

/// Whose a session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Who opened it.
    pub user: String,
    /// In which task.
    pub task: TaskId,
}

/// A session under way. Dropped when it ends, on every path.
#[derive(Debug)]
pub struct Registration {
    /// Its id.
    pub id: String,
    /// Signals to its process.
    pub signals: mpsc::Receiver<i32>,
    draining: watch::Receiver<bool>,
    registry: Registry,
}

/// The endpoint takes no more sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the endpoint is stopping: try again in a few seconds")]
pub struct Draining;

/// Why a session cannot be signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSignal {
    /// It has ended, or there never was one.
    #[error("there is no such session")]
    Unknown,
    /// It is an attachment, or has not yet taken the last ones.
    #[error("the session takes no signals now: signal the task itself, or try again")]
    Busy,
}

impl Default for Registry {
    fn default() -> Self {
        let (sessions, living, draining) = (Arc::default(), watch::Sender::new(0), watch::Sender::new(false));
        Self { sessions, living, draining }
    }
}

impl Registry {
    /// A new session.
    ///
    /// # Errors
    /// [`Draining`].
    pub fn register(&self, owner: Owner) -> Result<Registration, Draining> {
        if *self.draining.borrow() {
            return Err(Draining);
        }
        let id = uuid::Uuid::new_v4().simple().to_string();
        let (sender, signals) = mpsc::channel(MOST_SIGNALS);
        self.change(|sessions| sessions.insert(id.clone(), Living { owner, signals: sender }));
        Ok(Registration { id, signals, draining: self.draining.subscribe(), registry: self.clone() })
    }

    /// Whose a session is, while it lives.
    pub fn owner(&self, id: &str) -> Option<Owner> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).map(|living| living.owner.clone())
    }

    /// Sends a signal to a session's process.
    ///
    /// # Errors
    /// [`NoSignal`].
    pub fn signal(&self, id: &str, signal: i32) -> Result<(), NoSignal> {
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let living = sessions.get(id).ok_or(NoSignal::Unknown)?;
        living.signals.try_send(signal).map_err(|_| NoSignal::Busy)
    }

    /// How many there are.
    pub fn living(&self) -> usize {
        *self.living.borrow()
    }

    /// Ends all sessions, lets none begin, and waits until none is left; give it a time limit.
    pub async fn drain(&self) {
        self.draining.send_replace(true);
        let _ = self.living.subscribe().wait_for(|&living| living == 0).await;
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<String, Living>) -> T) -> T {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut sessions);
        self.living.send_replace(sessions.len());
        changed
    }
}

impl Registration {
    /// Waits until the endpoint stops.
    pub async fn drained(draining: &mut watch::Receiver<bool>) {
        if draining.wait_for(|&draining| draining).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// What tells that the endpoint stops; for [`Self::drained`].
    pub fn draining(&self) -> watch::Receiver<bool> {
        self.draining.clone()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.change(|sessions| sessions.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { user: "ann".into(), task: TaskId::new("t") }
    }

    #[tokio::test]
    async fn a_session_is_there_until_it_is_dropped_and_draining_waits_for_that() {
        let registry = Registry::default();
        let mut session = registry.register(owner()).unwrap();
        assert_eq!((registry.living(), registry.owner(&session.id)), (1, Some(owner())));
        registry.signal(&session.id, 15).unwrap();
        assert_eq!(session.signals.recv().await, Some(15));
        assert_eq!(registry.signal("other", 15), Err(NoSignal::Unknown));
        let mut draining = session.draining();
        tokio::join!(registry.drain(), async {
            Registration::drained(&mut draining).await;
            drop(session);
        });
        assert_eq!((registry.living(), registry.register(owner()).err()), (0, Some(Draining)));
    }

    #[tokio::test]
    async fn signals_that_nobody_takes_are_bounded() {
        let registry = Registry::default();
        let session = registry.register(owner()).unwrap();
        for _ in 0..MOST_SIGNALS {
            registry.signal(&session.id, 1).unwrap();
        }
        assert_eq!(registry.signal(&session.id, 1), Err(NoSignal::Busy));
    }
}
