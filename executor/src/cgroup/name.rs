//! Names of cgroup folders.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::text::hex;

/// The name of an executor's base folder. Every cgroup folder that a sweep may touch is named so.
pub fn base_name(container_id: &str) -> String {
    format!("{BASE_PREFIX}{}", folder_name(container_id))
}

/// How the names of base folders begin.
pub const BASE_PREFIX: &str = "kube-executor-";

/// The folder name of an id: see [`super::CgroupName::task`]. Different ids have different names.
///
/// Escaped as well, in their first byte, are names that a hierarchy has given to files of its own (`tasks`,
/// `memory.stat`): no folder can be made there.
pub fn folder_name(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    let reserved = is_reserved(id);
    for (at, letter) in id.char_indices() {
        if letter == '/' || letter == '%' || letter.is_control() || (at == 0 && reserved) {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                let _ = write!(name, "%{byte:02X}");
            }
        } else {
            name.push(letter);
        }
    }
    if name.is_empty() {
        // No escape looks like this.
        return "%".to_owned();
    }
    if name.len() <= LONGEST {
        return name;
    }
    // Nor like this, so a cut name is never another id's.
    let ending = format!("%-{}", hex(&Sha256::digest(id.as_bytes())[..16]));
    let mut cut = LONGEST - ending.len();
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    name.truncate(cut);
    name + &ending
}

/// The most bytes of a folder name.
const LONGEST: usize = 200;

fn is_reserved(id: &str) -> bool {
    const FILES: [&str; 6] = ["tasks", "notify_on_release", "release_agent", "mesos", ".", ".."];
    const OWNERS: [&str; 18] = [
        "blkio", "cgroup", "cpu", "cpuacct", "cpuset", "debug", "devices", "dmem", "freezer", "hugetlb",
        "io", "irq", "memory", "misc", "net_cls", "net_prio", "pids", "rdma",
    ];
    FILES.contains(&id)
        || id.split_once('.').is_some_and(|(owner, _)| OWNERS.contains(&owner) || owner == "perf_event")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_a_hierarchy_or_mesos_uses_are_escaped() {
        assert_eq!(folder_name("etcd-0-peer__5f3c.1"), "etcd-0-peer__5f3c.1");
        assert_eq!(folder_name("mesos"), "%6Desos");
        assert_eq!(folder_name("tasks"), "%74asks");
        assert_eq!(folder_name("memory.stat"), "%6Demory.stat");
        assert_eq!(folder_name("."), "%2E");
        assert_eq!(folder_name(".."), "%2E.");
        assert_eq!(folder_name("a/b%\n"), "a%2Fb%25%0A");
        assert_eq!(folder_name(""), "%");
        assert_eq!(base_name("8a2c"), "kube-executor-8a2c");
    }

    proptest! {
        #[test]
        fn every_id_has_a_name_that_a_folder_can_have(id in "(?s).{0,300}") {
            let name = folder_name(&id);
            prop_assert!(!name.is_empty() && name.len() <= LONGEST);
            prop_assert!(!name.contains(['/', '\0', '\n']) && !is_reserved(&name));
        }

        #[test]
        fn different_ids_have_different_names(one in "[%/a.m]{0,4}|a{195,205}", other in "[%/a.m]{0,4}|a{195,205}") {
            prop_assert_eq!(one == other, folder_name(&one) == folder_name(&other));
        }
    }
}
