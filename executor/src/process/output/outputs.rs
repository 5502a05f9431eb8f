//! The outputs of tasks, as those who look at them find them: log files, followers, attachments, the terminal's input.
//!
//! ```text
//!  Outputs: task id -> TaskOutputs, from its first process until it is forgotten, over all restarts in place
//!                        stdout, stderr: RotatedFile --rotations--> followers
//!                             each byte as it is read ------------> readers of attachments
//! ```
//! One lock per task, held for one short step of reading and writing: what is opened and subscribed to under it is of one
//! moment.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesos::common::TaskId;
use rustix::termios::{Winsize, tcsetwinsize};
use task::control::{Stream, WindowSize};
use tokio::sync::watch;

use super::Totals;
use super::followers::{Follower, Followers, OpenFile};
use super::numbered::{Holds, Numbered};
use super::readers::{Lost, Readers};
use super::rotated::{Counts, ForReading, Listener as _, RotatedFile};
use crate::spec::{LogLimits, Owner};
use crate::supervisor::Instance;

/// The outputs of an executor's tasks.
#[derive(Debug, Default)]
pub struct Outputs {
    tasks: Mutex<HashMap<TaskId, Arc<TaskOutputs>>>,
}

impl Outputs {
    /// Those of a task that has begun to be made; also of one that has ended, until it is forgotten.
    pub fn find(&self, id: &TaskId) -> Option<Arc<TaskOutputs>> {
        self.lock().get(id).cloned()
    }

    /// Those of a task that lives; `make` makes those of one that is not known yet.
    pub fn of(&self, id: &TaskId, make: impl FnOnce() -> TaskOutputs) -> Arc<TaskOutputs> {
        let mut tasks = self.lock();
        match tasks.get(id) {
            Some(outputs) if !outputs.has_ended() => Arc::clone(outputs),
            _ => {
                let outputs = Arc::new(make());
                tasks.insert(id.clone(), Arc::clone(&outputs));
                outputs
            }
        }
    }

    /// Forgets a task that has ended.
    pub fn forget(&self, id: &TaskId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Arc<TaskOutputs>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outputs of one task.
#[derive(Debug)]
pub struct TaskOutputs {
    folder: PathBuf,
    limits: LogLimits,
    owner: Owner,
    kind: Kind,
    state: Mutex<State>,
    /// The master of the terminal that its process has now.
    terminal: watch::Sender<Option<Arc<OwnedFd>>>,
    ended: watch::Sender<bool>,
}

/// What a task writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Two pipes.
    Pipes,
    /// One terminal.
    Terminal,
}

impl Kind {
    /// The streams it has.
    pub fn streams(self) -> &'static [Stream] {
        match self {
            Self::Pipes => &[Stream::Stdout, Stream::Stderr],
            Self::Terminal => &[Stream::Stdout],
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    files: Files,
    followers: Followers,
    readers: Readers,
    /// As somebody attached has last wished it.
    window: Option<WindowSize>,
}

/// The files written to; none before the first process and after the end.
#[derive(Debug, Default)]
struct Files {
    stdout: Option<RotatedFile>,
    stderr: Option<RotatedFile>,
}

impl Files {
    fn of(&mut self, stream: Stream) -> &mut Option<RotatedFile> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl TaskOutputs {
    /// Those of a task whose log files are in `folder`, and belong to `owner`.
    pub fn new(folder: &Path, limits: LogLimits, owner: Owner, kind: Kind) -> Self {
        Self {
            folder: folder.to_owned(),
            limits,
            owner,
            kind,
            state: Mutex::default(),
            terminal: watch::Sender::new(None),
            ended: watch::Sender::new(false),
        }
    }

    /// What it writes to.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Opens or makes the log files for the task's next process. Short file operations.
    ///
    /// # Errors
    /// A file that can neither be opened nor made, with its path.
    pub fn begin(&self, Instance(process): Instance) -> io::Result<()> {
        let process = u16::try_from(process).unwrap_or(u16::MAX);
        let mut state = self.lock();
        for stream in self.kind.streams() {
            let path = self.folder.join(name(*stream));
            let mut file = RotatedFile::create(&path, self.limits, self.owner, process)?;
            let State { files, followers, .. } = &mut *state;
            // The task has moved or removed the one that there was.
            if files.of(*stream).as_ref().and_then(RotatedFile::identity) != file.identity() {
                followers.of(*stream).rotated(0, &mut || {
                    file.for_reading()?.ok_or_else(|| io::Error::other("the new log file is gone"))
                });
            }
            *files.of(*stream) = Some(file);
        }
        Ok(())
    }

    /// All log files there are, stdout's from the oldest to the one written to, then stderr's. Short file operations.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn files(&self) -> io::Result<Vec<OpenFile>> {
        self.open_all(&mut self.lock())
    }

    /// The same, and from that moment on who hears of further ones.
    ///
    /// # Errors
    /// No more descriptors, or too many followers.
    pub fn follow(&self) -> io::Result<(Vec<OpenFile>, Follower)> {
        let mut state = self.lock();
        let files = self.open_all(&mut state)?;
        let follower = state.followers.add()?;
        if self.has_ended() {
            state.followers.clear();
        }
        Ok((files, follower))
    }

    /// Gets all output from now on through pipes; `None` when the task has ended.
    ///
    /// # Errors
    /// No more descriptors, or too many attachments.
    pub fn attach(self: &Arc<Self>) -> io::Result<Option<Attachment>> {
        let mut state = self.lock();
        if self.has_ended() {
            return Ok(None);
        }
        let lost = Arc::default();
        let pipes = state.readers.add(self.kind.streams(), &lost)?;
        Ok(Some(Attachment { outputs: Arc::clone(self), pipes, lost }))
    }

    /// Gives its terminal, if it has one, another size; its next process gets that too.
    pub fn resize(&self, size: WindowSize) {
        self.lock().window = Some(size);
        if let Some(master) = &*self.terminal.borrow() {
            set_size(master, size);
        }
    }

    /// The master of the terminal that its process has now, and of those that the next ones get.
    pub fn terminal(&self) -> watch::Receiver<Option<Arc<OwnedFd>>> {
        self.terminal.subscribe()
    }

    /// Resolves when the task has ended for good and its output is drained.
    pub async fn end_of_task(&self) {
        // Never closed: this value holds the sender.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// The task has ended for good, and its output is drained: tells followers and readers, and closes what is open.
    pub fn end(&self) {
        let mut state = self.lock();
        *state = State::default();
        self.ended.send_replace(true);
        self.terminal.send_replace(None);
    }

    /// A process has this terminal.
    pub(super) fn connect(&self, master: OwnedFd) {
        if let Some(size) = self.lock().window {
            set_size(&master, size);
        }
        self.terminal.send_replace(Some(Arc::new(master)));
    }

    /// The terminal is no longer read from.
    pub(super) fn hang_up(&self) {
        self.terminal.send_if_modified(|terminal| terminal.take().is_some());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    fn open_all(&self, state: &mut State) -> io::Result<Vec<OpenFile>> {
        let mut files = Vec::new();
        for stream in self.kind.streams() {
            let log = self.folder.join(name(*stream));
            let numbered = |holds| Numbered::new(&log, holds, self.limits.files, self.owner);
            let (bytes, times) = (numbered(Holds::Bytes), numbered(Holds::Times));
            let open = |number| -> io::Result<Option<OpenFile>> {
                let Some(log) = readable(bytes.read(number))? else { return Ok(None) };
                let times = readable(times.read(number))?;
                Ok(Some(OpenFile::new(*stream, 0, ForReading { log, times })))
            };
            for number in bytes.older() {
                files.extend(open(number)?);
            }
            match state.files.of(*stream) {
                Some(file) => files.extend(file.for_reading()?.map(|file| OpenFile::new(*stream, 0, file))),
                None if self.has_ended() => files.extend(open(0)?),
                // Followers hear of it when it is begun.
                None => {}
            }
        }
        Ok(files)
    }
}

impl State {
    /// Puts what was read `now` into the log and gives it to the readers.
    pub(super) fn write(&mut self, stream: Stream, data: &[u8], now: u64, totals: &Totals) {
        let Self { files, followers, readers, .. } = self;
        if let Some(file) = files.of(stream) {
            let before = file.counts();
            file.write_to(data, now, &mut followers.of(stream));
            totals.add(before, file.counts());
        }
        readers.give(stream, data);
    }

    pub(super) fn counts(&mut self, stream: Stream) -> Counts {
        self.files.of(stream).as_ref().map(RotatedFile::counts).unwrap_or_default()
    }
}

/// What somebody attached to a task has. Dropped, it is detached.
#[derive(Debug)]
pub struct Attachment {
    outputs: Arc<TaskOutputs>,
    /// The reading ends, one per stream; to be taken and handed over.
    pub pipes: Vec<OwnedFd>,
    /// What did not fit.
    pub lost: Arc<Lost>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.outputs.lock().readers.remove(&self.lost);
    }
}

/// The name of a stream's log file.
fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// What is not there, or is no log file, is left out; that there are no descriptors is an error.
fn readable(opened: io::Result<File>) -> io::Result<Option<File>> {
    let exhausted = [nix::libc::EMFILE, nix::libc::ENFILE, nix::libc::ENOMEM];
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.raw_os_error().is_some_and(|code| exhausted.contains(&code)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn set_size(master: &OwnedFd, WindowSize { rows, columns }: WindowSize) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    if let Err(error) = tcsetwinsize(master, size) {
        tracing::debug!(%error, "set the size of a terminal");
    }
}
