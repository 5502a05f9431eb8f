//! Commands: exit code 0 is a success.

use super::Miss;
use super::describe::quoted;
use crate::health::{Observed, RunCommand};
use crate::spec::Command;

pub(super) async fn check(
    command: &Command,
    environment: &[(String, String)],
    commands: &dyn RunCommand,
) -> Result<Observed, Miss> {
    let result = commands.run(command, environment).await.map_err(|text| Miss::Unknown { text })?;
    let observed = Observed::ExitCode(result.code);
    if result.code == 0 {
        return Ok(observed);
    }
    let output = quoted(&result.output);
    let text = if output.is_empty() {
        format!("exit status {}", result.code)
    } else {
        format!("exit status {}: {output}", result.code)
    };
    Err(Miss::Failure { text, observed })
}
