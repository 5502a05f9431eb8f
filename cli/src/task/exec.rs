//! `kubex task exec`.

use clap::Args;

use crate::client::{Client, task_path};
use crate::failure::Failure;
use crate::percent::Query;
use crate::session::{self, Interrupts, Stdin, escape};
use crate::terminal;

/// What to run, and how.
#[derive(Debug, Args)]
#[command(override_usage = "kubex task exec [OPTIONS] TASK [--] COMMAND [ARGUMENTS]...")]
#[command(
    after_help = "What stands behind the task's name belongs to the command. Its exit code is kubex's, too \
    (128 + n if it died of signal n); 125 if kubex could not run it, 255 if the session ended without an exit code. \
    SIGINT and SIGTERM are passed on to it; a second one ends kubex. With -it, ~. after a new line ends the session."
)]
pub(crate) struct Arguments {
    /// Pass stdin on; without it the command reads nothing
    #[arg(long, short = 'i')]
    stdin: bool,
    /// Give the command a terminal
    #[arg(long, short = 't')]
    tty: bool,
    /// Another user than the task's, by name or number
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// One more environment variable; may be given several times
    #[arg(long, short, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// The folder, absolute or relative to the task's sandbox
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// The character that begins an escape with -it, or none
    #[arg(long, value_name = "CHAR", default_value = "~", value_parser = EscapeParser)]
    escape: EscapeCharacter,
    /// The task (its name, its id, or a unique prefix of either), then the command
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true, value_names = ["TASK", "COMMAND"])]
    words: Vec<String>,
}

/// The character that begins an escape, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EscapeCharacter(pub(crate) Option<u8>);

/// Parses it.
#[derive(Debug, Clone)]
pub(crate) struct EscapeParser;

impl clap::builder::TypedValueParser for EscapeParser {
    type Value = EscapeCharacter;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let parse = |text: &str| escape::parse(text).map(EscapeCharacter);
        clap::builder::TypedValueParser::parse_ref(&parse, command, argument, value)
    }
}

fn variable(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

/// Runs it; the exit code is the command's.
pub(crate) async fn run(client: &Client, arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { stdin, tty, user, env, cwd, escape, words } = arguments;
    let (task, command) = split(&words)?;
    if tty && !terminal::at_stdin() {
        return Err(Failure::Usage(
            "-t needs a terminal, and stdin is none: leave -t out (-i alone passes input on)".to_owned(),
        ));
    }
    let mut query = Query::default();
    for word in command {
        query = query.with("command", word);
    }
    query = query
        .with_true("stdin", stdin)
        .with_true("stdout", true)
        .with_true("stderr", !tty)
        .with_true("tty", tty)
        .with_some("user", user)
        .with_some("cwd", cwd);
    for variable in &env {
        query = query.with("env", variable);
    }
    if tty {
        if let (Ok(name), false) =
            (std::env::var("TERM"), env.iter().any(|variable| variable.starts_with("TERM=")))
        {
            query = query.with("env", format!("TERM={name}"));
        }
        if let Some(size) = terminal::size() {
            query = query.with("rows", size.rows.to_string()).with("cols", size.columns.to_string());
        }
    }
    let connection = client.connect().await?;
    let upgraded = match connection.upgrade(&task_path(task, "exec", query.text())).await {
        Ok(upgraded) => upgraded,
        Err(failure) => return Err(super::with_near_names(failure, client, task).await),
    };
    let stdin = match (stdin, tty) {
        (false, _) => Stdin::Unused,
        (true, false) => Stdin::WithEnd,
        (true, true) => Stdin::Keys(escape.0),
    };
    let left = || Failure::Cut("the session was ended from here".to_owned());
    session::run(client, upgraded, stdin, Interrupts::Forwarded).await?.ok_or_else(left)
}

/// The task and its command. One `--` between them is no part of the command.
fn split(words: &[String]) -> Result<(&str, &[String]), Failure> {
    let (task, command) = match words {
        [task, dashes, command @ ..] if dashes == "--" => (task, command),
        [task, command @ ..] => (task, command),
        [] => return Err(Failure::Usage("give a task and a command".to_owned())),
    };
    if command.is_empty() {
        return Err(Failure::Usage(format!(
            "give a command to be run in {task}, as in `kubex task exec {task} -- ls`"
        )));
    }
    Ok((task, command))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Kubex, Noun};
    use crate::task::Verb;

    fn parsed(line: &str) -> Arguments {
        let words = ["kubex", "task", "exec"].into_iter().chain(line.split(' '));
        match Kubex::try_parse_from(words).unwrap().noun {
            Noun::Task(Verb::Exec(arguments)) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_stands_behind_the_tasks_name_belongs_to_the_command() {
        for (line, command) in [
            ("-it etcd-0-peer pkill etcd", vec!["pkill", "etcd"]),
            ("etcd-0-peer -- sh -c x", vec!["sh", "-c", "x"]),
            ("etcd-0-peer ls -it --user x", vec!["ls", "-it", "--user", "x"]),
            ("etcd-0-peer -- -x", vec!["-x"]),
            ("etcd-0-peer -i", vec!["-i"]),
            ("etcd-0-peer echo -- a", vec!["echo", "--", "a"]),
            ("-- etcd-0-peer ls -a", vec!["ls", "-a"]),
        ] {
            let arguments = parsed(line);
            assert_eq!(
                split(&arguments.words).unwrap(),
                ("etcd-0-peer", &command.iter().map(|&word| word.to_owned()).collect::<Vec<_>>()[..]),
                "{line}"
            );
            assert_eq!(
                (arguments.stdin, arguments.tty, arguments.user),
                (line.starts_with("-it"), line.starts_with("-it"), None)
            );
        }
    }

    #[test]
    fn flags_stand_before_the_tasks_name() {
        let arguments = parsed("-i -u 1000 -e A=b -e C= --cwd /x --escape none t ls");
        assert_eq!(
            (arguments.env, arguments.cwd.as_deref(), arguments.escape.0),
            (vec!["A=b".into(), "C=".into()], Some("/x"), None)
        );
        assert_eq!(arguments.user.as_deref(), Some("1000"));
    }

    #[test]
    fn a_variable_has_a_name_and_a_value_and_there_is_a_command() {
        assert!(variable("A").is_err() && variable("=b").is_err() && variable("A==").is_ok());
        assert!(split(&["t".to_owned()]).unwrap_err().to_string().contains("kubex task exec t -- ls"));
        assert!(split(&["t".to_owned(), "--".to_owned()]).is_err());
    }
}
