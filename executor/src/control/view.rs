//! The pod and its tasks as they are, and every change.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use mesos::common::TaskId;
use task::connection::{Receiver, Sender};
use task::control::{Answer, Pod, Refusal, Task, Usage, Wish};

use super::{Source, last, rights};
use crate::cgroup::{CgroupName, Manager};

/// The longest address of an endpoint that becomes a label.
const LONGEST_URL: usize = 2048;

/// What never changes of a pod.
#[derive(Debug, Clone)]
pub struct About {
    /// Its name (`etcd-0`).
    pub name: String,
    /// The framework's id.
    pub framework_id: String,
    /// The framework's name.
    pub framework: String,
    /// The agent's id.
    pub agent_id: String,
    /// The agent's host.
    pub hostname: String,
    /// The executor's id.
    pub executor_id: String,
    /// The executor's container.
    pub container_id: String,
    /// Its address: its own, or the host's.
    pub address: IpAddr,
    /// Whether that address is its own.
    pub own_network: bool,
    /// When the executor started, milliseconds since 1970.
    pub started_at: u64,
    /// The executor's sandbox on the host.
    pub sandbox: String,
}

impl About {
    fn with(&self, tasks: Vec<Task>) -> Pod {
        let about = self.clone();
        Pod {
            name: about.name,
            framework_id: about.framework_id,
            framework: about.framework,
            agent_id: about.agent_id,
            hostname: about.hostname,
            executor_id: about.executor_id,
            container_id: about.container_id,
            address: about.address,
            own_network: about.own_network,
            started_at: about.started_at,
            sandbox: about.sandbox,
            tasks,
        }
    }
}

type Tasks = BTreeMap<TaskId, Arc<Task>>;

/// Answers with the pod, its tasks, and what these use now.
///
/// # Errors
/// The peer has gone.
pub async fn list(source: &Source, sender: &mut Sender) -> io::Result<()> {
    let shown: Vec<Task> =
        source.board.borrow().shown.tasks().values().map(|task| Task::clone(task)).collect();
    let workplace = source.workplace.clone();
    let measured = move || {
        let measure = |mut task: Task| {
            task.usage = usage(&*workplace.cgroups, &task);
            task
        };
        shown.into_iter().map(measure).collect()
    };
    let tasks = tokio::task::spawn_blocking(measured).await?;
    last(sender, &Answer::Pod(Box::new(source.about.with(tasks)))).await
}

/// What a task uses. One that has ended, or has no cgroup yet, uses nothing that could be told.
fn usage(cgroups: &dyn Manager, task: &Task) -> Option<Usage> {
    if task.state.known().is_some_and(|state| state.is_terminal()) {
        return None;
    }
    let name = CgroupName::task(&task.id);
    let stats = cgroups.stats(&name).ok()?;
    let reclaimable = cgroups.reclaimable(&name).unwrap_or(0);
    Some(Usage {
        cpu_micros: u64::try_from(stats.cpu.as_micros()).unwrap_or(u64::MAX),
        memory_bytes: stats.memory.saturating_sub(reclaimable),
        processes: stats.pids,
    })
}

/// An endpoint's address that may become the value of a label: people open it, so it is `https://host:port` and no more.
///
/// # Errors
/// A refusal.
pub fn check_url(url: Option<String>) -> Result<Option<String>, Refusal> {
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]%".contains(&byte);
    let usable = |url: &String| {
        let host = url.strip_prefix("https://").map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        url.len() <= LONGEST_URL && host.is_some_and(|host| !host.is_empty() && host.bytes().all(is_host))
    };
    if url.as_ref().is_none_or(usable) {
        Ok(url)
    } else {
        Err(rights::invalid("the url is not of the form https://host:port"))
    }
}

/// Tells the pod, then every change, until the peer closes. A peer that reads slowly is told the latest state only.
///
/// # Errors
/// The peer has gone, or speaks nonsense.
pub async fn watch(
    source: &Source,
    url: Option<String>,
    mut sender: Sender,
    mut receiver: Receiver,
) -> io::Result<()> {
    let _connected = url.map(|url| source.endpoints.clone().connect(url));
    let mut board = source.board.clone();
    let mut told = board.borrow_and_update().shown.tasks().clone();
    let pod = source.about.with(told.values().map(|task| Task::clone(task)).collect());
    sender.send(&Answer::Pod(Box::new(pod)), &[]).await?;
    loop {
        tokio::select! {
            changed = board.changed() => if changed.is_err() {
                return Ok(());
            },
            wish = receiver.receive::<Wish>() => match wish? {
                // There is nothing to be wished of a watch.
                Some(_) => continue,
                None => return Ok(()),
            },
        }
        let changes = {
            let board = board.borrow_and_update();
            changes(&mut told, board.shown.tasks())
        };
        for change in changes {
            sender.send(&change, &[]).await?;
        }
    }
}

/// What has to be told to somebody who knows `told`; then it has been.
fn changes(told: &mut Tasks, now: &Tasks) -> Vec<Answer> {
    let mut changes = Vec::new();
    told.retain(|id, _| {
        let stays = now.contains_key(id);
        if !stays {
            changes.push(Answer::Gone(id.clone()));
        }
        stays
    });
    for (id, task) in now {
        let known = told.get(id);
        if known.is_some_and(|known| Arc::ptr_eq(known, task) || known == task) {
            continue;
        }
        told.insert(id.clone(), task.clone());
        changes.push(Answer::Changed(Box::new(Task::clone(task))));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesos::common::TaskState;

    fn task(id: &str, restarts: u32) -> (TaskId, Arc<Task>) {
        let task = Task {
            id: TaskId::new(id),
            name: id.to_owned(),
            state: TaskState::Running.into(),
            since: 0,
            launched_at: 0,
            started_at: None,
            last_end: None,
            healthy: None,
            ready: None,
            restarts,
            reason: None,
            message: None,
            pid: None,
            user: None,
            command: Vec::new(),
            terminal: false,
            resources: Vec::new(),
            sandbox: String::new(),
            usage: None,
        };
        (task.id.clone(), Arc::new(task))
    }

    #[test]
    fn a_watcher_is_told_what_differs_from_what_it_knows_and_nothing_twice() {
        let mut told = Tasks::from([task("a", 0), task("b", 0), task("c", 0)]);
        let now = Tasks::from([task("b", 1), task("c", 0), task("d", 0)]);
        let changed = |id: &str| Answer::Changed(Box::new(Task::clone(&now[&TaskId::new(id)])));
        let expected = [Answer::Gone(TaskId::new("a")), changed("b"), changed("d")];
        assert_eq!(changes(&mut told, &now), expected);
        assert_eq!(told, now);
        assert_eq!(changes(&mut told, &now), []);
    }

    #[test]
    fn an_address_that_could_not_be_a_label_is_refused() {
        assert!(check_url(None).is_ok());
        assert!(check_url(Some("https://host:8443".to_owned())).is_ok());
        assert!(check_url(Some("https://[::1]:8443/".to_owned())).is_ok());
        let long = format!("https://{}", "x".repeat(3000));
        for bad in
            ["", "https://", "https://a b", "https://a\nb", "https://a/b", "http://a", "javascript:x", &long]
        {
            assert!(check_url(Some(bad.to_owned())).is_err(), "{bad:.20}");
        }
    }
}
