//! What is read from files, and read again when they change: certificates, tokens, policy.
//!
//! ```text
//!  every 2 s, SIGHUP -> poll: the files' marks changed? -> read all -> bytes changed? -> load whole -> swapped (watch channel)
//!                                                                                          \-> error: the old stays, and says so
//! ```
//! Of a change in two steps (a certificate, then its key) the first fails, and the second is what is taken.

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::audit::Audit;

/// How often files are looked at.
pub const EVERY: Duration = Duration::from_secs(2);
/// A file as young as this may change again without another time of change (file systems count in clock ticks), so it is
/// read once more.
const YOUNG: Duration = Duration::from_secs(3);
/// Bytes that a file may have.
const MOST: u64 = 4 << 20;

/// What can be loaded from files.
pub trait Reloadable: Sized {
    /// Which files.
    type Files;
    /// Why it cannot be loaded. Never holds a secret: it is logged and shown.
    type Error: std::error::Error + From<ReadError>;
    /// What it is called in logs and metrics: `tls`, `tokens`, `policy`.
    const NAME: &'static str;

    /// The files, in the order in which `load` gets their contents.
    fn paths(files: &Self::Files) -> Vec<PathBuf>;

    /// Makes it of the files' contents. No I/O.
    ///
    /// # Errors
    /// As it likes.
    fn load(files: &Self::Files, contents: &[Content]) -> Result<Self, Self::Error>;
}

/// A file as it was read.
#[derive(Clone)]
pub struct Content {
    /// Where it is.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Its permission bits (07777).
    pub mode: u32,
    /// The user that owns it.
    pub owner: u32,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, bytes, mode, owner } = self;
        f.debug_struct("Content")
            .field("path", path)
            .field("bytes", &bytes.len())
            .field("mode", mode)
            .field("owner", owner)
            .finish()
    }
}

impl Content {
    /// It as text.
    ///
    /// # Errors
    /// [`ReadError::NotText`].
    pub fn text(&self) -> Result<&str, ReadError> {
        std::str::from_utf8(&self.bytes)
            .map_err(|error| ReadError::NotText { path: self.path.clone(), offset: error.valid_up_to() })
    }

    /// The contents of as many files as there are.
    ///
    /// # Errors
    /// There are others.
    pub fn all<const N: usize>(contents: &[Self]) -> Result<&[Self; N], ReadError> {
        contents.try_into().map_err(|_| ReadError::Count { expected: N, found: contents.len() })
    }
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The kernel says no.
    #[error("{verb} {}: {source}", path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is a folder, a pipe, a device.
    #[error("{} is not a regular file", .0.display())]
    NotFile(PathBuf),
    /// It is not what it is taken for.
    #[error("{} has more than {MOST} bytes", .0.display())]
    Large(PathBuf),
    /// Not as many as there should be.
    #[error("{found} files were read, not {expected}")]
    Count {
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// It is binary.
    #[error("{} is not UTF-8 from byte {offset} on", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first wrong byte.
        offset: usize,
    },
}

/// How often something was loaded, and whether what is in use is what the files say. For metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// What: [`Reloadable::NAME`].
    pub name: &'static str,
    /// How often it was loaded, the first time included.
    pub loads: u64,
    /// How often it could not be, and the old stayed.
    pub failures: u64,
    /// Why what the files hold now is not in use; `None` when it is.
    pub last_error: Option<String>,
    /// Since when what is in use is.
    pub loaded_at: Timestamp,
}

/// What a look at the files led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Polled {
    /// Nothing is new.
    Unchanged,
    /// They changed, and what they say is in use.
    Swapped,
    /// They changed, but the old stays.
    Kept {
        /// Why.
        error: String,
    },
}

/// Something that is loaded again when its files change.
pub trait Poll: Send + Sync {
    /// Looks at the files once. A failure is logged, once for one content.
    fn poll(&self) -> Polled;

    /// How that went so far.
    fn reloaded(&self) -> Reloaded;
}

/// Something loaded from files, and its latest value.
#[derive(Debug)]
pub struct Reloading<T: Reloadable> {
    files: T::Files,
    seen: Mutex<Seen>,
    value: watch::Sender<Arc<T>>,
    state: watch::Sender<Reloaded>,
}

/// The files at the last look.
#[derive(Debug)]
struct Seen {
    marks: Option<Vec<Mark>>,
    digest: Option<[u8; 32]>,
}

impl<T: Reloadable> Reloading<T> {
    /// Loads it for the first time.
    ///
    /// # Errors
    /// As of [`Reloadable::load`], or a file cannot be read.
    pub fn load(files: T::Files) -> Result<Self, T::Error> {
        let (contents, marks) = read(&T::paths(&files))?;
        let value = T::load(&files, &contents)?;
        let reloaded =
            Reloaded { name: T::NAME, loads: 1, failures: 0, last_error: None, loaded_at: Timestamp::now() };
        Ok(Self {
            files,
            seen: Mutex::new(Seen { marks: settled(marks), digest: Some(digest(&contents)) }),
            value: watch::Sender::new(Arc::new(value)),
            state: watch::Sender::new(reloaded),
        })
    }

    /// The latest value.
    pub fn current(&self) -> Arc<T> {
        self.value.borrow().clone()
    }

    /// The latest value, and every later one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.value.subscribe()
    }

    fn look(&self) -> Polled {
        let paths = T::paths(&self.files);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.marks.is_some() && seen.marks == marks(&paths) {
            return Polled::Unchanged;
        }
        let (contents, marks) = match read(&paths) {
            Ok(read) => read,
            Err(error) => {
                *seen = Seen { marks: None, digest: None };
                return self.keep(T::Error::from(error));
            }
        };
        let digest = digest(&contents);
        seen.marks = settled(marks);
        if seen.digest == Some(digest) {
            return Polled::Unchanged;
        }
        seen.digest = Some(digest);
        match T::load(&self.files, &contents) {
            Ok(value) => {
                self.value.send_replace(Arc::new(value));
                self.state.send_modify(|state| {
                    state.loads += 1;
                    state.last_error = None;
                    state.loaded_at = Timestamp::now();
                });
                Polled::Swapped
            }
            Err(error) => self.keep(error),
        }
    }

    /// One failure is one: a file that cannot be read is tried at each look, and counted and told when the error is another.
    fn keep(&self, error: T::Error) -> Polled {
        let error = error.to_string();
        let new = self.state.send_if_modified(|state| {
            let new = state.last_error.as_ref() != Some(&error);
            if new {
                state.failures += 1;
                state.last_error = Some(error.clone());
            }
            new
        });
        if new { Polled::Kept { error } } else { Polled::Unchanged }
    }
}

impl<T: Reloadable> Poll for Reloading<T>
where
    T: Send + Sync,
    T::Files: Send + Sync,
{
    fn poll(&self) -> Polled {
        let polled = self.look();
        match &polled {
            Polled::Unchanged => {}
            Polled::Swapped => tracing::info!(what = T::NAME, "loaded again"),
            Polled::Kept { error } => {
                tracing::error!(what = T::NAME, error, "not loaded; the old one stays in use");
            }
        }
        polled
    }

    fn reloaded(&self) -> Reloaded {
        self.state.borrow().clone()
    }
}

/// Looks at the files every two seconds and at each SIGHUP, at which the audit's file is opened again, too. Never ends by itself.
///
/// # Errors
/// SIGHUP cannot be listened to.
pub async fn run(sources: Vec<Arc<dyn Poll>>, audit: Arc<Audit>) -> io::Result<Infallible> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some(()) = hang_up.recv() => {
                tracing::info!("SIGHUP: files are looked at, and the audit is opened again");
                audit.reopen();
            }
        }
        for source in &sources {
            source.poll();
        }
    }
}

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    owner: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Mark {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            owner: metadata.uid(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

fn marks(paths: &[PathBuf]) -> Option<Vec<Mark>> {
    paths.iter().map(|path| std::fs::metadata(path).ok().as_ref().map(Mark::from)).collect()
}

/// The marks, if every file is old enough for them to be trusted.
fn settled(marks: Vec<Mark>) -> Option<Vec<Mark>> {
    let youngest = marks.iter().map(|mark| mark.changed.0).max()?;
    let age = Timestamp::now().as_second().saturating_sub(youngest);
    (age > YOUNG.as_secs().cast_signed()).then_some(marks)
}

fn read(paths: &[PathBuf]) -> Result<(Vec<Content>, Vec<Mark>), ReadError> {
    let files: Vec<_> = paths.iter().map(|path| read_one(path)).collect::<Result<_, _>>()?;
    Ok(files.into_iter().unzip())
}

/// The mark is of the descriptor that is read, not of what the path leads to later. A pipe must not hold us up.
fn read_one(path: &Path) -> Result<(Content, Mark), ReadError> {
    let failed = |verb| move |source| ReadError::Io { verb, path: path.to_owned(), source };
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = File::options().read(true).custom_flags(nonblocking).open(path).map_err(failed("open"))?;
    let metadata = file.metadata().map_err(failed("look at"))?;
    if !metadata.is_file() {
        return Err(ReadError::NotFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let length = file.take(MOST + 1).read_to_end(&mut bytes).map_err(failed("read"))?;
    if length as u64 > MOST {
        return Err(ReadError::Large(path.to_owned()));
    }
    let content =
        Content { path: path.to_owned(), bytes, mode: metadata.mode() & 0o7777, owner: metadata.uid() };
    Ok((content, Mark::from(&metadata)))
}

/// Of contents and permissions: a file that was refused for its mode is taken once that is right.
fn digest(contents: &[Content]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for content in contents {
        hash.update((content.bytes.len() as u64).to_le_bytes());
        hash.update(&content.bytes);
        hash.update(content.mode.to_le_bytes());
        hash.update(content.owner.to_le_bytes());
    }
    hash.finalize().into()
}
