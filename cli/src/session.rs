//! A session: a command or an attachment over a WebSocket, as Kubernetes' remotecommand has it (v5 and v4 `.channel.k8s.io`).
//!
//! ```text
//!  stdin thread -> send -> wire -> receive -> output thread
//!                   ^ pongs, sizes    | pings
//! ```
//!
//! Sending and receiving wait for nothing of each other: a command that does not read its input can still talk.

mod channel;
pub(crate) mod escape;
mod input;
mod signals;
mod silence;

use std::io;

use bytes::{Buf as _, Bytes};
use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_rustls::rustls::crypto::{SecureRandom, aws_lc_rs};

use crate::client::{Client, Protocol, Upgraded, Wire};
use crate::failure::Failure;
use crate::output::{BATCH, Writer};
use crate::terminal::{self, Raw};
use crate::websocket::{self, Decoder, Opcode, Piece};
use channel::{Demultiplexer, Meaning, Outcome};
use escape::{Escape, Verdict};
use input::{Chunk, Input};
use signals::{Signals, interrupted};
use silence::{Activity, silence};

/// How many small frames may wait.
const URGENT: usize = 16;

/// What stdin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// Nothing; it is not read.
    Unused,
    /// Input, and its end.
    WithEnd,
    /// Input; its end is not told: the other side is not ours.
    WithoutEnd,
    /// Keys of a terminal, with the character that begins an escape after a new line.
    Keys(Option<u8>),
}

/// What a first SIGINT or SIGTERM does. (With a terminal's keys: it ends the session, and the terminal is restored.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupts {
    /// The process there gets it; a second one ends the session.
    Forwarded,
    /// It ends kubex.
    Deadly,
}

/// How a session was left from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Escaped,
    Signal(u8),
}

/// Runs it to its end, and returns the exit code.
///
/// # Errors
/// [`Failure::Lost`], [`Failure::Cut`]; [`Failure::Output`]; `Ok(None)` when it was left by an escape.
pub(crate) async fn run(
    client: &Client,
    upgraded: Upgraded,
    stdin: Stdin,
    interrupts: Interrupts,
) -> Result<Option<u8>, Failure> {
    let Upgraded { wire, early, protocol, session, task } = upgraded;
    let (mut reading, writing) = tokio::io::split(wire);
    let mut sender = Sender { wire: writing, keys: Keys::new(), between: true };
    let (urgent, waiting) = mpsc::channel(URGENT);
    let activity = Activity::default();
    // Signals first: one that comes now must not leave the terminal raw.
    let keys = matches!(stdin, Stdin::Keys(_));
    let signals = match (keys, interrupts) {
        (true, _) => Signals::all()?,
        (false, Interrupts::Forwarded) => Signals::forwarded()?,
        (false, Interrupts::Deadly) => Signals::none(),
    };
    let raw = if keys { Some(Raw::enter()?) } else { None };
    let input = if stdin == Stdin::Unused { None } else { Some(Input::start()?) };
    let forward = match (task, session) {
        (Some(task), Some(session)) if !keys => Some((task, session)),
        _ => None,
    };
    let mut writer = Writer::new();
    let ended = tokio::select! {
        biased;
        code = receive(&mut reading, early, &mut writer, &urgent, &activity) => code.map(Ok),
        left = send(&mut sender, waiting, input, stdin, protocol) => left.map(Err),
        left = interrupted(client, signals, forward) => Ok(Err(left)),
        failure = sizes(&urgent, keys) => Err(failure),
        () = silence(&activity, &urgent) => Err(Failure::Lost(format!(
            "no sign of life from {} for {} s", client.server(), silence::LONGEST.as_secs()
        ))),
    };
    sender.close();
    drop(raw);
    Ok(match ended? {
        Ok(code) => Some(code),
        Err(Left::Signal(number)) => Some(128_u8.wrapping_add(number)),
        Err(Left::Escaped) => None,
    })
}

/// What is sent that is neither input nor waits behind it.
#[derive(Debug)]
enum Urgent {
    Pong(Vec<u8>),
    Size(Vec<u8>),
}

async fn receive(
    wire: &mut ReadHalf<Wire>,
    mut early: Bytes,
    writer: &mut Writer,
    urgent: &mpsc::Sender<Urgent>,
    activity: &Activity,
) -> Result<u8, Failure> {
    let (mut decoder, mut channels) = (Decoder::default(), Demultiplexer::default());
    loop {
        activity.blocked.set(true);
        let mut batch = writer.batch().await?;
        activity.blocked.set(false);
        let mut filled = 0;
        let mut ended = None;
        // As much as there is goes into a batch, but output never waits for more.
        while ended.is_none() && filled < BATCH {
            if batch.parts.is_empty() {
                filled = 0;
            }
            let room = &mut batch.bytes[filled..];
            let read = if early.has_remaining() {
                let count = early.len().min(room.len());
                early.copy_to_slice(&mut room[..count]);
                Ok(count)
            } else if batch.parts.is_empty() {
                wire.read(room).await
            } else {
                match wire.read(room).now_or_never() {
                    Some(read) => read,
                    None => break,
                }
            };
            activity.reads.set(activity.reads.get().wrapping_add(1));
            let count = match read {
                Ok(0) => {
                    ended =
                        Some(Err(Failure::Lost("the server closed it before the exit code came".to_owned())));
                    break;
                }
                Ok(count) => count,
                Err(error) => {
                    ended = Some(Err(Failure::Lost(error.to_string())));
                    break;
                }
            };
            let mut at = filled;
            filled += count;
            while ended.is_none() {
                let wrong = |what: String| Failure::Lost(format!("the server sent {what}"));
                let piece = match decoder.next_piece(&batch.bytes[..filled], &mut at) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(violation) => {
                        ended = Some(Err(wrong(violation.to_string())));
                        break;
                    }
                };
                match piece {
                    Piece::Data { range, first, last } => {
                        match channels.take(&batch.bytes, range, first, last) {
                            Meaning::Output(stream, range) => batch.parts.push((stream, range)),
                            Meaning::Status(Outcome::Code(code)) => ended = Some(Ok(code)),
                            Meaning::Status(Outcome::NotStarted(why)) => {
                                ended = Some(Err(Failure::NotStarted(why)))
                            }
                            Meaning::Status(Outcome::Cut(why)) => ended = Some(Err(Failure::Cut(why))),
                            Meaning::Status(Outcome::Nonsense(why)) => ended = Some(Err(wrong(why))),
                            Meaning::Nothing => {}
                        }
                    }
                    // One that finds no room is not missed: the others that wait are signs of life as well.
                    Piece::Ping(payload) => drop(urgent.try_send(Urgent::Pong(payload))),
                    Piece::Pong => {}
                    Piece::Close(why) if why.is_empty() => {
                        ended = Some(Err(Failure::Lost(
                            "the server closed it before the exit code came".to_owned(),
                        )));
                    }
                    Piece::Close(why) => {
                        ended = Some(Err(Failure::Lost(format!("the server closed it: {why}"))))
                    }
                }
            }
        }
        let held = usize::from(batch.parts.is_empty());
        if held == 0 {
            writer.write(batch)?;
        }
        if let Some(ended) = ended {
            writer.finish(held).await?;
            return ended;
        }
    }
}

/// Keys for masking. RFC 6455, 5.3: a fresh one for each frame, from a strong source.
struct Keys(&'static dyn SecureRandom);

impl Keys {
    fn new() -> Self {
        Self(aws_lc_rs::default_provider().secure_random)
    }

    fn next(&self) -> io::Result<[u8; 4]> {
        let mut key = [0; 4];
        self.0.fill(&mut key).map_err(|_| io::Error::other("no random numbers"))?;
        Ok(key)
    }
}

struct Sender {
    wire: WriteHalf<Wire>,
    keys: Keys,
    /// Whether no frame is half sent.
    between: bool,
}

impl Sender {
    /// Sends what stands in the buffer from [`websocket::HEADER`] on. Given up half-way, nothing more can be sent.
    async fn send(&mut self, buffer: &mut [u8], opcode: Opcode) -> io::Result<()> {
        let start = websocket::seal(buffer, opcode, self.keys.next()?);
        self.between = false;
        self.wire.write_all(&buffer[start..]).await?;
        self.wire.flush().await?;
        self.between = true;
        Ok(())
    }

    async fn send_small(&mut self, payload: &[u8], opcode: Opcode) -> io::Result<()> {
        let mut buffer = vec![0; websocket::HEADER];
        buffer.extend_from_slice(payload);
        self.send(&mut buffer, opcode).await
    }

    /// Says goodbye if that goes without waiting.
    fn close(mut self) {
        if self.between {
            let _ = self.send_small(&1000_u16.to_be_bytes(), Opcode::Close).now_or_never();
        }
        let _ = self.wire.shutdown().now_or_never();
    }
}

async fn send(
    sender: &mut Sender,
    mut urgent: mpsc::Receiver<Urgent>,
    mut input: Option<Input>,
    stdin: Stdin,
    protocol: Protocol,
) -> Result<Left, Failure> {
    let mut escape = match stdin {
        Stdin::Keys(Some(char)) => Some(Escape::new(char)),
        _ => None,
    };
    loop {
        let chunk = async {
            match &mut input {
                Some(input) => input.next().await,
                None => std::future::pending().await,
            }
        };
        let sent = tokio::select! {
            biased;
            Some(frame) = urgent.recv() => match frame {
                Urgent::Pong(payload) => sender.send_small(&payload, Opcode::Pong).await,
                Urgent::Size(payload) => sender.send_small(&payload, Opcode::Binary).await,
            },
            chunk = chunk => match (chunk, &mut escape) {
                (Chunk::Bytes(mut buffer, length), None) => {
                    let sent = sender.send(&mut buffer[..length], Opcode::Binary).await;
                    if let Some(input) = &input {
                        input.reuse(buffer);
                    }
                    sent
                }
                (Chunk::Bytes(buffer, length), Some(escape)) => {
                    let mut keys = vec![channel::STDIN];
                    let verdict = escape.filter(&buffer[input::ROOM..length], &mut keys);
                    if let Some(input) = &input {
                        input.reuse(buffer);
                    }
                    let sent = if keys.len() > 1 { sender.send_small(&keys, Opcode::Binary).await } else { Ok(()) };
                    if verdict == Verdict::End {
                        return Ok(Left::Escaped);
                    }
                    sent
                }
                (Chunk::End, _) => {
                    input = None;
                    // v4 has no half-close.
                    if stdin == Stdin::WithoutEnd || protocol == Protocol::V4 {
                        continue;
                    }
                    sender.send_small(&channel::END_OF_STDIN, Opcode::Binary).await
                }
                (Chunk::Failed(source), _) => return Err(Failure::Local { verb: "read stdin", source }),
            },
        };
        if sent.is_err() {
            // Why it ended, receiving finds out: the exit code may be on its way.
            return std::future::pending().await;
        }
    }
}

/// Tells the size of the terminal whenever it changes.
async fn sizes(urgent: &mpsc::Sender<Urgent>, keys: bool) -> Failure {
    if !keys {
        return std::future::pending().await;
    }
    let mut changes = match signal(SignalKind::window_change()) {
        Ok(changes) => changes,
        Err(source) => return Failure::Local { verb: "listen for sizes of the terminal", source },
    };
    // It may have changed since the request was sent.
    loop {
        if let Some(size) = terminal::size() {
            let _ = urgent.send(Urgent::Size(channel::resize(size))).await;
        }
        changes.recv().await;
    }
}
