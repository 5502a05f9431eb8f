//! The transition table of a task: every state with every event, what becomes of it and what is done.
//!
//! Each row is an event with a kind of task, and names what follows for each state, in the order of [`STATES`]: the state
//! after, then the effects. A pair that does nothing is written as `=`, one that cannot be as `-`.

use std::num::NonZeroU32;
use std::time::Duration;

use mesos::common::{TaskId, TaskState};

use super::kill::{Begin, KillCause, Killing, Stage};
use super::task::{Group, State, Task};
use super::{Effect, Exit, ExitStatus, Instance, Moment, ProcessEvent, Transition};
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

const STATES: [&str; 10] = [
    "Pending",
    "Lacking",
    "Starting",
    "Running",
    "Backoff",
    "Waiting",
    "CalledOff",
    "Asked",
    "Forced",
    "Ended",
];

/// A moment long after everything the states below were made with.
const LATER: Moment = Moment(Duration::from_secs(100));
/// A moment at which every deadline of the states below has passed.
const END: Moment = Moment(Duration::from_secs(1000));

/// What is special about the task of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is restarted when it fails.
    OnFailure,
    /// It is not restarted.
    Never,
    /// It is restarted whenever it ends, at once.
    Always,
    /// It is restarted when it fails, but not once.
    AtItsLimit,
    /// It may run for a time only, and is restarted when it fails.
    Timed,
    /// It is ended by the end of another task of its group.
    BySibling,
    /// It is ended because it has run as long as it may.
    ByMaxCompletion,
}

impl Kind {
    fn cause(self) -> KillCause {
        match self {
            Self::BySibling => sibling(),
            Self::ByMaxCompletion => KillCause::MaxCompletion,
            Self::OnFailure | Self::Never | Self::Always | Self::AtItsLimit | Self::Timed => {
                KillCause::Requested
            }
        }
    }

    fn restart(self) -> RestartPolicy {
        let (delay, stable) = (Duration::from_secs(60), Duration::from_secs(600));
        let backoff = Backoff { delay, max_delay: delay, stable, limit: None };
        match self {
            Self::Never => RestartPolicy::Never,
            Self::Always => RestartPolicy::Always(Backoff { delay: Duration::ZERO, ..backoff }),
            Self::AtItsLimit => RestartPolicy::OnFailure(Backoff { limit: Some(0), ..backoff }),
            Self::OnFailure | Self::Timed | Self::BySibling | Self::ByMaxCompletion => {
                RestartPolicy::OnFailure(backoff)
            }
        }
    }
}

fn sibling() -> KillCause {
    KillCause::Sibling { name: TaskName("other".to_owned()), state: TaskState::Failed }
}

/// A task with one liveness check, brought into a state by the events that lead there; `None` if they do not.
fn in_state(state: &str, kind: Kind) -> Option<Task> {
    let mut spec = a_task("task", "task");
    spec.checks = vec![a_check(CheckRole::Liveness)];
    spec.restart = kind.restart();
    spec.max_completion = (kind == Kind::Timed).then_some(Duration::from_secs(200));
    let sink = &mut Vec::new();
    let now = Moment::default();
    let mut task = Task::new(spec, Group(1), 0, sink);
    let kill = |task: &mut Task, grace: u64, begin: Begin, sink: &mut Vec<Effect>| {
        task.kill(kind.cause(), Duration::from_secs(grace), begin, now, sink);
    };
    match state {
        "Pending" => return Some(task),
        "Lacking" => {
            task.await_ended(true, now);
            return Some(task);
        }
        _ => task.start(now, sink),
    }
    match state {
        "Starting" => return Some(task),
        "CalledOff" => {
            kill(&mut task, 3, Begin::Now, sink);
            return Some(task);
        }
        _ => task.process(Instance(1), ProcessEvent::Started, now, sink),
    }
    match state {
        "Backoff" => task.process(Instance(1), exited(1), now, sink),
        "Waiting" => kill(&mut task, 3, Begin::AfterDependents, sink),
        "Asked" => kill(&mut task, 300, Begin::Now, sink),
        "Forced" => kill(&mut task, 0, Begin::Now, sink),
        "Ended" => {
            kill(&mut task, 3, Begin::Now, sink);
            task.process(Instance(1), exited(0), now, sink);
        }
        _ => {}
    }
    (name(&task.state) == state || state == "Ended").then_some(task)
}

fn exited(code: i32) -> ProcessEvent {
    ProcessEvent::Exited(Exit { status: ExitStatus::Code(code), out_of_memory: None })
}

type Input = (&'static str, Kind, fn(&mut Task, &mut Vec<Effect>));

fn process(task: &mut Task, event: ProcessEvent, effects: &mut Vec<Effect>) {
    task.process(Instance(1), event, LATER, effects);
}

fn kill(task: &mut Task, cause: KillCause, grace: u64, begin: Begin, effects: &mut Vec<Effect>) {
    task.kill(cause, Duration::from_secs(grace), begin, LATER, effects);
}

fn out_of_memory(task: &mut Task, effects: &mut Vec<Effect>) {
    let exit = Exit { status: ExitStatus::Signal { number: 9, core: false }, out_of_memory: Some(1) };
    process(task, ProcessEvent::Exited(exit), effects);
}

fn pod_ended(task: &mut Task, effects: &mut Vec<Effect>) {
    let exit = Exit { status: ExitStatus::PodEnded, out_of_memory: None };
    process(task, ProcessEvent::Exited(exit), effects);
}

fn start_failed(task: &mut Task, effects: &mut Vec<Effect>) {
    process(task, ProcessEvent::StartFailed("x".to_owned()), effects);
}

fn fatal(task: &mut Task, effects: &mut Vec<Effect>) {
    process(task, checked(Verdict::Fatal { message: "x".to_owned(), failures: 3 }), effects);
}

fn other_out_of_memory(task: &mut Task, effects: &mut Vec<Effect>) {
    process(task, ProcessEvent::OutOfMemory { limit: 1 }, effects);
}

fn time_passes(task: &mut Task, effects: &mut Vec<Effect>) {
    task.tick(END, effects);
}

use Kind::{Always, AtItsLimit, ByMaxCompletion, BySibling, Never, OnFailure, Timed};

const INPUTS: [Input; 44] = [
    ("what it depends on is ready", OnFailure, |task, effects| task.start(LATER, effects)),
    ("a dependency has ended", OnFailure, |task, _| task.await_ended(true, LATER)),
    ("no dependency has ended", OnFailure, |task, _| task.await_ended(false, LATER)),
    ("Started", OnFailure, |task, effects| process(task, ProcessEvent::Started, effects)),
    ("StartFailed", OnFailure, start_failed),
    ("StartFailed", Never, start_failed),
    ("StartFailed", Always, start_failed),
    ("StartFailed", AtItsLimit, start_failed),
    ("Exited 0", OnFailure, |task, effects| process(task, exited(0), effects)),
    ("Exited 0", Never, |task, effects| process(task, exited(0), effects)),
    ("Exited 0", Always, |task, effects| process(task, exited(0), effects)),
    ("Exited 1", OnFailure, |task, effects| process(task, exited(1), effects)),
    ("Exited 1", Never, |task, effects| process(task, exited(1), effects)),
    ("Exited 1", Always, |task, effects| process(task, exited(1), effects)),
    ("Exited 1", AtItsLimit, |task, effects| process(task, exited(1), effects)),
    ("Exited 1", BySibling, |task, effects| process(task, exited(1), effects)),
    ("Exited 1", ByMaxCompletion, |task, effects| process(task, exited(1), effects)),
    ("Exited, out of memory", OnFailure, out_of_memory),
    ("Exited, out of memory", Never, out_of_memory),
    ("Exited, out of memory", ByMaxCompletion, out_of_memory),
    ("Exited with the pod", OnFailure, pod_ended),
    ("Exited with the pod", Always, pod_ended),
    ("Exited with the pod", BySibling, pod_ended),
    ("Exited with the pod", ByMaxCompletion, pod_ended),
    ("killed, then exited with the pod", BySibling, |task, effects| {
        kill(task, KillCause::Requested, 300, Begin::AfterDependents, effects);
        pod_ended(task, effects);
    }),
    ("Exited, an earlier one", OnFailure, |task, effects| {
        task.process(Instance(0), exited(0), LATER, effects)
    }),
    ("OutOfMemory", OnFailure, other_out_of_memory),
    ("OutOfMemory", Never, other_out_of_memory),
    ("check passes", OnFailure, |task, effects| process(task, checked(Verdict::Pass), effects)),
    ("check fails", OnFailure, |task, effects| {
        process(task, checked(Verdict::Fail { message: "x".to_owned() }), effects)
    }),
    ("check is fatal", OnFailure, fatal),
    ("check is fatal", Never, fatal),
    ("value observed", OnFailure, |task, effects| {
        process(task, checked(Verdict::Observed(Observed::ExitCode(1))), effects)
    }),
    ("kill", OnFailure, |task, effects| kill(task, KillCause::Requested, 3, Begin::Now, effects)),
    ("kill", BySibling, |task, effects| kill(task, KillCause::Requested, 3, Begin::Now, effects)),
    ("kill", ByMaxCompletion, |task, effects| kill(task, KillCause::Requested, 3, Begin::Now, effects)),
    ("kill without grace", OnFailure, |task, effects| {
        kill(task, KillCause::Requested, 0, Begin::Now, effects)
    }),
    ("shutdown", OnFailure, |task, effects| {
        kill(task, KillCause::Shutdown, 3, Begin::AfterDependents, effects)
    }),
    ("shutdown", ByMaxCompletion, |task, effects| {
        kill(task, KillCause::Shutdown, 3, Begin::AfterDependents, effects)
    }),
    ("a sibling has ended", OnFailure, |task, effects| {
        kill(task, sibling(), 3, Begin::AfterDependents, effects)
    }),
    ("it has run as long as it may", OnFailure, |task, effects| {
        kill(task, KillCause::MaxCompletion, 0, Begin::Now, effects)
    }),
    ("dependents have ended", OnFailure, |task, effects| {
        task.release_kill(Duration::from_secs(1), LATER, effects)
    }),
    ("time passes", OnFailure, time_passes),
    ("time passes", Timed, time_passes),
];

fn checked(verdict: Verdict) -> ProcessEvent {
    ProcessEvent::Checked(Report { check: 0, verdict })
}

#[rustfmt::skip]
const TABLE: [(&str, Kind, [&str; 10]); 44] = [
    ("what it depends on is ready", OnFailure, [
        "Starting, start", // Pending
        "Starting, start", // Lacking
        "=", // Starting
        "=", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("a dependency has ended", OnFailure, [
        "Lacking", // Pending
        "=", // Lacking
        "=", // Starting
        "=", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("no dependency has ended", OnFailure, [
        "=", // Pending
        "Pending", // Lacking
        "=", // Starting
        "=", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("Started", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "Running, checks on, RUNNING", // Starting
        "=", // Running
        "=", // Backoff
        "=", // Waiting
        "Asked, SIGTERM", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("StartFailed", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "Backoff, RUNNING", // Starting
        "=", // Running
        "=", // Backoff
        "=", // Waiting
        "Killed, KILLED, release", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("StartFailed", Never, [
        "=", // Pending
        "=", // Lacking
        "Failed, FAILED, release", // Starting
        "=", // Running
        "-", // Backoff
        "=", // Waiting
        "Killed, KILLED, release", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("StartFailed", Always, [
        "=", // Pending
        "=", // Lacking
        "Pending, RUNNING", // Starting
        "=", // Running
        "-", // Backoff
        "=", // Waiting
        "Killed, KILLED, release", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("StartFailed", AtItsLimit, [
        "=", // Pending
        "=", // Lacking
        "Failed, FAILED, release", // Starting
        "=", // Running
        "-", // Backoff
        "=", // Waiting
        "Killed, KILLED, release", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("Exited 0", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "Finished, checks off, FINISHED, release", // Starting
        "Finished, checks off, FINISHED, release", // Running
        "=", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 0", Never, [
        "=", // Pending
        "=", // Lacking
        "Finished, checks off, FINISHED, release", // Starting
        "Finished, checks off, FINISHED, release", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 0", Always, [
        "=", // Pending
        "=", // Lacking
        "Pending, checks off, RUNNING", // Starting
        "Pending, checks off, RUNNING", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 1", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "Backoff, checks off, RUNNING", // Starting
        "Backoff, checks off, RUNNING", // Running
        "=", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 1", Never, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 1", Always, [
        "=", // Pending
        "=", // Lacking
        "Pending, checks off, RUNNING", // Starting
        "Pending, checks off, RUNNING", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 1", AtItsLimit, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 1", BySibling, [
        "=", // Pending
        "=", // Lacking
        "Backoff, checks off, RUNNING", // Starting
        "Backoff, checks off, RUNNING", // Running
        "=", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited 1", ByMaxCompletion, [
        "=", // Pending
        "=", // Lacking
        "Backoff, checks off, RUNNING", // Starting
        "Backoff, checks off, RUNNING", // Running
        "=", // Backoff
        "Failed, FAILED, release", // Waiting
        "Failed, FAILED, release", // CalledOff
        "Failed, FAILED, release", // Asked
        "Failed, FAILED, release", // Forced
        "=", // Ended
    ]),
    ("Exited, out of memory", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "Backoff, checks off, RUNNING", // Starting
        "Backoff, checks off, RUNNING", // Running
        "=", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited, out of memory", Never, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited, out of memory", ByMaxCompletion, [
        "=", // Pending
        "=", // Lacking
        "Backoff, checks off, RUNNING", // Starting
        "Backoff, checks off, RUNNING", // Running
        "=", // Backoff
        "Failed, FAILED, release", // Waiting
        "Failed, FAILED, release", // CalledOff
        "Failed, FAILED, release", // Asked
        "Failed, FAILED, release", // Forced
        "=", // Ended
    ]),
    ("Exited with the pod", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "=", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited with the pod", Always, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "-", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited with the pod", BySibling, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "=", // Backoff
        "Failed, FAILED, release", // Waiting
        "Failed, FAILED, release", // CalledOff
        "Failed, FAILED, release", // Asked
        "Failed, FAILED, release", // Forced
        "=", // Ended
    ]),
    ("Exited with the pod", ByMaxCompletion, [
        "=", // Pending
        "=", // Lacking
        "Failed, checks off, FAILED, release", // Starting
        "Failed, checks off, FAILED, release", // Running
        "=", // Backoff
        "Failed, FAILED, release", // Waiting
        "Failed, FAILED, release", // CalledOff
        "Failed, FAILED, release", // Asked
        "Failed, FAILED, release", // Forced
        "=", // Ended
    ]),
    ("killed, then exited with the pod", BySibling, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "Killed, KILLING, KILLED, release", // Starting
        "Killed, KILLING, checks off, KILLED, release", // Running
        "Killed, KILLED, release", // Backoff
        "Killed, KILLED, release", // Waiting
        "Killed, KILLED, release", // CalledOff
        "Killed, KILLED, release", // Asked
        "Killed, KILLED, release", // Forced
        "=", // Ended
    ]),
    ("Exited, an earlier one", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "=", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("OutOfMemory", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Forced, checks off, SIGTERM, SIGKILL", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("OutOfMemory", Never, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Forced, checks off, SIGTERM, SIGKILL", // Running
        "-", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("check passes", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Running, RUNNING", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("check fails", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Running, RUNNING", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("check is fatal", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Asked, RUNNING, checks off, SIGTERM", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("check is fatal", Never, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Asked, RUNNING, KILLING, checks off, SIGTERM", // Running
        "-", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("value observed", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "Running, RUNNING", // Running
        "=", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("kill", OnFailure, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "CalledOff, KILLING, cancel", // Starting
        "Asked, KILLING, checks off, SIGTERM", // Running
        "Killed, KILLED, release", // Backoff
        "Asked, SIGTERM", // Waiting
        "=", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("kill", BySibling, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "CalledOff, KILLING, cancel", // Starting
        "Asked, KILLING, checks off, SIGTERM", // Running
        "Killed, KILLED, release", // Backoff
        "Asked, SIGTERM", // Waiting
        "=", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("kill", ByMaxCompletion, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "CalledOff, KILLING, cancel", // Starting
        "Asked, KILLING, checks off, SIGTERM", // Running
        "Killed, KILLED, release", // Backoff
        "Asked, KILLING, SIGTERM", // Waiting
        "CalledOff, KILLING", // CalledOff
        "Forced, KILLING, SIGKILL", // Asked
        "Forced, KILLING", // Forced
        "=", // Ended
    ]),
    ("kill without grace", OnFailure, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "CalledOff, KILLING, cancel", // Starting
        "Forced, KILLING, checks off, SIGTERM, SIGKILL", // Running
        "Killed, KILLED, release", // Backoff
        "Forced, SIGTERM, SIGKILL", // Waiting
        "CalledOff", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("shutdown", OnFailure, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "Waiting, KILLING", // Starting
        "Waiting, KILLING, checks off", // Running
        "Killed, KILLED, release", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("shutdown", ByMaxCompletion, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "Waiting, KILLING", // Starting
        "Waiting, KILLING, checks off", // Running
        "Killed, KILLED, release", // Backoff
        "Waiting, KILLING", // Waiting
        "CalledOff, KILLING", // CalledOff
        "Asked, KILLING", // Asked
        "Forced, KILLING", // Forced
        "=", // Ended
    ]),
    ("a sibling has ended", OnFailure, [
        "Killed, KILLED, release", // Pending
        "Killed, KILLED, release", // Lacking
        "Waiting, KILLING", // Starting
        "Waiting, KILLING, checks off", // Running
        "Killed, KILLED, release", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "=", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("it has run as long as it may", OnFailure, [
        "Failed, FAILED, release", // Pending
        "Failed, FAILED, release", // Lacking
        "CalledOff, cancel", // Starting
        "Forced, checks off, SIGTERM, SIGKILL", // Running
        "Failed, FAILED, release", // Backoff
        "Forced, SIGTERM, SIGKILL", // Waiting
        "CalledOff", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("dependents have ended", OnFailure, [
        "=", // Pending
        "=", // Lacking
        "=", // Starting
        "=", // Running
        "=", // Backoff
        "Asked, SIGTERM", // Waiting
        "CalledOff", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("time passes", OnFailure, [
        "=", // Pending
        "Failed, FAILED, release", // Lacking
        "=", // Starting
        "=", // Running
        "Pending", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
    ("time passes", Timed, [
        "=", // Pending
        "Failed, FAILED, release", // Lacking
        "CalledOff, cancel", // Starting
        "Forced, checks off, SIGTERM, SIGKILL", // Running
        "Failed, FAILED, release", // Backoff
        "=", // Waiting
        "=", // CalledOff
        "Forced, SIGKILL", // Asked
        "=", // Forced
        "=", // Ended
    ]),
];

fn name(state: &State) -> &'static str {
    match state {
        State::Pending { deadline: None } => "Pending",
        State::Pending { deadline: Some(_) } => "Lacking",
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
    }
}

fn outcome(state: &str, (title, kind, input): &Input) -> String {
    let Some(mut task) = in_state(state, *kind) else { return "-".to_owned() };
    let before = task.state.clone();
    let mut effects = Vec::new();
    input(&mut task, &mut effects);
    if task.state == before && effects.is_empty() {
        return "=".to_owned();
    }
    // What is logged is the way from the state before to the one after, and nothing where there was no way.
    let mut at = before.name();
    for effect in &effects {
        if let Effect::Moved(Transition { from, to, .. }) = effect {
            assert_eq!((*from, at == *to), (Some(at), false), "{state} + {title}");
            at = to;
        }
    }
    assert_eq!(at, task.state.name(), "{state} + {title}");
    let effects = effects.iter().filter_map(|effect| match effect {
        Effect::Publish(status) => Some(status.state.as_str().trim_start_matches("TASK_")),
        Effect::Start { .. } => Some("start"),
        Effect::Cancel { .. } => Some("cancel"),
        Effect::Terminate { .. } => Some("SIGTERM"),
        Effect::Kill { .. } => Some("SIGKILL"),
        Effect::StartChecks { .. } => Some("checks on"),
        Effect::StopChecks { .. } => Some("checks off"),
        Effect::Release { .. } => Some("release"),
        Effect::Exit(_) => Some("exit"),
        Effect::Moved(_) => None,
    });
    std::iter::once(name(&task.state)).chain(effects).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_state_takes_every_event_as_written() {
    let mut wrong = Vec::new();
    for (input, (title, kind, row)) in INPUTS.iter().zip(&TABLE) {
        assert_eq!((input.0, input.1), (*title, *kind), "the rows are in the order of the inputs");
        for (index, state) in STATES.iter().enumerate() {
            let found = outcome(state, input);
            if row[index] != found {
                wrong.push(format!("{state} + {title} ({kind:?}): {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not as written:\n{}", wrong.join("\n"));
}
