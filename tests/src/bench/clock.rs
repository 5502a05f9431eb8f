//! Clocks that can be compared between processes: the monotonic one, and the CPU time of another process.

use std::io;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// CLOCK_MONOTONIC, the same in all processes of the machine.
pub fn now() -> Duration {
    read(ClockId::CLOCK_MONOTONIC).unwrap_or_default()
}

/// An `Instant` on the scale of [`now`].
pub fn of(instant: Instant) -> Duration {
    static ANCHOR: OnceLock<(Instant, Duration)> = OnceLock::new();
    let &(anchor, at) = ANCHOR.get_or_init(|| (Instant::now(), now()));
    match instant.checked_duration_since(anchor) {
        Some(later) => at + later,
        None => at.saturating_sub(anchor.duration_since(instant)),
    }
}

/// The CPU time, user and system, of all threads that a process ever had.
///
/// # Errors
/// There is no such process.
pub fn cpu_of(process: i32) -> io::Result<Duration> {
    Ok(clock_getcpuclockid(Pid::from_raw(process)).and_then(read)?)
}

fn read(clock: ClockId) -> nix::Result<Duration> {
    clock_gettime(clock).map(TimeSpec::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_and_the_clock_tell_the_same_time() {
        let before = now();
        let at = of(Instant::now());
        let after = now();
        // The anchor is made of two readings, some nanoseconds apart.
        let slack = Duration::from_millis(5);
        assert!(before <= at + slack && at <= after + slack, "{before:?} {at:?} {after:?}");
    }

    #[test]
    fn the_cpu_time_of_a_process_grows_with_its_work() {
        let own = i32::try_from(std::process::id()).unwrap();
        let before = cpu_of(own).unwrap();
        let until = Instant::now() + Duration::from_millis(5);
        while Instant::now() < until {}
        assert!(cpu_of(own).unwrap() > before);
        // More than the kernel ever gives.
        assert!(cpu_of(1 << 24).is_err());
    }
}
