//! Programs that Kubernetes' processes run, and the Debian package of each.

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Finding, Verdict};

struct Program {
    name: &'static str,
    package: &'static str,
    needed_by: &'static str,
    /// What its lack is.
    lack: Verdict,
}

const PROGRAMS: [Program; 10] = [
    Program {
        name: "sh",
        package: "dash",
        needed_by: "tasks whose command is shell text",
        lack: Verdict::Missing,
    },
    Program { name: "mount", package: "mount", needed_by: "kubelet, for volumes", lack: Verdict::Missing },
    Program { name: "umount", package: "mount", needed_by: "kubelet, for volumes", lack: Verdict::Missing },
    Program {
        name: "nft",
        package: "nftables",
        needed_by: "kube-proxy in nftables mode",
        lack: Verdict::Missing,
    },
    Program {
        name: "iptables",
        package: "iptables",
        needed_by: "CNI bridge (ipMasq) and portmap, kubelet, kube-proxy in iptables mode",
        lack: Verdict::Missing,
    },
    Program {
        name: "conntrack",
        package: "conntrack",
        needed_by: "kube-proxy before 1.32; later ones do without",
        lack: Verdict::Warning,
    },
    Program {
        name: "modprobe",
        package: "kmod",
        needed_by: "the kernel and kube-proxy, where features are modules",
        lack: Verdict::Warning,
    },
    Program {
        name: "losetup",
        package: "mount",
        needed_by: "kubelet, for volumes of mode Block",
        lack: Verdict::Warning,
    },
    Program {
        name: "ip",
        package: "iproute2",
        needed_by: "whoever looks into a cluster's network by hand",
        lack: Verdict::Warning,
    },
    Program {
        name: "nsenter",
        package: "util-linux",
        needed_by: "whoever looks into a pod instance by hand",
        lack: Verdict::Warning,
    },
];

/// Where programs of root are, whatever PATH says: tasks get a PATH of their own.
const SYSTEM_FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

const CNI_FOLDERS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];
const CNI_PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];

pub(super) fn programs() -> Vec<Finding> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = folders(&path);
    let programs = PROGRAMS.iter().map(|program| judge(program, find(program.name, &folders)));
    programs.chain([cni(&CNI_FOLDERS.map(PathBuf::from))]).collect()
}

/// Where the program of this name is.
pub(super) fn locate(name: &str) -> Option<PathBuf> {
    find(name, &folders(&env::var_os("PATH").unwrap_or_default()))
}

fn judge(program: &Program, found: Option<PathBuf>) -> Finding {
    match found {
        Some(path) => Finding::ok(program.name, path.display().to_string()),
        None => Finding::lacking(
            program.lack,
            program.name,
            format!("needed by {}", program.needed_by),
            format!("apt-get install {}", program.package),
        ),
    }
}

fn cni(folders: &[PathBuf]) -> Finding {
    let lacking_in = |folder: &PathBuf| {
        let lacks = CNI_PLUGINS.iter().filter(|plugin| !is_program(&folder.join(plugin)));
        lacks.copied().collect::<Vec<_>>()
    };
    match folders.iter().find(|folder| lacking_in(folder).is_empty()) {
        Some(folder) => Finding::ok("CNI plugins", folder.display().to_string()),
        None => Finding::warning(
            "CNI plugins",
            format!(
                "{} are in none of {}: needed by containerd, unless the cluster brings its own",
                CNI_PLUGINS.join(", "),
                CNI_FOLDERS.join(", ")
            ),
            "apt-get install containernetworking-plugins",
        ),
    }
}

fn folders(path: &OsStr) -> Vec<PathBuf> {
    let absolute = env::split_paths(path).filter(|folder| folder.is_absolute());
    absolute.chain(SYSTEM_FOLDERS.map(PathBuf::from)).collect()
}

fn find(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(name)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_program_is_an_executable_file_in_the_first_folder_that_has_it() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let [a, b, c] = ["a", "b", "c"].map(|name| root.path().join(name));
        for (folder, mode) in [(&a, 0o644), (&b, 0o755), (&c, 0o755)] {
            fs::create_dir(folder).expect("a folder");
            fs::write(folder.join("nft"), "").expect("a file");
            fs::set_permissions(folder.join("nft"), fs::Permissions::from_mode(mode)).expect("its owner may");
        }
        fs::create_dir(a.join("ip")).expect("a folder");
        let folders = [a, b.clone(), c];
        assert_eq!(find("nft", &folders), Some(b.join("nft")));
        assert_eq!(find("ip", &folders), None);
    }

    #[test]
    fn system_folders_are_searched_when_path_lacks_them_and_relative_ones_never() {
        let folders = folders(OsStr::new("bin::/opt/bin"));
        assert_eq!(folders[0], Path::new("/opt/bin"));
        assert!(folders.contains(&PathBuf::from("/usr/sbin")));
    }

    #[test]
    fn a_program_that_is_not_there_names_its_package_and_who_needs_it() {
        let nft = &PROGRAMS[3];
        let expected =
            Finding::missing("nft", "needed by kube-proxy in nftables mode", "apt-get install nftables");
        assert_eq!(judge(nft, None), expected);
        assert_eq!(judge(nft, Some(PathBuf::from("/sbin/nft"))), Finding::ok("nft", "/sbin/nft"));
    }

    #[test]
    fn cni_plugins_count_when_one_folder_has_them_all() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folders = [root.path().join("a"), root.path().join("b")];
        for (folder, plugins) in folders.iter().zip([&CNI_PLUGINS[..2], &CNI_PLUGINS[..]]) {
            fs::create_dir(folder).expect("a folder");
            for plugin in plugins {
                fs::write(folder.join(plugin), "").expect("a file");
                fs::set_permissions(folder.join(plugin), fs::Permissions::from_mode(0o755))
                    .expect("its owner may");
            }
        }
        assert_eq!(cni(&folders).detail, folders[1].display().to_string());
        assert_eq!(cni(&folders[..1]).verdict, Verdict::Warning);
    }
}
