//! `make bench`: what executor and endpoint take of time, memory and CPU, as a table. Nothing is asserted.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kube_executor_tests::bench::{Measure, Options, beacon, machine, run};
use kube_executor_tests::describe::built_executor;

/// Measures the executor from outside, as a child process.
#[derive(Debug, Parser)]
struct Arguments {
    /// The kube-executor to measure; by default the one beside this program
    #[arg(long)]
    executor: Option<PathBuf>,
    /// Measure this only; may be given several times
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<Measure>,
    /// How often a latency is measured
    #[arg(long, default_value_t = 50)]
    rounds: usize,
    /// How many seconds a thousand sessions echo
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    echo_seconds: u64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(first), Some(socket), Some(name)) = (arguments.next(), arguments.next(), arguments.next())
        && first == beacon::ARGUMENT
    {
        return beacon::main(&socket, &name);
    }
    match bench(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn bench(arguments: Arguments) -> anyhow::Result<()> {
    let executor = arguments.executor.map_or_else(built_executor, Ok)?;
    let options = Options {
        executor: executor
            .canonicalize()
            .map_err(|error| anyhow::anyhow!("find {}: {error}", executor.display()))?,
        only: arguments.only,
        rounds: arguments.rounds,
        echo: Duration::from_secs(arguments.echo_seconds),
    };
    let before = machine();
    let table = tokio::select! {
        table = run(&options) => table,
        // What was started ends with what is dropped here.
        interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
    };
    let mut out = std::io::stdout().lock();
    if cfg!(debug_assertions) {
        writeln!(out, "This is no release build: the figures mean little.")?;
    }
    writeln!(out, "before: {before}\nafter:  {}\n\n{table}", machine())?;
    Ok(())
}
