//! A thousand tasks in one group, and what executor and init take of memory.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use mesos::common::TaskState;
use mesos::executor::CallType;
use task::settings::TaskSettings;
use tokio::time::{Instant, sleep};

use super::stand::{IDLE, Stand};
use super::table::{Row, Samples, megabytes, time};
use super::{Options, clock, raise_open_files, tell};
use crate::fake_agent::Log;

/// How many tasks a group has.
const TASKS: usize = 1000;
/// How often it is launched, each time into a new executor.
const ROUNDS: usize = 3;
/// A task takes about so many descriptors of the executor.
const DESCRIPTORS: u64 = 8;
/// Between two looks, each of which costs the agent some milliseconds.
const LOOK: Duration = Duration::from_millis(250);
/// How long a group may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures a thousand tasks.
///
/// # Errors
/// An executor did not start, or the tasks did not get to run or to end.
pub async fn measure(options: &Options) -> anyhow::Result<Vec<Row>> {
    tell("1,000 tasks in one group");
    let limit = raise_open_files()?;
    let (mut running, mut killed, mut gone) = <(Samples, Samples, Samples)>::default();
    let (mut memory, mut left) = (Memory::default(), 0);
    for _ in 0..ROUNDS {
        let mut stand = Stand::start(&options.executor).await?;
        sleep(IDLE).await;
        let tasks: Vec<_> = (0..TASKS).map(|_| stand.sleeper(&TaskSettings::default()).1).collect();
        let asked = clock::now();
        stand.agent.launch_group(&tasks);
        running.push(last(&mut stand, TaskState::Running).await?.saturating_sub(asked));
        sleep(Duration::from_secs(1)).await;
        memory = Memory::of(stand.executor())?.max(memory);
        let asked = clock::now();
        let ended = stand.shut_down().await?;
        killed.push(last_of(&stand.agent.log(), TaskState::Killed).1.saturating_sub(asked));
        let began = Instant::now();
        while stand.cgroups() > 0 && began.elapsed() < Duration::from_secs(10) {
            sleep(IDLE).await;
        }
        left += stand.cgroups();
        gone.push(ended + if left > 0 { began.elapsed() } else { Duration::ZERO });
    }
    let enough = if limit < TASKS as u64 * DESCRIPTORS { ", which limits" } else { "" };
    let rows = vec![
        Row {
            measure: "1,000 tasks in one group: all running",
            target: "< 3 s",
            measured: running.to_string(),
            beside: String::new(),
            how: format!(
                "{ROUNDS} rounds: record -> bytes of the last TASK_RUNNING; no pod before; {limit} open files allowed{enough}"
            ),
        },
        Row {
            measure: "1,000 tasks in one group: all ended",
            target: "",
            measured: killed.to_string(),
            beside: format!("{} until the executor has ended", time(gone.median())),
            how: format!("SHUTDOWN -> bytes of the last TASK_KILLED; cgroups left behind: {left}"),
        },
        Row {
            measure: "executor's RSS, 1,000 tasks",
            target: "< 25 MB",
            measured: megabytes(memory.resident),
            beside: format!("proportional {}", megabytes(memory.proportional)),
            how: "VmRSS and Pss a second after the last TASK_RUNNING, the highest of the rounds".to_owned(),
        },
    ];
    Ok(rows)
}

/// Measures executor and init with one task.
///
/// # Errors
/// The executor did not start, or the task did not get to run.
pub async fn memory_of_one(options: &Options) -> anyhow::Result<Vec<Row>> {
    tell("memory");
    let mut stand = Stand::start(&options.executor).await?;
    let (said, _) = stand.launch_beacon(&TaskSettings::default()).await?;
    stand.arrival(&said.name, TaskState::Running).await?;
    sleep(Duration::from_secs(1)).await;
    let executor = Memory::of(stand.executor())?;
    let init = Memory::of(parent(said.process)?)?;
    stand.shut_down().await?;
    Ok(vec![
        Row {
            measure: "executor's RSS, 1 task",
            target: "< 6 MB",
            measured: megabytes(executor.resident),
            beside: format!(
                "proportional {}, private {}",
                megabytes(executor.proportional),
                megabytes(executor.private)
            ),
            how: "VmRSS, Pss and Private_* a second after TASK_RUNNING".to_owned(),
        },
        Row {
            measure: "init's private memory",
            target: "< 1 MB",
            measured: megabytes(init.private),
            beside: format!(
                "resident {}, proportional {}",
                megabytes(init.resident),
                megabytes(init.proportional)
            ),
            how: "Private_Clean + Private_Dirty of the task's parent".to_owned(),
        },
    ])
}

/// The process that is a process's parent, by its id here.
///
/// # Errors
/// There is no such process.
pub fn parent(process: i32) -> anyhow::Result<i32> {
    let number = number(&format!("/proc/{process}/status"), "PPid:")?;
    Ok(i32::try_from(number)?)
}

/// Waits until the agent has heard of so many tasks in this state; returns when the last one's update came.
async fn last(stand: &mut Stand, state: TaskState) -> anyhow::Result<Duration> {
    let end = Instant::now() + PATIENCE;
    loop {
        sleep(LOOK).await;
        let (count, at) = last_of(&stand.agent.log(), state);
        if count >= TASKS {
            return Ok(at);
        }
        anyhow::ensure!(Instant::now() < end, "after {PATIENCE:?}, {state} of {count} tasks only");
    }
}

/// How many tasks had this state, and when the last update of it came.
fn last_of(log: &Log, state: TaskState) -> (usize, Duration) {
    let mut tasks = BTreeSet::new();
    let mut at = Duration::ZERO;
    for received in log.calls_of(CallType::Update) {
        if let Some(status) = received.update().filter(|status| status.state.known() == Some(state))
            && tasks.insert(&status.task_id)
        {
            at = clock::of(received.at);
        }
    }
    (tasks.len(), at)
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    /// VmRSS.
    pub resident: u64,
    /// Pss.
    pub proportional: u64,
    /// Private_Clean and Private_Dirty.
    pub private: u64,
}

impl Memory {
    /// Of the process with this id.
    ///
    /// # Errors
    /// There is none, or it may not be looked at.
    pub fn of(process: i32) -> anyhow::Result<Self> {
        let rollup = format!("/proc/{process}/smaps_rollup");
        Ok(Self {
            resident: number(&format!("/proc/{process}/status"), "VmRSS:")?,
            proportional: number(&rollup, "Pss:")?,
            private: number(&rollup, "Private_Clean:")? + number(&rollup, "Private_Dirty:")?,
        })
    }
}

/// The number behind a name in a file of `/proc`.
fn number(file: &str, name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("read {file}"))?;
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let word = found.and_then(|rest| rest.split_whitespace().next());
    word.with_context(|| format!("find {name} in {file}"))?
        .parse()
        .with_context(|| format!("read {name} in {file}"))
}
