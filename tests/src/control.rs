//! A client of executors' control sockets, as the exec endpoint is one.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesos::common::TaskId;
use task::connection::{self, Receiver, Sender};
use task::control::{Answer, Exec, Pod, Refusal, Request, SOCKET_SUFFIX, Wish};
use tokio::net::UnixStream;

use crate::fake_agent::PATIENCE;

/// A connection with one request under way. Dropped, it gives the request up.
#[derive(Debug)]
pub struct Asked {
    sender: Sender,
    receiver: Receiver,
}

/// A session in a task.
#[derive(Debug)]
pub struct Session {
    /// Its connection.
    pub asked: Asked,
    /// Its process on the host; 0 if it had ended before anybody looked.
    pub pid: u32,
    /// The terminal's master; or stdin's end if asked for, stdout's, stderr's.
    pub ends: Vec<OwnedFd>,
}

/// The control socket in this control folder whose name holds the container's id; none while there is none.
pub fn socket_of(control: &Path, container: &str) -> Option<PathBuf> {
    let below = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let sockets = below(control).into_iter().flat_map(|folder| below(&folder));
    // Until it has its owner and mode, it has another ending.
    let named = |path: &PathBuf| {
        let path = path.to_string_lossy();
        path.contains(container) && path.ends_with(SOCKET_SUFFIX)
    };
    sockets.into_iter().find(named)
}

/// A process with these arguments in a task, and nothing else asked for.
pub fn command(task: &str, arguments: &[&str]) -> Exec {
    Exec {
        task: TaskId::new(task),
        command: arguments.iter().map(|&one| one.to_owned()).collect(),
        user: None,
        environment: Vec::new(),
        folder: None,
        stdin: false,
        terminal: None,
    }
}

/// Connects through the folder's descriptor: the whole path may be longer than a socket's address holds.
///
/// # Errors
/// What the kernel says.
pub async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let folder = File::open(socket.parent().expect("a folder"))?;
    let name = socket.file_name().expect("a name");
    UnixStream::connect(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)).await
}

/// Asks.
///
/// # Panics
/// Nobody listens.
pub async fn ask(socket: &Path, request: &Request) -> Asked {
    let (mut sender, receiver) = connection::split(connect(socket).await.expect("connect"));
    sender.send(request, &[]).await.expect("ask");
    Asked { sender, receiver }
}

/// The pod and its tasks.
///
/// # Panics
/// Something else is answered.
pub async fn list(socket: &Path) -> Pod {
    match ask(socket, &Request::List).await.answer().await {
        Answer::Pod(pod) => *pod,
        other => panic!("a list is answered with {other:?}"),
    }
}

/// Starts a session.
///
/// # Errors
/// It is refused.
///
/// # Panics
/// Something else is answered.
pub async fn exec(socket: &Path, exec: Exec) -> Result<Session, Refusal> {
    let mut asked = ask(socket, &Request::Exec(exec)).await;
    match asked.next().await {
        Some((Answer::Started { pid, descriptors }, ends)) => {
            assert_eq!(ends.len(), descriptors);
            Ok(Session { asked, pid, ends })
        }
        Some((Answer::Refused(refusal), _)) => Err(refusal),
        other => panic!("an exec is answered with {other:?}"),
    }
}

impl Asked {
    /// The next answer and its descriptors; `None` when the executor has closed.
    ///
    /// # Panics
    /// After [`PATIENCE`].
    pub async fn next(&mut self) -> Option<(Answer, Vec<OwnedFd>)> {
        let next = tokio::time::timeout(PATIENCE, self.receiver.receive::<Answer>()).await;
        next.expect("an answer in time").expect("an answer that makes sense")
    }

    /// The next answer.
    ///
    /// # Panics
    /// There is none.
    pub async fn answer(&mut self) -> Answer {
        self.next().await.expect("an answer").0
    }

    /// Whether the executor closes without a word within this time.
    pub async fn is_closed_within(&mut self, time: Duration) -> bool {
        matches!(tokio::time::timeout(time, self.receiver.receive::<Answer>()).await, Ok(Ok(None) | Err(_)))
    }

    /// Tells a wish.
    ///
    /// # Panics
    /// The executor has closed.
    pub async fn wish(&mut self, wish: Wish) {
        self.sender.send(&wish, &[]).await.expect("tell a wish");
    }
}

impl Session {
    /// Everything that comes from the last but `back` of its ends, until that is closed.
    pub async fn rest(&mut self, back: usize) -> String {
        let end = self.ends.remove(self.ends.len() - 1 - back);
        rest(end).await
    }

    /// Its output and how it ended.
    pub async fn finish(mut self) -> (String, Answer) {
        let output = self.rest(usize::from(self.ends.len() > 1)).await;
        (output, self.asked.answer().await)
    }
}

/// Everything that comes from this end, until it is closed. (That of a terminal then says EIO.)
///
/// # Panics
/// After [`PATIENCE`].
pub async fn rest(end: OwnedFd) -> String {
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        drop(File::from(end).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    tokio::time::timeout(PATIENCE, reading).await.expect("the end of an output").expect("read an output")
}
