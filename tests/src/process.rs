//! A process that is named for all time, by its id and its start, and what tests do with it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroups;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Its id.
    pub id: i32,
    /// Clock ticks from the machine's start to its own.
    pub began: u64,
}

impl Process {
    /// The living process with this id. A zombie does not live.
    pub fn living(id: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name in parentheses may hold anything.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let began = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { id, began })
    }

    /// Whether it still lives.
    pub fn lives(self) -> bool {
        Self::living(self.id) == Some(self)
    }

    /// Sends a signal to it, and to no other process that has its id now.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let what = || format!("send {signal:?} to process {self}");
        let id = Pid::from_raw(self.id).with_context(what)?;
        let pidfd = pidfd_open(id, PidfdFlags::empty()).with_context(what)?;
        anyhow::ensure!(self.lives(), "{}: it has ended", what());
        pidfd_send_signal(pidfd, signal).with_context(what)
    }

    /// Its words.
    pub fn command_line(self) -> Vec<String> {
        words(self.id, "cmdline")
    }

    /// The environment with which it was started, `NAME=value` each.
    pub fn environment(self) -> Vec<String> {
        words(self.id, "environ")
    }

    /// The program that it runs.
    pub fn program(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.id)).ok()
    }

    /// Its cgroup in the hierarchy of this v1 controller.
    pub fn cgroup(self, controller: &str) -> Option<PathBuf> {
        let text = fs::read_to_string(format!("/proc/{}/cgroup", self.id)).ok()?;
        text.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            controllers.split(',').any(|one| one == controller).then(|| path.into())
        })
    }
}

impl fmt::Display for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.id, self.command_line().join(" "))
    }
}

/// All living processes.
pub fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::living(entry.file_name().to_str()?.parse().ok()?))
}

/// The living processes in a cgroup and all below it.
pub fn in_cgroup(cgroup: &Path) -> BTreeSet<Process> {
    cgroups::processes(cgroup).into_iter().filter_map(Process::living).collect()
}

fn words(process: i32, file: &str) -> Vec<String> {
    let text = fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
    let words = text.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_that_was_killed_does_not_live_and_is_not_signalled_again() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::living(child.id().try_into().unwrap()).unwrap();
        assert!(process.lives());
        process.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!process.lives());
        assert!(process.signal(Signal::KILL).is_err());
    }
}
