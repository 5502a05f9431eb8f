//! Attach: the output of a task from now on, through pipes, and the input of its terminal.
//!
//! ```text
//!  Attached + pipes -> Lost ... -> Ended           output: read once, into the log and into each pipe that has room
//!                   <- Resize ...                  input:  pipe -> here -> the terminal of the process that there is now
//! ```

use std::convert::Infallible;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use task::connection::{Receiver, Sender};
use task::control::{Answer, EndReason, Refusal, RefusalKind, Wish};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::process::output::{Attachment, Kind, Lost, TaskOutputs};

/// How often losses are told at most.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// As much as a line of a terminal's input holds.
const INPUT: usize = 4096;

/// Answers [`task::control::Request::Attach`]. Returns when the task has ended for good, or the other side has closed.
/// Input is given to a task with a terminal only: the stdin of others is `/dev/null`.
///
/// # Errors
/// What the socket says; a broken pipe where the other side closed while it was being told something.
pub async fn serve(
    outputs: Arc<TaskOutputs>,
    stdin: bool,
    mut sender: Sender,
    mut receiver: Receiver,
) -> io::Result<()> {
    let terminal = outputs.kind() == Kind::Terminal;
    let made = outputs.attach().and_then(|attachment| {
        let input = (stdin && terminal).then(|| pipe_with(PipeFlags::CLOEXEC)).transpose()?;
        Ok(attachment.map(|attachment| (attachment, input)))
    });
    let (mut attachment, input) = match made {
        Ok(Some(made)) => made,
        Ok(None) => return refuse(&mut sender, RefusalKind::NotRunning, "the task has ended").await,
        Err(error) => {
            return refuse(&mut sender, RefusalKind::Failed, &format!("make the pipes: {error}")).await;
        }
    };
    let (reader, writer) = input.unzip();
    let handed: Vec<OwnedFd> = std::mem::take(&mut attachment.pipes).into_iter().chain(writer).collect();
    let answer = Answer::Attached { terminal, stdin: reader.is_some(), descriptors: handed.len() };
    sender.send(&answer, &handed.iter().map(|one| one.as_fd()).collect::<Vec<BorrowedFd<'_>>>()).await?;
    drop(handed);
    let input = pump(reader, outputs.terminal());
    tokio::select! {
        told = tell(&outputs, &attachment, &mut sender, &mut receiver) => told,
        never = input => match never {},
    }
}

async fn refuse(sender: &mut Sender, kind: RefusalKind, message: &str) -> io::Result<()> {
    sender.send(&Answer::Refused(Refusal { kind, message: message.to_owned() }), &[]).await
}

/// Tells losses and the end, and does what is wished.
async fn tell(
    outputs: &TaskOutputs,
    attachment: &Attachment,
    sender: &mut Sender,
    receiver: &mut Receiver,
) -> io::Result<()> {
    let lost = &attachment.lost;
    let (mut told, mut quiet_until) = (0, Instant::now());
    loop {
        tokio::select! {
            biased;
            wish = receiver.receive::<Wish>() => match wish? {
                Some((Wish::Resize(size), _)) => outputs.resize(size),
                // A task's signals have a request of their own.
                Some((Wish::Signal(signal), _)) => tracing::debug!(signal, "an attachment's wish is ignored"),
                None => return Ok(()),
            },
            () = outputs.end_of_task() => break,
            bytes = more_lost(lost, told, quiet_until) => {
                sender.send(&Answer::Lost { bytes }, &[]).await?;
                (told, quiet_until) = (bytes, Instant::now() + TELL_EVERY);
            }
        }
    }
    if lost.bytes() > told {
        sender.send(&Answer::Lost { bytes: lost.bytes() }, &[]).await?;
    }
    sender.send(&Answer::Ended(EndReason::TaskEnded), &[]).await
}

async fn more_lost(lost: &Lost, told: u64, quiet_until: Instant) -> u64 {
    tokio::time::sleep_until(quiet_until).await;
    lost.beyond(told).await
}

/// Gives what comes out of the pipe to the task's terminal. What its process does not take stays in the pipe.
async fn pump(input: Option<OwnedFd>, mut terminal: watch::Receiver<Option<Arc<OwnedFd>>>) -> Infallible {
    if let Some(input) = input
        && let Err(error) = give(input, &mut terminal).await
    {
        tracing::warn!(%error, "give input to the terminal of a task");
    }
    std::future::pending().await
}

/// Until the pipe's end.
async fn give(input: OwnedFd, terminal: &mut watch::Receiver<Option<Arc<OwnedFd>>>) -> io::Result<()> {
    let mut input = pipe::Receiver::from_owned_fd(input)?;
    let mut buffer = vec![0; INPUT];
    loop {
        let count = input.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            rest = give_to_process(rest, terminal).await?;
        }
    }
}

/// Gives `data` to the process that there is, or the next one; what is left when it has ended comes back.
async fn give_to_process<'a>(
    data: &'a [u8],
    terminal: &mut watch::Receiver<Option<Arc<OwnedFd>>>,
) -> io::Result<&'a [u8]> {
    let Ok(master) = terminal.wait_for(Option::is_some).await.map(|master| master.clone()) else {
        return Ok(&[]);
    };
    let Some(master) = master else { return Ok(data) };
    let writer = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
    drop(master);
    let mut rest = data;
    while !rest.is_empty() {
        tokio::select! {
            biased;
            // It hangs up here when its process has ended: a descriptor kept would keep what it left from hearing of that.
            _ = terminal.changed() => return Ok(rest),
            ready = writer.writable() => ready?,
        }
        match writer.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // EIO: nobody has the other end.
            Err(_) => {
                let _ = terminal.changed().await;
                return Ok(rest);
            }
        }
    }
    Ok(rest)
}

#[cfg(test)]
mod tests;
