//! v1 controllers, killed in the cgroup2 tree (hybrid) or, where that cannot be, by the freezer.
//!
//! ```text
//!  <own cpu cgroup>/<base>/<task>       cpu.shares, cpu.cfs_quota_us    tasks <- 0
//!  <own memory cgroup>/<base>/<task>    memory.limit_in_bytes, ...      tasks <- 0
//!  <own pids cgroup>/<base>/<task>      pids.max                        tasks <- 0
//!  <own cgroup2 cgroup>/<base>/<task>   cgroup.kill                     CLONE_INTO_CGROUP
//! ```

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::EventfdFlags;

use super::freezer;
use super::killed::Killed;
use super::mounts::Controller;
use super::tree::{self, Made};
use super::{CgroupError, CgroupName, Entry, Limits, Manager, Stats};

/// A v1 hierarchy and where the executor is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// The executor's own cgroup, where it is visible.
    pub own: PathBuf,
    /// Its controllers.
    pub controllers: Vec<Controller>,
}

/// How all processes of a cgroup are killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Killing {
    /// By `cgroup.kill`; with the executor's own cgroup in the cgroup2 tree.
    Unified(PathBuf),
    /// Frozen; with the executor's own freezer cgroup.
    Freezer(PathBuf),
}

/// The cgroups of one executor in v1 hierarchies.
#[derive(Debug)]
pub struct V1 {
    /// One per hierarchy.
    bases: Vec<Base>,
    /// The base in the cgroup2 tree or the freezer hierarchy, by which cgroups are killed.
    killing: Killing,
    killed: Killed,
    cpu: Option<PathBuf>,
    cpuacct: Option<PathBuf>,
    memory: Option<PathBuf>,
    pids: Option<PathBuf>,
}

#[derive(Debug)]
struct Base {
    folder: PathBuf,
    controllers: Vec<Controller>,
}

impl V1 {
    /// The cgroups below `base` in each own cgroup. A freezer that kills must be one of the hierarchies.
    pub fn new(base: &str, hierarchies: Vec<Hierarchy>, killing: Killing) -> Self {
        let of = |controller| {
            hierarchies.iter().find(|one| one.controllers.contains(&controller)).map(|one| one.own.join(base))
        };
        Self {
            cpu: of(Controller::Cpu),
            cpuacct: of(Controller::Cpuacct),
            memory: of(Controller::Memory),
            pids: of(Controller::Pids),
            killed: Killed::default(),
            killing: match killing {
                Killing::Unified(own) => Killing::Unified(own.join(base)),
                Killing::Freezer(own) => Killing::Freezer(own.join(base)),
            },
            bases: hierarchies
                .into_iter()
                .map(|one| Base { folder: one.own.join(base), controllers: one.controllers })
                .collect(),
        }
    }

    /// The base of the hierarchy that lists processes.
    fn list(&self) -> &Path {
        let (Killing::Unified(base) | Killing::Freezer(base)) = &self.killing;
        base
    }

    fn unified(&self) -> Option<&Path> {
        match &self.killing {
            Killing::Unified(base) => Some(base),
            Killing::Freezer(_) => None,
        }
    }

    fn base_of(&self, controller: Controller) -> Option<&Path> {
        match controller {
            Controller::Cpu => self.cpu.as_deref(),
            Controller::Cpuacct => self.cpuacct.as_deref(),
            Controller::Memory => self.memory.as_deref(),
            Controller::Pids => self.pids.as_deref(),
            Controller::Cpuset | Controller::Freezer | Controller::Unified => None,
        }
    }

    fn file(&self, controller: Controller, name: &CgroupName, file: &str) -> Result<PathBuf, CgroupError> {
        let base = self.base_of(controller).ok_or_else(|| missing(file, controller))?;
        Ok(base.join(name.as_str()).join(file))
    }

    /// Makes the cgroup in every hierarchy; what it made is put into `fresh`.
    fn make(&self, name: &CgroupName, fresh: &mut Vec<PathBuf>) -> Result<Made, CgroupError> {
        let mut made = Made::Fresh;
        let v1 = self.bases.iter().map(|base| (base.folder.as_path(), base.controllers.as_slice()));
        for (base, controllers) in v1.chain(self.unified().map(|base| (base, [].as_slice()))) {
            match make_below(base, controllers, name)? {
                Made::Fresh => fresh.push(base.join(name.as_str())),
                Made::Existing => made = Made::Existing,
            }
        }
        Ok(made)
    }

    fn set(&self, name: &CgroupName, settings: &[Setting]) -> Result<(), CgroupError> {
        for setting in settings {
            if let Some(base) = self.base_of(setting.controller) {
                tree::write(&base.join(name.as_str()).join(setting.file), &setting.value)?;
            }
        }
        Ok(())
    }

    /// Kills whom something has moved out of the cgroup2 tree, but not out of v1's. (Who has a SIGKILL pending cannot
    /// fork, so a few rounds reach everybody.)
    fn kill_strays(&self, name: &CgroupName, unified: &Path) -> Result<(), CgroupError> {
        const ROUNDS: usize = 8;
        let Some(base) = self.bases.first() else {
            return Ok(());
        };
        let folder = base.folder.join(name.as_str());
        for _ in 0..ROUNDS {
            let here = tree::processes(&folder)?;
            if here.is_empty() {
                return Ok(());
            }
            let there: BTreeSet<i32> = tree::processes(unified)?.into_iter().collect();
            if here.iter().all(|pid| there.contains(pid)) {
                return Ok(());
            }
            tree::signal(&folder, |pid| !there.contains(&pid))?;
        }
        Ok(())
    }
}

impl Manager for V1 {
    fn create(&self, name: &CgroupName, limits: &Limits) -> Result<(), CgroupError> {
        for asked in settings(limits, Made::Fresh) {
            if self.base_of(asked.controller).is_none() {
                return Err(missing(asked.file, asked.controller));
            }
        }
        if let Some(unified) = self.unified() {
            self.killed.remove_killed(&unified.join(name.as_str()))?;
        }
        let mut fresh = Vec::new();
        let done = self.make(name, &mut fresh).and_then(|made| self.set(name, &settings(limits, made)));
        if done.is_err() {
            // The first error is the one to tell; what stays is removed with the task or by a sweep.
            for folder in fresh {
                let _ = tree::remove(&folder);
            }
        }
        done
    }

    fn entry(&self, name: &CgroupName) -> Result<Entry, CgroupError> {
        let into = self.unified().map(|base| tree::open_folder(&base.join(name.as_str()))).transpose()?;
        let tasks = self
            .bases
            .iter()
            .map(|base| tree::open_for_writing(&base.folder.join(name.as_str()).join("tasks")))
            .collect::<Result<_, _>>()?;
        Ok(Entry { into, tasks })
    }

    fn kill(&self, name: &CgroupName) -> Result<(), CgroupError> {
        match &self.killing {
            Killing::Unified(base) => {
                let folder = base.join(name.as_str());
                self.killed.kill(&folder)?;
                self.kill_strays(name, &folder)
            }
            Killing::Freezer(base) => freezer::kill(&base.join(name.as_str()), tree::KILL_DEADLINE),
        }
    }

    fn processes(&self, name: &CgroupName) -> Result<Vec<i32>, CgroupError> {
        tree::processes(&self.list().join(name.as_str()))
    }

    fn own_processes(&self, name: &CgroupName) -> Result<Vec<i32>, CgroupError> {
        tree::own_processes(&self.list().join(name.as_str()))
    }

    fn reclaimable(&self, name: &CgroupName) -> Result<u64, CgroupError> {
        match self.base_of(Controller::Memory) {
            Some(base) => tree::keyed(&base.join(name.as_str()).join("memory.stat"), "total_inactive_file"),
            None => Ok(0),
        }
    }

    fn stats(&self, name: &CgroupName) -> Result<Stats, CgroupError> {
        let number = |controller, file| match self.base_of(controller) {
            Some(base) => tree::number(&base.join(name.as_str()).join(file)),
            None => Ok(0),
        };
        Ok(Stats {
            cpu: Duration::from_nanos(number(Controller::Cpuacct, "cpuacct.usage")?),
            memory: number(Controller::Memory, "memory.usage_in_bytes")?,
            pids: match self.pids {
                Some(_) => number(Controller::Pids, "pids.current")?,
                None => self.processes(name)?.len() as u64,
            },
        })
    }

    fn oom_kills(&self, name: &CgroupName) -> Result<u64, CgroupError> {
        tree::keyed(&self.file(Controller::Memory, name, OOM_CONTROL)?, "oom_kill")
    }

    fn oom_waker(&self, name: &CgroupName) -> Result<OwnedFd, CgroupError> {
        let path = self.file(Controller::Memory, name, OOM_CONTROL)?;
        let control = std::fs::File::open(&path).map_err(tree::failed("open", &path))?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| tree::failed("make an eventfd for", &path)(error.into()))?;
        let register = self.file(Controller::Memory, name, "cgroup.event_control")?;
        tree::write(&register, &format!("{} {}", event.as_raw_fd(), control.as_raw_fd()))?;
        Ok(event)
    }

    fn remove(&self, name: &CgroupName) -> Result<(), CgroupError> {
        let mut done = Ok(());
        for base in self.base_folders() {
            done = done.and(tree::remove(&base.join(name.as_str())));
        }
        if let (Ok(()), Some(unified)) = (&done, self.unified()) {
            self.killed.forget(&unified.join(name.as_str()));
        }
        done
    }

    fn base_folders(&self) -> Vec<PathBuf> {
        let v1 = self.bases.iter().map(|base| base.folder.clone());
        v1.chain(self.unified().map(Path::to_owned)).collect()
    }
}

/// Makes the cgroup `name` below `base`, and the base and what is between them where it is missing.
fn make_below(base: &Path, controllers: &[Controller], name: &CgroupName) -> Result<Made, CgroupError> {
    let path = base.join(name.as_str());
    let made = match tree::make(&path) {
        Err(error) if tree::says_gone(&error) => {
            make_base(base, controllers)?;
            let mut folder = base.to_owned();
            let mut made = Made::Existing;
            for part in Path::new(name.as_str()) {
                folder.push(part);
                made = tree::make(&folder)?;
                initialise_cpuset(&folder, controllers, made)?;
            }
            return Ok(made);
        }
        other => other?,
    };
    initialise_cpuset(&path, controllers, made)?;
    Ok(made)
}

fn make_base(base: &Path, controllers: &[Controller]) -> Result<(), CgroupError> {
    let made = tree::make(base)?;
    initialise_cpuset(base, controllers, made)?;
    if controllers.contains(&Controller::Memory) {
        // Before Linux 5.11, a child's memory counts for its parent only where this is asked for.
        let path = base.join("memory.use_hierarchy");
        if tree::read(&path).is_ok_and(|text| text.trim() == "0") {
            tree::write(&path, "1")?;
        }
    }
    Ok(())
}

/// A fresh cpuset has no processors, and nobody can join it.
fn initialise_cpuset(folder: &Path, controllers: &[Controller], made: Made) -> Result<(), CgroupError> {
    if made == Made::Existing || !controllers.contains(&Controller::Cpuset) {
        return Ok(());
    }
    let Some(parent) = folder.parent() else {
        return Ok(());
    };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        tree::write(&folder.join(file), tree::read(&parent.join(file))?.trim())?;
    }
    Ok(())
}

/// A value for a file.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: Controller,
    file: &'static str,
    value: String,
}

/// What is written for these limits; where a limit is not set, a cgroup that was there before gets the default back.
/// The limit of memory with swap is left alone.
fn settings(limits: &Limits, made: Made) -> Vec<Setting> {
    let mut settings = Vec::with_capacity(6);
    let mut add = |controller, file, value: Option<u64>, default: &str| {
        let value = match (value, made) {
            (Some(value), _) => value.to_string(),
            (None, Made::Existing) => default.to_owned(),
            (None, Made::Fresh) => return,
        };
        settings.push(Setting { controller, file, value });
    };
    add(Controller::Cpu, "cpu.shares", limits.cpu_shares, "1024");
    add(Controller::Cpu, "cpu.cfs_period_us", None, "100000");
    add(Controller::Cpu, "cpu.cfs_quota_us", limits.cpu_quota, "-1");
    add(Controller::Memory, "memory.soft_limit_in_bytes", limits.memory_soft, "-1");
    add(Controller::Memory, "memory.limit_in_bytes", limits.memory_hard, "-1");
    add(Controller::Pids, "pids.max", limits.pids, "max");
    settings
}

const OOM_CONTROL: &str = "memory.oom_control";

fn missing(file: &str, controller: Controller) -> CgroupError {
    CgroupError::Unsupported(format!(
        "{file} needs the {controller} controller, which no writable cgroup hierarchy of this host has"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limits: &Limits, made: Made) -> Vec<String> {
        settings(limits, made).into_iter().map(|one| format!("{} {}", one.file, one.value)).collect()
    }

    #[test]
    fn a_fresh_cgroup_gets_only_what_is_limited() {
        assert_eq!(lines(&Limits::default(), Made::Fresh), [""; 0]);
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            memory_soft: Some(1 << 25),
            memory_hard: Some(1 << 26),
            pids: Some(100),
        };
        assert_eq!(
            lines(&limits, Made::Fresh),
            [
                "cpu.shares 512",
                "cpu.cfs_quota_us 50000",
                "memory.soft_limit_in_bytes 33554432",
                "memory.limit_in_bytes 67108864",
                "pids.max 100",
            ]
        );
    }

    #[test]
    fn a_limit_that_is_no_longer_set_is_lifted() {
        assert_eq!(
            lines(&Limits::default(), Made::Existing),
            [
                "cpu.shares 1024",
                "cpu.cfs_period_us 100000",
                "cpu.cfs_quota_us -1",
                "memory.soft_limit_in_bytes -1",
                "memory.limit_in_bytes -1",
                "pids.max max",
            ]
        );
    }

    #[test]
    fn a_limit_without_its_controller_is_an_error_before_anything_is_made() {
        let place = tempfile::tempdir().unwrap();
        let cpu = Hierarchy { own: place.path().to_owned(), controllers: vec![Controller::Cpu] };
        let manager = V1::new("kube-executor-x", vec![cpu], Killing::Unified(place.path().join("unified")));
        let name = CgroupName::task(&mesos::common::TaskId::new("a"));
        let error = manager.create(&name, &Limits { pids: Some(1), ..Limits::default() }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "pids.max needs the pids controller, which no writable cgroup hierarchy of this host has"
        );
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_cpuset_that_is_mounted_together_with_a_used_controller_is_copied_from_the_parent() {
        let place = tempfile::tempdir().unwrap();
        let child = place.path().join("a");
        std::fs::create_dir(&child).unwrap();
        for (file, value) in [("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")] {
            std::fs::write(place.path().join(file), value).unwrap();
            std::fs::write(child.join(file), "\n").unwrap();
        }
        initialise_cpuset(&child, &[Controller::Cpu], Made::Fresh).unwrap();
        assert_eq!(tree::read(&child.join("cpuset.cpus")).unwrap(), "\n");
        initialise_cpuset(&child, &[Controller::Cpu, Controller::Cpuset], Made::Fresh).unwrap();
        assert_eq!(tree::read(&child.join("cpuset.cpus")).unwrap(), "0-1");
        assert_eq!(tree::read(&child.join("cpuset.mems")).unwrap(), "0");
    }
}
