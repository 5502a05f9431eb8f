//! What systemd is told (`sd_notify(3)`): ready, alive, how it goes, ending. Nothing, where there is no systemd.

use std::time::Duration;

use sd_notify::NotifyState;

/// Between words to systemd, unless the watchdog wants them sooner.
const EVERY: Duration = Duration::from_secs(2);

/// Tells systemd.
#[derive(Debug)]
pub struct Notifier {
    watchdog: Option<Duration>,
    status: String,
}

impl Notifier {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), status: String::new() }
    }

    /// How often [`Self::alive`] is to be called.
    pub fn every(&self) -> Duration {
        interval(self.watchdog)
    }

    /// Requests are served.
    pub fn ready(&mut self, status: String) {
        tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
        self.status = status;
    }

    /// The loop runs, and how it goes.
    pub fn alive(&mut self, status: String) {
        if self.watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        if self.status != status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// It ends.
    pub fn stopping(&mut self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("ending: requests and sessions finish")]);
    }
}

fn interval(watchdog: Option<Duration>) -> Duration {
    // sd_watchdog_enabled(3): half of it.
    watchdog.map_or(EVERY, |watchdog| (watchdog / 2).min(EVERY)).max(Duration::from_millis(10))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_fed_at_least_twice_in_its_time() {
        assert_eq!(interval(None), EVERY);
        assert_eq!(interval(Some(Duration::from_secs(30))), EVERY);
        assert_eq!(interval(Some(Duration::from_secs(1))), Duration::from_millis(500));
        assert!(!interval(Some(Duration::ZERO)).is_zero());
    }
}
