use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use tempfile::TempDir;

use super::*;
use crate::cgroups;

/// Marks with a folder; dropping it clears what carries them.
struct Marked {
    marks: Marks,
    folder: TempDir,
}

impl Marked {
    fn new() -> Self {
        let (marks, folder) = (Marks::new(), tempfile::tempdir().unwrap());
        marks.add_state(folder.path());
        Self { marks, folder }
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        self.marks.clear().unwrap();
    }
}

/// A process with a sandbox, ended when dropped.
struct Sleeper(Child);

impl Sleeper {
    fn new(sandbox: &Path) -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000").env("MESOS_SANDBOX", sandbox).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

#[test]
fn a_process_is_left_when_its_sandbox_is_in_a_folder_of_ours() {
    let (ours, others) = (Marked::new(), tempfile::tempdir().unwrap());
    let before = Sleeper::new(&ours.folder.path().join("before"));
    let left = Leftovers::before(&ours.marks);
    let helper = Sleeper::new(&ours.folder.path().join("helper"));
    ours.marks.spare(helper.0.id());
    let _other = Sleeper::new(others.path());
    assert!(New(left.difference()).is_empty(), "{}", New(left.difference()));

    let new = Sleeper::new(&ours.folder.path().join("new"));
    let found = New(left.difference());
    let line = format!(
        "left: 1 processes, 0 cgroups, 0 mounts, 0 network namespaces\n  process {} sleep 1000",
        new.0.id()
    );
    assert_eq!(found.to_string(), line);
    drop((before, helper, new));
}

#[tokio::test]
async fn what_ends_meanwhile_is_not_left() {
    let ours = Marked::new();
    let left = Leftovers::before(&ours.marks);
    let mut new = Sleeper::new(ours.folder.path());
    let (seen, ended) = tokio::join!(left.new_ones(), async { new.0.kill() });
    ended.unwrap();
    assert!(seen.is_empty(), "{seen}");
}

#[test]
fn a_record_and_a_socket_in_a_state_folder_are_left() {
    let ours = Marked::new();
    let left = Leftovers::before(&ours.marks);
    let folder = ours.folder.path().canonicalize().unwrap();
    fs::create_dir_all(folder.join("data/etcd")).unwrap();
    assert!(New(left.difference()).is_empty());
    fs::create_dir_all(folder.join("run/some-container")).unwrap();
    let _socket = UnixListener::bind(folder.join("control.sock")).unwrap();
    let files = left.difference().files.into_iter().collect::<Vec<_>>();
    assert_eq!(files, [folder.join("control.sock"), folder.join("run/some-container")]);
    ours.marks.clear().unwrap();
    assert!(New(left.difference()).is_empty());
}

#[test]
fn a_cgroup_of_a_container_is_left_with_its_processes_and_cleared_with_them() {
    if !is_root() {
        return;
    }
    let ours = Marked::new();
    let container = format!("test-{}", uuid::Uuid::new_v4());
    ours.marks.add_container(&container);
    let left = Leftovers::before(&ours.marks);
    let hierarchy =
        cgroups::hierarchies().into_iter().find(|point| fs::read(point.join("cgroup.procs")).is_ok());
    let Some(hierarchy) = hierarchy else {
        return eprintln!("skipped: no cgroups here");
    };
    let base = hierarchy.join(format!("kube-executor-{container}"));
    if let Err(error) = fs::create_dir_all(base.join("task")) {
        return eprintln!("skipped: create {}: {error}", base.display());
    }
    let mut sleeper = Sleeper::new(Path::new("/nowhere"));
    let place = base.join("task/cgroup.procs");
    let _ = fs::write(&place, sleeper.0.id().to_string());

    let found = left.difference();
    assert_eq!(found.cgroups.iter().collect::<Vec<_>>(), [&base]);
    if fs::read_to_string(&place).is_ok_and(|text| !text.is_empty()) {
        assert_eq!(found.processes.len(), 1, "{found:?}");
        ours.marks.clear().unwrap();
        assert!(!sleeper.0.wait().unwrap().success());
    }
    ours.marks.clear().unwrap();
    assert!(!base.exists());
}

#[test]
fn a_mount_in_a_folder_of_ours_is_left_and_cleared() {
    if !is_root() {
        return;
    }
    let ours = Marked::new();
    let left = Leftovers::before(&ours.marks);
    let point = ours.folder.path().canonicalize().unwrap().join("mount point");
    fs::create_dir(&point).unwrap();
    mount(Some("tmpfs"), &point, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert_eq!(left.difference().mounts.into_iter().collect::<Vec<_>>(), [point.as_path()]);
    ours.marks.clear().unwrap();
    assert!(New(left.difference()).is_empty());
}

#[test]
fn the_network_namespace_of_a_cluster_of_ours_is_left_and_cleared() {
    if !is_root() {
        return;
    }
    let ours = Marked::new();
    let cluster = format!("leftovers-{}", std::process::id());
    ours.marks.add_cluster(&cluster);
    let left = Leftovers::before(&ours.marks);
    let name = format!("kx-{cluster}");
    let status = Command::new("ip").args(["netns", "add", &name]).status();
    if !status.is_ok_and(|status| status.success()) {
        return eprintln!("skipped: ip netns add does not work here");
    }
    let path = Path::new("/run/netns").join(&name);
    assert_eq!(left.difference().namespaces.into_iter().collect::<Vec<_>>(), [path.as_path()]);
    ours.marks.clear().unwrap();
    assert!(!path.exists());
}
