//! Watches: what changes in what a caller sees, as JSON lines.
//!
//! ```text
//!  inventory (watch channel) -> views -> diff to what the client knows -> ADDED, MODIFIED, DELETED ...
//!  resourceVersion: absent or 0: all that is there comes first; one of a list or event given out here: what changed since;
//!                   any other: 410 in an ERROR event, and the client lists anew
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::status::Failure;
use super::table::{self, Form};
use super::view::{self, Kind, View, Views};
use super::{Scope, now, objects, present, status, views};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::inventory::Inventory;
use crate::policy::Verb as Right;
use crate::protocol::query::{Query, QueryError};

/// So many inventories are remembered.
const REMEMBERED: usize = 64;
/// So many watches there may be at once.
const MOST_WATCHES: usize = 512;
/// A watch lasts so long unless the client says otherwise, and not longer.
const LONGEST: Duration = Duration::from_secs(3600);
/// How often a client that allows it is told the revision.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// About as much is sent at once.
const PIECE: usize = 64 << 10;

/// The last inventories whose revisions were given out, and the bound on watches.
#[derive(Debug)]
pub struct History {
    inventories: Mutex<VecDeque<Arc<Inventory>>>,
    watches: Arc<Semaphore>,
}

impl Default for History {
    fn default() -> Self {
        Self { inventories: Mutex::default(), watches: Arc::new(Semaphore::new(MOST_WATCHES)) }
    }
}

impl History {
    /// Remembers one; the oldest is forgotten.
    pub fn remember(&self, inventory: &Arc<Inventory>) {
        let mut all = self.inventories.lock().unwrap_or_else(PoisonError::into_inner);
        if all.back().is_none_or(|last| last.revision < inventory.revision) {
            all.push_back(Arc::clone(inventory));
        }
        if all.len() > REMEMBERED {
            all.pop_front();
        }
    }

    /// What somebody knows who knows this revision, or a little less; `None` when nobody remembers.
    fn at(&self, revision: u64) -> Option<Arc<Inventory>> {
        let all = self.inventories.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = all.back()?.revision;
        all.iter().rev().find(|one| one.revision <= revision && revision <= newest).map(Arc::clone)
    }
}

/// From where a watch goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// All that is there comes first.
    Nothing,
    /// What the client knows.
    Revision(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    from: From,
    bookmarks: bool,
    /// Whether the end of what was there at the beginning is to be told (`sendInitialEvents`).
    mark: bool,
    lasts: Duration,
}

impl Asked {
    fn parse(query: &Query) -> Result<Self, QueryError> {
        let initial = query.boolean("sendInitialEvents")?;
        let from = match query.number("resourceVersion")? {
            Some(revision) if revision > 0 && !initial => From::Revision(revision),
            _ => From::Nothing,
        };
        let lasts = query.number("timeoutSeconds")?.map_or(LONGEST, Duration::from_secs).min(LONGEST);
        Ok(Self { from, bookmarks: query.boolean("allowWatchBookmarks")?, mark: initial, lasts })
    }
}

/// Begins a watch of pods.
///
/// # Errors
/// What is wrong with the request, or too many watches.
pub fn start(
    endpoint: Arc<Endpoint>,
    caller: Caller,
    scope: Scope,
    form: Form,
    query: &Query,
) -> Result<Response<Body>, Failure> {
    let asked = Asked::parse(query)?;
    let permit = Arc::clone(&endpoint.kubernetes.history.watches).try_acquire_owned();
    let permit = permit.map_err(|_| {
        let message = format!("there are {MOST_WATCHES} watches already, end one or try again later");
        Failure::too_many(message)
    })?;
    let (sender, body) = status::stream();
    let watch =
        Watch { endpoint, caller, scope, sender, events: Events { form, headed: false }, _permit: permit };
    tokio::spawn(watch.run(asked));
    Ok(status::response(StatusCode::OK, status::JSON, body))
}

struct Watch {
    endpoint: Arc<Endpoint>,
    caller: Caller,
    scope: Scope,
    sender: mpsc::Sender<io::Result<Bytes>>,
    events: Events,
    _permit: OwnedSemaphorePermit,
}

impl Watch {
    async fn run(mut self, asked: Asked) {
        let mut changes = self.endpoint.inventory.clone();
        let mut inventory = Arc::clone(&changes.borrow_and_update());
        present(&self.endpoint);
        let (mut known, after) = match asked.from {
            From::Nothing => (Views::new(), 0),
            From::Revision(revision) => match self.endpoint.kubernetes.history.at(revision) {
                Some(base) => (self.views(&base), revision),
                None => return self.gone(revision).await,
            },
        };
        let end = Instant::now() + asked.lasts;
        let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARKS, BOOKMARKS);
        let (mut after, mut mark) = (after, asked.mark);
        loop {
            self.endpoint.kubernetes.history.remember(&inventory);
            let views = self.views(&inventory);
            if self.tell(&known, &views, after, inventory.revision).await.is_err() {
                return;
            }
            (known, after) = (views, 0);
            if std::mem::take(&mut mark)
                && self.send(self.events.bookmark(inventory.revision, true)).await.is_err()
            {
                return;
            }
            loop {
                tokio::select! {
                    changed = changes.changed() => match changed {
                        Ok(()) => break,
                        Err(_) => return,
                    },
                    _ = bookmarks.tick() => {
                        if asked.bookmarks && self.send(self.events.bookmark(inventory.revision, false)).await.is_err() {
                            return;
                        }
                    }
                    () = tokio::time::sleep_until(end) => return,
                    () = self.sender.closed() => return,
                    () = self.endpoint.drained() => return,
                }
            }
            inventory = Arc::clone(&changes.borrow_and_update());
        }
    }

    fn views(&self, inventory: &Inventory) -> Views {
        views(&self.endpoint, &self.caller, inventory, &self.scope, &Right::List)
    }

    /// Tells what changed, but for what the client knows as it is not later than `after`.
    async fn tell(&mut self, known: &Views, views: &Views, after: u64, revision: u64) -> Result<(), Closed> {
        let mut piece = Vec::new();
        for (kind, view) in view::diff(known, views) {
            if kind != Kind::Deleted && view.pod.revision <= after {
                continue;
            }
            piece.extend(self.events.change(kind, view, revision, now()));
            if piece.len() >= PIECE {
                self.send(std::mem::take(&mut piece)).await?;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.send(piece).await }
    }

    async fn send(&self, piece: Vec<u8>) -> Result<(), Closed> {
        self.sender.send(Ok(Bytes::from(piece))).await.map_err(|_| Closed)
    }

    async fn gone(self, revision: u64) {
        let message = format!("too old resource version: {revision}");
        let object = Failure::new(StatusCode::GONE, "Expired", message).object();
        let _ = self.send(line("ERROR", &object)).await;
    }
}

/// The client went away.
struct Closed;

/// Writes events.
#[derive(Debug)]
struct Events {
    form: Form,
    /// Whether the columns were told.
    headed: bool,
}

impl Events {
    fn change(&mut self, kind: Kind, view: &View, revision: u64, now: u64) -> Vec<u8> {
        let at = (kind == Kind::Deleted).then_some(revision);
        let object = match self.form {
            Form::Object => objects::pod(view, at),
            Form::Table(version, include) => {
                let row = table::pod_row(view, include, version, now, at);
                let columns =
                    if std::mem::replace(&mut self.headed, true) { json!([]) } else { table::pod_columns() };
                table::table(version, at.unwrap_or(view.pod.revision), columns, vec![row])
            }
        };
        line(kind.name(), &object)
    }

    fn bookmark(&self, revision: u64, initial: bool) -> Vec<u8> {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = match self.form {
            Form::Object => json!({ "kind": "Pod", "apiVersion": "v1", "metadata": metadata }),
            Form::Table(version, _) => {
                let mut table = table::table(version, revision, json!([]), Vec::new());
                metadata["creationTimestamp"].take();
                table["metadata"] = metadata;
                table
            }
        };
        line("BOOKMARK", &object)
    }
}

fn line(kind: &str, object: &Value) -> Vec<u8> {
    let mut line = json!({ "type": kind, "object": object }).to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::kubernetes::fixtures::inventory;

    #[test]
    fn what_was_given_out_is_known_until_much_has_happened_since() {
        let history = History::default();
        assert!(history.at(1).is_none());
        for revision in [10, 12, 12, 15] {
            history.remember(&Arc::new(inventory(revision, vec![])));
        }
        let known = |revision| history.at(revision).map(|one| one.revision);
        assert_eq!(
            (known(9), known(10), known(11), known(15), known(16)),
            (None, Some(10), Some(10), Some(15), None)
        );
        for revision in 100..200 {
            history.remember(&Arc::new(inventory(revision, vec![])));
        }
        assert_eq!((known(15), known(199)), (None, Some(199)));
    }

    #[test]
    fn the_parameters_say_from_where_and_how_long() {
        let parse = |text: &str| Asked::parse(&Query::parse(text).unwrap());
        let plain = Asked { from: From::Nothing, bookmarks: false, mark: false, lasts: LONGEST };
        assert_eq!(parse("watch=true").unwrap(), plain);
        assert_eq!(parse("resourceVersion=0").unwrap(), plain);
        let some = parse("resourceVersion=7&allowWatchBookmarks=true&timeoutSeconds=5").unwrap();
        assert_eq!(
            some,
            Asked { from: From::Revision(7), bookmarks: true, mark: false, lasts: Duration::from_secs(5) }
        );
        assert_eq!(parse("timeoutSeconds=99999999").unwrap().lasts, LONGEST);
        let initial =
            parse("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7").unwrap();
        assert_eq!((initial.from, initial.mark), (From::Nothing, true));
        assert!(parse("resourceVersion=x").is_err());
    }
}
