use std::collections::BTreeSet;

use super::*;
use crate::cgroups;
use crate::describe::{Program, TaskInfoExt as _, duration, shell_task};
use crate::framework::{self, Acknowledging, Framework};
use crate::leftovers::Leftovers;
use crate::log::Log;
use mesos::common::{ExecutorInfo, TaskInfo, TaskState};

/// Whether this machine lets agents start containers in cgroups.
fn can_run() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: only root may start containers in cgroups");
    }
    root
}

async fn rig() -> Option<Rig> {
    if !can_run() {
        return None;
    }
    Some(Rig::start(Options::default()).await.unwrap())
}

/// Not an executor: whatever it does, the agent answers for its tasks.
fn impostor(text: &str) -> ExecutorInfo {
    Program::new(Path::new("/bin/sh")).argument("-c").argument(text).pod("pod-0")
}

fn some_task() -> TaskInfo {
    shell_task("task", "true")
}

/// Waits until an executor's command has written `word` to its stdout.
async fn until_printed(rig: &Rig, word: &str) {
    let until = Instant::now() + PATIENCE;
    let printed =
        |sandbox: PathBuf| fs::read_to_string(sandbox.join("stdout")).is_ok_and(|text| text.contains(word));
    while !rig.sandboxes().into_iter().any(printed) {
        assert!(Instant::now() < until, "no executor printed {word:?}; {}", rig.log());
        sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn an_executor_that_ends_fails_its_tasks_and_is_told_as_gone() {
    let Some(mut rig) = rig().await else { return };
    let left = Leftovers::before(rig.marks());
    let framework = Framework::subscribe(rig.master(), framework::Options::default()).await.unwrap();
    let (pod, task) = (impostor("exit 3"), some_task());
    framework.launch_group(&pod, vec![task.clone()]).await.unwrap();
    let end = framework.wait_for_end(&task.task_id).await.unwrap();
    assert_eq!(end.state.known(), Some(TaskState::Failed), "{}", framework.log());
    framework.wait_for_executor_end(&pod.executor_id).await.unwrap();
    framework.teardown().await.unwrap();
    rig.stop();
    left.assert_none_new().await;
}

#[tokio::test]
async fn a_framework_comes_back_to_a_master_that_was_killed() {
    let Some(mut rig) = rig().await else { return };
    let framework = Framework::subscribe(rig.master(), framework::Options::default()).await.unwrap();
    rig.restart().await.unwrap();
    framework.wait_for(|log| (log.subscriptions() == 2).then_some(()), "another subscription").await.unwrap();
    let task = some_task();
    framework.launch(&impostor("exit 3"), vec![task.clone()]).await.unwrap();
    framework.wait_for_end(&task.task_id).await.unwrap();
}

#[tokio::test]
async fn an_update_that_was_not_acknowledged_comes_again_after_a_restart() {
    let Some(mut rig) = rig().await else { return };
    let options =
        framework::Options { acknowledging: Acknowledging::ByHand, ..framework::Options::default() };
    let framework = Framework::subscribe(rig.master(), options).await.unwrap();
    let task = some_task();
    framework.launch_group(&impostor("exit 3"), vec![task.clone()]).await.unwrap();
    let first = framework.wait_for_end(&task.task_id).await.unwrap();
    rig.restart().await.unwrap();
    // The master may tell the state by itself, without a uuid, when the agent registers again.
    let again =
        |log: &Log| log.statuses(&task.task_id).filter(|status| status.uuid == first.uuid).nth(1).cloned();
    let second = framework.wait_for(again, "the same update").await.unwrap();
    framework.acknowledge(&second).await.unwrap();
}

#[tokio::test]
async fn shutting_an_executor_down_ends_all_of_its_container() {
    let Some(rig) = rig().await else { return };
    let left = Leftovers::before(rig.marks());
    let framework = Framework::subscribe(rig.master(), framework::Options::default()).await.unwrap();
    let mut pod = impostor("setsid sleep 1000 & echo ready; wait");
    pod.shutdown_grace_period = Some(duration(Duration::from_millis(100)));
    framework.launch_group(&pod, vec![some_task()]).await.unwrap();
    until_printed(&rig, "ready").await;
    framework.shutdown_executor(&pod.executor_id).await.unwrap();
    framework.wait_for_executor_end(&pod.executor_id).await.unwrap();
    rig.marks();
    left.assert_none_new().await;
}

/// A rig is dropped whose agent was killed and left a container.
async fn assert_dropping_ends_a_container(launcher: Launcher) {
    let mut rig = Rig::start(Options { launcher, ..Options::default() }).await.unwrap();
    let (folder, root) = (rig.folder().to_owned(), rig.cgroups_root.clone());
    let left = Leftovers::before(rig.marks());
    let framework = Framework::subscribe(rig.master(), framework::Options::default()).await.unwrap();
    framework
        .launch_group(&impostor("setsid sleep 1000 & echo ready; wait"), vec![some_task()])
        .await
        .unwrap();
    until_printed(&rig, "ready").await;
    rig.kill();
    let found = rig.marks().find();
    assert!(found.processes.values().any(|process| process.contains("sleep 1000")), "{found:?}");
    drop(rig);
    left.assert_none_new().await;
    assert!(!folder.exists());
    assert!(cgroups::named(|name| name == root).is_empty());
}

#[tokio::test]
async fn dropping_a_rig_ends_what_its_killed_agent_started() {
    if can_run() {
        assert_dropping_ends_a_container(Launcher::Linux).await;
    }
}

#[tokio::test]
async fn dropping_a_rig_ends_what_left_its_session_under_the_posix_launcher() {
    if can_run() {
        assert_dropping_ends_a_container(Launcher::Posix).await;
    }
}

#[tokio::test]
async fn three_agents_take_one_launch_each() {
    if !can_run() {
        return;
    }
    let resources = "cpus:1;mem:256;disk:1024".to_owned();
    let rig = Rig::start(Options { agents: 3, resources, ..Options::default() }).await.unwrap();
    let framework = Framework::subscribe(rig.master(), framework::Options::default()).await.unwrap();
    let mut agents = BTreeSet::new();
    for _ in 0..3 {
        let pod = impostor("sleep 1000");
        agents.insert(framework.launch_group(&pod, vec![some_task().cpus(0.8)]).await.unwrap());
    }
    assert_eq!(agents.len(), 3);
}

#[test]
fn free_ports_are_different_ones() {
    let ports = free_ports(20).unwrap();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
}
