//! How long a session may be quiet, and how long it may last.

use std::time::Duration;

/// The clocks of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two pings.
    pub ping_interval: Duration,
    /// Without any byte from the client: it is dead.
    pub dead_after: Duration,
    /// Without input or output: it is idle. Never when unset.
    pub idle: Option<Duration>,
    /// The longest session. No end when unset.
    pub age: Option<Duration>,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(15),
            dead_after: Duration::from_secs(45),
            idle: None,
            age: None,
        }
    }
}
