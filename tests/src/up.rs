//! `make up`: a Kubernetes API on a real Mesos, told while it happens.
//!
//! ```text
//!  rig -> framework -> exec-endpoint-0, etcd-0, kube-apiserver-0, each until ready -> kubectl get --raw /readyz
//!      -> kubex task list, kubectl get pods by the endpoint -> until Ctrl-C
//!  end: tasks in reverse order -> executors -> framework -> rig -> what is left
//! ```

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use mesos::common::{ExecutorId, ExecutorInfo, FrameworkId, TaskId, TaskInfo, TaskState, TaskStatus};
use nix::unistd::User;
use task::settings::{Capabilities, Check, CheckTls, HttpCheck, Restart, TaskSettings};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::describe::{Program, TaskInfoExt as _, argv_task, built};
use crate::endpoint::{Files, POLICY};
use crate::framework::{self, Framework};
use crate::kubernetes::{ApiServer, Binaries, Etcd, kubectl};
use crate::leftovers::Leftovers;
use crate::log::{Heard, Log};
use crate::rig::{self, Rig, free_ports, tail};

/// Whom the endpoint runs as; `scripts/install` makes it.
const EXEC_USER: &str = "exec-endpoint";
/// How long a task may take to be ready.
const BECOMES_READY: Duration = Duration::from_secs(120);
/// How long a task or an executor may take to end.
const ENDS: Duration = Duration::from_secs(30);

/// What is to come up.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kube-executor.
    pub executor: PathBuf,
    /// Kubernetes's version.
    pub kubernetes_version: String,
    /// Where the folder for everything is made; the system's folder for temporary files when `None`.
    pub parent: Option<PathBuf>,
    /// When it ends.
    pub ending: Ending,
    /// What becomes of the folder.
    pub folder: Folder,
}

/// When it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// When it is asked to.
    WhenAsked,
    /// As soon as everything has been up.
    OnceUp,
}

/// What becomes of the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folder {
    /// It goes when all went well.
    Removed,
    /// It stays.
    Kept,
}

/// Brings everything up and ends it again. `requests` counts how often the user asked for the end; the second time
/// everything is ended by force.
///
/// # Errors
/// Something did not come up, did not end as it should, or is left.
pub async fn run(options: &Options, requests: watch::Receiver<u32>) -> anyhow::Result<()> {
    let binaries = Binaries::built(&options.kubernetes_version, &["etcd", "kube-apiserver", "kubectl"])?;
    let mut teller = Teller::new();
    let mut rig =
        Rig::start(rig::Options { parent: options.parent.clone(), ..rig::Options::default() }).await?;
    std::fs::create_dir(state_folder(&rig)).context("create the folder for data")?;
    rig.marks().add_state(&state_folder(&rig));
    let leftovers = Leftovers::before(rig.marks());
    teller.say(format!("Mesos master and agent at {}, in {}", rig.master(), rig.folder().display()));

    let framework = Framework::subscribe(
        rig.master(),
        framework::Options { name: "up".to_owned(), ..Default::default() },
    );
    let result = match framework.await {
        Ok(framework) => {
            let cluster =
                Cluster { framework, launched: Vec::new(), teller: &mut teller, requests: requests.clone() };
            cluster.live(options, &binaries, &rig).await
        }
        Err(error) => Err(error),
    };

    rig.stop();
    if *requests.borrow() > 1 {
        rig.marks().clear()?;
    }
    let left = leftovers.new_ones().await;
    teller.say(left.to_string());
    let result = match result {
        Ok(()) if !left.is_empty() => bail!("something is left"),
        result => result,
    };
    if options.folder == Folder::Kept || result.is_err() {
        let folder = rig.end_and_keep()?;
        teller.say(format!("{} stays", folder.display()));
    }
    result
}

fn state_folder(rig: &Rig) -> PathBuf {
    rig.folder().join("state")
}

/// What came up so far.
struct Cluster<'a> {
    framework: Framework,
    launched: Vec<(ExecutorInfo, TaskId)>,
    teller: &'a mut Teller,
    requests: watch::Receiver<u32>,
}

/// How a wait came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// As hoped for.
    GoOn,
    /// The user asked for the end.
    End,
}

impl Cluster<'_> {
    async fn live(mut self, options: &Options, binaries: &Binaries, rig: &Rig) -> anyhow::Result<()> {
        let came_up = self.come_up(options, binaries, rig).await;
        if let Err(error) = &came_up {
            self.say(format!("failed: {error:#}"));
        }
        let mut requests = self.requests.clone();
        let ended = tokio::select! {
            result = self.end() => result,
            _ = requests.wait_for(|&count| count > 1) => Err(anyhow!("ended by force")),
        };
        came_up.and(ended)
    }

    /// Returns when everything is to end.
    async fn come_up(&mut self, options: &Options, binaries: &Binaries, rig: &Rig) -> anyhow::Result<()> {
        let program = Program::kube_executor(&options.executor, &state_folder(rig))
            .argument("--exec-user")
            .argument(EXEC_USER);
        let endpoint = self.endpoint(rig)?;
        let task = endpoint_task(&endpoint, &state_folder(rig).join("control"), self.framework.id())?;
        if self.launch(rig, program.pod("exec-endpoint-0"), task).await? == Next::End {
            return Ok(());
        }
        let etcd = Etcd::on_free_ports()?;
        let task = restarted(etcd.task(binaries, "etcd-0-peer"))?;
        if self.launch(rig, program.pod("etcd-0"), task).await? == Next::End {
            return Ok(());
        }
        let apiserver = ApiServer::new(&rig.folder().join("pki"))?;
        let task = restarted(apiserver.task(binaries, "kube-apiserver-0-instance", &etcd))?;
        if self.launch(rig, program.pod("kube-apiserver-0"), task).await? == Next::End {
            return Ok(());
        }

        let kubeconfig = rig.folder().join("kubeconfig");
        apiserver.write_kubeconfig(&kubeconfig)?;
        self.say("kubectl get --raw /readyz");
        let answer = kubectl(binaries, &kubeconfig, &["get", "--raw", "/readyz"]).await?;
        self.teller.plain(answer.trim());
        if answer.trim() != "ok" {
            bail!("/readyz answered {answer:?}");
        }
        let operator = endpoint.client("operator", "ops")?;
        for (what, command) in [
            ("kubex task list", operator.kubex(&["task", "list"])),
            ("kubectl get pods --all-namespaces", {
                operator.kubectl(Path::new(&binaries.path("kubectl")), &["get", "pods", "--all-namespaces"])
            }),
            ("kubex task exec etcd-0-peer -- sh -c 'exit 0'", {
                operator.kubex(&["task", "exec", "etcd-0-peer", "--", "sh", "-c", "exit 0"])
            }),
        ] {
            self.say(what);
            let told = output_of(command).await.with_context(|| what.to_owned())?;
            self.teller.plain(told.trim_end());
        }
        let up = "exec-endpoint-0, etcd-0 and kube-apiserver-0 are up";
        match options.ending {
            Ending::OnceUp => self.teller.plain(up),
            Ending::WhenAsked => {
                self.teller.plain(&format!("{up}; Ctrl-C ends them"));
                self.teller.plain("the Kubernetes API:");
                self.teller.plain(&format!(
                    "  {} --kubeconfig {} get namespaces",
                    binaries.path("kubectl"),
                    kubeconfig.display()
                ));
                self.teller.plain("the tasks, also when that API is down:");
                self.teller.plain(&format!(
                    "  {} --config {} task exec -it etcd-0-peer pkill etcd",
                    built("kubex")?.display(),
                    operator.config().display()
                ));
                self.teller.plain(&format!(
                    "  {} --kubeconfig {} get pods --all-namespaces",
                    binaries.path("kubectl"),
                    operator.kubeconfig().display()
                ));
                self.stay().await?;
            }
        }
        Ok(())
    }

    fn endpoint(&self, rig: &Rig) -> anyhow::Result<Files> {
        let folder = rig.folder().join("exec-endpoint");
        std::fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        // The endpoint's user passes through it.
        std::fs::set_permissions(rig.folder(), std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("open {} to all", rig.folder().display()))?;
        let user = User::from_name(EXEC_USER)
            .with_context(|| format!("look up the user {EXEC_USER}"))?
            .with_context(|| format!("there is no user {EXEC_USER}: run `make setup`"))?;
        Files::new(&folder, user.uid.as_raw(), free_ports(1)?[0], POLICY)
    }

    /// Launches a task in a pod instance of its own and waits until it is ready.
    async fn launch(&mut self, rig: &Rig, pod: ExecutorInfo, task: TaskInfo) -> anyhow::Result<Next> {
        if *self.requests.borrow() > 0 {
            return Ok(Next::End);
        }
        let (id, name) = (task.task_id.clone(), task.name.clone());
        self.say(format!("launch {name}"));
        // Not to be interrupted: what the master has taken is to be ended later.
        self.framework.launch_group(&pod, vec![task]).await?;
        self.launched.push((pod.clone(), id.clone()));
        let ready = |log: &Log| match log.end(&id) {
            Some(end) => Some(Err(anyhow!("{name} is {} before it was ready", end.state.name()))),
            None => (log.last(&id)?.label("ready") == Some("true")).then_some(Ok(Next::GoOn)),
        };
        let mut requests = self.requests.clone();
        let what = format!("{name} to be ready");
        let became = tokio::select! {
            became = self.until(BECOMES_READY, &what, ready) => became.flatten(),
            _ = requests.wait_for(|&count| count > 0) => Ok(Next::End),
        };
        if became.is_err() {
            output(rig, &pod).iter().for_each(|text| self.teller.plain(text));
        }
        became
    }

    /// Tells what happens until the user asks for the end. No task should end before.
    async fn stay(&mut self) -> anyhow::Result<()> {
        let ids: Vec<TaskId> = self.launched.iter().map(|(_, id)| id.clone()).collect();
        let ended = |log: &Log| ids.iter().find(|id| log.end(id).is_some()).cloned();
        tokio::select! {
            ended = self.teller.follow(&self.framework, ended) => bail!("{} ended by itself", short(&ended)),
            _ = self.requests.wait_for(|&count| count > 0) => Ok(()),
        }
    }

    /// Ends everything in order, going on where something does not end as it should.
    async fn end(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        while let Some((pod, task)) = self.launched.pop() {
            result = result.and(self.end_task(&task).await);
            result = result.and(self.end_executor(&pod.executor_id).await);
        }
        self.say("tear the framework down");
        result.and(self.framework.teardown().await)
    }

    async fn end_task(&mut self, task: &TaskId) -> anyhow::Result<()> {
        if self.framework.log().end(task).is_some() {
            return Ok(());
        }
        self.say(format!("kill {}", short(task)));
        self.framework.kill(task).await?;
        let end = |log: &Log| log.end(task).map(|status| status.state.clone());
        let state = self.until(ENDS, &format!("{} to end", short(task)), end).await?;
        match state.known() {
            Some(TaskState::Killed) => Ok(()),
            _ => bail!("{} was killed and is {}", short(task), state.name()),
        }
    }

    async fn end_executor(&mut self, executor: &ExecutorId) -> anyhow::Result<()> {
        if self.framework.log().failure(executor).is_some() {
            return Ok(());
        }
        self.framework.shutdown_executor(executor).await?;
        let end = |log: &Log| log.failure(executor).map(drop);
        self.until(ENDS, &format!("executor {executor} to end"), end).await
    }

    /// Tells what was heard meanwhile, and then this.
    fn say(&mut self, text: impl AsRef<str>) {
        self.teller.tell(&self.framework.log());
        self.teller.say(text);
    }

    async fn until<T>(
        &mut self,
        patience: Duration,
        what: &str,
        found: impl Fn(&Log) -> Option<T>,
    ) -> anyhow::Result<T> {
        let following = self.teller.follow(&self.framework, found);
        timeout(patience, following).await.with_context(|| format!("waited {patience:?} in vain for {what}"))
    }
}

/// The endpoint as a task: it serves this framework's executors only.
fn endpoint_task(files: &Files, control: &Path, framework: &FrameworkId) -> anyhow::Result<TaskInfo> {
    let program = built("exec-endpoint")?.to_string_lossy().into_owned();
    let framework = ["--framework".to_owned(), framework.value.clone()];
    let command = [vec![program], files.arguments(control), framework.to_vec()].concat();
    let tls = CheckTls {
        ca: Some(files.authority().certificate().to_string_lossy().into_owned()),
        ..CheckTls::default()
    };
    let check = |role: &str, path: &str| Check {
        role: role.to_owned(),
        http: Some(HttpCheck {
            port: files.port(),
            path: Some(path.to_owned()),
            tls: Some(tls.clone()),
            ..HttpCheck::default()
        }),
        interval_seconds: Some(0.5),
        timeout_seconds: Some(5.0),
        ..Check::default()
    };
    let settings = TaskSettings {
        checks: vec![
            check("readiness", "/readyz"),
            Check { grace_period_seconds: Some(30.0), ..check("liveness", "/livez") },
        ],
        capabilities: Some(Capabilities::default()),
        no_new_privileges: true,
        ..TaskSettings::default()
    };
    let mut task = argv_task("exec-endpoint-0-endpoint", &command).cpus(0.1).mem(128.0).settings(&settings);
    task.command.get_or_insert_default().user = Some(EXEC_USER.to_owned());
    restarted(task)
}

/// The task, restarted in place whenever it ends: there is no plan here that would do it.
fn restarted(task: TaskInfo) -> anyhow::Result<TaskInfo> {
    let data = task.data.as_ref().map_or(b"{}".as_slice(), |data| &data.0);
    let mut settings: TaskSettings = serde_json::from_slice(data).context("read a task's settings")?;
    settings.restart = Some(Restart { policy: Some("always".to_owned()), ..Restart::default() });
    Ok(task.settings(&settings))
}

async fn output_of(mut command: std::process::Command) -> anyhow::Result<String> {
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The ends of what an executor and its tasks wrote.
fn output(rig: &Rig, pod: &ExecutorInfo) -> Vec<String> {
    let is_its = |sandbox: &&PathBuf| sandbox.iter().any(|part| part == pod.executor_id.as_str());
    let sandboxes = rig.sandboxes();
    let Some(sandbox) = sandboxes.iter().find(is_its) else {
        return Vec::new();
    };
    let tasks =
        std::fs::read_dir(sandbox.join("tasks")).into_iter().flatten().flatten().map(|task| task.path());
    let folders = std::iter::once(sandbox.clone()).chain(tasks);
    let files = folders.flat_map(|folder| ["stdout", "stderr"].map(|file| folder.join(file)));
    let shown = |file: PathBuf| match tail(&file, 15) {
        text if text.is_empty() => None,
        text => Some(format!("{}:\n{text}", file.display())),
    };
    files.filter_map(shown).collect()
}

/// Prints one line for each thing that happens, with the seconds since the start.
#[derive(Debug)]
struct Teller {
    began: Instant,
    told: usize,
    last: std::collections::BTreeMap<TaskId, TaskStatus>,
}

impl Teller {
    fn new() -> Self {
        Self { began: Instant::now(), told: 0, last: std::collections::BTreeMap::new() }
    }

    fn say(&self, text: impl AsRef<str>) {
        self.line(Instant::now(), text.as_ref());
    }

    fn line(&self, at: Instant, text: &str) {
        self.plain(&format!("{:6.1} s  {text}", at.duration_since(self.began).as_secs_f64()));
    }

    fn plain(&self, text: &str) {
        // Nobody reads any more: that ends nothing.
        drop(writeln!(std::io::stdout().lock(), "{text}"));
    }

    /// Tells what the framework hears, until `found` finds something.
    async fn follow<T>(&mut self, framework: &Framework, found: impl Fn(&Log) -> Option<T>) -> T {
        let mut watch = framework.watch();
        loop {
            let log = watch.borrow_and_update().clone();
            self.tell(&log);
            if let Some(value) = found(&log) {
                return value;
            }
            if watch.changed().await.is_err() {
                // The framework, which is borrowed here, holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }

    fn tell(&mut self, log: &Log) {
        for entry in &log.entries()[self.told..] {
            if let Some(news) = self.news(&entry.heard) {
                self.line(entry.at, &news);
            }
        }
        self.told = log.entries().len();
    }

    fn news(&mut self, heard: &Heard) -> Option<String> {
        match heard {
            Heard::Status(status) => {
                let last = self.last.insert(status.task_id.clone(), (**status).clone());
                let news = news(last.as_ref(), status)?;
                Some(format!("{}: {news}", short(&status.task_id)))
            }
            Heard::Failure(failure) => Some(match &failure.executor_id {
                Some(executor) => format!("executor {} has ended", name(executor.as_str())),
                None => "the agent is gone".to_owned(),
            }),
            other => Some(other.to_string()),
        }
    }
}

/// What a status says that the one before did not.
fn news(last: Option<&TaskStatus>, now: &TaskStatus) -> Option<String> {
    let ready = |status: &TaskStatus| status.label("ready") == Some("true");
    let mut news = Vec::new();
    if last.is_none_or(|last| last.state != now.state) {
        news.push(now.state.name().to_owned());
    }
    if let Some(healthy) = now.healthy
        && last.is_none_or(|last| last.healthy != now.healthy)
    {
        news.push(if healthy { "healthy" } else { "unhealthy" }.to_owned());
    }
    if last.is_some_and(ready) != ready(now) {
        news.push(if ready(now) { "ready" } else { "not ready" }.to_owned());
    }
    if let Some(message) = &now.message
        && last.is_none_or(|last| last.message != now.message)
    {
        news.push(message.clone());
    }
    (!news.is_empty()).then(|| news.join(", "))
}

fn short(task: &TaskId) -> &str {
    name(task.as_str())
}

/// What is before the uuid.
fn name(id: &str) -> &str {
    id.split_once("__").map_or(id, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(json: serde_json::Value) -> TaskStatus {
        let mut whole = json!({"task_id": {"value": "a__1"}, "state": "TASK_RUNNING"});
        whole.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let ready = |value: &str| json!({"labels": [{"key": "ready", "value": value}]});
        let plain = status(json!({}));
        assert_eq!(news(None, &plain).as_deref(), Some("TASK_RUNNING"));
        assert_eq!(news(Some(&plain), &plain), None);
        let healthy = status(json!({"healthy": true, "labels": ready("true"), "message": "as it should"}));
        assert_eq!(news(Some(&plain), &healthy).as_deref(), Some("healthy, ready, as it should"));
        let not_ready = status(json!({"healthy": true, "labels": ready("false"), "message": "as it should"}));
        assert_eq!(news(Some(&healthy), &not_ready).as_deref(), Some("not ready"));
        let ended = status(json!({"state": "TASK_KILLED"}));
        assert_eq!(news(Some(&not_ready), &ended).as_deref(), Some("TASK_KILLED"));
    }
}
