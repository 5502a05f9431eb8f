//! Tables (`meta.k8s.io`), with the columns that kubectl prints: pure.

use serde_json::{Value, json};

use super::objects::{self, ContainerState, Phase};
use super::view::View;

/// In which form objects are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As they are.
    Object,
    /// As a table of this version (`meta.k8s.io/v1`).
    Table(&'static str, Include),
}

/// What of the object each row holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl Form {
    /// The first that is known of what an `Accept` header lists.
    pub fn parse(accept: &str, include: Include) -> Self {
        for wanted in accept.split(',') {
            let mut parts = wanted.split(';').map(str::trim);
            if !matches!(parts.next(), Some("application/json" | "*/*" | "application/*")) {
                continue;
            }
            let (mut table, mut version) = (None, "meta.k8s.io/v1");
            for part in parts {
                match part.split_once('=') {
                    Some(("as", kind)) => table = Some(kind == "Table"),
                    Some(("v", "v1beta1")) => version = "meta.k8s.io/v1beta1",
                    _ => {}
                }
            }
            match table {
                Some(true) => return Self::Table(version, include),
                Some(false) => {}
                None => return Self::Object,
            }
        }
        Self::Object
    }
}

impl Include {
    /// The value of the parameter `includeObject`.
    pub fn parse(value: Option<&str>) -> Option<Self> {
        match value {
            None | Some("Metadata") => Some(Self::Metadata),
            Some("None") => Some(Self::None),
            Some("Object") => Some(Self::Object),
            Some(_) => None,
        }
    }
}

/// A table.
pub fn table(version: &str, revision: u64, columns: Value, rows: Vec<Value>) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": version,
        "metadata": { "resourceVersion": revision.to_string() },
        "columnDefinitions": columns,
        "rows": rows,
    })
}

/// The columns of pods. Those of priority 1 are for wide output.
pub fn pod_columns() -> Value {
    json!([
        column("Name", "name", 0, "Name of the pod instance"),
        column("Ready", "", 0, "Tasks that are ready, and all"),
        column("Status", "", 0, "The state of the pod's tasks"),
        column("Restarts", "", 0, "How often its tasks were restarted in place"),
        column("Age", "", 0, "Since when the pod is there"),
        column("IP", "", 1, "The pod's address"),
        column("Node", "", 1, "The agent's host"),
        column("Nominated Node", "", 1, "None, ever"),
        column("Readiness Gates", "", 1, "None, ever"),
    ])
}

/// The row of a pod, `now` being milliseconds since 1970.
pub fn pod_row(view: &View, include: Include, version: &str, now: u64, revision: Option<u64>) -> Value {
    let pod = &view.pod.pod;
    let total = view.tasks().count();
    let ready = view.tasks().filter(|task| objects::is_ready(task)).count();
    let cells = json!([
        pod.name,
        format!("{ready}/{total}"),
        status_word(view),
        restarts(view, now),
        age(now.saturating_sub(pod.started_at)),
        pod.address.to_string(),
        pod.hostname,
        "<none>",
        "<none>",
    ]);
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => partial(version, objects::metadata(view, revision)),
        Include::Object => objects::pod(view, revision),
    };
    json!({ "cells": cells, "object": object })
}

/// The columns of namespaces.
pub fn namespace_columns() -> Value {
    json!([
        column("Name", "name", 0, "Name of the framework"),
        column("Status", "", 0, "Active"),
        column("Age", "", 0, "Since when its oldest pod here is there"),
    ])
}

/// The row of a namespace.
pub fn namespace_row(
    name: &str,
    created: u64,
    include: Include,
    version: &str,
    now: u64,
    revision: u64,
) -> Value {
    let mut whole = objects::namespace(name, created, revision);
    let object = match include {
        Include::None => Value::Null,
        Include::Metadata => partial(version, whole["metadata"].take()),
        Include::Object => whole,
    };
    json!({ "cells": [name, "Active", age(now.saturating_sub(created))], "object": object })
}

/// The columns of events.
pub fn event_columns() -> Value {
    json!([
        column("Last Seen", "", 0, "When it was last seen"),
        column("Type", "", 0, "Normal or Warning"),
        column("Reason", "", 0, "Why, in one word"),
        column("Object", "", 0, "Of what"),
        column("Message", "", 0, "Why"),
    ])
}

/// The word that kubectl shows as a pod's status.
pub fn status_word(view: &View) -> String {
    let phase = objects::phase_of(view);
    if objects::ending_since(view).is_some() {
        return "Terminating".to_owned();
    }
    let mut word = phase.name().to_owned();
    let mut running = false;
    // As kubectl's: of several, the first container's word stays.
    for task in view.tasks().collect::<Vec<_>>().into_iter().rev() {
        match objects::state_of(task) {
            ContainerState::Waiting { reason, .. } => reason.clone_into(&mut word),
            ContainerState::Terminated(end) => end.reason.clone_into(&mut word),
            ContainerState::Running { .. } => running |= objects::is_ready(task),
        }
    }
    if word == "Completed" && running {
        let ready = phase == Phase::Running && view.tasks().all(objects::is_ready);
        (if ready { "Running" } else { "NotReady" }).clone_into(&mut word);
    }
    word
}

/// A time span as kubectl shows it, of milliseconds.
pub fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    let two = |first: u64, unit: char, second: u64, small: char| match second {
        0 => format!("{first}{unit}"),
        second => format!("{first}{unit}{second}{small}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, 'd', hours % 24, 'h'),
        () if days < 730 => format!("{days}d"),
        () if days < 2920 => two(days / 365, 'y', days % 365, 'd'),
        () => format!("{}y", days / 365),
    }
}

fn restarts(view: &View, now: u64) -> String {
    let count: u64 = view.tasks().map(|task| u64::from(task.restarts)).sum();
    let last = view.tasks().filter_map(objects::last_state_of).filter_map(|end| end.finished_at).max();
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", age(now.saturating_sub(last))),
        _ => count.to_string(),
    }
}

fn column(name: &str, format: &str, priority: u8, description: &str) -> Value {
    json!({ "name": name, "type": "string", "format": format, "description": description, "priority": priority })
}

fn partial(version: &str, metadata: Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::kubernetes::fixtures::{START, inventory, pod, task};
    use crate::protocol::kubernetes::view::visible;
    use mesos::common::{Open, TaskState};
    use task::control::{End, LastEnd, Task};

    fn view(tasks: Vec<Task>) -> View {
        visible(&inventory(9, vec![pod("etcd-0", tasks)]), |_, _| true).into_values().next().unwrap()
    }

    fn ended(state: TaskState, code: i32) -> Task {
        let last_end = Some(LastEnd {
            end: Some(End::Code(code)),
            at: START + 60_000,
            started_at: None,
            out_of_memory: false,
        });
        Task { state: Open::Known(state), pid: None, last_end, ..task("x") }
    }

    #[test]
    fn the_form_is_the_first_that_is_known() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let table = |version| Form::Table(version, Include::Metadata);
        assert_eq!(Form::parse(kubectl, Include::Metadata), table("meta.k8s.io/v1"));
        assert_eq!(
            Form::parse("application/json;as=Table;v=v1beta1;g=meta.k8s.io", Include::Metadata),
            table("meta.k8s.io/v1beta1")
        );
        for object in [
            "",
            "*/*",
            "application/json",
            "application/vnd.kubernetes.protobuf,application/json",
            "application/json;as=PartialObjectMetadata;v=v1",
        ] {
            assert_eq!(Form::parse(object, Include::Metadata), Form::Object, "{object}");
        }
    }

    #[test]
    fn a_row_has_a_cell_per_column_and_says_what_kubectl_says() {
        let mut task = task("etcd-0-peer");
        task.restarts = 2;
        task.last_end =
            Some(LastEnd { end: Some(End::Code(1)), at: START, started_at: None, out_of_memory: false });
        let row = pod_row(&view(vec![task]), Include::Metadata, "meta.k8s.io/v1", START + 300_000, None);
        let expected =
            json!(["etcd-0", "1/1", "Running", "2 (5m ago)", "5m", "10.0.0.7", "host-1", "<none>", "<none>"]);
        assert_eq!(row["cells"], expected);
        assert_eq!(row["cells"].as_array().unwrap().len(), pod_columns().as_array().unwrap().len());
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    }

    #[test]
    fn the_status_is_the_word_that_kubectl_would_choose() {
        let not_ready = Task { ready: Some(false), ..task("a") };
        let cases = [
            (vec![task("a")], "Running"),
            (vec![not_ready.clone()], "Running"),
            (vec![ended(TaskState::Running, 1)], "CrashLoopBackOff"),
            (vec![ended(TaskState::Finished, 0)], "Completed"),
            (vec![ended(TaskState::Failed, 2)], "Error"),
            (vec![task("a"), ended(TaskState::Finished, 0)], "NotReady"),
            (vec![task("a"), ended(TaskState::Failed, 2)], "Error"),
            (vec![Task { state: Open::Known(TaskState::Killing), ..task("a") }], "Terminating"),
            (
                vec![Task {
                    pid: None,
                    started_at: None,
                    state: Open::Known(TaskState::Starting),
                    ..task("a")
                }],
                "ContainerCreating",
            ),
        ];
        for (tasks, word) in cases {
            assert_eq!(status_word(&view(tasks.clone())), word, "{tasks:?}");
        }
    }

    #[test]
    fn ages_are_as_kubectl_rounds_them() {
        let (minute, hour, day) = (60_000, 3_600_000, 86_400_000);
        let cases = [
            (0, "0s"),
            (119_999, "119s"),
            (2 * minute, "2m"),
            (2 * minute + 5000, "2m5s"),
            (10 * minute + 5000, "10m"),
            (3 * hour, "3h"),
            (7 * hour + 59 * minute, "7h59m"),
            (47 * hour, "47h"),
            (2 * day, "2d"),
            (7 * day + 5 * hour, "7d5h"),
            (8 * day + hour, "8d"),
            (800 * day, "2y70d"),
            (3000 * day, "8y"),
        ];
        for (milliseconds, text) in cases {
            assert_eq!(age(milliseconds), text);
        }
    }
}
