//! How a task ends, whether it comes back, what it waits for, and what is kept of its output.

use std::num::NonZeroU32;
use std::time::Duration;

use mesos::common::TaskInfo;
use task::settings::{Log, Restart};

use super::{nanoseconds, seconds_or};
use crate::spec::field::{Field, suggest};
use crate::spec::{Backoff, Essential, KillMode, LogLimits, RestartPolicy, SpecError, TaskName};

/// The time between SIGTERM and SIGKILL: 3 s unless the task says otherwise.
pub(super) fn grace_period(info: &TaskInfo) -> Result<Duration, SpecError> {
    let given = info.kill_policy.and_then(|policy| policy.grace_period);
    given.map_or(Ok(Duration::from_secs(3)), |raw| {
        nanoseconds(raw.nanoseconds, &Field::new("kill_policy.grace_period.nanoseconds"))
    })
}

/// How long the task may run; 0 is for ever.
pub(super) fn max_completion(info: &TaskInfo) -> Result<Option<Duration>, SpecError> {
    let field = Field::new("max_completion_time.nanoseconds");
    let given = info.max_completion_time.map(|raw| nanoseconds(raw.nanoseconds, &field)).transpose()?;
    Ok(given.filter(|duration| !duration.is_zero()))
}

/// What SIGKILL reaches.
pub(super) fn kill_mode(text: Option<&str>) -> Result<KillMode, SpecError> {
    match text {
        None | Some("cgroup") => Ok(KillMode::Cgroup),
        Some("process") => Ok(KillMode::Process),
        Some(other) => Err(Field::new("data.kill_mode").error(other, "must be cgroup or process")),
    }
}

/// What the task's failure means.
pub(super) fn essential(value: Option<bool>) -> Essential {
    if value.unwrap_or(true) { Essential::Yes } else { Essential::No }
}

/// Whether and how the task is started again in place.
pub(super) fn restart(raw: Option<&Restart>) -> Result<RestartPolicy, SpecError> {
    let Some(raw) = raw else {
        return Ok(RestartPolicy::Never);
    };
    let field = Field::new("data.restart");
    let delay = seconds_or(raw.delay_seconds, 1, &field.child("delay_seconds"))?;
    let max_field = field.child("max_delay_seconds");
    let max_delay = match raw.max_delay_seconds {
        None => delay.max(Duration::from_secs(60)),
        Some(value) => seconds_or(Some(value), 60, &max_field)?,
    };
    if let Some(value) = raw.max_delay_seconds.filter(|_| max_delay < delay) {
        return Err(
            max_field.error(value, format!("must not be less than the delay of {} s", delay.as_secs_f64()))
        );
    }
    if let Some(limit @ 0) = raw.limit {
        return Err(field.child("limit").error(limit, "must be at least 1; leave it out for no limit"));
    }
    let stable = seconds_or(raw.stable_seconds, 600, &field.child("stable_seconds"))?;
    let backoff = Backoff { delay, max_delay, stable, limit: raw.limit };
    match raw.policy.as_deref() {
        None | Some("never") => Ok(RestartPolicy::Never),
        Some("on-failure") => Ok(RestartPolicy::OnFailure(backoff)),
        Some("always") => Ok(RestartPolicy::Always(backoff)),
        Some(other) => {
            let nearest = suggest(other, &["never", "on-failure", "always"]);
            Err(field.child("policy").error(other, format!("must be never, on-failure or always; {nearest}")))
        }
    }
}

/// Names of other tasks, each once.
pub(super) fn depends_on(raw: &[String], own: &TaskName) -> Result<Vec<TaskName>, SpecError> {
    let list = Field::new("data.depends_on");
    for (index, name) in raw.iter().enumerate() {
        let wrong = match name.as_str() {
            "" => "must not be empty",
            other if other == own.0 => "must not be the task itself",
            other if raw[..index].iter().any(|before| before == other) => "must be there once only",
            _ => continue,
        };
        return Err(list.index(index).error(name, wrong));
    }
    Ok(raw.iter().cloned().map(TaskName).collect())
}

/// How much output is kept.
pub(super) fn log(raw: Option<&Log>) -> Result<LogLimits, SpecError> {
    let field = Field::new("data.log");
    let bytes = raw.and_then(|log| log.bytes).unwrap_or(10 << 20);
    if bytes < 4096 {
        return Err(field.child("bytes").error(bytes, "must be at least 4096"));
    }
    let files = raw.and_then(|log| log.files).unwrap_or(3);
    let files = NonZeroU32::new(files)
        .filter(|files| files.get() <= 100)
        .ok_or_else(|| field.child("files").error(files, "must be from 1 to 100"))?;
    Ok(LogLimits { bytes, files })
}
