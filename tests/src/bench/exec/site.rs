//! An executor on a fake agent, a task that idles in it, and an endpoint before it, as an unprivileged user.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use mesos::common::TaskState;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use task::settings::TaskSettings;
use tempfile::TempDir;
use tokio::time::{Duration, Instant, sleep};

use super::client::Tls;
use crate::bench::stand::Stand;
use crate::bench::{Options, raise_open_files};
use crate::describe::built;
use crate::endpoint::{Client, Files, POLICY, USER};
use crate::rig::{free_ports, tail};

/// What the dcos CLI is known by.
pub const TOKEN: &str = "bench-token";
/// How long the endpoint may take to know the task.
const PATIENCE: Duration = Duration::from_secs(20);

/// All of it. Dropped, nothing is left.
#[derive(Debug)]
pub struct Site {
    /// Somebody who may do everything.
    pub client: Client,
    /// The same, in this process.
    pub tls: Tls,
    /// The task's name, which is also its id.
    pub task: String,
    /// The pod's name, and the framework's: the namespace, for kubectl.
    pub pod: (String, String),
    /// The executor.
    pub stand: Stand,
    endpoint: Endpoint,
}

impl Site {
    /// Starts it and waits until the endpoint knows the task.
    ///
    /// # Errors
    /// Something is not built or did not start.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        raise_open_files()?;
        built("kubex")?;
        let mut stand = Stand::start(&options.executor).await?;
        let (task, mut info) = stand.sleeper(&TaskSettings::default());
        // A thousand sessions are in its cgroup.
        info["resources"] = json!([scalar("cpus", 2.0), scalar("mem", 8192.0)]);
        stand.agent.launch_group(&[info]);
        stand.arrival(&task, TaskState::Running).await?;
        let endpoint = Endpoint::start(&stand.control_folder())?;
        let client = endpoint.files.client("bench", "ops")?;
        let tls = Tls::new(&client, endpoint.files.port())?;
        let pod = known(&client, &task, &endpoint).await?;
        Ok(Self { client, tls, task, pod, stand, endpoint })
    }

    /// The endpoint's process id.
    pub fn endpoint(&self) -> i32 {
        self.endpoint.child.id().cast_signed()
    }

    /// The path of a session of this command.
    pub fn exec(&self, stdin: bool, words: &[&str]) -> String {
        let command: String =
            words.iter().map(|word| format!("&command={}", word.replace(' ', "%20"))).collect();
        format!("/kubex/v1/tasks/{}/exec?stdin={stdin}&stdout=true&stderr=true{command}", self.task)
    }

    /// Ends the executor and what is in it.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        self.stand.shut_down().await.map(drop)
    }
}

fn scalar(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

/// Waits until the endpoint knows the task; its pod, and that one's framework.
async fn known(client: &Client, task: &str, endpoint: &Endpoint) -> anyhow::Result<(String, String)> {
    let end = Instant::now() + PATIENCE;
    loop {
        let output = client.kubex(&["task", "list", "--output", "json"]).output().context("run kubex")?;
        let pods: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let has = |pod: &&Value| pod["tasks"].to_string().contains(task);
        if let Some(pod) = pods.as_array().and_then(|pods| pods.iter().find(has)) {
            let text = |name: &str| pod[name].as_str().unwrap_or_default().to_owned();
            return Ok((text("name"), text("framework")));
        }
        if Instant::now() >= end {
            bail!(
                "the endpoint does not know task {task}: {} {}; its log:\n{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
                tail(&endpoint.folder.path().join("log"), 10)
            );
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// The child process; dropped, it is killed.
#[derive(Debug)]
struct Endpoint {
    child: Child,
    files: Files,
    folder: TempDir,
}

impl Endpoint {
    fn start(control: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("kx-bench-").tempdir()?;
        let files = Files::new(folder.path(), USER.1, free_ports(1)?[0], POLICY)?;
        let tokens = folder.path().join("tokens");
        let hash: String = Sha256::digest(TOKEN).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&tokens, format!("sha256:{hash} dcos ops\n")).context("write the tokens")?;
        fs::set_permissions(&tokens, Permissions::from_mode(0o640)).context("close the tokens")?;
        nix::unistd::chown(&tokens, Some(USER.1.into()), None).context("give the tokens away")?;
        let program = built("exec-endpoint")?;
        let log = File::create(folder.path().join("log")).context("make the endpoint's log")?;
        let child = Command::new(&program)
            .args(files.arguments(control))
            .arg("--tokens")
            .arg(&tokens)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .uid(USER.1)
            .gid(USER.1)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Self { child, files, folder })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // It can only fail because it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
