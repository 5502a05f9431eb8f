//! Sessions of the built program against a server of this test: exit codes, ends, bytes, signals.

use std::io::{Read as _, Write as _};
use std::process::{Output, Stdio};

use crate::server::Server;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn run(server: &Server, arguments: &[&str]) -> Output {
    server.kubex(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_exit_code_is_the_commands_and_128_and_n_for_a_signal() {
    let server = Server::start();
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("kill $$", 143)]
    {
        let output = run(&server, &["task", "exec", "local", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", text(&output.stderr));
    }
}

#[test]
fn stdout_and_stderr_stay_apart() {
    let server = Server::start();
    let output = run(&server, &["task", "exec", "local", "sh", "-c", "echo out; echo err >&2; echo more"]);
    assert_eq!((text(&output.stdout), text(&output.stderr)), ("out\nmore\n", "err\n"));
}

#[test]
fn user_folder_environment_and_command_arrive_as_given() {
    let server = Server::start();
    let flags =
        ["task", "exec", "-u", "ab c", "--cwd", "/a b", "-e", "A=ü&=", "local", "sh", "-c", "echo $A"];
    let output = run(&server, &flags);
    assert_eq!(text(&output.stdout), "ü&=\n");
    assert_eq!(
        server.requests(),
        [
            "GET /kubex/v1/tasks/local/exec?command=sh&command=-c&command=echo%20%24A&stdout=true&stderr=true&user=ab%20c&cwd=%2Fa%20b&env=A%3D%C3%BC%26%3D HTTP/1.1"
        ]
    );
}

#[test]
fn a_connection_that_is_lost_never_looks_like_success() {
    let server = Server::start();
    let output = run(&server, &["task", "exec", "lost", "true"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), "some output\n"));
    assert!(text(&output.stderr).starts_with("kubex: connection lost: "), "{}", text(&output.stderr));
}

#[test]
fn a_session_that_was_ended_tells_why() {
    let server = Server::start();
    let output = run(&server, &["task", "exec", "cut", "true"]);
    assert_eq!(output.status.code(), Some(255));
    assert_eq!(text(&output.stderr), "kubex: the task ended, and its sessions with it\n");
}

#[test]
fn refusals_are_125_and_say_what_to_do_next() {
    let server = Server::start();
    for (task, code, words) in [
        ("forbidden", 125, ["no rule of the policy", "policy file"]),
        ("two", 125, ["two-a, two-b", "give more of the name"]),
        ("anonymous", 125, ["nobody is known", "--token-file"]),
        ("etcd-0-per", 125, ["no task with that name", "did you mean etcd-0-peer?"]),
    ] {
        let output = run(&server, &["task", "exec", task, "true"]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let output = run(&server, &["task", "exec", "local"]);
    assert_eq!(output.status.code(), Some(125), "{output:?}");
}

#[test]
fn servers_that_cannot_be_reached_or_trusted_are_told_apart() {
    let (server, other) = (Server::start(), Server::start());
    let ca = format!("--ca={}", other.ca().display());
    let output = run(&server, &[&ca, "task", "list"]);
    assert_eq!(output.status.code(), Some(125), "given twice, it is a mistake of usage");
    let kubex = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubex"));
        let output = command.env_clear().env("HOME", "/nonexistent").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let address = format!("--server=https://{}", server.address);
    let (code, said) = kubex(&[&address, &ca, "task", "list"]);
    assert!(code == Some(125) && said.contains("is it the endpoint's CA?"), "{said}");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, said) = kubex(&[&format!("--server=https://{closed}"), &ca, "task", "list"]);
    assert!(code == Some(125) && said.contains("does the exec endpoint run there?"), "{said}");
    let (code, said) = kubex(&["task", "list"]);
    assert!(
        code == Some(125) && said.contains("kubex config set-context NAME --server URL --ca FILE"),
        "{said}"
    );
    let (code, said) = kubex(&[&address, "--insecure", "task", "list"]);
    assert!(code == Some(0) && said.contains("warning: --insecure"), "{said}");
}

#[test]
fn stdin_is_read_with_i_only_and_its_end_arrives() {
    let server = Server::start();
    let with = |arguments: &[&str]| {
        let mut child = server.kubex(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // Without -i nobody reads it; the pipe may be closed by then.
        let _ = stdin.write_all(b"hello");
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(
        with(&["task", "exec", "-i", "local", "--", "sh", "-c", "cat; exit 3"]),
        (Some(3), "hello".to_owned())
    );
    assert_eq!(with(&["task", "exec", "local", "--", "sh", "-c", "cat; exit 4"]), (Some(4), String::new()));
}

#[test]
fn without_i_what_stands_in_stdin_stays_there() {
    let server = Server::start();
    let script = r#"printf 'one\ntwo\n' | while read line; do "$@" task exec local echo "$line"; done"#;
    let kubex = server.kubex(&[]);
    let output = std::process::Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_kubex")])
        .args(kubex.get_args())
        .output()
        .unwrap();
    assert_eq!(text(&output.stdout), "one\ntwo\n");
}

/// 20 MiB in which every byte value and no period of a buffer's size occurs.
fn noise() -> Vec<u8> {
    let mut state = 1_u32;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(20 << 20)
    .collect()
}

#[test]
fn twenty_mebibytes_go_and_come_back_as_they_are() {
    let server = Server::start();
    let noise = noise();
    let mut child = server
        .kubex(&["task", "exec", "-i", "local", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sent = noise.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&sent));
    let mut back = Vec::new();
    stdout.read_to_end(&mut back).unwrap();
    writing.join().unwrap().unwrap();
    assert!(back == noise, "{} of {} bytes came back", back.len(), noise.len());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn output_flows_while_nobody_reads_the_input() {
    let server = Server::start();
    let mut child = server
        .kubex(&["task", "exec", "-i", "deaf", "--", "head", "-c", "1000000", "/dev/zero"])
        .stdin(std::fs::File::open("/dev/zero").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert_eq!((output.len(), child.wait().unwrap().code()), (1_000_000, Some(0)));
}

#[test]
fn a_closed_pipe_ends_it_quietly_with_141() {
    let server = Server::start();
    let mut child = server
        .kubex(&["task", "exec", "local", "yes"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut two = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut two).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), ""));
}

#[test]
fn the_first_signal_is_forwarded_and_the_second_ends_kubex() {
    let server = Server::start();
    // Its first word tells that the trap is set; the shell's wait is interrupted by it.
    let script = "trap 'echo got it; trap : TERM; n=1' TERM; echo ready; n=0; while :; do sleep 0.05; done";
    let mut child = server
        .kubex(&["task", "exec", "local", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "got it");
    assert!(
        server
            .requests()
            .iter()
            .any(|line| line.starts_with("POST /kubex/v1/tasks/local/signal?session=s1&signal=15 "))
    );
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_forwarded_signal_that_ends_the_command_gives_its_exit_code() {
    let server = Server::start();
    let mut child = server
        .kubex(&["task", "exec", "local", "--", "sh", "-c", "echo ready; exec sleep 1000"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn lists_are_tables_or_the_servers_json() {
    let server = Server::start();
    let output = run(&server, &["task", "list"]);
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0].starts_with("POD      TASK          STATE     HEALTH    PID   RESTARTS    CPU   MEMORY"),
        "{}",
        lines[0]
    );
    assert!(!text(&output.stdout).contains('\x1b'));
    let output = run(&server, &["task", "list", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json[0]["tasks"][1]["name"], "local");
    let output = run(&server, &["task", "metrics", "etcd"]);
    assert_eq!(text(&output.stdout).lines().count(), 2);
}

#[test]
fn logs_signals_and_attach_speak_the_endpoints_paths() {
    let server = Server::start();
    let output = run(&server, &["task", "logs", "--tail", "2", "--since", "5m", "local"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "one\ntwo\n"));
    let output = run(&server, &["task", "logs", "broken"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(255), "line\n"));
    let output = run(&server, &["task", "kill", "--signal", "hup", "local"]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "local: SIGHUP sent\n"));
    let requests = server.requests();
    assert!(
        requests[0].starts_with("GET /kubex/v1/tasks/local/log?tailLines=2&sinceSeconds=300 "),
        "{requests:?}"
    );
    assert!(requests[2].starts_with("POST /kubex/v1/tasks/local/signal?signal=SIGHUP "), "{requests:?}");
}

#[test]
fn a_context_is_written_and_used() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let kubex = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubex"));
        command
            .env_clear()
            .env("KUBEX_CONFIG", folder.path().join("k.toml"))
            .args(arguments)
            .output()
            .unwrap()
    };
    let (url, ca) = (format!("https://{}", server.address), server.ca());
    let set = kubex(&["config", "set-context", "here", "--server", &url, "--ca", ca.to_str().unwrap()]);
    assert_eq!(set.status.code(), Some(0), "{}", text(&set.stderr));
    assert_eq!(kubex(&["task", "list"]).status.code(), Some(125));
    assert_eq!(kubex(&["config", "use-context", "here"]).status.code(), Some(0));
    assert_eq!(kubex(&["task", "list"]).status.code(), Some(0));
    assert!(text(&kubex(&["config", "get-contexts"]).stdout).contains("*         here   https://127.0.0.1:"));
    let unknown = kubex(&["--context", "there", "task", "list"]);
    assert!(text(&unknown.stderr).contains("no context \"there\""), "{}", text(&unknown.stderr));
}
