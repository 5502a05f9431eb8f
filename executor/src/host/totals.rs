//! The effective configuration and the host's totals, for `--describe`.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::aligned;
use super::hierarchies::Hierarchies;

/// The configuration as handed in (secrets left out by whoever does), and what the host has in all: processors, memory,
/// swap, kernel, cgroups, and the disk that `folder` is or would be on.
pub fn describe(configuration: &[(String, String)], folder: &Path) -> String {
    render(configuration, &Totals::probe(folder))
}

/// The totals of a host, in bytes; `None` is what cannot be found out.
#[derive(Debug, Clone, Default)]
struct Totals {
    kernel: Option<String>,
    processors: Option<usize>,
    memory: Option<Amount>,
    swap: Option<Amount>,
    cgroups: String,
    /// The folder that was looked at, and its file system.
    disk: (PathBuf, Option<Amount>),
}

#[derive(Debug, Clone, Copy)]
struct Amount {
    total: u64,
    available: u64,
}

impl Totals {
    fn probe(folder: &Path) -> Self {
        let wanted = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(wanted).ok();
        let system = system.as_ref();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Self {
            kernel: System::kernel_version().ok(),
            processors: system.map(|system| system.cpus().len()),
            memory: system
                .map(|system| Amount { total: system.total_memory(), available: system.available_memory() }),
            swap: system.map(|system| Amount { total: system.total_swap(), available: system.free_swap() }),
            cgroups: Hierarchies::parse(&mounts).to_string(),
            disk: (folder.to_owned(), disk(folder)),
        }
    }
}

/// The file system of a folder, or of the nearest one above it that is there: its own totals, whatever its kind is.
fn disk(folder: &Path) -> Option<Amount> {
    let there = folder.ancestors().find(|folder| folder.is_dir())?;
    let found = statvfs(there).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.fragment_size());
    Some(Amount { total: bytes(found.blocks()), available: bytes(found.blocks_available()) })
}

fn render(configuration: &[(String, String)], totals: &Totals) -> String {
    let unknown = || "unknown".to_owned();
    let amount = |amount: Option<Amount>| amount.map_or_else(unknown, describe_amount);
    let host = [
        ("kernel", totals.kernel.clone().unwrap_or_else(unknown)),
        ("cgroups", totals.cgroups.clone()),
        ("processors", totals.processors.map_or_else(unknown, |count| count.to_string())),
        ("memory", amount(totals.memory)),
        ("swap", amount(totals.swap)),
        ("disk", format!("{}, at {}", amount(totals.disk.1), totals.disk.0.display())),
    ];
    let host = host.map(|(name, value)| (name.to_owned(), value));
    format!("configuration\n{}\nhost\n{}", section(configuration), section(&host))
}

fn section(pairs: &[(String, String)]) -> String {
    aligned(pairs.iter().map(|(name, value)| [format!("  {name}"), value.clone()]))
}

fn describe_amount(amount: Amount) -> String {
    match amount.total {
        0 => "none".to_owned(),
        total => format!("{}, {} available", bytes(total), bytes(amount.available)),
    }
}

/// Bytes in the largest unit of which there is one, with one decimal, rounded down.
fn bytes(count: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| count >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(count) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configuration_and_totals_are_two_aligned_lists() {
        let configuration =
            [("state".to_owned(), "/var/lib/kx".to_owned()), ("log level".to_owned(), "info".to_owned())];
        let totals = Totals {
            kernel: Some("6.18.44".to_owned()),
            processors: Some(2),
            memory: Some(Amount { total: 16 << 30, available: 1_610_612_736 }),
            swap: Some(Amount { total: 0, available: 0 }),
            cgroups: "v2 at /sys/fs/cgroup".to_owned(),
            disk: (PathBuf::from("/var/lib/kx"), None),
        };
        let expected = "\
configuration
  state      /var/lib/kx
  log level  info

host
  kernel      6.18.44
  cgroups     v2 at /sys/fs/cgroup
  processors  2
  memory      16.0 GiB, 1.5 GiB available
  swap        none
  disk        unknown, at /var/lib/kx
";
        assert_eq!(render(&configuration, &totals), expected);
    }

    #[test]
    fn this_host_has_totals() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let totals = Totals::probe(&folder.path().join("not/there/yet"));
        assert!(totals.processors.is_some_and(|count| count > 0));
        assert!(totals.memory.is_some_and(|memory| memory.total > memory.available && memory.available > 0));
        assert!(totals.disk.1.is_some_and(|disk| disk.total > 0));
        assert!(totals.kernel.is_some_and(|kernel| !kernel.is_empty()));
        assert_ne!(totals.cgroups, "none");
    }

    #[test]
    fn bytes_have_the_largest_unit_that_fits() {
        let texts = [0, 1023, 1024, 1536, (1 << 30) - 1, 1 << 40, u64::MAX].map(bytes);
        let expected = ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1023.9 MiB", "1.0 TiB", "16777215.9 TiB"];
        assert_eq!(texts, expected);
    }
}
