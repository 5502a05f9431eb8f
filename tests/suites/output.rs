//! Where the output of a task goes: nothing is lost, nothing grows without bound, nobody waits for it.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use kube_executor_tests::pod::{Pod, Task, label, read, seconds_between, state};
use mesos::common::{TaskState, TaskStatus};
use serde_json::json;

use TaskState::{Finished, Killed, Running};

#[tokio::test]
async fn stdout_and_stderr_are_two_files_in_the_task_s_sandbox() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("a", "echo out; echo err >&2").command("user", json!("nobody")));
    pod.wait("a", Finished).await;
    let file = |name: &str| pod.sandbox("a").join(name);
    assert_eq!((read(&file("stdout")), read(&file("stderr"))), ("out\n".into(), "err\n".into()));
    assert_eq!(std::fs::metadata(file("stdout")).unwrap().uid(), 65534);
    pod.end().await;
}

#[tokio::test]
async fn files_are_rotated_by_size_and_kept_by_count() {
    let pod = Pod::start().await;
    let settings = json!({"log": {"bytes": 4096, "files": 3}});
    pod.launch(Task::argv("a", &["seq", "1", "5000"]).settings(&settings));
    pod.wait("a", Finished).await;
    let sandbox = pod.sandbox("a");
    let parts = ["stdout.2", "stdout.1", "stdout"].map(|name| read(&sandbox.join(name)));
    assert!(parts.iter().all(|part| !part.is_empty() && part.len() <= 4096 && part.ends_with('\n')));
    assert!(parts[0].len() > 4000 && parts[1].len() > 4000);
    assert!(!sandbox.join("stdout.3").exists());
    let all: String = (1..=5000).map(|number| format!("{number}\n")).collect();
    assert!(all.ends_with(&parts.concat()));
    pod.end().await;
}

#[tokio::test]
async fn half_a_megabyte_byte_by_byte_is_all_there() {
    let pod = Pod::start().await;
    let bytes: Vec<u8> = (0..500_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    std::fs::write(pod.shared("pattern"), &bytes).unwrap();
    let pattern = format!("if={}", pod.shared("pattern").display());
    pod.launch(Task::argv("a", &["dd", &pattern, "bs=1", "status=none"]));
    pod.wait("a", Finished).await;
    assert!(std::fs::read(pod.sandbox("a").join("stdout")).unwrap() == bytes);
    pod.end().await;
}

#[tokio::test]
async fn last_words_are_in_the_file_when_the_terminal_update_arrives() {
    let pod = Pod::start().await;
    let ids: Vec<String> = (0..20).map(|number| format!("a{number}")).collect();
    let text = "head -c 200000 /dev/zero | tr '\\0' x; echo; echo last words; echo and errors >&2";
    pod.group(ids.iter().map(|id| Task::shell(id, text)));
    for id in &ids {
        // Looked at inside the wait: at the very moment at which the update is there.
        let (stdout, stderr) = pod
            .agent
            .wait_for(&format!("the end of {id}"), |log| {
                let ended = log.statuses_of(id).pop().is_some_and(|status| state(&status) == Finished);
                let file = |name: &str| read(&pod.sandbox(id).join(name));
                ended.then(|| (file("stdout"), file("stderr")))
            })
            .await;
        assert_eq!(stdout.len(), 200_000 + "\nlast words\n".len(), "{id}");
        assert!(stdout.ends_with("\nlast words\n") && stderr == "and errors\n", "{id}");
    }
    pod.end().await;
}

#[tokio::test]
async fn last_words_after_sigterm_are_there_too() {
    let pod = Pod::start().await;
    let text = "trap 'echo farewell; exit 0' TERM; echo up; sleep 1000 & wait";
    pod.launch(Task::shell("a", text));
    pod.wait_stdout("a", "up").await;
    pod.wait("a", Running).await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    assert_eq!(pod.stdout("a"), "up\nfarewell\n");
    pod.end().await;
}

#[tokio::test]
async fn a_grandchild_that_holds_the_output_does_not_delay_the_terminal_update() {
    let pod = Pod::start().await;
    for mode in ["process", "cgroup"] {
        pod.launch(Task::shell(mode, "setsid sleep 1000 & echo words").settings(&json!({"kill_mode": mode})));
        let running = pod.wait(mode, Running).await;
        let finished = pod.wait(mode, Finished).await;
        let took = seconds_between(&running, &finished);
        assert!(took < 1.5, "{mode}: {took}");
        assert_eq!(pod.stdout(mode), "words\n");
    }
    pod.wait_processes("cgroup", 0).await;
    pod.wait_processes("process", 1).await;
    pod.end().await;
}

#[tokio::test]
async fn after_a_restart_the_files_go_on() {
    let pod = Pod::start().await;
    let text = "echo one; [ -e been ] && exec sleep 1000; touch been; echo two; exit 1";
    let restart = json!({"restart": {"policy": "on-failure", "delay_seconds": 0}});
    pod.launch(Task::shell("a", text).settings(&restart));
    let is_back = |status: &TaskStatus| {
        label(status, "restarts") == Some("1") && label(status, "ready") == Some("true")
    };
    pod.wait_status("a", "a restart", is_back).await;
    pod.wait_stdout("a", "one\ntwo\none\n").await;
    pod.end().await;
}

#[tokio::test]
async fn a_closed_output_ends_nothing_and_a_flood_hurts_nobody() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("silent", "exec >&- 2>&-; exec sleep 1000"));
    pod.launch(Task::argv("flood", &["yes"]).settings(&json!({"log": {"bytes": 65536, "files": 2}})));
    pod.wait("flood", Running).await;
    pod.wait("silent", Running).await;
    for number in 0..5 {
        let id = format!("a{number}");
        pod.launch(Task::shell(&id, "echo here"));
        pod.wait(&id, Finished).await;
        assert_eq!(pod.stdout(&id), "here\n");
    }
    let size = |name: &str| std::fs::metadata(pod.sandbox("flood").join(name)).map_or(0, |data| data.len());
    assert!(size("stdout") <= 65536 && size("stdout.1") <= 65536 && size("stdout.2") == 0);
    for id in ["flood", "silent"] {
        pod.agent.kill(id, None);
        pod.wait(id, Killed).await;
    }
    pod.end().await;
}

#[tokio::test]
async fn a_link_in_the_place_of_an_output_file_is_not_followed() {
    let pod = Pod::start().await;
    let target = pod.shared("target");
    std::fs::write(&target, "precious").unwrap();
    let text = format!(
        "[ -e been ] && exec sleep 1000; touch been; rm stdout; ln -s {} stdout; exit 1",
        target.display()
    );
    let restart = json!({"restart": {"policy": "on-failure", "delay_seconds": 0}});
    pod.launch(Task::shell("a", &text).settings(&restart));
    let is_back = |status: &TaskStatus| {
        label(status, "restarts") == Some("1") && label(status, "ready") == Some("true")
    };
    pod.wait_status("a", "a restart", is_back).await;
    assert_eq!(read(&target), "precious");
    assert!(!is_link(&pod.sandbox("a").join("stdout")));
    pod.end().await;
}

fn is_link(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|data| data.is_symlink())
}
