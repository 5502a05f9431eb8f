//! The same bytes to a real Mesos agent and to a real endpoint: the same statuses, headers and decoded answers.
//!
//! ```text
//!  one kube-executor with two tasks -> control socket -> exec-endpoint: container E.T is task T of the executor with container E
//!            '- its container E -> the rig's agent: container E.T is nested in it by LAUNCH_NESTED_CONTAINER
//! ```
//! So both know the same containers, tasks, executor and framework by the same ids. What differs of necessity is a list with a
//! reason each ([`necessary`]); one that is no longer needed fails the test.

#[path = "operator/both.rs"]
mod both;
#[path = "operator/necessary.rs"]
mod necessary;
#[path = "operator/requests.rs"]
mod requests;

use kube_executor_tests::operator::{Asked, records};
use mesos::protobuf::{self, schema};
use mesos::recordio;
use serde_json::{Value, json};
use tokio::time::Instant;

use both::{ATTEMPTS, Both, is_lost, post, what};
use requests::{
    INPUT, JSON, JSON_TYPE, PATH, PROTOBUF, PROTOBUF_TYPE, RECORDIO, STREAM, echo, input, input_id,
    of_container, resize, session, stdin,
};

async fn header_rules(both: &Both) {
    let health = br#"{"type":"GET_HEALTH"}"#;
    for headers in requests::HEADERS {
        both.same(headers, health, &[]).await;
    }
    let closing = &[("Content-Type", JSON_TYPE), ("Connection", "close")];
    both.same(closing, health, necessary::CLOSING).await;
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        both.same_at(&Asked { method, path: PATH, headers: JSON, body: b"" }, &[]).await;
    }
    both.same(INPUT, &recordio::encode(health), &[]).await;
    let unknown = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
        {"type": "CONTAINER_ID", "container_id": {"value": "nope"}}});
    both.same(JSON, unknown.to_string().as_bytes(), &[]).await;
    let body = session(&both.fresh(), &echo("x")).to_string();
    let recorded = recordio::encode(body.as_bytes());
    both.same(INPUT, &recorded, &[]).await;
    for body in [&b"\x08\x01"[..], b"", b"\xff\xff", b"\x08\x02\x08\x01", b"\xba\x01\x00"] {
        both.same(PROTOBUF, body, &[]).await;
    }
}

async fn bodies(both: &Both) {
    for body in requests::UNREADABLE {
        both.same(JSON, body.as_bytes(), necessary::PARSERS_WORDS).await;
    }
    for body in requests::READABLE_BUT_WRONG {
        both.same(JSON, body.as_bytes(), &[]).await;
    }
    for bad in ["", "a.b", "a/b", "a\\b", "a b", "a\u{1}b", ".", "..", &"x".repeat(243)] {
        both.call("KILL_CONTAINER", &json!({"value": bad}), &[]).await;
        both.call("WAIT_CONTAINER", &json!({"value": "x", "parent": {"value": bad}}), &[]).await;
    }
}

async fn unknown_containers(both: &Both) {
    let child = json!({"value": "nope", "parent": {"value": both.container}});
    let (top, below) = (json!({"value": "nope"}), json!({"value": "x", "parent": {"value": "nope"}}));
    for kind in [
        "WAIT_CONTAINER",
        "WAIT_NESTED_CONTAINER",
        "KILL_CONTAINER",
        "KILL_NESTED_CONTAINER",
        "REMOVE_CONTAINER",
        "REMOVE_NESTED_CONTAINER",
    ] {
        both.call(kind, &child, &[]).await;
        // A real agent dies of REMOVE_CONTAINER of an unknown top-level container: no fixture.
        if !kind.starts_with("REMOVE") {
            both.call(kind, &top, &[]).await;
            both.call(kind, &below, &[]).await;
        }
    }
    both.call("REMOVE_CONTAINER", &both.task(), &[]).await;
    for container in [&child, &top, &below, &both.task(), &json!({"value": both.container})] {
        both.same(STREAM, of_container("ATTACH_CONTAINER_OUTPUT", container).as_bytes(), &[]).await;
        both.same(INPUT, &input_id(container), &[]).await;
    }
    for parent in [json!({"value": "zz"}), json!({"value": "zz", "parent": {"value": both.container}})] {
        let body = session(&json!({"value": "s", "parent": parent}), &echo("x")).to_string();
        both.same(STREAM, body.as_bytes(), &[]).await;
    }
    let body = session(&json!({"value": "s"}), &echo("x")).to_string();
    both.same(STREAM, body.as_bytes(), &[]).await;
    both.same(STREAM, session(&both.task(), &echo("x")).to_string().as_bytes(), &[]).await;
}

async fn sessions(both: &Both) {
    let formats: &[&[(&str, &str)]] = &[
        STREAM,
        &[("Content-Type", JSON_TYPE), ("Accept", RECORDIO), ("Message-Accept", PROTOBUF_TYPE)],
        &[("Content-Type", JSON_TYPE)],
        &[("Content-Type", JSON_TYPE), ("Accept", PROTOBUF_TYPE)],
    ];
    for headers in formats {
        let id = both.fresh();
        let body = session(&id, &json!({"value": "echo hello; echo error >&2; exit 3"}));
        let answered = both.same(headers, body.to_string().as_bytes(), &[]).await;
        assert_eq!(answered.decoded(), json!({"STDOUT": "hello\n", "STDERR": "error\n"}));
        let waited = both.call("WAIT_CONTAINER", &id, &[]).await.decoded();
        assert_eq!(waited.pointer("/wait_container/exit_status"), Some(&json!(3 << 8)));
        both.call("WAIT_NESTED_CONTAINER", &id, &[]).await;
    }
    let id = both.fresh();
    let call = session(&id, &json!({"value": "printf", "arguments": ["printf", "x%s", "y"], "shell": false}));
    let bytes = protobuf::encode(&schema::CALL, &call).unwrap();
    let headers = [("Content-Type", PROTOBUF_TYPE), ("Accept", RECORDIO), ("Message-Accept", PROTOBUF_TYPE)];
    assert_eq!(both.same(&headers, &bytes, &[]).await.decoded(), json!({"STDOUT": "xy"}));
    let wait = serde_json::from_str(&of_container("WAIT_CONTAINER", &id)).unwrap();
    both.same(PROTOBUF, &protobuf::encode(&schema::CALL, &wait).unwrap(), &[]).await;
    // The id of one that has ended, until it is removed and after that.
    both.same(&headers, &bytes, &[]).await;
    // The stream ends before the container has.
    both.call("WAIT_CONTAINER", &id, &[]).await;
    both.call("REMOVE_CONTAINER", &id, &[]).await;
    both.same(&headers, &bytes, &[]).await;
    both.call("WAIT_CONTAINER", &id, &[]).await;
    for kind in ["KILL_CONTAINER", "REMOVE_CONTAINER", "REMOVE_NESTED_CONTAINER", "WAIT_CONTAINER"] {
        both.call(kind, &id, &[]).await;
    }

    let id = both.fresh();
    both.same(STREAM, session(&id, &json!({"value": "kill -9 $$"})).to_string().as_bytes(), &[]).await;
    both.call("WAIT_CONTAINER", &id, &[]).await;
}

/// Sessions that an agent refuses, or that cannot be started.
async fn refused_sessions(both: &Both) {
    for command in [
        json!({"value": "no-such-program", "arguments": ["no-such-program"], "shell": false}),
        json!({"value": "/etc", "arguments": ["etc"], "shell": false}),
    ] {
        let id = both.fresh();
        both.same(STREAM, session(&id, &command).to_string().as_bytes(), necessary::NOT_STARTED).await;
        both.call("WAIT_CONTAINER", &id, &[]).await;
    }
    let id = both.fresh();
    let nobody = session(&id, &json!({"value": "true", "user": "no-such-user"})).to_string();
    both.same(STREAM, nobody.as_bytes(), necessary::NO_SUCH_USER).await;
    both.call("WAIT_CONTAINER", &id, &[]).await;
    let mut unshared = session(&both.fresh(), &echo("x"));
    unshared["launch_nested_container_session"]["container"] =
        json!({"type": "MESOS", "linux_info": {"share_cgroups": false}});
    both.same(STREAM, unshared.to_string().as_bytes(), &[]).await;
    let headers = [("Content-Type", PROTOBUF_TYPE), ("Accept", RECORDIO), ("Message-Accept", JSON_TYPE)];
    both.same(&headers, &protobuf::encode(&schema::CALL, &unshared).unwrap(), &[]).await;
    unshared["launch_nested_container_session"]["container"]["linux_info"] = json!({"share_cgroups": true});
    both.same(STREAM, unshared.to_string().as_bytes(), &[]).await;
    for command in [json!({}), json!({"shell": false}), json!({"shell": true})] {
        let id = both.fresh();
        both.same(STREAM, session(&id, &command).to_string().as_bytes(), &[]).await;
        both.call("WAIT_CONTAINER", &id, &[]).await;
    }
}

async fn terminals(both: &Both) {
    let with_terminal = |text: &str, tty: Value| {
        let mut body = session(&both.fresh(), &json!({"value": text}));
        body["launch_nested_container_session"]["container"] = json!({"type": "MESOS", "tty_info": tty});
        body
    };
    let size = json!({"window_size": {"rows": 30, "columns": 100}});
    let body = with_terminal("echo output; echo error >&2; test -t 0 && exit 5", size.clone());
    let id = body["launch_nested_container_session"]["container_id"].clone();
    let answered = both.same(STREAM, body.to_string().as_bytes(), &[]).await;
    assert_eq!(answered.decoded(), json!({"STDOUT": "output\r\nerror\r\n"}));
    both.call("WAIT_CONTAINER", &id, &[]).await;
    let body = with_terminal("stty size", size).to_string();
    let answered = both.same(STREAM, body.as_bytes(), necessary::FIRST_SIZE).await;
    assert_eq!(answered.decoded(), json!({"STDOUT": "30 100\r\n"}));

    let body = with_terminal("stty -echo; echo ready; read x; stty size; read y; echo $x$y", json!({}));
    let id = body["launch_nested_container_session"]["container_id"].clone();
    let mut streams = both.sessions(&body).await;
    for stream in &mut streams {
        stream.until("ready").await.unwrap();
    }
    // Data of no length ends no terminal's input.
    let records = [input_id(&id), resize(50, 120), stdin(b""), stdin(b"a\n"), stdin(b"b\n")].concat();
    let inputs = both.inputs(&records).await;
    let said = both.rest("a terminal", streams, &[]).await;
    assert_eq!(said, json!({"STDOUT": "ready\r\n50 120\r\nab\r\n"}));
    drop(inputs);
    both.call("WAIT_CONTAINER", &id, &[]).await;
}

async fn inputs(both: &Both) {
    let id = both.fresh();
    let cat = session(&id, &json!({"value": "cat", "arguments": ["cat"], "shell": false}));
    let mut streams = both.sessions(&cat).await;
    both.same(STREAM, cat.to_string().as_bytes(), &[]).await;
    // The end of the body is not the end of the input.
    both.same(INPUT, &input_id(&id), &[]).await;
    let held = both.inputs(&[input_id(&id), stdin(b"first ")].concat()).await;
    for stream in &mut streams {
        stream.until("first").await.unwrap();
    }
    both.same(INPUT, &input_id(&id), &[]).await;
    both.call("REMOVE_CONTAINER", &id, &[]).await;
    let attach = of_container("ATTACH_CONTAINER_OUTPUT", &id);
    let attach = post(STREAM, attach.as_bytes());
    let (theirs, ours) = tokio::join!(both.agent.start(&attach), both.ours.start(&attach));
    let seconds = [theirs.unwrap(), ours.unwrap()];
    let heartbeat = input(&json!({"type": "CONTROL", "control": {"type": "HEARTBEAT",
        "heartbeat": {"interval": {"nanoseconds": 30_000_000_000_i64}}}}));
    for one in &held {
        for record in [&stdin(b"second"), &heartbeat, &stdin(b"")] {
            one.send(record).await.unwrap();
        }
    }
    both.finish("an input with its end", held, &[]).await;
    let waited = both.call("WAIT_CONTAINER", &id, &[]).await.decoded();
    assert_eq!(waited.pointer("/wait_container/exit_status"), Some(&json!(0)));
    assert_eq!(both.rest("a session", streams, &[]).await, json!({"STDOUT": "first second"}));
    assert_eq!(both.rest("a second output", seconds, &[]).await, json!({"STDOUT": "second"}));
    both.same(INPUT, &input_id(&id), &[]).await;
    both.same(STREAM, attach.body, &[]).await;
}

async fn protobuf_inputs(both: &Both) {
    let id = both.fresh();
    let cat = session(&id, &json!({"value": "cat", "arguments": ["cat"], "shell": false}));
    let streams = both.sessions(&cat).await;
    let json = [input_id(&id), stdin(b"\0\xff\n"), stdin(b"")].concat();
    let record = |json: &bytes::Bytes| {
        let call = serde_json::from_slice(json).unwrap();
        recordio::encode(&protobuf::encode(&schema::CALL, &call).unwrap())
    };
    let body: Vec<u8> = records(&json).iter().flat_map(record).collect();
    let headers =
        [("Content-Type", RECORDIO), ("Message-Content-Type", PROTOBUF_TYPE), ("Accept", PROTOBUF_TYPE)];
    both.same(&headers, &body, &[]).await;
    both.same(&headers, &recordio::encode(b"\xff\xff"), &[]).await;
    both.same(&headers, &recordio::encode(b""), &[]).await;
    both.rest("a session with input in protobuf", streams, &[]).await;
    both.call("WAIT_CONTAINER", &id, &[]).await;
}

async fn wrong_inputs(both: &Both) {
    both.same(INPUT, b"", &[]).await;
    both.same(INPUT, &stdin(b"x"), &[]).await;
    for length in [&b"x\n"[..], b"\n"] {
        both.same(INPUT, length, &[]).await;
    }
    both.same(INPUT, &recordio::encode(b"{"), necessary::PARSERS_WORDS).await;
    both.same(INPUT, &recordio::encode(b""), necessary::PARSERS_WORDS).await;
    for record in requests::wrong_inputs() {
        wrong_input(both, |_| record.clone()).await;
    }
    wrong_input(both, input_id).await;
}

/// A wrong record after the first, each time for a new session.
async fn wrong_input(both: &Both, record: impl Fn(&Value) -> Vec<u8>) {
    for _ in 0..ATTEMPTS {
        let id = both.fresh();
        let streams = both.sessions(&session(&id, &json!({"value": "exec sleep 1000"}))).await;
        let records = [input_id(&id), record(&id)].concat();
        let [theirs, ours] = both.once(&post(INPUT, &records)).await;
        drop(streams);
        if !is_lost(&theirs) {
            return both.compare(&what(&post(INPUT, &records)), &ours, &theirs, &[]);
        }
    }
    panic!("an input is lost {ATTEMPTS} times");
}

async fn ends(both: &Both) {
    for (signal, status) in [(Some(15), 15), (None, 9)] {
        let id = both.fresh();
        let mut streams =
            both.sessions(&session(&id, &json!({"value": "echo ready; exec sleep 1000"}))).await;
        for stream in &mut streams {
            stream.until("ready").await.unwrap();
        }
        let mut kill = json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": id}});
        if let Some(signal) = signal {
            kill["kill_container"]["signal"] = json!(signal);
        }
        both.same(JSON, kill.to_string().as_bytes(), &[]).await;
        let waited = both.call("WAIT_CONTAINER", &id, &[]).await.decoded();
        assert_eq!(waited.pointer("/wait_container/exit_status"), Some(&json!(status)));
        both.rest("a session that was killed", streams, &[]).await;
    }
    let id = both.fresh();
    drop(both.sessions(&session(&id, &json!({"value": "exec sleep 1000"}))).await);
    let waited = both.call("WAIT_CONTAINER", &id, &[]).await.decoded();
    assert_eq!(waited.pointer("/wait_container/exit_status"), Some(&json!(9)));
}

async fn a_task_with_a_terminal(both: &Both) {
    let attach = of_container("ATTACH_CONTAINER_OUTPUT", &both.terminal());
    let attach = post(STREAM, attach.as_bytes());
    let (theirs, ours) = tokio::join!(both.agent.start(&attach), both.ours.start(&attach));
    let mut outputs = [theirs.unwrap(), ours.unwrap()];
    let held = both.inputs(&[input_id(&both.terminal()), resize(20, 90), stdin(b"hello\n")].concat()).await;
    for output in &mut outputs {
        output.until("hello\\r\\nhello\\r\\n").await.unwrap();
    }
    both.same(INPUT, &input_id(&both.terminal()), &[]).await;
    both.finish("the input of a task with a terminal", held, &[]).await;
}

async fn reads(both: &Both) {
    for (kind, but) in [
        ("GET_HEALTH", &[][..]),
        ("GET_VERSION", necessary::VERSION),
        ("GET_TASKS", necessary::TASKS),
        ("GET_STATE", necessary::STATE),
        ("GET_CONTAINERS", necessary::CONTAINERS),
    ] {
        let call = json!({"type": kind});
        both.same(JSON, call.to_string().as_bytes(), but).await;
        both.same(PROTOBUF, &protobuf::encode(&schema::CALL, &call).unwrap(), but).await;
    }
    let nested = br#"{"type":"GET_CONTAINERS","get_containers":{"show_nested":true}}"#;
    both.same(JSON, nested, necessary::NESTED).await;
}

/// What the dcos CLI reads besides: of the endpoint alone, whose tasks' files are not where an agent has them.
async fn files(both: &Both) {
    let get = async |path: &str| {
        let asked = Asked { method: "GET", path, headers: &[], body: b"" };
        both.ours.send(&asked).await.expect("an answer")
    };
    let state = get("/mesos/master/state.json").await.decoded();
    let tasks = state.pointer("/frameworks/0/tasks").and_then(Value::as_array).expect("tasks");
    let task = tasks.iter().find(|task| task["id"] == both.terminal.as_str()).expect("the task");
    assert_eq!(task["statuses"][0]["container_status"]["container_id"], both.terminal());
    let here = format!("/slave/{}", task["slave_id"].as_str().expect("an agent"));
    let state = get(&format!("{here}/state.json")).await.decoded();
    let folder = state.pointer("/frameworks/0/executors/0/directory").and_then(Value::as_str);
    let folder = format!("{}/tasks/{}", folder.expect("a folder"), both.terminal);
    let read = async |query: &str| {
        get(&format!("{here}/files/read.json?path={folder}/stdout&{query}")).await.decoded()
    };
    // What was typed is shown, and what cat wrote.
    let length = "hello\r\nhello\r\n".len();
    assert_eq!(read("offset=-1&length=0").await, json!({"data": "", "offset": length}));
    assert_eq!(read("offset=2&length=3").await, json!({"data": "llo", "offset": 2}));
    assert_eq!(read("offset=100").await, json!({"data": "", "offset": 100}));
    for path in ["/etc/passwd", &format!("{folder}/../../../../etc/passwd"), &format!("{folder}/.."), "/"] {
        let answered = get(&format!("{here}/files/read?path={path}&offset=0")).await;
        assert_eq!(answered.status, 404, "{path}");
    }
    assert_eq!(get("/slave/nobody/state").await.status, 404);
}

async fn the_tasks_end(both: &Both) {
    let kill =
        json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": both.task(), "signal": 15}});
    both.same(JSON, kill.to_string().as_bytes(), &[]).await;
    both.call("WAIT_CONTAINER", &both.task(), &[]).await;
    both.call("WAIT_NESTED_CONTAINER", &both.task(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_answers_as_a_real_agent_does() {
    let both = Both::start().await;
    let begun = Instant::now();
    reads(&both).await;
    header_rules(&both).await;
    bodies(&both).await;
    unknown_containers(&both).await;
    // An agent takes a second or two for the end of each session.
    tokio::join!(
        sessions(&both),
        refused_sessions(&both),
        terminals(&both),
        inputs(&both),
        protobuf_inputs(&both),
        wrong_inputs(&both),
        ends(&both),
        a_task_with_a_terminal(&both)
    );
    files(&both).await;
    the_tasks_end(&both).await;
    both.end().await;
    eprintln!("compared in {:?}", begun.elapsed());
}
