//! An endpoint that speaks plain HTTP on 127.0.0.1, and an executor of one pod behind it.

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use task::connection::{self, Sender};
use task::control::{Answer, EndReason, LogFile, Pod, Request as Asked, Stream, Usage};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use crate::endpoint::{Caller, Endpoint};
use crate::identity::Who;
use crate::inventory::{Inventory, PodView};
use crate::protocol::kubernetes;
use crate::session::log::times::Record;

/// A served inventory. Everything ends with it.
pub(super) struct Rig {
    pub(super) folder: tempfile::TempDir,
    pub(super) address: SocketAddr,
    pub(super) inventory: watch::Sender<Arc<Inventory>>,
    pub(super) executor: Arc<Executor>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    pub(super) drain: watch::Sender<bool>,
}

/// The executor's side: its pod, its logs, and who follows them.
pub(super) struct Executor {
    pod: Mutex<Pod>,
    logs: Mutex<Vec<Log>>,
    followers: Mutex<Vec<mpsc::Sender<Told>>>,
    lists: Mutex<u64>,
}

struct Log {
    file: LogFile,
    bytes: File,
    times: File,
}

pub(super) enum Told {
    Rotated(LogFile, File, File),
    Ended,
}

impl Rig {
    pub(super) async fn new(pod: Pod) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let executor = Arc::new(Executor {
            pod: Mutex::new(pod.clone()),
            logs: Mutex::default(),
            followers: Mutex::default(),
            lists: Mutex::default(),
        });
        let socket = folder.path().join("a.c.sock");
        let control = UnixListener::bind(&socket).unwrap();
        let (inventory, receiver) = watch::channel(Arc::default());
        let (endpoint, drain) = Endpoint::allowing_everything(receiver);
        let endpoint = Arc::new(endpoint);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mine = Arc::clone(&executor);
        let tasks = vec![
            tokio::spawn(async move {
                while let Ok((stream, _)) = control.accept().await {
                    tokio::spawn(Arc::clone(&mine).serve(stream));
                }
            }),
            tokio::spawn(serve(listener, endpoint)),
        ];
        let rig = Self { folder, address, inventory, executor, tasks, drain };
        rig.publish(10, vec![pod]);
        rig
    }

    /// All pods there are now, all changed at this revision.
    pub(super) fn publish(&self, revision: u64, pods: Vec<Pod>) {
        let socket: PathBuf = self.folder.path().join("a.c.sock");
        let view = |pod: Pod| {
            let key = (pod.framework_id.clone(), pod.container_id.clone());
            (key, Arc::new(PodView { socket: socket.clone(), pod, revision }))
        };
        let pods = pods.into_iter().map(view).collect();
        self.inventory.send_replace(Arc::new(Inventory { pods, revision }));
    }

    /// A whole answer.
    pub(super) async fn get(&self, path: &str, accept: &str) -> (u16, String) {
        let response = self.request(Method::GET, path, accept).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(super) async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path, "application/json").await;
        (status, serde_json::from_str(&body).unwrap())
    }

    pub(super) async fn request(&self, method: Method, path: &str, accept: &str) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request =
            Request::builder().method(method).uri(path).header("host", "x").header("accept", accept);
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

async fn serve(listener: TcpListener, endpoint: Arc<Endpoint>) {
    while let Ok((stream, peer)) = listener.accept().await {
        let endpoint = Arc::clone(&endpoint);
        let service = service_fn(move |request| {
            let who = Who { user: "tester".into(), groups: vec![] };
            let answering = kubernetes::handle(Arc::clone(&endpoint), Caller { who, peer }, request);
            async { Ok::<_, std::convert::Infallible>(answering.await) }
        });
        let http = hyper::server::conn::http1::Builder::new();
        tokio::spawn(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
    }
}

impl Executor {
    /// A new file of a stream; lines with their times and process.
    pub(super) fn log(&self, folder: &Path, stream: Stream, lines: &[(u64, u16, &str)]) {
        let open = |name: String| {
            File::options().create_new(true).read(true).append(true).open(folder.join(name)).unwrap()
        };
        let mut logs = self.logs.lock().unwrap();
        let (bytes, times) = (open(format!("log.{}", logs.len())), open(format!("times.{}", logs.len())));
        let log = Log { file: LogFile { stream, times: true, moved: 0 }, bytes, times };
        write(&log, lines);
        logs.push(log);
        logs.sort_by_key(|log| log.file.stream == Stream::Stderr);
    }

    /// More in the last file of a stream.
    pub(super) fn append(&self, stream: Stream, lines: &[(u64, u16, &str)]) {
        let logs = self.logs.lock().unwrap();
        write(logs.iter().rfind(|log| log.file.stream == stream).unwrap(), lines);
    }

    /// The last file of a stream is told as its new one.
    pub(super) fn tell_rotated(&self, stream: Stream) {
        let logs = self.logs.lock().unwrap();
        let log = logs.iter().rfind(|log| log.file.stream == stream).unwrap();
        for follower in self.followers.lock().unwrap().iter() {
            let clone = |file: &File| file.try_clone().unwrap();
            let _ = follower.try_send(Told::Rotated(log.file.clone(), clone(&log.bytes), clone(&log.times)));
        }
    }

    pub(super) fn tell_ended(&self) {
        self.followers.lock().unwrap().iter().for_each(|follower| drop(follower.try_send(Told::Ended)));
    }

    pub(super) fn followers(&self) -> usize {
        self.followers.lock().unwrap().iter().filter(|follower| !follower.is_closed()).count()
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let (mut sender, mut receiver) = connection::split(stream);
        match receiver.receive::<Asked>().await {
            Ok(Some((Asked::List, _))) => {
                let mut pod = self.pod.lock().unwrap().clone();
                let lists = {
                    let mut lists = self.lists.lock().unwrap();
                    *lists += 1;
                    *lists
                };
                for task in &mut pod.tasks {
                    task.usage =
                        Some(Usage { cpu_micros: lists * 250_000, memory_bytes: 10 << 20, processes: 1 });
                }
                sender.send(&Answer::Pod(Box::new(pod)), &[]).await.unwrap();
            }
            Ok(Some((Asked::Logs { follow, .. }, _))) => {
                let (teller, mut told) = mpsc::channel(16);
                self.send_files(&mut sender).await;
                if !follow {
                    return;
                }
                self.followers.lock().unwrap().push(teller);
                loop {
                    tokio::select! {
                        next = told.recv() => match next {
                            Some(Told::Rotated(file, bytes, times)) => {
                                sender.send(&Answer::Rotated(file), &[bytes.as_fd(), times.as_fd()]).await.unwrap();
                            }
                            Some(Told::Ended) => {
                                sender.send(&Answer::Ended(EndReason::TaskEnded), &[]).await.unwrap();
                                return;
                            }
                            None => return,
                        },
                        _ = receiver.receive::<Asked>() => return,
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// One file in each answer.
    async fn send_files(&self, sender: &mut Sender) {
        let files: Vec<(LogFile, File, File)> = {
            let logs = self.logs.lock().unwrap();
            let clone = |log: &Log| {
                (log.file.clone(), log.bytes.try_clone().unwrap(), log.times.try_clone().unwrap())
            };
            logs.iter().map(clone).collect()
        };
        let count = files.len();
        for (number, (file, bytes, times)) in files.into_iter().enumerate() {
            let answer = Answer::Files { files: vec![file], more: number + 1 < count };
            sender.send(&answer, &[bytes.as_fd(), times.as_fd()]).await.unwrap();
        }
        if count == 0 {
            sender.send(&Answer::Files { files: vec![], more: false }, &[]).await.unwrap();
        }
    }
}

fn write(log: &Log, lines: &[(u64, u16, &str)]) {
    for (time, process, text) in lines {
        let offset = log.bytes.metadata().unwrap().len();
        let record = Record { offset, time: *time, process: *process };
        (&log.times).write_all(&record.to_bytes()).unwrap();
        (&log.bytes).write_all(text.as_bytes()).unwrap();
    }
}
