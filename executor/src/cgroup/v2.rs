//! Pure v2: one tree, one folder per task.
//!
//! ```text
//!  <parent>/cgroup.subtree_control              +cpu +memory +pids
//!  <parent>/<base>/cgroup.subtree_control       +cpu +memory +pids
//!  <parent>/<base>/<task>                       cpu.weight, memory.max, cgroup.kill; CLONE_INTO_CGROUP
//! ```
//! A task's cgroup holds processes, so those below it have no controllers: a check's counts for its task's limits.

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::inotify::{CreateFlags, WatchFlags};

use super::detect::Nesting;
use super::killed::Killed;
use super::mounts::Controller;
use super::tree::{self, Made};
use super::{CgroupError, CgroupName, Entry, Limits, Manager, Stats};

/// The cgroups of one executor in the unified tree.
#[derive(Debug)]
pub struct V2 {
    base: PathBuf,
    /// The parent of the base, if the executor itself is in it and it is not the root: controllers can be enabled there
    /// only when nobody is.
    crowded: Option<PathBuf>,
    /// The controllers that could not be enabled; unknown until the base is made.
    prepared: Mutex<Option<Vec<Controller>>>,
    killed: Killed,
}

/// What tasks need.
const CONTROLLERS: [Controller; 3] = [Controller::Cpu, Controller::Memory, Controller::Pids];

impl V2 {
    /// The cgroups below `base` in the tree mounted at `root`, or in the cgroup `own` (see [`Nesting`]).
    pub fn new(base: &str, root: &Path, own: &Path, nesting: Nesting) -> Self {
        let parent = match nesting {
            Nesting::Allowed => own,
            Nesting::Avoid => root,
        };
        // Only the true root has no type; a container's root is a cgroup like others.
        let true_root = parent == root && !parent.join("cgroup.type").exists();
        Self {
            base: parent.join(base),
            crowded: (parent == own && !true_root).then(|| parent.to_owned()),
            prepared: Mutex::default(),
            killed: Killed::default(),
        }
    }

    fn folder(&self, name: &CgroupName) -> PathBuf {
        self.base.join(name.as_str())
    }

    /// Makes the base and enables the controllers, once.
    fn prepare(&self, settings: &[Setting]) -> Result<(), CgroupError> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = match prepared.as_mut() {
            Some(missing) => missing,
            None => {
                tree::make(&self.base)?;
                let failures = CONTROLLERS.into_iter().filter_map(|one| self.enable(one).err().map(|_| one));
                prepared.insert(failures.collect())
            }
        };
        for setting in settings {
            if !missing.contains(&setting.controller) {
                continue;
            }
            // What stood in the way may be gone by now.
            self.enable(setting.controller).map_err(|why| {
                CgroupError::Unsupported(format!(
                    "{} needs the {} controller, which cannot be enabled: {why}",
                    setting.file, setting.controller
                ))
            })?;
            missing.retain(|one| *one != setting.controller);
        }
        Ok(())
    }

    /// Makes a cgroup whose parent is missing, the base with its controllers included.
    fn make_with_parents(&self, folder: &Path, settings: &[Setting]) -> Result<Made, CgroupError> {
        if !self.base.exists() {
            *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = None;
            self.prepare(settings)?;
        }
        if let Some(parent) = folder.parent() {
            tree::make(parent)?;
        }
        tree::make(folder)
    }

    /// Enables one controller for the base, and in the base for its children.
    fn enable(&self, controller: Controller) -> Result<(), CgroupError> {
        let Some(parent) = self.base.parent() else {
            return Ok(());
        };
        let name = controller.to_string();
        for folder in [parent, &self.base] {
            let control = folder.join("cgroup.subtree_control");
            if tree::read(&control)?.split_whitespace().any(|enabled| enabled == name) {
                continue;
            }
            let available = folder.join("cgroup.controllers");
            let value = tree::read(&available)?;
            if !value.split_whitespace().any(|one| one == name) {
                return Err(CgroupError::Content {
                    path: available,
                    value: value.trim().to_owned(),
                    expected: "a list with that controller",
                });
            }
            if self.crowded.as_deref() == Some(folder) {
                self.make_room(folder)?;
            }
            tree::write(&control, &format!("+{name}"))?;
        }
        Ok(())
    }

    /// Moves every process of the folder itself, the executor among them, to its leaf.
    fn make_room(&self, folder: &Path) -> Result<(), CgroupError> {
        // Some may fork meanwhile; if they outrun this, the kernel says so when the controller is enabled.
        const ROUNDS: usize = 16;
        let leaf = folder.join("executor");
        let members = leaf.join("cgroup.procs");
        for _ in 0..ROUNDS {
            let text = tree::read(&folder.join("cgroup.procs"))?;
            if text.trim().is_empty() {
                return Ok(());
            }
            tree::make(&leaf)?;
            for pid in text.lines() {
                match tree::write(&members, pid) {
                    Err(CgroupError::Io { source, .. }) if ended(&source) => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    /// A file of the memory controller that counts events, of this cgroup alone where the kernel has that.
    fn events(&self, name: &CgroupName) -> Result<PathBuf, CgroupError> {
        let folder = self.folder(name);
        ["memory.events.local", "memory.events"]
            .map(|file| folder.join(file))
            .into_iter()
            .find(|path| path.exists())
            .ok_or_else(|| {
                CgroupError::Unsupported(format!(
                    "{} has no memory controller, so there is no telling whether it ran out of memory",
                    folder.display()
                ))
            })
    }
}

impl Manager for V2 {
    fn create(&self, name: &CgroupName, limits: &Limits) -> Result<(), CgroupError> {
        let wanted = settings(limits, Made::Fresh);
        self.prepare(&wanted)?;
        let folder = self.folder(name);
        self.killed.remove_killed(&folder)?;
        let made = match tree::make(&folder) {
            Err(error) if tree::says_gone(&error) => self.make_with_parents(&folder, &wanted)?,
            other => other?,
        };
        let set = || -> Result<(), CgroupError> {
            for setting in settings(limits, made) {
                write_setting(&folder, &setting)?;
            }
            // One process killed for lack of memory would leave a limping task: all or none.
            match tree::write(&folder.join("memory.oom.group"), "1") {
                Err(error) if !tree::says_gone(&error) => Err(error),
                _ => Ok(()),
            }
        };
        let done = set();
        if done.is_err() && made == Made::Fresh {
            // The first error is the one to tell; what stays is removed with the task or by a sweep.
            let _ = tree::remove(&folder);
        }
        done
    }

    fn entry(&self, name: &CgroupName) -> Result<Entry, CgroupError> {
        Ok(Entry { into: Some(tree::open_folder(&self.folder(name))?), tasks: Vec::new() })
    }

    fn kill(&self, name: &CgroupName) -> Result<(), CgroupError> {
        self.killed.kill(&self.folder(name))
    }

    fn processes(&self, name: &CgroupName) -> Result<Vec<i32>, CgroupError> {
        tree::processes(&self.folder(name))
    }

    fn own_processes(&self, name: &CgroupName) -> Result<Vec<i32>, CgroupError> {
        tree::own_processes(&self.folder(name))
    }

    fn reclaimable(&self, name: &CgroupName) -> Result<u64, CgroupError> {
        match tree::keyed(&self.folder(name).join("memory.stat"), "inactive_file") {
            Err(error) if tree::says_gone(&error) => Ok(0),
            other => other,
        }
    }

    fn stats(&self, name: &CgroupName) -> Result<Stats, CgroupError> {
        let folder = self.folder(name);
        let number = |file| match tree::number(&folder.join(file)) {
            Ok(number) => Ok(Some(number)),
            Err(error) if tree::says_gone(&error) => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Stats {
            // This file is there without the controller, too, and so tells whether the cgroup is.
            cpu: Duration::from_micros(tree::keyed(&folder.join("cpu.stat"), "usage_usec")?),
            memory: number("memory.current")?.unwrap_or(0),
            pids: match number("pids.current")? {
                Some(count) => count,
                None => self.processes(name)?.len() as u64,
            },
        })
    }

    fn oom_kills(&self, name: &CgroupName) -> Result<u64, CgroupError> {
        tree::keyed(&self.events(name)?, "oom_kill")
    }

    fn oom_waker(&self, name: &CgroupName) -> Result<OwnedFd, CgroupError> {
        let path = self.events(name)?;
        let failed = |error: rustix::io::Errno| tree::failed("watch", &path)(error.into());
        let watch =
            rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(failed)?;
        rustix::fs::inotify::add_watch(&watch, &path, WatchFlags::MODIFY).map_err(failed)?;
        Ok(watch)
    }

    fn remove(&self, name: &CgroupName) -> Result<(), CgroupError> {
        let folder = self.folder(name);
        tree::remove(&folder)?;
        self.killed.forget(&folder);
        Ok(())
    }

    fn base_folders(&self) -> Vec<PathBuf> {
        vec![self.base.clone()]
    }
}

/// A value for a file.
#[derive(Debug, PartialEq, Eq)]
struct Setting {
    controller: Controller,
    file: &'static str,
    /// Whether a limit asks for it, or it is the default that lifts one.
    origin: Origin,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Limit,
    Default,
}

/// What is written for these limits; where a limit is not set, a cgroup that was there before gets the default back.
fn settings(limits: &Limits, made: Made) -> Vec<Setting> {
    let mut settings = Vec::with_capacity(5);
    let mut add = |controller, file, value: Option<String>, default: &str| {
        let (value, origin) = match (value, made) {
            (Some(value), _) => (value, Origin::Limit),
            (None, Made::Existing) => (default.to_owned(), Origin::Default),
            (None, Made::Fresh) => return,
        };
        settings.push(Setting { controller, file, origin, value });
    };
    let text = |value: Option<u64>| value.map(|value| value.to_string());
    add(Controller::Cpu, "cpu.weight", text(limits.cpu_shares.map(weight)), "100");
    add(Controller::Cpu, "cpu.max", limits.cpu_quota.map(|quota| format!("{quota} {PERIOD}")), "max 100000");
    add(Controller::Memory, "memory.low", text(limits.memory_soft), "0");
    add(Controller::Memory, "memory.max", text(limits.memory_hard), "max");
    add(Controller::Pids, "pids.max", text(limits.pids), "max");
    settings
}

/// Microseconds over which the quota is counted.
const PERIOD: u64 = 100_000;

/// 1024 shares are one processor, which weighs 100.
fn weight(shares: u64) -> u64 {
    (shares.saturating_mul(100) / 1024).clamp(1, 10_000)
}

/// Writes it; a default has no need of a file that is not there.
fn write_setting(folder: &Path, setting: &Setting) -> Result<(), CgroupError> {
    match tree::write(&folder.join(setting.file), &setting.value) {
        Err(error) if tree::says_gone(&error) && setting.origin == Origin::Default => Ok(()),
        other => other,
    }
}

fn ended(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
}
