//! What people and monitors see: metrics, the log, and what the program says when it is run by hand.

use std::process::{Command, Output};

use kube_executor_tests::describe::built_executor;
use kube_executor_tests::pod::{Pod, Task, wait_until};
use mesos::common::TaskState;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use TaskState::{Failed, Finished, Running};

async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("ask");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read the answer");
    answer
}

/// The lines of the log with this message about a task.
fn lines(pod: &Pod, message: &str, task: &str) -> Vec<Value> {
    let log = pod.log();
    // The last one may be half written.
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == message && line["task"] == task).collect()
}

fn transitions(pod: &Pod, task: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    let lines = lines(pod, "transition", task);
    let line =
        |line: &Value| format!("{} -> {} ({})", text(&line["from"]), text(&line["to"]), text(&line["cause"]));
    lines.iter().map(line).collect()
}

fn run(arguments: &[&str]) -> Output {
    Command::new(built_executor().expect("a built executor"))
        .args(arguments)
        .env_clear()
        .output()
        .expect("run it")
}

#[tokio::test]
async fn metrics_are_on_a_unix_socket_and_on_the_port_that_was_asked_for() {
    let port = kube_executor_tests::rig::free_ports(1).expect("a free port")[0];
    let pod = Pod::with(
        kube_executor_tests::fake_agent::Options::default(),
        &["--metrics-port", &port.to_string()],
    )
    .await;
    pod.launch(Task::idle("a").settings(&json!({"pids": 10})));
    pod.wait("a", Running).await;
    let folder = std::fs::read_dir(pod.state_folder().join("run")).expect("list the run folder");
    let socket = folder.flatten().map(|one| one.path().join("metrics.sock")).find(|path| path.exists());
    let by_socket =
        get(UnixStream::connect(socket.expect("a socket")).await.expect("connect to the socket"), "/metrics")
            .await;
    let by_port =
        get(TcpStream::connect(("127.0.0.1", port)).await.expect("connect to the port"), "/metrics").await;
    for text in [&by_socket, &by_port] {
        for line in [
            "HTTP/1.1 200 OK",
            "kube_executor_tasks{state=\"TASK_RUNNING\"} 1",
            "kube_executor_task_ready{task=\"a\"} 1",
            "kube_executor_task_pids{task=\"a\"} 1",
            "kube_executor_subscriptions_total 1",
            "kube_executor_log_bytes_dropped_total 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
    let other = get(TcpStream::connect(("127.0.0.1", port)).await.expect("connect"), "/else").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    pod.end().await;
}

#[tokio::test]
async fn every_transition_is_one_line_of_the_log_with_task_from_to_and_cause() {
    let pod = Pod::with(kube_executor_tests::fake_agent::Options::default(), &["--log-format", "json"]).await;
    pod.launch(Task::shell("a", "exit 0"));
    pod.wait("a", Finished).await;
    wait_until("the last line", || transitions(&pod, "a").len() == 4).await;
    assert_eq!(
        transitions(&pod, "a"),
        [
            "null -> pending (null)",
            "pending -> starting (null)",
            "starting -> running (null)",
            "running -> finished (Command exited with status 0)",
        ]
    );
    let updates = lines(&pod, "update", "a");
    let states: Vec<&Value> = updates.iter().map(|line| &line["state"]).collect();
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
    pod.end().await;
}

#[tokio::test]
async fn transitions_that_no_update_tells_are_lines_too_and_updates_that_are_none_are_not() {
    let pod = Pod::with(kube_executor_tests::fake_agent::Options::default(), &["--log-format", "json"]).await;
    let check = json!({"role": "liveness", "command": {"value": "[ ! -e sick ]"}, "interval_seconds": 0.05});
    let mut fatal = check.clone();
    fatal["failures"] = json!(1);
    let restart = json!({"policy": "on-failure", "delay_seconds": 0.01, "limit": 1});
    let text = "rm -f sick; sleep 0.3; touch sick; exec sleep 1000";
    pod.launch(Task::shell("sick", text).settings(&json!({"checks": [fatal], "restart": restart})));
    let limit = json!({"nanoseconds": 200_000_000_u64});
    pod.launch(Task::idle("long").with("max_completion_time", limit));
    pod.wait("sick", Failed).await;
    pod.wait("long", Failed).await;
    wait_until("the last lines", || {
        [("sick", 10), ("long", 5)].iter().all(|(id, count)| transitions(&pod, id).len() == *count)
    })
    .await;
    let ways = |id: &str| -> Vec<String> {
        let seen = transitions(&pod, id);
        seen.iter().map(|line| line.split(" (").next().unwrap_or_default().to_owned()).collect()
    };
    let first = ["null -> pending", "pending -> starting", "starting -> running", "running -> killing"];
    assert_eq!(ways("long"), [&first[..], &["killing -> failed"]].concat());
    assert!(transitions(&pod, "long")[3].contains("max_completion_time"));
    let second = ["killing -> backoff", "backoff -> pending", "pending -> starting"];
    let third = ["starting -> running", "running -> killing", "killing -> failed"];
    assert_eq!(ways("sick"), [&first[..], &second, &third].concat());
    assert!(transitions(&pod, "sick")[3].contains("health check failed"));
    // Healthy or not, it runs.
    assert!(lines(&pod, "update", "sick").iter().any(|line| line["healthy"] == json!(false)));
    pod.end().await;
}

#[tokio::test]
async fn a_port_that_is_taken_costs_the_metrics_there_and_a_reader_that_stalls_costs_nobody_else() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("take a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let options = kube_executor_tests::fake_agent::Options::default();
    let pod = Pod::with(options, &["--metrics-port", &port]).await;
    pod.launch(Task::idle("a"));
    pod.wait("a", Running).await;
    assert!(pod.log().contains("no metrics here"), "{}", pod.log());
    let folder = std::fs::read_dir(pod.state_folder().join("run")).expect("list the run folder");
    let socket = folder.flatten().map(|one| one.path().join("metrics.sock")).find(|path| path.exists());
    let socket = socket.expect("a socket");
    let stalled = UnixStream::connect(&socket).await.expect("connect");
    let answer = get(UnixStream::connect(&socket).await.expect("connect"), "/metrics").await;
    assert!(answer.contains("kube_executor_tasks{state=\"TASK_RUNNING\"} 1"), "{answer}");
    let open = stalled.try_read(&mut [0]).expect_err("a connection that is still open");
    assert_eq!(open.kind(), std::io::ErrorKind::WouldBlock);
    pod.end().await;
}

#[test]
fn check_host_has_a_row_for_each_thing_needed_and_a_remedy_for_each_that_is_lacking() {
    let output = run(&["--check-host"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect())
        .collect();
    for name in ["nft", "conntrack", "cgroups", "pidfd", "overlayfs"] {
        assert!(rows.iter().any(|row| row.first() == Some(&name)), "{name} is not in\n{text}");
    }
    let lacking = rows.iter().filter(|row| matches!(row.get(1), Some(&("warning" | "missing"))));
    assert!(lacking.clone().all(|row| row.len() == 4), "each has a detail and a remedy:\n{text}");
    let missing = lacking.filter(|row| row[1] == "missing").count();
    assert!(text.contains(&format!("{missing} missing")), "{text}");
    assert_eq!(output.status.success(), missing == 0);
}

#[test]
fn describe_prints_the_effective_configuration_and_the_totals() {
    let text = String::from_utf8(run(&["--describe", "--idle-timeout", "7"]).stdout).expect("text");
    for part in ["idle timeout     7s", "processors", "memory", "cgroups"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn by_hand_it_says_who_starts_it() {
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a Mesos agent starts this program"));
}
