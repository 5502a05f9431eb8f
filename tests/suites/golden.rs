//! What a real agent sends and takes, to the field: captured anew, and compared with the files in `golden/`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p kube-executor-tests --test golden` writes the files.

use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use kube_executor_tests::describe::{TaskInfoExt as _, built_executor, duration, shell_task};
use kube_executor_tests::golden::{Names, check, is_part};
use kube_executor_tests::http;
use kube_executor_tests::log::Log;
use kube_executor_tests::stage::Stage;
use kube_executor_tests::tap::{self, Exchange, Tap, Taped, Updates};
use mesos::common::{
    CheckCommand, CheckInfo, CheckType, CommandInfo, ContainerId, ExecutorInfo, KillPolicy, TaskId, TaskInfo,
    TaskState,
};
use mesos::executor::{Call, Event};
use serde_json::{Value, json};
use task::settings::{Check, PodSettings, TaskSettings};

use TaskState::{Killed, Running, Starting};

/// A real agent, an executor that reaches it through a tap, and names for all that differs.
struct Capture {
    stage: Stage,
    tap: Tap,
    pod: ExecutorInfo,
    names: Names,
}

impl Capture {
    async fn start(pod: &str) -> Self {
        let stage = Stage::start().await;
        let tap = Tap::start(stage.rig.master()).await;
        let endpoint = tap.endpoint().to_string();
        let program = stage.program().clone().variable("MESOS_AGENT_ENDPOINT", &endpoint);
        let pod = program.pod_with(&PodSettings { name: Some(pod.to_owned()), ..PodSettings::default() });
        let mut names = Names::new();
        names.add(stage.rig.folder().display().to_string(), "/FOLDER");
        names.add(built_executor().unwrap().display().to_string(), "/KUBE-EXECUTOR");
        names.add(endpoint, "127.0.0.1:5051");
        names.add(stage.rig.master().to_string(), "127.0.0.1:5050");
        Self { stage, tap, pod, names }
    }

    async fn launch(&self, tasks: Vec<TaskInfo>) {
        self.stage.launch(&self.pod, tasks).await;
    }

    /// Waits for an event that is as wanted; checks its golden file, and that it can be read.
    async fn event(&self, name: &str, wanted: impl Fn(&Value) -> bool) {
        let find = |tape: &[Taped]| {
            tape.iter().find_map(|taped| match taped {
                Taped::Event(record) => {
                    let event: Value = serde_json::from_slice(record).ok()?;
                    wanted(&event).then_some(event)
                }
                Taped::Call(_) => None,
            })
        };
        let event = self.tap.wait_for(name, find).await;
        assert_event_is_read(&check(&format!("event-{name}"), &self.names.normalise(&event)));
    }

    /// Waits for a call that is as wanted; checks the golden file of it and its answer, and that it can be read.
    async fn call(&self, name: &str, wanted: impl Fn(&Value) -> bool) {
        let find = |tape: &[Taped]| {
            tape.iter().find_map(|taped| match taped {
                Taped::Call(exchange) => {
                    let call: Value = serde_json::from_slice(&exchange.body).ok()?;
                    wanted(&call).then_some((exchange.clone(), call))
                }
                Taped::Event(_) => None,
            })
        };
        let (exchange, call) = self.tap.wait_for(name, find).await;
        let golden = check(&format!("call-{name}"), &self.exchanged(&exchange, &call));
        assert_call_is_read(&golden["call"]);
    }

    async fn update(&self, name: &str, wanted: impl Fn(&Value) -> bool) {
        self.call(name, |call| call["type"] == "UPDATE" && wanted(&call["update"]["status"])).await;
    }

    fn exchanged(&self, exchange: &Exchange, call: &Value) -> Value {
        json!({
            "path": exchange.path,
            "content_type": exchange.content_type,
            "accept": exchange.accept,
            "call": self.names.normalise(call),
            "answer": {"status": exchange.status, "text": self.names.text(&exchange.text)},
        })
    }
}

fn assert_event_is_read(golden: &Value) {
    let event = Event::parse(golden.to_string().as_bytes()).unwrap();
    match event {
        Event::Subscribed(subscribed) => {
            let again = serde_json::to_value(&subscribed).unwrap();
            assert_eq!(is_part(&again, &golden["subscribed"]), Ok(()));
            assert!(subscribed.container_id.is_some());
        }
        Event::Launch(task) => assert_task_is_read(task.get(), &golden["launch"]["task"]),
        Event::LaunchGroup(tasks) => {
            let all = golden["launch_group"]["task_group"]["tasks"].as_array().unwrap();
            assert_eq!(tasks.len(), all.len());
            for (task, golden) in tasks.iter().zip(all) {
                assert_task_is_read(task.get(), golden);
            }
        }
        Event::Kill { task_id, kill_policy } => {
            let again = json!({"task_id": task_id, "kill_policy": kill_policy});
            let mut kill = golden["kill"].clone();
            kill.as_object_mut().unwrap().entry("kill_policy").or_insert(Value::Null);
            assert_eq!(again, kill);
        }
        Event::Acknowledged { task_id, uuid } => {
            assert_eq!(json!({"task_id": task_id, "uuid": uuid}), golden["acknowledged"]);
        }
        Event::Message(data) => assert_eq!(json!({"data": data}), golden["message"]),
        Event::Shutdown => {}
        other => panic!("{other:?} has no golden file"),
    }
}

fn assert_task_is_read(raw: &str, golden: &Value) {
    let task: TaskInfo = serde_json::from_str(raw).unwrap();
    assert_eq!(is_part(&serde_json::to_value(&task).unwrap(), golden), Ok(()));
}

fn assert_call_is_read(golden: &Value) {
    let call: Call = mesos::common::parse(golden.to_string().as_bytes()).unwrap();
    assert_eq!(serde_json::to_value(&call).unwrap(), *golden);
}

fn of_task(value: &Value, task: &TaskId) -> bool {
    value["task_id"]["value"] == task.as_str()
}

fn command(text: &str) -> CommandInfo {
    CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() }
}

/// A task with everything whose form on the wire matters.
fn rich_task() -> TaskInfo {
    let readiness = Check {
        role: "readiness".to_owned(),
        command: Some(command("true")),
        interval_seconds: Some(0.1),
        timeout_seconds: Some(5.0),
        ..Check::default()
    };
    let mut task = shell_task("golden-0-rich", "exec sleep 100000")
        .variable("NAME", "value")
        .grace(Duration::from_millis(2500))
        .settings(&TaskSettings { checks: vec![readiness], ..TaskSettings::default() });
    task.check = Some(CheckInfo {
        kind: Some(CheckType::Command.into()),
        // Later than the first readiness, of which it is a part, so that the order is always the same.
        delay_seconds: Some(1.0),
        interval_seconds: Some(100.0),
        timeout_seconds: Some(5.0),
        command: Some(CheckCommand { command: command("exit 0") }),
        http: None,
        tcp: None,
    });
    task
}

#[tokio::test]
async fn a_real_agent_says_and_takes_what_it_did_before() {
    let capture = Capture::start("golden-0").await;
    let framework = &capture.stage.framework;
    let (rich, plain) = (rich_task(), shell_task("golden-0-plain", "exec sleep 100000"));
    let (rich_id, plain_id) = (rich.task_id.clone(), plain.task_id.clone());
    capture.launch(vec![rich, plain]).await;
    capture.call("subscribe", |call| call["type"] == "SUBSCRIBE").await;
    capture.event("subscribed", |event| event["type"] == "SUBSCRIBED").await;
    capture.event("launch_group", |event| event["type"] == "LAUNCH_GROUP").await;

    let is = |status: &Value, state: TaskState| status["state"] == state.as_str();
    capture.update("update-starting", |status| of_task(status, &rich_id) && is(status, Starting)).await;
    capture.update("update-running", |status| of_task(status, &rich_id) && is(status, Running)).await;
    let checked = |status: &Value| !status["check_status"]["command"]["exit_code"].is_null();
    capture.update("update-checked", |status| of_task(status, &rich_id) && checked(status)).await;
    let ready = |status: &Value| {
        let labels = status["labels"]["labels"].as_array();
        labels.into_iter().flatten().any(|label| label["key"] == "ready" && label["value"] == "true")
    };
    capture.update("update-ready", |status| of_task(status, &rich_id) && ready(status)).await;
    capture
        .event("acknowledged", |event| {
            event["type"] == "ACKNOWLEDGED" && of_task(&event["acknowledged"], &plain_id)
        })
        .await;

    framework.message(&capture.pod.executor_id, b"hello").await.unwrap();
    capture.event("message", |event| event["type"] == "MESSAGE").await;

    let policy = KillPolicy { grace_period: Some(duration(Duration::from_millis(1500))) };
    framework.kill_with(&rich_id, Some(policy)).await.unwrap();
    capture
        .event("kill-with-policy", |event| event["type"] == "KILL" && of_task(&event["kill"], &rich_id))
        .await;
    capture
        .update("update-killing", |status| of_task(status, &rich_id) && status["state"] == "TASK_KILLING")
        .await;
    capture.update("update-killed", |status| of_task(status, &rich_id) && is(status, Killed)).await;
    capture.stage.ended(&plain_id).await;

    let late = shell_task("golden-0-launched", "exec sleep 100000");
    let late_id = late.task_id.clone();
    framework.launch(&capture.pod, vec![late]).await.unwrap();
    capture.event("launch", |event| event["type"] == "LAUNCH").await;
    capture.stage.state(&late_id, Running).await;
    framework.kill(&late_id).await.unwrap();
    capture.event("kill", |event| event["type"] == "KILL" && of_task(&event["kill"], &late_id)).await;
    capture.stage.ended(&late_id).await;

    framework.shutdown_executor(&capture.pod.executor_id).await.unwrap();
    capture.event("shutdown", |event| event["type"] == "SHUTDOWN").await;
    capture.stage.end().await;
}

#[tokio::test]
async fn a_real_agent_takes_a_subscription_with_what_is_unacknowledged() {
    let capture = Capture::start("golden-1").await;
    capture.tap.updates(Updates::Refuse);
    let task = shell_task("golden-1-a", "exec sleep 100000");
    let id = task.task_id.clone();
    capture.launch(vec![task]).await;
    // Both updates are made, and neither is taken.
    let log = || std::fs::read_to_string(capture.stage.sandbox(&capture.pod.executor_id).join("stderr"));
    capture
        .tap
        .wait_for("a launch", |tape| {
            let is_launch = |taped: &Taped| matches!(taped, Taped::Event(record) if record.windows(12).any(|part| part == b"LAUNCH_GROUP"));
            tape.iter().any(is_launch).then_some(())
        })
        .await;
    kube_executor_tests::stage::until("TASK_RUNNING at the executor", || {
        log().ok()?.contains("state=TASK_RUNNING").then_some(())
    })
    .await;
    capture.tap.cut();
    let both = |call: &Value| {
        let body = &call["subscribe"];
        let count = |list: &str| body[list].as_array().map_or(0, Vec::len);
        call["type"] == "SUBSCRIBE"
            && (count("unacknowledged_tasks"), count("unacknowledged_updates")) == (1, 2)
    };
    capture.call("subscribe-again", both).await;
    // They came with the subscription: no UPDATE was passed on.
    capture.stage.state(&id, Running).await;
    assert_eq!(capture.stage.states(&id), [Starting, Running]);
    capture.tap.updates(Updates::Pass);
    capture.stage.end().await;
}

/// A call that is wrong in one thing.
struct Wrong<'a> {
    name: &'a str,
    content_type: Option<&'a str>,
    accept: Option<&'a str>,
    path: &'a str,
    body: Bytes,
}

const PATH: &str = "/slave(1)/api/v1/executor";
const JSON: &str = "application/json";

fn wrong<'a>(name: &'a str, body: &Value) -> Wrong<'a> {
    Wrong { name, content_type: Some(JSON), accept: Some(JSON), path: PATH, body: body.to_string().into() }
}

/// Changes one place of a call; `Null` takes it away.
fn with(call: &Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').expect("a path");
    let mut call = call.clone();
    let parent = call.pointer_mut(parent).expect("a place").as_object_mut().expect("an object");
    match value {
        Value::Null => drop(parent.remove(key)),
        value => drop(parent.insert(key.to_owned(), value)),
    }
    call
}

/// Calls that a real agent refuses, whoever makes them: an executor must never make one, or know the answer.
fn wrong_calls<'a>(update: &Value, subscribe: &Value) -> Vec<Wrong<'a>> {
    let status = "/update/status";
    let at = |field: &str| format!("{status}/{field}");
    let short = "AAAAAAAAQAA=";
    let version_7 = "AZSAAAAAcACAAAAAAAAAAA==";
    vec![
        Wrong {
            content_type: Some("application/json; charset=utf-8"),
            ..wrong("content-type-with-charset", update)
        },
        Wrong { content_type: Some("text/plain"), ..wrong("content-type-other", update) },
        Wrong { content_type: None, ..wrong("content-type-missing", update) },
        Wrong { accept: Some("text/plain"), ..wrong("accept-other", subscribe) },
        Wrong { path: "/slave(1)/api/v1/executors", ..wrong("path-unknown", update) },
        Wrong { body: Bytes::from_static(b"{\"type\""), ..wrong("not-json", update) },
        wrong("type-unknown", &with(update, "/type", json!("LATER"))),
        wrong("type-missing", &with(update, "/type", Value::Null)),
        wrong("executor-id-missing", &with(update, "/executor_id", Value::Null)),
        wrong("framework-id-missing", &with(update, "/framework_id", Value::Null)),
        wrong("framework-unknown", &with(update, "/framework_id/value", json!("nobody"))),
        wrong(
            "executor-unknown",
            &with(&with(update, "/executor_id/value", json!("nobody")), &at("executor_id"), Value::Null),
        ),
        wrong("executor-another", &with(update, &at("executor_id"), json!({"value": "nobody"}))),
        wrong("subscribe-without-body", &with(subscribe, "/subscribe", Value::Null)),
        wrong("update-without-body", &with(update, "/update", Value::Null)),
        wrong("uuid-missing", &with(update, &at("uuid"), Value::Null)),
        wrong("uuid-short", &with(update, &at("uuid"), json!(short))),
        wrong("uuid-version-7", &with(update, &at("uuid"), json!(version_7))),
        wrong("uuid-not-base64", &with(update, &at("uuid"), json!("?"))),
        wrong("source-missing", &with(update, &at("source"), Value::Null)),
        wrong("source-agent", &with(update, &at("source"), json!("SOURCE_AGENT"))),
        wrong("state-staging", &with(update, &at("state"), json!("TASK_STAGING"))),
        wrong("state-unknown", &with(update, &at("state"), json!("TASK_LATER"))),
        wrong("state-number", &with(update, &at("state"), json!(1))),
        wrong("check-status-without-type", &with(update, &at("check_status"), json!({"command": {}}))),
        wrong("check-status-without-body", &with(update, &at("check_status"), json!({"type": "COMMAND"}))),
        wrong("task-id-missing", &with(update, &at("task_id"), Value::Null)),
    ]
}

#[tokio::test]
async fn a_real_agent_refuses_what_it_refused_before_in_the_same_words() {
    let capture = Capture::start("golden-2").await;
    let id = capture.stage.run(&capture.pod, shell_task("golden-2-a", "exec sleep 100000")).await;
    let agent = capture.stage.rig.master();
    let (executor, framework) = (&capture.pod.executor_id, capture.stage.framework.id());
    let container = ContainerId::new(capture.stage.container(executor)).nested(id.as_str());
    let update = json!({
        "type": "UPDATE", "executor_id": executor, "framework_id": framework,
        "update": {"status": {
            "task_id": id, "state": "TASK_RUNNING", "source": "SOURCE_EXECUTOR", "executor_id": executor,
            "uuid": "3q2+796tQACAAAAAAAAAAA==", "container_status": {"container_id": container},
        }},
    });
    let subscribe = json!({
        "type": "SUBSCRIBE", "executor_id": executor, "framework_id": framework, "subscribe": {},
    });
    let mut answers = serde_json::Map::new();
    for wrong in wrong_calls(&update, &subscribe) {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("agent"));
        let given = [(CONTENT_TYPE, wrong.content_type), (ACCEPT, wrong.accept)];
        for (name, value) in given {
            headers.extend(value.map(|value| (name, HeaderValue::from_str(value).unwrap())));
        }
        let response = tap::post(agent, wrong.path, &headers, wrong.body.clone()).await.unwrap();
        let status = response.status().as_u16();
        let text = capture.names.text(&http::text(response).await.unwrap());
        assert!((400..600).contains(&status), "{}: {status} {text}", wrong.name);
        answers.insert(wrong.name.to_owned(), json!({"status": status, "text": text}));
    }
    // The words for what they are called in this test.
    let names: Vec<String> = vec![executor.value.clone(), framework.value.clone()];
    let text = serde_json::to_string(&answers).unwrap();
    assert!(!names.iter().any(|name| text.contains(name)), "{text}");
    let golden = check("refused", &answers.into());
    let status = |name: &str| golden[name]["status"].as_u64();
    assert_eq!(status("uuid-version-7"), Some(400));
    assert_eq!(status("content-type-with-charset"), Some(415));
    assert_eq!(status("executor-unknown"), Some(400));

    // None of them did anything.
    let log: Log = capture.stage.framework.log();
    assert_eq!(log.states(&id), [Starting, Running], "{log}");
    // And the same call without a mistake is taken.
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("agent"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    let response = tap::post(agent, PATH, &headers, update.to_string().into()).await.unwrap();
    assert_eq!(response.status().as_u16(), 202);
    capture.stage.end().await;
}
