//! Which control sockets there are: `<control folder>/<framework id>/<agent id>.<container id>.sock`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use inotify::{EventStream, Inotify, WatchMask, Watches};
use task::control::SOCKET_SUFFIX;

use crate::config::ControlFolder;

/// More frameworks than a host has; each takes an inotify watch.
const MOST_FRAMEWORKS: usize = 256;
/// More executors than a host has; each takes a connection.
const MOST_SOCKETS: usize = 4096;
/// Some events with the longest names; what they say is not used, only that there were some.
const EVENTS: usize = 8 * (16 + 256);

/// What may change which sockets there are, or whether they can be reached.
fn changes() -> WatchMask {
    WatchMask::CREATE
        | WatchMask::DELETE
        | WatchMask::MOVE
        | WatchMask::ATTRIB
        | WatchMask::DELETE_SELF
        | WatchMask::MOVE_SELF
        | WatchMask::ONLYDIR
}

/// What a look into the folder found.
#[derive(Debug)]
pub struct Sight {
    /// The sockets. None of a framework's folder that cannot be read.
    pub sockets: BTreeSet<PathBuf>,
    /// Why the control folder itself cannot be read.
    pub error: Option<String>,
}

/// Says that something may have changed.
pub type Changes = EventStream<Vec<u8>>;

/// Watches the folder and its frameworks' folders.
#[derive(Debug)]
pub struct Watched {
    folder: ControlFolder,
    watches: Watches,
}

impl Watched {
    /// Nothing is watched before the first look.
    ///
    /// # Errors
    /// inotify cannot be had.
    pub fn new(folder: ControlFolder) -> io::Result<(Self, Changes)> {
        let inotify = Inotify::init()?;
        let watches = inotify.watches();
        Ok((Self { folder, watches }, inotify.into_event_stream(vec![0; EVENTS])?))
    }

    /// Looks which sockets there are. What comes after is told by [`Changes`], of folders that are new since included: each is
    /// watched first and read then.
    pub fn look(&mut self) -> Sight {
        let mut sockets = BTreeSet::new();
        let root = self.folder.path.clone();
        let frameworks = match self.frameworks(&root) {
            Ok(frameworks) => frameworks,
            Err(source) => {
                return Sight { sockets, error: Some(format!("read {}: {source}", root.display())) };
            }
        };
        for framework in frameworks.into_iter().take(MOST_FRAMEWORKS) {
            match self.names(&framework) {
                Ok(names) => sockets.extend(
                    names.iter().filter(|name| is_socket_name(name)).map(|name| framework.join(name)),
                ),
                // Not a folder, gone again, or not yet ours; its parent's events say when that changes.
                Err(error) => tracing::debug!(folder = %framework.display(), %error, "not read"),
            }
        }
        while sockets.len() > MOST_SOCKETS {
            sockets.pop_last();
        }
        Sight { sockets, error: None }
    }

    fn frameworks(&mut self, root: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.names(root)?;
        let wanted = self.folder.framework.as_deref().map(OsStr::new);
        let names = names.into_iter().filter(|name| wanted.is_none_or(|wanted| name == wanted));
        Ok(names.map(|name| root.join(name)).collect())
    }

    fn names(&mut self, folder: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        // Again for one that is watched already: the same name may be another folder now.
        self.watches.add(folder, changes())?;
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.file_name())).collect()
    }
}

/// `<agent id>.<container id>.sock`
fn is_socket_name(name: &OsStr) -> bool {
    name.to_str()
        .and_then(|name| name.strip_suffix(SOCKET_SUFFIX))
        .and_then(|name| name.split_once('.'))
        .is_some_and(|(agent, container)| !agent.is_empty() && !container.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sockets(watched: &mut Watched) -> Vec<String> {
        watched
            .look()
            .sockets
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn sockets_are_known_by_their_names() {
        assert!(is_socket_name(OsStr::new(&task::control::socket_name("agent-S0", "c1"))));
        for other in ["c1.sock", ".sock", "a..sock", "a.c1", ".c1.sock", "a.c1.sock~"] {
            assert!(!is_socket_name(OsStr::new(other)), "{other}");
        }
    }

    #[tokio::test]
    async fn all_frameworks_are_seen_or_the_one_that_is_wanted() {
        let folder = tempfile::tempdir().unwrap();
        for (framework, name) in [("f1", "a.c1.sock"), ("f2", "a.c2.sock"), ("f2", "else")] {
            fs::create_dir_all(folder.path().join(framework)).unwrap();
            fs::write(folder.path().join(framework).join(name), "").unwrap();
        }
        fs::write(folder.path().join("a.c0.sock"), "").unwrap();
        let watched = |framework: Option<&str>| {
            let folder =
                ControlFolder { path: folder.path().to_owned(), framework: framework.map(str::to_owned) };
            Watched::new(folder).unwrap().0
        };
        assert_eq!(sockets(&mut watched(None)), ["a.c1.sock", "a.c2.sock"]);
        assert_eq!(sockets(&mut watched(Some("f2"))), ["a.c2.sock"]);
        assert!(sockets(&mut watched(Some("f3"))).is_empty());
    }

    #[tokio::test]
    async fn a_missing_folder_is_told_with_its_path() {
        let folder = ControlFolder { path: "/nonexistent/control".into(), framework: None };
        let sight = Watched::new(folder).unwrap().0.look();
        assert!(sight.error.unwrap().contains("/nonexistent/control"));
    }
}
