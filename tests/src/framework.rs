//! A framework over the v1 scheduler API: it launches, watches, acknowledges and kills.
//!
//! ```text
//!  master --events--> Stream --> listen: offers -> Offers (used by launches)
//!                                        all else -> Log (waited on)   UPDATE -> ACKNOWLEDGE, unless by hand
//! ```
//! When the stream ends (the master died) it subscribes again under its id, until it is dropped.

mod session;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use mesos::common::{
    AgentId, Blob, Capability, ExecutorId, ExecutorInfo, FrameworkCapability, FrameworkId, FrameworkInfo,
    KillPolicy, TaskId, TaskInfo, TaskState, TaskStatus,
};
use mesos::scheduler::{
    Accept, Call, CallType, Decline, Filters, Kill, Launch, LaunchGroup, Message, Operation, Shutdown,
    TaskGroup,
};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::describe::for_plain_launch;
use crate::log::Log;
use crate::offers;
use session::{Return, Shared};

/// How long anything is waited for unless a test says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

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

impl Framework {
    /// Subscribes, as soon as the master takes subscriptions.
    ///
    /// # Errors
    /// It did not within [`PATIENCE`]; the text holds its last answer.
    pub async fn subscribe(master: SocketAddr, options: Options) -> anyhow::Result<Self> {
        let (shared, stream) = Shared::subscribe(master, info(&options), options.acknowledging).await?;
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
