//! The cgroups of all hierarchies, found by name, emptied and removed. v1, hybrid and v2.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where each hierarchy is mounted.
pub fn hierarchies() -> BTreeSet<PathBuf> {
    mounts().into_iter().filter(|mount| mount.kind.starts_with("cgroup")).map(|mount| mount.point).collect()
}

/// One line of `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// The file system's type.
    pub kind: String,
}

/// What is mounted in our mount namespace.
pub fn mounts() -> Vec<Mount> {
    parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn parse_mounts(mountinfo: &str) -> Vec<Mount> {
    let mount = |line: &str| {
        let (front, back) = line.split_once(" - ")?;
        Some(Mount {
            point: PathBuf::from(unescape(front.split(' ').nth(4)?)),
            kind: back.split(' ').next()?.to_owned(),
        })
    };
    mountinfo.lines().filter_map(mount).collect()
}

/// The kernel writes space, tab, line feed and backslash as `\` and three octal digits.
fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                text.push_str(&part[3..]);
            }
            None => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

/// The cgroups in all hierarchies whose own name `wanted` takes; what is below one that was taken is not looked at.
pub fn named(wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open: Vec<PathBuf> = hierarchies().into_iter().collect();
    while let Some(folder) = open.pop() {
        for child in children(&folder) {
            if child.file_name().and_then(|name| name.to_str()).is_some_and(&wanted) {
                found.insert(child);
            } else {
                open.push(child);
            }
        }
    }
    found
}

/// The folders directly below one; a cgroup's are cgroups.
pub fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// A cgroup and all below it, the deepest first.
pub fn tree(cgroup: &Path) -> Vec<PathBuf> {
    let mut all = vec![cgroup.to_owned()];
    let mut next = 0;
    while let Some(folder) = all.get(next) {
        let below = children(folder);
        all.extend(below);
        next += 1;
    }
    all.reverse();
    all
}

/// The processes in a cgroup and all below it. Zombies are in none.
pub fn processes(cgroup: &Path) -> BTreeSet<i32> {
    let read = |folder: &PathBuf| fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let parse = |text: String| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>();
    tree(cgroup).iter().map(read).flat_map(parse).collect()
}

/// Thaws a cgroup and all below it, since what is frozen does not die (v1).
pub fn thaw(cgroup: &Path) {
    for folder in tree(cgroup) {
        let state = folder.join("freezer.state");
        if fs::read_to_string(&state).is_ok_and(|text| text.trim() != "THAWED") {
            drop(fs::write(&state, "THAWED"));
        }
    }
}

/// Removes a cgroup and all below it, as far as they are empty.
pub fn remove(cgroup: &Path) {
    for folder in tree(cgroup) {
        // What could not be removed is found by the next look.
        drop(fs::remove_dir(folder));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let text = "36 35 98:0 / /mnt/a\\040b\\134c rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 0:5 /x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\nnonsense\n";
        let mount = |point: &str, kind: &str| Mount { point: point.into(), kind: kind.to_owned() };
        assert_eq!(parse_mounts(text), [mount("/mnt/a b\\c", "ext3"), mount("/sys/fs/cgroup/cpu", "cgroup")]);
    }
}
