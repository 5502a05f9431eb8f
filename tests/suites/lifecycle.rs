//! What tasks go through, from their launch to their end: the executor's program on a fake agent.

use std::sync::Arc;
use std::time::Duration;

use kube_executor_tests::fake_agent::{Log, Options, Reply};
use kube_executor_tests::pod::{
    Pod, Signal, Task, label, message, read, reason, seconds_between, send, state, touch, wait_until,
};
use mesos::common::{TaskState, TaskStatus};
use mesos::executor::CallType;
use serde_json::json;

use TaskState::{Failed, Finished, Killed, Running, Starting};

/// Says so in stdout when it is up; on SIGTERM it adds its name to a shared file and ends with exit code 0.
fn orderly(pod: &Pod, id: &str) -> Task {
    let order = pod.shared("order").display().to_string();
    Task::shell(id, &format!("trap 'echo {id} >> {order}; exit 0' TERM; echo up; sleep 1000 & wait"))
}

/// `base <- mid <- top`, all of them up.
async fn launch_tower(pod: &Pod, more: Option<Task>) {
    let tower = [
        orderly(pod, "top").settings(&json!({"depends_on": ["mid"]})),
        orderly(pod, "base"),
        orderly(pod, "mid").settings(&json!({"depends_on": ["base"]})),
    ];
    pod.group(tower.into_iter().chain(more));
    for id in ["base", "mid", "top"] {
        pod.wait_stdout(id, "up").await;
        pod.wait(id, Running).await;
    }
}

fn order(pod: &Pod) -> Vec<String> {
    read(&pod.shared("order")).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_task_goes_from_starting_over_running_to_finished_or_failed_with_mesos_s_messages() {
    let pod = Pod::start().await;
    let ends = [
        ("finished", "exit 0", Finished, "Command exited with status 0"),
        ("failed", "exit 7", Failed, "Command exited with status 7"),
        ("signalled", "kill -KILL $$", Failed, "Command terminated with signal Killed"),
        ("unknown", "no-such-program-at-all", Failed, "Command exited with status 127"),
    ];
    for (id, command, ..) in ends {
        pod.launch(Task::shell(id, command));
    }
    for (id, _, end, text) in ends {
        let status = pod.wait(id, end).await;
        assert_eq!(pod.states(id), [Starting, Running, end], "{id}");
        assert_eq!((message(&status), reason(&status)), (text, ""), "{id}");
    }
    pod.end().await;
}

#[tokio::test]
async fn every_status_says_whose_it_is() {
    let options = Options::default();
    let container = options.container_id.clone();
    let pod = Pod::with(options, &[]).await;
    pod.launch(Task::shell("a", "true"));
    pod.wait("a", Finished).await;
    let statuses = pod.agent.statuses("a");
    for status in &statuses {
        let status = serde_json::to_value(status).unwrap();
        assert_eq!(status["source"], "SOURCE_EXECUTOR");
        assert_eq!(status["executor_id"]["value"], "executor-1");
        assert_eq!(status["agent_id"]["value"], "agent-1");
        let nested = json!({"value": "a", "parent": {"value": container}});
        assert_eq!(status["container_status"]["container_id"], nested);
        assert!(status["timestamp"].as_f64().unwrap() > 1e9);
    }
    let mut uuids: Vec<_> = statuses.iter().map(|status| status.uuid.clone().unwrap().0).collect();
    uuids.dedup();
    assert_eq!(uuids.len(), 3);
    pod.end().await;
}

#[tokio::test]
async fn a_plain_launch_has_its_command_in_the_data_and_a_group_may_have_it_in_the_task() {
    let pod = Pod::start().await;
    pod.launch(Task::bare("plain").settings(&json!({"command": {"value": "echo from data"}})));
    pod.group([Task::shell("grouped", "echo from task")]);
    pod.wait("plain", Finished).await;
    pod.wait("grouped", Finished).await;
    assert_eq!((pod.stdout("plain"), pod.stdout("grouped")), ("from data\n".into(), "from task\n".into()));
    pod.end().await;
}

#[tokio::test]
async fn a_file_that_cannot_be_executed_fails_with_its_name() {
    let pod = Pod::start().await;
    pod.launch(Task::argv("a", &["/no/such/file"]));
    let status = pod.wait("a", Failed).await;
    assert!(message(&status).contains("/no/such/file"), "{}", message(&status));
    assert_eq!(pod.states("a"), [Starting, Failed]);
    pod.end().await;
}

#[tokio::test]
async fn several_groups_live_side_by_side_and_one_may_come_after_all_have_ended() {
    let pod = Pod::start().await;
    pod.group([Task::idle("a1"), Task::idle("a2")]);
    pod.group([Task::idle("b1")]);
    for id in ["a1", "a2", "b1"] {
        pod.wait(id, Running).await;
    }
    for id in ["a1", "b1"] {
        pod.agent.kill(id, None);
    }
    for id in ["a1", "a2", "b1"] {
        pod.wait(id, Killed).await;
    }
    pod.group([Task::shell("c1", "true")]);
    pod.wait("c1", Finished).await;
    pod.launch(Task::shell("d1", "true"));
    pod.wait("d1", Finished).await;
    pod.end().await;
}

#[tokio::test]
async fn a_failing_task_ends_its_group_dependents_first_and_no_other_group() {
    let pod = Pod::start().await;
    pod.group([Task::idle("bystander")]);
    let fail = pod.shared("fail").display().to_string();
    launch_tower(
        &pod,
        Some(Task::shell("crash", &format!("until [ -e {fail} ]; do sleep 0.01; done; exit 3"))),
    )
    .await;
    touch(&pod.shared("fail"));
    pod.wait("crash", Failed).await;
    for id in ["base", "mid", "top"] {
        let status = pod.wait(id, Killed).await;
        let text = "Command exited with status 0: task crash of its group ended with TASK_FAILED";
        assert_eq!(message(&status), text);
    }
    assert_eq!(order(&pod), ["top", "mid", "base"]);
    assert_eq!(pod.states("bystander"), [Starting, Running]);
    pod.end().await;
}

#[tokio::test]
async fn a_killed_task_ends_its_group_and_a_finished_one_does_not() {
    let pod = Pod::start().await;
    pod.group([Task::shell("done", "true"), Task::idle("a"), Task::idle("b")]);
    pod.wait("done", Finished).await;
    pod.wait("a", Running).await;
    pod.wait("b", Running).await;
    assert_eq!(pod.states("b"), [Starting, Running]);
    pod.agent.kill("a", None);
    let status = pod.wait("b", Killed).await;
    assert!(message(&status).ends_with("task a of its group ended with TASK_KILLED"), "{}", message(&status));
    pod.end().await;
}

#[tokio::test]
async fn a_failing_task_that_is_not_essential_ends_nobody() {
    let pod = Pod::start().await;
    pod.group([Task::shell("crash", "exit 1").settings(&json!({"essential": false})), Task::idle("a")]);
    pod.wait("crash", Failed).await;
    pod.wait("a", Running).await;
    // A launch goes through the same loop: by its end, whatever the failure had caused would have been.
    pod.launch(Task::shell("later", "true"));
    pod.wait("later", Finished).await;
    assert_eq!(pod.states("a"), [Starting, Running]);
    pod.end().await;
}

#[tokio::test]
async fn a_task_starts_when_what_it_depends_on_is_ready() {
    let pod = Pod::start().await;
    let up = pod.shared("up").display().to_string();
    let check =
        json!({"role": "readiness", "command": {"value": format!("test -e {up}")}, "interval_seconds": 0.02});
    let look = format!("test -e {up} && echo after || echo before; exec sleep 1000");
    pod.group([
        Task::shell("app", &look).settings(&json!({"depends_on": ["db"]})),
        Task::idle("db").settings(&json!({"checks": [check]})),
    ]);
    let running = pod.wait("db", Running).await;
    assert_eq!(label(&running, "ready"), Some("false"));
    assert_eq!(pod.states("app"), [Starting]);
    touch(&pod.shared("up"));
    pod.wait("app", Running).await;
    pod.wait_stdout("app", "after").await;
    let all = pod.agent.log().statuses;
    let of = |id: &str, wanted: &str| {
        all.iter().position(|one| one.task_id.as_str() == id && label(one, "ready") == Some(wanted)).unwrap()
    };
    assert!(of("db", "true") < of("app", "true"));
    pod.end().await;
}

#[tokio::test]
async fn a_restart_in_place_waits_for_what_it_depends_on_too() {
    let pod = Pod::start().await;
    let file = |name: &str| pod.shared(name).display().to_string();
    let (up, crash) = (file("up"), file("crash"));
    touch(&pod.shared("up"));
    let until = |id: &str| format!("until [ -e {crash}-{id} ]; do sleep 0.01; done; rm {crash}-{id}; exit 1");
    let restart = json!({"policy": "always", "delay_seconds": 0});
    let check =
        json!({"role": "readiness", "command": {"value": format!("test -e {up}")}, "interval_seconds": 0.02});
    let app = format!("test -e {up} && echo after || echo before; {}", until("app"));
    pod.group([
        Task::shell("db", &until("db")).settings(&json!({"restart": restart, "checks": [check]})),
        Task::shell("app", &app).settings(&json!({"restart": restart, "depends_on": ["db"]})),
    ]);
    pod.wait_ready("app", true).await;
    pod.wait_stdout("app", "\n").await;
    std::fs::remove_file(pod.shared("up")).unwrap();
    for id in ["db", "app"] {
        touch(&pod.shared(&format!("crash-{id}")));
        let is_it = |status: &TaskStatus| {
            label(status, "restarts") == Some("1") && label(status, "ready") == Some("false")
        };
        pod.wait_status(id, &format!("a restart of {id}"), is_it).await;
    }
    pod.launch(Task::shell("later", "true"));
    pod.wait("later", Finished).await;
    assert_eq!(pod.stdout("app"), "after\n");
    touch(&pod.shared("up"));
    let status = pod.wait_ready("app", true).await;
    assert_eq!(label(&status, "restarts"), Some("1"));
    pod.wait_stdout("app", "after\nafter\n").await;
    pod.end().await;
}

#[tokio::test]
async fn on_shutdown_what_depends_on_others_ends_first() {
    let pod = Pod::start().await;
    launch_tower(&pod, None).await;
    pod.agent.shutdown();
    let order_file = pod.shared("order");
    wait_until("three ends", || read(&order_file).lines().count() == 3).await;
    assert_eq!(order(&pod), ["top", "mid", "base"]);
    for id in ["base", "mid", "top"] {
        pod.wait(id, Killed).await;
    }
    pod.ended().await;
}

#[tokio::test]
async fn a_dependency_that_has_ended_is_waited_for_until_the_deadline() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("db-1", "true").with("name", json!("db")));
    pod.wait("db-1", Finished).await;
    let app = |id: &str, seconds: f64| {
        Task::idle(id).settings(&json!({"depends_on": ["db"], "depends_on_timeout_seconds": seconds}))
    };
    pod.launch(app("impatient", 0.2));
    pod.launch(app("patient", 1000.0));
    let status = pod.wait("impatient", Failed).await;
    assert_eq!(message(&status), "what it depends on ended and did not come back within 200ms");
    assert_eq!(pod.states("patient"), [Starting]);
    pod.launch(Task::idle("db-2").with("name", json!("db")));
    pod.wait("patient", Running).await;
    pod.end().await;
}

#[tokio::test]
async fn max_completion_time_ends_in_failed_at_once_and_without_killing() {
    let pod = Pod::start().await;
    let most = json!({"nanoseconds": 300_000_000});
    let stubborn = "trap '' TERM; sleep 1000";
    pod.launch(Task::shell("a", stubborn).with("max_completion_time", most).grace(Duration::from_secs(60)));
    let status = pod.wait("a", Failed).await;
    assert_eq!(reason(&status), "REASON_MAX_COMPLETION_TIME_REACHED");
    assert_eq!(pod.states("a"), [Starting, Running, Failed]);
    let statuses = pod.agent.statuses("a");
    // Counted from before the fork, as by Mesos's command executor.
    let took = seconds_between(&statuses[0], &statuses[2]);
    assert!((0.29..5.0).contains(&took), "{took}");
    pod.end().await;
}

#[tokio::test]
async fn on_failure_restarts_after_growing_waits_until_the_limit() {
    let pod = Pod::start().await;
    let restart = json!({"policy": "on-failure", "delay_seconds": 0.1, "limit": 3});
    pod.launch(Task::shell("a", "echo run; exit 3").settings(&json!({"restart": restart})));
    let status = pod.wait("a", Failed).await;
    let text = "Command exited with status 3: it was restarted 3 times in a row, which is its limit";
    assert_eq!(message(&status), text);
    let statuses = pod.agent.statuses("a");
    let labels = |status: &TaskStatus| {
        let restarts = label(status, "restarts").map_or(0, |text| text.parse::<u32>().unwrap());
        (state(status), restarts, label(status, "ready").unwrap_or_default().to_owned())
    };
    let seen: Vec<_> = statuses.iter().map(labels).collect();
    let running = |restarts, ready: &str| (Running, restarts, ready.to_owned());
    assert_eq!(
        seen,
        [
            (Starting, 0, String::new()),
            running(0, "true"),
            running(1, "false"),
            running(1, "true"),
            running(2, "false"),
            running(2, "true"),
            running(3, "false"),
            running(3, "true"),
            (Failed, 3, String::new()),
        ]
    );
    assert!(message(&statuses[2]).starts_with("Command exited with status 3: restarting in "));
    for (number, delay) in [(2, 0.1), (4, 0.2), (6, 0.4)] {
        let waited = seconds_between(&statuses[number], &statuses[number + 1]);
        assert!(waited >= delay * 0.74, "{waited} before restart {number}");
    }
    assert_eq!(pod.stdout("a"), "run\n".repeat(4));
    pod.end().await;
}

#[tokio::test]
async fn a_success_is_restarted_by_always_and_not_by_on_failure() {
    let pod = Pod::start().await;
    let restarted = |policy: &str| json!({"restart": {"policy": policy, "delay_seconds": 0}});
    pod.launch(Task::shell("once", "true").settings(&restarted("on-failure")));
    let twice = "[ -e been ] && exec sleep 1000; touch been";
    pod.launch(Task::shell("always", twice).settings(&restarted("always")));
    pod.wait("once", Finished).await;
    let is_back = |status: &TaskStatus| {
        label(status, "restarts") == Some("1") && label(status, "ready") == Some("true")
    };
    pod.wait_status("always", "a restart", is_back).await;
    assert_eq!(pod.states("once"), [Starting, Running, Finished]);
    pod.end().await;
}

#[tokio::test]
async fn an_executor_without_tasks_ends_after_its_idle_timeout_with_exit_code_0() {
    Pod::with(Options::default(), &["--idle-timeout", "0.1"]).await.ended().await;
    let pod = Pod::with(Options::default(), &["--idle-timeout", "0.4"]).await;
    pod.launch(Task::shell("a", "sleep 1"));
    let running = pod.wait("a", Running).await;
    let finished = pod.wait("a", Finished).await;
    assert!(seconds_between(&running, &finished) > 0.9);
    pod.ended().await;
}

#[tokio::test]
async fn when_a_pod_s_init_is_killed_all_its_tasks_have_failed_and_a_later_launch_works() {
    let pod = Pod::start().await;
    let restart = json!({"restart": {"policy": "always"}});
    pod.group([Task::idle("a"), Task::idle("b").settings(&restart)]);
    pod.group([Task::idle("c")]);
    for id in ["a", "b", "c"] {
        pod.wait(id, Running).await;
    }
    send(pod.init(), Signal::KILL);
    for id in ["a", "b", "c"] {
        let status = pod.wait(id, Failed).await;
        assert_eq!(message(&status), "Command ended with its pod's init");
    }
    pod.group([Task::shell("later", "true")]);
    pod.wait("later", Finished).await;
    pod.end().await;
}

#[tokio::test]
async fn an_executor_whose_last_update_was_refused_ends_after_its_idle_timeout_too() {
    let pod = Pod::with(Options::default(), &["--idle-timeout", "0.1"]).await;
    pod.launch(Task::idle("a"));
    pod.wait("a", Running).await;
    pod.agent.script_updates([Reply::Status(400), Reply::Status(400)]);
    pod.agent.kill("a", None);
    pod.ended().await;
}

#[tokio::test]
async fn sigterm_before_the_first_subscription_ends_the_executor_with_exit_code_0() {
    let state = Arc::new(tempfile::tempdir().expect("make a state folder"));
    let pod = Pod::unsubscribed(state, Options::default(), &[]).await;
    pod.agent.script_subscribes([Reply::Silence; 100]);
    let subscribes = |log: &Log| log.calls_of(CallType::Subscribe).next().map(drop);
    pod.agent.wait_for("a SUBSCRIBE", subscribes).await;
    pod.signal(Signal::TERM);
    pod.ended().await;
}
