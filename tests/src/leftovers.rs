//! The check for the end of every test: nothing of the test's is left that was not there before.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::marks::{Found, Marks};

/// How long what has ended may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What carried the marks before the test began.
#[derive(Debug)]
pub struct Leftovers {
    marks: Marks,
    before: Found,
}

impl Leftovers {
    /// Looks at what is there now. Marks that are added later count too.
    pub fn before(marks: &Marks) -> Self {
        Self { marks: marks.clone(), before: marks.find() }
    }

    /// What is new since then and still there after ten seconds; returns as soon as nothing is.
    pub async fn new_ones(&self) -> New {
        let until = Instant::now() + PATIENCE;
        loop {
            let new = New(self.difference());
            if new.is_empty() || Instant::now() >= until {
                return new;
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until nothing is new.
    ///
    /// # Panics
    /// Something still is after ten seconds; the text names each thing.
    pub async fn assert_none_new(&self) {
        let new = self.new_ones().await;
        assert!(new.is_empty(), "{new}");
    }

    fn difference(&self) -> Found {
        let (mut now, before) = (self.marks.find(), &self.before);
        now.processes.retain(|process, _| !before.processes.contains_key(process));
        now.cgroups.retain(|cgroup| !before.cgroups.contains(cgroup));
        now.mounts.retain(|mount| !before.mounts.contains(mount));
        now.namespaces.retain(|namespace| !before.namespaces.contains(namespace));
        now.files.retain(|file| !before.files.contains(file));
        now
    }
}

/// What is left of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct New(pub Found);

impl New {
    /// Whether that is nothing.
    pub fn is_empty(&self) -> bool {
        self.0 == Found::default()
    }
}

/// `nothing left: 0 processes, ...`, or `left: 1 processes, ...` and a line for each thing.
impl fmt::Display for New {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Found { processes, cgroups, mounts, namespaces, files } = &self.0;
        write!(
            out,
            "{}: {} processes, {} cgroups, {} mounts, {} network namespaces",
            if self.is_empty() { "nothing left" } else { "left" },
            processes.len(),
            cgroups.len(),
            mounts.len(),
            namespaces.len()
        )?;
        if !files.is_empty() {
            write!(out, ", {} files", files.len())?;
        }
        for process in processes.values() {
            write!(out, "\n  process {process}")?;
        }
        let places =
            [("cgroup", cgroups), ("mount", mounts), ("network namespace", namespaces), ("file", files)];
        for (what, paths) in places {
            for path in paths {
                write!(out, "\n  {what} {}", path.display())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
