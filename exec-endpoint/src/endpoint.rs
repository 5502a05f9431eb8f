//! What all requests share.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::sync::watch;

use crate::gate::Gate;
use crate::identity::{Authenticator, Who};
use crate::inventory::{FolderState, Inventory};
use crate::metrics::Metrics;
use crate::protocol::{kubernetes, mesos};
use crate::session::limits::{Bounds, Sessions};
use crate::session::registry::Registry;
use crate::session::timing::Timing;

/// A response's body. Its end by an error cuts the connection, so that nobody takes a part for the whole.
pub type Body = BoxBody<Bytes, io::Error>;

/// A body that is at hand.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// What all requests share.
#[derive(Debug)]
pub struct Endpoint {
    /// What there is.
    pub inventory: watch::Receiver<Arc<Inventory>>,
    /// Whether the executors' folder can be read.
    pub folder: watch::Receiver<FolderState>,
    /// Who is who.
    pub authenticator: Authenticator,
    /// Who may do what.
    pub gate: Gate,
    /// How many sessions there are.
    pub sessions: Sessions,
    /// The sessions under way.
    pub registry: Registry,
    /// How long a session may be quiet, and last.
    pub timing: Timing,
    /// What the Kubernetes API remembers between requests.
    pub kubernetes: kubernetes::Memory,
    /// The processes that Mesos's clients started.
    pub mesos: mesos::Registry,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// True from the moment on that this program is to end: sessions end themselves, with a reason, or are cut soon after.
    pub draining: watch::Receiver<bool>,
}

impl Endpoint {
    /// One that lets everybody do everything with these pods, and what tells it to end: for tests of protocols only.
    #[doc(hidden)]
    pub fn allowing_everything(inventory: watch::Receiver<Arc<Inventory>>) -> (Self, watch::Sender<bool>) {
        let metrics = Arc::new(Metrics::default());
        let (drain, draining) = watch::channel(false);
        let endpoint = Self {
            inventory,
            folder: watch::channel(FolderState::Unknown).1,
            authenticator: Authenticator::new(None),
            gate: Gate::allowing_everything(),
            sessions: Sessions::new(Bounds::default(), metrics.sessions.clone()),
            registry: Registry::default(),
            timing: Timing::default(),
            kubernetes: kubernetes::Memory::default(),
            mesos: mesos::Registry::default(),
            metrics,
            draining,
        };
        (endpoint, drain)
    }

    /// Waits until this program is to end.
    pub async fn drained(&self) {
        let mut draining = self.draining.clone();
        // Nobody left who could say so is the end too.
        let _ = draining.wait_for(|&draining| draining).await;
    }
}

/// Who makes a request, and from where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who.
    pub who: Who,
    /// From where.
    pub peer: SocketAddr,
}
