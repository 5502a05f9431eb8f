//! One process of a task, from its making to its end.
//!
//! ```text
//!  folders, cgroup, files --fetch (first time)--> spawn --Started--> wait: exit | OOM wake --flush output--> Exited
//!        any step fails, or it is called off -> StartFailed                                        then: drain, bounded
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use mesos::common::TaskId;
use rustix::process::Signal;
use task::control::Stream;
use tokio::sync::{mpsc, oneshot};

use super::output::{Finish, Kind, Output, TaskOutputs, Totals};
use super::sessions::Living;
use super::workplace::{Place, Workplace};
use super::{signal, terminal};
use crate::cgroup::{CgroupName, Entry};
use crate::fetch::fetch;
use crate::health::Report;
use crate::pod::client::Child;
use crate::spec::{KillMode, TaskSpec, TerminalSize};
use crate::supervisor::{Exit, Instance};
use crate::watched;

/// How long output is still read after the process has ended, while something else holds it open.
const DRAIN: Duration = Duration::from_secs(2);

/// The same where such processes are to live on (containerd's shims): a restart must not wait for them.
const DRAIN_OF_THE_LIVING: Duration = Duration::from_millis(100);

/// The longest pause between two looks for who was killed for lack of memory.
const LAST_LOOK: Duration = Duration::from_millis(512);

/// What the driver hears of a process.
#[derive(Debug)]
pub enum Progress {
    /// Its execve is done.
    Started {
        /// For signals.
        pidfd: Arc<OwnedFd>,
        /// Where its checks run.
        place: Place,
    },
    /// It could not be started.
    StartFailed(String),
    /// The kernel killed one of the task's processes, not the first.
    OutOfMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// It ended.
    Exited(Exit),
}

/// Something that happened inside the executor, on its way to the driver.
#[derive(Debug)]
pub struct Fact {
    /// The task.
    pub id: TaskId,
    /// Which of its processes.
    pub instance: Instance,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// The process got further.
    Progress(Progress),
    /// A check has a new verdict.
    Report(Report),
}

/// One process of a task to be run.
#[derive(Debug)]
pub struct Run {
    /// What it shares with others.
    pub workplace: Arc<Workplace>,
    /// The task.
    pub spec: Arc<TaskSpec>,
    /// Which of the task's processes.
    pub instance: Instance,
    /// Comes (or closes) when the start is called off.
    pub cancelled: oneshot::Receiver<()>,
    /// Who hears of it.
    pub facts: mpsc::Sender<Fact>,
}

/// The ends that a process writes to, and what reads them here.
struct Streams {
    stdio: [OwnedFd; 3],
    outputs: Vec<Output>,
}

impl Run {
    /// Runs the process. Returns when its output is drained.
    pub async fn run(mut self) {
        // Not called off half-way: what it makes would come after everything of the task was removed.
        let mut oom_kills = 0;
        let started = match self.make_ready().await {
            Ok(_) if self.is_cancelled() => Err("called off".to_owned()),
            Ok(ready) => {
                oom_kills = ready.oom_kills;
                let start = self.start(ready);
                tokio::select! {
                    biased;
                    started = start => started,
                    _ = &mut self.cancelled => Err("called off".to_owned()),
                }
            }
            Err(error) => Err(error),
        };
        match started {
            Ok((child, place, outputs)) => self.attend(child, place, outputs, oom_kills).await,
            Err(error) => self.tell(Progress::StartFailed(error)).await,
        }
    }

    fn is_cancelled(&mut self) -> bool {
        self.cancelled.try_recv() != Err(oneshot::error::TryRecvError::Empty)
    }

    async fn tell(&self, progress: Progress) {
        let fact = Fact { id: self.spec.id.clone(), instance: self.instance, what: What::Progress(progress) };
        // A driver that no longer listens is ending, and the pod with it.
        let _ = self.facts.send(fact).await;
    }

    async fn make_ready(&self) -> Result<Ready, String> {
        let (workplace, spec, instance) = (self.workplace.clone(), self.spec.clone(), self.instance);
        let made = tokio::task::spawn_blocking(move || make(&workplace, &spec, instance)).await;
        made.map_err(|error| format!("make ready: {error}"))?
    }

    fn start(
        &self,
        ready: Ready,
    ) -> impl Future<Output = Result<(Child, Place, Vec<Output>), String>> + use<> {
        let (workplace, spec, first) =
            (self.workplace.clone(), self.spec.clone(), self.instance == Instance(1));
        async move {
            let Ready { place, entry, outputs, .. } = ready;
            if first && !spec.fetches.is_empty() {
                fetch(&spec.fetches, &place.sandbox, &workplace.cache, place.owner())
                    .await
                    .map_err(|error| error.to_string())?;
            }
            let living = workplace.pod.living().await.map_err(|error| error.to_string())?;
            let streams = Streams::open(&spec, &place, &outputs, &workplace.logged)
                .map_err(|error| format!("open its output: {error}"))?;
            let mut request = workplace.spawn_request(&spec, &place, &spec.command, &[]);
            request.terminal = spec.terminal.is_some();
            request.into_cgroup = entry.into.is_some();
            let descriptors = streams.stdio.into_iter().chain(entry.into).chain(entry.tasks).collect();
            let spawned = tokio::spawn(async move { living.pod.spawn(request, descriptors).await });
            let child = Disowned { spawned: Some(spawned) }.child().await?;
            Ok((child, place, streams.outputs))
        }
    }

    async fn attend(self, mut child: Child, place: Place, outputs: Vec<Output>, oom_kills: u64) {
        let name = CgroupName::task(&self.spec.id);
        let sessions = &self.workplace.sessions;
        sessions.open(Living {
            spec: self.spec.clone(),
            instance: self.instance,
            place: place.clone(),
            pidfd: child.pidfd.clone(),
        });
        self.tell(Progress::Started { pidfd: child.pidfd.clone(), place }).await;
        let limit = self.spec.limits.memory_hard;
        let cgroups = &self.workplace.cgroups;
        let killed = || cgroups.oom_kills(&name).unwrap_or(0);
        let mut seen = oom_kills;
        let mut waker = limit
            .and_then(|_| cgroups.oom_waker(&name).ok())
            .and_then(|waker| watched::readable(Arc::new(waker)).ok());
        // What was killed before there was a waker woke nobody.
        let mut look = limit.map(|_| Duration::ZERO);
        let status = loop {
            tokio::select! {
                biased;
                status = &mut child.exit => break status.unwrap_or(crate::supervisor::ExitStatus::PodEnded),
                woken = woken(waker.as_ref()) => {
                    if woken.is_err() {
                        waker = None;
                    }
                    look = Some(Duration::ZERO);
                }
                () = after(look) => {
                    let now = killed();
                    look = next_look(look);
                    if let Some(limit) = limit.filter(|_| now > seen) {
                        (seen, look) = (now, None);
                        self.tell(Progress::OutOfMemory { limit }).await;
                    }
                }
            }
        };
        sessions.last_words(&self.spec.id);
        for output in &outputs {
            output.flush().await;
        }
        let out_of_memory = limit.filter(|_| killed() > seen);
        self.tell(Progress::Exited(Exit { status, out_of_memory })).await;
        self.clear_leftovers(name).await;
        let drain = if self.spec.kill_mode == KillMode::Process { DRAIN_OF_THE_LIVING } else { DRAIN };
        // All are read meanwhile: one time for all of them.
        let until = tokio::time::Instant::now() + drain;
        for output in outputs {
            let within = until.saturating_duration_since(tokio::time::Instant::now());
            if output.finish(within).await == Finish::StillOpen {
                tracing::warn!(task = %self.spec.id, "its output is still held open by a process it left");
            }
        }
    }

    /// Ends what the process left in its cgroup, if its task wants that. Waited for: a restart comes into the same cgroup.
    async fn clear_leftovers(&self, name: CgroupName) {
        self.workplace.end_sessions(&self.spec.id, self.spec.kill_mode).await;
        if self.spec.kill_mode == KillMode::Process {
            return;
        }
        let cgroups = self.workplace.cgroups.clone();
        let cleared = tokio::task::spawn_blocking(move || match cgroups.processes(&name)?.is_empty() {
            true => Ok(()),
            false => cgroups.kill(&name),
        });
        match cleared.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(task = %self.spec.id, %error, "kill what an ended process left")
            }
            Err(error) => {
                tracing::error!(task = %self.spec.id, %error, "look for what an ended process left")
            }
        }
    }
}

/// A process that is being made. If nobody waits any longer, it is killed as soon as it is there.
struct Disowned {
    spawned: Option<tokio::task::JoinHandle<Result<Child, crate::pod::client::PodError>>>,
}

impl Disowned {
    async fn child(mut self) -> Result<Child, String> {
        let Some(spawned) = self.spawned.as_mut() else {
            return Err("called off".to_owned());
        };
        let child = spawned.await;
        self.spawned = None;
        child.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

impl Drop for Disowned {
    fn drop(&mut self) {
        if let Some(spawned) = self.spawned.take() {
            tokio::spawn(async move {
                if let Ok(Ok(child)) = spawned.await
                    && let Err(error) = signal::send(&child.pidfd, Signal::KILL)
                {
                    tracing::error!(error, "kill a process whose start was called off");
                }
            });
        }
    }
}

/// What a process needs before it can be made.
struct Ready {
    place: Place,
    entry: Entry,
    outputs: Arc<TaskOutputs>,
    /// How many processes of the task the kernel has killed for lack of memory so far.
    oom_kills: u64,
}

/// Folders, cgroup and output files: everything that needs the file system.
fn make(workplace: &Workplace, spec: &TaskSpec, instance: Instance) -> Result<Ready, String> {
    let place = workplace.make_place(spec)?;
    let name = CgroupName::task(&spec.id);
    workplace.cgroups.create(&name, &spec.limits).map_err(|error| error.to_string())?;
    let entry = workplace.cgroups.entry(&name).map_err(|error| error.to_string())?;
    let kind = if spec.terminal.is_some() { Kind::Terminal } else { Kind::Pipes };
    let outputs =
        workplace.outputs.of(&spec.id, || TaskOutputs::new(&place.sandbox, spec.log, place.owner(), kind));
    outputs.begin(instance).map_err(|error| format!("create its log: {error}"))?;
    let oom_kills = spec.limits.memory_hard.map_or(0, |_| workplace.cgroups.oom_kills(&name).unwrap_or(0));
    Ok(Ready { place, entry, outputs, oom_kills })
}

impl Streams {
    fn open(
        spec: &TaskSpec,
        place: &Place,
        outputs: &Arc<TaskOutputs>,
        totals: &Arc<Totals>,
    ) -> io::Result<Self> {
        match spec.terminal {
            Some(size) => Self::terminal(size, place, outputs, totals),
            None => Self::pipes(outputs, totals),
        }
    }

    fn pipes(outputs: &Arc<TaskOutputs>, totals: &Arc<Totals>) -> io::Result<Self> {
        let start = |stream| {
            let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
            io::Result::Ok((Output::start(reader, outputs.clone(), stream, totals.clone())?, writer))
        };
        let ((out, stdout), (err, stderr)) = (start(Stream::Stdout)?, start(Stream::Stderr)?);
        let stdin = std::fs::File::open("/dev/null")?.into();
        Ok(Self { stdio: [stdin, stdout, stderr], outputs: vec![out, err] })
    }

    fn terminal(
        size: TerminalSize,
        place: &Place,
        outputs: &Arc<TaskOutputs>,
        totals: &Arc<Totals>,
    ) -> io::Result<Self> {
        let (master, stdio) = terminal::open(size, place.owner())?;
        let output = Output::start(master, outputs.clone(), Stream::Stdout, totals.clone())?;
        Ok(Self { stdio, outputs: vec![output] })
    }
}

async fn after(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// v1 wakes before it kills and counts: so it is looked at again for a while, less and less often.
fn next_look(last: Option<Duration>) -> Option<Duration> {
    last.map(|last| (last * 2).max(Duration::from_millis(1))).filter(|next| *next <= LAST_LOOK)
}

async fn woken(waker: Option<&tokio::io::unix::AsyncFd<Arc<OwnedFd>>>) -> io::Result<()> {
    let Some(waker) = waker else {
        return std::future::pending().await;
    };
    let mut ready = waker.readable().await?;
    let mut counted = [0_u8; 4096];
    let read = rustix::io::read(waker.get_ref().as_fd(), &mut counted);
    ready.clear_ready();
    read.map(drop).map_err(io::Error::from)
}
