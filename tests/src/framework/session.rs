//! A framework's subscription, kept up: events into offers and log, calls on the current stream.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use hyper::body::Incoming;
use mesos::common::{AgentId, ExecutorId, FrameworkId, FrameworkInfo, OfferId, TaskId, TaskStatus};
use mesos::recordio::Decoder;
use mesos::scheduler::{Acknowledge, Call, CallType, Event, Subscribe};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::{Acknowledging, PATIENCE};
use crate::http;
use crate::log::{Heard, Log};
use crate::offers::{Amounts, Offers};

/// Where a master takes schedulers' calls.
const PATH: &str = "/master/api/v1/scheduler";
/// Between attempts to subscribe.
const RETRY: Duration = Duration::from_millis(50);
/// An event is never longer.
const LONGEST_EVENT: usize = 64 << 20;

/// What a [`super::Framework`] and its listener share.
#[derive(Debug)]
pub(super) struct Shared {
    master: SocketAddr,
    pub(super) id: FrameworkId,
    info: FrameworkInfo,
    /// The id of the stream that every call must name; none while there is no stream.
    stream: watch::Sender<Option<String>>,
    pub(super) log: watch::Sender<Log>,
    pub(super) offers: watch::Sender<Offers>,
    state: Mutex<State>,
}

/// What changes by what the test does.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) acknowledging: Acknowledging,
    pub(super) return_after_loss: Return,
    pub(super) tasks: BTreeMap<TaskId, AgentId>,
    pub(super) executors: BTreeMap<ExecutorId, AgentId>,
}

/// What the end of the stream means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Return {
    /// The framework subscribes again.
    #[default]
    Always,
    /// It has asked for its end.
    Never,
}

/// Why a stream of events ended.
enum End {
    /// The connection did: subscribe again.
    Lost(String),
    /// The master threw the framework out.
    Out,
}

impl Shared {
    /// Subscribes for the first time.
    pub(super) async fn subscribe(
        master: SocketAddr,
        mut info: FrameworkInfo,
        acknowledging: Acknowledging,
    ) -> anyhow::Result<(Arc<Self>, Stream)> {
        let stream = first_subscription(master, &info).await?;
        info.id = Some(stream.framework.clone());
        let shared = Self {
            master,
            id: stream.framework.clone(),
            info,
            stream: watch::Sender::new(None),
            log: watch::Sender::default(),
            offers: watch::Sender::default(),
            state: Mutex::new(State { acknowledging, ..State::default() }),
        };
        shared.subscribed(&stream);
        Ok((Arc::new(shared), stream))
    }

    /// Hears the events of this subscription and of those after it.
    pub(super) async fn listen(self: Arc<Self>, mut stream: Stream) {
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

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn acknowledge(&self, status: &TaskStatus) -> anyhow::Result<()> {
        let (Some(agent_id), Some(uuid)) = (status.agent_id.clone(), status.uuid.clone()) else {
            return Ok(());
        };
        let acknowledge = Acknowledge { agent_id, task_id: status.task_id.clone(), uuid };
        self.call(Call { kind: CallType::Acknowledge, acknowledge: Some(acknowledge), ..Call::default() })
            .await
    }

    pub(super) async fn take_offers(
        &self,
        agent: Option<&AgentId>,
        needed: &Amounts,
    ) -> anyhow::Result<(AgentId, Vec<OfferId>)> {
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
    pub(super) async fn call(&self, call: Call) -> anyhow::Result<()> {
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

/// The events of one subscription.
pub(super) struct Stream {
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
