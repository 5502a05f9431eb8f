//! `TaskInfo` and `TaskSettings` -> [`TaskSpec`], or the first field that is wrong.
//!
//! | module | what it reads |
//! |---|---|
//! | `command` | what is executed, its environment |
//! | `identity` | user, groups, capabilities |
//! | `container` | container, terminal, resource limits of processes |
//! | `limits` | resources and limits of the cgroup, by Mesos's formulas |
//! | `checks` | checks of Mesos and of `TaskSettings` |
//! | `fetches` | URIs and artifacts |
//! | `exec` | what may be done in it from outside |
//! | `lifecycle` | ending, restarts, dependencies, log |

mod checks;
mod command;
mod container;
mod exec;
mod fetches;
mod identity;
mod lifecycle;
mod limits;
#[cfg(test)]
mod tests;

use std::time::Duration;

use mesos::common::{Blob, TaskId, TaskInfo};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use task::settings::TaskSettings;

use super::field::{Field, clean, document, read, read_value};
use super::{SpecError, TaskName, TaskSpec};

/// The longest time that any field may hold.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Checks a `TaskInfo` with the `TaskSettings` in its data.
///
/// # Errors
/// The first field that is wrong, what it holds and what is allowed. A field of `TaskSettings` has `data.` in front.
pub fn parse(raw: &str) -> Result<TaskSpec, SpecError> {
    let all = Field::new("");
    let mut document = document(raw, &all)?;
    clean(&mut document, &all)?;
    let info: TaskInfo = read_value(&document, &all)?;
    let data = Field::new("data");
    let settings =
        info.data.as_ref().map_or_else(|| Ok(TaskSettings::default()), |blob| read_settings(blob, &data))?;

    let name = name(&info.name, &Field::new("name"))?;
    let (raw_command, command_field) = command::which(&info, &settings)?;
    let command = command::command(raw_command, &command_field)?;
    let environment = command::environment(raw_command.environment.as_ref(), &command_field)?;
    command::fits(&command, &environment, raw_command, &command_field)?;
    Ok(TaskSpec {
        id: id(&info.task_id, &Field::new("task_id.value"))?,
        command,
        environment,
        role: limits::role(&info.resources),
        identity: identity::identity(raw_command, &command_field, &settings)?,
        rlimits: container::rlimits(info.container.as_ref(), &settings)?,
        umask: identity::umask(settings.umask.as_deref())?,
        oom_score_adj: identity::oom_score_adj(settings.oom_score_adj)?,
        limits: limits::limits(&info, settings.pids)?,
        terminal: container::terminal(info.container.as_ref(), &document)?,
        log: lifecycle::log(settings.log.as_ref())?,
        fetches: fetches::fetches(raw_command, &command_field, &settings)?,
        checks: checks::checks(&info, &settings)?,
        grace_period: lifecycle::grace_period(&info)?,
        kill_mode: lifecycle::kill_mode(settings.kill_mode.as_deref())?,
        max_completion: lifecycle::max_completion(&info)?,
        restart: lifecycle::restart(settings.restart.as_ref())?,
        depends_on: lifecycle::depends_on(&settings.depends_on, &name)?,
        depends_on_timeout: seconds_or(
            settings.depends_on_timeout_seconds,
            300,
            &data.child("depends_on_timeout_seconds"),
        )?,
        essential: lifecycle::essential(settings.essential),
        exec: exec::exec(&settings.exec)?,
        resources: info.resources,
        name,
    })
}

/// The id and the name of a task whose description may be wrong in all else; a task without a usable name has its id.
///
/// # Errors
/// When there is no id that can be read: nothing can be reported of such a task.
pub fn identify(raw: &str) -> Result<(TaskId, TaskName), SpecError> {
    /// All else stays unread: numbers, depths and characters that no value can hold are none of the id's.
    #[derive(Deserialize)]
    struct Identified<'a> {
        task_id: TaskId,
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
    }
    let field = Field::new("task_id.value");
    let found: Result<Identified<'_>, _> = serde_json::from_str(raw);
    let Identified { task_id, name } =
        found.map_err(|error| field.missing(format!("must be the id of the task: {error}")))?;
    if task_id.value.is_empty() {
        return Err(field.error("", "must be the id of the task"));
    }
    let name = name.and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    let name = name.filter(|name| !name.is_empty()).unwrap_or_else(|| task_id.value.clone());
    Ok((task_id, TaskName(name)))
}

fn read_settings(blob: &Blob, field: &Field) -> Result<TaskSettings, SpecError> {
    if blob.0.is_empty() {
        return Ok(TaskSettings::default());
    }
    let text = std::str::from_utf8(&blob.0).map_err(|error| {
        field.error(format_args!("{} bytes", blob.0.len()), format!("must be JSON in UTF-8: {error}"))
    })?;
    let mut document = document(text, field)?;
    let settings: TaskSettings = read(text, field)?;
    clean(&mut document, field)?;
    command::known_names(document.get("command"), &field.child("command"))?;
    for (index, check) in document.get("checks").and_then(Value::as_array).into_iter().flatten().enumerate() {
        command::known_names(check.get("command"), &field.child("checks").index(index).child("command"))?;
    }
    Ok(settings)
}

/// What Mesos allows in an id; it becomes part of paths.
fn id(id: &TaskId, field: &Field) -> Result<TaskId, SpecError> {
    let text = id.as_str();
    let safe = !matches!(text, "" | "." | "..")
        && text.len() <= 255
        && !text.chars().any(|one| matches!(one, '/' | '\\') || one.is_control());
    if safe {
        Ok(id.clone())
    } else {
        Err(field
            .error(text, "must be 1 to 255 bytes without slashes and control characters, not `.` or `..`"))
    }
}

fn name(text: &str, field: &Field) -> Result<TaskName, SpecError> {
    if text.is_empty() { Err(field.error(text, "must not be empty")) } else { Ok(TaskName(text.to_owned())) }
}

/// A time in seconds, `default` when unset.
fn seconds_or(value: Option<f64>, default: u64, field: &Field) -> Result<Duration, SpecError> {
    match value {
        None => Ok(Duration::from_secs(default)),
        Some(value) => Duration::try_from_secs_f64(value)
            .ok()
            .filter(|duration| *duration <= LONGEST)
            .ok_or_else(|| field.error(value, "must be seconds from 0 to ten years")),
    }
}

/// A time in nanoseconds.
fn nanoseconds(value: i64, field: &Field) -> Result<Duration, SpecError> {
    u64::try_from(value)
        .ok()
        .map(Duration::from_nanos)
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| field.error(value, "must be nanoseconds from 0 to ten years"))
}
