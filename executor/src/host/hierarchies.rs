//! Which cgroup hierarchies a host has mounted, and with which controllers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::Finding;

/// Controllers that must be there as v1 hierarchies: kubelet wants all but the last two, runc those.
const V1: [&str; 7] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer"];
const V2: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// What else can be a controller; other mount options are not.
const OPTIONAL: [&str; 8] =
    ["blkio", "hugetlb", "misc", "net_cls", "net_prio", "perf_event", "rdma", "name=systemd"];

/// The cgroup hierarchies of a mount namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hierarchies {
    /// v1: controller to mount point.
    v1: BTreeMap<String, PathBuf>,
    /// Where the cgroup2 tree is mounted.
    pub(super) v2: Option<PathBuf>,
    /// Mount points that cannot be written to.
    read_only: Vec<PathBuf>,
}

impl Hierarchies {
    /// Reads `/proc/self/mounts`.
    pub(super) fn parse(mounts: &str) -> Self {
        let mut hierarchies = Self::default();
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            let (Some(point), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            if !matches!(kind, "cgroup" | "cgroup2") {
                continue;
            }
            let point = PathBuf::from(point);
            if options.split(',').any(|option| option == "ro") {
                hierarchies.read_only.push(point.clone());
            }
            if kind == "cgroup2" {
                hierarchies.v2.get_or_insert(point);
                continue;
            }
            for option in options.split(',').filter(|option| V1.contains(option) || OPTIONAL.contains(option))
            {
                hierarchies.v1.entry(option.to_owned()).or_insert_with(|| point.clone());
            }
        }
        hierarchies
    }

    /// What is there, and whether that is enough. `v2_controllers` is the content of the tree's `cgroup.controllers`.
    pub(super) fn judge(&self, v2_controllers: &str) -> Vec<Finding> {
        if self.v1.is_empty() && self.v2.is_none() {
            let detail = "no hierarchy is mounted: tasks cannot be limited or ended";
            return vec![Finding::missing("cgroups", detail, "mount -t cgroup2 cgroup2 /sys/fs/cgroup")];
        }
        let cgroups = match self.read_only.first() {
            None => Finding::ok("cgroups", self.to_string()),
            Some(point) => Finding::missing(
                "cgroups",
                format!("{} is mounted read-only: no task can have a cgroup", point.display()),
                format!("mount -o remount,rw {}", point.display()),
            ),
        };
        vec![cgroups, self.controllers(v2_controllers)]
    }

    fn controllers(&self, v2_controllers: &str) -> Finding {
        let v2: Vec<&str> = v2_controllers.split_whitespace().collect();
        let there: Vec<&str> = self.v1.keys().map(String::as_str).chain(v2).collect();
        let needed = if self.v1.is_empty() { &V2[..] } else { &V1[..] };
        let lacks: Vec<&str> = needed.iter().copied().filter(|name| !there.contains(name)).collect();
        if lacks.is_empty() {
            return Finding::ok("cgroup controllers", there.join(", "));
        }
        let remedy = if self.v1.is_empty() {
            "enable them in the kernel's command line (cgroup_enable=...)"
        } else {
            "mount them below /sys/fs/cgroup"
        };
        Finding::missing(
            "cgroup controllers",
            format!("{} not there: kubelet and runc need them", lacks.join(", ")),
            remedy,
        )
    }
}

impl fmt::Display for Hierarchies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kubelet = "kubelet wants failCgroupV1: false";
        match (self.v1.is_empty(), &self.v2) {
            (true, None) => out.write_str("none"),
            (true, Some(point)) => write!(out, "v2 at {}", point.display()),
            (false, None) => write!(out, "v1 ({kubelet})"),
            (false, Some(point)) => {
                write!(out, "hybrid: v1, and v2 at {} ({kubelet})", point.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const HYBRID: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset,clone_children 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0
cgroup /sys/fs/cgroup/devices cgroup rw,devices 0 0
cgroup /sys/fs/cgroup/freezer cgroup rw,freezer 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,xattr,name=systemd 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0
";
    const UNIFIED: &str = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nsdelegate,memory_recursiveprot 0 0\n";

    fn verdicts(mounts: &str, v2_controllers: &str) -> Vec<Verdict> {
        Hierarchies::parse(mounts).judge(v2_controllers).iter().map(|finding| finding.verdict).collect()
    }

    #[test]
    fn hybrid_v2_and_v1_hosts_are_told_apart() {
        let hybrid = Hierarchies::parse(HYBRID);
        assert!(hybrid.to_string().starts_with("hybrid: v1, and v2 at /sys/fs/cgroup/unified"));
        assert_eq!(hybrid.v1["cpuacct"], PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(hybrid.v1.len(), 8, "{hybrid:?}");
        assert_eq!(Hierarchies::parse(UNIFIED).to_string(), "v2 at /sys/fs/cgroup");
        assert!(
            Hierarchies::parse(HYBRID.rsplit_once("cgroup2 /").expect("one").0)
                .to_string()
                .starts_with("v1 (")
        );
        assert_eq!(Hierarchies::parse("proc /proc proc rw 0 0\nbroken\n").to_string(), "none");
    }

    #[test]
    fn each_version_needs_controllers_of_its_own() {
        use Verdict::{Missing, Ok};
        assert_eq!(verdicts(HYBRID, ""), [Ok, Ok]);
        assert_eq!(verdicts(UNIFIED, "cpuset cpu io memory hugetlb pids rdma\n"), [Ok, Ok]);
        assert_eq!(verdicts(UNIFIED, "cpu memory pids\n"), [Ok, Missing]);
        assert_eq!(verdicts(&HYBRID.replace("freezer", "other"), ""), [Ok, Missing]);
        assert_eq!(verdicts(&HYBRID.replace("pids cgroup rw", "pids cgroup ro"), ""), [Missing, Ok]);
        assert_eq!(verdicts("", ""), [Missing]);
    }

    #[test]
    fn a_controller_that_moved_to_v2_counts() {
        let moved: String =
            HYBRID.lines().filter(|line| !line.contains("pids")).map(|line| format!("{line}\n")).collect();
        assert_eq!(verdicts(&moved, "pids"), [Verdict::Ok, Verdict::Ok]);
    }
}
