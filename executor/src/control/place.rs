//! Where the control socket is: its folders, their owners and modes, its name, its end.
//!
//! ```text
//!  <control folder>              root 0755
//!    <framework id>/             root:<group of the exec user> 0750; root 0700 if there is no such user
//!      <agent>.<container>.sock  0660, the same group
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, User};
use sha2::{Digest as _, Sha256};
use task::control::{SOCKET_SUFFIX, socket_name};
use tokio::net::UnixListener;

use crate::cgroup::detect::folder_name;
use crate::text::hex;

/// The longest name of a socket: with `/proc/self/fd/<number>/` in front it must fit into a socket's address, 108 bytes.
const LONGEST: usize = 85;

/// The ending of a socket's name while it is being made; no longer than that of one that is made.
const NEW_SUFFIX: &str = ".new";

/// How often a folder is made anew that another executor of the framework removes at its end.
const ATTEMPTS: usize = 16;

/// Who besides this executor's own user may use the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecUser {
    /// The user's number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
}

impl ExecUser {
    /// Looks it up; `None` if there is no such user.
    ///
    /// # Errors
    /// What the host says.
    pub fn look_up(name: &str) -> io::Result<Option<Self>> {
        let user = User::from_name(name)?;
        Ok(user.map(|user| Self { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    }
}

/// Where this executor's socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketPlace {
    control: PathBuf,
    folder: PathBuf,
    name: String,
}

impl SocketPlace {
    /// The place of the executor in this container.
    pub fn new(control: &Path, framework_id: &str, agent_id: &str, container_id: &str) -> Self {
        Self {
            control: control.to_owned(),
            folder: control.join(folder_name(framework_id)),
            name: short_name(agent_id, container_id),
        }
    }

    /// The socket.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// What there may be for a moment before it has its name.
    pub fn new_path(&self) -> PathBuf {
        self.folder.join(self.new_name())
    }

    fn new_name(&self) -> String {
        format!("{}{NEW_SUFFIX}", self.name.trim_end_matches(SOCKET_SUFFIX))
    }

    /// The framework's folder, which all its executors on this host share.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folders and listens. A socket that a dead executor left there is replaced.
    ///
    /// # Errors
    /// The step that failed.
    pub fn listen(&self, user: Option<ExecUser>) -> Result<UnixListener, PlaceError> {
        let mut attempts = 0..ATTEMPTS;
        loop {
            match self.try_listen(user) {
                Err(PlaceError { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && attempts.next().is_some() => {}
                other => return other,
            }
        }
    }

    fn try_listen(&self, user: Option<ExecUser>) -> Result<UnixListener, PlaceError> {
        let folder = self.make_folders(user)?;
        let through = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        let (new, path) = (through.join(self.new_name()), self.path());
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace", &path)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&new).map_err(failed("listen at", &path))?;
        if let Some(user) = user {
            std::os::unix::fs::lchown(&new, None, Some(user.gid))
                .map_err(failed("change the group of", &path))?;
        }
        fs::set_permissions(&new, Permissions::from_mode(0o660)).map_err(failed("set the mode of", &path))?;
        // Only now: who sees it appear can connect.
        fs::rename(&new, through.join(&self.name)).map_err(failed("rename to", &path))?;
        Ok(listener)
    }

    fn make_folders(&self, user: Option<ExecUser>) -> Result<File, PlaceError> {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&self.control);
        made.map_err(failed("create", &self.control))?;
        // Others pass through it, whatever the umask was when somebody made it.
        let meta = fs::metadata(&self.control).map_err(failed("look at", &self.control))?;
        let mode = meta.mode() & 0o7777;
        if mode & 0o755 != 0o755 && meta.uid() == Uid::effective().as_raw() {
            let open = fs::set_permissions(&self.control, Permissions::from_mode(mode | 0o755));
            open.map_err(failed("set the mode of", &self.control))?;
        }
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create", &self.folder)(error));
            }
            _ => {}
        }
        let folder = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(&self.folder)
            .map_err(failed("open", &self.folder))?;
        let owner = folder.metadata().map_err(failed("look at", &self.folder))?.uid();
        if owner != Uid::effective().as_raw() {
            let error = io::Error::other(format!("it belongs to user {owner}"));
            return Err(failed("use", &self.folder)(error));
        }
        if let Some(user) = user {
            fchown(&folder, None, Some(user.gid)).map_err(failed("change the group of", &self.folder))?;
        }
        let mode = if user.is_some() { 0o750 } else { 0o700 };
        folder
            .set_permissions(Permissions::from_mode(mode))
            .map_err(failed("set the mode of", &self.folder))?;
        Ok(folder)
    }

    /// Removes the socket, and the framework's folder if nothing is left in it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn remove(&self) -> Result<(), PlaceError> {
        let path = self.path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            _ => {}
        }
        match fs::remove_dir(&self.folder) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Err(failed("remove", &self.folder)(error))
            }
            _ => Ok(()),
        }
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {}: {source}", path.display())]
pub struct PlaceError {
    verb: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    let path = path.to_owned();
    move |source| PlaceError { verb, path, source }
}

/// [`socket_name`] with ids as file names hold them; a name that is too long is cut and ended with a hash of both ids.
fn short_name(agent_id: &str, container_id: &str) -> String {
    let name = socket_name(&folder_name(agent_id), &folder_name(container_id));
    if name.len() <= LONGEST {
        return name;
    }
    let hash = Sha256::new().chain_update(agent_id).chain_update([0]).chain_update(container_id).finalize();
    // A name that is not cut has no such ending: `%` is always followed by two digits there.
    let ending = format!("%-{}{SOCKET_SUFFIX}", hex(&hash[..16]));
    let mut cut = LONGEST - ending.len();
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    name[..cut].to_owned() + &ending
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_as_agents_make_them_are_in_the_name_whole() {
        let agent = "a0c1f9f2-5d0f-4a58-bc5b-1c1cf5a63d7d-S12";
        let container = "c6a9ff22-8b0e-4d0b-9a63-6a7f0a1d2b3c";
        assert_eq!(short_name(agent, container), format!("{agent}.{container}.sock"));
        assert_eq!(short_name("a/b", "."), "a%2Fb.%2E.sock");
    }

    proptest! {
        #[test]
        fn every_name_fits_into_an_address_and_no_two_executors_share_one(
            one in ("[a./é]{0,90}", "[a./é]{0,90}"), other in ("[a./é]{0,90}", "[a./é]{0,90}"),
        ) {
            let (first, second) = (short_name(&one.0, &one.1), short_name(&other.0, &other.1));
            prop_assert!(first.len() <= LONGEST && first.ends_with(SOCKET_SUFFIX) && !first.contains('/'));
            // An id with a dot in it may be another's two: agents' ids have none.
            if !(one.0.contains('.') || other.0.contains('.')) {
                prop_assert_eq!(one == other, first == second);
            }
        }
    }

    #[tokio::test]
    async fn folders_and_socket_are_for_their_group_alone_and_go_together() {
        let control = tempfile::tempdir().unwrap();
        let control = control.path().join("run");
        let place = SocketPlace::new(&control, &"f".repeat(300), "agent", &"c".repeat(300));
        let mode = |path: &Path| {
            let meta = fs::symlink_metadata(path).unwrap();
            (meta.mode() & 0o777, meta.gid())
        };
        let listener = place.listen(None).unwrap();
        assert_eq!((mode(&control).0, mode(place.folder()).0), (0o755, 0o700));
        drop(listener);
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root gives files to a group");
        }
        let user = ExecUser { uid: 4242, gid: 4243 };
        let _listener = place.listen(Some(user)).unwrap();
        assert_eq!(mode(place.folder()), (0o750, 4243));
        assert_eq!(mode(&place.path()), (0o660, 4243));
        let other = SocketPlace::new(&control, &"f".repeat(300), "agent", "other");
        let _other = other.listen(Some(user)).unwrap();
        place.remove().unwrap();
        assert!(other.path().exists() && !place.path().exists());
        other.remove().unwrap();
        other.remove().unwrap();
        assert!(!other.folder().exists());
    }
}
