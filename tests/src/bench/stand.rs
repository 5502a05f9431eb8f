//! A test stand: the release build of the executor as a child process, on a fake agent, with beacons as its tasks.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesos::common::{Blob, TaskState};
use mesos::executor::CallType;
use serde_json::{Value, json};
use task::settings::TaskSettings;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::beacon::{Beacons, Said, What};
use super::clock;
use crate::cgroups;
use crate::endpoint::USER;
use crate::fake_agent::{self, FakeAgent, task_info};

/// Between rounds.
pub const IDLE: Duration = Duration::from_millis(200);
/// The folder of the control socket, in the stand's.
const CONTROL: &str = "control";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// An executor, its agent, and where its tasks are heard. Dropped, nothing of it is left.
#[derive(Debug)]
pub struct Stand {
    /// The agent.
    pub agent: FakeAgent,
    /// Where beacons are heard.
    pub beacons: Beacons,
    executor: Executor,
    program: PathBuf,
    prefix: String,
    launched: usize,
    folder: TempDir,
}

impl Stand {
    /// Starts an executor and waits until it is subscribed.
    ///
    /// # Errors
    /// It could not be started, or it did not subscribe.
    pub async fn start(executor: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("kx-bench-").tempdir()?;
        // Temporary folders are for one user; an endpoint passes through this one.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .context("open the folder to all")?;
        let options = fake_agent::Options {
            // Should the bench be killed, the executor does not wait for another agent.
            checkpoint: false,
            shutdown_grace_period: Duration::from_secs(60),
            ..fake_agent::Options::default()
        };
        let agent = FakeAgent::start(options).await;
        let executor = Executor::start(executor, folder.path(), &agent)?;
        let beacons = Beacons::listen(folder.path())?;
        let prefix = format!("bench-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let program = std::env::current_exe().context("find the running program")?;
        let mut stand = Self { agent, beacons, executor, program, prefix, launched: 0, folder };
        stand.until("a subscription", |stand| Ok(stand.agent.log().streaming.then_some(()))).await?;
        Ok(stand)
    }

    /// As [`Stand::start`], with one task that runs all the time: the pod lives.
    ///
    /// # Errors
    /// As [`Stand::start`]; or the task does not run.
    pub async fn with_living_pod(executor: &Path) -> anyhow::Result<Self> {
        let mut stand = Self::start(executor).await?;
        let (id, task) = stand.sleeper(&TaskSettings::default());
        stand.agent.launch_group(&[task]);
        stand.arrival(&id, TaskState::Running).await?;
        Ok(stand)
    }

    /// A new task that is a beacon, and its id, which is the beacon's name.
    pub fn beacon(&mut self, settings: &TaskSettings) -> (String, Value) {
        let id = self.next_id();
        let mut arguments = vec![self.program.display().to_string()];
        arguments.extend(self.beacons.arguments(&id));
        let task = task(&id, &arguments, settings);
        (id, task)
    }

    /// A new task that sleeps, and its id.
    pub fn sleeper(&mut self, settings: &TaskSettings) -> (String, Value) {
        let id = self.next_id();
        let task = task(&id, &["sleep".to_owned(), "100000".to_owned()], settings);
        (id, task)
    }

    /// Launches a beacon and waits until it says so. Returns what it said, and when the launch was written.
    ///
    /// # Errors
    /// It did not.
    pub async fn launch_beacon(&mut self, settings: &TaskSettings) -> anyhow::Result<(Said, Duration)> {
        let (id, task) = self.beacon(settings);
        let asked = clock::now();
        self.agent.launch_group(&[task]);
        Ok((self.beacons.wait(&id, What::Started).await?, asked))
    }

    /// When the agent had all bytes of the last update of this task with this state. Looks every few milliseconds, so
    /// it is for after the fact: a measurement is made while nobody looks.
    ///
    /// # Errors
    /// There was none for long.
    pub async fn arrival(&mut self, task_id: &str, state: TaskState) -> anyhow::Result<Duration> {
        self.until(&format!("{state} of {task_id}"), |stand| {
            let log = stand.agent.log();
            let mut updates = log.calls_of(CallType::Update);
            let found = updates.rfind(|received| {
                received.update().is_some_and(|status| {
                    status.task_id.as_str() == task_id && status.state.known() == Some(state)
                })
            });
            Ok(found.map(|received| clock::of(received.at)))
        })
        .await
    }

    /// Asks `found` every few milliseconds until it finds something.
    ///
    /// # Errors
    /// It did not for long, or the executor ended.
    pub async fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&mut Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = found(self)? {
                return Ok(value);
            }
            if let Some(status) = self.executor.ended()? {
                bail!("wait for {what}: the executor ended, {status}; {}", self.executor.log());
            }
            if Instant::now() >= end {
                bail!("wait {PATIENCE:?} for {what}; {}", self.executor.log());
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Tells the executor to end and waits until it has; returns how long that took.
    ///
    /// # Errors
    /// It did not.
    pub async fn shut_down(&mut self) -> anyhow::Result<Duration> {
        let began = Instant::now();
        self.agent.shutdown();
        while self.executor.ended()?.is_none() {
            if began.elapsed() >= PATIENCE {
                bail!("wait {PATIENCE:?} for the executor's end; {}", self.executor.log());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(began.elapsed())
    }

    /// The executor's process id.
    pub fn executor(&self) -> i32 {
        self.executor.child.id().cast_signed()
    }

    /// The folder of the executor's control socket.
    pub fn control_folder(&self) -> PathBuf {
        self.folder.path().join(CONTROL)
    }

    /// How many cgroups of sessions in its tasks there are, in the hierarchy that has the most.
    pub fn sessions(&self) -> usize {
        let tasks = cgroups::named(|name| name.starts_with(&self.prefix));
        let is_session = |cgroup: &PathBuf| {
            cgroup.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec-"))
        };
        tasks
            .iter()
            .map(|task| cgroups::children(task).into_iter().filter(is_session).count())
            .max()
            .unwrap_or_default()
    }

    /// How many cgroups of its tasks there are, in all hierarchies.
    pub fn cgroups(&self) -> usize {
        cgroups::named(|name| name.starts_with(&self.prefix)).len()
    }

    fn next_id(&mut self) -> String {
        self.launched += 1;
        format!("{}-{}", self.prefix, self.launched)
    }
}

fn task(id: &str, arguments: &[String], settings: &TaskSettings) -> Value {
    let command = json!({"shell": false, "value": arguments.first(), "arguments": arguments});
    let data = Blob(serde_json::to_vec(settings).expect("names and numbers are always JSON"));
    task_info(id, &json!({"command": command, "data": data}))
}

/// The child process; dropped, it is killed, and what it leaves is swept.
#[derive(Debug)]
struct Executor {
    child: Child,
    program: PathBuf,
    state: PathBuf,
    log: PathBuf,
}

impl Executor {
    fn start(program: &Path, folder: &Path, agent: &FakeAgent) -> anyhow::Result<Self> {
        let (state, log) = (folder.join("state"), folder.join("stderr"));
        let inherited = std::env::vars_os()
            .filter(|(name, _)| name == "PATH" || name.to_string_lossy().starts_with("KUBE_EXECUTOR_LOG_"));
        let child = Command::new(program)
            .arg("--state")
            .arg(&state)
            .arg("--control-folder")
            .arg(folder.join(CONTROL))
            .args(["--exec-user", USER.0])
            .env_clear()
            .envs(inherited)
            .envs(agent.environment())
            .current_dir(agent.sandbox())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).with_context(|| format!("create {}", log.display()))?)
            // Ctrl-C is for the bench, which then ends it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, program: program.to_owned(), state, log })
    }

    fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().context("wait for the executor")
    }

    fn log(&self) -> String {
        format!("the end of its log:\n{}", crate::rig::tail(&self.log, 10))
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // It can only fail because it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        let sweep = Command::new(&self.program).arg("--state").arg(&self.state).arg("--sweep").output();
        match sweep {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("sweep: {}", String::from_utf8_lossy(&output.stdout).trim()),
            Err(error) => eprintln!("sweep: {error}"),
        }
    }
}
