//! What tasks launched together must fulfil as a group.

use std::collections::{BTreeMap, BTreeSet};

use super::field::Field;
use super::{SpecError, TaskName, TaskSpec};

/// Checks tasks that are launched together: every dependency exists in this launch or is in `known`, none waits for
/// itself over others (those of this executor that are `living` included), no name is there twice. Returns the wrong
/// ones by their index in `launch`, in order.
pub fn check_group(
    launch: &[TaskSpec],
    living: &[&TaskSpec],
    known: &BTreeSet<TaskName>,
) -> Vec<(usize, SpecError)> {
    let mut errors = Vec::new();
    let mut by_name = BTreeMap::new();
    for (index, task) in launch.iter().enumerate() {
        if let Some(first) = by_name.get(&task.name) {
            errors.push((index, duplicate(task, &launch[*first])));
        } else {
            by_name.insert(&task.name, index);
        }
    }
    for (index, task) in launch.iter().enumerate() {
        let unknown = task
            .depends_on
            .iter()
            .enumerate()
            .filter(|(_, name)| !by_name.contains_key(name) && !known.contains(name));
        errors.extend(unknown.map(|(position, name)| {
            let field = Field::new("data.depends_on").index(position);
            (index, field.error(&name.0, "must be a task of this launch or one that this executor has"))
        }));
    }
    // A living task of a name that is launched again is no longer what others depend on.
    let replaced = |task: &&&TaskSpec| !by_name.contains_key(&task.name);
    let all: Vec<&TaskSpec> = launch.iter().chain(living.iter().filter(replaced).copied()).collect();
    let wrong = cycles(&all).into_iter().filter(|cycle| cycle[0] < launch.len());
    errors.extend(wrong.map(|cycle| {
        let names: Vec<_> =
            cycle.iter().chain(&cycle[..1]).map(|index| all[*index].name.0.as_str()).collect();
        let error = Field::new("data.depends_on")
            .error(format_args!("{}", names.join(" -> ")), "must not form a cycle");
        (cycle[0], error)
    }));
    errors.sort_by_key(|(index, _)| *index);
    errors
}

fn duplicate(task: &TaskSpec, first: &TaskSpec) -> SpecError {
    Field::new("name")
        .error(&task.name.0, format!("must differ from that of task {} of the same launch", first.id))
}

/// The cycles that a walk through the dependencies runs into, each beginning with its first task.
fn cycles(tasks: &[&TaskSpec]) -> Vec<Vec<usize>> {
    let mut by_name = BTreeMap::new();
    for (index, task) in tasks.iter().enumerate() {
        by_name.entry(&task.name).or_insert(index);
    }
    let dependency = |index: usize, nth: usize| {
        let depends_on: Option<&TaskName> = tasks[index].depends_on.get(nth);
        depends_on.map(|name| by_name.get(name).copied())
    };
    let mut found = Vec::new();
    let mut done = vec![false; tasks.len()];
    for start in 0..tasks.len() {
        // The way from `start` to here, each with how many of its dependencies have been walked.
        let mut way: Vec<(usize, usize)> = if done[start] { Vec::new() } else { vec![(start, 0)] };
        while let Some((index, walked)) = way.last_mut() {
            let (index, nth) = (*index, *walked);
            *walked += 1;
            match dependency(index, nth) {
                None => {
                    done[index] = true;
                    way.pop();
                }
                Some(Some(next)) if !done[next] => match way.iter().position(|(on_way, _)| *on_way == next) {
                    Some(position) => {
                        found.push(from_first(way[position..].iter().map(|(one, _)| *one).collect()))
                    }
                    None => way.push((next, 0)),
                },
                Some(_) => {}
            }
        }
    }
    found
}

fn from_first(mut cycle: Vec<usize>) -> Vec<usize> {
    let first = cycle.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(position, _)| position);
    cycle.rotate_left(first);
    cycle
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse;

    fn task(name: &str, depends_on: &[&str]) -> TaskSpec {
        let raw = serde_json::json!({
            "name": name, "task_id": {"value": name}, "agent_id": {"value": "a"}, "command": {"value": "true"},
        });
        let mut spec = parse(&raw.to_string()).unwrap();
        spec.depends_on = depends_on.iter().map(|name| TaskName((*name).to_owned())).collect();
        spec
    }

    fn known(names: &[&str]) -> BTreeSet<TaskName> {
        names.iter().map(|name| TaskName((*name).to_owned())).collect()
    }

    #[test]
    fn dependencies_in_the_launch_and_among_the_known_are_fine() {
        let launch = [task("a", &["b", "old"]), task("b", &["c"]), task("c", &[])];
        assert_eq!(check_group(&launch, &[], &known(&["old"])), []);
    }

    #[test]
    fn an_unknown_dependency_is_the_error_of_the_task_that_has_it() {
        let errors = check_group(&[task("a", &[]), task("b", &["a", "nobody"])], &[], &known(&[]));
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].0, errors[0].1.field.as_str()), (1, "data.depends_on[1]"));
        assert_eq!(errors[0].1.value, "\"nobody\"");
    }

    #[test]
    fn a_cycle_is_reported_once_with_all_its_tasks() {
        let launch =
            [task("x", &["b"]), task("a", &["b"]), task("b", &["c", "d"]), task("c", &["a"]), task("d", &[])];
        let errors = check_group(&launch, &[], &known(&[]));
        assert_eq!(errors.len(), 1);
        assert_eq!((errors[0].0, errors[0].1.value.as_str()), (1, "a -> b -> c -> a"));
    }

    #[test]
    fn a_cycle_over_a_living_task_is_the_error_of_the_task_that_closes_it() {
        let waiting = task("b", &["a"]);
        let errors = check_group(&[task("a", &["b"])], &[&waiting], &known(&["a", "b"]));
        assert_eq!((errors.len(), errors[0].0, errors[0].1.value.as_str()), (1, 0, "a -> b -> a"));
        assert_eq!(
            check_group(&[task("b", &[])], &[&waiting], &known(&["a", "b"])),
            [],
            "the new b replaces it"
        );
    }

    #[test]
    fn two_cycles_are_two_errors() {
        let launch = [task("a", &["b"]), task("b", &["a"]), task("c", &["d"]), task("d", &["c"])];
        let values: Vec<_> =
            check_group(&launch, &[], &known(&[])).into_iter().map(|(_, error)| error.value).collect();
        assert_eq!(values, ["a -> b -> a", "c -> d -> c"]);
    }

    #[test]
    fn a_known_task_of_the_same_name_is_a_relaunch_and_two_in_one_launch_are_not() {
        assert_eq!(check_group(&[task("a", &[])], &[], &known(&["a"])), []);
        let errors = check_group(&[task("a", &[]), task("a", &[])], &[], &known(&[]));
        assert_eq!((errors.len(), errors[0].0, errors[0].1.field.as_str()), (1, 1, "name"));
    }

    #[test]
    fn a_chain_of_ten_thousand_tasks_is_walked() {
        let mut launch: Vec<_> = (0..10_000).map(|_| task("x", &[])).collect();
        for (index, task) in launch.iter_mut().enumerate() {
            task.name = TaskName(format!("t{index}"));
            if index > 0 {
                task.depends_on = vec![TaskName(format!("t{}", index - 1))];
            }
        }
        launch.reverse();
        assert_eq!(check_group(&launch, &[], &known(&[])), []);
    }
}
