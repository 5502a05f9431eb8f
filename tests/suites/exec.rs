//! `kubex task exec` through a real endpoint into real tasks: codes, streams, terminals, and what is left when one end is gone.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kube_executor_tests::endpoint::{Client, Endpoint};
use kube_executor_tests::pod::{Pod, Task, wait_until};
use kube_executor_tests::terminal::Terminal;
use mesos::common::TaskState::{Finished, Killed, Running};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// A pod with a task `etcd-0-peer` that idles, an endpoint, and somebody who may do everything.
struct Stand {
    pod: Pod,
    endpoint: Endpoint,
    client: Client,
}

impl Stand {
    async fn start() -> Self {
        Self::with(Task::idle("etcd-0-peer"), &[]).await
    }

    async fn with(task: Task, arguments: &[&str]) -> Self {
        let pod = Pod::start().await;
        let endpoint =
            Endpoint::with(&pod.control_folder(), kube_executor_tests::endpoint::POLICY, arguments).await;
        pod.launch(task);
        pod.wait("etcd-0-peer", Running).await;
        let client = endpoint.client("alice", "ops");
        let this = Self { pod, endpoint, client };
        wait_until("the endpoint to know the task", || this.kubex(&["task", "list"]).contains("etcd-0-peer"))
            .await;
        this
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.client.kubex(arguments).output().expect("run kubex")
    }

    fn kubex(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn code(&self, arguments: &[&str]) -> Option<i32> {
        let output = self.run(arguments);
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        output.status.code()
    }

    async fn end(self) {
        let Self { pod, endpoint, .. } = self;
        wait_until("no session's cgroup", || sessions_of(&pod).is_empty()).await;
        drop(endpoint);
        pod.end().await;
    }
}

/// The cgroups of sessions in the task.
fn sessions_of(pod: &Pod) -> Vec<std::path::PathBuf> {
    let bases = kube_executor_tests::cgroups::named(|name| name == pod.cgroup_base());
    let tasks = bases.iter().flat_map(|base| kube_executor_tests::cgroups::children(base));
    let children = tasks.flat_map(|task| kube_executor_tests::cgroups::children(&task));
    children
        .filter(|cgroup| cgroup.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec-")))
        .collect()
}

/// Feeds `input` to a command and returns its code and what it wrote.
fn feed(command: &mut Command, input: Vec<u8>) -> (Option<i32>, Vec<u8>) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a command");
    let mut stdin = child.stdin.take().expect("its stdin");
    let writing = std::thread::spawn(move || stdin.write_all(&input));
    let mut output = Vec::new();
    child.stdout.take().expect("its stdout").read_to_end(&mut output).expect("read its output");
    let status = child.wait().expect("wait for it");
    drop(writing.join().expect("a writer"));
    (status.code(), output)
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(bytes + 8);
    while all.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(bytes);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_s_exit_code_is_kubex_s_own() {
    let stand = Stand::start().await;
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "true"]), Some(0));
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", "exit 7"]), Some(7));
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", "kill -TERM $$"]), Some(143));
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "no-such-command"]), Some(125));
    assert_eq!(stand.code(&["task", "exec", "no-such-task", "true"]), Some(125));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_runs_in_the_task_s_cgroup_namespaces_environment_and_folder() {
    let task = Task::shell("etcd-0-peer", "exec sleep 1000").with(
        "command",
        json!({"value": "exec sleep 1000", "environment": {"variables": [{"name": "COLOR", "value": "blue"}]}}),
    );
    let stand = Stand::with(task, &[]).await;
    let look = "echo $COLOR; pwd; ls /proc | grep -c '^[0-9]*$'; readlink /proc/1/ns/pid /proc/self/ns/pid | uniq | wc -l; cat /proc/self/cgroup; cat /proc/self/oom_score_adj";
    let text = stand.kubex(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", look]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "blue");
    assert_eq!(lines[1], stand.pod.sandbox("etcd-0-peer").to_string_lossy());
    assert!(lines[2].parse::<u32>().expect("a count") < 12, "a process table of its own: {text}");
    assert_eq!(lines[3], "1", "the pod's PID namespace");
    assert!(text.contains("/etcd-0-peer/exec-"), "{text}");
    assert_eq!(lines.last(), Some(&"1000"));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_thousand_bytes_one_by_one_arrive_every_time() {
    let stand = Stand::start().await;
    let write = "dd if=/dev/zero bs=1 count=500000 status=none";
    for round in 0..200 {
        let output = stand.run(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", write]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 500_000), "round {round}");
    }
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_mebibytes_arrive_unchanged_both_ways() {
    let stand = Stand::start().await;
    let data = noise(100 << 20);
    let hash = Sha256::digest(&data);
    let mut cat = stand.client.kubex(&["task", "exec", "-i", "etcd-0-peer", "cat"]);
    let (code, output) = feed(&mut cat, data);
    assert_eq!(code, Some(0));
    assert_eq!(Sha256::digest(&output), hash);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_input_reaches_the_command_and_output_goes_on_after_it() {
    let stand = Stand::start().await;
    let late = "cat >/dev/null; echo all read; sleep 0.2; echo and more";
    let mut command = stand.client.kubex(&["task", "exec", "-i", "etcd-0-peer", "--", "sh", "-c", late]);
    let (code, output) = feed(&mut command, b"some input".to_vec());
    assert_eq!((code, output.as_slice()), (Some(0), b"all read\nand more\n".as_slice()));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_i_the_command_reads_nothing_and_ends() {
    let stand = Stand::start().await;
    let mut command = stand.client.kubex(&["task", "exec", "etcd-0-peer", "cat"]);
    // A pipe that stays open: a command that read it would hang.
    let mut child = command.stdin(Stdio::piped()).spawn().expect("start kubex");
    let kept = child.stdin.take();
    let status = tokio::task::spawn_blocking(move || child.wait()).await.expect("join").expect("wait");
    assert_eq!(status.code(), Some(0));
    drop(kept);
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pkill_of_the_task_reports_its_own_success_although_the_task_ends() {
    let stand = Stand::start().await;
    let terminal = Terminal::open(24, 80);
    let command = stand.client.kubex(&["task", "exec", "-it", "etcd-0-peer", "pkill", "-f", "sleep"]);
    let mut child = terminal.spawn(command);
    let status = terminal.wait(&mut child).await;
    assert_eq!(status.code(), Some(0), "{}", terminal.shown());
    stand
        .pod
        .wait_status("etcd-0-peer", "an end", |status| {
            status.state.known().is_some_and(|state| state.is_terminal())
        })
        .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_and_follows_the_user_s() {
    let stand = Stand::start().await;
    let terminal = Terminal::open(31, 97);
    let look = "stty size; trap 'stty size; exit 3' WINCH; while :; do sleep 0.05; done";
    let command = stand.client.kubex(&["task", "exec", "-it", "etcd-0-peer", "--", "sh", "-c", look]);
    let mut child = terminal.spawn(command);
    terminal.wait_for("31 97").await;
    terminal.resize(40, 120);
    terminal.wait_for("40 120").await;
    assert_eq!(terminal.wait(&mut child).await.code(), Some(3));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_reaches_the_shell_and_ctrl_c_its_process() {
    let stand = Stand::start().await;
    let mut terminal = Terminal::open(24, 80);
    let mut child = terminal.spawn(stand.client.kubex(&["task", "exec", "-it", "etcd-0-peer", "sh"]));
    terminal.type_in("echo me$((20+2))\n");
    terminal.wait_for("me22").await;
    terminal.type_in("sleep 1000\n");
    wait_until("sleep to run", || stand.pod.processes_of("etcd-0-peer").len() >= 3).await;
    terminal.type_in("\x03");
    terminal.type_in("echo next$((1+1))\n");
    terminal.wait_for("next2").await;
    terminal.type_in("exit 5\n");
    assert_eq!(terminal.wait(&mut child).await.code(), Some(5));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_takes_its_command_with_it() {
    let stand = Stand::start().await;
    for option in [&["-i"][..], &[]] {
        let mut line = vec!["task", "exec"];
        line.extend(option);
        line.extend(["etcd-0-peer", "--", "sh", "-c", "trap '' HUP TERM; sleep 1001 & wait; sleep 1002"]);
        let mut child = stand.client.kubex(&line).stdin(Stdio::piped()).spawn().expect("start kubex");
        stand.pod.wait_processes("etcd-0-peer", 3).await;
        child.kill().expect("kill kubex");
        child.wait().expect("wait for kubex");
        stand.pod.wait_processes("etcd-0-peer", 1).await;
    }
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_ends_with_it() {
    let stand = Stand::start().await;
    let leave = "setsid sleep 1003 >/dev/null 2>&1 & setsid sleep 1004 & echo left";
    let output = stand.run(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", leave]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"left\n".as_slice()));
    stand.pod.wait_processes("etcd-0-peer", 1).await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_task_ends_its_sessions_and_is_no_success() {
    let stand = Stand::start().await;
    let command =
        stand.client.kubex(&["task", "exec", "etcd-0-peer", "sleep", "1005"]).stderr(Stdio::piped()).spawn();
    let child = command.expect("start kubex");
    stand.pod.wait_processes("etcd-0-peer", 2).await;
    stand.pod.agent.kill("etcd-0-peer", None);
    stand.pod.wait("etcd-0-peer", Killed).await;
    let output =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("join").expect("wait");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code().is_some_and(|code| code != 0), "{output:?}");
    assert!(said.contains("ended"), "{said}");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_the_endpoint_is_no_success_and_leaves_nothing() {
    let stand = Stand::start().await;
    let child =
        stand.client.kubex(&["task", "exec", "etcd-0-peer", "sleep", "1006"]).spawn().expect("start kubex");
    stand.pod.wait_processes("etcd-0-peer", 2).await;
    let Stand { pod, endpoint, .. } = stand;
    drop(endpoint);
    let output =
        tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("join").expect("wait");
    assert_eq!(output.status.code(), Some(255));
    pod.wait_processes("etcd-0-peer", 1).await;
    pod.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_kill_and_list_do_what_they_say() {
    let talk = "for n in 1 2 3; do echo line $n; done; echo wrong >&2; exec sleep 1007";
    let stand = Stand::with(Task::shell("etcd-0-peer", talk), &[]).await;
    stand.pod.wait_stdout("etcd-0-peer", "line 3").await;
    let tail = stand.kubex(&["task", "logs", "--tail", "2", "--stdout", "etcd-0-peer"]);
    assert_eq!(tail, "line 2\nline 3\n");
    assert!(stand.kubex(&["task", "logs", "etcd-0-peer"]).contains("wrong"));
    let listed: serde_json::Value =
        serde_json::from_str(&stand.kubex(&["task", "list", "--output", "json"])).expect("JSON");
    assert!(listed.to_string().contains("etcd-0-peer"), "{listed}");
    assert_eq!(stand.code(&["task", "kill", "--signal", "TERM", "etcd-0"]), Some(0), "by a unique prefix");
    stand
        .pod
        .wait_status("etcd-0-peer", "an end", |status| {
            status.state.known().is_some_and(|state| state.is_terminal())
        })
        .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_opens_and_drops_leave_nothing() {
    let stand = Stand::start().await;
    let descriptors = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count();
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "true"]), Some(0));
    let (endpoint, executor) = (stand.endpoint.process(), stand.pod.process());
    let settled =
        |limit: (usize, usize)| descriptors(endpoint) <= limit.0 && descriptors(executor) <= limit.1;
    let before = (descriptors(endpoint) + 4, descriptors(executor) + 4);
    for round in 0..250 {
        let children: Vec<_> = (0..4)
            .map(|_| {
                stand
                    .client
                    .kubex(&["task", "exec", "etcd-0-peer", "sleep", "1008"])
                    .stderr(Stdio::null())
                    .spawn()
            })
            .collect();
        for (number, child) in children.into_iter().enumerate() {
            let mut child = child.expect("start kubex");
            // Dropped at different moments: before the handshake is over, in the middle, when it runs.
            let pause = Duration::from_millis(((round + number as u64) * 3) % 40);
            tokio::time::sleep(pause).await;
            child.kill().expect("kill kubex");
            child.wait().expect("wait for kubex");
        }
    }
    stand.pod.wait_processes("etcd-0-peer", 1).await;
    wait_until("all descriptors to be closed", || settled(before)).await;
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "true"]), Some(0));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_session_is_two_lines_of_the_audit_without_input_or_values() {
    let task = Task::idle("etcd-0-peer").settings(&json!({"exec": {"environment": ["SECRET"]}}));
    let stand = Stand::with(task, &[]).await;
    let mut command = stand.client.kubex(&[
        "task",
        "exec",
        "-i",
        "-e",
        "SECRET=hunter2",
        "etcd-0-peer",
        "--",
        "sh",
        "-c",
        "cat >/dev/null; exit 4",
    ]);
    let (code, _) = feed(&mut command, b"my password\n".to_vec());
    assert_eq!(code, Some(4));
    wait_until("the line that closes", || stand.endpoint.audit().iter().any(|line| line["code"] == 4)).await;
    let lines = stand.endpoint.audit();
    let close = lines.iter().find(|line| line["code"] == 4).expect("a line that closes");
    let open = lines.iter().find(|line| line["id"] == close["id"]).expect("a line that opens");
    assert_eq!((&open["user"], &open["task"]), (&json!("alice"), &json!("etcd-0-peer")));
    let all = serde_json::to_string(&lines).expect("JSON");
    assert!(!all.contains("hunter2") && !all.contains("password"), "{all}");
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_task_is_listed_and_refuses_exec() {
    let stand = Stand::with(Task::shell("etcd-0-peer", "sleep 0.3"), &[]).await;
    stand.pod.wait("etcd-0-peer", Finished).await;
    wait_until("its end in the list", || stand.kubex(&["task", "list"]).contains("finished")).await;
    assert_eq!(stand.code(&["task", "exec", "etcd-0-peer", "true"]), Some(125));
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_cannot_take_the_place_of_a_command_that_somebody_runs_in_it() {
    let plant = "printf '#!/bin/sh\\necho planted\\n' >id; chmod +x id; exec sleep 1009";
    let stand = Stand::with(Task::shell("etcd-0-peer", plant), &[]).await;
    wait_until("the plant", || stand.pod.sandbox("etcd-0-peer").join("id").exists()).await;
    let text = stand.kubex(&["task", "exec", "etcd-0-peer", "id"]);
    assert!(text.starts_with("uid="), "{text}");
    stand.end().await;
}
