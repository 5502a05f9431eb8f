//! The exec endpoint's Mesos side without its TLS: the handler on 127.0.0.1, before an executor that is none but starts real
//! processes; and requests that go to it and to a real agent, to the byte.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use exec_endpoint::endpoint::{Caller, Endpoint};
use exec_endpoint::identity::Who;
use exec_endpoint::inventory::{Inventory, PodView};
use exec_endpoint::protocol::mesos::handle;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use task::connection;
use task::control::{self, Answer, End, Exec, LogFile, Pod, Refusal, RefusalKind, Stream, Wish};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A handler on an address of 127.0.0.1, with its executor.
#[derive(Debug)]
pub struct Served {
    /// Where.
    pub address: SocketAddr,
    /// What the endpoint knows; may be changed.
    pub inventory: watch::Sender<Arc<Inventory>>,
    tasks: Vec<AbortHandle>,
    _folder: TempDir,
    _drain: watch::Sender<bool>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// Serves a pod.
///
/// # Errors
/// A folder or a socket could not be made.
pub async fn serve(pod: Pod) -> anyhow::Result<Served> {
    let folder = tempfile::Builder::new().prefix("kx-operator-").tempdir().context("create a folder")?;
    let socket = folder.path().join("executor.sock");
    let listener = UnixListener::bind(&socket).context("bind the executor's socket")?;
    let executor = tokio::spawn(executor(listener, folder.path().to_owned())).abort_handle();
    let key = (pod.framework_id.clone(), pod.container_id.clone());
    let view = Arc::new(PodView { socket, pod, revision: 1 });
    let (inventory, known) =
        watch::channel(Arc::new(Inventory { pods: BTreeMap::from([(key, view)]), revision: 1 }));
    let (endpoint, drain) = Endpoint::allowing_everything(known);
    let endpoint = Arc::new(endpoint);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listen")?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(server(listener, endpoint)).abort_handle();
    Ok(Served { address, inventory, tasks: vec![executor, server], _folder: folder, _drain: drain })
}

async fn server(listener: TcpListener, endpoint: Arc<Endpoint>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let who = Who { user: "tester".to_owned(), groups: Vec::new() };
        let (endpoint, caller) = (endpoint.clone(), Caller { who, peer });
        let service = service_fn(move |request| {
            let (endpoint, caller) = (endpoint.clone(), caller.clone());
            async move { Ok::<_, std::convert::Infallible>(handle(endpoint, caller, request).await) }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
        );
    }
}

async fn executor(listener: UnixListener, folder: PathBuf) {
    while let Ok((stream, _)) = listener.accept().await {
        let folder = folder.clone();
        tokio::spawn(async move {
            if let Err(error) = serve_request(stream, &folder).await {
                eprintln!("the executor that is none: {error:#}");
            }
        });
    }
}

async fn serve_request(stream: UnixStream, folder: &Path) -> anyhow::Result<()> {
    let (mut sender, mut receiver) = connection::split(stream);
    let Some((request, _)) = receiver.receive::<control::Request>().await? else { return Ok(()) };
    match request {
        control::Request::Exec(exec) => serve_exec(exec, sender, receiver).await,
        control::Request::Logs { .. } => {
            let path = folder.join("stdout");
            std::fs::write(&path, "0123456789\n")?;
            let file = OwnedFd::from(std::fs::File::open(path)?);
            let files = vec![LogFile { stream: Stream::Stdout, times: false, moved: 0 }];
            Ok(sender.send(&Answer::Files { files, more: false }, &[file.as_fd()]).await?)
        }
        control::Request::Signal { .. } => Ok(sender.send(&Answer::Done, &[]).await?),
        other => {
            let message = format!("no {other:?} here");
            let refusal = Refusal { kind: RefusalKind::Invalid, message };
            Ok(sender.send(&Answer::Refused(refusal), &[]).await?)
        }
    }
}

async fn serve_exec(
    exec: Exec,
    mut sender: connection::Sender,
    mut receiver: connection::Receiver,
) -> anyhow::Result<()> {
    let (mut child, descriptors) = start(&exec).context("start a process")?;
    let pid = child.id();
    let borrowed: Vec<_> = descriptors.iter().map(|one| one.as_fd()).collect();
    sender.send(&Answer::Started { pid, descriptors: borrowed.len() }, &borrowed).await?;
    drop(borrowed);
    drop(descriptors);
    let process = Pid::from_raw(pid.cast_signed()).context("a process id")?;
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    loop {
        tokio::select! {
            status = &mut ended => {
                let status = status??;
                let end = status.signal().map_or_else(|| End::Code(status.code().unwrap_or_default()), End::Signal);
                return Ok(sender.send(&Answer::Exited(end), &[]).await?);
            }
            wish = receiver.receive::<Wish>() => match wish {
                Ok(Some((Wish::Signal(number), _))) => {
                    let signal = Signal::from_named_raw(number).context("a signal")?;
                    let _ = kill_process(process, signal);
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => {
                    let _ = kill_process(process, Signal::KILL);
                    ended.await??;
                    return Ok(());
                }
            },
        }
    }
}

/// A process with pipes or a terminal, and the descriptors as the executor hands them over.
fn start(exec: &Exec) -> io::Result<(Child, Vec<OwnedFd>)> {
    if let Some(size) = exec.terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let name = ptsname(&master, Vec::new())?;
        let slave = rustix::fs::open(name, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY, 0.into())?;
        tcsetwinsize(
            &master,
            Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 },
        )?;
        let mut command = Command::new("setsid");
        command.arg("--ctty").args(&exec.command);
        command.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        return Ok((command.spawn()?, vec![master]));
    }
    let (stdin, input) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let (errors, stderr) = io::pipe()?;
    let mut command = Command::new(&exec.command[0]);
    command.args(&exec.command[1..]).stdin(Stdio::from(stdin)).stdout(stdout).stderr(stderr);
    command.envs(exec.environment.iter().map(|(name, value)| (name, value)));
    Ok((command.spawn()?, vec![input.into(), output.into(), errors.into()]))
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answered {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends a request with these headers and no others but Host and the length.
///
/// # Errors
/// No connection, or no whole answer.
pub async fn send(
    server: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> anyhow::Result<Answered> {
    let stream = TcpStream::connect(server).await.with_context(|| format!("connect to {server}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut request = Request::builder().method(Method::from_bytes(method.as_bytes())?).uri(path);
    request = request.header("Host", server.to_string());
    for (name, value) in headers {
        request = request.header(HeaderName::try_from(*name)?, HeaderValue::try_from(*value)?);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
    let asked = async {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, anyhow::Error>(Answered { status: parts.status, headers: parts.headers, body })
    };
    match tokio::time::timeout(std::time::Duration::from_secs(20), asked).await {
        Ok(answered) => answered.with_context(|| format!("{method} {path}")),
        Err(_) => bail!("{method} {path}: no whole answer within 20 s"),
    }
}
