//! Stock kubectl, each that is on this machine, against the handlers over plain HTTP.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use task::control::{Pod, Stream};

use super::super::fixtures::{START, pod, task};
use super::rig::Rig;

/// The kubectls of this machine: the system's, and those that `make up` has fetched.
fn kubectls() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let fetched = std::fs::read_dir(home.join(".cache/kube-executor/kubernetes")).into_iter().flatten();
    let fetched = fetched.filter_map(|version| Some(version.ok()?.path().join("bin/kubectl")));
    let all: Vec<PathBuf> = std::iter::once(PathBuf::from("/usr/bin/kubectl"))
        .chain(fetched)
        .filter(|path| path.is_file())
        .collect();
    if all.is_empty() {
        eprintln!("skipped: there is no kubectl on this machine");
    }
    all
}

fn command(kubectl: &Path, rig: &Rig, arguments: &str) -> Command {
    let mut command = Command::new(kubectl);
    command.env("HOME", rig.folder.path()).env_remove("KUBECONFIG").stdin(Stdio::null());
    command.arg(format!("--server=http://{}", rig.address)).args(arguments.split(' '));
    command
}

/// What it prints; it must end well.
async fn run(kubectl: &Path, rig: &Rig, arguments: &str) -> String {
    let mut command = command(kubectl, rig, arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{} {arguments}: {errors}", kubectl.display());
    String::from_utf8(output.stdout).unwrap()
}

fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

/// One that goes on; it is killed with this.
struct Running(Child, Option<BufReader<std::process::ChildStdout>>);

impl Running {
    fn start(kubectl: &Path, rig: &Rig, arguments: &str) -> Self {
        let mut child = command(kubectl, rig, arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().map(BufReader::new);
        Self(child, output)
    }

    async fn line(&mut self) -> String {
        let mut output = self.1.take().unwrap();
        let (output, line) = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            (output, line)
        })
        .await
        .unwrap();
        self.1 = Some(output);
        line
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn rig() -> Rig {
    let rig = Rig::new(pod("etcd-0", vec![task("etcd-0-peer"), task("etcd-0-client")])).await;
    rig.executor.log(
        rig.folder.path(),
        Stream::Stdout,
        &[(START + 1, 1, "one\n"), (START + 3, 2, "three\n")],
    );
    rig.executor.log(rig.folder.path(), Stream::Stderr, &[(START + 2, 1, "two\n")]);
    rig
}

#[tokio::test]
async fn kubectl_reads_all_that_is_served() {
    for kubectl in kubectls() {
        let rig = rig().await;
        let kubectl = kubectl.as_path();
        let pods = run(kubectl, &rig, "get pods -n kube").await;
        assert_eq!(words(&pods)[0], ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        assert_eq!(words(&pods)[1][..4], ["etcd-0", "2/2", "Running", "0"]);
        let wide = run(kubectl, &rig, "get po -A -o wide").await;
        assert_eq!(words(&wide)[1][..2], ["kube", "etcd-0"]);
        assert_eq!(words(&wide)[1][6..8], ["10.0.0.7", "host-1"]);
        assert_eq!(run(kubectl, &rig, "get pods -n kube -o name -l framework=kube").await, "pod/etcd-0\n");
        assert_eq!(run(kubectl, &rig, "get pods -n kube -o name --field-selector metadata.name=x").await, "");
        let json = run(kubectl, &rig, "get pod etcd-0 -n kube -o json").await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["spec"]["containers"][1]["name"], "client");
        assert!(run(kubectl, &rig, "get pods -A -o yaml").await.contains("nodeName: host-1"));
        let described = run(kubectl, &rig, "describe pod etcd-0 -n kube").await;
        for part in ["Node:", "host-1", "Running", "Container ID:  mesos://etcd-0-peer__1", "Events:"] {
            assert!(described.contains(part), "{part} in {described}");
        }
        assert!(run(kubectl, &rig, "get namespaces").await.contains("kube"));
        let resources = run(kubectl, &rig, "api-resources").await;
        assert!(resources.contains("PodMetrics") && resources.contains("namespaces"), "{resources}");
        assert!(run(kubectl, &rig, "version").await.contains("Server Version: v1."));
        run(kubectl, &rig, "wait --for=condition=Ready pod/etcd-0 -n kube --timeout=10s").await;
        let top = run(kubectl, &rig, "top pod -n kube").await;
        assert_eq!(words(&top)[1][0], "etcd-0", "{top}");
        assert_eq!(words(&top)[1][2], "20Mi", "{top}");
        let containers = run(kubectl, &rig, "top pod -n kube --containers").await;
        assert_eq!(words(&containers)[1][..2], ["etcd-0", "client"], "{containers}");
    }
}

#[tokio::test]
async fn kubectl_reads_and_follows_logs() {
    for kubectl in kubectls() {
        let rig = rig().await;
        let kubectl = kubectl.as_path();
        let logs = "logs -n kube etcd-0 -c peer";
        assert_eq!(run(kubectl, &rig, logs).await, "one\ntwo\nthree\n");
        assert_eq!(run(kubectl, &rig, &format!("{logs} --tail=1")).await, "three\n");
        assert_eq!(run(kubectl, &rig, &format!("{logs} --previous")).await, "one\ntwo\n");
        assert_eq!(run(kubectl, &rig, &format!("{logs} --since-time=2023-11-14T22:13:21Z")).await, "");
        assert_eq!(run(kubectl, &rig, &format!("{logs} --limit-bytes=3")).await, "one");
        let stamped = run(kubectl, &rig, &format!("{logs} --timestamps --tail=1")).await;
        assert_eq!(stamped, "2023-11-14T22:13:20.003000000Z three\n");
        let selected =
            run(kubectl, &rig, "logs -n kube -l framework=kube --all-containers --tail=1 --prefix").await;
        assert!(selected.contains("[pod/etcd-0/client] three"), "{selected}");
        let mut following = Running::start(kubectl, &rig, &format!("{logs} -f --tail=1"));
        assert_eq!(following.line().await, "three\n");
        rig.executor.append(Stream::Stdout, &[(START + 9, 2, "four\n")]);
        assert_eq!(following.line().await, "four\n");
        rig.executor.log(rig.folder.path(), Stream::Stdout, &[(START + 10, 2, "five\n")]);
        rig.executor.tell_rotated(Stream::Stdout);
        assert_eq!(following.line().await, "five\n");
        rig.executor.tell_ended();
        assert_eq!(following.line().await, "");
        let status = tokio::task::spawn_blocking(move || following.0.wait().unwrap()).await.unwrap();
        assert!(status.success());
    }
}

#[tokio::test]
async fn kubectl_watches() {
    for kubectl in kubectls() {
        let rig = rig().await;
        let mut watch = Running::start(&kubectl, &rig, "get pods -n kube -w");
        assert!(watch.line().await.starts_with("NAME"));
        assert!(watch.line().await.starts_with("etcd-0"));
        let mut only = Running::start(&kubectl, &rig, "get pods -A --watch-only --output-watch-events");
        let mut json = Running::start(&kubectl, &rig, "get pod etcd-0 -n kube -w -o name");
        assert_eq!(json.line().await, "pod/etcd-0\n");
        let mut changed = pod("etcd-0", vec![task("etcd-0-peer"), task("etcd-0-client")]);
        changed.tasks[0].ready = Some(false);
        let mut revision = 20;
        let header = told(&rig, &mut only, &changed, &mut revision).await;
        assert_eq!(words(&header)[0][..3], ["EVENT", "NAMESPACE", "NAME"]);
        assert_eq!(
            words(&told(&rig, &mut only, &changed, &mut revision).await)[0][..4],
            ["MODIFIED", "kube", "etcd-0", "1/2"]
        );
        let line = told(&rig, &mut watch, &changed, &mut revision).await;
        assert_eq!(words(&line)[0][..2], ["etcd-0", "1/2"]);
        assert_eq!(told(&rig, &mut json, &changed, &mut revision).await, "pod/etcd-0\n");
    }
}

/// The next line. It cannot be seen from here whether kubectl watches already: until it tells of a change, there are more.
async fn told(rig: &Rig, running: &mut Running, pod: &Pod, revision: &mut u64) -> String {
    let line = running.line();
    tokio::pin!(line);
    loop {
        rig.publish(*revision, vec![pod.clone()]);
        *revision += 1;
        tokio::select! {
            line = &mut line => return line,
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => {}
        }
    }
}
