//! What the executor and a pod's init say to each other over their socket.
//!
//! The framing is [`task::framed`].

use serde::{Deserialize, Serialize};

/// Start a process. Descriptors: stdin, stdout, stderr, the cgroup2 folder if `into_cgroup`, then `tasks` files.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spawn {
    /// The number that replies carry.
    pub id: u64,
    /// How many descriptors come with it.
    pub descriptors: usize,
    /// Whether the fourth descriptor is a cgroup2 folder.
    pub into_cgroup: bool,
    /// The file.
    pub file: String,
    /// Where it is looked up if it has no slash.
    pub lookup: Lookup,
    /// The whole argv.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// The working folder.
    pub folder: String,
    /// As whom it runs.
    pub account: Option<Account>,
    /// The capabilities left to it: bounding, ambient (as bit masks).
    pub capabilities: Option<(u64, u64)>,
    /// Whether `no_new_privs` is set.
    pub no_new_privileges: bool,
    /// Resource limits: number of the resource, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
    /// The file mode creation mask.
    pub umask: u32,
    /// How willing the kernel is to kill it.
    pub oom_score_adj: Option<i16>,
    /// Whether stdin is a terminal that becomes its controlling one.
    pub terminal: bool,
}

/// Where a file without a slash is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lookup {
    /// In the folder, as Mesos has it, then in PATH: a task's own command.
    FolderAndPath,
    /// In PATH: somebody else's command, which the task must not be able to take the place of.
    Path,
}

/// An account, looked up already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user.
    pub uid: u32,
    /// The first group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
}

/// What init answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Init is PID 1 of its pod. Descriptor: its pidfd, sent by the process that made it.
    Ready,
    /// A process is there. Descriptors: its pidfd; a pipe that ends when execve is done, or says why it is not.
    Spawned {
        /// The number of the request.
        id: u64,
    },
    /// No process could be made.
    Failed {
        /// The number of the request.
        id: u64,
        /// Why.
        error: String,
    },
    /// A process ended.
    Exited {
        /// The number of its request.
        id: u64,
        /// The exit code, if it has one.
        code: Option<i32>,
        /// The signal that killed it, if one did, and whether a core was dumped.
        signal: Option<(i32, bool)>,
    },
}

impl Reply {
    /// The most descriptors that come with one.
    pub const MOST_DESCRIPTORS: usize = 2;

    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Ready => 1,
            Self::Spawned { .. } => 2,
            Self::Failed { .. } | Self::Exited { .. } => 0,
        }
    }
}
