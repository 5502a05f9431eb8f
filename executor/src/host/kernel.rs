//! What the kernel can do, found out by doing it where nobody sees it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkBridge, LinkVeth};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::Finding;
use super::hierarchies::Hierarchies;
use super::programs::locate;
use crate::cgroup::mounts::kernel_version;
use crate::pod::network::links::Links;

/// A version of Linux: the first two numbers.
type Release = (u32, u32);

/// `clone3` with `CLONE_INTO_CGROUP`.
const CLONE_INTO_CGROUP: Release = (5, 7);
/// What kube-proxy asks for in nftables mode.
const NFTABLES_MODE: Release = (5, 13);

const NAMESPACES: [(&str, CloneFlags); 5] = [
    ("namespace pid", CloneFlags::CLONE_NEWPID),
    ("namespace mount", CloneFlags::CLONE_NEWNS),
    ("namespace network", CloneFlags::CLONE_NEWNET),
    ("namespace uts", CloneFlags::CLONE_NEWUTS),
    ("namespace ipc", CloneFlags::CLONE_NEWIPC),
];

/// Names two links at most 15 characters long, in a namespace that nobody else sees.
const PROBE: [&str; 2] = ["probe0", "probe1"];

pub(super) fn kernel() -> Vec<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = Hierarchies::parse(&mounts);
    let controllers = hierarchies.v2.as_ref().map(|tree| fs::read_to_string(tree.join("cgroup.controllers")));
    let mut findings = vec![judge_release(release.trim())];
    findings.extend(hierarchies.judge(&controllers.and_then(Result::ok).unwrap_or_default()));
    findings.push(cgroup_kill(hierarchies.v2.as_deref()));
    findings.push(clone_into_cgroup(kernel_version(&release), hierarchies.v2.is_some()));
    let namespaces = NAMESPACES.map(|(name, flag)| {
        feature(name, "made", elsewhere(|| Ok(unshare(flag)?)), "no pod instance or container can start")
    });
    findings.extend(namespaces);
    findings.push(feature(
        "pidfd",
        "pidfd_open works",
        pidfd_open(getpid(), PidfdFlags::empty()).map(drop).map_err(Into::into),
        "processes cannot be waited for",
    ));
    findings.push(feature("overlayfs", "mounted", elsewhere(mount_overlay), "containerd's images need it"));
    let link = |name, kind| {
        let lack = "pod instances on a bridge, and CNI, need it";
        feature(name, "made", elsewhere(move || make_link(kind)), lack)
    };
    findings.push(link("bridge", LinkKind::Bridge));
    findings.push(link("veth", LinkKind::Veth));
    findings.push(packet_filter(
        "nftables in the kernel",
        "nft",
        &[NFT_RULES],
        "kube-proxy in nftables mode",
    ));
    findings.push(packet_filter(
        "iptables in the kernel",
        "iptables",
        &IPTABLES_RULE,
        "CNI bridge and portmap",
    ));
    findings
}

const NFT_RULES: &str = "add table ip probe; \
    add chain ip probe nat { type nat hook postrouting priority 100 ; }; \
    add rule ip probe nat ct state new masquerade";
const IPTABLES_RULE: [&str; 10] =
    ["-t", "nat", "-A", "POSTROUTING", "-m", "comment", "--comment", "probe", "-j", "MASQUERADE"];

#[derive(Clone, Copy)]
enum LinkKind {
    Bridge,
    Veth,
}

fn judge_release(release: &str) -> Finding {
    match kernel_version(release) {
        Some(version) if version >= NFTABLES_MODE => Finding::ok("kernel", release),
        Some(_) => {
            Finding::warning("kernel", format!("{release}: kube-proxy's nftables mode wants 5.13"), "")
        }
        None => Finding::warning("kernel", format!("its release {release:?} is not understood"), ""),
    }
}

fn cgroup_kill(tree: Option<&Path>) -> Finding {
    let name = "cgroup.kill";
    let slower = "tasks are ended with the freezer instead, which is slower";
    let Some(tree) = tree else {
        return Finding::warning(name, format!("no cgroup2 tree is mounted: {slower}"), "");
    };
    match has_cgroup_kill(tree) {
        Ok(true) => Finding::ok(name, "there"),
        Ok(false) => Finding::warning(name, format!("not there: {slower}"), "Linux 5.14"),
        Err(error) => Finding::warning(name, format!("create a cgroup in {}: {error}", tree.display()), ""),
    }
}

/// The root of the tree has no such file, so that it takes a cgroup to find out.
fn has_cgroup_kill(tree: &Path) -> io::Result<bool> {
    struct Probe(PathBuf);
    impl Drop for Probe {
        fn drop(&mut self) {
            let _ = fs::remove_dir(&self.0);
        }
    }
    let probe = Probe(tree.join(format!("kube-executor-probe-{}", std::process::id())));
    match fs::create_dir(&probe.0) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    Ok(probe.0.join("cgroup.kill").exists())
}

/// By version: trying it takes a process.
fn clone_into_cgroup(release: Option<Release>, tree: bool) -> Finding {
    let name = "clone3 into cgroup";
    let otherwise = "processes join their cgroups after they were made";
    match release {
        _ if !tree => Finding::ok(name, format!("not used, no cgroup2 tree is mounted: {otherwise}")),
        Some(release) if release >= CLONE_INTO_CGROUP => Finding::ok(name, "since Linux 5.7"),
        _ => Finding::missing(name, "Linux 5.7 has it: tasks are spawned with it", "a newer kernel"),
    }
}

fn mount_overlay() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let folder = std::env::temp_dir();
    mount(Some("probe"), &folder, Some("tmpfs"), MsFlags::empty(), none)?;
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| folder.join(name));
    for folder in [&lower, &upper, &work, &merged] {
        fs::create_dir(folder)?;
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    Ok(mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options.as_str()))?)
}

fn make_link(kind: LinkKind) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let [name, peer] = PROBE;
    let message = match kind {
        LinkKind::Bridge => LinkBridge::new(name).build(),
        LinkKind::Veth => LinkVeth::new(name, peer).build(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async { Links::open()?.add(message).await })
}

fn packet_filter(name: &str, program: &str, arguments: &[&str], needed_by: &str) -> Finding {
    let Some(path) = locate(program) else {
        return Finding::warning(name, format!("not looked at without {program}"), "");
    };
    let tried = elsewhere(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let output = Command::new(&path)
            .args(arguments)
            // The older iptables would leave its lock file.
            .env("XTABLES_LOCKFILE", "/dev/null")
            .stdin(Stdio::null())
            .output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    });
    feature(name, "a rule for masquerading was taken", tried, &format!("{needed_by} need it"))
}

fn feature(name: &str, there: &str, tried: io::Result<()>, lack: &str) -> Finding {
    match tried {
        Ok(()) => Finding::ok(name, there),
        Err(error) => Finding::missing(name, format!("{error}: {lack}"), "a kernel with it, or its module"),
    }
}

/// Runs a probe on a thread that ends after it, and with it every namespace that the probe made.
fn elsewhere(probe: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("probe".to_owned()).spawn_scoped(scope, probe)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn an_old_kernel_is_a_warning_and_without_clone_into_cgroup_no_host() {
        assert_eq!(judge_release("6.1.0").verdict, Verdict::Ok);
        assert_eq!(judge_release("5.10.0-28-amd64").verdict, Verdict::Warning);
        assert_eq!(judge_release("?").verdict, Verdict::Warning);
        assert_eq!(clone_into_cgroup(Some((5, 7)), true).verdict, Verdict::Ok);
        assert_eq!(clone_into_cgroup(Some((5, 6)), true).verdict, Verdict::Missing);
        assert_eq!(clone_into_cgroup(Some((5, 6)), false).verdict, Verdict::Ok);
    }

    #[test]
    fn the_probe_for_cgroup_kill_leaves_no_cgroup() {
        let root = tempfile::tempdir().expect("a temporary folder");
        assert!(!has_cgroup_kill(root.path()).expect("a folder can be made"));
        assert_eq!(fs::read_dir(root.path()).expect("readable").count(), 0);
        assert_eq!(cgroup_kill(Some(&root.path().join("none"))).verdict, Verdict::Warning);
        assert_eq!(cgroup_kill(None).verdict, Verdict::Warning);
    }

    #[test]
    fn a_feature_that_fails_says_why_and_what_that_means() {
        let finding = feature("veth", "made", Err(io::Error::from_raw_os_error(95)), "CNI needs it");
        assert_eq!(finding.verdict, Verdict::Missing);
        assert_eq!(finding.detail, "Operation not supported (os error 95): CNI needs it");
        let panicked = elsewhere(|| panic!("as a test"));
        assert_eq!(panicked.expect_err("it panicked").to_string(), "the probe panicked");
    }
}
