//! The main stories on a real Mesos agent, whose containers are cgroups.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use kube_executor_tests::cgroups;
use kube_executor_tests::describe::{TaskInfoExt as _, duration, shell_task};
use kube_executor_tests::kubernetes::{Binaries, Etcd};
use kube_executor_tests::log::Log;
use kube_executor_tests::process::Process;
use kube_executor_tests::stage::{Gate, Stage, until};
use mesos::common::{
    CheckType, CommandInfo, ExecutorId, HealthCheck, Reason, Resource, Source, TaskId, TaskInfo, TaskState,
    TaskStatus,
};
use rustix::process::Signal;
use task::settings::{Check, TaskSettings};

use TaskState::{Error, Failed, Finished, Killed, Killing, Running, Starting};

/// A task that runs until it is ended.
fn sleeper(name: &str) -> TaskInfo {
    shell_task(name, "exec sleep 100000")
}

fn shell(text: &str) -> CommandInfo {
    CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() }
}

fn reason(status: &TaskStatus) -> Option<Reason> {
    status.reason.as_ref().and_then(|reason| reason.known())
}

fn source(status: &TaskStatus) -> Option<Source> {
    status.source.as_ref().and_then(|source| source.known())
}

fn message(status: &TaskStatus) -> &str {
    status.message.as_deref().unwrap_or_default()
}

/// Waits until none of these processes lives.
async fn gone(processes: &BTreeSet<Process>) {
    until("processes to be gone", || processes.iter().all(|process| !process.lives()).then_some(())).await;
}

/// Waits until nothing runs in the container of an executor.
async fn container_gone(container: &str) {
    let empty = || {
        let left = cgroups::named(|name| name.strip_prefix("kube-executor-").unwrap_or(name) == container);
        left.iter().all(|cgroup| cgroups::processes(cgroup).is_empty()).then_some(())
    };
    until(&format!("container {container} to be empty"), empty).await;
}

#[tokio::test]
async fn a_group_is_launched_and_runs_until_one_of_it_is_killed() {
    let stage = Stage::start().await;
    let pod = stage.pod("group-0");
    let tasks = vec![sleeper("group-0-a"), sleeper("group-0-b")];
    let [a, b] = [tasks[0].task_id.clone(), tasks[1].task_id.clone()];
    stage.launch(&pod, tasks).await;
    for task in [&a, &b] {
        stage.state(task, Running).await;
    }
    let processes: BTreeSet<_> =
        [&a, &b].iter().flat_map(|task| stage.task_processes(&pod.executor_id, task)).collect();
    assert_eq!(processes.len(), 2);
    until("both shells to be what they run", || {
        let mut words = processes.iter().map(|process| process.command_line());
        words.all(|words| words == ["sleep", "100000"]).then_some(())
    })
    .await;

    stage.framework.kill(&a).await.unwrap();
    assert_eq!(reason(&stage.ended(&a).await), None);
    let other = stage.ended(&b).await;
    assert!(message(&other).contains("group-0-a"), "{other:?}");
    for task in [&a, &b] {
        assert_eq!(stage.states(task), [Starting, Running, Killing, Killed], "{}", stage.framework.log());
    }
    gone(&processes).await;
    stage.end().await;
}

#[tokio::test]
async fn a_plain_launch_takes_its_command_from_its_data() {
    let stage = Stage::start().await;
    let pod = stage.pod("plain-0");
    let gate = Gate::new(&stage.rig.folder().join("gate"));
    let task = shell_task("plain-0-a", &format!("echo \"$MESOS_TASK_ID\"; {}; exit $word", gate.wait()));
    let id = task.task_id.clone();
    stage.framework.launch(&pod, vec![task]).await.unwrap();
    stage.state(&id, Running).await;
    gate.open("0").await;
    assert_eq!(stage.ended(&id).await.state.known(), Some(Finished));
    assert_eq!(stage.states(&id), [Starting, Running, Finished]);
    let output = std::fs::read_to_string(stage.task_sandbox(&pod.executor_id, &id).join("stdout")).unwrap();
    assert_eq!(output.trim(), id.as_str());
    stage.end().await;
}

#[tokio::test]
async fn a_task_starts_when_what_it_depends_on_is_ready_and_not_before() {
    let stage = Stage::start().await;
    let pod = stage.pod("chain-0");
    let check = Check {
        role: "readiness".to_owned(),
        command: Some(shell("test -e up")),
        interval_seconds: Some(0.1),
        timeout_seconds: Some(5.0),
        ..Check::default()
    };
    let server =
        sleeper("chain-0-server").settings(&TaskSettings { checks: vec![check], ..TaskSettings::default() });
    let client = sleeper("chain-0-client")
        .settings(&TaskSettings { depends_on: vec!["chain-0-server".to_owned()], ..TaskSettings::default() });
    let [server_id, client_id] = [server.task_id.clone(), client.task_id.clone()];
    stage.launch(&pod, vec![client, server]).await;
    let running = stage.state(&server_id, Running).await;
    assert_eq!(running.label("ready"), Some("false"));
    stage.state(&client_id, Starting).await;
    assert_eq!(stage.states(&client_id), [Starting]);
    assert!(stage.task_processes(&pod.executor_id, &client_id).is_empty());

    std::fs::write(stage.task_sandbox(&pod.executor_id, &server_id).join("up"), "").unwrap();
    stage.state(&client_id, Running).await;
    let log = stage.framework.log();
    let place = |wanted: &dyn Fn(&TaskStatus) -> bool| {
        log.entries().iter().position(
            |entry| matches!(&entry.heard, kube_executor_tests::log::Heard::Status(status) if wanted(status)),
        )
    };
    let ready = place(&|status| status.task_id == server_id && status.label("ready") == Some("true"));
    let started = place(&|status| status.task_id == client_id && status.state.known() == Some(Running));
    assert!(ready.is_some() && ready < started, "{log}");
    stage.end().await;
}

#[tokio::test]
async fn a_task_that_its_health_check_finds_ill_is_killed() {
    let stage = Stage::start().await;
    let pod = stage.pod("ill-0");
    let mut task = sleeper("ill-0-a");
    task.health_check = Some(HealthCheck {
        kind: Some(CheckType::Command.into()),
        delay_seconds: Some(0.0),
        interval_seconds: Some(0.1),
        timeout_seconds: Some(5.0),
        consecutive_failures: Some(2),
        grace_period_seconds: Some(0.0),
        command: Some(shell("test ! -e ill")),
        http: None,
        tcp: None,
    });
    let id = stage.run(&pod, task).await;
    let with_health = |log: &Log, healthy: bool| {
        log.statuses(&id)
            .find(|status| status.state.known() == Some(Running) && status.healthy == Some(healthy))
            .cloned()
    };
    let well = stage.framework.wait_for(|log| with_health(log, true), "health").await.unwrap();
    assert_eq!(reason(&well), Some(Reason::TaskHealthCheckStatusUpdated));

    std::fs::write(stage.task_sandbox(&pod.executor_id, &id).join("ill"), "").unwrap();
    let end = stage.ended(&id).await;
    assert_eq!((end.state.known(), end.healthy), (Some(Killed), Some(false)));
    assert!(with_health(&stage.framework.log(), false).is_some(), "{}", stage.framework.log());
    stage.end().await;
}

#[tokio::test]
async fn the_exit_status_of_a_task_decides_its_last_state() {
    let stage = Stage::start().await;
    let pod = stage.pod("exits-0");
    for (status, state) in [(0, Finished), (1, Failed), (77, Failed)] {
        let task = shell_task("exits-0-a", &format!("exit {status}"));
        let id = task.task_id.clone();
        stage.launch(&pod, vec![task]).await;
        let end = stage.ended(&id).await;
        assert_eq!(end.state.known(), Some(state), "{end:?}");
        assert_eq!(message(&end), format!("Command exited with status {status}"));
        assert_eq!((reason(&end), source(&end)), (None, Some(Source::Executor)));
        assert_eq!(stage.states(&id), [Starting, Running, state]);
    }
    let task = shell_task("exits-0-a", "kill -9 $$");
    let id = task.task_id.clone();
    stage.launch(&pod, vec![task]).await;
    let end = stage.ended(&id).await;
    assert_eq!((end.state.known(), message(&end)), (Some(Failed), "Command terminated with signal Killed"));
    stage.end().await;
}

#[tokio::test]
async fn the_framework_hears_that_a_task_ran_out_of_its_memory_and_the_others_live_on() {
    let stage = Stage::start().await;
    let pod = stage.pod("hungry-0");
    let neighbour = stage.run(&pod, sleeper("hungry-0-neighbour")).await;
    let before = stage.task_processes(&pod.executor_id, &neighbour);
    let task = shell_task("hungry-0-a", "exec tail /dev/zero").mem(40.0);
    let id = task.task_id.clone();
    stage.launch(&pod, vec![task]).await;
    let end = stage.ended(&id).await;
    assert_eq!(
        (end.state.known(), reason(&end)),
        (Some(Failed), Some(Reason::ContainerLimitationMemory)),
        "{end:?}"
    );
    assert_eq!(source(&end), Some(Source::Executor));
    assert!(message(&end).contains("40"), "no limit in {:?}", message(&end));
    assert_eq!(stage.task_processes(&pod.executor_id, &neighbour), before);
    assert_eq!(stage.states(&neighbour), [Starting, Running]);
    stage.end().await;
}

#[tokio::test]
async fn every_status_names_a_container_nested_in_the_executors() {
    let stage = Stage::start().await;
    let pod = stage.pod("nested-0");
    let id = stage.run(&pod, sleeper("nested-0-a")).await;
    stage.framework.kill(&id).await.unwrap();
    stage.ended(&id).await;
    let container = stage.container(&pod.executor_id);
    let log = stage.framework.log();
    assert_eq!(log.statuses(&id).count(), 4, "{log}");
    for status in log.statuses(&id) {
        let its = status.container_status.clone().and_then(|status| status.container_id).unwrap();
        assert_eq!(its.value, id.as_str());
        assert_eq!(its.parent.unwrap().value, container);
    }
    stage.end().await;
}

#[tokio::test]
async fn the_cgroups_of_tasks_are_nested_in_the_executors_own() {
    let stage = Stage::start().await;
    let pod = stage.pod("cgroup-0");
    let id = stage.run(&pod, sleeper("cgroup-0-a").mem(48.0).cpus(0.5)).await;
    let executor = stage.executor_process(&pod.executor_id);
    let container = stage.container(&pod.executor_id);
    let processes = stage.task_processes(&pod.executor_id, &id);
    assert_eq!(processes.len(), 1);
    let process = *processes.first().unwrap();
    for controller in ["cpu", "memory"] {
        let own = executor.cgroup(controller).unwrap();
        assert!(own.ends_with(&container), "the agent put the executor into {}", own.display());
        let expected = own.join(format!("kube-executor-{container}")).join(id.as_str());
        assert_eq!(process.cgroup(controller), Some(expected), "{controller}");
    }
    // That name in a container's cgroup is the agent's own for containers nested in it.
    for cgroup in cgroups::named(|name| name == container) {
        let below = cgroups::tree(&cgroup);
        assert!(below.iter().all(|folder| folder.file_name().unwrap() != "mesos"), "{below:?}");
    }
    let memory = stage
        .task_cgroups(&pod.executor_id, &id)
        .into_iter()
        .find_map(|cgroup| std::fs::read_to_string(cgroup.join("memory.limit_in_bytes")).ok());
    assert_eq!(memory.as_deref().map(str::trim), Some("50331648"));
    stage.end().await;
}

#[tokio::test]
async fn an_executor_takes_the_next_task_right_after_its_last_one_was_acknowledged() {
    let stage = Stage::start().await;
    let pod = stage.pod("again-0");
    let mut executors = BTreeSet::new();
    for round in 0..10 {
        let id = stage.run(&pod, sleeper("again-0-a")).await;
        executors.insert(stage.executor_process(&pod.executor_id));
        if round % 2 == 0 {
            stage.framework.kill(&id).await.unwrap();
        } else {
            // The other way to end.
            for process in stage.task_processes(&pod.executor_id, &id) {
                process.signal(Signal::KILL).unwrap();
            }
        }
        // The framework acknowledges what it hears, and this is the last.
        stage.ended(&id).await;
    }
    assert_eq!(executors.len(), 1, "{executors:?}");
    assert!(stage.framework.log().failure(&pod.executor_id).is_none());
    stage.end().await;
}

#[tokio::test]
async fn a_framework_that_shuts_an_executor_down_hears_in_time_that_its_tasks_were_killed() {
    const GRACE: Duration = Duration::from_secs(3);
    let stage = Stage::start().await;
    let mut pod = stage.pod("shutdown-0");
    pod.shutdown_grace_period = Some(duration(GRACE));
    let gentle = stage.run(&pod, sleeper("shutdown-0-gentle")).await;
    let stubborn = shell_task("shutdown-0-stubborn", "trap '' TERM; while :; do sleep 1; done");
    let stubborn = stage.run(&pod, stubborn.grace(Duration::from_secs(100))).await;
    let container = stage.container(&pod.executor_id);
    let began = Instant::now();
    stage.framework.shutdown_executor(&pod.executor_id).await.unwrap();
    for task in [&gentle, &stubborn] {
        let end = stage.ended(task).await;
        assert_eq!((end.state.known(), source(&end)), (Some(Killed), Some(Source::Executor)), "{end:?}");
    }
    assert!(began.elapsed() < GRACE, "{:?}", began.elapsed());
    stage.framework.wait_for_executor_end(&pod.executor_id).await.unwrap();
    container_gone(&container).await;
    stage.end().await;
}

#[tokio::test]
async fn with_the_framework_everything_that_it_ran_ends() {
    let stage = Stage::start().await;
    let mut processes = BTreeSet::new();
    for name in ["torn-0", "torn-1"] {
        let pod = stage.pod(name);
        let id = stage.run(&pod, sleeper(name)).await;
        processes.extend(stage.task_processes(&pod.executor_id, &id));
        processes.insert(stage.executor_process(&pod.executor_id));
    }
    assert_eq!(processes.len(), 4);
    stage.framework.teardown().await.unwrap();
    gone(&processes).await;
    stage.nothing_left().await;
}

#[tokio::test]
async fn when_the_executor_is_killed_its_tasks_end_and_the_next_executor_runs() {
    let stage = Stage::start().await;
    let pod = stage.pod("murdered-0");
    // What leaves the session, and the group, ends with the rest.
    let task = shell_task("murdered-0-a", "setsid sleep 100000 & exec sleep 100000");
    let id = stage.run(&pod, task).await;
    let processes = until("two processes", || {
        let processes = stage.task_processes(&pod.executor_id, &id);
        (processes.len() == 2).then_some(processes)
    })
    .await;
    let container = stage.container(&pod.executor_id);
    let executor = stage.executor_process(&pod.executor_id);
    executor.signal(Signal::KILL).unwrap();
    let end = stage.ended(&id).await;
    assert_eq!(
        (end.state.known(), source(&end), reason(&end)),
        (Some(Failed), Some(Source::Agent), Some(Reason::ExecutorTerminated)),
        "{end:?}"
    );
    gone(&processes).await;
    container_gone(&container).await;

    // What the dead one could not tidy up, the next one of the same state folder does.
    let next = stage.pod("murdered-0");
    let id = stage.run(&next, sleeper("murdered-0-a")).await;
    assert_eq!(stage.task_processes(&next.executor_id, &id).len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn a_task_that_is_described_wrongly_is_an_error_with_the_field_and_the_value() {
    let stage = Stage::start().await;
    let pod = stage.pod("wrong-0");
    let living = stage.run(&pod, sleeper("wrong-0-living")).await;
    let settings = TaskSettings { umask: Some("888".to_owned()), ..TaskSettings::default() };
    let wrong = sleeper("wrong-0-a").settings(&settings);
    let right = sleeper("wrong-0-b");
    let [wrong_id, right_id] = [wrong.task_id.clone(), right.task_id.clone()];
    stage.launch(&pod, vec![wrong, right]).await;
    let end = stage.ended(&wrong_id).await;
    assert_eq!(
        (end.state.known(), reason(&end), source(&end)),
        (Some(Error), Some(Reason::TaskInvalid), Some(Source::Executor))
    );
    assert!(message(&end).contains("umask") && message(&end).contains("888"), "{:?}", message(&end));
    let end = stage.ended(&right_id).await;
    assert_eq!((end.state.known(), reason(&end)), (Some(Error), Some(Reason::TaskGroupInvalid)));
    for task in [&wrong_id, &right_id] {
        assert_eq!(stage.states(task), [Error]);
        assert!(stage.task_cgroups(&pod.executor_id, task).is_empty());
    }
    // The same by a plain LAUNCH.
    let mut wrong = sleeper("wrong-0-c");
    wrong.resources.push(Resource { kind: "SCALAR".to_owned(), ..Resource::scalar("cpus", 0.1) });
    wrong =
        wrong.settings(&TaskSettings { depends_on: vec!["nobody".to_owned()], ..TaskSettings::default() });
    let id = wrong.task_id.clone();
    stage.framework.launch(&pod, vec![wrong]).await.unwrap();
    let end = stage.ended(&id).await;
    assert_eq!((end.state.known(), reason(&end)), (Some(Error), Some(Reason::TaskInvalid)));
    assert!(message(&end).contains("nobody"), "{:?}", message(&end));
    assert_eq!(stage.states(&living), [Starting, Running]);
    stage.end().await;
}

/// etcd of the Kubernetes version that the tests run with.
const KUBERNETES: &str = "1.36.3";

fn etcdctl(binaries: &Binaries, etcd: &Etcd, arguments: &[&str]) -> String {
    let output = Command::new(binaries.path("etcdctl"))
        .env_clear()
        .arg(format!("--endpoints={}", etcd.url()))
        .args(arguments)
        .output()
        .expect("start etcdctl");
    assert!(output.status.success(), "etcdctl {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn ready(stage: &Stage, task: &TaskId) {
    let found = |log: &Log| {
        assert!(log.end(task).is_none(), "{log}");
        (log.last(task)?.label("ready") == Some("true")).then_some(())
    };
    let waited = stage.framework.wait_for(found, &format!("{task} to be ready")).await;
    waited.unwrap_or_else(|error| panic!("{error:#}"));
}

fn programs(stage: &Stage, executor: &ExecutorId, task: &TaskId) -> Vec<PathBuf> {
    let processes = stage.task_processes(executor, task);
    processes.into_iter().filter_map(Process::program).collect()
}

#[tokio::test]
async fn a_real_etcd_serves_is_ended_inside_its_pod_and_keeps_its_data() {
    let binaries = Binaries::built(KUBERNETES, &["etcd", "etcdctl"]).unwrap();
    let stage = Stage::start().await;
    let pods = ["etcd-0", "etcd-1"].map(|name| stage.pod(name));
    let etcds = pods.each_ref().map(|_| Etcd::on_free_ports().unwrap());
    let tasks: [TaskInfo; 2] =
        [etcds[0].task(&binaries, "etcd-0-peer"), etcds[1].task(&binaries, "etcd-1-peer")];
    let ids = tasks.each_ref().map(|task| task.task_id.clone());
    for (pod, task) in pods.iter().zip(tasks) {
        stage.launch(pod, vec![task]).await;
    }
    for id in &ids {
        ready(&stage, id).await;
    }
    let path = PathBuf::from(binaries.path("etcd")).canonicalize().unwrap();
    assert_eq!(programs(&stage, &pods[0].executor_id, &ids[0]), [path]);
    etcdctl(&binaries, &etcds[0], &["put", "key", "kept"]);
    assert_eq!(etcdctl(&binaries, &etcds[0], &["get", "key"]), "key\nkept\n");
    assert_eq!(etcdctl(&binaries, &etcds[1], &["get", "key"]), "");

    let others = stage.task_processes(&pods[1].executor_id, &ids[1]);
    let killer = shell_task("etcd-0-killer", "exec pkill etcd");
    let killer_id = killer.task_id.clone();
    stage.launch(&pods[0], vec![killer]).await;
    let end = stage.ended(&ids[0]).await;
    assert!(matches!(end.state.known(), Some(Failed | Finished)), "pkill is no kill of Mesos's: {end:?}");
    assert_eq!(stage.ended(&killer_id).await.state.known(), Some(Finished));
    assert_eq!(stage.task_processes(&pods[1].executor_id, &ids[1]), others);

    let task = etcds[0].task(&binaries, "etcd-0-peer");
    let id = task.task_id.clone();
    stage.launch(&pods[0], vec![task]).await;
    ready(&stage, &id).await;
    assert_eq!(etcdctl(&binaries, &etcds[0], &["get", "key"]), "key\nkept\n");
    for id in [&id, &ids[1]] {
        stage.framework.kill(id).await.unwrap();
        assert_eq!(stage.ended(id).await.state.known(), Some(Killed));
    }
    stage.end().await;
}

#[tokio::test]
async fn a_task_of_another_user_reaches_its_sandbox_and_its_data_below_a_real_agent_s_folders() {
    let stage = Stage::start().await;
    // The temporary folder of the test is for one user; what the agent makes below it is left as it is.
    stage.open_to_all();
    let pod = stage.pod("user-0");
    let text = r#"test "$(id -un)" = nobody && touch "$MESOS_SANDBOX/x" "$KUBE_EXECUTOR_DATA/x""#;
    let mut task = shell_task("user-0-task", text);
    task.command.as_mut().expect("a command").user = Some("nobody".to_owned());
    let task = stage.run(&pod, task).await;
    assert_eq!(stage.ended(&task).await.state.known(), Some(Finished));
    stage.end().await;
}
