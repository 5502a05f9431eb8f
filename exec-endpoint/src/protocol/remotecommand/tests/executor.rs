//! An executor that speaks the control socket and starts local processes, and does what real ones seldom do when told so by argv\[0\].

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mesos::common::{TaskId, TaskState};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use task::connection::{self, Receiver, Sender};
use task::control::{Answer, End, EndReason, Exec, Pod, Refusal, RefusalKind, Request, Task, Usage, Wish};
use tokio::net::{UnixListener, UnixStream};

/// What the executor was told.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Signals to tasks.
    pub(super) signals: Vec<(TaskId, i32)>,
    /// Wishes, those about attachments and processes.
    pub(super) wishes: Vec<Wish>,
    /// How many execs were given up by the endpoint.
    pub(super) given_up: usize,
}

/// An executor.
#[derive(Debug)]
pub(super) struct Executor {
    pub(super) socket: PathBuf,
    pub(super) seen: Arc<Mutex<Seen>>,
    _folder: tempfile::TempDir,
}

/// A pod with tasks of these names.
pub(crate) fn pod(tasks: &[&str]) -> Pod {
    let task = |name: &&str| Task {
        id: TaskId::new(format!("id-{name}")),
        name: (*name).to_owned(),
        state: TaskState::Running.into(),
        since: 0,
        launched_at: 0,
        started_at: None,
        last_end: None,
        healthy: None,
        ready: None,
        restarts: 0,
        reason: None,
        message: None,
        pid: None,
        user: None,
        command: vec![],
        terminal: false,
        resources: vec![],
        sandbox: "/".into(),
        usage: None,
    };
    Pod {
        name: "etcd-0".into(),
        framework_id: "f".into(),
        framework: "kube".into(),
        agent_id: "a".into(),
        hostname: "h".into(),
        executor_id: "e".into(),
        container_id: "c".into(),
        address: [127, 0, 0, 1].into(),
        own_network: false,
        started_at: 0,
        sandbox: "/".into(),
        tasks: tasks.iter().map(task).collect(),
    }
}

impl Executor {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.c.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { socket, seen, _folder: folder }
    }
}

async fn serve(stream: UnixStream, seen: Arc<Mutex<Seen>>) {
    let (mut sender, mut receiver) = connection::split(stream);
    let Ok(Some((request, _))) = receiver.receive::<Request>().await else { return };
    match request {
        Request::Exec(exec) => {
            if run(&mut sender, &mut receiver, exec, &seen).await.is_none() {
                seen.lock().unwrap().given_up += 1;
            }
        }
        Request::Attach { stdin, .. } => attach(&mut sender, &mut receiver, stdin, &seen).await,
        Request::Signal { task, signal } => {
            seen.lock().unwrap().signals.push((task, signal));
            let _ = sender.send(&Answer::Done, &[]).await;
        }
        Request::List => {
            let mut pod = pod(&["etcd-0-peer"]);
            pod.tasks[0].usage = Some(Usage { processes: 3, ..Usage::default() });
            let _ = sender.send(&Answer::Pod(Box::new(pod)), &[]).await;
        }
        other => panic!("{other:?}"),
    }
}

fn refused(message: &str) -> Answer {
    Answer::Refused(Refusal { kind: RefusalKind::Failed, message: message.into() })
}

fn pipes() -> [(OwnedFd, OwnedFd); 3] {
    std::array::from_fn(|_| rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap())
}

/// `None` when the endpoint gave it up.
async fn run(sender: &mut Sender, receiver: &mut Receiver, exec: Exec, seen: &Mutex<Seen>) -> Option<()> {
    let [(stdin_reads, stdin), (stdout, stdout_writes), (stderr, stderr_writes)] = pipes();
    let started = Answer::Started { pid: 1, descriptors: 2 + usize::from(exec.stdin) };
    let all = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let handed = if exec.stdin { &all[..] } else { &all[1..] };
    let gone = async |receiver: &mut Receiver| while let Ok(Some(_)) = receiver.receive::<Wish>().await {};
    match exec.command[0].as_str() {
        "@refuse" => sender.send(&refused("there is no @refuse"), &[]).await.ok(),
        "@silent" => {
            sender.send(&started, handed).await.ok()?;
            drop((stdin, stdout, stderr));
            gone(receiver).await;
            None
        }
        "@flood" => {
            sender.send(&started, handed).await.ok()?;
            drop((stdin, stdout, stderr));
            let output = tokio::net::unix::pipe::Sender::from_owned_fd(stdout_writes).unwrap();
            loop {
                tokio::select! {
                    ready = output.writable() => if output.try_write(&[7; 4096]).is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
                        return None;
                    } else { ready.unwrap() },
                    () = gone(receiver) => return None,
                }
            }
        }
        "@cut" => {
            rustix::io::write(&stdout_writes, b"before").unwrap();
            sender.send(&started, handed).await.ok()?;
            sender.send(&Answer::Ended(EndReason::TaskEnded), &[]).await.ok()
        }
        "@lost" => sender.send(&started, handed).await.ok(),
        "@leaky" => {
            rustix::io::write(&stdout_writes, b"before").unwrap();
            sender.send(&started, handed).await.ok()?;
            sender.send(&Answer::Exited(End::Code(0)), &[]).await.ok()?;
            drop((stdin, stdout, stderr));
            gone(receiver).await;
            Some(())
        }
        "@late" => {
            sender.send(&started, handed).await.ok()?;
            sender.send(&Answer::Exited(End::Code(3)), &[]).await.ok()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            rustix::io::write(&stdout_writes, b"late").unwrap();
            Some(())
        }
        _ => {
            let mut command = Command::new(&exec.command[0]);
            command.args(&exec.command[1..]).envs(exec.environment.clone());
            let (child, handed) = if let Some(size) = exec.terminal {
                drop((stdin_reads, stdout_writes, stderr_writes));
                let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
                grantpt(&master).unwrap();
                unlockpt(&master).unwrap();
                let slave = ptsname(&master, vec![]).unwrap();
                let slave =
                    std::fs::File::options().read(true).write(true).open(slave.to_str().unwrap()).unwrap();
                let winsize = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(&master, winsize).unwrap();
                let mut session = Command::new("setsid");
                session.arg("-c").args(&exec.command).envs(exec.environment.clone());
                session.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
                (session.spawn(), vec![master])
            } else {
                let input = if exec.stdin { Stdio::from(stdin_reads) } else { Stdio::null() };
                command.stdin(input).stdout(stdout_writes).stderr(stderr_writes).process_group(0);
                let kept = if exec.stdin { vec![stdin, stdout, stderr] } else { vec![stdout, stderr] };
                let child = command.spawn();
                drop(command);
                (child, kept)
            };
            let Ok(child) = child else {
                return sender.send(&refused("it cannot be started"), &[]).await.ok();
            };
            let mut killed = Killed(Some(child));
            let group = Pid::from_raw(killed.0.as_ref().unwrap().id().cast_signed()).unwrap();
            let borrowed: Vec<_> = handed.iter().map(|one| one.as_fd()).collect();
            let started = Answer::Started { pid: 1, descriptors: handed.len() };
            sender.send(&started, &borrowed).await.ok()?;
            drop(borrowed);
            drop(handed);
            let mut child = killed.0.take().unwrap();
            let _group = Group(group);
            let mut waiting = tokio::task::spawn_blocking(move || child.wait().unwrap());
            let status = loop {
                tokio::select! {
                    status = &mut waiting => break status.unwrap(),
                    wish = receiver.receive::<Wish>() => match wish {
                        Ok(Some((wish, _))) => {
                            seen.lock().unwrap().wishes.push(wish);
                            if let Wish::Signal(signal) = wish {
                                let signal = nix::sys::signal::Signal::try_from(signal).unwrap();
                                let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group.as_raw_nonzero().get()), signal);
                            }
                        }
                        _ => {
                            let _ = kill_process_group(group, Signal::KILL);
                            let _ = waiting.await;
                            return None;
                        }
                    },
                }
            };
            let end = status.code().map_or_else(|| End::Signal(status.signal().unwrap()), End::Code);
            sender.send(&Answer::Exited(end), &[]).await.ok()
        }
    }
}

/// Killed also when the test's runtime ends amid it.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

struct Killed(Option<Child>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A task that echoes a line of input, loses five bytes, and ends at `end`.
async fn attach(sender: &mut Sender, receiver: &mut Receiver, stdin: bool, seen: &Mutex<Seen>) {
    let [(stdin_reads, input), (stdout, stdout_writes), (stderr, stderr_writes)] = pipes();
    let descriptors = 2 + usize::from(stdin);
    let all = [stdout.as_fd(), stderr.as_fd(), input.as_fd()];
    let attached = Answer::Attached { terminal: false, stdin, descriptors };
    sender.send(&attached, &all[..descriptors]).await.unwrap();
    drop((stdout, stderr, input));
    rustix::io::write(&stdout_writes, b"hello\n").unwrap();
    sender.send(&Answer::Lost { bytes: 5 }, &[]).await.unwrap();
    let stdin_reads = tokio::net::unix::pipe::Receiver::from_owned_fd(stdin_reads).unwrap();
    loop {
        let mut line = [0; 64];
        tokio::select! {
            ready = stdin_reads.readable(), if stdin => {
                ready.unwrap();
                match stdin_reads.try_read(&mut line) {
                    Ok(read) if line[..read].starts_with(b"end") => break,
                    Ok(0) => break,
                    Ok(read) => drop(rustix::io::write(&stdout_writes, &line[..read]).unwrap()),
                    Err(_) => {}
                }
            }
            wish = receiver.receive::<Wish>() => match wish {
                Ok(Some((wish, _))) => seen.lock().unwrap().wishes.push(wish),
                _ => { seen.lock().unwrap().given_up += 1; return }
            }
        }
    }
    drop((stdout_writes, stderr_writes));
    let _ = sender.send(&Answer::Ended(EndReason::TaskEnded), &[]).await;
}
