//! Metrics in Prometheus's text form, on a Unix socket in the executor's run folder and, if asked for, on a loopback port.
//!
//! Everything is read from the status board and the session's counters when it is asked for: nothing is counted twice.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Response, StatusCode, server};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::agent::session::Counters;
use crate::cgroup::{CgroupName, Manager};
use crate::process::output;
use crate::process::workplace::Workplace;
use crate::status::Board;

/// The socket's name in the run folder.
pub const SOCKET: &str = "metrics.sock";
/// How long one connection may last: a reader that stalls does not keep others out.
const CONNECTION: Duration = Duration::from_secs(5);

/// Readers at once; more wait, each for [`CONNECTION`] at most.
const READERS: usize = 16;
/// The pause after a connection could not be accepted, as when there are no file descriptors left.
const PAUSE: Duration = Duration::from_millis(500);

/// Serves metrics until the result is dropped. What cannot be listened on is logged: tasks matter more.
pub fn serve(folder: &Path, port: Option<u16>, source: Source) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    let path = folder.join(SOCKET);
    match UnixListener::bind(&path) {
        Ok(listener) => {
            let source = source.clone();
            serving.spawn(async move {
                let accept =
                    |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(stream, _)| stream);
                accept_all(accept, |stream| answer(stream, source.clone())).await;
            });
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "no metrics here: listen on a socket");
        }
    }
    let Some(port) = port else { return serving };
    match listen(port) {
        Ok(listener) => {
            serving.spawn(async move {
                let accept =
                    |context: &mut Context<'_>| listener.poll_accept(context).map_ok(|(stream, _)| stream);
                accept_all(accept, |stream| answer(stream, source.clone())).await;
            });
        }
        Err(error) => {
            tracing::warn!(port, %error, "no metrics here: listen on the port; choose another --metrics-port");
        }
    }
    serving
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Answers every connection, several at once, whatever happens to one.
async fn accept_all<S, A: Future<Output = ()> + Send + 'static>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    answer: impl Fn(S) -> A,
) {
    let mut answers = JoinSet::new();
    let mut complained = false;
    loop {
        while answers.len() >= READERS {
            answers.join_next().await;
        }
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                complained = false;
                answers.spawn(answer(stream));
            }
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "accept a reader of metrics");
                    complained = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        while answers.try_join_next().is_some() {}
    }
}

/// Where the figures come from.
#[derive(Debug, Clone)]
pub struct Source {
    /// The latest status of each task.
    pub board: watch::Receiver<Board>,
    /// What the session with the agent has done.
    pub counters: watch::Receiver<Counters>,
    /// The tasks' cgroups, and what became of their output.
    pub workplace: Arc<Workplace>,
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, source: Source) {
    let service = service_fn(async |request: hyper::Request<hyper::body::Incoming>| {
        let mut response = Response::new(Full::<Bytes>::default());
        match (request.uri().path(), source.text()) {
            ("/metrics", Ok(text)) => {
                *response.body_mut() = Full::from(text);
                let form = hyper::header::HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                );
                response.headers_mut().insert(CONTENT_TYPE, form);
            }
            ("/metrics", Err(_)) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
            _ => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok::<_, Infallible>(response)
    });
    let connection =
        server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION, connection).await {
        tracing::debug!(%error, "a reader of metrics went away");
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTask {
    task: String,
}

impl Source {
    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("kube_executor");
        tasks(&self.board.borrow(), &mut registry);
        session(*self.counters.borrow(), &mut registry);
        usage(&self.board.borrow(), &*self.workplace.cgroups, &mut registry);
        output(self.workplace.logged.counts(), &mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn tasks(board: &Board, registry: &mut Registry) {
    let (states, published) = (Family::<ByState, Gauge>::default(), Family::<ByState, Counter>::default());
    let (ready, healthy, restarts) =
        (Family::<ByTask, Gauge>::default(), Family::<ByTask, Gauge>::default(), Counter::<u64>::default());
    for status in board.tasks.values() {
        states.get_or_create(&ByState { state: status.state.as_str() }).inc();
        let task = ByTask { task: status.id.value.clone() };
        if let Some(value) = status.ready {
            ready.get_or_create(&task).set(value.into());
        }
        if let Some(value) = status.healthy {
            healthy.get_or_create(&task).set(value.into());
        }
    }
    for (state, count) in &board.published {
        published.get_or_create(&ByState { state: state.as_str() }).inc_by(*count);
    }
    restarts.inc_by(board.restarts);
    registry.register("tasks", "Tasks by their latest state", states);
    registry.register("task_ready", "Whether a task can be used", ready);
    registry.register("task_healthy", "What the liveness checks of a task say", healthy);
    registry.register("statuses", "Statuses published, by state", published);
    registry.register("restarts", "Restarts in place", restarts);
}

fn session(now: Counters, registry: &mut Registry) {
    let mut counter = |name: &str, help: &str, value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    };
    counter("subscriptions", "Subscriptions that the agent took", now.subscriptions);
    counter("failed_subscriptions", "Attempts to subscribe that failed", now.failed_attempts);
    counter("updates_sent", "Updates that the agent took", now.updates_sent);
    counter("updates_retried", "Updates that had to be sent again", now.updates_retried);
    counter("updates_dropped", "Updates that the agent refused for good", now.updates_dropped);
    let outstanding = Gauge::<i64>::default();
    outstanding.set(signed(now.outstanding as u64));
    registry.register("updates_outstanding", "Updates that are not acknowledged", outstanding);
}

fn usage(board: &Board, cgroups: &dyn Manager, registry: &mut Registry) {
    let cpu = Family::<ByTask, Gauge<f64, AtomicU64>>::default();
    let (memory, pids) = (Family::<ByTask, Gauge>::default(), Family::<ByTask, Gauge>::default());
    for id in board.tasks.values().filter(|status| !status.state.is_terminal()).map(|status| &status.id) {
        // A task that has no cgroup yet, or no longer, uses nothing.
        let Ok(stats) = cgroups.stats(&CgroupName::task(id)) else { continue };
        let task = ByTask { task: id.value.clone() };
        cpu.get_or_create(&task).set(stats.cpu.as_secs_f64());
        memory.get_or_create(&task).set(signed(stats.memory));
        pids.get_or_create(&task).set(signed(stats.pids));
    }
    registry.register("task_cpu_seconds", "Processor time that a task has used", cpu);
    registry.register("task_memory_bytes", "Memory that a task uses", memory);
    registry.register("task_pids", "Processes and threads of a task", pids);
}

fn output(counts: output::Counts, registry: &mut Registry) {
    for (name, help, value) in [
        ("log_bytes_written", "Bytes of output that were written", counts.written),
        ("log_bytes_dropped", "Bytes of output that could not be written", counts.dropped),
    ] {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        registry.register(name, help, counter);
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::Status;
    use mesos::common::{TaskId, TaskState};

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_cannot_be_accepted_is_not_the_last_and_one_that_stalls_holds_up_no_other() {
        let (answered, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let mut number = 0;
        let accept = |_: &mut Context<'_>| {
            number += 1;
            match number {
                1 | 3 => Poll::Ready(Err(io::Error::from_raw_os_error(24))),
                2 | 4 | 5 => Poll::Ready(Ok(number)),
                _ => Poll::Pending,
            }
        };
        let answer = |number: i32| {
            let answered = answered.clone();
            async move {
                if number == 2 {
                    std::future::pending::<()>().await;
                }
                let _ = answered.send(number);
            }
        };
        let both = async { [seen.recv().await, seen.recv().await] };
        tokio::select! {
            () = accept_all(accept, answer) => {}
            both = both => assert_eq!(both, [Some(4), Some(5)]),
        }
    }

    #[test]
    fn the_text_is_read_from_the_board_and_the_counters() {
        let mut board = Board { restarts: 3, ..Board::default() };
        let id = TaskId::new("etcd-0-peer");
        let status = Status {
            id: id.clone(),
            state: TaskState::Running,
            reason: None,
            message: None,
            healthy: Some(true),
            reported: None,
            ready: Some(false),
            restarts: 3,
        };
        board.tasks.insert(id, status);
        let mut registry = Registry::with_prefix("kube_executor");
        tasks(&board, &mut registry);
        session(Counters { updates_sent: 7, ..Counters::default() }, &mut registry);
        output(output::Counts { written: 10, dropped: 2 }, &mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "kube_executor_tasks{state=\"TASK_RUNNING\"} 1",
            "kube_executor_task_ready{task=\"etcd-0-peer\"} 0",
            "kube_executor_task_healthy{task=\"etcd-0-peer\"} 1",
            "kube_executor_restarts_total 3",
            "kube_executor_updates_sent_total 7",
            "kube_executor_log_bytes_dropped_total 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
