//! Who may do what, through a real endpoint into a real executor: everybody, every verb, every task, and what attackers try.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube_executor_tests::control;
use kube_executor_tests::endpoint::{Answered, Client, Endpoint, Siege, USER};
use kube_executor_tests::fake_agent::PATIENCE;
use kube_executor_tests::pki::{Authority, Subject};
use kube_executor_tests::pod::{Task, wait_until};
use mesos::common::TaskState::Running;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use task::control::{Answer, RefusalKind, Request};
use tempfile::TempDir;

const POLICY: &str = r#"
[[rule]]
groups = ["ops"]
verbs = ["list", "logs", "attach", "exec", "tty", "signal", "metrics"]
tasks = ["*"]
run_as = ["*"]
environment = ["*"]
endpoint = true

[[rule]]
groups = ["dev"]
verbs = ["list", "logs"]
tasks = ["etcd-*"]

[[rule]]
users = ["tina"]
verbs = ["list", "exec"]
tasks = ["etcd-0-a"]
environment = ["LC_*"]

[[rule]]
users = ["tom"]
verbs = ["list", "exec", "tty", "signal"]
tasks = ["*/*/etcd-0-b"]
run_as = ["nobody"]

[[rule]]
users = ["blind"]
verbs = ["exec"]
tasks = ["etcd-0-a"]

[[rule]]
users = ["meter"]
verbs = ["list", "metrics", "attach"]
tasks = ["etcd-0-b"]
"#;

const ALL: [&str; 9] =
    ["list", "logs", "attach", "exec", "tty", "signal", "metrics", "run_as", "environment"];

/// What each user of [`POLICY`] may do, written a second time by hand.
fn rights() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    vec![
        ("boss", "etcd-0-a", ALL.to_vec()),
        ("boss", "etcd-0-b", ALL.to_vec()),
        ("boss", "other", ALL.to_vec()),
        ("dora", "etcd-0-a", vec!["list", "logs"]),
        ("dora", "etcd-0-b", vec!["list", "logs"]),
        ("dora", "other", vec![]),
        ("tina", "etcd-0-a", vec!["list", "exec", "environment"]),
        ("tina", "etcd-0-b", vec![]),
        ("tina", "other", vec![]),
        ("tom", "etcd-0-a", vec![]),
        ("tom", "etcd-0-b", vec!["list", "exec", "tty", "signal", "run_as"]),
        ("tom", "other", vec![]),
        ("blind", "etcd-0-a", vec!["exec"]),
        ("blind", "etcd-0-b", vec![]),
        ("meter", "etcd-0-a", vec![]),
        ("meter", "etcd-0-b", vec!["list", "metrics", "attach"]),
        ("mallory", "etcd-0-a", vec![]),
        ("mallory", "other", vec![]),
    ]
}

/// Somebody, known by a certificate or by a token.
struct Person {
    client: Client,
    token: Option<String>,
}

impl Person {
    async fn raw(&self) -> kube_executor_tests::endpoint::Raw {
        let pair = if self.token.is_some() { None } else { Some(self.client.pair()) };
        self.client.raw_to(self.client.address(), pair).await.expect("connect to the endpoint")
    }

    fn headers(&self) -> Vec<(&str, &str)> {
        self.token.iter().map(|token| ("authorization", token.as_str())).collect()
    }

    async fn ask(&self, method: &str, path: &str) -> Answered {
        self.raw().await.ask(method, path, &self.headers()).await
    }

    /// The code of a session's opening; it is given up at once.
    async fn open(&self, path: &str) -> u16 {
        match self.raw().await.open(path, &self.headers()).await {
            Ok(_) => 101,
            Err(answered) => answered.code,
        }
    }
}

/// The stand of the table: three tasks that let the caller do what it wants, and everybody.
struct Everybody {
    stand: Siege,
    people: BTreeMap<&'static str, Person>,
    _tokens: TempDir,
}

impl Everybody {
    async fn start() -> Self {
        let settings = json!({"exec": {"users": ["*"], "environment": ["*"]}});
        let task = |name| (name, Task::idle(name).settings(&settings));
        let tokens = tokens(&[("tina", "tina's-token"), ("tom", "tom's-token")]);
        let file = tokens.path().join("tokens");
        let tasks = vec![task("etcd-0-a"), task("etcd-0-b"), task("other")];
        let stand = Siege::start(tasks, POLICY, &["--tokens", &file.to_string_lossy()]).await;
        let person = |user: &str, group: &str, token: Option<&str>| Person {
            client: stand.endpoint.client(user, group),
            token: token.map(str::to_owned),
        };
        let people = BTreeMap::from([
            ("boss", person("boss", "ops", None)),
            ("dora", person("dora", "dev", None)),
            ("tina", person("tina", "-", Some("Bearer tina's-token"))),
            ("tom", person("tom", "-", Some("token=tom's-token"))),
            ("blind", person("blind", "-", None)),
            ("meter", person("meter", "-", None)),
            ("mallory", person("mallory", "-", None)),
        ]);
        Self { stand, people, _tokens: tokens }
    }

    fn pod(&self) -> String {
        let escape = |text: &str| text.replace('/', "%2F");
        let shown = &self.stand.shown;
        format!("/api/v1/namespaces/{}/pods/{}", escape(&shown.framework), escape(&shown.name))
    }
}

/// A file of tokens that only the endpoint's user can read.
fn tokens(people: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder for tokens");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("open it");
    let hash = |token: &str| -> String {
        Sha256::digest(token.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let lines: String =
        people.iter().map(|(user, token)| format!("sha256:{} {user}\n", hash(token))).collect();
    let file = folder.path().join("tokens");
    fs::write(&file, lines).expect("write the tokens");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("close the tokens");
    std::os::unix::fs::chown(&file, Some(USER.1), None).expect("give the tokens to the endpoint");
    folder
}

/// What is asked for a verb below a task's path, and the verbs that it needs.
const REQUESTS: [(&str, &str, &[&str]); 7] = [
    ("logs", "log", &["logs"]),
    ("attach", "attach?stdout=true", &["attach"]),
    ("exec", "exec?command=true&stdout=true", &["exec"]),
    ("tty", "exec?command=true&stdin=true&stdout=true&tty=true", &["exec", "tty"]),
    ("signal", "signal?signal=CONT", &["signal"]),
    ("run_as", "exec?command=true&stdout=true&user=nobody", &["exec", "run_as"]),
    ("environment", "exec?command=true&stdout=true&env=LC_ALL=C", &["exec", "environment"]),
];

async fn code(person: &Person, verb: &str, path: &str) -> u16 {
    match verb {
        "logs" => person.ask("GET", path).await.code,
        "signal" => person.ask("POST", path).await.code,
        _ => person.open(path).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_on_every_task_what_the_policy_says_and_nothing_else() {
    let all = Everybody::start().await;
    let mut wrong = Vec::new();
    for (user, task, verbs) in rights() {
        let person = &all.people[user];
        let has = |verb: &str| verbs.contains(&verb);
        let listed = person.ask("GET", "/kubex/v1/tasks").await.body;
        let shown: Vec<task::control::Pod> = serde_json::from_str(&listed).expect("a list");
        let shown = shown.iter().flat_map(|pod| &pod.tasks).find(|shown| shown.name == task);
        if shown.is_some() != has("list") || shown.is_some_and(|task| task.usage.is_some()) != has("metrics")
        {
            wrong.push(format!("{user} list {task}: {shown:?}"));
        }
        let metrics = person.ask("GET", "/apis/metrics.k8s.io/v1beta1/pods").await.body;
        let container = task.trim_start_matches("etcd-0-");
        if metrics.contains(&format!("\"name\":\"{container}\"")) != has("metrics")
            && metrics.contains(&format!("\"name\":\"{task}\"")) != has("metrics")
        {
            wrong.push(format!("{user} metrics {task}: {metrics}"));
        }
        for (verb, request, needed) in REQUESTS {
            let done = if matches!(verb, "logs" | "signal") { 200 } else { 101 };
            let may = needed.iter().all(|verb| has(verb));
            let by_name = code(person, verb, &format!("/kubex/v1/tasks/{task}/{request}")).await;
            // Who has any right to it may know that it is there.
            let expected = match (verbs.is_empty(), may) {
                (true, _) => 404,
                (false, true) => done,
                (false, false) => 403,
            };
            if by_name != expected {
                wrong.push(format!("{user} {verb} {task} by kubex: {by_name}, not {expected}"));
            }
            let join = if request.contains('?') { '&' } else { '?' };
            let path = format!("{}/{request}{join}container={task}", all.pod());
            let by_pod = code(person, verb, &path).await;
            // A hidden container is one that the pod has not: "choose one of ...", and 404 where the caller sees none.
            let right = match (may, verbs.is_empty()) {
                (true, _) => by_pod == done,
                (false, true) => [400, 404].contains(&by_pod),
                (false, false) => by_pod == 403,
            };
            if !right {
                wrong.push(format!("{user} {verb} {task} by pod: {by_pod}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    all.stand.no_sessions().await;
    all.stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_task_is_answered_as_one_that_does_not_exist() {
    let all = Everybody::start().await;
    for user in ["tina", "mallory"] {
        let person = &all.people[user];
        for (verb, request, _) in REQUESTS {
            let join = if request.contains('?') { '&' } else { '?' };
            for base in [
                "/kubex/v1/tasks/TASK/REQUEST".to_owned(),
                format!("{}/REQUESTJOINcontainer=TASK", all.pod()),
            ] {
                let path = |task: &str| {
                    let path = base.replace("REQUEST", request).replace("JOIN", &join.to_string());
                    path.replace("TASK", task)
                };
                let mut answers = Vec::new();
                for task in ["etcd-0-b", "etcd-0-z"] {
                    let answered = match verb {
                        "logs" => person.ask("GET", &path(task)).await,
                        "signal" => person.ask("POST", &path(task)).await,
                        _ => match person.raw().await.open(&path(task), &person.headers()).await {
                            Ok(_) => panic!("{user} opened {}", path(task)),
                            Err(answered) => answered,
                        },
                    };
                    answers.push((answered.code, answered.body.replace(task, "TASK")));
                }
                assert_eq!(answers[0], answers[1], "{user} {}", path("etcd-0-b"));
            }
        }
    }
    all.stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_task_is_in_no_list_of_any_protocol() {
    let all = Everybody::start().await;
    let tina = &all.people["tina"];
    let paths = [
        "/kubex/v1/tasks",
        "/api/v1/pods",
        "/apis/metrics.k8s.io/v1beta1/pods",
        "/mesos/master/state",
        "/mesos/master/state.json",
        "/master/state",
    ];
    for path in paths {
        let body = tina.ask("GET", path).await.body;
        assert!(!body.contains("etcd-0-b") && !body.contains("other"), "{path}: {body}");
    }
    for call in ["GET_TASKS", "GET_STATE", "GET_CONTAINERS"] {
        for path in ["/api/v1", "/slave(1)/api/v1"] {
            let answered = tina.raw().await.post(path, &tina.headers(), &json!({"type": call})).await;
            let body = &answered.body;
            assert_eq!(answered.code, 200, "{call}: {body}");
            assert!(!body.contains("etcd-0-b") && !body.contains("\"other\""), "{call}: {body}");
        }
    }
    let mallory = &all.people["mallory"];
    for path in ["/api/v1/pods", "/api/v1/namespaces", "/kubex/v1/tasks"] {
        let answered = mallory.ask("GET", path).await;
        assert!(answered.code == 200 && !answered.body.contains(&all.stand.shown.name), "{answered:?}");
    }
    all.stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_another_task_s_user_cannot_be_signalled() {
    let all = Everybody::start().await;
    let (tina, tom) = (&all.people["tina"], &all.people["tom"]);
    let path = "/kubex/v1/tasks/etcd-0-a/exec?command=sleep&command=1000&stdout=true";
    let mut raw = tina.raw().await;
    let text = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer tina's-token\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: v5.channel.k8s.io\r\n\r\n"
    );
    let answered = raw.say(text.as_bytes()).await.expect("an answer");
    let id = answered.head.lines().find_map(|line| line.strip_prefix("kubex-session: ")).expect("a session");
    let by_tom = tom.ask("POST", &format!("/kubex/v1/tasks/etcd-0-b/signal?signal=KILL&session={id}")).await;
    assert_eq!(by_tom.code, 404, "{by_tom:?}");
    let own = tina.ask("POST", &format!("/kubex/v1/tasks/etcd-0-a/signal?signal=KILL&session={id}")).await;
    assert_eq!(own.code, 200, "who may exec may signal what they started: {own:?}");
    assert_eq!(all.stand.closing("sleep").await["code"], 137);
    all.stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tricks_with_paths_names_and_headers_reach_nothing() {
    let all = Everybody::start().await;
    let tina = &all.people["tina"];
    let long = "x".repeat(30_000);
    for name in [
        "etcd-0-a%2f..%2fetcd-0-b",
        "etcd-0-a/../etcd-0-b",
        "./etcd-0-b",
        "/etcd-0-b",
        "%2fetcd-0-b",
        "etcd-0-a%2e%2e/etcd-0-b",
        "..%2fetcd-0-b",
        "etcd-0-b%00",
        "etcd-0-b%20",
        "etcd-0-b%0d%0a",
        "etcd-0-%",
        "%ff%fe",
        "*",
        "etcd-0-[b]",
        "ETCD-0-B",
        "etcd-0-%EF%BD%82",
        "etcd-0-b%CC%81",
        "etcd%2D0%2Db",
        "",
        &long,
    ] {
        let answered =
            tina.ask("GET", &format!("/kubex/v1/tasks/{name}/exec?command=true&stdout=true")).await;
        assert!(matches!(answered.code, 400 | 404), "{name}: {answered:?}");
        let log = tina.ask("GET", &format!("/kubex/v1/tasks/{name}/log")).await;
        assert!(matches!(log.code, 400 | 404), "{name}: {log:?}");
    }
    let pod = all.pod();
    for path in [
        format!("{pod}/exec?container=etcd-0-b&command=id&stdout=true"),
        format!("{pod}/exec?container=etcd-0-b&container=etcd-0-a&command=id&stdout=true"),
        format!("{pod}/../etcd-0/exec?container=b&command=id&stdout=true"),
        format!("/{pod}/exec?container=etcd-0-b&command=id&stdout=true"),
        format!("{}/exec?container=etcd-0-b&command=id&stdout=true", pod.replace("pods", "pods/")),
        "/api/v1/namespaces/another/pods/etcd-0/exec?container=a&command=id&stdout=true".to_owned(),
        "/api/v1/namespaces//pods/etcd-0/exec?container=a&command=id&stdout=true".to_owned(),
    ] {
        let code = tina.open(&path).await;
        assert!(matches!(code, 400 | 403 | 404), "{path}: {code}");
    }
    // A proxy's form of the path means the same as the path alone, whatever host it names.
    let absolute = |task: &str| format!("https://evil/kubex/v1/tasks/{task}/log");
    assert_eq!(tina.ask("GET", &absolute("etcd-0-b")).await.code, 404);
    assert_eq!(tina.ask("GET", &absolute("etcd-0-a")).await.code, 403);
    let mallory = &all.people["mallory"];
    let path = "/kubex/v1/tasks/etcd-0-a/log";
    for (headers, expected) in [
        (vec![("impersonate-user", "boss"), ("impersonate-group", "ops")], 404),
        (vec![("x-remote-user", "boss"), ("x-forwarded-user", "boss"), ("x-remote-group", "ops")], 404),
        (vec![("host", "evil")], 400),
        (vec![("authorization", "Bearer a"), ("authorization", "Bearer tina's-token")], 400),
        (vec![("authorization", "Bearer tina's-token")], 401),
        (vec![("authorization", "Bearer ")], 401),
        (vec![("authorization", "Basic Ym9zczpib3Nz")], 401),
        (vec![("content-length", "5")], 400),
    ] {
        let answered = mallory.raw().await.ask("GET", path, &headers).await;
        assert_eq!(answered.code, expected, "{headers:?}: {answered:?}");
    }
    // Two lengths of one body would let a second request hide in the first one.
    let smuggled = "POST /api/v1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\nGET /metrics HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut raw = mallory.raw().await;
    raw.say(smuggled.as_bytes()).await;
    let second = tokio::time::timeout(PATIENCE, raw.answered()).await.expect("an answer or the end");
    assert!(second.is_none_or(|answered| answered.code == 403), "its own rights hold");
    all.stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_proved_certificate_or_a_known_token_is_somebody() {
    let all = Everybody::start().await;
    let files = all.stand.endpoint.files();
    let boss = &all.people["boss"].client;
    let subject = Subject { name: "boss", group: Some("ops"), hosts: &[] };
    let folder = tempfile::tempdir().expect("a folder");
    let stranger = Authority::new(&folder.path().join("pki")).expect("another authority");
    let foreign = stranger.issue("boss", subject).expect("a certificate");
    let expired = files.authority().issue_with("expired", subject, |params| {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    });
    let not_yet = files.authority().issue_with("early", subject, |params| {
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2090, 1, 1), rcgen::date_time_ymd(2091, 1, 1));
    });
    let server_only = files.authority().issue_with("server-only", subject, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    let request = "GET /kubex/v1/tasks HTTP/1.1\r\nhost: a\r\n\r\n";
    for pair in [foreign, expired.unwrap(), not_yet.unwrap(), server_only.unwrap()] {
        let code = match boss.raw_to(boss.address(), Some(&pair)).await {
            Ok(mut raw) => raw.say(request.as_bytes()).await.map(|answered| answered.code),
            Err(_) => None,
        };
        assert_eq!(code, None, "{pair:?}");
    }
    let mut nobody = boss.raw_to(boss.address(), None).await.expect("TLS without a certificate");
    assert_eq!(nobody.say(request.as_bytes()).await.expect("an answer").code, 401);
    assert_eq!(nobody.ask("GET", "/metrics", &[]).await.code, 401);
    assert_eq!(nobody.ask("GET", "/healthz", &[]).await.code, 200, "anybody may ask");
    let token = [("authorization", "Bearer tom's-token")];
    assert_eq!(nobody.ask("GET", "/kubex/v1/tasks", &token).await.code, 200);
    assert_eq!(nobody.ask("GET", "/kubex/v1/tasks", &[]).await.code, 401, "a connection remembers nobody");
    let failures =
        all.stand.endpoint.metric(boss, "exec_endpoint_handshake_failures_total{kind=\"certificate\"}");
    assert_eq!(failures.await, 4.0);
    all.stand.end().await;
}

/// The reason of a session's status.
async fn reason(client: &Client, path: &str) -> String {
    match client.open(path, &[]).await {
        Ok(mut socket) => socket.end().await.reason().to_owned(),
        Err(answered) => answered.code.to_string(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_task_does_not_allow_is_refused_although_the_policy_allows_all() {
    let stand = restricted().await;
    let boss = &stand.boss;
    for (path, expected) in [
        ("closed/exec?command=true&stdout=true", "Forbidden"),
        ("closed/attach?stdout=true", "Forbidden"),
        ("strict/exec?command=true&stdin=true&stdout=true&tty=true", "Forbidden"),
        ("strict/exec?command=true&stdout=true", "Success"),
        ("strict/exec?command=true&stdout=true&user=daemon", "Success"),
        ("strict/exec?command=true&stdout=true&user=1", "Success"),
        ("strict/exec?command=true&stdout=true&user=nobody", "Forbidden"),
        ("strict/exec?command=true&stdout=true&env=LC_ALL=C", "Success"),
        ("strict/exec?command=true&stdout=true&env=LD_PRELOAD=/tmp/x", "Forbidden"),
        ("strict/exec?command=true&stdout=true&env=LC_A%3DB=C", "Success"),
        ("strict/exec?command=true&stdout=true&env=LC_%0AX=C", "BadRequest"),
    ] {
        assert_eq!(reason(boss, &format!("/kubex/v1/tasks/{path}")).await, expected, "{path}");
    }
    let signal = async |path: &str| boss.ask("POST", &format!("/kubex/v1/tasks/{path}"), &[]).await.code;
    assert_eq!(signal("strict/signal?signal=KILL").await, 403);
    assert_eq!(signal("strict/signal?signal=CONT").await, 200);
    assert!(stand.endpoint.audit().iter().all(|line| line["user"] == "boss" || line["event"] == "close"));
    stand.no_sessions().await;
    stand.end().await;
}

/// Tasks that allow nothing, and little.
async fn restricted() -> Siege {
    let strict = json!({"exec": {"terminal": false, "users": ["daemon"], "environment": ["LC_*"], "signals": ["SIGCONT"]}});
    let strict = Task::idle("strict").command("user", json!("www-data")).settings(&strict);
    let closed = Task::idle("closed").settings(&json!({"exec": {"allowed": false}}));
    Siege::start(vec![("closed", closed), ("strict", strict)], POLICY, &[]).await
}

/// What an executor answers to bytes on its control socket from a process of this user, by standard tools.
fn say_as(user: u32, socket: &Path, bytes: &[u8]) -> String {
    const SCRIPT: &str = r#"use Socket; local $/; my $bytes = <STDIN>; $SIG{PIPE} = "IGNORE"; $SIG{ALRM} = sub { exit };
        socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un($ARGV[0])) or do { print "connect: $!"; exit };
        my $at = 0; while ($at < length $bytes) { my $n = syswrite(S, $bytes, 65536, $at) or last; $at += $n }
        alarm 10; sysread(S, my $answer, 65536); print substr($answer // "", 4);"#;
    let mut command = Command::new("perl");
    command.args(["-e", SCRIPT]).arg(socket.file_name().expect("a name"));
    command.current_dir(socket.parent().expect("a folder")).uid(user).gid(user);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else { return "connect: the folder is closed".to_owned() };
    let mut stdin = child.stdin.take().expect("its stdin");
    std::io::Write::write_all(&mut stdin, bytes).expect("write to perl");
    drop(stdin);
    String::from_utf8_lossy(&child.wait_with_output().expect("wait for perl").stdout).into_owned()
}

fn message(request: &Request) -> Vec<u8> {
    task::framed::encode(request).expect("a request that fits")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_s_own_user_gets_from_an_executor_only_what_tasks_allow() {
    let stand = restricted().await;
    let socket = stand.pod.control_socket().await;
    let exec = |task: &str| control::command(task, &["true"]);
    let id = |task: &str| mesos::common::TaskId::new(task);
    let with = |change: &dyn Fn(&mut task::control::Exec)| {
        let mut asked = exec("strict");
        change(&mut asked);
        Request::Exec(asked)
    };
    let refused = [
        (Request::Exec(exec("closed")), RefusalKind::Forbidden),
        (Request::Attach { task: id("closed"), stdin: true }, RefusalKind::Forbidden),
        (with(&|exec| exec.user = Some("root".to_owned())), RefusalKind::Forbidden),
        (with(&|exec| exec.user = Some("0".to_owned())), RefusalKind::Forbidden),
        (
            with(&|exec| exec.environment = vec![("LD_PRELOAD".to_owned(), String::new())]),
            RefusalKind::Forbidden,
        ),
        (with(&|exec| exec.environment = vec![("LC_A=B".to_owned(), String::new())]), RefusalKind::Invalid),
        (
            with(&|exec| exec.terminal = Some(task::control::WindowSize { rows: 1, columns: 1 })),
            RefusalKind::Forbidden,
        ),
        (with(&|exec| exec.command.clear()), RefusalKind::Invalid),
        (with(&|exec| exec.command = vec!["x".repeat(1 << 20)]), RefusalKind::Invalid),
        (with(&|exec| exec.folder = Some("a\0b".to_owned())), RefusalKind::Invalid),
        (Request::Signal { task: id("strict"), signal: 9 }, RefusalKind::Forbidden),
        (Request::Signal { task: id("strict"), signal: -1 }, RefusalKind::Invalid),
        (Request::Signal { task: id("strict"), signal: i32::MAX }, RefusalKind::Invalid),
        (Request::Signal { task: id("../strict"), signal: 18 }, RefusalKind::UnknownTask),
        (Request::Logs { task: id(""), follow: false }, RefusalKind::UnknownTask),
        (Request::Watch { url: Some("javascript:alert(1)".to_owned()) }, RefusalKind::Invalid),
    ];
    for (request, kind) in refused {
        let answer = say_as(USER.1, &socket, &message(&request));
        let short = format!("{request:.300?}");
        match serde_json::from_str(&answer) {
            Ok(Answer::Refused(refusal)) => assert_eq!(refusal.kind, kind, "{short}"),
            other => panic!("{short}: {other:?} {answer}"),
        }
    }
    let nested = format!("{{\"Exec\":{}", "[".repeat(100_000));
    let framed = |text: &[u8]| [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text].concat();
    for bytes in [
        framed(b"nope"),
        framed(b""),
        framed(b"\"List\" \"List\""),
        framed(b"{\"Exec\":{}}"),
        framed(b"{\"Launch\":1}"),
        framed(nested.as_bytes()),
        u32::MAX.to_le_bytes().to_vec(),
        framed(&[0xff; 1000]),
    ] {
        let answer = say_as(USER.1, &socket, &bytes);
        assert!(answer.contains("\"kind\":\"Invalid\""), "{answer}");
    }
    let started = say_as(USER.1, &socket, &message(&Request::Exec(exec("strict"))));
    assert!(started.contains("Started"), "what the task allows goes: {started}");
    for stranger in [1, 33] {
        let answer = say_as(stranger, &socket, &message(&Request::List));
        assert!(answer.starts_with("connect: "), "user {stranger}: {answer}");
    }
    let pids = |task: &str| stand.pod.processes_of(task).len();
    assert_eq!((pids("closed"), stand.pod.states("strict").last().copied()), (1, Some(Running)));
    stand.no_sessions().await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_at_the_control_socket_does_not_hold_the_executor_up() {
    const FLOOD: &str = r#"use Socket; my @all; for my $n (1..$ARGV[1]) { my $s; socket($s, AF_UNIX, SOCK_STREAM, 0) or last;
        connect($s, sockaddr_un($ARGV[0])) or last;
        syswrite($s, $n % 2 ? pack("V", 21) . '{"Watch":{"url":null}}' : pack("V", 100) . "x"); push @all, $s }
        $| = 1; print scalar @all, "\n"; sleep 1000;"#;
    let stand = restricted().await;
    let socket = stand.pod.control_socket().await;
    let mut command = Command::new("perl");
    command.args(["-e", FLOOD]).arg(socket.file_name().unwrap()).arg("1500");
    command.current_dir(socket.parent().unwrap()).uid(USER.1).gid(USER.1).stdout(Stdio::piped());
    let mut flood = Killed(command.spawn().expect("start perl"));
    let mut line = String::new();
    let stdout = flood.0.stdout.take().expect("its stdout");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("read");
    assert!(line.trim().parse::<u32>().is_ok_and(|opened| opened > 100), "{line}");
    stand.pod.launch(Task::idle("late"));
    stand.pod.wait("late", Running).await;
    assert_eq!(reason(&stand.boss, "/kubex/v1/tasks/late/exec?command=true&stdout=true").await, "Success");
    drop(flood);
    let descriptors =
        || fs::read_dir(format!("/proc/{}/fd", stand.pod.process())).expect("descriptors").count();
    wait_until("the flood's descriptors to be closed", || descriptors() < 200).await;
    stand.end().await;
}

/// A child that is killed when this is dropped.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Replaces a file as an editor does.
fn replace(path: &Path, text: &str) {
    let new = PathBuf::from(format!("{}.new", path.display()));
    fs::write(&new, text).expect("write a file");
    std::os::unix::fs::chown(&new, Some(USER.1), None).expect("give it to the endpoint");
    fs::rename(&new, path).expect("replace a file");
}

/// Waits until what is asked is answered with this code.
async fn until_code(client: &Client, path: &str, code: u16) {
    let asking = async {
        while client.ask("GET", path, &[]).await.code != code {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{path} is never {code}"));
}

async fn until_metric(endpoint: &Endpoint, client: &Client, sample: &str, value: f64) {
    let asking = async {
        while endpoint.metric(client, sample).await != value {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{sample} is never {value}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_taken_away_holds_from_the_next_request_and_a_broken_policy_changes_nothing() {
    let stand = Siege::start(vec![("a", Task::idle("a"))], POLICY, &[]).await;
    let eve = stand.endpoint.client("eve", "-");
    let path = "/kubex/v1/tasks/a/log";
    let policy = stand.endpoint.files().policy();
    assert_eq!(eve.ask("GET", path, &[]).await.code, 404);
    let given = format!(
        "{POLICY}\n[[rule]]\nusers = [\"eve\"]\nverbs = [\"list\", \"logs\", \"exec\"]\ntasks = [\"a\"]\n"
    );
    replace(&policy, &given);
    until_code(&eve, path, 200).await;
    let mut running =
        eve.open("/kubex/v1/tasks/a/exec?command=cat&stdin=true&stdout=true", &[]).await.expect("a session");
    let mut kept = eve.raw().await.expect("a connection");
    assert_eq!(kept.ask("GET", path, &[]).await.code, 200);
    replace(&policy, "[[rule]]\nusers = [\"eve\"]\nverbs = [\"fly\"]\n");
    until_metric(&stand.endpoint, &stand.boss, "exec_endpoint_file_stale{file=\"policy\"}", 1.0).await;
    assert_eq!(eve.ask("GET", path, &[]).await.code, 200, "the old one stays");
    assert!(stand.endpoint.log().contains("policy.toml:3:"), "{}", stand.endpoint.log());
    replace(&policy, POLICY);
    until_code(&eve, path, 404).await;
    assert_eq!(kept.ask("GET", path, &[]).await.code, 404, "on an open connection, too");
    until_metric(&stand.endpoint, &stand.boss, "exec_endpoint_file_stale{file=\"policy\"}", 0.0).await;
    running.input(b"still here\n").await.expect("what is under way goes on");
    running.wait_for("still here").await;
    drop(running);
    stand.no_sessions().await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_once_it_and_its_key_are_a_pair_and_a_new_authority_shuts_old_clients_out()
{
    let stand = Siege::start(vec![("a", Task::idle("a"))], POLICY, &[]).await;
    let (files, boss) = (stand.endpoint.files(), &stand.boss);
    let before = boss.raw().await.expect("connect").server_certificate();
    let subject = Subject { name: "exec-endpoint", hosts: &["127.0.0.1", "localhost"], group: None };
    let new = files.authority().issue("endpoint-2", subject).expect("a certificate");
    let text = |path: &Path| fs::read_to_string(path).expect("read a PEM");
    replace(&files.serving().certificate, &text(&new.certificate));
    until_metric(&stand.endpoint, boss, "exec_endpoint_file_stale{file=\"tls\"}", 1.0).await;
    assert_eq!(boss.raw().await.expect("connect").server_certificate(), before, "no pair yet");
    replace(&files.serving().key, &text(&new.key));
    until_metric(&stand.endpoint, boss, "exec_endpoint_file_stale{file=\"tls\"}", 0.0).await;
    let after = boss.raw().await.expect("connect").server_certificate();
    assert!(after.is_some() && after != before);
    let folder = tempfile::tempdir().expect("a folder");
    let next = Authority::new(&folder.path().join("pki")).expect("another authority");
    let subject = Subject { name: "boss", group: Some("ops"), hosts: &[] };
    let renewed = boss.with_pair(next.issue("boss", subject).expect("a certificate"));
    let mut open = boss.raw().await.expect("connect");
    assert_eq!(open.ask("GET", "/version", &[]).await.code, 200);
    // The client keeps trusting the old authority, whose certificate the endpoint still serves.
    let authority = folder.path().join("trusted.crt");
    fs::copy(boss.trusted(), &authority).expect("keep the old authority");
    let renewed = renewed.trusting(authority);
    replace(&files.authority().certificate(), &text(&next.certificate()));
    let lets_in = async |client: &Client| match client.raw().await {
        Ok(mut raw) => raw.say(b"GET /version HTTP/1.1\r\nhost: a\r\n\r\n").await.is_some(),
        Err(_) => false,
    };
    let asking = async {
        while !lets_in(&renewed).await {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("the new authority to be trusted");
    let old = boss.trusting(folder.path().join("trusted.crt"));
    assert!(!lets_in(&old).await, "the old authority's clients are strangers now");
    assert!(open.closes_within(PATIENCE).await, "and so are their open connections");
    stand.end().await;
}
