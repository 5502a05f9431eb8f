//! A process that was started in a task: its stdio, and how it ends.
//!
//! ```text
//!  Request::Exec -> Started + descriptors -> Process { stdio, wishes, ending }
//!                                             dropped: the executor kills it with all it started
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::termios::{LocalModes, SpecialCodeIndex, Winsize, tcgetattr, tcsetwinsize};
use task::control::{Answer, End, EndReason, Exec, Request, WindowSize};
use tokio::net::unix::pipe;

use crate::control::{Answers, Control, ControlError, Wishes};

/// A process under way.
#[derive(Debug)]
pub struct Process {
    /// Its process id on the host.
    pub pid: u32,
    /// Its input and outputs.
    pub stdio: Stdio,
    /// For signals.
    pub wishes: Wishes,
    /// How it ends.
    pub ending: Ending,
}

/// Input and outputs of a process.
#[derive(Debug)]
pub enum Stdio {
    /// Pipes.
    Pipes {
        /// Dropped, the process reads the end of its input.
        stdin: Option<pipe::Sender>,
        /// Until its end.
        stdout: pipe::Receiver,
        /// Until its end.
        stderr: pipe::Receiver,
    },
    /// A terminal.
    Terminal(Terminal),
}

/// A terminal's master. Its end is read as EIO, which is the end of the output.
#[derive(Debug)]
pub struct Terminal {
    /// What is typed.
    pub input: pipe::Sender,
    /// What is shown.
    pub output: pipe::Receiver,
    /// For its size.
    pub size: TerminalSize,
}

/// Sets the size of a terminal.
#[derive(Debug)]
pub struct TerminalSize {
    master: OwnedFd,
}

impl TerminalSize {
    /// Sets it; the kernel tells the processes (SIGWINCH).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn set(&self, WindowSize { rows, columns }: WindowSize) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(tcsetwinsize(&self.master, size)?)
    }

    /// The character that ends the input, if one does: a terminal that is read by lines has one.
    pub fn end_of_input(&self) -> Option<u8> {
        let settings = tcgetattr(&self.master).ok()?;
        let lines = settings.local_modes.contains(LocalModes::ICANON);
        lines.then(|| settings.special_codes[SpecialCodeIndex::VEOF])
    }
}

/// How a process ends.
#[derive(Debug)]
pub struct Ending {
    answers: Answers,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself.
    Exited(End),
    /// From outside.
    Cut(EndReason),
    /// The executor went away; how the process ended is not known.
    Lost(ControlError),
}

impl Ending {
    /// Waits for it. May be given up and called again.
    pub async fn wait(&mut self) -> Ended {
        loop {
            match self.answers.next().await {
                Ok((Answer::Exited(end), _)) => return Ended::Exited(end),
                Ok((Answer::Ended(reason), _)) => return Ended::Cut(reason),
                Ok((other, _)) => tracing::debug!(?other, "ignored"),
                Err(error) => return Ended::Lost(error),
            }
        }
    }
}

/// Starts a process.
///
/// # Errors
/// [`ControlError`]; nothing of it is left then.
pub async fn start(socket: &Path, exec: Exec) -> Result<Process, ControlError> {
    let (terminal, stdin) = (exec.terminal.is_some(), exec.stdin);
    let (control, answer, descriptors) = Control::ask(socket, &Request::Exec(exec)).await?;
    let Answer::Started { pid, .. } = answer else {
        return Err(control.unexpected(&answer));
    };
    let stdio = if terminal { Stdio::terminal(descriptors) } else { Stdio::pipes(stdin, descriptors) };
    let stdio = stdio.map_err(|source| ControlError::Io {
        verb: "use the descriptors of",
        path: socket.to_owned(),
        source,
    })?;
    let (wishes, answers) = control.split();
    Ok(Process { pid, stdio, wishes, ending: Ending { answers } })
}

impl Stdio {
    fn pipes(stdin: bool, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let mut descriptors = descriptors.into_iter();
        let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
        let stdin = if stdin { Some(pipe::Sender::from_owned_fd(next()?)?) } else { None };
        let stdout = pipe::Receiver::from_owned_fd(next()?)?;
        Ok(Self::Pipes { stdin, stdout, stderr: pipe::Receiver::from_owned_fd(next()?)? })
    }

    fn terminal(mut descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let master = descriptors.pop().ok_or_else(|| io::Error::other("the terminal's master is missing"))?;
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self::Terminal(Terminal {
            input: pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?,
            output: pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?,
            size: TerminalSize { master },
        }))
    }
}
