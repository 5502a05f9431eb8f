//! Those who follow a log: each hears of every new file, and holds at most [`PENDING`] that it has not taken.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use task::control::{LogFile, Stream};
use tokio::sync::mpsc;

use super::rotated::{ForReading, Listener};

/// Rotations that a follower may be behind.
const PENDING: usize = 8;
/// Followers of one task.
const MOST: usize = 64;

/// A log file with its descriptors, read-only, in the order in which they are sent.
#[derive(Debug)]
pub struct OpenFile {
    /// What it is.
    pub file: LogFile,
    /// The file, then its times if it has any.
    pub descriptors: Vec<OwnedFd>,
}

impl OpenFile {
    pub(super) fn new(stream: Stream, moved: u64, ForReading { log, times }: ForReading) -> Self {
        let file = LogFile { stream, times: times.is_some(), moved };
        Self { file, descriptors: std::iter::once(log).chain(times).map(OwnedFd::from).collect() }
    }
}

/// What a follower hears.
#[derive(Debug)]
pub enum Followed {
    /// A stream goes on in a new file.
    Rotated(OpenFile),
    /// The task has ended for good, and all its output is in the files.
    Ended,
    /// It cannot be followed any further, and why.
    Cut(String),
}

/// Hears of the rotations of a task's log.
#[derive(Debug)]
pub struct Follower {
    rotations: mpsc::Receiver<OpenFile>,
    cut: Arc<OnceLock<String>>,
}

impl Follower {
    /// What happens next. May be given up and called again; after the end it says the end again.
    pub async fn next(&mut self) -> Followed {
        match (self.rotations.recv().await, self.cut.get()) {
            (Some(file), _) => Followed::Rotated(file),
            (None, Some(why)) => Followed::Cut(why.clone()),
            (None, None) => Followed::Ended,
        }
    }
}

/// The followers of a task.
#[derive(Debug, Default)]
pub(super) struct Followers(Vec<Told>);

#[derive(Debug)]
struct Told {
    rotations: mpsc::Sender<OpenFile>,
    cut: Arc<OnceLock<String>>,
}

impl Followers {
    /// One more.
    pub(super) fn add(&mut self) -> io::Result<Follower> {
        self.0.retain(|told| !told.rotations.is_closed());
        if self.0.len() >= MOST {
            return Err(io::Error::other(format!("the log has {MOST} followers already")));
        }
        let ((rotations, receiver), cut) = (mpsc::channel(PENDING), Arc::default());
        self.0.push(Told { rotations, cut: Arc::clone(&cut) });
        Ok(Follower { rotations: receiver, cut })
    }

    /// The log has ended: they hear of it after all that they have not taken yet.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What tells them of the rotations of one stream.
    pub(super) fn of(&mut self, stream: Stream) -> impl Listener {
        OfStream { followers: self, stream }
    }
}

struct OfStream<'a> {
    followers: &'a mut Followers,
    stream: Stream,
}

impl Listener for OfStream<'_> {
    fn rotated(&mut self, moved: u64, open: &mut dyn FnMut() -> io::Result<ForReading>) {
        self.followers.0.retain(|told| {
            let why = match told.rotations.try_reserve() {
                Ok(place) => match open() {
                    Ok(opened) => return { place.send(OpenFile::new(self.stream, moved, opened)); true },
                    Err(error) => format!("the new log file cannot be opened: {error}"),
                },
                Err(mpsc::error::TrySendError::Closed(())) => return false,
                Err(mpsc::error::TrySendError::Full(())) => {
                    format!("the log was rotated {PENDING} times while none of it was read: begin again with the files there are now")
                }
            };
            let _ = told.cut.set(why);
            false
        });
    }
}
