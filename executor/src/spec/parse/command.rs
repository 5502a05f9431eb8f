//! What is executed, and its environment.

use mesos::common::{CommandInfo, Environment, TaskInfo};
use serde_json::Value;
use task::settings::TaskSettings;

use crate::spec::field::{Field, shown, suggest};
use crate::spec::{Command, SpecError};

/// The one command that a task has, with its place.
pub(super) fn which<'a>(
    info: &'a TaskInfo,
    settings: &'a TaskSettings,
) -> Result<(&'a CommandInfo, Field), SpecError> {
    let (outer, inner) = (Field::new("command"), Field::new("data.command"));
    match (&info.command, &settings.command) {
        (Some(command), None) => Ok((command, outer)),
        (None, Some(command)) => Ok((command, inner)),
        (None, None) => Err(outer.missing("must be in the TaskInfo or in data.command")),
        (Some(_), Some(_)) => {
            Err(inner.error(format_args!("a second command"), "must not be there besides command"))
        }
    }
}

/// What a `CommandInfo` executes.
pub(super) fn command(raw: &CommandInfo, field: &Field) -> Result<Command, SpecError> {
    let value_field = field.child("value");
    match (raw.shell.unwrap_or(true), &raw.value) {
        (true, Some(text)) => Ok(Command::shell(text)),
        (true, None) => Err(value_field.missing("must be the text for /bin/sh")),
        (false, None) => Err(value_field.missing("must be the file to execute when shell is false")),
        (false, Some(file)) if file.is_empty() => {
            Err(value_field.error(file, "must be the file to execute when shell is false"))
        }
        (false, Some(file)) => {
            let arguments = if raw.arguments.is_empty() { vec![file.clone()] } else { raw.arguments.clone() };
            Ok(Command { file: file.clone(), arguments })
        }
    }
}

/// What the kernel takes as one argument or one variable (`MAX_ARG_STRLEN`), its final NUL byte aside.
const LONGEST_STRING: usize = 32 * 4096 - 1;
/// What it takes of arguments and environment together, with the pointers to them: a quarter of the usual 8 MiB of stack,
/// less what the executor itself adds.
const LONGEST_TOTAL: usize = (2 << 20) - (128 << 10);

/// Refuses what the kernel would refuse at the task's execve.
pub(super) fn fits(
    command: &Command,
    environment: &[(String, String)],
    raw: &CommandInfo,
    field: &Field,
) -> Result<(), SpecError> {
    let too_long = |field: &Field, bytes: usize, what: &str| {
        let allowed = format!("must be {what} of at most {LONGEST_STRING} bytes");
        SpecError { value: format!("{bytes} bytes"), ..field.error("", allowed) }
    };
    for (index, argument) in command.arguments.iter().enumerate() {
        if argument.len() > LONGEST_STRING {
            let whole = raw.shell.unwrap_or(true) || raw.arguments.is_empty();
            let field = if whole { field.child("value") } else { field.child("arguments").index(index) };
            return Err(too_long(&field, argument.len(), "an argument"));
        }
    }
    if command.file.len() > LONGEST_STRING {
        return Err(too_long(&field.child("value"), command.file.len(), "a path"));
    }
    for (index, (name, value)) in environment.iter().enumerate() {
        let bytes = name.len() + 1 + value.len();
        if bytes > LONGEST_STRING {
            let field = field.child("environment").child("variables").index(index);
            return Err(too_long(&field, bytes, "a name, `=` and a value"));
        }
    }
    let pointer = size_of::<usize>();
    let arguments = command.arguments.iter().map(|argument| argument.len() + 1 + pointer);
    let variables = environment.iter().map(|(name, value)| name.len() + value.len() + 2 + pointer);
    let total: usize = arguments.chain(variables).sum();
    if total > LONGEST_TOTAL {
        return Err(field.error(
            format_args!("{total} bytes of arguments and environment"),
            format!("must be at most {LONGEST_TOTAL} bytes, with 8 for each argument and variable"),
        ));
    }
    Ok(())
}

/// The variables of the command at `field`.
pub(super) fn environment(
    raw: Option<&Environment>,
    field: &Field,
) -> Result<Vec<(String, String)>, SpecError> {
    let variables = raw.map_or(&[][..], |environment| &environment.variables);
    let list = field.child("environment").child("variables");
    let checked = variables.iter().enumerate().map(|(index, variable)| {
        let field = list.index(index);
        if variable.name.is_empty() || variable.name.contains('=') {
            return Err(field.child("name").error(&variable.name, "must not be empty and not contain `=`"));
        }
        let without_value = match variable.kind.as_deref() {
            None | Some("VALUE") => "must be set",
            Some("SECRET") => {
                "is not there: the agent has not resolved this secret, and this executor resolves none"
            }
            Some(kind) => return Err(field.child("type").error(kind, "must be VALUE or SECRET")),
        };
        let value = variable.value.clone().ok_or_else(|| field.child("value").missing(without_value))?;
        Ok((variable.name.clone(), value))
    });
    checked.collect()
}

/// Refuses names in a command of `TaskSettings` that mean nothing: a `CommandInfo` as Mesos's would let them pass.
pub(super) fn known_names(command: Option<&Value>, field: &Field) -> Result<(), SpecError> {
    let items = |parent: Option<&'_ Value>| parent.and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(command) = command else { return Ok(()) };
    only(command, &["uris", "environment", "shell", "value", "arguments", "user"], field)?;
    for (index, uri) in items(command.get("uris")).iter().enumerate() {
        let names = ["value", "executable", "extract", "cache", "output_file"];
        only(uri, &names, &field.child("uris").index(index))?;
    }
    let Some(environment) = command.get("environment") else {
        return Ok(());
    };
    let field = field.child("environment");
    only(environment, &["variables"], &field)?;
    for (index, variable) in items(environment.get("variables")).iter().enumerate() {
        only(variable, &["name", "type", "value"], &field.child("variables").index(index))?;
    }
    Ok(())
}

fn only(value: &Value, known: &[&str], field: &Field) -> Result<(), SpecError> {
    let unknown = value
        .as_object()
        .and_then(|members| members.iter().find(|(name, _)| !known.contains(&name.as_str())));
    match unknown {
        Some((name, value)) => Err(field
            .child(name)
            .error(format_args!("{}", shown(value)), format!("unknown field; {}", suggest(name, known)))),
        None => Ok(()),
    }
}
