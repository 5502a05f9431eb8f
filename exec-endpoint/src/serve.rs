//! Everything put together, from the start to the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use listenfd::ListenFd;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::inventory::watcher;
use crate::loaded::{LoadError, Loaded};
use crate::metrics::Metrics;
use crate::notify::Notifier;
use crate::protocol::{kubernetes, mesos};
use crate::server::listener::{self, ListenError};
use crate::server::{self, Drained, Server};
use crate::session::limits::Sessions;
use crate::session::registry::Registry;

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no port.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The system lacks something.
    #[error("{verb}: {source}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// Serves until SIGTERM or SIGINT, and then until connections have ended.
///
/// # Errors
/// [`ServeError`]: it does not begin to serve.
pub async fn serve(config: Config, given: ListenFd) -> Result<Drained, ServeError> {
    let signals = Signals::new().map_err(|source| ServeError::Io { verb: "listen to signals", source })?;
    let loaded = Arc::new(Loaded::load(&config)?);
    raise_descriptors(&config);
    let listener = listener::listen(given, config.listen)?;
    let address = listener
        .local_addr()
        .map_err(|source| ServeError::Io { verb: "ask for the port's address", source })?;
    let url = config.url.clone().unwrap_or_else(|| default_url(&host_name(), address));
    let published = watcher::start(config.sockets.clone(), url.clone())
        .map_err(|source| ServeError::Io { verb: "watch the folder of control sockets", source })?;
    let metrics = Arc::new(Metrics::default());
    let (drain, draining) = watch::channel(false);
    let endpoint = Arc::new(Endpoint {
        inventory: published.inventory,
        folder: published.folder,
        authenticator: loaded.authenticator(),
        gate: loaded.gate(),
        sessions: Sessions::new(config.sessions, metrics.sessions.clone()),
        registry: Registry::default(),
        timing: config.timing,
        kubernetes: kubernetes::Memory::default(),
        mesos: mesos::Registry::default(),
        metrics,
        draining,
    });
    let server =
        Server { listener, tls: loaded.tls.clone(), endpoint: endpoint.clone(), limits: config.connections };
    tracing::info!(%address, url, "serving");
    let mut notifier = Notifier::from_environment();
    loaded.observe(&endpoint.metrics);
    notifier.ready(status(&endpoint));
    let (following, ending) = (loaded.clone(), end_at(signals, drain));
    tokio::spawn(async move {
        let Err(error) = following.follow().await;
        tracing::error!(%error, "files that change are not read again");
    });
    tokio::spawn(ending);
    tokio::spawn(housekeeping(endpoint, loaded, notifier));
    Ok(server.run().await)
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }
}

async fn end_at(mut signals: Signals, drain: watch::Sender<bool>) {
    tokio::select! {
        _ = signals.terminate.recv() => {}
        _ = signals.interrupt.recv() => {}
    }
    tracing::info!("ending: requests and sessions finish");
    drain.send_replace(true);
    // Waits with the others, so that the word is not taken for lost.
    drain.closed().await;
}

/// Tells systemd that the loop runs, and metrics what files say.
async fn housekeeping(endpoint: Arc<Endpoint>, loaded: Arc<Loaded>, mut notifier: Notifier) {
    let mut ticks = interval(notifier.every());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let drained = endpoint.drained();
    tokio::pin!(drained);
    let mut ending = false;
    loop {
        tokio::select! {
            () = &mut drained, if !ending => {
                ending = true;
                notifier.stopping();
            }
            _ = ticks.tick() => {
                loaded.observe(&endpoint.metrics);
                notifier.alive(status(&endpoint));
            }
        }
    }
}

fn status(endpoint: &Endpoint) -> String {
    let inventory = endpoint.inventory.borrow();
    let (pods, tasks) = (inventory.pods.len(), inventory.tasks().count());
    format!("{pods} pods, {tasks} tasks, {} sessions", endpoint.sessions.living())
}

/// As many descriptors as all connections and sessions need, if the hard limit lets us.
fn raise_descriptors(config: &Config) {
    let needed = server::descriptors(config.connections.most, config.sessions.all);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return;
    }
    let raised = Rlimit { current: Some(maximum.map_or(needed, |maximum| maximum.min(needed))), maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
    if let Some(maximum) = maximum.filter(|&maximum| maximum < needed) {
        tracing::warn!(maximum, needed, "not enough descriptors for all connections and sessions");
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn default_url(host: &str, address: SocketAddr) -> String {
    format!("https://{host}:{}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_has_the_hosts_name_and_the_port_that_is_served() {
        assert_eq!(default_url("a.b", "0.0.0.0:7443".parse().unwrap()), "https://a.b:7443");
    }
}
