//! Tasks as the control socket shows them.
//!
//! A task that has ended, and of whose end the agent knows, stays until a task of its name is launched, or until there are
//! too many such.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesos::common::TaskId;
use task::control::{End, LastEnd, Task};

use crate::process::workplace;
use crate::spec::TaskSpec;
use crate::supervisor::{Exit, ExitStatus, Status};

/// How many tasks are shown that have ended and been acknowledged.
const ENDED: usize = 64;

/// Tasks as the control socket shows them. A task is never changed: it is replaced.
#[derive(Debug, Default)]
pub struct Shown {
    tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Those of the above that have ended and been acknowledged, the oldest first.
    ended: VecDeque<TaskId>,
}

impl Shown {
    /// All tasks.
    pub fn tasks(&self) -> &BTreeMap<TaskId, Arc<Task>> {
        &self.tasks
    }

    pub(super) fn publish(&mut self, status: &Status, spec: Option<&TaskSpec>, executors: &Path, now: u64) {
        if !self.tasks.contains_key(&status.id) {
            let task = launched(status, spec, executors, now);
            self.drop_ended(|ended| ended.name == task.name);
            self.tasks.insert(status.id.clone(), Arc::new(task));
        }
        self.change(&status.id, |task| {
            if task.state != status.state.into() {
                (task.state, task.since) = (status.state.into(), now);
            }
            (task.healthy, task.ready) = (status.healthy, status.ready);
            task.restarts = status.restarts;
            task.reason = status.reason.map(|reason| reason.as_str().to_owned());
            task.message.clone_from(&status.message);
            if status.state.is_terminal() {
                task.pid = None;
            }
        });
    }

    pub(super) fn started(&mut self, id: &TaskId, pid: Option<i32>, now: u64) {
        self.change(id, |task| {
            task.pid = pid.and_then(|pid| u32::try_from(pid).ok());
            task.started_at = Some(now);
        });
    }

    pub(super) fn exited(&mut self, id: &TaskId, exit: &Exit, now: u64) {
        self.change(id, |task| {
            task.pid = None;
            task.last_end = Some(LastEnd {
                end: end_of(exit.status),
                at: now,
                started_at: task.started_at,
                out_of_memory: exit.out_of_memory.is_some(),
            });
        });
    }

    pub(super) fn forget(&mut self, id: &TaskId) {
        let Some(name) = self.tasks.get(id).map(|task| task.name.clone()) else { return };
        if self.ended.contains(id) {
            return;
        }
        // Of those of one name, the latest; and none where one lives.
        self.drop_ended(|ended| ended.name == name);
        if self.tasks.values().any(|task| task.name == name && task.id != *id) {
            self.tasks.remove(id);
            return;
        }
        self.ended.push_back(id.clone());
        if self.ended.len() > ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.tasks.remove(&oldest);
        }
    }

    fn change(&mut self, id: &TaskId, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.tasks.get_mut(id) {
            change(Arc::make_mut(task));
        }
    }

    fn drop_ended(&mut self, which: impl Fn(&Task) -> bool) {
        let Self { tasks, ended } = self;
        ended.retain(|id| {
            let goes = tasks.get(id).is_none_or(|task| which(task));
            if goes {
                tasks.remove(id);
            }
            !goes
        });
    }
}

/// A task as it is shown first. Of one that cannot be run, little is known.
fn launched(status: &Status, spec: Option<&TaskSpec>, executors: &Path, now: u64) -> Task {
    Task {
        id: status.id.clone(),
        name: spec.map_or_else(|| status.id.value.clone(), |spec| spec.name.0.clone()),
        state: status.state.into(),
        since: now,
        launched_at: now,
        started_at: None,
        last_end: None,
        healthy: None,
        ready: None,
        restarts: 0,
        reason: None,
        message: None,
        pid: None,
        user: spec.and_then(|spec| spec.identity.user.clone()),
        command: spec.map(|spec| spec.command.arguments.clone()).unwrap_or_default(),
        terminal: spec.is_some_and(|spec| spec.terminal.is_some()),
        resources: spec.map(|spec| spec.resources.clone()).unwrap_or_default(),
        sandbox: workplace::sandbox(executors, &status.id).to_string_lossy().into_owned(),
        usage: None,
    }
}

/// How a process ended; `None` if its pod's init died with it.
pub fn end_of(status: ExitStatus) -> Option<End> {
    match status {
        ExitStatus::Code(code) => Some(End::Code(code)),
        ExitStatus::Signal { number, .. } => Some(End::Signal(number)),
        ExitStatus::PodEnded => None,
    }
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}

pub(super) fn milliseconds(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::table::a_task;
    use mesos::common::TaskState;

    fn status(id: &str, state: TaskState) -> Status {
        Status {
            id: TaskId::new(id),
            state,
            reason: None,
            message: None,
            healthy: None,
            reported: None,
            ready: None,
            restarts: 0,
        }
    }

    fn run(shown: &mut Shown, id: &str, name: &str) {
        shown.publish(&status(id, TaskState::Running), Some(&a_task(id, name)), Path::new("/x"), 1);
    }

    fn end(shown: &mut Shown, id: &str) {
        shown.publish(&status(id, TaskState::Finished), None, Path::new("/x"), 2);
        shown.forget(&TaskId::new(id));
    }

    fn ids(shown: &Shown) -> Vec<&str> {
        shown.tasks().keys().map(TaskId::as_str).collect()
    }

    #[test]
    fn since_is_when_the_state_began_and_the_last_end_stays_over_a_restart() {
        let (mut shown, id) = (Shown::default(), TaskId::new("a1"));
        shown.publish(&status("a1", TaskState::Starting), Some(&a_task("a1", "a")), Path::new("/x"), 1);
        shown.started(&id, Some(77), 2);
        shown.publish(&status("a1", TaskState::Running), None, Path::new("/x"), 3);
        shown.publish(&status("a1", TaskState::Running), None, Path::new("/x"), 4);
        let task = shown.tasks()[&id].clone();
        assert_eq!((task.launched_at, task.started_at, task.since, task.pid), (1, Some(2), 3, Some(77)));
        assert_eq!((task.name.as_str(), task.sandbox.as_str()), ("a", "/x/tasks/a1"));
        let status = ExitStatus::Signal { number: 9, core: false };
        shown.exited(&id, &Exit { status, out_of_memory: Some(1) }, 5);
        shown.started(&id, Some(78), 6);
        let task = &shown.tasks()[&id];
        let last = LastEnd { end: Some(End::Signal(9)), at: 5, started_at: Some(2), out_of_memory: true };
        assert_eq!((task.last_end, task.started_at, task.pid), (Some(last), Some(6), Some(78)));
    }

    #[test]
    fn an_ended_task_stays_until_one_of_its_name_is_launched() {
        let mut shown = Shown::default();
        run(&mut shown, "a1", "a");
        end(&mut shown, "a1");
        assert_eq!(ids(&shown), ["a1"]);
        run(&mut shown, "a2", "a");
        assert_eq!(ids(&shown), ["a2"]);
    }

    #[test]
    fn of_ended_tasks_of_one_name_the_latest_is_shown_and_64_in_all() {
        let mut shown = Shown::default();
        run(&mut shown, "a1", "a");
        run(&mut shown, "a2", "a");
        end(&mut shown, "a1");
        assert_eq!(ids(&shown), ["a2"]);
        end(&mut shown, "a2");
        for number in 0..100 {
            run(&mut shown, &format!("b{number}"), &format!("b{number}"));
            end(&mut shown, &format!("b{number}"));
        }
        assert_eq!(ids(&shown).len(), ENDED);
        assert!(ids(&shown).contains(&"b99") && !ids(&shown).contains(&"a2"));
    }
}
