//! Those who are attached to a task: they get its output through pipes as it is read. What does not fit is lost to them,
//! and counted.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use task::control::Stream;
use tokio::sync::Notify;

/// What a reader may be behind.
pub(super) const PIPE: usize = 64 << 10;
/// Attachments to one task.
const MOST: usize = 64;

/// How many bytes did not fit into the pipes of one attachment.
#[derive(Debug, Default)]
pub struct Lost {
    bytes: AtomicU64,
    more: Notify,
}

impl Lost {
    /// So many so far, in all.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until they are more than this many. May be given up and called again.
    pub async fn beyond(&self, told: u64) -> u64 {
        loop {
            let bytes = self.bytes();
            if bytes > told {
                return bytes;
            }
            self.more.notified().await;
        }
    }

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.more.notify_one();
    }
}

/// The readers of a task's streams.
#[derive(Debug, Default)]
pub(super) struct Readers {
    stdout: Vec<Reader>,
    stderr: Vec<Reader>,
}

#[derive(Debug)]
struct Reader {
    lost: Arc<Lost>,
    pipe: File,
}

impl Readers {
    /// Another reader of these streams: the pipes' reading ends, in their order.
    pub(super) fn add(&mut self, streams: &[Stream], lost: &Arc<Lost>) -> io::Result<Vec<OwnedFd>> {
        if self.stdout.len() >= MOST {
            return Err(io::Error::other(format!("the task has {MOST} attachments already")));
        }
        let pipes = streams.iter().map(|stream| {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            // A page each is what an unprivileged user with many pipes gets: better than none.
            let _ = fcntl_setpipe_size(&writer, PIPE);
            fcntl_setfl(&writer, fcntl_getfl(&writer)? | OFlags::NONBLOCK)?;
            Ok((*stream, reader, writer))
        });
        let mut ends = Vec::new();
        for (stream, reader, writer) in pipes.collect::<io::Result<Vec<_>>>()? {
            self.of(stream).push(Reader { lost: Arc::clone(lost), pipe: writer.into() });
            ends.push(reader);
        }
        Ok(ends)
    }

    /// The reader with these losses is gone.
    pub(super) fn remove(&mut self, lost: &Arc<Lost>) {
        for readers in [&mut self.stdout, &mut self.stderr] {
            readers.retain(|reader| !Arc::ptr_eq(&reader.lost, lost));
        }
    }

    /// Gives `data` to all readers of a stream.
    pub(super) fn give(&mut self, stream: Stream, data: &[u8]) {
        let readers = self.of(stream);
        if readers.is_empty() {
            return;
        }
        readers.retain_mut(|reader| reader.give(data));
    }

    fn of(&mut self, stream: Stream) -> &mut Vec<Reader> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

impl Reader {
    /// Whether it still reads.
    fn give(&mut self, data: &[u8]) -> bool {
        let mut rest = data;
        while !rest.is_empty() {
            match self.pipe.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.lost.add(rest.len());
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }
}
