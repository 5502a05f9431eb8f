//! The units in `systemd/`, as systemd's own tools see them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use tempfile::TempDir;

/// Tenths: 2.0 of 10.
const MOST_EXPOSURE: &str = "20";
const UNITS: [&str; 3] = ["exec-endpoint.service", "exec-endpoint.socket", "kubex-up.service"];
const PROGRAMS: [&str; 2] = ["/usr/bin/exec-endpoint", "/usr/bin/kubex"];
const DROP_IN: &str = "mesos-agent.service.d/kube-executor.conf";

fn ours(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(file)
}

/// Runs one of systemd's tools; what it says.
fn run(program: &str, arguments: &[&OsStr], units: Option<&Path>) -> (ExitStatus, String) {
    let mut command = Command::new(program);
    command.args(arguments).env("SYSTEMD_COLORS", "0").env("SYSTEMD_LOG_TARGET", "console");
    if let Some(units) = units {
        // The last, empty one stands for systemd's own.
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", units.display()));
    }
    let output =
        command.output().unwrap_or_else(|error| panic!("run {program}: {error}; scripts/install has it"));
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

/// Runs one of systemd's tools, which must be content; what it says.
#[track_caller]
fn content(program: &str, arguments: &[&OsStr], units: Option<&Path>) -> String {
    let (status, text) = run(program, arguments, units);
    assert!(status.success(), "{program} {arguments:?}: {status}\n{text}");
    text
}

/// The units in a folder of their own, with programs that exist on this machine, and an agent's unit for the drop-in.
fn installed() -> TempDir {
    let folder = TempDir::new().unwrap();
    let program = folder.path().join("program");
    fs::write(&program, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    for unit in UNITS {
        let text = fs::read_to_string(ours(unit)).unwrap();
        let text = PROGRAMS.iter().fold(text, |text, name| text.replace(name, program.to_str().unwrap()));
        fs::write(folder.path().join(unit), text).unwrap();
    }
    let agent = format!("[Service]\nExecStart={}\n", program.display());
    fs::write(folder.path().join("mesos-agent.service"), agent).unwrap();
    fs::create_dir(folder.path().join("mesos-agent.service.d")).unwrap();
    fs::copy(ours(DROP_IN), folder.path().join(DROP_IN)).unwrap();
    folder
}

#[test]
fn systemd_takes_every_unit_without_a_word() {
    let folder = installed();
    for unit in UNITS.iter().chain(&["mesos-agent.service"]) {
        let path = folder.path().join(unit);
        let arguments = ["verify", "--man=no", "--recursive-errors=no"].map(OsStr::new);
        let arguments: Vec<&OsStr> = arguments.into_iter().chain([path.as_os_str()]).collect();
        assert_eq!(content("systemd-analyze", &arguments, Some(folder.path())), "", "{unit}");
    }
}

#[test]
fn what_is_wrong_with_a_drop_in_is_told_so_the_check_above_can_fail() {
    let folder = installed();
    let path = folder.path().join(DROP_IN);
    fs::write(&path, "[Service]\nKillMode=proces\n").unwrap();
    let unit = folder.path().join("mesos-agent.service");
    let arguments = [OsStr::new("verify"), OsStr::new("--man=no"), unit.as_os_str()];
    let (_, text) = run("systemd-analyze", &arguments, Some(folder.path()));
    assert!(text.contains("kill mode"), "{text}");
}

#[test]
fn the_endpoint_is_exposed_as_little_as_promised() {
    let path = ours("exec-endpoint.service");
    let threshold = format!("--threshold={MOST_EXPOSURE}");
    let arguments = ["security", "--offline=true", threshold.as_str()].map(OsStr::new);
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([path.as_os_str()]).collect();
    content("systemd-analyze", &arguments, None);
}

#[test]
fn the_endpoints_user_can_be_made() {
    let path = ours("sysusers.d/exec-endpoint.conf");
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    let of_root = format!("--root={}", root.path().display());
    content("systemd-sysusers", &[OsStr::new(&of_root), path.as_os_str()], None);
    let users = fs::read_to_string(root.path().join("etc/passwd")).unwrap();
    let user = users.lines().find(|line| line.starts_with("exec-endpoint:")).expect("there it is");
    assert!(user.ends_with(":/:/usr/sbin/nologin"), "{user}");
}

#[test]
fn the_folder_of_control_sockets_can_be_made() {
    let path = ours("tmpfiles.d/kube-executor.conf");
    let root = TempDir::new().unwrap();
    let of_root = format!("--root={}", root.path().display());
    let arguments = [OsStr::new("--create"), OsStr::new(&of_root), path.as_os_str()];
    content("systemd-tmpfiles", &arguments, None);
    let folder = fs::metadata(root.path().join("run/kube-executor")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o755);
}
