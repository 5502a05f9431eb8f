//! Stock kubectl, the machine's and the pinned one, through a real endpoint into real tasks.

#[path = "kubectl/logs.rs"]
mod logs;
#[path = "kubectl/rights.rs"]
mod rights;
#[path = "kubectl/sessions.rs"]
mod sessions;
#[path = "kubectl/stage.rs"]
mod stage;
#[path = "kubectl/version4.rs"]
mod version4;

use std::fs;

use kube_executor_tests::endpoint::{POD, Spoken, Stand};
use kube_executor_tests::pod::{Signal, Task, send};
use kube_executor_tests::stage::until;
use kube_executor_tests::streams::noise;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use stage::{NAMESPACE, each, idle};

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_listed_read_and_described_as_they_are() {
    let stand = Stand::start([idle("etcd-0-peer"), idle("etcd-0-web")]).await;
    each(&stand, async |kubectl| {
        let table = kubectl.text(&["get", "pods", "-A"]);
        let header: Vec<&str> = table.lines().next().expect("a header").split_whitespace().collect();
        assert_eq!(header, ["NAMESPACE", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        let row: Vec<&str> = table.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(row[..5], [NAMESPACE, POD, "2/2", "Running", "0"], "{table}");
        let wide = kubectl.text(&["get", "pods", "-o", "wide"]);
        assert!(wide.contains("NODE") && wide.contains(POD), "{wide}");
        assert_eq!(kubectl.text(&["get", "pods", "-o", "name"]), format!("pod/{POD}\n"));
        let json: Value =
            serde_json::from_str(&kubectl.text(&["get", "pod", POD, "-o", "json"])).expect("JSON");
        assert_eq!((&json["kind"], &json["status"]["phase"]), (&json!("Pod"), &json!("Running")));
        let statuses = json["status"]["containerStatuses"].as_array().expect("statuses");
        let names: Vec<_> =
            statuses.iter().map(|status| status["name"].as_str().unwrap_or_default()).collect();
        assert_eq!(names, ["peer", "web"]);
        assert!(
            statuses.iter().all(|status| status["ready"] == true && status["state"]["running"].is_object())
        );
        let described = kubectl.text(&["describe", "pod", POD]);
        for part in [POD, NAMESPACE, "peer:", "web:", "Running"] {
            assert!(described.contains(part), "{part} in {described}");
        }
        assert!(kubectl.text(&["get", "namespaces"]).contains(NAMESPACE));
        let missing = kubectl.run(&["get", "pod", "none"]);
        assert!(missing.said.contains("pods \"none\" not found"), "{missing:?}");
        assert_eq!(missing.code, Some(1));
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_use_is_shown_by_top() {
    let stand = Stand::start([("etcd-0-peer", Task::shell("etcd-0-peer", "while :; do :; done"))]).await;
    each(&stand, async |kubectl| {
        let top = kubectl.text(&["top", "pod", "--containers"]);
        let row: Vec<&str> = top.lines().nth(1).expect("a row").split_whitespace().collect();
        assert_eq!(row[..2], [POD, "peer"], "{top}");
        let millicores: u32 =
            row[2].strip_suffix('m').and_then(|number| number.parse().ok()).expect("millicores");
        assert!(millicores > 0 && row[3].ends_with("Mi"), "{top}");
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_copied_both_ways() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    each(&stand, async |kubectl| {
        let here = tempfile::tempdir().expect("a folder");
        let there = format!("/{}", stand.pod.sandbox("etcd-0-peer").join("copied").display());
        let there = there.trim_start_matches('/');
        let file = here.path().join("noise");
        fs::write(&file, noise(3 << 20)).expect("write a file");
        let remote = format!("{NAMESPACE}/{POD}:/{there}");
        let local = file.to_string_lossy().into_owned();
        kubectl.text(&["cp", "-c", "peer", &local, &remote]);
        let hash = |path: &std::path::Path| Sha256::digest(fs::read(path).expect("read a file"));
        assert_eq!(hash(&stand.pod.sandbox("etcd-0-peer").join("copied")), hash(&file));
        let back = here.path().join("back");
        kubectl.text(&["cp", "-c", "peer", &remote, &back.to_string_lossy()]);
        assert_eq!(hash(&back), hash(&file));

        fs::create_dir_all(here.path().join("tree/deep")).expect("make folders");
        fs::write(here.path().join("tree/deep/leaf"), "a leaf\n").expect("write a file");
        let tree = here.path().join("tree").to_string_lossy().into_owned();
        kubectl.text(&["cp", "-c", "peer", &tree, &format!("{remote}.tree")]);
        let again = here.path().join("again");
        kubectl.text(&["cp", "-c", "peer", &format!("{remote}.tree"), &again.to_string_lossy()]);
        assert_eq!(fs::read_to_string(again.join("deep/leaf")).expect("read a leaf"), "a leaf\n");
        fs::remove_file(stand.pod.sandbox("etcd-0-peer").join("copied")).expect("remove what was copied");
        fs::remove_dir_all(stand.pod.sandbox("etcd-0-peer").join("copied.tree"))
            .expect("remove what was copied");
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_changes() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    each(&stand, async |kubectl| {
        let name = format!("etcd-0-{}", kubectl.tag);
        let watch = Spoken::start(&mut kubectl.command(&["get", "pods", "-w"]));
        watch.wait_for(POD).await;
        let before = watch.said().lines().count();
        stand.pod.launch(Task::idle(&name));
        until("another line of the watch", || (watch.said().lines().count() > before).then_some(())).await;
        until("the task in a list", || {
            kubectl.text(&["get", "pod", POD, "-o", "json"]).contains(&name).then_some(())
        })
        .await;
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_and_a_followed_log_end_when_the_endpoint_does() {
    for program in stage::programs() {
        let talk = "echo first; exec sleep 1000";
        let stand = Stand::start([("etcd-0-peer", Task::shell("etcd-0-peer", talk))]).await;
        let client = stand.endpoint.client("alice", "ops");
        let kubectl = stage::Kubectl::new(&program, &client);
        let mut watch = Spoken::start(&mut kubectl.command(&["get", "pods", "-w"]));
        let mut log = Spoken::start(&mut kubectl.command(&["logs", "-f", POD, "-c", "peer"]));
        watch.wait_for(POD).await;
        log.wait_for("first").await;
        send(i32::try_from(stand.endpoint.process()).expect("a process id"), Signal::TERM);
        assert_ne!(log.ended().await.code(), Some(0), "a log that was cut is no success: {}", log.said());
        watch.ended().await;
        until("the log's last line in the audit", || {
            stand
                .endpoint
                .audit()
                .iter()
                .any(|line| line["reason"] == "the endpoint is stopping")
                .then_some(())
        })
        .await;
        stand.end().await;
    }
}
