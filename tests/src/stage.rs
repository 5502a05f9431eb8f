//! A stage for a story: a real Mesos, a framework on it, a folder for what executors keep, and at the end the check that
//! nothing is left. What does not go as it should panics, with what the framework has heard.
//!
//! ```text
//!  start -> launch, kill, wait ... -> end: teardown, nothing left, Mesos stopped, still nothing left
//!  dropped in a panic: the ends of all logs, then the rig ends all by force
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesos::common::{ExecutorId, ExecutorInfo, TaskId, TaskInfo, TaskState, TaskStatus};
use rustix::fs::OFlags;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::cgroups;
use crate::describe::{Program, built_executor};
use crate::framework::{self, Framework};
use crate::leftovers::Leftovers;
use crate::process::{self, Process};
use crate::rig::{self, Rig, tail};

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what does not tell when it changes.
const PAUSE: Duration = Duration::from_millis(5);

/// The stage.
#[derive(Debug)]
pub struct Stage {
    /// A framework with all capabilities, and checkpointing.
    pub framework: Framework,
    /// Master and agent, whose containers end with all that is in them.
    pub rig: Rig,
    program: Program,
    leftovers: Leftovers,
}

impl Stage {
    /// With everything as it usually is.
    ///
    /// # Panics
    /// Mesos or the executor is not built, or Mesos does not start.
    pub async fn start() -> Self {
        Self::with(framework::Options::default()).await
    }

    /// With another framework.
    ///
    /// # Panics
    /// As [`Stage::start`].
    pub async fn with(options: framework::Options) -> Self {
        let rig = Rig::start(rig::Options::default()).await.expect("a rig");
        let state = rig.folder().join("state");
        fs::create_dir(&state).expect("create the state folder");
        rig.marks().add_state(&state);
        let leftovers = Leftovers::before(rig.marks());
        let framework = Framework::subscribe(rig.master(), options).await.expect("a framework");
        let program = Program::kube_executor(&built_executor().expect("an executor"), &state);
        Self { framework, rig, program, leftovers }
    }

    /// Lets all users pass through the temporary folder that everything is in.
    ///
    /// # Panics
    /// It is not there.
    pub fn open_to_all(&self) {
        fs::set_permissions(self.rig.folder(), fs::Permissions::from_mode(0o755))
            .expect("open the rig's folder");
    }

    /// How its executors are started.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// A new executor.
    pub fn pod(&self, name: &str) -> ExecutorInfo {
        self.program.pod(name)
    }

    /// Launches one task by LAUNCH_GROUP and waits until it runs.
    ///
    /// # Panics
    /// It does not.
    pub async fn run(&self, pod: &ExecutorInfo, task: TaskInfo) -> TaskId {
        let id = task.task_id.clone();
        self.launch(pod, vec![task]).await;
        self.state(&id, TaskState::Running).await;
        id
    }

    /// Launches tasks by LAUNCH_GROUP.
    ///
    /// # Panics
    /// They could not be.
    pub async fn launch(&self, pod: &ExecutorInfo, tasks: Vec<TaskInfo>) {
        self.framework.launch_group(pod, tasks).await.expect("a launch");
    }

    /// Waits for a state of a task.
    ///
    /// # Panics
    /// It does not come.
    pub async fn state(&self, task: &TaskId, state: TaskState) -> TaskStatus {
        let status = self.framework.wait_for_state(task, state).await;
        status.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Waits for the end of a task.
    ///
    /// # Panics
    /// It does not come.
    pub async fn ended(&self, task: &TaskId) -> TaskStatus {
        let status = self.framework.wait_for_end(task).await;
        status.unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The states of a task so far, each update once.
    pub fn states(&self, task: &TaskId) -> Vec<TaskState> {
        self.framework.log().states(task)
    }

    /// The sandbox of the executor's latest run.
    ///
    /// # Panics
    /// It never ran.
    pub fn sandbox(&self, executor: &ExecutorId) -> PathBuf {
        let mut runs = self.rig.sandboxes();
        runs.retain(|run| run.iter().any(|part| part == executor.as_str()));
        let made = |run: &PathBuf| fs::metadata(run).and_then(|run| run.created()).ok();
        runs.sort_by_key(made);
        runs.pop().unwrap_or_else(|| panic!("executor {executor} never ran; {}", self.framework.log()))
    }

    /// The sandbox of a task.
    ///
    /// # Panics
    /// Its executor never ran.
    pub fn task_sandbox(&self, executor: &ExecutorId, task: &TaskId) -> PathBuf {
        self.sandbox(executor).join("tasks").join(task.as_str())
    }

    /// The container of the executor's latest run.
    ///
    /// # Panics
    /// It never ran.
    pub fn container(&self, executor: &ExecutorId) -> String {
        name(&self.sandbox(executor))
    }

    /// The cgroups of a task, in each hierarchy that has one.
    ///
    /// # Panics
    /// Its executor never ran.
    pub fn task_cgroups(&self, executor: &ExecutorId, task: &TaskId) -> BTreeSet<PathBuf> {
        let base = format!("kube-executor-{}", self.container(executor));
        let bases = cgroups::named(|name| name == base);
        bases.into_iter().map(|base| base.join(task.as_str())).filter(|cgroup| cgroup.is_dir()).collect()
    }

    /// The living processes of a task.
    ///
    /// # Panics
    /// Its executor never ran.
    pub fn task_processes(&self, executor: &ExecutorId, task: &TaskId) -> BTreeSet<Process> {
        let cgroups = self.task_cgroups(executor, task);
        cgroups.iter().flat_map(|cgroup| process::in_cgroup(cgroup)).collect()
    }

    /// The executor's own process.
    ///
    /// # Panics
    /// It is not there.
    pub fn executor_process(&self, executor: &ExecutorId) -> Process {
        let container = self.container(executor);
        let path = built_executor().expect("an executor").canonicalize().ok();
        let mut found = process::all().filter(|process| {
            process.program() == path
                // Its init is the same program in another PID namespace.
                && !process.command_line().iter().any(|word| word == "--pod-init")
                && process.cgroup("memory").is_some_and(|cgroup| name(&cgroup) == container)
        });
        found.next().unwrap_or_else(|| panic!("no process of {executor} in container {container}"))
    }

    /// Stops master and agent where they are, as if they hung. Killing them ends that too.
    ///
    /// # Panics
    /// They do not run.
    pub fn freeze(&self) {
        let here =
            format!("TMPDIR={}", self.rig.folder().canonicalize().expect("the rig's folder").display());
        let program = |process: &Process| process.program().is_some_and(|path| name(&path) == "mesos-local");
        let ours = |process: &Process| process.environment().iter().any(|one| one.starts_with(&here));
        let mesos = process::all().find(|process| program(process) && ours(process)).expect("Mesos");
        mesos.signal(Signal::STOP).expect("stop Mesos");
    }

    /// Ends everything in the orderly way and makes sure that nothing is left.
    ///
    /// # Panics
    /// Something is.
    pub async fn end(mut self) {
        // One by one they end at once; with the framework they wait in vain for the last acknowledgements.
        for executor in self.executors() {
            if self.framework.log().failure(&executor).is_none() {
                self.framework.shutdown_executor(&executor).await.expect("a shutdown");
                let ended = self.framework.wait_for_executor_end(&executor).await;
                ended.unwrap_or_else(|error| panic!("{error:#}"));
            }
        }
        self.framework.teardown().await.expect("a teardown");
        self.nothing_left().await;
        self.rig.stop();
        self.nothing_left().await;
    }

    fn executors(&self) -> BTreeSet<ExecutorId> {
        let log = self.framework.log();
        let statuses = log.all_statuses().filter_map(|status| status.executor_id.clone());
        statuses.collect()
    }

    /// Waits until nothing is left of all that the rig has started.
    ///
    /// # Panics
    /// Something is.
    pub async fn nothing_left(&self) {
        // The marks of containers are added as they are seen.
        let _ = self.rig.marks();
        self.leftovers.assert_none_new().await;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        eprintln!("mesos.log:\n{}", tail(&self.rig.folder().join("mesos.log"), 30));
        for sandbox in self.rig.sandboxes() {
            let tasks =
                fs::read_dir(sandbox.join("tasks")).into_iter().flatten().flatten().map(|task| task.path());
            for file in std::iter::once(sandbox.clone()).chain(tasks).map(|folder| folder.join("stderr")) {
                eprintln!("{}:\n{}", file.display(), tail(&file, 40));
            }
        }
    }
}

/// Waits until `look` sees something.
///
/// # Panics
/// It does not within [`PATIENCE`].
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "waited {PATIENCE:?} for {what}");
        sleep(PAUSE).await;
    }
}

/// A place where a task waits until the test lets it on.
///
/// ```
/// # use kube_executor_tests::stage::Gate;
/// let folder = tempfile::tempdir().unwrap();
/// let gate = Gate::new(&folder.path().join("gate"));
/// let text = format!("{}; exit $word", gate.wait());
/// ```
#[derive(Debug, Clone)]
pub struct Gate(PathBuf);

impl Gate {
    /// A closed gate: a FIFO, made here.
    ///
    /// # Panics
    /// It cannot be made.
    pub fn new(path: &Path) -> Self {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("make a fifo");
        Self(path.to_owned())
    }

    /// The shell's words that wait, and then have the word of [`Gate::open`] in `$word`.
    pub fn wait(&self) -> String {
        format!("read word <'{}'", self.0.display())
    }

    /// Lets one task on that waits, or waits for one.
    ///
    /// # Panics
    /// Nobody comes.
    pub async fn open(&self, word: &str) {
        // A blocking open would hold up the end of a test that fails here.
        let mut gate = until("a task that waits at the gate", || {
            let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
            let opened = File::options().write(true).custom_flags(nonblocking).open(&self.0);
            opened.ok()
        })
        .await;
        writeln!(gate, "{word}").expect("write to the gate");
    }
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
