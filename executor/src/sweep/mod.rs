//! What dead executors left, found by their records and removed.
//!
//! ```text
//!  <state>/run/<container id>/lock          locked by the executor for its life; the kernel unlocks it at its death
//!                            /record.json   what it has made outside its own processes
//!  <state>/run/sweep.lock                   one sweep at a time
//! ```
//! An executor first takes a [`Lease`] and says in it what it is about to make; then it makes it. A sweep takes the lock of
//! each folder that nobody holds, and removes what is recorded there and nothing else.

mod clear;
mod lease;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cgroup::{CgroupError, tree};

pub use clear::{Cleared, Removed, clear};
pub use lease::Lease;

/// What one executor has made, or is about to make, that outlives its process.
///
/// What a reader does not know it ignores, and what is missing is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its executor id.
    pub executor_id: String,
    /// Its framework's id.
    pub framework_id: String,
    /// The name of its pod instance.
    pub pod: String,
    /// Its base cgroup in every hierarchy; all below them goes with them. Their names begin with `kube-executor-`.
    pub cgroup_folders: Vec<PathBuf>,
    /// Mount points, in the order of mounting.
    pub mounts: Vec<PathBuf>,
    /// Its place on its cluster's bridge.
    pub network: Option<BridgeRecord>,
    /// Sockets and other files.
    pub sockets: Vec<PathBuf>,
    /// Folders that go with all that is in them.
    pub folders: Vec<PathBuf>,
    /// Folders that others use too: they go when nothing is in them.
    pub shared_folders: Vec<PathBuf>,
}

impl Record {
    fn is_empty(&self) -> bool {
        let Self { cgroup_folders, mounts, network, sockets, folders, shared_folders, .. } = self;
        network.is_none()
            && [cgroup_folders, mounts, sockets, folders, shared_folders].iter().all(|paths| paths.is_empty())
    }
}

/// A pod instance's place on its cluster's bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BridgeRecord {
    /// The cluster.
    pub cluster: String,
    /// What its link there is named after.
    pub label: String,
}

/// What could not be done.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// With a file, folder or mount.
    #[error("{verb} {path}: {source}", path = .path.display())]
    Io {
        /// `read`, `remove`, `unmount`, ...
        verb: &'static str,
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// With a cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// It is recorded, but it may not or must not be touched.
    #[error("leave {path} alone: {why}", path = .path.display())]
    Refused {
        /// What.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// With the network.
    #[error("leave the network of cluster {cluster}: {why}")]
    Network {
        /// The cluster.
        cluster: String,
        /// Why.
        why: String,
    },
    /// The record cannot be understood, so that nothing can be removed.
    #[error("read {path}: {source}", path = .path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// Somebody else holds the lock.
    #[error("lock {path}: another process has held it for {after:?}", path = .path.display())]
    Held {
        /// Its file.
        path: PathBuf,
        /// For how long it was tried.
        after: Duration,
    },
}

/// What a sweep found and did.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// The dead executors that were found.
    pub dead: Vec<DeadExecutor>,
    /// What went wrong besides.
    pub errors: Vec<SweepError>,
}

/// A dead executor and what became of its leftovers.
#[derive(Debug)]
pub struct DeadExecutor {
    /// The name of its folder: its container id.
    pub container_id: String,
    /// What it had recorded; empty where there was no record, or none that can be read.
    pub record: Record,
    /// What was removed, and what could not be; that is tried again by the next sweep.
    pub cleared: Cleared,
}

impl SweepReport {
    /// Whether there was nothing to do.
    pub fn is_empty(&self) -> bool {
        self.dead.is_empty() && self.errors.is_empty()
    }

    /// Whether everything found could be removed.
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty() && self.dead.iter().all(|dead| dead.cleared.errors.is_empty())
    }
}

impl fmt::Display for SweepReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(out, "no dead executors");
        }
        for dead in &self.dead {
            let DeadExecutor { container_id, record, cleared } = dead;
            if record.executor_id.is_empty() {
                writeln!(out, "dead executor in container {container_id}:")?;
            } else {
                let Record { executor_id, framework_id, pod, .. } = record;
                writeln!(
                    out,
                    "dead executor {executor_id} of framework {framework_id} (pod {pod}, container {container_id}):"
                )?;
            }
            if cleared.killed > 0 {
                writeln!(out, "  killed {} processes", cleared.killed)?;
            }
            for removed in &cleared.removed {
                writeln!(out, "  {removed}")?;
            }
            for error in &cleared.errors {
                writeln!(out, "  failed: {error}")?;
            }
        }
        for error in &self.errors {
            writeln!(out, "failed: {error}")?;
        }
        Ok(())
    }
}

/// Removes what dead executors left in this state folder. `network` removes a place on a bridge.
///
/// Blocks: at worst, for ten seconds per dead executor whose processes cannot be killed. Nothing stops it; what it could not do
/// is in the report, and stays recorded for the next sweep.
pub fn sweep(state: &Path, mut network: impl FnMut(&BridgeRecord) -> Result<(), String>) -> SweepReport {
    let mut report = SweepReport::default();
    let run = state.join("run");
    if let Err(error) = sweep_all(&run, &mut report, &mut network) {
        report.errors.push(error);
    }
    report
}

fn sweep_all(
    run: &Path,
    report: &mut SweepReport,
    network: &mut dyn FnMut(&BridgeRecord) -> Result<(), String>,
) -> Result<(), SweepError> {
    let mut names: Vec<String> = match fs::read_dir(run) {
        Ok(entries) => entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("list", run)(error)),
    };
    if names.is_empty() {
        return Ok(());
    }
    names.sort();
    // A new executor must not go on while another sweep is still removing what its predecessor had in the same places.
    let _only = alone(&run.join("sweep.lock"))?;
    for name in names {
        match sweep_one(&run.join(&name), network) {
            Ok(Some((record, cleared))) => {
                report.dead.push(DeadExecutor { container_id: name, record, cleared });
            }
            Ok(None) => {}
            Err(error) => report.errors.push(error),
        }
    }
    Ok(())
}

/// How long a sweep waits for another one.
const SWEEP_PATIENCE: Duration = Duration::from_secs(30);

fn alone(path: &Path) -> Result<File, SweepError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(failed("open", path))?;
    let deadline = Instant::now() + SWEEP_PATIENCE;
    while !lease::lock(&file, path)? {
        if Instant::now() >= deadline {
            return Err(SweepError::Held { path: path.to_owned(), after: SWEEP_PATIENCE });
        }
        tree::pause(Duration::from_millis(10));
    }
    Ok(file)
}

/// Clears one folder of `run`, if nobody holds it.
fn sweep_one(
    folder: &Path,
    network: &mut dyn FnMut(&BridgeRecord) -> Result<(), String>,
) -> Result<Option<(Record, Cleared)>, SweepError> {
    let Some(held) = lease::take_over(folder)? else {
        return Ok(None);
    };
    let (record, unreadable) = match held.read() {
        Ok(record) => (record, None),
        Err(error) => (Record::default(), Some(error)),
    };
    let mut cleared = clear(&record, network);
    cleared.errors.extend(unreadable);
    let kept = if cleared.left.is_empty() { held.release() } else { held.update(&cleared.left) };
    cleared.errors.extend(kept.err());
    Ok(Some((record, cleared)))
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SweepError {
    let path = path.to_owned();
    move |source| SweepError::Io { verb, path, source }
}
