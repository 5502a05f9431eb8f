use std::env;
use std::io::Read as _;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::cgroup::conformance::rig::{Kind, rig, spawn, task, until};
use crate::cgroup::{CgroupName, Limits, Manager};

fn no_network(_: &BridgeRecord) -> Result<(), String> {
    Ok(())
}

fn record() -> Record {
    Record {
        executor_id: "etcd-0__1".to_owned(),
        framework_id: "f-1".to_owned(),
        pod: "etcd-0".to_owned(),
        ..Record::default()
    }
}

/// A dead executor's folder. (A child of another test may hold a copy of the lock until it executes its program.)
fn abandoned(state: &Path, container_id: &str, record: &Record) {
    drop(Lease::take(state, container_id, record).unwrap());
    let path = state.join("run").join(container_id);
    until("the lock is free", || lease::take_over(&path).unwrap().is_some());
    until("the lock is free again", || {
        let file = File::open(path.join("lock")).unwrap();
        lease::lock(&file, &path).unwrap()
    });
}

/// Sweeps until a dead executor was found.
fn sweep_dead(state: &Path, network: &mut dyn FnMut(&BridgeRecord) -> Result<(), String>) -> DeadExecutor {
    let mut found = None;
    until("a dead executor is found", || {
        found = sweep(state, &mut *network).dead.pop();
        found.is_some()
    });
    found.unwrap()
}

/// Kills and reaps, whatever the test did.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Unmounts, whatever the test did.
struct Mounted(PathBuf);

impl Mounted {
    fn new(path: &Path) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        match nix::mount::mount(Some("none"), path, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        {
            Ok(()) => Some(Self(path.to_owned())),
            Err(error) => {
                eprintln!("skipped: cannot mount: {error}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Run by other tests as a process of its own: an executor that holds a lease and has processes in its cgroup.
#[test]
#[ignore = "a process for other tests"]
fn holder() {
    let Ok(record) = env::var("HOLDER_RECORD") else {
        return;
    };
    let record: Record = serde_json::from_str(&record).unwrap();
    let state = env::var("HOLDER_STATE").unwrap();
    let _lease = Lease::take(Path::new(&state), "c-1", &record).unwrap();
    let mut join = String::new();
    for folder in &record.cgroup_folders {
        join += &format!("echo 0 > {}/task/cgroup.procs || exit 77\n", folder.display());
    }
    let script = format!("{join} sleep 1000 & sleep 1000 & echo in >&2; wait");
    let mut shell = Command::new("/bin/sh").args(["-c", &script]).stdin(Stdio::null()).spawn().unwrap();
    shell.wait().unwrap();
}

/// An executor in a process of its own, whose three processes are in its cgroup when this returns.
fn executor(state: &Path, manager: &dyn Manager) -> (Ended, CgroupName) {
    let name = task("task");
    manager.create(&name, &Limits::default()).unwrap();
    let record = Record { cgroup_folders: manager.base_folders(), ..record() };
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "sweep::tests::holder", "--ignored", "--nocapture"])
        .env("HOLDER_STATE", state)
        .env("HOLDER_RECORD", serde_json::to_string(&record).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 3];
    child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"in\n");
    until("its three processes are there", || manager.processes(&name).unwrap().len() == 3);
    (Ended(child), name)
}

#[test]
fn processes_that_a_killed_executor_left_are_killed_and_its_cgroups_removed_while_a_living_one_stays() {
    for rig in [Kind::Hybrid, Kind::FreezerOnly, Kind::Unified].into_iter().filter_map(rig) {
        let state = tempfile::tempdir().unwrap();
        let (mut holder, name) = executor(state.path(), &*rig.manager);
        // A command check's cgroup, below.
        rig.manager.create(&name.child("check-1"), &Limits::default()).unwrap();

        let report = sweep(state.path(), no_network);
        assert_eq!(report.to_string(), "no dead executors\n", "{:?}", rig.kind);
        assert_eq!(rig.manager.processes(&name).unwrap().len(), 3);

        holder.0.kill().unwrap();
        holder.0.wait().unwrap();
        assert_eq!(rig.manager.processes(&name).unwrap().len(), 3, "they outlive their executor");
        let report = sweep(state.path(), no_network);
        let folders = rig.manager.base_folders();
        let lines: Vec<String> =
            folders.iter().map(|folder| format!("  removed cgroup {}\n", folder.display())).collect();
        assert_eq!(
            report.to_string(),
            format!(
                "dead executor etcd-0__1 of framework f-1 (pod etcd-0, container c-1):\n  killed 3 processes\n{}",
                lines.concat()
            )
        );
        assert!(folders.iter().all(|folder| !folder.exists()));
        assert!(!state.path().join("run/c-1").exists());
        assert_eq!(sweep(state.path(), no_network).to_string(), "no dead executors\n");
    }
}

#[test]
fn a_process_in_one_hierarchy_only_is_killed_too() {
    let Some(rig) = rig(Kind::Hybrid) else { return };
    let name = task("task");
    rig.manager.create(&name, &Limits::default()).unwrap();
    let entry = rig.manager.entry(&name).unwrap();
    let mut child = spawn(&crate::cgroup::Entry { into: None, ..entry }, "exec sleep 1000");
    let reaper = std::thread::spawn(move || child.wait());
    let cleared = clear(&Record { cgroup_folders: rig.manager.base_folders(), ..record() }, &mut no_network);
    assert!(cleared.errors.is_empty(), "{:?}", cleared.errors);
    assert_eq!(cleared.killed, 1);
    reaper.join().unwrap().unwrap();
}

#[test]
fn folders_that_are_not_an_executors_cgroup_are_left_alone() {
    let state = tempfile::tempdir().unwrap();
    let plain = state.path().join("kube-executor-x");
    fs::create_dir(&plain).unwrap();
    let wrong = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/../cgroup/kube-executor-x", "kube-executor-x", "/"];
    let mut folders: Vec<PathBuf> = wrong.iter().map(PathBuf::from).collect();
    folders.push(plain.clone());
    abandoned(state.path(), "c-1", &Record { cgroup_folders: folders.clone(), ..record() });
    let dead = sweep_dead(state.path(), &mut no_network);
    assert_eq!(dead.cleared.errors.len(), folders.len(), "{:?}", dead.cleared.errors);
    assert!(dead.cleared.errors.iter().all(|error| matches!(error, SweepError::Refused { .. })));
    assert!(plain.exists());
    assert!(!state.path().join("run/c-1").exists(), "what is never removed is not tried for ever");
}

#[test]
fn mounts_sockets_and_folders_go_and_what_is_gone_already_is_no_error() {
    let state = tempfile::tempdir().unwrap();
    let at = |name: &str| state.path().join(name);
    let Some(_mounted) = Mounted::new(&at("folder/mount")) else {
        return;
    };
    fs::write(at("folder/mount/kept"), "").unwrap();
    drop(UnixListener::bind(at("dead.sock")).unwrap());
    let _living = UnixListener::bind(at("living.sock")).unwrap();
    let record = Record {
        mounts: vec![at("folder/mount"), at("never-mounted")],
        sockets: vec![at("dead.sock"), at("living.sock"), at("none.sock")],
        folders: vec![at("folder"), at("none")],
        network: Some(BridgeRecord { cluster: "k8s".to_owned(), label: "one".to_owned() }),
        ..record()
    };
    abandoned(state.path(), "c-1", &record);
    let dead = sweep_dead(state.path(), &mut no_network);
    assert_eq!(
        dead.cleared.removed,
        [
            Removed::Mount(at("folder/mount")),
            Removed::Network("k8s".to_owned()),
            Removed::Socket(at("dead.sock")),
            Removed::Folder(at("folder")),
        ]
    );
    assert!(dead.cleared.errors.is_empty(), "{:?}", dead.cleared.errors);
    assert!(at("living.sock").exists(), "a relaunched executor listens there");
    assert!(!at("run/c-1").exists());
}

#[test]
fn a_folder_in_which_something_is_mounted_is_not_emptied() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("folder");
    let Some(mounted) = Mounted::new(&folder.join("mount")) else {
        return;
    };
    fs::write(folder.join("mount/data"), "").unwrap();
    abandoned(state.path(), "c-1", &Record { folders: vec![folder.clone()], ..record() });
    let dead = sweep_dead(state.path(), &mut no_network);
    assert!(folder.join("mount/data").exists());
    assert_eq!(dead.cleared.left.folders, std::slice::from_ref(&folder));
    drop(mounted);
    sweep_dead(state.path(), &mut no_network);
    assert!(!folder.exists());
}

#[test]
fn what_failed_stays_recorded_and_is_tried_again_and_the_rest_is_not() {
    let state = tempfile::tempdir().unwrap();
    let socket = state.path().join("a.sock");
    fs::write(&socket, "").unwrap();
    let bridge = BridgeRecord { cluster: "k8s".to_owned(), label: "one".to_owned() };
    abandoned(
        state.path(),
        "c-1",
        &Record { network: Some(bridge.clone()), sockets: vec![socket.clone()], ..record() },
    );
    let dead = sweep_dead(state.path(), &mut |_| Err("no such bridge".to_owned()));
    assert_eq!(dead.cleared.left, Record { network: Some(bridge), ..record() });
    let report = SweepReport { dead: vec![dead], errors: Vec::new() }.to_string();
    assert!(report.ends_with("\n  failed: leave the network of cluster k8s: no such bridge\n"), "{report}");
    assert!(!socket.exists());

    // Another executor's file by now.
    fs::write(&socket, "").unwrap();
    let dead = sweep_dead(state.path(), &mut no_network);
    assert_eq!(dead.cleared.removed, [Removed::Network("k8s".to_owned())]);
    assert!(socket.exists());
    assert!(!state.path().join("run/c-1").exists());
}

#[test]
fn a_half_written_record_is_told_and_removed_and_stops_nothing() {
    let state = tempfile::tempdir().unwrap();
    for id in ["a", "b", "c"] {
        abandoned(state.path(), id, &record());
    }
    let run = state.path().join("run");
    fs::write(run.join("a/record.json"), "{\"executor_id\": \"etc").unwrap();
    fs::remove_file(run.join("b/record.json")).unwrap();
    fs::write(run.join("b/record.json.new"), "{\"exec").unwrap();
    fs::write(run.join("c/record.json"), "{\"executor_id\": \"e\", \"new_field\": [1], \"network\": null}")
        .unwrap();
    fs::create_dir(run.join("empty")).unwrap();

    let mut dead = Vec::new();
    until("all three are found", || {
        dead.extend(sweep(state.path(), no_network).dead);
        dead.len() == 3
    });
    dead.sort_by(|one, other| one.container_id.cmp(&other.container_id));
    assert!(matches!(dead[0].cleared.errors[..], [SweepError::Record { .. }]), "{:?}", dead[0]);
    assert!(dead[1].cleared.errors.is_empty());
    assert_eq!(dead[2].record.executor_id, "e");
    until("nothing is left but the lock of sweeps", || {
        sweep(state.path(), no_network);
        fs::read_dir(&run).unwrap().count() == 1
    });
}

#[test]
fn two_sweeps_at_once_clear_everything_once() {
    const DEAD: usize = 20;
    let state = tempfile::tempdir().unwrap();
    for number in 0..DEAD {
        let network = Some(BridgeRecord { cluster: number.to_string(), label: number.to_string() });
        abandoned(state.path(), &number.to_string(), &Record { network, ..record() });
    }
    let calls = AtomicUsize::new(0);
    let count = |_: &BridgeRecord| {
        calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    until("all are cleared", || {
        let errors: Vec<SweepError> = std::thread::scope(|scope| {
            let two = [(); 2].map(|()| scope.spawn(|| sweep(state.path(), count)));
            two.into_iter().flat_map(|thread| thread.join().unwrap().errors).collect()
        });
        assert!(errors.is_empty(), "{errors:?}");
        calls.load(Ordering::Relaxed) >= DEAD
    });
    assert_eq!(calls.load(Ordering::Relaxed), DEAD);
}

#[test]
fn leases_taken_while_others_sweep_are_never_lost() {
    let state = tempfile::tempdir().unwrap();
    let stop = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while stop.load(Ordering::Relaxed) == 0 {
                let report = sweep(state.path(), no_network);
                assert!(report.errors.is_empty(), "{report}");
            }
        });
        let taken: Vec<Result<Lease, SweepError>> =
            (0..200).map(|number| Lease::take(state.path(), &number.to_string(), &record())).collect();
        let alive =
            (0..200).filter(|number| state.path().join(format!("run/{number}/record.json")).exists()).count();
        stop.store(1, Ordering::Relaxed);
        assert!(taken.iter().all(Result::is_ok));
        assert_eq!(alive, 200);
    });
}

#[test]
fn a_container_id_has_one_living_holder_and_a_released_lease_leaves_nothing() {
    let state = tempfile::tempdir().unwrap();
    let lease = Lease::take(state.path(), "c-1", &record()).unwrap();
    let error = Lease::take(state.path(), "c-1", &record()).unwrap_err();
    assert!(matches!(error, SweepError::Held { .. }), "{error}");

    let updated = Record { sockets: vec!["/x/y".into()], ..record() };
    lease.update(&updated).unwrap();
    let json = fs::read(state.path().join("run/c-1/record.json")).unwrap();
    assert_eq!(serde_json::from_slice::<Record>(&json).unwrap(), updated);
    assert!(!state.path().join("run/c-1/record.json.new").exists());
    lease.release().unwrap();
    assert_eq!(fs::read_dir(state.path().join("run")).unwrap().count(), 0);
}

#[test]
fn a_state_folder_that_is_not_there_is_swept() {
    assert_eq!(sweep(Path::new("/nonexistent/state"), no_network).to_string(), "no dead executors\n");
}

#[test]
fn a_container_id_cannot_leave_the_folder() {
    let state = tempfile::tempdir().unwrap();
    let _lease = Lease::take(state.path(), "../../x", &record()).unwrap();
    assert!(state.path().join("run/..%2F..%2Fx/record.json").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_record_makes_a_sweep_fail(text in "(?s).{0,100}|\\{\"(mounts|sockets|folders|cgroup_folders)\": \\[\"[./a]{0,6}\"\\]\\}") {
        if let Ok(record) = serde_json::from_str::<Record>(&text) {
            let paths = [&record.mounts, &record.sockets, &record.folders, &record.cgroup_folders];
            // Only what cannot be a path of this machine's.
            prop_assume!(paths.iter().all(|paths| paths.iter().all(|path| !path.exists())));
            let _ = clear(&record, &mut no_network);
        }
    }
}
