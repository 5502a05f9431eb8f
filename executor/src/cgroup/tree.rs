//! Folders of any cgroup hierarchy: their files, the processes in them, their end.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::{CgroupError, SESSION};

/// For how long SIGKILL is tried before the processes count as unkillable.
pub(crate) const KILL_DEADLINE: Duration = Duration::from_secs(10);

/// As many processes as are signalled, and held open, at a time.
const CHUNK: usize = 256;

/// Whether a folder was made or had been there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// Now: all its values are the kernel's defaults.
    Fresh,
    /// Before.
    Existing,
}

/// Ends every process of the cgroup `root` and of those below it with SIGKILL, each through its pidfd, and returns when
/// none is left. A fork bomb may outrun this: for that, kill by `cgroup.kill` or frozen.
///
/// # Errors
/// [`CgroupError::Unkillable`] after `within`; what the kernel says.
pub(crate) fn kill_one_by_one(root: &Path, within: Duration) -> Result<(), CgroupError> {
    let deadline = Instant::now() + within;
    loop {
        let signalled = signal(root, |_| true)?;
        await_exits(&signalled, deadline);
        let left = processes(root)?.len();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CgroupError::Unkillable { path: root.to_owned(), count: left, after: within });
        }
        pause(Duration::from_millis(1));
    }
}

/// Sends SIGKILL to the processes of `root` and below that are `chosen`, and returns the pidfds of the last of them.
///
/// A pidfd is opened first and the process then looked for again: the id of one that ended in between may be a
/// stranger's by now, and the stranger is not in this cgroup.
pub(crate) fn signal(root: &Path, chosen: impl Fn(i32) -> bool) -> Result<Vec<OwnedFd>, CgroupError> {
    let mut listed = processes(root)?;
    listed.retain(|pid| chosen(*pid));
    let mut last = Vec::new();
    for chunk in listed.chunks(CHUNK) {
        let mut opened = Vec::with_capacity(chunk.len());
        for &pid in chunk {
            if let Some(fd) = open_process(root, pid)? {
                opened.push((pid, fd));
            }
        }
        let still: BTreeSet<i32> = processes(root)?.into_iter().collect();
        opened.retain(|(pid, _)| still.contains(pid));
        for (pid, fd) in &opened {
            match rustix::process::pidfd_send_signal(fd, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    return Err(failed(format!("send SIGKILL to process {pid} of"), root)(error.into()));
                }
            }
        }
        last = opened.into_iter().map(|(_, fd)| fd).collect();
    }
    Ok(last)
}

fn open_process(root: &Path, pid: i32) -> Result<Option<OwnedFd>, CgroupError> {
    let Some(number) = Pid::from_raw(pid) else {
        return Ok(None);
    };
    match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        // It ended; or what is listed is the remains of a process whose first thread is elsewhere.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(failed(format!("open process {pid} of"), root)(error.into())),
    }
}

/// Waits until all these processes have ended, at most until `deadline`.
pub(crate) fn await_exits(processes: &[OwnedFd], deadline: Instant) {
    for process in processes {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(timeout) = Timespec::try_from(left) else {
            return;
        };
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        // A signal only ends this wait early; the caller looks who is left.
        if !matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(1..)) {
            return;
        }
    }
}

/// Waits where the kernel offers nothing to wait for.
#[expect(clippy::disallowed_methods, reason = "the kernel announces neither FROZEN nor an unlocked file")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The processes of `root` and of the cgroups below it, sorted. Those of PID namespaces that are not below the reader's
/// have no id and are left out. A cgroup that is gone has none.
pub(crate) fn processes(root: &Path) -> Result<Vec<i32>, CgroupError> {
    processes_in(folders(root)?)
}

/// As [`processes`], without those of the sessions of `root`.
pub(crate) fn own_processes(root: &Path) -> Result<Vec<i32>, CgroupError> {
    let mut own = folders(root)?;
    own.retain(|folder| {
        let below = folder.strip_prefix(root).unwrap_or(folder);
        !below.to_string_lossy().starts_with(SESSION)
    });
    processes_in(own)
}

fn processes_in(folders: Vec<PathBuf>) -> Result<Vec<i32>, CgroupError> {
    let mut all = BTreeSet::new();
    for folder in folders {
        let path = folder.join("cgroup.procs");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if is_gone(&error) => continue,
            // A threaded cgroup: its processes are listed by the domain above it.
            Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => continue,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        for line in text.lines() {
            let pid: i32 = line.parse().map_err(|_| CgroupError::Content {
                path: path.clone(),
                value: line.to_owned(),
                expected: "a process id",
            })?;
            if pid != 0 {
                all.insert(pid);
            }
        }
    }
    Ok(all.into_iter().collect())
}

/// `root` and the folders below it, parents first; those that vanish meanwhile are left out.
pub(crate) fn folders(root: &Path) -> Result<Vec<PathBuf>, CgroupError> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while next < found.len() {
        let folder = found[next].clone();
        next += 1;
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => continue,
            Err(error) => return Err(failed("list", &folder)(error)),
        };
        for entry in entries {
            match entry {
                Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => found.push(entry.path()),
                Ok(_) => {}
                Err(error) if is_gone(&error) => break,
                Err(error) => return Err(failed("list", &folder)(error)),
            }
        }
    }
    Ok(found)
}

/// Removes the cgroup and those below it, deepest first; one that is gone is no error.
pub(crate) fn remove(root: &Path) -> Result<(), CgroupError> {
    // Nearly always there is none below, and looking for some costs more than trying.
    match fs::remove_dir(root) {
        Ok(()) => return Ok(()),
        Err(error) if is_gone(&error) => return Ok(()),
        Err(_) => {}
    }
    for folder in folders(root)?.iter().rev() {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(failed("remove", folder)(error)),
        }
    }
    Ok(())
}

/// Makes one folder.
pub(crate) fn make(path: &Path) -> Result<Made, CgroupError> {
    match fs::create_dir(path) {
        Ok(()) => Ok(Made::Fresh),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Existing),
        Err(error) => Err(failed("create", path)(error)),
    }
}

/// Writes `value` in one call to a file that must be there.
pub(crate) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).map_err(failed("open", path))?;
    file.write_all(value.as_bytes()).map_err(|error| failed(format!("write {value} to"), path)(error))
}

/// The whole file.
pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(failed("read", path))
}

/// A file that holds one number.
pub(crate) fn number(path: &Path) -> Result<u64, CgroupError> {
    let text = read(path)?;
    text.trim().parse().map_err(|_| CgroupError::Content {
        path: path.to_owned(),
        value: text.trim().to_owned(),
        expected: "a number",
    })
}

/// The value beside `key` in a file of lines `key value`.
pub(crate) fn keyed(path: &Path, key: &str) -> Result<u64, CgroupError> {
    let text = read(path)?;
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(found, _)| *found == key)
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| CgroupError::Content {
            path: path.to_owned(),
            value: text.trim().to_owned(),
            expected: "a number for the key asked for",
        })
}

/// Opens a file for writing, to be handed to a child.
pub(crate) fn open_for_writing(path: &Path) -> Result<OwnedFd, CgroupError> {
    Ok(OpenOptions::new().write(true).open(path).map_err(failed("open", path))?.into())
}

/// Opens a folder.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd, CgroupError> {
    Ok(File::open(path).map_err(failed("open", path))?.into())
}

/// Makes an error of what was done to which file.
pub(crate) fn failed(verb: impl Into<String>, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let (verb, path) = (verb.into(), path.to_owned());
    move |source| CgroupError::Io { verb, path, source }
}

/// Whether this says that the cgroup is gone. (Files of a removed one that are still open answer ENODEV.)
pub(crate) fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ENODEV as i32)
}

/// As [`is_gone`], of a whole error.
pub(crate) fn says_gone(error: &CgroupError) -> bool {
    matches!(error, CgroupError::Io { source, .. } if is_gone(source))
}
