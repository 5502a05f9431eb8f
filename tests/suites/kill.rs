//! How tasks are ended: by KILL, and by the end of the executor.

use std::time::{Duration, Instant};

use kube_executor_tests::fake_agent::Options;
use kube_executor_tests::pod::{Pod, Signal, Task, message, reason, seconds_between, state, wait_until};
use kube_executor_tests::stage::Gate;
use mesos::common::{Capability, TaskState};
use serde_json::json;

use TaskState::{Failed, Finished, Killed, Killing, Running, Starting};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

/// It ignores SIGTERM, and says so.
fn stubborn(id: &str) -> Task {
    Task::shell(id, "trap '' TERM; echo up; sleep 1000")
}

/// It ends with exit code 0 on SIGTERM, and says so.
fn gentle(id: &str) -> Task {
    Task::shell(id, "trap 'exit 0' TERM; echo up; sleep 1000 & wait")
}

async fn up(pod: &Pod, task: Task, id: &str) {
    pod.launch(task);
    pod.wait_stdout(id, "up").await;
    pod.wait(id, Running).await;
}

/// From TASK_KILLING to TASK_KILLED.
async fn seconds_to_die(pod: &Pod, id: &str) -> f64 {
    let killed = pod.wait(id, Killed).await;
    let killing = pod.wait(id, Killing).await;
    seconds_between(&killing, &killed)
}

#[tokio::test]
async fn the_kill_s_grace_goes_before_the_task_s() {
    let pod = Pod::start().await;
    up(&pod, stubborn("a").grace(LONG), "a").await;
    pod.agent.kill("a", Some(SHORT));
    let took = seconds_to_die(&pod, "a").await;
    assert!((0.14..3.0).contains(&took), "{took}");
    up(&pod, stubborn("b").grace(Duration::ZERO), "b").await;
    pod.agent.kill("b", Some(Duration::from_millis(500)));
    let took = seconds_to_die(&pod, "b").await;
    assert!((0.49..3.0).contains(&took), "{took}");
    pod.end().await;
}

#[tokio::test]
async fn the_task_s_grace_goes_before_the_default() {
    let pod = Pod::start().await;
    up(&pod, stubborn("a").grace(SHORT), "a").await;
    pod.agent.kill("a", None);
    let took = seconds_to_die(&pod, "a").await;
    assert!((0.14..2.5).contains(&took), "{took}");
    pod.end().await;
}

#[tokio::test]
async fn the_default_grace_is_three_seconds_and_then_it_is_killed_by_force() {
    let pod = Pod::start().await;
    up(&pod, stubborn("a"), "a").await;
    pod.agent.kill("a", None);
    let took = seconds_to_die(&pod, "a").await;
    assert!((2.99..6.0).contains(&took), "{took}");
    assert_eq!(pod.states("a"), [Starting, Running, Killing, Killed]);
    let status = pod.wait("a", Killed).await;
    assert_eq!((message(&status), reason(&status)), ("Command terminated with signal Killed", ""));
    pod.end().await;
}

#[tokio::test]
async fn a_repeated_kill_only_shortens_the_grace_counted_from_the_first() {
    let pod = Pod::start().await;
    up(&pod, stubborn("a"), "a").await;
    pod.agent.kill("a", Some(Duration::from_secs(1)));
    pod.wait("a", Killing).await;
    pod.agent.kill("a", Some(LONG));
    let took = seconds_to_die(&pod, "a").await;
    assert!((0.99..4.0).contains(&took), "{took}");

    up(&pod, stubborn("b"), "b").await;
    pod.agent.kill("b", Some(LONG));
    pod.wait("b", Killing).await;
    pod.agent.kill("b", Some(SHORT));
    let took = seconds_to_die(&pod, "b").await;
    assert!((0.14..4.0).contains(&took), "{took}");
    assert_eq!(pod.states("b"), [Starting, Running, Killing, Killed]);
    pod.end().await;
}

#[tokio::test]
async fn the_whole_tree_dies_and_with_it_who_left_the_session_or_ignores_signals() {
    let pod = Pod::start().await;
    let grandchildren = "setsid sh -c 'trap \"\" TERM HUP; echo $$ >> born; sleep 1000' & \
                         (setsid sh -c 'echo $$ >> born; exec sleep 1000' &); \
                         until [ $(cat born 2>/dev/null | wc -l) = 2 ]; do sleep 0.01; done; echo up; exec sleep 1000";
    up(&pod, Task::shell("a", grandchildren), "a").await;
    pod.wait_processes("a", 4).await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    pod.wait_processes("a", 0).await;
    pod.end().await;
}

#[tokio::test]
async fn a_task_that_ends_by_itself_leaves_no_process_either() {
    let pod = Pod::start().await;
    let text =
        "setsid sh -c 'trap \"\" TERM; echo up; sleep 1000' & until grep -q up stdout; do sleep 0.01; done";
    pod.launch(Task::shell("a", text));
    pod.wait("a", Finished).await;
    pod.wait_processes("a", 0).await;
    pod.end().await;
}

#[tokio::test]
async fn kill_mode_process_ends_the_first_process_and_leaves_its_children() {
    let pod = Pod::start().await;
    let text = "sleep 1001 & echo up; exec sleep 1000";
    up(&pod, Task::shell("a", text).settings(&json!({"kill_mode": "process"})), "a").await;
    pod.wait_processes("a", 2).await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    let left = pod.wait_processes("a", 1).await;
    // What removes the cgroups of ended tasks has been through by then.
    pod.launch(Task::shell("later", "true"));
    pod.wait("later", Finished).await;
    assert_eq!(pod.processes_of("a"), left);
    pod.end().await;
}

#[tokio::test]
async fn killed_wins_over_exit_code_0() {
    let pod = Pod::start().await;
    up(&pod, gentle("a"), "a").await;
    pod.agent.kill("a", None);
    let status = pod.wait("a", Killed).await;
    assert_eq!((message(&status), reason(&status)), ("Command exited with status 0", ""));
    assert_eq!(pod.states("a"), [Starting, Running, Killing, Killed]);
    pod.end().await;
}

#[tokio::test]
async fn killing_is_told_only_to_a_framework_that_knows_it() {
    let capabilities = vec![Capability::PartitionAware];
    let pod = Pod::with(Options { capabilities, ..Options::default() }, &[]).await;
    up(&pod, gentle("a"), "a").await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    assert_eq!(pod.states("a"), [Starting, Running, Killed]);
    pod.end().await;
}

#[tokio::test]
async fn a_kill_of_an_unknown_or_ended_task_is_nothing() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("ended", "true"));
    pod.wait("ended", Finished).await;
    for id in ["never launched", "ended", "ended"] {
        pod.agent.kill(id, Some(Duration::ZERO));
    }
    pod.launch(Task::shell("later", "true"));
    pod.wait("later", Finished).await;
    assert_eq!(pod.states("never launched"), []);
    assert_eq!(pod.states("ended"), [Starting, Running, Finished]);
    pod.end().await;
}

#[tokio::test]
async fn a_task_that_waits_for_another_is_killed_at_once_and_never_starts() {
    let pod = Pod::start().await;
    let check = json!({"role": "readiness", "command": {"value": "false"}, "interval_seconds": 0.05});
    pod.group([Task::idle("db").settings(&json!({"checks": [check]}))]);
    pod.group([Task::shell("app", "echo started").settings(&json!({"depends_on": ["db"]}))]);
    pod.wait("db", Running).await;
    pod.wait("app", Starting).await;
    pod.agent.kill("app", None);
    let status = pod.wait("app", Killed).await;
    assert_eq!(message(&status), "killed before its process was started");
    assert_eq!(pod.states("app"), [Starting, Killed]);
    assert!(!pod.sandbox("app").exists());
    pod.end().await;
}

#[tokio::test]
async fn a_kill_right_behind_the_launch_ends_it_wherever_it_is() {
    let pod = Pod::start().await;
    for number in 0..20 {
        let id = format!("a{number}");
        pod.launch(Task::idle(&id));
        pod.agent.kill(&id, None);
    }
    for number in 0..20 {
        let id = format!("a{number}");
        pod.wait(&id, Killed).await;
        let states = pod.states(&id);
        assert_eq!(states.iter().filter(|state| state.is_terminal()).count(), 1, "{states:?}");
        pod.wait_processes(&id, 0).await;
    }
    pod.end().await;
}

#[tokio::test]
async fn a_task_between_two_restarts_is_killed_at_once() {
    let pod = Pod::start().await;
    let restart = json!({"restart": {"policy": "always", "delay_seconds": 1000, "max_delay_seconds": 1000}});
    pod.launch(Task::shell("a", "true").settings(&restart));
    pod.wait_ready("a", false).await;
    pod.agent.kill("a", None);
    let status = pod.wait("a", Killed).await;
    assert_eq!(message(&status), "killed between two restarts");
    pod.end().await;
}

#[tokio::test]
async fn a_killed_task_is_not_restarted() {
    let pod = Pod::start().await;
    let restart = json!({"restart": {"policy": "always", "delay_seconds": 0}});
    up(&pod, gentle("a").settings(&restart), "a").await;
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    assert_eq!(pod.states("a"), [Starting, Running, Killing, Killed]);
    pod.end().await;
}

#[tokio::test]
async fn shutdown_ends_all_tasks_within_its_grace_and_all_is_acknowledged() {
    let shutdown_grace_period = Duration::from_secs(3);
    let mut pod = Pod::with(Options { shutdown_grace_period, ..Options::default() }, &[]).await;
    // Two that depend on each other share the time; each on its own would take a minute.
    pod.group([
        stubborn("db").grace(LONG),
        stubborn("app").grace(LONG).settings(&json!({"depends_on": ["db"]})),
        gentle("other"),
    ]);
    pod.group([stubborn("alone").grace(LONG)]);
    for id in ["db", "app", "other", "alone"] {
        pod.wait_stdout(id, "up").await;
        pod.wait(id, Running).await;
    }
    let began = Instant::now();
    pod.agent.shutdown();
    assert_eq!(pod.exited().await.code(), Some(0));
    assert!(began.elapsed() < shutdown_grace_period, "{:?}", began.elapsed());
    for id in ["db", "app", "other", "alone"] {
        assert_eq!(pod.states(id), [Starting, Running, Killing, Killed], "{id}");
        let status = pod.wait(id, Killed).await;
        assert!(message(&status).ends_with(": the executor shuts down"), "{}", message(&status));
    }
    let order = |id: &str| {
        let all = pod.agent.log().statuses;
        all.iter().position(|one| one.task_id.as_str() == id && state(one) == Killed).unwrap()
    };
    assert!(order("app") < order("db"));
    assert!(pod.log().contains("unacknowledged=0"));
    pod.ended().await;
}

#[tokio::test]
async fn a_task_s_own_shorter_grace_holds_on_shutdown_too() {
    let mut pod = Pod::with(Options { shutdown_grace_period: LONG, ..Options::default() }, &[]).await;
    up(&pod, stubborn("a").grace(SHORT), "a").await;
    pod.agent.shutdown();
    assert_eq!(pod.exited().await.code(), Some(0));
    let took = seconds_to_die(&pod, "a").await;
    assert!((0.14..3.0).contains(&took), "{took}");
    pod.ended().await;
}

#[tokio::test]
async fn shutdown_with_a_grace_of_0_still_tells_of_every_end() {
    let options = Options { shutdown_grace_period: Duration::from_millis(500), ..Options::default() };
    let mut pod = Pod::with(options, &[]).await;
    up(&pod, stubborn("a"), "a").await;
    pod.agent.shutdown();
    assert_eq!(pod.exited().await.code(), Some(0));
    pod.wait("a", Killed).await;
    pod.ended().await;
}

#[tokio::test]
async fn a_launch_while_the_executor_shuts_down_is_killed_without_a_process() {
    let pod = Pod::start().await;
    up(&pod, stubborn("a").grace(Duration::from_secs(1)), "a").await;
    pod.agent.shutdown();
    pod.wait("a", Killing).await;
    pod.launch(Task::shell("late", "echo started"));
    let status = pod.wait("late", Killed).await;
    assert_eq!(message(&status), "the executor shuts down");
    assert_eq!(pod.states("late"), [Killed]);
    pod.ended().await;
}

#[tokio::test]
async fn sigterm_to_the_executor_is_a_shutdown() {
    let mut pod = Pod::start().await;
    up(&pod, gentle("a"), "a").await;
    pod.signal(Signal::TERM);
    assert_eq!(pod.exited().await.code(), Some(0));
    assert_eq!(pod.states("a"), [Starting, Running, Killing, Killed]);
    pod.ended().await;
}

#[tokio::test]
async fn the_end_of_the_executor_by_force_ends_its_pod() {
    let mut pod = Pod::start().await;
    up(&pod, Task::shell("a", "trap '' TERM HUP; setsid sleep 1000 & echo up; sleep 1000"), "a").await;
    let init = pod.init();
    pod.signal(Signal::KILL);
    assert_eq!(pod.exited().await.code(), None);
    wait_until("the init's end", || !std::path::Path::new(&format!("/proc/{init}")).exists()).await;
    pod.wait_processes("a", 0).await;
}

#[tokio::test]
async fn several_kills_of_a_group_at_once_miss_nobody() {
    let pod = Pod::start().await;
    let ids = ["a", "b", "c", "d"];
    pod.group(ids.map(gentle));
    for id in ids {
        pod.wait_stdout(id, "up").await;
        pod.wait(id, Running).await;
    }
    for id in ids {
        pod.agent.kill(id, None);
    }
    for id in ids {
        pod.wait(id, Killed).await;
        assert_eq!(pod.states(id), [Starting, Running, Killing, Killed]);
    }
    assert_eq!(pod.states("a").iter().filter(|state| **state == Failed).count(), 0);
    pod.end().await;
}

#[tokio::test]
async fn the_end_of_a_group_does_not_wait_for_tasks_of_another_that_live_on() {
    let pod = Pod::start().await;
    let gate = Gate::new(&pod.shared("gate"));
    pod.group([gentle("base"), Task::shell("crash", &format!("{}; exit 1", gate.wait()))]);
    pod.wait_stdout("base", "up").await;
    pod.group([Task::idle("app").settings(&json!({"depends_on": ["base"]}))]);
    pod.wait("app", Running).await;
    gate.open("go").await;
    pod.wait("crash", Failed).await;
    let status = pod.wait("base", Killed).await;
    assert!(message(&status).contains("task crash of its group"), "{}", message(&status));
    assert_eq!(pod.states("app"), [Starting, Running]);
    pod.end().await;
}
