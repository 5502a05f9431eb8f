//! Killing with v1's freezer, for hosts without `cgroup.kill`: nobody can fork while all are frozen.

use std::path::Path;
use std::time::{Duration, Instant};

use super::CgroupError;
use super::tree;

/// For how long one round waits for all to be frozen, and then for all to have ended.
const ROUND: Duration = Duration::from_millis(500);

/// Ends every process of the freezer cgroup `root` and of those below it, and returns when none is left; it is thawed
/// in any case. A cgroup that is gone has none.
///
/// # Errors
/// [`CgroupError::Unkillable`] after `within`; what the kernel says.
pub(crate) fn kill(root: &Path, within: Duration) -> Result<(), CgroupError> {
    let deadline = Instant::now() + within;
    loop {
        if tree::processes(root)?.is_empty() {
            return Ok(());
        }
        let signalled =
            freeze(root, deadline.min(Instant::now() + ROUND)).and_then(|()| tree::signal(root, |_| true));
        // A frozen process does not act on SIGKILL, so all are thawed whatever happened.
        thaw(root)?;
        tree::await_exits(&signalled?, deadline.min(Instant::now() + ROUND));
        let left = tree::processes(root)?.len();
        if left == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(CgroupError::Unkillable { path: root.to_owned(), count: left, after: within });
        }
        tree::pause(Duration::from_millis(1));
    }
}

/// Freezes, and waits until all are, or until `deadline`: some states of a process cannot be frozen, but killed.
fn freeze(root: &Path, deadline: Instant) -> Result<(), CgroupError> {
    let state = root.join("freezer.state");
    match tree::write(&state, "FROZEN") {
        Err(error) if tree::says_gone(&error) => return Ok(()),
        other => other?,
    }
    loop {
        match tree::read(&state) {
            Ok(text) if text.trim() == "FROZEN" => return Ok(()),
            Err(error) if tree::says_gone(&error) => return Ok(()),
            other => other?,
        };
        if Instant::now() >= deadline {
            return Ok(());
        }
        tree::pause(Duration::from_millis(1));
    }
}

/// Thaws the whole tree: a cgroup below may have been frozen by somebody else (a paused container), parents first.
fn thaw(root: &Path) -> Result<(), CgroupError> {
    for folder in tree::folders(root)? {
        match tree::write(&folder.join("freezer.state"), "THAWED") {
            Err(error) if !tree::says_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
