//! The command line: the flags that all commands have, and the nouns.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::completion::Shells;
use crate::{config, task};

/// Operates tasks, plans and clusters of kube-framework.
#[derive(Debug, Parser)]
#[command(name = "kubex", version, about, max_term_width = 110, subcommand_required = true)]
#[command(
    after_help = "Exit codes: those of the command for `task exec` (128 + n if it died of signal n); 125 where kubex \
    itself failed; 255 where a session ended without an exit code; 141 where nobody reads the output any more."
)]
pub(crate) struct Kubex {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What kubex knows.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// The tasks of a host: list, run commands in them, attach, logs, signals, what they use
    #[command(subcommand)]
    Task(task::Verb),
    /// Which servers there are, and which one is used
    #[command(subcommand)]
    Config(config::command::Verb),
    /// Completion for a shell: `source <(kubex completion bash)`
    Completion(Shells),
}

/// Flags of all commands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The context to use instead of the current one
    #[arg(long, global = true, value_name = "NAME", env = "KUBEX_CONTEXT")]
    pub(crate) context: Option<String>,
    /// The exec endpoint (https://HOST:PORT); no context is used then
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The file with the contexts [default: ~/.config/kubex/config.toml]
    #[arg(long, global = true, value_name = "FILE", env = "KUBEX_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// The authorities that the server's certificate must come from (PEM); no others are trusted
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// The key of the client certificate (PEM)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// A file with a bearer token (or the token itself in the variable KUBEX_TOKEN)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Do not check the server's certificate: anybody may read along
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
    /// How lists are written
    #[arg(long, short, global = true, value_enum, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// How lists are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// As the server gives it
    Json,
}
