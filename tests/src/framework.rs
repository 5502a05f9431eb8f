//! A framework over the v1 scheduler API: it launches, watches, acknowledges and kills.
//!
//! ```text
//!  master --events--> Stream --> listen: offers -> Offers (used by launches)
//!                                        all else -> Log (waited on)   UPDATE -> ACKNOWLEDGE, unless by hand
//! ```
//! When the stream ends (the master died) it subscribes again under its id, until it is dropped.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use mesos::common::{
    AgentId, Blob, Capability, ExecutorId, ExecutorInfo, FrameworkCapability, FrameworkId, FrameworkInfo,
    KillPolicy, TaskId, TaskInfo, TaskState, TaskStatus,
};
use mesos::recordio::Decoder;
use mesos::scheduler::{
    Accept, Acknowledge, Call, CallType, Decline, Event, Filters, Kill, Launch, LaunchGroup, Message,
    Operation, Shutdown, Subscribe, TaskGroup,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::describe::for_plain_launch;
use crate::http;
use crate::log::{Heard, Log};
use crate::offers::{self, Amounts, Offers};

/// How long anything is waited for unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where a master takes schedulers' calls.
const PATH: &str = "/master/api/v1/scheduler";
/// Between attempts to subscribe.
const RETRY: Duration = Duration::from_millis(50);
/// An event is never longer.
const LONGEST_EVENT: usize = 64 << 20;

/// What a framework is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// Whether its executors outlive the agent.
    pub checkpoint: bool,
    /// An id given before, to come back as that framework.
    pub id: Option<FrameworkId>,
    /// What it can handle.
    pub capabilities: Vec<Capability>,
    /// Who acknowledges.
    pub acknowledging: Acknowledging,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "tests".to_owned(),
            checkpoint: true,
            id: None,
            capabilities: vec![
                Capability::TaskKillingState,
                Capability::PartitionAware,
                Capability::MultiRole,
            ],
            acknowledging: Acknowledging::AtOnce,
        }
    }
}

/// Who acknowledges updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acknowledging {
    /// The framework, as they come.
    #[default]
    AtOnce,
    /// The test, with [`Framework::acknowledge`].
    ByHand,
}

/// A subscribed framework. Dropping it closes its stream and leaves what it launched alone.
#[derive(Debug)]
pub struct Framework {
    shared: Arc<Shared>,
    listener: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    master: SocketAddr,
    id: FrameworkId,
    info: FrameworkInfo,
    /// The id of the stream that every call must name; none while there is no stream.
    stream: watch::Sender<Option<String>>,
    log: watch::Sender<Log>,
    offers: watch::Sender<Offers>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    acknowledging: Acknowledging,
    return_after_loss: Return,
    tasks: BTreeMap<TaskId, AgentId>,
    executors: BTreeMap<ExecutorId, AgentId>,
}

/// What the end of the stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Return {
    /// The framework subscribes again.
    #[default]
    Always,
    /// It has asked for its end.
    Never,
}

impl Framework {
    /// Subscribes, as soon as the master takes subscriptions.
    ///
    /// # Errors
    /// It did not within [`PATIENCE`]; the text holds its last answer.
    pub async fn subscribe(master: SocketAddr, options: Options) -> anyhow::Result<Self> {
        let mut info = info(&options);
        let stream = first_subscription(master, &info).await?;
        info.id = Some(stream.framework.clone());
        let shared = Arc::new(Shared {
            master,
            id: stream.framework.clone(),
            info,
            stream: watch::Sender::new(None),
            log: watch::Sender::default(),
            offers: watch::Sender::default(),
            state: Mutex::new(State { acknowledging: options.acknowledging, ..State::default() }),
        });
        shared.subscribed(&stream);
        let listener = tokio::spawn(Shared::listen(shared.clone(), stream)).abort_handle();
        Ok(Self { shared, listener })
    }

    /// The id that the master gave.
    pub fn id(&self) -> &FrameworkId {
        &self.shared.id
    }

    /// All that was heard so far.
    pub fn log(&self) -> Log {
        self.shared.log.borrow().clone()
    }

    /// A view of the log that tells when it has grown.
    pub fn watch(&self) -> watch::Receiver<Log> {
        self.shared.log.subscribe()
    }

    /// From now on updates are acknowledged so.
    pub fn acknowledging(&self, how: Acknowledging) {
        self.shared.state().acknowledging = how;
    }

    /// Waits until `found` finds something in the log, for [`PATIENCE`].
    ///
    /// # Errors
    /// It did not; the text says for `what` was waited and holds the whole log.
    pub async fn wait_for<T>(&self, found: impl Fn(&Log) -> Option<T>, what: &str) -> anyhow::Result<T> {
        self.wait_for_within(PATIENCE, found, what).await
    }

    /// As [`Framework::wait_for`], for `patience`.
    ///
    /// # Errors
    /// As [`Framework::wait_for`].
    pub async fn wait_for_within<T>(
        &self,
        patience: Duration,
        found: impl Fn(&Log) -> Option<T>,
        what: &str,
    ) -> anyhow::Result<T> {
        let mut log = self.watch();
        let waiting = async {
            loop {
                if let Some(value) = found(&log.borrow_and_update()) {
                    return Some(value);
                }
                log.changed().await.ok()?;
            }
        };
        match timeout(patience, waiting).await {
            Ok(Some(value)) => Ok(value),
            _ => bail!("waited {patience:?} in vain for {what}; {}", self.log()),
        }
    }

    /// The first status of a task with this state, waited for.
    ///
    /// # Errors
    /// As [`Framework::wait_for`].
    pub async fn wait_for_state(&self, task: &TaskId, state: TaskState) -> anyhow::Result<TaskStatus> {
        self.wait_for(|log| log.first(task, state).cloned(), &format!("{state} of {task}")).await
    }

    /// The status with which a task ended, waited for.
    ///
    /// # Errors
    /// As [`Framework::wait_for`].
    pub async fn wait_for_end(&self, task: &TaskId) -> anyhow::Result<TaskStatus> {
        self.wait_for(|log| log.end(task).cloned(), &format!("the end of {task}")).await
    }

    /// Waits until the master has told that an executor is gone.
    ///
    /// # Errors
    /// As [`Framework::wait_for`].
    pub async fn wait_for_executor_end(&self, executor: &ExecutorId) -> anyhow::Result<()> {
        self.wait_for(|log| log.failure(executor).map(drop), &format!("the end of executor {executor}")).await
    }

    /// LAUNCH_GROUP, on the agent where the executor is, or on any with enough resources; the tasks keep their commands.
    ///
    /// # Errors
    /// No offer was large enough within [`PATIENCE`], or the master refused the call.
    pub async fn launch_group(
        &self,
        executor: &ExecutorInfo,
        tasks: Vec<TaskInfo>,
    ) -> anyhow::Result<AgentId> {
        let executor = self.owned(executor);
        self.accept(&executor, tasks, |executor, tasks| {
            Ok(Operation {
                kind: "LAUNCH_GROUP".to_owned(),
                launch_group: Some(LaunchGroup {
                    executor: executor.clone(),
                    task_group: TaskGroup { tasks },
                }),
                launch: None,
            })
        })
        .await
    }

    /// LAUNCH, on the agent where the executor is, or on any with enough resources. The master takes no command for a
    /// custom executor: each task's moves to its settings.
    ///
    /// # Errors
    /// As [`Framework::launch_group`]; or a task's data are no settings.
    pub async fn launch(&self, executor: &ExecutorInfo, tasks: Vec<TaskInfo>) -> anyhow::Result<AgentId> {
        let executor = self.owned(executor);
        self.accept(&executor, tasks, |executor, tasks| {
            let task_infos: anyhow::Result<_> =
                tasks.into_iter().map(|task| for_plain_launch(task, executor)).collect();
            Ok(Operation {
                kind: "LAUNCH".to_owned(),
                launch: Some(Launch { task_infos: task_infos? }),
                launch_group: None,
            })
        })
        .await
    }

    /// Gives all offers back at once, for other frameworks.
    ///
    /// # Errors
    /// The master refused the call.
    pub async fn decline_all(&self) -> anyhow::Result<()> {
        let mut offer_ids = Vec::new();
        self.shared.offers.send_modify(|offers| offer_ids = offers.take_all());
        let decline = Decline { offer_ids, filters: Filters { refuse_seconds: 3600.0 } };
        self.shared.call(Call { kind: CallType::Decline, decline: Some(decline), ..Call::default() }).await
    }

    /// KILL, with the task's own policy.
    ///
    /// # Errors
    /// The master refused the call.
    pub async fn kill(&self, task: &TaskId) -> anyhow::Result<()> {
        self.kill_with(task, None).await
    }

    /// KILL, with another policy than the task's own.
    ///
    /// # Errors
    /// The master refused the call.
    pub async fn kill_with(&self, task: &TaskId, kill_policy: Option<KillPolicy>) -> anyhow::Result<()> {
        let agent_id = self.shared.state().tasks.get(task).cloned();
        let kill = Kill { task_id: task.clone(), agent_id, kill_policy };
        self.shared.call(Call { kind: CallType::Kill, kill: Some(kill), ..Call::default() }).await
    }

    /// SHUTDOWN of an executor.
    ///
    /// # Errors
    /// It was never heard of, or the master refused the call.
    pub async fn shutdown_executor(&self, executor: &ExecutorId) -> anyhow::Result<()> {
        let shutdown = Shutdown { executor_id: executor.clone(), agent_id: self.agent_of(executor)? };
        self.shared.call(Call { kind: CallType::Shutdown, shutdown: Some(shutdown), ..Call::default() }).await
    }

    /// MESSAGE to an executor.
    ///
    /// # Errors
    /// It was never heard of, or the master refused the call.
    pub async fn message(&self, executor: &ExecutorId, bytes: &[u8]) -> anyhow::Result<()> {
        let message = Message {
            agent_id: self.agent_of(executor)?,
            executor_id: executor.clone(),
            data: Blob(bytes.to_vec()),
        };
        self.shared.call(Call { kind: CallType::Message, message: Some(message), ..Call::default() }).await
    }

    /// ACKNOWLEDGE of one update. One without a uuid needs none.
    ///
    /// # Errors
    /// The master refused the call.
    pub async fn acknowledge(&self, status: &TaskStatus) -> anyhow::Result<()> {
        self.shared.acknowledge(status).await
    }

    /// TEARDOWN: ends the framework and all that it runs. Nothing is heard after it.
    ///
    /// # Errors
    /// The master refused the call.
    pub async fn teardown(&self) -> anyhow::Result<()> {
        // The master takes it from a subscribed framework only, and closes the stream then.
        self.shared.state().return_after_loss = Return::Never;
        self.shared.call(Call { kind: CallType::Teardown, ..Call::default() }).await
    }

    fn owned(&self, executor: &ExecutorInfo) -> ExecutorInfo {
        ExecutorInfo { framework_id: Some(self.shared.id.clone()), ..executor.clone() }
    }

    async fn accept(
        &self,
        executor: &ExecutorInfo,
        mut tasks: Vec<TaskInfo>,
        operation: impl Fn(&ExecutorInfo, Vec<TaskInfo>) -> anyhow::Result<Operation>,
    ) -> anyhow::Result<AgentId> {
        let needed =
            offers::sum(executor.resources.iter().chain(tasks.iter().flat_map(|task| &task.resources)));
        let agent = self.shared.state().executors.get(&executor.executor_id).cloned();
        let (agent, offer_ids) = self.shared.take_offers(agent.as_ref(), &needed).await?;
        {
            let mut state = self.shared.state();
            state.executors.insert(executor.executor_id.clone(), agent.clone());
            for task in &mut tasks {
                task.agent_id = agent.clone();
                state.tasks.insert(task.task_id.clone(), agent.clone());
            }
        }
        let accept = Accept {
            offer_ids,
            operations: vec![operation(executor, tasks)?],
            filters: Filters { refuse_seconds: 0.0 },
        };
        self.shared.call(Call { kind: CallType::Accept, accept: Some(accept), ..Call::default() }).await?;
        Ok(agent)
    }

    fn agent_of(&self, executor: &ExecutorId) -> anyhow::Result<AgentId> {
        if let Some(agent) = self.shared.state().executors.get(executor) {
            return Ok(agent.clone());
        }
        let log = self.shared.log.borrow();
        let status = log.all_statuses().find(|status| status.executor_id.as_ref() == Some(executor));
        status
            .and_then(|status| status.agent_id.clone())
            .with_context(|| format!("executor {executor} is unknown"))
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn info(options: &Options) -> FrameworkInfo {
    let capability = |kind: &Capability| FrameworkCapability { kind: (*kind).into() };
    FrameworkInfo {
        user: "root".to_owned(),
        name: options.name.clone(),
        id: options.id.clone(),
        roles: vec!["*".to_owned()],
        failover_timeout: Some(600.0),
        checkpoint: Some(options.checkpoint),
        capabilities: options.capabilities.iter().map(capability).collect(),
    }
}

async fn first_subscription(master: SocketAddr, info: &FrameworkInfo) -> anyhow::Result<Stream> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Stream::open(master, info).await {
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => sleep(RETRY).await,
            subscribed => return subscribed,
        }
    }
}

/// Why a stream of events ended.
enum End {
    /// The connection did: subscribe again.
    Lost(String),
    /// The master threw the framework out.
    Out,
}

impl Shared {
    async fn listen(self: Arc<Self>, mut stream: Stream) {
        loop {
            let End::Lost(why) = self.read(&mut stream).await else {
                return;
            };
            self.stream.send_replace(None);
            self.hear(Heard::Lost(why));
            if self.state().return_after_loss == Return::Never {
                return;
            }
            stream = loop {
                match Stream::open(self.master, &self.info).await {
                    Ok(stream) => break stream,
                    Err(_) => sleep(RETRY).await,
                }
            };
            self.subscribed(&stream);
        }
    }

    async fn read(&self, stream: &mut Stream) -> End {
        loop {
            match stream.next().await {
                Ok(Some(Event::Error(message))) => {
                    self.hear(Heard::Error(message));
                    return End::Out;
                }
                Ok(Some(event)) => self.handle(event).await,
                Ok(None) => return End::Lost("the stream ended".to_owned()),
                Err(error) => return End::Lost(format!("{error:#}")),
            }
        }
    }

    async fn handle(&self, event: Event) {
        match event {
            Event::Offers(new) => self.offers.send_modify(|offers| offers.add(new)),
            Event::Rescind(id) => self.offers.send_modify(|offers| offers.rescind(&id)),
            Event::Failure(failure) => self.hear(Heard::Failure(failure)),
            Event::Update(status) => {
                self.hear(Heard::Status(status.clone()));
                let how = self.state().acknowledging;
                if how == Acknowledging::AtOnce {
                    // What is not acknowledged comes again, so a master that died just now is no problem.
                    drop(self.acknowledge(&status).await);
                }
            }
            Event::Subscribed(_) | Event::Heartbeat | Event::Unknown(_) | Event::Error(_) => {}
        }
    }

    fn subscribed(&self, stream: &Stream) {
        self.offers.send_modify(Offers::clear);
        self.stream.send_replace(Some(stream.id.clone()));
        self.hear(Heard::Subscribed);
    }

    fn hear(&self, heard: Heard) {
        self.log.send_modify(|log| log.push(heard));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn acknowledge(&self, status: &TaskStatus) -> anyhow::Result<()> {
        let (Some(agent_id), Some(uuid)) = (status.agent_id.clone(), status.uuid.clone()) else {
            return Ok(());
        };
        let acknowledge = Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        self.call(Call { kind: CallType::Acknowledge, acknowledge: Some(acknowledge), ..Call::default() })
            .await
    }

    async fn take_offers(
        &self,
        agent: Option<&AgentId>,
        needed: &Amounts,
    ) -> anyhow::Result<(AgentId, Vec<mesos::common::OfferId>)> {
        let mut changes = self.offers.subscribe();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                let mut taken = None;
                self.offers.send_if_modified(|offers| {
                    taken = offers.take(agent, needed);
                    false
                });
                if taken.is_some() {
                    return taken;
                }
                changes.changed().await.ok()?;
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(Some(taken)) => Ok(taken),
            _ => bail!(
                "waited {PATIENCE:?} in vain for an offer of {needed:?} by {agent:?}; offered is {:?}; {}",
                self.offers.borrow().amounts(),
                *self.log.borrow()
            ),
        }
    }

    /// Makes a call on the current stream, waiting for one while there is none.
    async fn call(&self, call: Call) -> anyhow::Result<()> {
        let kind = call.kind;
        let what = || format!("call {kind:?} at the master");
        let calling = async {
            let mut stream = self.stream.subscribe();
            let stream = stream.wait_for(Option::is_some).await?.clone().unwrap_or_default();
            let json = serde_json::to_vec(&Call { framework_id: Some(self.id.clone()), ..call })?;
            let response = http::post(self.master, PATH, &[("Mesos-Stream-Id", &stream)], json).await?;
            match response.status() {
                StatusCode::ACCEPTED => Ok(()),
                status => bail!("{status}: {}", http::text(response).await?),
            }
        };
        timeout(PATIENCE, calling).await.with_context(what)?.with_context(what)
    }
}

/// The events of one subscription.
struct Stream {
    id: String,
    framework: FrameworkId,
    body: Incoming,
    decoder: Decoder,
}

impl Stream {
    /// Subscribes and reads the SUBSCRIBED.
    async fn open(master: SocketAddr, info: &FrameworkInfo) -> anyhow::Result<Self> {
        let call = Call {
            kind: CallType::Subscribe,
            framework_id: info.id.clone(),
            subscribe: Some(Subscribe { framework_info: info.clone() }),
            ..Call::default()
        };
        let opening = async {
            let response = http::post(master, PATH, &[], serde_json::to_vec(&call)?).await?;
            if response.status() != StatusCode::OK {
                bail!("subscribe at {master}: {}: {}", response.status(), http::text(response).await?);
            }
            let id =
                response.headers().get("Mesos-Stream-Id").context("an answer without a Mesos-Stream-Id")?;
            let mut stream = Self {
                id: id.to_str()?.to_owned(),
                framework: FrameworkId::new(""),
                body: response.into_body(),
                decoder: Decoder::new(LONGEST_EVENT),
            };
            match stream.next().await? {
                Some(Event::Subscribed(framework)) => Ok(Self { framework, ..stream }),
                other => bail!("subscribe at {master}: the first event is {other:?}"),
            }
        };
        timeout(PATIENCE, opening).await.context("subscribe")?
    }

    /// The next event; `None` when the stream has ended.
    async fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(record) = self.decoder.next()? {
                return Event::parse(&record).map(Some).map_err(anyhow::Error::msg);
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            if let Ok(bytes) = frame.context("read the stream of events")?.into_data() {
                self.decoder.extend(&bytes);
            }
        }
    }
}
