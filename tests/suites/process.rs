//! What the processes of a task find: user, rights, limits, files, environment, namespaces.

use std::sync::Arc;

use kube_executor_tests::fake_agent::Options;
use kube_executor_tests::pod::{Pod, Task, message, read, state};
use mesos::common::TaskState;
use rustix::process::Resource;
use serde_json::json;

use TaskState::{Failed, Finished, Running, Starting};

/// The line of a status file of the kernel.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(name)).map_or("", str::trim)
}

/// The output of a task that ends by itself.
async fn output_of(pod: &Pod, id: &str, task: Task) -> String {
    pod.launch(task);
    let status = pod.wait_status(id, &format!("the end of {id}"), |status| state(status).is_terminal()).await;
    assert_eq!(state(&status), Finished, "{status:?}: {}", read(&pod.sandbox(id).join("stderr")));
    pod.stdout(id)
}

#[tokio::test]
async fn an_argv_command_sees_no_shell() {
    let pod = Pod::start().await;
    let output = output_of(&pod, "a", Task::argv("a", &["printf", "%s|", "$HOME", "a  b", "*"])).await;
    assert_eq!(output, "$HOME|a  b|*|");
    pod.end().await;
}

#[tokio::test]
async fn a_task_runs_as_its_user_with_groups_besides_that_user_s() {
    let pod = Pod::start().await;
    let task = Task::shell("a", "cat /proc/self/status; touch mine; echo HOME=$HOME USER=$USER")
        .command("user", json!("nobody"))
        .settings(&json!({"groups": ["4242", "daemon"]}));
    let output = output_of(&pod, "a", task).await;
    assert_eq!(line(&output, "Uid:").split_whitespace().collect::<Vec<_>>(), ["65534"; 4]);
    let groups: Vec<&str> = line(&output, "Groups:").split_whitespace().collect();
    assert!(["65534", "4242", "1"].iter().all(|group| groups.contains(group)), "{groups:?}");
    assert!(output.contains("USER=nobody"), "{output}");
    pod.end().await;
}

#[tokio::test]
async fn capabilities_are_cut_to_the_bounding_set_and_ambient_ones_reach_a_user() {
    let pod = Pod::start().await;
    let show = |id: &str| Task::argv(id, &["cat", "/proc/self/status"]);
    let sets =
        json!({"bounding": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"], "ambient": ["CAP_NET_BIND_SERVICE"]});
    let settings = json!({"capabilities": sets, "no_new_privileges": true});
    let user = show("user").command("user", json!("nobody")).settings(&settings);
    let user = output_of(&pod, "user", user).await;
    let bare = json!({"capabilities": {"bounding": ["CAP_CHOWN"]}});
    let root = output_of(&pod, "root", show("root").settings(&bare)).await;
    let plain = output_of(&pod, "plain", show("plain")).await;
    let (chown, bind) = (1_u64, 1_u64 << 10);
    let mask = |text: &str, name: &str| u64::from_str_radix(line(text, name), 16).unwrap();
    assert_eq!(mask(&user, "CapBnd:"), chown | bind);
    for set in ["CapAmb:", "CapEff:", "CapPrm:", "CapInh:"] {
        assert_eq!(mask(&user, set), bind, "{set}");
    }
    assert_eq!((mask(&root, "CapBnd:"), mask(&root, "CapEff:"), mask(&root, "CapAmb:")), (chown, chown, 0));
    assert_eq!((line(&user, "NoNewPrivs:"), line(&plain, "NoNewPrivs:")), ("1", "0"));
    let own = read(std::path::Path::new("/proc/self/status"));
    assert_eq!(line(&plain, "CapEff:"), line(&own, "CapEff:"));
    pod.end().await;
}

#[tokio::test]
async fn rlimits_and_umask_are_as_asked_for() {
    let pod = Pod::start().await;
    let settings = json!({"rlimits": {"nofile": {"soft": 100, "hard": 200}}, "umask": "027"});
    let mesos = json!({"rlimits": [{"type": "RLMT_CORE", "soft": 1000, "hard": 2000}]});
    let task = Task::argv("a", &["cat", "/proc/self/limits", "/proc/self/status"])
        .with("container", json!({"type": "MESOS", "rlimit_info": mesos}))
        .settings(&settings);
    let output = output_of(&pod, "a", task).await;
    let limit = |name: &str| line(&output, name).split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    assert_eq!(limit("Max open files"), "100 200");
    assert_eq!(limit("Max core file size"), "1000 2000");
    assert_eq!(line(&output, "Umask:"), "0027");
    let usual = output_of(&pod, "b", Task::argv("b", &["cat", "/proc/self/status"])).await;
    assert_eq!(line(&usual, "Umask:"), "0022");
    pod.end().await;
}

#[tokio::test]
async fn a_task_has_a_session_of_its_own_and_no_descriptor_but_its_three() {
    let pod = Pod::start().await;
    let stat = output_of(&pod, "session", Task::argv("session", &["cat", "/proc/self/stat"])).await;
    let numbers: Vec<&str> = stat.split_whitespace().collect();
    assert_eq!((numbers[0], numbers[0]), (numbers[4], numbers[5]), "{stat}");
    let list = output_of(&pod, "files", Task::argv("files", &["ls", "-l", "/proc/self/fd"])).await;
    let links: Vec<&str> = list.lines().filter(|line| line.contains("->")).collect();
    assert_eq!(links.len(), 4, "{list}");
    assert!(links[0].ends_with(" 0 -> /dev/null"), "{list}");
    assert!(links[1].contains(" 1 -> pipe:") && links[2].contains(" 2 -> pipe:"), "{list}");
    assert!(links[3].contains(" 3 -> /proc/"), "{list}");
    pod.end().await;
}

#[tokio::test]
async fn a_task_finds_its_own_variables_and_mesos_s_and_no_token() {
    let pod = Pod::with(Options { token: Some("geheim".to_owned()), ..Options::default() }, &[]).await;
    let variables = json!({"variables": [{"name": "COLOUR", "value": "a = b"}, {"name": "MESOS_SLAVE_ID", "value": "mine"}]});
    let task = Task::shell("a", "env; cat /proc/1/environ | tr '\\0' '\\n' | sed 's/^/init: /'")
        .command("environment", variables);
    let output = output_of(&pod, "a", task).await;
    let sandbox = pod.sandbox("a").canonicalize().unwrap().display().to_string();
    for expected in [
        "COLOUR=a = b",
        "MESOS_TASK_ID=a",
        "MESOS_FRAMEWORK_ID=framework-1",
        "MESOS_EXECUTOR_ID=executor-1",
        "MESOS_SLAVE_ID=mine",
        "MESOS_ALLOCATION_ROLE=*",
        "MESOS_CONTAINER_IP=127.0.0.1",
        &format!("MESOS_SANDBOX={sandbox}"),
        &format!("MESOS_DIRECTORY={}", pod.agent.sandbox().display()),
    ] {
        assert_eq!(output.lines().filter(|line| *line == expected).count(), 1, "{expected} in\n{output}");
    }
    assert!(output.contains("\nMESOS_AGENT_ENDPOINT=127.0.0.1:") && output.contains("PATH="));
    for secret in ["geheim", "AUTHENTICATION_TOKEN", "OF_THE_EXECUTOR"] {
        let mut lines =
            output.lines().filter(|line| !line.starts_with("init: ") || secret != "OF_THE_EXECUTOR");
        assert_eq!(lines.find(|line| line.contains(secret)), None);
    }
    pod.end().await;
}

#[tokio::test]
async fn a_task_starts_in_its_sandbox() {
    let pod = Pod::start().await;
    let output = output_of(&pod, "a", Task::shell("a", "pwd; echo $MESOS_SANDBOX; touch here")).await;
    let sandbox = pod.sandbox("a").display().to_string();
    assert_eq!(output, format!("{sandbox}\n{sandbox}\n"));
    assert!(pod.sandbox("a").join("here").exists());
    pod.end().await;
}

#[tokio::test]
async fn data_outlive_the_task_and_the_executor() {
    let of = |number: u32| Options { executor_id: format!("etcd-0__{number}"), ..Options::default() };
    let task = |id: &str| {
        let text = r#"cat "$KUBE_EXECUTOR_DATA/names" 2>/dev/null; echo $MESOS_TASK_ID >> "$KUBE_EXECUTOR_DATA/names""#;
        Task::shell(id, &format!("{text}; true")).with("name", json!("node"))
    };
    let pod = Pod::with(of(1), &[]).await;
    assert_eq!(output_of(&pod, "first", task("first")).await, "");
    assert_eq!(output_of(&pod, "second", task("second")).await, "first\n");
    let state = Arc::clone(pod.state());
    pod.end().await;
    let pod = Pod::in_state(state, of(2), &[]).await;
    assert_eq!(output_of(&pod, "third", task("third")).await, "first\nsecond\n");
    pod.end().await;
}

#[tokio::test]
async fn a_terminal_is_there_on_request_in_the_size_asked_for() {
    let pod = Pod::start().await;
    let tty = |size| json!({"type": "MESOS", "tty_info": {"window_size": size}});
    let text = "test -t 0 && test -t 1 && test -t 2 && tty && stty size && echo $TERM";
    let task = Task::shell("a", text).with("container", tty(json!({"rows": 30, "columns": 120})));
    let output = output_of(&pod, "a", task).await;
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines[0].starts_with("/dev/"), "{output}");
    assert_eq!(lines[1..], ["30 120", "xterm"]);
    // It is the controlling one: a background process group is stopped by it, ^C reaches the foreground.
    let task = Task::shell("b", "exec 3<>/dev/tty && echo controlled >&3")
        .with("container", tty(json!({"rows": 1, "columns": 1})));
    assert_eq!(output_of(&pod, "b", task).await, "controlled\r\n");
    pod.end().await;
}

#[tokio::test]
async fn pkill_in_one_pod_touches_nothing_outside_of_it() {
    let (pod, other) = (Pod::start().await, Pod::start().await);
    pod.group([Task::idle("victim")]);
    other.group([Task::idle("a")]);
    pod.wait("victim", Running).await;
    other.wait("a", Running).await;
    // Were it not in a PID namespace of ours, it would end the machine's processes: looked at first.
    let text = "grep -q -- --pod-init /proc/1/cmdline && [ $(ls -d /proc/[0-9]* | wc -l) -lt 9 ] && exec pkill -f .; exit 9";
    pod.group([Task::shell("killer", text)]);
    let status = pod.wait("killer", Finished).await;
    assert_eq!(message(&status), "Command exited with status 0");
    let status = pod.wait("victim", Failed).await;
    assert_eq!(message(&status), "Command terminated with signal Terminated");
    // The pod goes on, and so do the others.
    pod.launch(Task::shell("later", "true"));
    pod.wait("later", Finished).await;
    other.launch(Task::shell("later", "true"));
    other.wait("later", Finished).await;
    assert_eq!(other.states("a"), [Starting, Running]);
    pod.end().await;
    other.end().await;
}

#[tokio::test]
async fn a_mount_made_in_a_pod_is_not_seen_on_the_host() {
    let pod = Pod::start().await;
    let text = "mkdir m && mount -t tmpfs none m && touch m/inside && echo mounted && exec sleep 1000";
    pod.launch(Task::shell("a", text));
    pod.wait_stdout("a", "mounted").await;
    let point = pod.sandbox("a").join("m");
    assert_eq!(std::fs::read_dir(&point).unwrap().count(), 0);
    let mounts = kube_executor_tests::cgroups::mounts();
    assert!(mounts.iter().all(|mount| !mount.point.starts_with(pod.agent.sandbox())));
    // Another task of the pod sees it.
    let output = output_of(&pod, "b", Task::argv("b", &["ls", &point.display().to_string()])).await;
    assert_eq!(output, "inside\n");
    pod.end().await;
}

#[tokio::test]
async fn a_pod_s_init_is_process_1_and_reaps_orphans() {
    let pod = Pod::start().await;
    let orphans = "for i in 1 2 3 4 5 6 7 8; do sh -c '(sleep 0.02; echo $PPID >> ends) & exit'; done";
    let wait = "until [ $(cat ends | wc -l) = 8 ]; do sleep 0.01; done; while grep -qs '^State:.Z' /proc/[0-9]*/status; do sleep 0.01; done";
    let text =
        format!("touch ends; {orphans}; {wait}; tr '\\0' ' ' < /proc/1/cmdline; echo; ls -d /proc/[0-9]*");
    let output = output_of(&pod, "a", Task::shell("a", &text)).await;
    assert!(output.lines().next().unwrap().contains("--pod-init"), "{output}");
    assert!(output.lines().count() <= 4, "{output}");
    pod.end().await;
}

#[tokio::test]
async fn a_task_of_another_user_has_its_sandbox_and_its_data_to_itself() {
    let pod = Pod::start().await;
    let text = r#"touch "$MESOS_SANDBOX/here" "$KUBE_EXECUTOR_DATA/there"
        stat -c '%U %a' "$KUBE_EXECUTOR_DATA"; ls "$MESOS_DIRECTORY" 2>/dev/null; echo; : >> "$MESOS_SANDBOX/stdout" && echo more"#;
    let output = output_of(&pod, "a", Task::shell("a", text).command("user", json!("nobody"))).await;
    assert_eq!(output, "nobody 700\n\nmore\n", "its own are open to it, the executor's cannot be listed");
    pod.end().await;
}

#[tokio::test]
async fn the_token_is_in_no_environment_not_even_the_executor_s_own() {
    let token = "a-token-that-nobody-may-see";
    let pod = Pod::with(Options { token: Some(token.to_owned()), ..Options::default() }, &[]).await;
    pod.launch(Task::idle("a"));
    pod.wait("a", Running).await;
    let processes = [pod.process(), u32::try_from(pod.init()).expect("a process id")].into_iter();
    for process in processes.chain(pod.processes_of("a").into_iter().filter_map(|pid| pid.try_into().ok())) {
        let environment = read(format!("/proc/{process}/environ").as_ref());
        assert!(!environment.contains(token), "process {process}");
    }
    assert!(read(format!("/proc/{}/environ", pod.process()).as_ref()).contains("MESOS_FRAMEWORK_ID"));
    pod.end().await;
}

#[tokio::test]
async fn a_higher_oom_score_takes_effect_and_what_the_machine_refuses_is_the_task_s_failure() {
    let pod = Pod::start().await;
    let score = |id: &str, score: i32| {
        Task::shell(id, "cat /proc/self/oom_score_adj").settings(&json!({"oom_score_adj": score}))
    };
    assert_eq!(output_of(&pod, "raised", score("raised", 500)).await, "500\n");
    let rlimits = json!({"rlimits": {"nofile": {"soft": 1024, "hard": 1 << 20}}});
    let more = Task::shell("more", "ulimit -Hn").settings(&rlimits);
    if may_use_resources() {
        eprintln!("skipped: with CAP_SYS_RESOURCE the machine refuses neither");
        return pod.end().await;
    }
    for (id, task, step) in [
        ("lowered", score("lowered", -500), "write -500 to /proc/self/oom_score_adj"),
        ("more", more, "set resource limit 7 to 1024 of at most 1048576"),
    ] {
        pod.launch(task);
        let status = pod.wait(id, Failed).await;
        assert!(message(&status).contains(step), "{}", message(&status));
    }
    pod.end().await;
}

/// Whether this process has CAP_SYS_RESOURCE.
fn may_use_resources() -> bool {
    let status = read("/proc/self/status".as_ref());
    u64::from_str_radix(line(&status, "CapEff:"), 16).is_ok_and(|mask| mask & (1 << 24) != 0)
}

#[tokio::test]
async fn a_task_that_asks_for_no_limit_of_open_files_has_the_one_that_the_executor_was_given() {
    let pod = Pod::start().await;
    let own = rustix::process::getrlimit(Resource::Nofile);
    let text = output_of(&pod, "a", Task::shell("a", "ulimit -Sn; ulimit -Hn")).await;
    let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    assert_eq!(text, format!("{}\n{}\n", number(own.current), number(own.maximum)));
    pod.end().await;
}

#[tokio::test]
async fn when_there_are_no_descriptors_left_a_start_fails_and_says_so_and_the_others_go_on() {
    let pod = Pod::start().await;
    pod.launch(Task::idle("first"));
    pod.wait("first", Running).await;
    let executor = rustix::process::Pid::from_raw(pod.process().cast_signed());
    let before =
        rustix::process::prlimit(executor, Resource::Nofile, limited(&pod)).expect("limit the executor");
    let names: Vec<String> = (0..12).map(|number| format!("task-{number}")).collect();
    for name in &names {
        pod.launch(Task::idle(name));
    }
    for name in &names {
        pod.wait_status(name, "running or failed", |status| [Running, Failed].contains(&state(status))).await;
    }
    let failed: Vec<_> = names.iter().filter(|name| pod.states(name).last() == Some(&Failed)).collect();
    assert!(!failed.is_empty(), "there are descriptors for all of them");
    let failed = pod.wait(failed[0], Failed).await;
    assert!(message(&failed).contains("open files"), "{failed:?}");
    assert_eq!(pod.states("first").last(), Some(&Running), "{}", pod.log());
    rustix::process::prlimit(executor, Resource::Nofile, before).expect("give the limit back");
    pod.launch(Task::idle("last"));
    pod.wait("last", Running).await;
    pod.end().await;
}

/// As many descriptors as the executor has, and a few.
fn limited(pod: &Pod) -> rustix::process::Rlimit {
    let open = std::fs::read_dir(format!("/proc/{}/fd", pod.process())).expect("its descriptors").count();
    let own = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::Rlimit { current: Some(open as u64 + 24), ..own }
}
