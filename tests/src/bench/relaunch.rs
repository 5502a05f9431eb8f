//! A task that failed is launched again through a real Mesos, into the executor that still lives.

use mesos::common::{ExecutorInfo, TaskId, TaskState};
use tokio::time::{Instant, sleep};

use super::stand::IDLE;
use super::table::{Row, Samples};
use super::{Options, tell};
use crate::describe::{Program, argv_task, shell_task};
use crate::framework::{self, Framework, PATIENCE};
use crate::log::{Heard, Log};
use crate::rig::{self, Rig};

/// What is measured.
pub const NAME: &str = "TASK_FAILED -> relaunch -> TASK_RUNNING";

/// How often a new executor is started, beside.
const NEW_EXECUTORS: usize = 5;

/// Measures it.
///
/// # Errors
/// The rig is not built or did not start, or a task did not do what it should.
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    tell("relaunch through a real Mesos");
    let mut rig = Rig::start(rig::Options::default()).await?;
    let framework = Framework::subscribe(rig.master(), framework::Options::default()).await?;
    let program = Program::kube_executor(&options.executor, &rig.folder().join("state"));

    let executor = program.pod("bench");
    let resident = argv_task("resident", &["sleep", "100000"]);
    let resident_id = resident.task_id.clone();
    framework.launch_group(&executor, vec![resident]).await?;
    framework.wait_for_state(&resident_id, TaskState::Running).await?;

    let relaunched = relaunched(&framework, &executor, options.rounds).await?;
    let started = with_new_executors(&framework, &program).await?;

    framework.shutdown_executor(&executor.executor_id).await?;
    framework.wait_for_executor_end(&executor.executor_id).await?;
    framework.teardown().await?;
    rig.stop();
    Ok(vec![Row {
        measure: NAME,
        target: "< 30 ms",
        measured: relaunched.to_string(),
        beside: format!("{started} into a new executor"),
        how: format!(
            "{} rounds through a Mesos 1.11 master and agent, from status to status at the framework, an offer in hand",
            relaunched.count()
        ),
    }])
}

async fn relaunched(
    framework: &Framework,
    executor: &ExecutorInfo,
    rounds: usize,
) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    let mut task = failing();
    let mut id = task.task_id.clone();
    framework.launch_group(executor, vec![task]).await?;
    for _ in 0..rounds {
        let failed = at(framework, &id, TaskState::Failed).await?;
        task = failing();
        id = task.task_id.clone();
        framework.launch_group(executor, vec![task]).await?;
        samples.push(at(framework, &id, TaskState::Running).await?.duration_since(failed));
    }
    at(framework, &id, TaskState::Failed).await?;
    Ok(samples)
}

async fn with_new_executors(framework: &Framework, program: &Program) -> anyhow::Result<Samples> {
    let mut samples = Samples::default();
    for _ in 0..NEW_EXECUTORS {
        sleep(IDLE).await;
        let executor = program.pod("bench-new");
        let task = argv_task("new", &["sleep", "100000"]);
        let id = task.task_id.clone();
        let asked = Instant::now();
        framework.launch_group(&executor, vec![task]).await?;
        samples.push(at(framework, &id, TaskState::Running).await?.duration_since(asked));
        framework.shutdown_executor(&executor.executor_id).await?;
        framework.wait_for_executor_end(&executor.executor_id).await?;
    }
    Ok(samples)
}

/// A task that runs long enough for everything to be idle, and for an offer of the rest to come, and then fails.
fn failing() -> mesos::common::TaskInfo {
    shell_task("failing", &format!("sleep {}; exit 1", (2 * IDLE).as_secs_f64()))
}

/// When the framework heard of this state, waited for.
async fn at(framework: &Framework, task: &TaskId, state: TaskState) -> anyhow::Result<Instant> {
    let find = |log: &Log| {
        log.entries().iter().find_map(|entry| match &entry.heard {
            Heard::Status(status) if status.task_id == *task && status.state.known() == Some(state) => {
                Some(entry.at)
            }
            _ => None,
        })
    };
    let what = format!("{state} of {task}");
    framework.wait_for_within(PATIENCE, find, &what).await
}
