//! What the processes of one executor share: the pod, cgroups, folders, and what Mesos tasks expect in their environment.

use std::collections::HashSet;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use mesos::common::TaskId;
use nix::unistd::{Gid, Uid, chown};
use task::control::LAST_WORDS;

use super::account::{self, Person};
use super::output::{Outputs, Totals};
use super::sessions::Sessions;
use super::signal;
use crate::cgroup::{CgroupError, CgroupName, Manager, tree};
use crate::fetch::Cache;
use crate::pod::keeper::Keeper;
use crate::pod::protocol::{Lookup, Spawn};
use crate::spec::{Command, KillMode, Owner, Rlimit, TaskSpec};

/// How long a cgroup may take to empty after SIGKILL before it is left to the next sweep.
const LAST_BREATH: Duration = Duration::from_secs(10);

/// What the processes of one executor share.
#[derive(Debug)]
pub struct Workplace {
    /// The pod that they are in.
    pub pod: Keeper,
    /// Their cgroups.
    pub cgroups: Arc<dyn Manager>,
    /// Fetched files, shared by the host.
    pub cache: Cache,
    /// How many check commands there were: no two ever share a cgroup, however long the clearing of one takes.
    pub checks: AtomicU64,
    /// The limit of open files that this executor was given, before it raised its own: tasks that ask for none get it.
    pub open_files: Option<Rlimit>,
    /// The processes of tasks that run now, and the sessions in them.
    pub sessions: Sessions,
    /// What became of the output of all tasks.
    pub logged: Arc<Totals>,
    /// The outputs of its tasks, for those who look at them.
    pub outputs: Outputs,
    /// The executor's sandbox: a task's own is `tasks/<task id>` in it.
    pub sandbox: PathBuf,
    /// The pod instance's data folder: a task's own is `<task name>` in it, and outlives the executor.
    pub data: PathBuf,
    /// What Mesos tasks expect in their environment, the same for all tasks.
    pub environment: Vec<(String, String)>,
}

/// The folders and the account of a task, made and looked up.
#[derive(Debug, Clone)]
pub struct Place {
    /// The task's sandbox.
    pub sandbox: PathBuf,
    /// The task's account, if it has one of its own.
    pub person: Option<Person>,
}

impl Place {
    /// Who owns the task's files.
    pub fn owner(&self) -> Owner {
        let account = self.person.as_ref().map(|person| &person.account);
        let (uid, gid) = account
            .map_or_else(|| (Uid::current().as_raw(), Gid::current().as_raw()), |one| (one.uid, one.gid));
        Owner { uid, gid }
    }
}

impl Workplace {
    /// Makes a task's folders, owned by its account. Short file operations.
    ///
    /// # Errors
    /// A sentence with the step and the path.
    pub fn make_place(&self, spec: &TaskSpec) -> Result<Place, String> {
        let person = account::look_up(&spec.identity)?;
        let sandbox = sandbox(&self.sandbox, &spec.id);
        let place = Place { sandbox, person };
        // Others may look at the output of a task, not at its data.
        for (folder, mode) in [(&place.sandbox, 0o755), (&self.data_folder(spec), 0o700)] {
            make_folder(folder, mode, place.owner())?;
        }
        Ok(place)
    }

    /// The request for a process of this task: its own command, or one of its checks.
    pub fn spawn_request(
        &self,
        spec: &TaskSpec,
        place: &Place,
        command: &Command,
        more: &[(String, String)],
    ) -> Spawn {
        let identity = &spec.identity;
        let mask = |set: &[caps::Capability]| set.iter().fold(0, |mask, one| mask | one.bitmask());
        Spawn {
            id: 0,
            descriptors: 0,
            into_cgroup: false,
            file: command.file.clone(),
            lookup: Lookup::FolderAndPath,
            arguments: command.arguments.clone(),
            environment: self.task_environment(spec, place, more),
            folder: place.sandbox.to_string_lossy().into_owned(),
            account: place.person.as_ref().map(|person| person.account.clone()),
            capabilities: identity
                .capabilities
                .as_ref()
                .map(|sets| (mask(&sets.bounding), mask(&sets.ambient))),
            no_new_privileges: identity.no_new_privileges,
            rlimits: self.rlimits(spec).map(|one| (one.resource as u32, one.soft, one.hard)).collect(),
            umask: spec.umask,
            oom_score_adj: spec.oom_score_adj,
            terminal: false,
        }
    }

    fn rlimits<'a>(&'a self, spec: &'a TaskSpec) -> impl Iterator<Item = &'a Rlimit> {
        let asked = |resource| spec.rlimits.iter().any(|one| one.resource == resource);
        self.open_files.iter().filter(move |given| !asked(given.resource)).chain(&spec.rlimits)
    }

    /// Removes the base of the cgroups, and those of tasks whose processes lived on until the pod's end.
    pub fn remove_base(&self) {
        for folder in self.cgroups.base_folders() {
            if let Err(error) = tree::remove(&folder) {
                tracing::warn!(%error, "left to the next sweep");
            }
        }
    }

    fn task_environment(
        &self,
        spec: &TaskSpec,
        place: &Place,
        more: &[(String, String)],
    ) -> Vec<(String, String)> {
        let mut environment = self.environment.clone();
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
        if let Some((name, home)) = place.person.as_ref().and_then(|person| person.listed.clone()) {
            set("HOME", home);
            set("USER", name.clone());
            set("LOGNAME", name);
        }
        set("MESOS_SANDBOX", place.sandbox.to_string_lossy().into_owned());
        set("MESOS_TASK_ID", spec.id.value.clone());
        set("KUBE_EXECUTOR_DATA", self.data_folder(spec).to_string_lossy().into_owned());
        if let Some(role) = &spec.role {
            set("MESOS_ALLOCATION_ROLE", role.clone());
        }
        if spec.terminal.is_some() {
            set("TERM", "xterm".to_owned());
        }
        for (name, value) in spec.environment.iter().chain(more) {
            set(name, value.clone());
        }
        last_of_each(environment)
    }

    fn data_folder(&self, spec: &TaskSpec) -> PathBuf {
        self.data.join(crate::cgroup::detect::folder_name(&spec.name.0))
    }

    /// [`Workplace::clear`] for a task whose process has ended, its sessions first.
    pub async fn clear_task(self: Arc<Self>, id: TaskId, mode: KillMode) {
        self.end_sessions(&id, mode).await;
        self.sessions.forget(&id);
        self.clear(CgroupName::task(&id), mode).await;
    }

    /// Lets the sessions in a task whose process has ended report their own end for a moment, then ends them. What else
    /// is in the task does not get that moment. Without sessions there is nothing to wait for.
    pub async fn end_sessions(self: &Arc<Self>, id: &TaskId, mode: KillMode) {
        if !self.sessions.are_under_way(id) {
            return;
        }
        if mode == KillMode::Cgroup {
            let (place, name) = (self.clone(), CgroupName::task(id));
            let killed = tokio::task::spawn_blocking(move || signal::kill_own(&*place.cgroups, &name)).await;
            if let Ok(Err(error)) = killed {
                tracing::warn!(task = %id, error, "kill what an ended process left beside sessions");
            }
        }
        let _ = tokio::time::timeout(LAST_WORDS, self.sessions.ended(id)).await;
        self.sessions.cut(id);
        if tokio::time::timeout(LAST_BREATH, self.sessions.ended(id)).await.is_err() {
            tracing::warn!(task = %id, "sessions in an ended task do not end");
        }
    }

    /// Kills what a task left in its cgroup and removes the cgroup, unless what is there is to live on.
    pub async fn clear(self: Arc<Self>, name: CgroupName, mode: KillMode) {
        let until = tokio::time::Instant::now() + LAST_BREATH;
        let mut pause = Duration::from_millis(1);
        loop {
            let (place, cgroup) = (self.clone(), name.clone());
            let cleared =
                tokio::task::spawn_blocking(move || clear_once(&*place.cgroups, &cgroup, mode)).await;
            match cleared {
                Ok(Ok(())) => return,
                Ok(Err(error)) if mode == KillMode::Process => {
                    return tracing::debug!(cgroup = %name, %error, "processes of an ended task live on, as it asked");
                }
                Ok(Err(error)) if tokio::time::Instant::now() >= until => {
                    return tracing::warn!(cgroup = %name, %error, "left to the next sweep");
                }
                Ok(Err(_)) => {}
                Err(error) => return tracing::error!(cgroup = %name, %error, "clear a cgroup"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(100));
        }
    }
}

/// A task's own sandbox, in its executor's.
pub fn sandbox(executors: &Path, id: &TaskId) -> PathBuf {
    executors.join("tasks").join(CgroupName::task(id).as_str())
}

/// Of variables of one name, the last one.
fn last_of_each(mut environment: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut later = HashSet::new();
    let kept: Vec<bool> = environment.iter().rev().map(|(name, _)| later.insert(name.clone())).collect();
    let mut kept = kept.into_iter().rev();
    environment.retain(|_| kept.next().unwrap_or(true));
    environment
}

fn make_folder(folder: &Path, mode: u32, Owner { uid, gid }: Owner) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("create {}: {error}", folder.display());
    if let Some(parent) = folder.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    chown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|errno| format!("give {} to user {uid}: {errno}", folder.display()))
}

fn clear_once(cgroups: &dyn Manager, name: &CgroupName, mode: KillMode) -> Result<(), CgroupError> {
    if mode == KillMode::Cgroup {
        cgroups.kill(name)?;
    }
    cgroups.remove(name)
}
