//! The executor's own flags, raw and then checked. What the agent says comes by its environment: [`crate::agent::environment`].

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::cgroup::detect::Nesting;

/// Runs one pod instance of Kubernetes (or of anything else) on a Mesos agent: its processes in cgroups, checked and
/// reported. A Mesos agent starts it; the flags below may stand in the executor's command or in its environment.
#[derive(Debug, Parser)]
#[command(name = "kube-executor", version)]
pub struct Flags {
    /// The folder for what outlives an executor: data of tasks, fetched files, records of living executors
    #[arg(long, env = "KUBE_EXECUTOR_STATE", default_value = "/var/lib/kube-executor")]
    pub state: PathBuf,
    /// Seconds after which an executor without tasks ends
    #[arg(long, env = "KUBE_EXECUTOR_IDLE_TIMEOUT", default_value_t = 300.0, value_parser = seconds)]
    pub idle_timeout: f64,
    /// How lines of the log look
    #[arg(long, env = "KUBE_EXECUTOR_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// The least important lines that are logged
    #[arg(long, env = "KUBE_EXECUTOR_LOG_LEVEL", default_value = "info")]
    pub log_level: tracing::Level,
    /// Serve metrics on this port of 127.0.0.1, besides the Unix socket
    #[arg(long, env = "KUBE_EXECUTOR_METRICS_PORT")]
    pub metrics_port: Option<u16>,
    /// Gibibytes that fetched files may take on this host; the oldest go first
    #[arg(long, env = "KUBE_EXECUTOR_CACHE_GIB", default_value_t = 20)]
    pub cache_gib: u32,
    /// Days after which a fetched file that nobody used is removed
    #[arg(long, env = "KUBE_EXECUTOR_CACHE_DAYS", default_value_t = 30)]
    pub cache_days: u32,
    /// The folder for the sockets by which the exec endpoint reaches executors
    #[arg(long, env = "KUBE_EXECUTOR_CONTROL_FOLDER", default_value = "/run/kube-executor")]
    pub control_folder: PathBuf,
    /// The user that the exec endpoint runs as: besides this executor's own, nobody else reaches its socket
    #[arg(long, env = "KUBE_EXECUTOR_EXEC_USER", default_value = "exec-endpoint")]
    pub exec_user: String,
    /// On a host with cgroup v2 only: nest tasks in the executor's own Mesos cgroup. Mesos 1.11 knows no cgroup v2, and
    /// later agents may not come back with such cgroups there
    #[arg(long, env = "KUBE_EXECUTOR_NEST_IN_CGROUP2")]
    pub nest_in_cgroup2: bool,
    /// Say what the host lacks, and the package for it
    #[arg(long, group = "action")]
    pub check_host: bool,
    /// Print the effective configuration and the host's totals
    #[arg(long, group = "action")]
    pub describe: bool,
    /// Remove what dead executors of this state folder left, and say what that was
    #[arg(long, group = "action")]
    pub sweep: bool,
}

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it must be a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .map(|_| seconds)
        .map_err(|error| format!("it must be a number of seconds: {error}"))
}

impl Flags {
    /// How long an executor without tasks stays.
    pub fn idle(&self) -> Duration {
        Duration::from_secs_f64(self.idle_timeout)
    }

    /// Bytes that fetched files may take on this host.
    pub fn cache_bytes(&self) -> u64 {
        u64::from(self.cache_gib) << 30
    }

    /// How long a fetched file stays that nobody uses.
    pub fn cache_age(&self) -> Duration {
        Duration::from_secs(u64::from(self.cache_days) * 24 * 60 * 60)
    }

    /// Where cgroups go on a host with cgroup v2 only.
    pub fn nesting(&self) -> Nesting {
        if self.nest_in_cgroup2 { Nesting::Allowed } else { Nesting::Avoid }
    }

    /// The effective configuration, for people.
    pub fn lines(&self) -> Vec<(String, String)> {
        let port = self.metrics_port.map_or_else(|| "none".to_owned(), |port| format!("127.0.0.1:{port}"));
        [
            ("state folder", self.state.display().to_string()),
            ("idle timeout", format!("{:?}", self.idle())),
            ("log", format!("{:?}, {} and above", self.log_format, self.log_level).to_lowercase()),
            ("metrics port", port),
            ("fetched files", format!("at most {} GiB, {} days", self.cache_gib, self.cache_days)),
            ("control folder", self.control_folder.display().to_string()),
            ("exec user", self.exec_user.clone()),
            ("nest in cgroup2", self.nest_in_cgroup2.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_defaults_and_refuse_nonsense() {
        let flags = Flags::try_parse_from(["kube-executor"]).unwrap();
        assert_eq!(flags.idle(), Duration::from_secs(300));
        for bad in [
            ["--idle-timeout", "-1"],
            ["--idle-timeout", "soon"],
            ["--log-level", "loud"],
            ["--metrics-port", "70000"],
        ] {
            assert!(Flags::try_parse_from(["kube-executor"].into_iter().chain(bad)).is_err(), "{bad:?}");
        }
        assert!(Flags::try_parse_from(["kube-executor", "--sweep", "--describe"]).is_err());
    }
}
