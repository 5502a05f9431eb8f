//! `TaskInfo`s and `ExecutorInfo`s in few words, so that a test reads like the rule it proves.
//!
//! ```
//! # use std::path::Path;
//! # use kube_executor_tests::describe::{Program, TaskInfoExt as _, shell_task};
//! let pod = Program::kube_executor(Path::new("target/debug/kube-executor"), Path::new("state")).pod("etcd-0");
//! let task = shell_task("etcd-0-peer", "exec etcd").mem(512.0);
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use mesos::common::{
    AgentId, Blob, CommandInfo, DurationInfo, Environment, ExecutorId, ExecutorInfo, KillPolicy, Resource,
    TaskId, TaskInfo, Variable,
};
use task::settings::{PodSettings, TaskSettings};

/// The executor's own resources; the master wants at least cpus 0.01, mem 32 and some disk.
const EXECUTOR_RESOURCES: [(&str, f64); 3] = [("cpus", 0.1), ("mem", 64.0), ("disk", 8.0)];
/// A task's resources unless it says otherwise.
const TASK_RESOURCES: [(&str, f64); 3] = [("cpus", 0.1), ("mem", 32.0), ("disk", 8.0)];

/// How an executor is started.
#[derive(Debug, Clone)]
pub struct Program {
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
}

impl Program {
    /// A program by its path, without arguments.
    pub fn new(path: &Path) -> Self {
        Self { arguments: vec![path.to_string_lossy().into_owned()], environment: BTreeMap::new() }
    }

    /// The kube-executor at `path`, which keeps its tasks' data in `state`.
    pub fn kube_executor(path: &Path, state: &Path) -> Self {
        let control = state.join("control");
        Self::new(path)
            .argument("--state")
            .argument(&state.to_string_lossy())
            .argument("--control-folder")
            .argument(&control.to_string_lossy())
    }

    /// One more argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One more variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A new executor for a pod instance of this name, in the host's network.
    pub fn pod(&self, name: &str) -> ExecutorInfo {
        self.pod_with(&PodSettings { name: Some(name.to_owned()), ..PodSettings::default() })
    }

    /// A new executor for a pod instance; its id is `<name>__<uuid>`, as the DC/OS SDK's are.
    pub fn pod_with(&self, settings: &PodSettings) -> ExecutorInfo {
        ExecutorInfo {
            kind: Some("CUSTOM".to_owned()),
            executor_id: ExecutorId::new(unique(settings.name.as_deref().unwrap_or("pod"))),
            framework_id: None,
            command: Some(CommandInfo {
                environment: Some(variables(&self.environment)),
                ..argv(&self.arguments)
            }),
            resources: scalars(&EXECUTOR_RESOURCES),
            data: Some(json(settings)),
            shutdown_grace_period: None,
        }
    }
}

/// A task whose command is a text for the shell; its id is `<name>__<uuid>`.
pub fn shell_task(name: &str, text: &str) -> TaskInfo {
    task(name, CommandInfo { value: Some(text.to_owned()), ..CommandInfo::default() })
}

/// A task whose command is this argv; its id is `<name>__<uuid>`.
pub fn argv_task(name: &str, arguments: &[impl AsRef<str>]) -> TaskInfo {
    task(name, argv(arguments))
}

/// A task that comes from `command`; its id is `<name>__<uuid>`.
pub fn task(name: &str, command: CommandInfo) -> TaskInfo {
    TaskInfo {
        name: name.to_owned(),
        task_id: TaskId::new(unique(name)),
        agent_id: AgentId::new(""),
        resources: scalars(&TASK_RESOURCES),
        limits: BTreeMap::new(),
        executor: None,
        command: Some(command),
        container: None,
        health_check: None,
        check: None,
        kill_policy: None,
        data: None,
        max_completion_time: None,
        labels: None,
    }
}

/// What a task may have besides its command, each in a word.
pub trait TaskInfoExt: Sized {
    /// Processors.
    #[must_use]
    fn cpus(self, amount: f64) -> Self;
    /// Memory in MB.
    #[must_use]
    fn mem(self, amount: f64) -> Self;
    /// Disk space in MB.
    #[must_use]
    fn disk(self, amount: f64) -> Self;
    /// One more variable.
    #[must_use]
    fn variable(self, name: &str, value: &str) -> Self;
    /// The time between SIGTERM and SIGKILL.
    #[must_use]
    fn grace(self, time: Duration) -> Self;
    /// What Mesos has no field for.
    #[must_use]
    fn settings(self, settings: &TaskSettings) -> Self;
}

impl TaskInfoExt for TaskInfo {
    fn cpus(self, amount: f64) -> Self {
        with_scalar(self, "cpus", amount)
    }

    fn mem(self, amount: f64) -> Self {
        with_scalar(self, "mem", amount)
    }

    fn disk(self, amount: f64) -> Self {
        with_scalar(self, "disk", amount)
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        let command = self.command.get_or_insert_default();
        let variables = &mut command.environment.get_or_insert_default().variables;
        variables.push(Variable { name: name.to_owned(), kind: None, value: Some(value.to_owned()) });
        self
    }

    fn grace(mut self, time: Duration) -> Self {
        self.kill_policy = Some(KillPolicy { grace_period: Some(duration(time)) });
        self
    }

    fn settings(mut self, settings: &TaskSettings) -> Self {
        self.data = Some(json(settings));
        self
    }
}

/// The form in which a plain LAUNCH takes a task of a custom executor: its command is in its settings.
///
/// # Errors
/// The task has data that are no `TaskSettings`.
pub fn for_plain_launch(mut task: TaskInfo, executor: &ExecutorInfo) -> anyhow::Result<TaskInfo> {
    task.executor = Some(executor.clone());
    if let Some(command) = task.command.take() {
        let mut settings: TaskSettings = match &task.data {
            Some(Blob(bytes)) => serde_json::from_slice(bytes)
                .with_context(|| format!("read the data of task {} as its settings", task.task_id))?,
            None => TaskSettings::default(),
        };
        settings.command = Some(command);
        task.data = Some(json(&settings));
    }
    Ok(task)
}

/// A length of time as Mesos writes it; the longest that it can when it is longer.
pub fn duration(time: Duration) -> DurationInfo {
    DurationInfo { nanoseconds: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX) }
}

/// The program of this project that was built beside the running one.
///
/// # Errors
/// It is not there.
pub fn built(program: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("find the running program")?;
    // A program is in target/<profile>, a test in target/<profile>/deps.
    let places = this.ancestors().skip(1).take(2).map(|folder| folder.join(program));
    let mut built = places.filter(|place| place.is_file());
    built.next().with_context(|| {
        format!(
            "no {program} beside {}: run `cargo build --workspace` (with --release for a release build)",
            this.display()
        )
    })
}

/// The kube-executor that was built beside the running program.
///
/// # Errors
/// It is not there.
pub fn built_executor() -> anyhow::Result<PathBuf> {
    built("kube-executor")
}

fn unique(name: &str) -> String {
    format!("{name}__{}", uuid::Uuid::new_v4())
}

fn argv(arguments: &[impl AsRef<str>]) -> CommandInfo {
    let arguments: Vec<String> = arguments.iter().map(|one| one.as_ref().to_owned()).collect();
    CommandInfo { shell: Some(false), value: arguments.first().cloned(), arguments, ..CommandInfo::default() }
}

fn variables(environment: &BTreeMap<String, String>) -> Environment {
    let variable = |(name, value): (&String, &String)| Variable {
        name: name.clone(),
        kind: None,
        value: Some(value.clone()),
    };
    Environment { variables: environment.iter().map(variable).collect() }
}

fn scalars(amounts: &[(&str, f64)]) -> Vec<Resource> {
    amounts.iter().map(|(name, amount)| Resource::scalar(name, *amount)).collect()
}

fn with_scalar(mut task: TaskInfo, name: &str, amount: f64) -> TaskInfo {
    task.resources.retain(|resource| resource.name != name);
    task.resources.push(Resource::scalar(name, amount));
    task
}

fn json(settings: &impl serde::Serialize) -> Blob {
    Blob(serde_json::to_vec(settings).expect("names and numbers are always JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_launch_carries_the_command_beside_the_other_settings() {
        let pod = Program::new(Path::new("/executor")).pod("a-0");
        let settings = TaskSettings { no_new_privileges: true, ..TaskSettings::default() };
        let task = for_plain_launch(shell_task("a", "true").settings(&settings), &pod).unwrap();
        assert_eq!(task.command, None);
        let data: TaskSettings = serde_json::from_slice(&task.data.unwrap().0).unwrap();
        assert!(data.no_new_privileges);
        assert_eq!(data.command.unwrap().value.as_deref(), Some("true"));
    }

    #[test]
    fn a_resource_that_is_named_again_replaces_the_first() {
        let task = shell_task("a", "true").mem(100.0).mem(200.0);
        let mem: Vec<_> = task.resources.iter().filter(|one| one.name == "mem").collect();
        assert_eq!(mem, [&Resource::scalar("mem", 200.0)]);
    }
}
