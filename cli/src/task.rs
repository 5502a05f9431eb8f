//! `kubex task`: the tasks of a host.

mod attach;
mod exec;
mod kill;
mod list;
mod logs;
mod metrics;
mod top;

use std::time::{SystemTime, UNIX_EPOCH};

use clap::Subcommand;
use hyper::StatusCode;
use task::control::{Pod, Task};

use crate::arguments::Global;
use crate::client::Client;
use crate::config;
use crate::failure::Failure;

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The tasks of this host: pod, task, state, health, pid, restarts, processor time, memory, age
    List,
    /// Run a command in a task: in its cgroup, namespaces and folder, with its user and environment
    Exec(exec::Arguments),
    /// See a task's output from now on, and type into its terminal
    Attach(attach::Arguments),
    /// A task's output so far
    Logs(logs::Arguments),
    /// Send a task's first process a signal
    Kill(kill::Arguments),
    /// What tasks have used so far
    Metrics(metrics::Arguments),
    /// What tasks use now
    Top,
}

/// Does it.
pub(crate) fn run(global: &Global, verb: Verb) -> Result<u8, Failure> {
    let client = Client::new(&config::target(global)?)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::Local { verb: "start tokio", source })?;
    let done = runtime.block_on(async {
        match verb {
            Verb::List => list::run(&client, global.output).await,
            Verb::Exec(arguments) => exec::run(&client, arguments).await,
            Verb::Attach(arguments) => attach::run(&client, &arguments).await,
            Verb::Logs(arguments) => logs::run(&client, &arguments).await,
            Verb::Kill(arguments) => kill::run(&client, &arguments).await,
            Verb::Metrics(arguments) => metrics::run(&client, &arguments, global.output).await,
            Verb::Top => top::run(&client, global.output).await,
        }
    });
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    done
}

/// An unknown task's failure, with the names that are near to it.
async fn with_near_names(failure: Failure, client: &Client, name: &str) -> Failure {
    let Failure::Refused { status: StatusCode::NOT_FOUND, message, .. } = failure else {
        return failure;
    };
    let listed = async { client.connect().await?.pods().await };
    // Somebody who may not list gets no names.
    let near = listed.await.map(|pods| near_names(name, &pods)).unwrap_or_default();
    Failure::Refused { status: StatusCode::NOT_FOUND, message, near }
}

/// Up to three names like the one given, the nearest first.
fn near_names(name: &str, pods: &[Pod]) -> Vec<String> {
    let mut names: Vec<(usize, &str)> = pods
        .iter()
        .flat_map(|pod| &pod.tasks)
        .map(|task| {
            let contained = task.name.contains(name) || name.contains(&task.name);
            let distance = if contained { 0 } else { strsim::damerau_levenshtein(name, &task.name) };
            (distance, task.name.as_str())
        })
        .filter(|&(distance, name)| distance <= 1 + name.len() / 3)
        .collect();
    names.sort_unstable();
    names.dedup();
    names.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
}

/// The task meant: by its name, its id, or a unique prefix of either, as the endpoint resolves it.
fn resolve<'a>(name: &str, pods: &'a [Pod]) -> Result<(&'a Pod, &'a Task), Failure> {
    let all = || pods.iter().flat_map(|pod| pod.tasks.iter().map(move |task| (pod, task)));
    let whole: Vec<_> = all().filter(|(_, task)| task.name == name || task.id.as_str() == name).collect();
    let found = if whole.is_empty() {
        all().filter(|(_, task)| task.name.starts_with(name) || task.id.as_str().starts_with(name)).collect()
    } else {
        whole
    };
    match found.as_slice() {
        [only] => Ok(*only),
        [] => Err(Failure::Refused {
            status: StatusCode::NOT_FOUND,
            message: format!("there is no task {name:?} here"),
            near: near_names(name, pods),
        }),
        several => {
            let names: Vec<&str> = several.iter().map(|(_, task)| task.name.as_str()).collect();
            let message = format!("{name:?} may be any of {}", names.join(", "));
            Err(Failure::Refused { status: StatusCode::CONFLICT, message, near: Vec::new() })
        }
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pod with tasks of these names.
    pub(crate) fn pod(name: &str, tasks: &[&str]) -> Pod {
        let task = |name: &&str| {
            serde_json::json!({
                "id": {"value": format!("{name}__1")}, "name": name, "state": "TASK_RUNNING", "since": 0,
                "launched_at": 1000, "started_at": 1000, "last_end": null, "healthy": true, "ready": true, "restarts": 2,
                "reason": null, "message": null, "pid": 42, "user": null, "command": ["x"], "terminal": false,
                "resources": [], "sandbox": "/s",
                "usage": {"cpu_micros": 1_500_000, "memory_bytes": 12_582_912, "processes": 3}
            })
        };
        let tasks: Vec<_> = tasks.iter().map(task).collect();
        serde_json::from_value(serde_json::json!({
            "name": name, "framework_id": "f", "framework": "kubernetes", "agent_id": "a", "hostname": "h",
            "executor_id": "e", "container_id": "c", "address": "127.0.0.1", "own_network": false, "started_at": 0,
            "sandbox": "/s", "tasks": tasks
        }))
        .unwrap()
    }

    #[test]
    fn a_task_is_found_by_name_id_or_a_unique_prefix() {
        let pods = [pod("etcd-0", &["etcd-0-peer", "etcd-0-peer-2"]), pod("web", &["web-0-server"])];
        let name = |given| resolve(given, &pods).map(|(_, task)| task.name.clone());
        assert_eq!(name("etcd-0-peer").unwrap(), "etcd-0-peer");
        assert_eq!(name("etcd-0-peer__1").unwrap(), "etcd-0-peer");
        assert_eq!(name("we").unwrap(), "web-0-server");
        assert_eq!(
            name("etcd").unwrap_err().to_string(),
            "\"etcd\" may be any of etcd-0-peer, etcd-0-peer-2"
        );
        assert!(matches!(name("x"), Err(Failure::Refused { status: StatusCode::NOT_FOUND, .. })));
    }

    #[test]
    fn near_names_are_few_and_the_nearest_comes_first() {
        let pods = [pod("p", &["etcd-0-peer", "etcd-1-peer", "kube-scheduler", "kube-proxy"])];
        assert_eq!(near_names("etcd-0-per", &pods), ["etcd-0-peer", "etcd-1-peer"]);
        assert_eq!(near_names("scheduler", &pods), ["kube-scheduler"]);
        assert!(near_names("zzz", &pods).is_empty());
    }
}
