//! Cgroups of tasks, the same for v1, hybrid and v2.
//!
//! ```text
//!  /proc/self/{mountinfo,cgroup} -> detect -> Manager (v1: controllers singly, the cgroup2 tree for killing; v2: one tree)
//!
//!  <own cgroup>/kube-executor-<container id>/<task id>                 limits, statistics, OOM verdict
//!                                           /<task id>/check-<n>       one command check, killed at its timeout
//!                                           /<task id>/exec-<n>        one session from outside, killed at its end
//! ```
//! The version is detected, never asked for. The executor itself is never in a task's cgroup.

pub mod detect;
pub(crate) mod freezer;
mod killed;
pub mod mounts;
mod name;
pub(crate) mod tree;
pub mod v1;
pub mod v2;

#[cfg(test)]
pub(crate) mod conformance;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// A failed step: what was done to which file with which value.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or folder could not be used.
    #[error("{verb} {path}: {source}", path = .path.display())]
    Io {
        /// `read`, `open`, `create`, `remove`, `write 104857600 to`, ...
        verb: String,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The host lacks something.
    #[error("{0}")]
    Unsupported(String),
    /// A file holds something else than expected.
    #[error("{path} holds {value:?}, not {expected}", path = .path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it holds.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Processes were still there when time was up.
    #[error("{count} processes of {path} still live {after:?} after SIGKILL", path = .path.display())]
    Unkillable {
        /// The cgroup.
        path: PathBuf,
        /// How many.
        count: usize,
        /// For how long it was tried.
        after: Duration,
    },
}

/// The place of a cgroup below the executor's own base: one part, or two for a check's or a session's child cgroup.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CgroupName(String);

impl CgroupName {
    /// The cgroup of a task. Characters that a folder name cannot hold (and `%`) are written as `%XX`, and a name
    /// over 200 bytes is cut and ended with a hash, so that every id has a cgroup of its own. Never `mesos`, `.` or `..`.
    pub fn task(id: &mesos::common::TaskId) -> Self {
        Self(detect::folder_name(id.as_str()))
    }

    /// A child cgroup of this one.
    pub fn child(&self, name: &str) -> Self {
        Self(format!("{}/{}", self.0, detect::folder_name(name)))
    }

    /// The path relative to the base.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CgroupName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// How the names of sessions' cgroups begin, below their task's.
pub const SESSION: &str = "exec-";

/// The limits of a task's cgroup, by Mesos's formulas already (`docs/isolators/cgroups-*.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Shares of the processor, 1024 for one; v2 turns them into a weight of 100 for one.
    pub cpu_shares: Option<u64>,
    /// Microseconds of processor time in each 100 ms; `None` for no limit.
    pub cpu_quota: Option<u64>,
    /// Bytes below which memory is not taken back.
    pub memory_soft: Option<u64>,
    /// Bytes that it cannot exceed; `None` for no limit.
    pub memory_hard: Option<u64>,
    /// Processes and threads that it cannot exceed; `None` for no limit.
    pub pids: Option<u64>,
}

/// What a cgroup uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Processor time so far.
    pub cpu: Duration,
    /// Memory in bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// What a single-threaded child needs to be in a cgroup before it executes anything.
#[derive(Debug)]
pub struct Entry {
    /// The cgroup2 folder, for clone3's `CLONE_INTO_CGROUP`.
    pub into: Option<OwnedFd>,
    /// v1 `tasks` files, open for writing: the child writes `0` to each. (Writing to `cgroup.procs` costs 6 to 14 ms.)
    pub tasks: Vec<OwnedFd>,
}

/// The cgroups of one executor. All calls are short file operations, `kill` and `remove` without `cgroup.kill` excepted.
pub trait Manager: fmt::Debug + Send + Sync {
    /// Makes the cgroup in every hierarchy and sets its limits; one that is there already gets the limits.
    fn create(&self, name: &CgroupName, limits: &Limits) -> Result<(), CgroupError>;
    /// Opens what a child needs to join.
    fn entry(&self, name: &CgroupName) -> Result<Entry, CgroupError>;
    /// Sends SIGKILL to every process of the cgroup and of those below it, so that a fork bomb does not outrun it. With
    /// `cgroup.kill` they end in a moment; with the freezer they have ended. One that is gone is no error.
    fn kill(&self, name: &CgroupName) -> Result<(), CgroupError>;
    /// The processes of the cgroup and of those below it, by their ids as the executor sees them. One that is gone has none.
    fn processes(&self, name: &CgroupName) -> Result<Vec<i32>, CgroupError>;
    /// As `processes`, without those of its sessions (child cgroups whose name begins with [`SESSION`]).
    fn own_processes(&self, name: &CgroupName) -> Result<Vec<i32>, CgroupError>;
    /// How much of its memory could be had back at once: files that nobody used lately. 0 where the host cannot tell.
    fn reclaimable(&self, name: &CgroupName) -> Result<u64, CgroupError>;
    /// What it uses now; memory is 0 where the host has no controller for it.
    fn stats(&self, name: &CgroupName) -> Result<Stats, CgroupError>;
    /// How often the kernel has killed one of its own processes (not those of cgroups below) for lack of memory.
    fn oom_kills(&self, name: &CgroupName) -> Result<u64, CgroupError>;
    /// A descriptor that becomes readable when there may have been an OOM, perhaps also when the cgroup goes. It only wakes:
    /// `oom_kills` is the verdict. It does not block; reading it into 4096 bytes until EAGAIN makes it wait anew.
    fn oom_waker(&self, name: &CgroupName) -> Result<OwnedFd, CgroupError>;
    /// Removes the cgroup and those below it; one that is gone is no error.
    ///
    /// # Errors
    /// Among others [`CgroupError::Io`] with EBUSY while processes are in it.
    fn remove(&self, name: &CgroupName) -> Result<(), CgroupError>;
    /// Every folder of the base, one per hierarchy: what a sweep kills and removes when the executor has died.
    fn base_folders(&self) -> Vec<PathBuf>;
}
