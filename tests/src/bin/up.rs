//! `make up`: etcd and kube-apiserver on a real Mesos, run by kube-executor, until Ctrl-C.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kube_executor_tests::describe::built_executor;
use kube_executor_tests::up::{Ending, Folder, Options, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Starts etcd and kube-apiserver on a real Mesos on this machine, and ends them without a trace.
#[derive(Debug, Parser)]
struct Arguments {
    /// The kube-executor to use; by default the one beside this program
    #[arg(long)]
    executor: Option<PathBuf>,
    /// Which Kubernetes
    #[arg(long, default_value = "1.36.3")]
    kubernetes_version: String,
    /// Make the folder for everything in this one; by default in the system's one for temporary files
    #[arg(long)]
    folder: Option<PathBuf>,
    /// End as soon as everything has been up
    #[arg(long)]
    once: bool,
    /// Do not remove the folder at the end
    #[arg(long)]
    keep: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match start(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: Arguments) -> anyhow::Result<()> {
    let executor = arguments.executor.map_or_else(built_executor, Ok)?;
    let options = Options {
        executor: executor
            .canonicalize()
            .map_err(|error| anyhow::anyhow!("find {}: {error}", executor.display()))?,
        kubernetes_version: arguments.kubernetes_version,
        parent: arguments.folder,
        ending: if arguments.once { Ending::OnceUp } else { Ending::WhenAsked },
        folder: if arguments.keep { Folder::Kept } else { Folder::Removed },
    };
    run(&options, requests()?).await
}

/// Counts SIGINTs, SIGTERMs and SIGHUPs (the terminal is gone).
fn requests() -> anyhow::Result<watch::Receiver<u32>> {
    let (sender, receiver) = watch::channel(0);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
            sender.send_modify(|count| *count += 1);
        }
    });
    Ok(receiver)
}
