use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr};
use task::connection::split;
use task::control::{Stream, WindowSize};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::process::output::Output;
use crate::spec::{LogLimits, Owner};
use crate::supervisor::Instance;

const LONG: Duration = Duration::from_secs(60);

struct Task {
    folder: tempfile::TempDir,
    outputs: Arc<TaskOutputs>,
    running: Vec<Output>,
}

impl Task {
    fn new(kind: Kind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { bytes: 1 << 30, files: NonZeroU32::new(3).unwrap() };
        let outputs = TaskOutputs::new(folder.path(), limits, Owner { uid: 0, gid: 0 }, kind);
        Self { folder, outputs: Arc::new(outputs), running: Vec::new() }
    }

    fn output(&mut self, source: OwnedFd, stream: Stream) {
        let output = Output::start(source, Arc::clone(&self.outputs), stream, Arc::default());
        self.running.push(output.unwrap());
    }

    /// A process; its stdout and stderr.
    fn piped(&mut self, number: u32) -> (File, File) {
        self.outputs.begin(Instance(number)).unwrap();
        let mut start = |stream| {
            let (reader, writer) = rustix::pipe::pipe().unwrap();
            self.output(reader, stream);
            writer.into()
        };
        (start(Stream::Stdout), start(Stream::Stderr))
    }

    /// A process; its terminal.
    fn on_terminal(&mut self, number: u32) -> File {
        self.outputs.begin(Instance(number)).unwrap();
        let terminal = nix::pty::openpty(None, None).unwrap();
        self.output(terminal.master, Stream::Stdout);
        terminal.slave.into()
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("stdout")).unwrap()
    }

    async fn flush(&self) {
        for output in &self.running {
            output.flush().await;
        }
    }

    /// The process has ended.
    async fn finish(&mut self) {
        for output in self.running.drain(..) {
            output.finish(LONG).await;
        }
    }

    fn serve(&self, stdin: bool) -> (Peer, JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = split(ours);
        let serving = tokio::spawn(serve(Arc::clone(&self.outputs), stdin, sender, receiver));
        let (sender, receiver) = split(theirs);
        (Peer { sender, receiver }, serving)
    }
}

struct Peer {
    sender: Sender,
    receiver: Receiver,
}

impl Peer {
    async fn next(&mut self) -> Option<(Answer, Vec<OwnedFd>)> {
        self.receiver.receive::<Answer>().await.unwrap()
    }

    async fn attached(&mut self, terminal: bool, stdin: bool) -> Vec<File> {
        let (answer, descriptors) = self.next().await.unwrap();
        assert_eq!(answer, Answer::Attached { terminal, stdin, descriptors: descriptors.len() });
        descriptors.into_iter().map(File::from).collect()
    }

    /// How much was lost when the task ended, and how often that was told.
    async fn lost_until_end(&mut self) -> (u64, usize) {
        let (mut lost, mut times) = (0, 0);
        loop {
            match self.next().await.unwrap().0 {
                Answer::Lost { bytes } => {
                    assert!(bytes > lost);
                    (lost, times) = (bytes, times + 1);
                }
                end => {
                    assert_eq!(end, Answer::Ended(EndReason::TaskEnded));
                    assert!(self.next().await.is_none());
                    return (lost, times);
                }
            }
        }
    }
}

fn rest(mut file: &File) -> Vec<u8> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).unwrap();
    text
}

fn raw(terminal: &File) {
    let mut attributes = tcgetattr(terminal).unwrap();
    attributes.make_raw();
    tcsetattr(terminal, OptionalActions::Now, &attributes).unwrap();
}

fn numbered(count: usize) -> Vec<u8> {
    (0..count).map(|number| u8::try_from(number % 251).unwrap()).collect()
}

#[tokio::test]
async fn half_a_million_bytes_one_by_one_reach_a_reader_that_keeps_up() {
    const BYTES: usize = 500_000;
    let mut task = Task::new(Kind::Pipes);
    let (mut stdout, stderr) = task.piped(1);
    drop(stderr);
    let (mut peer, _serving) = task.serve(false);
    let mut pipes = peer.attached(false, false).await;
    assert_eq!(pipes.len(), 2);
    let mut pipe = pipes.swap_remove(0);
    let read = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&read);
    let writing = std::thread::spawn(move || {
        for (number, byte) in numbered(BYTES).into_iter().enumerate() {
            stdout.write_all(&[byte]).unwrap();
            while number.saturating_sub(seen.load(Ordering::Acquire)) > 16 << 10 {
                std::thread::yield_now();
            }
        }
    });
    let reading = std::thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::<u8>::new(), vec![0; 64 << 10]);
        loop {
            match pipe.read(&mut buffer).unwrap() {
                0 => return text,
                count => text.extend(&buffer[..count]),
            }
            read.store(text.len(), Ordering::Release);
        }
    });
    task.finish().await;
    task.outputs.end();
    assert_eq!(peer.lost_until_end().await, (0, 0));
    writing.join().unwrap();
    assert!(reading.join().unwrap() == numbered(BYTES));
    assert!(task.log() == numbered(BYTES));
}

#[tokio::test]
async fn a_stalled_reader_loses_output_and_is_told_how_much_while_the_log_and_others_have_all() {
    const BYTES: usize = 1_000_000;
    let mut task = Task::new(Kind::Pipes);
    let (mut stdout, stderr) = task.piped(1);
    let ((mut stalled, _one), (mut gone, _other)) = (task.serve(false), task.serve(false));
    let pipes = stalled.attached(false, false).await;
    drop(gone.attached(false, false).await);
    let start = Instant::now();
    for piece in numbered(BYTES).chunks(10_000) {
        stdout.write_all(piece).unwrap();
        task.flush().await;
        tokio::task::yield_now().await;
    }
    drop((stdout, stderr));
    task.finish().await;
    task.outputs.end();
    let (lost, times) = stalled.lost_until_end().await;
    let most = 2 + start.elapsed().as_millis() / TELL_EVERY.as_millis();
    assert!(lost > 0 && u128::try_from(times).unwrap() <= most, "{lost} told {times} times");
    let got = rest(&pipes[0]);
    assert_eq!(got.len() as u64 + lost, BYTES as u64);
    assert!(numbered(BYTES).starts_with(&got));
    assert!(task.log() == numbered(BYTES));
    assert_eq!(gone.lost_until_end().await, (0, 0));
}

#[tokio::test]
async fn an_attachment_gets_what_comes_after_it_and_goes_on_with_the_next_process() {
    let mut task = Task::new(Kind::Pipes);
    let (mut stdout, stderr) = task.piped(1);
    stdout.write_all(b"before ").unwrap();
    task.flush().await;
    // Its stdin is /dev/null: there is nothing to be handed over.
    let (mut peer, serving) = task.serve(true);
    let pipes = peer.attached(false, false).await;
    stdout.write_all(b"one ").unwrap();
    drop((stdout, stderr));
    task.finish().await;
    let (mut stdout, mut stderr) = task.piped(2);
    stdout.write_all(b"two").unwrap();
    stderr.write_all(b"error").unwrap();
    drop((stdout, stderr));
    task.finish().await;
    task.outputs.end();
    assert_eq!(
        (rest(&pipes[0]).as_slice(), rest(&pipes[1]).as_slice()),
        (b"one two".as_slice(), b"error".as_slice())
    );
    assert_eq!(peer.lost_until_end().await, (0, 0));
    serving.await.unwrap().unwrap();
    let (mut late, serving) = task.serve(false);
    let (answer, _) = late.next().await.unwrap();
    assert!(matches!(answer, Answer::Refused(Refusal { kind: RefusalKind::NotRunning, .. })), "{answer:?}");
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_the_connection_detaches() {
    let mut task = Task::new(Kind::Pipes);
    let _held = task.piped(1);
    let (mut peer, serving) = task.serve(false);
    let pipes = peer.attached(false, false).await;
    drop(peer);
    serving.await.unwrap().unwrap();
    assert!(pipes.iter().all(|pipe| rest(pipe).is_empty()));
}

#[tokio::test]
async fn a_terminal_gets_input_and_its_size_and_so_does_that_of_the_next_process() {
    let mut task = Task::new(Kind::Terminal);
    let mut terminal = task.on_terminal(1);
    let (mut peer, _serving) = task.serve(true);
    let mut ends = peer.attached(true, true).await;
    assert_eq!(ends.len(), 2);
    let mut input = ends.pop().unwrap();
    for (end, mode) in [(&ends[0], OFlags::RDONLY), (&input, OFlags::WRONLY)] {
        assert_eq!(fcntl_getfl(end).unwrap() & OFlags::RWMODE, mode);
    }
    input.write_all(b"first\n").unwrap();
    let line = tokio::task::spawn_blocking(move || {
        let mut line = [0; 6];
        terminal.read_exact(&mut line).unwrap();
        (line, terminal)
    });
    let (line, terminal) = line.await.unwrap();
    assert_eq!(&line, b"first\n");
    let size = WindowSize { rows: 33, columns: 101 };
    peer.sender.send(&Wish::Resize(size), &[]).await.unwrap();
    let has_size = |terminal: &File| {
        let size = tcgetwinsize(terminal).unwrap();
        (size.ws_row, size.ws_col) == (33, 101)
    };
    while !has_size(&terminal) {
        tokio::task::yield_now().await;
    }
    drop(terminal);
    task.finish().await;
    input.write_all(b"second\n").unwrap();
    let mut terminal = task.on_terminal(2);
    assert!(has_size(&terminal));
    let line = tokio::task::spawn_blocking(move || {
        let mut line = [0; 7];
        terminal.read_exact(&mut line).unwrap();
        line
    });
    assert_eq!(&line.await.unwrap(), b"second\n");
    task.finish().await;
    task.outputs.end();
    peer.lost_until_end().await;
    // The terminal's echo.
    assert_eq!(rest(&ends[0]), b"first\r\nsecond\r\n");
    assert!(input.write_all(b"x").is_err());
}

#[tokio::test]
async fn input_that_the_process_does_not_take_stays_in_the_pipe_and_none_is_lost() {
    let mut task = Task::new(Kind::Terminal);
    let mut terminal = task.on_terminal(1);
    raw(&terminal);
    let (mut peer, _serving) = task.serve(true);
    let mut ends = peer.attached(true, true).await;
    let mut input = ends.pop().unwrap();
    fcntl_setfl(&input, OFlags::NONBLOCK).unwrap();
    let (mut sent, mut idle) = (0, 0);
    let all = numbered(4 << 20);
    // Full: it takes nothing for as long as everybody else could have done something.
    while idle < 1000 {
        match input.write(&all[sent..]) {
            Ok(count) => (sent, idle) = (sent + count, 0),
            Err(_) => idle += 1,
        }
        tokio::task::yield_now().await;
    }
    assert!((64 << 10..512 << 10).contains(&sent), "{sent}");
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = vec![0; sent];
        terminal.read_exact(&mut text).unwrap();
        text
    });
    assert!(reading.await.unwrap() == all[..sent]);
}
