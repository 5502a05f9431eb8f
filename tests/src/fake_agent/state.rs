//! What the agent knows and how it judges a call, as `Http::executor` and `validation.cpp` of Mesos 1.11 do.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use mesos::common::{
    AgentId, AgentInfo, Blob, CheckStatusInfo, CheckType, CommandInfo, ContainerId, ExecutorId, ExecutorInfo,
    FrameworkCapability, FrameworkId, FrameworkInfo, Source, TaskState, TaskStatus,
};
use mesos::executor::{Call, CallType, Subscribe, Subscribed};
use mesos::recordio;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::log::{Log, Received, Via, uuid};
use super::{Acknowledge, Options, Reply};

pub(super) const FRAMEWORK_ID: &str = "framework-1";
pub(super) const AGENT_ID: &str = "agent-1";
pub(super) const PROCESS_ID: &str = "slave(1)";

/// What the server does with a call.
pub(super) enum Answer {
    Status(u16, String),
    Stream(mpsc::UnboundedReceiver<Bytes>),
    Reset,
    Silence,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct State {
    executor_id: ExecutorId,
    token: Option<String>,
    subscribed: Subscribed,
    pub(super) acknowledge: Acknowledge,
    pub(super) subscribe_script: VecDeque<Reply>,
    pub(super) update_script: VecDeque<Reply>,
    pub(super) log: Log,
    stream: Option<mpsc::UnboundedSender<Bytes>>,
    /// Whether an executor has subscribed since the agent came up; a lost stream does not change that.
    registered: bool,
    connections: u64,
    /// Launches for the first subscription.
    queued: Vec<Bytes>,
    /// Ids of all tasks that were sent to the executor.
    delivered: BTreeSet<String>,
}

impl Shared {
    pub(super) fn new(options: &Options) -> Self {
        let executor_id = ExecutorId::new(options.executor_id.clone());
        let framework_id = FrameworkId::new(FRAMEWORK_ID);
        let capabilities = options.capabilities.iter().map(|&kind| FrameworkCapability { kind: kind.into() });
        let subscribed = Subscribed {
            executor_info: ExecutorInfo {
                kind: Some("CUSTOM".to_owned()),
                executor_id: executor_id.clone(),
                framework_id: Some(framework_id.clone()),
                command: Some(CommandInfo::default()),
                resources: Vec::new(),
                data: options.executor_data.clone().map(Blob),
                shutdown_grace_period: None,
            },
            framework_info: FrameworkInfo {
                user: "root".to_owned(),
                name: "kubernetes".to_owned(),
                id: Some(framework_id),
                roles: vec!["*".to_owned()],
                failover_timeout: None,
                checkpoint: Some(options.checkpoint),
                capabilities: capabilities.collect(),
            },
            agent_info: AgentInfo {
                hostname: "localhost".to_owned(),
                id: Some(AgentId::new(AGENT_ID)),
                port: None,
            },
            container_id: Some(ContainerId::new(options.container_id.clone())),
        };
        let state = State {
            executor_id,
            token: options.token.clone(),
            subscribed,
            acknowledge: options.acknowledge,
            subscribe_script: VecDeque::new(),
            update_script: VecDeque::new(),
            log: Log::default(),
            stream: None,
            registered: false,
            connections: 0,
            queued: Vec::new(),
            delivered: BTreeSet::new(),
        };
        Self { state: Mutex::new(state), changes: watch::channel(0).0 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changes.send_modify(|version| *version += 1);
        result
    }

    pub(super) fn log(&self) -> Log {
        let state = self.lock();
        Log { streaming: state.is_streaming(), ..state.log.clone() }
    }

    pub(super) async fn find<T>(&self, mut find: impl FnMut(&Log) -> Option<T>) -> T {
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(found) = find(&self.log()) {
                return found;
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    pub(super) fn forget_stream(&self) {
        self.change(|state| state.stream = None);
    }

    pub(super) fn forget_executor(&self) {
        self.change(|state| (state.stream, state.registered) = (None, false));
    }

    pub(super) fn next_connection(&self) -> u64 {
        self.change(|state| {
            state.connections += 1;
            state.connections
        })
    }

    pub(super) fn deliver(&self, tasks: &[Value], event: &Value) {
        let record = Bytes::from(recordio::encode(event.to_string().as_bytes()));
        self.change(|state| {
            let ids = tasks.iter().filter_map(|task| task["task_id"]["value"].as_str().map(str::to_owned));
            state.delivered.extend(ids);
            if state.log.subscriptions == 0 { state.queued.push(record) } else { state.send(record) }
        });
    }

    pub(super) fn receive(&self, via: Via, connection: u64, head: Parts, body: Bytes) -> Answer {
        let at = Instant::now();
        let call: Result<Call, String> = mesos::common::parse(&body);
        let (call, unreadable) = match call {
            Ok(call) => (Some(Arc::new(call)), String::new()),
            Err(error) => (None, error),
        };
        self.change(|state| {
            let answer = match (state.refuse_head(via, &head), &call) {
                (Some((status, text)), _) => Answer::Status(status, text.to_owned()),
                (None, None) => Answer::Status(400, format!("Failed to parse body: {unreadable}")),
                (None, Some(call)) => state.judge(call, &head.headers),
            };
            let (status, text) = match &answer {
                Answer::Status(status, text) => (*status, text.clone()),
                Answer::Stream(_) => (200, String::new()),
                Answer::Reset | Answer::Silence => (0, "no answer".to_owned()),
            };
            let path = head.uri.path().to_owned();
            state.log.calls.push(Received {
                at,
                via,
                connection,
                path,
                headers: head.headers,
                call,
                status,
                text,
            });
            answer
        })
    }
}

impl State {
    fn is_streaming(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| !stream.is_closed())
    }

    /// Updates of these tasks may come.
    pub(super) fn expect(&mut self, task_ids: &[&str]) {
        self.delivered.extend(task_ids.iter().map(|&id| id.to_owned()));
    }

    pub(super) fn send(&mut self, bytes: Bytes) {
        if let Some(stream) = &self.stream {
            // Without a stream an event is lost, as it is with a real agent.
            drop(stream.send(bytes));
        }
    }

    fn send_event(&mut self, event: &Value) {
        self.send(recordio::encode(event.to_string().as_bytes()).into());
    }

    fn refuse_head(&self, via: Via, head: &Parts) -> Option<(u16, &'static str)> {
        let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
        let long_path = format!("/{PROCESS_ID}/api/v1/executor");
        match head.uri.path() {
            path if path == long_path => {}
            _ if via == Via::Unix => return Some((403, "not for executors")),
            "/api/v1/executor" => {}
            _ => return Some((404, "no such route")),
        }
        if let Some(token) = &self.token
            && header(AUTHORIZATION) != Some(&format!("Bearer {token}"))
        {
            return Some((401, "missing or bad token"));
        }
        if head.method != Method::POST {
            return Some((405, "Expecting one of { 'POST' }"));
        }
        match header(CONTENT_TYPE) {
            None => Some((400, "Expecting 'Content-Type' to be present")),
            Some("application/json") => None,
            Some(_) => Some((415, "Expecting 'Content-Type' of application/json or application/x-protobuf")),
        }
    }

    fn judge(&mut self, call: &Arc<Call>, headers: &HeaderMap) -> Answer {
        let script = match call.kind {
            CallType::Subscribe => self.subscribe_script.pop_front(),
            CallType::Update => self.update_script.pop_front(),
            CallType::Message | CallType::Heartbeat => None,
        };
        match script {
            Some(Reply::Status(status)) => return Answer::Status(status, "as the script says".to_owned()),
            Some(Reply::Reset) => return Answer::Reset,
            Some(Reply::Silence) => return Answer::Silence,
            Some(Reply::Unacknowledged) | None => {}
        }
        if let Err((status, text)) = self.validate(call, headers) {
            return Answer::Status(status, text.to_owned());
        }
        match (call.kind, &call.subscribe, &call.update) {
            (CallType::Subscribe, Some(body), _) => return Answer::Stream(self.subscribe(body)),
            (CallType::Update, _, Some(update)) => {
                let acknowledged = self.take(&update.status);
                if acknowledged && script.is_none() {
                    self.send_event(&acknowledgement(&update.status));
                }
            }
            _ => {}
        }
        Answer::Status(202, String::new())
    }

    fn validate(&self, call: &Call, headers: &HeaderMap) -> Result<(), (u16, &'static str)> {
        match (call.kind, &call.subscribe, &call.update) {
            (CallType::Subscribe, None, _) => return Err((400, "Expecting 'subscribe' to be present")),
            (CallType::Update, _, None) => return Err((400, "Expecting 'update' to be present")),
            (CallType::Update, _, Some(update)) => {
                validate_status(&update.status, &call.executor_id).map_err(|text| (400, text))?;
            }
            _ => {}
        }
        let accept = headers.get(ACCEPT).map_or("*/*", |value| value.to_str().unwrap_or_default());
        if call.kind == CallType::Subscribe && !["*/*", "application/json"].contains(&accept) {
            return Err((406, "Expecting 'Accept' to allow application/json"));
        }
        if call.kind == CallType::Heartbeat {
            return Ok(());
        }
        if call.framework_id.as_str() != FRAMEWORK_ID {
            return Err((400, "Framework cannot be found"));
        }
        if call.executor_id != self.executor_id {
            return Err((400, "Executor cannot be found"));
        }
        if call.kind != CallType::Subscribe && !self.registered {
            return Err((403, "Executor is not subscribed"));
        }
        Ok(())
    }

    fn subscribe(&mut self, body: &Subscribe) -> mpsc::UnboundedReceiver<Bytes> {
        let (stream, events) = mpsc::unbounded_channel();
        self.stream = Some(stream);
        self.registered = true;
        self.log.subscriptions += 1;
        let subscribed = json!({"type": "SUBSCRIBED", "subscribed": &self.subscribed});
        self.send_event(&subscribed);
        for update in &body.unacknowledged_updates {
            if let Err(text) = validate_status(&update.status, &self.executor_id) {
                self.log.fatal.push(format!("SUBSCRIBE with an update that is not checked: {text}"));
            }
            if self.take(&update.status) {
                self.send_event(&acknowledgement(&update.status));
            }
        }
        for launch in std::mem::take(&mut self.queued) {
            self.send(launch);
        }
        events
    }

    /// Takes an update; returns whether it is to be acknowledged at once.
    fn take(&mut self, status: &TaskStatus) -> bool {
        if !self.delivered.contains(status.task_id.as_str()) {
            let (task, state) = (&status.task_id, status.state.name());
            self.log.fatal.push(format!("update {state} of task {task}, which was never delivered"));
        }
        if !self.log.statuses.iter().any(|known| known.uuid == status.uuid) {
            self.log.statuses.push(status.clone());
        }
        self.acknowledge == Acknowledge::All
    }
}

fn validate_status(status: &TaskStatus, executor_id: &ExecutorId) -> Result<(), &'static str> {
    let wrong_executor = status.executor_id.as_ref().is_some_and(|id| id != executor_id);
    match uuid(status) {
        None => Err("Expecting 'uuid' to be 16 bytes"),
        Some(uuid) if uuid.get_version_num() != 4 => Err("Expecting a 'uuid' of version 4"),
        _ if wrong_executor => Err("ExecutorID in Call does not match ExecutorID in TaskStatus"),
        _ if status.source.as_ref().and_then(|source| source.known()) != Some(Source::Executor) => {
            Err("Received Call from executor with a source other than SOURCE_EXECUTOR")
        }
        _ if status.state.known() == Some(TaskState::Staging) => Err("Received TASK_STAGING from executor"),
        _ if !status.check_status.as_ref().is_none_or(is_complete) => Err("Invalid 'check_status'"),
        _ => Ok(()),
    }
}

fn is_complete(check: &CheckStatusInfo) -> bool {
    match check.kind.known() {
        Some(CheckType::Command) => check.command.is_some(),
        Some(CheckType::Http) => check.http.is_some(),
        Some(CheckType::Tcp) => check.tcp.is_some(),
        None => false,
    }
}

pub(super) fn acknowledgement(status: &TaskStatus) -> Value {
    json!({"type": "ACKNOWLEDGED", "acknowledged": {"task_id": &status.task_id, "uuid": &status.uuid}})
}
