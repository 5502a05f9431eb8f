//! Clients that are slow, many, wrong, dead or gone; and ends of everything a session hangs on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kube_executor_tests::cgroups;
use kube_executor_tests::endpoint::{Client, POLICY, Siege, Socket, frame};
use kube_executor_tests::fake_agent::PATIENCE;
use kube_executor_tests::pod::{Signal, Task, wait_until};
use mesos::common::TaskState::Killed;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const CAT: &str = "/kubex/v1/tasks/a/exec?command=cat&stdin=true&stdout=true";

async fn stand(arguments: &[&str]) -> Siege {
    Siege::start(vec![("a", Task::idle("a"))], POLICY, arguments).await
}

fn exec(text: &str) -> String {
    let text: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/kubex/v1/tasks/a/exec?command=sh&command=-c&command={text}&stdin=true&stdout=true&stderr=true")
}

async fn open(client: &Client, path: &str) -> Socket {
    client.open(path, &[]).await.unwrap_or_else(|answered| panic!("{path}: {answered:?}"))
}

/// A session in which `cat` answers.
async fn echoing(client: &Client) -> Socket {
    let mut socket = open(client, CAT).await;
    socket.input(b"hello\n").await.expect("send input");
    socket.wait_for("hello").await;
    socket
}

async fn echoes(socket: &mut Socket) {
    socket.input(b"still\n").await.expect("send input");
    socket.wait_for("still").await;
}

/// Waits until the sample has this value.
async fn until_metric(stand: &Siege, sample: &str, wanted: impl Fn(f64) -> bool) {
    let asking = async {
        while !wanted(stand.endpoint.metric(&stand.boss, sample).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{sample} stays as it is"));
}

#[tokio::test(flavor = "multi_thread")]
async fn half_handshakes_and_slow_headers_are_ended_in_time_and_harm_nobody() {
    let stand = stand(&["--handshake-timeout", "1", "--header-timeout", "1"]).await;
    let mut sockets = Vec::new();
    for begin in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00", b"\x16\x03\x01\xff\xff"] {
        for _ in 0..50 {
            let mut socket = TcpStream::connect(stand.boss.address()).await.expect("connect");
            socket.write_all(begin).await.expect("begin a handshake");
            sockets.push(socket);
        }
    }
    assert_eq!(stand.boss.ask("GET", "/kubex/v1/tasks", &[]).await.code, 200, "others are served");
    let began = Instant::now();
    for mut socket in sockets {
        let mut rest = Vec::new();
        let closing = tokio::time::timeout(Duration::from_secs(5), socket.read_to_end(&mut rest));
        assert!(closing.await.is_ok(), "closed after {:?}", began.elapsed());
    }
    let mut slow = stand.boss.raw().await.expect("connect");
    let mut silent = stand.boss.raw().await.expect("connect");
    slow.send(b"GET /version HTTP/1.1\r\nhost: a\r\n").await.expect("begin a header");
    let dripping = async {
        while slow.send(b"x-a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(6), dripping).await.expect("a header has its time in all");
    assert!(silent.closes_within(Duration::from_secs(5)).await, "and so has a connection without one");
    let mut kept = stand.boss.raw().await.expect("connect");
    assert_eq!(kept.ask("GET", "/version", &[]).await.code, 200);
    kept.send(b"GET /version HT").await.expect("begin the next");
    assert!(kept.closes_within(Duration::from_secs(5)).await, "the second header is no exception");
    let mut plain = TcpStream::connect(stand.boss.address()).await.expect("connect");
    plain.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("speak HTTP");
    let mut told = String::new();
    plain.read_to_string(&mut told).await.expect("an answer");
    assert!(told.starts_with("HTTP/1.1 400") && told.contains("https://"), "{told}");
    until_metric(&stand, "exec_endpoint_connections ", |count| count <= 1.0).await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_huge_or_many_or_no_headers_are_refused() {
    let stand = stand(&[]).await;
    let line = "x".repeat(200_000);
    let many = "x-a: b\r\n".repeat(1000);
    let several = "x-a: b\r\n".repeat(120);
    let url = "y".repeat(100_000);
    for request in [
        format!("GET /version HTTP/1.1\r\nhost: a\r\nx-a: {line}\r\n\r\n"),
        format!("GET /version HTTP/1.1\r\nhost: a\r\n{many}\r\n"),
        format!("GET /version HTTP/1.1\r\nhost: a\r\n{several}\r\n"),
        format!("GET /{url} HTTP/1.1\r\nhost: a\r\n\r\n"),
        format!("{line} / HTTP/1.1\r\n\r\n"),
        "GET /version HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n".to_owned(),
        "GET /version HTTP/1.1\r\nhost : a\r\n\r\n".to_owned(),
        "GET /version HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n".to_owned(),
        "GET /version HTTP/9.9\r\nhost: a\r\n\r\n".to_owned(),
        "GET /version HTTP/1.1\r\n\r\n".to_owned(),
        "GET version HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
    ] {
        let mut raw = stand.boss.raw().await.expect("connect");
        let code = raw.say(request.as_bytes()).await.map(|answered| answered.code);
        let refused = code.is_none_or(|code| matches!(code, 400 | 414 | 431));
        assert!(refused, "{:?}: {code:?}", &request[..request.len().min(80)]);
    }
    let mut raw = stand.boss.raw().await.expect("connect");
    let answered = raw.say(format!("GET /version HTTP/1.1\r\nhost: a\r\n{several}\r\n").as_bytes()).await;
    assert_eq!(answered.map(|answered| answered.code), Some(431));
    assert_eq!(stand.boss.ask("GET", "/version", &[]).await.code, 200);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_closed_and_there_is_room_again_when_one_ends() {
    let stand = stand(&["--most-connections", "6"]).await;
    until_metric(&stand, "exec_endpoint_connections ", |count| count <= 1.0).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut raw = stand.boss.raw().await.expect("connect");
        assert_eq!(raw.ask("GET", "/version", &[]).await.code, 200);
        held.push(raw);
    }
    let mut last = stand.boss.raw().await.expect("connect");
    assert_eq!(last.ask("GET", "/version", &[]).await.code, 200);
    for _ in 0..3 {
        assert!(stand.boss.raw().await.is_err(), "the seventh is turned away");
    }
    held.pop();
    let again = async { while stand.boss.raw().await.is_err() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("room for one");
    drop(held);
    let body = last.ask("GET", "/metrics", &[]).await.body;
    let line = body.lines().find(|line| line.starts_with("exec_endpoint_connections_turned_away_total "));
    let count = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<u32>().ok());
    assert!(count.is_some_and(|count| count >= 3), "{body}");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bounded_per_user_per_task_and_in_all_and_a_refused_one_is_429() {
    let tasks = vec![("a", Task::idle("a")), ("b", Task::idle("b")), ("c", Task::idle("c"))];
    let bounds = ["--most-sessions-per-user", "3", "--most-sessions-per-task", "4", "--most-sessions", "5"];
    let stand = Siege::start(tasks, POLICY, &bounds).await;
    let people: Vec<Client> = ["ann", "bob", "cid"].map(|user| stand.endpoint.client(user, "ops")).into();
    let path = |task: &str| CAT.replace("/a/", &format!("/{task}/"));
    let try_open = async |user: usize, task: &str| people[user].open(&path(task), &[]).await;
    let mut held = Vec::new();
    for (user, task, expected) in [
        (0, "a", None),
        (0, "b", None),
        (0, "a", None),
        (0, "c", Some("ann has 3 sessions")),
        (1, "a", None),
        (1, "a", None),
        (1, "a", Some("all 5 sessions")),
    ] {
        match (try_open(user, task).await, expected) {
            (Ok(socket), None) => held.push(socket),
            (Err(answered), Some(text)) => {
                assert_eq!(answered.code, 429);
                assert!(answered.body.contains(text), "{answered:?}");
            }
            (got, wanted) => panic!("{user} {task}: {got:?}, not {wanted:?}"),
        }
    }
    // Four in a are left when the one in b ends.
    drop(held.remove(1));
    until_metric(&stand, "exec_endpoint_sessions{", |count| count == 4.0).await;
    let refused = try_open(2, "a").await.expect_err("a is full");
    assert!(refused.code == 429 && refused.body.contains("in task"), "{refused:?}");
    held.push(try_open(2, "c").await.expect("there is room in c"));
    drop(held);
    stand.no_sessions().await;
    drop(try_open(2, "a").await.expect("there is room again"));
    stand.no_sessions().await;
    stand.end().await;
}

/// Frames that end a session, each with its close code.
fn violations() -> Vec<(&'static str, Vec<u8>, u16)> {
    let unmasked = vec![0x82, 2, 0, b'x'];
    let long_ping = frame(0x89, &[0; 126]);
    let oversize = {
        let mut header = vec![0x82, 0xff];
        header.extend_from_slice(&(1_u64 << 40).to_be_bytes());
        header.extend_from_slice(&[0; 4]);
        header
    };
    let endless = {
        let mut header = vec![0x82, 0xff];
        header.extend_from_slice(&u64::MAX.to_be_bytes());
        header.extend_from_slice(&[0; 4]);
        header
    };
    let mut fragments = frame(0x02, &[0; 800_000]);
    fragments.extend(frame(0x00, &[0; 800_000]));
    vec![
        ("a bad opcode", frame(0x83, b"x"), 1002),
        ("a bad control opcode", frame(0x8b, b""), 1002),
        ("reserved bits", frame(0xc2, b"\0x"), 1002),
        ("unmasked", unmasked, 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a fragmented close", frame(0x08, b""), 1002),
        ("a long ping", long_ping, 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a message amid another", [frame(0x02, b"\0x"), frame(0x82, b"\0y")].concat(), 1002),
        ("half a close code", frame(0x88, &[3]), 1002),
        ("a terabyte", oversize, 1009),
        ("a length with its highest bit", endless, 1002),
        ("a message too long in fragments", fragments, 1009),
        ("no WebSocket at all", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(), 1002),
        ("nothing but ones", vec![0xff; 64], 1002),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_frame_ends_its_own_session_with_a_status_and_a_code() {
    let stand = stand(&[]).await;
    let mut other = echoing(&stand.boss).await;
    for (what, bytes, close) in violations() {
        let mut socket = echoing(&stand.boss).await;
        let _ = socket.send(&bytes).await;
        let ended = tokio::time::timeout(PATIENCE, socket.end()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{what}: no end"));
        assert_eq!(ended.reason(), "ProtocolError", "{what}");
        assert_eq!(ended.close.as_ref().map(|(code, _)| *code), Some(close), "{what}");
        echoes(&mut other).await;
    }
    wait_until("only the other's cat", || stand.pod.processes_of("a").len() == 2).await;
    drop(other);
    stand.no_sessions().await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_mean_nothing_are_ignored_and_input_goes_on() {
    let stand = stand(&[]).await;
    let mut socket = echoing(&stand.boss).await;
    for bytes in [
        frame(0x82, b""),
        frame(0x82, b"\x07what"),
        frame(0x82, b"\x01output?"),
        frame(0x82, b"\x03{\"status\":\"Success\"}"),
        frame(0x82, b"\x04"),
        frame(0x82, b"\x04{\"Width\":"),
        frame(0x82, b"\x04{\"Width\":0,\"Height\":0}"),
        frame(0x82, b"\x04{\"Width\":-1,\"Height\":99999999}"),
        frame(0x82, b"\x04{\"Width\":80,\"Height\":24}"),
        frame(0x82, &[&b"\x04"[..], &vec![b'['; 500_000]].concat()),
        frame(0x82, b"\xff\x01"),
        frame(0x82, b"\xff"),
        frame(0x82, b"\xff\x00\x00"),
        frame(0x81, b"text"),
        frame(0x8a, b"a pong that nobody asked for"),
    ] {
        socket.send(&bytes).await.expect("send a message");
        echoes(&mut socket).await;
    }
    socket.send(&frame(0x89, b"are you there")).await.expect("ping");
    loop {
        match socket.next().await {
            Some((0x8a, payload)) => break assert_eq!(payload, b"are you there"),
            Some((0x89, _)) => {}
            other => panic!("no pong: {other:?}"),
        }
    }
    socket.send(&frame(0x82, b"\xff\x00")).await.expect("half-close");
    let ended = socket.end().await;
    assert_eq!((ended.reason(), ended.close.as_ref().map(|(code, _)| *code)), ("Success", Some(1000)));
    let mut socket = echoing(&stand.boss).await;
    let after_close = [frame(0x88, &1000_u16.to_be_bytes()), frame(0x82, b"\0too late\n")].concat();
    socket.send(&after_close).await.expect("close");
    let ended = socket.end().await;
    assert!(!String::from_utf8_lossy(&ended.stdout).contains("late"), "{ended:?}");
    stand.no_sessions().await;
    stand.end().await;
}

/// A way to an endpoint that can be cut without a word to either side.
struct Cable {
    address: String,
    cut: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Cable {
    async fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("its address").to_string();
        let (cut, is_cut) = watch::channel(false);
        let far: Arc<str> = address.into();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut wires = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&*far).await.expect("connect to the endpoint");
                wires.spawn(carry(near, far, is_cut.clone()));
            }
        });
        Self { address: own, cut, _tasks: tasks }
    }

    fn cut(&self) {
        self.cut.send_replace(true);
    }
}

/// Both ways until it is cut; then both ends stay open and nothing is read.
async fn carry(mut near: TcpStream, mut far: TcpStream, mut cut: watch::Receiver<bool>) {
    let is_cut = async { cut.wait_for(|&cut| cut).await.is_ok() };
    let was_cut = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => false,
        was_cut = is_cut => was_cut,
    };
    if was_cut {
        std::future::pending::<()>().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_dead_without_a_word_is_noticed_and_its_process_killed() {
    let stand = stand(&["--ping-interval", "1", "--dead-after", "3"]).await;
    let cable = Cable::to(stand.boss.address()).await;
    let raw = stand.boss.raw_to(&cable.address, Some(stand.boss.pair())).await.expect("connect");
    let path = exec("trap '' HUP; echo here; sleep 1000");
    let mut socket = raw.open(&path, &[]).await.expect("a session");
    socket.wait_for("here").await;
    stand.pod.wait_processes("a", 3).await;
    let began = Instant::now();
    cable.cut();
    stand.pod.wait_processes("a", 1).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    let close = stand.closing("echo here").await;
    assert!(close["reason"].as_str().is_some_and(|reason| reason.starts_with("dead: ")), "{close}");
    assert!(close["code"].is_null(), "{close}");
    stand.no_sessions().await;
    drop(socket);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_whose_command_writes_without_end_is_noticed_too() {
    let stand = stand(&["--ping-interval", "1", "--dead-after", "3"]).await;
    let cable = Cable::to(stand.boss.address()).await;
    let raw = stand.boss.raw_to(&cable.address, Some(stand.boss.pair())).await.expect("connect");
    let mut socket = raw.open(&exec("echo here; exec cat /dev/zero"), &[]).await.expect("a session");
    socket.wait_for("here").await;
    stand.pod.wait_processes("a", 2).await;
    cable.cut();
    stand.pod.wait_processes("a", 1).await;
    stand.no_sessions().await;
    stand.end().await;
}

/// No proxy can show it, for its kernel acknowledges what the endpoint sends.
#[tokio::test(flavor = "multi_thread")]
async fn the_kernel_counts_a_session_s_client_as_dead_when_it_acknowledges_nothing_and_no_other_s() {
    let stand = stand(&["--dead-after", "33"]).await;
    let mut plain = stand.boss.raw().await.expect("connect");
    assert_eq!(plain.ask("GET", "/version", &[]).await.code, 200);
    assert!(!user_timeouts(stand.endpoint.process()).contains(&33_000));
    let socket = echoing(&stand.boss).await;
    let timeouts = user_timeouts(stand.endpoint.process());
    assert_eq!(timeouts.iter().filter(|&&time| time == 33_000).count(), 1, "{timeouts:?}");
    drop(socket);
    stand.no_sessions().await;
    stand.end().await;
}

/// TCP_USER_TIMEOUT of each TCP socket of a process.
fn user_timeouts(process: u32) -> Vec<u32> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("open a process");
    let entries = std::fs::read_dir(format!("/proc/{process}/fd")).expect("descriptors").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let copies = numbers.filter_map(|number| pidfd_getfd(&pidfd, number, PidfdGetfdFlags::empty()).ok());
    copies.filter_map(|copy| rustix::net::sockopt::tcp_user_timeout(copy).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_blocks_its_own_command_only_and_still_gets_all() {
    let stand = stand(&[]).await;
    let mut lazy = open(&stand.boss, &exec("head -c 30000000 /dev/zero; echo done >&2; exit 3")).await;
    let mut other = echoing(&stand.boss).await;
    wait_until("the lazy one's command to wait", || {
        let waits = |pid: &i32| {
            let read =
                |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            read("cmdline").starts_with("head") && read("wchan").contains("pipe")
        };
        stand.pod.processes_of("a").iter().any(waits)
    })
    .await;
    for _ in 0..20 {
        echoes(&mut other).await;
    }
    assert_eq!(stand.boss.ask("GET", "/kubex/v1/tasks", &[]).await.code, 200);
    let ended = tokio::time::timeout(PATIENCE, lazy.end()).await.expect("the status does not hang");
    assert_eq!((ended.stdout.len(), ended.stderr.as_slice()), (30_000_000, &b"done\n"[..]));
    assert_eq!(ended.reason(), "NonZeroExitCode");
    drop(other);
    stand.no_sessions().await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_more_is_given_up_after_a_while() {
    let stand = stand(&[]).await;
    let mut lazy = open(&stand.boss, &exec("echo here; exec cat /dev/zero")).await;
    lazy.wait_for("here").await;
    let began = Instant::now();
    stand.no_sessions_within(Duration::from_secs(50)).await;
    assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
    let close = stand.closing("echo here").await;
    // Whichever of the two clocks runs out first: the kernel takes a little now and then.
    let reason = close["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("did not read") || reason.starts_with("dead: "), "{close}");
    drop(lazy);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_opens_and_aborts_at_every_stage_leave_nothing() {
    let stand = stand(&[]).await;
    drop(echoing(&stand.boss).await);
    stand.no_sessions().await;
    let descriptors = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
    let (endpoint, executor) = (stand.endpoint.process(), stand.pod.process());
    let before = (descriptors(endpoint) + 3, descriptors(executor) + 3);
    for round in 0..50_u64 {
        let mut aborted = JoinSet::new();
        for stage in 0..6_u8 {
            let boss = stand.boss.clone();
            aborted.spawn(abort(boss, stage, Duration::from_millis(round % 10)));
        }
        aborted.join_all().await;
    }
    stand.no_sessions().await;
    stand.pod.wait_processes("a", 1).await;
    until_metric(&stand, "exec_endpoint_connections ", |count| count <= 1.0).await;
    wait_until("all descriptors to be closed", || {
        descriptors(endpoint) <= before.0 && descriptors(executor) <= before.1
    })
    .await;
    drop(echoing(&stand.boss).await);
    stand.no_sessions().await;
    stand.end().await;
}

/// A session that is given up at this stage, a little later.
async fn abort(client: Client, stage: u8, later: Duration) {
    let pause = tokio::time::sleep(later);
    match stage {
        0 => {
            let mut socket = TcpStream::connect(client.address()).await.expect("connect");
            let _ = socket.write_all(b"\x16\x03\x01\x02\x00").await;
            pause.await;
        }
        1 => {
            let mut raw = client.raw().await.expect("connect");
            let _ = raw.send(b"GET /kubex/v1/tasks/a/exec?command=cat HTTP/1.1\r\nhost:").await;
            pause.await;
        }
        2 => {
            let mut raw = client.raw().await.expect("connect");
            let request = format!(
                "GET {CAT} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                 sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n\r\n"
            );
            let _ = raw.send(request.as_bytes()).await;
            pause.await;
        }
        3 => {
            let path = format!("{CAT}&tty=true");
            let _socket = open(&client, &path).await;
            pause.await;
        }
        4 => {
            let mut socket = echoing(&client).await;
            let _ = socket.send(&frame(0x82, &[0; 1000])[..500]).await;
            pause.await;
        }
        _ => {
            let mut socket = open(&client, "/kubex/v1/tasks/a/attach?stdout=true&stderr=true").await;
            let _ = socket.send(&frame(0x88, &[])).await;
            pause.await;
        }
    }
}

/// Thaws a cgroup when the test is over, however.
struct Frozen(std::path::PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        cgroups::thaw(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exec_into_a_frozen_task_holds_nobody_else_up() {
    let stand = Siege::start(vec![("a", Task::idle("a")), ("b", Task::idle("b"))], POLICY, &[]).await;
    let base = stand.pod.cgroup_base();
    let ours = cgroups::named(|name| name == base);
    let mut tasks = ours.iter().flat_map(|cgroup| cgroups::children(cgroup));
    let Some(cgroup) = tasks.find(|task| task.ends_with("a") && task.join("freezer.state").exists()) else {
        eprintln!("skipped: no freezer of cgroup v1 here");
        return stand.end().await;
    };
    let frozen = Frozen(cgroup);
    std::fs::write(frozen.0.join("freezer.state"), "FROZEN").expect("freeze a task");
    let mut waiting = open(&stand.boss, &exec("true")).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut other = open(&stand.boss, "/kubex/v1/tasks/b/exec?command=true&stdout=true").await;
    let ended = tokio::time::timeout(PATIENCE, other.end()).await.expect("b is not frozen");
    assert_eq!(ended.reason(), "Success");
    drop(frozen);
    let ended = tokio::time::timeout(PATIENCE, waiting.end()).await.expect("an end once it is thawed");
    assert_eq!(ended.reason(), "Success");
    stand.no_sessions().await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_task_a_pod_and_an_executor_ends_sessions_with_the_reason_and_no_success() {
    for (kind, expected) in
        [("task", &["TaskEnded"][..]), ("pod", &["PodEnded", "TaskEnded"]), ("executor", &["Lost"])]
    {
        let stand = stand(&[]).await;
        let mut socket = echoing(&stand.boss).await;
        let mut attached = open(&stand.boss, "/kubex/v1/tasks/a/attach?stdout=true").await;
        until_metric(&stand, "exec_endpoint_sessions{", |count| count == 2.0).await;
        match kind {
            "task" => stand.pod.agent.kill("a", None),
            "pod" => stand.pod.agent.shutdown(),
            _ => stand.pod.signal(Signal::KILL),
        }
        let ended = tokio::time::timeout(PATIENCE, socket.end()).await.expect("an end");
        assert!(expected.contains(&ended.reason()), "{kind}: {ended:?}");
        let attachment = tokio::time::timeout(PATIENCE, attached.end()).await.expect("an end");
        let lost = kind == "executor";
        assert_eq!(attachment.reason() == "Success", !lost, "{kind}: {attachment:?}");
        until_metric(&stand, "exec_endpoint_sessions{", |count| count == 0.0).await;
        if kind == "task" {
            stand.pod.wait("a", Killed).await;
            stand.end().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_told_to_stop_tells_its_sessions_and_ends_well() {
    let mut stand = stand(&[]).await;
    let mut socket = echoing(&stand.boss).await;
    let mut deaf = open(&stand.boss, &exec("trap '' HUP TERM; echo here; exec cat /dev/zero")).await;
    deaf.wait_for("here").await;
    let mut idle = stand.boss.raw().await.expect("connect");
    assert_eq!(idle.ask("GET", "/readyz", &[]).await.code, 200);
    let began = Instant::now();
    stand.endpoint.signal(Signal::TERM);
    let ended = tokio::time::timeout(PATIENCE, socket.end()).await.expect("an end");
    assert_eq!((ended.reason(), ended.close.as_ref().map(|(code, _)| *code)), ("Draining", Some(1001)));
    assert!(idle.closes_within(Duration::from_secs(5)).await, "a connection without a request");
    let status = stand.endpoint.exited().await;
    assert_eq!(status.code(), Some(0), "{}", stand.endpoint.log());
    assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    stand.pod.wait_processes("a", 1).await;
    let lines = stand.endpoint.audit();
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!(count("open"), count("close"), "{lines:?}");
    drop(deaf);
    stand.end().await;
}
