//! A pod `etcd-0` with tasks, and an endpoint before it.

use std::process::{Child, Command, ExitStatus};

use mesos::common::TaskState::Running;

use super::{Endpoint, POLICY};
use crate::cgroups;
use crate::fake_agent::Options;
use crate::pod::{Pod, Task, wait_until};
use crate::stage::until;

/// The pod's name.
pub const POD: &str = "etcd-0";

/// A pod and an endpoint.
#[derive(Debug)]
pub struct Stand {
    /// The executor.
    pub pod: Pod,
    /// The endpoint.
    pub endpoint: Endpoint,
}

impl Stand {
    /// With these tasks (their names first), running and known to the endpoint, which has [`POLICY`].
    ///
    /// # Panics
    /// Something of it does not start.
    pub async fn start(tasks: impl IntoIterator<Item = (&str, Task)>) -> Self {
        Self::with(POLICY, &[], tasks).await
    }

    /// With this policy and further arguments of the endpoint.
    ///
    /// # Panics
    /// As [`Stand::start`].
    pub async fn with(
        policy: &str,
        arguments: &[&str],
        tasks: impl IntoIterator<Item = (&str, Task)>,
    ) -> Self {
        let options = Options { executor_id: format!("{POD}__1"), ..Options::default() };
        let pod = Pod::with(options, &[]).await;
        let endpoint = Endpoint::with(&pod.control_folder(), policy, arguments).await;
        let client = endpoint.client("stand", "ops");
        for (name, task) in tasks {
            pod.launch(task);
            pod.wait(name, Running).await;
            wait_until("the endpoint to know a task", || {
                let output = client.curl(&["-s"], "/kubex/v1/tasks").output().expect("run curl");
                String::from_utf8_lossy(&output.stdout).contains(&format!("{name:?}"))
            })
            .await;
        }
        Self { pod, endpoint }
    }

    /// How many bytes of input and of output sessions have moved, by the endpoint's metrics.
    ///
    /// # Panics
    /// It does not tell.
    pub fn moved(&self) -> (u64, u64) {
        let client = self.endpoint.client("metrics", "ops");
        let output = client.curl(&["-s"], "/metrics").output().expect("run curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let of = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            line.unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        (of("exec_endpoint_session_input_bytes_total"), of("exec_endpoint_session_output_bytes_total"))
    }

    /// Ends it: no session is left, and nothing of the pod.
    ///
    /// # Panics
    /// Something is left.
    pub async fn end(self) {
        let Self { pod, endpoint } = self;
        let sessions = || {
            let bases = cgroups::named(|name| name == pod.cgroup_base());
            let tasks = bases.iter().flat_map(|base| cgroups::children(base));
            let mut children = tasks.flat_map(|task| cgroups::children(&task));
            children.any(|cgroup| {
                cgroup.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec-"))
            })
        };
        wait_until("no session's cgroup", || !sessions()).await;
        drop(endpoint);
        pod.end().await;
    }
}

/// A command under way whose output goes to a file, so that it can be looked at. Dropped, it is killed.
#[derive(Debug)]
pub struct Spoken {
    child: Child,
    file: tempfile::NamedTempFile,
}

impl Spoken {
    /// Starts a command.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a file for output");
        let append = std::fs::OpenOptions::new().append(true).open(file.path()).expect("open it again");
        let child = command
            .stdout(append.try_clone().expect("a copy"))
            .stderr(append)
            .spawn()
            .expect("start a command");
        Self { child, file }
    }

    /// All that it has said so far.
    pub fn said(&self) -> String {
        crate::pod::read(self.file.path())
    }

    /// Waits until it has said this.
    ///
    /// # Panics
    /// It does not.
    pub async fn wait_for(&self, text: &str) {
        until(&format!("{text:?} among {}", self.said()), || self.said().contains(text).then_some(())).await;
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// It does not come.
    pub async fn ended(&mut self) -> ExitStatus {
        until("the end of a command", || self.child.try_wait().expect("a child")).await
    }
}

impl Drop for Spoken {
    fn drop(&mut self) {
        // It can only fail because it has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
