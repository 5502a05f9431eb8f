//! logs.

use kube_executor_tests::endpoint::{POD, Spoken, Stand};
use kube_executor_tests::pod::{Task, label};
use kube_executor_tests::stage::until;
use serde_json::json;

use crate::stage::each;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_as_asked() {
    let talk = "for n in 1 2 3; do echo line $n; done; sleep 3; echo late; exec sleep 1000";
    let stand = Stand::start([("etcd-0-peer", Task::shell("etcd-0-peer", talk))]).await;
    stand.pod.wait_stdout("etcd-0-peer", "late").await;
    each(&stand, async |kubectl| {
        assert_eq!(kubectl.text(&["logs", POD]), "line 1\nline 2\nline 3\nlate\n");
        assert_eq!(kubectl.text(&["logs", "--tail=2", POD, "-c", "peer"]), "line 3\nlate\n");
        let stamped = kubectl.text(&["logs", "--timestamps", POD]);
        let times: Vec<&str> = stamped.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(
            times.len() == 4 && times.is_sorted() && times.iter().all(|time| time.ends_with('Z')),
            "{stamped}"
        );
        // From the moment of the late line on; a moment later there is nothing.
        let since = |time: &str| kubectl.text(&["logs", &format!("--since-time={time}"), POD]);
        assert_eq!(since(times[3]), "late\n", "{stamped}");
        assert_eq!(since("2999-01-01T00:00:00Z"), "");
        assert!(kubectl.text(&["logs", "--since=1h", POD]).starts_with("line 1\n"));
        let previous = kubectl.run(&["logs", "--previous", POD]);
        assert!(previous.said.contains("previous terminated container \"peer\""), "{previous:?}");
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_grows_is_followed_through_its_rotations() {
    // Each line is told once, in order, while files of 4 KiB are rotated and forgotten.
    let talk = "while [ ! -e go ]; do sleep 0.02; done; rm go; for n in $(seq 1 3000); do echo row $n; \
                [ $((n % 50)) = 0 ] && sleep 0.02; done; echo over; exec sleep 1000";
    for program in crate::stage::programs() {
        let task = Task::shell("etcd-0-peer", talk).settings(&json!({"log": {"bytes": 4096, "files": 3}}));
        let stand = Stand::start([("etcd-0-peer", task)]).await;
        let client = stand.endpoint.client("alice", "ops");
        let kubectl = crate::stage::Kubectl::new(&program, &client);
        let log = Spoken::start(&mut kubectl.command(&["logs", "-f", POD]));
        until("the log's session", || {
            stand.endpoint.audit().iter().any(|line| line["verbs"] == json!(["logs"])).then_some(())
        })
        .await;
        kube_executor_tests::pod::touch(&stand.pod.sandbox("etcd-0-peer").join("go"));
        log.wait_for("over").await;
        assert!(stand.pod.sandbox("etcd-0-peer").join("stdout.2").exists(), "it was rotated");
        let expected: String = (1..=3000).map(|n| format!("row {n}\n")).collect();
        assert_eq!(log.said(), format!("{expected}over\n"));
        stand.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_log_ends_well_with_its_task() {
    for program in crate::stage::programs() {
        let talk = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo last";
        let stand = Stand::start([("etcd-0-peer", Task::shell("etcd-0-peer", talk))]).await;
        let client = stand.endpoint.client("alice", "ops");
        let kubectl = crate::stage::Kubectl::new(&program, &client);
        let mut log = Spoken::start(&mut kubectl.command(&["logs", "-f", POD]));
        log.wait_for("begun").await;
        kube_executor_tests::pod::touch(&stand.pod.sandbox("etcd-0-peer").join("go"));
        assert_eq!(log.ended().await.code(), Some(0), "{}", log.said());
        assert_eq!(log.said(), "begun\nlast\n");
        stand.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_restart_in_place_is_the_previous_log() {
    let talk =
        "if [ -e again ]; then echo second; exec sleep 1000; fi; touch again; echo first; sleep 0.5; exit 1";
    let restart = json!({"restart": {"policy": "always", "delay_seconds": 0}});
    let stand = Stand::start([("etcd-0-peer", Task::shell("etcd-0-peer", talk).settings(&restart))]).await;
    stand.pod.wait_status("etcd-0-peer", "a restart", |status| label(status, "restarts") == Some("1")).await;
    stand.pod.wait_stdout("etcd-0-peer", "second").await;
    each(&stand, async |kubectl| {
        until("a restart in the list", || {
            let table = kubectl.text(&["get", "pods"]);
            (table.lines().nth(1)?.split_whitespace().nth(3)? == "1").then_some(())
        })
        .await;
        assert_eq!(kubectl.text(&["logs", "--previous", POD]), "first\n");
        assert!(kubectl.text(&["logs", POD]).contains("second\n"));
    })
    .await;
    stand.end().await;
}
