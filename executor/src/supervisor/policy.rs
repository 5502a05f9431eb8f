//! The numbers behind decisions: restart delays, grace periods, texts of exits. All pure.

use std::time::Duration;

use crate::spec::{Backoff, RestartPolicy};

/// What follows the end of a process that nobody asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterExit {
    /// The task has ended.
    End,
    /// It is started again after this wait.
    Restart(Duration),
    /// It has been restarted too often in a row.
    GiveUp(u32),
}

/// How a process ended, as far as restarts care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Exit status 0.
    Success,
    /// Anything else.
    Failure,
}

/// Decides whether a task is restarted in place. `in_a_row` counts the restarts since it was last stable; `jitter` is
/// a random number from 0 to 1.
pub fn after_exit(policy: RestartPolicy, outcome: Outcome, in_a_row: u32, jitter: f64) -> AfterExit {
    let backoff = match (policy, outcome) {
        (RestartPolicy::Never, _) | (RestartPolicy::OnFailure(_), Outcome::Success) => return AfterExit::End,
        (RestartPolicy::OnFailure(backoff), Outcome::Failure) | (RestartPolicy::Always(backoff), _) => {
            backoff
        }
    };
    match backoff.limit {
        Some(limit) if in_a_row >= limit => AfterExit::GiveUp(in_a_row),
        _ => AfterExit::Restart(restart_delay(&backoff, in_a_row, jitter)),
    }
}

/// The wait before restart number `in_a_row` + 1: doubled each time up to the longest, then shortened by up to a quarter
/// so that tasks that failed together do not come back together.
pub fn restart_delay(backoff: &Backoff, in_a_row: u32, jitter: f64) -> Duration {
    let doubled = backoff.delay.saturating_mul(1_u32.checked_shl(in_a_row).unwrap_or(u32::MAX));
    doubled.min(backoff.max_delay).mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
}

/// The part of the time left that a task may take to end on shutdown, when the tasks it depends on (`tiers` of them one
/// behind the other) still have to end after it.
pub fn shutdown_grace(own: Duration, left: Duration, tiers: u32) -> Duration {
    own.min(left / (tiers + 1))
}

/// What is kept back of the shutdown grace period for the last updates and their acknowledgements.
pub fn shutdown_budget(grace_period: Duration) -> Duration {
    grace_period - (grace_period / 5).min(Duration::from_secs(1))
}

/// When, counted from the word to shut down, the last updates are given up: soon enough to tidy up before the agent ends
/// the executor by force. An agent whose framework is being removed acknowledges nothing, so this is waited for in full.
pub fn last_updates(grace_period: Duration) -> Duration {
    grace_period - (grace_period / 10).min(Duration::from_millis(500))
}

/// The text that strsignal(3) has for a signal; Mesos's own executors put it into messages.
pub fn signal_text(number: i32) -> String {
    let text = match number {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        _ => return format!("Unknown signal {number}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_updates_are_given_up_after_the_tasks_had_their_time_and_before_the_agent_acts() {
        for grace in [0, 1, 500, 5_000, 60_000].map(Duration::from_millis) {
            let (tasks, updates) = (shutdown_budget(grace), last_updates(grace));
            assert!(tasks <= updates && updates <= grace, "{grace:?}");
        }
        assert_eq!(last_updates(Duration::from_secs(5)), Duration::from_millis(4500));
    }

    const BACKOFF: Backoff = Backoff {
        delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(60),
        stable: Duration::from_secs(600),
        limit: Some(3),
    };

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: Vec<u64> =
            [0, 1, 2, 5, 6, 31, 32, 4000].map(|n| restart_delay(&BACKOFF, n, 0.0).as_secs()).to_vec();
        assert_eq!(waits, [1, 2, 4, 32, 60, 60, 60, 60]);
    }

    #[test]
    fn a_success_is_restarted_by_always_only() {
        assert_eq!(after_exit(RestartPolicy::Never, Outcome::Failure, 0, 0.0), AfterExit::End);
        assert_eq!(after_exit(RestartPolicy::OnFailure(BACKOFF), Outcome::Success, 0, 0.0), AfterExit::End);
        assert_eq!(
            after_exit(RestartPolicy::Always(BACKOFF), Outcome::Success, 0, 0.0),
            AfterExit::Restart(Duration::from_secs(1))
        );
    }

    #[test]
    fn the_limit_counts_restarts_in_a_row() {
        let policy = RestartPolicy::OnFailure(BACKOFF);
        assert!(matches!(after_exit(policy, Outcome::Failure, 2, 0.5), AfterExit::Restart(_)));
        assert_eq!(after_exit(policy, Outcome::Failure, 3, 0.5), AfterExit::GiveUp(3));
    }

    #[test]
    fn every_tier_of_dependencies_gets_its_part_of_the_time_left() {
        let (own, left) = (Duration::from_secs(30), Duration::from_secs(3));
        assert_eq!(shutdown_grace(own, left, 2), Duration::from_secs(1));
        assert_eq!(shutdown_grace(Duration::from_millis(10), left, 0), Duration::from_millis(10));
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_and_by_a_quarter_at_most(in_a_row in 0_u32..100, jitter in -1.0..2.0_f64) {
            let full = restart_delay(&BACKOFF, in_a_row, 0.0);
            let delay = restart_delay(&BACKOFF, in_a_row, jitter);
            prop_assert!(delay <= full && delay >= full.mul_f64(0.74));
        }
    }
}
