//! A pod with tasks, an endpoint for it, and somebody who may do everything.

use std::path::PathBuf;
use std::time::Duration;

use mesos::common::TaskState::Running;

use super::{Client, Endpoint};
use crate::cgroups;
use crate::pod::{Pod, Task};
use crate::stage::until;

/// A pod, an endpoint, and somebody of the group `ops`.
#[derive(Debug)]
pub struct Siege {
    /// The pod.
    pub pod: Pod,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Of the group `ops`.
    pub boss: Client,
    /// The pod and its tasks as the endpoint told them first.
    pub shown: task::control::Pod,
}

impl Siege {
    /// With these tasks, by name; they run, and the endpoint knows it.
    ///
    /// # Panics
    /// They do not, or it does not.
    pub async fn start(tasks: Vec<(&str, Task)>, policy: &str, arguments: &[&str]) -> Self {
        let pod = Pod::start().await;
        let endpoint = Endpoint::with(&pod.control_folder(), policy, arguments).await;
        let names: Vec<String> = tasks.iter().map(|(name, _)| (*name).to_owned()).collect();
        for (_, task) in tasks {
            pod.launch(task);
        }
        for name in &names {
            pod.wait(name, Running).await;
        }
        let boss = endpoint.client("boss", "ops");
        let list = || boss.kubex(&["task", "list", "--output", "json"]).output().expect("run kubex").stdout;
        let known =
            |text: &[u8]| names.iter().all(|name| String::from_utf8_lossy(text).contains(name.as_str()));
        until("the endpoint to know the tasks", || Some(list()).filter(|text| known(text))).await;
        let answered = boss.ask("GET", "/kubex/v1/tasks", &[]).await;
        let pods: Vec<task::control::Pod> = serde_json::from_str(&answered.body).expect("a list of pods");
        let shown = pods.into_iter().next().expect("a pod");
        Self { pod, endpoint, boss, shown }
    }

    /// The cgroups of sessions.
    pub fn sessions(&self) -> Vec<PathBuf> {
        let base = self.pod.cgroup_base();
        let ours = cgroups::named(|name| name == base);
        let is_session =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec-"));
        ours.iter().flat_map(|cgroup| cgroups::tree(cgroup)).filter(is_session).collect()
    }

    /// Waits until there is no session, in the executor and in the endpoint's own count.
    ///
    /// # Panics
    /// There still is.
    pub async fn no_sessions(&self) {
        self.no_sessions_within(crate::fake_agent::PATIENCE).await;
    }

    /// As [`Siege::no_sessions`], within this time.
    ///
    /// # Panics
    /// There still is.
    pub async fn no_sessions_within(&self, time: Duration) {
        let ended = tokio::time::timeout(time, async {
            while !self.sessions().is_empty()
                || self.endpoint.metric(&self.boss, "exec_endpoint_sessions{").await != 0.0
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        ended.await.expect("the count of sessions to be 0 again");
    }

    /// The audit's line that closes the only session of this command.
    ///
    /// # Panics
    /// There is none.
    pub async fn closing(&self, command: &str) -> serde_json::Value {
        until("the audit's line that closes", || {
            let lines = self.endpoint.audit();
            let of = |line: &&serde_json::Value| line["command"].to_string().contains(command);
            let open = lines.iter().find(of)?;
            let close = lines.iter().find(|line| line["event"] == "close" && line["id"] == open["id"]);
            close.cloned()
        })
        .await
    }

    /// Ends it, and looks whether anything is left.
    ///
    /// # Panics
    /// Something is left.
    pub async fn end(self) {
        let Self { pod, endpoint, .. } = self;
        drop(endpoint);
        pod.end().await;
    }
}
