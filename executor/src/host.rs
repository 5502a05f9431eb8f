//! What a host must have, for `kube-executor --check-host`, and what it is, for `--describe`.
//!
//! ```text
//!  programs, kernel, settings (they probe) -> findings -> table (text), verdict (exit code)
//! ```
//!
//! Probes leave nothing behind: what they must make they make in namespaces of a thread that ends at once. Only the
//! probe for `cgroup.kill` makes a cgroup, which it removes.

mod hierarchies;
mod kernel;
mod programs;
mod settings;
mod totals;

pub use totals::describe;

/// What was found out about one thing that a host should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The thing.
    pub name: String,
    /// Whether it is there.
    pub verdict: Verdict,
    /// Where or how it is there, or who needs it and what the lack means.
    pub detail: String,
    /// A Debian package or a command that helps; none when all is well or nothing does.
    pub remedy: Option<String>,
}

/// Whether something is there; the later the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It is.
    Ok,
    /// It is not: something works less well, or some clusters cannot run.
    Warning,
    /// It is not, and no cluster can run.
    Missing,
}

impl Verdict {
    /// The exit code of `--check-host`: 1 when something is missing.
    pub fn exit_code(self) -> u8 {
        u8::from(self == Self::Missing)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

impl Finding {
    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), verdict: Verdict::Ok, detail: detail.into(), remedy: None }
    }

    fn warning(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::lacking(Verdict::Warning, name, detail, remedy)
    }

    fn missing(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::lacking(Verdict::Missing, name, detail, remedy)
    }

    fn lacking(
        verdict: Verdict,
        name: impl Into<String>,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into()).filter(|remedy| !remedy.is_empty());
        Self { name: name.into(), verdict, detail: detail.into(), remedy }
    }
}

/// Looks at everything a host should have. It takes a fraction of a second, blocking, and runs `nft` and `iptables` in
/// network namespaces of their own.
pub fn check_host() -> Vec<Finding> {
    let mut findings = settings::rights();
    findings.extend(programs::programs());
    findings.extend(kernel::kernel());
    findings.extend(settings::settings());
    findings
}

/// The worst of the findings.
pub fn verdict(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

/// The findings as a plain table, a line each, with a line about all of them at the end.
pub fn table(findings: &[Finding]) -> String {
    let rows = findings.iter().map(|finding| {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        [&finding.name, finding.verdict.word(), &finding.detail, remedy].map(str::to_owned)
    });
    let mut text =
        aligned(std::iter::once(["NAME", "VERDICT", "DETAIL", "REMEDY"].map(str::to_owned)).chain(rows));
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    text.push_str(&format!(
        "\n{} ok, {} warnings, {} missing\n",
        count(Verdict::Ok),
        count(Verdict::Warning),
        count(Verdict::Missing)
    ));
    text
}

/// Rows as lines, each cell on one, whose columns, the last excepted, are as wide as their widest cell.
fn aligned<const COLUMNS: usize>(rows: impl IntoIterator<Item = [String; COLUMNS]>) -> String {
    let rows: Vec<[String; COLUMNS]> = rows.into_iter().map(|row| row.map(|cell| one_line(&cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn findings_are_a_table_with_columns_below_each_other() {
        let findings = [
            Finding::ok("nft", "/usr/sbin/nft"),
            Finding::missing("iptables", "needed by CNI\nplugins", "apt-get install iptables"),
            Finding::warning("CAP_SYS_RESOURCE", "not there", ""),
        ];
        let expected = "\
NAME              VERDICT  DETAIL                 REMEDY
nft               ok       /usr/sbin/nft
iptables          missing  needed by CNI plugins  apt-get install iptables
CAP_SYS_RESOURCE  warning  not there

1 ok, 1 warnings, 1 missing
";
        assert_eq!(table(&findings), expected);
    }

    #[test]
    fn the_worst_finding_is_the_verdict_and_only_missing_ones_fail() {
        let ok = Finding::ok("a", "");
        let warning = Finding::warning("b", "", "");
        let missing = Finding::missing("c", "", "");
        assert_eq!(verdict(&[]), Verdict::Ok);
        assert_eq!(verdict(&[ok.clone(), warning.clone()]), Verdict::Warning);
        assert_eq!(verdict(&[missing, ok, warning]), Verdict::Missing);
        assert_eq!([Verdict::Ok, Verdict::Warning, Verdict::Missing].map(Verdict::exit_code), [0, 0, 1]);
    }

    #[test]
    fn a_host_that_runs_pods_has_what_they_need() {
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("a thread has one");
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("readable");
        let findings = check_host();
        let find =
            |name: &str| findings.iter().find(|finding| finding.name == name).expect("it was looked for");
        for name in
            ["root", "namespace pid", "namespace mount", "namespace network", "bridge", "veth", "pidfd"]
        {
            assert_eq!(find(name).verdict, Verdict::Ok, "{:?}", find(name));
        }
        let resource = caps::Capability::CAP_SYS_RESOURCE;
        let has = caps::has_cap(None, caps::CapSet::Effective, resource).expect("a process has capabilities");
        let expected = if has { Verdict::Ok } else { Verdict::Warning };
        assert_eq!(find("CAP_SYS_RESOURCE").verdict, expected);
        let lacking = findings.iter().filter(|finding| finding.verdict != Verdict::Ok);
        assert!(lacking.into_iter().all(|finding| !finding.detail.is_empty()));

        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").expect("a thread has one"), own);
        let now = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("readable");
        // Other tests may mount something meanwhile, but nothing of the probes' kind.
        let overlays = |text: &str| text.lines().filter(|line| line.contains(" - overlay ")).count();
        assert_eq!(overlays(&now), overlays(&mounts));
    }

    proptest! {
        #[test]
        fn every_row_is_one_line_without_spaces_at_its_end(cells in prop::collection::vec(any::<[String; 3]>(), 1..5)) {
            let text = aligned(cells.clone());
            prop_assert_eq!(text.lines().count(), cells.len());
            prop_assert!(text.lines().all(|line| line.trim_end() == line));
        }
    }
}
