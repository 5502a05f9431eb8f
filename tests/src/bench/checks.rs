//! What health checks take of CPU time.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use mesos::common::TaskState;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use task::settings::{Check, HttpCheck, TaskSettings};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use super::group::parent;
use super::stand::Stand;
use super::table::{Row, time};
use super::{Options, clock, tell};

/// How many checked tasks there are.
const TASKS: u32 = 7;
/// How long executor and init are watched while they are idle.
const WATCHED: Duration = Duration::from_secs(30);
/// How long one task is checked as often as it goes.
const BUSY: Duration = Duration::from_secs(5);
/// How often curl is started.
const CURLS: u32 = 100;
/// For everything to settle.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures executor and init while seven tasks are checked every second.
///
/// # Errors
/// An executor did not start, or the tasks did not get to run.
pub async fn idle(options: &Options) -> anyhow::Result<Vec<Row>> {
    tell("idle CPU");
    let server = Server::start().await?;
    let (mut stand, init) = tasks(options, &TaskSettings::default()).await?;
    let without = watch(&stand, init, &server, WATCHED / 3).await?;
    stand.shut_down().await?;
    let (mut stand, init) = tasks(options, &server.checked(1.0)).await?;
    let with = watch(&stand, init, &server, WATCHED).await?;
    stand.shut_down().await?;
    let each = with.executor.saturating_sub(without.executor * 3) / with.requests.max(1);
    Ok(vec![Row {
        measure: "idle CPU, 7 tasks checked every second",
        target: "< 0.2 % of a core",
        measured: format!("{:.3} % (init {:.3} %)", with.percent(with.executor), with.percent(with.init)),
        beside: format!("{:.3} % without checks", without.percent(without.executor)),
        how: format!(
            "CPU time over {} s; {} checks, {} each (cold)",
            WATCHED.as_secs(),
            with.requests,
            time(each)
        ),
    }])
}

/// Measures one check, and beside it a spawned curl.
///
/// # Errors
/// As [`idle`].
pub async fn one(options: &Options) -> anyhow::Result<Vec<Row>> {
    tell("one HTTP check");
    let server = Server::start().await?;
    let mut stand = Stand::with_living_pod(&options.executor).await?;
    let (id, task) = stand.sleeper(&server.checked(0.01));
    let init = stand.executor();
    sleep(SETTLE).await;
    let quiet = watch(&stand, init, &server, BUSY).await?;
    stand.agent.launch_group(&[task]);
    stand.arrival(&id, TaskState::Running).await?;
    sleep(SETTLE).await;
    let busy = watch(&stand, init, &server, BUSY).await?;
    stand.shut_down().await?;
    let each = busy.executor.saturating_sub(quiet.executor) / busy.requests.max(1);
    Ok(vec![Row {
        measure: "one HTTP check",
        target: "< 0.2 ms CPU",
        measured: format!("{} CPU", time(each)),
        beside: curl(server.port).await.unwrap_or_else(|error| format!("no curl: {error:#}")),
        how: format!("{} checks in {} s, 10 ms apart; idle time taken off", busy.requests, BUSY.as_secs()),
    }])
}

/// Seven tasks that run, and the process id of their init.
async fn tasks(options: &Options, settings: &TaskSettings) -> anyhow::Result<(Stand, i32)> {
    let mut stand = Stand::start(&options.executor).await?;
    let (said, _) = stand.launch_beacon(&TaskSettings::default()).await?;
    let init = parent(said.process)?;
    let tasks: Vec<_> = (0..TASKS).map(|_| stand.sleeper(settings)).collect();
    for (id, task) in tasks {
        stand.agent.launch_group(&[task]);
        stand.arrival(&id, TaskState::Running).await?;
    }
    sleep(SETTLE).await;
    Ok((stand, init))
}

/// What happened within some time.
#[derive(Debug, Clone, Copy)]
struct Watched {
    within: Duration,
    executor: Duration,
    init: Duration,
    requests: u32,
}

impl Watched {
    fn percent(&self, part: Duration) -> f64 {
        part.as_secs_f64() / self.within.as_secs_f64() * 100.0
    }
}

async fn watch(stand: &Stand, init: i32, server: &Server, within: Duration) -> anyhow::Result<Watched> {
    let look = || {
        anyhow::Ok((Instant::now(), clock::cpu_of(stand.executor())?, clock::cpu_of(init)?, server.count()))
    };
    let before = look()?;
    sleep(within).await;
    let after = look()?;
    Ok(Watched {
        within: after.0.duration_since(before.0),
        executor: after.1.saturating_sub(before.1),
        init: after.2.saturating_sub(before.2),
        requests: after.3.wrapping_sub(before.3),
    })
}

/// A small HTTP server that counts what it is asked.
#[derive(Debug)]
struct Server {
    port: u16,
    requests: Arc<AtomicU32>,
    serving: AbortHandle,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen on a port")?;
        let port = listener.local_addr()?.port();
        let requests = Arc::new(AtomicU32::new(0));
        let serving = tokio::spawn(serve(listener, requests.clone())).abort_handle();
        Ok(Self { port, requests, serving })
    }

    fn count(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The settings of a task that is checked here so often.
    fn checked(&self, interval_seconds: f64) -> TaskSettings {
        let check = Check {
            role: "liveness".to_owned(),
            http: Some(HttpCheck { port: self.port, ..HttpCheck::default() }),
            interval_seconds: Some(interval_seconds),
            ..Check::default()
        };
        TaskSettings { checks: vec![check], ..TaskSettings::default() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, requests: Arc<AtomicU32>) {
    while let Ok((stream, _)) = listener.accept().await {
        let requests = requests.clone();
        tokio::spawn(async move {
            let service = service_fn(async |_: Request<hyper::body::Incoming>| {
                requests.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("ok")))
            });
            // A client that goes away early is its own affair.
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn curl(port: u16) -> anyhow::Result<String> {
    let spawned = move || {
        let before = children()?;
        for _ in 0..CURLS {
            let status = Command::new("curl")
                .args(["-s", "-o", "/dev/null", &format!("http://127.0.0.1:{port}/")])
                .stdin(Stdio::null())
                .status()
                .context("start curl")?;
            anyhow::ensure!(status.success(), "{status}");
        }
        anyhow::Ok(children()?.saturating_sub(before) / CURLS)
    };
    // The server that it asks is on this thread.
    let each = tokio::task::spawn_blocking(spawned).await??;
    Ok(format!("{} CPU by a spawned curl ({CURLS} times)", time(each)))
}

/// The CPU time of all children that were waited for.
fn children() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let duration = |time: TimeVal| -> anyhow::Result<Duration> {
        Ok(Duration::new(u64::try_from(time.tv_sec())?, u32::try_from(time.tv_usec())? * 1000))
    };
    Ok(duration(usage.user_time())? + duration(usage.system_time())?)
}
