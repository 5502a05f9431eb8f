//! The cgroup of a task: its limits, who is in it, what happens at its limits, and its end. What only cgroup v2 can do is
//! skipped aloud on a host whose controllers are those of v1, and the other way round.

use std::path::PathBuf;
use std::time::Duration;

use kube_executor::cgroup::mounts::{self, Controller};
use kube_executor_tests::cgroups;
use kube_executor_tests::pod::{Pod, Task, label, message, read, reason, state, touch, wait_until};
use mesos::common::{TaskState, TaskStatus};
use serde_json::json;

use TaskState::{Failed, Finished, Killed, Running, Starting};

const MIB: u64 = 1 << 20;
/// What v1 says where there is no limit: the most pages, in bytes.
const UNLIMITED_V1: &str = "9223372036854771712";

/// Where a process is in the hierarchy of a controller; `None` on a host without it.
fn folder(process: i32, controller: Controller) -> Option<PathBuf> {
    let own = mounts::own_cgroups(&read(format!("/proc/{process}/cgroup").as_ref()));
    let mountinfo = read("/proc/self/mountinfo".as_ref());
    let mount =
        mounts::mounts(&mountinfo).into_iter().find(|mount| mount.controllers.contains(&controller))?;
    Some(mount.point.join(own.of(&controller)?.strip_prefix(&mount.root).ok()?))
}

/// Whether the controllers are those of v1; otherwise those of v2 are looked at.
fn is_v1() -> bool {
    folder(std::process::id().cast_signed(), Controller::Cpu).is_some()
}

/// A file of a task's cgroup, with the v1 controller and name or the v2 name.
fn value(process: i32, controller: Controller, v1: &str, v2: &str) -> String {
    let (controller, file) = if is_v1() { (controller, v1) } else { (Controller::Unified, v2) };
    let folder =
        folder(process, controller).unwrap_or_else(|| panic!("a cgroup of process {process} with {file}"));
    let path = folder.join(file);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
        .trim()
        .to_owned()
}

async fn main_process(pod: &Pod, id: &str) -> i32 {
    pod.wait(id, Running).await;
    pod.wait_processes(id, 1).await[0]
}

#[tokio::test]
async fn limits_follow_mesos_s_formulas() {
    let pod = Pod::start().await;
    let of = |cpus: f64, mem: f64| Task::idle("x").resources(cpus, mem);
    // Resources and limits; then shares, quota, soft and hard limit of memory.
    let hard = |bytes: u64| Some(bytes);
    let cases = [
        ("plain", of(0.5, 100.0), 512, None, 100 * MIB, hard(100 * MIB)),
        ("least", of(0.001, 1.0), 2, None, 32 * MIB, hard(32 * MIB)),
        (
            "limited",
            of(2.0, 64.0).with("limits", json!({"cpus": {"value": 2.5}, "mem": {"value": 128}})),
            2048,
            Some(250_000),
            64 * MIB,
            hard(128 * MIB),
        ),
        (
            "unlimited",
            of(1.0, 64.0)
                .with("limits", json!({"cpus": {"value": "Infinity"}, "mem": {"value": "Infinity"}})),
            1024,
            None,
            64 * MIB,
            None,
        ),
        (
            "tiny",
            of(0.001, 64.0).with("limits", json!({"cpus": {"value": 0.005}})),
            2,
            Some(1000),
            64 * MIB,
            hard(64 * MIB),
        ),
    ];
    for (id, task, shares, quota, soft, hard) in cases {
        pod.launch(task.with("task_id", json!({"value": id})).with("name", json!(id)));
        let process = main_process(&pod, id).await;
        let cpu = |v1, v2| value(process, Controller::Cpu, v1, v2);
        let memory = |v1, v2| value(process, Controller::Memory, v1, v2);
        let (limit, low) = (
            memory("memory.limit_in_bytes", "memory.max"),
            memory("memory.soft_limit_in_bytes", "memory.low"),
        );
        assert_eq!(low, soft.to_string(), "{id}");
        if is_v1() {
            assert_eq!(cpu("cpu.shares", ""), shares.to_string(), "{id}");
            assert_eq!(
                cpu("cpu.cfs_quota_us", ""),
                quota.map_or("-1".to_owned(), |quota: i64| quota.to_string()),
                "{id}"
            );
            assert_eq!(cpu("cpu.cfs_period_us", ""), "100000");
            assert_eq!(limit, hard.map_or(UNLIMITED_V1.to_owned(), |bytes: u64| bytes.to_string()), "{id}");
        } else {
            assert_eq!(cpu("", "cpu.weight"), (shares * 100 / 1024).max(1).to_string(), "{id}");
            assert_eq!(
                cpu("", "cpu.max"),
                quota.map_or("max 100000".to_owned(), |quota| format!("{quota} 100000")),
                "{id}"
            );
            assert_eq!(limit, hard.map_or("max".to_owned(), |bytes| bytes.to_string()), "{id}");
        }
    }
    pod.end().await;
}

#[tokio::test]
async fn a_command_is_in_its_task_s_cgroups_from_its_first_instruction() {
    let pod = Pod::start().await;
    pod.launch(Task::argv("a", &["cat", "/proc/self/cgroup"]));
    pod.wait("a", Finished).await;
    let output = pod.stdout("a");
    let own = mounts::own_cgroups(&output);
    let wanted = format!("{}/a", pod.cgroup_base());
    let controllers =
        [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids, Controller::Unified];
    let paths: Vec<_> = controllers.iter().filter_map(|controller| own.of(controller)).collect();
    assert!(!paths.is_empty());
    assert!(paths.iter().all(|path| path.ends_with(&wanted)), "{output}");
    pod.end().await;
}

#[tokio::test]
async fn a_check_command_is_in_a_cgroup_of_its_own_below_its_task_s() {
    let pod = Pod::start().await;
    let check = json!({"role": "readiness", "command": {"value": "cat /proc/self/cgroup > seen"}, "interval_seconds": 1000});
    pod.launch(Task::idle("a").settings(&json!({"checks": [check]})));
    pod.wait_ready("a", true).await;
    let seen = read(&pod.sandbox("a").join("seen"));
    assert!(seen.contains(&format!("{}/a/check-0", pod.cgroup_base())), "{seen}");
    let process = pod.wait_processes("a", 1).await[0];
    let task = folder(process, Controller::Unified).or(folder(process, Controller::Cpu)).expect("a cgroup");
    wait_until("the check's cgroup to be gone", || cgroups::children(&task).is_empty()).await;
    pod.end().await;
}

#[tokio::test]
async fn a_task_out_of_memory_fails_with_the_limit_in_its_message() {
    let pod = Pod::start().await;
    pod.launch(Task::argv("a", &["tail", "/dev/zero"]).resources(0.1, 40.0));
    let status = pod.wait("a", Failed).await;
    assert_eq!(reason(&status), "REASON_CONTAINER_LIMITATION_MEMORY");
    let text =
        format!("Command terminated with signal Killed: out of memory: its limit is {} bytes", 40 * MIB);
    assert_eq!(message(&status), text);
    assert_eq!(pod.states("a"), [Starting, Running, Failed]);
    pod.end().await;
}

#[tokio::test]
async fn a_child_out_of_memory_ends_its_task_and_no_other() {
    let pod = Pod::start().await;
    pod.group([Task::idle("other").resources(0.1, 32.0)]);
    pod.wait("other", Running).await;
    let text = "trap '' TERM; tail /dev/zero & sleep 1000";
    pod.group([Task::shell("a", text).resources(0.1, 32.0).grace(Duration::from_secs(60))]);
    let status = pod.wait("a", Failed).await;
    assert_eq!(reason(&status), "REASON_CONTAINER_LIMITATION_MEMORY");
    assert!(message(&status).ends_with(&format!("its limit is {} bytes", 32 * MIB)), "{}", message(&status));
    pod.wait_processes("a", 0).await;
    assert_eq!(pod.states("other"), [Starting, Running]);
    pod.end().await;
}

#[tokio::test]
async fn a_task_that_is_killed_by_force_with_a_memory_limit_is_not_out_of_memory() {
    let pod = Pod::start().await;
    pod.launch(Task::shell("a", "kill -KILL $$"));
    let status = pod.wait("a", Failed).await;
    assert_eq!((message(&status), reason(&status)), ("Command terminated with signal Killed", ""));
    pod.end().await;
}

#[tokio::test]
async fn out_of_memory_restarts_what_asks_for_that_and_is_told_each_time_anew() {
    let pod = Pod::start().await;
    let restart = json!({"restart": {"policy": "on-failure", "delay_seconds": 0, "limit": 1}});
    pod.launch(Task::argv("a", &["tail", "/dev/zero"]).resources(0.1, 32.0).settings(&restart));
    let status = pod.wait("a", Failed).await;
    assert_eq!(reason(&status), "REASON_CONTAINER_LIMITATION_MEMORY");
    let between =
        pod.agent.statuses("a").into_iter().find(|one| state(one) == Running && !message(one).is_empty());
    let between = between.expect("a restart");
    assert_eq!(reason(&between), "REASON_CONTAINER_LIMITATION_MEMORY");
    // The next process's end has its own cause.
    let text = "[ -e been ] && kill -KILL $$; touch been; tail /dev/zero & wait $!; exit 1";
    pod.launch(Task::shell("b", text).resources(0.1, 32.0).settings(&restart));
    let status = pod.wait("b", Failed).await;
    assert!(
        message(&status).starts_with("Command terminated with signal Killed: it was restarted"),
        "{}",
        message(&status)
    );
    assert_eq!(reason(&status), "");
    pod.end().await;
}

#[tokio::test]
async fn the_limit_of_processes_holds_a_fork_bomb_and_a_kill_ends_it() {
    const MOST: u64 = 40;
    let pod = Pod::start().await;
    // It goes off only when the limit has been seen in force.
    let text = "until [ -e go ]; do sleep 0.01; done; exec perl -e '$SIG{TERM} = \"IGNORE\"; fork while 1'";
    let task = Task::shell("bomb", text).settings(&json!({"pids": MOST}));
    pod.launch(task.grace(Duration::from_millis(300)));
    pod.wait("bomb", Running).await;
    let process = pod.processes_of("bomb")[0];
    assert_eq!(value(process, Controller::Pids, "pids.max", "pids.max"), MOST.to_string());
    touch(&pod.sandbox("bomb").join("go"));
    let current = || value(process, Controller::Pids, "pids.current", "pids.current").parse::<u64>().unwrap();
    wait_until("the bomb to reach its limit", || current() == MOST).await;
    // Others go on.
    pod.launch(Task::shell("other", "true"));
    pod.wait("other", Finished).await;
    assert!(current() <= MOST);
    pod.agent.kill("bomb", None);
    let status = pod.wait("bomb", Killed).await;
    assert_eq!(message(&status), "Command terminated with signal Killed");
    pod.wait_processes("bomb", 0).await;
    pod.end().await;
}

#[tokio::test]
async fn a_task_s_cgroups_are_gone_after_its_end_and_the_executor_s_after_its() {
    let pod = Pod::start().await;
    pod.launch(Task::idle("a"));
    pod.wait("a", Running).await;
    let bases = || cgroups::named(|name| name == pod.cgroup_base());
    let count = bases().len();
    assert!(count > 0);
    assert!(bases().iter().all(|base| base.join("a").is_dir()));
    pod.agent.kill("a", None);
    pod.wait("a", Killed).await;
    wait_until("the cgroups of a to be gone", || bases().iter().all(|base| !base.join("a").exists())).await;
    assert_eq!(bases().len(), count);
    pod.end().await;
}

#[tokio::test]
async fn an_id_with_odd_characters_has_a_cgroup_and_a_sandbox_all_the_same() {
    let pod = Pod::start().await;
    for id in ["tasks", "memory.stat", "a b%c:d", "cgroup.procs", "mesos"] {
        pod.launch(Task::shell(id, "pwd; grep -c kube-executor- /proc/self/cgroup"));
        let status =
            pod.wait_status(id, &format!("the end of {id}"), |status| state(status).is_terminal()).await;
        assert_eq!(state(&status), Finished, "{status:?}");
    }
    pod.end().await;
}

#[tokio::test]
async fn without_a_limit_of_processes_there_is_none() {
    let pod = Pod::start().await;
    pod.launch(Task::idle("a"));
    let process = main_process(&pod, "a").await;
    assert_eq!(value(process, Controller::Pids, "pids.max", "pids.max"), "max");
    pod.end().await;
}

#[tokio::test]
async fn on_v2_a_task_out_of_memory_ends_whole() {
    if is_v1() {
        eprintln!("skipped: memory.oom.group is of cgroup v2, and this host's controllers are those of v1");
        return;
    }
    let pod = Pod::start().await;
    pod.launch(Task::idle("a"));
    let process = main_process(&pod, "a").await;
    assert_eq!(value(process, Controller::Memory, "", "memory.oom.group"), "1");
    pod.end().await;
}

#[tokio::test]
async fn a_restart_lives_in_a_cgroup_that_was_killed_by_force() {
    let pod = Pod::start().await;
    let back = |status: &TaskStatus| {
        label(status, "restarts") == Some("1") && label(status, "ready") == Some("true")
    };
    let restart = json!({"policy": "always", "delay_seconds": 0});
    // One leaves a process behind, which is killed; the other has to be killed itself.
    let left = "setsid sleep 1000 & [ -e been ] && exec sleep 1000; touch been; exit 1";
    pod.launch(Task::shell("left", left).settings(&json!({"restart": restart})));
    let check = json!({"role": "liveness", "command": {"value": "test -e back"}, "interval_seconds": 0.02, "failures": 2});
    let stubborn = "trap '' TERM; [ -e been ] && touch back; touch been; sleep 1000";
    let settings = json!({"restart": restart, "checks": [check]});
    pod.launch(Task::shell("stubborn", stubborn).settings(&settings).grace(Duration::from_millis(50)));
    for id in ["left", "stubborn"] {
        pod.wait_status(id, &format!("{id} back"), back).await;
    }
    pod.wait_status("stubborn", "health", |status| status.healthy == Some(true)).await;
    pod.launch(Task::shell("later", "true"));
    pod.wait("later", Finished).await;
    for id in ["left", "stubborn"] {
        let last = pod.agent.statuses(id).pop().unwrap();
        assert!(back(&last), "{last:?}");
    }
    pod.end().await;
}
