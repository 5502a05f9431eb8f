//! An exec endpoint for tests: TLS by rustls, WebSocket by tungstenite, real processes of this machine, on 127.0.0.1.
//!
//! The task's name says what it does: `local` runs the command; `lost` cuts the connection after some output; `cut` ends the
//! session with a reason; `deaf` reads no input; `forbidden`, `two` refuse.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

type Wire = TlsStream<BufReader<TcpStream>>;

/// A server, and the folder with its CA. Both end with it.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<String>>,
    sizes: Mutex<Vec<String>>,
    processes: Mutex<HashMap<String, i32>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                let accepting = async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        stream.set_nodelay(true).unwrap();
                        let (acceptor, shared) = (acceptor.clone(), theirs.clone());
                        tokio::spawn(async move {
                            let stream = BufReader::with_capacity(256 * 1024, stream);
                            if let Ok(mut wire) = acceptor.accept(stream).await {
                                wire.get_mut().1.set_buffer_limit(Some(1 << 20));
                                serve(wire, &shared).await;
                            }
                        });
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, folder, shared, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A command of kubex, with nothing of this machine's configuration.
    pub(crate) fn kubex(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubex"));
        command.env_clear().env("HOME", self.folder.path());
        command
            .arg(format!("--server=https://{}", self.address))
            .arg(format!("--ca={}", self.ca().display()));
        command.args(arguments);
        command
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(crate) fn sizes(&self) -> Vec<String> {
        self.shared.sizes.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
        for pid in self.shared.processes.lock().unwrap().values() {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

async fn serve(mut wire: Wire, shared: &Arc<Shared>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match wire.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let line = head.lines().next().unwrap().to_owned();
        shared.requests.lock().unwrap().push(line.clone());
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query: Vec<(String, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), decode(value)))
            .collect();
        let parts: Vec<&str> = path.trim_start_matches("/kubex/v1/tasks").split('/').collect();
        let plain = match (method, parts.as_slice()) {
            (_, [""]) => Some((200, tasks())),
            (_, ["", "forbidden", _]) => {
                Some((403, status("eve may not exec in forbidden: no rule of the policy allows it")))
            }
            (_, ["", "two", _]) => Some((409, status("two may be any of two-a, two-b"))),
            (_, ["", "anonymous", _]) => {
                Some((401, status("nobody is known by no certificate and no token")))
            }
            ("POST", ["", _, "signal"]) => {
                signal(shared, &query);
                Some((200, String::new()))
            }
            (_, ["", "broken", "log"]) => {
                let _ = wire
                    .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nline\n\r\n")
                    .await;
                let _ = wire.flush().await;
                return;
            }
            (_, ["", "local", "log"]) => Some((200, "one\ntwo\n".to_owned())),
            (_, ["", "local" | "lost" | "cut" | "deaf", "exec" | "attach"]) => None,
            _ => Some((404, status("there is no task with that name here"))),
        };
        if let Some((code, body)) = plain {
            let answer = format!(
                "HTTP/1.1 {code} X\r\ncontent-length: {}\r\nkubex-task: local\r\n\r\n{body}",
                body.len()
            );
            if wire.write_all(answer.as_bytes()).await.is_err() || wire.flush().await.is_err() {
                return;
            }
            continue;
        }
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        let answer = format!(
            "HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {}\r\n\
             sec-websocket-protocol: v5.channel.k8s.io\r\nkubex-session: s1\r\nkubex-task: local\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        wire.write_all(answer.as_bytes()).await.unwrap();
        wire.flush().await.unwrap();
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = 512 * 1024;
        let socket = WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await;
        session(socket, parts[1], &query, shared).await;
        return;
    }
}

async fn session(
    mut socket: WebSocketStream<Wire>,
    task: &str,
    query: &[(String, String)],
    shared: &Arc<Shared>,
) {
    let all = |name: &str| -> Vec<String> {
        query.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect()
    };
    let has = |name: &str| all(name) == ["true"];
    match task {
        "lost" => {
            let _ = socket.send(message(1, b"some output\n")).await;
            // Neither a close frame nor a status.
            let _ = socket.get_mut().get_mut().0.get_mut().shutdown().await;
            return;
        }
        "cut" => {
            let cut = r#"{"status":"Failure","reason":"TaskEnded","message":"the task ended, and its sessions with it"}"#;
            let _ = socket.send(message(3, cut.as_bytes())).await;
            return;
        }
        _ => {}
    }
    let words = all("command");
    let mut command = tokio::process::Command::new(&words[0]);
    command.args(&words[1..]).kill_on_drop(true);
    for variable in all("env") {
        let (name, value) = variable.split_once('=').unwrap();
        command.env(name, value);
    }
    let (sink, stream) = socket.split();
    let (messages, queue) = tokio::sync::mpsc::channel::<Message>(4);
    let sending = tokio::spawn(send_all(sink, queue));
    let end = if has("tty") {
        let size = nix::pty::Winsize {
            ws_row: all("rows")[0].parse().unwrap(),
            ws_col: all("cols")[0].parse().unwrap(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = nix::pty::openpty(Some(&size), None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        command.stdin(slave()).stdout(slave()).stderr(slave()).process_group(0);
        let mut child = command.spawn().unwrap();
        drop(command);
        drop(pty.slave);
        register(shared, &child);
        let output = pump(pty.master.try_clone().unwrap(), 1, messages.clone());
        let input = tokio::spawn(feed(stream, Some(Feed::Master(pty.master)), shared.clone()));
        let end = tokio::select! {
            end = child.wait() => end.unwrap(),
            _ = gone(input) => return,
        };
        let _ = output.await;
        end
    } else {
        command.stdin(if has("stdin") { Stdio::piped() } else { Stdio::null() });
        let ((stdout, theirs), (stderr, theirs_too)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        command.stdout(theirs).stderr(theirs_too);
        let mut child = command.spawn().unwrap();
        // It holds the pipes' writing ends.
        drop(command);
        register(shared, &child);
        let stdout = pump(stdout.into(), 1, messages.clone());
        let stderr = pump(stderr.into(), 2, messages.clone());
        if task == "deaf" {
            // Its input is not read at all; its output must come all the same.
            let end = child.wait().await.unwrap();
            let _ = (stdout.await, stderr.await);
            finish(&messages, end).await;
            drop(messages);
            let _ = sending.await;
            // Closed with input unread, the kernel would reset the connection, and the status could be lost with it.
            let mut stream = stream;
            while let Some(Ok(_)) = stream.next().await {}
            return;
        }
        let input = tokio::spawn(feed(stream, child.stdin.take().map(Feed::Pipe), shared.clone()));
        let end = tokio::select! {
            end = child.wait() => end.unwrap(),
            _ = gone(input) => return,
        };
        let _ = (stdout.await, stderr.await);
        end
    };
    finish(&messages, end).await;
    drop(messages);
    let _ = sending.await;
}

/// When the client has gone; not when it has only ended its input.
async fn gone(input: tokio::task::JoinHandle<()>) {
    let _ = input.await;
}

fn register(shared: &Shared, child: &tokio::process::Child) {
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    shared.processes.lock().unwrap().insert("s1".to_owned(), pid);
}

async fn finish(messages: &tokio::sync::mpsc::Sender<Message>, end: std::process::ExitStatus) {
    use std::os::unix::process::ExitStatusExt as _;
    let code = end.code().unwrap_or_else(|| 128 + end.signal().unwrap());
    let status = if code == 0 {
        r#"{"metadata":{},"status":"Success"}"#.to_owned()
    } else {
        format!(
            r#"{{"metadata":{{}},"status":"Failure","reason":"NonZeroExitCode","message":"exit code {code}","details":{{"causes":[{{"reason":"ExitCode","message":"{code}"}}]}}}}"#
        )
    };
    let _ = messages.send(message(3, status.as_bytes())).await;
}

type Sink = futures_util::stream::SplitSink<WebSocketStream<Wire>, Message>;

async fn send_all(mut sink: Sink, mut queue: tokio::sync::mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    let _ = sink.close().await;
}

enum Feed {
    Pipe(tokio::process::ChildStdin),
    Master(OwnedFd),
}

async fn feed(
    mut stream: futures_util::stream::SplitStream<WebSocketStream<Wire>>,
    mut to: Option<Feed>,
    shared: Arc<Shared>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Binary(bytes) = message else {
            continue;
        };
        match (bytes[0], &mut to) {
            (0, Some(Feed::Pipe(pipe))) => {
                let _ = pipe.write_all(&bytes[1..]).await;
            }
            (0, Some(Feed::Master(master))) => drop(nix::unistd::write(master, &bytes[1..])),
            (4, Some(Feed::Master(_))) => {
                shared.sizes.lock().unwrap().push(String::from_utf8_lossy(&bytes[1..]).into_owned())
            }
            (255, _) => to = None,
            (channel, _) => assert!(channel == 0, "channel {channel}"),
        }
    }
}

/// Reads in a thread of its own until the end and sends it in frames of up to 256 KiB.
fn pump(from: OwnedFd, channel: u8, to: tokio::sync::mpsc::Sender<Message>) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let _ = rustix::pipe::fcntl_setpipe_size(&from, 1 << 20);
        loop {
            let mut buffer = vec![0; 256 * 1024];
            buffer[0] = channel;
            match nix::unistd::read(&from, &mut buffer[1..]) {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    buffer.truncate(1 + count);
                    if to.blocking_send(Message::Binary(Bytes::from(buffer))).is_err() {
                        return;
                    }
                }
            }
        }
    })
}

fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut payload = vec![channel];
    payload.extend_from_slice(bytes);
    Message::Binary(Bytes::from(payload))
}

fn signal(shared: &Shared, query: &[(String, String)]) {
    let get = |name: &str| query.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    if let (Some(session), Some(Ok(number))) = (get("session"), get("signal").map(str::parse::<i32>)) {
        let pid = shared.processes.lock().unwrap()[session];
        let signal = nix::sys::signal::Signal::try_from(number).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
    }
}

fn status(message: &str) -> String {
    format!(r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{message}"}}"#)
}

fn tasks() -> String {
    let task = |name: &str| {
        serde_json::json!({
            "id": {"value": format!("{name}__1")}, "name": name, "state": "TASK_RUNNING", "since": 0, "launched_at": 1000,
            "started_at": 1000, "last_end": null, "healthy": true, "ready": true, "restarts": 2, "reason": null,
            "message": null, "pid": 42, "user": null, "command": ["x"], "terminal": false, "resources": [], "sandbox": "/s",
            "usage": {"cpu_micros": 1_500_000, "memory_bytes": 12_582_912, "processes": 3}
        })
    };
    serde_json::json!([{
        "name": "etcd-0", "framework_id": "f", "framework": "kubernetes", "agent_id": "a", "hostname": "h", "executor_id": "e",
        "container_id": "c", "address": "127.0.0.1", "own_network": false, "started_at": 0, "sandbox": "/s",
        "tasks": [task("etcd-0-peer"), task("local")]
    }])
    .to_string()
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, others @ ..] = rest {
        if let (b'%', [high, low, others @ ..]) = (first, others) {
            let digits = [*high, *low];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap());
            rest = others;
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).unwrap()
}
