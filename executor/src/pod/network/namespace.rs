//! Network namespaces with names, as `ip netns` makes them.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use super::error::{At, NetworkError};

/// The namespace that `path` names, if it names one.
pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>, NetworkError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file.at(|| format!("open the network namespace {}", path.display()))?,
    };
    let kind = fstatfs(&file).at(|| format!("read the file system of {}", path.display()))?.filesystem_type();
    Ok((kind == NSFS_MAGIC).then(|| file.into()))
}

/// Moves the calling thread for good.
pub(super) fn enter(namespace: &OwnedFd, name: &str) -> Result<(), NetworkError> {
    setns(namespace, CloneFlags::CLONE_NEWNET).at(|| format!("enter the network namespace {name}"))
}

/// Makes a network namespace with a name; the calling thread is in it afterwards.
pub(super) fn make(path: &Path) -> Result<OwnedFd, NetworkError> {
    if let Some(folder) = path.parent() {
        share(folder)?;
    }
    File::create(path).at(|| format!("create {}", path.display()))?;
    let made =
        unshare(CloneFlags::CLONE_NEWNET).at(|| "make a network namespace".to_owned()).and_then(|()| {
            mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .at(|| format!("mount a network namespace on {}", path.display()))
        });
    if let Err(error) = made {
        let _ = fs::remove_file(path);
        return Err(error);
    }
    open(path)?.ok_or_else(|| NetworkError::Step {
        step: format!("open the network namespace {}", path.display()),
        source: ErrorKind::NotFound.into(),
    })
}

/// Makes the folder of names a shared mount, so that a removed name is gone in every mount namespace. `ip netns`
/// does the same with the same folder.
fn share(folder: &Path) -> Result<(), NetworkError> {
    let none = None::<&str>;
    fs::create_dir_all(folder).at(|| format!("create {}", folder.display()))?;
    let make_shared = || mount(none, folder, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none);
    match make_shared() {
        Err(Errno::EINVAL) => {
            mount(Some(folder), folder, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
                .at(|| format!("mount {} on itself", folder.display()))?;
            make_shared().at(|| format!("make {} a shared mount", folder.display()))
        }
        shared => shared.at(|| format!("make {} a shared mount", folder.display())),
    }
}
