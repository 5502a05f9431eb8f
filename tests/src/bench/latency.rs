//! How long one task takes to be launched, killed, reported and restarted, in a pod that lives.

use std::time::Duration;

use anyhow::Context as _;
use mesos::common::TaskState;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use task::settings::{Restart, TaskSettings};
use tokio::time::sleep;

use super::beacon::What;
use super::floor::{self, Floor};
use super::stand::{IDLE, Stand};
use super::table::{Row, Samples, time};
use super::{Measure, Options, clock, or_failed, tell};

/// Measures what is wanted of the four.
pub async fn measure(options: &Options) -> Vec<Row> {
    if !options.wants(&[Measure::Launch, Measure::Kill, Measure::Exit, Measure::Restart]) {
        return Vec::new();
    }
    tell("a bare parent");
    let floor = match floor::measure(options.rounds).await {
        Ok(floor) => floor,
        Err(error) => return vec![Row::failed("a bare parent", &error)],
    };
    let mut rows = Vec::new();
    if options.wants(&[Measure::Launch, Measure::Kill]) {
        tell("launch and kill");
        rows.extend(or_failed("launch and kill", launch_and_kill(options, &floor).await));
    }
    if options.wants(&[Measure::Exit]) {
        tell("exit");
        rows.extend(or_failed("process exit -> UPDATE", exit(options, &floor).await));
    }
    if options.wants(&[Measure::Restart]) {
        tell("restart");
        rows.extend(or_failed("in-place restart", restart(options, &floor).await));
    }
    rows
}

async fn launch_and_kill(options: &Options, floor: &Floor) -> anyhow::Result<Vec<Row>> {
    let mut stand = Stand::with_living_pod(&options.executor).await?;
    let (mut started, mut running, mut signalled) = <(Samples, Samples, Samples)>::default();
    for _ in 0..options.rounds {
        sleep(IDLE).await;
        let (said, asked) = stand.launch_beacon(&TaskSettings::default()).await?;
        started.push(said.at.saturating_sub(asked));
        sleep(IDLE).await;
        running.push(stand.arrival(&said.name, TaskState::Running).await?.saturating_sub(asked));
        sleep(IDLE).await;
        let asked = clock::now();
        stand.agent.kill(&said.name, None);
        let ended = stand.beacons.wait(&said.name, What::Terminated).await?;
        signalled.push(ended.at.saturating_sub(asked));
        sleep(IDLE).await;
        stand.arrival(&said.name, TaskState::Killed).await?;
    }
    stand.shut_down().await?;
    let own = floor.started.median().saturating_sub(floor.spawned.median());
    let launch = Row {
        measure: "LAUNCH_GROUP -> the task runs",
        target: "< 3 ms to execve done",
        measured: started.to_string(),
        beside: format!(
            "{} by fork and exec; execve done at {}",
            floor.started,
            time(floor.spawned.median())
        ),
        how: format!(
            "{} rounds: record handed to the socket -> the task's first act, {} behind its execve",
            started.count(),
            time(own)
        ),
    };
    let execve = Row {
        measure: "LAUNCH_GROUP -> execve done",
        target: "< 3 ms median",
        measured: format!("{} median", time(started.median().saturating_sub(own))),
        beside: format!("{} by fork and exec", floor.spawned),
        how: "the line above without the time from execve to the first act, taken from the bare parent"
            .to_owned(),
    };
    let reported = Row {
        measure: "LAUNCH_GROUP -> TASK_RUNNING",
        target: "",
        measured: running.to_string(),
        beside: String::new(),
        how: "record handed to the socket -> all bytes of the UPDATE read by the agent".to_owned(),
    };
    let kill = Row {
        measure: "KILL -> SIGTERM",
        target: "< 1 ms",
        measured: signalled.to_string(),
        beside: format!("{} by kill(2)", floor.signalled),
        how: "record handed to the socket -> sigwait returns in the task".to_owned(),
    };
    let wanted = |measure, rows| {
        if options.wants(&[measure]) { rows } else { Vec::new() }
    };
    let mut rows = wanted(Measure::Launch, vec![launch, execve, reported]);
    rows.extend(wanted(Measure::Kill, vec![kill]));
    Ok(rows)
}

async fn exit(options: &Options, floor: &Floor) -> anyhow::Result<Vec<Row>> {
    let mut stand = Stand::with_living_pod(&options.executor).await?;
    let mut reported = Samples::default();
    for _ in 0..options.rounds {
        sleep(IDLE).await;
        let (said, _) = stand.launch_beacon(&TaskSettings::default()).await?;
        sleep(IDLE).await;
        let killed = kill(said.process)?;
        sleep(IDLE).await;
        reported.push(stand.arrival(&said.name, TaskState::Failed).await?.saturating_sub(killed));
    }
    stand.shut_down().await?;
    Ok(vec![Row {
        measure: "process exit -> UPDATE",
        target: "< 1 ms median",
        measured: reported.to_string(),
        beside: format!("{} until a pidfd is readable", floor.ended),
        how: "before SIGKILL to the task -> all bytes of TASK_FAILED read by the agent".to_owned(),
    }])
}

async fn restart(options: &Options, floor: &Floor) -> anyhow::Result<Vec<Row>> {
    let mut stand = Stand::with_living_pod(&options.executor).await?;
    let policy = Restart {
        policy: Some("always".to_owned()),
        delay_seconds: Some(0.0),
        max_delay_seconds: Some(0.0),
        ..Restart::default()
    };
    let settings = TaskSettings { restart: Some(policy), ..TaskSettings::default() };
    let (mut said, _) = stand.launch_beacon(&settings).await?;
    let mut restarted = Samples::default();
    for _ in 0..options.rounds {
        sleep(IDLE).await;
        let killed = kill(said.process)?;
        said = stand.beacons.wait(&said.name, What::Started).await?;
        restarted.push(said.at.saturating_sub(killed));
    }
    stand.shut_down().await?;
    Ok(vec![Row {
        measure: "in-place restart",
        target: "< 5 ms",
        measured: restarted.to_string(),
        beside: format!("{} by a bare parent", floor.restarted),
        how: "before SIGKILL to the task -> the next process's first act; policy always, no delay".to_owned(),
    }])
}

/// Kills a task's process by its id here; returns when.
fn kill(process: i32) -> anyhow::Result<Duration> {
    let pid = Pid::from_raw(process).context("a process id")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("open process {process}"))?;
    let now = clock::now();
    pidfd_send_signal(pidfd, Signal::KILL).with_context(|| format!("kill process {process}"))?;
    Ok(now)
}
