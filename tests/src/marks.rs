//! What tells a test's processes, cgroups, mounts and network namespaces from everybody else's.
//!
//! Tests run in parallel, in one process, on a machine that others use too: nothing here counts globally. A process is
//! ours when its cgroup is, or when a variable that agent and executor set for it points into a folder of the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::bail;
use nix::mount::{MntFlags, umount2};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroups;

/// What agents and executors tell a process about its folders.
const VARIABLES: [&str; 3] = ["MESOS_DIRECTORY", "MESOS_SANDBOX", "KUBE_EXECUTOR_DATA"];
/// How long ended things may take to be gone.
const LAST_BREATH: Duration = Duration::from_secs(10);
/// Between two looks at what is not gone yet.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// The marks of one test. Clones are the same marks.
#[derive(Debug, Clone, Default)]
pub struct Marks(Arc<Mutex<Set>>);

#[derive(Debug, Default)]
struct Set {
    folders: BTreeSet<PathBuf>,
    states: BTreeSet<PathBuf>,
    roots: BTreeSet<String>,
    containers: BTreeSet<String>,
    clusters: BTreeSet<String>,
    spared: BTreeSet<i32>,
}

/// What carries the marks, each with a line for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Processes by id and start time.
    pub processes: BTreeMap<(i32, u64), String>,
    /// Cgroups; of a tree that is ours only the topmost.
    pub cgroups: BTreeSet<PathBuf>,
    /// Mount points.
    pub mounts: BTreeSet<PathBuf>,
    /// Named network namespaces.
    pub namespaces: BTreeSet<PathBuf>,
    /// In state folders: the records of living executors, and sockets.
    pub files: BTreeSet<PathBuf>,
}

impl Marks {
    /// No marks.
    pub fn new() -> Self {
        Self::default()
    }

    /// A folder of the test's own: what has its sandbox there, and what is mounted there, is the test's.
    pub fn add_folder(&self, folder: &Path) {
        self.set().folders.insert(real(folder));
    }

    /// A state folder of executors: as [`Marks::add_folder`], and records and sockets in it are the test's too.
    pub fn add_state(&self, folder: &Path) {
        self.add_folder(folder);
        self.set().states.insert(real(folder));
    }

    /// An agent's root cgroup: the test's is what is below it.
    pub fn add_cgroup_root(&self, name: &str) {
        self.set().roots.insert(name.to_owned());
    }

    /// A container of an executor: the test's are cgroups of this name, and `kube-executor-` with it.
    pub fn add_container(&self, id: &str) {
        self.set().containers.insert(id.to_owned());
    }

    /// A cluster with a network of its own: the test's is the network namespace `kx-<cluster>`.
    pub fn add_cluster(&self, name: &str) {
        self.set().clusters.insert(name.to_owned());
    }

    /// A process that is the test's helper, not what it left.
    pub fn spare(&self, process: u32) {
        self.set().spared.extend(i32::try_from(process));
    }

    /// Everything that carries the marks now, this process and spared ones aside.
    pub fn find(&self) -> Found {
        let set = self.set();
        let cgroups = set.cgroups();
        Found {
            processes: set.processes(&cgroups),
            mounts: set.mounts(),
            namespaces: set.namespaces(),
            files: set.states.iter().flat_map(|state| [records(state), sockets(state)].concat()).collect(),
            cgroups,
        }
    }

    /// Ends by force all processes, and removes all cgroups, mounts, named network namespaces, records and sockets that
    /// carry the marks. Blocks until processes and cgroups are gone, for ten seconds.
    ///
    /// # Errors
    /// Some are not.
    pub fn clear(&self) -> anyhow::Result<()> {
        let until = Instant::now() + LAST_BREATH;
        loop {
            let found = self.find();
            if found.processes.is_empty() && found.cgroups.is_empty() {
                break;
            }
            if Instant::now() >= until {
                bail!("after {LAST_BREATH:?} there still are {found:?}");
            }
            let dying = self.kill(&found);
            found.cgroups.iter().for_each(|cgroup| cgroups::remove(cgroup));
            let mut dying: Vec<_> = dying.iter().map(|pidfd| PollFd::new(pidfd, PollFlags::IN)).collect();
            // Whatever it says, the next look tells.
            let _ = poll(&mut dying, Some(&PAUSE));
        }
        self.remove_roots();
        let found = self.find();
        for point in found.mounts.iter().rev().chain(&found.namespaces) {
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
        for file in found.namespaces.iter().chain(&found.files) {
            drop(fs::remove_file(file).or_else(|_| fs::remove_dir_all(file)));
        }
        Ok(())
    }

    /// Removes the agents' root cgroups, as far as they are empty: Mesos leaves them.
    pub fn remove_roots(&self) {
        let roots = self.set().roots.clone();
        for root in cgroups::named(|name| roots.contains(name)) {
            drop(fs::remove_dir(root));
        }
    }

    /// Sends SIGKILL; an id that meanwhile is another process's is left alone.
    fn kill(&self, found: &Found) -> Vec<OwnedFd> {
        found.cgroups.iter().for_each(|cgroup| cgroups::thaw(cgroup));
        let pidfd = |&(id, began): &(i32, u64)| {
            let pidfd = pidfd_open(Pid::from_raw(id)?, PidfdFlags::empty()).ok()?;
            (start_time(id) == Some(began)).then_some(pidfd)
        };
        let dying: Vec<OwnedFd> = found.processes.keys().filter_map(pidfd).collect();
        for pidfd in &dying {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        dying
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Set {
    fn cgroups(&self) -> BTreeSet<PathBuf> {
        let of_container = |name: &str| {
            let id = name.strip_prefix("kube-executor-").unwrap_or(name);
            self.containers.contains(id)
        };
        let top = cgroups::named(|name| self.roots.contains(name) || of_container(name));
        let is_root = |cgroup: &PathBuf| {
            cgroup.file_name().and_then(|name| name.to_str()).is_some_and(|name| self.roots.contains(name))
        };
        let (roots, mut all) = top.into_iter().partition::<BTreeSet<_>, _>(is_root);
        all.extend(roots.iter().flat_map(|root| cgroups::children(root)));
        all
    }

    fn processes(&self, cgroups: &BTreeSet<PathBuf>) -> BTreeMap<(i32, u64), String> {
        let mut ids: BTreeSet<i32> = cgroups.iter().flat_map(|cgroup| cgroups::processes(cgroup)).collect();
        ids.extend(all_processes().filter(|&id| self.has_folder(id)));
        let others = |id: &i32| !self.spared.contains(id) && u32::try_from(*id) != Ok(std::process::id());
        let describe = |id: i32| Some(((id, start_time(id)?), describe(id)));
        ids.into_iter().filter(others).filter_map(describe).collect()
    }

    fn has_folder(&self, process: i32) -> bool {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).filter_map(|one| std::str::from_utf8(one).ok()).any(|one| {
            one.split_once('=')
                .is_some_and(|(name, value)| VARIABLES.contains(&name) && self.is_ours(Path::new(value)))
        })
    }

    fn is_ours(&self, path: &Path) -> bool {
        self.folders.iter().any(|folder| path.starts_with(folder))
    }

    fn mounts(&self) -> BTreeSet<PathBuf> {
        cgroups::mounts().into_iter().map(|mount| mount.point).filter(|point| self.is_ours(point)).collect()
    }

    fn namespaces(&self) -> BTreeSet<PathBuf> {
        let path = |cluster: &String| Path::new("/run/netns").join(format!("kx-{cluster}"));
        self.clusters.iter().map(path).filter(|path| path.exists()).collect()
    }
}

/// Paths in other processes' words are without links, so ours must be.
fn real(folder: &Path) -> PathBuf {
    folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
}

fn all_processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Clock ticks from the machine's start to the process's; with the id it names a process for all time.
fn start_time(process: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may hold anything; the start time is the 22nd field, the 20th behind the name.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn describe(process: i32) -> String {
    let read = |file: &str| fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
    let command =
        read("cmdline").split(|&byte| byte == 0).map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    let name = String::from_utf8_lossy(&read("comm")).trim().to_owned();
    format!("{process} {}", if command.trim().is_empty() { name } else { command.trim().to_owned() })
}

/// An executor records itself in a folder of its own, which goes with it.
fn records(state: &Path) -> Vec<PathBuf> {
    cgroups::children(&state.join("run"))
}

fn sockets(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_socket() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}
