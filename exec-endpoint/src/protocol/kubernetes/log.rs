//! `GET .../log`: a task's log, as kubectl asks for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use task::control::{Answer, Stream, Task};
use tokio::sync::mpsc;

use super::status::Failure;
use super::{now, status, view};
use crate::control::Control;
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::{Asked, Closing, Denied, Granted};
use crate::inventory::PodView;
use crate::policy::{Target, Verb};
use crate::protocol::query::{Query, QueryError};
use crate::session::log::{self, OpenError, Piece, Reader, Wanted};

/// As the audit and the metrics name it.
const PROTOCOL: &str = "kubernetes";

/// How often a log that is followed is looked at: at first, and after a while without anything new.
const SOONEST: Duration = Duration::from_millis(10);
const LATEST: Duration = Duration::from_millis(200);

/// Answers with the log of a task. The query is that of kubectl (`follow`, `tailLines`, `sinceSeconds`, `sinceTime`, `timestamps`,
/// `previous`, `limitBytes`, `stream`); without `previous`, what all processes of the task wrote.
pub async fn log(
    endpoint: Arc<Endpoint>,
    caller: Caller,
    pod: Arc<PodView>,
    task: Task,
    query: &str,
) -> Response<Body> {
    let begun = begin(&endpoint, &caller, &pod, &task, query).await;
    begun.unwrap_or_else(|failure| failure.response())
}

/// Asks the gate whether somebody may read a task's log.
///
/// # Errors
/// They may not.
pub fn ask(endpoint: &Endpoint, caller: &Caller, pod: &PodView, task: &Task) -> Result<Granted, Denied> {
    let target = Target { framework: &pod.pod.framework, pod: &pod.pod.name, task: &task.name };
    endpoint.gate.ask(&Asked {
        who: &caller.who,
        peer: caller.peer,
        verbs: vec![Verb::Logs],
        target: Some(target),
        protocol: PROTOCOL,
        command: &[],
    })
}

/// What a query wants, `now` being milliseconds since 1970.
///
/// # Errors
/// [`QueryError`].
pub fn wanted(query: &str, restarts: u32, now: u64) -> Result<Wanted, QueryError> {
    let query = Query::parse(query)?;
    let positive = |name| match query.number(name)? {
        Some(0) => Err(Query::wrong(name, "0", "greater than 0")),
        other => Ok(other),
    };
    let since = match (positive("sinceSeconds")?, query.text("sinceTime")) {
        (Some(_), Some(time)) => Err(Query::wrong("sinceTime", time, "possible together with sinceSeconds")),
        (Some(seconds), None) => Ok(Some(now.saturating_sub(seconds.saturating_mul(1000)))),
        (None, Some(time)) => {
            let parsed = time
                .parse::<Timestamp>()
                .map_err(|_| Query::wrong("sinceTime", time, "a time as of RFC 3339"))?;
            Ok(Some(u64::try_from(parsed.as_millisecond()).unwrap_or(0)))
        }
        (None, None) => Ok(None),
    }?;
    let stream = match query.text("stream").map(str::to_ascii_lowercase).as_deref() {
        None | Some("all") => None,
        Some("stdout") => Some(Stream::Stdout),
        Some("stderr") => Some(Stream::Stderr),
        Some(other) => return Err(Query::wrong("stream", other, "stdout, stderr or all")),
    };
    let previous = query.boolean("previous")?;
    Ok(Wanted {
        stream,
        follow: query.boolean("follow")? && !previous,
        tail: query.number("tailLines")?,
        since,
        timestamps: query.boolean("timestamps")?,
        limit: positive("limitBytes")?,
        before_restarts: previous.then_some(restarts),
    })
}

async fn begin(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    pod: &PodView,
    task: &Task,
    query: &str,
) -> Result<Response<Body>, Failure> {
    let wanted = wanted(query, task.restarts, now())?;
    let granted = ask(endpoint, caller, pod, task);
    let granted = granted.map_err(|denied| Failure::forbidden(denied.to_string()))?;
    match open(endpoint, caller, pod, task, wanted).await {
        Ok((feed, permit, body)) => {
            tokio::spawn(async move {
                let _permit = permit;
                let (reason, bytes_out) = feed.run().await;
                close(granted, reason, bytes_out);
            });
            Ok(status::response(StatusCode::OK, "text/plain", body))
        }
        Err(refused) => {
            close(granted, refused.reason, 0);
            Err(refused.failure)
        }
    }
}

struct Refused {
    reason: String,
    failure: Failure,
}

impl Refused {
    fn new(reason: impl std::fmt::Display, failure: Failure) -> Self {
        Self { reason: reason.to_string(), failure }
    }
}

async fn open(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    pod: &PodView,
    task: &Task,
    wanted: Wanted,
) -> Result<(Feed, crate::session::limits::Permit, Body), Refused> {
    let permit = endpoint
        .sessions
        .permit(PROTOCOL, &caller.who.user, task.id.as_str())
        .map_err(|many| Refused::new(&many, Failure::too_many(many.to_string())))?;
    let opened = log::open(&pod.socket, task, wanted.follow).await;
    let (control, files) = opened.map_err(|error| Refused::new(&error, Failure::from(&error)))?;
    let reader = tokio::task::spawn_blocking(move || Reader::new(files, &wanted)).await;
    let reader = reader.unwrap_or_else(|error| Err(OpenError::Io(io::Error::other(error))));
    let reader = reader.map_err(|error| {
        let container = view::container_name(&pod.pod.name, &task.name);
        let failure = match &error {
            OpenError::NoPrevious => Failure::bad_request(format!(
                "previous terminated container \"{container}\" in pod \"{}\" not found",
                pod.pod.name
            )),
            OpenError::Io(_) => {
                Failure::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", error.to_string())
            }
        };
        Refused::new(error, failure)
    })?;
    let (sender, body) = status::stream();
    let control = wanted.follow.then_some(control);
    let (endpoint, end) = (Arc::clone(endpoint), "end of the log");
    Ok((Feed { endpoint, reader: Some(reader), control, sender, sent: 0, end }, permit, body))
}

fn close(granted: Granted, reason: impl Into<String>, bytes_out: u64) {
    granted.close(&Closing { bytes_out, reason: reason.into(), ..Closing::default() });
}

/// A log on its way to a client.
struct Feed {
    endpoint: Arc<Endpoint>,
    /// `None` only while it reads.
    reader: Option<Reader>,
    /// Tells rotations and the task's end, while that is followed.
    control: Option<Control>,
    sender: mpsc::Sender<io::Result<Bytes>>,
    sent: u64,
    /// Why it will have ended when all is read.
    end: &'static str,
}

/// Why a feed stops.
enum Stop {
    /// The client went away.
    Gone,
    /// It cannot go on; the client must not take what it has for the whole.
    Broken(io::Error),
}

impl Feed {
    /// Sends everything; says why it ended, and how many bytes there were.
    async fn run(mut self) -> (String, u64) {
        let reason = match self.send_all().await {
            Ok(()) => self.end.to_owned(),
            Err(Stop::Gone) => "client went away".to_owned(),
            Err(Stop::Broken(error)) => {
                let reason = error.to_string();
                let _ = self.sender.send(Err(error)).await;
                reason
            }
        };
        (reason, self.sent)
    }

    async fn send_all(&mut self) -> Result<(), Stop> {
        let mut tick = SOONEST;
        loop {
            match self.read().await.map_err(Stop::Broken)? {
                Piece::Bytes(bytes) if bytes.is_empty() => {}
                Piece::Bytes(bytes) => {
                    tick = SOONEST;
                    let length = bytes.len() as u64;
                    self.sender.send(Ok(bytes)).await.map_err(|_| Stop::Gone)?;
                    self.sent += length;
                    self.endpoint.metrics.bytes_out.inc_by(length);
                }
                Piece::Waiting => self.wait(&mut tick).await?,
                Piece::End => return Ok(()),
            }
        }
    }

    /// The next piece, read where a slow disk keeps nobody else waiting.
    async fn read(&mut self) -> io::Result<Piece> {
        let Some(mut reader) = self.reader.take() else { return Ok(Piece::End) };
        let (reader, piece) = tokio::task::spawn_blocking(move || {
            let piece = reader.next_piece();
            (reader, piece)
        })
        .await
        .map_err(io::Error::other)?;
        self.reader = Some(reader);
        piece
    }

    /// Until there is more to read, or a rotation, or the end.
    async fn wait(&mut self, tick: &mut Duration) -> Result<(), Stop> {
        let (Some(reader), Some(control)) = (&mut self.reader, &mut self.control) else {
            self.finish("end of the log");
            return Ok(());
        };
        loop {
            tokio::select! {
                answer = control.answer() => {
                    match answer {
                        Ok((Answer::Rotated(file), descriptors)) => {
                            if let Some(segment) = log::segment(&file, &mut descriptors.into_iter()) {
                                reader.rotated(&file, segment);
                            }
                        }
                        Ok((Answer::Ended(_), _)) => self.finish("task ended"),
                        Ok((other, _)) => return Err(Stop::Broken(io::Error::other(control.unexpected(&other)))),
                        Err(error) => return Err(Stop::Broken(io::Error::other(error))),
                    }
                    return Ok(());
                }
                () = tokio::time::sleep(*tick) => {
                    if reader.has_grown().map_err(Stop::Broken)? {
                        *tick = SOONEST;
                        return Ok(());
                    }
                    *tick = (*tick * 3 / 2).min(LATEST);
                }
                () = self.sender.closed() => return Err(Stop::Gone),
                () = self.endpoint.drained() => {
                    return Err(Stop::Broken(io::Error::other("the endpoint is stopping")));
                }
            }
        }
    }

    fn finish(&mut self, end: &'static str) {
        self.control = None;
        self.end = end;
        if let Some(reader) = &mut self.reader {
            reader.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_of_kubectl_says_what_is_wanted() {
        let query = "container=peer&follow=true&tailLines=10&timestamps=true&sinceSeconds=60&limitBytes=5&stream=Stdout";
        let expected = Wanted {
            stream: Some(Stream::Stdout),
            follow: true,
            tail: Some(10),
            since: Some(40_000),
            timestamps: true,
            limit: Some(5),
            before_restarts: None,
        };
        assert_eq!(wanted(query, 3, 100_000), Ok(expected));
        let since = wanted("sinceTime=1970-01-01T00%3A01%3A00%2B00%3A00", 0, 0).unwrap().since;
        assert_eq!(since, Some(60_000));
        let previous = wanted("previous=true&follow=true", 3, 0).unwrap();
        assert_eq!((previous.before_restarts, previous.follow), (Some(3), false));
        assert_eq!(wanted("", 0, 0), Ok(Wanted::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (query, name) in [
            ("tailLines=-1", "tailLines"),
            ("sinceSeconds=0", "sinceSeconds"),
            ("limitBytes=0", "limitBytes"),
            ("sinceTime=yesterday", "sinceTime"),
            ("sinceSeconds=1&sinceTime=1970-01-01T00:01:00Z", "sinceTime"),
            ("follow=maybe", "follow"),
            ("stream=x", "stream"),
        ] {
            assert!(wanted(query, 0, 0).unwrap_err().to_string().starts_with(name), "{query}");
        }
    }
}
