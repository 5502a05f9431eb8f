//! The log of a task: its rotated files, two streams, as one stream of lines.
//!
//! ```text
//!  executor --Files: descriptors--> Lane (stdout)  --lines--.
//!                                   Lane (stderr)  --lines--+--by time--> Reader --pieces of at most 256 KiB--> client
//!           --Rotated-------------> the lane goes on there
//! ```
//! Nothing here holds more than a buffer per stream. A line is never split between two others, unless it is longer than
//! [`lane::LONGEST`] or the log ends in its middle.

pub mod lane;
pub mod reader;
pub mod times;

#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;

use task::control::{Answer, LogFile, Request, Task};

pub use lane::Segment;
pub use reader::{OpenError, Piece, Reader, Wanted};

use crate::control::{Control, ControlError};

/// The most files of one log. (An executor keeps a hundred at most per stream.)
const MOST_FILES: usize = 1024;

/// Asks an executor for the files of a task's log. The control connection tells rotations and the task's end, if those are
/// followed.
///
/// # Errors
/// [`ControlError`]: as of [`Control::ask`].
pub async fn open(
    socket: &Path,
    task: &Task,
    follow: bool,
) -> Result<(Control, Vec<(LogFile, Segment)>), ControlError> {
    let request = Request::Logs { task: task.id.clone(), follow };
    let (mut control, mut answer, mut descriptors) = Control::ask(socket, &request).await?;
    let mut all = Vec::new();
    loop {
        let Answer::Files { files, more } = answer else {
            return Err(control.unexpected(&answer));
        };
        let mut descriptors_left = descriptors.into_iter();
        for file in files {
            if let Some(segment) = segment(&file, &mut descriptors_left) {
                all.push((file, segment));
            }
        }
        if !more || all.len() > MOST_FILES {
            return Ok((control, all));
        }
        (answer, descriptors) = control.answer().await?;
    }
}

/// The segment that a log file's descriptors are.
pub fn segment(file: &LogFile, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Option<Segment> {
    let bytes = descriptors.next()?.into();
    let times = if file.times { Some(descriptors.next()?.into()) } else { None };
    Some(Segment::new(bytes, times))
}
