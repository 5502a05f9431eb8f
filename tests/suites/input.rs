//! What is wrong in what a framework or an agent sends: it is named, and it harms nothing else.

use kube_executor_tests::fake_agent::{Options, task_info};
use kube_executor_tests::pod::{Pod, Task, message, reason, state};
use mesos::common::{TaskState, TaskStatus};
use serde_json::{Value, json};

use TaskState::{Error, Failed, Finished, Killed, Running, Starting};

/// Sees that the executor is as it was: a task runs through.
async fn works(pod: &Pod, id: &str) {
    pod.launch(Task::shell(id, "true"));
    pod.wait(id, Finished).await;
}

/// Waits for the refusal of a task, sees that it is the only status, and returns its message.
async fn refusal(pod: &Pod, id: &str) -> String {
    let status =
        pod.wait_status(id, &format!("the refusal of {id}"), |status| state(status).is_terminal()).await;
    assert_eq!((state(&status), reason(&status)), (Error, "REASON_TASK_INVALID"), "{status:?}");
    assert_eq!(pod.states(id), [Error], "{id}");
    message(&status).to_owned()
}

#[tokio::test]
async fn a_wrong_field_is_named_with_its_value_and_what_is_allowed() {
    let pod = Pod::start().await;
    let set = |field: &str, value: Value| Task::shell("x", "echo started").with(field, value);
    let settings = |value: Value| Task::shell("x", "echo started").settings(&value);
    let scalar =
        |name: &str, value: f64| json!([{"name": name, "type": "SCALAR", "scalar": {"value": value}}]);
    let check = |check: Value| settings(json!({"checks": [check]}));
    let cases = [
        (Task::bare("x"), "command", "nothing", "must be in the TaskInfo or in data.command"),
        (settings(json!({"umask": "9"})), "data.umask", "\"9\"", "octal digits"),
        (settings(json!({"oom_score_adj": 2000})), "data.oom_score_adj", "2000", "-1000 to 1000"),
        (settings(json!({"kill_mode": "tree"})), "data.kill_mode", "\"tree\"", "cgroup or process"),
        (
            settings(json!({"restart": {"policy": "alway"}})),
            "data.restart.policy",
            "\"alway\"",
            "did you mean `always`?",
        ),
        (
            settings(json!({"restart": {"policy": "always", "delay_seconds": -1}})),
            "data.restart.delay_seconds",
            "-1",
            "seconds",
        ),
        (settings(json!({"pids": 0})), "data.pids", "0", "from 1 to"),
        (settings(json!({"log": {"bytes": 1}})), "data.log.bytes", "1", "at least 4096"),
        (
            settings(json!({"capabilities": {"bounding": ["CAP_NET_BIN_SERVICE"]}})),
            "data.capabilities.bounding[0]",
            "\"CAP_NET_BIN_SERVICE\"",
            "did you mean `CAP_NET_BIND_SERVICE`?",
        ),
        (
            settings(json!({"rlimits": {"nofile": {"soft": 2, "hard": 1}}})),
            "data.rlimits.nofile.soft",
            "2",
            "hard limit of 1",
        ),
        (
            settings(json!({"depends_on": ["x"]})),
            "data.depends_on[0]",
            "\"x\"",
            "must not be the task itself",
        ),
        (
            settings(json!({"command": {"value": "true"}})),
            "data.command",
            "a second command",
            "besides command",
        ),
        (
            check(json!({"role": "readines", "tcp": {"port": 1}})),
            "data.checks[0].role",
            "\"readines\"",
            "did you mean `readiness`?",
        ),
        (check(json!({"role": "liveness"})), "data.checks[0]", "nothing", "exactly one of"),
        (
            check(json!({"role": "liveness", "tcp": {"port": 70_000}})),
            "data.checks[0].tcp.port",
            "70000",
            "must be",
        ),
        (set("resources", scalar("cpus", -1.0)), "resources[0].scalar.value", "-1", "must be"),
        (set("resources", scalar("mem", 1e300)), "resources[0]", "1e300", "must be"),
        (set("resources", scalar("cpus", 1e300)), "resources[0]", "1e300", "must be"),
        (set("limits", json!({"cpus": {"value": 1}})).resources(2.0, 64.0), "limits.cpus", "1", "must"),
        (set("limits", json!({"disk": {"value": 1}})), "limits.disk", "1", "must be cpus or mem"),
        (
            set("kill_policy", json!({"grace_period": {"nanoseconds": -5}})),
            "kill_policy.grace_period.nanoseconds",
            "-5",
            "must be",
        ),
        (
            set("max_completion_time", json!({"nanoseconds": i64::MAX})),
            "max_completion_time.nanoseconds",
            "9223372036854775807",
            "ten years",
        ),
        (set("health_check", json!({"type": "GRPC"})), "health_check.type", "\"GRPC\"", "must be"),
        (set("health_check", json!({"type": "HTTP"})), "health_check.http", "nothing", "must be"),
        (
            set("health_check", json!({"type": "TCP", "tcp": {"port": 1}, "delay_seconds": -1})),
            "health_check.delay_seconds",
            "-1",
            "must be",
        ),
        (set("container", json!({"type": "DOCKER"})), "container.type", "\"DOCKER\"", "must be MESOS"),
        (set("name", json!("")), "name", "\"\"", "must not be empty"),
        (set("command", json!({"shell": false})), "command.value", "nothing", "file to execute"),
        (set("command", json!({"value": 7})), "command.value", "7", "must be"),
        (
            set(
                "command",
                json!({"value": "true", "environment": {"variables": [{"name": "A=B", "value": "x"}]}}),
            ),
            "command.environment.variables[0].name",
            "\"A=B\"",
            "must not",
        ),
    ];
    for (number, (task, field, value, allowed)) in cases.into_iter().enumerate() {
        let id = format!("x{number}");
        pod.launch(task.with("task_id", json!({"value": id})));
        let text = refusal(&pod, &id).await;
        assert!(
            text.starts_with(&format!("{field}: ")) || text.starts_with(&format!("{field}.")),
            "{field} in: {text}"
        );
        assert!(text.contains(value) && text.contains(allowed), "{value:?} and {allowed:?} in: {text}");
        assert!(!pod.sandbox(&id).exists(), "{id}");
    }
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn an_unknown_field_of_ours_is_refused_and_the_right_one_suggested() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("a", "true").settings(&json!({"depend_on": ["db"]})));
    let text = refusal(&pod, "a").await;
    assert!(text.contains("unknown field") && text.contains("did you mean `depends_on`?"), "{text}");
    pod.launch(Task::bare("b").settings(&json!({"command": {"value": "true", "usr": "root"}})));
    let text = refusal(&pod, "b").await;
    assert!(text.starts_with("data.command") && text.contains("usr"), "{text}");
    pod.end().await;
}

#[tokio::test]
async fn data_that_are_no_json_in_utf_8_and_nul_bytes_are_refused() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("binary", "true").data(b"{\"umask\": \"\xff\"}"));
    assert!(refusal(&pod, "binary").await.starts_with("data: "));
    pod.launch(Task::shell("half", "true").data(b"{\"umask\": "));
    assert!(refusal(&pod, "half").await.starts_with("data: "));
    pod.launch(Task::shell("base64", "true").with("data", json!("%%%")));
    assert!(refusal(&pod, "base64").await.starts_with("data: "));
    pod.launch(Task::shell("nul", "echo a\0b"));
    let text = refusal(&pod, "nul").await;
    assert!(text.starts_with("command.value: ") && text.ends_with("must not contain NUL bytes"), "{text}");
    pod.launch(Task::shell("nul-in-data", "true").settings(&json!({"groups": ["a\0b"]})));
    assert!(refusal(&pod, "nul-in-data").await.starts_with("data.groups[0]: "));
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn one_wrong_task_refuses_its_group_and_nothing_of_it_is_started() {
    let pod = Pod::start().await;
    pod.group([
        Task::shell("good", "echo started"),
        Task::shell("bad", "true").settings(&json!({"pids": 0})),
        Task::shell("fine", "echo started"),
    ]);
    refusal(&pod, "bad").await;
    for id in ["good", "fine"] {
        let status = pod.wait(id, Error).await;
        assert_eq!(reason(&status), "REASON_TASK_GROUP_INVALID");
        assert_eq!(message(&status), "task bad of its group is invalid");
        assert_eq!(pod.states(id), [Error]);
    }
    works(&pod, "later").await;
    for id in ["good", "bad", "fine"] {
        assert!(!pod.sandbox(id).exists(), "{id}");
    }
    let bases = kube_executor_tests::cgroups::named(|name| name == pod.cgroup_base());
    assert!(bases.iter().all(|base| !base.join("good").exists()));
    pod.end().await;
}

#[tokio::test]
async fn a_dependency_that_was_never_there_and_a_cycle_are_refused() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("a", "true").settings(&json!({"depends_on": ["nobody"]})));
    let text = refusal(&pod, "a").await;
    assert_eq!(
        text,
        "data.depends_on[0]: \"nobody\": must be a task of this launch or one that this executor has"
    );
    let depends = |id: &str, on: &str| Task::shell(id, "true").settings(&json!({"depends_on": [on]}));
    pod.group([depends("x", "y"), depends("y", "z"), depends("z", "x"), Task::shell("w", "true")]);
    let text = refusal(&pod, "x").await;
    assert_eq!(text, "data.depends_on: x -> y -> z -> x: must not form a cycle");
    for id in ["y", "z", "w"] {
        assert_eq!(reason(&pod.wait(id, Error).await), "REASON_TASK_GROUP_INVALID");
    }
    pod.group([
        Task::shell("one", "true").with("name", json!("same")),
        Task::shell("two", "true").with("name", json!("same")),
    ]);
    assert!(refusal(&pod, "two").await.starts_with("name: \"same\""));
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn a_task_id_that_is_known_is_ignored_without_an_update() {
    let pod = Pod::start().await;
    pod.launch(Task::idle("a"));
    pod.wait("a", Running).await;
    pod.launch(Task::shell("a", "echo another"));
    pod.launch(Task::shell("a", "true").settings(&json!({"pids": 0})));
    pod.group([Task::idle("a"), Task::shell("b", "true")]);
    pod.wait("b", Finished).await;
    works(&pod, "later").await;
    assert_eq!(pod.states("a"), [Starting, Running]);
    assert_eq!(pod.stdout("a"), "");
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    pod.end().await;
}

#[tokio::test]
async fn a_malformed_or_oversized_record_costs_the_connection_and_no_task() {
    let pod = Pod::start().await;
    pod.launch(Task::idle("a"));
    pod.wait("a", Running).await;
    let bad: [&[u8]; 4] = [b"no number\n", b"9\nnot json!", b"99999999999\n", b"-5\n"];
    for (number, bytes) in bad.into_iter().enumerate() {
        pod.agent.send_raw_bytes(bytes);
        pod.agent.wait_subscriptions(number + 2).await;
        pod.agent.wait_subscribed().await;
    }
    works(&pod, "later").await;
    assert_eq!(pod.states("a"), [Starting, Running]);
    pod.end().await;
}

#[tokio::test]
async fn events_that_make_no_sense_are_ignored_alone() {
    let pod = Pod::start().await;
    for event in [
        json!({"type": "DRAIN", "drain": {"x": 1}}),
        json!({"type": "KILL"}),
        json!({"type": "KILL", "kill": {"task_id": {"value": 7}}}),
        json!({"type": "LAUNCH", "launch": {"task": {"name": "without an id"}}}),
        json!({"type": "LAUNCH", "launch": {"task": ["a list"]}}),
        json!({"type": "LAUNCH_GROUP", "launch_group": {"task_group": {"tasks": []}}}),
        json!({"type": "LAUNCH_GROUP", "launch_group": {}}),
        json!({"type": "MESSAGE", "message": {"data": "aGVsbG8="}}),
        json!({"type": "MESSAGE", "message": {"data": "no base64!"}}),
        json!({"type": "ACKNOWLEDGED", "acknowledged": {"task_id": {"value": "x"}, "uuid": "AAAA"}}),
        json!({"type": "ERROR", "error": {"message": "bad"}}),
        json!({"type": "HEARTBEAT", "of_a_later_version": true}),
        json!({"type": 7}),
        json!({}),
        json!([]),
        json!(null),
    ] {
        pod.agent.send_event(&event);
    }
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn fields_and_names_of_a_later_mesos_are_no_error() {
    let pod = Pod::start().await;
    let task = Task::shell("a", "true")
        .with("of_a_later_version", json!({"x": [1, 2]}))
        .with("labels", json!({"labels": [{"key": "k", "value": "v", "more": 1}]}))
        .with("discovery", json!({"visibility": "COSMIC"}))
        .with("health_check", json!(null));
    pod.launch(task);
    pod.wait("a", Finished).await;
    let later =
        json!({"type": "LAUNCH_GROUP", "more": 1, "launch_group": {"task_group": {"more": 2, "tasks": []}}});
    pod.agent.send_event(&later);
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn absurd_sizes_are_refused_or_fail_and_harm_nothing() {
    let pod = Pod::start().await;
    // More than the kernel takes as one argument.
    pod.launch(Task::shell("long", &"x".repeat(3 << 20)));
    assert_eq!(
        refusal(&pod, "long").await,
        "command.value: 3145728 bytes: must be an argument of at most 131071 bytes"
    );
    // The longest that it takes.
    pod.launch(Task::shell("longest", &format!("exit 0{}", " ".repeat(131_065))));
    pod.wait("longest", Finished).await;
    let variables: Vec<Value> =
        (0..20_000).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(200)})).collect();
    pod.launch(Task::shell("wide", "true").command("environment", json!({"variables": variables})));
    let text = refusal(&pod, "wide").await;
    assert!(text.starts_with("command: ") && text.contains("must be at most 1966080 bytes"), "{text}");
    let variables: Vec<Value> =
        (0..1800).map(|n| json!({"name": format!("V{n}"), "value": "x".repeat(1000)})).collect();
    pod.launch(Task::shell("full", "true").command("environment", json!({"variables": variables})));
    pod.wait("full", Finished).await;
    let id = "i".repeat(256);
    pod.launch(Task::shell(&id, "true"));
    assert!(refusal(&pod, &id).await.starts_with("task_id.value: "));
    let id = "j".repeat(255);
    pod.launch(Task::shell(&id, "true"));
    pod.wait(&id, Finished).await;
    let many: Vec<Value> = (0..10_000).map(|n| json!(format!("t{n}"))).collect();
    pod.launch(Task::shell("dependent", "true").settings(&json!({"depends_on": many})));
    assert!(refusal(&pod, "dependent").await.len() < 1000);
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn an_account_that_is_not_there_is_refused_by_its_field_and_name() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("user", "true").command("user", json!("nemo")));
    assert_eq!(
        refusal(&pod, "user").await,
        "command.user: \"nemo\": must be a user of this host, or a number"
    );
    pod.launch(Task::bare("inner").settings(&json!({"command": {"value": "true", "user": "nemo"}})));
    assert!(refusal(&pod, "inner").await.starts_with("data.command.user: \"nemo\""));
    pod.launch(Task::shell("group", "true").settings(&json!({"groups": ["daemon", "nemo"]})));
    assert_eq!(
        refusal(&pod, "group").await,
        "data.groups[1]: \"nemo\": must be a group of this host, or a number"
    );
    pod.end().await;
}

#[tokio::test]
async fn what_is_wrong_with_the_executor_refuses_its_tasks_and_it_ends_when_idle() {
    let data = br#"{"network": {"bridge": {"cluster": "c", "address": "nowhere", "gateway": "10.0.0.1"}}}"#;
    for (data, field, value) in [
        (&data[..], "ExecutorInfo.data.network.bridge.address", "\"nowhere\""),
        (br#"{"nmae": "x"}"#, "ExecutorInfo.data.nmae", "\"x\""),
        (b"{", "ExecutorInfo.data", "1 bytes"),
        (b"\xff", "ExecutorInfo.data", "1 bytes"),
        (br#"{"name": "a b"}"#, "ExecutorInfo.data.name", "\"a b\""),
    ] {
        let options = Options { executor_data: Some(data.to_vec()), ..Options::default() };
        let pod = Pod::with(options, &["--idle-timeout", "0.5"]).await;
        pod.group([Task::shell("a", "true"), Task::shell("b", "true")]);
        for id in ["a", "b"] {
            let text = refusal(&pod, id).await;
            assert!(text.starts_with(&format!("{field}: {value}: ")), "{text}");
            assert!(!pod.sandbox(id).exists(), "{id}");
        }
        pod.ended().await;
    }
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_refused_with_their_field_and_nothing_is_started() {
    let pod = Pod::start().await;
    let launch = |tasks: &[Value]| {
        let event = json!({"type": "LAUNCH_GROUP", "launch_group": {"task_group": {"tasks": tasks}}});
        // A real agent passes on what it got, byte for byte.
        let text = event.to_string().into_bytes();
        text.into_iter().map(|byte| if byte == b'~' { 0xff } else { byte }).collect::<Vec<u8>>()
    };
    let command = |id: &str, text: &str| task_info(id, &json!({"command": {"value": text}}));
    pod.agent.launch_raw(&["bad", "good"], &launch(&[command("good", "true"), command("bad", "echo ~")]));
    assert_eq!(
        refusal(&pod, "bad").await,
        "command.value: \"echo \u{fffd}\": must be UTF-8: the bytes that are not show as \u{fffd}"
    );
    assert_eq!(reason(&pod.wait("good", Error).await), "REASON_TASK_GROUP_INVALID");
    assert!(!pod.sandbox("good").exists() && !pod.sandbox("bad").exists());
    let event = json!({"type": "LAUNCH", "launch": {"task": command("alone", "true")}});
    let event = event.to_string().replace("\"name\":\"alone\"", "\"name\":\"al~ne\"");
    let event: Vec<u8> = event.bytes().map(|byte| if byte == b'~' { 0xff } else { byte }).collect();
    pod.agent.launch_raw(&["alone"], &event);
    assert!(refusal(&pod, "alone").await.starts_with("name: \"al\u{fffd}ne\": must be UTF-8"));
    assert_eq!(pod.agent.log().subscriptions, 1);
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn a_document_that_no_value_can_hold_is_refused_and_not_forgotten() {
    let pod = Pod::start().await;
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (number, odd) in [deep.as_str(), r#""\ud800""#, "1e999"].into_iter().enumerate() {
        let id = format!("odd-{number}");
        let mut task = task_info(&id, &json!({"command": {"value": "true"}, "labels": "ODD"}));
        task["labels"] = json!("ODD");
        let event = json!({"type": "LAUNCH", "launch": {"task": task}}).to_string().replace("\"ODD\"", odd);
        pod.agent.launch_raw(&[&id], event.as_bytes());
        let text = refusal(&pod, &id).await;
        assert!(text.contains("must be JSON"), "{text}");
    }
    works(&pod, "later").await;
    pod.end().await;
}

#[tokio::test]
async fn a_start_that_fails_is_retried_as_its_restart_policy_says() {
    let pod = Pod::start().await;
    let restart = json!({"restart": {"policy": "on-failure", "delay_seconds": 0, "limit": 2}});
    pod.launch(Task::argv("a", &["./no-such-file"]).settings(&restart));
    let status: TaskStatus = pod.wait("a", Failed).await;
    assert!(message(&status).contains("./no-such-file"), "{}", message(&status));
    assert!(
        message(&status).ends_with("it was restarted 2 times in a row, which is its limit"),
        "{}",
        message(&status)
    );
    pod.end().await;
}
