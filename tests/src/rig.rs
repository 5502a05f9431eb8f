//! A real Mesos master and agent, in a folder, on a port and with cgroups of their own.
//!
//! ```text
//!  start --> running --kill--> dead --restart--> running (same folder and port) --stop or drop--> gone
//! ```
//! Dropping it, in a panic too, ends by force what it started: Mesos, the containers' processes, their cgroups, mounts
//! in its folder, the folder.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::http;
use crate::marks::Marks;

/// How long master and agents may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions whether they do.
const PAUSE: Duration = Duration::from_millis(20);
/// Ports that no outgoing connection gets by itself, and that agents do not offer.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
/// How often another port is tried when somebody took the one that was free.
const ATTEMPTS: usize = 5;

/// What a rig is.
#[derive(Debug, Clone)]
pub struct Options {
    /// What each agent offers; it may be more than the machine has.
    pub resources: String,
    /// How agents start containers.
    pub launcher: Launcher,
    /// How many agents there are. Several that are killed together end each other's containers with [`Launcher::Linux`].
    pub agents: u32,
    /// Where its folder is made; the system's folder for temporary files when `None`.
    pub parent: Option<PathBuf>,
    /// More variables (`MESOS_*`) for master and agents.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resources: "cpus:16;mem:16384;disk:65536;ports:[31000-32000]".to_owned(),
            launcher: Launcher::Linux,
            agents: 1,
            parent: None,
            environment: Vec::new(),
        }
    }
}

/// How agents start containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launcher {
    /// In cgroups: all of a container ends with it. Needs root.
    Linux,
    /// In sessions: what left the session lives on.
    Posix,
}

/// A Mesos master with its agents.
#[derive(Debug)]
pub struct Rig {
    options: Options,
    port: u16,
    cgroups_root: String,
    marks: Marks,
    mesos: Option<Child>,
    folder: TempDir,
}

impl Rig {
    /// Starts master and agents, and waits until the agents are registered.
    ///
    /// # Errors
    /// The rig is not built, or it did not come up in 30 s; the text has the end of Mesos's log.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let built = mesos_folder().join("bin/mesos-local");
        if !built.exists() {
            bail!("{} is missing: run `make rig`", built.display());
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix("kx-rig-");
        let folder = match &options.parent {
            Some(parent) => fs::create_dir_all(parent).and_then(|()| builder.tempdir_in(parent)),
            None => builder.tempdir(),
        };
        let folder = folder.context("create the rig's folder")?;
        let cgroups_root = cgroups_root();
        let marks = Marks::new();
        marks.add_folder(folder.path());
        marks.add_cgroup_root(&cgroups_root);
        let mut rig = Self { options, port: 0, cgroups_root, marks, mesos: None, folder };
        for attempt in 1.. {
            rig.port = free_ports(1)?[0];
            match rig.run().await {
                Err(error) if attempt == ATTEMPTS || !rig.has_ended() => return Err(error),
                Err(_) => rig.kill(),
                Ok(()) => break,
            }
        }
        Ok(rig)
    }

    /// Where the master answers, for frameworks.
    pub fn master(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What tells everything that came of it from everything else.
    pub fn marks(&self) -> &Marks {
        self.note_containers();
        &self.marks
    }

    /// The sandboxes of all executors that it has started, each named as its container is.
    pub fn sandboxes(&self) -> Vec<PathBuf> {
        let agents = below(&self.folder().join("mesos/work/agents"));
        let frameworks = agents.iter().flat_map(|agent| below(&agent.join("work/slaves")));
        let executors = frameworks.flat_map(|agent| below(&agent.join("frameworks")));
        let runs = executors.flat_map(|framework| below(&framework.join("executors")));
        let containers = runs.flat_map(|executor| below(&executor.join("runs")));
        // Beside them there is a link to the latest.
        containers.filter(|container| !container.is_symlink()).collect()
    }

    /// SIGKILL to master and agents; containers live on.
    pub fn kill(&mut self) {
        if let Some(mut mesos) = self.mesos.take() {
            // It can only fail because it has ended, which is what is wanted.
            drop(mesos.kill());
            drop(mesos.wait());
        }
    }

    /// Kills master and agents if they live, starts them on the same folder and port, and waits for the agents.
    ///
    /// # Errors
    /// As [`Rig::start`].
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        let until = Instant::now() + PATIENCE;
        loop {
            match self.run().await {
                // Somebody's connection may hold the port for a moment.
                Err(_) if self.has_ended() && Instant::now() < until => self.kill(),
                result => return result,
            }
        }
    }

    /// Ends master and agents and removes what Mesos leaves, an empty cgroup in each hierarchy. What containers left
    /// stays, to be found; the folder too, until the rig is dropped.
    pub fn stop(&mut self) {
        self.note_containers();
        self.kill();
        self.marks.remove_roots();
    }

    /// As dropping it, but the folder stays. Returns its path.
    ///
    /// # Errors
    /// Something could not be ended.
    pub fn end_and_keep(mut self) -> anyhow::Result<PathBuf> {
        self.folder.disable_cleanup(true);
        self.end()?;
        Ok(self.folder.path().to_owned())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        self.stop();
        self.marks.clear()
    }

    async fn run(&mut self) -> anyhow::Result<()> {
        self.mesos = Some(self.spawn()?);
        let until = Instant::now() + PATIENCE;
        let master = self.master();
        loop {
            let agents = active_agents(master).await;
            if self.has_ended() {
                bail!("mesos-local ended; {}", self.log());
            }
            match agents {
                Ok(count) if count == self.options.agents as usize => return Ok(()),
                _ if Instant::now() < until => sleep(PAUSE).await,
                other => {
                    bail!("waited {PATIENCE:?} for {} agents: {other:?}; {}", self.options.agents, self.log())
                }
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("mesos/mesos-local");
        let output =
            File::options().create(true).append(true).open(self.log_file()).context("open Mesos's log")?;
        let inherited = std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            !name.starts_with("MESOS_") && !name.starts_with("LIBPROCESS_")
        });
        let (launcher, isolation) = match self.options.launcher {
            Launcher::Linux => ("linux", "cgroups/cpu,cgroups/mem"),
            Launcher::Posix => ("posix", "posix/cpu,posix/mem"),
        };
        let mut command = Command::new(&script);
        command
            .arg(self.folder())
            .arg(self.port.to_string())
            .env_clear()
            .envs(inherited)
            .env("AGENTS", self.options.agents.to_string())
            .env("MESOS_RESOURCES", &self.options.resources)
            .env("MESOS_LAUNCHER", launcher)
            .env("MESOS_ISOLATION", isolation)
            .env("MESOS_CGROUPS_ROOT", &self.cgroups_root)
            // How long what is left of an offer takes to be offered again.
            .env("MESOS_ALLOCATION_INTERVAL", "50ms")
            .envs(self.options.environment.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // Ctrl-C is for whoever uses the rig, who then ends it.
            .process_group(0);
        command.spawn().with_context(|| format!("start {}", script.display()))
    }

    fn has_ended(&mut self) -> bool {
        self.mesos.as_mut().is_none_or(|mesos| !matches!(mesos.try_wait(), Ok(None)))
    }

    fn log_file(&self) -> PathBuf {
        self.folder().join("mesos.log")
    }

    fn log(&self) -> String {
        format!("the end of its log:\n{}", tail(&self.log_file(), 20))
    }

    fn note_containers(&self) {
        for sandbox in self.sandboxes() {
            if let Some(id) = sandbox.file_name().and_then(|name| name.to_str()) {
                self.marks.add_container(id);
            }
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("end the rig in {}: {error:#}", self.folder().display());
            // Deleting what a living process or a mount holds could delete more.
            self.folder.disable_cleanup(true);
        }
    }
}

/// Ports of 127.0.0.1 that nobody listens on now, all different.
///
/// # Errors
/// There are not so many.
pub fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut held = Vec::new();
    for _ in 0..count * 100 {
        if held.len() == count {
            break;
        }
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS))).ok());
    }
    if held.len() < count {
        bail!("find {count} free ports in {PORTS:?}");
    }
    Ok(held
        .iter()
        .map(TcpListener::local_addr)
        .map(|address| address.map(|one| one.port()))
        .collect::<Result<_, _>>()?)
}

/// The last lines of a file, each indented.
pub fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    let last = &all[all.len().saturating_sub(lines)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Where everything that is built once for all checkouts is kept.
pub fn cache_folder() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/kube-executor");
    std::env::var_os("KUBE_EXECUTOR_CACHE").map_or_else(home, PathBuf::from)
}

fn mesos_folder() -> PathBuf {
    cache_folder().join("mesos")
}

fn cgroups_root() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("mesos-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn below(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The agents that the master can use.
async fn active_agents(master: SocketAddr) -> anyhow::Result<usize> {
    #[derive(Deserialize)]
    struct Answer {
        get_agents: Agents,
    }
    #[derive(Deserialize)]
    struct Agents {
        #[serde(default)]
        agents: Vec<Agent>,
    }
    #[derive(Deserialize)]
    struct Agent {
        active: bool,
    }
    let response = http::post(master, "/master/api/v1", &[], br#"{"type": "GET_AGENTS"}"#.to_vec()).await?;
    let status = response.status();
    let text = http::text(response).await?;
    if !status.is_success() {
        bail!("GET_AGENTS: {status}: {text}");
    }
    let answer: Answer = serde_json::from_str(&text).with_context(|| format!("read {text}"))?;
    Ok(answer.get_agents.agents.iter().filter(|agent| agent.active).count())
}
