//! Which cgroups this host has, where the executor is in them, and where its tasks' cgroups go.

use std::fs;
use std::path::{Path, PathBuf};

use super::mounts::{CgroupMount, Controller, kernel_version, mounts, own_cgroups};
use super::tree;
use super::v1::{Hierarchy, Killing, V1};
use super::v2::V2;
use super::{CgroupError, Manager};

pub use super::name::{BASE_PREFIX, base_name, folder_name};

/// Whether on pure v2 the base may lie below the executor's own cgroup.
///
/// Under Mesos it must not, unless asked for: a restarted agent takes every folder below its root for a container and
/// fails to recover those it does not know, and its OOM watch reads the hierarchical `memory.events`, so that the OOM of
/// one task would destroy the whole executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Nesting {
    /// Below the own cgroup, all of whose processes move to its leaf `executor` when controllers must be enabled.
    Allowed,
    /// At the root of the cgroup2 tree, beside everybody's.
    #[default]
    Avoid,
}

/// What the kernel says, as text.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// `/proc/self/mountinfo`
    pub mountinfo: &'a str,
    /// `/proc/self/cgroup`
    pub cgroup: &'a str,
    /// `/proc/sys/kernel/osrelease`
    pub release: &'a str,
}

/// The manager of the tasks' cgroups below `<own cgroup>/<base>` (see [`base_name`]). Makes nothing yet.
///
/// # Errors
/// [`CgroupError::Unsupported`] where the host has no cgroups that can be used, and which are missing.
pub fn detect(base: &str, nesting: Nesting) -> Result<Box<dyn Manager>, CgroupError> {
    let read = |path: &str| tree::read(Path::new(path));
    let (mountinfo, cgroup) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
    let release = read("/proc/sys/kernel/osrelease")?;
    detect_in(Host { mountinfo: &mountinfo, cgroup: &cgroup, release: &release }, base, nesting)
}

/// As [`detect`], on a host described by these texts; the mount points they name are looked at.
///
/// # Errors
/// As [`detect`].
pub fn detect_in(host: Host<'_>, base: &str, nesting: Nesting) -> Result<Box<dyn Manager>, CgroupError> {
    Ok(match layout(host, |path| fs::symlink_metadata(path).is_ok())? {
        Layout::V1 { hierarchies, killing } => Box::new(V1::new(base, hierarchies, killing)),
        Layout::V2 { root, own } => Box::new(V2::new(base, &root, &own, nesting)),
    })
}

/// How the cgroups of a host are laid out, as far as tasks need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// v1 controllers, and the cgroup2 tree or the freezer for killing.
    V1 {
        /// The hierarchies, each with the executor's own cgroup in it; each once, however many controllers it has.
        hierarchies: Vec<Hierarchy>,
        /// How processes are killed.
        killing: Killing,
    },
    /// One tree for everything.
    V2 {
        /// Where it is mounted.
        root: PathBuf,
        /// The executor's own cgroup in it.
        own: PathBuf,
    },
}

/// Decides what is used; `exists` tells whether there is such a file.
///
/// # Errors
/// [`CgroupError::Unsupported`]
pub fn layout(host: Host<'_>, exists: impl Fn(&Path) -> bool) -> Result<Layout, CgroupError> {
    let mounts = mounts(host.mountinfo);
    let own = own_cgroups(host.cgroup);
    let usable = |folder: &PathBuf| exists(&folder.join("cgroup.procs"));
    let place = |wanted: &Controller| {
        mounts.iter().filter(|mount| mount.has(wanted)).find_map(|mount| {
            let folder = mount.folder_of(own.of(wanted)?).filter(usable)?;
            Some((mount, folder))
        })
    };

    let mut hierarchies: Vec<Hierarchy> = Vec::new();
    let mut add = |mount: &CgroupMount, folder: PathBuf| {
        if !hierarchies.iter().any(|known| known.own == folder) {
            hierarchies.push(Hierarchy { own: folder, controllers: mount.controllers.clone() });
        }
    };
    for wanted in [Controller::Cpu, Controller::Cpuacct, Controller::Memory, Controller::Pids] {
        if let Some((mount, folder)) = place(&wanted) {
            add(mount, folder);
        }
    }
    let unified = place(&Controller::Unified).map(|(mount, folder)| (mount.point.clone(), folder));
    let unified = unified.filter(|(_, own)| {
        // The root of the tree has neither file.
        exists(&own.join("cgroup.kill"))
            || (!exists(&own.join("cgroup.type")) && Some((5, 14)) <= kernel_version(host.release))
    });
    match (hierarchies.is_empty(), unified) {
        (true, Some((root, own))) => Ok(Layout::V2 { root, own }),
        (true, None) => Err(CgroupError::Unsupported(
            "no cgroups can be used: neither are v1's cpu, cpuacct, memory or pids mounted, visible and writable, nor is \
             a cgroup2 with cgroup.kill (Linux 5.14)"
                .to_owned(),
        )),
        (false, Some((_, own))) => Ok(Layout::V1 { hierarchies, killing: Killing::Unified(own) }),
        (false, None) => {
            let (mount, folder) = place(&Controller::Freezer).ok_or_else(|| {
                CgroupError::Unsupported(
                    "processes cannot be killed by cgroup: neither a cgroup2 with cgroup.kill (Linux 5.14) nor v1's freezer \
                     is mounted, visible and writable"
                        .to_owned(),
                )
            })?;
            if !hierarchies.iter().any(|known| known.own == folder) {
                hierarchies.push(Hierarchy { own: folder.clone(), controllers: mount.controllers.clone() });
            }
            Ok(Layout::V1 { hierarchies, killing: Killing::Freezer(folder) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const HYBRID_OWN: &str = "\
9:name=systemd:/
8:pids:/
6:freezer:/
5:devices:/
4:memory:/session/95eb
3:cpuset:/
2:cpuacct:/
1:cpu:/
0::/
";
    const MESOS_MOUNTS: &str = "\
24 18 0:21 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
26 24 0:23 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
29 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
30 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:16 - cgroup cgroup rw,memory
31 24 0:28 / /sys/fs/cgroup/freezer rw,nosuid shared:17 - cgroup cgroup rw,freezer
33 24 0:30 / /sys/fs/cgroup/pids rw,nosuid shared:19 - cgroup cgroup rw,pids
";
    const MESOS_OWN: &str = "\
11:pids:/
7:freezer:/mesos/8a2c9f0e-1b5a
6:memory:/mesos/8a2c9f0e-1b5a
4:cpu,cpuacct:/mesos/8a2c9f0e-1b5a
1:name=systemd:/mesos_executors.slice
";
    const UNIFIED_MOUNTS: &str =
        "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn decide(mountinfo: &str, cgroup: &str, release: &str, missing: &[&str]) -> Result<Layout, CgroupError> {
        layout(Host { mountinfo, cgroup, release }, |path| !missing.iter().any(|end| path.ends_with(end)))
    }

    fn hierarchy(own: &str, controllers: &[Controller]) -> Hierarchy {
        Hierarchy { own: own.into(), controllers: controllers.to_vec() }
    }

    #[test]
    fn a_hybrid_host_uses_four_controllers_and_kills_in_the_cgroup2_tree() {
        let wanted = Layout::V1 {
            hierarchies: vec![
                hierarchy("/sys/fs/cgroup/cpu", &[Controller::Cpu]),
                hierarchy("/sys/fs/cgroup/cpuacct", &[Controller::Cpuacct]),
                hierarchy("/sys/fs/cgroup/memory/session/95eb", &[Controller::Memory]),
                hierarchy("/sys/fs/cgroup/pids", &[Controller::Pids]),
            ],
            killing: Killing::Unified("/sys/fs/cgroup/unified".into()),
        };
        let at_root = ["cgroup.kill", "cgroup.type"];
        assert_eq!(decide(HYBRID_MOUNTS, HYBRID_OWN, "6.18.44-fc\n", &at_root).unwrap(), wanted);
    }

    #[test]
    fn a_cgroup2_tree_without_cgroup_kill_is_left_alone_and_the_freezer_is_used() {
        let found = decide(HYBRID_MOUNTS, HYBRID_OWN, "5.13.0", &["cgroup.kill", "cgroup.type"]).unwrap();
        let Layout::V1 { hierarchies, killing } = found else { panic!("{found:?}") };
        assert_eq!(killing, Killing::Freezer("/sys/fs/cgroup/freezer".into()));
        assert_eq!(hierarchies.len(), 5);
        assert_eq!(hierarchies[4], hierarchy("/sys/fs/cgroup/freezer", &[Controller::Freezer]));

        let below = HYBRID_OWN.replace("0::/", "0::/unit");
        assert_eq!(
            decide(HYBRID_MOUNTS, &below, "6.1", &["cgroup.kill"]).unwrap(),
            Layout::V1 { hierarchies, killing },
            "below the root, cgroup.kill is looked for"
        );
    }

    #[test]
    fn a_mesos_container_on_v1_nests_below_its_own_cgroups_and_co_mounted_controllers_are_one_hierarchy() {
        let own = "/mesos/8a2c9f0e-1b5a";
        let wanted = Layout::V1 {
            hierarchies: vec![
                hierarchy(
                    &format!("/sys/fs/cgroup/cpu,cpuacct{own}"),
                    &[Controller::Cpu, Controller::Cpuacct],
                ),
                hierarchy(&format!("/sys/fs/cgroup/memory{own}"), &[Controller::Memory]),
                hierarchy("/sys/fs/cgroup/pids", &[Controller::Pids]),
                hierarchy(&format!("/sys/fs/cgroup/freezer{own}"), &[Controller::Freezer]),
            ],
            killing: Killing::Freezer(format!("/sys/fs/cgroup/freezer{own}").into()),
        };
        assert_eq!(decide(MESOS_MOUNTS, MESOS_OWN, "4.18.0", &[]).unwrap(), wanted);
    }

    #[test]
    fn a_cgroup_bind_mounted_into_a_container_is_found_at_its_mount_point() {
        let mounts = MESOS_MOUNTS.replace("0:27 / /sys", "0:27 /mesos/8a2c9f0e-1b5a /sys");
        let found = decide(&mounts, MESOS_OWN, "4.18.0", &[]).unwrap();
        let Layout::V1 { hierarchies, .. } = found else { panic!("{found:?}") };
        assert_eq!(hierarchies[1].own, Path::new("/sys/fs/cgroup/memory"));
    }

    #[test]
    fn pure_v2_is_one_tree() {
        let own = "0::/mesos/8a2c/leaf\n";
        let wanted =
            Layout::V2 { root: "/sys/fs/cgroup".into(), own: "/sys/fs/cgroup/mesos/8a2c/leaf".into() };
        assert_eq!(decide(UNIFIED_MOUNTS, own, "6.1.0", &[]).unwrap(), wanted);
    }

    #[test]
    fn a_v1_hierarchy_without_a_controller_of_use_does_not_make_a_host_v1() {
        let mounts = format!("{UNIFIED_MOUNTS}50 22 0:40 / /net_cls rw - cgroup none rw,net_cls\n");
        let found = decide(&mounts, "3:net_cls:/\n0::/\n", "6.1.0", &[]).unwrap();
        assert!(matches!(found, Layout::V2 { .. }), "{found:?}");
    }

    #[test]
    fn hidden_and_read_only_mounts_are_not_used() {
        let hidden = decide(HYBRID_MOUNTS, HYBRID_OWN, "6.1", &["cgroup.procs"]).unwrap_err().to_string();
        assert!(hidden.starts_with("no cgroups can be used"), "{hidden}");
        let read_only = UNIFIED_MOUNTS.replace("rw,nosuid", "ro,nosuid");
        assert!(decide(&read_only, "0::/\n", "6.1", &[]).is_err());
    }

    #[test]
    fn without_any_way_to_kill_by_cgroup_the_host_is_refused() {
        let mounts = MESOS_MOUNTS.replace("rw,freezer", "rw,name=freezer");
        let error = decide(&mounts, MESOS_OWN, "4.18", &[]).unwrap_err().to_string();
        assert!(error.starts_with("processes cannot be killed by cgroup"), "{error}");
    }
}
