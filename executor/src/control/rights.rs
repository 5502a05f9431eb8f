//! Whether a task's settings allow what is asked, whatever the endpoint says. Nothing here looks anything up.

use task::control::{Exec, Refusal, RefusalKind};

use crate::spec::exec::{ExecRights, Permission, Signals, Users, is_variable_name};
use crate::supervisor::policy::signal_text;

/// The most bytes of an argv in all; the kernel takes no more of one string.
const LONGEST_ARGV: usize = 1 << 20;

/// The variable that every caller may set.
const TERM: &str = "TERM";

/// Whether such a process may be started; its user is [`may_run_as`]'s.
///
/// # Errors
/// The first thing that may not be, or that makes no sense.
pub fn may_start(rights: &ExecRights, exec: &Exec) -> Result<(), Refusal> {
    let task = &exec.task;
    if rights.start == Permission::Forbidden {
        return Err(forbidden(format!("task {task} allows no processes to be started in it (exec.allowed)")));
    }
    if exec.terminal.is_some() && rights.terminal == Permission::Forbidden {
        return Err(forbidden(format!("task {task} allows no terminal (exec.terminal); ask without one")));
    }
    if exec.command.first().is_none_or(String::is_empty) {
        return Err(invalid("the command is empty"));
    }
    if exec.command.iter().map(|one| one.len() + 1).sum::<usize>() > LONGEST_ARGV {
        return Err(invalid(format!("the command is longer than {LONGEST_ARGV} bytes")));
    }
    for (name, _) in &exec.environment {
        if !is_variable_name(name) {
            return Err(invalid(format!("{name:?} is no name of a variable")));
        }
        if name != TERM && !rights.environment.iter().any(|pattern| pattern.matches(name)) {
            return Err(forbidden(format!(
                "task {task} does not let variable {name} be set (exec.environment)"
            )));
        }
    }
    let texts = exec.command.iter().chain(exec.environment.iter().map(|(_, value)| value));
    if texts.chain(&exec.folder).chain(&exec.user).any(|text| text.contains('\0')) {
        return Err(invalid("a NUL byte can be in no argument, variable, folder or user"));
    }
    Ok(())
}

/// Whether a process may run as the user of this number. `own` is the task's user, `listed` are those its settings name.
///
/// # Errors
/// A refusal, with the name as it was asked for.
pub fn may_run_as(rights: &ExecRights, asked: (&str, u32), own: u32, listed: &[u32]) -> Result<(), Refusal> {
    let (name, uid) = asked;
    if uid == own || rights.users == Users::Any || listed.contains(&uid) {
        return Ok(());
    }
    Err(forbidden(format!("the task does not let processes run as user {name} (exec.users)")))
}

/// Whether the task's output, and its input, may be attached to.
///
/// # Errors
/// A refusal.
pub fn may_attach(rights: &ExecRights) -> Result<(), Refusal> {
    match rights.start {
        Permission::Allowed => Ok(()),
        Permission::Forbidden => Err(forbidden("the task cannot be attached to (exec.allowed)")),
    }
}

/// Whether a signal may be sent to the task's process, or to a session's.
///
/// # Errors
/// A refusal.
pub fn may_signal(rights: &ExecRights, number: i32) -> Result<rustix::process::Signal, Refusal> {
    let signal = rustix::process::Signal::from_named_raw(number)
        .ok_or_else(|| invalid(format!("{number} is no signal that can be sent; they are 1 to 31")))?;
    match &rights.signals {
        Signals::Listed(numbers) if !numbers.contains(&number) => Err(forbidden(format!(
            "the task does not let signal {} be sent (exec.signals)",
            signal_text(number)
        ))),
        Signals::Any | Signals::Listed(_) => Ok(signal),
    }
}

/// What the task's settings do not allow.
pub fn forbidden(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Forbidden, message: message.into() }
}

/// What makes no sense.
pub fn invalid(message: impl Into<String>) -> Refusal {
    Refusal { kind: RefusalKind::Invalid, message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::exec::NamePattern;
    use mesos::common::TaskId;
    use task::control::WindowSize;

    fn exec() -> Exec {
        Exec {
            task: TaskId::new("a"),
            command: vec!["true".to_owned()],
            user: None,
            environment: Vec::new(),
            folder: None,
            stdin: false,
            terminal: None,
        }
    }

    fn refused(rights: &ExecRights, exec: &Exec) -> (RefusalKind, String) {
        let refusal = may_start(rights, exec).unwrap_err();
        (refusal.kind, refusal.message)
    }

    #[test]
    fn a_task_that_says_nothing_allows_commands_and_terminals() {
        let rights = ExecRights::default();
        assert_eq!(may_start(&rights, &exec()), Ok(()));
        let terminal = Some(WindowSize { rows: 1, columns: 1 });
        assert_eq!(may_start(&rights, &Exec { terminal, ..exec() }), Ok(()));
        let term = ("TERM".to_owned(), "vt100".to_owned());
        assert_eq!(may_start(&rights, &Exec { environment: vec![term], ..exec() }), Ok(()));
    }

    #[test]
    fn what_is_forbidden_is_said_with_its_setting() {
        let none = ExecRights { start: Permission::Forbidden, ..ExecRights::default() };
        assert_eq!(
            refused(&none, &exec()),
            (
                RefusalKind::Forbidden,
                "task a allows no processes to be started in it (exec.allowed)".to_owned()
            )
        );
        assert_eq!(may_attach(&none).unwrap_err().kind, RefusalKind::Forbidden);
        let no_terminal = ExecRights { terminal: Permission::Forbidden, ..ExecRights::default() };
        let terminal = Some(WindowSize { rows: 1, columns: 1 });
        assert_eq!(refused(&no_terminal, &Exec { terminal, ..exec() }).0, RefusalKind::Forbidden);
        let rights = ExecRights {
            environment: vec![NamePattern::Beginning("LC_".to_owned())],
            ..ExecRights::default()
        };
        let with = |name: &str| Exec { environment: vec![(name.to_owned(), String::new())], ..exec() };
        assert_eq!(may_start(&rights, &with("LC_ALL")), Ok(()));
        assert_eq!(refused(&rights, &with("LD_PRELOAD")).0, RefusalKind::Forbidden);
    }

    #[test]
    fn what_makes_no_sense_is_invalid() {
        let any =
            ExecRights { environment: vec![NamePattern::Beginning(String::new())], ..ExecRights::default() };
        let wrong = [
            Exec { command: Vec::new(), ..exec() },
            Exec { command: vec![String::new()], ..exec() },
            Exec { command: vec!["x".repeat(LONGEST_ARGV)], ..exec() },
            Exec { command: vec!["a\0".to_owned()], ..exec() },
            Exec { folder: Some("\0".to_owned()), ..exec() },
            Exec { user: Some("\0".to_owned()), ..exec() },
            Exec { environment: vec![("A=B".to_owned(), String::new())], ..exec() },
            Exec { environment: vec![("A".to_owned(), "\0".to_owned())], ..exec() },
        ];
        for exec in wrong {
            assert_eq!(refused(&any, &exec).0, RefusalKind::Invalid, "{exec:.80?}");
        }
    }

    #[test]
    fn the_own_user_is_always_allowed_others_by_their_number() {
        let rights = ExecRights::default();
        assert_eq!(may_run_as(&rights, ("me", 7), 7, &[]), Ok(()));
        assert_eq!(may_run_as(&rights, ("nobody", 8), 7, &[8]), Ok(()));
        assert_eq!(may_run_as(&rights, ("root", 0), 7, &[8]).unwrap_err().kind, RefusalKind::Forbidden);
        let any = ExecRights { users: Users::Any, ..rights };
        assert_eq!(may_run_as(&any, ("root", 0), 7, &[]), Ok(()));
    }

    #[test]
    fn signals_are_those_listed_and_have_numbers_that_exist() {
        let rights = ExecRights { signals: Signals::Listed([1].into()), ..ExecRights::default() };
        assert!(may_signal(&rights, 1).is_ok() && may_signal(&ExecRights::default(), 9).is_ok());
        assert_eq!(may_signal(&rights, 9).unwrap_err().kind, RefusalKind::Forbidden);
        for number in [0, -1, 32, 64, 1000] {
            assert_eq!(may_signal(&rights, number).unwrap_err().kind, RefusalKind::Invalid, "{number}");
        }
    }
}
