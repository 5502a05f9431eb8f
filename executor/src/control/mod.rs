//! The control socket: what the exec endpoint may ask of this executor ([`task::control`]).
//!
//! ```text
//!  endpoint --connect--> peer's user? --Request--> view: List, Watch     from the board
//!                                                  exec: Exec            a process in a cgroup below its task's
//!                                                  signal: Signal        to a task's first process
//!                                                  logs, attach          descriptors of its files, pipes of its output
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`place`] | folders, owners, modes and name of the socket, and its removal |
//! | [`rights`] | what a task's settings allow, whatever the endpoint says |
//! | [`view`] | the pod and its tasks as they are, and every change |
//! | [`exec`] | a session: a process in a task, from its start to the removal of its cgroup |
//! | [`signal`] | signals to a task's first process |
//! | [`logs`] | the log files of a task |
//! | [`attach`] | the output of a running task, and the input of its terminal |

pub mod attach;
pub mod exec;
pub mod logs;
pub mod place;
pub mod rights;
pub mod signal;
pub mod view;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mesos::common::TaskId;
use task::connection::{self, Receiver, Sender};
use task::control::{Answer, Refusal, RefusalKind, Request};
use task::framed::Inbox;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::process::output::TaskOutputs;
use crate::process::sessions::Living;
use crate::process::workplace::Workplace;
use crate::status::{Board, Endpoints};
use place::{ExecUser, SocketPlace};
use view::About;

/// How many connections there may be at once, where there are descriptors for them; more wait.
const CONNECTIONS: usize = 4096;
/// Of all descriptors, connections may take the fourth part: whoever floods the socket must not keep tasks from being started.
const SHARE: u64 = 4;
/// How long a peer may take for its request.
const FIRST_REQUEST: Duration = Duration::from_secs(5);
/// The longest message of a peer.
const LONGEST: usize = 1 << 20;
/// How long a peer may take to read its last answer.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// How long connections may take to end when the executor does.
const LAST_CONNECTIONS: Duration = Duration::from_secs(1);
/// The pause after the host had no descriptor for a connection.
const SHORTAGE: Duration = Duration::from_millis(100);

/// What requests are answered from.
#[derive(Debug)]
pub struct Source {
    /// The tasks' processes and cgroups.
    pub workplace: Arc<Workplace>,
    /// The tasks as they are shown.
    pub board: watch::Receiver<Board>,
    /// Which endpoints are connected.
    pub endpoints: Arc<Endpoints>,
    /// The pod.
    pub about: About,
}

/// The control socket while it is served. Dropped, it is served no longer, but still there.
#[derive(Debug)]
pub struct Serving {
    accepting: JoinSet<()>,
    connections: Arc<Semaphore>,
    most: usize,
    place: SocketPlace,
}

/// Serves the control socket.
pub fn serve(listener: UnixListener, place: SocketPlace, user: Option<ExecUser>, source: Source) -> Serving {
    let most = most_connections(rustix::process::getrlimit(rustix::process::Resource::Nofile).current);
    let connections = Arc::new(Semaphore::new(most));
    let mut accepting = JoinSet::new();
    accepting.spawn(accept(listener, user, Arc::new(source), connections.clone()));
    Serving { accepting, connections, most, place }
}

/// How many connections there may be with this many descriptors (`None`: no bound).
fn most_connections(descriptors: Option<u64>) -> usize {
    let share = descriptors.and_then(|all| usize::try_from(all / SHARE).ok());
    share.map_or(CONNECTIONS, |share| share.clamp(1, CONNECTIONS))
}

impl Serving {
    /// Takes no further requests, removes the socket, and waits a moment for those under way to be answered.
    pub async fn close(mut self) {
        self.accepting.abort_all();
        if let Err(error) = self.place.remove() {
            tracing::warn!(%error, "left to the next sweep");
        }
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        // Watchers end with the publisher of the board, sessions with the pod.
        let _ = tokio::time::timeout(LAST_CONNECTIONS, self.connections.acquire_many(all)).await;
    }
}

async fn accept(
    listener: UnixListener,
    user: Option<ExecUser>,
    source: Arc<Source>,
    connections: Arc<Semaphore>,
) {
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept a connection at the control socket");
                tokio::time::sleep(SHORTAGE).await;
                continue;
            }
        };
        if let Err(error) = check_peer(&stream, user) {
            tracing::warn!(%error, "closed a connection at the control socket");
            continue;
        }
        let source = source.clone();
        tokio::spawn(async move {
            let (sender, receiver) = connection::split_with(stream, Inbox::guarded(LONGEST));
            if let Err(error) = answer(source, sender, receiver).await {
                tracing::debug!(%error, "a peer of the control socket went away");
            }
            drop(permit);
        });
    }
}

/// Whether the peer is this executor's own user or the exec user. Its process may have ended since it connected: the
/// kernel remembers.
fn check_peer(stream: &UnixStream, user: Option<ExecUser>) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let own = nix::unistd::geteuid().as_raw();
    if is_accepted(peer.uid(), own, user) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the peer is user {}", peer.uid())))
}

fn is_accepted(peer: u32, own: u32, user: Option<ExecUser>) -> bool {
    peer == own || user.is_some_and(|user| user.uid == peer)
}

async fn answer(source: Arc<Source>, mut sender: Sender, mut receiver: Receiver) -> io::Result<()> {
    let request = tokio::time::timeout(FIRST_REQUEST, receiver.receive::<Request>())
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
    let request = match request {
        Ok(Some((request, _))) => request,
        Ok(None) => return Ok(()),
        Err(error) => {
            let refusal = rights::invalid(format!("the request cannot be read: {error}"));
            return last(&mut sender, &Answer::Refused(refusal)).await;
        }
    };
    let refused = match request {
        Request::List => return view::list(&source, &mut sender).await,
        Request::Watch { url } => match view::check_url(url) {
            Ok(url) => return view::watch(&source, url, sender, receiver).await,
            Err(refusal) => refusal,
        },
        Request::Exec(exec) => match exec::start(&source, exec).await {
            Ok(session) => return session.run(sender, receiver).await,
            Err(refusal) => refusal,
        },
        Request::Signal { task, signal } => match signal::send(&source, &task, signal) {
            Ok(()) => return last(&mut sender, &Answer::Done).await,
            Err(refusal) => refusal,
        },
        Request::Attach { task, stdin } => match source.attachable(&task) {
            Ok(outputs) => return attach::serve(outputs, stdin, sender, receiver).await,
            Err(refusal) => refusal,
        },
        Request::Logs { task, follow } => match source.outputs(&task) {
            Ok(outputs) => return logs::serve(outputs, follow, sender, receiver).await,
            Err(refusal) => refusal,
        },
    };
    last(&mut sender, &Answer::Refused(refused)).await
}

/// Sends the last answer to a peer that may not be reading.
async fn last(sender: &mut Sender, answer: &Answer) -> io::Result<()> {
    tokio::time::timeout(LAST_ANSWER, sender.send(answer, &[]))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Source {
    /// The running process of a task.
    ///
    /// # Errors
    /// A refusal that says whether there is such a task at all.
    pub fn living(&self, task: &TaskId) -> Result<Living, Refusal> {
        self.workplace.sessions.living(task).ok_or_else(|| self.not_running(task))
    }

    /// The outputs of a task, also of one that has ended and is not yet forgotten.
    fn outputs(&self, task: &TaskId) -> Result<Arc<TaskOutputs>, Refusal> {
        self.workplace.outputs.find(task).ok_or_else(|| self.not_running(task))
    }

    /// The outputs of a running task, if its settings allow to attach to them.
    fn attachable(&self, task: &TaskId) -> Result<Arc<TaskOutputs>, Refusal> {
        rights::may_attach(&self.living(task)?.spec.exec)?;
        self.outputs(task)
    }

    /// The refusal for a task without a process.
    pub fn not_running(&self, task: &TaskId) -> Refusal {
        match self.board.borrow().shown.tasks().get(task) {
            Some(shown) => Refusal {
                kind: RefusalKind::NotRunning,
                message: format!("task {} has no running process: it is {}", shown.name, shown.state.name()),
            },
            None => Refusal {
                kind: RefusalKind::UnknownTask,
                message: format!("there is no task {task} in this pod"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_most_descriptors_to_the_executor() {
        assert_eq!([None, Some(1 << 20), Some(1024), Some(0)].map(most_connections), [4096, 4096, 256, 1]);
    }

    #[test]
    fn only_the_executors_own_user_and_the_exec_user_are_accepted() {
        let user = Some(ExecUser { uid: 990, gid: 991 });
        assert!(is_accepted(0, 0, user) && is_accepted(990, 0, user));
        assert!(!is_accepted(991, 0, user) && !is_accepted(65534, 0, user));
        assert!(is_accepted(0, 0, None) && !is_accepted(990, 0, None));
    }
}
