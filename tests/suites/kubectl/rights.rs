//! What is refused, and how it is told.

use kube_executor_tests::endpoint::{POD, POLICY, Stand};
use serde_json::{Value, json};

use crate::stage::{Kubectl, NAMESPACE, each, idle, programs};

/// Besides everything for `ops`: `viewers` may look at one of two tasks.
const LOOKING: &str = r#"
[[rule]]
groups = ["viewers"]
verbs = ["list"]
tasks = ["etcd-0-peer"]

[[rule]]
groups = ["runners"]
verbs = ["exec"]
tasks = ["etcd-0-peer"]
"#;

fn opened_by<'a>(lines: &'a [Value], user: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["event"] == "open" && line["user"] == user).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_container_is_told_with_those_there_are() {
    let stand = Stand::start([idle("etcd-0-peer"), idle("etcd-0-web")]).await;
    each(&stand, async |kubectl| {
        let unknown = kubectl.run(&["exec", POD, "-c", "none", "--", "true"]);
        assert_eq!(unknown.code, Some(1));
        assert!(unknown.said.contains("none") && unknown.said.contains("peer"), "{unknown:?}");
        let pod = kubectl.run(&["exec", "none", "--", "true"]);
        assert!(pod.said.contains("pods \"none\" not found"), "{pod:?}");
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_readable_and_one_line_of_the_audit_for_both_attempts() {
    let stand =
        Stand::with(&format!("{POLICY}{LOOKING}"), &[], [idle("etcd-0-peer"), idle("etcd-0-web")]).await;
    for (number, program) in programs().iter().enumerate() {
        let user = format!("bob-{number}");
        let client = stand.endpoint.client(&user, "viewers");
        let kubectl = Kubectl::new(program, &client);
        let refused = kubectl.run(&["exec", POD, "-c", "peer", "--", "true"]);
        assert!(refused.code.is_some_and(|code| code != 0));
        for part in [user.as_str(), "exec", "etcd-0-peer"] {
            assert!(refused.said.contains(part), "{part} in {refused:?}");
        }
        let audit = stand.endpoint.audit();
        let lines = opened_by(&audit, &user);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!((&lines[0]["verdict"], &lines[0]["task"]), (&json!("refused"), &json!("etcd-0-peer")));
        let seen = kubectl.text(&["get", "pod", POD, "-o", "json"]);
        assert!(!seen.contains("etcd-0-web"), "a task that may not be seen is not there");
    }
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_is_answered_as_what_is_not_there_and_is_in_the_audit() {
    let stand =
        Stand::with(&format!("{POLICY}{LOOKING}"), &[], [idle("etcd-0-peer"), idle("etcd-0-web")]).await;
    let stranger = stand.endpoint.client("mallory", "none");
    let viewer = stand.endpoint.client("bob", "viewers");
    let upgrade = [
        "-s",
        "-w",
        "\n%{http_code}",
        "--http1.1",
        "-H",
        "connection: upgrade",
        "-H",
        "upgrade: websocket",
        "-H",
        "sec-websocket-version: 13",
        "-H",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "-H",
        "sec-websocket-protocol: v5.channel.k8s.io",
    ];
    let ask = |client: &kube_executor_tests::endpoint::Client, path: &str| {
        let output = client.curl(&upgrade, path).output().expect("run curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let pod = |name: &str, rest: &str| format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}{rest}");
    let rests = [
        "/exec?container=peer&command=true&stdout=true",
        "/exec?container=peer&stdout=nonsense",
        "/exec?command=true&stdout=true",
        "/attach?container=peer&stdout=true",
        "/log?container=peer",
        "/log?tailLines=nonsense",
        "",
    ];
    for rest in rests {
        let (known, unknown) = (ask(&stranger, &pod(POD, rest)), ask(&stranger, &pod("none", rest)));
        assert!(known.ends_with("\n404"), "{rest}: {known}");
        assert_eq!(known.replace(POD, "none"), unknown, "{rest}");
    }
    let kubex = |name: &str| format!("/kubex/v1/tasks/{name}/exec?command=true&stdout=true");
    let (known, unknown) = (ask(&stranger, &kubex("etcd-0-peer")), ask(&stranger, &kubex("none")));
    assert!(known.ends_with("\n404"), "{known}");
    assert_eq!(known.replace("etcd-0-peer", "none"), unknown);
    let container = |name: &str| pod(POD, &format!("/exec?container={name}&command=true&stdout=true"));
    let (known, unknown) = (ask(&viewer, &container("web")), ask(&viewer, &container("none")));
    assert!(known.ends_with("\n400"), "{known}");
    assert_eq!(known.replace("web", "none"), unknown);

    let audit = stand.endpoint.audit();
    let lines = opened_by(&audit, "mallory");
    assert!(lines.iter().all(|line| line["verdict"] == "refused"), "{lines:?}");
    // What is asked twice within five seconds is one line: the third question and the second for the log.
    let verbs: Vec<&Value> = lines.iter().map(|line| &line["verbs"][0]).collect();
    assert_eq!(verbs, ["exec", "exec", "attach", "logs", "exec"], "{lines:?}");
    let viewed = opened_by(&audit, "bob");
    assert_eq!((viewed.len(), &viewed[0]["task"]), (1, &json!("etcd-0-web")), "{viewed:?}");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_exec_but_not_list_is_told_so_and_execs_all_the_same() {
    let stand = Stand::with(&format!("{POLICY}{LOOKING}"), &[], [idle("etcd-0-peer")]).await;
    let runner = stand.endpoint.client("rita", "runners");
    let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/{POD}");
    let read = runner.curl(&["-s", "-w", "\n%{http_code}"], &pod).output().expect("run curl");
    let read = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(read.ends_with("\n403") && read.contains("rita"), "{read}");
    let exec = runner
        .kubex(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", "exit 9"])
        .status()
        .expect("run kubex");
    assert_eq!(exec.code(), Some(9));
    stand.end().await;
}
