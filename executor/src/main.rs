//! `kube-executor`: configuration, set-up, run, drain, exit code. Everything else is in the library.
#![expect(unsafe_code, reason = "a token is taken out of the environment while there is one thread")]

use std::process::ExitCode;

use clap::Parser;
use kube_executor::agent::environment::{AgentEnvironment, Variables};
use kube_executor::config::Flags;
use kube_executor::{executor, host, log, pod};

/// sysexits(3): the command line or the environment is wrong.
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(pod::init::ARGUMENT) {
        return pod::init::main(arguments.next().as_deref() == Some(pod::init::OWN_NETWORK));
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
    let variables: Variables = std::env::vars().collect();
    // SAFETY: there is no other thread yet that could read the environment.
    unsafe { std::env::remove_var("MESOS_EXECUTOR_AUTHENTICATION_TOKEN") };
    match AgentEnvironment::parse(&variables) {
        Ok(environment) => run(&flags, environment),
        Err(error) => {
            tracing::error!(%error, "a Mesos agent starts this program; by hand, see --help");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn run(flags: &Flags, environment: AgentEnvironment) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
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
