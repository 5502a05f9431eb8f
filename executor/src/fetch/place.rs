//! Writing into a sandbox. It belongs to a task's user, so a name in it may be a link to anywhere: every path is resolved
//! beneath the sandbox by the kernel, and every file appears whole or not at all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::{Failure, Owner};

/// A folder beneath which everything stays.
#[derive(Debug)]
pub(super) struct Room {
    folder: OwnedFd,
    path: PathBuf,
    owner: Owner,
}

/// A file or folder that was made, relative to its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    File(PathBuf),
    Folder(PathBuf),
}

impl Room {
    /// The room of a folder that is there; what is made in it is `owner`'s.
    pub(super) fn open(path: &Path, owner: Owner) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(failed("open", path))?;
        Ok(Self { folder, path: path.to_owned(), owner })
    }

    /// The room of a folder in this one, which is made if need be and added to `made`.
    pub(super) fn within(&self, relative: &Path, made: &mut Vec<Made>) -> Result<Self, Failure> {
        Ok(Self { folder: self.folder(relative, made)?, path: self.path.join(relative), owner: self.owner })
    }

    /// Whose files are made.
    pub(super) fn owner(&self) -> Owner {
        self.owner
    }

    /// A path of this room, for messages.
    pub(super) fn shown(&self, relative: &Path) -> PathBuf {
        self.path.join(relative)
    }

    /// Opens the folder `relative`, making what is missing of it, and adds that to `made`.
    pub(super) fn folder(&self, relative: &Path, made: &mut Vec<Made>) -> Result<OwnedFd, Failure> {
        let mut folder =
            self.folder.try_clone().map_err(Failure::io("duplicate the descriptor of", &self.path))?;
        let mut walked = PathBuf::new();
        for part in relative.components() {
            let name = part.as_os_str();
            walked.push(name);
            match rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {
                    made.push(Made::Folder(walked.clone()));
                    self.give(&folder, Path::new(name))
                        .map_err(failed("change the owner of", &self.shown(&walked)))?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("make", &self.shown(&walked))(error)),
            }
            folder =
                self.resolve(&walked, OFlags::DIRECTORY).map_err(failed("open", &self.shown(&walked)))?;
        }
        Ok(folder)
    }

    /// Where `relative` leads, links followed as long as they stay in the room.
    pub(super) fn resolve(&self, relative: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: somebody renamed a folder meanwhile.
        for _ in 0..16 {
            let flags = OFlags::PATH | OFlags::CLOEXEC | flags;
            match rustix::fs::openat2(&self.folder, relative, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Makes the link or folder `name` of `folder` the owner's.
    pub(super) fn give(&self, folder: impl AsFd, name: &Path) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
        rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Removes what was made, the last first. What cannot be removed stays.
    pub(super) fn undo(&self, made: &[Made]) {
        for one in made.iter().rev() {
            let (path, flags) = match one {
                Made::File(path) => (path, AtFlags::empty()),
                Made::Folder(path) => (path, AtFlags::REMOVEDIR),
            };
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            let folder = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            if let Ok(folder) = self.resolve(folder, OFlags::DIRECTORY) {
                let _ = rustix::fs::unlinkat(&folder, name, flags);
            }
        }
    }
}

/// A file under a name of its own until it is whole. Dropped before, it is removed, with the folders made for it.
#[derive(Debug)]
pub(super) struct Staged {
    file: File,
    folder: OwnedFd,
    temporary: OsString,
    name: OsString,
    path: PathBuf,
    owner: Owner,
    /// What to undo, and where.
    undo: Option<(Room, Vec<Made>)>,
}

impl Staged {
    /// An empty file that will be `target`.
    pub(super) fn new(room: &Room, target: &Path) -> Result<Self, Failure> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = room.shown(target);
        let wrong =
            || Failure::Io { verb: "make", path: path.clone(), source: io::ErrorKind::InvalidInput.into() };
        let (parent, name) = target.parent().zip(target.file_name()).ok_or_else(wrong)?;
        let mut made = Vec::new();
        let prepared = room.folder(parent, &mut made).and_then(|folder| {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let temporary = OsString::from(format!(".fetch-{}-{count}", std::process::id()));
            // Of a process that had this number before.
            let _ = rustix::fs::unlinkat(&folder, &temporary, AtFlags::empty());
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = rustix::fs::openat(&folder, &temporary, flags, Mode::from_raw_mode(0o600))
                .map_err(failed("make", &path))?;
            let again = Room::open_again(room)?;
            Ok((folder, temporary, file, again))
        });
        match prepared {
            Ok((folder, temporary, file, again)) => Ok(Self {
                file: file.into(),
                folder,
                temporary,
                name: name.to_owned(),
                path,
                owner: room.owner,
                undo: Some((again, made)),
            }),
            Err(failure) => {
                room.undo(&made);
                Err(failure)
            }
        }
    }

    /// The file to write to.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Another descriptor of the file, with the same position.
    pub(super) fn duplicate(&mut self) -> Result<File, Failure> {
        self.file.try_clone().map_err(Failure::io("duplicate the descriptor of", &self.path))
    }

    /// Another descriptor of the file, both at its beginning.
    pub(super) fn rewound(&mut self) -> Result<File, Failure> {
        self.file.rewind().map_err(Failure::io("rewind", &self.path))?;
        self.duplicate()
    }

    /// Where it will be, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its owner, mode and name.
    pub(super) fn publish(mut self, mode: u32) -> Result<(), Failure> {
        let owned = fchown(&self.file, Some(self.owner.uid), Some(self.owner.gid));
        owned.map_err(Failure::io("change the owner of", &self.path))?;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode))
            .map_err(failed("change the mode of", &self.path))?;
        let renamed = rustix::fs::renameat(&self.folder, &self.temporary, &self.folder, &self.name);
        renamed.map_err(failed("make", &self.path))?;
        self.undo = None;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some((room, made)) = self.undo.take() {
            let _ = rustix::fs::unlinkat(&self.folder, &self.temporary, AtFlags::empty());
            room.undo(&made);
        }
    }
}

impl Room {
    fn open_again(room: &Self) -> Result<Self, Failure> {
        let folder =
            room.folder.try_clone().map_err(Failure::io("duplicate the descriptor of", &room.path))?;
        Ok(Self { folder, path: room.path.clone(), owner: room.owner })
    }
}

/// As [`Failure::io`], of an error number.
pub(super) fn failed(verb: &'static str, path: &Path) -> impl FnOnce(Errno) -> Failure {
    let failure = Failure::io(verb, path);
    move |error| failure(error.into())
}
