//! The names of a log's files, `stdout`, `stdout.1`, ..., and those of their times, `.stdout.times`, `.stdout.1.times`, ...
//!
//! The folder may belong to the task's user: no name in it is trusted, no link followed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::num::NonZeroU32;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::spec::Owner;

/// What the files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// The log's bytes.
    Bytes,
    /// When they were read.
    Times,
}

/// Files of one kind, the higher their number the older.
#[derive(Debug, Clone)]
pub(super) struct Numbered {
    /// The log file written to.
    log: PathBuf,
    holds: Holds,
    /// How many there may be.
    files: NonZeroU32,
    owner: Owner,
}

impl Numbered {
    pub(super) fn new(log: &Path, holds: Holds, files: NonZeroU32, owner: Owner) -> Self {
        Self { log: log.to_owned(), holds, files, owner }
    }

    /// The file of this number; 0 is the one written to.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        let mut name = self.log.file_name().map(OsStr::to_owned).unwrap_or_default();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        if self.holds == Holds::Times {
            let log = std::mem::replace(&mut name, OsString::from("."));
            name.push(log);
            name.push(".times");
        }
        self.log.with_file_name(name)
    }

    /// The numbers of all files but the one written to, the oldest first.
    pub(super) fn older(&self) -> impl Iterator<Item = u32> + use<> {
        (1..self.files.get()).rev()
    }

    /// Opens the file that is there for appending. Another's, or what is no plain file with one name, is
    /// [`ErrorKind::AlreadyExists`] or one of those that [`is_foreign`] knows.
    pub(super) fn open(&self) -> io::Result<File> {
        self.check(guarded(OpenOptions::new().read(true).append(true)).open(self.path(0))?)
    }

    /// Opens a file for reading, on the same terms.
    pub(super) fn read(&self, number: u32) -> io::Result<File> {
        self.check(guarded(OpenOptions::new().read(true)).open(self.path(number))?)
    }

    /// Makes the file, where nothing is.
    pub(super) fn begin(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().read(true).append(true).create_new(true).mode(0o644).open(self.path(0))?;
        fchown(&file, Some(self.owner.uid), Some(self.owner.gid))?;
        Ok(file)
    }

    /// Renames every file to the next older name; the oldest is removed.
    pub(super) fn shift(&self) -> io::Result<()> {
        let oldest = self.files.get() - 1;
        if oldest == 0 {
            return missing_is_fine(std::fs::remove_file(self.path(0)));
        }
        for number in (0..oldest).rev() {
            match std::fs::rename(self.path(number), self.path(number + 1)) {
                // The times of another file must not stay under a name that is to be that of this one's.
                Err(error) if error.kind() == ErrorKind::NotFound && self.holds == Holds::Times => {
                    missing_is_fine(std::fs::remove_file(self.path(number + 1)))?;
                }
                renamed => missing_is_fine(renamed)?,
            }
        }
        Ok(())
    }

    /// Removes what can be removed.
    pub(super) fn remove_all(&self) {
        for number in 0..self.files.get() {
            let _ = std::fs::remove_file(self.path(number));
        }
    }

    fn check(&self, file: File) -> io::Result<File> {
        let metadata = file.metadata()?;
        let ours = metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == self.owner.uid;
        if ours { Ok(file) } else { Err(ErrorKind::AlreadyExists.into()) }
    }
}

/// Whether the name is taken by something that is no log file: a link, a folder, a pipe without reader.
pub(super) fn is_foreign(error: &io::Error) -> bool {
    let links_and_pipes = [nix::libc::ELOOP, nix::libc::ENXIO];
    matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::IsADirectory)
        || error.raw_os_error().is_some_and(|code| links_and_pipes.contains(&code))
}

/// The same file once more, for reading only, with an offset of its own: also one that has no name any longer.
pub(super) fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn guarded(options: &mut OpenOptions) -> &mut OpenOptions {
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    options.custom_flags(flags.bits())
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
