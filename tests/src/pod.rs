//! The executor as it is: its program, started as an agent would start it, on a fake agent and a state folder of its own.
//!
//! ```text
//!  Pod::start: FakeAgent + state folder -> kube-executor as a child process -> subscribed
//!  Pod::end:   SHUTDOWN -> exit code 0 -> nothing of it is left
//! ```
//! Dropped before its end, it ends by force everything that carries its marks; when the test has failed, it prints the
//! executor's log.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use mesos::common::{Blob, TaskState, TaskStatus};
pub use rustix::process::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::control;
use crate::describe::built_executor;
use crate::endpoint::USER as EXEC_USER;
use crate::fake_agent::{FakeAgent, Options, PATIENCE, task_info};
use crate::leftovers::Leftovers;
use crate::marks::Marks;

/// Between two looks at what nobody announces.
const PAUSE: Duration = Duration::from_millis(5);
/// The state folder in the test's own: executors make it.
const STATE: &str = "lib/kube-executor";
/// The folder of control sockets in the state folder, so that what is left there is found.
const CONTROL: &str = "control";
/// What executors find programs with.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An executor and its agent.
#[derive(Debug)]
pub struct Pod {
    /// The agent.
    pub agent: FakeAgent,
    child: Child,
    marks: Marks,
    leftovers: Leftovers,
    container: String,
    state: Arc<TempDir>,
}

impl Pod {
    /// An executor on an agent like any other, subscribed.
    pub async fn start() -> Self {
        Self::with(Options::default(), &[]).await
    }

    /// An executor on such an agent, with these arguments besides its state folder, subscribed.
    pub async fn with(options: Options, arguments: &[&str]) -> Self {
        let state = tempfile::tempdir().expect("make a state folder");
        Self::in_state(Arc::new(state), options, arguments).await
    }

    /// As [`Pod::with`], in a state folder that another executor of the test may have used or use.
    pub async fn in_state(state: Arc<TempDir>, options: Options, arguments: &[&str]) -> Self {
        let pod = Self::unsubscribed(state, options, arguments).await;
        pod.agent.wait_subscribed().await;
        pod
    }

    /// As [`Pod::in_state`], its program just started: until something is waited for, no agent has heard of it.
    pub async fn unsubscribed(state: Arc<TempDir>, options: Options, arguments: &[&str]) -> Self {
        let container = options.container_id.clone();
        let agent = FakeAgent::start(options).await;
        let sandbox = agent.sandbox();
        let folder = sandbox.parent().expect("a sandbox in a folder");
        // Temporary folders are for one user, those above an agent's or a state folder are not; an agent's sandbox is 0750.
        for (folder, mode) in [(folder, 0o755), (state.path(), 0o755), (&sandbox, 0o750)] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).expect("set the mode of a folder");
        }
        let state_folder = state.path().join(STATE);
        let marks = Marks::new();
        marks.add_folder(folder);
        marks.add_state(&state.path().join(STATE));
        marks.add_container(&container);
        let leftovers = Leftovers::before(&marks);
        let log = File::create(folder.join("executor.log")).expect("make a log for the executor");
        let child = Command::new(built_executor().expect("a built executor"))
            .arg("--state")
            .arg(&state_folder)
            .args(arguments)
            .env_clear()
            .envs(agent.environment())
            .env("PATH", PATH)
            .env("KUBE_EXECUTOR_CONTROL_FOLDER", state_folder.join(CONTROL))
            .env("KUBE_EXECUTOR_EXEC_USER", EXEC_USER.0)
            .env("OF_THE_EXECUTOR", "not for tasks")
            .current_dir(&sandbox)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start the executor");
        Self { agent, child, marks, leftovers, container, state }
    }

    /// Delivers a task by LAUNCH.
    pub fn launch(&self, task: Task) {
        self.agent.launch(&task.0);
    }

    /// Delivers tasks by LAUNCH_GROUP.
    pub fn group(&self, tasks: impl IntoIterator<Item = Task>) {
        let tasks: Vec<Value> = tasks.into_iter().map(|task| task.0).collect();
        self.agent.launch_group(&tasks);
    }

    /// Waits for the last status of this state.
    pub async fn wait(&self, task: &str, state: TaskState) -> TaskStatus {
        self.agent.wait_status(task, state).await
    }

    /// Waits for a RUNNING whose label `ready` is this.
    pub async fn wait_ready(&self, task: &str, ready: bool) -> TaskStatus {
        let ready = ready.to_string();
        let what = format!("{task} running with ready={ready}");
        let is_it = |status: &TaskStatus| {
            state(status) == TaskState::Running && label(status, "ready") == Some(&ready)
        };
        self.wait_status(task, &what, is_it).await
    }

    /// Waits until the latest status of the task is such.
    pub async fn wait_status(
        &self,
        task: &str,
        what: &str,
        is_it: impl Fn(&TaskStatus) -> bool,
    ) -> TaskStatus {
        let find = |log: &crate::fake_agent::Log| log.statuses_of(task).pop().filter(&is_it);
        self.agent.wait_for(what, find).await
    }

    /// The states of a task so far, in order.
    pub fn states(&self, task: &str) -> Vec<TaskState> {
        self.agent.statuses(task).iter().map(state).collect()
    }

    /// A task's own sandbox.
    pub fn sandbox(&self, task: &str) -> PathBuf {
        self.agent.sandbox().join("tasks").join(task)
    }

    /// A file in the executor's sandbox, for tasks to meet at.
    pub fn shared(&self, name: &str) -> PathBuf {
        self.agent.sandbox().join(name)
    }

    /// The executor's state folder, which it has made.
    pub fn state_folder(&self) -> PathBuf {
        self.state.path().join(STATE)
    }

    /// The executor's control folder.
    pub fn control_folder(&self) -> PathBuf {
        self.state_folder().join(CONTROL)
    }

    /// The executor's control socket, once it is there.
    pub async fn control_socket(&self) -> PathBuf {
        let control = self.control_folder();
        let mut found = None;
        wait_until("the control socket", || {
            found = control::socket_of(&control, &self.container);
            found.is_some()
        })
        .await;
        found.unwrap_or_default()
    }

    /// The folder that holds the executor's state folder.
    pub fn state(&self) -> &Arc<TempDir> {
        &self.state
    }

    /// What belongs to it.
    pub fn marks(&self) -> &Marks {
        &self.marks
    }

    /// The name of the cgroup that all cgroups of tasks are in.
    pub fn cgroup_base(&self) -> String {
        format!("kube-executor-{}", self.container)
    }

    /// What a task has written to stdout so far; nothing while there is no such file.
    pub fn stdout(&self, task: &str) -> String {
        read(&self.sandbox(task).join("stdout"))
    }

    /// Waits until stdout of a task holds this text, and returns it.
    pub async fn wait_stdout(&self, task: &str, text: &str) -> String {
        wait_until(&format!("{text:?} in stdout of {task}"), || self.stdout(task).contains(text)).await;
        self.stdout(task)
    }

    /// What the executor has logged.
    pub fn log(&self) -> String {
        read(&self.shared("../executor.log"))
    }

    /// The executor's process id.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The process ids, on the host, of all living processes of a task.
    pub fn processes_of(&self, task: &str) -> Vec<i32> {
        let variable = format!("MESOS_SANDBOX={}", self.sandbox(task).display());
        let has = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|&byte| byte == 0).any(|one| one == variable.as_bytes())
        };
        all_processes().into_iter().filter(has).collect()
    }

    /// Waits until a task has exactly so many processes, and returns them.
    pub async fn wait_processes(&self, task: &str, count: usize) -> Vec<i32> {
        wait_until(&format!("{count} processes of {task}"), || self.processes_of(task).len() == count).await;
        self.processes_of(task)
    }

    /// The process id, on the host, of the pod's init.
    pub fn init(&self) -> i32 {
        let executor = self.child.id();
        let is_init = |pid: &i32| read(Path::new(&format!("/proc/{pid}/cmdline"))).contains("--pod-init");
        let until = Instant::now() + PATIENCE;
        loop {
            // The kernel's list of children may lack one while another ends.
            let children = read(Path::new(&format!("/proc/{executor}/task/{executor}/children")));
            let mut inits = children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_init);
            match inits.next() {
                Some(init) => return init,
                None if Instant::now() < until => std::thread::yield_now(),
                None => panic!("executor {executor} has no init of a pod among {children:?}"),
            }
        }
    }

    /// Sends a signal to the executor.
    pub fn signal(&self, signal: Signal) {
        send(i32::try_from(self.child.id()).expect("a process id"), signal);
    }

    /// Waits until the executor has ended.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub async fn exited(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for the executor") {
                return status;
            }
            assert!(Instant::now() < until, "waited {PATIENCE:?} for the executor's end");
            sleep(PAUSE).await;
        }
    }

    /// SHUTDOWN, and then [`Pod::ended`].
    pub async fn end(self) {
        self.agent.shutdown();
        self.ended().await;
    }

    /// Waits until the executor has ended with exit code 0 and nothing of it is left.
    pub async fn ended(mut self) {
        assert_eq!(self.exited().await.code(), Some(0), "the executor's exit code");
        self.left_nothing().await;
    }

    /// The check for the end of every test: nothing of it is left.
    pub async fn left_nothing(&self) {
        self.leftovers.assert_none_new().await;
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent received:\n{}", self.agent.log());
            eprintln!("the executor logged:\n{}", self.log());
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if let Err(error) = self.marks.clear() {
            eprintln!("clear what the executor left: {error:#}");
        }
    }
}

/// A `TaskInfo` in few words.
#[derive(Debug, Clone)]
pub struct Task(Value);

impl Task {
    /// A task without a command.
    pub fn bare(id: &str) -> Self {
        Self(task_info(id, &json!({})))
    }

    /// A text for the shell.
    pub fn shell(id: &str, text: &str) -> Self {
        Self::bare(id).with("command", json!({"value": text}))
    }

    /// A program with its arguments, the first of them its file.
    pub fn argv(id: &str, arguments: &[&str]) -> Self {
        Self::bare(id).with("command", json!({"shell": false, "value": arguments[0], "arguments": arguments}))
    }

    /// One that runs until it is ended.
    pub fn idle(id: &str) -> Self {
        Self::argv(id, &["sleep", "1000"])
    }

    /// Sets a field of the `TaskInfo`.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    /// Sets a field of the command.
    #[must_use]
    pub fn command(mut self, field: &str, value: Value) -> Self {
        self.0["command"][field] = value;
        self
    }

    /// Sets the amounts of processors and of memory in MB.
    #[must_use]
    pub fn resources(self, cpus: f64, mem: f64) -> Self {
        let scalar =
            |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
        self.with("resources", json!([scalar("cpus", cpus), scalar("mem", mem)]))
    }

    /// Sets the time between SIGTERM and SIGKILL.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        let nanoseconds = u64::try_from(grace.as_nanos()).expect("a grace period below 500 years");
        self.with("kill_policy", json!({"grace_period": {"nanoseconds": nanoseconds}}))
    }

    /// Sets the data: `TaskSettings` as JSON.
    #[must_use]
    pub fn settings(self, settings: &Value) -> Self {
        self.data(settings.to_string().as_bytes())
    }

    /// Sets the data.
    #[must_use]
    pub fn data(self, bytes: &[u8]) -> Self {
        let blob = serde_json::to_value(Blob(bytes.to_vec())).expect("base64");
        self.with("data", blob)
    }
}

/// The state of a status.
///
/// # Panics
/// It is not one of Mesos's.
pub fn state(status: &TaskStatus) -> TaskState {
    status.state.known().unwrap_or_else(|| panic!("state {} is none of Mesos's", status.state.name()))
}

/// The value of a label of a status.
pub fn label<'a>(status: &'a TaskStatus, key: &str) -> Option<&'a str> {
    let labels = status.labels.as_ref()?;
    labels.labels.iter().find(|label| label.key == key)?.value.as_deref()
}

/// The message of a status, or nothing.
pub fn message(status: &TaskStatus) -> &str {
    status.message.as_deref().unwrap_or_default()
}

/// The reason of a status by its name, or nothing.
pub fn reason(status: &TaskStatus) -> &str {
    status.reason.as_ref().map_or("", |reason| reason.name())
}

/// The seconds between two statuses, by their own clock.
pub fn seconds_between(earlier: &TaskStatus, later: &TaskStatus) -> f64 {
    later.timestamp.expect("a time") - earlier.timestamp.expect("a time")
}

/// Waits until something is so that nobody announces.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited {PATIENCE:?} for {what}");
        sleep(PAUSE).await;
    }
}

/// A file as text; empty if it cannot be read.
pub fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Makes an empty file.
pub fn touch(path: &Path) {
    fs::write(path, "").unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
}

/// Sends a signal to a process of the test's own, through a pidfd.
pub fn send(process: i32, signal: Signal) {
    let pid = Pid::from_raw(process).expect("a process id");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("open the process");
    pidfd_send_signal(&pidfd, signal).expect("send a signal");
}

fn all_processes() -> Vec<i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
