//! The checks of a task: what their verdicts come to.
//!
//! ```text
//!  startup: all others wait until every one has passed once     liveness: the health flag, told when it changes
//!  readiness, reported: part of being ready
//! ```

use mesos::common::CheckType;

use crate::health::Observed;
use crate::spec::{CheckRole, CheckSpec};

/// The checks of a task's present process.
#[derive(Debug)]
pub(super) struct Checks {
    roles: Vec<CheckRole>,
    passed: Vec<Option<bool>>,
    observed: Observed,
    healthy: Option<bool>,
}

impl Checks {
    /// Of a process that has just started: nothing is known.
    pub(super) fn new(specs: &[CheckSpec]) -> Self {
        let roles: Vec<CheckRole> = specs.iter().map(|spec| spec.role).collect();
        Self { passed: vec![None; roles.len()], roles, observed: Observed::default(), healthy: None }
    }

    /// What the verdict of one means.
    pub(super) fn role(&self, check: usize) -> Option<CheckRole> {
        self.roles.get(check).copied()
    }

    /// Takes a verdict.
    pub(super) fn judge(&mut self, check: usize, passed: bool) {
        if let Some(last) = self.passed.get_mut(check) {
            *last = Some(passed);
        }
    }

    /// Takes what the reported check saw.
    pub(super) fn observe(&mut self, observed: Observed) {
        self.observed = observed;
    }

    /// Whether the last verdict of all that count is a pass.
    pub(super) fn passed(&self, counts: impl Fn(CheckRole) -> bool) -> bool {
        self.roles.iter().zip(&self.passed).all(|(role, passed)| !counts(*role) || *passed == Some(true))
    }

    /// Whether all startup checks have passed.
    pub(super) fn are_up(&self) -> bool {
        self.passed(|role| role == CheckRole::Startup)
    }

    /// Which are to run now: those of startup, or all others once these have passed.
    pub(super) fn due(&self) -> Vec<usize> {
        let are_up = self.are_up();
        (0..self.roles.len()).filter(|&check| are_up != (self.roles[check] == CheckRole::Startup)).collect()
    }

    /// What the liveness checks say; nothing before each has said something, unless one failed.
    pub(super) fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// Brings the health flag up to date; whether it says something new.
    pub(super) fn health_changed(&mut self) -> bool {
        let liveness = self.roles.iter().zip(&self.passed).filter(|(role, _)| **role == CheckRole::Liveness);
        let liveness: Vec<Option<bool>> = liveness.map(|(_, passed)| *passed).collect();
        let healthy = if liveness.contains(&Some(false)) {
            Some(false)
        } else {
            liveness.iter().all(Option::is_some).then_some(true)
        };
        let changed = healthy.is_some() && healthy != self.healthy;
        if changed {
            self.healthy = healthy;
        }
        changed
    }

    /// The kind of the reported check and what it saw, if there is one.
    pub(super) fn reported(&self) -> Option<(CheckType, Observed)> {
        self.roles.iter().find_map(|role| match role {
            CheckRole::Reported(kind) => Some((*kind, self.observed)),
            _ => None,
        })
    }
}
