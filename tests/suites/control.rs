//! The control socket: what an executor shows, and what may be done in its tasks from outside.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kube_executor_tests::control::{Asked, Session, ask, command, connect, exec, list, rest};
use kube_executor_tests::describe::built_executor;
use kube_executor_tests::fake_agent::Options;
use kube_executor_tests::pod::{Pod, Signal, Task, label, read, send, touch, wait_until};
use kube_executor_tests::{cgroups, pod};
use mesos::common::{TaskId, TaskState};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};
use serde_json::json;
use task::control::{Answer, End, EndReason, Exec, RefusalKind, Request, WindowSize, Wish};

use TaskState::{Failed, Finished, Killed, Running};

/// A pod with an idle task `a`, and its socket.
async fn with_task(task: Task) -> (Pod, PathBuf) {
    let pod = Pod::start().await;
    pod.launch(task);
    pod.wait("a", Running).await;
    let socket = pod.control_socket().await;
    (pod, socket)
}

async fn idle() -> (Pod, PathBuf) {
    with_task(Task::idle("a")).await
}

fn shell(text: &str) -> Exec {
    command("a", &["sh", "-c", text])
}

fn terminal(exec: Exec) -> Exec {
    Exec { terminal: Some(WindowSize { rows: 33, columns: 99 }), ..exec }
}

async fn started(socket: &Path, what: Exec) -> Session {
    exec(socket, what).await.unwrap_or_else(|refusal| panic!("refused: {refusal:?}"))
}

async fn refused(socket: &Path, what: Exec) -> (RefusalKind, String) {
    match exec(socket, what).await {
        Ok(session) => panic!("not refused: {session:?}"),
        Err(refusal) => (refusal.kind, refusal.message),
    }
}

/// The cgroups of sessions that are there now.
fn sessions(pod: &Pod) -> Vec<PathBuf> {
    let base = pod.cgroup_base();
    let ours = cgroups::named(|name| name == base);
    let all = ours.iter().flat_map(|cgroup| cgroups::tree(cgroup));
    let is_session =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec-"));
    all.filter(is_session).collect()
}

async fn no_sessions(pod: &Pod) {
    wait_until("the end of all sessions' cgroups", || sessions(pod).is_empty()).await;
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn write_all(end: &OwnedFd, bytes: &[u8]) {
    std::fs::File::from(end.try_clone().expect("a copy")).write_all(bytes).expect("write");
}

async fn changed(watch: &mut Asked, what: &str, is_it: impl Fn(&task::control::Task) -> bool) {
    loop {
        if let Answer::Changed(task) = watch.answer().await
            && is_it(&task)
        {
            return;
        }
        eprintln!("still waiting for {what}");
    }
}

#[tokio::test]
async fn the_pod_and_its_tasks_are_listed_with_what_they_use() {
    let task = Task::shell("a", "exec sleep 1000").resources(0.5, 64.0).command("user", json!("nobody"));
    let (pod, socket) = with_task(task).await;
    let listed = list(&socket).await;
    assert_eq!((listed.framework_id.as_str(), listed.executor_id.as_str()), ("framework-1", "executor-1"));
    assert!(!listed.own_network && listed.started_at > 0 && !listed.hostname.is_empty());
    assert_eq!(listed.sandbox, pod.agent.sandbox().to_string_lossy());
    let [task] = listed.tasks.as_slice() else { panic!("{listed:?}") };
    assert_eq!(task.state, Running.into());
    assert_eq!(task.pid.map(|pid| vec![i32::try_from(pid).unwrap()]), Some(pod.processes_of("a")));
    assert_eq!((task.user.as_deref(), task.command[0].as_str()), (Some("nobody"), "sh"));
    assert_eq!(task.sandbox, pod.sandbox("a").to_string_lossy());
    assert_eq!(task.resources.len(), 2);
    assert!(task.launched_at <= task.started_at.unwrap() && task.started_at.unwrap() <= task.since);
    let usage = task.usage.unwrap();
    assert!(usage.memory_bytes > 0 && usage.processes == 1, "{usage:?}");
    pod.end().await;
}

#[tokio::test]
async fn a_watcher_hears_of_every_change_and_of_a_task_that_another_of_its_name_replaces() {
    let pod = Pod::start().await;
    let socket = pod.control_socket().await;
    let mut watch = ask(&socket, &Request::Watch { url: None }).await;
    let Answer::Pod(listed) = watch.answer().await else { panic!("no pod first") };
    assert!(listed.tasks.is_empty());
    let named = |id: &str| {
        Task::shell(id, "while [ ! -e end ]; do sleep 0.01; done; exit 3").with("name", json!("n"))
    };
    pod.launch(named("a"));
    changed(&mut watch, "a running", |task| task.state == Running.into() && task.pid.is_some()).await;
    touch(&pod.sandbox("a").join("end"));
    changed(&mut watch, "a failed", |task| {
        let end = task.last_end.and_then(|last| last.end);
        task.state == Failed.into() && end == Some(End::Code(3)) && task.pid.is_none()
    })
    .await;
    pod.agent.wait_for("the end is acknowledged", |_| Some(())).await;
    assert_eq!(list(&socket).await.tasks.len(), 1, "it stays until another of its name is launched");
    pod.launch(named("b"));
    loop {
        if watch.answer().await == Answer::Gone(TaskId::new("a")) {
            break;
        }
    }
    pod.wait("b", Running).await;
    let names: Vec<String> = list(&socket).await.tasks.into_iter().map(|task| task.id.value).collect();
    assert_eq!(names, ["b"]);
    pod.end().await;
}

#[tokio::test]
async fn statuses_carry_the_endpoint_while_it_watches() {
    let pod = Pod::start().await;
    let socket = pod.control_socket().await;
    let url = "https://host:8443".to_owned();
    let mut watch = ask(&socket, &Request::Watch { url: Some(url.clone()) }).await;
    watch.answer().await;
    pod.launch(Task::idle("a"));
    let status = pod.wait("a", Running).await;
    assert_eq!(label(&status, "exec-endpoint"), Some(url.as_str()));
    drop(watch);
    wait_until("the endpoint has gone", || connections(&socket) == 0).await;
    pod.launch(Task::idle("b"));
    let status = pod.wait("b", Running).await;
    assert_eq!(label(&status, "exec-endpoint"), None);
    pod.end().await;
}

/// How many connections its control socket has: lines of the socket's name in a connected state.
fn connections(socket: &Path) -> usize {
    let table = std::fs::read_to_string("/proc/net/unix").expect("the table of sockets");
    // The table has the name that it was made with.
    let name = socket.with_extension("new").file_name().expect("a name").to_string_lossy().into_owned();
    let connected = |line: &&str| line.ends_with(&name) && line.split_whitespace().nth(5) == Some("03");
    table.lines().filter(connected).count()
}

#[tokio::test]
async fn a_session_s_own_end_is_reported_whatever_it_was_and_however_short_it_lived() {
    let (pod, socket) = idle().await;
    for (text, end) in [
        ("true", End::Code(0)),
        ("false", End::Code(1)),
        ("exit 7", End::Code(7)),
        ("kill -TERM $$", End::Signal(15)),
        ("kill -KILL $$", End::Signal(9)),
    ] {
        let (output, answer) = started(&socket, shell(text)).await.finish().await;
        assert_eq!((output.as_str(), answer), ("", Answer::Exited(end)), "{text}");
    }
    for _ in 0..50 {
        let (_, answer) = started(&socket, command("a", &["true"])).await.finish().await;
        assert_eq!(answer, Answer::Exited(End::Code(0)));
    }
    no_sessions(&pod).await;
    pod.end().await;
}

#[tokio::test]
async fn stdin_is_a_pipe_that_can_be_closed_alone_and_stdout_and_stderr_are_apart() {
    let (pod, socket) = idle().await;
    let what = Exec { stdin: true, ..shell("cat; echo done >&2; exit 4") };
    let mut session = started(&socket, what).await;
    assert_eq!(session.ends.len(), 3);
    let stdin = session.ends.remove(0);
    let sent = "0123456789abcdef".repeat(1 << 18);
    let bytes = sent.clone();
    let writing = tokio::task::spawn_blocking(move || write_all(&stdin, bytes.as_bytes()));
    let stderr = session.ends.pop().unwrap();
    let (stdout, stderr) = tokio::join!(rest(session.ends.pop().unwrap()), rest(stderr));
    writing.await.unwrap();
    assert!(stdout == sent, "{} of {} bytes", stdout.len(), sent.len());
    assert_eq!(stderr, "done\n");
    assert_eq!(session.asked.answer().await, Answer::Exited(End::Code(4)));
    let (output, _) = started(&socket, shell("readlink /proc/self/fd/0; cat")).await.finish().await;
    assert_eq!(output, "/dev/null\n");
    pod.end().await;
}

#[tokio::test]
async fn a_terminal_has_its_size_from_the_beginning_and_is_the_session_s_own() {
    let task = Task::idle("a").command("user", json!("nobody"));
    let (pod, socket) = with_task(task).await;
    let text = "stty size; stat -c %u $(tty); [ $(ps -o tpgid= -p $$) = $$ ] && echo controls; echo $TERM; read x; stty size";
    let mut session = started(&socket, terminal(shell(text))).await;
    let [master] = session.ends.as_slice() else { panic!("{session:?}") };
    assert_eq!(tcgetwinsize(master).unwrap().ws_col, 99);
    let size = Winsize { ws_row: 50, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 };
    // The first size is read before the line is.
    tokio::time::sleep(Duration::from_millis(200)).await;
    tcsetwinsize(master, size).unwrap();
    session.asked.wish(Wish::Resize(WindowSize { rows: 50, columns: 60 })).await;
    write_all(master, b"\n");
    let (output, answer) = session.finish().await;
    let lines: Vec<&str> = output.lines().map(str::trim).collect();
    assert_eq!(lines, ["33 99", "65534", "controls", "xterm", "", "50 60"], "{output:?}");
    assert_eq!(answer, Answer::Exited(End::Code(0)));
    pod.end().await;
}

#[tokio::test]
async fn a_session_has_the_task_s_user_folder_environment_and_limits_or_what_was_asked_for() {
    let settings = json!({
        "exec": {"users": ["daemon"], "environment": ["LC_*"]}, "umask": "027", "groups": ["4242"],
        "rlimits": {"nofile": {"soft": 123, "hard": 456}}, "no_new_privileges": true,
    });
    let task = Task::idle("a")
        .command("user", json!("nobody"))
        .command("environment", json!({"variables": [{"name": "OWN", "value": "1"}]}))
        .settings(&settings);
    let (pod, socket) = with_task(task).await;
    let text = "id -u; id -G; pwd; echo $OWN $MESOS_TASK_ID $USER; umask; ulimit -n; cat /proc/self/oom_score_adj; \
                grep NoNewPrivs /proc/self/status | cut -f2; ls /proc | grep -c '^1$'";
    let (output, _) = started(&socket, shell(text)).await.finish().await;
    let sandbox = pod.sandbox("a");
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[1].split(' ').any(|group| group == "4242"), "{output}");
    let expected =
        ["65534", lines[1], &sandbox.to_string_lossy(), "1 a nobody", "0027", "123", "1000", "1", "1"];
    assert_eq!(lines, expected);
    std::fs::create_dir(sandbox.join("below")).unwrap();
    let what = Exec {
        user: Some("daemon".to_owned()),
        environment: [("LC_ALL", "C"), ("TERM", "vt52"), ("LC_ALL", "D")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        folder: Some("below".to_owned()),
        ..shell("id -u; id -G; pwd; echo $LC_ALL $TERM $USER")
    };
    let (output, _) = started(&socket, what).await.finish().await;
    assert_eq!(output, format!("1\n1\n{}/below\nD vt52 daemon\n", sandbox.display()));
    let what = Exec { user: Some("65534".to_owned()), folder: Some("/".to_owned()), ..shell("id -G; pwd") };
    let (output, _) = started(&socket, what).await.finish().await;
    assert!(
        output.contains("4242") && output.ends_with("\n/\n"),
        "the task's own user has the task's groups: {output}"
    );
    pod.end().await;
}

#[tokio::test]
async fn what_a_task_s_settings_do_not_allow_is_refused_with_a_sentence() {
    let pod = Pod::start().await;
    let socket = pod.control_socket().await;
    let closed = json!({"exec": {"allowed": false}});
    let careful = json!({"exec": {"terminal": false, "signals": ["SIGHUP"]}});
    pod.launch(Task::idle("closed").settings(&closed));
    pod.launch(Task::idle("a").settings(&careful));
    pod.launch(Task::idle("wrong").settings(&json!({"exec": {"signals": ["SIGNUP"]}})));
    for id in ["closed", "a"] {
        pod.wait(id, Running).await;
    }
    let status = pod.wait("wrong", TaskState::Error).await;
    assert!(pod::message(&status).starts_with("data.exec.signals[0]: \"SIGNUP\""), "{status:?}");
    let (kind, message) = refused(&socket, command("closed", &["true"])).await;
    assert_eq!(kind, RefusalKind::Forbidden);
    assert_eq!(message, "task closed allows no processes to be started in it (exec.allowed)");
    assert_eq!(refused(&socket, terminal(shell("true"))).await.0, RefusalKind::Forbidden);
    let other = Exec { user: Some("root".to_owned()), ..shell("true") };
    started(&socket, other).await.finish().await;
    for (what, kind) in [
        (Exec { user: Some("daemon".to_owned()), ..shell("true") }, RefusalKind::Forbidden),
        (Exec { environment: vec![("A".into(), "1".into())], ..shell("true") }, RefusalKind::Forbidden),
        (Exec { environment: vec![("A=".into(), "1".into())], ..shell("true") }, RefusalKind::Invalid),
        (command("a", &[]), RefusalKind::Invalid),
        (command("a", &["true", "x".repeat(200 << 10).as_str()]), RefusalKind::Failed),
        (command("nobody", &["true"]), RefusalKind::UnknownTask),
        (command("wrong", &["true"]), RefusalKind::NotRunning),
        (command("a", &["no-such-command"]), RefusalKind::Failed),
        (Exec { user: Some("no-such-user".to_owned()), ..shell("true") }, RefusalKind::Failed),
        (Exec { folder: Some("no-such-folder".to_owned()), ..shell("true") }, RefusalKind::Failed),
    ] {
        let shown = format!("{what:.300?}");
        let refusal = refused(&socket, what).await;
        assert_eq!(refusal.0, kind, "{shown}: {refusal:?}");
    }
    let message = refused(&socket, command("a", &["no-such-command"])).await.1;
    assert_eq!(message, "execute no-such-command: ENOENT: No such file or directory");
    let signal = |signal| Request::Signal { task: TaskId::new("a"), signal };
    let Answer::Refused(refusal) = ask(&socket, &signal(15)).await.answer().await else { panic!("sent") };
    assert_eq!(refusal.kind, RefusalKind::Forbidden);
    let Answer::Refused(refusal) = ask(&socket, &signal(0)).await.answer().await else { panic!("sent") };
    assert_eq!(refusal.kind, RefusalKind::Invalid);
    let mut session =
        started(&socket, shell("trap 'exit 5' TERM; trap 'exit 6' HUP; echo; while :; do sleep 0.01; done"))
            .await;
    session.asked.wish(Wish::Signal(15)).await;
    wait_until("the session says that it runs", || {
        let mut byte = [0_u8];
        rustix::io::read(&session.ends[0], &mut byte) == Ok(1)
    })
    .await;
    session.asked.wish(Wish::Signal(1)).await;
    assert_eq!(
        session.asked.answer().await,
        Answer::Exited(End::Code(6)),
        "SIGTERM is not allowed, SIGHUP is"
    );
    no_sessions(&pod).await;
    pod.end().await;
}

#[tokio::test]
async fn a_signal_reaches_a_task_s_first_process() {
    let task = Task::shell("a", "trap 'exit 9' HUP; echo ready; while :; do sleep 0.01; done");
    let (pod, socket) = with_task(task).await;
    pod.wait_stdout("a", "ready").await;
    let signal = Request::Signal { task: TaskId::new("a"), signal: 1 };
    assert_eq!(ask(&socket, &signal).await.answer().await, Answer::Done);
    assert!(pod::message(&pod.wait("a", Failed).await).contains("exited with status 9"));
    let Answer::Refused(refusal) = ask(&socket, &signal).await.answer().await else { panic!("sent") };
    assert_eq!(refusal.kind, RefusalKind::NotRunning);
    pod.end().await;
}

#[tokio::test]
async fn a_peer_of_another_user_is_closed_before_it_is_heard() {
    let mode = |path: &Path| path.metadata().expect("look at it").permissions().mode() & 0o777;
    let list = r#"use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; connect(S, sockaddr_un($ARGV[0])) or die "connect: $!";
                  syswrite(S, pack("V", 6) . '"List"'); my $n = sysread(S, my $b, 100); print defined $n ? $n : "closed";"#;
    let ask_as = |socket: &Path, user: u32| {
        let mut command = Command::new("perl");
        command.args(["-e", list]).arg(socket.file_name().unwrap()).current_dir(socket.parent().unwrap());
        // Who may not even enter the folder does not get as far as perl.
        let output = command.uid(user).gid(user).output().map(|output| output.stdout).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    };
    let heard = |told: String| told.parse::<u32>().is_ok_and(|bytes| bytes > 4);
    for (exec_user, folder_mode) in [("daemon", 0o750), ("no-such-user", 0o700)] {
        let pod = Pod::with(Options::default(), &["--exec-user", exec_user]).await;
        let socket = pod.control_socket().await;
        let folder = socket.parent().unwrap().to_owned();
        assert_eq!((mode(&folder), mode(&socket)), (folder_mode, 0o660));
        assert_eq!(mode(folder.parent().unwrap()), 0o755);
        assert_eq!(heard(ask_as(&socket, 1)), exec_user == "daemon", "daemon gets there by its group");
        assert!(heard(ask_as(&socket, 0)));
        // As if an operator had opened them to everybody.
        for (path, mode) in [(&folder, 0o755), (&socket, 0o777)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let told = ask_as(&socket, 65534);
        assert!(["0", "closed", ""].contains(&told.as_str()), "{told}");
        assert!(pod.log().contains("the peer is user 65534"), "{}", pod.log());
        pod.end().await;
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_or_nonsense_is_closed() {
    let (pod, socket) = idle().await;
    let began = Instant::now();
    let silent = connect(&socket).await.unwrap();
    let nonsense = connect(&socket).await.unwrap();
    nonsense.writable().await.unwrap();
    nonsense.try_write(&[&4_u32.to_le_bytes()[..], b"nope"].concat()).unwrap();
    let huge = connect(&socket).await.unwrap();
    huge.writable().await.unwrap();
    huge.try_write(&(2_u32 << 20).to_le_bytes()).unwrap();
    let mut buffer = [0_u8; 4096];
    for stream in [&nonsense, &huge] {
        stream.readable().await.unwrap();
        let count = stream.try_read(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        assert!(text.contains("\"kind\":\"Invalid\""), "{text}");
    }
    silent.readable().await.unwrap();
    assert_eq!(silent.try_read(&mut buffer).unwrap(), 0);
    assert!(began.elapsed() >= Duration::from_secs(4));
    pod.end().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_session_with_it() {
    let (pod, socket) = idle().await;
    for what in
        [shell("trap '' HUP TERM; sleep 1000 & sleep 1000"), terminal(shell("trap '' HUP; sleep 1000"))]
    {
        let session = started(&socket, what).await;
        assert!(is_alive(session.pid) && !sessions(&pod).is_empty());
        let pid = session.pid;
        drop(session);
        wait_until("the end of the session's process", || !is_alive(pid)).await;
        no_sessions(&pod).await;
    }
    let told = pod.shared("told");
    let text = format!("trap 'echo hup > {}; exit' HUP; echo; while :; do sleep 0.01; done", told.display());
    let session = started(&socket, shell(&text)).await;
    let mut byte = [0_u8];
    assert_eq!(rustix::io::read(&session.ends[0], &mut byte), Ok(1));
    drop(session);
    wait_until("SIGHUP", || read(&told) == "hup\n").await;
    no_sessions(&pod).await;
    assert_eq!(pod.processes_of("a").len(), 1, "the task lives on");
    pod.end().await;
}

#[tokio::test]
async fn what_a_session_leaves_behind_is_killed_and_holds_nothing_open() {
    let (pod, socket) = idle().await;
    for what in [shell("setsid sleep 1000 & exit 3"), terminal(shell("setsid sleep 1000 & exit 3"))] {
        let mut session = started(&socket, what).await;
        assert_eq!(session.asked.answer().await, Answer::Exited(End::Code(3)), "its end waits for nobody");
        assert!(session.asked.next().await.is_none(), "that was the last answer");
        session.rest(usize::from(session.ends.len() > 1)).await;
        no_sessions(&pod).await;
    }
    pod.wait_processes("a", 1).await;
    pod.end().await;
}

#[tokio::test]
async fn the_end_of_a_task_ends_its_sessions_with_the_reason() {
    let (pod, socket) = idle().await;
    let mut session = started(&socket, shell("trap '' HUP TERM; sleep 1000")).await;
    let mut terminal = started(&socket, terminal(shell("sleep 1000"))).await;
    pod.agent.kill("a", None);
    assert_eq!(session.asked.answer().await, Answer::Ended(EndReason::TaskEnded));
    assert_eq!(terminal.asked.answer().await, Answer::Ended(EndReason::TaskEnded));
    pod.wait("a", Killed).await;
    wait_until("the end of its cgroups", || sessions(&pod).is_empty()).await;
    let ended = refused(&socket, shell("true")).await;
    assert_eq!(
        ended,
        (RefusalKind::NotRunning, "task a has no running process: it is TASK_KILLED".to_owned())
    );
    pod.end().await;
}

#[tokio::test]
async fn what_ends_its_own_task_reports_its_own_end() {
    let pod = Pod::start().await;
    let socket = pod.control_socket().await;
    for round in 0..20 {
        let id = format!("a{round}");
        let seconds = format!("{}", 10_000 + round);
        pod.launch(Task::argv(&id, &["sleep", &seconds]));
        pod.wait(&id, Running).await;
        let pkill = command(&id, &["pkill", "-f", &format!("sleep {seconds}")]);
        let what = if round % 2 == 0 { terminal(pkill) } else { pkill };
        let (_, answer) = started(&socket, what).await.finish().await;
        assert_eq!(answer, Answer::Exited(End::Code(0)), "round {round}");
        pod.wait(&id, Failed).await;
    }
    pod.launch(Task::argv("b", &["sleep", "20000"]));
    pod.wait("b", Running).await;
    let text = "pkill -x -f 'sleep 20000'; sleep 0.05; exit 8";
    let (_, answer) = started(&socket, command("b", &["sh", "-c", text])).await.finish().await;
    assert_eq!(answer, Answer::Exited(End::Code(8)), "there is a moment for last words");
    pod.end().await;
}

#[tokio::test]
async fn what_a_task_left_beside_sessions_gets_no_last_words_and_a_session_two_hundred_milliseconds() {
    let text = "setsid sleep 4242 & exec sleep 1000";
    let (pod, socket) = with_task(Task::shell("a", text)).await;
    pod.wait_processes("a", 2).await;
    let mut session = started(&socket, shell("sleep 1000")).await;
    let pid = list(&socket).await.tasks[0].pid.unwrap();
    let began = Instant::now();
    send(i32::try_from(pid).unwrap(), Signal::KILL);
    pod.wait("a", Failed).await;
    let left = || pod.processes_of("a").iter().any(|pid| command_line(*pid).contains("4242"));
    wait_until("the end of what it left", || !left()).await;
    assert_eq!(session.asked.answer().await, Answer::Ended(EndReason::TaskEnded));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(190) && took < Duration::from_secs(3), "{took:?}");
    pod.end().await;
}

fn command_line(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

#[tokio::test]
async fn a_restart_in_place_ends_the_sessions_of_the_process_before() {
    for mode in ["cgroup", "process"] {
        let settings = json!({"restart": {"policy": "always", "delay_seconds": 0}, "kill_mode": mode});
        let (pod, socket) = with_task(Task::idle("a").settings(&settings)).await;
        let mut session = started(&socket, shell("sleep 1000")).await;
        send(i32::try_from(list(&socket).await.tasks[0].pid.unwrap()).unwrap(), Signal::KILL);
        assert_eq!(session.asked.answer().await, Answer::Ended(EndReason::TaskEnded));
        let is_back = || async { list(&socket).await.tasks[0].clone() };
        while is_back().await.pid.is_none() || is_back().await.restarts == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let task = list(&socket).await.tasks[0].clone();
        assert_eq!(task.last_end.unwrap().end, Some(End::Signal(9)));
        let (output, _) = started(&socket, shell("echo again")).await.finish().await;
        assert_eq!(output, "again\n");
        no_sessions(&pod).await;
        pod.end().await;
    }
}

#[tokio::test]
async fn a_session_that_runs_out_of_memory_does_not_end_its_task() {
    let task = Task::idle("a").resources(0.5, 48.0);
    let (pod, socket) = with_task(task).await;
    let eat = "x = \"0123456789\" x 30_000_000; sleep 1000";
    let session = started(&socket, command("a", &["perl", "-e", &format!("${eat}")])).await;
    let (_, answer) = session.finish().await;
    assert_eq!(answer, Answer::Exited(End::Signal(9)));
    // The verdict on an OOM takes up to half a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(list(&socket).await.tasks[0].state, Running.into());
    pod.end().await;
}

#[tokio::test]
async fn a_shutdown_and_the_death_of_the_pod_end_sessions_with_the_pod() {
    let (pod, socket) = idle().await;
    let mut session = started(&socket, shell("trap '' HUP TERM; sleep 1000")).await;
    pod.agent.shutdown();
    assert_eq!(session.asked.answer().await, Answer::Ended(EndReason::PodEnded));
    pod.ended().await;
    let (pod, socket) = idle().await;
    let mut session = started(&socket, shell("sleep 1000")).await;
    send(pod.init(), Signal::KILL);
    assert_eq!(session.asked.answer().await, Answer::Ended(EndReason::PodEnded));
    pod.wait("a", Failed).await;
    pod.end().await;
}

#[tokio::test]
async fn five_hundred_sessions_opened_and_dropped_leave_no_cgroup_and_no_descriptor() {
    let (pod, socket) = idle().await;
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", pod.process())).unwrap().count();
    let run = async |number: usize| {
        let what = if number.is_multiple_of(2) { shell("sleep 1000") } else { terminal(shell("sleep 1000")) };
        drop(started(&socket, what).await);
    };
    run(0).await;
    no_sessions(&pod).await;
    let before = descriptors();
    for number in 0..500 {
        run(number).await;
    }
    no_sessions(&pod).await;
    wait_until("as many descriptors as before", || descriptors() <= before).await;
    pod.wait_processes("a", 1).await;
    pod.end().await;
}

#[tokio::test]
async fn the_socket_goes_with_its_executor_and_a_sweep_removes_that_of_a_dead_one() {
    let pod = Pod::start().await;
    let socket = pod.control_socket().await;
    let folder = socket.parent().unwrap().to_owned();
    pod.end().await;
    assert!(!folder.exists());

    let (mut dead, socket) = idle().await;
    let living = Pod::in_state(dead.state().clone(), Options::default(), &[]).await;
    let mut session = started(&socket, shell("sleep 1000")).await;
    dead.signal(Signal::KILL);
    dead.exited().await;
    assert!(session.asked.is_closed_within(Duration::from_secs(5)).await);
    assert!(socket.exists());
    let program = built_executor().expect("a built executor");
    let sweep =
        Command::new(program).arg("--sweep").arg("--state").arg(dead.state_folder()).output().unwrap();
    assert!(sweep.status.success(), "{sweep:?}");
    assert!(!socket.exists());
    let left: BTreeSet<PathBuf> = cgroups::named(|name| name == dead.cgroup_base());
    assert!(left.is_empty(), "{left:?}");
    let other = living.control_socket().await;
    assert_eq!(list(&other).await.executor_id, "executor-1", "a living one is left alone");
    let mut living = living;
    living.agent.shutdown();
    assert!(living.exited().await.success());
    assert!(!other.parent().unwrap().exists());
    dead.left_nothing().await;
}

#[tokio::test]
async fn descriptors_of_a_peer_are_closed() {
    let (pod, socket) = idle().await;
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", pod.process())).unwrap().count();
    let (mut sender, mut receiver) = task::connection::split(connect(&socket).await.unwrap());
    let file = std::fs::File::open("/dev/null").unwrap();
    sender.send(&Request::Watch { url: None }, &[file.as_fd(), file.as_fd()]).await.unwrap();
    receiver.receive::<Answer>().await.unwrap().unwrap();
    let before = descriptors();
    for _ in 0..20 {
        sender.send(&Wish::Signal(1), &[file.as_fd(), file.as_fd()]).await.unwrap();
    }
    list(&socket).await;
    wait_until("no more descriptors than before", || descriptors() <= before).await;
    pod.launch(Task::shell("b", "true"));
    pod.wait("b", Finished).await;
    pod.end().await;
}
