//! `kube-executor`: configuration, set-up, run, drain, exit code. Everything else is in the library.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kube_executor::agent::environment::AgentEnvironment;
use kube_executor::config::Flags;
use kube_executor::{executor, host, log, pod, variables};

/// Threads for file operations. A launch of 1,000 tasks has 1,000 of these waiting; more threads would only cost memory.
const BLOCKING_THREADS: usize = 16;
/// sysexits(3): the command line or the environment is wrong.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|one| one == pod::init::ARGUMENT) {
        return pod::init::main(arguments.next().is_some_and(|one| one == pod::init::OWN_NETWORK));
    }
    let flags = Flags::parse();
    log::start(&flags);
    if flags.check_host {
        let findings = host::check_host();
        log::print(&host::table(&findings));
        return ExitCode::from(host::verdict(&findings).exit_code());
    }
    if flags.describe {
        log::print(&host::describe(&flags.lines(), &flags.state));
        return ExitCode::SUCCESS;
    }
    if flags.sweep {
        let report = executor::sweep(&flags.state);
        log::print(&report.to_string());
        return if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match AgentEnvironment::parse(&variables::take()) {
        Ok(environment) => run(&flags, environment),
        Err(error) => {
            tracing::error!(%error, "a Mesos agent starts this program; by hand, see --help");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn run(flags: &Flags, environment: AgentEnvironment) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(1))
        .build();
    let ended = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(executor::serve(flags, environment)));
    match ended {
        Ok(ended) => {
            tracing::info!(cause = ?ended.cause, unacknowledged = ended.unacknowledged, "end");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "end");
            ExitCode::FAILURE
        }
    }
}
