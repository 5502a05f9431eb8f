//! One port: connections, TLS, HTTP, and the end of all that.
//!
//! ```text
//!  listener -> permit -> TLS handshake -> http/1.1 | h2 -> protocol::answer
//!                \-> too many: closed        \-> upgraded: the session has the stream, and with it the permit
//!  SIGTERM -> draining -> no new connections -> requests finish, sessions end -> all permits are back, or 10 s are over
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`listener`] | the port, ours or systemd's |
//! | [`connection`] | one connection, from the handshake to its end |
//! | [`clock`] | how long a connection may wait for what: pure |
//! | [`wire`] | its bytes |
//! | [`ahead`] | fewer system calls while much comes |

pub mod ahead;
pub mod clock;
pub mod connection;
pub mod listener;
pub mod wire;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use self::connection::Shared;
use self::wire::Permit;
use crate::config::ConnectionLimits;
use crate::endpoint::Endpoint;
use crate::tls::Tls;

/// How long requests and sessions may take to end, once they were told.
pub const DRAIN: Duration = Duration::from_secs(10);
/// How often is looked whether connections are of older TLS files than those in use.
const LOOK_AT_TLS: Duration = Duration::from_secs(1);
/// After no connection could be accepted, for lack of descriptors or memory.
const BREATHE: Duration = Duration::from_millis(100);

/// What accepts.
#[derive(Debug)]
pub struct Server {
    /// The port.
    pub listener: TcpListener,
    /// Certificates.
    pub tls: Arc<Tls>,
    /// What answers.
    pub endpoint: Arc<Endpoint>,
    /// Bounds.
    pub limits: ConnectionLimits,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All connections ended by themselves.
    All,
    /// So many were left after [`DRAIN`]; they are cut with the runtime.
    Cut(usize),
}

impl Server {
    /// Serves until [`Endpoint::draining`] says that it ends, and then until connections have ended.
    pub async fn run(self) -> Drained {
        let Self { listener, tls, endpoint, limits } = self;
        let most = u32::try_from(limits.most.get()).unwrap_or(u32::MAX);
        let permits = Arc::new(Semaphore::new(most as usize));
        let (renew, renewed) = watch::channel(());
        let shared = Arc::new(Shared { endpoint: endpoint.clone(), tls: tls.clone(), limits, renewed });
        let mut in_use = tls.current();
        let mut look = interval(LOOK_AT_TLS);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let drained = endpoint.drained();
        tokio::pin!(drained);
        loop {
            tokio::select! {
                biased;
                () = &mut drained => break,
                _ = look.tick() => {
                    let current = tls.current();
                    if !Arc::ptr_eq(&in_use, &current) {
                        in_use = current;
                        renew.send_replace(());
                    }
                }
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => admit(&shared, &permits, stream, peer),
                    Err(error) => {
                        if !of_one_connection(&error) {
                            tracing::error!(%error, "no connection can be accepted");
                            sleep(BREATHE).await;
                        }
                    }
                },
            }
        }
        drop(listener);
        let ended = async { tokio::join!(endpoint.registry.drain(), permits.acquire_many(most)) };
        match timeout(DRAIN, ended).await {
            Ok(_) => Drained::All,
            Err(_) => Drained::Cut(most as usize - permits.available_permits()),
        }
    }
}

fn admit(shared: &Arc<Shared>, permits: &Arc<Semaphore>, stream: TcpStream, peer: SocketAddr) {
    let metrics = &shared.endpoint.metrics;
    let Ok(permit) = permits.clone().try_acquire_owned() else {
        metrics.turned_away.inc();
        tracing::debug!(%peer, "turned away: too many connections");
        return;
    };
    metrics.accepted.inc();
    let permit = Permit::new(permit, metrics.connections.clone());
    tokio::spawn(connection::serve(shared.clone(), stream, peer, permit));
}

/// Whether an error of accept is that of a connection that was gone again (`accept(2)`), not ours.
fn of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Descriptors that this many connections and sessions take, and some for files: a connection has one, a session five more.
pub fn descriptors(connections: NonZeroUsize, sessions: NonZeroUsize) -> u64 {
    connections.get() as u64 + 5 * sessions.get() as u64 + 256
}

#[cfg(test)]
mod tests;
