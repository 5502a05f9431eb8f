//! An executor as a child of the test, for a fake agent: started as an agent would, in cgroups of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use tempfile::TempDir;

use crate::cgroups;
use crate::describe::built_executor;
use crate::fake_agent::FakeAgent;
use crate::leftovers::Leftovers;
use crate::marks::Marks;
use crate::process::{self, Process};
use crate::rig::tail;
use crate::stage::until;

/// The cgroup of the executor, below the one that is named for the child.
const OWN: &str = "executor";
/// Joins the cgroups that it is given, as far as they take processes, then becomes the executor.
const JOIN: &str = r#"program=$1; shift
for cgroup; do echo $$ >"$cgroup/cgroup.procs"; done 2>/dev/null
exec "$program""#;

/// The executor. Dropped, it is ended by force with all that came of it.
#[derive(Debug)]
pub struct ExecutorChild {
    child: Child,
    folder: TempDir,
    root: String,
    marks: Marks,
    leftovers: Leftovers,
}

impl ExecutorChild {
    /// Starts one in the environment that this agent gives.
    ///
    /// # Panics
    /// It is not built, or could not be started.
    pub fn start(agent: &FakeAgent) -> Self {
        Self::start_in(agent, agent.environment())
    }

    /// Starts one in another environment.
    ///
    /// # Panics
    /// As [`ExecutorChild::start`].
    pub fn start_in(agent: &FakeAgent, environment: BTreeMap<String, String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the executor");
        let state = folder.path().join("state");
        fs::create_dir(&state).expect("a state folder");
        let root = format!("kx-{}", uuid::Uuid::new_v4());
        let marks = Marks::new();
        marks.add_folder(&agent.sandbox());
        marks.add_state(&state);
        marks.add_cgroup_root(&root);
        let leftovers = Leftovers::before(&marks);
        let own: Vec<PathBuf> = cgroups::hierarchies()
            .iter()
            .map(|hierarchy| hierarchy.join(&root).join(OWN))
            .filter(|cgroup| fs::create_dir_all(cgroup).is_ok())
            .collect();
        let log = File::create(folder.path().join("stderr")).expect("a log");
        let child = Command::new("/bin/sh")
            .args(["-c", JOIN, "sh"])
            .arg(built_executor().expect("an executor"))
            .args(own)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("KUBE_EXECUTOR_STATE", &state)
            .env("KUBE_EXECUTOR_CONTROL_FOLDER", state.join("control"))
            .envs(environment)
            .current_dir(agent.sandbox())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the executor");
        Self { child, folder, root, marks, leftovers }
    }

    /// Its process.
    ///
    /// # Panics
    /// It has ended.
    pub fn process(&self) -> Process {
        let id = i32::try_from(self.child.id()).expect("a process id");
        Process::living(id).expect("an executor that runs")
    }

    /// All living processes of it and its tasks.
    pub fn processes(&self) -> BTreeSet<Process> {
        let roots = cgroups::named(|name| name == self.root);
        roots.iter().flat_map(|root| process::in_cgroup(root)).collect()
    }

    /// The living processes of a task.
    pub fn task_processes(&self, task: &str) -> BTreeSet<Process> {
        let roots = cgroups::named(|name| name == self.root);
        // The only container there is the executor's.
        let bases = roots.iter().flat_map(|root| cgroups::children(&root.join(OWN)));
        bases.flat_map(|base| process::in_cgroup(&base.join(task))).collect()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not come.
    pub async fn exit(&mut self) -> ExitStatus {
        until("the end of the executor", || self.child.try_wait().expect("a child")).await
    }

    /// Ends it by SIGTERM, and makes sure that nothing is left.
    ///
    /// # Panics
    /// Something is, or it does not end.
    pub async fn end(mut self) {
        self.process().signal(rustix::process::Signal::TERM).expect("a signal");
        let status = self.exit().await;
        assert!(status.success(), "{status}");
        self.nothing_left().await;
    }

    /// Makes sure that nothing is left of an executor that has ended.
    ///
    /// # Panics
    /// Something is.
    pub async fn nothing_left(&self) {
        for root in cgroups::named(|name| name == self.root) {
            // What is not empty is left, and found.
            drop(fs::remove_dir(root.join(OWN)));
        }
        self.marks.remove_roots();
        self.leftovers.assert_none_new().await;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for ExecutorChild {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the executor's log:\n{}", tail(&self.folder.path().join("stderr"), 40));
        }
        // It can only fail because it has ended, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if let Err(error) = self.marks.clear() {
            eprintln!("end what is left of the executor: {error:#}");
        }
    }
}
