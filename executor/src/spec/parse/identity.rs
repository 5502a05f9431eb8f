//! As whom and with which rights a task runs.

use caps::Capability;
use mesos::common::CommandInfo;
use task::settings::{Capabilities, TaskSettings};

use crate::spec::field::{Field, suggest};
use crate::spec::{CapabilitySets, Identity, SpecError};

/// The account, groups and rights.
pub(super) fn identity(
    command: &CommandInfo,
    command_field: &Field,
    settings: &TaskSettings,
) -> Result<Identity, SpecError> {
    let data = Field::new("data");
    let named = |name: &String, field: &Field| {
        let usable =
            !name.is_empty() && !name.chars().any(|one| one.is_control() || matches!(one, ':' | '/'));
        if usable { Ok(name.clone()) } else { Err(field.error(name, "must be a name or a number")) }
    };
    let user_field = command_field.child("user");
    let groups = settings.groups.iter().enumerate();
    Ok(Identity {
        user: command.user.as_ref().map(|user| named(user, &user_field)).transpose()?,
        groups: groups
            .map(|(index, group)| named(group, &data.child("groups").index(index)))
            .collect::<Result<_, _>>()?,
        capabilities: settings
            .capabilities
            .as_ref()
            .map(|raw| capabilities(raw, &data.child("capabilities")))
            .transpose()?,
        no_new_privileges: settings.no_new_privileges,
    })
}

fn capabilities(raw: &Capabilities, field: &Field) -> Result<CapabilitySets, SpecError> {
    let bounding = capability_list(&raw.bounding, &field.child("bounding"))?;
    let ambient_field = field.child("ambient");
    let ambient = capability_list(&raw.ambient, &ambient_field)?;
    match ambient.iter().find(|one| !bounding.contains(one)) {
        Some(one) => {
            Err(ambient_field.error(format_args!("{one}"), "must be in data.capabilities.bounding too"))
        }
        None => Ok(CapabilitySets { bounding, ambient }),
    }
}

/// Capabilities by name, each once, in the order of their numbers.
fn capability_list(names: &[String], field: &Field) -> Result<Vec<Capability>, SpecError> {
    let all = caps::all();
    let mut found = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let upper = name.to_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if name == "ALL" {
            found.extend(all.iter().copied());
            continue;
        }
        let known = all.iter().find(|one| one.to_string().strip_prefix("CAP_") == Some(short));
        found.push(*known.ok_or_else(|| {
            let mut names: Vec<_> = all.iter().map(ToString::to_string).collect();
            names.sort();
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            let nearest = suggest(&format!("CAP_{short}"), &names);
            field.index(index).error(name, format!("must be a capability or ALL; {nearest}"))
        })?);
    }
    found.sort_by_key(Capability::index);
    found.dedup();
    Ok(found)
}

/// The file mode creation mask.
pub(super) fn umask(text: Option<&str>) -> Result<u32, SpecError> {
    let Some(text) = text else { return Ok(0o022) };
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|one| matches!(one, b'0'..=b'7'));
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mask| digits && *mask <= 0o777)
        .ok_or_else(|| Field::new("data.umask").error(text, "must be octal digits from 0 to 777"))
}

/// How willing the kernel is to kill the task.
pub(super) fn oom_score_adj(value: Option<i32>) -> Result<Option<i16>, SpecError> {
    value
        .map(|value| {
            i16::try_from(value)
                .ok()
                .filter(|score| (-1000..=1000).contains(score))
                .ok_or_else(|| Field::new("data.oom_score_adj").error(value, "must be from -1000 to 1000"))
        })
        .transpose()
}
