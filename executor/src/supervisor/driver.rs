//! The only loop: it selects over events, calls the state machine, runs the effects.
//!
//! ```text
//!  processes, checks --(first)--> Driver --Event--> Supervisor --Effects--> Driver: processes, signals, checks, session
//!  deadlines, agent  --(then)--->
//! ```
//! What has happened inside goes before what is asked from outside: the end of a process before a kill of it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mesos::common::{Capability, FrameworkInfo, TaskId, TaskState};
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::admission::admit;
use super::state::Supervisor;
use super::{Effect, Event, ExitCause, Instance, Moment, ProcessEvent, Status, Transition, policy};
use crate::agent::session::Session;
use crate::agent::{AgentEvent, ShutdownCause};
use crate::cgroup::CgroupName;
use crate::health::Surroundings;
use crate::health::worker::{self, WorkerHandle};
use crate::process::command::TaskCommands;
use crate::process::instance::{Fact, Progress, Run, What};
use crate::process::signal;
use crate::process::workplace::{Place, Workplace};
use crate::spec::{KillMode, SpecError, TaskSpec};
use crate::status::Publisher;

/// How many events of processes may wait.
const QUEUE: usize = 1024;

/// Drives the tasks of one executor.
#[derive(Debug)]
pub struct Driver {
    supervisor: Supervisor,
    born: Instant,
    workplace: Arc<Workplace>,
    publisher: Publisher,
    session: Session,
    shutdown_grace_period: Duration,
    understands: Understands,
    tasks: HashMap<TaskId, Running>,
    facts: mpsc::Sender<Fact>,
    happened: mpsc::Receiver<Fact>,
    /// What ended tasks left is being removed.
    clearing: JoinSet<()>,
    /// Why no task can run in this executor.
    refusal: Option<SpecError>,
}

/// Which states the framework understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Understands {
    /// Every one.
    All,
    /// Not TASK_KILLING.
    NoKilling,
}

impl Understands {
    fn of(framework: &FrameworkInfo) -> Self {
        if framework.has(Capability::TaskKillingState) { Self::All } else { Self::NoKilling }
    }
}

/// What is at hand for a living task.
#[derive(Debug)]
struct Running {
    spec: Arc<TaskSpec>,
    instance: Instance,
    cancel: Option<oneshot::Sender<()>>,
    work: Option<JoinHandle<()>>,
    /// Signals to all of its cgroup that are under way.
    signalling: Vec<JoinHandle<()>>,
    process: Option<(Arc<OwnedFd>, Place)>,
    started: Instant,
    checks: Vec<WorkerHandle>,
}

/// How the driver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub cause: ExitCause,
    /// How many updates the agent has not acknowledged.
    pub unacknowledged: usize,
}

/// How long the last updates may take to be acknowledged when nobody waits for the executor to end.
const LAST_UPDATES: Duration = Duration::from_secs(60);

impl Driver {
    /// A driver without tasks, of this framework.
    pub fn new(
        workplace: Arc<Workplace>,
        publisher: Publisher,
        session: Session,
        framework: &FrameworkInfo,
        idle_timeout: Duration,
        shutdown_grace_period: Duration,
    ) -> Self {
        let (facts, happened) = mpsc::channel(QUEUE);
        Self {
            supervisor: Supervisor::new(idle_timeout, fastrand::u64(..)),
            born: Instant::now(),
            workplace,
            publisher,
            session,
            shutdown_grace_period,
            understands: Understands::of(framework),
            tasks: HashMap::new(),
            facts,
            happened,
            clearing: JoinSet::new(),
            refusal: None,
        }
    }

    /// It refuses every task with this error, if there is one.
    #[must_use]
    pub fn refusing(self, refusal: Option<SpecError>) -> Self {
        Self { refusal, ..self }
    }

    /// Runs until the executor is to end: then every task has ended, and the agent has acknowledged it, if it could be
    /// had. `terminated` is an operator's SIGTERM: it ends everything as the agent's SHUTDOWN does.
    pub async fn run(
        mut self,
        mut agent: mpsc::Receiver<AgentEvent>,
        mut terminated: tokio::signal::unix::Signal,
    ) -> Ended {
        let mut told_to_end = None;
        let cause = loop {
            let deadline = self.supervisor.deadline().map(|moment| self.born + moment.0);
            let event = tokio::select! {
                biased;
                Some(fact) = self.happened.recv() => self.fact(fact),
                () = sleep_until(deadline) => Some(Event::Tick),
                Some(()) = terminated.recv() => self.agent_event(AgentEvent::Shutdown(ShutdownCause::Agent)),
                event = agent.recv() => self.agent_event(event.unwrap_or(AgentEvent::Shutdown(ShutdownCause::Agent))),
            };
            if matches!(event, Some(Event::Shutdown { .. })) {
                told_to_end.get_or_insert_with(Instant::now);
            }
            let Some(event) = event else { continue };
            if let Some(cause) = self.handle(event).await {
                break cause;
            }
        };
        let last_updates = policy::last_updates(self.shutdown_grace_period);
        self.workplace.sessions.cut_all();
        let until = told_to_end.map_or(Instant::now() + LAST_UPDATES, |since| since + last_updates);
        if tokio::time::timeout_at(until, self.workplace.pod.end()).await.is_err() {
            tracing::error!("processes of the pod do not end; they are left to the agent and the next sweep");
        }
        let within = until.saturating_duration_since(Instant::now());
        let clearing = async { while self.clearing.join_next().await.is_some() {} };
        let (unacknowledged, _) =
            tokio::join!(self.session.drain(within), tokio::time::timeout(within, clearing));
        Ended { cause, unacknowledged }
    }

    async fn handle(&mut self, event: Event) -> Option<ExitCause> {
        let now = Moment(self.born.elapsed());
        let mut exit = None;
        let mut moved = Vec::new();
        for effect in self.supervisor.handle(event, now) {
            match effect {
                Effect::Exit(cause) => exit = Some(cause),
                Effect::Moved(transition) => moved.push(transition),
                other => self.run_effect(other).await,
            }
        }
        // What is to be done goes before what is to be read.
        for Transition { id, from, to, cause } in moved {
            tracing::info!(task = %id, from, to, cause, "transition");
        }
        exit
    }

    fn agent_event(&mut self, event: AgentEvent) -> Option<Event> {
        match event {
            AgentEvent::Subscribed(subscribed) => {
                self.understands = Understands::of(&subscribed.framework_info);
                None
            }
            AgentEvent::Launch(tasks) => Some(Event::Launch(admit(&tasks, self.refusal.as_ref()))),
            AgentEvent::Kill { task_id, grace_period } => {
                Some(Event::Kill { id: task_id, grace: grace_period })
            }
            AgentEvent::Shutdown(cause) => {
                tracing::info!(?cause, "everything is to end");
                self.workplace.sessions.pod_ends();
                Some(Event::Shutdown { within: policy::shutdown_budget(self.shutdown_grace_period) })
            }
            AgentEvent::Acknowledged { task_id, outstanding }
            | AgentEvent::NotAccepted { task_id, outstanding } => {
                if self.supervisor.task(&task_id).is_none_or(|task| !task.is_living()) {
                    self.publisher.forget(&task_id);
                    self.workplace.outputs.forget(&task_id);
                }
                Some(Event::Outstanding(outstanding))
            }
        }
    }

    fn fact(&mut self, Fact { id, instance, what }: Fact) -> Option<Event> {
        let event = match what {
            What::Report(report) => ProcessEvent::Checked(report),
            What::Progress(Progress::Started { pidfd, place }) => {
                let task = self.tasks.get_mut(&id)?;
                self.publisher.started(&id, signal::host_pid(&pidfd));
                task.process = Some((pidfd, place));
                task.started = Instant::now();
                ProcessEvent::Started
            }
            What::Progress(Progress::StartFailed(error)) => ProcessEvent::StartFailed(error),
            What::Progress(Progress::OutOfMemory { limit }) => ProcessEvent::OutOfMemory { limit },
            What::Progress(Progress::Exited(exit)) => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.process = None;
                }
                self.publisher.exited(&id, &exit);
                ProcessEvent::Exited(exit)
            }
        };
        Some(Event::Process { id, instance, event })
    }

    async fn run_effect(&mut self, effect: Effect) {
        match effect {
            Effect::Start { id, instance } => self.start(id, instance),
            Effect::Cancel { id } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.cancel = None;
                }
            }
            Effect::Terminate { id } => self.terminate(&id),
            Effect::Kill { id } => self.kill(&id),
            Effect::StartChecks { id, checks } => self.start_checks(&id, &checks).await,
            Effect::StopChecks { id } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.checks.clear();
                }
            }
            Effect::Publish(status) => self.publish(&status).await,
            Effect::Release { id } => self.release(&id),
            Effect::Exit(_) | Effect::Moved(_) => {}
        }
    }

    fn start(&mut self, id: TaskId, instance: Instance) {
        let Some(spec) = self.supervisor.task(&id).map(|task| task.spec.clone()) else {
            return;
        };
        let (cancel, cancelled) = oneshot::channel();
        let before = self.tasks.remove(&id).map(|before| (before.work, before.signalling));
        let run = Run {
            workplace: self.workplace.clone(),
            spec: spec.clone(),
            instance,
            cancelled,
            facts: self.facts.clone(),
        };
        let work = tokio::spawn(async move {
            if let Some((work, signalling)) = before {
                // Its output files are continued: one writer at a time. And what was to end it must not reach this one.
                for job in work.into_iter().chain(signalling) {
                    let _ = job.await;
                }
            }
            run.run().await;
        });
        let running = Running {
            spec,
            instance,
            cancel: Some(cancel),
            work: Some(work),
            signalling: Vec::new(),
            process: None,
            started: Instant::now(),
            checks: Vec::new(),
        };
        self.tasks.insert(id, running);
    }

    fn terminate(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some((pidfd, _)) = &task.process else { return };
        tracing::info!(task = %id, "SIGTERM");
        if let Err(error) = signal::send(pidfd, Signal::TERM) {
            tracing::error!(task = %id, error, "ask it to end");
        }
        if task.spec.kill_mode == KillMode::Cgroup {
            let (workplace, name, pidfd) = (self.workplace.clone(), CgroupName::task(id), pidfd.clone());
            task.signalling.push(tokio::task::spawn_blocking(move || {
                if let Err(error) = signal::terminate_others(&*workplace.cgroups, &name, &pidfd) {
                    tracing::warn!(cgroup = %name, error, "ask its other processes to end");
                }
            }));
        }
    }

    fn kill(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some((pidfd, _)) = &task.process else { return };
        tracing::info!(task = %id, "SIGKILL");
        if let Err(error) = signal::send(pidfd, Signal::KILL) {
            tracing::error!(task = %id, error, "end it by force");
        }
        if task.spec.kill_mode == KillMode::Cgroup {
            self.workplace.sessions.cut(id);
            let (workplace, name) = (self.workplace.clone(), CgroupName::task(id));
            task.signalling.push(tokio::task::spawn_blocking(move || {
                if let Err(error) = workplace.cgroups.kill(&name) {
                    tracing::error!(cgroup = %name, %error, "end all its processes by force");
                }
            }));
        }
    }

    async fn start_checks(&mut self, id: &TaskId, checks: &[usize]) {
        let Some(living) = self.workplace.pod.current().await else { return };
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        let Some((_, place)) = &task.process else { return };
        let commands = TaskCommands::new(self.workplace.clone(), task.spec.clone(), place.clone());
        let surroundings = Surroundings { sockets: living.sockets, commands: Arc::new(commands) };
        let (reports, mut reported) = mpsc::channel(16);
        for &index in checks {
            let Some(check) = task.spec.checks.get(index) else {
                continue;
            };
            let check = check.clone().in_sandbox(&place.sandbox);
            task.checks.push(worker::start(
                index,
                check,
                surroundings.clone(),
                task.started,
                reports.clone(),
            ));
        }
        let (facts, id, instance) = (self.facts.clone(), id.clone(), task.instance);
        tokio::spawn(async move {
            while let Some(report) = reported.recv().await {
                let fact = Fact { id: id.clone(), instance, what: What::Report(report) };
                if facts.send(fact).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn publish(&mut self, status: &Status) {
        let spec = self.supervisor.task(&status.id).map(|task| &*task.spec);
        let wire = self.publisher.publish(status, spec);
        let understood = status.state != TaskState::Killing || self.understands == Understands::All;
        if understood && self.session.updates().send(wire).await.is_err() {
            tracing::error!(task = %status.id, "the session with the agent has ended");
        }
        // The agent hears of it before the log does.
        tokio::task::yield_now().await;
        tracing::info!(
            task = %status.id,
            state = %status.state,
            cause = status.message.as_deref(),
            reason = status.reason.map(tracing::field::display),
            healthy = status.healthy,
            ready = status.ready,
            restarts = status.restarts,
            "update"
        );
    }

    fn release(&mut self, id: &TaskId) {
        let Some(task) = self.tasks.remove(id) else { return };
        let (workplace, id, mode) = (self.workplace.clone(), id.clone(), task.spec.kill_mode);
        let outputs = workplace.outputs.find(&id);
        self.clearing.spawn(async move {
            workplace.clear_task(id, mode).await;
            for job in task.work.into_iter().chain(task.signalling) {
                let _ = job.await;
            }
            if let Some(outputs) = outputs {
                outputs.end();
            }
        });
        while self.clearing.try_join_next().is_some() {}
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
