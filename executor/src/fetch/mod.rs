//! Files that a task needs, fetched before it starts.
//!
//! ```text
//!  with a hash:     file, http, https --hashed while written--> <state>/cache/sha256/<hex> --copied--> sandbox
//!  without a hash:  file, http, https -------------------------------------------------------------> sandbox
//!                                                                an archive is extracted instead of copied
//! ```
//! | module | what it does |
//! |---|---|
//! | [`cache`] | files by their hash, shared by all executors of a host |
//! | `http` | downloads |
//! | `location` | where a redirect leads |
//! | `place` | writes into a sandbox whose names are not trusted |
//! | `archive` | extracts |

mod archive;
pub mod cache;
mod http;
mod location;
mod place;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::files::{self, OpenError};
use crate::spec::{ArchiveKind, Fetch, FetchForm, FetchSource};
use crate::text::chain;
use crate::tls::{self, TlsError};

pub use crate::spec::Owner;
pub use cache::Cache;
use place::{Room, Staged};

/// How things are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The most bytes a file, and what is extracted of it, may have.
    pub max_bytes: u64,
    /// How long a connection with its TLS may take.
    pub connect_timeout: Duration,
    /// How long nothing may come.
    pub stall_timeout: Duration,
    /// Files of CA certificates (PEM); the first that is there counts. Read anew for each download.
    pub authorities: Vec<PathBuf>,
}

impl Default for Options {
    /// 4 GiB, 10 s, 30 s, the host's CA certificates.
    fn default() -> Self {
        Self {
            max_bytes: 4 << 30,
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            authorities: tls::SYSTEM_BUNDLES.map(PathBuf::from).to_vec(),
        }
    }
}

/// What could not be fetched, and why. What had been written for it is removed.
#[derive(Debug, thiserror::Error)]
#[error("fetch {from} to {to}: {source}", to = .to.display())]
pub struct FetchError {
    /// The URL or path it comes from.
    pub from: String,
    /// Where it should have come to.
    pub to: PathBuf,
    /// What went wrong.
    pub source: Failure,
}

/// A failed step.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A file could not be used.
    #[error("{verb} {path}: {source}", path = .path.display())]
    Io {
        /// `open`, `write`, ...
        verb: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A path of the host leads to a folder or a device.
    #[error("read {path}: not a regular file", path = .0.display())]
    NotRegular(PathBuf),
    /// More bytes than allowed.
    #[error("read on: there are more than the {0} bytes that are allowed")]
    TooLarge(u64),
    /// Something else arrived than was promised.
    #[error("check the sha256: it is {found}, not {expected}")]
    Hash {
        /// What was promised.
        expected: String,
        /// What arrived.
        found: String,
    },
    /// A URL that cannot be used.
    #[error("use {url}: {reason}")]
    Url {
        /// Which.
        url: String,
        /// Why.
        reason: String,
    },
    /// There is nobody whom a server may be trusted to be.
    #[error("{}", chain(.0))]
    Authorities(#[from] TlsError),
    /// A connection or its TLS failed.
    #[error("connect to {to}: {source}")]
    Connect {
        /// Host and port.
        to: String,
        /// What failed.
        source: io::Error,
    },
    /// An exchange failed.
    #[error("{verb} {url}: {source}")]
    Http {
        /// `request`, `read`.
        verb: &'static str,
        /// Of what.
        url: String,
        /// What failed.
        source: hyper::Error,
    },
    /// Nothing came for too long.
    #[error("{verb} {of}: nothing for {after:?}")]
    Timeout {
        /// `connect to`, `request`, `read`.
        verb: &'static str,
        /// The URL, or host and port.
        of: String,
        /// For how long.
        after: Duration,
    },
    /// Another status than 200.
    #[error("request {url}: status {status}")]
    Status {
        /// Of what.
        url: String,
        /// Which.
        status: u16,
    },
    /// An archive that is broken, or that would reach out of its folder.
    #[error("extract {entry:?}: {reason}")]
    Archive {
        /// Which entry.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The other half of the work ended first; its failure is the one that is reported.
    #[error("the work was given up")]
    Aborted,
}

impl Failure {
    fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { verb, path, source }
    }
}

/// Fetches everything, in order, into `sandbox`, for `owner`. A file that is there is replaced. Dropped, it stops.
///
/// # Errors
/// The first that cannot be fetched; those before it stay.
pub async fn fetch(fetches: &[Fetch], sandbox: &Path, cache: &Cache, owner: Owner) -> Result<(), FetchError> {
    for fetch in fetches {
        one(fetch, sandbox, cache, owner).await.map_err(|source| FetchError {
            from: match &fetch.source {
                FetchSource::File(path) => path.display().to_string(),
                FetchSource::Http(url) => url.clone(),
            },
            to: sandbox.join(&fetch.target),
            source,
        })?;
    }
    Ok(())
}

async fn one(fetch: &Fetch, sandbox: &Path, cache: &Cache, owner: Owner) -> Result<(), Failure> {
    let (sandbox, form, target) = (sandbox.to_owned(), fetch.form, fetch.target.clone());
    let max_bytes = cache.options().max_bytes;
    match (&fetch.sha256, &fetch.source) {
        (Some(hash), source) => {
            let file = cache.file(hash, source).await?;
            blocking(move || deliver(&file, form, &Room::open(&sandbox, owner)?, &target, max_bytes)).await
        }
        (None, FetchSource::File(path)) => {
            let path = path.clone();
            blocking(move || {
                let file = open_regular(&path)?;
                deliver(&file, form, &Room::open(&sandbox, owner)?, &target, max_bytes)
            })
            .await
        }
        (None, FetchSource::Http(url)) => {
            let (room, mut staged, file) = blocking(move || {
                let room = Room::open(&sandbox, owner)?;
                // An archive is put beside what comes out of it.
                let beside =
                    if target.as_os_str().is_empty() { PathBuf::from("archive") } else { target.clone() };
                let mut staged = Staged::new(&room, &beside)?;
                let file = staged.duplicate()?;
                Ok((room, staged, file))
            })
            .await?;
            let path = staged.path().to_owned();
            http::download(url, cache.options(), file, &path).await?;
            let target = fetch.target.clone();
            blocking(move || match form {
                FetchForm::Plain | FetchForm::Executable => staged.publish(mode(form)),
                FetchForm::Archive(_) => {
                    let file = staged.rewound()?;
                    deliver(&file, form, &room, &target, max_bytes)
                }
            })
            .await
        }
    }
}

/// Copies or extracts a file, from its beginning, into the sandbox.
fn deliver(file: &File, form: FetchForm, room: &Room, target: &Path, max_bytes: u64) -> Result<(), Failure> {
    match form {
        FetchForm::Plain | FetchForm::Executable => {
            let mut staged = Staged::new(room, target)?;
            let path = staged.path().to_owned();
            let mut from = file.take(max_bytes.saturating_add(1));
            let copied = io::copy(&mut from, staged.file()).map_err(Failure::io("copy to", &path))?;
            if copied > max_bytes {
                return Err(Failure::TooLarge(max_bytes));
            }
            staged.publish(mode(form))
        }
        FetchForm::Archive(ArchiveKind::Gzip) => archive::unzip(file, room, target, max_bytes),
        FetchForm::Archive(ArchiveKind::Tar) => archive::extract(file, room, target, max_bytes),
        FetchForm::Archive(ArchiveKind::TarGzip) => {
            archive::extract(flate2::read::MultiGzDecoder::new(file), room, target, max_bytes)
        }
    }
}

fn mode(form: FetchForm) -> u32 {
    if form == FetchForm::Executable { 0o755 } else { 0o644 }
}

/// Opens a file of the host for reading, but no pipe or device, on which one would wait.
fn open_regular(path: &Path) -> Result<File, Failure> {
    files::open_regular(path).map_err(|error| match error {
        OpenError::Io(source) => Failure::io("open", path)(source),
        OpenError::NotRegular => Failure::NotRegular(path.to_owned()),
    })
}

/// How much of this work may be under way at once, waiting or not: half of the program's threads for such work. The
/// others are left to what ends tasks.
static THREADS: Semaphore = Semaphore::const_new(8);

/// File work, off the thread that everything else runs on.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let permit = THREADS.acquire().await.map_err(|_| Failure::Aborted)?;
    let work = move || {
        // Work goes on when it is no longer waited for: it keeps its permit.
        let _permit = permit;
        work()
    };
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Failure::Aborted))
}
