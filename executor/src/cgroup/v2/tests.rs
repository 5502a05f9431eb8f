use super::*;
use std::fs;

const ALL: Limits = Limits {
    cpu_shares: Some(512),
    cpu_quota: Some(50_000),
    memory_soft: Some(1 << 25),
    memory_hard: Some(1 << 26),
    pids: Some(100),
};

/// A plain folder that stands in for a cgroup file system: nothing appears in it by itself.
struct StandIn {
    root: tempfile::TempDir,
}

impl StandIn {
    fn new(controllers: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let this = Self { root };
        for folder in ["", "own", "own/executor", "own/kube-executor-x", "kube-executor-x"] {
            this.put(folder, "cgroup.controllers", controllers);
            this.put(folder, "cgroup.subtree_control", "");
            this.put(folder, "cgroup.procs", "");
        }
        for folder in ["own/kube-executor-x/a", "kube-executor-x/a"] {
            for file in ["cpu.weight", "cpu.max", "memory.low", "memory.max", "memory.oom.group", "pids.max"]
            {
                this.put(folder, file, "before");
            }
        }
        this
    }

    fn put(&self, folder: &str, file: &str, value: &str) {
        fs::create_dir_all(self.root.path().join(folder)).unwrap();
        fs::write(self.root.path().join(folder).join(file), value).unwrap();
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.root.path().join(file)).unwrap()
    }

    fn manager(&self, nesting: Nesting) -> V2 {
        V2::new("kube-executor-x", self.root.path(), &self.root.path().join("own"), nesting)
    }
}

fn task() -> CgroupName {
    CgroupName::task(&mesos::common::TaskId::new("a"))
}

#[test]
fn limits_are_written_in_the_unified_formats() {
    let place = StandIn::new("cpuset cpu io memory pids\n");
    let manager = place.manager(Nesting::Avoid);
    manager.create(&task(), &ALL).unwrap();
    let get = |file: &str| place.get(&format!("kube-executor-x/a/{file}"));
    assert_eq!(get("cpu.weight"), "50");
    assert_eq!(get("cpu.max"), "50000 100000");
    assert_eq!(get("memory.low"), "33554432");
    assert_eq!(get("memory.max"), "67108864");
    assert_eq!(get("memory.oom.group"), "1");
    assert_eq!(get("pids.max"), "100");
    // The last of the three that were enabled one by one, in both places.
    assert_eq!(place.get("cgroup.subtree_control"), "+pids");
    assert_eq!(place.get("kube-executor-x/cgroup.subtree_control"), "+pids");

    manager.create(&task(), &Limits::default()).unwrap();
    assert_eq!(get("cpu.weight"), "100");
    assert_eq!(get("cpu.max"), "max 100000");
    assert_eq!(get("memory.low"), "0");
    assert_eq!(get("memory.max"), "max");
    assert_eq!(get("pids.max"), "max");
}

#[test]
fn a_missing_controller_is_an_error_only_for_a_limit_that_needs_it() {
    let place = StandIn::new("cpu pids\n");
    let manager = place.manager(Nesting::Avoid);
    manager.create(&task(), &Limits { memory_hard: None, memory_soft: None, ..ALL }).unwrap();
    let error = manager.create(&task(), &ALL).unwrap_err().to_string();
    assert!(
        error.starts_with("memory.low needs the memory controller, which cannot be enabled: "),
        "{error}"
    );
    assert!(error.contains("cgroup.controllers holds \"cpu pids\""), "{error}");
}

#[test]
fn the_base_is_at_the_root_unless_nesting_is_allowed() {
    let place = StandIn::new("cpu memory pids\n");
    let root = place.root.path();
    assert_eq!(place.manager(Nesting::Avoid).base_folders(), [root.join("kube-executor-x")]);
    assert_eq!(place.manager(Nesting::Allowed).base_folders(), [root.join("own/kube-executor-x")]);
}

#[test]
fn nested_the_own_processes_move_to_a_leaf_before_controllers_are_enabled() {
    let place = StandIn::new("cpu memory pids\n");
    place.put("own", "cgroup.procs", "4711\n");
    place.manager(Nesting::Allowed).create(&task(), &ALL).unwrap();
    assert_eq!(place.get("own/executor/cgroup.procs"), "4711");
    assert_eq!(place.get("own/cgroup.subtree_control"), "+pids");
    assert_eq!(place.get("own/kube-executor-x/a/memory.max"), "67108864");
}

#[test]
fn at_the_root_nobody_is_moved() {
    let place = StandIn::new("cpu memory pids\n");
    place.put("", "cgroup.procs", "1\n");
    V2::new("kube-executor-x", place.root.path(), place.root.path(), Nesting::Allowed)
        .create(&task(), &ALL)
        .unwrap();
    assert!(!place.root.path().join("executor").exists());

    place.put("", "cgroup.type", "domain\n");
    place.put("", "cgroup.subtree_control", "");
    place.put("executor", "cgroup.procs", "");
    V2::new("kube-executor-x", place.root.path(), place.root.path(), Nesting::Avoid)
        .create(&task(), &ALL)
        .unwrap();
    assert_eq!(place.get("executor/cgroup.procs"), "1", "the root of a container is a cgroup like others");
}

#[test]
fn controllers_that_are_enabled_already_are_left_alone() {
    let place = StandIn::new("cpu memory pids\n");
    place.put("", "cgroup.subtree_control", "cpuset cpu io memory pids\n");
    place.manager(Nesting::Avoid).create(&task(), &ALL).unwrap();
    assert_eq!(place.get("cgroup.subtree_control"), "cpuset cpu io memory pids\n");
}

#[test]
fn weights_stay_in_the_range_of_the_kernel() {
    assert_eq!([0, 2, 11, 1024, 4096, u64::MAX].map(weight), [1, 1, 1, 100, 400, 10_000]);
}

#[test]
fn oom_kills_are_the_cgroups_own_where_the_kernel_counts_them() {
    let place = StandIn::new("memory\n");
    let manager = place.manager(Nesting::Avoid);
    assert!(matches!(manager.oom_kills(&task()), Err(CgroupError::Unsupported(_))));
    place.put("kube-executor-x/a", "memory.events", "low 0\noom 3\noom_kill 2\n");
    assert_eq!(manager.oom_kills(&task()).unwrap(), 2);
    place.put("kube-executor-x/a", "memory.events.local", "oom 3\noom_kill 1\noom_group_kill 1\n");
    assert_eq!(manager.oom_kills(&task()).unwrap(), 1);
}

#[test]
fn the_waker_wakes_when_events_change() {
    let place = StandIn::new("memory\n");
    place.put("kube-executor-x/a", "memory.events.local", "oom_kill 0\n");
    let waker = place.manager(Nesting::Avoid).oom_waker(&task()).unwrap();
    let ready = || {
        let mut fds = [rustix::event::PollFd::new(&waker, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap()
    };
    assert_eq!(ready(), 0);
    place.put("kube-executor-x/a", "memory.events.local", "oom_kill 1\n");
    assert_eq!(ready(), 1);
}
