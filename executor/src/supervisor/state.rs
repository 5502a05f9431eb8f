//! All tasks of the executor: launches, dependencies, groups, the order of stopping, idleness.
//!
//! ```text
//!  Launch -> tasks (Pending) -> those whose dependencies are ready start
//!  a task ends -> its group ends, if it was essential and did not finish
//!  Shutdown, or the end of a group -> tasks end in the reverse order of their dependencies
//!  no task left, nothing to acknowledge -> idle -> Exit
//! ```

#[cfg(test)]
mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mesos::common::{Reason, TaskId, TaskState};

use super::kill::{Begin, KillCause};
use super::task::{Group, State, Task};
use super::{Effect, Event, ExitCause, Launched, Moment, Status, policy};
use crate::spec::{SpecError, TaskName, TaskSpec, check_group};

/// The state of the executor: a function of the events it was given, in order.
#[derive(Debug)]
pub struct Supervisor {
    tasks: BTreeMap<TaskId, Task>,
    /// The latest task of each name ever launched.
    names: BTreeMap<TaskName, TaskId>,
    launches: u64,
    outstanding: usize,
    life: Life,
    idle_timeout: Duration,
    random: fastrand::Rng,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    Idle { until: Moment },
    Stopping { deadline: Moment },
    Forcing,
    Over,
}

impl Supervisor {
    /// An executor without tasks. `seed` makes the jitter of restarts.
    pub fn new(idle_timeout: Duration, seed: u64) -> Self {
        Self {
            tasks: BTreeMap::new(),
            names: BTreeMap::new(),
            launches: 0,
            outstanding: 0,
            // It may never get a task.
            life: Life::Idle { until: Moment::default().after(idle_timeout) },
            idle_timeout,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes one event; says what is to be done, in order.
    pub fn handle(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Launch(launched) => self.launch(launched, &mut effects),
            Event::Kill { id, grace } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    let grace = grace.unwrap_or(task.spec.grace_period);
                    task.kill(KillCause::Requested, grace, Begin::Now, now, &mut effects);
                }
                self.shorten_kills(now, &mut effects);
            }
            Event::Shutdown { within } => self.shutdown(within, now, &mut effects),
            Event::Outstanding(count) => self.outstanding = count,
            Event::Process { id, instance, event } => {
                if let Some(task) = self.tasks.get_mut(&id) {
                    task.process(instance, event, now, &mut effects);
                }
            }
            Event::Tick => {}
        }
        self.settle(now, &mut effects);
        self.outstanding += effects.iter().filter(|effect| matches!(effect, Effect::Publish(_))).count();
        effects
    }

    /// The next moment at which a `Tick` has something to do.
    pub fn deadline(&self) -> Option<Moment> {
        let own = match self.life {
            Life::Idle { until } => Some(until),
            Life::Stopping { deadline } => Some(deadline),
            Life::Serving | Life::Forcing | Life::Over => None,
        };
        self.tasks.values().filter_map(Task::deadline).chain(own).min()
    }

    /// The task of this id.
    pub fn task(&self, id: &TaskId) -> Option<&Task> {
        self.tasks.get(id)
    }

    /// Every task of this executor's life that is still known.
    pub fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values()
    }

    fn launch(&mut self, launched: Vec<Launched>, effects: &mut Vec<Effect>) {
        let launched: Vec<Launched> =
            launched.into_iter().filter(|one| !self.tasks.contains_key(one.id())).collect();
        if matches!(self.life, Life::Stopping { .. } | Life::Forcing | Life::Over) {
            let refusal = "the executor shuts down";
            return launched
                .iter()
                .for_each(|one| effects.push(refused(one.id(), TaskState::Killed, None, refusal)));
        }
        self.launches += 1;
        let mut specs = Vec::new();
        let mut errors: Vec<(TaskId, TaskName, SpecError)> = Vec::new();
        for one in launched {
            match one {
                Launched::Valid(spec) => specs.push(*spec),
                Launched::Invalid { id, name, error } => errors.push((id, name, error)),
            }
        }
        if errors.is_empty() {
            let found = check_group(&specs, &self.living_specs(), &self.names.keys().cloned().collect());
            errors.extend(
                found
                    .into_iter()
                    .map(|(index, error)| (specs[index].id.clone(), specs[index].name.clone(), error)),
            );
        }
        // A task is told its first error only: it ends once.
        let mut told = BTreeSet::new();
        errors.retain(|(id, ..)| told.insert(id.clone()));
        match errors.first() {
            None => specs.into_iter().for_each(|spec| self.add(spec, effects)),
            Some((_, name, _)) => refuse_group(name, &specs, &errors, effects),
        }
    }

    fn living_specs(&self) -> Vec<&TaskSpec> {
        self.tasks.values().filter(|task| task.is_living()).map(|task| &*task.spec).collect()
    }

    fn add(&mut self, spec: TaskSpec, effects: &mut Vec<Effect>) {
        let id = spec.id.clone();
        self.names.insert(spec.name.clone(), id.clone());
        self.tasks.insert(id, Task::new(spec, Group(self.launches), self.random.u64(..), effects));
    }

    fn shutdown(&mut self, within: Duration, now: Moment, effects: &mut Vec<Effect>) {
        let deadline = now.after(within);
        self.life = match self.life {
            Life::Over | Life::Forcing => self.life,
            Life::Stopping { deadline: earlier } => Life::Stopping { deadline: earlier.min(deadline) },
            Life::Serving | Life::Idle { .. } => Life::Stopping { deadline },
        };
        for task in self.tasks.values_mut() {
            task.kill(KillCause::Shutdown, task.spec.grace_period, Begin::AfterDependents, now, effects);
        }
        self.shorten_kills(now, effects);
    }

    /// While everything ends, a kill that is under way has no more time than one that begins now.
    fn shorten_kills(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let Life::Stopping { deadline } = self.life else { return };
        let asked: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| task.deadline().is_some())
            .map(|(id, _)| id.clone())
            .collect();
        let tiers = if asked.is_empty() { BTreeMap::new() } else { self.tiers() };
        for id in asked {
            let tiers = tiers.get(&id).copied().unwrap_or(0);
            if let Some(task) = self.tasks.get_mut(&id) {
                let most = policy::shutdown_grace(Duration::MAX, deadline.since(now), tiers);
                task.shorten_kill(now.after(most), now, effects);
            }
        }
    }

    /// Brings everything that follows from the last event to its end.
    fn settle(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        self.tasks.values_mut().for_each(|task| task.tick(now, effects));
        self.end_groups(now, effects);
        self.proceed_with_kills(now, effects);
        self.start_ready(now, effects);
        self.consider_exit(now, effects);
        if self.outstanding == 0 && effects.is_empty() {
            // The agent knows that they ended.
            self.tasks.retain(|_, task| task.is_living());
        }
    }

    fn end_groups(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let ended: BTreeMap<Group, (TaskName, TaskState)> = self
            .tasks
            .values()
            .filter_map(|task| task.ends_group().map(|state| (task.group, (task.spec.name.clone(), state))))
            .collect();
        for task in self.tasks.values_mut().filter(|task| task.is_living()) {
            if let Some((name, state)) = ended.get(&task.group)
                && !task.is_asked_to_end()
            {
                let cause = KillCause::Sibling { name: name.clone(), state: *state };
                task.kill(cause, task.spec.grace_period, Begin::AfterDependents, now, effects);
            }
        }
    }

    /// Lets the kills go on that waited for dependents, as these end; on shutdown with a part of the time that is left.
    fn proceed_with_kills(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let waiting = self.tasks.iter().filter(|(_, task)| task.waits_to_be_killed());
        let waiting: Vec<TaskId> = waiting.map(|(id, _)| id.clone()).collect();
        if !waiting.is_empty() {
            let needed = self.needed_by_the_ending();
            let left = match self.life {
                Life::Stopping { deadline } => Some((deadline.since(now), self.tiers())),
                Life::Serving | Life::Idle { .. } | Life::Forcing | Life::Over => None,
            };
            for id in waiting.iter().filter(|id| !needed.contains(*id)) {
                let Some(task) = self.tasks.get_mut(id) else {
                    continue;
                };
                let own = task.spec.grace_period;
                let grace = left.as_ref().map_or(own, |(left, tiers)| {
                    policy::shutdown_grace(own, *left, tiers.get(id).copied().unwrap_or(0))
                });
                task.release_kill(grace, now, effects);
            }
        }
        if matches!(self.life, Life::Stopping { deadline } if deadline <= now) {
            self.life = Life::Forcing;
            for task in self.tasks.values_mut() {
                task.release_kill(Duration::ZERO, now, effects);
            }
        }
    }

    /// The tasks that others depend on which are being ended themselves. Those that live on are waited for by nobody:
    /// nothing says that they ever end.
    fn needed_by_the_ending(&self) -> BTreeSet<TaskId> {
        let ending = self.tasks.values().filter(|task| matches!(task.state, State::Killing(_)));
        let names = ending.flat_map(|task| &task.spec.depends_on);
        names.filter_map(|name| self.names.get(name)).cloned().collect()
    }

    /// Of each living task, how many living tasks one behind the other it depends on, by the longest way.
    fn tiers(&self) -> BTreeMap<TaskId, u32> {
        let mut tiers: BTreeMap<TaskId, u32> = BTreeMap::new();
        for task in self.tasks.values().filter(|task| task.is_living()) {
            let mut way = vec![(task, self.living_dependencies(task))];
            while let Some((task, below)) = way.last_mut() {
                let task: &Task = task;
                match below.pop() {
                    Some(next) if !tiers.contains_key(&next.spec.id) => {
                        // What is on the way already would be a cycle: no launch makes one, and none may hang here.
                        if way.iter().all(|(on_way, _)| on_way.spec.id != next.spec.id) {
                            way.push((next, self.living_dependencies(next)));
                        }
                    }
                    Some(_) => {}
                    None => {
                        let below = self.living_dependencies(task);
                        let deepest = below.iter().filter_map(|one| tiers.get(&one.spec.id)).max();
                        let own = deepest.map_or(0, |deepest| deepest + 1);
                        tiers.insert(task.spec.id.clone(), own);
                        way.pop();
                    }
                }
            }
        }
        tiers
    }

    fn living_dependencies(&self, task: &Task) -> Vec<&Task> {
        task.spec.depends_on.iter().filter_map(|name| self.named(name)).collect()
    }

    fn start_ready(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let pending: Vec<TaskId> = self
            .tasks
            .iter()
            .filter(|(_, task)| matches!(task.state, State::Pending { .. }))
            .map(|(id, _)| id.clone())
            .collect();
        for id in pending {
            let Some(depends_on) = self.tasks.get(&id).map(|task| task.spec.depends_on.clone()) else {
                continue;
            };
            let dependencies: Vec<Option<&Task>> = depends_on.iter().map(|name| self.named(name)).collect();
            let ended = dependencies.iter().any(Option::is_none);
            let ready = dependencies.iter().all(|task| task.is_some_and(Task::is_ready));
            let Some(task) = self.tasks.get_mut(&id) else {
                continue;
            };
            match ready {
                true => task.start(now, effects),
                false => task.await_ended(ended, now),
            }
        }
    }

    /// The living task of this name.
    fn named(&self, name: &TaskName) -> Option<&Task> {
        self.names.get(name).and_then(|id| self.tasks.get(id)).filter(|task| task.is_living())
    }

    fn consider_exit(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        let busy = self.tasks.values().any(Task::is_living);
        self.life = match self.life {
            Life::Stopping { .. } | Life::Forcing if !busy => {
                effects.push(Effect::Exit(ExitCause::Shutdown));
                Life::Over
            }
            Life::Idle { until } if !busy && self.outstanding == 0 && until <= now => {
                effects.push(Effect::Exit(ExitCause::Idle));
                Life::Over
            }
            Life::Serving if !busy && self.outstanding == 0 => {
                Life::Idle { until: now.after(self.idle_timeout) }
            }
            Life::Idle { .. } if busy || self.outstanding > 0 => Life::Serving,
            unchanged => unchanged,
        };
    }
}

/// One wrong task makes its whole group wrong, as for the master.
fn refuse_group(
    first: &TaskName,
    valid: &[TaskSpec],
    errors: &[(TaskId, TaskName, SpecError)],
    effects: &mut Vec<Effect>,
) {
    for (id, _, error) in errors {
        effects.push(refused(id, TaskState::Error, Some(Reason::TaskInvalid), &error.to_string()));
    }
    for spec in valid.iter().filter(|spec| errors.iter().all(|(id, ..)| *id != spec.id)) {
        let message = format!("task {first} of its group is invalid");
        effects.push(refused(&spec.id, TaskState::Error, Some(Reason::TaskGroupInvalid), &message));
    }
}

fn refused(id: &TaskId, state: TaskState, reason: Option<Reason>, message: &str) -> Effect {
    Effect::Publish(Status {
        id: id.clone(),
        state,
        reason,
        message: Some(message.to_owned()),
        healthy: None,
        reported: None,
        ready: None,
        restarts: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::super::table::a_task;
    use super::super::{Exit, ExitStatus, Instance, ProcessEvent};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn running(supervisor: &mut Supervisor, tasks: Vec<TaskSpec>, now: Moment) {
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id.clone()).collect();
        supervisor.handle(
            Event::Launch(tasks.into_iter().map(|task| Launched::Valid(Box::new(task))).collect()),
            now,
        );
        for id in ids {
            let event = ProcessEvent::Started;
            supervisor.handle(Event::Process { id, instance: Instance(1), event }, now);
        }
    }

    fn depending(id: &str, on: &[&str]) -> TaskSpec {
        let depends_on = on.iter().map(|name| TaskName((*name).to_owned())).collect();
        TaskSpec { depends_on, ..a_task(id, id) }
    }

    #[test]
    fn a_task_ends_with_its_group_though_one_of_another_group_that_depends_on_it_lives_on() {
        let mut supervisor = Supervisor::new(SECOND, 0);
        let now = Moment::default();
        running(&mut supervisor, vec![a_task("base", "base"), a_task("crash", "crash")], now);
        running(&mut supervisor, vec![depending("app", &["base"])], now);
        let exit = Exit { status: ExitStatus::Code(1), out_of_memory: None };
        let event = ProcessEvent::Exited(exit);
        let effects =
            supervisor.handle(Event::Process { id: TaskId::new("crash"), instance: Instance(1), event }, now);
        assert!(effects.contains(&Effect::Terminate { id: TaskId::new("base") }), "{effects:?}");
        assert_eq!(supervisor.task(&TaskId::new("app")).unwrap().state, State::Running);
    }

    #[test]
    fn a_task_that_ends_with_its_group_still_waits_for_those_of_it_that_depend_on_it() {
        let mut supervisor = Supervisor::new(SECOND, 0);
        let now = Moment::default();
        let tasks = vec![a_task("base", "base"), depending("app", &["base"]), a_task("crash", "crash")];
        running(&mut supervisor, tasks, now);
        let ended = |id: &str| {
            let event = ProcessEvent::Exited(Exit { status: ExitStatus::Code(1), out_of_memory: None });
            Event::Process { id: TaskId::new(id), instance: Instance(1), event }
        };
        let effects = supervisor.handle(ended("crash"), now);
        assert!(effects.contains(&Effect::Terminate { id: TaskId::new("app") }), "{effects:?}");
        assert!(!effects.contains(&Effect::Terminate { id: TaskId::new("base") }), "{effects:?}");
        let effects = supervisor.handle(ended("app"), now);
        assert!(effects.contains(&Effect::Terminate { id: TaskId::new("base") }), "{effects:?}");
    }

    #[test]
    fn the_tiers_below_a_task_are_counted_by_the_longest_way() {
        let mut supervisor = Supervisor::new(SECOND, 0);
        let tasks = vec![depending("a", &["b", "c"]), depending("b", &[]), depending("c", &["b"])];
        running(&mut supervisor, tasks, Moment::default());
        let tiers: Vec<u32> = supervisor.tiers().into_values().collect();
        assert_eq!(tiers, [2, 0, 1]);
    }

    #[test]
    fn the_tiers_of_a_long_chain_with_many_ways_are_counted_once_each() {
        let mut supervisor = Supervisor::new(SECOND, 0);
        let name = |number: u32| format!("t{number:04}");
        let tasks = (0..2000_u32)
            .map(|number| {
                let below: Vec<String> =
                    (1..=2).filter_map(|back| number.checked_sub(back)).map(name).collect();
                depending(&name(number), &below.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .collect();
        let launched = |tasks: Vec<TaskSpec>| {
            Event::Launch(tasks.into_iter().map(|task| Launched::Valid(Box::new(task))).collect())
        };
        supervisor.handle(launched(tasks), Moment::default());
        assert_eq!(supervisor.tiers().into_values().collect::<Vec<_>>(), (0..2000).collect::<Vec<_>>());
    }

    #[test]
    fn a_shutdown_shortens_a_kill_under_way_so_that_what_it_depends_on_has_its_own_time() {
        let mut supervisor = Supervisor::new(SECOND, 0);
        let below = a_task("below", "below");
        let mut above = a_task("above", "above");
        above.depends_on = vec![below.name.clone()];
        above.grace_period = 60 * SECOND;
        let now = Moment::default();
        supervisor
            .handle(Event::Launch([below, above].map(|spec| Launched::Valid(Box::new(spec))).into()), now);
        for id in ["below", "above"] {
            let event = ProcessEvent::Started;
            supervisor.handle(Event::Process { id: TaskId::new(id), instance: Instance(1), event }, now);
        }
        supervisor.handle(Event::Kill { id: TaskId::new("above"), grace: None }, now);
        assert_eq!(supervisor.deadline(), Some(now.after(60 * SECOND)));
        supervisor.handle(Event::Shutdown { within: 4 * SECOND }, now);
        assert_eq!(
            supervisor.deadline(),
            Some(now.after(2 * SECOND)),
            "half of the time is for the one below"
        );
    }
}
