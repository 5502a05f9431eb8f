//! What every manager must do, run against each that this machine can have: hybrid, v1 with the freezer only, and v2.

pub(crate) mod rig;

use std::fs;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use rig::{Kind, Rig, rig, rigs, rigs_with_limits, spawn, spawn_in, task, unique_base, until};

use super::detect::{self, Nesting};
use super::{CgroupError, CgroupName, Entry, Limits, tree};

fn pid(child: &Child) -> i32 {
    i32::try_from(child.id()).unwrap()
}

fn exists_anywhere(rig: &Rig, name: &CgroupName) -> bool {
    rig.manager.base_folders().iter().any(|base| base.join(name.as_str()).exists())
}

fn in_file(rig: &Rig, name: &CgroupName, file: &str) -> String {
    let found = rig.manager.base_folders().into_iter().map(|base| base.join(name.as_str()).join(file));
    fs::read_to_string(found.into_iter().find(|path| path.exists()).unwrap()).unwrap().trim().to_owned()
}

#[test]
fn a_child_that_used_the_entry_is_in_the_cgroup_in_every_hierarchy() {
    for rig in rigs() {
        let name = task("a/b");
        rig.manager.create(&name, &Limits::default()).unwrap();
        let mut child = spawn_in(&rig, &name, "exec sleep 1000");
        assert_eq!(rig.manager.processes(&name).unwrap(), [pid(&child)]);
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
        let inside = cgroups.lines().filter(|line| line.ends_with("/a%2Fb")).count();
        assert_eq!(inside, rig.manager.base_folders().len(), "{:?}: {cgroups}", rig.kind);
        rig.manager.kill(&name).unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn making_a_cgroup_twice_is_one_cgroup_and_its_processes_stay() {
    for rig in rigs() {
        let name = task("twice");
        rig.manager.create(&name, &Limits::default()).unwrap();
        let mut child = spawn_in(&rig, &name, "exec sleep 1000");
        rig.manager.create(&name, &Limits::default()).unwrap();
        assert_eq!(rig.manager.processes(&name).unwrap(), [pid(&child)]);
        rig.manager.kill(&name).unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn killing_reaches_the_cgroups_below_and_nobody_else() {
    for rig in rigs() {
        let (name, other) = (task("one"), task("other"));
        let check = name.child("check-1");
        for cgroup in [&name, &check, &other] {
            rig.manager.create(cgroup, &Limits::default()).unwrap();
        }
        let mut first = spawn_in(&rig, &name, "sleep 1000 & sleep 1000 & wait");
        let mut below = spawn_in(&rig, &check, "exec sleep 1000");
        let mut stranger = spawn_in(&rig, &other, "exec sleep 1000");
        until("four processes", || rig.manager.processes(&name).unwrap().len() == 4);

        rig.manager.kill(&name).unwrap();
        first.wait().unwrap();
        below.wait().unwrap();
        until("none is left", || rig.manager.processes(&name).unwrap().is_empty());
        assert_eq!(stranger.try_wait().unwrap(), None);
        rig.manager.kill(&other).unwrap();
        stranger.wait().unwrap();
    }
}

#[test]
fn killing_a_child_cgroup_leaves_the_task_alone() {
    for rig in rigs() {
        let name = task("task");
        let check = name.child("check-1");
        rig.manager.create(&name, &Limits::default()).unwrap();
        rig.manager.create(&check, &Limits::default()).unwrap();
        let mut main = spawn_in(&rig, &name, "exec sleep 1000");
        let mut below = spawn_in(&rig, &check, "exec sleep 1000");
        rig.manager.kill(&check).unwrap();
        below.wait().unwrap();
        until("the check's cgroup can be removed", || rig.manager.remove(&check).is_ok());
        assert_eq!(rig.manager.processes(&name).unwrap(), [pid(&main)]);
        assert_eq!(main.try_wait().unwrap(), None);
        rig.manager.kill(&name).unwrap();
        main.wait().unwrap();
    }
}

#[test]
fn removing_is_refused_while_processes_live_and_takes_all_below_with_it_afterwards() {
    for rig in rigs() {
        let name = task("gone");
        rig.manager.create(&name.child("check-1"), &Limits::default()).unwrap();
        let mut child = spawn_in(&rig, &name, "exec sleep 1000");
        let error = rig.manager.remove(&name).unwrap_err();
        let text = error.to_string();
        let CgroupError::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), std::io::ErrorKind::ResourceBusy);
        assert!(text.starts_with("remove /"), "{text}");

        rig.manager.kill(&name).unwrap();
        child.wait().unwrap();
        until("it can be removed", || rig.manager.remove(&name).is_ok());
        assert!(!exists_anywhere(&rig, &name));
    }
}

#[test]
fn a_cgroup_that_is_gone_has_no_processes_and_can_be_killed_and_removed() {
    for rig in rigs() {
        let name = task("never");
        assert_eq!(rig.manager.processes(&name).unwrap(), [0; 0]);
        rig.manager.kill(&name).unwrap();
        rig.manager.remove(&name).unwrap();
        let error = rig.manager.entry(&name).unwrap_err().to_string();
        assert!(error.starts_with("open /") && error.contains("No such file"), "{error}");
        rig.manager.stats(&name).unwrap_err();
    }
}

#[test]
fn statistics_tell_processor_time_and_processes() {
    for rig in rigs() {
        let name = task("busy");
        rig.manager.create(&name, &Limits::default()).unwrap();
        let mut child = spawn_in(&rig, &name, "while :; do :; done");
        until("it used the processor", || rig.manager.stats(&name).unwrap().cpu > Duration::from_millis(5));
        assert_eq!(rig.manager.stats(&name).unwrap().pids, 1);
        rig.manager.kill(&name).unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn limits_are_in_force_in_the_kernel_and_can_be_changed_and_lifted() {
    for rig in rigs_with_limits().into_iter().filter(|rig| rig.kind != Kind::Unified) {
        let name = task("limited");
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            memory_soft: Some(32 << 20),
            memory_hard: Some(64 << 20),
            pids: Some(10),
        };
        rig.manager.create(&name, &limits).unwrap();
        assert_eq!(in_file(&rig, &name, "cpu.shares"), "512");
        assert_eq!(in_file(&rig, &name, "cpu.cfs_period_us"), "100000");
        assert_eq!(in_file(&rig, &name, "cpu.cfs_quota_us"), "50000");
        assert_eq!(in_file(&rig, &name, "memory.soft_limit_in_bytes"), "33554432");
        assert_eq!(in_file(&rig, &name, "memory.limit_in_bytes"), "67108864");
        assert_eq!(in_file(&rig, &name, "pids.max"), "10");

        for hard in [128 << 20, 48 << 20] {
            rig.manager.create(&name, &Limits { memory_hard: Some(hard), ..limits }).unwrap();
            assert_eq!(in_file(&rig, &name, "memory.limit_in_bytes"), hard.to_string());
        }
        rig.manager.create(&name, &Limits::default()).unwrap();
        assert_eq!(in_file(&rig, &name, "cpu.shares"), "1024");
        assert_eq!(in_file(&rig, &name, "cpu.cfs_quota_us"), "-1");
        assert_eq!(in_file(&rig, &name, "pids.max"), "max");
        assert!(in_file(&rig, &name, "memory.limit_in_bytes").parse::<u64>().unwrap() > 1 << 60);
    }
}

#[test]
fn what_the_kernel_refuses_is_an_error_with_verb_value_and_path_and_leaves_nothing() {
    for rig in rigs_with_limits().into_iter().filter(|rig| rig.kind != Kind::Unified) {
        let name = task("refused");
        let error = rig
            .manager
            .create(&name, &Limits { cpu_quota: Some(1), ..Limits::default() })
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("write 1 to /"), "{error}");
        assert!(error.contains("/refused/cpu.cfs_quota_us: Invalid argument"), "{error}");
        assert!(!exists_anywhere(&rig, &name));
    }
}

#[test]
fn running_out_of_memory_wakes_and_is_counted_for_the_cgroup_alone() {
    for rig in rigs_with_limits() {
        let (name, other) = (task("hungry"), task("modest"));
        let limits = Limits { memory_hard: Some(32 << 20), ..Limits::default() };
        rig.manager.create(&name, &limits).unwrap();
        rig.manager.create(&other, &limits).unwrap();
        let waker = rig.manager.oom_waker(&name).unwrap();
        let wakes = |timeout: i64| {
            let mut fds = [rustix::event::PollFd::new(&waker, rustix::event::PollFlags::IN)];
            let timeout = rustix::event::Timespec { tv_sec: timeout, tv_nsec: 0 };
            rustix::event::poll(&mut fds, Some(&timeout)).unwrap()
        };
        assert_eq!((wakes(0), rig.manager.oom_kills(&name).unwrap()), (0, 0));

        let mut child = spawn_in(&rig, &name, "exec tail /dev/zero");
        assert_eq!(wakes(30), 1, "{:?}", rig.kind);
        use std::os::unix::process::ExitStatusExt as _;
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(rig.manager.oom_kills(&name).unwrap() >= 1);
        assert_eq!(rig.manager.oom_kills(&other).unwrap(), 0);
        assert!(rig.manager.stats(&name).unwrap().memory <= 32 << 20);
    }
}

#[test]
fn a_fork_bomb_does_not_outrun_the_kill() {
    if !Path::new("/usr/bin/perl").exists() {
        eprintln!("skipped: no perl, whose fork() may fail without ending the bomb");
        return;
    }
    for rig in rigs_with_limits() {
        let name = task("bomb");
        let most = 40;
        rig.manager.create(&name, &Limits { pids: Some(most), ..Limits::default() }).unwrap();
        // Everybody forks for ever; now and then one ends, so that ids change all the time.
        let bomb = "$SIG{CHLD} = q(IGNORE); my $first = $$; \
                    while (1) { my $child = fork; srand $$ if defined $child && !$child; exit if $$ != $first && rand() < 0.02 }";
        let mut child = spawn_in(&rig, &name, &format!("exec perl -e '{bomb}'"));
        until("the bomb has gone off", || rig.manager.processes(&name).unwrap().len() > 20);
        let before = Instant::now();
        rig.manager.kill(&name).unwrap();
        child.wait().unwrap();
        until("nobody is left", || rig.manager.processes(&name).unwrap().is_empty());
        eprintln!(
            "{:?}: a fork bomb of up to {most} processes was gone after {:?}",
            rig.kind,
            before.elapsed()
        );
        until("it can be removed", || rig.manager.remove(&name).is_ok());
    }
}

#[test]
fn somebody_who_left_the_cgroup2_tree_is_killed_all_the_same() {
    let Some(rig) = rig(Kind::Hybrid) else { return };
    let name = task("stray");
    rig.manager.create(&name, &Limits::default()).unwrap();
    let entry = rig.manager.entry(&name).unwrap();
    let mut child = spawn(&Entry { into: None, ..entry }, "exec sleep 1000");
    assert_eq!(rig.manager.processes(&name).unwrap(), [0; 0]);
    rig.manager.kill(&name).unwrap();
    child.wait().unwrap();
}

#[test]
fn the_freezer_kills_what_somebody_else_has_frozen_below() {
    let Some(rig) = rig(Kind::FreezerOnly) else { return };
    let name = task("paused");
    let check = name.child("container");
    rig.manager.create(&check, &Limits::default()).unwrap();
    let mut child = spawn_in(&rig, &check, "exec sleep 1000");
    let freezer =
        rig.manager.base_folders().into_iter().map(|base| base.join(check.as_str()).join("freezer.state"));
    let state = freezer.into_iter().find(|path| path.exists()).unwrap();
    tree::write(&state, "FROZEN").unwrap();
    until("it is frozen", || fs::read_to_string(&state).unwrap().trim() == "FROZEN");
    rig.manager.kill(&name).unwrap();
    child.wait().unwrap();
    assert_eq!(rig.manager.processes(&name).unwrap(), [0; 0]);
}

#[test]
fn detection_makes_nothing() {
    let base = unique_base();
    match detect::detect(&base, Nesting::Avoid) {
        Ok(manager) => {
            let folders = manager.base_folders();
            assert!(!folders.is_empty());
            for folder in folders {
                assert!(folder.ends_with(&base) && !folder.exists(), "{folder:?}");
                assert!(folder.parent().unwrap().join("cgroup.procs").exists(), "{folder:?}");
            }
        }
        Err(error) => eprintln!("skipped: {error}"),
    }
}

#[test]
fn how_long_it_takes() {
    const TIMES: usize = 200;
    let limits = Limits {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        memory_soft: Some(32 << 20),
        memory_hard: Some(64 << 20),
        pids: Some(100),
    };
    for rig in rigs() {
        let limits = if rig.kind == Kind::Unified { Limits::default() } else { limits };
        let mut spent: [Vec<Duration>; 4] = Default::default();
        for number in 0..TIMES {
            let name = task(&number.to_string());
            let mut step = |at: usize, work: &mut dyn FnMut()| {
                let before = Instant::now();
                work();
                spent[at].push(before.elapsed());
            };
            step(0, &mut || rig.manager.create(&name, &limits).unwrap());
            step(1, &mut || drop(rig.manager.entry(&name).unwrap()));
            step(2, &mut || rig.manager.kill(&name).unwrap());
            step(3, &mut || rig.manager.remove(&name).unwrap());
        }
        for (what, mut times) in ["create", "entry", "kill (empty)", "remove"].into_iter().zip(spent) {
            times.sort();
            eprintln!(
                "{:?} {what}: median {:?}, p95 {:?}",
                rig.kind,
                times[TIMES / 2],
                times[TIMES * 95 / 100]
            );
        }
    }
}
