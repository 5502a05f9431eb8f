//! Files that others name, lock or remove.

use std::fs::{File, TryLockError, symlink_metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;

/// Why there is no file to read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel said so.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is a folder, a pipe or a device.
    #[error("not a regular file")]
    NotRegular,
}

/// Opens a file for reading. A path may lead to a pipe or a device, on whose opening or reading one would wait for ever:
/// those are refused, at once. Symbolic links are followed.
///
/// # Errors
/// [`OpenError`].
pub fn open_regular(path: &Path) -> Result<File, OpenError> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(OpenError::NotRegular) }
}

/// Locks a file for itself, and tells whether it could: nobody is waited for.
///
/// # Errors
/// The kernel's, other than that somebody else has the lock.
pub fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether an open file is the one at a path. A file that was removed before it was locked is not, and its lock is one
/// that nobody else will ever see.
pub fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [&pipe, folder.path(), Path::new("/dev/zero")] {
            assert!(matches!(open_regular(path), Err(OpenError::NotRegular)), "{}", path.display());
        }
        let path = folder.path().join("file");
        assert!(
            matches!(open_regular(&path), Err(OpenError::Io(error)) if error.kind() == io::ErrorKind::NotFound)
        );
        std::fs::write(&path, "").unwrap();
        open_regular(&path).unwrap();
    }

    #[test]
    fn a_lock_is_had_once_and_a_file_is_at_its_path_until_another_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = File::create(&path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        assert!(is_at(&first, &path) && is_at(&second, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&first, &path));
        let third = File::create(&path).unwrap();
        assert!(!is_at(&first, &path) && is_at(&third, &path));
    }
}
