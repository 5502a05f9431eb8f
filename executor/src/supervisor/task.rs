//! One task: its states, and what each event does to it.
//!
//! ```text
//!  Pending --start--> Starting --Started--> Running <-> (healthy, ready: flags, not states)
//!     ^  |               |  |                 |  |
//!     |  |      StartFailed  |          Exited |  | kill, fatal check, out of memory, max completion
//!     |  |               v  |                 v  |
//!     |  |     policy says restart? yes -> Backoff |
//!     +--|----------------- until ------------'    |
//!        |                  no: Finished | Failed   |
//!        |  kill, no process: Killed                v
//!        +------------------> Ended <--Exited-- Killing: Waiting (dependents first) | Starting (no process yet)
//!                                                        -> Asked (SIGTERM) --grace--> Forced (SIGKILL)
//! ```
//! Every kill that somebody asked for wins over every other outcome. A task in Killing never runs again, unless it was
//! its own check or an OOM that ends it and its policy restarts it. Ended is reported once.

use std::sync::Arc;
use std::time::Duration;

use mesos::common::{Reason, TaskState};

use super::checks::Checks;
use super::kill::{Begin, KillCause, Killing, Stage};
use super::policy::{self, AfterExit, Outcome};
use super::{Effect, Exit, ExitStatus, Instance, Moment, ProcessEvent, Status, Transition};
use crate::health::{Report, Verdict};
use crate::spec::{CheckRole, Essential, RestartPolicy, TaskSpec};

/// The number of a launch: its tasks are a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Group(pub u64);

/// A task and all that is known of it.
#[derive(Debug)]
pub struct Task {
    /// What it is.
    pub spec: Arc<TaskSpec>,
    /// With which tasks it was launched.
    pub group: Group,
    /// Where it stands.
    pub state: State,
    instance: Instance,
    process: Process,
    started: Moment,
    completion_deadline: Option<Moment>,
    restarts_in_a_row: u32,
    restarts: u32,
    was_reported_killing: bool,
    kill_was_requested: bool,
    checks: Checks,
    random: fastrand::Rng,
}

/// Where a task stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits for what it depends on; until the deadline, while one of these has ended.
    Pending {
        /// When it gives up.
        deadline: Option<Moment>,
    },
    /// Its process is being started.
    Starting,
    /// Its process runs.
    Running,
    /// Its process ended; the next one comes at this moment.
    Backoff {
        /// When.
        until: Moment,
    },
    /// It is being ended.
    Killing(Killing),
    /// It has ended for good.
    Ended(TaskState),
}

impl State {
    /// Its name in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff { .. } => "backoff",
            Self::Killing(_) => "killing",
            Self::Ended(TaskState::Finished) => "finished",
            Self::Ended(TaskState::Killed) => "killed",
            Self::Ended(_) => "failed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Starting,
    Alive,
}

impl Task {
    /// A task as it was delivered: TASK_STARTING is reported at once.
    pub fn new(spec: TaskSpec, group: Group, seed: u64, effects: &mut Vec<Effect>) -> Self {
        let task = Self {
            checks: Checks::new(&spec.checks),
            spec: Arc::new(spec),
            group,
            state: State::Pending { deadline: None },
            instance: Instance(0),
            process: Process::None,
            started: Moment::default(),
            completion_deadline: None,
            restarts_in_a_row: 0,
            restarts: 0,
            was_reported_killing: false,
            kill_was_requested: false,
            random: fastrand::Rng::with_seed(seed),
        };
        let (id, to) = (task.spec.id.clone(), task.state.name());
        effects.push(Effect::Moved(Transition { id, from: None, to, cause: None }));
        task.publish(TaskState::Starting, None, None, effects);
        task
    }

    /// The only way from one state to another.
    fn enter(&mut self, state: State, cause: Option<String>, effects: &mut Vec<Effect>) {
        let from = Some(self.state.name());
        self.state = state;
        let (id, to) = (self.spec.id.clone(), self.state.name());
        effects.push(Effect::Moved(Transition { id, from, to, cause }));
    }

    /// Whether it has not ended.
    pub fn is_living(&self) -> bool {
        !matches!(self.state, State::Ended(_))
    }

    /// Whether those that depend on it may run: its process runs and its checks say that it can be used.
    pub fn is_ready(&self) -> bool {
        self.state == State::Running && self.checks.passed(|role| role != CheckRole::Liveness)
    }

    /// Whether its end ends its group.
    pub fn ends_group(&self) -> Option<TaskState> {
        match (&self.state, self.spec.essential) {
            (State::Ended(state @ (TaskState::Failed | TaskState::Killed)), Essential::Yes) => Some(*state),
            _ => None,
        }
    }

    /// The next moment at which [`Task::tick`] has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let own = match &self.state {
            State::Pending { deadline } => *deadline,
            State::Backoff { until } => Some(*until),
            State::Killing(Killing { stage: Stage::Asked { deadline }, .. }) => Some(*deadline),
            State::Starting | State::Running | State::Killing(_) | State::Ended(_) => None,
        };
        let completion =
            self.completion_deadline.filter(|_| !matches!(self.state, State::Killing(_) | State::Ended(_)));
        [own, completion].into_iter().flatten().min()
    }

    /// Pending to Starting: what it depends on is ready.
    pub fn start(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if !matches!(self.state, State::Pending { .. }) {
            return;
        }
        self.instance.0 += 1;
        let waited = !self.spec.depends_on.is_empty();
        self.enter(State::Starting, waited.then(|| "what it depends on is ready".to_owned()), effects);
        self.process = Process::Starting;
        if self.instance.0 == 1 {
            self.completion_deadline = self.spec.max_completion.map(|most| now.after(most));
        }
        effects.push(Effect::Start { id: self.spec.id.clone(), instance: self.instance });
    }

    /// Something happened to one of its processes.
    pub fn process(
        &mut self,
        instance: Instance,
        event: ProcessEvent,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        if instance != self.instance || !self.is_living() {
            return;
        }
        match event {
            ProcessEvent::Started if self.process == Process::Starting => self.on_started(now, effects),
            ProcessEvent::StartFailed(error) if self.process == Process::Starting => {
                self.on_start_failed(error, now, effects)
            }
            ProcessEvent::Exited(exit) if self.process != Process::None => self.on_exited(exit, now, effects),
            ProcessEvent::Started | ProcessEvent::StartFailed(_) | ProcessEvent::Exited(_) => {}
            ProcessEvent::OutOfMemory { limit } => {
                if self.state == State::Running {
                    self.kill(KillCause::OutOfMemory { limit }, Duration::ZERO, Begin::Now, now, effects);
                }
            }
            ProcessEvent::Checked(report) => {
                if self.state == State::Running {
                    self.on_checked(report, now, effects);
                }
            }
        }
    }

    /// Ends it. A further kill can only shorten the grace period, and give a stronger cause.
    pub fn kill(
        &mut self,
        cause: KillCause,
        grace: Duration,
        begin: Begin,
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        self.kill_was_requested |= matches!(cause, KillCause::Requested | KillCause::Shutdown);
        match &mut self.state {
            State::Ended(_) => {}
            State::Killing(killing) => {
                let upgraded = cause.is_asked() && !killing.cause.is_asked();
                if upgraded {
                    killing.cause = cause.clone();
                }
                if upgraded && !self.was_reported_killing {
                    self.publish_killing(&cause, effects);
                }
                if begin == Begin::Now {
                    self.release_kill(grace, now, effects);
                }
            }
            State::Pending { .. } | State::Backoff { .. } => {
                let text = if self.instance.0 == 0 {
                    "killed before its process was started"
                } else {
                    "killed between two restarts"
                };
                self.end_killed(&cause, text, effects);
            }
            State::Starting | State::Running => {
                let last =
                    matches!(cause, KillCause::Unhealthy { .. }) && self.spec.restart == RestartPolicy::Never;
                if cause.is_asked() || last {
                    self.publish_killing(&cause, effects);
                }
                if self.process == Process::Alive {
                    effects.push(Effect::StopChecks { id: self.spec.id.clone() });
                }
                let text = cause.text().unwrap_or_else(|| "the framework asked for it".to_owned());
                let killing = Killing { cause, since: now, grace, stage: Stage::Waiting };
                self.enter(State::Killing(killing), Some(text), effects);
                if begin == Begin::Now {
                    self.release_kill(grace, now, effects);
                }
            }
        }
    }

    /// Whether somebody outside of it asked for its end.
    pub fn is_asked_to_end(&self) -> bool {
        matches!(&self.state, State::Killing(killing) if killing.cause.is_asked())
    }

    /// Whether it is to end once those that depend on it have.
    pub fn waits_to_be_killed(&self) -> bool {
        matches!(&self.state, State::Killing(killing) if killing.stage == Stage::Waiting)
    }

    /// Goes on with a kill that is under way, waiting for nobody any longer; the grace period can only shrink.
    pub fn release_kill(&mut self, grace: Duration, now: Moment, effects: &mut Vec<Effect>) {
        if let State::Killing(killing) = &mut self.state {
            killing.grace = killing.grace.min(grace);
            self.proceed(now, effects);
        }
    }

    /// Brings SIGKILL forward to this moment, if SIGTERM was sent.
    pub fn shorten_kill(&mut self, until: Moment, now: Moment, effects: &mut Vec<Effect>) {
        if let State::Killing(Killing { stage: Stage::Asked { deadline }, .. }) = &mut self.state {
            *deadline = (*deadline).min(until);
            self.tick(now, effects);
        }
    }

    fn proceed(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let State::Killing(killing) = &mut self.state else {
            return;
        };
        let id = self.spec.id.clone();
        match (killing.stage, self.process) {
            (Stage::Waiting, Process::Starting) => {
                killing.stage = Stage::Starting;
                effects.push(Effect::Cancel { id });
            }
            (Stage::Waiting | Stage::Starting, Process::Alive) => {
                effects.push(Effect::Terminate { id });
                killing.since = now;
                killing.stage = Stage::Asked { deadline: now.after(killing.grace) };
            }
            (Stage::Asked { deadline }, _) => {
                killing.stage = Stage::Asked { deadline: deadline.min(killing.since.after(killing.grace)) };
            }
            (Stage::Waiting | Stage::Starting | Stage::Forced, _) => {}
        }
        self.tick(now, effects);
    }

    /// Does what is due at `now`.
    pub fn tick(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let id = self.spec.id.clone();
        match &mut self.state {
            State::Killing(killing) => {
                killing.stage = Stage::Forced;
                effects.push(Effect::Kill { id });
            }
            _ if self.completion_deadline.is_some_and(|deadline| deadline <= now) => {
                self.kill(KillCause::MaxCompletion, Duration::ZERO, Begin::Now, now, effects);
            }
            State::Backoff { .. } => {
                let cause = "its wait before the restart is over".to_owned();
                self.enter(State::Pending { deadline: None }, Some(cause), effects);
            }
            State::Pending { .. } => {
                let most = self.spec.depends_on_timeout;
                self.end(
                    TaskState::Failed,
                    None,
                    format!("what it depends on ended and did not come back within {most:?}"),
                    effects,
                );
            }
            State::Starting | State::Running | State::Ended(_) => {}
        }
    }

    /// Tells a Pending task whether one of those it depends on has ended.
    pub fn await_ended(&mut self, ended: bool, now: Moment) {
        if let State::Pending { deadline } = &mut self.state {
            *deadline = ended.then(|| deadline.unwrap_or_else(|| now.after(self.spec.depends_on_timeout)));
        }
    }

    fn on_started(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.process = Process::Alive;
        self.started = now;
        match &self.state {
            State::Killing(Killing { stage: Stage::Starting, .. }) => self.proceed(now, effects),
            State::Killing(_) => {}
            _ => {
                self.enter(State::Running, None, effects);
                self.start_checks(effects);
                if self.instance.0 == 1 || self.is_ready() {
                    self.publish(TaskState::Running, None, None, effects);
                }
            }
        }
    }

    fn start_checks(&self, effects: &mut Vec<Effect>) {
        let checks = self.checks.due();
        if !checks.is_empty() {
            effects.push(Effect::StartChecks { id: self.spec.id.clone(), checks });
        }
    }

    fn on_checked(&mut self, Report { check, verdict }: Report, now: Moment, effects: &mut Vec<Effect>) {
        let Some(role) = self.checks.role(check) else {
            return;
        };
        let was_ready = self.is_ready();
        let message = match &verdict {
            Verdict::Observed(observed) => {
                self.checks.observe(*observed);
                self.publish(TaskState::Running, Some(Reason::TaskCheckStatusUpdated), None, effects);
                return;
            }
            Verdict::Pass => None,
            Verdict::Fail { message } | Verdict::Fatal { message, .. } => Some(message.clone()),
        };
        self.checks.judge(check, verdict == Verdict::Pass);
        match role {
            CheckRole::Startup if self.checks.are_up() => self.start_checks(effects),
            CheckRole::Liveness => self.publish_health(message.as_deref(), effects),
            CheckRole::Startup | CheckRole::Readiness | CheckRole::Reported(_) => {}
        }
        if self.is_ready() != was_ready {
            self.publish(TaskState::Running, Some(Reason::TaskCheckStatusUpdated), message, effects);
        }
        if let (Verdict::Fatal { message, failures }, CheckRole::Startup | CheckRole::Liveness) =
            (verdict, role)
        {
            let what = if role == CheckRole::Startup { "startup" } else { "health" };
            let message = format!("{what} check failed {failures} times in a row: {message}");
            self.kill(KillCause::Unhealthy { message }, self.spec.grace_period, Begin::Now, now, effects);
        }
    }

    fn publish_health(&mut self, message: Option<&str>, effects: &mut Vec<Effect>) {
        if self.checks.health_changed() {
            let reason = Reason::TaskHealthCheckStatusUpdated;
            self.publish(TaskState::Running, Some(reason), message.map(str::to_owned), effects);
        }
    }

    fn on_start_failed(&mut self, error: String, now: Moment, effects: &mut Vec<Effect>) {
        self.process = Process::None;
        match &self.state {
            State::Killing(killing) => {
                let cause = killing.cause.clone();
                self.end_killed(&cause, "killed before its process was started", effects);
            }
            _ => self.restart_or(Outcome::Failure, (TaskState::Failed, None, error), now, effects),
        }
    }

    fn on_exited(&mut self, exit: Exit, now: Moment, effects: &mut Vec<Effect>) {
        self.process = Process::None;
        let text = format!("Command {}", exit.status);
        if self.spec.restart != RestartPolicy::Never && now.since(self.started) >= self.stable_after() {
            self.restarts_in_a_row = 0;
        }
        let killing =
            if let State::Killing(killing) = &self.state { Some(killing.cause.clone()) } else { None };
        if killing.is_none() {
            effects.push(Effect::StopChecks { id: self.spec.id.clone() });
        }
        match (killing, exit.out_of_memory) {
            // A sibling that ended with the pod is no cause of its own: all tasks of a pod fail with it.
            (Some(KillCause::Sibling { .. }), _)
                if exit.status == ExitStatus::PodEnded && !self.kill_was_requested =>
            {
                self.end(TaskState::Failed, None, text, effects);
            }
            (Some(cause), _) if cause.is_asked() || cause == KillCause::MaxCompletion => {
                self.end_killed(&cause, &text, effects)
            }
            (Some(KillCause::OutOfMemory { limit }), _) | (_, Some(limit)) => {
                let message = format!("{text}: out of memory: its limit is {limit} bytes");
                let ended = (TaskState::Failed, Some(Reason::ContainerLimitationMemory), message);
                self.restart_or(Outcome::Failure, ended, now, effects);
            }
            (Some(KillCause::Unhealthy { message }), None) => {
                let ended = (TaskState::Killed, None, format!("{text}: {message}"));
                self.restart_or(Outcome::Failure, ended, now, effects);
            }
            (Some(_) | None, None) => {
                let (outcome, state) = match exit.status.is_success() {
                    true => (Outcome::Success, TaskState::Finished),
                    false => (Outcome::Failure, TaskState::Failed),
                };
                let pod_ended = exit.status == ExitStatus::PodEnded;
                match pod_ended {
                    true => self.end(state, None, text, effects),
                    false => self.restart_or(outcome, (state, None, text), now, effects),
                }
            }
        }
    }

    fn stable_after(&self) -> Duration {
        match self.spec.restart {
            RestartPolicy::Never => Duration::MAX,
            RestartPolicy::OnFailure(backoff) | RestartPolicy::Always(backoff) => backoff.stable,
        }
    }

    fn restart_or(
        &mut self,
        outcome: Outcome,
        (state, reason, message): (TaskState, Option<Reason>, String),
        now: Moment,
        effects: &mut Vec<Effect>,
    ) {
        match policy::after_exit(self.spec.restart, outcome, self.restarts_in_a_row, self.random.f64()) {
            AfterExit::End => self.end(state, reason, message, effects),
            AfterExit::GiveUp(times) => {
                let message =
                    format!("{message}: it was restarted {times} times in a row, which is its limit");
                self.end(TaskState::Failed, reason, message, effects);
            }
            AfterExit::Restart(wait) => {
                self.restarts_in_a_row += 1;
                self.restarts += 1;
                self.checks = Checks::new(&self.spec.checks);
                let next = if wait.is_zero() {
                    State::Pending { deadline: None }
                } else {
                    State::Backoff { until: now.after(wait) }
                };
                let message = format!("{message}: restarting in {wait:?}");
                self.enter(next, Some(message.clone()), effects);
                self.publish(TaskState::Running, reason, Some(message), effects);
            }
        }
    }

    fn end_killed(&mut self, cause: &KillCause, text: &str, effects: &mut Vec<Effect>) {
        let message = cause.text().map_or_else(|| text.to_owned(), |cause| format!("{text}: {cause}"));
        match cause {
            KillCause::MaxCompletion => {
                self.end(TaskState::Failed, Some(Reason::MaxCompletionTimeReached), message, effects);
            }
            _ => self.end(TaskState::Killed, None, message, effects),
        }
    }

    fn end(&mut self, state: TaskState, reason: Option<Reason>, message: String, effects: &mut Vec<Effect>) {
        self.enter(State::Ended(state), Some(message.clone()), effects);
        self.publish(state, reason, Some(message), effects);
        effects.push(Effect::Release { id: self.spec.id.clone() });
    }

    fn publish_killing(&mut self, cause: &KillCause, effects: &mut Vec<Effect>) {
        self.was_reported_killing = true;
        self.publish(TaskState::Killing, None, cause.text(), effects);
    }

    fn publish(
        &self,
        state: TaskState,
        reason: Option<Reason>,
        message: Option<String>,
        effects: &mut Vec<Effect>,
    ) {
        let ready = match state {
            TaskState::Running => Some(self.is_ready()),
            TaskState::Killing => Some(false),
            _ => None,
        };
        effects.push(Effect::Publish(Status {
            id: self.spec.id.clone(),
            state,
            reason,
            message,
            healthy: self.checks.healthy(),
            reported: self.checks.reported(),
            ready,
            restarts: self.restarts,
        }));
    }
}
