//! Managers for tests, processes in their cgroups, and the end of both.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mesos::common::TaskId;

use crate::cgroup::detect::{self, Host, Nesting};
use crate::cgroup::{CgroupError, CgroupName, Entry, Limits, Manager, freezer, tree};

/// How long a test waits for a state before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A name that no other test has.
pub(crate) fn unique_base() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("kube-executor-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Kills and removes these cgroups, whatever the test did.
#[derive(Debug)]
pub(crate) struct Cleanup(pub(crate) Vec<PathBuf>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for folder in self.0.iter().filter(|folder| folder.exists()) {
            let _ = tree::write(&folder.join("cgroup.kill"), "1");
            let _ = freezer::kill(folder, PATIENCE);
            let _ = tree::kill_one_by_one(folder, PATIENCE);
        }
        for folder in &self.0 {
            if let Err(error) = tree::remove(folder) {
                eprintln!("clean-up: {error}");
            }
        }
    }
}

/// The kinds of hosts that a machine can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Hybrid,
    FreezerOnly,
    Unified,
}

/// A manager, and its cgroups' end.
#[derive(Debug)]
pub(crate) struct Rig {
    pub(crate) kind: Kind,
    pub(crate) manager: Box<dyn Manager>,
    _cleanup: Cleanup,
}

/// A manager of this kind at the roots of this machine's hierarchies, or why there can be none.
pub(crate) fn rig(kind: Kind) -> Option<Rig> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let is_unified = |line: &&str| line.contains(" - cgroup2 ");
    let mountinfo: String = mountinfo
        .lines()
        .filter(|line| match kind {
            Kind::Hybrid => true,
            Kind::FreezerOnly => !is_unified(line),
            Kind::Unified => is_unified(line),
        })
        .map(|line| format!("{line}\n"))
        .collect();
    // At the roots, so that the tests' cgroups lie in nobody else's.
    let cgroup = "5:freezer:/\n4:memory:/\n3:pids:/\n2:cpuacct:/\n1:cpu:/\n0::/\n";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let host = Host { mountinfo: &mountinfo, cgroup, release: &release };
    let base = unique_base();
    let manager = match detect::detect_in(host, &base, Nesting::Avoid) {
        Ok(manager) => manager,
        Err(error) => {
            eprintln!("skipped for {kind:?}: {error}");
            return None;
        }
    };
    let looks_v1 = format!("{manager:?}").starts_with("V1");
    if looks_v1 == (kind == Kind::Unified) {
        eprintln!("skipped for {kind:?}: the machine has no such cgroups");
        return None;
    }
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped for {kind:?}: not root");
        return None;
    }
    Some(Rig { kind, _cleanup: Cleanup(manager.base_folders()), manager })
}

pub(crate) fn rigs() -> Vec<Rig> {
    [Kind::Hybrid, Kind::FreezerOnly, Kind::Unified].into_iter().filter_map(rig).collect()
}

/// Those with all limits.
pub(crate) fn rigs_with_limits() -> Vec<Rig> {
    let probe = Limits {
        cpu_shares: Some(1024),
        cpu_quota: Some(100_000),
        memory_soft: Some(32 << 20),
        memory_hard: Some(64 << 20),
        pids: Some(64),
    };
    let mut rigs = rigs();
    rigs.retain(|rig| match rig.manager.create(&task("probe"), &probe) {
        Ok(()) => {
            rig.manager.remove(&task("probe")).unwrap();
            true
        }
        Err(error @ CgroupError::Unsupported(_)) => {
            eprintln!("limits skipped for {:?}: {error}", rig.kind);
            false
        }
        Err(error) => panic!("{error}"),
    });
    rigs
}

pub(crate) fn task(id: &str) -> CgroupName {
    CgroupName::task(&TaskId::new(id))
}

/// Runs a shell script that joins as the executor's children do, through the very descriptors of the entry, and has said
/// so when this returns.
pub(crate) fn spawn(entry: &Entry, script: &str) -> Child {
    let mut join = String::new();
    let me = std::process::id();
    for file in &entry.tasks {
        join += &format!("echo 0 > /proc/{me}/fd/{} || exit 77\n", file.as_raw_fd());
    }
    if let Some(folder) = &entry.into {
        join += &format!("echo 0 > /proc/{me}/fd/{}/cgroup.procs || exit 77\n", folder.as_raw_fd());
    }
    let mut child = Command::new("/bin/sh")
        .args(["-c", &format!("{join}\necho in\n{script}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    child.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"in\n");
    child
}

pub(crate) fn spawn_in(rig: &Rig, name: &CgroupName, script: &str) -> Child {
    spawn(&rig.manager.entry(name).unwrap(), script)
}

/// Waits until `state` holds.
pub(crate) fn until(what: &str, mut state: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !state() {
        assert!(Instant::now() < deadline, "never: {what}");
        tree::pause(Duration::from_millis(1));
    }
}
