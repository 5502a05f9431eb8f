//! ATTACH_CONTAINER_INPUT: records from a client to a process's input, one connection at a time.

use std::io;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use mesos::agent::{AttachInput, ControlType, InputType, PieceType, ProcessIo, StreamType};
use mesos::common::{ContainerId, Open};
use mesos::recordio::{Decoder, RecordError};
use task::control::{Answer, Request, WindowSize, Wish};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;

use super::answer::{self, Refused};
use super::call;
use super::containers::{self, Container, Place};
use super::negotiate::Format;
use super::output::NO_SWITCHBOARD;
use super::session::{NoInput, Phase, Taken};
use crate::control::{Answers, Control, Wishes};
use crate::endpoint::{Body, Caller, Endpoint};
use crate::gate::{Closing, Granted};
use crate::policy::Verb;
use crate::session::process::TerminalSize;

/// The longest record that is taken.
const LONGEST_RECORD: usize = 4 << 20;

/// What input is written to.
#[derive(Debug)]
pub(super) enum Input {
    /// A process's.
    Pipe(pipe::Sender),
    /// A process's with a terminal.
    Terminal { input: pipe::Sender, size: TerminalSize },
    /// A task's with a terminal, which its executor keeps.
    Task { input: pipe::Sender, wishes: Wishes },
}

impl Input {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(input) | Self::Terminal { input, .. } | Self::Task { input, .. } => {
                input.write_all(bytes).await
            }
        }
    }

    async fn resize(&mut self, size: WindowSize) -> Result<(), String> {
        match self {
            Self::Pipe(_) => Err("Inappropriate ioctl for device".to_owned()),
            Self::Terminal { size: terminal, .. } => terminal.set(size).map_err(|error| error.to_string()),
            Self::Task { wishes, .. } => {
                wishes.tell(Wish::Resize(size)).await.map_err(|error| error.to_string())
            }
        }
    }
}

/// The records of a request's body.
#[derive(Debug)]
pub(super) struct Records {
    body: Incoming,
    decoder: Decoder,
}

impl Records {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, decoder: Decoder::new(LONGEST_RECORD) }
    }

    /// The next record; none at the body's end. May be given up and called again.
    pub(super) async fn next(&mut self) -> Result<Option<bytes::Bytes>, Refused> {
        loop {
            if let Some(record) = self.decoder.next().map_err(|error| undecodable(&error))? {
                return Ok(Some(record));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(Refused::bad(format!("Failed to read the request: {error}"))),
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.decoder.extend(bytes);
                    }
                }
            }
        }
    }
}

fn undecodable(error: &RecordError) -> Refused {
    let why = match error {
        RecordError::Length(text) => {
            format!("Failed to decode length '{text}': Failed to convert '{text}' to number")
        }
        RecordError::TooLong { .. } => error.to_string(),
    };
    Refused::failed(format!("Decoder failure: {why}"))
}

/// What a record says: pure.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Bytes(Vec<u8>),
    Size(WindowSize),
    Nothing,
}

/// Reads a record after the first.
fn said(input: AttachInput) -> Result<Said, String> {
    let expecting = |what: &str| format!("Expecting {what} to be present");
    match input.kind.as_ref().and_then(Open::known) {
        Some(InputType::ProcessIo) => {}
        kind => {
            let number = i32::from(kind == Some(InputType::ContainerId));
            let text = "Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of:";
            return Err(format!("{text} '{number}'"));
        }
    }
    let ProcessIo { kind, data, control } =
        input.process_io.ok_or_else(|| expecting("'attach_container_input.process_io'"))?;
    match kind.as_ref().and_then(Open::known) {
        Some(PieceType::Data) => {
            let data = data.ok_or_else(|| expecting("'process_io.data'"))?;
            if data.kind.as_ref().and_then(Open::known) != Some(StreamType::Stdin) {
                return Err("Expecting 'process_io.data.type' to be 'STDIN'".to_owned());
            }
            Ok(Said::Bytes(data.data.ok_or_else(|| expecting("'process_io.data.data'"))?.0))
        }
        Some(PieceType::Control) => {
            let control = control.ok_or_else(|| expecting("'process_io.control'"))?;
            match control.kind.as_ref().and_then(Open::known) {
                Some(ControlType::TtyInfo) => {
                    let tty = control.tty_info.ok_or_else(|| expecting("'process_io.control.tty_info'"))?;
                    let size = tty.window_size.ok_or_else(|| expecting("'tty_info.window_size'"))?;
                    let number = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
                    Ok(Said::Size(WindowSize { rows: number(size.rows), columns: number(size.columns) }))
                }
                Some(ControlType::Heartbeat) => {
                    control.heartbeat.ok_or_else(|| expecting("'process_io.control.heartbeat'"))?;
                    Ok(Said::Nothing)
                }
                Some(ControlType::Unknown) => Err("'process_io.control.type' is unknown".to_owned()),
                None => Err(expecting("'process_io.control.type'")),
            }
        }
        Some(PieceType::Unknown) => Err("'process_io.type' is unknown".to_owned()),
        None => Err(expecting("'process_io.type'")),
    }
}

/// The whole call, from its first record on.
pub(super) async fn attach(
    endpoint: &Endpoint,
    caller: &Caller,
    first: AttachInput,
    mut records: Records,
    format: Format,
) -> Result<Response<Body>, Refused> {
    let not_first = || Refused::bad("Expecting 'attach_container_input.type' to be CONTAINER_ID");
    if first.kind.as_ref().and_then(Open::known) != Some(InputType::ContainerId) {
        return Err(not_first());
    }
    let container = first.container_id.ok_or_else(not_first)?;
    let taken_already = || Refused::new(StatusCode::CONFLICT, "Multiple input connections are not allowed");
    match containers::find_to_attach(endpoint, caller, &container)? {
        Container::Pod(_) => Err(Refused::failed(NO_SWITCHBOARD)),
        Container::Session(place, session) => {
            containers::may_touch(endpoint, caller, &place, &session)?;
            let taken = session.take_input().map_err(|why| match why {
                NoInput::Taken => taken_already(),
                NoInput::Closed => closed(&session.phase(), &container),
            })?;
            to_session(taken, session.phase(), &mut records, format).await
        }
        Container::Task(place) if !place.task.terminal => Err(Refused::failed(NO_SWITCHBOARD)),
        Container::Task(place) => {
            let _taken = endpoint.mesos.take_input(&container).ok_or_else(taken_already)?;
            to_task(endpoint, caller, &place, &mut records, format).await
        }
    }
}

fn closed(phase: &watch::Receiver<Phase>, container: &ContainerId) -> Refused {
    match *phase.borrow() {
        Phase::Ended(_) => containers::unknown(container),
        _ => Refused::failed(format!("The input of {} is closed", containers::text(container))),
    }
}

async fn to_session(
    mut taken: Taken,
    mut phase: watch::Receiver<Phase>,
    records: &mut Records,
    format: Format,
) -> Result<Response<Body>, Refused> {
    loop {
        let record = tokio::select! {
            _ = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))) => return Ok(answer::done()),
            record = records.next() => record?,
        };
        let Some(record) = record else { return Ok(answer::done()) };
        let said = read(&record, format)?;
        if let Said::Bytes(bytes) = &said {
            taken.count(bytes.len());
            // A terminal has no end of input: what closes it is typed.
            if bytes.is_empty() {
                if matches!(taken.input, Some(Input::Pipe(_))) {
                    taken.input = None;
                }
                continue;
            }
        }
        let Some(input) = taken.input.as_mut() else {
            return Err(Refused::failed("Failed to write to stdin: it is closed"));
        };
        tokio::select! {
            _ = phase.wait_for(|phase| matches!(phase, Phase::Ended(_))) => return Ok(answer::done()),
            done = carry_out(input, said) => done?,
        }
    }
}

fn read(record: &[u8], format: Format) -> Result<Said, Refused> {
    let call = call::read(record, format).map_err(Refused::failed)?;
    let input = call.attach_container_input;
    let input = input.ok_or_else(|| Refused::bad("Expecting 'attach_container_input' to be present"))?;
    said(input).map_err(Refused::bad)
}

async fn carry_out(input: &mut Input, said: Said) -> Result<(), Refused> {
    match said {
        Said::Bytes(bytes) => {
            let written = input.write(&bytes).await;
            written.map_err(|error| Refused::failed(format!("Failed to write to stdin: {error}")))
        }
        Said::Size(size) => {
            let set = input.resize(size).await;
            set.map_err(|error| Refused::bad(format!("Unable to set the window size: {error}")))
        }
        Said::Nothing => Ok(()),
    }
}

/// The input of a task with a terminal.
async fn to_task(
    endpoint: &Endpoint,
    caller: &Caller,
    place: &Place,
    records: &mut Records,
    format: Format,
) -> Result<Response<Body>, Refused> {
    let granted = containers::ask(endpoint, caller, place, vec![Verb::Attach], &[])?;
    let mut received = 0;
    let result = tokio::select! {
        result = feed_task(place, records, format, &mut received) => result,
        () = endpoint.drained() => Err(Refused::failed("the endpoint is stopping")),
    };
    let reason = if result.is_ok() { "input ended" } else { "failed" };
    endpoint.metrics.bytes_in.inc_by(received);
    close(granted, received, reason);
    result
}

fn close(granted: Granted, bytes_in: u64, reason: &str) {
    granted.close(&Closing { bytes_in, reason: reason.to_owned(), ..Closing::default() });
}

async fn feed_task(
    place: &Place,
    records: &mut Records,
    format: Format,
    received: &mut u64,
) -> Result<Response<Body>, Refused> {
    let failed = |error: &dyn std::error::Error| Refused::failed(error.to_string());
    let request = Request::Attach { task: place.task.id.clone(), stdin: true };
    let asked = Control::ask(&place.pod.socket, &request).await;
    let (control, answer, mut descriptors) = asked.map_err(|error| failed(&error))?;
    let Answer::Attached { stdin: true, .. } = answer else {
        return Err(Refused::failed(NO_SWITCHBOARD));
    };
    let input = descriptors.pop().ok_or_else(|| Refused::failed(NO_SWITCHBOARD))?;
    // Its outputs are for other clients: closed here, the executor writes none to us.
    drop(descriptors);
    let input = pipe::Sender::from_owned_fd_unchecked(input).map_err(|error| failed(&error))?;
    let (wishes, mut answers) = control.split();
    let mut input = Input::Task { input, wishes };
    loop {
        let record = tokio::select! {
            () = over(&mut answers) => return Ok(answer::done()),
            record = records.next() => record?,
        };
        let Some(record) = record else { return Ok(answer::done()) };
        let said = read(&record, format)?;
        if let Said::Bytes(bytes) = &said {
            *received += bytes.len() as u64;
        }
        tokio::select! {
            () = over(&mut answers) => return Ok(answer::done()),
            done = carry_out(&mut input, said) => done?,
        }
    }
}

/// Waits until the executor says that the task has ended, or nothing more.
async fn over(answers: &mut Answers) {
    while let Ok((answer, _)) = answers.next().await {
        if matches!(answer, Answer::Ended(_)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said_of(json: &serde_json::Value) -> Result<Said, String> {
        said(serde_json::from_value(json.clone()).unwrap())
    }

    #[test]
    fn a_record_says_what_an_agent_takes_it_for() {
        let io = |io: serde_json::Value| serde_json::json!({"type": "PROCESS_IO", "process_io": io});
        let data = |data: serde_json::Value| io(serde_json::json!({"type": "DATA", "data": data}));
        let control =
            |control: serde_json::Value| io(serde_json::json!({"type": "CONTROL", "control": control}));
        let size = serde_json::json!({"window_size": {"rows": 3, "columns": 4}});
        let expecting = |what: &str| Err(format!("Expecting {what} to be present"));
        for (json, expected) in [
            (data(serde_json::json!({"type": "STDIN", "data": "aGk="})), Ok(Said::Bytes(b"hi".to_vec()))),
            (data(serde_json::json!({"type": "STDIN", "data": ""})), Ok(Said::Bytes(Vec::new()))),
            (data(serde_json::json!({"type": "STDIN"})), expecting("'process_io.data.data'")),
            (
                data(serde_json::json!({"type": "STDOUT", "data": "aGk="})),
                Err("Expecting 'process_io.data.type' to be 'STDIN'".to_owned()),
            ),
            (
                control(serde_json::json!({"type": "TTY_INFO", "tty_info": size})),
                Ok(Said::Size(WindowSize { rows: 3, columns: 4 })),
            ),
            (
                control(serde_json::json!({"type": "TTY_INFO", "tty_info": {}})),
                expecting("'tty_info.window_size'"),
            ),
            (control(serde_json::json!({"type": "HEARTBEAT"})), expecting("'process_io.control.heartbeat'")),
            (control(serde_json::json!({"type": "HEARTBEAT", "heartbeat": {}})), Ok(Said::Nothing)),
            (io(serde_json::json!({"type": "CONTROL"})), expecting("'process_io.control'")),
            (io(serde_json::json!({})), expecting("'process_io.type'")),
            (io(serde_json::json!({"type": "NOPE"})), expecting("'process_io.type'")),
            (io(serde_json::json!({"type": "UNKNOWN"})), Err("'process_io.type' is unknown".to_owned())),
            (control(serde_json::json!({})), expecting("'process_io.control.type'")),
            (serde_json::json!({"type": "PROCESS_IO"}), expecting("'attach_container_input.process_io'")),
            (
                serde_json::json!({"type": "CONTAINER_ID", "container_id": {"value": "x"}}),
                Err("Expecting 'attach_container_input.type' to be 'PROCESS_IO' instead of: '1'".to_owned()),
            ),
        ] {
            assert_eq!(said_of(&json), expected, "{json}");
        }
    }
}
