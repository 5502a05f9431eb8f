//! What happens when the agent is away: with a real one that is killed and comes back, and with a fake one for what
//! cannot be staged with a real one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube_executor_tests::child::ExecutorChild;
use kube_executor_tests::describe::shell_task;
use kube_executor_tests::fake_agent::{
    Acknowledge, ClientCertificate, FakeAgent, Options, Reply, Transport, Via, task_info,
};
use kube_executor_tests::framework::Acknowledging;
use kube_executor_tests::log::{Heard, Log};
use kube_executor_tests::process::Process;
use kube_executor_tests::stage::{Gate, Stage, until};
use mesos::common::{ExecutorInfo, Source, TaskId, TaskInfo, TaskState, TaskStatus};
use mesos::executor::CallType;
use serde_json::{Value, json};

use TaskState::{Failed, Finished, Killed, Running, Starting};

/// How often everything is tried with the real agent.
const ROUNDS: usize = 20;

fn sleeper(name: &str) -> TaskInfo {
    shell_task(name, "exec sleep 100000")
}

/// A task that ends with the status that the gate tells it.
fn waiter(name: &str, gate: &Gate) -> TaskInfo {
    shell_task(name, &format!("{}; exit $word", gate.wait()))
}

/// What executors told. Besides, a master says by itself in which state the tasks of an agent are that comes back to it.
fn told(log: &Log) -> impl Iterator<Item = &TaskStatus> {
    let statuses = log.entries().iter().filter_map(|entry| match &entry.heard {
        Heard::Status(status) => Some(&**status),
        _ => None,
    });
    statuses.filter(|status| source(status) == Some(Source::Executor))
}

fn source(status: &TaskStatus) -> Option<Source> {
    status.source.as_ref().and_then(|source| source.known())
}

/// The states of a task as its executor told them, each update once however often it came.
fn states(stage: &Stage, task: &TaskId) -> Vec<TaskState> {
    let log = stage.framework.log();
    let mut seen = BTreeSet::new();
    let fresh = told(&log).filter(|status| {
        let uuid = status.uuid.clone().expect("a uuid").0;
        status.task_id == *task && seen.insert(uuid)
    });
    fresh.filter_map(|status| status.state.known()).collect()
}

/// Waits until the framework has heard from the executor that a task has ended.
async fn ended(stage: &Stage, task: &TaskId) -> TaskStatus {
    let end = |log: &Log| {
        let mut ends = told(log).filter(|status| status.state.known().is_some_and(TaskState::is_terminal));
        ends.find(|status| status.task_id == *task).cloned()
    };
    let end = stage.framework.wait_for(end, &format!("the end of {task}")).await;
    end.unwrap_or_else(|error| panic!("{error:#}"))
}

/// No task here has checks: it is in each state once, and that is told by one update, however often that comes. And
/// nobody says anything that its executor did not.
fn assert_one_update_for_each_transition(log: &Log) {
    let mut updates: BTreeMap<(TaskId, String), BTreeSet<Vec<u8>>> = BTreeMap::new();
    let place = |status: &TaskStatus| (status.task_id.clone(), status.state.name().to_owned());
    for status in told(log) {
        let uuid = status.uuid.clone().expect("a uuid");
        updates.entry(place(status)).or_default().insert(uuid.0);
    }
    for entry in log.entries() {
        if let Heard::Status(status) = &entry.heard {
            assert!(updates.contains_key(&place(status)), "{status:?}; {log}");
        }
    }
    for ((task, state), uuids) in updates {
        assert_eq!(uuids.len(), 1, "{task} {state} by several updates; {log}");
    }
}

fn assert_failed_by_itself(status: &TaskStatus) {
    assert_eq!(
        (status.state.known(), status.message.as_deref()),
        (Some(Failed), Some("Command exited with status 3"))
    );
}

/// Kills master and agent and starts them again.
async fn outage(stage: &mut Stage) {
    stage.rig.kill();
    stage.rig.restart().await.unwrap();
}

/// Everything that must outlive an outage: the executors, and their tasks' processes.
fn survivors(stage: &Stage, pods: &[(&ExecutorInfo, &TaskId)]) -> BTreeSet<Process> {
    let of = |(pod, task): &(&ExecutorInfo, &TaskId)| {
        let mut processes = stage.task_processes(&pod.executor_id, task);
        assert_eq!(processes.len(), 1, "{task}: {processes:?}");
        processes.insert(stage.executor_process(&pod.executor_id));
        processes
    };
    pods.iter().flat_map(of).collect()
}

#[tokio::test]
async fn tasks_run_on_while_agent_and_master_are_killed_and_come_back() {
    let mut stage = Stage::start().await;
    let (first, second) = (stage.pod("on-0"), stage.pod("on-1"));
    let a = stage.run(&first, sleeper("on-0-a")).await;
    let b = stage.run(&first, sleeper("on-0-b")).await;
    let c = stage.run(&second, sleeper("on-1-c")).await;
    let pods = [(&first, &a), (&first, &b), (&second, &c)];
    let before = survivors(&stage, &pods);
    assert_eq!(before.len(), 5);
    for _ in 0..ROUNDS {
        outage(&mut stage).await;
        // That the executors are back is seen by what they do.
        for pod in [&first, &second] {
            let probe = shell_task("probe", "exit 0");
            let id = probe.task_id.clone();
            stage.launch(pod, vec![probe]).await;
            assert_eq!(ended(&stage, &id).await.state.known(), Some(Finished));
            assert_eq!(states(&stage, &id), [Starting, Running, Finished], "{}", stage.framework.log());
        }
        assert_eq!(survivors(&stage, &pods), before);
    }
    for (_, id) in &pods {
        assert_eq!(states(&stage, id), [Starting, Running], "{}", stage.framework.log());
        stage.framework.kill(id).await.unwrap();
        assert_eq!(ended(&stage, id).await.state.known(), Some(Killed));
    }
    assert_one_update_for_each_transition(&stage.framework.log());
    stage.end().await;
}

#[tokio::test]
async fn the_end_of_a_task_while_agent_and_master_are_away_is_reported_once_when_they_are_back() {
    let mut stage = Stage::start().await;
    let pod = stage.pod("away-0");
    let gate = Gate::new(&stage.rig.folder().join("gate"));
    let neighbour = stage.run(&pod, sleeper("away-0-neighbour")).await;
    let before = survivors(&stage, &[(&pod, &neighbour)]);
    for _ in 0..ROUNDS {
        let id = stage.run(&pod, waiter("away-0-a", &gate)).await;
        let processes = stage.task_processes(&pod.executor_id, &id);
        stage.rig.kill();
        gate.open("3").await;
        until("the end of the task's process", || {
            processes.iter().all(|process| !process.lives()).then_some(())
        })
        .await;
        stage.rig.restart().await.unwrap();
        assert_failed_by_itself(&ended(&stage, &id).await);
        assert_eq!(states(&stage, &id), [Starting, Running, Failed], "{}", stage.framework.log());
        assert_eq!(survivors(&stage, &[(&pod, &neighbour)]), before);
    }
    assert_one_update_for_each_transition(&stage.framework.log());
    stage.end().await;
}

#[tokio::test]
async fn what_neither_agent_nor_framework_has_acknowledged_when_they_die_comes_again_with_the_same_uuid() {
    let mut stage = Stage::start().await;
    let pod = stage.pod("unheard-0");
    let gate = Gate::new(&stage.rig.folder().join("gate"));
    let neighbour = stage.run(&pod, sleeper("unheard-0-neighbour")).await;
    let before = survivors(&stage, &[(&pod, &neighbour)]);
    for _ in 0..ROUNDS {
        stage.framework.acknowledging(Acknowledging::ByHand);
        let task = waiter("unheard-0-a", &gate);
        let id = task.task_id.clone();
        stage.launch(&pod, vec![task]).await;
        let first = stage.state(&id, Starting).await;
        let logged = |text: &str| {
            let log =
                std::fs::read_to_string(stage.sandbox(&pod.executor_id).join("stderr")).unwrap_or_default();
            let found = log.lines().any(|line| line.contains(id.as_str()) && line.contains(text));
            found.then_some(())
        };
        until("the executor's TASK_RUNNING", || logged("state=TASK_RUNNING")).await;
        // The agent keeps what the framework has not acknowledged; of what it is sent now it never hears.
        stage.freeze();
        gate.open("3").await;
        until("the executor's TASK_FAILED", || logged("state=TASK_FAILED")).await;
        stage.rig.kill();
        stage.framework.acknowledging(Acknowledging::AtOnce);
        stage.rig.restart().await.unwrap();
        assert_failed_by_itself(&ended(&stage, &id).await);
        let log = stage.framework.log();
        assert_eq!(states(&stage, &id), [Starting, Running, Failed], "{log}");
        let again = log.statuses(&id).filter(|status| status.uuid == first.uuid).count();
        assert!(again >= 2, "{log}");
        assert_eq!(survivors(&stage, &[(&pod, &neighbour)]), before);
    }
    assert_one_update_for_each_transition(&stage.framework.log());
    stage.end().await;
}

/// A task with this command, for a fake agent.
fn command(id: &str, text: &str) -> Value {
    task_info(id, &json!({"command": {"value": text}}))
}

/// A task that runs, and its process.
async fn launched(agent: &FakeAgent, executor: &ExecutorChild, id: &str) -> BTreeSet<Process> {
    agent.launch(&command(id, "exec sleep 100000"));
    agent.wait_status(id, Running).await;
    let processes = executor.task_processes(id);
    assert_eq!(processes.len(), 1, "{processes:?}");
    processes
}

fn uuids(statuses: &[TaskStatus]) -> Vec<&[u8]> {
    statuses.iter().map(|status| status.uuid.as_ref().expect("a uuid").0.as_slice()).collect()
}

#[tokio::test]
async fn after_a_lost_stream_the_executor_tells_what_is_unacknowledged_in_order() {
    let agent = FakeAgent::start(Options { acknowledge: Acknowledge::None, ..Options::default() }).await;
    let executor = ExecutorChild::start(&agent);
    agent.wait_subscribed().await;
    let mut processes = BTreeSet::new();
    for id in ["a", "b", "c"] {
        processes.extend(launched(&agent, &executor, id).await);
    }
    let sent = agent.log().statuses;
    assert_eq!(sent.len(), 6);
    // Of one task the first update is acknowledged: the agent knows the task then, but not the second.
    let acknowledged = agent.statuses("b")[0].clone();
    agent.acknowledge(&acknowledged);
    agent.set_acknowledge(Acknowledge::All);
    agent.drop_stream();
    agent.wait_subscriptions(2).await;
    let log = agent.log();
    let body = log.calls_of(CallType::Subscribe).next_back().and_then(|call| call.subscribe()).unwrap();
    let tasks: Vec<Value> =
        body.unacknowledged_tasks.iter().map(|task| serde_json::from_str(task.get()).unwrap()).collect();
    assert_eq!(tasks, ["a", "c"].map(|id| command(id, "exec sleep 100000")), "{log}");
    let updates: Vec<TaskStatus> =
        body.unacknowledged_updates.iter().map(|update| update.status.clone()).collect();
    let expected: Vec<TaskStatus> =
        sent.into_iter().filter(|status| status.uuid != acknowledged.uuid).collect();
    assert_eq!(uuids(&updates), uuids(&expected), "{log}");
    assert_eq!(updates, expected);

    // Those are acknowledged now, so there is nothing more to tell.
    agent.kill("a", None);
    agent.wait_status("a", Killed).await;
    agent.drop_stream();
    agent.wait_subscriptions(3).await;
    let log = agent.log();
    let body = log.calls_of(CallType::Subscribe).next_back().and_then(|call| call.subscribe()).unwrap();
    assert!(body.unacknowledged_tasks.is_empty(), "{log}");
    let left = body
        .unacknowledged_updates
        .iter()
        .map(|update| &update.status.task_id)
        .filter(|task| task.as_str() != "a")
        .count();
    assert_eq!(left, 0, "{log}");
    for id in ["b", "c"] {
        assert!(executor.task_processes(id).iter().all(|process| processes.contains(process)));
        assert_eq!(executor.task_processes(id).len(), 1);
    }
    executor.end().await;
}

#[tokio::test]
async fn updates_that_an_agent_in_recovery_refuses_are_sent_again_in_order_with_the_same_uuid() {
    let agent = FakeAgent::start(Options::default()).await;
    let executor = ExecutorChild::start(&agent);
    agent.wait_subscribed().await;
    agent.script_updates([503, 503, 404, 503].map(Reply::Status));
    agent.launch(&command("a", "exit 3"));
    agent.wait_status("a", Failed).await;
    let log = agent.log();
    let of = |status: u16| {
        log.calls_of(CallType::Update)
            .filter(move |call| call.status == status)
            .map(|call| call.update().unwrap())
    };
    assert_eq!(of(503).count() + of(404).count(), 4, "{log}");
    let first = of(202).next().unwrap();
    assert!(of(503).chain(of(404)).all(|status| status.uuid == first.uuid), "{log}");
    let states: Vec<_> = agent.statuses("a").iter().filter_map(|status| status.state.known()).collect();
    assert_eq!(states, [Starting, Running, Failed]);
    executor.end().await;
}

#[tokio::test]
async fn an_agent_that_does_not_come_back_in_time_is_the_end_of_the_tasks_and_of_the_executor() {
    const RECOVERY: Duration = Duration::from_millis(1500);
    let options = Options {
        recovery_timeout: RECOVERY,
        shutdown_grace_period: Duration::from_secs(2),
        ..Options::default()
    };
    let mut agent = FakeAgent::start(options).await;
    let mut executor = ExecutorChild::start(&agent);
    agent.wait_subscribed().await;
    let processes = launched(&agent, &executor, "a").await;
    let lost = Instant::now();
    agent.down().await;
    until("the end of the task", || processes.iter().all(|process| !process.lives()).then_some(())).await;
    assert!(lost.elapsed() >= RECOVERY, "the task ended after {:?}", lost.elapsed());
    assert!(executor.exit().await.success());
    executor.nothing_left().await;
}

#[tokio::test]
async fn without_checkpointing_the_end_of_the_agent_is_the_end() {
    let options =
        Options { checkpoint: false, shutdown_grace_period: Duration::from_secs(2), ..Options::default() };
    let mut agent = FakeAgent::start(options).await;
    let mut executor = ExecutorChild::start(&agent);
    agent.wait_subscribed().await;
    let processes = launched(&agent, &executor, "a").await;
    agent.down().await;
    assert!(executor.exit().await.success());
    assert!(processes.iter().all(|process| !process.lives()));
    executor.nothing_left().await;
}

#[tokio::test]
async fn every_call_has_the_token_and_no_task_does() {
    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl";
    let agent = FakeAgent::start(Options { token: Some(TOKEN.to_owned()), ..Options::default() }).await;
    let executor = ExecutorChild::start(&agent);
    agent.wait_subscribed().await;
    launched(&agent, &executor, "a").await;
    let own = executor.process();
    let others: Vec<Process> = executor.processes().into_iter().filter(|process| *process != own).collect();
    assert!(others.len() >= 2, "init and a task: {others:?}");
    for process in others {
        let words = [process.environment(), process.command_line()].concat();
        assert!(
            words.iter().all(|word| !word.contains(TOKEN) && !word.contains("AUTHENTICATION_TOKEN")),
            "{process}: {words:?}"
        );
    }
    let log = agent.log();
    assert!(log.calls.iter().all(|call| call.headers["authorization"] == format!("Bearer {TOKEN}")));
    assert!(!executor.log().contains(TOKEN));
    executor.end().await;
}

/// A task's life, with the agent away in between.
async fn lives_through_an_outage(mut agent: FakeAgent, via: Via) {
    let executor = ExecutorChild::start(&agent);
    agent.wait_subscribed().await;
    let processes = launched(&agent, &executor, "a").await;
    agent.down().await;
    agent.up().await;
    agent.wait_subscribed().await;
    agent.kill("a", None);
    agent.wait_status("a", Killed).await;
    assert!(processes.iter().all(|process| !process.lives()));
    let log = agent.log();
    assert!(log.calls.iter().all(|call| call.via == via), "{log}");
    executor.end().await;
}

#[tokio::test]
async fn an_agent_can_be_reached_by_its_unix_socket() {
    let agent = FakeAgent::start(Options { transport: Transport::Unix, ..Options::default() }).await;
    lives_through_an_outage(agent, Via::Unix).await;
}

#[tokio::test]
async fn an_agent_can_be_reached_by_tls_with_a_client_certificate() {
    let transport = Transport::Tls(ClientCertificate::Required);
    let agent = FakeAgent::start(Options { transport, ..Options::default() }).await;
    lives_through_an_outage(agent, Via::Tls).await;
}

#[tokio::test]
async fn an_agent_of_another_authority_gets_no_call_and_the_executor_gives_up() {
    let transport = Transport::Tls(ClientCertificate::NotAsked);
    let options = Options { transport, recovery_timeout: Duration::from_secs(1), ..Options::default() };
    let agent = FakeAgent::start(options).await;
    let mut environment = agent.environment();
    let other = agent.other_authority().display().to_string();
    environment.insert("LIBPROCESS_SSL_CA_FILE".to_owned(), other);
    let mut executor = ExecutorChild::start_in(&agent, environment);
    executor.exit().await;
    let log = agent.log();
    assert!(log.calls.is_empty(), "{log}");
    assert!(!log.failed_handshakes.is_empty(), "{log}");
    assert!(executor.log().contains("agree on tls"), "{}", executor.log());
    executor.nothing_left().await;
}
