//! Which tasks this executor has received in its life.

use std::collections::{HashSet, VecDeque};

use mesos::common::TaskId;

/// So many tasks are remembered after their end. No agent repeats a launch over so many others.
const REMEMBERED: usize = 4096;

/// The ids of all tasks that have not ended, and of the last [`REMEMBERED`] that have.
#[derive(Debug, Default)]
pub(super) struct KnownTasks {
    known: HashSet<TaskId>,
    ended: VecDeque<TaskId>,
}

impl KnownTasks {
    /// Takes in a task; `false` when it is known already.
    pub(super) fn learn(&mut self, task_id: &TaskId) -> bool {
        self.known.insert(task_id.clone())
    }

    /// Whether a task was received and is not forgotten.
    pub(super) fn knows(&self, task_id: &TaskId) -> bool {
        self.known.contains(task_id)
    }

    /// A task's end was reported. Call it once for each.
    pub(super) fn ended(&mut self, task_id: TaskId) {
        self.ended.push_back(task_id);
        if self.ended.len() > REMEMBERED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_lives_is_never_forgotten_and_one_that_ended_is_at_last() {
        let mut known = KnownTasks::default();
        let (living, ended) = (TaskId::new("living"), TaskId::new("ended"));
        assert!(known.learn(&living) && known.learn(&ended));
        known.ended(ended.clone());
        assert!(!known.learn(&ended));
        for number in 0..REMEMBERED {
            let task_id = TaskId::new(number.to_string());
            known.learn(&task_id);
            known.ended(task_id);
        }
        assert!(known.knows(&living) && !known.knows(&ended));
        assert_eq!(known.known.len(), REMEMBERED + 1);
    }
}
