//! What one caller sees of the inventory, and what changes in it: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use task::control::{Pod, Task};

use crate::inventory::{Inventory, PodView};

/// A pod with those of its tasks that the caller may see; at least one.
#[derive(Debug, Clone)]
pub struct View {
    /// The pod.
    pub pod: Arc<PodView>,
    /// Which of its tasks.
    tasks: Vec<usize>,
}

/// By namespace and name.
pub type Views = BTreeMap<(String, String), View>;

impl View {
    /// The tasks that the caller may see.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = &Task> {
        self.tasks.iter().filter_map(|index| self.pod.pod.tasks.get(*index))
    }

    fn is_as(&self, other: &Self) -> bool {
        let same = |view: &Self| (view.pod.revision, view.tasks.clone());
        same(self) == same(other) && self.is_same_pod(other)
    }

    fn is_same_pod(&self, other: &Self) -> bool {
        self.pod.pod.container_id == other.pod.pod.container_id
    }
}

/// What somebody sees who may see what `allowed` says. Of two pods with one name, the one that started last is meant.
pub fn visible(inventory: &Inventory, allowed: impl Fn(&Pod, &Task) -> bool) -> Views {
    let mut views = Views::new();
    for pod in inventory.pods.values() {
        let tasks = pod.pod.tasks.iter().enumerate().filter(|(_, task)| allowed(&pod.pod, task));
        let view = View { pod: Arc::clone(pod), tasks: tasks.map(|(index, _)| index).collect() };
        let key = (pod.pod.framework.clone(), pod.pod.name.clone());
        let newer = views.get(&key).is_none_or(|other| other.pod.pod.started_at <= pod.pod.started_at);
        if !view.tasks.is_empty() && newer {
            views.insert(key, view);
        }
    }
    views
}

/// The kinds of changes, in the words of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is there.
    Added,
    /// It is otherwise.
    Modified,
    /// It was there last so.
    Deleted,
}

impl Kind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// What leads from `before` to `after`, deletions first.
pub fn diff<'a>(before: &'a Views, after: &'a Views) -> Vec<(Kind, &'a View)> {
    let gone = before.iter().filter(|(key, old)| after.get(*key).is_none_or(|new| !new.is_same_pod(old)));
    let mut changes: Vec<_> = gone.map(|(_, view)| (Kind::Deleted, view)).collect();
    for (key, new) in after {
        match before.get(key) {
            Some(old) if old.is_as(new) => {}
            Some(old) if old.is_same_pod(new) => changes.push((Kind::Modified, new)),
            _ => changes.push((Kind::Added, new)),
        }
    }
    changes
}

/// A task's name as a container of its pod: without the leading `<pod>-`.
pub fn container_name<'a>(pod: &str, task: &'a str) -> &'a str {
    task.strip_prefix(pod)
        .and_then(|rest| rest.strip_prefix('-'))
        .filter(|rest| !rest.is_empty())
        .unwrap_or(task)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::kubernetes::fixtures::{inventory, pod, task};
    use proptest::prelude::*;

    #[test]
    fn a_container_is_called_as_its_task_without_the_pods_name() {
        assert_eq!(container_name("etcd-0", "etcd-0-peer"), "peer");
        assert_eq!(container_name("etcd-0", "etcd-0"), "etcd-0");
        assert_eq!(container_name("etcd-0", "etcd-0-"), "etcd-0-");
        assert_eq!(container_name("etcd-0", "etcd-01-peer"), "etcd-01-peer");
    }

    #[test]
    fn a_pod_without_visible_tasks_is_not_there_and_the_newer_of_one_name_is() {
        let older = pod("etcd-0", vec![task("etcd-0-peer")]);
        let mut newer = pod("etcd-0", vec![task("etcd-0-peer")]);
        (newer.container_id, newer.started_at) = ("c-new".into(), older.started_at + 1);
        let inventory = inventory(7, vec![older, newer, pod("hidden-0", vec![task("hidden-0-x")])]);
        let views = visible(&inventory, |pod, _| pod.name != "hidden-0");
        assert_eq!(views.len(), 1);
        assert_eq!(views.values().next().unwrap().pod.pod.container_id, "c-new");
    }

    #[test]
    fn another_pod_of_the_same_name_is_a_deletion_and_an_addition() {
        let mut other = pod("etcd-0", vec![task("etcd-0-peer")]);
        other.container_id = "other".into();
        let before = visible(&inventory(1, vec![pod("etcd-0", vec![task("etcd-0-peer")])]), |_, _| true);
        let after = visible(&inventory(2, vec![other]), |_, _| true);
        let kinds: Vec<_> = diff(&before, &after).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::Deleted, Kind::Added]);
    }

    proptest! {
        #[test]
        fn the_changes_applied_to_what_was_give_what_is(
            before in prop::collection::btree_map(0_u8..8, (0_u64..4, 0_u8..3), 0..8),
            after in prop::collection::btree_map(0_u8..8, (0_u64..4, 0_u8..3), 0..8),
        ) {
            let views = |all: &std::collections::BTreeMap<u8, (u64, u8)>| {
                let pods = all.iter().map(|(name, (revision, id))| {
                    let mut pod = pod(&format!("pod-{name}"), vec![task("a")]);
                    pod.container_id = format!("{name}.{id}");
                    (*revision, pod)
                });
                let mut all = Inventory::default();
                for (revision, pod) in pods {
                    let key = (pod.framework_id.clone(), pod.container_id.clone());
                    all.pods.insert(key, Arc::new(PodView { socket: "/s".into(), pod, revision }));
                }
                visible(&all, |_, _| true)
            };
            let (before, after) = (views(&before), views(&after));
            let mut state = before.clone();
            for (kind, view) in diff(&before, &after) {
                let key = (view.pod.pod.framework.clone(), view.pod.pod.name.clone());
                let was = match kind {
                    Kind::Deleted => state.remove(&key),
                    Kind::Added | Kind::Modified => state.insert(key, view.clone()),
                };
                prop_assert_eq!(was.is_some(), kind != Kind::Added);
            }
            prop_assert!(state.keys().eq(after.keys()));
            prop_assert!(state.values().zip(after.values()).all(|(one, other)| one.is_as(other)));
        }
    }
}
