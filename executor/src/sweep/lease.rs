//! The record of one executor and the lock that says that it lives.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Record, SweepError, failed};
use crate::cgroup::detect::folder_name;
use crate::cgroup::tree;
use crate::files;

/// Held by an executor for its life. When it is dropped without [`Lease::release`], a sweep will find the record.
///
/// The lock does not survive an `execve`, and no child inherits it.
#[derive(Debug)]
pub struct Lease {
    folder: PathBuf,
    _lock: File,
}

/// How long to wait for a sweep that has the lock of a folder that was just made.
const PATIENCE: Duration = Duration::from_secs(2);

impl Lease {
    /// Locks `<state>/run/<container id>` and records there what this executor is about to make. Blocks (fsync).
    ///
    /// # Errors
    /// [`SweepError::Held`] when another process lives with this container id, [`SweepError::Io`].
    pub fn take(state: &Path, container_id: &str, record: &Record) -> Result<Self, SweepError> {
        let folder = state.join("run").join(folder_name(container_id));
        let deadline = Instant::now() + PATIENCE;
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(failed("create", &folder))?;
            let path = folder.join(LOCK);
            match open_lock(&path, Create::Yes) {
                Ok(file) if lock(&file, &path)? && files::is_at(&file, &path) => {
                    let lease = Self { folder, _lock: file };
                    lease.update(record)?;
                    return Ok(lease);
                }
                // A sweep has it, or has just removed the folder.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(failed("open", &path)(error)),
            }
            if Instant::now() >= deadline {
                return Err(SweepError::Held { path, after: PATIENCE });
            }
            tree::pause(Duration::from_millis(2));
        }
    }

    /// The folder of this executor, for its sockets; it goes with the lease.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces the record; a reader sees the old one or the new one. Blocks (fsync).
    ///
    /// # Errors
    /// [`SweepError::Io`]; the old record then holds.
    pub fn update(&self, record: &Record) -> Result<(), SweepError> {
        let (path, new) = (self.folder.join(RECORD), self.folder.join(NEW_RECORD));
        let json = serde_json::to_vec_pretty(record)
            .map_err(|source| SweepError::Record { path: path.clone(), source })?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed("create", &new))?;
        file.write_all(&json).and_then(|()| file.sync_all()).map_err(failed("write", &new))?;
        fs::rename(&new, &path).map_err(failed("rename to", &path))
    }

    /// Removes the folder: nothing of this executor is left.
    ///
    /// # Errors
    /// [`SweepError::Io`]
    pub fn release(self) -> Result<(), SweepError> {
        let folder = &self.folder;
        // The lock goes last, so that a folder without one has nothing in it.
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let entry = entry.map_err(failed("list", folder))?;
            let path = entry.path();
            let removed = match entry.file_type() {
                Ok(_) if entry.file_name() == LOCK => Ok(()),
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            removed.map_err(failed("remove", &path))?;
        }
        let path = folder.join(LOCK);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        remove_if_empty(folder)
    }

    /// The record; empty where there is none.
    pub(super) fn read(&self) -> Result<Record, SweepError> {
        let path = self.folder.join(RECORD);
        match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).map_err(|source| SweepError::Record { path, source }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }
}

/// The lease of a dead executor; `None` if it lives, or if there is nothing.
pub(super) fn take_over(folder: &Path) -> Result<Option<Lease>, SweepError> {
    let path = folder.join(LOCK);
    let create = if folder.join(RECORD).exists() { Create::Yes } else { Create::No };
    let file = match open_lock(&path, create) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Being made by somebody, who will make it again, or half removed.
            remove_if_empty(folder)?;
            return Ok(None);
        }
        Err(error) => return Err(failed("open", &path)(error)),
    };
    let free = lock(&file, &path)? && files::is_at(&file, &path);
    Ok(free.then(|| Lease { folder: folder.to_owned(), _lock: file }))
}

const LOCK: &str = "lock";
const RECORD: &str = "record.json";
const NEW_RECORD: &str = "record.json.new";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Create {
    Yes,
    No,
}

fn open_lock(path: &Path, create: Create) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(create == Create::Yes).truncate(false).mode(0o600).open(path)
}

/// Whether the lock could be had.
pub(super) fn lock(file: &File, path: &Path) -> Result<bool, SweepError> {
    files::try_lock(file).map_err(failed("lock", path))
}

fn remove_if_empty(folder: &Path) -> Result<(), SweepError> {
    match fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        Err(error) => Err(failed("remove", folder)(error)),
    }
}
