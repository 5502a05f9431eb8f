//! What a task asks of its container: a terminal, resource limits of processes, and what this executor does not do.

use std::collections::BTreeMap;

use mesos::common::ContainerInfo;
use nix::sys::resource::Resource;
use serde_json::Value;
use task::settings::TaskSettings;

use crate::spec::field::{Field, shown, suggest};
use crate::spec::{Rlimit, SpecError, TerminalSize};

/// Every limit that Linux has, by the name without prefix.
const RLIMITS: [(&str, Resource); 16] = [
    ("as", Resource::RLIMIT_AS),
    ("core", Resource::RLIMIT_CORE),
    ("cpu", Resource::RLIMIT_CPU),
    ("data", Resource::RLIMIT_DATA),
    ("fsize", Resource::RLIMIT_FSIZE),
    ("locks", Resource::RLIMIT_LOCKS),
    ("memlock", Resource::RLIMIT_MEMLOCK),
    ("msgqueue", Resource::RLIMIT_MSGQUEUE),
    ("nice", Resource::RLIMIT_NICE),
    ("nofile", Resource::RLIMIT_NOFILE),
    ("nproc", Resource::RLIMIT_NPROC),
    ("rss", Resource::RLIMIT_RSS),
    ("rtprio", Resource::RLIMIT_RTPRIO),
    ("rttime", Resource::RLIMIT_RTTIME),
    ("sigpending", Resource::RLIMIT_SIGPENDING),
    ("stack", Resource::RLIMIT_STACK),
];

/// What would silently be missing if it were ignored, by its place, with what is allowed instead.
const NOT_DONE: [(&str, &str); 8] = [
    (
        "mesos.image",
        "images are not provisioned by this executor: fetch files with command.uris or data.artifacts",
    ),
    (
        "docker",
        "images are not provisioned by this executor: fetch files with command.uris or data.artifacts",
    ),
    ("volumes", "volumes are not mounted by this executor"),
    ("linux_info.capability_info", "use data.capabilities"),
    ("linux_info.effective_capabilities", "use data.capabilities"),
    ("linux_info.bounding_capabilities", "use data.capabilities"),
    ("linux_info.seccomp", "seccomp profiles are not applied by this executor"),
    ("seccomp_info", "seccomp profiles are not applied by this executor"),
];

/// The terminal that is asked for; on the way, refuses what this executor does not do. `document` is the `TaskInfo`.
pub(super) fn terminal(
    container: Option<&ContainerInfo>,
    document: &Value,
) -> Result<Option<TerminalSize>, SpecError> {
    let Some(container) = container else {
        return Ok(None);
    };
    let field = Field::new("container");
    match container.kind.as_deref() {
        None | Some("MESOS") => {}
        Some(kind @ "DOCKER") => {
            return Err(field
                .child("type")
                .error(kind, "must be MESOS: this executor runs no Docker containers"));
        }
        Some(kind) => return Err(field.child("type").error(kind, "must be MESOS")),
    }
    for (path, instead) in NOT_DONE {
        let found = document.pointer(&format!("/container/{}", path.replace('.', "/")));
        if let Some(found) = found.filter(|found| !found.as_array().is_some_and(Vec::is_empty)) {
            return Err(field.child(path).error(format_args!("{}", shown(found)), instead));
        }
    }
    let Some(tty) = container.tty_info else {
        return Ok(None);
    };
    let Some(size) = tty.window_size else {
        return Ok(Some(TerminalSize { rows: 24, columns: 80 }));
    };
    let number = |value: u32, name: &str| {
        u16::try_from(value).ok().filter(|value| *value > 0).ok_or_else(|| {
            field.child("tty_info.window_size").child(name).error(value, "must be from 1 to 65535")
        })
    };
    Ok(Some(TerminalSize { rows: number(size.rows, "rows")?, columns: number(size.columns, "columns")? }))
}

/// Resource limits of the container and of `TaskSettings`, by name; one set in both is an error.
pub(super) fn rlimits(
    container: Option<&ContainerInfo>,
    settings: &TaskSettings,
) -> Result<Vec<Rlimit>, SpecError> {
    let mut limits = BTreeMap::new();
    let from_mesos = container.and_then(|container| container.rlimit_info.as_ref()).map(|info| &info.rlimits);
    for (index, raw) in from_mesos.into_iter().flatten().enumerate() {
        let field = Field::new("container.rlimit_info.rlimits").index(index);
        let kind =
            raw.kind.strip_prefix("RLMT_").filter(|name| !name.chars().any(|one| one.is_ascii_lowercase()));
        let (name, resource) =
            resource(kind.unwrap_or_default(), "RLMT_NOFILE", &raw.kind, &field.child("type"))?;
        if raw.soft.is_some() != raw.hard.is_some() {
            let absent = if raw.soft.is_none() { "soft" } else { "hard" };
            return Err(field
                .child(absent)
                .missing("must be set when the other one is; neither for unlimited"));
        }
        let limit = rlimit(resource, raw.soft, raw.hard, &field)?;
        if limits.insert(name, limit).is_some() {
            return Err(field.child("type").error(&raw.kind, "must be there once only"));
        }
    }
    for (wanted, raw) in &settings.rlimits {
        let field = Field::new("data.rlimits").child(wanted);
        let (name, resource) = resource(wanted, "nofile", wanted, &field)?;
        let limit = rlimit(resource, raw.soft, raw.hard, &field)?;
        if limits.insert(name, limit).is_some() {
            return Err(field.error(raw, "must not be there besides that of container.rlimit_info"));
        }
    }
    Ok(limits.into_values().collect())
}

fn resource(
    name: &str,
    example: &str,
    found: &str,
    field: &Field,
) -> Result<(&'static str, Resource), SpecError> {
    // In container.rlimit_info names are upper case, in TaskSettings lower case.
    let lower = if example.starts_with("RLMT_") { name.to_ascii_lowercase() } else { name.to_owned() };
    RLIMITS.iter().copied().find(|(known, _)| *known == lower).ok_or_else(|| {
        let names = RLIMITS.map(|(name, _)| name);
        field.error(found, format!("must be a resource limit like {example}; {}", suggest(&lower, &names)))
    })
}

fn rlimit(
    resource: Resource,
    soft: Option<u64>,
    hard: Option<u64>,
    field: &Field,
) -> Result<Rlimit, SpecError> {
    let (soft_value, hard_value) = (soft.unwrap_or(u64::MAX), hard.unwrap_or(u64::MAX));
    if soft_value <= hard_value {
        return Ok(Rlimit { resource, soft: soft_value, hard: hard_value });
    }
    let field = field.child("soft");
    let allowed = format!("must not exceed the hard limit of {hard_value}");
    Err(soft
        .map_or_else(|| field.error(format_args!("unlimited"), &allowed), |soft| field.error(soft, &allowed)))
}
