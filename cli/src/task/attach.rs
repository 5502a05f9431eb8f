//! `kubex task attach`.

use clap::Args;

use super::exec::{EscapeCharacter, EscapeParser};
use crate::client::{Client, task_path};
use crate::failure::Failure;
use crate::percent::Query;
use crate::session::{self, Interrupts, Stdin};
use crate::terminal;

/// To what, and how.
#[derive(Debug, Args)]
#[command(
    after_help = "A task with a terminal gets what is typed; ~. after a new line leaves it alone again, with exit code 0."
)]
pub(crate) struct Arguments {
    /// Only look
    #[arg(long)]
    no_stdin: bool,
    /// The character that begins an escape, or none
    #[arg(long, value_name = "CHAR", default_value = "~", value_parser = EscapeParser)]
    escape: EscapeCharacter,
    /// The task: its name, its id, or a unique prefix of either
    task: String,
}

/// Attaches until the task ends or is left.
pub(crate) async fn run(client: &Client, arguments: &Arguments) -> Result<u8, Failure> {
    let Arguments { no_stdin, escape, task } = arguments;
    let mut connection = client.connect().await?;
    let pods = connection.pods().await?;
    // Only a task with a terminal has an input, and only the list tells which has.
    let (_, task) = super::resolve(task, &pods)?;
    let stdin = match (task.terminal && !no_stdin, terminal::at_stdin()) {
        (false, _) => Stdin::Unused,
        (true, true) => Stdin::Keys(escape.0),
        (true, false) => Stdin::WithoutEnd,
    };
    let mut query = Query::default()
        .with_true("stdin", stdin != Stdin::Unused)
        .with_true("stdout", true)
        .with_true("stderr", !task.terminal)
        .with_true("tty", task.terminal);
    if let (Stdin::Keys(_), Some(size)) = (stdin, terminal::size()) {
        query = query.with("rows", size.rows.to_string()).with("cols", size.columns.to_string());
    }
    let upgraded = connection.upgrade(&task_path(task.id.as_str(), "attach", query.text())).await?;
    Ok(session::run(client, upgraded, stdin, Interrupts::Deadly).await?.unwrap_or(0))
}
