//! What the executor may do, and how the host is set up.

use std::fs;

use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::Uid;

use super::Finding;

/// What containerd gives to containers by default, and what namespaces, mounts and networks take besides. Whoever lacks
/// one of them cannot pass it on.
const CAPABILITIES: [Capability; 17] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_KILL,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETGID,
    Capability::CAP_SETPCAP,
    Capability::CAP_SETUID,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_SYS_PTRACE,
];

/// Open files that etcd, kube-apiserver and containerd are usually given.
const OPEN_FILES: u64 = 65_536;
/// Each kubelet, containerd and container watches files; several nodes on a host share this one limit.
const INOTIFY_INSTANCES: u64 = 512;

/// Root and its capabilities.
pub(super) fn rights() -> Vec<Finding> {
    let root = if Uid::effective().is_root() {
        Finding::ok("root", "uid 0")
    } else {
        let detail = format!("uid {}: the executor makes cgroups and namespaces", Uid::effective());
        Finding::missing("root", detail, "run the Mesos agent as root")
    };
    let held = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    vec![root, capabilities(held), sys_resource(held(Capability::CAP_SYS_RESOURCE))]
}

/// What can be set on a running host.
pub(super) fn settings() -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    vec![
        open_files(getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0))),
        inotify(number("/proc/sys/fs/inotify/max_user_instances")),
        swap(&read("/proc/swaps").unwrap_or_default()),
        ip_forward(number("/proc/sys/net/ipv4/ip_forward")),
        bridge_filter(number("/proc/sys/net/bridge/bridge-nf-call-iptables")),
    ]
}

fn capabilities(held: impl Fn(Capability) -> bool) -> Finding {
    let lacks: Vec<String> =
        CAPABILITIES.iter().filter(|capability| !held(**capability)).map(Capability::to_string).collect();
    if lacks.is_empty() {
        return Finding::ok("capabilities", "all that pods and containers need");
    }
    let detail = format!("{} not there: pods or their containers cannot start", lacks.join(", "));
    Finding::missing("capabilities", detail, "start the Mesos agent with them")
}

fn sys_resource(held: bool) -> Finding {
    if held {
        return Finding::ok("CAP_SYS_RESOURCE", "there");
    }
    Finding::warning(
        "CAP_SYS_RESOURCE",
        "not there: no hard rlimit can be raised and no oom_score_adj lowered; tasks that ask for it fail, and \
         containerd needs restrict_oom_score_adj = true",
        "start the Mesos agent with it",
    )
}

fn open_files((soft, hard): (u64, u64)) -> Finding {
    if hard >= OPEN_FILES {
        return Finding::ok("rlimit nofile", format!("{soft}, at most {hard}"));
    }
    let detail =
        format!("{soft}, at most {hard}: etcd, kube-apiserver and containerd may run out of open files");
    Finding::warning("rlimit nofile", detail, format!("start the Mesos agent with at least {OPEN_FILES}"))
}

fn inotify(instances: Option<u64>) -> Finding {
    let name = "inotify instances";
    let remedy = format!("sysctl -w fs.inotify.max_user_instances={INOTIFY_INSTANCES}");
    match instances {
        Some(instances) if instances >= INOTIFY_INSTANCES => Finding::ok(name, instances.to_string()),
        Some(instances) => {
            let detail =
                format!("{instances}: several nodes on one host may run out (\"too many open files\")");
            Finding::warning(name, detail, remedy)
        }
        None => Finding::warning(name, "fs.inotify.max_user_instances cannot be read", ""),
    }
}

fn swap(swaps: &str) -> Finding {
    // The first line names the columns.
    let areas: Vec<&str> = swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    if areas.is_empty() {
        return Finding::ok("swap", "off");
    }
    let detail =
        format!("{} in use: kubelet wants failSwapOn: false, and limits are less exact", areas.join(", "));
    Finding::warning("swap", detail, "swapoff -a")
}

fn ip_forward(value: Option<u64>) -> Finding {
    if value == Some(1) {
        return Finding::ok("ip_forward", "1");
    }
    Finding::warning(
        "ip_forward",
        "off: pods of nodes with the host's network reach no other host; nodes on a bridge have it on in a network \
         namespace of their own",
        "sysctl -w net.ipv4.ip_forward=1",
    )
}

fn bridge_filter(value: Option<u64>) -> Finding {
    let name = "bridge-nf-call-iptables";
    let detail = "a pod cannot reach itself or its bridge's neighbours through a Service";
    match value {
        Some(1) => Finding::ok(name, "1"),
        Some(_) => Finding::warning(
            name,
            format!("off: {detail}, on nodes with the host's network"),
            "sysctl -w net.bridge.bridge-nf-call-iptables=1",
        ),
        None => {
            Finding::warning(name, format!("br_netfilter is not loaded: {detail}"), "modprobe br_netfilter")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(capabilities(|_| true).verdict, Verdict::Ok);
        let finding = capabilities(|capability| capability != Capability::CAP_NET_ADMIN);
        assert_eq!(finding.verdict, Verdict::Missing);
        assert!(finding.detail.starts_with("CAP_NET_ADMIN not there"), "{}", finding.detail);
    }

    #[test]
    fn no_sys_resource_is_a_warning_with_its_consequence() {
        assert_eq!(sys_resource(true).verdict, Verdict::Ok);
        let finding = sys_resource(false);
        assert_eq!(finding.verdict, Verdict::Warning);
        assert!(finding.detail.contains("restrict_oom_score_adj"));
    }

    #[test]
    fn limits_are_enough_from_a_number_on() {
        assert_eq!(open_files((1024, OPEN_FILES)).verdict, Verdict::Ok);
        assert_eq!(open_files((1024, OPEN_FILES - 1)).verdict, Verdict::Warning);
        assert_eq!(inotify(Some(INOTIFY_INSTANCES)).verdict, Verdict::Ok);
        assert_eq!(inotify(Some(128)).verdict, Verdict::Warning);
        assert_eq!(inotify(None).verdict, Verdict::Warning);
    }

    #[test]
    fn swap_areas_are_named() {
        let header = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        assert_eq!(swap(header).verdict, Verdict::Ok);
        assert_eq!(swap("").verdict, Verdict::Ok);
        let finding = swap(&format!("{header}/dev/vda2 partition 1 0 -2\n/swap file 1 0 -3\n"));
        assert!(finding.detail.starts_with("/dev/vda2, /swap in use"), "{}", finding.detail);
    }

    #[test]
    fn what_routes_packets_of_pods_is_a_warning_only() {
        assert_eq!(ip_forward(Some(1)).verdict, Verdict::Ok);
        assert_eq!(ip_forward(Some(0)).verdict, Verdict::Warning);
        assert_eq!(bridge_filter(Some(1)).verdict, Verdict::Ok);
        assert_eq!(bridge_filter(None).remedy.as_deref(), Some("modprobe br_netfilter"));
    }
}
