//! A Mesos agent as an executor sees it, in process: it serves the executor API by TCP, Unix socket or TLS, says what its
//! script says, checks calls as strictly as a real one, and keeps everything it receives.
//!
//! ```text
//!  suite -- launch, kill, drop_stream, down --> FakeAgent --events--> executor
//!  suite <------- wait_for(Log) --------------- FakeAgent <--calls--- executor
//! ```
//! Waits look at the state, not at what changes: what has happened before counts. They end after [`PATIENCE`] with a list
//! of what was received. Dropped, the agent closes everything, and panics if an update came that crashes a real agent.

mod certificates;
mod log;
mod server;
mod state;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mesos::common::{Blob, Capability, ExecutorId, FrameworkId, TaskState, TaskStatus};
use mesos::recordio;
use serde_json::{Value, json};
use tempfile::TempDir;

use certificates::Certificates;
use server::Listeners;
use state::Shared;

pub use log::{Log, Received, Via};

/// How long a wait may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What kind of agent it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// How executors reach it.
    pub transport: Transport,
    /// The token that every call must carry.
    pub token: Option<String>,
    /// Whether the framework checkpoints.
    pub checkpoint: bool,
    /// `MESOS_RECOVERY_TIMEOUT`.
    pub recovery_timeout: Duration,
    /// `MESOS_SUBSCRIPTION_BACKOFF_MAX`.
    pub subscription_backoff_max: Duration,
    /// `MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD`.
    pub shutdown_grace_period: Duration,
    /// Which updates are acknowledged.
    pub acknowledge: Acknowledge,
    /// The executor's id.
    pub executor_id: String,
    /// The id of the executor's container: cgroups are named after it, so no two tests may share one.
    pub container_id: String,
    /// `ExecutorInfo.data`: the JSON of `PodSettings`.
    pub executor_data: Option<Vec<u8>>,
    /// What the framework can handle.
    pub capabilities: Vec<Capability>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: Transport::Tcp,
            token: None,
            checkpoint: true,
            recovery_timeout: Duration::from_secs(900),
            subscription_backoff_max: Duration::from_secs(2),
            shutdown_grace_period: Duration::from_secs(5),
            acknowledge: Acknowledge::All,
            executor_id: "executor-1".to_owned(),
            container_id: format!("container-{}", uuid::Uuid::new_v4()),
            executor_data: None,
            capabilities: vec![Capability::TaskKillingState, Capability::PartitionAware],
        }
    }
}

/// How executors reach the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By TCP.
    Tcp,
    /// By a Unix socket; by TCP too.
    Unix,
    /// By TLS, certificate and authorities as in the environment.
    Tls(ClientCertificate),
}

/// What a TLS agent asks of executors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    /// A certificate of its authority.
    Required,
    /// Nothing.
    NotAsked,
}

/// Which updates are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledge {
    /// Every one, at once.
    All,
    /// Those for which [`FakeAgent::acknowledge`] is called.
    None,
}

/// What the agent does with a call instead of what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Answers with this status and does nothing else.
    Status(u16),
    /// Closes the connection without an answer.
    Reset,
    /// Never answers.
    Silence,
    /// Takes it and answers 202, but never acknowledges it.
    Unacknowledged,
}

/// The agent. Make it inside a tokio runtime.
#[derive(Debug)]
pub struct FakeAgent {
    options: Options,
    folder: TempDir,
    endpoint: SocketAddr,
    certificates: Option<Certificates>,
    shared: Arc<Shared>,
    listeners: Option<Listeners>,
}

impl FakeAgent {
    /// An agent that listens on a free port.
    pub async fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("make a folder for the agent");
        let sandbox = folder.path().join("sandbox");
        std::fs::create_dir(&sandbox).expect("make a sandbox");
        let certificates = match options.transport {
            Transport::Tls(_) => Some(Certificates::make(folder.path())),
            Transport::Tcp | Transport::Unix => None,
        };
        let mut agent = Self {
            shared: Arc::new(Shared::new(&options)),
            endpoint: SocketAddr::from(([127, 0, 0, 1], 0)),
            options,
            folder,
            certificates,
            listeners: None,
        };
        agent.up().await;
        agent
    }

    /// The variables that an agent sets for its executors.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let options = &self.options;
        let duration = |duration: Duration| format!("{}ms", duration.as_millis());
        let sandbox = self.sandbox().display().to_string();
        let mut variables = BTreeMap::from([
            ("MESOS_FRAMEWORK_ID", state::FRAMEWORK_ID.to_owned()),
            ("MESOS_EXECUTOR_ID", options.executor_id.clone()),
            ("MESOS_SLAVE_ID", state::AGENT_ID.to_owned()),
            ("MESOS_SLAVE_PID", format!("{}@{}", state::PROCESS_ID, self.endpoint)),
            ("MESOS_AGENT_ENDPOINT", self.endpoint.to_string()),
            ("MESOS_DIRECTORY", sandbox.clone()),
            ("MESOS_SANDBOX", sandbox),
            ("MESOS_CHECKPOINT", u8::from(options.checkpoint).to_string()),
            ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", duration(options.shutdown_grace_period)),
            ("MESOS_RECOVERY_TIMEOUT", duration(options.recovery_timeout)),
            ("MESOS_SUBSCRIPTION_BACKOFF_MAX", duration(options.subscription_backoff_max)),
        ]);
        if options.transport == Transport::Unix {
            variables.insert("MESOS_DOMAIN_SOCKET", self.socket().display().to_string());
        }
        if let Some(token) = &options.token {
            variables.insert("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", token.clone());
        }
        if let Some(certificates) = &self.certificates {
            variables.extend(certificates.variables());
        }
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The executor's working folder.
    pub fn sandbox(&self) -> PathBuf {
        self.folder.path().join("sandbox")
    }

    /// A PEM file of an authority that has signed nothing here.
    ///
    /// # Panics
    /// The agent does not serve TLS.
    pub fn other_authority(&self) -> &Path {
        &self.certificates.as_ref().expect("an agent with TLS").other_authority
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    /// Ends as if killed: nothing listens, every connection is closed. What it has received stays.
    pub async fn down(&mut self) {
        if let Some(listeners) = self.listeners.take() {
            listeners.close().await;
        }
        self.shared.forget_executor();
    }

    /// Listens again, on the same port and socket. Executors must subscribe before they do anything else.
    pub async fn up(&mut self) {
        let socket = (self.options.transport == Transport::Unix).then(|| self.socket());
        let tls = match (&self.certificates, self.options.transport) {
            (Some(certificates), Transport::Tls(wanted)) => Some(certificates.acceptor(wanted)),
            _ => None,
        };
        let listeners = Listeners::open(self.endpoint, socket.as_deref(), tls, &self.shared).await;
        self.endpoint = listeners.endpoint;
        self.listeners = Some(listeners);
    }
}

/// What the agent says.
impl FakeAgent {
    /// A LAUNCH of this TaskInfo. Before the first subscription it is kept for that; later, without a stream, it is lost.
    pub fn launch(&self, task: &Value) {
        self.shared.deliver(std::slice::from_ref(task), &json!({"type": "LAUNCH", "launch": {"task": task}}));
    }

    /// A LAUNCH_GROUP of these TaskInfos, kept or lost like a LAUNCH.
    pub fn launch_group(&self, tasks: &[Value]) {
        let group = json!({"type": "LAUNCH_GROUP", "launch_group": {"task_group": {"tasks": tasks}}});
        self.shared.deliver(tasks, &group);
    }

    /// Any bytes as one record that launches tasks of these ids.
    pub fn launch_raw(&self, task_ids: &[&str], record: &[u8]) {
        self.shared.change(|state| state.expect(task_ids));
        self.send_raw_record(record);
    }

    /// A KILL.
    pub fn kill(&self, task_id: &str, grace_period: Option<Duration>) {
        let mut kill = json!({"task_id": {"value": task_id}});
        if let Some(grace_period) = grace_period {
            let nanoseconds = u64::try_from(grace_period.as_nanos()).expect("a grace period below 500 years");
            kill["kill_policy"] = json!({"grace_period": {"nanoseconds": nanoseconds}});
        }
        self.send_event(&json!({"type": "KILL", "kill": kill}));
    }

    /// A SHUTDOWN.
    pub fn shutdown(&self) {
        self.send_event(&json!({"type": "SHUTDOWN"}));
    }

    /// An ACKNOWLEDGED of this update.
    pub fn acknowledge(&self, status: &TaskStatus) {
        self.send_event(&state::acknowledgement(status));
    }

    /// From here on, which updates are acknowledged at once.
    pub fn set_acknowledge(&self, acknowledge: Acknowledge) {
        self.shared.change(|state| state.acknowledge = acknowledge);
    }

    /// Any event.
    pub fn send_event(&self, event: &Value) {
        self.send_raw_record(event.to_string().as_bytes());
    }

    /// Any bytes as one record.
    pub fn send_raw_record(&self, record: &[u8]) {
        self.send_raw_bytes(&recordio::encode(record));
    }

    /// Any bytes as they are.
    pub fn send_raw_bytes(&self, bytes: &[u8]) {
        self.shared.change(|state| state.send(Bytes::copy_from_slice(bytes)));
    }

    /// Ends the stream of events in an orderly way; everything else goes on.
    pub fn drop_stream(&self) {
        self.shared.forget_stream();
    }

    /// What happens to the next SUBSCRIBEs, before anything is looked at but their form.
    pub fn script_subscribes(&self, replies: impl IntoIterator<Item = Reply>) {
        let replies: VecDeque<_> = replies.into_iter().collect();
        self.shared.change(|state| state.subscribe_script = replies);
    }

    /// What happens to the next UPDATEs.
    pub fn script_updates(&self, replies: impl IntoIterator<Item = Reply>) {
        let replies: VecDeque<_> = replies.into_iter().collect();
        self.shared.change(|state| state.update_script = replies);
    }
}

/// What the agent has heard.
impl FakeAgent {
    /// Waits until `find` finds something. It is asked again after every change.
    ///
    /// # Panics
    /// After [`PATIENCE`], with `what` was waited for and everything received.
    pub async fn wait_for<T>(&self, what: &str, find: impl FnMut(&Log) -> Option<T>) -> T {
        match tokio::time::timeout(PATIENCE, self.shared.find(find)).await {
            Ok(found) => found,
            Err(_) => panic!("waited {PATIENCE:?} for {what}; the agent received:\n{}", self.log()),
        }
    }

    /// Waits until an executor is subscribed.
    pub async fn wait_subscribed(&self) {
        self.wait_for("a subscription", |log| log.streaming.then_some(())).await;
    }

    /// Waits until there have been so many subscriptions in all.
    pub async fn wait_subscriptions(&self, count: usize) {
        self.wait_for(&format!("subscription {count}"), |log| (log.subscriptions >= count).then_some(()))
            .await;
    }

    /// Waits until an update of this task with this state has arrived, and returns the last such.
    pub async fn wait_status(&self, task_id: &str, state: TaskState) -> TaskStatus {
        let find = |log: &Log| {
            let mut statuses = log.statuses_of(task_id).into_iter().rev();
            statuses.find(|status| status.state.known() == Some(state))
        };
        self.wait_for(&format!("{state} of {task_id}"), find).await
    }

    /// The updates of a task that have arrived, each uuid once, in the order of their first arrival.
    pub fn statuses(&self, task_id: &str) -> Vec<TaskStatus> {
        self.log().statuses_of(task_id)
    }

    /// Everything received so far.
    pub fn log(&self) -> Log {
        self.shared.log()
    }

    /// The ids of the executor and its framework.
    pub fn ids(&self) -> (ExecutorId, FrameworkId) {
        (ExecutorId::new(self.options.executor_id.clone()), FrameworkId::new(state::FRAMEWORK_ID))
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        let log = self.log();
        if !log.fatal.is_empty() && !std::thread::panicking() {
            panic!("a real agent would have crashed: {:?}\n{log}", log.fatal);
        }
    }
}

/// A TaskInfo with nothing but what must be there; `more` is merged into it.
pub fn task_info(task_id: &str, more: &Value) -> Value {
    let mut task = json!({
        "name": task_id,
        "task_id": {"value": task_id},
        "agent_id": {"value": state::AGENT_ID},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}, "allocation_info": {"role": "*"}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64.0}, "allocation_info": {"role": "*"}},
        ],
    });
    if let (Some(task), Some(more)) = (task.as_object_mut(), more.as_object()) {
        task.extend(more.clone());
    }
    task
}

/// A status as an executor makes it, with a uuid of its own.
pub fn status(executor_id: &ExecutorId, task_id: &str, state: TaskState) -> TaskStatus {
    let bare = json!({"task_id": {"value": task_id}, "state": state.as_str(), "source": "SOURCE_EXECUTOR"});
    let mut status: TaskStatus = serde_json::from_value(bare).expect("a status");
    status.uuid = Some(Blob(uuid::Uuid::new_v4().as_bytes().to_vec()));
    status.executor_id = Some(executor_id.clone());
    status
}
