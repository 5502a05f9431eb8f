//! Streams of `ProcessIO` records, and the calls that answer with one.

use std::io;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use mesos::agent::{LaunchSession, ProcessIo, StreamType};
use mesos::common::{CommandInfo, ContainerId};
use mesos::protobuf::schema;
use mesos::recordio;
use task::control::{Answer, Exec, Refusal, RefusalKind, Request, WindowSize};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at};

use super::answer::{self, Refused};
use super::containers::{self, Container, Place};
use super::negotiate::{Format, RECORDIO, Shape};
use super::session::{self, HEARTBEAT, NotStarted, Order, Piece, QUEUE};
use crate::control::{Control, ControlError};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::{Closing, Granted};
use crate::policy::Verb;
use crate::session::process::{self, Process};

/// What Mesos says of a container that nobody can attach to.
pub(super) const NO_SWITCHBOARD: &str = "I/O switchboard server was disabled for this container";
/// The format of an answer's records.
const MESSAGE_CONTENT_TYPE: HeaderName = HeaderName::from_static("message-content-type");
/// A terminal's size until its client says another.
const TERMINAL: WindowSize = WindowSize { rows: 24, columns: 80 };

/// LAUNCH_NESTED_CONTAINER_SESSION.
pub(super) async fn launch(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    launch: LaunchSession,
    shape: Shape,
) -> Result<Response<Body>, Refused> {
    let container = launch.container_id.clone();
    if containers::is_seen_task(endpoint, caller, &container) {
        return Ok(in_use());
    }
    let parent = container.parent.as_deref().map(containers::text).unwrap_or_default();
    let no_parent = || Refused::bad(format!("Parent container {parent} does not exist"));
    let parent_id = container.parent.as_deref();
    let Some(place) = parent_id.and_then(|parent| containers::task(endpoint, caller, parent)) else {
        if let Some(place) = parent_id.and_then(|parent| containers::place(endpoint, parent)) {
            let exec = exec_of(&place, &launch).ok().map(|(exec, _)| exec);
            let verbs = exec.as_ref().map_or_else(|| vec![Verb::Exec], |exec| verbs(&place, exec));
            let command = exec.map(|exec| exec.command).unwrap_or_default();
            drop(containers::ask(endpoint, caller, &place, verbs, &command));
        }
        return Err(no_parent());
    };
    let (exec, lacking) = exec_of(&place, &launch).map_err(Refused::bad)?;
    let granted = containers::ask(endpoint, caller, &place, verbs(&place, &exec), &exec.command)?;
    let task_id = place.task.id.as_str();
    let permit = match endpoint.sessions.permit(containers::PROTOCOL, &caller.who.user, task_id) {
        Ok(permit) => permit,
        Err(many) => {
            close(granted, "too many sessions");
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, many.to_string()));
        }
    };
    let registry = &endpoint.mesos;
    registry.retain(|session| {
        session.container.parent.as_deref().is_some_and(|parent| parent_lives(endpoint, parent))
    });
    let Some(reserved) = registry.reserve(&container) else {
        close(granted, "the id is in use");
        return Ok(in_use());
    };
    let started = match lacking {
        Some(lacking) => Ok(Started::Not(lacking)),
        None => start(&place, exec).await,
    };
    let user = caller.who.user.clone();
    let (session, pieces) = match started {
        Ok(Started::Process(process)) => session::start(endpoint, container, user, *process, granted, permit),
        Ok(Started::Not(why)) => session::not_started(endpoint, container, user, &why, granted, permit),
        Err(error) => {
            close(granted, "not started");
            return Err(not_started(&error, no_parent));
        }
    };
    reserved.fill(session);
    Ok(stream(pieces, shape))
}

/// 202: such a container is there already.
fn in_use() -> Response<Body> {
    let mut response = answer::done();
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

/// What became of a command.
#[derive(Debug)]
enum Started {
    Process(Box<Process>),
    Not(NotStarted),
}

/// How the executor's text begins when all was well but the command.
const EXECUTE: &str = "execute ";

async fn start(place: &Place, exec: Exec) -> Result<Started, ControlError> {
    match process::start(&place.pod.socket, exec).await {
        Err(ControlError::Refused(Refusal { kind: RefusalKind::Failed, message }))
            if message.starts_with(EXECUTE) =>
        {
            Ok(Started::Not(NotStarted::NotExecuted(message)))
        }
        started => started.map(|process| Started::Process(Box::new(process))),
    }
}

fn close(granted: Granted, reason: &str) {
    granted.close(&Closing { reason: reason.to_owned(), ..Closing::default() });
}

fn parent_lives(endpoint: &Endpoint, parent: &ContainerId) -> bool {
    let inventory = endpoint.inventory.borrow().clone();
    let root = parent.parent.as_deref().unwrap_or(parent);
    inventory.pods.values().any(|pod| {
        pod.pod.container_id == root.value
            && (parent.parent.is_none() || pod.pod.tasks.iter().any(|task| task.id.as_str() == parent.value))
    })
}

fn not_started(error: &ControlError, no_parent: impl Fn() -> Refused) -> Refused {
    match error {
        ControlError::Refused(refusal) => match refusal.kind {
            RefusalKind::UnknownTask => no_parent(),
            RefusalKind::Forbidden => Refused::forbidden(&refusal.message),
            RefusalKind::NotRunning | RefusalKind::Invalid | RefusalKind::Failed => {
                Refused::bad(&refusal.message)
            }
        },
        other => Refused::failed(other.to_string()),
    }
}

/// What an exec needs besides the right to it.
fn verbs(place: &Place, exec: &Exec) -> Vec<Verb> {
    let mut verbs = vec![Verb::Exec];
    verbs.extend(exec.terminal.map(|_| Verb::Tty));
    verbs.extend(exec.user.clone().filter(|user| Some(user) != place.task.user.as_ref()).map(Verb::RunAs));
    let names = exec.environment.iter().map(|(name, _)| name).filter(|name| *name != "TERM");
    verbs.extend(names.cloned().map(Verb::Environment));
    verbs
}

/// What the executor is asked; and what the command lacks, which an agent's launcher tells as a process's own error.
fn exec_of(place: &Place, launch: &LaunchSession) -> Result<(Exec, Option<NotStarted>), String> {
    let command = launch.command.clone().unwrap_or_default();
    let user = command.user.clone().filter(|user| Some(user) != place.task.user.as_ref());
    let terminal = launch.container.as_ref().and_then(|container| container.tty_info);
    let size = terminal.map(|tty| {
        let size = tty.window_size.and_then(|size| {
            Some(WindowSize { rows: size.rows.try_into().ok()?, columns: size.columns.try_into().ok()? })
        });
        size.filter(|size| size.rows > 0 && size.columns > 0).unwrap_or(TERMINAL)
    });
    let variables = command.environment.clone().unwrap_or_default().variables;
    let environment = variables.into_iter().map(|variable| {
        let value = variable.value.ok_or_else(|| format!("Variable '{}' has no value", variable.name))?;
        Ok((variable.name, value))
    });
    let environment = environment.collect::<Result<_, String>>()?;
    let (command, lacking) = match argv(command) {
        Ok(command) => (command, None),
        Err(lacking) => (Vec::new(), Some(lacking)),
    };
    let (task, terminal) = (place.task.id.clone(), size);
    Ok((Exec { task, environment, user, command, folder: None, stdin: true, terminal }, lacking))
}

fn argv(command: CommandInfo) -> Result<Vec<String>, NotStarted> {
    match (command.shell.unwrap_or(true), command.value) {
        (true, None) => Err(NotStarted::Lacking("Shell command is not specified")),
        (true, Some(text)) => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), text]),
        (false, None) => Err(NotStarted::Lacking("Executable path is not specified")),
        (false, Some(file)) => {
            Ok(std::iter::once(file).chain(command.arguments.into_iter().skip(1)).collect())
        }
    }
}

/// ATTACH_CONTAINER_OUTPUT.
pub(super) async fn attach(
    endpoint: &Arc<Endpoint>,
    caller: &Caller,
    container: &ContainerId,
    shape: Shape,
) -> Result<Response<Body>, Refused> {
    match containers::find_to_attach(endpoint, caller, container)? {
        Container::Pod(_) => Err(Refused::failed(NO_SWITCHBOARD)),
        Container::Session(place, session) => {
            containers::may_touch(endpoint, caller, &place, &session)?;
            let (sender, pieces) = mpsc::channel(4 * QUEUE);
            if session.order(Order::Output(sender)).await {
                Ok(stream(pieces, shape))
            } else {
                Err(containers::unknown(container))
            }
        }
        Container::Task(place) if !place.task.terminal => Err(Refused::failed(NO_SWITCHBOARD)),
        Container::Task(place) => {
            let granted = containers::ask(endpoint, caller, &place, vec![Verb::Attach], &[])?;
            let request = Request::Attach { task: place.task.id.clone(), stdin: false };
            let asked = Control::ask(&place.pod.socket, &request).await;
            let (control, answer, mut descriptors) =
                asked.map_err(|error| Refused::failed(error.to_string()))?;
            let (Answer::Attached { .. }, 1..) = (&answer, descriptors.len()) else {
                return Err(Refused::failed(control.unexpected(&answer).to_string()));
            };
            let output = pipe::Receiver::from_owned_fd(descriptors.swap_remove(0))
                .map_err(|error| Refused::failed(error.to_string()))?;
            let (sender, pieces) = mpsc::channel(QUEUE);
            tokio::spawn(relay(Arc::clone(endpoint), control, output, sender, granted));
            Ok(stream(pieces, shape))
        }
    }
}

/// The output of a task with a terminal, until it or its client ends.
async fn relay(
    endpoint: Arc<Endpoint>,
    mut control: Control,
    mut output: pipe::Receiver,
    client: mpsc::Sender<Piece>,
    granted: Granted,
) {
    let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    let mut buffer = vec![0; 64 << 10];
    let (mut sent, mut open, mut ended) = (0, true, false);
    let reason = loop {
        if ended && !open {
            break "task ended";
        }
        tokio::select! {
            () = client.closed() => break "client went away",
            read = session::read(&mut output, &mut buffer), if open => match read {
                Ok(count @ 1..) => {
                    sent += count as u64;
                    endpoint.metrics.bytes_out.inc_by(count as u64);
                    let piece = Piece::Data(StreamType::Stdout, Bytes::copy_from_slice(&buffer[..count]));
                    if client.send(piece).await.is_err() {
                        break "client went away";
                    }
                }
                _ => open = false,
            },
            answer = control.answer(), if !ended => match answer {
                Ok((Answer::Ended(_), _)) => ended = true,
                Ok(_) => {}
                Err(_) => break "lost",
            },
            _ = heartbeat.tick() => drop(client.try_send(Piece::Heartbeat)),
            () = endpoint.drained() => break "the endpoint is stopping",
        }
    };
    if reason == "task ended" {
        drop(client.send(Piece::End).await);
    }
    granted.close(&Closing { bytes_out: sent, reason: reason.to_owned(), ..Closing::default() });
}

/// An answer that streams pieces. Its body ends with an error unless the last piece is an end.
fn stream(mut pieces: mpsc::Receiver<Piece>, shape: Shape) -> Response<Body> {
    let format = shape.format();
    let mut over = false;
    let frames = poll_fn(move |context| {
        if over {
            return Poll::Ready(None);
        }
        pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::End) => {
                over = true;
                None
            }
            Some(piece) => Some(record(&piece, format).map(Frame::data)),
            None => {
                over = true;
                Some(Err(io::Error::other("the stream was cut")))
            }
        })
    });
    let mut response = Response::new(StreamBody::new(frames).boxed());
    let headers = response.headers_mut();
    match shape {
        Shape::Stream(_) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(RECORDIO));
            headers.insert(MESSAGE_CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        }
        // Records all the same: an agent labels them so for clients older than the header.
        Shape::Single(_) => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
        }
    }
    response
}

fn record(piece: &Piece, format: Format) -> io::Result<Bytes> {
    let piece = match piece {
        Piece::Data(stream, bytes) => ProcessIo::data(*stream, bytes),
        Piece::Heartbeat | Piece::End => {
            ProcessIo::heartbeat(i64::try_from(HEARTBEAT.as_nanos()).unwrap_or(i64::MAX))
        }
    };
    let message = answer::encode(&schema::PROCESS_IO, &piece, format)?;
    Ok(recordio::encode(&message).into())
}
