//! Signals to tasks, through pidfds only: a number may belong to somebody else by the time it is used.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::{CgroupName, Manager};

/// Sends a signal to the process of this pidfd. One that has ended is no error.
///
/// # Errors
/// A sentence with what the kernel says.
pub fn send(pidfd: &OwnedFd, signal: Signal) -> Result<(), String> {
    match pidfd_send_signal(pidfd.as_fd(), signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(format!("send signal {} through a pidfd: {errno}", signal.as_raw())),
    }
}

/// Sends SIGTERM to every process of the task's cgroup but the one of `main`, which has had it, and those of sessions.
///
/// # Errors
/// A sentence with what the kernel says; processes that end meanwhile are no error.
pub fn terminate_others(cgroups: &dyn Manager, name: &CgroupName, main: &OwnedFd) -> Result<(), String> {
    send_to_own(cgroups, name, host_pid(main), Signal::TERM)
}

/// Ends every process of the task's cgroup by SIGKILL but those of sessions. Who forks fast may outrun it.
///
/// # Errors
/// As [`terminate_others`].
pub fn kill_own(cgroups: &dyn Manager, name: &CgroupName) -> Result<(), String> {
    send_to_own(cgroups, name, None, Signal::KILL)
}

fn send_to_own(
    cgroups: &dyn Manager,
    name: &CgroupName,
    spared: Option<i32>,
    signal: Signal,
) -> Result<(), String> {
    let listed = || cgroups.own_processes(name).map_err(|error| error.to_string());
    let opened: Vec<(i32, OwnedFd)> = listed()?
        .into_iter()
        .filter(|pid| Some(*pid) != spared)
        .filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
        .collect();
    if opened.is_empty() {
        return Ok(());
    }
    // Listed again after its pidfd was opened: so the pidfd is of the process in this cgroup, not of a later one.
    let still = listed()?;
    opened.iter().filter(|(pid, _)| still.contains(pid)).try_for_each(|(_, pidfd)| send(pidfd, signal))
}

/// The id that a pidfd's process has for this process; `None` once it has been reaped.
pub fn host_pid(pidfd: &OwnedFd) -> Option<i32> {
    use std::os::fd::AsRawFd;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()?;
    (pid > 0).then_some(pid)
}
