//! Keeps a watch on every control socket, and publishes what the executors tell.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use task::control::{Answer, Pod, Request, Task};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::folder::{Changes, Watched};
use super::{FolderState, Inventory, PodView};
use crate::config::ControlFolder;
use crate::control::{Control, ControlError};

/// Looks after this time even if nothing seems to have changed.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);
/// Between looks for a folder that cannot be read.
const LOOK_FOR: Duration = Duration::from_millis(500);
/// Before an executor that cannot be reached is tried again: doubled each time, from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// What executors have told and is not yet taken over; when it is full, they wait.
const TOLD: usize = 256;
/// The most changes that are published at once.
const BATCH: usize = 1024;

/// What is published.
#[derive(Debug)]
pub struct Published {
    /// What there is.
    pub inventory: watch::Receiver<Arc<Inventory>>,
    /// Whether the folder can be read.
    pub folder: watch::Receiver<FolderState>,
}

/// Starts to watch, for as long as somebody is interested in what is published.
///
/// # Errors
/// inotify cannot be had.
pub fn start(folder: ControlFolder, url: String) -> io::Result<Published> {
    let (watched, changes) = Watched::new(folder)?;
    // So that it grows over restarts too: watches of clients outlive them.
    let revision = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default();
    let (inventory, inventory_reader) =
        watch::channel(Arc::new(Inventory { pods: BTreeMap::new(), revision }));
    let (folder, folder_reader) = watch::channel(FolderState::Unknown);
    let (teller, told) = mpsc::channel(TOLD);
    let watcher = Watcher {
        watched,
        url,
        inventory,
        folder,
        teller,
        executors: BTreeMap::new(),
        next: 0,
        revision,
        changed: false,
    };
    tokio::spawn(watcher.run(changes, told));
    Ok(Published { inventory: inventory_reader, folder: folder_reader })
}

struct Watcher {
    watched: Watched,
    url: String,
    inventory: watch::Sender<Arc<Inventory>>,
    folder: watch::Sender<FolderState>,
    teller: mpsc::Sender<Told>,
    executors: BTreeMap<PathBuf, Executor>,
    next: u64,
    revision: u64,
    changed: bool,
}

/// An executor whose socket is there.
struct Executor {
    /// Tells it from one that had the same socket before.
    number: u64,
    following: AbortHandle,
    view: Option<Arc<PodView>>,
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Something that an executor told.
struct Told {
    socket: PathBuf,
    number: u64,
    what: News,
}

#[derive(Debug)]
enum News {
    Pod(Box<Pod>),
    Changed(Box<Task>),
    Gone(mesos::common::TaskId),
    /// It cannot be reached.
    Lost,
}

impl Watcher {
    async fn run(mut self, mut changes: Changes, mut told: mpsc::Receiver<Told>) {
        let reader_gone = self.inventory.clone();
        let mut look_at = self.look();
        loop {
            self.publish();
            tokio::select! {
                event = changes.next() => {
                    // One look sees what all of them are about.
                    while event.is_some() && changes.next().now_or_never().flatten().is_some() {}
                    look_at = self.look();
                }
                Some(first) = told.recv() => {
                    self.take(first);
                    for _ in 1..BATCH {
                        let Ok(next) = told.try_recv() else { break };
                        self.take(next);
                    }
                }
                () = sleep_until(look_at) => look_at = self.look(),
                () = reader_gone.closed() => return,
            }
        }
    }

    /// Follows new sockets, forgets vanished ones, and says when to look again.
    fn look(&mut self) -> Instant {
        let sight = self.watched.look();
        self.forget_all_but(&sight.sockets);
        for socket in sight.sockets {
            if !self.executors.contains_key(&socket) {
                self.follow(socket);
            }
        }
        let again = if sight.error.is_some() { LOOK_FOR } else { LOOK_ANYWAY };
        let state = sight.error.map_or(FolderState::Readable, FolderState::Unreadable);
        self.folder.send_if_modified(|known| {
            let changed = *known != state;
            if changed && let FolderState::Unreadable(error) = &state {
                tracing::warn!(%error, "no executors can be found");
            }
            *known = state;
            changed
        });
        Instant::now() + again
    }

    fn forget_all_but(&mut self, sockets: &BTreeSet<PathBuf>) {
        let changed = &mut self.changed;
        self.executors.retain(|socket, executor| {
            let stays = sockets.contains(socket);
            *changed |= !stays && executor.view.is_some();
            stays
        });
    }

    fn follow(&mut self, socket: PathBuf) {
        let number = self.next;
        self.next += 1;
        let teller = Teller { socket: socket.clone(), number, told: self.teller.clone() };
        let following = tokio::spawn(follow(teller, self.url.clone())).abort_handle();
        self.executors.insert(socket, Executor { number, following, view: None });
    }

    fn take(&mut self, Told { socket, number, what }: Told) {
        let Some(executor) = self.executors.get_mut(&socket).filter(|executor| executor.number == number)
        else {
            return;
        };
        let revision = self.revision + 1;
        self.changed |= match (what, &mut executor.view) {
            (News::Pod(pod), view) => {
                *view = Some(Arc::new(PodView { socket, pod: *pod, revision }));
                true
            }
            (News::Lost, view) => view.take().is_some(),
            (change, Some(view)) => {
                let view = Arc::make_mut(view);
                view.revision = revision;
                apply(&mut view.pod.tasks, change);
                true
            }
            (_, None) => false,
        };
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.revision += 1;
        let views = self.executors.values().filter_map(|executor| executor.view.clone());
        let pods = views
            .map(|view| ((view.pod.framework_id.clone(), view.pod.container_id.clone()), view))
            .collect();
        self.inventory.send_replace(Arc::new(Inventory { pods, revision: self.revision }));
    }
}

/// What a change makes of a pod's tasks.
fn apply(tasks: &mut Vec<Task>, change: News) {
    match change {
        News::Changed(task) => match tasks.iter_mut().find(|known| known.id == task.id) {
            Some(known) => *known = *task,
            None => tasks.push(*task),
        },
        News::Gone(id) => tasks.retain(|task| task.id != id),
        News::Pod(_) | News::Lost => {}
    }
}

/// Tells the watcher about one executor.
struct Teller {
    socket: PathBuf,
    number: u64,
    told: mpsc::Sender<Told>,
}

impl Teller {
    /// Waits while the watcher has more than enough to take over.
    async fn tell(&self, what: News) {
        let told = Told { socket: self.socket.clone(), number: self.number, what };
        // The watcher ends this task when it ends itself.
        let _ = self.told.send(told).await;
    }
}

/// Follows one executor for as long as its socket is there; the watcher ends this.
async fn follow(teller: Teller, url: String) {
    let mut wait = BACKOFF.0;
    loop {
        let mut heard = false;
        let error = listen(&teller, &url, &mut heard).await;
        if heard {
            teller.tell(News::Lost).await;
            wait = BACKOFF.0;
        }
        if wait == BACKOFF.0 {
            tracing::info!(%error, "an executor cannot be reached");
        } else {
            tracing::debug!(%error, "an executor cannot be reached");
        }
        sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// Tells what an executor tells, until that ends, by an error.
async fn listen(teller: &Teller, url: &str, heard: &mut bool) -> ControlError {
    let watch = Request::Watch { url: Some(url.to_owned()) };
    let (mut control, mut answer) = match Control::ask(&teller.socket, &watch).await {
        Ok((control, answer, _)) => (control, answer),
        Err(error) => return error,
    };
    loop {
        let news = match answer {
            Answer::Pod(pod) => News::Pod(pod),
            Answer::Changed(task) if *heard => News::Changed(task),
            Answer::Gone(task) if *heard => News::Gone(task),
            other => return control.unexpected(&other),
        };
        *heard = true;
        teller.tell(news).await;
        answer = match control.answer().await {
            Ok((answer, _)) => answer,
            Err(error) => return error,
        };
    }
}

#[cfg(test)]
mod tests;
