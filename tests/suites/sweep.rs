//! What a dead executor left is found by its record and removed: by the next executor of the state folder, or by hand.

use std::path::PathBuf;
use std::process::Command;

use kube_executor_tests::describe::built_executor;
use kube_executor_tests::fake_agent::Options;
use kube_executor_tests::pod::{Pod, Signal, Task, wait_until};
use mesos::common::TaskState;

use TaskState::Running;

/// The cgroups of this executor, in all hierarchies.
fn cgroups(base: &str) -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("list the hierarchies");
    let base = base.trim_start_matches('/');
    hierarchies.flatten().map(|one| one.path().join(base)).filter(|path| path.exists()).collect()
}

/// An executor with a task, killed: the task is gone with its pod, the cgroups are not.
async fn killed_executor() -> Pod {
    let mut pod = Pod::start().await;
    pod.launch(Task::shell("a", "setsid sleep 1000 & exec sleep 1000"));
    pod.wait("a", Running).await;
    pod.wait_processes("a", 2).await;
    pod.signal(Signal::KILL);
    pod.exited().await;
    pod
}

#[tokio::test]
async fn the_death_of_an_executor_ends_its_pod_and_a_sweep_removes_the_rest() {
    let pod = killed_executor().await;
    wait_until("the end of the pod's processes", || pod.processes_of("a").is_empty()).await;
    assert!(!cgroups(&pod.cgroup_base()).is_empty(), "nobody has removed the cgroups yet");
    let sweep = || {
        let program = built_executor().expect("a built executor");
        let output = Command::new(program).arg("--sweep").arg("--state").arg(pod.state_folder()).output();
        let output = output.expect("run the sweep");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(sweep().contains("dead executor executor-1"));
    assert_eq!(cgroups(&pod.cgroup_base()), Vec::<PathBuf>::new());
    assert_eq!(sweep(), "no dead executors\n");
    pod.left_nothing().await;
}

#[tokio::test]
async fn the_next_executor_of_the_state_folder_sweeps_at_its_start_and_leaves_living_ones_alone() {
    let dead = killed_executor().await;
    let mut living = Pod::in_state(dead.state().clone(), Options::default(), &[]).await;
    living.launch(Task::idle("b"));
    living.wait("b", Running).await;
    let mut next = Pod::in_state(dead.state().clone(), Options::default(), &[]).await;
    next.launch(Task::idle("c"));
    next.wait("c", Running).await;
    assert_eq!(cgroups(&dead.cgroup_base()), Vec::<PathBuf>::new());
    assert!(living.log().contains("swept what dead executors left"), "{}", living.log());
    assert_eq!(living.processes_of("b").len(), 1, "a living executor is left alone");
    // They share a state folder: nothing of it is to be cleared before both have ended.
    for pod in [&mut next, &mut living] {
        pod.agent.shutdown();
        assert!(pod.exited().await.success());
    }
    dead.left_nothing().await;
}
