//! One executor, from its start to its end: what the modules need of each other, put together.
//!
//! ```text
//!  sweep | subscribe -> SUBSCRIBED: ids, pod settings -> cgroups, lease, pod, publisher -> driver runs -> end, lease released
//! ```

use std::fs::{self, DirBuilder};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use mesos::common::ContainerId;
use mesos::executor::Subscribed;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::agent::AgentEvent;
use crate::agent::environment::AgentEnvironment;
use crate::agent::session::{Session, SessionConfig};
use crate::cgroup::detect;
use crate::config::Flags;
use crate::control;
use crate::control::place::{ExecUser, SocketPlace};
use crate::control::view::About;
use crate::fetch::{self, Cache};
use crate::metrics;
use crate::pod::keeper::Keeper;
use crate::pod::network::Networks;
use crate::process::output::Outputs;
use crate::process::sessions::Sessions;
use crate::process::workplace::Workplace;
use crate::spec::pod::{self, BridgeSpec, Network, PodSpec};
use crate::spec::{Rlimit, SpecError};
use crate::status::{self, Origin, Publisher};
use crate::supervisor::ExitCause;
use crate::supervisor::driver::{Driver, Ended};
use crate::sweep::{BridgeRecord, Lease, Record, SweepReport};

/// Where programs are looked up if the executor's own environment has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Serves the agent of this environment until the executor is to end.
///
/// # Errors
/// What could not be set up; the agent then sees the executor exit.
pub async fn serve(flags: &Flags, environment: AgentEnvironment) -> anyhow::Result<Ended> {
    let open_files = raise_open_files();
    nix::sys::prctl::set_child_subreaper(true).context("become the reaper of the pod's init")?;
    let mut terminated = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    open_folders(flags, &environment)?;
    let state = flags.state.clone();
    let sweeping = tokio::task::spawn_blocking(move || sweep(&state));
    let config = SessionConfig::new(&environment).context("use the TLS files that the environment names")?;
    let (session, mut agent) = Session::start(config);
    let Some(subscribed) = first_subscription(&mut agent, &mut terminated).await else {
        let unacknowledged = session.drain(environment.shutdown_grace_period).await;
        return Ok(Ended { cause: ExitCause::Shutdown, unacknowledged });
    };
    let report = sweeping.await.context("sweep")?;
    if !report.is_empty() {
        tracing::warn!(%report, "swept what dead executors left");
    }
    let made = Made::new(flags, &environment, &subscribed, open_files)?;
    let publisher = Publisher::new(made.origin);
    let run_folder = made.lease.folder().to_owned();
    let source = metrics::Source {
        board: publisher.board(),
        counters: session.counters(),
        workplace: made.workplace.clone(),
    };
    let serving = metrics::serve(&run_folder, flags.metrics_port, source);
    let control = control::Source {
        workplace: made.workplace.clone(),
        board: publisher.board(),
        endpoints: publisher.endpoints(),
        about: made.about,
    };
    let control = listen(flags, made.socket, control);
    let collecting = tokio::spawn(collect(made.workplace.clone(), flags.cache_bytes(), flags.cache_age()));
    let grace_period = environment.shutdown_grace_period;
    let framework = &subscribed.framework_info;
    let driver =
        Driver::new(made.workplace.clone(), publisher, session, framework, flags.idle(), grace_period)
            .refusing(made.refusal);
    let ended = driver.run(agent, terminated).await;
    drop(serving);
    if let Some(control) = control {
        control.close().await;
    }
    collecting.abort();
    made.workplace.remove_base();
    made.lease.release().context("release the record of this executor")?;
    Ok(ended)
}

/// Serves the control socket. A pod without one runs all the same, and says so.
fn listen(flags: &Flags, place: SocketPlace, source: control::Source) -> Option<control::Serving> {
    let user = ExecUser::look_up(&flags.exec_user).unwrap_or_else(|error| {
        tracing::warn!(user = flags.exec_user, %error, "look up the exec endpoint's user");
        None
    });
    match place.listen(user) {
        Ok(listener) => Some(control::serve(listener, place, user, source)),
        Err(error) => {
            tracing::error!(%error, "no exec endpoint can reach this pod");
            None
        }
    }
}

/// Removes what dead executors of this state folder left, places on bridges included. Blocks.
pub fn sweep(state: &Path) -> SweepReport {
    crate::sweep::sweep(state, |BridgeRecord { cluster, label }| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let removed = runtime.block_on(Networks::default().remove_dead(cluster, label));
        // Other pod instances of the cluster may live: the last one takes the bridge with it.
        removed.map(drop).map_err(|error| error.to_string())
    })
}

/// Tasks of other users get to their sandbox and their data, though not to what lies beside these: the state folder is
/// made for all, and the executor's sandbox, which an agent makes for its user alone, may be passed through.
fn open_folders(flags: &Flags, environment: &AgentEnvironment) -> anyhow::Result<()> {
    let state = &flags.state;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(state)
        .with_context(|| format!("create {}", state.display()))?;
    let sandbox = &environment.sandbox;
    let context = || format!("let other users pass through {}", sandbox.display());
    let mut permissions = fs::metadata(sandbox).with_context(context)?.permissions();
    permissions.set_mode(permissions.mode() | 0o001);
    fs::set_permissions(sandbox, permissions).with_context(context)
}

/// Keeps the host's cache of fetched files within its bounds, once in an executor's life.
async fn collect(workplace: Arc<Workplace>, most: u64, oldest: Duration) {
    match workplace.cache.collect(most, oldest, SystemTime::now()).await {
        Ok(collected) if collected.removed > 0 => {
            tracing::info!(
                files = collected.removed,
                bytes = collected.removed_bytes,
                "removed fetched files that are old"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "collect the cache of fetched files"),
    }
}

/// The answer to the first SUBSCRIBE; `None` when everything is to end before there is one.
async fn first_subscription(
    agent: &mut mpsc::Receiver<AgentEvent>,
    terminated: &mut Signal,
) -> Option<Box<Subscribed>> {
    loop {
        let event = tokio::select! {
            event = agent.recv() => event?,
            Some(()) = terminated.recv() => {
                tracing::info!("SIGTERM: everything is to end");
                return None;
            }
        };
        match event {
            AgentEvent::Subscribed(subscribed) => return Some(subscribed),
            AgentEvent::Shutdown(cause) => {
                tracing::info!(?cause, "everything is to end");
                return None;
            }
            other => tracing::warn!(?other, "ignored before the first subscription"),
        }
    }
}

/// What is made once the agent has said who this executor is.
struct Made {
    workplace: Arc<Workplace>,
    origin: Origin,
    lease: Lease,
    socket: SocketPlace,
    about: About,
    /// What is wrong with the pod: its tasks are refused for it.
    refusal: Option<SpecError>,
}

impl Made {
    fn new(
        flags: &Flags,
        environment: &AgentEnvironment,
        subscribed: &Subscribed,
        open_files: Option<Rlimit>,
    ) -> anyhow::Result<Self> {
        let info = &subscribed.executor_info;
        let data = info.data.as_ref().map(|data| data.0.as_slice());
        let (pod, refusal) = pod::pod_or_refusal(data, &environment.executor_id);
        if let Some(error) = &refusal {
            tracing::error!(%error, "every task will be refused");
        }
        let container_id =
            subscribed.container_id.clone().map_or_else(|| container_of(&environment.directory), Ok)?;
        let base = detect::base_name(&container_id.value);
        let cgroups = detect::detect(&base, flags.nesting()).context("find the cgroups of this host")?;
        let place = bridge_place(&pod);
        let control_folder = std::path::absolute(&flags.control_folder)
            .with_context(|| format!("make sense of {}", flags.control_folder.display()))?;
        let socket = SocketPlace::new(
            &control_folder,
            environment.framework_id.as_str(),
            environment.agent_id.as_str(),
            &container_id.value,
        );
        let record = Record {
            executor_id: environment.executor_id.value.clone(),
            framework_id: environment.framework_id.value.clone(),
            pod: pod.name.clone(),
            cgroup_folders: cgroups.base_folders(),
            network: place.as_ref().map(|place| BridgeRecord {
                cluster: place.cluster.clone(),
                label: container_id.value.clone(),
            }),
            sockets: vec![socket.path(), socket.new_path()],
            shared_folders: vec![socket.folder().to_owned()],
            ..Record::default()
        };
        let lease = Lease::take(&flags.state, &container_id.value, &record)
            .context("record this executor for the sweep")?;
        let address = place.as_ref().map_or(environment.endpoint.ip(), |place| place.address);
        let workplace = Arc::new(Workplace {
            pod: Keeper::new(place, container_id.value.clone()),
            cgroups: cgroups.into(),
            cache: Cache::open(&flags.state, fetch::Options::default())
                .context("open the cache of fetched files")?,
            checks: AtomicU64::new(0),
            open_files,
            sessions: Sessions::default(),
            logged: Arc::default(),
            outputs: Outputs::default(),
            sandbox: environment.sandbox.clone(),
            data: data_folder(&flags.state, environment, &pod),
            environment: task_environment(environment, address),
        });
        let about = About {
            name: pod.name,
            framework_id: environment.framework_id.value.clone(),
            framework: subscribed.framework_info.name.clone(),
            agent_id: environment.agent_id.value.clone(),
            hostname: subscribed.agent_info.hostname.clone(),
            executor_id: environment.executor_id.value.clone(),
            container_id: container_id.value.clone(),
            address,
            own_network: matches!(pod.network, Network::Bridge(_)),
            started_at: status::now(),
            sandbox: environment.sandbox.to_string_lossy().into_owned(),
        };
        let origin = Origin {
            agent_id: environment.agent_id.clone(),
            executor_id: environment.executor_id.clone(),
            container_id,
            address,
            sandbox: environment.sandbox.clone(),
        };
        Ok(Self { workplace, origin, lease, socket, about, refusal })
    }
}

/// The agent keeps an executor's sandbox in a folder named after its container.
fn container_of(directory: &Path) -> anyhow::Result<ContainerId> {
    let name = directory
        .file_name()
        .with_context(|| format!("find the container's id in {}", directory.display()))?;
    Ok(ContainerId::new(name.to_string_lossy()))
}

fn bridge_place(pod: &PodSpec) -> Option<BridgeSpec> {
    match &pod.network {
        Network::Host => None,
        Network::Bridge(place) => Some(place.clone()),
    }
}

fn data_folder(state: &Path, environment: &AgentEnvironment, pod: &PodSpec) -> PathBuf {
    state
        .join("data")
        .join(detect::folder_name(environment.framework_id.as_str()))
        .join(detect::folder_name(&pod.name))
}

fn task_environment(environment: &AgentEnvironment, address: IpAddr) -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned());
    [
        ("PATH", path),
        ("MESOS_FRAMEWORK_ID", environment.framework_id.value.clone()),
        ("MESOS_EXECUTOR_ID", environment.executor_id.value.clone()),
        ("MESOS_SLAVE_ID", environment.agent_id.value.clone()),
        ("MESOS_AGENT_ENDPOINT", environment.endpoint.to_string()),
        ("MESOS_DIRECTORY", environment.directory.display().to_string()),
        ("MESOS_CONTAINER_IP", address.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A task needs about eight descriptors here. Returns what the limit was: tasks get that one.
fn raise_open_files() -> Option<Rlimit> {
    let resource = Resource::RLIMIT_NOFILE;
    let given = getrlimit(resource);
    let raised = given.and_then(|(_, hard)| setrlimit(resource, hard, hard));
    if let Err(errno) = raised {
        tracing::warn!(%errno, "raise the limit of open files to its hard limit");
    }
    given.ok().map(|(soft, hard)| Rlimit { resource, soft, hard })
}
