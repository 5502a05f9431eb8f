//! The transition table of a task: every state with every event, what becomes of it and what is done.
//!
//! Each row names what follows for each state, in the order of [`STATES`]: the state after, then the effects. A pair that
//! does nothing is written as `=`.

use std::num::NonZeroU32;
use std::time::Duration;

use mesos::common::{TaskId, TaskState};

use super::kill::{Begin, KillCause, Killing, Stage};
use super::task::{Group, State, Task};
use super::{Effect, Exit, ExitStatus, Instance, Moment, ProcessEvent};
use crate::cgroup::Limits;
use crate::health::{Observed, Report, Verdict};
use crate::spec::exec::ExecRights;
use crate::spec::{
    Address, Backoff, CheckRole, CheckSpec, Command, Essential, Identity, KillMode, LogLimits, Probe,
    RestartPolicy, TaskName, TaskSpec,
};

/// A task that asks for nothing special.
pub(crate) fn a_task(id: &str, name: &str) -> TaskSpec {
    TaskSpec {
        id: TaskId::new(id),
        name: TaskName(name.to_owned()),
        command: Command::shell("true"),
        environment: Vec::new(),
        role: None,
        identity: Identity::default(),
        rlimits: Vec::new(),
        umask: 0o022,
        oom_score_adj: None,
        limits: Limits::default(),
        terminal: None,
        log: LogLimits { bytes: 1 << 20, files: NonZeroU32::MIN },
        fetches: Vec::new(),
        checks: Vec::new(),
        grace_period: Duration::from_secs(3),
        kill_mode: KillMode::Cgroup,
        max_completion: None,
        restart: RestartPolicy::Never,
        depends_on: Vec::new(),
        depends_on_timeout: Duration::from_secs(300),
        essential: Essential::Yes,
        exec: ExecRights::default(),
        resources: Vec::new(),
    }
}

/// A check of this role.
pub(crate) fn a_check(role: CheckRole) -> CheckSpec {
    CheckSpec {
        role,
        probe: Probe::Tcp(Address { ip: [127, 0, 0, 1].into(), port: 1 }),
        delay: Duration::ZERO,
        interval: Duration::from_secs(1),
        timeout: None,
        grace: Duration::ZERO,
        failures: NonZeroU32::MIN,
        successes: NonZeroU32::MIN,
    }
}

const STATES: [&str; 9] =
    ["Pending", "Starting", "Running", "Backoff", "Waiting", "CalledOff", "Asked", "Forced", "Ended"];

/// A moment long after everything the states below were made with.
const LATER: Moment = Moment(Duration::from_secs(100));

/// A task with one liveness check, restarted when it fails, brought into a state by the events that lead there.
fn in_state(state: &str) -> Task {
    let mut spec = a_task("task", "task");
    spec.checks = vec![a_check(CheckRole::Liveness)];
    let (delay, stable) = (Duration::from_secs(60), Duration::from_secs(600));
    spec.restart = RestartPolicy::OnFailure(Backoff { delay, max_delay: delay, stable, limit: None });
    let sink = &mut Vec::new();
    let now = Moment::default();
    let mut task = Task::new(spec, Group(1), 0, sink);
    let kill = |task: &mut Task, grace: u64, begin: Begin, sink: &mut Vec<Effect>| {
        task.kill(KillCause::Requested, Duration::from_secs(grace), begin, now, sink);
    };
    if state == "Pending" {
        return task;
    }
    task.start(now, sink);
    match state {
        "Starting" => return task,
        "CalledOff" => {
            kill(&mut task, 3, Begin::Now, sink);
            return task;
        }
        _ => task.process(Instance(1), ProcessEvent::Started, now, sink),
    }
    match state {
        "Backoff" => task.process(Instance(1), exited(1), now, sink),
        "Waiting" => kill(&mut task, 3, Begin::AfterDependents, sink),
        "Asked" => kill(&mut task, 300, Begin::Now, sink),
        "Forced" => kill(&mut task, 0, Begin::Now, sink),
        "Ended" => task.process(Instance(1), exited(0), now, sink),
        _ => {}
    }
    task
}

fn exited(code: i32) -> ProcessEvent {
    ProcessEvent::Exited(Exit { status: ExitStatus::Code(code), out_of_memory: None })
}

type Input = (&'static str, fn(&mut Task, &mut Vec<Effect>));

fn process(task: &mut Task, event: ProcessEvent, effects: &mut Vec<Effect>) {
    task.process(Instance(1), event, LATER, effects);
}

fn kill(task: &mut Task, cause: KillCause, grace: u64, begin: Begin, effects: &mut Vec<Effect>) {
    task.kill(cause, Duration::from_secs(grace), begin, LATER, effects);
}

const INPUTS: [Input; 17] = [
    ("Started", |task, effects| process(task, ProcessEvent::Started, effects)),
    ("StartFailed", |task, effects| process(task, ProcessEvent::StartFailed("x".to_owned()), effects)),
    ("Exited 0", |task, effects| process(task, exited(0), effects)),
    ("Exited 1", |task, effects| process(task, exited(1), effects)),
    ("Exited, out of memory", |task, effects| {
        let exit = Exit { status: ExitStatus::Signal { number: 9, core: false }, out_of_memory: Some(1) };
        process(task, ProcessEvent::Exited(exit), effects);
    }),
    ("Exited with the pod", |task, effects| {
        process(
            task,
            ProcessEvent::Exited(Exit { status: ExitStatus::PodEnded, out_of_memory: None }),
            effects,
        );
    }),
    ("Exited, an earlier one", |task, effects| task.process(Instance(0), exited(0), LATER, effects)),
    ("OutOfMemory", |task, effects| process(task, ProcessEvent::OutOfMemory { limit: 1 }, effects)),
    ("check passes", |task, effects| process(task, checked(Verdict::Pass), effects)),
    ("check fails", |task, effects| {
        process(task, checked(Verdict::Fail { message: "x".to_owned() }), effects)
    }),
    ("check is fatal", |task, effects| {
        process(task, checked(Verdict::Fatal { message: "x".to_owned(), failures: 3 }), effects);
    }),
    ("value observed", |task, effects| {
        process(task, checked(Verdict::Observed(Observed::ExitCode(1))), effects)
    }),
    ("kill", |task, effects| kill(task, KillCause::Requested, 3, Begin::Now, effects)),
    ("kill without grace", |task, effects| kill(task, KillCause::Requested, 0, Begin::Now, effects)),
    ("shutdown", |task, effects| kill(task, KillCause::Shutdown, 3, Begin::AfterDependents, effects)),
    ("dependents have ended", |task, effects| task.release_kill(Duration::from_secs(1), LATER, effects)),
    ("time passes", |task, effects| task.tick(Moment(Duration::from_secs(1000)), effects)),
];

fn checked(verdict: Verdict) -> ProcessEvent {
    ProcessEvent::Checked(Report { check: 0, verdict })
}

#[rustfmt::skip]
const TABLE: [(&str, [&str; 9]); 17] = [
    (
        "Started",
        [
            "=", // Pending
            "Running, checks on, RUNNING", // Starting
            "=", // Running
            "=", // Backoff
            "=", // Waiting
            "Asked, SIGTERM", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "StartFailed",
        [
            "=", // Pending
            "Backoff, RUNNING", // Starting
            "=", // Running
            "=", // Backoff
            "=", // Waiting
            "Killed, KILLED, release", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "Exited 0",
        [
            "=", // Pending
            "Finished, checks off, FINISHED, release", // Starting
            "Finished, checks off, FINISHED, release", // Running
            "=", // Backoff
            "Killed, KILLED, release", // Waiting
            "Killed, KILLED, release", // CalledOff
            "Killed, KILLED, release", // Asked
            "Killed, KILLED, release", // Forced
            "=", // Ended
        ],
    ),
    (
        "Exited 1",
        [
            "=", // Pending
            "Backoff, checks off, RUNNING", // Starting
            "Backoff, checks off, RUNNING", // Running
            "=", // Backoff
            "Killed, KILLED, release", // Waiting
            "Killed, KILLED, release", // CalledOff
            "Killed, KILLED, release", // Asked
            "Killed, KILLED, release", // Forced
            "=", // Ended
        ],
    ),
    (
        "Exited, out of memory",
        [
            "=", // Pending
            "Backoff, checks off, RUNNING", // Starting
            "Backoff, checks off, RUNNING", // Running
            "=", // Backoff
            "Killed, KILLED, release", // Waiting
            "Killed, KILLED, release", // CalledOff
            "Killed, KILLED, release", // Asked
            "Killed, KILLED, release", // Forced
            "=", // Ended
        ],
    ),
    (
        "Exited with the pod",
        [
            "=", // Pending
            "Failed, checks off, FAILED, release", // Starting
            "Failed, checks off, FAILED, release", // Running
            "=", // Backoff
            "Killed, KILLED, release", // Waiting
            "Killed, KILLED, release", // CalledOff
            "Killed, KILLED, release", // Asked
            "Killed, KILLED, release", // Forced
            "=", // Ended
        ],
    ),
    (
        "Exited, an earlier one",
        [
            "=", // Pending
            "=", // Starting
            "=", // Running
            "=", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "OutOfMemory",
        [
            "=", // Pending
            "=", // Starting
            "Forced, checks off, SIGTERM, SIGKILL", // Running
            "=", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "check passes",
        [
            "=", // Pending
            "=", // Starting
            "Running, RUNNING", // Running
            "=", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "check fails",
        [
            "=", // Pending
            "=", // Starting
            "Running, RUNNING", // Running
            "=", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "check is fatal",
        [
            "=", // Pending
            "=", // Starting
            "Asked, RUNNING, checks off, SIGTERM", // Running
            "=", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "value observed",
        [
            "=", // Pending
            "=", // Starting
            "Running, RUNNING", // Running
            "=", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "kill",
        [
            "Killed, KILLED, release", // Pending
            "CalledOff, KILLING, cancel", // Starting
            "Asked, KILLING, checks off, SIGTERM", // Running
            "Killed, KILLED, release", // Backoff
            "Asked, SIGTERM", // Waiting
            "=", // CalledOff
            "Forced, SIGKILL", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "kill without grace",
        [
            "Killed, KILLED, release", // Pending
            "CalledOff, KILLING, cancel", // Starting
            "Forced, KILLING, checks off, SIGTERM, SIGKILL", // Running
            "Killed, KILLED, release", // Backoff
            "Forced, SIGTERM, SIGKILL", // Waiting
            "CalledOff", // CalledOff
            "Forced, SIGKILL", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "shutdown",
        [
            "Killed, KILLED, release", // Pending
            "Waiting, KILLING", // Starting
            "Waiting, KILLING, checks off", // Running
            "Killed, KILLED, release", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "=", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "dependents have ended",
        [
            "=", // Pending
            "=", // Starting
            "=", // Running
            "=", // Backoff
            "Asked, SIGTERM", // Waiting
            "CalledOff", // CalledOff
            "Forced, SIGKILL", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
    (
        "time passes",
        [
            "=", // Pending
            "=", // Starting
            "=", // Running
            "Pending", // Backoff
            "=", // Waiting
            "=", // CalledOff
            "Forced, SIGKILL", // Asked
            "=", // Forced
            "=", // Ended
        ],
    ),
];

fn outcome(state: &str, input: &Input) -> String {
    let mut task = in_state(state);
    let before = task.state.clone();
    let mut effects = Vec::new();
    input.1(&mut task, &mut effects);
    if task.state == before && effects.is_empty() {
        return "=".to_owned();
    }
    let effects = effects.iter().map(|effect| match effect {
        Effect::Publish(status) => status.state.as_str().trim_start_matches("TASK_").to_owned(),
        Effect::Start { .. } => "start".to_owned(),
        Effect::Cancel { .. } => "cancel".to_owned(),
        Effect::Terminate { .. } => "SIGTERM".to_owned(),
        Effect::Kill { .. } => "SIGKILL".to_owned(),
        Effect::StartChecks { .. } => "checks on".to_owned(),
        Effect::StopChecks { .. } => "checks off".to_owned(),
        Effect::Release { .. } => "release".to_owned(),
        Effect::Exit(_) => "exit".to_owned(),
    });
    let name = match &task.state {
        State::Pending { .. } => "Pending",
        State::Starting => "Starting",
        State::Running => "Running",
        State::Backoff { .. } => "Backoff",
        State::Killing(Killing { stage: Stage::Waiting, .. }) => "Waiting",
        State::Killing(Killing { stage: Stage::Starting, .. }) => "CalledOff",
        State::Killing(Killing { stage: Stage::Asked { .. }, .. }) => "Asked",
        State::Killing(Killing { stage: Stage::Forced, .. }) => "Forced",
        State::Ended(TaskState::Finished) => "Finished",
        State::Ended(TaskState::Killed) => "Killed",
        State::Ended(_) => "Failed",
    };
    std::iter::once(name.to_owned()).chain(effects).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_state_takes_every_event_as_written() {
    let mut wrong = Vec::new();
    for input in &INPUTS {
        let row = TABLE.iter().find(|(name, _)| *name == input.0).map(|(_, row)| row);
        for (index, state) in STATES.iter().enumerate() {
            let found = outcome(state, input);
            if row.is_none_or(|row| row[index] != found) {
                wrong.push(format!("{state} + {}: {found}", input.0));
            }
        }
    }
    assert!(wrong.is_empty(), "not as written:\n{}", wrong.join("\n"));
}
