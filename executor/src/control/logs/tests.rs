use std::fs::File;
use std::io::Write as _;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{OFlags, fcntl_getfl};
use task::connection::split;
use task::control::{LogFile, Stream};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::process::output::{Kind, Output};
use crate::spec::{LogLimits, Owner};
use crate::supervisor::Instance;

const LONG: Duration = Duration::from_secs(60);

/// A task's outputs in a folder of their own, and a pipe into its stdout.
struct Task {
    folder: tempfile::TempDir,
    outputs: Arc<TaskOutputs>,
    stdout: File,
    output: Output,
}

impl Task {
    fn new(bytes: u64, files: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits { bytes, files: NonZeroU32::new(files).unwrap() };
        let owner = Owner { uid: 0, gid: 0 };
        let outputs = Arc::new(TaskOutputs::new(folder.path(), limits, owner, Kind::Pipes));
        let (stdout, output) = process(&outputs, 1);
        Self { folder, outputs, stdout, output }
    }

    async fn write(&mut self, data: &[u8]) {
        self.stdout.write_all(data).unwrap();
        self.output.flush().await;
    }

    /// Another process in its place.
    async fn restart(&mut self, number: u32) {
        let (stdout, output) = process(&self.outputs, number);
        drop(std::mem::replace(&mut self.stdout, stdout));
        std::mem::replace(&mut self.output, output).finish(LONG).await;
    }

    async fn end(self) -> tempfile::TempDir {
        drop(self.stdout);
        self.output.finish(LONG).await;
        self.outputs.end();
        self.folder
    }

    fn serve(&self, follow: bool) -> (Peer, JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (sender, receiver) = split(ours);
        let serving = tokio::spawn(serve(Arc::clone(&self.outputs), follow, sender, receiver));
        let (sender, receiver) = split(theirs);
        (Peer { _sender: sender, receiver }, serving)
    }
}

fn process(outputs: &Arc<TaskOutputs>, number: u32) -> (File, Output) {
    outputs.begin(Instance(number)).unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let output = Output::start(reader, Arc::clone(outputs), Stream::Stdout, Arc::default()).unwrap();
    (writer.into(), output)
}

struct Peer {
    _sender: Sender,
    receiver: Receiver,
}

impl Peer {
    async fn next(&mut self) -> Option<(Answer, Vec<OwnedFd>)> {
        self.receiver.receive::<Answer>().await.unwrap()
    }

    /// All files, in order.
    async fn files(&mut self) -> Vec<(LogFile, File, Option<File>)> {
        let mut all = Vec::new();
        loop {
            let Some((Answer::Files { files, more }, descriptors)) = self.next().await else {
                panic!("the files were to come");
            };
            assert!(descriptors.len() <= MOST_DESCRIPTORS);
            let mut descriptors = descriptors.into_iter().map(File::from);
            for file in files {
                let log = descriptors.next().unwrap();
                let times = file.times.then(|| descriptors.next().unwrap());
                all.push((file, log, times));
            }
            assert!(descriptors.next().is_none());
            if !more {
                return all;
            }
        }
    }
}

/// Reads one stream over its rotations, as [`LogFile::moved`] says.
struct Reader {
    file: File,
    position: u64,
    text: Vec<u8>,
}

impl Reader {
    async fn new(peer: &mut Peer) -> Self {
        let mut text = Vec::new();
        let mut files = peer.files().await;
        files.retain(|(file, ..)| file.stream == Stream::Stdout);
        let (_, file, _) = files.pop().unwrap();
        for (_, older, _) in files {
            text.extend(read(&older, 0, usize::MAX));
        }
        Self { file, position: 0, text }
    }

    fn read(&mut self, most: usize) {
        let read = read(&self.file, self.position, most);
        self.position += read.len() as u64;
        self.text.extend(read);
    }

    fn rotated(&mut self, moved: u64, file: File) {
        self.read(usize::MAX);
        let ahead = self.position.saturating_sub(self.file.metadata().unwrap().len()).min(moved);
        (self.file, self.position) = (file, ahead);
    }

    fn take(&mut self, answer: Answer, descriptors: Vec<OwnedFd>) -> Answer {
        if let Answer::Rotated(LogFile { stream: Stream::Stdout, moved, .. }) = answer {
            self.rotated(moved, descriptors.into_iter().next().unwrap().into());
        }
        answer
    }

    /// Takes what is told until nothing is for a while, reading so many bytes in between; returns how much was told.
    async fn catch_up(&mut self, peer: &mut Peer, most: usize) -> usize {
        let (mut told, mut idle) = (0, 0);
        while idle < 10 {
            tokio::select! {
                biased;
                next = peer.next() => {
                    let (answer, descriptors) = next.unwrap();
                    self.take(answer, descriptors);
                    (told, idle) = (told + 1, 0);
                }
                () = tokio::task::yield_now() => idle += 1,
            }
            self.read(most);
        }
        told
    }

    async fn take_all(mut self, peer: &mut Peer) -> (Vec<u8>, Answer) {
        loop {
            let (answer, descriptors) = peer.next().await.unwrap();
            let answer = self.take(answer, descriptors);
            if !matches!(answer, Answer::Rotated(_)) {
                self.read(usize::MAX);
                assert!(peer.next().await.is_none());
                return (self.text, answer);
            }
        }
    }
}

fn read(file: &File, from: u64, most: usize) -> Vec<u8> {
    let mut text = vec![0; most.min(1 << 20)];
    let count = file.read_at(&mut text, from).unwrap();
    text.truncate(count);
    text
}

fn text_of(file: &File) -> Vec<u8> {
    read(file, 0, usize::MAX)
}

#[tokio::test]
async fn all_files_come_oldest_first_read_only_and_each_with_its_times() {
    let mut task = Task::new(4, 3);
    task.write(b"one\ntwo\nsix\n").await;
    let (mut peer, serving) = task.serve(false);
    let files = peer.files().await;
    assert!(peer.next().await.is_none());
    serving.await.unwrap().unwrap();
    let texts: Vec<_> = files.iter().map(|(file, log, _)| (file.stream, text_of(log))).collect();
    let out = |text: &[u8]| (Stream::Stdout, text.to_vec());
    assert_eq!(texts, [out(b"one\n"), out(b"two\n"), out(b"six\n"), (Stream::Stderr, Vec::new())]);
    for (file, log, times) in &files {
        assert_eq!(file.moved, 0);
        for one in [Some(log), times.as_ref()].into_iter().flatten() {
            assert_eq!(fcntl_getfl(one).unwrap() & OFlags::RWMODE, OFlags::RDONLY);
            assert!((&*one).write_all(b"x").is_err() && one.set_len(0).is_err());
        }
        let records = times.as_ref().unwrap().metadata().unwrap().len();
        assert_eq!(records, if file.stream == Stream::Stdout { 16 } else { 0 });
    }
}

#[tokio::test]
async fn more_files_than_a_message_carries_come_in_several() {
    let mut task = Task::new(2, 60);
    for number in 0..60 {
        task.write(format!("{}\n", number % 10).as_bytes()).await;
    }
    let (mut peer, _serving) = task.serve(false);
    let files = peer.files().await;
    let text: Vec<u8> = files.iter().flat_map(|(_, log, _)| text_of(log)).collect();
    assert_eq!(text, b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n".repeat(6));
    assert_eq!(files.len(), 61);
}

#[tokio::test]
async fn a_log_that_has_ended_is_given_from_its_names_and_no_strange_file_with_it() {
    let mut task = Task::new(4, 4);
    task.write(b"one\ntwo\n").await;
    let outputs = Arc::clone(&task.outputs);
    let folder = task.end().await;
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("stdout.2")).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (sender, receiver) = split(ours);
    let serving = tokio::spawn(serve(outputs, true, sender, receiver));
    let (sender, receiver) = split(theirs);
    let mut peer = Peer { _sender: sender, receiver };
    let files = peer.files().await;
    let texts: Vec<_> = files.iter().map(|(_, log, _)| text_of(log)).collect();
    assert_eq!(texts, [b"one\n".to_vec(), b"two\n".to_vec(), Vec::new()]);
    assert_eq!(peer.next().await.unwrap().0, Answer::Ended(EndReason::TaskEnded));
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_follower_goes_on_with_the_next_process_and_with_a_file_that_was_removed() {
    let mut task = Task::new(1 << 20, 3);
    task.write(b"first ").await;
    let (mut peer, _serving) = task.serve(true);
    let reader = Reader::new(&mut peer).await;
    task.restart(2).await;
    task.write(b"second ").await;
    std::fs::remove_file(task.folder.path().join("stdout")).unwrap();
    task.write(b"third ").await;
    task.restart(3).await;
    task.write(b"fourth").await;
    task.end().await;
    let (text, end) = reader.take_all(&mut peer).await;
    assert_eq!(String::from_utf8(text).unwrap(), "first second third fourth");
    assert_eq!(end, Answer::Ended(EndReason::TaskEnded));
}

#[tokio::test]
async fn a_follower_that_does_not_read_is_cut_off_and_the_task_writes_on() {
    let mut task = Task::new(4, 3);
    let (mut peer, serving) = task.serve(true);
    let reader = Reader::new(&mut peer).await;
    for _ in 0..200 {
        task.write(b"abc\n").await;
        tokio::task::yield_now().await;
    }
    assert_eq!(task.output.stats().dropped, 0);
    let (text, end) = reader.take_all(&mut peer).await;
    let Answer::Refused(Refusal { kind: RefusalKind::Failed, message }) = end else {
        panic!("{end:?}");
    };
    assert!(message.contains("8 times"), "{message}");
    // What waited in the socket and what was kept for it, and nothing like all of it.
    assert!((9 * 4..40 * 4).contains(&text.len()), "{}", text.len());
    serving.await.unwrap().unwrap();
    // Three files with their times, and stderr's.
    assert_eq!(std::fs::read_dir(task.folder.path()).unwrap().count(), 3 * 2 + 2);
}

#[tokio::test]
async fn closing_the_connection_ends_it() {
    let mut task = Task::new(4, 3);
    let (mut peer, serving) = task.serve(true);
    peer.files().await;
    drop(peer);
    serving.await.unwrap().unwrap();
    task.write(b"abc\nabc\n").await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn a_follower_reads_every_byte_once_over_any_rotations(
        steps in proptest::collection::vec(
            (proptest::collection::vec(prop_oneof![4 => 0_u8..26, 1 => Just(26)], 1..30), 0_usize..100, any::<bool>()),
            80..150,
        ),
        bytes in 32_u64..80,
        files in 1_u32..5,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (all, text, end, rotations) = runtime.block_on(async {
            let mut task = Task::new(bytes, files);
            let (mut peer, _serving) = task.serve(true);
            let mut reader = Reader::new(&mut peer).await;
            let (mut all, mut rotations, mut skipped) = (Vec::new(), 0, 0);
            for (letters, most, lazy) in &steps {
                let data: Vec<u8> =
                    letters.iter().map(|letter| if *letter == 26 { b'\n' } else { b'a' + letter }).collect();
                task.write(&data).await;
                all.extend(data);
                reader.read(*most);
                // At most two rotations come of a write: it is never eight behind.
                if *lazy && skipped < 2 {
                    skipped += 1;
                    continue;
                }
                (skipped, rotations) = (0, rotations + reader.catch_up(&mut peer, *most).await);
            }
            task.end().await;
            let (text, end) = reader.take_all(&mut peer).await;
            (all, text, end, rotations)
        });
        prop_assert_eq!(end, Answer::Ended(EndReason::TaskEnded));
        prop_assert!(text == all, "{} of {} bytes, {} rotations", text.len(), all.len(), rotations);
    }
}
