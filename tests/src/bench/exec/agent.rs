//! A real Mesos agent with a task of our executor, asked by plain requests, and by the dcos CLI as DC/OS would pass them on.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesos::common::{ExecutorId, TaskState};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::bench::Options;
use crate::describe::{Program, argv_task};
use crate::framework::{self, Framework};
use crate::http;
use crate::rig::{self, Rig, cache_folder};

/// Where an agent answers.
const PATH: &str = "/slave(1)/api/v1";
/// How long it may take to know the container.
const PATIENCE: Duration = Duration::from_secs(20);

/// It. Dropped, nothing is left.
#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    container: String,
    task: String,
    executor: ExecutorId,
    framework: Framework,
    rig: Rig,
    router: Router,
    home: TempDir,
}

impl Agent {
    /// Starts Mesos and a task.
    ///
    /// # Errors
    /// The rig is not built, or something did not start.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let rig = Rig::start(rig::Options::default()).await?;
        let framework = Framework::subscribe(rig.master(), framework::Options::default()).await?;
        let executor = Program::kube_executor(&options.executor, &rig.folder().join("state")).pod("bench");
        let task = argv_task("bench-sleeper", &["sleep", "100000"]);
        let id = task.task_id.clone();
        framework.launch_group(&executor, vec![task]).await?;
        framework.wait_for_state(&id, TaskState::Running).await?;
        let address = rig.master();
        let container = container(address).await?;
        let router = Router::start(address).await?;
        let home = tempfile::Builder::new().prefix("kx-bench-").tempdir()?;
        let this = Self {
            address,
            container,
            task: id.value,
            executor: executor.executor_id,
            framework,
            rig,
            router,
            home,
        };
        // The first ones may come before the container can be entered.
        let end = Instant::now() + PATIENCE;
        while let Err(error) = this.caller().session("true", Until::End).await {
            anyhow::ensure!(Instant::now() < end, "no session in a real agent: {error:#}");
            sleep(Duration::from_millis(100)).await;
        }
        this.write_config()?;
        Ok(this)
    }

    /// The task's id.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// What asks it.
    pub fn caller(&self) -> AgentCaller {
        AgentCaller { address: self.address, container: self.container.clone() }
    }

    /// The dcos CLI with these arguments.
    pub fn dcos(&self, arguments: &[&str]) -> Command {
        let site = cache_folder().join("dcos/site");
        let mut command = Command::new("python3");
        command.arg(site.join("bin/dcos")).args(arguments);
        command.env("PYTHONPATH", &site).env("HOME", self.home.path()).env("DCOS_DIR", self.home.path());
        command
    }

    /// Ends it all.
    ///
    /// # Errors
    /// It does not end.
    pub async fn end(&mut self) -> anyhow::Result<()> {
        self.framework.shutdown_executor(&self.executor).await?;
        self.framework.wait_for_executor_end(&self.executor).await?;
        self.framework.teardown().await?;
        self.rig.stop();
        Ok(())
    }

    fn write_config(&self) -> anyhow::Result<()> {
        let text = format!(
            "[core]\ndcos_url = \"http://{}\"\ndcos_acs_token = \"none\"\nreporting = false\n",
            self.router.address
        );
        let file = self.home.path().join("dcos.toml");
        std::fs::write(&file, text).context("write dcos.toml")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&file, mode).context("close dcos.toml")
    }
}

async fn container(agent: SocketAddr) -> anyhow::Result<String> {
    let answer = http::post(agent, PATH, &[], br#"{"type":"GET_CONTAINERS"}"#.to_vec()).await?;
    let answer: Value = serde_json::from_str(&http::text(answer).await?).context("read GET_CONTAINERS")?;
    let id = answer.pointer("/get_containers/containers/0/container_id/value").and_then(Value::as_str);
    id.map(str::to_owned).with_context(|| format!("find a container in {answer}"))
}

/// How far a session is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To its first output.
    FirstByte,
    /// To its end.
    End,
}

/// What asks an agent.
#[derive(Debug, Clone)]
pub struct AgentCaller {
    address: SocketAddr,
    container: String,
}

impl AgentCaller {
    /// A connection.
    ///
    /// # Errors
    /// There is none.
    pub async fn connect(&self) -> anyhow::Result<TcpStream> {
        let stream = TcpStream::connect(self.address).await.context("connect to the agent")?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// LAUNCH_NESTED_CONTAINER_SESSION of a text for the shell, on a new connection.
    ///
    /// # Errors
    /// It was refused.
    pub async fn session(&self, text: &str, until: Until) -> anyhow::Result<()> {
        self.session_on(self.connect().await?, text, until).await
    }

    /// The same on this connection.
    ///
    /// # Errors
    /// It was refused.
    pub async fn session_on(&self, mut stream: TcpStream, text: &str, until: Until) -> anyhow::Result<()> {
        let id = json!({"value": uuid::Uuid::new_v4().to_string(), "parent": {"value": self.container}});
        let call = json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_session": {"container_id": id, "command": {"value": text}}});
        let body = call.to_string();
        let request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: application/recordio\r\n\
             Message-Accept: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).await?;
        let mark: &[u8] = match until {
            Until::FirstByte => b"\"DATA\"",
            Until::End => b"\r\n0\r\n\r\n",
        };
        let mut heard = Vec::new();
        loop {
            if heard.len() > 12 && !heard.starts_with(b"HTTP/1.1 200") {
                bail!("{}", String::from_utf8_lossy(&heard));
            }
            if heard.windows(mark.len()).any(|some| some == mark) {
                return Ok(());
            }
            if stream.read_buf(&mut heard).await? == 0 {
                bail!("the agent closed after {:?}", String::from_utf8_lossy(&heard));
            }
        }
    }
}

/// What DC/OS has before Mesos: `/mesos/...` is the master's, `/slave/<id>/...` an agent's. Each connection is for one request.
#[derive(Debug)]
struct Router {
    address: SocketAddr,
    serving: AbortHandle,
}

impl Router {
    async fn start(mesos: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
        let address = listener.local_addr()?;
        let serve = async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away early is its own affair.
                tokio::spawn(async move { drop(pass_on(stream, mesos).await) });
            }
        };
        Ok(Self { address, serving: tokio::spawn(serve).abort_handle() })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass_on(mut client: TcpStream, mesos: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(mesos).await?;
    let mut heard = Vec::new();
    let head = loop {
        if let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 2;
        }
        if client.read_buf(&mut heard).await? == 0 {
            return Ok(());
        }
    };
    let lines = String::from_utf8_lossy(&heard[..head]).into_owned();
    let mut lines = lines.split_inclusive("\r\n");
    let first = lines.next().unwrap_or_default().replacen(" /mesos/", " /", 1);
    // As Mesos calls it since 1.0.
    let first = first.replacen("/state.json ", "/state ", 1);
    let first = match first.split_once(" /slave/") {
        Some((method, rest)) => format!("{method} /slave(1){}", rest.find('/').map_or("", |at| &rest[at..])),
        None => first,
    };
    let others = lines.filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let rewritten: String = std::iter::once(first.as_str()).chain(others).collect();
    server.write_all(rewritten.as_bytes()).await?;
    server.write_all(b"Connection: close\r\n").await?;
    server.write_all(&heard[head..]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
