//! Rules that hold over every sequence of events: random tasks, random events, a model world that answers the effects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::common::{CheckType, TaskId, TaskState};
use proptest::prelude::*;

use super::state::Supervisor;
use super::*;
use crate::health::{Observed, Report, Verdict};
use crate::spec::field::Field;
use crate::spec::{Backoff, CheckRole, Essential, RestartPolicy};
use crate::supervisor::table::{a_check, a_task};

/// How a process ends that was told to.
const KILLED: Exit = Exit { status: ExitStatus::Signal { number: 9, core: false }, out_of_memory: None };

/// What the world does next.
#[derive(Debug, Clone)]
enum Step {
    Launch(Vec<Shape>),
    Started(usize),
    StartFailed(usize),
    Exited(usize, Exit),
    OutOfMemory(usize),
    Check(usize, usize, Verdict),
    Stale(usize),
    Kill(usize, Option<u64>),
    Shutdown(u64),
    Wait(u64),
    Outstanding(usize),
}

/// What a task is like.
#[derive(Debug, Clone)]
struct Shape {
    restart: u8,
    essential: bool,
    depends_on: Vec<usize>,
    roles: Vec<u8>,
    completion: Option<u64>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Valid,
    Invalid,
}

fn shape() -> impl Strategy<Value = Shape> {
    (
        0_u8..4,
        any::<bool>(),
        prop::collection::vec(0_usize..6, 0..3),
        prop::collection::vec(0_u8..4, 0..3),
        prop::option::weighted(0.2, 1_u64..5000),
        prop_oneof![30 => Just(Form::Valid), 1 => Just(Form::Invalid)],
    )
        .prop_map(|(restart, essential, depends_on, roles, completion, form)| Shape {
            restart,
            essential,
            depends_on,
            roles,
            completion,
            form,
        })
}

fn exit() -> impl Strategy<Value = Exit> {
    let status = prop_oneof![
        4 => (0..2_i32).prop_map(ExitStatus::Code),
        1 => Just(ExitStatus::Signal { number: 11, core: true }),
        1 => Just(ExitStatus::PodEnded),
    ];
    (status, prop::option::weighted(0.15, Just(1)))
        .prop_map(|(status, out_of_memory)| Exit { status, out_of_memory })
}

fn step() -> impl Strategy<Value = Step> {
    let task = 0_usize..6;
    let verdict = prop_oneof![
        4 => Just(Verdict::Pass),
        1 => Just(Verdict::Fail { message: "x".to_owned() }),
        1 => Just(Verdict::Fatal { message: "x".to_owned(), failures: 3 }),
        1 => Just(Verdict::Observed(Observed::Connected(true))),
    ];
    prop_oneof![
        3 => prop::collection::vec(shape(), 1..4).prop_map(Step::Launch),
        12 => task.clone().prop_map(Step::Started),
        1 => task.clone().prop_map(Step::StartFailed),
        4 => (task.clone(), exit()).prop_map(|(task, exit)| Step::Exited(task, exit)),
        1 => task.clone().prop_map(Step::OutOfMemory),
        8 => (task.clone(), 0_usize..3, verdict).prop_map(|(task, check, verdict)| Step::Check(task, check, verdict)),
        1 => task.clone().prop_map(Step::Stale),
        1 => (task, prop::option::of(0_u64..5000)).prop_map(|(task, grace)| Step::Kill(task, grace)),
        1 => (0_u64..5000).prop_map(Step::Shutdown),
        6 => (0_u64..3000).prop_map(Step::Wait),
        1 => (0_usize..2).prop_map(Step::Outstanding),
    ]
}

/// What the world knows of a task: only what effects have said.
#[derive(Debug)]
struct Seen {
    name: TaskName,
    depends_on: Vec<TaskName>,
    statuses: Vec<Status>,
    instance: Instance,
    process: Process,
    signal: Signal,
    /// The state of the last transition.
    at: Option<&'static str>,
    kill_wanted: bool,
    /// Nothing but the order of stopping decides when it is asked to end.
    stopped_in_order: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Process {
    None,
    Starting,
    Alive,
}

/// Whether its process was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    None,
    Sent,
}

#[derive(Debug)]
struct World {
    supervisor: Supervisor,
    now: Moment,
    tasks: BTreeMap<TaskId, Seen>,
    latest: BTreeMap<TaskName, TaskId>,
    exited: bool,
    shut_down_by: Option<Moment>,
}

impl World {
    fn new() -> Self {
        Self {
            supervisor: Supervisor::new(Duration::from_secs(300), 7),
            now: Moment::default(),
            tasks: BTreeMap::new(),
            latest: BTreeMap::new(),
            exited: false,
            shut_down_by: None,
        }
    }

    fn nth(&self, index: usize) -> Option<TaskId> {
        self.tasks.keys().rev().nth(index).cloned()
    }

    fn process(&mut self, id: &TaskId, event: ProcessEvent) {
        let instance = self.tasks[id].instance;
        self.send(Event::Process { id: id.clone(), instance, event });
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Launch(shapes) => self.launch(&shapes),
            Step::Started(index) => self.when(index, Process::Starting, |world, id| {
                world.tasks.get_mut(id).unwrap().process = Process::Alive;
                world.process(id, ProcessEvent::Started);
            }),
            Step::StartFailed(index) => self.when(index, Process::Starting, |world, id| {
                world.tasks.get_mut(id).unwrap().process = Process::None;
                world.process(id, ProcessEvent::StartFailed("x".to_owned()));
            }),
            Step::Exited(index, exit) => self.when(index, Process::Alive, |world, id| world.exit(id, exit)),
            Step::OutOfMemory(index) => self.when(index, Process::Alive, |world, id| {
                world.tasks.get_mut(id).unwrap().stopped_in_order = false;
                world.process(id, ProcessEvent::OutOfMemory { limit: 1 });
            }),
            Step::Check(index, check, verdict) => self.when(index, Process::Alive, |world, id| {
                let own_end = matches!(verdict, Verdict::Fatal { .. });
                world.tasks.get_mut(id).unwrap().stopped_in_order &= !own_end;
                world.process(id, ProcessEvent::Checked(Report { check, verdict }));
            }),
            Step::Stale(index) => {
                if let Some(id) = self.nth(index) {
                    let instance = Instance(self.tasks[&id].instance.0.wrapping_sub(1));
                    let event =
                        ProcessEvent::Exited(Exit { status: ExitStatus::Code(0), out_of_memory: None });
                    self.send(Event::Process { id, instance, event });
                }
            }
            Step::Kill(index, grace) => {
                if let Some(id) = self.nth(index) {
                    self.tasks.get_mut(&id).unwrap().kill_wanted |= self.is_living(&id);
                    self.tasks.get_mut(&id).unwrap().stopped_in_order = false;
                    self.send(Event::Kill { id, grace: grace.map(Duration::from_millis) });
                }
            }
            Step::Shutdown(within) => {
                let deadline = self.now.after(Duration::from_millis(within));
                self.shut_down_by = Some(self.shut_down_by.map_or(deadline, |earlier| earlier.min(deadline)));
                self.send(Event::Shutdown { within: Duration::from_millis(within) });
            }
            Step::Wait(milliseconds) => {
                self.now = self.now.after(Duration::from_millis(milliseconds));
                self.send(Event::Tick);
            }
            Step::Outstanding(count) => self.send(Event::Outstanding(count)),
        }
    }

    fn is_living(&self, id: &TaskId) -> bool {
        self.tasks[id].statuses.last().is_some_and(|last| !last.state.is_terminal())
    }

    fn exit(&mut self, id: &TaskId, exit: Exit) {
        self.tasks.get_mut(id).unwrap().process = Process::None;
        self.process(id, ProcessEvent::Exited(exit));
    }

    fn is_killing(&self, id: &TaskId) -> bool {
        self.tasks[id].statuses.last().is_some_and(|last| last.state == TaskState::Killing)
    }

    /// Time passes, starts succeed, and processes that were told to end do.
    fn goes_on(&mut self) {
        let ids: Vec<TaskId> = self.tasks.keys().cloned().collect();
        for id in &ids {
            let task = &self.tasks[id];
            match (task.process, task.signal) {
                (Process::Starting, _) => {
                    self.tasks.get_mut(id).unwrap().process = Process::Alive;
                    self.process(id, ProcessEvent::Started);
                }
                (Process::Alive, Signal::Sent) => self.exit(id, KILLED),
                _ => {}
            }
        }
        if !self.exited {
            self.take(Step::Wait(1000));
        }
    }

    fn when(&mut self, index: usize, process: Process, then: impl FnOnce(&mut Self, &TaskId)) {
        let those = self.tasks.iter().filter(|(_, task)| task.process == process).map(|(id, _)| id.clone());
        let those: Vec<TaskId> = those.collect();
        if let Some(id) = those.get(index % those.len().max(1)) {
            then(self, id);
        }
    }

    fn launch(&mut self, shapes: &[Shape]) {
        let first = self.tasks.len();
        let mut launched = Vec::new();
        for (offset, shape) in shapes.iter().enumerate() {
            let number = first + offset;
            let id = TaskId::new(format!("task-{number:04}"));
            let name = TaskName(format!("name-{}", number % 8));
            let depends_on: BTreeSet<TaskName> = shape
                .depends_on
                .iter()
                .filter(|&&back| back < number)
                .map(|back| TaskName(format!("name-{}", (number - 1 - back) % 8)))
                .filter(|other| *other != name)
                .collect();
            let mut spec = a_task(id.as_str(), &name.0);
            spec.depends_on = depends_on.iter().cloned().collect();
            spec.essential = if shape.essential { Essential::Yes } else { Essential::No };
            spec.max_completion = shape.completion.map(Duration::from_millis);
            let reported = CheckRole::Reported(CheckType::Tcp);
            let roles = [CheckRole::Startup, CheckRole::Readiness, CheckRole::Liveness, reported];
            spec.checks = shape.roles.iter().map(|role| a_check(roles[usize::from(*role)])).collect();
            let backoff = Backoff {
                delay: Duration::from_millis(100),
                max_delay: Duration::from_secs(1),
                stable: Duration::from_secs(2),
                limit: Some(3),
            };
            spec.restart = match shape.restart {
                0 | 1 => RestartPolicy::Never,
                2 => RestartPolicy::OnFailure(backoff),
                _ => RestartPolicy::Always(Backoff { delay: Duration::ZERO, ..backoff }),
            };
            let seen = Seen {
                name: name.clone(),
                depends_on: spec.depends_on.clone(),
                statuses: Vec::new(),
                instance: Instance(0),
                process: Process::None,
                signal: Signal::None,
                at: None,
                kill_wanted: false,
                stopped_in_order: shape.completion.is_none(),
            };
            self.tasks.insert(id.clone(), seen);
            let one = match shape.form {
                Form::Valid => Launched::Valid(Box::new(spec)),
                Form::Invalid => {
                    let error = Field::new("umask").error(9, "must be octal digits");
                    Launched::Invalid { id: id.clone(), name: name.clone(), error }
                }
            };
            launched.push((id, name, one));
        }
        let effects_before = self.latest.clone();
        for (id, name, _) in &launched {
            self.latest.insert(name.clone(), id.clone());
        }
        let ids: Vec<TaskId> = launched.iter().map(|(id, ..)| id.clone()).collect();
        self.send(Event::Launch(launched.into_iter().map(|(.., one)| one).collect()));
        // A refused launch changes no name.
        if ids.iter().all(|id| {
            self.tasks[id].statuses.first().is_some_and(|status| status.state != TaskState::Starting)
        }) {
            self.latest = effects_before;
        }
    }

    fn send(&mut self, event: Event) {
        let effects = self.supervisor.handle(event, self.now);
        for effect in effects {
            self.check(effect);
        }
    }

    fn check(&mut self, effect: Effect) {
        assert!(!self.exited, "nothing is done after the end: {effect:?}");
        match effect {
            Effect::Publish(status) => self.check_status(status),
            Effect::Start { id, instance } => {
                self.check_order_of_start(&id);
                let task = self.tasks.get_mut(&id).unwrap();
                assert_eq!(task.process, Process::None, "one process at a time");
                assert_eq!(instance.0, task.instance.0 + 1);
                (task.instance, task.process) = (instance, Process::Starting);
                task.signal = Signal::None;
            }
            Effect::Cancel { id } => assert_eq!(self.tasks[&id].process, Process::Starting),
            Effect::Terminate { id } => {
                assert_eq!(self.tasks[&id].process, Process::Alive, "no signal to a finished process");
                self.check_order_of_stop(&id);
                self.tasks.get_mut(&id).unwrap().signal = Signal::Sent;
            }
            Effect::Kill { id } => {
                let task = &self.tasks[&id];
                assert_eq!(task.process, Process::Alive, "no signal to a finished process");
                assert_eq!(task.signal, Signal::Sent, "SIGTERM comes first");
            }
            Effect::StartChecks { id, .. } => assert_eq!(self.tasks[&id].process, Process::Alive),
            Effect::StopChecks { .. } => {}
            Effect::Release { id } => assert_eq!(self.tasks[&id].process, Process::None),
            Effect::Exit(_) => self.exited = true,
            Effect::Moved(transition) => self.check_transition(transition),
        }
    }

    fn check_transition(&mut self, Transition { id, from, to, .. }: Transition) {
        let task = self.tasks.get_mut(&id).unwrap();
        assert_eq!(task.at, from, "{id} goes on from where it is, to {to}");
        assert_ne!(from, Some(to), "{id}: that is no transition");
        task.at = Some(to);
    }

    fn check_status(&mut self, status: Status) {
        let task = self.tasks.get_mut(&status.id).unwrap();
        let expected: &[Option<&str>] = match status.state {
            TaskState::Starting => &[Some("pending")],
            TaskState::Finished => &[Some("finished")],
            TaskState::Failed => &[Some("failed")],
            TaskState::Killed => &[Some("killed"), None],
            TaskState::Error => &[None],
            _ => &[Some("running"), Some("pending"), Some("backoff"), Some("starting"), Some("killing")],
        };
        assert!(expected.contains(&task.at), "{:?} is reported as {status:?}", task.at);
        if let Some(last) = task.statuses.last() {
            assert!(!last.state.is_terminal(), "a task ends once: {last:?} then {status:?}");
            let back = last.state == TaskState::Killing && !status.state.is_terminal();
            assert!(!back, "nothing but the end comes after KILLING: {status:?}");
            assert_ne!(status.state, TaskState::Starting, "STARTING comes first");
        }
        if task.kill_wanted && status.state.is_terminal() {
            assert_eq!(status.state, TaskState::Killed, "a kill wins: {:?}", status.message);
        }
        if status.state == TaskState::Finished {
            assert_eq!(task.process, Process::None);
        }
        task.statuses.push(status);
    }

    fn check_order_of_start(&self, id: &TaskId) {
        for name in &self.tasks[id].depends_on {
            let ready = self
                .latest
                .get(name)
                .and_then(|id| self.tasks[id].statuses.last())
                .and_then(|last| last.ready);
            assert_eq!(ready, Some(true), "{id} starts before {name} is ready");
        }
    }

    fn check_order_of_stop(&self, id: &TaskId) {
        let task = &self.tasks[id];
        let asked = task.statuses.iter().any(|status| {
            let message = status.message.as_deref().unwrap_or_default();
            status.state == TaskState::Killing
                && (message.contains("shuts down") || message.contains("of its group"))
        });
        let time_is_up = self.shut_down_by.is_some_and(|deadline| deadline <= self.now);
        if asked && task.stopped_in_order && !time_is_up {
            for (other, seen) in &self.tasks {
                let depends = seen.depends_on.contains(&task.name) && self.latest[&task.name] == *id;
                assert!(
                    !(depends && seen.process == Process::Alive && self.is_killing(other)),
                    "{id} ends before {other}, which depends on it"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn every_sequence_keeps_the_rules_and_a_shutdown_ends_it(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            if world.exited {
                break;
            }
            world.take(step);
        }
        if !world.exited {
            world.take(Step::Shutdown(3000));
        }
        for _ in 0..200 {
            if world.exited {
                break;
            }
            world.take(Step::Started(0));
            if !world.exited {
                world.take(Step::Wait(3000));
            }
            if !world.exited {
                world.when(0, Process::Alive, |world, id| world.exit(id, KILLED));
            }
        }
        prop_assert!(world.exited, "a shutdown ends the executor");
        for (id, task) in &world.tasks {
            let ends = task.statuses.iter().filter(|status| status.state.is_terminal()).count();
            prop_assert_eq!(ends, 1, "{} has one terminal status: {:?}", id, task.statuses);
        }
    }

    #[test]
    fn what_is_being_ended_ends_though_all_else_goes_on(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps.into_iter().filter(|step| !matches!(step, Step::Shutdown(_))) {
            world.take(step);
        }
        // Each round brings the ending one process further, by force if need be.
        for _ in 0..2 * world.tasks.len() + 10 {
            world.goes_on();
        }
        for (id, task) in &world.tasks {
            prop_assert!(!world.is_killing(id), "{} hangs: {:?}", id, task.statuses);
        }
    }
}
