//! What may be done in a task from outside.

use nix::sys::signal::Signal;
use task::settings::Exec;

use crate::spec::SpecError;
use crate::spec::exec::{ExecRights, NamePattern, Permission, Signals, Users, is_variable_name};
use crate::spec::field::{Field, suggest};

/// The rights of exec, attach and signals.
pub(super) fn exec(raw: &Exec) -> Result<ExecRights, SpecError> {
    let field = Field::new("data.exec");
    Ok(ExecRights {
        start: permission(raw.allowed),
        terminal: permission(raw.terminal),
        users: users(&raw.users, &field.child("users"))?,
        environment: each(&raw.environment, &field.child("environment"), pattern)?,
        signals: match &raw.signals {
            None => Signals::Any,
            Some(names) => {
                Signals::Listed(each(names, &field.child("signals"), signal)?.into_iter().collect())
            }
        },
    })
}

fn permission(value: Option<bool>) -> Permission {
    if value.unwrap_or(true) { Permission::Allowed } else { Permission::Forbidden }
}

fn users(names: &[String], field: &Field) -> Result<Users, SpecError> {
    let listed = each(names, field, |name, field| {
        let usable = !name.is_empty()
            && !name.chars().any(|one| one.is_control() || matches!(one, ':' | '/'))
            && (name == "*" || !name.contains('*'));
        if usable { Ok(name.to_owned()) } else { Err(field.error(name, "must be a name, a number or `*`")) }
    })?;
    Ok(if listed.iter().any(|name| name == "*") { Users::Any } else { Users::Listed(listed) })
}

fn pattern(text: &str, field: &Field) -> Result<NamePattern, SpecError> {
    match text.strip_suffix('*') {
        Some("") => Ok(NamePattern::Beginning(String::new())),
        Some(beginning) if is_variable_name(beginning) => Ok(NamePattern::Beginning(beginning.to_owned())),
        None if is_variable_name(text) => Ok(NamePattern::Exactly(text.to_owned())),
        _ => Err(field.error(text, "must be a variable's name, a beginning with `*` behind it, or `*`")),
    }
}

fn signal(name: &str, field: &Field) -> Result<i32, SpecError> {
    name.parse::<Signal>().map(|signal| signal as i32).map_err(|_| {
        let names: Vec<&str> = Signal::iterator().map(Signal::as_str).collect();
        field.error(name, format!("must be the name of a signal; {}", suggest(name, &names)))
    })
}

fn each<T>(
    texts: &[String],
    field: &Field,
    parse: impl Fn(&str, &Field) -> Result<T, SpecError>,
) -> Result<Vec<T>, SpecError> {
    texts.iter().enumerate().map(|(index, text)| parse(text, &field.index(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn what_is_not_set_allows_all_but_other_users_and_variables() {
        assert_eq!(exec(&Exec::default()), Ok(ExecRights::default()));
    }

    #[test]
    fn every_right_is_read() {
        let raw = Exec {
            allowed: Some(false),
            users: texts(&["nobody", "0"]),
            terminal: Some(false),
            environment: texts(&["LC_*", "EDITOR"]),
            signals: Some(texts(&["SIGHUP", "SIGTERM"])),
        };
        let expected = ExecRights {
            start: Permission::Forbidden,
            terminal: Permission::Forbidden,
            users: Users::Listed(texts(&["nobody", "0"])),
            environment: vec![
                NamePattern::Beginning("LC_".to_owned()),
                NamePattern::Exactly("EDITOR".to_owned()),
            ],
            signals: Signals::Listed([1, 15].into()),
        };
        assert_eq!(exec(&raw), Ok(expected));
        let any = Exec { users: texts(&["a", "*"]), environment: texts(&["*"]), ..Exec::default() };
        let any = exec(&any).unwrap();
        assert_eq!(any.users, Users::Any);
        assert!(any.environment[0].matches("X"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_field_and_what_is_allowed() {
        let wrong = |raw: Exec| exec(&raw).unwrap_err().to_string();
        assert_eq!(
            wrong(Exec { users: texts(&["a", "b:c"]), ..Exec::default() }),
            "data.exec.users[1]: \"b:c\": must be a name, a number or `*`"
        );
        assert_eq!(
            wrong(Exec { environment: texts(&["LC*_"]), ..Exec::default() }),
            "data.exec.environment[0]: \"LC*_\": must be a variable's name, a beginning with `*` behind it, or `*`"
        );
        let signal = wrong(Exec { signals: Some(texts(&["SIGHUB"])), ..Exec::default() });
        assert_eq!(
            signal,
            "data.exec.signals[0]: \"SIGHUB\": must be the name of a signal; did you mean `SIGHUP`?"
        );
    }
}
