//! The kernel's texts about cgroups, parsed: `/proc/self/mountinfo`, `/proc/self/cgroup`, the release.

use std::fmt;
use std::path::{Path, PathBuf};

/// What a hierarchy is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controller {
    /// Shares and quota of the processor.
    Cpu,
    /// Its use.
    Cpuacct,
    /// Which processors; used only where it is mounted together with another one.
    Cpuset,
    /// Memory.
    Memory,
    /// The number of processes and threads.
    Pids,
    /// Stopping all processes.
    Freezer,
    /// The cgroup2 tree.
    Unified,
}

impl Controller {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "cpu" => Self::Cpu,
            "cpuacct" => Self::Cpuacct,
            "cpuset" => Self::Cpuset,
            "memory" => Self::Memory,
            "pids" => Self::Pids,
            "freezer" => Self::Freezer,
            _ => return None,
        })
    }
}

impl fmt::Display for Controller {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
            Self::Unified => "cgroup2",
        })
    }
}

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// Which cgroup of the hierarchy is visible at the mount point.
    pub root: PathBuf,
    /// Where.
    pub point: PathBuf,
    /// The controllers that matter here; `Unified` alone for cgroup2.
    pub controllers: Vec<Controller>,
}

impl CgroupMount {
    pub(crate) fn has(&self, controller: &Controller) -> bool {
        self.controllers.contains(controller)
    }

    /// Where the cgroup with this path is visible, if it is.
    pub(crate) fn folder_of(&self, cgroup: &Path) -> Option<PathBuf> {
        let below = cgroup.strip_prefix(&self.root).ok()?;
        // No `join` of an empty path: it would end in a slash.
        Some(if below.as_os_str().is_empty() { self.point.clone() } else { self.point.join(below) })
    }
}

/// The writable cgroup mounts in a `mountinfo` that have a controller of use here. Of two at one place, the later.
pub fn mounts(mountinfo: &str) -> Vec<CgroupMount> {
    let mut found: Vec<CgroupMount> = Vec::new();
    for mount in mountinfo.lines().filter_map(mount) {
        found.retain(|earlier| earlier.point != mount.point);
        found.push(mount);
    }
    found
}

fn mount(line: &str) -> Option<CgroupMount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point, options) = (place.next()?, place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (kind, _source, of_filesystem) = (kind.next()?, kind.next()?, kind.next()?);
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");
    if read_only(options) || read_only(of_filesystem) {
        return None;
    }
    let controllers: Vec<Controller> = match kind {
        "cgroup" => of_filesystem.split(',').filter_map(Controller::parse).collect(),
        "cgroup2" => vec![Controller::Unified],
        _ => return None,
    };
    (!controllers.is_empty()).then(|| CgroupMount {
        root: unescape(root),
        point: unescape(point),
        controllers,
    })
}

/// Undoes the octal escapes (`\040`) of `mountinfo`.
pub(crate) fn unescape(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(|digits| {
            let digits = std::str::from_utf8(digits)
                .ok()
                .filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))?;
            u8::from_str_radix(digits, 8).ok()
        });
        plain.push(escaped.unwrap_or(bytes[at]));
        at += if escaped.is_some() { 4 } else { 1 };
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

/// The cgroups that a process is in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OwnCgroups(Vec<(Vec<Controller>, PathBuf)>);

impl OwnCgroups {
    /// The path in the hierarchy of this controller.
    pub fn of(&self, controller: &Controller) -> Option<&Path> {
        self.0
            .iter()
            .find(|(controllers, _)| controllers.contains(controller))
            .map(|(_, path)| path.as_path())
    }
}

/// Reads a `/proc/<pid>/cgroup`.
pub fn own_cgroups(text: &str) -> OwnCgroups {
    OwnCgroups(
        text.lines()
            .filter_map(|line| {
                let mut parts = line.splitn(3, ':');
                let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                let controllers = if id == "0" && controllers.is_empty() {
                    vec![Controller::Unified]
                } else {
                    controllers.split(',').filter_map(Controller::parse).collect()
                };
                Some((controllers, PathBuf::from(path)))
            })
            .collect(),
    )
}

/// Major and minor of a release like `5.14.0-427.el9`.
pub(crate) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mount_points_are_unescaped_and_the_later_mount_at_a_place_wins() {
        let text = "1 2 0:1 / /a\\040b\\134 rw - cgroup cgroup rw,cpu\n1 2 0:1 /x /a\\040b\\134 rw - cgroup cgroup rw,cpu\n";
        let found = mounts(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].point, Path::new("/a b\\"));
        assert_eq!(found[0].root, Path::new("/x"));
    }

    #[test]
    fn a_path_with_colons_is_whole() {
        assert_eq!(own_cgroups("4:cpu:/a:b\n").of(&Controller::Cpu), Some(Path::new("/a:b")));
    }

    #[test]
    fn releases_of_all_kinds_are_read() {
        assert_eq!(kernel_version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(kernel_version("5.10.0-28-amd64"), Some((5, 10)));
        assert_eq!(kernel_version("6.1-rc3"), Some((6, 1)));
        assert_eq!(kernel_version("linux"), None);
        assert_eq!(kernel_version(""), None);
    }

    #[test]
    fn kernel_versions_are_compared_as_numbers() {
        assert!(kernel_version("5.9.1") < Some((5, 14)));
        assert!(kernel_version("5.14.0-427.el9.x86_64") >= Some((5, 14)));
        assert!(kernel_version("6.1") >= Some((5, 14)));
        assert!(kernel_version("nonsense") < Some((5, 14)));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_fail(text in "(?s).{0,200}") {
            let _ = (mounts(&text), own_cgroups(&text), unescape(&text), kernel_version(&text));
        }
    }
}
