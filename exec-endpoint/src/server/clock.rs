//! How long a connection may wait for what.
//!
//! ```text
//!  first request: header time | between requests: idle time | a header has begun (HTTP/1.1): header time | a request is under way: no bound
//! ```
//! hyper has one time for a header and for the wait before it, which are two things here. A header that begins while the request
//! before it is under way has the idle time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A connection's times.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// For the first request, and for a header that has begun.
    pub header: Duration,
    /// Between requests.
    pub idle: Duration,
}

/// A connection's clock, read by the connection and told by its bytes and requests.
#[derive(Debug, Clone)]
pub struct Clock {
    times: Times,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    served: bool,
    upgraded: bool,
    idle_since: Instant,
    header_since: Option<Instant>,
}

/// A request under way, until its response was passed on.
#[derive(Debug)]
pub struct UnderWay(Clock);

impl Clock {
    /// From now on.
    pub fn start(times: Times) -> Self {
        let state = State {
            under_way: 0,
            served: false,
            upgraded: false,
            idle_since: Instant::now(),
            header_since: None,
        };
        Self { times, state: Arc::new(Mutex::new(state)) }
    }

    /// Bytes came.
    pub fn heard(&self) {
        let mut state = self.lock();
        if state.under_way == 0 && state.header_since.is_none() {
            state.header_since = Some(Instant::now());
        }
    }

    /// A request has come.
    pub fn begin(&self) -> UnderWay {
        let mut state = self.lock();
        state.under_way += 1;
        state.served = true;
        state.header_since = None;
        UnderWay(self.clone())
    }

    /// A request's answer makes the connection a session's.
    pub fn upgrade(&self) {
        self.lock().upgraded = true;
    }

    /// Whether it is a session's.
    pub fn is_upgraded(&self) -> bool {
        self.lock().upgraded
    }

    /// When to give the connection up, if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let state = self.lock();
        if state.under_way > 0 {
            return None;
        }
        let (since, time) = match (state.header_since, state.served) {
            (Some(since), _) => (since, self.times.header),
            (None, false) => (state.idle_since, self.times.header),
            (None, true) => (state.idle_since, self.times.idle),
        };
        Some(since + time)
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.under_way -= 1;
        state.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(120);

    fn left(clock: &Clock) -> Option<Duration> {
        clock.deadline().map(|deadline| deadline - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_request_has_the_header_time_and_the_next_the_idle_time() {
        let clock = Clock::start(Times { header: HEADER, idle: IDLE });
        assert_eq!(left(&clock), Some(HEADER));
        let (one, other) = (clock.begin(), clock.begin());
        assert_eq!(left(&clock), None);
        drop(one);
        assert_eq!(left(&clock), None);
        drop(other);
        assert_eq!(left(&clock), Some(IDLE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_has_begun_has_its_time_from_its_first_byte_on() {
        let clock = Clock::start(Times { header: HEADER, idle: IDLE });
        drop(clock.begin());
        tokio::time::advance(Duration::from_secs(60)).await;
        clock.heard();
        tokio::time::advance(Duration::from_secs(9)).await;
        clock.heard();
        assert_eq!(left(&clock), Some(Duration::from_secs(1)));
        let request = clock.begin();
        clock.heard();
        drop(request);
        assert_eq!(left(&clock), Some(IDLE));
    }
}
