//! Logs: whoever asks reads the files itself, through descriptors that can do nothing else.
//!
//! ```text
//!  Files + all files there are [, more] -> (follow) Rotated + the new file, each time -> Ended | Refused: too slow
//! ```

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use task::connection::{Receiver, Sender};
use task::control::{Answer, EndReason, Refusal, RefusalKind, Wish};
use task::framed::MOST_DESCRIPTORS;

use crate::process::output::{Followed, OpenFile, TaskOutputs};

/// Answers [`task::control::Request::Logs`]. Returns when everything is said, or the other side has closed.
///
/// # Errors
/// What the socket says; a broken pipe where the other side closed while it was being told something.
pub async fn serve(
    outputs: Arc<TaskOutputs>,
    follow: bool,
    mut sender: Sender,
    mut receiver: Receiver,
) -> io::Result<()> {
    let opened = match follow {
        true => outputs.follow().map(|(files, follower)| (files, Some(follower))),
        false => outputs.files().map(|files| (files, None)),
    };
    let (files, follower) = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(&mut sender, format!("open the log files: {error}")).await,
    };
    send_files(&mut sender, files).await?;
    let Some(mut follower) = follower else {
        return Ok(());
    };
    sender.keep_back()?;
    loop {
        let followed = tokio::select! {
            biased;
            wish = receiver.receive::<Wish>() => match wish? {
                Some(_) => continue,
                None => return Ok(()),
            },
            followed = follower.next() => followed,
        };
        match followed {
            Followed::Rotated(OpenFile { file, descriptors }) => {
                let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(|one| one.as_fd()).collect();
                sender.send(&Answer::Rotated(file), &descriptors).await?;
            }
            Followed::Ended => return sender.send(&Answer::Ended(EndReason::TaskEnded), &[]).await,
            Followed::Cut(why) => return refuse(&mut sender, why).await,
        }
    }
}

async fn refuse(sender: &mut Sender, message: String) -> io::Result<()> {
    let refusal = Refusal { kind: RefusalKind::Failed, message };
    sender.send(&Answer::Refused(refusal), &[]).await
}

/// In as many messages as their descriptors need; one at least.
async fn send_files(sender: &mut Sender, files: Vec<OpenFile>) -> io::Result<()> {
    let mut rest = files;
    loop {
        let later = rest.split_off(fitting(&rest));
        let descriptors: Vec<BorrowedFd<'_>> =
            rest.iter().flat_map(|one| &one.descriptors).map(|one| one.as_fd()).collect();
        let files = rest.iter().map(|one| one.file.clone()).collect();
        sender.send(&Answer::Files { files, more: !later.is_empty() }, &descriptors).await?;
        if later.is_empty() {
            return Ok(());
        }
        rest = later;
    }
}

/// How many of the first files one message carries.
fn fitting(files: &[OpenFile]) -> usize {
    let mut descriptors = 0;
    let fits = |one: &&OpenFile| {
        descriptors += one.file.descriptors();
        descriptors <= MOST_DESCRIPTORS
    };
    files.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests;
