//! What outcomes add up to: counts them and says so when the sum changes. No clock, no I/O.
//!
//! | role | `Pass` | `Fail` | `Fatal` | grace |
//! |---|---|---|---|---|
//! | startup | the first success, then it is over | never | `failures` in a row, then it is over | yes |
//! | readiness | `successes` in a row | `failures` in a row | never | no |
//! | liveness | the first success, and one after a failure | the first failure, and one after a success | `failures` in a row, then it is over | yes |
//! | reported | as liveness | as liveness | never | no |
//!
//! `Pass` and `Fail` alternate; which comes first is open: a check that has only ever failed says `Fail` too, so that
//! its message is seen. A liveness check that is fatal at its first failure says `Fail`, then `Fatal`.

use std::time::Duration;

use super::{Observed, Outcome, Verdict};
use crate::spec::{CheckRole, CheckSpec};

/// The count of one check's outcomes.
#[derive(Debug, Clone)]
pub struct Threshold {
    role: CheckRole,
    grace: Duration,
    failures: u32,
    successes: u32,
    failed_in_a_row: u32,
    passed_in_a_row: u32,
    trust: Trust,
    said: Option<Said>,
    value: Observed,
    next: Next,
}

/// Whether a check goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is done again.
    Again,
    /// Its last verdict is final.
    Over,
}

/// Whether the grace period can still apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// It has never passed.
    Untried,
    /// It has passed once, which ends the grace period for good.
    Proven,
}

/// The last edge that was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Pass,
    Fail,
}

impl Threshold {
    /// Nothing counted yet: the check is neither passing nor failing, which counts as not ready.
    pub fn new(spec: &CheckSpec) -> Self {
        Self {
            role: spec.role,
            grace: match spec.role {
                CheckRole::Startup | CheckRole::Liveness => spec.grace,
                CheckRole::Readiness | CheckRole::Reported(_) => Duration::ZERO,
            },
            failures: spec.failures.get(),
            successes: match spec.role {
                CheckRole::Readiness => spec.successes.get(),
                CheckRole::Startup | CheckRole::Liveness | CheckRole::Reported(_) => 1,
            },
            failed_in_a_row: 0,
            passed_in_a_row: 0,
            trust: Trust::Untried,
            said: None,
            value: Observed::Nothing,
            next: Next::Again,
        }
    }

    /// Counts an outcome that was known `since_start` after the process's start, and returns what has changed by it, in
    /// the order to be told: nothing as a rule; two verdicts where a value and its meaning changed at once.
    pub fn observe(&mut self, outcome: &Outcome, since_start: Duration) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        if self.next == Next::Over {
            return verdicts;
        }
        match outcome {
            Outcome::Unknown { .. } => {}
            Outcome::Success(observed) => {
                self.value(*observed, &mut verdicts);
                self.succeeded(&mut verdicts);
            }
            Outcome::Failure { message, observed } => {
                self.value(*observed, &mut verdicts);
                self.failed(message, since_start, &mut verdicts);
            }
        }
        verdicts
    }

    /// Whether the check is to be done again.
    pub fn next(&self) -> Next {
        self.next
    }

    fn value(&mut self, observed: Observed, verdicts: &mut Vec<Verdict>) {
        if matches!(self.role, CheckRole::Reported(_)) && self.value != observed {
            self.value = observed;
            verdicts.push(Verdict::Observed(observed));
        }
    }

    fn succeeded(&mut self, verdicts: &mut Vec<Verdict>) {
        self.trust = Trust::Proven;
        self.failed_in_a_row = 0;
        self.passed_in_a_row = self.passed_in_a_row.saturating_add(1);
        if self.passed_in_a_row < self.successes {
            return;
        }
        if self.said != Some(Said::Pass) {
            self.said = Some(Said::Pass);
            verdicts.push(Verdict::Pass);
        }
        if self.role == CheckRole::Startup {
            self.next = Next::Over;
        }
    }

    fn failed(&mut self, message: &str, since_start: Duration, verdicts: &mut Vec<Verdict>) {
        if self.trust == Trust::Untried && since_start < self.grace {
            return;
        }
        self.passed_in_a_row = 0;
        self.failed_in_a_row = self.failed_in_a_row.saturating_add(1);
        let enough = self.failed_in_a_row >= self.failures;

        let fails = match self.role {
            CheckRole::Startup => false,
            CheckRole::Readiness => enough,
            CheckRole::Liveness | CheckRole::Reported(_) => true,
        };
        if fails && self.said != Some(Said::Fail) {
            self.said = Some(Said::Fail);
            verdicts.push(Verdict::Fail { message: message.to_owned() });
        }
        if enough && matches!(self.role, CheckRole::Startup | CheckRole::Liveness) {
            self.next = Next::Over;
            verdicts.push(Verdict::Fatal { message: message.to_owned(), failures: self.failed_in_a_row });
        }
    }
}

#[cfg(test)]
mod tests;
