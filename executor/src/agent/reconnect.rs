//! What follows when there is no subscription. Pure: the session waits and connects.

use std::time::Duration;

use super::ShutdownCause;
use super::environment::Checkpoint;

/// Attempts are never further apart, whatever the agent allows: after its restart it waits two seconds for its executors.
/// The attempts themselves take [`super::session::SessionLimits::resubscribe`] at most.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// Nor closer, but for the first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// The pause once everything is to end.
const PAUSE_AT_THE_END: Duration = Duration::from_secs(1);
/// A subscription that lived for less is not made again at once.
const LONG_LIVED: Duration = Duration::from_secs(1);

/// What ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    /// An attempt to subscribe.
    Attempt,
    /// A subscription, by the agent or the network.
    ByAgent {
        /// How long it had lived.
        lived: Duration,
    },
    /// A subscription, by this side: it could not be read, or was silent.
    ByUs {
        /// How long it had lived.
        lived: Duration,
    },
}

/// Where the session stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) checkpoint: Checkpoint,
    /// Whether a subscription was ever taken.
    pub(super) subscribed_before: bool,
    /// Why everything is to end, if it is.
    pub(super) ending: Option<ShutdownCause>,
    /// The agent's own limit for pauses.
    pub(super) backoff_max: Duration,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Subscribe after a time in this range, drawn at random.
    Subscribe {
        /// No sooner.
        least: Duration,
        /// No later.
        most: Duration,
    },
    /// Tell that everything is to end, and stay away.
    End(ShutdownCause),
    /// Stay away.
    StayAway,
}

/// Decides it.
pub(super) fn plan(situation: Situation, what: Break) -> Plan {
    let for_good = situation.checkpoint == Checkpoint::Off && situation.subscribed_before;
    if let Some(cause) = situation.ending {
        return if for_good || cause == ShutdownCause::NotCheckpointing {
            Plan::StayAway
        } else {
            at(PAUSE_AT_THE_END)
        };
    }
    match what {
        Break::Attempt | Break::ByAgent { .. } if for_good => Plan::End(ShutdownCause::NotCheckpointing),
        Break::ByAgent { lived } | Break::ByUs { lived } if lived >= LONG_LIVED => at(Duration::ZERO),
        Break::Attempt | Break::ByAgent { .. } | Break::ByUs { .. } => Plan::Subscribe {
            least: SHORTEST_PAUSE,
            most: situation.backoff_max.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
        },
    }
}

fn at(pause: Duration) -> Plan {
    Plan::Subscribe { least: pause, most: pause }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVING: Situation = Situation {
        checkpoint: Checkpoint::On,
        subscribed_before: true,
        ending: None,
        backoff_max: Duration::from_secs(2),
    };
    const OLD: Break = Break::ByAgent { lived: Duration::from_secs(60) };
    const YOUNG: Break = Break::ByAgent { lived: Duration::from_millis(999) };

    fn most(plan: Plan) -> Duration {
        match plan {
            Plan::Subscribe { most, .. } => most,
            Plan::End(_) | Plan::StayAway => panic!("{plan:?}"),
        }
    }

    #[test]
    fn a_long_lived_subscription_is_made_again_at_once() {
        assert_eq!(most(plan(SERVING, OLD)), Duration::ZERO);
        assert_eq!(most(plan(SERVING, Break::ByUs { lived: Duration::from_secs(1) })), Duration::ZERO);
    }

    #[test]
    fn attempts_are_far_closer_than_two_seconds_and_never_a_busy_loop() {
        for what in [Break::Attempt, YOUNG] {
            assert_eq!(most(plan(SERVING, what)), LONGEST_PAUSE);
            let impatient = Situation { backoff_max: Duration::ZERO, ..SERVING };
            assert_eq!(most(plan(impatient, what)), SHORTEST_PAUSE);
            let patient = Situation { backoff_max: Duration::from_millis(100), ..SERVING };
            assert_eq!(most(plan(patient, what)), Duration::from_millis(100));
        }
    }

    #[test]
    fn without_checkpointing_the_agents_end_is_the_end() {
        let situation = Situation { checkpoint: Checkpoint::Off, ..SERVING };
        for what in [OLD, YOUNG, Break::Attempt] {
            assert_eq!(plan(situation, what), Plan::End(ShutdownCause::NotCheckpointing));
        }
    }

    #[test]
    fn without_checkpointing_a_bad_record_is_not_the_end() {
        let situation = Situation { checkpoint: Checkpoint::Off, ..SERVING };
        assert!(matches!(plan(situation, Break::ByUs { lived: Duration::ZERO }), Plan::Subscribe { .. }));
    }

    #[test]
    fn the_first_subscription_is_tried_for_with_or_without_checkpointing() {
        let situation = Situation { checkpoint: Checkpoint::Off, subscribed_before: false, ..SERVING };
        assert!(matches!(plan(situation, Break::Attempt), Plan::Subscribe { .. }));
    }

    #[test]
    fn at_the_end_there_is_no_hurry() {
        for cause in [ShutdownCause::Agent, ShutdownCause::RecoveryTimeout] {
            let situation = Situation { ending: Some(cause), ..SERVING };
            assert_eq!(plan(situation, OLD), at(PAUSE_AT_THE_END));
            let situation = Situation { checkpoint: Checkpoint::Off, ..situation };
            assert_eq!(plan(situation, OLD), Plan::StayAway);
        }
        let situation = Situation { ending: Some(ShutdownCause::NotCheckpointing), ..SERVING };
        assert_eq!(plan(situation, Break::Attempt), Plan::StayAway);
    }
}
