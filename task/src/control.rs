//! The control socket: what an executor and the exec endpoint say to each other.
//!
//! One connection per request. The endpoint sends one [`Request`], then [`Wish`]es about it; the executor sends [`Answer`]s until
//! it closes. Closing the connection from the endpoint's side gives the request up: an exec is killed with all its
//! processes.
//!
//! ```text
//!  List    -> Pod                                       Signal -> Done
//!  Watch   -> Pod, then Changed | Gone ...              Attach -> Attached + pipes, Lost ..., Ended
//!  Exec    -> Started + stdio, then Exited | Ended      Logs   -> Files + files ..., Rotated + file ..., Ended
//!  any     -> Refused
//! ```
//!
//! The socket is `<control folder>/<framework id>/<agent id>.<container id>.sock` (see [`socket_name`]); both sides check the
//! peer's credentials (`unix(7)`, SO_PEERCRED).

use std::os::fd::OwnedFd;

use mesos::common::{Open, Resource, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::framed::Carries;

/// The ending of a control socket's name.
pub const SOCKET_SUFFIX: &str = ".sock";

/// How long the process of a session may outlive its task and still report its own end.
pub const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(200);

/// The name of an executor's control socket in its framework's folder.
pub fn socket_name(agent_id: &str, container_id: &str) -> String {
    format!("{agent_id}.{container_id}{SOCKET_SUFFIX}")
}

/// What the endpoint asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// The pod and its tasks, with what they use now.
    List,
    /// The pod and its tasks, then every change.
    Watch {
        /// Where the endpoint serves: while this connection lives, statuses carry it in a label.
        url: Option<String>,
    },
    /// A process in a task.
    Exec(Exec),
    /// The output of a task from now on; its input, if it has a terminal.
    Attach {
        /// Which.
        task: TaskId,
        /// Whether its input is wanted.
        stdin: bool,
    },
    /// A signal to a task's first process.
    Signal {
        /// Which.
        task: TaskId,
        /// Its number.
        signal: i32,
    },
    /// The log files of a task.
    Logs {
        /// Which.
        task: TaskId,
        /// Whether rotations are to be told until the task has ended.
        follow: bool,
    },
}

/// A process to be started in a task: in its cgroup, namespaces and folder, with its user and environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Which task.
    pub task: TaskId,
    /// The argv, never empty; the file is looked up as the task's own is.
    pub command: Vec<String>,
    /// Another user than the task's, by name or number.
    pub user: Option<String>,
    /// Variables besides the task's own.
    pub environment: Vec<(String, String)>,
    /// The folder, relative to the task's sandbox or absolute; the sandbox when unset.
    pub folder: Option<String>,
    /// Whether stdin is a pipe; `/dev/null` if not. A terminal always has one.
    pub stdin: bool,
    /// A terminal, and its size, instead of pipes.
    pub terminal: Option<WindowSize>,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What the endpoint wants of a request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// A signal to the exec's first process.
    Signal(i32),
    /// The terminal has another size. (An exec's the endpoint sets itself: it has the master.)
    Resize(WindowSize),
}

/// What the executor answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// The pod as it is.
    Pod(Box<Pod>),
    /// A task is new, or something of it changed.
    Changed(Box<Task>),
    /// A task is forgotten.
    Gone(TaskId),
    /// The exec's process runs. Descriptors: the terminal's master; or stdin's writing end (if asked for), stdout's and
    /// stderr's reading ends.
    Started {
        /// Its process id on the host.
        pid: u32,
        /// How many descriptors there are.
        descriptors: usize,
    },
    /// The exec's process ended by itself, and its outputs' writing ends are closed here. The last answer.
    Exited(End),
    /// Descriptors: the reading end of the output (of a terminal), or stdout's and stderr's; then, if there is one, the writing end
    /// of its input.
    Attached {
        /// Whether the task has a terminal.
        terminal: bool,
        /// Whether the last descriptor is its input.
        stdin: bool,
        /// How many descriptors there are.
        descriptors: usize,
    },
    /// So many bytes of attached output did not fit into the pipe, in all.
    Lost {
        /// Bytes.
        bytes: u64,
    },
    /// The log files. Descriptors: read-only, in the order of `files`.
    Files {
        /// What they are: stdout's from the oldest to the one written to, then stderr's.
        files: Vec<LogFile>,
        /// Whether the list goes on in another such answer: they are more than one message carries.
        more: bool,
    },
    /// A stream goes on in a new file. Descriptors: read-only, the file, then its times if it has any.
    Rotated(LogFile),
    /// The signal was sent.
    Done,
    /// It ended from outside. The last answer.
    Ended(EndReason),
    /// It cannot be, or may not. The last answer.
    Refused(Refusal),
}

impl Carries for Answer {
    fn descriptors(&self) -> usize {
        match self {
            Self::Started { descriptors, .. } | Self::Attached { descriptors, .. } => *descriptors,
            Self::Files { files, .. } => files.iter().map(LogFile::descriptors).sum(),
            Self::Rotated(file) => file.descriptors(),
            _ => 0,
        }
    }
}

impl Carries for Request {
    fn descriptors(&self) -> usize {
        0
    }
}

impl Carries for Wish {
    fn descriptors(&self) -> usize {
        0
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl End {
    /// The exit code as a shell gives it: 128 and the signal's number for one that died of a signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }

    /// The status as `wait(2)` gives it, without the core flag.
    pub fn wait_status(self) -> i32 {
        match self {
            Self::Code(code) => (code & 0xff) << 8,
            Self::Signal(number) => number & 0x7f,
        }
    }
}

/// Why something ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// The task ended; so did everything in it.
    TaskEnded,
    /// The pod ended.
    PodEnded,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For people: one sentence without a full stop.
    pub message: String,
}

/// The kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalKind {
    /// No such task here.
    UnknownTask,
    /// The task has no process now.
    NotRunning,
    /// The task's settings do not allow it.
    Forbidden,
    /// The request makes no sense.
    Invalid,
    /// It could not be done: no such command, no such user, no memory.
    Failed,
}

/// A log file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Of which stream.
    pub stream: Stream,
    /// Whether a second descriptor gives the times of its bytes: records of 16 bytes, little-endian: the offset (u64), milliseconds
    /// since 1970 (u48), the number of the task's process (u16, 1 for the first); bytes from that offset on were read then.
    /// Of a file that the task could write to: what is not in order means nothing.
    pub times: bool,
    /// How many bytes at its beginning were the end of the stream's file before: a line that had not ended. They were taken
    /// off that file, and who had read further in it than it is long now has read so many bytes more, at most these, and
    /// leaves them out here. 0 in [`Answer::Files`].
    pub moved: u64,
}

impl LogFile {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        1 + usize::from(self.times)
    }
}

/// An output stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output, and all output of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A pod instance and its tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pod {
    /// Its name (`etcd-0`).
    pub name: String,
    /// The framework's id.
    pub framework_id: String,
    /// The framework's name.
    pub framework: String,
    /// The agent's id.
    pub agent_id: String,
    /// The agent's host.
    pub hostname: String,
    /// The executor's id.
    pub executor_id: String,
    /// The executor's container.
    pub container_id: String,
    /// Its address: its own, or the host's.
    pub address: std::net::IpAddr,
    /// Whether that address is its own.
    pub own_network: bool,
    /// When the executor started, milliseconds since 1970.
    pub started_at: u64,
    /// The executor's sandbox on the host.
    pub sandbox: String,
    /// Its tasks, the ended ones that are not yet forgotten included.
    pub tasks: Vec<Task>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its name (`etcd-0-peer`).
    pub name: String,
    /// Its state.
    pub state: Open<TaskState>,
    /// Since when it has that state, milliseconds since 1970.
    pub since: u64,
    /// When it was launched, milliseconds since 1970.
    pub launched_at: u64,
    /// When its present (or last) process started.
    pub started_at: Option<u64>,
    /// When its last process ended, and how, if one has.
    pub last_end: Option<LastEnd>,
    /// What its liveness checks say.
    pub healthy: Option<bool>,
    /// Whether it can be used.
    pub ready: Option<bool>,
    /// How often it was restarted in place.
    pub restarts: u32,
    /// The reason of its state (`REASON_...`).
    pub reason: Option<String>,
    /// The message of its state.
    pub message: Option<String>,
    /// Its first process on the host, while it runs.
    pub pid: Option<u32>,
    /// Its user; the executor's own when unset.
    pub user: Option<String>,
    /// Its argv.
    pub command: Vec<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// The resources that it was launched with.
    pub resources: Vec<Resource>,
    /// Its sandbox on the host.
    pub sandbox: String,
    /// What it uses; of [`Request::List`] only.
    pub usage: Option<Usage>,
}

/// How a task's last process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastEnd {
    /// How; `None` where the pod's init died with it.
    pub end: Option<End>,
    /// When, milliseconds since 1970.
    pub at: u64,
    /// When that process had started.
    pub started_at: Option<u64>,
    /// Whether the kernel killed it for lack of memory.
    pub out_of_memory: bool,
}

/// What a task uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time so far in microseconds.
    pub cpu_micros: u64,
    /// Memory in bytes, what could be had back at once not included.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub processes: u64,
}

/// Descriptors that came with an answer, in its order.
pub type Descriptors = Vec<OwnedFd>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_died_of_a_signal_has_128_and_its_number_in_a_shell_and_its_number_in_wait() {
        assert_eq!((End::Signal(15).shell_code(), End::Signal(15).wait_status()), (143, 15));
        assert_eq!((End::Code(7).shell_code(), End::Code(7).wait_status()), (7, 0x700));
    }

    #[test]
    fn as_many_descriptors_come_as_the_answer_says() {
        let file = |times| LogFile { stream: Stream::Stdout, times, moved: 0 };
        assert_eq!(Answer::Files { files: vec![file(true), file(false)], more: false }.descriptors(), 3);
        assert_eq!(Answer::Rotated(file(true)).descriptors(), 2);
        assert_eq!(Answer::Done.descriptors(), 0);
    }
}
