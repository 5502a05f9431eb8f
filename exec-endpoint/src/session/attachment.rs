//! The streams of a task that runs: its output from now on, and its input.
//!
//! ```text
//!  Request::Attach -> Attached + pipes -> Attachment { stdin, outputs, wishes, ending }
//!                     Lost ..., Ended      dropped: the executor stops teeing
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use mesos::common::TaskId;
use task::control::{Answer, Request};
use tokio::net::unix::pipe;

use super::process::Ended;
use crate::control::{Answers, Control, ControlError, Wishes};

/// The streams of a task.
#[derive(Debug)]
pub struct Attachment {
    /// Whether the task has a terminal; there is no error output then.
    pub terminal: bool,
    /// Its input, if it was asked for and there is one.
    pub stdin: Option<pipe::Sender>,
    /// Its output, or all of a terminal.
    pub stdout: pipe::Receiver,
    /// Its error output, without a terminal.
    pub stderr: Option<pipe::Receiver>,
    /// For the terminal's size.
    pub wishes: Wishes,
    /// How it ends.
    pub ending: AttachmentEnding,
}

/// How an attachment goes on, and ends.
#[derive(Debug)]
pub struct AttachmentEnding {
    answers: Answers,
}

/// What happens to an attachment.
#[derive(Debug)]
pub enum Happened {
    /// So many bytes did not fit into the pipe, in all.
    Lost(u64),
    /// It ended. The last that happens.
    Ended(Ended),
}

impl AttachmentEnding {
    /// What happens next. May be given up and called again.
    pub async fn next(&mut self) -> Happened {
        loop {
            match self.answers.next().await {
                Ok((Answer::Lost { bytes }, _)) => return Happened::Lost(bytes),
                Ok((Answer::Ended(reason), _)) => return Happened::Ended(Ended::Cut(reason)),
                Ok((other, _)) => tracing::debug!(?other, "ignored"),
                Err(error) => return Happened::Ended(Ended::Lost(error)),
            }
        }
    }
}

/// Attaches to a task.
///
/// # Errors
/// [`ControlError`].
pub async fn attach(socket: &Path, task: TaskId, stdin: bool) -> Result<Attachment, ControlError> {
    let (control, answer, descriptors) = Control::ask(socket, &Request::Attach { task, stdin }).await?;
    let Answer::Attached { terminal, stdin, .. } = answer else {
        return Err(control.unexpected(&answer));
    };
    let (stdout, stderr, stdin) = pipes(terminal, stdin, descriptors).map_err(|source| ControlError::Io {
        verb: "use the descriptors of",
        path: socket.to_owned(),
        source,
    })?;
    let (wishes, answers) = control.split();
    Ok(Attachment { terminal, stdin, stdout, stderr, wishes, ending: AttachmentEnding { answers } })
}

type Pipes = (pipe::Receiver, Option<pipe::Receiver>, Option<pipe::Sender>);

fn pipes(terminal: bool, stdin: bool, descriptors: Vec<OwnedFd>) -> io::Result<Pipes> {
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(|| io::Error::other("a descriptor is missing"));
    let stdout = pipe::Receiver::from_owned_fd(next()?)?;
    let stderr = if terminal { None } else { Some(pipe::Receiver::from_owned_fd(next()?)?) };
    // A task's input may be its terminal, which is no pipe.
    let stdin = if stdin {
        let input = next()?;
        rustix::io::ioctl_fionbio(&input, true)?;
        Some(pipe::Sender::from_owned_fd_unchecked(input)?)
    } else {
        None
    };
    Ok((stdout, stderr, stdin))
}
