//! The executor's side of a pod's init: starts it, asks for processes, hears of their ends.
//!
//! ```text
//!  Pod::spawn --Request--> owner task (socket, inbox, who waits for what) --Spawn--> init
//!  Child      <-----------        |                                     <--Spawned, Exited--
//! ```
//! When init ends, every process of the pod has ended: all that wait for one hear so.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;

use task::framed::{self, Inbox, Read};
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::init::{ARGUMENT, OWN_NETWORK};
use super::network::NetworkError;
use super::protocol::{Reply, Spawn};
use crate::process::signal;
use crate::supervisor::ExitStatus;
use crate::watched;

/// How many requests may wait for init.
const QUEUE: usize = 64;

/// Why a process is not there.
#[derive(Debug, thiserror::Error)]
pub enum PodError {
    /// The pod's init could not be started.
    #[error("start the pod's init: {0}")]
    Init(#[source] io::Error),
    /// The pod's init has ended, and with it the pod.
    #[error("the pod's init has ended")]
    Ended,
    /// The pod's network could not be set up.
    #[error("set up the pod's network: {0}")]
    Network(#[from] NetworkError),
    /// A step between clone3 and execve failed, in the words of init.
    #[error("{0}")]
    Spawn(String),
}

/// Which network a pod's init is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitNetwork {
    /// The executor's own.
    Host,
    /// A new network namespace.
    Own,
}

/// A living pod. Dropping the last clone ends the pod.
#[derive(Debug, Clone)]
pub struct Pod {
    requests: mpsc::Sender<Request>,
    pidfd: Arc<OwnedFd>,
}

/// A process of a pod, after its execve.
#[derive(Debug)]
pub struct Child {
    /// For signals: it can never reach another process.
    pub pidfd: Arc<OwnedFd>,
    /// How it ended.
    pub exit: oneshot::Receiver<ExitStatus>,
}

#[derive(Debug)]
struct Request {
    spawn: Spawn,
    descriptors: Vec<OwnedFd>,
    spawned: oneshot::Sender<Result<Spawned, PodError>>,
}

#[derive(Debug)]
struct Spawned {
    pidfd: OwnedFd,
    outcome: OwnedFd,
    exit: oneshot::Receiver<ExitStatus>,
}

impl Pod {
    /// Starts a pod's init and waits until it is PID 1 of its namespaces.
    ///
    /// # Errors
    /// [`PodError::Init`]
    pub async fn start(network: InitNetwork) -> Result<Self, PodError> {
        let (ours, theirs) = framed::socket_pair().map_err(PodError::Init)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg(ARGUMENT).args((network == InitNetwork::Own).then_some(OWN_NETWORK)).env_clear();
        command.stdin(Stdio::from(theirs)).stdout(Stdio::null());
        let mut first_stage = command.spawn().map_err(PodError::Init)?;
        drop(command);
        let mut owner = Owner::new(ours).map_err(PodError::Init)?;
        let ready = owner.ready().await;
        tokio::task::spawn_blocking(move || first_stage.wait());
        let pidfd = Arc::new(ready.map_err(PodError::Init)?);
        let (requests, queue) = mpsc::channel(QUEUE);
        tokio::spawn(owner.run(queue, pidfd.clone()));
        Ok(Self { requests, pidfd })
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.requests.is_closed()
    }

    /// Ends the pod and waits until init, and so every process of it, is gone.
    pub async fn end(self) {
        if let Err(error) = signal::send(&self.pidfd, rustix::process::Signal::KILL) {
            tracing::error!(error, "end the pod's init");
        }
        drop(self.requests);
        // A copy: the owner task watches the descriptor itself.
        if let Ok(ended) = self.pidfd.try_clone().and_then(|copy| watched::readable(Arc::new(copy))) {
            let _ = ended.readable().await;
        }
    }

    /// The pod's init, whose end is the pod's.
    pub fn pidfd(&self) -> &Arc<OwnedFd> {
        &self.pidfd
    }

    /// Starts a process and waits for its execve. `id` and `descriptors` of `spawn` are filled in here.
    ///
    /// # Errors
    /// [`PodError`]; then nothing of the process is left.
    pub async fn spawn(&self, spawn: Spawn, descriptors: Vec<OwnedFd>) -> Result<Child, PodError> {
        let (spawned, answer) = oneshot::channel();
        let request = Request { spawn, descriptors, spawned };
        self.requests.send(request).await.map_err(|_| PodError::Ended)?;
        let Spawned { pidfd, outcome, mut exit } = answer.await.map_err(|_| PodError::Ended)??;
        let error = read_to_end(outcome)
            .await
            .map_err(|error| PodError::Spawn(format!("read the outcome: {error}")))?;
        if error.is_empty() {
            return Ok(Child { pidfd: Arc::new(pidfd), exit });
        }
        let _ = (&mut exit).await;
        Err(PodError::Spawn(String::from_utf8_lossy(&error).into_owned()))
    }
}

async fn read_to_end(pipe: OwnedFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Receiver::from_owned_fd(pipe)?.read_to_end(&mut text).await?;
    Ok(text)
}

/// Owns the socket to init, and knows who waits for what.
#[derive(Debug)]
struct Owner {
    socket: UnixStream,
    inbox: Inbox,
    next: u64,
    outgoing: Option<Outgoing>,
    starting: HashMap<u64, oneshot::Sender<Result<Spawned, PodError>>>,
    living: HashMap<u64, oneshot::Sender<ExitStatus>>,
    spares: Spares,
}

/// Descriptors kept for those that init sends: where this process has none left, the kernel would drop them on the way, and
/// nobody could say any longer which process is which.
#[derive(Debug, Default)]
struct Spares(Vec<OwnedFd>);

impl Spares {
    /// As many as any reply carries. Fails where there are no more: then no process must be started.
    fn keep(&mut self) -> io::Result<()> {
        while self.0.len() < Reply::MOST_DESCRIPTORS {
            self.0.push(std::fs::File::open("/dev/null")?.into());
        }
        Ok(())
    }
}

/// A message on its way.
#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
    descriptors: Vec<OwnedFd>,
}

impl Owner {
    fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = UnixStream::from_std(socket.into())?;
        Ok(Self {
            socket,
            inbox: Inbox::default(),
            next: 1,
            outgoing: None,
            starting: HashMap::new(),
            living: HashMap::new(),
            spares: Spares::default(),
        })
    }

    async fn ready(&mut self) -> io::Result<OwnedFd> {
        loop {
            if let Some(reply) = self.inbox.next_message::<Reply>()? {
                let descriptor = self.inbox.take(reply.descriptors())?.pop();
                return match (reply, descriptor) {
                    (Reply::Ready, Some(pidfd)) => Ok(pidfd),
                    (Reply::Failed { error, .. }, _) => Err(io::Error::other(error)),
                    (other, _) => Err(io::Error::other(format!("it said {other:?} first"))),
                };
            }
            if read(&self.socket, &mut self.inbox, &mut self.spares).await? == Read::End {
                return Err(io::Error::other("it ended before it was ready"));
            }
        }
    }

    async fn run(mut self, mut queue: mpsc::Receiver<Request>, pidfd: Arc<OwnedFd>) {
        loop {
            let went_well = tokio::select! {
                biased;
                read = read(&self.socket, &mut self.inbox, &mut self.spares) => match read {
                    Ok(Read::Some) => self.hear(),
                    Ok(Read::End) => break,
                    Err(error) => Err(error),
                },
                written = write(&self.socket, &mut self.outgoing), if self.outgoing.is_some() => written,
                request = queue.recv(), if self.outgoing.is_none() => match request {
                    Some(request) => {
                        self.ask(request);
                        Ok(())
                    }
                    None => break,
                },
            };
            if let Err(error) = went_well {
                tracing::error!(%error, "talk to the pod's init");
                break;
            }
        }
        drop(queue);
        for (_, waiting) in self.living.drain() {
            let _ = waiting.send(ExitStatus::PodEnded);
        }
        self.starting.clear();
        drop(self.socket);
        reap(pidfd).await;
    }

    fn hear(&mut self) -> io::Result<()> {
        while let Some(reply) = self.inbox.next_message::<Reply>()? {
            let mut descriptors = self.inbox.take(reply.descriptors())?;
            match reply {
                Reply::Ready => {}
                Reply::Spawned { id } => {
                    let (ended, exit) = oneshot::channel();
                    self.living.insert(id, ended);
                    if let (Some(outcome), Some(pidfd), Some(waiting)) =
                        (descriptors.pop(), descriptors.pop(), self.starting.remove(&id))
                    {
                        let _ = waiting.send(Ok(Spawned { pidfd, outcome, exit }));
                    }
                }
                Reply::Failed { id, error } => {
                    if let Some(waiting) = self.starting.remove(&id) {
                        let _ = waiting.send(Err(PodError::Spawn(error)));
                    } else {
                        tracing::error!(error, "the pod's init failed");
                    }
                }
                Reply::Exited { id, code, signal } => {
                    let status = match (code, signal) {
                        (Some(code), _) => ExitStatus::Code(code),
                        (None, Some((number, core))) => ExitStatus::Signal { number, core },
                        (None, None) => ExitStatus::PodEnded,
                    };
                    if let Some(waiting) = self.living.remove(&id) {
                        let _ = waiting.send(status);
                    }
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, Request { mut spawn, descriptors, spawned }: Request) {
        if let Err(error) = self.spares.keep() {
            return drop(spawned.send(Err(PodError::Spawn(format!("receive its descriptors: {error}")))));
        }
        spawn.id = self.next;
        spawn.descriptors = descriptors.len();
        self.next += 1;
        match framed::encode(&spawn) {
            Ok(bytes) => {
                self.starting.insert(spawn.id, spawned);
                self.outgoing = Some(Outgoing { bytes, written: 0, descriptors });
            }
            Err(error) => drop(spawned.send(Err(PodError::Spawn(error.to_string())))),
        }
    }
}

async fn read(socket: &UnixStream, inbox: &mut Inbox, spares: &mut Spares) -> io::Result<Read> {
    let filled = socket.async_io(Interest::READABLE, || {
        // A thread of the blocking pool may still be faster; then the pod ends, and the log says why.
        spares.0.clear();
        inbox.fill(socket.as_fd())
    });
    let read = filled.await;
    // If there are none now, the next start fails, and says so.
    let _ = spares.keep();
    read
}

/// Writes a part of the message. Init may be writing as well, so reading must go on meanwhile.
async fn write(socket: &UnixStream, outgoing: &mut Option<Outgoing>) -> io::Result<()> {
    let Some(message) = outgoing else { return Ok(()) };
    let descriptors: Vec<_> = message.descriptors.iter().map(AsFd::as_fd).collect();
    let rest = &message.bytes[message.written..];
    let written = socket
        .async_io(Interest::WRITABLE, || framed::write_some(socket.as_fd(), rest, &descriptors))
        .await?;
    message.written += written;
    message.descriptors.clear();
    if message.written == message.bytes.len() {
        *outgoing = None;
    }
    Ok(())
}

/// Takes init's status: its first stage has ended, so it is a child of this process, a subreaper.
async fn reap(pidfd: Arc<OwnedFd>) {
    let Ok(ended) = watched::readable(pidfd) else {
        return;
    };
    if ended.readable().await.is_ok() {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let _ = waitid(WaitId::PidFd(ended.get_ref().as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}
