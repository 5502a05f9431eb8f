//! exec and attach.

use kube_executor_tests::endpoint::{POD, Spoken, Stand};
use kube_executor_tests::pod::{Task, wait_until};
use kube_executor_tests::stage::until;
use kube_executor_tests::streams::{feed, noise};
use kube_executor_tests::terminal::Terminal;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::stage::{each, idle};

#[tokio::test(flavor = "multi_thread")]
async fn the_command_s_exit_code_is_kubectl_s_own() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    each(&stand, async |kubectl| {
        let exec = |text: &str| kubectl.run(&["exec", POD, "-c", "peer", "--", "sh", "-c", text]);
        let both = exec("echo out; echo err >&2");
        assert_eq!((both.code, both.stdout.as_str()), (Some(0), "out\n"));
        assert!(both.said.contains("err\n"));
        assert_eq!(exec("exit 7").code, Some(7));
        assert_eq!(exec("kill -TERM $$").code, Some(143));
        let missing = kubectl.run(&["exec", POD, "--", "no-such-command"]);
        assert!(
            missing.code.is_some_and(|code| code != 0) && missing.said.contains("no-such-command"),
            "{missing:?}"
        );
        let lost = exec("sleep 0.2; kill -KILL $$");
        assert_eq!(lost.code, Some(137));
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_any_bytes_goes_through_and_ends() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    each(&stand, async |kubectl| {
        let data = noise(5 << 20);
        let hash = Sha256::digest(&data);
        let (code, output) = feed(&mut kubectl.command(&["exec", "-i", POD, "--", "cat"]), data);
        assert_eq!((code, output.len()), (Some(0), 5 << 20));
        assert_eq!(Sha256::digest(&output), hash);
        let late = "cat >/dev/null; echo all read; sleep 0.2; echo and more";
        let mut command = kubectl.command(&["exec", "-i", POD, "--", "sh", "-c", late]);
        assert_eq!(feed(&mut command, b"some".to_vec()), (Some(0), b"all read\nand more\n".to_vec()));
        let (received, sent) = stand.moved();
        assert!(received >= 5 << 20 && sent >= 5 << 20, "counted: {received} in, {sent} out");
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_user_s_size_from_the_first_moment_and_follows_it() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    each(&stand, async |kubectl| {
        // The first size is awaited for 100 ms, within which kubectl may not tell it on a machine that is busy.
        let mut shown = String::new();
        for _ in 0..5 {
            let terminal = Terminal::open(31, 97);
            let mut child = terminal.spawn(kubectl.command(&["exec", "-it", POD, "--", "stty", "size"]));
            assert_eq!(terminal.wait(&mut child).await.code(), Some(0));
            wait_until("a size", || terminal.shown().contains('\n')).await;
            shown = terminal.shown();
            if shown.contains("31 97") {
                break;
            }
        }
        assert!(shown.contains("31 97"), "{shown}");
        let terminal = Terminal::open(31, 97);
        let look = "until [ \"$(stty size)\" = '31 97' ]; do sleep 0.05; done; echo has its size; \
                    until [ \"$(stty size)\" = '40 120' ]; do sleep 0.05; done; exit 3";
        let mut child = terminal.spawn(kubectl.command(&["exec", "-it", POD, "--", "sh", "-c", look]));
        terminal.wait_for("has its size").await;
        terminal.resize(40, 120);
        assert_eq!(terminal.wait(&mut child).await.code(), Some(3));
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_reaches_the_shell_and_ctrl_c_its_process() {
    let stand = Stand::start([idle("etcd-0-peer")]).await;
    each(&stand, async |kubectl| {
        let mut terminal = Terminal::open(24, 80);
        let before = terminal.settings();
        let mut child = terminal.spawn(kubectl.command(&["exec", "-it", POD, "-c", "peer", "--", "sh"]));
        terminal.type_in("echo me$((20+2))\n");
        terminal.wait_for("me22").await;
        // Ctrl-C reaches whom the terminal belongs to: it does once the command itself speaks.
        terminal.type_in("sh -c 'echo run$((3+4)); exec sleep 1000'\n");
        terminal.wait_for("run7").await;
        terminal.type_in("\x03");
        terminal.type_in("echo next$((1+1))\n");
        terminal.wait_for("next2").await;
        terminal.type_in("exit 5\n");
        assert_eq!(terminal.wait(&mut child).await.code(), Some(5));
        assert_eq!(terminal.settings(), before, "the terminal is as it was");
        stand.pod.wait_processes("etcd-0-peer", 1).await;
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_output_of_a_task_without_a_terminal_is_shown_by_attach() {
    let talk = "n=0; while :; do n=$((n+1)); echo line $n; sleep 0.1; done";
    let stand = Stand::start([("etcd-0-peer", Task::shell("etcd-0-peer", talk))]).await;
    each(&stand, async |kubectl| {
        let attached = Spoken::start(&mut kubectl.command(&["attach", POD, "-c", "peer"]));
        attached.wait_for("line ").await;
        let first = attached.said().matches("line ").count();
        until("more lines", || (attached.said().matches("line ").count() > first + 3).then_some(())).await;
    })
    .await;
    stand.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_reaches_a_task_with_a_terminal() {
    let task =
        Task::shell("etcd-0-peer", "echo ready; while read line; do echo \"heard $line\"; done; sleep 1000")
            .with(
                "container",
                json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 20, "columns": 70}}}),
            );
    let stand = Stand::start([("etcd-0-peer", task)]).await;
    each(&stand, async |kubectl| {
        let mut terminal = Terminal::open(24, 80);
        let mut child = terminal.spawn(kubectl.command(&["attach", "-it", POD, "-c", "peer"]));
        // Typed before kubectl reads, it waits in the terminal.
        let word = format!("word-{}", kubectl.tag);
        terminal.type_in(&format!("{word}\n"));
        terminal.wait_for(&format!("heard {word}")).await;
        child.kill().expect("end kubectl");
        child.wait().expect("wait for kubectl");
        drop(terminal);
        stand.pod.wait_processes("etcd-0-peer", 1).await;
    })
    .await;
    stand.end().await;
}
