//! Completion scripts for shells.

use std::io::Write as _;

use clap::{Args, CommandFactory as _, ValueEnum};

use crate::arguments::Kubex;
use crate::failure::Failure;

/// For which shell.
#[derive(Debug, Args)]
pub(crate) struct Shells {
    /// The shell
    shell: Shell,
}

/// The shells that are supported.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    /// source <(kubex completion bash)
    Bash,
    /// zsh.
    #[value(help = r#"kubex completion zsh > "${fpath[1]}/_kubex""#)]
    Zsh,
    /// kubex completion fish > ~/.config/fish/completions/kubex.fish
    Fish,
}

/// Writes the script to stdout.
pub(crate) fn run(shells: &Shells) -> Result<u8, Failure> {
    let shell = match shells.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Kubex::command(), "kubex", &mut script);
    std::io::stdout().write_all(&script).map_err(Failure::Output)?;
    Ok(0)
}
