//! The stock dcos CLI 0.6.1, known by a token, through a real endpoint into real tasks. It never returns a command's exit code: WAIT_CONTAINER
//! tells it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::process::{Command, Output};

use kube_executor_tests::endpoint::{Client, POLICY, Spoken, Stand, USER};
use kube_executor_tests::pod::{Signal, Task, send, touch, wait_until};
use kube_executor_tests::stage::until;
use kube_executor_tests::streams::{feed, noise};
use kube_executor_tests::terminal::Terminal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// The token of alice, of the group `ops`, and of mallory, who may do nothing.
const TOKENS: [(&str, &str, &str); 2] = [
    ("3f9c1f7a2b6d4e8091a5c7d3e2f4b6a8", "alice", "ops"),
    ("77aa33ee0192837465afbecd00112233", "mallory", "none"),
];
const TASK: &str = "etcd-0-peer";

/// A pod, an endpoint that knows tokens, and alice with hers.
struct Dcos {
    stand: Stand,
    client: Client,
    _tokens: TempDir,
}

impl Dcos {
    async fn start(task: Task) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the tokens");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("open the folder");
        let file = folder.path().join("tokens");
        let lines = TOKENS.map(|(token, user, group)| {
            let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hash} {user} {group}\n")
        });
        fs::write(&file, lines.concat()).expect("write the tokens");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("close the tokens");
        chown(&file, Some(USER.1), None).expect("give the tokens to the endpoint");
        let arguments = ["--tokens", &file.to_string_lossy()];
        let stand = Stand::with(POLICY, &arguments, [(TASK, task)]).await;
        let client = stand.endpoint.client("alice", "ops");
        Self { stand, client, _tokens: folder }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.client.dcos(TOKENS[0].0, arguments)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("run dcos")
    }

    /// Runs it to a good end and returns its output.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(0), "dcos {arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A call of the operator API, by curl with alice's certificate.
    fn call(&self, call: &Value) -> Option<Value> {
        let body = call.to_string();
        let json =
            ["-s", "-H", "content-type: application/json", "-H", "accept: application/json", "-d", &body];
        let output = self.client.curl(&json, "/api/v1").output().expect("run curl");
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The container of the only session there is, once there is one.
    async fn session(&self) -> Value {
        let call = json!({"type": "GET_CONTAINERS", "get_containers": {"show_nested": true}});
        until("a session's container", || {
            let answer = self.call(&call)?;
            let all = answer["get_containers"]["containers"].as_array()?.clone();
            let ids = all.into_iter().map(|mut one| one["container_id"].take());
            ids.into_iter().find(|id| id["parent"]["parent"].is_object())
        })
        .await
    }

    /// The status of `wait(2)` that a session ended by.
    fn waited(&self, container: &Value) -> Value {
        let call = json!({"type": "WAIT_CONTAINER", "wait_container": {"container_id": container}});
        let answer = self.call(&call).expect("an answer to WAIT_CONTAINER");
        answer["wait_container"]["exit_status"].clone()
    }

    async fn end(self) {
        self.stand.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_are_listed() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let table = dcos.text(&["task"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["NAME", "HOST", "USER", "STATE", "ID"], "{table}");
    assert_eq!((rows[1][0], rows[1][3], rows[1][4]), (TASK, "R", TASK), "{table}");
    let listed: Value = serde_json::from_str(&dcos.text(&["task", "--json"])).expect("JSON");
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&json!(TASK), &json!("TASK_RUNNING")));
    // The CLI begins in the executor's folder.
    assert_eq!(dcos.text(&["task", "ls", TASK]).trim(), "tasks");
    let files = dcos.text(&["task", "ls", TASK, &format!("tasks/{TASK}")]);
    assert!(files.contains("stdout") && files.contains("stderr"), "{files}");
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_or_no_token_sees_and_does_nothing() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let of = |token: &str, arguments: &[&str]| {
        let output = dcos.client.dcos(token, arguments).output().expect("run dcos");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let (_, table, _) = of(TOKENS[1].0, &["task"]);
    assert!(!table.contains(TASK), "{table}");
    let (code, _, said) = of(TOKENS[1].0, &["task", "exec", TASK, "true"]);
    assert!(code != Some(0) && said.contains("Cannot find a task"), "{said}");
    let (code, table, said) = of("no-such-token", &["task"]);
    assert!(code != Some(0) && !table.contains(TASK), "{table}{said}");
    assert!(!said.contains("Traceback"), "{said}");
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_is_answered_as_what_is_not_there_and_is_in_the_audit() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let stranger = dcos.stand.endpoint.client("mallory", "none");
    let ask = |arguments: &[&str], path: &str| {
        let common = ["-s", "-w", "\n%{http_code}"];
        let output = stranger.curl(&[&common, arguments].concat(), path).output().expect("run curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let containers = json!({"type": "GET_CONTAINERS", "get_containers": {}});
    let containers = dcos.call(&containers).expect("containers");
    let pod = containers["get_containers"]["containers"][0]["container_id"].clone();
    let task = |id: &str| json!({"value": id, "parent": pod});
    let calls = |id: &str| {
        let session = json!({"value": "mine", "parent": task(id)});
        [
            json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session":
                {"container_id": session, "command": {"value": "true"}}}),
            json!({"type": "ATTACH_CONTAINER_OUTPUT", "attach_container_output": {"container_id": task(id)}}),
            json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": task(id)}}),
            json!({"type": "WAIT_CONTAINER", "wait_container": {"container_id": task(id)}}),
        ]
    };
    for ((known, unknown), status) in calls(TASK).iter().zip(calls("none")).zip([400, 404, 404, 404]) {
        let post = |call: &Value| {
            let streams = ["LAUNCH_NESTED_CONTAINER_SESSION", "ATTACH_CONTAINER_OUTPUT"];
            let accept = if streams.iter().any(|one| call["type"] == *one) { "recordio" } else { "json" };
            let (body, accept) = (call.to_string(), format!("accept: application/{accept}"));
            let mut headers = vec!["-H", "content-type: application/json", "-H", &accept];
            if accept.ends_with("recordio") {
                headers.extend(["-H", "message-accept: application/json"]);
            }
            ask(&[&headers[..], &["-d", &body]].concat(), "/api/v1")
        };
        let (known, unknown) = (post(known), post(&unknown));
        assert_eq!(known.replace(TASK, "none"), unknown);
        assert!(known.ends_with(&format!("\n{status}")), "{known}");
    }
    let file = |id: &str| {
        let sandbox = dcos.stand.pod.sandbox(id);
        ask(&[], &format!("/files/read?path={}/stdout&offset=0", sandbox.display()))
    };
    assert_eq!((file(TASK), file("none")), ("\n404".to_owned(), "\n404".to_owned()));
    let audit = dcos.stand.endpoint.audit();
    let lines: Vec<&Value> = audit.iter().filter(|line| line["user"] == "mallory").collect();
    assert!(lines.iter().all(|line| line["verdict"] == "refused" && line["task"] == TASK), "{lines:?}");
    let verbs: Vec<&Value> = lines.iter().map(|line| &line["verbs"][0]).collect();
    assert_eq!(verbs, ["exec", "attach", "signal", "list", "logs"]);
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_and_its_output_is_shown() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let output = dcos.run(&["task", "exec", TASK, "sh", "-c", "echo out; echo err >&2; pwd"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let folder = dcos.stand.pod.sandbox(TASK);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("out\n{}\n", folder.display()));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "err\n");
    // Part of its id means a task.
    assert_eq!(dcos.text(&["task", "exec", "etcd", "echo", "found"]), "found\n");
    let unknown = dcos.run(&["task", "exec", "none", "true"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() != Some(0) && said.contains("Cannot find a task"), "{said}");
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_code_is_told_by_wait_container() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    for (end, status) in [("exit 7", 7 << 8), ("exit 0", 0), ("kill -TERM $$", 15)] {
        let go = dcos.stand.pod.sandbox(TASK).join("go");
        let text = format!("while [ ! -e go ]; do sleep 0.05; done; rm go; {end}");
        let mut exec = Spoken::start(&mut dcos.command(&["task", "exec", TASK, "sh", "-c", &text]));
        let container = dcos.session().await;
        touch(&go);
        assert_eq!(exec.ended().await.code(), Some(0), "the CLI never tells: {}", exec.said());
        assert_eq!(dcos.waited(&container), json!(status), "{end}");
        let remove = json!({"type": "REMOVE_CONTAINER", "remove_container": {"container_id": container}});
        dcos.call(&remove);
    }
    wait_until("lines of the audit that close", || {
        let codes: Vec<Value> =
            dcos.stand.endpoint.audit().iter().filter_map(|line| line.get("code").cloned()).collect();
        codes == [json!(7), json!(0), json!(143)]
    })
    .await;
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_any_bytes_goes_through_and_ends() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let data = noise(1 << 20);
    let hash = Sha256::digest(&data);
    let (code, output) = feed(&mut dcos.command(&["task", "exec", "-i", TASK, "cat"]), data);
    assert_eq!((code, output.len()), (Some(0), 1 << 20));
    assert_eq!(Sha256::digest(&output), hash);
    let late = "cat >/dev/null; echo all read; sleep 0.2; echo and more";
    let mut command = dcos.command(&["task", "exec", "-i", TASK, "sh", "-c", late]);
    assert_eq!(feed(&mut command, b"some".to_vec()), (Some(0), b"all read\nand more\n".to_vec()));
    let (received, sent) = dcos.stand.moved();
    assert!(received >= 1 << 20 && sent >= 1 << 20, "counted: {received} in, {sent} out");
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_user_s_size_and_what_is_typed_reaches_the_shell() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let mut terminal = Terminal::open(31, 97);
    let before = terminal.settings();
    // Its size comes with its input, after the command has started.
    let text = "until [ \"$(stty size)\" = '31 97' ]; do sleep 0.05; done; echo has its size; \
                until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; echo has another; exec sh";
    let mut child = terminal.spawn(dcos.command(&["task", "exec", "-it", TASK, "sh", "-c", text]));
    terminal.wait_for("has its size").await;
    terminal.resize(40, 120);
    terminal.wait_for("has another").await;
    terminal.type_in("echo me$((20+2))\n");
    terminal.wait_for("me22").await;
    let container = dcos.session().await;
    terminal.type_in("exit 5\n");
    assert_eq!(terminal.wait(&mut child).await.code(), Some(0), "{}", terminal.shown());
    assert_eq!(dcos.waited(&container), json!(5 << 8));
    assert_eq!(terminal.settings(), before, "the terminal is as it was");
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cli_that_is_killed_takes_its_command_with_it() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let exec =
        Spoken::start(&mut dcos.command(&["task", "exec", TASK, "sh", "-c", "trap '' HUP TERM; sleep 1001"]));
    dcos.stand.pod.wait_processes(TASK, 3).await;
    drop(exec);
    dcos.stand.pod.wait_processes(TASK, 1).await;
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_s_end_ends_its_sessions_and_says_so() {
    let dcos = Dcos::start(Task::idle(TASK)).await;
    let mut exec = Spoken::start(&mut dcos.command(&["task", "exec", TASK, "sleep", "1002"]));
    dcos.stand.pod.wait_processes(TASK, 2).await;
    send(i32::try_from(dcos.stand.endpoint.process()).expect("a process id"), Signal::TERM);
    exec.ended().await;
    wait_until("the line that closes", || {
        dcos.stand.endpoint.audit().iter().any(|line| line["reason"] == "the endpoint is stopping")
    })
    .await;
    dcos.stand.pod.wait_processes(TASK, 1).await;
    dcos.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_and_followed() {
    let talk = "for n in 1 2 3; do echo line $n; done; echo wrong >&2; while [ ! -e go ]; do sleep 0.05; done; \
                echo later; exec sleep 1000";
    let dcos = Dcos::start(Task::shell(TASK, talk)).await;
    dcos.stand.pod.wait_stdout(TASK, "line 3").await;
    assert_eq!(dcos.text(&["task", "log", "--lines=2", TASK]), "line 2\nline 3\n");
    assert_eq!(dcos.text(&["task", "log", TASK]), "line 1\nline 2\nline 3\n");
    assert_eq!(dcos.text(&["task", "log", TASK, "stderr"]), "wrong\n");
    let log = Spoken::start(&mut dcos.command(&["task", "log", "--follow", TASK]));
    log.wait_for("line 3").await;
    touch(&dcos.stand.pod.sandbox(TASK).join("go"));
    log.wait_for("later").await;
    dcos.end().await;
}
