//! What checks see, what they say upstream, and what they end.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use kube_executor_tests::pod::{
    Pod, Task, label, message, read, reason, seconds_between, state, touch, wait_until,
};
use mesos::common::{TaskState, TaskStatus};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use TaskState::{Failed, Finished, Killed, Killing, Running, Starting};

/// An HTTP server that answers with whatever status it is told to.
struct Server {
    port: u16,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(status: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, asked) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicUsize::new(0)));
        let (answer, count) = (Arc::clone(&status), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let status = answer.load(Ordering::Relaxed);
                let body = format!("answer of {status}");
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { port, status, asked }
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    /// Waits until it has been asked so often from now on.
    async fn wait_asked(&self, count: usize) {
        let until = self.asked.load(Ordering::Relaxed) + count;
        wait_until("more requests", || self.asked.load(Ordering::Relaxed) >= until).await;
    }
}

/// A health check or check without any waiting.
fn quick(mut check: Value) -> Value {
    let usual = json!({"delay_seconds": 0, "interval_seconds": 0.02, "timeout_seconds": 5});
    for (name, value) in usual.as_object().unwrap() {
        check.as_object_mut().unwrap().entry(name).or_insert(value.clone());
    }
    check
}

/// A Mesos health check that never ends its task.
fn health(check: Value) -> Value {
    let mut check = quick(check);
    check["grace_period_seconds"] = json!(0);
    check.as_object_mut().unwrap().entry("consecutive_failures").or_insert(json!(1_000_000));
    check
}

async fn wait_healthy(pod: &Pod, id: &str, healthy: bool) -> TaskStatus {
    pod.wait_status(id, &format!("{id} healthy={healthy}"), |status| status.healthy == Some(healthy)).await
}

fn healths(pod: &Pod, id: &str) -> Vec<Option<bool>> {
    pod.agent.statuses(id).iter().map(|status| status.healthy).collect()
}

#[tokio::test]
async fn an_http_health_check_reports_each_change_once() {
    let pod = Pod::start().await;
    let server = Server::start(200).await;
    let check = health(json!({"type": "HTTP", "http": {"port": server.port, "path": "/healthz"}}));
    pod.launch(Task::idle("a").with("health_check", check));
    let status = wait_healthy(&pod, "a", true).await;
    assert_eq!((state(&status), reason(&status)), (Running, "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"));
    server.answer(503);
    let status = wait_healthy(&pod, "a", false).await;
    assert_eq!(reason(&status), "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED");
    let text = format!("HTTP check of http://127.0.0.1:{}/healthz: status 503: answer of 503", server.port);
    assert_eq!(message(&status), text);
    server.wait_asked(5).await;
    server.answer(204);
    wait_healthy(&pod, "a", true).await;
    server.wait_asked(5).await;
    assert_eq!(healths(&pod, "a"), [None, None, Some(true), Some(false), Some(true)]);
    pod.agent.kill("a", None);
    assert_eq!(pod.wait("a", Killed).await.healthy, Some(true));
    pod.end().await;
}

#[tokio::test]
async fn a_tcp_health_check_is_a_connection() {
    let pod = Pod::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    pod.launch(
        Task::idle("a").with("health_check", health(json!({"type": "TCP", "tcp": {"port": address.port()}}))),
    );
    wait_healthy(&pod, "a", true).await;
    drop(listener);
    let status = wait_healthy(&pod, "a", false).await;
    assert_eq!(message(&status), format!("TCP check of {address}: connection refused"));
    pod.end().await;
}

#[tokio::test]
async fn a_command_health_check_s_output_is_quoted() {
    let pod = Pod::start().await;
    let text = "test -e fine || { echo the disk is full; echo really >&2; exit 3; }";
    pod.launch(
        Task::idle("a").with("health_check", health(json!({"type": "COMMAND", "command": {"value": text}}))),
    );
    let status = wait_healthy(&pod, "a", false).await;
    assert_eq!(message(&status), format!("command check `{text}`: exit status 3: the disk is full\nreally"));
    touch(&pod.sandbox("a").join("fine"));
    wait_healthy(&pod, "a", true).await;
    pod.end().await;
}

#[tokio::test]
async fn output_of_a_check_is_quoted_up_to_10_kib_however_much_there_is() {
    let pod = Pod::start().await;
    let text = "head -c 300000 /dev/zero | tr '\\0' x; exit 1";
    pod.launch(
        Task::idle("a").with("health_check", health(json!({"type": "COMMAND", "command": {"value": text}}))),
    );
    let status = wait_healthy(&pod, "a", false).await;
    assert_eq!(message(&status).matches('x').count(), 10 * 1024 + text.matches('x').count() + 1);
    pod.end().await;
}

#[tokio::test]
async fn failures_in_a_row_end_the_task_and_no_other_is_called_unhealthy() {
    let pod = Pod::start().await;
    let command = json!({"value": "echo broken; exit 1"});
    let check = health(
        json!({"type": "COMMAND", "command": command, "consecutive_failures": 3, "interval_seconds": 0.2}),
    );
    pod.group([Task::idle("other")]);
    pod.group([Task::idle("sick").with("health_check", check)]);
    let status = pod.wait("sick", Killed).await;
    assert_eq!((status.healthy, reason(&status)), (Some(false), ""));
    let cause =
        "health check failed 3 times in a row: command check `echo broken; exit 1`: exit status 1: broken";
    assert!(message(&status).ends_with(cause), "{}", message(&status));
    assert_eq!(pod.states("sick"), [Starting, Running, Running, Killing, Killed]);
    let statuses = pod.agent.statuses("sick");
    assert!(seconds_between(&statuses[2], &statuses[3]) >= 0.4, "three failures take two intervals");
    pod.agent.kill("other", None);
    pod.wait("other", Killed).await;
    assert!(healths(&pod, "other").iter().all(Option::is_none));
    pod.end().await;
}

#[tokio::test]
async fn failures_in_the_grace_period_count_for_nothing_and_after_a_success_there_is_none() {
    let pod = Pod::start().await;
    let command = json!({"value": "echo x >> ran; test -e fine"});
    let mut check = health(json!({"type": "COMMAND", "command": command}));
    check["grace_period_seconds"] = json!(1000);
    pod.launch(Task::idle("a").with("health_check", check));
    let ran = pod.sandbox("a").join("ran");
    wait_until("five checks", || read(&ran).lines().count() >= 5).await;
    assert_eq!(healths(&pod, "a"), [None, None]);
    let fine = pod.sandbox("a").join("fine");
    touch(&fine);
    wait_healthy(&pod, "a", true).await;
    std::fs::remove_file(&fine).unwrap();
    wait_healthy(&pod, "a", false).await;
    pod.end().await;
}

#[tokio::test]
async fn every_status_of_a_task_with_a_check_carries_its_exact_value() {
    let pod = Pod::start().await;
    let text = "case $(cat code) in kill) kill -KILL $$;; *) exit $(cat code);; esac";
    let check = quick(json!({"type": "COMMAND", "command": {"command": {"value": text}}}));
    pod.launch(Task::shell("a", "echo 42 > code; exec sleep 1000").with("check", check));
    let set = |code: &str| std::fs::write(pod.sandbox("a").join("code"), code).unwrap();
    let value = |status: &TaskStatus| serde_json::to_value(&status.check_status).unwrap();
    let seen = |code: i32| {
        let wanted = json!({"type": "COMMAND", "command": {"exit_code": code}});
        let pod = &pod;
        async move {
            let status =
                pod.wait_status("a", &format!("exit code {code}"), |status| value(status) == wanted).await;
            assert_eq!(reason(&status), "REASON_TASK_CHECK_STATUS_UPDATED");
        }
    };
    seen(42).await;
    for code in [0, 7, 255, 0] {
        set(&code.to_string());
        seen(code).await;
    }
    set("kill");
    seen(137).await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    let statuses = pod.agent.statuses("a");
    assert!(statuses.iter().all(|status| value(status)["type"] == "COMMAND"), "{statuses:?}");
    assert_eq!(value(&statuses[0]), json!({"type": "COMMAND", "command": {}}));
    assert_eq!(value(statuses.last().unwrap())["command"]["exit_code"], 137);
    pod.end().await;
}

#[tokio::test]
async fn a_check_that_times_out_has_no_value_any_longer() {
    let pod = Pod::start().await;
    let command = json!({"command": {"value": "test -e slow && exec sleep 1000; exit 5"}});
    pod.launch(
        Task::idle("a")
            .with("check", quick(json!({"type": "COMMAND", "command": command, "timeout_seconds": 0.2}))),
    );
    let is = |wanted: Value| {
        move |status: &TaskStatus| serde_json::to_value(&status.check_status).unwrap()["command"] == wanted
    };
    pod.wait_status("a", "exit code 5", is(json!({"exit_code": 5}))).await;
    touch(&pod.sandbox("a").join("slow"));
    pod.wait_status("a", "no value", is(json!({}))).await;
    pod.end().await;
}

#[tokio::test]
async fn http_and_tcp_checks_report_what_they_saw() {
    let pod = Pod::start().await;
    let server = Server::start(418).await;
    let http = quick(json!({"type": "HTTP", "http": {"port": server.port, "path": "/"}}));
    pod.launch(Task::idle("http").with("check", http));
    let tcp = quick(json!({"type": "TCP", "tcp": {"port": server.port}}));
    pod.launch(Task::idle("tcp").with("check", tcp));
    let value = |status: &TaskStatus| serde_json::to_value(&status.check_status).unwrap();
    for code in [418, 200] {
        server.answer(code);
        let wanted = json!({"type": "HTTP", "http": {"status_code": code}});
        pod.wait_status("http", "the status code", |status| value(status) == wanted).await;
    }
    let wanted = json!({"type": "TCP", "tcp": {"succeeded": true}});
    pod.wait_status("tcp", "a connection", |status| value(status) == wanted).await;
    pod.end().await;
}

#[tokio::test]
async fn readiness_goes_upstream_on_change_and_ends_nothing() {
    let pod = Pod::start().await;
    let check = quick(
        json!({"role": "readiness", "command": {"value": "echo x >> ran; test -e fine"}, "failures": 2}),
    );
    pod.launch(Task::idle("a").settings(&json!({"checks": [check]})));
    let (ran, fine) = (pod.sandbox("a").join("ran"), pod.sandbox("a").join("fine"));
    let more = async |count: usize| {
        let until = read(&ran).lines().count() + count;
        wait_until("more checks", || read(&ran).lines().count() >= until).await;
    };
    pod.wait("a", Running).await;
    more(5).await;
    touch(&fine);
    let status = pod.wait_ready("a", true).await;
    assert_eq!(reason(&status), "REASON_TASK_CHECK_STATUS_UPDATED");
    more(5).await;
    std::fs::remove_file(&fine).unwrap();
    let status = pod.wait_ready("a", false).await;
    assert!(message(&status).contains("exit status 1"), "{}", message(&status));
    more(5).await;
    let ready: Vec<_> =
        pod.agent.statuses("a").iter().map(|status| label(status, "ready").map(str::to_owned)).collect();
    assert_eq!(ready, [None, Some("false".into()), Some("true".into()), Some("false".into())]);
    assert!(healths(&pod, "a").iter().all(Option::is_none));
    pod.end().await;
}

#[tokio::test]
async fn a_startup_check_holds_up_the_others_and_the_readiness() {
    let pod = Pod::start().await;
    let startup = quick(
        json!({"role": "startup", "command": {"value": "echo x >> tried; test -e up"}, "failures": 100_000}),
    );
    let liveness = quick(json!({"role": "liveness", "command": {"value": "echo x >> lived"}}));
    pod.launch(Task::idle("a").settings(&json!({"checks": [startup, liveness]})));
    let sandbox = pod.sandbox("a");
    wait_until("five checks", || read(&sandbox.join("tried")).lines().count() >= 5).await;
    assert!(!sandbox.join("lived").exists());
    assert_eq!(label(&pod.wait("a", Running).await, "ready"), Some("false"));
    touch(&sandbox.join("up"));
    pod.wait_ready("a", true).await;
    wait_healthy(&pod, "a", true).await;
    let tried = read(&sandbox.join("tried"));
    let lived = read(&sandbox.join("lived")).lines().count();
    wait_until("five checks", || read(&sandbox.join("lived")).lines().count() >= lived + 5).await;
    assert_eq!(read(&sandbox.join("tried")), tried);
    pod.end().await;
}

#[tokio::test]
async fn a_task_that_does_not_come_up_is_ended() {
    let pod = Pod::start().await;
    let startup = quick(json!({"role": "startup", "command": {"value": "exit 4"}, "failures": 3}));
    pod.launch(Task::idle("a").settings(&json!({"checks": [startup]})));
    let status = pod.wait("a", Killed).await;
    let cause = "startup check failed 3 times in a row: command check `exit 4`: exit status 4";
    assert!(message(&status).ends_with(cause), "{}", message(&status));
    pod.end().await;
}

#[tokio::test]
async fn several_checks_of_one_role_must_all_pass() {
    let pod = Pod::start().await;
    let server = Server::start(500).await;
    let http =
        quick(json!({"role": "readiness", "http": {"port": server.port, "statuses": [204]}, "failures": 1}));
    let tcp = quick(json!({"role": "liveness", "tcp": {"port": server.port}}));
    let command = quick(json!({"role": "readiness", "command": {"value": "test -e fine"}, "failures": 1}));
    pod.launch(Task::idle("a").settings(&json!({"checks": [http, tcp, command]})));
    wait_healthy(&pod, "a", true).await;
    server.answer(204);
    server.wait_asked(3).await;
    let last = pod.agent.statuses("a").pop().unwrap();
    assert_eq!(label(&last, "ready"), Some("false"));
    touch(&pod.sandbox("a").join("fine"));
    pod.wait_ready("a", true).await;
    server.answer(200);
    let status = pod.wait_ready("a", false).await;
    assert!(message(&status).contains("status 200"), "{}", message(&status));
    assert_eq!(status.healthy, Some(true));
    pod.end().await;
}

#[tokio::test]
async fn a_check_command_runs_where_and_as_whom_its_task_does() {
    let pod = Pod::start().await;
    let look = "echo $(id -u) $(readlink /proc/self/ns/pid) $(readlink /proc/self/ns/mnt) $COLOUR $MESOS_TASK_ID $PWD; \
                grep -E 'Groups|NoNewPrivs|CapEff' /proc/self/status";
    let variables = |value: &str| json!({"variables": [{"name": "COLOUR", "value": value}]});
    let check = |name: &str, environment: Value| {
        let text = format!("({look}) > {name}.tmp; mv {name}.tmp {name}");
        quick(json!({"role": "readiness", "command": {"value": text, "environment": environment}}))
    };
    let own = format!("{look}; exec sleep 1000");
    let settings = json!({
        "groups": ["4242"], "no_new_privileges": true,
        "checks": [check("same", json!({})), check("own", variables("check"))],
    });
    let task = Task::shell("a", &own)
        .command("user", json!("nobody"))
        .command("environment", variables("task"))
        .settings(&settings);
    pod.launch(task);
    pod.wait_ready("a", true).await;
    let of_task = pod.stdout("a");
    assert!(of_task.starts_with("65534 pid:[") && of_task.contains(" task a "), "{of_task}");
    assert_eq!(read(&pod.sandbox("a").join("same")), of_task);
    assert_eq!(read(&pod.sandbox("a").join("own")), of_task.replace(" task a ", " check a "));
    pod.end().await;
}

#[tokio::test]
async fn a_check_command_is_killed_at_its_timeout_with_all_its_children() {
    let pod = Pod::start().await;
    let text = "trap '' TERM; setsid sleep 1001 & echo up >> ran; sleep 1002";
    let check = json!({"type": "COMMAND", "command": {"value": text}, "timeout_seconds": 0.3, "interval_seconds": 1000});
    pod.launch(Task::idle("a").with("health_check", health(check)));
    pod.wait_processes("a", 4).await;
    let status = wait_healthy(&pod, "a", false).await;
    assert!(message(&status).ends_with(": timed out after 300ms"), "{}", message(&status));
    pod.wait_processes("a", 1).await;
    pod.end().await;
}

#[tokio::test]
async fn the_end_of_a_task_ends_its_check_under_way() {
    let pod = Pod::start().await;
    let check =
        json!({"type": "COMMAND", "command": {"value": "trap '' TERM; sleep 1001"}, "timeout_seconds": 0});
    pod.launch(Task::idle("a").with("health_check", health(check)));
    pod.wait_processes("a", 3).await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    pod.wait_processes("a", 0).await;
    pod.end().await;
}

#[tokio::test]
async fn a_check_that_leaves_a_process_behind_that_holds_its_output_is_over_all_the_same() {
    let pod = Pod::start().await;
    let check = health(
        json!({"type": "COMMAND", "command": {"value": "sleep 1001 & exit 0"}, "interval_seconds": 1000}),
    );
    pod.launch(Task::idle("a").with("health_check", check));
    wait_healthy(&pod, "a", true).await;
    pod.wait_processes("a", 1).await;
    pod.end().await;
}

#[tokio::test]
async fn a_verdict_is_kept_while_the_agent_is_away_and_a_change_meanwhile_is_told() {
    let mut pod = Pod::start().await;
    let server = Server::start(500).await;
    let check = health(json!({"type": "HTTP", "http": {"port": server.port, "path": "/"}}));
    pod.launch(Task::idle("a").with("health_check", check));
    wait_healthy(&pod, "a", false).await;
    pod.agent.drop_stream();
    pod.agent.wait_subscriptions(2).await;
    server.wait_asked(5).await;
    assert_eq!(healths(&pod, "a"), [None, None, Some(false)]);
    pod.agent.down().await;
    server.answer(200);
    server.wait_asked(3).await;
    pod.agent.up().await;
    wait_healthy(&pod, "a", true).await;
    server.wait_asked(3).await;
    assert_eq!(healths(&pod, "a"), [None, None, Some(false), Some(true)]);
    pod.end().await;
}

#[tokio::test]
async fn a_task_that_its_check_ended_is_restarted_if_it_asks_for_that() {
    let pod = Pod::start().await;
    let check = quick(json!({"role": "liveness", "command": {"value": "! test -e sick"}, "failures": 2}));
    let settings = json!({"checks": [check], "restart": {"policy": "on-failure", "delay_seconds": 0}});
    pod.launch(Task::shell("a", "rm -f sick; echo up; exec sleep 1000").settings(&settings));
    wait_healthy(&pod, "a", true).await;
    pod.wait_stdout("a", "up").await;
    touch(&pod.sandbox("a").join("sick"));
    let is_back =
        |status: &TaskStatus| label(status, "restarts") == Some("1") && status.healthy == Some(true);
    pod.wait_status("a", "healthy again", is_back).await;
    assert_eq!(pod.stdout("a"), "up\nup\n");
    let states = pod.states("a");
    assert!(
        !states.contains(&Killing) && !states.contains(&Killed) && !states.contains(&Failed),
        "{states:?}"
    );
    pod.end().await;
}

#[tokio::test]
async fn a_check_that_never_ran_does_not_hold_up_the_task_s_end() {
    let pod = Pod::start().await;
    let check = json!({"type": "COMMAND", "command": {"value": "true"}, "delay_seconds": 1000});
    pod.launch(Task::shell("a", "true").with("health_check", check));
    pod.wait("a", Finished).await;
    assert_eq!(healths(&pod, "a"), [None, None, None]);
    pod.end().await;
}
