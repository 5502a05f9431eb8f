//! Extracting archives. Nothing of an archive is trusted: no entry leaves the folder, by its name or by a link.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::fchown;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tar::{Entry, EntryType};

use super::Failure;
use super::place::{Made, Room, Staged, failed};

/// More entries than any archive of programs has.
const MOST_ENTRIES: usize = 500_000;

/// Extracts a tar archive into the folder `target` of `room`, which is made if need be; on an error, what was made is
/// removed. Owners and special mode bits are not taken over.
pub(super) fn extract(archive: impl Read, room: &Room, target: &Path, max_bytes: u64) -> Result<(), Failure> {
    let mut outer = Vec::new();
    let mut inner = Vec::new();
    let result = room.within(target, &mut outer).and_then(|inside| {
        let mut extraction = Extraction {
            room: &inside,
            made: &mut inner,
            files: BTreeSet::new(),
            folders: BTreeSet::new(),
            links: Vec::new(),
            left: max_bytes,
            max_bytes,
        };
        let result = extraction.all(archive);
        if result.is_err() {
            inside.undo(&inner);
        }
        result
    });
    if result.is_err() {
        room.undo(&outer);
    }
    result
}

/// Unzips a file to `target`.
pub(super) fn unzip(file: &File, room: &Room, target: &Path, max_bytes: u64) -> Result<(), Failure> {
    let mut staged = Staged::new(room, target)?;
    let mut from = flate2::read::MultiGzDecoder::new(file).take(max_bytes.saturating_add(1));
    let path = staged.path().to_owned();
    let copied = io::copy(&mut from, staged.file()).map_err(Failure::io("unzip to", &path))?;
    if copied > max_bytes {
        return Err(Failure::TooLarge(max_bytes));
    }
    staged.publish(0o644)
}

struct Extraction<'a> {
    room: &'a Room,
    made: &'a mut Vec<Made>,
    /// The files of this archive: the only ones that a hard link may lead to.
    files: BTreeSet<PathBuf>,
    /// The folders of this archive: those that were there before keep their modes.
    folders: BTreeSet<PathBuf>,
    links: Vec<PathBuf>,
    /// Bytes that may still come.
    left: u64,
    max_bytes: u64,
}

impl Extraction<'_> {
    fn all(&mut self, archive: impl Read) -> Result<(), Failure> {
        // The headers count too, generously.
        let mut archive =
            tar::Archive::new(archive.take(self.max_bytes.saturating_mul(2).saturating_add(1 << 20)));
        let broken = |error: io::Error| Failure::Archive { entry: String::new(), reason: error.to_string() };
        for (number, entry) in archive.entries().map_err(broken)?.enumerate() {
            if number == MOST_ENTRIES {
                return Err(wrong(Path::new(""), format!("there are more than {MOST_ENTRIES} entries")));
            }
            self.one(entry.map_err(broken)?)?;
        }
        self.links.iter().try_for_each(|link| self.verify_link(link))
    }

    fn one<R: Read>(&mut self, mut entry: Entry<'_, R>) -> Result<(), Failure> {
        let raw = PathBuf::from(String::from_utf8_lossy(&entry.path_bytes()).into_owned());
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let named = entry.path().map_err(|error| wrong(&raw, error.to_string()))?;
        let path = inside(&named).ok_or_else(|| wrong(&raw, "it leaves the folder".to_owned()))?;
        let mode = entry.header().mode().unwrap_or(0o644) & 0o777;
        let Some(name) = path.file_name().map(PathBuf::from) else {
            // The folder itself.
            return if kind == EntryType::Directory {
                Ok(())
            } else {
                Err(wrong(&raw, "it has no name".to_owned()))
            };
        };
        if kind == EntryType::Directory {
            let folder = self.folder(&path)?;
            return if self.folders.contains(&path) {
                self.folder_mode(&folder, &path, mode)
            } else {
                Ok(())
            };
        }
        let folder = self.room.folder(path.parent().unwrap_or(Path::new("")), self.made)?;
        let shown = self.room.shown(&path);
        match rustix::fs::unlinkat(&folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed("replace", &shown)(error)),
        }
        self.files.remove(&path);
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&mut entry, &folder, &name, &path, mode)
            }
            EntryType::Symlink => {
                let to = link_name(&entry, &raw)?;
                if !stays(&path, &to) {
                    return Err(wrong(&raw, format!("it links to {}, out of the folder", to.display())));
                }
                rustix::fs::symlinkat(&to, &folder, &name).map_err(failed("make", &shown))?;
                self.made.push(Made::File(path.clone()));
                self.room.give(&folder, &name).map_err(failed("change the owner of", &shown))?;
                self.links.push(path);
                Ok(())
            }
            EntryType::Link => {
                let to = link_name(&entry, &raw)?;
                let known = inside(&to).filter(|to| self.files.contains(to));
                let to = known.ok_or_else(|| {
                    wrong(&raw, format!("it links to {}, no file of this archive", to.display()))
                })?;
                let (Some(to_parent), Some(to_name)) = (to.parent(), to.file_name()) else {
                    return Ok(());
                };
                let to_folder = self.folder(to_parent)?;
                rustix::fs::linkat(&to_folder, to_name, &folder, &name, AtFlags::empty())
                    .map_err(failed("make", &shown))?;
                self.made.push(Made::File(path.clone()));
                self.files.insert(path);
                Ok(())
            }
            other => {
                Err(wrong(&raw, format!("{other:?} is not extracted: only files, folders and links are")))
            }
        }
    }

    fn folder(&mut self, path: &Path) -> Result<OwnedFd, Failure> {
        let before = self.made.len();
        let folder = self.room.folder(path, self.made);
        self.folders.extend(self.made[before..].iter().filter_map(|made| match made {
            Made::Folder(path) => Some(path.clone()),
            Made::File(_) => None,
        }));
        folder
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        folder: &OwnedFd,
        name: &Path,
        path: &Path,
        mode: u32,
    ) -> Result<(), Failure> {
        let shown = self.room.shown(path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o600));
        let mut file = File::from(file.map_err(failed("make", &shown))?);
        self.made.push(Made::File(path.to_owned()));
        self.files.insert(path.to_owned());
        let copied = io::copy(&mut entry.take(self.left.saturating_add(1)), &mut file);
        let copied = copied.map_err(Failure::io("write", &shown))?;
        self.left = self.left.checked_sub(copied).ok_or(Failure::TooLarge(self.max_bytes))?;
        let owner = self.room.owner();
        fchown(&file, Some(owner.uid), Some(owner.gid))
            .map_err(Failure::io("change the owner of", &shown))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(failed("change the mode of", &shown))?;
        let time = entry
            .header()
            .mtime()
            .ok()
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        // A time that the file system cannot hold is of no importance.
        let _ = time.map(|time| file.set_modified(time));
        Ok(())
    }

    /// A folder's owner can always use it, or nothing below could be extracted or removed by him.
    fn folder_mode(&self, folder: &OwnedFd, path: &Path, mode: u32) -> Result<(), Failure> {
        // The descriptor is for paths only; what it stands for is changed through it.
        let at = rustix::fs::openat(folder, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let at = at.map_err(failed("open", &self.room.shown(path)))?;
        let mode = Mode::from_raw_mode(mode | 0o700);
        rustix::fs::fchmod(at, mode).map_err(failed("change the mode of", &self.room.shown(path)))
    }

    /// One link alone may stay in the folder and lead out of it over another one. The kernel knows.
    fn verify_link(&self, link: &Path) -> Result<(), Failure> {
        match self.room.resolve(link, OFlags::empty()) {
            Err(Errno::XDEV) => Err(wrong(link, "it leads out of the folder".to_owned())),
            _ => Ok(()),
        }
    }
}

fn wrong(entry: &Path, reason: String) -> Failure {
    Failure::Archive { entry: entry.to_string_lossy().chars().take(200).collect(), reason }
}

fn link_name<R: Read>(entry: &Entry<'_, R>, raw: &Path) -> Result<PathBuf, Failure> {
    let name = entry.link_name().map_err(|error| wrong(raw, error.to_string()))?;
    match name {
        Some(name) if !name.as_os_str().is_empty() => Ok(name.into_owned()),
        _ => Err(wrong(raw, "it is a link to nothing".to_owned())),
    }
}

/// The shortest form of a path without `..`, below the folder; `None` for one that leaves it.
fn inside(path: &Path) -> Option<PathBuf> {
    let parts = path.components().filter(|part| *part != Component::CurDir);
    parts.map(|part| if let Component::Normal(part) = part { Some(part) } else { None }).collect()
}

/// Whether a link at `path` to `to` stays below the folder, as far as names tell.
fn stays(path: &Path, to: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    to.components().all(|part| match part {
        Component::Normal(_) => {
            depth += 1;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => match depth.checked_sub(1) {
            Some(less) => {
                depth = less;
                true
            }
            None => false,
        },
        Component::RootDir | Component::Prefix(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_inside_unless_it_climbs_or_is_absolute() {
        let inside = |path: &str| inside(Path::new(path)).map(|path| path.display().to_string());
        assert_eq!(inside("./a//b/."), Some("a/b".to_owned()));
        assert_eq!(inside("./"), Some(String::new()));
        assert_eq!((inside("a/../b"), inside("/a"), inside("..")), (None, None, None));
    }

    #[test]
    fn a_link_stays_if_it_climbs_no_higher_than_the_folder() {
        let stays = |path: &str, to: &str| stays(Path::new(path), Path::new(to));
        assert!(stays("bin/sh", "../lib/sh") && stays("a", "b/../c") && stays("a/b/c", "../../x"));
        assert!(
            !stays("a", "../b")
                && !stays("a/b", "../../b")
                && !stays("a", "/etc")
                && !stays("a", "b/../../a/b")
        );
    }
}
