//! Keeps the one pod of this executor: started when the first process needs it, started anew when its init has ended.

use std::os::fd::OwnedFd;

use tokio::sync::Mutex;

use super::client::{InitNetwork, Pod, PodError};
use super::network::{Joined, NetworkError, Networks};
use super::sockets::PodSockets;
use crate::process::signal::host_pid;
use crate::spec::pod::BridgeSpec;

/// The pod of this executor.
#[derive(Debug)]
pub struct Keeper {
    place: Option<BridgeSpec>,
    label: String,
    networks: Networks,
    current: Mutex<Option<Living>>,
}

/// A living pod and the way to its network.
#[derive(Debug, Clone)]
pub struct Living {
    /// Its processes.
    pub pod: Pod,
    /// Sockets in its network.
    pub sockets: PodSockets,
    joined: Option<Joined>,
}

impl Keeper {
    /// A pod that is not started yet, in the executor's own network if it has no place on a bridge. `label` is unique on
    /// the host: it names the pod's link.
    pub fn new(place: Option<BridgeSpec>, label: String) -> Self {
        Self { place, label, networks: Networks::default(), current: Mutex::new(None) }
    }

    /// The living pod; starts it if need be.
    ///
    /// # Errors
    /// [`PodError`]: init or the network could not be set up.
    pub async fn living(&self) -> Result<Living, PodError> {
        let mut current = self.current.lock().await;
        if let Some(living) = current.as_ref().filter(|living| !living.pod.has_ended()) {
            return Ok(living.clone());
        }
        let living = self.start().await?;
        Ok(current.insert(living).clone())
    }

    /// The living pod, if there is one; a check does not start it.
    pub async fn current(&self) -> Option<Living> {
        self.current.lock().await.as_ref().filter(|living| !living.pod.has_ended()).cloned()
    }

    /// Ends the pod, if it lives: its processes and its link are gone when this returns.
    pub async fn end(&self) {
        let Some(Living { pod, joined, .. }) = self.current.lock().await.take() else {
            return;
        };
        pod.end().await;
        if let Some(joined) = joined
            && let Err(error) = self.leave(&joined).await
        {
            tracing::warn!(%error, cluster = joined.cluster, "leave the cluster's network");
        }
    }

    async fn leave(&self, joined: &Joined) -> Result<(), NetworkError> {
        self.networks.leave(joined).await?;
        self.networks.remove_cluster(&joined.cluster).await.map(drop)
    }

    async fn start(&self) -> Result<Living, PodError> {
        let Some(place) = &self.place else {
            return Ok(Living {
                pod: Pod::start(InitNetwork::Host).await?,
                sockets: PodSockets::host(),
                joined: None,
            });
        };
        let pod = Pod::start(InitNetwork::Own).await?;
        let namespace = || network_namespace(&pod).map_err(PodError::Init);
        let joined = self.networks.join(place, namespace()?, &self.label).await?;
        let sockets = PodSockets::namespace(namespace()?).map_err(PodError::Init)?;
        Ok(Living { pod, sockets, joined: Some(joined) })
    }
}

fn network_namespace(pod: &Pod) -> std::io::Result<OwnedFd> {
    let pid = host_pid(pod.pidfd()).ok_or_else(|| std::io::Error::other("it has ended"))?;
    Ok(std::fs::File::open(format!("/proc/{pid}/ns/net"))?.into())
}
