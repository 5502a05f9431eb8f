//! The pods and tasks of this host, as their executors tell them.
//!
//! ```text
//!  control folder --inotify--> socket found -> Watch -> Pod, Changed, Gone -> Inventory (watch channel)
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`folder`] | which sockets there are |
//! | [`watcher`] | keeps a watch on each, and publishes what they tell |

pub mod folder;
pub mod watcher;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use task::control::{Pod, Task};

/// All pods of this host that can be reached now. A value is never changed: a new one is published.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// By framework id and container id.
    pub pods: BTreeMap<(String, String), Arc<PodView>>,
    /// Grows with every change: the resourceVersion of lists and watches.
    pub revision: u64,
}

/// A pod as its executor tells it.
#[derive(Debug, Clone)]
pub struct PodView {
    /// The executor's control socket.
    pub socket: PathBuf,
    /// What it is.
    pub pod: Pod,
    /// The inventory's revision at its last change.
    pub revision: u64,
}

/// A task and the pod it is in.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its pod.
    pub pod: &'a Arc<PodView>,
    /// The task.
    pub task: &'a Task,
}

/// Whether the executors' folder can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderState {
    /// It has not been tried yet.
    Unknown,
    /// It can.
    Readable,
    /// It cannot, and why. It is tried again and again.
    Unreadable(String),
}

impl Inventory {
    /// All tasks.
    pub fn tasks(&self) -> impl Iterator<Item = Found<'_>> {
        self.pods.values().flat_map(|pod| pod.pod.tasks.iter().map(move |task| Found { pod, task }))
    }
}
