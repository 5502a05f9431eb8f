//! Removing what one record names.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};

use super::{BridgeRecord, Record, SweepError, failed};
use crate::cgroup::detect::BASE_PREFIX;
use crate::cgroup::mounts::unescape;
use crate::cgroup::{CgroupError, freezer, tree};

/// What was removed, and what was not.
#[derive(Debug, Default)]
pub struct Cleared {
    /// The processes that were found, and killed.
    pub killed: usize,
    /// What was there and is not any more.
    pub removed: Vec<Removed>,
    /// What could not be done.
    pub errors: Vec<SweepError>,
    /// What is still to be removed.
    pub left: Record,
}

/// Something that was removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A cgroup with all below it.
    Cgroup(PathBuf),
    /// A mount, lazily.
    Mount(PathBuf),
    /// A place on the bridge of a cluster.
    Network(String),
    /// A socket or another file.
    Socket(PathBuf),
    /// A folder with all that was in it.
    Folder(PathBuf),
}

impl fmt::Display for Removed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cgroup(path) => write!(out, "removed cgroup {}", path.display()),
            Self::Mount(path) => write!(out, "unmounted {}", path.display()),
            Self::Network(cluster) => write!(out, "left the network of cluster {cluster}"),
            Self::Socket(path) => write!(out, "removed {}", path.display()),
            Self::Folder(path) => write!(out, "removed folder {}", path.display()),
        }
    }
}

/// Kills and removes everything that a record names, whatever fails. An executor at its end calls this, too.
///
/// The order is: processes, since they use all the rest; cgroups; mounts, the latest first; network; sockets; folders.
pub fn clear(record: &Record, network: &mut dyn FnMut(&BridgeRecord) -> Result<(), String>) -> Cleared {
    let Record { executor_id, framework_id, pod, .. } = record;
    let left = Record {
        executor_id: executor_id.clone(),
        framework_id: framework_id.clone(),
        pod: pod.clone(),
        ..Record::default()
    };
    let mut cleared = Cleared { left, ..Cleared::default() };
    cleared.cgroups(&record.cgroup_folders);
    for path in record.mounts.iter().rev() {
        let outcome = unmount(path);
        cleared.note(path, outcome, Removed::Mount, |left| &mut left.mounts);
    }
    // In the order of mounting again.
    cleared.left.mounts.reverse();
    if let Some(bridge) = &record.network {
        match network(bridge) {
            Ok(()) => cleared.removed.push(Removed::Network(bridge.cluster.clone())),
            Err(why) => {
                cleared.errors.push(SweepError::Network { cluster: bridge.cluster.clone(), why });
                cleared.left.network = Some(bridge.clone());
            }
        }
    }
    for path in &record.sockets {
        let outcome = remove_file(path);
        cleared.note(path, outcome, Removed::Socket, |left| &mut left.sockets);
    }
    for path in &record.folders {
        let outcome = remove_folder(path);
        cleared.note(path, outcome, Removed::Folder, |left| &mut left.folders);
    }
    for path in &record.shared_folders {
        let outcome = remove_if_empty(path);
        cleared.note(path, outcome, Removed::Folder, |left| &mut left.shared_folders);
    }
    cleared
}

/// What became of one thing.
enum Outcome {
    Removed,
    /// It was not there, or is somebody else's by now.
    Nothing,
    /// It will never be removed.
    Never(SweepError),
    /// It may be removed another time.
    Later(SweepError),
}

impl Cleared {
    fn note(
        &mut self,
        path: &Path,
        outcome: Outcome,
        removed: impl FnOnce(PathBuf) -> Removed,
        left: impl FnOnce(&mut Record) -> &mut Vec<PathBuf>,
    ) {
        match outcome {
            Outcome::Removed => self.removed.push(removed(path.to_owned())),
            Outcome::Nothing => {}
            Outcome::Never(error) => self.errors.push(error),
            Outcome::Later(error) => {
                self.errors.push(error);
                left(&mut self.left).push(path.to_owned());
            }
        }
    }

    /// Kills in all hierarchies before removing in any: a process is in each of them.
    fn cgroups(&mut self, folders: &[PathBuf]) {
        let mut ours = Vec::new();
        for folder in folders {
            match check_cgroup(folder) {
                Ok(true) => ours.push(folder),
                Ok(false) => {}
                Err(outcome) => self.note(folder, outcome, Removed::Cgroup, |left| &mut left.cgroup_folders),
            }
        }
        let mut found = BTreeSet::new();
        for folder in &ours {
            match tree::processes(folder) {
                Ok(processes) => found.extend(processes),
                Err(error) => self.errors.push(error.into()),
            }
        }
        self.killed = found.len();
        // One deadline for all: an unkillable process is in each hierarchy.
        let deadline = Instant::now() + tree::KILL_DEADLINE;
        let left = || deadline.saturating_duration_since(Instant::now());
        let mut killed: Vec<Result<(), CgroupError>> =
            ours.iter().map(|folder| kill_at_once(folder, left())).collect();
        for (folder, killed) in ours.iter().zip(&mut killed) {
            // What `cgroup.kill` has reached is only waited for here.
            let ended = tree::kill_one_by_one(folder, left());
            if ended.is_ok() {
                *killed = Ok(());
            } else if killed.is_ok() {
                *killed = ended;
            }
        }
        for (folder, killed) in ours.into_iter().zip(killed) {
            let outcome = match killed.and_then(|()| remove_cgroup(folder)) {
                Ok(()) => Outcome::Removed,
                Err(error) => Outcome::Later(error.into()),
            };
            self.note(folder, outcome, Removed::Cgroup, |left| &mut left.cgroup_folders);
        }
    }
}

/// Whether this is a base of an executor that is there. The sweeper's own cgroup is none it may end.
fn check_cgroup(folder: &Path) -> Result<bool, Outcome> {
    let never = |why| Err(Outcome::Never(SweepError::Refused { path: folder.to_owned(), why }));
    let named =
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(BASE_PREFIX));
    if !named || !is_plain(folder) {
        return never("it is not named as a cgroup of an executor");
    }
    match fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return never("it is not a cgroup"),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(Outcome::Later(failed("look at", folder)(error))),
    }
    match rustix::fs::statfs(folder) {
        Ok(filesystem) if CGROUP_MAGIC.contains(&i128::from(filesystem.f_type)) => {}
        Ok(_) => return never("it is not a cgroup"),
        Err(error) => return Err(Outcome::Later(failed("look at", folder)(error.into()))),
    }
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    match tree::processes(folder) {
        Ok(processes) if processes.contains(&me) => {
            let path = folder.to_owned();
            Err(Outcome::Later(SweepError::Refused { path, why: "this very process is in it" }))
        }
        _ => Ok(true),
    }
}

/// The file systems of v1 and v2.
const CGROUP_MAGIC: [i128; 2] = [0x0027_e0eb, 0x6367_7270];

/// Kills so that nobody is outrun, where the hierarchy has a way.
fn kill_at_once(folder: &Path, within: Duration) -> Result<(), CgroupError> {
    if folder.join("cgroup.kill").exists() {
        match tree::write(&folder.join("cgroup.kill"), "1") {
            Err(error) if !tree::says_gone(&error) => Err(error),
            _ => Ok(()),
        }
    } else if folder.join("freezer.state").exists() {
        freezer::kill(folder, within)
    } else {
        Ok(())
    }
}

/// Removes it; the kernel may call it busy for a moment after its last process has ended.
fn remove_cgroup(folder: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match tree::remove(folder) {
            Err(CgroupError::Io { source, .. })
                if source.kind() == ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                tree::pause(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

fn unmount(path: &Path) -> Outcome {
    if !is_plain(path) {
        return Outcome::Never(SweepError::Refused {
            path: path.to_owned(),
            why: "it is not a plain absolute path",
        });
    }
    match nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Outcome::Removed,
        // Not there, or nothing is mounted on it.
        Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOTDIR) => Outcome::Nothing,
        Err(errno) => Outcome::Later(failed("unmount", path)(errno.into())),
    }
}

fn remove_file(path: &Path) -> Outcome {
    if !is_plain(path) {
        return Outcome::Never(SweepError::Refused {
            path: path.to_owned(),
            why: "it is not a plain absolute path",
        });
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {
            return Outcome::Never(SweepError::Refused { path: path.to_owned(), why: "it is a folder" });
        }
        // A relaunched pod instance has its socket in the same place.
        Ok(meta) if meta.file_type().is_socket() && is_served(path) => return Outcome::Nothing,
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Outcome::Nothing,
        Err(error) => return Outcome::Later(failed("look at", path)(error)),
    }
    removed(path, fs::remove_file(path))
}

/// Whether somebody listens at this socket.
fn is_served(path: &Path) -> bool {
    use std::os::fd::AsRawFd as _;
    // Through its folder's descriptor: the whole path may be longer than a socket's address holds.
    let (Some(folder), Some(name)) = (path.parent().map(fs::File::open), path.file_name()) else {
        return false;
    };
    let Ok(folder) = folder else { return true };
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    let Ok(address) = UnixAddr::new(&short) else {
        return false;
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let Ok(socket) = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None) else {
        return true;
    };
    // Any other answer than this, so that of a socket of another type, is a living one's.
    nix::sys::socket::connect(socket.as_raw_fd(), &address) != Err(Errno::ECONNREFUSED)
}

fn remove_folder(path: &Path) -> Outcome {
    let refused = |why| SweepError::Refused { path: path.to_owned(), why };
    if !is_plain(path) || path.components().count() < 3 {
        return Outcome::Never(refused("it is not a plain absolute path of two parts or more"));
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => return Outcome::Never(refused("it is not a folder")),
        Err(error) if error.kind() == ErrorKind::NotFound => return Outcome::Nothing,
        Err(error) => return Outcome::Later(failed("look at", path)(error)),
    }
    match is_mounted_below(path) {
        Ok(false) => removed(path, fs::remove_dir_all(path)),
        Ok(true) => Outcome::Later(refused("something is mounted in it")),
        Err(error) => Outcome::Later(failed("look for mounts below", path)(error)),
    }
}

/// Removes a folder in which nothing is: what is in it is others'.
fn remove_if_empty(path: &Path) -> Outcome {
    if !is_plain(path) || path.components().count() < 3 {
        return Outcome::Never(SweepError::Refused {
            path: path.to_owned(),
            why: "it is not a plain absolute path of two parts or more",
        });
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Outcome::Nothing,
        other => removed(path, other),
    }
}

/// Whether something is mounted on or below the folder: what is in there would be somebody else's.
fn is_mounted_below(folder: &Path) -> io::Result<bool> {
    let folder = fs::canonicalize(folder)?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .any(|point| unescape(point).starts_with(&folder)))
}

fn removed(path: &Path, outcome: io::Result<()>) -> Outcome {
    match outcome {
        Ok(()) => Outcome::Removed,
        Err(error) if error.kind() == ErrorKind::NotFound => Outcome::Nothing,
        Err(error) => Outcome::Later(failed("remove", path)(error)),
    }
}

/// Whether the path is absolute and goes nowhere back.
fn is_plain(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}
