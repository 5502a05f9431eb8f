//! What runs behind a session: a process of its own, or a task that it is attached to.

use std::os::fd::AsFd;

use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::control::Wishes;
use crate::session::attachment::{Attachment, AttachmentEnding, Happened};
use crate::session::process::{Ended, Ending, Process, Stdio, Terminal, TerminalSize};

/// The size of a pipe that is used to the full: as wide as anybody may have it, and never narrower than the executor makes it.
const WIDE: usize = 1 << 20;
/// The size that pipes have at first (`pipe(7)`).
const NARROW: usize = 64 << 10;

/// What runs behind a session.
#[derive(Debug)]
pub struct Running {
    /// Its input, until there is no more.
    pub stdin: Option<pipe::Sender>,
    /// Its output, until its end.
    pub stdout: Option<pipe::Receiver>,
    /// Its error output, until its end.
    pub stderr: Option<pipe::Receiver>,
    /// Its terminal, where the endpoint has the master.
    pub size: Option<TerminalSize>,
    /// Whether its terminal's size is set by the executor.
    pub size_by_wish: bool,
    /// For the executor.
    pub wishes: Wishes,
    /// What the executor tells.
    pub source: Source,
    /// How it ended, once it has.
    pub ended: Option<Ended>,
    /// Until when outputs may stay open then.
    pub leftover_until: Instant,
    /// How much came since then.
    pub after_end: u64,
    /// How much did not fit into an attachment's pipe, in all; and how much of that was told.
    pub lost: u64,
    /// See there.
    pub lost_told: u64,
    narrow_stdin: bool,
    narrow_outputs: bool,
}

/// What the executor tells.
#[derive(Debug)]
pub enum Source {
    /// Of a process.
    Process(Ending),
    /// Of an attachment.
    Attachment(AttachmentEnding),
}

impl Source {
    /// What happens next. May be given up and called again.
    pub async fn next(&mut self) -> Happened {
        match self {
            Self::Process(ending) => Happened::Ended(ending.wait().await),
            Self::Attachment(ending) => ending.next().await,
        }
    }
}

impl Running {
    /// A process.
    pub fn process(process: Process) -> Self {
        let Process { stdio, wishes, ending, .. } = process;
        let mut this = Self::new(wishes, Source::Process(ending));
        match stdio {
            Stdio::Pipes { stdin, stdout, stderr } => {
                (this.stdin, this.stdout, this.stderr) = (stdin, Some(stdout), Some(stderr));
            }
            Stdio::Terminal(Terminal { input, output, size }) => {
                (this.stdin, this.stdout, this.size) = (Some(input), Some(output), Some(size));
                (this.narrow_stdin, this.narrow_outputs) = (false, false);
            }
        }
        this
    }

    /// A task that runs.
    pub fn attachment(attachment: Attachment) -> Self {
        let Attachment { terminal, stdin, stdout, stderr, wishes, ending } = attachment;
        let mut this = Self::new(wishes, Source::Attachment(ending));
        (this.stdin, this.stdout, this.stderr) = (stdin, Some(stdout), stderr);
        (this.size_by_wish, this.narrow_stdin, this.narrow_outputs) = (terminal, false, false);
        this
    }

    fn new(wishes: Wishes, source: Source) -> Self {
        Self {
            stdin: None,
            stdout: None,
            stderr: None,
            size: None,
            size_by_wish: false,
            wishes,
            source,
            ended: None,
            leftover_until: Instant::now(),
            after_end: 0,
            lost: 0,
            lost_told: 0,
            narrow_stdin: true,
            narrow_outputs: true,
        }
    }

    /// More input waits than a pipe takes: it gets wider, once.
    pub fn widen_stdin(&mut self, waiting: usize) {
        if waiting >= NARROW / 8 && std::mem::take(&mut self.narrow_stdin) {
            self.stdin.iter().for_each(widen);
        }
    }

    /// So much came at once: if that is all that a pipe takes, they get wider, once.
    pub fn widen_outputs(&mut self, read: usize) {
        if read >= NARROW && std::mem::take(&mut self.narrow_outputs) {
            self.stdout.iter().for_each(widen);
            self.stderr.iter().for_each(widen);
        }
    }
}

/// Wider pipes are faster; a bound on them (`pipe-user-pages-soft`) is no error.
fn widen(pipe: impl AsFd) {
    if let Err(error) = rustix::pipe::fcntl_setpipe_size(pipe, WIDE) {
        tracing::debug!(%error, "a pipe stays as it is");
    }
}
