use std::num::NonZeroU32;

use mesos::common::CheckType;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::spec::{Command, Probe};

const PASS: Verdict = Verdict::Pass;

fn spec(role: CheckRole, grace: u64, failures: u32, successes: u32) -> CheckSpec {
    CheckSpec {
        role,
        probe: Probe::Command { command: Command::shell("true"), environment: Vec::new() },
        delay: Duration::ZERO,
        interval: Duration::from_secs(1),
        timeout: None,
        grace: Duration::from_secs(grace),
        failures: NonZeroU32::new(failures).expect("not zero"),
        successes: NonZeroU32::new(successes).expect("not zero"),
    }
}

fn good() -> Outcome {
    Outcome::Success(Observed::ExitCode(0))
}

fn bad() -> Outcome {
    Outcome::Failure { message: "no".to_owned(), observed: Observed::ExitCode(1) }
}

fn unknown() -> Outcome {
    Outcome::Unknown { message: "no process".to_owned() }
}

fn timed_out() -> Outcome {
    Outcome::Failure { message: "no".to_owned(), observed: Observed::Nothing }
}

fn fail() -> Verdict {
    Verdict::Fail { message: "no".to_owned() }
}

fn fatal(failures: u32) -> Verdict {
    Verdict::Fatal { message: "no".to_owned(), failures }
}

/// Observes one outcome a second from second 0 on.
fn run(spec: &CheckSpec, outcomes: &[Outcome]) -> Vec<Vec<Verdict>> {
    let mut threshold = Threshold::new(spec);
    let at = |second: usize| Duration::from_secs(u64::try_from(second).expect("short"));
    outcomes.iter().enumerate().map(|(i, outcome)| threshold.observe(outcome, at(i))).collect()
}

#[test]
fn liveness_passes_fails_at_once_and_is_fatal_after_failures_in_a_row() {
    let spec = spec(CheckRole::Liveness, 0, 3, 1);
    let outcomes = [good(), good(), bad(), bad(), good(), bad(), bad(), unknown(), bad(), bad(), good()];
    let expected = [
        vec![PASS],
        vec![],
        vec![fail()],
        vec![],
        vec![PASS],
        vec![fail()],
        vec![],
        vec![],
        vec![fatal(3)],
        vec![],
        vec![],
    ];
    assert_eq!(run(&spec, &outcomes), expected);
}

#[test]
fn liveness_with_one_failure_allowed_says_fail_then_fatal() {
    assert_eq!(run(&spec(CheckRole::Liveness, 0, 1, 1), &[bad()]), [vec![fail(), fatal(1)]]);
}

#[test]
fn failures_in_the_grace_period_do_not_count() {
    let outcomes = [bad(), bad(), bad(), bad()];
    let expected = [vec![], vec![], vec![fail()], vec![fatal(2)]];
    assert_eq!(run(&spec(CheckRole::Liveness, 2, 2, 1), &outcomes), expected);
}

#[test]
fn the_first_success_ends_the_grace_period() {
    let outcomes = [bad(), good(), bad(), bad()];
    let expected = [vec![], vec![PASS], vec![fail()], vec![fatal(2)]];
    assert_eq!(run(&spec(CheckRole::Liveness, 100, 2, 1), &outcomes), expected);
}

#[test]
fn readiness_needs_successes_in_a_row_and_loses_it_after_failures_in_a_row() {
    let spec = spec(CheckRole::Readiness, 100, 2, 2);
    let outcomes = [good(), bad(), good(), good(), bad(), good(), bad(), bad(), bad(), good(), good()];
    let expected = [
        vec![],
        vec![],
        vec![],
        vec![PASS],
        vec![],
        vec![],
        vec![],
        vec![fail()],
        vec![],
        vec![],
        vec![PASS],
    ];
    assert_eq!(run(&spec, &outcomes), expected);
}

#[test]
fn readiness_that_never_was_says_why_once() {
    let expected = [vec![], vec![fail()], vec![], vec![]];
    assert_eq!(run(&spec(CheckRole::Readiness, 0, 2, 1), &[bad(), bad(), bad(), bad()]), expected);
}

#[test]
fn startup_passes_once_and_is_over() {
    let mut threshold = Threshold::new(&spec(CheckRole::Startup, 0, 3, 7));
    assert_eq!(threshold.observe(&bad(), Duration::ZERO), []);
    assert_eq!(threshold.next(), Next::Again);
    assert_eq!(threshold.observe(&good(), Duration::ZERO), [PASS]);
    assert_eq!(threshold.next(), Next::Over);
    assert_eq!(threshold.observe(&bad(), Duration::ZERO), []);
}

#[test]
fn startup_is_fatal_after_failures_in_a_row_outside_of_the_grace_period() {
    let expected = [vec![], vec![], vec![fatal(2)], vec![]];
    assert_eq!(run(&spec(CheckRole::Startup, 1, 2, 1), &[bad(), bad(), bad(), good()]), expected);
}

#[test]
fn a_reported_value_is_told_when_it_changes_and_what_it_means_with_it() {
    let spec = spec(CheckRole::Reported(CheckType::Command), 100, 5, 5);
    let other = Outcome::Failure { message: "two".to_owned(), observed: Observed::ExitCode(2) };
    let outcomes = [timed_out(), bad(), bad(), other, good(), unknown(), good(), timed_out()];
    let seen = |code| Verdict::Observed(Observed::ExitCode(code));
    let expected = [
        vec![fail()],
        vec![seen(1)],
        vec![],
        vec![seen(2)],
        vec![seen(0), PASS],
        vec![],
        vec![],
        vec![Verdict::Observed(Observed::Nothing), fail()],
    ];
    assert_eq!(run(&spec, &outcomes), expected);
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(good()), Just(bad()), Just(bad()), Just(timed_out()), Just(unknown())]
}

fn role() -> impl Strategy<Value = CheckRole> {
    prop_oneof![
        Just(CheckRole::Startup),
        Just(CheckRole::Readiness),
        Just(CheckRole::Liveness),
        Just(CheckRole::Reported(CheckType::Command)),
    ]
}

/// The failures in a row at the end of `outcomes`, by looking back: those that came in the grace period, before any
/// success, left out.
fn failures_at_the_end(outcomes: &[Outcome], grace: usize) -> usize {
    let first_success =
        outcomes.iter().position(|it| matches!(it, Outcome::Success(_))).unwrap_or(outcomes.len());
    outcomes
        .iter()
        .enumerate()
        .rev()
        .filter(|(_, it)| !matches!(it, Outcome::Unknown { .. }))
        .take_while(|(_, it)| matches!(it, Outcome::Failure { .. }))
        .filter(|(i, _)| *i >= grace || *i > first_success)
        .count()
}

proptest! {
    #[test]
    fn verdicts_keep_their_promises(
        role in role(),
        grace in 0u64..6,
        failures in 1u32..5,
        successes in 1u32..4,
        outcomes in vec(outcome(), 0..40),
    ) {
        let spec = spec(role, grace, failures, successes);
        let told = run(&spec, &outcomes);
        let flat: Vec<Verdict> = told.iter().flatten().cloned().collect();

        let edges: Vec<&Verdict> =
            flat.iter().filter(|it| matches!(it, Verdict::Pass | Verdict::Fail { .. })).collect();
        prop_assert!(edges.windows(2).all(|pair| pair[0] != pair[1]), "the same edge twice: {edges:?}");

        let values: Vec<&Verdict> = flat.iter().filter(|it| matches!(it, Verdict::Observed(_))).collect();
        prop_assert!(values.windows(2).all(|pair| pair[0] != pair[1]), "the same value twice: {values:?}");

        let fatal = flat.iter().position(|it| matches!(it, Verdict::Fatal { .. }));
        let may_be_fatal = matches!(role, CheckRole::Startup | CheckRole::Liveness);
        prop_assert!(fatal.is_none_or(|at| may_be_fatal && at == flat.len() - 1));

        let counted_grace = if may_be_fatal { usize::try_from(grace).expect("small") } else { 0 };
        let startup_passed = outcomes.iter().position(|it| matches!(it, Outcome::Success(_)));
        let first_fatal = (1..=outcomes.len())
            .find(|n| failures_at_the_end(&outcomes[..*n], counted_grace) >= failures as usize)
            .filter(|n| may_be_fatal && !(role == CheckRole::Startup && startup_passed.is_some_and(|at| at < *n)));
        let told_fatal = told
            .iter()
            .position(|it| it.iter().any(|verdict| matches!(verdict, Verdict::Fatal { .. })))
            .map(|at| at + 1);
        prop_assert_eq!(told_fatal, first_fatal);

        for (i, verdicts) in told.iter().enumerate() {
            for verdict in verdicts {
                match (verdict, &outcomes[i]) {
                    (Verdict::Pass, Outcome::Success(_))
                    | (Verdict::Fail { .. } | Verdict::Fatal { .. }, Outcome::Failure { .. }) => {}
                    (Verdict::Observed(value), Outcome::Success(seen) | Outcome::Failure { observed: seen, .. }) => {
                        prop_assert_eq!(value, seen);
                    }
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }

    #[test]
    fn unknown_outcomes_change_nothing(role in role(), grace in 0u64..1, outcomes in vec(outcome(), 0..30)) {
        let spec = spec(role, grace, 2, 2);
        let known: Vec<Outcome> =
            outcomes.iter().filter(|it| !matches!(it, Outcome::Unknown { .. })).cloned().collect();
        let all: Vec<Verdict> = run(&spec, &outcomes).into_iter().flatten().collect();
        let without: Vec<Verdict> = run(&spec, &known).into_iter().flatten().collect();
        prop_assert_eq!(all, without);
    }
}
