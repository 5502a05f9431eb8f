//! `exec-endpoint`: configuration, build, run, drain, exit code. Everything else is in the library.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use exec_endpoint::config::{Config, Flags};
use exec_endpoint::loaded::Loaded;
use exec_endpoint::server::listener;
use exec_endpoint::{log, serve};

/// Threads for file operations, of logs mostly.
const BLOCKING_THREADS: usize = 16;
/// sysexits(3): the command line or the environment is wrong.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let flags = Flags::parse();
    log::start(&flags);
    let check = flags.check;
    match flags.config() {
        Ok(config) if check => check_files(&config),
        Ok(config) => run(config),
        Err(error) => {
            tracing::error!(%error, "the configuration makes no sense");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn check_files(config: &Config) -> ExitCode {
    match Loaded::load(config) {
        Ok(_) => {
            log::print("the configuration and its files are good");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "a file cannot be used");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> ExitCode {
    let given = listener::given();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(1))
        .build();
    let ended = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| Ok(runtime.block_on(serve::serve(config, given))?));
    match ended {
        Ok(drained) => {
            tracing::info!(connections = ?drained, "end");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "end");
            ExitCode::FAILURE
        }
    }
}
