//! What `make bench` measures: the release build of the executor from outside, as a child process, and beside each figure
//! the floor or a peer, measured in the same run.
//!
//! ```text
//!  bench --LAUNCH_GROUP, KILL--> kube-executor --execve--> beacon (the bench's own binary)
//!    ^-------- UPDATE ---------------/                       |
//!    ^-------- a datagram with the time by CLOCK_MONOTONIC --/
//! ```
//! Nothing is asserted: a figure depends on the machine.
//!
//! | module | what it holds |
//! |---|---|
//! | [`beacon`] | the program that says when it runs |
//! | [`clock`] | clocks of several processes |
//! | [`stand`] | an executor on a fake agent |
//! | [`latency`], [`floor`] | launch, kill, exit and restart of one task, and the same without an executor |
//! | [`group`] | a thousand tasks, and memory |
//! | [`checks`] | CPU time of health checks |
//! | [`exec`] | sessions through the endpoint, beside ssh, kubectl, dcos and a Mesos agent |
//! | [`relaunch`] | a failed task launched again through a real Mesos |
//! | [`table`] | samples, and lines of the table |

pub mod beacon;
pub mod checks;
pub mod clock;
pub mod exec;
pub mod floor;
pub mod group;
pub mod latency;
pub mod relaunch;
pub mod stand;
pub mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use table::{Row, Table, megabytes};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// LAUNCH_GROUP to execve and to TASK_RUNNING
    Launch,
    /// KILL to the signal
    Kill,
    /// The end of a process to the update's bytes
    Exit,
    /// The end of a process to the next one's execve
    Restart,
    /// A thousand tasks in one group, and the memory they take
    Group,
    /// TASK_FAILED to TASK_RUNNING of the task launched again, through a real Mesos
    Relaunch,
    /// Memory of the executor and of the pod's init
    Memory,
    /// CPU time of seven tasks that are checked every second
    Idle,
    /// CPU time of one HTTP check
    Check,
    /// The size of the binary
    Size,
    /// A whole `kubex task exec T true`, beside ssh, kubectl and dcos
    Exec,
    /// A request to the endpoint to the first output, beside a Mesos agent
    FirstByte,
    /// 100 MiB out of a task
    Output,
    /// 100 MiB into a task
    Input,
    /// Sessions opened and ended per second
    Sessions,
    /// Memory of the endpoint, and of idle sessions
    SessionMemory,
    /// A thousand sessions that echo at once
    Thousand,
}

/// What is measured, of what, and how often.
#[derive(Debug, Clone)]
pub struct Options {
    /// The executor.
    pub executor: PathBuf,
    /// What is measured; everything when empty.
    pub only: Vec<Measure>,
    /// Rounds of each latency.
    pub rounds: usize,
    /// How long a thousand sessions echo.
    pub echo: Duration,
}

impl Options {
    /// Whether one of these is wanted.
    pub fn wants(&self, measures: &[Measure]) -> bool {
        self.only.is_empty() || measures.iter().any(|measure| self.only.contains(measure))
    }
}

/// Measures all that is wanted. What cannot be measured is a line that says why.
pub async fn run(options: &Options) -> Table {
    let mut rows = Vec::new();
    rows.extend(latency::measure(options).await);
    if options.wants(&[Measure::Group]) {
        rows.extend(or_failed("1,000 tasks in one group", group::measure(options).await));
    }
    if options.wants(&[Measure::Relaunch]) {
        rows.extend(or_failed(relaunch::NAME, relaunch::measure(options).await));
    }
    if options.wants(&[Measure::Memory]) {
        rows.extend(or_failed("memory", group::memory_of_one(options).await));
    }
    if options.wants(&[Measure::Idle]) {
        rows.extend(or_failed("idle CPU", checks::idle(options).await));
    }
    if options.wants(&[Measure::Check]) {
        rows.extend(or_failed("one HTTP check", checks::one(options).await));
    }
    if options.wants(&[Measure::Size]) {
        rows.extend(or_failed("binary", size(&options.executor).map(|row| vec![row])));
    }
    rows.extend(exec::measure(options).await);
    Table(rows)
}

/// A word on stderr about what is going on.
fn tell(what: &str) {
    eprintln!("measuring {what} ...");
}

fn or_failed(measure: &'static str, rows: anyhow::Result<Vec<Row>>) -> Vec<Row> {
    rows.unwrap_or_else(|error| vec![Row::failed(measure, &error)])
}

fn size(executor: &Path) -> anyhow::Result<Row> {
    let bytes = fs::metadata(executor).with_context(|| format!("look at {}", executor.display()))?.len();
    Ok(Row {
        measure: "binary",
        target: "< 8 MB",
        measured: megabytes(bytes / 1024),
        beside: String::new(),
        how: format!("the size of {}", executor.display()),
    })
}

/// Raises the limit of open files as far as it goes, for this process and its children. Returns how far that is.
pub fn raise_open_files() -> anyhow::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
        .with_context(|| format!("raise the limit of open files to {hard}"))?;
    Ok(hard)
}

/// The machine, in a line.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let loads = read("/proc/loadavg");
    let loads: Vec<&str> = loads.split(' ').take(3).collect();
    format!(
        "{cores} cores ({}), Linux {}, load {}",
        model.map_or("unknown", |(_, name)| name),
        read("/proc/sys/kernel/osrelease").trim(),
        loads.join(" ")
    )
}
