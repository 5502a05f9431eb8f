//! The same bytes to a real Mesos agent and to the endpoint's handler: the same statuses, headers and decoded answers.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kube_executor_tests::describe::{Program, argv_task};
use kube_executor_tests::framework::{self, Framework};
use kube_executor_tests::operator::{Answered, Served, send, serve};
use kube_executor_tests::rig::{self, Rig};
use mesos::common::{AgentId, TaskId, TaskState};
use mesos::protobuf::{self, schema};
use mesos::recordio::{self, Decoder};
use serde_json::{Value, json};
use task::control::{Pod, Task};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PATH: &str = "/slave(1)/api/v1";
const JSON: &[(&str, &str)] = &[("Content-Type", "application/json"), ("Accept", "application/json")];
const STREAM: &[(&str, &str)] = &[
    ("Content-Type", "application/json"),
    ("Accept", "application/recordio"),
    ("Message-Accept", "application/json"),
];
const INPUT: &[(&str, &str)] = &[
    ("Content-Type", "application/recordio"),
    ("Message-Content-Type", "application/json"),
    ("Accept", "application/json"),
];

/// What of two answers must be equal besides status and headers.
#[derive(Clone, Copy, PartialEq)]
enum Compare {
    /// The body: to the letter if it is text, decoded if it is messages.
    Body,
    /// Nothing: the texts name what differs (a parser's words, a folder).
    Status,
}

/// A real agent with an executor's container, and the endpoint with a pod of that id.
struct Both {
    rig: Rig,
    _framework: Framework,
    served: Served,
    container: String,
    agent: AgentId,
    /// What was not the same, all of it.
    different: RefCell<Vec<String>>,
}

impl Both {
    async fn start() -> Self {
        let options = rig::Options {
            environment: vec![("MESOS_EXECUTOR_REGISTRATION_TIMEOUT".to_owned(), "10mins".to_owned())],
            ..rig::Options::default()
        };
        let rig = Rig::start(options).await.expect("a rig");
        let framework =
            Framework::subscribe(rig.master(), framework::Options::default()).await.expect("a framework");
        let executor = Program::new(Path::new("/bin/sleep")).argument("100000").pod("operator-0");
        let agent =
            framework.launch_group(&executor, vec![argv_task("operator-0-a", &["true"])]).await.unwrap();
        let address = rig.master();
        let container = loop {
            let answered = send(address, "POST", PATH, JSON, br#"{"type":"GET_CONTAINERS"}"#).await.unwrap();
            let answer: Value = serde_json::from_slice(&answered.body).unwrap();
            if let Some(container) = answer.pointer("/get_containers/containers/0/container_id/value") {
                break container.as_str().unwrap().to_owned();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let pod = Pod {
            name: "operator-0".to_owned(),
            framework_id: framework.id().value.clone(),
            framework: "tests".to_owned(),
            agent_id: agent.value.clone(),
            hostname: "localhost".to_owned(),
            executor_id: executor.executor_id.value.clone(),
            container_id: container.clone(),
            address: "127.0.0.1".parse().unwrap(),
            own_network: false,
            started_at: 0,
            sandbox: "/sandbox".to_owned(),
            tasks: vec![task("t1")],
        };
        let served = serve(pod).await.unwrap();
        let both =
            Self { rig, _framework: framework, served, container, agent, different: RefCell::default() };
        let nested = json!({"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container":
            {"container_id": both.task(), "command": {"value": "exec sleep 100000"}}});
        // The first attempts may come before the executor's container has been entered.
        for _ in 0..100 {
            let answered = send(address, "POST", PATH, JSON, nested.to_string().as_bytes()).await.unwrap();
            if answered.status == 200 {
                return both;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the agent starts no nested container")
    }

    fn task(&self) -> Value {
        json!({"value": "t1", "parent": {"value": self.container}})
    }

    fn fresh(&self) -> Value {
        json!({"value": uuid::Uuid::new_v4().to_string(), "parent": self.task()})
    }

    fn servers(&self) -> [SocketAddr; 2] {
        [self.rig.master(), self.served.address]
    }

    /// Sends the same bytes to both and compares; returns the endpoint's answer.
    async fn same(&self, headers: &[(&str, &str)], body: &[u8], compare: Compare) -> Answered {
        self.same_at("POST", PATH, headers, body, compare).await
    }

    async fn same_at(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        compare: Compare,
    ) -> Answered {
        let [agent, endpoint] = self.servers();
        let theirs = send(agent, method, path, headers, body).await.unwrap();
        let ours = send(endpoint, method, path, headers, body).await.unwrap();
        let what = format!("{headers:?} {}", String::from_utf8_lossy(body));
        let mut differences = Vec::new();
        if ours.status != theirs.status {
            differences.push(format!("status {} is not {}", ours.status, theirs.status));
        }
        for name in ["content-type", "message-content-type", "allow"] {
            if ours.header(name) != theirs.header(name) {
                differences.push(format!("{name} {:?} is not {:?}", ours.header(name), theirs.header(name)));
            }
        }
        if compare == Compare::Body && decoded(&ours) != decoded(&theirs) {
            differences.push(format!("body {} is not {}", decoded(&ours), decoded(&theirs)));
        }
        if !differences.is_empty() {
            self.different.borrow_mut().push(format!("{what}\n    {}", differences.join("\n    ")));
        }
        ours
    }

    async fn call(&self, kind: &str, container: &Value, compare: Compare) -> Answered {
        self.same(JSON, of_container(kind, container).as_bytes(), compare).await
    }
}

fn task(id: &str) -> Task {
    Task {
        id: TaskId::new(id),
        name: "operator-0-a".to_owned(),
        state: TaskState::Running.into(),
        since: 1_700_000_000_000,
        launched_at: 1_700_000_000_000,
        started_at: None,
        last_end: None,
        healthy: None,
        ready: None,
        restarts: 0,
        reason: None,
        message: None,
        pid: None,
        user: None,
        command: vec!["sleep".to_owned()],
        terminal: false,
        resources: Vec::new(),
        sandbox: "/sandbox/tasks/t1".to_owned(),
        usage: None,
    }
}

fn of_container(kind: &str, container: &Value) -> String {
    json!({"type": kind, kind.to_lowercase(): {"container_id": container}}).to_string()
}

fn session(container: &Value, command: &Value) -> Value {
    json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION",
        "launch_nested_container_session": {"container_id": container, "command": command}})
}

fn input_id(container: &Value) -> Vec<u8> {
    recordio::encode(
        json!({"type": "ATTACH_CONTAINER_INPUT",
            "attach_container_input": {"type": "CONTAINER_ID", "container_id": container}})
        .to_string()
        .as_bytes(),
    )
}

fn input(process_io: &Value) -> Vec<u8> {
    recordio::encode(
        json!({"type": "ATTACH_CONTAINER_INPUT",
            "attach_container_input": {"type": "PROCESS_IO", "process_io": process_io}})
        .to_string()
        .as_bytes(),
    )
}

fn stdin(base64: &str) -> Vec<u8> {
    input(&json!({"type": "DATA", "data": {"type": "STDIN", "data": base64}}))
}

/// What an answer says: text; a message; or of a stream all bytes of each of its outputs.
fn decoded(answered: &Answered) -> Value {
    let records = answered.header("message-content-type");
    match records.or(answered.header("content-type")) {
        _ if answered.body.is_empty() => Value::Null,
        Some("application/json") if !answered.body.starts_with(b"{") || records.is_some() => {
            outputs(answered, |record| serde_json::from_slice(record).unwrap())
        }
        Some("application/json") => serde_json::from_slice(&answered.body).unwrap(),
        Some("application/x-protobuf") if records.is_some() || answered.body[0].is_ascii_digit() => {
            outputs(answered, |record| protobuf::decode(&schema::PROCESS_IO, record).unwrap())
        }
        Some("application/x-protobuf") => protobuf::decode(&schema::RESPONSE, &answered.body).unwrap(),
        _ => Value::from(String::from_utf8_lossy(&answered.body)),
    }
}

fn outputs(answered: &Answered, read: impl Fn(&[u8]) -> Value) -> Value {
    let mut decoder = Decoder::new(1 << 20);
    decoder.extend(&answered.body);
    let mut all = BTreeMap::<String, String>::new();
    while let Some(record) = decoder.next().unwrap() {
        let io: mesos::agent::ProcessIo = serde_json::from_value(read(&record)).unwrap();
        let Some(data) = io.data else { continue };
        let stream = data.kind.unwrap().name().to_owned();
        *all.entry(stream).or_default() += &String::from_utf8(data.data.unwrap().0).unwrap();
    }
    json!(all)
}

/// A request whose body goes on: its connection is closed when dropped.
async fn open(server: SocketAddr, headers: &[(&str, &str)], first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server).await.unwrap();
    let mut head = format!("POST {PATH} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    chunk(&mut stream, first).await;
    stream
}

async fn chunk(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(format!("{:x}\r\n", bytes.len()).as_bytes()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
}

/// Starts a session and leaves its stream open, its headers read.
async fn start_session(server: SocketAddr, body: &Value) -> TcpStream {
    let mut stream = open(server, STREAM, body.to_string().as_bytes()).await;
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

async fn header_rules(both: &Both) {
    let health = br#"{"type":"GET_HEALTH"}"#;
    let (content, accept, r) = ("Content-Type", "Accept", "application/recordio");
    let (j, p) = ("application/json", "application/x-protobuf");
    let rules: &[&[(&str, &str)]] = &[
        &[],
        &[(content, "text/plain")],
        &[(content, "application/json; charset=utf-8")],
        &[(content, "APPLICATION/JSON")],
        &[(content, j)],
        &[(content, j), (accept, "*/*")],
        &[(content, j), (accept, "text/html")],
        &[(content, j), (accept, p)],
        &[(content, j), (accept, "application/x-protobuf, application/json")],
        &[(content, j), (accept, r)],
        &[(content, j), (accept, r), ("Message-Accept", j)],
        &[(content, j), (accept, r), ("Message-Accept", "text/x")],
        &[(content, j), (accept, j), ("Message-Accept", j)],
        &[(content, j), (accept, j), ("Message-Content-Type", j)],
        &[(content, r), (accept, j)],
        &[(content, r), (accept, j), ("Message-Content-Type", "text/x")],
    ];
    for headers in rules {
        both.same(headers, health, Compare::Body).await;
    }
    for method in ["GET", "PUT"] {
        both.same_at(method, PATH, JSON, b"", Compare::Body).await;
    }
    both.same(INPUT, &recordio::encode(health), Compare::Body).await;
    both.same(JSON, of_container("WAIT_CONTAINER", &json!({"value": "nope"})).as_bytes(), Compare::Body)
        .await;
    let unknown = json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input":
        {"type": "CONTAINER_ID", "container_id": {"value": "nope"}}});
    both.same(JSON, unknown.to_string().as_bytes(), Compare::Body).await;
    let protobuf = &[(content, p), (accept, p)];
    both.same(protobuf, b"\x08\x01", Compare::Body).await;
    both.same(protobuf, b"", Compare::Body).await;
    both.same(protobuf, b"\xff\xff", Compare::Body).await;
}

async fn bodies_and_unknown_containers(both: &Both) {
    for body in ["", "{", "{\"type\":3}", "{\"type\":\"WAIT_CONTAINER\",\"wait_container\":{}}"] {
        both.same(JSON, body.as_bytes(), Compare::Status).await;
    }
    for body in
        ["[]", "null", "{}", "{\"type\":\"NOPE\"}", "{\"type\":\"UNKNOWN\"}", "{\"type\":\"WAIT_CONTAINER\"}"]
    {
        both.same(JSON, body.as_bytes(), Compare::Body).await;
    }
    for bad in ["", "a.b", "a/b", "a b", "..", &"x".repeat(243)] {
        both.call("KILL_CONTAINER", &json!({"value": bad}), Compare::Body).await;
    }
    let child = json!({"value": "nope", "parent": {"value": both.container}});
    for kind in [
        "WAIT_CONTAINER",
        "WAIT_NESTED_CONTAINER",
        "KILL_CONTAINER",
        "KILL_NESTED_CONTAINER",
        "REMOVE_CONTAINER",
        "REMOVE_NESTED_CONTAINER",
    ] {
        both.call(kind, &child, Compare::Body).await;
        // A real agent dies of REMOVE_CONTAINER of an unknown top-level container: no fixture.
        if !kind.starts_with("REMOVE") {
            both.call(kind, &json!({"value": "nope"}), Compare::Body).await;
            both.call(kind, &json!({"value": "x", "parent": {"value": "nope"}}), Compare::Body).await;
        }
    }
    let task = both.task();
    for container in [&child, &task, &json!({"value": both.container})] {
        both.same(STREAM, of_container("ATTACH_CONTAINER_OUTPUT", container).as_bytes(), Compare::Body).await;
        both.same(INPUT, &input_id(container), Compare::Body).await;
    }
    both.same(INPUT, b"", Compare::Body).await;
    both.same(INPUT, &stdin("eA=="), Compare::Body).await;
    both.same(INPUT, b"x\n", Compare::Status).await;
    both.same(INPUT, &recordio::encode(b"{"), Compare::Status).await;
    for parent in [json!({"value": "zz"}), json!({"value": "zz", "parent": {"value": both.container}})] {
        let body = session(&json!({"value": "s", "parent": parent}), &json!({"value": "true"}));
        both.same(STREAM, body.to_string().as_bytes(), Compare::Body).await;
    }
    let body = session(&json!({"value": "s"}), &json!({"value": "true"}));
    both.same(STREAM, body.to_string().as_bytes(), Compare::Body).await;
}

async fn sessions(both: &Both) {
    let (j, p, r) = ("application/json", "application/x-protobuf", "application/recordio");
    let formats: &[&[(&str, &str)]] = &[
        STREAM,
        &[("Content-Type", j), ("Accept", r), ("Message-Accept", p)],
        &[("Content-Type", j)],
        &[("Content-Type", j), ("Accept", p)],
    ];
    for headers in formats {
        let id = both.fresh();
        let body = session(&id, &json!({"value": "echo hello; echo error >&2; exit 3"}));
        let answered = both.same(headers, body.to_string().as_bytes(), Compare::Body).await;
        assert_eq!(decoded(&answered), json!({"STDOUT": "hello\n", "STDERR": "error\n"}));
        let waited = both.call("WAIT_CONTAINER", &id, Compare::Body).await;
        assert_eq!(decoded(&waited).pointer("/wait_container/exit_status"), Some(&json!(768)));
        both.call("WAIT_NESTED_CONTAINER", &id, Compare::Body).await;
    }
    let id = both.fresh();
    let call = session(&id, &json!({"value": "printf", "arguments": ["printf", "x%s", "y"], "shell": false}));
    let bytes = protobuf::encode(&schema::CALL, &call).unwrap();
    let protobuf = [("Content-Type", p), ("Accept", r), ("Message-Accept", p)];
    assert_eq!(decoded(&both.same(&protobuf, &bytes, Compare::Body).await), json!({"STDOUT": "xy"}));
    let wait =
        protobuf::encode(&schema::CALL, &serde_json::from_str(&of_container("WAIT_CONTAINER", &id)).unwrap());
    both.same(&[("Content-Type", p), ("Accept", p)], &wait.unwrap(), Compare::Body).await;

    let id = both.fresh();
    both.same(STREAM, session(&id, &json!({"value": "kill -9 $$"})).to_string().as_bytes(), Compare::Body)
        .await;
    both.call("WAIT_CONTAINER", &id, Compare::Body).await;

    let mut body = session(&both.fresh(), &json!({"value": "test -t 0 && echo yes; exit 5"}));
    body["launch_nested_container_session"]["container"] = json!({"type": "MESOS", "tty_info": {}});
    let answered = both.same(STREAM, body.to_string().as_bytes(), Compare::Body).await;
    assert_eq!(decoded(&answered), json!({"STDOUT": "yes\r\n"}));
}

async fn inputs_and_signals(both: &Both) {
    let id = both.fresh();
    let cat = session(&id, &json!({"value": "cat", "arguments": ["cat"], "shell": false}));
    let mut streams = Vec::new();
    for server in both.servers() {
        streams.push(start_session(server, &cat).await);
    }
    both.same(INPUT, &input_id(&id), Compare::Body).await;
    let held = [
        open(both.servers()[0], INPUT, &input_id(&id)).await,
        open(both.servers()[1], INPUT, &input_id(&id)).await,
    ];
    let mut refused = false;
    for _ in 0..100 {
        let [theirs, ours] = both.servers();
        let second = input_id(&id);
        let [theirs, ours] = [
            send(theirs, "POST", PATH, INPUT, &second).await.unwrap(),
            send(ours, "POST", PATH, INPUT, &second).await.unwrap(),
        ];
        if theirs.status == 409 && ours.status == 409 {
            assert_eq!(decoded(&ours), decoded(&theirs));
            refused = true;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(refused, "a second input is never refused");
    both.call("REMOVE_CONTAINER", &id, Compare::Body).await;
    for mut one in held {
        chunk(&mut one, &stdin("aGVsbG8=")).await;
        chunk(&mut one, &stdin("")).await;
        one.write_all(b"0\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 15];
        one.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200 OK");
    }
    let waited = both.call("WAIT_CONTAINER", &id, Compare::Body).await;
    assert_eq!(decoded(&waited).pointer("/wait_container/exit_status"), Some(&json!(0)));
    for mut stream in streams {
        let mut rest = String::new();
        // A real agent may close without the last chunk.
        drop(stream.read_to_string(&mut rest).await);
        assert!(rest.contains("aGVsbG8="), "{rest}");
    }
    bad_input(both).await;

    let id = both.fresh();
    let sleep = session(&id, &json!({"value": "exec sleep 1000"}));
    let streams =
        [start_session(both.servers()[0], &sleep).await, start_session(both.servers()[1], &sleep).await];
    let kill = json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": id, "signal": 15}});
    both.same(JSON, kill.to_string().as_bytes(), Compare::Body).await;
    let waited = both.call("WAIT_CONTAINER", &id, Compare::Body).await;
    assert_eq!(decoded(&waited).pointer("/wait_container/exit_status"), Some(&json!(15)));
    drop(streams);

    let id = both.fresh();
    let sleep = session(&id, &json!({"value": "exec sleep 1000"}));
    for server in both.servers() {
        drop(start_session(server, &sleep).await);
    }
    let waited = both.call("WAIT_CONTAINER", &id, Compare::Body).await;
    assert_eq!(decoded(&waited).pointer("/wait_container/exit_status"), Some(&json!(9)));
}

async fn bad_input(both: &Both) {
    for bad in [
        json!({"type": "DATA", "data": {"type": "STDOUT", "data": "aGk="}}),
        json!({"type": "DATA", "data": {"type": "STDIN"}}),
        json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": {"window_size": {"rows": 1, "columns": 2}}}}),
        json!({"type": "CONTROL", "control": {"type": "TTY_INFO", "tty_info": {}}}),
        json!({"type": "CONTROL"}),
        json!({"type": "CONTROL", "control": {"type": "HEARTBEAT"}}),
        json!({"type": "CONTROL", "control": {"type": "HEARTBEAT", "heartbeat": {}}}),
    ] {
        let id = both.fresh();
        let body = session(&id, &json!({"value": "exec sleep 1000"}));
        let streams =
            [start_session(both.servers()[0], &body).await, start_session(both.servers()[1], &body).await];
        let records = [input_id(&id), input(&bad)].concat();
        both.same(INPUT, &records, Compare::Body).await;
        drop(streams);
    }
}

async fn reads(both: &Both) {
    both.same(JSON, br#"{"type":"GET_HEALTH"}"#, Compare::Body).await;
    let mut versions = Vec::new();
    let mut containers = Vec::new();
    for server in both.servers() {
        let version = send(server, "POST", PATH, JSON, br#"{"type":"GET_VERSION"}"#).await.unwrap();
        versions.push(decoded(&version).pointer("/get_version/version_info/version").cloned());
        let answered = send(server, "POST", PATH, JSON, br#"{"type":"GET_CONTAINERS"}"#).await.unwrap();
        let mut container = decoded(&answered).pointer("/get_containers/containers/0").cloned().unwrap();
        container.as_object_mut().unwrap().remove("resource_statistics");
        container["container_status"].as_object_mut().unwrap().remove("executor_pid");
        containers.push(container);
        let tasks = send(server, "POST", PATH, JSON, br#"{"type":"GET_TASKS"}"#).await.unwrap();
        let tasks = decoded(&tasks);
        let lists: Vec<_> = tasks["get_tasks"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(lists.len(), 5, "{tasks}");
    }
    assert_eq!(versions[0], versions[1]);
    assert_eq!(containers[0], containers[1]);

    let here = format!("/slave/{}", both.agent);
    let get = async |path: String| send(both.served.address, "GET", &path, &[], b"").await.unwrap();
    let state = decoded(&get("/mesos/master/state.json".to_owned()).await);
    let status = &state["frameworks"][0]["tasks"][0]["statuses"][0];
    assert_eq!(status["container_status"]["container_id"], both.task());
    let state = decoded(&get(format!("{here}/state.json")).await);
    let executor = &state["frameworks"][0]["executors"][0];
    let file = format!("{}/tasks/t1/stdout", executor["directory"].as_str().unwrap());
    let read = |query: &str| get(format!("{here}/files/read.json?path={file}&{query}"));
    assert_eq!(decoded(&read("offset=-1&length=0").await), json!({"data": "", "offset": 11}));
    assert_eq!(decoded(&read("offset=2&length=3").await), json!({"data": "234", "offset": 2}));
    assert_eq!(decoded(&read("offset=100").await), json!({"data": "", "offset": 100}));
    for path in ["/etc/passwd", "/sandbox/tasks/t1/../../../etc/passwd", "/sandbox/tasks/t1/..", "/sandbox"] {
        let answered = get(format!("{here}/files/read?path={path}&offset=0")).await;
        assert_eq!(answered.status, 404, "{path}");
    }
    assert_eq!(get("/slave/nobody/state".to_owned()).await.status, 404);
}

#[tokio::test]
async fn the_endpoint_answers_as_a_real_agent_does() {
    let both = Both::start().await;
    header_rules(&both).await;
    bodies_and_unknown_containers(&both).await;
    sessions(&both).await;
    inputs_and_signals(&both).await;
    reads(&both).await;
    let different = both.different.take();
    assert!(different.is_empty(), "{} answers differ:\n{}", different.len(), different.join("\n"));
    let gone = Arc::new(exec_endpoint::inventory::Inventory::default());
    both.served.inventory.send_replace(gone);
    let wait = of_container("WAIT_CONTAINER", &both.task());
    let answered = send(both.served.address, "POST", PATH, JSON, wait.as_bytes()).await;
    assert_eq!(answered.unwrap().status, 404);
}
