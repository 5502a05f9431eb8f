//! Cgroups killed by `cgroup.kill`, which must be made anew before anybody is started in them again.
//!
//! Since Linux 6.14 the kernel counts the kills of a cgroup, so as to catch who is forked during one. For a child of
//! `CLONE_INTO_CGROUP` it compares the count of the parent's cgroup with that of the child's (seen in 6.18): once killed,
//! such a cgroup kills everybody who is cloned into it. A fresh one begins at 0.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CgroupError;
use super::tree;

/// The cgroups of one manager that were killed and are still there.
#[derive(Debug, Default)]
pub(crate) struct Killed(Mutex<BTreeSet<PathBuf>>);

impl Killed {
    /// Ends every process of the cgroup and of those below it. One that is gone is no error.
    pub(crate) fn kill(&self, folder: &Path) -> Result<(), CgroupError> {
        match tree::write(&folder.join("cgroup.kill"), "1") {
            Err(error) if tree::says_gone(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => {
                self.folders().insert(folder.to_owned());
                Ok(())
            }
        }
    }

    /// Removes the cgroup if it was killed; waits for the last of its processes, for as long as a kill may take.
    pub(crate) fn remove_killed(&self, folder: &Path) -> Result<(), CgroupError> {
        if !self.folders().contains(folder) {
            return Ok(());
        }
        let deadline = Instant::now() + tree::KILL_DEADLINE;
        loop {
            match tree::remove(folder) {
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tree::pause(Duration::from_millis(1)),
                Ok(()) => {
                    self.forget(folder);
                    return Ok(());
                }
            }
        }
    }

    /// The cgroup is gone.
    pub(crate) fn forget(&self, folder: &Path) {
        self.folders().remove(folder);
    }

    fn folders(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
