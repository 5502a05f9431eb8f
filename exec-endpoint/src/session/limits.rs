//! The bounds on how many sessions there are: in all, per user, per task.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::metrics::SessionCounters;

/// How many sessions there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// In all.
    pub all: NonZeroUsize,
    /// Of one user.
    pub per_user: NonZeroUsize,
    /// In one task.
    pub per_task: NonZeroUsize,
}

impl Default for Bounds {
    fn default() -> Self {
        let number = |number| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
        Self { all: number(2048), per_user: number(1024), per_task: number(1024) }
    }
}

/// Counts sessions.
#[derive(Debug)]
pub struct Sessions {
    bounds: Bounds,
    counters: SessionCounters,
    living: Arc<Mutex<Living>>,
}

/// The right to one session. Dropped when it ends, on every path.
#[derive(Debug)]
pub struct Permit {
    protocol: &'static str,
    user: String,
    task: String,
    counters: SessionCounters,
    living: Arc<Mutex<Living>>,
}

/// There are too many. Its text is for the client, and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TooMany(pub String);

#[derive(Debug, Default)]
struct Living {
    all: usize,
    users: HashMap<String, usize>,
    tasks: HashMap<String, usize>,
}

impl Sessions {
    /// None yet.
    pub fn new(bounds: Bounds, counters: SessionCounters) -> Self {
        Self { bounds, counters, living: Arc::default() }
    }

    /// A permit for one session of this user in this task (its id); the protocol (as of [`crate::gate::Asked`]) is for metrics.
    ///
    /// # Errors
    /// [`TooMany`]: which bound is reached, and what to do.
    pub fn permit(&self, protocol: &'static str, user: &str, task: &str) -> Result<Permit, TooMany> {
        let admitted = lock(&self.living).admit(self.bounds, user, task);
        self.counters.asked(protocol, admitted.is_ok());
        admitted?;
        Ok(Permit {
            protocol,
            user: user.to_owned(),
            task: task.to_owned(),
            counters: self.counters.clone(),
            living: self.living.clone(),
        })
    }

    /// How many there are.
    pub fn living(&self) -> usize {
        lock(&self.living).all
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        lock(&self.living).remove(&self.user, &self.task);
        self.counters.ended(self.protocol);
    }
}

impl Living {
    fn admit(&mut self, bounds: Bounds, user: &str, task: &str) -> Result<(), TooMany> {
        let Bounds { all, per_user, per_task } = bounds;
        if self.all >= all.get() {
            return Err(TooMany(format!("all {all} sessions of this endpoint are in use; try again later")));
        }
        if self.users.get(user).is_some_and(|&count| count >= per_user.get()) {
            return Err(TooMany(format!(
                "{user} has {per_user} sessions, the most for one user; end one of them"
            )));
        }
        if self.tasks.get(task).is_some_and(|&count| count >= per_task.get()) {
            return Err(TooMany(format!(
                "there are {per_task} sessions in task {task}, the most for one task; end one of them"
            )));
        }
        self.all += 1;
        *self.users.entry(user.to_owned()).or_default() += 1;
        *self.tasks.entry(task.to_owned()).or_default() += 1;
        Ok(())
    }

    fn remove(&mut self, user: &str, task: &str) {
        self.all -= 1;
        one_less(&mut self.users, user);
        one_less(&mut self.tasks, task);
    }
}

fn one_less(counts: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

/// Counting does not panic half-way.
fn lock(living: &Mutex<Living>) -> MutexGuard<'_, Living> {
    living.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use proptest::prelude::*;

    fn sessions(all: usize, per_user: usize, per_task: usize) -> Sessions {
        let some = |count| NonZeroUsize::new(count).unwrap();
        let bounds = Bounds { all: some(all), per_user: some(per_user), per_task: some(per_task) };
        Sessions::new(bounds, Metrics::default().sessions)
    }

    #[test]
    fn each_bound_is_told_by_its_own_sentence() {
        let text = |sessions: &Sessions, user, task| sessions.permit("p", user, task).unwrap_err().0;
        let one = sessions(1, 1, 1);
        let _held = one.permit("p", "ann", "t").unwrap();
        assert!(text(&one, "bob", "u").contains("all 1 sessions"));
        let two = sessions(2, 1, 1);
        let _held = two.permit("p", "ann", "t").unwrap();
        assert!(text(&two, "ann", "u").contains("ann has 1"));
        assert!(text(&two, "bob", "t").contains("in task t"));
    }

    #[test]
    fn a_refused_session_takes_nothing() {
        let sessions = sessions(2, 2, 1);
        let held = sessions.permit("p", "ann", "t").unwrap();
        sessions.permit("p", "ann", "t").unwrap_err();
        assert_eq!(sessions.living(), 1);
        drop(held);
        let _again = sessions.permit("p", "ann", "t").unwrap();
    }

    proptest! {
        #[test]
        fn whatever_is_opened_and_ended_the_counts_are_those_of_the_permits_and_within_bounds(
            steps in prop::collection::vec((0..3_u8, 0..3_u8, any::<bool>()), 0..100),
        ) {
            let sessions = sessions(5, 3, 2);
            let mut permits = Vec::new();
            for (user, task, open) in steps {
                if open {
                    permits.extend(sessions.permit("p", &user.to_string(), &task.to_string()));
                } else if !permits.is_empty() {
                    permits.swap_remove(usize::from(user) % permits.len());
                }
                let of = |user: &str| permits.iter().filter(|permit: &&Permit| permit.user == user).count();
                prop_assert_eq!(sessions.living(), permits.len());
                prop_assert!(permits.len() <= 5 && (0..3).all(|user| of(&user.to_string()) <= 3));
            }
            drop(permits);
            let living = lock(&sessions.living);
            prop_assert!(living.all == 0 && living.users.is_empty() && living.tasks.is_empty());
        }
    }
}
